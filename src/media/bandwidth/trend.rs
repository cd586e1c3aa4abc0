//! The trend of the one-way delay, which shows whether a queue on the path grows (draft-ietf-rmcat-gcc-02 section 5,
//! with the slope of a least-squares line in place of its Kalman filter).

/// Packets sent within this time form one group, like the paced packets of a frame: the gaps between them depend on the
/// sender more than on the path. With shorter groups the line spans less time at high rates; longer ones add latency.
const GROUP_MICROS: i32 = 20_000;

/// Number of groups that the line is fitted to: two thirds of a second of frames. Fewer mistake jitter for a queue,
/// more detect a queue late.
const POINTS: usize = 20;

/// Weight of a new delay in the smoothed delay.
const SMOOTHING: f64 = 0.2;

/// Threshold of the slope in milliseconds of queue per second: initial value and bounds.
const THRESHOLD: f64 = 50.0;
const THRESHOLDS: (f64, f64) = (25.0, 2_500.0);

/// Per millisecond, the threshold moves by this fraction of its distance to the slope. `RISE` keeps a flow that fills
/// queues from starving this one; `FALL` brings the threshold back.
const RISE: f64 = 0.0087;
const FALL: f64 = 0.039;

/// A slope that exceeds the threshold by more than this is an outlier and does not move it.
const OUTLIER: f64 = 60.0;

/// A longer gap between groups, or a larger jump of the arrival times, restarts the measurement.
const GAP_MICROS: i32 = 2_000_000;

/// State of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// The queue neither grows nor shrinks.
    #[default]
    Normal,
    /// The queue grows: the sending rate exceeds the capacity.
    Over,
    /// The queue shrinks.
    Under,
}

/// The delays of the last groups, and the line fitted to them.
#[derive(Debug)]
pub struct Trend {
    /// The group being filled, and the one before.
    group: Option<Group>,
    previous: Option<Group>,
    /// Microseconds since the first group, by arrival; the delay gained since then in milliseconds, and its smoothed
    /// value.
    time: i64,
    delay: f64,
    smoothed: f64,
    /// Time and smoothed delay of the last groups in microseconds, as a ring.
    points: [(i64, i64); POINTS],
    sums: Sums,
    count: usize,
    threshold: f64,
    slope: f64,
    /// Consecutive groups with a slope above the threshold.
    over: u32,
    usage: Usage,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: u32,
    last_sent: u32,
    last_received: u32,
}

/// Sums over the points, modulo 2^64. Times grow without bound, but the line depends only on their differences, which
/// are exact.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    times: i64,
    delays: i64,
    squares: i64,
    products: i64,
}

impl Default for Trend {
    fn default() -> Self {
        Self {
            group: None,
            previous: None,
            time: 0,
            delay: 0.0,
            smoothed: 0.0,
            points: [(0, 0); POINTS],
            sums: Sums::default(),
            count: 0,
            threshold: THRESHOLD,
            slope: 0.0,
            over: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    /// Records a packet that arrived; both times are in microseconds modulo 2^32. Packets sent before the current group
    /// are ignored.
    pub fn push(&mut self, sent: u32, received: u32) {
        let Some(group) = &mut self.group else {
            self.group = Some(Group { first_sent: sent, last_sent: sent, last_received: received });
            return;
        };
        let since = sent.wrapping_sub(group.first_sent) as i32;
        if since < 0 && since > -GAP_MICROS {
            return;
        }
        if (0..=GROUP_MICROS).contains(&since) {
            group.last_sent = later(group.last_sent, sent);
            group.last_received = later(group.last_received, received);
            return;
        }
        let done = *group;
        *group = Group { first_sent: sent, last_sent: sent, last_received: received };
        if let Some(previous) = self.previous.replace(done) {
            self.on_group(previous, done);
        }
    }

    /// Returns the state of the queue.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn on_group(&mut self, previous: Group, group: Group) {
        let sent = group.last_sent.wrapping_sub(previous.last_sent) as i32;
        let received = group.last_received.wrapping_sub(previous.last_received) as i32;
        if !(0..GAP_MICROS).contains(&sent) || !(-GAP_MICROS..GAP_MICROS).contains(&received) {
            *self = Self { group: self.group, ..Self::default() };
            return;
        }
        self.time += i64::from(received);
        self.delay += f64::from(received.wrapping_sub(sent)) / 1e3;
        self.smoothed += SMOOTHING * (self.delay - self.smoothed);
        let point = (self.time, (self.smoothed * 1e3) as i64);
        let oldest = std::mem::replace(&mut self.points[self.count % POINTS], point);
        self.sums.replace(oldest, point);
        self.count += 1;
        if self.count < POINTS {
            return;
        }
        let slope = self.sums.slope().unwrap_or(self.slope);
        let grows = slope >= self.slope;
        self.slope = slope;
        self.over = if slope > self.threshold { self.over + 1 } else { 0 };
        if self.over >= 2 && grows {
            self.usage = Usage::Over;
        } else if slope < -self.threshold {
            self.usage = Usage::Under;
        } else if slope <= self.threshold {
            self.usage = Usage::Normal;
        }
        let beyond = slope.abs() - self.threshold;
        if beyond < OUTLIER {
            let speed = if beyond > 0.0 { RISE } else { FALL };
            let (least, most) = THRESHOLDS;
            self.threshold =
                (self.threshold + speed * beyond * (f64::from(sent) / 1e3).min(100.0) / 4.0).clamp(least, most);
        }
    }
}

impl Sums {
    /// Removes the oldest point and adds a new one.
    fn replace(&mut self, oldest: (i64, i64), (time, delay): (i64, i64)) {
        let change = |sum: i64, removed: i64, added: i64| sum.wrapping_sub(removed).wrapping_add(added);
        self.times = change(self.times, oldest.0, time);
        self.delays = change(self.delays, oldest.1, delay);
        self.squares = change(self.squares, oldest.0.wrapping_mul(oldest.0), time.wrapping_mul(time));
        self.products = change(self.products, oldest.0.wrapping_mul(oldest.1), time.wrapping_mul(delay));
    }

