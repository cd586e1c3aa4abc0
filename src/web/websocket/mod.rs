//! A WebSocket: the server's end of one connection (RFC 6455), from bytes to messages and back.
//!
//! tungstenite validates frames and assembles messages. It exposes neither fragments nor the frame rate, so a
//! `FrameCursor` in front of it finds where frames begin and end. Every connection ends with a close frame that gives
//! the reason, unless the client has vanished. After our close frame only the cursor runs, to find the client's close
//! frame: nothing after a protocol error is interpreted. Extensions, and with them compression, are never negotiated.

#[cfg(test)]
pub(crate) mod client;
mod frames;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use tungstenite::Error;
use tungstenite::protocol::frame::coding::{CloseCode, Control, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use frames::{FrameCursor, FrameHeader, encode};
pub use frames::{encode_binary, encode_text};

/// Time between pings. A shorter one detects vanished clients sooner and wakes sleeping phones more often.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// After this many pings with no input since the first, and one more interval, the client counts as gone: at most 30 s.
const MAX_UNANSWERED_PINGS: u32 = 2;

/// How long the server waits for the client's close frame after its own. Clients that still answer do so sooner.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// tungstenite's read buffer, allocated for each connection. Most messages fit; the larger buffer for others is freed
/// after the message.
const READ_BUFFER: usize = 4 * 1024;

/// tungstenite's write buffer. It holds at most one control frame, since writes to memory never block.
const WRITE_BUFFER: usize = 4 * 1024;

/// The longest reason of a close frame in bytes: a control frame has 125, of which the code takes two (RFC 6455 section
/// 5.5).
const MAX_CLOSE_REASON: usize = 123;

/// The server's end of a WebSocket, after the upgrade.
#[derive(Debug)]
pub struct WebSocket {
    limits: Limits,
    context: WebSocketContext,
    cursor: FrameCursor,
    state: State,
    /// Data frames of the message being received; 0 between messages.
    fragments: u32,
    /// Length of the message being received, as announced by the frame headers.
    message_bytes: u64,
    /// The theoretical arrival time of the generic cell rate algorithm, which limits the frame rate.
    frames_until: Instant,
    next_ping: Instant,
    unanswered_pings: u32,
    messages: VecDeque<Message>,
    output: Vec<u8>,
}

/// Limits for one client; `default` is what the server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes. A lower limit refuses answers to large offers; a higher one lets every client
    /// occupy that much memory.
    pub message_bytes: usize,
    /// The most fragments of a message; by default one for every 64 bytes. A lower limit might refuse clients that send
    /// small fragments; a higher one costs time, since a fragment takes more work than its bytes.
    pub fragments: u32,
    /// The interval between frames at the maximum rate; by default 50 frames a second. A page sends a few frames when
    /// it joins, then one for each chat message.
    pub frame_interval: Duration,
    /// How far a client may be ahead of that rate; by default 100 frames. A lower limit refuses ICE candidates, which
    /// arrive in one burst.
    pub frame_burst: Duration,
    /// The most bytes queued for the client. A lower limit disconnects clients on bad networks in busy rooms; a higher
    /// one takes that much memory for each connection.
    pub queued_bytes: usize,
}

/// A message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message, valid UTF-8.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

#[derive(Debug)]
enum State {
    Open,
    /// The server's close frame has been sent; the client's has not arrived.
    Closing {
        until: Instant,
        reason: &'static str,
    },
    Ended {
        reason: &'static str,
    },
}

