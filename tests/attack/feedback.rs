//! Participants that send feedback which no browser would send, sealed with the keys of their handshake.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use aq_server::media::rtp::transport_feedback::Feedback;
use aq_server::media::transport::dtls;
use aq_server::media::transport::srtp::Srtp;
use str0m::{Candidate, Rtc};

use crate::client::{Client, Kind, take_turns};
use crate::media::{PAUSE, flows, turns};
use crate::{Tally, Target};

/// Payload types of VP8 and of its retransmissions.
const VIDEO: u8 = 96;
const RTX: u8 = 97;

/// Extension ID of the transport-wide sequence number, as offered by the server.
const NUMBER: u8 = 3;

/// Bytes of the IP and UDP headers.
const PATH_BYTES: usize = 28;

/// Limit of retransmissions: a burst in bytes, and one `PART`-th of the sent bytes.
const SAVED: usize = 64 * 1024;
const PART: usize = 4;

/// Sequence numbers in one entry of a NACK, and entries in one NACK, which reach back as far as packets are kept.
const ENTRY: u16 = 17;
const ENTRIES: u16 = 14;

/// Feedback datagrams per turn: about as many as the server accepts from one peer.
const EACH_TURN: usize = 8;

/// Sender SSRCs of random feedback: fewer than the server distinguishes, and none of a valid report.
const SENDERS: u32 = 4;

/// Joins the attacker and another participant, with media. Returns the attacker's keys as well.
fn pair(target: &Target, room: &str, amend: fn(String) -> String) -> (Client, Client, Srtp) {
    let mut mallory = Client::join_on_loopback(target.process, &format!("Mallory&room={room}"));
    mallory.amend = amend;
    // Use the server's DTLS, which makes the keying material available.
    let builder = Rtc::builder().set_crypto_provider(Arc::new(dtls::crypto_provider()));
    let builder = builder.set_rtp_mode(true).clear_codecs().enable_opus(true, false).enable_vp8(true);
    let mut rtc = builder.build(Instant::now());
    let local = mallory.udp.local_addr().expect("bound");
    rtc.add_local_candidate(Candidate::host(local, "udp").expect("a usable address"));
    mallory.rtc = rtc;
    let mut trent = Client::join_on_loopback(target.process, &format!("Trent&room={room}"));
    flows(&mut mallory, &mut trent);
    let keys = dtls::take_exported().and_then(|exported| Srtp::new(&exported)).expect("a handshake");
    (mallory, trent, keys)
}

/// Sends a compound packet.
fn send(target: &Target, client: &Client, keys: &mut Srtp, mut compound: Vec<u8>) {
    keys.seal_rtcp(&mut compound, 0);
    client.udp.send_to(&compound, target.process.addr()).expect("a way to the server");
}

/// SSRC and sequence number of the last packet received with a payload type.
fn latest(client: &Client, payload_type: u8) -> Option<(u32, u16)> {
    let found = client.datagrams.iter().rev().find(|(_, bytes)| is_of(bytes, payload_type));
    found.map(|(_, bytes)| (word(bytes, 8), u16::from_be_bytes([bytes[2], bytes[3]])))
}

