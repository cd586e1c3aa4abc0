//! The bitrate that one peer's media needs, and when to allocate it again.

use std::time::{Duration, Instant};

use crate::media::subscribe::m_lines::MLines;
use crate::media::subscribe::outgoing::Outgoing;

/// An estimate that changed by less than 1/`ESTIMATE_STEP` counts as unchanged.
const ESTIMATE_STEP: u64 = 25;

/// Interval over which the bitrate of audio is measured. A longer one is steadier, and detects speech later.
const AUDIO_INTERVAL: Duration = Duration::from_secs(1);

/// Bitrate of one voice: Opus at its usual rate, with headers.
pub(super) const VOICE_BPS: u64 = 50_000;

/// Interval between allocations while the estimate is insufficient and unchanged: meanwhile some publishers may send
/// less.
const ALLOCATION_INTERVAL: Duration = Duration::from_secs(1);

/// The demand of one peer.
#[derive(Default)]
pub(super) struct Demand {
    /// The estimate at the last allocation.
    allocated_bps: u64,
    /// When to allocate again because the estimate was insufficient.
    next_allocation: Option<Instant>,
    /// The last measurement of the bitrate of audio.
    audio: Option<AudioRate>,
}

/// A measurement of the bitrate of audio.
#[derive(Clone, Copy)]
struct AudioRate {
    since: Instant,
    /// Bytes sent on all audio m-lines at `since`; wraps.
    bytes: u32,
    rate_bps: u64,
}

impl Demand {
    /// Records that an estimate was allocated. All of the wanted media would take `wanted_bps`.
    pub fn handle_allocation(&mut self, now: Instant, estimate_bps: u64, wanted_bps: u64) {
        self.allocated_bps = estimate_bps;
        self.next_allocation = (wanted_bps > estimate_bps).then_some(now + ALLOCATION_INTERVAL);
    }

    /// Whether the estimate differs from the one allocated last, or a repeated allocation is due.
    pub fn needs_allocation(&self, now: Instant, available_bps: Option<u64>) -> bool {
        let differs = |bps: u64| bps.abs_diff(self.allocated_bps) > self.allocated_bps / ESTIMATE_STEP;
        available_bps.is_some_and(differs) || self.next_allocation.is_some_and(|next| now >= next)
    }

    /// The bitrate of audio as last measured, but at least that of two voices: a silent participant may speak at any
    /// time.
    pub fn audio_bps(&mut self, now: Instant, m_lines: &MLines) -> u64 {
        let m_lines = || m_lines.iter().filter(|outgoing| outgoing.is_audio());
        let bytes = m_lines().map(Outgoing::sent_bytes).fold(0, u32::wrapping_add);
        let voices = VOICE_BPS * m_lines().count().min(2) as u64;
        if voices == 0 {
            self.audio = None;
            return 0;
        }
        let measured = self.audio.get_or_insert(AudioRate { since: now, bytes, rate_bps: 0 });
        let elapsed = now.saturating_duration_since(measured.since);
        if elapsed >= AUDIO_INTERVAL {
            // The sum of bytes decreases when an audio m-line is replaced.
            let difference = bytes.wrapping_sub(measured.bytes) as i32;
            if difference >= 0 {
                measured.rate_bps = (8.0 * f64::from(difference) / elapsed.as_secs_f64()) as u64;
            }
            measured.since = now;
            measured.bytes = bytes;
        }
        measured.rate_bps.max(voices)
    }
}
