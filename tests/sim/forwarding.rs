//! Packets on their way from a publisher to those who watch.

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
fn a_stream_that_rolled_over_three_times_works_for_those_who_stayed_and_those_who_come() {
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
    assert!(highest > Some(3 * 65_536), "the outgoing numbers rolled over too");
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
    let first = *requests.first().expect("somebody has to ask");
    let in_first_second = requests.iter().filter(|at| **at < first + secs(1)).count();
    assert!(in_first_second <= 3, "asked at {requests:?}");
    for name in &names {
        assert!(sim.sees(name, "ann") && sim.hears(name, "ann"), "{name} got nothing");
    }
    sim.assert_no_gaps();
}

#[test]
fn a_late_joiner_gets_a_picture_at_once() {
    for offset in [0, 100, 250, 400] {
        let mut sim = Sim::new(23);
        sim.join("ann");
        sim.run(secs(10) + millis(offset));
        let came = sim.now;
        sim.join("bob");
        sim.run(secs(2));
        let connected = sim.browser("bob").connected_at.expect("connected");
        let shown = sim.watched("bob", "ann", Camera).and_then(|watched| watched.first_shown_at).expect("shown");
        // The request goes to the publisher and the picture comes back, 40 ms each; plus one frame interval.
        assert!(shown - connected < millis(40 + 40 + 34 + 20), "a picture {:?} after connecting", shown - connected);
        assert!(shown - came < millis(600), "a picture {:?} after opening the page", shown - came);
        assert_eq!(sim.watched("bob", "ann", Camera).expect("seen").keyframe_requests, 0, "bob had to ask");
    }
}

#[test]
fn five_percent_of_loss_is_repaired() {
    assert_repaired(24, 0.05, 0.998, millis(500));
}

#[test]
fn ten_percent_of_loss_is_repaired() {
    assert_repaired(25, 0.10, 0.995, millis(800));
}

/// With that loss in every direction, the share of the camera's packets that come in the end, and the longest freeze.
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
    assert!(lost as f64 > 20.0 * 100.0 * loss, "the network lost only {lost}");
    for name in ["ann", "bob"] {
        sim.set_path(name, Path::GOOD);
    }
    sim.run(secs(2));
    for ((from, to), since) in pairs.into_iter().zip(since) {
        let video = sim.delivered(to, from, Camera, since[0]);
        let audio = sim.delivered(to, from, Microphone, since[1]);
        let freeze = sim.watched(to, from, Camera).expect("seen").longest_gap;
        eprintln!("loss {loss}: {from} to {to}: video {video:.4}, audio {audio:.4}, longest freeze {freeze:?}");
        assert!(video >= least, "{video} of {from}'s video came");
        // Nothing repairs sound: what is lost once on either way stays lost.
        assert!(audio >= (1.0 - loss) * (1.0 - loss) - 0.03, "{audio} of {from}'s audio came");
        assert!(freeze < longest_freeze, "{from} froze for {freeze:?}");
    }
}

#[test]
fn disorder_alone_loses_nothing() {
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
fn header_extensions_come_through() {
    let mut sim = Sim::new(27);
    sim.join("ann");
    sim.join("bob");
    sim.browser_mut("bob").packets = Some(Vec::new());
    sim.run(secs(3));
    let packets = sim.browser("bob").packets.as_ref().expect("recorded");
    assert!(
        packets.iter().any(|(stamp, _)| stamp.source == Camera)
            && packets.iter().any(|(stamp, _)| stamp.source == Microphone)
    );
    let captured = sim.captured();
    for (stamp, packet) in packets {
        let at = sim.publication("ann", stamp.source).captured[stamp.frame as usize];
        let (sent, came) = (stamp.extensions(captured(at)), &packet.header.ext_vals);
        assert_eq!(came.audio_level, sent.audio_level);
        assert_eq!(came.voice_activity, sent.voice_activity);
        assert_eq!(came.video_orientation, sent.video_orientation);
        assert_eq!((came.play_delay_min, came.play_delay_max), (sent.play_delay_min, sent.play_delay_max));
        let time = came.abs_capture_time.as_ref().expect("abs-capture-time").capture_time;
        let expected = captured(at);
        let error = time.duration_since(expected).or_else(|_| expected.duration_since(time)).expect("one of them");
        assert!(error < millis(1), "captured {error:?} off");
        assert_eq!((came.rid, came.rid_repair), (None, None), "of the publisher's transport");
    }
}

#[test]
fn who_cannot_decode_is_told_and_nobody_else_notices() {
    let mut sim = Sim::new(28);
    sim.join("ann");
    sim.join("cat");
    sim.run(secs(2));
    sim.join_as("bob", |habits| {
        habits.h264_only = true;
        habits.sources = vec![Microphone];
    });
    sim.run(secs(3));
    let mut told: Vec<_> = sim.browser("bob").page.errors.iter().map(|(_, error)| error.clone()).collect();
    assert!(
        told.iter()
            .all(|error| error["code"] == "cannot-decode" && error["source"] == "camera" && error["retry"] == false)
    );
    assert!(
        told.iter().all(|error| error["message"].as_str().is_some_and(|message| message.contains("a video format")))
    );
    told.sort_by_key(|error| error["id"].to_string());
    let mut ids = ["ann", "cat"].map(|name| sim.browser(name).page.id.clone());
    ids.sort();
    let named: Vec<_> = told.iter().map(|error| error["id"].as_str().expect("whose")).collect();
    assert_eq!(named, ids, "once for each camera");
    for name in ["ann", "cat"] {
        assert!(sim.hears("bob", name) && !sim.sees("bob", name) && sim.hears(name, "bob"));
        assert!(sim.browser(name).page.errors.is_empty());
    }
    for (viewer, publisher) in [("ann", "cat"), ("cat", "ann")] {
        assert!(sim.sees(viewer, publisher));
        assert!(sim.watched(viewer, publisher, Camera).expect("seen").longest_gap < millis(100));
    }
}

#[test]
fn who_takes_redundancy_without_the_codec_in_it_is_told_that_it_is_about_sound() {
    let mut sim = Sim::new(29);
    sim.join_as("ann", |habits| habits.sound = Sound::Redundant);
    sim.join_as("bob", |habits| habits.sound = Sound::LastOnly);
    sim.run(secs(3));
    let told: Vec<_> = sim.browser("bob").page.errors.iter().map(|(_, error)| error).collect();
    let [error] = told[..] else { panic!("{told:?}") };
    assert_eq!((&error["code"], &error["source"]), (&"cannot-decode".into(), &"microphone".into()));
    assert_eq!(error["message"], "ann sends audio in a format that this browser cannot play.");
    assert!(!sim.hears("bob", "ann") && sim.sees("bob", "ann") && sim.hears("ann", "bob"));
    assert!(sim.browser("ann").page.errors.is_empty());
}

#[test]
fn packets_too_large_to_forward_are_counted_and_their_publisher_is_told_once() {
    let mut world = World::new(320);
    world.rate = Rate { filler: 1_420, ..world.rate };
    let mut sim = Sim::with(world);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(5));
    assert!(sim.server.stats().packets_oversized > 20);
    for name in ["ann", "bob"] {
        let errors: Vec<_> = sim.browser(name).page.errors.iter().map(|(_, error)| error.clone()).collect();
        let told: Vec<_> = errors.iter().filter(|error| error["code"] == "packet-too-large").collect();
        let [error] = told[..] else { panic!("{name} was told {errors:?}") };
        assert_eq!((&error["id"], &error["retry"]), (&sim.browser(name).page.id.as_str().into(), &false.into()));
        assert!(error["source"].is_string(), "{error}");
    }
}
