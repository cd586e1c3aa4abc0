//! Seeded random plans: people do what they like on bad networks, and at the end everything is as it should be.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::media::{Camera, Microphone, Rate, Screen, Source};
use crate::network::Path;
use crate::page::ChatLine;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const PEOPLE: [&str; 6] = ["ann", "bob", "cat", "dan", "eve", "fay"];
const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// What people send in a plan: little, so that a plan is over soon.
const RATE: Rate = Rate { audio: millis(200), video: millis(150), filler: 40, ..Rate::SPARSE };

/// One plan under way.
struct Plan {
    sim: Sim,
    rng: StdRng,
    rooms: usize,
    /// How many others are sent to one at once, if not all.
    last_n: Option<usize>,
    /// Whether this plan's network ever loses something.
    is_lossy: bool,
    /// Somebody vanished, so the others need time to learn it.
    vanished: bool,
    /// When each chat line was written.
    lines: Vec<Instant>,
    /// What happened, for whoever looks at a failure.
    log: Vec<String>,
}

#[test]
fn plans_0_to_49() {
    run_plans(0..50);
}

#[test]
fn plans_50_to_99() {
    run_plans(50..100);
}

#[test]
fn plans_100_to_149() {
    run_plans(100..150);
}

#[test]
fn plans_150_to_199() {
    run_plans(150..200);
}

#[test]
fn plans_with_fewer_lines_than_people_200_to_259() {
    for seed in 200..260 {
        let mut plan = Plan::limited(seed);
        let told = Told(seed, &mut plan);
        told.1.run();
        drop(told);
    }
}

/// Prints the seed and what happened where a plan fails.
struct Told<'a>(u64, &'a mut Plan);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("plan {}:\n{}", self.0, self.1.log.join("\n"));
        }
    }
}

