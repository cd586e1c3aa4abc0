//! Detector of outages: times in which no sent packet arrives. Under congestion some packets still arrive, only fewer
//! or later, so an outage is not congestion: after it, the estimate stays as it was.

use crate::media::bandwidth::history::Acknowledged;

/// Shortest outage in microseconds. Even at 50 kbit/s, the lowest estimate, a full queue lets a packet pass every 0.2
/// s. A lower value mistakes a slow path for a dead one, a higher one mistakes an outage for congestion.
const MIN_OUTAGE_MICROS: i32 = 300_000;

/// Increase of the delay between two packets, in microseconds, that shows that an outage held the second one. A lower
/// value mistakes a queue for an outage, a higher one mistakes the end of an outage for a queue.
const MIN_HELD_MICROS: i32 = 500_000;

/// Minimum number of packets lost in an outage: at a low sending rate, fewer may be lost by chance.
const MIN_LOST: u32 = 5;

/// Sending and arrival time of the last packet that arrived, and the number of packets lost since.
#[derive(Debug, Default)]
pub struct Outages {
    last: Option<(u32, u32)>,
    lost: u32,
}

/// The kind of an outage that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// All packets sent during the outage were lost.
    Lost,
    /// The packets were held on the path and arrive late.
    Held,
}

impl Outages {
    /// Processes a packet, in the order of the feedback. Returns the outage that its arrival ends.
    #[inline]
    pub fn push(&mut self, packet: &Acknowledged) -> Option<Outage> {
        let Some(received) = packet.received else {
            self.lost += 1;
            return None;
        };
        let Some((last_sent, last_received)) = self.last else {
            self.last = Some((packet.sent, received));
            self.lost = 0;
            return None;
        };
        let sent = packet.sent.wrapping_sub(last_sent) as i32;
        if sent < 0 {
            return None;
        }
        self.last = Some((packet.sent, received));
        let lost = std::mem::take(&mut self.lost);
        let later = (received.wrapping_sub(last_received) as i32).wrapping_sub(sent);
        if sent >= MIN_OUTAGE_MICROS && lost >= MIN_LOST {
            Some(Outage::Lost)
        } else if later >= MIN_HELD_MICROS {
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
        // One packet per 20 ms. Packets in `lost` are lost; those from `late` on arrive `by` milliseconds later.
        for (name, lost, late, by, expected) in [
            ("none", 0..0, 99, 0, None),
            ("short", 10..23, 99, 0, None),
            ("all lost", 10..25, 99, 0, Some((25, Outage::Lost))),
            ("all late", 0..0, 30, 600, Some((30, Outage::Held))),
            ("a longer path", 0..0, 30, 400, None),
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
    fn neither_a_few_lost_packets_nor_a_full_queue_is_an_outage() {
        let mut outages = Outages::default();
        for number in 0..100_u32 {
            // One packet per 100 ms; four of five are lost, and the queue grows by 190 ms each time.
            let received = number.is_multiple_of(5).then_some(290_000 * number);
            let packet = Acknowledged { sent: 100_000 * number, received, was_lost: false, bytes: 1, cluster: 0 };
            assert_eq!(outages.push(&packet).filter(|outage| *outage == Outage::Lost), None);
        }
    }
}
