//! Offers, answers and m-lines.

use std::net::SocketAddr;

use crate::answering::{Answering, Sound};
use crate::media::{Camera, Microphone, Rate, Screen};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

#[test]
fn changes_during_an_exchange_are_combined_into_the_next_offer() {
    let mut sim = sparse(100);
    sim.join("ann");
    sim.join_as("bob", |habits| habits.answer_delay = millis(800));
    sim.run(secs(4));
    let before = sim.browser("bob").page.offers;
    sim.publish("ann", Screen);
    sim.run(millis(400));
    assert_eq!(sim.browser("bob").page.offers, before + 1, "bob has not answered the offer of the screen yet");
    sim.join("cat");
    sim.join("dan");
    sim.publish("bob", Screen);
    sim.run(secs(4));
    assert_eq!(sim.browser("bob").page.offers, before + 2, "all changes since must be in one offer");
    sim.assert_complete("main");
    assert!(sim.gets("bob", "ann", Screen) && sim.gets("dan", "bob", Screen));
    sim.unpublish("ann", Screen);
    sim.unpublish("bob", Screen);
    sim.run(secs(3));
    sim.assert_complete("main");
    sim.assert_no_gaps();
}

#[test]
fn a_source_published_and_unpublished_at_once_leaves_no_track() {
    let mut sim = sparse(101);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    for wait in [0, 10, 60, 100, 150, 200, 300] {
        sim.publish("ann", Screen);
        sim.run(millis(wait));
        sim.unpublish("ann", Screen);
        sim.run(secs(2));
        sim.assert_complete("main");
        sim.publish("ann", Screen);
        sim.run(secs(2));
        sim.assert_complete("main");
        sim.unpublish("ann", Screen);
        sim.run(millis(wait));
        sim.publish("ann", Screen);
        sim.run(secs(2));
        sim.assert_complete("main");
        sim.unpublish("ann", Screen);
        sim.run(secs(2));
        sim.assert_complete("main");
    }
    assert!(sim.browser("ann").lines.len() <= 6, "the screen must reuse its m-line");
}

#[test]
fn a_client_without_trickle_repeats_all_candidates_in_every_m_line() {
    let mut sim = sparse(113);
    let others = ["bob", "cat", "dan", "eve", "fay", "gus"];
    sim.join_as("ann", |habits| {
        (habits.trickles, habits.repeats_candidates) = (false, true);
        let own = habits.addrs[0];
        // One address for each of a laptop's interfaces and bridges.
        habits.addrs.extend((1..12).map(|number| SocketAddr::new([10, 0, number, 2].into(), own.port())));
    });
    for name in others {
        sim.join(name);
        sim.run(secs(1));
    }
    sim.run(secs(1));
    sim.assert_complete("main");
    assert!(sim.browser("ann").lines.len() >= 2 + 2 * others.len(), "too few m-lines to repeat the candidates in");
    sim.assert_no_gaps();
}

#[test]
fn m_lines_are_reused() {
    let mut sim = sparse(102);
    sim.join("ann");
    sim.run(secs(1));
    let mut peak = 0;
    for number in 0..30 {
        let name = format!("guest{number}");
        match number % 3 {
            0 => sim.join_as(&name, |habits| habits.sources = vec![Microphone]),
            1 => sim.join_as(&name, |habits| habits.sources = vec![Camera]),
            _ => sim.join(&name),
        };
        sim.run(millis(1_500));
        sim.assert_complete("main");
        peak = peak.max(sim.browser("ann").page.received().count());
        if number > 0 {
            sim.leave(&format!("guest{}", number - 1));
            sim.run(millis(if number % 2 == 0 { 0 } else { 700 }));
        }
    }
    sim.run(secs(1));
    sim.assert_complete("main");
    let lines = sim.browser("ann").lines.len();
    // At the peak two sets of one audio and one video m-line are in use, whichever of the two kinds the guests publish.
    assert!(lines <= peak + 2 + 2, "{lines} m-lines for at most {peak} tracks");
    sim.assert_no_gaps();
}

#[test]
fn m_lines_of_participants_with_both_kinds_are_reused_exactly() {
    let mut sim = sparse(103);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(1));
    for number in 0..30 {
        let name = format!("guest{number}");
        sim.join(&name);
        sim.run(millis(1_200));
        sim.assert_complete("main");
        sim.leave(&name);
        sim.run(millis(500));
    }
    for name in ["ann", "bob"] {
        let lines = sim.browser(name).lines.len();
        assert!(lines <= 4 + 2, "{lines} m-lines for at most four received and two own tracks");
        let offers = sim.browser(name).page.offers;
        assert!(offers >= 60, "{offers} offers, expected one for each join and each leave");
    }
    sim.assert_no_gaps();
}

#[test]
fn an_old_page_works() {
    let mut sim = sparse(104);
    sim.join_as("old", |habits| habits.is_old = true);
    sim.run(secs(1));
    sim.join("ann");
    sim.run(secs(2));
    sim.assert_complete("main");
    sim.join_as("older", |habits| habits.is_old = true);
    sim.publish("ann", Screen);
    sim.run(secs(2));
    sim.assert_complete("main");
    sim.leave("ann");
    sim.run(secs(1));
    sim.join("bob");
    sim.run(secs(2));
    sim.assert_complete("main");
    assert!(sim.sees("old", "older") && sim.hears("older", "old"));
    sim.assert_no_gaps();
}

