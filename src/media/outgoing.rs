//! One SSRC that the server sends to one subscriber: a track's packets, rewritten and sealed, their repair, and
//! the reports on both.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use str0m::format::Codec;
use str0m::media::{Frequency, Mid};

use crate::datagrams::Datagrams;
use crate::media::allocation::{Limit, Quality};
use crate::media::codec;
use crate::media::codec::parameter_sets::Preface;
use crate::media::egress::Egress;
use crate::media::elements::{Elements, Ids};
use crate::media::forward::{Bound, Forward, Rewritten};
use crate::media::keyframe::{self, Reason};
use crate::media::layers::{LAYERS, Layers, TEMPORAL_LAYERS};
use crate::media::negotiation::TrackId;
use crate::media::numbering::Numbering;
use crate::media::packet::{Packet, WIRE_OVERHEAD};
use crate::media::profile::{DEPENDENCY_ID, MID_ID, PayloadTypes, TRANSPORT_CC_ID};
use crate::media::repair::{Repair, Role, Sent};
use crate::media::rtcp::SenderReport;
use crate::media::srtp::SRTP_OVERHEAD;

/// Bytes of header, extension block and original sequence number at most, for one look at the buffer's capacity.
const HEADROOM: usize = 256;

/// Bits of the first byte of a packet.
const HAS_PADDING: u8 = 0x20;
const HAS_EXTENSIONS: u8 = 0x10;

/// How long a change of layers waits for a keyframe where pictures come with which decoding can start: longer than any
/// distance between two requests. Then the change is worth the errors that a decoder shows until it has decoded all areas.
const KEYFRAME_WAIT: Duration = Duration::from_millis(keyframe::LONGEST.as_millis() as u64 + 500);

/// Bytes of a packet of padding: as many as can be.
const PADDING_BYTES: u8 = 255;

/// One outgoing SSRC, with that of its repair.
pub struct Outgoing {
    /// The subscriber's m-line.
    pub mid: Mid,
    /// SSRC of the stream.
    pub ssrc: u32,
    /// How its packets are sent again.
    pub repair: Repair,
    /// What is sent on it now.
    pub track: Option<TrackId>,
    /// The track of the last packet that was sent: if it is sent again, it goes on by the clock that it had.
    last_track: Option<TrackId>,
    /// What the subscriber shows of it.
    pub view: View,
    /// What the subscriber is to get.
    pub quality: Option<Quality>,
    /// What it was last told that it gets.
    pub told: Option<Quality>,
    /// What is to be sent; `None` pauses it.
    target: Option<Selection>,
    /// The layer that is being sent.
    layer: u8,
    forward: Forward,
    /// The picture that was sent last, by layer and the publisher's timestamp, if its end is still to come.
    unfinished: Option<(u8, u32)>,
    /// When the first picture came with which the selected layer could start but for the references of the present one.
    first_start: Option<Instant>,
    numbering: Numbering,
    /// The answer takes sound with redundancy on this m-line.
    pub takes_redundancy: bool,
    payload_types: PayloadTypes,
    accepted: Ids,
    /// Until the subscriber has said anything of this SSRC, packets name their m-line (RFC 8843 section 9.2).
    is_known: bool,
    /// The m-line's name; `Mid` looks for the end of its own each time.
    mid_value: Box<[u8]>,
    told_cannot_decode: bool,
    /// Since the last report.
    has_news: bool,
    packets: u32,
    octets: u32,
    last: Option<(u32, Instant, Frequency)>,
}

/// What a subscriber shows of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Device pixels.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// Higher is more important.
    pub priority: u32,
}

/// Which part of a track is sent; more is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// Index of the layer.
    pub layer: u8,
    /// The highest spatial layer in its SSRC; `u8::MAX` for all that come.
    pub spatial: u8,
    /// The highest temporal layer.
    pub temporal: u8,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It leaves with the datagrams.
    Sent,
    /// The subscriber does not take this codec; `true` the first time.
    CannotDecode(bool),
    /// It leaves, and from here on another layer is sent than before, or none.
    Switched,
    /// It belongs to nothing that is selected, and neither does what comes now.
    Ended,
    /// Nothing, or nothing of this layer, can be sent before a keyframe of it.
    AwaitsKeyframe,
    /// It belongs to what was not selected.
    NotSelected,
    /// It is older than the subscription.
    Old,
}

impl Outgoing {
    /// The most that one takes.
    pub const MAX_BYTES: usize = size_of::<Self>() + Forward::MAX_BYTES + Repair::MAX_BYTES;

