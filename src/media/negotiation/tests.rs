//! Tests of the negotiation: series of changes, offers and answers.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::id::PeerId;
use crate::media::inputs;
use crate::media::negotiation::assignment::{MAX_REJECTED_M_LINES, MAX_SENDING_M_LINES};

struct Peer {
    negotiation: Negotiation,
    now: Instant,
    mids: u32,
}

fn track(publisher: u32, mid: &str) -> TrackId {
    TrackId { publisher: PeerId { slot: publisher, generation: 0 }, mid: Mid::from(mid) }
}

impl Peer {
    fn new() -> Self {
        let mut peer = Self { negotiation: Negotiation::default(), now: Instant::now(), mids: 0 };
        peer.negotiation.publish(peer.now, MediaKind::Audio, Source::Microphone);
        peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera);
        peer.round();
        peer
    }

    fn offer(&mut self) -> Vec<Change> {
        self.now += DEBOUNCE;
        let changes = self.negotiation.start_offer(self.now);
        for change in &changes {
            if let Change::Add { m_line, .. } = change {
                self.mids += 1;
                self.negotiation.set_mid(*m_line, Mid::from(self.mids.to_string().as_str()));
            }
        }
        changes
    }

    /// Answers like a browser that accepts everything.
    fn answer(&mut self) -> Vec<Agreed> {
        let answers: Vec<_> = (0..self.negotiation.m_lines().len())
            .filter(|m_line| self.negotiation.m_lines()[*m_line].mid.is_some())
            .map(|m_line| Answered {
                m_line,
                direction: match &self.negotiation.m_lines()[m_line].role {
                    Role::Publish { described: true, .. } => Direction::RecvOnly,
                    Role::Subscribe { described: Some(_), .. } => Direction::SendOnly,
                    _ => Direction::Inactive,
                },
                rejected: false,
            })
            .collect();
        self.negotiation.handle_answer(self.now, answers.into_iter())
    }

    fn round(&mut self) -> Vec<Agreed> {
        self.offer();
        self.answer()
    }

    fn subscribe(&mut self, publisher: u32) {
        let now = self.now;
        self.negotiation.subscribe(now, track(publisher, "a"), MediaKind::Audio);
        self.negotiation.subscribe(now, track(publisher, "v"), MediaKind::Video);
    }

    fn unsubscribe(&mut self, publisher: u32) {
        for mid in ["a", "v"] {
            self.negotiation.unsubscribe(self.now, track(publisher, mid));
        }
    }

    /// Number of m-lines that answers have rejected.
    fn dead_m_lines(&self) -> usize {
        self.negotiation.m_lines().iter().filter(|m_line| m_line.is_dead()).count()
    }

    fn carried(&self) -> Vec<TrackId> {
        self.negotiation.m_lines().iter().filter_map(MLine::carries).collect()
    }
}

#[test]
fn changes_during_a_pending_offer_are_combined_in_the_next() {
    let mut peer = Peer::new();
    peer.subscribe(1);
    assert_eq!(peer.offer().len(), 2);
    peer.subscribe(2);
    peer.subscribe(3);
    peer.unsubscribe(1);
    assert_eq!(peer.negotiation.offer_due(), None);
    assert_eq!(peer.answer(), [], "unsubscribed tracks do not start");
    assert!(peer.negotiation.offer_due().is_some());
    assert_eq!(peer.round().len(), 0, "2 and 3 wait for the m-lines of 1");
    assert_eq!(peer.round().len(), 4);
    assert_eq!(peer.negotiation.m_lines().len(), 6);
    assert_eq!(peer.negotiation.offer_due(), None);
    assert_eq!(peer.offer(), []);
}

#[test]
fn a_hundred_joins_and_leaves_need_the_m_lines_of_the_peak_only() {
    let mut peer = Peer::new();
    peer.subscribe(1);
    peer.subscribe(2);
    peer.round();
    for publisher in 3..100 {
        peer.unsubscribe(publisher - 2);
        peer.subscribe(publisher);
        while peer.negotiation.offer_due().is_some() {
            peer.round();
        }
        assert_eq!(peer.carried().len(), 4);
    }
    assert_eq!(peer.negotiation.m_lines().len(), 2 + 4);
}

