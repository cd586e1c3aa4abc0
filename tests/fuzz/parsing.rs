//! Parsers and rewriters without a server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aq_server::id::{PeerId, TrackId};
use aq_server::media::bandwidth::estimator::Estimator;
use aq_server::media::negotiation::answer;
use aq_server::media::negotiation::offered::offered;
use aq_server::media::negotiation::profile::{DEPENDENCY_ID, MEDIA_IDS, PayloadTypes};
use aq_server::media::negotiation::sdp::{check_answer, with_simulcast};
use aq_server::media::rtp::codec::arrival::Arrival;
use aq_server::media::rtp::codec::configuration::{Configuration, MAX_ADDED_BYTES};
use aq_server::media::rtp::codec::dependency::Structure;
use aq_server::media::rtp::codec::{self, Ids, red};
use aq_server::media::rtp::elements::{self, Elements};
use aq_server::media::rtp::packet::{Incoming, Packet};
use aq_server::media::rtp::rtcp::{self, Feedback};
use aq_server::media::rtp::transport_feedback::Feedback as Arrivals;
use aq_server::media::subscribe::egress::Egress;
use aq_server::media::subscribe::outgoing::Outgoing;
use aq_server::media::subscribe::selection::Selection;
use aq_server::media::transport::datagrams::Datagrams;
use aq_server::media::transport::demux::{Demux, Match};
use aq_server::media::transport::route::Route;
use aq_server::media::transport::srtp::{Exported, Srtp};
use aq_server::web::signal::ClientMessage;
use str0m::crypto::dtls::SrtpProfile;
use str0m::format::Codec;
use str0m::media::{Frequency, Mid};

use crate::cursor::Cursor;

const CODECS: [Codec; 6] = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opus, Codec::Unknown];

/// Runs all parsers of the media plane, and that of signaling messages.
pub fn readers(data: &[u8]) {
    let peer = PeerId { slot: 1, generation: 0 };
    let addr = SocketAddr::from(([192, 0, 2, 1], 9));
    let mut demux = Demux::default();
    assert_eq!(demux.find(addr, data), Match::Unknown);
    demux.insert_ufrag("ufrag", peer);
    demux.insert_address(addr, peer);
    demux.find(addr, data);
    let mut feedback = Vec::new();
    rtcp::read(data, |each| feedback.push(each));
    assert!(feedback.len() <= data.len() / 4, "each item takes at least a word");
    let now = Instant::now();
    let mut estimator = Estimator::new(now, 1_000_000);
    for number in 0..64 {
        estimator.push(now + Duration::from_millis(number), 1_200, 0);
    }
    let bodies = feedback.iter().filter_map(|each| match each {
        Feedback::Arrivals(body) => Some(*body),
        _ => None,
    });
    for body in bodies.chain([data]) {
        let Some(mut arrivals) = Arrivals::new(body) else { continue };
        assert!(arrivals.by_ref().count() <= 2_048, "the number of items is limited");
        assert_eq!(arrivals.next(), None, "the iterator stays at its end");
        estimator.handle_feedback(now + Duration::from_millis(200), body);
    }
    for each in feedback.iter() {
        if let Feedback::Bandwidth(bps) = each {
            estimator.handle_remb(*bps);
        }
    }
    estimator.handle_timeout(now + Duration::from_secs(3));
    assert!((1..1_000_000_000).contains(&estimator.estimate_bps()), "an estimate is in bounds");
    let elements = Elements::read(data, MEDIA_IDS);
    assert!(elements.len() <= 160);
    let mut block = Vec::new();
    if elements.write(MEDIA_IDS, &[], &mut block) {
        // A packet with only this extension block yields the same elements.
        let packet = [&[0x90; 12][..], &block].concat();
        assert_eq!(Elements::read(&packet, MEDIA_IDS), elements);
    }
    assert!(red::primary(data).is_none_or(|at| at <= data.len()));
    if let Ok(text) = str::from_utf8(data) {
        let _ = ClientMessage::parse(text);
        for offered in [0, 2] {
            let _ = check_answer(text, offered);
        }
        let asking = with_simulcast(text, &[Mid::from("0")]);
        assert_eq!(with_simulcast(&asking, &[Mid::from("0")]), asking, "simulcast is not added twice");
        let offered = offered(text);
        if let Ok(reduced) = answer::reduce(text, &offered) {
            assert_eq!(
                answer::reduce(&reduced, &offered).as_ref(),
                Ok(&reduced),
                "a reduced answer does not change again"
            );
        }
    }
}

