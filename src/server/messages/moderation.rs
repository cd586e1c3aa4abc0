//! Moderation: the actions of moderators on participants and rooms, and the mute state.

use log::info;

use crate::id::PeerId;
use crate::limits::notices::Notice;
use crate::server::Server;
use crate::server::participants::Participant;
use crate::track::Source;
use crate::web::signal::{Moderation, ParticipantAction, ServerMessage};

impl Server {
    /// Executes a moderator's action. Refuses it if the participant is not a moderator.
    pub(in crate::server) fn on_moderate(&mut self, id: PeerId, moderation: &Moderation) {
        let Some(participant) = self.participants.get(id) else {
            return;
        };
        if !participant.grant.rights.moderate {
            return self.refuse(id, "forbidden", "Only moderators can do this.", false);
        }
        let name = participant.room.clone();
        match moderation {
            Moderation::Participant { id: target, action } => match self.find(&name, target) {
                Some(target) => self.moderate_one(id, target, *action, &name),
                None => self.refuse(id, "not-there", "This participant has left.", false),
            },
            Moderation::MuteAll => self.silence_all(id, &name),
            Moderation::EndSpotlight => self.set_spotlight(id, None, &name),
            Moderation::Lock => self.set_locked(id, &name, true),
            Moderation::Unlock => self.set_locked(id, &name, false),
            Moderation::End => self.end_room(id, &name),
        }
    }

    fn moderate_one(&mut self, by: PeerId, target: PeerId, action: ParticipantAction, room: &str) {
        if matches!(action, ParticipantAction::Mute | ParticipantAction::Remove) && self.outranks(target, by) {
            return self.refuse(by, "forbidden", "The host's own moderators cannot be muted or removed by you.", false);
        }
        match action {
            ParticipantAction::Mute => {
                if let Some(omitted) = self.notices.take(self.now, Notice::Moderated) {
                    info!("{by} muted {target} in room {room:?}{omitted}");
                }
                self.silence(by, target);
            }
            ParticipantAction::LowerHand => {
                if let Some(moderator) = self.public_id(by) {
                    self.set_hand(target, false, Some(&moderator));
                }
            }
            ParticipantAction::Spotlight => self.set_spotlight(by, Some(target), room),
            ParticipantAction::Promote => self.promote(by, target, room),
            ParticipantAction::Remove => self.expel(by, target, room),
        }
    }

    /// Whether `one` is a moderator by its token, and `other` only because a moderator promoted it.
    fn outranks(&self, one: PeerId, other: PeerId) -> bool {
        let is_promoted = |id| self.participants.get(id).is_some_and(|it| it.room_state.is_promoted);
        let is_moderator = self.participants.get(one).is_some_and(|it| it.grant.rights.moderate);
        is_moderator && !is_promoted(one) && is_promoted(other)
    }

    /// Handles the mute state that a participant reports.
    pub(in crate::server) fn on_mute(&mut self, id: PeerId, source: Source, muted: bool) {
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
        let Some(moderator) = self.public_id(by) else {
            return;
        };
        if let Some(participant) = self.participants.get_mut(id) {
            participant.published.set_silenced(true);
            self.set_muted(id, Source::Microphone, true, Some(&moderator));
        }
    }

    /// Mutes the microphones of all participants who are not moderators.
    fn silence_all(&mut self, by: PeerId, name: &str) {
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let participants = self.participants.of(room);
        let others = participants.filter(|(_, participant)| !participant.grant.rights.moderate).map(|(id, _)| id);
        let others: Vec<PeerId> = others.collect();
        if let Some(omitted) = self.notices.take(self.now, Notice::Moderated) {
            info!("{by} muted {} participants in room {name:?}{omitted}", others.len());
        }
        for id in others {
            self.silence(by, id);
        }
    }

    /// Puts a participant into the spotlight; `None` ends it.
    fn set_spotlight(&mut self, by: PeerId, id: Option<PeerId>, name: &str) {
        let id = id.and_then(|id| self.public_id(id));
        let Some(room) = self.rooms.get_mut(name).filter(|room| room.spotlight != id) else {
            return;
        };
        room.spotlight = id;
        if let Some(moderator) = self.participants.get(by) {
            let message = ServerMessage::Spotlight { id: room.spotlight.as_deref(), by: &moderator.id };
            self.participants.broadcast(self.now, room, None, &message, &mut self.conns);
        }
    }

    /// Makes a participant a moderator until it leaves.
    fn promote(&mut self, by: PeerId, id: PeerId, name: &str) {
        let Some(participant) = self.participants.get_mut(id).filter(|it| !it.grant.rights.moderate) else {
            return;
        };
        participant.grant.rights.moderate = true;
        participant.room_state.is_promoted = true;
        info!("{by} made {id} a moderator of room {name:?}");
        if let (Some(participant), Some(moderator)) = (self.participants.get(id), self.participants.get(by))
            && let Some(room) = self.rooms.get(name)
        {
            let message = ServerMessage::Promote { id: &participant.id, by: &moderator.id };
            self.participants.broadcast(self.now, room, None, &message, &mut self.conns);
        }
        self.send_knocks(id);
    }

    /// Removes all participants, which ends the room.
    fn end_room(&mut self, by: PeerId, name: &str) {
        let participants = self.rooms.get(name).map_or(Vec::new(), |room| room.participants().to_vec());
        const ENDED: &str = "A moderator has ended this call for everyone.";
        if let Some(omitted) = self.notices.take(self.now, Notice::Moderated) {
            info!("{by} ended room {name:?}{omitted}");
        }
        self.turn_all_away(name, "ended", ENDED);
        for id in participants {
            self.dismiss(id, "ended", ENDED, false);
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
        if let Some(omitted) = self.notices.take(self.now, Notice::Moderated) {
            info!("{by} removed {id} from room {name:?}{omitted}");
        }
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
        if let Some(omitted) = self.notices.take(self.now, Notice::Moderated) {
            info!("{id} {} room {name:?}{omitted}", if locked { "locked" } else { "unlocked" });
        }
        if let Some(moderator) = self.participants.get(id) {
            let message = ServerMessage::Lock { locked, by: &moderator.id };
            self.participants.broadcast(self.now, room, None, &message, &mut self.conns);
        }
        if !locked {
            self.admit_all(name);
        }
    }

    fn public_id(&self, id: PeerId) -> Option<String> {
        self.participants.get(id).map(|participant| participant.id.clone())
    }

    /// The participant with this public id in a room.
    fn find(&self, room: &str, id: &str) -> Option<PeerId> {
        let mut participants = self.participants.of(self.rooms.get(room)?);
        participants.find(|(_, participant)| participant.id == id).map(|(id, _)| id)
    }
}
