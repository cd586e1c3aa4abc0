//! Raised hands, reactions and new names.

use serde_json::{Value, json};

use crate::media::Rate;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};
use crate::tokens::{guarded, invite};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

/// A room with Ann, Bob and Cat, who watch.
fn room(seed: u64) -> Sim {
    let mut sim = sparse(seed);
    for name in ["ann", "bob", "cat"] {
        sim.watch(name);
    }
    sim.run(secs(1));
    sim
}

fn raise(sim: &mut Sim, name: &str, raised: bool) {
    sim.say(name, &json!({"event": "hand", "raised": raised}));
    sim.run(millis(100));
}

fn react(sim: &mut Sim, name: &str, reaction: &str) {
    sim.say(name, &json!({"event": "reaction", "reaction": reaction}));
}

fn rename(sim: &mut Sim, name: &str, new: &str) {
    sim.say(name, &json!({"event": "rename", "name": new}));
    sim.run(millis(100));
}

/// The tags of the participants whose hands a page shows, in order.
fn hands(sim: &Sim, viewer: &str) -> Vec<String> {
    let name = |id: &String| sim.browser(viewer).page.participants.get(id).cloned().unwrap_or_else(|| "own".to_owned());
    sim.browser(viewer).page.hands.iter().map(name).collect()
}

#[test]
fn hands_are_shown_to_everyone_in_the_order_of_raising() {
    let mut sim = room(1_400);
    raise(&mut sim, "cat", true);
    raise(&mut sim, "ann", true);
    // Raising again does not move a hand.
    raise(&mut sim, "cat", true);
    assert_eq!(hands(&sim, "bob"), ["cat", "ann"]);
    assert_eq!(hands(&sim, "ann"), ["cat", "own"], "its own hand has its place in the order");
    sim.watch("dan");
    sim.run(secs(1));
    assert_eq!(hands(&sim, "dan"), ["cat", "ann"], "hands raised before joining");
    raise(&mut sim, "cat", false);
    raise(&mut sim, "cat", true);
    for viewer in ["bob", "dan"] {
        assert_eq!(hands(&sim, viewer), ["ann", "cat"], "{viewer}");
    }
    sim.leave("ann");
    sim.run(secs(1));
    sim.watch("eve");
    sim.run(secs(1));
    for viewer in ["bob", "dan", "eve"] {
        assert_eq!(hands(&sim, viewer), ["cat"], "the hand of a participant who has left: {viewer}");
    }
}

#[test]
fn a_participant_who_returns_keeps_its_hand_and_name() {
    let mut sim = room(1_401);
    raise(&mut sim, "bob", true);
    raise(&mut sim, "ann", true);
    rename(&mut sim, "bob", "Bob Lee");
    sim.crash("bob");
    sim.run(secs(3));
    sim.resume("bob");
    sim.run(secs(1));
    assert_eq!(hands(&sim, "cat"), ["Bob Lee", "ann"]);
    assert_eq!(hands(&sim, "bob"), ["own", "ann"], "its own hand, after it has returned");
    assert_eq!(sim.browser("bob").page.name, "Bob Lee");
    raise(&mut sim, "bob", false);
    assert_eq!(hands(&sim, "cat"), ["ann"]);
}

#[test]
fn reactions_reach_the_others_and_are_not_kept() {
    let mut sim = room(1_402);
    react(&mut sim, "ann", "\u{1f44d}\u{1f3fd}");
    sim.run(millis(200));
    let ann = sim.browser("ann").page.id.clone();
    for name in ["bob", "cat"] {
        let expected = [(ann.clone(), "\u{1f44d}\u{1f3fd}".to_owned())];
        assert_eq!(sim.browser(name).page.reactions, expected, "{name}");
    }
    for bad in ["", " ", "a b", "\u{7}", &"\u{1f44d}".repeat(9)] {
        react(&mut sim, "ann", bad);
    }
    sim.run(secs(1));
    assert_eq!(sim.browser("ann").page.error_codes(), ["bad-reaction"; 5]);
    assert!(sim.browser("ann").page.reactions.is_empty(), "a sender gets no copy");
    sim.watch("dan");
    sim.run(secs(1));
    assert!(sim.browser("dan").page.reactions.is_empty());
    assert_eq!(sim.browser("cat").page.reactions.len(), 1);
}

#[test]
fn a_new_name_is_normalised_and_shown_to_everyone() {
    let mut sim = room(1_403);
    let bob = sim.browser("bob").page.id.clone();
    rename(&mut sim, "bob", " Bob \u{202e}Lee ");
    // The same name again is no change.
    rename(&mut sim, "bob", "Bob Lee");
    for name in ["ann", "cat"] {
        assert_eq!(sim.browser(name).page.participants[&bob], "Bob Lee", "{name}");
    }
    assert_eq!(sim.browser("bob").page.name, "Bob Lee");
    rename(&mut sim, "bob", "\u{200b} \u{202e}");
    assert_eq!(sim.browser("bob").page.error_codes(), ["bad-name"]);
    sim.chat("bob", "hi");
    sim.watch("dan");
    sim.run(secs(1));
    assert_eq!(sim.browser("dan").page.participants[&bob], "Bob Lee");
    assert_eq!(sim.browser("ann").page.chat[0].name, "Bob Lee");
    sim.leave("bob");
    sim.run(secs(1));
    assert_eq!(sim.browser("ann").page.left.last().map(|(_, _, name)| name.as_str()), Some("Bob Lee"));
}

#[test]
fn a_name_from_the_token_cannot_be_changed() {
    let mut sim = guarded(1_404);
    invite(&mut sim, "ann", json!({"name": "Ann Lee"}));
    invite(&mut sim, "bob", json!({}));
    sim.run(secs(1));
    rename(&mut sim, "ann", "Root");
    rename(&mut sim, "bob", "Robert");
    let names: Vec<_> = sim.browser("bob").page.participants.values().cloned().collect();
    assert_eq!((names, sim.browser("ann").page.error_codes()), (vec!["Ann Lee".to_owned()], vec!["forbidden"]));
    assert_eq!(sim.browser("bob").page.name, "Robert");
}

/// One participant who sends as fast as it may reaches the others at a bounded rate, and stays in the room.
#[test]
fn gestures_are_limited() {
    let mut sim = room(1_405);
    let gesture = |round: u64| -> Value {
        match round % 3 {
            0 => json!({"event": "reaction", "reaction": "\u{1f44f}"}),
            1 => json!({"event": "hand", "raised": round.is_multiple_of(2)}),
            _ => json!({"event": "rename", "name": format!("ann {round}")}),
        }
    };
    for round in 0..100 {
        sim.say("ann", &gesture(round));
        sim.run(millis(100));
    }
    let page = &sim.browser("ann").page;
    let refused = page.error_codes().iter().filter(|code| **code == "gesture-too-fast").count();
    assert_eq!((refused, page.errors.len()), (61, 61), "20 at once and 2 a second in 10 s are let through");
    assert_eq!(sim.browser("ann").closed, None, "too many gestures are no fault");
    sim.run(secs(5));
    react(&mut sim, "ann", "\u{1f44f}");
    sim.run(secs(1));
    assert_eq!(sim.browser("ann").page.errors.len(), 61);
}
