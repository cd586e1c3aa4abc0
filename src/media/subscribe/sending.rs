//! The sending side of one peer: its outgoing SSRCs, the transport, and the peer's feedback on them.
//!
//! It works on ids, numbers and addresses only. Their negotiation is the peer's (`peer.rs`).

use std::time::{Duration, Instant};

use str0m::format::Codec;
use str0m::media::Mid;

use crate::id::{Names, TrackId};
use crate::media::fault::PeerError;
use crate::media::negotiation::profile::Profile;
use crate::media::publish::arrivals::Arrivals;
use crate::media::publish::keyframe::Reason;
use crate::media::rtp::packet::{MAX_PAYLOAD, Packet, WIRE_OVERHEAD};
use crate::media::rtp::rtcp::{self, Feedback};
use crate::media::subscribe::egress::{self, Egress};
use crate::media::subscribe::outgoing::{Outcome, Outgoing};
use crate::media::subscribe::renumbering::FIRST_SEQ_NO_LIMIT;
use crate::media::subscribe::rtx::Sent;
use crate::media::subscribe::selection::View;
use crate::media::transport::addresses::Addresses;
use crate::media::transport::allowance::Allowance;
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::route::Route;
use crate::media::transport::srtp;

/// Maximum number of SSRCs sent to one peer in its life: enough for 5,000 joins or screen shares of others. None is
/// reused, so all have to be remembered.
const MAX_USED_SSRCS: usize = srtp::MAX_SSRCS;

/// Maximum number of SSRC look-ups for one RTCP datagram, counting runs of equal SSRCs once: each searches all m-lines.
/// A datagram that fits the path has no more, and the feedback on one SSRC is not limited by this.
const MAX_LOOKUPS: usize = 128;

/// Maximum number of arrival feedback messages in one RTCP datagram: each of 20 bytes can state thousands of arrivals.
const MAX_ARRIVALS: usize = 4;

/// Maximum number of packets that one RTCP datagram can request. A subscriber that lost more requests them again.
/// Keyframe requests do not count.
const MAX_REQUESTS: usize = 256;

/// An estimate that changed by less than one part in this many counts as unchanged.
const ESTIMATE_STEP: u64 = 25;

/// Interval over which the bitrate of sound is measured. A longer one is steadier, and detects speech later.
const SOUND_INTERVAL: Duration = Duration::from_secs(1);

/// Bitrate of one voice: Opus at its usual rate, with headers.
const VOICE_BPS: u64 = 50_000;

/// Interval between allocations with an unchanged, insufficient estimate: the other publishers may send less by then.
const ALLOCATION_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of pacer budget needed before held packets are retried, or more if a larger packet was held. With less, that
/// packet would be retried in vain until there is budget for it.
const LARGEST_PACKET: usize = MAX_PAYLOAD + WIRE_OVERHEAD;

/// The sending side of one peer.
#[derive(Default)]
pub struct Sending {
    /// By index of the m-line.
    m_lines: Vec<Option<Outgoing>>,
    /// Every SSRC ever sealed with this peer's keys.
    used_ssrcs: Vec<u32>,
    /// The peer's validated addresses.
    pub addresses: Addresses,
    /// The transport; `None` until there are keys.
    pub egress: Option<Egress>,
    /// Whether the transport is connected, so that media may be sent.
    pub is_open: bool,
    /// Whether the peer sends feedback on the arrival of each packet.
    pub is_acknowledged: bool,
    /// Whether the peer sends a bandwidth estimate (REMB).
    has_bandwidth: bool,
    /// Whether feedback on the path has arrived since the last `take_estimate`.
    has_estimate: bool,
    /// Bytes of the largest packet held since the last `next_release`.
    held_bytes: usize,
    /// The estimate at the last allocation.
    allocated_bps: u64,
    /// When to allocate again because the estimate was insufficient.
    next_allocation: Option<Instant>,
    /// The last measurement of the bitrate of sound.
    sound: Option<Sound>,
    /// Requests of the peer: m-line, and a packet to retransmit or `None` for a keyframe.
    requests: Vec<(usize, Option<Sent>)>,
}

/// A measurement of the bitrate of sound.
#[derive(Clone, Copy)]
struct Sound {
    since: Instant,
    /// Bytes sent on all m-lines with sound at `since`; wraps.
    bytes: u32,
    rate_bps: u64,
}

