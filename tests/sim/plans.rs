//! Seeded random plans: participants act at random while a random subset of all faults is injected. After 30 s without
//! faults, every participant must receive everything that is published.
//!
//! `AQ_SEEDS=10000` plays 10,000 seeds, and those that found a fault. `AQ_SEED=123` plays that seed only, or starts there if `AQ_SEEDS` is set too. A
//! failed plan prints its steps:
//!
//! ```text
//! AQ_SEED=123 cargo test --test sim plans
//! ```

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aq_server::config::Secret;
use aq_server::drop_reason::{DropReason, Drops};
use aq_server::media::fault;
use aq_server::media::publish::keyframe::{Reason, SPACING};
use aq_server::server::Sizes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::attacks::MALLORY;
use crate::fault::Fault::{self, *};
use crate::fault::Fired;
use crate::media::{Camera, Microphone, Rate, Source};
use crate::network::Path;
use crate::page::ChatLine;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};
use crate::token::SECRET;

const PEOPLE: [&str; 5] = ["ann", "bob", "cat", "dan", "eve"];
const ROOMS: [&str; 2] = ["red", "green"];

/// The rate of publishers in a plan: low, so that a plan is quick to simulate.
const RATE: Rate = Rate { audio: millis(200), video: millis(150), filler: 40, ..Rate::SPARSE };

/// Number of plans without `AQ_SEEDS`.
const SEEDS: u64 = 300;

/// Plans above `SEEDS` that found a fault of the server, played in every run without `AQ_SEED`.
const FOUND: [u64; 2] = [1410, 2692];

/// Reasons for which plans drop no packets, since nothing in them causes that. `dropping` has a simulation for each of
/// them, except for two: `forwarding` has that for too large packets, and `outgoing/tests.rs` a unit test for the guard.
const RARE: [DropReason; 8] = [
    DropReason::Silenced,
    DropReason::TooLarge,
    DropReason::Reassigned,
    DropReason::NotViewed,
    DropReason::Shed,
    DropReason::CodecNotNegotiated,
    DropReason::HeldTooLong,
    DropReason::Guard,
];

/// Number of plans that are played twice.
const REPEATED: u64 = 8;

/// Bits per second on a congested path: less than the publishers send.
const CLOGGED: u64 = 20_000;

/// The same with simulcast: enough for the smallest layer.
const NARROW: u64 = 80_000;

/// Retransmissions may take one in `REPAIR_PART` bytes of a stream, plus the first `REPAIR_SAVED` bytes.
const REPAIR_PART: usize = 4;
const REPAIR_SAVED: usize = 64 * 1024;

/// Largest jump of the RTP timestamp at a layer switch where the path's delay varies: the server learns the exact
/// offset from the next sender report.
const DELAY_DRIFT: u32 = 45_000;

/// Time without faults before the final checks.
const QUIET: Duration = secs(30);

/// Longest outage of the UDP path alone, in milliseconds: longer than ICE consent lasts.
const LONGEST_OUTAGE: u64 = 25_000;

/// Largest change that a fault-free path makes to the spacing of two datagrams.
const ON_THE_WAY: Duration = millis(10);

/// Error codes that a bad network may cause.
const OF_THE_NETWORK: [&str; 4] = ["media-timeout", "negotiation-timeout", "media-closed", "replaced"];

/// One plan in progress.
pub struct Plan {
    pub sim: Sim,
    rng: StdRng,
    people: usize,
    rooms: usize,
    /// The last-N limit, if the plan has one.
    last_n: Option<usize>,
    /// Cameras send simulcast.
    layered: bool,
    /// The faults of this plan.
    faults: Vec<Fault>,
    /// Whether any of the faults may lose packets.
    is_lossy: bool,
    ports: u16,
    /// The injected panic that has not happened yet.
    armed: Option<Fault>,
    /// When each chat message was sent, and the tag of its sender.
    lines: Vec<(Instant, usize)>,
    /// Browsers that may have missed chat messages because their connection broke.
    broken: BTreeSet<usize>,
    /// The steps so far, printed if the plan fails.
    log: Vec<String>,
}

