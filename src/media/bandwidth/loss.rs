//! Loss that chance does not explain: a path that loses one packet in ten at random, as Wi-Fi does, is not slowed
//! down for it.

use crate::media::bandwidth::history::Acknowledged;

/// The share that is borne: RTX repairs it. Lower slows down where loss has nothing to do with the rate; higher
/// keeps flooding a path that drops instead of queueing.
const BORNE: f64 = 0.10;

/// Standard deviations above it that count as more. Each message asks again, so two would be reached by chance.
const DEVIATIONS: f64 = 3.0;

/// Packets and messages before anything is said: what one burst loses is no rate.
const ENOUGH: (f64, u32) = (20.0, 5);

/// Packets and messages, some seconds, after which counting starts anew.
const MANY: (f64, u32) = (400.0, 30);

/// Packets since the rate was last lowered.
#[derive(Debug, Default)]
pub struct Loss {
    lost: f64,
    packets: f64,
    messages: u32,
    /// Lost as this message has it, and as the last had it: the next may still say that they came out of order.
    doubtful: f64,
    nearly: f64,
    /// Packets sent before this know nothing of the lowered rate.
    since: Option<u32>,
}

impl Loss {
    /// Counts a packet.
    pub fn push(&mut self, packet: &Acknowledged) {
        if self.since.is_some_and(|since| (packet.sent.wrapping_sub(since) as i32) < 0) {
            return;
        }
        self.since = None;
        match packet.received {
            None => self.doubtful += 1.0,
            Some(_) => {
                self.packets += 1.0;
                self.nearly = if packet.was_lost { (self.nearly - 1.0).max(0.0) } else { self.nearly };
            }
        }
    }

    /// A message ends: what the one before it missed is lost.
    pub fn settle(&mut self) {
        if self.packets >= MANY.0 && self.messages >= MANY.1 {
            (self.lost, self.packets, self.messages) = (0.0, 0.0, 0);
        }
        self.messages += 1;
        self.lost += self.nearly;
        self.packets += self.nearly;
        (self.nearly, self.doubtful) = (self.doubtful, 0.0);
    }

    /// The rate is lowered: packets count again from those sent from `micros` on.
    pub fn on_lowered(&mut self, micros: u32) {
        *self = Self { since: Some(micros), ..Self::default() };
    }

    /// The share that is lost, if it is too much: then the rate must be lowered.
    pub fn excess(&self) -> Option<f64> {
        self.is_beyond(DEVIATIONS).then(|| self.lost / self.packets)
    }

    /// Whether it may become too much: nothing should grow then.
    pub fn is_high(&self) -> bool {
        self.is_beyond(1.0)
    }

    /// Whether more is lost than is borne, and than chance adds to that in so many deviations.
    fn is_beyond(&self, deviations: f64) -> bool {
        let deviation = (BORNE * (1.0 - BORNE) * self.packets).sqrt();
        let is_enough = self.packets >= ENOUGH.0 && self.messages >= ENOUGH.1;
        is_enough && self.lost > BORNE * self.packets + deviations * deviation
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
            let mut seed = 5_u32;
            let mut loss = Loss::default();
            let mut found = 0;
            for number in 0..4_000 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                push(&mut loss, number..number + 1, ((seed >> 8) % 100 >= percent).then_some(0), false);
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
    fn what_came_late_is_not_lost_and_what_was_sent_before_does_not_count() {
        let mut loss = Loss::default();
        let settle = |loss: &mut Loss| {
            loss.settle();
            loss.excess()
        };
        (0..5).for_each(|_| loss.settle());
        push(&mut loss, 0..40, None, false);
        assert_eq!(settle(&mut loss), None, "in doubt");
        push(&mut loss, 0..40, Some(1), true);
        assert_eq!(settle(&mut loss), None, "all came");
        push(&mut loss, 40..80, None, false);
        assert_eq!(settle(&mut loss), None, "in doubt");
        assert_eq!(settle(&mut loss), Some(0.5));
        loss.on_lowered(100);
        push(&mut loss, 80..100, None, false);
        assert_eq!((settle(&mut loss), settle(&mut loss)), (None, None), "sent before");
        push(&mut loss, 100..120, None, false);
        assert_eq!((settle(&mut loss), settle(&mut loss)), (None, None), "a burst");
        assert_eq!(settle(&mut loss), Some(1.0));
    }
}
