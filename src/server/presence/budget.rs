//! The message budget of one participant: messages and bytes a second, and tolerated protocol errors.
//!
//! A message is charged before it is parsed, so that invalid messages cost as much as valid ones. Chat has a separate
//! limit; a chat message within that limit is refunded, so that chat does not use up the budget of other messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::ID_CHARS;
use crate::limits::bucket::Bucket;
use crate::media::negotiation::sdp;
use crate::network::Network;
use crate::room::CHAT_BYTES;

/// Messages a second from one participant, and the burst. A lower limit refuses pages that report the sizes of many
/// tiles while the window is resized; a higher one costs work for each client.
const MESSAGE_RATE: f64 = 10.0;
const MESSAGE_BURST: f64 = 100.0;

/// Chat messages a second from one participant, and the burst.
const CHAT_RATE: f64 = 10.0;
const CHAT_BURST: f64 = 20.0;

/// Raised hands, reactions and new names a second from one participant, and the burst. Each is sent to the whole room;
/// with a lower limit, applause is cut off.
const GESTURE_RATE: f64 = 2.0;
const GESTURE_BURST: f64 = 20.0;

/// Bytes of the longest chat message in JSON: an escaped character takes six.
const LONGEST_CHAT: f64 = 6.0 * CHAT_BYTES as f64 + 64.0;

/// Bytes of messages a second from one participant, and the burst, not counting an expected answer. The rate is that of the
/// longest chat messages at the limit of chat messages.
const BYTE_RATE: f64 = CHAT_RATE * LONGEST_CHAT;
const BYTE_BURST: f64 = 512.0 * 1024.0;

/// Bytes of chat in JSON a second from which a participant counts as a heavy sender of its room, and the burst.
const LIGHT_CHAT_RATE: f64 = 4.0 * 1024.0;
const LIGHT_CHAT_BURST: f64 = 64.0 * 1024.0;

/// Protocol errors that are tolerated at once, and further ones a second.
pub const MAX_FAULTS: f64 = 10.0;
const FAULTS_PER_S: f64 = 0.1;

/// How long the budget of a participant whose connection has ended is kept: until an empty one would be full again.
const KEEP_TIME: Duration = Duration::from_secs((MESSAGE_BURST / MESSAGE_RATE) as u64);

/// Maximum number of kept budgets. A new one then replaces the oldest.
const MAX_KEPT: usize = 1_024;

/// The remaining budget of one participant. It outlives the connection: a client that returns continues with it.
#[derive(Clone, Copy, Debug)]
pub struct MessageBudget {
    messages: Bucket,
    bytes: Bucket,
    chat: Bucket,
    light_chat: Bucket,
    gestures: Bucket,
    faults: Bucket,
    /// The longest answer to the pending offer, which is not charged; 0 if none is expected.
    answer_bytes: usize,
}

impl MessageBudget {
    /// Creates a full budget.
    pub fn new(now: Instant) -> Self {
        Self {
            messages: Bucket::new(now, MESSAGE_RATE, MESSAGE_BURST),
            bytes: Bucket::new(now, BYTE_RATE, BYTE_BURST),
            chat: Bucket::new(now, CHAT_RATE, CHAT_BURST),
            light_chat: Bucket::new(now, LIGHT_CHAT_RATE, LIGHT_CHAT_BURST),
            gestures: Bucket::new(now, GESTURE_RATE, GESTURE_BURST),
            faults: Bucket::new(now, FAULTS_PER_S, MAX_FAULTS),
            answer_bytes: 0,
        }
    }

    /// Charges a message. Returns false if the budget is used up: the message must not be parsed.
    pub fn charge(&mut self, now: Instant, bytes: usize) -> bool {
        let is_paid = self.messages.take(now);
        if is_paid && !self.bytes.take_many(now, bytes as f64) {
            self.messages.give(1.0);
            return false;
        }
        is_paid
    }

    /// Takes one chat message from the chat limit. Returns false if it is used up.
    pub fn take_chat(&mut self, now: Instant) -> bool {
        self.chat.take(now)
    }

    /// Whether the participant has sent much chat lately. In a room whose chat budget runs low, others come first.
    pub fn is_heavy(&self, now: Instant) -> bool {
        self.light_chat.share(now) < 0.5
    }

    /// Counts the JSON bytes of a chat message that is sent to the room.
    pub fn count_chat(&mut self, now: Instant, bytes: usize) {
        if !self.light_chat.take_many(now, bytes as f64) {
            self.light_chat.empty(now);
        }
    }

