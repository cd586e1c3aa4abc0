//! Reductions of the rate because of a standing queue. If other flows cause the queue, they have no effect.

use std::time::{Duration, Instant};

/// A standing queue must shrink to the fraction `SHRINK_RATIO` within `SHRINK_TIME` after the rate was lowered. If it does not
/// after `ATTEMPTS` reductions, other flows cause it, and lowering the rate further would only yield to them.
const SHRINK_TIME: Duration = Duration::from_secs(1);
const SHRINK_RATIO: f64 = 0.9;
const ATTEMPTS: u32 = 2;

/// The last reduction for a standing queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing(Option<Cut>);

#[derive(Clone, Copy, Debug)]
struct Cut {
    at: Instant,
    /// The queueing delay at that time, in milliseconds.
    queue_ms: f64,
    /// The number of earlier reductions that had no effect.
    attempts: u32,
}

/// What to do about a standing queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait for the effect of the last reduction.
    Wait,
    /// Lower the rate.
    Lower,
    /// Accept the queue: other flows cause it.
    Accept,
}

impl Standing {
    /// Forgets the last reduction.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Decides what to do about a queue of `queue_ms` milliseconds that stands now.
    pub fn step(&mut self, now: Instant, round_trip: Duration, queue_ms: f64) -> Step {
        let attempts = match self.0 {
            Some(cut) if now < cut.at + round_trip + SHRINK_TIME => return Step::Wait,
            Some(cut) if queue_ms > SHRINK_RATIO * cut.queue_ms => cut.attempts + 1,
            _ => 0,
        };
        if attempts >= ATTEMPTS {
            self.clear();
            return Step::Accept;
        }
        self.0 = Some(Cut { at: now, queue_ms, attempts });
        Step::Lower
    }
}
