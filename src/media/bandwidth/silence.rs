//! Detector of silence: packets are sent, and no feedback arrives.

use std::time::{Duration, Instant};

/// Time without feedback, in addition to two round trips, after which the estimate is halved while packets are sent.
/// Shorter mistakes a lost feedback message for an outage; longer floods a dead path.
const SILENCE: Duration = Duration::from_secs(1);

/// Upper bound of the round-trip time in that sum: a standing queue can raise it to seconds.
const SILENT_ROUND_TRIP: Duration = Duration::from_millis(300);

/// When the first and the last packet since the last feedback were sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence(Option<(Instant, Instant)>);

impl Silence {
    /// Counts a packet that is being sent.
    #[inline]
    pub fn push(&mut self, now: Instant) {
        self.0 = Some((self.0.map_or(now, |(first, _)| first), now));
    }

    /// Handles feedback, or restarts the detection after a silence.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Returns true if packets have been sent for too long without feedback.
    pub fn is_silent(&self, round_trip: Duration) -> bool {
        let Some((first, last)) = self.0 else { return false };
        let least = first + SILENCE;
        last >= least && last >= least + 2 * round_trip.min(SILENT_ROUND_TRIP)
    }
}
