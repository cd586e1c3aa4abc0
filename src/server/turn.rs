//! One turn of the server: the queues of work that inputs have caused, and the order in which the work is done.

use std::collections::VecDeque;
use std::time::Duration;

use super::Server;
use super::forwarding::outbox::BATCH_PACKETS;
use super::output::Output;
use super::participants::{Participant, Participants, Work};
use crate::id::{PeerId, TrackId};
use crate::media::fault::PeerError;
use crate::media::peer::PeerEvent;
use crate::media::rtp::packet::{MAX_PAYLOAD, Packet};
use crate::timers::Waiter;

/// Upper bound of the memory of packets being distributed, and of those that wait for the next batch, in bytes.
pub const BATCHES_BYTES: usize = 4 * BATCH_PACKETS * (size_of::<(PeerId, Packet)>() + MAX_PAYLOAD);

/// Upper bound of the memory of one participant's entries in the work queues, in bytes. Each queue holds a participant
/// or a room at most once.
pub const WORK_BYTES: usize = 16 * size_of::<TrackId>() + size_of::<(PeerId, PeerError)>() + 4 * size_of::<PeerEvent>();

/// The queues of a turn.
#[derive(Default)]
pub struct Turn {
    progress: Progress,
    /// Peers to end, with the error.
    failed: VecDeque<(PeerId, PeerError)>,
    /// Rooms whose seats have to be reassigned.
    seatings: Vec<String>,
    /// Received packets that wait for the next batch, with their publishers.
    pub arrived: Vec<(PeerId, Packet)>,
    /// Packets being distributed to subscribers. `BatchPacket::packet` is an index into them.
    pub batch: Vec<(PeerId, Packet)>,
    /// Subscribers with packets in their `Outbox`, or whose pacer is due.
    pub receivers: VecDeque<PeerId>,
    /// Participants with queued work, by `Work`.
    queued: [VecDeque<PeerId>; Work::COUNT],
    /// A buffer for the events of one peer.
    pub peer_events: Vec<PeerEvent>,
}

/// The progress of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    /// There is new input. Due timers, offers and answers have not been checked since.
    Fresh,
    /// Queued work is being done.
    Working,
    /// No work is left.
    #[default]
    Settled,
}

impl Turn {
    /// Starts a turn, because there is an input.
    pub fn start(&mut self) {
        self.progress = Progress::Fresh;
    }

    pub fn is_settled(&self) -> bool {
        self.progress == Progress::Settled
    }

    /// Whether the next turn has work even without input, since each turn processes only one offer or answer.
    pub fn has_next(&self) -> bool {
        !self.queued[Work::Negotiate as usize].is_empty()
    }

    /// Queues a peer to be ended. Only its first error is kept.
    pub fn fail(&mut self, id: PeerId, error: PeerError) {
        if !self.has_failed(id) {
            self.failed.push_back((id, error));
        }
    }

    /// Whether a peer is queued to be ended. The queue is empty in almost every turn.
    pub fn has_failed(&self, id: PeerId) -> bool {
        self.failed.iter().any(|(failed, _)| *failed == id)
    }

    /// Queues the reassignment of a room's seats, once for all changes of a batch.
    pub fn queue_seating(&mut self, room: &str) {
        if !self.seatings.iter().any(|queued| queued == room) {
            self.seatings.push(room.to_owned());
        }
    }

    /// Queues work on a participant, unless it is queued already.
    pub fn queue(&mut self, work: Work, id: PeerId, participant: &mut Participant) {
        if participant.queued.insert(work) {
            self.queued[work as usize].push_back(id);
        }
    }

    /// Removes the next participant that has queued work.
    fn pop(&mut self, work: Work, participants: &mut Participants) -> Option<PeerId> {
        let id = self.queued[work as usize].pop_front()?;
        if let Some(participant) = participants.get_mut(id) {
            participant.queued.remove(work);
        }
        Some(id)
    }
}

