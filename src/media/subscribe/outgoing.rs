//! One SSRC that the server sends to one subscriber: rewrites and seals a track's packets, retransmits them, and
//! reports on them.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use str0m::format::Codec;
use str0m::media::{Frequency, Mid};

use crate::id::TrackId;
use crate::media::negotiation::profile::{DEPENDENCY_ID, MID_ID, PayloadTypes, TRANSPORT_CC_ID};
use crate::media::publish::keyframe::{self, Reason};
use crate::media::publish::layer::{LAYERS, TEMPORAL_LAYERS};
use crate::media::publish::layers::Layers;
use crate::media::rtp::codec;
use crate::media::rtp::codec::parameter_sets::Preface;
use crate::media::rtp::elements::{Elements, Ids};
use crate::media::rtp::packet::{Packet, WIRE_OVERHEAD};
use crate::media::rtp::rtcp::SenderReport;
use crate::media::subscribe::egress::Egress;
use crate::media::subscribe::picture_ids::PictureIds;
use crate::media::subscribe::quality::{Limit, Quality};
use crate::media::subscribe::renumbering::{Bound, Renumbering, Rewritten};
use crate::media::subscribe::rtx::{Role, Rtx, Sent};
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::srtp::SRTP_OVERHEAD;

/// Upper bound of header, extension block and original sequence number, in bytes. Reserved once for each packet.
const HEADROOM: usize = 256;

// Bits of the first byte of a packet.
const HAS_PADDING: u8 = 0x20;
const HAS_EXTENSIONS: u8 = 0x10;

/// How long a change of layers waits for a keyframe while other starting points arrive. It exceeds the longest interval
/// between keyframe requests. After it, the change is worth the errors that a decoder shows until all areas are
/// refreshed.
const KEYFRAME_WAIT: Duration = Duration::from_millis(keyframe::LONGEST.as_millis() as u64 + 500);

/// Size of a padding packet in bytes: the largest that RTP allows.
const PADDING_BYTES: u8 = 255;

/// One outgoing SSRC and its retransmission SSRC.
pub struct Outgoing {
    /// The subscriber's m-line.
    pub mid: Mid,
    /// SSRC of the stream.
    pub ssrc: u32,
    /// Its retransmissions.
    pub rtx: Rtx,
    /// The track sent now.
    pub track: Option<TrackId>,
    /// The track of the last sent packet. If it is started again, its timestamps continue by its own clock.
    last_track: Option<TrackId>,
    /// How the subscriber shows it.
    pub view: View,
    /// The quality that the allocation grants.
    pub quality: Option<Quality>,
    /// The quality last reported to the subscriber.
    pub told: Option<Quality>,
    /// The layers to send; `None` pauses it.
    target: Option<Selection>,
    /// The layer sent now.
    layer: u8,
    renumbering: Renumbering,
    /// Layer and publisher's timestamp of the picture sent last, if its last packet is still to come.
    unfinished: Option<(u8, u32)>,
    /// When the selected layer's first starting point arrived; the change waits from then on for a keyframe, up to
    /// `KEYFRAME_WAIT`.
    first_start: Option<Instant>,
    picture_ids: PictureIds,
    /// Whether the subscriber's answer accepts redundant sound (RFC 2198) on this m-line.
    pub takes_redundancy: bool,
    payload_types: PayloadTypes,
    accepted: Ids,
    /// Whether the subscriber has reported on this SSRC. Until then, packets carry the MID (RFC 8843 section 9.2).
    is_known: bool,
    /// The bytes of `mid`; `Mid::as_bytes` searches for their end at each call.
    mid_value: Box<[u8]>,
    /// Whether `Outcome::CannotDecode(true)` was returned for this track.
    has_reported_codec: bool,
    /// Whether anything was sent since the last sender report.
    has_news: bool,
    packets: u32,
    octets: u32,
    last: Option<(u32, Instant, Frequency)>,
}

/// How a subscriber shows a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Width in device pixels.
    pub width: u32,
    /// Height in device pixels.
    pub height: u32,
    /// Priority; higher is more important.
    pub priority: u32,
}

/// The part of a track to send, ordered by quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// Index of the simulcast layer.
    pub layer: u8,
    /// Highest spatial layer in its SSRC; `u8::MAX` for no bound.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
}

/// The result of `Outgoing::forward` for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written to the datagrams.
    Sent,
    /// Dropped because the subscriber has not negotiated the codec; `true` for the first such packet of a subscription.
    CannotDecode(bool),
    /// Written to the datagrams; from here on another layer than before is sent, or none.
    Switched,
    /// Dropped because nothing is selected any more; the track is now paused.
    Ended,
    /// Dropped because the track, or this layer of it, has to start with a keyframe.
    AwaitsKeyframe,
    /// Dropped, or replaced by padding, because its layer is not selected.
    NotSelected,
    /// Dropped because its spatial or temporal layer is not selected, or because it is too old.
    Old,
}

impl Outgoing {
    /// Upper bound of the memory of one `Outgoing`.
    pub const MAX_BYTES: usize = size_of::<Self>() + Renumbering::MAX_BYTES + Rtx::MAX_BYTES;

    /// Creates the state of an unused SSRC. `first` has the sequence numbers of its first packet and of its first
    /// retransmission, both below `FIRST_SEQ_NO_LIMIT`.
    pub fn new(mid: Mid, ssrc: u32, rtx_ssrc: Option<u32>, first: [u32; 2]) -> Self {
        Self {
            mid,
            ssrc,
            rtx: Rtx::new(rtx_ssrc, first[1]),
            track: None,
            last_track: None,
            view: View::default(),
            quality: None,
            told: None,
            target: Some(Selection::BEST),
            layer: 0,
            renumbering: Renumbering::new(first[0]),
            unfinished: None,
            first_start: None,
            picture_ids: PictureIds::default(),
            takes_redundancy: false,
            payload_types: PayloadTypes::default(),
            accepted: Ids::default(),
            is_known: false,
            mid_value: mid.as_bytes().into(),
            has_reported_codec: false,
            has_news: false,
            packets: 0,
            octets: 0,
            last: None,
        }
    }

