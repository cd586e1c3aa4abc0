//! Probes: short trains of packets, faster than the estimate, that show whether the path would carry more.

use std::time::{Duration, Instant};

use crate::media::bandwidth::history::Acknowledged;

/// How long a train is. Longer is measured better and fills queues more: at twice the capacity, by as much as this.
const DURATION: Duration = Duration::from_millis(30);

/// The same beyond what the path was last known to carry, where only what follows the first half counts: what shapes a
/// path lets a burst of some kilobytes pass at once, and a short train shows nothing else. Longer fills queues more.
const LONG_DURATION: Duration = Duration::from_millis(100);

/// The same while nothing is known of the path.
const UNKNOWN_DURATION: Duration = Duration::from_millis(50);

/// Bitrate of the first train, its bytes, and those before the ones that are measured. The estimate is a guess then. A
/// faster train measures a narrow path no worse, and a wide one sooner; more bytes are lost where queues are short, fewer
/// show nothing but a burst.
const FIRST_BPS: f64 = 2.4e6;
const FIRST_BYTES: f64 = 12_000.0;
const FIRST_SKIPPED: f64 = 7_000.0;

/// Bytes that are measured of a long train at least: some packets.
const MEASURED_BYTES: f64 = 4_000.0;

/// Bytes beyond the path's bitrate that a token bucket may let pass: until a train shows otherwise, and after a raise that
/// was refuted. More fills queues more, fewer take a burst of 5 kB for a wider path.
const DEPTH: u32 = 5_000;

/// Time in which the path carries such a burst, at most. Longer fills the queues of very narrow paths.
const MAX_DEPTH: Duration = Duration::from_millis(150);

/// Least share of a train's bitrate that is beyond what the path is known to carry, as far as the length of the train is
/// concerned. Lower makes trains longer, higher measures within the burst.
const LEAST_EXCESS: f64 = 0.25;

/// A train that follows another one at once finds this part of the bucket filled again, one in so many.
const REFILLED: u32 = 4;

/// The first part, one in `EARLY`, of the bytes that a train skips is measured apart: it shows a queue only on a path that
/// lets no burst pass.
const EARLY: u32 = 2;

/// The rate is lowered so soon after a train raised it: the train met a burst. Shorter misses those that take long to fill
/// the queue, longer takes the blame for others' traffic.
const REFUTED: Duration = Duration::from_secs(4);

/// Rate of a train over the estimate: with 2, a path of 3 Mbit/s is found from 500 kbit/s in three steps. A long one
/// would fill the queue at that.
const STEP: f64 = 2.0;
const LONG_STEP: f64 = 1.5;

/// Rate of a train over what is wanted: as much as the measurement may err.
const MARGIN: f64 = 1.2;

/// Time between trains: at first, and at most while they show nothing. Shorter finds capacity sooner, and costs a
/// hundredth of it.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// Time until the next train where what media left of one showed nothing, neither a queue nor a higher rate.
const RETRY: Duration = Duration::from_millis(500);
const MAX_REPEATED: u32 = 2;

/// Jitter may make the rate of a train uncertain by this share; of more, another train is sent, which is longer. Lower
/// repeats trains for nothing, higher takes jitter for a queue or for its absence.
const NOISE: f64 = 0.15;
const STRETCH: f64 = 2.0;

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

/// One whose packets wait so much longer than its first one, in milliseconds, met a queue as well: media in it may have
/// left slower than the path carries. Less takes jitter for a queue.
const QUEUED_MS: f64 = 40.0;

/// Share of a train whose loss is taken for chance: it counts as carried. More than that was dropped by a queue.
const CHANCE: f64 = 0.2;

/// Share of a capacity so found that is used.
const SHARE: f64 = 0.95;

/// What is worth a raise, over the estimate.
pub const WORTH: f64 = 1.05;

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

/// What a train shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The estimate.
    pub bps: f64,
    /// It met a queue: the path carries no more.
    pub is_limit: bool,
    /// It is the first: what was estimated before was a guess.
    pub is_first: bool,
}

/// The train under way, and when the next is due.
#[derive(Debug)]
pub struct Prober {
    cluster: u8,
    train: Option<Train>,
    due: Instant,
    interval: Duration,
    /// A train has shown anything.
    is_begun: bool,
    /// When a train beyond the limit last raised the estimate.
    raised: Option<Instant>,
    /// Bytes of a burst that the path is believed to let pass.
    depth: u32,
    /// When a train last showed more: the next one follows at once, and finds the bucket empty.
    succeeded: Option<Instant>,
    /// The times of the last train's packets did not follow a line.
    is_noisy: bool,
    /// Trains in a row that showed nothing.
    repeated: u32,
}

