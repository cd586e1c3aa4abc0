//! A WebSocket on a connection.

use super::*;

#[test]
fn messages_pass_in_both_directions() {
    let mut t = Test::new();
    // The client sends the first frame without waiting for the response.
    t.data([UPGRADE.as_bytes(), &frame(FIN | TEXT, b"early")].concat());
    assert_eq!(t.requests(), ["/ws"]);
    t.conn.send_text(t.now, "not a WebSocket yet");
    t.conn.upgrade(t.now);
    t.data(frame(FIN | TEXT, b"one"));
    let expected = ["early", "one"].map(|text| ConnEvent::Message(Message::Text(text.to_owned())));
    assert_eq!(t.events(), expected);
    assert!(t.read_text().ends_with("\r\n\r\n"), "only the response");

    let shared = websocket::encode_text("shared");
    t.conn.send_text(t.now, "own");
    t.conn.send_encoded(t.now, &shared);
    t.data(frame(FIN | PING, b"?"));
    let expected = [(TEXT, b"own".to_vec()), (TEXT, b"shared".to_vec()), (PONG, b"?".to_vec())];
    assert_eq!(client::parse(&t.read()), expected);
}

#[test]
fn the_server_closes() {
    let mut t = Test::websocket();
    t.conn.send_text(t.now, "last message");
    t.conn.close(t.now, 1008, "room-full");
    t.conn.send_text(t.now, "late");
    let close = [&1008u16.to_be_bytes()[..], b"room-full"].concat();
    assert_eq!(client::parse(&t.read()), [(TEXT, b"last message".to_vec()), (CLOSE, close)]);
    assert!(!t.conn.is_closed(), "waits for the client's close frame");
    t.data(frame(FIN | CLOSE, &1008u16.to_be_bytes()));
    assert_eq!((t.conn.is_closed(), t.closed()), (true, "closed by server"));

    let mut ignored = Test::websocket();
    ignored.conn.close(ignored.now, 1001, "");
    ignored.read();
    assert_eq!(ignored.closes(), ("closed by server", websocket::CLOSE_TIMEOUT));

    let mut plain = Test::new();
    plain.data(GET);
    plain.respond("answer");
    plain.conn.close(plain.now, 1001, "");
    assert!(!plain.conn.is_closed());
    assert_eq!(plain.status(), "200");
    plain.closed();
}

#[test]
fn the_client_closes() {
    let mut t = Test::websocket();
    t.data([frame(FIN | TEXT, b"bye"), frame(FIN | CLOSE, &1000u16.to_be_bytes())].concat());
    assert_eq!(t.events(), [ConnEvent::Message(Message::Text("bye".to_owned()))]);
    assert_eq!(client::parse(&t.read()), [(CLOSE, 1000u16.to_be_bytes().to_vec())]);
    assert_eq!(t.closed(), "closed by client");

    let mut unread = Test::websocket();
    unread.data(frame(FIN | CLOSE, b""));
    assert_eq!(unread.closes(), ("closed by client", websocket::CLOSE_TIMEOUT));

    let mut lost = Test::websocket();
    lost.conn.handle_eof(lost.now);
    assert_eq!(lost.closed(), "connection lost");

    let mut silent = Test::websocket();
    let mut pings = 0;
    let start = silent.now;
    while !silent.conn.is_closed() {
        silent.now = silent.conn.next_timeout().unwrap();
        silent.conn.handle_timeout(silent.now);
        pings += client::parse(&silent.read()).len();
    }
    assert_eq!((silent.closed(), pings, silent.now - start), ("client gone", 2, millis(30_000)));
}

#[test]
fn a_protocol_error_closes_with_its_code() {
    let mut t = Test::websocket();
    t.data([0x81, 0]);
    let frames = client::parse(&t.read());
    assert_eq!((frames.len(), frames[0].0, &frames[0].1[..2]), (1, CLOSE, &1002u16.to_be_bytes()[..]));
    assert_eq!(t.closes(), ("protocol error", websocket::CLOSE_TIMEOUT));

    let mut t = Test::websocket();
    t.conn.set_message_limit(100);
    t.data(frame(FIN | TEXT, &[b'a'; 100]));
    assert!(matches!(t.events()[..], [ConnEvent::Message(_)]));
    t.data(frame(FIN | TEXT, &[b'a'; 101]));
    assert_eq!(&client::parse(&t.read())[0].1[..2], &1009u16.to_be_bytes());
}

