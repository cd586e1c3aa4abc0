//! Only moderators can mute and remove participants and lock rooms.

use aq_server::server::Sizes;
use serde_json::{Value, json};

use crate::media::{Camera, Microphone};
use crate::sim::Sim;
use crate::story::{millis, secs};
use crate::token::token;
use crate::tokens::{claims, guarded, invite, refused};

/// A room with Ann, the moderator, Bob and Cat.
fn call(seed: u64) -> Sim {
    let mut sim = guarded(seed);
    invite(&mut sim, "ann", json!({"sub": "ann", "moderate": true}));
    invite(&mut sim, "bob", json!({"sub": "bob"}));
    invite(&mut sim, "cat", json!({}));
    sim.run(secs(2));
    sim.assert_complete("main");
    sim
}

fn moderate(sim: &mut Sim, moderator: &str, action: &str, target: Option<&str>) {
    let mut message = json!({"event": "moderate", "action": action});
    if let Some(target) = target {
        message["id"] = json!(sim.browser(target).page.id);
    }
    sim.say(moderator, &message);
}

/// Joins again with the resume secret of an earlier connection and a token with these claims.
fn come_back(sim: &mut Sim, name: &str, more: Value) {
    let secret = sim.browser(name).page.resume.clone();
    let query = format!("&resume={secret}&token={}", token(&claims(more)));
    sim.tell_changes(sim.tag(name), 1, secs(1));
    sim.join_as(name, |habits| habits.query = query);
}

/// Removes a participant, and expects the server to close it.
fn remove(sim: &mut Sim, moderator: &str, target: &str) {
    moderate(sim, moderator, "remove", Some(target));
    sim.tell_changes(sim.tag(target), 1, secs(1));
    sim.dismissed.insert(target.to_owned());
}

fn is_refused(sim: &mut Sim, name: &str, code: &str) {
    let (status, body) = refused(sim, name).unwrap_or_else(|| panic!("{name} was not refused"));
    assert_eq!((status, &body["code"], &body["retry"]), (403, &json!(code), &json!(false)), "{name}");
    sim.dismissed.insert(name.to_owned());
}

#[test]
fn a_participant_without_the_right_changes_nothing() {
    let mut sim = call(910);
    let on_cat = ["mute", "remove", "lower-hand", "spotlight", "promote"].map(|action| (action, Some("cat")));
    let on_room = ["lock", "unlock", "mute-all", "spotlight", "end"].map(|action| (action, None));
    for (action, target) in on_cat.into_iter().chain(on_room) {
        moderate(&mut sim, "bob", action, target);
    }
    sim.run(secs(2));
    assert_eq!(sim.browser("bob").page.error_codes(), ["forbidden"; 10]);
    for name in ["ann", "bob", "cat"] {
        let page = &sim.browser(name).page;
        assert!(page.mutes.is_empty() && page.left.is_empty() && page.locked == [(false, None)], "{name}");
    }
    assert!(sim.hears("ann", "cat"));
    invite(&mut sim, "dan", json!({}));
    sim.run(secs(2));
    sim.assert_complete("main");
}

#[test]
fn an_open_room_has_no_moderators() {
    let mut sim = Sim::new(911);
    sim.join("ann");
    sim.join_as("bob", |habits| habits.query = format!("&token={}", token(&claims(json!({"moderate": true})))));
    sim.run(secs(1));
    for name in ["ann", "bob"] {
        moderate(&mut sim, name, "remove", Some("ann"));
        moderate(&mut sim, name, "lock", None);
    }
    sim.run(secs(1));
    for name in ["ann", "bob"] {
        assert_eq!(sim.browser(name).page.error_codes(), ["forbidden"; 2]);
    }
    sim.assert_complete("main");
}

