//! Changes of this machine's addresses while calls continue.

use std::net::SocketAddr;

use log::info;
use str0m::Candidate;

use super::Server;
use super::participants::Work;
use crate::id::PeerId;
use crate::web::signal::ServerMessage;

impl Server {
    /// Replaces the announced addresses. New peers get them in their first offer, the others as `candidate` events and
    /// in their next offer. This is work for each participant, but interfaces rarely change.
    pub(super) fn on_addresses(&mut self, candidates: Vec<SocketAddr>) {
        // If all addresses are gone, the previous ones stay announced: they may come back.
        let previous: Vec<SocketAddr> = self.profile.candidates().iter().map(Candidate::addr).collect();
        if candidates.is_empty() || candidates == previous {
            return;
        }
        let list = |addrs: &[SocketAddr]| addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        info!(
            "addresses of this machine changed: media announced as {}, previously as {}",
            list(&candidates),
            list(&previous)
        );
        self.profile.set_candidates(&candidates);
        for id in self.participants.page(0, usize::MAX).collect::<Vec<_>>() {
            self.add_candidates(id);
        }
    }

    fn add_candidates(&mut self, id: PeerId) {
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let added = match participant.peer.add_candidates(&self.profile) {
            Ok(added) => added,
            Err(error) => return self.turn.fail(id, error),
        };
        for (candidate, mid) in added {
            self.send(id, &ServerMessage::candidate(&candidate, &mid));
        }
        self.queue(Work::Drive, id);
    }
}
