//! Paths that carry nothing for a while and everything afterwards: this is not congestion, and video must recover at
//! once.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::media::{Camera, Microphone, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const CAMERAS: [&str; 2] = ["ann", "ben"];

/// Longest time from the end of an outage to the next picture of each camera.
const BACK: Duration = secs(1);

/// The direction of the packets that an outage drops.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    Both,
    ToServer,
    ToSubscriber,
}

const DIRECTIONS: [Direction; 3] = [Direction::Both, Direction::ToServer, Direction::ToSubscriber];

/// Outages are shorter than ICE consent, which the subscriber renews every few seconds and which ends after 15 s.
const LASTS_MS: Range<u64> = 500..12_500;

/// Number of seeds; `AQ_SEEDS` overrides it.
fn seeds() -> u64 {
    std::env::var("AQ_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(9)
}

/// Two simulcast cameras, and their subscriber behind a path with this capacity.
fn call(seed: u64, height: u32, capacity: Option<u64>, has_sound: bool) -> Sim {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(seed) });
    sim.join_looking_away(&CAMERAS);
    if !has_sound {
        CAMERAS.iter().for_each(|name| sim.unpublish(name, Microphone));
    }
    sim.join_as("bob", |habits| {
        habits.sources.clear();
        habits.has_libwebrtc_checks = true;
    });
    sim.run(millis(500));
    if let Some(capacity) = capacity {
        sim.narrow("bob", capacity);
    }
    CAMERAS.iter().for_each(|name| sim.show("bob", name, height));
    sim.run(secs(8));
    sim
}

fn cut(sim: &mut Sim, name: &str, direction: Direction, is_cut: bool) {
    let tag = sim.tag(name);
    let links = &mut sim.links[tag];
    if direction != Direction::ToSubscriber {
        links.up.is_partitioned = is_cut;
    }
    if direction != Direction::ToServer {
        links.down.is_partitioned = is_cut;
    }
}

/// Time from now until each camera is seen again.
fn back(sim: &mut Sim) -> Option<Duration> {
    let since = sim.now;
    let is_seen = |sim: &Sim, name: &str| !sim.seen_since("bob", name, Camera, since + millis(50)).is_empty();
    while sim.now < since + secs(20) {
        sim.run(millis(20));
        if CAMERAS.iter().all(|name| is_seen(sim, name)) {
            return Some(sim.now - since);
        }
    }
    None
}

#[test]
fn video_returns_within_a_second_after_an_outage() {
    let mut late = Vec::new();
    for seed in 0..seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let direction = DIRECTIONS[seed as usize % 3];
        let lasts = millis(random.random_range(LASTS_MS));
        let capacity = [None, Some(3_000_000), Some(800_000)][random.random_range(0..3)];
        let height = [180, 360, 720][random.random_range(0..3)];
        let has_sound = random.random_bool(0.5);
        let mut sim = call(9_000 + seed, height, capacity, has_sound);
        cut(&mut sim, "bob", direction, true);
        sim.run(lasts);
        cut(&mut sim, "bob", direction, false);
        let layers = CAMERAS.map(|name| sim.layer_seen("bob", name));
        let took = back(&mut sim);
        if took.is_none_or(|took| took > BACK) {
            let what = format!("{capacity:?} bit/s, height {height}, audio {has_sound}, layers {layers:?}");
            late.push(format!("seed {seed}: {took:?} after {lasts:?} {direction:?}, {what}"));
        }
    }
    assert!(late.is_empty(), "{} too late:\n{}", late.len(), late.join("\n"));
}

#[test]
fn video_of_a_publisher_returns_within_a_second_after_its_outage() {
    let mut late = Vec::new();
    for seed in 0..seeds().div_ceil(3) {
        let mut random = StdRng::seed_from_u64(seed);
        let lasts = millis(random.random_range(LASTS_MS));
        let mut sim = call(9_500 + seed, 360, None, random.random_bool(0.5));
        cut(&mut sim, "ann", Direction::Both, true);
        sim.run(lasts);
        cut(&mut sim, "ann", Direction::Both, false);
        let took = back(&mut sim);
        if took.is_none_or(|took| took > BACK) {
            late.push(format!("seed {seed}: {took:?} after {lasts:?}"));
        }
    }
    assert!(late.is_empty(), "{} too late:\n{}", late.len(), late.join("\n"));
}

/// How long a path holds packets, as during a handover, while a radio sleeps or a receiver is suspended.
const HELD_MS: Range<u64> = 500..2_000;

fn hold(sim: &mut Sim, name: &str, direction: Direction, lasts: Duration) {
    let until = sim.now + lasts;
    let tag = sim.tag(name);
    let links = &mut sim.links[tag];
    if direction != Direction::ToSubscriber {
        links.up.held_until = Some(until);
    }
    if direction != Direction::ToServer {
        links.down.held_until = Some(until);
    }
}

/// Asserts that each camera is seen in no lower layer than before, so that the bandwidth estimate did not drop.
fn assert_no_congestion(sim: &Sim, before: [Option<u8>; 2], what: &str) {
    for (name, before) in CAMERAS.into_iter().zip(before) {
        let seen = sim.layer_seen("bob", name);
        assert!(seen >= before, "{what}: {name} is seen in layer {seen:?}, was in {before:?}");
    }
}

