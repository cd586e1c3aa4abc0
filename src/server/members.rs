//! Members: joining, leaving, and what they say to each other.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use log::{Level, debug, error, info, log, warn};
use str0m::media::MediaKind;

use super::budget::Budget;
use super::requests::Admission;
use super::{Member, Server, Transport};
use crate::id::{ConnId, PeerId};
use crate::media::allowance::Allowance;
use crate::media::fault::PeerError;
use crate::media::negotiation::TrackId;
use crate::media::peer::Peer;
use crate::room::seats::Seats;
use crate::room::{CHAT_BYTES, Participant, Room};
use crate::text::NAME_CHARS;
use crate::timers::Waiter;
use crate::track::{Kind, Source};
use crate::web::signal::{self, BadMessage, ClientMessage, MediaState, ServerMessage};
use crate::web::token::Grant;
use crate::web::websocket::encode_text;

/// Characters of the secrets and ids that clients get; see `Names::token`.
const RESUME_CHARS: usize = 26;
pub(super) const ID_CHARS: usize = 10;

/// WebSocket close codes (RFC 6455 section 7.4.1).
pub(super) const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// Bytes of the longest message with a candidate that browsers send, with room for extensions.
const CANDIDATE_BYTES: usize = 1_024;

/// How long a restart is believed to take. Less lets pages come too early, and wait; more leaves them alone for longer.
pub(super) const RESTART: Duration = Duration::from_secs(1);

