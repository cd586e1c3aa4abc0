//! Input to and output from peers: datagrams and timeouts, packets and events.

use std::net::SocketAddr;

use log::{debug, log};
use str0m::media::Mid;

use crate::drop_reason::DropReason;
use crate::id::{PeerId, TrackId};
use crate::media::fault::{Site, guarded};
use crate::media::peer::PeerEvent;
use crate::media::publish::keyframe::Reason;
use crate::media::rtp::packet::MAX_PAYLOAD;
use crate::media::subscribe::requests::Request;
use crate::media::subscribe::rtx::Sent;
use crate::media::transport::demux::Match;
use crate::media::transport::route::Route;
use crate::room::Track;
use crate::server::Server;
use crate::server::forwarding::drops;
use crate::server::participants::{Participant, Work};
use crate::timers::Waiter;
use crate::web::signal::ServerMessage;

impl Server {
    /// Passes a datagram to its peer, and drains the peer if it has output.
    pub(in crate::server) fn on_datagram(&mut self, source: SocketAddr, local: SocketAddr, contents: &[u8]) {
        self.stats.datagrams_in += 1;
        self.stats.bytes_in += contents.len() as u64;
        let now = self.now;
        let id = match self.demux.find(source, contents) {
            Match::Known(id) => Some(id),
            Match::Claimed(_) if !self.admission.take_unverified_check(now) => {
                self.stats.datagrams_excess += 1;
                return;
            }
            Match::Claimed(id) => {
                self.demux.holder(source).is_none_or(|holder| holder == id || !self.holds(holder, source)).then_some(id)
            }
            Match::Unknown => None,
        };
        // A peer that failed earlier in the batch is not trustworthy, and ends in this turn.
        let Some(id) = id.filter(|id| !self.turn.has_failed(*id)) else {
            self.stats.datagrams_unknown += 1;
            return;
        };
        let announced = self.profile.announced(local);
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let peer = &mut participant.peer;
        let route = Route { remote: source, local };
        let result = guarded(Site::Datagram, || peer.handle_datagram(now, route, announced, contents));
        self.stats.datagrams_excess += peer.take_excess();
        let has_path_feedback = peer.sending.take_path_feedback();
        let needs_allocation = has_path_feedback && peer.sending.needs_allocation(now);
        let has_lossy_outage = has_path_feedback && peer.sending.take_lossy_outage();
        let needs_drain = peer.needs_drain();
        match result {
            Ok(Some(validated)) => {
                if let Some(evicted) = validated.evicted {
                    self.demux.remove_address(evicted, id);
                }
                self.give_address(source, id);
            }
            Ok(None) => {}
            Err(error) => return self.turn.fail(id, error),
        }
        if needs_drain {
            self.drain(id);
        }
        if has_lossy_outage {
            self.request_keyframes(id, Reason::Loss);
        }
        if needs_allocation {
            self.queue(Work::Allocate, id);
        } else if has_path_feedback {
            self.probe(id);
        }
    }

    /// Handles a timeout of a participant's peer and drains it.
    pub(in crate::server) fn drive(&mut self, id: PeerId) {
        let now = self.now;
        self.stats.peer_timeouts += 1;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        // A track without packets gets no other chance to free its history and to notify its subscribers.
        let expire = |track: &mut Track| {
            track.history.expire(now);
            track.layers.expire(now).then_some(TrackId { publisher: id, mid: track.mid })
        };
        let changed: Vec<TrackId> = participant.published.tracks.iter_mut().filter_map(expire).collect();
        let result = guarded(Site::Timeout, || participant.peer.handle_timeout(now));
        changed.into_iter().for_each(|track| self.reallocate_subscribers(track));
        match result {
            Ok(()) => self.drain(id),
            Err(error) => self.turn.fail(id, error),
        }
    }

