//! A peer is one participant's WebRTC endpoint: one `Rtc`, its negotiation, and the media forwarded to it.
//!
//! No other module names `Rtc`. `agreement` has the offers and answers, `ingress` what the peer receives. After
//! every method that changes it, `drain` must be called before the loop sleeps.
//!
//! str0m handles ICE, DTLS, SDP and the media that a publisher sends. Media for a subscriber bypasses it: `Sending`
//! seals it with the same keys. So str0m must not send anything under the SSRCs of these m-lines, not even reports: its
//! outgoing streams exist only while an offer is written, which takes the SSRCs from them.

mod agreement;
mod ingress;

use std::net::SocketAddr;
use std::time::Instant;

use str0m::media::{MediaKind, Mid};
use str0m::net::Transmit;
use str0m::{Event, IceConnectionState, IceCreds, Input, Output, Rtc};

use crate::id::Names;
use crate::media::fault::PeerError;
use crate::media::negotiation::Negotiation;
use crate::media::negotiation::answer;
use crate::media::negotiation::assignment::{MAX_REJECTED_M_LINES, MAX_SENDING_M_LINES};
use crate::media::negotiation::offered::Offered;
use crate::media::negotiation::profile::Profile;
use crate::media::negotiation::session::Session;
use crate::media::publish::gate::Gate;
use crate::media::publish::streams::Streams;
use crate::media::rtp::elements::Elements;
use crate::media::rtp::packet::Packet;
use crate::media::subscribe::egress::Egress;
use crate::media::subscribe::requests::Request;
use crate::media::subscribe::sending::Sending;
use crate::media::transport::allowance::Allowance;
use crate::media::transport::checks::Checks;
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::demux::Protocol;
use crate::media::transport::dtls;
use crate::media::transport::phase::Phase;
use crate::media::transport::route::Route;
use crate::media::transport::srtp::{Exported, Srtp};

/// Maximum number of m-lines that one peer may reject permanently: audio and video, in both directions. The m-lines
/// that its tracks need come on top.
const MAX_DEAD_M_LINES: usize = 4 * MAX_REJECTED_M_LINES;

/// Maximum number of local candidates in the life of one peer. str0m forgets none. A higher limit lets the memory of a
/// long call grow with each address change; a lower one omits addresses of a machine with many interfaces.
const MAX_CANDIDATES: usize = 256;

/// Memory that str0m uses for one peer and for each of its m-lines, measured (`tests/allocations.rs`) and rounded up.
/// The first includes an unfinished DTLS handshake.
const ENGINE_BYTES: usize = 128 * 1024;
const ENGINE_M_LINE_BYTES: usize = 16 * 1024;

