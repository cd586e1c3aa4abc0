//! Detector of loss beyond chance. Random loss of one packet in ten, as on Wi-Fi, does not lower the rate.

use crate::media::bandwidth::history::Acknowledged;

/// Tolerated loss, which retransmissions recover. A lower value slows down where loss does not depend on the rate; a
/// higher one keeps flooding a path that drops packets instead of queueing them.
const TOLERATED: f64 = 0.10;

/// Standard deviations above the tolerated loss that count as excess. The test is repeated with each message, so two
/// would be reached by chance.
const DEVIATIONS: f64 = 3.0;

/// Minimum numbers of packets and messages for a decision: the loss of one burst is not a rate.
const MIN_SAMPLE: (f64, u32) = (20.0, 5);

/// Numbers of packets and messages, some seconds of them, after which counting restarts.
const MAX_SAMPLE: (f64, u32) = (400.0, 30);

/// Loss counts since the rate was last lowered.
#[derive(Debug, Default)]
pub struct Loss {
    lost: f64,
    packets: f64,
    messages: u32,
    /// Packets first reported as lost by this message, and by the one before. They count as lost only when the next
    /// message does not report them as received late.
    unconfirmed: f64,
    unconfirmed_before: f64,
    /// Packets sent before this time are not counted: they were sent at the old rate.
    counted_from: Option<u32>,
}

impl Loss {
    /// Counts a packet.
    pub fn push(&mut self, packet: &Acknowledged) {
        if self.counted_from.is_some_and(|counted_from| (packet.sent.wrapping_sub(counted_from) as i32) < 0) {
            return;
        }
        self.counted_from = None;
        match packet.received {
            None => self.unconfirmed += 1.0,
            Some(_) => {
                self.packets += 1.0;
                self.unconfirmed_before =
                    if packet.was_lost { (self.unconfirmed_before - 1.0).max(0.0) } else { self.unconfirmed_before };
            }
        }
    }

    /// Ends a message: packets that the message before reported as lost, and this one did not correct, count as lost.
    pub fn settle(&mut self) {
        if self.packets >= MAX_SAMPLE.0 && self.messages >= MAX_SAMPLE.1 {
            self.lost = 0.0;
            self.packets = 0.0;
            self.messages = 0;
        }
        self.messages += 1;
        self.lost += self.unconfirmed_before;
        self.packets += self.unconfirmed_before;
        self.unconfirmed_before = self.unconfirmed;
        self.unconfirmed = 0.0;
    }

    /// Restarts counting after the rate was lowered, with the packets sent from `micros` on.
    pub fn on_lowered(&mut self, micros: u32) {
        *self = Self { counted_from: Some(micros), ..Self::default() };
    }

    /// Returns the lost fraction if it is excessive, so that the rate must be lowered.
    pub fn excess(&self) -> Option<f64> {
        self.is_beyond(DEVIATIONS).then(|| self.lost / self.packets)
    }

    /// Returns true if loss may become excessive, so that the rate must not grow.
    pub fn is_high(&self) -> bool {
        self.is_beyond(1.0)
    }

    /// Returns true if loss exceeds the tolerated fraction by more than `deviations` standard deviations.
    fn is_beyond(&self, deviations: f64) -> bool {
        let deviation = (TOLERATED * (1.0 - TOLERATED) * self.packets).sqrt();
        let is_enough = self.packets >= MIN_SAMPLE.0 && self.messages >= MIN_SAMPLE.1;
        is_enough && self.lost > TOLERATED * self.packets + deviations * deviation
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn push(loss: &mut Loss, numbers: Range<u32>, received: Option<u32>, was_lost: bool) {
        for sent in numbers {
            loss.push(&Acknowledged { sent, received, was_lost, bytes: 1, cluster: 0 });
        }
    }

    #[test]
    fn only_loss_beyond_chance_is_too_much() {
        for (name, percent, expected) in
            [("none", 0, 0..1), ("Wi-Fi", 9, 0..2), ("much", 16, 2..25), ("half", 50, 20..200)]
        {
            let mut random = fastrand::Rng::with_seed(5);
            let mut loss = Loss::default();
            let mut found = 0;
            for number in 0..4_000 {
                push(&mut loss, number..number + 1, (random.u32(..100) >= percent).then_some(0), false);
                if number % 10 == 0 {
                    loss.settle();
                    if loss.excess().is_some() {
                        loss.on_lowered(number);
                        found += 1;
                    }
                }
            }
            assert!(expected.contains(&found), "{name}: {found}");
        }
    }

    #[test]
    fn late_packets_are_not_lost_and_packets_sent_before_the_reduction_do_not_count() {
        let mut loss = Loss::default();
        let settle = |loss: &mut Loss| {
            loss.settle();
            loss.excess()
        };
        (0..5).for_each(|_| loss.settle());
        push(&mut loss, 0..40, None, false);
        assert_eq!(settle(&mut loss), None, "unconfirmed");
        push(&mut loss, 0..40, Some(1), true);
        assert_eq!(settle(&mut loss), None, "all arrived late");
        push(&mut loss, 40..80, None, false);
        assert_eq!(settle(&mut loss), None, "unconfirmed");
        assert_eq!(settle(&mut loss), Some(0.5));
        loss.on_lowered(100);
        push(&mut loss, 80..100, None, false);
        assert_eq!((settle(&mut loss), settle(&mut loss)), (None, None), "sent before the reduction");
        push(&mut loss, 100..120, None, false);
        assert_eq!((settle(&mut loss), settle(&mut loss)), (None, None), "a burst");
        assert_eq!(settle(&mut loss), Some(1.0));
    }
}
