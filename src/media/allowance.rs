//! How much one peer may send: media by bytes and packets, feedback, and checks of its address.

use std::time::Instant;

use crate::bucket::Bucket;

/// Authenticated STUN requests a second, and at once: browsers send one for each pair of addresses, then one every
/// two seconds.
const CHECKS: f64 = 50.0;
const CHECKS_AT_ONCE: f64 = 100.0;

/// Datagrams of feedback a second, and at once: a browser with sixteen pictures on a path that loses one packet in ten
/// sends 200. More make work of up to thousands of statuses each, less leaves losses unrepaired.
const FEEDBACK: f64 = 500.0;
const FEEDBACK_AT_ONCE: f64 = 1_000.0;

/// Packets a second, and at once, that are found not to be authentic and charge the peer nothing: anybody may send them
/// from its address. More let an attacker take more of the processor, fewer let one stop a peer's media with less.
const FORGED: f64 = 5_000.0;

/// The buckets of one peer.
#[derive(Debug)]
pub struct Allowance {
    bytes: Bucket,
    packets: Bucket,
    forged: Bucket,
    checks: Bucket,
    feedback: Bucket,
    /// Datagrams that were too many since they were last asked for.
    excess: u64,
}

impl Allowance {
    /// Full buckets: a second's worth of `kbps` and `packets` a second.
    pub fn new(now: Instant, kbps: usize, packets: usize) -> Self {
        let (bytes, packets) = (kbps as f64 * 125.0, packets as f64);
        Self {
            bytes: Bucket::new(now, bytes, bytes),
            packets: Bucket::new(now, packets, packets),
            forged: Bucket::new(now, FORGED, FORGED),
            checks: Bucket::new(now, CHECKS, CHECKS_AT_ONCE),
            feedback: Bucket::new(now, FEEDBACK, FEEDBACK_AT_ONCE),
            excess: 0,
        }
    }

    /// Whether a media packet of so many bytes is taken.
    pub fn take_packet(&mut self, now: Instant, bytes: usize) -> bool {
        let taken = self.packets.take(now) && self.bytes.take_many(now, bytes as f64);
        self.excess += u64::from(!taken);
        taken
    }

    /// A media packet that was taken is not the peer's.
    pub fn give_packet_back(&mut self, now: Instant, bytes: usize) {
        if self.forged.take(now) {
            self.packets.give(1.0);
            self.bytes.give(bytes as f64);
        }
    }

    /// Whether an authenticated check is taken.
    pub fn take_check(&mut self, now: Instant) -> bool {
        let taken = self.checks.take(now);
        self.excess += u64::from(!taken);
        taken
    }

    /// Whether authentic feedback is taken.
    pub fn take_feedback(&mut self, now: Instant) -> bool {
        let taken = self.feedback.take(now);
        self.excess += u64::from(!taken);
        taken
    }

    /// How many datagrams were too many since the last call.
    pub fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.excess)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bytes_and_packets_each_have_their_limit() {
        let start = Instant::now();
        for (bytes, expected) in [(1_250, 3_000), (100, 6_000)] {
            let mut allowance = Allowance::new(start, 10_000, 2_000);
            let mut taken = 0;
            for micros in (0..2_000_000).step_by(100) {
                taken += u64::from(allowance.take_packet(start + Duration::from_micros(micros), bytes));
            }
            assert!(taken.abs_diff(expected) < 10, "{bytes} bytes: {taken}");
            assert_eq!(allowance.take_excess(), 20_000 - taken);
            assert_eq!(allowance.take_excess(), 0);
        }
    }

    #[test]
    fn packets_that_are_not_authentic_use_nothing_up_within_their_own_limit() {
        let start = Instant::now();
        for (forged_a_second, least) in [(4_000, 2_000), (100_000, 0)] {
            let mut allowance = Allowance::new(start, 10_000, 2_000);
            let (mut taken, pause) = (0, Duration::from_secs(1) / forged_a_second);
            for number in 0..2 * forged_a_second {
                let now = start + pause * number;
                if allowance.take_packet(now, 50) {
                    allowance.give_packet_back(now, 50);
                }
                if number % (forged_a_second / 1_000) == 0 {
                    taken += u64::from(allowance.take_packet(now, 1_000));
                }
            }
            assert!((least..=2_000).contains(&taken), "{taken} of 2000 packets beside {forged_a_second} a second");
        }
    }
}