    /// Sends a track from its next starting point on. `accepted` has the header extensions that the subscriber accepts.
    pub fn start(&mut self, track: TrackId, payload_types: PayloadTypes, accepted: Ids) {
        self.renumbering.pause();
        self.track = Some(track);
        (self.payload_types, self.accepted, self.quality, self.told) = (payload_types, accepted, None, None);
        (self.view, self.target, self.has_reported_codec) = (View::default(), Some(Selection::BEST), false);
    }

    /// Stops the track and forgets its packets: a later retransmission would look them up in another track's history.
    pub fn stop(&mut self) {
        self.track = None;
        self.rtx.forget();
        self.pause();
    }

    /// Selects the layers to send. Another simulcast layer starts at its next keyframe, and the old one is sent until
    /// then. Fewer spatial layers are sent from the next picture on. With `None`, a started picture is sent to its end.
    pub fn select(&mut self, selection: Option<Selection>) {
        if selection.is_none() && self.unfinished.is_none() {
            self.pause();
        }
        if self.target.map(|target| target.layer) != selection.map(|selection| selection.layer) {
            self.first_start = None;
        }
        self.target = selection;
    }

    /// The selected layers; `None` if the track is paused or there is none.
    pub fn selected(&self) -> Option<Selection> {
        self.target.filter(|_| self.track.is_some())
    }

    /// The layer sent now; `None` while waiting for a starting point.
    pub fn layer(&self) -> Option<u8> {
        (!self.is_waiting()).then_some(self.layer)
    }

    /// Bit set of the layers of which `forward` needs every packet.
    pub fn layers(&self) -> u8 {
        let Some(target) = self.selected() else {
            return self.unfinished.filter(|_| !self.is_waiting()).map_or(0, |(layer, _)| 1 << layer);
        };
        // Starting with a smaller picture now is better than waiting for the selected one.
        if self.is_waiting() { (2 << target.layer) - 1 } else { 1 << target.layer | 1 << self.layer }
    }

    /// Bytes sent, including the overhead of lower layers; wraps.
    pub fn sent_bytes(&self) -> u32 {
        self.octets.wrapping_add(self.packets.wrapping_mul(WIRE_OVERHEAD as u32))
    }

    /// Packets sent; wraps.
    pub fn sent_packets(&self) -> u32 {
        self.packets
    }

    /// Whether it sends sound.
    pub fn is_audio(&self) -> bool {
        self.track.is_some() && self.payload_types.find(Codec::Opus).is_some()
    }

    /// The layer that needs a keyframe, and why.
    pub fn awaited(&self) -> Option<(u8, Reason)> {
        let Selection { layer, spatial, .. } = self.selected()?;
        match self.layer() {
            Some(sent) if sent == layer && spatial <= self.renumbering.spatial() => None,
            Some(_) => Some((layer, Reason::Switch)),
            None => Some((layer, Reason::Join)),
        }
    }

    /// Returns the quality that the subscriber effectively gets of a track with these layers, given the granted
    /// quality.
    pub fn result(&self, layers: &Layers) -> Option<Quality> {
        let granted = self.quality?;
        let nothing = |limit| Quality { is_sent: false, layer: None, height: 0, limit };
        let mut result = match (granted.is_sent, self.layer()) {
            (false, _) => granted,
            (true, _) if self.has_reported_codec => return Some(nothing(Limit::Codec)),
            _ if layers.is_silent() => nothing(Limit::Publisher),
            (true, None) => nothing(Limit::Keyframe),
            (true, Some(layer)) => {
                let granted_layer = granted.layer.unwrap_or_default();
                // With one simulcast layer, higher layers are spatial layers of its SSRC.
                let is_spatial = granted_layer > 0 && self.target.is_some_and(|target| target.layer == 0);
                let sent = if is_spatial { self.renumbering.spatial().min(granted_layer) } else { layer };
                let is_less = granted.layer.is_some_and(|granted| sent < granted);
                let layer = granted.layer.map(|_| sent);
                let height = if layer == granted.layer { granted.height } else { layers.height(sent.into()) };
                Quality { layer, height, limit: if is_less { Limit::Keyframe } else { granted.limit }, ..granted }
            }
        };
        if layers.is_oversized() && result.limit != Limit::View {
            result.limit = Limit::Oversized;
        }
        Some(result)
    }

    /// Whether it waits for a starting point.
    pub fn is_waiting(&self) -> bool {
        self.renumbering.is_waiting()
    }

    /// Pauses until the next starting point.
    pub fn pause(&mut self) {
        self.renumbering.pause();
    }

