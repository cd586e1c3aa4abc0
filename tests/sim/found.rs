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
        sim.run(secs(3));
        assert!(sim.browser("ann").page.participants.is_empty(), "a ghost of who crashed after {wait} ms");
    }
}
