//! Slow links: how a subscriber starts behind one, and how it adapts when the capacity changes.

use std::time::{Duration, Instant};

use crate::media::{Camera, Microphone, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const CAMERAS: [&str; 2] = ["ann", "ben"];

/// A link as shaped by `tc qdisc add ... tbf rate ... burst 5kb latency 200ms`.
fn shaped(capacity: u64) -> Path {
    Path { burst: 5_000, ..Path::GOOD.with_capacity(capacity) }
}

/// Joins two publishers with simulcast cameras and audio, then Bob as a subscriber behind the path.
fn join_behind(seed: u64, path: Path, height: u32) -> Sim {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(seed) });
    sim.join_looking_away(&CAMERAS);
    sim.run(secs(1));
    sim.path = path;
    sim.watch("bob");
    let joined = sim.now;
    while sim.browser("bob").page.received().count() < 4 {
        assert!(sim.now < joined + secs(2), "the tracks were not announced within 2 s");
        sim.run(millis(5));
    }
    CAMERAS.iter().for_each(|name| sim.show("bob", name, height));
    while sim.browser("bob").connected_at.is_none() {
        assert!(sim.now < joined + secs(2), "media did not connect within 2 s");
        sim.run(millis(5));
    }
    sim
}

/// Total duration of freezes: gaps that exceed the average gap by 150 ms and by a factor of three.
fn frozen(sim: &Sim, name: &str, since: Instant) -> Duration {
    let gaps: Vec<_> = sim.gaps("bob", name, Camera, since).collect();
    let usual = (sim.now - since) / gaps.len() as u32;
    gaps.into_iter().filter(|gap| *gap > (3 * usual).max(usual + millis(150))).sum()
}

fn dropped(sim: &Sim) -> u64 {
    sim.links[sim.tag("bob")].down.bottleneck.dropped
}

/// The layers shown since `since`, each with the time when it started.
fn layers(sim: &Sim, name: &str, since: Instant) -> Vec<(Duration, u8)> {
    let mut layers: Vec<_> =
        sim.seen_since("bob", name, Camera, since).iter().map(|(at, stamp)| (*at - since, stamp.layer)).collect();
    layers.dedup_by_key(|(_, layer)| *layer);
    layers
}

#[test]
fn a_subscriber_that_joins_behind_a_slow_link_soon_sees_video_without_freezes() {
    for (capacity, height) in [(400_000, 720), (400_000, 360), (700_000, 720)] {
        let mut sim = join_behind(8_100, shaped(capacity), height);
        let since = sim.now;
        sim.run(secs(10));
        let firsts = CAMERAS.map(|name| layers(&sim, name, since)[0].0);
        let frozen_for: Duration =
            CAMERAS.iter().zip(firsts).map(|(name, first)| frozen(&sim, name, since + first)).sum();
        let is_good = firsts.iter().all(|first| *first < millis(700)) && frozen_for < secs(1) && dropped(&sim) < 20;
        assert!(
            is_good,
            "{capacity} bit/s: first pictures after {firsts:?}, frozen for {frozen_for:?}, {} dropped",
            dropped(&sim)
        );
    }
}

#[test]
fn a_subscriber_that_joins_behind_a_good_link_gets_the_best_layer_within_a_second() {
    for (height, best) in [(720, 2), (360, 1)] {
        let mut sim = join_behind(8_110, Path::GOOD, height);
        let since = sim.now;
        sim.run(secs(3));
        for name in CAMERAS {
            let layers = layers(&sim, name, since);
            let (last, layer) = layers[layers.len() - 1];
            let is_soon = layers[0].0 < millis(100) && last < secs(1) && layer == best;
            assert!(is_soon, "height {height} of {name}: {layers:?}");
        }
    }
}

