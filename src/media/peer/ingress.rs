//! What a peer receives: its datagrams, and the RTP packets that str0m decrypts from them.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::Input;
use str0m::format::PayloadParams;
use str0m::media::{KeyframeRequestKind, Mid};
use str0m::net::{Protocol as Transport, Receive};
use str0m::rtp::{RtpPacket, Ssrc};

use super::{Peer, PeerEvent};
use crate::media::fault::PeerError;
use crate::media::publish::gate::read_extensions;
use crate::media::publish::layer::RIDS;
use crate::media::rtp::codec;
use crate::media::rtp::packet::{MAX_PAYLOAD, SEQ_NO_LIMIT};
use crate::media::transport::addresses::Validated;
use crate::media::transport::demux::Protocol;
use crate::media::transport::opening;
use crate::media::transport::route::Route;

impl Peer {
    /// Handles one datagram that the demultiplexer has assigned to this peer. `route` leads back to its source,
    /// `announced` is the candidate for its destination. Returns `Some` if the datagram is an authenticated
    /// connectivity check that has validated its source address.
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
        let Ok(receive) = Receive::new(Transport::Udp, route.remote, announced, contents) else {
            return Ok(None);
        };
        let mut input = Input::Receive(now, receive);
        let nominating;
        let (mut validated, mut number, mut admitted) = (None, None, None);
        let protocol = Protocol::of(contents);
        if protocol == Protocol::Stun {
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
                && let Ok(receive) = Receive::new(Transport::Udp, route.remote, announced, check)
            {
                input = Input::Receive(now, receive);
            }
        } else if protocol == Protocol::Rtcp {
            // RTCP of a peer that publishes nothing goes to `Sending` only: decrypting it twice would be costly.
            let is_of_sender = self.sending.handle_rtcp(now, route, contents, &mut self.gate.allowance);
            let is_for_receiver = is_of_sender && !self.streams.is_empty();
            if self.sending.egress.is_some() && !is_for_receiver {
                return Ok(None);
            }
        } else {
            if protocol == Protocol::Rtp {
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
        self.has_undrained_input = true;
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

    /// Requests a keyframe of a layer from this peer, a publisher. The next drain sends the request.
    pub fn request_keyframe(&mut self, mid: Mid, layer: u8) {
        let Some(ssrc) = self.streams.latest(mid, layer) else {
            return;
        };
        if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
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

    pub(super) fn on_packet(&mut self, now: Instant, packet: &RtpPacket, events: &mut Vec<PeerEvent>) {
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
