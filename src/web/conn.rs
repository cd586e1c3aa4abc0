//! A conn: one TCP connection, from request heads to responses or to a WebSocket, until it is closed.
//!
//! Bytes in, events out; events in, bytes out. One request at a time: the next head is parsed when the response before it was
//! written, so neither pipelining nor a reader that stopped makes anything pile up here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::web::http::{self, MAX_HEAD, Refusal, Request, Response};
use crate::web::websocket::{self, WebSocket};

/// A head must be complete this long after its first byte, the first one this long after accept. Shorter cuts off
/// phones on bad networks; longer lets silent connections hold their places.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection waits for its next request. Longer spares handshakes; shorter frees places.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// A peer that takes no byte for this long, with bytes queued for it, is cut off. A phone that changes networks is silent for some seconds.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long unread input is swallowed after a refusal. Closing with input unread resets the connection, and the peer might
/// never see why; longer only holds the place of one that goes on sending.
const LINGER: Duration = Duration::from_millis(500);

/// The most bytes queued for a WebSocket, about one minute of a busy room's signaling. Lower cuts off peers on bad
/// networks; higher multiplies by the connections.
const MAX_QUEUED: usize = 1024 * 1024;

/// The most requests of one connection, so that no peer keeps its place for ever. A page takes about 30.
const MAX_REQUESTS: u32 = 1000;

/// Entries of a queue that are kept allocated while it is empty.
const IDLE_ENTRIES: usize = 4;

/// One TCP connection, as plaintext.
///
/// After each call that takes input, poll events and bytes until there are none. Once `is_closed`, close the socket and
/// drop what was handed out but not written: at that point it is only left after an abort.
#[derive(Debug)]
pub struct Conn {
    remote: SocketAddr,
    secure: bool,
    state: State,
    /// When the state has lasted too long. A WebSocket has timers of its own.
    deadline: Option<Instant>,
    /// Bytes from the peer that no head or frame took yet.
    input: Vec<u8>,
    peer_is_done: bool,
    requests: u32,
    message_limit: usize,
    events: VecDeque<ConnEvent>,
    output: VecDeque<Transmit>,
    queued_bytes: usize,
    /// When the peer last took a byte, or the first of the queued bytes was queued.
    progress_at: Instant,
}

#[derive(Debug)]
enum State {
    /// Waits for a head. `begun` says that the time for it is running.
    Head {
        begun: bool,
    },
    /// The server has the request.
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
    /// What is queued goes out, nothing is taken in; then lingering or closed.
    Draining {
        reason: &'static str,
        linger: bool,
    },
    /// All is written; input is swallowed so that the peer can read it.
    Lingering {
        reason: &'static str,
    },
    Closed,
}

/// What happened on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnEvent {
    /// To be answered with `respond` or `upgrade`; nothing more is parsed before.
    Request(Request),
    /// A text from the WebSocket.
    Message(String),
    /// The last event; comes once.
    Closed { reason: &'static str },
}

/// Bytes to write, in order.
#[derive(Debug, Clone)]
pub enum Transmit {
    Own(Vec<u8>),
    /// The same for many connections.
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
    /// A connection just accepted. `secure` says that its bytes come through TLS.
    pub fn new(now: Instant, remote: SocketAddr, secure: bool) -> Conn {
        Conn {
            remote,
            secure,
            state: State::Head { begun: true },
            deadline: Some(now + HEAD_TIMEOUT),
            input: Vec::new(),
            peer_is_done: false,
            requests: 0,
            message_limit: websocket::MESSAGE_LIMIT,
            events: VecDeque::new(),
            output: VecDeque::new(),
            queued_bytes: 0,
            progress_at: now,
        }
    }

