//! Presence: a participant stays in its room while its connection or its media is interrupted.
//!
//! The WebSocket carries presence and chat, the transport carries media; neither ends because the other fails. A
//! participant whose connection ends without `leave` may return with its `resume` secret, unnoticed by the room. A
//! participant whose transport fails is offered a fresh one on the same connection, if the client supports that.

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

/// How long a participant without a connection stays in its room. A shorter time reports participants as gone who only
/// reload or change networks; a longer one keeps those whose machine died.
const RETURN: Duration = Duration::from_secs(30);

/// The pause before the second consecutive fresh transport; it doubles with each, up to `LAST_PAUSE`. The first is
/// offered at once if media was connected before. A shorter pause burdens the server with clients whose UDP is blocked;
/// a longer one delays them when it no longer is.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How long a transport must stay connected for the next fresh one to be offered at once. With a shorter time, a client
/// that connects and fails repeatedly makes the room renegotiate without pauses.
const STABLE: Duration = Duration::from_secs(10);

/// Consecutive handshake failures, seemingly of the client, after which a fresh transport is still offered. With fewer,
/// a forged datagram can end a participant; with more, clients with an unsupported certificate wait longer for the
/// reason.
const MAX_DOUBTFUL_FAILURES: u32 = 1;

/// Participants of one network who may stay without media. Each costs a transport a minute; with fewer, people in an
/// office that blocks UDP lose the chat.
const MAX_MEDIALESS: usize = 20;

impl Server {
    /// Handles the end of a participant's connection without `leave`: keeps the participant for `RETURN`, if it knows
    /// its `resume` secret and its network has not too many such participants.
    pub(super) fn on_disconnected(&mut self, id: PeerId, reason: &str) {
        let (until, limit) = (self.now + RETURN, self.config.limits.max_conns_per_addr);
        let Some(member) = self.member(id).filter(|member| member.absent_until.is_none()) else {
            return;
        };
        let (place, budget, chat) = (member.place, member.budget, member.participant.chat);
        let participant = member.participant.id.clone();
        if !member.has_spoken || place.is_some_and(|place| self.absent_by_place.of(place) >= limit) {
            return self.leave(id, reason);
        }
        debug!("{id}: disconnected ({reason}); may return within {} s", RETURN.as_secs());
        if let Some(member) = self.member_mut(id) {
            member.absent_until = Some(until);
            // An offer could not be delivered.
            member.peer.negotiation.hold(until);
        }
        if let Some(place) = place {
            self.absent_by_place.add(place);
            self.kept_budgets.keep(self.now, place, participant, budget, chat);
        }
        self.timers.set(Waiter::Return(id), until);
    }

    /// Whether the room has reached the limit of participants.
    pub(super) fn is_full(&self, room: &Room) -> bool {
        room.members().len() >= self.config.limits.max_room_size
    }

    /// The participant that has been without a connection for longest. In a full room it makes way for a newcomer.
    pub(super) fn longest_absent(&self, room: &Room) -> Option<PeerId> {
        let absent = room.members().iter().filter_map(|id| Some((self.member(*id)?.absent_until?, *id)));
        absent.min().map(|(_, id)| id)
    }

    /// Handles `leave`.
    pub(super) fn on_leave(&mut self, id: PeerId) {
        let Some(conn) = self.member(id).map(|member| member.conn) else {
            return;
        };
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.member = None;
        }
        self.with_conn(conn, |now, conn| conn.close(now, NORMAL, "left"));
        self.leave(id, "client sent leave");
    }

    /// Handles `renew`: the client has noticed a transport failure before the server.
    pub(super) fn on_renew(&mut self, id: PeerId) {
        let Some(member) = self.member(id) else {
            return;
        };
        if member.peer.is_new() {
            // The fresh transport has not been offered yet.
            return;
        }
        if self.can_renew(id) {
            self.renew(id, "media-timeout");
        } else {
            self.refuse(id, "cannot-renew", "No fresh transport is possible on this connection. Reconnect.", true);
        }
    }

    /// Media has connected, for the first time or on a fresh transport.
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

    /// Handles the loss or return of a participant's ICE consent.
    pub(super) fn on_consent(&mut self, id: PeerId, is_held: bool) {
        if self.set_lost(id, !is_held) && !is_held {
            let reason = Some("media-timeout");
            let state = MediaState::Lost;
            self.send(id, &ServerMessage::Media { id: None, state, fresh: false, reason, retry_ms: None });
        }
    }

    /// Counts a handshake failure that anybody on the path may have forged, before media was connected. Returns whether
    /// to try a fresh transport.
    pub(super) fn count_doubtful_failure(&mut self, id: PeerId) -> bool {
        let Some(Member { transport, .. }) = self.member_mut(id) else {
            return false;
        };
        transport.doubtful_failures += 1;
        transport.doubtful_failures <= MAX_DOUBTFUL_FAILURES
    }

    /// Whether the participant may be offered a fresh transport.
    pub(super) fn can_renew(&self, id: PeerId) -> bool {
        let Some(Member { transport, place, .. }) = self.member(id) else {
            return false;
        };
        let is_crowded = |place: Place| self.medialess_by_place.of(place) >= MAX_MEDIALESS;
        transport.can_renew && (transport.is_lost || !place.is_some_and(is_crowded))
    }

    /// Ends a participant's failed transport and offers a fresh one.
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
        debug!("{id}: media lost ({reason}); fresh transport in {} s", pause.as_secs());
        self.set_lost(id, true);
        let retry_ms = Some(pause.as_millis() as u64);
        let reason = Some(reason);
        self.send(id, &ServerMessage::Media { id: None, state: MediaState::Lost, fresh: false, reason, retry_ms });
    }

    /// Replaces a participant's peer by a new one whose first offer is due after `pause`. The participant's tracks end,
    /// and it gets a new `PeerId`, so that pending events of the old peer are not taken for the new one's.
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
            sent_wanted: BTreeMap::new(),
            padding_index: 0,
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

    /// Sets whether a participant's media is lost and notifies the room of a change. Returns whether it has changed.
    pub(super) fn set_lost(&mut self, id: PeerId, is_lost: bool) -> bool {
        let Some(member) = self.member_mut(id).filter(|member| member.transport.is_lost != is_lost) else {
            return false;
        };
        member.transport.is_lost = is_lost;
        let place = member.place;
        let (room, own_id) = (member.participant.room.clone(), member.participant.id.clone());
        if let Some(place) = place {
            if is_lost {
                self.medialess_by_place.add(place);
            } else {
                self.medialess_by_place.remove(place);
            }
        }
        let state = if is_lost { MediaState::Lost } else { MediaState::Connected };
        let media = |id| ServerMessage::Media { id, state, fresh: false, reason: None, retry_ms: None };
        self.broadcast(&room, Some(id), &media(Some(&own_id)));
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
