//! Pacer for the packets to one subscriber. Normal traffic leaves at once; bursts are spread, so that a keyframe does
//! not fill the queue of a slow link.

use std::time::{Duration, Instant};

/// Pacing rate as a multiple of the estimate: on a narrow path, and from twice `NARROW_BPS` on. With a lower value a
/// keyframe waits longer here; with a higher one it waits in the queue of the path and delays the audio behind it, most
/// of all on a narrow path.
const NARROW_FACTOR: f64 = 1.25;
const FACTOR: f64 = 2.5;

/// Estimate up to which a path is narrow. Above it the factor grows in proportion to the estimate.
const NARROW_BPS: f64 = 1e6;

/// Packets are held for at most this time divided by the pacing factor; the path needs 250 ms to carry what leaves in that
/// time. A longer time delays the picture more than the queue of the path would, a shorter one lets large
/// keyframes fill that queue.
const PATIENCE: Duration = Duration::from_millis(250);

/// Burst that may leave at once: this time at the pacing rate, or this many bytes (ten packets). A larger burst causes
/// more loss where queues are short; a smaller one makes the event loop wake up for ordinary frames.
const BURST: Duration = Duration::from_millis(5);
const BURST_BYTES: f64 = 12_000.0;

/// Shortest time until held packets leave. With a shorter one the event loop wakes up for each packet of a keyframe on
/// a wide path; a longer one sends larger bursts.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// Burst on a narrow path: what the estimate carries in this time, but at least two packets. A longer time delays audio
/// behind video, a shorter one makes the event loop wake up for audio.
const NARROW_BURST: Duration = Duration::from_millis(30);
const MIN_BURST_BYTES: f64 = 2_400.0;

/// A token bucket in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    tokens: f64,
    filled: Instant,
    /// Refill rate in bytes per second.
    rate: f64,
    burst: f64,
    patience: Duration,
}

impl Pacer {
    /// The longest time for which packets may be held.
    pub const MAX_PATIENCE: Duration = Duration::from_nanos((PATIENCE.as_nanos() as f64 / NARROW_FACTOR) as u64);

    /// Creates a full bucket for an estimate.
    pub fn new(now: Instant, estimate_bps: u64) -> Self {
        let mut pacer = Self { tokens: 0.0, filled: now, rate: 0.0, burst: 0.0, patience: PATIENCE };
        pacer.set_estimate(now, estimate_bps, false);
        pacer.tokens = pacer.burst;
        pacer
    }

    /// Sets the pacing rate from an estimate. One that is not measured is a guess, often too low.
    pub fn set_estimate(&mut self, now: Instant, estimate_bps: u64, is_measured: bool) {
        let estimate = estimate_bps.max(1) as f64;
        let narrow_factor = (NARROW_FACTOR * estimate / NARROW_BPS).clamp(NARROW_FACTOR, FACTOR);
        let factor = if is_measured { narrow_factor } else { FACTOR };
        let rate = factor * estimate / 8.0;
        if rate == self.rate {
            return;
        }
        self.fill(now);
        self.rate = rate;
        self.patience = PATIENCE.div_f64(factor);
        let least = (estimate / 8.0 * NARROW_BURST.as_secs_f64()).clamp(MIN_BURST_BYTES, BURST_BYTES);
        self.burst = (rate * BURST.as_secs_f64()).max(least);
    }

    /// How long a packet may be held.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Returns true if a packet of `bytes` bytes may leave now.
    pub fn may_leave(&mut self, now: Instant, bytes: usize) -> bool {
        self.fill(now);
        self.tokens >= self.needed(bytes)
    }

