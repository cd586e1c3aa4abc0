//! Tests of the sending side of one peer.

use std::net::SocketAddr;
use std::time::Duration;

use str0m::crypto::dtls::SrtpProfile;
use str0m::media::Frequency;

use super::*;
use crate::drop_reason::MLineDrops;
use crate::id::PeerId;
use crate::media::bandwidth::pacer::Pacer;
use crate::media::negotiation::profile::PayloadTypes;
use crate::media::rtp::codec::parameter_sets::Preface;
use crate::media::rtp::elements::Ids;
use crate::media::rtp::packet::Incoming;
use crate::media::subscribe::demand::VOICE_BPS;
use crate::media::subscribe::requests::MAX_REQUESTS;
use crate::media::transport::srtp::{Exported, Srtp};

fn route(port: u16) -> Route {
    Route { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: SocketAddr::from(([192, 0, 2, 2], 9)) }
}

fn sending(now: Instant) -> Sending {
    let mut sending = Sending { is_open: true, ..Sending::default() };
    sending.addresses.validate(now, route(1)).unwrap();
    let mut egress = Egress::sample(now);
    egress.route = route(1);
    sending.egress = Some(egress);
    sending
}

#[test]
fn media_stops_when_consent_expires_and_moves_to_an_address_with_consent() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let mut sending = sending(start);
    assert!(sending.ensure_route(at(0)) && sending.ensure_route(at(15)));
    assert!(!sending.ensure_route(at(16)), "no check for 15 s");
    // RTCP arrived from an address validated only once; the peer keeps validating the other one.
    sending.addresses.validate(at(17), route(2)).unwrap();
    sending.egress.as_mut().unwrap().take_route(at(17), route(2));
    for secs in 18..60 {
        sending.addresses.validate(at(secs), route(1)).unwrap();
        assert!(sending.ensure_route(at(secs)), "{secs}");
        let expected = if secs <= 32 { route(2) } else { route(1) };
        assert_eq!(sending.egress.as_ref().unwrap().route, expected, "{secs}");
    }
    sending.is_open = false;
    assert!(!sending.ensure_route(at(60)));
}

/// One m-line of VP8 to a peer that sends arrival feedback.
fn video(now: Instant) -> Sending {
    let mut sending = sending(now);
    sending.add_m_line(0, Mid::from("1"), 7, Some(8), &mut Names::new([1; 32])).unwrap();
    let mut payload_types = PayloadTypes::default();
    payload_types.insert(Codec::Vp8, 96.into(), Some(97.into()));
    sending.m_line_mut(0).unwrap().start(track(), payload_types, Ids(0));
    sending.has_arrival_feedback = true;
    sending
}

/// The same over a path of 4 Mbit/s, with a burst of ten packets.
fn wide_video(now: Instant) -> Sending {
    let mut sending = video(now);
    sending.egress.as_mut().unwrap().pacer = Pacer::new(now, 4_000_000);
    sending
}

fn track() -> TrackId {
    TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") }
}

#[test]
fn packets_of_another_track_than_that_of_the_m_line_are_dropped() {
    let now = Instant::now();
    let (mut sending, mut datagrams) = (video(now), Datagrams::default());
    let packets = [0, 1, 2].map(|seq_no| packet(now, Codec::Vp8, seq_no));
    let other = TrackId { mid: Mid::from("9"), ..track() };
    let mut dropped = |sending: &mut Sending, track| {
        let Forwarded { sent, held, dropped, .. } =
            sending.forward(now, 0, track, packets.iter(), false, &mut datagrams);
        assert_eq!((sent, held, datagrams.len()), (0, 0, 0));
        let mut drops = Drops::default();
        drops.add_run(&dropped);
        let m_line = sending.m_line_mut(0).expect("the m-line exists").drops;
        DropReason::ALL.map(|reason| (drops.get(reason), m_line.counts().get(reason)))
    };
    for (track, is_open, reason) in [(other, true, DropReason::Reassigned), (track(), false, DropReason::NotConnected)]
    {
        sending.is_open = is_open;
        sending.m_line_mut(0).expect("the m-line exists").drops = MLineDrops::default();
        let expected = DropReason::ALL.map(|each| if each == reason { (3, 3) } else { (0, 0) });
        assert_eq!(dropped(&mut sending, track), expected, "{}", reason.name());
    }
}

/// A packet of the largest size.
fn packet(now: Instant, codec: Codec, seq_no: u64) -> Packet {
    let mut packet = Packet { codec, payload: vec![0; MAX_PAYLOAD].into(), ..Packet::sample(now) };
    packet.incoming.seq_no = seq_no;
    packet.incoming.can_start = true;
    packet
}

