//! Probes: short trains of packets, faster than the estimate, that test whether the path carries a higher bitrate.

use std::time::{Duration, Instant};

use crate::media::bandwidth::history::Acknowledged;
use crate::media::bandwidth::train::{PACKETS, Probe, Train};

/// Length of a train. A longer one measures more precisely and fills queues more: at twice the capacity, by its own
/// length.
const DURATION: Duration = Duration::from_millis(30);

/// Length of a train above the last known limit. Only its second half is measured: traffic shapers let a burst of some
/// kilobytes pass, and a short train would measure only that. A longer one fills queues more.
const LONG_DURATION: Duration = Duration::from_millis(100);

/// Length of a train before any limit is known.
const UNKNOWN_DURATION: Duration = Duration::from_millis(50);

/// Bitrate of the first train, its bytes, and how many of them are skipped before the measurement. The estimate is a
/// guess at that time. A faster train measures a narrow path equally well and a wide one sooner; more bytes are lost
/// where queues are short, and fewer measure only a burst.
const FIRST_BPS: f64 = 2.4e6;
const FIRST_BYTES: f64 = 12_000.0;
const FIRST_SKIPPED: f64 = 7_000.0;

/// Minimum number of bytes measured in a long train: a few packets.
const MEASURED_BYTES: f64 = 4_000.0;

/// Assumed depth in bytes of a token bucket on the path: until a train shows otherwise, and again after a raise that
/// was refuted. A larger value fills queues more, a smaller one mistakes a burst of 5 kB for a wider path.
const DEPTH: u32 = 5_000;

/// Upper bound of the bucket depth, as time at the estimate. A longer time fills the queues of very narrow paths.
const MAX_DEPTH: Duration = Duration::from_millis(150);

/// Estimate below which the possible burst is deducted from what a train shows. A lower value fills the queues of
/// narrow paths for a second, and a higher one makes wide paths take more trains.
const NARROW_BPS: f64 = 1e6;

/// Lower bound of the fraction by which a train exceeds the limit, used to compute its length. A lower value makes
/// trains longer; with a higher one, a train ends before it has emptied the bucket, and measures only a burst.
const LEAST_EXCESS: f64 = 0.25;

/// If the rate is lowered this soon after a train raised it, the train measured a burst. A shorter time misses bursts
/// that take long to fill the queue, a longer one blames trains for the traffic of others.
const REFUTED: Duration = Duration::from_secs(4);

/// Rate of a train as a multiple of the estimate. With 2, a path of 3 Mbit/s is found from 500 kbit/s in three steps. A
/// long train would fill the queue at that rate.
const STEP: f64 = 2.0;
const LONG_STEP: f64 = 1.5;

/// Upper bound of a train's rate as a multiple of the wanted bitrate: the error of a measurement.
const MARGIN: f64 = 1.2;

/// Time between trains: initial value, and upper bound while trains show nothing new. A shorter time finds capacity
/// sooner, but sends more padding; at these values, trains take about a hundredth of the capacity.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// Time until the next train if media among the packets of the last one spoiled the measurement, so that it showed
/// neither a queue nor a higher rate; and how many trains in a row are repeated for that.
const RETRY: Duration = Duration::from_millis(500);
const MAX_REPEATED: u32 = 2;

/// Largest relative uncertainty of a measured rate due to jitter; above it, a train `STRETCH` times as long is sent. A
/// lower value repeats trains needlessly, a higher one mistakes jitter for a queue or for its absence.
const NOISE: f64 = 0.15;
const STRETCH: f64 = 2.0;

/// Time without trains after the rate was lowered. With a shorter one the train measures the draining queue; with a
/// longer one a path at its limit, where the rate is lowered every few seconds, is never probed.
const SETTLING: Duration = Duration::from_secs(2);

