//! Seating: which participants' tracks each participant is sent (last-N), and the exchange of tracks on m-lines without
//! an offer.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use str0m::media::{MediaKind, Mid};

use super::Server;
use crate::id::{PeerId, TrackId};
use crate::media::subscribe::selection::View;
use crate::room::seats::{Moves, Person};
use crate::timers::Waiter;
use crate::track::{Kind, Source};
use crate::web::signal::{self, Viewed};

impl Server {
    /// Queues the room's seats to be assigned again, once for all changes of a batch.
    pub(super) fn queue_seating(&mut self, room: String) {
        if !self.seatings.contains(&room) {
            self.seatings.push(room);
        }
    }

    /// Assigns the seats of all participants in a room.
    pub(super) fn seat_room(&mut self, room: &str) {
        self.stats.seatings += 1;
        let publishers = self.publishers(room);
        let members: Vec<PeerId> = self.others(room).collect();
        for id in members {
            self.seat(id, &publishers);
        }
    }

    /// Assigns the seats of one participant.
    pub(super) fn seat_member(&mut self, id: PeerId) {
        if let Some(member) = self.member(id) {
            let publishers = self.publishers(&member.participant.room);
            self.seat(id, &publishers);
        }
    }

    /// Applies a `view` message: video that the page does not show is not sent. Ignores participants who have left and
    /// tracks without a picture.
    pub(super) fn on_view(&mut self, id: PeerId, views: &[signal::View]) {
        let Some(member) = self.member(id) else {
            return;
        };
        let others = self.others(&member.participant.room).filter(|other| *other != id);
        let ids: BTreeMap<&str, PeerId> =
            others.filter_map(|other| Some((&*self.member(other)?.participant.id, other))).collect();
        let mut shown = Vec::new();
        for signal::View { of, width, height, priority } in views {
            let view = View { width: *width, height: *height, priority: *priority };
            let (of, is_lasting) = match of {
                Viewed::Line { mid } => (self.shown_on(id, Mid::from(mid.as_str())), false),
                Viewed::Person { source: Source::Microphone, .. } => (None, false),
                Viewed::Person { id, source } => (ids.get(id.as_str()).map(|peer| (*peer, *source)), true),
            };
            shown.extend(of.map(|(peer, source)| (peer, source, view, is_lasting)));
        }
        for (peer, source, view, is_lasting) in shown {
            let tracks = self.member(peer).into_iter().flat_map(|member| &member.participant.tracks);
            let mids: SmallVec<[Mid; 2]> =
                tracks.filter(|track| track.kind == Kind::Video && track.source == source).map(|t| t.mid).collect();
            let Some(member) = self.member_mut(id) else {
                return;
            };
            member.seats.show(peer, source, view, is_lasting);
            for mid in mids {
                member.peer.sending.set_view(TrackId { publisher: peer, mid }, view);
            }
        }
        self.queue_allocation(id);
        self.seat_member(id);
    }

