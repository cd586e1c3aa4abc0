//! An outage: a time in which nothing of what was sent arrives. Congestion lets packets through all the time, only
//! fewer or later, so the end of an outage is no reason to send less.

use crate::media::bandwidth::history::Acknowledged;

/// The shortest outage in microseconds. A full queue lets a packet pass each 0.2 s even at 50 kbit/s, which is the
/// least that is ever estimated. Shorter takes a slow path for a dead one, longer takes an outage for congestion.
const LEAST_MICROS: i32 = 300_000;

/// How much later than the packet before it a packet arrives that was held in an outage. Shorter takes a queue for one,
/// longer takes its end for a queue.
const HELD_MICROS: i32 = 500_000;

/// Packets that are lost in an outage at least: fewer may be lost by chance where few are sent.
const LEAST_LOST: u32 = 5;

/// The packet that arrived last, and the packets lost since then.
#[derive(Debug, Default)]
pub struct Outages {
    last: Option<(u32, u32)>,
    lost: u32,
}

/// An outage that a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// All packets sent in that time are lost.
    Lost,
    /// They were held somewhere and arrive now, late.
    Held,
}

impl Outages {
    /// Takes a packet in the order of the feedback; returns the outage that ends with it.
    #[inline]
    pub fn push(&mut self, packet: &Acknowledged) -> Option<Outage> {
        let Some(received) = packet.received else {
            self.lost += 1;
            return None;
        };
        let Some((last_sent, last_received)) = self.last else {
            (self.last, self.lost) = (Some((packet.sent, received)), 0);
            return None;
        };
        let sent = packet.sent.wrapping_sub(last_sent) as i32;
        if sent < 0 {
            return None;
        }
        self.last = Some((packet.sent, received));
        let lost = std::mem::take(&mut self.lost);
        let later = (received.wrapping_sub(last_received) as i32).wrapping_sub(sent);
        if sent >= LEAST_MICROS && lost >= LEAST_LOST {
            Some(Outage::Lost)
        } else if later >= HELD_MICROS {
            Some(Outage::Held)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_without_any_arrival_is_an_outage() {
        // A packet each 20 ms. `lost` are the lost ones; those from `late` on arrive `by` milliseconds later.
        for (name, lost, late, by, expected) in [
            ("none", 0..0, 99, 0, None),
            ("short", 10..23, 99, 0, None),
            ("all lost", 10..25, 99, 0, Some((25, Outage::Lost))),
            ("all late", 0..0, 30, 600, Some((30, Outage::Held))),
            ("a longer way", 0..0, 30, 400, None),
        ] {
            let mut outages = Outages::default();
            let found: Vec<_> = (0..50_u32)
                .filter_map(|number| {
                    let sent = (20_000 * number).wrapping_sub(300_000);
                    let delay = if number >= late { 1_000 * by } else { 0 };
                    let received = (!lost.contains(&number)).then_some(sent.wrapping_add(delay));
                    let packet = Acknowledged { sent, received, was_lost: false, bytes: 1_000, cluster: 0 };
                    Some((number, outages.push(&packet)?))
                })
                .collect();
            assert_eq!(found, Vec::from_iter(expected), "{name}");
        }
    }

    #[test]
    fn a_few_packets_lost_in_a_row_are_chance_and_a_full_queue_is_congestion() {
        let mut outages = Outages::default();
        for number in 0..100_u32 {
            // Each 100 ms a packet, of which four of five are lost; and the queue grows by 190 ms each time.
            let received = number.is_multiple_of(5).then_some(290_000 * number);
            let packet = Acknowledged { sent: 100_000 * number, received, was_lost: false, bytes: 1, cluster: 0 };
            assert_eq!(outages.push(&packet).filter(|outage| *outage == Outage::Lost), None);
        }
    }
}
