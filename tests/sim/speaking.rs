//! Who speaks, and who is heard in a large room.

use crate::media::{Microphone, NO_LEVEL, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const NAMES: [&str; 8] = ["ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal"];

/// Microphones of the simulation tell levels that fall from the loudest to nothing in two seconds, each from another
/// moment on.
fn room(seed: u64, loudest_above: usize) -> Sim {
    let mut world = World::new(seed);
    world.config.limits.loudest_above = loudest_above;
    let mut sim = Sim::with(world);
    for name in NAMES {
        sim.join(name);
        sim.run(millis(230));
    }
    sim.run(secs(2));
    sim
}

/// Packets that one listener gets of the others' microphones in ten seconds, by publisher.
fn heard(sim: &mut Sim, listener: &str) -> Vec<u64> {
    let others = NAMES.iter().filter(|name| **name != listener);
    let counts = |sim: &Sim| others.clone().map(|name| sim.counts(listener, name, Microphone).1).collect::<Vec<_>>();
    let before = counts(sim);
    sim.run(secs(10));
    counts(sim).iter().zip(before).map(|(now, before)| now - before).collect()
}

#[test]
fn in_a_large_room_three_are_heard_in_turn_and_nobody_sees_a_gap() {
    let mut sim = room(304, 6);
    let heard = heard(&mut sim, "ann");
    let total: u64 = heard.iter().sum();
    // Three of eight, one of whom may be the listener.
    assert!((900..=1_530).contains(&total), "{heard:?}");
    assert!(heard.iter().all(|packets| (20..450).contains(packets)), "everybody in turn: {heard:?}");
    for ((tag, ssrc), sealed) in &sim.tap.sealed {
        assert_eq!(sealed.missing(), 0, "browser {tag}, SSRC {ssrc}: what is held back leaves no gap");
    }
    assert!(sim.server.stats().packets_quiet > 0);
}

#[test]
fn in_a_small_room_everybody_is_heard() {
    let mut sim = room(301, 8);
    let heard = heard(&mut sim, "ann");
    assert!(heard.iter().all(|packets| *packets >= 498), "{heard:?}");
    assert_eq!(sim.server.stats().packets_quiet, 0);
}

#[test]
fn who_speaks_is_told_to_everybody_and_five_times_a_second_at_most() {
    let mut sim = room(302, 8);
    sim.run(secs(10));
    let seconds = sim.elapsed().as_secs() + 1;
    for name in NAMES {
        let told = &sim.browser(name).page.speaking;
        assert!((10..=5 * seconds as usize).contains(&told.len()), "{name} was told {} times", told.len());
        for other in NAMES {
            let id = &sim.browser(other).page.id;
            assert!(told.iter().any(|(_, ids)| ids.contains(id)), "{name} was never told of {other}");
        }
    }
}

#[test]
fn without_levels_no_more_are_heard_than_with_them_and_who_speaks_comes_first() {
    let mut world = World::new(303);
    world.config.limits.loudest_above = 6;
    // All packets of one size.
    world.rate = Rate { filler: 0, ..world.rate };
    let mut sim = Sim::with(world);
    for name in NAMES {
        sim.join(name);
        // Only the last one sends levels, of silence at first.
        sim.publication_mut(name, Microphone).level = Some(if name == "hal" { 120 } else { NO_LEVEL });
    }
    sim.run(secs(2));
    let before = heard(&mut sim, "eve");
    let carried = |heard: &[u64]| heard.iter().filter(|packets| **packets > 490).count();
    assert_eq!((carried(&before), before.iter().filter(|packets| **packets == 0).count()), (3, 4), "{before:?}");
    let told: Vec<_> = sim.browser("eve").page.speaking.iter().filter(|(_, ids)| !ids.is_empty()).collect();
    assert!(told.is_empty(), "nothing says that anybody speaks: {told:?}");
    sim.publication_mut("hal", Microphone).level = Some(20);
    let after = heard(&mut sim, "eve");
    assert!(*after.last().unwrap() > 490 && carried(&after) == 3, "{after:?}");
    let id = &sim.browser("hal").page.id;
    assert!(sim.browser("eve").page.speaking.iter().any(|(_, ids)| ids.contains(id)));
    sim.assert_no_gaps();
}
