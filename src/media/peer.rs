//! A peer is one participant's WebRTC endpoint: one `Rtc`, its negotiation, and what is forwarded to it.
//!
//! Nothing else names `Rtc`. Every method that changes it leaves it to be drained: the caller calls `drain` before
//! it sleeps.
//!
//! str0m does ICE, DTLS, SDP and all that a publisher sends. What goes to a subscriber does not pass through it:
//! `Sending` seals it with the same keys. So str0m must not send under the SSRCs of those lines, not even
//! reports: its streams exist only while an offer is written, which takes the SSRCs from them.

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

use crate::datagrams::{Datagrams, Route};
use crate::id::Names;
use crate::media::addresses::Validated;
use crate::media::allowance::Allowance;
use crate::media::answer::Offered;
use crate::media::bandwidth::arrivals::Arrivals;
use crate::media::codec::configuration::{Configuration, Order, Place};
use crate::media::codec::dependency::Structure;
use crate::media::egress::Egress;
use crate::media::elements::Elements;
use crate::media::fault::PeerError;
use crate::media::forward::Incoming;
use crate::media::heard::Heard;
use crate::media::negotiation::{
    Agreed, Answered, Change, MAX_REJECTED_LINES, MAX_SENDING_LINES, Negotiation, TrackId,
};
use crate::media::packet::{MAX_PAYLOAD, Packet};
use crate::media::profile::{DEPENDENCY_ID, MEDIA_IDS, PayloadTypes, Profile, TRANSPORT_CC_ID};
use crate::media::repair::Sent;
use crate::media::rtcp;
use crate::media::sdp::{self, RIDS, named, unnamed, with_simulcast};
use crate::media::sending::Sending;
use crate::media::srtp::{Exported, Srtp};
use crate::media::wallclock::{Report, SenderClock};
use crate::media::{answer, codec, dtls, history, opening};
use crate::track::Source;

/// Incoming SSRCs of one peer at a time, without repair streams. At the limit the longest-silent finished stream is
/// removed: one that another SSRC has replaced, or whose m-line no longer sends. A peer has m-lines and layers for 24,
/// so a finished stream always exists.
const MAX_SSRCS: usize = 32;

/// Extended sequence numbers: an SRTP packet's index has 48 bits (RFC 3711 section 3.3.1). What falls behind number 0 is
/// almost 2^64 to str0m, and would be forwarded under numbers that were used before.
const SEQ_NO_LIMIT: u64 = 1 << 48;

/// m-lines of both kinds and roles that one peer may reject for good, beside those that one offer has for its tracks.
const MAX_DEAD_LINES: usize = 4 * MAX_REJECTED_LINES;

/// Checks that are kept until the first answer tells the password for the reply: one for each pair of addresses of a
/// common client. str0m takes them up one with each turn of the loop. More make more turns for nothing, fewer let
/// somebody with many addresses wait for the next check.
const EARLY_CHECKS: u32 = 8;

/// Addresses of the server that one peer takes in its life. str0m forgets none, so more let a call that outlives that many
/// changes grow; fewer leave a machine with many interfaces without some.
const MAX_CANDIDATES: usize = 256;

/// How long ICE may take after an answer that lets media flow.
const ICE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long ICE and DTLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(35);

/// How long a peer whose consent checks have stopped (15 s ago, RFC 7675 section 5.1) may take to come back.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What str0m takes for one peer and for each of its m-lines, as measured (`tests/allocations.rs`) and rounded up; with
/// DTLS that is not finished.
const ENGINE_BYTES: usize = 128 * 1024;
const ENGINE_LINE_BYTES: usize = 16 * 1024;

