//! Only layers that a subscriber needs are sent.

use crate::media::{Camera, Microphone, Screen};
use crate::sim::Sim;
use crate::story::{millis, secs};

/// Packets of each layer of Ann's camera since an earlier count.
fn sent_since(sim: &Sim, before: &[u64]) -> Vec<u64> {
    sent(sim).iter().zip(before).map(|(now, before)| now - before).collect()
}

fn sent(sim: &Sim) -> Vec<u64> {
    sim.publication("ann", Camera).layers.iter().map(|layer| layer.sent_packets).collect()
}

#[test]
fn an_unwatched_layer_is_paused_and_resumes_as_soon_as_it_is_needed() {
    let mut sim = Sim::new(770);
    sim.join_with_layers("ann");
    sim.watch("bob");
    sim.watch("cat");
    sim.run(secs(4));
    // The heights of Bob's and Cat's tiles, the layers requested for them, and the layer that Bob sees.
    let stages: [(u32, u32, &[&str], Option<u8>); 6] = [
        (180, 0, &["q"], Some(0)),
        (0, 0, &[], None),
        (720, 0, &["q", "h", "f"], Some(2)),
        (180, 360, &["q", "h"], Some(0)),
        (0, 180, &["q"], None),
        (360, 180, &["q", "h"], Some(1)),
    ];
    for (of_bob, of_cat, wanted, seen) in stages {
        let since = sim.now;
        sim.show("bob", "ann", of_bob);
        sim.show("cat", "ann", of_cat);
        sim.run(millis(300));
        if let Some(layer) = seen {
            let first = sim.seen_since("bob", "ann", Camera, since + sim.path.latency).first();
            assert!(first.is_some(), "a tile of height {of_bob} has no picture after 300 ms");
            // The highest layer may have to wait for a probe of the path.
            sim.run(if layer == 2 { millis(700) } else { millis(0) });
            assert_eq!(sim.layer_seen("bob", "ann"), Some(layer), "a tile of height {of_bob}");
            let quality = sim.quality("bob", "ann", Camera).expect("quality was reported");
            assert_eq!(quality["rid"], ["q", "h", "f"][usize::from(layer)]);
            assert!(quality["limit"] == "none" || quality["limit"] == "view", "{quality}");
        } else {
            let quality = sim.quality("bob", "ann", Camera).expect("quality was reported");
            assert!(quality["sent"] == false && quality["limit"] == "view", "{quality}");
        }
        sim.run(secs(5));
        let (_, rids) = sim.browser("ann").page.layers_told.last().expect("ann received `layers`");
        assert_eq!(rids, wanted, "bob's tile has height {of_bob}, cat's {of_cat}");
        let before = sent(&sim);
        sim.run(secs(1));
        let sent = sent_since(&sim, &before);
        for (index, sent) in sent.iter().enumerate() {
            assert_eq!(*sent > 0, index < wanted.len(), "{sent:?} packets of layer {index}, requested are {wanted:?}");
        }
        assert_eq!(sim.sees("bob", "ann"), seen.is_some());
    }
    assert!(sim.hears("bob", "ann") && sim.hears("cat", "ann"), "audio must not be affected");
    assert!(sim.longest_gap("bob", "ann", Microphone, sim.now - secs(20)) < millis(60));
    sim.assert_no_gaps();
}

#[test]
fn an_unwatched_source_is_seen_when_it_is_published_again() {
    let mut sim = Sim::new(772);
    sim.join_with_layers("ann");
    sim.publish("ann", Screen);
    sim.run(secs(5));
    let wanted = sim.browser("ann").page.wanted_layers.values();
    assert_eq!(wanted.filter(|rids| rids.is_empty()).count(), 2, "no layers are needed without subscribers");
    for source in [Camera, Screen] {
        sim.unpublish("ann", source);
    }
    sim.run(secs(1));
    sim.watch("bob");
    sim.run(secs(1));
    for source in [Camera, Screen] {
        sim.publish("ann", source);
        sim.run(secs(1));
        assert!(sim.gets("bob", "ann", source), "{source:?}");
    }
}

#[test]
fn repeated_view_messages_do_not_keep_a_layer_active() {
    let mut sim = Sim::new(771);
    sim.join_with_layers("ann");
    sim.watch("bob");
    sim.run(secs(4));
    for height in [180, 181].into_iter().cycle().take(10) {
        sim.show("bob", "ann", height);
        sim.run(millis(500));
    }
    let (_, rids) = sim.browser("ann").page.layers_told.last().expect("ann received `layers`");
    assert_eq!(rids, &["q"]);
}
