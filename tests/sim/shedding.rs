//! A server under overload: which service it reduces, in which order, and what it never reduces.

use std::time::Instant;

use crate::media::{Camera, Microphone, Rate, Screen};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const PEOPLE: [&str; 3] = ["ann", "bob", "cat"];

/// All ordered pairs of participants.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PEOPLE
        .into_iter()
        .flat_map(|one| PEOPLE.into_iter().filter(move |other| *other != one).map(move |other| (one, other)))
}

/// Asserts that audio continued without a gap since `since` and that chat works.
fn assert_sound_and_chat(sim: &mut Sim, since: Instant) {
    for (one, other) in pairs() {
        let gap = sim.longest_gap(one, other, Microphone, since);
        assert!(gap < millis(100), "{one} heard nothing of {other} for {gap:?}");
    }
    let lines = sim.browser("bob").page.chat.len();
    sim.chat("ann", "still there?");
    sim.run(millis(100));
    assert_eq!(sim.browser("bob").page.chat.len(), lines + 1);
}

/// Sets audio levels so that only `speaker` speaks.
fn speaks(sim: &mut Sim, speaker: &str) {
    for name in PEOPLE {
        sim.publication_mut(name, Microphone).level = Some(if name == speaker { 20 } else { 120 });
    }
}

/// The pairs of viewer and publisher where the viewer sees the publisher.
fn seen(sim: &Sim) -> Vec<(&'static str, &'static str)> {
    pairs().filter(|(one, other)| sim.sees(one, other)).collect()
}

/// For each pair, the layer of the publisher's camera that is sent, if any.
fn layers(sim: &Sim) -> Vec<Option<u8>> {
    pairs().map(|(one, other)| sim.sees(one, other).then(|| sim.layer_seen(one, other)).flatten()).collect()
}

fn limits(sim: &Sim) -> Vec<String> {
    let limit =
        |(one, other): (&str, &str)| sim.quality(one, other, Camera).expect("quality was reported")["limit"].as_str();
    pairs().map(|pair| limit(pair).expect("the limit is a string").to_owned()).collect()
}

#[test]
fn overload_reduces_service_step_by_step_but_not_audio_and_chat() {
    let mut sim = Sim::new(900);
    for name in PEOPLE {
        sim.join_with_layers(name);
    }
    sim.run_loaded(secs(1), 0.6);
    speaks(&mut sim, "bob");
    sim.run_loaded(secs(5), 0.6);
    for (one, other) in pairs() {
        sim.show(one, other, 720);
    }
    sim.run_loaded(secs(3), 0.8);
    assert_eq!(layers(&sim), [Some(2); 6]);
    assert_eq!(limits(&sim), ["none"; 6]);
    let since = sim.now;

    // First, joins are refused.
    sim.run_loaded(secs(4), 0.9);
    sim.dismissed.insert("dot".to_owned());
    sim.join("dot");
    sim.run_loaded(secs(3), 0.9);
    let (status, body) = sim.browser("dot").closed.clone().expect("the join is refused");
    assert_eq!((status, body.contains("\"full\"")), (503, true), "{body}");
    assert_eq!(sim.server.stats().stages, 0, "nobody in a call pays for those who join");
    assert_eq!((layers(&sim), limits(&sim)), (vec![Some(2); 6], vec!["none".to_owned(); 6]));

    // Then the upper layers of the only room are shed.
    sim.run_loaded(secs(2), 1.0);
    sim.run_loaded(secs(5), 0.8);
    assert_eq!(layers(&sim), [Some(0); 6]);
    let requested_layers =
        |sim: &Sim, name: &str| sim.browser(name).page.layers_told.last().expect("`layers` was sent").1.clone();
    for name in PEOPLE {
        assert_eq!(requested_layers(&sim, name), ["q"], "{name} must not send layers that no subscriber receives");
    }
    for (one, other) in pairs() {
        assert!(sim.longest_gap(one, other, Camera, since) < millis(200), "{one}'s picture of {other} froze");
    }

    // Then the video of silent participants: Ann has pinned Cat, and Bob spoke last.
    let since = sim.now;
    sim.view("ann", "cat", Camera, 720, 2);
    sim.run_loaded(secs(2), 1.0);
    sim.run_loaded(secs(5), 0.8);
    assert_eq!(seen(&sim), [("ann", "bob"), ("ann", "cat"), ("cat", "bob")]);
    assert_eq!(limits(&sim), ["server"; 6]);
    assert_sound_and_chat(&mut sim, since);

    // A participant may return meanwhile, and all service returns within seconds.
    sim.resume("bob");
    sim.run_loaded(secs(3), 0.8);
    assert!(sim.browser("bob").is_live() && sim.hears("ann", "bob") && sim.hears("bob", "ann"));
    sim.run_loaded(secs(4), 0.3);
    sim.join("eve");
    sim.run_loaded(secs(2), 0.3);
    assert!(sim.sees("ann", "eve") && sim.hears("ann", "eve"));
    for (one, other) in pairs() {
        sim.show(one, other, 720);
    }
    sim.run_loaded(secs(4), 0.3);
    // Bob returned with a camera without simulcast.
    assert_eq!(layers(&sim), [0, 2, 2, 2, 2, 0].map(Some));
}