/// One participant's WebRTC endpoint.
pub struct Peer {
    rtc: Box<Rtc>,
    /// The server's addresses that this peer has, or had.
    candidates: Vec<SocketAddr>,
    /// What its m-lines carry.
    pub negotiation: Negotiation,
    pending: Option<SdpPendingOffer>,
    /// The answer to it, which waits for its turn.
    answer: Option<String>,
    /// The m-lines of the latest offer.
    offered: Vec<Offered>,
    ufrag: String,
    password: String,
    /// The msid of each set of lines.
    stream_ids: Vec<String>,
    /// What goes out.
    pub sending: Sending,
    /// What comes in, by SSRC.
    incoming: Vec<Stream>,
    /// H.264 parameter sets that the latest answer has for each m-line.
    parameter_sets: Vec<(Mid, Vec<Vec<u8>>)>,
    heard: Heard,
    /// It can send simulcast layers.
    simulcast: bool,
    /// Camera lines that it sends without layers; that stays so, since simulcast can't be added to them later.
    single: Vec<Mid>,
    clock: SenderClock,
    /// By their transport-wide numbers.
    arrivals: Arrivals,
    allowance: Allowance,
    /// See `take_oversized`.
    oversized: (u64, Option<Mid>),
    /// See `take_unconfigured`.
    unconfigured: u64,
    /// Where str0m sent its last DTLS packet.
    transport: Option<Route>,
    /// What DTLS exported, until media is connected.
    exported: Option<Exported>,
    /// The SSRC of reports on what is sent.
    reporter: u32,
    /// Where the datagram that is being handled came from, and what its header says of the media.
    arrived: (Option<Route>, Elements),
    phase: Phase,
    /// Checks that came before the first answer; `None` after it.
    early_checks: Option<u32>,
    has_ice: bool,
    /// str0m was given a datagram and has not been asked since what it makes of it.
    is_fed: bool,
    /// When the `Rtc` wants to be woken.
    next_timeout: Option<Instant>,
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

/// One SSRC that the peer sends.
struct Stream {
    ssrc: Ssrc,
    mid: Mid,
    /// Index of its simulcast layer.
    layer: u8,
    /// It is one of several.
    has_rid: bool,
    /// When the last packet came.
    last_at: Instant,
    report: Option<Report>,
    highest_seq_no: Option<u64>,
    structure: Structure,
    configuration: Configuration,
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
    /// This peer, as a subscriber, has not got a packet.
    Lost {
        /// Index of the line.
        line: usize,
        /// The packet.
        sent: Sent,
    },
    /// ICE and DTLS are up.
    Connected,
    /// ICE consent was lost after that (RFC 7675), or came back.
    Consent {
        /// Whether it is there now.
        is_held: bool,
    },
}

impl Peer {
    /// The most that one takes that is sent so many tracks.
    pub const fn max_bytes(tracks: usize) -> usize {
        let lines = tracks + MAX_SENDING_LINES + MAX_DEAD_LINES;
        let engine = ENGINE_BYTES + lines * (ENGINE_LINE_BYTES + size_of::<Offered>());
        let sent = MAX_SENDING_LINES * answer::PARAMETER_SETS_BYTES;
        let incoming = MAX_SSRCS * (2 * size_of::<Stream>() + Configuration::max_bytes(history::AGE));
        engine + Arrivals::MAX_BYTES + sent + incoming + Heard::MAX_BYTES + Sending::max_bytes(tracks + MAX_DEAD_LINES)
    }

    /// A peer that has not offered anything yet.
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
        // More than it may have are left out.
        let _ = peer.add_candidates(profile);
        peer
    }

    /// Takes the addresses that the server has now. Gives those that the client does not know yet, in the form of RFC 8839
    /// section 5.1, with the m-line they are for; none before the first offer, which announces them.
    ///
    /// Addresses that are gone stay: a cable that is plugged in again brings them back, and taking one out of ICE would
    /// break a call that only waits for that. The client finds out by itself which pairs work.
    ///
    /// # Errors
    /// It has had too many addresses to learn another one: the peer has to end, and a fresh one knows the present ones.
    pub fn add_candidates(&mut self, profile: &Profile) -> Result<Vec<(String, Mid)>, PeerError> {
        let mid = self.negotiation.lines().iter().filter(|line| !line.is_dead()).find_map(|line| line.mid);
        let mut added = Vec::new();
        for candidate in profile.candidates() {
            if self.candidates.contains(&candidate.addr()) {
                continue;
            }
            if self.candidates.len() >= MAX_CANDIDATES {
                // All at once are as many for a fresh one.
                return if profile.candidates().len() < MAX_CANDIDATES { Err(PeerError::UsedUp) } else { Ok(added) };
            }
            self.candidates.push(candidate.addr());
            if let (Some(candidate), Some(mid)) = (self.rtc.add_local_candidate(candidate.clone()), mid) {
                added.push((candidate.to_sdp_string(), mid));
            }
        }
        Ok(added)
    }