#[test]
fn held_packets_leave_at_the_next_release() {
    let start = Instant::now();
    for preface in [0, 400] {
        let (mut sending, mut datagrams) = (video(start), Datagrams::default());
        let mut now = start;
        for seq_no in 0..100 {
            let mut packet = packet(now, Codec::Vp8, seq_no);
            packet.payload = vec![0; MAX_PAYLOAD - packet.elements.len()].into();
            if preface > 0 {
                packet.incoming.has_preface = true;
                let payload = vec![9; preface].into();
                packet.preface = Some(Box::new(Preface { payload, is_missing: true }));
            }
            let mut forward = |now| sending.forward(now, 0, track(), [&packet].into_iter(), false, &mut datagrams);
            if forward(now).held == 0 {
                continue;
            }
            now = sending.next_release(now).unwrap();
            let forwarded = sending.forward(now, 0, track(), [&packet].into_iter(), false, &mut datagrams);
            assert_eq!((forwarded.sent, forwarded.held), (1, 0), "packet {seq_no} with a preface of {preface} bytes");
        }
        assert!(now > start + Duration::from_millis(200), "packets were held");
    }
}

#[test]
fn a_preface_is_paced_with_its_packet() {
    let now = Instant::now();
    for (length, preface, burst) in [(100, 400, 18), (100, 40, 42), (1_000, 400, 7)] {
        let (mut sending, mut datagrams) = (wide_video(now), Datagrams::default());
        let of = |seq_no| {
            let preface = Preface { payload: vec![9; preface].into(), is_missing: true };
            let packet = packet(now, Codec::Vp8, seq_no);
            let incoming = Incoming { has_preface: true, ..packet.incoming };
            Packet { payload: vec![0; length].into(), preface: Some(Box::new(preface)), incoming, ..packet }
        };
        let packets: Vec<_> = (0..100).map(of).collect();
        let forwarded = sending.forward(now, 0, track(), packets.iter(), false, &mut datagrams);
        assert_eq!((forwarded.sent, datagrams.len() as u64), (burst, 2 * burst), "{length}, {preface}");
        assert_eq!(forwarded.held as u64, 100 - burst);
    }
}

#[test]
fn dropped_packets_take_no_pacer_budget() {
    let now = Instant::now();
    let (mut sending, mut datagrams) = (wide_video(now), Datagrams::default());
    let mut forward = |codec, seq_no| {
        let packet = packet(now, codec, seq_no);
        sending.forward(now, 0, track(), [&packet].into_iter(), false, &mut datagrams)
    };
    for seq_no in 0..100 {
        assert_eq!(forward(Codec::Vp9, seq_no).held, 0);
    }
    assert_eq!((0..100).take_while(|seq_no| forward(Codec::Vp8, *seq_no).sent == 1).count(), 8, "a burst");
}

#[test]
fn a_peer_without_the_negotiated_feedback_has_no_estimate() {
    let start = Instant::now();
    let mut sending = sending(start);
    sending.has_arrival_feedback = true;
    let mut ignored_ms = Vec::new();
    for ms in (0..5_000).step_by(20) {
        let now = start + Duration::from_millis(ms);
        sending.egress.as_mut().unwrap().number(now, 1_200);
        if sending.poll_missing_feedback() {
            ignored_ms.push(ms);
        }
        assert_eq!(sending.available_bps().is_some(), ignored_ms.is_empty(), "{ms}");
    }
    assert!(ignored_ms.len() == 1 && (1_000..2_000).contains(&ignored_ms[0]), "{ignored_ms:?}");
}

#[test]
fn audio_is_reserved_at_its_measured_bitrate() {
    let start = Instant::now();
    let mut sending = sending(start);
    assert_eq!(sending.audio_bps(start), 0, "no audio");
    let mut payload_types = PayloadTypes::default();
    payload_types.insert(Codec::Opus, 111.into(), None);
    let track = TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") };
    let mut names = Names::new([1; 32]);
    for m_line in 0..3 {
        sending.add_m_line(m_line, Mid::from(["1", "2", "3"][m_line]), 10 + m_line as u32, None, &mut names).unwrap();
        sending.m_line_mut(m_line).unwrap().start(track, payload_types, Ids(0));
    }
    assert_eq!(sending.audio_bps(start), 2 * VOICE_BPS, "two may speak at once");
    let mut datagrams = Datagrams::default();
    for (from, payload, expected) in [(0, 180, 300_000), (1_000, 10, 2 * VOICE_BPS)] {
        for number in 0..50 {
            let now = start + Duration::from_millis(from + 20 * number);
            for m_line in 0..3 {
                let seq_no = from + number;
                let packet = Packet { payload: vec![1; payload].into(), ..audio(now, m_line as u32, seq_no) };
                sending.forward(now, m_line, track, std::iter::once(&packet), false, &mut datagrams);
            }
            assert!(sending.audio_bps(now) >= 2 * VOICE_BPS);
        }
        assert_eq!(sending.audio_bps(start + Duration::from_millis(from + 1_000)), expected);
    }
    sending.stop(track);
    assert_eq!(sending.audio_bps(start + Duration::from_secs(9)), 0);
}

