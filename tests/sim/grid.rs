//! Many cameras on one page, and a path that carries less than all of them.

use std::time::Instant;

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const PEOPLE: [&str; 9] = ["ann", "ben", "cal", "dot", "eva", "fox", "gus", "hal", "ivy"];

/// Zoe, on a fast path, watches nine cameras on tiles of height 360.
fn nine_and_zoe() -> Sim {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(700) });
    sim.join_looking_away(&PEOPLE);
    sim.watch_tiles("zoe", &PEOPLE, 360);
    sim.run(secs(3));
    sim
}

/// For each camera, the layers that Zoe is shown and the number of pictures of each temporal layer.
fn shown_to_zoe(sim: &Sim, since: Instant) -> Vec<(Vec<u8>, [usize; 3])> {
    let shown = PEOPLE.map(|name| {
        let mut layers: Vec<_> =
            sim.seen_since("zoe", name, Camera, since).iter().map(|(_, stamp)| stamp.layer).collect();
        layers.dedup();
        (layers, sim.pictures("zoe", name, Camera, since))
    });
    shown.to_vec()
}

#[test]
fn nine_cameras_share_a_slow_link_without_effect_on_other_subscribers() {
    let mut alone = nine_and_zoe();
    let alone_since = alone.now;
    alone.run(secs(10));
    let mut sim = nine_and_zoe();
    let since = sim.now;
    sim.watch("bob");
    sim.narrow("bob", 2_000_000);
    sim.run(millis(400));
    PEOPLE.iter().for_each(|name| sim.show("bob", name, 360));
    sim.run(secs(2));
    let shown = sim.now;
    sim.run(secs(10) - (sim.now - since));
    assert_eq!(shown_to_zoe(&sim, since), shown_to_zoe(&alone, alone_since));
    let settled = sim.now;
    sim.run(secs(12));
    let (received, waited) = (sim.received("bob", settled), sim.queueing("bob", settled));
    assert!(received >= 1_600_000, "{received} bit/s of 2 Mbit/s");
    assert!(waited < millis(100), "{waited:?}");
    for name in PEOPLE {
        let (picture, sound) =
            (sim.longest_gap("bob", name, Camera, shown), sim.longest_gap("bob", name, Microphone, shown));
        assert!(picture < millis(350), "{name}'s video froze for {picture:?}");
        assert!(sound < millis(150), "{name} was not heard for {sound:?}");
        let quality = sim.quality("bob", name, Camera).expect("quality was reported");
        assert!(quality["sent"] == true && quality["rid"] == "q" && quality["height"] == 180, "{quality}");
        assert_eq!(quality["limit"], "bandwidth");
    }
    let reports = sim.browser("bob").page.qualities.len();
    assert!(reports < 20, "bob received {reports} `quality` messages");
    for name in PEOPLE {
        assert!(sim.longest_gap("zoe", name, Camera, settled) < millis(100));
        let quality = sim.quality("zoe", name, Camera).expect("quality was reported");
        assert!(quality["rid"] == "h" && quality["limit"] == "none", "{quality}");
        let (_, wanted) = sim.browser(name).page.layers_told.last().expect("`layers` was sent");
        assert_eq!(wanted, &["q", "h"], "the highest layer is not needed and must be paused");
    }
}
