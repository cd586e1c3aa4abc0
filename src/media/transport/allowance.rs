//! Rate limits of one peer: media bytes and packets, RTCP feedback, and connectivity checks.

use std::time::Instant;

use crate::limits::bucket::Bucket;

/// Authenticated STUN requests per second, and burst. Browsers send one for each candidate pair, then one every two
/// seconds.
const CHECKS: f64 = 50.0;
const CHECKS_BURST: f64 = 100.0;

/// RTCP datagrams per second, and burst. A browser with 16 videos on a path with 10 % loss sends 200. More cost CPU
/// time, since each can report on thousands of packets; fewer leave losses unrepaired.
const FEEDBACK: f64 = 500.0;
const FEEDBACK_BURST: f64 = 1_000.0;

/// Forged packets per second, and burst, whose charge is refunded: anyone can send them from the peer's address. A
/// higher limit lets an attacker use more CPU, a lower one lets an attacker stop a peer's media with fewer packets.
const FORGED: f64 = 5_000.0;

/// The buckets of one peer.
#[derive(Debug)]
pub struct Allowance {
    bytes: Bucket,
    packets: Bucket,
    forged: Bucket,
    checks: Bucket,
    feedback: Bucket,
    /// Datagrams over a limit since the last `take_excess`.
    excess: u64,
}

impl Allowance {
    /// Creates full buckets that hold one second of `kbps` kbit/s and of `packets` packets per second.
    pub fn new(now: Instant, kbps: usize, packets: usize) -> Self {
        let (bytes, packets) = (kbps as f64 * 125.0, packets as f64);
        Self {
            bytes: Bucket::new(now, bytes, bytes),
            packets: Bucket::new(now, packets, packets),
            forged: Bucket::new(now, FORGED, FORGED),
            checks: Bucket::new(now, CHECKS, CHECKS_BURST),
            feedback: Bucket::new(now, FEEDBACK, FEEDBACK_BURST),
            excess: 0,
        }
    }

    /// Charges a media packet. Returns false if it is over a limit and has to be dropped.
    pub fn take_packet(&mut self, now: Instant, bytes: usize) -> bool {
        let taken = self.packets.take(now) && self.bytes.take_many(now, bytes as f64);
        self.excess += u64::from(!taken);
        taken
    }

    /// Refunds a media packet that is not authentic.
    pub fn give_packet_back(&mut self, now: Instant, bytes: usize) {
        if self.forged.take(now) {
            self.packets.give(1.0);
            self.bytes.give(bytes as f64);
        }
    }

    /// Charges an authenticated check. Returns false if it is over the limit.
    pub fn take_check(&mut self, now: Instant) -> bool {
        let taken = self.checks.take(now);
        self.excess += u64::from(!taken);
        taken
    }

    /// Charges an authentic RTCP datagram. Returns false if it is over the limit.
    pub fn take_feedback(&mut self, now: Instant) -> bool {
        let taken = self.feedback.take(now);
        self.excess += u64::from(!taken);
        taken
    }

    /// Returns the number of datagrams over a limit since the last call.
    pub fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.excess)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bytes_and_packets_are_limited_separately() {
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
    fn forged_packets_are_refunded_up_to_their_limit() {
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
