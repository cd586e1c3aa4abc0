//! A budget is what one participant may say: messages and bytes a second, and faults that are forgiven.
//!
//! A message is charged before it is read, so that one that is refused costs as much as one that is not. Chat has a
//! limit of its own beside these (see [`Participant`](crate::room::Participant)); a chat message within that limit is
//! given back, so that fast chatters have room for other messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::media::sdp;
use crate::place::Place;
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

/// How long the budget of a participant that left counts: until a spent one would be full again.
const KEPT: Duration = Duration::from_secs((MESSAGE_BURST / MESSAGE_RATE) as u64);

/// Budgets of participants that left. Beyond that the oldest is forgotten.
const MAX_KEPT: usize = 1_024;

/// What one participant may say. It outlives the connection: a client that returns goes on with what it has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    messages: Bucket,
    bytes: Bucket,
    strikes: Bucket,
    /// Bytes that the last offer gave for its answer, which has not come.
    lent_bytes: f64,
}

impl Budget {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: Bucket::new(now, MESSAGE_RATE, MESSAGE_BURST),
            bytes: Bucket::new(now, BYTE_RATE, BYTE_BURST + sdp::message_limit(0) as f64),
            strikes: Bucket::new(now, STRIKE_REFILL, STRIKES),
            lent_bytes: 0.0,
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
        self.settle(0);
        let bytes = sdp::message_limit(lines) as f64;
        self.lent_bytes = bytes;
        self.bytes.resize(BYTE_RATE, BYTE_BURST + bytes);
        self.bytes.give(bytes);
        self.messages.give(1.0);
    }

    /// The answer has come, in a message of `bytes` bytes that was charged: what the offer gave beyond these is over.
    pub(super) fn settle(&mut self, bytes: usize) {
        let lent = std::mem::take(&mut self.lent_bytes);
        self.bytes.take_back((lent - bytes as f64).max(0.0));
        self.bytes.resize(BYTE_RATE, BYTE_BURST);
    }

    /// Counts a fault. False if there were too many.
    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        self.strikes.take(now)
    }
}

/// What participants had left when they left, by network: a newcomer from there goes on with it, so that a client that
/// comes again as somebody else gets no second budget. Faults are not among it.
#[derive(Debug, Default)]
pub(super) struct Leftovers(VecDeque<Leftover>);

#[derive(Debug)]
struct Leftover {
    network: Place,
    until: Instant,
    budget: Budget,
    chat: Bucket,
}

impl Leftovers {
    /// The most that all of it takes.
    pub(super) const MAX_BYTES: usize = 2 * MAX_KEPT * size_of::<Leftover>();

    /// A participant has left.
    pub(super) fn keep(&mut self, now: Instant, network: Place, mut budget: Budget, chat: Bucket) {
        budget.settle(0);
        if self.0.len() >= MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Leftover { network, until: now + KEPT, budget, chat });
    }

    /// What the participant had left who was the last to leave, with its bucket of chat.
    pub(super) fn take(&mut self, now: Instant, network: Place) -> Option<(Budget, Bucket)> {
        while self.0.front().is_some_and(|oldest| oldest.until <= now) {
            self.0.pop_front();
        }
        let last = self.0.iter().rposition(|leftover| leftover.network == network)?;
        let Leftover { budget, chat, .. } = self.0.remove(last)?;
        Some((Budget { strikes: Budget::new(now).strikes, ..budget }, chat))
    }
}

#[cfg(test)]
mod tests {
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
            budget.settle(sdp::message_limit(lines));
            if round % 2 == 0 {
                assert!(budget.charge(now, LONGEST_CHAT as usize), "chat message {round}");
                budget.give_back_chat();
            }
        }
    }

    /// However many offers there are, short answers leave nothing for other messages.
    #[test]
    fn what_an_offer_gives_is_for_its_answer() {
        let start = Instant::now();
        let bytes = 50_000;
        let passed = |offers: usize| {
            let mut budget = Budget::new(start);
            for _ in 0..offers {
                budget.expect_answer(400);
                assert!(budget.charge(start, 1_000), "the answer passes");
                budget.settle(1_000);
            }
            (0..1_000).filter(|_| budget.charge(start, bytes)).count()
        };
        assert_eq!(passed(1), BYTE_BURST as usize / bytes);
        assert_eq!(passed(50), passed(1));
        // An offer that no answer comes to gives nothing to the next.
        let mut budget = Budget::new(start);
        (0..50).for_each(|_| budget.expect_answer(400));
        let most = (BYTE_BURST as usize + sdp::message_limit(400)) / bytes;
        assert!((0..1_000).filter(|_| budget.charge(start, bytes)).count() <= most);
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

    #[test]
    fn a_newcomer_goes_on_with_what_one_of_its_network_had_left() {
        let start = Instant::now();
        let place = |text: &str| Place::new(text.parse().expect("an address"));
        let (here, elsewhere) = (place("192.0.2.1"), place("192.0.2.2"));
        let chat = Bucket::new(start, CHAT_RATE, 20.0);
        let left = |budget: &Budget| {
            (0..)
                .take_while(|count| {
                    let mut messages = budget.messages;
                    messages.take_many(start, f64::from(*count + 1))
                })
                .count()
        };
        let mut leftovers = Leftovers::default();
        for spent in [60, 90] {
            let mut budget = Budget::new(start);
            (0..spent).for_each(|_| assert!(budget.charge(start, 1)));
            while budget.forgive(start) {}
            leftovers.keep(start, here, budget, chat);
        }
        assert!(leftovers.take(start, elsewhere).is_none());
        for expected in [10, 40] {
            let (mut budget, _) = leftovers.take(start, here).expect("it was kept");
            assert_eq!(left(&budget), expected);
            assert!(budget.forgive(start), "faults are another's");
        }
        assert!(leftovers.take(start, here).is_none());
        leftovers.keep(start, here, Budget::new(start), chat);
        assert!(leftovers.take(start + KEPT, here).is_none(), "it would be full");
        (0..2 * MAX_KEPT).for_each(|_| leftovers.keep(start, here, Budget::new(start), chat));
        assert_eq!(leftovers.0.len(), MAX_KEPT);
    }
}
