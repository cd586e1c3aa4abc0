//! Forwarding: the path of a packet from a datagram through peer, track and subscribers to datagrams.

use std::net::SocketAddr;

use log::{Level, debug, log};
use str0m::format::Codec;
use str0m::media::Mid;

use super::{Held, Queued, Server};
use crate::id::{PeerId, TrackId};
use crate::media::fault::{PeerError, Site, guarded};
use crate::media::negotiation::profile;
use crate::media::peer::PeerEvent;
use crate::media::publish::keyframe::Reason;
use crate::media::rtp::packet::MAX_PAYLOAD;
use crate::media::subscribe::requests::Request;
use crate::media::subscribe::rtx::Sent;
use crate::media::transport::demux::Match;
use crate::media::transport::route::Route;
use crate::room::Track;
use crate::timers::Waiter;
use crate::track::{Kind, Source};
use crate::web::signal::ServerMessage;

impl Server {
    /// Passes a datagram to the peer that it belongs to and handles the consequences.
    pub(super) fn on_datagram(&mut self, source: SocketAddr, local: SocketAddr, contents: &[u8]) {
        self.stats.datagrams_in += 1;
        let now = self.now;
        let id = match self.demux.find(source, contents) {
            Match::Known(id) => Some(id),
            Match::Claimed(_) if !self.unverified_checks.take(now) => {
                self.stats.datagrams_excess += 1;
                return;
            }
            // An address stays with its peer while that peer holds ICE consent on it.
            Match::Claimed(id) => {
                self.demux.holder(source).is_none_or(|holder| holder == id || !self.holds(holder, source)).then_some(id)
            }
            Match::Unknown => None,
        };
        let Some(id) = id else {
            self.stats.datagrams_unknown += 1;
            return;
        };
        let announced = self.announced(local);
        let Some(member) = self.member_mut(id) else {
            return;
        };
        let route = Route { remote: source, local };
        let result = guarded(Site::Datagram, || member.peer.handle_datagram(now, route, announced, contents));
        let excess = member.peer.take_excess();
        let has_estimate = member.peer.sending.take_estimate();
        let needs_allocation = has_estimate && member.peer.sending.needs_allocation(now);
        let has_hole = has_estimate && member.peer.sending.take_hole();
        let needs_drain = member.peer.needs_drain();
        self.stats.datagrams_excess += excess;
        match result {
            Ok(Some(validated)) => {
                if let Some(evicted) = validated.evicted {
                    self.demux.remove_address(evicted, id);
                }
                self.demux.insert_address(source, id);
            }
            Ok(None) => {}
            Err(error) => return self.failed.push_back((id, error)),
        }
        if needs_drain {
            self.drain(id);
        }
        if has_hole {
            self.request_keyframes(id, Reason::Loss);
        }
        if needs_allocation {
            self.queue_allocation(id);
        } else if has_estimate {
            self.probe(id);
        }
    }

    /// Queues the received packets for their subscribers and requests keyframes from publishers.
    pub(super) fn distribute(&mut self) {
        std::mem::swap(&mut self.batch, &mut self.packets);
        for index in 0..self.batch.len() {
            if !self.is_heard(index) {
                self.stats.packets_quiet += 1;
                continue;
            }
            let (publisher, packet) = &mut self.batch[index];
            let (publisher, mid) = (*publisher, packet.mid);
            self.stats.packets_in += 1;
            let slot = &mut self.slots[publisher.slot as usize];
            let Some(member) = slot.member.as_deref_mut().filter(|_| slot.generation == publisher.generation) else {
                continue;
            };
            let Some(track) = member.participant.track_mut(mid) else {
                continue;
            };
            let layer = packet.layer;
            let (mut has_changed, mut request, mut new_wanted) = (false, None, None);
            if track.kind == Kind::Video {
                packet.position = track.history.take_position();
                track.layers.handle_packet(self.now, packet);
                if track.layers.measure(self.now) {
                    let wanted = track.subscribers.iter().map(|subscriber| subscriber.wanted).max().unwrap_or_default();
                    new_wanted = track.layers.want(self.now, wanted).then_some(wanted);
                }
                has_changed = track.layers.take_changed();
                request = track.layers.poll_request(self.now);
            }
            let subscribers = std::mem::take(&mut track.subscribers);
            let track = TrackId { publisher, mid };
            if let Some((layer, reason)) = request {
                member.peer.request_keyframe(mid, layer);
                self.stats.keyframe_requests[reason as usize] += 1;
                self.mark_dirty(publisher);
            }
            if has_changed {
                self.changed.push(track);
            }
            if let Some(wanted) = new_wanted {
                self.send_wanted_layers(track, wanted);
            }
            for subscriber in subscribers.iter().filter(|subscriber| subscriber.layers & 1 << layer != 0) {
                let slot = &mut self.slots[subscriber.peer.slot as usize];
                let is_there = slot.generation == subscriber.peer.generation;
                if let Some(member) = slot.member.as_deref_mut().filter(|_| is_there) {
                    if member.queue.is_empty() {
                        self.receivers.push_back(subscriber.peer);
                    }
                    member.queue.push(Queued { packet: index as u32, line: subscriber.line as u32, track });
                }
            }
            if let Some(track) = self.member_mut(publisher).and_then(|m| m.participant.track_mut(mid)) {
                track.subscribers = subscribers;
            }
        }
    }

