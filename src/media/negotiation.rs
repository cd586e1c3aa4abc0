//! The negotiation of one peer: what its m-lines should carry, what the last offer said, and what the answer
//! agreed to.
//!
//! The server always offers, one offer at a time. Changes only alter what is wanted; the next offer carries the
//! difference, so any number of changes that come while an offer is out cost one more. m-lines are grouped in
//! sets that share an msid; a set carries one publisher at a time and is reused when both sides have agreed
//! that it is parked (inactive), so that the SDP does not grow for ever (RFC 8829 section 5.2.2).
//!
//! Where more people publish than there are sets, those who wait take over lines that are live, without an offer: the
//! line, its SSRC and its numbers go on, and carry somebody else.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use str0m::media::{Direction, MediaKind, Mid};

use crate::id::PeerId;
use crate::track::Source;

/// How long a change waits for others before it is offered: a burst of joins costs one offer each. Lower makes
/// more offers, higher makes newcomers invisible for longer.
pub const DEBOUNCE: Duration = Duration::from_millis(75);

/// How long an answer may take.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Lines on which one peer may send: camera, microphone, and what it asks for.
pub const MAX_SENDING_LINES: usize = 8;

/// m-lines of one kind and role that one peer may reject for good; they stay in every later offer. After that many, no
/// such m-line is added for as long as the transport lives. Answers to one offer may reject more.
pub const MAX_REJECTED_LINES: usize = 16;

/// A published stream, named by who publishes it and on which of their m-lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId {
    /// Whose it is.
    pub publisher: PeerId,
    /// The publisher's m-line.
    pub mid: Mid,
}

/// One m-line, in the order of creation.
#[derive(Debug)]
pub struct Line {
    /// Audio or video; for life.
    pub kind: MediaKind,
    /// Known once the offer that creates the line has been built; for life.
    pub mid: Option<Mid>,
    /// Who sends on it.
    pub role: Role,
    /// The latest offer that changed this line was answered.
    answered: bool,
    /// The answer took it as offered.
    accepted: bool,
    /// The answer rejected it (port 0): it can never be used again.
    dead: bool,
}

/// What a line is for.
#[derive(Debug)]
pub enum Role {
    /// The peer sends on it.
    Publish {
        /// What.
        source: Source,
        /// The peer asked for it.
        wanted: bool,
        /// The latest offer asks for it.
        described: bool,
        /// It was asked for while an offer was out; if that one is answered `inactive`, it is offered again.
        again: bool,
    },
    /// The peer receives on it.
    Subscribe {
        /// Which set of lines, all with one msid, it belongs to.
        set: usize,
        /// The track it should carry.
        wanted: Option<TrackId>,
        /// The track that the latest offer describes.
        described: Option<TrackId>,
    },
}

/// One change of the SDP, in the order in which they are applied.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Add the m-line that will have this index.
    Add {
        /// Index of the line.
        line: usize,
        /// Its kind.
        kind: MediaKind,
        /// `recvonly` or `sendonly`, from the server.
        direction: Direction,
        /// The set whose msid it gets; `None` for lines on which the peer sends.
        set: Option<usize>,
    },
    /// Change the direction of an existing line.
    Direct {
        /// Its mid.
        mid: Mid,
        /// The new direction.
        direction: Direction,
        /// The line gets another source: it needs fresh SSRCs.
        fresh_ssrc: bool,
    },
}

/// What the answer said of one line.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Index of the line.
    pub line: usize,
    /// The direction now agreed, from the server.
    pub direction: Direction,
    /// Port 0.
    pub rejected: bool,
}

/// A subscription that an answer started or refused, or a publication that it started or ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Agreed {
    /// The peer sends on this line from now on.
    Publishing {
        /// Its mid.
        mid: Mid,
        /// Audio or video.
        kind: MediaKind,
        /// What.
        source: Source,
    },
    /// The peer no longer sends on this line.
    NotPublishing {
        /// Its mid.
        mid: Mid,
    },
    /// The track may be forwarded on this line from now on.
    Subscribed {
        /// Index of the line.
        line: usize,
        /// The track.
        track: TrackId,
    },
    /// The peer does not take the track.
    Refused {
        /// The track.
        track: TrackId,
    },
}

