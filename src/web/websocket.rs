//! A WebSocket: the server's end of one RFC 6455 connection, from bytes to texts and back.
//!
//! tungstenite judges frames and assembles messages; in front of it a `FrameCursor` finds where frames begin and
//! end, since it shows neither fragments nor the rate of frames. Every end but a vanished peer has a close frame
//! that says why. Once ours is sent, the cursor alone waits for the peer's: nothing after a breach is interpreted.
//! Extensions are never negotiated, so compression does not exist here.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::Error;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// Shorter finds vanished peers sooner and wakes sleeping phones more often.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Pings in a row without anything received after which the peer is gone, one interval after the last: at most 30 s.
const MAX_UNANSWERED_PINGS: u32 = 2;

/// How long after our close frame we wait for the peer's. Longer only helps peers that are about to vanish anyway.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// tungstenite's buffer for each connection, allocated at once. Most messages fit; larger ones get a buffer
/// that is given back after them.
const READ_BUFFER: usize = 4 * 1024;

/// Holds no more than one control frame: writes to memory never block.
const WRITE_BUFFER: usize = 4 * 1024;

/// The longest reason in a close frame: a control frame has 125 bytes, the code takes two (RFC 6455 section 5.5).
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
    /// Bytes of the message being received, as claimed by the heads of its frames.
    message_bytes: u64,
    /// When this peer's frames will have used up their time (the generic cell rate algorithm).
    frames_until: Instant,
    next_ping: Instant,
    unanswered_pings: u32,
    messages: VecDeque<Message>,
    output: Vec<u8>,
}

/// How far one peer can go. The defaults are what everybody gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes. Lower refuses answers to large offers; higher lets every peer make us buffer that
    /// much.
    pub message_bytes: usize,
    /// The most fragments of a message: 64 bytes each by default. Fewer might refuse a peer that cuts finely; more only
    /// cost, since a fragment takes more work than the bytes in it.
    pub fragments: u32,
    /// The time that one frame uses up of a peer's allowance: 50 frames a second. A page sends a few on a join, then one
    /// for each line of chat.
    pub frame_interval: Duration,
    /// How far a peer may be ahead of that: 100 frames at once. Lower cuts off candidates, which come in one burst.
    pub frame_burst: Duration,
    /// The most bytes queued for the peer. Lower cuts off peers on bad networks in busy rooms; higher multiplies by the
    /// connections.
    pub queued_bytes: usize,
}

/// A message from the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// UTF-8.
    Text(String),
    /// Anything.
    Binary(Vec<u8>),
}

#[derive(Debug)]
enum State {
    Open,
    /// Our close frame is sent, the peer's is awaited.
    Closing {
        until: Instant,
        reason: &'static str,
    },
    Ended {
        reason: &'static str,
    },
}

impl WebSocket {
    /// An endpoint whose upgrade was just answered.
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

    /// Takes bytes from the peer, cut anywhere.
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
            // A frame that was refused at its head is not interpreted.
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

    /// Time has passed: pings, and gives up on who does not answer.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Open if now >= self.next_ping => {
                if self.unanswered_pings >= MAX_UNANSWERED_PINGS {
                    self.state = State::Ended { reason: "peer gone" };
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

    /// The next message from the peer.
    pub fn poll_message(&mut self) -> Option<Message> {
        let message = self.messages.pop_front();
        if message.is_none() {
            self.messages = VecDeque::new();
        }
        message
    }

    /// Control frames to send: pongs, pings, close. Messages are encoded by the caller.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.output.is_empty() { None } else { Some(std::mem::take(&mut self.output)) }
    }

    /// Changes how long a message may be. It counts for frames that begin after this.
    pub fn set_message_limit(&mut self, bytes: usize) {
        self.limits.message_bytes = bytes;
        self.context.set_config(|config| {
            config.max_message_size = Some(bytes);
            config.max_frame_size = Some(bytes);
        });
    }

    /// Sends a close frame, once, and takes no more messages.
    pub fn close(&mut self, now: Instant, code: u16, reason: &str) {
        self.start_close(now, code.into(), reason, "closed by server");
    }

    /// Tells whether texts may still be sent: they must not follow a close frame.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Why it ended: nothing more is received or sent, but what `poll_transmit` still has.
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

