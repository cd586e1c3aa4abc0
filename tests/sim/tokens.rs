//! A token is required to join, and defines the rights of its holder.

use aq_server::config::Secret;
use serde_json::{Value, json};

use crate::media::{Camera, Microphone, Rate, Source};
use crate::sim::{Sim, World};
use crate::story::secs;
use crate::token::{SECRET, token};

/// The start of the simulation, in seconds since 1970.
const START: u64 = 1_000_000_000;

/// A server that requires tokens.
pub fn guarded(seed: u64) -> Sim {
    Sim::with(world(seed))
}

/// The world of such a server.
pub fn world(seed: u64) -> World {
    let mut world = World { rate: Rate::SPARSE, ..World::new(seed) };
    world.config.token_secret = Some(Secret::new(SECRET.as_bytes()).unwrap());
    world
}

/// Claims of a token for room `main` that expires in an hour, with additional claims.
pub fn claims(more: Value) -> Value {
    let mut claims = json!({"room": "main", "exp": START + 3_600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

/// Joins with a token with these additional claims.
pub fn invite(sim: &mut Sim, name: &str, more: Value) {
    let query = format!("&token={}", token(&claims(more)));
    sim.join_as(name, |habits| habits.query = query);
}

/// Status and body of the HTTP response, if the join was refused.
pub fn refused(sim: &Sim, name: &str) -> Option<(u16, Value)> {
    let (status, body) = sim.browser(name).closed.as_ref()?;
    Some((*status, serde_json::from_str(body).expect("a refusal is JSON")))
}

#[test]
fn a_client_without_a_token_is_refused_unnoticed_by_others() {
    let mut sim = guarded(900);
    invite(&mut sim, "ann", json!({}));
    sim.run(secs(1));
    sim.join("bob");
    sim.join_as("cat", |habits| habits.query = format!("&token={}", token(&claims(json!({"room": "other"})))));
    sim.run(secs(1));
    for name in ["bob", "cat"] {
        let (status, body) = refused(&sim, name).expect("the join is refused");
        assert_eq!((status, &body["code"], &body["retry"]), (401, &json!("unauthorized"), &json!(false)), "{name}");
        sim.dismissed.insert(name.to_owned());
    }
    assert!(sim.browser("ann").page.participants.is_empty());
    invite(&mut sim, "dan", json!({}));
    sim.run(secs(2));
    sim.assert_complete("main");
    assert!(sim.sees("ann", "dan") && sim.hears("dan", "ann"));
}

#[test]
fn a_token_names_its_holder() {
    let mut sim = guarded(901);
    invite(&mut sim, "ann", json!({"name": " Ann \u{202e}Lee"}));
    invite(&mut sim, "bob", json!({}));
    sim.run(secs(1));
    let names: Vec<_> = sim.browser("bob").page.participants.values().collect();
    assert_eq!(names, ["Ann Lee"]);
    assert_eq!(sim.browser("ann").page.name, "Ann Lee");
    assert_eq!(sim.browser("bob").page.name, "bob");
}

#[test]
fn the_server_enforces_rights() {
    let mut sim = guarded(902);
    invite(&mut sim, "ann", json!({}));
    invite(&mut sim, "watcher", json!({"publish": false}));
    invite(&mut sim, "camera", json!({"subscribe": false}));
    invite(&mut sim, "ghost", json!({"publish": false, "subscribe": false}));
    sim.run(secs(3));
    let rights = |publish, subscribe| json!({"publish": publish, "subscribe": subscribe, "moderate": false});
    for (name, expected) in [
        ("ann", rights(true, true)),
        ("watcher", rights(false, true)),
        ("camera", rights(true, false)),
        ("ghost", rights(false, false)),
    ] {
        assert_eq!(sim.browser(name).page.rights, expected, "{name}");
    }
    let own = |sim: &Sim, name: &str| sim.browser(name).page.tracks.iter().filter(|track| track.own).count();
    let received = |sim: &Sim, name: &str| sim.browser(name).page.received().count();
    let lines = |sim: &Sim| ["ann", "watcher", "camera", "ghost"].map(|name| (own(sim, name), received(sim, name)));
    assert_eq!(lines(&sim), [(2, 2), (0, 4), (2, 0), (0, 0)]);
    for viewer in ["ann", "watcher"] {
        assert!(sim.sees(viewer, "camera") && sim.hears(viewer, "camera"), "{viewer}");
    }
    assert!(sim.sees("watcher", "ann"));
    // They try to exceed their rights.
    for name in ["watcher", "ghost"] {
        sim.publish(name, Source::Screen);
        sim.publish(name, Camera);
    }
    let camera = sim.browser("camera").page.id.clone();
    sim.say(
        "ghost",
        &json!({"event": "view", "views": [
            {"id": camera, "source": "camera", "width": 640, "height": 360, "priority": 2},
        ]}),
    );
    sim.publish("ann", Source::Screen);
    sim.run(secs(2));
    for name in ["watcher", "ghost"] {
        assert_eq!(sim.browser(name).page.error_codes(), ["forbidden", "forbidden"], "{name}");
    }
    assert_eq!(lines(&sim), [(3, 2), (0, 5), (2, 0), (0, 0)]);
    assert!(sim.browser("camera").watched.is_empty() && sim.browser("ghost").watched.is_empty());
    // Every participant may chat.
    sim.chat("ghost", "boo");
    sim.run(secs(1));
    assert_eq!(sim.browser("camera").page.chat[0].message, "boo");
}

#[test]
fn a_participant_without_media_may_stay_indefinitely() {
    let mut sim = guarded(903);
    invite(&mut sim, "ghost", json!({"publish": false}));
    sim.run(secs(120));
    assert_eq!(sim.browser("ghost").closed, None);
    invite(&mut sim, "ann", json!({}));
    sim.run(secs(2));
    assert!(sim.sees("ghost", "ann"));
}

#[test]
fn a_call_outlives_its_tokens_but_expired_tokens_admit_nobody() {
    let mut sim = guarded(904);
    let short = json!({"exp": START + 10, "sub": "ann"});
    invite(&mut sim, "ann", short.clone());
    invite(&mut sim, "bob", json!({}));
    sim.run(secs(30));
    assert!(sim.sees("bob", "ann") && sim.hears("ann", "bob"), "the call must continue after the token expired");
    let (id, secret) = (sim.browser("ann").page.id.clone(), sim.browser("ann").page.resume.clone());
    let come_back = |sim: &mut Sim, name: &str, more: Value| {
        let query = format!("&resume={secret}&token={}", token(&claims(more)));
        sim.join_as(name, |habits| habits.query = query);
        sim.run(secs(2));
    };
    come_back(&mut sim, "late", short);
    assert_eq!(refused(&sim, "late").map(|(status, _)| status), Some(401));
    sim.dismissed.insert("late".to_owned());
    assert!(sim.sees("bob", "ann"), "a refused return must not affect the participant");
    // A resume secret is not valid with another identity's token.
    come_back(&mut sim, "eve", json!({"sub": "eve"}));
    assert_ne!(sim.browser("eve").page.id, id);
    assert!(sim.sees("bob", "ann"));
    sim.tell_changes(sim.tag("ann"), 1, secs(1));
    come_back(&mut sim, "ann", json!({"sub": "ann", "publish": false}));
    assert_eq!(sim.browser("ann").page.id, id);
    assert!(!sim.sees("bob", "ann") && !sim.hears("bob", "ann"), "the rights of the new token must apply");
    assert!(sim.sees("ann", "bob") && sim.browser("ann").page.tracks.iter().all(|track| !track.own));
    assert!(sim.watched("bob", "eve", Microphone).is_some());
}