impl Server {
    /// Records how long the event loop was awake in a turn. This is also taken as the delay of the packets that the
    /// turn forwarded without holding them: reading the clock again when they are sent would cost time.
    pub fn record_turn(&mut self, awake: Duration) {
        self.stats.turn.observe(awake);
        let forwarded = self.stats.packets_forwarded_unpaced();
        if std::mem::replace(&mut self.stats.packets_recorded, forwarded) != forwarded {
            self.stats.forward_delay.observe(awake);
        }
    }

    /// Does one step of the pending work. As far as possible, steps that produce work come before those that consume
    /// it, so that each consumer runs once per turn.
    pub(super) fn work(&mut self) {
        if self.turn.progress == Progress::Fresh {
            // Due timers queue their work first.
            self.start_turn();
        } else if let Some((peer, error)) = self.turn.failed.pop_front() {
            // The state of a failed peer is not trustworthy: no other step may see it.
            self.on_failed(peer, &error);
        } else if let Some(room) = self.turn.seatings.pop() {
            // Before packets are distributed, so that subscribers with a new seat get them too.
            self.seat_room(&room);
        } else if let Some(peer) = self.turn.receivers.pop_front() {
            // Outboxes refer to this batch by index, so they are emptied before the next one. Its packets are in the
            // processor's cache.
            self.forward_batch(peer);
        } else if let Some(peer) = self.turn.pop(Work::Drive, &mut self.participants) {
            // Driving a peer yields packets of the next batch.
            self.drive(peer);
        } else if !self.turn.batch.is_empty() || !self.turn.arrived.is_empty() {
            // No peer is left to drive, so the batch is complete: each subscriber gets all its packets at once.
            self.archive();
            self.distribute();
        } else if let Some(peer) = self.turn.pop(Work::Allocate, &mut self.participants) {
            // A single run covers all feedback, views and changed layers of the turn. The new layers apply from the
            // next batch on.
            self.allocate(peer);
        } else if let Some(peer) = self.turn.pop(Work::ReportQuality, &mut self.participants) {
            // A single run covers all allocations and layer switches.
            self.send_quality(peer);
        } else if let Some(conn) = self.conns.pop_touched() {
            // Last, since all other steps send messages: each connection is then written once. Handling the
            // connection's events may queue more work.
            self.on_touched(conn);
        } else {
            if self.admission.has_drained(self.conns.len()) {
                self.outputs.push(Output::Exit);
            }
            self.turn.progress = Progress::Settled;
        }
    }

    /// Queues work on a participant for this turn.
    pub(super) fn queue(&mut self, work: Work, id: PeerId) {
        if let Some(participant) = self.participants.get_mut(id) {
            self.turn.queue(work, id, participant);
        }
    }

    fn start_turn(&mut self) {
        self.stats.turns += 1;
        while let Some(waiter) = self.timers.take_due(self.now) {
            self.on_due(waiter);
        }
        // One in a turn, since each takes milliseconds in a large room.
        if let Some(peer) = self.turn.pop(Work::Negotiate, &mut self.participants) {
            self.negotiate(peer);
        }
        self.reallocate();
        self.turn.progress = Progress::Working;
    }

    fn on_due(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Conn(conn) => {
                if let Some(conn) = self.conns.touch(conn) {
                    conn.handle_timeout(self.now);
                }
            }
            Waiter::Peer(peer) => self.queue(Work::Drive, peer),
            Waiter::Offer(peer) => self.queue(Work::Negotiate, peer),
            Waiter::Pace(peer) => {
                // Feedback starts probes too, but there is no feedback without media.
                let probe = self.participants.get(peer).and_then(|participant| participant.peer.sending.next_probe());
                if probe.is_some_and(|due| due <= self.now) {
                    self.probe(peer);
                }
                self.turn.receivers.push_back(peer);
            }
            Waiter::Seats(peer) => self.seat_participant(peer),
            Waiter::Return(peer) => self.leave(peer, "did not return in time"),
            Waiter::Server => self.on_drained(),
        }
    }
}
