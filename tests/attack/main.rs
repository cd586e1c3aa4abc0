//! Attacks on the server as a process on loopback, while a well-behaved call runs.
//!
//! The attacks run for a short time each, some of them side by side. None of the call's packets may be lost or late, and
//! the server has to refuse each attack as documented. Afterwards memory, descriptors and the number of participants have to
//! return to their former values. The test prints a line for each attack.
//!
//! `cargo test` runs it briefly, with bounds for busy machines. With `AQ_ATTACK_SECS=N` each attack runs N seconds at
//! full rate and by itself, and the 99th percentile of the delays has to be below 20 ms: use a quiet machine and `--release`.
//! `AQ_ATTACK_ONLY=S2` runs only attacks whose row contains `S2`.

mod call;
#[allow(dead_code, reason = "other tests have more uses for it")]
#[path = "../process/client.rs"]
mod client;
mod datagrams;
mod feedback;
mod guest;
mod heads;
#[allow(dead_code, reason = "other tests have more uses for it")]
#[path = "../process/http.rs"]
mod http;
mod media;
#[allow(dead_code, reason = "other tests have more uses for it")]
#[path = "../process/process.rs"]
mod process;
mod signaling;
mod system;
mod transport;
mod websocket;
#[allow(dead_code, reason = "other tests have more uses for it")]
#[path = "../process/wire.rs"]
mod wire;

use std::fs;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use call::{Call, Noticed, PEOPLE};
use process::Process;

/// Connection limit of the attacked server.
const MAX_CONNS: usize = 900;

/// Limit of the 99th percentile of the call's delays in milliseconds: as promised, and for busy machines.
const P99_MS: f64 = 20.0;
const LENIENT_P99_MS: f64 = 100.0;

/// Share of time in which other programs had the CPU while the server or the call had work, above which delays and
/// losses are not checked.
const DISTURBED: f64 = 0.05;

/// Maximum growth of memory during the attacks, and after them.
const GROWTH_KB: u64 = 128 << 10;
const KEPT_KB: u64 = 32 << 10;

/// Time limit for attackers' connections to be removed: pings detect those that vanished.
const FORGOTTEN: Duration = Duration::from_secs(40);

/// Burst of log lines of one kind that clients cause; afterwards there is one per second.
const NOTICES_AT_ONCE: usize = 60;

/// Datagrams per second of a flood: as promised, and for busy machines.
const RATE: u32 = 20_000;
const LENIENT_RATE: u32 = 2_000;

/// Share of a core that the server may use during a flood of datagrams, the call included.
const FLOOD_CORE: f64 = 0.30;

/// The attacked server, and the duration and rate of attacks.
struct Target<'a> {
    process: &'a Process,
    time: Duration,
    rate: u32,
    /// Whether the promised figures are checked.
    is_strict: bool,
}

/// Number of messages sent, and how many of them were answered, refused or forwarded.
#[derive(Default)]
struct Tally {
    sent: u64,
    answered: u64,
}

/// One attack. `row` has the IDs of the threats, by area: H HTTP, W WebSocket, S signaling, I ICE, D DTLS, M media, C chat,
/// R resources; "-" is no attack.
struct Attack {
    row: &'static str,
    what: &'static str,
    run: fn(&Target) -> Tally,
}

const fn attack(row: &'static str, what: &'static str, run: fn(&Target) -> Tally) -> Attack {
    Attack { row, what, run }
}

const NOBODY: Attack = attack("-", "nobody", |target| {
    std::thread::sleep(target.time);
    Tally::default()
});

/// The attack that only waits. It needs free connections and descriptors, and a server that is not stopped.
const PATIENCE: Attack = attack("H2 I4 W4 W7 S6", "patience", system::patience);

