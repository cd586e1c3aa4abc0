//! The trace of a simulation: a hash of everything that entered and left the server, with time and order.
//!
//! Left out is what depends on the random numbers of the cryptographic library: the contents and lengths of DTLS
//! datagrams, encrypted contents (but not the RTP header, which is in the clear), and the certificate fingerprint in
//! the SDP.

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use aq_server::id::ConnId;
use aq_server::media::transport::route::Route;
use aq_server::server::Input;

use crate::network::{is_dtls, rtp_header};

/// The prefix of a certificate fingerprint in SDP; 32 bytes in colon-separated hexadecimal follow.
const FINGERPRINT: &[u8] = b"fingerprint:sha-256 ";
const FINGERPRINT_CHARS: usize = 95;

#[derive(Default)]
pub struct Trace {
    hasher: DefaultHasher,
    /// The hash after each event, if recorded.
    pub steps: Option<Vec<(u64, String)>>,
}

impl Trace {
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub fn handle_input(&mut self, at: Duration, input: &Input<'_>) {
        match input {
            Input::Accepted { conn, .. } => self.note(at, "accepted", conn.0, &[]),
            Input::Data { conn, bytes } => self.note(at, "data", conn.0, &without_fingerprint(bytes)),
            Input::Written { conn, bytes } => self.note(at, "written", conn.0, &bytes.to_be_bytes()),
            Input::Eof { conn } => self.note(at, "eof", conn.0, &[]),
            Input::Gone { conn } => self.note(at, "gone", conn.0, &[]),
            Input::Datagram { source, destination, contents } => {
                self.packet(at, "datagram", (*source, *destination), contents);
            }
            Input::Timeout => self.note(at, "timeout", 0, &[]),
            Input::Load { share } => self.note(at, "load", 0, &share.to_be_bytes()),
            Input::Addresses { candidates } => self.note(at, "addresses", candidates.len() as u64, &[]),
            Input::Shutdown => self.note(at, "shutdown", 0, &[]),
        }
    }

    pub fn handle_data(&mut self, at: Duration, conn: ConnId, bytes: &[u8]) {
        self.note(at, "sent data", conn.0, &without_fingerprint(bytes));
    }

    pub fn handle_close(&mut self, at: Duration, conn: ConnId) {
        self.note(at, "closed", conn.0, &[]);
    }

    pub fn handle_datagram(&mut self, at: Duration, route: Route, contents: &[u8]) {
        self.packet(at, "sent datagram", (route.remote, route.local), contents);
    }

    fn packet(&mut self, at: Duration, what: &str, (remote, local): (SocketAddr, SocketAddr), contents: &[u8]) {
        let mut noted = format!("{remote} {local} ").into_bytes();
        if !is_dtls(contents) {
            noted.extend(contents.len().to_be_bytes());
            let clear = match contents.first() {
                Some(0..=3) => contents.len(),
                _ if rtp_header(contents).is_some() => 12,
                _ => 0,
            };
            noted.extend(&contents[..clear]);
        }
        self.note(at, what, 0, &noted);
    }

    fn note(&mut self, at: Duration, what: &str, id: u64, bytes: &[u8]) {
        self.hasher.write_u128(at.as_nanos());
        self.hasher.write(what.as_bytes());
        self.hasher.write_u64(id);
        self.hasher.write(bytes);
        if let Some(steps) = &mut self.steps {
            steps.push((self.hasher.finish(), format!("{at:?} {what} {id} {}", String::from_utf8_lossy(bytes))));
        }
    }
}

fn without_fingerprint(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(FINGERPRINT.len()).position(|window| window == FINGERPRINT) {
        let start = at + found + FINGERPRINT.len();
        at = bytes.len().min(start + FINGERPRINT_CHARS);
        bytes[start..at].fill(b'?');
    }
    bytes
}
