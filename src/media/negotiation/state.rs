//! The negotiation of one peer: what its m-lines should carry, what the last offer described, and what the answer
//! accepted.
//!
//! Only the server sends offers, one at a time. A change alters the wanted state, and the next offer carries the
//! difference, so any number of changes during a pending offer costs one more offer. The m-lines on which the peer
//! receives are grouped in sets that share an msid. A set carries one publisher at a time and is reused once both sides
//! have agreed that it is parked (inactive), so that the SDP does not grow without limit (RFC 8829 section 5.2.2).
//!
//! With more publishers than sets, waiting tracks take over live m-lines without an offer (an exchange): the m-line,
//! its SSRC and its sequence numbers continue and carry another track.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use str0m::media::{Direction, MediaKind, Mid};

use crate::id::PeerId;
use crate::track::Source;

/// How long a change waits for others before it is offered: a burst of joins costs one offer per peer. A shorter time
/// causes more offers, a longer one delays newcomers.
pub const DEBOUNCE: Duration = Duration::from_millis(75);

/// Time limit of an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of m-lines on which one peer can send: camera, microphone, and those that it requests.
pub const MAX_SENDING_LINES: usize = 8;

/// Maximum number of rejected m-lines of one kind and role; they stay in every later offer. At this number, no such
/// m-line is added for the life of the transport. The answer to one offer may exceed it.
pub const MAX_REJECTED_LINES: usize = 16;

/// A published stream, named by its publisher and the publisher's m-line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId {
    /// The publishing peer.
    pub publisher: PeerId,
    /// The publisher's m-line.
    pub mid: Mid,
}

/// One m-line. `Negotiation` has them in the order of the SDP.
#[derive(Debug)]
pub struct Line {
    /// Audio or video; fixed.
    pub kind: MediaKind,
    /// The mid, known once the offer that adds the m-line has been built; fixed.
    pub mid: Option<Mid>,
    /// Its purpose.
    pub role: Role,
    /// Whether the latest offer that changed this m-line was answered.
    answered: bool,
    /// Whether the answer accepted it as offered.
    accepted: bool,
    /// Whether an answer rejected it (port 0): it can never be used again.
    dead: bool,
}

/// The purpose of an m-line.
#[derive(Debug)]
pub enum Role {
    /// The peer sends on it.
    Publish {
        /// The source that it carries.
        source: Source,
        /// Whether the peer wants to send.
        wanted: bool,
        /// Whether the latest offer asks the peer to send.
        described: bool,
        /// Whether it was requested during a pending offer; if that is answered `inactive`, it is offered again.
        again: bool,
    },
    /// The peer receives on it.
    Subscribe {
        /// Index of its set of m-lines with one msid.
        set: usize,
        /// The track it should carry.
        wanted: Option<TrackId>,
        /// The track that the latest offer describes.
        described: Option<TrackId>,
    },
}

/// One change of the SDP. Changes are applied in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Add an m-line.
    Add {
        /// Index that the m-line will have.
        line: usize,
        /// Audio or video.
        kind: MediaKind,
        /// `recvonly` or `sendonly`, seen from the server.
        direction: Direction,
        /// The set whose msid it gets; `None` for m-lines on which the peer sends.
        set: Option<usize>,
    },
    /// Change the direction of an existing m-line.
    Direct {
        /// Its mid.
        mid: Mid,
        /// The new direction.
        direction: Direction,
        /// Whether the m-line needs new SSRCs because it gets another track.
        fresh_ssrc: bool,
    },
}

/// One m-line of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Index of the m-line.
    pub line: usize,
    /// The negotiated direction, seen from the server.
    pub direction: Direction,
    /// Whether its port is 0.
    pub rejected: bool,
}

/// A publication or subscription that an answer started, ended or refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Agreed {
    /// The peer sends on this m-line from now on.
    Publishing {
        /// Its mid.
        mid: Mid,
        /// Audio or video.
        kind: MediaKind,
        /// The source that it sends.
        source: Source,
    },
    /// The peer no longer sends on this m-line.
    NotPublishing {
        /// Its mid.
        mid: Mid,
    },
    /// The track may be forwarded on this m-line from now on.
    Subscribed {
        /// Index of the m-line.
        line: usize,
        /// The track.
        track: TrackId,
    },
    /// The peer does not accept the track.
    Refused {
        /// The track.
        track: TrackId,
    },
}

