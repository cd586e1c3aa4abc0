//! The layers of one published track: which of them are active, their bitrates, and the keyframe requests to the
//! publisher.
//!
//! They are simulcast layers, each with its own SSRC, or spatial layers in a single SSRC. A spatial layer is sent with
//! all layers below it, a keyframe covers all of them, and the publisher cannot pause some of them.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::media::publish::grade::Grade;
use crate::media::publish::keyframe::Reason;
use crate::media::publish::layer::{LAYERS, Layer, TEMPORAL_LAYERS};
use crate::media::rtp::packet::Packet;

/// Maximum number of grades of a track: the lowest layer has one per temporal layer, the others have two each.
pub const MAX_GRADES: usize = TEMPORAL_LAYERS + 2 * (LAYERS - 1);

/// Time between two measurements of the bitrates. A shorter interval reacts sooner, but mistakes each keyframe for a
/// change.
const MEASUREMENT_INTERVAL: Duration = Duration::from_millis(250);

/// A layer without packets for this long, while another continues, is inactive. A shorter time mistakes a pause of a
/// slow camera for the end of the layer; a longer one freezes the picture of the layer's subscribers.
const LAYER_TIMEOUT: Duration = Duration::from_millis(600);

/// Time for which a layer that no subscriber wants is still sent. A shorter time costs a keyframe whenever a subscriber
/// looks elsewhere for a moment, a longer one wastes the publisher's uplink and battery.
const PATIENCE: Duration = Duration::from_secs(3);

/// Minimum time between two keyframe requests for a track, whatever their layers. Chromium drops a request within 300
/// ms of another (libwebrtc, `EncoderRtcpFeedback`), and a dropped one is repeated only after `keyframe::SPACING`. A
/// shorter time loses requests to jitter, a longer one delays subscribers of the second layer.
const REQUEST_SPACING: Duration = Duration::from_millis(330);

/// Picture heights of the layers if no packet states them.
const ASSUMED_HEIGHTS: [u16; LAYERS] = [180, 360, 720];

/// Time for which a track is reported as oversized after a packet that was too large. With a longer time, a problem is
/// reported when it is over; with a shorter one, the report flickers.
const OVERSIZED_MEMORY: Duration = Duration::from_secs(5);

/// A track without packets for this long is silent. Browsers repeat a still picture once per second. A shorter time
/// reports silence when two of these are lost; a longer one reports it late.
const TRACK_TIMEOUT: Duration = Duration::from_secs(3);

/// State of the layers of one track.
#[derive(Debug, Default)]
pub struct Layers {
    layers: [Layer; LAYERS],
    /// Bit masks of the active layers, and of those that have ever been active.
    active: u8,
    seen: u8,
    /// The layers are spatial layers of a single SSRC.
    is_spatial: bool,
    /// The active layers, their heights or their bitrates have changed since the last `take_changed`.
    changed: bool,
    /// When the bitrates are measured next.
    measurement_due: Option<Instant>,
    /// The publisher sends nothing although the track is wanted.
    is_silent: bool,
    /// When a packet was last dropped because it was too large.
    oversized_at: Option<Instant>,
    /// When a keyframe of any layer was last requested.
    requested_at: Option<Instant>,
    /// Number of layers, from the smallest, that the publisher was last asked to send; `None` for all.
    signaled: Option<u8>,
    /// Since when fewer are wanted.
    fewer_since: Option<Instant>,
}

impl Layers {
    /// Counts a received packet and updates the state of its layer.
    pub fn handle_packet(&mut self, now: Instant, packet: &Packet) {
        let spatial = packet.description.spatial;
        self.is_spatial |= spatial > 0;
        let index = packet.layer.max(spatial).min(LAYERS as u8 - 1);
        if packet.description.heights[0] > 0 {
            self.on_heights(now, packet);
        }
        let bit = 1 << index;
        self.changed |= self.is_silent || self.active & bit == 0;
        self.is_silent = false;
        self.active |= bit;
        self.seen |= bit;
        let temporal = usize::from(packet.description.temporal).min(TEMPORAL_LAYERS - 1);
        // The same size that the bandwidth estimate counts: small packets are mostly headers.
        let mut bytes = packet.wire_bytes() as u32;
        let source = &mut self.layers[usize::from(packet.layer)];
        if packet.incoming.can_start {
            source.keyframes.handle_start();
            if packet.preface.as_ref().is_some_and(|preface| preface.is_missing) {
                // The preface is sent to every subscriber.
                bytes += packet.preface_bytes() as u32;
            }
            source.keyframe = Some(packet.incoming.timestamp);
        }
        let is_key = source.keyframe == Some(packet.incoming.timestamp);
        if is_key {
            source.keyframes.handle_bytes(packet.incoming.can_start, packet.payload.len());
        }
        let layer = &mut self.layers[usize::from(index)];
        layer.last_packet_at = Some(now);
        if is_key {
            layer.pending_keyframe_bytes += bytes;
        } else {
            layer.bytes[temporal] += bytes;
        }
    }

