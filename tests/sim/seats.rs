//! Rooms with more participants than seats.

use std::collections::BTreeSet;

use aq_server::server::Sizes;
use serde_json::json;

use crate::media::{Camera, Microphone, Rate, Screen, Source};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

/// Largest time until a participant that starts to speak is seen and heard.
const AT_ONCE: std::time::Duration = millis(300);

/// Decibels below the loudest.
const SPEECH: u8 = 20;
const SILENCE: u8 = 90;

const SEATS: usize = 4;

fn limited(seed: u64) -> Sim {
    let mut world = World { rate: Rate { audio: millis(20), ..Rate::SPARSE }, ..World::new(seed) };
    world.config.limits.loudest_above = 6;
    world.config.limits.last_n = SEATS;
    Sim::with(world)
}

/// A room with `count` silent participants, all settled.
fn room(seed: u64, count: usize) -> (Sim, Vec<String>) {
    let mut sim = limited(seed);
    let names: Vec<String> = (0..count).map(|number| format!("p{number}")).collect();
    for name in &names {
        sim.join(name);
        voice(&mut sim, name, SILENCE);
        sim.run(millis(30));
    }
    sim.run(secs(4));
    (sim, names)
}

fn voice(sim: &mut Sim, name: &str, level: u8) {
    sim.publication_mut(name, Microphone).level = Some(level);
}

fn view(sim: &mut Sim, viewer: &str, of: &str, height: u32, priority: u32) {
    let id = sim.browser(of).page.id.clone();
    let view = json!({"id": id, "source": "camera", "width": height * 2, "height": height, "priority": priority});
    sim.say(viewer, &json!({"event": "view", "views": [view]}));
}

/// The participants that the last `tracks` assigned to m-lines of `viewer`.
fn seated(sim: &Sim, viewer: &str) -> BTreeSet<String> {
    let names = sim.browser(viewer).page.received().map(|track| {
        let is_theirs = |name: &&String| sim.browser(name).page.id == track.id;
        sim.names.keys().find(is_theirs).expect("`tracks` names participants only").clone()
    });
    names.collect()
}

fn offers(sim: &Sim, names: &[String]) -> Vec<u32> {
    names.iter().map(|name| sim.browser(name).page.offers).collect()
}

/// Checks the invariants of a limited room: no more sets of m-lines than seats, and each viewer receives exactly the
/// participants named in `tracks`.
fn assert_seated(sim: &Sim, names: &[String]) {
    for viewer in names {
        let (browser, seated) = (sim.browser(viewer), seated(sim, viewer));
        assert_eq!(seated.len(), SEATS.min(names.len() - 1), "{viewer} has seats for {seated:?}");
        let is_own = |mid: &str| browser.page.tracks.iter().any(|track| track.own && track.mid == mid);
        let received = browser.lines.iter().filter(|line| !is_own(&line.mid));
        let streams: BTreeSet<_> = received.map(|line| &line.stream_id).collect();
        assert!(streams.len() <= SEATS, "{viewer} has {} sets of m-lines", streams.len());
        for other in names.iter().filter(|other| *other != viewer) {
            let is_seated = seated.contains(other);
            assert_eq!(sim.sees(viewer, other), is_seated, "whether {viewer} sees {other}; seated are {seated:?}");
        }
    }
    for ((tag, ssrc), sealed) in &sim.tap.sealed {
        assert_eq!(sealed.missing(), 0, "browser {tag}, SSRC {ssrc}: sequence numbers skipped");
    }
}

