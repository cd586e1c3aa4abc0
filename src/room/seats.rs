//! The seats of one subscriber: which publishers are sent to it in a room with more publishers than seats.
//!
//! A publisher whose microphone is audible gets a seat at once. The others are ranked: first those pinned on the page,
//! then those that share a screen, are visible on the page, send video at all, and have spoken most recently. A
//! publisher keeps its seat against one that has only spoken more recently.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::PeerId;
use crate::limits::bucket::Bucket;
use crate::media::subscribe::selection::View;
use crate::track::Source;

/// Minimum time for which a seat is kept, unless an audible publisher needs it. Each exchange costs a keyframe, and a
/// picture that disappears at once is useless. A longer time follows scrolling more slowly.
pub const STAY: Duration = Duration::from_secs(2);

/// Maximum exchanges per second, and in a burst, even for audible publishers: each is reported to the page, and
/// microphones that click in turn could cause any number of them. A lower limit cuts off first words in a lively
/// discussion, a higher one lets noise cause traffic.
const EXCHANGES: f64 = 5.0;
const EXCHANGE_BURST: f64 = 15.0;

/// Delay of the next attempt after the exchange limit was hit.
const PAUSE: Duration = Duration::from_millis(200);

/// Lowest priority of a pinned tile: pages report 1 for tiles that are merely visible.
pub const PINNED: u32 = 2;

/// A publisher that can be seated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Its id.
    pub peer: PeerId,
    /// Whether its microphone is audible (see [`super::speakers`]).
    pub is_audible: bool,
    /// Number of publishers that have spoken more recently; `None` if it never spoke.
    pub recency: Option<usize>,
    /// Whether it shares a screen.
    pub has_screen: bool,
    /// Whether it sends a camera that is not muted.
    pub has_picture: bool,
}

/// The publishers that lost and gained a seat.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Publishers that lost their seat.
    pub off: Vec<PeerId>,
    /// Publishers that gained a seat.
    pub on: Vec<PeerId>,
}

/// The seats of one subscriber.
#[derive(Debug)]
pub struct Seats {
    seated: Vec<Seat>,
    shown: Vec<Shown>,
    exchanges: Bucket,
    is_full: bool,
    next_settling: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    peer: PeerId,
    since: Instant,
}

/// The last report of the page about a publisher's tile.
#[derive(Clone, Copy, Debug)]
struct Shown {
    peer: PeerId,
    source: Source,
    view: View,
    /// Whether the report named the participant and not an m-line. Then it is kept when the publisher loses its seat.
    is_lasting: bool,
}

/// The rank of a publisher, the greater the better: audible, priority if pinned, shares a screen, visible, sends video,
/// and how recently it spoke. A publisher that is better only in the last criterion displaces nobody.
type Rank = (bool, u32, bool, bool, bool, Reverse<usize>);

impl Seats {
    /// Upper bound of the heap memory of one subscriber's seats, in bytes, in a room with `others` other participants.
    pub const fn max_bytes(others: usize) -> usize {
        2 * others * (size_of::<Seat>() + Source::COUNT * size_of::<Shown>())
    }

    /// Creates a subscriber's seats, all free.
    pub fn new(now: Instant) -> Self {
        let exchanges = Bucket::new(now, EXCHANGES, EXCHANGE_BURST);
        Self { seated: Vec::new(), shown: Vec::new(), exchanges, is_full: false, next_settling: None }
    }

