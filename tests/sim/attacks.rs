//! Attackers: connections that belong to no browser, and forged datagrams.

use std::net::SocketAddr;

use aq_server::id::ConnId;
use aq_server::server::Input;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use serde_json::json;

use crate::fault::Fault::{self, *};
use crate::sim::{Kind, Sim, addr};
use crate::token::token;

/// The first connection id of attackers.
const FIRST_CONN: u64 = 1 << 32;

/// The last attribute of a connectivity check, which the integrity does not cover (RFC 8489 section 14.7).
const FINGERPRINT_BYTES: usize = 8;

/// The name of an attacker that joins a room.
pub const MALLORY: &str = "mallory";

/// The address of single attacking connections.
const ALONE: &str = "203.0.113.66:7777";

/// The address of many connections, and how many of them the server accepts by default.
const CROWD: &str = "203.0.113.77:7777";
const MAX_CONNS: usize = 100;

/// A connection that belongs to no browser.
pub struct Stranger {
    remote: SocketAddr,
    pub is_open: bool,
    /// The bytes received.
    pub inbox: Vec<u8>,
}

impl Stranger {
    pub fn handle_data(&mut self, bytes: &[u8]) {
        assert!(self.is_open, "the server wrote to a closed connection");
        self.inbox.extend_from_slice(bytes);
    }
}