/// Attacks of one round run side by side. At most one of them keeps a core busy, so that the server and the call have
/// another. Those that leave participants behind come first: the server keeps these for half a minute.
const ROUNDS: &[&[Attack]] = &[
    &[NOBODY],
    &[
        attack("D3", "wrong fingerprint", transport::wrong_fingerprint),
        attack("M1", "bad packets", media::bad_packets),
        attack("M2", "keyframe storm", media::keyframe_storm),
        attack("S4", "candidates of others", signaling::candidates),
    ],
    &[
        attack("M3", "NACK storm", feedback::nack_storm),
        attack("M4", "nonsense in reports", feedback::nonsense),
        attack("M4", "numbers from nowhere", feedback::numbers),
    ],
    &[
        attack("M5", "above rate", media::above_rate),
        attack("M6", "endless streams", media::endless_streams),
        attack("W6", "compression", websocket::compression),
    ],
    // It reads a counter of the whole machine.
    &[attack("R2", "sockets that are gone", transport::gone_sockets)],
    &[
        attack("S3", "SDP bombs", signaling::sdp_bombs),
        attack("S7", "drop and rejoin", signaling::drop_and_rejoin),
        attack("C1 C3 C4", "chat flood", signaling::chat_flood),
    ],
    &[
        attack("I1 M1", "random bytes", datagrams::random_bytes),
        attack("I2 I3", "endless addresses", datagrams::endless_addresses),
        attack("D1", "hellos of strangers", datagrams::hello_flood),
        attack("D2", "endless hello", datagrams::endless_hello),
    ],
    &[attack("S1", "bad JSON", signaling::bad_json), attack("I1", "STUN for nobody", datagrams::unknown_ufrag)],
    &[
        attack("S2", "wrong answers", signaling::wrong_answers),
        attack("I1 I2", "STUN, wrong password", datagrams::wrong_password),
    ],
    &[attack("S5", "message floods", signaling::message_floods)],
    &[attack("W1", "broken frames", websocket::breaches), attack("H1", "oversized heads", heads::oversized_heads)],
    &[attack("W2", "huge messages", websocket::huge_messages), attack("H3", "request smuggling", heads::smuggling)],
    &[attack("W3", "ping flood", websocket::ping_flood), attack("H4", "odd requests, TLS", heads::odd_requests)],
    &[attack("W5", "cross-site upgrades", websocket::cross_site), attack("H5", "traversal", heads::traversal)],
];

/// Attacks that change what the server can do for all others, so that each runs by itself.
const SOLITARY: &[Attack] = &[
    attack("H6", "too many connections", heads::many_conns),
    attack("R1", "no descriptors", system::no_descriptors),
    attack("R4", "frozen", system::frozen),
    NOBODY,
];