/// Rooms of four, of which the second half began later.
fn rooms_of_four(sim: &mut Sim, count: usize) -> Vec<String> {
    let rooms: Vec<String> = (0..count).map(|room| format!("room{room}")).collect();
    for (number, room) in rooms.iter().enumerate() {
        for name in ["a", "b", "c", "d"] {
            sim.join_room(&format!("{name}{room}"), room);
        }
        if number + 1 == count / 2 {
            sim.run_loaded(secs(70), 0.5);
        }
    }
    sim.run_loaded(secs(5), 0.5);
    rooms
}

/// How many others each participant of a room sees and hears.
fn seen_and_heard(sim: &Sim, room: &str) -> (usize, usize) {
    let people = ["a", "b", "c", "d"].map(|name| format!("{name}{room}"));
    let pairs =
        people.iter().flat_map(|one| people.iter().filter(move |other| *other != one).map(move |other| (one, other)));
    let (mut seen, mut heard) = (0, 0);
    for (one, other) in pairs {
        seen += usize::from(sim.sees(one, other));
        heard += usize::from(sim.hears(one, other));
    }
    (seen, heard)
}

#[test]
fn some_rooms_pay_for_an_overload_and_the_others_keep_all() {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(904) });
    let rooms = rooms_of_four(&mut sim, 20);
    // One step, which saves a quarter of the work.
    sim.run_loaded(secs(3), 1.0);
    assert_eq!(sim.server.stats().stages, 1);
    sim.run_loaded(secs(5), 0.82);
    let found: Vec<_> = rooms.iter().map(|room| seen_and_heard(&sim, room)).collect();
    assert!(found.iter().all(|(_, heard)| *heard == 12), "everybody is heard: {found:?}");
    let reduced: Vec<usize> = (0..rooms.len()).filter(|room| found[*room].0 < 12).collect();
    assert!(!reduced.is_empty() && reduced.len() <= rooms.len() / 2, "{found:?}");
    assert!(reduced.iter().all(|room| *room >= rooms.len() / 2), "old rooms keep their video: {found:?}");
    for room in &reduced {
        let limit = |one: &str| sim.quality(one, &format!("b{}", rooms[*room]), Camera).map(|it| it["limit"].clone());
        assert_eq!(limit(&format!("a{}", rooms[*room])), Some("server".into()), "its participants are notified");
    }
    // All is back within 3 s after the overload.
    sim.run_loaded(secs(3), 0.5);
    sim.run_loaded(secs(1), 0.8);
    for room in &rooms {
        assert_eq!(seen_and_heard(&sim, room), (12, 12), "{room}");
    }
}

#[test]
fn a_speaker_is_seen_under_any_load() {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(903) });
    for name in PEOPLE {
        sim.join_with_layers(name);
    }
    sim.run(secs(3));
    speaks(&mut sim, "ann");
    sim.run_loaded(secs(4), 1.0);
    sim.run_loaded(secs(4), 0.8);
    assert_eq!(seen(&sim), [("bob", "ann"), ("cat", "ann")]);
    for speaker in ["bob", "cat", "ann", "cat"] {
        let since = sim.now;
        speaks(&mut sim, speaker);
        sim.run_loaded(secs(3), 0.8);
        let expected: Vec<_> = pairs().filter(|(_, other)| *other == speaker).collect();
        assert_eq!(seen(&sim), expected);
        for (viewer, _) in expected {
            let first = sim.seen_since(viewer, speaker, Camera, since)[0].0 - since;
            assert!(first < millis(1_500), "{viewer} saw {speaker} only after {first:?}");
        }
    }
}

#[test]
fn a_screen_stays_readable_under_any_load() {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(901) });
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.publish("ann", Screen);
    sim.run(secs(3));
    let since = sim.now;
    sim.run_loaded(secs(10), 1.0);
    assert!(sim.longest_gap("bob", "ann", Screen, since) < secs(1));
    sim.run_loaded(secs(5), 1.0);
    let height = |sim: &Sim| sim.quality("bob", "ann", Screen).map(|quality| quality["height"].clone());
    assert_eq!(height(&sim), Some(1_080.into()));
}

#[test]
fn many_participants_are_reallocated_over_several_turns() {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(902) });
    let rooms = rooms_of_four(&mut sim, 20);
    sim.run_loaded(secs(12), 1.0);
    sim.run_loaded(secs(2), 0.8);
    for room in &rooms {
        let (seen, heard) = seen_and_heard(&sim, room);
        assert!(seen <= 4, "{room}: {seen} pictures are sent, besides those of the last speaker");
        assert_eq!(heard, 12, "{room}");
    }
    let audio_gap = |room: &String| {
        sim.watched(&format!("a{room}"), &format!("b{room}"), Microphone).expect("audio was received").longest_gap
    };
    let gap = rooms.iter().map(audio_gap).max().expect("there are rooms");
    assert!(gap < millis(300), "{gap:?}");
}
