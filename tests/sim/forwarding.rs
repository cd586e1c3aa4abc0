//! Packets on their way from a publisher to its subscribers.

use aq_server::drop_reason::DropReason;

use crate::answering::Sound;
use crate::media::{Camera, Microphone, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

#[test]
fn a_stream_that_rolled_over_works_for_a_late_joiner() {
    let mut sim = Sim::new(20);
    sim.join("ann");
    sim.begin_at("ann", Camera, 65_400);
    sim.begin_at("ann", Microphone, 65_500);
    sim.join("bob");
    sim.run(secs(4));
    let seq_no = |source| sim.publication("ann", source).layers[0].seq_no;
    assert!(seq_no(Camera) > 65_536 && seq_no(Microphone) > 65_536);
    sim.join("cat");
    sim.run(secs(2));
    sim.assert_complete("main");
    sim.assert_no_gaps();
}

#[test]
fn a_stream_that_rolled_over_three_times_works_for_early_and_late_subscribers() {
    let mut sim = Sim::new(21);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    for _ in 0..7 {
        sim.skip_ahead("ann", Camera, 30_000);
        sim.skip_ahead("ann", Microphone, 30_000);
        sim.run(secs(2));
        assert!(sim.sees("bob", "ann") && sim.hears("bob", "ann"));
    }
    assert!(sim.publication("ann", Camera).layers[0].seq_no > 3 * 65_536);
    sim.join("cat");
    sim.run(secs(2));
    sim.assert_complete("main");
    let highest = sim.browser("bob").streams.values().map(|stream| stream.last).max();
    assert!(highest > Some(3 * 65_536), "the outgoing sequence numbers must roll over too");
}

#[test]
fn a_storm_of_fifty_joins_costs_the_publisher_three_keyframes() {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(22) });
    sim.join("ann");
    sim.run(secs(2));
    let storm = sim.now;
    let names: Vec<String> = (0..50).map(|number| format!("w{number}")).collect();
    for name in &names {
        sim.watch(name);
        sim.run(millis(15));
    }
    sim.run(secs(3));
    let requests = sim.keyframe_requests("ann", Camera, storm);
    let first = *requests.first().expect("joins cause a keyframe request");
    let in_first_second = requests.iter().filter(|at| **at < first + secs(1)).count();
    assert!(in_first_second <= 3, "keyframe requests at {requests:?}");
    for name in &names {
        assert!(sim.sees(name, "ann") && sim.hears(name, "ann"), "{name} must see and hear ann");
    }
    sim.assert_no_gaps();
}

#[test]
fn a_late_joiner_gets_a_picture_at_once() {
    for offset in [0, 100, 250, 400] {
        let mut sim = Sim::new(23);
        sim.join("ann");
        sim.run(secs(10) + millis(offset));
        let joined_at = sim.now;
        sim.join("bob");
        sim.run(secs(2));
        let connected = sim.browser("bob").connected_at.expect("bob is connected");
        let shown = sim
            .watched("bob", "ann", Camera)
            .and_then(|watched| watched.first_shown_at)
            .expect("bob was shown a picture");
        // The request travels to the publisher and the picture back, 40 ms each, plus one frame interval.
        assert!(shown - connected < millis(40 + 40 + 34 + 20), "a picture {:?} after connecting", shown - connected);
        assert!(shown - joined_at < millis(600), "a picture {:?} after opening the page", shown - joined_at);
        assert_eq!(
            sim.watched("bob", "ann", Camera).expect("video was received").keyframe_requests,
            0,
            "bob had to request a keyframe"
        );
    }
}

#[test]
fn five_percent_loss_is_repaired() {
    assert_repaired(24, 0.05, 0.998, millis(500));
}

#[test]
fn ten_percent_loss_is_repaired() {
    assert_repaired(25, 0.10, 0.995, millis(800));
}

/// With `loss` in every direction, asserts that at least `least` of the camera's packets arrive in the end, and bounds
/// the longest freeze.
fn assert_repaired(seed: u64, loss: f64, least: f64, longest_freeze: std::time::Duration) {
    let mut sim = Sim::new(seed);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    let before = |from: &str, to: &str, source| sim.counts(to, from, source);
    let pairs = [("ann", "bob"), ("bob", "ann")];
    let since: Vec<_> = pairs.map(|(from, to)| [before(from, to, Camera), before(from, to, Microphone)]).to_vec();
    for name in ["ann", "bob"] {
        sim.set_path(name, Path::GOOD.with_loss(loss).with_disorder(0.01));
    }
    sim.run(secs(20));
    let lost: u64 = sim.links.iter().map(|links| links.up.lost_rtp + links.down.lost_rtp).sum();
    assert!(lost as f64 > 20.0 * 100.0 * loss, "the network lost only {lost} packets");
    for name in ["ann", "bob"] {
        sim.set_path(name, Path::GOOD);
    }
    sim.run(secs(2));
    for ((from, to), since) in pairs.into_iter().zip(since) {
        let video = sim.delivered(to, from, Camera, since[0]);
        let audio = sim.delivered(to, from, Microphone, since[1]);
        let freeze = sim.watched(to, from, Camera).expect("video was received").longest_gap;
        eprintln!("loss {loss}: {from} to {to}: video {video:.4}, audio {audio:.4}, longest freeze {freeze:?}");
        assert!(video >= least, "{video} of {from}'s video arrived");
        // Lost audio is not retransmitted, on either of the two paths.
        assert!(audio >= (1.0 - loss) * (1.0 - loss) - 0.03, "{audio} of {from}'s audio arrived");
        assert!(freeze < longest_freeze, "{from} froze for {freeze:?}");
    }
}

