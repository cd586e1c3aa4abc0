//! The assignment of tracks to the m-lines of one peer.
//!
//! The m-lines on which the peer receives are grouped in sets that share an msid. A set carries one publisher at a time
//! and is reused once both sides have agreed that it is parked (inactive), so that the SDP does not grow without limit
//! (RFC 8829 section 5.2.2).
//!
//! With more publishers than sets, waiting tracks take over live m-lines without an offer (an exchange): the m-line,
//! its SSRC and its sequence numbers continue and carry another track.

use smallvec::SmallVec;
use str0m::media::{MediaKind, Mid};

use super::m_line::{MLine, Role};
use crate::id::{PeerId, TrackId};
use crate::track::Source;

/// Maximum number of m-lines on which one peer can send: camera, microphone, and those that it requests.
pub const MAX_SENDING_M_LINES: usize = 8;

/// Maximum number of rejected m-lines of one kind and role; they stay in every later offer. At this number, no such
/// m-line is added for the life of the transport. The answer to one offer may exceed it.
pub const MAX_REJECTED_M_LINES: usize = 16;

/// The m-lines of one peer, and the tracks that they should carry.
#[derive(Debug, Default)]
pub struct Assignment {
    /// The m-lines in the order of the SDP.
    pub(super) m_lines: Vec<MLine>,
    /// The publisher that each set carries, by index of the set.
    pub(super) sets: Vec<Option<PeerId>>,
    /// Tracks without an m-line, for example because a set is still being parked.
    waiting: Vec<(TrackId, MediaKind)>,
    /// The kind of a track that got no m-line because the peer rejected too many.
    declined: Option<MediaKind>,
    /// The kinds that `take_declined` has reported.
    reported: SmallVec<[MediaKind; 2]>,
}

/// The peer has no such stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPublishing;

impl Assignment {
    /// Lets the peer send one more stream, on an idle m-line of that kind and source, else on a new one. Returns false
    /// if the peer has too many.
    pub fn publish(&mut self, kind: MediaKind, source: Source, is_pending: bool) -> bool {
        let of_kind = |m_line: &&mut MLine| !m_line.dead && m_line.kind == kind && m_line.publishes() == Some(source);
        let mut idle = self.m_lines.iter_mut().filter(of_kind).filter(|m_line| !m_line.is_sending());
        if let Some(m_line) = idle.next() {
            if let Role::Publish { wanted, described, again, .. } = &mut m_line.role {
                *wanted = true;
                // It was answered `inactive`, so it is offered again; an answerer cannot request that itself.
                *described &= !m_line.answered;
                *again = is_pending;
            }
            return true;
        }
        let publishing = self.m_lines.iter().filter(|m_line| m_line.publishes().is_some() && !m_line.dead).count();
        if publishing >= MAX_SENDING_M_LINES || self.has_too_many_rejected(kind, true) {
            return false;
        }
        self.m_lines.push(MLine::new(kind, Role::Publish { source, wanted: true, described: false, again: false }));
        true
    }

    /// Ends a stream of the peer: the one on `mid`, else the last of that kind and source. Returns its mid, which is
    /// `None` before its first offer.
    ///
    /// # Errors
    /// There is no such stream.
    pub fn unpublish(
        &mut self,
        kind: MediaKind,
        source: Source,
        mid: Option<Mid>,
    ) -> Result<Option<Mid>, NotPublishing> {
        let matches = |m_line: &&mut MLine| {
            m_line.kind == kind && m_line.publishes() == Some(source) && (mid.is_none() || m_line.mid == mid)
        };
        for m_line in self.m_lines.iter_mut().rev().filter(matches) {
            if let Role::Publish { wanted, described, again, .. } = &mut m_line.role
                && *wanted
            {
                *wanted = false;
                // The m-line may still be active even if it was to be offered again.
                *described = m_line.mid.is_some();
                *again = false;
                return Ok(m_line.mid);
            }
        }
        Err(NotPublishing)
    }

    /// Adds a track that waits for an m-line.
    pub fn subscribe(&mut self, track: TrackId, kind: MediaKind) {
        self.waiting.push((track, kind));
    }

    /// Unsubscribes the peer from a track. Returns the index of the m-line that carried it.
    pub fn unsubscribe(&mut self, track: TrackId) -> Option<usize> {
        self.waiting.retain(|(waiting, _)| *waiting != track);
        let index = self.m_lines.iter().position(|m_line| m_line.wanted() == Some(track))?;
        if let Role::Subscribe { wanted, .. } = &mut self.m_lines[index].role {
            *wanted = None;
        }
        Some(index)
    }

    /// Vacates an m-line whose track is no longer wanted: it stays live for `exchange`, and the next offer does not
    /// park it. Returns false if it is not live: an m-line of a pending offer has to be parked by the next one.
    pub fn vacate(&mut self, index: usize) -> bool {
        let is_live = self.m_lines[index].is_live();
        if let Role::Subscribe { described, .. } = &mut self.m_lines[index].role
            && is_live
        {
            *described = None;
        }
        is_live
    }

