//! One participant of the load: its WebSocket, its `Rtc` and its packet counts.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use serde_json::{Value, json};
use str0m::change::SdpOffer;
use str0m::media::Mid;
use str0m::net::Transmit;
use str0m::rtp::{RtpPacket, RtpWrite, SeqNo};
use str0m::{Candidate, Event, Input, Output, Rtc};

use super::shape::AUDIO_BYTES;
use super::wire::{frame, sections, take_frame};

/// Payload types that the server offers for VP8 and Opus.
pub const VIDEO_PT: u8 = 96;
pub const AUDIO_PT: u8 = 111;

/// Opcode of a ping, and first byte of a pong frame.
const PING: u8 = 9;
const PONG: u8 = 0x8a;

/// How long a server may leave a full TCP connection unread.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// What a participant does in a room.
#[derive(Clone, Copy)]
pub struct Role {
    pub room: usize,
    pub publishes: bool,
    /// Whether all its packets are decrypted and checked. For other participants only the headers are read.
    pub sampled: bool,
    /// Expected number of tracks of others.
    pub tracks: usize,
    /// Payload size of all video packets.
    pub video_bytes: usize,
}

/// One participant.
pub struct Client {
    pub tcp: TcpStream,
    pub addr: SocketAddr,
    pub role: Role,
    pub rtc: Rtc,
    /// When the `Rtc`'s timeout is due, and the value in the generator's timers.
    pub timeout: Instant,
    pub scheduled: Instant,
    inbox: Vec<u8>,
    greeted: bool,
    answered: bool,
    connected: bool,
    tracks: usize,
    audio: Option<Mid>,
    video: Option<Mid>,
    next_audio: u64,
    next_video: u64,
    /// Numbers of RTP packets sent, arrived and decrypted.
    pub sent: u64,
    /// Packets of the current frame that were sent, if they are paced.
    pub of_frame: usize,
    pub arrived: u64,
    pub decrypted: u64,
}

impl Client {
    /// Creates a participant and sends its WebSocket upgrade.
    pub fn new(now: Instant, tcp: std::net::TcpStream, addr: SocketAddr, role: Role, name: usize) -> Self {
        let head = format!(
            "GET /aq_server/websocket?room=r{}&name=c{name} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            role.room
        );
        (&tcp).write_all(head.as_bytes()).expect("a new connection accepts a request");
        tcp.set_nodelay(true).and_then(|()| tcp.set_nonblocking(true)).expect("a socket");
        let mut rtc =
            Rtc::builder().set_rtp_mode(true).clear_codecs().enable_opus(true, false).enable_vp8(true).build(now);
        rtc.add_local_candidate(Candidate::host(addr, "udp").expect("a usable address"));
        Self {
            tcp: TcpStream::from_std(tcp),
            addr,
            role,
            rtc,
            timeout: now,
            scheduled: now,
            inbox: Vec::new(),
            greeted: false,
            answered: false,
            connected: false,
            tracks: 0,
            audio: None,
            video: None,
            next_audio: 1_000,
            next_video: 1_000,
            sent: 0,
            of_frame: 0,
            arrived: 0,
            decrypted: 0,
        }
    }