#[test]
fn a_set_carries_one_publisher_at_a_time() {
    let mut peer = Peer::new();
    peer.subscribe(1);
    peer.round();
    peer.negotiation.unsubscribe(peer.now, track(1, "a"));
    peer.negotiation.subscribe(peer.now, track(2, "a"), MediaKind::Audio);
    peer.round();
    peer.round();
    let set_of = |wanted| {
        peer.negotiation.m_lines().iter().find_map(|m_line| match m_line.role {
            Role::Subscribe { set, .. } if m_line.carries() == Some(wanted) => Some(set),
            _ => None,
        })
    };
    assert_eq!(set_of(track(1, "v")), Some(0));
    assert_eq!(set_of(track(2, "a")), Some(1));
}

#[test]
fn a_reused_m_line_gets_new_ssrcs() {
    let mut peer = Peer::new();
    peer.subscribe(1);
    peer.round();
    peer.unsubscribe(1);
    peer.subscribe(2);
    for change in peer.offer() {
        assert!(matches!(change, Change::Direct { direction: Direction::Inactive, fresh_ssrc: false, .. }));
    }
    peer.answer();
    let changes = peer.offer();
    assert_eq!(changes.len(), 2);
    for change in changes {
        assert!(matches!(change, Change::Direct { direction: Direction::SendOnly, fresh_ssrc: true, .. }));
    }
}

/// Exchanges the tracks of `off` for those in `on`. Returns the exchanged m-lines and the changes in the next
/// offer.
fn exchanged(peer: &mut Peer, off: u32, on: &[(u32, &str, MediaKind)]) -> (Vec<(usize, TrackId)>, usize) {
    for mid in ["a", "v"] {
        peer.negotiation.vacate(peer.now, track(off, mid));
    }
    for (publisher, mid, kind) in on {
        peer.negotiation.subscribe(peer.now, track(*publisher, mid), *kind);
    }
    let exchanged = peer.negotiation.exchange();
    (exchanged, peer.offer().len())
}

#[test]
fn m_lines_are_exchanged_without_an_offer() {
    use MediaKind::{Audio, Video};
    let mut peer = Peer::new();
    peer.subscribe(1);
    peer.subscribe(2);
    peer.round();
    let carried = |peer: &Peer| peer.carried().iter().map(|track| track.publisher.slot).collect::<Vec<_>>();
    let (placed, offered) = exchanged(&mut peer, 1, &[(3, "a", Audio), (3, "v", Video)]);
    assert_eq!(placed, [(2, track(3, "a")), (3, track(3, "v"))]);
    assert!(peer.negotiation.take_exchanged() && !peer.negotiation.take_exchanged());
    assert_eq!((offered, carried(&peer)), (0, vec![3, 3, 2, 2]));
    // A publisher with sound only leaves the other m-line live for the next publisher with video.
    let (placed, offered) = exchanged(&mut peer, 2, &[(4, "a", Audio)]);
    assert_eq!((placed, offered, carried(&peer)), (vec![(4, track(4, "a"))], 0, vec![3, 3, 4]));
    let (placed, offered) = exchanged(&mut peer, 4, &[(5, "v", Video)]);
    assert_eq!((placed, offered, carried(&peer)), (vec![(5, track(5, "v"))], 0, vec![3, 3, 5]));
    // One more m-line is offered in the same set.
    let (placed, offered) = exchanged(&mut peer, 5, &[(6, "a", Audio), (6, "v", Video), (6, "s", Video)]);
    assert_eq!((placed.len(), offered), (2, 1));
    assert_eq!(peer.answer(), [Agreed::Subscribed { m_line: 6, track: track(6, "s") }]);
    assert_eq!((peer.negotiation.m_lines().len(), peer.negotiation.assignment.sets.len()), (7, 2));
    // Of two free sets, the fitting one is used.
    peer.negotiation.vacate(peer.now, track(3, "a"));
    peer.negotiation.vacate(peer.now, track(3, "v"));
    peer.negotiation.vacate(peer.now, track(6, "s"));
    let (placed, offered) = exchanged(&mut peer, 6, &[(7, "a", Audio), (7, "s", Video), (7, "v", Video)]);
    assert_eq!((placed.iter().map(|(m_line, _)| *m_line).collect::<Vec<_>>(), offered), (vec![4, 5, 6], 0));
}