    /// An SSRC on which nothing was ever sent. `first` are the numbers of its first packet and of its first
    /// retransmission, below `FIRST_SEQ_NO_LIMIT`.
    pub fn new(mid: Mid, ssrc: u32, rtx_ssrc: Option<u32>, first: [u32; 2]) -> Self {
        Self {
            mid,
            ssrc,
            repair: Repair::new(rtx_ssrc, first[1]),
            track: None,
            last_track: None,
            view: View::default(),
            quality: None,
            told: None,
            target: Some(Selection::BEST),
            layer: 0,
            forward: Forward::new(first[0]),
            unfinished: None,
            first_start: None,
            numbering: Numbering::default(),
            takes_redundancy: false,
            payload_types: PayloadTypes::default(),
            accepted: Ids::default(),
            is_known: false,
            mid_value: mid.as_bytes().into(),
            told_cannot_decode: false,
            has_news: false,
            packets: 0,
            octets: 0,
            last: None,
        }
    }

    /// Sends a track from its next starting point on. `accepted` are the elements that the subscriber takes.
    pub fn start(&mut self, track: TrackId, payload_types: PayloadTypes, accepted: Ids) {
        self.forward.pause();
        self.track = Some(track);
        (self.payload_types, self.accepted, self.quality, self.told) = (payload_types, accepted, None, None);
        (self.view, self.target, self.told_cannot_decode) = (View::default(), Some(Selection::BEST), false);
    }

    /// Sends nothing more, nor again what was sent: where the packets of another track are kept would be looked for it.
    pub fn stop(&mut self) {
        self.track = None;
        self.repair.forget();
        self.pause();
    }

    /// Selects what is sent. Another layer is sent from its next keyframe on, and the old one until then, but fewer spatial
    /// layers from the next picture on; where nothing more is to be sent, a picture that has begun goes on to its end.
    pub fn select(&mut self, selection: Option<Selection>) {
        if selection.is_none() && self.unfinished.is_none() {
            self.pause();
        }
        if self.target.map(|target| target.layer) != selection.map(|selection| selection.layer) {
            self.first_start = None;
        }
        self.target = selection;
    }

    /// What was selected.
    pub fn selected(&self) -> Option<Selection> {
        self.target.filter(|_| self.track.is_some())
    }

    /// The layer that is being sent, if any is.
    pub fn layer(&self) -> Option<u8> {
        (!self.is_waiting()).then_some(self.layer)
    }

    /// The layers of which it needs every packet, as bits.
    pub fn layers(&self) -> u8 {
        let Some(target) = self.selected() else {
            return self.unfinished.filter(|_| !self.is_waiting()).map_or(0, |(layer, _)| 1 << layer);
        };
        // A smaller picture at once is better than the right one later.
        if self.is_waiting() { (2 << target.layer) - 1 } else { 1 << target.layer | 1 << self.layer }
    }

    /// Bytes that went out on it, with those of the path; wraps.
    pub fn sent_bytes(&self) -> u32 {
        self.octets.wrapping_add(self.packets.wrapping_mul(WIRE_OVERHEAD as u32))
    }

    /// Packets that went out on it; wraps.
    pub fn sent_packets(&self) -> u32 {
        self.packets
    }

    /// Whether it carries sound.
    pub fn is_audio(&self) -> bool {
        self.track.is_some() && self.payload_types.find(Codec::Opus).is_some()
    }

    /// The layer of which it waits for a keyframe, and why.
    pub fn awaited(&self) -> Option<(u8, Reason)> {
        let Selection { layer, spatial, .. } = self.selected()?;
        match self.layer() {
            Some(sent) if sent == layer && spatial <= self.forward.spatial() => None,
            Some(_) => Some((layer, Reason::Switch)),
            None => Some((layer, Reason::Join)),
        }
    }

