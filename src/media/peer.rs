//! A peer is one participant's WebRTC endpoint: one `Rtc`, its negotiation, and the media forwarded to it.
//!
//! No other module names `Rtc`. Every method that changes it requires a call of `drain` before the loop sleeps.
//!
//! str0m handles ICE, DTLS, SDP and the media that a publisher sends. Media for a subscriber bypasses it: `Sending`
//! seals it with the same keys. So str0m must not send anything under the SSRCs of these m-lines, not even reports: its
//! outgoing streams exist only while an offer is written, which takes the SSRCs from them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::PayloadParams;
use str0m::ice::StunMessage;
use str0m::media::{Direction, Frequency, KeyframeRequestKind, MediaKind, Mid, Rids};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::{Event, IceConnectionState, IceCreds, Input, Output, Rtc};

use crate::id::{Names, TrackId};
use crate::media::fault::PeerError;
use crate::media::negotiation::answer;
use crate::media::negotiation::assignment::{MAX_REJECTED_M_LINES, MAX_SENDING_M_LINES};
use crate::media::negotiation::offered::{Offered, offered};
use crate::media::negotiation::profile::{DEPENDENCY_ID, MEDIA_IDS, PayloadTypes, Profile, TRANSPORT_CC_ID};
use crate::media::negotiation::sdp::{self, named, unnamed, with_simulcast};
use crate::media::negotiation::{Agreed, Answered, Change, Negotiation};
use crate::media::publish::arrivals::Arrivals;
use crate::media::publish::heard::Heard;
use crate::media::publish::history;
use crate::media::publish::layer::RIDS;
use crate::media::publish::sender_clock::{Report, SenderClock};
use crate::media::rtp::codec;
use crate::media::rtp::codec::configuration::{Configuration, Order, Place};
use crate::media::rtp::codec::dependency::Structure;
use crate::media::rtp::elements::Elements;
use crate::media::rtp::packet::{Incoming, MAX_PAYLOAD, Packet};
use crate::media::rtp::rtcp;
use crate::media::subscribe::egress::Egress;
use crate::media::subscribe::requests::Request;
use crate::media::subscribe::sending::Sending;
use crate::media::transport::addresses::Validated;
use crate::media::transport::allowance::Allowance;
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::route::Route;
use crate::media::transport::srtp::{Exported, Srtp};
use crate::media::transport::{dtls, opening};
use crate::track::Source;

/// Incoming SSRCs of one peer at a time, without RTX SSRCs. At the limit the longest-silent finished stream is
/// removed: one that another SSRC has replaced, or whose m-line no longer sends. A peer has m-lines and layers for 24,
/// so a finished stream always exists.
const MAX_SSRCS: usize = 32;

/// Limit of extended sequence numbers: an SRTP packet index has 48 bits (RFC 3711 section 3.3.1). For a packet before
/// number 0, str0m computes an index of almost 2^64; it would be forwarded under a number that was used before.
const SEQ_NO_LIMIT: u64 = 1 << 48;

/// Maximum number of m-lines, audio and video in both directions, that one peer may reject permanently, in addition to
/// the m-lines that one offer has for its tracks.
const MAX_DEAD_M_LINES: usize = 4 * MAX_REJECTED_M_LINES;

/// Connectivity checks that str0m keeps until the first answer brings the password for the replies: one for each
/// candidate pair of a common client. str0m handles one in each turn of the loop. More adds turns without use, fewer
/// delays a client with many addresses until its next check.
const EARLY_CHECKS: u32 = 8;

/// Maximum number of local candidates in the life of one peer. str0m forgets none, so more lets the memory of a long
/// call grow with each address change; fewer omits addresses of a machine with many interfaces.
const MAX_CANDIDATES: usize = 256;

/// Time limit for ICE after an answer that lets media flow.
const ICE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for ICE and DTLS together, after such an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(35);

/// Time limit for a peer to recover after its consent has expired, which is 15 s after its last check (RFC 7675 section
/// 5.1).
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Memory that str0m uses for one peer and for each of its m-lines, measured (`tests/allocations.rs`) and rounded up.
/// The first includes an unfinished DTLS handshake.
const ENGINE_BYTES: usize = 128 * 1024;
const ENGINE_M_LINE_BYTES: usize = 16 * 1024;