    /// Assigns waiting tracks to vacant live m-lines, and returns the indices of these m-lines. A publisher gets the
    /// set of which it can use most m-lines. Tracks without a suitable m-line wait for the next offer.
    pub fn exchange(&mut self) -> Vec<(usize, TrackId)> {
        self.free_sets();
        let mut exchanged = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        for (track, kind) in &waiting {
            let set = self.own_set(track.publisher).or_else(|| self.live_set(track.publisher, &waiting));
            let is_of_set = |m_line: &MLine| set.is_some_and(|set| m_line.is_of(set));
            let fits = |m_line: &MLine| m_line.kind == *kind && is_of_set(m_line) && m_line.is_vacant();
            let Some(index) = self.m_lines.iter().position(fits) else {
                self.waiting.push((*track, *kind));
                continue;
            };
            if let Role::Subscribe { set, wanted, described } = &mut self.m_lines[index].role {
                *wanted = Some(*track);
                *described = Some(*track);
                self.sets[*set] = Some(track.publisher);
            }
            exchanged.push((index, *track));
        }
        exchanged
    }

    /// Assigns m-lines to waiting tracks, new ones where necessary. Tracks that need a set still to be parked continue
    /// to wait.
    pub fn place_waiting(&mut self) {
        self.free_sets();
        for (track, kind) in std::mem::take(&mut self.waiting) {
            let is_usable = |m_line: &MLine| m_line.kind == kind && m_line.publishes().is_none() && !m_line.dead;
            if self.has_too_many_rejected(kind, false) && !self.m_lines.iter().any(is_usable) {
                self.declined = Some(kind);
                continue;
            }
            let Some(set) = self.set_for(track.publisher, kind) else {
                self.waiting.push((track, kind));
                continue;
            };
            self.sets[set] = Some(track.publisher);
            let of_kind = |m_line: &MLine| m_line.kind == kind && m_line.is_of(set) && !m_line.dead;
            let parked = self.m_lines.iter().position(|m_line| of_kind(m_line) && m_line.is_parked());
            let parking = |m_line: &MLine| of_kind(m_line) && m_line.wanted().is_none();
            let index = match parked {
                Some(index) => index,
                None if self.m_lines.iter().any(parking) => {
                    self.waiting.push((track, kind));
                    continue;
                }
                None if self.has_too_many_rejected(kind, false) => {
                    self.declined = Some(kind);
                    continue;
                }
                None => {
                    self.m_lines.push(MLine::new(kind, Role::Subscribe { set, wanted: None, described: None }));
                    self.m_lines.len() - 1
                }
            };
            if let Role::Subscribe { wanted, .. } = &mut self.m_lines[index].role {
                *wanted = Some(track);
            }
        }
    }

    /// Whether tracks wait for an m-line.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the kind of a track that is not offered because the peer rejected too many m-lines; each kind once.
    pub fn take_declined(&mut self) -> Option<MediaKind> {
        let kind = self.declined.take().filter(|kind| !self.reported.contains(kind))?;
        self.reported.push(kind);
        Some(kind)
    }

    /// Whether the peer has rejected too many m-lines of a kind, on which it sends or receives.
    fn has_too_many_rejected(&self, kind: MediaKind, publishes: bool) -> bool {
        let is_rejected =
            |m_line: &&MLine| m_line.dead && m_line.kind == kind && m_line.publishes().is_some() == publishes;
        self.m_lines.iter().filter(is_rejected).count() >= MAX_REJECTED_M_LINES
    }

    /// Frees the sets without a wanted track.
    fn free_sets(&mut self) {
        for set in 0..self.sets.len() {
            if !self.m_lines.iter().any(|m_line| m_line.is_of(set) && m_line.wanted().is_some()) {
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
            let usable = self.m_lines.iter().filter(|m_line| m_line.is_of(set) && !m_line.dead);
            let usable: SmallVec<[&MLine; 4]> = usable.collect();
            if usable.is_empty() {
                continue;
            }
            if usable.iter().all(|m_line| m_line.is_parked()) {
                return Some(set);
            }
            is_awaited |= usable.iter().any(|m_line| m_line.kind == kind);
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
                let of_set = self.m_lines.iter().filter(|m_line| m_line.is_of(*set) && m_line.is_vacant());
                let wants = waiting.iter().filter(|(track, of)| track.publisher == publisher && *of == kind);
                of_set.filter(|m_line| m_line.kind == kind).count().min(wants.count())
            };
            of_kind(MediaKind::Audio) + of_kind(MediaKind::Video)
        };
        let free = (0..self.sets.len()).filter(|set| self.sets[*set].is_none() && fits(set) > 0);
        free.min_by_key(|set| std::cmp::Reverse(fits(set)))
    }
}
