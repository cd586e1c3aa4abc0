//! A path that becomes much narrower during a call, and wide again.

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const CAMERAS: [&str; 5] = ["ann", "ben", "cal", "dot", "eva"];

/// The participants with audio.
const SOUNDS: [&str; 2] = ["ann", "ben"];

#[test]
fn the_bitrate_follows_a_drop_and_a_rise_of_the_capacity() {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(710) });
    sim.join_looking_away(&CAMERAS);
    CAMERAS[SOUNDS.len()..].iter().for_each(|name| sim.unpublish(name, Microphone));
    sim.watch("bob");
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.narrow("bob", 3_000_000);
    sim.run(millis(400));
    CAMERAS.iter().for_each(|name| sim.show("bob", name, 360));
    sim.run(secs(6));
    let settled = sim.now;
    sim.run(secs(6));
    let before = sim.received("bob", settled);
    assert!(before >= 1_800_000, "{before} bit/s of 3 Mbit/s");
    let dropped = sim.now;
    sim.narrow("bob", 500_000);
    sim.run(secs(2));
    let followed = sim.now;
    sim.run(secs(1));
    let sent = sim.offered("bob", followed);
    assert!(sent < 500_000, "{sent} bit/s are still sent 2 s after the drop");
    sim.run(secs(3));
    let settled = sim.now;
    sim.run(secs(9));
    let (sent, waited) = (sim.offered("bob", followed), sim.queueing("bob", followed));
    assert!((200_000..500_000).contains(&sent) && waited < millis(170), "{sent} bit/s, {waited:?}");
    for name in SOUNDS {
        let silence = sim.longest_gap("bob", name, Microphone, dropped);
        assert!(silence < millis(400), "{name} was not heard for {silence:?}");
    }
    let goodput = sim.goodput("bob", settled);
    assert!(goodput >= 350_000, "{goodput} of 500 kbit/s");
    for name in CAMERAS {
        let gaps = sim.gaps("bob", name, Camera, settled);
        let longest = gaps.into_iter().max();
        assert!(longest.is_some_and(|gap| gap < secs(3)), "{name}'s video froze for {longest:?} at 500 kbit/s");
    }
    let widened = sim.now;
    sim.narrow("bob", 3_000_000);
    let back = (1..=15).find(|_| {
        let since = sim.now;
        sim.run(secs(1));
        sim.received("bob", since) >= before * 4 / 5
    });
    assert!(back.is_some(), "only {} bit/s in 15 s", sim.received("bob", widened));
    sim.run(secs(3));
    for name in CAMERAS {
        assert!(sim.sees("bob", name), "{name} must be seen on a wide path");
    }
    sim.assert_decodable("bob");
}

/// A camera starts during an outage on a path without other media: the probes are lost and no feedback arrives.
#[test]
fn a_path_without_media_is_probed_again() {
    for seconds in [2, 5, 9] {
        let mut sim = Sim::new(430 + seconds);
        sim.join_as("ann", |habits| habits.sources = vec![Camera]);
        let bob = sim.watch("bob");
        sim.run(secs(5));
        sim.links[bob].down.is_partitioned = true;
        sim.run(secs(seconds));
        sim.unpublish("ann", Camera);
        sim.run(secs(1));
        sim.publish("ann", Camera);
        sim.run(secs(1));
        sim.links[bob].down.is_partitioned = false;
        sim.run(secs(6));
        assert!(sim.sees("bob", "ann"), "after {seconds} s: {:?}", sim.browser("bob").page.qualities.last());
    }
}