#[test]
fn a_slow_reader_is_disconnected() {
    let frame = websocket::encode_text(&"x".repeat(10_000));
    let mut t = Test::websocket();
    while t.conn.queued_bytes() + frame.len() <= Limits::default().queued_bytes {
        t.conn.send_encoded(t.now, &frame);
        assert!(!t.conn.is_closed());
    }
    // Polled bytes count until they are written.
    while t.conn.poll_transmit().is_some() {}
    t.conn.send_encoded(t.now, &frame);
    assert_eq!((t.conn.is_closed(), t.conn.queued_bytes()), (true, 0));
    assert_eq!(t.closed(), "slow reader");

    let mut stopped = Test::websocket();
    stopped.conn.send_encoded(stopped.now, &frame);
    stopped.now += millis(9_999);
    stopped.conn.handle_timeout(stopped.now);
    stopped.conn.handle_written(stopped.now, 5_000);
    assert_eq!(stopped.closes(), ("stalled", STALL_TIMEOUT));

    // Pongs count too.
    let mut flooded = Test::websocket();
    for _ in 0..101 {
        flooded.data(client::frame(FIN | PING, &[0; 125]));
    }
    assert_eq!(client::parse(&flooded.read()).last().unwrap().1[..2], 1008u16.to_be_bytes());
    assert_eq!(flooded.closes().0, "too many frames");
}

#[test]
fn corrupted_input_always_ends_with_one_closed_event() {
    let mut random = fastrand::Rng::with_seed(1);
    let [mut upgraded, mut delivered, mut bodies] = [0; 3];
    for _ in 0..3000 {
        let frames = [frame(TEXT, b"frag"), frame(FIN | PING, b"p"), frame(FIN, b"ment"), frame(FIN | CLOSE, b"")];
        let mut bytes = [GET, POST, CHUNKED, UPGRADE].concat().into_bytes();
        bytes.extend(frames.concat());
        for _ in 0..random.usize(..3) {
            let at = random.usize(..bytes.len());
            match random.usize(..3) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.u8(..)),
            }
        }
        let mut t = Test::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.usize(..rest.len()));
            rest = after;
            t.data(piece);
            while let Some(event) = t.conn.poll_event() {
                match event {
                    ConnEvent::Request(request) if request.websocket_key.is_some() => {
                        upgraded += 1;
                        t.conn.upgrade(t.now);
                    }
                    ConnEvent::Request(request) if request.has_unread_body() => t.conn.read_body(t.now, request),
                    ConnEvent::Request(request) => {
                        bodies += usize::from(matches!(request.body, Body::Read(_)));
                        t.respond("ok");
                    }
                    ConnEvent::Message(_) => delivered += 1,
                    ConnEvent::Refused(_) => {}
                    // Put back, so that `closes` finds it.
                    closed => {
                        t.conn.events.push_back(closed);
                        break;
                    }
                }
                t.read();
            }
        }
        t.read();
        while let Some(ConnEvent::Request(_)) = t.conn.events.front() {
            t.conn.poll_event();
            t.respond("ok");
            t.read();
        }
        if !t.conn.is_closed() {
            t.conn.handle_eof(t.now);
            t.read();
        }
        t.closes();
    }
    let counts = format!("{upgraded} upgraded, {delivered} delivered, {bodies} bodies");
    assert!(upgraded > 1000 && delivered > 1000 && bodies > 2000, "{counts}");
}

#[test]
fn an_idle_websocket_takes_little_memory() {
    let mut t = Test::websocket();
    let text = "x".repeat(60_000);
    for _ in 0..10 {
        for _ in 0..10 {
            t.data(frame(FIN | TEXT, text.as_bytes()));
            t.conn.send_text(t.now, &text);
        }
        assert_eq!((t.events().len(), t.read().len()), (10, 10 * 60_004));
        t.now += millis(10_000);
    }
    let heap = t.conn.input.capacity()
        + t.conn.events.capacity() * size_of::<ConnEvent>()
        + t.conn.output.capacity() * size_of::<Transmit>()
        + size_of::<WebSocket>();
    assert!(size_of::<Conn>() + heap < 2048, "{} and {heap} bytes", size_of::<Conn>());
}
