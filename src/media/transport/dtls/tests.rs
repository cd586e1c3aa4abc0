//! Tests of the DTLS endpoints: forged datagrams, fragments in any order, and unusable certificates.

use str0m::RtcError;
use str0m::crypto::dtls::SrtpProfile;

use super::fragments::{ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE, MESSAGE_HEADER, RECORD_HEADER};
use super::*;
use crate::media::fault::{PeerError, Site, guarded};

fn endpoint(is_client: bool, now: Instant) -> Box<dyn DtlsInstance> {
    let certificate = SHARED.generate_certificate().expect("the crypto library makes P-256 keys");
    let mut endpoint = SHARED.new_dtls(&certificate, now, DtlsVersion::Dtls12, Some(1_150)).expect("an endpoint");
    endpoint.set_active(is_client);
    endpoint.handle_timeout(now).expect("nothing is late");
    endpoint
}

/// Polls an endpoint until it has no more output. Returns its datagrams and the keying material it exported.
fn drain(endpoint: &mut dyn DtlsInstance) -> (Vec<Vec<u8>>, Option<Exported>) {
    let (mut datagrams, mut buf) = (Vec::new(), [0; 2000]);
    loop {
        match endpoint.poll_output(&mut buf) {
            DtlsOutput::Packet(packet) => datagrams.push(packet.to_vec()),
            DtlsOutput::Timeout(_) => return (datagrams, take_exported()),
            _ => {}
        }
    }
}

/// The server requests RSA certificates too, and its first flight fits one datagram.
#[test]
fn our_client_and_our_server_agree_on_keys() {
    let now = Instant::now();
    let (mut client, mut server) = (endpoint(true, now), endpoint(false, now));
    client.handle_packet(&[]).expect("the handshake starts");
    let mut exported = (None, None);
    for round in 0..3 {
        let (datagrams, keys) = drain(&mut *client);
        exported.0 = exported.0.or(keys);
        for datagram in datagrams {
            server.handle_packet(&datagram).expect("the server accepts the datagram");
        }
        let (datagrams, keys) = drain(&mut *server);
        exported.1 = exported.1.or(keys);
        if round == 0 {
            assert_eq!(datagrams.len(), 1);
            let asks_for_two = datagrams[0].windows(3).any(|bytes| bytes == [2, 64, 1]);
            assert!(datagrams[0].len() < 800 && asks_for_two, "{:02x?}", datagrams[0]);
        }
        for datagram in datagrams {
            client.handle_packet(&datagram).expect("the client accepts the datagram");
        }
    }
    let (client, server) = (exported.0.expect("the client has keys"), exported.1.expect("the server has keys"));
    assert_eq!((client.is_client, server.is_client), (true, false));
    assert_eq!(client.material, server.material);
}

fn record(kind: u8, epoch: u8, fragment: &[u8]) -> Vec<u8> {
    [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 99, 0, fragment.len() as u8], fragment].concat()
}

/// The first fragment of a Certificate message with a certificate of 2,001 bytes.
fn long_certificate() -> Vec<u8> {
    record(HANDSHAKE, 0, &[11, 0, 7, 215, 0, 1, 0, 0, 0, 0, 0, 6, 0, 7, 212, 0, 7, 209])
}

/// A Certificate message without a certificate.
fn no_certificate() -> Vec<u8> {
    record(HANDSHAKE, 0, &[11, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0])
}

fn alert() -> Vec<u8> {
    record(ALERT, 0, &[2, HANDSHAKE_FAILURE])
}

/// Fragment size of the peer's messages in bytes.
const PART: u8 = 40;

/// A fragment of one byte of a message of 300 bytes.
fn part(kind: u8, number: u8, offset: u8) -> Vec<u8> {
    record(HANDSHAKE, 0, &[kind, 0, 1, 44, 0, number, 0, 0, offset, 0, 0, 1, 7])
}

/// A ClientHello, modified by `change`.
fn hello(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut client = endpoint(true, Instant::now());
    client.handle_packet(&[]).expect("the handshake starts");
    let (mut datagrams, _) = drain(&mut *client);
    change(&mut datagrams[0][RECORD_HEADER + MESSAGE_HEADER..]);
    datagrams.remove(0)
}

/// Offset of an extension in a ClientHello.
fn position(hello: &[u8], extension: [u8; 3]) -> usize {
    hello.windows(3).rposition(|bytes| bytes == extension).expect("the extension exists")
}

