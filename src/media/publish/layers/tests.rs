//! Tests of the layers.

use super::*;
use crate::media::rtp::codec::parameter_sets::Preface;

/// A packet of 1,250 bytes on the wire.
fn packet(now: Instant, layer: u8, temporal: u8, height: u16) -> Packet {
    let mut packet = Packet { layer, payload: vec![0; 1_180].into(), ..Packet::sample(now) };
    packet.incoming.ssrc = layer.into();
    packet.incoming.timestamp = 1;
    packet.incoming.can_start = height > 0;
    packet.description.temporal = temporal;
    packet.description.heights = [height, 0, 0];
    packet.description.starts_keyframe = height > 0;
    packet
}

/// Plays one packet of each of these (layer, temporal layer) pairs per 100 ms. Returns the times of the changes.
fn play(layers: &mut Layers, start: Instant, millis: std::ops::Range<u64>, coming: &[(u8, u8)]) -> Vec<u64> {
    let mut changes = Vec::new();
    for ms in millis.step_by(100) {
        let now = start + Duration::from_millis(ms);
        for (layer, temporal) in coming {
            layers.handle_packet(now, &packet(now, *layer, *temporal, 0));
        }
        layers.measure(now);
        if layers.take_changed() {
            changes.push(ms);
        }
    }
    changes
}

#[test]
fn layers_are_active_from_their_first_packet_until_they_stop_while_others_continue() {
    let start = Instant::now();
    let mut layers = Layers::default();
    assert!(layers.grades().is_empty());
    assert_eq!(play(&mut layers, start, 0..500, &[(0, 0)]), [0, 300], "active, then measured");
    assert_eq!(play(&mut layers, start, 500..3_000, &[(0, 0), (1, 0), (2, 0)]), [500, 600]);
    let of = |layers: &Layers| layers.grades().iter().map(|grade| (grade.layer, grade.height)).collect::<Vec<_>>();
    assert_eq!(of(&layers), [(0, 180), (1, 360), (2, 720)]);
    assert_eq!([2, 1, 0].map(|layer| layers.nearest(layer)), [2, 1, 0]);
    let gone = play(&mut layers, start, 3_000..5_000, &[(0, 0), (1, 0)]);
    assert!(gone.len() == 1 && (3_500..3_900).contains(&gone[0]), "{gone:?}");
    assert_eq!(of(&layers), [(0, 180), (1, 360)]);
    assert_eq!(layers.nearest(2), 1);
    // The camera is off: the layers that it would send are not known.
    assert_eq!(play(&mut layers, start, 5_000..9_000, &[]), [0; 0]);
    assert_eq!(of(&layers).len(), 2);
    assert_eq!(play(&mut layers, start, 9_000..9_300, &[(2, 0)]), [9_000]);
    assert_eq!(layers.nearest(1), 2, "the only active layer");
}

#[test]
fn a_wanted_track_without_packets_for_three_seconds_is_silent() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut layers = Layers::default();
    assert!(!layers.expire(at(9_000)) && !layers.is_silent(), "no packet has arrived yet");
    let start = at(10_000);
    let at = |ms| start + Duration::from_millis(ms);
    play(&mut layers, start, 0..1_000, &[(0, 0)]);
    for (ms, is_news, is_silent) in [(3_800, false, false), (3_900, true, true), (5_000, false, true)] {
        assert_eq!((layers.expire(at(ms)), layers.is_silent()), (is_news, is_silent), "{ms} ms");
    }
    assert_eq!(play(&mut layers, start, 6_000..6_200, &[(0, 0)])[0], 6_000, "the end of the silence is a change");
    assert!(!layers.is_silent());
    // A publisher that knows that the track is not wanted may be silent.
    layers.want(at(6_200), 0);
    assert!(layers.want(at(9_200), 0));
    assert!(!layers.expire(at(20_000)) && !layers.is_silent());
    layers.want(at(20_000), 1);
    assert!(!layers.expire(at(22_000)), "the publisher has to resume first");
    assert!(layers.expire(at(23_000)) && layers.is_silent());
    layers.handle_oversized(at(23_000));
    assert!(!layers.expire(at(27_900)) && layers.is_oversized());
    assert!(layers.expire(at(28_000)) && !layers.is_oversized());
}