    /// Counts a frame, at its head.
    fn on_frame(&mut self, now: Instant, head: FrameHead) {
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

    /// Gives bytes, of at most one frame, to tungstenite.
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
                self.state = State::Ended { reason: "closed by peer" };
                return;
            }
            Error::Capacity(_) => (CloseCode::Size, "message too big"),
            Error::Utf8(_) => (CloseCode::Invalid, "bad UTF-8"),
            _ => (CloseCode::Protocol, "protocol error"),
        };
        self.start_close(now, code, reason, reason);
    }

    /// Gives back what a large message made tungstenite allocate; a context between messages has nothing else to
    /// keep.
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

/// Encodes a text message as one frame, to be queued to any number of connections.
pub fn encode_text(text: &str) -> Arc<[u8]> {
    encode_data(Data::Text, text.as_bytes())
}

/// The same of any bytes.
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

/// What the head of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    is_final: bool,
    opcode: OpCode,
    length: u64,
}

impl FrameHead {
    fn is_data(self) -> bool {
        matches!(self.opcode, OpCode::Data(_))
    }

    fn is_close(self) -> bool {
        self.opcode == OpCode::Control(Control::Close)
    }
}

/// Where in the stream of frames the peer is.
#[derive(Debug, Default)]
struct FrameCursor {
    /// The head so far: two bytes, up to eight of length, four of mask.
    bytes: [u8; 14],
    filled: usize,
    head: Option<FrameHead>,
    /// Payload bytes of this frame that are still to come.
    remaining: u64,
}

/// How far the cursor went: never past the end of a frame.
struct Step {
    length: usize,
    begun: Option<FrameHead>,
    ended: Option<FrameHead>,
}

