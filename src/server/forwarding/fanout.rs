//! Fan-out: packets of a batch go to the subscribers of their tracks, and then into the retransmission histories.

use str0m::format::Codec;

use crate::drop_reason::DropReason;
use crate::id::{PeerId, TrackId};
use crate::media::fault::{PeerError, Site, guarded};
use crate::server::Server;
use crate::server::forwarding::drops;
use crate::server::forwarding::outbox::{BatchPacket, HeldPacket, Outbox};
use crate::server::participants::{Participant, Work};
use crate::track::Kind;

impl Server {
    /// Distributes the arrived packets as the next batch: queues them for their subscribers, and requests keyframes
    /// from publishers.
    pub(in crate::server) fn distribute(&mut self) {
        let now = self.now;
        std::mem::swap(&mut self.turn.batch, &mut self.turn.arrived);
        for index in 0..self.turn.batch.len() {
            let is_admitted = self.admit_audio(index);
            let (publisher, packet) = &mut self.turn.batch[index];
            let track_id = TrackId { publisher: *publisher, mid: packet.mid };
            let layer = packet.layer;
            let Some(participant) = self.participants.get_mut(track_id.publisher) else {
                self.count_withheld(track_id.publisher, DropReason::Unpublished, 1);
                continue;
            };
            let audience = participant.published.audience;
            let Some(track) = participant.published.track_mut(track_id.mid) else {
                self.count_withheld(track_id.publisher, DropReason::Unpublished, 1);
                continue;
            };
            let without_m_line = drops::count_due_and_unseated(&mut self.stats, audience, &track.subscribers);
            if !is_admitted {
                self.stats.packets_not_loudest += 1;
                track.subscribers.count_not_loudest();
                self.stats.drops.add(DropReason::NotLoudest, without_m_line);
                continue;
            }
            self.stats.packets_in += 1;
            self.stats.drops.add(DropReason::NoSeat, without_m_line);
            track.subscribers.count(layer);
            let mut has_changed = false;
            let mut request = None;
            let mut new_wanted = None;
            if track.kind == Kind::Video {
                packet.position = track.history.take_position();
                track.layers.handle_packet(now, packet);
                if track.layers.measure(now) {
                    let wanted = track.subscribers.iter().map(|subscriber| subscriber.wanted).max().unwrap_or_default();
                    new_wanted = track.layers.want(now, wanted).then_some(wanted);
                }
                has_changed = track.layers.take_changed();
                request = track.layers.poll_request(now);
            }
            let subscribers = std::mem::take(&mut track.subscribers);
            if let Some((layer, reason)) = request {
                participant.peer.request_keyframe(track_id.mid, layer);
                self.stats.keyframe_requests[reason as usize] += 1;
                self.turn.queue(Work::Drive, track_id.publisher, participant);
            }
            if has_changed {
                subscribers.iter().for_each(|subscriber| self.queue(Work::Allocate, subscriber.peer));
            }
            if let Some(wanted) = new_wanted {
                self.send_wanted_layers(track_id, wanted);
            }
            for subscriber in subscribers.iter().filter(|subscriber| subscriber.layers & 1 << layer != 0) {
                if let Some(participant) = self.participants.get_mut(subscriber.peer) {
                    let queue = &mut participant.outbox.batch;
                    if queue.is_empty() {
                        self.turn.receivers.push_back(subscriber.peer);
                    }
                    queue.push(BatchPacket { packet: index as u32, m_line: subscriber.m_line as u32, track: track_id });
                } else {
                    self.stats.drops.add(DropReason::PeerEnded, 1);
                }
            }
            if let Some(track) = self.participants.track_mut(track_id) {
                track.subscribers = subscribers;
            }
        }
    }

    /// Forwards the packets of the batch to one subscriber.
    pub(in crate::server) fn forward_batch(&mut self, id: PeerId) {
        // Most participants have no held packets.
        let may_release = |it: &Participant| !it.outbox.held.is_empty() || it.peer.sending.is_probing();
        let needs_release = self.participants.get(id).is_some_and(may_release);
        if needs_release {
            self.release(id);
        }
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let now = self.now;
        let Participant { peer, outbox: Outbox { batch: queue, held, .. }, .. } = participant;
        let mut reports = Vec::new();
        let mut undecided = queue.len();
        let result = guarded(Site::Forward, || {
            for run in queue.chunk_by(|a, b| (a.m_line, a.track) == (b.m_line, b.track)) {
                let BatchPacket { m_line, track, .. } = run[0];
                let packet = |queued: &BatchPacket| &self.turn.batch[queued.packet as usize].1;
                let mut to_hold = run.len();
                // If packets are held already, later video waits behind them.
                if held.is_empty() || packet(&run[0]).codec == Codec::Opus {
                    let packets = run.iter().map(packet);
                    let datagrams = &mut self.outputs.datagrams;
                    let forwarded = peer.sending.forward(now, m_line as usize, track, packets, false, datagrams);
                    self.stats.packets_forwarded += forwarded.sent;
                    if (forwarded.sent as usize) + forwarded.held < run.len() {
                        self.stats.drops.add_run(&forwarded.dropped);
                    }
                    to_hold = forwarded.held;
                    undecided -= run.len() - to_hold;
                    if forwarded.needs_handling() {
                        reports.push((m_line as usize, track, forwarded));
                    }
                }
                // Most runs are sent whole.
                if to_hold == 0 {
                    continue;
                }
                undecided -= to_hold;
                let rest = run[run.len() - to_hold..].iter().map(packet);
                held.extend(rest.map(|packet| HeldPacket {
                    since: now,
                    position: packet.position,
                    layer: packet.layer,
                    m_line,
                    track,
                }));
            }
            peer.sending.report(now, &self.profile, &mut self.outputs.datagrams);
            Ok(())
        });
        queue.clear();
        let is_held = !held.is_empty();
        let lacks_feedback = peer.sending.poll_missing_feedback();
        if let Err(error) = result {
            self.stats.drops.add(DropReason::PeerEnded, undecided as u64);
            return self.failed_sending(id, error);
        }
        for (m_line, track, forwarded) in reports {
            self.on_forwarded(id, m_line, track, forwarded);
        }
        if is_held || needs_release {
            self.schedule_pace(id);
        }
        if lacks_feedback {
            self.queue(Work::Allocate, id);
        }
    }

    /// Moves the delivered batch into the retransmission histories.
    pub(in crate::server) fn archive(&mut self) {
        for (publisher, packet) in self.turn.batch.drain(..) {
            let track = TrackId { publisher, mid: packet.mid };
            if let Some(track) = self.participants.track_mut(track).filter(|track| track.kind == Kind::Video) {
                track.history.push(self.now, packet);
            }
        }
    }

    /// Ends a participant's peer that failed while writing, and discards the half-written datagram.
    pub(super) fn failed_sending(&mut self, id: PeerId, error: PeerError) {
        self.outputs.datagrams.abandon();
        self.turn.fail(id, error);
    }
}