#[test]
fn resumed_layers_count_as_active_for_a_while() {
    let start = Instant::now();
    let mut layers = Layers::default();
    let indices = |layers: &Layers| layers.grades().iter().map(|grade| grade.layer).collect::<Vec<_>>();
    play(&mut layers, start, 0..1_000, &[(0, 0), (1, 0)]);
    for ms in [1_000, 4_000] {
        layers.want(start + Duration::from_millis(ms), 1);
    }
    play(&mut layers, start, 1_000..5_000, &[(0, 0)]);
    assert_eq!(indices(&layers), [0]);
    assert!(layers.want(start + Duration::from_millis(5_000), 3));
    assert!(layers.take_changed());
    assert_eq!(indices(&layers), [0, 1], "the third was never active");
    let gone = play(&mut layers, start, 5_000..7_000, &[(0, 0)]);
    assert!(gone.len() == 1 && (5_600..6_000).contains(&gone[0]), "{gone:?}");
    assert_eq!(indices(&layers), [0]);
}

#[test]
fn grades_leave_out_the_highest_temporal_layer_and_in_the_lowest_layer_all_upper_ones() {
    let start = Instant::now();
    let mut layers = Layers::default();
    play(&mut layers, start, 0..5_000, &[(0, 0), (0, 2), (0, 1), (0, 2), (1, 0), (1, 1)]);
    let grades = layers.grades();
    let kbps = |grade: &Grade| (grade.layer, grade.temporal, (grade.bitrate_bps + 2_000) / 5_000 * 5);
    let expected = [(0, 0, 100), (0, 1, 200), (0, 2, 400), (1, 0, 100), (1, 2, 200)];
    assert_eq!(grades.iter().map(kbps).collect::<Vec<_>>(), expected);
    play(&mut layers, start, 5_000..15_000, &[(0, 0), (1, 0), (1, 1), (1, 2), (1, 2)]);
    let grades: Vec<_> = layers.grades().iter().filter(|grade| grade.layer == 1).map(kbps).collect();
    assert_eq!(grades, [(1, 1, 200), (1, 2, 400)], "half of the pictures");
}

/// A packet of this spatial and temporal layer.
fn spatial(now: Instant, spatial: u8, temporal: u8) -> Packet {
    let mut packet = packet(now, 0, temporal, 0);
    packet.description.spatial = spatial;
    packet
}

/// The same as `play` for spatial layers in one SSRC.
fn play_spatial(layers: &mut Layers, start: Instant, millis: std::ops::Range<u64>, coming: &[(u8, u8)]) -> Vec<u64> {
    let mut changes = Vec::new();
    for ms in millis.step_by(100) {
        let now = start + Duration::from_millis(ms);
        coming.iter().for_each(|(layer, temporal)| layers.handle_packet(now, &spatial(now, *layer, *temporal)));
        layers.measure(now);
        if layers.take_changed() {
            changes.push(ms);
        }
    }
    changes
}

#[test]
fn the_bitrate_of_a_spatial_layer_includes_those_below() {
    let start = Instant::now();
    let mut layers = Layers::default();
    play_spatial(&mut layers, start, 0..5_000, &[(0, 0), (0, 2), (1, 0), (1, 0), (1, 2), (2, 0), (3, 0), (3, 2)]);
    let grades = layers.grades();
    let kbps = |grade: &Grade| (grade.layer, grade.temporal, (grade.bitrate_bps + 2_000) / 5_000 * 5, grade.height);
    let expected = [
        (0, 0, 100, 180),
        (0, 1, 100, 180),
        (0, 2, 200, 180),
        (1, 1, 300, 360),
        (1, 2, 500, 360),
        (2, 1, 500, 720),
        (2, 2, 800, 720),
    ];
    assert_eq!(grades.iter().map(kbps).collect::<Vec<_>>(), expected, "higher layers count as the third");
    assert!(layers.is_spatial());
    let needed = [0, 1, 2, 3].map(|wanted| layers.needed(wanted));
    assert_eq!((needed, [0, 1, 2].map(|layer| layers.nearest(layer))), ([0, 3, 3, 3], [0; 3]));
}

