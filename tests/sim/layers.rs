//! Simulcast cameras, and which layer each subscriber receives.

use crate::media::Camera;
use crate::network::Path;
use crate::sim::Sim;
use crate::story::{millis, secs};

/// Packets sent so far of each layer of the publisher's camera.
fn sent(sim: &Sim, publisher: &str) -> Vec<u64> {
    sim.publication(publisher, Camera).layers.iter().map(|layer| layer.sent_packets).collect()
}

#[test]
fn requested_layers_are_sent_and_each_subscriber_receives_one() {
    let mut sim = Sim::new(600);
    sim.join_with_layers("ann");
    sim.join_with_layers("bob");
    sim.join("cat");
    sim.run(secs(6));
    sim.assert_complete("main");
    sim.assert_no_gaps();
    for (viewer, publisher) in [("bob", "ann"), ("cat", "ann"), ("ann", "bob"), ("cat", "bob")] {
        assert!(sent(&sim, publisher).len() == 3 && sent(&sim, publisher).iter().all(|packets| *packets > 100));
        let watched = sim.watched(viewer, publisher, Camera).expect("video was received");
        assert_eq!(sim.layer_seen(viewer, publisher), Some(2), "{viewer} has not reported a smaller tile");
        assert!(watched.longest_gap < millis(150), "{viewer}: {:?}", watched.longest_gap);
        assert!(
            watched.temporal.iter().all(|shown| *shown > 30),
            "{viewer} must see all temporal layers: {:?}",
            watched.temporal
        );
    }
    assert_eq!(sent(&sim, "cat").len(), 1, "cat did not offer simulcast");
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
        assert_eq!(sim.layer_seen("bob", "ann"), Some(layer), "height {height}");
        assert_eq!(sim.layer_seen("cat", "ann"), Some(2), "cat's tile has not changed");
        assert!(
            sim.publication("ann", Camera).keyframe_requests.len() <= asked + 1,
            "at most one keyframe request per switch"
        );
    }
    for viewer in ["bob", "cat"] {
        let watched = sim.watched(viewer, "ann", Camera).expect("video was received");
        assert!(watched.longest_gap < millis(150), "{viewer}: {:?}", watched.longest_gap);
        assert_eq!(watched.keyframe_requests, 0, "no decoder may have to request a keyframe");
    }
    sim.assert_no_gaps();
    sim.assert_complete("main");
}

#[test]
fn unneeded_layers_are_not_sent_until_a_subscriber_needs_them() {
    let mut sim = Sim::new(602);
    sim.join_with_layers("ann");
    sim.join("bob");
    sim.run(secs(4));
    sim.show("bob", "ann", 180);
    sim.run(secs(6));
    let (_, wanted) = sim.browser("ann").page.layers_told.last().expect("ann received `layers`");
    assert_eq!(wanted, &["q"]);
    let before = sent(&sim, "ann");
    sim.run(secs(2));
    let after = sent(&sim, "ann");
    assert!(after[0] >= before[0] + 60 && after[1..] == before[1..], "{before:?}, then {after:?}");
    sim.show("bob", "ann", 720);
    sim.run(millis(1_000));
    assert_eq!(sim.layer_seen("bob", "ann"), Some(2), "the layer must be resumed");
    sim.run(secs(3));
    assert!(sim.watched("bob", "ann", Camera).expect("video was received").longest_gap < millis(150));
    sim.assert_no_gaps();
    sim.assert_complete("main");
}

#[test]
fn layers_switch_despite_loss_and_reordering() {
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
    let watched = sim.watched("bob", "ann", Camera).expect("video was received");
    assert!(watched.layers.len() >= 18, "{:?}", watched.layers);
    // 31 s at 30 pictures per second.
    assert!(watched.shown > 800, "{} pictures", watched.shown);
    sim.assert_complete("main");
}
