//! Active speakers, and which participants are heard in a large room.

use crate::media::{Microphone, NO_LEVEL, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const NAMES: [&str; 8] = ["ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal"];

/// A room whose microphones report levels that fall from the loudest to silence every two seconds, with shifted phases.
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

/// Audio packets that a listener receives from each other participant in ten seconds.
fn heard(sim: &mut Sim, listener: &str) -> Vec<u64> {
    let others = NAMES.iter().filter(|name| **name != listener);
    let counts = |sim: &Sim| others.clone().map(|name| sim.counts(listener, name, Microphone).1).collect::<Vec<_>>();
    let before = counts(sim);
    sim.run(secs(10));
    counts(sim).iter().zip(before).map(|(now, before)| now - before).collect()
}

#[test]
fn in_a_large_room_three_are_heard_in_turn_without_sequence_gaps() {
    let mut sim = room(304, 6);
    let heard = heard(&mut sim, "ann");
    let total: u64 = heard.iter().sum();
    // Three of eight are forwarded, one of which may be the listener.
    assert!((900..=1_530).contains(&total), "{heard:?}");
    assert!(
        heard.iter().all(|packets| (20..450).contains(packets)),
        "every participant must be heard in turn: {heard:?}"
    );
    for ((tag, ssrc), sealed) in &sim.tap.sealed {
        assert_eq!(sealed.missing(), 0, "browser {tag}, SSRC {ssrc}: sequence numbers skipped");
    }
    assert!(sim.server.stats().packets_not_loudest > 0);
}

#[test]
fn in_a_small_room_every_participant_is_heard() {
    let mut sim = room(301, 8);
    let heard = heard(&mut sim, "ann");
    assert!(heard.iter().all(|packets| *packets >= 498), "{heard:?}");
    assert_eq!(sim.server.stats().packets_not_loudest, 0);
}

#[test]
fn speakers_are_reported_to_every_participant_at_most_five_times_a_second() {
    let mut sim = room(302, 8);
    sim.run(secs(10));
    let seconds = sim.elapsed().as_secs() + 1;
    for name in NAMES {
        let messages = &sim.browser(name).page.speaking;
        assert!((10..=5 * seconds as usize).contains(&messages.len()), "{name} received {} messages", messages.len());
        for other in NAMES {
            let id = &sim.browser(other).page.id;
            assert!(messages.iter().any(|(_, ids)| ids.contains(id)), "{name} was never notified that {other} speaks");
        }
    }
}

#[test]
fn without_levels_the_number_heard_is_limited_and_known_speakers_come_first() {
    let mut world = World::new(303);
    world.config.limits.loudest_above = 6;
    // All packets have the same size.
    world.rate = Rate { filler: 0, ..world.rate };
    let mut sim = Sim::with(world);
    for name in NAMES {
        sim.join(name);
        // Only the last participant sends levels, at first of silence.
        sim.publication_mut(name, Microphone).level = Some(if name == "hal" { 120 } else { NO_LEVEL });
    }
    sim.run(secs(2));
    let before = heard(&mut sim, "eve");
    let carried = |heard: &[u64]| heard.iter().filter(|packets| **packets > 490).count();
    assert_eq!((carried(&before), before.iter().filter(|packets| **packets == 0).count()), (3, 4), "{before:?}");
    let speaking: Vec<_> = sim.browser("eve").page.speaking.iter().filter(|(_, ids)| !ids.is_empty()).collect();
    assert!(speaking.is_empty(), "reported speakers without evidence: {speaking:?}");
    sim.publication_mut("hal", Microphone).level = Some(20);
    let after = heard(&mut sim, "eve");
    assert!(*after.last().unwrap() > 490 && carried(&after) == 3, "{after:?}");
    let id = &sim.browser("hal").page.id;
    assert!(sim.browser("eve").page.speaking.iter().any(|(_, ids)| ids.contains(id)));
    sim.assert_no_gaps();
}
