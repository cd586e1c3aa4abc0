//! The bench's world: the server without I/O, and clients with real ICE, DTLS and SRTP, connected directly.
//!
//! All of the server's own work is measured, and nothing else: its inputs, timers and outputs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aq_server::clock::Wall;
use aq_server::config::Config;
use aq_server::id::ConnId;
use aq_server::media::transport::datagrams::Datagrams;
use aq_server::media::transport::route::Route;
use aq_server::server::{Input, Output, Server, Setup};
use aq_server::web::assets::Assets;
use serde_json::{Value, json};
use str0m::change::SdpOffer;
use str0m::media::{Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, SeqNo};
use str0m::{Candidate, Event, Rtc};

use crate::wire::{frame, sections, take_frame};

/// Payload of a video packet in bytes.
pub const VIDEO_BYTES: usize = 1_150;

/// Packets of a video frame: 1 Mbit/s at 30 frames a second.
pub const FRAME_PACKETS: usize = 4;

/// Datagrams in one receive batch.
const BATCH: usize = 64;

/// The server's current phase, for allocators that count its allocations.
pub static AT_WORK: AtomicUsize = AtomicUsize::new(IDLE);

/// The server is not running or not measured.
pub const IDLE: usize = 0;
/// The server handles datagrams.
pub const TAKING: usize = 1;
/// The server runs timers, forwards and yields outputs.
pub const GIVING: usize = 2;

/// One client.
pub struct Client {
    /// Its TCP connection.
    pub conn: ConnId,
    addr: SocketAddr,
    rtc: Rtc,
    timeout: Instant,
    inbox: Vec<u8>,
    greeted: bool,
    publishes: bool,
    /// The m-line on which it sends video.
    pub video: Option<Mid>,
    next_seq_no: u64,
    /// RTP packets that reached its address, without RTCP.
    pub arrived: u64,
    /// RTP packets that it decrypted.
    pub decrypted: u64,
    /// Keyframe requests that it received.
    pub keyframe_requests: u64,
    wants_keyframe: bool,
    /// Whether it decrypts its packets; for speed, not all clients do.
    pub sampled: bool,
    /// Whether it sends transport-wide congestion control feedback.
    pub reports: bool,
}

/// The server, its clients and the simulated time.
pub struct World {
    /// The server.
    pub server: Server,
    /// The clients.
    pub clients: Vec<Client>,
    /// Simulated time.
    pub now: Instant,
    /// Real time used by the server.
    pub spent: Duration,
    /// Whether the server's work is counted.
    pub is_measured: bool,
    by_addr: BTreeMap<SocketAddr, usize>,
    server_addr: SocketAddr,
    said: Said,
    /// Datagrams from clients that the server has not handled yet.
    outbox: Datagrams,
}

/// Output of the server that the clients have not handled yet.
#[derive(Default)]
struct Said {
    datagrams: Datagrams,
    bytes: Vec<(ConnId, Vec<u8>)>,
}

