//! One SSRC that the server sends to one subscriber: rewrites and seals a track's packets, retransmits them, and
//! reports on them.

use std::time::{Duration, Instant};

use str0m::format::Codec;
use str0m::media::{Mid, Pt};

use crate::drop_reason::{DropReason, MLineDrops};
use crate::id::TrackId;
use crate::media::negotiation::profile::PayloadTypes;
use crate::media::publish::keyframe::{self, Reason};
use crate::media::publish::layer::TEMPORAL_LAYERS;
use crate::media::publish::layers::Layers;
use crate::media::rtp::codec;
use crate::media::rtp::codec::parameter_sets::Preface;
use crate::media::rtp::elements::Ids;
use crate::media::rtp::packet::Packet;
use crate::media::rtp::rtcp::SenderReport;
use crate::media::subscribe::allocation::claim;
use crate::media::subscribe::allocation::wish::LoadCap;
use crate::media::subscribe::egress::Egress;
use crate::media::subscribe::picture_ids::PictureIds;
use crate::media::subscribe::quality::{Limit, Quality};
use crate::media::subscribe::renumbering::{Bound, Renumbering, Rewritten};
use crate::media::subscribe::rtx::{Role, Rtx, Sent};
use crate::media::subscribe::selection::{Selection, View};
use crate::media::subscribe::sent_counts::SentCounts;
use crate::media::subscribe::writer::{Header, Writer};
use crate::media::transport::datagrams::Datagrams;

/// How long a change of layers waits for a keyframe while other starting points arrive. It exceeds the longest interval
/// between keyframe requests. After it, the change is made at any starting point, although the decoder then shows
/// errors until all areas of the picture are refreshed.
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
    /// The track of the packet sent last. If this track starts again, its timestamps continue from its own clock.
    last_track: Option<TrackId>,
    /// How the subscriber's page shows the track.
    pub view: View,
    /// The quality that the allocation grants.
    pub quality: Option<Quality>,
    /// The quality last reported to the subscriber.
    pub reported_quality: Option<Quality>,
    /// The layers to send; `None` if the track is paused.
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
    /// Whether the subscriber's answer accepts redundant audio (RFC 2198) on this m-line.
    pub takes_redundancy: bool,
    payload_types: PayloadTypes,
    writer: Writer,
    /// Whether `Outcome::CannotDecode` was returned for this track.
    has_reported_codec: bool,
    counts: SentCounts,
    /// The packets of its tracks that were not sent on this m-line.
    pub drops: MLineDrops,
}

