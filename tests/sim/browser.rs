//! One browser: a WebSocket, a full-ICE peer connection, and a page that answers offers, sends synthetic media and
//! checks everything that it receives.

mod packets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use str0m::format::{Codec, PayloadParams};
use str0m::media::{KeyframeRequestKind, Mid, Pt, SenderFeedback};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, RtpPacket, RtpWrite};
use str0m::stats::PeerStats;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};

use self::packets::publication;
use crate::answering::{Habits, Sound};
use crate::certificate::certificate;
use crate::checking::Checking;
use crate::encoding;
use crate::media::{NO_LEVEL, Publication, Rate, Source, Stamp};
use crate::page::Page;
use crate::reception::{Stream, Watched};
use crate::sdp::Line;
use crate::websocket::{self, WebSocket};

/// The payload type of redundant audio (RFC 2198).
const RED: u8 = 63;

/// The close code of a connection that ended without a close frame (RFC 6455 section 7.4.1).
pub const NO_CLOSE_FRAME: u16 = 1006;

/// A queued outgoing datagram.
pub struct Datagram {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub contents: Vec<u8>,
}

/// A received packet, for the checks that involve other browsers.
pub struct Arrival {
    pub at: Instant,
    pub mid: String,
    pub stamp: Stamp,
}

pub struct Browser {
    pub name: String,
    pub room: String,
    /// Index in the simulation, and the publisher number in its media.
    pub tag: u32,
    pub habits: Habits,
    pub page: Page,
    /// How many of the page's remote candidates were added.
    candidates: usize,
    pub publications: BTreeMap<Source, Publication>,
    /// Received streams, by SSRC.
    pub streams: BTreeMap<u32, Stream>,
    /// Received publications, by publisher tag and source.
    pub watched: BTreeMap<(u32, Source), Watched>,
    pub sender_reports: Vec<SenderFeedback>,
    /// Statistics events, if `habits.has_stats`.
    pub stats: Vec<PeerStats>,
    /// Received RTP packets, if a test records them.
    pub packets: Option<Vec<(Stamp, RtpPacket)>>,
    /// Received video packets of codecs other than VP8, if a test expects them; they get no other check.
    pub encoded: Option<Vec<RtpPacket>>,
    /// The m-lines of the last offer.
    pub lines: Vec<Line>,
    /// Received packets of redundant audio.
    pub redundant: u64,
    pub connected_at: Option<Instant>,
    /// How the connection ended: an HTTP status or a WebSocket close code, and its text.
    pub closed: Option<(u16, String)>,
    /// Publications that began or ended since the last collection; each may cause one offer to others.
    pub changes_made: u32,
    /// Changes by others and requests of its own that may cause an offer.
    pub changes: u32,
    /// It has sent `leave`.
    pub has_left: bool,
    /// Number of fresh transports that it accepted.
    pub renewals: u32,
    /// Addresses of its earlier peer connections.
    former: Vec<SocketAddr>,
    /// The peer connection; `None` once the page is closed.
    pub(crate) rtc: Option<Rtc>,
    /// The offer to be answered, and when the answer is due.
    pub(crate) pending_offer: Option<(Instant, String)>,
    /// The mid of each SSRC that an offer declared.
    pub(crate) declared: BTreeMap<u32, Mid>,
    /// The m-lines whose retransmission buffer is configured.
    pub(crate) cached: BTreeSet<Mid>,
    /// Its checks, if `habits.has_libwebrtc_checks`.
    pub(crate) checking: Option<Checking>,
    rtc_timeout: Instant,
    rate: Rate,
    socket: WebSocket,
    datagrams: Vec<Datagram>,
    arrivals: Vec<Arrival>,
}

impl Browser {
    pub fn new(now: Instant, name: &str, room: &str, tag: u32, rate: Rate, habits: Habits) -> Self {
        let rtc = engine(now, &habits, &habits.addrs);
        let renew = if habits.is_old || !habits.renews { "" } else { "&renew=1" };
        let extra = &habits.query;
        let simulcast = if habits.simulcast { "&simulcast=1" } else { "" };
        let target = format!("/aq_server/websocket?room={room}&name={name}{simulcast}{renew}{extra}");
        // The client sends a false address, and the proxy appends the true one.
        let addr = habits.addrs[0].ip();
        let forwarded_for =
            habits.proxy.map_or_else(String::new, |_| format!("X-Forwarded-For: 192.0.2.99, {addr}\r\n"));
        let mut publications = BTreeMap::new();
        for source in &habits.sources {
            publications.insert(*source, publication(now, *source, rate, tag, &habits));
        }
        Self {
            name: name.to_owned(),
            room: room.to_owned(),
            tag,
            page: Page::default(),
            candidates: 0,
            publications,
            streams: BTreeMap::new(),
            watched: BTreeMap::new(),
            sender_reports: Vec::new(),
            stats: Vec::new(),
            packets: None,
            encoded: None,
            lines: Vec::new(),
            redundant: 0,
            connected_at: None,
            closed: None,
            changes_made: 0,
            changes: 1,
            has_left: false,
            renewals: 0,
            former: Vec::new(),
            rtc: Some(rtc),
            checking: None,
            rtc_timeout: now,
            rate,
            socket: WebSocket::connect(&target, &forwarded_for),
            pending_offer: None,
            declared: BTreeMap::new(),
            cached: BTreeSet::new(),
            datagrams: Vec::new(),
            arrivals: Vec::new(),
            habits,
        }
    }