    /// Assigns up to `limit` seats to `publishers`, which are in the order of joining. `own` is the subscriber itself.
    pub fn settle(&mut self, now: Instant, own: PeerId, limit: usize, publishers: &[Publisher]) -> Moves {
        let mut moves = Moves::default();
        self.seated.retain(|seat| publishers.iter().any(|publisher| publisher.peer == seat.peer));
        let mut ranked: Vec<(Rank, &Publisher)> = publishers
            .iter()
            .filter(|publisher| publisher.peer != own)
            .map(|publisher| (self.rank(publisher), publisher))
            .collect();
        // The sort is stable: publishers of equal rank stay in the order of joining.
        ranked.sort_by_key(|(rank, _)| Reverse(*rank));
        // The seated publishers that can lose their seat to the current one, best rank first: the loop removes each
        // when it reaches it in `ranked`.
        let mut weaker: VecDeque<(usize, Rank, PeerId)> = VecDeque::new();
        weaker.extend(
            ranked
                .iter()
                .enumerate()
                .filter(|(_, (_, publisher))| self.has(publisher.peer))
                .map(|(index, (rank, publisher))| (index, *rank, publisher.peer)),
        );
        self.next_settling = None;
        for (index, (rank, publisher)) in ranked.iter().enumerate() {
            if weaker.front().is_some_and(|(of, ..)| *of == index) {
                weaker.pop_front();
                continue;
            }
            if self.seated.len() >= limit {
                let replaceable = weaker.iter().rev().take_while(|(_, other, _)| outranks(rank, other));
                let is_replaceable =
                    |(_, _, other): &&(usize, Rank, PeerId)| publisher.is_audible || self.is_replaceable(now, *other);
                let occupant = replaceable.clone().find(is_replaceable).copied();
                let Some((of, _, occupant)) = occupant.filter(|_| self.exchanges.take(now)) else {
                    let replaceable_at = replaceable.filter_map(|(_, _, other)| self.replaceable_at(*other)).min();
                    let settle_at = if occupant.is_some() { Some(now + PAUSE) } else { replaceable_at };
                    self.next_settling = self.next_settling.into_iter().chain(settle_at).min();
                    continue;
                };
                weaker.retain(|(other, ..)| *other != of);
                moves.off.push(occupant);
                self.unseat(occupant);
            }
            moves.on.push(publisher.peer);
            self.seated.push(Seat { peer: publisher.peer, since: now });
        }
        self.is_full = ranked.len() > self.seated.len();
        moves
    }

    /// Records how the page shows a publisher. `is_lasting` is true if the report named the participant rather than an
    /// m-line.
    pub fn show(&mut self, peer: PeerId, source: Source, view: View, is_lasting: bool) {
        match self.shown.iter_mut().find(|shown| (shown.peer, shown.source) == (peer, source)) {
            Some(shown) => (shown.view, shown.is_lasting) = (view, shown.is_lasting || is_lasting),
            None => self.shown.push(Shown { peer, source, view, is_lasting }),
        }
    }

    /// Forgets what was reported about the m-line of a track that ended.
    pub fn end_m_line(&mut self, peer: PeerId, source: Source) {
        self.shown.retain(|shown| (shown.peer, shown.source) != (peer, source) || shown.is_lasting);
    }

    /// Forgets a publisher that left.
    pub fn forget(&mut self, peer: PeerId) {
        self.seated.retain(|seat| seat.peer != peer);
        self.shown.retain(|shown| shown.peer != peer);
    }

    /// Transfers the reports about a publisher to its new id after a resumption.
    pub fn replace(&mut self, old: PeerId, new: PeerId) {
        self.shown.iter_mut().filter(|shown| shown.peer == old).for_each(|shown| shown.peer = new);
    }

    /// Returns how the page shows a publisher; `None` if it has not reported that.
    pub fn view(&self, peer: PeerId, source: Source) -> Option<View> {
        self.shown.iter().find(|shown| (shown.peer, shown.source) == (peer, source)).map(|shown| shown.view)
    }

    /// Returns true if the publisher has a seat.
    pub fn has(&self, peer: PeerId) -> bool {
        self.seated.iter().any(|seat| seat.peer == peer)
    }

    /// Returns true if some publishers have no seat.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Returns when to call `settle` again: a seat that is kept for now can be taken then.
    pub fn next_settling(&self) -> Option<Instant> {
        self.next_settling
    }