/// Time after the end of a train, in addition to a round trip, after which it is evaluated with the feedback at hand.
/// Feedback arrives every 50 to 250 ms.
const FEEDBACK_WAIT: Duration = Duration::from_millis(500);

/// A train without feedback for this long is abandoned: longer than any round trip.
const ABANDONED: Duration = Duration::from_secs(3);

/// A result must exceed the estimate by this factor to raise it, unless it reaches the wanted bitrate: another train
/// follows each raise, and small ones would make them many.
const MIN_RAISE: f64 = 1.05;

/// Result of a train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeResult {
    /// The measured bitrate.
    pub bps: f64,
    /// Whether the bitrate exceeds the estimate by enough to raise it.
    pub raises_estimate: bool,
    /// Whether the train met a queue: the path carries no more.
    pub is_limit: bool,
    /// Whether the result is the first one: the estimate before it was a guess.
    pub is_first: bool,
}

/// The current train, and the schedule of the next one.
#[derive(Debug)]
pub struct Prober {
    cluster: u8,
    train: Option<Train>,
    due: Instant,
    interval: Duration,
    /// Whether any train has given a result.
    has_result: bool,
    /// When a train above the limit last raised the estimate.
    raised_at: Option<Instant>,
    /// Assumed depth of the path's token bucket in bytes.
    depth: u32,
    /// When a train last showed a higher bitrate. The next train follows at once and finds the bucket empty.
    succeeded_at: Option<Instant>,
    /// Whether the arrival times of the last train were too irregular for a result.
    is_noisy: bool,
    /// Consecutive trains without a result.
    repeated: u32,
}

impl Prober {
    /// Creates a prober whose first train is due at once.
    pub fn new(now: Instant) -> Self {
        Self {
            cluster: 0,
            train: None,
            due: now,
            interval: INTERVALS.0,
            has_result: false,
            raised_at: None,
            depth: DEPTH,
            succeeded_at: None,
            is_noisy: false,
            repeated: 0,
        }
    }

    /// Returns a train if one is due and more than the estimate is wanted. `limit_bps` is the last known capacity.
    pub fn poll(&mut self, now: Instant, estimate_bps: f64, wanted_bps: f64, limit_bps: Option<f64>) -> Option<Probe> {
        if self.train.take_if(|train| now >= train.ends + ABANDONED).is_some() {
            self.postpone(now, INTERVALS.0);
        }
        if self.train.is_some() || now < self.due || wanted_bps <= estimate_bps {
            return None;
        }
        self.cluster = self.cluster % u8::MAX + 1;
        let may_exceed_limit = limit_bps.is_none_or(|limit| STEP * estimate_bps > limit);
        let max_bps = MARGIN * wanted_bps;
        let bytes_in = |bitrate: f64, duration: Duration| bitrate / 8.0 * duration.as_secs_f64();
        let stretch = if self.is_noisy { STRETCH } else { 1.0 };
        let (bitrate, bytes, skipped, burst) = match limit_bps {
            _ if !self.has_result => {
                (FIRST_BPS.max(STEP * estimate_bps), stretch * FIRST_BYTES, stretch * FIRST_SKIPPED, DEPTH.into())
            }
            _ if may_exceed_limit => {
                let (bitrate, duration) = match limit_bps {
                    Some(limit) => ((LONG_STEP * estimate_bps.max(limit)).min(STEP * estimate_bps), LONG_DURATION),
                    None => (STEP * estimate_bps, UNKNOWN_DURATION),
                };
                let bitrate = bitrate.min(max_bps);
                let half = stretch * bytes_in(bitrate, duration) / 2.0;
                let excess = (1.0 - limit_bps.unwrap_or(estimate_bps).max(estimate_bps) / bitrate).max(LEAST_EXCESS);
                let depth = f64::from(self.depth).min(bytes_in(estimate_bps, MAX_DEPTH));
                let skipped = half.max(depth / excess);
                (bitrate, skipped + half.max(MEASURED_BYTES), skipped, depth)
            }
            _ => {
                let bitrate = (STEP * estimate_bps).min(max_bps);
                (bitrate, stretch * bytes_in(bitrate, DURATION), 0.0, 0.0)
            }
        };
        let length = Duration::from_secs_f64(8.0 * bytes / bitrate);
        let probe =
            Probe { cluster: self.cluster, bitrate_bps: bitrate as u64, bytes: bytes as usize, packets: PACKETS };
        let ends = now + length + FEEDBACK_WAIT;
        let mut train = Train::new(probe, ends, wanted_bps, may_exceed_limit, skipped as u32, burst as u32);
        train.discounts_burst = may_exceed_limit && self.has_result && estimate_bps < NARROW_BPS;
        self.train = Some(train);
        Some(probe)
    }

