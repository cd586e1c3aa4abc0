//! The waiting room: clients that knock at a locked room.

use std::fmt::Write;

use aq_server::server::Sizes;
use serde_json::json;

use crate::sim::Sim;
use crate::story::{millis, secs};
use crate::token::token;
use crate::tokens::{claims, guarded, invite, refused};

/// A locked room with Ann, the moderator, and Bob.
fn locked(seed: u64) -> Sim {
    let mut sim = guarded(seed);
    invite(&mut sim, "ann", json!({"moderate": true}));
    invite(&mut sim, "bob", json!({}));
    sim.run(secs(2));
    moderate(&mut sim, "ann", "lock");
    sim
}

fn moderate(sim: &mut Sim, moderator: &str, action: &str) {
    sim.say(moderator, &json!({"event": "moderate", "action": action}));
    sim.run(millis(300));
}

fn knock(sim: &mut Sim, name: &str) {
    let query = format!("&knock=1&token={}", token(&claims(json!({}))));
    sim.join_as(name, |habits| habits.query = query);
    sim.run(millis(300));
}

fn admit(sim: &mut Sim, moderator: &str, name: &str, admitted: bool) {
    let knocks = sim.browser(moderator).page.knocks.iter();
    let ids: Vec<String> = knocks.filter(|(_, other)| other == name).map(|(id, _)| id.clone()).collect();
    let [id] = &ids[..] else { panic!("{name} knocks {} times", ids.len()) };
    sim.say(moderator, &json!({"event": "admit", "id": id, "admitted": admitted}));
    sim.run(millis(300));
}

fn knocks(sim: &Sim, moderator: &str) -> Vec<String> {
    sim.browser(moderator).page.knocks.iter().map(|(_, name)| name.clone()).collect()
}

fn is_closed(sim: &mut Sim, name: &str, code: &str) {
    assert_eq!(sim.browser(name).closed, Some((1008, code.to_owned())), "{name}");
    assert_eq!(sim.browser(name).page.error_codes(), [code], "{name}");
    sim.dismissed.insert(name.to_owned());
}

#[test]
fn a_client_that_knocks_waits_until_a_moderator_admits_it() {
    let mut sim = locked(1_500);
    knock(&mut sim, "cat");
    knock(&mut sim, "dan");
    assert_eq!(knocks(&sim, "ann"), ["cat", "dan"]);
    assert_eq!((&sim.browser("cat").page.positions[..], &sim.browser("dan").page.positions[..]), (&[1][..], &[2][..]));
    // Chat and media messages of a client that waits have no effect.
    sim.chat("dan", "let me in");
    sim.say("dan", &json!({"event": "moderate", "action": "unlock"}));
    sim.say("dan", &json!({"event": "admit", "id": "dan", "admitted": true}));
    sim.run(secs(60));
    assert!(sim.browser("ann").page.chat.is_empty() && sim.browser("dan").page.id.is_empty());
    admit(&mut sim, "ann", "cat", true);
    sim.run(secs(2));
    assert_eq!((knocks(&sim, "ann"), &sim.browser("dan").page.positions[..]), (vec!["dan".to_owned()], &[2, 1][..]));
    assert!(sim.sees("cat", "ann") && sim.hears("bob", "cat"));
    assert!(!sim.browser("cat").page.participants.values().any(|name| name == "dan"));
    admit(&mut sim, "ann", "dan", true);
    sim.run(secs(2));
    sim.assert_complete("main");
}

#[test]
fn a_client_that_is_turned_away_is_notified_and_nobody_else_is() {
    let mut sim = locked(1_501);
    knock(&mut sim, "cat");
    admit(&mut sim, "ann", "cat", false);
    is_closed(&mut sim, "cat", "not-admitted");
    assert!(knocks(&sim, "ann").is_empty());
    assert_eq!(sim.browser("bob").page.participants.len(), 1);
    // It has gone.
    sim.say("ann", &json!({"event": "admit", "id": "w4", "admitted": true}));
    sim.run(millis(300));
    assert_eq!(sim.browser("ann").page.error_codes(), ["not-there"]);
}

#[test]
fn only_moderators_see_and_admit_those_who_wait() {
    let mut sim = locked(1_502);
    knock(&mut sim, "cat");
    let (id, _) = sim.browser("ann").page.knocks[0].clone();
    sim.say("bob", &json!({"event": "admit", "id": id, "admitted": true}));
    sim.run(secs(1));
    assert_eq!(sim.browser("bob").page.error_codes(), ["forbidden"]);
    assert!(sim.browser("cat").page.id.is_empty());
    // New moderators see who waits.
    let bob = sim.browser("bob").page.id.clone();
    sim.say("ann", &json!({"event": "moderate", "action": "promote", "id": bob}));
    invite(&mut sim, "mod", json!({"moderate": true}));
    sim.run(secs(1));
    for moderator in ["ann", "bob", "mod"] {
        assert_eq!(knocks(&sim, moderator), ["cat"], "{moderator}");
    }
    admit(&mut sim, "bob", "cat", true);
    sim.run(secs(1));
    for moderator in ["ann", "bob", "mod"] {
        assert!(knocks(&sim, moderator).is_empty(), "{moderator}");
    }
    sim.assert_complete("main");
}

