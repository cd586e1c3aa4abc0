//! Members: participants join, leave, and send messages to each other.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use log::{Level, debug, error, info, log, warn};
use str0m::media::MediaKind;

use super::budget::MessageBudget;
use super::requests::Admission;
use super::{Member, Server, Transport};
use crate::id::{ConnId, PeerId, TrackId};
use crate::media::fault::PeerError;
use crate::media::peer::Peer;
use crate::media::transport::allowance::Allowance;
use crate::room::seats::Seats;
use crate::room::{CHAT_BYTES, Participant, Room};
use crate::text::NAME_CHARS;
use crate::timers::Waiter;
use crate::track::{Kind, Source};
use crate::web::signal::{self, BadMessage, ClientMessage, MediaState, ServerMessage};
use crate::web::token::Grant;
use crate::web::websocket::encode_text;

/// Characters of `resume` secrets and of participant ids; see `Names::token`.
const RESUME_CHARS: usize = 26;
pub(super) const ID_CHARS: usize = 10;

/// WebSocket close codes (RFC 6455 section 7.4.1).
pub(super) const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// Bytes of the longest `candidate` message that browsers send, with room for extensions.
const CANDIDATE_BYTES: usize = 1_024;

/// How long a restart of the server is expected to take. With a shorter time, pages reconnect too early and retry; a
/// longer one prolongs the interruption.
pub(super) const RESTART: Duration = Duration::from_secs(1);