/// The result of `Sending::forward`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Packets written to the datagrams.
    pub sent: u64,
    /// Packets that have to wait: the last `held` of those passed in.
    pub held: usize,
    /// Packets dropped: before the start of the subscription, not selected, or not decodable.
    pub skipped: u64,
    /// The layer that needs a keyframe for the subscriber to start or switch, and which of both.
    pub awaits_keyframe: Option<(u8, Reason)>,
    /// Whether the sent layer changed, or the awaited keyframe arrived.
    pub switched: bool,
    /// Whether the subscriber has not negotiated the codec; set once per subscription.
    pub cannot_decode: bool,
}

impl Forwarded {
    /// Whether anything except packet counts changed.
    pub fn has_news(&self) -> bool {
        self.switched || self.cannot_decode || self.awaits_keyframe.is_some()
    }
}

impl Sending {
    /// Upper bound of the memory with `lines` m-lines.
    pub const fn max_bytes(m_lines: usize) -> usize {
        let asked = 2 * (MAX_REQUESTS + MAX_LOOKUPS) * size_of::<(usize, Option<Sent>)>();
        m_lines * Outgoing::MAX_BYTES + 2 * MAX_USED_SSRCS * size_of::<u32>() + asked + Egress::MAX_BYTES
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
        let is_used = |ssrc: &u32| self.used_ssrcs.contains(ssrc);
        if is_used(&ssrc) || rtx_ssrc.as_ref().is_some_and(is_used) || rtx_ssrc == Some(ssrc) {
            return Err(PeerError::Bug("str0m assigned an SSRC twice".to_owned()));
        }
        if self.m_lines.len() <= m_line {
            self.m_lines.resize_with(m_line + 1, || None);
        }
        self.used_ssrcs.extend([ssrc].into_iter().chain(rtx_ssrc));
        self.m_lines[m_line] = Some(Outgoing::new(mid, ssrc, rtx_ssrc, first_seq_nos(names)));
        Ok(())
    }

    /// Replaces the SSRCs of a reused m-line with unused ones.
    ///
    /// # Errors
    /// More than `MAX_USED_SSRCS` were used.
    pub fn renew_m_line(&mut self, mid: Mid, names: &mut Names) -> Result<(), PeerError> {
        let Some(outgoing) = self.m_lines.iter_mut().flatten().find(|outgoing| outgoing.mid == mid) else {
            return Ok(());
        };
        let mut draw = || {
            let unused = |ssrc: &u32| *ssrc != 0 && !self.used_ssrcs.contains(ssrc);
            let ssrc =
                std::iter::repeat_with(|| names.next_u32()).find(unused).expect("most of the 2^32 SSRCs are unused");
            self.used_ssrcs.push(ssrc);
            ssrc
        };
        let (ssrc, rtx_ssrc) = (draw(), outgoing.rtx.ssrc.map(|_| draw()));
        *outgoing = Outgoing::new(mid, ssrc, rtx_ssrc, first_seq_nos(names));
        if self.used_ssrcs.len() > MAX_USED_SSRCS {
            return Err(PeerError::UsedUp);
        }
        Ok(())
    }

    /// Sets the m-lines on which the peer accepts redundant sound.
    pub fn set_redundant(&mut self, mids: &[Mid]) {
        for outgoing in self.m_lines.iter_mut().flatten() {
            outgoing.takes_redundancy = mids.contains(&outgoing.mid);
        }
    }

    /// The m-lines with SSRCs.
    pub fn m_lines(&self) -> impl Iterator<Item = &Outgoing> {
        self.m_lines.iter().flatten()
    }

    /// An m-line, if it has SSRCs.
    pub fn m_line_mut(&mut self, m_line: usize) -> Option<&mut Outgoing> {
        self.m_lines.get_mut(m_line)?.as_mut()
    }

    /// Pauses all m-lines until their next starting points.
    pub fn restart(&mut self) {
        self.m_lines.iter_mut().flatten().for_each(Outgoing::pause);
    }

