//! Returning: a participant whose connection ends without `leave` stays in its room for a while.
//!
//! It may return with its `resume` secret. The room is notified neither of the loss nor of the return.

use std::time::Duration;

use log::debug;

use crate::id::PeerId;
use crate::room::Room;
use crate::server::Server;
use crate::timers::Waiter;

/// How long a disconnected participant stays in its room. A shorter time removes participants that reload the page or
/// change networks; a longer one keeps participants whose machine has crashed.
const RETURN: Duration = Duration::from_secs(30);

/// The WebSocket close code of a normal closure (RFC 6455 section 7.4.1).
pub const NORMAL: u16 = 1000;

impl Server {
    /// Handles the end of a participant's connection without `leave`: keeps the participant for `RETURN`, if the client
    /// has sent a message, so that it has read its `resume` secret, and the network does not have too many disconnected participants.
    pub(in crate::server) fn on_disconnected(&mut self, id: PeerId, reason: &str) {
        let until = self.now + RETURN;
        let Some(participant) = self.participants.get_mut(id).filter(|it| it.absent_until.is_none()) else {
            return;
        };
        let may_return = self.admission.may_be_absent(participant.network, &self.config.limits);
        if !participant.has_sent_message || !may_return {
            return self.leave(id, reason);
        }
        debug!("{id}: disconnected ({reason}); may return within {} s", RETURN.as_secs());
        self.admission.set_absent(self.now, participant, until);
        // Send no offer until the participant returns.
        participant.peer.negotiation.hold(until);
        self.timers.set(Waiter::Return(id), until);
    }

    /// Handles `leave`.
    pub(in crate::server) fn on_leave(&mut self, id: PeerId) {
        let Some(conn) = self.participants.get(id).map(|participant| participant.conn) else {
            return;
        };
        self.conns.release(conn);
        self.close(conn, NORMAL, "left");
        self.leave(id, "client sent leave");
    }

    /// Whether the room has reached its limit of participants.
    pub(in crate::server) fn is_full(&self, room: &Room) -> bool {
        room.participants().len() >= self.config.limits.max_room_size
    }

    /// The participant that has been disconnected for longest. In a full room it is evicted when another one joins.
    pub(in crate::server) fn longest_absent(&self, room: &Room) -> Option<PeerId> {
        let participants = self.participants.of(room);
        let absent = participants.filter_map(|(id, participant)| Some((participant.absent_until?, id)));
        absent.min().map(|(_, id)| id)
    }
}