    /// Rewrites, seals and writes one packet of the track, or drops it.
    pub fn forward(
        &mut self,
        now: Instant,
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) -> Outcome {
        let Some(pt) = self.payload_types.find(packet.codec) else {
            return Outcome::CannotDecode(!std::mem::replace(&mut self.has_reported_codec, true));
        };
        if self.layers() & 1 << packet.layer == 0 {
            return Outcome::NotSelected;
        }
        let picture = (packet.layer, packet.incoming.timestamp);
        if self.target.is_none() && self.unfinished != Some(picture) {
            self.pause();
            return Outcome::Ended;
        }
        let switches = self.is_waiting() || packet.layer != self.layer;
        let is_start = packet.incoming.can_start;
        // A starting point whose parameter sets are missing restarts the mapping for every subscriber: the preface
        // before it needs a sequence number of its own.
        if switches || is_start && packet.preface.as_ref().is_some_and(|preface| preface.is_missing) {
            let is_same_track = self.last_track == self.track;
            // The decoder has the references of the other layer only.
            let needs_keyframe = is_same_track && packet.layer != self.layer;
            if !is_start || needs_keyframe && !self.is_keyframe_or_due(now, packet) {
                return Outcome::AwaitsKeyframe;
            }
            self.first_start = None;
            if is_same_track {
                self.renumbering.pause();
            } else {
                self.renumbering.change_track();
            }
            self.last_track = self.track;
        }
        let bound = self.bound(packet.layer);
        let Some(rewritten) = self.renumbering.rewrite(&packet.incoming, &packet.description, bound) else {
            return if self.is_waiting() { Outcome::AwaitsKeyframe } else { Outcome::Old };
        };
        if rewritten.is_empty {
            self.write_padding(now, *pt, self.ssrc, rewritten.timestamp, rewritten.seq_no, 1, egress, datagrams);
            return Outcome::NotSelected;
        }
        self.layer = packet.layer;
        if rewritten.starts {
            self.picture_ids.start();
        }
        // VP8 alone is renumbered without dropped pictures, see `PictureIds`.
        let dropped_pictures = if packet.codec == Codec::Vp8 { rewritten.dropped_pictures } else { 0 };
        let ids = self.picture_ids.map(packet.description.ids, dropped_pictures);
        // A subscriber without redundancy, or with a narrow path, gets the packet's own frame only.
        let red = self.payload_types.red.filter(|_| !egress.is_narrow());
        let (pt, skipped) = match (packet.redundant, red) {
            (Some(_), Some(red)) => (red, 0),
            (own, _) => (pt, own.unwrap_or_default()),
        };
        let payload = &packet.payload[skipped..];
        let marker = packet.marker || rewritten.ends_picture;
        if rewritten.starts
            && let Some(preface) = &packet.preface
        {
            self.write_preface(now, *pt, &rewritten, ids, preface, packet, egress, datagrams);
        }
        if packet.codec != Codec::Opus {
            if rewritten.seq_no + 1 == self.renumbering.next_seq_no() {
                self.unfinished = Some(picture).filter(|_| !marker);
            }
            let (seq_no, role) = (rewritten.seq_no as u16, if marker { Role::Last } else { Role::Inner });
            let sent = Sent::new(seq_no, rewritten.timestamp, packet.position, role, ids);
            self.rtx.remember(sent, packet.wire_bytes());
        }
        self.count(payload.len());
        self.last = Some((rewritten.timestamp, packet.incoming.captured, packet.incoming.clock_rate));
        self.has_news = true;
        let header = Header { pt: *pt, marker, ssrc: self.ssrc, timestamp: rewritten.timestamp, ids };
        self.seal(now, header, rewritten.seq_no, &[], payload, packet, egress, datagrams);
        if self.target.is_none() && self.unfinished.is_none() {
            self.pause();
            return Outcome::Switched;
        }
        if switches { Outcome::Switched } else { Outcome::Sent }
    }

    /// Retransmits a packet. Returns false if retransmission is not negotiated or its budget is used up.
    pub fn resend(
        &mut self,
        now: Instant,
        sent: Sent,
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) -> bool {
        let bytes = if sent.role == Role::Preface { packet.preface_bytes() } else { packet.wire_bytes() };
        let is_sent = self.rtx.allows(bytes)
            && egress.take_retransmission(now, bytes)
            && self.pad(now, sent, packet, egress, datagrams);
        if is_sent {
            self.rtx.spend(bytes);
        }
        is_sent
    }

    /// Retransmits a packet as padding, without a charge. Returns false if retransmission is not negotiated.
    pub fn pad(
        &mut self,
        now: Instant,
        sent: Sent,
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) -> bool {
        let (Some(pt), Some(ssrc)) = (self.payload_types.find_rtx(packet.codec), self.rtx.ssrc) else {
            return false;
        };
        let seq_no = self.rtx.take_seq_no();
        let ids = sent.ids(packet.description.ids);
        let header = Header { pt: *pt, marker: sent.role == Role::Last, ssrc, timestamp: sent.timestamp, ids };
        let original = sent.seq_no.to_be_bytes();
        let preface = packet.preface.as_ref().filter(|_| sent.role == Role::Preface);
        let payload = preface.map_or(&packet.payload, |preface| &preface.payload);
        self.seal(now, header, seq_no, &original, payload, packet, egress, datagrams);
        true
    }

    /// Sends a packet with padding only (RFC 3550 section 5.1), on the retransmission SSRC. Returns false if
    /// retransmission is not negotiated.
    pub fn pad_empty(&mut self, now: Instant, egress: &mut Egress, datagrams: &mut Datagrams) -> bool {
        let (Some(pt), Some(ssrc)) = (self.payload_types.any_rtx(), self.rtx.ssrc) else {
            return false;
        };
        let seq_no = self.rtx.take_seq_no();
        let timestamp = self.last.map_or(0, |(timestamp, ..)| timestamp);
        self.write_padding(now, *pt, ssrc, timestamp, seq_no, PADDING_BYTES, egress, datagrams);
        true
    }

    /// The packet sent `back` packets before the last one.
    pub fn latest_sent(&self, back: u16) -> Option<Sent> {
        self.rtx.find((self.renumbering.next_seq_no() as u16).wrapping_sub(1).wrapping_sub(back))
    }

    /// Notes that the subscriber has received packets of this SSRC.
    pub fn handle_report(&mut self) {
        self.is_known = true;
    }

    /// Returns a sender report if anything was sent since the last. `wall` is `now` as an NTP timestamp.
    pub fn poll_report(&mut self, now: Instant, wall: u64) -> Option<SenderReport> {
        let (timestamp, captured, clock_rate) = self.last.filter(|_| self.has_news)?;
        self.has_news = false;
        let elapsed: Duration = now.saturating_duration_since(captured);
        let ticks = elapsed.as_micros() * u128::from(clock_rate.get()) / 1_000_000;
        Some(SenderReport {
            ssrc: self.ssrc,
            ntp: wall,
            timestamp: timestamp.wrapping_add(ticks as u32),
            packets: self.packets,
            octets: self.octets,
        })
    }

    /// Whether a starting point is a keyframe, or none has arrived for `KEYFRAME_WAIT`: some publishers send only one
    /// keyframe and answer requests with recovery points.
    fn is_keyframe_or_due(&mut self, now: Instant, packet: &Packet) -> bool {
        let first = *self.first_start.get_or_insert(now);
        packet.description.starts_keyframe || now >= first + KEYFRAME_WAIT
    }

    /// Returns the highest spatial and temporal layers to send of a simulcast layer.
    fn bound(&self, layer: u8) -> Bound {
        let target = self.target.unwrap_or(Selection::BEST);
        let temporal = match target.temporal {
            // While the estimate is too low for this layer, only its base layer is sent until the smaller layer's
            // keyframe.
            _ if target.layer < layer && self.is_short() => 0,
            temporal if temporal < Selection::BEST.temporal => temporal,
            // `description.temporal` may exceed the known temporal layers.
            _ => u8::MAX,
        };
        Bound { spatial: target.spatial, temporal }
    }