/// Asserts that a participant with wrong answers is closed with `code`, and that two others are not affected.
fn assert_only_sender_affected(seed: u64, answering: Answering, code: &str) {
    let mut sim = sparse(seed);
    sim.dismissed.insert("mal".to_owned());
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.join_answering("mal", answering);
    sim.run(secs(55));
    assert_undisturbed(&sim, code);
    // The same from a participant whose first answers were correct.
    sim.join("mal");
    sim.run(secs(2));
    sim.assert_complete("main");
    sim.browser_mut("mal").habits.answering = answering;
    sim.join("cat");
    sim.run(secs(55));
    assert_undisturbed(&sim, code);
    assert!(sim.sees("cat", "ann") && sim.sees("ann", "cat"));
    sim.assert_complete("main");
}

fn assert_undisturbed(sim: &Sim, code: &str) {
    let mal = sim.browser("mal");
    assert_eq!(mal.page.error_codes(), [code]);
    assert_eq!(mal.closed, Some((1008, code.to_owned())));
    for (viewer, publisher) in [("ann", "bob"), ("bob", "ann")] {
        for source in [Camera, Microphone] {
            let gap = sim.watched(viewer, publisher, source).expect("media was received").longest_gap;
            assert!(gap < millis(150), "{viewer} received nothing of {publisher}'s {source:?} for {gap:?}");
        }
        assert!(sim.browser(viewer).page.errors.is_empty());
        assert!(sim.learnt_of_leaving(viewer, &mal.page.id).is_some());
    }
    sim.assert_no_gaps();
}

#[test]
fn an_answer_that_is_garbage_affects_no_other_participant() {
    assert_only_sender_affected(110, Answering::Garbage, "bad-answer");
}

#[test]
fn an_answer_without_an_m_line_affects_no_other_participant() {
    assert_only_sender_affected(111, Answering::MissingLine, "bad-answer");
}

#[test]
fn an_answer_with_swapped_m_lines_affects_no_other_participant() {
    assert_only_sender_affected(112, Answering::Swapped, "bad-answer");
}

#[test]
fn an_answer_sent_twice_affects_no_other_participant() {
    assert_only_sender_affected(113, Answering::Twice, "unexpected-answer");
}

#[test]
fn a_missing_answer_affects_no_other_participant() {
    assert_only_sender_affected(114, Answering::Never, "negotiation-timeout");
}

#[test]
fn an_answer_without_an_offer_affects_no_other_participant() {
    let mut sim = sparse(115);
    sim.dismissed.insert("mal".to_owned());
    for name in ["ann", "bob", "mal"] {
        sim.join(name);
    }
    sim.run(secs(2));
    let data = "{\"type\":\"answer\",\"sdp\":\"v=0\\r\\n\"}";
    sim.say("mal", &serde_json::json!({"event": "answer", "data": data}));
    sim.run(secs(3));
    assert_undisturbed(&sim, "unexpected-answer");
    sim.assert_complete("main");
}

#[test]
fn a_client_that_rejects_video_later_receives_none() {
    let mut sim = Sim::new(151);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    assert!(sim.sees("bob", "ann"));
    sim.browser_mut("bob").habits.rejects = Some("video");
    sim.publish("ann", Screen);
    sim.run(secs(2));
    let before = sim.counts("bob", "ann", Camera);
    sim.show("bob", "ann", 360);
    sim.run(secs(3));
    let (sent, received) = sim.counts("bob", "ann", Camera);
    assert!(sent > before.0 && received == before.1, "{} packets arrived of a rejected m-line", received - before.1);
    assert!(sim.hears("bob", "ann"));
    // An ended track is no longer listed, even without an offer.
    sim.unpublish("ann", Camera);
    sim.run(secs(1));
    let is_listed = sim.browser("bob").page.received().any(|track| track.source == Camera);
    assert!(!is_listed, "{:?}", sim.browser("bob").page.tracks);
}

#[test]
fn redundant_audio_is_only_sent_to_clients_that_accept_it() {
    let mut sim = Sim::new(811);
    for (name, sound) in
        [("ann", Sound::Redundant), ("bob", Sound::FirstOnly), ("cat", Sound::Redundant), ("dan", Sound::Plain)]
    {
        sim.join_as(name, |habits| habits.sound = sound);
    }
    sim.run(secs(3));
    let names = ["ann", "bob", "cat", "dan"];
    for (listener, speaker) in names.iter().flat_map(|one| names.map(|other| (*one, other))) {
        assert!(listener == speaker || sim.gets(listener, speaker, Microphone), "{listener} does not hear {speaker}");
    }
    let redundant = names.map(|name| sim.browser(name).redundant);
    // Two other participants send redundant audio to each of these.
    assert!(redundant[0] > 200 && redundant[2] > 200, "{redundant:?}");
    assert_eq!((redundant[1], redundant[3]), (0, 0));
}
