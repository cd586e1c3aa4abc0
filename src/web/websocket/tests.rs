//! Messages, limits and the ends of a WebSocket.

use super::client::*;
use super::*;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn messages(socket: &mut WebSocket) -> Vec<String> {
    let texts = std::iter::from_fn(|| socket.poll_message()).map(|message| match message {
        Message::Text(text) => text,
        Message::Binary(bytes) => panic!("{bytes:?}"),
    });
    texts.collect()
}

fn sent(socket: &mut WebSocket) -> Vec<(u8, Vec<u8>)> {
    parse(&socket.poll_transmit().unwrap_or_default())
}

/// The code of the close frame, if one was sent. Asserts that there is at most one.
fn close_code(socket: &mut WebSocket) -> Option<u16> {
    let frames = sent(socket);
    let codes: Vec<u16> = frames
        .iter()
        .filter(|(opcode, _)| *opcode == CLOSE)
        .map(|(_, payload)| u16::from_be_bytes([payload[0], payload[1]]))
        .collect();
    assert!(codes.len() <= 1, "{frames:?}");
    codes.first().copied()
}

#[test]
fn texts_are_assembled_from_pieces_of_any_size() {
    let long = "é".repeat(20_000);
    let stream = [
        frame(FIN | TEXT, b"one"),
        frame(TEXT, b"t"),
        frame(FIN | PING, b"between fragments"),
        // Fragments that split a character.
        frame(CONTINUATION, &[0xc3]),
        frame(CONTINUATION, &[]),
        frame(FIN | CONTINUATION, &[0xb6]),
        frame(FIN | TEXT, b""),
        frame(FIN | PONG, b"unasked"),
        frame(FIN | TEXT, long.as_bytes()),
        frame(FIN | TEXT, b"last"),
    ]
    .concat();
    for cut in [1, 2, 3, 5, 7, 127, 4096, 65_536] {
        let now = Instant::now();
        let mut socket = WebSocket::new(now, Limits::default());
        for piece in stream.chunks(cut) {
            socket.handle_data(now, piece);
        }
        assert_eq!(messages(&mut socket), ["one", "tö", "", long.as_str(), "last"], "pieces of {cut}");
        assert_eq!(sent(&mut socket), [(PONG, b"between fragments".to_vec())]);
        assert!(socket.is_open());
    }
}

#[test]
fn binary_messages_are_not_texts() {
    let now = Instant::now();
    let mut socket = WebSocket::new(now, Limits::default());
    socket.handle_data(now, &[frame(BINARY, &[0xff]), frame(FIN | CONTINUATION, &[0])].concat());
    assert_eq!(socket.poll_message(), Some(Message::Binary(vec![0xff, 0])));
}

