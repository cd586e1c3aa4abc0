//! HTTP on a connection.

use super::super::requests::MAX_REQUESTS;
use super::*;

#[test]
fn requests_are_parsed_from_single_bytes() {
    let mut t = Test::new();
    for _ in 0..3 {
        for byte in GET.bytes() {
            assert_eq!(t.events(), []);
            t.data([byte]);
        }
        assert_eq!(t.requests(), ["/a"]);
        t.respond("hello");
        let answer = t.read_text();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert!(answer.contains("\r\nConnection: keep-alive\r\n"));
    }
}

#[test]
fn pipelined_requests_are_handled_one_at_a_time() {
    let mut t = Test::new();
    t.data([GET, "\r\n", GET.replace("/a", "/b").as_str(), GET.replace("/a", "/c").as_str()].concat());
    assert_eq!(t.requests(), ["/a"]);
    t.respond("1");
    assert_eq!(t.events(), [], "the response is not written yet");
    t.read();
    assert_eq!(t.requests(), ["/b"]);
    // Requests that arrived before the client's EOF are answered.
    t.conn.handle_eof(t.now);
    t.respond("2");
    t.read();
    assert_eq!(t.requests(), ["/c"]);
    t.respond("3");
    assert!(t.read_text().contains("\r\nConnection: close\r\n"));
    assert_eq!(t.closed(), "answered");
}

#[test]
fn input_before_the_response_is_bounded() {
    let mut t = Test::new();
    t.data(GET);
    t.data(vec![b'a'; MAX_HEAD]);
    assert!(!t.conn.is_closed());
    t.data("a");
    assert_eq!(t.closed(), "too much input before the response");
}

#[test]
fn a_refusal_is_sent_and_closes() {
    let big = format!("GET /{}", "a".repeat(MAX_HEAD));
    let table = [
        ("400", "\x16\x03\x01"),
        ("400", "GET / HTTP/1.1\r\n\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("405", "LINK / HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("413", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("417", "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("431", big.as_str()),
        ("505", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ];
    for (status, bytes) in table {
        for cut in [1, bytes.len()] {
            let mut t = Test::new();
            for piece in bytes.as_bytes().chunks(cut) {
                t.data(piece);
            }
            t.data(GET);
            assert_eq!(t.status(), status, "{bytes:.40}");
            let events = t.events();
            let is_reported =
                matches!(events[..], [ConnEvent::Refused(refusal)] if refusal.status().to_string() == status);
            assert!(is_reported, "{bytes:.40}: {events:?}");
            assert_eq!(t.closes().1, LINGER, "{bytes:.40}");

            let mut t = Test::new();
            t.data(bytes);
            t.read();
            t.conn.handle_eof(t.now);
            t.closed();
        }
    }
}

#[test]
fn a_request_head_has_a_time_limit() {
    let mut silent = Test::new();
    assert_eq!(silent.closes(), ("idle", REQUEST_TIMEOUT));

    // The time limit is for the whole head, however slowly its bytes arrive.
    let mut slow = Test::new();
    for byte in GET.bytes().take(30) {
        slow.now += millis(100);
        slow.data([byte]);
    }
    slow.now += millis(2000);
    slow.conn.handle_timeout(slow.now);
    assert_eq!(slow.status(), "408");
    assert_eq!(slow.closes(), (Refusal::Slow.reason(), LINGER));

    let mut idle = Test::new();
    idle.data(GET);
    idle.respond("");
    idle.read();
    idle.now += millis(14_000);
    idle.data("\r\n");
    assert_eq!(idle.conn.next_timeout(), Some(idle.now + millis(1000)), "an empty line does not begin a head");
    idle.data("G");
    let deadline = idle.now + REQUEST_TIMEOUT;
    assert_eq!(idle.conn.next_timeout(), Some(deadline));
    idle.now += millis(1000);
    idle.data("ET / HTTP/1.1\r\n");
    assert_eq!(idle.conn.next_timeout(), Some(deadline), "a complete line does not extend the limit");

    let mut idle = Test::new();
    idle.data(GET);
    idle.respond("");
    idle.read();
    idle.events();
    assert_eq!(idle.closes(), ("idle", KEEP_ALIVE_TIMEOUT));
}

#[test]
fn the_requests_on_a_connection_are_limited() {
    let mut t = Test::new();
    for count in 1..=MAX_REQUESTS {
        assert!(!t.conn.is_closed(), "{count}");
        t.data(GET);
        t.respond("");
        t.read();
    }
    assert_eq!(t.closed(), "answered");
}

#[test]
fn the_response_to_head_has_no_body() {
    let mut t = Test::new();
    t.data(GET.replace("GET", "HEAD"));
    t.respond("hello");
    let answer = t.read_text();
    assert!(answer.contains("\r\nContent-Length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_client_that_does_not_read_its_response_is_disconnected() {
    let mut t = Test::new();
    t.data(GET);
    t.respond(&"x".repeat(2 * Limits::default().queued_bytes));
    let head = t.conn.poll_transmit().unwrap();
    t.now += millis(9_000);
    t.conn.handle_timeout(t.now);
    t.conn.handle_written(t.now, 1);
    assert_eq!(t.conn.queued_bytes(), head.len() + 2 * Limits::default().queued_bytes - 1);
    assert_eq!(t.closes(), ("stalled", STALL_TIMEOUT));
}

#[test]
fn a_plain_request_cannot_be_upgraded() {
    let mut t = Test::new();
    t.data(GET);
    t.conn.upgrade(t.now);
    assert_eq!(t.status(), "426");
}
