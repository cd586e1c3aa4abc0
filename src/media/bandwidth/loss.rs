//! Loss that chance does not explain: a path that loses one packet in ten at random, as Wi-Fi does, is not slowed
//! down for it.

use crate::media::bandwidth::history::Acknowledged;

/// The share that is borne: RTX repairs it. Lower slows down where loss has nothing to do with the rate; higher
/// keeps flooding a path that drops instead of queueing.
const BORNE: f64 = 0.10;

/// Standard deviations above it that count as more. Each message asks again, so two would be reached by chance.
const DEVIATIONS: f64 = 3.0;

/// Packets before anything is said, and after which counting starts anew.
const ENOUGH: f64 = 20.0;
const MANY: f64 = 400.0;

/// Packets since the rate was last lowered for loss.
#[derive(Debug, Default)]
pub struct Loss {
    lost: f64,
    packets: f64,
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
        match (packet.received, packet.was_lost) {
            (Some(_), true) => self.lost = (self.lost - 1.0).max(0.0),
            (Some(_), false) => self.packets += 1.0,
            (None, _) => (self.lost, self.packets) = (self.lost + 1.0, self.packets + 1.0),
        }
    }

    /// Whether it may become too much: nothing should grow then.
    pub fn is_high(&self) -> bool {
        self.packets >= ENOUGH && self.lost > self.bound(1.0)
    }

    /// The rate is lowered: packets count again from those sent from `micros` on.
    pub fn on_lowered(&mut self, micros: u32) {
        *self = Self { since: Some(micros), ..Self::default() };
    }

    /// The share that is lost, if it is too much: then the rate must be lowered.
    pub fn excess(&mut self) -> Option<f64> {
        let Self { lost, packets, .. } = *self;
        if packets >= ENOUGH && lost > self.bound(DEVIATIONS) {
            return Some(lost / packets);
        }
        if packets >= MANY {
            (self.lost, self.packets) = (0.0, 0.0);
        }
        None
    }

    /// Packets that are lost at most of those sent, if chance goes so many deviations beyond what is borne.
    fn bound(&self, deviations: f64) -> f64 {
        let deviation = (BORNE * (1.0 - BORNE) * self.packets).sqrt();
        BORNE * self.packets + deviations * deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loss_beyond_chance_is_too_much() {
        for (name, percent, expected) in
            [("none", 0, 0..1), ("Wi-Fi", 9, 0..2), ("much", 16, 2..25), ("half", 50, 30..200)]
        {
            let mut seed = 5_u32;
            let mut loss = Loss::default();
            let mut found = 0;
            for number in 0..4_000 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let received = ((seed >> 8) % 100 >= percent).then_some(0);
                loss.push(&Acknowledged { sent: number, received, was_lost: false, bytes: 1, cluster: 0 });
                if number % 10 == 0 && loss.excess().is_some() {
                    loss.on_lowered(number);
                    found += 1;
                }
            }
            assert!(expected.contains(&found), "{name}: {found}");
        }
    }

    #[test]
    fn what_came_late_is_not_lost_and_what_was_sent_before_does_not_count() {
        let packet = |sent, received, was_lost| Acknowledged { sent, received, was_lost, bytes: 1, cluster: 0 };
        let mut loss = Loss::default();
        (0..40).for_each(|sent| loss.push(&packet(sent, None, false)));
        (0..40).for_each(|sent| loss.push(&packet(sent, Some(1), true)));
        assert_eq!(loss.excess(), None);
        (40..80).for_each(|sent| loss.push(&packet(sent, None, false)));
        assert_eq!(loss.excess(), Some(0.5));
        loss.on_lowered(100);
        (80..100).for_each(|sent| loss.push(&packet(sent, None, false)));
        assert_eq!(loss.excess(), None);
        (100..120).for_each(|sent| loss.push(&packet(sent, None, false)));
        assert_eq!(loss.excess(), Some(1.0));
    }
}
