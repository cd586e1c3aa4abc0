//! A client with real sockets: a WebSocket, one UDP socket, and str0m in the role of a browser.
//!
//! It answers offers, sends numbered packets like those of Opus and VP8, and keeps what it receives.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use str0m::change::SdpOffer;
use str0m::format::Codec;
use str0m::media::{MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::Request;
use tungstenite::{Error, Message, WebSocket};

use crate::process::{DEADLINE, Process};
use crate::wire::Wire;

/// Pause between two turns of all clients. A read with a timeout would take two ticks of the kernel for each of them.
const PAUSE: Duration = Duration::from_millis(1);

/// Pause after a join that the server refused because it was overloaded, as it is on a machine with other work.
pub const RETRY: Duration = Duration::from_millis(200);

/// Time between two packets of a kind.
const PACKET_INTERVAL: Duration = Duration::from_millis(10);

/// Video packets per keyframe.
const KEYFRAME_INTERVAL: u32 = 10;

/// One participant.
pub struct Client {
    /// All messages from the server, in order.
    pub messages: Vec<Value>,
    /// Close code and reason, once the server closed.
    pub closed: Option<(u16, String)>,
    /// The addresses in the last offer.
    pub candidates: BTreeSet<SocketAddr>,
    /// Source addresses of received datagrams.
    pub sources: BTreeSet<SocketAddr>,
    /// Payloads that were sent, by kind.
    pub sent: BTreeMap<Kind, Vec<Vec<u8>>>,
    /// Payloads that were received, by kind of their m-line.
    pub received: BTreeMap<Kind, Vec<Vec<u8>>>,
    /// Number of keyframe requests received.
    pub keyframe_requests: usize,
    /// The last media packet sent, as sealed.
    pub sealed: Vec<u8>,
    /// Every datagram received, with its time.
    pub datagrams: Vec<(Instant, Vec<u8>)>,
    /// Whether it sends media while it is connected.
    pub sends: bool,
    /// Whether it sends nothing on its UDP socket.
    pub is_silent: bool,
    /// Changes its answers before they are sent.
    pub amend: fn(String) -> String,
    /// Its UDP socket, public to send datagrams that no browser sends.
    pub udp: UdpSocket,
    /// Its `Rtc`, public to send packets sealed with its keys.
    pub rtc: Rtc,
    /// Whether media can flow.
    pub connected: bool,
    name: String,
    socket: WebSocket<Wire>,
    local: SocketAddr,
    /// The only address of the server that it uses.
    server: IpAddr,
    next_packet: Instant,
}

/// Audio or video; `MediaKind` has no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Audio,
    Video,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Audio, Kind::Video];
}

impl Client {
    /// Joins over plain HTTP; its media goes from `local` to `server`. Tries again while the server is overloaded.
    pub fn join(process: &Process, name: &str, local: IpAddr, server: IpAddr) -> Self {
        let tcp = SocketAddr::new(server, process.port());
        let request = || request(&format!("ws://{tcp}/aq_server/websocket?name={name}"), None);
        let until = Instant::now() + DEADLINE;
        loop {
            match upgrade(Wire::plain(tcp), request()) {
                Ok(socket) => return Self::new(socket, name, local, server),
                Err(503) if Instant::now() < until => thread::sleep(RETRY),
                Err(status) => panic!("{name} got {status}"),
            }
        }
    }

