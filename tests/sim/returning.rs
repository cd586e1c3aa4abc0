//! Participants that return after their connection broke.

use aq_server::server::Sizes;

use crate::media::{Camera, Rate};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

#[test]
fn a_connection_with_the_resume_secret_replaces_the_old_one() {
    let mut sim = sparse(80);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(2));
    let old = sim.tag("bob");
    sim.resume("bob");
    sim.run(secs(3));
    let (before, after) = (&sim.browsers[old], sim.browser("bob"));
    assert_eq!((&before.page.id, &before.page.name), (&after.page.id, &after.page.name));
    assert_eq!(before.page.error_codes(), ["replaced"]);
    assert_eq!(before.page.errors[0].1["retry"], false);
    assert_eq!(before.closed, Some((1008, "replaced".to_owned())));
    for name in ["ann", "cat"] {
        assert!(sim.browser(name).page.left.is_empty(), "{name} must not be notified of a leave");
    }
    sim.assert_complete("main");
}

#[test]
fn a_return_after_a_silent_break_leaves_no_second_participant() {
    let mut sim = sparse(81);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    let id = sim.browser("bob").page.id.clone();
    sim.vanish("bob");
    sim.run(secs(5));
    sim.resume("bob");
    sim.run(secs(40));
    assert_eq!(sim.browser("bob").page.id, id);
    assert!(
        sim.browser("ann").page.left.is_empty(),
        "the timeout of the old connection must not be reported as a leave"
    );
    sim.assert_complete("main");
}

#[test]
fn repeated_returns_work() {
    let mut sim = sparse(82);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(1));
    for round in 0..6 {
        match round % 3 {
            0 => sim.vanish("bob"),
            1 => sim.crash("bob"),
            _ => {}
        }
        sim.resume("bob");
        sim.run(secs(2));
        sim.assert_complete("main");
    }
    assert!(sim.sees("ann", "bob"));
}

#[test]
fn a_wrong_secret_makes_a_new_participant() {
    let mut sim = sparse(83);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(1));
    let ann = sim.browser("ann").page.id.clone();
    sim.join_as("cat", |habits| habits.query = "&resume=aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned());
    sim.run(secs(2));
    assert_ne!(sim.browser("cat").page.id, ann);
    sim.assert_complete("main");
    let secret = sim.browser("ann").page.resume.clone();
    sim.leave("ann");
    sim.run(secs(1));
    sim.join_as("dan", |habits| habits.query = format!("&resume={secret}"));
    sim.run(secs(2));
    assert_ne!(sim.browser("dan").page.id, ann, "the secret of a participant that left must be invalid");
    assert!(sim.watched("bob", "dan", Camera).is_some());
    sim.assert_complete("main");
}

/// A participant that returns within 30 s is never reported as left, however its connection ended.
#[test]
fn a_participant_that_returns_is_never_reported_as_left() {
    for away in [0, 5, 29] {
        let mut sim = sparse(84 + away);
        for name in ["ann", "bob", "cat", "dan"] {
            sim.join(name);
        }
        sim.run(secs(2));
        let ids = ["bob", "cat", "dan"].map(|name| sim.browser(name).page.id.clone());
        sim.crash("bob");
        sim.hang_up_properly("cat");
        sim.vanish("dan");
        sim.run(secs(away));
        for name in ["bob", "cat", "dan"] {
            sim.resume(name);
        }
        sim.run(millis(500));
        for (name, id) in ["bob", "cat", "dan"].into_iter().zip(ids) {
            assert_eq!(sim.browser(name).page.id, id, "{name} after {away} s");
        }
        sim.run(secs(40));
        let page = &sim.browser("ann").page;
        assert!(page.left.is_empty() && page.lost.is_empty(), "after {away} s: {:?} {:?}", page.left, page.lost);
        sim.assert_complete("main");
        for name in ["ann", "bob", "cat", "dan"] {
            sim.leave(name);
        }
        sim.run(secs(1));
        assert_eq!(sim.server.sizes(), Sizes::default());
    }
}

#[test]
fn a_participant_leaves_at_once_or_30_s_after_its_connection_breaks() {
    let mut sim = sparse(90);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(2));
    let [bob, cat] = ["bob", "cat"].map(|name| sim.browser(name).page.id.clone());
    let at = sim.now;
    sim.leave("bob");
    sim.hang_up_properly("cat");
    sim.run(secs(40));
    let after = |id: &str| sim.learnt_of_leaving("ann", id).expect("ann was notified") - at;
    assert!(after(&bob) < secs(1), "{:?}", after(&bob));
    assert!((secs(30)..secs(31)).contains(&after(&cat)), "{:?}", after(&cat));
    sim.leave("ann");
    sim.run(secs(1));
    assert_eq!(sim.server.sizes(), Sizes::default());
}

/// In a full room the participant that has been absent for longest is evicted, and no other.
#[test]
fn a_full_room_evicts_the_longest_absent_participant() {
    let mut world = World { rate: Rate::SPARSE, ..World::new(92) };
    world.config.limits.max_room_size = 3;
    let mut sim = Sim::with(world);
    sim.invariants.may_evict = true;
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(1));
    let bob = sim.browser("bob").page.id.clone();
    sim.crash("bob");
    sim.run(secs(1));
    sim.crash("cat");
    sim.run(secs(1));
    sim.join("dan");
    sim.run(secs(1));
    assert!(sim.learnt_of_leaving("ann", &bob).is_some() && sim.browser("ann").page.left.len() == 1);
    sim.resume("cat");
    sim.run(secs(1));
    sim.dismissed.insert("eve".to_owned());
    sim.join("eve");
    sim.run(secs(2));
    assert_eq!(sim.browser("eve").closed.as_ref().map(|(status, _)| *status), Some(503));
    sim.assert_complete("main");
}

/// The number of absent participants per network is limited like that of present ones.
#[test]
fn absent_participants_of_one_network_are_limited() {
    let mut world = World { rate: Rate::SPARSE, ..World::new(91) };
    world.config.limits.max_conns_per_addr = 3;
    let mut sim = Sim::with(world);
    sim.invariants.may_evict = true;
    sim.join("ann");
    for number in 0..6 {
        let name = format!("guest{number}");
        sim.join_as(&name, |habits| {
            habits.sources.clear();
            habits.addrs[0].set_ip([203, 0, 113, 7].into());
        });
        sim.run(secs(1));
        sim.hang_up_properly(&name);
        sim.run(secs(1));
    }
    assert_eq!(sim.browser("ann").page.participants.len(), 3);
    assert_eq!(sim.browser("ann").page.left.len(), 3);
}