    /// Reads from TCP. `on_chat` is called with each chat message.
    pub fn read(&mut self, mut on_chat: impl FnMut(&str)) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.tcp.read(&mut buffer) {
                Ok(0) => panic!("the server closed the connection of {}", self.addr),
                Ok(bytes) => self.inbox.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{}: {error}", self.addr),
            }
        }
        if !self.greeted {
            let Some(end) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            assert!(self.inbox.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&self.inbox));
            self.inbox.drain(..end + 4);
            self.greeted = true;
        }
        while let Some((opcode, payload)) = take_frame(&mut self.inbox) {
            if opcode == PING {
                let mut answer = frame(&payload);
                answer[0] = PONG;
                self.send(&answer);
            }
            // A large room causes very many `joined` events, so they are not parsed.
            if opcode == 1 && !payload.starts_with(br#"{"event":"joined""#) {
                self.on_message(&payload, &mut on_chat);
            }
        }
    }

    fn on_message(&mut self, payload: &[u8], on_chat: &mut impl FnMut(&str)) {
        let message: Value = serde_json::from_slice(payload).expect("JSON");
        match message["event"].as_str() {
            Some("tracks") => {
                let tracks = message["tracks"].as_array().expect("a list").iter();
                self.tracks = tracks.filter(|track| track["own"] != true).count();
            }
            Some("offer") => self.on_offer(message["data"].as_str().expect("a description")),
            Some("chat") => on_chat(message["message"].as_str().expect("text")),
            Some("error" | "closing") => panic!("{}: {message}", self.addr),
            _ => {}
        }
    }

    fn on_offer(&mut self, data: &str) {
        let description: Value = serde_json::from_str(data).expect("JSON");
        let sdp = description["sdp"].as_str().expect("SDP");
        let offer = SdpOffer::from_sdp_string(sdp).expect("an offer");
        let mut answer = self.rtc.sdp_api().accept_offer(offer).expect("an acceptable offer").to_sdp_string();
        if self.role.publishes {
            for (kind, section) in sections(sdp).filter(|(_, section)| section.contains("a=recvonly")) {
                let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).map(Mid::from);
                match kind {
                    "video" => self.video = mid,
                    _ => self.audio = mid,
                }
            }
        } else {
            answer = answer.replace("a=sendonly", "a=inactive");
        }
        // No transport-wide feedback: `benches/forward.rs` measures its cost.
        let kept = answer.split_inclusive('\n').filter(|line| !line.contains("transport-wide-cc-extensions"));
        let answer: String = kept.collect();
        let data = json!({ "type": "answer", "sdp": answer }).to_string();
        self.say(&json!({ "event": "answer", "data": data }));
        self.answered = true;
    }

    /// Sends a message.
    pub fn say(&mut self, message: &Value) {
        self.send(&frame(message.to_string().as_bytes()));
    }

    fn send(&mut self, bytes: &[u8]) {
        let (mut written, begin) = (0, Instant::now());
        while written < bytes.len() {
            match self.tcp.write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(begin.elapsed() < WRITE_PATIENCE, "the server does not read from {}", self.addr);
                }
                Err(error) => panic!("{}: {error}", self.addr),
            }
        }
    }

    /// Returns true if the participant has answered, is connected and has all its tracks.
    pub fn is_ready(&self) -> bool {
        self.answered && self.connected && self.tracks == self.role.tracks
    }

    /// Writes the packets `these` of a frame of `packets` packets.
    pub fn write_video(
        &mut self,
        now: Instant,
        timestamp: u32,
        these: Range<usize>,
        packets: usize,
        keyframe: bool,
        transmits: &mut Vec<Transmit>,
    ) {
        let Some(mid) = self.video else { return };
        for index in these {
            let mut payload = vec![timestamp as u8; self.role.video_bytes];
            // VP8: extended descriptor with a 15-bit picture id; the frame header distinguishes keyframes.
            payload[..4].copy_from_slice(&[if index == 0 { 0x90 } else { 0x80 }, 0x80, 0x80, 0]);
            payload[4] = u8::from(!(keyframe && index == 0));
            payload[7..10].copy_from_slice(&[0x9d, 0x01, 0x2a]);
            let seq_no = next(&mut self.next_video);
            let write = RtpWrite::new(VIDEO_PT.into(), seq_no, timestamp, now, payload);
            self.write(mid, write.marker(index + 1 == packets));
        }
        self.flush(now, transmits);
    }

    /// Writes one audio packet.
    pub fn write_audio(&mut self, now: Instant, timestamp: u32, transmits: &mut Vec<Transmit>) {
        let Some(mid) = self.audio else { return };
        let seq_no = next(&mut self.next_audio);
        let payload = vec![timestamp as u8; AUDIO_BYTES];
        self.write(mid, RtpWrite::new(AUDIO_PT.into(), seq_no, timestamp, now, payload));
        self.flush(now, transmits);
    }

    fn write(&mut self, mid: Mid, write: RtpWrite) {
        let mut direct = self.rtc.direct_api();
        direct.stream_tx_by_mid(mid, None).expect("an agreed m-line has a stream").write_rtp(write);
        self.sent += 1;
    }

    /// Takes the written packets out of the `Rtc`.
    fn flush(&mut self, now: Instant, transmits: &mut Vec<Transmit>) {
        self.rtc.handle_input(Input::Timeout(now)).expect("time passes");
        self.drain(transmits);
    }

    /// Takes all output out of the `Rtc`.
    pub fn drain(&mut self, transmits: &mut Vec<Transmit>) {
        loop {
            match self.rtc.poll_output().expect("a client works") {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return;
                }
                Output::Transmit(transmit) => transmits.push(transmit),
                Output::Event(Event::RtpPacket(packet)) => {
                    assert!(
                        is_intact(&packet, self.role.video_bytes),
                        "{} received a packet that was not sent: {:?}",
                        self.addr,
                        packet.header
                    );
                    self.decrypted += 1;
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(_) => {}
            }
        }
    }
}

fn next(seq_no: &mut u64) -> SeqNo {
    *seq_no += 1;
    (*seq_no).into()
}

/// Returns true if a decrypted payload is what was written for its timestamp.
fn is_intact(packet: &RtpPacket, video_bytes: usize) -> bool {
    let fill = packet.header.timestamp as u8;
    let (payload, start) = (&packet.payload, if packet.header.payload_type == AUDIO_PT.into() { 0 } else { 10 });
    let bytes = if start == 0 { AUDIO_BYTES } else { video_bytes };
    payload.len() == bytes && payload[start..].iter().all(|byte| *byte == fill)
}
