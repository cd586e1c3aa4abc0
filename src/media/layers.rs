//! The layers of one published track: which of them come, how much each takes, and the keyframes asked of them.
//!
//! They are those of simulcast, each in its own SSRC, or the spatial ones of a single SSRC: then each is sent with all
//! below it, keyframes are asked of all together, and the publisher can't leave some out.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::media::allocation::{self, Grade};
use crate::media::keyframe::{KeyframeBudget, Reason};
use crate::media::packet::Packet;
use crate::media::sdp::RIDS;

/// Layers at most; higher spatial ones count as the highest.
pub const LAYERS: usize = RIDS.len();

/// Temporal layers that are told apart; higher ones count as the highest.
pub const TEMPORAL_LAYERS: usize = 3;

/// Grades of a track at most: the lowest layer has one for each temporal layer, the others two each.
pub const MAX_GRADES: usize = TEMPORAL_LAYERS + 2 * (LAYERS - 1);

/// Time between two looks at the rates. Shorter follows sooner, and takes each keyframe for a change.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A layer from which nothing came for so long, while another goes on, has been switched off. Shorter takes a slow
/// camera's pause for an end, longer freezes the picture of those who watch the layer.
const SILENCE: Duration = Duration::from_millis(600);

/// For how long a layer that nobody watches is still sent. Shorter makes keyframes of every moment that somebody looks
/// elsewhere, longer burns the publisher's uplink and battery.
const PATIENCE: Duration = Duration::from_secs(3);

/// Least time between two requests for keyframes of a track, of whatever layers: Chromium drops what comes within
/// 300 ms after another (libwebrtc, `EncoderRtcpFeedback`), and one that was dropped is repeated only after
/// `keyframe::SPACING`. Shorter loses requests to jitter, longer makes who waits for the second layer wait.
const REQUEST_SPACING: Duration = Duration::from_millis(330);

/// A keyframe counts as if it came over so many looks: a shared screen begins with one of 100 KB, for which cameras would
/// have to go that the link carries well. More believes less of a publisher that sends nothing but keyframes, for longer.
const KEYFRAME_LOOKS: u32 = 8;

/// Lines of the layers where no packet tells them.
const ASSUMED_HEIGHTS: [u16; LAYERS] = [180, 360, 720];

/// How long a layer is reported as oversized after a packet that was too large. A longer time reports a problem that is
/// over; with a shorter one the report flickers.
const OVERSIZED_MEMORY: Duration = Duration::from_secs(5);

/// A track of which nothing came for so long is silent. Browsers repeat a picture that stands still once a second. A
/// shorter time reports silence where two of these are lost; with a longer one it is reported later.
const QUIET: Duration = Duration::from_secs(3);

/// How much of a rate is what came since the last look.
const WEIGHT: f64 = 0.3;