#[test]
fn a_muted_participant_is_not_heard_until_it_unmutes_itself() {
    let mut sim = call(912);
    let ids = ["ann", "bob"].map(|name| sim.browser(name).page.id.clone());
    moderate(&mut sim, "ann", "mute", Some("bob"));
    sim.run(millis(300));
    let muted = json!({"event": "mute", "id": ids[1], "source": "microphone", "muted": true, "by": ids[0]});
    for name in ["ann", "bob", "cat"] {
        assert_eq!(sim.browser(name).page.mutes, std::slice::from_ref(&muted), "{name}");
    }
    // Bob's page ignores the message and continues to send.
    let counts = |sim: &Sim| ["ann", "cat"].map(|name| sim.counts(name, "bob", Microphone).1);
    let before = counts(&sim);
    sim.run(secs(2));
    assert_eq!(counts(&sim), before, "audio of a muted participant was forwarded");
    assert!(
        sim.sees("ann", "bob") && sim.hears("ann", "cat") && sim.hears("bob", "ann"),
        "everything else must be forwarded"
    );
    let spoke = |sim: &Sim| {
        sim.browser("ann")
            .page
            .speaking
            .last()
            .is_some_and(|(_, ids)| ids.contains(&muted["id"].as_str().unwrap().to_owned()))
    };
    assert!(!spoke(&sim), "a muted participant must not be reported as speaking");
    // Neither rejoining nor muting again makes the microphone heard.
    come_back(&mut sim, "bob", json!({"sub": "bob"}));
    sim.run(secs(1));
    sim.say("bob", &json!({"event": "mute", "source": "microphone", "muted": true}));
    sim.say("bob", &json!({"event": "mute", "source": "camera", "muted": false}));
    sim.run(secs(2));
    assert!(!sim.hears("ann", "bob") && sim.sees("ann", "bob"));
    sim.say("bob", &json!({"event": "mute", "source": "microphone", "muted": false}));
    sim.run(secs(1));
    sim.assert_complete("main");
    assert_eq!(sim.browser("cat").page.mutes.last().unwrap()["muted"], false);
}

#[test]
fn a_removed_participant_is_notified_and_cannot_rejoin() {
    let mut sim = call(913);
    // Bob has joined twice.
    invite(&mut sim, "phone", json!({"sub": "bob"}));
    sim.run(secs(1));
    let secret = sim.browser("bob").page.resume.clone();
    sim.dismissed.insert("phone".to_owned());
    sim.tell_changes(sim.tag("phone"), 1, secs(1));
    remove(&mut sim, "ann", "bob");
    sim.run(secs(1));
    for name in ["bob", "phone"] {
        let browser = sim.browser(name);
        assert_eq!(browser.closed, Some((1008, "removed".to_owned())), "{name}");
        assert_eq!(browser.page.error_codes(), ["removed"], "{name}");
        assert_eq!(browser.page.errors[0].1["retry"], false);
    }
    assert_eq!(sim.browser("cat").page.left.len(), 2);
    sim.assert_complete("main");
    for (name, query) in [("bob-again", String::new()), ("bob-resuming", format!("&resume={secret}"))] {
        let query = format!("{query}&token={}", token(&claims(json!({"sub": "bob"}))));
        sim.join_as(name, |habits| habits.query = query);
        sim.run(secs(1));
        is_refused(&mut sim, name, "removed");
    }
    // Other rooms are not affected.
    let query = format!("&token={}", token(&json!({"room": "attic", "sub": "bob", "exp": 2_000_000_000})));
    let mut habits = sim.habits();
    habits.query = query;
    sim.arrive("upstairs", "attic", habits);
    // Without an identity in its token, a removed participant cannot be recognized.
    remove(&mut sim, "ann", "cat");
    sim.run(secs(1));
    assert_eq!(sim.browser("upstairs").closed, None);
    invite(&mut sim, "cat-again", json!({}));
    sim.run(secs(2));
    sim.assert_complete("main");
    // An empty room forgets which participants were removed.
    sim.leave("ann");
    sim.leave("cat-again");
    sim.run(secs(1));
    invite(&mut sim, "bob-at-last", json!({"sub": "bob"}));
    sim.run(secs(1));
    assert_eq!(sim.browser("bob-at-last").closed, None);
}

#[test]
fn moderators_cannot_remove_themselves_or_absent_participants() {
    let mut sim = call(914);
    moderate(&mut sim, "ann", "remove", Some("ann"));
    for action in ["mute", "remove"] {
        sim.say("ann", &json!({"event": "moderate", "action": action, "id": "nobody"}));
    }
    sim.run(secs(1));
    assert_eq!(sim.browser("ann").page.error_codes(), ["forbidden", "not-there", "not-there"]);
    // A participant of another room counts as absent.
    let query = format!("&token={}", token(&json!({"room": "attic", "moderate": true, "exp": 2_000_000_000})));
    let mut habits = sim.habits();
    habits.query = query;
    sim.arrive("dan", "attic", habits);
    sim.run(secs(1));
    moderate(&mut sim, "dan", "remove", Some("bob"));
    moderate(&mut sim, "dan", "mute", Some("bob"));
    moderate(&mut sim, "dan", "lock", None);
    sim.run(secs(1));
    assert_eq!(sim.browser("dan").page.error_codes(), ["not-there", "not-there"]);
    sim.assert_complete("main");
    assert_eq!(sim.browser("bob").page.locked, [(false, None)]);
}

