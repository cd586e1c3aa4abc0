//! The budgets of a participant: normal use never exhausts them, and the participant is notified when one is exhausted.

use crate::answering::{Answering, Habits};
use crate::media::{Camera, Microphone, Rate, Screen};
use crate::network::Path;
use crate::sim::{Sim, World, addr};
use crate::story::{millis, secs};

/// SSRCs that a transport may send in its lifetime.
const MOST_SSRCS: u32 = 2_048;

/// Publishes nothing, and expects publishers to change their SSRCs.
fn expecting_new_ssrcs(habits: &mut Habits) {
    habits.sources.clear();
    habits.drift.anywhere = true;
}

fn lean(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::LEAN, ..World::new(seed) })
}

#[test]
fn occasional_changes_of_ssrcs_never_exhaust_the_budget() {
    let mut sim = lean(820);
    sim.join_with_layers("ann");
    sim.join_as("bob", expecting_new_ssrcs);
    sim.run(secs(3));
    for change in 0..50 {
        for source in [Camera, Microphone] {
            sim.change_ssrcs("ann", source);
        }
        sim.run(millis(900));
        assert!(sim.sees("bob", "ann") && sim.hears("bob", "ann"), "after {change} changes");
    }
    assert!(sim.browser("ann").page.errors.is_empty() && sim.browser("ann").page.media.is_empty());
}

/// Video on a new SSRC cannot be decoded before a keyframe, and the publisher's own one was lost.
#[test]
fn another_keyframe_is_requested_when_the_first_of_an_ssrc_is_lost() {
    for (seed, lost) in (830..).zip([30, 60, 90, 150]) {
        let mut sim = lean(seed);
        sim.join_with_layers("ann");
        sim.join_as("bob", expecting_new_ssrcs);
        sim.run(secs(3));
        sim.set_path("ann", Path::GOOD.with_loss(1.0));
        sim.change_ssrcs("ann", Camera);
        sim.run(millis(lost));
        sim.set_path("ann", Path::GOOD);
        sim.run(secs(2));
        assert!(sim.sees("bob", "ann"), "after {lost} ms of loss");
    }
}

#[test]
fn a_client_that_used_up_its_ssrcs_is_notified_and_gets_a_fresh_transport() {
    let mut sim = lean(821);
    sim.join_with_layers("ann");
    sim.join_as("bob", expecting_new_ssrcs);
    sim.run(secs(3));
    let mut changes = 0;
    while sim.browser("ann").page.media.is_empty() {
        changes += 1;
        assert!(changes < MOST_SSRCS, "{changes} changes");
        sim.change_ssrcs("ann", Camera);
        sim.run(millis(40));
    }
    assert!(changes > MOST_SSRCS / 8, "{changes} changes");
    let lost = &sim.browser("ann").page.media[0].1;
    assert_eq!((lost["state"].as_str(), lost["reason"].as_str()), (Some("lost"), Some("used-up")));
    sim.run(secs(3));
    assert_eq!(sim.browser("ann").renewals, 1);
    for source in [Camera, Microphone] {
        sim.change_ssrcs("ann", source);
    }
    sim.run(secs(1));
    assert!(sim.sees("bob", "ann") && sim.hears("bob", "ann"));
    assert!(sim.browser("bob").page.left.is_empty());
}

#[test]
fn a_client_that_rejects_all_m_lines_of_a_kind_is_notified_once() {
    let mut sim = lean(822);
    sim.join("ann");
    sim.join_answering("bob", Answering::Rejecting);
    sim.run(secs(3));
    assert!(sim.hears("bob", "ann") && !sim.sees("bob", "ann"));
    for _ in 0..20 {
        sim.publish("ann", Screen);
        sim.run(millis(300));
        sim.unpublish("ann", Screen);
        sim.run(millis(300));
    }
    let errors = &sim.browser("bob").page.errors;
    let reported: Vec<_> = errors.iter().map(|(_, error)| (error["code"].as_str(), error["retry"].as_bool())).collect();
    assert_eq!(reported, [(Some("lines-rejected"), Some(false))]);
    let rejected = sim.browser("bob").lines.iter().filter(|line| line.kind == "video").count();
    assert!((16..=20).contains(&rejected), "{rejected} m-lines of video");
    assert!(sim.hears("bob", "ann") && sim.hears("ann", "bob"));
}

