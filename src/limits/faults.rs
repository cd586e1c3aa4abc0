//! Protocol errors by network. A network with too many of them is blocked for a minute: its new peers are refused.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::recent::Recent;
use crate::network::Network;

/// Protocol errors that one network may cause in any minute. Fewer would block a user who retries with an old browser;
/// more let an attacker continue for longer.
pub const MAX_FAULTS: usize = 10;

/// The minute over which protocol errors are counted. Also how long a network stays blocked after its last error above
/// the limit.
pub const PAUSE: Duration = Duration::from_secs(60);

/// Networks remembered at once. More cost memory; with fewer, an attacker with many addresses is forgotten sooner.
const MAX_NETWORKS: usize = 4_096;

/// Recent protocol errors by network.
///
/// This is not a token bucket: a network that has emptied a bucket could continue at the refill rate, while a blocked
/// network has to pause for a minute.
#[derive(Debug)]
pub struct Faults {
    networks: Recent<Network, Record>,
}

#[derive(Debug)]
struct Record {
    /// Times of the last `MAX_FAULTS` errors, oldest first.
    faults: VecDeque<Instant>,
    blocked_until: Option<Instant>,
}

impl Faults {
    /// Upper bound of the memory in bytes.
    pub const MAX_BYTES: usize =
        MAX_NETWORKS * (Recent::<Network, Record>::BYTES_EACH + 2 * MAX_FAULTS * size_of::<Instant>());

    /// Records that a peer from this network ended because of its own error. Returns true if this blocks a network that
    /// was not blocked before.
    pub fn handle_fault(&mut self, now: Instant, network: Network) -> bool {
        let record = self.networks.entry(now, network, || Record { faults: VecDeque::new(), blocked_until: None });
        let oldest = if record.faults.len() < MAX_FAULTS { None } else { record.faults.pop_front() };
        record.faults.push_back(now);
        if oldest.is_none_or(|oldest| now >= oldest + PAUSE) {
            return false;
        }
        let was_blocked = record.blocked_until.replace(now + PAUSE).is_some_and(|until| now < until);
        !was_blocked
    }

    /// Returns when the network's block ends, if it is blocked.
    pub fn refused_until(&self, now: Instant, network: Network) -> Option<Instant> {
        self.networks.get(&network)?.blocked_until.filter(|until| now < *until)
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self { networks: Recent::new(MAX_NETWORKS) }
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
    fn records_are_bounded() {
        let start = Instant::now();
        let mut faults = Faults::default();
        for number in 0..5_000u32 {
            let now = start + Duration::from_millis(number.into());
            faults.handle_fault(now, Network::new(IpAddr::from(number.to_be_bytes())));
        }
        assert_eq!(faults.networks.len(), MAX_NETWORKS);
        assert!(faults.networks.get(&network("0.0.19.135")).is_some(), "the newest network is kept");
        assert!(faults.networks.get(&network("0.0.0.0")).is_none(), "the oldest network is evicted");
    }
}