fn is_of(datagram: &[u8], payload_type: u8) -> bool {
    datagram.len() >= 12 && datagram[0] >> 6 == 2 && datagram[1] & 0x7f == payload_type
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Number and total bytes of the received datagrams for which `counts` is true.
fn came(client: &Client, counts: impl Fn(&[u8]) -> bool) -> (usize, usize) {
    let of = client.datagrams.iter().filter(|(_, bytes)| counts(bytes));
    of.fold((0, 0), |(count, sum), (_, bytes)| (count + 1, sum + bytes.len() + PATH_BYTES))
}

/// M3: NACKs all received packets repeatedly.
pub fn nack_storm(target: &Target) -> Tally {
    // Without transport-wide feedback no bandwidth estimate limits the retransmissions.
    let amend = |answer: String| {
        let kept = answer.split_inclusive('\n').filter(|line| !line.contains("transport-wide-cc-extensions"));
        kept.collect()
    };
    let (mut mallory, mut trent, mut keys) = pair(target, "nacks", amend);
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        let (ssrc, last) = latest(&mallory, VIDEO).expect("video flows");
        let mut nack = vec![0x81, 205, 0, (2 + ENTRIES) as u8];
        nack.extend(1_u32.to_be_bytes());
        nack.extend(ssrc.to_be_bytes());
        for entry in 1..=ENTRIES {
            nack.extend(last.wrapping_sub(ENTRY * entry - 1).to_be_bytes());
            nack.extend([0xff; 2]);
        }
        for _ in 0..EACH_TURN {
            send(target, &mallory, &mut keys, nack.clone());
            tally.sent += u64::from(ENTRIES * ENTRY);
        }
        turns(&mut mallory, &mut trent);
    }
    flows(&mut mallory, &mut trent);
    let of = |payload_type| came(&mallory, |bytes| is_of(bytes, payload_type));
    let ((_, video), (count, again)) = (of(VIDEO), of(RTX));
    tally.answered = count as u64;
    // The server counts header bytes only approximately.
    let most = (SAVED + video / PART) * 21 / 20;
    assert!(again > SAVED / 2, "only {again} bytes were retransmitted");
    assert!(again < most, "{again} bytes were retransmitted of {video}, for {} NACKed packets", tally.sent);
    tally
}

/// M4: reports, feedback and extended report blocks of all types, with random contents.
pub fn nonsense(target: &Target) -> Tally {
    let (mut mallory, mut trent, mut keys) = pair(target, "nonsense", |answer| answer);
    let mut random = fastrand::Rng::with_seed(9);
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        let streams: BTreeSet<u32> = [VIDEO, 111].iter().filter_map(|pt| Some(latest(&mallory, *pt)?.0)).collect();
        let mut known: Vec<u32> = streams.into_iter().collect();
        known.extend([word(&mallory.sealed, 8), random.u32(..)]);
        for _ in 0..EACH_TURN {
            let mut compound = Vec::new();
            for _ in 0..random.usize(1..5) {
                report(&mut random, &known, &mut compound);
            }
            send(target, &mallory, &mut keys, compound);
            tally.sent += 1;
        }
        turns(&mut mallory, &mut trent);
    }
    for client in [&mallory, &trent] {
        assert_eq!(client.closed, None, "{:?}", client.events("error"));
    }
    // The feedback may have ended video by a low bandwidth; audio has to continue, and no excess may be sent.
    let (sent, received) = (trent.sent(Kind::Audio).len(), mallory.received(Kind::Audio).len());
    assert!(received * 10 > sent * 9 - 50, "{received} of {sent} audio packets arrived");
    let (sent, bytes) = (sent_bytes(&trent), came(&mallory, |_| true).1);
    assert!(bytes < 2 * sent + SAVED, "{bytes} bytes received of {sent} sent");
    flows(&mut mallory, &mut trent);
    tally.answered = mallory.keyframe_requests as u64;
    tally
}

