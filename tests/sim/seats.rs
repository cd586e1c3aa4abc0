//! Rooms with more people than lines.

use std::collections::BTreeSet;

use serde_json::json;

use crate::media::{Camera, Microphone, Rate, Screen, Source};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

/// How long it may take until who begins to speak is seen and heard.
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

/// So many people, all silent, who have been there for a while.
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

/// Whom somebody is told to be on lines.
fn told(sim: &Sim, viewer: &str) -> BTreeSet<String> {
    let names = sim.browser(viewer).page.received().map(|track| {
        let is_theirs = |name: &&String| sim.browser(name).page.id == track.id;
        sim.names.keys().find(is_theirs).expect("somebody").clone()
    });
    names.collect()
}

fn offers(sim: &Sim, names: &[String]) -> Vec<u32> {
    names.iter().map(|name| sim.browser(name).page.offers).collect()
}

/// What is so in every limited room: as few lines as there are seats, those who are told to be on them come, and nobody
/// else does.
fn assert_seated(sim: &Sim, names: &[String]) {
    for viewer in names {
        let (browser, told) = (sim.browser(viewer), told(sim, viewer));
        assert_eq!(told.len(), SEATS.min(names.len() - 1), "{viewer} has {told:?}");
        let is_own = |mid: &str| browser.page.tracks.iter().any(|track| track.own && track.mid == mid);
        let received = browser.lines.iter().filter(|line| !is_own(&line.mid));
        let streams: BTreeSet<_> = received.map(|line| &line.stream_id).collect();
        assert!(streams.len() <= SEATS, "{viewer} has {} sets of lines", streams.len());
        for other in names.iter().filter(|other| *other != viewer) {
            let is_seated = told.contains(other);
            assert_eq!(sim.sees(viewer, other), is_seated, "{viewer} sees {other}, of {told:?}");
        }
    }
    for ((tag, ssrc), sealed) in &sim.tap.sealed {
        assert_eq!(sealed.missing(), 0, "browser {tag}, SSRC {ssrc}: an exchange leaves no gap");
    }
}

#[test]
fn in_a_room_of_thirty_who_speaks_is_on_a_line_at_once_and_without_an_offer() {
    let (mut sim, names) = room(600, 30);
    assert_seated(&sim, &names);
    let before = offers(&sim, &names);
    for name in &names {
        assert!(sim.browser(name).lines.len() <= 2 + 2 * SEATS, "{} lines", sim.browser(name).lines.len());
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
            assert!(told(&sim, name).contains(speaker), "{name} is not told that {speaker} is on a line");
            let watched = sim.watched(name, speaker, Camera).and_then(|watched| watched.last_shown_at);
            assert!(watched.is_some_and(|at| at > since), "{name} does not see {speaker}");
            let packets = sim.browser(name).packets.as_ref().expect("recorded").iter();
            let heard = packets.filter(|(stamp, _)| (stamp.publisher, stamp.source) == (tag, Microphone));
            let heard = heard.map(|(stamp, _)| stamp.frame).filter(|frame| *frame >= first).min();
            assert_eq!(heard, Some(first), "{name} hears {speaker} from the first word on");
        }
        sim.run(secs(1));
        voice(&mut sim, speaker, SILENCE);
        sim.run(millis(500));
        assert_seated(&sim, &names);
    }
    assert_eq!(offers(&sim, &names), before, "nobody got an offer");
    // None of the pages told what it shows: they have those who spoke last.
    assert_eq!(told(&sim, "p3"), ["p0", "p14", "p21", "p7"].map(str::to_owned).into());
    assert!(sim.server.stats().exchanges > 0);
}

