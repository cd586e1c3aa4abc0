//! A WebSocket: the server's end of one connection (RFC 6455), from bytes to messages and back.
//!
//! tungstenite validates frames and assembles messages. It exposes neither fragments nor the frame rate, so a
//! `FrameCursor` in front of it finds where frames begin and end. Every connection ends with a close frame that gives
//! the reason, unless the client has vanished. After our close frame only the cursor runs, to find the client's close
//! frame: nothing after a protocol error is interpreted. Extensions, and with them compression, are never negotiated.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::Error;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// Time between pings. A shorter one detects vanished clients sooner and wakes sleeping phones more often.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// After this many pings with no input since the first, and one more interval, the client counts as gone: at most 30 s.
const MAX_UNANSWERED_PINGS: u32 = 2;

/// How long the server waits for the client's close frame after its own. A longer time helps no client that still
/// answers.
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
    /// The server's close frame is sent; the client's has not arrived.
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

/// Encodes a text message as one frame, which can be queued to several connections.
pub fn encode_text(text: &str) -> Arc<[u8]> {
    encode_data(Data::Text, text.as_bytes())
}

/// Encodes a binary message as one frame.
pub fn encode_binary(bytes: &[u8]) -> Arc<[u8]> {
    encode_data(Data::Binary, bytes)
}

fn encode_data(kind: Data, payload: &[u8]) -> Arc<[u8]> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    encode(OpCode::Data(kind), payload, &mut frame);
    frame.into()
}

/// Appends one final, unmasked frame (RFC 6455 section 5.2).
fn encode(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | u8::from(opcode));
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The fields of a frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHeader {
    is_final: bool,
    opcode: OpCode,
    length: u64,
}

impl FrameHeader {
    fn is_data(self) -> bool {
        matches!(self.opcode, OpCode::Data(_))
    }

    fn is_close(self) -> bool {
        self.opcode == OpCode::Control(Control::Close)
    }
}

/// The position in the client's stream of frames.
#[derive(Debug, Default)]
struct FrameCursor {
    /// The frame header so far: two bytes, up to eight of length, four of mask.
    bytes: [u8; 14],
    filled: usize,
    head: Option<FrameHeader>,
    /// Payload bytes of this frame that have not arrived yet.
    remaining: u64,
}

/// The result of one `advance`, which never passes the end of a frame.
struct Step {
    length: usize,
    begun: Option<FrameHeader>,
    ended: Option<FrameHeader>,
}

impl FrameCursor {
    fn advance(&mut self, data: &[u8]) -> Step {
        let mut length = 0;
        let mut begun = None;
        if self.head.is_none() {
            while self.filled < self.header_length() {
                let Some(&byte) = data.get(length) else {
                    return Step { length, begun, ended: None };
                };
                self.bytes[self.filled] = byte;
                self.filled += 1;
                length += 1;
            }
            let head = self.parse_header();
            self.remaining = head.length;
            self.head = Some(head);
            begun = Some(head);
        }
        let left = data.len() - length;
        let payload = usize::try_from(self.remaining).map_or(left, |remaining| remaining.min(left));
        self.remaining -= payload as u64;
        length += payload;
        let mut ended = None;
        if self.remaining == 0 {
            ended = self.head.take();
            self.filled = 0;
        }
        Step { length, begun, ended }
    }

    /// The length of the frame header, as far as the bytes so far determine it.
    fn header_length(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let mask = if self.bytes[1] & 0x80 != 0 { 4 } else { 0 };
        2 + self.extended_length() + mask
    }

    fn extended_length(&self) -> usize {
        match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn parse_header(&self) -> FrameHeader {
        let extended = &self.bytes[2..2 + self.extended_length()];
        let length = match extended {
            [] => u64::from(self.bytes[1] & 0x7f),
            bytes => bytes.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
        };
        FrameHeader { is_final: self.bytes[0] & 0x80 != 0, opcode: OpCode::from(self.bytes[0] & 0x0f), length }
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

/// The client's end, for tests: encodes masked frames and parses the server's.
#[cfg(test)]
pub(crate) mod client {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
    pub const FIN: u8 = 0x80;

    /// Encodes a masked frame; `first` is the opcode with its flags.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = head(first, payload.len() as u64);
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// Encodes the header of a masked frame that announces this length, without the mask.
    pub fn head(first: u8, length: u64) -> Vec<u8> {
        let mut head = vec![first];
        match length {
            0..=125 => head.push(0x80 | length as u8),
            126..=0xffff => {
                head.push(0x80 | 126);
                head.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                head.push(0x80 | 127);
                head.extend_from_slice(&length.to_be_bytes());
            }
        }
        head
    }

    /// Parses the server's frames into opcode and payload. Asserts that they are complete, final and unmasked.
    pub fn parse(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let [first, second, rest @ ..] = bytes {
            assert_eq!((first & 0xf0, second & 0x80), (0x80, 0), "final, no extension, not masked");
            let (length, rest) = match second {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
                &length => (usize::from(length), rest),
            };
            frames.push((first & 0x0f, rest[..length].to_vec()));
            bytes = &rest[length..];
        }
        assert!(bytes.is_empty(), "{bytes:?}");
        frames
    }
}

#[cfg(test)]
mod tests {
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
            (
                1007,
                "cut character at the last fragment",
                [frame(TEXT, &[0xe2]), frame(FIN | CONTINUATION, &[])].concat(),
            ),
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
}