    /// Ends a participant's subscription to a track.
    pub(super) fn drop_track(&mut self, id: PeerId, track: TrackId) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        // If publishers wait for a seat, the m-line is kept for them.
        match member.seats.is_full() {
            true => member.peer.negotiation.vacate(now, track),
            false => member.peer.negotiation.unsubscribe(now, track),
        };
        self.stop_track(id, track);
    }

    /// Stops forwarding a track to a participant and discards its held packets.
    pub(super) fn stop_track(&mut self, id: PeerId, track: TrackId) {
        if let Some(member) = self.member_mut(id) {
            member.peer.sending.stop(track);
            member.held.retain(|held| held.track != track);
        }
        if let Some(published) = self.published(track) {
            published.subscribers.retain(|subscriber| subscriber.peer != id);
        }
    }

    /// Puts waiting tracks on free m-lines without an offer, and notifies the participant.
    pub(super) fn exchange(&mut self, id: PeerId) {
        let Some(member) = self.slots[id.slot as usize].member.as_deref_mut() else {
            return;
        };
        let exchanged = member.peer.exchange(&self.profile);
        self.stats.exchanges += exchanged.len() as u64;
        self.send_exchanged_tracks(id);
        for (line, track) in exchanged {
            self.start_line(id, line, track);
        }
    }

    /// Sends `tracks` if m-lines carry other tracks than last sent.
    pub(super) fn send_exchanged_tracks(&mut self, id: PeerId) {
        let Some(member) = self.member_mut(id) else {
            return;
        };
        if !member.peer.negotiation.take_exchanged() {
            return;
        }
        let conn = member.conn;
        let tracks = self.described_tracks(id).to_json();
        self.with_conn(conn, |now, conn| conn.send_text(now, &tracks));
    }

    /// Starts to forward a track on an m-line.
    pub(super) fn start_line(&mut self, id: PeerId, line: usize, track: TrackId) {
        let source = self.published(track).map(|published| published.source);
        if let (Some(member), Some(source)) = (self.member_mut(id), source)
            && let Some(view) = member.seats.view(track.publisher, source)
            && let Some(outgoing) = member.peer.sending.m_line_mut(line)
        {
            outgoing.view = view;
        }
        self.update_subscription(id, line, track);
        self.queue_allocation(id);
    }

    fn seat(&mut self, id: PeerId, publishers: &[Person]) {
        let (now, limit) = (self.now, self.config.limits.seats());
        let Some(member) = self.member_mut(id) else {
            return;
        };
        let publishers = if member.grant.rights.subscribe { publishers } else { &[] };
        let was_full = member.seats.is_full();
        let Moves { off, on } = member.seats.settle(now, id, limit, publishers);
        let (is_full, next_look) = (was_full || member.seats.is_full(), member.seats.next_look());
        for (track, _) in off.iter().flat_map(|peer| self.tracks_of(*peer)).collect::<Vec<_>>() {
            self.drop_track(id, track);
        }
        let tracks: Vec<(TrackId, MediaKind)> = on.iter().flat_map(|peer| self.tracks_of(*peer)).collect();
        if let Some(member) = self.member_mut(id) {
            for (track, kind) in &tracks {
                member.peer.negotiation.subscribe(now, *track, *kind);
            }
        }
        if is_full {
            self.exchange(id);
        }
        match next_look {
            Some(deadline) => self.timers.set(Waiter::Seats(id), deadline),
            None => self.timers.cancel(Waiter::Seats(id)),
        }
        if !off.is_empty() || !tracks.is_empty() {
            self.schedule(id);
        }
    }

    /// The publisher and source of the track on a participant's m-line.
    fn shown_on(&self, id: PeerId, mid: Mid) -> Option<(PeerId, Source)> {
        let peer = &self.member(id)?.peer;
        let line = peer.video_m_line(mid)?;
        let track = peer.negotiation.m_lines()[line].carries()?;
        let source = self.member(track.publisher)?.participant.track(track.mid)?.source;
        Some((track.publisher, source))
    }

    /// The participants of a room who publish, in the order of joining.
    fn publishers(&self, room: &str) -> Vec<Person> {
        let Some(room) = self.rooms.get(room) else {
            return Vec::new();
        };
        let publishers = room.members().iter().filter_map(|id| {
            let participant = &self.member(*id)?.participant;
            let tracks = &participant.tracks;
            let is_shown = |source| !participant.muted.contains(&source);
            let video = |source| tracks.iter().any(|track| track.kind == Kind::Video && track.source == source);
            (!tracks.is_empty()).then(|| Person {
                peer: *id,
                is_heard: room.speakers.is_heard(*id),
                turn: room.speakers.turns().iter().position(|turn| turn == id),
                has_screen: video(Source::Screen),
                has_picture: video(Source::Camera) && is_shown(Source::Camera),
            })
        });
        publishers.collect()
    }
}