fn audio(now: Instant, ssrc: u32, seq_no: u64) -> Packet {
    let mut packet = Packet { payload: [].into(), ..packet(now, Codec::Opus, seq_no) };
    packet.incoming.ssrc = ssrc;
    packet.incoming.timestamp = 960 * seq_no as u32;
    packet.incoming.clock_rate = Frequency::FORTY_EIGHT_KHZ;
    packet
}

#[test]
fn feedback_is_limited_to_the_rate_of_a_browser() {
    let start = Instant::now();
    let mut sending = video(start);
    let exported = Exported { profile: SrtpProfile::AEAD_AES_256_GCM, material: vec![3; 88], is_client: true };
    let (mut theirs, mut allowance) = (Srtp::new(&exported).unwrap(), Allowance::new(start, 1, 1));
    let mut asked = 0;
    for micros in (0..2_000_000).step_by(200) {
        let (now, mut pli) = (start + Duration::from_micros(micros), rtcp::packet(1, 206, &[9, 7]));
        theirs.seal_rtcp(&mut pli, 0);
        sending.handle_rtcp(now, route(1), &pli, &mut allowance);
        asked += sending.take_requests().count() as u64;
    }
    assert!((1_000..=2_001).contains(&asked), "{asked}");
    assert_eq!(allowance.take_excess(), 10_000 - asked);
    // Unauthentic RTCP is not charged.
    let later = start + Duration::from_secs(9);
    for _ in 0..5_000 {
        sending.handle_rtcp(later, route(1), &rtcp::packet(1, 206, &[9, 7]), &mut allowance);
    }
    assert_eq!(allowance.take_excess(), 0);
}

#[test]
fn requests_are_handled_after_any_other_feedback_in_a_datagram() {
    let start = Instant::now();
    let pli = rtcp::packet(1, 206, &[9, 7]);
    let reports = |count: u32| {
        let words = std::iter::once(9).chain((0..count).flat_map(|ssrc| [1_000 + ssrc, 0, 0, 0, 0, 0]));
        rtcp::packet(count as u8, 201, &words.collect::<Vec<_>>())
    };
    let nacks = |ssrc: u32, count: u32| {
        let words = [9, ssrc].into_iter().chain((0..count).map(|number| number << 16 | 0xffff));
        rtcp::packet(1, 205, &words.collect::<Vec<_>>())
    };
    let others = (0..120).flat_map(|ssrc| rtcp::packet(1, 206, &[9, 2_000 + ssrc])).collect();
    for (name, before) in [
        ("reports", [reports(31), reports(31), reports(16)].concat()),
        ("NACKs of another stream", [reports(0), nacks(55, 300)].concat()),
        ("NACKs of the same stream", [reports(0), nacks(7, 300)].concat()),
        ("keyframe requests for other streams", [reports(0), others].concat()),
        ("keyframe requests", [reports(0), pli.repeat(100)].concat()),
    ] {
        let mut sending = video(start);
        let mut datagrams = Datagrams::default();
        for seq_no in 0..300 {
            let packet = packet(start, Codec::Vp8, seq_no);
            sending.forward(start, 0, track(), [&packet].into_iter(), true, &mut datagrams);
        }
        let exported = Exported { profile: SrtpProfile::AEAD_AES_256_GCM, material: vec![3; 88], is_client: true };
        let (mut theirs, mut allowance) = (Srtp::new(&exported).unwrap(), Allowance::new(start, 1, 1));
        let mut compound = [before, pli.clone()].concat();
        theirs.seal_rtcp(&mut compound, 0);
        sending.handle_rtcp(start, route(1), &compound, &mut allowance);
        let requests: Vec<_> = sending.take_requests().collect();
        assert_eq!(requests.iter().filter(|request| **request == Request::Keyframe { m_line: 0 }).count(), 1, "{name}");
        assert!(requests.len() <= MAX_REQUESTS + 1, "{name}");
    }
}