    /// Records that a packet was dropped because it is too large.
    pub fn handle_oversized(&mut self, now: Instant) {
        self.changed |= self.oversized_at.replace(now).is_none();
    }

    /// Returns true if packets have recently been dropped because they are too large.
    pub fn is_oversized(&self) -> bool {
        self.oversized_at.is_some()
    }

    /// Returns true if the publisher sends nothing although it knows that the track is wanted.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Updates the state that depends on time when no packets arrive. Returns true if that changes the reports to
    /// subscribers.
    pub fn expire(&mut self, now: Instant) -> bool {
        let newest = self.layers.iter().filter_map(|layer| layer.last_packet_at).max();
        let is_silent = self.signaled() > 0 && newest.is_some_and(|newest| now >= newest + TRACK_TIMEOUT);
        let is_over = self.oversized_at.is_some_and(|last| now >= last + OVERSIZED_MEMORY);
        if is_over {
            self.oversized_at = None;
        }
        let is_newly_silent = is_silent && !self.is_silent;
        self.is_silent |= is_silent;
        is_newly_silent || is_over
    }

    /// Measures the bitrates of the layers and detects inactive ones. Returns false if the last measurement is too
    /// recent.
    pub fn measure(&mut self, now: Instant) -> bool {
        let due = *self.measurement_due.get_or_insert_with(|| now + MEASUREMENT_INTERVAL);
        if now < due {
            return false;
        }
        let elapsed = MEASUREMENT_INTERVAL + (now - due);
        self.measurement_due = Some(now + MEASUREMENT_INTERVAL);
        for layer in &mut self.layers {
            // The assumed bitrate may have been far off.
            self.changed |= layer.measure(elapsed);
        }
        if self.is_spatial {
            let rate = self.layers.iter().flat_map(|layer| layer.rates).sum::<f64>();
            self.layers[0].keyframes.handle_rate(rate as u64);
        }
        if self.oversized_at.is_some_and(|last| now >= last + OVERSIZED_MEMORY) {
            self.oversized_at = None;
            self.changed = true;
        }
        let newest = self.layers.iter().filter_map(|layer| layer.last_packet_at).max();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let is_silent =
                layer.last_packet_at.is_some_and(|came| newest.is_some_and(|newest| newest > came + LAYER_TIMEOUT));
            if is_silent {
                self.active &= !(1 << index);
                self.changed = true;
                layer.rates = Default::default();
                layer.last_packet_at = None;
            }
        }
        true
    }

    /// Returns true if the active layers have changed since the last call, or a bitrate has been measured for the first
    /// time.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Sets how many layers are wanted, counted from the smallest. Returns true if the publisher has to be notified:
    /// immediately if there are more than it was last asked for, after a delay if there are fewer.
    pub fn want(&mut self, now: Instant, wanted: u8) -> bool {
        let signaled = self.signaled();
        if wanted >= signaled {
            self.fewer_since = None;
        }
        let is_due = wanted > signaled || wanted < signaled && now >= *self.fewer_since.get_or_insert(now) + PATIENCE;
        if is_due {
            self.signaled = Some(wanted);
            self.fewer_since = None;
            self.is_silent = false;
            // Layers that are resumed count as active at once: a subscriber that chose them only after their first
            // packets would miss the keyframe that they begin with.
            for index in (signaled..wanted).filter(|index| self.seen & 1 << index != 0) {
                self.active |= 1 << index;
                self.changed = true;
                self.layers[usize::from(index)].last_packet_at = Some(now);
            }
        }
        is_due
    }

    /// Restores the number of layers that the publisher was asked for when the previous track of its m-line ended.
    pub fn resume(&mut self, signaled: u8) {
        self.signaled = Some(signaled);
    }

    /// Returns the number of layers that the publisher was last asked to send.
    pub fn signaled(&self) -> u8 {
        self.signaled.unwrap_or(LAYERS as u8)
    }

    /// Returns true if the layers are spatial layers of a single SSRC.
    pub fn is_spatial(&self) -> bool {
        self.is_spatial
    }

    /// Returns true if the publisher has layers that it was asked not to send.
    pub fn has_paused_layers(&self) -> bool {
        self.seen >> self.signaled() != 0
    }

    /// Returns how many layers the publisher has to send if `wanted` are wanted: spatial layers are sent all or none.
    pub fn needed(&self, wanted: u8) -> u8 {
        if self.is_spatial && wanted > 0 { LAYERS as u8 } else { wanted }
    }

    /// Returns the layer at whose keyframes a subscriber that wants `layer` can start: the nearest active one.
    pub fn nearest(&self, layer: u8) -> u8 {
        if self.is_spatial {
            return 0;
        }
        let is_active = |layer: &u8| self.active & 1 << layer != 0;
        (0..=layer).rev().find(is_active).or_else(|| (layer..LAYERS as u8).find(is_active)).unwrap_or(layer)
    }

    /// Records that a subscriber needs a keyframe of a layer.
    pub fn request_keyframe(&mut self, layer: u8, reason: Reason) {
        self.layers[usize::from(layer)].keyframes.request_keyframe(reason);
    }

    /// Returns the layer and the reason if a keyframe is to be requested now, and records the request as sent.
    ///
    /// Subscribers without a picture take precedence over those that switch layers. Among several layers the smallest
    /// is chosen, which every subscriber can start with.
    pub fn poll_request(&mut self, now: Instant) -> Option<(u8, Reason)> {
        self.requested_at.is_none_or(|last| now >= last + REQUEST_SPACING).then_some(())?;
        // An inactive layer does not delay the others, unless all are inactive.
        let is_active = |layer: &u8| self.active == 0 || self.is_spatial || self.active & 1 << layer != 0;
        let due = (0..LAYERS as u8).filter(is_active).filter_map(|layer| {
            let reason = self.layers[usize::from(layer)].keyframes.due(now)?;
            Some((reason.can_wait(), layer))
        });
        let (_, layer) = due.min()?;
        let reason = self.layers[usize::from(layer)].keyframes.poll_request(now)?;
        self.requested_at = Some(now);
        Some((layer, reason))
    }

    /// Returns the grades of the track, lowest first: each active layer, the lowest one also without its upper temporal
    /// layers, and each other one also without its highest temporal layer.
    pub fn grades(&self) -> SmallVec<[Grade; MAX_GRADES]> {
        let mut grades = SmallVec::new();
        // Bitrates of the layers that are sent together with this one, by temporal layer.
        let mut below = [0.0; TEMPORAL_LAYERS];
        let active = self.layers.iter().enumerate().filter(|(index, _)| self.active & 1 << index != 0);
        for (index, layer) in active {
            let highest = layer.rates.iter().rposition(|rate| *rate > 0.0).unwrap_or_default();
            let lowest = if grades.is_empty() { 0 } else { highest.saturating_sub(1) };
            for temporal in lowest..=highest {
                let sent = if temporal == highest { TEMPORAL_LAYERS - 1 } else { temporal };
                let own: f64 = layer.rates[..=sent].iter().sum();
                let below: f64 = below[..=sent].iter().sum();
                grades.push(Grade {
                    layer: index as u8,
                    temporal: sent as u8,
                    bitrate_bps: if own > 0.0 { (below + own) as u64 } else { 0 },
                    height: self.height(index),
                });
            }
            if self.is_spatial {
                below.iter_mut().zip(layer.rates).for_each(|(below, rate)| *below += rate);
            }
        }
        grades
    }

    /// Stores the picture heights that a packet states. Spatial layers that it lists for the first time count as
    /// active: a subscriber that waited for their first packets would miss the keyframe that they begin with.
    fn on_heights(&mut self, now: Instant, packet: &Packet) {
        let heights = packet.description.heights;
        self.is_spatial |= heights[1] > 0;
        for (index, height) in (usize::from(packet.layer)..LAYERS).zip(heights).filter(|(_, height)| *height > 0) {
            self.layers[index].height = height;
            if self.seen & 1 << index == 0 {
                self.seen |= 1 << index;
                self.active |= 1 << index;
                self.layers[index].last_packet_at = Some(now);
                self.changed = true;
            }
        }
    }

    /// Returns the picture heights of all layers, the smallest first; 0 if unknown.
    pub fn heights(&self) -> [u16; LAYERS] {
        std::array::from_fn(|layer| self.height(layer))
    }

    /// Returns the picture height of a layer: as stated in its packets, else scaled from another layer; 0 if unknown.
    pub fn height(&self, layer: usize) -> u16 {
        let known = |layer: &usize| self.layers[*layer].height > 0;
        let Some(nearest) = (0..LAYERS).filter(known).min_by_key(|other| other.abs_diff(layer)) else {
            return if self.seen.count_ones() > 1 { ASSUMED_HEIGHTS[layer] } else { 0 };
        };
        let height = self.layers[nearest].height;
        if nearest > layer { height >> (nearest - layer) } else { height << (layer - nearest) }
    }
}

#[cfg(test)]
mod tests;
