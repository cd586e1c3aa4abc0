//! The world that targets run in: a server without I/O, its clients, and a simulated clock.
//!
//! Ann and Bob are well-behaved clients. Whatever the others do, Ann and Bob stay connected and receive each other's
//! audio. When the others have left, no state of them may remain. The next input then uses the same world, because
//! creating one takes longer than running most inputs.

mod clients;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aq_server::clock::Wall;
use aq_server::config::Config;
use aq_server::id::ConnId;
use aq_server::media::transport::dtls;
use aq_server::media::transport::srtp::Srtp;
use aq_server::server::{Input, Output, Server, Setup, Sizes};
use aq_server::web::assets::Assets;
use serde_json::{Value, json};
use str0m::change::SdpOffer;
use str0m::crypto::dtls::DtlsCert;
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Rtc, RtcConfig};

use crate::wire::{frame, take_frame};

/// Number of outputs for one input, or of turns at one instant, that counts as an endless loop.
const MANY: usize = 20_000;

/// Number of inputs per world. More is faster, fewer makes failures shorter to reproduce.
const LIFETIME: u32 = 50;

/// Payload types in every offer.
const OPUS: u8 = 111;
const VP8: u8 = 96;

/// Indices of the well-behaved clients.
pub const ANN: usize = 0;
pub const BOB: usize = 1;

/// Index of the first other client.
pub const EVE: usize = 2;

thread_local! {
    /// The worlds without and with media, between two inputs.
    static KEPT: RefCell<[Option<World>; 2]> = const { RefCell::new([None, None]) };

    /// Number of inputs that the world of the next input has run.
    pub static AGE: Cell<u32> = const { Cell::new(0) };

    /// A shared certificate, because creating one takes longer than most inputs.
    static CERTIFICATE: DtlsCert =
        dtls::crypto_provider().dtls_provider.generate_certificate().expect("a certificate");
}

pub struct World {
    pub now: Instant,
    pub server: Server,
    pub clients: Vec<Client>,
    age: u32,
    media: bool,
    server_addr: SocketAddr,
    /// Number of the first connection after Ann's and Bob's.
    first_conn: u64,
    /// Addresses that have sent a datagram.
    heard: BTreeSet<SocketAddr>,
    chat_lines: u64,
    pub has_exited: bool,
    /// Number of packets that Ann has sent.
    sent: u32,
}

/// How a client answers offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    Never,
    /// With all m-lines inactive, so that it needs no media connection.
    Nothing,
    /// With all m-lines accepted.
    All,
}

pub struct Client {
    pub addr: SocketAddr,
    pub answers: Answers,
    /// Whether the server has not closed its connection.
    pub is_open: bool,
    /// Bytes received and not yet parsed.
    pub inbox: Vec<u8>,
    pub messages: Vec<Value>,
    /// The SDP of the outstanding offer.
    pub offer: Option<String>,
    pub rtc: Option<Box<Rtc>>,
    /// Whether it has accepted media, so that its `Rtc` runs.
    is_driven: bool,
    pub is_connected: bool,
    /// The keys of its `Rtc`.
    pub keys: Option<Srtp>,
    /// The m-lines of the last offer.
    pub mids: Vec<String>,
    /// Number of RTP packets received, and the last sequence number by SSRC.
    packets: u64,
    pub arrived: BTreeMap<u32, u16>,
    /// Next sequence number by SSRC that a target sends.
    pub numbers: BTreeMap<u32, u16>,
    /// Datagrams that its `Rtc` has sent.
    pub sent: Vec<Vec<u8>>,
    is_upgraded: bool,
    timeout: Instant,
}

impl Client {
    pub fn is_upgraded(&self) -> bool {
        self.is_upgraded
    }
}

impl World {
    /// Returns a world with Ann and Bob in the room `main`, with their media connected if `media` is true.
    pub fn take(media: bool) -> Self {
        // `keep` sets it again if the world is kept.
        AGE.set(0);
        let kept = KEPT.with_borrow_mut(|kept| kept[usize::from(media)].take());
        kept.unwrap_or_else(|| Self::new(media))
    }