    /// Returns the slope of the least-squares line in milliseconds per second; `None` if all points have the same time.
    fn slope(&self) -> Option<f64> {
        const COUNT: i64 = POINTS as i64;
        // Groups are less than `GAP_MICROS` apart, so both are far below 2^63.
        let over = COUNT.wrapping_mul(self.products).wrapping_sub(self.times.wrapping_mul(self.delays));
        let under = COUNT.wrapping_mul(self.squares).wrapping_sub(self.times.wrapping_mul(self.times));
        (under > 0).then(|| 1e3 * over as f64 / under as f64)
    }
}

/// Returns the later of two times modulo 2^32.
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the sequence of usages for one group per 33 ms with these delays in microseconds, after 3 s without
    /// delay.
    fn usages(delay: impl Fn(u32) -> u32) -> Vec<Usage> {
        let mut trend = Trend::default();
        // Both clocks wrap on the way.
        let (sent, received) = (u32::MAX - 4_000_000, u32::MAX - 3_000_000);
        let mut found = Vec::new();
        for number in 0..200 {
            let delay = if number < 90 { 0 } else { delay(number - 90) };
            for packet in 0..3 {
                let at = 33_000 * number + 100 * packet;
                trend.push(sent.wrapping_add(at), received.wrapping_add(at + delay));
            }
            if found.last() != Some(&trend.usage()) {
                found.push(trend.usage());
            }
        }
        found
    }

    #[test]
    fn growing_and_draining_queues_are_detected() {
        use Usage::{Normal, Over, Under};
        let mut random = fastrand::Rng::with_seed(3);
        let noise: Vec<u32> = (0..200).map(|_| random.u32(..20_000)).collect();
        assert_eq!(usages(|_| 0), [Normal], "none");
        assert_eq!(usages(|number| 33 * number), [Normal], "a clock that drifts by 0.1 %");
        assert_eq!(usages(|number| 6_600 * number), [Normal, Over], "a fifth too much");
        assert_eq!(usages(|number| noise[number as usize]), [Normal], "jitter");
        let hill = |number: u32| 6_600 * if number < 30 { number } else { 30 - (number - 30).min(30) };
        assert_eq!(usages(hill), [Normal, Over, Normal, Under, Normal], "grows, then drains");
    }

    #[test]
    fn a_pause_or_a_clock_jump_restarts_the_measurement() {
        for (pause, jump) in [(60_000_000_u32, 60_000_000_u32), (33_000, 1_900_000_000), (33_000, 2_300_000_000)] {
            let mut trend = Trend::default();
            for number in 0..40 {
                trend.push(33_000 * number, 40_000 * number);
            }
            assert_eq!(trend.usage(), Usage::Over);
            for number in 1..3 {
                trend.push(33_000 * 39 + number * pause, (40_000 * 39_u32).wrapping_add(number.wrapping_mul(jump)));
            }
            assert_eq!((trend.usage(), trend.count), (Usage::Normal, 0), "{pause} {jump}");
        }
    }
}
