//! Participants that use the protocol as intended, but far too much of it.

use serde_json::json;

use crate::media::Rate;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};
use crate::tokens::{guarded, invite};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

/// Whatever the lines are made of, whoever joins receives them and stays.
#[test]
fn a_history_of_control_characters_closes_no_room() {
    let mut sim = sparse(1_700);
    sim.watch("mallory");
    sim.run(secs(1));
    for _ in 0..60 {
        sim.chat("mallory", &"\u{1}".repeat(4_096));
        sim.run(millis(500));
    }
    sim.watch("ann");
    sim.run(secs(1));
    assert!(sim.browser("ann").is_live());
    let kept = sim.browser("ann").page.chat.len();
    assert!((5..=25).contains(&kept), "{kept} lines of 24 KiB are kept");
}

/// One member that floods a room takes its share of the room's chat; the others write on, and nobody is dropped.
#[test]
fn a_flood_of_chat_is_limited_by_room_and_the_others_write_on() {
    let mut sim = sparse(1_701);
    for name in ["mallory", "ann", "bob"] {
        sim.watch(name);
    }
    sim.run(secs(1));
    for round in 0..200 {
        sim.chat("mallory", &"\u{1}".repeat(4_096));
        if round % 20 == 0 {
            sim.chat("ann", "hello");
        }
        sim.run(millis(100));
    }
    sim.run(secs(1));
    let lines = &sim.browser("bob").page.chat;
    assert_eq!(lines.iter().filter(|line| line.message == "hello").count(), 10);
    let flood = lines.len() - 10;
    assert!((20..=80).contains(&flood), "{flood} of 200 lines of 24 KiB passed");
    assert!(sim.browser("mallory").page.error_codes().contains(&"chat-too-fast"));
    assert!(sim.browser("ann").page.errors.is_empty() && sim.browser("bob").is_live());
}

#[test]
fn a_promoted_moderator_cannot_remove_or_mute_the_hosts_own() {
    let mut sim = guarded(1_705);
    invite(&mut sim, "ann", json!({"sub": "ann", "moderate": true}));
    invite(&mut sim, "bob", json!({"sub": "bob"}));
    sim.run(secs(2));
    let [ann, bob] = ["ann", "bob"].map(|name| sim.browser(name).page.id.clone());
    sim.say("ann", &json!({"event": "moderate", "action": "promote", "id": bob}));
    sim.run(millis(300));
    for action in ["mute", "remove"] {
        sim.say("bob", &json!({"event": "moderate", "action": action, "id": ann}));
    }
    sim.run(secs(1));
    assert_eq!(sim.browser("bob").page.error_codes(), ["forbidden"; 2]);
    assert!(sim.browser("ann").is_live() && sim.browser("bob").page.mutes.is_empty());
}
