//! Probes: short trains of packets, faster than the estimate, that show whether the path would carry more.

use std::time::{Duration, Instant};

use crate::media::bandwidth::history::Acknowledged;

/// How long a train is. Longer is measured better and fills queues more: at twice the capacity, by as much as this.
const DURATION: Duration = Duration::from_millis(30);

/// The same beyond what the path was last known to carry, where only the second half counts: what shapes a path lets a
/// burst of some kilobytes pass at once, and a short train shows nothing else. Longer fills queues more.
const LONG_DURATION: Duration = Duration::from_millis(100);

/// Rate of a train over the estimate: with 2, a path of 3 Mbit/s is found from 500 kbit/s in three steps. A long one
/// would fill the queue at that.
const STEP: f64 = 2.0;
const LONG_STEP: f64 = 1.5;

/// Rate of a train over what is wanted: as much as the measurement may err.
const MARGIN: f64 = 1.2;

/// Time between trains: at first, and at most while they show nothing. Shorter finds capacity sooner, and costs a
/// hundredth of it.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(6));

/// No train so soon after the rate was lowered. Shorter measures the queue that drains; longer, and a path at its
/// limit, where that happens every few seconds, is never probed.
const SETTLING: Duration = Duration::from_secs(2);

/// A train is judged at the latest so long, and a round trip, after its start: feedback comes every 50 to 250 ms.
const PATIENCE: Duration = Duration::from_millis(500);

/// A train of which nothing was heard for so long is lost: longer than any round trip.
const FORGOTTEN: Duration = Duration::from_secs(3);

/// Packets of a train at least, and share of its bytes that must have come: a line needs some points.
const PACKETS: u32 = 5;
const CAME: f64 = 0.6;

/// A train that arrives slower than this share of its rate met a queue: it shows the capacity itself.
const SATURATED: f64 = 0.9;

/// Share of a train whose loss is taken for chance: it counts as carried. More than that was dropped by a queue.
const CHANCE: f64 = 0.2;

/// Share of a capacity so found that is used.
const SHARE: f64 = 0.95;

/// What is worth a raise, over the estimate.
const WORTH: f64 = 1.05;

/// A train to be sent now: the next packets that leave, padding and media alike, evenly at `bitrate_bps`, each pushed
/// with `cluster`, until there are both as many bytes and as many packets as stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Which train: 1 to 255.
    pub cluster: u8,
    /// Rate at which its packets leave.
    pub bitrate_bps: u64,
    /// Size of all its packets, at least.
    pub bytes: usize,
    /// Number of its packets, at least.
    pub packets: u32,
}

/// The train under way, and when the next is due.
#[derive(Debug)]
pub struct Prober {
    cluster: u8,
    train: Option<Train>,
    due: Instant,
    interval: Duration,
}

/// What is known of a train.
#[derive(Clone, Copy, Debug)]
struct Train {
    started: Instant,
    probe: Probe,
    /// Bytes that came before it is measured.
    skipped: u32,
    came: u32,
    lost: u32,
    bytes_came: u32,
    bytes_lost: u32,
    sent: Line,
    received: Line,
}

/// A line of least squares through times in microseconds over the bytes that came before: jitter moves it less than
/// it moves the first and the last packet.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The first time, modulo 2^32.
    start: u32,
    count: f64,
    bytes: f64,
    times: f64,
    squares: f64,
    products: f64,
}

impl Prober {
    /// Its first train is due at once.
    pub fn new(now: Instant) -> Self {
        Self { cluster: 0, train: None, due: now, interval: INTERVALS.0 }
    }