impl Server {
    /// Adds an admitted participant: accepts the upgrade, sends `welcome`, notifies the others, and schedules the first
    /// offer.
    pub(super) fn join(&mut self, conn: ConnId, admission: Admission) {
        let now = self.now;
        let old = admission.replaces.and_then(|old| self.replace(old));
        let full = self.rooms.get(&admission.room).filter(|room| self.is_full(room));
        if let Some(absent) = full.and_then(|room| self.longest_absent(room)) {
            self.leave(absent, "made way for a newcomer while disconnected");
        }
        let (resumed, is_lost) = (old.is_some(), old.as_ref().is_some_and(|old| old.transport.is_lost));
        let mut participant = Participant::new(
            now,
            self.names.token(ID_CHARS),
            admission.name,
            self.names.token(RESUME_CHARS),
            admission.room.clone(),
        );
        let mut budget = MessageBudget::new(now);
        if let Some(Member { participant: old, budget: remaining, .. }) = old {
            participant.id = old.id;
            participant.name = old.name;
            // The client may not have received a new secret before its connection breaks again.
            participant.resume = old.resume;
            participant.muted = old.muted;
            participant.is_silenced = old.is_silenced;
            participant.chat = old.chat;
            budget = remaining;
            self.kept_budgets.forget(&participant.id);
        } else if let Some((remaining, chat)) = admission.place.and_then(|place| self.kept_budgets.take(now, place)) {
            (budget, participant.chat) = (remaining, chat);
        }
        let peer = self.new_peer(admission.simulcast, &admission.grant);
        let others: Vec<PeerId> = self.others(&admission.room).collect();
        let id = self.insert(Member {
            participant,
            grant: admission.grant,
            conn,
            place: admission.place,
            has_spoken: resumed,
            absent_until: None,
            peer,
            transport: Transport {
                can_renew: admission.can_renew,
                is_pending: true,
                is_lost,
                attempts: 0,
                doubtful_failures: 0,
                connected_at: None,
            },
            seats: Seats::new(now),
            queue: Vec::new(),
            held: VecDeque::new(),
            sent_wanted: BTreeMap::new(),
            padding_index: 0,
            has_reported_oversized: false,
            is_dirty: false,
            negotiation_queued: false,
            allocation_queued: false,
            quality_queued: false,
            budget,
        });
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.member = Some(id);
        }
        self.count(conn, admission.place);
        self.with_conn(conn, |now, conn| conn.upgrade(now));
        self.send_welcome(id, &others);
        let room = self.rooms.entry(admission.room.clone()).or_default();
        if let Some(secret) = admission.returns {
            room.take_returning(&secret);
        }
        self.enter(id, admission.replaces.filter(|_| resumed));
        let member = self.member(id).expect("inserted above");
        let (name, own_id) = (member.participant.name.clone(), member.participant.id.clone());
        if let Some(left_out) = self.joins.take(self.now) {
            let again = if resumed { " again" } else { "" };
            info!("{id} {name:?} joined room {:?}{again}{left_out}", admission.room);
        }
        if !resumed {
            self.broadcast(&admission.room, Some(id), &ServerMessage::Joined { id: &own_id, name: &name });
        }
        self.schedule(id);
    }

    /// A new peer. Its first offer has m-lines for a microphone and a camera, if the token grants publishing.
    pub(super) fn new_peer(&mut self, simulcast: bool, grant: &Grant) -> Peer {
        let now = self.now;
        let mut peer = Peer::new(now, &self.profile, self.allowance(), simulcast, &mut self.names);
        if grant.rights.publish {
            peer.negotiation.publish(now, MediaKind::Audio, Source::Microphone);
            peer.negotiation.publish(now, MediaKind::Video, Source::Camera);
        }
        peer
    }

    /// Puts a participant into its room. The others' seats for its predecessor `old` become seats for it.
    pub(super) fn enter(&mut self, id: PeerId, old: Option<PeerId>) {
        let Some(name) = self.member(id).map(|member| member.participant.room.clone()) else {
            return;
        };
        let others: Vec<PeerId> = self.others(&name).collect();
        self.rooms.entry(name).or_default().join(id);
        for other in others {
            if let (Some(other), Some(old)) = (self.member_mut(other), old) {
                other.seats.replace(old, id);
            }
        }
        self.seat_member(id);
    }

    /// The media limits of one peer.
    fn allowance(&self) -> Allowance {
        let limits = &self.config.limits;
        Allowance::new(self.now, limits.max_publish_kbps, limits.max_publish_packets)
    }

    /// Removes a participant for any reason and notifies the others.
    pub(super) fn leave(&mut self, id: PeerId, reason: &str) {
        let now = self.now;
        let Some(Member { participant, place, budget, absent_until, .. }) = self.remove(id) else {
            return;
        };
        // The budget of a participant without a connection is kept already.
        if let Some(place) = place.filter(|_| absent_until.is_none()) {
            self.kept_budgets.keep(now, place, participant.id.clone(), budget, participant.chat);
        }
        if let Some(room) = self.rooms.get_mut(&participant.room) {
            room.expect_back(&participant.resume);
            if room.members().is_empty() {
                self.rooms.remove(&participant.room);
            }
        }
        if let Some(left_out) = self.leaves.take(self.now) {
            info!("{id} {:?} left room {:?}: {reason}{left_out}", participant.name, participant.room);
        }
        for other in self.others(&participant.room).collect::<Vec<_>>() {
            if let Some(other) = self.member_mut(other) {
                other.seats.forget(id);
            }
        }
        let (id, name) = (&participant.id, &participant.name);
        self.broadcast(&participant.room, None, &ServerMessage::Left { id, name });
    }

    /// Handles a fatal error of a peer: starts a fresh transport if that can help, else sends the error to the client
    /// and ends the participant.
    pub(super) fn on_failed(&mut self, id: PeerId, error: &PeerError) {
        let now = self.now;
        let Some(member) = self.member(id) else {
            return;
        };
        let (room, conn) = (member.participant.room.clone(), member.conn);
        let is_doubtful = error.is_doubtful() && member.transport.connected_at.is_none();
        match error {
            PeerError::Bug(why) => match self.faults.handle_cause(now, why) {
                Some(0) => error!("{id} in room {room:?}: peer failed: {error}"),
                Some(more) => {
                    error!("{id} in room {room:?}: peer failed ({more} more since the last such line): {error}")
                }
                None => {}
            },
            _ => debug!("{id} in room {room:?}: peer failed: {error}"),
        }
        self.stats.peers_failed += 1;
        let code = error.code();
        if self.can_renew(id) && is_doubtful && self.count_doubtful_failure(id) {
            return self.renew(id, code);
        }
        let place = self.conns.get(&conn).and_then(|entry| entry.place);
        if let Some(place) = place.filter(|_| error.is_fault() && !is_doubtful)
            && self.faults.handle_fault(now, place)
        {
            warn!("joins from {place} blocked for 60 s: too many faults, the last: {code}");
        }
        if self.can_renew(id) && error.is_transport() {
            return self.renew(id, code);
        }
        let retry = !matches!(
            error,
            PeerError::BadAnswer(_)
                | PeerError::UnsupportedAnswer(_)
                | PeerError::UnexpectedAnswer
                | PeerError::UnsupportedCertificate(_)
        );
        self.dismiss(id, code, error.message(), retry);
    }

    /// Sends `closing` to all participants: to reconnect elsewhere soon, or here after the shutdown. Closes other
    /// connections.
    pub(super) fn announce_shutdown(&mut self, ends: Instant) {
        let url = self.config.drain_url.as_deref();
        let retry = if url.is_some() { RESTART } else { ends + RESTART - self.now };
        let closing = ServerMessage::Closing { reason: "shutdown", retry_ms: retry.as_millis() as u64, url };
        let frame = encode_text(&closing.to_json());
        let conns: Vec<(ConnId, bool)> = self.conns.iter().map(|(id, entry)| (*id, entry.member.is_some())).collect();
        for (id, is_member) in conns {
            self.with_conn(id, |now, conn| match is_member {
                true => conn.send_encoded(now, &frame),
                false => conn.close(now, GOING_AWAY, "shutdown"),
            });
        }
    }

    /// Closes all connections.
    pub(super) fn close_all(&mut self) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in conns {
            self.with_conn(id, |now, conn| conn.close(now, GOING_AWAY, "shutdown"));
        }
    }

    /// Handles a text frame of a participant.
    pub(super) fn on_message(&mut self, conn: ConnId, text: &str) {
        let Some(id) = self.conns.get(&conn).and_then(|entry| entry.member) else {
            return;
        };
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        member.has_spoken = true;
        let budget = &mut member.budget;
        let is_answer = || ClientMessage::may_be("answer", text);
        if !(budget.charge(now, text.len()) || is_answer() && budget.take_answer(text.len())) {
            // Candidates are ignored anyway, and browsers send many at once.
            if text.len() <= CANDIDATE_BYTES && ClientMessage::may_be("candidate", text) {
                return;
            }
            return self.strike(
                id,
                "too-fast",
                "Too many messages: at most 10 a second and 240 KiB a second are allowed.",
            );
        }
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Answer { sdp }) => self.on_answer(id, sdp, text.len()),
            // An ICE-lite server learns addresses from checks; candidates, which may name third parties, are never
            // contacted.
            Ok(ClientMessage::Candidate) => {}
            Ok(ClientMessage::Chat { message }) => self.on_chat(id, message),
            Ok(ClientMessage::Publish { kind, source }) => self.on_publish(id, kind, source),
            Ok(ClientMessage::Unpublish { kind, source, mid }) => self.on_unpublish(id, kind, source, mid),
            Ok(ClientMessage::View { views }) => self.on_view(id, &views),
            Ok(ClientMessage::Mute { source, muted }) => self.on_mute(id, source, muted),
            Ok(ClientMessage::Leave) => self.on_leave(id),
            Ok(ClientMessage::Renew) => self.on_renew(id),
            Ok(ClientMessage::Moderate(moderation)) => self.on_moderate(id, &moderation),
            Err(BadMessage::Malformed(why)) => {
                self.strike(id, "bad-message", &format!("The message could not be read: {why}."));
            }
            Err(BadMessage::UnknownEvent(event)) => {
                debug!("{id}: unknown event {:?}", event.chars().take(32).collect::<String>());
                let message = "This server does not know the event and has ignored it.";
                self.send(id, &ServerMessage::error("unknown-event", message, false));
            }
        }
    }

    /// Sends a message to one participant.
    pub(super) fn send(&mut self, id: PeerId, message: &ServerMessage<'_>) {
        let Some(member) = self.member(id) else {
            return;
        };
        let text = message.to_json();
        self.with_conn(member.conn, |now, conn| conn.send_text(now, &text));
    }

    /// All participants of a room.
    pub(super) fn others(&self, room: &str) -> impl Iterator<Item = PeerId> {
        self.rooms.get(room).into_iter().flat_map(|room| room.members().iter().copied())
    }

    /// The tracks that a participant publishes.
    pub(super) fn tracks_of(&self, id: PeerId) -> Vec<(TrackId, MediaKind)> {
        let Some(member) = self.member(id) else {
            return Vec::new();
        };
        let tracks = member.participant.tracks.iter();
        tracks
            .map(|track| {
                let mid = track.mid;
                (TrackId { publisher: id, mid }, media_kind(track.kind))
            })
            .collect()
    }

    fn on_chat(&mut self, id: PeerId, message: String) {
        let (now, keep) = (self.now, self.config.limits.chat_history);
        let Some(member) = self.member_mut(id) else {
            return;
        };
        if !member.participant.chat.take(now) {
            return self.strike(id, "chat-too-fast", "Too many chat messages: at most 10 a second are allowed.");
        }
        if message.len() > CHAT_BYTES {
            let why = format!("A chat message may have at most {CHAT_BYTES} bytes.");
            return self.refuse(id, "chat-too-long", &why, true);
        }
        if message.trim().is_empty() {
            return self.refuse(id, "bad-message", "An empty chat message was not sent.", false);
        }
        member.budget.refund_chat();
        let time = self.wall.time_of_day(now);
        let member = self.slots[id.slot as usize].member.as_deref().expect("looked up above");
        let Some(room) = self.rooms.get_mut(&member.participant.room) else {
            return;
        };
        let line = room.chat(&member.participant, message, time, keep);
        self.stats.chat_lines += 1;
        let name = member.participant.room.clone();
        self.broadcast(&name, Some(id), &ServerMessage::Chat(chat_line(&line)));
    }

    fn on_mute(&mut self, id: PeerId, source: Source, muted: bool) {
        if let Some(member) = self.member_mut(id) {
            member.participant.is_silenced &= muted || source != Source::Microphone;
            self.set_muted(id, source, muted, None);
        }
    }

    /// Sets the mute state of a source. `by` is the moderator, or `None` if the participant did it.
    pub(super) fn set_muted(&mut self, id: PeerId, source: Source, muted: bool, by: Option<&str>) {
        let Some(member) = self.member_mut(id) else {
            return;
        };
        if member.participant.mute(source, muted) {
            let (room, own_id) = (member.participant.room.clone(), member.participant.id.clone());
            let except = by.is_none().then_some(id);
            self.broadcast(&room, except, &ServerMessage::Mute { id: &own_id, source, muted, by });
            if source == Source::Camera {
                self.queue_seating(room.clone());
            }
            if source == Source::Microphone
                && muted
                && let Some(entry) = self.rooms.get_mut(&room)
            {
                entry.speakers.remove(id);
                if entry.speakers.poll_change(self.now) {
                    self.speaking.push(room);
                    self.broadcast_speakers();
                }
            }
        }
    }

    /// Refuses a message and counts a fault; too many faults end the connection.
    pub(super) fn strike(&mut self, id: PeerId, code: &str, message: &str) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        if member.budget.tolerate_fault(now) {
            self.refuse(id, code, message, true);
        } else {
            // Clients that keep reconnecting and making faults must not fill the log.
            let level = if self.warnings.take(now) { Level::Warn } else { Level::Debug };
            log!(level, "{id}: connection closed: too many faults, the last: {code}");
            self.dismiss(id, code, message, false);
        }
    }

    /// Refuses a message without further consequences.
    pub(super) fn refuse(&mut self, id: PeerId, code: &str, message: &str, retry: bool) {
        self.stats.messages_refused += 1;
        self.send(id, &ServerMessage::error(code, message, retry));
    }

    /// Sends an error to a participant and closes its connection.
    pub(super) fn dismiss(&mut self, id: PeerId, code: &str, message: &str, retry: bool) {
        self.refuse(id, code, message, retry);
        let Some(member) = self.member(id) else {
            return;
        };
        let conn = member.conn;
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.member = None;
        }
        self.with_conn(conn, |now, conn| conn.close(now, POLICY, code));
        if retry {
            // The client may come back and stays in the room until then; its peer is unusable.
            if let Some(id) = self.reset(id, Duration::ZERO) {
                self.set_lost(id, true);
                self.on_disconnected(id, code);
            }
        } else {
            self.leave(id, code);
        }
    }

    /// Removes a participant whose place a new connection takes.
    fn replace(&mut self, id: PeerId) -> Option<Member> {
        let conn = self.member(id)?.conn;
        let message = "This call continues in another window or connection.";
        self.send(id, &ServerMessage::error("replaced", message, false));
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.member = None;
        }
        self.with_conn(conn, |now, conn| conn.close(now, POLICY, "replaced"));
        // The room stays even if it is empty: the new connection is about to join.
        self.remove(id)
    }

    fn send_welcome(&mut self, id: PeerId, others: &[PeerId]) {
        let Some(member) = self.member(id) else {
            return;
        };
        let own = &member.participant;
        let participants = others.iter().filter_map(|other| self.member(*other)).map(|other| signal::Participant {
            id: &other.participant.id,
            name: &other.participant.name,
            muted: &other.participant.muted,
            media: other.transport.is_lost.then_some(MediaState::Lost),
        });
        let welcome = ServerMessage::Welcome {
            id: &own.id,
            room: &own.room,
            name: &own.name,
            resume: &own.resume,
            rights: member.grant.rights,
            locked: self.rooms.get(&own.room).is_some_and(Room::is_locked),
            participants: participants.collect(),
            limits: signal::Limits {
                chat_bytes: CHAT_BYTES,
                name_chars: NAME_CHARS,
                room_peers: self.config.limits.max_room_size,
                last_n: self.config.limits.last_n,
            },
            version: env!("CARGO_PKG_VERSION"),
        }
        .to_json();
        let room = self.rooms.get(&own.room);
        let lines: Vec<_> = room.into_iter().flat_map(|room| room.history()).map(chat_line).collect();
        let history = (!lines.is_empty()).then(|| ServerMessage::History { lines }.to_json());
        self.with_conn(member.conn, |now: Instant, conn| {
            conn.send_text(now, &welcome);
            if let Some(history) = history {
                conn.send_text(now, &history);
            }
        });
    }

    /// Sends a message to all participants of a room but `except`; it is serialised and framed once.
    pub(super) fn broadcast(&mut self, room: &str, except: Option<PeerId>, message: &ServerMessage<'_>) {
        self.broadcast_text(room, except, &message.to_json());
    }

    pub(super) fn broadcast_text(&mut self, room: &str, except: Option<PeerId>, text: &str) {
        let frame = encode_text(text);
        let receivers: Vec<ConnId> = self
            .others(room)
            .filter(|id| Some(*id) != except)
            .filter_map(|id| self.member(id).map(|member| member.conn))
            .collect();
        for conn in receivers {
            self.with_conn(conn, |now, conn| conn.send_encoded(now, &frame));
        }
    }

    pub(super) fn insert(&mut self, member: Member) -> PeerId {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(super::Slot::default());
            self.slots.len() as u32 - 1
        });
        let entry = &mut self.slots[slot as usize];
        let id = PeerId { slot, generation: entry.generation };
        self.demux.insert_ufrag(member.peer.ufrag(), id);
        self.resumes.insert(member.participant.resume.clone(), id);
        self.pending_members += usize::from(member.transport.is_pending);
        if let Some(until) = member.absent_until {
            member.place.into_iter().for_each(|place| self.absent_by_place.add(place));
            self.timers.set(Waiter::Return(id), until);
        }
        if member.transport.is_lost {
            member.place.into_iter().for_each(|place| self.medialess_by_place.add(place));
        }
        entry.member = Some(Box::new(member));
        id
    }

    /// Removes a participant from all tables and its tracks from all subscribers. The room stays.
    pub(super) fn remove(&mut self, id: PeerId) -> Option<Member> {
        self.member(id)?;
        for (track, _) in self.tracks_of(id) {
            self.end_track(track);
        }
        let slot = &mut self.slots[id.slot as usize];
        let member = *slot.member.take().expect("looked up above");
        slot.generation = slot.generation.wrapping_add(1);
        self.free_slots.push(id.slot);
        self.resumes.remove(&member.participant.resume);
        self.pending_members -= usize::from(member.transport.is_pending);
        if let Some(place) = member.place.filter(|_| member.absent_until.is_some()) {
            self.absent_by_place.remove(place);
        }
        if let Some(place) = member.place.filter(|_| member.transport.is_lost) {
            self.medialess_by_place.remove(place);
        }
        self.demux.remove_ufrag(member.peer.ufrag());
        for address in member.peer.sending.addresses.iter() {
            self.demux.remove_address(address, id);
        }
        self.timers.cancel(Waiter::Peer(id));
        self.timers.cancel(Waiter::Offer(id));
        self.timers.cancel(Waiter::Pace(id));
        self.timers.cancel(Waiter::Seats(id));
        self.timers.cancel(Waiter::Return(id));
        let name = &member.participant.room;
        if let Some(room) = self.rooms.get_mut(name) {
            room.leave(id);
        }
        let others: Vec<PeerId> = self.others(name).collect();
        for other in others {
            for track in self.member_mut(other).into_iter().flat_map(|other| &mut other.participant.tracks) {
                track.subscribers.retain(|subscriber| subscriber.peer != id);
            }
        }
        Some(member)
    }
}

pub(super) fn media_kind(kind: Kind) -> MediaKind {
    match kind {
        Kind::Audio => MediaKind::Audio,
        Kind::Video => MediaKind::Video,
    }
}

fn chat_line(line: &crate::room::ChatLine) -> signal::ChatLine<'_> {
    signal::ChatLine { message: &line.message, time: &line.time, from: &line.from, name: &line.name, id: line.id }
}