#[test]
fn spatial_layers_are_active_when_a_keyframe_lists_them_until_they_stop() {
    let start = Instant::now();
    let mut layers = Layers::default();
    let of = |layers: &Layers| layers.grades().iter().map(|grade| (grade.layer, grade.height)).collect::<Vec<_>>();
    let mut key = packet(start, 0, 0, 90);
    key.description.heights = [90, 180, 360];
    layers.handle_packet(start, &key);
    assert_eq!(of(&layers), [(0, 90), (1, 180), (2, 360)]);
    assert_eq!(layers.heights(), [90, 180, 360]);
    let gone = play_spatial(&mut layers, start, 100..2_000, &[(0, 0), (1, 0)]);
    assert!(gone.iter().any(|ms| (600..=900).contains(ms)), "{gone:?}");
    assert_eq!(of(&layers), [(0, 90), (1, 180)], "the third never sent a packet");
    let later = start + Duration::from_secs(2);
    key.incoming.timestamp = 9;
    layers.handle_packet(later, &key);
    assert_eq!(of(&layers).len(), 2, "a second listing does not activate it");
    assert_eq!(play_spatial(&mut layers, start, 2_100..3_000, &[(0, 0), (1, 0), (2, 0)])[..1], [2_100]);
    assert_eq!(of(&layers).len(), 3, "active from its first packet");
    play_spatial(&mut layers, start, 3_000..5_000, &[(0, 0)]);
    assert_eq!((of(&layers), layers.is_spatial()), (vec![(0, 90)], true));
}

#[test]
fn a_keyframe_covers_all_spatial_layers() {
    let start = Instant::now();
    let mut layers = Layers::default();
    play_spatial(&mut layers, start, 0..5_000, &[(0, 0), (1, 0), (2, 0)]);
    let now = start + Duration::from_secs(5);
    let mut before: Vec<_> = layers.grades().iter().map(|grade| grade.bitrate_bps).collect();
    for (at, spatial) in [0, 0, 1, 1, 1, 2, 2, 2, 2, 2].into_iter().enumerate() {
        let mut packet = packet(now, 0, 0, if at == 0 { 180 } else { 0 });
        packet.incoming.timestamp = 77;
        packet.description.spatial = spatial;
        layers.handle_packet(now, &packet);
    }
    layers.measure(now + MEASUREMENT_INTERVAL);
    let after: Vec<_> = layers.grades().iter().map(|grade| grade.bitrate_bps).collect();
    before.iter_mut().zip(&after).for_each(|(before, after)| *before = after.abs_diff(*before));
    assert!(before.iter().all(|difference| *difference < 100_000), "not spread: {after:?}, differences {before:?}");
    // Its bytes and the bitrate are those of all layers: 2 * 94 kbit at 300 kbit/s.
    layers.request_keyframe(0, Reason::Switch);
    assert_eq!(layers.poll_request(now), Some((0, Reason::Switch)));
    layers.request_keyframe(0, Reason::Switch);
    let next = (1..5_000).find(|ms| layers.poll_request(now + Duration::from_millis(*ms)).is_some());
    assert!(next.is_some_and(|ms| (600..1_000).contains(&ms)), "{next:?}");
}

#[test]
fn a_preface_sent_with_each_keyframe_is_part_of_the_layers_rate() {
    let start = Instant::now();
    let rate = |preface: Option<bool>| {
        let mut layers = Layers::default();
        for ms in (0..20_000).step_by(100) {
            let now = start + Duration::from_millis(ms);
            let mut packet = packet(now, 0, 0, 180);
            packet.incoming.timestamp = ms as u32;
            let preface = preface.map(|is_missing| Preface { payload: vec![0; 180].into(), is_missing });
            packet.preface = preface.map(Box::new);
            layers.handle_packet(now, &packet);
            layers.measure(now);
        }
        layers.grades().last().expect("the layer is active").bitrate_bps
    };
    let plain = rate(None);
    assert_eq!(rate(Some(false)), plain, "only new subscribers get the preface");
    let part = rate(Some(true)) * 100 / plain;
    assert!((118..=122).contains(&part), "{part} % of {plain}: 250 bytes beside 1,250");
}

