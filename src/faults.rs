//! Counts of peer faults, by network and by cause. New peers from a network with too many faults are refused for a
//! while, and a repeated cause is logged at a limited rate.
//!
//! A cause alone never refuses a peer: otherwise an attacker who can trigger it could lock out everyone else.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::place::Place;

/// Faults per minute allowed to one network, and log lines per minute about one cause. Fewer would block a user who
/// retries with an old browser; more let an attacker go on for longer.
const FAULTS: usize = 10;

/// The minute over which faults are counted. Also how long a network stays blocked after its last fault above the
/// limit, and how long a cause above its limit is not logged.
const PAUSE: Duration = Duration::from_secs(60);

/// Networks and causes remembered at once; above that the least recently seen is forgotten. More cost memory; fewer
/// make it easier for an attacker with many addresses to be forgotten.
const MAX_NETWORKS: usize = 4_096;
const MAX_CAUSES: usize = 64;

/// Number of leading characters that distinguish two causes.
const CAUSE_CHARS: usize = 100;

/// Recent faults by network and by cause.
#[derive(Debug, Default)]
pub struct Faults {
    networks: BTreeMap<Place, Record>,
    causes: BTreeMap<String, Cause>,
    /// Networks that seem to contain an untrusted proxy, with the time each was last noted.
    proxies: BTreeMap<Place, Instant>,
}

#[derive(Debug)]
struct Record {
    /// Times of the last `FAULTS` faults, oldest first.
    faults: VecDeque<Instant>,
    last: Instant,
    blocked_until: Option<Instant>,
}

#[derive(Debug)]
struct Cause {
    lines: Bucket,
    last: Instant,
    quiet_until: Option<Instant>,
    suppressed: u64,
}

impl Faults {
    /// Upper bound of the memory in bytes. B-tree nodes are at least half full, hence the factor of 2.
    pub const MAX_BYTES: usize = 2
        * (MAX_NETWORKS
            * (size_of::<(Place, Record)>() + 2 * FAULTS * size_of::<Instant>() + size_of::<(Place, Instant)>())
            + MAX_CAUSES * (size_of::<(String, Cause)>() + 4 * CAUSE_CHARS));

    /// Records that a peer from this network ended by a fault. Returns true if this blocks a network that was not
    /// blocked.
    pub fn handle_fault(&mut self, now: Instant, network: Place) -> bool {
        let record = entry(
            &mut self.networks,
            network,
            MAX_NETWORKS,
            |record| record.last,
            || Record { faults: VecDeque::new(), last: now, blocked_until: None },
        );
        record.last = now;
        let oldest = if record.faults.len() < FAULTS { None } else { record.faults.pop_front() };
        record.faults.push_back(now);
        if oldest.is_none_or(|oldest| now >= oldest + PAUSE) {
            return false;
        }
        let was_blocked = record.blocked_until.replace(now + PAUSE).is_some_and(|until| now < until);
        !was_blocked
    }

    /// Records an occurrence of a cause. Returns how many were suppressed since the last log line if this one should be
    /// logged, else `None`.
    pub fn handle_cause(&mut self, now: Instant, cause: &str) -> Option<u64> {
        // Causes that differ only in numbers, such as an index or a length, count as one.
        let name = cause.chars().filter(|char| !char.is_ascii_digit()).take(CAUSE_CHARS).collect();
        let cause = entry(
            &mut self.causes,
            name,
            MAX_CAUSES,
            |cause| cause.last,
            || Cause {
                lines: Bucket::new(now, FAULTS as f64 / PAUSE.as_secs_f64(), FAULTS as f64),
                last: now,
                quiet_until: None,
                suppressed: 0,
            },
        );
        cause.last = now;
        if cause.quiet_until.is_some_and(|until| now < until) || !cause.lines.take(now) {
            cause.quiet_until.get_or_insert(now + PAUSE);
            cause.suppressed += 1;
            return None;
        }
        cause.quiet_until = None;
        Some(std::mem::take(&mut cause.suppressed))
    }

    /// Records that a client of this network may be an untrusted proxy. Returns true if the network was not noted
    /// before.
    pub fn note_proxy(&mut self, now: Instant, network: Place) -> bool {
        let is_new = !self.proxies.contains_key(&network);
        *entry(&mut self.proxies, network, MAX_NETWORKS, |last| *last, || now) = now;
        is_new
    }

    /// Returns when the network's block ends, if it is blocked.
    pub fn refused_until(&self, now: Instant, network: Place) -> Option<Instant> {
        self.networks.get(&network)?.blocked_until.filter(|until| now < *until)
    }
}