    fn new(media: bool) -> Self {
        fastrand::seed(1);
        str0m::crypto::from_feature_flags().install_process_default();
        let now = Instant::now();
        let server_addr = SocketAddr::from(([192, 0, 2, 1], 8_080));
        let setup = Setup {
            config: Config::default(),
            assets: Assets::embedded(),
            candidates: vec![server_addr],
            wall: Wall { at: now, unix: Duration::from_secs(1_000_000_000), utc_offset_secs: 0 },
            seed: [7; 32],
        };
        let server = Server::new(now, setup);
        let mut world = Self {
            now,
            server,
            clients: Vec::new(),
            age: 0,
            media,
            server_addr,
            first_conn: 2,
            heard: BTreeSet::new(),
            chat_lines: 0,
            has_exited: false,
            sent: 0,
        };
        let answers = if media { Answers::All } else { Answers::Nothing };
        for (index, name) in ["ann", "bob"].into_iter().enumerate() {
            assert_eq!(world.join("main", name, answers), index);
        }
        world.run(Duration::from_millis(if media { 400 } else { 100 }));
        assert!(!media || world.clients.iter().all(|client| client.is_connected), "ann and bob are connected");
        world
    }

    /// Sends a datagram from any address.
    pub fn datagram(&mut self, source: SocketAddr, contents: &[u8]) {
        self.heard.insert(source);
        let destination = self.server_addr;
        self.server.handle_input(self.now, Input::Datagram { source, destination, contents });
        self.settle();
    }