/// One participant's WebRTC endpoint.
pub struct Peer {
    rtc: Box<Rtc>,
    /// Present and former addresses of the server that were given to str0m.
    candidates: Vec<SocketAddr>,
    /// The state of its m-lines.
    pub negotiation: Negotiation,
    pending: Option<SdpPendingOffer>,
    /// The answer to `pending`, queued until `handle_answer` may run.
    answer: Option<String>,
    /// The m-lines of the latest offer.
    offered: Vec<Offered>,
    ufrag: String,
    password: String,
    /// The msid of each set of m-lines.
    stream_ids: Vec<String>,
    /// The media forwarded to this peer.
    pub sending: Sending,
    /// The streams that this peer sends.
    incoming: Vec<Stream>,
    /// H.264 parameter sets in the latest answer, by m-line.
    parameter_sets: Vec<(Mid, Vec<Vec<u8>>)>,
    heard: Heard,
    /// Whether it can send simulcast layers.
    simulcast: bool,
    /// Camera m-lines that it sends without simulcast. They stay that way: simulcast can't be added to them later.
    single: Vec<Mid>,
    clock: SenderClock,
    /// Arrival times of media packets, by transport-wide sequence number.
    arrivals: Arrivals,
    allowance: Allowance,
    /// See `take_oversized`.
    oversized: (u64, Option<Mid>),
    /// See `take_unconfigured`.
    unconfigured: u64,
    /// Route of str0m's last datagram that was not STUN.
    transport: Option<Route>,
    /// The keying material from DTLS, until media is connected.
    exported: Option<Exported>,
    /// SSRC of sender reports.
    reporter: u32,
    /// The route of the datagram being handled, and the header extension elements that describe its media.
    arrived: (Option<Route>, Elements),
    phase: Phase,
    /// Number of connectivity checks before the first answer; `None` after it.
    early_checks: Option<u32>,
    has_ice: bool,
    /// Whether str0m got a datagram and was not polled since.
    is_fed: bool,
    /// When the `Rtc`'s timeout is due.
    next_timeout: Option<Instant>,
}

/// Progress of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No answer yet that lets media flow.
    Signaling,
    /// Waiting for ICE, then for DTLS. `ice` is true once ICE is connected.
    Connecting { since: Instant, ice: bool },
    /// Media flows.
    Connected,
    /// ICE consent is lost.
    Lost { since: Instant },
}

/// One SSRC that the peer sends.
struct Stream {
    ssrc: Ssrc,
    mid: Mid,
    /// Index of its simulcast layer.
    layer: u8,
    /// Whether it is one of several simulcast layers.
    has_rid: bool,
    /// Time of the last packet.
    last_at: Instant,
    report: Option<Report>,
    highest_seq_no: Option<u64>,
    structure: Structure,
    configuration: Configuration,
}

/// An event from `Peer::drain`.
#[allow(clippy::large_enum_variant, reason = "most events are packets; boxing them would allocate for each")]
pub enum PeerEvent {
    /// A packet to forward.
    Packet(Packet),
    /// This peer, as a subscriber, requests a keyframe or a lost packet.
    Request(Request),
    /// ICE and DTLS are connected.
    Connected,
    /// ICE consent was lost after that (RFC 7675), or restored.
    Consent {
        /// Whether consent is held now.
        is_held: bool,
    },
}

impl Peer {
    /// Maximum memory in bytes of a peer that subscribes to `tracks` tracks.
    pub const fn max_bytes(tracks: usize) -> usize {
        let m_lines = tracks + MAX_SENDING_M_LINES + MAX_DEAD_M_LINES;
        let engine = ENGINE_BYTES + m_lines * (ENGINE_M_LINE_BYTES + size_of::<Offered>());
        let sent = MAX_SENDING_M_LINES * answer::PARAMETER_SETS_BYTES;
        let incoming = MAX_SSRCS * (2 * size_of::<Stream>() + Configuration::max_bytes(history::AGE));
        engine
            + Arrivals::MAX_BYTES
            + sent
            + incoming
            + Heard::MAX_BYTES
            + Sending::max_bytes(tracks + MAX_DEAD_M_LINES)
    }

    /// Creates a peer that has sent no offer yet.
    pub fn new(now: Instant, profile: &Profile, allowance: Allowance, simulcast: bool, names: &mut Names) -> Self {
        let creds = IceCreds { ufrag: names.token(12), pass: names.token(26) };
        let (ufrag, password) = (creds.ufrag.clone(), creds.pass.clone());
        let rtc = profile.config().set_local_ice_credentials(creds).build(now);
        let mut peer = Self {
            rtc: Box::new(rtc),
            candidates: Vec::new(),
            negotiation: Negotiation::default(),
            pending: None,
            answer: None,
            offered: Vec::new(),
            ufrag,
            password,
            stream_ids: Vec::new(),
            sending: Sending::default(),
            incoming: Vec::new(),
            parameter_sets: Vec::new(),
            heard: Heard::default(),
            simulcast,
            single: Vec::new(),
            clock: SenderClock::default(),
            arrivals: Arrivals::new(now),
            allowance,
            oversized: (0, None),
            unconfigured: 0,
            transport: None,
            exported: None,
            reporter: names.next_u32(),
            arrived: (None, Elements::default()),
            phase: Phase::Signaling,
            early_checks: Some(0),
            has_ice: false,
            is_fed: false,
            next_timeout: None,
        };
        // Candidates above the limit are omitted.
        let _ = peer.add_candidates(profile);
        peer
    }

