//! Offers, answers, and m-lines.

use std::net::SocketAddr;

use crate::answering::{Answering, Sound};
use crate::media::{Camera, Microphone, Rate, Screen};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

#[test]
fn changes_while_an_offer_is_out_are_folded_into_the_next() {
    let mut sim = sparse(100);
    sim.join("ann");
    sim.join_as("bob", |habits| habits.answer_delay = millis(800));
    sim.run(secs(4));
    let before = sim.browser("bob").page.offers;
    sim.publish("ann", Screen);
    sim.run(millis(400));
    assert_eq!(sim.browser("bob").page.offers, before + 1, "bob thinks about the screen");
    sim.join("cat");
    sim.join("dan");
    sim.publish("bob", Screen);
    sim.run(secs(4));
    assert_eq!(sim.browser("bob").page.offers, before + 2, "all that came meanwhile is one offer");
    sim.assert_complete("main");
    assert!(sim.gets("bob", "ann", Screen) && sim.gets("dan", "bob", Screen));
    sim.unpublish("ann", Screen);
    sim.unpublish("bob", Screen);
    sim.run(secs(3));
    sim.assert_complete("main");
    sim.assert_no_gaps();
}

#[test]
fn what_is_published_and_withdrawn_at_once_is_not_left_behind() {
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
    assert!(sim.browser("ann").lines.len() <= 6, "one line for the screen, however often");
}

#[test]
fn a_client_without_trickle_repeats_all_candidates_in_every_m_line() {
    let mut sim = sparse(113);
    let others = ["bob", "cat", "dan", "eve", "fay", "gus"];
    sim.join_as("ann", |habits| {
        (habits.trickles, habits.repeats_candidates) = (false, true);
        let own = habits.addrs[0];
        // An address of each of a laptop's interfaces and bridges.
        habits.addrs.extend((1..12).map(|number| SocketAddr::new([10, 0, number, 2].into(), own.port())));
    });
    for name in others {
        sim.join(name);
        sim.run(secs(1));
    }
    sim.run(secs(1));
    sim.assert_complete("main");
    assert!(sim.browser("ann").lines.len() >= 2 + 2 * others.len(), "72 candidates and more");
    sim.assert_no_gaps();
}

#[test]
fn lines_are_reused() {
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
    // Two sets of an audio and a video are in use at the peak, whatever those who come publish of the two.
    assert!(lines <= peak + 2 + 2, "{lines} m-lines for at most {peak} tracks");
    sim.assert_no_gaps();
}

#[test]
fn lines_of_full_participants_are_reused_exactly() {
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
        assert!(lines <= 4 + 2, "{lines} m-lines for at most four tracks and two own");
        let offers = sim.browser(name).page.offers;
        assert!(offers >= 60, "{offers}: each came and each went");
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

/// One who answers wrong, and what they are told. Two others must not notice.
fn assert_alone_with_it(seed: u64, answering: Answering, code: &str) {
    let mut sim = sparse(seed);
    sim.dismissed.insert("mal".to_owned());
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.join_answering("mal", answering);
    sim.run(secs(55));
    assert_undisturbed(&sim, code);
    // The same from somebody who answered well at first.
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
            let gap = sim.watched(viewer, publisher, source).expect("there").longest_gap;
            assert!(gap < millis(150), "{viewer} missed {publisher}'s {source:?} for {gap:?}");
        }
        assert!(sim.browser(viewer).page.errors.is_empty());
        assert!(sim.learnt_of_leaving(viewer, &mal.page.id).is_some());
    }
    sim.assert_no_gaps();
}

#[test]
fn garbage_for_an_answer_harms_nobody_else() {
    assert_alone_with_it(110, Answering::Garbage, "bad-answer");
}

#[test]
fn an_answer_without_an_m_line_harms_nobody_else() {
    assert_alone_with_it(111, Answering::MissingLine, "bad-answer");
}

#[test]
fn an_answer_with_swapped_m_lines_harms_nobody_else() {
    assert_alone_with_it(112, Answering::Swapped, "bad-answer");
}

#[test]
fn an_answer_that_comes_twice_harms_nobody_else() {
    assert_alone_with_it(113, Answering::Twice, "unexpected-answer");
}

#[test]
fn an_answer_that_never_comes_harms_nobody_else() {
    assert_alone_with_it(114, Answering::Never, "negotiation-timeout");
}

#[test]
fn an_answer_that_nobody_asked_for_harms_nobody_else() {
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
fn who_takes_no_picture_any_more_gets_none() {
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
    let (sent, came) = sim.counts("bob", "ann", Camera);
    assert!(sent > before.0 && came == before.1, "{} came after all", came - before.1);
    assert!(sim.hears("bob", "ann"));
    // What ends is no longer named, though no offer has to say so.
    sim.unpublish("ann", Camera);
    sim.run(secs(1));
    let named = sim.browser("bob").page.received().any(|track| track.source == Camera);
    assert!(!named, "{:?}", sim.browser("bob").page.tracks);
}

#[test]
fn who_takes_the_first_payload_type_only_hears_all_and_who_takes_redundancy_gets_it() {
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
    // Two others send it.
    assert!(redundant[0] > 200 && redundant[2] > 200, "{redundant:?}");
    assert_eq!((redundant[1], redundant[3]), (0, 0));
}
