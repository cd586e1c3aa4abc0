//! The sending side of one peer: its outgoing SSRCs, the transport, and the peer's feedback on them.
//!
//! Its ids and payload types have been negotiated by `media::peer`.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::format::Codec;
use str0m::media::Mid;

use crate::drop_reason::{DropReason, Drops};
use crate::id::{Names, TrackId};
use crate::media::fault::PeerError;
use crate::media::negotiation::profile::Profile;
use crate::media::publish::arrivals::Arrivals;
use crate::media::publish::keyframe::Reason;
use crate::media::rtp::packet::{MAX_PAYLOAD, Packet, WIRE_OVERHEAD};
use crate::media::rtp::rtcp::{self, Feedback};
use crate::media::subscribe::demand::Demand;
use crate::media::subscribe::egress::{self, Egress};
use crate::media::subscribe::m_lines::{Lookups, MLines};
use crate::media::subscribe::outgoing::{Outcome, Outgoing};
use crate::media::subscribe::requests::{Request, Requests};
use crate::media::subscribe::rtx::Sent;
use crate::media::subscribe::selection::View;
use crate::media::transport::addresses::Addresses;
use crate::media::transport::allowance::Allowance;
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::route::Route;
use crate::media::transport::srtp::Srtp;

/// Maximum number of arrival feedback messages in one RTCP datagram: each of 20 bytes can state thousands of arrivals.
const MAX_ARRIVALS: usize = 4;

/// Bytes of pacer budget that must be available before held packets are tried again. The size of a larger held packet
/// replaces this value: with less budget, that packet would be refused again.
const LARGEST_PACKET: usize = MAX_PAYLOAD + WIRE_OVERHEAD;

/// The sending side of one peer.
#[derive(Default)]
pub struct Sending {
    m_lines: MLines,
    /// The peer's validated addresses.
    pub addresses: Addresses,
    /// The transport; `None` until there are keys.
    pub egress: Option<Egress>,
    /// Whether ICE and DTLS are connected, so that media may be sent.
    pub is_open: bool,
    /// Whether the peer sends feedback on the arrival of each packet.
    pub has_arrival_feedback: bool,
    /// Whether the peer sends a bandwidth estimate (REMB).
    has_remb: bool,
    /// Whether feedback on the path has arrived since the last `take_path_feedback`.
    has_path_feedback: bool,
    /// Bytes of the largest packet held since the last `next_release`.
    held_bytes: usize,
    demand: Demand,
    requests: Requests,
}

/// The result of `Sending::forward`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Packets written to the datagrams.
    pub sent: u64,
    /// Packets that have to wait: the last `held` of those passed in.
    pub held: usize,
    /// Packets dropped.
    pub dropped: Drops<u16>,
    /// The layer that needs a keyframe, and the reason.
    pub awaits_keyframe: Option<(u8, Reason)>,
    /// Whether the sent layer changed, or the awaited keyframe arrived.
    pub switched: bool,
    /// Whether the subscriber has not negotiated the codec; set once per subscription.
    pub cannot_decode: bool,
}

impl Forwarded {
    /// Whether anything except packet counts changed.
    pub fn needs_handling(&self) -> bool {
        self.switched || self.cannot_decode || self.awaits_keyframe.is_some()
    }

    /// Records the outcome for one packet on an m-line. Returns the reason if the packet was dropped.
    #[inline]
    fn record(&mut self, outcome: Outcome, outgoing: &Outgoing) -> Option<DropReason> {
        let reason = match outcome {
            Outcome::Sent | Outcome::Switched => {
                self.sent += 1;
                self.switched |= outcome == Outcome::Switched;
                return None;
            }
            Outcome::Ended(reason) => {
                self.switched = true;
                reason
            }
            Outcome::CannotDecode => {
                self.cannot_decode = true;
                DropReason::CodecNotNegotiated
            }
            Outcome::Dropped(reason) => {
                if reason == DropReason::AwaitsKeyframe {
                    self.awaits_keyframe = outgoing.awaited();
                }
                reason
            }
        };
        self.dropped.add_one(reason);
        Some(reason)
    }
}

impl Sending {
    /// Upper bound of the memory with `m_lines` m-lines.
    pub const fn max_bytes(m_lines: usize) -> usize {
        MLines::max_bytes(m_lines) + Requests::MAX_BYTES + Egress::MAX_BYTES
    }

    /// Adds an m-line with unused SSRCs.
    ///
    /// # Errors
    /// An SSRC was used before: its packets were sealed with the same key.
    pub fn add_m_line(
        &mut self,
        m_line: usize,
        mid: Mid,
        ssrc: u32,
        rtx_ssrc: Option<u32>,
        names: &mut Names,
    ) -> Result<(), PeerError> {
        self.m_lines.add(m_line, mid, ssrc, rtx_ssrc, names)
    }

