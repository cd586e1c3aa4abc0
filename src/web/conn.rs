//! A conn: one TCP connection, which serves HTTP requests or becomes a WebSocket, until it is closed.
//!
//! Bytes go in and events come out; responses go in and bytes come out. The next request head is parsed only when the
//! previous response has been written, so neither pipelined requests nor a client that stops reading can pile up work
//! here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::web::http::{self, MAX_HEAD, Refusal, Request, Response};
use crate::web::websocket::{self, Limits, Message, WebSocket};

/// Time limit for a request head, from its first byte; for the first head, from accept. A shorter one cuts off phones
/// on bad networks; a longer one lets silent clients occupy connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for the next request to begin. A longer one saves handshakes; a shorter one frees connections.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client that reads none of the queued bytes for this long is disconnected. A phone that changes networks is silent
/// for some seconds.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long input is read and discarded after a refusal. Closing with unread input would reset the connection, and the
/// client might not see the response; a longer time lets clients that keep sending occupy connections.
const LINGER: Duration = Duration::from_millis(500);

/// The most requests on one connection, so that no client keeps it forever. Fewer would make proxies that reuse connections
/// reconnect often.
const MAX_REQUESTS: u32 = 1000;

/// Capacity that an empty queue keeps, in entries.
const IDLE_ENTRIES: usize = 4;

/// One TCP connection, without TLS.
///
/// After each call that takes input, poll events and transmits until there are none. When `is_closed` returns true,
/// close the socket and drop the bytes that were polled but not yet written; there are some only if the connection was
/// aborted.
#[derive(Debug)]
pub struct Conn {
    remote: SocketAddr,
    secure: bool,
    state: State,
    /// When the current state times out. A WebSocket has its own timers.
    deadline: Option<Instant>,
    /// Received bytes that no request head has consumed yet.
    input: Vec<u8>,
    is_eof: bool,
    requests: u32,
    limits: Limits,
    events: VecDeque<ConnEvent>,
    output: VecDeque<Transmit>,
    queued_bytes: usize,
    /// When bytes were last written; if none were since the queue was empty, when the first was queued.
    progress_at: Instant,
}

#[derive(Debug)]
enum State {
    /// Waiting for a request head. `begun` is true if the head's time limit is running.
    Head {
        begun: bool,
    },
    /// A request was handed to the server; its response is missing.
    Pending {
        websocket_key: Option<String>,
        is_head: bool,
        keep_alive: bool,
    },
    /// The response is being written.
    Responding {
        keep_alive: bool,
    },
    WebSocket(Box<WebSocket>),
    /// Queued bytes are written and input is discarded; then `Lingering` or `Closed`.
    Draining {
        reason: &'static str,
        linger: bool,
    },
    /// All bytes are written; input is discarded so that the client can read them.
    Lingering {
        reason: &'static str,
    },
    Closed,
}

/// An event on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnEvent {
    /// A request; call `respond` or `upgrade`. No further request is parsed before.
    Request(Request),
    /// A message from the WebSocket.
    Message(Message),
    /// The connection is closed. The last event, sent once.
    Closed {
        /// The cause, one of a fixed set of texts.
        reason: &'static str,
    },
}

/// Bytes to write to the connection.
#[derive(Debug, Clone)]
pub enum Transmit {
    /// For this connection alone.
    Own(Vec<u8>),
    /// Shared between several connections.
    Shared(Arc<[u8]>),
}

impl Deref for Transmit {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Transmit::Own(bytes) => bytes,
            Transmit::Shared(bytes) => bytes,
        }
    }
}

impl Conn {
    /// The most memory that one connection with these limits takes, in bytes: the queued bytes, and a message being
    /// received, which exists in a buffer of up to twice its length and in its parsed form.
    pub fn max_bytes(limits: Limits) -> usize {
        let queued = 2 * MAX_HEAD + limits.queued_bytes;
        size_of::<Self>() + size_of::<WebSocket>() + queued + 3 * limits.message_bytes
    }

