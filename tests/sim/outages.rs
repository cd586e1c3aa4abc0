//! A path that carries nothing for a while and everything afterwards: no congestion, and nothing to recover from slowly.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const CAMERAS: [&str; 2] = ["ann", "ben"];

/// Time from the end of an outage to the next picture of each camera.
const BACK: Duration = secs(1);

/// Which packets an outage takes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Direction {
    Both,
    ToServer,
    ToSubscriber,
}

const DIRECTIONS: [Direction; 3] = [Direction::Both, Direction::ToServer, Direction::ToSubscriber];

/// Outages last shorter than consent, which the subscriber renews each few seconds and which ends after 15 s: then it is a
/// check of the browser that brings media back.
const LASTS_MS: Range<u64> = 500..12_500;

/// `AQ_SEEDS` plays so many.
fn seeds() -> u64 {
    std::env::var("AQ_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(9)
}

/// Two cameras with layers, and their subscriber behind a path of the capacity.
fn call(seed: u64, height: u32, capacity: Option<u64>, has_sound: bool) -> Sim {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(seed) });
    sim.join_looking_away(&CAMERAS);
    if !has_sound {
        CAMERAS.iter().for_each(|name| sim.unpublish(name, Microphone));
    }
    sim.watch("bob");
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

/// Time until each camera was seen again, counted from now.
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
fn video_is_back_within_a_second_after_an_outage() {
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
            let what = format!("{capacity:?} bit/s, {height} lines, sound {has_sound}, layers {layers:?}");
            late.push(format!("seed {seed}: {took:?} after {lasts:?} {direction:?}, {what}"));
        }
    }
    assert!(late.is_empty(), "{} late:\n{}", late.len(), late.join("\n"));
}

#[test]
fn a_publisher_is_seen_again_within_a_second_after_its_outage() {
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
    assert!(late.is_empty(), "{} late:\n{}", late.len(), late.join("\n"));
}