/// Copies of a datagram with different sequence numbers in its first record.
fn numbered(datagram: &[u8]) -> Vec<Vec<u8>> {
    let number = |number| [&datagram[..10], &[number], &datagram[11..]].concat();
    (0..40).map(number).collect()
}

/// Datagrams that an attacker without keys can send, by case.
fn forged() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let change = |body: &[u8]| record(CHANGE_CIPHER_SPEC, 0, body);
    let parts = (1..100).filter(|offset| offset % PART != 0).map(|offset| part(11, 1, offset)).collect();
    let many = vec![
        ("parts of a message", parts),
        ("many changes of ciphers", numbered(&change(&[1]))),
        ("changes of ciphers and more", numbered(&[change(&[1]), record(HANDSHAKE, 1, &[9; 60])].concat())),
        ("changes of nothing", numbered(&change(&[2]))),
        ("changes of too much", numbered(&change(&[1, 1]))),
    ];
    single().into_iter().map(|(case, forged)| (case, vec![forged])).chain(many).collect()
}

fn single() -> Vec<(&'static str, Vec<u8>)> {
    let message = |kind, number| record(HANDSHAKE, 0, &[kind, 0, 0, 1, 0, number, 0, 0, 0, 0, 0, 1, 7]);
    let empty_part = record(HANDSHAKE, 0, &[11, 0, 1, 44, 0, 1, 0, 0, 0, 0, 0, 0]);
    vec![
        ("a hello without extended master secret", hello(|hello| hello[position(hello, [0, 23, 0])] = 77)),
        (
            "a hello of no group",
            hello(|hello| {
                let at = position(hello, [0, 10, 0]);
                let end = at + 4 + usize::from(hello[at + 3]);
                hello[at + 6..end].fill(77);
            }),
        ),
        ("a hello of another version", hello(|hello| hello[1] = 0xff)),
        // Version, random, session ID and cookie are followed by the cipher suites and their length.
        (
            "a hello of no cipher",
            hello(|hello| {
                let end = 38 + usize::from(hello[37]);
                hello[38..end].fill(0);
            }),
        ),
        ("a part of a certificate", part(11, 1, 5)),
        ("a part of a key", part(16, 2, 5)),
        ("a part of a signature", part(15, 3, 5)),
        ("an empty part", empty_part),
        ("a fatal alert", alert()),
        ("a warning", record(ALERT, 0, &[1, 0])),
        ("a long certificate", long_certificate()),
        ("no certificate", no_certificate()),
        ("application data", record(23, 0, &[7; 20])),
        ("a message of another number", message(11, 77)),
        ("a message of another kind", message(20, 1)),
        ("a broken message", message(16, 2)),
        ("no message", record(HANDSHAKE, 0, &[])),
        ("part of a header", record(HANDSHAKE, 0, &[11, 0, 0])),
        ("beyond the message", record(HANDSHAKE, 0, &[11, 0, 0, 1, 0, 1, 0, 0, 9, 0, 0, 1, 7])),
        ("a change of ciphers", record(CHANGE_CIPHER_SPEC, 0, &[1])),
        ("sealed", record(HANDSHAKE, 1, &[9; 60])),
        ("sealed and short", record(HANDSHAKE, 1, &[9; 3])),
        ("sealed data", record(23, 1, &[9; 60])),
        ("a sealed alert", record(ALERT, 1, &[9; 26])),
        ("of no epoch", record(HANDSHAKE, 9, &[9; 60])),
        ("of no kind", record(77, 0, &[9; 60])),
        ("cut", vec![22, 0xfe, 0xfd]),
    ]
}