    /// Refunds a chat message that is within the chat limit. Its bytes stay charged.
    pub fn refund_chat(&mut self) {
        self.messages.give(1.0);
    }

    /// Takes one raised hand, reaction or new name from their limit. Returns false if it is used up.
    pub fn take_gesture(&mut self, now: Instant) -> bool {
        self.gestures.take(now)
    }

    /// Allows one uncharged answer to an offer with this many m-lines.
    pub fn expect_answer(&mut self, m_lines: usize) {
        self.answer_bytes = sdp::message_limit(m_lines);
    }

    /// Lets a message pass uncharged if it may be the expected answer. Each offer allows one such message, even if it
    /// turns out not to be an answer.
    pub fn take_answer(&mut self, bytes: usize) -> bool {
        let is_expected = (1..=self.answer_bytes).contains(&bytes);
        if is_expected {
            self.answer_bytes = 0;
        }
        is_expected
    }

    /// Refunds the charge of an answer of `bytes` bytes, if it was charged.
    pub fn settle_answer(&mut self, bytes: usize) {
        if self.take_answer(bytes) {
            self.messages.give(1.0);
            self.bytes.give(bytes as f64);
        }
        self.answer_bytes = 0;
    }

    /// Counts a protocol error. Returns false if there were too many.
    pub fn tolerate_fault(&mut self, now: Instant) -> bool {
        self.faults.take(now)
    }
}

/// Budgets of participants whose connections have ended, by network. The next client that joins from the network
/// continues with the emptiest, so that rejoining as a new participant does not renew a budget. Protocol errors are not
/// kept.
#[derive(Debug, Default)]
pub struct KeptBudgets(VecDeque<KeptBudget>);

#[derive(Debug)]
struct KeptBudget {
    network: Network,
    /// The participant's id.
    participant: String,
    until: Instant,
    budget: MessageBudget,
}

impl KeptBudgets {
    /// The most memory that all kept budgets take, in bytes.
    pub const MAX_BYTES: usize = MAX_KEPT * (2 * size_of::<KeptBudget>() + ID_CHARS);

    /// Keeps the budget of a participant whose connection has ended.
    pub fn keep(&mut self, now: Instant, network: Network, participant: String, budget: MessageBudget) {
        if self.0.len() >= MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(KeptBudget { network, participant, until: now + KEEP_TIME, budget });
    }

    /// Removes the budget of a participant that has returned.
    pub fn forget(&mut self, participant: &str) {
        self.0.retain(|kept| kept.participant != participant);
    }

