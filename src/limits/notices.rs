//! Rate limits of log lines that clients cause: a burst, then one line per second that counts the omitted ones.

use std::fmt;
use std::time::{Duration, Instant};

use log::Level;

use crate::limits::bucket::Bucket;
use crate::limits::recent::Recent;
use crate::network::Network;

/// Log lines per second of one kind, and in a burst. A higher rate would let clients fill the log; a lower one
/// would omit joins when a large call begins.
const LINES: f64 = 1.0;
const LINES_BURST: f64 = 60.0;

/// Warnings per second about protocol errors of clients.
const WARNINGS: f64 = 1.0;

/// Log lines about one bug: at once, and per minute. Above that, the bug is not logged for `PAUSE`.
const BUG_LINES: f64 = 10.0;
const PAUSE: Duration = Duration::from_secs(60);

/// Maximum number of bugs, and of networks with a proxy, that are remembered.
const MAX_BUGS: usize = 64;
const MAX_PROXIES: usize = 4_096;

/// Number of leading characters that distinguish two bugs.
const BUG_CHARS: usize = 100;

/// What a log line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A participant joined.
    Joined,
    /// A participant left.
    Left,
    /// A participant publishes a track.
    Published,
    /// A moderator did something.
    Moderated,
    /// A connection or a join was refused.
    Refused,
    /// A client sends `X-Forwarded-For` and is not a trusted proxy.
    UntrustedProxy,
}

/// The limits of all log lines that clients cause.
#[derive(Debug)]
pub struct Notices {
    lines: [Lines; Notice::COUNT],
    warnings: Bucket,
    bugs: Recent<String, Bug>,
    /// Networks that seem to contain an untrusted proxy.
    proxies: Recent<Network, ()>,
}

/// Number of lines omitted since the last one logged. Displays as a suffix for the log line, empty if there were none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Omitted(u64);

/// The limit of lines about one `Notice`.
#[derive(Debug)]
struct Lines {
    bucket: Bucket,
    omitted: u64,
}

/// The limit of lines about one bug.
#[derive(Debug)]
struct Bug {
    lines: Bucket,
    quiet_until: Option<Instant>,
    omitted: u64,
}

impl Notice {
    const COUNT: usize = Self::UntrustedProxy as usize + 1;
}

impl Notices {
    /// Upper bound of the memory in bytes.
    pub const MAX_BYTES: usize = MAX_PROXIES * Recent::<Network, ()>::BYTES_EACH
        + MAX_BUGS * (Recent::<String, Bug>::BYTES_EACH + 8 * BUG_CHARS);

    /// Creates the limits with their full bursts.
    pub fn new(now: Instant) -> Self {
        Self {
            lines: std::array::from_fn(|_| Lines { bucket: Bucket::new(now, LINES, LINES_BURST), omitted: 0 }),
            warnings: Bucket::new(now, WARNINGS, WARNINGS),
            bugs: Recent::new(MAX_BUGS),
            proxies: Recent::new(MAX_PROXIES),
        }
    }

    /// Takes one line from the limit. Returns `None` if the line has to be omitted.
    pub fn take(&mut self, now: Instant, about: Notice) -> Option<Omitted> {
        let lines = &mut self.lines[about as usize];
        if !lines.bucket.take(now) {
            lines.omitted += 1;
            return None;
        }
        Some(Omitted(std::mem::take(&mut lines.omitted)))
    }

    /// Takes one line about a client of this network that may be an untrusted proxy. Returns `None` if the network was
    /// logged before.
    pub fn take_proxy(&mut self, now: Instant, network: Network) -> Option<Omitted> {
        let is_known = self.proxies.get(&network).is_some();
        self.proxies.entry(now, network, || ());
        if is_known { None } else { self.take(now, Notice::UntrustedProxy) }
    }