/// The m-lines of one peer.
#[derive(Debug, Default)]
pub struct Negotiation {
    lines: Vec<Line>,
    /// The publisher that each set carries, by index of the set.
    sets: Vec<Option<PeerId>>,
    /// Tracks without an m-line, for example because a set is still being parked.
    waiting: Vec<(TrackId, MediaKind)>,
    /// When the pending offer was started.
    pending_since: Option<Instant>,
    /// The time of the first change that no offer carries yet.
    changed_at: Option<Instant>,
    /// Whether an m-line changed its track without an offer.
    has_exchanged: bool,
    /// Earliest time of the next offer.
    held_until: Option<Instant>,
    /// The kind of a track that got no m-line because the peer rejected too many.
    declined: Option<MediaKind>,
    /// The kinds that `take_declined` has reported.
    reported: SmallVec<[MediaKind; 2]>,
}

impl Negotiation {
    /// Lets the peer send one more stream, on an idle m-line of that kind and source, else on a new one (for example
    /// for a second camera). Returns false if the peer has too many.
    pub fn publish(&mut self, now: Instant, kind: MediaKind, source: Source) -> bool {
        let pending = self.pending_since.is_some();
        let of_kind = |line: &&mut Line| !line.dead && line.kind == kind && line.publishes() == Some(source);
        let mut idle = self.lines.iter_mut().filter(of_kind).filter(|line| !line.is_sending());
        if let Some(line) = idle.next() {
            if let Role::Publish { wanted, described, again, .. } = &mut line.role {
                *wanted = true;
                // It was answered `inactive`, so it is offered again; an answerer cannot request that itself.
                *described &= !line.answered;
                *again = pending;
            }
        } else if self.lines.iter().filter(|line| line.publishes().is_some() && !line.dead).count() >= MAX_SENDING_LINES
            || self.is_declined(kind, true)
        {
            return false;
        } else {
            self.lines.push(Line::new(kind, Role::Publish { source, wanted: true, described: false, again: false }));
        }
        self.touch(now);
        true
    }

    /// Ends a stream of the peer: the one on `mid`, else the last of that kind and source. Returns `None` if
    /// there is no such stream, else its mid, which is `None` before its first offer.
    pub fn unpublish(
        &mut self,
        now: Instant,
        kind: MediaKind,
        source: Source,
        mid: Option<Mid>,
    ) -> Option<Option<Mid>> {
        let matches = |line: &&mut Line| {
            line.kind == kind && line.publishes() == Some(source) && (mid.is_none() || line.mid == mid)
        };
        let mut lines = self.lines.iter_mut().rev().filter(matches);
        let mid = lines.find_map(|line| match &mut line.role {
            Role::Publish { wanted, described, again, .. } if *wanted => {
                // `described` is set because the m-line may still be active even if it was to be offered again.
                (*wanted, *described, *again) = (false, line.mid.is_some(), false);
                Some(line.mid)
            }
            _ => None,
        })?;
        self.touch(now);
        Some(mid)
    }

    /// Subscribes the peer to a track.
    pub fn subscribe(&mut self, now: Instant, track: TrackId, kind: MediaKind) {
        self.waiting.push((track, kind));
        self.touch(now);
    }

    /// Unsubscribes the peer from a track. Returns the index of the m-line that carried it.
    pub fn unsubscribe(&mut self, now: Instant, track: TrackId) -> Option<usize> {
        self.waiting.retain(|(waiting, _)| *waiting != track);
        let line = self.lines.iter().position(|line| line.wanted() == Some(track))?;
        if let Role::Subscribe { wanted, .. } = &mut self.lines[line].role {
            *wanted = None;
        }
        self.touch(now);
        Some(line)
    }

