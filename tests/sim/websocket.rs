//! A WebSocket client (RFC 6455) on in-memory bytes, written by hand so that the server is not tested against its own
//! library.

/// The example of RFC 6455 section 1.3, whose accept value is known.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The client's end of one connection.
pub struct WebSocket {
    state: State,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    sent_close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Upgrading,
    Open,
    Closed,
}

/// Something the client received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The upgrade succeeded.
    Open,
    /// The upgrade was refused, with this status and body.
    Refused(u16, String),
    /// A text message.
    Text(String),
    /// The server's close frame; code 1005 if it has none.
    Closed(u16, String),
}

impl WebSocket {
    /// Requests an upgrade at `target`, a path with its query, with additional header fields.
    pub fn connect(target: &str, fields: &str) -> Self {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: sim.example:8080\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Origin: http://sim.example:8080\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{fields}\r\n"
        );
        Self { state: State::Upgrading, inbox: Vec::new(), outbox: request.into_bytes(), sent_close: false }
    }

    pub fn send_text(&mut self, text: &str) {
        self.send_frame(TEXT, text.as_bytes());
    }

    pub fn send_close(&mut self, code: u16) {
        if !std::mem::replace(&mut self.sent_close, true) {
            self.send_frame(CLOSE, &code.to_be_bytes());
        }
    }

    /// Handles bytes from the server.
    pub fn handle_data(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.inbox.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.take_event() {
            events.extend(event);
        }
        events
    }

    /// Takes the bytes to send to the server, if any.
    pub fn take_outbox(&mut self) -> Option<Vec<u8>> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open && !self.sent_close
    }

    /// Takes one step. `None`: more bytes are needed; `Some(None)`: handled without an event.
    fn take_event(&mut self) -> Option<Option<Event>> {
        match self.state {
            State::Upgrading => self.take_response().map(Some),
            State::Open => {
                let (opcode, payload) = self.take_frame()?;
                Some(self.on_frame(opcode, payload))
            }
            State::Closed => {
                assert!(self.inbox.is_empty(), "the server sent something after its close frame");
                None
            }
        }
    }

    fn take_response(&mut self) -> Option<Event> {
        let end = self.inbox.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.inbox[..end].to_vec()).expect("the response head is ASCII");
        let status: u16 = head[9..12].parse().expect("the response has a status");
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if status == 101 {
            assert_eq!(header("sec-websocket-accept").as_deref(), Some(ACCEPT));
            assert!(header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")));
            self.inbox.drain(..end);
            self.state = State::Open;
            return Some(Event::Open);
        }
        let length: usize =
            header("content-length").map_or(0, |length| length.parse().expect("Content-Length is a number"));
        let body = self.inbox.get(end..end + length)?.to_vec();
        self.inbox.clear();
        self.state = State::Closed;
        Some(Event::Refused(status, String::from_utf8(body).expect("the body is UTF-8")))
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&first, &second) = (self.inbox.first()?, self.inbox.get(1)?);
        assert_eq!(first & 0xf0, 0x80, "expected an unfragmented message without reserved bits (RFC 6455 section 5.2)");
        assert_eq!(second & 0x80, 0, "a server must not mask (RFC 6455 section 5.1)");
        let (start, length) = match second {
            126 => (4, u16::from_be_bytes(self.inbox.get(2..4)?.try_into().expect("two bytes")) as usize),
            127 => (10, u64::from_be_bytes(self.inbox.get(2..10)?.try_into().expect("eight bytes")) as usize),
            length => (2, length as usize),
        };
        let payload = self.inbox.get(start..start + length)?.to_vec();
        self.inbox.drain(..start + length);
        Some((first & 0x0f, payload))
    }

    fn on_frame(&mut self, opcode: u8, payload: Vec<u8>) -> Option<Event> {
        match opcode {
            TEXT => Some(Event::Text(String::from_utf8(payload).expect("a text message is UTF-8"))),
            PING => {
                self.send_frame(PONG, &payload);
                None
            }
            PONG => None,
            CLOSE => {
                let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                let reason = String::from_utf8(payload.get(2..).unwrap_or_default().to_vec())
                    .expect("the close reason is UTF-8");
                self.send_close(1000);
                self.state = State::Closed;
                Some(Event::Closed(code, reason))
            }
            opcode => panic!("unexpected opcode {opcode}"),
        }
    }

    fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        self.outbox.push(0x80 | opcode);
        match payload.len() {
            length @ 0..126 => self.outbox.push(0x80 | length as u8),
            length @ 126..65_536 => {
                self.outbox.push(0x80 | 126);
                self.outbox.extend((length as u16).to_be_bytes());
            }
            length => {
                self.outbox.push(0x80 | 127);
                self.outbox.extend((length as u64).to_be_bytes());
            }
        }
        self.outbox.extend(MASK);
        self.outbox.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}
