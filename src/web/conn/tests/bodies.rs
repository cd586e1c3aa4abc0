//! The bodies of requests on a connection.

use super::super::requests::MAX_UNREAD;
use super::*;
use crate::web::http::MAX_CHUNK_FRAMING;

const EXPECTING: &str = "POST /e HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

/// A request as the server finally receives it: its path and body.
type Seen = (String, Option<Vec<u8>>);

impl Test {
    /// Serves all requests and reads every body. Returns the requests, and the bytes sent.
    fn serve(&mut self) -> (Vec<Seen>, String) {
        let mut seen = Vec::new();
        let mut sent = String::new();
        while let Some(event) = self.conn.poll_event() {
            match event {
                ConnEvent::Request(request) if request.has_unread_body() => self.conn.read_body(self.now, request),
                ConnEvent::Request(request) => {
                    let body = match request.body {
                        Body::Read(bytes) => Some(bytes),
                        _ => None,
                    };
                    seen.push((request.path, body));
                    self.respond("ok");
                }
                other => panic!("{other:?}"),
            }
            sent += &self.read_text();
        }
        (seen, sent)
    }
}

/// A request with this body.
fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /p HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn bodies_are_read_from_pieces_of_any_size_and_requests_follow_them() {
    let stream = [POST, CHUNKED, GET, CHUNKED, POST].concat();
    let hello = ("/b".to_owned(), Some(b"hello".to_vec()));
    let world = ("/c".to_owned(), Some(b"hello world".to_vec()));
    let expected = [hello.clone(), world.clone(), ("/a".to_owned(), None), world, hello];
    let cuts = (0..=stream.len()).map(|cut| vec![cut]);
    let steps = [1, 2, 3, 5, 7, 11].map(|step| (0..stream.len()).step_by(step).collect());
    for cuts in cuts.chain(steps) {
        let mut t = Test::new();
        let mut seen = Vec::new();
        let mut sent = String::new();
        let mut start = 0;
        for &end in cuts.iter().chain([&stream.len()]) {
            t.data(&stream[start..end]);
            start = end;
            let (more_seen, more_sent) = t.serve();
            seen.extend(more_seen);
            sent += &more_sent;
        }
        assert_eq!(seen, expected, "cut at {cuts:?}");
        assert_eq!(sent.matches("HTTP/1.1 200 OK\r\n").count(), 5, "cut at {cuts:?}");
        assert_eq!(sent.matches("\r\nConnection: keep-alive\r\n").count(), 5, "cut at {cuts:?}");
    }
}

