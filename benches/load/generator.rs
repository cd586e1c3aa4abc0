//! The load: participants through the real signaling and real sockets, in one thread.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use aq_server::io::udp::Udp;
use aq_server::server::Transmit;
use serde_json::{Value, json};
use str0m::change::SdpOffer;
use str0m::media::{Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::process::Server;
use crate::wire::{frame, sections, take_frame};

/// Participants behind one socket. The system's receive buffer holds about 90 packets; a burst of four to each of
/// these fits.
const PEOPLE_PER_SOCKET: usize = 8;

/// Payload of a video packet at most.
const VIDEO_BYTES: usize = 1_150;

/// Audio payload.
const AUDIO_BYTES: usize = 100;

/// Time between two video frames, and between two audio packets.
const FRAME: Duration = Duration::from_micros(33_333);
const AUDIO: Duration = Duration::from_millis(20);

/// What is measured.
pub struct Shape {
    /// For the table.
    pub name: &'static str,
    /// Rooms.
    pub rooms: usize,
    /// Participants in each.
    pub size: usize,
    /// How many of them publish.
    pub publishers: usize,
    /// Video bitrate of each publisher.
    pub video_kbps: usize,
    /// Publishers send audio too.
    pub audio: bool,
}

/// What was found.
pub struct Measured {
    /// Packets sent by publishers.
    pub sent: u64,
    /// Packets that should have reached subscribers.
    pub expected: u64,
    /// Packets that did.
    pub arrived: u64,
    /// From the publisher's send to the subscriber's receive, sorted.
    pub delays_us: Vec<u32>,
    /// How long it took.
    pub elapsed: Duration,
}

struct Client {
    tcp: TcpStream,
    inbox: Vec<u8>,
    addr: SocketAddr,
    rtc: Rtc,
    timeout: Instant,
    publishes: bool,
    /// Its packets are decrypted and counted; of the others only the headers are read.
    sampled: bool,
    audio: Option<Mid>,
    video: Option<Mid>,
    connected: bool,
    next_seq_no: [u64; 2],
    next_frame: Instant,
    next_audio: Instant,
    undecrypted: u64,
    decrypted: u64,
}

/// All participants.
pub struct Generator {
    server: SocketAddr,
    sockets: Vec<Udp>,
    clients: Vec<Client>,
    by_addr: HashMap<SocketAddr, usize>,
    frame_packets: Vec<usize>,
    others: u64,
    sends: HashMap<u32, Instant>,
    next_timestamp: u32,
    sent: u64,
    expected: u64,
    arrived: u64,
    delays_us: Vec<u32>,
    next_sweep: Instant,
    keyframes_wanted: bool,
}

impl Generator {
    /// Lets everybody join and waits until media flows to all.
    pub fn connect(server: &Server, shape: &Shape) -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        let now = Instant::now();
        let bytes = shape.video_kbps * 1_000 / 8 / 30;
        let packets = bytes.div_ceil(VIDEO_BYTES).max(1);
        let mut generator = Self {
            server: server.addr,
            sockets: Vec::new(),
            clients: Vec::new(),
            by_addr: HashMap::new(),
            frame_packets: vec![bytes / packets; packets],
            others: shape.size as u64 - 1,
            sends: HashMap::new(),
            next_timestamp: 1_000,
            sent: 0,
            expected: 0,
            arrived: 0,
            delays_us: Vec::new(),
            next_sweep: now,
            keyframes_wanted: true,
        };
        for room in 0..shape.rooms {
            for member in 0..shape.size {
                let publishes = member < shape.publishers;
                generator.join(room, publishes, shape.audio, member == shape.size - 1);
                generator.turn(Instant::now(), false);
            }
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while generator.clients.iter().any(|client| !client.connected) {
            assert!(Instant::now() < deadline, "everybody connects");
            generator.turn(Instant::now(), false);
        }
        // The last offers and answers.
        let settled = Instant::now() + Duration::from_secs(2);
        while Instant::now() < settled {
            generator.turn(Instant::now(), false);
        }
        generator
    }

    /// Sends and receives for some time.
    pub fn run(&mut self, time: Duration) -> Measured {
        let start = Instant::now();
        for (index, client) in self.clients.iter_mut().enumerate() {
            // Spread: publishers are not in step with each other.
            client.next_frame = start + FRAME * (index as u32 * 7 % 32) / 32;
            client.next_audio = start + AUDIO * (index as u32 * 5 % 32) / 32;
        }
        while start.elapsed() < time {
            self.turn(Instant::now(), true);
        }
        let elapsed = start.elapsed();
        // What is still on its way.
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            self.turn(Instant::now(), false);
        }
        self.delays_us.sort_unstable();
        Measured {
            sent: self.sent,
            expected: self.expected,
            arrived: self.arrived,
            delays_us: std::mem::take(&mut self.delays_us),
            elapsed,
        }
    }

    /// Forgets what was counted.
    pub fn reset(&mut self) {
        (self.sent, self.expected, self.arrived) = (0, 0, 0);
        self.delays_us.clear();
        self.keyframes_wanted = false;
        for client in &mut self.clients {
            (client.decrypted, client.undecrypted) = (0, 0);
        }
    }

    /// Whether the sample could be decrypted.
    pub fn check(&self) {
        for client in self.clients.iter().filter(|client| client.sampled) {
            let total = client.decrypted + client.undecrypted;
            assert_eq!(client.decrypted, total, "all that a sampled subscriber got can be decrypted");
            assert!(client.decrypted > 0, "a sampled subscriber got something");
        }
    }

    /// Where packets go.
    pub fn receivers(&self) -> Vec<SocketAddr> {
        self.clients.iter().map(|client| client.addr).collect()
    }

    /// Receives and drops while something is done on another thread.
    pub fn while_receiving<T: Send>(&mut self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(act);
            while !thread.is_finished() {
                for socket in &mut self.sockets {
                    let _ = socket.receive(|_| {});
                }
            }
            thread.join().expect("it ends well")
        })
    }

    fn join(&mut self, room: usize, publishes: bool, audio: bool, sampled: bool) {
        let index = self.clients.len();
        if index.is_multiple_of(PEOPLE_PER_SOCKET) {
            self.sockets.push(Udp::bind("0.0.0.0:0".parse().expect("an address")).expect("a socket"));
        }
        let port = self.sockets[index / PEOPLE_PER_SOCKET].local_addr().port();
        let [high, low] = (index as u16).to_be_bytes();
        let addr = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), port));
        let mut tcp = TcpStream::connect(self.server).expect("the server accepts");
        let head = format!(
            "GET /aq_server/websocket?room=r{room}&name=c{index} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(head.as_bytes()).expect("written");
        let mut inbox = Vec::new();
        while !inbox.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte).expect("an answer");
            inbox.push(byte[0]);
        }
        assert!(inbox.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&inbox));
        tcp.set_nonblocking(true).expect("a socket");
        let now = Instant::now();
        let mut rtc =
            Rtc::builder().set_rtp_mode(true).clear_codecs().enable_opus(true, false).enable_vp8(true).build(now);
        rtc.add_local_candidate(Candidate::host(addr, "udp").expect("a usable address"));
        self.by_addr.insert(addr, index);
        self.clients.push(Client {
            tcp,
            inbox: Vec::new(),
            addr,
            rtc,
            timeout: now,
            publishes,
            sampled,
            audio: audio.then(|| Mid::from("?")),
            video: None,
            connected: false,
            next_seq_no: [1_000, 1_000],
            next_frame: now,
            next_audio: now,
            undecrypted: 0,
            decrypted: 0,
        });
    }

    /// One round: what came, what is due, what is to be sent.
    fn turn(&mut self, now: Instant, sending: bool) {
        self.receive();
        if now >= self.next_sweep {
            self.next_sweep = now + Duration::from_millis(20);
            for index in 0..self.clients.len() {
                self.read(index);
                if self.clients[index].timeout <= now {
                    self.drive(now, index);
                }
            }
        }
        if sending {
            for index in 0..self.clients.len() {
                if self.clients[index].publishes {
                    self.publish(now, index);
                }
            }
        }
        for socket in &mut self.sockets {
            socket.flush();
        }
    }

    fn receive(&mut self) {
        let mut to_drain = Vec::new();
        for socket in &mut self.sockets {
            let (clients, by_addr) = (&mut self.clients, &self.by_addr);
            let (arrived, delays, sends) = (&mut self.arrived, &mut self.delays_us, &self.sends);
            let server = self.server;
            let mut now = None;
            let result = socket.receive(|datagram| {
                let now = *now.get_or_insert_with(Instant::now);
                let Some(&index) = by_addr.get(&datagram.destination) else { return };
                let client = &mut clients[index];
                let contents = datagram.contents;
                let is_rtp = contents[0] >> 6 == 2 && !(64..96).contains(&(contents[1] & 0x7f));
                if is_rtp {
                    *arrived += 1;
                    let timestamp = u32::from_be_bytes(contents[4..8].try_into().expect("4 bytes"));
                    if let Some(at) = sends.get(&timestamp) {
                        delays.push(now.saturating_duration_since(*at).as_micros() as u32);
                    }
                    if !client.sampled {
                        return;
                    }
                    client.undecrypted += 1;
                }
                let receive = Receive::new(Protocol::Udp, server, datagram.destination, contents)
                    .expect("the server sends what WebRTC knows");
                client.rtc.handle_input(Input::Receive(now, receive)).expect("a client works");
                drain(client, &mut to_drain);
            });
            result.expect("a socket works");
        }
        self.send_all(to_drain);
    }

    fn drive(&mut self, now: Instant, index: usize) {
        let mut transmits = Vec::new();
        let client = &mut self.clients[index];
        client.rtc.handle_input(Input::Timeout(now)).expect("time passes");
        drain(client, &mut transmits);
        self.send_all(transmits);
    }

    fn send_all(&mut self, transmits: Vec<Transmit>) {
        for transmit in transmits {
            if let Some(index) = self.by_addr.get(&transmit.source) {
                self.sockets[index / PEOPLE_PER_SOCKET].send(transmit);
            }
        }
    }

    fn publish(&mut self, now: Instant, index: usize) {
        let client = &mut self.clients[index];
        let mut transmits = Vec::new();
        let mut packets = 0;
        if let Some(mid) = client.video
            && now >= client.next_frame
        {
            client.next_frame += FRAME;
            let timestamp = self.next_timestamp;
            self.next_timestamp = timestamp.wrapping_add(1);
            self.sends.insert(timestamp, now);
            let count = self.frame_packets.len();
            for (packet, bytes) in self.frame_packets.iter().enumerate() {
                let mut payload = vec![packet as u8; *bytes];
                let key = self.keyframes_wanted && packet == 0;
                payload[..4].copy_from_slice(&[if packet == 0 { 0x90 } else { 0x80 }, 0x80, 0x80, 0]);
                payload[4] = u8::from(!key);
                payload[7..10].copy_from_slice(&[0x9d, 0x01, 0x2a]);
                write(client, mid, 96.into(), 0, timestamp, packet + 1 == count, payload, now);
                drain(client, &mut transmits);
            }
            packets += count as u64;
        }
        if let Some(mid) = client.audio
            && now >= client.next_audio
        {
            client.next_audio += AUDIO;
            let timestamp = self.next_timestamp;
            self.next_timestamp = timestamp.wrapping_add(1);
            self.sends.insert(timestamp, now);
            write(client, mid, 111.into(), 1, timestamp, false, vec![5; AUDIO_BYTES], now);
            drain(client, &mut transmits);
            packets += 1;
        }
        self.sent += packets;
        self.expected += packets * self.others;
        self.send_all(transmits);
    }

    fn read(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let mut buffer = [0; 16 * 1024];
        loop {
            match client.tcp.read(&mut buffer) {
                Ok(0) => panic!("the server closed the connection of client {index}"),
                Ok(bytes) => client.inbox.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("client {index}: {error}"),
            }
        }
        while let Some((opcode, payload)) = take_frame(&mut client.inbox) {
            if opcode != 1 {
                continue;
            }
            let message: Value = serde_json::from_slice(&payload).expect("JSON");
            match message["event"].as_str() {
                Some("offer") => on_offer(client, message["data"].as_str().expect("a description")),
                Some("error") => panic!("client {index}: {message}"),
                _ => {}
            }
        }
    }
}

