//! The bitrate that one peer's media needs, and when to allocate it again.

use std::time::{Duration, Instant};

use crate::media::subscribe::m_lines::MLines;
use crate::media::subscribe::outgoing::Outgoing;

/// An estimate that changed by less than one part in this many counts as unchanged.
const ESTIMATE_STEP: u64 = 25;

/// Interval over which the bitrate of sound is measured. A longer one is steadier, and detects speech later.
const SOUND_INTERVAL: Duration = Duration::from_secs(1);

/// Bitrate of one voice: Opus at its usual rate, with headers.
pub(super) const VOICE_BPS: u64 = 50_000;

/// Interval between allocations with an unchanged, insufficient estimate: the other publishers may send less by then.
const ALLOCATION_INTERVAL: Duration = Duration::from_secs(1);

/// The demand of one peer.
#[derive(Default)]
pub(super) struct Demand {
    /// The estimate at the last allocation.
    allocated_bps: u64,
    /// When to allocate again because the estimate was insufficient.
    next_allocation: Option<Instant>,
    /// The last measurement of the bitrate of sound.
    sound: Option<Sound>,
}

/// A measurement of the bitrate of sound.
#[derive(Clone, Copy)]
struct Sound {
    since: Instant,
    /// Bytes sent on all m-lines with sound at `since`; wraps.
    bytes: u32,
    rate_bps: u64,
}

impl Demand {
    /// Notes that an estimate was allocated; all of the wanted media would take `wanted_bps`.
    pub fn handle_allocation(&mut self, now: Instant, estimate_bps: u64, wanted_bps: u64) {
        self.allocated_bps = estimate_bps;
        self.next_allocation = (wanted_bps > estimate_bps).then_some(now + ALLOCATION_INTERVAL);
    }

    /// Whether the estimate differs from the one allocated last, or a repeated allocation is due.
    pub fn needs_allocation(&self, now: Instant, available_bps: Option<u64>) -> bool {
        let differs = |bps: u64| bps.abs_diff(self.allocated_bps) > self.allocated_bps / ESTIMATE_STEP;
        available_bps.is_some_and(differs) || self.next_allocation.is_some_and(|next| now >= next)
    }

    /// The bitrate of sound as last measured, but at least that of two voices: a silent participant may speak at any
    /// time.
    pub fn sound_bps(&mut self, now: Instant, m_lines: &MLines) -> u64 {
        let sounds = || m_lines.iter().filter(|outgoing| outgoing.is_audio());
        let bytes = sounds().map(Outgoing::sent_bytes).fold(0, u32::wrapping_add);
        let voices = VOICE_BPS * sounds().count().min(2) as u64;
        if voices == 0 {
            self.sound = None;
            return 0;
        }
        let sound = self.sound.get_or_insert(Sound { since: now, bytes, rate_bps: 0 });
        let elapsed = now.saturating_duration_since(sound.since);
        if elapsed >= SOUND_INTERVAL {
            // The sum of bytes decreases when an m-line with sound is replaced.
            let difference = bytes.wrapping_sub(sound.bytes) as i32;
            if difference >= 0 {
                sound.rate_bps = (8.0 * f64::from(difference) / elapsed.as_secs_f64()) as u64;
            }
            sound.since = now;
            sound.bytes = bytes;
        }
        sound.rate_bps.max(voices)
    }
}