    fn rank(&self, publisher: &Publisher) -> Rank {
        let mut shown = self.shown.iter().filter(|shown| shown.peer == publisher.peer).peekable();
        let is_unreported = shown.peek().is_none();
        let seen = shown.filter(|shown| shown.view.tile() != Some(0)).map(|shown| shown.view.priority).max();
        let pinned = seen.filter(|priority| *priority >= PINNED).unwrap_or(0);
        let is_shown = is_unreported || seen.is_some();
        let recency = Reverse(publisher.recency.unwrap_or(usize::MAX));
        (publisher.is_audible, pinned, publisher.has_screen, is_shown, publisher.has_picture, recency)
    }

    fn is_replaceable(&self, now: Instant, peer: PeerId) -> bool {
        self.replaceable_at(peer).is_some_and(|at| now >= at)
    }

    fn replaceable_at(&self, peer: PeerId) -> Option<Instant> {
        self.seated.iter().find(|seat| seat.peer == peer).map(|seat| seat.since + STAY)
    }

    /// Takes a seat away, and forgets what was reported about its m-line: it does not apply to the next occupant.
    fn unseat(&mut self, peer: PeerId) {
        self.seated.retain(|seat| seat.peer != peer);
        self.shown.retain(|shown| shown.peer != peer || shown.is_lasting);
    }
}