    /// What the subscriber gets of a track with these layers, while it is to get `quality`.
    pub fn result(&self, layers: &Layers) -> Option<Quality> {
        let granted = self.quality?;
        let nothing = |limit| Quality { is_sent: false, layer: None, height: 0, limit };
        let mut result = match (granted.is_sent, self.layer()) {
            (false, _) => granted,
            (true, _) if self.told_cannot_decode => return Some(nothing(Limit::Codec)),
            _ if layers.is_silent() => nothing(Limit::Publisher),
            (true, None) => nothing(Limit::Keyframe),
            (true, Some(layer)) => {
                let granted_layer = granted.layer.unwrap_or_default();
                // Layers above the first of one stream are spatial.
                let is_spatial = granted_layer > 0 && self.target.is_some_and(|target| target.layer == 0);
                let sent = if is_spatial { self.forward.spatial().min(granted_layer) } else { layer };
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

    /// Whether it waits for a point to start at.
    pub fn is_waiting(&self) -> bool {
        self.forward.is_waiting()
    }

    /// Goes on from the next starting point.
    pub fn pause(&mut self) {
        self.forward.pause();
    }

    /// Sends a packet of the track.
    pub fn forward(
        &mut self,
        now: Instant,
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) -> Outcome {
        let Some(pt) = self.payload_types.find(packet.codec) else {
            return Outcome::CannotDecode(!std::mem::replace(&mut self.told_cannot_decode, true));
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
        // A picture that lacks what a decoder needs is a new start for everybody: a packet in front of it has no number
        // otherwise.
        if switches || is_start && packet.preface.as_ref().is_some_and(|preface| preface.is_missing) {
            let is_same_track = self.last_track == self.track;
            // The decoder still has the references of the other layer.
            let needs_keyframe = is_same_track && packet.layer != self.layer;
            if !is_start || needs_keyframe && !self.is_keyframe_or_due(now, packet) {
                return Outcome::AwaitsKeyframe;
            }
            self.first_start = None;
            if is_same_track {
                self.forward.pause();
            } else {
                self.forward.change_track();
            }
            self.last_track = self.track;
        }
        let bound = self.bound(packet.layer);
        let Some(rewritten) = self.forward.rewrite(&packet.incoming, &packet.description, bound) else {
            return if self.is_waiting() { Outcome::AwaitsKeyframe } else { Outcome::Old };
        };
        if rewritten.is_empty {
            self.write_padding(now, *pt, self.ssrc, rewritten.timestamp, rewritten.seq_no, 1, egress, datagrams);
            return Outcome::NotSelected;
        }
        self.layer = packet.layer;
        if rewritten.starts {
            self.numbering.start();
        }
        // Only a receiver of VP8 takes a gap for a loss.
        let left_out = if packet.codec == Codec::Vp8 { rewritten.left_out } else { 0 };
        let ids = self.numbering.map(packet.description.ids, left_out);
        // Who has no use for what came before, or no room, gets the packet's own frame alone.
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
            if rewritten.seq_no + 1 == self.forward.next_seq_no() {
                self.unfinished = Some(picture).filter(|_| !marker);
            }
            let (seq_no, role) = (rewritten.seq_no as u16, if marker { Role::Last } else { Role::Inner });
            let sent = Sent::new(seq_no, rewritten.timestamp, packet.position, role, ids);
            self.repair.remember(sent, packet.wire_bytes());
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

    /// Sends a packet again, as far as repair is negotiated and its share allows. False if it does not.
    pub fn resend(
        &mut self,
        now: Instant,
        sent: Sent,
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) -> bool {
        let bytes = if sent.role == Role::Preface { packet.preface_bytes() } else { packet.wire_bytes() };
        let is_sent = self.repair.allows(bytes)
            && egress.take_repair(now, bytes)
            && self.pad(now, sent, packet, egress, datagrams);
        if is_sent {
            self.repair.spend(bytes);
        }
        is_sent
    }

    /// Sends a packet again for nothing but the bytes. False if repair is not negotiated.
    pub fn pad(
        &mut self,
        now: Instant,
        sent: Sent,
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) -> bool {
        let (Some(pt), Some(ssrc)) = (self.payload_types.find_rtx(packet.codec), self.repair.ssrc) else {
            return false;
        };
        let seq_no = self.repair.take_seq_no();
        let ids = sent.ids(packet.description.ids);
        let header = Header { pt: *pt, marker: sent.role == Role::Last, ssrc, timestamp: sent.timestamp, ids };
        let original = sent.seq_no.to_be_bytes();
        let preface = packet.preface.as_ref().filter(|_| sent.role == Role::Preface);
        let payload = preface.map_or(&packet.payload, |preface| &preface.payload);
        self.seal(now, header, seq_no, &original, payload, packet, egress, datagrams);
        true
    }

    /// Sends a packet that is nothing but padding (RFC 3550 section 5.1). False if repair, whose SSRC and numbers it
    /// takes, is not negotiated.
    pub fn pad_empty(&mut self, now: Instant, egress: &mut Egress, datagrams: &mut Datagrams) -> bool {
        let (Some(pt), Some(ssrc)) = (self.payload_types.any_rtx(), self.repair.ssrc) else {
            return false;
        };
        let seq_no = self.repair.take_seq_no();
        let timestamp = self.last.map_or(0, |(timestamp, ..)| timestamp);
        self.write_padding(now, *pt, ssrc, timestamp, seq_no, PADDING_BYTES, egress, datagrams);
        true
    }

    /// The `back`th packet before the last that was sent.
    pub fn latest_sent(&self, back: u16) -> Option<Sent> {
        self.repair.find((self.forward.next_seq_no() as u16).wrapping_sub(1).wrapping_sub(back))
    }

    /// The subscriber has spoken of this SSRC.
    pub fn handle_report(&mut self) {
        self.is_known = true;
    }

    /// A report, if anything was sent since the last. `wall` is `now` as NTP has it.
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

    /// Whether a packet with which decoding can start is of a keyframe, or none came in `KEYFRAME_WAIT`: some publishers
    /// send none after their first, and answer requests with a recovery point.
    fn is_keyframe_or_due(&mut self, now: Instant, packet: &Packet) -> bool {
        let first = *self.first_start.get_or_insert(now);
        packet.description.starts_keyframe || now >= first + KEYFRAME_WAIT
    }

    /// What is sent of a layer at most.
    fn bound(&self, layer: u8) -> Bound {
        let target = self.target.unwrap_or(Selection::BEST);
        let temporal = match target.temporal {
            // What the path does not carry is thinned until the smaller layer's keyframe is here.
            _ if target.layer < layer && self.is_short() => 0,
            temporal if temporal < Selection::BEST.temporal => temporal,
            // Those that are not told apart count as the highest.
            _ => u8::MAX,
        };
        Bound { spatial: target.spatial, temporal }
    }

    /// Whether the path carries no more.
    fn is_short(&self) -> bool {
        self.quality.is_some_and(|quality| quality.limit == Limit::Bandwidth)
    }

    /// Sends what a decoder needs in front of the packet that it starts with, under the number before.
    #[allow(clippy::too_many_arguments, reason = "what the packet has, and where it goes")]
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
        self.repair.remember(sent, packet.preface_bytes());
        self.count(preface.payload.len());
        let header = Header { pt, marker: false, ssrc: self.ssrc, timestamp, ids };
        self.seal(now, header, seq_no, &[], &preface.payload, packet, egress, datagrams);
    }

    /// Counts a sent packet with `bytes` bytes of payload.
    fn count(&mut self, bytes: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(bytes as u32);
    }

    /// Appends a sealed packet of nothing but so many bytes of padding.
    #[allow(clippy::too_many_arguments, reason = "what a packet without contents still has, and where it goes")]
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

    /// Appends a sealed packet to the buffer (RFC 3550 section 5.1): `payload` with the elements of `packet`.
    #[allow(clippy::too_many_arguments, reason = "what differs between a packet and its repair, and where it goes")]
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
    /// A page that does not tell shows everything as large as it comes.
    fn default() -> Self {
        Self { width: u32::MAX, height: u32::MAX, priority: 0 }
    }
}

impl Selection {
    /// All that comes.
    pub const BEST: Self = Self { layer: LAYERS as u8 - 1, spatial: u8::MAX, temporal: TEMPORAL_LAYERS as u8 - 1 };
}

impl View {
    /// Device pixels from top to bottom, 0 if it is not seen; `None` if the page does not tell.
    pub fn tile(&self) -> Option<u32> {
        (self.height < u32::MAX).then_some(if self.width == 0 { 0 } else { self.height })
    }
}

/// Appends the first 12 bytes of a packet (RFC 3550 section 5.1).
fn write_head(flags: u8, second: u8, seq_no: u64, timestamp: u32, ssrc: u32, buffer: &mut Vec<u8>) {
    let mut head = [0x80 | flags, second, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    head[2..4].copy_from_slice(&(seq_no as u16).to_be_bytes());
    head[4..8].copy_from_slice(&timestamp.to_be_bytes());
    head[8..12].copy_from_slice(&ssrc.to_be_bytes());
    buffer.extend_from_slice(&head);
}

/// What differs between a packet and its repair.
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
    use crate::datagrams::Route;
    use crate::id::PeerId;
    use crate::media::codec::Description;
    use crate::media::elements::Elements;
    use crate::media::fault::{PeerError, Site, guarded};
    use crate::media::forward::Incoming;
    use crate::media::repair;
    use crate::media::srtp::{Exported, Srtp};

    const LENGTH: usize = 1_000;

    struct Line {
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

    impl Line {
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
            let Some(sent) = self.outgoing.repair.find(seq_no) else { return false };
            let packet = packet(self.now, sent.position);
            self.outgoing.resend(self.now, sent, &packet, &mut self.egress, &mut self.datagrams)
        }

        /// First byte, payload type with marker, sequence number, timestamp, SSRC of the last datagram.
        fn last(&self) -> (u8, u8, u16, u32, u32) {
            let (_, contents) = self.datagrams.iter().last().unwrap();
            let word = |at: usize| u32::from_be_bytes(contents[at..at + 4].try_into().unwrap());
            (contents[0], contents[1], word(0) as u16, word(4), word(8))
        }
    }

    #[test]
    fn a_line_goes_on_with_another_track_and_repairs_nothing_of_the_one_before() {
        let mut line = Line::new();
        for number in 0..4 {
            line.forward(number);
        }
        assert!(line.resend(103));
        let track = TrackId { publisher: PeerId { slot: 1, generation: 0 }, mid: Mid::from("1") };
        let (payload_types, accepted) = (line.outgoing.payload_types, line.outgoing.accepted);
        line.outgoing.stop();
        line.outgoing.start(track, payload_types, accepted);
        assert_eq!(line.forward(1), Outcome::AwaitsKeyframe);
        assert!(!line.resend(103), "where that packet was, there is one of the other track");
        assert_eq!(line.forward(0), Outcome::Switched);
        assert_eq!((line.last().2, line.last().4), (104, 7));
        assert!(line.resend(104) && !line.resend(103));
        assert_eq!(line.last().2, 202 - 1, "the repair's numbers go on too");
    }

    #[test]
    fn publishers_that_take_turns_on_a_line_have_one_clock_though_they_chose_one_ssrc() {
        let mut line = Line::new();
        let (payload_types, accepted) = (line.outgoing.payload_types, line.outgoing.accepted);
        let mut last = None;
        for turn in 0..6_u32 {
            let track = TrackId { publisher: PeerId { slot: turn % 2, generation: 0 }, mid: Mid::from("0") };
            if turn % 3 > 0 {
                line.outgoing.stop();
            }
            line.outgoing.start(track, payload_types, accepted);
            for number in 0..10 {
                let ms = 1_000 * turn + 100 * number;
                let mut packet = packet(line.now + Duration::from_millis(ms.into()), number);
                packet.incoming.ssrc = 1;
                packet.incoming.seq_no = u64::from(1_000 * (turn % 2) + ms / 100);
                packet.incoming.timestamp = [7_u32, 3_000_000_000][turn as usize % 2].wrapping_add(90 * ms);
                let outcome = line.outgoing.forward(line.now, &packet, &mut line.egress, &mut line.datagrams);
                assert_eq!(outcome, if number == 0 { Outcome::Switched } else { Outcome::Sent });
                let (.., seq_no, timestamp, _) = line.last();
                if let Some((before, at)) = last.replace((seq_no, timestamp)) {
                    assert_eq!((seq_no - before, timestamp - at), (1, 9_000), "turn {turn}, packet {number}");
                }
            }
        }
    }

    #[test]
    fn a_packet_and_its_repair_have_their_own_numbers_and_one_time() {
        let mut line = Line::new();
        assert_eq!(line.forward(1), Outcome::AwaitsKeyframe);
        assert_eq!(line.forward(0), Outcome::Switched);
        for number in 1..4 {
            assert_eq!(line.forward(number), Outcome::Sent);
        }
        assert_eq!(line.last(), (0x90, 0x80 | 96, 103, 9_000, 7));
        assert!(line.resend(101));
        assert_eq!(line.last(), (0x90, 97, 200, 3_000, 8));
        assert!(line.resend(103));
        assert_eq!(line.last(), (0x90, 0x80 | 97, 201, 9_000, 8));
        for never_sent in [99, 104, 101 + repair::REMEMBERED as u16] {
            assert!(!line.resend(never_sent), "{never_sent}");
        }
    }

    #[test]
    fn no_number_of_an_ssrc_leaves_with_two_packets_whatever_the_line_believes() {
        let mut line = Line::new();
        for number in 0..4 {
            line.forward(number);
        }
        assert!(line.resend(101));
        let sent = line.datagrams.len();
        let [begins, fresh] = [102, 104].map(|first| {
            let mut outgoing = Outgoing::new(Mid::from("abc"), 7, Some(8), [first, 200]);
            outgoing.start(line.outgoing.track.unwrap(), line.outgoing.payload_types, line.outgoing.accepted);
            outgoing
        });
        let mut seal = |outgoing, packets: &[u32]| {
            line.outgoing = outgoing;
            let result = guarded(Site::Forward, || {
                packets.iter().for_each(|number| assert_eq!(line.forward(*number) == Outcome::Switched, *number == 0));
                Ok(line.resend(104))
            });
            line.datagrams.abandon();
            (result, line.datagrams.len())
        };
        let twice = |result: Result<bool, PeerError>, packet: &str| {
            result.is_err_and(|error| error.code() == "internal" && error.to_string().contains(packet))
        };
        let (result, left) = seal(begins, &[0]);
        assert!(twice(result, "SSRC 7 seals packet 102 twice") && left == sent);
        let (result, left) = seal(fresh, &[0]);
        assert!(twice(result, "SSRC 8 seals packet 200 twice") && left == sent + 1, "of the repair neither");
    }

    #[test]
    fn what_a_decoder_needs_goes_in_front_of_a_start_and_is_repaired() {
        let mut line = Line::new();
        let sets: std::sync::Arc<[u8]> = vec![9; 40].into();
        let of = |number: u32, is_missing: Option<bool>| {
            let mut packet = packet(Instant::now(), number);
            packet.preface = is_missing.map(|is_missing| Box::new(Preface { payload: sets.clone(), is_missing }));
            (packet.incoming.can_start, packet.incoming.has_preface) = (is_missing.is_some(), is_missing.is_some());
            packet
        };
        let lengths = |line: &Line| {
            let datagrams = line.datagrams.iter().skip(line.datagrams.len() - 2);
            datagrams.map(|(_, contents)| contents.len()).collect::<Vec<_>>()
        };
        // Whether each lacks what a decoder needs, the number with which it goes out, and whether another goes in front.
        for (number, is_missing, seq_no, has_other) in [
            (0, Some(false), 101, true),
            (1, None, 102, false),
            (2, Some(false), 103, false),
            (4, Some(true), 105, true),
            (6, None, 107, false),
            // Late, from before it was missing.
            (3, None, 107, false),
        ] {
            let before = line.datagrams.len();
            let outcome =
                line.outgoing.forward(line.now, &of(number, is_missing), &mut line.egress, &mut line.datagrams);
            let count = match number {
                3 => 0,
                _ => 1 + usize::from(has_other),
            };
            assert_eq!((line.datagrams.len() - before, line.last().2), (count, seq_no), "packet {number}");
            assert_eq!(outcome == Outcome::Switched, number == 0, "packet {number}");
            if has_other {
                let [first, second] = lengths(&line)[..] else { panic!("two") };
                assert_eq!(second - first, LENGTH - 40);
            }
        }
        for seq_no in [100, 104] {
            let sent = line.outgoing.repair.find(seq_no).expect("it was sent");
            let packet = of(sent.position, Some(false));
            assert!(line.outgoing.resend(line.now, sent, &packet, &mut line.egress, &mut line.datagrams));
            let resent = line.datagrams.iter().last().expect("it is sent").1.len();
            assert!((40..100).contains(&resent), "{resent} bytes");
        }
        // Its repair is charged with its own bytes.
        let sent = line.outgoing.repair.find(104).expect("it was sent");
        let packet = of(sent.position, Some(false));
        let resend = |_: &u32| line.outgoing.resend(line.now, sent, &packet, &mut line.egress, &mut line.datagrams);
        let bytes = 40 + packet.elements.len() + WIRE_OVERHEAD;
        let count = (0..2_000).take_while(resend).count();
        assert!(count.abs_diff(repair::SAVED / bytes) < 20, "{count} repairs of {bytes} bytes");
    }

    #[test]
    fn another_layer_starts_at_a_keyframe_and_a_stream_wherever_it_can() {
        use Outcome::{AwaitsKeyframe, Sent, Switched};
        let mut line = Line::new();
        let mut number = 0;
        let mut forward = |line: &mut Line, layer: u8, is_keyframe: bool| {
            number += 1;
            let mut packet = packet(line.now, number);
            packet.layer = layer;
            packet.incoming.ssrc = u32::from(layer);
            packet.incoming.can_start = true;
            packet.description.starts_keyframe = is_keyframe;
            line.outgoing.forward(line.now, &packet, &mut line.egress, &mut line.datagrams)
        };
        let selection = |layer| Some(Selection { layer, ..Selection::BEST });
        // What is selected, the layer that comes, and whether with a keyframe or with another point to start at.
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
            line.outgoing.select(selection(selected));
            assert_eq!(forward(&mut line, layer, is_keyframe), outcome, "step {step}");
        }
        // After a pause the references are still those of its layer.
        line.outgoing.pause();
        assert_eq!(forward(&mut line, 0, false), Switched);
        line.outgoing.pause();
        line.outgoing.select(selection(1));
        assert_eq!(forward(&mut line, 1, false), AwaitsKeyframe);
        // Some publishers never send another keyframe.
        line.now += KEYFRAME_WAIT - Duration::from_millis(1);
        assert_eq!(forward(&mut line, 1, false), AwaitsKeyframe);
        line.now += Duration::from_millis(1);
        assert_eq!(forward(&mut line, 1, false), Switched);
        line.outgoing.select(selection(0));
        assert_eq!(forward(&mut line, 0, false), AwaitsKeyframe, "each change waits by itself");
        // Another track: nothing else may ever come of it.
        let track = TrackId { publisher: PeerId { slot: 1, generation: 0 }, mid: Mid::from("1") };
        line.outgoing.start(track, line.outgoing.payload_types, line.outgoing.accepted);
        line.outgoing.select(selection(1));
        assert_eq!(forward(&mut line, 1, false), Switched);
    }

    #[test]
    fn packets_name_their_line_until_the_subscriber_has_spoken_of_it() {
        let mut line = Line::new();
        let length = |line: &Line| line.datagrams.iter().last().unwrap().1.len();
        line.forward(0);
        let (named, elements) = (12 + 4 + 8 + LENGTH + SRTP_OVERHEAD, 12 + 4 + 4 + LENGTH + SRTP_OVERHEAD);
        assert_eq!(length(&line), named);
        line.outgoing.handle_report();
        line.forward(1);
        assert_eq!(length(&line), elements);
    }

    #[test]
    fn a_storm_of_nacks_gets_a_share_of_what_is_sent() {
        let mut line = Line::new();
        let mut resent = 0;
        for number in 0..1_000 {
            line.forward(number);
            for back in 0..20 {
                resent += usize::from(line.resend((100 + number as u16).wrapping_sub(back)));
            }
        }
        let bytes = packet(line.now, 0).wire_bytes();
        let share = (1_000 * bytes / repair::PART + repair::SAVED) / bytes;
        assert!((share - 2..=share).contains(&resent), "{resent} of {share}");
    }

    #[test]
    fn another_layer_begins_at_its_keyframe_and_the_old_one_goes_on_until_then() {
        use Outcome::{AwaitsKeyframe, Ended, NotSelected, Sent, Switched};
        let mut line = Line::new();
        let of = |line: &Line, layer: u8, number: u64, can_start: bool| {
            let mut packet = packet(line.now + Duration::from_millis(33 * number), 0);
            packet.layer = layer;
            packet.incoming.ssrc = u32::from(layer);
            packet.incoming.seq_no = 1_000 * u64::from(layer) + number;
            // One picture has three packets, and another one no end.
            let picture = if (10..=12).contains(&number) { 10 } else { number as u32 };
            packet.incoming.timestamp = 77 * u32::from(layer) + 2_970 * picture;
            (packet.incoming.can_start, packet.description.starts_keyframe) = (can_start, can_start);
            packet.marker = ![10, 11, 13].contains(&number);
            packet
        };
        let selection = |layer| Some(Selection { layer, ..Selection::BEST });
        // What is selected, the packet that comes, what becomes of it, and which layers are needed then.
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
            // Wanted no longer: nothing has happened.
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
            line.outgoing.select(selected);
            let packet = of(&line, layer, number, can_start);
            let became = line.outgoing.forward(line.now, &packet, &mut line.egress, &mut line.datagrams);
            assert_eq!((became, line.outgoing.layers()), (outcome, layers), "step {step}");
            if matches!(became, Sent | Switched) {
                sent.push((line.last().2, line.last().3));
            }
        }
        let expected = [1, 2, 3, 4, 5, 6, 9, 10, 10, 10, 13].map(|number| 2_970 * number);
        let expected: Vec<(u16, u32)> = (100..).zip(expected).collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_picture_ends_with_the_highest_spatial_layer_that_is_sent_and_so_does_its_repair() {
        use Outcome::{NotSelected, Old, Sent, Switched};
        let mut line = Line::new();
        let selection = |spatial| Some(Selection { layer: 0, spatial, temporal: 2 });
        let switch = Some((0, Reason::Switch));
        // What is selected; which picture comes, whether it is a keyframe, which layer of it, in one packet each; what
        // becomes of it, with which number and marker; what is awaited then.
        let script = [
            (selection(u8::MAX), (0, true, 0), Switched, (100, false), None),
            (selection(u8::MAX), (0, true, 1), Sent, (101, false), None),
            (selection(0), (0, true, 2), Sent, (102, true), None),
            (selection(0), (1, false, 0), Sent, (103, true), None),
            (selection(0), (1, false, 1), Old, (103, true), None),
            (selection(1), (1, false, 2), Old, (103, true), switch),
            (selection(1), (2, false, 0), Sent, (104, true), switch),
            (selection(1), (2, false, 1), Old, (104, true), switch),
            // One is lost.
            (selection(1), (3, true, 0), Sent, (106, false), None),
            // What is wanted no longer goes on to the end of its picture, which is the same as before.
            (None, (3, true, 1), Switched, (107, true), None),
            (None, (3, true, 2), NotSelected, (107, true), None),
            (selection(1), (4, true, 0), Switched, (108, false), None),
        ];
        let of = |line: &Line, place: u32| {
            let (_, (picture, is_key, spatial), ..) = script[place as usize];
            let mut packet = packet(line.now, place);
            (packet.incoming.timestamp, packet.incoming.can_start) = (3_000 * picture, is_key && spatial == 0);
            packet.incoming.seq_no = u64::from(3 * picture) + u64::from(spatial);
            packet.description = Description { spatial, ends_frame: true, ..Description::default() };
            packet.marker = spatial == 2;
            packet
        };
        let last = |line: &Line| (line.last().2, line.last().1 & 0x80 != 0);
        for (place, (selected, _, outcome, expected, awaited)) in (0..).zip(script) {
            line.outgoing.select(selected);
            let packet = of(&line, place);
            let became = line.outgoing.forward(line.now, &packet, &mut line.egress, &mut line.datagrams);
            assert_eq!((became, last(&line), line.outgoing.awaited()), (outcome, expected, awaited), "step {place}");
        }
        let sent = script.iter().filter(|(_, _, outcome, ..)| matches!(outcome, Sent | Switched));
        for (number, (.., (seq_no, marker), _)) in (200..).zip(sent) {
            let sent = line.outgoing.repair.find(*seq_no).expect("it is remembered");
            let packet = of(&line, sent.position);
            assert!(line.outgoing.resend(line.now, sent, &packet, &mut line.egress, &mut line.datagrams));
            assert_eq!(last(&line), (number, *marker), "the repair of {seq_no}");
        }
    }

    #[test]
    fn whoever_gets_all_temporal_layers_gets_those_that_are_not_told_apart() {
        let mut line = Line::new();
        let outcomes = [0, 3, 2, 7].map(|temporal| {
            let mut packet = packet(line.now, u32::from(temporal));
            packet.description.temporal = temporal;
            line.outgoing.forward(line.now, &packet, &mut line.egress, &mut line.datagrams)
        });
        assert_eq!(outcomes, [Outcome::Switched, Outcome::Sent, Outcome::Sent, Outcome::Sent]);
    }

    #[test]
    fn redundant_sound_goes_whole_to_who_takes_it_and_has_room() {
        let mut line = Line::new();
        let sound = |line: &Line, number: u32| {
            let mut packet = packet(line.now, number);
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
            line.outgoing.start(track, payload_types, Ids(0));
            line.egress.estimator.handle_remb(estimate);
            line.egress.on_estimate(line.now);
            let packet = sound(&line, number);
            line.outgoing.forward(line.now, &packet, &mut line.egress, &mut line.datagrams);
            let length = line.datagrams.iter().last().unwrap().1.len() - 12 - SRTP_OVERHEAD;
            assert_eq!((line.last().1 & 0x7f, length), expected, "{number}");
        }
    }

    #[test]
    fn the_largest_packet_is_repaired_over_the_slowest_path_and_not_again_and_again() {
        for (estimate, at_once, in_a_second) in [(50_000, 2, 1), (1_000_000, 5, 5)] {
            let mut line = Line::new();
            line.egress.estimator.handle_remb(estimate);
            line.egress.on_estimate(line.now);
            let mut taken = |ms| {
                let now = line.now + Duration::from_millis(ms);
                (0..100).take_while(|_| line.egress.take_repair(now, 1_400)).count()
            };
            assert_eq!((taken(0), taken(1_000)), (at_once, in_a_second), "{estimate}");
        }
    }

    #[test]
    fn packets_without_payload_are_forwarded_and_not_repaired_for_nothing() {
        let mut line = Line::new();
        let empty = |line: &Line, number| Packet { payload: [].into(), ..packet(line.now, number) };
        let mut resent = 0;
        for number in 0..10 {
            let packet = empty(&line, number);
            let outcome = line.outgoing.forward(line.now, &packet, &mut line.egress, &mut line.datagrams);
            assert_eq!(outcome, if number == 0 { Outcome::Switched } else { Outcome::Sent });
            assert_eq!(line.last().2, 100 + number as u16, "no gap");
        }
        for _ in 0..10_000 {
            let sent = line.outgoing.repair.find(105).unwrap();
            let packet = empty(&line, sent.position);
            resent += usize::from(line.outgoing.resend(line.now, sent, &packet, &mut line.egress, &mut line.datagrams));
        }
        assert!(resent <= repair::SAVED / WIRE_OVERHEAD, "{resent}");
    }

    #[test]
    fn a_report_tells_what_was_sent_and_when_it_is_shown() {
        let mut line = Line::new();
        assert_eq!(line.outgoing.poll_report(line.now, 5), None);
        for number in 0..10 {
            line.forward(number);
        }
        let later = line.now + Duration::from_millis(500);
        let report = line.outgoing.poll_report(later, 5).unwrap();
        let expected =
            SenderReport { ssrc: 7, ntp: 5, timestamp: 27_000 + 45_000, packets: 10, octets: 10 * LENGTH as u32 };
        assert_eq!(report, expected);
        assert_eq!(line.outgoing.poll_report(later, 6), None, "nothing new");
    }
}
