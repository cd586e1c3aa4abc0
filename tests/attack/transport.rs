//! Participants whose transport fails or does not match their signaling.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, Kind, run_until};
use crate::media::{flows, pair, turns};
use crate::{Tally, Target};

/// Tolerance for datagrams in flight and for delays on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// After the last connectivity check: how long the server keeps sending (RFC 7675 section 5.1), and the time limit for it
/// to remove the peer.
const CONSENT: Duration = Duration::from_secs(15);
const GONE: Duration = Duration::from_secs(30);

/// Number of participants whose sockets are closed.
const GONE_SOCKETS: usize = 4;

/// D3: an answer with a fingerprint that does not match the certificate of the handshake.
pub fn wrong_fingerprint(target: &Target) -> Tally {
    let room = "fingerprint";
    let mut trent = Client::join_on_loopback(target.process, &format!("Trent&room={room}"));
    run_until(&mut [&mut trent], "media", |clients| clients[0].connected);
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        let mut mallory = Client::join_on_loopback(target.process, &format!("Mallory&room={room}"));
        mallory.amend = forged;
        run_until(&mut [&mut mallory, &mut trent], "the end", |clients| clients[0].closed.is_some());
        assert_eq!(mallory.closed, Some((1008, "dtls-failed".to_owned())));
        tally.sent += 1;
        let end = Instant::now() + Duration::from_millis(100);
        while Instant::now() < end {
            // The attacker may consider itself connected and send.
            turns(&mut mallory, &mut trent);
        }
        let media = mallory.datagrams.iter().filter(|(_, bytes)| bytes[0] >> 6 == 2).count();
        assert_eq!(media, 0, "media was sent to a participant with a wrong fingerprint");
        let got = [Kind::Audio, Kind::Video].map(|kind| trent.received(kind).len());
        assert_eq!(got, [0, 0], "media was forwarded from a participant with a wrong fingerprint");
    }
    assert_eq!(trent.closed, None);
    tally
}

/// Changes the fingerprint in an answer.
fn forged(answer: String) -> String {
    let other = |line: &str| match line.strip_prefix("a=fingerprint:sha-256 ") {
        Some(digits) => {
            let first = if digits.starts_with("00") { "01" } else { "00" };
            format!("a=fingerprint:sha-256 {first}{}\r\n", &digits[2..])
        }
        None => format!("{line}\r\n"),
    };
    let forged: String = answer.lines().map(other).collect();
    assert_ne!(forged, answer, "there is a fingerprint");
    forged
}

/// I4: connectivity checks and all other datagrams stop.
pub fn lost_consent(target: &Target) {
    let (mut mallory, mut trent) = pair(target, "consent");
    mallory.is_silent = true;
    let begin = Instant::now();
    // If figures are not checked, do not wait longer than the other attacks of `patience` take.
    let patience = if target.is_strict { GONE } else { CONSENT + 3 * SLACK };
    while mallory.closed.is_none() && begin.elapsed() < patience {
        turns(&mut mallory, &mut trent);
    }
    let (last, _) = mallory.datagrams.last().expect("media flowed");
    let sent_for = last.duration_since(begin);
    // The last check was some seconds before `begin`.
    assert!(sent_for > CONSENT / 2, "the server stopped sending after {sent_for:?}");
    assert!(sent_for < CONSENT + SLACK, "the server kept sending for {sent_for:?}");
    if target.is_strict {
        assert_eq!(mallory.closed, Some((1008, "media-timeout".to_owned())), "after {:?}", begin.elapsed());
    } else {
        mallory.send_json(&json!({"event": "leave"}));
    }
    run_until(&mut [&mut trent], "a goodbye", |clients| clients[0].events("left").len() == 1);
    assert_eq!(trent.closed, None);
    // Otherwise the server would keep it for half a minute.
    trent.send_json(&json!({"event": "leave"}));
    turns(&mut mallory, &mut trent);
}

/// R2: sockets are closed while media is sent to them, so that the system refuses each datagram.
pub fn gone_sockets(target: &Target) -> Tally {
    let room = "gone";
    let (mut mallory, mut trent) = pair(target, room);
    let join = |number| Client::join_on_loopback(target.process, &format!("Gone{number}&room={room}"));
    let mut gone: Vec<Client> = (0..GONE_SOCKETS).map(join).collect();
    gone.iter_mut().for_each(|client| client.sends = false);
    let mut all: Vec<&mut Client> = gone.iter_mut().chain([&mut trent, &mut mallory]).collect();
    let hears = |client: &&mut Client| client.received(Kind::Video).len() > 10;
    run_until(&mut all, "media", |clients| clients[..GONE_SOCKETS].iter().all(hears));
    let before = refused();
    for client in &mut gone {
        client.udp = UdpSocket::bind((IpAddr::from([127, 0, 0, 1]), 0)).expect("a socket");
    }
    let begin = Instant::now();
    while begin.elapsed() < target.time {
        turns(&mut mallory, &mut trent);
    }
    let tally = Tally { sent: GONE_SOCKETS as u64, answered: refused() - before };
    assert!(tally.answered > 10 * tally.sent, "only {} datagrams were refused", tally.answered);
    flows(&mut mallory, &mut trent);
    tally
}

/// Number of datagrams that this machine refused because no socket was bound to the port.
fn refused() -> u64 {
    let table = fs::read_to_string("/proc/net/snmp").expect("Linux");
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "NoPorts");
    found.and_then(|(_, value)| value.parse().ok()).expect("a number")
}
