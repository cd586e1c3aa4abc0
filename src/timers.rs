//! Deadlines of all waiters: connections, peers, the server.
//!
//! Moving a deadline later costs nothing until the old one is due; only then is it queued again. The heap therefore
//! holds at most one live entry per waiter, and a turn costs as much as there are entries due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::id::{ConnId, PeerId};

/// What a deadline wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waiter {
    /// A TCP connection: time limits for request heads, pings and stalled writes.
    Conn(ConnId),
    /// A peer: the timeouts of its `Rtc` and those that the server adds.
    Peer(PeerId),
    /// The next offer to a peer. Separate from `Peer`, which need not be woken while the offer waits for its turn.
    Offer(PeerId),
    /// A peer's pacer: held packets, and probes.
    Pace(PeerId),
    /// A subscriber whose seats may be given to other publishers.
    Seats(PeerId),
    /// A disconnected participant: the end of its time to return.
    Return(PeerId),
    /// The server: the end of the drain.
    Server,
}

#[derive(Clone, Copy)]
struct Entry {
    /// When to wake the waiter.
    deadline: Instant,
    /// The time under which the heap holds the entry; never later than `deadline`.
    queued: Instant,
}

/// A queue of deadlines.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Waiter)>>,
    entries: FxHashMap<Waiter, Entry>,
}

impl Timers {
    /// Sets the deadline of `waiter`, replacing an earlier one.
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

    /// Removes the deadline of `waiter`.
    pub fn cancel(&mut self, waiter: Waiter) {
        self.entries.remove(&waiter);
    }

    /// Removes and returns a waiter whose deadline has passed; call it until it returns `None`.
    pub fn take_due(&mut self, now: Instant) -> Option<Waiter> {
        loop {
            let &Reverse((queued, waiter)) = self.heap.peek()?;
            if queued > now {
                return None;
            }
            self.heap.pop();
            // Stale: the waiter was cancelled, or its deadline moved earlier and so was queued a second time.
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

    /// Returns when `take_due` may next return a waiter. May be too early, never too late.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((queued, _))| *queued)
    }

    /// Returns the number of waiters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there are no waiters.
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