#[test]
fn requests_for_two_layers_are_spaced_so_that_browsers_drop_none() {
    let start = Instant::now();
    let mut layers = Layers::default();
    play(&mut layers, start, 0..1, &[(0, 0), (2, 0)]);
    let mut sent = Vec::new();
    for ms in 0..2_000 {
        let now = start + Duration::from_millis(ms);
        match ms {
            0 => layers.request_keyframe(0, Reason::Switch),
            270 | 1_500 => layers.request_keyframe(2, Reason::Switch),
            _ => {}
        }
        if let Some((layer, _)) = layers.poll_request(now) {
            sent.push((ms, layer));
            layers.handle_packet(now, &packet(now, layer, 0, 180));
        }
    }
    assert_eq!(sent, [(0, 0), (330, 2), (1_500, 2)]);
}

#[test]
fn requests_of_subscribers_without_a_picture_and_of_the_smallest_layer_come_first() {
    let start = Instant::now();
    let mut layers = Layers::default();
    play(&mut layers, start, 0..1_000, &[(0, 0), (1, 0), (2, 0)]);
    let mut sent = Vec::new();
    for ms in 1_000..3_000 {
        let now = start + Duration::from_millis(ms);
        // A subscriber joins every 50 ms for the first second.
        if ms < 2_000 && ms % 50 == 0 {
            layers.request_keyframe(2, Reason::Switch);
            layers.request_keyframe((ms / 50 % 2) as u8, Reason::Join);
        }
        if let Some((layer, reason)) = layers.poll_request(now) {
            sent.push((ms, layer, reason));
            layers.handle_packet(now, &packet(now, layer, 0, 180));
        }
    }
    use Reason::{Join, Switch};
    let expected =
        [(1_000, 0, Join), (1_330, 1, Join), (1_660, 0, Join), (1_990, 1, Join), (2_320, 0, Join), (2_650, 2, Switch)];
    assert_eq!(sent, expected);
}

#[test]
fn a_keyframe_is_spread_and_a_stream_of_keyframes_counts_in_full() {
    let start = Instant::now();
    let kbps = |layers: &Layers| layers.grades().last().expect("the layer is active").bitrate_bps / 1_000;
    let mut layers = Layers::default();
    // 100 KB at once, then 1,250 bytes per 100 ms.
    let key = packet(start, 0, 0, 360);
    (0..80).for_each(|_| layers.handle_packet(start, &key));
    let mut highest = 0;
    for number in 1..60 {
        let now = start + Duration::from_millis(100 * number);
        let mut packet = packet(now, 0, 0, 0);
        packet.incoming.timestamp = number as u32 + 1;
        layers.handle_packet(now, &packet);
        layers.measure(now);
        highest = highest.max(kbps(&layers));
    }
    assert!((300..600).contains(&highest) && kbps(&layers) < 160, "{highest}, then {}", kbps(&layers));
    let mut layers = Layers::default();
    for number in 0..150 {
        let now = start + Duration::from_millis(100 * number);
        let mut packet = packet(now, 0, 0, 360);
        packet.incoming.timestamp = number as u32;
        layers.handle_packet(now, &packet);
        layers.measure(now);
    }
    assert!((90..=105).contains(&kbps(&layers)), "{}", kbps(&layers));
}

#[test]
fn the_height_of_one_layer_is_the_measure_of_the_others() {
    let start = Instant::now();
    let mut layers = Layers::default();
    assert_eq!(layers.heights(), [0; 3], "no height is known");
    layers.handle_packet(start, &packet(start, 1, 0, 180));
    assert_eq!(layers.heights(), [90, 180, 360]);
    layers.handle_packet(start, &packet(start, 0, 0, 80));
    assert_eq!(layers.heights(), [80, 180, 360]);
}

#[test]
fn more_layers_are_requested_at_once_and_fewer_after_a_delay() {
    let start = Instant::now();
    let mut layers = Layers::default();
    let script = [
        (0, 3, false),
        (100, 1, false),
        (2_000, 2, false),
        (2_500, 3, false),
        (3_500, 1, false),
        (6_400, 1, false),
        (6_500, 1, true),
        (6_600, 1, false),
        (6_700, 2, true),
        (6_800, 0, false),
        (9_900, 0, true),
        (9_950, 1, true),
    ];
    for (ms, wanted, is_reported) in script {
        assert_eq!(layers.want(start + Duration::from_millis(ms), wanted), is_reported, "at {ms}");
    }
}
