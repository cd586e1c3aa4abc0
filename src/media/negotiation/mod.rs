//! Offers and answers as sets of m-lines.
//!
//! In: publications and subscriptions of one peer, and the text of its SDP answers. Out: the changes that the next
//! offer makes, and the publications and subscriptions that an answer accepted. Only the server sends offers, one at a
//! time. A change alters the wanted state, and the next offer contains the difference, so any number of changes during
//! a pending offer costs one more offer.
//!
//! Never here: packets, SSRCs that are sealed, or a use of an answer's text before it is checked and reduced.

pub mod answer;
pub mod assignment;
mod attributes;
pub mod m_line;
pub mod offered;
pub mod profile;
pub mod sdp;
pub mod session;

use std::time::{Duration, Instant};

use str0m::media::{Direction, MediaKind, Mid};

use crate::id::TrackId;
use crate::media::negotiation::assignment::{Assignment, NotPublishing};
use crate::media::negotiation::m_line::{MLine, Role};
use crate::track::Source;

/// How long a change waits for others before it is offered: a burst of joins costs one offer per peer. A shorter time
/// causes more offers, a longer one delays the media of participants that join.
pub const DEBOUNCE: Duration = Duration::from_millis(75);

/// Time limit of an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The negotiation of one peer: what its m-lines should carry, what the last offer described, and what the answer
/// accepted.
#[derive(Debug, Default)]
pub struct Negotiation {
    assignment: Assignment,
    /// When the pending offer was started.
    pending_since: Option<Instant>,
    /// The time of the first change that no offer contains yet.
    changed_at: Option<Instant>,
    /// Whether an m-line changed its track without an offer.
    has_exchanged: bool,
    /// Earliest time of the next offer.
    held_until: Option<Instant>,
}

/// One change of the SDP. Changes are applied in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Add an m-line.
    Add {
        /// Index that the m-line will have.
        m_line: usize,
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
    pub m_line: usize,
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
        m_line: usize,
        /// The track.
        track: TrackId,
    },
    /// The peer does not accept the track.
    Refused {
        /// The track.
        track: TrackId,
    },
}

impl Negotiation {
    /// Lets the peer send one more stream, on an idle m-line of that kind and source, else on a new one (for example
    /// for a second camera). Returns false if the peer has too many.
    pub fn publish(&mut self, now: Instant, kind: MediaKind, source: Source) -> bool {
        let is_possible = self.assignment.publish(kind, source, self.is_pending());
        if is_possible {
            self.touch(now);
        }
        is_possible
    }

    /// Ends a stream of the peer: the one on `mid`, else the last of that kind and source. Returns its mid, which is
    /// `None` before its first offer.
    ///
    /// # Errors
    /// There is no such stream.
    pub fn unpublish(
        &mut self,
        now: Instant,
        kind: MediaKind,
        source: Source,
        mid: Option<Mid>,
    ) -> Result<Option<Mid>, NotPublishing> {
        let mid = self.assignment.unpublish(kind, source, mid)?;
        self.touch(now);
        Ok(mid)
    }

    /// Subscribes the peer to a track.
    pub fn subscribe(&mut self, now: Instant, track: TrackId, kind: MediaKind) {
        self.assignment.subscribe(track, kind);
        self.touch(now);
    }

    /// Unsubscribes the peer from a track. Returns the index of the m-line that carried it.
    pub fn unsubscribe(&mut self, now: Instant, track: TrackId) -> Option<usize> {
        let m_line = self.assignment.unsubscribe(track)?;
        self.touch(now);
        Some(m_line)
    }

    /// Unsubscribes from a track but keeps its m-line live for `exchange`: no offer parks it. Returns its index.
    pub fn vacate(&mut self, now: Instant, track: TrackId) -> Option<usize> {
        let m_line = self.unsubscribe(now, track)?;
        self.has_exchanged |= self.assignment.vacate(m_line);
        Some(m_line)
    }

