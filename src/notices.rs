//! A rate limit for log lines that clients cause: a burst, then one line per second that counts the omitted ones.

use std::fmt;
use std::time::Instant;

use crate::bucket::Bucket;

/// Log lines per second, and in a burst. More lets clients fill the log; fewer omits joins when a large call begins.
const LINES: f64 = 1.0;
const LINES_AT_ONCE: f64 = 60.0;

/// The limit for log lines of one kind.
#[derive(Debug)]
pub struct Notices {
    lines: Bucket,
    left_out: u64,
}

/// Number of lines omitted since the last one logged. Displays as a suffix for the log line, empty if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut(u64);

impl Notices {
    /// Creates a limit with its full burst.
    pub fn new(now: Instant) -> Self {
        Self { lines: Bucket::new(now, LINES, LINES_AT_ONCE), left_out: 0 }
    }

    /// Takes one line from the limit. Returns `None` if the line has to be omitted.
    pub fn take(&mut self, now: Instant) -> Option<LeftOut> {
        if !self.lines.take(now) {
            self.left_out += 1;
            return None;
        }
        Some(LeftOut(std::mem::take(&mut self.left_out)))
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_logged_then_one_line_per_second_with_the_number_omitted() {
        let start = Instant::now();
        let mut notices = Notices::new(start);
        let mut logged = |seconds, count| -> Vec<String> {
            let now = start + Duration::from_secs(seconds);
            (0..count).filter_map(|_| notices.take(now)).map(|left_out| left_out.to_string()).collect()
        };
        assert_eq!(logged(0, 100), [""; 60]);
        assert_eq!(logged(1, 100), [" (and 40 more since the last such line)"]);
        assert_eq!(logged(2, 1), [" (and 99 more since the last such line)"]);
        assert_eq!(logged(3, 1), [""]);
        assert_eq!(logged(100, 100), [""; 60]);
    }
}