/// What is known of a train.
#[derive(Clone, Copy, Debug)]
struct Train {
    /// When it is judged at the latest, but for a round trip.
    ends: Instant,
    probe: Probe,
    /// It is beyond what the path was last known to carry.
    is_beyond: bool,
    /// Bytes that came before it is measured.
    skipped: u32,
    /// Bytes of it that may have passed as a burst.
    burst: u32,
    came: u32,
    lost: u32,
    bytes_came: u32,
    bytes_lost: u32,
    sent: Line,
    received: Line,
    /// When its first packet and its last were sent and came, and the bytes after the first.
    first: Option<(u32, u32)>,
    last: (u32, u32),
    bytes_after: u32,
    /// The sum of squares of the differences between those times.
    delay_squares: f64,
    /// The same of the first of the bytes before.
    early_sent: Line,
    early_received: Line,
}

/// A line of least squares through times in microseconds over the bytes that came before: jitter moves it less than
/// it moves the first and the last packet.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The first time, modulo 2^32.
    start: u32,
    /// The last time since then.
    last: f64,
    count: f64,
    bytes: f64,
    times: f64,
    squares: f64,
    products: f64,
}

impl Prober {
    /// Its first train is due at once.
    pub fn new(now: Instant) -> Self {
        Self {
            cluster: 0,
            train: None,
            due: now,
            interval: INTERVALS.0,
            is_begun: false,
            raised: None,
            depth: DEPTH,
            succeeded: None,
            is_noisy: false,
            repeated: 0,
        }
    }

    /// A train, if one is due and more is wanted than the estimate. `limit_bps` is what the path was last known to carry.
    pub fn poll(&mut self, now: Instant, estimate_bps: f64, wanted_bps: f64, limit_bps: Option<f64>) -> Option<Probe> {
        if self.train.take_if(|train| now >= train.ends + FORGOTTEN).is_some() {
            self.postpone(now, INTERVALS.0);
        }
        if self.train.is_some() || now < self.due || wanted_bps <= estimate_bps {
            return None;
        }
        self.cluster = self.cluster % u8::MAX + 1;
        let is_beyond = limit_bps.is_none_or(|limit| STEP * estimate_bps > limit);
        let most = MARGIN * wanted_bps;
        let bytes_in = |bitrate: f64, duration: Duration| bitrate / 8.0 * duration.as_secs_f64();
        let stretch = if self.is_noisy { STRETCH } else { 1.0 };
        let (bitrate, bytes, skipped, burst) = match limit_bps {
            _ if !self.is_begun => {
                (FIRST_BPS.max(STEP * estimate_bps), stretch * FIRST_BYTES, stretch * FIRST_SKIPPED, DEPTH.into())
            }
            _ if is_beyond => {
                let (bitrate, duration) = match limit_bps {
                    Some(limit) => ((LONG_STEP * estimate_bps.max(limit)).min(STEP * estimate_bps), LONG_DURATION),
                    None => (STEP * estimate_bps, UNKNOWN_DURATION),
                };
                let bitrate = bitrate.min(most);
                let half = stretch * bytes_in(bitrate, duration) / 2.0;
                let excess = (1.0 - limit_bps.unwrap_or(estimate_bps).max(estimate_bps) / bitrate).max(LEAST_EXCESS);
                let depth = f64::from(if self.is_chained(now) { self.depth / REFILLED } else { self.depth });
                let depth = depth.min(bytes_in(estimate_bps, MAX_DEPTH));
                let skipped = half.max(depth / excess);
                (bitrate, skipped + half.max(MEASURED_BYTES), skipped, depth)
            }
            _ => {
                let bitrate = (STEP * estimate_bps).min(most);
                (bitrate, stretch * bytes_in(bitrate, DURATION), 0.0, 0.0)
            }
        };
        let lasts = Duration::from_secs_f64(8.0 * bytes / bitrate);
        let probe =
            Probe { cluster: self.cluster, bitrate_bps: bitrate as u64, bytes: bytes as usize, packets: PACKETS };
        self.train = Some(Train {
            ends: now + lasts + PATIENCE,
            probe,
            is_beyond,
            skipped: skipped as u32,
            burst: burst as u32,
            came: 0,
            lost: 0,
            bytes_came: 0,
            bytes_lost: 0,
            sent: Line::default(),
            received: Line::default(),
            first: None,
            last: (0, 0),
            bytes_after: 0,
            delay_squares: 0.0,
            early_sent: Line::default(),
            early_received: Line::default(),
        });
        Some(probe)
    }

    /// When the next train is due at the latest: nothing may be heard of the one under way.
    pub fn next(&self) -> Instant {
        self.train.map_or(self.due, |train| train.ends + FORGOTTEN)
    }

