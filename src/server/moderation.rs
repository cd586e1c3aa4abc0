//! Moderation: actions of moderators on other participants and on the room.

use log::info;

use super::Server;
use crate::id::PeerId;
use crate::track::Source;
use crate::web::signal::{Moderation, ServerMessage};

impl Server {
    /// Executes a moderator's action; refuses it if the participant is no moderator.
    pub(super) fn on_moderate(&mut self, id: PeerId, moderation: &Moderation) {
        let Some(member) = self.member(id) else {
            return;
        };
        if !member.grant.rights.moderate {
            return self.refuse(id, "forbidden", "Only moderators can do this.", false);
        }
        let room = member.participant.room.clone();
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

    /// Mutes a microphone: it is not forwarded until the participant unmutes it.
    fn silence(&mut self, by: PeerId, id: PeerId) {
        let Some(moderator) = self.member(by).map(|member| member.participant.id.clone()) else {
            return;
        };
        if let Some(member) = self.member_mut(id) {
            member.participant.is_silenced = true;
            info!("{by} muted {id} in room {:?}", member.participant.room);
            self.set_muted(id, Source::Microphone, true, Some(&moderator));
        }
    }

    /// Removes a participant and all others with the same identity. They cannot rejoin while the room exists.
    fn expel(&mut self, by: PeerId, id: PeerId, room: &str) {
        let identity = self.member(id).and_then(|member| member.grant.identity.clone());
        let is_same = |other: PeerId| {
            let theirs = self.member(other).and_then(|member| member.grant.identity.as_ref());
            other == id || identity.is_some() && theirs == identity.as_ref()
        };
        let all: Vec<PeerId> = self.others(room).filter(|other| is_same(*other)).collect();
        if all.contains(&by) {
            return self.refuse(by, "forbidden", "You cannot remove yourself.", false);
        }
        info!("{by} removed {id} from room {room:?}");
        for id in all {
            let Some(secret) = self.member(id).map(|member| member.participant.resume.clone()) else {
                continue;
            };
            self.dismiss(id, "removed", "A moderator has removed you from this room.", false);
            if let Some(room) = self.rooms.get_mut(room) {
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
        let Some(by) = self.member(id).map(|member| member.participant.id.clone()) else {
            return;
        };
        self.broadcast(name, None, &ServerMessage::Lock { locked, by: &by });
    }

    /// The participant with this id in a room.
    fn find(&self, room: &str, id: &str) -> Option<PeerId> {
        self.others(room).find(|other| self.member(*other).is_some_and(|member| member.participant.id == id))
    }
}