    /// Forwards packets of a track on an m-line. Video is paced, and the rest of the packets held, unless it is
    /// `overdue`.
    pub fn forward<'a>(
        &mut self,
        now: Instant,
        m_line: usize,
        track: TrackId,
        packets: impl ExactSizeIterator<Item = &'a Packet>,
        overdue: bool,
        datagrams: &mut Datagrams,
    ) -> Forwarded {
        let mut forwarded = Forwarded { skipped: packets.len() as u64, ..Forwarded::default() };
        if !self.ensure_route(now) {
            return forwarded;
        }
        let (Some(Some(outgoing)), Some(egress)) = (self.m_lines.get_mut(m_line), &mut self.egress) else {
            return forwarded;
        };
        if outgoing.track != Some(track) {
            return forwarded;
        }
        let (was_waiting, was_awaiting) = (outgoing.is_waiting(), outgoing.awaited().is_some());
        let is_paced = self.is_acknowledged && !overdue;
        let mut rest = packets.len();
        for packet in packets {
            let waits = is_paced && packet.codec != Codec::Opus;
            let (bytes, preface_bytes) = (packet.wire_bytes(), packet.preface_bytes());
            if waits && !egress.pacer.may_leave(now, bytes + preface_bytes) {
                self.held_bytes = self.held_bytes.max(bytes + preface_bytes);
                forwarded.held = rest;
                forwarded.skipped -= rest as u64;
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
            match outcome {
                Outcome::Sent => forwarded.sent += 1,
                Outcome::Switched => (forwarded.sent, forwarded.switched) = (forwarded.sent + 1, true),
                Outcome::Ended => forwarded.switched = true,
                Outcome::CannotDecode(first) => forwarded.cannot_decode |= first,
                Outcome::AwaitsKeyframe => forwarded.awaits_keyframe = outgoing.awaited(),
                Outcome::NotSelected | Outcome::Old => {}
            }
        }
        forwarded.skipped -= forwarded.sent;
        forwarded.switched |= was_awaiting && outgoing.awaited().is_none();
        if was_waiting && forwarded.sent > 0 {
            egress.hasten_report(now);
        }
        forwarded
    }

    /// Starts a probe of the path if one is due.
    pub fn start_probe(&mut self, now: Instant) {
        if self.is_acknowledged
            && let Some(egress) = &mut self.egress
        {
            egress.start_probe(now);
        }
    }

    /// When the next probe is due; `None` while one is running, or if the estimate covers the wanted bitrate.
    pub fn next_probe(&self) -> Option<Instant> {
        let egress = self.egress.as_ref().filter(|egress| self.is_acknowledged && !egress.is_probing())?;
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
    pub fn poll_ignored(&mut self) -> bool {
        let is_ignored = self.egress.as_ref().is_some_and(|egress| egress.estimator.is_ignored());
        is_ignored && std::mem::take(&mut self.is_acknowledged)
    }

    /// The bitrate available for media; `None` without feedback of the peer.
    pub fn available_bps(&self) -> Option<u64> {
        self.egress
            .as_ref()
            .filter(|_| self.is_acknowledged || self.has_bandwidth)
            .map(|egress| egress.estimator.estimate_bps())
    }

    /// Notes that the estimate was allocated; all of the wanted media would take `wanted_bps`.
    pub fn handle_allocation(&mut self, now: Instant, wanted_bps: u64) {
        if let Some(egress) = &mut self.egress {
            self.allocated_bps = egress.estimator.estimate_bps();
            self.next_allocation = (wanted_bps > self.allocated_bps).then_some(now + ALLOCATION_INTERVAL);
            egress.estimator.set_wanted(wanted_bps);
        }
    }

    /// Whether feedback on the path has arrived since the last call.
    pub fn take_estimate(&mut self) -> bool {
        std::mem::take(&mut self.has_estimate)
    }

    /// Whether an outage with lost packets to the peer has ended since the last call.
    pub fn take_hole(&mut self) -> bool {
        self.egress.as_mut().is_some_and(|egress| egress.estimator.take_hole())
    }

    /// The bitrate of sound as last measured, but at least that of two voices: a silent participant may speak at any
    /// time.
    pub fn sound_bps(&mut self, now: Instant) -> u64 {
        let sounds = || self.m_lines.iter().flatten().filter(|outgoing| outgoing.is_audio());
        let bytes = sounds().map(Outgoing::sent_bytes).fold(0, u32::wrapping_add);
        let voices = VOICE_BPS * sounds().count().min(2) as u64;
        if voices == 0 {
            self.sound = None;
            return 0;
        }
        let Sound { since, bytes: before, rate_bps } = self.sound.unwrap_or(Sound { since: now, bytes, rate_bps: 0 });
        let elapsed = now.saturating_duration_since(since);
        let is_due = elapsed >= SOUND_INTERVAL;
        // The sum of bytes decreases when an m-line with sound is replaced.
        let difference = bytes.wrapping_sub(before) as i32;
        let rate_bps = match is_due && difference >= 0 {
            true => (8.0 * f64::from(difference) / elapsed.as_secs_f64()) as u64,
            false => rate_bps,
        };
        let (since, bytes) = if is_due { (now, bytes) } else { (since, before) };
        self.sound = Some(Sound { since, bytes, rate_bps });
        rate_bps.max(voices)
    }

    /// Whether the estimate differs from the one allocated last, or a repeated allocation is due.
    pub fn needs_allocation(&self, now: Instant) -> bool {
        let differs = |bps: u64| bps.abs_diff(self.allocated_bps) > self.allocated_bps / ESTIMATE_STEP;
        self.available_bps().is_some_and(differs) || self.next_allocation.is_some_and(|next| now >= next)
    }

    /// A recent packet to resend as padding: the one sent `back` packets before the last.
    pub fn padding(&self, back: u16) -> Option<(usize, TrackId, Sent)> {
        self.m_lines.iter().enumerate().find_map(|(m_line, outgoing)| {
            let outgoing = outgoing.as_ref()?;
            Some((m_line, outgoing.track?, outgoing.latest_sent(back)?))
        })
    }

    /// Sends a padding packet: `again` if it is given, else an empty one. Returns false if neither is possible.
    pub fn pad(&mut self, now: Instant, again: Option<(usize, Sent, &Packet)>, datagrams: &mut Datagrams) -> bool {
        if !self.ensure_route(now) {
            return false;
        }
        let Some(egress) = &mut self.egress else {
            return false;
        };
        if let Some((m_line, sent, packet)) = again
            && let Some(Some(outgoing)) = self.m_lines.get_mut(m_line)
        {
            return outgoing.pad(now, sent, packet, egress, datagrams);
        }
        self.m_lines.iter_mut().flatten().any(|outgoing| outgoing.pad_empty(now, egress, datagrams))
    }

    /// Sends the due sender reports. Call it after `forward`.
    pub fn report(&mut self, now: Instant, profile: &Profile, datagrams: &mut Datagrams) {
        if self.ensure_route(now)
            && let Some(egress) = &mut self.egress
        {
            egress.estimator.handle_timeout(now);
            let m_lines = self.m_lines.iter_mut().flatten();
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

    /// Whether a packet of the peer is authentic with this rollover counter; false before there are keys.
    pub fn is_authentic(&self, packet: &[u8], rollover: u32) -> bool {
        self.egress.as_ref().is_some_and(|egress| egress.srtp.is_authentic(packet, rollover))
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
        let (Some(Some(outgoing)), Some(egress)) = (self.m_lines.get_mut(m_line), &mut self.egress) else {
            return false;
        };
        outgoing.resend(now, sent, packet, egress, datagrams)
    }

    /// Sets how the subscriber shows a track.
    pub fn set_view(&mut self, track: TrackId, view: View) {
        let mut m_lines = self.m_lines.iter_mut().flatten();
        if let Some(outgoing) = m_lines.find(|outgoing| outgoing.track == Some(track)) {
            outgoing.view = view;
        }
    }

    /// Stops a track at once.
    pub fn stop(&mut self, track: TrackId) {
        let m_lines = self.m_lines.iter_mut().flatten().filter(|outgoing| outgoing.track == Some(track));
        m_lines.for_each(Outgoing::stop);
    }

    /// The m-lines that send video now.
    pub fn videos(&self) -> impl Iterator<Item = (usize, &Outgoing)> {
        let m_lines = self.m_lines.iter().enumerate();
        m_lines.filter_map(|(m_line, outgoing)| {
            Some((m_line, outgoing.as_ref().filter(|outgoing| outgoing.track.is_some() && !outgoing.is_audio())?))
        })
    }

    /// The track and the selected layer of an m-line.
    pub fn forwarded(&self, m_line: usize) -> Option<(TrackId, u8)> {
        let outgoing = self.m_lines.get(m_line)?.as_ref()?;
        Some((outgoing.track?, outgoing.selected()?.layer))
    }

    /// Handles RTCP of the peer that arrived over `route`. Returns whether it may concern the peer's own streams too.
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
        let (mut reference, mut has_estimate, mut lookups, mut arrivals) = (None, false, 0, 0);
        // The SSRC of the previous feedback, and its m-line.
        let mut found: Option<(u32, Option<usize>)> = None;
        let is_sender = rtcp::read(&compound, |feedback| {
            let m_line = feedback.stream().and_then(|ssrc| match found {
                Some((last, m_line)) if last == ssrc => m_line,
                _ if lookups >= MAX_LOOKUPS => None,
                _ => {
                    lookups += 1;
                    let is_of =
                        |outgoing: &Option<Outgoing>| outgoing.as_ref().is_some_and(|outgoing| outgoing.ssrc == ssrc);
                    let m_line = self.m_lines.iter().position(is_of);
                    found = Some((ssrc, m_line));
                    m_line
                }
            });
            let Some((m_line, outgoing)) = m_line.and_then(|m_line| Some((m_line, self.m_lines[m_line].as_mut()?)))
            else {
                match feedback {
                    Feedback::Reference(received) => reference = Some(received),
                    Feedback::Arrivals(_) if arrivals >= MAX_ARRIVALS => {}
                    Feedback::Arrivals(body) => {
                        arrivals += 1;
                        egress.estimator.handle_feedback(now, body);
                        (self.is_acknowledged, has_estimate) = (true, true);
                    }
                    Feedback::Bandwidth(bps) => {
                        egress.estimator.handle_remb(bps);
                        (self.has_bandwidth, has_estimate) = (true, true);
                    }
                    _ => {}
                }
                return;
            };
            outgoing.handle_report();
            let room = MAX_REQUESTS.saturating_sub(self.requests.len());
            match feedback {
                Feedback::Report { .. } | Feedback::Reference(_) | Feedback::Arrivals(_) | Feedback::Bandwidth(_) => {}
                Feedback::Nack { seq_no, following, .. } => {
                    let bits = (0..16).filter(|bit| following & 1 << bit != 0);
                    let missing = std::iter::once(seq_no).chain(bits.map(|bit| seq_no.wrapping_add(1 + bit)));
                    let sent = missing.filter_map(|seq_no| outgoing.rtx.find(seq_no)).take(room);
                    self.requests.extend(sent.map(|sent| (m_line, Some(sent))));
                }
                Feedback::KeyframeRequest { .. } if self.requests.last() == Some(&(m_line, None)) => {}
                Feedback::KeyframeRequest { .. } if self.requests.len() >= MAX_REQUESTS + MAX_LOOKUPS => {}
                Feedback::KeyframeRequest { .. } => self.requests.push((m_line, None)),
            }
        });
        egress.close_rtcp(compound);
        if let Some(reference) = reference {
            egress.handle_reference(now, reference);
        }
        if has_estimate {
            self.has_estimate = true;
            egress.on_estimate(now);
        }
        is_sender
    }

    /// Whether there are requests for `take_requests`.
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Takes the requests since the last call: m-line, and a packet to retransmit or `None` for a keyframe.
    pub fn take_requests(&mut self) -> impl Iterator<Item = (usize, Option<Sent>)> {
        self.requests.drain(..)
    }

    /// Ensures that the route has consent (RFC 7675 section 5.1). If it has expired, the latest address with consent
    /// becomes the route. Returns false if there is none.
    fn ensure_route(&mut self, now: Instant) -> bool {
        let Some(egress) = self.egress.as_mut().filter(|_| self.is_open) else {
            return false;
        };
        // This runs for each packet, so the expiry is cached and the addresses are searched only after it.
        if egress.held_until.is_some_and(|until| now <= until) {
            return true;
        }
        if !self.addresses.holds(now, egress.route.remote)
            && let Some(other) = self.addresses.latest(now)
        {
            egress.set_route(other);
        }
        egress.held_until = self.addresses.held_until(egress.route.remote);
        egress.held_until.is_some_and(|until| now <= until)
    }
}

/// Draws the first sequence numbers of a stream and of its retransmission stream.
fn first_seq_nos(names: &mut Names) -> [u32; 2] {
    [(); 2].map(|()| names.below(FIRST_SEQ_NO_LIMIT))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use str0m::crypto::dtls::SrtpProfile;
    use str0m::media::Frequency;

    use super::*;
    use crate::id::PeerId;
    use crate::media::bandwidth::pacer::Pacer;
    use crate::media::negotiation::profile::PayloadTypes;

    use crate::media::rtp::codec::parameter_sets::Preface;
    use crate::media::rtp::elements::Ids;
    use crate::media::rtp::packet::Incoming;
    use crate::media::transport::srtp::{Exported, Srtp};

    fn route(port: u16) -> Route {
        Route { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: SocketAddr::from(([192, 0, 2, 2], 9)) }
    }

    fn sending(now: Instant) -> Sending {
        let mut sending = Sending { is_open: true, ..Sending::default() };
        sending.addresses.validate(now, route(1)).unwrap();
        let mut egress = Egress::sample(now);
        egress.route = route(1);
        sending.egress = Some(egress);
        sending
    }

    #[test]
    fn media_stops_when_consent_expires_and_moves_to_an_address_with_consent() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut sending = sending(start);
        assert!(sending.ensure_route(at(0)) && sending.ensure_route(at(15)));
        assert!(!sending.ensure_route(at(16)), "no check for 15 s");
        // RTCP arrived from an address validated only once; the peer keeps validating the other one.
        sending.addresses.validate(at(17), route(2)).unwrap();
        sending.egress.as_mut().unwrap().take_route(at(17), route(2));
        for secs in 18..60 {
            sending.addresses.validate(at(secs), route(1)).unwrap();
            assert!(sending.ensure_route(at(secs)), "{secs}");
            let expected = if secs <= 32 { route(2) } else { route(1) };
            assert_eq!(sending.egress.as_ref().unwrap().route, expected, "{secs}");
        }
        sending.is_open = false;
        assert!(!sending.ensure_route(at(60)));
    }

    /// One m-line of VP8 to a peer that sends arrival feedback.
    fn video(now: Instant) -> Sending {
        let mut sending = sending(now);
        sending.add_m_line(0, Mid::from("1"), 7, Some(8), &mut Names::new([1; 32])).unwrap();
        let mut payload_types = PayloadTypes::default();
        payload_types.insert(Codec::Vp8, 96.into(), Some(97.into()));
        sending.m_line_mut(0).unwrap().start(track(), payload_types, Ids(0));
        sending.is_acknowledged = true;
        sending
    }

    /// The same over a path of 4 Mbit/s, with a burst of ten packets.
    fn wide_video(now: Instant) -> Sending {
        let mut sending = video(now);
        sending.egress.as_mut().unwrap().pacer = Pacer::new(now, 4_000_000);
        sending
    }

    fn track() -> TrackId {
        TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") }
    }

    /// A packet of the largest size.
    fn packet(now: Instant, codec: Codec, seq_no: u64) -> Packet {
        let mut packet = Packet { codec, payload: vec![0; MAX_PAYLOAD].into(), ..Packet::sample(now) };
        packet.incoming.seq_no = seq_no;
        packet.incoming.can_start = true;
        packet
    }

    #[test]
    fn held_packets_leave_at_the_next_release() {
        let start = Instant::now();
        for preface in [0, 400] {
            let (mut sending, mut datagrams) = (video(start), Datagrams::default());
            let mut now = start;
            for seq_no in 0..100 {
                let mut packet = packet(now, Codec::Vp8, seq_no);
                packet.payload = vec![0; MAX_PAYLOAD - packet.elements.len()].into();
                if preface > 0 {
                    packet.incoming.has_preface = true;
                    let payload = vec![9; preface].into();
                    packet.preface = Some(Box::new(Preface { payload, is_missing: true }));
                }
                let mut forward = |now| sending.forward(now, 0, track(), [&packet].into_iter(), false, &mut datagrams);
                if forward(now).held == 0 {
                    continue;
                }
                now = sending.next_release(now).unwrap();
                let forwarded = sending.forward(now, 0, track(), [&packet].into_iter(), false, &mut datagrams);
                assert_eq!(
                    (forwarded.sent, forwarded.held),
                    (1, 0),
                    "packet {seq_no} with a preface of {preface} bytes"
                );
            }
            assert!(now > start + Duration::from_millis(200), "packets were held");
        }
    }

    #[test]
    fn a_preface_is_paced_with_its_packet() {
        let now = Instant::now();
        for (length, preface, burst) in [(100, 400, 18), (100, 40, 42), (1_000, 400, 7)] {
            let (mut sending, mut datagrams) = (wide_video(now), Datagrams::default());
            let of = |seq_no| {
                let preface = Preface { payload: vec![9; preface].into(), is_missing: true };
                let packet = packet(now, Codec::Vp8, seq_no);
                let incoming = Incoming { has_preface: true, ..packet.incoming };
                Packet { payload: vec![0; length].into(), preface: Some(Box::new(preface)), incoming, ..packet }
            };
            let packets: Vec<_> = (0..100).map(of).collect();
            let forwarded = sending.forward(now, 0, track(), packets.iter(), false, &mut datagrams);
            assert_eq!((forwarded.sent, datagrams.len() as u64), (burst, 2 * burst), "{length}, {preface}");
            assert_eq!(forwarded.held as u64, 100 - burst);
        }
    }

    #[test]
    fn dropped_packets_take_no_pacer_budget() {
        let now = Instant::now();
        let (mut sending, mut datagrams) = (wide_video(now), Datagrams::default());
        let mut forward = |codec, seq_no| {
            let packet = packet(now, codec, seq_no);
            sending.forward(now, 0, track(), [&packet].into_iter(), false, &mut datagrams)
        };
        for seq_no in 0..100 {
            assert_eq!(forward(Codec::Vp9, seq_no).held, 0);
        }
        assert_eq!((0..100).take_while(|seq_no| forward(Codec::Vp8, *seq_no).sent == 1).count(), 8, "a burst");
    }

    #[test]
    fn a_peer_without_the_negotiated_feedback_has_no_estimate() {
        let start = Instant::now();
        let mut sending = sending(start);
        sending.is_acknowledged = true;
        let mut ignored_ms = Vec::new();
        for ms in (0..5_000).step_by(20) {
            let now = start + Duration::from_millis(ms);
            sending.egress.as_mut().unwrap().number(now, 1_200);
            if sending.poll_ignored() {
                ignored_ms.push(ms);
            }
            assert_eq!(sending.available_bps().is_some(), ignored_ms.is_empty(), "{ms}");
        }
        assert!(ignored_ms.len() == 1 && (1_000..2_000).contains(&ignored_ms[0]), "{ignored_ms:?}");
    }

    #[test]
    fn sound_is_reserved_at_its_measured_bitrate() {
        let start = Instant::now();
        let mut sending = sending(start);
        assert_eq!(sending.sound_bps(start), 0, "no sound");
        let mut payload_types = PayloadTypes::default();
        payload_types.insert(Codec::Opus, 111.into(), None);
        let track = TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") };
        let mut names = Names::new([1; 32]);
        for m_line in 0..3 {
            sending
                .add_m_line(m_line, Mid::from(["1", "2", "3"][m_line]), 10 + m_line as u32, None, &mut names)
                .unwrap();
            sending.m_line_mut(m_line).unwrap().start(track, payload_types, Ids(0));
        }
        assert_eq!(sending.sound_bps(start), 2 * VOICE_BPS, "two may speak at once");
        let mut datagrams = Datagrams::default();
        for (from, payload, expected) in [(0, 180, 300_000), (1_000, 10, 2 * VOICE_BPS)] {
            for number in 0..50 {
                let now = start + Duration::from_millis(from + 20 * number);
                for m_line in 0..3 {
                    let seq_no = from + number;
                    let packet = Packet { payload: vec![1; payload].into(), ..sound(now, m_line as u32, seq_no) };
                    sending.forward(now, m_line, track, std::iter::once(&packet), false, &mut datagrams);
                }
                assert!(sending.sound_bps(now) >= 2 * VOICE_BPS);
            }
            assert_eq!(sending.sound_bps(start + Duration::from_millis(from + 1_000)), expected);
        }
        sending.stop(track);
        assert_eq!(sending.sound_bps(start + Duration::from_secs(9)), 0);
    }

    fn sound(now: Instant, ssrc: u32, seq_no: u64) -> Packet {
        let mut packet = Packet { payload: [].into(), ..packet(now, Codec::Opus, seq_no) };
        packet.incoming.ssrc = ssrc;
        packet.incoming.timestamp = 960 * seq_no as u32;
        packet.incoming.clock_rate = Frequency::FORTY_EIGHT_KHZ;
        packet
    }

    #[test]
    fn feedback_is_limited_to_the_rate_of_a_browser() {
        let start = Instant::now();
        let mut sending = video(start);
        let exported = Exported { profile: SrtpProfile::AEAD_AES_256_GCM, material: vec![3; 88], is_client: true };
        let (mut theirs, mut allowance) = (Srtp::new(&exported).unwrap(), Allowance::new(start, 1, 1));
        let mut asked = 0;
        for micros in (0..2_000_000).step_by(200) {
            let (now, mut pli) = (start + Duration::from_micros(micros), vec![0x81, 206, 0, 2]);
            pli.extend([9, 7].iter().flat_map(|ssrc: &u32| ssrc.to_be_bytes()));
            theirs.seal_rtcp(&mut pli, 0);
            sending.handle_rtcp(now, route(1), &pli, &mut allowance);
            asked += sending.take_requests().count() as u64;
        }
        assert!((1_000..=2_001).contains(&asked), "{asked}");
        assert_eq!(allowance.take_excess(), 10_000 - asked);
        // Unauthentic RTCP is not charged.
        let later = start + Duration::from_secs(9);
        for _ in 0..5_000 {
            sending.handle_rtcp(later, route(1), &[0x81, 206, 0, 2, 0, 0, 0, 9], &mut allowance);
        }
        assert_eq!(allowance.take_excess(), 0);
    }

    #[test]
    fn requests_are_handled_after_any_other_feedback_in_a_datagram() {
        let start = Instant::now();
        let packet_of = |first: u8, packet_type: u8, words: &[u32]| {
            let length = (words.len() as u16).to_be_bytes();
            let head = [0x80 | first, packet_type, length[0], length[1]];
            head.into_iter().chain(words.iter().flat_map(|word| word.to_be_bytes())).collect::<Vec<u8>>()
        };
        let pli = packet_of(1, 206, &[9, 7]);
        let reports = |count: u32| {
            let words = std::iter::once(9).chain((0..count).flat_map(|ssrc| [1_000 + ssrc, 0, 0, 0, 0, 0]));
            packet_of(count as u8, 201, &words.collect::<Vec<_>>())
        };
        let nacks = |ssrc: u32, count: u32| {
            let words = [9, ssrc].into_iter().chain((0..count).map(|number| number << 16 | 0xffff));
            packet_of(1, 205, &words.collect::<Vec<_>>())
        };
        let others = (0..120).flat_map(|ssrc| packet_of(1, 206, &[9, 2_000 + ssrc])).collect();
        for (name, before) in [
            ("reports", [reports(31), reports(31), reports(16)].concat()),
            ("NACKs of another stream", [reports(0), nacks(55, 300)].concat()),
            ("NACKs of the same stream", [reports(0), nacks(7, 300)].concat()),
            ("keyframe requests for other streams", [reports(0), others].concat()),
            ("keyframe requests", [reports(0), pli.repeat(100)].concat()),
        ] {
            let mut sending = video(start);
            let mut datagrams = Datagrams::default();
            for seq_no in 0..300 {
                let packet = packet(start, Codec::Vp8, seq_no);
                sending.forward(start, 0, track(), [&packet].into_iter(), true, &mut datagrams);
            }
            let exported = Exported { profile: SrtpProfile::AEAD_AES_256_GCM, material: vec![3; 88], is_client: true };
            let (mut theirs, mut allowance) = (Srtp::new(&exported).unwrap(), Allowance::new(start, 1, 1));
            let mut compound = [before, pli.clone()].concat();
            theirs.seal_rtcp(&mut compound, 0);
            sending.handle_rtcp(start, route(1), &compound, &mut allowance);
            let requests: Vec<_> = sending.take_requests().collect();
            assert_eq!(requests.iter().filter(|request| **request == (0, None)).count(), 1, "{name}");
            assert!(requests.len() <= MAX_REQUESTS + 1, "{name}");
        }
    }

    #[test]
    fn late_packets_from_a_left_path_keep_the_route_and_later_ones_take_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut sending = sending(start);
        let egress = sending.egress.as_mut().unwrap();
        for (ms, from, expected) in [
            (0, 1, 1),
            (10, 2, 2),
            // A packet sent before the path changed.
            (50, 1, 2),
            (60, 2, 2),
            (400, 1, 2),
            (420, 3, 3),
            (450, 2, 3),
            (480, 1, 3),
            // The first path is used again.
            (1_600, 1, 1),
            (1_700, 3, 1),
        ] {
            egress.take_route(at(ms), route(from));
            assert_eq!(egress.route, route(expected), "{ms} ms");
        }
        // A change for lack of consent takes effect at once, also to a recently left route.
        egress.set_route(route(3));
        assert_eq!(egress.route, route(3));
    }

    #[test]
    fn no_ssrc_is_used_twice() {
        let mut sending = Sending::default();
        let mut names = Names::new([1; 32]);
        let (ann, bob) = (Mid::from("1"), Mid::from("2"));
        sending.add_m_line(0, ann, 7, Some(8), &mut names).unwrap();
        for (ssrc, rtx_ssrc) in [(7, None), (9, Some(8)), (9, Some(9))] {
            assert!(matches!(sending.add_m_line(1, bob, ssrc, rtx_ssrc, &mut names), Err(PeerError::Bug(_))));
        }
        for _ in 0..1_000 {
            sending.renew_m_line(ann, &mut names).unwrap();
        }
        let mut used = sending.used_ssrcs.clone();
        used.sort_unstable();
        used.dedup();
        assert_eq!((used.len(), sending.used_ssrcs.len()), (2_002, 2_002));
        assert!(sending.add_m_line(1, bob, 7, None, &mut names).is_err(), "no SSRC is reused");
        let renewed = (0..MAX_USED_SSRCS).try_for_each(|_| sending.renew_m_line(ann, &mut names));
        assert!(matches!(renewed, Err(PeerError::UsedUp)));
    }
}