#[test]
fn an_m_line_of_a_pending_offer_is_exchanged_after_the_answer() {
    let mut peer = Peer::new();
    peer.subscribe(1);
    peer.round();
    peer.subscribe(2);
    assert_eq!(peer.offer().len(), 2);
    // Meanwhile the m-lines of 1 can be exchanged, those of 2 can't.
    peer.negotiation.vacate(peer.now, track(2, "a"));
    peer.negotiation.vacate(peer.now, track(2, "v"));
    peer.subscribe(3);
    assert_eq!(peer.negotiation.exchange(), []);
    peer.negotiation.vacate(peer.now, track(1, "a"));
    peer.negotiation.vacate(peer.now, track(1, "v"));
    assert_eq!(peer.negotiation.exchange(), [(2, track(3, "a")), (3, track(3, "v"))]);
    peer.subscribe(4);
    assert_eq!(peer.negotiation.exchange(), []);
    assert_eq!(peer.answer(), [], "unsubscribed tracks do not start");
    assert_eq!(peer.negotiation.exchange(), [(4, track(4, "a")), (5, track(4, "v"))]);
    assert_eq!(peer.offer(), []);
    assert_eq!(peer.negotiation.m_lines().len(), 6);
}

#[test]
fn an_m_line_missing_in_a_set_is_added_by_the_offer_that_parks_the_others() {
    use MediaKind::{Audio, Video};
    let mut peer = Peer::new();
    peer.negotiation.subscribe(peer.now, track(1, "v"), Video);
    peer.round();
    peer.negotiation.unsubscribe(peer.now, track(1, "v"));
    peer.negotiation.subscribe(peer.now, track(2, "a"), Audio);
    peer.negotiation.subscribe(peer.now, track(2, "v"), Video);
    assert_eq!(peer.offer().len(), 2, "one m-line is parked and one is new");
    peer.answer();
    assert_eq!(peer.carried(), [track(2, "a")]);
    peer.round();
    assert_eq!(peer.carried(), [track(2, "v"), track(2, "a")]);
    assert_eq!((peer.negotiation.m_lines().len(), peer.negotiation.assignment.sets.len()), (4, 1));
}

#[test]
fn no_track_is_on_two_m_lines() {
    let mut peer = Peer::new();
    peer.subscribe(1);
    peer.round();
    peer.subscribe(2);
    peer.offer();
    for publisher in [1, 2] {
        for mid in ["a", "v"] {
            peer.negotiation.vacate(peer.now, track(publisher, mid));
        }
    }
    assert_eq!(peer.carried(), [], "the pending offer does not matter");
    peer.subscribe(2);
    assert_eq!(peer.negotiation.exchange().len(), 2);
    assert_eq!(peer.carried(), [track(2, "a"), track(2, "v")]);
    assert_eq!(peer.answer(), []);
    peer.round();
    assert_eq!(peer.carried(), [track(2, "a"), track(2, "v")]);
}

#[test]
fn a_source_answered_inactive_is_offered_again_on_request() {
    let mut peer = Peer::new();
    let inactive = |m_line| Answered { m_line, direction: Direction::Inactive, rejected: false };
    let agreed = peer.negotiation.handle_answer(peer.now, [0, 1].map(inactive).into_iter());
    assert!(agreed.iter().all(|agreed| matches!(agreed, Agreed::NotPublishing { .. })));
    assert_eq!(peer.negotiation.offer_due(), None);
    assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
    let mid = peer.negotiation.m_lines()[1].mid.unwrap();
    let direction = Direction::RecvOnly;
    assert_eq!(peer.offer(), [Change::Direct { mid, direction, fresh_ssrc: false }]);
    // Requested again during the pending offer, whose answer was made before.
    assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
    peer.negotiation.handle_answer(peer.now, [0, 1].map(inactive).into_iter());
    assert_eq!(peer.offer().len(), 1);
    let agreed = peer.answer();
    assert!(agreed.contains(&Agreed::Publishing { mid, kind: MediaKind::Video, source: Source::Camera }));
    // Ended and requested repeatedly during a pending offer: the next offer ends the m-line.
    peer.subscribe(1);
    peer.offer();
    for _ in 0..2 {
        assert!(peer.negotiation.unpublish(peer.now, MediaKind::Video, Source::Camera, None).is_ok());
        assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
    }
    peer.negotiation.unpublish(peer.now, MediaKind::Video, Source::Camera, None).unwrap();
    peer.answer();
    let direction = Direction::Inactive;
    assert_eq!(peer.offer(), [Change::Direct { mid, direction, fresh_ssrc: false }]);
}

