//! The queue that stays: how much longer packets are under way now, all of them, than they could be. The trend sees
//! a queue grow; one that is full, or that stands, has no trend.

/// A queue stands if the quickest packet of this long met it: bursts of frames and jitter leave quick ones between
/// them.
const RECENT_MICROS: u32 = 250_000;

/// How long the quickest packet is remembered that shows the path without a queue, and twice as long at most.
/// Shorter takes a queue for the path; longer takes a path that became longer for a queue.
const BASE_MICROS: u32 = 10_000_000;

/// The delays of one path.
#[derive(Debug, Default)]
pub struct Queue {
    /// The first delay: the clocks differ by it and more, and only differences count.
    first: Option<u32>,
    recent: Least,
    base: Least,
}

/// The least delay of the last one to two spans of time.
#[derive(Debug, Default)]
struct Least {
    began: u32,
    this: Option<i32>,
    before: Option<i32>,
}

impl Queue {
    /// Takes a packet that came, both times in microseconds modulo 2^32.
    pub fn push(&mut self, sent: u32, received: u32) {
        let delay = received.wrapping_sub(sent);
        let delay = delay.wrapping_sub(*self.first.get_or_insert(delay)) as i32;
        self.recent.push(sent, delay, RECENT_MICROS);
        self.base.push(sent, delay, BASE_MICROS);
    }

    /// Takes the queue that stands for part of the path.
    pub fn forget(&mut self) {
        (self.base.this, self.base.before) = (self.recent.least(), None);
    }

    /// Milliseconds of queue that even the quickest packet met.
    pub fn standing_ms(&self) -> f64 {
        match (self.recent.least(), self.base.least()) {
            (Some(recent), Some(base)) => (f64::from(recent) - f64::from(base)) / 1e3,
            _ => 0.0,
        }
    }
}

impl Least {
    fn push(&mut self, sent: u32, delay: i32, span: u32) {
        let since = sent.wrapping_sub(self.began) as i32;
        if self.this.is_none() || since > span as i32 || since < -(span as i32) {
            self.before = self.this.filter(|_| since.unsigned_abs() < 2 * span);
            (self.began, self.this) = (sent, None);
        }
        self.this = Some(self.this.map_or(delay, |this| this.min(delay)));
    }

    fn least(&self) -> Option<i32> {
        self.this.into_iter().chain(self.before).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_packets_meet_is_a_queue() {
        // Milliseconds from which on there is a delay, for one packet in two or for all; what stands at 6 s.
        for (name, every, delay, expected) in
            [("none", 1, 0, 0), ("bursts", 2, 150, 0), ("a queue", 1, 150, 150), ("a shorter way", 1, -20, -0)]
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
    fn a_queue_can_be_taken_for_the_path() {
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
