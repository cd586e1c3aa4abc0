//! Pacing: holds video back so that it leaves at the rate of the subscriber's path, and sends the padding of probes.

use crate::drop_reason::DropReason;
use crate::id::{PeerId, TrackId};
use crate::media::bandwidth::pacer::Pacer;
use crate::media::fault::{Site, guarded};
use crate::media::subscribe::egress::Egress;
use crate::media::subscribe::sending::Forwarded;
use crate::server::Server;
use crate::server::forwarding::outbox::HeldPacket;
use crate::server::participants::Work;
use crate::timers::Waiter;

/// Number of recent packets that probes repeat as padding.
const PADDING_PACKETS: u16 = 64;

/// Maximum number of padding packets sent at once for a probe.
const PADDING_BURST: usize = 128;

/// Upper bound of the memory of the packets held for one subscriber, in bytes, if each of its publishers sends this
/// many packets per second.
pub const fn held_max_bytes(publishers: usize, packets_per_second: usize) -> usize {
    let packets = publishers * (packets_per_second * Pacer::MAX_PATIENCE.as_millis() as usize).div_ceil(1_000);
    2 * packets * size_of::<HeldPacket>()
}

impl Server {
    /// Sends the held packets that may be sent now, and padding for the probe. The caller sets the timer for the rest
    /// (`schedule_pace`).
    pub(in crate::server) fn release(&mut self, id: PeerId) {
        let now = self.now;
        let mut oldest = None;
        while let Some(&HeldPacket { since, position, m_line, track, .. }) =
            self.participants.get(id).and_then(|participant| participant.outbox.held.front())
        {
            let published = self.participants.track(track);
            let packet = published.and_then(|track| track.history.find(position)).cloned();
            let Some(participant) = self.participants.get_mut(id) else {
                return;
            };
            let Some(packet) = packet else {
                participant.outbox.held.pop_front();
                self.count_dropped(id, m_line as usize, DropReason::HeldTooLong, 1);
                continue;
            };
            let overdue =
                participant.peer.sending.egress.as_ref().is_none_or(|egress| now >= since + egress.pacer.patience());
            let one = std::iter::once(&packet);
            let sending = &mut participant.peer.sending;
            let datagrams = &mut self.outputs.datagrams;
            let forward = || Ok(sending.forward(now, m_line as usize, track, one, overdue, datagrams));
            let forwarded = match guarded(Site::Release, forward) {
                Ok(forwarded) => forwarded,
                Err(error) => return self.failed_sending(id, error),
            };
            if forwarded.held > 0 {
                break;
            }
            participant.outbox.held.pop_front();
            self.stats.packets_forwarded += forwarded.sent;
            if forwarded.sent == 0 {
                self.stats.drops.add_run(&forwarded.dropped);
            }
            if forwarded.sent > 0 {
                self.stats.packets_paced += forwarded.sent;
                oldest.get_or_insert(since);
            }
            self.on_forwarded(id, m_line as usize, track, forwarded);
        }
        if let Some(since) = oldest {
            self.stats.forward_delay.observe(now - since);
        }
        self.fill_probe(id);
    }

    /// Starts a probe if one is due. Call it after a change of the estimate and after an allocation.
    pub(in crate::server) fn probe(&mut self, id: PeerId) {
        let now = self.now;
        if let Some(participant) = self.participants.get_mut(id) {
            participant.peer.sending.start_probe(now);
        }
        self.fill_probe(id);
        self.schedule_pace(id);
    }

    /// Sets the timer for the next held packet, padding packet or probe.
    pub(in crate::server) fn schedule_pace(&mut self, id: PeerId) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let release =
            if participant.outbox.held.is_empty() { None } else { participant.peer.sending.next_release(now) };
        let padding = participant.peer.sending.egress.as_ref().and_then(|egress| egress.next_padding(now));
        let probe = participant.peer.sending.next_probe();
        if let Some(deadline) = release.into_iter().chain(padding).chain(probe).min() {
            self.timers.set(Waiter::Pace(id), deadline);
        }
    }

    /// Applies layer switches, keyframe requests and codec errors that forwarding reported.
    pub(in crate::server) fn on_forwarded(&mut self, id: PeerId, m_line: usize, track: TrackId, forwarded: Forwarded) {
        if forwarded.switched {
            self.update_subscription(id, m_line, track);
        }
        if let Some((layer, reason)) = forwarded.awaits_keyframe {
            self.request_keyframe(track, layer, reason);
        }
        if forwarded.cannot_decode {
            self.report_cannot_decode(id, track);
        }
        if forwarded.switched || forwarded.cannot_decode {
            self.queue(Work::ReportQuality, id);
        }
    }

    /// Sends the padding that the running probe needs now.
    fn fill_probe(&mut self, id: PeerId) {
        for _ in 0..PADDING_BURST {
            if !self.poll_padding(id) {
                break;
            }
            if !self.send_padding(id) {
                if let Some(egress) = self.egress(id) {
                    egress.end_probe();
                }
                break;
            }
        }
    }

    /// Returns true if the running probe needs another packet now. Ends a probe that has all of its packets.
    fn poll_padding(&mut self, id: PeerId) -> bool {
        let now = self.now;
        self.egress(id).is_some_and(|egress| egress.poll_padding(now))
    }

    fn egress(&mut self, id: PeerId) -> Option<&mut Egress> {
        self.participants.get_mut(id)?.peer.sending.egress.as_mut()
    }

    /// Sends one padding packet. Returns false if that is impossible.
    fn send_padding(&mut self, id: PeerId) -> bool {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return false;
        };
        let index = (participant.outbox.padding_index + 1) % PADDING_PACKETS;
        participant.outbox.padding_index = index;
        let sending = &participant.peer.sending;
        let recent = sending.padding(index).or_else(|| sending.padding(0));
        let again = recent.and_then(|(m_line, track, sent)| {
            Some((m_line, sent, self.participants.track(track)?.history.find(sent.position)?.clone()))
        });
        let again = again.as_ref().map(|(m_line, sent, packet)| (*m_line, *sent, packet));
        let Some(participant) = self.participants.get_mut(id) else {
            return false;
        };
        match guarded(Site::Padding, || {
            Ok(participant.peer.sending.send_padding(now, again, &mut self.outputs.datagrams))
        }) {
            Ok(is_sent) => {
                self.stats.packets_padding += u64::from(is_sent);
                is_sent
            }
            Err(error) => {
                self.failed_sending(id, error);
                false
            }
        }
    }
}