    /// Builds the offer that carries what has changed, as SDP; `None` if nothing has.
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
        let applied = sdp.apply();
        for outgoing in self.sending.lines() {
            self.rtc.direct_api().remove_stream_tx(outgoing.ssrc.into());
        }
        let Some((offer, pending)) = applied else {
            // str0m has it like that already: agreed without asking.
            let answers = self.answered();
            self.negotiation.handle_answer(now, answers.into_iter());
            self.negotiation.note_exchange();
            return Ok(None);
        };
        self.pending = Some(pending);
        let mut offer = sdp::with_codec_before_redundancy(&named(&offer.to_sdp_string()));
        self.offered = answer::offered(&offer);
        if self.early_checks.is_some() {
            offer = sdp::with_repeated_candidates(&offer);
        }
        Ok(Some(if self.simulcast { with_simulcast(&offer, &self.layered_lines()) } else { offer }))
    }

    /// Keeps the answer to the outstanding offer until it is taken.
    ///
    /// # Errors
    /// No offer is out, or it has an answer: the peer has to end.
    pub fn queue_answer(&mut self, sdp: String) -> Result<(), PeerError> {
        if self.pending.is_none() || self.answer.is_some() {
            return Err(PeerError::UnexpectedAnswer);
        }
        self.answer = Some(sdp);
        Ok(())
    }

    /// The answer that waits, for `handle_answer`.
    pub fn take_answer(&mut self) -> Option<String> {
        self.answer.take()
    }

    /// Whether an answer names none of this transport's m-lines, as one to an offer of the transport before.
    pub fn is_foreign(&self, answer: &str) -> bool {
        let lines = self.negotiation.lines();
        let mut mids = answer.lines().filter_map(|line| line.strip_prefix("a=mid:"));
        !mids.any(|mid| lines.iter().any(|line| line.mid.is_some_and(|own| *own == *mid.trim())))
    }

    /// Takes the answer to the outstanding offer.
    ///
    /// # Errors
    /// The peer can't go on: an answer is not something that can be half taken.
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
            if let Agreed::Subscribed { line, track } = *agreed {
                self.start_forwarding(line, track, profile);
            }
        }
        self.note_single(&agreed);
        if self.phase == Phase::Signaling && self.negotiation.expects_media() {
            self.phase = Phase::Connecting { since: now, ice: false };
        }
        Ok(agreed)
    }

    /// Lets live lines that nobody needs carry tracks that wait: which, and what. See `Negotiation::exchange`.
    pub fn exchange(&mut self, profile: &Profile) -> Vec<(usize, TrackId)> {
        let exchanged = self.negotiation.exchange();
        for (line, track) in &exchanged {
            self.start_forwarding(*line, *track, profile);
        }
        exchanged
    }

    /// Takes one datagram that the demultiplexer found to be this peer's. `route` is the way back to its source,
    /// `announced` the candidate that stands for its destination. Says whether an authenticated check has just
    /// validated its source address.
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
            // The address that media goes to has its own allowance: nobody can use it up but who is there.
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
            // Opening it twice costs more than anything else that a mere watcher makes the server do.
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

    /// Notes what str0m has made of an authentic packet of an SSRC that had no stream.
    fn follow_streams(&mut self, ssrc: u32) {
        let mut direct = self.rtc.direct_api();
        // str0m always has one for probes of the path.
        let mut mapped = vec![0];
        for main in self.heard.mapped().chain([ssrc]) {
            if let Some(stream) = direct.stream_rx(&main.into()) {
                mapped.push(main);
                mapped.extend(stream.rtx().map(|repair| *repair));
            }
        }
        self.heard.follow(ssrc, &mapped);
    }

    /// Whether a drain may bring something after a datagram. What was only feedback to the server, or was dropped,
    /// brings nothing, and polling str0m touches all that it keeps.
    pub fn needs_drain(&self) -> bool {
        self.is_fed || self.sending.has_requests()
    }

    /// Datagrams that were more than the peer may send, since the last call.
    pub fn take_excess(&mut self) -> u64 {
        self.allowance.take_excess()
    }

    /// Packets since the last call that were dropped because they are larger than `MAX_PAYLOAD`, and the m-line of the
    /// last one.
    pub fn take_oversized(&mut self) -> (u64, Option<Mid>) {
        std::mem::take(&mut self.oversized)
    }

    /// Parts of codec configurations that were dropped since the last call: more came than is kept, or a keyframe had no room
    /// for them. Who subscribes later may not be able to decode the track.
    pub fn take_unconfigured(&mut self) -> u64 {
        std::mem::take(&mut self.unconfigured)
    }

    /// Time has passed.
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

    /// The line of an m-line that carries video.
    pub fn video_line(&self, mid: Mid) -> Option<usize> {
        self.negotiation.lines().iter().position(|line| line.mid == Some(mid) && line.kind == MediaKind::Video)
    }

    /// Asks this peer, as a publisher, for a keyframe of a layer. It goes out with the next drain.
    pub fn request_keyframe(&mut self, mid: Mid, layer: u8) {
        // The one that came last: a publisher may begin a layer anew, and come back to an earlier SSRC.
        let streams = self.incoming.iter().filter(|stream| (stream.mid, stream.layer) == (mid, layer));
        let Some(stream) = streams.max_by_key(|stream| stream.last_at) else {
            return;
        };
        if let Some(stream) = self.rtc.direct_api().stream_rx(&stream.ssrc) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Takes all output out of the `Rtc`: datagrams and events. Afterwards `next_timeout` is up to date.
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
        events.extend(self.sending.take_requests().map(|(line, sent)| match sent {
            Some(sent) => PeerEvent::Lost { line, sent },
            None => PeerEvent::KeyframeRequest { line },
        }));
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
                        // str0m stays with the pair that was nominated until it is lost.
                        route = self.sending.egress.as_ref().map_or(route, |egress| egress.route);
                        // Without consent nothing goes there, reports neither (RFC 7675 section 5.1).
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

    /// When `handle_timeout` is due. An offer that is due is not told: see `Negotiation::offer_due`.
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

    /// When the answer that is awaited is too late; one that waits for its turn is not.
    fn answer_due(&self) -> Option<Instant> {
        self.negotiation.answer_due().filter(|_| self.answer.is_none())
    }

    /// What names this peer in STUN requests.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Whether media flows.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether no answer has come yet that lets media flow.
    pub fn is_new(&self) -> bool {
        self.phase == Phase::Signaling && self.answer.is_none()
    }

    /// Whether it can send a camera in simulcast layers.
    pub fn has_simulcast(&self) -> bool {
        self.simulcast
    }

    /// The m-lines of the latest offer, as an answer has to repeat them.
    #[cfg(test)]
    pub fn offered(&self) -> &[Offered] {
        &self.offered
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

    /// The lines on which a camera is asked for in layers.
    fn layered_lines(&self) -> Vec<Mid> {
        let lines = self.negotiation.lines().iter();
        let cameras = lines.filter(|line| line.kind == MediaKind::Video && line.asks_for() == Some(Source::Camera));
        cameras.filter_map(|line| line.mid).filter(|mid| !self.single.contains(mid)).collect()
    }

    /// Notes which lines it sends without layers though it was asked for them.
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

    /// Gives str0m the SSRCs of all lines on which the server sends, for the offer that is about to be written; new
    /// ones to lines that are used again. Not `reset_stream_tx`: it leaves the stream filed under its old SSRC.
    fn declare_streams(&mut self, changes: &[Change], names: &mut Names) -> Result<(), PeerError> {
        for change in changes {
            if let Change::Direct { mid, fresh_ssrc: true, .. } = change {
                self.sending.renew_line(*mid, names)?;
            }
        }
        let mut direct = self.rtc.direct_api();
        for outgoing in self.sending.lines() {
            direct.declare_stream_tx(outgoing.ssrc.into(), outgoing.repair.ssrc.map(Into::into), outgoing.mid, None);
        }
        Ok(())
    }

    /// Takes the streams out of str0m that it made for the lines of an answer, and keeps the SSRCs of those on which
    /// the server sends.
    fn take_streams(&mut self, names: &mut Names) -> Result<(), PeerError> {
        let mut direct = self.rtc.direct_api();
        for (line, state) in self.negotiation.lines().iter().enumerate() {
            let Some(mid) = state.mid else { continue };
            while let Some(stream) = direct.stream_tx_by_mid(mid, None) {
                let (ssrc, rtx_ssrc) = (stream.ssrc(), stream.rtx());
                direct.remove_stream_tx(ssrc);
                if state.publishes().is_none() && self.sending.line_mut(line).is_none() {
                    self.sending.add_line(line, mid, *ssrc, rtx_ssrc.map(|ssrc| *ssrc), names)?;
                }
            }
        }
        Ok(())
    }

    fn start_forwarding(&mut self, line: usize, track: TrackId, profile: &Profile) {
        let Some(outgoing) = self.sending.line_mut(line) else {
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

    /// Whether STUN is a check that shows this peer's password (RFC 8445 section 7.3). str0m would make a candidate pair
    /// for anybody, and asks for nothing where the address is the nominated one.
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
                // What was not sent meanwhile is a gap, of any length; a fresh start has none.
                self.sending.restart();
                Phase::Connected
            }
            (Phase::Connected, false) => Phase::Lost { since: now },
            (phase, _) => phase,
        };
        self.sending.is_open = self.is_connected();
    }

    fn on_packet(&mut self, now: Instant, packet: RtpPacket) -> Option<Packet> {
        // It was authentic: the peer is where it came from.
        let (route, elements) = std::mem::take(&mut self.arrived);
        if let (Some(egress), Some(route)) = (&mut self.sending.egress, route) {
            egress.take_route(now, route);
        }
        // One that is nothing but padding goes through as well: dropped, it would be a loss to everybody.
        let seq_no = *packet.seq_no;
        if packet.payload.len() + elements.len() > MAX_PAYLOAD {
            let mid = self.stream(now, packet.header.ssrc).map(|stream| stream.mid);
            self.oversized = (self.oversized.0 + 1, mid.or(self.oversized.1));
            return None;
        }
        let ssrc = packet.header.ssrc;
        if seq_no >= SEQ_NO_LIMIT {
            // str0m has made a stream for it, which counts.
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

    /// The stream that goes where one more begins at `new`: one that another SSRC has followed, else one whose m-line is
    /// gone, else one whose m-line is paused, which may go on with its SSRC and without a word of its mid. The one that has
    /// been silent for longest of these.
    fn oldest_over(&self, new: (Mid, u8)) -> Option<usize> {
        let streams = &self.incoming;
        let rank = |stream: &Stream| {
            let place = (stream.mid, stream.layer);
            let follows = |next: &Stream| (next.mid, next.layer) == place && next.last_at > stream.last_at;
            if place == new || streams.iter().any(follows) {
                return Some(0);
            }
            let line = self.negotiation.lines().iter().find(|line| line.mid == Some(stream.mid));
            match line {
                Some(line) if line.is_sending() => None,
                Some(line) if !line.is_dead() => Some(2),
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
            let repair = direct.stream_rx(&ssrc).and_then(|stream| stream.rtx());
            direct.remove_stream_rx(ssrc);
            [Some(ssrc), repair].into_iter().flatten().for_each(|ssrc| self.heard.remove(*ssrc));
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
    context.sign().as_ref().try_into().expect("SHA-1 has 20 bytes")
}

/// RFC 7983: the first byte of STUN is 0 to 3.
fn is_stun(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| *first <= 3)
}

/// RFC 7983: RTP and RTCP begin with 128 to 191.
fn is_media(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| first >> 6 == 2)
}
