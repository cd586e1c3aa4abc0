//! A peer is one participant's WebRTC endpoint: one `Rtc`, its negotiation, and what is forwarded to it.
//!
//! Nothing else names `Rtc`. Every method that changes it leaves it to be drained: the caller calls `drain` before
//! it sleeps. str0m asks for a drain after each mutation; several writes before one timeout and one drain are
//! held by the whole-server simulation.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::Codec;
use str0m::media::{Direction, Frequency, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Ssrc};
use str0m::{Event, IceConnectionState, IceCreds, Input, Output, Rtc, RtcError};

use crate::id::Names;
use crate::media::codec;
use crate::media::demux::MAX_ADDRESSES_PER_PEER;
use crate::media::forward::{FIRST_SEQ_NO_LIMIT, Forward, Incoming};
use crate::media::negotiation::{Agreed, Answered, Change, Negotiation, TrackId};
use crate::media::profile::{PayloadTypes, Profile, forwarded_extensions};
use crate::media::sdp::{SdpRefusal, check_answer, without_surplus};
use crate::media::wallclock::{Report, SenderClock};

/// SSRCs that one peer may send, repair streams not counted. More are dropped.
const MAX_SSRCS: usize = 32;

/// Bytes of RTP payload that are forwarded. str0m writes packets into 2,000 bytes and panics beyond; what is larger
/// than this does not fit the path either (an Ethernet frame less IP, UDP, RTP, extensions and the SRTP tag).
const MAX_PAYLOAD: usize = 1_400;

/// Lines that one peer may reject for good; they stay in every later offer.
const MAX_DEAD_LINES: usize = 64;

/// Video packets kept to answer NACKs: more than a second at 1 Mbit/s, and 50 KB of memory for each subscription.
/// Fewer turn a burst of loss into a freeze.
const RTX_PACKETS: usize = 128;

/// How long they are kept. A retransmission that comes later than this is too late for any jitter buffer.
const RTX_AGE: Duration = Duration::from_secs(3);

/// Most that retransmissions may be of what is sent on a line, so that a storm of NACKs can't amplify; above it the
/// queue of them is dropped. At 10 % loss both ways an honest receiver needs 12 to 20 %, since requests and
/// repairs are lost too: lower turns that into freezes of more than a second.
const RTX_SHARE: f32 = 0.25;

/// How long an address counts after it was last heard of; as long as str0m keeps its candidate pair, so that the
/// pairs are bounded too.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(15);

/// How long ICE may take after an answer that lets media flow.
const ICE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long ICE and DTLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(35);

/// How long a peer whose consent checks have stopped (15 s ago, RFC 7675 section 5.1) may take to come back.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// One participant's WebRTC endpoint.
pub struct Peer {
    rtc: Box<Rtc>,
    /// What its m-lines carry.
    pub negotiation: Negotiation,
    pending: Option<SdpPendingOffer>,
    ufrag: String,
    /// The msid of each set of lines.
    stream_ids: Vec<String>,
    /// What goes out, by index of the line.
    outgoing: Vec<Option<Outgoing>>,
    /// What comes in, by SSRC.
    incoming: Vec<Stream>,
    clock: SenderClock,
    routes: Vec<Route>,
    phase: Phase,
    /// When the `Rtc` wants to be woken.
    next_timeout: Option<Instant>,
}

/// A validated address of the peer, and the local address that its datagrams come to.
#[derive(Clone, Copy, Debug)]
struct Route {
    remote: SocketAddr,
    local: SocketAddr,
    last_received: Instant,
}

/// How far the transport is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No answer yet that lets media flow.
    Signaling,
    /// Since when ICE, then DTLS, are awaited.
    Connecting { since: Instant, ice: bool },
    /// Media flows.
    Connected,
    /// Since when ICE consent is lost.
    Lost { since: Instant },
}

/// One line on which the server sends.
struct Outgoing {
    mid: Mid,
    ssrc: Ssrc,
    forward: Forward,
    payload_types: PayloadTypes,
    track: Option<TrackId>,
    told_cannot_decode: bool,
}

/// One SSRC that the peer sends.
struct Stream {
    ssrc: Ssrc,
    mid: Mid,
    report: Option<Report>,
    highest_seq_no: u64,
}

