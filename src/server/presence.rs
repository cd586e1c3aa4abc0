//! Presence: a participant stays in its room while its connection or its media is away for a while.
//!
//! The connection carries presence and chat, the transport carries media; neither takes the other with it. A
//! participant whose connection ends without `leave` may return with its `resume` secret, and the room does not
//! notice. One whose transport fails is offered a fresh one on the same connection, if the client takes that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use log::debug;

use super::members::NORMAL;
use super::{Member, Server, Transport};
use crate::id::PeerId;
use crate::place::Place;
use crate::room::Room;
use crate::room::seats::Seats;
use crate::timers::Waiter;
use crate::web::signal::{MediaState, ServerMessage};

/// How long a participant without a connection stays in its room. Shorter reports people as gone who reload or
/// change networks; longer leaves ghosts of those whose machine died.
const RETURN: Duration = Duration::from_secs(30);

/// The pause before the second fresh transport in a row; it doubles with each. The first is offered at once where
/// media was connected before. A lower one burdens the server with clients whose UDP is blocked, a higher one lets
/// them wait when it no longer is.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How long a transport must have been connected for the next fresh one to be offered at once. Shorter lets a client that
/// connects and fails at once make the room renegotiate without a pause.
const STABLE: Duration = Duration::from_secs(10);

/// Failed handshakes in a row after which a fresh transport is offered, although the client itself seems to be the cause.
/// Fewer let a forged datagram end a participant, more let clients with a certificate that is not supported wait for the
/// reason.
const MAX_DOUBTFUL_FAILURES: u32 = 1;

/// Participants of one network who may stay without media. More cost a transport each minute, fewer throw people of
/// an office that blocks UDP out of their chat.
const MAX_MEDIALESS: usize = 20;

impl Server {
    /// The connection of a member ended, and not by `leave`.
    pub(super) fn on_disconnected(&mut self, id: PeerId, reason: &str) {
        let (until, most) = (self.now + RETURN, self.config.limits.max_conns_per_addr);
        let Some(member) = self.member(id).filter(|member| member.absent_until.is_none()) else {
            return;
        };
        let (place, budget, chat) = (member.place, member.budget, member.participant.chat);
        let participant = member.participant.id.clone();
        if !member.has_spoken || place.is_some_and(|place| self.absent_by_place.of(place) >= most) {
            return self.leave(id, reason);
        }
        debug!("{id} has no connection ({reason}) and may return within {} s", RETURN.as_secs());
        if let Some(member) = self.member_mut(id) {
            member.absent_until = Some(until);
            // No offer would reach it.
            member.peer.negotiation.hold(until);
        }
        if let Some(place) = place {
            self.absent_by_place.add(place);
            self.leftovers.keep(self.now, place, participant, budget, chat);
        }
        self.timers.set(Waiter::Return(id), until);
    }

    /// Whether as many participants are in a room as may be.
    pub(super) fn is_full(&self, room: &Room) -> bool {
        room.members().len() >= self.config.limits.max_room_size
    }

    /// The participant that has been without a connection for longest. In a full room it makes way for a newcomer.
    pub(super) fn longest_absent(&self, room: &Room) -> Option<PeerId> {
        let absent = room.members().iter().filter_map(|id| Some((self.member(*id)?.absent_until?, *id)));
        absent.min().map(|(_, id)| id)
    }

