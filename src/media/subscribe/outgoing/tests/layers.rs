//! Tests of the switches between layers.

use super::*;

const AWAITS_KEYFRAME: Outcome = Outcome::Dropped(DropReason::AwaitsKeyframe);
const NOT_SELECTED: Outcome = Outcome::Dropped(DropReason::LayerNotSelected);
const NOT_VIEWED: Outcome = Outcome::Dropped(DropReason::NotViewed);

#[test]
fn another_layer_starts_at_a_keyframe_and_a_track_at_any_starting_point() {
    use Outcome::{Sent, Switched};
    let mut fixture = Fixture::new();
    let mut number = 0;
    let mut forward = |fixture: &mut Fixture, layer: u8, is_keyframe: bool| {
        number += 1;
        let mut packet = packet(fixture.now, number);
        packet.layer = layer;
        packet.incoming.ssrc = u32::from(layer);
        packet.incoming.can_start = true;
        packet.description.starts_keyframe = is_keyframe;
        fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams)
    };
    let selection = |layer| Some(Selection { layer, ..Selection::BEST });
    // The selected layer, the packet's layer, whether it is a keyframe or another starting point.
    for (step, (selected, layer, is_keyframe, outcome)) in [
        (0, 0, false, Switched),
        (0, 0, false, Sent),
        (1, 1, false, AWAITS_KEYFRAME),
        (1, 0, false, Sent),
        (1, 1, true, Switched),
        (0, 0, false, AWAITS_KEYFRAME),
        (0, 0, true, Switched),
    ]
    .into_iter()
    .enumerate()
    {
        fixture.outgoing.select(selection(selected));
        assert_eq!(forward(&mut fixture, layer, is_keyframe), outcome, "step {step}");
    }
    // After a pause the decoder still has the references of its layer.
    fixture.outgoing.pause();
    assert_eq!(forward(&mut fixture, 0, false), Switched);
    fixture.outgoing.pause();
    fixture.outgoing.select(selection(1));
    assert_eq!(forward(&mut fixture, 1, false), AWAITS_KEYFRAME);
    // Without any keyframe, the change happens after `KEYFRAME_WAIT`.
    fixture.now += KEYFRAME_WAIT - Duration::from_millis(1);
    assert_eq!(forward(&mut fixture, 1, false), AWAITS_KEYFRAME);
    fixture.now += Duration::from_millis(1);
    assert_eq!(forward(&mut fixture, 1, false), Switched);
    fixture.outgoing.select(selection(0));
    assert_eq!(forward(&mut fixture, 0, false), AWAITS_KEYFRAME, "each change waits anew");
    // Another track starts at any starting point: it may never send a keyframe.
    let track = TrackId { publisher: PeerId { slot: 1, generation: 0 }, mid: Mid::from("1") };
    fixture.outgoing.start(track, fixture.outgoing.payload_types, fixture.outgoing.writer.accepted);
    fixture.outgoing.select(selection(1));
    assert_eq!(forward(&mut fixture, 1, false), Switched);
}

#[test]
fn another_layer_starts_at_its_keyframe_and_the_old_one_is_sent_until_then() {
    use Outcome::{Ended, Sent, Switched};
    let mut fixture = Fixture::new();
    let of = |fixture: &Fixture, layer: u8, number: u64, can_start: bool| {
        let mut packet = packet(fixture.now + Duration::from_millis(33 * number), 0);
        packet.layer = layer;
        packet.incoming.ssrc = u32::from(layer);
        packet.incoming.seq_no = 1_000 * u64::from(layer) + number;
        // Packets 10 to 12 are one picture, and picture 13 has no end.
        let picture = if (10..=12).contains(&number) { 10 } else { number as u32 };
        packet.incoming.timestamp = 77 * u32::from(layer) + 2_970 * picture;
        packet.incoming.can_start = can_start;
        packet.description.starts_keyframe = can_start;
        packet.marker = ![10, 11, 13].contains(&number);
        packet
    };
    let selection = |layer| Some(Selection { layer, ..Selection::BEST });
    // The selection, the packet, its outcome, the layers needed afterwards.
    let script = [
        (selection(1), (0, 0, false), AWAITS_KEYFRAME, 0b011),
        (selection(1), (2, 0, true), NOT_SELECTED, 0b011),
        (selection(1), (0, 1, true), Switched, 0b011),
        (selection(1), (0, 2, false), Sent, 0b011),
        (selection(1), (1, 2, false), AWAITS_KEYFRAME, 0b011),
        (selection(1), (1, 3, true), Switched, 0b010),
        (selection(1), (0, 3, false), NOT_SELECTED, 0b010),
        (selection(2), (1, 4, false), Sent, 0b110),
        (selection(2), (2, 4, false), AWAITS_KEYFRAME, 0b110),
        // The change was cancelled before its keyframe.
        (selection(1), (1, 5, false), Sent, 0b010),
        (selection(0), (0, 6, true), Switched, 0b001),
        (None, (0, 7, true), NOT_VIEWED, 0),
        (selection(0), (0, 8, false), AWAITS_KEYFRAME, 0b001),
        (selection(0), (0, 9, true), Switched, 0b001),
        (selection(0), (0, 10, false), Sent, 0b001),
        (None, (0, 11, false), Sent, 0b001),
        (None, (0, 12, false), Switched, 0),
        (selection(0), (0, 13, true), Switched, 0b001),
        (None, (0, 14, false), Ended(DropReason::NotViewed), 0),
    ];
    let mut sent = Vec::new();
    for (step, (selected, (layer, number, can_start), outcome, layers)) in script.into_iter().enumerate() {
        fixture.outgoing.select(selected);
        let packet = of(&fixture, layer, number, can_start);
        let actual = fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
        assert_eq!((actual, fixture.outgoing.layers()), (outcome, layers), "step {step}");
        if matches!(actual, Sent | Switched) {
            sent.push((fixture.last().2, fixture.last().3));
        }
    }
    let expected = [1, 2, 3, 4, 5, 6, 9, 10, 10, 10, 13].map(|number| 2_970 * number);
    let expected: Vec<(u16, u32)> = (100..).zip(expected).collect();
    assert_eq!(sent, expected);
}