/// A packet of a published track, ready for all its subscribers.
pub struct Packet {
    /// The track.
    pub mid: Mid,
    /// Its codec.
    pub codec: Codec,
    /// The numbers to be rewritten.
    pub incoming: Incoming,
    /// RTP payload; shared by all who get it.
    pub payload: Arc<[u8]>,
    /// RTP marker bit.
    pub marker: bool,
    /// When it was captured, in our time.
    pub captured: Instant,
    /// It is the first packet of a keyframe, whether or not it came in order.
    pub keyframe: bool,
    extensions: ExtensionValues,
}

/// What a drain found.
#[allow(clippy::large_enum_variant, reason = "packets are what it is for; boxing them would allocate for each")]
pub enum PeerEvent {
    /// A packet to forward.
    Packet(Packet),
    /// This peer, as a subscriber, needs a keyframe on a line.
    KeyframeRequest {
        /// Index of the line.
        line: usize,
    },
    /// ICE and DTLS are up.
    Connected,
}

/// What became of packets for one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Will go out with the next drain.
    pub queued: u64,
    /// Will not: before the subscription starts, older than its start, or not decodable.
    pub skipped: u64,
    /// The subscriber waits for a keyframe.
    pub awaits_keyframe: bool,
    /// The subscriber has not negotiated the codec; said once per subscription.
    pub cannot_decode: bool,
}

/// Why a peer has to end. The text is for its log line, the code for the peer.
#[derive(Debug)]
pub enum PeerError {
    /// The answer can't be one to the offer.
    BadAnswer(String),
    /// No offer is out.
    UnexpectedAnswer,
    /// The answer did not come in time.
    AnswerTimeout,
    /// ICE or DTLS did not come up, or went away.
    MediaTimeout(&'static str),
    /// str0m gave up.
    Rtc(RtcError),
    /// A panic: a bug of ours or of str0m's.
    Bug(String),
}

impl Peer {
    /// A peer that has not offered anything yet.
    pub fn new(now: Instant, profile: &Profile, names: &mut Names) -> Self {
        let creds = IceCreds { ufrag: names.token(12), pass: names.token(26) };
        let ufrag = creds.ufrag.clone();
        let mut rtc = profile.config().set_local_ice_credentials(creds).build(now);
        for candidate in profile.candidates() {
            rtc.add_local_candidate(candidate.clone());
        }
        Self {
            rtc: Box::new(rtc),
            negotiation: Negotiation::default(),
            pending: None,
            ufrag,
            stream_ids: Vec::new(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            clock: SenderClock::default(),
            routes: Vec::new(),
            phase: Phase::Signaling,
            next_timeout: None,
        }
    }

    /// Builds the offer that carries what has changed, as SDP; `None` if nothing has.
    pub fn build_offer(&mut self, now: Instant, names: &mut Names) -> Option<String> {
        let changes = self.negotiation.start_offer(now);
        if changes.is_empty() {
            return None;
        }
        for change in &changes {
            let Change::Direct { mid, fresh_ssrc: true, .. } = change else {
                continue;
            };
            // Not `reset_stream_tx`: it leaves the stream filed under its old SSRC, where feedback for the new
            // one does not find it.
            let mut direct = self.rtc.direct_api();
            let old = direct.stream_tx_by_mid(*mid, None).map(|stream| (stream.ssrc(), stream.rtx().is_some()));
            if let Some((old, has_rtx)) = old {
                direct.remove_stream_tx(old);
                let (ssrc, rtx) = (direct.new_ssrc(), direct.new_ssrc());
                direct.declare_stream_tx(ssrc, has_rtx.then_some(rtx), *mid, None);
            }
        }
        let mut sdp = self.rtc.sdp_api();
        for change in changes {
            match change {
                Change::Add { line, kind, direction, set } => {
                    let stream_id = set.map(|set| {
                        while self.stream_ids.len() <= set {
                            self.stream_ids.push(names.token(12));
                        }
                        self.stream_ids[set].clone()
                    });
                    let mid = sdp.add_media(kind, direction, stream_id, Some(names.token(12)), None);
                    self.negotiation.set_mid(line, mid);
                }
                Change::Direct { mid, direction, .. } => {
                    // The same direction again is no change to str0m, but has to be offered again.
                    if direction != Direction::Inactive {
                        sdp.set_direction(mid, Direction::Inactive);
                    }
                    sdp.set_direction(mid, direction);
                }
            }
        }
        let Some((offer, pending)) = sdp.apply() else {
            // str0m has it like that already: agreed without asking.
            let answers = self.answered();
            self.negotiation.handle_answer(now, answers.into_iter());
            return None;
        };
        self.pending = Some(pending);
        Some(offer.to_sdp_string())
    }

    /// Takes the answer to the outstanding offer.
    ///
    /// # Errors
    /// The peer can't go on: an answer is not something that can be half taken.
    pub fn handle_answer(&mut self, now: Instant, sdp: &str, names: &mut Names) -> Result<Vec<Agreed>, PeerError> {
        let pending = self.pending.take().ok_or(PeerError::UnexpectedAnswer)?;
        check_answer(sdp, self.offered_lines())
            .map_err(|refusal: SdpRefusal| PeerError::BadAnswer(format!("{refusal:?}")))?;
        let sdp = without_surplus(sdp);
        let bad = |error: &dyn std::fmt::Display| PeerError::BadAnswer(error.to_string());
        let answer = SdpAnswer::from_sdp_string(&sdp).map_err(|error| bad(&error))?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| bad(&error))?;
        let answers = self.answered();
        let agreed = self.negotiation.handle_answer(now, answers.into_iter());
        if self.negotiation.dead_lines() > MAX_DEAD_LINES {
            return Err(PeerError::BadAnswer("it rejects m-line after m-line".to_owned()));
        }
        for agreed in &agreed {
            if let Agreed::Subscribed { line, track } = *agreed {
                self.start_forwarding(line, track, names);
            }
        }
        if self.phase == Phase::Signaling && self.negotiation.expects_media() {
            self.phase = Phase::Connecting { since: now, ice: false };
        }
        Ok(agreed)
    }