/// The server's addresses change again and again, and the number that one transport can learn is limited.
#[test]
fn a_server_with_too_many_addresses_offers_a_fresh_transport() {
    let mut sim = lean(823);
    for name in ["ann", "bob"] {
        sim.join_as(name, |habits| habits.sources = vec![Microphone]);
    }
    sim.run(secs(3));
    let first = sim.candidates[0];
    for change in 0..300 {
        sim.move_server(&[first, addr(&format!("10.0.{}.{}:8080", change / 200, change % 200 + 1))]);
        sim.run(millis(20));
    }
    sim.run(secs(3));
    for (name, other) in [("ann", "bob"), ("bob", "ann")] {
        let media = &sim.browser(name).page.media;
        assert_eq!(media.first().map(|(_, media)| media["reason"].as_str()), Some(Some("used-up")), "{name}");
        assert_eq!(sim.browser(name).renewals, 1, "{name}");
        assert!(sim.browser(name).page.left.is_empty() && sim.hears(name, other), "{name}");
    }
}

/// A client joins again each second as a new participant and uses up its budget each time.
#[test]
fn a_client_that_rejoins_as_a_new_participant_gets_no_new_budget() {
    let mut sim = lean(824);
    sim.watch("ann");
    sim.run(secs(1));
    for number in 0..10 {
        let name = format!("mal{number}");
        sim.join_as(&name, |habits| {
            habits.sources.clear();
            habits.addrs[0].set_ip([203, 0, 113, 9].into());
        });
        sim.run(millis(300));
        for line in 0..25 {
            sim.chat(&name, &format!("{line} of {number}"));
        }
        sim.run(millis(400));
        match number % 3 {
            0 => sim.leave(&name),
            1 => sim.hang_up_properly(&name),
            _ => sim.crash(&name),
        }
        sim.run(millis(300));
    }
    // 20 at once, then 10 with each newcomer, plus 10 per second.
    let lines = sim.browser("ann").page.chat.len();
    assert!((60..=150).contains(&lines), "{lines} chat messages in 10 s");
    sim.join_as("bob", |habits| habits.addrs[0].set_ip([203, 0, 113, 10].into()));
    sim.run(millis(300));
    for line in 0..20 {
        sim.chat("bob", &format!("line {line}"));
    }
    sim.run(millis(300));
    assert_eq!(sim.browser("ann").page.chat.len(), lines + 20, "another network must have its own budget");
}

/// Joins from a network shared by many clients.
fn from_one_network(habits: &mut Habits) {
    habits.addrs[0].set_ip([203, 0, 113, 9].into());
}

/// A `candidate` message as browsers send it.
const CANDIDATE: &str =
    r#"{"event":"candidate","data":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.1 9 typ host\"}"}"#;

