//! What causes each reason for a drop, and how many packets it counts.

use aq_server::drop_reason::DropReason;
use serde_json::json;

use crate::media::{Camera, Microphone, Rate, Source};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};
use crate::token::token;
use crate::tokens::{claims, guarded};

/// Audio levels, in decibels below the loudest.
const SPEECH: u8 = 20;
const SILENCE: u8 = 90;

/// Upper bound of the packets that are on the way to the server at one time.
const ON_THE_WAY: u64 = 5;

/// A call in which each packet of one source of Ann's is dropped for one reason, and none for another.
struct Case {
    reason: DropReason,
    source: Source,
    /// Number of participants that do not get the packets.
    others: u64,
    /// The load of the server's loop.
    load: f64,
    begin: fn() -> Sim,
}

/// A call of Ann, who publishes one source, and Bob, who publishes none.
fn call(seed: u64, source: Source) -> Sim {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) });
    sim.join_as("ann", |habits| habits.sources = vec![source]);
    sim.watch("bob");
    sim.run(secs(2));
    sim
}

/// Cat, a moderator, has muted Ann.
fn silenced() -> Sim {
    let mut sim = guarded(1_400);
    let query = |rights| format!("&token={}", token(&claims(rights)));
    for (name, source, rights) in
        [("ann", Some(Microphone), json!({})), ("bob", None, json!({})), ("cat", None, json!({"moderate": true}))]
    {
        sim.join_as(name, |habits| {
            habits.sources = source.into_iter().collect();
            habits.query = query(rights);
        });
    }
    sim.run(secs(2));
    let id = sim.browser("ann").page.id.clone();
    sim.say("cat", &json!({"event": "moderate", "action": "mute", "id": id}));
    sim.run(secs(1));
    sim
}

/// Bob's page hides Ann's video.
fn not_viewed() -> Sim {
    let mut sim = call(1_401, Camera);
    sim.show("bob", "ann", 0);
    sim.run(secs(1));
    sim
}

/// The server is overloaded, and Ann does not speak. Bob has pinned her, so that she still sends; Cat has not.
fn shed() -> Sim {
    let mut sim = call(1_402, Camera);
    sim.watch("cat");
    sim.run(secs(1));
    sim.view("bob", "ann", Camera, 360, 2);
    sim.run_loaded(secs(6), 1.0);
    sim.run_loaded(secs(4), 0.8);
    sim
}

/// Bob decodes only H.264, and Ann sends VP8.
fn codec_not_negotiated() -> Sim {
    let mut sim = Sim::with(World { rate: Rate::SPARSE, ..World::new(1_403) });
    sim.join_as("ann", |habits| habits.sources = vec![Camera]);
    sim.join_as("bob", |habits| {
        habits.h264_only = true;
        habits.sources.clear();
    });
    sim.run(secs(2));
    sim
}

/// Numbers of packets dropped for a reason and for any, and of those that Ann has sent.
fn count(sim: &mut Sim, case: &Case) -> [u64; 3] {
    sim.server.settle_drops();
    let sent = sim.publication("ann", case.source).sent_packets();
    let drops = sim.server.stats().drops;
    [drops.get(case.reason), drops.total(), sent]
}

#[test]
fn each_cause_drops_all_packets_for_its_reason() {
    let cases = [
        Case { reason: DropReason::Silenced, source: Microphone, others: 2, load: 0.3, begin: silenced },
        Case { reason: DropReason::NotViewed, source: Camera, others: 1, load: 0.3, begin: not_viewed },
        Case { reason: DropReason::Shed, source: Camera, others: 1, load: 0.8, begin: shed },
        Case {
            reason: DropReason::CodecNotNegotiated,
            source: Camera,
            others: 1,
            load: 0.3,
            begin: codec_not_negotiated,
        },
    ];
    let mut wrong = Vec::new();
    for case in cases {
        let mut sim = (case.begin)();
        let before = count(&mut sim, &case);
        sim.run_loaded(secs(2), case.load);
        let after = count(&mut sim, &case);
        let [dropped, in_total, sent] = [0, 1, 2].map(|at| after[at] - before[at]);
        assert!(sent >= 20, "Ann sends only {sent} packets");
        if dropped != in_total || dropped.abs_diff(sent * case.others) > ON_THE_WAY * case.others {
            wrong.push(format!("{}: {dropped} of {in_total} drops, {sent} packets sent", case.reason.name()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Runs `sim`, with `act` before each step of 5 ms, until packets are dropped for a reason. Returns their number.
fn run_until_dropped(sim: &mut Sim, reason: DropReason, mut act: impl FnMut(&mut Sim)) -> u64 {
    let until = sim.now + secs(20);
    while sim.now < until && sim.server.stats().drops.get(reason) == 0 {
        act(sim);
        sim.run(millis(5));
    }
    sim.server.stats().drops.get(reason)
}

#[test]
fn packets_held_for_a_publisher_that_loses_its_seat_are_dropped_as_reassigned() {
    let mut world = World { rate: Rate::BROWSER, ..World::new(1_404) };
    world.config.limits.last_n = 1;
    world.config.limits.loudest_above = 2;
    let mut sim = Sim::with(world);
    for name in ["ann", "cat"] {
        sim.join(name);
        sim.publication_mut(name, Microphone).level = Some(SILENCE);
    }
    sim.watch("bob");
    sim.narrow("bob", 1_000_000);
    sim.run(secs(2));
    assert_eq!(sim.server.stats().drops.get(DropReason::Reassigned), 0, "no seat has changed yet");
    let mut speakers = ["ann", "cat"];
    let mut next = sim.now;
    let mut held = 0;
    let dropped = run_until_dropped(&mut sim, DropReason::Reassigned, |sim| {
        held = sim.server.undecided_packets();
        if sim.now >= next {
            next = sim.now + millis(400);
            speakers.reverse();
            sim.publication_mut(speakers[0], Microphone).level = Some(SPEECH);
            sim.publication_mut(speakers[1], Microphone).level = Some(SILENCE);
        }
    });
    assert!(sim.server.stats().exchanges > 0, "the speaker takes the seat");
    assert!((1..=held + ON_THE_WAY).contains(&dropped), "{dropped} of {held} held packets");
}

#[test]
fn held_packets_that_have_left_the_history_are_dropped() {
    // 15,000 packets a second: more than the history keeps arrive while Bob's pacer holds the first ones.
    let flood = Rate { video: millis(4), key_packets: 60, delta_packets: 60, filler: 0, ..Rate::SPARSE };
    let mut world = World { rate: flood, ..World::new(1_405) };
    world.config.limits.max_publish_packets = 100_000;
    world.config.limits.max_publish_kbps = 100_000;
    let mut sim = Sim::with(world);
    sim.join_as("ann", |habits| habits.sources.clear());
    sim.watch("bob");
    sim.narrow("bob", 300_000);
    sim.run(secs(2));
    sim.publish("ann", Camera);
    let mut held = 0;
    let dropped = run_until_dropped(&mut sim, DropReason::HeldTooLong, |sim| held = sim.server.undecided_packets());
    assert!((1..=held).contains(&dropped), "{dropped} of {held} held packets");
}