    /// Takes bytes from the peer, cut anywhere.
    pub fn handle_data(&mut self, now: Instant, data: &[u8]) {
        match &mut self.state {
            State::Head { .. } => {
                // A head without a line's end can only be judged at its first bytes.
                let worth_parsing = self.input.is_empty()
                    || data.contains(&b'\n')
                    || self.input.len() + data.len() >= MAX_HEAD;
                self.input.extend_from_slice(data);
                if worth_parsing {
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

    /// The peer sends no more. It may still read: a request that came before is answered.
    pub fn handle_eof(&mut self, now: Instant) {
        self.peer_is_done = true;
        match self.state {
            State::Head { .. } => self.finish("closed by peer"),
            State::WebSocket(_) => self.finish("connection lost"),
            State::Lingering { reason } => self.finish(reason),
            State::Pending { .. }
            | State::Responding { .. }
            | State::Draining { .. }
            | State::Closed => {}
        }
        self.settle(now);
    }

    /// The loop wrote so many of the bytes handed out.
    pub fn handle_written(&mut self, now: Instant, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.progress_at = now;
        self.settle(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stall_deadline().is_some_and(|at| now >= at) {
            self.finish("stalled");
            return;
        }
        if let State::WebSocket(socket) = &mut self.state {
            socket.handle_timeout(now);
            match socket.ended() {
                // The peer is gone, or did not answer our close frame: nobody reads what is queued.
                Some(reason) => self.finish(reason),
                None => self.drain_websocket(now),
            }
        } else if self.deadline.is_some_and(|at| now >= at) {
            match self.state {
                State::Head { .. } if self.input.is_empty() => self.finish("idle"),
                State::Head { .. } => self.refuse(now, Refusal::Slow),
                State::Draining { reason, .. } | State::Lingering { reason } => self.finish(reason),
                State::Pending { .. }
                | State::Responding { .. }
                | State::WebSocket(_)
                | State::Closed => {}
            }
        }
        self.settle(now);
    }

    pub fn poll_event(&mut self) -> Option<ConnEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            self.events.shrink_to(IDLE_ENTRIES);
        }
        event
    }

    /// The bytes to write next; report them with `handle_written`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.output.pop_front();
        if self.output.is_empty() {
            self.output.shrink_to(IDLE_ENTRIES);
        }
        transmit
    }

    /// Answers the pending request. Without one, because the peer is gone by now, it does nothing.
    pub fn respond(&mut self, now: Instant, response: Response) {
        let State::Pending {
            is_head,
            keep_alive,
            ..
        } = self.state
        else {
            return;
        };
        let more_to_come = !self.peer_is_done || !self.input.is_empty();
        let keep_alive = keep_alive && self.requests < MAX_REQUESTS && more_to_come;
        self.state = State::Responding { keep_alive };
        self.queue_response(now, response, keep_alive, is_head);
    }

    /// Answers the pending request with 101; messages follow. A request that is no WebSocket upgrade gets 426.
    pub fn upgrade(&mut self, now: Instant) {
        let State::Pending { websocket_key, .. } = &mut self.state else {
            return;
        };
        let Some(key) = websocket_key.take() else {
            self.respond(now, Refusal::WebSocketVersion.response());
            return;
        };
        self.queue(now, Transmit::Own(http::switching_protocols(&key)));
        self.state = State::WebSocket(Box::new(WebSocket::new(now, self.message_limit)));
        // A peer that did not wait for the answer may have sent frames already.
        let early = std::mem::take(&mut self.input);
        self.handle_data(now, &early);
        if self.peer_is_done {
            self.handle_eof(now);
        }
    }

    /// Queues a text message on a WebSocket that is open; otherwise does nothing.
    pub fn send_text(&mut self, now: Instant, text: &str) {
        self.send_encoded(now, &websocket::encode_text(text));
    }

    /// The same with a frame from `encode_text`, shared between connections.
    pub fn send_encoded(&mut self, now: Instant, frame: &Arc<[u8]>) {
        if let State::WebSocket(socket) = &self.state
            && socket.is_open()
        {
            self.queue(now, Transmit::Shared(frame.clone()));
        }
    }

    /// Changes how long a message from the peer may be, from the next frame on.
    pub fn set_message_limit(&mut self, bytes: usize) {
        self.message_limit = bytes;
        if let State::WebSocket(socket) = &mut self.state {
            socket.set_message_limit(bytes);
        }
    }

    /// Ends the connection when what is queued was written; on a WebSocket with a close frame, and at most 2 s for the peer's.
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

    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Tells whether nothing more is taken, told or written.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Bytes handed out or waiting that were not written yet.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

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

    /// Parses the head at the beginning of the input, if it is there.
    fn read_head(&mut self, now: Instant) {
        // RFC 9112 section 2.2: empty lines before a request are skipped. They do not count as its first byte.
        let blank = self
            .input
            .chunks_exact(2)
            .take_while(|pair| pair == b"\r\n")
            .count()
            * 2;
        self.input.drain(..blank);
        if self.input.is_empty() {
            return;
        }
        if let State::Head {
            begun: begun @ false,
        } = &mut self.state
        {
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

    /// Ends a connection whose peer sends requests, or anything else, without reading the answers.
    fn check_input(&mut self) {
        if matches!(self.state, State::Pending { .. } | State::Responding { .. })
            && self.input.len() > MAX_HEAD
        {
            self.finish("too much sent ahead");
        }
    }

    fn refuse(&mut self, now: Instant, refusal: Refusal) {
        self.drain(refusal.reason(), true);
        self.queue_response(now, refusal.response(), false, false);
    }

    fn queue_response(
        &mut self,
        now: Instant,
        response: Response,
        keep_alive: bool,
        is_head: bool,
    ) {
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
        // A response is one at a time, and as long as the file.
        if matches!(self.state, State::WebSocket(_)) && self.queued_bytes > MAX_QUEUED {
            self.finish("slow reader");
        }
    }

    /// Moves out what the WebSocket has to say.
    fn drain_websocket(&mut self, now: Instant) {
        let State::WebSocket(socket) = &mut self.state else {
            return;
        };
        while let Some(text) = socket.poll_message() {
            self.events.push_back(ConnEvent::Message(text));
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

    /// Goes on where everything queued was written.
    fn settle(&mut self, now: Instant) {
        if self.queued_bytes > 0 {
            return;
        }
        match self.state {
            State::Responding { keep_alive: true } => {
                self.state = State::Head { begun: false };
                self.deadline = Some(now + KEEP_ALIVE_TIMEOUT);
                self.read_head(now);
                if self.peer_is_done && matches!(self.state, State::Head { .. }) {
                    self.finish("closed by peer");
                }
            }
            State::Responding { keep_alive: false } => self.finish("answered"),
            State::Draining {
                reason,
                linger: true,
            } if !self.peer_is_done => {
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

    /// Ends at once; what is queued is dropped.
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
