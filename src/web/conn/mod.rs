//! A conn: one TCP connection, which serves HTTP requests or becomes a WebSocket, until it is closed.
//!
//! Bytes go in and events come out; responses go in and bytes come out. A request is handed out before its body is
//! read, so that the body of a refused request is never read. The next request head is parsed only when the previous
//! response has been written, so neither pipelined requests nor a client that stops reading can pile up work here.

mod requests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::web::http::{MAX_BODY, MAX_HEAD, Refusal, Request};
use crate::web::websocket::{self, Limits, Message, WebSocket};
use requests::{Incoming, MAX_UNREAD};

/// Time limit for a request with its body, from its first byte, or for the first request from the acceptance of the
/// connection. A shorter one cuts off phones on bad networks; a longer one lets silent clients occupy connections.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for the next request to begin. A longer one saves handshakes; a shorter one frees connections.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client that reads none of the queued bytes for this long is disconnected. A phone that changes networks reads
/// nothing for some seconds.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long input is read and discarded after a refusal. Closing with unread input would reset the connection, and the
/// client might not see the response; a longer time lets clients that keep sending occupy connections.
const LINGER: Duration = Duration::from_millis(500);

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
    /// Received bytes that no request has consumed yet.
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
    /// Waiting for a request head. `begun` is true once the head's time limit is running.
    Head {
        begun: bool,
    },
    /// A request was handed to the server, which has not responded yet.
    Pending {
        websocket_key: Option<String>,
        is_head: bool,
        keep_alive: bool,
        /// Time limit for the body, if there is one that has not been read.
        body_until: Option<Instant>,
    },
    /// The body of a request is being read.
    Body(Box<Incoming>),
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
    /// A request; call `respond`, `upgrade` or, if its body is unread, `read_body`. No further request is parsed
    /// before.
    Request(Box<Request>),
    /// A request was refused; its response is queued and the connection closes.
    Refused(Refusal),
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
    /// The most memory that one connection with these limits takes, in bytes. A WebSocket has its queued bytes, and a
    /// message being received, which exists in a buffer of up to twice its length and in its parsed form. A request has
    /// its unread bytes and its body, each in a buffer of up to twice their length.
    pub fn max_bytes(limits: Limits) -> usize {
        let websocket = size_of::<WebSocket>() + 2 * MAX_HEAD + limits.queued_bytes + 3 * limits.message_bytes;
        let request = size_of::<Incoming>() + 2 * MAX_UNREAD + 2 * MAX_BODY;
        size_of::<Self>() + websocket.max(request)
    }

    /// A connection that was just accepted. `secure` means that it is TLS, which the caller decrypts; `limits` apply to
    /// the WebSocket.
    pub fn new(now: Instant, remote: SocketAddr, secure: bool, limits: Limits) -> Conn {
        Conn {
            remote,
            secure,
            state: State::Head { begun: true },
            deadline: Some(now + REQUEST_TIMEOUT),
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
            State::Body(_) => self.on_body(now, data),
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

    /// Takes the end of the client's bytes. The client may still read: earlier requests get their responses.
    pub fn handle_eof(&mut self, now: Instant) {
        self.is_eof = true;
        match self.state {
            State::Head { .. } | State::Body(_) => self.finish("closed by client"),
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
                State::Head { .. } | State::Body(_) => self.refuse(now, Refusal::Slow),
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
            State::Head { .. } | State::Body(_) | State::Pending { .. } | State::Responding { .. } => {
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

    fn queue(&mut self, now: Instant, transmit: Transmit) {
        if self.queued_bytes == 0 {
            self.progress_at = now;
        }
        self.queued_bytes += transmit.len();
        self.output.push_back(transmit);
        // HTTP needs no limit: there is only one response at a time, at most as long as the largest file.
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
            | State::Body(_)
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
