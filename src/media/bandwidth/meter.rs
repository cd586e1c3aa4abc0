//! A rate meter over the last half second.

/// Number of bins, including the one being filled.
const BINS: usize = 16;

/// Length of a bin as a power of two, in microseconds: about one frame. The rate covers the last 0.49 s. With a shorter
/// window the rate varies with each frame; a longer one notices a drop of the capacity late.
const BIN_BITS: u32 = 15;

/// Full bins required for a rate: 0.16 s.
const MIN_FULL: usize = 5;

/// Bytes per bin of time.
#[derive(Debug, Default)]
pub struct Meter {
    bins: [u32; BINS],
    /// Index of the bin being filled.
    newest: usize,
    /// Start of that bin, in microseconds modulo 2^32.
    began: u32,
    /// Number of full bins, at most all others.
    full: usize,
}

impl Meter {
    /// Counts a packet at a time in microseconds modulo 2^32. Times may be out of order.
    pub fn push(&mut self, micros: u32, bytes: u16) {
        if self.full == 0 && self.bins[self.newest] == 0 {
            self.began = micros;
        }
        let since = micros.wrapping_sub(self.began) as i32 >> BIN_BITS;
        for _ in 0..since.clamp(0, BINS as i32) {
            self.newest = (self.newest + 1) % BINS;
            self.bins[self.newest] = 0;
            self.full = (self.full + 1).min(BINS - 1);
        }
        if since > 0 {
            self.began = self.began.wrapping_add((since as u32) << BIN_BITS);
        }
        let back = usize::try_from(-since).unwrap_or(0);
        if back < BINS {
            let bin = &mut self.bins[(self.newest + BINS - back) % BINS];
            // A receiver may claim for hours that all packets arrived at one time.
            *bin = bin.saturating_add(bytes.into());
        }
    }

    /// Returns the rate in bits per second; `None` until there are enough full bins.
    pub fn rate_bps(&self) -> Option<f64> {
        let bytes: u64 = self.bins.iter().map(|bytes| u64::from(*bytes)).sum();
        let bytes = bytes - u64::from(self.bins[self.newest]);
        let seconds = (self.full << BIN_BITS) as f64 / 1e6;
        (self.full >= MIN_FULL).then(|| bytes as f64 * 8.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_bytes_at_one_time_is_counted() {
        let mut meter = Meter::default();
        for bin in 0..=MIN_FULL as u32 {
            (0..100_000).for_each(|_| meter.push(bin << BIN_BITS, u16::MAX));
        }
        assert!(meter.rate_bps().is_some_and(|rate| rate > 1e11));
    }

    #[test]
    fn the_rate_covers_the_last_half_second() {
        for (name, start, out_of_order) in [("plain", 0_u32, false), ("wraps", u32::MAX - 1_000_000, true)] {
            let mut meter = Meter::default();
            let push = |meter: &mut Meter, ms: u32, bytes| {
                let swapped = if out_of_order { ms ^ 1 } else { ms };
                meter.push(start.wrapping_add(1_000 * swapped), bytes);
            };
            (0..150).for_each(|ms| push(&mut meter, ms, 125));
            assert_eq!(meter.rate_bps(), None, "{name}: too early");
            (150..2_000).for_each(|ms| push(&mut meter, ms, 125));
            let near = |meter: &Meter, bps: f64| {
                let rate = meter.rate_bps().unwrap();
                assert!((rate / bps - 1.0).abs() < 0.01, "{name}: {rate} for {bps}");
            };
            near(&meter, 1e6);
            (2_000..2_600).for_each(|ms| push(&mut meter, ms, 25));
            near(&meter, 2e5);
            push(&mut meter, 60_000, 1);
            push(&mut meter, 60_100, 1);
            assert!(meter.rate_bps().unwrap() < 100.0, "{name}: after a pause");
        }
    }
}