    /// Replaces the SSRCs of a reused m-line with unused ones.
    ///
    /// # Errors
    /// The peer has used up its SSRCs.
    pub fn renew_m_line(&mut self, mid: Mid, names: &mut Names) -> Result<(), PeerError> {
        self.m_lines.renew(mid, names)
    }

    /// Sets the m-lines on which the peer accepts redundant audio (RFC 2198).
    pub fn set_redundant(&mut self, mids: &[Mid]) {
        for outgoing in self.m_lines.iter_mut() {
            outgoing.takes_redundancy = mids.contains(&outgoing.mid);
        }
    }

    /// The m-lines with SSRCs.
    pub fn m_lines(&self) -> impl Iterator<Item = &Outgoing> {
        self.m_lines.iter()
    }

    /// An m-line, if it has SSRCs.
    pub fn m_line_mut(&mut self, m_line: usize) -> Option<&mut Outgoing> {
        self.m_lines.get_mut(m_line)
    }

    /// Pauses all m-lines until their next starting points.
    pub fn restart(&mut self) {
        self.m_lines.iter_mut().for_each(Outgoing::pause);
    }

    /// Forwards packets of a track on an m-line. Video stops at the first packet that the pacer refuses; the caller
    /// holds it and the rest. Packets that are `overdue` are not paced.
    pub fn forward<'a>(
        &mut self,
        now: Instant,
        m_line: usize,
        track: TrackId,
        packets: impl ExactSizeIterator<Item = &'a Packet>,
        overdue: bool,
        datagrams: &mut Datagrams,
    ) -> Forwarded {
        let mut forwarded = Forwarded::default();
        let has_route = self.ensure_route(now);
        let outgoing = self.m_lines.get_mut(m_line).filter(|outgoing| outgoing.track == Some(track));
        let (Some(outgoing), Some(egress), true) = (outgoing, &mut self.egress, has_route) else {
            let reason = if has_route { DropReason::Reassigned } else { DropReason::NotConnected };
            if let Some(outgoing) = self.m_lines.get_mut(m_line) {
                outgoing.drops.add(now, reason, packets.len() as u64);
            }
            packets.for_each(|_| forwarded.dropped.add_one(reason));
            return forwarded;
        };
        let (was_waiting, was_awaiting) = (outgoing.is_waiting(), outgoing.awaited().is_some());
        let is_paced = self.has_arrival_feedback && !overdue;
        let mut rest = packets.len();
        for packet in packets {
            let waits = is_paced && packet.codec != Codec::Opus;
            let (bytes, preface_bytes) = (packet.wire_bytes(), packet.preface_bytes());
            if waits && !egress.pacer.may_leave(now, bytes + preface_bytes) {
                self.held_bytes = self.held_bytes.max(bytes + preface_bytes);
                forwarded.held = rest;
                break;
            }
            rest -= 1;
            let before = outgoing.sent_packets();
            let outcome = outgoing.forward(now, packet, egress, datagrams);
            // Dropped packets take no pacer budget.
            if waits && matches!(outcome, Outcome::Sent | Outcome::Switched) {
                let has_preface = preface_bytes > 0 && outgoing.sent_packets().wrapping_sub(before) > 1;
                egress.pacer.charge(bytes + if has_preface { preface_bytes } else { 0 });
            }
            if let Some(reason) = forwarded.record(outcome, outgoing) {
                outgoing.drops.add(now, reason, 1);
            }
        }
        forwarded.switched |= was_awaiting && outgoing.awaited().is_none();
        if was_waiting && forwarded.sent > 0 {
            egress.hasten_report(now);
        }
        forwarded
    }

    /// Starts a probe of the path if one is due.
    pub fn start_probe(&mut self, now: Instant) {
        if self.has_arrival_feedback
            && let Some(egress) = &mut self.egress
        {
            egress.start_probe(now);
        }
    }

    /// When the next probe is due; `None` while one is running, or if the estimate covers the wanted bitrate.
    pub fn next_probe(&self) -> Option<Instant> {
        let egress = self.egress.as_ref().filter(|egress| self.has_arrival_feedback && !egress.is_probing())?;
        egress.estimator.next_probe()
    }

    /// Whether a probe is running.
    pub fn is_probing(&self) -> bool {
        self.egress.as_ref().is_some_and(Egress::is_probing)
    }

    /// When the next held packet may be sent.
    pub fn next_release(&mut self, now: Instant) -> Option<Instant> {
        let bytes = std::mem::take(&mut self.held_bytes).max(LARGEST_PACKET);
        Some(self.egress.as_mut()?.pacer.next_release(now, bytes))
    }

    /// Returns true once if the peer sends no arrival feedback although it negotiated it. Then the path has no
    /// estimate.
    pub fn poll_missing_feedback(&mut self) -> bool {
        let lacks_feedback = self.egress.as_ref().is_some_and(|egress| egress.estimator.lacks_feedback());
        lacks_feedback && std::mem::take(&mut self.has_arrival_feedback)
    }

    /// The bitrate available for media; `None` without feedback of the peer.
    pub fn available_bps(&self) -> Option<u64> {
        self.egress
            .as_ref()
            .filter(|_| self.has_arrival_feedback || self.has_remb)
            .map(|egress| egress.estimator.estimate_bps())
    }

    /// Records that the estimate was allocated. All of the wanted media would take `wanted_bps`.
    pub fn handle_allocation(&mut self, now: Instant, wanted_bps: u64) {
        if let Some(egress) = &mut self.egress {
            self.demand.handle_allocation(now, egress.estimator.estimate_bps(), wanted_bps);
            egress.estimator.set_wanted(wanted_bps);
        }
    }

    /// Whether feedback on the path has arrived since the last call.
    pub fn take_path_feedback(&mut self) -> bool {
        std::mem::take(&mut self.has_path_feedback)
    }

    /// Returns true once after an outage of the path to the peer in which packets were lost.
    pub fn take_lossy_outage(&mut self) -> bool {
        self.egress.as_mut().is_some_and(|egress| egress.estimator.take_lossy_outage())
    }

    /// The bitrate of audio as last measured, but at least that of two voices: a silent participant may speak at any
    /// time.
    pub fn audio_bps(&mut self, now: Instant) -> u64 {
        self.demand.audio_bps(now, &self.m_lines)
    }

    /// Whether the estimate differs from the one allocated last, or a repeated allocation is due.
    pub fn needs_allocation(&self, now: Instant) -> bool {
        self.demand.needs_allocation(now, self.available_bps())
    }

    /// A recent packet to resend as padding: the one sent `back` packets before the last.
    pub fn padding(&self, back: u16) -> Option<(usize, TrackId, Sent)> {
        let mut m_lines = self.m_lines.enumerate();
        m_lines.find_map(|(m_line, outgoing)| Some((m_line, outgoing.track?, outgoing.latest_sent(back)?)))
    }

    /// Sends a padding packet: the packet in `again` once more, or if that is `None`, one with padding only. Returns
    /// false if retransmission is not negotiated or there is no route.
    pub fn send_padding(
        &mut self,
        now: Instant,
        again: Option<(usize, Sent, &Packet)>,
        datagrams: &mut Datagrams,
    ) -> bool {
        if !self.ensure_route(now) {
            return false;
        }
        let Some(egress) = &mut self.egress else {
            return false;
        };
        if let Some((m_line, sent, packet)) = again
            && let Some(outgoing) = self.m_lines.get_mut(m_line)
        {
            return outgoing.repeat(now, sent, packet, egress, datagrams);
        }
        self.m_lines.iter_mut().any(|outgoing| outgoing.send_padding(now, egress, datagrams))
    }

    /// Sends the due sender reports. Call it after `forward`.
    pub fn report(&mut self, now: Instant, profile: &Profile, datagrams: &mut Datagrams) {
        if self.ensure_route(now)
            && let Some(egress) = &mut self.egress
        {
            egress.estimator.handle_timeout(now);
            let m_lines = self.m_lines.iter_mut();
            let reports = m_lines.filter_map(|outgoing| outgoing.poll_report(now, egress::ntp(profile.unix(now))));
            egress.report(now, reports, datagrams);
        }
    }

    /// Sends the due arrival feedback on the peer's packets.
    pub fn acknowledge(&mut self, now: Instant, arrivals: &mut Arrivals, datagrams: &mut Datagrams) {
        if !self.ensure_route(now) {
            arrivals.skip();
        } else if let Some(egress) = &mut self.egress {
            egress.acknowledge(now, arrivals, datagrams);
        }
    }

    /// Retransmits a packet. Returns false if the retransmission budget is used up.
    pub fn resend(
        &mut self,
        now: Instant,
        m_line: usize,
        sent: Sent,
        packet: &Packet,
        datagrams: &mut Datagrams,
    ) -> bool {
        if !self.ensure_route(now) {
            return false;
        }
        let (Some(outgoing), Some(egress)) = (self.m_lines.get_mut(m_line), &mut self.egress) else {
            return false;
        };
        outgoing.resend(now, sent, packet, egress, datagrams)
    }

    /// Sets how the subscriber's page shows a track.
    pub fn set_view(&mut self, track: TrackId, view: View) {
        let mut m_lines = self.m_lines.iter_mut();
        if let Some(outgoing) = m_lines.find(|outgoing| outgoing.track == Some(track)) {
            outgoing.view = view;
        }
    }

    /// Stops a track at once.
    pub fn stop(&mut self, track: TrackId) {
        let m_lines = self.m_lines.iter_mut().filter(|outgoing| outgoing.track == Some(track));
        m_lines.for_each(Outgoing::stop);
    }

    /// The m-lines on which video is sent now.
    pub fn videos(&self) -> impl Iterator<Item = (usize, &Outgoing)> {
        self.m_lines.enumerate().filter(|(_, outgoing)| outgoing.track.is_some() && !outgoing.is_audio())
    }

    /// The track and the selected layer of an m-line.
    pub fn carried(&self, m_line: usize) -> Option<(TrackId, u8)> {
        let outgoing = self.m_lines.get(m_line)?;
        Some((outgoing.track?, outgoing.selected()?.layer))
    }

    /// Handles RTCP of the peer that arrived over `route`. Returns true if it may also concern the streams that the
    /// peer sends.
    pub fn handle_rtcp(&mut self, now: Instant, route: Route, contents: &[u8], allowance: &mut Allowance) -> bool {
        let Some(egress) = &mut self.egress else {
            return true;
        };
        let Some(compound) = egress.open_rtcp(now, route, contents) else {
            return false;
        };
        // Only the peer itself can use up its allowance: the datagram is authentic.
        if !allowance.take_feedback(now) {
            egress.close_rtcp(compound);
            return false;
        }
        let (mut reference, mut has_path_feedback, mut arrivals) = (None, false, 0);
        let mut lookups = Lookups::default();
        let is_sender = rtcp::read(&compound, |feedback| {
            let m_line = feedback.stream().and_then(|ssrc| lookups.position(&self.m_lines, ssrc));
            let Some((m_line, outgoing)) = m_line.and_then(|m_line| Some((m_line, self.m_lines.get_mut(m_line)?)))
            else {
                match feedback {
                    Feedback::Reference(received) => reference = Some(received),
                    Feedback::Arrivals(_) if arrivals >= MAX_ARRIVALS => {}
                    Feedback::Arrivals(body) => {
                        arrivals += 1;
                        egress.estimator.handle_feedback(now, body);
                        self.has_arrival_feedback = true;
                        has_path_feedback = true;
                    }
                    Feedback::Bandwidth(bps) => {
                        egress.estimator.handle_remb(bps);
                        self.has_remb = true;
                        has_path_feedback = true;
                    }
                    _ => {}
                }
                return;
            };
            outgoing.handle_report();
            match feedback {
                Feedback::Report { .. } | Feedback::Reference(_) | Feedback::Arrivals(_) | Feedback::Bandwidth(_) => {}
                Feedback::Nack { seq_no, following, .. } => {
                    let bits = (0..16).filter(|bit| following & 1 << bit != 0);
                    let missing = std::iter::once(seq_no).chain(bits.map(|bit| seq_no.wrapping_add(1 + bit)));
                    self.requests.push_packets(m_line, missing.filter_map(|seq_no| outgoing.rtx.find(seq_no)));
                }
                Feedback::KeyframeRequest { .. } => self.requests.push_keyframe(m_line),
            }
        });
        egress.close_rtcp(compound);
        if let Some(reference) = reference {
            egress.handle_reference(now, reference);
        }
        if has_path_feedback {
            self.has_path_feedback = true;
            egress.on_estimate(now);
        }
        is_sender
    }

    /// The SRTP keys; `None` before the peer is connected.
    pub fn srtp(&self) -> Option<&Srtp> {
        self.egress.as_ref().map(|egress| &egress.srtp)
    }

    /// Whether there are requests for `take_requests`.
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Takes the requests since the last call.
    pub fn take_requests(&mut self) -> impl Iterator<Item = Request> {
        self.requests.take()
    }

    /// Removes an address that now belongs to another peer.
    pub fn lose_address(&mut self, remote: SocketAddr) {
        self.addresses.remove(remote);
        if let Some(egress) = &mut self.egress {
            // `ensure_route` looks for another one.
            egress.consent_until = None;
        }
    }

    /// Ensures that the route has consent (RFC 7675 section 5.1). If it has expired, the latest address with consent
    /// becomes the route. Returns false if there is none.
    fn ensure_route(&mut self, now: Instant) -> bool {
        let Some(egress) = self.egress.as_mut().filter(|_| self.is_open) else {
            return false;
        };
        // This runs for each packet, so the expiry is cached and the addresses are searched only after it.
        if egress.consent_until.is_some_and(|until| now <= until) {
            return true;
        }
        if !self.addresses.holds(now, egress.route.remote)
            && let Some(other) = self.addresses.latest(now)
        {
            egress.set_route(other);
        }
        egress.consent_until = self.addresses.held_until(egress.route.remote);
        egress.consent_until.is_some_and(|until| now <= until)
    }
}

#[cfg(test)]
mod tests;
