//! The standing queue: by how much the delay of even the fastest recent packet exceeds the minimum of the path. The
//! trend detects a growing queue, but a full or standing queue has no trend.

/// Window of the recent minimum delay. A queue stands only if it delays all packets of the window; bursts of frames and
/// jitter leave undelayed packets in between.
const RECENT_MICROS: u32 = 250_000;

/// Window of the base delay, which is the delay of the path without a queue; up to twice as long is remembered. A
/// shorter window mistakes a queue for the path; a longer one mistakes a path that became longer for a queue.
const BASE_MICROS: u32 = 10_000_000;

/// A burst counts as delivered without a queue if some recent packet was delayed by less than `BURST_MS`, and the arrival rate exceeds
/// `BURST_ARRIVED` of the sending rate. Wider bounds mistake a drop of the capacity for a burst, narrower ones lower
/// the estimate for each keyframe.
const BURST_MS: f64 = 10.0;
const BURST_ARRIVED: f64 = 0.85;

/// The delays on one path.
#[derive(Debug, Default)]
pub struct Queue {
    /// Delay of the first packet. The clocks of sender and receiver differ, so only differences of delays are used.
    first: Option<u32>,
    recent: WindowedMin,
    base: WindowedMin,
}

/// Minimum delay over the last one to two windows.
#[derive(Debug, Default)]
struct WindowedMin {
    began: u32,
    this: Option<i32>,
    before: Option<i32>,
}

impl Queue {
    /// Records a packet that arrived; both times are in microseconds modulo 2^32.
    pub fn push(&mut self, sent: u32, received: u32) {
        let delay = received.wrapping_sub(sent);
        let delay = delay.wrapping_sub(*self.first.get_or_insert(delay)) as i32;
        self.recent.push(sent, delay, RECENT_MICROS);
        self.base.push(sent, delay, BASE_MICROS);
    }

    /// Makes the current delay the base delay: the standing queue counts as part of the path.
    pub fn forget(&mut self) {
        self.base.this = self.recent.least();
        self.base.before = None;
    }

    /// Returns the queueing delay in milliseconds that all recent packets met.
    pub fn standing_ms(&self) -> f64 {
        match (self.recent.least(), self.base.least()) {
            (Some(recent), Some(base)) => (f64::from(recent) - f64::from(base)) / 1e3,
            _ => 0.0,
        }
    }
}

impl WindowedMin {
    fn push(&mut self, sent: u32, delay: i32, span: u32) {
        let since = sent.wrapping_sub(self.began) as i32;
        if self.this.is_none() || since > span as i32 || since < -(span as i32) {
            self.before = self.this.filter(|_| since.unsigned_abs() < 2 * span);
            self.began = sent;
            self.this = None;
        }
        self.this = Some(self.this.map_or(delay, |this| this.min(delay)));
    }

    fn least(&self) -> Option<i32> {
        self.this.into_iter().chain(self.before).min()
    }
}

/// Returns true if what was sent at `sent` has arrived at `received`, both in bits per second, and left no queue.
pub(super) fn is_delivered(standing_ms: f64, sent: f64, received: f64) -> bool {
    standing_ms < BURST_MS && received > BURST_ARRIVED * sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_delay_of_all_packets_is_a_standing_queue() {
        // From 3 s on, `delay` ms for every packet or every second one; `expected` is the standing queue at 6 s.
        for (name, every, delay, expected) in
            [("none", 1, 0, 0), ("bursts", 2, 150, 0), ("a queue", 1, 150, 150), ("a shorter path", 1, -20, -0)]
        {
            let mut queue = Queue::default();
            assert_eq!(queue.standing_ms(), 0.0);
            let (sent, received) = (u32::MAX - 3_000_000, u32::MAX - 2_000_000);
            let mut standing = Vec::new();
            for ms in (0..40_000_u32).step_by(10) {
                let delay = if ms >= 3_000 && (ms / 10) % every == 0 { 1_000 * delay } else { 0 };
                let at = 1_000 * ms;
                queue.push(sent.wrapping_add(at), received.wrapping_add(at).wrapping_add_signed(delay));
                standing.push(queue.standing_ms() as i32);
            }
            assert_eq!((standing[299], standing[600], standing[3_900]), (0, expected, 0), "{name}");
        }
    }

    #[test]
    fn forget_makes_a_standing_queue_part_of_the_path() {
        let mut queue = Queue::default();
        queue.push(0, 50_000);
        (1..100).for_each(|number| queue.push(10_000 * number, 10_000 * number + 150_000));
        assert_eq!(queue.standing_ms(), 100.0);
        queue.forget();
        assert_eq!(queue.standing_ms(), 0.0);
        queue.push(1_000_000, 1_120_000);
        assert_eq!(queue.standing_ms(), 0.0);
        (102..200).for_each(|number| queue.push(10_000 * number, 10_000 * number + 150_000));
        assert_eq!(queue.standing_ms(), 30.0);
    }
}