    /// Whether a packet of the batch is forwarded: in a large room only the loudest microphones are. Passes the audio
    /// level, or the packet size without one, to the detection of speakers.
    fn is_heard(&mut self, index: usize) -> bool {
        let (publisher, packet) = &mut self.batch[index];
        if packet.codec != Codec::Opus {
            return true;
        }
        let slot = &self.slots[publisher.slot as usize];
        let Some(member) = slot.member.as_deref().filter(|_| slot.generation == publisher.generation) else {
            return true;
        };
        let track = member.participant.track(packet.mid);
        let room = self.rooms.get_mut(&member.participant.room);
        let (Some(Source::Microphone), Some(room)) = (track.map(|track| track.source), room) else {
            return true;
        };
        let heard = self.config.limits.places(room.members().len());
        let epoch = match profile::audio_level(&packet.elements) {
            Some(level) => room.speakers.handle_level(self.now, *publisher, level, heard),
            None => {
                let bytes = packet.payload.len() - packet.redundant.unwrap_or_default();
                room.speakers.handle_size(self.now, *publisher, bytes, heard)
            }
        };
        if room.speakers.poll_change(self.now) {
            self.speaking.push(member.participant.room.clone());
        }
        packet.incoming.epoch = epoch.unwrap_or_default();
        // Seats are assigned at once, so that this packet also reaches subscribers that had no seat for the publisher.
        if room.speakers.poll_turn(self.now) {
            let name = member.participant.room.clone();
            self.seat_room(&name);
        }
        epoch.is_some()
    }

    /// Sends `speaking` to rooms whose speakers have changed.
    pub(super) fn broadcast_speakers(&mut self) {
        while let Some(name) = self.speaking.pop() {
            let speaking = self.rooms.get(&name).map_or(&[][..], |room| room.speakers.reported());
            let ids = speaking.iter().filter_map(|id| self.member(*id)).map(|member| &*member.participant.id);
            let message = ServerMessage::Speaking { ids: ids.collect() }.to_json();
            self.broadcast_text(&name, None, &message);
            self.reallocate_speakers(&name);
        }
    }

    /// Moves the delivered batch into the retransmission histories.
    pub(super) fn archive(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        for (publisher, packet) in batch.drain(..) {
            let now = self.now;
            let track = self.member_mut(publisher).and_then(|member| member.participant.track_mut(packet.mid));
            if let Some(track) = track.filter(|track| track.kind == Kind::Video) {
                track.history.push(now, packet);
            }
        }
        self.batch = batch;
    }

    /// Forwards the queued packets of one participant.
    pub(super) fn on_receiver(&mut self, id: PeerId) {
        // Most participants have no held packets.
        let is_paced =
            self.member(id).is_some_and(|member| !member.held.is_empty() || member.peer.sending.is_probing());
        if is_paced {
            self.release(id);
        }
        let slot = &mut self.slots[id.slot as usize];
        let Some(member) = slot.member.as_deref_mut().filter(|_| slot.generation == id.generation) else {
            return;
        };
        let now = self.now;
        let mut queue = std::mem::take(&mut member.queue);
        let mut reports = Vec::new();
        let result = guarded(Site::Forward, || {
            for run in queue.chunk_by(|a, b| (a.line, a.track) == (b.line, b.track)) {
                let Queued { line, track, .. } = run[0];
                let packet = |queued: &Queued| &self.batch[queued.packet as usize].1;
                let mut held = run.len();
                // Held packets are sent first.
                if member.held.is_empty() || packet(&run[0]).codec == Codec::Opus {
                    let packets = run.iter().map(packet);
                    let sending = &mut member.peer.sending;
                    let forwarded = sending.forward(now, line as usize, track, packets, false, &mut self.datagrams);
                    self.stats.packets_forwarded += forwarded.sent;
                    self.stats.packets_skipped += forwarded.skipped;
                    held = forwarded.held;
                    if forwarded.has_news() {
                        reports.push((line as usize, track, forwarded));
                    }
                }
                let held = run[run.len() - held..].iter().map(packet);
                let held =
                    held.map(|packet| Held { since: now, position: packet.position, layer: packet.layer, line, track });
                member.held.extend(held);
            }
            member.peer.sending.report(now, &self.profile, &mut self.datagrams);
            Ok(())
        });
        queue.clear();
        member.queue = queue;
        let (is_held, is_ignored) = (!member.held.is_empty(), member.peer.sending.poll_ignored());
        if let Err(error) = result {
            return self.failed_sending(id, error);
        }
        for (line, track, forwarded) in reports {
            self.on_forwarded(id, line, track, forwarded);
        }
        if is_held || is_paced {
            self.schedule_pace(id);
        }
        if is_ignored {
            self.queue_allocation(id);
        }
    }