    /// Removes the budget from this network with the least chat left that is still kept, so that joining again and again
    /// renews none. The budgets of messages and bytes are at least half full: in a network of many clients another one may
    /// have used them, and half suffices to join and send `view`.
    pub fn take(&mut self, now: Instant, network: Network) -> Option<MessageBudget> {
        while self.0.front().is_some_and(|oldest| oldest.until <= now) {
            self.0.pop_front();
        }
        let same = self.0.iter().enumerate().filter(|(_, kept)| kept.network == network);
        let left = |budget: &MessageBudget| budget.chat.share(now).min(budget.gestures.share(now));
        let (least, _) = same.min_by(|(_, a), (_, b)| left(&a.budget).total_cmp(&left(&b.budget)))?;
        let MessageBudget { mut messages, mut bytes, chat, light_chat, gestures, .. } = self.0.remove(least)?.budget;
        for bucket in [&mut messages, &mut bytes] {
            bucket.fill_half(now);
        }
        Some(MessageBudget { messages, bytes, chat, light_chat, gestures, ..MessageBudget::new(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers are never refused, however often offers are made, even together with as much chat as is allowed.
    #[test]
    fn answers_are_never_refused() {
        let mut now = Instant::now();
        let mut budget = MessageBudget::new(now);
        for round in 0..10_000 {
            now += Duration::from_millis(50);
            let m_lines = 2 + round % 400;
            budget.expect_answer(m_lines);
            let bytes = sdp::message_limit(m_lines);
            assert!(budget.charge(now, bytes) || budget.take_answer(bytes), "answer {round}");
            budget.settle_answer(bytes);
            if round % 2 == 0 {
                assert!(budget.charge(now, LONGEST_CHAT as usize), "chat message {round}");
                budget.refund_chat();
            }
        }
    }

    /// Other messages never use the allowance of an offer, whatever the number of offers and the order of messages and
    /// answers.
    #[test]
    fn the_allowance_of_an_offer_is_for_its_answer_only() {
        let start = Instant::now();
        let bytes = 50_000;
        let most = BYTE_BURST as usize / bytes;
        let others = |budget: &mut MessageBudget| (0..1_000).filter(|_| budget.charge(start, bytes)).count();
        for (case, offers, is_answered, are_others_first) in [
            ("one short answer", 1, true, false),
            ("short answers", 50, true, false),
            ("no answers", 50, false, false),
            ("answers with an empty budget", 50, true, true),
        ] {
            let mut budget = MessageBudget::new(start);
            let mut passed = 0;
            for offer in 0..offers {
                budget.expect_answer(400);
                if are_others_first {
                    passed += others(&mut budget);
                }
                if is_answered {
                    assert!(budget.charge(start, 1_000) || budget.take_answer(1_000), "{case}: answer {offer}");
                    budget.settle_answer(1_000);
                }
            }
            assert_eq!(passed + others(&mut budget), most, "{case}");
        }
    }

    #[test]
    fn an_expected_answer_passes_once_even_with_an_empty_budget() {
        let start = Instant::now();
        let mut budget = MessageBudget::new(start);
        while budget.charge(start, 1) {}
        assert!(!budget.take_answer(1), "no offer is pending");
        budget.expect_answer(3);
        let longest = sdp::message_limit(3);
        assert!(!budget.charge(start, longest) && !budget.take_answer(longest + 1));
        assert!(budget.take_answer(longest) && !budget.take_answer(1));
        budget.settle_answer(longest);
        assert!(!budget.charge(start, 1), "an uncharged answer is not refunded");
    }

    #[test]
    fn messages_and_bytes_are_limited() {
        let start = Instant::now();
        let passed = |bytes: usize| {
            let mut budget = MessageBudget::new(start);
            let at = |ms| start + Duration::from_millis(ms);
            (0..10_000).filter(|ms| budget.charge(at(*ms), bytes)).count()
        };
        assert_eq!(passed(10), 199, "a burst of 100, and 10 a second");
        let bytes = 50_000;
        let most = (BYTE_BURST + 10.0 * BYTE_RATE) as usize / bytes;
        assert!((most - 1..=most).contains(&passed(bytes)), "{} of {most}", passed(bytes));
    }

    #[test]
    fn a_joining_client_continues_with_the_emptiest_budget_of_its_network() {
        let start = Instant::now();
        let network = |text: &str| Network::new(text.parse().expect("an address"));
        let (here, elsewhere) = (network("192.0.2.1"), network("192.0.2.2"));
        let remaining = |budget: &MessageBudget| {
            (0..)
                .take_while(|count| {
                    let mut messages = budget.messages;
                    messages.take_many(start, f64::from(*count + 1))
                })
                .count()
        };
        let mut kept_budgets = KeptBudgets::default();
        let spending = |spent: usize| {
            let mut budget = MessageBudget::new(start);
            (0..spent).for_each(|_| assert!(budget.charge(start, 1)));
            while budget.tolerate_fault(start) {}
            while budget.take_chat(start) {}
            while budget.take_gesture(start) {}
            budget.expect_answer(400);
            budget
        };
        let keep = |kept_budgets: &mut KeptBudgets, name: &str, spent| {
            kept_budgets.keep(start, here, name.to_owned(), spending(spent))
        };
        for (name, spent) in [("ann", 20), ("bob", 100), ("cy", 40), ("ann", 90)] {
            keep(&mut kept_budgets, name, spent);
        }
        assert!(kept_budgets.take(start, elsewhere).is_none());
        // A joining client gets at least half of the messages, and what is left of chat and gestures.
        kept_budgets.forget("ann");
        for expected in [50, 60] {
            let mut budget = kept_budgets.take(start, here).expect("it was kept");
            assert_eq!(remaining(&budget), expected);
            assert!(budget.tolerate_fault(start), "protocol errors are not kept");
            assert!(!budget.take_answer(1), "the pending offer is not kept");
            assert!(!budget.take_chat(start) && !budget.take_gesture(start));
        }
        assert!(kept_budgets.take(start, here).is_none());
        keep(&mut kept_budgets, "ann", 0);
        assert!(kept_budgets.take(start + KEEP_TIME, here).is_none(), "expired: the budget would be full");
        (0..2 * MAX_KEPT).for_each(|_| keep(&mut kept_budgets, "ann", 0));
        assert_eq!(kept_budgets.0.len(), MAX_KEPT);
    }
}