    /// The participant says goodbye.
    pub(super) fn on_leave(&mut self, id: PeerId) {
        let Some(conn) = self.member(id).map(|member| member.conn) else {
            return;
        };
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.member = None;
        }
        self.with_conn(conn, |now, conn| conn.close(now, NORMAL, "left"));
        self.leave(id, "goodbye");
    }

    /// The client's transport has failed before the server noticed.
    pub(super) fn on_renew(&mut self, id: PeerId) {
        let Some(member) = self.member(id) else {
            return;
        };
        if member.peer.is_new() {
            // A fresh one is on its way already.
            return;
        }
        if self.can_renew(id) {
            self.renew(id, "media-timeout");
        } else {
            self.refuse(id, "cannot-renew", "No fresh transport is possible here: connect again.", true);
        }
    }

    /// Media is connected, for the first time or with a fresh transport.
    pub(super) fn on_media(&mut self, id: PeerId) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        let was_pending = std::mem::take(&mut member.transport.is_pending);
        member.transport.connected_at = Some(now);
        member.transport.doubtful_failures = 0;
        self.pending_members -= usize::from(was_pending);
        self.set_lost(id, false);
    }

    /// ICE consent of a member was lost, or came back.
    pub(super) fn on_consent(&mut self, id: PeerId, is_held: bool) {
        if self.set_lost(id, !is_held) && !is_held {
            let reason = Some("media-timeout");
            let state = MediaState::Lost;
            self.send(id, &ServerMessage::Media { id: None, state, fresh: false, reason, retry_ms: None });
        }
    }

    /// A handshake failed for what anybody on the path may have sent, before media was connected. Says whether a fresh transport shows more.
    pub(super) fn doubt(&mut self, id: PeerId) -> bool {
        let Some(Member { transport, .. }) = self.member_mut(id) else {
            return false;
        };
        transport.doubtful_failures += 1;
        transport.doubtful_failures <= MAX_DOUBTFUL_FAILURES
    }

    /// Whether a fresh transport may be offered to this member.
    pub(super) fn can_renew(&self, id: PeerId) -> bool {
        let Some(Member { transport, place, .. }) = self.member(id) else {
            return false;
        };
        let is_crowded = |place: Place| self.medialess_by_place.of(place) >= MAX_MEDIALESS;
        transport.can_renew && (transport.is_lost || !place.is_some_and(is_crowded))
    }

    /// Frees a member's transport, which has failed, and offers a fresh one.
    pub(super) fn renew(&mut self, id: PeerId, reason: &str) {
        let now = self.now;
        let Some(Member { transport, .. }) = self.member_mut(id) else {
            return;
        };
        if transport.connected_at.take().is_some_and(|at| now >= at + STABLE) {
            transport.attempts = 0;
        }
        let pause = match (transport.attempts, transport.is_pending) {
            (0, false) => Duration::ZERO,
            (attempts, _) => (FIRST_PAUSE * (1 << attempts.saturating_sub(1).min(4))).min(LAST_PAUSE),
        };
        let Some(id) = self.reset(id, pause) else {
            return;
        };
        debug!("{id} has no media ({reason}): a fresh transport is offered in {} s", pause.as_secs());
        self.set_lost(id, true);
        let retry_ms = Some(pause.as_millis() as u64);
        let reason = Some(reason);
        self.send(id, &ServerMessage::Media { id: None, state: MediaState::Lost, fresh: false, reason, retry_ms });
    }

    /// Replaces a member's peer by one that offers something after `pause`. The member's tracks end, and it gets another
    /// `PeerId`, so that nothing of the old peer is taken for the new one's.
    pub(super) fn reset(&mut self, id: PeerId, pause: Duration) -> Option<PeerId> {
        let now = self.now;
        let old = self.remove(id)?;
        let mut peer = self.new_peer(old.peer.has_simulcast(), &old.grant);
        peer.negotiation.hold(old.absent_until.unwrap_or(now + pause));
        let transport = Transport { is_pending: false, attempts: old.transport.attempts + 1, ..old.transport };
        let conn = old.conn;
        let new = self.insert(Member {
            peer,
            transport,
            seats: Seats::new(now),
            queue: Vec::new(),
            held: VecDeque::new(),
            told: BTreeMap::new(),
            padded: 0,
            is_dirty: false,
            negotiation_queued: false,
            allocation_queued: false,
            quality_queued: false,
            ..old
        });
        if let Some(entry) = self.conns.get_mut(&conn).filter(|entry| entry.member == Some(id)) {
            entry.member = Some(new);
        }
        self.enter(new, Some(id));
        self.schedule(new);
        Some(new)
    }

    /// Notes whether a member's media is lost, and reports a change to the others. Says whether it changed.
    pub(super) fn set_lost(&mut self, id: PeerId, is_lost: bool) -> bool {
        let Some(member) = self.member_mut(id).filter(|member| member.transport.is_lost != is_lost) else {
            return false;
        };
        member.transport.is_lost = is_lost;
        let place = member.place;
        let (room, who) = (member.participant.room.clone(), member.participant.id.clone());
        if let Some(place) = place {
            if is_lost {
                self.medialess_by_place.add(place);
            } else {
                self.medialess_by_place.remove(place);
            }
        }
        let state = if is_lost { MediaState::Lost } else { MediaState::Connected };
        let media = |id| ServerMessage::Media { id, state, fresh: false, reason: None, retry_ms: None };
        self.broadcast(&room, Some(id), &media(Some(&who)));
        if !is_lost {
            self.send(id, &media(None));
            let publications = self.member(id).map(|member| member.peer.negotiation.publications().collect::<Vec<_>>());
            for (mid, kind, source) in publications.into_iter().flatten() {
                self.start_track(id, mid, kind, source);
            }
        }
        true
    }
}