/// Plays all plans. Every fault must occur in at least one of them, and each must end in a correct state.
#[test]
fn plans() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match (number("AQ_SEED"), number("AQ_SEEDS")) {
        (Some(seed), count) => (seed..seed + count.unwrap_or(1)).collect(),
        (None, count) => {
            let count = count.unwrap_or(SEEDS);
            (0..count).chain(FOUND.into_iter().filter(|seed| *seed >= count)).collect()
        }
    };
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Fired::default(), Drops::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let played = in_new_thread(|| play(seed));
                    let mut found = found.lock().expect("no thread panics while it holds the lock");
                    match played {
                        Ok((fired, drops, trace)) => {
                            println!("AQ_SEED={seed} has the trace {trace:016x}");
                            found.0.add(&fired);
                            DropReason::ALL.into_iter().for_each(|reason| found.1.add(reason, drops.get(reason)));
                        }
                        Err(log) => {
                            eprintln!("AQ_SEED={seed} fails:\n{log}");
                            found.2.push(seed);
                        }
                    }
                }
            });
        }
    });
    let (fired, drops, failed) = found.into_inner().expect("no thread panics while it holds the lock");
    for fault in Fault::ALL {
        println!("{fault:?}: {}", fired.of(fault));
    }
    for reason in DropReason::ALL {
        println!("dropped, {}: {}", reason.name(), drops.get(reason));
    }
    assert!(failed.is_empty(), "{} of {} plans failed: {failed:?}", failed.len(), seeds.len());
    if seeds.len() as u64 >= SEEDS {
        let never: Vec<_> = Fault::ALL.into_iter().filter(|fault| fired.of(*fault) == 0).collect();
        assert!(never.is_empty(), "faults that no plan injected: {never:?}");
        let expected = DropReason::ALL.into_iter().filter(|reason| !RARE.contains(reason));
        let never: Vec<_> = expected.filter(|reason| drops.get(*reason) == 0).map(DropReason::name).collect();
        assert!(never.is_empty(), "reasons for which no plan dropped a packet: {never:?}");
    }
}

/// The same seed gives the same trace (see `trace`).
#[test]
fn plans_repeat() {
    // Initialize the per-process state first, so that it is part of neither trace.
    in_new_thread(|| play(0).is_ok());
    for seed in 0..REPEATED {
        let trace = || {
            let mut plan = Plan::new(seed);
            plan.sim.trace.steps = Some(Vec::new());
            plan.run();
            plan.sim.trace.steps.take().expect("recording was turned on above")
        };
        let (one, two) = (in_new_thread(trace), in_new_thread(trace));
        let differs = one.iter().zip(&two).position(|(one, two)| one != two);
        let context = differs.map(|at| (&one[at.saturating_sub(3)..=at], &two[at]));
        assert!(differs.is_none() && one.len() == two.len(), "AQ_SEED={seed} differs at {differs:?}: {context:#?}");
    }
}

/// Runs `act` in a thread of its own, because the random generator is per thread (see `chance`).
fn in_new_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(act).join()).expect("the thread does not panic")
}