    /// Whether a train has shown anything.
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether a train that begins at `now` follows the last one at once.
    pub fn is_chained(&self, now: Instant) -> bool {
        self.succeeded.is_some_and(|at| now < at + RETRY)
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
                if train.bytes_came < train.skipped / EARLY {
                    train.early_sent.push(train.bytes_came, packet.sent);
                    train.early_received.push(train.bytes_came, received);
                }
                if train.bytes_came >= train.skipped {
                    train.sent.push(train.bytes_came, packet.sent);
                    train.received.push(train.bytes_came, received);
                    train.delay_squares += (train.received.last - train.sent.last).powi(2);
                }
                train.bytes_after += if train.first.is_some() { bytes } else { 0 };
                train.first.get_or_insert((packet.sent, received));
                train.last = (packet.sent, received);
                train.came += 1;
                train.bytes_came += bytes;
            }
        }
    }

    /// What the train shows, more than the estimate or less, once it is through; plans the next train.
    pub fn poll_result(&mut self, now: Instant, round_trip: Duration, estimate_bps: f64) -> Option<Found> {
        let train = self.train?;
        let Probe { bytes, packets, .. } = train.probe;
        let is_through = (train.bytes_came + train.bytes_lost) as usize >= bytes && train.came + train.lost >= packets;
        if !is_through && now < train.ends + round_trip {
            return None;
        }
        self.train = None;
        let Some((found, is_limit)) = train.measure() else {
            self.repeat(now);
            return None;
        };
        self.is_noisy = train.noise() > NOISE;
        if self.is_noisy && self.repeated < MAX_REPEATED {
            self.repeat(now);
            return None;
        }
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        if train.meets_queue_early() {
            self.depth /= 2;
        }
        if is_limit {
            self.on_refuted(now);
        }
        let is_more = found > WORTH * estimate_bps;
        match (is_more || is_first, is_limit) {
            (true, false) => {
                (self.due, self.interval, self.repeated) = (now, INTERVALS.0, 0);
                self.succeeded = Some(now);
                self.raised = if train.is_beyond { Some(now) } else { self.raised };
            }
            (false, false) => self.repeat(now),
            _ => self.postpone(now, (2 * self.interval).min(INTERVALS.1)),
        }
        Some(Found { bps: found, is_limit, is_first })
    }

    /// The rate was lowered at `now`: what a train would measure is a queue that drains.
    pub fn on_lowered(&mut self, now: Instant) {
        self.on_refuted(now);
        self.train = None;
        self.due = self.due.max(now + SETTLING);
    }

    /// A queue stands: what a train would measure is how it drains.
    pub fn defer(&mut self, now: Instant) {
        self.due = self.due.max(now + RETRY);
    }

    /// The path is back after an outage: what was under way tells nothing.
    pub fn restart(&mut self, now: Instant) {
        self.train = None;
        self.postpone(now, INTERVALS.0);
    }

    /// Media among the packets of a train left nothing to measure: another follows soon, unless that happened often.
    fn repeat(&mut self, now: Instant) {
        if self.repeated < MAX_REPEATED {
            self.repeated += 1;
            self.due = now + RETRY;
        } else if std::mem::replace(&mut self.is_begun, true) {
            self.postpone(now, (2 * self.interval).min(INTERVALS.1));
        } else {
            self.postpone(now, RETRY);
        }
    }

    /// The path carries no more: a train that has just shown more measured a burst.
    fn on_refuted(&mut self, now: Instant) {
        if self.raised.take().is_some_and(|raised| now < raised + REFUTED) {
            self.depth = DEPTH;
        }
    }

    fn postpone(&mut self, now: Instant, interval: Duration) {
        (self.due, self.interval, self.repeated) = (now + interval, interval, 0);
    }
}

impl Train {
    /// Whether its first packets met a queue already: no burst passes.
    fn meets_queue_early(&self) -> bool {
        let rates = self.early_sent.rate_bps().zip(self.early_received.rate_bps());
        rates.is_some_and(|(sent, received)| received < SATURATED * sent)
    }

    /// The bitrate of all of it but for what may have passed as a burst, the lesser of that at which it was sent and that at
    /// which it came, in bits a second.
    fn whole_bps(&self) -> f64 {
        let Some((sent, received)) = self.first else { return 0.0 };
        let lasted = self.last.0.wrapping_sub(sent).max(self.last.1.wrapping_sub(received)) as i32;
        let bytes = self.bytes_after.saturating_sub(self.burst);
        if lasted > 0 { 8e6 * f64::from(bytes) / f64::from(lasted) } else { 0.0 }
    }

