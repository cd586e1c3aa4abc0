//! A budget is what one participant may say: messages and bytes a second, and faults that are forgiven.
//!
//! A message is charged before it is read, so that one that is refused costs as much as one that is not. Chat has a
//! limit of its own beside these (see [`Participant`](crate::room::Participant)); a chat message within that limit is
//! given back, so that fast chatters have room for other messages.

use std::time::Instant;

use crate::bucket::Bucket;
use crate::media::sdp;
use crate::room::{CHAT_BYTES, CHAT_RATE};

/// Messages a second that one participant may send, and how many at once. Lower cuts off pages that tell of many
/// tiles while the window is resized; higher makes the server read and answer more for one client.
const MESSAGE_RATE: f64 = 10.0;
const MESSAGE_BURST: f64 = 100.0;

/// Bytes of the longest chat message in JSON: an escaped character has six.
const LONGEST_CHAT: f64 = 6.0 * CHAT_BYTES as f64 + 64.0;

/// Bytes of messages a second that one participant may send, and how many at once beside one answer. As much as the
/// longest chat messages at their limit; more is read for nobody.
const BYTE_RATE: f64 = CHAT_RATE * LONGEST_CHAT;
const BYTE_BURST: f64 = 512.0 * 1024.0;

/// Faults that are forgiven at once, and how many more a second.
const STRIKES: f64 = 10.0;
const STRIKE_REFILL: f64 = 0.1;

/// What one participant may say. It outlives the connection: a client that returns goes on with what it has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    messages: Bucket,
    bytes: Bucket,
    strikes: Bucket,
}

impl Budget {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: Bucket::new(now, MESSAGE_RATE, MESSAGE_BURST),
            bytes: Bucket::new(now, BYTE_RATE, BYTE_BURST + sdp::message_limit(0) as f64),
            strikes: Bucket::new(now, STRIKE_REFILL, STRIKES),
        }
    }

    /// Charges a message of `bytes` bytes. Returns false if the budget is spent: the message must not be parsed.
    pub(super) fn charge(&mut self, now: Instant, bytes: usize) -> bool {
        self.messages.take(now) && self.bytes.take_many(now, bytes as f64)
    }

    /// Gives back the number of a chat message that was within the limit of chat; its bytes stay charged.
    pub(super) fn give_back_chat(&mut self) {
        self.messages.give(1.0);
    }

    /// An offer with so many m-lines goes out: its answer is on the server's account.
    pub(super) fn expect_answer(&mut self, lines: usize) {
        let bytes = sdp::message_limit(lines) as f64;
        self.bytes.resize(BYTE_RATE, BYTE_BURST + bytes);
        self.bytes.give(bytes);
        self.messages.give(1.0);
    }

    /// Counts a fault. False if there were too many.
    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        self.strikes.take(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// However often others come and go, each answer passes, beside as much chat as is allowed.
    #[test]
    fn answers_are_never_too_many() {
        let mut now = Instant::now();
        let mut budget = Budget::new(now);
        for round in 0..10_000 {
            now += Duration::from_millis(50);
            let lines = 2 + round % 400;
            budget.expect_answer(lines);
            assert!(budget.charge(now, sdp::message_limit(lines)), "answer {round}");
            if round % 2 == 0 {
                assert!(budget.charge(now, LONGEST_CHAT as usize), "chat message {round}");
                budget.give_back_chat();
            }
        }
    }

    #[test]
    fn messages_and_bytes_are_limited() {
        let start = Instant::now();
        let passed = |bytes: usize| {
            let mut budget = Budget::new(start);
            let at = |ms| start + Duration::from_millis(ms);
            (0..10_000).filter(|ms| budget.charge(at(*ms), bytes)).count()
        };
        assert_eq!(passed(10), 199, "a burst of 100, and 10 a second");
        let bytes = 50_000;
        let most = (BYTE_BURST + sdp::message_limit(0) as f64 + 10.0 * BYTE_RATE) as usize / bytes;
        assert!((most - 1..=most).contains(&passed(bytes)), "{} of {most}", passed(bytes));
    }
}
