//! Seating: chooses the publishers that each participant receives (last-N), and puts their tracks on m-lines without an
//! offer where possible.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use str0m::media::{MediaKind, Mid};

use crate::drop_reason::DropReason;
use crate::id::{PeerId, TrackId};
use crate::media::subscribe::selection::View;
use crate::room::Room;
use crate::room::seats::{Moves, Publisher};
use crate::server::Server;
use crate::server::forwarding::outbox::HeldPacket;
use crate::server::participants::Work;
use crate::timers::Waiter;
use crate::track::{Kind, Source};
use crate::web::signal::{self, Viewed};

impl Server {
    /// Assigns the seats of all participants in a room.
    pub(in crate::server) fn seat_room(&mut self, name: &str) {
        self.stats.seatings += 1;
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let publishers = self.publishers(room);
        for id in room.participants().to_vec() {
            self.seat(id, &publishers);
        }
    }

    /// Assigns the seats of one participant.
    pub(in crate::server) fn seat_participant(&mut self, id: PeerId) {
        let participant = self.participants.get(id);
        if let Some(room) = participant.and_then(|participant| self.rooms.get(&participant.room)) {
            let publishers = self.publishers(room);
            self.seat(id, &publishers);
        }
    }

    /// Applies a `view` message: video that the page does not show is not sent. Views of participants who have left and
    /// of microphones are ignored.
    pub(in crate::server) fn on_view(&mut self, id: PeerId, views: &[signal::View]) {
        let participant = self.participants.get(id);
        let Some(room) = participant.and_then(|participant| self.rooms.get(&participant.room)) else {
            return;
        };
        let others = self.participants.others(room, id);
        let ids: BTreeMap<&str, PeerId> = others.map(|(id, other)| (&*other.id, id)).collect();
        let mut shown = Vec::new();
        for signal::View { of, width, height, priority } in views {
            let view = View { width: *width, height: *height, priority: *priority };
            let (of, is_lasting) = match of {
                Viewed::MLine { mid } => (self.shown_on(id, Mid::from(mid.as_str())), false),
                Viewed::Participant { source: Source::Microphone, .. } => (None, false),
                Viewed::Participant { id, source } => (ids.get(id.as_str()).map(|peer| (*peer, *source)), true),
            };
            shown.extend(of.map(|(peer, source)| (peer, source, view, is_lasting)));
        }
        for (peer, source, view, is_lasting) in shown {
            let publisher = self.participants.get(peer).into_iter();
            let tracks = publisher.flat_map(|publisher| &publisher.published.tracks);
            let mids: SmallVec<[Mid; 2]> =
                tracks.filter(|track| track.kind == Kind::Video && track.source == source).map(|t| t.mid).collect();
            let Some(participant) = self.participants.get_mut(id) else {
                return;
            };
            participant.seats.show(peer, source, view, is_lasting);
            for mid in mids {
                participant.peer.sending.set_view(TrackId { publisher: peer, mid }, view);
            }
        }
        self.queue(Work::Allocate, id);
        self.seat_participant(id);
    }