#[test]
fn in_a_room_of_thirty_a_speaker_gets_a_seat_at_once_without_an_offer() {
    let (mut sim, names) = room(600, 30);
    assert_seated(&sim, &names);
    let before = offers(&sim, &names);
    for name in &names {
        assert!(sim.browser(name).lines.len() <= 2 + 2 * SEATS, "{} m-lines", sim.browser(name).lines.len());
    }
    for speaker in [7, 29, 12, 13, 14, 0, 21, 7] {
        let (speaker, since) = (&names[speaker], sim.now);
        let first = sim.publication(speaker, Microphone).frame;
        for browser in &mut sim.browsers {
            browser.packets = Some(Vec::new());
        }
        voice(&mut sim, speaker, SPEECH);
        sim.run(AT_ONCE);
        let tag = sim.tag(speaker) as u32;
        for name in names.iter().filter(|name| *name != speaker) {
            assert!(seated(&sim, name).contains(speaker), "`tracks` of {name} does not list {speaker}");
            let watched = sim.watched(name, speaker, Camera).and_then(|watched| watched.last_shown_at);
            assert!(watched.is_some_and(|at| at > since), "{name} does not see {speaker}");
            let packets = sim.browser(name).packets.as_ref().expect("packets are recorded").iter();
            let heard = packets.filter(|(stamp, _)| (stamp.publisher, stamp.source) == (tag, Microphone));
            let heard = heard.map(|(stamp, _)| stamp.frame).filter(|frame| *frame >= first).min();
            assert_eq!(heard, Some(first), "{name} must hear {speaker} from the first packet of speech");
        }
        sim.run(secs(1));
        voice(&mut sim, speaker, SILENCE);
        sim.run(millis(500));
        assert_seated(&sim, &names);
    }
    assert_eq!(offers(&sim, &names), before, "seats change without offers");
    // No page has sent `view`, so each has the last speakers.
    assert_eq!(seated(&sim, "p3"), ["p0", "p14", "p21", "p7"].map(str::to_owned).into());
    assert!(sim.server.stats().exchanges > 0);
}

#[test]
fn tracks_arrives_with_the_media_however_much_is_sent_at_once() {
    let mut sim = limited(608);
    sim.rate = Rate { audio: millis(20), filler: 1_200, ..Rate::SPARSE };
    // Without jitter, datagrams arrive in the order they were sent.
    sim.path.jitter = millis(0);
    let names: Vec<String> = (0..50).map(|number| format!("p{number}")).collect();
    for name in &names {
        sim.join(name);
        voice(&mut sim, name, SILENCE);
        sim.run(millis(20));
    }
    sim.run(secs(2));
    for speakers in [["p20", "p21", "p22"], ["p23", "p24", "p25"], ["p26", "p27", "p28"]] {
        // All first audio packets and all pictures arrive in one batch: more than the server sends at a time.
        let at = sim.now + millis(50);
        for name in &names {
            sim.publication_mut(name, Camera).next_at = at;
            sim.publication_mut(name, Microphone).next_at = at;
        }
        speakers.iter().for_each(|speaker| voice(&mut sim, speaker, SPEECH));
        sim.run(AT_ONCE);
        for name in &names {
            let mut others = speakers.iter().filter(|speaker| *speaker != name);
            assert!(others.all(|speaker| sim.hears(name, speaker)), "{name}");
        }
        speakers.iter().for_each(|speaker| voice(&mut sim, speaker, SILENCE));
        sim.run(millis(700));
    }
}

#[test]
fn a_requested_participant_gets_a_seat_and_a_pinned_one_keeps_it() {
    let (mut sim, names) = room(601, 12);
    let before = offers(&sim, &names);
    view(&mut sim, "p0", "p9", 360, 2);
    let nobody = json!({"id": "nobody", "source": "camera", "width": 640, "height": 360, "priority": 9});
    sim.say("p0", &json!({"event": "view", "views": [nobody]}));
    sim.run(AT_ONCE);
    assert!(seated(&sim, "p0").contains("p9") && sim.sees("p0", "p9"));
    for speaker in ["p5", "p6", "p7", "p8", "p10", "p11"] {
        voice(&mut sim, speaker, SPEECH);
        sim.run(millis(400));
        voice(&mut sim, speaker, SILENCE);
        sim.run(millis(800));
        let seated = seated(&sim, "p0");
        assert!(seated.contains("p9") && seated.contains(speaker), "{seated:?}");
        assert_seated(&sim, &names);
    }
    let gap = sim.watched("p0", "p9", Camera).expect("seen").longest_gap;
    assert!(gap < millis(300), "{gap:?}");
    // The pinned participant is no longer viewed, so another one takes the seat.
    view(&mut sim, "p0", "p9", 0, 2);
    sim.run(secs(3));
    assert!(!seated(&sim, "p0").contains("p9"));
    assert_seated(&sim, &names);
    assert_eq!(offers(&sim, &names), before, "seats change without offers");
    assert!(sim.browser("p0").page.errors.is_empty());
}

