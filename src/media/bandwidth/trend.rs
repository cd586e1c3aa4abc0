//! The trend of the delay: whether a queue on the path grows, from how the distances between packets change on the
//! way (draft-ietf-rmcat-gcc-02 section 5; the slope of a fitted line takes the place of its Kalman filter).

/// Packets sent within this time are one group, as a frame is that leaves at its pace: how they follow each other says
/// more of the sender than of the path. Shorter, the line spans less time where much is sent; longer, it lags.
const GROUP_MICROS: i32 = 20_000;

/// Groups that the line is fitted to: two thirds of a second of frames. Fewer take jitter for a queue, more see a
/// queue late.
const POINTS: usize = 20;

/// Share of a new delay in the smoothed one that is fitted.
const SMOOTHING: f64 = 0.2;

/// Growth that is too much, in milliseconds of queue a second: to begin with, and its bounds.
const THRESHOLD: f64 = 50.0;
const THRESHOLDS: (f64, f64) = (25.0, 2_500.0);

/// How much of the distance to the trend the threshold goes in a millisecond: up, so that a flow that fills queues
/// does not starve this one, and slower back down.
const RISE: f64 = 0.0087;
const FALL: f64 = 0.039;

/// A trend farther beyond the threshold than this is an event, and does not move it.
const OUTLIER: f64 = 60.0;

/// A longer time between groups, or arrivals that jump as far, start anew.
const GAP_MICROS: i32 = 2_000_000;

/// What the queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// It neither grows nor shrinks.
    #[default]
    Normal,
    /// It grows: more is sent than the path carries.
    Over,
    /// It shrinks: what was too much drains.
    Under,
}

/// The delay of the last groups, and the line through it.
#[derive(Debug)]
pub struct Trend {
    /// The group that is being filled, and the one before.
    group: Option<Group>,
    previous: Option<Group>,
    /// Milliseconds since the first group, by arrival; the delay gained since then, and that smoothed.
    time: f64,
    delay: f64,
    smoothed: f64,
    /// Time and smoothed delay.
    points: [(f64, f64); POINTS],
    count: usize,
    threshold: f64,
    slope: f64,
    /// Groups in a row whose trend was too much.
    over: u32,
    usage: Usage,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: u32,
    last_sent: u32,
    last_received: u32,
}

impl Default for Trend {
    fn default() -> Self {
        Self {
            group: None,
            previous: None,
            time: 0.0,
            delay: 0.0,
            smoothed: 0.0,
            points: [(0.0, 0.0); POINTS],
            count: 0,
            threshold: THRESHOLD,
            slope: 0.0,
            over: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    /// Takes a packet that came, both times in microseconds modulo 2^32. One sent before the current group is of no
    /// use any more.
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

    /// What the queue does.
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
        let (sent, received) = (f64::from(sent) / 1e3, f64::from(received) / 1e3);
        self.time += received;
        self.delay += received - sent;
        self.smoothed += SMOOTHING * (self.delay - self.smoothed);
        self.points[self.count % POINTS] = (self.time, self.smoothed);
        self.count += 1;
        if self.count < POINTS {
            return;
        }
        let slope = slope(&self.points).unwrap_or(self.slope);
        let grows = slope >= self.slope;
        self.slope = slope;
        self.over = if slope > self.threshold { self.over + 1 } else { 0 };
        self.usage = match () {
            () if self.over >= 2 && grows => Usage::Over,
            () if slope < -self.threshold => Usage::Under,
            () if slope <= self.threshold => Usage::Normal,
            () => self.usage,
        };
        let beyond = slope.abs() - self.threshold;
        if beyond < OUTLIER {
            let speed = if beyond > 0.0 { RISE } else { FALL };
            let (least, most) = THRESHOLDS;
            self.threshold = (self.threshold + speed * beyond * sent.min(100.0) / 4.0).clamp(least, most);
        }
    }
}

/// Milliseconds a second that a line of least squares rises; `None` if all points have one time.
fn slope(points: &[(f64, f64); POINTS]) -> Option<f64> {
    let (times, delays) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (time, delay) = (times / POINTS as f64, delays / POINTS as f64);
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), point| {
        let x = point.0 - time;
        (over + x * (point.1 - delay), under + x * x)
    });
    (under > 0.0).then(|| 1e3 * over / under)
}

/// The later of two times modulo 2^32.
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Usages seen with a group each 33 ms whose delay is given in microseconds, after 3 s without.
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
    fn a_queue_is_seen_to_grow_and_to_drain() {
        use Usage::{Normal, Over, Under};
        let mut seed = 3_u32;
        let noise: Vec<u32> = (0..200)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) % 20_000
            })
            .collect();
        assert_eq!(usages(|_| 0), [Normal], "none");
        assert_eq!(usages(|number| 33 * number), [Normal], "a clock that drifts by 0.1 %");
        assert_eq!(usages(|number| 6_600 * number), [Normal, Over], "a fifth too much");
        assert_eq!(usages(|number| noise[number as usize]), [Normal], "jitter");
        let hill = |number: u32| 6_600 * if number < 30 { number } else { 30 - (number - 30).min(30) };
        assert_eq!(usages(hill), [Normal, Over, Normal, Under, Normal], "grows, then drains");
    }

    #[test]
    fn a_pause_or_a_clock_that_jumps_starts_anew() {
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