impl FrameCursor {
    fn advance(&mut self, data: &[u8]) -> Step {
        let mut length = 0;
        let mut begun = None;
        if self.head.is_none() {
            while self.filled < self.head_length() {
                let Some(&byte) = data.get(length) else {
                    return Step { length, begun, ended: None };
                };
                self.bytes[self.filled] = byte;
                self.filled += 1;
                length += 1;
            }
            let head = self.parse_head();
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

    /// The length of the head, as far as it can be told from what is there.
    fn head_length(&self) -> usize {
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

    fn parse_head(&self) -> FrameHead {
        let extended = &self.bytes[2..2 + self.extended_length()];
        let length = match extended {
            [] => u64::from(self.bytes[1] & 0x7f),
            bytes => bytes.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
        };
        FrameHead { is_final: self.bytes[0] & 0x80 != 0, opcode: OpCode::from(self.bytes[0] & 0x0f), length }
    }
}

/// What tungstenite reads and writes in one call: bytes in memory.
struct MemoryStream<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for MemoryStream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            // Nothing yet; 0 bytes would be the end of the connection.
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

/// The peer's end, for tests: masked frames out, our frames in.
#[cfg(test)]
pub(crate) mod peer {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
    pub const FIN: u8 = 0x80;

    /// A masked frame; `first` is the opcode with its flags.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = head(first, payload.len() as u64);
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    /// The head of a masked frame that claims this length, without the mask.
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

    /// The server's frames in these bytes: opcode and payload. Asserts that they are whole, final and unmasked.
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
    use super::peer::*;
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

    /// The code of the one close frame that was sent.
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
    fn texts_in_any_cut() {
        let long = "é".repeat(20_000);
        let stream = [
            frame(FIN | TEXT, b"one"),
            frame(TEXT, b"t"),
            frame(FIN | PING, b"between fragments"),
            // A character cut by the fragments.
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
    fn binary_is_no_text() {
        let now = Instant::now();
        let mut socket = WebSocket::new(now, Limits::default());
        socket.handle_data(now, &[frame(BINARY, &[0xff]), frame(FIN | CONTINUATION, &[0])].concat());
        assert_eq!(socket.poll_message(), Some(Message::Binary(vec![0xff, 0])));
    }

    #[test]
    fn breaches_are_closed_with_their_code() {
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
    fn too_big_is_refused_at_the_head() {
        let now = Instant::now();
        let limit = 100_000;
        let limits = Limits { message_bytes: limit as usize, ..Limits::default() };
        for claimed in [limit + 1, 16 << 20, 1 << 32, 1 << 63, u64::MAX] {
            let mut socket = WebSocket::new(now, limits);
            socket.handle_data(now, &head(FIN | TEXT, claimed));
            assert_eq!(close_code(&mut socket), None, "the mask is not here");
            socket.handle_data(now, &[1, 2, 3, 4]);
            assert_eq!(close_code(&mut socket), Some(1009), "{claimed} bytes");
        }
        let mut socket = WebSocket::new(now, limits);
        socket.handle_data(now, &frame(TEXT, &vec![b'a'; limit as usize]));
        assert!(socket.is_open());
        socket.handle_data(now, &frame(CONTINUATION, b"a"));
        assert_eq!(close_code(&mut socket), Some(1009), "the sum of fragments");
    }

    #[test]
    fn the_limit_of_a_message_changes() {
        let now = Instant::now();
        let mut socket = WebSocket::new(now, Limits::default());
        let message = vec![b'a'; Limits::default().message_bytes + 1];
        socket.set_message_limit(message.len());
        // Twice: what a large message allocated was given back, and the limit stayed.
        for _ in 0..2 {
            socket.handle_data(now, &frame(FIN | TEXT, &message));
            assert_eq!(messages(&mut socket).len(), 1);
        }
        let longer = [&message[..], b"a"].concat();
        socket.handle_data(now, &frame(FIN | TEXT, &longer));
        assert_eq!(close_code(&mut socket), Some(1009));
    }

    #[test]
    fn endless_fragments_are_cut() {
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
    fn the_rate_of_frames() {
        for opcode in [FIN | PING, FIN | PONG, FIN | TEXT] {
            let start = Instant::now();
            let mut socket = WebSocket::new(start, Limits::default());
            for _ in 0..100 {
                socket.handle_data(start, &frame(opcode, b""));
            }
            assert!(socket.is_open(), "a burst of 100");
            // More than a message may have fragments: messages of one frame do not add up.
            for tick in 1..=2000 {
                socket.handle_data(start + Limits::default().frame_interval * tick, &frame(opcode, b""));
            }
            assert!(socket.is_open(), "50 a second");
            socket.handle_data(start + Limits::default().frame_interval * 2000, &frame(opcode, b""));
            assert_eq!(close_code(&mut socket), Some(1008));
        }
    }

    #[test]
    fn every_ping_has_its_pong() {
        let now = Instant::now();
        let mut socket = WebSocket::new(now, Limits::default());
        let pings: Vec<u8> = (0..10).flat_map(|i| frame(FIN | PING, &[i])).collect();
        socket.handle_data(now, &pings);
        let expected: Vec<_> = (0..10).map(|i| (PONG, vec![i])).collect();
        assert_eq!(sent(&mut socket), expected);
    }

    #[test]
    fn a_silent_peer_is_gone_within_30_s() {
        let start = Instant::now();
        let mut socket = WebSocket::new(start, Limits::default());
        let (mut now, mut pings) = (start, 0);
        while socket.ended().is_none() {
            now = socket.next_timeout().unwrap();
            socket.handle_timeout(now);
            pings += sent(&mut socket).len();
        }
        assert_eq!((pings, now - start, socket.ended()), (2, secs(30), Some("peer gone")));
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
    fn closed_by_the_peer() {
        let now = Instant::now();
        for (payload, reply) in [(&[3, 0xe9, b'x'][..], &[3, 0xe9, b'x'][..]), (&[], &[])] {
            let mut socket = WebSocket::new(now, Limits::default());
            let bytes = [frame(FIN | TEXT, b"bye"), frame(FIN | CLOSE, payload), frame(FIN | TEXT, b"late")].concat();
            socket.handle_data(now, &bytes);
            assert_eq!(messages(&mut socket), ["bye"]);
            assert_eq!(sent(&mut socket), [(CLOSE, reply.to_vec())]);
            assert_eq!(socket.ended(), Some("closed by peer"));
        }
    }

    #[test]
    fn closed_by_us() {
        let now = Instant::now();
        let reason = "ü".repeat(100);
        let mut socket = WebSocket::new(now, Limits::default());
        socket.close(now, 1008, &reason);
        socket.close(now, 1000, "again");
        let expected = [&1008u16.to_be_bytes()[..], "ü".repeat(61).as_bytes()].concat();
        assert_eq!(sent(&mut socket), [(CLOSE, expected)]);
        assert_eq!(socket.ended(), None);
        let mut answered = socket;
        // What was on its way is skipped.
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
    fn encoded_texts() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let text = "x".repeat(length);
            assert_eq!(parse(&encode_binary(text.as_bytes())), [(BINARY, text.clone().into_bytes())]);
            assert_eq!(parse(&encode_text(&text)), [(TEXT, text.into_bytes())]);
        }
    }
}