    /// Ends a participant's subscription to a track.
    pub(in crate::server) fn unsubscribe(&mut self, id: PeerId, track: TrackId) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        // If publishers wait for a seat, the m-line is kept for them.
        if participant.seats.is_full() {
            participant.peer.negotiation.vacate(now, track);
        } else {
            participant.peer.negotiation.unsubscribe(now, track);
        }
        self.stop_forwarding(id, track);
    }

    /// Stops forwarding a track to a participant and discards its held packets.
    pub(in crate::server) fn stop_forwarding(&mut self, id: PeerId, track: TrackId) {
        if let Some(participant) = self.participants.get_mut(id) {
            participant.peer.sending.stop(track);
            let held = &mut participant.outbox.held;
            let ended: Vec<HeldPacket> = held.iter().copied().filter(|held| held.track == track).collect();
            held.retain(|held| held.track != track);
            let is_published = self.participants.track(track).is_some();
            let reason = if is_published { DropReason::Reassigned } else { DropReason::Unpublished };
            for held in ended {
                self.count_dropped(id, held.m_line as usize, reason, 1);
            }
        }
        if let Some(published) = self.participants.track_mut(track) {
            let unqueued = published.subscribers.remove(id);
            self.count_unqueued(unqueued);
        }
    }

    /// Puts waiting tracks on free m-lines without an offer, and notifies the participant.
    pub(in crate::server) fn exchange(&mut self, id: PeerId) {
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let exchanged = participant.peer.exchange(&self.profile);
        self.stats.exchanges += exchanged.len() as u64;
        self.send_exchanged_tracks(id);
        for (m_line, track) in exchanged {
            self.start_m_line(id, m_line, track);
        }
    }

    /// Sends a `tracks` message if an m-line carries another track than in the previous message.
    pub(in crate::server) fn send_exchanged_tracks(&mut self, id: PeerId) {
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        if !participant.peer.negotiation.take_exchanged() {
            return;
        }
        let conn = participant.conn;
        let tracks = self.described_tracks(id).to_json();
        if let Some(conn) = self.conns.touch(conn) {
            conn.send_text(self.now, &tracks);
        }
    }

    /// Starts to forward a track on an m-line.
    pub(in crate::server) fn start_m_line(&mut self, id: PeerId, m_line: usize, track: TrackId) {
        let source = self.participants.track(track).map(|published| published.source);
        if let (Some(participant), Some(source)) = (self.participants.get_mut(id), source)
            && let Some(view) = participant.seats.view(track.publisher, source)
            && let Some(outgoing) = participant.peer.sending.m_line_mut(m_line)
        {
            outgoing.view = view;
        }
        self.update_subscription(id, m_line, track);
        self.queue(Work::Allocate, id);
    }

    fn seat(&mut self, id: PeerId, publishers: &[Publisher]) {
        let now = self.now;
        let limit = self.config.limits.seats();
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let publishers = if participant.grant.rights.subscribe { publishers } else { &[] };
        let was_full = participant.seats.is_full();
        let Moves { off, on } = participant.seats.settle(now, id, limit, publishers);
        let is_full = was_full || participant.seats.is_full();
        let next_settling = participant.seats.next_settling();
        let ended: Vec<(TrackId, MediaKind)> = off.iter().flat_map(|peer| self.participants.tracks_of(*peer)).collect();
        for (track, _) in ended {
            self.unsubscribe(id, track);
        }
        let tracks: Vec<(TrackId, MediaKind)> = on.iter().flat_map(|peer| self.participants.tracks_of(*peer)).collect();
        if let Some(participant) = self.participants.get_mut(id) {
            for (track, kind) in &tracks {
                participant.peer.negotiation.subscribe(now, *track, *kind);
            }
        }
        if is_full {
            self.exchange(id);
        }
        match next_settling {
            Some(deadline) => self.timers.set(Waiter::Seats(id), deadline),
            None => self.timers.cancel(Waiter::Seats(id)),
        }
        if !off.is_empty() || !tracks.is_empty() {
            self.schedule_offer(id);
        }
    }

    /// The publisher and source of the track on a participant's m-line.
    fn shown_on(&self, id: PeerId, mid: Mid) -> Option<(PeerId, Source)> {
        let peer = &self.participants.get(id)?.peer;
        let m_line = peer.video_m_line(mid)?;
        let track = peer.negotiation.m_lines()[m_line].carries()?;
        let source = self.participants.track(track)?.source;
        Some((track.publisher, source))
    }

    /// The participants of a room who publish a track, in the order of joining.
    fn publishers(&self, room: &Room) -> Vec<Publisher> {
        let publishers = self.participants.of(room).filter_map(|(id, participant)| {
            let published = &participant.published;
            let video =
                |source| published.tracks.iter().any(|track| track.kind == Kind::Video && track.source == source);
            (!published.tracks.is_empty()).then(|| Publisher {
                peer: id,
                is_audible: room.speakers.is_audible(id),
                recency: room.speakers.recently_audible().iter().position(|peer| *peer == id),
                has_screen: video(Source::Screen),
                has_picture: video(Source::Camera) && !published.muted().contains(&Source::Camera),
            })
        });
        publishers.collect()
    }
}
