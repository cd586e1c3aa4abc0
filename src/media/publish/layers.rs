//! The layers of one published track: which of them are active, their bitrates, and the keyframe requests to the
//! publisher.
//!
//! They are simulcast layers, each with its own SSRC, or spatial layers in a single SSRC. A spatial layer is sent with
//! all layers below it, a keyframe covers all of them, and the publisher cannot pause some of them.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::media::negotiation::sdp::RIDS;
use crate::media::publish::keyframe::{KeyframeBudget, Reason};
use crate::media::rtp::packet::Packet;
use crate::media::subscribe::allocation::{self, Grade};

/// Maximum number of layers; higher spatial layers count as the highest.
pub const LAYERS: usize = RIDS.len();

/// Number of temporal layers that are distinguished; higher ones count as the highest.
pub const TEMPORAL_LAYERS: usize = 3;

/// Maximum number of grades of a track: the lowest layer has one per temporal layer, the others have two each.
pub const MAX_GRADES: usize = TEMPORAL_LAYERS + 2 * (LAYERS - 1);

/// Time between two measurements of the bitrates. A shorter interval reacts sooner, but mistakes each keyframe for a
/// change.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A layer without packets for this long, while another continues, is inactive. A shorter time mistakes a pause of a
/// slow camera for the end, a longer one freezes the picture of the layer's subscribers.
const SILENCE: Duration = Duration::from_millis(600);

/// Time for which a layer that no subscriber wants is still sent. A shorter time costs a keyframe whenever a subscriber
/// looks elsewhere for a moment, a longer one wastes the publisher's uplink and battery.
const PATIENCE: Duration = Duration::from_secs(3);

/// Minimum time between two keyframe requests for a track, whatever their layers. Chromium drops a request within 300
/// ms of another (libwebrtc, `EncoderRtcpFeedback`), and a dropped one is repeated only after `keyframe::SPACING`. A
/// shorter time loses requests to jitter, a longer one delays subscribers of the second layer.
const REQUEST_SPACING: Duration = Duration::from_millis(330);

/// Number of measurements over which a keyframe is spread. A shared screen may begin with one of 100 KB; counted at
/// once, it would displace cameras although the path carries both. A higher number underestimates a publisher that
/// sends only keyframes for longer.
const KEYFRAME_LOOKS: u32 = 8;

/// Picture heights of the layers if no packet states them.
const ASSUMED_HEIGHTS: [u16; LAYERS] = [180, 360, 720];

/// Time for which a track is reported as oversized after a packet that was too large. A longer time reports a problem
/// that is over; with a shorter one the report flickers.
const OVERSIZED_MEMORY: Duration = Duration::from_secs(5);

/// A track without packets for this long is silent. Browsers repeat a still picture once per second. A shorter time
/// reports silence when two of these are lost, a longer one reports it late.
const QUIET: Duration = Duration::from_secs(3);

/// Weight of the last measurement in the smoothed bitrate.
const WEIGHT: f64 = 0.3;

