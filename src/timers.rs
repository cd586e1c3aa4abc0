//! Deadlines: one entry for each thing that waits, whatever it waits for.
//!
//! A deadline that moves later costs nothing until the old one is due; then it is put off. So the heap holds
//! at most one live entry for each key, and a turn costs what is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::id::{ConnId, PeerId};

/// Who is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waiter {
    /// A TCP connection: slow heads, pings, stalled writes.
    Conn(ConnId),
    /// A peer: its `Rtc` and the rules around it.
    Peer(PeerId),
    /// The next offer to a peer. Apart from the peer, which need not be woken while the offer waits for its turn.
    Offer(PeerId),
    /// What is held back for a peer: paced packets, and a probe.
    Pace(PeerId),
    /// Somebody who may get another's seat at a subscriber.
    Seats(PeerId),
    /// A participant whose connection is gone: the end of the time to return.
    Return(PeerId),
    /// The server itself: the end of a drain.
    Server,
}

#[derive(Clone, Copy)]
struct Entry {
    /// When it wants to be woken.
    deadline: Instant,
    /// When the heap will look at it; never later than `deadline`.
    queued: Instant,
}

/// The deadlines of everybody.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Waiter)>>,
    entries: FxHashMap<Waiter, Entry>,
}

impl Timers {
    /// Wakes `waiter` at `deadline` and not at the time given before.
    pub fn set(&mut self, waiter: Waiter, deadline: Instant) {
        if let Some(entry) = self.entries.get_mut(&waiter) {
            entry.deadline = deadline;
            if entry.queued <= deadline {
                return;
            }
            entry.queued = deadline;
        } else {
            self.entries.insert(waiter, Entry { deadline, queued: deadline });
        }
        self.heap.push(Reverse((deadline, waiter)));
    }

    /// Forgets `waiter`.
    pub fn cancel(&mut self, waiter: Waiter) {
        self.entries.remove(&waiter);
    }

    /// Takes out somebody whose deadline is not after `now`; ask again until there is nobody.
    pub fn take_due(&mut self, now: Instant) -> Option<Waiter> {
        loop {
            let &Reverse((queued, waiter)) = self.heap.peek()?;
            if queued > now {
                return None;
            }
            self.heap.pop();
            // An entry that was cancelled, or was pulled earlier and so stands in the heap twice, is stale.
            let Some(entry) = self.entries.get_mut(&waiter).filter(|e| e.queued == queued) else {
                continue;
            };
            if entry.deadline <= now {
                self.entries.remove(&waiter);
                return Some(waiter);
            }
            entry.queued = entry.deadline;
            self.heap.push(Reverse((entry.deadline, waiter)));
        }
    }

    /// When `take_due` may next have somebody; may be early, never late.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((queued, _))| *queued)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn due(timers: &mut Timers, now: Instant) -> Vec<Waiter> {
        std::iter::from_fn(|| timers.take_due(now)).collect()
    }

    #[test]
    fn a_deadline_can_move_both_ways_and_fires_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let a = Waiter::Conn(ConnId(1));
        let b = Waiter::Conn(ConnId(2));
        let mut timers = Timers::default();
        timers.set(a, at(10));
        timers.set(b, at(20));
        timers.set(a, at(30));
        assert_eq!(due(&mut timers, at(15)), []);
        timers.set(b, at(16));
        assert_eq!(due(&mut timers, at(25)), [b]);
        assert_eq!(due(&mut timers, at(25)), []);
        timers.set(b, at(40));
        timers.cancel(b);
        assert_eq!(due(&mut timers, at(100)), [a]);
        assert!(timers.is_empty());
        assert_eq!(timers.next_timeout(), None);
    }

    #[test]
    fn moving_a_deadline_later_does_not_grow_the_heap() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for ms in 0..10_000 {
            timers.set(Waiter::Server, start + Duration::from_millis(ms));
        }
        assert_eq!(timers.heap.len(), 1);
    }
}
