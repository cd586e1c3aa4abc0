//! One layer of a published track: its bitrate, height and keyframes.

use std::time::{Duration, Instant};

use crate::media::publish::keyframe::KeyframeBudget;

/// The offered simulcast layers, smallest first (RFC 8851, RFC 8853): a quarter, half and all of the picture's width
/// and height.
pub const RIDS: [&str; 3] = ["q", "h", "f"];

/// Maximum number of layers; higher spatial layers count as the highest.
pub const LAYERS: usize = RIDS.len();

/// Number of temporal layers that are distinguished; higher ones count as the highest.
pub const TEMPORAL_LAYERS: usize = 3;

/// Number of measurements over which a keyframe is spread. A shared screen may begin with one of 100 KB; counted at
/// once, it would displace cameras although the path carries both. With a higher number, the bitrate of a publisher
/// that sends only keyframes is underestimated for longer.
const KEYFRAME_MEASUREMENTS: u32 = 8;

/// Weight of the last measurement in the smoothed bitrate.
const WEIGHT: f64 = 0.3;

/// The state of one layer.
#[derive(Debug, Default)]
pub(super) struct Layer {
    /// When to request a keyframe.
    pub(super) keyframes: KeyframeBudget,
    /// When its last packet arrived; `None` while it is inactive.
    pub(super) last_packet_at: Option<Instant>,
    /// Picture height; 0 if unknown.
    pub(super) height: u16,
    /// Bytes since the last measurement, by temporal layer.
    pub(super) bytes: [u32; TEMPORAL_LAYERS],
    /// Bitrate in bits per second, by temporal layer.
    pub(super) rates: [f64; TEMPORAL_LAYERS],
    /// RTP timestamp of the last keyframe.
    pub(super) keyframe: Option<u32>,
    /// Bytes of keyframes that are still to be spread over the next measurements.
    pub(super) pending_keyframe_bytes: u32,
}

impl Layer {
    /// Updates the bitrates with the bytes received in `elapsed`. Returns true if they are the first.
    pub(super) fn measure(&mut self, elapsed: Duration) -> bool {
        let is_first = self.rates.iter().all(|rate| *rate == 0.0);
        let weight = if is_first { 1.0 } else { WEIGHT };
        let share = self.pending_keyframe_bytes / KEYFRAME_MEASUREMENTS;
        self.pending_keyframe_bytes -= share;
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
