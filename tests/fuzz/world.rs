//! The world that targets run in: a server without I/O, its clients, and a simulated clock.
//!
//! Ann and Bob are well-behaved clients. Whatever the others do, Ann and Bob stay connected and receive each other's
//! audio. When the others have left, no state of them may remain. The next input then uses the same world, because
//! creating one takes longer than running most inputs.

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

    /// Opens a TCP connection.
    pub fn connect(&mut self) -> usize {
        let index = self.clients.len();
        let conn = self.conn(index);
        let addr = SocketAddr::from(([198, 51, (conn.0 / 250) as u8, (conn.0 % 250) as u8 + 1], 40_000));
        self.clients.push(Client {
            addr,
            answers: Answers::Never,
            is_open: true,
            inbox: Vec::new(),
            messages: Vec::new(),
            offer: None,
            rtc: None,
            is_driven: false,
            is_connected: false,
            keys: None,
            mids: Vec::new(),
            packets: 0,
            arrived: BTreeMap::new(),
            numbers: BTreeMap::new(),
            sent: Vec::new(),
            is_upgraded: false,
            timeout: self.now,
        });
        self.server.handle_input(self.now, Input::Accepted { conn, remote: addr, secure: false });
        self.settle();
        index
    }

    /// Opens a WebSocket. `name` may contain further query parameters.
    pub fn join(&mut self, room: &str, name: &str, answers: Answers) -> usize {
        let index = self.connect();
        self.clients[index].answers = answers;
        let head = format!(
            "GET /aq_server/websocket?room={room}&name={name} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.data(index, head.as_bytes());
        index
    }

    /// Sends bytes on a client's TCP connection.
    pub fn data(&mut self, index: usize, bytes: &[u8]) {
        if self.clients[index].is_open && !bytes.is_empty() {
            self.server.handle_input(self.now, Input::Data { conn: self.conn(index), bytes });
            self.settle();
        }
    }

    /// Sends a text message.
    pub fn text(&mut self, index: usize, text: &str) {
        self.data(index, &frame(text.as_bytes()));
    }

    /// Sends an answer.
    pub fn answer(&mut self, index: usize, sdp: &str) {
        self.clients[index].offer = None;
        let data = json!({ "type": "answer", "sdp": sdp }).to_string();
        self.text(index, &json!({ "event": "answer", "data": data }).to_string());
    }

    /// Ends a TCP connection, properly or by an error.
    pub fn end(&mut self, index: usize, properly: bool) {
        let conn = self.conn(index);
        let client = &mut self.clients[index];
        client.rtc = None;
        if client.is_open {
            client.is_open = properly;
            self.server.handle_input(self.now, if properly { Input::Eof { conn } } else { Input::Gone { conn } });
            self.settle();
        }
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

    /// Returns a valid answer to a client's outstanding offer.
    pub fn honest_answer(&mut self, index: usize, answers: Answers) -> Option<String> {
        let now = self.now;
        let client = &mut self.clients[index];
        let offer = client.offer.take()?;
        let addr = client.addr;
        let rtc = client.rtc.get_or_insert_with(|| {
            let config = RtcConfig::new().set_crypto_provider(Arc::new(dtls::crypto_provider()));
            let config = config.set_dtls_cert(CERTIFICATE.with(Clone::clone)).set_rtp_mode(true);
            let mut rtc = config.build(now);
            rtc.add_local_candidate(Candidate::host(addr, "udp").expect("a usable address"));
            Box::new(rtc)
        });
        // A browser takes the active DTLS role (RFC 8842 section 5.3).
        let offer = SdpOffer::from_sdp_string(&offer.replace("a=setup:actpass", "a=setup:passive")).expect("an offer");
        let answer = rtc.sdp_api().accept_offer(offer).expect("an acceptable offer").to_sdp_string();
        client.timeout = now;
        client.is_driven |= answers == Answers::All;
        if answers == Answers::All {
            return Some(answer);
        }
        Some(answer.replace("a=sendonly", "a=inactive").replace("a=recvonly", "a=inactive"))
    }

    fn conn(&self, index: usize) -> ConnId {
        ConnId(if index <= BOB { index as u64 } else { self.first_conn + index as u64 - 2 })
    }

    /// Parses the bytes received on a WebSocket.
    fn read(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if !client.is_upgraded {
            let end = client.inbox.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end.filter(|_| client.inbox.starts_with(b"HTTP/1.1 101 ")) else { return };
            client.inbox.drain(..end + 4);
            client.is_upgraded = true;
        }
        while let Some((opcode, payload)) = take_frame(&mut self.clients[index].inbox) {
            match opcode {
                1 => self.on_message(index, serde_json::from_slice(&payload).expect("JSON")),
                8 | 10 => {}
                9 => {
                    let mut pong = frame(&payload);
                    pong[0] = 0x8a;
                    self.server.handle_input(self.now, Input::Data { conn: self.conn(index), bytes: &pong });
                }
                other => panic!("a frame with opcode {other}"),
            }
        }
    }

    fn on_message(&mut self, index: usize, message: Value) {
        let client = &mut self.clients[index];
        if message["event"] == "offer" {
            let description: Value =
                serde_json::from_str(message["data"].as_str().expect("a description")).expect("JSON");
            assert!(index > BOB || client.offer.is_none(), "an offer while another is outstanding");
            let sdp = description["sdp"].as_str().expect("SDP");
            let mids = sdp.lines().filter_map(|line| line.strip_prefix("a=mid:"));
            client.mids = mids.map(str::to_owned).collect();
            client.offer = Some(sdp.to_owned());
            let answers = client.answers;
            if answers != Answers::Never
                && let Some(sdp) = self.honest_answer(index, answers)
            {
                let data = json!({ "type": "answer", "sdp": sdp }).to_string();
                let text = json!({ "event": "answer", "data": data }).to_string();
                let bytes = &frame(text.as_bytes());
                self.server.handle_input(self.now, Input::Data { conn: self.conn(index), bytes });
            }
        }
        self.clients[index].messages.push(message);
    }

    /// Delivers a datagram to a client.
    fn deliver(&mut self, index: usize, contents: &[u8]) {
        let (now, source) = (self.now, self.server_addr);
        let client = &mut self.clients[index];
        if let [first, second, a, b, _, _, _, _, c, d, e, f, ..] = *contents
            && first >> 6 == 2
            && !(192..224).contains(&second)
        {
            client.arrived.insert(u32::from_be_bytes([c, d, e, f]), u16::from_be_bytes([a, b]));
        }
        let Some(rtc) = &mut client.rtc else { return };
        let receive = Receive::new(Protocol::Udp, source, client.addr, contents).expect("STUN, DTLS, RTP or RTCP");
        if rtc.handle_input(str0m::Input::Receive(now, receive)).is_err() {
            assert!(index > BOB, "a well-behaved client accepts what the server sends");
            client.rtc = None;
        }
        self.drain(index);
    }

    fn drive(&mut self, index: usize) {
        let now = self.now;
        if let Some(rtc) = &mut self.clients[index].rtc {
            rtc.handle_input(str0m::Input::Timeout(now)).expect("time passes");
            self.drain(index);
        }
    }

    /// Passes the output of a client's `Rtc` to the server.
    fn drain(&mut self, index: usize) {
        let client = &mut self.clients[index];
        while let Some(rtc) = &mut client.rtc {
            let output = rtc.poll_output();
            if let Some(exported) = dtls::take_exported() {
                client.keys = Srtp::new(&exported);
            }
            match output {
                Ok(str0m::Output::Timeout(at)) => {
                    client.timeout = at.max(self.now + Duration::from_millis(1));
                    return;
                }
                Ok(str0m::Output::Transmit(transmit)) => {
                    client.sent.push(transmit.contents.to_vec());
                    self.heard.insert(client.addr);
                    self.server.handle_input(
                        self.now,
                        Input::Datagram {
                            source: client.addr,
                            destination: self.server_addr,
                            contents: &transmit.contents,
                        },
                    );
                }
                Ok(str0m::Output::Event(Event::Connected)) => client.is_connected = true,
                Ok(str0m::Output::Event(Event::RtpPacket(_))) => client.packets += 1,
                Ok(str0m::Output::Event(_)) => {}
                Err(error) => {
                    assert!(index > BOB, "a well-behaved client failed: {error}");
                    client.rtc = None;
                }
            }
        }
    }
}

fn index_of(first_conn: u64, conn: ConnId) -> usize {
    if conn.0 < 2 { conn.0 as usize } else { (conn.0 - first_conn) as usize + 2 }
}