    /// Ends a participant's peer that failed while writing, and discards the half-written datagram.
    pub(super) fn failed_sending(&mut self, id: PeerId, error: PeerError) {
        self.datagrams.abandon();
        self.failed.push_back((id, error));
    }

    /// Passes the time to a participant's peer and drains it.
    pub(super) fn on_dirty(&mut self, id: PeerId) {
        let now = self.now;
        self.stats.peer_timeouts += 1;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        member.is_dirty = false;
        // The history of a track that sends nothing is freed, and its subscribers are notified.
        let expire = |track: &mut Track| {
            track.history.expire(now);
            track.layers.expire(now).then_some(TrackId { publisher: id, mid: track.mid })
        };
        let changed: Vec<TrackId> = member.participant.tracks.iter_mut().filter_map(expire).collect();
        let result = guarded(Site::Timeout, || member.peer.handle_timeout(now));
        if !changed.is_empty() {
            self.changed.extend(changed);
            self.on_layers();
        }
        match result {
            Ok(()) => self.drain(id),
            Err(error) => self.failed.push_back((id, error)),
        }
    }

    /// Retransmits a packet that a subscriber has lost, if it is still in the history.
    fn resend(&mut self, id: PeerId, line: usize, sent: Sent) {
        let Some((track, layer)) = self.member(id).and_then(|member| member.peer.sending.carried(line)) else {
            return;
        };
        let published = self.member(track.publisher).and_then(|member| member.participant.track(track.mid));
        let Some(packet) = published.and_then(|track| track.history.find(sent.position)).cloned() else {
            return self.request_keyframe(track, layer, Reason::Loss);
        };
        let slot = &mut self.slots[id.slot as usize];
        let Some(member) = slot.member.as_deref_mut() else {
            return;
        };
        match guarded(Site::Resend, || {
            Ok(member.peer.sending.resend(self.now, line, sent, &packet, &mut self.datagrams))
        }) {
            Ok(true) => self.stats.packets_resent += 1,
            Ok(false) => self.stats.packets_not_resent += 1,
            Err(error) => self.failed_sending(id, error),
        }
    }

    /// Requests a keyframe of a layer from the publisher for a subscriber: now if the rate limit allows, else with a
    /// later packet.
    pub(super) fn request_keyframe(&mut self, track: TrackId, layer: u8, reason: Reason) {
        let now = self.now;
        let Some(member) = self.member_mut(track.publisher) else {
            return;
        };
        let Some(published) = member.participant.track_mut(track.mid) else {
            return;
        };
        if published.kind == Kind::Audio {
            return;
        }
        let layer = published.layers.nearest(layer);
        published.layers.request_keyframe(layer, reason);
        if let Some((layer, reason)) = published.layers.poll_request(now) {
            member.peer.request_keyframe(track.mid, layer);
            self.stats.keyframe_requests[reason as usize] += 1;
            self.mark_dirty(track.publisher);
        }
    }

    /// Queues a participant's `Rtc` to be driven and drained before the loop sleeps.
    pub(super) fn mark_dirty(&mut self, id: PeerId) {
        if let Some(member) = self.member_mut(id)
            && !std::mem::replace(&mut member.is_dirty, true)
        {
            self.dirty.push_back(id);
        }
    }