fn on_offer(client: &mut Client, data: &str) {
    let description: Value = serde_json::from_str(data).expect("JSON");
    let sdp = description["sdp"].as_str().expect("SDP");
    let offer = SdpOffer::from_sdp_string(sdp).expect("an offer");
    let mut answer = client.rtc.sdp_api().accept_offer(offer).expect("an acceptable offer").to_sdp_string();
    if client.publishes {
        for (kind, section) in sections(sdp).filter(|(_, section)| section.contains("a=recvonly")) {
            let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).map(Mid::from);
            match kind {
                "video" => client.video = mid,
                _ if client.audio.is_some() => client.audio = mid,
                _ => {}
            }
        }
    } else {
        answer = answer.replace("a=sendonly", "a=inactive");
    }
    let data = json!({ "type": "answer", "sdp": answer }).to_string();
    let text = json!({ "event": "answer", "data": data }).to_string();
    client.tcp.set_nonblocking(false).expect("a socket");
    client.tcp.write_all(&frame(text.as_bytes())).expect("written");
    client.tcp.set_nonblocking(true).expect("a socket");
}

#[allow(clippy::too_many_arguments, reason = "the fields of one packet")]
fn write(
    client: &mut Client,
    mid: Mid,
    pt: Pt,
    kind: usize,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    now: Instant,
) {
    let seq_no: SeqNo = client.next_seq_no[kind].into();
    let mut direct = client.rtc.direct_api();
    let Some(stream) = direct.stream_tx_by_mid(mid, None) else { return };
    client.next_seq_no[kind] += 1;
    stream.write_rtp(RtpWrite::new(pt, seq_no, timestamp, now, payload).marker(marker));
    client.rtc.handle_input(Input::Timeout(now)).expect("time passes");
}

fn drain(client: &mut Client, transmits: &mut Vec<Transmit>) {
    loop {
        match client.rtc.poll_output().expect("a client works") {
            Output::Timeout(at) => {
                client.timeout = at;
                return;
            }
            Output::Transmit(transmit) => transmits.push(transmit),
            Output::Event(Event::RtpPacket(_)) => {
                client.decrypted += 1;
                client.undecrypted -= 1;
            }
            Output::Event(Event::Connected) => client.connected = true,
            Output::Event(_) => {}
        }
    }
}
