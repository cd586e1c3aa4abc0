//! A conn with a simulated clock and client, shared by the tests of requests, bodies and messages.

mod bodies;
mod messages;
mod requests;

use super::*;
use crate::web::http::{Body, Response};
use crate::web::websocket::client::{self, CLOSE, FIN, PING, PONG, TEXT, frame};

const GET: &str = "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n";
const POST: &str = "POST /b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "PATCH /c HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n\
    5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A conn with a simulated clock and client.
struct Test {
    conn: Conn,
    now: Instant,
}

impl Test {
    fn new() -> Test {
        let now = Instant::now();
        Test { conn: Conn::new(now, "192.0.2.1:5000".parse().unwrap(), false, Limits::default()), now }
    }

    fn websocket() -> Test {
        let mut t = Test::new();
        t.data(UPGRADE);
        assert_eq!(t.requests(), ["/ws"]);
        t.conn.upgrade(t.now);
        assert!(t.read().starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
        t
    }

    fn data(&mut self, data: impl AsRef<[u8]>) {
        self.conn.handle_data(self.now, data.as_ref());
    }

    fn respond(&mut self, body: &str) {
        self.conn.respond(self.now, Response::text(200, body));
    }

    /// Reads all bytes, as a client would.
    fn read(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(transmit) = self.conn.poll_transmit() {
            bytes.extend_from_slice(&transmit);
            self.conn.handle_written(self.now, transmit.len());
        }
        assert_eq!(self.conn.queued_bytes(), 0);
        bytes
    }

    fn read_text(&mut self) -> String {
        String::from_utf8(self.read()).unwrap()
    }

    /// The status of the one response written.
    fn status(&mut self) -> String {
        let text = self.read_text();
        assert_eq!(text.matches("\r\nContent-Length: ").count(), 1, "{text}");
        text[9..12].to_owned()
    }

    fn events(&mut self) -> Vec<ConnEvent> {
        std::iter::from_fn(|| self.conn.poll_event()).collect()
    }

    fn requests(&mut self) -> Vec<String> {
        let path = |event| match event {
            ConnEvent::Request(request) => request.path,
            other => panic!("{other:?}"),
        };
        self.events().into_iter().map(path).collect()
    }

    /// Fires timers when they are due until the conn is closed. Returns the cause and how long it took.
    fn closes(&mut self) -> (&'static str, Duration) {
        let start = self.now;
        while !self.conn.is_closed() {
            self.now = self.conn.next_timeout().expect("a conn that is not closed has a timer");
            self.conn.handle_timeout(self.now);
        }
        (self.closed(), self.now - start)
    }

    /// Asserts that `Closed` was the last event and came once, and that later calls have no effect. Returns its
    /// cause.
    fn closed(&mut self) -> &'static str {
        let events = self.events();
        let Some(&ConnEvent::Closed { reason }) = events.last() else { panic!("{events:?}") };
        let count = events.iter().filter(|event| matches!(event, ConnEvent::Closed { .. })).count();
        assert_eq!(count, 1);
        let now = self.now;
        self.conn.handle_data(now, GET.as_bytes());
        self.conn.handle_eof(now);
        self.conn.handle_timeout(now + Duration::from_secs(100));
        self.conn.respond(now, Response::text(200, "late"));
        self.conn.upgrade(now);
        self.conn.send_text(now, "late");
        self.conn.close(now, 1000, "late");
        assert_eq!((self.events(), self.read(), self.conn.next_timeout()), (vec![], vec![], None));
        assert!(self.conn.is_closed());
        reason
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
