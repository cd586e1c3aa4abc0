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
use crate::server::members::ID_CHARS;

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
    /// Bytes that the answer to the last offer may have beside these; none when it has come.
    answer_bytes: usize,
}

impl Budget {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            messages: Bucket::new(now, MESSAGE_RATE, MESSAGE_BURST),
            bytes: Bucket::new(now, BYTE_RATE, BYTE_BURST),
            strikes: Bucket::new(now, STRIKE_REFILL, STRIKES),
            answer_bytes: 0,
        }
    }

    /// Charges a message of `bytes` bytes. Returns false if the budget is spent: the message must not be parsed.
    pub(super) fn charge(&mut self, now: Instant, bytes: usize) -> bool {
        let is_paid = self.messages.take(now);
        if is_paid && !self.bytes.take_many(now, bytes as f64) {
            self.messages.give(1.0);
            return false;
        }
        is_paid
    }

    /// Gives back the number of a chat message that was within the limit of chat; its bytes stay charged.
    pub(super) fn give_back_chat(&mut self) {
        self.messages.give(1.0);
    }

    /// An offer with so many m-lines goes out: its answer is on the server's account.
    pub(super) fn expect_answer(&mut self, lines: usize) {
        self.answer_bytes = sdp::message_limit(lines);
    }

    /// Lets a message pass that may be the answer which is expected, although the budget is spent. There is one for each
    /// offer, whatever it turns out to be.
    pub(super) fn take_answer(&mut self, bytes: usize) -> bool {
        let is_owed = (1..=self.answer_bytes).contains(&bytes);
        if is_owed {
            self.answer_bytes = 0;
        }
        is_owed
    }

    /// The answer has come, in a message of `bytes` bytes: gives back what that was charged, unless it passed unpaid.
    pub(super) fn settle(&mut self, bytes: usize) {
        if self.take_answer(bytes) {
            self.messages.give(1.0);
            self.bytes.give(bytes as f64);
        }
        self.answer_bytes = 0;
    }

    /// Counts a fault. False if there were too many.
    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        self.strikes.take(now)
    }
}

/// What participants had left when their connections ended, by network: a newcomer from there goes on with it, so that a
/// client that comes again as somebody else gets no second budget. Faults are not among it.
#[derive(Debug, Default)]
pub(super) struct Leftovers(VecDeque<Leftover>);

#[derive(Debug)]
struct Leftover {
    network: Place,
    /// The id of the participant.
    participant: String,
    until: Instant,
    budget: Budget,
    chat: Bucket,
}

impl Leftovers {
    /// The most that all of it takes.
    pub(super) const MAX_BYTES: usize = MAX_KEPT * (2 * size_of::<Leftover>() + ID_CHARS);