#[test]
fn a_locked_room_admits_only_moderators_and_returning_participants() {
    let mut sim = call(915);
    let ann = sim.browser("ann").page.id.clone();
    moderate(&mut sim, "ann", "lock", None);
    moderate(&mut sim, "ann", "lock", None);
    sim.run(secs(1));
    for name in ["ann", "bob", "cat"] {
        assert_eq!(sim.browser(name).page.locked, [(false, None), (true, Some(ann.clone()))], "{name}");
    }
    invite(&mut sim, "dan", json!({}));
    sim.join_as("eve", |habits| {
        habits.query = format!("&resume=aaaaaaaaaaaaaaaaaaaaaaaaaa&token={}", token(&claims(json!({}))));
    });
    sim.run(secs(1));
    is_refused(&mut sim, "dan", "locked");
    is_refused(&mut sim, "eve", "locked");
    // Moderators may join, and learn that the room is locked.
    invite(&mut sim, "mod", json!({"moderate": true}));
    sim.run(secs(1));
    assert_eq!(sim.browser("mod").page.locked, [(true, None)]);
    // Earlier participants may return, at once or after the server has noticed that they left.
    let id = sim.browser("bob").page.id.clone();
    come_back(&mut sim, "bob", json!({"sub": "bob"}));
    sim.run(secs(1));
    assert_eq!(sim.browser("bob").page.id, id);
    let secret = sim.browser("bob").page.resume.clone();
    sim.crash("bob");
    sim.run(secs(31));
    assert!(sim.learnt_of_leaving("ann", &id).is_some());
    come_back(&mut sim, "bob", json!({"sub": "bob"}));
    sim.run(secs(2));
    sim.assert_complete("main");
    assert!(sim.sees("mod", "bob"));
    // Each resume secret admits one connection.
    let query = format!("&resume={secret}&token={}", token(&claims(json!({}))));
    sim.join_as("friend", |habits| habits.query = query);
    sim.run(secs(1));
    is_refused(&mut sim, "friend", "locked");
    // A removed participant may not return, with or without an identity.
    remove(&mut sim, "ann", "cat");
    sim.run(secs(1));
    come_back(&mut sim, "cat", json!({}));
    sim.run(secs(1));
    is_refused(&mut sim, "cat", "locked");
    // The lock stays when all moderators have left.
    sim.leave("ann");
    sim.leave("mod");
    sim.run(secs(1));
    invite(&mut sim, "fay", json!({}));
    sim.run(secs(1));
    is_refused(&mut sim, "fay", "locked");
    invite(&mut sim, "ann", json!({"sub": "ann", "moderate": true}));
    sim.run(secs(1));
    moderate(&mut sim, "ann", "unlock", None);
    sim.run(secs(1));
    invite(&mut sim, "gil", json!({}));
    sim.run(secs(2));
    assert_eq!(sim.browser("gil").page.locked, [(false, None)]);
    sim.assert_complete("main");
    assert!(sim.watched("gil", "bob", Camera).is_some());
}

#[test]
fn a_lock_ends_when_the_last_participant_leaves() {
    let mut sim = guarded(916);
    invite(&mut sim, "ann", json!({"moderate": true}));
    sim.run(secs(1));
    moderate(&mut sim, "ann", "lock", None);
    sim.run(secs(1));
    sim.leave("ann");
    sim.run(secs(1));
    invite(&mut sim, "bob", json!({}));
    sim.run(secs(1));
    assert_eq!(sim.browser("bob").page.locked, [(false, None)]);
    assert_eq!(sim.server.sizes().rooms, 1);
}

