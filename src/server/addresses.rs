//! Addresses: changes of this machine's addresses while calls continue.

use std::net::SocketAddr;

use log::info;

use super::Server;
use crate::id::PeerId;
use crate::web::signal::ServerMessage;

impl Server {
    /// Replaces the announced addresses. New peers get them in their first offer, the others as `candidate` events and
    /// in their next offer. Costs work for each participant, only when the machine's interfaces change.
    pub(super) fn on_addresses(&mut self, candidates: Vec<SocketAddr>) {
        // Without a remaining address no client can be reached; the previous addresses may come back.
        if candidates.is_empty() || candidates == self.candidates {
            return;
        }
        let list = |addrs: &[SocketAddr]| addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        info!(
            "addresses of this machine changed: media announced as {}, previously as {}",
            list(&candidates),
            list(&self.candidates)
        );
        self.profile.set_candidates(&candidates);
        self.candidates = candidates;
        let ids: Vec<PeerId> = self.member_ids().collect();
        for id in ids {
            self.add_candidates(id);
        }
    }

    fn add_candidates(&mut self, id: PeerId) {
        let Some(member) = self.slots.get_mut(id.slot as usize).and_then(|slot| slot.member.as_deref_mut()) else {
            return;
        };
        let added = match member.peer.add_candidates(&self.profile) {
            Ok(added) => added,
            Err(error) => return self.failed.push_back((id, error)),
        };
        for (candidate, mid) in added {
            self.send(id, &ServerMessage::candidate(&candidate, &mid));
        }
        self.mark_dirty(id);
    }
}