#[test]
fn who_is_on_a_line_is_told_with_what_comes_however_much_leaves_at_once() {
    let mut sim = limited(608);
    sim.rate = Rate { audio: millis(20), filler: 1_200, ..Rate::SPARSE };
    // What leaves first comes first.
    sim.path.jitter = millis(0);
    let names: Vec<String> = (0..50).map(|number| format!("p{number}")).collect();
    for name in &names {
        sim.join(name);
        voice(&mut sim, name, SILENCE);
        sim.run(millis(20));
    }
    sim.run(secs(2));
    for speakers in [["p20", "p21", "p22"], ["p23", "p24", "p25"], ["p26", "p27", "p28"]] {
        // All first words and all pictures come with one batch: more than is handed out at a time.
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
fn who_is_asked_for_comes_and_who_is_pinned_stays() {
    let (mut sim, names) = room(601, 12);
    let before = offers(&sim, &names);
    view(&mut sim, "p0", "p9", 360, 2);
    let nobody = json!({"id": "nobody", "source": "camera", "width": 640, "height": 360, "priority": 9});
    sim.say("p0", &json!({"event": "view", "views": [nobody]}));
    sim.run(AT_ONCE);
    assert!(told(&sim, "p0").contains("p9") && sim.sees("p0", "p9"));
    for speaker in ["p5", "p6", "p7", "p8", "p10", "p11"] {
        voice(&mut sim, speaker, SPEECH);
        sim.run(millis(400));
        voice(&mut sim, speaker, SILENCE);
        sim.run(millis(800));
        let told = told(&sim, "p0");
        assert!(told.contains("p9") && told.contains(speaker), "{told:?}");
        assert_seated(&sim, &names);
    }
    let gap = sim.watched("p0", "p9", Camera).expect("seen").longest_gap;
    assert!(gap < millis(300), "{gap:?}");
    // Nobody looks at who is pinned any more, and somebody else is in sight.
    view(&mut sim, "p0", "p9", 0, 2);
    sim.run(secs(3));
    assert!(!told(&sim, "p0").contains("p9"));
    assert_seated(&sim, &names);
    assert_eq!(offers(&sim, &names), before, "nobody got an offer");
    assert!(sim.browser("p0").page.errors.is_empty());
}

#[test]
fn what_was_told_of_a_person_holds_when_they_come_to_a_line() {
    let (mut sim, names) = room(602, 8);
    let outside = names[1..].iter().find(|name| !told(&sim, "p0").contains(*name)).expect("there are more").clone();
    view(&mut sim, "p0", &outside, 0, 1);
    sim.run(millis(300));
    voice(&mut sim, &outside, SPEECH);
    sim.run(secs(1));
    assert!(told(&sim, "p0").contains(&outside));
    assert!(sim.hears("p0", &outside) && sim.watched("p0", &outside, Camera).is_none(), "out of sight is not sent");
    assert!(sim.sees(&names[1], &outside) || names[1] == outside);
    view(&mut sim, "p0", &outside, 180, 1);
    sim.run(millis(300));
    assert!(sim.sees("p0", &outside));
}

#[test]
fn who_leaves_makes_room_without_an_offer() {
    let (mut sim, mut names) = room(603, 10);
    let before = offers(&sim, &names[8..]);
    // They joined first, and are on most pages.
    while names.len() > SEATS + 2 {
        sim.leave(&names.remove(0));
        sim.run(secs(1));
        assert_seated(&sim, &names);
    }
    assert_eq!(offers(&sim, &names[4..]), before, "as long as somebody waits");
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
    assert_eq!(sim.server.sizes(), [0; 7], "nothing is kept of those who left");
}

#[test]
fn who_has_no_camera_or_a_screen_too_gets_the_lines_that_they_need() {
    let (mut sim, names) = room(604, 8);
    sim.join_as("mute", |habits| habits.sources = vec![Microphone]);
    sim.join_as("deaf", |habits| habits.sources = vec![Camera]);
    voice(&mut sim, "mute", SILENCE);
    sim.run(secs(3));
    let before = offers(&sim, &names);
    voice(&mut sim, "mute", SPEECH);
    sim.run(secs(1));
    assert!(names.iter().all(|name| sim.hears(name, "mute")));
    assert_eq!(offers(&sim, &names), before, "a line that is not needed stays as it is");
    voice(&mut sim, "p7", SPEECH);
    sim.publish("p7", Screen);
    sim.run(secs(2));
    for name in names.iter().filter(|name| *name != "p7") {
        assert!(sim.sees(name, "p7") && sim.gets(name, "p7", Screen), "{name}: {:?}", told(&sim, name));
    }
    voice(&mut sim, "p7", SILENCE);
    for speaker in ["p1", "p2", "p3", "p4"] {
        voice(&mut sim, speaker, SPEECH);
        sim.run(secs(1));
        voice(&mut sim, speaker, SILENCE);
        let stays = |name: &&String| *name == "p7" || sim.gets(name, "p7", Screen);
        assert!(names.iter().all(|name| stays(&name)), "a screen stays");
    }
    sim.unpublish("p7", Screen);
    view(&mut sim, "p0", "deaf", 360, 2);
    sim.run(secs(3));
    assert!(sim.sees("p0", "deaf") && !sim.gets("p0", "p7", Screen));
    for name in &names {
        assert!(sim.browser(name).page.errors.is_empty(), "{:?}", sim.browser(name).page.errors);
        let lines = sim.browser(name).lines.len();
        assert!(lines <= 2 + 2 * SEATS + 1, "{name} has {lines} lines");
    }
}

#[test]
fn who_comes_back_is_still_pinned() {
    let (mut sim, names) = room(605, 10);
    view(&mut sim, "p0", "p9", 360, 2);
    sim.run(secs(1));
    assert!(sim.sees("p0", "p9"));
    sim.resume("p9");
    voice(&mut sim, "p9", SILENCE);
    sim.run(secs(5));
    assert!(told(&sim, "p0").contains("p9") && sim.sees("p0", "p9"));
    assert_seated(&sim, &names);
}

#[test]
fn in_a_room_where_everybody_has_a_seat_nothing_is_limited() {
    let (mut sim, names) = room(606, SEATS + 1);
    sim.assert_complete("main");
    assert_eq!(sim.server.stats().exchanges, 0);
    // One more, and one less.
    for round in 0..3 {
        let guest = format!("guest{round}");
        sim.join(&guest);
        voice(&mut sim, &guest, SILENCE);
        sim.run(secs(2));
        let waiting: Vec<_> = names.iter().filter(|name| !sim.sees(name, &guest)).collect();
        assert!(!waiting.is_empty(), "there are not seats for all");
        sim.leave(&guest);
        sim.run(secs(2));
        sim.assert_complete("main");
    }
}

#[test]
fn everybody_talking_at_once_starves_nobody_of_what_is_heard() {
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
    // The same three are heard by all.
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
fn who_changes_much_at_once_moves_the_seats_once() {
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