    /// Advances time.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = (self.now, 0);
        loop {
            self.settle();
            let media = self
                .clients
                .iter()
                .filter(|client| client.rtc.is_some() && client.is_driven)
                .map(|client| client.timeout);
            let Some(due) = media.chain(self.server.next_timeout()).min().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            turns = if turns.0 == self.now { (self.now, turns.1 + 1) } else { (self.now, 0) };
            assert!(turns.1 < MANY, "the server's timeout stays due at one instant");
            for index in 0..self.clients.len() {
                if self.clients[index].timeout <= self.now && self.clients[index].is_driven {
                    self.drive(index);
                }
            }
            self.server.handle_input(self.now, Input::Timeout);
        }
    }

    /// Checks the invariants that hold after any input.
    pub fn check(&mut self) {
        // As many chat messages as Bob may write.
        self.run(Duration::from_millis(100));
        self.chat_lines += 1;
        let line = format!("line {}", self.chat_lines);
        self.text(BOB, &json!({ "event": "chat", "data": line }).to_string());
        for name in [ANN, BOB] {
            let client = &self.clients[name];
            assert!(client.is_open, "client {name} was closed: {:?}", client.messages.last());
            // An error about an undecodable track concerns another participant.
            let is_refusal = |message: &Value| message["event"] == "error" && message["id"].is_null();
            let refusal = client.messages.iter().find(|message| is_refusal(message));
            assert!(refusal.is_none(), "client {name} was refused: {refusal:?}");
        }
        let is_line = |message: &&Value| message["event"] == "chat" && message["message"] == line;
        assert_eq!(self.clients[ANN].messages.iter().filter(is_line).count(), 1, "{line:?} is received once");
        if self.media {
            self.speak();
        }
        let open = self.clients.iter().filter(|client| client.is_open).count();
        let Sizes { conns, participants: members, rooms, resumes, ufrags, .. } = self.server.sizes();
        // A participant whose connection has ended may resume for some time.
        assert!(
            conns <= open && members <= self.clients.len() && rooms <= members,
            "{conns} conns, {members} members, {rooms} rooms"
        );
        assert_eq!((resumes, ufrags), (members, members), "each participant has a resume secret and a ufrag");
    }

    /// Lets all other clients leave, checks the invariants, and keeps the world for the next input.
    pub fn finish(mut self) {
        self.check();
        for index in BOB + 1..self.clients.len() {
            self.end(index, index.is_multiple_of(2));
        }
        self.run(Duration::from_secs(1));
        // Some may resume within half a minute.
        for _ in 0..31 {
            if self.server.sizes().participants > 2 {
                self.run(Duration::from_secs(1));
            }
        }
        self.check();
        let Sizes { conns, participants: members, rooms, .. } = self.server.sizes();
        assert_eq!([conns, members, rooms], [2, 2, 1], "no state remains of clients that left");
        self.first_conn += self.clients.len() as u64 - 2;
        self.clients.truncate(2);
        self.keep();
    }

    /// Checks the invariants and keeps the world for the next input, including a connected third client.
    pub fn finish_with_eve(mut self) {
        if !self.clients[EVE].is_open || self.clients[EVE].keys.is_none() {
            return self.finish();
        }
        self.check();
        self.keep();
    }

    /// Ann sends an audio packet; checks that Bob receives it.
    fn speak(&mut self) {
        let before = self.clients[BOB].packets;
        // The first m-line is the microphone's.
        self.send(0, OPUS, vec![1; 20]);
        assert_eq!(self.clients[BOB].packets, before + 1, "Bob receives Ann's audio");
    }

    /// Ann sends a keyframe of one packet (RFC 7741 section 4).
    pub fn show(&mut self) {
        self.send(
            1,
            VP8,
            [&[0x10, 0x50, 0x2b, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01][..], &[0; 300]].concat(),
        );
    }

    fn send(&mut self, line: usize, pt: u8, payload: Vec<u8>) {
        let now = self.now;
        self.sent += 1;
        let ann = &mut self.clients[ANN];
        let mid = ann.mids[line].as_str().into();
        let mut direct = ann.rtc.as_mut().expect("Ann is connected").direct_api();
        let stream = direct.stream_tx_by_mid(mid, None).expect("Ann sends on this m-line");
        let number = ann.numbers.entry(*stream.ssrc()).or_default();
        *number += 1;
        stream.write_rtp(RtpWrite::new(pt.into(), u64::from(*number).into(), 960 * self.sent, now, payload));
        self.drive(ANN);
        self.settle();
    }

    fn keep(mut self) {
        for client in &mut self.clients {
            client.messages.clear();
            client.sent.clear();
        }
        self.age = (self.age + 1) % LIFETIME;
        AGE.set(self.age);
        if self.age > 0 {
            let place = usize::from(self.media);
            KEPT.with_borrow_mut(|kept| kept[place] = Some(self));
        }
    }

    /// Delivers all output of the server.
    pub fn settle(&mut self) {
        for _ in 0..MANY {
            let mut written = None;
            let mut arrived = Vec::new();
            match self.server.poll_output() {
                None => return,
                Some(Output::Exit) => self.has_exited = true,
                Some(Output::Close { conn }) => {
                    let client = &mut self.clients[index_of(self.first_conn, conn)];
                    assert!(std::mem::take(&mut client.is_open), "a connection is closed once");
                    client.rtc = None;
                }
                Some(Output::Data { conn, bytes }) => {
                    assert!(!bytes.is_empty(), "the server writes at least one byte");
                    let client = &mut self.clients[index_of(self.first_conn, conn)];
                    assert!(client.is_open, "bytes for a closed connection");
                    client.inbox.extend_from_slice(&bytes);
                    written = Some((conn, bytes.len()));
                }
                Some(Output::Datagrams(datagrams)) => {
                    arrived.extend(datagrams.iter().map(|(route, contents)| (route.remote, contents.to_vec())));
                }
            }
            if let Some((conn, bytes)) = written {
                self.server.handle_input(self.now, Input::Written { conn, bytes });
                self.read(index_of(self.first_conn, conn));
            }
            for (destination, contents) in arrived {
                assert!(self.heard.contains(&destination), "a datagram to {destination}, which never sent any");
                assert!(contents.len() <= 1_472, "a datagram of {} bytes is fragmented", contents.len());
                if let Some(index) = self.clients.iter().position(|client| client.addr == destination) {
                    self.deliver(index, &contents);
                }
            }
        }
        panic!("the server's output does not end");
    }

    fn conn(&self, index: usize) -> ConnId {
        ConnId(if index <= BOB { index as u64 } else { self.first_conn + index as u64 - 2 })
    }
}

fn index_of(first_conn: u64, conn: ConnId) -> usize {
    if conn.0 < 2 { conn.0 as usize } else { (conn.0 - first_conn) as usize + 2 }
}