impl Server {
    /// Lets somebody in: answers the upgrade, greets, tells the others, and asks for the first offer.
    pub(super) fn join(&mut self, conn: ConnId, admission: Admission) {
        let now = self.now;
        let old = admission.replaces.and_then(|old| self.replace(old));
        let full = self.rooms.get(&admission.room).filter(|room| self.is_full(room));
        if let Some(absent) = full.and_then(|room| self.longest_absent(room)) {
            self.leave(absent, "a full room has no place for the absent");
        }
        let (resumed, is_lost) = (old.is_some(), old.as_ref().is_some_and(|old| old.transport.is_lost));
        let mut participant = Participant::new(
            now,
            self.names.token(ID_CHARS),
            admission.name,
            self.names.token(RESUME_CHARS),
            admission.room.clone(),
        );
        let mut budget = Budget::new(now);
        if let Some(Member { participant: old, budget: left, .. }) = old {
            participant.id = old.id;
            participant.name = old.name;
            // The client may not have learnt another before the connection breaks again.
            participant.resume = old.resume;
            participant.muted = old.muted;
            participant.is_silenced = old.is_silenced;
            participant.chat = old.chat;
            budget = left;
            self.leftovers.forget(&participant.id);
        } else if let Some((left, chat)) = admission.place.and_then(|place| self.leftovers.take(now, place)) {
            (budget, participant.chat) = (left, chat);
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
            told: BTreeMap::new(),
            padded: 0,
            is_oversize_told: false,
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
        self.greet(id, &others);
        let room = self.rooms.entry(admission.room.clone()).or_default();
        if let Some(secret) = admission.returns {
            room.take_returning(&secret);
        }
        self.enter(id, admission.replaces.filter(|_| resumed));
        let member = self.member(id).expect("inserted above");
        let (name, who) = (member.participant.name.clone(), member.participant.id.clone());
        if let Some(left_out) = self.joins.take(self.now) {
            let again = if resumed { " again" } else { "" };
            info!("{id} {name:?} joined room {:?}{again}{left_out}", admission.room);
        }
        if !resumed {
            self.broadcast(&admission.room, Some(id), &ServerMessage::Joined { id: &who, name: &name });
        }
        self.schedule(id);
    }

    /// A peer whose first offer asks for a microphone and a camera, if the token grants them.
    pub(super) fn new_peer(&mut self, simulcast: bool, grant: &Grant) -> Peer {
        let now = self.now;
        let mut peer = Peer::new(now, &self.profile, self.allowance(), simulcast, &mut self.names);
        if grant.rights.publish {
            peer.negotiation.publish(now, MediaKind::Audio, Source::Microphone);
            peer.negotiation.publish(now, MediaKind::Video, Source::Camera);
        }
        peer
    }

    /// Puts a member into its room. The others keep the seats that they gave to `old`, its predecessor.
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

    /// What one peer may send.
    fn allowance(&self) -> Allowance {
        let limits = &self.config.limits;
        Allowance::new(self.now, limits.max_publish_kbps, limits.max_publish_packets)
    }

    /// Takes somebody out, whatever the cause, and tells the others.
    pub(super) fn leave(&mut self, id: PeerId, reason: &str) {
        let now = self.now;
        let Some(Member { participant, place, budget, absent_until, .. }) = self.remove(id) else {
            return;
        };
        // Of one whose connection has ended it is kept already.
        if let Some(place) = place.filter(|_| absent_until.is_none()) {
            self.leftovers.keep(now, place, participant.id.clone(), budget, participant.chat);
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

    /// A peer can't go on: it is told why, and ends; nobody else notices more than that.
    pub(super) fn on_failed(&mut self, id: PeerId, error: &PeerError) {
        let now = self.now;
        let Some(member) = self.member(id) else {
            return;
        };
        let (room, conn) = (member.participant.room.clone(), member.conn);
        let is_doubtful = error.is_doubtful() && member.transport.connected_at.is_none();
        match error {
            PeerError::Bug(why) => match self.faults.handle_cause(now, why) {
                Some(0) => error!("{id} in room {room:?} ends: {error}"),
                Some(untold) => error!("{id} in room {room:?} ends, as {untold} others since the last time: {error}"),
                None => {}
            },
            _ => debug!("{id} in room {room:?} ends: {error}"),
        }
        self.stats.peers_failed += 1;
        let code = error.code();
        if self.can_renew(id) && is_doubtful && self.doubt(id) {
            return self.renew(id, code);
        }
        let place = self.conns.get(&conn).and_then(|entry| entry.place);
        if let Some(place) = place.filter(|_| error.is_fault() && !is_doubtful)
            && self.faults.handle_fault(now, place)
        {
            warn!("nobody new comes in from {place} for a while: too many faults, the last: {code}");
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

    /// Tells everybody when and where to go: elsewhere soon, or here when it is over. Who is not in a call is let go.
    pub(super) fn tell_closing(&mut self, ends: Instant) {
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

    /// Says goodbye to everybody.
    pub(super) fn close_all(&mut self) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in conns {
            self.with_conn(id, |now, conn| conn.close(now, GOING_AWAY, "shutdown"));
        }
    }

    /// One text frame of a member.
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
            return self.strike(id, "too-fast", "Too many messages: 10 a second, of 240 KiB together, are allowed.");
        }
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Answer { sdp }) => self.on_answer(id, sdp, text.len()),
            // ICE-lite learns addresses from checks; names and third parties are never looked at.
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
                self.strike(id, "bad-message", &format!("This message could not be read: {why}"));
            }
            Err(BadMessage::UnknownEvent(event)) => {
                debug!("{id}: unknown event {:?}", event.chars().take(32).collect::<String>());
                let message = "This server does not know this event; it was ignored.";
                self.send(id, &ServerMessage::error("unknown-event", message, false));
            }
        }
    }

    /// Sends a message to one member.
    pub(super) fn send(&mut self, id: PeerId, message: &ServerMessage<'_>) {
        let Some(member) = self.member(id) else {
            return;
        };
        let text = message.to_json();
        self.with_conn(member.conn, |now, conn| conn.send_text(now, &text));
    }

    /// Everybody in a room.
    pub(super) fn others(&self, room: &str) -> impl Iterator<Item = PeerId> {
        self.rooms.get(room).into_iter().flat_map(|room| room.members().iter().copied())
    }

