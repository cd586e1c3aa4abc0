//! A peer is one participant's WebRTC endpoint: one `Rtc`, its negotiation, and the media forwarded to it.
//!
//! No other module names `Rtc`. After every method that changes it, `drain` must be called before the loop sleeps.
//!
//! str0m handles ICE, DTLS, SDP and the media that a publisher sends. Media for a subscriber bypasses it: `Sending`
//! seals it with the same keys. So str0m must not send anything under the SSRCs of these m-lines, not even reports: its
//! outgoing streams exist only while an offer is written, which takes the SSRCs from them.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::format::PayloadParams;
use str0m::media::{KeyframeRequestKind, MediaKind, Mid, Rids};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::{RtpPacket, Ssrc};
use str0m::{Event, IceConnectionState, IceCreds, Input, Output, Rtc};

use crate::id::{Names, TrackId};
use crate::media::fault::PeerError;
use crate::media::negotiation::answer;
use crate::media::negotiation::assignment::{MAX_REJECTED_M_LINES, MAX_SENDING_M_LINES};
use crate::media::negotiation::offered::Offered;
use crate::media::negotiation::profile::{PayloadTypes, Profile, TRANSPORT_CC_ID};
use crate::media::negotiation::session::Session;
use crate::media::negotiation::{Agreed, Answered, Change, Negotiation};
use crate::media::publish::gate::{Gate, is_media, read_extensions};
use crate::media::publish::layer::RIDS;
use crate::media::publish::streams::Streams;
use crate::media::rtp::elements::Elements;
use crate::media::rtp::packet::{MAX_PAYLOAD, Packet, SEQ_NO_LIMIT};
use crate::media::rtp::{codec, rtcp};
use crate::media::subscribe::egress::Egress;
use crate::media::subscribe::requests::Request;
use crate::media::subscribe::sending::Sending;
use crate::media::transport::addresses::Validated;
use crate::media::transport::allowance::Allowance;
use crate::media::transport::checks::{Checks, is_stun};
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::phase::Phase;
use crate::media::transport::route::Route;
use crate::media::transport::srtp::{Exported, Srtp};
use crate::media::transport::{dtls, opening};
use crate::track::Source;

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
    is_fed: bool,
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
        self.session.apply(changes, &mut self.negotiation, &mut sdp, names);
        let applied = sdp.apply();
        for outgoing in self.sending.m_lines() {
            self.rtc.direct_api().remove_stream_tx(outgoing.ssrc.into());
        }
        let Some((offer, pending)) = applied else {
            // str0m's state has these changes already, so they are agreed without an offer.
            let answers = self.answered();
            self.negotiation.handle_answer(now, answers.into_iter());
            self.negotiation.note_exchange();
            return Ok(None);
        };
        let m_lines = self.negotiation.m_lines();
        Ok(Some(self.session.start(&offer, pending, m_lines, self.checks.are_early())))
    }

    /// Queues the answer to the outstanding offer until `take_answer`.
    ///
    /// # Errors
    /// There is no outstanding offer, or it already has an answer: the peer has to end.
    pub fn queue_answer(&mut self, sdp: String) -> Result<(), PeerError> {
        self.session.queue_answer(sdp)
    }

    /// Takes the queued answer, for `handle_answer`.
    pub fn take_answer(&mut self) -> Option<String> {
        self.session.take_answer()
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
    /// The answer is invalid. The peer has to end, because the answer may have been applied in part.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        sdp: &str,
        profile: &Profile,
        names: &mut Names,
    ) -> Result<Vec<Agreed>, PeerError> {
        let (pending, answer) = self.session.read_answer(sdp)?;
        let accepted = self.rtc.sdp_api().accept_answer(pending, answer);
        accepted.map_err(|error| PeerError::BadAnswer(error.to_string()))?;
        self.checks.handle_answer();
        self.streams.set_parameter_sets(answer::parameter_sets(sdp, self.session.offered()));
        self.take_streams(names)?;
        self.sending.set_redundant(&answer::redundant(sdp, self.session.offered()));
        let answers = self.answered();
        let agreed = self.negotiation.handle_answer(now, answers.into_iter());
        for agreed in &agreed {
            if let Agreed::Subscribed { m_line, track } = *agreed {
                self.start_track(m_line, track, profile);
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
            self.start_track(*m_line, *track, profile);
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
        let mut input = Input::Receive(now, receive);
        let nominating;
        let (mut validated, mut number, mut admitted) = (None, None, None);
        if is_stun(contents) {
            // Checks from the address that receives media are not charged: other addresses cannot use up its allowance.
            let is_media_route = self.sending.egress.as_ref().is_some_and(|egress| egress.route.remote == route.remote);
            let charge = || is_media_route || self.gate.allowance.take_check(now);
            if !self.checks.admit(contents, self.phase, charge) {
                return Ok(None);
            }
            validated = self.sending.addresses.validate(now, route);
            if validated.is_none() {
                return Ok(None);
            }
            let is_late = self.phase.is_nomination_late(now);
            nominating = is_late.then(|| self.checks.nominating(contents)).flatten();
            if let Some(check) = &nominating
                && let Ok(receive) = Receive::new(Protocol::Udp, route.remote, announced, check)
            {
                input = Input::Receive(now, receive);
            }
        } else if rtcp::is_rtcp(contents) {
            // RTCP of a peer that publishes nothing goes to `Sending` only: decrypting it twice would be costly.
            let is_of_sender = self.sending.handle_rtcp(now, route, contents, &mut self.gate.allowance);
            let is_for_receiver = is_of_sender && !self.streams.is_empty();
            if self.sending.egress.is_some() && !is_for_receiver {
                return Ok(None);
            }
        } else {
            if is_media(contents) {
                admitted = self.gate.admit(now, contents, self.sending.srtp())?;
                if admitted.is_none() {
                    return Ok(None);
                }
            }
            let elements;
            (elements, number) = read_extensions(contents);
            self.arrived = (Some(route), elements);
            opening::take_opened();
        }
        self.is_fed = true;
        self.rtc.handle_input(input).map_err(PeerError::of_engine)?;
        self.collect_keys();
        if let Some(admitted) = admitted {
            if admitted.is_unmapped {
                self.follow_streams(admitted.ssrc);
            }
            self.gate.handle_admitted(now, contents, &admitted, number, opening::take_opened());
        }
        Ok(validated)
    }

    /// Updates `heard` after str0m has handled an authentic packet of an SSRC that had no stream.
    fn follow_streams(&mut self, ssrc: u32) {
        let mut direct = self.rtc.direct_api();
        // str0m always has a stream with SSRC 0, for probes.
        let mut mapped = vec![0];
        for main in self.gate.heard.mapped().chain([ssrc]) {
            if let Some(stream) = direct.stream_rx(&main.into()) {
                mapped.push(main);
                mapped.extend(stream.rtx().map(|rtx| *rtx));
            }
        }
        self.gate.heard.follow(ssrc, &mapped);
    }

    /// Returns true if a drain may yield output after a datagram. Feedback and dropped datagrams yield none, and polling
    /// str0m is expensive: it touches all its state.
    pub fn needs_drain(&self) -> bool {
        self.is_fed || self.sending.has_requests()
    }

    /// Returns the number of datagrams over the peer's allowance since the last call.
    pub fn take_excess(&mut self) -> u64 {
        self.gate.allowance.take_excess()
    }

    /// Returns the number of packets dropped since the last call because they are larger than `MAX_PAYLOAD`, and the mid
    /// of the last one.
    pub fn take_oversized(&mut self) -> (u64, Option<Mid>) {
        self.streams.take_oversized()
    }

    /// Returns the number of parts of codec configurations dropped since the last call, because there were too many or a
    /// keyframe had no room for them. Participants that subscribe later may be unable to decode the track.
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

    /// Requests a keyframe of a layer from this peer, a publisher. The next drain sends the request.
    pub fn request_keyframe(&mut self, mid: Mid, layer: u8) {
        let Some(ssrc) = self.streams.latest(mid, layer) else {
            return;
        };
        if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc) {
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

    /// Returns the m-lines of the latest offer, which an answer has to repeat.
    #[cfg(test)]
    pub fn offered(&self) -> &[Offered] {
        self.session.offered()
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

    /// Records the m-lines on which the peer sends no simulcast layers although it was offered them.
    fn note_single(&mut self, agreed: &[Agreed]) {
        for agreed in agreed {
            if let Agreed::Publishing { mid, source: Source::Camera, kind: MediaKind::Video } = *agreed
                && self.rtc.media(mid).is_some_and(|media| !matches!(media.rids_rx(), Rids::Specific(_)))
            {
                self.session.note_single(mid);
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

    fn start_track(&mut self, m_line: usize, track: TrackId, profile: &Profile) {
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
        if !is_stun(&transmit.contents) {
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

    fn on_packet(&mut self, now: Instant, packet: &RtpPacket, events: &mut Vec<PeerEvent>) {
        // The packet is authentic, so the peer is reachable at its source address.
        let (route, elements) = std::mem::take(&mut self.arrived);
        if let (Some(egress), Some(route)) = (&mut self.sending.egress, route) {
            egress.take_route(now, route);
        }
        // Packets with padding only are forwarded too: all subscribers would take a dropped one for lost.
        let (ssrc, pt) = (packet.header.ssrc, packet.header.payload_type);
        if packet.payload.len() + elements.len() > MAX_PAYLOAD {
            let stream = self.stream(now, ssrc);
            self.streams.handle_oversized(stream);
            return;
        }
        if *packet.seq_no >= SEQ_NO_LIMIT {
            // str0m has created a stream for the SSRC, which counts towards the limit of streams.
            self.stream(now, ssrc);
            return;
        }
        let takes = |params: &&PayloadParams| params.pt() == pt || params.red() == Some(pt);
        let Some(params) = self.rtc.codec_config().params().iter().find(takes) else { return };
        let spec = params.spec();
        let mut redundant = None;
        if params.pt() != pt {
            redundant = codec::red::primary(&packet.payload);
            if redundant.is_none() {
                self.stream(now, ssrc);
                return;
            }
        }
        if let Some(stream) = self.stream(now, ssrc) {
            events.push(PeerEvent::Packet(self.streams.read(now, stream, spec, packet, elements, redundant)));
        }
    }

    /// Returns the index of the stream of an SSRC from which a packet has arrived.
    fn stream(&mut self, now: Instant, ssrc: Ssrc) -> Option<usize> {
        if let Some(index) = self.streams.position(ssrc) {
            return Some(index);
        }
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_rx(&ssrc)?;
        let (mid, has_rid) = (stream.mid(), stream.rid().is_some());
        let layer = stream.rid().and_then(|rid| RIDS.iter().position(|name| *name == &*rid)).unwrap_or_default() as u8;
        if self.streams.is_full() {
            let finished = self.streams.remove_finished((mid, layer), self.negotiation.m_lines())?;
            let mut direct = self.rtc.direct_api();
            let rtx = direct.stream_rx(&finished).and_then(|stream| stream.rtx());
            direct.remove_stream_rx(finished);
            [Some(finished), rtx].into_iter().flatten().for_each(|ssrc| self.gate.heard.remove(*ssrc));
        }
        Some(self.streams.insert(now, ssrc, mid, layer, has_rid))
    }
}