/// Returns the entry of a key, inserting it if missing; at the limit the insertion evicts the least recently seen
/// entry.
fn entry<K: Ord + Clone, V>(
    map: &mut BTreeMap<K, V>,
    key: K,
    limit: usize,
    last: impl Fn(&V) -> Instant,
    new: impl FnOnce() -> V,
) -> &mut V {
    if map.len() >= limit && !map.contains_key(&key) {
        let oldest = map.iter().min_by_key(|(_, value)| last(value)).map(|(key, _)| key.clone());
        oldest.and_then(|key| map.remove(&key));
    }
    map.entry(key).or_insert_with(new)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn network(text: &str) -> Place {
        Place::new(text.parse().unwrap())
    }

    #[test]
    fn a_network_with_more_than_ten_faults_a_minute_is_blocked_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut faults = Faults::default();
        let (bad, good) = (network("192.0.2.1"), network("192.0.2.2"));
        for _ in 0..10 {
            assert!(!faults.handle_fault(start, bad));
        }
        assert_eq!(faults.refused_until(start, bad), None);
        assert!(faults.handle_fault(at(1), bad), "the block is reported once");
        assert!(!faults.handle_fault(at(2), network("::ffff:192.0.2.1")), "the same address");
        assert_eq!(faults.refused_until(at(3), bad), Some(at(62)));
        assert_eq!(faults.refused_until(at(3), good), None);
        assert_eq!(faults.refused_until(at(62), bad), None);
        assert!(!faults.handle_fault(at(63), bad), "a minute later the count starts again");
        // One fault in six seconds is a user who retries.
        for seconds in (0..600).step_by(6) {
            assert!(!faults.handle_fault(at(seconds), good));
        }
    }

    #[test]
    fn an_ipv6_64_is_one_network() {
        let now = Instant::now();
        let mut faults = Faults::default();
        let blocks = (0..12).filter(|host| faults.handle_fault(now, network(&format!("2001:db8:0:1::{host}"))));
        assert_eq!(blocks.count(), 1);
        assert!(faults.refused_until(now, network("2001:db8:0:1:ffff::")).is_some());
        assert!(faults.refused_until(now, network("2001:db8:0:2::1")).is_none());
    }

    #[test]
    fn a_cause_is_logged_ten_times_and_then_once_a_minute() {
        let start = Instant::now();
        let mut faults = Faults::default();
        let logged: Vec<(u64, u64)> = (0..300)
            .filter_map(|second| {
                let cause = format!("index {second} of 7");
                let now = start + Duration::from_secs(second);
                Some((second, faults.handle_cause(now, &cause)?))
            })
            .collect();
        let early = logged.iter().filter(|(second, _)| *second < 12).count();
        assert!((10..=12).contains(&early), "{logged:?}");
        assert!(logged.len() < 60, "{logged:?}");
        assert!(logged.iter().any(|(_, suppressed)| *suppressed >= 59), "{logged:?}");
        let suppressed: u64 = logged.iter().map(|(_, suppressed)| suppressed).sum();
        assert!(logged.len() as u64 + suppressed >= 300 - 61, "every occurrence is counted: {logged:?}");
        assert_eq!(faults.handle_cause(start, "another"), Some(0));
    }

    #[test]
    fn each_network_with_a_proxy_is_reported_once() {
        let now = Instant::now();
        let mut faults = Faults::default();
        let is_new: Vec<bool> = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"]
            .map(|text| faults.note_proxy(now, network(text)))
            .into();
        assert_eq!(is_new, [true, true, false, true, false, false]);
    }

    #[test]
    fn records_are_bounded() {
        let start = Instant::now();
        let mut faults = Faults::default();
        for number in 0..5_000u32 {
            let now = start + Duration::from_millis(number.into());
            faults.handle_fault(now, Place::new(IpAddr::from(number.to_be_bytes())));
            faults.handle_cause(now, &"x".repeat(number as usize % 200));
            faults.note_proxy(now, Place::new(IpAddr::from(number.to_be_bytes())));
        }
        assert_eq!((faults.networks.len(), faults.causes.len()), (MAX_NETWORKS, MAX_CAUSES));
        assert_eq!(faults.proxies.len(), MAX_NETWORKS);
        assert!(faults.networks.contains_key(&network("0.0.19.135")), "the newest network is kept");
        assert!(!faults.networks.contains_key(&network("0.0.0.0")), "the oldest network is evicted");
    }
}