impl WebSocket {
    /// A WebSocket whose upgrade was just accepted.
    pub fn new(now: Instant, limits: Limits) -> WebSocket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(limits.message_bytes))
            .max_frame_size(Some(limits.message_bytes));
        WebSocket {
            limits,
            context: WebSocketContext::new(Role::Server, Some(config)),
            cursor: FrameCursor::default(),
            state: State::Open,
            fragments: 0,
            message_bytes: 0,
            frames_until: now,
            next_ping: now + PING_INTERVAL,
            unanswered_pings: 0,
            messages: VecDeque::new(),
            output: Vec::new(),
        }
    }

    /// Takes bytes from the client, in pieces of any size.
    pub fn handle_data(&mut self, now: Instant, data: &[u8]) {
        self.unanswered_pings = 0;
        let mut rest = data;
        while !rest.is_empty() {
            let step = self.cursor.advance(rest);
            let (bytes, after) = rest.split_at(step.length);
            rest = after;
            if let (State::Open, Some(head)) = (&self.state, step.begun) {
                self.on_frame(now, head);
            }
            // A frame that was refused at its header is not interpreted.
            if self.is_open() {
                self.on_bytes(now, bytes);
            }
            if step.ended.is_some_and(|head| head.is_final && head.is_data()) {
                self.on_message_end();
            }
            match self.state {
                State::Closing { reason, .. } if step.ended.is_some_and(|head| head.is_close()) => {
                    self.state = State::Ended { reason };
                }
                State::Ended { .. } => return,
                _ => {}
            }
        }
    }

    /// Sends a due ping, or ends the WebSocket if the client has not answered in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Open if now >= self.next_ping => {
                if self.unanswered_pings >= MAX_UNANSWERED_PINGS {
                    self.state = State::Ended { reason: "client gone" };
                    return;
                }
                self.unanswered_pings += 1;
                self.next_ping = now + PING_INTERVAL;
                encode(OpCode::Control(Control::Ping), &[], &mut self.output);
            }
            State::Closing { until, reason } if now >= until => self.state = State::Ended { reason },
            _ => {}
        }
    }

    /// The next message from the client.
    pub fn poll_message(&mut self) -> Option<Message> {
        let message = self.messages.pop_front();
        if message.is_none() {
            self.messages = VecDeque::new();
        }
        message
    }

    /// Control frames to send: pongs, pings and close. Data frames are encoded by the caller.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.output.is_empty() { None } else { Some(std::mem::take(&mut self.output)) }
    }

    /// Sets the longest message accepted, for frames that begin after this call.
    pub fn set_message_limit(&mut self, bytes: usize) {
        self.limits.message_bytes = bytes;
        self.context.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    /// Sends a close frame, once, and ignores further messages.
    pub fn close(&mut self, now: Instant, code: u16, reason: &str) {
        self.start_close(now, code.into(), reason, "closed by server");
    }

    /// Whether messages may still be sent: none may follow a close frame.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Why the WebSocket has ended, if it has. No input is taken any more; `poll_transmit` may still have output.
    pub fn ended(&self) -> Option<&'static str> {
        match self.state {
            State::Ended { reason } => Some(reason),
            _ => None,
        }
    }

    /// When `handle_timeout` is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Open => Some(self.next_ping),
            State::Closing { until, .. } => Some(until),
            State::Ended { .. } => None,
        }
    }

    /// Checks the limits when a frame header is complete.
    fn on_frame(&mut self, now: Instant, head: FrameHeader) {
        if head.is_close() {
            return;
        }
        self.frames_until = self.frames_until.max(now) + self.limits.frame_interval;
        if self.frames_until > now + self.limits.frame_burst {
            self.start_close(now, CloseCode::Policy, "too-fast", "too many frames");
        } else if head.is_data() {
            self.fragments += 1;
            self.message_bytes = self.message_bytes.saturating_add(head.length);
            if self.fragments > self.limits.fragments {
                self.start_close(now, CloseCode::Size, "too many fragments", "too many fragments");
            }
        }
    }

    /// Passes bytes of at most one frame to tungstenite.
    fn on_bytes(&mut self, now: Instant, bytes: &[u8]) {
        let mut stream = MemoryStream { input: bytes, output: &mut self.output };
        let error = loop {
            match self.context.read(&mut stream) {
                Ok(tungstenite::Message::Text(text)) => {
                    self.messages.push_back(Message::Text(text.as_str().to_owned()));
                }
                Ok(tungstenite::Message::Binary(bytes)) => self.messages.push_back(Message::Binary(bytes.into())),
                // The next read writes the pong, or the reply to the close frame.
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let (code, reason) = match error {
            Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Error::ConnectionClosed => {
                self.state = State::Ended { reason: "closed by client" };
                return;
            }
            Error::Capacity(_) => (CloseCode::Size, "message too big"),
            Error::Utf8(_) => (CloseCode::Invalid, "invalid UTF-8"),
            _ => (CloseCode::Protocol, "protocol error"),
        };
        self.start_close(now, code, reason, reason);
    }

    /// Frees the buffer that tungstenite allocated for a large message. Between messages its context has no other
    /// state.
    fn on_message_end(&mut self) {
        if self.message_bytes > READ_BUFFER as u64 && self.is_open() {
            self.context = WebSocketContext::new(Role::Server, Some(*self.context.get_config()));
        }
        self.message_bytes = 0;
        self.fragments = 0;
    }

    fn start_close(&mut self, now: Instant, code: CloseCode, text: &str, reason: &'static str) {
        if !self.is_open() {
            return;
        }
        self.state = State::Closing { until: now + CLOSE_TIMEOUT, reason };
        let end = (0..=MAX_CLOSE_REASON).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let mut payload = u16::from(code).to_be_bytes().to_vec();
        payload.extend_from_slice(&text.as_bytes()[..end]);
        encode(OpCode::Control(Control::Close), &payload, &mut self.output);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            fragments: 1024,
            frame_interval: Duration::from_millis(20),
            frame_burst: Duration::from_secs(2),
            queued_bytes: 1024 * 1024,
        }
    }
}

/// The stream for one call of tungstenite: input and output in memory.
struct MemoryStream<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for MemoryStream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            // No input yet; returning 0 would mean the end of the stream.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buf)
    }
}

impl Write for MemoryStream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
