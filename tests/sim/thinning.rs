//! Pictures that are left out where a path does not carry the smallest layers whole.

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World};
use crate::story::secs;

const PEOPLE: [&str; 4] = ["ann", "ben", "cal", "dot"];

#[test]
fn pictures_are_left_out_cleanly_and_come_back() {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(740) });
    sim.join_looking_away(&PEOPLE);
    PEOPLE[1..].iter().for_each(|name| sim.unpublish(name, Microphone));
    sim.watch("bob");
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.run(secs(1));
    PEOPLE.iter().for_each(|name| sim.show("bob", name, 180));
    sim.run(secs(3));
    // Four times 150 kbit/s and sound need 700; the lowest temporal layers alone a quarter.
    sim.narrow("bob", 500_000);
    sim.run(secs(8));
    let settled = sim.now;
    sim.run(secs(10));
    let pictures = PEOPLE.map(|name| sim.pictures("bob", name, Camera, settled));
    let thinned = pictures.iter().filter(|pictures| pictures[2] < 100);
    assert!(thinned.count() >= 2, "some are thinned: {pictures:?}");
    for (name, pictures) in PEOPLE.iter().zip(pictures) {
        assert!(pictures[0] >= 65, "{name}: {pictures:?} of 75 of the lowest");
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
