//! Moderation: the actions of moderators on participants and rooms, and the mute state.

use log::info;

use super::Server;
use super::participants::Participant;
use crate::id::PeerId;
use crate::track::Source;
use crate::web::signal::{Moderation, ServerMessage};

impl Server {
    /// Executes a moderator's action. Refuses it if the participant is not a moderator.
    pub(super) fn on_moderate(&mut self, id: PeerId, moderation: &Moderation) {
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        if !participant.grant.rights.moderate {
            return self.refuse(id, "forbidden", "Only moderators can do this.", false);
        }
        let room = participant.room.clone();
        match moderation {
            Moderation::Mute { id: target } => match self.find(&room, target) {
                Some(other) => self.silence(id, other),
                None => self.refuse(id, "not-there", "This participant has left.", false),
            },
            Moderation::Remove { id: target } => match self.find(&room, target) {
                Some(other) => self.expel(id, other, &room),
                None => self.refuse(id, "not-there", "This participant has left.", false),
            },
            Moderation::Lock => self.set_locked(id, &room, true),
            Moderation::Unlock => self.set_locked(id, &room, false),
        }
    }

    /// Handles the mute state that a participant reports.
    pub(super) fn on_mute(&mut self, id: PeerId, source: Source, muted: bool) {
        if let Some(participant) = self.participants.get_mut(id) {
            if source == Source::Microphone && !muted {
                participant.published.set_silenced(false);
            }
            self.set_muted(id, source, muted, None);
        }
    }

    /// Sets the mute state of a source. `by` is the public id of the moderator, or `None` if the participant did it.
    fn set_muted(&mut self, id: PeerId, source: Source, muted: bool, by: Option<&str>) {
        let now = self.now;
        let has_changed =
            self.participants.get_mut(id).is_some_and(|participant| participant.published.mute(source, muted));
        let Some(Participant { id: own_id, room: name, .. }) = self.participants.get(id).filter(|_| has_changed) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let message = ServerMessage::Mute { id: own_id, source, muted, by };
        let except = by.is_none().then_some(id);
        self.participants.broadcast(now, room, except, &message, &mut self.conns);
        if source == Source::Camera {
            self.turn.queue_seating(name);
        }
        if source == Source::Microphone && muted {
            room.speakers.remove(id);
            if room.speakers.poll_change(now) {
                let name = name.clone();
                self.send_speakers(&name);
            }
        }
    }

    /// Mutes a microphone: it is not forwarded until the participant unmutes it.
    fn silence(&mut self, by: PeerId, id: PeerId) {
        let Some(moderator) = self.participants.get(by).map(|moderator| moderator.id.clone()) else {
            return;
        };
        if let Some(participant) = self.participants.get_mut(id) {
            participant.published.set_silenced(true);
            info!("{by} muted {id} in room {:?}", participant.room);
            self.set_muted(id, Source::Microphone, true, Some(&moderator));
        }
    }

    /// Removes a participant and all others with the same identity from the room. They cannot rejoin while it exists.
    fn expel(&mut self, by: PeerId, id: PeerId, name: &str) {
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let identity = self.participants.get(id).and_then(|participant| participant.grant.identity.clone());
        let is_same = |other: &Participant| identity.is_some() && other.grant.identity == identity;
        let same = self.participants.of(room).filter(|(other, participant)| *other == id || is_same(participant));
        let same: Vec<(PeerId, String)> = same.map(|(id, participant)| (id, participant.resume.clone())).collect();
        if same.iter().any(|(id, _)| *id == by) {
            return self.refuse(by, "forbidden", "You cannot remove yourself.", false);
        }
        info!("{by} removed {id} from room {name:?}");
        for (id, secret) in same {
            self.dismiss(id, "removed", "A moderator has removed you from this room.", false);
            if let Some(room) = self.rooms.get_mut(name) {
                room.turn_away(&secret, identity.as_deref());
            }
        }
    }

    fn set_locked(&mut self, id: PeerId, name: &str, locked: bool) {
        let Some(room) = self.rooms.get_mut(name).filter(|room| room.is_locked() != locked) else {
            return;
        };
        room.set_locked(locked);
        info!("{id} {} room {name:?}", if locked { "locked" } else { "unlocked" });
        if let Some(moderator) = self.participants.get(id) {
            let message = ServerMessage::Lock { locked, by: &moderator.id };
            self.participants.broadcast(self.now, room, None, &message, &mut self.conns);
        }
    }

    /// The participant with this public id in a room.
    fn find(&self, room: &str, id: &str) -> Option<PeerId> {
        let mut participants = self.participants.of(self.rooms.get(room)?);
        participants.find(|(_, participant)| participant.id == id).map(|(id, _)| id)
    }
}
