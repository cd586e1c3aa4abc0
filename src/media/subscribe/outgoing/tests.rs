//! Tests of one outgoing SSRC.

use super::*;
use crate::id::PeerId;
use crate::media::fault::{PeerError, Site, guarded};
use crate::media::negotiation::profile::MID_ID;
use crate::media::rtp::codec::Description;
use crate::media::rtp::packet::WIRE_OVERHEAD;
use crate::media::subscribe::rtx;
use crate::media::transport::srtp::SRTP_OVERHEAD;

const LENGTH: usize = 1_000;

struct Fixture {
    outgoing: Outgoing,
    egress: Egress,
    datagrams: Datagrams,
    now: Instant,
}

fn packet(now: Instant, number: u32) -> Packet {
    let mut packet = Packet::sample(now);
    packet.incoming.seq_no = 70_000 + u64::from(number);
    packet.incoming.timestamp = 3_000 * number;
    packet.incoming.can_start = number == 0;
    packet.payload = vec![number as u8; LENGTH].into();
    packet.marker = number % 4 == 3;
    packet.elements.push(13, &[3]);
    packet.position = number;
    packet
}

impl Fixture {
    fn new() -> Self {
        let mut outgoing = Outgoing::new(Mid::from("abc"), 7, Some(8), [100, 200]);
        let mut payload_types = PayloadTypes::default();
        payload_types.insert(Codec::Vp8, 96.into(), Some(97.into()));
        let track = TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") };
        outgoing.start(track, payload_types, Ids(1 << MID_ID | 1 << 13));
        let now = Instant::now();
        let egress = Egress::sample(now);
        Self { outgoing, egress, datagrams: Datagrams::default(), now }
    }

    fn forward(&mut self, number: u32) -> Outcome {
        let packet = packet(self.now, number);
        self.outgoing.forward(self.now, &packet, &mut self.egress, &mut self.datagrams)
    }

    fn resend(&mut self, seq_no: u16) -> bool {
        let Some(sent) = self.outgoing.rtx.find(seq_no) else { return false };
        let packet = packet(self.now, sent.position);
        self.outgoing.resend(self.now, sent, &packet, &mut self.egress, &mut self.datagrams)
    }

    /// First byte, marker and payload type, sequence number, timestamp and SSRC of the last datagram.
    fn last(&self) -> (u8, u8, u16, u32, u32) {
        let (_, contents) = self.datagrams.iter().last().unwrap();
        let word = |at: usize| u32::from_be_bytes(contents[at..at + 4].try_into().unwrap());
        (contents[0], contents[1], word(0) as u16, word(4), word(8))
    }
}

#[test]
fn another_track_continues_the_numbers_and_retransmits_nothing_of_the_previous_one() {
    let mut fixture = Fixture::new();
    for number in 0..4 {
        fixture.forward(number);
    }
    assert!(fixture.resend(103));
    let track = TrackId { publisher: PeerId { slot: 1, generation: 0 }, mid: Mid::from("1") };
    let (payload_types, accepted) = (fixture.outgoing.payload_types, fixture.outgoing.writer.accepted);
    fixture.outgoing.stop();
    fixture.outgoing.start(track, payload_types, accepted);
    assert_eq!(fixture.forward(1), Outcome::Dropped(DropReason::AwaitsKeyframe));
    assert!(!fixture.resend(103), "its position in the history now belongs to the other track");
    assert_eq!(fixture.forward(0), Outcome::Switched);
    assert_eq!((fixture.last().2, fixture.last().4), (104, 7));
    assert!(fixture.resend(104) && !fixture.resend(103));
    assert_eq!(fixture.last().2, 202 - 1, "retransmission numbers continue too");
}

#[test]
fn publishers_with_equal_ssrcs_that_alternate_on_an_m_line_share_one_clock() {
    let mut fixture = Fixture::new();
    let (payload_types, accepted) = (fixture.outgoing.payload_types, fixture.outgoing.writer.accepted);
    let mut last = None;
    for turn in 0..6_u32 {
        let track = TrackId { publisher: PeerId { slot: turn % 2, generation: 0 }, mid: Mid::from("0") };
        if turn % 3 > 0 {
            fixture.outgoing.stop();
        }
        fixture.outgoing.start(track, payload_types, accepted);
        for number in 0..10 {
            let ms = 1_000 * turn + 100 * number;
            let mut packet = packet(fixture.now + Duration::from_millis(ms.into()), number);
            packet.incoming.ssrc = 1;
            packet.incoming.seq_no = u64::from(1_000 * (turn % 2) + ms / 100);
            packet.incoming.timestamp = [7_u32, 3_000_000_000][turn as usize % 2].wrapping_add(90 * ms);
            let outcome = fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
            assert_eq!(outcome, if number == 0 { Outcome::Switched } else { Outcome::Sent });
            let (.., seq_no, timestamp, _) = fixture.last();
            if let Some((before, at)) = last.replace((seq_no, timestamp)) {
                assert_eq!((seq_no - before, timestamp - at), (1, 9_000), "turn {turn}, packet {number}");
            }
        }
    }
}