    /// Unsubscribes from a track but keeps its m-line live for `exchange`: no offer parks it. Returns its index.
    pub fn vacate(&mut self, now: Instant, track: TrackId) -> Option<usize> {
        let line = self.unsubscribe(now, track)?;
        let is_live = self.lines[line].is_live();
        // An m-line of a pending offer is not live: the next offer has to park it.
        if let Role::Subscribe { described, .. } = &mut self.lines[line].role
            && is_live
        {
            *described = None;
            self.has_exchanged = true;
        }
        Some(line)
    }

    /// Assigns waiting tracks to vacant live m-lines, and returns the indices of these. A set goes to the publisher
    /// that can use most of its m-lines. Tracks without a fitting m-line wait for the next offer.
    pub fn exchange(&mut self) -> Vec<(usize, TrackId)> {
        self.free_sets();
        let mut exchanged = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        for (track, kind) in &waiting {
            let set = self.own_set(track.publisher).or_else(|| self.live_set(track.publisher, &waiting));
            let is_of_set = |line: &Line| set.is_some_and(|set| line.is_of(set));
            let fits = |line: &Line| line.kind == *kind && is_of_set(line) && line.is_vacant();
            let Some(index) = self.lines.iter().position(fits) else {
                self.waiting.push((*track, *kind));
                continue;
            };
            if let Role::Subscribe { set, wanted, described } = &mut self.lines[index].role {
                (*wanted, *described) = (Some(*track), Some(*track));
                self.sets[*set] = Some(track.publisher);
            }
            exchanged.push((index, *track));
        }
        self.has_exchanged |= !exchanged.is_empty();
        exchanged
    }

    /// Whether an m-line has changed its track without an offer since the last call.
    pub fn take_exchanged(&mut self) -> bool {
        std::mem::take(&mut self.has_exchanged)
    }

    /// Notes that an m-line changed its track without an offer.
    pub fn note_exchange(&mut self) {
        self.has_exchanged = true;
    }