/// M4: packets whose transport-wide sequence numbers are before the first one, or far ahead of the last. Every second
/// packet is not authentic.
pub fn numbers(target: &Target) -> Tally {
    let (mut mallory, mut trent, mut keys) = pair(target, "numbers", |answer| answer);
    let mid = mallory.own_line(Kind::Video).expect("Mallory sends video");
    let mut direct = mallory.rtc.direct_api();
    let ssrc = direct.stream_tx_by_mid(mid, None).and_then(|stream| stream.rtx()).expect("an RTX stream");
    let (begin, mut tally) = (Instant::now(), Tally::default());
    let steps = [1, 40_000, 4_000, 32_767, 32_769, 65_535];
    let (mut number, mut numbers, mut datagram) = (0_u16, [const { BTreeSet::new() }; 2], [0; 2_048]);
    while begin.elapsed() < target.time {
        for _ in 0..EACH_TURN {
            number = number.wrapping_add(steps[tally.sent as usize % steps.len()]);
            let is_forged = tally.sent % 2 == 1;
            numbers[usize::from(is_forged)].insert(number);
            let [high, low] = number.to_be_bytes();
            let mut packet = vec![0x90, RTX];
            packet.extend((tally.sent as u16).to_be_bytes());
            packet.extend(1_u32.to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet.extend([0xbe, 0xde, 0, 1, NUMBER << 4 | 1, high, low, 0]);
            let header = packet.len();
            keys.seal_any_rtp(&mut packet, 0, header, tally.sent + u64::from(is_forged) * 7);
            mallory.udp.send_to(&packet, target.process.addr()).expect("a way to the server");
            tally.sent += 1;
        }
        // str0m did not send these packets and rejects feedback on them, so the test reads it directly.
        while let Ok(length) = mallory.udp.recv(&mut datagram) {
            tally.answered += of_arrivals(&mut keys, &datagram[..length], &numbers);
        }
        take_turns(&mut [&mut trent], PAUSE);
    }
    assert!(tally.answered > 0, "arrival feedback is received");
    assert!(tally.answered < tally.sent, "{} messages about {} packets", tally.answered, tally.sent);
    assert_eq!(trent.closed, None, "{:?}", trent.events("error"));
    tally
}

/// Counts transport-wide feedback in a datagram, and checks that it reports no forged packet.
fn of_arrivals(keys: &mut Srtp, datagram: &[u8], [sealed, forged]: &[BTreeSet<u16>; 2]) -> u64 {
    let mut plain = Vec::new();
    if !(192..224).contains(&datagram[1]) || keys.open_rtcp(datagram, &mut plain).is_none() {
        return 0;
    }
    if plain[..2] != [0x80 | 15, 205] && plain[..2] != [0xa0 | 15, 205] {
        return 0;
    }
    for (number, _) in Feedback::new(&plain[12..]).expect("whole").filter(|(_, came)| came.is_some()) {
        assert!(sealed.contains(&number) || !forged.contains(&number), "{number} was forged");
    }
    1
}

/// Approximate bytes of media that a client has sent.
fn sent_bytes(client: &Client) -> usize {
    let payloads = [Kind::Audio, Kind::Video].into_iter().flat_map(|kind| client.sent(kind));
    payloads.map(|payload| payload.len() + PATH_BYTES).sum()
}

/// Appends a random RTCP packet of any type and format, mostly with the correct length.
fn report(random: &mut fastrand::Rng, known: &[u32], compound: &mut Vec<u8>) {
    let start = compound.len();
    let packet_type = random.u8(199..210);
    let formats = [0, 1, 4, 11, 15, random.u8(..32)];
    let count = formats[random.usize(..formats.len())];
    compound.extend([0x80 | count, packet_type, 0, 0]);
    compound.extend((1 + random.u32(..SENDERS)).to_be_bytes());
    for _ in 0..random.usize(..60) {
        match random.u8(..8) {
            0 => compound.extend(known[random.usize(..known.len())].to_be_bytes()),
            1 => compound.extend(b"REMB"),
            2 => compound.extend([0xff; 4]),
            3 => compound.extend([0; 4]),
            // Header of an extended report block, with a length.
            4 => compound.extend([random.u8(..9), 0, 0, random.u8(..9)]),
            _ => compound.extend(random.u32(..).to_be_bytes()),
        }
    }
    let words = ((compound.len() - start) / 4 - 1) as u16;
    let stated = if random.u8(..8) == 0 { random.u16(..) } else { words };
    compound[start + 2..start + 4].copy_from_slice(&stated.to_be_bytes());
}
