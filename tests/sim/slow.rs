//! Slow links: how a subscriber starts behind one, and how it follows a change of it.

use std::time::{Duration, Instant};

use crate::media::{Camera, Microphone, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const CAMERAS: [&str; 2] = ["ann", "ben"];

/// A link as `tc qdisc add ... tbf rate ... burst 5kb latency 200ms` makes it.
fn shaped(capacity: u64) -> Path {
    Path { burst: 5_000, ..Path::GOOD.with_capacity(capacity) }
}

/// Two cameras with layers and sound, and bob, who joins behind the path and is connected now.
fn join_behind(seed: u64, path: Path, height: u32) -> Sim {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(seed) });
    sim.join_looking_away(&CAMERAS);
    sim.run(secs(1));
    sim.path = path;
    sim.watch("bob");
    let joined = sim.now;
    while sim.browser("bob").page.received().count() < 4 {
        assert!(sim.now < joined + secs(2), "the tracks are announced");
        sim.run(millis(5));
    }
    CAMERAS.iter().for_each(|name| sim.show("bob", name, height));
    while sim.browser("bob").connected_at.is_none() {
        assert!(sim.now < joined + secs(2), "media is connected");
        sim.run(millis(5));
    }
    sim
}

/// The time in which a picture stood: the gaps that are longer than the usual one by 150 ms and by a factor of three.
fn frozen(sim: &Sim, name: &str, since: Instant) -> Duration {
    let gaps: Vec<_> = sim.gaps("bob", name, Camera, since).collect();
    let usual = (sim.now - since) / gaps.len() as u32;
    gaps.into_iter().filter(|gap| *gap > (3 * usual).max(usual + millis(150))).sum()
}

fn dropped(sim: &Sim) -> u64 {
    sim.links[sim.tag("bob")].down.bottleneck.dropped
}

/// The layers that were shown since then, each with when it began.
fn layers(sim: &Sim, name: &str, since: Instant) -> Vec<(Duration, u8)> {
    let mut layers: Vec<_> =
        sim.seen_since("bob", name, Camera, since).iter().map(|(at, stamp)| (*at - since, stamp.layer)).collect();
    layers.dedup_by_key(|(_, layer)| *layer);
    layers
}

#[test]
fn who_joins_behind_a_slow_link_sees_pictures_soon_and_they_do_not_stand() {
    for (capacity, height) in [(400_000, 720), (400_000, 360), (700_000, 720)] {
        let mut sim = join_behind(8_100, shaped(capacity), height);
        let since = sim.now;
        sim.run(secs(10));
        let firsts = CAMERAS.map(|name| layers(&sim, name, since)[0].0);
        let stood: Duration = CAMERAS.iter().zip(firsts).map(|(name, first)| frozen(&sim, name, since + first)).sum();
        let is_good = firsts.iter().all(|first| *first < millis(700)) && stood < secs(1) && dropped(&sim) < 20;
        assert!(is_good, "{capacity} bit/s: first after {firsts:?}, stood {stood:?}, {} dropped", dropped(&sim));
    }
}

#[test]
fn who_joins_behind_a_good_link_sees_the_best_within_a_second() {
    for (height, best) in [(720, 2), (360, 1)] {
        let mut sim = join_behind(8_110, Path::GOOD, height);
        let since = sim.now;
        sim.run(secs(3));
        for name in CAMERAS {
            let layers = layers(&sim, name, since);
            let (last, layer) = layers[layers.len() - 1];
            let is_soon = layers[0].0 < millis(100) && last < secs(1) && layer == best;
            assert!(is_soon, "{height} lines of {name}: {layers:?}");
        }
    }
}

/// The link carries the upper layer of one camera and the middle one of the other, and for a while only the lowest.
#[test]
fn layers_are_back_within_eight_seconds_after_a_narrow_time_and_stay() {
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

/// The part of a narrow link that is used, and what waits behind it once it is measured: sound and pictures.
#[test]
fn a_narrow_link_is_used_and_its_queue_is_short() {
    // Capacity, sound that waits in ms at most, least bitrate that is used, layers that begin in 15 s at most.
    for (seed, capacity, sound_ms, used, most) in
        [(8_300, 300_000, 120, 240_000, 2), (8_300, 500_000, 80, 400_000, 2), (8_301, 700_000, 80, 560_000, 4)]
    {
        let mut sim = join_behind(seed, shaped(capacity), 720);
        sim.run(secs(8));
        let (since, before) = (sim.now, dropped(&sim));
        sim.run(secs(15));
        let (waited, goodput) = (sim.queueing_of("bob", Microphone, since), sim.goodput("bob", since));
        let begun: usize = CAMERAS.iter().map(|name| layers(&sim, name, since).len()).sum();
        let stood: Duration = CAMERAS.iter().map(|name| frozen(&sim, name, since)).sum();
        let is_good = waited < millis(sound_ms) && goodput >= used && begun <= most && stood < secs(1);
        let what = format!("sound waits {waited:?}, {goodput} bit/s, {begun} layers, stood {stood:?}");
        assert!(is_good && dropped(&sim) == before, "{capacity} bit/s: {what}");
    }
}

/// Half of the pictures of the middle layer fit, all of them do not.
#[test]
fn a_layer_is_sent_with_fewer_pictures_where_it_does_not_fit_whole() {
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
        assert_eq!(sim.layer_seen("bob", name), Some(2), "{name} where there is room");
    }
    sim.assert_decodable("bob");
}