    /// A train, if one is due and more is wanted than the estimate. `limit_bps` is what the path was last known to carry.
    pub fn poll(&mut self, now: Instant, estimate_bps: f64, wanted_bps: f64, limit_bps: Option<f64>) -> Option<Probe> {
        if self.train.take_if(|train| now >= train.started + FORGOTTEN).is_some() {
            self.postpone(now, INTERVALS.0);
        }
        if self.train.is_some() || now < self.due || wanted_bps <= estimate_bps {
            return None;
        }
        self.cluster = self.cluster % u8::MAX + 1;
        let is_beyond = limit_bps.is_some_and(|limit| STEP * estimate_bps > limit);
        let (step, duration) = if is_beyond { (LONG_STEP, LONG_DURATION) } else { (STEP, DURATION) };
        let bitrate = (step * estimate_bps).min(MARGIN * wanted_bps);
        let bytes = (bitrate / 8.0 * duration.as_secs_f64()) as usize;
        let skipped = if is_beyond { bytes as u32 / 2 } else { 0 };
        let probe = Probe { cluster: self.cluster, bitrate_bps: bitrate as u64, bytes, packets: PACKETS };
        let (sent, received) = (Line::default(), Line::default());
        self.train = Some(Train {
            started: now,
            probe,
            skipped,
            came: 0,
            lost: 0,
            bytes_came: 0,
            bytes_lost: 0,
            sent,
            received,
        });
        Some(probe)
    }

    /// When the next train is due at the latest: nothing may be heard of the one under way.
    pub fn next(&self) -> Instant {
        self.train.map_or(self.due, |train| train.started + FORGOTTEN)
    }

    /// Counts a packet, if it is of the train under way.
    pub fn push(&mut self, packet: &Acknowledged) {
        let Some(train) = self.train.as_mut().filter(|train| train.probe.cluster == packet.cluster) else {
            return;
        };
        let bytes = u32::from(packet.bytes);
        if packet.was_lost {
            train.lost = train.lost.saturating_sub(1);
            train.bytes_lost = train.bytes_lost.saturating_sub(bytes);
        }
        match packet.received {
            None => {
                train.lost += 1;
                train.bytes_lost += bytes;
            }
            Some(received) => {
                if train.bytes_came >= train.skipped {
                    train.sent.push(train.bytes_came, packet.sent);
                    train.received.push(train.bytes_came, received);
                }
                train.came += 1;
                train.bytes_came += bytes;
            }
        }
    }

    /// The estimate that the train shows, if it is through and that is more; plans the next one.
    pub fn poll_result(&mut self, now: Instant, round_trip: Duration, estimate_bps: f64) -> Option<f64> {
        let train = self.train?;
        let Probe { bytes, packets, .. } = train.probe;
        let is_through = (train.bytes_came + train.bytes_lost) as usize >= bytes && train.came + train.lost >= packets;
        if !is_through && now < train.started + LONG_DURATION + round_trip + PATIENCE {
            return None;
        }
        self.train = None;
        let found = train.measure().filter(|found| *found > WORTH * estimate_bps);
        match found {
            Some(found) if found >= SATURATED * train.probe.bitrate_bps as f64 => {
                (self.due, self.interval) = (now, INTERVALS.0);
            }
            Some(_) => self.postpone(now, INTERVALS.0),
            None => self.postpone(now, (2 * self.interval).min(INTERVALS.1)),
        }
        found
    }

    /// The rate was lowered at `now`: what a train would measure is a queue that drains.
    pub fn on_lowered(&mut self, now: Instant) {
        self.train = None;
        self.due = self.due.max(now + SETTLING);
    }

    /// The path is back after an outage: what was under way tells nothing.
    pub fn restart(&mut self, now: Instant) {
        self.train = None;
        self.postpone(now, INTERVALS.0);
    }

    fn postpone(&mut self, now: Instant, interval: Duration) {
        (self.due, self.interval) = (now + interval, interval);
    }
}

impl Train {
    /// What the path carried of it, in bits a second; `None` if too little came to tell.
    fn measure(&self) -> Option<f64> {
        let share = f64::from(self.bytes_came) / self.probe.bytes as f64;
        let (sent, received) = (self.sent.rate_bps()?, self.received.rate_bps()?);
        if self.came + 1 < PACKETS || share < CAME || received > STEP * sent {
            return None;
        }
        let lost = f64::from(self.bytes_lost) / f64::from(self.bytes_lost + self.bytes_came);
        let found = match () {
            () if received < SATURATED * sent => SHARE * received,
            () if lost <= CHANCE => received.min(sent) / (1.0 - lost),
            () => received.min(sent),
        };
        Some(found.min(self.probe.bitrate_bps as f64))
    }
}