    /// Delays the next offer until `until`.
    pub fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
    }

    /// When the next offer is due; `None` without changes or during a pending offer.
    pub fn offer_due(&self) -> Option<Instant> {
        if self.pending_since.is_some() {
            return None;
        }
        // The first offer is sent at once.
        let debounce = if self.lines.iter().all(|line| line.mid.is_none()) { Duration::ZERO } else { DEBOUNCE };
        self.changed_at.map(|changed| self.held_until.map_or(changed + debounce, |held| held.max(changed + debounce)))
    }

    /// When the pending offer times out.
    pub fn answer_due(&self) -> Option<Instant> {
        self.pending_since.map(|since| since + ANSWER_TIMEOUT)
    }

    /// Starts an offer, and returns its changes. Without changes no offer is pending.
    pub fn start_offer(&mut self, now: Instant) -> Vec<Change> {
        debug_assert!(self.pending_since.is_none(), "only one offer is pending at a time");
        self.changed_at = None;
        self.place_waiting();
        let mut changes = Vec::new();
        for (index, line) in self.lines.iter_mut().enumerate() {
            let (direction, set, differs) = match &mut line.role {
                Role::Publish { wanted, described, .. } => {
                    let differs = *wanted != *described;
                    *described = *wanted;
                    let direction = if *wanted { Direction::RecvOnly } else { Direction::Inactive };
                    (direction, None, differs)
                }
                Role::Subscribe { set, wanted, described } => {
                    let differs = *wanted != *described;
                    *described = *wanted;
                    let direction = match wanted {
                        Some(_) => Direction::SendOnly,
                        None => Direction::Inactive,
                    };
                    (direction, Some(*set), differs)
                }
            };
            if !differs || line.dead {
                continue;
            }
            line.answered = false;
            line.accepted = false;
            changes.push(match line.mid {
                Some(mid) => Change::Direct { mid, direction, fresh_ssrc: direction == Direction::SendOnly },
                None => Change::Add { line: index, kind: line.kind, direction, set },
            });
        }
        if !changes.is_empty() {
            self.pending_since = Some(now);
            self.has_exchanged = false;
        }
        changes
    }

    /// Sets the mid of an added m-line.
    pub fn set_mid(&mut self, line: usize, mid: Mid) {
        self.lines[line].mid = Some(mid);
    }

    /// Handles the answer. Returns what it started and ended.
    pub fn handle_answer(&mut self, now: Instant, answers: impl Iterator<Item = Answered>) -> Vec<Agreed> {
        self.pending_since = None;
        let mut agreed = Vec::new();
        for answer in answers {
            let line = &mut self.lines[answer.line];
            let first = !line.answered;
            line.answered = true;
            line.dead |= answer.rejected;
            let mid = line.mid.expect("an answered m-line was offered, so it has a mid");
            match &mut line.role {
                Role::Publish { source, wanted, described, again } => {
                    let sends = !answer.rejected && *wanted && *described && answer.direction.is_receiving();
                    if std::mem::take(again) && !sends {
                        *described = false;
                        self.changed_at.get_or_insert(now);
                    }
                    if sends && !line.accepted {
                        agreed.push(Agreed::Publishing { mid, kind: line.kind, source: *source });
                    } else if !sends {
                        agreed.push(Agreed::NotPublishing { mid });
                    }
                    line.accepted = sends;
                }
                Role::Subscribe { wanted, described, .. } => {
                    let was_accepted = line.accepted && !first;
                    line.accepted = !answer.rejected && answer.direction.is_sending();
                    let Some(track) = described.filter(|_| wanted == described) else {
                        continue;
                    };
                    if line.accepted && !was_accepted {
                        agreed.push(Agreed::Subscribed { line: answer.line, track });
                    } else if !line.accepted && (was_accepted || first) {
                        agreed.push(Agreed::Refused { track });
                    }
                }
            }
        }
        if !self.waiting.is_empty() {
            self.touch(now);
        }
        agreed
    }

    /// The streams that the peer sends as negotiated: mid, kind and source.
    pub fn publications(&self) -> impl Iterator<Item = (Mid, MediaKind, Source)> {
        let sending = self.lines.iter().filter(|line| line.is_sending());
        sending.filter_map(|line| Some((line.mid?, line.kind, line.publishes()?)))
    }

    /// All m-lines in the order of the SDP.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether an offer is pending.
    pub fn is_pending(&self) -> bool {
        self.pending_since.is_some()
    }

    /// Number of m-lines that answers have rejected.
    #[cfg(test)]
    fn dead_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.dead).count()
    }

    /// Returns the kind of a track that is not offered because the peer rejected too many m-lines; each kind once.
    pub fn take_declined(&mut self) -> Option<MediaKind> {
        let kind = self.declined.take().filter(|kind| !self.reported.contains(kind))?;
        self.reported.push(kind);
        Some(kind)
    }

    fn is_declined(&self, kind: MediaKind, publishes: bool) -> bool {
        let is_rejected = |line: &&Line| line.dead && line.kind == kind && line.publishes().is_some() == publishes;
        self.lines.iter().filter(is_rejected).count() >= MAX_REJECTED_LINES
    }

    /// Whether media may be sent or received, so that ICE and DTLS are expected to connect.
    pub fn expects_media(&self) -> bool {
        self.lines.iter().any(|line| line.answered && line.accepted)
    }

    /// Notes a change for the next offer.
    fn touch(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
    }

    /// Assigns m-lines to waiting tracks. Those that need a set still to be parked continue to wait.
    fn place_waiting(&mut self) {
        self.free_sets();
        for (track, kind) in std::mem::take(&mut self.waiting) {
            let is_live = |line: &Line| line.kind == kind && line.publishes().is_none() && !line.dead;
            if self.is_declined(kind, false) && !self.lines.iter().any(is_live) {
                self.declined = Some(kind);
                continue;
            }
            let Some(set) = self.set_for(track.publisher, kind) else {
                self.waiting.push((track, kind));
                continue;
            };
            self.sets[set] = Some(track.publisher);
            let of_kind = |line: &Line| line.kind == kind && line.is_of(set) && !line.dead;
            let parked = self.lines.iter().position(|line| of_kind(line) && line.is_parked());
            let parking = |line: &Line| of_kind(line) && line.wanted().is_none();
            let index = match parked {
                Some(index) => index,
                None if self.lines.iter().any(parking) => {
                    self.waiting.push((track, kind));
                    continue;
                }
                None if self.is_declined(kind, false) => {
                    self.declined = Some(kind);
                    continue;
                }
                None => {
                    self.lines.push(Line::new(kind, Role::Subscribe { set, wanted: None, described: None }));
                    self.lines.len() - 1
                }
            };
            if let Role::Subscribe { wanted, .. } = &mut self.lines[index].role {
                *wanted = Some(track);
            }
        }
    }

    /// Frees the sets without a wanted track.
    fn free_sets(&mut self) {
        for set in 0..self.sets.len() {
            if !self.lines.iter().any(|line| line.is_of(set) && line.wanted().is_some()) {
                self.sets[set] = None;
            }
        }
    }

    /// Finds the set for a publisher's track: its own, else a parked one, else one that this offer parks and that has
    /// no m-line of this kind, else a new one. Returns `None` while a set with such an m-line is being parked: waiting
    /// for it costs one round trip, while a new m-line stays in the SDP.
    fn set_for(&mut self, publisher: PeerId, kind: MediaKind) -> Option<usize> {
        if let Some(own) = self.own_set(publisher) {
            return Some(own);
        }
        let (mut parking, mut is_awaited) = (None, false);
        for set in (0..self.sets.len()).filter(|set| self.sets[*set].is_none()) {
            let usable: SmallVec<[&Line; 4]> = self.lines.iter().filter(|line| line.is_of(set) && !line.dead).collect();
            if usable.is_empty() {
                continue;
            }
            if usable.iter().all(|line| line.is_parked()) {
                return Some(set);
            }
            is_awaited |= usable.iter().any(|line| line.kind == kind);
            parking.get_or_insert(set);
        }
        if is_awaited {
            return None;
        }
        parking.or_else(|| {
            self.sets.push(None);
            Some(self.sets.len() - 1)
        })
    }

    fn own_set(&self, publisher: PeerId) -> Option<usize> {
        self.sets.iter().position(|owner| *owner == Some(publisher))
    }

    /// Finds the free set whose live m-lines fit most of a publisher's waiting tracks.
    fn live_set(&self, publisher: PeerId, waiting: &[(TrackId, MediaKind)]) -> Option<usize> {
        let fits = |set: &usize| {
            let of_kind = |kind: MediaKind| {
                let of_set = self.lines.iter().filter(|line| line.is_of(*set) && line.is_vacant());
                let wants = waiting.iter().filter(|(track, of)| track.publisher == publisher && *of == kind);
                of_set.filter(|line| line.kind == kind).count().min(wants.count())
            };
            of_kind(MediaKind::Audio) + of_kind(MediaKind::Video)
        };
        let free = (0..self.sets.len()).filter(|set| self.sets[*set].is_none() && fits(set) > 0);
        free.min_by_key(|set| std::cmp::Reverse(fits(set)))
    }
}

