//! One m-line of a peer's SDP: what it should carry, what the last offer described, and what the answer accepted.

use str0m::media::{MediaKind, Mid};

use crate::id::TrackId;
use crate::track::Source;

/// One m-line.
#[derive(Debug)]
pub struct MLine {
    /// Audio or video; fixed.
    pub kind: MediaKind,
    /// The mid, known once the offer that adds the m-line has been built; fixed.
    pub mid: Option<Mid>,
    /// Whether the peer sends or receives on it, and what.
    pub role: Role,
    /// Whether the latest offer that changed this m-line was answered.
    pub(super) answered: bool,
    /// Whether the answer accepted it as offered.
    pub(super) accepted: bool,
    /// Whether an answer rejected it (port 0): it can never be used again.
    pub(super) dead: bool,
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
        /// Whether it was requested during a pending offer. If that offer is answered `inactive`, it is offered again.
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

impl MLine {
    pub(super) fn new(kind: MediaKind, role: Role) -> Self {
        Self { kind, mid: None, role, answered: false, accepted: false, dead: false }
    }

    /// An accepted video m-line on which the peer sends its camera if that is `wanted`, or a dead one.
    #[cfg(test)]
    pub fn publishing(mid: Mid, wanted: bool, dead: bool) -> Self {
        let role = Role::Publish { source: Source::Camera, wanted, described: wanted, again: false };
        Self { mid: Some(mid), answered: true, accepted: !dead, dead, ..Self::new(MediaKind::Video, role) }
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
    pub(super) fn wanted(&self) -> Option<TrackId> {
        match self.role {
            Role::Subscribe { wanted, .. } => wanted,
            Role::Publish { .. } => None,
        }
    }

    pub(super) fn is_of(&self, of: usize) -> bool {
        matches!(self.role, Role::Subscribe { set, .. } if set == of)
    }

    /// Whether both sides agreed that the server sends on it, and no pending offer changes it.
    pub(super) fn is_live(&self) -> bool {
        self.answered && self.accepted && !self.dead
    }

    /// Whether it is live and its track is no longer wanted.
    pub(super) fn is_vacant(&self) -> bool {
        self.is_live() && matches!(self.role, Role::Subscribe { wanted: None, .. })
    }

    /// Whether both sides agreed that it is inactive.
    pub(super) fn is_parked(&self) -> bool {
        let carries_nothing = matches!(self.role, Role::Subscribe { wanted: None, described: None, .. });
        carries_nothing && !self.dead && (self.answered || self.mid.is_none())
    }
}