/// What comes of one track.
#[derive(Debug, Default)]
pub struct Layers {
    layers: [Layer; LAYERS],
    /// Those that come, as bits, and those that ever came.
    active: u8,
    seen: u8,
    /// They are spatial layers of a single SSRC.
    is_spatial: bool,
    /// That, or what is known of them, has changed since it was last asked.
    changed: bool,
    looked_at: Option<Instant>,
    /// Nothing comes any more.
    is_silent: bool,
    /// When the last packet was dropped because it is too large.
    oversized_at: Option<Instant>,
    /// When a keyframe of any layer was last asked for.
    requested_at: Option<Instant>,
    /// How many layers, from the smallest, the publisher was last told that anybody wants, and since when fewer are.
    told: Option<u8>,
    fewer_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Layer {
    keyframes: KeyframeBudget,
    came_at: Option<Instant>,
    height: u16,
    /// Bytes since the last look, by temporal layer.
    bytes: [u32; TEMPORAL_LAYERS],
    /// Bits a second, by temporal layer.
    rates: [f64; TEMPORAL_LAYERS],
    /// RTP time of the last keyframe.
    keyframe: Option<u32>,
    /// Bytes of keyframes that are still to be spread over the time to come.
    keyed: u32,
}

impl Layers {
    /// Counts a packet that came, and of what layer it is.
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
        // Of what an estimate is about: small packets are mostly headers.
        let mut bytes = packet.wire_bytes() as u32;
        let source = &mut self.layers[usize::from(packet.layer)];
        if packet.incoming.can_start {
            source.keyframes.handle_start();
            if packet.preface.as_ref().is_some_and(|preface| preface.is_missing) {
                // Every subscriber gets it.
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

    /// A packet was dropped because it is too large.
    pub fn handle_oversized(&mut self, now: Instant) {
        self.changed |= self.oversized_at.replace(now).is_none();
    }

    /// Whether packets are dropped because they are too large.
    pub fn is_oversized(&self) -> bool {
        self.oversized_at.is_some()
    }

    /// Whether nothing comes of it any more, though the publisher was told that it is wanted.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Lets time pass while nothing may come. Says whether that has changed what subscribers are told.
    pub fn expire(&mut self, now: Instant) -> bool {
        let newest = self.layers.iter().filter_map(|layer| layer.came_at).max();
        let is_silent = self.told() > 0 && newest.is_some_and(|newest| now >= newest + QUIET);
        let is_over = self.oversized_at.is_some_and(|last| now >= last + OVERSIZED_MEMORY);
        if is_over {
            self.oversized_at = None;
        }
        is_silent && !std::mem::replace(&mut self.is_silent, is_silent) || is_over
    }

    /// Looks, not too often, at what has come since the last time; says whether it did.
    pub fn look(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(*self.looked_at.get_or_insert(now));
        if elapsed < LOOK_INTERVAL {
            return false;
        }
        self.looked_at = Some(now);
        for layer in &mut self.layers {
            // What was believed before may have been far off.
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

    /// Whether other layers come than when it was last asked, or it is known for the first time how much they take.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// So many layers are wanted, from the smallest. Says whether the publisher has to be told: at once of more, after
    /// a while of fewer.
    pub fn want(&mut self, now: Instant, wanted: u8) -> bool {
        let told = self.told();
        if wanted >= told {
            self.fewer_since = None;
        }
        let is_due = wanted > told || wanted < told && now >= *self.fewer_since.get_or_insert(now) + PATIENCE;
        if is_due {
            (self.told, self.fewer_since, self.is_silent) = (Some(wanted), None, false);
            // Those that are asked for again are as good as there: who waited for their first packets to choose them
            // would miss the keyframe that they begin with.
            for index in (told..wanted).filter(|index| self.seen & 1 << index != 0) {
                self.active |= 1 << index;
                self.changed = true;
                self.layers[usize::from(index)].came_at = Some(now);
            }
        }
        is_due
    }

    /// The publisher was told of an earlier track of the same m-line that so many layers are wanted, and has heard nothing
    /// else.
    pub fn resume(&mut self, told: u8) {
        self.told = Some(told);
    }

    /// How many layers the publisher was last told that anybody wants.
    pub fn told(&self) -> u8 {
        self.told.unwrap_or(LAYERS as u8)
    }

    /// Whether they are spatial layers of a single SSRC.
    pub fn is_spatial(&self) -> bool {
        self.is_spatial
    }

    /// Whether the publisher has layers of which it was told that nobody wants them.
    pub fn has_more(&self) -> bool {
        self.seen >> self.told() != 0
    }

    /// How many layers the publisher has to send where somebody wants so many of them: spatial ones come all, or none.
    pub fn needed(&self, wanted: u8) -> u8 {
        if self.is_spatial && wanted > 0 { LAYERS as u8 } else { wanted }
    }

    /// The layer of whose keyframes somebody can begin who wants another, if that one does not come.
    pub fn nearest(&self, layer: u8) -> u8 {
        if self.is_spatial {
            return 0;
        }
        let comes = |layer: &u8| self.active & 1 << layer != 0;
        (0..=layer).rev().find(comes).or_else(|| (layer..LAYERS as u8).find(comes)).unwrap_or(layer)
    }

    /// Somebody needs a keyframe of a layer.
    pub fn request_keyframe(&mut self, layer: u8, reason: Reason) {
        self.layers[usize::from(layer)].keyframes.request_keyframe(reason);
    }

    /// The layer of which a keyframe is to be asked for now, and why; if so it counts as asked for.
    ///
    /// Those who have no picture come before those who want another one. Of several layers it is the smallest, with
    /// which everybody can begin.
    pub fn poll_request(&mut self, now: Instant) -> Option<(u8, Reason)> {
        self.requested_at.is_none_or(|last| now >= last + REQUEST_SPACING).then_some(())?;
        // What does not come is not waited for, unless nothing comes.
        let comes = |layer: &u8| self.active == 0 || self.is_spatial || self.active & 1 << layer != 0;
        let due = (0..LAYERS as u8).filter(comes).filter_map(|layer| {
            let reason = self.layers[usize::from(layer)].keyframes.due(now)?;
            Some((reason.can_wait(), layer))
        });
        let (_, layer) = due.min()?;
        let reason = self.layers[usize::from(layer)].keyframes.poll_request(now)?;
        self.requested_at = Some(now);
        Some((layer, reason))
    }

    /// How many layers, from the smallest, a tile of so many device pixels can use; all, if the page does not tell.
    pub fn usable(&self, tile: Option<u32>) -> u8 {
        let enough = |tile| (0..LAYERS).find(|layer| allocation::is_enough(self.height(*layer), tile));
        match tile {
            Some(0) => 0,
            Some(tile) => enough(tile).map_or(LAYERS, |layer| layer + 1) as u8,
            None => LAYERS as u8,
        }
    }

    /// The ways in which the track can be sent, the least first: each layer that comes, the lowest of them also without its
    /// upper temporal layers, and each one above also without its highest temporal layer.
    pub fn grades(&self) -> SmallVec<[Grade; MAX_GRADES]> {
        let mut grades = SmallVec::new();
        // Bitrates of the layers that are sent with one, by temporal layer.
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

    /// A packet tells how large its picture is. Spatial layers of which it tells and that never came are as good as
    /// there: who waited for their first packets would miss the keyframe that they begin with.
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

    /// Lines of a layer's picture: what it told, else what another one makes of it; 0 if nothing is known.
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
    /// Takes what came into the rates; says whether they are the first.
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
    use crate::media::codec::Description;
    use crate::media::codec::parameter_sets::Preface;
    use crate::media::elements::Elements;
    use crate::media::forward::Incoming;

    /// 1,250 bytes on the wire.
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

    /// Lets packets come at 100 ms each, of these layers with these temporal layers; says when that changed something.
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
    fn layers_are_there_from_their_first_packet_and_gone_when_the_others_go_on() {
        let start = Instant::now();
        let mut layers = Layers::default();
        assert!(layers.grades().is_empty());
        assert_eq!(play(&mut layers, start, 0..500, &[(0, 0)]), [0, 300], "it is there, it is measured");
        assert_eq!(play(&mut layers, start, 500..3_000, &[(0, 0), (1, 0), (2, 0)]), [500, 600]);
        let of = |layers: &Layers| layers.grades().iter().map(|grade| (grade.layer, grade.height)).collect::<Vec<_>>();
        assert_eq!(of(&layers), [(0, 180), (1, 360), (2, 720)]);
        assert_eq!([2, 1, 0].map(|layer| layers.nearest(layer)), [2, 1, 0]);
        let gone = play(&mut layers, start, 3_000..5_000, &[(0, 0), (1, 0)]);
        assert!(gone.len() == 1 && (3_500..3_900).contains(&gone[0]), "{gone:?}");
        assert_eq!(of(&layers), [(0, 180), (1, 360)]);
        assert_eq!(layers.nearest(2), 1);
        // The camera is off: nothing is known of what it would send.
        assert_eq!(play(&mut layers, start, 5_000..9_000, &[]), [0; 0]);
        assert_eq!(of(&layers).len(), 2);
        assert_eq!(play(&mut layers, start, 9_000..9_300, &[(2, 0)]), [9_000]);
        assert_eq!(layers.nearest(1), 2, "and only that");
    }

    #[test]
    fn a_track_that_is_wanted_and_sends_nothing_for_three_seconds_is_silent() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut layers = Layers::default();
        assert!(!layers.expire(at(9_000)) && !layers.is_silent(), "nothing is known of it yet");
        let start = at(10_000);
        let at = |ms| start + Duration::from_millis(ms);
        play(&mut layers, start, 0..1_000, &[(0, 0)]);
        for (ms, is_news, is_silent) in [(3_800, false, false), (3_900, true, true), (5_000, false, true)] {
            assert_eq!((layers.expire(at(ms)), layers.is_silent()), (is_news, is_silent), "{ms} ms");
        }
        assert_eq!(play(&mut layers, start, 6_000..6_200, &[(0, 0)])[0], 6_000, "which is news");
        assert!(!layers.is_silent());
        // Who was told that nobody wants it may be silent.
        layers.want(at(6_200), 0);
        assert!(layers.want(at(9_200), 0));
        assert!(!layers.expire(at(20_000)) && !layers.is_silent());
        layers.want(at(20_000), 1);
        assert!(!layers.expire(at(22_000)), "it has to begin first");
        assert!(layers.expire(at(23_000)) && layers.is_silent());
        layers.handle_oversized(at(23_000));
        assert!(!layers.expire(at(27_900)) && layers.is_oversized());
        assert!(layers.expire(at(28_000)) && !layers.is_oversized());
    }

    #[test]
    fn layers_that_are_asked_for_again_are_counted_on_for_a_while() {
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
        assert_eq!(indices(&layers), [0, 1], "the third never came");
        let gone = play(&mut layers, start, 5_000..7_000, &[(0, 0)]);
        assert!(gone.len() == 1 && (5_600..6_000).contains(&gone[0]), "{gone:?}");
        assert_eq!(indices(&layers), [0]);
    }

    #[test]
    fn layers_can_be_sent_without_their_upper_temporal_layers_and_the_lowest_without_any() {
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

    /// Spatial layer, temporal layer.
    fn spatial(now: Instant, spatial: u8, temporal: u8) -> Packet {
        let mut packet = packet(now, 0, temporal, 0);
        packet.description.spatial = spatial;
        packet
    }

    /// The same as `play` of spatial layers in one SSRC.
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
    fn a_spatial_layer_costs_what_it_takes_with_those_below() {
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
        assert_eq!(grades.iter().map(kbps).collect::<Vec<_>>(), expected, "what is above the third is of it");
        assert!(layers.is_spatial());
        let needed = [0, 1, 2, 3].map(|wanted| layers.needed(wanted));
        assert_eq!((needed, [0, 1, 2].map(|layer| layers.nearest(layer))), ([0, 3, 3, 3], [0; 3]));
    }

    #[test]
    fn spatial_layers_are_there_when_a_keyframe_tells_of_them_and_gone_when_they_end() {
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
        assert_eq!(of(&layers), [(0, 90), (1, 180)], "one has never come");
        let later = start + Duration::from_secs(2);
        key.incoming.timestamp = 9;
        layers.handle_packet(later, &key);
        assert_eq!(of(&layers).len(), 2, "and is not believed in again");
        assert_eq!(play_spatial(&mut layers, start, 2_100..3_000, &[(0, 0), (1, 0), (2, 0)])[..1], [2_100]);
        assert_eq!(of(&layers).len(), 3, "before it comes");
        play_spatial(&mut layers, start, 3_000..5_000, &[(0, 0)]);
        assert_eq!((of(&layers), layers.is_spatial()), (vec![(0, 90)], true));
    }

    #[test]
    fn keyframes_are_of_all_spatial_layers_and_count_as_one() {
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
        assert!(before.iter().all(|difference| *difference < 100_000), "it is spread: {after:?}, {before:?} more");
        // Its bytes are those of all layers, and so is the rate: 2 * 94 kbit at 300 kbit/s.
        layers.request_keyframe(0, Reason::Switch);
        assert_eq!(layers.poll_request(now), Some((0, Reason::Switch)));
        layers.request_keyframe(0, Reason::Switch);
        let next = (1..5_000).find(|ms| layers.poll_request(now + Duration::from_millis(*ms)).is_some());
        assert!(next.is_some_and(|ms| (600..1_000).contains(&ms)), "{next:?}");
    }

    #[test]
    fn what_goes_in_front_of_each_keyframe_is_part_of_a_layers_rate() {
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
            layers.grades().last().expect("it comes").bitrate_bps
        };
        let plain = rate(None);
        assert_eq!(rate(Some(false)), plain, "only a new subscriber gets it");
        let part = rate(Some(true)) * 100 / plain;
        assert!((118..=122).contains(&part), "{part} % of {plain}: 250 bytes beside 1,250");
    }

    #[test]
    fn requests_for_two_layers_keep_a_distance_that_no_browser_drops() {
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
    fn who_has_no_picture_is_asked_for_first_and_the_smallest_layer_is_for_all() {
        let start = Instant::now();
        let mut layers = Layers::default();
        play(&mut layers, start, 0..1_000, &[(0, 0), (1, 0), (2, 0)]);
        let mut sent = Vec::new();
        for ms in 1_000..3_000 {
            let now = start + Duration::from_millis(ms);
            // Somebody comes each 50 ms until two seconds are over.
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
    fn a_keyframe_is_spread_and_keyframes_alone_count_in_full() {
        let start = Instant::now();
        let kbps = |layers: &Layers| layers.grades().last().expect("it comes").bitrate_bps / 1_000;
        let mut layers = Layers::default();
        // 100 KB at once, then 1,250 bytes each 100 ms.
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
    fn a_tile_can_use_as_many_layers_as_it_has_lines() {
        let start = Instant::now();
        let mut layers = Layers::default();
        let usable = |layers: &Layers| [Some(0), Some(90), Some(120), Some(400), None].map(|tile| layers.usable(tile));
        assert_eq!(usable(&layers), [0, 3, 3, 3, 3], "nothing is known yet");
        layers.handle_packet(start, &packet(start, 1, 0, 180));
        assert_eq!(usable(&layers), [0, 1, 1, 3, 3]);
        layers.handle_packet(start, &packet(start, 0, 0, 80));
        assert_eq!(usable(&layers), [0, 1, 2, 3, 3]);
    }

    #[test]
    fn more_is_asked_for_at_once_and_less_after_a_while() {
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
        for (ms, wanted, tells) in script {
            assert_eq!(layers.want(start + Duration::from_millis(ms), wanted), tells, "at {ms}");
        }
    }
}