#[test]
fn a_client_that_waits_for_status_100_gets_it_once() {
    let mut t = Test::new();
    t.data(EXPECTING);
    let (seen, sent) = t.serve();
    assert_eq!((seen, sent.as_str()), (vec![], "HTTP/1.1 100 Continue\r\n\r\n"));
    for byte in b"hell" {
        t.data([*byte]);
        assert_eq!(t.serve(), (vec![], String::new()));
    }
    t.data("o");
    let (seen, sent) = t.serve();
    assert_eq!(seen, [("/e".to_owned(), Some(b"hello".to_vec()))]);
    assert!(sent.starts_with("HTTP/1.1 200 OK\r\n"), "{sent}");

    // This client does not wait.
    t.data([EXPECTING, "h"].concat());
    assert_eq!(t.serve(), (vec![], String::new()));
    t.data("ello");
    assert!(t.serve().1.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_body_that_nothing_takes_is_not_read_and_closes_the_connection() {
    for bytes in [POST, CHUNKED, EXPECTING] {
        for smuggled in ["", GET] {
            let mut t = Test::new();
            t.data([bytes, smuggled].concat());
            let request = t.events().pop();
            assert!(matches!(&request, Some(ConnEvent::Request(request)) if request.has_unread_body()), "{request:?}");
            t.conn.respond(t.now, Response::text(404, "nothing here"));
            let answer = t.read_text();
            assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("\r\nConnection: close\r\n"), "{answer}");
            t.data([GET, GET].concat());
            assert_eq!(t.events(), [], "what follows is not taken for a request");
            assert_eq!(t.closes(), ("answered before its body was read", LINGER));
        }
    }
    let mut t = Test::new();
    t.data(POST);
    t.conn.handle_eof(t.now);
    t.respond("");
    t.read();
    t.closed();
}

#[test]
fn a_request_has_a_time_limit_with_its_body() {
    for (bytes, body) in [(POST, 5), (CHUNKED, 40)] {
        let mut t = Test::new();
        t.data(GET);
        t.serve();
        t.now += millis(10_000);
        let deadline = t.now + REQUEST_TIMEOUT;
        let (head, body) = bytes.split_at(bytes.len() - body);
        for byte in head.bytes() {
            t.data([byte]);
            t.now += millis(20);
        }
        t.serve();
        assert_eq!(t.conn.next_timeout(), Some(deadline), "the limit does not start again with the body");
        for byte in body.bytes().take(4) {
            t.now += millis(100);
            t.data([byte]);
            t.serve();
            assert_eq!(t.conn.next_timeout(), Some(deadline));
        }
        t.now = deadline;
        t.conn.handle_timeout(t.now);
        assert_eq!(t.status(), "408");
        assert_eq!(t.events(), [ConnEvent::Refused(Refusal::Slow)]);
        assert_eq!(t.closes(), (Refusal::Slow.reason(), LINGER));
    }
    // The response has no such limit.
    let mut t = Test::new();
    t.data(POST);
    let Some(ConnEvent::Request(request)) = t.conn.poll_event() else { panic!("no request") };
    t.conn.read_body(t.now, request);
    assert_eq!(t.conn.next_timeout(), None);
}

#[test]
fn a_body_that_ends_early_closes_the_connection() {
    for bytes in [POST, CHUNKED] {
        let end = bytes.len() - 1;
        let mut t = Test::new();
        t.data(&bytes[..end]);
        assert_eq!(t.serve().0, []);
        t.conn.handle_eof(t.now);
        assert_eq!(t.closed(), "closed by client");

        // The end came before the server asked for the body.
        let mut t = Test::new();
        t.data(&bytes[..end]);
        t.conn.handle_eof(t.now);
        let Some(ConnEvent::Request(request)) = t.conn.poll_event() else { panic!("no request") };
        t.conn.read_body(t.now, request);
        assert_eq!(t.closed(), "closed by client");

        let mut t = Test::new();
        t.data(bytes);
        t.conn.handle_eof(t.now);
        let (seen, sent) = t.serve_last();
        assert_eq!((seen, sent.contains("\r\nConnection: close\r\n")), (1, true));

        let mut t = Test::new();
        t.data(&bytes[..end]);
        t.serve();
        t.conn.close(t.now, 1001, "");
        assert_eq!(t.closed(), "closed by server");
    }
}

impl Test {
    /// Serves one request, after which the connection is closed. Returns the number of requests and the bytes sent.
    fn serve_last(&mut self) -> (usize, String) {
        let Some(ConnEvent::Request(request)) = self.conn.poll_event() else { panic!("no request") };
        self.conn.read_body(self.now, request);
        let requests = self.requests().len();
        self.respond("ok");
        let sent = self.read_text();
        assert_eq!(self.closed(), "answered");
        (requests, sent)
    }
}

#[test]
fn a_malformed_or_long_body_is_refused_and_nothing_after_it_is_a_request() {
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("1;{}", "x".repeat(MAX_CHUNK_FRAMING));
    let long = format!("8000\r\n{0}\r\n8000\r\n{0}\r\n1\r\n", "x".repeat(0x8000));
    for (status, body) in [
        ("400", "5\nhello\r\n0\r\n\r\n"),
        ("400", "5\r\nhello0\r\n\r\n"),
        ("400", "5\r\nhello\r\n0\r\nno colon\r\n\r\n"),
        ("400", "-5\r\n"),
        ("413", "10001\r\n"),
        ("413", &extension),
        ("413", &long),
    ] {
        for cut in [1, 1000, body.len()] {
            let mut t = Test::new();
            t.data(head);
            assert_eq!(t.serve().0, []);
            for piece in body.as_bytes().chunks(cut) {
                t.data(piece);
            }
            t.data(GET);
            assert_eq!(t.status(), status, "{body:.40}");
            let events = t.events();
            assert!(matches!(events[..], [ConnEvent::Refused(Refusal::Chunks | Refusal::BodyTooLarge)]), "{events:?}");
            assert_eq!(t.closes().1, LINGER, "{body:.40}");
        }
    }
}

#[test]
fn a_body_takes_bounded_memory_which_is_freed() {
    let body: Vec<u8> = (0..MAX_BODY).map(|at| at as u8).collect();
    let bound = Conn::max_bytes(Limits::default());
    let heap = |conn: &Conn| conn.input.capacity() + conn.events.capacity() * size_of::<ConnEvent>();
    let mut t = Test::new();
    for round in 0..5 {
        // Whole, and in pieces as they come from a socket.
        let bytes = post(&body);
        for piece in bytes.chunks([bytes.len(), 64 * 1024, 1448, 7][round % 4]) {
            t.data(piece);
            assert!(heap(&t.conn) < 3 * MAX_UNREAD && bound > 3 * MAX_UNREAD + 2 * MAX_BODY, "{}", heap(&t.conn));
            for (path, seen) in t.serve().0 {
                assert!(path == "/p" && seen.as_deref() == Some(&body[..]), "round {round}");
            }
        }
        assert!(matches!(t.conn.state, State::Head { begun: false }), "round {round} was answered");
        assert!(heap(&t.conn) < 2048, "{} bytes are kept", heap(&t.conn));
    }
}

#[test]
fn input_beside_an_unread_body_is_bounded() {
    let mut t = Test::new();
    t.data("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    t.data(vec![b'1'; MAX_UNREAD]);
    assert!(!t.conn.is_closed());
    t.data("1");
    assert_eq!(t.closed(), "too much input before the response");

    let mut t = Test::new();
    t.data([POST.as_bytes(), &vec![b'a'; MAX_HEAD]].concat());
    let Some(ConnEvent::Request(request)) = t.conn.poll_event() else { panic!("no request") };
    t.conn.read_body(t.now, request);
    assert!(!t.conn.is_closed());
    t.data("a");
    assert_eq!(t.closed(), "too much input before the response");
}