impl Sim {
    /// Attacks, possibly with knowledge of what a browser in the room sends. Returns whether the attack was possible.
    pub fn attack(&mut self, fault: Fault, victim: usize, rng: &mut StdRng) -> bool {
        match fault {
            HugeHead => self.write_raw(&[b"GET / HTTP/1.1\r\nX: ", &[b'x'; 20_000][..]].concat()),
            SlowHead => self.write_raw(b"GET / HTTP/1.1\r\nHost: sim"),
            TwoLengths => self.write_raw(
                b"POST / HTTP/1.1\r\nHost: sim\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x",
            ),
            NoHttp => {
                let mut noise = [0; 300];
                rng.fill_bytes(&mut noise);
                self.write_raw(&[&[0x16, 3, 1, 2, 0, 1][..], &noise].concat());
            }
            Traversal => {
                let paths = ["/aq_server/../../etc/passwd", "/aq_server/%2e%2e/Cargo.toml", "/aq_serverx/app.js"];
                let path = paths[rng.random_range(0..paths.len())];
                let conn = self.connect(addr(ALONE), format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
                self.assert_refused(conn, "404");
            }
            ManyConns => {
                for _ in 0..2 * MAX_CONNS {
                    self.connect(addr(CROWD), b"GET ");
                }
                let crowd = self.strangers.values().filter(|stranger| stranger.is_open && stranger.remote == addr(CROWD));
                assert_eq!(crowd.count(), MAX_CONNS, "open connections of one address");
            }
            CrossSite => {
                let conn = self.upgrade(victim, "Origin: https://elsewhere.example\r\n", "");
                self.assert_refused(conn, "403");
            }
            NoToken => {
                let conn = self.upgrade(victim, "", "&token=eyJhbGciOiJub25lIn0.eyJyb29tIjoicmVkIn0.");
                self.assert_refused(conn, "401");
            }
            BrokenFrame => {
                let broken: [&[u8]; 4] = [b"\xc1\x80\0\0\0\0", b"\x81\x02hi", b"\x83\x80\0\0\0\0", b"\x81\x81\0\0\0\0\xff"];
                self.write_member(victim, broken[rng.random_range(0..broken.len())]);
            }
            HugeFrame => self.write_member(victim, b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
            PingFlood => self.write_member(victim, &b"\x89\x80\0\0\0\0".repeat(400)),
            BadJson => self.write_member(victim, &text("{\"event\":[[[[").repeat(20)),
            UnaskedAnswer => {
                let data = json!({"type": "answer", "sdp": "v=0\r\n"}).to_string();
                self.write_member(victim, &text(&json!({"event": "answer", "data": data}).to_string()).repeat(3));
            }
            SdpBomb => {
                let data = json!({"type": "answer", "sdp": "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(1_500)}).to_string();
                self.write_member(victim, &text(&json!({"event": "answer", "data": data}).to_string()));
            }
            MessageFlood => {
                let mute = json!({"event": "mute", "source": "camera", "muted": true}).to_string();
                self.write_member(victim, &text(&mute).repeat(300));
            }
            NeverAnswered => self.write_member(victim, &[]),
            ChatFlood => {
                let chat = json!({"event": "chat", "data": "buy"}).to_string();
                self.write_member(victim, &text(&chat).repeat(200));
            }
            _ => return self.attack_media(fault, victim, rng),
        }
        self.fired.count(fault);
        true
    }

    fn attack_media(&mut self, fault: Fault, victim: usize, rng: &mut StdRng) -> bool {
        let recent: Vec<_> = self.links[victim].recent.iter().cloned().collect();
        let check = recent.iter().find(|(.., contents)| contents[0] <= 3).cloned();
        let stranger = addr("203.0.113.66:6666");
        match fault {
            StrangeCheck => {
                let Some((_, destination, mut contents)) = check else { return false };
                // Breaks the message integrity, or makes the datagram invalid STUN.
                let at = rng.random_range(0..contents.len() - FINGERPRINT_BYTES);
                contents[at] ^= 1 << rng.random_range(0..8);
                self.send_raw(stranger, destination, contents, 20);
            }
            ForgedCheck => {
                let Some((_, destination, contents)) = check else { return false };
                let room = &self.browsers[victim].room;
                let of_other = |(tag, other): (usize, &crate::browser::Browser)| {
                    (tag != victim && other.is_live() && other.room == *room).then(|| other.habits.addrs[0])
                };
                let Some(source) = self.browsers.iter().enumerate().find_map(of_other) else { return false };
                self.send_raw(source, destination, contents, 3);
            }
            CheckFlood => {
                let Some((_, destination, contents)) = check else { return false };
                let own = self.browsers[victim].habits.addrs[0];
                let source = SocketAddr::new(own.ip(), 61_900);
                let public = &mut self.links[victim].public;
                if public.is_empty() {
                    public.push(own);
                }
                // The server's responses are discarded.
                public.insert(0, source);
                self.send_raw(source, destination, contents, 300);
            }
            StrangeHello => {
                let destination = self.candidates[0];
                self.send_raw(stranger, destination, b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\x04\x01\0\0\0".to_vec(), 20);
            }
            BadPacket => {
                let Some((source, destination, _)) = recent.last().cloned() else { return false };
                for _ in 0..30 {
                    let mut contents = vec![0; rng.random_range(1..200)];
                    rng.fill_bytes(&mut contents);
                    contents[0] = contents[0] & 0x3f | 0x80;
                    self.send_raw(source, destination, contents, 1);
                }
            }
            Replayed => {
                // Replayed connectivity checks are answered at any time, so only media is replayed.
                let media = recent.into_iter().filter(|(.., contents)| contents[0] >> 6 == 2);
                let media: Vec<_> = media.collect();
                if media.is_empty() {
                    return false;
                }
                for (source, destination, contents) in media {
                    self.send_raw(source, destination, contents, 2);
                }
            }
            KeyframeStorm => {
                let now = self.now;
                if !self.browsers[victim].storm(now) {
                    return false;
                }
                self.collect(victim);
            }
            other => panic!("{other:?} is not an attack"),
        }
        self.fired.count(fault);
        true
    }

    pub(crate) fn send_raw(&mut self, source: SocketAddr, destination: SocketAddr, contents: Vec<u8>, times: usize) {
        for _ in 0..times {
            self.push(self.now, Kind::UpDatagram { source, destination, contents: contents.clone() });
        }
    }

    /// The URL parameter that a participant needs to join the room, if tokens are required.
    pub fn invitation(&self, room: &str) -> String {
        match self.is_guarded {
            true => format!("&token={}", token(&json!({"room": room, "exp": 4_000_000_000_u64}))),
            false => String::new(),
        }
    }

    /// Joins the victim's room and sends these bytes after the upgrade.
    fn write_member(&mut self, victim: usize, bytes: &[u8]) {
        let query = self.invitation(&self.browsers[victim].room);
        let conn = self.upgrade(victim, "", &query);
        self.write(conn, bytes);
    }

    /// Requests a WebSocket for the victim's room.
    fn upgrade(&mut self, victim: usize, fields: &str, query: &str) -> ConnId {
        let room = &self.browsers[victim].room;
        let head = format!(
            "GET /aq_server/websocket?room={room}&name={MALLORY}{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {fields}\r\n"
        );
        self.connect(addr(ALONE), head.as_bytes())
    }

    fn write_raw(&mut self, bytes: &[u8]) {
        self.connect(addr(ALONE), bytes);
    }

    /// Opens a new connection and writes these bytes to it.
    fn connect(&mut self, remote: SocketAddr, bytes: &[u8]) -> ConnId {
        let conn = ConnId(FIRST_CONN + self.strangers.len() as u64);
        self.strangers.insert(conn, Stranger { remote, is_open: true, inbox: Vec::new() });
        self.give(Input::Accepted { conn, remote, secure: false });
        self.drain_server();
        self.write(conn, bytes);
        conn
    }

    fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        for bytes in bytes.chunks(4_000) {
            if self.strangers[&conn].is_open {
                self.give(Input::Data { conn, bytes });
                self.drain_server();
            }
        }
    }

    fn assert_refused(&self, conn: ConnId, status: &str) {
        let reply = String::from_utf8_lossy(&self.strangers[&conn].inbox);
        assert_eq!(reply.split(' ').nth(1), Some(status), "{reply:?}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{reply:?}");
    }
}

/// A text frame, masked with zeros.
fn text(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0xfe);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.bytes());
    frame
}