#[test]
fn a_view_of_an_unseated_participant_applies_once_it_is_seated() {
    let (mut sim, names) = room(602, 8);
    let outside = names[1..]
        .iter()
        .find(|name| !seated(&sim, "p0").contains(*name))
        .expect("not all participants have seats")
        .clone();
    view(&mut sim, "p0", &outside, 0, 1);
    sim.run(millis(300));
    voice(&mut sim, &outside, SPEECH);
    sim.run(secs(1));
    assert!(seated(&sim, "p0").contains(&outside));
    assert!(
        sim.hears("p0", &outside) && sim.watched("p0", &outside, Camera).is_none(),
        "video that is not in view is not sent"
    );
    assert!(sim.sees(&names[1], &outside) || names[1] == outside);
    view(&mut sim, "p0", &outside, 180, 1);
    sim.run(millis(300));
    assert!(sim.sees("p0", &outside));
}

#[test]
fn a_seat_is_refilled_without_an_offer_when_a_participant_leaves() {
    let (mut sim, mut names) = room(603, 10);
    let before = offers(&sim, &names[8..]);
    // The first to join are on most pages.
    while names.len() > SEATS + 2 {
        sim.leave(&names.remove(0));
        sim.run(secs(1));
        assert_seated(&sim, &names);
    }
    assert_eq!(offers(&sim, &names[4..]), before, "no offers as long as unseated participants remain");
    for name in ["late", "later"] {
        names.push(name.to_owned());
        sim.join(name);
        voice(&mut sim, name, SILENCE);
        sim.run(secs(3));
        assert_seated(&sim, &names);
    }
    while names.len() > 1 {
        sim.leave(&names.remove(0));
        sim.run(secs(1));
        assert_seated(&sim, &names);
    }
    sim.leave(&names[0]);
    sim.run(secs(2));
    assert_eq!(sim.server.sizes(), Sizes::default(), "the server keeps no state of participants that left");
}

#[test]
fn a_participant_without_camera_or_with_a_screen_gets_the_m_lines_it_needs() {
    let (mut sim, names) = room(604, 8);
    sim.join_as("mute", |habits| habits.sources = vec![Microphone]);
    sim.join_as("deaf", |habits| habits.sources = vec![Camera]);
    voice(&mut sim, "mute", SILENCE);
    sim.run(secs(3));
    let before = offers(&sim, &names);
    voice(&mut sim, "mute", SPEECH);
    sim.run(secs(1));
    assert!(names.iter().all(|name| sim.hears(name, "mute")));
    assert_eq!(offers(&sim, &names), before, "an m-line that is not needed stays unchanged");
    voice(&mut sim, "p7", SPEECH);
    sim.publish("p7", Screen);
    sim.run(secs(2));
    for name in names.iter().filter(|name| *name != "p7") {
        assert!(sim.sees(name, "p7") && sim.gets(name, "p7", Screen), "{name}: {:?}", seated(&sim, name));
    }
    voice(&mut sim, "p7", SILENCE);
    for speaker in ["p1", "p2", "p3", "p4"] {
        voice(&mut sim, speaker, SPEECH);
        sim.run(secs(1));
        voice(&mut sim, speaker, SILENCE);
        let stays = |name: &&String| *name == "p7" || sim.gets(name, "p7", Screen);
        assert!(names.iter().all(|name| stays(&name)), "a screen keeps its seat");
    }
    sim.unpublish("p7", Screen);
    view(&mut sim, "p0", "deaf", 360, 2);
    sim.run(secs(3));
    assert!(sim.sees("p0", "deaf") && !sim.gets("p0", "p7", Screen));
    for name in &names {
        assert!(sim.browser(name).page.errors.is_empty(), "{:?}", sim.browser(name).page.errors);
        let lines = sim.browser(name).lines.len();
        assert!(lines <= 2 + 2 * SEATS + 1, "{name} has {lines} m-lines");
    }
}

