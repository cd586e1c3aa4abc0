//! Joining and leaving.

use crate::media::{Camera, Microphone, Rate};
use crate::sim::{Sim, World, addr};
use crate::story::{millis, secs};

#[test]
fn two_participants_see_and_hear_each_other() {
    let mut sim = Sim::new(1);
    sim.join("ann");
    sim.run(secs(1));
    sim.join("bob");
    sim.run(secs(3));
    sim.assert_complete("main");
    assert!(sim.sees("bob", "ann") && sim.hears("bob", "ann"));
    assert!(sim.sees("ann", "bob") && sim.hears("ann", "bob"));
    sim.assert_no_gaps();
}

#[test]
fn a_participant_that_leaves_is_removed_at_once_and_no_other_is_affected() {
    let mut sim = Sim::new(2);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(2));
    let (bob, at) = (sim.browser("bob").page.id.clone(), sim.now);
    sim.leave("bob");
    sim.run(secs(2));
    for name in ["ann", "cat"] {
        let notified = sim.learnt_of_leaving(name, &bob).expect("notified");
        assert!(notified - at < millis(100), "{name} was notified after {:?}", notified - at);
        assert!(!sim.sees(name, "bob"));
    }
    sim.assert_complete("main");
    assert!(sim.watched("ann", "cat", Camera).unwrap().longest_gap < millis(100));
    sim.assert_no_gaps();
}

#[test]
fn nothing_crosses_rooms() {
    let mut sim = Sim::new(3);
    for (name, room) in [("ann", "red"), ("bob", "red"), ("cat", "blue"), ("dan", "blue")] {
        sim.join_room(name, room);
    }
    sim.run(secs(2));
    sim.chat("ann", "red only");
    sim.chat("cat", "blue only");
    sim.run(secs(1));
    sim.assert_complete("red");
    sim.assert_complete("blue");
    let lines = |name: &str| sim.browser(name).page.chat.iter().map(|line| line.message.clone()).collect::<Vec<_>>();
    assert_eq!(lines("bob"), ["red only"]);
    assert_eq!(lines("dan"), ["blue only"]);
    assert!(lines("ann").is_empty() && lines("cat").is_empty());
}

#[test]
fn twenty_participants_join_at_once() {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(4) });
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    for name in &names {
        sim.join(name);
        sim.run(millis(3));
    }
    sim.run(secs(4));
    sim.assert_complete("main");
    for name in &names {
        let offers = sim.browser(name).page.offers;
        assert!((2..=3).contains(&offers), "{offers} offers to {name} for one burst");
    }
    sim.assert_no_gaps();
}

#[test]
fn a_burst_of_joins_on_a_fast_network_costs_few_offers() {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(7) });
    sim.path.latency = millis(1);
    for number in 0..15 {
        sim.join_as(&format!("p{number}"), |habits| habits.answer_delay = millis(1));
        sim.run(millis(4));
    }
    sim.run(secs(3));
    sim.assert_complete("main");
    for browser in &sim.browsers {
        // The first offer covers the participants present, the second those that join within 75 ms, the third those
        // that join later.
        assert!(browser.page.offers <= 3, "{} offers to {}", browser.page.offers, browser.name);
    }
}

#[test]
fn a_participant_that_publishes_nothing_sees_others_and_is_not_seen() {
    let mut sim = Sim::new(5);
    sim.join("ann");
    sim.watch("bob");
    sim.run(secs(2));
    sim.assert_complete("main");
    assert!(sim.sees("bob", "ann"));
    assert!(sim.browser("ann").watched.is_empty());
    sim.publish("bob", Camera);
    sim.run(secs(1));
    assert!(sim.sees("ann", "bob") && !sim.hears("ann", "bob"));
    sim.publish("bob", Microphone);
    sim.run(secs(1));
    sim.assert_complete("main");
    sim.assert_no_gaps();
}

#[test]
fn every_announced_address_works_and_responds_from_itself() {
    let (v4, private, v6) = ("192.0.2.1:8080", "10.0.0.7:8080", "[2001:db8::1]:8080");
    let mut sim = Sim::with(World { candidates: [v4, private, v6].map(addr).to_vec(), ..World::new(6) });
    sim.join_as("ann", |habits| habits.addrs = vec![addr("198.51.100.1:4000")]);
    sim.join_as("bob", |habits| habits.addrs = vec![addr("[2001:db8::b0b]:4000")]);
    sim.join_as("cat", |habits| habits.addrs = vec![addr("10.0.0.9:4000"), addr("[2001:db8::ca7]:4000")]);
    sim.run(secs(3));
    sim.assert_complete("main");
}

/// Addresses change with DHCP, a dial-up connection or a network that comes up after the server.
#[test]
fn addresses_that_change_are_announced_to_all() {
    let [old, new, beside] = ["192.0.2.1:8080", "192.0.2.9:8080", "[2001:db8::1]:8080"].map(addr);
    let mut sim = Sim::with(World { candidates: vec![old], ..World::new(7) });
    // Audio only, because the test is about the path and not its capacity.
    for name in ["ann", "bob"] {
        sim.join_as(name, |habits| habits.sources = vec![Microphone]);
    }
    sim.run(secs(3));
    sim.assert_complete("main");
    // The same addresses again are not announced.
    sim.move_server(&[old]);
    sim.run(secs(1));
    sim.move_server(&[new, beside]);
    for round in 0..2 {
        sim.run(secs(1));
        for name in ["ann", "bob"] {
            let candidates = &sim.browser(name).page.candidates;
            assert!(candidates.len() == 2 && candidates[0].contains("192.0.2.9 8080 typ host"), "{candidates:?}");
            assert!(sim.browser(name).is_live(), "{name} in round {round}");
        }
        // An empty list keeps the addresses, because there are no others to announce.
        sim.move_server(&[]);
        sim.move_server(&[new, beside]);
    }
    sim.join_as("cat", |habits| habits.sources = vec![Microphone]);
    // Media resumes once the browsers no longer use the old address.
    sim.run(secs(30));
    sim.assert_complete("main");
    assert!(sim.hears("ann", "cat") && sim.hears("cat", "bob"));
    assert!(sim.browser("cat").page.candidates.is_empty(), "the first offer must contain the addresses");
}

/// Feedback that the server fails to read would make a path look as if it carried nothing.
#[test]
fn three_participants_on_a_good_path_keep_seeing_each_other() {
    let mut sim = Sim::new(7);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(5));
    sim.join("cat");
    sim.run(secs(3));
    for second in 0..20 {
        sim.run(secs(1));
        for (viewer, other) in [("ann", "bob"), ("bob", "cat"), ("cat", "ann"), ("cat", "bob")] {
            assert!(sim.sees(viewer, other), "{viewer} does not see {other} after {second} s");
        }
    }
}