/// Returns true if a publisher may take the seat of another: its rank is better even if the time since they spoke is
/// ignored.
fn outranks(rank: &Rank, other: &Rank) -> bool {
    let without_speech = |rank: &Rank| (rank.0, rank.1, rank.2, rank.3, rank.4);
    without_speech(rank) > without_speech(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: PeerId = peer(99);

    const fn peer(slot: u32) -> PeerId {
        PeerId { slot, generation: 0 }
    }

    fn publisher(slot: u32) -> Publisher {
        Publisher { peer: peer(slot), is_audible: false, recency: None, has_screen: false, has_picture: true }
    }

    /// Returns `count` publishers with cameras. Those in `spoken` have spoken, the latest first, and the first `heard`
    /// of them are audible.
    fn publishers(count: u32, spoken: &[u32], heard: usize) -> Vec<Publisher> {
        let recency = |slot: u32| spoken.iter().position(|other| *other == slot);
        let is_audible = |slot| recency(slot).is_some_and(|recency| recency < heard);
        (0..count)
            .map(|slot| Publisher { recency: recency(slot), is_audible: is_audible(slot), ..publisher(slot) })
            .collect()
    }

    fn view(height: u32, priority: u32) -> View {
        View { width: height, height, priority }
    }

    fn seated(seats: &Seats) -> Vec<u32> {
        let mut slots: Vec<u32> = seats.seated.iter().map(|seat| seat.peer.slot).collect();
        slots.sort_unstable();
        slots
    }

    /// Reports of the page: slot, picture height, priority.
    type Reports<'a> = &'a [(u32, u32, u32)];

    /// Name, publishers, reports of the page, number of seats, and the slots that get them.
    type Row<'a> = (&'a str, Vec<Publisher>, Reports<'a>, usize, &'a [u32]);

    #[test]
    fn seats_go_to_the_publishers_of_the_best_rank() {
        let screen = |slot: usize, mut publishers: Vec<Publisher>| {
            publishers[slot].has_screen = true;
            publishers
        };
        let dark = |slot: usize, mut publishers: Vec<Publisher>| {
            publishers[slot].has_picture = false;
            publishers
        };
        let table: [Row; 13] = [
            ("no publishers", publishers(0, &[], 0), &[], 3, &[]),
            ("seats for all", publishers(3, &[], 0), &[], 3, &[0, 1, 2]),
            ("first to join", publishers(5, &[], 0), &[], 3, &[0, 1, 2]),
            ("latest to speak", publishers(6, &[5, 2, 4, 3], 0), &[], 3, &[2, 4, 5]),
            ("audible", publishers(6, &[5, 2, 4, 3], 2), &[], 3, &[2, 4, 5]),
            ("pinned", publishers(6, &[5, 4, 3], 3), &[(0, 100, 2)], 4, &[0, 3, 4, 5]),
            ("audible before pinned", publishers(6, &[5, 4, 3], 3), &[(0, 100, 2)], 3, &[3, 4, 5]),
            ("higher priority of two pins", publishers(6, &[5], 1), &[(0, 100, 2), (3, 100, 3)], 2, &[3, 5]),
            ("pinned but out of sight", publishers(4, &[], 0), &[(3, 0, 2)], 2, &[0, 1]),
            ("sharing a screen", screen(4, publishers(5, &[3], 0)), &[], 2, &[3, 4]),
            ("pinned before sharing a screen", screen(4, publishers(5, &[3], 0)), &[(0, 100, 2)], 1, &[0]),
            ("in sight", publishers(5, &[0, 1], 0), &[(0, 0, 1), (1, 0, 1), (4, 90, 1)], 2, &[2, 3]),
            ("sending video", dark(0, publishers(5, &[0, 4], 0)), &[], 2, &[1, 4]),
        ];
        for (name, publishers, reports, limit, expected) in table {
            let mut seats = Seats::new(Instant::now());
            for (slot, height, priority) in reports {
                seats.show(peer(*slot), Source::Camera, view(*height, *priority), true);
            }
            let moves = seats.settle(Instant::now(), OWN, limit, &publishers);
            assert_eq!(seated(&seats), expected, "{name}");
            assert_eq!((moves.on.len(), moves.off.len()), (expected.len(), 0), "{name}");
            assert_eq!(seats.is_full(), publishers.len() > expected.len(), "{name}");
        }
    }

    #[test]
    fn a_subscriber_gets_no_seat_with_itself() {
        let mut seats = Seats::new(Instant::now());
        let moves = seats.settle(Instant::now(), peer(1), 2, &publishers(3, &[1], 1));
        assert_eq!(moves.on, [peer(0), peer(2)]);
        assert!(!seats.is_full());
    }

    /// A step of a story: time in milliseconds, slots that have spoken (the latest first), how many of them are
    /// audible, the reports of the page, slots that lose their seat, slots that gain one.
    type Step<'a> = (u64, &'a [u32], usize, Reports<'a>, &'a [u32], &'a [u32]);

    fn play(name: &str, story: &[Step]) {
        let start = Instant::now();
        let mut seats = Seats::new(Instant::now());
        for (index, (ms, spoken, heard, reports, off, on)) in story.iter().enumerate() {
            for (slot, height, priority) in *reports {
                seats.show(peer(*slot), Source::Camera, view(*height, *priority), true);
            }
            let moves = seats.settle(start + Duration::from_millis(*ms), OWN, 3, &publishers(6, spoken, *heard));
            let slots = |peers: &[PeerId]| peers.iter().map(|peer| peer.slot).collect::<Vec<_>>();
            assert_eq!((slots(&moves.off), slots(&moves.on)), (off.to_vec(), on.to_vec()), "{name}, step {index}");
        }
    }

    #[test]
    fn seats_change_hands() {
        let stories: [(&str, &[Step]); 5] = [
            (
                "a speaker takes at once the seat of the last to join that never spoke",
                &[
                    (0, &[], 0, &[], &[], &[0, 1, 2]),
                    (10, &[5], 1, &[], &[2], &[5]),
                    (20, &[4, 5], 2, &[], &[1], &[4]),
                    (30, &[4, 5], 0, &[], &[], &[]),
                    (40, &[3, 4, 5], 1, &[], &[0], &[3]),
                    (50, &[0, 3, 4, 5], 1, &[], &[5], &[0]),
                ],
            ),
            (
                "speaking later alone takes no seat",
                &[(0, &[3, 2, 1], 0, &[], &[], &[3, 2, 1]), (9_000, &[5, 4, 0], 0, &[], &[], &[])],
            ),
            (
                "a pinned publisher takes a seat after its minimum time, and keeps it",
                &[
                    (0, &[], 0, &[], &[], &[0, 1, 2]),
                    (1_000, &[], 0, &[(5, 90, 2)], &[], &[]),
                    (2_000, &[], 0, &[], &[2], &[5]),
                    (2_100, &[3, 4], 2, &[], &[1, 0], &[3, 4]),
                    (2_200, &[0, 3, 4], 1, &[], &[4], &[0]),
                    (2_300, &[0, 3, 4], 1, &[(5, 90, 1)], &[], &[]),
                    (2_400, &[4, 0, 3], 1, &[], &[5], &[4]),
                ],
            ),
            (
                "a publisher scrolled into sight takes the seat of one out of sight",
                &[
                    (0, &[], 0, &[], &[], &[0, 1, 2]),
                    (3_000, &[], 0, &[(0, 0, 1), (2, 0, 1), (3, 0, 1), (4, 90, 1)], &[2, 0], &[4, 5]),
                ],
            ),
            (
                "an audible publisher gets a seat even out of sight",
                &[(0, &[], 0, &[(5, 0, 1)], &[], &[0, 1, 2]), (10, &[5], 1, &[], &[2], &[5])],
            ),
        ];
        for (name, story) in stories {
            play(name, story);
        }
    }

    #[test]
    fn a_kept_seat_can_be_taken_later_and_a_free_one_at_once() {
        let start = Instant::now();
        let mut seats = Seats::new(Instant::now());
        seats.settle(start, OWN, 2, &publishers(4, &[], 0));
        assert_eq!(seats.next_settling(), None, "all ranks are equal");
        seats.show(peer(3), Source::Camera, view(90, 2), true);
        seats.settle(start, OWN, 2, &publishers(4, &[], 0));
        assert_eq!(seats.next_settling(), Some(start + STAY));
        // Publisher 0 has left.
        let moves = seats.settle(start, OWN, 2, &publishers(4, &[], 0)[1..]);
        assert_eq!((moves.on, moves.off), (vec![peer(3)], vec![]));
        assert_eq!(seats.next_settling(), None);
    }

    #[test]
    fn microphones_that_click_in_turn_cause_few_exchanges() {
        let start = Instant::now();
        let mut seats = Seats::new(start);
        let mut exchanges = 0;
        for click in 0..500 {
            let now = start + Duration::from_millis(20 * click);
            let spoken = [0, 1, 2].map(|before| (click + 9 - before) as u32 % 9);
            exchanges += seats.settle(now, OWN, 4, &publishers(9, &spoken, 3)).off.len();
            assert!(seats.seated.len() == 4 && seats.next_settling().is_none_or(|at| at > now));
        }
        assert!((50..=66).contains(&exchanges), "{exchanges} in ten seconds");
        // Publishers that are still audible after the clicks get a seat.
        let heard = publishers(9, &[5, 6, 7], 3);
        seats.settle(seats.next_settling().expect("an audible publisher waits for a seat"), OWN, 4, &heard);
        seats.settle(start + Duration::from_secs(11), OWN, 4, &heard);
        assert!([5, 6, 7].iter().all(|slot| seats.has(peer(*slot))));
    }

    #[test]
    fn reports_about_an_m_line_end_with_it_and_reports_about_a_participant_stay() {
        let start = Instant::now();
        let mut seats = Seats::new(Instant::now());
        seats.settle(start, OWN, 2, &publishers(4, &[], 0));
        seats.show(peer(0), Source::Camera, view(0, 1), false);
        seats.show(peer(1), Source::Camera, view(0, 1), true);
        let moves = seats.settle(start, OWN, 2, &publishers(4, &[3, 2], 2));
        assert_eq!(moves.off, [peer(1), peer(0)]);
        let reported = |seats: &Seats, slot| seats.view(peer(slot), Source::Camera).map(|view| view.height);
        assert_eq!((reported(&seats, 0), reported(&seats, 1)), (None, Some(0)));
        seats.replace(peer(1), peer(7));
        assert_eq!((reported(&seats, 1), reported(&seats, 7)), (None, Some(0)));
        seats.forget(peer(7));
        assert_eq!(reported(&seats, 7), None);
    }
}
