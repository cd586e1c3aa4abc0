//! The seats of one subscriber: whose sound and picture it is sent, where more people publish than it has lines for.
//!
//! Who is heard has a seat, at once. The others have one by claim: what the page has pinned comes first, then a shared
//! screen, what the page shows, a picture at all, and at last who spoke latest. Nobody is moved without need: only a
//! claim of a better kind takes a seat away, not one that is a little better of the same kind.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::id::PeerId;
use crate::media::outgoing::View;
use crate::track::Source;

/// How long a seat is kept at least, unless somebody is heard who has none: each exchange costs a keyframe, and a face
/// that goes at once was not worth its coming. Longer follows a page that is scrolled more slowly.
pub const STAY: Duration = Duration::from_secs(2);

/// Exchanges a second, and at once, whoever is heard: each is told to the page, and microphones that click in turn could
/// make any number of them. Fewer lose first words in a heated talk, more let noise fill the wires.
const EXCHANGES: f64 = 5.0;
const EXCHANGE_BURST: f64 = 15.0;

/// When it looks again after too many.
const PAUSE: Duration = Duration::from_millis(200);

/// From this priority on the page has pinned somebody: pages tell 1 of what they just show.
pub const PINNED: u32 = 2;

/// Somebody who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub peer: PeerId,
    /// Has a place among those who are heard.
    pub is_heard: bool,
    /// How many have spoken since; `None` if they never did.
    pub turn: Option<usize>,
    /// Shares a screen.
    pub has_screen: bool,
    /// Sends a picture, and has not muted it.
    pub has_picture: bool,
}

/// Who lost their seat, and who got one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// The former.
    pub off: Vec<PeerId>,
    /// The latter.
    pub on: Vec<PeerId>,
}

/// The seats of one subscriber.
#[derive(Debug)]
pub struct Seats {
    seated: Vec<Seat>,
    shown: Vec<Shown>,
    exchanges: Bucket,
    is_full: bool,
    next_look: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    peer: PeerId,
    since: Instant,
}

/// What the page shows of somebody, as far as it has told.
#[derive(Clone, Copy, Debug)]
struct Shown {
    peer: PeerId,
    source: Source,
    view: View,
    /// It was told of the person, not of a line that they were on.
    is_lasting: bool,
}

/// Why one should be seated rather than another; the greater is better. The last is of no account between one who has a
/// seat and one who has none.
type Claim = (bool, u32, bool, bool, bool, Reverse<usize>);

impl Seats {
    /// Upper bound of the heap memory of one, in bytes, in a room with `others` other participants.
    pub const fn max_bytes(others: usize) -> usize {
        2 * others * (size_of::<Seat>() + Source::COUNT * size_of::<Shown>())
    }

    /// Seats that nobody has.
    pub fn new(now: Instant) -> Self {
        let exchanges = Bucket::new(now, EXCHANGES, EXCHANGE_BURST);
        Self { seated: Vec::new(), shown: Vec::new(), exchanges, is_full: false, next_look: None }
    }

    /// Seats as many of `people`, who stand in the order of joining, as there are seats; `own` is the subscriber.
    pub fn settle(&mut self, now: Instant, own: PeerId, limit: usize, people: &[Person]) -> Moves {
        let mut moves = Moves::default();
        self.seated.retain(|seat| people.iter().any(|person| person.peer == seat.peer));
        let mut claims: Vec<(Claim, &Person)> =
            people.iter().filter(|person| person.peer != own).map(|person| (self.claim(person), person)).collect();
        // Stable: of equals who came first.
        claims.sort_by_key(|(claim, _)| Reverse(*claim));
        // Those who had a seat before, from the best claim to the weakest: who gets one now has a better one than they.
        let mut losers: VecDeque<(usize, Claim, PeerId)> = VecDeque::new();
        losers.extend(
            claims
                .iter()
                .enumerate()
                .filter(|(_, (_, person))| self.has(person.peer))
                .map(|(index, (claim, person))| (index, *claim, person.peer)),
        );
        self.next_look = None;
        for (index, (claim, person)) in claims.iter().enumerate() {
            if losers.front().is_some_and(|(of, ..)| *of == index) {
                losers.pop_front();
                continue;
            }
            if self.seated.len() >= limit {
                let weaker = losers.iter().rev().take_while(|(_, other, _)| is_worth(claim, other));
                let may_go = |(_, _, other): &&(usize, Claim, PeerId)| person.is_heard || self.may_go(now, *other);
                let loser = weaker.clone().find(may_go).copied();
                let Some((of, _, loser)) = loser.filter(|_| self.exchanges.take(now)) else {
                    let free_at = weaker.filter_map(|(_, _, other)| self.free_at(*other)).min();
                    let look_at = if loser.is_some() { Some(now + PAUSE) } else { free_at };
                    self.next_look = self.next_look.into_iter().chain(look_at).min();
                    continue;
                };
                losers.retain(|(other, ..)| *other != of);
                moves.off.push(loser);
                self.unseat(loser);
            }
            moves.on.push(person.peer);
            self.seated.push(Seat { peer: person.peer, since: now });
        }
        self.is_full = claims.len() > self.seated.len();
        moves
    }