#[test]
fn a_packet_and_its_retransmission_share_the_timestamp_only() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.forward(1), Outcome::Dropped(DropReason::AwaitsKeyframe));
    assert_eq!(fixture.forward(0), Outcome::Switched);
    for number in 1..4 {
        assert_eq!(fixture.forward(number), Outcome::Sent);
    }
    assert_eq!(fixture.last(), (0x90, 0x80 | 96, 103, 9_000, 7));
    assert!(fixture.resend(101));
    assert_eq!(fixture.last(), (0x90, 97, 200, 3_000, 8));
    assert!(fixture.resend(103));
    assert_eq!(fixture.last(), (0x90, 0x80 | 97, 201, 9_000, 8));
    for never_sent in [99, 104, 101 + rtx::REMEMBERED as u16] {
        assert!(!fixture.resend(never_sent), "{never_sent}");
    }
}

#[test]
fn no_sequence_number_is_sealed_twice_even_if_an_outgoing_is_created_anew() {
    let mut fixture = Fixture::new();
    for number in 0..4 {
        fixture.forward(number);
    }
    assert!(fixture.resend(101));
    let sent = fixture.datagrams.len();
    let [restarted, unused] = [102, 104].map(|first| {
        let mut outgoing = Outgoing::new(Mid::from("abc"), 7, Some(8), [first, 200]);
        outgoing.start(
            fixture.outgoing.track.unwrap(),
            fixture.outgoing.payload_types,
            fixture.outgoing.writer.accepted,
        );
        outgoing
    });
    let mut seal = |outgoing, packets: &[u32]| {
        fixture.outgoing = outgoing;
        let result = guarded(Site::Forward, || {
            packets.iter().for_each(|number| assert_eq!(fixture.forward(*number) == Outcome::Switched, *number == 0));
            Ok(fixture.resend(104))
        });
        fixture.datagrams.abandon();
        (result, fixture.datagrams.len())
    };
    let is_reuse = |result: Result<bool, PeerError>, packet: &str| {
        result.is_err_and(|error| error.code() == "internal" && error.to_string().contains(packet))
    };
    let (result, left) = seal(restarted, &[0]);
    assert!(is_reuse(result, "SSRC 7 seals packet 102 twice") && left == sent);
    let (result, left) = seal(unused, &[0]);
    assert!(is_reuse(result, "SSRC 8 seals packet 200 twice") && left == sent + 1, "nor a retransmission number");
}

#[test]
fn a_late_packet_whose_sequence_number_may_have_been_sealed_is_dropped() {
    let mut fixture = Fixture::new();
    for number in [0].into_iter().chain(2..200) {
        fixture.forward(number);
    }
    let sent = (fixture.datagrams.len(), fixture.outgoing.sent_packets());
    assert_eq!(fixture.forward(1), Outcome::Dropped(DropReason::Guard), "198 packets behind the last");
    assert_eq!((fixture.datagrams.len(), fixture.outgoing.sent_packets()), sent);
    assert!(!fixture.resend(101), "it was not sent, so it is not retransmitted");
    assert_eq!(fixture.forward(200), Outcome::Sent);
    assert_eq!(fixture.last().2, 300);
}

#[test]
fn a_preface_precedes_each_start_and_is_retransmitted() {
    let mut fixture = Fixture::new();
    let sets: std::sync::Arc<[u8]> = vec![9; 40].into();
    let of = |number: u32, is_missing: Option<bool>| {
        let mut packet = packet(Instant::now(), number);
        packet.preface = is_missing.map(|is_missing| Box::new(Preface { payload: sets.clone(), is_missing }));
        packet.incoming.can_start = is_missing.is_some();
        packet.incoming.has_preface = is_missing.is_some();
        packet
    };
    let lengths = |fixture: &Fixture| {
        let datagrams = fixture.datagrams.iter().skip(fixture.datagrams.len() - 2);
        datagrams.map(|(_, contents)| contents.len()).collect::<Vec<_>>()
    };
    // The packet, whether parameter sets are missing (if it is a start), its sequence number, whether a preface is
    // sent.
    for (number, is_missing, seq_no, has_other) in [
        (0, Some(false), 101, true),
        (1, None, 102, false),
        (2, Some(false), 103, false),
        (4, Some(true), 105, true),
        (6, None, 107, false),
        // Late: it precedes the restart.
        (3, None, 107, false),
    ] {
        let before = fixture.datagrams.len();
        let outcome =
            fixture.outgoing.forward(fixture.now, &of(number, is_missing), &mut fixture.egress, &mut fixture.datagrams);
        let count = match number {
            3 => 0,
            _ => 1 + usize::from(has_other),
        };
        assert_eq!((fixture.datagrams.len() - before, fixture.last().2), (count, seq_no), "packet {number}");
        assert_eq!(outcome == Outcome::Switched, number == 0, "packet {number}");
        if has_other {
            let [first, second] = lengths(&fixture)[..] else { panic!("expected two datagrams") };
            assert_eq!(second - first, LENGTH - 40);
        }
    }
    for seq_no in [100, 104] {
        let sent = fixture.outgoing.rtx.find(seq_no).expect("packet was sent");
        let packet = of(sent.position, Some(false));
        assert!(fixture.outgoing.resend(fixture.now, sent, &packet, &mut fixture.egress, &mut fixture.datagrams));
        let resent = fixture.datagrams.iter().last().expect("retransmission was sent").1.len();
        assert!((40..100).contains(&resent), "{resent} bytes");
    }
    // A retransmission of a preface is charged with the bytes of the preface.
    let sent = fixture.outgoing.rtx.find(104).expect("packet was sent");
    let packet = of(sent.position, Some(false));
    let resend =
        |_: &u32| fixture.outgoing.resend(fixture.now, sent, &packet, &mut fixture.egress, &mut fixture.datagrams);
    let bytes = 40 + packet.elements.len() + WIRE_OVERHEAD;
    let count = (0..2_000).take_while(resend).count();
    assert!(count.abs_diff(rtx::MAX_UNUSED_SHARE / bytes) < 20, "{count} retransmissions of {bytes} bytes");
}

