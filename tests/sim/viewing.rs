//! What a page does not show is not sent to it.

use serde_json::json;

use crate::media::{Camera, Microphone};
use crate::sim::Sim;
use crate::story::{millis, secs};

#[test]
fn video_that_is_not_shown_is_not_sent_and_comes_back_with_a_keyframe() {
    let mut sim = Sim::new(400);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(3));
    let came = |sim: &Sim, from: &str, source| sim.counts("bob", from, source).1;
    for round in 0..3 {
        sim.show("bob", "ann", 0);
        sim.run(millis(300));
        let before = [came(&sim, "ann", Camera), came(&sim, "ann", Microphone), came(&sim, "cat", Camera)];
        let others = sim.counts("cat", "ann", Camera).1;
        sim.run(secs(2));
        assert_eq!(came(&sim, "ann", Camera), before[0], "nothing of what is not shown");
        assert!(came(&sim, "ann", Microphone) >= before[1] + 98, "sound goes on");
        assert!(came(&sim, "cat", Camera) > before[2] + 50, "others' video goes on");
        assert!(sim.counts("cat", "ann", Camera).1 > others + 50, "to others it goes on");
        let asked = sim.publication("ann", Camera).keyframe_requests.len();
        sim.show("bob", "ann", 360);
        sim.run(millis(300));
        assert!(sim.sees("bob", "ann"), "back within 300 ms in round {round}");
        assert_eq!(sim.publication("ann", Camera).keyframe_requests.len(), asked + 1, "one request");
        sim.run(secs(1));
    }
    for ((tag, ssrc), sealed) in &sim.tap.sealed {
        assert_eq!(sealed.missing(), 0, "browser {tag}, SSRC {ssrc}: a pause is no gap");
    }
    sim.assert_complete("main");
}

#[test]
fn a_view_of_what_is_not_there_or_can_not_be_paused_changes_nothing() {
    let mut sim = Sim::new(401);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    let bob = sim.browser("bob");
    let sound = bob.page.received().find(|track| track.source == Microphone).expect("a line").mid.to_string();
    let own = bob.publications[&Camera].mid.expect("a line").to_string();
    for mid in [&sound, &own, "nothing", ""] {
        sim.say("bob", &json!({"event": "view", "views": [{"mid": mid, "width": 0, "height": 0, "priority": 9}]}));
    }
    sim.run(secs(2));
    sim.assert_complete("main");
    assert!(sim.browser("bob").page.errors.is_empty());
    // Who pauses, leaves and comes back sees everything.
    sim.show("bob", "ann", 0);
    sim.run(secs(1));
    sim.leave("bob");
    sim.run(secs(1));
    sim.join("cat");
    sim.run(secs(3));
    sim.assert_complete("main");
}

#[test]
fn a_line_that_carries_somebody_else_is_shown_until_it_is_told_otherwise() {
    let mut sim = Sim::new(402);
    for name in ["ann", "bob"] {
        sim.join(name);
    }
    sim.run(secs(3));
    sim.show("bob", "ann", 0);
    sim.run(secs(1));
    sim.leave("ann");
    sim.run(secs(1));
    sim.join("cat");
    sim.run(secs(4));
    assert!(sim.sees("bob", "cat"));
    sim.assert_complete("main");
}