    /// A connection that was just accepted. `secure` means that it is TLS, which the caller decrypts; `limits` apply to
    /// the WebSocket.
    pub fn new(now: Instant, remote: SocketAddr, secure: bool, limits: Limits) -> Conn {
        Conn {
            remote,
            secure,
            state: State::Head { begun: true },
            deadline: Some(now + HEAD_TIMEOUT),
            input: Vec::new(),
            is_eof: false,
            requests: 0,
            limits,
            events: VecDeque::new(),
            output: VecDeque::new(),
            queued_bytes: 0,
            progress_at: now,
        }
    }

    /// Takes bytes from the client, in pieces of any size.
    pub fn handle_data(&mut self, now: Instant, data: &[u8]) {
        match &mut self.state {
            State::Head { .. } => {
                // Parse only when a line has ended, or at the first bytes, which may show that this is not HTTP.
                let may_be_complete =
                    self.input.is_empty() || data.contains(&b'\n') || self.input.len() + data.len() >= MAX_HEAD;
                self.input.extend_from_slice(data);
                if may_be_complete {
                    self.read_head(now);
                }
                self.check_input();
            }
            State::Pending { .. } | State::Responding { .. } => {
                self.input.extend_from_slice(data);
                self.check_input();
            }
            State::WebSocket(socket) => {
                socket.handle_data(now, data);
                self.drain_websocket(now);
            }
            State::Draining { .. } | State::Lingering { .. } | State::Closed => {}
        }
        self.settle(now);
    }

    /// The client has closed its sending side. It may still read: requests received before get their responses.
    pub fn handle_eof(&mut self, now: Instant) {
        self.is_eof = true;
        match self.state {
            State::Head { .. } => self.finish("closed by client"),
            State::WebSocket(_) => self.finish("connection lost"),
            State::Lingering { reason } => self.finish(reason),
            State::Pending { .. } | State::Responding { .. } | State::Draining { .. } | State::Closed => {}
        }
        self.settle(now);
    }

    /// Reports that the caller has written `bytes` of the polled bytes.
    pub fn handle_written(&mut self, now: Instant, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.progress_at = now;
        self.settle(now);
    }