    /// Whether the estimate limits the granted quality.
    fn is_short(&self) -> bool {
        self.quality.is_some_and(|quality| quality.limit == Limit::Bandwidth)
    }

    /// Sends the preface of a packet (the parameter sets that a decoder needs), with the sequence number before it.
    #[allow(clippy::too_many_arguments, reason = "the packet's fields and the two outputs")]
    fn write_preface(
        &mut self,
        now: Instant,
        pt: u8,
        rewritten: &Rewritten,
        ids: codec::Ids,
        preface: &Preface,
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) {
        let (seq_no, timestamp) = (rewritten.seq_no - 1, rewritten.timestamp);
        let sent = Sent::new(seq_no as u16, timestamp, packet.position, Role::Preface, ids);
        self.rtx.remember(sent, packet.preface_bytes());
        self.count(preface.payload.len());
        let header = Header { pt, marker: false, ssrc: self.ssrc, timestamp, ids };
        self.seal(now, header, seq_no, &[], &preface.payload, packet, egress, datagrams);
    }

    /// Counts a sent packet of `bytes` bytes of payload.
    fn count(&mut self, bytes: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(bytes as u32);
    }

    /// Appends a sealed packet with `bytes` bytes of padding and no payload.
    #[allow(clippy::too_many_arguments, reason = "header fields and the two outputs")]
    fn write_padding(
        &self,
        now: Instant,
        pt: u8,
        ssrc: u32,
        timestamp: u32,
        seq_no: u64,
        bytes: u8,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) {
        let buffer = datagrams.buffer();
        let start = buffer.len();
        write_head(HAS_PADDING, pt, seq_no, timestamp, ssrc, buffer);
        if self.accepted.contains(TRANSPORT_CC_ID) {
            let number = egress.number(now, usize::from(bytes) + WIRE_OVERHEAD).to_be_bytes();
            Elements::default().write(self.accepted, &[(TRANSPORT_CC_ID, &number)], buffer);
            buffer[start] |= HAS_EXTENSIONS;
        }
        let header = buffer.len() - start;
        buffer.resize(buffer.len() + usize::from(bytes) - 1, 0);
        buffer.push(bytes);
        if egress.srtp.seal_rtp(buffer, start, header, seq_no) {
            datagrams.finish(egress.route);
        } else {
            datagrams.abandon();
        }
    }

    /// Appends a sealed packet (RFC 3550 section 5.1) with `prefix`, `payload` and the elements of `packet`.
    #[allow(clippy::too_many_arguments, reason = "the fields that a retransmission changes, and the two outputs")]
    fn seal(
        &self,
        now: Instant,
        header: Header,
        seq_no: u64,
        prefix: &[u8],
        payload: &[u8],
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) {
        let buffer = datagrams.buffer();
        let start = buffer.len();
        buffer.reserve(HEADROOM + payload.len() + SRTP_OVERHEAD);
        let ids = header.ids;
        let second = u8::from(header.marker) << 7 | header.pt;
        write_head(0, second, seq_no, header.timestamp, header.ssrc, buffer);
        let number;
        let mut dependency: SmallVec<[u8; 64]> = SmallVec::new();
        let mut own: SmallVec<[(u8, &[u8]); 4]> = SmallVec::new();
        if !self.is_known && self.accepted.contains(MID_ID) {
            own.push((MID_ID, &self.mid_value));
        }
        if self.accepted.contains(TRANSPORT_CC_ID) {
            number = egress.number(now, payload.len() + packet.elements.len() + WIRE_OVERHEAD).to_be_bytes();
            own.push((TRANSPORT_CC_ID, &number));
        }
        let is_renumbered = ids != packet.description.ids;
        if is_renumbered
            && self.accepted.contains(DEPENDENCY_ID)
            && let Some(value) = packet.elements.find(DEPENDENCY_ID)
        {
            dependency.extend_from_slice(value);
            codec::patch_dependency(&mut dependency, ids);
            own.push((DEPENDENCY_ID, &dependency));
        }
        if packet.elements.write(self.accepted, &own, buffer) {
            buffer[start] |= HAS_EXTENSIONS;
        }
        let header = buffer.len() - start;
        buffer.extend_from_slice(prefix);
        let begin = buffer.len();
        buffer.extend_from_slice(payload);
        if is_renumbered {
            codec::patch(packet.codec, &mut buffer[begin..], ids);
        }
        if egress.srtp.seal_rtp(buffer, start, header, seq_no) {
            datagrams.finish(egress.route);
        } else {
            datagrams.abandon();
        }
    }
}

impl Default for View {
    /// Without a report from the page, every track is shown at full size.
    fn default() -> Self {
        Self { width: u32::MAX, height: u32::MAX, priority: 0 }
    }
}

impl Selection {
    /// Everything that the publisher sends.
    pub const BEST: Self = Self { layer: LAYERS as u8 - 1, spatial: u8::MAX, temporal: TEMPORAL_LAYERS as u8 - 1 };
}

impl View {
    /// Height in device pixels, 0 if it is hidden; `None` without a report from the page.
    pub fn tile(&self) -> Option<u32> {
        (self.height < u32::MAX).then_some(if self.width == 0 { 0 } else { self.height })
    }
}