    /// Takes tokens for a packet of `bytes` bytes. Returns false, and takes none, if the packet may not leave now.
    #[cfg(test)]
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let may_leave = self.may_leave(now, bytes);
        if may_leave {
            self.charge(bytes);
        }
        may_leave
    }

    /// Takes tokens for a packet of `bytes` bytes, which is sent although there may be too few.
    pub fn charge(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }

    /// Returns when a packet of `bytes` bytes may leave if none leaves before it, which may be `now`. Packets that have
    /// to wait are released together, at most once per millisecond.
    pub fn next_release(&mut self, now: Instant, bytes: usize) -> Instant {
        self.fill(now);
        let missing = self.needed(bytes) - self.tokens;
        if missing <= 0.0 {
            return now;
        }
        // Rounded up, or the caller would wake up a nanosecond too early.
        now + Duration::from_nanos((missing / self.rate * 1e9).ceil() as u64).max(MIN_WAIT)
    }

    /// Returns the tokens required for a packet. One larger than the bucket leaves when the bucket is full, and its
    /// tokens become negative.
    fn needed(&self, bytes: usize) -> f64 {
        (bytes as f64).min(self.burst)
    }

    fn fill(&mut self, now: Instant) {
        if now > self.filled {
            let elapsed = (now - self.filled).as_secs_f64();
            self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_leaves_at_the_pacing_rate() {
        let start = Instant::now();
        for (estimate_bps, at_once) in [(50_000, 2), (1_000_000, 3), (4_000_000, 10), (40_000_000, 52)] {
            let mut pacer = Pacer::new(start, estimate_bps);
            let mut taken = 0;
            while pacer.take(start, 1_200) {
                taken += 1;
            }
            assert_eq!(taken, at_once, "{estimate_bps}");
            let (mut now, mut sent) = (start, 0);
            for _ in 0..100 {
                let release = pacer.next_release(now, 1_200);
                let is_early = release > now + MIN_WAIT && pacer.take(release - Duration::from_micros(1), 1_200);
                assert!(release >= now + MIN_WAIT && !is_early, "{estimate_bps}");
                let released = (0..).take_while(|_| pacer.take(release, 1_200)).count();
                assert!(released > 0, "{estimate_bps}");
                (now, sent) = (release, sent + released);
            }
            // The tokens that the burst left count as well.
            let bps = 8.0 * 1_200.0 * sent as f64 / (now - start).as_secs_f64();
            assert!((bps / estimate_bps as f64 / 2.5 - 1.0).abs() < 0.01, "{estimate_bps}: {bps}");
            let later = now + Duration::from_secs(9);
            assert_eq!(pacer.next_release(later, 1_200), later);
            assert_eq!((0..).take_while(|_| pacer.take(later, 1_200)).count(), at_once, "{estimate_bps}");
        }
    }

    #[test]
    fn a_measured_path_is_paced_more_slowly_and_packets_wait_longer_the_narrower_it_is() {
        let start = Instant::now();
        for (estimate_bps, factor, patience_ms) in [
            (300_000, 1.25, 200),
            (1_000_000, 1.25, 200),
            (1_600_000, 2.0, 125),
            (2_000_000, 2.5, 100),
            (9_000_000, 2.5, 100),
        ] {
            let mut pacer = Pacer::new(start, estimate_bps);
            assert_eq!((pacer.rate, pacer.patience()), (2.5 * estimate_bps as f64 / 8.0, Duration::from_millis(100)));
            pacer.set_estimate(start, estimate_bps, true);
            assert!((pacer.rate / (factor * estimate_bps as f64 / 8.0) - 1.0).abs() < 1e-9, "{estimate_bps}");
            assert_eq!(pacer.patience(), Duration::from_millis(patience_ms), "{estimate_bps}");
            assert!(pacer.patience() <= Pacer::MAX_PATIENCE);
        }
    }

    #[test]
    fn a_packet_larger_than_the_bucket_is_not_held_forever() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start, 1_000_000);
        assert!(pacer.take(start, 60_000) && !pacer.take(start, 1));
        let release = pacer.next_release(start, 1);
        assert!(release - start > Duration::from_millis(150) && pacer.take(release, 1));
    }
}