#[test]
fn a_kind_that_is_always_rejected_is_no_longer_offered() {
    let mut peer = Peer::new();
    for publisher in 1..200 {
        peer.subscribe(publisher);
        while peer.negotiation.offer_due().is_some() {
            peer.offer();
            let answers: Vec<_> = (0..peer.negotiation.m_lines().len())
                .filter(|m_line| peer.negotiation.m_lines()[*m_line].mid.is_some())
                .map(|m_line| match &peer.negotiation.m_lines()[m_line] {
                    MLine { kind: MediaKind::Video, role: Role::Subscribe { .. }, .. } => {
                        Answered { m_line, direction: Direction::Inactive, rejected: true }
                    }
                    MLine { role: Role::Subscribe { described: Some(_), .. }, .. } => {
                        Answered { m_line, direction: Direction::SendOnly, rejected: false }
                    }
                    _ => Answered { m_line, direction: Direction::Inactive, rejected: false },
                })
                .collect();
            peer.negotiation.handle_answer(peer.now, answers.into_iter());
        }
        let declined = (publisher == MAX_REJECTED_M_LINES as u32 + 1).then_some(MediaKind::Video);
        assert_eq!(peer.negotiation.take_declined(), declined, "reported once, publisher {publisher}");
        assert!(peer.carried().contains(&track(publisher, "a")), "audio continues");
        peer.unsubscribe(publisher);
    }
    assert_eq!(peer.dead_m_lines(), MAX_REJECTED_M_LINES);
    assert!(peer.negotiation.assignment.sets.len() <= MAX_REJECTED_M_LINES + 2);
}

#[test]
fn rejected_m_lines_do_not_count_as_streams_of_the_peer() {
    let mut peer = Peer::new();
    for _ in 0..MAX_SENDING_M_LINES + 4 {
        assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Screen));
        peer.offer();
        let m_line = peer.negotiation.m_lines().len() - 1;
        let rejected = Answered { m_line, direction: Direction::Inactive, rejected: true };
        peer.negotiation.handle_answer(peer.now, [rejected].into_iter());
    }
}

#[test]
fn a_rejected_m_line_is_never_used_again() {
    let mut peer = Peer::new();
    peer.negotiation.subscribe(peer.now, track(1, "v"), MediaKind::Video);
    peer.offer();
    let rejected = Answered { m_line: 2, direction: Direction::Inactive, rejected: true };
    let agreed = peer.negotiation.handle_answer(peer.now, [rejected].into_iter());
    assert_eq!(agreed, [Agreed::Refused { track: track(1, "v") }]);
    peer.unsubscribe(1);
    peer.negotiation.subscribe(peer.now, track(2, "v"), MediaKind::Video);
    while peer.negotiation.offer_due().is_some() {
        peer.round();
    }
    assert_eq!(peer.negotiation.m_lines()[3].carries(), Some(track(2, "v")));
    assert_eq!(peer.dead_m_lines(), 1);
}

#[test]
fn the_number_of_streams_of_a_peer_is_limited() {
    let mut peer = Peer::new();
    for more in 0..20 {
        let granted = peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera);
        assert_eq!(granted, more < MAX_SENDING_M_LINES - 2);
        peer.round();
    }
    assert_eq!(peer.negotiation.m_lines().len(), MAX_SENDING_M_LINES);
    assert!(peer.negotiation.unpublish(peer.now, MediaKind::Video, Source::Camera, None).is_ok());
    assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
}

/// A random event of a peer. Publishers are numbered; `bool` is true for video.
#[derive(Clone, Debug)]
enum Step {
    Subscribe(u32, bool),
    Unsubscribe(u32, bool),
    /// Unsubscribes, but leaves the m-line to waiting tracks.
    Vacate(u32, bool),
    Exchange,
    Publish(Source),
    Unpublish(Source),
    Offer,
    /// The bits select the m-lines that are answered `inactive`.
    Answer(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let source = prop::sample::select(vec![Source::Microphone, Source::Camera, Source::Screen]);
    let refused = prop_oneof![3 => Just(0), 1 => any::<u8>()];
    prop_oneof![
        5 => (0..5_u32, any::<bool>()).prop_map(|(of, video)| Step::Subscribe(of, video)),
        3 => (0..5_u32, any::<bool>()).prop_map(|(of, video)| Step::Unsubscribe(of, video)),
        2 => (0..5_u32, any::<bool>()).prop_map(|(of, video)| Step::Vacate(of, video)),
        1 => Just(Step::Exchange),
        1 => source.clone().prop_map(Step::Publish),
        1 => source.prop_map(Step::Unpublish),
        3 => Just(Step::Offer),
        4 => refused.prop_map(Step::Answer),
    ]
}

impl Peer {
    fn answer_but(&mut self, refused: u8) -> Vec<Agreed> {
        let lines = 0..self.negotiation.m_lines().len();
        let offered = lines.filter(|m_line| self.negotiation.m_lines()[*m_line].mid.is_some());
        let answers = offered.map(|m_line| Answered {
            m_line,
            direction: match &self.negotiation.m_lines()[m_line].role {
                _ if m_line < 8 && refused & 1 << m_line != 0 => Direction::Inactive,
                Role::Publish { described: true, .. } => Direction::RecvOnly,
                Role::Subscribe { described: Some(_), .. } => Direction::SendOnly,
                _ => Direction::Inactive,
            },
            rejected: false,
        });
        let answers: Vec<_> = answers.collect();
        self.negotiation.handle_answer(self.now, answers.into_iter())
    }

