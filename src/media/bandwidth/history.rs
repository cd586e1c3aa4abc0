//! The packets sent to one subscriber, by transport-wide sequence number, until the receiver acknowledges them.

use std::time::Instant;

use crate::media::rtp::transport_feedback::Feedback;

/// Packets kept: two seconds at 10 Mbit/s, in 16 KB. Fewer would expire before a slow receiver reports them, more cost
/// memory for each subscriber with video. A power of two.
const PACKETS: usize = 2_048;

/// Ring buffer of sent packets.
#[derive(Debug)]
pub struct History {
    /// Start of the clock for sending times.
    base: Instant,
    /// The last sending time, as an instant and in microseconds. Cached because packets leave in batches.
    last: (Instant, u32),
    /// Sequence number of the next packet.
    next: u16,
    /// Sequence number of the first packet that no message has covered.
    uncovered: u16,
    /// Expected feedback packet count of the next message.
    next_message: u8,
    /// Empty until the first packet, then the whole ring.
    packets: Vec<Sent>,
}

/// A sent packet.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    sent: u32,
    bytes: u16,
    cluster: u8,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// No packet has been sent in this slot.
    #[default]
    Unused,
    InFlight,
    Lost,
    Received,
}

/// The reported fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Sending time in microseconds of the history's clock, modulo 2^32.
    pub sent: u32,
    /// Arrival time in microseconds of the receiver's clock, modulo 2^32; `None` if the packet is lost.
    pub received: Option<u32>,
    /// An earlier message reported the packet as lost.
    pub was_lost: bool,
    /// Size on the wire, in bytes.
    pub bytes: u16,
    /// The probe that the packet was part of, or 0.
    pub cluster: u8,
}

impl History {
    /// Upper bound of the heap memory in bytes.
    pub const MAX_BYTES: usize = PACKETS * size_of::<Sent>();

    /// Creates an empty history, without allocating.
    pub fn new(now: Instant) -> Self {
        Self { base: now, last: (now, 0), next: 0, uncovered: 0, next_message: 0, packets: Vec::new() }
    }

    /// Records a packet that is being sent, and returns its sequence number.
    pub fn push(&mut self, now: Instant, bytes: usize, cluster: u8) -> u16 {
        if self.packets.is_empty() {
            self.packets = vec![Sent::default(); PACKETS];
        }
        if now != self.last.0 {
            self.last = (now, self.micros(now));
        }
        let seq_no = self.next;
        self.next = seq_no.wrapping_add(1);
        let bytes = bytes.min(usize::from(u16::MAX)) as u16;
        let sent = Sent { sent: self.last.1, bytes, cluster, fate: Fate::InFlight };
        self.packets[usize::from(seq_no) % PACKETS] = sent;
        seq_no
    }

    /// Iterates over the packets whose fate a message changes. Each packet is reported as received once, and before
    /// that as lost at most once.
    pub fn acknowledge(&mut self, feedback: Feedback<'_>) -> impl Iterator<Item = Acknowledged> {
        self.next_message = feedback.count.wrapping_add(1);
        feedback.filter_map(|(seq_no, received)| {
            let age = self.next.wrapping_sub(1).wrapping_sub(seq_no);
            if usize::from(age) >= self.packets.len() {
                return None;
            }
            if age < self.next.wrapping_sub(self.uncovered) {
                self.uncovered = seq_no.wrapping_add(1);
            }
            let packet = &mut self.packets[usize::from(seq_no) % PACKETS];
            let was_lost = packet.fate == Fate::Lost;
            packet.fate = match (packet.fate, received) {
                (Fate::InFlight, None) => Fate::Lost,
                (Fate::InFlight | Fate::Lost, Some(_)) => Fate::Received,
                _ => return None,
            };
            let Sent { sent, bytes, cluster, .. } = *packet;
            Some(Acknowledged { sent, received, was_lost, bytes, cluster })
        })
    }

    /// Returns the packets before this message that no message has covered, as first sequence number and count, if a
    /// feedback message was lost in between. Call it before `acknowledge`.
    pub fn skipped(&self, feedback: &Feedback<'_>) -> (u16, u16) {
        let count = feedback.seq_no().wrapping_sub(self.uncovered);
        let is_past = count <= self.next.wrapping_sub(self.uncovered) && usize::from(count) < PACKETS;
        // Without a missing feedback message, the packets themselves were lost.
        let is_past = is_past && feedback.count != self.next_message;
        (self.uncovered, if is_past { count } else { 0 })
    }