    /// The page tells what it shows of somebody; `is_lasting` if of the person, not of the line that carries them.
    pub fn show(&mut self, peer: PeerId, source: Source, view: View, is_lasting: bool) {
        match self.shown.iter_mut().find(|shown| (shown.peer, shown.source) == (peer, source)) {
            Some(shown) => (shown.view, shown.is_lasting) = (view, shown.is_lasting || is_lasting),
            None => self.shown.push(Shown { peer, source, view, is_lasting }),
        }
    }

    /// A track ended: what was told of its line ends with it.
    pub fn end_line(&mut self, peer: PeerId, source: Source) {
        self.shown.retain(|shown| (shown.peer, shown.source) != (peer, source) || shown.is_lasting);
    }

    /// Somebody left.
    pub fn forget(&mut self, peer: PeerId) {
        self.seated.retain(|seat| seat.peer != peer);
        self.shown.retain(|shown| shown.peer != peer);
    }

    /// Somebody comes back under another id.
    pub fn replace(&mut self, old: PeerId, new: PeerId) {
        self.shown.iter_mut().filter(|shown| shown.peer == old).for_each(|shown| shown.peer = new);
    }

    /// What the page shows of somebody; `None` if it has not told.
    pub fn view(&self, peer: PeerId, source: Source) -> Option<View> {
        self.shown.iter().find(|shown| (shown.peer, shown.source) == (peer, source)).map(|shown| shown.view)
    }

    /// Whether somebody has a seat.
    pub fn has(&self, peer: PeerId) -> bool {
        self.seated.iter().any(|seat| seat.peer == peer)
    }

    /// Whether somebody has none.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// When somebody may take a seat that is still kept.
    pub fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    fn claim(&self, person: &Person) -> Claim {
        let mut shown = self.shown.iter().filter(|shown| shown.peer == person.peer).peekable();
        let is_untold = shown.peek().is_none();
        let seen = shown.filter(|shown| shown.view.tile() != Some(0)).map(|shown| shown.view.priority).max();
        let pinned = seen.filter(|priority| *priority >= PINNED).unwrap_or(0);
        let is_shown = is_untold || seen.is_some();
        let turn = Reverse(person.turn.unwrap_or(usize::MAX));
        (person.is_heard, pinned, person.has_screen, is_shown, person.has_picture, turn)
    }

    fn may_go(&self, now: Instant, peer: PeerId) -> bool {
        self.free_at(peer).is_some_and(|at| now >= at)
    }

    fn free_at(&self, peer: PeerId) -> Option<Instant> {
        self.seated.iter().find(|seat| seat.peer == peer).map(|seat| seat.since + STAY)
    }

    /// What was told of a line is not told of who comes to it later.
    fn unseat(&mut self, peer: PeerId) {
        self.seated.retain(|seat| seat.peer != peer);
        self.shown.retain(|shown| shown.peer != peer || shown.is_lasting);
    }
}