impl Line {
    fn push(&mut self, bytes: u32, micros: u32) {
        if self.count == 0.0 {
            self.start = micros;
        }
        let (bytes, time) = (f64::from(bytes), f64::from(micros.wrapping_sub(self.start) as i32));
        self.count += 1.0;
        self.bytes += bytes;
        self.times += time;
        self.squares += bytes * bytes;
        self.products += bytes * time;
    }

    /// Bits a second; `None` if no time passes.
    fn rate_bps(&self) -> Option<f64> {
        let under = self.count * self.products - self.bytes * self.times;
        let over = self.count * self.squares - self.bytes * self.bytes;
        (under > 0.0).then(|| 8e6 * over / under)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    /// A train of 2 Mbit/s over an estimate of 1: ten packets of 750 bytes, one each 3 ms, that come with this
    /// distance except those that are lost.
    fn result(spacing: u32, lost: &[u32]) -> Option<u32> {
        let start = Instant::now();
        let mut prober = Prober::new(start);
        let probe = prober.poll(start, 1e6, 1e9, None).unwrap();
        assert_eq!(probe, Probe { cluster: 1, bitrate_bps: 2_000_000, bytes: 7_500, packets: 5 });
        for number in 0..10 {
            assert_eq!(prober.poll_result(start, RTT, 1e6), None, "not yet");
            let received = (!lost.contains(&number)).then_some(7 + number * spacing);
            let packet = Acknowledged { sent: 3_000 * number, received, was_lost: false, bytes: 750, cluster: 1 };
            prober.push(&packet);
            prober.push(&Acknowledged { cluster: 2, ..packet });
        }
        prober.poll_result(start, RTT, 1e6).map(|found| (found / 1e4).round() as u32)
    }

    #[test]
    fn a_train_shows_the_least_of_both_rates() {
        for (name, spacing, lost, expected) in [
            ("carried", 3_000, &[][..], Some(200)),
            ("compressed on the way", 2_400, &[], Some(200)),
            ("met a queue", 4_000, &[], Some(143)),
            ("shows no more", 6_000, &[], None),
            ("too compressed to be true", 1_200, &[], None),
            ("few are lost", 3_000, &[3, 7], Some(189)),
            ("some are lost", 3_000, &[3, 4, 7], Some(124)),
            ("most are lost", 3_000, &[1, 2, 3, 4, 5], None),
            ("all are lost", 3_000, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], None),
        ] {
            assert_eq!(result(spacing, lost), expected, "{name}");
        }
    }

    #[test]
    fn trains_follow_success_at_once_and_failure_later() {
        let start = Instant::now();
        let secs = |secs| start + Duration::from_secs(secs);
        let mut prober = Prober::new(start);
        assert_eq!(prober.poll(start, 1e6, 1e6, None), None, "no more is wanted");
        assert_eq!(prober.poll(start, 1e6, 1.2e6, None).unwrap().bitrate_bps, 1_440_000, "no faster than is wanted");
        assert_eq!(prober.poll(start, 1e6, 2e6, None), None, "one at a time");
        let mut failures = Vec::new();
        for second in 1..40 {
            prober.poll_result(secs(second), RTT, 1e6);
            failures.extend(prober.poll(secs(second), 1e6, 2e6, None).map(|probe| (second, probe.cluster)));
        }
        // The first was given up after a second.
        assert_eq!(failures, [(5, 2), (12, 3), (19, 4), (26, 5), (33, 6)]);
        prober.on_lowered(secs(40));
        assert_eq!(prober.poll(secs(41), 1e6, 2e6, None), None);
        prober.poll(secs(43), 1e6, 2e6, None).unwrap();
        for number in 0..10 {
            let (sent, cluster) = (3_000 * number, 7);
            prober.push(&Acknowledged { sent, received: Some(sent), was_lost: false, bytes: 750, cluster });
        }
        assert!(prober.poll_result(secs(43), RTT, 1e6).is_some());
        assert!(prober.poll(secs(43), 1.9e6, 4e6, None).is_some(), "it shall go on");
    }
}
