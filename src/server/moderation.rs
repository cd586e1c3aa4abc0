//! What moderators do to others and to the room.

use log::info;

use super::Server;
use crate::id::PeerId;
use crate::track::Source;
use crate::web::signal::{Moderation, ServerMessage};

impl Server {
    /// A member wants to moderate.
    pub(super) fn on_moderate(&mut self, id: PeerId, moderation: &Moderation) {
        let Some(member) = self.member(id) else {
            return;
        };
        if !member.grant.rights.moderate {
            return self.refuse(id, "forbidden", "Only moderators may do this.", false);
        }
        let room = member.participant.room.clone();
        match moderation {
            Moderation::Mute { id: whom } => match self.find(&room, whom) {
                Some(other) => self.silence(id, other),
                None => self.refuse(id, "not-there", "This person has left.", false),
            },
            Moderation::Remove { id: whom } => match self.find(&room, whom) {
                Some(other) => self.expel(id, other, &room),
                None => self.refuse(id, "not-there", "This person has left.", false),
            },
            Moderation::Lock => self.set_locked(id, &room, true),
            Moderation::Unlock => self.set_locked(id, &room, false),
        }
    }

    /// Nothing of somebody's microphone is forwarded until they say that they unmute it.
    fn silence(&mut self, by: PeerId, id: PeerId) {
        let Some(who) = self.member(by).map(|member| member.participant.id.clone()) else {
            return;
        };
        if let Some(member) = self.member_mut(id) {
            member.participant.is_silenced = true;
            info!("{by} mutes {id} in room {:?}", member.participant.room);
            self.set_muted(id, Source::Microphone, true, Some(&who));
        }
    }

    /// Somebody goes, and whoever is here under the same identity; none of them comes back while the room is there.
    fn expel(&mut self, by: PeerId, id: PeerId, room: &str) {
        let identity = self.member(id).and_then(|member| member.grant.identity.clone());
        let is_same = |other: PeerId| {
            let theirs = self.member(other).and_then(|member| member.grant.identity.as_ref());
            other == id || identity.is_some() && theirs == identity.as_ref()
        };
        let all: Vec<PeerId> = self.others(room).filter(|other| is_same(*other)).collect();
        if all.contains(&by) {
            return self.refuse(by, "forbidden", "Nobody can remove themselves.", false);
        }
        info!("{by} removes {id} from room {room:?}");
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
        info!("{id} {} room {name:?}", if locked { "locks" } else { "unlocks" });
        let Some(by) = self.member(id).map(|member| member.participant.id.clone()) else {
            return;
        };
        self.broadcast(name, None, &ServerMessage::Lock { locked, by: &by });
    }

    /// Who has this id in a room.
    fn find(&self, room: &str, id: &str) -> Option<PeerId> {
        self.others(room).find(|other| self.member(*other).is_some_and(|member| member.participant.id == id))
    }
}