/// The link carries the high layer of one camera and the middle one of the other, but for a while only the lowest ones.
#[test]
fn layers_return_within_eight_seconds_after_the_link_recovers_and_stay() {
    let mut sim = join_behind(8_203, shaped(3_400_000), 720);
    sim.run(secs(4));
    sim.narrow("bob", 550_000);
    sim.run(secs(8));
    let (since, before) = (sim.now, dropped(&sim));
    sim.narrow("bob", 3_400_000);
    sim.run(secs(18));
    let mut seen = Vec::new();
    for name in CAMERAS {
        let layers = layers(&sim, name, since);
        let (last, layer) = layers[layers.len() - 1];
        let only_grows = layers.windows(2).all(|pair| pair[0].1 < pair[1].1);
        assert!(last < secs(8) && only_grows, "{name}: {layers:?}");
        seen.push(layer);
    }
    seen.sort_unstable();
    assert!(seen[0] >= 1 && seen[1] == 2, "{seen:?}");
    assert_eq!(dropped(&sim), before);
    let waited = sim.queueing("bob", since);
    assert!(waited < millis(60), "{waited:?}");
}

/// The share of a narrow link that is used, and the queueing delay once the server has measured it, with audio and
/// video.
#[test]
fn a_narrow_link_is_used_and_its_queue_is_short() {
    // Capacity, largest queueing delay of audio in ms, smallest goodput, largest number of layer starts in 15 s.
    for (seed, capacity, sound_ms, used, most) in
        [(8_300, 300_000, 90, 240_000, 2), (8_300, 500_000, 50, 400_000, 2), (8_301, 700_000, 40, 560_000, 4)]
    {
        let mut sim = join_behind(seed, shaped(capacity), 720);
        sim.run(secs(8));
        let (since, before) = (sim.now, dropped(&sim));
        sim.run(secs(15));
        let (waited, goodput) = (sim.queueing_of("bob", Microphone, since), sim.goodput("bob", since));
        let begun: usize = CAMERAS.iter().map(|name| layers(&sim, name, since).len()).sum();
        let frozen_for: Duration = CAMERAS.iter().map(|name| frozen(&sim, name, since)).sum();
        let is_good = waited < millis(sound_ms) && goodput >= used && begun <= most && frozen_for < secs(1);
        let what = format!("audio waits {waited:?}, {goodput} bit/s, {begun} layer starts, frozen for {frozen_for:?}");
        assert!(is_good && dropped(&sim) == before, "{capacity} bit/s: {what}");
    }
}

/// Both cameras send a keyframe each second. It waits in the server and not in the queue of the path, where audio would
/// wait behind it.
#[test]
fn keyframes_do_not_delay_audio_on_a_narrow_link() {
    let mut total = Duration::ZERO;
    for seed in 8_310..8_313 {
        let mut sim = join_behind(seed, shaped(700_000), 720);
        sim.run(secs(8));
        let since = sim.now;
        for _ in 0..12 {
            sim.run(secs(1));
            let now = sim.now;
            assert!(sim.browser_mut("bob").storm(now));
        }
        total += sim.queueing_of("bob", Microphone, since);
    }
    assert!(total < 3 * millis(50), "audio waits {total:?} in three runs");
}

/// Half of the middle layer's pictures fit, but not all of them.
#[test]
fn a_layer_that_does_not_fit_is_sent_with_fewer_pictures() {
    let mut sim = join_behind(8_301, shaped(700_000), 720);
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.run(secs(8));
    let since = sim.now;
    sim.run(secs(10));
    let [lowest, middle, highest] = sim.pictures("bob", "ann", Camera, since);
    let layer = sim.layer_seen("bob", "ann");
    assert!(lowest >= 70 && middle >= 70 && highest <= 30, "{lowest}, {middle}, {highest} pictures");
    assert_eq!((layer, sim.layer_seen("bob", "ben")), (Some(1), Some(0)));
    sim.widen("bob");
    sim.run(secs(6));
    for name in CAMERAS {
        assert_eq!(sim.layer_seen("bob", name), Some(2), "{name} must be in the highest layer on a wide path");
    }
    sim.assert_decodable("bob");
}
