//! Many joins at once: what they cost the publisher, and when the subscribers see a picture.

use std::time::{Duration, Instant};

use crate::media::{Camera, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const WATCHERS: usize = 200;

/// A publisher with three layers in a room that is large enough.
fn publisher(seed: u64) -> Sim {
    let path = Path { latency: millis(25), ..Path::GOOD };
    let rate = Rate { audio: millis(200), video: millis(50), ..Rate::LEAN };
    let mut world = World { rate, path, ..World::new(seed) };
    world.config.limits.max_room_size = 2 * WATCHERS;
    let mut sim = Sim::with(world);
    sim.join_with_layers("ann");
    sim.run(secs(2));
    sim
}

/// Lets `WATCHERS` subscribers join within that time, with tiles of three sizes. Returns when the first joined, and the
/// sorted times from each connection to its first picture.
fn storm(sim: &mut Sim, within: Duration) -> (Instant, Vec<Duration>) {
    let began = sim.now;
    let names: Vec<String> = (0..WATCHERS).map(|number| format!("w{number}")).collect();
    let heights = [180, 360, 720];
    let (mut joined, mut reported) = (0, 0);
    while sim.now < began + within + millis(1_500) {
        while joined < WATCHERS && sim.now >= began + within * joined as u32 / WATCHERS as u32 {
            sim.watch(&names[joined]);
            joined += 1;
        }
        // Each reports its tile's size as soon as it has an m-line.
        while reported < joined && sim.browser(&names[reported]).page.received().next().is_some() {
            sim.show(&names[reported], "ann", heights[reported % heights.len()]);
            reported += 1;
        }
        sim.run(millis(5));
    }
    let waits = names.iter().map(|name| {
        let connected = sim.browser(name).connected_at.expect("the subscriber connected");
        let watched = sim.watched(name, "ann", Camera).expect("video was received");
        watched.first_shown_at.expect("a picture was shown").saturating_duration_since(connected)
    });
    let mut waits: Vec<_> = waits.collect();
    waits.sort_unstable();
    (began, waits)
}

/// The largest number of keyframe requests for each layer within one second.
fn asked(sim: &Sim) -> Vec<usize> {
    let layers = sim.publication("ann", Camera).layers.iter();
    let worst = layers.map(|layer| {
        let requests = &layer.keyframe_requests;
        let in_second = |from: &Instant| requests.iter().filter(|at| (*from..*from + secs(1)).contains(*at)).count();
        requests.iter().map(in_second).max().unwrap_or(0)
    });
    worst.collect()
}

#[test]
fn two_hundred_joins_in_a_second_cost_three_keyframes_per_layer() {
    let mut sim = publisher(730);
    let (began, waits) = storm(&mut sim, secs(1));
    assert!(!sim.keyframe_requests("ann", Camera, began).is_empty(), "joins must cause a keyframe request");
    assert!(asked(&sim).iter().all(|count| *count <= 3), "{:?}", asked(&sim));
    assert!(waits[WATCHERS * 95 / 100] < millis(800), "{waits:?}");
}

#[test]
fn two_hundred_simultaneous_joins_see_a_picture_at_once() {
    let mut sim = publisher(731);
    let (_, waits) = storm(&mut sim, millis(50));
    assert!(asked(&sim).iter().all(|count| *count <= 3), "{:?}", asked(&sim));
    assert!(waits[WATCHERS * 95 / 100] < millis(300), "{waits:?}");
}