/// State of the layers of one track.
#[derive(Debug, Default)]
pub struct Layers {
    layers: [Layer; LAYERS],
    /// Bit masks of the active layers, and of those that have ever been active.
    active: u8,
    seen: u8,
    /// The layers are spatial layers of a single SSRC.
    is_spatial: bool,
    /// The active layers, or what is known of them, have changed since the last `take_changed`.
    changed: bool,
    look_due: Option<Instant>,
    /// The publisher sends nothing although the track is wanted.
    is_silent: bool,
    /// When a packet was last dropped because it was too large.
    oversized_at: Option<Instant>,
    /// When a keyframe of any layer was last requested.
    requested_at: Option<Instant>,
    /// Number of layers, from the smallest, that the publisher was last told to send; and since when fewer are wanted.
    told: Option<u8>,
    fewer_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Layer {
    keyframes: KeyframeBudget,
    came_at: Option<Instant>,
    height: u16,
    /// Bytes since the last measurement, by temporal layer.
    bytes: [u32; TEMPORAL_LAYERS],
    /// Bitrate in bits per second, by temporal layer.
    rates: [f64; TEMPORAL_LAYERS],
    /// RTP timestamp of the last keyframe.
    keyframe: Option<u32>,
    /// Bytes of keyframes that are still to be spread over the next measurements.
    keyed: u32,
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
        layer.came_at = Some(now);
        if is_key {
            layer.keyed += bytes;
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

    /// Returns true if the publisher sends nothing although it was told that the track is wanted.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Updates the state that depends on time when no packets arrive. Returns true if that changes the reports to
    /// subscribers.
    pub fn expire(&mut self, now: Instant) -> bool {
        let newest = self.layers.iter().filter_map(|layer| layer.came_at).max();
        let is_silent = self.told() > 0 && newest.is_some_and(|newest| now >= newest + QUIET);
        let is_over = self.oversized_at.is_some_and(|last| now >= last + OVERSIZED_MEMORY);
        if is_over {
            self.oversized_at = None;
        }
        is_silent && !std::mem::replace(&mut self.is_silent, is_silent) || is_over
    }

    /// Measures the bitrates of the layers and detects inactive ones. Returns false if the last measurement is too
    /// recent.
    pub fn look(&mut self, now: Instant) -> bool {
        let due = *self.look_due.get_or_insert_with(|| now + LOOK_INTERVAL);
        if now < due {
            return false;
        }
        let elapsed = LOOK_INTERVAL + (now - due);
        self.look_due = Some(now + LOOK_INTERVAL);
        for layer in &mut self.layers {
            // The assumed bitrate may have been far off.
            self.changed |= layer.measure(elapsed);
        }
        if self.is_spatial {
            let rate = self.layers.iter().flat_map(|layer| layer.rates).sum::<f64>();
            self.layers[0].keyframes.handle_rate(rate as u64);
        }
        if self.oversized_at.is_some_and(|last| now >= last + OVERSIZED_MEMORY) {
            (self.oversized_at, self.changed) = (None, true);
        }
        let newest = self.layers.iter().filter_map(|layer| layer.came_at).max();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let is_silent = layer.came_at.is_some_and(|came| newest.is_some_and(|newest| newest > came + SILENCE));
            if is_silent {
                self.active &= !(1 << index);
                self.changed = true;
                (layer.rates, layer.came_at) = (Default::default(), None);
            }
        }
        true
    }

    /// Returns true if the active layers have changed since the last call, or a bitrate has been measured for the first
    /// time.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Sets how many layers are wanted, from the smallest. Returns true if the publisher has to be told: at once if
    /// there are more than it was told, after a delay if there are fewer.
    pub fn want(&mut self, now: Instant, wanted: u8) -> bool {
        let told = self.told();
        if wanted >= told {
            self.fewer_since = None;
        }
        let is_due = wanted > told || wanted < told && now >= *self.fewer_since.get_or_insert(now) + PATIENCE;
        if is_due {
            (self.told, self.fewer_since, self.is_silent) = (Some(wanted), None, false);
            // Layers that are resumed count as active at once: a subscriber that chose them only after their first
            // packets would miss the keyframe that they begin with.
            for index in (told..wanted).filter(|index| self.seen & 1 << index != 0) {
                self.active |= 1 << index;
                self.changed = true;
                self.layers[usize::from(index)].came_at = Some(now);
            }
        }
        is_due
    }

    /// Takes over the number of layers that the publisher was told for an earlier track of the same m-line.
    pub fn resume(&mut self, told: u8) {
        self.told = Some(told);
    }

    /// Returns the number of layers that the publisher was last told to send.
    pub fn told(&self) -> u8 {
        self.told.unwrap_or(LAYERS as u8)
    }

    /// Returns true if the layers are spatial layers of a single SSRC.
    pub fn is_spatial(&self) -> bool {
        self.is_spatial
    }

    /// Returns true if the publisher has layers that it was told not to send.
    pub fn has_more(&self) -> bool {
        self.seen >> self.told() != 0
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

    /// Returns how many layers, from the smallest, a tile of this height in device pixels can use; all if the page does
    /// not report the height.
    pub fn usable(&self, tile: Option<u32>) -> u8 {
        let enough = |tile| (0..LAYERS).find(|layer| allocation::is_enough(self.height(*layer), tile));
        match tile {
            Some(0) => 0,
            Some(tile) => enough(tile).map_or(LAYERS, |layer| layer + 1) as u8,
            None => LAYERS as u8,
        }
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

    /// Takes over the picture heights of a packet. Spatial layers that it lists for the first time count as active: a
    /// subscriber that waited for their first packets would miss the keyframe that they begin with.
    fn on_heights(&mut self, now: Instant, packet: &Packet) {
        let heights = packet.description.heights;
        self.is_spatial |= heights[1] > 0;
        for (index, height) in (usize::from(packet.layer)..LAYERS).zip(heights).filter(|(_, height)| *height > 0) {
            self.layers[index].height = height;
            if self.seen & 1 << index == 0 {
                self.seen |= 1 << index;
                self.active |= 1 << index;
                self.layers[index].came_at = Some(now);
                self.changed = true;
            }
        }
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

impl Layer {
    /// Updates the bitrates with the bytes received in `elapsed`. Returns true if they are the first.
    fn measure(&mut self, elapsed: Duration) -> bool {
        let is_first = self.rates.iter().all(|rate| *rate == 0.0);
        let weight = if is_first { 1.0 } else { WEIGHT };
        let share = self.keyed / KEYFRAME_LOOKS;
        self.keyed -= share;
        self.bytes[0] += share;
        for (rate, bytes) in self.rates.iter_mut().zip(&mut self.bytes) {
            let now = 8.0 * f64::from(std::mem::take(bytes)) / elapsed.as_secs_f64();
            *rate += (now - *rate) * weight;
        }
        let rate_bps = self.rates.iter().sum::<f64>() as u64;
        self.keyframes.handle_rate(rate_bps);
        is_first && rate_bps > 0
    }
}

#[cfg(test)]
mod tests {
    use str0m::format::Codec;
    use str0m::media::{Frequency, Mid};

    use super::*;
    use crate::media::rtp::codec::Description;
    use crate::media::rtp::codec::parameter_sets::Preface;
    use crate::media::rtp::elements::Elements;
    use crate::media::rtp::packet::Incoming;

    /// A packet of 1,250 bytes on the wire.
    fn packet(now: Instant, layer: u8, temporal: u8, height: u16) -> Packet {
        Packet {
            mid: Mid::from("0"),
            layer,
            codec: Codec::Vp8,
            incoming: Incoming {
                ssrc: u32::from(layer),
                epoch: 0,
                seq_no: 0,
                timestamp: 1,
                clock_rate: Frequency::NINETY_KHZ,
                captured: now,
                can_start: height > 0,
                has_preface: false,
            },
            description: Description {
                temporal,
                heights: [height, 0, 0],
                starts_keyframe: height > 0,
                ..Description::default()
            },
            redundant: None,
            preface: None,
            payload: vec![0; 1_180].into(),
            marker: false,
            elements: Elements::default(),
            position: 0,
        }
    }

    /// Plays one packet of each of these (layer, temporal layer) pairs per 100 ms. Returns the times of the changes.
    fn play(layers: &mut Layers, start: Instant, millis: std::ops::Range<u64>, coming: &[(u8, u8)]) -> Vec<u64> {
        let mut changes = Vec::new();
        for ms in millis.step_by(100) {
            let now = start + Duration::from_millis(ms);
            for (layer, temporal) in coming {
                layers.handle_packet(now, &packet(now, *layer, *temporal, 0));
            }
            layers.look(now);
            if layers.take_changed() {
                changes.push(ms);
            }
        }
        changes
    }

    #[test]
    fn layers_are_active_from_their_first_packet_until_they_stop_while_others_continue() {
        let start = Instant::now();
        let mut layers = Layers::default();
        assert!(layers.grades().is_empty());
        assert_eq!(play(&mut layers, start, 0..500, &[(0, 0)]), [0, 300], "active, then measured");
        assert_eq!(play(&mut layers, start, 500..3_000, &[(0, 0), (1, 0), (2, 0)]), [500, 600]);
        let of = |layers: &Layers| layers.grades().iter().map(|grade| (grade.layer, grade.height)).collect::<Vec<_>>();
        assert_eq!(of(&layers), [(0, 180), (1, 360), (2, 720)]);
        assert_eq!([2, 1, 0].map(|layer| layers.nearest(layer)), [2, 1, 0]);
        let gone = play(&mut layers, start, 3_000..5_000, &[(0, 0), (1, 0)]);
        assert!(gone.len() == 1 && (3_500..3_900).contains(&gone[0]), "{gone:?}");
        assert_eq!(of(&layers), [(0, 180), (1, 360)]);
        assert_eq!(layers.nearest(2), 1);
        // The camera is off: the layers that it would send are not known.
        assert_eq!(play(&mut layers, start, 5_000..9_000, &[]), [0; 0]);
        assert_eq!(of(&layers).len(), 2);
        assert_eq!(play(&mut layers, start, 9_000..9_300, &[(2, 0)]), [9_000]);
        assert_eq!(layers.nearest(1), 2, "the only active layer");
    }

    #[test]
    fn a_wanted_track_without_packets_for_three_seconds_is_silent() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut layers = Layers::default();
        assert!(!layers.expire(at(9_000)) && !layers.is_silent(), "no packet has arrived yet");
        let start = at(10_000);
        let at = |ms| start + Duration::from_millis(ms);
        play(&mut layers, start, 0..1_000, &[(0, 0)]);
        for (ms, is_news, is_silent) in [(3_800, false, false), (3_900, true, true), (5_000, false, true)] {
            assert_eq!((layers.expire(at(ms)), layers.is_silent()), (is_news, is_silent), "{ms} ms");
        }
        assert_eq!(play(&mut layers, start, 6_000..6_200, &[(0, 0)])[0], 6_000, "the end of the silence is a change");
        assert!(!layers.is_silent());
        // A publisher that was told that the track is not wanted may be silent.
        layers.want(at(6_200), 0);
        assert!(layers.want(at(9_200), 0));
        assert!(!layers.expire(at(20_000)) && !layers.is_silent());
        layers.want(at(20_000), 1);
        assert!(!layers.expire(at(22_000)), "the publisher has to resume first");
        assert!(layers.expire(at(23_000)) && layers.is_silent());
        layers.handle_oversized(at(23_000));
        assert!(!layers.expire(at(27_900)) && layers.is_oversized());
        assert!(layers.expire(at(28_000)) && !layers.is_oversized());
    }

    #[test]
    fn resumed_layers_count_as_active_for_a_while() {
        let start = Instant::now();
        let mut layers = Layers::default();
        let indices = |layers: &Layers| layers.grades().iter().map(|grade| grade.layer).collect::<Vec<_>>();
        play(&mut layers, start, 0..1_000, &[(0, 0), (1, 0)]);
        for ms in [1_000, 4_000] {
            layers.want(start + Duration::from_millis(ms), 1);
        }
        play(&mut layers, start, 1_000..5_000, &[(0, 0)]);
        assert_eq!(indices(&layers), [0]);
        assert!(layers.want(start + Duration::from_millis(5_000), 3));
        assert!(layers.take_changed());
        assert_eq!(indices(&layers), [0, 1], "the third was never active");
        let gone = play(&mut layers, start, 5_000..7_000, &[(0, 0)]);
        assert!(gone.len() == 1 && (5_600..6_000).contains(&gone[0]), "{gone:?}");
        assert_eq!(indices(&layers), [0]);
    }

    #[test]
    fn grades_leave_out_the_highest_temporal_layer_and_in_the_lowest_layer_all_upper_ones() {
        let start = Instant::now();
        let mut layers = Layers::default();
        play(&mut layers, start, 0..5_000, &[(0, 0), (0, 2), (0, 1), (0, 2), (1, 0), (1, 1)]);
        let grades = layers.grades();
        let kbps = |grade: &Grade| (grade.layer, grade.temporal, (grade.bitrate_bps + 2_000) / 5_000 * 5);
        let expected = [(0, 0, 100), (0, 1, 200), (0, 2, 400), (1, 0, 100), (1, 2, 200)];
        assert_eq!(grades.iter().map(kbps).collect::<Vec<_>>(), expected);
        play(&mut layers, start, 5_000..15_000, &[(0, 0), (1, 0), (1, 1), (1, 2), (1, 2)]);
        let grades: Vec<_> = layers.grades().iter().filter(|grade| grade.layer == 1).map(kbps).collect();
        assert_eq!(grades, [(1, 1, 200), (1, 2, 400)], "half of the pictures");
    }

    /// A packet of this spatial and temporal layer.
    fn spatial(now: Instant, spatial: u8, temporal: u8) -> Packet {
        let mut packet = packet(now, 0, temporal, 0);
        packet.description.spatial = spatial;
        packet
    }

    /// The same as `play` for spatial layers in one SSRC.
    fn play_spatial(
        layers: &mut Layers,
        start: Instant,
        millis: std::ops::Range<u64>,
        coming: &[(u8, u8)],
    ) -> Vec<u64> {
        let mut changes = Vec::new();
        for ms in millis.step_by(100) {
            let now = start + Duration::from_millis(ms);
            coming.iter().for_each(|(layer, temporal)| layers.handle_packet(now, &spatial(now, *layer, *temporal)));
            layers.look(now);
            if layers.take_changed() {
                changes.push(ms);
            }
        }
        changes
    }

    #[test]
    fn the_bitrate_of_a_spatial_layer_includes_those_below() {
        let start = Instant::now();
        let mut layers = Layers::default();
        play_spatial(&mut layers, start, 0..5_000, &[(0, 0), (0, 2), (1, 0), (1, 0), (1, 2), (2, 0), (3, 0), (3, 2)]);
        let grades = layers.grades();
        let kbps = |grade: &Grade| (grade.layer, grade.temporal, (grade.bitrate_bps + 2_000) / 5_000 * 5, grade.height);
        let expected = [
            (0, 0, 100, 180),
            (0, 1, 100, 180),
            (0, 2, 200, 180),
            (1, 1, 300, 360),
            (1, 2, 500, 360),
            (2, 1, 500, 720),
            (2, 2, 800, 720),
        ];
        assert_eq!(grades.iter().map(kbps).collect::<Vec<_>>(), expected, "higher layers count as the third");
        assert!(layers.is_spatial());
        let needed = [0, 1, 2, 3].map(|wanted| layers.needed(wanted));
        assert_eq!((needed, [0, 1, 2].map(|layer| layers.nearest(layer))), ([0, 3, 3, 3], [0; 3]));
    }

    #[test]
    fn spatial_layers_are_active_when_a_keyframe_lists_them_until_they_stop() {
        let start = Instant::now();
        let mut layers = Layers::default();
        let of = |layers: &Layers| layers.grades().iter().map(|grade| (grade.layer, grade.height)).collect::<Vec<_>>();
        let mut key = packet(start, 0, 0, 90);
        key.description.heights = [90, 180, 360];
        layers.handle_packet(start, &key);
        assert_eq!(of(&layers), [(0, 90), (1, 180), (2, 360)]);
        assert_eq!([None, Some(0), Some(90), Some(200)].map(|tile| layers.usable(tile)), [3, 0, 1, 2]);
        let gone = play_spatial(&mut layers, start, 100..2_000, &[(0, 0), (1, 0)]);
        assert!(gone.iter().any(|ms| (600..=900).contains(ms)), "{gone:?}");
        assert_eq!(of(&layers), [(0, 90), (1, 180)], "the third never sent a packet");
        let later = start + Duration::from_secs(2);
        key.incoming.timestamp = 9;
        layers.handle_packet(later, &key);
        assert_eq!(of(&layers).len(), 2, "a second listing does not activate it");
        assert_eq!(play_spatial(&mut layers, start, 2_100..3_000, &[(0, 0), (1, 0), (2, 0)])[..1], [2_100]);
        assert_eq!(of(&layers).len(), 3, "active from its first packet");
        play_spatial(&mut layers, start, 3_000..5_000, &[(0, 0)]);
        assert_eq!((of(&layers), layers.is_spatial()), (vec![(0, 90)], true));
    }

    #[test]
    fn a_keyframe_covers_all_spatial_layers() {
        let start = Instant::now();
        let mut layers = Layers::default();
        play_spatial(&mut layers, start, 0..5_000, &[(0, 0), (1, 0), (2, 0)]);
        let now = start + Duration::from_secs(5);
        let mut before: Vec<_> = layers.grades().iter().map(|grade| grade.bitrate_bps).collect();
        for (at, spatial) in [0, 0, 1, 1, 1, 2, 2, 2, 2, 2].into_iter().enumerate() {
            let mut packet = packet(now, 0, 0, if at == 0 { 180 } else { 0 });
            (packet.incoming.timestamp, packet.description.spatial) = (77, spatial);
            layers.handle_packet(now, &packet);
        }
        layers.look(now + LOOK_INTERVAL);
        let after: Vec<_> = layers.grades().iter().map(|grade| grade.bitrate_bps).collect();
        before.iter_mut().zip(&after).for_each(|(before, after)| *before = after.abs_diff(*before));
        assert!(before.iter().all(|difference| *difference < 100_000), "not spread: {after:?}, differences {before:?}");
        // Its bytes and the bitrate are those of all layers: 2 * 94 kbit at 300 kbit/s.
        layers.request_keyframe(0, Reason::Switch);
        assert_eq!(layers.poll_request(now), Some((0, Reason::Switch)));
        layers.request_keyframe(0, Reason::Switch);
        let next = (1..5_000).find(|ms| layers.poll_request(now + Duration::from_millis(*ms)).is_some());
        assert!(next.is_some_and(|ms| (600..1_000).contains(&ms)), "{next:?}");
    }

    #[test]
    fn a_preface_sent_with_each_keyframe_is_part_of_the_layers_rate() {
        let start = Instant::now();
        let rate = |preface: Option<bool>| {
            let mut layers = Layers::default();
            for ms in (0..20_000).step_by(100) {
                let now = start + Duration::from_millis(ms);
                let mut packet = packet(now, 0, 0, 180);
                packet.incoming.timestamp = ms as u32;
                let preface = preface.map(|is_missing| Preface { payload: vec![0; 180].into(), is_missing });
                packet.preface = preface.map(Box::new);
                layers.handle_packet(now, &packet);
                layers.look(now);
            }
            layers.grades().last().expect("the layer is active").bitrate_bps
        };
        let plain = rate(None);
        assert_eq!(rate(Some(false)), plain, "only new subscribers get the preface");
        let part = rate(Some(true)) * 100 / plain;
        assert!((118..=122).contains(&part), "{part} % of {plain}: 250 bytes beside 1,250");
    }

    #[test]
    fn requests_for_two_layers_are_spaced_so_that_browsers_drop_none() {
        let start = Instant::now();
        let mut layers = Layers::default();
        play(&mut layers, start, 0..1, &[(0, 0), (2, 0)]);
        let mut sent = Vec::new();
        for ms in 0..2_000 {
            let now = start + Duration::from_millis(ms);
            match ms {
                0 => layers.request_keyframe(0, Reason::Switch),
                270 | 1_500 => layers.request_keyframe(2, Reason::Switch),
                _ => {}
            }
            if let Some((layer, _)) = layers.poll_request(now) {
                sent.push((ms, layer));
                layers.handle_packet(now, &packet(now, layer, 0, 180));
            }
        }
        assert_eq!(sent, [(0, 0), (330, 2), (1_500, 2)]);
    }

    #[test]
    fn requests_of_subscribers_without_a_picture_and_of_the_smallest_layer_come_first() {
        let start = Instant::now();
        let mut layers = Layers::default();
        play(&mut layers, start, 0..1_000, &[(0, 0), (1, 0), (2, 0)]);
        let mut sent = Vec::new();
        for ms in 1_000..3_000 {
            let now = start + Duration::from_millis(ms);
            // A subscriber joins every 50 ms for the first second.
            if ms < 2_000 && ms % 50 == 0 {
                layers.request_keyframe(2, Reason::Switch);
                layers.request_keyframe((ms / 50 % 2) as u8, Reason::Join);
            }
            if let Some((layer, reason)) = layers.poll_request(now) {
                sent.push((ms, layer, reason));
                layers.handle_packet(now, &packet(now, layer, 0, 180));
            }
        }
        use Reason::{Join, Switch};
        let expected = [
            (1_000, 0, Join),
            (1_330, 1, Join),
            (1_660, 0, Join),
            (1_990, 1, Join),
            (2_320, 0, Join),
            (2_650, 2, Switch),
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_keyframe_is_spread_and_a_stream_of_keyframes_counts_in_full() {
        let start = Instant::now();
        let kbps = |layers: &Layers| layers.grades().last().expect("the layer is active").bitrate_bps / 1_000;
        let mut layers = Layers::default();
        // 100 KB at once, then 1,250 bytes per 100 ms.
        let key = packet(start, 0, 0, 360);
        (0..80).for_each(|_| layers.handle_packet(start, &key));
        let mut highest = 0;
        for number in 1..60 {
            let now = start + Duration::from_millis(100 * number);
            let mut packet = packet(now, 0, 0, 0);
            packet.incoming.timestamp = number as u32 + 1;
            layers.handle_packet(now, &packet);
            layers.look(now);
            highest = highest.max(kbps(&layers));
        }
        assert!((300..600).contains(&highest) && kbps(&layers) < 160, "{highest}, then {}", kbps(&layers));
        let mut layers = Layers::default();
        for number in 0..150 {
            let now = start + Duration::from_millis(100 * number);
            let mut packet = packet(now, 0, 0, 360);
            packet.incoming.timestamp = number as u32;
            layers.handle_packet(now, &packet);
            layers.look(now);
        }
        assert!((90..=105).contains(&kbps(&layers)), "{}", kbps(&layers));
    }

    #[test]
    fn the_height_of_a_tile_limits_the_usable_layers() {
        let start = Instant::now();
        let mut layers = Layers::default();
        let usable = |layers: &Layers| [Some(0), Some(90), Some(120), Some(400), None].map(|tile| layers.usable(tile));
        assert_eq!(usable(&layers), [0, 3, 3, 3, 3], "no height is known");
        layers.handle_packet(start, &packet(start, 1, 0, 180));
        assert_eq!(usable(&layers), [0, 1, 1, 3, 3]);
        layers.handle_packet(start, &packet(start, 0, 0, 80));
        assert_eq!(usable(&layers), [0, 1, 2, 3, 3]);
    }

    #[test]
    fn more_layers_are_requested_at_once_and_fewer_after_a_delay() {
        let start = Instant::now();
        let mut layers = Layers::default();
        let script = [
            (0, 3, false),
            (100, 1, false),
            (2_000, 2, false),
            (2_500, 3, false),
            (3_500, 1, false),
            (6_400, 1, false),
            (6_500, 1, true),
            (6_600, 1, false),
            (6_700, 2, true),
            (6_800, 0, false),
            (9_900, 0, true),
            (9_950, 1, true),
        ];
        for (ms, wanted, is_reported) in script {
            assert_eq!(layers.want(start + Duration::from_millis(ms), wanted), is_reported, "at {ms}");
        }
    }
}