    /// Handles bytes from the WebSocket.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        for event in self.socket.handle_data(bytes) {
            match event {
                websocket::Event::Open => {}
                websocket::Event::Text(text) => {
                    if let Some(offer) = self.page.handle_text(now, &text) {
                        if std::mem::take(&mut self.page.is_fresh) {
                            self.renew(now);
                        }
                        self.on_offer(now, offer);
                    }
                    for candidate in &self.page.candidates[self.candidates..] {
                        let candidate = Candidate::from_sdp_string(candidate).expect("a valid candidate");
                        if let Some(rtc) = &mut self.rtc {
                            rtc.add_remote_candidate(candidate);
                        }
                    }
                    self.candidates = self.page.candidates.len();
                    self.switch_layers();
                }
                websocket::Event::Refused(code, text) | websocket::Event::Closed(code, text) => {
                    // The server closed the connection, not the browser.
                    if self.rtc.take().is_some() {
                        assert_eq!(self.closed.replace((code, text)), None, "the connection closed twice");
                    }
                }
            }
        }
    }

    /// The server closed the TCP connection.
    pub fn handle_end(&mut self) {
        if self.rtc.take().is_some() {
            self.closed = Some((NO_CLOSE_FRAME, String::new()));
        }
    }

    pub fn handle_datagram(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, contents: &[u8]) {
        let is_former = self.former.contains(&destination);
        let Some(rtc) = self.rtc.as_mut().filter(|_| !is_former) else {
            return;
        };
        let receive = Receive::new(Protocol::Udp, source, destination, contents)
            .expect("the server sends valid WebRTC datagrams");
        if let Some(checking) = &mut self.checking {
            checking.handle_datagram(contents);
        }
        rtc.handle_input(Input::Receive(now, receive)).expect("the server sends what a browser accepts");
        self.drain(now);
    }

    /// Does everything that is due.
    pub fn handle_timeout(&mut self, now: Instant, captured: impl Fn(Instant) -> SystemTime) {
        if self.pending_offer.as_ref().is_some_and(|(due, _)| *due <= now) {
            let (_, offer) = self.pending_offer.take().expect("checked above");
            self.answer(now, &offer);
        }
        self.send_media(now, captured);
        self.request_keyframes(now);
        if let Some(rtc) = &mut self.rtc {
            rtc.handle_input(Input::Timeout(now)).expect("a timeout is accepted");
            self.drain(now);
        }
    }

    /// When `handle_timeout` is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.rtc.as_ref()?;
        let answer = self.pending_offer.as_ref().map(|(due, _)| *due);
        let media = self.sending().map(|publication| publication.next_at);
        let keyframes = self.watched.values().filter_map(Watched::keyframe_request_at);
        [self.rtc_timeout].into_iter().chain(answer).chain(media).chain(keyframes).min()
    }

    pub fn send_text(&mut self, text: &str) {
        if self.socket.is_open() {
            self.socket.send_text(text);
        }
    }

    /// Publishes one more source, now or with the next offer.
    pub fn publish(&mut self, now: Instant, source: Source) {
        let new = || publication(now, source, self.rate, self.tag, &self.habits);
        let publication = self.publications.entry(source).or_insert_with(new);
        publication.wanted = true;
        publication.next_at = publication.next_at.max(now);
        self.changes += 1;
        self.send_text(&json!({"event": "publish", "kind": source.kind(), "source": source.name()}).to_string());
    }

    pub fn unpublish(&mut self, source: Source) {
        let publication = self.publications.get_mut(&source).expect("it was published");
        publication.wanted = false;
        publication.mid = None;
        self.changes += 1;
        self.changes_made += 1;
        self.send_text(&json!({"event": "unpublish", "kind": source.kind(), "source": source.name()}).to_string());
    }

    /// Makes a new peer connection on another port, for the fresh transport that the next offer starts.
    fn renew(&mut self, now: Instant) {
        self.lines.clear();
        self.pending_offer = None;
        // The page is closed, but the server does not know it yet.
        if self.rtc.is_none() {
            return;
        }
        let port = self.addr().port() + 1_000;
        let next = SocketAddr::new(self.addr().ip(), port);
        self.former.append(&mut self.habits.addrs.clone());
        self.habits.addrs.push(next);
        self.rtc = Some(engine(now, &self.habits, &[next]));
        self.checking = None;
        self.rtc_timeout = now;
        self.connected_at = None;
        self.renewals += 1;
        self.changes += 1;
        self.changes_made += 1;
        self.cached.clear();
        self.page.wanted_layers.clear();
        self.publications.values_mut().for_each(|publication| publication.mid = None);
        self.watched.values_mut().for_each(|watched| watched.cut(now));
    }

    /// The address of the current peer connection.
    pub fn addr(&self) -> SocketAddr {
        match self.renewals {
            0 => self.habits.addrs[0],
            _ => *self.habits.addrs.last().expect("a browser has an address"),
        }
    }

    /// Closes the tab.
    pub fn close(&mut self) {
        self.socket.send_close(1001);
        self.rtc = None;
    }

    /// Ends without a word to the server.
    pub fn end(&mut self) {
        self.rtc = None;
    }

    /// The page is open, as far as the browser knows.
    pub fn is_live(&self) -> bool {
        self.rtc.is_some()
    }

    pub fn take_bytes(&mut self) -> Option<Vec<u8>> {
        self.socket.take_outbox()
    }

    pub fn take_datagrams(&mut self) -> Vec<Datagram> {
        std::mem::take(&mut self.datagrams)
    }

    pub fn take_arrivals(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals)
    }

    /// Whether it has asked to replace an earlier connection and is not welcomed yet.
    pub fn is_resuming(&self) -> bool {
        self.page.expected_id.is_some() && self.page.welcomed_at.is_none()
    }

    fn drain(&mut self, now: Instant) {
        while let Some(rtc) = &mut self.rtc {
            let output = match rtc.poll_output() {
                Ok(output) => output,
                // A handshake that times out is the network's fault; the page rejoins or requests a new transport.
                Err(RtcError::Dtls(_)) if self.connected_at.is_none() => return self.on_no_dtls(now),
                Err(error) => panic!("the browser rejected the server's packet: {error}"),
            };
            match output {
                Output::Timeout(at) => {
                    self.rtc_timeout = at.max(now);
                    break;
                }
                Output::Transmit(transmit) => {
                    let (source, destination) = (transmit.source, transmit.destination);
                    let contents = transmit.contents.to_vec();
                    let edited = match &mut self.checking {
                        Some(checking) => checking.edit(now, contents),
                        None => Some(contents),
                    };
                    self.datagrams.extend(edited.map(|contents| Datagram { source, destination, contents }));
                }
                Output::Event(event) => self.on_event(now, event),
            }
        }
    }

    fn on_no_dtls(&mut self, now: Instant) {
        if self.habits.is_old || !self.habits.renews {
            return self.handle_end();
        }
        self.rtc = Some(engine(now, &self.habits, &[]));
        self.rtc_timeout = now + Duration::from_secs(60);
        self.pending_offer = None;
        self.send_text(r#"{"event":"renew"}"#);
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected => {
                self.connected_at = Some(now);
                for publication in self.publications.values_mut() {
                    publication.next_at = publication.next_at.max(now);
                }
            }
            Event::RtpPacket(packet) => self.on_packet(now, packet),
            Event::KeyframeRequest(request) => {
                let mut publications = self.publications.values_mut();
                if let Some(publication) = publications.find(|publication| publication.mid == Some(request.mid)) {
                    publication.handle_keyframe_request(now, request.rid);
                }
            }
            Event::SenderFeedback(report) => self.sender_reports.push(report),
            Event::PeerStats(stats) => self.stats.push(stats),
            _ => {}
        }
    }
}

fn engine(now: Instant, habits: &Habits, addrs: &[SocketAddr]) -> Rtc {
    let mut config = Rtc::builder()
        .set_rtp_mode(true)
        .set_stats_interval(habits.has_stats.then_some(Duration::from_secs(1)))
        .set_dtls_cert(certificate())
        .set_rtcp_report_interval_audio(Duration::from_secs(1))
        .set_extension(5, Extension::AbsoluteCaptureTime)
        .set_extension(6, Extension::PlayoutDelay)
        .set_extension(8, encoding::dependency())
        .clear_codecs()
        .enable_opus(true, habits.sound != Sound::Plain)
        .enable_h264(true);
    if !habits.h264_only {
        config = config.enable_vp8(true).enable_vp9(true).enable_av1(true);
    }
    if let Some((certificate, provider)) = habits.identity.rsa() {
        config = config.set_crypto_provider(provider).set_dtls_cert(certificate);
    }
    if habits.has_libwebrtc_checks {
        config = Checking::configure(config);
    }
    let mut rtc = config.build(now);
    for addr in addrs {
        rtc.add_local_candidate(Candidate::host(*addr, "udp").expect("a valid address"));
    }
    rtc
}