    /// Joins on 127.0.0.1.
    pub fn join_on_loopback(process: &Process, name: &str) -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Self::join(process, name, loopback, loopback)
    }

    /// Creates a client from an upgraded WebSocket.
    pub fn new(socket: WebSocket<Wire>, name: &str, local: IpAddr, server: IpAddr) -> Self {
        let udp = UdpSocket::bind((local, 0)).unwrap_or_else(|error| panic!("{local}: {error}"));
        udp.set_nonblocking(true).expect("a UDP socket");
        let local = udp.local_addr().expect("bound");
        let now = Instant::now();
        let builder = Rtc::builder().set_rtp_mode(true).clear_codecs();
        let mut rtc = builder.enable_opus(true, false).enable_vp8(true).build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("a usable address"));
        socket.get_ref().set_nonblocking();
        Self {
            messages: Vec::new(),
            closed: None,
            candidates: BTreeSet::new(),
            sources: BTreeSet::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            keyframe_requests: 0,
            sealed: Vec::new(),
            datagrams: Vec::new(),
            sends: true,
            is_silent: false,
            amend: |answer| answer,
            udp,
            rtc,
            connected: false,
            name: name.to_owned(),
            socket,
            local,
            server,
            next_packet: now,
        }
    }

    pub fn send_json(&mut self, message: &Value) {
        // Far less than the system buffers.
        self.socket.send(Message::text(message.to_string())).expect("the server reads");
    }

    /// Messages of one event, in order.
    pub fn events(&self, event: &str) -> Vec<&Value> {
        self.messages.iter().filter(|message| message["event"] == event).collect()
    }

    pub fn received(&self, kind: Kind) -> &[Vec<u8>] {
        self.received.get(&kind).map_or(&[], Vec::as_slice)
    }

    pub fn sent(&self, kind: Kind) -> &[Vec<u8>] {
        self.sent.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// Reads its sockets, sends due media and runs its timers, without waiting.
    pub fn turn(&mut self) {
        if self.closed.is_none() {
            self.read_socket();
        }
        self.read_udp();
        let now = Instant::now();
        if self.sends && self.connected && now >= self.next_packet {
            self.next_packet = now + PACKET_INTERVAL;
            self.send_packet(now, Kind::Audio);
            self.send_packet(now, Kind::Video);
        }
        self.rtc.handle_input(Input::Timeout(now)).expect("time passes");
        self.drain();
    }

    fn read_socket(&mut self) {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let message = serde_json::from_str(&text).expect("the server sends JSON");
                    self.on_message(message);
                }
                Ok(Message::Close(frame)) => {
                    let frame = frame.expect("the server gives a reason");
                    self.closed = Some((frame.code.into(), frame.reason.to_string()));
                    // Sends the reply that tungstenite has queued.
                    let _ = self.socket.flush();
                    return;
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
    }

    fn on_message(&mut self, message: Value) {
        if message["event"] == "offer" {
            let data: Value = serde_json::from_str(message["data"].as_str().expect("a text")).expect("JSON");
            self.on_offer(data["sdp"].as_str().expect("an SDP"));
        }
        self.messages.push(message);
    }

    fn on_offer(&mut self, offer: &str) {
        // RFC 8839 section 5.1: foundation, component, transport, priority, address, port.
        let address = |line: &str| {
            let fields: Vec<_> = line.strip_prefix("a=candidate:")?.split(' ').collect();
            Some(SocketAddr::new(fields[4].parse().expect("an address"), fields[5].parse().expect("a port")))
        };
        self.candidates = offer.lines().filter_map(address).collect();
        let usable = |line: &&str| address(line).is_none_or(|address| address.ip() == self.server);
        let offer: String = offer.lines().filter(usable).map(|line| format!("{line}\r\n")).collect();
        // A browser takes the active DTLS role (RFC 8842 section 5.3); str0m would take the passive one.
        let offer = offer.replace("a=setup:actpass", "a=setup:passive");
        let offer = SdpOffer::from_sdp_string(&offer).expect("an offer that str0m can read");
        let answer = self.rtc.sdp_api().accept_offer(offer).expect("an offer that a browser accepts");
        let data = json!({"type": "answer", "sdp": (self.amend)(answer.to_sdp_string())}).to_string();
        self.send_json(&json!({"event": "answer", "data": data}));
    }

    fn read_udp(&mut self) {
        let mut buffer = [0; 2_000];
        while let Ok((bytes, source)) = self.udp.recv_from(&mut buffer) {
            self.sources.insert(source);
            self.datagrams.push((Instant::now(), buffer[..bytes].to_vec()));
            let receive = Receive::new(Protocol::Udp, source, self.local, &buffer[..bytes]);
            let receive = receive.expect("the server sends STUN, DTLS, RTP or RTCP");
            self.rtc.handle_input(Input::Receive(Instant::now(), receive)).expect("a browser would accept it");
            self.drain();
        }
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().expect("a browser would accept it") {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => {
                    // RFC 5761 section 4: RTP, not RTCP.
                    if let [first, second, ..] = transmit.contents[..]
                        && first >> 6 == 2
                        && !(192..224).contains(&second)
                    {
                        self.sealed = transmit.contents.to_vec();
                    }
                    if !self.is_silent {
                        self.udp.send_to(&transmit.contents, transmit.destination).expect("a way to the server");
                    }
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::KeyframeRequest(_)) => self.keyframe_requests += 1,
                Output::Event(Event::RtpPacket(packet)) => {
                    let stream = self.rtc.direct_api().stream_rx(&packet.header.ssrc).map(|stream| stream.mid());
                    let media = stream.and_then(|mid| self.rtc.media(mid)).expect("a stream on an m-line");
                    let kind = if media.kind() == MediaKind::Audio { Kind::Audio } else { Kind::Video };
                    self.received.entry(kind).or_default().push(packet.payload.to_vec());
                }
                Output::Event(_) => {}
            }
        }
    }

    /// Writes the next packet of a kind; the next turn sends it.
    pub fn send_packet(&mut self, now: Instant, kind: Kind) {
        let Some(mid) = self.own_line(kind) else {
            return;
        };
        let (codec, clock_rate) = match kind {
            Kind::Audio => (Codec::Opus, 48_000),
            Kind::Video => (Codec::Vp8, 90_000),
        };
        let media = self.rtc.media(mid).expect("a line of the offer");
        let agreed = media.remote_pts().to_vec();
        let mut codecs = self.rtc.codec_config().iter();
        let codec = codecs.find(|params| params.spec().codec == codec && agreed.contains(&params.pt()));
        let payload_type = codec.expect("the server offers Opus and VP8").pt();

        let sent = self.sent.entry(kind).or_default();
        let number = sent.len() as u32;
        let payload = payload(&self.name, kind, number);
        sent.push(payload.clone());
        let timestamp = number.wrapping_mul(clock_rate / 100);
        let write = RtpWrite::new(payload_type, u64::from(number).into(), timestamp, now, payload)
            .marker(kind == Kind::Video)
            .nackable(kind == Kind::Video);
        let mut direct = self.rtc.direct_api();
        direct.stream_tx_by_mid(mid, None).expect("a line that sends has a stream").write_rtp(write);
    }

    /// The m-line for microphone or camera, by `tracks`.
    pub fn own_line(&self, kind: Kind) -> Option<Mid> {
        let kind = if kind == Kind::Audio { "audio" } else { "video" };
        let tracks = self.events("tracks").into_iter().next_back()?["tracks"].as_array()?;
        let own = tracks.iter().find(|track| track["own"] == true && track["kind"] == kind)?;
        Some(Mid::from(own["mid"].as_str()?))
    }
}