    /// Returns the level of a line about a client's protocol error: a warning, or `Debug` above the limit.
    pub fn take_warning(&mut self, now: Instant) -> Level {
        if self.warnings.take(now) { Level::Warn } else { Level::Debug }
    }

    /// Takes one line about a bug. Returns how many lines about it were omitted since the last one, or `None` if this
    /// one has to be omitted.
    pub fn take_bug(&mut self, now: Instant, text: &str) -> Option<u64> {
        // Texts that differ only in numbers, such as an index or a length, count as one.
        let name = text.chars().filter(|char| !char.is_ascii_digit()).take(BUG_CHARS).collect();
        let bug = self.bugs.entry(now, name, || Bug {
            lines: Bucket::new(now, BUG_LINES / PAUSE.as_secs_f64(), BUG_LINES),
            quiet_until: None,
            omitted: 0,
        });
        if bug.quiet_until.is_some_and(|until| now < until) || !bug.lines.take(now) {
            bug.quiet_until.get_or_insert(now + PAUSE);
            bug.omitted += 1;
            return None;
        }
        bug.quiet_until = None;
        Some(std::mem::take(&mut bug.omitted))
    }
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {count} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn network(text: &str) -> Network {
        Network::new(text.parse().unwrap())
    }

    #[test]
    fn a_burst_is_logged_then_one_line_per_second_with_the_number_omitted() {
        let start = Instant::now();
        let mut notices = Notices::new(start);
        let mut logged = |seconds, count| -> Vec<String> {
            let now = start + Duration::from_secs(seconds);
            (0..count).filter_map(|_| notices.take(now, Notice::Left)).map(|omitted| omitted.to_string()).collect()
        };
        assert_eq!(logged(0, 100), [""; 60]);
        assert_eq!(logged(1, 100), [" (and 40 more since the last such line)"]);
        assert_eq!(logged(2, 1), [" (and 99 more since the last such line)"]);
        assert_eq!(logged(3, 1), [""]);
        assert_eq!(logged(100, 100), [""; 60]);
        assert_eq!(notices.take(start, Notice::Joined), Some(Omitted(0)), "each kind has a limit of its own");
    }

    #[test]
    fn a_bug_is_logged_ten_times_and_then_once_a_minute() {
        let start = Instant::now();
        let mut notices = Notices::new(start);
        let logged: Vec<(u64, u64)> = (0..300)
            .filter_map(|second| {
                let text = format!("index {second} of 7");
                let now = start + Duration::from_secs(second);
                Some((second, notices.take_bug(now, &text)?))
            })
            .collect();
        let early = logged.iter().filter(|(second, _)| *second < 12).count();
        assert!((10..=12).contains(&early), "{logged:?}");
        assert!(logged.len() < 60, "{logged:?}");
        assert!(logged.iter().any(|(_, omitted)| *omitted >= 59), "{logged:?}");
        let omitted: u64 = logged.iter().map(|(_, omitted)| omitted).sum();
        assert!(logged.len() as u64 + omitted >= 300 - 61, "every occurrence is counted: {logged:?}");
        assert_eq!(notices.take_bug(start, "another"), Some(0));
    }

    #[test]
    fn each_network_with_a_proxy_is_logged_once() {
        let now = Instant::now();
        let mut notices = Notices::new(now);
        let is_logged: Vec<bool> = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"]
            .map(|text| notices.take_proxy(now, network(text)).is_some())
            .into();
        assert_eq!(is_logged, [true, true, false, true, false, false]);
    }

    #[test]
    fn records_are_bounded() {
        let start = Instant::now();
        let mut notices = Notices::new(start);
        for number in 0..5_000u32 {
            let now = start + Duration::from_millis(number.into());
            notices.take_bug(now, &"x".repeat(number as usize % 200));
            notices.take_proxy(now, Network::new(IpAddr::from(number.to_be_bytes())));
        }
        assert_eq!((notices.bugs.len(), notices.proxies.len()), (MAX_BUGS, MAX_PROXIES));
    }
}
