//! Video that a page does not show is not sent to it.

use serde_json::json;

use crate::media::{Camera, Microphone};
use crate::sim::Sim;
use crate::story::{millis, secs};

#[test]
fn hidden_video_is_not_sent_and_returns_with_a_keyframe() {
    let mut sim = Sim::new(400);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(3));
    let received = |sim: &Sim, from: &str, source| sim.counts("bob", from, source).1;
    for round in 0..3 {
        sim.show("bob", "ann", 0);
        sim.run(millis(300));
        let before = [received(&sim, "ann", Camera), received(&sim, "ann", Microphone), received(&sim, "cat", Camera)];
        let others = sim.counts("cat", "ann", Camera).1;
        sim.run(secs(2));
        assert_eq!(received(&sim, "ann", Camera), before[0], "hidden video must not be sent");
        assert!(received(&sim, "ann", Microphone) >= before[1] + 98, "audio must continue");
        assert!(received(&sim, "cat", Camera) > before[2] + 50, "other participants' video must continue");
        assert!(sim.counts("cat", "ann", Camera).1 > others + 50, "video to other viewers must continue");
        let asked = sim.publication("ann", Camera).keyframe_requests.len();
        sim.show("bob", "ann", 360);
        sim.run(millis(300));
        assert!(sim.sees("bob", "ann"), "video must return within 300 ms in round {round}");
        assert_eq!(sim.publication("ann", Camera).keyframe_requests.len(), asked + 1, "one keyframe request");
        sim.run(secs(1));
    }
    for ((tag, ssrc), sealed) in &sim.tap.sealed {
        assert_eq!(sealed.missing(), 0, "browser {tag}, SSRC {ssrc}: sequence numbers skipped");
    }
    sim.assert_complete("main");
}

#[test]
fn a_view_of_an_unknown_or_unpausable_m_line_changes_nothing() {
    let mut sim = Sim::new(401);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    let bob = sim.browser("bob");
    let sound =
        bob.page.received().find(|track| track.source == Microphone).expect("audio has an m-line").mid.to_string();
    let own = bob.publications[&Camera].mid.expect("the camera has an m-line").to_string();
    for mid in [&sound, &own, "nothing", ""] {
        sim.say("bob", &json!({"event": "view", "views": [{"mid": mid, "width": 0, "height": 0, "priority": 9}]}));
    }
    sim.run(secs(2));
    sim.assert_complete("main");
    assert!(sim.browser("bob").page.errors.is_empty());
    // A participant that hid a video, left and joined again sees everything.
    sim.show("bob", "ann", 0);
    sim.run(secs(1));
    sim.leave("bob");
    sim.run(secs(1));
    sim.join("cat");
    sim.run(secs(3));
    sim.assert_complete("main");
}

#[test]
fn a_reassigned_m_line_is_shown_until_the_page_hides_it() {
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
