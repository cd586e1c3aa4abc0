//! Cameras that are sent in layers, and which of them everybody gets.

use crate::media::Camera;
use crate::network::Path;
use crate::sim::Sim;
use crate::story::{millis, secs};

/// Packets of each layer of somebody's camera so far.
fn sent(sim: &Sim, publisher: &str) -> Vec<u64> {
    sim.publication(publisher, Camera).layers.iter().map(|layer| layer.sent_packets).collect()
}

#[test]
fn who_is_asked_for_layers_sends_them_and_everybody_gets_one_stream() {
    let mut sim = Sim::new(600);
    sim.join_with_layers("ann");
    sim.join_with_layers("bob");
    sim.join("cat");
    sim.run(secs(6));
    sim.assert_complete("main");
    sim.assert_no_gaps();
    for (viewer, publisher) in [("bob", "ann"), ("cat", "ann"), ("ann", "bob"), ("cat", "bob")] {
        assert!(sent(&sim, publisher).len() == 3 && sent(&sim, publisher).iter().all(|packets| *packets > 100));
        let watched = sim.watched(viewer, publisher, Camera).expect("seen");
        assert_eq!(sim.layer_seen(viewer, publisher), Some(2), "{viewer} has told of no smaller tile");
        assert!(watched.longest_gap < millis(150), "{viewer}: {:?}", watched.longest_gap);
        assert!(watched.temporal.iter().all(|shown| *shown > 30), "{viewer} sees all pictures: {:?}", watched.temporal);
    }
    assert_eq!(sent(&sim, "cat").len(), 1, "cat has not said that it can");
    assert_eq!(sim.layer_seen("ann", "cat"), Some(0));
}

#[test]
fn a_tile_gets_the_layer_of_its_size_without_a_freeze() {
    let mut sim = Sim::new(601);
    sim.join_with_layers("ann");
    for name in ["bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(4));
    for (height, layer) in [(180, 0), (720, 2), (360, 1), (100, 0), (300, 1), (1_080, 2)] {
        let asked = sim.publication("ann", Camera).keyframe_requests.len();
        sim.show("bob", "ann", height);
        sim.run(millis(1_500));
        assert_eq!(sim.layer_seen("bob", "ann"), Some(layer), "{height} lines");
        assert_eq!(sim.layer_seen("cat", "ann"), Some(2), "cat's tile is the same");
        assert!(sim.publication("ann", Camera).keyframe_requests.len() <= asked + 1, "one request a switch");
    }
    for viewer in ["bob", "cat"] {
        let watched = sim.watched(viewer, "ann", Camera).expect("seen");
        assert!(watched.longest_gap < millis(150), "{viewer}: {:?}", watched.longest_gap);
        assert_eq!(watched.keyframe_requests, 0, "no decoder had to ask");
    }
    sim.assert_no_gaps();
    sim.assert_complete("main");
}

#[test]
fn layers_that_nobody_wants_are_not_sent_until_somebody_does() {
    let mut sim = Sim::new(602);
    sim.join_with_layers("ann");
    sim.join("bob");
    sim.run(secs(4));
    sim.show("bob", "ann", 180);
    sim.run(secs(6));
    let (_, told) = sim.browser("ann").page.layers_told.last().expect("ann is told");
    assert_eq!(told, &["q"]);
    let before = sent(&sim, "ann");
    sim.run(secs(2));
    let after = sent(&sim, "ann");
    assert!(after[0] >= before[0] + 60 && after[1..] == before[1..], "{before:?}, then {after:?}");
    sim.show("bob", "ann", 720);
    sim.run(millis(1_000));
    assert_eq!(sim.layer_seen("bob", "ann"), Some(2), "it is switched on again");
    sim.run(secs(3));
    assert!(sim.watched("bob", "ann", Camera).expect("seen").longest_gap < millis(150));
    sim.assert_no_gaps();
    sim.assert_complete("main");
}

#[test]
fn layers_are_switched_where_packets_get_lost_and_come_late() {
    let mut sim = Sim::new(603);
    sim.path = Path::GOOD.with_loss(0.03).with_disorder(0.02);
    sim.join_with_layers("ann");
    for name in ["bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(5));
    for round in 0..20 {
        sim.show("bob", "ann", [180, 720, 360][round % 3]);
        sim.run(millis(1_300));
    }
    let watched = sim.watched("bob", "ann", Camera).expect("seen");
    assert!(watched.layers.len() >= 18, "{:?}", watched.layers);
    // 31 s at 30 pictures a second.
    assert!(watched.shown > 800, "{} pictures", watched.shown);
    sim.assert_complete("main");
}