    /// Assigns waiting tracks to vacant live m-lines; see `Assignment::exchange`.
    pub fn exchange(&mut self) -> Vec<(usize, TrackId)> {
        let exchanged = self.assignment.exchange();
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
        if self.is_pending() {
            return None;
        }
        // The first offer is sent at once.
        let is_first = self.m_lines().iter().all(|m_line| m_line.mid.is_none());
        let debounce = if is_first { Duration::ZERO } else { DEBOUNCE };
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
        self.assignment.place_waiting();
        let mut changes = Vec::new();
        for (index, m_line) in self.assignment.m_lines.iter_mut().enumerate() {
            let (direction, set, differs) = match &mut m_line.role {
                Role::Publish { wanted, described, .. } => {
                    let differs = *wanted != *described;
                    *described = *wanted;
                    let direction = if *wanted { Direction::RecvOnly } else { Direction::Inactive };
                    (direction, None, differs)
                }
                Role::Subscribe { set, wanted, described } => {
                    let differs = *wanted != *described;
                    *described = *wanted;
                    let direction = if wanted.is_some() { Direction::SendOnly } else { Direction::Inactive };
                    (direction, Some(*set), differs)
                }
            };
            if !differs || m_line.dead {
                continue;
            }
            m_line.answered = false;
            m_line.accepted = false;
            changes.push(match m_line.mid {
                Some(mid) => Change::Direct { mid, direction, fresh_ssrc: direction == Direction::SendOnly },
                None => Change::Add { m_line: index, kind: m_line.kind, direction, set },
            });
        }
        if !changes.is_empty() {
            self.pending_since = Some(now);
            self.has_exchanged = false;
        }
        changes
    }

    /// Sets the mid of an added m-line.
    pub fn set_mid(&mut self, m_line: usize, mid: Mid) {
        self.assignment.m_lines[m_line].mid = Some(mid);
    }

    /// Handles the answer. Returns the publications and subscriptions that it started, ended or refused.
    pub fn handle_answer(&mut self, now: Instant, answers: impl Iterator<Item = Answered>) -> Vec<Agreed> {
        self.pending_since = None;
        let mut agreed = Vec::new();
        for answer in answers {
            let m_line = &mut self.assignment.m_lines[answer.m_line];
            let first = !m_line.answered;
            m_line.answered = true;
            m_line.dead |= answer.rejected;
            let mid = m_line.mid.expect("an answered m-line was offered, so it has a mid");
            match &mut m_line.role {
                Role::Publish { source, wanted, described, again } => {
                    let sends = !answer.rejected && *wanted && *described && answer.direction.is_receiving();
                    if std::mem::take(again) && !sends {
                        *described = false;
                        self.changed_at.get_or_insert(now);
                    }
                    if sends && !m_line.accepted {
                        agreed.push(Agreed::Publishing { mid, kind: m_line.kind, source: *source });
                    } else if !sends {
                        agreed.push(Agreed::NotPublishing { mid });
                    }
                    m_line.accepted = sends;
                }
                Role::Subscribe { wanted, described, .. } => {
                    let was_accepted = m_line.accepted && !first;
                    m_line.accepted = !answer.rejected && answer.direction.is_sending();
                    let Some(track) = described.filter(|_| wanted == described) else {
                        continue;
                    };
                    if m_line.accepted && !was_accepted {
                        agreed.push(Agreed::Subscribed { m_line: answer.m_line, track });
                    } else if !m_line.accepted && (was_accepted || first) {
                        agreed.push(Agreed::Refused { track });
                    }
                }
            }
        }
        if self.assignment.has_waiting() {
            self.touch(now);
        }
        agreed
    }

    /// The streams that the peer sends as negotiated: mid, kind and source.
    pub fn publications(&self) -> impl Iterator<Item = (Mid, MediaKind, Source)> {
        let sending = self.m_lines().iter().filter(|m_line| m_line.is_sending());
        sending.filter_map(|m_line| Some((m_line.mid?, m_line.kind, m_line.publishes()?)))
    }

    /// All m-lines in the order of the SDP.
    pub fn m_lines(&self) -> &[MLine] {
        &self.assignment.m_lines
    }

    /// Whether an offer is pending.
    pub fn is_pending(&self) -> bool {
        self.pending_since.is_some()
    }

    /// Returns the kind of a track that is not offered because the peer rejected too many m-lines; each kind once.
    pub fn take_declined(&mut self) -> Option<MediaKind> {
        self.assignment.take_declined()
    }

    /// Whether media may be sent or received, so that ICE and DTLS are expected to connect.
    pub fn expects_media(&self) -> bool {
        self.m_lines().iter().any(|m_line| m_line.answered && m_line.accepted)
    }

    /// Notes a change for the next offer.
    fn touch(&mut self, now: Instant) {
        self.changed_at.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests;