/// Appends the 12 bytes of the fixed RTP header (RFC 3550 section 5.1).
fn write_head(flags: u8, second: u8, seq_no: u64, timestamp: u32, ssrc: u32, buffer: &mut Vec<u8>) {
    let mut head = [0x80 | flags, second, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    head[2..4].copy_from_slice(&(seq_no as u16).to_be_bytes());
    head[4..8].copy_from_slice(&timestamp.to_be_bytes());
    head[8..12].copy_from_slice(&ssrc.to_be_bytes());
    buffer.extend_from_slice(&head);
}

/// The header fields that differ between a packet and its retransmission.
#[derive(Clone, Copy)]
struct Header {
    pt: u8,
    marker: bool,
    ssrc: u32,
    timestamp: u32,
    ids: codec::Ids,
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use str0m::crypto::dtls::SrtpProfile;

    use super::*;
    use crate::id::PeerId;
    use crate::media::fault::{PeerError, Site, guarded};
    use crate::media::rtp::codec::Description;
    use crate::media::rtp::elements::Elements;
    use crate::media::rtp::packet::Incoming;
    use crate::media::subscribe::rtx;
    use crate::media::transport::route::Route;
    use crate::media::transport::srtp::{Exported, Srtp};

    const LENGTH: usize = 1_000;

    struct Fixture {
        outgoing: Outgoing,
        egress: Egress,
        datagrams: Datagrams,
        now: Instant,
    }

    fn packet(now: Instant, number: u32) -> Packet {
        let clock_rate = Frequency::NINETY_KHZ;
        let mut elements = Elements::default();
        elements.push(13, &[3]);
        Packet {
            mid: Mid::from("0"),
            layer: 0,
            codec: Codec::Vp8,
            incoming: Incoming {
                ssrc: 1,
                epoch: 0,
                seq_no: 70_000 + u64::from(number),
                timestamp: 3_000 * number,
                clock_rate,
                captured: now,
                can_start: number == 0,
                has_preface: false,
            },
            redundant: None,
            preface: None,
            payload: vec![number as u8; LENGTH].into(),
            marker: number % 4 == 3,
            description: Description::default(),
            elements,
            position: number,
        }
    }

    impl Fixture {
        fn new() -> Self {
            let mut outgoing = Outgoing::new(Mid::from("abc"), 7, Some(8), [100, 200]);
            let mut payload_types = PayloadTypes::default();
            payload_types.insert(Codec::Vp8, 96.into(), Some(97.into()));
            let track = TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") };
            outgoing.start(track, payload_types, Ids(1 << MID_ID | 1 << 13));
            let exported = Exported { profile: SrtpProfile::AEAD_AES_256_GCM, material: vec![3; 88], is_client: false };
            let now = Instant::now();
            let addr = SocketAddr::from(([192, 0, 2, 1], 9));
            let route = Route { remote: addr, local: addr };
            let egress = Egress::new(now, Srtp::new(&exported).unwrap(), route, 5);
            Self { outgoing, egress, datagrams: Datagrams::default(), now }
        }

        fn forward(&mut self, number: u32) -> Outcome {
            let packet = packet(self.now, number);
            self.outgoing.forward(self.now, &packet, &mut self.egress, &mut self.datagrams)
        }

        fn resend(&mut self, seq_no: u16) -> bool {
            let Some(sent) = self.outgoing.rtx.find(seq_no) else { return false };
            let packet = packet(self.now, sent.position);
            self.outgoing.resend(self.now, sent, &packet, &mut self.egress, &mut self.datagrams)
        }

        /// First byte, marker and payload type, sequence number, timestamp and SSRC of the last datagram.
        fn last(&self) -> (u8, u8, u16, u32, u32) {
            let (_, contents) = self.datagrams.iter().last().unwrap();
            let word = |at: usize| u32::from_be_bytes(contents[at..at + 4].try_into().unwrap());
            (contents[0], contents[1], word(0) as u16, word(4), word(8))
        }
    }

    #[test]
    fn another_track_continues_the_numbers_and_retransmits_nothing_of_the_previous_one() {
        let mut fixture = Fixture::new();
        for number in 0..4 {
            fixture.forward(number);
        }
        assert!(fixture.resend(103));
        let track = TrackId { publisher: PeerId { slot: 1, generation: 0 }, mid: Mid::from("1") };
        let (payload_types, accepted) = (fixture.outgoing.payload_types, fixture.outgoing.accepted);
        fixture.outgoing.stop();
        fixture.outgoing.start(track, payload_types, accepted);
        assert_eq!(fixture.forward(1), Outcome::AwaitsKeyframe);
        assert!(!fixture.resend(103), "its position in the history now belongs to the other track");
        assert_eq!(fixture.forward(0), Outcome::Switched);
        assert_eq!((fixture.last().2, fixture.last().4), (104, 7));
        assert!(fixture.resend(104) && !fixture.resend(103));
        assert_eq!(fixture.last().2, 202 - 1, "retransmission numbers continue too");
    }

    #[test]
    fn publishers_with_equal_ssrcs_that_alternate_on_an_m_line_share_one_clock() {
        let mut fixture = Fixture::new();
        let (payload_types, accepted) = (fixture.outgoing.payload_types, fixture.outgoing.accepted);
        let mut last = None;
        for turn in 0..6_u32 {
            let track = TrackId { publisher: PeerId { slot: turn % 2, generation: 0 }, mid: Mid::from("0") };
            if turn % 3 > 0 {
                fixture.outgoing.stop();
            }
            fixture.outgoing.start(track, payload_types, accepted);
            for number in 0..10 {
                let ms = 1_000 * turn + 100 * number;
                let mut packet = packet(fixture.now + Duration::from_millis(ms.into()), number);
                packet.incoming.ssrc = 1;
                packet.incoming.seq_no = u64::from(1_000 * (turn % 2) + ms / 100);
                packet.incoming.timestamp = [7_u32, 3_000_000_000][turn as usize % 2].wrapping_add(90 * ms);
                let outcome =
                    fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
                assert_eq!(outcome, if number == 0 { Outcome::Switched } else { Outcome::Sent });
                let (.., seq_no, timestamp, _) = fixture.last();
                if let Some((before, at)) = last.replace((seq_no, timestamp)) {
                    assert_eq!((seq_no - before, timestamp - at), (1, 9_000), "turn {turn}, packet {number}");
                }
            }
        }
    }

    #[test]
    fn a_packet_and_its_retransmission_share_the_timestamp_only() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.forward(1), Outcome::AwaitsKeyframe);
        assert_eq!(fixture.forward(0), Outcome::Switched);
        for number in 1..4 {
            assert_eq!(fixture.forward(number), Outcome::Sent);
        }
        assert_eq!(fixture.last(), (0x90, 0x80 | 96, 103, 9_000, 7));
        assert!(fixture.resend(101));
        assert_eq!(fixture.last(), (0x90, 97, 200, 3_000, 8));
        assert!(fixture.resend(103));
        assert_eq!(fixture.last(), (0x90, 0x80 | 97, 201, 9_000, 8));
        for never_sent in [99, 104, 101 + rtx::REMEMBERED as u16] {
            assert!(!fixture.resend(never_sent), "{never_sent}");
        }
    }

    #[test]
    fn no_sequence_number_is_sealed_twice_even_if_an_outgoing_is_created_anew() {
        let mut fixture = Fixture::new();
        for number in 0..4 {
            fixture.forward(number);
        }
        assert!(fixture.resend(101));
        let sent = fixture.datagrams.len();
        let [restarted, unused] = [102, 104].map(|first| {
            let mut outgoing = Outgoing::new(Mid::from("abc"), 7, Some(8), [first, 200]);
            outgoing.start(fixture.outgoing.track.unwrap(), fixture.outgoing.payload_types, fixture.outgoing.accepted);
            outgoing
        });
        let mut seal = |outgoing, packets: &[u32]| {
            fixture.outgoing = outgoing;
            let result = guarded(Site::Forward, || {
                packets
                    .iter()
                    .for_each(|number| assert_eq!(fixture.forward(*number) == Outcome::Switched, *number == 0));
                Ok(fixture.resend(104))
            });
            fixture.datagrams.abandon();
            (result, fixture.datagrams.len())
        };
        let is_reuse = |result: Result<bool, PeerError>, packet: &str| {
            result.is_err_and(|error| error.code() == "internal" && error.to_string().contains(packet))
        };
        let (result, left) = seal(restarted, &[0]);
        assert!(is_reuse(result, "SSRC 7 seals packet 102 twice") && left == sent);
        let (result, left) = seal(unused, &[0]);
        assert!(is_reuse(result, "SSRC 8 seals packet 200 twice") && left == sent + 1, "nor a retransmission number");
    }

    #[test]
    fn a_preface_precedes_each_start_and_is_retransmitted() {
        let mut fixture = Fixture::new();
        let sets: std::sync::Arc<[u8]> = vec![9; 40].into();
        let of = |number: u32, is_missing: Option<bool>| {
            let mut packet = packet(Instant::now(), number);
            packet.preface = is_missing.map(|is_missing| Box::new(Preface { payload: sets.clone(), is_missing }));
            (packet.incoming.can_start, packet.incoming.has_preface) = (is_missing.is_some(), is_missing.is_some());
            packet
        };
        let lengths = |fixture: &Fixture| {
            let datagrams = fixture.datagrams.iter().skip(fixture.datagrams.len() - 2);
            datagrams.map(|(_, contents)| contents.len()).collect::<Vec<_>>()
        };
        // The packet, whether parameter sets are missing (if it is a start), its sequence number, whether a preface is
        // sent.
        for (number, is_missing, seq_no, has_other) in [
            (0, Some(false), 101, true),
            (1, None, 102, false),
            (2, Some(false), 103, false),
            (4, Some(true), 105, true),
            (6, None, 107, false),
            // Late: it precedes the restart.
            (3, None, 107, false),
        ] {
            let before = fixture.datagrams.len();
            let outcome = fixture.outgoing.forward(
                fixture.now,
                &of(number, is_missing),
                &mut fixture.egress,
                &mut fixture.datagrams,
            );
            let count = match number {
                3 => 0,
                _ => 1 + usize::from(has_other),
            };
            assert_eq!((fixture.datagrams.len() - before, fixture.last().2), (count, seq_no), "packet {number}");
            assert_eq!(outcome == Outcome::Switched, number == 0, "packet {number}");
            if has_other {
                let [first, second] = lengths(&fixture)[..] else { panic!("expected two datagrams") };
                assert_eq!(second - first, LENGTH - 40);
            }
        }
        for seq_no in [100, 104] {
            let sent = fixture.outgoing.rtx.find(seq_no).expect("packet was sent");
            let packet = of(sent.position, Some(false));
            assert!(fixture.outgoing.resend(fixture.now, sent, &packet, &mut fixture.egress, &mut fixture.datagrams));
            let resent = fixture.datagrams.iter().last().expect("retransmission was sent").1.len();
            assert!((40..100).contains(&resent), "{resent} bytes");
        }
        // A retransmission of a preface is charged with the bytes of the preface.
        let sent = fixture.outgoing.rtx.find(104).expect("packet was sent");
        let packet = of(sent.position, Some(false));
        let resend =
            |_: &u32| fixture.outgoing.resend(fixture.now, sent, &packet, &mut fixture.egress, &mut fixture.datagrams);
        let bytes = 40 + packet.elements.len() + WIRE_OVERHEAD;
        let count = (0..2_000).take_while(resend).count();
        assert!(count.abs_diff(rtx::SAVED / bytes) < 20, "{count} retransmissions of {bytes} bytes");
    }

    #[test]
    fn another_layer_starts_at_a_keyframe_and_a_track_at_any_starting_point() {
        use Outcome::{AwaitsKeyframe, Sent, Switched};
        let mut fixture = Fixture::new();
        let mut number = 0;
        let mut forward = |fixture: &mut Fixture, layer: u8, is_keyframe: bool| {
            number += 1;
            let mut packet = packet(fixture.now, number);
            packet.layer = layer;
            packet.incoming.ssrc = u32::from(layer);
            packet.incoming.can_start = true;
            packet.description.starts_keyframe = is_keyframe;
            fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams)
        };
        let selection = |layer| Some(Selection { layer, ..Selection::BEST });
        // The selected layer, the packet's layer, whether it is a keyframe or another starting point.
        for (step, (selected, layer, is_keyframe, outcome)) in [
            (0, 0, false, Switched),
            (0, 0, false, Sent),
            (1, 1, false, AwaitsKeyframe),
            (1, 0, false, Sent),
            (1, 1, true, Switched),
            (0, 0, false, AwaitsKeyframe),
            (0, 0, true, Switched),
        ]
        .into_iter()
        .enumerate()
        {
            fixture.outgoing.select(selection(selected));
            assert_eq!(forward(&mut fixture, layer, is_keyframe), outcome, "step {step}");
        }
        // After a pause the decoder still has the references of its layer.
        fixture.outgoing.pause();
        assert_eq!(forward(&mut fixture, 0, false), Switched);
        fixture.outgoing.pause();
        fixture.outgoing.select(selection(1));
        assert_eq!(forward(&mut fixture, 1, false), AwaitsKeyframe);
        // Without any keyframe, the change happens after `KEYFRAME_WAIT`.
        fixture.now += KEYFRAME_WAIT - Duration::from_millis(1);
        assert_eq!(forward(&mut fixture, 1, false), AwaitsKeyframe);
        fixture.now += Duration::from_millis(1);
        assert_eq!(forward(&mut fixture, 1, false), Switched);
        fixture.outgoing.select(selection(0));
        assert_eq!(forward(&mut fixture, 0, false), AwaitsKeyframe, "each change waits anew");
        // Another track starts at any starting point: it may never send a keyframe.
        let track = TrackId { publisher: PeerId { slot: 1, generation: 0 }, mid: Mid::from("1") };
        fixture.outgoing.start(track, fixture.outgoing.payload_types, fixture.outgoing.accepted);
        fixture.outgoing.select(selection(1));
        assert_eq!(forward(&mut fixture, 1, false), Switched);
    }

    #[test]
    fn packets_carry_the_mid_until_the_subscriber_reports_on_the_ssrc() {
        let mut fixture = Fixture::new();
        let length = |fixture: &Fixture| fixture.datagrams.iter().last().unwrap().1.len();
        fixture.forward(0);
        let (named, elements) = (12 + 4 + 8 + LENGTH + SRTP_OVERHEAD, 12 + 4 + 4 + LENGTH + SRTP_OVERHEAD);
        assert_eq!(length(&fixture), named);
        fixture.outgoing.handle_report();
        fixture.forward(1);
        assert_eq!(length(&fixture), elements);
    }

    #[test]
    fn retransmissions_are_limited_to_a_share_of_the_sent_bytes() {
        let mut fixture = Fixture::new();
        let mut resent = 0;
        for number in 0..1_000 {
            fixture.forward(number);
            for back in 0..20 {
                resent += usize::from(fixture.resend((100 + number as u16).wrapping_sub(back)));
            }
        }
        let bytes = packet(fixture.now, 0).wire_bytes();
        let share = (1_000 * bytes / rtx::PART + rtx::SAVED) / bytes;
        assert!((share - 2..=share).contains(&resent), "{resent} of {share}");
    }

    #[test]
    fn another_layer_starts_at_its_keyframe_and_the_old_one_is_sent_until_then() {
        use Outcome::{AwaitsKeyframe, Ended, NotSelected, Sent, Switched};
        let mut fixture = Fixture::new();
        let of = |fixture: &Fixture, layer: u8, number: u64, can_start: bool| {
            let mut packet = packet(fixture.now + Duration::from_millis(33 * number), 0);
            packet.layer = layer;
            packet.incoming.ssrc = u32::from(layer);
            packet.incoming.seq_no = 1_000 * u64::from(layer) + number;
            // Packets 10 to 12 are one picture, and picture 13 has no end.
            let picture = if (10..=12).contains(&number) { 10 } else { number as u32 };
            packet.incoming.timestamp = 77 * u32::from(layer) + 2_970 * picture;
            (packet.incoming.can_start, packet.description.starts_keyframe) = (can_start, can_start);
            packet.marker = ![10, 11, 13].contains(&number);
            packet
        };
        let selection = |layer| Some(Selection { layer, ..Selection::BEST });
        // The selection, the packet, its outcome, the layers needed afterwards.
        let script = [
            (selection(1), (0, 0, false), AwaitsKeyframe, 0b011),
            (selection(1), (2, 0, true), NotSelected, 0b011),
            (selection(1), (0, 1, true), Switched, 0b011),
            (selection(1), (0, 2, false), Sent, 0b011),
            (selection(1), (1, 2, false), AwaitsKeyframe, 0b011),
            (selection(1), (1, 3, true), Switched, 0b010),
            (selection(1), (0, 3, false), NotSelected, 0b010),
            (selection(2), (1, 4, false), Sent, 0b110),
            (selection(2), (2, 4, false), AwaitsKeyframe, 0b110),
            // The change was cancelled before its keyframe.
            (selection(1), (1, 5, false), Sent, 0b010),
            (selection(0), (0, 6, true), Switched, 0b001),
            (None, (0, 7, true), NotSelected, 0),
            (selection(0), (0, 8, false), AwaitsKeyframe, 0b001),
            (selection(0), (0, 9, true), Switched, 0b001),
            (selection(0), (0, 10, false), Sent, 0b001),
            (None, (0, 11, false), Sent, 0b001),
            (None, (0, 12, false), Switched, 0),
            (selection(0), (0, 13, true), Switched, 0b001),
            (None, (0, 14, false), Ended, 0),
        ];
        let mut sent = Vec::new();
        for (step, (selected, (layer, number, can_start), outcome, layers)) in script.into_iter().enumerate() {
            fixture.outgoing.select(selected);
            let packet = of(&fixture, layer, number, can_start);
            let actual = fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
            assert_eq!((actual, fixture.outgoing.layers()), (outcome, layers), "step {step}");
            if matches!(actual, Sent | Switched) {
                sent.push((fixture.last().2, fixture.last().3));
            }
        }
        let expected = [1, 2, 3, 4, 5, 6, 9, 10, 10, 10, 13].map(|number| 2_970 * number);
        let expected: Vec<(u16, u32)> = (100..).zip(expected).collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_highest_sent_spatial_layer_gets_the_marker_also_when_retransmitted() {
        use Outcome::{NotSelected, Old, Sent, Switched};
        let mut fixture = Fixture::new();
        let selection = |spatial| Some(Selection { layer: 0, spatial, temporal: 2 });
        let switch = Some((0, Reason::Switch));
        // The selection; the packet as (picture, whether it is a keyframe, spatial layer); its outcome; sequence number
        // and marker of the last datagram; the layer that needs a keyframe.
        let script = [
            (selection(u8::MAX), (0, true, 0), Switched, (100, false), None),
            (selection(u8::MAX), (0, true, 1), Sent, (101, false), None),
            (selection(0), (0, true, 2), Sent, (102, true), None),
            (selection(0), (1, false, 0), Sent, (103, true), None),
            (selection(0), (1, false, 1), Old, (103, true), None),
            (selection(1), (1, false, 2), Old, (103, true), switch),
            (selection(1), (2, false, 0), Sent, (104, true), switch),
            (selection(1), (2, false, 1), Old, (104, true), switch),
            // A packet is lost.
            (selection(1), (3, true, 0), Sent, (106, false), None),
            // With nothing selected, the started picture is sent to its end, with the same spatial layers.
            (None, (3, true, 1), Switched, (107, true), None),
            (None, (3, true, 2), NotSelected, (107, true), None),
            (selection(1), (4, true, 0), Switched, (108, false), None),
        ];
        let of = |fixture: &Fixture, index: u32| {
            let (_, (picture, is_key, spatial), ..) = script[index as usize];
            let mut packet = packet(fixture.now, index);
            (packet.incoming.timestamp, packet.incoming.can_start) = (3_000 * picture, is_key && spatial == 0);
            packet.incoming.seq_no = u64::from(3 * picture) + u64::from(spatial);
            packet.description = Description { spatial, ends_frame: true, ..Description::default() };
            packet.marker = spatial == 2;
            packet
        };
        let last = |fixture: &Fixture| (fixture.last().2, fixture.last().1 & 0x80 != 0);
        for (index, (selected, _, outcome, expected, awaited)) in (0..).zip(script) {
            fixture.outgoing.select(selected);
            let packet = of(&fixture, index);
            let actual = fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
            assert_eq!(
                (actual, last(&fixture), fixture.outgoing.awaited()),
                (outcome, expected, awaited),
                "step {index}"
            );
        }
        let sent = script.iter().filter(|(_, _, outcome, ..)| matches!(outcome, Sent | Switched));
        for (number, (.., (seq_no, marker), _)) in (200..).zip(sent) {
            let sent = fixture.outgoing.rtx.find(*seq_no).expect("packet is remembered");
            let packet = of(&fixture, sent.position);
            assert!(fixture.outgoing.resend(fixture.now, sent, &packet, &mut fixture.egress, &mut fixture.datagrams));
            assert_eq!(last(&fixture), (number, *marker), "retransmission of {seq_no}");
        }
    }

    #[test]
    fn the_best_selection_includes_temporal_layers_above_the_known_ones() {
        let mut fixture = Fixture::new();
        let outcomes = [0, 3, 2, 7].map(|temporal| {
            let mut packet = packet(fixture.now, u32::from(temporal));
            packet.description.temporal = temporal;
            fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams)
        });
        assert_eq!(outcomes, [Outcome::Switched, Outcome::Sent, Outcome::Sent, Outcome::Sent]);
    }

    #[test]
    fn redundant_sound_is_sent_whole_if_negotiated_and_the_path_is_wide_enough() {
        let mut fixture = Fixture::new();
        let sound = |fixture: &Fixture, number: u32| {
            let mut packet = packet(fixture.now, number);
            (packet.codec, packet.redundant) = (Codec::Opus, Some(600));
            packet.incoming.can_start = true;
            packet
        };
        let mut payload_types = PayloadTypes::default();
        payload_types.insert(Codec::Opus, 111.into(), None);
        let track = TrackId { publisher: PeerId { slot: 0, generation: 0 }, mid: Mid::from("0") };
        for (number, red, estimate, expected) in [
            (0, None, 2_000_000, (111, LENGTH - 600)),
            (1, Some(63.into()), 2_000_000, (63, LENGTH)),
            (2, Some(63.into()), 500_000, (111, LENGTH - 600)),
        ] {
            payload_types.red = red;
            fixture.outgoing.start(track, payload_types, Ids(0));
            fixture.egress.estimator.handle_remb(estimate);
            fixture.egress.on_estimate(fixture.now);
            let packet = sound(&fixture, number);
            fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
            let length = fixture.datagrams.iter().last().unwrap().1.len() - 12 - SRTP_OVERHEAD;
            assert_eq!((fixture.last().1 & 0x7f, length), expected, "{number}");
        }
    }

    #[test]
    fn the_largest_packet_is_retransmitted_over_the_slowest_path_at_a_limited_rate() {
        for (estimate, at_once, in_a_second) in [(50_000, 2, 1), (1_000_000, 5, 5)] {
            let mut fixture = Fixture::new();
            fixture.egress.estimator.handle_remb(estimate);
            fixture.egress.on_estimate(fixture.now);
            let mut taken = |ms| {
                let now = fixture.now + Duration::from_millis(ms);
                (0..100).take_while(|_| fixture.egress.take_retransmission(now, 1_400)).count()
            };
            assert_eq!((taken(0), taken(1_000)), (at_once, in_a_second), "{estimate}");
        }
    }

    #[test]
    fn packets_without_payload_are_forwarded_and_their_retransmission_is_charged() {
        let mut fixture = Fixture::new();
        let empty = |fixture: &Fixture, number| Packet { payload: [].into(), ..packet(fixture.now, number) };
        let mut resent = 0;
        for number in 0..10 {
            let packet = empty(&fixture, number);
            let outcome = fixture.outgoing.forward(fixture.now, &packet, &mut fixture.egress, &mut fixture.datagrams);
            assert_eq!(outcome, if number == 0 { Outcome::Switched } else { Outcome::Sent });
            assert_eq!(fixture.last().2, 100 + number as u16, "no gap");
        }
        for _ in 0..10_000 {
            let sent = fixture.outgoing.rtx.find(105).unwrap();
            let packet = empty(&fixture, sent.position);
            resent += usize::from(fixture.outgoing.resend(
                fixture.now,
                sent,
                &packet,
                &mut fixture.egress,
                &mut fixture.datagrams,
            ));
        }
        assert!(resent <= rtx::SAVED / WIRE_OVERHEAD, "{resent}");
    }

    #[test]
    fn a_report_counts_packets_and_maps_the_rtp_timestamp_to_now() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.outgoing.poll_report(fixture.now, 5), None);
        for number in 0..10 {
            fixture.forward(number);
        }
        let later = fixture.now + Duration::from_millis(500);
        let report = fixture.outgoing.poll_report(later, 5).unwrap();
        let expected =
            SenderReport { ssrc: 7, ntp: 5, timestamp: 27_000 + 45_000, packets: 10, octets: 10 * LENGTH as u32 };
        assert_eq!(report, expected);
        assert_eq!(fixture.outgoing.poll_report(later, 6), None, "nothing sent since");
    }
}