    /// Ends a state that has timed out, and sends due pings.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stall_deadline().is_some_and(|at| now >= at) {
            self.finish("stalled");
            return;
        }
        if let State::WebSocket(socket) = &mut self.state {
            socket.handle_timeout(now);
            match socket.ended() {
                // The client is gone, or did not answer our close frame: queued bytes would not be read.
                Some(reason) => self.finish(reason),
                None => self.drain_websocket(now),
            }
        } else if self.deadline.is_some_and(|at| now >= at) {
            match self.state {
                State::Head { .. } if self.input.is_empty() => self.finish("idle"),
                State::Head { .. } => self.refuse(now, Refusal::Slow),
                State::Draining { reason, .. } | State::Lingering { reason } => self.finish(reason),
                State::Pending { .. } | State::Responding { .. } | State::WebSocket(_) | State::Closed => {}
            }
        }
        self.settle(now);
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<ConnEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            self.events.shrink_to(IDLE_ENTRIES);
        }
        event
    }

    /// The next bytes to write; report them with `handle_written`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.output.pop_front();
        if self.output.is_empty() {
            self.output.shrink_to(IDLE_ENTRIES);
        }
        transmit
    }

    /// Sends the response to the pending request. Does nothing if there is none because the client is gone.
    pub fn respond(&mut self, now: Instant, response: Response) {
        self.answer(now, response, true);
    }

    /// Like `respond`, and closes the connection afterwards.
    pub fn respond_last(&mut self, now: Instant, response: Response) {
        self.answer(now, response, false);
    }

    fn answer(&mut self, now: Instant, response: Response, may_stay: bool) {
        let State::Pending { is_head, keep_alive, .. } = self.state else {
            return;
        };
        let more_to_come = !self.is_eof || !self.input.is_empty();
        let keep_alive = may_stay && keep_alive && self.requests < MAX_REQUESTS && more_to_come;
        self.state = State::Responding { keep_alive };
        self.queue_response(now, response, keep_alive, is_head);
    }

    /// Accepts the pending request as a WebSocket upgrade, with status 101. A request that is not an upgrade gets 426.
    pub fn upgrade(&mut self, now: Instant) {
        let State::Pending { websocket_key, .. } = &mut self.state else {
            return;
        };
        let Some(key) = websocket_key.take() else {
            self.respond(now, Refusal::WebSocketVersion.response());
            return;
        };
        self.queue(now, Transmit::Own(http::switching_protocols(&key)));
        self.state = State::WebSocket(Box::new(WebSocket::new(now, self.limits)));
        // The client may have sent frames without waiting for the response.
        let early = std::mem::take(&mut self.input);
        self.handle_data(now, &early);
        if self.is_eof {
            self.handle_eof(now);
        }
    }

    /// Queues a text message if the WebSocket is open; otherwise does nothing.
    pub fn send_text(&mut self, now: Instant, text: &str) {
        self.send_encoded(now, &websocket::encode_text(text));
    }

    /// Like `send_text` with a frame from `encode_text`, which several connections can share.
    pub fn send_encoded(&mut self, now: Instant, frame: &Arc<[u8]>) {
        if let State::WebSocket(socket) = &self.state
            && socket.is_open()
        {
            self.queue(now, Transmit::Shared(frame.clone()));
        }
    }

    /// Sets the longest message accepted from the client, from the next frame on.
    pub fn set_message_limit(&mut self, bytes: usize) {
        self.limits.message_bytes = bytes;
        if let State::WebSocket(socket) = &mut self.state {
            socket.set_message_limit(bytes);
        }
    }

    /// Closes the connection once all queued bytes are written. A WebSocket sends a close frame and waits at most 2 s
    /// for the client's.
    pub fn close(&mut self, now: Instant, code: u16, reason: &str) {
        match &mut self.state {
            State::WebSocket(socket) => {
                socket.close(now, code, reason);
                self.drain_websocket(now);
            }
            State::Head { .. } | State::Pending { .. } | State::Responding { .. } => {
                self.drain("closed by server", false);
                self.settle(now);
            }
            State::Draining { .. } | State::Lingering { .. } | State::Closed => {}
        }
    }

    /// The client's address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Whether the connection is TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the connection is closed: it takes no input and yields no output any more.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Bytes that are queued, or polled and not yet written.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// When `handle_timeout` is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::WebSocket(socket) => socket.next_timeout(),
            _ => self.deadline,
        };
        [own, self.stall_deadline()].into_iter().flatten().min()
    }

    fn stall_deadline(&self) -> Option<Instant> {
        (self.queued_bytes > 0).then(|| self.progress_at + STALL_TIMEOUT)
    }

    /// Parses the request head at the beginning of the input, if it is complete.
    fn read_head(&mut self, now: Instant) {
        // RFC 9112 section 2.2: empty lines before a request are skipped. They do not start the head's time limit.
        let blank = self.input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.input.drain(..blank);
        if self.input.is_empty() {
            return;
        }
        if let State::Head { begun: begun @ false } = &mut self.state {
            *begun = true;
            self.deadline = Some(now + HEAD_TIMEOUT);
        }
        match Request::parse(&self.input) {
            Ok(None) => {}
            Ok(Some((request, length))) => {
                self.input.drain(..length);
                self.input.shrink_to_fit();
                self.requests += 1;
                self.deadline = None;
                self.state = State::Pending {
                    websocket_key: request.websocket_key.clone(),
                    is_head: request.method == "HEAD",
                    keep_alive: request.keep_alive,
                };
                self.events.push_back(ConnEvent::Request(request));
            }
            Err(refusal) => self.refuse(now, refusal),
        }
    }

    /// Closes a connection whose client sends more than a request head without reading the pending response.
    fn check_input(&mut self) {
        if matches!(self.state, State::Pending { .. } | State::Responding { .. }) && self.input.len() > MAX_HEAD {
            self.finish("too much input before the response");
        }
    }

    fn refuse(&mut self, now: Instant, refusal: Refusal) {
        self.drain(refusal.reason(), true);
        self.queue_response(now, refusal.response(), false, false);
    }

    fn queue_response(&mut self, now: Instant, response: Response, keep_alive: bool, is_head: bool) {
        self.queue(now, Transmit::Own(response.head(keep_alive)));
        if !is_head && !response.body.is_empty() {
            self.queue(now, Transmit::Shared(response.body));
        }
    }

    fn queue(&mut self, now: Instant, transmit: Transmit) {
        if self.queued_bytes == 0 {
            self.progress_at = now;
        }
        self.queued_bytes += transmit.len();
        self.output.push_back(transmit);
        // HTTP needs no limit: there is one response at a time, no longer than a file.
        if matches!(self.state, State::WebSocket(_)) && self.queued_bytes > self.limits.queued_bytes {
            self.finish("slow reader");
        }
    }

    /// Takes messages and control frames out of the WebSocket.
    fn drain_websocket(&mut self, now: Instant) {
        let State::WebSocket(socket) = &mut self.state else {
            return;
        };
        while let Some(message) = socket.poll_message() {
            self.events.push_back(ConnEvent::Message(message));
        }
        let bytes = socket.poll_transmit();
        let ended = socket.ended();
        if let Some(bytes) = bytes {
            self.queue(now, Transmit::Own(bytes));
        }
        if let Some(reason) = ended
            && !self.is_closed()
        {
            self.drain(reason, false);
            self.deadline = Some(now + websocket::CLOSE_TIMEOUT);
        }
    }

    fn drain(&mut self, reason: &'static str, linger: bool) {
        self.state = State::Draining { reason, linger };
        self.deadline = None;
        self.input = Vec::new();
    }

    /// Enters the next state if all queued bytes are written.
    fn settle(&mut self, now: Instant) {
        if self.queued_bytes > 0 {
            return;
        }
        match self.state {
            State::Responding { keep_alive: true } => {
                self.state = State::Head { begun: false };
                self.deadline = Some(now + KEEP_ALIVE_TIMEOUT);
                self.read_head(now);
                if self.is_eof && matches!(self.state, State::Head { .. }) {
                    self.finish("closed by client");
                }
            }
            State::Responding { keep_alive: false } => self.finish("answered"),
            State::Draining { reason, linger: true } if !self.is_eof => {
                self.state = State::Lingering { reason };
                self.deadline = Some(now + LINGER);
            }
            State::Draining { reason, .. } => self.finish(reason),
            State::Head { .. }
            | State::Pending { .. }
            | State::WebSocket(_)
            | State::Lingering { .. }
            | State::Closed => {}
        }
    }

    /// Closes at once and drops the queued bytes.
    fn finish(&mut self, reason: &'static str) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed;
        self.deadline = None;
        self.input = Vec::new();
        self.output = VecDeque::new();
        self.queued_bytes = 0;
        self.events.push_back(ConnEvent::Closed { reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::websocket::client::{self, CLOSE, FIN, PING, PONG, TEXT, frame};

    const GET: &str = "GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n";
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
            ("405", "POST / HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
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
                assert_eq!(t.events(), [], "{bytes:.40}");
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
        assert_eq!(silent.closes(), ("idle", HEAD_TIMEOUT));

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
        let deadline = idle.now + HEAD_TIMEOUT;
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
        // A committed seed, so that failures can be reproduced: xorshift.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let (mut upgraded, mut delivered) = (0, 0);
        for _ in 0..3000 {
            let frames = [frame(TEXT, b"frag"), frame(FIN | PING, b"p"), frame(FIN, b"ment"), frame(FIN | CLOSE, b"")];
            let mut bytes = [GET.as_bytes(), UPGRADE.as_bytes(), &frames.concat()].concat();
            for _ in 0..random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = random(256) as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, random(256) as u8),
                }
            }
            let mut t = Test::new();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(1 + random(rest.len()));
                rest = after;
                t.data(piece);
                while let Some(event) = t.conn.poll_event() {
                    match event {
                        ConnEvent::Request(request) if request.websocket_key.is_some() => {
                            upgraded += 1;
                            t.conn.upgrade(t.now);
                        }
                        ConnEvent::Request(_) => t.respond("ok"),
                        ConnEvent::Message(_) => delivered += 1,
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
        assert!(upgraded > 1000 && delivered > 1000, "{upgraded} upgraded, {delivered} delivered");
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
}