    /// Takes one datagram that the demultiplexer found to be this peer's. `local` is where it arrived,
    /// `announced` the candidate that stands for it. Says whether an authenticated check has just validated its
    /// source address.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: SocketAddr,
        announced: SocketAddr,
        contents: &[u8],
    ) -> Result<Option<Validated>, PeerError> {
        let Ok(receive) = Receive::new(Protocol::Udp, source, announced, contents) else {
            return Ok(None);
        };
        let input = Input::Receive(now, receive);
        // RFC 7983: the first byte of STUN is 0 to 3.
        let is_check = contents.first().is_some_and(|first| *first <= 3);
        // Verifies MESSAGE-INTEGRITY: str0m would make a candidate pair for anybody.
        if is_check && !self.rtc.accepts(&input) {
            return Ok(None);
        }
        let known = self.routes.iter_mut().find(|route| route.remote == source);
        let is_new = known.is_none();
        if let (Some(route), true) = (known, is_check) {
            route.local = local;
            route.last_received = now;
        }
        let mut evicted = None;
        if is_new && self.routes.len() >= MAX_ADDRESSES_PER_PEER {
            let silent = |route: &Route| now > route.last_received + ADDRESS_LIFETIME;
            let Some(index) = self.routes.iter().position(silent) else {
                return Ok(None);
            };
            evicted = Some(self.routes.remove(index).remote);
        }
        self.rtc.handle_input(input).map_err(PeerError::Rtc)?;
        if !is_new {
            return Ok(is_check.then_some(Validated { evicted: None }));
        }
        self.routes.push(Route { remote: source, local, last_received: now });
        Ok(Some(Validated { evicted }))
    }