/// The result of `Outgoing::forward` for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written to the datagrams.
    Sent,
    /// Written to the datagrams; it is the first packet of another layer, or the last one before a pause.
    Switched,
    /// Dropped because nothing is selected any more; the track is now paused.
    Ended(DropReason),
    /// Dropped because the subscriber has not negotiated the codec. Returned once per subscription; the following
    /// packets are `Dropped`.
    CannotDecode,
    /// Dropped, or replaced by padding.
    Dropped(DropReason),
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
            reported_quality: None,
            target: None,
            layer: 0,
            renumbering: Renumbering::new(first[0]),
            unfinished: None,
            first_start: None,
            picture_ids: PictureIds::default(),
            takes_redundancy: false,
            payload_types: PayloadTypes::default(),
            writer: Writer::new(mid),
            has_reported_codec: false,
            counts: SentCounts::default(),
            drops: MLineDrops::default(),
        }
    }

    /// Sends a track from its next starting point on. `accepted` has the header extensions that the subscriber accepts.
    pub fn start(&mut self, track: TrackId, payload_types: PayloadTypes, accepted: Ids) {
        self.renumbering.pause();
        self.track = Some(track);
        self.payload_types = payload_types;
        self.writer.accepted = accepted;
        self.quality = None;
        self.reported_quality = None;
        self.view = View::default();
        self.target = claim::select_first(self.view.tile(), LoadCap::Unlimited, false);
        self.has_reported_codec = false;
    }

    /// Stops the track and forgets its packets: a later retransmission would look them up in another track's history.
    pub fn stop(&mut self) {
        self.track = None;
        self.rtx.forget();
        self.pause();
    }

    /// Selects the layers to send. A different simulcast layer starts at its next keyframe, and the previous one is
    /// sent until then. Fewer spatial layers are sent from the next picture on. With `None`, a started picture is sent
    /// to its end.
    pub fn select(&mut self, selection: Option<Selection>) {
        if selection.is_none() && self.unfinished.is_none() {
            self.pause();
        }
        if self.target.map(|target| target.layer) != selection.map(|selection| selection.layer) {
            self.first_start = None;
        }
        self.target = selection;
    }

    /// The selected layers; `None` if the track is paused or there is no track.
    pub fn selected(&self) -> Option<Selection> {
        self.target.filter(|_| self.track.is_some())
    }

    /// The layer sent now; `None` while waiting for a starting point.
    pub fn layer(&self) -> Option<u8> {
        (!self.is_waiting()).then_some(self.layer)
    }

    /// Bit set of the layers whose packets must all be passed to `forward`.
    pub fn layers(&self) -> u8 {
        let Some(target) = self.selected() else {
            return self.unfinished.filter(|_| !self.is_waiting()).map_or(0, |(layer, _)| 1 << layer);
        };
        // Starting with a smaller picture now is better than waiting for the selected one.
        if self.is_waiting() { (2 << target.layer) - 1 } else { 1 << target.layer | 1 << self.layer }
    }

    /// Bytes sent, including the overhead of the transport; wraps.
    pub fn sent_bytes(&self) -> u32 {
        self.counts.wire_bytes()
    }

    /// Packets sent; wraps.
    pub fn sent_packets(&self) -> u32 {
        self.counts.packets()
    }

    /// Whether the track is audio.
    pub fn is_audio(&self) -> bool {
        self.track.is_some() && self.payload_types.find(Codec::Opus).is_some()
    }

    /// The layer that needs a keyframe, and the reason.
    pub fn awaited(&self) -> Option<(u8, Reason)> {
        let Selection { layer, spatial, .. } = self.selected()?;
        match self.layer() {
            Some(sent) if sent == layer && spatial <= self.renumbering.spatial() => None,
            Some(_) => Some((layer, Reason::Switch)),
            None => Some((layer, Reason::Join)),
        }
    }

    /// Returns the quality that the subscriber currently receives. It is less than the granted quality while a
    /// keyframe is awaited, for example. `layers` are those of the track.
    pub fn current_quality(&self, layers: &Layers) -> Option<Quality> {
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

    /// Whether the stream waits for a starting point.
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
            let is_first = !std::mem::replace(&mut self.has_reported_codec, true);
            return if is_first { Outcome::CannotDecode } else { Outcome::Dropped(DropReason::CodecNotNegotiated) };
        };
        if self.layers() & 1 << packet.layer == 0 {
            return Outcome::Dropped(self.not_selected_reason());
        }
        let picture = (packet.layer, packet.incoming.timestamp);
        if self.target.is_none() && self.unfinished != Some(picture) {
            self.pause();
            return Outcome::Ended(self.not_selected_reason());
        }
        let switches = self.is_waiting() || packet.layer != self.layer;
        // If a starting point lacks its parameter sets, a preface is sent before it, which needs a sequence number of
        // its own. The mapping therefore restarts there for every subscriber.
        let lacks_sets = || packet.preface.as_ref().is_some_and(|preface| preface.is_missing);
        let restarts = switches || packet.incoming.can_start && lacks_sets();
        if restarts && !self.restart_mapping(now, packet) {
            return Outcome::Dropped(DropReason::AwaitsKeyframe);
        }
        let bound = self.bound(packet.layer);
        let rewritten = match self.renumbering.rewrite(&packet.incoming, &packet.description, bound) {
            Ok(rewritten) => rewritten,
            Err(reason) => return Outcome::Dropped(reason),
        };
        if rewritten.is_empty {
            self.writer.write_padding(now, *pt, self.ssrc, rewritten.timestamp, rewritten.seq_no, 1, egress, datagrams);
            return Outcome::Dropped(DropReason::LayerNotSelected);
        }
        self.layer = packet.layer;
        if rewritten.starts {
            self.picture_ids.start();
        }
        // Only VP8 picture ids have to stay contiguous when pictures are dropped; see `PictureIds`.
        let dropped_pictures = if packet.codec == Codec::Vp8 { rewritten.dropped_pictures } else { 0 };
        let ids = self.picture_ids.map(packet.description.ids, dropped_pictures);
        let (pt, payload) = self.choose_payload(pt, packet, egress);
        let marker = packet.marker || rewritten.ends_picture;
        if rewritten.starts
            && let Some(preface) = &packet.preface
        {
            self.write_preface(now, *pt, &rewritten, ids, preface, packet, egress, datagrams);
        }
        let header = Header { pt: *pt, marker, ssrc: self.ssrc, timestamp: rewritten.timestamp, ids };
        if !self.writer.seal(now, header, rewritten.seq_no, &[], payload, packet, egress, datagrams) {
            return Outcome::Dropped(DropReason::Guard);
        }
        if packet.codec != Codec::Opus {
            self.remember(packet, &rewritten, ids, marker);
        }
        self.counts.record(payload.len(), rewritten.timestamp, &packet.incoming);
        if self.target.is_none() && self.unfinished.is_none() {
            self.pause();
            return Outcome::Switched;
        }
        if switches { Outcome::Switched } else { Outcome::Sent }
    }

    /// The drop reason for packets of layers that are not selected.
    pub fn not_selected_reason(&self) -> DropReason {
        match self.quality.map(|quality| quality.limit) {
            _ if self.target.is_some() => DropReason::LayerNotSelected,
            Some(Limit::Bandwidth) => DropReason::OverBudget,
            Some(Limit::Server) => DropReason::Shed,
            _ => DropReason::NotViewed,
        }
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
            && self.repeat(now, sent, packet, egress, datagrams);
        if is_sent {
            self.rtx.spend(bytes);
        }
        is_sent
    }

    /// Retransmits a packet without a charge, for example as padding. Returns false if retransmission is not
    /// negotiated.
    pub fn repeat(
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
        self.writer.seal(now, header, seq_no, &original, payload, packet, egress, datagrams);
        true
    }

    /// Sends a packet that contains only padding (RFC 3550 section 5.1), on the retransmission SSRC. Returns false if
    /// retransmission is not negotiated.
    pub fn send_padding(&mut self, now: Instant, egress: &mut Egress, datagrams: &mut Datagrams) -> bool {
        let (Some(pt), Some(ssrc)) = (self.payload_types.any_rtx(), self.rtx.ssrc) else {
            return false;
        };
        let seq_no = self.rtx.take_seq_no();
        let timestamp = self.counts.last_timestamp();
        self.writer.write_padding(now, *pt, ssrc, timestamp, seq_no, PADDING_BYTES, egress, datagrams);
        true
    }

    /// The packet sent `back` packets before the last one.
    pub fn latest_sent(&self, back: u16) -> Option<Sent> {
        self.rtx.find((self.renumbering.next_seq_no() as u16).wrapping_sub(1).wrapping_sub(back))
    }

    /// Records that the subscriber has received packets of this SSRC.
    pub fn handle_report(&mut self) {
        self.writer.is_known = true;
    }

    /// Returns a sender report if anything was sent since the last. `wall` is `now` as an NTP timestamp.
    pub fn poll_report(&mut self, now: Instant, wall: u64) -> Option<SenderReport> {
        self.counts.poll_report(now, wall, self.ssrc)
    }

    /// Returns the payload type and the payload to send. `pt` is the payload type of the codec. A subscriber that does
    /// not accept redundant audio, or whose path is narrow, gets the packet's own frame only.
    fn choose_payload<'a>(&self, pt: Pt, packet: &'a Packet, egress: &Egress) -> (Pt, &'a [u8]) {
        let red = self.payload_types.red.filter(|_| !egress.is_narrow());
        match (packet.redundant, red) {
            (Some(_), Some(red)) => (red, &packet.payload),
            (own_frame, _) => (pt, &packet.payload[own_frame.unwrap_or_default()..]),
        }
    }

    /// Restarts the number mapping at a packet that begins a stream or a layer. Returns false if decoding cannot start
    /// there.
    fn restart_mapping(&mut self, now: Instant, packet: &Packet) -> bool {
        let is_same_track = self.last_track == self.track;
        // The decoder has the references of the other layer only.
        let needs_keyframe = is_same_track && packet.layer != self.layer;
        if !packet.incoming.can_start || needs_keyframe && !self.accept_start(now, packet) {
            return false;
        }
        self.first_start = None;
        if is_same_track {
            self.renumbering.pause();
        } else {
            self.renumbering.change_track();
        }
        self.last_track = self.track;
        true
    }

    /// Returns true if a change of layers may start here: at a keyframe, or if none has arrived for `KEYFRAME_WAIT`,
    /// because some publishers send only one keyframe and answer requests with recovery points.
    fn accept_start(&mut self, now: Instant, packet: &Packet) -> bool {
        let first = *self.first_start.get_or_insert(now);
        packet.description.starts_keyframe || now >= first + KEYFRAME_WAIT
    }

    /// Records a sent video packet: for retransmissions, and whether its picture is complete.
    fn remember(&mut self, packet: &Packet, rewritten: &Rewritten, ids: codec::Ids, marker: bool) {
        if rewritten.seq_no + 1 == self.renumbering.next_seq_no() {
            self.unfinished = (!marker).then_some((packet.layer, packet.incoming.timestamp));
        }
        let (seq_no, role) = (rewritten.seq_no as u16, if marker { Role::Last } else { Role::Inner });
        let sent = Sent::new(seq_no, rewritten.timestamp, packet.position, role, ids);
        self.rtx.remember(sent, packet.wire_bytes());
    }

    /// Returns the highest spatial and temporal layers to send of a simulcast layer.
    fn bound(&self, layer: u8) -> Bound {
        let Some(target) = self.target else {
            return Bound { spatial: u8::MAX, temporal: u8::MAX };
        };
        let temporal = match target.temporal {
            // If bandwidth is short, only the lowest temporal layer is sent until the smaller layer's keyframe arrives.
            _ if target.layer < layer && self.lacks_bandwidth() => 0,
            temporal if usize::from(temporal) < TEMPORAL_LAYERS - 1 => temporal,
            // `description.temporal` may exceed the known temporal layers.
            _ => u8::MAX,
        };
        Bound { spatial: target.spatial, temporal }
    }

    /// Whether bandwidth limits the granted quality.
    fn lacks_bandwidth(&self) -> bool {
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
        self.counts.count(preface.payload.len());
        let header = Header { pt, marker: false, ssrc: self.ssrc, timestamp, ids };
        self.writer.seal(now, header, seq_no, &[], &preface.payload, packet, egress, datagrams);
    }
}

#[cfg(test)]
mod tests;
