//! A shared screen on a path that does not carry its full bitrate.

use serde_json::json;

use crate::media::{Camera, Microphone, Rate, Screen};
use crate::sim::{Sim, World};
use crate::story::secs;

const PEOPLE: [&str; 3] = ["ann", "ben", "cal"];

#[test]
fn a_screen_loses_frame_rate_first_and_has_precedence_over_tiles() {
    // The screen has about 900 kbit/s.
    let rate = Rate { filler: 600, delta_packets: 9, ..Rate::BROWSER };
    let mut sim = Sim::with(World { rate, ..World::new(750) });
    sim.join_looking_away(&PEOPLE);
    PEOPLE.iter().for_each(|name| sim.unpublish(name, Microphone));
    sim.publish("ann", Screen);
    sim.run(secs(1));
    for name in &PEOPLE[1..] {
        sim.view(name, "ann", Screen, 0, 0);
    }
    sim.watch("bob");
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.run(secs(1));
    PEOPLE.iter().for_each(|name| sim.show("bob", name, 360));
    sim.view("bob", "ann", Screen, 1_080, 0);
    // Out of 75, 75 and 150 pictures in ten seconds.
    for (capacity, [middle, highest]) in [(700_000, [0..77, 0..10]), (1_600_000, [60..77, 0..152])] {
        sim.narrow("bob", capacity);
        sim.run(secs(10));
        let settled = sim.now;
        sim.run(secs(10));
        let screen = sim.pictures("bob", "ann", Screen, settled);
        let is_thinned = middle.contains(&screen[1]) && highest.contains(&screen[2]);
        assert!(screen[0] >= 70 && is_thinned, "{screen:?} at {capacity}");
        let seen = sim.seen_since("bob", "ann", Screen, settled);
        assert!(seen.iter().all(|(_, stamp)| stamp.height == 1_080), "a screen must keep its height");
        let quality = sim.quality("bob", "ann", Screen).expect("quality was reported");
        assert_eq!((&quality["sent"], &quality["height"]), (&json!(true), &json!(1_080)));
        for name in PEOPLE {
            let seen = sim.seen_since("bob", name, Camera, settled);
            let larger = seen.iter().filter(|(_, stamp)| stamp.layer > 0).count();
            assert!(seen.len() >= 70, "{name} must be seen without interruption");
            assert!(
                larger == 0 || screen[2] > 100,
                "{name} has a higher layer in {larger} pictures at {capacity}: {screen:?}"
            );
        }
    }
    sim.widen("bob");
    sim.run(secs(12));
    assert_eq!(sim.quality("bob", "ann", Screen).expect("quality was reported")["limit"], "none");
    assert_eq!(PEOPLE.map(|name| sim.layer_seen("bob", name)), [Some(1); 3], "the path has capacity for all");
    sim.assert_decodable("bob");
}