    /// Time has passed; also what makes written packets go out.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), PeerError> {
        if self.negotiation.answer_due().is_some_and(|due| due <= now) {
            return Err(PeerError::AnswerTimeout);
        }
        match self.phase {
            Phase::Connecting { since, ice: false } if now >= since + ICE_TIMEOUT => {
                return Err(PeerError::MediaTimeout("no ICE connectivity check came"));
            }
            Phase::Connecting { since, .. } if now >= since + CONNECT_TIMEOUT => {
                return Err(PeerError::MediaTimeout("DTLS did not finish"));
            }
            Phase::Lost { since } if now >= since + RECOVERY_TIMEOUT => {
                return Err(PeerError::MediaTimeout("ICE consent was lost"));
            }
            _ => {}
        }
        self.rtc.handle_input(Input::Timeout(now)).map_err(PeerError::Rtc)
    }

    /// Writes packets of a track to the subscriber's line. They go out with the next `handle_timeout` and `drain`.
    pub fn forward<'a>(
        &mut self,
        now: Instant,
        line: usize,
        track: TrackId,
        packets: impl ExactSizeIterator<Item = &'a Packet>,
    ) -> Forwarded {
        let mut forwarded = Forwarded { skipped: packets.len() as u64, ..Forwarded::default() };
        let Some(outgoing) = self.outgoing.get_mut(line).and_then(Option::as_mut) else {
            return forwarded;
        };
        if outgoing.track != Some(track) || self.phase != Phase::Connected {
            return forwarded;
        }
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx(&outgoing.ssrc) else {
            return forwarded;
        };
        for packet in packets {
            let Some(pt) = outgoing.payload_types.find(packet.codec) else {
                forwarded.cannot_decode |= !std::mem::replace(&mut outgoing.told_cannot_decode, true);
                continue;
            };
            let Some(rewritten) = outgoing.forward.rewrite(now, &packet.incoming) else {
                forwarded.awaits_keyframe |= outgoing.forward.is_waiting();
                continue;
            };
            let (seq_no, payload) = (rewritten.seq_no.into(), Arc::clone(&packet.payload));
            let write = RtpWrite::new(pt, seq_no, rewritten.timestamp, packet.captured, payload)
                .marker(packet.marker)
                .nackable(packet.codec != Codec::Opus)
                .ext_vals(packet.extensions.clone());
            stream.write_rtp(write);
            forwarded.queued += 1;
            forwarded.skipped -= 1;
        }
        forwarded
    }

    /// Stops what is sent on a line, at once.
    pub fn stop_forwarding(&mut self, line: usize) {
        if let Some(outgoing) = self.outgoing.get_mut(line).and_then(Option::as_mut) {
            outgoing.track = None;
            outgoing.forward.pause();
        }
    }

    /// The track that is being sent on a line.
    pub fn forwarded(&self, line: usize) -> Option<TrackId> {
        self.outgoing.get(line)?.as_ref()?.track
    }

    /// Asks this peer, as a publisher, for a keyframe. It goes out with the next drain.
    pub fn request_keyframe(&mut self, mid: Mid) {
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Takes all output out of the `Rtc`: datagrams (with the local address to send them from) and events.
    /// Afterwards `next_timeout` is up to date.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn drain(
        &mut self,
        now: Instant,
        transmits: &mut Vec<Transmit>,
        events: &mut Vec<PeerEvent>,
    ) -> Result<(), PeerError> {
        loop {
            match self.rtc.poll_output().map_err(PeerError::Rtc)? {
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    return Ok(());
                }
                Output::Transmit(mut transmit) => {
                    if let Some(route) = self.routes.iter().find(|route| route.remote == transmit.destination) {
                        transmit.source = route.local;
                        transmits.push(transmit);
                    }
                }
                Output::Event(event) => events.extend(self.on_event(now, event)),
            }
        }
    }

    /// When `handle_timeout` is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Connecting { since, ice: false } => Some(since + ICE_TIMEOUT),
            Phase::Connecting { since, ice: true } => Some(since + CONNECT_TIMEOUT),
            Phase::Lost { since } => Some(since + RECOVERY_TIMEOUT),
            Phase::Signaling | Phase::Connected => None,
        };
        [self.next_timeout, own, self.negotiation.answer_due(), self.negotiation.offer_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What names this peer in STUN requests.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The addresses that were validated.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.routes.iter().map(|route| route.remote)
    }

    /// Whether the peer has proven not long ago that it receives at this address.
    pub fn holds(&self, now: Instant, remote: SocketAddr) -> bool {
        let mut routes = self.routes.iter();
        routes.any(|route| route.remote == remote && now <= route.last_received + ADDRESS_LIFETIME)
    }

    /// Whether media flows.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether media flowed at some time.
    pub fn was_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected | Phase::Lost { .. })
    }

    /// m-lines in the latest offer.
    pub fn offered_lines(&self) -> usize {
        self.negotiation.lines().iter().filter(|line| line.mid.is_some()).count()
    }

    /// The direction of every line, as it is agreed.
    fn answered(&self) -> Vec<Answered> {
        let answers = self.negotiation.lines().iter().enumerate().filter_map(|(line, state)| {
            let media = self.rtc.media(state.mid?)?;
            Some(Answered { line, direction: media.direction(), rejected: media.stopped() })
        });
        answers.collect()
    }

    fn start_forwarding(&mut self, line: usize, track: TrackId, names: &mut Names) {
        let mid = self.negotiation.lines()[line].mid.expect("an agreed line has a mid");
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(mid, None) else {
            return;
        };
        let ssrc = stream.ssrc();
        if stream.rtx().is_some() {
            stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, Some(RTX_SHARE));
        }
        let mut payload_types = PayloadTypes::default();
        if let Some(media) = self.rtc.media(mid) {
            for params in self.rtc.codec_config().params() {
                if media.remote_pts().contains(&params.pt()) {
                    payload_types.insert(params.spec().codec, params.pt());
                }
            }
        }
        if self.outgoing.len() <= line {
            self.outgoing.resize_with(line + 1, || None);
        }
        // The counter of an SSRC lives as long as the SSRC does.
        let forward = match self.outgoing[line].take() {
            Some(outgoing) if outgoing.ssrc == ssrc => outgoing.forward,
            _ => Forward::new(names.below(FIRST_SEQ_NO_LIMIT)),
        };
        self.outgoing[line] =
            Some(Outgoing { mid, ssrc, forward, payload_types, track: Some(track), told_cannot_decode: false });
    }

    fn on_event(&mut self, now: Instant, event: Event) -> Option<PeerEvent> {
        match event {
            Event::RtpPacket(packet) => self.on_packet(now, packet).map(PeerEvent::Packet),
            Event::KeyframeRequest(request) => {
                let of_mid = |outgoing: &Option<Outgoing>| outgoing.as_ref().is_some_and(|o| o.mid == request.mid);
                let line = self.outgoing.iter().position(of_mid)?;
                Some(PeerEvent::KeyframeRequest { line })
            }
            Event::SenderFeedback(feedback) => {
                let info = feedback.sender_info;
                let stream = self.incoming.iter_mut().find(|stream| stream.ssrc == info.ssrc)?;
                stream.report = Some(Report { ntp: info.ntp_time, timestamp: info.rtp_time.numer() as u32 });
                self.clock.handle_report(feedback.received_at, info.ntp_time);
                None
            }
            Event::IceConnectionStateChange(state) => {
                self.on_ice_state(now, state);
                None
            }
            Event::Connected => {
                self.phase = Phase::Connected;
                Some(PeerEvent::Connected)
            }
            _ => None,
        }
    }

    fn on_ice_state(&mut self, now: Instant, state: IceConnectionState) {
        self.phase = match (self.phase, state.is_connected()) {
            (Phase::Connecting { since, .. }, true) => Phase::Connecting { since, ice: true },
            (Phase::Lost { .. }, true) => {
                // What was not sent meanwhile is a gap, of any length; a fresh start has none.
                for outgoing in self.outgoing.iter_mut().flatten() {
                    outgoing.forward.pause();
                }
                Phase::Connected
            }
            (Phase::Connected, false) => Phase::Lost { since: now },
            (phase, _) => phase,
        };
    }

    fn on_packet(&mut self, now: Instant, packet: RtpPacket) -> Option<Packet> {
        if packet.payload.len() > MAX_PAYLOAD {
            return None;
        }
        let ssrc = packet.header.ssrc;
        let seq_no = *packet.seq_no;
        let stream = self.stream(ssrc)?;
        let in_order = seq_no >= stream.highest_seq_no;
        stream.highest_seq_no = stream.highest_seq_no.max(seq_no);
        let (mid, report) = (stream.mid, stream.report);
        let params = self.rtc.codec_config().params();
        let spec = params.iter().find(|params| params.pt() == packet.header.payload_type)?.spec();
        let keyframe = spec.codec.kind() == MediaKind::Video && codec::starts_keyframe(spec.codec, &packet.payload);
        let timestamp = packet.header.timestamp;
        let clock_rate: Frequency = spec.clock_rate;
        Some(Packet {
            mid,
            codec: spec.codec,
            incoming: Incoming {
                ssrc: *ssrc,
                seq_no,
                timestamp,
                clock_rate,
                // A repaired first packet comes after the rest of its frame, which could not start anything:
                // starting there would leave a gap that nobody can fill.
                can_start: in_order && (keyframe || spec.codec.kind() == MediaKind::Audio),
            },
            marker: packet.header.marker,
            captured: self.clock.captured(now, report, timestamp, clock_rate),
            keyframe,
            extensions: forwarded_extensions(&packet.header.ext_vals),
            payload: packet.payload,
        })
    }

    fn stream(&mut self, ssrc: Ssrc) -> Option<&mut Stream> {
        if let Some(index) = self.incoming.iter().position(|stream| stream.ssrc == ssrc) {
            return Some(&mut self.incoming[index]);
        }
        if self.incoming.len() >= MAX_SSRCS {
            return None;
        }
        let mid = self.rtc.direct_api().stream_rx(&ssrc)?.mid();
        self.incoming.push(Stream { ssrc, mid, report: None, highest_seq_no: 0 });
        self.incoming.last_mut()
    }
}