/// Forwards packets of one track in any codec, from several SSRCs, to one subscriber whose layer selection changes.
pub fn rewriting(data: &[u8]) {
    let mut program = Cursor(data);
    let codec = CODECS[program.below(CODECS.len())];
    let now = Instant::now();
    let addr = SocketAddr::from(([192, 0, 2, 1], 9));
    let exported = Exported { profile: SrtpProfile::AEAD_AES_128_GCM, material: vec![3; 88], is_client: false };
    let srtp = Srtp::new(&exported).expect("the length of that profile");
    let mut egress = Egress::new(now, srtp, Route { remote: addr, local: addr }, 5);
    let mut payload_types = PayloadTypes::default();
    payload_types.insert(codec, 96.into(), Some(97.into()));
    payload_types.red = program.byte().is_multiple_of(2).then(|| 63.into());
    let accepted = elements::Ids(program.word() & 0x7ffe);
    let track = TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") };
    let mut outgoing = Outgoing::new(Mid::from("m"), 7, Some(8), [u32::from(program.word() >> 1), 9]);
    outgoing.start(track, payload_types, accepted);
    let mut structures: [Structure; 3] = Default::default();
    let mut configurations: [Configuration; 3] = Default::default();
    let mut highest = [1_000_u64; 3];
    let mut came = BTreeSet::new();
    let mut sent: Vec<(u32, u16)> = Vec::new();
    let mut packets: Vec<Packet> = Vec::new();
    let mut time = now;
    while !program.is_empty() {
        let mut datagrams = Datagrams::default();
        match program.byte() {
            0 => outgoing.pause(),
            1 => outgoing.select(None),
            2 => {
                let (layer, upper) = (program.byte() % 3, program.byte());
                let spatial = if upper < 0xc0 { u8::MAX } else { upper / 3 % 3 };
                outgoing.select(Some(Selection { layer, spatial, temporal: upper % 3 }));
            }
            3 => outgoing.handle_report(),
            4 => {
                let again = packets.get(program.below(packets.len().max(1)));
                if let (Some(packet), Some(known)) = (again, outgoing.latest_sent(program.word())) {
                    outgoing.resend(time, known, packet, &mut egress, &mut datagrams);
                }
            }
            5 => drop(outgoing.send_padding(time, &mut egress, &mut datagrams)),
            6 => drop(outgoing.poll_report(time, 1)),
            step => {
                let layer = step % 3;
                let highest = &mut highest[usize::from(layer)];
                let seq_no = highest.saturating_add_signed(i64::from(program.byte() as i8));
                time += Duration::from_micros(u64::from(program.word()));
                let elements = program.bytes();
                let mut kept = Elements::default();
                if !elements.is_empty() && elements.len() <= 128 {
                    kept.push(DEPENDENCY_ID, elements);
                }
                let flags = program.byte();
                let marker = flags & 1 != 0;
                let timestamp = u32::from(flags >> 2) * 3_000;
                let payload = program.bytes();
                let redundant = match flags & 2 != 0 && codec == Codec::Opus {
                    true => match red::primary(payload) {
                        Some(at) => Some(at),
                        None => continue,
                    },
                    false => None,
                };
                let dependency = kept.find(DEPENDENCY_ID);
                let structure = &mut structures[usize::from(layer)];
                let configuration = &mut configurations[usize::from(layer)];
                let completed = configuration.complete(codec, payload, seq_no, payload.len() + MAX_ADDED_BYTES);
                let payload = completed.as_deref().unwrap_or(payload);
                let description = codec::describe(codec, marker, payload, dependency, structure);
                check_patch(codec, payload, &description);
                let place = Arrival::of(seq_no, Some(*highest));
                let starts = description.starts_keyframe || codec == Codec::Opus;
                let (can_start, preface) = configuration.start(time, codec, timestamp, payload, place, starts);
                *highest = seq_no.max(*highest);
                // str0m yields each sequence number once.
                if !came.insert((layer, seq_no)) {
                    continue;
                }
                let packet = Packet {
                    mid: Mid::from("0"),
                    layer,
                    codec,
                    incoming: Incoming {
                        ssrc: u32::from(layer),
                        epoch: 0,
                        seq_no,
                        timestamp,
                        clock_rate: Frequency::NINETY_KHZ,
                        captured: time,
                        can_start,
                        has_preface: preface.is_some(),
                    },
                    redundant,
                    preface,
                    payload: payload.into(),
                    marker,
                    description,
                    elements: kept,
                    position: packets.len() as u32,
                };
                outgoing.forward(time, &packet, &mut egress, &mut datagrams);
                packets.push(packet);
            }
        }
        for (_, datagram) in datagrams.iter() {
            assert_eq!(datagram[0] >> 6, 2, "version 2");
            let seq_no = u16::from_be_bytes([datagram[2], datagram[3]]);
            let ssrc = u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
            assert!([7, 8].contains(&ssrc));
            sent.push((ssrc, seq_no));
        }
    }
    // Inputs are far shorter than a cycle of sequence numbers.
    let distinct: BTreeSet<_> = sent.iter().collect();
    assert_eq!(distinct.len(), sent.len(), "no sequence number is used twice");
}

/// Checks that patched IDs are parsed as written, and that nothing else has changed.
fn check_patch(codec: Codec, payload: &[u8], description: &codec::Description) {
    let mut patched = payload.to_vec();
    codec::patch(codec, &mut patched, description.ids);
    assert_eq!(patched, payload, "patching the same ids changes nothing");
    let ids = Ids {
        picture: description.ids.picture.map(|id| id.with(0x2a55)),
        tl0_pic_idx: description.ids.tl0_pic_idx.map(|_| 0x99),
        frame_number: None,
    };
    codec::patch(codec, &mut patched, ids);
    let described = codec::describe(codec, false, &patched, None, &mut Structure::default()).ids;
    assert_eq!((described.picture, described.tl0_pic_idx), (ids.picture, ids.tl0_pic_idx));
}