#[test]
fn packets_held_by_a_path_and_delivered_at_once_are_not_congestion() {
    for seed in 0..seeds().div_ceil(3) {
        let mut random = StdRng::seed_from_u64(seed);
        let direction = DIRECTIONS[seed as usize % 3];
        let lasts = millis(random.random_range(HELD_MS));
        let capacity = [None, Some(3_000_000)][random.random_range(0..2)];
        let mut sim = call(9_700 + seed, 360, capacity, random.random_bool(0.5));
        let before = CAMERAS.map(|name| sim.layer_seen("bob", name));
        hold(&mut sim, "bob", direction, lasts);
        sim.run(lasts);
        let took = back(&mut sim);
        let what = format!("seed {seed}: {lasts:?} {direction:?}, {capacity:?} bit/s");
        assert!(took.is_some_and(|took| took <= BACK), "{what}: {took:?}");
        sim.run(secs(2));
        assert_no_congestion(&sim, before, &what);
    }
}

/// A closed laptop sends nothing, and packets to it are either lost or held.
#[test]
fn a_receiver_that_was_suspended_sees_pictures_within_a_second() {
    for (seed, (lasts, is_held)) in [(2, true), (9, true), (9, false)].into_iter().enumerate() {
        let mut sim = call(9_750 + seed as u64, 360, None, true);
        let before = CAMERAS.map(|name| sim.layer_seen("bob", name));
        cut(&mut sim, "bob", Direction::ToServer, true);
        if is_held {
            hold(&mut sim, "bob", Direction::ToSubscriber, secs(lasts));
        } else {
            cut(&mut sim, "bob", Direction::ToSubscriber, true);
        }
        sim.run(secs(lasts));
        cut(&mut sim, "bob", Direction::Both, false);
        let took = back(&mut sim);
        let what = format!("{lasts} s, packets held: {is_held}");
        assert!(took.is_some_and(|took| took <= BACK), "{what}: {took:?}");
        sim.run(secs(3));
        assert_no_congestion(&sim, before, &what);
    }
}

/// Longest time until video returns if consent has ended or the address has changed: no media is sent before a
/// connectivity check shows that the browser receives (RFC 7675), and str0m sends one within 3 s.
const BACK_CHECKED: Duration = millis(3_500);

/// A phone switches networks: its address, delay and bitrate change, possibly after a gap.
#[test]
fn video_returns_after_the_next_check_when_the_path_changes() {
    let wifi = Path::GOOD.with_capacity(4_000_000);
    let mobile = Path { latency: millis(60), jitter: millis(10), ..Path::GOOD }.with_capacity(1_500_000);
    for (seed, (from, to, gap)) in [(wifi, mobile, 800), (mobile, wifi, 0)].into_iter().enumerate() {
        let mut sim = call(9_780 + seed as u64, 360, None, true);
        sim.set_path("bob", from);
        sim.run(secs(8));
        let before = CAMERAS.map(|name| sim.layer_seen("bob", name));
        cut(&mut sim, "bob", Direction::Both, gap > 0);
        sim.run(millis(gap));
        sim.set_path("bob", to);
        sim.rebind("bob", 40_000 + seed as u16);
        cut(&mut sim, "bob", Direction::Both, false);
        let took = back(&mut sim);
        let what = format!("{seed}: {gap} ms without a path");
        assert!(took.is_some_and(|took| took <= BACK_CHECKED), "{what}: {took:?}");
        sim.run(secs(5));
        assert_no_congestion(&sim, before, &what);
    }
}

/// Outages that end consent and sometimes the transport: a fresh one is offered during the outage or just after it.
const LONG_MS: Range<u64> = 12_500..25_000;

#[test]
fn video_returns_within_a_second_after_an_outage_that_ends_the_transport() {
    let mut late = Vec::new();
    for seed in 0..seeds().div_ceil(2) {
        let mut random = StdRng::seed_from_u64(seed);
        let lasts = millis(random.random_range(LONG_MS));
        let mut sim = call(9_800 + seed, 360, None, random.random_bool(0.5));
        let before = CAMERAS.map(|name| sim.layer_seen("bob", name));
        cut(&mut sim, "bob", Direction::Both, true);
        sim.run(lasts);
        cut(&mut sim, "bob", Direction::Both, false);
        let took = back(&mut sim);
        sim.run(secs(2));
        let after = CAMERAS.map(|name| sim.layer_seen("bob", name));
        if took.is_none_or(|took| took > BACK) || after < before {
            let renewals = sim.browser("bob").renewals;
            late.push(format!("seed {seed}: {took:?} after {lasts:?}, {renewals} fresh, {before:?} then {after:?}"));
        }
    }
    assert!(late.is_empty(), "{} too late:\n{}", late.len(), late.join("\n"));
}

/// The first check that arrives at the end of an outage may come from an address that the server's packets do not reach.
#[test]
fn a_handshake_after_an_outage_is_answered_where_it_came_from() {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(9_790) });
    sim.join("ann");
    sim.run(secs(1));
    sim.join_as("bob", |habits| {
        habits.sources.clear();
        habits.has_libwebrtc_checks = true;
    });
    cut(&mut sim, "bob", Direction::Both, true);
    sim.run(secs(3));
    sim.flood_checks("bob", 1, 50_000);
    sim.run(millis(100));
    cut(&mut sim, "bob", Direction::Both, false);
    let since = sim.now;
    sim.run(BACK);
    assert!(!sim.seen_since("bob", "ann", Camera, since).is_empty(), "no video {BACK:?} after the outage");
}