    /// Iterates over sending time and size of `count` packets, starting with sequence number `first`.
    pub fn sent(&self, (first, count): (u16, u16)) -> impl Iterator<Item = (u32, u16)> {
        (0..count).map(move |number| {
            let packet = self.packets[usize::from(first.wrapping_add(number)) % PACKETS];
            (packet.sent, packet.bytes)
        })
    }

    /// Converts an instant to microseconds of the history's clock, modulo 2^32.
    pub fn micros(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.base);
        (elapsed.as_secs() as u32).wrapping_mul(1_000_000).wrapping_add(elapsed.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns a message about `count` packets from `base` on: all of them arrived at the same time, or none did.
    fn message(base: u16, count: u16, arrived: bool) -> Vec<u8> {
        let [a, b] = base.to_be_bytes();
        let [c, d] = count.to_be_bytes();
        let run = (if arrived { 0x2000 } else { 0 } | count).to_be_bytes();
        let mut body = vec![a, b, c, d, 0, 0, 1, 0, run[0], run[1]];
        body.resize(body.len() + usize::from(count), 0);
        body
    }

    fn acknowledge(history: &mut History, body: &[u8]) -> Vec<Acknowledged> {
        history.acknowledge(Feedback::new(body).unwrap()).collect()
    }

    #[test]
    fn a_packet_is_found_until_its_slot_is_reused() {
        let start = Instant::now();
        let mut history = History::new(start);
        assert_eq!(acknowledge(&mut history, &message(0, 5, true)), []);
        assert_eq!(history.packets.capacity(), 0, "nothing is allocated before the first packet");
        // Sequence numbers and microseconds wrap in this loop.
        for number in 0..200_000_u32 {
            let now = start + Duration::from_millis(50) * number;
            assert_eq!(history.push(now, 1_000 + number as usize % 100, 3), number as u16);
        }
        let next = 200_000_u32;
        let sent = |number: u32| (50_000 * u64::from(number)) as u32;
        for (name, back, found) in
            [("next", 0, false), ("older", 2_049, false), ("last", 1, true), ("oldest", 2_048, true)]
        {
            let number = next - back;
            let expected = Acknowledged {
                sent: sent(number),
                received: Some(64_000),
                was_lost: false,
                bytes: 1_000 + (number % 100) as u16,
                cluster: 3,
            };
            let expected = found.then_some(expected).into_iter().collect::<Vec<_>>();
            assert_eq!(acknowledge(&mut history, &message(number as u16, 1, true)), expected, "{name}");
        }
        assert_eq!(acknowledge(&mut history, &message(next as u16, 2_000, true)), [], "in the future");
    }

    #[test]
    fn packets_of_a_lost_feedback_message_are_found() {
        let start = Instant::now();
        let mut history = History::new(start);
        assert_eq!(history.skipped(&Feedback::new(&message(9, 1, true)).unwrap()), (0, 0), "nothing was sent");
        (0..65_530).for_each(|_| _ = history.push(start, 1, 0));
        acknowledge(&mut history, &message(65_500, 30, true));
        (0..20).for_each(|number| _ = history.push(start, 100 + number, 0));
        for (name, base, expected) in [
            ("the next", 65_530, 0),
            ("one lost", 65_531, 1),
            ("across the wrap", 2, 8),
            ("repeated", 65_520, 0),
            ("in the future", 15, 0),
        ] {
            let body = message(base, 1, true);
            let skipped = history.skipped(&Feedback::new(&body).unwrap());
            assert_eq!(skipped, (65_530, expected), "{name}");
            let sizes: Vec<_> = history.sent(skipped).map(|(_, bytes)| bytes).collect();
            assert_eq!(sizes, (100..100 + expected).collect::<Vec<_>>(), "{name}");
        }
        acknowledge(&mut history, &message(2, 1, true));
        acknowledge(&mut history, &message(65_530, 1, true));
        let mut body = message(4, 1, true);
        assert_eq!(history.skipped(&Feedback::new(&body).unwrap()), (3, 1));
        body[7] = 1;
        assert_eq!(history.skipped(&Feedback::new(&body).unwrap()), (3, 0), "no message is missing");
    }

    #[test]
    fn a_packet_is_received_once_and_lost_at_most_once_before() {
        let start = Instant::now();
        for (name, messages, expected) in [
            ("received twice", [true, true], vec![(true, false)]),
            ("lost twice", [false, false], vec![(false, false)]),
            ("late", [false, true], vec![(false, false), (true, true)]),
            ("denied", [true, false], vec![(true, false)]),
        ] {
            let mut history = History::new(start);
            history.push(start, 100, 0);
            let found: Vec<_> = messages
                .into_iter()
                .flat_map(|arrived| acknowledge(&mut history, &message(0, 1, arrived)))
                .map(|packet| (packet.received.is_some(), packet.was_lost))
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
