//! Conversion of monotonic instants to wall-clock time. The core runs on monotonic instants; `io` passes it a reading
//! of the wall clock from time to time.

use std::time::{Duration, Instant};

/// A reading of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    /// The monotonic instant of the reading.
    pub at: Instant,
    /// Time since 1970-01-01 00:00 UTC at that instant.
    pub unix: Duration,
    /// Local time minus UTC, in seconds.
    pub utc_offset_secs: i32,
}

impl Wall {
    /// Time since 1970-01-01 00:00 UTC at `now`.
    pub fn unix_at(&self, now: Instant) -> Duration {
        self.unix + now.saturating_duration_since(self.at)
    }

    /// Local time of day at `now`, as `HH:MM:SS`.
    pub fn time_of_day(&self, now: Instant) -> String {
        let local = self.unix_at(now).as_secs() as i64 + i64::from(self.utc_offset_secs);
        let second = local.rem_euclid(86_400);
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_day_follows_the_offset_and_wraps_at_midnight() {
        let at = Instant::now();
        let wall = |unix, utc_offset_secs| Wall { at, unix: Duration::from_secs(unix), utc_offset_secs };
        for (unix, offset, later, expected) in [
            (0, 0, 0, "00:00:00"),
            (86_399, 0, 1, "00:00:00"),
            (52_245, 0, 0, "14:30:45"),
            (0, -3600, 0, "23:00:00"),
            (0, 5 * 3600 + 1800, 61, "05:31:01"),
        ] {
            let now = at + Duration::from_secs(later);
            assert_eq!(wall(unix, offset).time_of_day(now), expected);
        }
    }
}
