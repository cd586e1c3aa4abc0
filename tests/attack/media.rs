//! Participants that send invalid or excessive media.

use std::time::{Duration, Instant};

use serde_json::json;
use str0m::rtp::{RtpWrite, Ssrc};

use crate::client::{Client, Kind, run_until, take_turns};
use crate::{Tally, Target};

/// Pause after each turn of an attack. It limits what an attacker sends in a second where it sends some datagrams each turn.
pub const PAUSE: Duration = Duration::from_millis(10);

/// Runs a turn of the attacker and of the other participant.
pub fn turns(mallory: &mut Client, trent: &mut Client) {
    take_turns(&mut [mallory, trent], PAUSE);
}

/// Joins an attacker and a participant that receives its media; both are connected.
pub fn pair(target: &Target, room: &str) -> (Client, Client) {
    let mut mallory = Client::join_on_loopback(target.process, &format!("Mallory&room={room}"));
    let mut trent = Client::join_on_loopback(target.process, &format!("Trent&room={room}"));
    flows(&mut mallory, &mut trent);
    (mallory, trent)
}

/// Waits until both clients have received more audio and video.
pub fn flows(mallory: &mut Client, trent: &mut Client) {
    let count = |client: &Client| [Kind::Audio, Kind::Video].map(|kind| client.received(kind).len());
    let before = [count(mallory), count(trent)];
    run_until(&mut [mallory, trent], "more media", |clients| {
        clients.iter().zip(before).all(|(client, before)| {
            let now = count(client);
            now[0] > before[0] + 10 && now[1] > before[1] + 10
        })
    });
}

/// Calls `act` in each turn of both clients for the duration of an attack, and checks that both are still connected.
fn during(target: &Target, room: &str, mut act: impl FnMut(&mut Client, &mut Client) -> Tally) -> Tally {
    let (mut mallory, mut trent) = pair(target, room);
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        let more = act(&mut mallory, &mut trent);
        tally.sent += more.sent;
        tally.answered += more.answered;
        turns(&mut mallory, &mut trent);
    }
    for client in [&mallory, &trent] {
        assert_eq!(client.closed, None, "{:?}", client.events("error"));
    }
    flows(&mut mallory, &mut trent);
    tally
}

/// M1: malformed, forged and replayed packets from a participant's own address.
pub fn bad_packets(target: &Target) -> Tally {
    let (server, mut random) = (target.process.addr(), fastrand::Rng::with_seed(8));
    let mut first: Option<Vec<u8>> = None;
    during(target, "bad-packets", |mallory, _| {
        let sealed = mallory.sealed.clone();
        let old = first.get_or_insert_with(|| sealed.clone()).clone();
        let mut forged = sealed.clone();
        let at = random.usize(12..forged.len());
        forged[at] ^= 1;
        let mut noise: Vec<u8> = (0..random.usize(1..1_200)).map(|_| random.u8(..)).collect();
        noise[0] = 0x80 | noise[0] & 0x3f;
        let mut report = noise.clone();
        report.resize(report.len().max(2), 0);
        report[1] = random.u8(200..208);
        // RTP without a complete header: 15 CSRCs, and an extension of 256 KiB.
        let header = vec![0x9f; 20];
        let packets =
            [sealed.clone(), old, forged, noise, report, header, sealed[..12].to_vec(), vec![0x80], Vec::new()];
        for packet in &packets {
            mallory.udp.send_to(packet, server).expect("a way to the server");
        }
        Tally { sent: packets.len() as u64, answered: 0 }
    })
}

/// M2: as many keyframe requests as str0m can send.
pub fn keyframe_storm(target: &Target) -> Tally {
    let begin = Instant::now();
    let mut asked = 0;
    let mut tally = during(target, "keyframes", |mallory, trent| {
        asked = mallory.keyframe_requests;
        let Some(mid) = line(trent) else { return Tally::default() };
        let mut direct = trent.rtc.direct_api();
        let ssrc = direct.stream_rx_by_mid(mid, None).map(|stream| stream.ssrc());
        let Some(stream) = ssrc.and_then(|ssrc| direct.stream_rx(&ssrc)) else { return Tally::default() };
        stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        Tally { sent: 1, answered: 0 }
    });
    tally.answered = asked as u64;
    assert!(tally.sent > 20, "only {} requests were sent", tally.sent);
    let most = 3 + begin.elapsed().as_millis() as u64 / 500;
    assert!(tally.answered <= most, "{} of {} reached the publisher", tally.answered, tally.sent);
    tally
}

/// The m-line of the other participant's video.
fn line(client: &Client) -> Option<str0m::media::Mid> {
    let tracks = client.events("tracks").into_iter().next_back()?["tracks"].as_array()?;
    let video = tracks.iter().find(|track| track["own"] != true && track["kind"] == "video")?;
    Some(video["mid"].as_str()?.into())
}

/// M5: twice as many packets as the limit allows.
pub fn above_rate(target: &Target) -> Tally {
    let (begin, rate) = (Instant::now(), 4_000.0);
    let mut got = 0;
    let mut written = 0;
    let mut tally = during(target, "rate", |mallory, trent| {
        got = trent.received(Kind::Video).len() + trent.received(Kind::Audio).len();
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        let more = due.saturating_sub(written).min(100);
        for _ in 0..more {
            mallory.send_packet(Instant::now(), Kind::Video);
        }
        written += more;
        Tally { sent: more, answered: 0 }
    });
    tally.answered = got as u64;
    let most = 2_000.0 * (begin.elapsed().as_secs_f64() + 1.0);
    assert!((got as f64) < most, "{got} of {} packets were forwarded", tally.sent);
    tally
}

/// M6: one SSRC after the other, and one track after the other.
pub fn endless_streams(target: &Target) -> Tally {
    let (mut mallory, mut trent) = pair(target, "streams");
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        if let Some(mid) = mallory.own_line(Kind::Video).filter(|_| tally.sent < 500) {
            tally.sent += 1;
            let number = tally.sent as u32;
            let payload = vec![0x90, 0x80, 0x80, 1, 0x10, 0, 0];
            let write = RtpWrite::new(96.into(), 1_000.into(), number, Instant::now(), payload);
            let ssrc: Ssrc = (0x1000_0000 + number).into();
            mallory.rtc.direct_api().declare_stream_tx(ssrc, None, mid, None).write_rtp(write);
        }
        turns(&mut mallory, &mut trent);
    }
    // Video may have stopped, but audio has its own SSRC.
    let before = trent.received(Kind::Audio).len();
    run_until(&mut [&mut mallory, &mut trent], "sound", |clients| clients[1].received(Kind::Audio).len() > before + 10);
    assert_eq!((&mallory.closed, &trent.closed), (&None, &None));
    let (mut mallory, mut trent) = pair(target, "tracks");
    for _ in 0..12 {
        mallory.send_json(&json!({"event": "publish", "kind": "video", "source": "screen"}));
        // Wait for the negotiation: requests before its end would be merged.
        let end = Instant::now() + Duration::from_millis(150);
        while Instant::now() < end {
            turns(&mut mallory, &mut trent);
        }
    }
    let tracks = mallory.events("tracks").into_iter().next_back().expect("a `tracks` event")["tracks"].clone();
    let own = tracks.as_array().expect("a list").iter().filter(|track| track["own"] == true).count();
    assert!(own <= 8, "{own} tracks of one participant");
    tally.sent += 12;
    tally.answered += mallory.events("error").len() as u64;
    tally
}
