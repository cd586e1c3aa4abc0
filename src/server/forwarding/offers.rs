//! Offers and answers: negotiates m-lines for the tracks that participants publish and subscribe to.

use log::{debug, info};
use str0m::media::{MediaKind, Mid};

use crate::id::{PeerId, TrackId};
use crate::limits::notices::Notice;
use crate::media::fault::{Site, guarded};
use crate::media::negotiation::Agreed;
use crate::media::negotiation::assignment::NotPublishing;
use crate::media::negotiation::sdp;
use crate::room::subscribers::Unqueued;
use crate::server::Server;
use crate::server::participants::Work;
use crate::timers::Waiter;
use crate::track::{Kind, Source};
use crate::web::signal::{self, MediaState, ServerMessage};

impl Server {
    /// Processes the participant's answer, or else builds its due offer.
    pub(in crate::server) fn negotiate(&mut self, id: PeerId) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        if let Some(answer) = participant.peer.take_answer() {
            self.take_answer(id, &answer);
        } else if participant.peer.negotiation.offer_due().is_some_and(|due| due <= now) {
            self.make_offer(id);
        }
        self.schedule_offer(id);
    }

    fn make_offer(&mut self, id: PeerId) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let is_first = participant.peer.offered_m_lines() == 0;
        let offer = guarded(Site::Offer, || participant.peer.build_offer(now, &mut self.names));
        if let Some(kind) = participant.peer.negotiation.take_declined() {
            let message = match kind {
                MediaKind::Audio => "This client has rejected too many audio m-lines. No more are offered.",
                MediaKind::Video => "This client has rejected too many video m-lines. No more are offered.",
            };
            self.refuse(id, "lines-rejected", message, false);
        }
        let offer = match offer {
            Ok(Some(offer)) => offer,
            Ok(None) => return self.send_exchanged_tracks(id),
            Err(error) => return self.turn.fail(id, error),
        };
        self.stats.offers += 1;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let conn = participant.conn;
        let m_lines = participant.peer.offered_m_lines();
        participant.budget.expect_answer(m_lines);
        let is_fresh = is_first && participant.transport.attempts > 0;
        let fresh = is_fresh.then(|| {
            let state = MediaState::Connecting;
            ServerMessage::Media { id: None, state, fresh: true, reason: None, retry_ms: None }.to_json()
        });
        let tracks = self.described_tracks(id).to_json();
        let offer = ServerMessage::offer(offer).to_json();
        if let Some(conn) = self.conns.touch(conn) {
            conn.set_message_limit(sdp::message_limit(m_lines));
            if let Some(fresh) = fresh {
                conn.send_text(now, &fresh);
            }
            conn.send_text(now, &tracks);
            conn.send_text(now, &offer);
        }
        self.queue(Work::Drive, id);
    }

    /// Queues an answer to be processed. `message_bytes` is the length of the message that contains it.
    pub(in crate::server) fn on_answer(&mut self, id: PeerId, answer: String, message_bytes: usize) {
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        // The answer belongs to the previous transport: the client sent it before it learned that this transport had
        // ended.
        if participant.transport.attempts > 0 && participant.peer.is_foreign(&answer) {
            return;
        }
        participant.budget.settle_answer(message_bytes);
        match participant.peer.queue_answer(answer) {
            Ok(()) => self.queue(Work::Negotiate, id),
            Err(error) => self.turn.fail(id, error),
        }
    }

    fn take_answer(&mut self, id: PeerId, answer: &str) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        self.stats.answers += 1;
        match guarded(Site::Answer, || participant.peer.handle_answer(now, answer, &self.profile, &mut self.names)) {
            Ok(agreed) => {
                for agreed in agreed {
                    self.on_agreed(id, agreed);
                }
                if self.participants.get(id).is_some_and(|participant| participant.seats.is_full()) {
                    self.exchange(id);
                }
                self.queue(Work::Drive, id);
            }
            Err(error) => self.turn.fail(id, error),
        }
    }

    pub(in crate::server) fn on_publish(&mut self, id: PeerId, kind: Kind, source: Source) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        if !participant.grant.rights.publish {
            self.refuse(id, "forbidden", "You may only watch and listen in this room.", false);
        } else if participant.peer.negotiation.publish(now, kind.into(), source) {
            self.schedule_offer(id);
        } else {
            self.refuse(
                id,
                "track-limit",
                "This client publishes as many tracks as allowed, or has rejected too many m-lines.",
                false,
            );
        }
    }

    pub(in crate::server) fn on_unpublish(&mut self, id: PeerId, kind: Kind, source: Source, mid: Option<String>) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        let mid = mid.map(|mid| Mid::from(mid.as_str()));
        match participant.peer.negotiation.unpublish(now, kind.into(), source, mid) {
            Ok(mid) => {
                if let Some(mid) = mid {
                    self.end_track(TrackId { publisher: id, mid });
                }
                self.schedule_offer(id);
            }
            Err(NotPublishing) => self.refuse(id, "not-publishing", "There is no such track to unpublish.", false),
        }
    }

    /// Ends a track for all subscribers.
    pub(in crate::server) fn end_track(&mut self, track: TrackId) {
        let Some(publisher) = self.participants.get_mut(track.publisher) else {
            return;
        };
        let Some(mut ended) = publisher.published.end(track.mid) else {
            return;
        };
        self.turn.queue_seating(&publisher.room);
        let unqueued: Vec<Unqueued> = ended.subscribers.settle().collect();
        self.count_unqueued(unqueued);
        for other in self.others(track.publisher) {
            self.unsubscribe(other, track);
            if let Some(participant) = self.participants.get_mut(other) {
                participant.seats.end_m_line(track.publisher, ended.source);
            }
            self.schedule_offer(other);
        }
    }

    /// Sets the timer for the participant's next offer, unless the participant is queued already.
    pub(in crate::server) fn schedule_offer(&mut self, id: PeerId) {
        let participant = self.participants.get(id).filter(|participant| !participant.queued.contains(Work::Negotiate));
        if let Some(due) = participant.and_then(|participant| participant.peer.negotiation.offer_due()) {
            self.timers.set(Waiter::Offer(id), due);
        }
    }

    fn on_agreed(&mut self, id: PeerId, agreed: Agreed) {
        match agreed {
            Agreed::Publishing { mid, kind, source } => self.start_track(id, mid, kind, source),
            Agreed::NotPublishing { mid } => self.end_track(TrackId { publisher: id, mid }),
            Agreed::Subscribed { m_line, track } => self.start_m_line(id, m_line, track),
            Agreed::Refused { track } => {
                debug!("{id}: track {:?} of {} rejected", track.mid, track.publisher);
                self.stop_forwarding(id, track);
            }
        }
    }

    pub(in crate::server) fn start_track(&mut self, id: PeerId, mid: Mid, kind: MediaKind, source: Source) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(id) else {
            return;
        };
        // Without a media connection no packets arrive: the track starts when media connects.
        if participant.published.track(mid).is_some() || participant.transport.is_lost {
            return;
        }
        let published = Kind::from(kind);
        participant.published.start(mid, published, source);
        let room = &participant.room;
        if let Some(omitted) = self.notices.take(now, Notice::Published) {
            info!("{id} publishes {published:?} of {source:?} in room {room:?}{omitted}");
        }
        self.turn.queue_seating(room);
        for other in self.others(id) {
            if let Some(participant) = self.participants.get_mut(other).filter(|other| other.seats.has(id)) {
                let track = TrackId { publisher: id, mid };
                participant.peer.negotiation.subscribe(now, track, kind);
                self.schedule_offer(other);
            }
        }
    }

    /// The track on each m-line, by the latest offer and the exchanges since.
    pub(in crate::server) fn described_tracks(&self, id: PeerId) -> ServerMessage<'_> {
        let participant = self.participants.get(id);
        let m_lines = participant.into_iter().flat_map(|participant| participant.peer.negotiation.m_lines());
        let tracks = m_lines.filter_map(|m_line| {
            let mid: &Mid = m_line.mid.as_ref()?;
            let own = m_line.asks_for();
            let (publisher, source) = match (own, m_line.carries()) {
                (Some(source), _) => (participant?, source),
                (None, Some(track)) => {
                    let publisher = self.participants.get(track.publisher)?;
                    (publisher, publisher.published.track(track.mid)?.source)
                }
                (None, None) => return None,
            };
            Some(signal::Track {
                mid,
                id: &publisher.id,
                kind: m_line.kind.into(),
                source,
                muted: publisher.published.muted().contains(&source),
                own: own.is_some(),
            })
        });
        ServerMessage::Tracks { tracks: tracks.collect() }
    }
}