    /// The connection of a participant has ended.
    pub(super) fn keep(&mut self, now: Instant, network: Place, participant: String, budget: Budget, chat: Bucket) {
        if self.0.len() >= MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Leftover { network, participant, until: now + KEPT, budget, chat });
    }

    /// The participant has returned, with its budget.
    pub(super) fn forget(&mut self, participant: &str) {
        self.0.retain(|leftover| leftover.participant != participant);
    }

    /// What the participant had left who was the last to leave, with its bucket of chat, but half of a budget at least: in a
    /// network of many clients it was another's, and half is enough to join and to show all that a page shows.
    pub(super) fn take(&mut self, now: Instant, network: Place) -> Option<(Budget, Bucket)> {
        while self.0.front().is_some_and(|oldest| oldest.until <= now) {
            self.0.pop_front();
        }
        let last = self.0.iter().rposition(|leftover| leftover.network == network)?;
        let Leftover { budget: Budget { mut messages, mut bytes, .. }, mut chat, .. } = self.0.remove(last)?;
        for bucket in [&mut messages, &mut bytes, &mut chat] {
            bucket.fill_half(now);
        }
        Some((Budget { messages, bytes, ..Budget::new(now) }, chat))
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
            let bytes = sdp::message_limit(lines);
            assert!(budget.charge(now, bytes) || budget.take_answer(bytes), "answer {round}");
            budget.settle(bytes);
            if round % 2 == 0 {
                assert!(budget.charge(now, LONGEST_CHAT as usize), "chat message {round}");
                budget.give_back_chat();
            }
        }
    }

    /// However many offers there are, and in whatever order other messages and answers come, offers give nothing to other
    /// messages.
    #[test]
    fn what_an_offer_gives_is_for_its_answer() {
        let start = Instant::now();
        let bytes = 50_000;
        let most = BYTE_BURST as usize / bytes;
        let others = |budget: &mut Budget| (0..1_000).filter(|_| budget.charge(start, bytes)).count();
        for (case, offers, is_answered, are_others_first) in [
            ("one short answer", 1, true, false),
            ("short answers", 50, true, false),
            ("no answers", 50, false, false),
            ("answers after all is spent", 50, true, true),
        ] {
            let mut budget = Budget::new(start);
            let mut passed = 0;
            for offer in 0..offers {
                budget.expect_answer(400);
                if are_others_first {
                    passed += others(&mut budget);
                }
                if is_answered {
                    assert!(budget.charge(start, 1_000) || budget.take_answer(1_000), "{case}: answer {offer}");
                    budget.settle(1_000);
                }
            }
            assert_eq!(passed + others(&mut budget), most, "{case}");
        }
    }

    #[test]
    fn an_answer_that_is_owed_passes_once_whatever_is_spent() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        while budget.charge(start, 1) {}
        assert!(!budget.take_answer(1), "no offer is out");
        budget.expect_answer(3);
        let longest = sdp::message_limit(3);
        assert!(!budget.charge(start, longest) && !budget.take_answer(longest + 1));
        assert!(budget.take_answer(longest) && !budget.take_answer(1));
        budget.settle(longest);
        assert!(!budget.charge(start, 1), "it passed unpaid");
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
        let most = (BYTE_BURST + 10.0 * BYTE_RATE) as usize / bytes;
        assert!((most - 1..=most).contains(&passed(bytes)), "{} of {most}", passed(bytes));
    }

    #[test]
    fn a_newcomer_goes_on_with_what_one_of_its_network_had_left() {
        let start = Instant::now();
        let place = |text: &str| Place::new(text.parse().expect("an address"));
        let (here, elsewhere) = (place("192.0.2.1"), place("192.0.2.2"));
        let mut chat = Bucket::new(start, CHAT_RATE, 20.0);
        assert!(chat.take_many(start, 20.0));
        let left = |budget: &Budget| {
            (0..)
                .take_while(|count| {
                    let mut messages = budget.messages;
                    messages.take_many(start, f64::from(*count + 1))
                })
                .count()
        };
        let mut leftovers = Leftovers::default();
        let spending = |spent: usize| {
            let mut budget = Budget::new(start);
            (0..spent).for_each(|_| assert!(budget.charge(start, 1)));
            while budget.forgive(start) {}
            budget.expect_answer(400);
            budget
        };
        let keep = |leftovers: &mut Leftovers, name: &str, spent| {
            leftovers.keep(start, here, name.to_owned(), spending(spent), chat)
        };
        for (name, spent) in [("ann", 20), ("bob", 100), ("cy", 40), ("ann", 90)] {
            keep(&mut leftovers, name, spent);
        }
        assert!(leftovers.take(start, elsewhere).is_none());
        // Half of it is for a newcomer whatever others did.
        leftovers.forget("ann");
        for expected in [60, 50] {
            let (mut budget, mut chat) = leftovers.take(start, here).expect("it was kept");
            assert_eq!(left(&budget), expected);
            assert!(budget.forgive(start), "faults are another's");
            assert!(!budget.take_answer(1), "the offer was to another");
            assert!((0..10).all(|_| chat.take(start)) && !chat.take(start));
        }
        assert!(leftovers.take(start, here).is_none());
        keep(&mut leftovers, "ann", 0);
        assert!(leftovers.take(start + KEPT, here).is_none(), "it would be full");
        (0..2 * MAX_KEPT).for_each(|_| keep(&mut leftovers, "ann", 0));
        assert_eq!(leftovers.0.len(), MAX_KEPT);
    }
}