#[test]
fn protocol_errors_close_with_their_code() {
    let unmasked = [0x81, 1, b'a'].to_vec();
    let table: Vec<(u16, &str, Vec<u8>)> = vec![
        (1002, "unmasked", unmasked),
        (1002, "reserved bit 1: compressed", frame(FIN | 0x40 | TEXT, b"a")),
        (1002, "reserved bit 3", frame(FIN | 0x10 | TEXT, b"a")),
        (1002, "opcode 3", frame(FIN | 3, b"")),
        (1002, "opcode 11", frame(FIN | 11, b"")),
        (1002, "fragmented ping", frame(PING, b"")),
        (1002, "ping of 126 bytes", frame(FIN | PING, &[0; 126])),
        (1002, "continuation of nothing", frame(FIN | CONTINUATION, b"a")),
        (1002, "text within a message", [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat()),
        (1002, "close of one byte", frame(FIN | CLOSE, &[3])),
        (1002, "close with a code that must not be sent", frame(FIN | CLOSE, &1005u16.to_be_bytes())),
        (1007, "bad UTF-8", frame(FIN | TEXT, &[0xc3, 0x28])),
        (1007, "surrogate", frame(FIN | TEXT, &[0xed, 0xa0, 0x80])),
        (1007, "cut character", frame(FIN | TEXT, &[0xe2, 0x82])),
        (1007, "bad UTF-8 in a fragment", frame(TEXT, &[0xff])),
        (1007, "cut character at the last fragment", [frame(TEXT, &[0xe2]), frame(FIN | CONTINUATION, &[])].concat()),
        (1007, "bad UTF-8 in a close reason", frame(FIN | CLOSE, &[3, 0xe8, 0xff])),
    ];
    for (code, name, bytes) in table {
        for cut in [1, bytes.len()] {
            let now = Instant::now();
            let mut socket = WebSocket::new(now, Limits::default());
            for piece in bytes.chunks(cut) {
                socket.handle_data(now, piece);
            }
            assert_eq!(close_code(&mut socket), Some(code), "{name}, pieces of {cut}");
            assert!(!socket.is_open(), "{name}");
            // Nothing that follows is interpreted or answered.
            socket.handle_data(now, &frame(FIN | TEXT, b"late"));
            socket.handle_data(now, &frame(FIN | PING, b"late"));
            assert_eq!((messages(&mut socket), sent(&mut socket)), (vec![], vec![]), "{name}");
            socket.handle_timeout(now + CLOSE_TIMEOUT);
            assert!(socket.ended().is_some(), "{name}");
        }
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_at_its_header() {
    let now = Instant::now();
    let limit = 100_000;
    let limits = Limits { message_bytes: limit as usize, ..Limits::default() };
    for claimed in [limit + 1, 16 << 20, 1 << 32, 1 << 63, u64::MAX] {
        let mut socket = WebSocket::new(now, limits);
        socket.handle_data(now, &head(FIN | TEXT, claimed));
        assert_eq!(close_code(&mut socket), None, "the mask has not arrived");
        socket.handle_data(now, &[1, 2, 3, 4]);
        assert_eq!(close_code(&mut socket), Some(1009), "{claimed} bytes");
    }
    let mut socket = WebSocket::new(now, limits);
    socket.handle_data(now, &frame(TEXT, &vec![b'a'; limit as usize]));
    assert!(socket.is_open());
    socket.handle_data(now, &frame(CONTINUATION, b"a"));
    assert_eq!(close_code(&mut socket), Some(1009), "the total of the fragments");
}

#[test]
fn the_message_limit_can_be_changed() {
    let now = Instant::now();
    let mut socket = WebSocket::new(now, Limits::default());
    let message = vec![b'a'; Limits::default().message_bytes + 1];
    socket.set_message_limit(message.len());
    // Twice: the new limit survives the freeing of the large buffer.
    for _ in 0..2 {
        socket.handle_data(now, &frame(FIN | TEXT, &message));
        assert_eq!(messages(&mut socket).len(), 1);
    }
    let longer = [&message[..], b"a"].concat();
    socket.handle_data(now, &frame(FIN | TEXT, &longer));
    assert_eq!(close_code(&mut socket), Some(1009));
}

#[test]
fn the_number_of_fragments_is_limited() {
    let mut now = Instant::now();
    let mut socket = WebSocket::new(now, Limits::default());
    socket.handle_data(now, &frame(TEXT, b"a"));
    for _ in 1..Limits::default().fragments {
        now += Limits::default().frame_interval;
        socket.handle_data(now, &frame(CONTINUATION, b""));
    }
    assert!(socket.is_open());
    socket.handle_data(now, &frame(CONTINUATION, b""));
    assert_eq!(close_code(&mut socket), Some(1009));
}

#[test]
fn the_frame_rate_is_limited() {
    for opcode in [FIN | PING, FIN | PONG, FIN | TEXT] {
        let start = Instant::now();
        let mut socket = WebSocket::new(start, Limits::default());
        for _ in 0..100 {
            socket.handle_data(start, &frame(opcode, b""));
        }
        assert!(socket.is_open(), "a burst of 100");
        // More single-frame messages than a message may have fragments: the count starts again with each message.
        for tick in 1..=2000 {
            socket.handle_data(start + Limits::default().frame_interval * tick, &frame(opcode, b""));
        }
        assert!(socket.is_open(), "50 a second");
        socket.handle_data(start + Limits::default().frame_interval * 2000, &frame(opcode, b""));
        assert_eq!(close_code(&mut socket), Some(1008));
    }
}

#[test]
fn every_ping_is_answered() {
    let now = Instant::now();
    let mut socket = WebSocket::new(now, Limits::default());
    let pings: Vec<u8> = (0..10).flat_map(|i| frame(FIN | PING, &[i])).collect();
    socket.handle_data(now, &pings);
    let expected: Vec<_> = (0..10).map(|i| (PONG, vec![i])).collect();
    assert_eq!(sent(&mut socket), expected);
}

#[test]
fn a_silent_client_is_gone_within_30_s() {
    let start = Instant::now();
    let mut socket = WebSocket::new(start, Limits::default());
    let (mut now, mut pings) = (start, 0);
    while socket.ended().is_none() {
        now = socket.next_timeout().unwrap();
        socket.handle_timeout(now);
        pings += sent(&mut socket).len();
    }
    assert_eq!((pings, now - start, socket.ended()), (2, secs(30), Some("client gone")));
    assert_eq!(socket.next_timeout(), None);

    let mut socket = WebSocket::new(start, Limits::default());
    for tick in 1..=100 {
        let now = start + PING_INTERVAL * tick;
        socket.handle_timeout(now);
        assert_eq!(sent(&mut socket), [(PING, vec![])]);
        socket.handle_data(now, &frame(FIN | PONG, b""));
    }
    assert!(socket.is_open());
}

#[test]
fn the_client_closes() {
    let now = Instant::now();
    for (payload, reply) in [(&[3, 0xe9, b'x'][..], &[3, 0xe9, b'x'][..]), (&[], &[])] {
        let mut socket = WebSocket::new(now, Limits::default());
        let bytes = [frame(FIN | TEXT, b"bye"), frame(FIN | CLOSE, payload), frame(FIN | TEXT, b"late")].concat();
        socket.handle_data(now, &bytes);
        assert_eq!(messages(&mut socket), ["bye"]);
        assert_eq!(sent(&mut socket), [(CLOSE, reply.to_vec())]);
        assert_eq!(socket.ended(), Some("closed by client"));
    }
}

#[test]
fn the_server_closes() {
    let now = Instant::now();
    let reason = "ü".repeat(100);
    let mut socket = WebSocket::new(now, Limits::default());
    socket.close(now, 1008, &reason);
    socket.close(now, 1000, "again");
    let expected = [&1008u16.to_be_bytes()[..], "ü".repeat(61).as_bytes()].concat();
    assert_eq!(sent(&mut socket), [(CLOSE, expected)]);
    assert_eq!(socket.ended(), None);
    let mut answered = socket;
    // Messages in flight are ignored.
    answered.handle_data(now, &frame(FIN | TEXT, b"late"));
    assert_eq!((messages(&mut answered), answered.ended()), (vec![], None));
    for byte in frame(FIN | CLOSE, &1008u16.to_be_bytes()) {
        assert_eq!(answered.ended(), None);
        answered.handle_data(now, &[byte]);
    }
    assert_eq!(answered.ended(), Some("closed by server"));
    assert_eq!(sent(&mut answered), []);

    let mut ignored = WebSocket::new(now, Limits::default());
    ignored.close(now, 1001, "");
    assert_eq!(ignored.next_timeout(), Some(now + secs(2)));
    ignored.handle_timeout(now + Duration::from_millis(1999));
    assert_eq!(ignored.ended(), None);
    ignored.handle_timeout(now + secs(2));
    assert_eq!(ignored.ended(), Some("closed by server"));
}

#[test]
fn encoded_frames_parse() {
    for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let text = "x".repeat(length);
        assert_eq!(parse(&encode_binary(text.as_bytes())), [(BINARY, text.clone().into_bytes())]);
        assert_eq!(parse(&encode_text(&text)), [(TEXT, text.into_bytes())]);
    }
}
