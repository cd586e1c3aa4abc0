//! When to gather datagrams: under a high arrival rate, the event loop waits briefly instead of waking for each
//! datagram, so that one turn handles many.

use std::time::{Duration, Instant};

/// Interval over which the arrival rate is measured. A shorter one mistakes the video frames of a few publishers, sent
/// at one moment, for a high rate; a longer one follows changes later.
const WINDOW: Duration = Duration::from_millis(20);

/// Arrival rates per millisecond at which gathering starts, and below which it stops. With lower rates a small call would
/// wait although a turn rarely finds a second datagram; with higher ones 25 rooms of four would not be gathered.
const BEGIN_PER_MS: f64 = 5.0;
const END_PER_MS: f64 = 3.0;

/// Measures the arrival rate and decides whether to gather.
pub struct Gather {
    /// How long one turn may wait; zero if datagrams are never gathered.
    wait: Duration,
    since: Instant,
    datagrams: usize,
    is_active: bool,
}

impl Gather {
    /// Creates a measurement that starts now.
    pub fn new(now: Instant, wait: Duration) -> Self {
        Self { wait, since: now, datagrams: 0, is_active: false }
    }

    /// Counts the datagrams of one turn.
    pub fn count(&mut self, now: Instant, datagrams: usize) {
        self.datagrams += datagrams;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < WINDOW {
            return;
        }
        let per_ms = self.datagrams as f64 / (elapsed.as_secs_f64() * 1_000.0);
        let least = if self.is_active { END_PER_MS } else { BEGIN_PER_MS };
        self.is_active = !self.wait.is_zero() && per_ms >= least;
        (self.since, self.datagrams) = (now, 0);
    }

    /// How long the next turn waits for more datagrams; `None` if it starts with the first one.
    pub fn wait(&self) -> Option<Duration> {
        self.is_active.then_some(self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Plays phases of datagrams per millisecond and a duration in milliseconds. Returns whether gathering is active at
    /// the end of each.
    fn simulate(wait: Duration, phases: &[(usize, u32)]) -> Vec<bool> {
        let mut now = Instant::now();
        let mut gather = Gather::new(now, wait);
        let mut found = Vec::new();
        for (per_ms, duration) in phases {
            for _ in 0..*duration {
                now += MS;
                gather.count(now, *per_ms);
            }
            found.push(gather.wait().is_some());
        }
        found
    }

    #[test]
    fn datagrams_are_gathered_while_the_rate_is_high() {
        let phases = [(4, 100), (6, 100), (4, 100), (2, 100), (4, 100)];
        assert_eq!(simulate(MS, &phases), [false, true, true, false, false]);
        assert_eq!(simulate(Duration::ZERO, &phases), [false; 5], "gathering is disabled");
    }

    #[test]
    fn video_frames_of_a_small_call_are_not_a_high_rate() {
        // Eight publishers send a frame of four packets at the same moment, 30 times a second, and audio.
        let (mut now, mut gather) = (Instant::now(), Gather::new(Instant::now(), MS));
        for at in 0..1_000 {
            now += MS;
            gather.count(now, if at % 33 == 0 { 32 } else { usize::from(at % 5 < 2) });
            assert_eq!(gather.wait(), None, "after {at} ms");
        }
    }

    #[test]
    fn gathering_ends_soon_after_the_last_datagram() {
        let (mut now, mut gather) = (Instant::now(), Gather::new(Instant::now(), MS));
        for _ in 0..100 {
            now += MS;
            gather.count(now, 20);
        }
        assert_eq!(gather.wait(), Some(MS));
        for _ in 0..2 * WINDOW.as_millis() {
            now += MS;
            gather.count(now, 0);
        }
        assert_eq!(gather.wait(), None);
    }
}