/// One participant's WebRTC endpoint.
pub struct Peer {
    rtc: Box<Rtc>,
    /// Present and former addresses of the server that were given to str0m.
    candidates: Vec<SocketAddr>,
    /// The m-lines: the tracks that each should carry, and the latest agreement.
    pub negotiation: Negotiation,
    session: Session,
    checks: Checks,
    /// The media forwarded to this peer.
    pub sending: Sending,
    /// The streams that this peer sends.
    streams: Streams,
    gate: Gate,
    /// Route of str0m's last datagram that was not STUN.
    transport: Option<Route>,
    /// The SRTP keying material that DTLS exported; taken when media is connected.
    exported: Option<Exported>,
    /// SSRC of sender reports.
    reporter: u32,
    /// The route of the datagram being handled, and the header extension elements that describe its media. Until media
    /// is connected, the route of the last datagram of the DTLS handshake.
    arrived: (Option<Route>, Elements),
    phase: Phase,
    has_ice: bool,
    /// Whether a datagram was passed to str0m since the last drain.
    has_undrained_input: bool,
    /// When the `Rtc`'s timeout is due.
    next_timeout: Option<Instant>,
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
    /// ICE consent was lost after `Connected` (RFC 7675), or restored.
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
        let sending = Sending::max_bytes(tracks + MAX_DEAD_M_LINES);
        engine + sent + Streams::MAX_BYTES + Gate::MAX_BYTES + Checks::MAX_BYTES + sending
    }

    /// Creates a peer that has sent no offer yet.
    pub fn new(now: Instant, profile: &Profile, allowance: Allowance, simulcast: bool, names: &mut Names) -> Self {
        let creds = IceCreds { ufrag: names.token(12), pass: names.token(26) };
        let checks = Checks::new(creds.ufrag.clone(), creds.pass.clone());
        let rtc = profile.config().set_local_ice_credentials(creds).build(now);
        let mut peer = Self {
            rtc: Box::new(rtc),
            candidates: Vec::new(),
            negotiation: Negotiation::default(),
            session: Session::new(simulcast),
            checks,
            sending: Sending::default(),
            streams: Streams::default(),
            gate: Gate::new(now, allowance),
            transport: None,
            exported: None,
            reporter: names.next_u32(),
            arrived: (None, Elements::default()),
            phase: Phase::Signaling,
            has_ice: false,
            has_undrained_input: false,
            next_timeout: None,
        };
        // Candidates above the limit are omitted.
        let _ = peer.add_candidates(profile);
        peer
    }

    /// Adds the server's present addresses as candidates. Returns those that the client does not know yet, in the form
    /// of RFC 8839 section 5.1, with the mid they belong to; none before the first offer, which contains them.
    ///
    /// Former addresses stay candidates: they return when a cable is plugged in again, and removing one from ICE would
    /// end a call that waits for that. The client's connectivity checks find out which pairs work.
    ///
    /// # Errors
    /// The peer has reached the limit of addresses and has to end. A new peer starts with the present ones only.
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

    /// Returns true if a drain may yield output after a datagram. Feedback and dropped datagrams yield none, and
    /// polling str0m is expensive: it touches all its state.
    pub fn needs_drain(&self) -> bool {
        self.has_undrained_input || self.sending.has_requests()
    }

    /// Returns the number of datagrams over the peer's allowance since the last call.
    pub fn take_excess(&mut self) -> u64 {
        self.gate.allowance.take_excess()
    }

    /// Returns the number of packets dropped since the last call because they are larger than `MAX_PAYLOAD`, and the
    /// mid of the last one.
    pub fn take_oversized(&mut self) -> (u64, Option<Mid>) {
        self.streams.take_oversized()
    }

    /// Returns the number of parts of codec configurations dropped since the last call, because there were too many or
    /// a keyframe had no room for them. Participants that subscribe later may be unable to decode the track.
    pub fn take_unconfigured(&mut self) -> u64 {
        self.streams.take_unconfigured()
    }

    /// Handles the timeout from `next_timeout`.
    ///
    /// # Errors
    /// The peer has to end.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), PeerError> {
        if self.answer_due().is_some_and(|due| due <= now) {
            return Err(PeerError::AnswerTimeout);
        }
        if self.phase.due().is_some_and(|due| due <= now) {
            return Err(PeerError::MediaTimeout(self.phase.missing()));
        }
        self.rtc.handle_input(Input::Timeout(now)).map_err(PeerError::of_engine)?;
        self.collect_keys();
        Ok(())
    }

    /// Returns the index of the video m-line with this mid.
    pub fn video_m_line(&self, mid: Mid) -> Option<usize> {
        self.negotiation.m_lines().iter().position(|m_line| m_line.mid == Some(mid) && m_line.kind == MediaKind::Video)
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
        self.has_undrained_input = false;
        if self.sending.has_requests() {
            events.extend(self.sending.take_requests().map(PeerEvent::Request));
        }
        if self.gate.arrivals.due().is_some_and(|due| due <= now) {
            self.sending.acknowledge(now, &mut self.gate.arrivals, datagrams);
        }
        loop {
            // Outputs are large, so each is handled where it is.
            let output = self.rtc.poll_output();
            self.collect_keys();
            match output {
                Err(error) => return Err(PeerError::of_engine(error)),
                Ok(Output::Timeout(at)) => {
                    self.next_timeout = Some(at);
                    return Ok(());
                }
                Ok(Output::Transmit(ref transmit)) => self.on_transmit(now, transmit, datagrams),
                Ok(Output::Event(ref event)) => self.on_event(now, event, events)?,
            }
        }
    }

    /// Returns when `handle_timeout` is due. Offers are not included: see `Negotiation::offer_due`.
    pub fn next_timeout(&self) -> Option<Instant> {
        let others = [self.phase.due(), self.gate.arrivals.due(), self.answer_due()];
        others.into_iter().flatten().fold(self.next_timeout, |first, due| Some(first.map_or(due, |at| at.min(due))))
    }

    /// Returns when the outstanding offer times out, or `None` if its answer is queued.
    fn answer_due(&self) -> Option<Instant> {
        self.negotiation.answer_due().filter(|_| !self.session.has_answer())
    }

    /// Returns the ICE username fragment that identifies this peer in STUN requests.
    pub fn ufrag(&self) -> &str {
        self.checks.ufrag()
    }

    /// Returns true if media flows.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Returns true until an answer arrives that lets media flow.
    pub fn is_new(&self) -> bool {
        self.phase == Phase::Signaling && !self.session.has_answer()
    }

    /// Returns true if the peer can send a camera in simulcast layers.
    pub fn has_simulcast(&self) -> bool {
        self.session.has_simulcast()
    }

    /// Returns the number of m-lines in the latest offer.
    pub fn offered_m_lines(&self) -> usize {
        self.negotiation.m_lines().iter().filter(|m_line| m_line.mid.is_some()).count()
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

    fn on_transmit(&mut self, now: Instant, transmit: &Transmit, datagrams: &mut Datagrams) {
        let Some(mut route) = self.sending.addresses.route(transmit.destination) else { return };
        if Protocol::of(&transmit.contents) != Protocol::Stun {
            // str0m keeps the nominated pair until it is lost, but the egress follows the source of the peer's packets.
            // DTLS is answered on the route on which it arrived: Chromium drops it on a path without a STUN response.
            let answered = self.arrived.0.filter(|at| self.sending.addresses.holds(now, at.remote));
            route = self.sending.egress.as_ref().map_or(answered.unwrap_or(route), |egress| egress.route);
            // Without consent nothing is sent there, not even reports (RFC 7675 section 5.1).
            if !self.sending.addresses.holds(now, route.remote) {
                return;
            }
            self.transport = Some(route);
        }
        datagrams.push(route, &transmit.contents);
    }

    fn on_event(&mut self, now: Instant, event: &Event, events: &mut Vec<PeerEvent>) -> Result<(), PeerError> {
        match event {
            Event::RtpPacket(packet) => self.on_packet(now, packet, events),
            Event::SenderFeedback(feedback) => {
                self.streams.handle_report(feedback.received_at, feedback.sender_info);
            }
            Event::Connected => {
                self.on_connected(now)?;
                events.push(PeerEvent::Connected);
            }
            Event::IceConnectionStateChange(state) => {
                let before = self.phase;
                self.on_ice_state(now, *state);
                if let (Phase::Connected, Phase::Lost { .. }) | (Phase::Lost { .. }, Phase::Connected) =
                    (before, self.phase)
                {
                    events.push(PeerEvent::Consent { is_held: self.is_connected() });
                }
            }
            Event::Closed => return Err(PeerError::Closed),
            _ => {}
        }
        Ok(())
    }

    fn on_ice_state(&mut self, now: Instant, state: IceConnectionState) {
        self.has_ice = state.is_connected();
        if self.has_ice && matches!(self.phase, Phase::Lost { .. }) {
            // Without a restart, the packets dropped in the meantime would leave a long gap in the sequence numbers.
            self.sending.restart();
        }
        self.phase = self.phase.after_ice(now, self.has_ice);
        self.sending.is_open = self.is_connected();
    }
}