impl World {
    /// Creates a server without participants.
    pub fn new() -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        let now = Instant::now();
        let server_addr: SocketAddr = "192.0.2.1:8080".parse().expect("an address");
        let mut config = Config::default();
        config.limits.max_room_size = 5_000;
        config.limits.max_pending = 5_000;
        config.limits.last_n = 0;
        let setup = Setup {
            config,
            assets: Assets::embedded(),
            candidates: vec![server_addr],
            wall: Wall { at: now, unix: Duration::from_secs(1_000_000_000), utc_offset_secs: 0 },
            seed: [7; 32],
        };
        Self {
            server: Server::new(now, setup),
            clients: Vec::new(),
            now,
            spent: Duration::ZERO,
            is_measured: false,
            by_addr: BTreeMap::new(),
            server_addr,
            said: Said::default(),
            outbox: Datagrams::default(),
        }
    }

    /// Adds a participant and returns its index.
    pub fn join(&mut self, room: &str, publishes: bool, sampled: bool, reports: bool) -> usize {
        let index = self.clients.len();
        let addr = SocketAddr::from(([198, 51, (index / 250) as u8, (index % 250) as u8 + 1], 40_000));
        let mut rtc =
            Rtc::builder().set_rtp_mode(true).clear_codecs().enable_opus(true, false).enable_vp8(true).build(self.now);
        rtc.add_local_candidate(Candidate::host(addr, "udp").expect("a usable address"));
        let conn = ConnId(index as u64 + 1);
        self.clients.push(Client {
            conn,
            addr,
            rtc,
            timeout: self.now,
            inbox: Vec::new(),
            greeted: false,
            publishes,
            video: None,
            next_seq_no: 1_000,
            arrived: 0,
            decrypted: 0,
            keyframe_requests: 0,
            wants_keyframe: false,
            sampled,
            reports,
        });
        self.by_addr.insert(addr, index);
        let remote = SocketAddr::from(([127, 0, 0, 1], 1_024));
        self.server.handle_input(self.now, Input::Accepted { conn, remote, secure: false });
        let head = format!(
            "GET /aq_server/websocket?room={room}&name=c{index} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.server.handle_input(self.now, Input::Data { conn, bytes: head.as_bytes() });
        self.settle();
        index
    }

    /// Advances simulated time and runs the timers of clients and server.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let due = self.clients.iter().map(|client| client.timeout);
            let next = due.chain(self.server.next_timeout()).min().unwrap_or(end);
            self.now = next.clamp(self.now, end);
            for index in 0..self.clients.len() {
                if self.clients[index].timeout <= self.now {
                    self.drive(index);
                }
            }
            self.hear();
            self.tick();
            self.settle();
            if next > end {
                break;
            }
            self.now += Duration::from_micros(100);
        }
    }

    /// Returns the sealed datagrams of a client's next video frame; a keyframe if `keyframe` or if one was requested.
    pub fn frame(&mut self, index: usize, keyframe: bool) -> Datagrams {
        let client = &mut self.clients[index];
        let keyframe = std::mem::take(&mut client.wants_keyframe) || keyframe;
        let mid = client.video.expect("it publishes");
        let ssrc = client.rtc.direct_api().stream_tx_by_mid(mid, None).expect("a stream").ssrc();
        let mut datagrams = Datagrams::default();
        let way = Route { remote: self.server_addr, local: client.addr };
        let first = client.next_seq_no;
        let timestamp = (first as u32 / FRAME_PACKETS as u32).wrapping_mul(3_000);
        for packet in 0..FRAME_PACKETS {
            let mut payload = vec![packet as u8; VIDEO_BYTES];
            // VP8: extended descriptor with a 15-bit picture id; the frame header distinguishes keyframes.
            let start = if packet == 0 { 0x90 } else { 0x80 };
            let picture = (first / FRAME_PACKETS as u64) as u16 | 0x8000;
            payload[..4].copy_from_slice(&[start, 0x80, (picture >> 8) as u8, picture as u8]);
            payload[4] = u8::from(!(keyframe && packet == 0));
            payload[7..10].copy_from_slice(&[0x9d, 0x01, 0x2a]);
            let seq_no: SeqNo = client.next_seq_no.into();
            client.next_seq_no += 1;
            let pt: Pt = 96.into();
            let marker = packet + 1 == FRAME_PACKETS;
            let write = RtpWrite::new(pt, seq_no, timestamp, self.now, payload).marker(marker);
            client.rtc.direct_api().stream_tx(&ssrc).expect("a stream").write_rtp(write);
            client.rtc.handle_input(str0m::Input::Timeout(self.now)).expect("time passes");
            loop {
                match client.rtc.poll_output().expect("a client works") {
                    str0m::Output::Timeout(at) => {
                        client.timeout = at;
                        break;
                    }
                    str0m::Output::Transmit(transmit) => datagrams.push(way, &transmit.contents),
                    str0m::Output::Event(_) => {}
                }
            }
        }
        datagrams
    }

    /// Passes a receive batch to the server and collects its output.
    pub fn serve(&mut self, batch: &Datagrams) {
        self.give(batch);
        self.take();
    }

    /// Delivers the server's output to the clients.
    pub fn deliver(&mut self) {
        let said = std::mem::take(&mut self.said);
        let mut touched = Vec::new();
        for (route, contents) in said.datagrams.iter() {
            let Some(&index) = self.by_addr.get(&route.remote) else { continue };
            let client = &mut self.clients[index];
            let is_rtp = contents[0] >> 6 == 2 && !(64..96).contains(&(contents[1] & 0x7f));
            client.arrived += u64::from(is_rtp);
            if is_rtp && !client.sampled {
                continue;
            }
            let receive = Receive::new(Protocol::Udp, route.local, route.remote, contents)
                .expect("the server sends STUN, DTLS, RTP or RTCP");
            client.rtc.handle_input(str0m::Input::Receive(self.now, receive)).expect("a client works");
            self.drain(index);
        }
        for (conn, bytes) in said.bytes {
            let index = conn.0 as usize - 1;
            self.clients[index].inbox.extend_from_slice(&bytes);
            self.server.handle_input(self.now, Input::Written { conn, bytes: bytes.len() });
            touched.push(index);
        }
        touched.sort_unstable();
        touched.dedup();
        for index in touched {
            self.read(index);
            self.drive(index);
        }
    }

    /// Exchanges output until neither the server nor the clients have any.
    pub fn settle(&mut self) {
        loop {
            self.hear();
            self.take();
            if self.said.datagrams.is_empty() && self.said.bytes.is_empty() {
                return;
            }
            self.deliver();
        }
    }

    /// Passes the clients' datagrams to the server, in batches like those of a socket.
    fn hear(&mut self) {
        let said = std::mem::take(&mut self.outbox);
        let mut batch = Datagrams::default();
        let mut rest = said.iter().peekable();
        while rest.peek().is_some() {
            batch.clear();
            rest.by_ref().take(BATCH).for_each(|(route, contents)| batch.push(route, contents));
            self.serve(&batch);
        }
    }

    fn give(&mut self, batch: &Datagrams) {
        let start = Instant::now();
        if self.is_measured {
            input_counted(&mut self.server, self.now, batch);
        } else {
            input(&mut self.server, self.now, batch);
        }
        self.spent += start.elapsed();
    }

    /// Runs the server's timers if they are due.
    fn tick(&mut self) {
        if self.server.next_timeout().is_none_or(|due| due > self.now) {
            return;
        }
        let start = Instant::now();
        if self.is_measured {
            timeout_counted(&mut self.server, self.now);
        } else {
            self.server.handle_input(self.now, Input::Timeout);
        }
        self.spent += start.elapsed();
    }

    /// Copies the server's output, as the kernel would.
    fn take(&mut self) {
        loop {
            let start = Instant::now();
            let output = if self.is_measured { output_counted(&mut self.server) } else { self.server.poll_output() };
            self.spent += start.elapsed();
            match output {
                Some(Output::Datagrams(datagrams)) => {
                    datagrams.iter().for_each(|(route, contents)| self.said.datagrams.push(route, contents));
                }
                Some(Output::Data { conn, bytes }) => self.said.bytes.push((conn, bytes.to_vec())),
                Some(Output::Close { conn }) => panic!("the server closed {conn:?}"),
                Some(Output::Exit) => {}
                None => return,
            }
        }
    }

    fn read(&mut self, index: usize) {
        loop {
            let client = &mut self.clients[index];
            if !client.greeted {
                let Some(end) = client.inbox.windows(4).position(|window| window == b"\r\n\r\n") else { return };
                assert!(client.inbox.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&client.inbox));
                client.inbox.drain(..end + 4);
                client.greeted = true;
            }
            let Some((opcode, payload)) = take_frame(&mut client.inbox) else { return };
            if opcode != 1 {
                continue;
            }
            let message: Value = serde_json::from_slice(&payload).expect("JSON");
            match message["event"].as_str() {
                Some("offer") => self.on_offer(index, message["data"].as_str().expect("a description")),
                Some("error") => panic!("client {index}: {message}"),
                _ => {}
            }
        }
    }

    fn on_offer(&mut self, index: usize, data: &str) {
        let description: Value = serde_json::from_str(data).expect("JSON");
        let sdp = description["sdp"].as_str().expect("SDP");
        let client = &mut self.clients[index];
        let offer = SdpOffer::from_sdp_string(sdp).expect("an offer");
        let mut answer = client.rtc.sdp_api().accept_offer(offer).expect("an acceptable offer").to_sdp_string();
        if !client.publishes {
            answer = answer.replace("a=sendonly", "a=inactive");
        }
        if !client.reports {
            let kept = answer.split_inclusive('\n').filter(|line| !line.contains("transport-wide-cc-extensions"));
            answer = kept.collect();
        }
        client.video = sections(sdp).find(|(kind, section)| *kind == "video" && section.contains("a=recvonly")).map(
            |(_, section)| {
                let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).expect("a mid");
                Mid::from(mid)
            },
        );
        let data = json!({ "type": "answer", "sdp": answer }).to_string();
        let text = json!({ "event": "answer", "data": data }).to_string();
        let conn = client.conn;
        self.server.handle_input(self.now, Input::Data { conn, bytes: &frame(text.as_bytes()) });
    }

    fn drive(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.rtc.handle_input(str0m::Input::Timeout(self.now)).expect("time passes");
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        let client = &mut self.clients[index];
        loop {
            match client.rtc.poll_output().expect("a client works") {
                str0m::Output::Timeout(at) => {
                    client.timeout = at;
                    return;
                }
                str0m::Output::Transmit(transmit) => {
                    if transmit.destination == self.server_addr {
                        let way = Route { remote: self.server_addr, local: client.addr };
                        self.outbox.push(way, &transmit.contents);
                    }
                }
                str0m::Output::Event(Event::RtpPacket(_)) => client.decrypted += 1,
                str0m::Output::Event(Event::KeyframeRequest(_)) => {
                    client.keyframe_requests += 1;
                    client.wants_keyframe = true;
                }
                str0m::Output::Event(_) => {}
            }
        }
    }
}

fn input(server: &mut Server, now: Instant, batch: &Datagrams) {
    for (route, contents) in batch.iter() {
        server.handle_input(now, Input::Datagram { source: route.local, destination: route.remote, contents });
    }
}

/// The measured functions: callgrind counts instructions in this one and the next two.
#[inline(never)]
fn input_counted(server: &mut Server, now: Instant, batch: &Datagrams) {
    AT_WORK.store(TAKING, Ordering::Relaxed);
    input(server, now, batch);
    AT_WORK.store(IDLE, Ordering::Relaxed);
}

#[inline(never)]
fn timeout_counted(server: &mut Server, now: Instant) {
    AT_WORK.store(GIVING, Ordering::Relaxed);
    server.handle_input(now, Input::Timeout);
    AT_WORK.store(IDLE, Ordering::Relaxed);
}

#[inline(never)]
fn output_counted(server: &mut Server) -> Option<Output<'_>> {
    AT_WORK.store(GIVING, Ordering::Relaxed);
    let output = server.poll_output();
    AT_WORK.store(IDLE, Ordering::Relaxed);
    output
}