    /// Adds the server's present addresses as candidates. Returns those that the client does not know yet, in the form
    /// of RFC 8839 section 5.1, with the mid they belong to; none before the first offer, which contains them.
    ///
    /// Former addresses stay: a cable that is plugged in again restores them, and removing one from ICE would end a call
    /// that only waits for that. The client's connectivity checks find out which pairs work.
    ///
    /// # Errors
    /// The peer has had too many addresses to add another one and has to end. A new peer starts with the present ones.
    pub fn add_candidates(&mut self, profile: &Profile) -> Result<Vec<(String, Mid)>, PeerError> {
        let mid = self.negotiation.m_lines().iter().filter(|m_line| !m_line.is_dead()).find_map(|m_line| m_line.mid);
        let mut added = Vec::new();
        for candidate in profile.candidates() {
            if self.candidates.contains(&candidate.addr()) {
                continue;
            }
            if self.candidates.len() >= MAX_CANDIDATES {
                // If the present addresses alone reach the limit, a new peer could have no more of them.
                return if profile.candidates().len() < MAX_CANDIDATES { Err(PeerError::UsedUp) } else { Ok(added) };
            }
            self.candidates.push(candidate.addr());
            if let (Some(candidate), Some(mid)) = (self.rtc.add_local_candidate(candidate.clone()), mid) {
                added.push((candidate.to_sdp_string(), mid));
            }
        }
        Ok(added)
    }

