//! Gestures: raised hands, reactions and new names, which the room sees at once.

use log::debug;

use crate::id::PeerId;
use crate::room::REACTION_BYTES;
use crate::server::Server;
use crate::text::participant_name;
use crate::web::signal::ServerMessage;

impl Server {
    /// Raises or lowers a participant's own hand.
    pub(super) fn on_hand(&mut self, id: PeerId, raised: bool) {
        if self.take_gesture(id) {
            self.set_hand(id, raised, None);
        }
    }

    /// Raises or lowers a hand. The participant is notified too, so that everyone sees the same order. `by` is the
    /// public id of the moderator, or `None` if the participant did it.
    pub(super) fn set_hand(&mut self, id: PeerId, raised: bool, by: Option<&str>) {
        let Some(participant) = self.participants.get_mut(id).filter(|it| it.room_state.hand.is_some() != raised)
        else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&participant.room) else {
            return;
        };
        participant.room_state.hand = raised.then(|| room.number_hand());
        let own_id = participant.id.clone();
        let message = ServerMessage::Hand { id: &own_id, raised, by };
        self.participants.broadcast(self.now, room, None, &message, &mut self.conns);
    }

    /// Sends a reaction to the others.
    pub(super) fn on_reaction(&mut self, id: PeerId, reaction: &str) {
        if !self.take_gesture(id) {
            return;
        }
        let is_plain = !reaction.contains(|c: char| c.is_whitespace() || c.is_control());
        if reaction.is_empty() || reaction.len() > REACTION_BYTES || !is_plain {
            let message = format!("A reaction must be an emoji of at most {REACTION_BYTES} bytes.");
            return self.refuse(id, "bad-reaction", &message, false);
        }
        if let Some(participant) = self.participants.get(id)
            && let Some(room) = self.rooms.get(&participant.room)
        {
            let message = ServerMessage::Reaction { id: &participant.id, reaction };
            self.participants.broadcast(self.now, room, Some(id), &message, &mut self.conns);
        }
    }

    /// Changes a participant's name.
    pub(super) fn on_rename(&mut self, id: PeerId, name: &str) {
        if !self.take_gesture(id) {
            return;
        }
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        if participant.grant.name.is_some() {
            return self.refuse(id, "forbidden", "The host has chosen your name.", false);
        }
        let Some(name) = participant_name(name) else {
            return self.refuse(id, "bad-name", "A name must have a visible character.", false);
        };
        if name == participant.name {
            return;
        }
        debug!("{id} {:?} renamed to {name:?}", participant.name);
        participant.name = name;
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        if let Some(room) = self.rooms.get(&participant.room) {
            let message = ServerMessage::Rename { id: &participant.id, name: &participant.name };
            self.participants.broadcast(self.now, room, None, &message, &mut self.conns);
        }
    }

    /// Takes one gesture from the participant's limit; above it, refuses the message and returns false.
    fn take_gesture(&mut self, id: PeerId) -> bool {
        let now = self.now;
        let is_within = self.participants.get_mut(id).is_some_and(|participant| participant.budget.take_gesture(now));
        if !is_within {
            self.refuse(id, "gesture-too-fast", "Too many at once. Try again in a moment.", true);
        }
        is_within
    }
}
