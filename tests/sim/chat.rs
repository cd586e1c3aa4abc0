//! Chat messages.

use serde_json::json;

use crate::media::Rate;
use crate::page::ChatLine;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

fn messages(sim: &Sim, name: &str) -> Vec<String> {
    sim.browser(name).page.chat.iter().map(|line| line.message.clone()).collect()
}

#[test]
fn the_order_is_the_same_for_all_and_senders_get_no_copy() {
    let mut sim = sparse(60);
    let names = ["ann", "bob", "cat"];
    for name in names {
        sim.watch(name);
    }
    sim.run(secs(1));
    for round in 0..20 {
        for name in names {
            sim.chat(name, &format!("{round} from {name}"));
            sim.run(millis(round % 3));
        }
        sim.run(millis(100));
    }
    sim.run(secs(1));
    let mut all: Vec<ChatLine> = names.iter().flat_map(|name| sim.browser(name).page.chat.clone()).collect();
    all.sort_by_key(|line| line.id);
    all.dedup();
    assert_eq!(all.len(), 60, "each message must be the same for all its receivers");
    for name in names {
        let id = &sim.browser(name).page.id;
        let expected: Vec<_> = all.iter().filter(|line| line.from != *id).cloned().collect();
        assert_eq!(sim.browser(name).page.chat, expected, "messages received by {name}");
        let own: Vec<_> = all.iter().filter(|line| line.from == *id).map(|line| line.message.clone()).collect();
        let sent: Vec<_> = (0..20).map(|round| format!("{round} from {name}")).collect();
        assert_eq!(own, sent, "messages sent by {name}");
        assert!(all.iter().filter(|line| line.from == *id).all(|line| line.name == name));
    }
}

#[test]
fn a_late_joiner_gets_the_last_messages() {
    let mut world = World::new(61);
    world.config.limits.chat_history = 5;
    let mut sim = Sim::with(world);
    sim.watch("ann");
    sim.watch("bob");
    sim.run(secs(1));
    for line in 0..8 {
        sim.chat(if line % 2 == 0 { "ann" } else { "bob" }, &format!("line {line}"));
        sim.run(millis(200));
    }
    let received = sim.browser("ann").page.chat.clone();
    sim.leave("bob");
    sim.run(secs(1));
    sim.watch("cat");
    sim.run(secs(1));
    assert_eq!(messages(&sim, "cat"), ["line 3", "line 4", "line 5", "line 6", "line 7"]);
    let cat = &sim.browser("cat").page.chat;
    assert!(
        received.iter().rev().take(3).all(|line| cat.contains(line)),
        "the history must hold the same messages, with time, name and id"
    );
    sim.chat("ann", "after");
    sim.run(secs(1));
    assert_eq!(messages(&sim, "cat").last().expect("cat has a message"), "after");
}

#[test]
fn text_passes_unchanged_with_the_time_of_the_server() {
    let mut sim = sparse(62);
    sim.watch("ann");
    sim.watch("bob");
    sim.run(secs(1));
    let lines =
        ["<img src=x onerror=alert(1)>", "\u{1f600} \"quoted\" \\ back\\slash", "two\nlines", "\u{202e}right to left"];
    for line in lines {
        sim.chat("ann", line);
    }
    sim.run(secs(1));
    assert_eq!(messages(&sim, "bob"), lines);
    // 01:46:40 UTC plus one hour of time zone and one second of simulation.
    assert!(sim.browser("bob").page.chat.iter().all(|line| line.time == "02:46:41"));
}

#[test]
fn length_and_rate_are_limited_with_an_error() {
    let mut sim = sparse(63);
    sim.watch("ann");
    sim.watch("bob");
    sim.run(secs(1));
    let longest = "\u{e4}".repeat(2_048);
    sim.chat("ann", &longest);
    sim.run(secs(1));
    sim.chat("ann", &format!("{longest}!"));
    sim.run(secs(1));
    assert_eq!(messages(&sim, "bob"), [longest]);
    assert_eq!(sim.browser("ann").page.error_codes(), ["chat-too-long"]);
    sim.run(secs(5));
    for line in 0..25 {
        sim.chat("ann", &line.to_string());
    }
    sim.run(secs(2));
    let passed = messages(&sim, "bob").len() - 1;
    assert!((10..25).contains(&passed), "{passed} of 25 messages sent at once were delivered");
    let refused = sim.browser("ann").page.error_codes().iter().filter(|code| **code == "chat-too-fast").count();
    assert_eq!(passed + refused, 25);
    sim.run(secs(3));
    sim.chat("ann", "calm again");
    sim.run(secs(1));
    assert_eq!(messages(&sim, "bob").last().expect("bob has a message"), "calm again");
    assert!(sim.browser("ann").is_live() && sim.browser("bob").page.errors.is_empty());
}