/// Plays one plan. Returns the injected faults, the drops and the hash of the trace, or the steps up to the failure.
fn play(seed: u64) -> Result<(Fired, Drops<u64>, u64), String> {
    let mut plan = Plan::new(seed);
    let played = catch_unwind(AssertUnwindSafe(|| plan.run()));
    fault::arm(None);
    played
        .map(|()| (plan.fired(), plan.sim.server.stats().drops, plan.sim.trace.hash()))
        .map_err(|_| plan.log.join("\n"))
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut faults: Vec<_> = Fault::ALL.into_iter().filter(|_| rng.random_bool(0.3)).collect();
        // The server only queues packets and probes the path where it chooses among layers.
        faults.retain(|fault| ![PanicRelease, PanicPadding].contains(fault));
        // Where nothing is lost, no packet may be missing; where m-lines are reassigned without an offer, the checks
        // depend on timing.
        if rng.random_bool(0.2) {
            faults.retain(|fault| !(Lost..=HalfClosed).contains(fault) && *fault != SendRefused);
        }
        let last_n = rng.random_bool(0.2).then(|| rng.random_range(1..=3));
        // With last-N, `tracks` must arrive before the packets that it announces, so no fault may delay it.
        if last_n.is_some() {
            let holds_up = [StalledDown, SendRefused];
            faults.retain(|fault| (SplitUp..=NoToken).contains(fault) && !holds_up.contains(fault));
        }
        let layered = last_n.is_none() && rng.random_bool(0.15);
        let guarded = rng.random_bool(0.15);
        faults.retain(|fault| *fault != NoToken || guarded);
        if layered {
            faults.extend([PanicRelease, PanicPadding]);
        }
        let mut world = World { rate: RATE, ..World::new(seed) };
        if guarded {
            world.config.token_secret = Secret::new(SECRET.as_bytes()).ok();
        }
        if let Some(last_n) = last_n {
            world.config.limits.last_n = last_n;
        }
        let breaks =
            [Lost, Clogged, Partitioned, Outage, Moved, Rebound, SendRefused, PanicRelease, PanicResend, PanicPadding];
        let mut plan = Self {
            sim: Sim::with(world),
            people: rng.random_range(2..=PEOPLE.len()),
            rooms: if last_n.is_some() { 1 } else { rng.random_range(1..=ROOMS.len()) },
            last_n,
            layered,
            is_lossy: faults.iter().any(|fault| breaks.contains(fault)),
            faults,
            ports: 61_000,
            armed: None,
            lines: Vec::new(),
            broken: BTreeSet::new(),
            log: Vec::new(),
            rng,
        };
        if plan.faults.iter().any(|fault| [Delayed, Clogged].contains(fault)) {
            plan.sim.drift.most = DELAY_DRIFT;
        }
        plan.sim.drift.anywhere = plan.faults.contains(&SsrcsChanged);
        plan.tell(format!("faults {:?}, last-N {last_n:?}", plan.faults));
        plan
    }

    pub fn run(&mut self) {
        let steps = self.rng.random_range(10..=20);
        for _ in 0..steps {
            self.act();
            let pause = if self.rng.random_bool(0.3) { 0 } else { self.rng.random_range(1..700) };
            self.sim.run(millis(pause));
        }
        self.settle();
        self.check();
        self.tell("all participants leave".to_owned());
        for name in PEOPLE {
            if self.is_live(name) {
                self.sim.leave(name);
            }
        }
        // Participants whose connection broke keep their place for a while.
        self.sim.run(secs(35));
        assert_eq!(self.sim.server.sizes(), Sizes::default(), "the server keeps no state of participants that left");
        self.sim.check_drops();
    }

    /// The faults that were injected so far.
    fn fired(&self) -> Fired {
        let mut fired = self.sim.fired.clone();
        for links in &self.sim.links {
            fired.add(&links.up.fired);
            fired.add(&links.down.fired);
        }
        fired
    }

    fn act(&mut self) {
        self.look_for_panic();
        let name = PEOPLE[self.rng.random_range(0..self.people)];
        if !self.is_live(name) {
            return self.come(name);
        }
        let fault = self.faults.choose(&mut self.rng).copied().filter(|_| self.rng.random_bool(0.5));
        if let Some(fault) = fault {
            self.tell(format!("{name} suffers {fault:?}"));
            return self.suffer(name, fault);
        }
        let source = *Source::ALL.choose(&mut self.rng).expect("there are sources");
        match self.rng.random_range(0..100) {
            0..12 => {
                self.tell(format!("{name} leaves"));
                self.sim.leave(name);
            }
            12..50 => self.toggle(name, source),
            _ => {
                self.tell(format!("{name} sends chat message {}", self.lines.len()));
                self.lines.push((self.sim.now, self.sim.tag(name)));
                self.sim.chat(name, &format!("{} from {name}", self.lines.len() - 1));
            }
        }
    }

    fn come(&mut self, name: &str) {
        let room = ROOMS[self.rng.random_range(0..self.rooms)];
        let sources = [Microphone, Camera].into_iter().filter(|_| self.rng.random_bool(0.7)).collect::<Vec<_>>();
        let old = self.rng.random_bool(0.15);
        let late = self.faults.contains(&AnsweredLate) && self.rng.random_bool(0.3);
        let delay = if late { self.rng.random_range(2_000..18_000) } else { self.rng.random_range(1..300) };
        let resumes = self.sim.has(name) && self.rng.random_bool(0.5);
        self.tell(format!(
            "{name} joins {room} with {sources:?}, resume {resumes}, old page {old}, answers after {delay} ms"
        ));
        if resumes {
            self.sim.fired.count(Resumed);
            self.sim.resume(name);
            return;
        }
        if self.sim.has(name) {
            self.sim.fired.count(Rejoined);
        }
        if late {
            self.sim.fired.count(AnsweredLate);
        }
        let mut habits = self.sim.habits();
        habits.is_old = old;
        habits.simulcast = self.layered && !old;
        habits.has_levels = self.rng.random_bool(0.8);
        habits.has_common_ssrcs = self.rng.random_bool(0.3);
        habits.rejects = ["audio", "video"].choose(&mut self.rng).copied().filter(|_| self.rng.random_bool(0.1));
        habits.answer_delay = millis(delay);
        habits.query = self.sim.invitation(room);
        let (levels, common, rejects) = (habits.has_levels, habits.has_common_ssrcs, habits.rejects);
        self.tell(format!("audio levels {levels}, common SSRCs {common}, rejects {rejects:?}"));
        // A page has no m-line for a screen from the start; it requests one.
        habits.sources = sources;
        self.sim.arrive(name, room, habits);
    }

    /// Publishes or unpublishes a source. Old pages cannot do so.
    fn toggle(&mut self, name: &str, source: Source) {
        let browser = self.sim.browser(name);
        if browser.habits.is_old || browser.page.offers == 0 {
            return;
        }
        let is_published = browser.publications.get(&source).is_some_and(|publication| publication.wanted);
        self.tell(format!("{name} publishes {source:?}: {}", !is_published));
        match is_published {
            true => self.sim.unpublish(name, source),
            false => self.sim.publish(name, source),
        }
    }

    fn suffer(&mut self, name: &str, fault: Fault) {
        let tag = self.sim.tag(name);
        if let Some(site) = fault.site() {
            // The panic may hit any participant, so any browser may see another leave.
            self.excuse_all();
            let is_rare = fault >= PanicRelease;
            fault::arm(Some((site, self.rng.random_range(0..if is_rare { 4 } else { 20 }))));
            self.armed = Some(fault);
            if is_rare {
                // These sites are only reached on a bad path, after some time.
                self.excuse(tag);
                let path = &mut self.sim.links[tag].down.path;
                match fault {
                    PanicResend => path.loss = 0.3,
                    _ => path.capacity = Some(NARROW),
                }
                self.sim.run(secs(4));
            }
            return;
        }
        if fault < Reset || fault == SendRefused || fault == WriteFailed {
            self.excuse(tag);
        }
        let mut path = self.sim.links[tag].up.path;
        let has_common_ssrcs = self.sim.browser(name).habits.has_common_ssrcs;
        let links = &mut self.sim.links[tag];
        let up = self.rng.random_bool(0.5);
        match fault {
            Lost => path.loss = [0.01, 0.05, 0.1, 0.3][self.rng.random_range(0..4)],
            Duplicated => path.duplicate = self.rng.random_range(0.0..0.3),
            Reordered => path.reorder = self.rng.random_range(0.0..0.3),
            Delayed => {
                path.latency = millis(self.rng.random_range(1..400));
                path.jitter = millis(self.rng.random_range(0..60));
            }
            Clogged => path.capacity = Some(CLOGGED),
            Partitioned if up => links.up.is_partitioned = true,
            Partitioned => links.down.is_partitioned = true,
            Outage => {
                links.up.is_partitioned = true;
                links.down.is_partitioned = true;
                let length = millis(self.rng.random_range(500..LONGEST_OUTAGE));
                self.sim.run(length);
                self.sim.links[tag].up.is_partitioned = false;
                self.sim.links[tag].down.is_partitioned = false;
                self.sim.fired.count(fault);
            }
            Moved => {
                self.excuse_all();
                self.ports += 1;
                let next = SocketAddr::new([192, 0, 2, 1].into(), self.ports);
                self.sim.move_server(&[next]);
                self.sim.fired.count(fault);
            }
            // Common SSRCs return with the next answer, and their sequence numbers must not go back.
            SsrcsChanged if !has_common_ssrcs => {
                for source in Source::ALL {
                    self.sim.change_ssrcs(name, source);
                }
                self.sim.fired.count(fault);
            }
            Rebound => {
                self.ports += 1;
                self.sim.rebind(name, self.ports);
                self.sim.fired.count(fault);
            }
            SplitUp => links.up_is_split = true,
            SplitDown => links.down_is_split = true,
            StalledUp => links.up_held = links.up_held.take().or(Some(Vec::new())),
            StalledDown => links.is_stalled = true,
            SendRefused => links.refuses = true,
            WriteFailed => links.fails_writing = true,
            // The server still has the connection that this one is to replace.
            Reset | HalfClosed if self.sim.browser(name).is_resuming() => {}
            Reset | HalfClosed => {
                self.sim.browser_mut(name).end();
                self.sim.hang_up(tag, fault == Reset);
                self.sim.fired.count(fault);
                self.excuse(tag);
            }
            Vanished => {
                self.sim.vanish(name);
                self.broken.insert(tag);
                self.sim.fired.count(fault);
            }
            // Before its welcome a browser has no secret to resume with.
            Resumed if self.sim.browser(name).page.welcomed_at.is_some() => {
                self.broken.insert(tag);
                self.sim.resume(name);
                self.sim.fired.count(fault);
            }
            // `come` produces these, except new SSRCs, which this browser cannot have.
            Resumed | Rejoined | AnsweredLate | SsrcsChanged => {}
            attack => {
                // The replies to an attack may distort the estimate of a participant's path.
                self.sim.attack(attack, tag, &mut self.rng);
            }
        }
        if fault < Partitioned {
            self.sim.links[tag].up.path = path;
            self.sim.links[tag].down.path = path;
        }
    }

    fn tell(&mut self, what: String) {
        self.log.push(format!("{:?}: {what}", self.sim.elapsed()));
    }
}
