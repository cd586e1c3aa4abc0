//! Offers and answers: negotiates m-lines for the tracks that participants publish and subscribe to.

use log::{debug, info};
use str0m::media::{MediaKind, Mid};

use super::Server;
use super::members::media_kind;
use crate::id::{PeerId, TrackId};
use crate::media::fault::{Site, guarded};
use crate::media::negotiation::Agreed;
use crate::media::negotiation::assignment::NotPublishing;
use crate::media::negotiation::sdp;
use crate::media::publish::layer::LAYERS;
use crate::room::Track;
use crate::timers::Waiter;
use crate::track::{Kind, Source};
use crate::web::signal::{self, MediaState, ServerMessage};

impl Server {
    /// Queues a participant to process its answer or its due offer.
    pub(super) fn queue_negotiation(&mut self, id: PeerId) {
        if let Some(member) = self.member_mut(id)
            && !std::mem::replace(&mut member.negotiation_queued, true)
        {
            self.negotiations.push_back(id);
        }
    }

    /// Processes the participant's answer, or else builds its due offer.
    pub(super) fn on_negotiation(&mut self, id: PeerId) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        member.negotiation_queued = false;
        if let Some(answer) = member.peer.take_answer() {
            self.take_answer(id, &answer);
        } else if member.peer.negotiation.offer_due().is_some_and(|due| due <= now) {
            self.make_offer(id);
        }
        self.schedule(id);
    }

    fn make_offer(&mut self, id: PeerId) {
        let (now, slots, names) = (self.now, &mut self.slots, &mut self.names);
        let Some(slot) = slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation) else {
            return;
        };
        let Some(member) = slot.member.as_deref_mut() else {
            return;
        };
        let is_first = member.peer.offered_m_lines() == 0;
        let offer = guarded(Site::Offer, || member.peer.build_offer(now, names));
        if let Some(kind) = member.peer.negotiation.take_declined() {
            let message = match kind {
                MediaKind::Audio => "This client has rejected too many audio m-lines. No more are offered.",
                MediaKind::Video => "This client has rejected too many video m-lines. No more are offered.",
            };
            self.refuse(id, "lines-rejected", message, false);
        }
        let offer = match offer {
            Ok(Some(offer)) => offer,
            Ok(None) => return self.send_exchanged_tracks(id),
            Err(error) => return self.failed.push_back((id, error)),
        };
        self.stats.offers += 1;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        let (conn, lines) = (member.conn, member.peer.offered_m_lines());
        member.budget.expect_answer(lines);
        let is_fresh = is_first && member.transport.attempts > 0;
        let fresh = is_fresh.then(|| {
            let state = MediaState::Connecting;
            ServerMessage::Media { id: None, state, fresh: true, reason: None, retry_ms: None }.to_json()
        });
        let tracks = self.described_tracks(id).to_json();
        let offer = ServerMessage::offer(offer).to_json();
        self.with_conn(conn, |now, conn| {
            conn.set_message_limit(sdp::message_limit(lines));
            if let Some(fresh) = fresh {
                conn.send_text(now, &fresh);
            }
            conn.send_text(now, &tracks);
            conn.send_text(now, &offer);
        });
        self.mark_dirty(id);
    }

    /// Queues an answer to be processed. `message_bytes` is the length of the message that contains it.
    pub(super) fn on_answer(&mut self, id: PeerId, answer: String, message_bytes: usize) {
        let Some(member) = self.member_mut(id) else {
            return;
        };
        // An answer for a previous transport, sent before the client knew that it had ended.
        if member.transport.attempts > 0 && member.peer.is_foreign(&answer) {
            return;
        }
        member.budget.settle_answer(message_bytes);
        match member.peer.queue_answer(answer) {
            Ok(()) => self.queue_negotiation(id),
            Err(error) => self.failed.push_back((id, error)),
        }
    }

    fn take_answer(&mut self, id: PeerId, answer: &str) {
        let now = self.now;
        let Some(member) = self.slots[id.slot as usize].member.as_deref_mut() else {
            return;
        };
        self.stats.answers += 1;
        match guarded(Site::Answer, || member.peer.handle_answer(now, answer, &self.profile, &mut self.names)) {
            Ok(agreed) => {
                for agreed in agreed {
                    self.on_agreed(id, agreed);
                }
                if self.member(id).is_some_and(|member| member.seats.is_full()) {
                    self.exchange(id);
                }
                self.mark_dirty(id);
            }
            Err(error) => self.failed.push_back((id, error)),
        }
    }

    pub(super) fn on_publish(&mut self, id: PeerId, kind: Kind, source: Source) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        if !member.grant.rights.publish {
            self.refuse(id, "forbidden", "You may only watch and listen in this room.", false);
        } else if member.peer.negotiation.publish(now, media_kind(kind), source) {
            self.schedule(id);
        } else {
            self.refuse(
                id,
                "track-limit",
                "This client publishes as many tracks as allowed, or has rejected too many m-lines.",
                false,
            );
        }
    }

    pub(super) fn on_unpublish(&mut self, id: PeerId, kind: Kind, source: Source, mid: Option<String>) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        let mid = mid.map(|mid| Mid::from(mid.as_str()));
        match member.peer.negotiation.unpublish(now, media_kind(kind), source, mid) {
            Ok(mid) => {
                if let Some(mid) = mid {
                    self.end_track(TrackId { publisher: id, mid });
                }
                self.schedule(id);
            }
            Err(NotPublishing) => self.refuse(id, "not-publishing", "There is no such track to unpublish.", false),
        }
    }

    /// Ends a track for all subscribers.
    pub(super) fn end_track(&mut self, track: TrackId) {
        let Some(publisher) = self.member_mut(track.publisher) else {
            return;
        };
        let tracks = &mut publisher.participant.tracks;
        let Some(index) = tracks.iter().position(|published| published.mid == track.mid) else {
            return;
        };
        let Track { source, layers, .. } = tracks.remove(index);
        if layers.signaled() < LAYERS as u8 {
            publisher.sent_wanted.insert(track.mid, layers.signaled());
        }
        let room = publisher.participant.room.clone();
        let others: Vec<PeerId> = self.others(&room).filter(|other| *other != track.publisher).collect();
        for other in others {
            self.drop_track(other, track);
            if let Some(member) = self.member_mut(other) {
                member.seats.end_line(track.publisher, source);
            }
            self.schedule(other);
        }
        self.queue_seating(room);
    }

    /// Sets the timer for the participant's next offer, unless the participant is queued already.
    pub(super) fn schedule(&mut self, id: PeerId) {
        let member = self.member(id).filter(|member| !member.negotiation_queued);
        if let Some(due) = member.and_then(|member| member.peer.negotiation.offer_due()) {
            self.timers.set(Waiter::Offer(id), due);
        }
    }

    fn on_agreed(&mut self, id: PeerId, agreed: Agreed) {
        match agreed {
            Agreed::Publishing { mid, kind, source } => self.start_track(id, mid, kind, source),
            Agreed::NotPublishing { mid } => self.end_track(TrackId { publisher: id, mid }),
            Agreed::Subscribed { m_line, track } => self.start_line(id, m_line, track),
            Agreed::Refused { track } => {
                debug!("{id}: track {:?} of {} rejected", track.mid, track.publisher);
                self.stop_track(id, track);
            }
        }
    }

    pub(super) fn start_track(&mut self, id: PeerId, mid: Mid, kind: MediaKind, source: Source) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        // No packets arrive without media: the track begins when media is connected.
        if member.participant.track(mid).is_some() || member.transport.is_lost {
            return;
        }
        let published = match kind {
            MediaKind::Audio => Kind::Audio,
            MediaKind::Video => Kind::Video,
        };
        let mut track = Track::new(mid, published, source);
        if let Some(sent) = member.sent_wanted.remove(&mid) {
            track.layers.resume(sent);
        }
        member.participant.tracks.push(track);
        let room = member.participant.room.clone();
        if let Some(left_out) = self.publications.take(now) {
            info!("{id} publishes {published:?} of {source:?} in room {room:?}{left_out}");
        }
        let others: Vec<PeerId> = self.others(&room).filter(|other| *other != id).collect();
        for other in others {
            if let Some(member) = self.member_mut(other).filter(|member| member.seats.has(id)) {
                let track = TrackId { publisher: id, mid };
                member.peer.negotiation.subscribe(now, track, kind);
                self.schedule(other);
            }
        }
        self.queue_seating(room);
    }

    /// The track on each m-line, by the latest offer and the exchanges since.
    pub(super) fn described_tracks(&self, id: PeerId) -> ServerMessage<'_> {
        let member = self.member(id);
        let lines = member.into_iter().flat_map(|member| member.peer.negotiation.m_lines());
        let tracks = lines.filter_map(|line| {
            let mid: &Mid = line.mid.as_ref()?;
            let own = line.asks_for();
            let (publisher, source) = match (own, line.carries()) {
                (Some(source), _) => (member?, source),
                (None, Some(track)) => {
                    let publisher = self.member(track.publisher)?;
                    (publisher, publisher.participant.track(track.mid)?.source)
                }
                (None, None) => return None,
            };
            Some(signal::Track {
                mid,
                id: &publisher.participant.id,
                kind: match line.kind {
                    MediaKind::Audio => Kind::Audio,
                    MediaKind::Video => Kind::Video,
                },
                source,
                muted: publisher.participant.muted.contains(&source),
                own: own.is_some(),
            })
        });
        ServerMessage::Tracks { tracks: tracks.collect() }
    }

    pub(super) fn published(&mut self, track: TrackId) -> Option<&mut Track> {
        self.member_mut(track.publisher)?.participant.track_mut(track.mid)
    }
}