impl Line {
    fn new(kind: MediaKind, role: Role) -> Self {
        Self { kind, mid: None, role, answered: false, accepted: false, dead: false }
    }

    /// Whether an answer rejected it.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The source that the peer sends on it; `None` if the peer receives on it.
    pub fn publishes(&self) -> Option<Source> {
        match self.role {
            Role::Publish { source, .. } => Some(source),
            Role::Subscribe { .. } => None,
        }
    }

    /// Whether the peer sends on it, as negotiated.
    pub fn is_sending(&self) -> bool {
        self.answered && self.accepted && matches!(self.role, Role::Publish { wanted: true, .. })
    }

    /// The source that the latest offer asks the peer to send on it.
    pub fn asks_for(&self) -> Option<Source> {
        match self.role {
            Role::Publish { source, described: true, .. } if !self.dead => Some(source),
            _ => None,
        }
    }

    /// The track that it carries by the latest offer or exchange, if it is still wanted.
    pub fn carries(&self) -> Option<TrackId> {
        match self.role {
            Role::Subscribe { wanted, described, .. } if !self.dead && wanted == described => described,
            _ => None,
        }
    }

    /// The track that it should carry.
    fn wanted(&self) -> Option<TrackId> {
        match self.role {
            Role::Subscribe { wanted, .. } => wanted,
            Role::Publish { .. } => None,
        }
    }

