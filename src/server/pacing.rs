//! Pacing: sends video later than it arrived where a subscriber's path is slower, and probes the path.

use std::time::{Duration, Instant};

use super::{Held, Server};
use crate::id::{PeerId, TrackId};
use crate::media::fault::{Site, guarded};
use crate::media::subscribe::sending::Forwarded;
use crate::timers::Waiter;

/// How long the pacer holds a packet at most. A longer time would delay the picture more than a queue on the path does.
const PATIENCE: Duration = Duration::from_millis(100);

/// The number of latest packets that are repeated as padding in probes.
const PADDING: u16 = 64;

/// The most padding packets sent at once for a probe.
const BURST: usize = 128;

/// The most memory of packets held for one subscriber, in bytes, if each of its publishers sends this many packets per
/// second.
pub(super) const fn held_max_bytes(publishers: usize, packets_per_second: usize) -> usize {
    let packets = publishers * packets_per_second * PATIENCE.as_millis() as usize / 1_000;
    2 * packets * size_of::<Held>()
}

impl Server {
    /// Sends the held packets that may be sent now, and padding for the probe. The caller schedules the next time.
    pub(super) fn release(&mut self, id: PeerId) {
        let now = self.now;
        while let Some(&Held { since, position, line, track, .. }) =
            self.member(id).and_then(|member| member.held.front())
        {
            let published = self.member(track.publisher).and_then(|member| member.participant.track(track.mid));
            let packet = published.and_then(|track| track.history.find(position)).cloned();
            let Some(member) = self.slots[id.slot as usize].member.as_deref_mut() else {
                return;
            };
            let Some(packet) = packet else {
                member.held.pop_front();
                self.stats.packets_skipped += 1;
                continue;
            };
            let overdue = now >= since + PATIENCE;
            let one = std::iter::once(&packet);
            let forward =
                || Ok(member.peer.sending.forward(now, line as usize, track, one, overdue, &mut self.datagrams));
            let forwarded = match guarded(Site::Release, forward) {
                Ok(forwarded) => forwarded,
                Err(error) => return self.failed_sending(id, error),
            };
            if forwarded.held > 0 {
                break;
            }
            member.held.pop_front();
            self.stats.packets_forwarded += forwarded.sent;
            self.stats.packets_skipped += forwarded.skipped;
            self.on_forwarded(id, line as usize, track, forwarded);
        }
        self.fill_probe(id);
    }

    /// Starts a probe if one is due, after the estimate has changed or was used up.
    pub(super) fn probe(&mut self, id: PeerId) {
        let now = self.now;
        if let Some(member) = self.member_mut(id) {
            member.peer.sending.start_probe(now);
        }
        self.fill_probe(id);
        self.schedule_pace(id);
    }

    /// Sets the timer for the next held packet, padding packet or probe.
    pub(super) fn schedule_pace(&mut self, id: PeerId) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        let release = if member.held.is_empty() { None } else { member.peer.sending.next_release(now) };
        let padding = member.peer.sending.egress.as_ref().and_then(|egress| egress.next_padding(now));
        let probe = member.peer.sending.next_probe();
        if let Some(deadline) = release.into_iter().chain(padding).chain(probe).min() {
            self.timers.set(Waiter::Pace(id), deadline);
        }
    }

    /// Handles the consequences of forwarding beside the packets themselves.
    pub(super) fn on_forwarded(&mut self, id: PeerId, line: usize, track: TrackId, forwarded: Forwarded) {
        if forwarded.switched {
            self.update_subscription(id, line, track);
        }
        if let Some((layer, reason)) = forwarded.awaits_keyframe {
            self.request_keyframe(track, layer, reason);
        }
        if forwarded.cannot_decode {
            self.report_cannot_decode(id, track);
        }
        if forwarded.switched || forwarded.cannot_decode {
            self.queue_quality(id);
        }
    }

    fn fill_probe(&mut self, id: PeerId) {
        for _ in 0..BURST {
            if !self.needs_padding(id) {
                break;
            }
            if !self.pad(id) {
                if let Some(egress) = self.member_mut(id).and_then(|member| member.peer.sending.egress.as_mut()) {
                    egress.end_probe();
                }
                break;
            }
        }
    }

    fn needs_padding(&mut self, id: PeerId) -> bool {
        let now: Instant = self.now;
        let egress = self.member_mut(id).and_then(|member| member.peer.sending.egress.as_mut());
        egress.is_some_and(|egress| egress.poll_padding(now))
    }

    /// Sends one padding packet; false if that is impossible.
    fn pad(&mut self, id: PeerId) -> bool {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return false;
        };
        member.padding_index = (member.padding_index + 1) % PADDING;
        let sending = &member.peer.sending;
        let latest = sending.padding(member.padding_index).or_else(|| sending.padding(0));
        let again = latest.and_then(|(line, track, sent)| {
            let published = self.member(track.publisher)?.participant.track(track.mid)?;
            Some((line, sent, published.history.find(sent.position)?.clone()))
        });
        let again = again.as_ref().map(|(line, sent, packet)| (*line, *sent, packet));
        let Some(member) = self.slots[id.slot as usize].member.as_deref_mut() else {
            return false;
        };
        match guarded(Site::Padding, || Ok(member.peer.sending.pad(now, again, &mut self.datagrams))) {
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