#[test]
fn a_newcomer_can_join_after_others_of_its_network_spent_the_budget() {
    let mut sim = lean(826);
    sim.watch("ann");
    sim.run(secs(1));
    for number in 0..3 {
        let name = format!("mal{number}");
        sim.join_as(&name, |habits| {
            from_one_network(habits);
            habits.sources.clear();
        });
        sim.run(millis(200));
        let mute = |sim: &mut Sim, times| {
            (0..times).for_each(|_| sim.say_text(&name, r#"{"event":"mute","source":"microphone","muted":true}"#));
        };
        mute(&mut sim, 70);
        for line in 0..20 {
            sim.say_text(&name, &format!(r#"{{"event":"chat","data":"{line}{}"}}"#, "x".repeat(6_000)));
        }
        sim.run(secs(1));
        mute(&mut sim, 40);
        sim.run(millis(50));
        assert!(sim.browser(&name).page.error_codes().contains(&"too-fast"));
    }
    for number in 0..3 {
        sim.crash(&format!("mal{number}"));
    }
    sim.run(millis(50));
    for name in ["bob", "cat"] {
        sim.join_as(name, from_one_network);
        sim.run(millis(200));
        for _ in 0..60 {
            sim.say_text(name, CANDIDATE);
        }
        sim.run(millis(300));
        for line in 0..5 {
            sim.chat(name, &format!("{line}"));
        }
    }
    sim.run(secs(3));
    for name in ["bob", "cat"] {
        let bob = sim.browser(name);
        assert!(bob.page.errors.is_empty() && bob.closed.is_none(), "{:?} {:?}", bob.page.errors, bob.closed);
        assert!(sim.sees("ann", name) && sim.hears("ann", name), "{name}");
    }
    assert_eq!(["bob", "cat"].map(|name| sent_by(&sim, name)), [5; 2]);
}

/// Number of chat messages of a participant that Ann received.
fn sent_by(sim: &Sim, name: &str) -> usize {
    sim.browser("ann").page.chat.iter().filter(|line| line.name == name).count()
}

/// The client has used up its budget, then sends candidates and the answer to an offer.
#[test]
fn an_answer_and_candidates_are_accepted_when_the_budget_is_spent() {
    let mut sim = lean(827);
    sim.watch("ann");
    sim.run(secs(1));
    let candidates = |sim: &mut Sim| (0..90).for_each(|_| sim.say_text("ann", CANDIDATE));
    candidates(&mut sim);
    sim.run(secs(2));
    candidates(&mut sim);
    sim.join("bob");
    for _ in 0..80 {
        sim.say_text("ann", CANDIDATE);
        sim.run(millis(25));
    }
    let ann = sim.browser("ann");
    assert!(ann.page.errors.is_empty() && ann.closed.is_none(), "{:?} {:?}", ann.page.errors, ann.closed);
    assert!(sim.sees("ann", "bob") && sim.hears("ann", "bob"));
}

/// A participant's connection breaks repeatedly: what it spent is not charged to its network once it has returned.
#[test]
fn a_participant_that_returns_leaves_no_debt_to_its_network() {
    let mut sim = lean(828);
    sim.watch("ann");
    sim.join_as("bob", from_one_network);
    sim.run(millis(500));
    for line in 0..20 {
        sim.chat("bob", &format!("line {line}"));
    }
    for _ in 0..5 {
        sim.run(millis(50));
        sim.crash("bob");
        sim.run(millis(50));
        let query = format!("&resume={}", sim.browser("bob").page.resume);
        sim.join_as("bob", |habits| {
            from_one_network(habits);
            habits.query = query;
        });
    }
    sim.run(millis(300));
    for name in ["cat", "dan"] {
        sim.join_as(name, from_one_network);
        sim.run(millis(300));
        for line in 0..20 {
            sim.chat(name, &format!("line {line}"));
        }
    }
    sim.run(millis(300));
    assert_eq!(["bob", "cat", "dan"].map(|name| sent_by(&sim, name)), [20; 3]);
}

/// The offer allows 64 KiB for the answer, which was shorter.
#[test]
fn the_allowance_for_an_answer_ends_with_the_answer() {
    let mut sim = lean(825);
    sim.watch("ann");
    sim.run(secs(3));
    let long = format!(r#"{{"event":"none","data":"{}"}}"#, "x".repeat(50_000));
    for _ in 0..11 {
        sim.say_text("ann", &long);
    }
    sim.run(secs(1));
    let codes = sim.browser("ann").page.error_codes();
    assert_eq!(codes.iter().filter(|code| **code == "unknown-event").count(), 10, "512 KiB at once: {codes:?}");
    assert_eq!(codes.last().map(|code| &**code), Some("too-fast"), "{codes:?}");
}

/// Each join is announced to its room, and brings a new budget of messages.
#[test]
fn joins_of_a_network_are_limited() {
    let mut world = World { rate: Rate::SPARSE, ..World::new(560) };
    world.config.limits.max_conns_per_addr = 1_000;
    let mut sim = Sim::with(world);
    sim.join("ann");
    let names: Vec<String> = (0..300).map(|number| format!("mal{number}")).collect();
    for name in &names {
        let mut habits = sim.habits();
        habits.sources.clear();
        habits.addrs[0].set_ip([203, 0, 113, 7].into());
        sim.arrive(name, name, habits);
        sim.dismissed.insert(name.clone());
        sim.run(millis(10));
    }
    sim.run(secs(1));
    let is_refused = |name: &&String| match &sim.browser(name).closed {
        Some((429, body)) => body.contains("\"too-many-joins\""),
        _ => false,
    };
    let refused = names.iter().filter(is_refused).count();
    // A burst of 100, and 10 a second.
    assert!((165..=175).contains(&refused), "{refused} were refused");
    sim.join("bob");
    sim.run(secs(2));
    assert!(sim.sees("ann", "bob") && sim.sees("bob", "ann"), "other networks are not concerned");
    sim.join_as("cat", |habits| habits.addrs[0].set_ip([203, 0, 113, 7].into()));
    sim.run(secs(2));
    assert!(sim.sees("ann", "cat"), "the network may join again");
}