    /// Returns when the next train is due at the latest, in case the current one gets no feedback.
    pub fn next(&self) -> Instant {
        self.train.map_or(self.due, |train| train.ends + ABANDONED)
    }

    /// Returns true if a train has given a result.
    pub fn has_result(&self) -> bool {
        self.has_result
    }

    /// Returns true if a train that begins at `now` directly follows a successful one.
    pub fn is_chained(&self, now: Instant) -> bool {
        self.succeeded_at.is_some_and(|at| now < at + RETRY)
    }

    /// Counts a packet if it belongs to the current train.
    pub fn push(&mut self, packet: &Acknowledged) {
        let Some(train) = self.train.as_mut().filter(|train| train.probe.cluster == packet.cluster) else {
            return;
        };
        train.push(packet);
    }

    /// Returns the result of the current train once it is complete or overdue, and schedules the next train.
    pub fn poll_result(&mut self, now: Instant, round_trip: Duration, estimate_bps: f64) -> Option<ProbeResult> {
        let train = self.train?;
        if !train.is_complete() && now < train.ends + round_trip {
            return None;
        }
        self.train = None;
        let Some((found, is_limit)) = train.measure() else {
            self.retry_soon(now);
            return None;
        };
        self.is_noisy = train.noise() > NOISE;
        if self.is_noisy && self.repeated < MAX_REPEATED {
            self.retry_soon(now);
            return None;
        }
        let is_first = !std::mem::replace(&mut self.has_result, true);
        if train.meets_queue_early() {
            self.depth /= 2;
        }
        if is_limit {
            self.on_refuted(now);
        }
        let raises_estimate = found > MIN_RAISE * estimate_bps || found >= train.wanted_bps && found > estimate_bps;
        match (raises_estimate || is_first, is_limit) {
            (true, false) => {
                self.due = now;
                self.interval = INTERVALS.0;
                self.repeated = 0;
                self.succeeded_at = Some(now);
                self.raised_at = if train.may_exceed_limit { Some(now) } else { self.raised_at };
            }
            (false, false) => self.retry_soon(now),
            _ => self.postpone(now, (2 * self.interval).min(INTERVALS.1)),
        }
        Some(ProbeResult { bps: found, raises_estimate, is_limit, is_first })
    }

    /// Handles a reduction of the rate: a train would measure the draining queue.
    pub fn on_lowered(&mut self, now: Instant) {
        self.on_refuted(now);
        self.train = None;
        self.due = self.due.max(now + SETTLING);
    }

    /// Postpones the next train because of a standing queue: it would measure how the queue drains.
    pub fn defer(&mut self, now: Instant) {
        self.due = self.due.max(now + RETRY);
    }

    /// Abandons the current train after an outage.
    pub fn restart(&mut self, now: Instant) {
        self.train = None;
        self.postpone(now, INTERVALS.0);
    }

    /// Schedules another train soon after one without a result, unless that happened too often.
    fn retry_soon(&mut self, now: Instant) {
        if self.repeated < MAX_REPEATED {
            self.repeated += 1;
            self.due = now + RETRY;
        } else if std::mem::replace(&mut self.has_result, true) {
            self.postpone(now, (2 * self.interval).min(INTERVALS.1));
        } else {
            self.postpone(now, RETRY);
        }
    }