    /// Returns an SDP offer with the changes since the last one, or `None` if there are none.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn build_offer(&mut self, now: Instant, names: &mut Names) -> Result<Option<String>, PeerError> {
        let changes = self.negotiation.start_offer(now);
        if changes.is_empty() {
            return Ok(None);
        }
        self.declare_streams(&changes, names)?;
        let mut sdp = self.rtc.sdp_api();
        for change in changes {
            match change {
                Change::Add { m_line, kind, direction, set } => {
                    let stream_id = set.map(|set| {
                        while self.stream_ids.len() <= set {
                            self.stream_ids.push(names.token(12));
                        }
                        self.stream_ids[set].clone()
                    });
                    let mid = sdp.add_media(kind, direction, stream_id, Some(names.token(12)), None);
                    self.negotiation.set_mid(m_line, mid);
                }
                Change::Direct { mid, direction, .. } => {
                    // str0m ignores a direction that does not change, but this m-line has to be offered again.
                    if direction != Direction::Inactive {
                        sdp.set_direction(mid, Direction::Inactive);
                    }
                    sdp.set_direction(mid, direction);
                }
            }
        }
        let applied = sdp.apply();
        for outgoing in self.sending.m_lines() {
            self.rtc.direct_api().remove_stream_tx(outgoing.ssrc.into());
        }
        let Some((offer, pending)) = applied else {
            // str0m already has this state, so it is agreed without an offer.
            let answers = self.answered();
            self.negotiation.handle_answer(now, answers.into_iter());
            self.negotiation.note_exchange();
            return Ok(None);
        };
        self.pending = Some(pending);
        let mut offer = sdp::with_codec_before_redundancy(&named(&offer.to_sdp_string()));
        self.offered = offered(&offer);
        if self.early_checks.is_some() {
            offer = sdp::with_repeated_candidates(&offer);
        }
        Ok(Some(if self.simulcast { with_simulcast(&offer, &self.layered_m_lines()) } else { offer }))
    }

    /// Queues the answer to the outstanding offer until `take_answer`.
    ///
    /// # Errors
    /// There is no outstanding offer, or it already has an answer: the peer has to end.
    pub fn queue_answer(&mut self, sdp: String) -> Result<(), PeerError> {
        if self.pending.is_none() || self.answer.is_some() {
            return Err(PeerError::UnexpectedAnswer);
        }
        self.answer = Some(sdp);
        Ok(())
    }

    /// Takes the queued answer, for `handle_answer`.
    pub fn take_answer(&mut self) -> Option<String> {
        self.answer.take()
    }

    /// Returns true if an answer names none of this transport's m-lines, because it answers an offer of the participant's
    /// previous transport.
    pub fn is_foreign(&self, answer: &str) -> bool {
        let m_lines = self.negotiation.m_lines();
        let mut mids = answer.lines().filter_map(|line| line.strip_prefix("a=mid:"));
        !mids.any(|mid| m_lines.iter().any(|m_line| m_line.mid.is_some_and(|own| *own == *mid.trim())))
    }

    /// Applies the answer to the outstanding offer.
    ///
    /// # Errors
    /// The answer is invalid: the peer has to end, because an answer can't be applied in part.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        sdp: &str,
        profile: &Profile,
        names: &mut Names,
    ) -> Result<Vec<Agreed>, PeerError> {
        let pending = self.pending.take().ok_or(PeerError::UnexpectedAnswer)?;
        let reduced = unnamed(&answer::reduce(sdp, &self.offered).map_err(PeerError::of_answer)?);
        let bad = |error: &dyn std::fmt::Display| PeerError::BadAnswer(error.to_string());
        let answer = SdpAnswer::from_sdp_string(&reduced).map_err(|error| bad(&error))?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| bad(&error))?;
        self.early_checks = None;
        self.parameter_sets = answer::parameter_sets(sdp, &self.offered);
        self.take_streams(names)?;
        self.sending.set_redundant(&answer::redundant(sdp, &self.offered));
        let answers = self.answered();
        let agreed = self.negotiation.handle_answer(now, answers.into_iter());
        for agreed in &agreed {
            if let Agreed::Subscribed { m_line, track } = *agreed {
                self.start_forwarding(m_line, track, profile);
            }
        }
        self.note_single(&agreed);
        if self.phase == Phase::Signaling && self.negotiation.expects_media() {
            self.phase = Phase::Connecting { since: now, ice: false };
        }
        Ok(agreed)
    }

    /// Gives waiting tracks to live m-lines that carry no needed track, without an offer. Returns each m-line's index and
    /// its new track. See `Negotiation::exchange`.
    pub fn exchange(&mut self, profile: &Profile) -> Vec<(usize, TrackId)> {
        let exchanged = self.negotiation.exchange();
        for (m_line, track) in &exchanged {
            self.start_forwarding(*m_line, *track, profile);
        }
        exchanged
    }

    /// Handles one datagram that the demultiplexer has assigned to this peer. `route` leads back to its source,
    /// `announced` is the candidate for its destination. Returns `Some` if the datagram is an authenticated connectivity
    /// check that has validated its source address.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        route: Route,
        announced: SocketAddr,
        contents: &[u8],
    ) -> Result<Option<Validated>, PeerError> {
        let Ok(receive) = Receive::new(Protocol::Udp, route.remote, announced, contents) else {
            return Ok(None);
        };
        let input = Input::Receive(now, receive);
        let (mut validated, mut number, mut unmapped, mut packet) = (None, None, None, None);
        if is_stun(contents) {
            // Checks from the address that receives media are not charged: other addresses cannot use up its allowance.
            let is_way = self.sending.egress.as_ref().is_some_and(|egress| egress.route.remote == route.remote);
            if !self.is_check(contents) || !is_way && !self.allowance.take_check(now) {
                return Ok(None);
            }
            if let Some(count) = &mut self.early_checks {
                *count += 1;
                if *count > EARLY_CHECKS {
                    return Ok(None);
                }
            }
            validated = self.sending.addresses.validate(now, route);
            if validated.is_none() {
                return Ok(None);
            }
        } else if rtcp::is_rtcp(contents) {
            // Only `Sending` handles the RTCP of a pure subscriber: decrypting it twice would be the largest cost of one.
            let is_of_sender = self.sending.handle_rtcp(now, route, contents, &mut self.allowance);
            let is_for_receiver = is_of_sender && !self.incoming.is_empty();
            if self.sending.egress.is_some() && !is_for_receiver {
                return Ok(None);
            }
        } else {
            if is_media(contents) {
                if !self.allowance.take_packet(now, contents.len()) {
                    return Ok(None);
                }
                let Some(&[_, _, a, b, .., c, d, e, f]) = contents.first_chunk::<12>() else {
                    return Ok(None);
                };
                let (ssrc, seq_no) = (u32::from_be_bytes([c, d, e, f]), u16::from_be_bytes([a, b]));
                packet = Some((ssrc, seq_no));
                if !self.heard.is_mapped(ssrc) {
                    let rollover = self.heard.rollover(ssrc, seq_no);
                    if !rollover.is_some_and(|rollover| self.sending.is_authentic(contents, rollover)) {
                        self.allowance.give_packet_back(now, contents.len());
                        return Ok(None);
                    }
                    if !self.heard.insert(ssrc) {
                        return Err(PeerError::UsedUp);
                    }
                    unmapped = Some(ssrc);
                }
            }
            let (elements, apart) = Elements::read_apart(contents, MEDIA_IDS, TRANSPORT_CC_ID);
            number = apart.and_then(|value| {
                let ssrc = contents.get(8..12)?;
                Some((u32::from_be_bytes(ssrc.try_into().ok()?), u16::from_be_bytes(value.try_into().ok()?)))
            });
            self.arrived = (Some(route), elements);
            opening::take_opened();
        }
        self.is_fed = true;
        self.rtc.handle_input(input).map_err(PeerError::of_engine)?;
        self.collect_keys();
        if let Some(ssrc) = unmapped {
            self.follow_streams(ssrc);
        }
        if let Some((ssrc, seq_no)) = packet {
            if opening::take_opened() {
                self.heard.handle_packet(ssrc, seq_no);
                if let Some((ssrc, number)) = number {
                    self.arrivals.handle_packet(now, ssrc, number);
                }
            } else if unmapped.is_none() {
                self.allowance.give_packet_back(now, contents.len());
            }
        }
        Ok(validated)
    }

    /// Updates `heard` after str0m has handled an authentic packet of an SSRC that had no stream.
    fn follow_streams(&mut self, ssrc: u32) {
        let mut direct = self.rtc.direct_api();
        // str0m always has a stream with SSRC 0, for probes.
        let mut mapped = vec![0];
        for main in self.heard.mapped().chain([ssrc]) {
            if let Some(stream) = direct.stream_rx(&main.into()) {
                mapped.push(main);
                mapped.extend(stream.rtx().map(|rtx| *rtx));
            }
        }
        self.heard.follow(ssrc, &mapped);
    }

    /// Returns true if a drain may yield output after a datagram. Feedback and dropped datagrams yield none, and polling
    /// str0m is expensive: it touches all its state.
    pub fn needs_drain(&self) -> bool {
        self.is_fed || self.sending.has_requests()
    }

    /// Returns the number of datagrams over the peer's allowance since the last call.
    pub fn take_excess(&mut self) -> u64 {
        self.allowance.take_excess()
    }

    /// Returns the number of packets dropped since the last call because they are larger than `MAX_PAYLOAD`, and the mid
    /// of the last one.
    pub fn take_oversized(&mut self) -> (u64, Option<Mid>) {
        std::mem::take(&mut self.oversized)
    }

    /// Returns the number of parts of codec configurations dropped since the last call, because there were too many or a
    /// keyframe had no room for them. Participants that subscribe later may be unable to decode the track.
    pub fn take_unconfigured(&mut self) -> u64 {
        std::mem::take(&mut self.unconfigured)
    }

    /// Handles the timeout from `next_timeout`.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), PeerError> {
        if self.answer_due().is_some_and(|due| due <= now) {
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
        self.rtc.handle_input(Input::Timeout(now)).map_err(PeerError::of_engine)?;
        self.collect_keys();
        Ok(())
    }

    /// Returns the index of the video m-line with this mid.
    pub fn video_m_line(&self, mid: Mid) -> Option<usize> {
        self.negotiation.m_lines().iter().position(|m_line| m_line.mid == Some(mid) && m_line.kind == MediaKind::Video)
    }

    /// Requests a keyframe of a layer from this peer, a publisher. The next drain sends the request.
    pub fn request_keyframe(&mut self, mid: Mid, layer: u8) {
        // The stream with the latest packet: a publisher may restart a layer and return to an earlier SSRC.
        let streams = self.incoming.iter().filter(|stream| (stream.mid, stream.layer) == (mid, layer));
        let Some(stream) = streams.max_by_key(|stream| stream.last_at) else {
            return;
        };
        if let Some(stream) = self.rtc.direct_api().stream_rx(&stream.ssrc) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Takes all datagrams and events out of the `Rtc`. Afterwards `next_timeout` is up to date.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn drain(
        &mut self,
        now: Instant,
        datagrams: &mut Datagrams,
        events: &mut Vec<PeerEvent>,
    ) -> Result<(), PeerError> {
        self.is_fed = false;
        events.extend(self.sending.take_requests().map(PeerEvent::Request));
        if self.arrivals.due().is_some_and(|due| due <= now) {
            self.sending.acknowledge(now, &mut self.arrivals, datagrams);
        }
        loop {
            let output = self.rtc.poll_output().map_err(PeerError::of_engine)?;
            self.collect_keys();
            match output {
                Output::Timeout(at) => {
                    self.next_timeout = Some(at);
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    let Some(mut route) = self.sending.addresses.route(transmit.destination) else {
                        continue;
                    };
                    if !is_stun(&transmit.contents) {
                        // str0m keeps the nominated pair until it is lost; the egress follows the peer's packets.
                        route = self.sending.egress.as_ref().map_or(route, |egress| egress.route);
                        // Without consent nothing is sent there, not even reports (RFC 7675 section 5.1).
                        if !self.sending.addresses.holds(now, route.remote) {
                            continue;
                        }
                        self.transport = Some(route);
                    }
                    datagrams.push(route, &transmit.contents);
                }
                Output::Event(Event::Connected) => {
                    self.on_connected(now)?;
                    events.push(PeerEvent::Connected);
                }
                Output::Event(Event::IceConnectionStateChange(state)) => {
                    let before = self.phase;
                    self.on_ice_state(now, state);
                    if let (Phase::Connected, Phase::Lost { .. }) | (Phase::Lost { .. }, Phase::Connected) =
                        (before, self.phase)
                    {
                        events.push(PeerEvent::Consent { is_held: self.is_connected() });
                    }
                }
                Output::Event(Event::Closed) => return Err(PeerError::Closed),
                Output::Event(event) => events.extend(self.on_event(now, event).map(PeerEvent::Packet)),
            }
        }
    }

    /// Returns when `handle_timeout` is due. Offers are not included: see `Negotiation::offer_due`.
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Connecting { since, ice: false } => Some(since + ICE_TIMEOUT),
            Phase::Connecting { since, ice: true } => Some(since + CONNECT_TIMEOUT),
            Phase::Lost { since } => Some(since + RECOVERY_TIMEOUT),
            Phase::Signaling | Phase::Connected => None,
        };
        let arrivals = self.arrivals.due();
        [self.next_timeout, own, arrivals, self.answer_due()].into_iter().flatten().min()
    }

    /// Returns when the outstanding offer times out, or `None` if its answer is queued.
    fn answer_due(&self) -> Option<Instant> {
        self.negotiation.answer_due().filter(|_| self.answer.is_none())
    }

    /// Returns the ICE username fragment that identifies this peer in STUN requests.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Returns true if media flows.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Returns true until an answer arrives that lets media flow.
    pub fn is_new(&self) -> bool {
        self.phase == Phase::Signaling && self.answer.is_none()
    }

    /// Returns true if the peer can send a camera in simulcast layers.
    pub fn has_simulcast(&self) -> bool {
        self.simulcast
    }

    /// Returns the m-lines of the latest offer, as an answer has to repeat them.
    #[cfg(test)]
    pub fn offered(&self) -> &[Offered] {
        &self.offered
    }

    /// Returns the number of m-lines in the latest offer.
    pub fn offered_m_lines(&self) -> usize {
        self.negotiation.m_lines().iter().filter(|m_line| m_line.mid.is_some()).count()
    }

    /// Returns the negotiated direction of every m-line.
    fn answered(&self) -> Vec<Answered> {
        let answers = self.negotiation.m_lines().iter().enumerate().filter_map(|(m_line, state)| {
            let media = self.rtc.media(state.mid?)?;
            Some(Answered { m_line, direction: media.direction(), rejected: media.stopped() })
        });
        answers.collect()
    }

    /// Returns the m-lines that request a camera in simulcast layers.
    fn layered_m_lines(&self) -> Vec<Mid> {
        let m_lines = self.negotiation.m_lines().iter();
        let cameras =
            m_lines.filter(|m_line| m_line.kind == MediaKind::Video && m_line.asks_for() == Some(Source::Camera));
        cameras.filter_map(|m_line| m_line.mid).filter(|mid| !self.single.contains(mid)).collect()
    }

    /// Records the m-lines on which the peer sends no simulcast layers although it was offered them.
    fn note_single(&mut self, agreed: &[Agreed]) {
        for agreed in agreed {
            if let Agreed::Publishing { mid, source: Source::Camera, kind: MediaKind::Video } = *agreed
                && self.rtc.media(mid).is_some_and(|media| !matches!(media.rids_rx(), Rids::Specific(_)))
                && !self.single.contains(&mid)
            {
                self.single.push(mid);
            }
        }
    }

    /// Declares to str0m the SSRCs of all m-lines on which the server sends, for the next offer. Reused m-lines get new
    /// SSRCs. It does not use `reset_stream_tx`, which leaves the stream filed under its old SSRC.
    fn declare_streams(&mut self, changes: &[Change], names: &mut Names) -> Result<(), PeerError> {
        for change in changes {
            if let Change::Direct { mid, fresh_ssrc: true, .. } = change {
                self.sending.renew_m_line(*mid, names)?;
            }
        }
        let mut direct = self.rtc.direct_api();
        for outgoing in self.sending.m_lines() {
            direct.declare_stream_tx(outgoing.ssrc.into(), outgoing.rtx.ssrc.map(Into::into), outgoing.mid, None);
        }
        Ok(())
    }

    /// Removes the streams that str0m has created for the m-lines of an answer, and keeps the SSRCs of those on which the
    /// server sends.
    fn take_streams(&mut self, names: &mut Names) -> Result<(), PeerError> {
        let mut direct = self.rtc.direct_api();
        for (m_line, state) in self.negotiation.m_lines().iter().enumerate() {
            let Some(mid) = state.mid else { continue };
            while let Some(stream) = direct.stream_tx_by_mid(mid, None) {
                let (ssrc, rtx_ssrc) = (stream.ssrc(), stream.rtx());
                direct.remove_stream_tx(ssrc);
                if state.publishes().is_none() && self.sending.m_line_mut(m_line).is_none() {
                    self.sending.add_m_line(m_line, mid, *ssrc, rtx_ssrc.map(|ssrc| *ssrc), names)?;
                }
            }
        }
        Ok(())
    }

    fn start_forwarding(&mut self, m_line: usize, track: TrackId, profile: &Profile) {
        let Some(outgoing) = self.sending.m_line_mut(m_line) else {
            return;
        };
        let Some(media) = self.rtc.media(outgoing.mid) else {
            return;
        };
        let mut payload_types = PayloadTypes::default();
        for params in self.rtc.codec_config().params() {
            if media.remote_pts().contains(&params.pt()) {
                payload_types.insert(params.spec().codec, params.pt(), params.resend());
                payload_types.red = payload_types.red.or(params.red().filter(|_| outgoing.takes_redundancy));
            }
        }
        let accepted = profile.accepted(media.remote_extmap());
        outgoing.start(track, payload_types, accepted);
        self.sending.is_acknowledged |= accepted.contains(TRANSPORT_CC_ID);
    }

    /// Returns true if `contents` is a connectivity check authenticated with this peer's password (RFC 8445 section 7.3).
    /// str0m would create a candidate pair without that, and checks nothing if the address is the nominated one.
    fn is_check(&self, contents: &[u8]) -> bool {
        let Ok(message) = StunMessage::parse(contents) else {
            return false;
        };
        let is_named = message.split_username().is_some_and(|(local, _)| local == self.ufrag);
        message.is_binding_request() && is_named && message.verify(self.password.as_bytes(), hmac_sha1)
    }

    fn collect_keys(&mut self) {
        if self.sending.egress.is_none() {
            self.exported = dtls::take_exported().or(self.exported.take());
        }
    }

    fn on_connected(&mut self, now: Instant) -> Result<(), PeerError> {
        let srtp = self.exported.take().and_then(|exported| Srtp::new(&exported)).ok_or(PeerError::NoSrtp)?;
        let route = self.transport.ok_or(PeerError::MediaTimeout("DTLS came without ICE"))?;
        self.sending.egress = Some(Egress::new(now, srtp, route, self.reporter));
        self.phase = if self.has_ice { Phase::Connected } else { Phase::Lost { since: now } };
        self.sending.is_open = self.is_connected();
        Ok(())
    }

    fn on_event(&mut self, now: Instant, event: Event) -> Option<Packet> {
        match event {
            Event::RtpPacket(packet) => self.on_packet(now, packet),
            Event::SenderFeedback(feedback) => {
                let info = feedback.sender_info;
                let stream = self.incoming.iter_mut().find(|stream| stream.ssrc == info.ssrc)?;
                stream.report = Some(Report { ntp: info.ntp_time, timestamp: info.rtp_time.numer() as u32 });
                self.clock.handle_report(feedback.received_at, info.ntp_time);
                None
            }
            _ => None,
        }
    }

    fn on_ice_state(&mut self, now: Instant, state: IceConnectionState) {
        self.has_ice = state.is_connected();
        self.phase = match (self.phase, state.is_connected()) {
            (Phase::Connecting { since, .. }, true) => Phase::Connecting { since, ice: true },
            (Phase::Lost { .. }, true) => {
                // The packets not sent in the meantime would be a gap of any length; a restart avoids it.
                self.sending.restart();
                Phase::Connected
            }
            (Phase::Connected, false) => Phase::Lost { since: now },
            (phase, _) => phase,
        };
        self.sending.is_open = self.is_connected();
    }

    fn on_packet(&mut self, now: Instant, packet: RtpPacket) -> Option<Packet> {
        // The packet is authentic, so the peer is reachable at its source address.
        let (route, elements) = std::mem::take(&mut self.arrived);
        if let (Some(egress), Some(route)) = (&mut self.sending.egress, route) {
            egress.take_route(now, route);
        }
        // Packets of nothing but padding are forwarded as well: a dropped one would look like a loss to all subscribers.
        let seq_no = *packet.seq_no;
        if packet.payload.len() + elements.len() > MAX_PAYLOAD {
            let mid = self.stream(now, packet.header.ssrc).map(|stream| stream.mid);
            self.oversized = (self.oversized.0 + 1, mid.or(self.oversized.1));
            return None;
        }
        let ssrc = packet.header.ssrc;
        if seq_no >= SEQ_NO_LIMIT {
            // str0m has created a stream for it, which counts towards `MAX_SSRCS`.
            self.stream(now, ssrc);
            return None;
        }
        let pt = packet.header.payload_type;
        let takes = |params: &&PayloadParams| params.pt() == pt || params.red() == Some(pt);
        let params = self.rtc.codec_config().params().iter().find(takes)?;
        let spec = params.spec();
        let redundant = match params.pt() == pt {
            true => None,
            false => match codec::red::primary(&packet.payload) {
                None => {
                    self.stream(now, ssrc);
                    return None;
                }
                some => some,
            },
        };
        let stream = self.stream(now, ssrc)?;
        stream.last_at = now;
        let dependency = elements.find(DEPENDENCY_ID);
        let (marker, timestamp) = (packet.header.marker, packet.header.timestamp);
        let most = MAX_PAYLOAD - elements.len();
        let completed = stream.configuration.complete(spec.codec, &packet.payload, seq_no, most);
        let payload = completed.map_or(packet.payload, Arc::from);
        let mut description = codec::describe(spec.codec, marker, &payload, dependency, &mut stream.structure);
        if stream.has_rid {
            description.flatten();
        }
        let place = Place::of(seq_no, stream.highest_seq_no);
        stream.highest_seq_no = stream.highest_seq_no.max(Some(seq_no));
        let (can_start, preface) = match spec.codec.kind() {
            MediaKind::Audio => (place.order != Order::Late, None),
            MediaKind::Video => {
                let starts = description.starts_keyframe;
                stream.configuration.start(now, spec.codec, timestamp, &payload, place, starts)
            }
        };
        let (mid, layer, report) = (stream.mid, stream.layer, stream.report);
        self.unconfigured += stream.configuration.take_dropped();
        let clock_rate: Frequency = spec.clock_rate;
        Some(Packet {
            mid,
            layer,
            codec: spec.codec,
            incoming: Incoming {
                ssrc: *ssrc,
                epoch: 0,
                seq_no,
                timestamp,
                clock_rate,
                captured: self.clock.captured(now, report, timestamp, clock_rate),
                can_start,
                has_preface: preface.is_some(),
            },
            description,
            marker,
            elements,
            redundant,
            preface,
            payload,
            position: 0,
        })
    }

    /// Returns the index of the stream to remove when a new one begins at `new` (mid and layer): one that another SSRC has
    /// replaced, else one whose m-line no longer exists, else one whose m-line is paused. The last may resume with the
    /// same SSRC and no mid extension. Of several, the longest-silent is chosen.
    fn oldest_over(&self, new: (Mid, u8)) -> Option<usize> {
        let streams = &self.incoming;
        let rank = |stream: &Stream| {
            let place = (stream.mid, stream.layer);
            let follows = |next: &Stream| (next.mid, next.layer) == place && next.last_at > stream.last_at;
            if place == new || streams.iter().any(follows) {
                return Some(0);
            }
            let m_line = self.negotiation.m_lines().iter().find(|m_line| m_line.mid == Some(stream.mid));
            match m_line {
                Some(m_line) if m_line.is_sending() => None,
                Some(m_line) if !m_line.is_dead() => Some(2),
                _ => Some(1),
            }
        };
        let over =
            streams.iter().enumerate().filter_map(|(index, stream)| Some((rank(stream)?, stream.last_at, index)));
        over.min().map(|(_, _, index)| index)
    }

    fn stream(&mut self, now: Instant, ssrc: Ssrc) -> Option<&mut Stream> {
        if let Some(index) = self.incoming.iter().position(|stream| stream.ssrc == ssrc) {
            return Some(&mut self.incoming[index]);
        }
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_rx(&ssrc)?;
        let (mid, has_rid) = (stream.mid(), stream.rid().is_some());
        let layer = stream.rid().and_then(|rid| RIDS.iter().position(|name| *name == &*rid)).unwrap_or_default() as u8;
        let mut configuration = Configuration::default();
        let signaled = self.parameter_sets.iter().find(|(of, _)| *of == mid);
        configuration.sets.seed(signaled.into_iter().flat_map(|(_, sets)| sets).map(Vec::as_slice));
        if self.incoming.len() >= MAX_SSRCS {
            let over = self.oldest_over((mid, layer))?;
            let Stream { ssrc, .. } = self.incoming.remove(over);
            let mut direct = self.rtc.direct_api();
            let rtx = direct.stream_rx(&ssrc).and_then(|stream| stream.rtx());
            direct.remove_stream_rx(ssrc);
            [Some(ssrc), rtx].into_iter().flatten().for_each(|ssrc| self.heard.remove(*ssrc));
        }
        self.incoming.push(Stream {
            ssrc,
            mid,
            layer,
            has_rid,
            last_at: now,
            report: None,
            highest_seq_no: None,
            structure: Structure::default(),
            configuration,
        });
        self.incoming.last_mut()
    }
}

fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("SHA-1 digests have 20 bytes")
}

/// Returns true for STUN, whose first byte is 0 to 3 (RFC 7983).
fn is_stun(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| *first <= 3)
}

/// Returns true for RTP and RTCP, whose first byte is 128 to 191 (RFC 7983).
fn is_media(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| first >> 6 == 2)
}
