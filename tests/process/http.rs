//! A small HTTP/1.1 client that can send invalid requests.

use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::Value;

use crate::wire::Wire;

/// One connection.
pub struct Http {
    pub wire: Wire,
    /// Bytes received after the last response.
    input: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Http {
    pub fn new(wire: Wire) -> Self {
        Self { wire, input: Vec::new() }
    }

    pub fn connect(addr: SocketAddr) -> Self {
        Self::new(Wire::plain(addr))
    }

    /// Sends a request with these header lines and reads the response.
    pub fn request(&mut self, method: &str, target: &str, headers: &[&str]) -> Response {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            head += "Host: localhost\r\n";
        }
        for header in headers {
            head += &format!("{header}\r\n");
        }
        self.send(head + "\r\n");
        self.response(method != "HEAD")
    }

    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Reads one response; `with_body` is false for a response to HEAD.
    pub fn response(&mut self, with_body: bool) -> Response {
        let head_end = loop {
            if let Some(at) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill(), "closed in a head: {:?}", String::from_utf8_lossy(&self.input));
        };
        let head = String::from_utf8(self.input.drain(..head_end).collect()).expect("a head is text");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let headers = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("a header line: {line:?}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut response = Response { status: status.expect("a status line"), headers, body: Vec::new() };
        let length = response.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if with_body {
            while self.input.len() < length {
                assert!(self.fill(), "closed in a body");
            }
            response.body = self.input.drain(..length).collect();
        }
        response
    }

    /// Waits until the server closes. Returns the bytes received before.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.input)
    }

    /// Reads some bytes; false at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let read = self.wire.read(&mut buffer).expect("an answer in time");
        self.input.extend(&buffer[..read]);
        read > 0
    }
}

impl Response {
    /// The value of a header that occurs at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = found.next();
        assert!(found.next().is_none(), "{name} is there twice");
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{:?}: {error}", self.text()))
    }
}

/// One request on a connection of its own.
pub fn get(addr: SocketAddr, target: &str) -> Response {
    Http::connect(addr).request("GET", target, &["Connection: close"])
}
