//! Log lines of one kind that clients cause: a burst as they come, then one a second, which says how many were left out.

use std::fmt;
use std::time::Instant;

use crate::bucket::Bucket;

/// Lines a second, and at once. More let clients fill the log, fewer leave out who joins when a large call begins.
const LINES: f64 = 1.0;
const LINES_AT_ONCE: f64 = 60.0;

/// Lines of one kind.
#[derive(Debug)]
pub struct Notices {
    lines: Bucket,
    left_out: u64,
}

/// How many lines were left out since the last one. As text it follows the line, and is empty if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut(u64);

impl Notices {
    /// None was told yet.
    pub fn new(now: Instant) -> Self {
        Self { lines: Bucket::new(now, LINES, LINES_AT_ONCE), left_out: 0 }
    }

    /// Something is to be told; `None` if it is left out.
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
    fn a_burst_is_told_and_then_one_a_second_with_what_was_left_out() {
        let start = Instant::now();
        let mut notices = Notices::new(start);
        let mut told = |seconds, count| -> Vec<String> {
            let now = start + Duration::from_secs(seconds);
            (0..count).filter_map(|_| notices.take(now)).map(|left_out| left_out.to_string()).collect()
        };
        assert_eq!(told(0, 100), [""; 60]);
        assert_eq!(told(1, 100), [" (and 40 more since the last such line)"]);
        assert_eq!(told(2, 1), [" (and 99 more since the last such line)"]);
        assert_eq!(told(3, 1), [""]);
        assert_eq!(told(100, 100), [""; 60]);
    }
}