#[test]
fn a_client_that_leaves_or_vanishes_waits_no_more() {
    let mut sim = locked(1_503);
    for name in ["cat", "dan", "eve"] {
        knock(&mut sim, name);
    }
    sim.say("cat", &json!({"event": "leave"}));
    sim.run(millis(300));
    assert_eq!(knocks(&sim, "ann"), ["dan", "eve"]);
    sim.crash("dan");
    sim.run(secs(1));
    assert_eq!((knocks(&sim, "ann"), sim.browser("eve").page.positions.last()), (vec!["eve".to_owned()], Some(&1)));
    sim.vanish("eve");
    sim.run(secs(60));
    assert!(knocks(&sim, "ann").is_empty());
    for name in ["cat", "dan", "eve"] {
        sim.dismissed.insert(name.to_owned());
    }
}

#[test]
fn unlocking_admits_all_and_so_does_the_end_of_the_room() {
    let mut sim = locked(1_504);
    knock(&mut sim, "cat");
    knock(&mut sim, "dan");
    moderate(&mut sim, "ann", "unlock");
    sim.run(secs(2));
    sim.assert_complete("main");
    moderate(&mut sim, "ann", "lock");
    knock(&mut sim, "eve");
    for name in ["ann", "bob", "cat", "dan"] {
        sim.leave(name);
    }
    sim.run(secs(2));
    assert!(!sim.browser("eve").page.id.is_empty() && sim.browser("eve").page.participants.is_empty());
    sim.assert_complete("main");
}

#[test]
fn the_end_of_the_call_is_the_end_for_those_who_wait() {
    let mut sim = locked(1_505);
    knock(&mut sim, "cat");
    for name in ["ann", "bob"] {
        sim.tell_changes(sim.tag(name), 1, secs(1));
        sim.dismissed.insert(name.to_owned());
    }
    moderate(&mut sim, "ann", "end");
    sim.run(secs(1));
    is_closed(&mut sim, "cat", "ended");
    assert_eq!(sim.server.sizes(), Sizes::default());
}

#[test]
fn the_queue_is_limited_and_a_full_room_admits_nobody() {
    let mut world = crate::tokens::world(1_506);
    world.config.limits.max_room_size = 3;
    let mut sim = Sim::with(world);
    invite(&mut sim, "ann", json!({"moderate": true}));
    invite(&mut sim, "bob", json!({}));
    sim.run(secs(1));
    moderate(&mut sim, "ann", "lock");
    let mut last = String::new();
    for number in 0..51 {
        last.clear();
        write!(last, "w{number}").unwrap();
        knock(&mut sim, &last);
    }
    let (status, body) = refused(&sim, &last).expect("51 are too many");
    assert_eq!((status, &body["code"], &body["retry"]), (503, &json!("waiting-full"), &json!(true)));
    sim.dismissed.insert(last);
    admit(&mut sim, "ann", "w0", true);
    admit(&mut sim, "ann", "w1", true);
    assert_eq!(sim.browser("ann").page.error_codes(), ["room-full"]);
    assert_eq!((knocks(&sim, "ann").len(), sim.browser("w1").page.id.as_str()), (49, ""));
    moderate(&mut sim, "ann", "unlock");
    for number in 1..50 {
        is_closed(&mut sim, &format!("w{number}"), "room-full");
    }
    sim.run(secs(1));
    sim.assert_complete("main");
}

#[test]
fn without_knocking_a_locked_room_refuses_as_before() {
    let mut sim = locked(1_507);
    invite(&mut sim, "cat", json!({}));
    sim.run(secs(1));
    let (status, body) = refused(&sim, "cat").expect("the room is locked");
    assert_eq!((status, &body["code"]), (403, &json!("locked")));
    sim.dismissed.insert("cat".to_owned());
    assert!(knocks(&sim, "ann").is_empty());
}

#[test]
fn one_network_fills_only_a_part_of_the_waiting_room() {
    let mut sim = locked(1_520);
    for number in 0..11 {
        let query = format!("&knock=1&token={}", token(&claims(json!({}))));
        sim.join_as(&format!("mallory{number}"), |habits| {
            habits.query = query;
            habits.addrs[0].set_ip([203, 0, 113, 7].into());
        });
        sim.run(millis(100));
    }
    let (status, body) = refused(&sim, "mallory10").expect("it is refused");
    assert_eq!((status, body["code"].as_str()), (503, Some("waiting-full")));
    sim.dismissed.insert("mallory10".to_owned());
    knock(&mut sim, "cat");
    assert_eq!(knocks(&sim, "ann").len(), 11);
    admit(&mut sim, "ann", "cat", true);
    sim.run(secs(2));
    assert!(sim.sees("ann", "cat"));
}

#[test]
fn a_person_who_is_removed_while_another_connection_waits_stays_out() {
    let mut sim = guarded(1_521);
    invite(&mut sim, "ann", json!({"moderate": true}));
    invite(&mut sim, "bob", json!({"sub": "bob"}));
    sim.run(secs(2));
    moderate(&mut sim, "ann", "lock");
    let query = format!("&knock=1&token={}", token(&claims(json!({"sub": "bob"}))));
    sim.join_as("bob2", |habits| habits.query = query);
    sim.run(secs(1));
    let bob = sim.browser("bob").page.id.clone();
    sim.say("ann", &json!({"event": "moderate", "action": "remove", "id": bob}));
    sim.run(secs(1));
    is_closed(&mut sim, "bob", "removed");
    moderate(&mut sim, "ann", "unlock");
    is_closed(&mut sim, "bob2", "removed");
}
