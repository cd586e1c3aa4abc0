//! A participant with a raw WebSocket, which can send what no browser would.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::call::wire::{frame, take_frame};
use crate::client::RETRY;
use crate::process::{DEADLINE, Process};
use crate::wire::Wire;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// One upgraded connection.
pub struct Guest {
    pub wire: Wire,
    inbox: Vec<u8>,
}

impl Guest {
    /// Joins; `query` begins with the room. Tries again while the server is overloaded.
    pub fn join(process: &Process, query: &str) -> Self {
        let until = Instant::now() + DEADLINE;
        loop {
            let mut guest = Self { wire: Wire::plain(process.addr()), inbox: Vec::new() };
            let head = guest.upgrade(query, "");
            if head.starts_with("HTTP/1.1 101") {
                return guest;
            }
            assert!(head.starts_with("HTTP/1.1 503") && Instant::now() < until, "{head}");
            std::thread::sleep(RETRY);
        }
    }

    /// Requests the upgrade with additional header lines, and returns the head of the response.
    pub fn ask(process: &Process, query: &str, fields: &str) -> String {
        Self { wire: Wire::plain(process.addr()), inbox: Vec::new() }.upgrade(query, fields)
    }

    fn upgrade(&mut self, query: &str, fields: &str) -> String {
        let head = format!(
            "GET /aq_server/websocket?room={query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {fields}\r\n"
        );
        self.send(head.as_bytes());
        loop {
            if let Some(at) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.inbox.drain(..at + 4).collect()).expect("a head is text");
            }
            assert!(self.fill(), "closed without an answer");
        }
    }

    /// Sends bytes. Returns false if the server has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).is_ok()
    }

    /// Sends a text message.
    pub fn say(&mut self, text: &str) -> bool {
        self.send(&frame(text.as_bytes()))
    }

    /// Sends a message with `data`.
    pub fn say_data(&mut self, event: &str, data: &str) -> bool {
        self.say(&json!({"event": event, "data": data}).to_string())
    }

    /// The next frame: opcode and payload. `None` at the end.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_frame(&mut self.inbox) {
                return Some(frame);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next message of an event.
    pub fn wait_for(&mut self, event: &str) -> Value {
        loop {
            let (opcode, payload) = self.next().unwrap_or_else(|| panic!("closed before {event}"));
            assert!(opcode != CLOSE, "closed before {event}: {}", String::from_utf8_lossy(&payload));
            let message: Value =
                if opcode == TEXT { serde_json::from_slice(&payload).expect("JSON") } else { continue };
            if message["event"] == event {
                return message;
            }
        }
    }

    /// The SDP of the next offer.
    pub fn offer(&mut self) -> String {
        let offer = self.wait_for("offer");
        let data: Value = serde_json::from_str(offer["data"].as_str().expect("text")).expect("JSON");
        data["sdp"].as_str().expect("text").to_owned()
    }

    /// Reads until the server closes. Returns code and reason of its close frame, and the codes of `error` events before.
    pub fn end(&mut self) -> End {
        let mut errors = Vec::new();
        while let Some((opcode, payload)) = self.next() {
            if opcode == CLOSE {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return End { code, reason: String::from_utf8_lossy(&payload[2..]).into_owned(), errors };
            }
            let Ok(message) = serde_json::from_slice::<Value>(&payload) else { continue };
            if message["event"] == "error" {
                errors.push(message["code"].as_str().expect("text").to_owned());
            }
        }
        panic!("the connection ended without a close frame after {errors:?}")
    }

    /// Returns the text messages received within `time`.
    pub fn messages(&mut self, time: Duration) -> Vec<Value> {
        let (end, mut messages) = (Instant::now() + time, Vec::new());
        self.wire.set_patience(Duration::from_millis(5));
        while Instant::now() < end {
            while let Some((opcode, payload)) = take_frame(&mut self.inbox) {
                if opcode == TEXT {
                    messages.push(serde_json::from_slice(&payload).expect("JSON"));
                }
            }
            self.fill();
        }
        self.wire.set_patience(DEADLINE);
        messages
    }

    /// Reads some bytes; false at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.wire.read(&mut buffer) {
            Ok(read) => {
                self.inbox.extend(&buffer[..read]);
                read > 0
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub struct End {
    pub code: u16,
    pub reason: String,
    pub errors: Vec<String>,
}