    /// Takes all output and events from a participant's peer and sets its timer.
    fn drain(&mut self, id: PeerId) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let peer = &mut participant.peer;
        let mut events = std::mem::take(&mut self.turn.peer_events);
        let drained = guarded(Site::Drain, || peer.drain(now, &mut self.outputs.datagrams, &mut events));
        let oversized = peer.take_oversized();
        let unconfigured = peer.take_unconfigured();
        if let Some(deadline) = peer.next_timeout() {
            self.timers.set(Waiter::Peer(id), deadline);
        }
        for event in events.drain(..) {
            self.on_peer_event(id, event);
        }
        self.turn.peer_events = events;
        if let (count @ 1.., mid) = oversized {
            self.stats.packets_oversized += count;
            self.count_withheld(id, DropReason::TooLarge, count);
            self.report_oversized(id, mid);
            if let Some(mid) = mid {
                self.on_oversized(TrackId { publisher: id, mid });
            }
        }
        if unconfigured > 0 {
            self.stats.configurations_dropped += unconfigured;
            let level = self.notices.take_warning(now);
            log!(level, "{id} sends more codec configuration than is kept; late subscribers may see no picture");
        }
        if let Err(error) = drained {
            self.failed_sending(id, error);
        }
    }

    fn on_peer_event(&mut self, id: PeerId, event: PeerEvent) {
        match event {
            PeerEvent::Packet(packet) => {
                let Some(Participant { published, .. }) = self.participants.get_mut(id) else {
                    return self.count_withheld(id, DropReason::Unpublished, 1);
                };
                if !published.is_silenced(packet.mid) {
                    return self.turn.arrived.push((id, packet));
                }
                let audience = published.audience;
                if let Some(track) = published.track_mut(packet.mid) {
                    self.stats.packets_not_loudest += 1;
                    track.subscribers.count_silenced();
                    let without_m_line = drops::count_due_and_unseated(&mut self.stats, audience, &track.subscribers);
                    self.stats.drops.add(DropReason::Silenced, without_m_line);
                }
            }
            PeerEvent::Request(Request::Keyframe { m_line }) => {
                let forwarded =
                    self.participants.get(id).and_then(|participant| participant.peer.sending.carried(m_line));
                if let Some((track, layer)) = forwarded {
                    self.request_keyframe(track, layer, Reason::Pli);
                }
            }
            PeerEvent::Request(Request::Packet { m_line, sent }) => self.resend(id, m_line, sent),
            PeerEvent::Connected => self.on_connected(id),
            PeerEvent::Consent { is_held } => self.on_consent(id, is_held),
        }
    }

    /// Retransmits a packet that a subscriber has lost, if it is still in the history.
    fn resend(&mut self, id: PeerId, m_line: usize, sent: Sent) {
        let forwarded = self.participants.get(id).and_then(|participant| participant.peer.sending.carried(m_line));
        let Some((track, layer)) = forwarded else {
            return;
        };
        let found = self.participants.pair_mut(id, track.publisher).and_then(|(subscriber, publisher)| {
            Some((subscriber, publisher.published.track(track.mid)?.history.find(sent.position)?))
        });
        let Some((subscriber, packet)) = found else {
            return self.request_keyframe(track, layer, Reason::Loss);
        };
        let sending = &mut subscriber.peer.sending;
        match guarded(Site::Resend, || Ok(sending.resend(self.now, m_line, sent, packet, &mut self.outputs.datagrams)))
        {
            Ok(true) => self.stats.packets_resent += 1,
            Ok(false) => self.stats.packets_not_resent += 1,
            Err(error) => self.failed_sending(id, error),
        }
    }

    /// Media has connected: computes the allocation and requests keyframes of the subscribed tracks.
    fn on_connected(&mut self, id: PeerId) {
        self.on_media_connected(id);
        debug!("{id}: media connected");
        // Earlier allocations had no estimate to limit them.
        self.allocate(id);
        self.request_keyframes(id, Reason::Join);
    }

    /// Notifies a publisher, once per stay, that packets of a track are too large to forward.
    fn report_oversized(&mut self, id: PeerId, mid: Option<Mid>) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id).filter(|it| !it.has_reported_oversized) else {
            return;
        };
        participant.has_reported_oversized = true;
        let source = mid.and_then(|mid| participant.published.track(mid)).map(|track| track.source);
        let own = participant.id.clone();
        let room = &participant.room;
        log!(
            self.notices.take_warning(now),
            "{id} in room {room:?} sends RTP payloads of more than {MAX_PAYLOAD} bytes: dropped; lower the client's MTU"
        );
        let message = format!(
            "This client sends packets of more than {MAX_PAYLOAD} bytes, which cannot be forwarded. Lower its MTU."
        );
        let code = "packet-too-large";
        self.send(id, &ServerMessage::Error { code, message: &message, retry: false, id: Some(&own), source });
    }

    /// Whether an address stays with this peer: while it holds ICE consent. If its WebSocket has ended too, one overdue
    /// check is enough to conclude that the client has ended, since its port may be in use again.
    fn holds(&self, id: PeerId, source: SocketAddr) -> bool {
        self.participants.get(id).is_some_and(|participant| {
            let addresses = &participant.peer.sending.addresses;
            let has_ended = participant.absent_until.is_some() && addresses.is_overdue(self.now, source);
            addresses.holds(self.now, source) && !has_ended
        })
    }

    /// Assigns a validated address to a peer. Media of its previous holder is no longer sent there.
    fn give_address(&mut self, source: SocketAddr, id: PeerId) {
        if let Some(previous) = self.demux.insert_address(source, id).filter(|previous| *previous != id)
            && let Some(participant) = self.participants.get_mut(previous)
        {
            participant.peer.sending.lose_address(source);
        }
    }
}