#[test]
fn the_highest_sent_spatial_layer_gets_the_marker_also_when_retransmitted() {
    use Outcome::{Sent, Switched};
    let mut fixture = Fixture::new();
    let selection = |spatial| Some(Selection { layer: 0, spatial, temporal: 2 });
    let switch = Some((0, Reason::Switch));
    // The selection; the packet as (picture, whether it is a keyframe, spatial layer); its outcome; sequence number
    // and marker of the last datagram; the layer that needs a keyframe.
    let script = [
        (selection(u8::MAX), (0, true, 0), Switched, (100, false), None),
        (selection(u8::MAX), (0, true, 1), Sent, (101, false), None),
        (selection(0), (0, true, 2), Sent, (102, true), None),
        (selection(0), (1, false, 0), Sent, (103, true), None),
        (selection(0), (1, false, 1), NOT_SELECTED, (103, true), None),
        (selection(1), (1, false, 2), NOT_SELECTED, (103, true), switch),
        (selection(1), (2, false, 0), Sent, (104, true), switch),
        (selection(1), (2, false, 1), NOT_SELECTED, (104, true), switch),
        // A packet is lost.
        (selection(1), (3, true, 0), Sent, (106, false), None),
        // With nothing selected, the started picture is sent to its end, with the same spatial layers.
        (None, (3, true, 1), Switched, (107, true), None),
        (None, (3, true, 2), NOT_VIEWED, (107, true), None),
        (selection(1), (4, true, 0), Switched, (108, false), None),
    ];
    let of = |fixture: &Fixture, index: u32| {
        let (_, (picture, is_key, spatial), ..) = script[index as usize];
        let mut packet = packet(fixture.now, index);
        packet.incoming.timestamp = 3_000 * picture;
        packet.incoming.can_start = is_key && spatial == 0;
        packet.incoming.seq_no = u64::from(3 * picture) + u64::from(spatial);
        packet.description = Description { spatial, ends_frame: true, ..Description::default() };
        packet.marker = spatial == 2;
        packet
    };
    let last = |fixture: &Fixture| (fixture.last().2, fixture.last().1 & 0x80 != 0);
    for (index, (selected, _, outcome, expected, awaited)) in (0..).zip(script) {
        fixture.outgoing.select(selected);
        let packet = of(&fixture, index);
        let actual = fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
        assert_eq!((actual, last(&fixture), fixture.outgoing.awaited()), (outcome, expected, awaited), "step {index}");
    }
    let sent = script.iter().filter(|(_, _, outcome, ..)| matches!(outcome, Sent | Switched));
    for (number, (.., (seq_no, marker), _)) in (200..).zip(sent) {
        let sent = fixture.outgoing.rtx.find(*seq_no).expect("packet is remembered");
        let packet = of(&fixture, sent.position);
        assert!(fixture.outgoing.resend(fixture.now, sent, &packet, &mut fixture.egress, &mut fixture.datagrams));
        assert_eq!(last(&fixture), (number, *marker), "retransmission of {seq_no}");
    }
}

#[test]
fn the_best_selection_includes_temporal_layers_above_the_known_ones() {
    let mut fixture = Fixture::new();
    let outcomes = [0, 3, 2, 7].map(|temporal| {
        let mut packet = packet(fixture.now, u32::from(temporal));
        packet.description.temporal = temporal;
        fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams)
    });
    assert_eq!(outcomes, [Outcome::Switched, Outcome::Sent, Outcome::Sent, Outcome::Sent]);
}