/// A payload that identifies its sender and number: 20 ms of Opus, or a VP8 picture in one packet.
fn payload(name: &str, kind: Kind, number: u32) -> Vec<u8> {
    let mut payload = match kind {
        // RFC 6716 section 3.1: CELT, fullband, mono, one frame.
        Kind::Audio => vec![0xf8],
        // RFC 7741 section 4.2: the start of a picture, with a picture id of 15 bits. RFC 6386 section 9.1.
        Kind::Video => {
            let [_, _, high, low] = number.to_be_bytes();
            let descriptor = [0x90, 0x80, 0x80 | high, low];
            match number.is_multiple_of(KEYFRAME_INTERVAL) {
                true => [&descriptor[..], &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01]].concat(),
                false => [&descriptor[..], &[0x11, 0, 0]].concat(),
            }
        }
    };
    payload.extend(name.as_bytes());
    payload.extend(number.to_be_bytes());
    let filler = number.wrapping_mul(7_919) % 1_000;
    payload.extend((0..filler).map(|at| (number.wrapping_mul(31) ^ at.wrapping_mul(131)) as u8));
    payload
}

/// An upgrade request, with an `Origin` as from a browser or without one as from a program.
pub fn request(url: &str, origin: Option<&str>) -> Request {
    let uri: tungstenite::http::Uri = url.parse().expect("a URL");
    let authority = uri.authority().expect("a URL with a host").to_string();
    let request = Request::builder()
        .uri(uri)
        .header("Host", authority)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", tungstenite::handshake::client::generate_key());
    let request = match origin {
        Some(origin) => request.header("Origin", origin),
        None => request,
    };
    request.body(()).expect("a request")
}

