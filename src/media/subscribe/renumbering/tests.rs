//! Tests of the renumbering: gaps, late packets, dropped layers and switches of the source.

use std::collections::HashSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::dropped::RUNS;
use super::layer_filter::CHANGES;
use super::*;

use crate::media::inputs;
use crate::media::rtp::packet::Packet;

fn up_to(temporal: u8) -> Bound {
    Bound { spatial: u8::MAX, temporal }
}

fn packet(ssrc: u32, seq_no: u64, timestamp: u32, can_start: bool) -> Incoming {
    Incoming { ssrc, seq_no, timestamp, can_start, ..Packet::sample(Instant::now()).incoming }
}

/// Returns the outgoing number and timestamp of a packet without temporal layers.
fn rewrite(renumbering: &mut Renumbering, packet: &Incoming) -> Option<(u64, u32)> {
    let rewritten = renumbering.rewrite(packet, &Description::default(), up_to(2)).ok()?;
    Some((rewritten.seq_no, rewritten.timestamp))
}

/// The publisher changes its SSRC, and the packet with which decoding can start is lost. `is_waiting` has to become
/// true, else no keyframe would be requested.
#[test]
fn a_new_ssrc_without_a_start_makes_it_wait_and_late_packets_of_the_old_one_do_not() {
    let start = Instant::now();
    let mut renumbering = Renumbering::new(100);
    let mut step = |ssrc: u32, ms: u64, seq_no: u64, can_start: bool| {
        let captured = start + Duration::from_millis(ms);
        let packet = Incoming { captured, ..packet(ssrc, seq_no, 90 * ms as u32, can_start) };
        let is_sent = rewrite(&mut renumbering, &packet).is_some();
        (is_sent, renumbering.is_waiting())
    };
    for (number, (ssrc, ms, seq_no, can_start, expected)) in [
        (1, 0, 10, true, (true, false)),
        (1, 33, 12, false, (true, false)),
        // The first packet of the new SSRC is lost.
        (2, 66, 501, false, (false, true)),
        (1, 40, 13, false, (false, true)),
        (2, 500, 520, true, (true, false)),
        // A packet of the old SSRC that is late, and one after `RETURN`, which counts as a return.
        (1, 501, 14, false, (false, false)),
        (2, 533, 521, false, (true, false)),
        (1, 1_040, 15, false, (false, true)),
        (1, 1_100, 16, true, (true, false)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(step(ssrc, ms, seq_no, can_start), expected, "step {number}");
    }
}

#[test]
fn held_back_packets_leave_a_gap_in_timestamps_only() {
    let mut renumbering = Renumbering::new(50);
    let mut out = |epoch, seq_no: u64| {
        rewrite(&mut renumbering, &Incoming { epoch, ..packet(1, seq_no, 960 * seq_no as u32, true) })
    };
    let expected = |seq_no, of: u32| Some((seq_no, 960 * of));
    assert_eq!(out(0, 10), expected(50, 10));
    assert_eq!(out(0, 11), expected(51, 11));
    assert_eq!(out(1, 40), expected(52, 40));
    assert_eq!(out(1, 42), expected(54, 42), "a gap of the network stays");
    assert_eq!(out(1, 41), expected(53, 41));
    assert_eq!(out(0, 12), None, "older than the next stretch");
    assert_eq!(out(2, 90), expected(55, 90));
}

#[test]
fn numbers_start_low_and_keep_gaps_and_order() {
    let mut renumbering = Renumbering::new(100);
    // The stream is hours old; nothing goes out before a keyframe.
    let base = 70_000_000;
    assert_eq!(rewrite(&mut renumbering, &packet(1, base - 1, 0, false)), None);
    let mut out = |seq_no| rewrite(&mut renumbering, &packet(1, seq_no, 7, seq_no == base));
    let expected = |seq_no| Some((seq_no, 7));
    assert_eq!(out(base), expected(100));
    assert_eq!(out(base + 1), expected(101));
    assert_eq!(out(base + 4), expected(104));
    assert_eq!(out(base + 3), expected(103));
    assert_eq!(out(base - 1), None, "older than the start");
    assert_eq!(out(base + 70_000), expected(70_100), "the outgoing counter is extended too");
}

#[test]
fn timestamps_of_a_new_source_continue_by_elapsed_time() {
    let start = Instant::now();
    let at = |ms, incoming| Incoming { captured: start + Duration::from_millis(ms), ..incoming };
    let mut renumbering = Renumbering::new(0);
    rewrite(&mut renumbering, &at(0, packet(1, 1, u32::MAX - 5, true)));
    assert_eq!(rewrite(&mut renumbering, &at(500, packet(2, 900, 1, false))), None, "not before its keyframe");
    let expected = (u32::MAX - 5).wrapping_add(45_000);
    assert_eq!(rewrite(&mut renumbering, &at(500, packet(2, 901, 4_000, true))), Some((1, expected)));
    renumbering.pause();
    let same_moment = rewrite(&mut renumbering, &at(500, packet(3, 7, 90, true)));
    assert_eq!(same_moment, Some((2, expected + 1)), "no timestamp is used twice");
    renumbering.pause();
    let earlier = rewrite(&mut renumbering, &at(400, packet(4, 7, 90, true)));
    assert_eq!(earlier, Some((3, expected + 2)), "timestamps never decrease");
}

/// A picture of a stream with three temporal layers: number of its first packet, packet count, temporal layer,
/// whether receivers can switch up here.
type Picture = (u64, u64, u8, bool);

/// Sends pictures, each with its temporal bound. Returns for each packet its outgoing number and the pictures
/// dropped before it.
fn layered(renumbering: &mut Renumbering, pictures: &[(Picture, u8)]) -> Vec<Option<(u64, u16)>> {
    let mut out = Vec::new();
    for ((first, count, temporal, can_switch_up), limit) in pictures {
        let description = Description { temporal: *temporal, can_switch_up: *can_switch_up, ..Description::default() };
        for seq_no in *first..first + count {
            let incoming = packet(1, seq_no, *first as u32 * 100, *first == 0);
            let rewritten = renumbering.rewrite(&incoming, &description, up_to(*limit));
            out.push(rewritten.ok().map(|rewritten| (rewritten.seq_no, rewritten.dropped_pictures)));
        }
    }
    out
}

#[test]
fn dropped_temporal_layers_leave_no_gap_and_return_where_decodable() {
    let mut renumbering = Renumbering::new(100);
    let out = layered(
        &mut renumbering,
        &[
            ((0, 2, 0, false), 2),
            ((2, 1, 2, true), 2),
            ((3, 2, 2, false), 1),
            ((5, 1, 1, false), 1),
            ((6, 1, 2, false), 1),
            ((7, 1, 0, false), 0),
            ((8, 2, 1, true), 0),
            ((10, 1, 0, false), 2),
            ((11, 1, 2, true), 2),
            ((12, 1, 1, false), 2),
            ((13, 1, 1, true), 2),
            ((14, 1, 2, false), 2),
            ((15, 1, 2, true), 2),
            ((16, 1, 2, false), 0),
            ((17, 1, 1, false), 0),
        ],
    );
    let sent = |seq_no, dropped| Some((seq_no, dropped));
    let expected = [
        (sent(100, 0), 0),
        (sent(101, 0), 1),
        (sent(102, 0), 2),
        (None, 3),
        (None, 4),
        (sent(103, 1), 5),
        (None, 6),
        (sent(104, 2), 7),
        (None, 8),
        (None, 9),
        (sent(105, 3), 10),
        // The lower layer has to return first.
        (None, 11),
        // It does not return at a picture without a switching point.
        (None, 12),
        (sent(106, 5), 13),
        (None, 14),
        (sent(107, 6), 15),
        (None, 16),
        (None, 17),
    ];
    assert_eq!(out, expected.map(|(sent, _)| sent));
    // A frame that opens higher layers makes them decodable from then on.
    let opening = Description { opens: 2, ..Description::default() };
    renumbering.rewrite(&packet(1, 18, 1_800, false), &opening, up_to(2)).expect("of the lowest layer");
    let out = layered(&mut renumbering, &[((19, 1, 2, false), 2), ((20, 1, 1, false), 2)]);
    assert_eq!(out, [sent(109, 8), sent(110, 8)]);
}

#[test]
fn a_started_picture_is_sent_to_its_end() {
    let mut renumbering = Renumbering::new(0);
    let mut out = layered(&mut renumbering, &[((0, 1, 0, false), 2), ((1, 1, 2, false), 2)]);
    let description = Description { temporal: 2, ..Description::default() };
    for (seq_no, timestamp) in [(2, 100), (3, 300), (4, 300)] {
        let rewritten = renumbering.rewrite(&packet(1, seq_no, timestamp, false), &description, up_to(0));
        out.push(rewritten.ok().map(|rewritten| (rewritten.seq_no, rewritten.dropped_pictures)));
    }
    assert_eq!(out, [Some((0, 0)), Some((1, 0)), Some((2, 0)), None, None]);
}

#[test]
fn late_packet_between_dropped_ones_gets_its_reserved_number() {
    let mut renumbering = Renumbering::new(0);
    let pictures = [
        ((0, 1, 0, false), 0),
        // 1 is lost.
        ((2, 1, 1, false), 0),
        ((3, 1, 0, false), 0),
        ((4, 1, 1, false), 0),
        // 5 is lost.
        ((6, 1, 0, false), 0),
    ];
    let out = layered(&mut renumbering, &pictures);
    assert_eq!(out, [Some((0, 0)), None, Some((2, 1)), None, Some((4, 2))]);
    let late = layered(&mut renumbering, &[((1, 1, 0, false), 0), ((5, 1, 0, false), 0)]);
    assert_eq!(late, [Some((1, 0)), Some((3, 2))]);
    let again = layered(&mut renumbering, &[((2, 1, 1, false), 2), ((4, 1, 0, false), 2)]);
    assert_eq!(again, [None, None], "dropped packets stay dropped");
}

#[test]
fn late_packet_of_a_dropped_picture_is_sent_empty() {
    let upper = Description { temporal: 2, ..Description::default() };
    let lower = Description::default();
    // Sequence number, timestamp, description. `limit` is the temporal bound when the middle picture was decided.
    let late = |limit, late: u64| {
        let mut renumbering = Renumbering::new(0);
        for (seq_no, timestamp, description) in [(0, 0, &lower), (2, 1, &upper), (4, 2, &lower)] {
            let _ = renumbering.rewrite(&packet(1, seq_no, timestamp, seq_no == 0), description, up_to(limit));
        }
        let rewritten = renumbering.rewrite(&packet(1, late, 1, false), &upper, up_to(2)).expect("its number was kept");
        (rewritten.seq_no, rewritten.is_empty)
    };
    assert_eq!([late(0, 1), late(0, 3)], [(1, true), (2, true)], "before and after its received packet");
    assert_eq!([late(2, 1), late(2, 3)], [(1, false), (3, false)], "nothing is dropped");
    let mut renumbering = Renumbering::new(0);
    for (seq_no, description) in [(0, &lower), (2, &lower)] {
        let _ = renumbering.rewrite(&packet(1, seq_no, seq_no as u32, seq_no == 0), description, up_to(2));
    }
    let whole = renumbering.rewrite(&packet(1, 1, 1, false), &upper, up_to(0)).expect("its number was kept");
    assert!(whole.is_empty, "the picture is dropped");
}

#[test]
fn late_packet_older_than_all_remembered_runs_is_dropped() {
    let mut renumbering = Renumbering::new(0);
    let last = 2 * RUNS as u64 + 40;
    let picture = |seq_no: u64| ((seq_no, 1, (seq_no % 2) as u8, false), 0);
    let mut used = HashSet::new();
    // Every second picture is dropped, and every sixth of the others is lost.
    let is_lost = |seq_no: &u64| seq_no % 12 == 4;
    let received: Vec<_> = (0..last).filter(|seq_no| !is_lost(seq_no)).map(picture).collect();
    used.extend(layered(&mut renumbering, &received).into_iter().flatten().map(|(seq_no, _)| seq_no));
    let mut late = Vec::new();
    for seq_no in (0..last).filter(is_lost) {
        if let Some((out, _)) = layered(&mut renumbering, &[picture(seq_no)])[0] {
            assert!(used.insert(out), "{seq_no} goes out as {out}, a number already used");
            late.push(seq_no);
        }
    }
    assert!(!late.is_empty() && late[0] > 10, "{late:?}");
}

/// Sends a packet of a picture with three spatial layers and six packets. Returns its outgoing number, whether it
/// ends its picture and whether it is empty.
fn send(renumbering: &mut Renumbering, seq_no: u64, is_key: bool, spatial: u8) -> Option<(u64, bool, bool)> {
    let (picture, index) = (seq_no / 6, seq_no % 6);
    let description = Description { spatial: (index / 2) as u8, ends_frame: index % 2 == 1, ..Description::default() };
    let incoming = packet(1, seq_no, picture as u32 * 3_000, is_key && index == 0);
    let rewritten = renumbering.rewrite(&incoming, &description, Bound { spatial, temporal: u8::MAX }).ok()?;
    Some((rewritten.seq_no, rewritten.ends_picture, rewritten.is_empty))
}

#[test]
fn spatial_layers_drop_at_the_next_picture_and_return_at_a_keyframe() {
    let mut renumbering = Renumbering::new(100);
    let mut next = 100;
    // Whether it is a keyframe, the bound for its first and last three packets, the highest layer sent.
    let script = [
        (true, [u8::MAX, u8::MAX], 2),
        (false, [u8::MAX, 0], 2),
        (false, [0, 0], 0),
        (false, [0, 2], 0),
        (false, [u8::MAX, 1], 0),
        (true, [1, u8::MAX], 1),
        (false, [u8::MAX, u8::MAX], 1),
        (true, [u8::MAX, 0], 2),
        (false, [1, 1], 1),
        (true, [0, 2], 0),
        (true, [2, 2], 2),
        (false, [2, 2], 2),
    ];
    for (picture, (is_key, bounds, highest)) in (0..).zip(script) {
        for index in 0..6 {
            let sent = send(&mut renumbering, 6 * picture + index, is_key, bounds[index as usize / 3]);
            // Without a bound, the publisher's own marker ends the picture.
            let is_bound = renumbering.spatial() < u8::MAX;
            let expected = (index < 2 * highest + 2).then(|| (next, is_bound && index == 2 * highest + 1, false));
            assert_eq!(sent, expected, "packet {index} of picture {picture}");
            next += u64::from(expected.is_some());
        }
    }
}

#[test]
fn late_packet_of_a_picture_with_fewer_spatial_layers_matches_the_layers_sent() {
    // Sent: all of pictures 0, 3 and 4, up to the middle layer of picture 1, the lowest layer of picture 2.
    let bounds = [u8::MAX, 1, 0, u8::MAX, u8::MAX];
    for (late, expected) in [
        // The last packet of picture 0, which keeps the publisher's marker.
        (5, (5, false, false)),
        // Picture 1: its first packet, the last of the middle layer, one of the upper layer.
        (6, (6, false, false)),
        (9, (9, true, false)),
        (10, (10, false, true)),
        // Picture 2: likewise, with the upper layers in one run.
        (12, (10, false, false)),
        (13, (11, true, false)),
        (14, (12, false, true)),
        (17, (12, false, true)),
        (18, (12, false, false)),
        (23, (17, false, false)),
    ] {
        let mut renumbering = Renumbering::new(0);
        for seq_no in (0..30).filter(|seq_no| *seq_no != late) {
            send(&mut renumbering, seq_no, seq_no / 6 % 3 == 0, bounds[seq_no as usize / 6]);
        }
        assert_eq!(send(&mut renumbering, late, false, u8::MAX), Some(expected), "{late}");
    }
}

#[test]
fn late_packet_older_than_all_remembered_spatial_changes_is_empty() {
    for (changes, is_empty) in [(CHANGES as u64 - 1, false), (CHANGES as u64, false), (CHANGES as u64 + 1, true)] {
        let mut renumbering = Renumbering::new(0);
        for picture in 0..=changes {
            let bound = [u8::MAX, 1][picture as usize % 2];
            (0..6).filter(|index| (picture, *index) != (0, 2)).for_each(|index| {
                send(&mut renumbering, 6 * picture + index, picture % 2 == 0, bound);
            });
        }
        assert_eq!(send(&mut renumbering, 2, false, 1), Some((2, false, is_empty)), "{changes}");
    }
}

/// One step of a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Pause,
    /// A packet of `source`, `ahead` of its highest number, `elapsed` milliseconds after the previous step.
    Packet {
        source: usize,
        ahead: i64,
        elapsed: u64,
        layers: (u8, u8),
        can_switch_up: bool,
        can_start: bool,
        bound: Bound,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let ahead = prop_oneof![8 => Just(1), 2 => 2..6_i64, 1 => -80..1_i64];
    let layers = (prop_oneof![3 => Just(0), 1 => 0..3_u8], 0..3_u8);
    let bound = (prop_oneof![3 => Just(u8::MAX), 1 => 0..3_u8], 0..3_u8);
    let bound = bound.prop_map(|(spatial, temporal)| Bound { spatial, temporal });
    let packet = (0..3_usize, ahead, 0..40_u64, layers, any::<bool>(), prop::bool::weighted(0.1), bound);
    prop_oneof![
        1 => Just(Step::Pause),
        50 => packet.prop_map(|(source, ahead, elapsed, layers, can_switch_up, can_start, bound)| {
            // Source 0 twice as often as source 1.
            let source = source.saturating_sub(1);
            Step::Packet { source, ahead, elapsed, layers, can_switch_up, can_start, bound }
        }),
    ]
}

proptest! {
    #![proptest_config(inputs(2_048))]

    /// No number is used twice, gaps occur only where a source has them, and timestamps never decrease.
    #[test]
    fn any_steps_yield_one_valid_stream(first in 0..FIRST_SEQ_NO_LIMIT, steps in vec(any_step(), 1..400)) {
        let start = Instant::now();
        let mut renumbering = Renumbering::new(first);
        // For each source its highest number, and all received packets.
        let mut highest = [70_000_u64, 500];
        let mut received = HashSet::new();
        let mut used = HashSet::new();
        let mut now = start;
        let mut last_timestamp: Option<u32> = None;
        // Numbers that the forwarded source skipped.
        let (mut gaps, mut running) = (0, None);
        for step in steps {
            let Step::Packet { source, ahead, elapsed, layers, can_switch_up, can_start, bound } = step else {
                renumbering.pause();
                continue;
            };
            now += Duration::from_millis(elapsed);
            let before = highest[source];
            let seq_no = before.saturating_add_signed(ahead);
            if !received.insert((source, seq_no)) {
                continue;
            }
            let is_new = seq_no > before;
            highest[source] = before.max(seq_no);
            // One picture for each packet.
            let ticks = 90 * (now - start).as_millis() as u32;
            let timestamp = [7_u32, u32::MAX - 90_000][source].wrapping_add(ticks);
            let (spatial, temporal) = layers;
            // Decoding starts with the lowest spatial layer.
            let incoming = packet(source as u32, seq_no, timestamp, can_start && is_new && spatial == 0);
            let incoming = Incoming { captured: now, ..incoming };
            let description = Description { spatial, temporal, can_switch_up, ..Description::default() };
            let next = renumbering.next_seq_no();
            let rewritten = renumbering.rewrite(&incoming, &description, bound);
            if rewritten.is_ok_and(|rewritten| rewritten.starts) {
                running = Some(source);
            } else if running == Some(source) && is_new && !renumbering.is_waiting() {
                gaps += seq_no - before - 1;
            }
            let Ok(rewritten) = rewritten else { continue };
            prop_assert!(used.insert(rewritten.seq_no), "{} twice", rewritten.seq_no);
            if rewritten.seq_no >= next {
                let ahead = |last: u32| rewritten.timestamp.wrapping_sub(last) as i32;
                let is_later = last_timestamp.is_none_or(|last| ahead(last) >= 0);
                prop_assert!(is_later, "{last_timestamp:?}, then {}", rewritten.timestamp);
                last_timestamp = Some(rewritten.timestamp);
            }
        }
        let missing = renumbering.next_seq_no() - u64::from(first) - used.len() as u64;
        prop_assert!(missing <= gaps, "{missing} outgoing numbers missing, at most {gaps} expected");
    }
}