    /// Handles evidence that the path carries no more. A train that has just shown more has measured a burst.
    fn on_refuted(&mut self, now: Instant) {
        if self.raised_at.take().is_some_and(|raised| now < raised + REFUTED) {
            self.depth = DEPTH;
        }
    }

    fn postpone(&mut self, now: Instant, interval: Duration) {
        self.due = now + interval;
        self.interval = interval;
        self.repeated = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    /// Returns the result, in units of 10 kbit/s, of a train of 2 Mbit/s with an estimate of 1 Mbit/s: ten packets of
    /// 750 bytes, sent every 3 ms, that arrive `spacing` microseconds apart, except the lost ones.
    fn result(spacing: u32, lost: &[u32]) -> Option<u32> {
        train(1e9, 3_000, spacing, lost).map(|found| (found.bps / 1e4).round() as u32)
    }

    /// Returns the result of the same train for a wanted bitrate, with packets sent and received at these intervals in
    /// microseconds.
    fn train(wanted_bps: f64, sent: u32, received: u32, lost: &[u32]) -> Option<ProbeResult> {
        let start = Instant::now();
        let mut prober = Prober { has_result: true, ..Prober::new(start) };
        let probe = prober.poll(start, 1e6, wanted_bps, Some(1e9)).unwrap();
        assert!((probe.cluster, probe.packets) == (1, 5) && probe.bytes <= 7_500, "{probe:?}");
        for number in 0..10 {
            assert!(number >= probe.bytes as u32 / 750 || prober.poll_result(start, RTT, 1e6).is_none(), "not yet");
            let received = (!lost.contains(&number)).then_some(7 + number * received);
            let packet = Acknowledged { sent: sent * number, received, was_lost: false, bytes: 750, cluster: 1 };
            prober.push(&packet);
            prober.push(&Acknowledged { cluster: 2, ..packet });
        }
        prober.poll_result(start, RTT, 1e6)
    }

    #[test]
    fn media_that_leaves_in_a_burst_does_not_spoil_the_result() {
        let start = Instant::now();
        // 22 packets of 750 bytes at 2 Mbit/s, whose second half leaves, or arrives, within a millisecond.
        let steady: Vec<u32> = (0..22).map(|number| 3_000 * number).collect();
        let burst: Vec<u32> = (0..22).map(|number| 3_000 * number.min(11) + 100 * number + 25_000).collect();
        for (name, sent, is_found) in [("sent in a burst", &burst, true), ("compressed on the way", &steady, false)] {
            let mut prober = Prober { has_result: true, ..Prober::new(start) };
            let probe = prober.poll(start, 1e6, 1e9, None).unwrap();
            assert_eq!(probe, Probe { cluster: 1, bitrate_bps: 2_000_000, bytes: 16_250, packets: 5 });
            for (&sent, &received) in sent.iter().zip(&burst) {
                let packet = Acknowledged { sent, received: Some(received), was_lost: false, bytes: 750, cluster: 1 };
                prober.push(&packet);
            }
            let found = prober.poll_result(start, RTT, 1e6);
            assert_eq!(
                found.map(|found| (found.bps, found.raises_estimate)),
                is_found.then_some((2e6, true)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_result_that_reaches_the_wanted_bitrate_is_enough_however_small_the_raise() {
        for (wanted_bps, micros, expected) in
            [(1.01e6, 5_800, true), (1.02e6, 5_800, true), (1.03e6, 5_700, true), (1.2e6, 5_800, false)]
        {
            // 750 bytes in 5.8 ms: 1.034 Mbit/s.
            let found = train(wanted_bps, micros, micros, &[]).unwrap();
            assert_eq!(found.raises_estimate, expected, "{wanted_bps}: {found:?}");
        }
    }

    #[test]
    fn the_result_is_the_lower_of_sending_and_arrival_rate() {
        for (name, spacing, lost, expected) in [
            ("carried", 3_000, &[][..], Some(200)),
            ("compressed on the way", 2_400, &[], Some(200)),
            ("met a queue", 4_000, &[], Some(143)),
            ("capacity below the estimate", 6_000, &[], Some(95)),
            ("too compressed to be true", 1_200, &[], None),
            ("few are lost", 3_000, &[3, 7], Some(194)),
            ("some are lost", 3_000, &[3, 4, 7], Some(124)),
            ("most are lost", 3_000, &[1, 2, 3, 4, 5], None),
            ("all are lost", 3_000, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], None),
        ] {
            assert_eq!(result(spacing, lost), expected, "{name}");
        }
    }

    #[test]
    fn a_train_on_a_narrow_path_shows_no_more_than_what_it_carried_without_a_burst() {
        // Of 27 packets of 750 bytes, 5,000 bytes may be a burst, and the rest took 26 intervals of 8 ms.
        for (estimate_bps, expected) in [(500_000, 557_692), (1_200_000, 1_800_000)] {
            let start = Instant::now();
            let mut prober = Prober { has_result: true, ..Prober::new(start) };
            let estimate = f64::from(estimate_bps);
            let probe = prober.poll(start, estimate, 1e9, Some(estimate)).unwrap();
            let spacing = (8_000_000 * 750 / probe.bitrate_bps) as u32;
            for number in 0..probe.bytes.div_ceil(750) as u32 {
                let sent = spacing * number;
                let packet = Acknowledged { sent, received: Some(sent), was_lost: false, bytes: 750, cluster: 1 };
                prober.push(&packet);
            }
            let found = prober.poll_result(start, RTT, estimate).unwrap();
            assert!(
                (found.bps / f64::from(expected) - 1.0).abs() < 0.01 && found.raises_estimate,
                "{probe:?}: {found:?}"
            );
        }
    }

    #[test]
    fn trains_follow_success_at_once_and_failure_later() {
        let start = Instant::now();
        let secs = |secs| start + Duration::from_secs(secs);
        let mut prober = Prober { has_result: true, ..Prober::new(start) };
        let limit = Some(1e9);
        assert_eq!(prober.poll(start, 1e6, 1e6, limit), None, "the wanted bitrate is reached");
        assert_eq!(
            prober.poll(start, 1e6, 1.2e6, limit).unwrap().bitrate_bps,
            1_440_000,
            "bounded by the wanted bitrate"
        );
        assert_eq!(prober.poll(start, 1e6, 2e6, limit), None, "one at a time");
        let mut failures = Vec::new();
        for second in 1..40 {
            prober.poll_result(secs(second), RTT, 1e6);
            failures.extend(prober.poll(secs(second), 1e6, 2e6, limit).map(|probe| (second, probe.cluster)));
        }
        // Each train times out after a second. Two trains without a result are each followed soon by another, then the
        // interval applies.
        let expected = [(2, 2), (4, 3), (9, 4), (11, 5), (13, 6), (19, 7), (21, 8), (23, 9), (29, 10), (31, 11)];
        assert_eq!(failures[..10], expected);
        prober.on_lowered(secs(40));
        assert_eq!(prober.poll(secs(41), 1e6, 2e6, limit), None);
        prober.poll(secs(43), 1e6, 2e6, limit).unwrap();
        for number in 0..10 {
            let (sent, cluster) = (3_000 * number, 14);
            prober.push(&Acknowledged { sent, received: Some(sent), was_lost: false, bytes: 750, cluster });
        }
        assert!(prober.poll_result(secs(43), RTT, 1e6).is_some());
        assert!(prober.poll(secs(43), 1.9e6, 4e6, limit).is_some(), "the next train follows at once");
    }
}