    fn is_of(&self, of: usize) -> bool {
        matches!(self.role, Role::Subscribe { set, .. } if set == of)
    }

    /// Whether both sides agreed that the server sends on it, and no pending offer changes it.
    fn is_live(&self) -> bool {
        self.answered && self.accepted && !self.dead
    }

    /// Whether it is live and its track is no longer wanted.
    fn is_vacant(&self) -> bool {
        self.is_live() && matches!(self.role, Role::Subscribe { wanted: None, .. })
    }

    /// Whether both sides agreed that it is inactive.
    fn is_parked(&self) -> bool {
        let carries_nothing = matches!(self.role, Role::Subscribe { wanted: None, described: None, .. });
        carries_nothing && !self.dead && (self.answered || self.mid.is_none())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;

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
                if let Change::Add { line, .. } = change {
                    self.mids += 1;
                    self.negotiation.set_mid(*line, Mid::from(self.mids.to_string().as_str()));
                }
            }
            changes
        }

        /// Answers like a browser that accepts everything.
        fn answer(&mut self) -> Vec<Agreed> {
            let answers: Vec<_> = (0..self.negotiation.lines.len())
                .filter(|line| self.negotiation.lines[*line].mid.is_some())
                .map(|line| Answered {
                    line,
                    direction: match &self.negotiation.lines[line].role {
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

        fn carried(&self) -> Vec<TrackId> {
            self.negotiation.lines.iter().filter_map(Line::carries).collect()
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
        assert_eq!(peer.negotiation.lines.len(), 6);
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
        assert_eq!(peer.negotiation.lines.len(), 2 + 4);
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
            peer.negotiation.lines.iter().find_map(|line| match line.role {
                Role::Subscribe { set, .. } if line.carries() == Some(wanted) => Some(set),
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
        assert_eq!(peer.answer(), [Agreed::Subscribed { line: 6, track: track(6, "s") }]);
        assert_eq!((peer.negotiation.lines.len(), peer.negotiation.sets.len()), (7, 2));
        // Of two free sets, the fitting one is used.
        peer.negotiation.vacate(peer.now, track(3, "a"));
        peer.negotiation.vacate(peer.now, track(3, "v"));
        peer.negotiation.vacate(peer.now, track(6, "s"));
        let (placed, offered) = exchanged(&mut peer, 6, &[(7, "a", Audio), (7, "s", Video), (7, "v", Video)]);
        assert_eq!((placed.iter().map(|(line, _)| *line).collect::<Vec<_>>(), offered), (vec![4, 5, 6], 0));
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
        assert_eq!(peer.negotiation.lines.len(), 6);
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
        assert_eq!((peer.negotiation.lines.len(), peer.negotiation.sets.len()), (4, 1));
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
        let inactive = |line| Answered { line, direction: Direction::Inactive, rejected: false };
        let agreed = peer.negotiation.handle_answer(peer.now, [0, 1].map(inactive).into_iter());
        assert!(agreed.iter().all(|agreed| matches!(agreed, Agreed::NotPublishing { .. })));
        assert_eq!(peer.negotiation.offer_due(), None);
        assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
        let mid = peer.negotiation.lines[1].mid.unwrap();
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
            assert!(peer.negotiation.unpublish(peer.now, MediaKind::Video, Source::Camera, None).is_some());
            assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
        }
        peer.negotiation.unpublish(peer.now, MediaKind::Video, Source::Camera, None);
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
                let answers: Vec<_> = (0..peer.negotiation.lines.len())
                    .filter(|line| peer.negotiation.lines[*line].mid.is_some())
                    .map(|line| match &peer.negotiation.lines[line] {
                        Line { kind: MediaKind::Video, role: Role::Subscribe { .. }, .. } => {
                            Answered { line, direction: Direction::Inactive, rejected: true }
                        }
                        Line { role: Role::Subscribe { described: Some(_), .. }, .. } => {
                            Answered { line, direction: Direction::SendOnly, rejected: false }
                        }
                        _ => Answered { line, direction: Direction::Inactive, rejected: false },
                    })
                    .collect();
                peer.negotiation.handle_answer(peer.now, answers.into_iter());
            }
            let declined = (publisher == MAX_REJECTED_LINES as u32 + 1).then_some(MediaKind::Video);
            assert_eq!(peer.negotiation.take_declined(), declined, "reported once, publisher {publisher}");
            assert!(peer.carried().contains(&track(publisher, "a")), "audio continues");
            peer.unsubscribe(publisher);
        }
        assert_eq!(peer.negotiation.dead_lines(), MAX_REJECTED_LINES);
        assert!(peer.negotiation.sets.len() <= MAX_REJECTED_LINES + 2);
    }

    #[test]
    fn rejected_m_lines_do_not_count_as_streams_of_the_peer() {
        let mut peer = Peer::new();
        for _ in 0..MAX_SENDING_LINES + 4 {
            assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Screen));
            peer.offer();
            let line = peer.negotiation.lines.len() - 1;
            let rejected = Answered { line, direction: Direction::Inactive, rejected: true };
            peer.negotiation.handle_answer(peer.now, [rejected].into_iter());
        }
    }

    #[test]
    fn a_rejected_m_line_is_never_used_again() {
        let mut peer = Peer::new();
        peer.negotiation.subscribe(peer.now, track(1, "v"), MediaKind::Video);
        peer.offer();
        let rejected = Answered { line: 2, direction: Direction::Inactive, rejected: true };
        let agreed = peer.negotiation.handle_answer(peer.now, [rejected].into_iter());
        assert_eq!(agreed, [Agreed::Refused { track: track(1, "v") }]);
        peer.unsubscribe(1);
        peer.negotiation.subscribe(peer.now, track(2, "v"), MediaKind::Video);
        while peer.negotiation.offer_due().is_some() {
            peer.round();
        }
        assert_eq!(peer.negotiation.lines[3].carries(), Some(track(2, "v")));
        assert_eq!(peer.negotiation.dead_lines(), 1);
    }

    #[test]
    fn the_number_of_streams_of_a_peer_is_limited() {
        let mut peer = Peer::new();
        for more in 0..20 {
            let granted = peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera);
            assert_eq!(granted, more < MAX_SENDING_LINES - 2);
            peer.round();
        }
        assert_eq!(peer.negotiation.lines.len(), MAX_SENDING_LINES);
        assert!(peer.negotiation.unpublish(peer.now, MediaKind::Video, Source::Camera, None).is_some());
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
        /// The bits select the m-lines to decline.
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
            let lines = 0..self.negotiation.lines.len();
            let offered = lines.filter(|line| self.negotiation.lines[*line].mid.is_some());
            let answers = offered.map(|line| Answered {
                line,
                direction: match &self.negotiation.lines[line].role {
                    _ if line < 8 && refused & 1 << line != 0 => Direction::Inactive,
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
            for set in 0..negotiation.sets.len() {
                let of_set = negotiation.lines.iter().filter(|line| line.is_of(set));
                let mut publishers: Vec<_> = of_set.filter_map(Line::wanted).map(|track| track.publisher).collect();
                publishers.dedup();
                assert!(publishers.len() < 2, "a set carries several publishers: {publishers:?}");
            }
            assert!(!negotiation.is_pending() || negotiation.offer_due().is_none(), "one offer at a time");
            assert_eq!(negotiation.is_pending(), negotiation.answer_due().is_some());
            let sending = negotiation.lines.iter().filter(|line| line.publishes().is_some()).count();
            assert!(sending <= MAX_SENDING_LINES);
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
                        peer.negotiation.unpublish(now, kind, source, None);
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
            let receiving = peer.negotiation.lines.iter().filter(|line| line.publishes().is_none()).count();
            prop_assert!(receiving <= 2 * peak, "{receiving} m-lines for {peak} publishers");
        }
    }
}