    /// Milliseconds by which the packets that are measured were under way for longer than the first one.
    fn queue_ms(&self) -> f64 {
        let Some((sent, received)) = self.first else { return 0.0 };
        let later =
            |line: &Line, first: u32| f64::from(line.start.wrapping_sub(first) as i32) + line.times / line.count;
        (later(&self.received, received) - later(&self.sent, sent)) / 1e3
    }

    /// By how much jitter makes the rate at which it came uncertain, as a share of it.
    fn noise(&self) -> f64 {
        let Line { count, bytes, times, squares, products, .. } = self.received;
        let (delays, delay_products) = (times - self.sent.times, products - self.sent.products);
        let spread = squares - bytes * bytes / count;
        let slope = (products - bytes * times / count) / spread;
        let delay_slope = (delay_products - bytes * delays / count) / spread;
        let residual = self.delay_squares - delays * delays / count - delay_slope * delay_slope * spread;
        (residual.max(0.0) / (count - 2.0).max(1.0) / spread).sqrt() / slope
    }

    /// What the path carried of it, in bits a second, and whether it carries no more; `None` if too little came to tell.
    fn measure(&self) -> Option<(f64, bool)> {
        let share = f64::from(self.bytes_came) / self.probe.bytes as f64;
        let (sent, received) = (self.sent.rate_bps()?, self.received.rate_bps()?);
        // Media among its packets may leave faster for a moment.
        let sent = sent.min(self.probe.bitrate_bps as f64);
        if self.came + 1 < PACKETS || share < CAME || received > STEP * sent {
            return None;
        }
        let lost = f64::from(self.bytes_lost) / f64::from(self.bytes_lost + self.bytes_came);
        let is_limit = received < SATURATED * sent || self.queue_ms() > QUEUED_MS;
        // Where media went ahead, what is measured was slow; no queue is left of either.
        let carried = received.min(sent).max(self.whole_bps());
        let found = match () {
            () if is_limit => SHARE * received,
            () if lost <= CHANCE => carried / (1.0 - lost),
            () => received.min(sent),
        };
        Some((found.min(self.probe.bitrate_bps as f64), is_limit || lost > CHANCE))
    }
}

impl Line {
    fn push(&mut self, bytes: u32, micros: u32) {
        if self.count == 0.0 {
            self.start = micros;
        }
        let (bytes, time) = (f64::from(bytes), f64::from(micros.wrapping_sub(self.start) as i32));
        self.last = time;
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
        let mut prober = Prober { is_begun: true, ..Prober::new(start) };
        let probe = prober.poll(start, 1e6, 1e9, Some(1e9)).unwrap();
        assert_eq!(probe, Probe { cluster: 1, bitrate_bps: 2_000_000, bytes: 7_500, packets: 5 });
        for number in 0..10 {
            assert_eq!(prober.poll_result(start, RTT, 1e6), None, "not yet");
            let received = (!lost.contains(&number)).then_some(7 + number * spacing);
            let packet = Acknowledged { sent: 3_000 * number, received, was_lost: false, bytes: 750, cluster: 1 };
            prober.push(&packet);
            prober.push(&Acknowledged { cluster: 2, ..packet });
        }
        prober.poll_result(start, RTT, 1e6).map(|found| (found.bps / 1e4).round() as u32)
    }

    #[test]
    fn a_train_shows_the_least_of_both_rates() {
        for (name, spacing, lost, expected) in [
            ("carried", 3_000, &[][..], Some(200)),
            ("compressed on the way", 2_400, &[], Some(200)),
            ("met a queue", 4_000, &[], Some(143)),
            ("carries less than is estimated", 6_000, &[], Some(95)),
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
    fn trains_follow_success_at_once_and_failure_later() {
        let start = Instant::now();
        let secs = |secs| start + Duration::from_secs(secs);
        let mut prober = Prober { is_begun: true, ..Prober::new(start) };
        let limit = Some(1e9);
        assert_eq!(prober.poll(start, 1e6, 1e6, limit), None, "no more is wanted");
        assert_eq!(prober.poll(start, 1e6, 1.2e6, limit).unwrap().bitrate_bps, 1_440_000, "no faster than is wanted");
        assert_eq!(prober.poll(start, 1e6, 2e6, limit), None, "one at a time");
        let mut failures = Vec::new();
        for second in 1..40 {
            prober.poll_result(secs(second), RTT, 1e6);
            failures.extend(prober.poll(secs(second), 1e6, 2e6, limit).map(|probe| (second, probe.cluster)));
        }
        // Each train times out after a second. After two without a result the next follows soon, then one is skipped.
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
        assert!(prober.poll(secs(43), 1.9e6, 4e6, limit).is_some(), "it shall go on");
    }
}
