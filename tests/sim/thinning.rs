//! Temporal layers that are dropped where a path does not even carry the smallest simulcast layers.

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World};
use crate::story::secs;

const PEOPLE: [&str; 4] = ["ann", "ben", "cal", "dot"];

#[test]
fn temporal_layers_are_dropped_cleanly_and_return() {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(740) });
    sim.join_looking_away(&PEOPLE);
    PEOPLE[1..].iter().for_each(|name| sim.unpublish(name, Microphone));
    sim.watch("bob");
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.run(secs(1));
    PEOPLE.iter().for_each(|name| sim.show("bob", name, 180));
    sim.run(secs(3));
    // Four cameras of 150 kbit/s and audio need 700 kbit/s; the lowest temporal layers alone a quarter of that.
    sim.narrow("bob", 500_000);
    sim.run(secs(8));
    let settled = sim.now;
    sim.run(secs(10));
    let pictures = PEOPLE.map(|name| sim.pictures("bob", name, Camera, settled));
    let thinned = pictures.iter().filter(|pictures| pictures[2] < 100);
    assert!(thinned.count() >= 2, "at least two cameras must be thinned: {pictures:?}");
    for (name, pictures) in PEOPLE.iter().zip(pictures) {
        assert!(pictures[0] >= 65, "{name}: {pictures:?}, expected about 75 of the lowest layer");
        assert_eq!(sim.layer_seen("bob", name), Some(0));
    }
    sim.widen("bob");
    sim.run(secs(15));
    let back = sim.now;
    sim.run(secs(4));
    for name in PEOPLE {
        let [lowest, middle, highest] = sim.pictures("bob", name, Camera, back);
        assert!(lowest >= 29 && middle >= 29 && highest >= 58, "{name}: {lowest}, {middle}, {highest}");
    }
    let decoders = sim.assert_decodable("bob");
    assert_eq!(decoders.len(), PEOPLE.len());
}