/// Whether a claim is of a better kind than another.
fn is_worth(claim: &Claim, other: &Claim) -> bool {
    let kind = |claim: &Claim| (claim.0, claim.1, claim.2, claim.3, claim.4);
    kind(claim) > kind(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: PeerId = peer(99);

    const fn peer(slot: u32) -> PeerId {
        PeerId { slot, generation: 0 }
    }

    fn person(slot: u32) -> Person {
        Person { peer: peer(slot), is_heard: false, turn: None, has_screen: false, has_picture: true }
    }

    /// So many people with cameras, of whom those in `turns` have spoken, the latest first, the first `heard` just now.
    fn people(count: u32, turns: &[u32], heard: usize) -> Vec<Person> {
        let turn = |slot: u32| turns.iter().position(|turn| *turn == slot);
        let is_heard = |slot| turn(slot).is_some_and(|turn| turn < heard);
        (0..count).map(|slot| Person { turn: turn(slot), is_heard: is_heard(slot), ..person(slot) }).collect()
    }

    fn view(height: u32, priority: u32) -> View {
        View { width: height, height, priority }
    }

    fn seated(seats: &Seats) -> Vec<u32> {
        let mut slots: Vec<u32> = seats.seated.iter().map(|seat| seat.peer.slot).collect();
        slots.sort_unstable();
        slots
    }

    /// What the page tells: of whom, lines, priority.
    type Told<'a> = &'a [(u32, u32, u32)];

    /// A name, who is there, what the page tells, how many seats there are, and who gets them.
    type Row<'a> = (&'a str, Vec<Person>, Told<'a>, usize, &'a [u32]);

    #[test]
    fn who_gets_the_seats() {
        let screen = |slot: usize, mut people: Vec<Person>| {
            people[slot].has_screen = true;
            people
        };
        let dark = |slot: usize, mut people: Vec<Person>| {
            people[slot].has_picture = false;
            people
        };
        let table: [Row; 13] = [
            ("nobody is there", people(0, &[], 0), &[], 3, &[]),
            ("there are seats for all", people(3, &[], 0), &[], 3, &[0, 1, 2]),
            ("who came first", people(5, &[], 0), &[], 3, &[0, 1, 2]),
            ("who spoke latest", people(6, &[5, 2, 4, 3], 0), &[], 3, &[2, 4, 5]),
            ("and who is heard", people(6, &[5, 2, 4, 3], 2), &[], 3, &[2, 4, 5]),
            ("who is pinned", people(6, &[5, 4, 3], 3), &[(0, 100, 2)], 4, &[0, 3, 4, 5]),
            ("who is heard before who is pinned", people(6, &[5, 4, 3], 3), &[(0, 100, 2)], 3, &[3, 4, 5]),
            ("the more important of two", people(6, &[5], 1), &[(0, 100, 2), (3, 100, 3)], 2, &[3, 5]),
            ("not who is pinned and out of sight", people(4, &[], 0), &[(3, 0, 2)], 2, &[0, 1]),
            ("a screen", screen(4, people(5, &[3], 0)), &[], 2, &[3, 4]),
            ("a pin before a screen", screen(4, people(5, &[3], 0)), &[(0, 100, 2)], 1, &[0]),
            ("who is in sight", people(5, &[0, 1], 0), &[(0, 0, 1), (1, 0, 1), (4, 90, 1)], 2, &[2, 3]),
            ("who has a picture", dark(0, people(5, &[0, 4], 0)), &[], 2, &[1, 4]),
        ];
        for (name, people, told, limit, expected) in table {
            let mut seats = Seats::new(Instant::now());
            for (slot, height, priority) in told {
                seats.show(peer(*slot), Source::Camera, view(*height, *priority), true);
            }
            let moves = seats.settle(Instant::now(), OWN, limit, &people);
            assert_eq!(seated(&seats), expected, "{name}");
            assert_eq!((moves.on.len(), moves.off.len()), (expected.len(), 0), "{name}");
            assert_eq!(seats.is_full(), people.len() > expected.len(), "{name}");
        }
    }

    #[test]
    fn nobody_has_a_seat_in_front_of_themselves() {
        let mut seats = Seats::new(Instant::now());
        let moves = seats.settle(Instant::now(), peer(1), 2, &people(3, &[1], 1));
        assert_eq!(moves.on, [peer(0), peer(2)]);
        assert!(!seats.is_full());
    }

    /// A step of a story: when, who spoke (the latest first) and how many of them are heard, what the page tells, who
    /// loses their seat, who gets one.
    type Step<'a> = (u64, &'a [u32], usize, Told<'a>, &'a [u32], &'a [u32]);

    fn play(name: &str, story: &[Step]) {
        let start = Instant::now();
        let mut seats = Seats::new(Instant::now());
        for (index, (ms, turns, heard, told, off, on)) in story.iter().enumerate() {
            for (slot, height, priority) in *told {
                seats.show(peer(*slot), Source::Camera, view(*height, *priority), true);
            }
            let moves = seats.settle(start + Duration::from_millis(*ms), OWN, 3, &people(6, turns, *heard));
            let slots = |peers: &[PeerId]| peers.iter().map(|peer| peer.slot).collect::<Vec<_>>();
            assert_eq!((slots(&moves.off), slots(&moves.on)), (off.to_vec(), on.to_vec()), "{name}, step {index}");
        }
    }

    #[test]
    fn seats_change_hands() {
        let stories: [(&str, &[Step]); 5] = [
            (
                "who speaks takes the seat of who never did and came last, at once",
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
                "nobody moves because somebody else spoke later",
                &[(0, &[3, 2, 1], 0, &[], &[], &[3, 2, 1]), (9_000, &[5, 4, 0], 0, &[], &[], &[])],
            ),
            (
                "a pin takes a seat once it has been kept for a while, and keeps it",
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
                "who is scrolled into sight takes the seat of who is not",
                &[
                    (0, &[], 0, &[], &[], &[0, 1, 2]),
                    (3_000, &[], 0, &[(0, 0, 1), (2, 0, 1), (3, 0, 1), (4, 90, 1)], &[2, 0], &[4, 5]),
                ],
            ),
            (
                "who is out of sight is heard all the same",
                &[(0, &[], 0, &[(5, 0, 1)], &[], &[0, 1, 2]), (10, &[5], 1, &[], &[2], &[5])],
            ),
        ];
        for (name, story) in stories {
            play(name, story);
        }
    }

    #[test]
    fn it_looks_again_when_a_seat_may_be_taken_and_a_free_one_is_taken_at_once() {
        let start = Instant::now();
        let mut seats = Seats::new(Instant::now());
        seats.settle(start, OWN, 2, &people(4, &[], 0));
        assert_eq!(seats.next_look(), None, "everybody has the same claim");
        seats.show(peer(3), Source::Camera, view(90, 2), true);
        seats.settle(start, OWN, 2, &people(4, &[], 0));
        assert_eq!(seats.next_look(), Some(start + STAY));
        // 0 is gone.
        let moves = seats.settle(start, OWN, 2, &people(4, &[], 0)[1..]);
        assert_eq!((moves.on, moves.off), (vec![peer(3)], vec![]));
        assert_eq!(seats.next_look(), None);
    }

    #[test]
    fn microphones_that_click_in_turn_do_not_fill_the_wires() {
        let start = Instant::now();
        let mut seats = Seats::new(start);
        let mut exchanges = 0;
        for click in 0..500 {
            let now = start + Duration::from_millis(20 * click);
            let turns = [0, 1, 2].map(|before| (click + 9 - before) as u32 % 9);
            exchanges += seats.settle(now, OWN, 4, &people(9, &turns, 3)).off.len();
            assert!(seats.seated.len() == 4 && seats.next_look().is_none_or(|at| at > now));
        }
        assert!((50..=66).contains(&exchanges), "{exchanges} in ten seconds");
        // Who is heard still when it is over gets a seat.
        let heard = people(9, &[5, 6, 7], 3);
        seats.settle(seats.next_look().expect("somebody waits"), OWN, 4, &heard);
        seats.settle(start + Duration::from_secs(11), OWN, 4, &heard);
        assert!([5, 6, 7].iter().all(|slot| seats.has(peer(*slot))));
    }

    #[test]
    fn what_was_told_of_a_line_ends_with_it_and_what_was_told_of_a_person_stays() {
        let start = Instant::now();
        let mut seats = Seats::new(Instant::now());
        seats.settle(start, OWN, 2, &people(4, &[], 0));
        seats.show(peer(0), Source::Camera, view(0, 1), false);
        seats.show(peer(1), Source::Camera, view(0, 1), true);
        let moves = seats.settle(start, OWN, 2, &people(4, &[3, 2], 2));
        assert_eq!(moves.off, [peer(1), peer(0)]);
        let told = |seats: &Seats, slot| seats.view(peer(slot), Source::Camera).map(|view| view.height);
        assert_eq!((told(&seats, 0), told(&seats, 1)), (None, Some(0)));
        seats.replace(peer(1), peer(7));
        assert_eq!((told(&seats, 1), told(&seats, 7)), (None, Some(0)));
        seats.forget(peer(7));
        assert_eq!(told(&seats, 7), None);
    }
}