/// Upgrades a connection. The error is the status of the refusal.
pub fn upgrade(wire: Wire, request: Request) -> Result<WebSocket<Wire>, u16> {
    match tungstenite::client::client(request, wire) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
        Err(error) => panic!("the upgrade failed: {error}"),
    }
}

/// Runs a turn of each client, then pauses once for all of them.
pub fn take_turns(clients: &mut [&mut Client], pause: Duration) {
    for client in clients {
        client.turn();
    }
    thread::sleep(pause);
}

/// Runs turns of the clients until `done` returns true.
pub fn run_until(clients: &mut [&mut Client], what: &str, done: impl Fn(&[&mut Client]) -> bool) {
    let until = Instant::now() + DEADLINE;
    while !done(clients) {
        take_turns(clients, PAUSE);
        if Instant::now() > until {
            for client in clients.iter() {
                let (audio, video) = (client.received(Kind::Audio).len(), client.received(Kind::Video).len());
                eprintln!("{}: connected {}, {audio} audio, {video} video", client.name, client.connected);
                eprintln!("  closed {:?}, datagrams {}", client.closed, client.datagrams.len());
            }
            for client in clients.iter() {
                // The SDP of an offer would hide the rest.
                let told = client.messages.iter().filter(|message| message["event"] != "offer");
                told.for_each(|message| eprintln!("{}: {message}", client.name));
            }
            panic!("it did not happen: {what}");
        }
    }
}

/// Checks that two clients receive each other's media: all packets from the first one received to the last one sent
/// arrive once, in order and unchanged.
pub fn exchange(ann: &mut Client, bob: &mut Client) {
    const ENOUGH: usize = 50;
    let enough = |client: &Client| Kind::ALL.iter().all(|kind| client.received(*kind).len() >= ENOUGH);
    run_until(&mut [ann, bob], "enough media", |clients| clients.iter().all(|client| enough(client)));
    for (from, to) in [(&*ann, &*bob), (&*bob, &*ann)] {
        for kind in Kind::ALL {
            let strange = to.received(kind).iter().find(|payload| !from.sent(kind).contains(payload));
            assert!(strange.is_none(), "{} never sent this {kind:?}: {strange:x?}", from.name);
        }
    }
    (ann.sends, bob.sends) = (false, false);
    let is_last = |from: &Client, to: &Client| {
        Kind::ALL.iter().all(|kind| to.received(*kind).contains(from.sent(*kind).last().expect("sent")))
    };
    run_until(&mut [ann, bob], "the last packet", |clients| {
        is_last(clients[0], clients[1]) && is_last(clients[1], clients[0])
    });
    for (from, to) in [(&*ann, &*bob), (&*bob, &*ann)] {
        for kind in Kind::ALL {
            let (sent, received) = (from.sent(kind), to.received(kind));
            let first = sent.iter().position(|payload| *payload == received[0]).expect("looked at above");
            assert!(received == &sent[first..], "{kind:?} of {} arrived changed, twice, or with gaps", from.name);
        }
    }
}