    /// Takes all output and events from a participant's `Rtc` and sets its timer.
    fn drain(&mut self, id: PeerId) {
        let (now, slot) = (self.now, &mut self.slots[id.slot as usize]);
        let Some(member) = slot.member.as_deref_mut().filter(|_| slot.generation == id.generation) else {
            return;
        };
        let drained = guarded(Site::Drain, || member.peer.drain(now, &mut self.datagrams, &mut self.peer_events));
        let oversized = member.peer.take_oversized();
        let unconfigured = member.peer.take_unconfigured();
        if let Some(deadline) = member.peer.next_timeout() {
            self.timers.set(Waiter::Peer(id), deadline);
        }
        let mut events = std::mem::take(&mut self.peer_events);
        for event in events.drain(..) {
            match event {
                PeerEvent::Packet(packet) if self.is_silenced(id, packet.mid) => self.stats.packets_quiet += 1,
                PeerEvent::Packet(packet) => self.packets.push((id, packet)),
                PeerEvent::Request(Request::Keyframe { m_line: line }) => {
                    if let Some((track, layer)) = self.member(id).and_then(|member| member.peer.sending.carried(line)) {
                        self.request_keyframe(track, layer, Reason::Pli);
                    }
                }
                PeerEvent::Request(Request::Packet { m_line: line, sent }) => self.resend(id, line, sent),
                PeerEvent::Connected => self.on_connected(id),
                PeerEvent::Consent { is_held } => self.on_consent(id, is_held),
            }
        }
        self.peer_events = events;
        if let (count @ 1.., mid) = oversized {
            self.stats.packets_oversized += count;
            self.report_oversized(id, mid);
            if let Some(mid) = mid {
                self.on_oversized(TrackId { publisher: id, mid });
            }
        }
        if unconfigured > 0 {
            self.stats.configurations_dropped += unconfigured;
            let level = if self.warnings.take(now) { Level::Warn } else { Level::Debug };
            log!(level, "{id} sends more codec configuration than is kept; late subscribers may see no picture");
        }
        if let Err(error) = drained {
            self.failed_sending(id, error);
        }
    }

    /// Notifies a publisher, once per stay, that packets of a track are too large to forward.
    fn report_oversized(&mut self, id: PeerId, mid: Option<Mid>) {
        let now = self.now;
        let Some(member) = self.member_mut(id).filter(|member| !member.has_reported_oversized) else {
            return;
        };
        member.has_reported_oversized = true;
        let source = mid.and_then(|mid| member.participant.track(mid)).map(|track| track.source);
        let (own, room) = (member.participant.id.clone(), member.participant.room.clone());
        let level = if self.warnings.take(now) { Level::Warn } else { Level::Debug };
        log!(
            level,
            "{id} in room {room:?} sends RTP payloads of more than {MAX_PAYLOAD} bytes: dropped; lower the client's MTU"
        );
        let message = format!(
            "This client sends packets of more than {MAX_PAYLOAD} bytes, which cannot be forwarded. Lower its MTU."
        );
        let code = "packet-too-large";
        self.send(id, &ServerMessage::Error { code, message: &message, retry: false, id: Some(&own), source });
    }

    /// Whether a moderator has muted the track on this m-line.
    fn is_silenced(&self, id: PeerId, mid: Mid) -> bool {
        let Some(participant) = self.member(id).map(|member| &member.participant) else {
            return false;
        };
        participant.is_silenced && participant.track(mid).is_some_and(|track| track.source == Source::Microphone)
    }

    /// Media has connected: computes the allocation and requests keyframes of the subscribed tracks.
    fn on_connected(&mut self, id: PeerId) {
        self.on_media(id);
        debug!("{id}: media connected");
        // Nothing bounded the bitrate before there was an estimate.
        self.on_allocation(id);
        self.request_keyframes(id, Reason::Join);
    }

    /// Requests keyframes on all m-lines that forward to a participant.
    fn request_keyframes(&mut self, id: PeerId, reason: Reason) {
        let Some(member) = self.member(id) else {
            return;
        };
        let lines = 0..member.peer.negotiation.m_lines().len();
        let tracks: Vec<_> = lines.filter_map(|line| member.peer.sending.carried(line)).collect();
        for (track, layer) in tracks {
            self.request_keyframe(track, layer, reason);
        }
    }

    pub(super) fn report_cannot_decode(&mut self, id: PeerId, track: TrackId) {
        let Some(publisher) = self.member(track.publisher) else {
            return;
        };
        let published = publisher.participant.track(track.mid);
        let source = published.map(|track| track.source);
        let (publisher_id, name) = (publisher.participant.id.clone(), &publisher.participant.name);
        let message = match published.map(|track| track.kind) {
            Some(Kind::Audio) => format!("{name} sends audio in a format that this browser cannot play."),
            _ => format!("{name} sends video in a format that this browser cannot show."),
        };
        let error = ServerMessage::Error {
            code: "cannot-decode",
            message: &message,
            retry: false,
            id: Some(&publisher_id),
            source,
        };
        self.send(id, &error);
    }

    fn holds(&self, id: PeerId, source: SocketAddr) -> bool {
        self.member(id).is_some_and(|member| member.peer.sending.addresses.holds(self.now, source))
    }

    /// The announced candidate for a local address: itself if it is announced, else the announced address of the same
    /// family, which is its public address behind NAT.
    fn announced(&self, local: SocketAddr) -> SocketAddr {
        if self.candidates.contains(&local) {
            return local;
        }
        let same_family = |candidate: &&SocketAddr| candidate.is_ipv4() == local.is_ipv4();
        self.candidates.iter().find(same_family).copied().unwrap_or(local)
    }
}
