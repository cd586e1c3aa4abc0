//! The media transport of a participant: it connects, is lost, fails, and is replaced by a fresh one.
//!
//! The WebSocket carries presence and chat, the transport carries media. Neither ends because the other fails. A
//! participant whose transport fails is offered a fresh one on the same connection, if the client supports that.

use std::time::Duration;

use log::{debug, error, warn};

use crate::id::PeerId;
use crate::limits::faults;
use crate::media::fault::PeerError;
use crate::room::seats::Seats;
use crate::server::Server;
use crate::server::forwarding::outbox::Outbox;
use crate::server::participants::{Participant, Queued, Transport};
use crate::web::signal::{MediaState, ServerMessage};

/// The pause before the second consecutive fresh transport. It doubles with each further one, up to `LAST_PAUSE`. The
/// first is offered at once if media was connected before. Shorter burdens the server with clients whose UDP is
/// blocked; longer delays them when UDP works again.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How long a transport must stay connected for the next fresh one to be offered at once. Shorter lets a client that
/// connects and fails repeatedly make the room renegotiate without pauses.
const STABLE: Duration = Duration::from_secs(10);

/// How many consecutive handshake failures that may have been forged are followed by a fresh transport. With fewer, a
/// forged datagram can end a participant; with more, a client with an unsupported certificate waits longer for the
/// error.
const MAX_UNAUTHENTICATED_FAILURES: u32 = 1;

impl Server {
    /// Handles a fatal error of a peer: starts a fresh transport if that can help, else sends the error to the client
    /// and ends the participant.
    pub(in crate::server) fn on_failed(&mut self, id: PeerId, error: &PeerError) {
        let now = self.now;
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        let room = &participant.room;
        let conn = participant.conn;
        let may_be_forged = error.may_be_forged() && participant.transport.connected_at.is_none();
        match error {
            PeerError::Bug(why) => match self.notices.take_bug(now, why) {
                Some(0) => error!("{id} in room {room:?}: peer failed: {error}"),
                Some(more) => {
                    error!("{id} in room {room:?}: peer failed ({more} more since the last such line): {error}")
                }
                None => {}
            },
            _ => debug!("{id} in room {room:?}: peer failed: {error}"),
        }
        self.stats.peers_failed += 1;
        let code = error.code();
        let can_renew = self.can_renew(participant);
        if can_renew && may_be_forged && self.count_unauthenticated_failure(id) {
            return self.renew(id, code);
        }
        let network = self.conns.get(conn).and_then(|entry| entry.network);
        if let Some(network) = network.filter(|_| error.is_fault() && !may_be_forged)
            && self.admission.faults.handle_fault(now, network)
        {
            warn!(
                "joins from {network} blocked for {} s: more than {} protocol errors, last {code}",
                faults::PAUSE.as_secs(),
                faults::MAX_FAULTS
            );
        }
        if can_renew && error.ends_transport_only() {
            return self.renew(id, code);
        }
        let retry = !matches!(
            error,
            PeerError::BadAnswer(_)
                | PeerError::UnsupportedAnswer(_)
                | PeerError::UnexpectedAnswer
                | PeerError::UnsupportedCertificate(_)
        );
        self.dismiss(id, code, error.message(), retry);
    }

    /// Handles `renew`: the client has noticed a transport failure before the server.
    pub(in crate::server) fn on_renew(&mut self, id: PeerId) {
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        if participant.peer.is_new() {
            // No answer for the current transport has arrived yet.
            return;
        }
        if self.can_renew(participant) {
            self.renew(id, "media-timeout");
        } else {
            self.refuse(id, "cannot-renew", "No fresh transport is possible on this connection. Reconnect.", true);
        }
    }

    /// Handles the connection of media, the first one or on a fresh transport.
    pub(in crate::server) fn on_media_connected(&mut self, id: PeerId) {
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        self.admission.end_pending(participant);
        participant.transport.connected_at = Some(self.now);
        participant.transport.unauthenticated_failures = 0;
        self.set_lost(id, false);
    }

    /// Handles the loss or return of a participant's ICE consent.
    pub(in crate::server) fn on_consent(&mut self, id: PeerId, is_held: bool) {
        if self.set_lost(id, !is_held) && !is_held {
            let reason = Some("media-timeout");
            let state = MediaState::Lost;
            self.send(id, &ServerMessage::Media { id: None, state, fresh: false, reason, retry_ms: None });
        }
    }

    /// Sets whether a participant's media is lost, and notifies the room of a change. Returns true if this is a change.
    pub(in crate::server) fn set_lost(&mut self, id: PeerId, is_lost: bool) -> bool {
        let participant = self.participants.get_mut(id);
        if !participant.is_some_and(|participant| self.admission.set_lost(participant, is_lost)) {
            return false;
        }
        let Some(participant) = self.participants.get(id) else {
            return false;
        };
        let state = if is_lost { MediaState::Lost } else { MediaState::Connected };
        let media =
            ServerMessage::Media { id: Some(&participant.id), state, fresh: false, reason: None, retry_ms: None };
        if let Some(room) = self.rooms.get(&participant.room) {
            self.participants.broadcast(self.now, room, Some(id), &media, &mut self.conns);
        }
        if !is_lost {
            let publications: Vec<_> = participant.peer.negotiation.publications().collect();
            self.send(id, &ServerMessage::Media { id: None, state, fresh: false, reason: None, retry_ms: None });
            for (mid, kind, source) in publications {
                self.start_track(id, mid, kind, source);
            }
        }
        true
    }

    /// Replaces a participant's peer by a new one whose first offer is due after `pause`. The participant's tracks end,
    /// and it gets a new `PeerId`, so that queued events of the old peer are not taken for events of the new one.
    pub(in crate::server) fn reset(&mut self, id: PeerId, pause: Duration) -> Option<PeerId> {
        let now = self.now;
        let mut old = self.remove(id)?;
        let mut peer = self.new_peer(old.peer.has_simulcast(), &old.grant);
        peer.negotiation.hold(old.absent_until.unwrap_or(now + pause));
        old.published.forget_m_lines();
        let conn = old.conn;
        let new = self.insert(Participant {
            peer,
            transport: Transport { is_pending: false, attempts: old.transport.attempts + 1, ..old.transport },
            seats: Seats::new(now),
            outbox: Outbox::default(),
            queued: Queued::default(),
            ..old
        });
        if self.conns.get(conn).is_some_and(|entry| entry.participant == Some(id)) {
            self.conns.assign(conn, new);
        }
        self.enter(new, Some(id));
        self.schedule_offer(new);
        Some(new)
    }

    /// Counts a handshake failure whose cause a third party may have forged. Returns whether to try a fresh transport.
    fn count_unauthenticated_failure(&mut self, id: PeerId) -> bool {
        let Some(Participant { transport, .. }) = self.participants.get_mut(id) else {
            return false;
        };
        transport.unauthenticated_failures += 1;
        transport.unauthenticated_failures <= MAX_UNAUTHENTICATED_FAILURES
    }

    /// Whether the participant may be offered a fresh transport.
    fn can_renew(&self, participant: &Participant) -> bool {
        let Participant { transport, network, .. } = participant;
        transport.can_renew && (transport.is_lost || self.admission.may_be_medialess(*network))
    }

    /// Ends a participant's failed transport and offers a fresh one.
    fn renew(&mut self, id: PeerId, reason: &str) {
        let now = self.now;
        let Some(Participant { transport, .. }) = self.participants.get_mut(id) else {
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
}