#[test]
fn a_call_goes_on_under_attack() {
    let seconds = std::env::var("AQ_ATTACK_SECS").ok().map(|text| text.parse::<f64>().expect("seconds"));
    let only = std::env::var("AQ_ATTACK_ONLY").unwrap_or_default();
    let (limit, begun) = (MAX_CONNS.to_string(), Instant::now());
    let process = Process::start(&["--addr", "127.0.0.1:0", "--max-conns", &limit]);
    let target = Target {
        process: &process,
        time: Duration::from_secs_f64(seconds.unwrap_or(1.0)),
        rate: if seconds.is_some() { RATE } else { LENIENT_RATE },
        is_strict: seconds.is_some(),
    };
    let mut call = Call::begin(&process);
    call.during(Duration::from_secs(2), || {});
    let (rss, files) = (call.rss_kb(), system::files(&process));

    println!(
        "{:<14} {:<21} {:>8} {:>8} {:>6} {:>7} {:>8} {:>6} {:>7} {:>9} {:>5}",
        "row", "attack", "sent", "answered", "lost", "p99 ms", "longest", "core", "waited", "memory", "files"
    );
    let is_chosen = |attack: &&Attack| attack.row.contains(&only);
    let mut play = |round: &[&Attack], act: &mut (dyn FnMut() -> Vec<Tally> + Send)| {
        let drops = drops(&process);
        let (tallies, noticed) = call.during(target.time, act);
        for (attack, tally) in round.iter().zip(tallies) {
            println!(
                "{:<14} {:<21} {:>8} {:>8} {:>6} {:>7.2} {:>8.2} {:>5.1}% {:>6.1}% {:>+6} KB {:>+5}",
                attack.row,
                attack.what,
                tally.sent,
                tally.answered,
                noticed.lost,
                noticed.p99_ms,
                noticed.longest_ms,
                noticed.core * 100.0,
                noticed.waited * 100.0,
                call.rss_kb() as i64 - rss as i64,
                system::files(&process) as i64 - files as i64,
            );
        }
        // A stopped process loses the datagrams that arrive meanwhile.
        if round.iter().all(|attack| attack.row != "R4") {
            check(round, &target, &noticed, self::drops(&process) - drops);
        }
    };
    std::thread::scope(|scope| {
        // Where figures are promised, each attack runs by itself.
        let at_once = if target.is_strict { 1 } else { usize::MAX };
        let patience = Some(&PATIENCE).filter(is_chosen);
        let waiting = patience.filter(|_| !target.is_strict).map(|patience| scope.spawn(|| (patience.run)(&target)));
        for round in ROUNDS {
            let round: Vec<&Attack> = round.iter().filter(is_chosen).collect();
            for round in round.chunks(at_once.min(round.len().max(1))) {
                play(round, &mut || side_by_side(round, &target));
            }
        }
        if let Some(patience) = patience {
            let mut waiting = waiting;
            play(&[patience], &mut || match waiting.take() {
                Some(waiting) => vec![joined(waiting)],
                None => side_by_side(&[patience], &target),
            });
        }
        for attack in SOLITARY.iter().filter(is_chosen) {
            play(&[attack], &mut || side_by_side(&[attack], &target));
        }
    });
    let peak = peak_kb(&process);
    assert!(peak < rss + GROWTH_KB, "memory grew from {rss} to {peak} KB");

    let begin = Instant::now();
    let participants = || http::get(process.addr(), "/aq_server/health").json()["participants"].clone();
    let is_back = || {
        // The health request itself takes one more file.
        participants() == PEOPLE && system::files(&process) <= files + 1 && call_rss(&process) < rss + KEPT_KB
    };
    call.during(Duration::ZERO, || {
        while !is_back() {
            assert!(
                begin.elapsed() < FORGOTTEN,
                "{} participants, {} files where there were {files}, {} KB where there were {rss}",
                participants(),
                system::files(&process),
                call_rss(&process),
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    println!(
        "memory: {rss} KB before, {peak} at most, {} after; files: {files} before, {} after; participants: {PEOPLE}",
        call_rss(&process),
        system::files(&process),
    );
    // End the call: the server would wait for participants that do not read their close frames.
    drop(call);
    end(process, begun);
}

/// Runs the attacks of a round at the same time.
fn side_by_side(round: &[&Attack], target: &Target) -> Vec<Tally> {
    std::thread::scope(|scope| {
        let running: Vec<_> = round.iter().map(|attack| scope.spawn(|| (attack.run)(target))).collect();
        running.into_iter().map(joined).collect()
    })
}

fn joined<T>(thread: ScopedJoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
}

/// R5: ends the server and checks its log: at most one warning per second, limited lines of kinds that clients cause, and
/// no control characters (C3).
fn end(process: Process, begun: Instant) {
    process.signal("TERM");
    let at = Instant::now();
    let ended = process.wait();
    assert!(at.elapsed() < Duration::from_secs(3), "{:?}", at.elapsed());
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.iter().any(|line| line.chars().any(|c| c.is_control() && c != '\u{1b}')));
    let panics = ended.stderr.iter().filter(|line| line.contains("panicked") || line.contains(" ERROR "));
    assert_eq!(panics.count(), 0, "{:#?}", ended.stderr);
    let faults = ended.stderr.iter().filter(|line| line.contains("WARN")).count();
    println!("log: {} lines, {faults} of them warnings", ended.stderr.len());
    let seconds = begun.elapsed().as_secs() as usize + 1;
    assert!(faults <= seconds);
    for kind in [" joined room ", " left room ", " publishes "] {
        let lines = ended.stderr.iter().filter(|line| line.contains(kind)).count();
        assert!(lines <= seconds + NOTICES_AT_ONCE, "{lines} lines of{kind}in {seconds} s");
    }
}

fn check(round: &[&Attack], target: &Target, noticed: &Noticed, drops: u64) {
    let what = round.iter().map(|attack| attack.what).collect::<Vec<_>>().join(", ");
    if noticed.waited > DISTURBED {
        println!("  other programs had the processor: this line's times and losses are not the server's");
        return;
    }
    let excused = if target.is_strict { 0 } else { drops * (PEOPLE as u64 - 1) };
    assert!(noticed.lost <= noticed.overflowed + excused, "{what}: {} packets of the call were lost", noticed.lost);
    let most = if target.is_strict { P99_MS } else { LENIENT_P99_MS };
    assert!(noticed.p99_ms < most, "{what}: the call's p99 was {:.1} ms", noticed.p99_ms);
    let is_flood = round.iter().any(|attack| attack.row.contains("I1")) && target.is_strict;
    assert!(!is_flood || noticed.core < FLOOD_CORE, "{what}: {:.0} % of a core", noticed.core * 100.0);
}

/// Datagrams dropped at the server's full socket because the process was not scheduled.
fn drops(process: &Process) -> u64 {
    let port = format!(":{:04X} ", process.port());
    let table = fs::read_to_string("/proc/net/udp").expect("Linux");
    let line = table.lines().find(|line| line.contains(&port)).expect("its socket");
    line.split_whitespace().next_back().and_then(|drops| drops.parse().ok()).expect("a number")
}

fn peak_kb(process: &Process) -> u64 {
    memory(process, "VmHWM:")
}

fn call_rss(process: &Process) -> u64 {
    memory(process, "VmRSS:")
}

fn memory(process: &Process, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
