//! Packet accounting: for each other participant of the room, every received packet is either forwarded or dropped for
//! a reason.

use crate::drop_reason::DropReason;
use crate::id::PeerId;
use crate::room::subscribers::{Subscribers, Unqueued};
use crate::server::Server;
use crate::server::forwarding::outbox::Outbox;
use crate::stats::Stats;

impl Server {
    /// Brings the drop counters up to date. Call it before reading them: it visits every subscription of the server.
    pub fn settle_drops(&mut self) {
        let mut unqueued: Vec<Unqueued> = Vec::new();
        for id in self.participants.page(0, self.participants.slots()).collect::<Vec<_>>() {
            let publisher = self.participants.get_mut(id).into_iter();
            let tracks = publisher.flat_map(|publisher| &mut publisher.published.tracks);
            tracks.for_each(|track| unqueued.extend(track.subscribers.settle()));
        }
        self.count_unqueued(unqueued);
    }

    /// Returns the number of packets that are still to be forwarded or dropped, each counted for each subscriber.
    pub fn undecided_packets(&self) -> u64 {
        let ids = self.participants.page(0, self.participants.slots());
        let outboxes = ids.filter_map(|id| Some(&self.participants.get(id)?.outbox));
        outboxes.map(Outbox::len).sum::<usize>() as u64
    }

    /// Counts packets that were not queued for their subscribers.
    pub(in crate::server) fn count_unqueued(&mut self, unqueued: impl IntoIterator<Item = Unqueued>) {
        for Unqueued { peer, m_line, packets } in unqueued {
            for (reason, count) in packets.into_iter().filter(|(_, count)| *count > 0) {
                self.count_dropped(peer, m_line, reason, u64::from(count));
            }
        }
    }

    /// Counts packets that were not forwarded on a subscriber's m-line.
    pub(in crate::server) fn count_dropped(&mut self, id: PeerId, m_line: usize, reason: DropReason, count: u64) {
        self.stats.drops.add(reason, count);
        let participant = self.participants.get_mut(id);
        if let Some(outgoing) = participant.and_then(|participant| participant.peer.sending.m_line_mut(m_line)) {
            outgoing.drops.add(self.now, reason, count);
        }
    }

    /// Counts packets of a publisher that are forwarded to no participant, once for each of the others in the room. If
    /// the publisher has left, the number of the others is unknown, and each packet counts once.
    pub(in crate::server) fn count_withheld(&mut self, publisher: PeerId, reason: DropReason, count: u64) {
        let publisher = self.participants.get(publisher);
        let audience = publisher.map_or(1, |publisher| publisher.published.audience);
        self.stats.packets_due += count * audience;
        self.stats.drops.add(reason, count * audience);
    }

    /// Updates the number of other participants that each participant of a room has.
    pub(in crate::server) fn count_audience(&mut self, room: &str) {
        let Some(room) = self.rooms.get(room) else {
            return;
        };
        let audience = (room.participants().len() as u64).saturating_sub(1);
        for id in room.participants() {
            if let Some(participant) = self.participants.get_mut(*id) {
                participant.published.audience = audience;
            }
        }
    }
}

/// Counts a packet as due to each of the `audience` other participants. Returns the number of those without an m-line
/// for the track. The caller counts their drops; `Subscribers` counts the others.
pub(super) fn count_due_and_unseated(stats: &mut Stats, audience: u64, subscribers: &Subscribers) -> u64 {
    stats.packets_due += audience;
    audience.saturating_sub(subscribers.carriers() as u64)
}
