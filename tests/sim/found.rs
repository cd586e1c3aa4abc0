//! Faults that plans have found, each as short as it could be made.

use crate::media::{Rate, Screen};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

#[test]
fn a_screen_that_is_withdrawn_and_published_again_at_once_is_seen() {
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
fn a_screen_that_is_withdrawn_while_its_offer_is_out_leaves_its_publisher_alone() {
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
fn who_leaves_before_the_answer_to_the_upgrade_leaves_no_ghost() {
    for wait in [0, 5, 15, 25, 45, 65, 100, 200] {
        let mut sim = sparse(202);
        sim.join("ann");
        sim.run(secs(1));
        sim.join("bob");
        sim.run(millis(wait));
        sim.leave("bob");
        sim.run(secs(3));
        assert!(sim.browser("ann").page.participants.is_empty(), "a ghost of who left after {wait} ms");
    }
}

#[test]
fn who_crashes_before_the_answer_to_the_upgrade_leaves_no_ghost() {
    for wait in [0, 5, 15, 25, 45, 65, 100, 200] {
        let mut sim = sparse(203);
        sim.join("ann");
        sim.run(secs(1));
        sim.join("bob");
        sim.run(millis(wait));
        sim.crash("bob");
        sim.run(secs(31));
        assert!(sim.browser("ann").page.participants.is_empty(), "a ghost of who crashed after {wait} ms");
    }
}

/// Whoever resumes alone in a room finds the chat as it was.
#[test]
fn who_comes_back_to_an_empty_room_finds_its_chat() {
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

/// A member who sends a valid check from somebody else's address (a forged one, or the same NAT) takes nothing away.
#[test]
fn nobody_takes_the_address_of_somebody_who_is_there() {
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

/// Packets larger than str0m can write are not forwarded, and harm nobody.
#[test]
fn packets_that_fit_no_path_are_dropped() {
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