#[test]
fn an_invalid_message_gets_an_error_and_affects_no_other_participant() {
    let mut sim = sparse(64);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(1));
    for (text, code) in [
        ("no json", "bad-message"),
        ("{\"event\":\"chat\"}", "bad-message"),
        ("[]", "bad-message"),
        ("{\"event\":\"dance\"}", "unknown-event"),
        ("{\"event\":\"unpublish\",\"kind\":\"video\",\"source\":\"screen\"}", "not-publishing"),
        (
            "{\"event\":\"candidate\",\"data\":\"{\\\"candidate\\\":\\\"candidate:1 1 udp 1 a.local 9 typ host\\\"}\"}",
            "",
        ),
    ] {
        let before = sim.browser("bob").page.errors.len();
        sim.say_text("bob", text);
        sim.run(secs(1));
        let codes = sim.browser("bob").page.error_codes();
        assert_eq!(codes[before..].join(" "), code, "after {text}");
    }
    sim.say("bob", &json!({"event": "mute", "source": "microphone", "muted": true}));
    sim.run(secs(1));
    let bob = &sim.browser("bob").page.id;
    assert_eq!(
        sim.browser("ann").page.mutes,
        [json!({"event": "mute", "id": bob, "source": "microphone", "muted": true})]
    );
    assert!(sim.browser("bob").page.mutes.is_empty());
    sim.assert_complete("main");
}

/// A refused message is charged like an accepted one, in number and in bytes, whatever the reason.
#[test]
fn refused_messages_are_charged() {
    let event = |event: &str, data: String| json!({"event": event, "data": data}).to_string();
    let long = || "x".repeat(50_000);
    let floods = [
        // flood, its message, messages per second for five seconds, code of the close frame
        ("chat messages that are too long", event("chat", "x".repeat(5_000)), 40, "chat-too-fast"),
        ("chat messages that are empty", event("chat", " ".to_owned()), 40, "chat-too-fast"),
        ("large chat messages", event("chat", long()), 20, "too-fast"),
        ("unknown events", event("dance", String::new()), 45, "too-fast"),
        ("large unknown events", event("dance", long()), 20, "too-fast"),
        ("large candidates", event("candidate", long()), 20, "too-fast"),
    ];
    for (index, (flood, message, rate, code)) in floods.into_iter().enumerate() {
        let mut sim = sparse(66 + index as u64);
        sim.watch("mallory");
        sim.watch("bob");
        sim.run(secs(1));
        for _ in 0..5 * rate {
            sim.say_text("mallory", &message);
            sim.run(secs(1) / rate);
        }
        assert_eq!(sim.browser("mallory").closed, Some((1008, code.to_owned())), "{flood}");
        assert!(sim.browser("bob").is_live() && messages(&sim, "bob").is_empty(), "{flood}");
    }
}

/// Chat within its limit is always delivered, however long, and does not use up the budget of other messages.
#[test]
fn chat_within_its_limit_does_not_reduce_other_budgets() {
    let mut sim = sparse(72);
    sim.join("ann");
    sim.watch("bob");
    sim.run(secs(1));
    let longest = "x".repeat(4_096);
    for _ in 0..20 {
        sim.chat("ann", &longest);
    }
    for _ in 0..80 {
        sim.run(millis(100));
        sim.chat("ann", &longest);
        sim.say("ann", &json!({"event": "mute", "source": "microphone", "muted": true}));
    }
    sim.run(secs(1));
    assert_eq!(messages(&sim, "bob").len(), 100);
    assert!(sim.browser("ann").page.errors.is_empty());
}

/// A participant that returns keeps what is left of its budget.
#[test]
fn a_new_connection_brings_no_new_budget() {
    let mut sim = sparse(73);
    sim.watch("ann");
    sim.watch("bob");
    sim.run(secs(1));
    let mut refused = 0;
    for round in 0..5 {
        for line in 0..20 {
            sim.chat("ann", &format!("{line} of {round}"));
        }
        sim.run(millis(200));
        refused += sim.browser("ann").page.error_codes().iter().filter(|code| **code == "chat-too-fast").count();
        if !sim.browser("ann").is_live() {
            break;
        }
        sim.hang_up_properly("ann");
        sim.resume("ann");
        sim.run(millis(200));
    }
    let passed = messages(&sim, "bob").len();
    assert!((20..40).contains(&passed), "{passed} chat messages were delivered");
    assert!(refused > 5, "{refused} chat messages were refused");
}

/// A guest fills the history with the longest messages, and with characters that take more bytes in JSON.
#[test]
fn no_history_keeps_newcomers_out() {
    let mut sim = Sim::new(611);
    sim.join("mallory");
    sim.run(secs(1));
    for (number, text) in ["\u{1}", "\"", "\n\\", "\u{10ffff}"].into_iter().enumerate() {
        let text = text.repeat(4_096 / text.len());
        for _ in 0..60 {
            sim.chat("mallory", &text);
            // Within the limits of the participant and of the room.
            sim.run(millis(500));
        }
        let name = format!("ann{number}");
        sim.join(&name);
        sim.run(secs(1));
        assert_eq!(sim.browser(&name).closed, None, "{number}");
        let kept = sim.browser(&name).page.chat.len();
        assert!(kept >= if number == 0 { 20 } else { 50 }, "{number}: {kept} messages");
        sim.leave(&name);
    }
}