#[test]
fn a_moderator_mutes_all_others_but_no_moderators() {
    let mut sim = call(920);
    invite(&mut sim, "mod", json!({"moderate": true}));
    sim.run(secs(2));
    moderate(&mut sim, "ann", "mute-all", None);
    sim.run(millis(300));
    let muted = |sim: &Sim, viewer: &str| {
        let mutes = sim.browser(viewer).page.mutes.iter();
        mutes.map(|mute| mute["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = ["bob", "cat"].map(|name| sim.browser(name).page.id.clone());
    for viewer in ["ann", "bob", "cat", "mod"] {
        assert_eq!(muted(&sim, viewer), expected, "{viewer}");
    }
    // A second time changes nothing, and the pages send on.
    moderate(&mut sim, "ann", "mute-all", None);
    sim.run(secs(1));
    assert!(!sim.hears("ann", "bob") && !sim.hears("mod", "cat"));
    assert!(sim.hears("bob", "ann") && sim.hears("bob", "mod"), "moderators are not muted");
    assert_eq!(muted(&sim, "mod"), expected);
    sim.say("bob", &json!({"event": "mute", "source": "microphone", "muted": false}));
    sim.run(secs(1));
    assert!(sim.hears("ann", "bob") && !sim.hears("ann", "cat"));
}

#[test]
fn a_moderator_lowers_a_hand() {
    let mut sim = call(921);
    for name in ["cat", "bob"] {
        sim.say(name, &json!({"event": "hand", "raised": true}));
        sim.run(millis(100));
    }
    let (bob, cat) = (sim.browser("bob").page.id.clone(), sim.browser("cat").page.id.clone());
    assert_eq!(sim.browser("ann").page.hands, [cat.clone(), bob.clone()]);
    moderate(&mut sim, "ann", "lower-hand", Some("cat"));
    sim.run(millis(300));
    for viewer in ["ann", "cat"] {
        assert_eq!(sim.browser(viewer).page.hands, std::slice::from_ref(&bob), "{viewer}");
    }
    // It is down already.
    moderate(&mut sim, "ann", "lower-hand", Some("cat"));
    sim.say("cat", &json!({"event": "hand", "raised": true}));
    sim.run(millis(300));
    assert_eq!(sim.browser("ann").page.hands, [bob, cat]);
}

#[test]
fn a_spotlight_is_for_everyone_until_it_ends_or_its_participant_leaves() {
    let mut sim = call(922);
    let ids = ["bob", "cat"].map(|name| Some(sim.browser(name).page.id.clone()));
    let [bob, cat] = ids;
    moderate(&mut sim, "ann", "spotlight", Some("bob"));
    moderate(&mut sim, "ann", "spotlight", Some("bob"));
    sim.run(millis(300));
    invite(&mut sim, "dan", json!({}));
    sim.run(secs(1));
    assert_eq!(sim.browser("dan").page.spotlights, std::slice::from_ref(&bob), "in `welcome`");
    moderate(&mut sim, "ann", "spotlight", None);
    moderate(&mut sim, "ann", "spotlight", Some("cat"));
    sim.run(millis(300));
    sim.leave("cat");
    sim.run(secs(1));
    invite(&mut sim, "eve", json!({}));
    sim.run(secs(1));
    let all = [None, bob, None, cat, None];
    assert_eq!(sim.browser("ann").page.spotlights, all);
    assert_eq!(sim.browser("dan").page.spotlights, all[1..]);
    assert_eq!(sim.browser("eve").page.spotlights, [None]);
}

#[test]
fn a_promoted_participant_is_a_moderator_until_it_leaves() {
    let mut sim = call(923);
    moderate(&mut sim, "ann", "promote", Some("bob"));
    moderate(&mut sim, "ann", "promote", Some("bob"));
    sim.run(millis(300));
    let (ann, bob) = (sim.browser("ann").page.id.clone(), sim.browser("bob").page.id.clone());
    assert_eq!(sim.browser("cat").page.moderators, [ann, bob.clone()].into());
    assert_eq!(sim.browser("bob").page.rights["moderate"], true);
    // It is one after it has returned, too.
    come_back(&mut sim, "bob", json!({"sub": "bob"}));
    sim.run(secs(1));
    assert_eq!(sim.browser("bob").page.rights["moderate"], true);
    moderate(&mut sim, "bob", "lock", None);
    sim.run(millis(300));
    assert_eq!(sim.browser("ann").page.locked.last(), Some(&(true, Some(bob.clone()))));
    moderate(&mut sim, "bob", "unlock", None);
    sim.leave("bob");
    sim.run(secs(1));
    invite(&mut sim, "bob2", json!({"sub": "bob"}));
    sim.run(secs(1));
    assert_eq!(sim.browser("bob2").page.rights["moderate"], false, "a new participant");
    invite(&mut sim, "dan", json!({}));
    sim.run(secs(1));
    assert_eq!(sim.browser("dan").page.moderators.len(), 1);
}

#[test]
fn a_moderator_ends_the_call_for_everyone() {
    let mut sim = call(924);
    moderate(&mut sim, "ann", "end", None);
    for name in ["ann", "bob", "cat"] {
        sim.tell_changes(sim.tag(name), 1, secs(1));
        sim.dismissed.insert(name.to_owned());
    }
    sim.run(secs(1));
    for name in ["ann", "bob", "cat"] {
        assert_eq!(sim.browser(name).closed, Some((1008, "ended".to_owned())), "{name}");
        assert_eq!(sim.browser(name).page.error_codes(), ["ended"], "{name}");
    }
    assert_eq!(sim.server.sizes(), Sizes::default(), "nothing is left of the room");
    // The room can be used again.
    invite(&mut sim, "dan", json!({}));
    sim.run(secs(1));
    assert!(sim.browser("dan").page.participants.is_empty());
}
