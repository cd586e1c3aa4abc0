//! A token bucket: limits a rate and the burst above it.

use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    filled: Instant,
    rate: f64,
    burst: f64,
}

impl Bucket {
    /// Creates a full bucket that holds `burst` tokens and refills at `rate` tokens per second.
    pub fn new(now: Instant, rate: f64, burst: f64) -> Self {
        Self { tokens: burst, filled: now, rate, burst }
    }

    /// Changes rate and capacity. Tokens above the new capacity are discarded.
    pub fn resize(&mut self, rate: f64, burst: f64) {
        self.rate = rate;
        self.burst = burst;
    }

    /// Adds `count` tokens, up to the capacity.
    pub fn give(&mut self, count: f64) {
        self.tokens = (self.tokens + count).min(self.burst);
    }

    /// Raises the tokens to half of the burst if there are fewer.
    pub fn fill_half(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = self.tokens.max(self.burst / 2.0);
    }

    /// Returns the tokens as a share of the burst, from 0 to 1.
    pub fn share(&self, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        (self.tokens + filled).min(self.burst) / self.burst
    }

    /// Takes all tokens.
    pub fn empty(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = 0.0;
    }

    /// Takes one token. Returns false if there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1.0)
    }

    /// Takes `count` tokens. Returns false, and takes none, if there are fewer.
    pub fn take_many(&mut self, now: Instant, count: f64) -> bool {
        self.fill(now);
        let enough = self.tokens >= count;
        if enough {
            self.tokens -= count;
        }
        enough
    }

    /// Adds the tokens for the time since the last call.
    fn fill(&mut self, now: Instant) {
        // Most packets of a batch share one time.
        if now <= self.filled {
            return;
        }
        let elapsed: Duration = now - self.filled;
        self.filled = now;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 10.0, 20.0);
        let taken =
            |bucket: &mut Bucket, ms| (0..100).filter(|_| bucket.take(start + Duration::from_millis(ms))).count();
        assert_eq!(taken(&mut bucket, 0), 20);
        assert_eq!(taken(&mut bucket, 50), 0);
        assert_eq!(taken(&mut bucket, 1_000), 10);
        assert_eq!(taken(&mut bucket, 60_000), 20);
        let later = start + Duration::from_millis(61_000);
        assert!(!bucket.take_many(later, 10.5) && bucket.take_many(later, 10.0) && !bucket.take(later));
        bucket.give(3.0);
        assert!(bucket.take_many(later, 3.0) && !bucket.take(later));
        bucket.resize(100.0, 5.0);
        assert_eq!(taken(&mut bucket, 62_000), 5);
        assert_eq!(taken(&mut bucket, 62_030), 3);
        bucket = Bucket::new(start, 10.0, 20.0);
        assert_eq!(taken(&mut bucket, 0), 20);
        bucket.fill_half(start + Duration::from_millis(300));
        assert_eq!(taken(&mut bucket, 300), 10, "the tokens rise to half of the burst");
        bucket.fill_half(start + Duration::from_millis(1_500));
        assert_eq!(taken(&mut bucket, 1_500), 12, "tokens above half are kept");
    }
}