/// Does something with one peer. A panic in it ends that peer alone, not the process with everybody's calls.
///
/// # Errors
/// Those of `act`, and `PeerError::Bug`: the peer has to end, its state is not to be trusted.
pub fn guarded<T>(act: impl FnOnce() -> Result<T, PeerError>) -> Result<T, PeerError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(PeerError::Bug(text.unwrap_or("no words").to_owned()))
    })
}

/// A source address that an authenticated check has just validated, for the first time or again.
#[derive(Clone, Copy, Debug)]
pub struct Validated {
    /// The oldest address, which had to go for it.
    pub evicted: Option<SocketAddr>,
}

impl PeerError {
    /// What the peer is told. Details are for the log: a parser's may show more of the server than of the answer.
    pub fn message(&self) -> &'static str {
        match self {
            Self::BadAnswer(_) => "The answer does not fit the offer.",
            Self::UnexpectedAnswer => "An answer came while no offer was out.",
            Self::AnswerTimeout => "No answer came in time.",
            Self::MediaTimeout(_) => "Sound and picture could not be connected: UDP may be blocked on the way.",
            Self::Rtc(_) | Self::Bug(_) => "The connection for sound and picture failed.",
        }
    }

    /// The stable code that the peer is told.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadAnswer(_) => "bad-answer",
            Self::UnexpectedAnswer => "unexpected-answer",
            Self::AnswerTimeout => "negotiation-timeout",
            Self::MediaTimeout(_) => "media-timeout",
            Self::Rtc(_) | Self::Bug(_) => "internal",
        }
    }
}

impl std::fmt::Display for PeerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadAnswer(why) => write!(f, "the answer does not fit the offer: {}", why.escape_debug()),
            Self::UnexpectedAnswer => f.write_str("an answer came while no offer was out"),
            Self::AnswerTimeout => f.write_str("no answer came in time"),
            Self::MediaTimeout(what) => write!(f, "media could not be connected: {what}"),
            Self::Rtc(error) => write!(f, "the WebRTC engine failed: {error}"),
            Self::Bug(why) => write!(f, "a bug: {}", why.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_that_peer() {
        let silent = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let numbers: Vec<u8> = Vec::new();
        let index = numbers.len();
        let result = guarded(|| Ok(numbers[index]));
        std::panic::set_hook(silent);
        assert!(matches!(result, Err(PeerError::Bug(why)) if why.contains("out of bounds")));
        assert!(matches!(guarded(|| Ok(1)), Ok(1)));
        assert!(matches!(guarded::<()>(|| Err(PeerError::AnswerTimeout)), Err(PeerError::AnswerTimeout)));
    }
}
