//! A histogram of durations in fixed buckets.

use std::time::Duration;

/// Upper bounds of the buckets, in microseconds. Turns of an idle server fall into the first ones, and delays in the
/// last ones are audible. More bounds would lengthen the metrics for little gain.
const BOUNDS_US: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// The number of buckets: the last one has no bound.
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Counts of durations by bucket.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// Counts one duration. The usual, short ones cost some 20 instructions.
    pub fn observe(&mut self, duration: Duration) {
        // A longer duration than fits belongs to the last bucket.
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_US.len());
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The buckets in rising order: the upper bound in seconds (infinite for the last) and the bucket's own count.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for (micros, bound) in [
            (0, 0.000_05),
            (50, 0.000_05),
            (51, 0.000_1),
            (999, 0.001),
            (1_000, 0.001),
            (1_000_000, 1.0),
            (1_000_001, f64::INFINITY),
            (u64::MAX, f64::INFINITY),
        ] {
            let before = histogram.clone();
            histogram.observe(Duration::from_micros(micros));
            let changed: Vec<f64> = before
                .buckets()
                .zip(histogram.buckets())
                .filter(|(before, after)| before.1 != after.1)
                .map(|(_, (bound, _))| bound)
                .collect();
            assert_eq!(changed, [bound], "{micros}");
            assert_eq!(histogram.sum() - before.sum(), Duration::from_micros(micros));
        }
        assert_eq!((histogram.count(), histogram.buckets().count()), (8, BUCKETS));
        assert!(BOUNDS_US.is_sorted());
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.sum(), Duration::MAX);
    }
}