/// Runs a handshake in which `forged` datagrams arrive before datagram number `before` to the server. Returns whether
/// both sides are connected, and the number of datagrams that the client sent to the server.
fn shake_hands(forged: &[Vec<u8>], before: usize, cut: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> (bool, usize) {
    let now = Instant::now();
    let (mut client, mut server) = (endpoint(true, now), endpoint(false, now));
    client.handle_packet(&[]).expect("the handshake starts");
    let (mut exported, mut passed) = ((None, None), 0);
    for _ in 0..3 {
        let (datagrams, keys) = drain(&mut *client);
        exported.0 = exported.0.or(keys);
        let mut replies = Vec::new();
        let mut give = |datagram: &[u8]| {
            server.handle_packet(datagram).expect("a datagram that may be forged is no error");
            let (datagrams, keys) = drain(&mut *server);
            exported.1 = exported.1.take().or(keys);
            replies.extend(datagrams);
            server.handle_timeout(now).expect("nothing is late");
        };
        for datagram in datagrams.iter().flat_map(|datagram| records(datagram)).flat_map(&cut) {
            if passed == before {
                forged.iter().for_each(|forged| give(forged));
            }
            passed += 1;
            give(&datagram);
        }
        for datagram in replies {
            client.handle_packet(&datagram).expect("the client accepts the datagram");
        }
    }
    for _ in 0..100 {
        for forged in forged {
            server.handle_packet(forged).expect("a datagram that may be forged is no error");
        }
    }
    let late = server.handle_timeout(now + 2 * GRACE);
    (late.is_ok() && exported.0.is_some() && exported.1.is_some(), passed)
}

/// Splits a datagram into its records.
fn records(mut datagram: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while !datagram.is_empty() {
        let length = RECORD_HEADER + usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
        records.push(&datagram[..length]);
        datagram = &datagram[length..];
    }
    records
}

/// Splits the message of a record into fragments of `size` bytes, each in a record of its own.
fn parts(record: &[u8], size: usize) -> Vec<Vec<u8>> {
    if record[0] != HANDSHAKE || record[3..5] != [0, 0] {
        return vec![record.to_vec()];
    }
    let (header, message) = record.split_at(RECORD_HEADER);
    let (message, body) = message.split_at(MESSAGE_HEADER);
    let part = |(index, part): (usize, &[u8])| {
        let [offset, part_length] = [index * size, part.len()].map(|of| (of as u32).to_be_bytes());
        let length = ((MESSAGE_HEADER + part.len()) as u16).to_be_bytes();
        [&header[..11], &length, &message[..6], &offset[1..], &part_length[1..], part].concat()
    };
    body.chunks(size).enumerate().map(part).collect()
}

#[test]
fn a_forged_datagram_ends_no_handshake_wherever_it_arrives() {
    for size in [usize::MAX, PART.into()] {
        let cut = |record: &[u8]| parts(record, size);
        let (is_connected, most) = shake_hands(&[], 0, cut);
        assert!(is_connected && most >= 5, "{most}");
        for (case, forged) in forged() {
            for before in 0..most {
                assert!(
                    shake_hands(&forged, before, cut).0,
                    "{case} before datagram {before}, in fragments of {size} bytes"
                );
            }
        }
    }
}

/// Fragments that arrive out of order are dropped and retransmitted.
#[test]
fn fragments_may_arrive_in_any_order_and_repeatedly() {
    let cut = |record: &[u8]| {
        let parts = parts(record, 100);
        parts.iter().rev().chain(&parts).chain(&parts[..1]).chain(&parts).cloned().collect()
    };
    let (is_connected, most) = shake_hands(&[], 0, cut);
    assert!(is_connected && most > 20, "{most}");
}

/// The cases: a certificate that is too long, no certificate, and a server whose key fits no ECDSA cipher suite.
#[test]
fn an_unusable_certificate_is_an_error_if_the_handshake_does_not_finish() {
    let now = Instant::now();
    for (is_client, datagram) in [(false, long_certificate()), (false, no_certificate()), (true, alert())] {
        let mut endpoint = endpoint(is_client, now);
        endpoint.handle_packet(&datagram).expect("a datagram that may be forged is no error");
        drain(&mut *endpoint);
        endpoint.handle_timeout(now).expect("a datagram that may be forged is no error yet");
        let DtlsOutput::Timeout(at) = endpoint.poll_output(&mut [0; 2_000]) else { panic!("no more output") };
        assert!(at <= now + GRACE);
        let error = endpoint.handle_timeout(now + GRACE).expect_err("the certificate is unusable");
        let error = PeerError::of_engine(RtcError::Dtls(CryptoError::Other(error.to_string()).into()));
        assert_eq!(error.code(), "unsupported-certificate");
    }
}

#[test]
fn keys_of_a_peer_that_ends_do_not_reach_the_next_peer() {
    let export = || {
        let exported = Exported { profile: SrtpProfile::AEAD_AES_128_GCM, material: vec![1; 56], is_client: false };
        EXPORTED.set(Some(exported));
    };
    for site in [Site::Datagram, Site::Timeout, Site::Drain] {
        let ended = guarded(site, || {
            export();
            Err::<(), _>(PeerError::Closed)
        });
        assert!(ended.is_err() && take_exported().is_none(), "{site:?}");
    }
    let continuing = guarded(Site::Drain, || {
        export();
        Ok(())
    });
    assert!(continuing.is_ok() && take_exported().is_some());
}