#[test]
fn duplication_and_reordering_lose_no_packets() {
    let mut sim = Sim::new(26);
    sim.path = Path::GOOD.with_disorder(0.05);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(5));
    sim.set_path("ann", Path::GOOD);
    sim.set_path("bob", Path::GOOD);
    sim.run(secs(1));
    sim.assert_complete("main");
    for browser in &sim.browsers {
        assert!(browser.streams.len() == 2 && browser.streams.values().all(|stream| stream.missing() == 0));
    }
}

#[test]
fn header_extensions_arrive_unchanged() {
    let mut sim = Sim::new(27);
    sim.join("ann");
    sim.join("bob");
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.run(secs(3));
    let packets = sim.browser("bob").packets.as_ref().expect("packets are recorded");
    assert!(
        packets.iter().any(|(stamp, _)| stamp.source == Camera)
            && packets.iter().any(|(stamp, _)| stamp.source == Microphone)
    );
    let captured = sim.captured();
    for (stamp, packet) in packets {
        let at = sim.publication("ann", stamp.source).captured[stamp.frame as usize];
        let (sent, received) = (stamp.extensions(captured(at)), &packet.header.ext_vals);
        assert_eq!(received.audio_level, sent.audio_level);
        assert_eq!(received.voice_activity, sent.voice_activity);
        assert_eq!(received.video_orientation, sent.video_orientation);
        assert_eq!((received.play_delay_min, received.play_delay_max), (sent.play_delay_min, sent.play_delay_max));
        let time = received.abs_capture_time.as_ref().expect("abs-capture-time").capture_time;
        let expected = captured(at);
        let error = time
            .duration_since(expected)
            .or_else(|_| expected.duration_since(time))
            .expect("one of the two differences is positive");
        assert!(error < millis(1), "captured {error:?} off");
        assert_eq!(
            (received.rid, received.rid_repair),
            (None, None),
            "the RIDs of the publisher's transport must not be forwarded"
        );
    }
}

#[test]
fn a_client_that_cannot_decode_is_notified_and_no_other_is_affected() {
    let mut sim = Sim::new(28);
    sim.join("ann");
    sim.join("cat");
    sim.run(secs(2));
    sim.join_as("bob", |habits| {
        habits.h264_only = true;
        habits.sources = vec![Microphone];
    });
    sim.run(secs(3));
    let mut errors_received: Vec<_> = sim.browser("bob").page.errors.iter().map(|(_, error)| error.clone()).collect();
    assert!(
        errors_received
            .iter()
            .all(|error| error["code"] == "cannot-decode" && error["source"] == "camera" && error["retry"] == false)
    );
    assert!(
        errors_received
            .iter()
            .all(|error| error["message"].as_str().is_some_and(|message| message.contains("video in a format")))
    );
    errors_received.sort_by_key(|error| error["id"].to_string());
    let mut ids = ["ann", "cat"].map(|name| sim.browser(name).page.id.clone());
    ids.sort();
    let named: Vec<_> =
        errors_received.iter().map(|error| error["id"].as_str().expect("the error names the publisher")).collect();
    assert_eq!(named, ids, "one error for each camera");
    for name in ["ann", "cat"] {
        assert!(sim.hears("bob", name) && !sim.sees("bob", name) && sim.hears(name, "bob"));
        assert!(sim.browser(name).page.errors.is_empty());
    }
    for (viewer, publisher) in [("ann", "cat"), ("cat", "ann")] {
        assert!(sim.sees(viewer, publisher));
        assert!(sim.watched(viewer, publisher, Camera).expect("video was received").longest_gap < millis(100));
    }
}

#[test]
fn a_client_that_accepts_redundancy_without_its_codec_gets_an_error_about_audio() {
    let mut sim = Sim::new(29);
    sim.join_as("ann", |habits| habits.sound = Sound::Redundant);
    sim.join_as("bob", |habits| habits.sound = Sound::LastOnly);
    sim.run(secs(3));
    let errors_received: Vec<_> = sim.browser("bob").page.errors.iter().map(|(_, error)| error).collect();
    let [error] = errors_received[..] else { panic!("{errors_received:?}") };
    assert_eq!((&error["code"], &error["source"]), (&"cannot-decode".into(), &"microphone".into()));
    assert_eq!(error["message"], "ann sends audio in a format that this browser cannot play.");
    assert!(!sim.hears("bob", "ann") && sim.sees("bob", "ann") && sim.hears("ann", "bob"));
    assert!(sim.browser("ann").page.errors.is_empty());
}

#[test]
fn packets_too_large_to_forward_are_counted_and_their_publisher_is_notified_once() {
    let mut world = World::new(320);
    world.rate = Rate { filler: 1_420, ..world.rate };
    let mut sim = Sim::with(world);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(5));
    let stats = sim.server.stats();
    assert!(stats.packets_oversized > 20);
    assert_eq!(stats.drops.get(DropReason::TooLarge), stats.packets_oversized, "each has one other participant");
    for name in ["ann", "bob"] {
        let errors: Vec<_> = sim.browser(name).page.errors.iter().map(|(_, error)| error.clone()).collect();
        let errors_received: Vec<_> = errors.iter().filter(|error| error["code"] == "packet-too-large").collect();
        let [error] = errors_received[..] else { panic!("{name} must get one `packet-too-large`: {errors:?}") };
        assert_eq!((&error["id"], &error["retry"]), (&sim.browser(name).page.id.as_str().into(), &false.into()));
        assert!(error["source"].is_string(), "{error}");
    }
}