    /// What somebody publishes.
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
            return self.strike(id, "chat-too-fast", "Too many chat lines: 10 a second are allowed.");
        }
        if message.len() > CHAT_BYTES {
            let why = format!("A chat line may have {CHAT_BYTES} bytes.");
            return self.refuse(id, "chat-too-long", &why, true);
        }
        if message.trim().is_empty() {
            return self.refuse(id, "bad-message", "An empty chat line was not sent.", false);
        }
        member.budget.give_back_chat();
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

    /// Something is muted or not from now on, by whom it belongs to, who knows, or by a moderator.
    pub(super) fn set_muted(&mut self, id: PeerId, source: Source, muted: bool, by: Option<&str>) {
        let Some(member) = self.member_mut(id) else {
            return;
        };
        if member.participant.mute(source, muted) {
            let (room, who) = (member.participant.room.clone(), member.participant.id.clone());
            let but = by.is_none().then_some(id);
            self.broadcast(&room, but, &ServerMessage::Mute { id: &who, source, muted, by });
            if source == Source::Camera {
                self.queue_seating(room.clone());
            }
            if source == Source::Microphone
                && muted
                && let Some(room_of) = self.rooms.get_mut(&room)
            {
                room_of.speakers.remove(id);
                if room_of.speakers.poll_change(self.now) {
                    self.speaking.push(room);
                    self.tell_speaking();
                }
            }
        }
    }

    /// Refuses something and counts it against the member; too many end the connection.
    pub(super) fn strike(&mut self, id: PeerId, code: &str, message: &str) {
        let now = self.now;
        let Some(member) = self.member_mut(id) else {
            return;
        };
        if member.budget.forgive(now) {
            self.refuse(id, code, message, true);
        } else {
            // Whoever makes faults again and again under new names must not fill the log.
            let level = if self.warnings.take(now) { Level::Warn } else { Level::Debug };
            log!(level, "{id}: too many faults, the last: {code}");
            self.dismiss(id, code, message, false);
        }
    }

    /// Refuses something; nothing else happens.
    pub(super) fn refuse(&mut self, id: PeerId, code: &str, message: &str, retry: bool) {
        self.stats.messages_refused += 1;
        self.send(id, &ServerMessage::error(code, message, retry));
    }

    /// Tells a member why, and ends its connection.
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
            // It is asked to come back, and stays in the room until it does; its peer can't be used any more.
            if let Some(id) = self.reset(id, Duration::ZERO) {
                self.set_lost(id, true);
                self.on_disconnected(id, code);
            }
        } else {
            self.leave(id, code);
        }
    }

    /// Ends a member whose place is taken by a new connection of the same person.
    fn replace(&mut self, id: PeerId) -> Option<Member> {
        let conn = self.member(id)?.conn;
        let message = "This call goes on in another window or connection.";
        self.send(id, &ServerMessage::error("replaced", message, false));
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.member = None;
        }
        self.with_conn(conn, |now, conn| conn.close(now, POLICY, "replaced"));
        // The room stays even if nobody else is in it: the new connection is about to join.
        self.remove(id)
    }

    fn greet(&mut self, id: PeerId, others: &[PeerId]) {
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

    /// One text for many, serialised and framed once.
    pub(super) fn broadcast(&mut self, room: &str, but: Option<PeerId>, message: &ServerMessage<'_>) {
        self.broadcast_text(room, but, &message.to_json());
    }

    pub(super) fn broadcast_text(&mut self, room: &str, but: Option<PeerId>, text: &str) {
        let frame = encode_text(text);
        let receivers: Vec<ConnId> = self
            .others(room)
            .filter(|id| Some(*id) != but)
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
        let place = &mut self.slots[slot as usize];
        let id = PeerId { slot, generation: place.generation };
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
        place.member = Some(Box::new(member));
        id
    }

    /// Takes a member out of everything that names it; its room stays.
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
