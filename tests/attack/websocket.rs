//! WebSocket protocol errors and floods.

use std::time::Instant;

use crate::guest::Guest;
use crate::{Tally, Target};

/// A frame with a mask of zeroes and a stated length.
fn frame(first: u8, claimed: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match claimed {
        0..=125 => bytes.push(0x80 | claimed as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((claimed as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(claimed.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Sends each case on its own connection, and checks that the server closes with one of the expected codes.
fn closed(target: &Target, table: &[(&str, &[u16], Vec<u8>)]) -> Tally {
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        for (what, expected, bytes) in table {
            let mut guest = Guest::join(target.process, "frames");
            guest.send(bytes);
            let at = Instant::now();
            let end = guest.end();
            assert!(at.elapsed() < target.reply(), "{what}: {:?}", at.elapsed());
            assert!(expected.contains(&end.code), "{what}: {end:?}");
            tally.sent += 1;
            tally.answered += 1;
        }
    }
    tally
}

/// W1
pub fn breaches(target: &Target) -> Tally {
    closed(
        target,
        &[
            ("unmasked", &[1002], vec![0x81, 1, b'a']),
            ("compressed", &[1002], frame(0xc1, 1, b"a")),
            ("opcode 3", &[1002], frame(0x83, 0, b"")),
            ("continuation of nothing", &[1002], frame(0x80, 1, b"a")),
            ("fragmented ping", &[1002], frame(0x09, 0, b"")),
            ("binary", &[1003], frame(0x82, 1, b"a")),
            ("bad UTF-8", &[1007], frame(0x81, 2, &[0xc3, 0x28])),
        ],
    )
}

/// W2
pub fn huge_messages(target: &Target) -> Tally {
    let fragments: Vec<u8> = (0..2_000).flat_map(|index| frame(u8::from(index == 0), 1, b"a")).collect();
    let half = frame(0x01, 60_000, &[b'a'; 60_000]);
    closed(
        target,
        &[
            ("16 MiB", &[1009], frame(0x81, 16 << 20, b"")),
            ("2^32", &[1009], frame(0x81, 1 << 32, b"")),
            ("2^63", &[1009], frame(0x81, 1 << 63, b"")),
            ("2^64", &[1009], frame(0x81, u64::MAX, b"")),
            ("two halves", &[1009], [half, frame(0x80, 60_000, &[b'a'; 60_000])].concat()),
            // Either the number or the rate of fragments ends the connection.
            ("endless fragments", &[1008, 1009], fragments),
        ],
    )
}

/// W3
pub fn ping_flood(target: &Target) -> Tally {
    let pings = frame(0x89, 125, &[7; 125]).repeat(2_000);
    closed(target, &[("pings that nobody reads the answers of", &[1008], pings)])
}

/// W5
pub fn cross_site(target: &Target) -> Tally {
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1", "file://"]
        {
            let head = Guest::ask(target.process, "frames", &format!("Origin: {origin}\r\n"));
            assert!(head.starts_with("HTTP/1.1 403"), "{origin}: {head}");
            tally.sent += 1;
            tally.answered += 1;
        }
    }
    tally
}

/// W6
pub fn compression(target: &Target) -> Tally {
    let field = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let head = Guest::ask(target.process, "frames", field);
    assert!(head.starts_with("HTTP/1.1 101") && !head.to_lowercase().contains("extensions"), "{head}");
    Tally { sent: 1, answered: 1 }
}