    fn check(&self) {
        let negotiation = &self.negotiation;
        let carried = self.carried();
        let mut distinct = carried.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), carried.len(), "a track is on two m-lines: {carried:?}");
        for set in 0..negotiation.assignment.sets.len() {
            let of_set = negotiation.m_lines().iter().filter(|m_line| m_line.is_of(set));
            let mut publishers: Vec<_> = of_set.filter_map(MLine::wanted).map(|track| track.publisher).collect();
            publishers.dedup();
            assert!(publishers.len() < 2, "a set carries several publishers: {publishers:?}");
        }
        assert!(!negotiation.is_pending() || negotiation.offer_due().is_none(), "one offer at a time");
        assert_eq!(negotiation.is_pending(), negotiation.answer_due().is_some());
        let sending = negotiation.m_lines().iter().filter(|m_line| m_line.publishes().is_some()).count();
        assert!(sending <= MAX_SENDING_M_LINES);
    }
}

proptest! {
    #![proptest_config(inputs(2_048))]

    /// After any events, exactly the wanted tracks are carried once nothing changes any more. There are at
    /// most two m-lines for each publisher at the peak.
    #[test]
    fn any_series_of_changes_ends_in_the_wanted_state(steps in vec(any_step(), 0..80)) {
        let mut peer = Peer::new();
        let mut wanted: Vec<TrackId> = Vec::new();
        let mut peak = 0;
        for step in steps {
            let now = peer.now;
            let track_of = |of: u32, video: bool| track(of, if video { "v" } else { "a" });
            match step {
                Step::Subscribe(of, video) => {
                    let kind = if video { MediaKind::Video } else { MediaKind::Audio };
                    if !wanted.contains(&track_of(of, video)) {
                        wanted.push(track_of(of, video));
                        peer.negotiation.subscribe(now, track_of(of, video), kind);
                    }
                }
                Step::Unsubscribe(of, video) => {
                    peer.negotiation.unsubscribe(now, track_of(of, video));
                    wanted.retain(|track| *track != track_of(of, video));
                }
                Step::Vacate(of, video) => {
                    peer.negotiation.vacate(now, track_of(of, video));
                    wanted.retain(|track| *track != track_of(of, video));
                }
                Step::Exchange => drop(peer.negotiation.exchange()),
                Step::Publish(source) => {
                    let kind = if source == Source::Microphone { MediaKind::Audio } else { MediaKind::Video };
                    peer.negotiation.publish(now, kind, source);
                }
                Step::Unpublish(source) => {
                    let kind = if source == Source::Microphone { MediaKind::Audio } else { MediaKind::Video };
                    _ = peer.negotiation.unpublish(now, kind, source, None);
                }
                Step::Offer if !peer.negotiation.is_pending() => drop(peer.offer()),
                Step::Answer(refused) if peer.negotiation.is_pending() => drop(peer.answer_but(refused)),
                Step::Offer | Step::Answer(_) => {}
            }
            let mut publishers: Vec<_> = wanted.iter().map(|track| track.publisher).collect();
            publishers.sort();
            publishers.dedup();
            peak = peak.max(publishers.len());
            peer.check();
        }
        for _ in 0..8 {
            if peer.negotiation.is_pending() {
                peer.answer();
            }
            if peer.negotiation.offer_due().is_some() {
                peer.offer();
            }
            peer.check();
        }
        prop_assert!(!peer.negotiation.is_pending() && peer.negotiation.offer_due().is_none(), "negotiation ends");
        let mut carried = peer.carried();
        carried.sort();
        wanted.sort();
        prop_assert_eq!(carried, wanted);
        let receiving = peer.negotiation.m_lines().iter().filter(|m_line| m_line.publishes().is_none()).count();
        prop_assert!(receiving <= 2 * peak, "{receiving} m-lines for {peak} publishers");
    }
}