fn run_plans(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut plan = Plan::new(seed);
        let told = Told(seed, &mut plan);
        told.1.run();
        drop(told);
    }
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            sim: Sim::with(World { rate: RATE, ..World::new(seed) }),
            rooms: rng.random_range(1..=3),
            last_n: None,
            is_lossy: rng.random_bool(0.6),
            vanished: false,
            lines: Vec::new(),
            log: Vec::new(),
            rng,
        }
    }

    /// In one room whose microphones speak all the time, each from another moment on.
    fn limited(seed: u64) -> Self {
        let mut plan = Self::new(seed);
        let last_n = plan.rng.random_range(1..=3);
        let mut world = World { rate: RATE, ..World::new(seed) };
        world.config.limits.last_n = last_n;
        Self { sim: Sim::with(world), rooms: 1, last_n: Some(last_n), is_lossy: false, ..plan }
    }

    fn run(&mut self) {
        let steps = self.rng.random_range(10..=20);
        for _ in 0..steps {
            self.act();
            let pause = if self.rng.random_bool(0.3) { 0 } else { self.rng.random_range(1..500) };
            self.sim.run(millis(pause));
        }
        self.settle();
        self.check();
        for name in PEOPLE {
            if self.is_live(name) {
                self.sim.leave(name);
            }
        }
        self.sim.run(secs(4));
        assert_eq!(self.sim.server.sizes(), [0; 7], "nothing is kept of those who left");
    }

    fn act(&mut self) {
        let name = *PEOPLE.choose(&mut self.rng).expect("not empty");
        if !self.is_live(name) {
            return self.come(name);
        }
        let source = *Source::ALL.choose(&mut self.rng).expect("not empty");
        let what = self.rng.random_range(0..100);
        self.log.push(format!("{:?}: {name} {what} {source:?}", self.sim.elapsed()));
        match what {
            0..15 => self.sim.leave(name),
            15..20 => self.sim.crash(name),
            20..23 => {
                self.sim.vanish(name);
                self.vanished = true;
            }
            // Who was not welcomed yet has no secret to come back with.
            23..30 if self.sim.browser(name).page.welcomed_at.is_some() => {
                self.sim.resume(name);
            }
            23..30 => {}
            30..60 => self.toggle(name, source),
            60..75 => self.set_path(name),
            _ => {
                self.sim.chat(name, &format!("{} from {name}", self.lines.len()));
                self.lines.push(self.sim.now);
            }
        }
    }

    fn come(&mut self, name: &str) {
        let room = ROOMS[self.rng.random_range(0..self.rooms)];
        let sources =
            [Microphone, Camera, Screen].into_iter().filter(|_| self.rng.random_bool(0.7)).collect::<Vec<_>>();
        let (old, delay) = (self.rng.random_bool(0.15), self.rng.random_range(1..300));
        let resumes = self.sim.has(name) && self.rng.random_bool(0.5);
        self.log.push(format!(
            "{:?}: {name} comes to {room} with {sources:?}, resume {resumes}, old {old}",
            self.sim.elapsed()
        ));
        if resumes {
            self.sim.resume(name);
            return;
        }
        let mut habits = self.sim.habits();
        habits.is_old = old;
        habits.answer_delay = millis(delay);
        // A screen is never there from the start: a page asks for its line.
        habits.sources = sources.into_iter().filter(|source| *source != Screen).collect();
        self.sim.arrive(name, room, habits);
        if self.is_lossy {
            self.set_path(name);
        }
    }

    /// Publishes what is not published, and the other way round. An old page can't.
    fn toggle(&mut self, name: &str, source: Source) {
        let browser = self.sim.browser(name);
        if browser.habits.is_old || browser.page.offers == 0 {
            return;
        }
        let is_published = browser.publications.get(&source).is_some_and(|publication| publication.wanted);
        match is_published {
            true => self.sim.unpublish(name, source),
            false => self.sim.publish(name, source),
        }
    }

    fn set_path(&mut self, name: &str) {
        if self.is_lossy {
            let loss = [0.0, 0.01, 0.05, 0.1][self.rng.random_range(0..4)];
            let latency = millis(self.rng.random_range(1..150));
            let jitter = millis(self.rng.random_range(0..30));
            self.sim.set_path(name, Path { latency, jitter, ..Path::GOOD.with_loss(loss).with_disorder(0.02) });
        }
    }

    /// The networks recover, and quiet seconds pass.
    fn settle(&mut self) {
        for name in PEOPLE {
            if self.is_live(name) {
                self.sim.set_path(name, Path::GOOD);
            }
        }
        if self.vanished {
            self.sim.hush(secs(30));
        }
        // A lost DTLS flight is repeated after 1 s, then 2 s, then 4 s (RFC 6347 section 4.2.4.1).
        for _ in 0..12 {
            if !PEOPLE.iter().any(|name| self.is_live(name) && self.sim.browser(name).awaits_media()) {
                break;
            }
            self.sim.run(secs(1));
        }
        if self.last_n.is_some() {
            for browser in &mut self.sim.browsers {
                browser.publications.get_mut(&Microphone).into_iter().for_each(|sound| sound.level = Some(90));
            }
        }
        self.sim.run(secs(3));
    }

    fn check(&self) {
        for room in ROOMS {
            match self.last_n {
                Some(last_n) => self.sim.assert_limited(room, last_n),
                None => self.sim.assert_complete(room),
            }
            self.check_chat(room);
        }
        if !self.is_lossy {
            self.sim.assert_no_gaps();
        }
        let lost: u64 = self.sim.links.iter().map(|links| links.up.lost_rtp).sum();
        for sealed in self.sim.tap.sealed.values() {
            assert!(sealed.missing() <= lost, "{} numbers skipped, {lost} packets lost", sealed.missing());
        }
        for browser in &self.sim.browsers {
            let codes = browser.page.error_codes();
            assert!(codes.iter().all(|code| *code == "replaced"), "{} was told {codes:?}", browser.name);
        }
    }

    /// Everybody got every line that was written since they came, each the same for all.
    fn check_chat(&self, room: &str) {
        let browsers = || self.sim.browsers.iter().filter(|browser| browser.room == room);
        let mut lines: BTreeMap<&str, &ChatLine> = BTreeMap::new();
        for line in browsers().flat_map(|browser| &browser.page.chat) {
            assert_eq!(*lines.entry(&line.message).or_insert(line), line, "a line that is not the same for all");
        }
        for browser in browsers().filter(|browser| browser.is_live()) {
            let came = browser.page.welcomed_at.expect("everybody was welcomed");
            for line in lines.values().filter(|line| line.from != browser.page.id) {
                let number: usize =
                    line.message.split(' ').next().and_then(|number| number.parse().ok()).expect("numbered");
                let missed = self.lines[number] > came && !browser.page.chat.contains(line);
                assert!(!missed, "{} did not get {line:?}", browser.name);
            }
        }
    }

    fn is_live(&self, name: &str) -> bool {
        self.sim.has(name) && self.sim.browser(name).is_live()
    }
}