#[test]
fn packets_carry_the_mid_until_the_subscriber_reports_on_the_ssrc() {
    let mut fixture = Fixture::new();
    let length = |fixture: &Fixture| fixture.datagrams.iter().last().unwrap().1.len();
    fixture.forward(0);
    let (named, elements) = (12 + 4 + 8 + LENGTH + SRTP_OVERHEAD, 12 + 4 + 4 + LENGTH + SRTP_OVERHEAD);
    assert_eq!(length(&fixture), named);
    fixture.outgoing.handle_report();
    fixture.forward(1);
    assert_eq!(length(&fixture), elements);
}

#[test]
fn retransmissions_are_limited_to_a_share_of_the_sent_bytes() {
    let mut fixture = Fixture::new();
    let mut resent = 0;
    for number in 0..1_000 {
        fixture.forward(number);
        for back in 0..20 {
            resent += usize::from(fixture.resend((100 + number as u16).wrapping_sub(back)));
        }
    }
    let bytes = packet(fixture.now, 0).wire_bytes();
    let share = (1_000 * bytes / rtx::SHARE_DIVISOR + rtx::MAX_UNUSED_SHARE) / bytes;
    assert!((share - 2..=share).contains(&resent), "{resent} of {share}");
}

#[test]
fn redundant_audio_is_sent_whole_if_negotiated_and_the_path_is_wide_enough() {
    let mut fixture = Fixture::new();
    let audio = |fixture: &Fixture, number: u32| {
        let mut packet = packet(fixture.now, number);
        packet.codec = Codec::Opus;
        packet.redundant = Some(600);
        packet.incoming.can_start = true;
        packet
    };
    let mut payload_types = PayloadTypes::default();
    payload_types.insert(Codec::Opus, 111.into(), None);
    let track = TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") };
    for (number, red, estimate, expected) in [
        (0, None, 2_000_000, (111, LENGTH - 600)),
        (1, Some(63.into()), 2_000_000, (63, LENGTH)),
        (2, Some(63.into()), 500_000, (111, LENGTH - 600)),
    ] {
        payload_types.red = red;
        fixture.outgoing.start(track, payload_types, Ids(0));
        fixture.egress.estimator.handle_remb(estimate);
        fixture.egress.on_estimate(fixture.now);
        let packet = audio(&fixture, number);
        fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
        let length = fixture.datagrams.iter().last().unwrap().1.len() - 12 - SRTP_OVERHEAD;
        assert_eq!((fixture.last().1 & 0x7f, length), expected, "{number}");
    }
}

#[test]
fn packets_without_payload_are_forwarded_and_their_retransmission_is_charged() {
    let mut fixture = Fixture::new();
    let empty = |fixture: &Fixture, number| Packet { payload: [].into(), ..packet(fixture.now, number) };
    let mut resent = 0;
    for number in 0..10 {
        let packet = empty(&fixture, number);
        let outcome = fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
        assert_eq!(outcome, if number == 0 { Outcome::Switched } else { Outcome::Sent });
        assert_eq!(fixture.last().2, 100 + number as u16, "no gap");
    }
    for _ in 0..10_000 {
        let sent = fixture.outgoing.rtx.find(105).unwrap();
        let packet = empty(&fixture, sent.position);
        resent += usize::from(fixture.outgoing.resend(
            fixture.now,
            sent,
            &packet,
            &mut fixture.egress,
            &mut fixture.datagrams,
        ));
    }
    assert!(resent <= rtx::MAX_UNUSED_SHARE / WIRE_OVERHEAD, "{resent}");
}

#[test]
fn a_report_counts_packets_and_maps_the_rtp_timestamp_to_now() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.outgoing.poll_report(fixture.now, 5), None);
    for number in 0..10 {
        fixture.forward(number);
    }
    let later = fixture.now + Duration::from_millis(500);
    let report = fixture.outgoing.poll_report(later, 5).unwrap();
    let expected =
        SenderReport { ssrc: 7, ntp: 5, timestamp: 27_000 + 45_000, packets: 10, octets: 10 * LENGTH as u32 };
    assert_eq!(report, expected);
    assert_eq!(fixture.outgoing.poll_report(later, 6), None, "nothing sent since");
}

mod layers;
