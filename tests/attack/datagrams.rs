//! Floods of STUN and DTLS datagrams, from strangers and from participants without media.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use str0m::ice::{StunMessage, TransId};

use crate::client::{Client, run_until};
use crate::guest::Guest;
use crate::process::DEADLINE;
use crate::signaling::{answer, description};
use crate::{Tally, Target};

/// Number of source sockets of a stranger.
const SOURCES: usize = 64;

/// Time limit for a participant that joins during a flood to connect; not checked on slow machines.
const CONNECTED: Duration = Duration::from_secs(3);

/// Sockets on different loopback addresses.
fn sources(count: usize) -> Vec<UdpSocket> {
    let bind = |index: usize| {
        let ip = Ipv4Addr::new(127, 2, (index / 250) as u8, (index % 250) as u8 + 1);
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        socket
    };
    (0..count).map(bind).collect()
}

/// Sends at the target's rate, from the sources in turn, and counts the responses.
fn flood(target: &Target, sources: &[UdpSocket], mut datagram: impl FnMut(u64) -> Vec<u8>) -> Tally {
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        let due = (begin.elapsed().as_secs_f64() * f64::from(target.rate)) as u64;
        while tally.sent < due {
            let source = &sources[tally.sent as usize % sources.len()];
            let _ = source.send_to(&datagram(tally.sent), target.process.addr());
            tally.sent += 1;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    std::thread::sleep(Duration::from_millis(50));
    let mut buffer = [0; 2_000];
    for source in sources {
        while source.recv(&mut buffer).is_ok() {
            tally.answered += 1;
        }
    }
    tally
}

/// A binding request (RFC 8445 section 7.1.1).
fn check(ufrag: &str, own: &str, password: &str) -> Vec<u8> {
    let username = format!("{ufrag}:{own}");
    let message = StunMessage::binding_request(&username, TransId::new(), true, 1, 1, true);
    let mut bytes = vec![0; 500];
    let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, |key, parts| {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().try_into().expect("20 bytes")
    });
    bytes.truncate(length.expect("it fits"));
    bytes
}

/// A fragment of a ClientHello of 16 MiB, which is never completed (RFC 6347 section 4.2.2).
fn hello_piece(number: u64) -> Vec<u8> {
    let mut bytes = vec![22, 0xfe, 0xfd, 0, 0];
    bytes.extend(&number.to_be_bytes()[2..]);
    bytes.extend([0x04, 0x0c, 1, 0xff, 0xff, 0xff, 0, 0]);
    bytes.extend(&((number * 1_024) as u32).to_be_bytes()[1..]);
    bytes.extend([0, 0x04, 0]);
    bytes.resize(bytes.len() + 1_024, 7);
    bytes
}

fn attribute(offer: &str, name: &str) -> String {
    let line = offer.lines().find_map(|line| line.strip_prefix(&format!("a={name}:")));
    line.unwrap_or_else(|| panic!("no {name} in an offer")).to_owned()
}

/// A participant without media, and a connectivity check that the server accepts from it.
fn member(target: &Target) -> (Guest, Vec<u8>) {
    let mut guest = Guest::join(target.process, "datagrams");
    let offer = guest.offer();
    // The answer repeats the server's own ufrag, which is valid.
    guest.say_data("answer", &description("answer", &answer(&offer)));
    guest.say("{}");
    assert_eq!(guest.wait_for("error")["code"], "bad-message", "the answer was handled before");
    let ufrag = attribute(&offer, "ice-ufrag");
    let check = check(&ufrag, &ufrag, &attribute(&offer, "ice-pwd"));
    (guest, check)
}

/// I1: an unknown ufrag.
pub fn unknown_ufrag(target: &Target) -> Tally {
    let bytes = check("nobody", "mine", "a password of nobody");
    unanswered(flood(target, &sources(SOURCES), |_| bytes.clone()))
}

/// I1, I2: a known ufrag with a wrong password.
pub fn wrong_password(target: &Target) -> Tally {
    let mut guest = Guest::join(target.process, "datagrams");
    let bytes = check(&attribute(&guest.offer(), "ice-ufrag"), "mine", "a password of nobody");
    unanswered(flood(target, &sources(SOURCES), |_| bytes.clone()))
}

/// I1, M1: random bytes, some with the first byte of STUN, DTLS, RTP or RTCP.
pub fn random_bytes(target: &Target) -> Tally {
    let mut random = fastrand::Rng::with_seed(7);
    let tally = flood(target, &sources(SOURCES), |number| {
        let length = random.usize(0..1_200);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        if let Some(first) = bytes.first_mut() {
            *first = [*first, 0, 1, 22, 0x80, 0x81][number as usize % 6];
        }
        bytes
    });
    unanswered(tally)
}

fn unanswered(tally: Tally) -> Tally {
    assert_eq!(tally.answered, 0, "responses to {} datagrams", tally.sent);
    tally
}

/// I2, I3: a participant's own connectivity checks, from a thousand addresses.
pub fn endless_addresses(target: &Target) -> Tally {
    let (_guest, bytes) = member(target);
    let tally = flood(target, &sources(1_000), |_| bytes.clone());
    // The server answers a burst of 100, and 50 per second.
    let most = 100.0 + 50.0 * (target.time.as_secs_f64() + 1.0);
    assert!(tally.answered > 0 && (tally.answered as f64) < most, "{} answers", tally.answered);
    tally
}

/// D1: ClientHello fragments from strangers, while a participant joins.
pub fn hello_flood(target: &Target) -> Tally {
    let mut ann = Client::join_on_loopback(target.process, "Ann&room=hello");
    let sources = sources(SOURCES);
    std::thread::scope(|scope| {
        let joined = scope.spawn(|| {
            let begin = Instant::now();
            run_until(&mut [&mut ann], "media", |clients| clients[0].connected);
            begin.elapsed()
        });
        let tally = unanswered(flood(target, &sources, hello_piece));
        let joined = joined.join().expect("Ann connects");
        assert!(joined < CONNECTED || !target.is_strict, "Ann had media after {joined:?}");
        tally
    })
}

/// D2: fragments of a ClientHello from a validated address.
pub fn endless_hello(target: &Target) -> Tally {
    let (_guest, bytes) = member(target);
    let source = UdpSocket::bind((IpAddr::from([127, 0, 0, 1]), 0)).expect("a socket");
    source.set_read_timeout(Some(DEADLINE)).expect("above zero");
    let server: SocketAddr = target.process.addr();
    source.send_to(&bytes, server).expect("a way to the server");
    assert!(source.recv(&mut [0; 500]).is_ok(), "the address is validated");
    source.set_nonblocking(true).expect("a socket");
    let mut tally = flood(target, &[source], hello_piece);
    tally.answered = 0;
    tally
}