/// The m-lines of one peer.
#[derive(Debug, Default)]
pub struct Negotiation {
    lines: Vec<Line>,
    /// The publisher that each set carries; the index is the set.
    sets: Vec<Option<PeerId>>,
    /// Tracks that wait for a set which is being parked.
    waiting: Vec<(TrackId, MediaKind)>,
    /// An offer is out since.
    pending_since: Option<Instant>,
    /// The first change that no offer carries yet.
    changed_at: Option<Instant>,
    /// Lines carry something else without an offer.
    has_exchanged: bool,
    /// No offer is due before.
    held_until: Option<Instant>,
    /// A track of that kind found no line, because the peer has rejected too many.
    declined: Option<MediaKind>,
    /// The kinds that the participant has been told of.
    reported: SmallVec<[MediaKind; 2]>,
}

impl Negotiation {
    /// The peer may send one more stream: on a line of that kind and source that is idle, else on a new one (a
    /// second camera). False if that are too many.
    pub fn publish(&mut self, now: Instant, kind: MediaKind, source: Source) -> bool {
        let pending = self.pending_since.is_some();
        let of_kind = |line: &&mut Line| !line.dead && line.kind == kind && line.publishes() == Some(source);
        let mut idle = self.lines.iter_mut().filter(of_kind).filter(|line| !line.is_sending());
        if let Some(line) = idle.next() {
            if let Role::Publish { wanted, described, again, .. } = &mut line.role {
                *wanted = true;
                // Answered `inactive`: it has to be offered again, which the answerer can't ask for otherwise.
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

    /// The peer gives a stream up: the one on `mid`, else the last of that kind and source. Returns its mid, if it
    /// has been offered; `None` if there is no such stream.
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
                // Whatever was to be offered again: the line may still be as it was before that.
                (*wanted, *described, *again) = (false, line.mid.is_some(), false);
                Some(line.mid)
            }
            _ => None,
        })?;
        self.touch(now);
        Some(mid)
    }

    /// The peer shall get a track.
    pub fn subscribe(&mut self, now: Instant, track: TrackId, kind: MediaKind) {
        self.waiting.push((track, kind));
        self.touch(now);
    }

    /// The peer shall no longer get a track. Returns the index of the line that carried it.
    pub fn unsubscribe(&mut self, now: Instant, track: TrackId) -> Option<usize> {
        self.waiting.retain(|(waiting, _)| *waiting != track);
        let line = self.lines.iter().position(|line| line.wanted() == Some(track))?;
        if let Role::Subscribe { wanted, .. } = &mut self.lines[line].role {
            *wanted = None;
        }
        self.touch(now);
        Some(line)
    }

    /// The line of a track is no longer needed, but stays live for somebody else: no offer parks it. Returns its index.
    pub fn vacate(&mut self, now: Instant, track: TrackId) -> Option<usize> {
        let line = self.unsubscribe(now, track)?;
        let is_live = self.lines[line].is_live();
        // While an offer speaks of it, the next has to say that it is over.
        if let Role::Subscribe { described, .. } = &mut self.lines[line].role
            && is_live
        {
            *described = None;
            self.has_exchanged = true;
        }
        Some(line)
    }

    /// Puts tracks that wait on live lines that nobody needs, and gives the indices of those lines. A set goes to the
    /// publisher who can use most of it; what finds no line in it goes on waiting for the next offer.
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

    /// Whether lines carry something else than was told with the last offer, since it was last asked.
    pub fn take_exchanged(&mut self) -> bool {
        std::mem::take(&mut self.has_exchanged)
    }

    /// Lines changed without an offer.
    pub fn note_exchange(&mut self) {
        self.has_exchanged = true;
    }

    /// Lets no offer be due before `until`.
    pub fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
    }

    /// When the next offer should be built; `None` if nothing changed or an offer is out.
    pub fn offer_due(&self) -> Option<Instant> {
        if self.pending_since.is_some() {
            return None;
        }
        // Nobody waits for the first offer.
        let debounce = if self.lines.iter().all(|line| line.mid.is_none()) { Duration::ZERO } else { DEBOUNCE };
        self.changed_at.map(|changed| self.held_until.map_or(changed + debounce, |held| held.max(changed + debounce)))
    }

    /// When the answer that is awaited is too late.
    pub fn answer_due(&self) -> Option<Instant> {
        self.pending_since.map(|since| since + ANSWER_TIMEOUT)
    }

    /// What the next offer has to change, which counts as offered from now on; empty if there is nothing.
    pub fn start_offer(&mut self, now: Instant) -> Vec<Change> {
        debug_assert!(self.pending_since.is_none(), "one offer at a time");
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

    /// The m-line with this index got its mid.
    pub fn set_mid(&mut self, line: usize, mid: Mid) {
        self.lines[line].mid = Some(mid);
    }

    /// The answer came. Says what it started and ended.
    pub fn handle_answer(&mut self, now: Instant, answers: impl Iterator<Item = Answered>) -> Vec<Agreed> {
        self.pending_since = None;
        let mut agreed = Vec::new();
        for answer in answers {
            let line = &mut self.lines[answer.line];
            let first = !line.answered;
            line.answered = true;
            line.dead |= answer.rejected;
            let mid = line.mid.expect("an answered line has been offered, so it has a mid");
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
                    let flowed = line.accepted && !first;
                    line.accepted = !answer.rejected && answer.direction.is_sending();
                    let Some(track) = described.filter(|_| wanted == described) else {
                        continue;
                    };
                    if line.accepted && !flowed {
                        agreed.push(Agreed::Subscribed { line: answer.line, track });
                    } else if !line.accepted && (flowed || first) {
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

    /// What the peer has agreed to send, each with its mid.
    pub fn publications(&self) -> impl Iterator<Item = (Mid, MediaKind, Source)> {
        let sending = self.lines.iter().filter(|line| line.is_sending());
        sending.filter_map(|line| Some((line.mid?, line.kind, line.publishes()?)))
    }

    /// All lines, in the order of the SDP.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Whether an offer awaits its answer.
    pub fn is_pending(&self) -> bool {
        self.pending_since.is_some()
    }

    /// How many m-lines the answers rejected for good.
    #[cfg(test)]
    fn dead_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.dead).count()
    }

    /// The kind of a track that is not offered because the peer rejected too many m-lines of that kind; each kind once.
    pub fn take_declined(&mut self) -> Option<MediaKind> {
        let kind = self.declined.take().filter(|kind| !self.reported.contains(kind))?;
        self.reported.push(kind);
        Some(kind)
    }

    fn is_declined(&self, kind: MediaKind, publishes: bool) -> bool {
        let is_rejected = |line: &&Line| line.dead && line.kind == kind && line.publishes().is_some() == publishes;
        self.lines.iter().filter(is_rejected).count() >= MAX_REJECTED_LINES
    }

    /// Whether any media may flow, so that ICE and DTLS are to be expected.
    pub fn expects_media(&self) -> bool {
        self.lines.iter().any(|line| line.answered && line.accepted)
    }

    /// Something changed that the next offer may have to carry.
    fn touch(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
    }

    /// Finds lines for the tracks that wait for one; those that wait for a set to be parked go on waiting.
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

    /// Frees the sets none of whose lines is wanted.
    fn free_sets(&mut self) {
        for set in 0..self.sets.len() {
            if !self.lines.iter().any(|line| line.is_of(set) && line.wanted().is_some()) {
                self.sets[set] = None;
            }
        }
    }

    /// The set for a publisher's track: its own, else one that is parked, else one that this offer parks and that has no
    /// line for the track yet, else a new one. `None` while such a line is on its way to be parked: waiting for it costs
    /// a round trip, a new one would stay for ever.
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

    /// The free set whose live lines can carry most of what a publisher has waiting.
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

    /// The answer rejected it for ever.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The source that the peer sends on this line, if it is such a line.
    pub fn publishes(&self) -> Option<Source> {
        match self.role {
            Role::Publish { source, .. } => Some(source),
            Role::Subscribe { .. } => None,
        }
    }

    /// The peer sends on it, as both sides agreed.
    pub fn is_sending(&self) -> bool {
        self.answered && self.accepted && matches!(self.role, Role::Publish { wanted: true, .. })
    }

    /// The source that the latest offer asks the peer to send on this line.
    pub fn asks_for(&self) -> Option<Source> {
        match self.role {
            Role::Publish { source, described: true, .. } if !self.dead => Some(source),
            _ => None,
        }
    }

    /// The track that the line carries by the latest offer or exchange, unless that is over.
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

    /// Both sides agreed that the server sends on it, and no offer that is out changes that.
    fn is_live(&self) -> bool {
        self.answered && self.accepted && !self.dead
    }

    /// It is live, and what it carried is not wanted any more.
    fn is_vacant(&self) -> bool {
        self.is_live() && matches!(self.role, Role::Subscribe { wanted: None, .. })
    }

    /// Both sides agree that it carries nothing.
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

        /// Answers as a browser does that takes everything.
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
    fn changes_while_an_offer_is_out_are_folded_into_the_next() {
        let mut peer = Peer::new();
        peer.subscribe(1);
        assert_eq!(peer.offer().len(), 2);
        peer.subscribe(2);
        peer.subscribe(3);
        peer.unsubscribe(1);
        assert_eq!(peer.negotiation.offer_due(), None);
        assert_eq!(peer.answer(), [], "what is no longer wanted does not start");
        assert!(peer.negotiation.offer_due().is_some());
        assert_eq!(peer.round().len(), 0, "2 and 3 wait for the lines of 1");
        assert_eq!(peer.round().len(), 4);
        assert_eq!(peer.negotiation.lines.len(), 6);
        assert_eq!(peer.negotiation.offer_due(), None);
        assert_eq!(peer.offer(), []);
    }

    #[test]
    fn a_hundred_comings_and_goings_need_the_lines_of_the_peak() {
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
    fn a_reused_line_gets_fresh_ssrcs() {
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

    /// Who is on which line after an exchange, and how many changes the next offer has.
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
    fn lines_change_hands_without_an_offer() {
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
        // Who has only a voice leaves the other line live, for whoever has a picture again.
        let (placed, offered) = exchanged(&mut peer, 2, &[(4, "a", Audio)]);
        assert_eq!((placed, offered, carried(&peer)), (vec![(4, track(4, "a"))], 0, vec![3, 3, 4]));
        let (placed, offered) = exchanged(&mut peer, 4, &[(5, "v", Video)]);
        assert_eq!((placed, offered, carried(&peer)), (vec![(5, track(5, "v"))], 0, vec![3, 3, 5]));
        // One more line is offered, in the same set.
        let (placed, offered) = exchanged(&mut peer, 5, &[(6, "a", Audio), (6, "v", Video), (6, "s", Video)]);
        assert_eq!((placed.len(), offered), (2, 1));
        assert_eq!(peer.answer(), [Agreed::Subscribed { line: 6, track: track(6, "s") }]);
        assert_eq!((peer.negotiation.lines.len(), peer.negotiation.sets.len()), (7, 2));
        // Of two free sets the one that fits.
        peer.negotiation.vacate(peer.now, track(3, "a"));
        peer.negotiation.vacate(peer.now, track(3, "v"));
        peer.negotiation.vacate(peer.now, track(6, "s"));
        let (placed, offered) = exchanged(&mut peer, 6, &[(7, "a", Audio), (7, "s", Video), (7, "v", Video)]);
        assert_eq!((placed.iter().map(|(line, _)| *line).collect::<Vec<_>>(), offered), (vec![4, 5, 6], 0));
    }

    #[test]
    fn a_line_that_an_offer_speaks_of_is_exchanged_once_it_is_answered() {
        let mut peer = Peer::new();
        peer.subscribe(1);
        peer.round();
        peer.subscribe(2);
        assert_eq!(peer.offer().len(), 2);
        // The lines of 1 can go to somebody else meanwhile, those of 2 can't.
        peer.negotiation.vacate(peer.now, track(2, "a"));
        peer.negotiation.vacate(peer.now, track(2, "v"));
        peer.subscribe(3);
        assert_eq!(peer.negotiation.exchange(), []);
        peer.negotiation.vacate(peer.now, track(1, "a"));
        peer.negotiation.vacate(peer.now, track(1, "v"));
        assert_eq!(peer.negotiation.exchange(), [(2, track(3, "a")), (3, track(3, "v"))]);
        peer.subscribe(4);
        assert_eq!(peer.negotiation.exchange(), []);
        assert_eq!(peer.answer(), [], "what is no longer wanted does not start");
        assert_eq!(peer.negotiation.exchange(), [(4, track(4, "a")), (5, track(4, "v"))]);
        assert_eq!(peer.offer(), []);
        assert_eq!(peer.negotiation.lines.len(), 6);
    }

    #[test]
    fn who_needs_a_line_that_a_set_does_not_have_gets_it_with_the_offer_that_parks_the_others() {
        use MediaKind::{Audio, Video};
        let mut peer = Peer::new();
        peer.negotiation.subscribe(peer.now, track(1, "v"), Video);
        peer.round();
        peer.negotiation.unsubscribe(peer.now, track(1, "v"));
        peer.negotiation.subscribe(peer.now, track(2, "a"), Audio);
        peer.negotiation.subscribe(peer.now, track(2, "v"), Video);
        assert_eq!(peer.offer().len(), 2, "one line is parked and one is new");
        peer.answer();
        assert_eq!(peer.carried(), [track(2, "a")]);
        peer.round();
        assert_eq!(peer.carried(), [track(2, "v"), track(2, "a")]);
        assert_eq!((peer.negotiation.lines.len(), peer.negotiation.sets.len()), (4, 1));
    }

    #[test]
    fn nobody_is_on_two_lines() {
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
        assert_eq!(peer.carried(), [], "whatever the offer says that is out");
        peer.subscribe(2);
        assert_eq!(peer.negotiation.exchange().len(), 2);
        assert_eq!(peer.carried(), [track(2, "a"), track(2, "v")]);
        assert_eq!(peer.answer(), []);
        peer.round();
        assert_eq!(peer.carried(), [track(2, "a"), track(2, "v")]);
    }

    #[test]
    fn a_camera_that_comes_later_is_offered_again() {
        let mut peer = Peer::new();
        let inactive = |line| Answered { line, direction: Direction::Inactive, rejected: false };
        let agreed = peer.negotiation.handle_answer(peer.now, [0, 1].map(inactive).into_iter());
        assert!(agreed.iter().all(|agreed| matches!(agreed, Agreed::NotPublishing { .. })));
        assert_eq!(peer.negotiation.offer_due(), None);
        assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
        let mid = peer.negotiation.lines[1].mid.unwrap();
        let direction = Direction::RecvOnly;
        assert_eq!(peer.offer(), [Change::Direct { mid, direction, fresh_ssrc: false }]);
        // Asked for while that offer is out, and the answer was made before.
        assert!(peer.negotiation.publish(peer.now, MediaKind::Video, Source::Camera));
        peer.negotiation.handle_answer(peer.now, [0, 1].map(inactive).into_iter());
        assert_eq!(peer.offer().len(), 1);
        let agreed = peer.answer();
        assert!(agreed.contains(&Agreed::Publishing { mid, kind: MediaKind::Video, source: Source::Camera }));
        // On and off again while an offer is out: the line ends with the next.
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
            assert_eq!(peer.negotiation.take_declined(), declined, "said once, of {publisher}");
            assert!(peer.carried().contains(&track(publisher, "a")), "audio goes on");
            peer.unsubscribe(publisher);
        }
        assert_eq!(peer.negotiation.dead_lines(), MAX_REJECTED_LINES);
        assert!(peer.negotiation.sets.len() <= MAX_REJECTED_LINES + 2);
    }

    #[test]
    fn rejected_lines_of_its_own_do_not_count_as_streams_of_the_peer() {
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
    fn a_rejected_line_is_never_used_again() {
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
    fn a_peer_can_not_open_lines_without_end() {
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

    /// What happens to a peer in any order. Publishers are numbered; `bool` is for video.
    #[derive(Clone, Debug)]
    enum Step {
        Subscribe(u32, bool),
        Unsubscribe(u32, bool),
        /// The line goes to whoever waits.
        Vacate(u32, bool),
        Exchange,
        Publish(Source),
        Unpublish(Source),
        Offer,
        /// The bits are of lines that it does not take.
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
            assert_eq!(distinct.len(), carried.len(), "nobody is on two lines: {carried:?}");
            for set in 0..negotiation.sets.len() {
                let of_set = negotiation.lines.iter().filter(|line| line.is_of(set));
                let mut publishers: Vec<_> = of_set.filter_map(Line::wanted).map(|track| track.publisher).collect();
                publishers.dedup();
                assert!(publishers.len() < 2, "a set carries one publisher at a time: {publishers:?}");
            }
            assert!(!negotiation.is_pending() || negotiation.offer_due().is_none(), "one offer at a time");
            assert_eq!(negotiation.is_pending(), negotiation.answer_due().is_some());
            let sending = negotiation.lines.iter().filter(|line| line.publishes().is_some()).count();
            assert!(sending <= MAX_SENDING_LINES);
        }
    }

    proptest! {
        #![proptest_config(inputs(2_048))]

        /// Whatever comes in between, everything that is wanted is carried once nothing more happens, and nothing else;
        /// and there are no more lines than were ever wanted at once.
        #[test]
        fn any_series_of_changes_ends_in_what_is_wanted(steps in vec(any_step(), 0..80)) {
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
            prop_assert!(!peer.negotiation.is_pending() && peer.negotiation.offer_due().is_none(), "it comes to rest");
            let mut carried = peer.carried();
            carried.sort();
            wanted.sort();
            prop_assert_eq!(carried, wanted);
            let receiving = peer.negotiation.lines.iter().filter(|line| line.publishes().is_none()).count();
            prop_assert!(receiving <= 2 * peak, "{receiving} lines for {peak} publishers");
        }
    }
}
