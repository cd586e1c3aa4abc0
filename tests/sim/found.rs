//! Faults found by random plans, each as a minimal test.

use crate::media::{Rate, Screen};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

#[test]
fn a_screen_unpublished_and_published_again_at_once_is_seen() {
    let mut sim = sparse(200);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.publish("ann", Screen);
    sim.run(secs(2));
    sim.assert_complete("main");
    sim.unpublish("ann", Screen);
    sim.publish("ann", Screen);
    sim.run(secs(30));
    sim.assert_complete("main");
}

#[test]
fn a_screen_unpublished_before_its_offer_is_answered_does_not_affect_its_publisher() {
    let mut sim = sparse(201);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.publish("ann", Screen);
    sim.run(millis(100));
    sim.unpublish("ann", Screen);
    sim.run(secs(30));
    sim.assert_complete("main");
}

#[test]
fn a_leave_before_the_upgrade_response_leaves_no_participant() {
    for wait in [0, 5, 15, 25, 45, 65, 100, 200] {
        let mut sim = sparse(202);
        sim.join("ann");
        sim.run(secs(1));
        sim.join("bob");
        sim.run(millis(wait));
        sim.leave("bob");
        sim.run(secs(3));
        assert!(
            sim.browser("ann").page.participants.is_empty(),
            "a participant that left after {wait} ms is still listed"
        );
    }
}

#[test]
fn a_crash_before_the_upgrade_response_leaves_no_participant() {
    for wait in [0, 5, 15, 25, 45, 65, 100, 200] {
        let mut sim = sparse(203);
        sim.join("ann");
        sim.run(secs(1));
        sim.join("bob");
        sim.run(millis(wait));
        sim.crash("bob");
        sim.run(secs(31));
        assert!(
            sim.browser("ann").page.participants.is_empty(),
            "a participant that crashed after {wait} ms is still listed"
        );
    }
}

/// A participant that resumes alone in a room gets its chat history.
#[test]
fn a_participant_that_returns_to_an_empty_room_gets_its_chat() {
    let mut sim = sparse(204);
    sim.join("ann");
    sim.run(secs(1));
    sim.chat("ann", "a note to myself");
    sim.run(secs(1));
    sim.resume("ann");
    sim.run(secs(1));
    let lines: Vec<_> = sim.browser("ann").page.chat.iter().map(|line| line.message.clone()).collect();
    assert_eq!(lines, ["a note to myself"]);
}

/// A participant that sends a valid check from another's address (forged, or behind the same NAT) does not take it
/// over.
#[test]
fn the_address_of_a_present_participant_cannot_be_taken_over() {
    let mut sim = sparse(205);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(2));
    sim.forge_check("cat", "ann");
    sim.run(secs(3));
    sim.assert_complete("main");
    sim.leave("cat");
    sim.run(secs(30));
    sim.assert_complete("main");
}

/// Packets larger than str0m can write are not forwarded and do no harm.
#[test]
fn packets_that_are_too_large_are_dropped() {
    let mut sim = sparse(206);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    for bytes in [1_401, 1_700, 1_900] {
        sim.send_oversized("ann", bytes);
        sim.run(secs(1));
    }
    sim.assert_complete("main");
}