#[test]
fn a_participant_that_returns_is_still_pinned() {
    let (mut sim, names) = room(605, 10);
    view(&mut sim, "p0", "p9", 360, 2);
    sim.run(secs(1));
    assert!(sim.sees("p0", "p9"));
    sim.resume("p9");
    voice(&mut sim, "p9", SILENCE);
    sim.run(secs(5));
    assert!(seated(&sim, "p0").contains("p9") && sim.sees("p0", "p9"));
    assert_seated(&sim, &names);
}

#[test]
fn in_a_room_with_a_seat_for_every_participant_nothing_is_limited() {
    let (mut sim, names) = room(606, SEATS + 1);
    sim.assert_complete("main");
    assert_eq!(sim.server.stats().exchanges, 0);
    // One more participant joins and leaves.
    for round in 0..3 {
        let guest = format!("guest{round}");
        sim.join(&guest);
        voice(&mut sim, &guest, SILENCE);
        sim.run(secs(2));
        let waiting: Vec<_> = names.iter().filter(|name| !sim.sees(name, &guest)).collect();
        assert!(!waiting.is_empty(), "there is no seat for every participant");
        sim.leave(&guest);
        sim.run(secs(2));
        sim.assert_complete("main");
    }
}

#[test]
fn when_all_talk_at_once_all_hear_the_same_speakers() {
    let (mut sim, names) = room(607, 12);
    let levels = [15, 22, 18, 25, 30, 12, 27, 19, 33, 16, 24, 21];
    for round in 0..20 {
        for (index, name) in names.iter().enumerate() {
            let speaks = (index + round) % 4 != 0;
            voice(&mut sim, name, if speaks { levels[(index + round) % levels.len()] } else { SILENCE });
        }
        sim.run(millis(250));
    }
    let offers_before = offers(&sim, &names);
    sim.run(secs(2));
    // All participants hear the same three.
    for source in [Microphone, Camera] as [Source; 2] {
        let heard: Vec<BTreeSet<&String>> = names
            .iter()
            .map(|listener| names.iter().filter(|name| *name != listener && sim.hears(listener, name)).collect())
            .collect();
        let all: BTreeSet<&String> = heard.iter().flatten().copied().collect();
        assert_eq!(all.len(), 3, "{source:?}: {heard:?}");
        for (listener, heard) in names.iter().zip(&heard) {
            assert!(all.iter().all(|name| *name == listener || heard.contains(name)), "{listener} hears {heard:?}");
            assert!(all.iter().all(|name| *name == listener || sim.gets(listener, name, source)));
        }
    }
    assert_eq!(offers(&sim, &names), offers_before);
    assert_seated(&sim, &names);
}

#[test]
fn many_changes_at_once_reassign_the_seats_once() {
    let (mut sim, names) = room(608, 12);
    let before = sim.server.stats().seatings;
    for number in 0..50 {
        sim.say("p3", &json!({"event": "mute", "source": "camera", "muted": number % 2 == 0}));
    }
    sim.run(secs(1));
    let seatings = sim.server.stats().seatings - before;
    assert!((1..10).contains(&seatings), "{seatings}");
    assert!(sim.browser("p3").page.errors.is_empty());
    assert_seated(&sim, &names);
}
