//! Joining and leaving: a participant is added to its room and removed from it.

use log::info;
use str0m::media::MediaKind;

use super::admission::Join;
use super::budget::MessageBudget;
use crate::drop_reason::DropReason;
use crate::id::{ConnId, ID_CHARS, PeerId, RESUME_CHARS};
use crate::limits::notices::Notice;
use crate::media::peer::Peer;
use crate::media::transport::allowance::Allowance;
use crate::room::seats::Seats;
use crate::room::{CHAT_BYTES, Published, Room};
use crate::server::Server;
use crate::server::forwarding::outbox::Outbox;
use crate::server::messages::{POLICY, chat};
use crate::server::participants::{Participant, Queued, RoomState, Transport};
use crate::text::NAME_CHARS;
use crate::timers::Waiter;
use crate::track::Source;
use crate::web::signal::{self, MediaState, ServerMessage};
use crate::web::token::Grant;

impl Server {
    /// Adds an admitted participant: accepts the upgrade, sends `welcome`, notifies the others, and schedules the first
    /// offer.
    pub(in crate::server) fn join(&mut self, conn: ConnId, mut join: Join) {
        let now = self.now;
        let old = join.replaces.and_then(|old| self.replace(old));
        let full = self.rooms.get(&join.room).filter(|room| self.is_full(room));
        if let Some(absent) = full.and_then(|room| self.longest_absent(room)) {
            self.leave(absent, "evicted while disconnected: room is full");
        }
        let is_resumed = old.is_some();
        let others: Vec<PeerId> = self.rooms.get(&join.room).map_or(Vec::new(), |room| room.participants().to_vec());
        let room = join.room.clone();
        let network = join.network;
        let replaces = join.replaces.filter(|_| is_resumed);
        let return_secret = join.return_secret.take();
        let participant = self.new_participant(conn, join, old);
        let id = self.insert(participant);
        self.conns.assign(conn, id);
        self.conns.count(conn, network);
        if let Some(conn) = self.conns.touch(conn) {
            conn.upgrade(now);
        }
        self.send_welcome(id, &others);
        let entry = self.rooms.entry(room.clone()).or_insert_with(|| Room::new(now));
        if let Some(secret) = return_secret {
            entry.forget_returning(&secret);
        }
        self.enter(id, replaces);
        let participant = self.participants.get(id).expect("inserted above");
        if let Some(omitted) = self.notices.take(now, Notice::Joined) {
            let again = if is_resumed { " again" } else { "" };
            info!("{id} {:?} joined room {room:?}{again}{omitted}", participant.name);
        }
        if !is_resumed && let Some(room) = self.rooms.get(&room) {
            let moderator = participant.grant.rights.moderate;
            let joined = ServerMessage::Joined { id: &participant.id, name: &participant.name, moderator };
            self.participants.broadcast(now, room, Some(id), &joined, &mut self.conns);
        }
        self.send_knocks(id);
        self.schedule_offer(id);
    }

    /// Adds a participant to its room. It takes over the seats that other participants have given to its predecessor
    /// `old`.
    pub(super) fn enter(&mut self, id: PeerId, old: Option<PeerId>) {
        let Some(name) = self.participants.get(id).map(|participant| participant.room.clone()) else {
            return;
        };
        let now = self.now;
        let room = self.rooms.entry(name.clone()).or_insert_with(|| Room::new(now));
        room.join(id);
        if let Some(old) = old {
            for other in room.others(id) {
                if let Some(other) = self.participants.get_mut(other) {
                    other.seats.replace(old, id);
                }
            }
        }
        self.count_audience(&name);
        self.seat_participant(id);
    }

    /// Removes a participant, for any reason, and notifies the others.
    pub(in crate::server) fn leave(&mut self, id: PeerId, reason: &str) {
        let now = self.now;
        let Some(participant) = self.remove(id) else {
            return;
        };
        let Participant { id: own_id, name, room: room_name, network, budget, absent_until, .. } = &participant;
        // The budget of a disconnected participant is kept already.
        if let Some(network) = network.filter(|_| absent_until.is_none()) {
            self.admission.kept_budgets.keep(now, network, own_id.clone(), *budget);
        }
        if let Some(omitted) = self.notices.take(now, Notice::Left) {
            info!("{id} {name:?} left room {room_name:?}: {reason}{omitted}");
        }
        let Some(room) = self.rooms.get_mut(room_name) else {
            return;
        };
        room.allow_return(&participant.resume, participant.grant.identity.as_deref());
        if room.spotlight.as_ref() == Some(own_id) {
            room.spotlight = None;
        }
        if room.participants().is_empty() {
            self.rooms.remove(room_name);
            return self.admit_all(room_name);
        }
        for other in room.participants() {
            if let Some(other) = self.participants.get_mut(*other) {
                other.seats.forget(id);
            }
        }
        self.participants.broadcast(now, room, None, &ServerMessage::Left { id: own_id, name }, &mut self.conns);
    }

    /// Creates a peer. Its first offer has m-lines for a microphone and a camera, if the token grants publishing.
    pub(super) fn new_peer(&mut self, simulcast: bool, grant: &Grant) -> Peer {
        let now = self.now;
        let limits = &self.config.limits;
        let allowance = Allowance::new(now, limits.max_publish_kbps, limits.max_publish_packets);
        let mut peer = Peer::new(now, &self.profile, allowance, simulcast, &mut self.names);
        if grant.rights.publish {
            peer.negotiation.publish(now, MediaKind::Audio, Source::Microphone);
            peer.negotiation.publish(now, MediaKind::Video, Source::Camera);
        }
        peer
    }

    /// Adds a participant to all tables, except to its room.
    pub(super) fn insert(&mut self, participant: Participant) -> PeerId {
        self.admission.add(&participant);
        let until = participant.absent_until;
        let ufrag = participant.peer.ufrag().to_owned();
        let id = self.participants.insert(participant);
        self.demux.insert_ufrag(&ufrag, id);
        if let Some(until) = until {
            self.timers.set(Waiter::Return(id), until);
        }
        id
    }

    /// Removes a participant from all tables and from its room, and ends its tracks. The room stays even if it is
    /// empty.
    pub(super) fn remove(&mut self, id: PeerId) -> Option<Participant> {
        for (track, _) in self.participants.tracks_of(id).collect::<Vec<_>>() {
            self.end_track(track);
        }
        let participant = self.participants.remove(id)?;
        self.admission.remove(&participant);
        self.demux.remove_ufrag(participant.peer.ufrag());
        for address in participant.peer.sending.addresses.iter() {
            self.demux.remove_address(address, id);
        }
        for waiter in [Waiter::Peer, Waiter::Offer, Waiter::Pace, Waiter::Seats, Waiter::Return] {
            self.timers.cancel(waiter(id));
        }
        if let Some(room) = self.rooms.get_mut(&participant.room) {
            room.leave(id);
            let mut unqueued = Vec::new();
            for other in room.participants() {
                for track in self.participants.get_mut(*other).into_iter().flat_map(|other| &mut other.published.tracks)
                {
                    unqueued.extend(track.subscribers.remove(id));
                }
            }
            self.count_unqueued(unqueued);
        }
        self.stats.drops.add(DropReason::PeerEnded, participant.outbox.len() as u64);
        self.count_audience(&participant.room);
        Some(participant)
    }

    /// Creates the participant. If it resumes `old`, it keeps the id, name, `resume` secret, budget and publications of
    /// `old`.
    fn new_participant(&mut self, conn: ConnId, join: Join, old: Option<Participant>) -> Participant {
        let now = self.now;
        let id = self.names.token(ID_CHARS);
        let resume = self.names.token(RESUME_CHARS);
        let peer = self.new_peer(join.simulcast, &join.grant);
        let transport = Transport {
            can_renew: join.can_renew,
            is_pending: true,
            is_lost: false,
            attempts: 0,
            unauthenticated_failures: 0,
            connected_at: None,
        };
        let participant = Participant {
            id,
            name: join.name,
            resume,
            room: join.room,
            grant: join.grant,
            conn,
            network: join.network,
            has_sent_message: false,
            absent_until: None,
            room_state: RoomState::default(),
            has_reported_oversized: false,
            budget: MessageBudget::new(now),
            published: Published::default(),
            peer,
            transport,
            seats: Seats::new(now),
            outbox: Outbox::default(),
            queued: Queued::default(),
        };
        let Some(mut old) = old else {
            let kept = join.network.and_then(|network| self.admission.kept_budgets.take(now, network));
            return Participant { budget: kept.unwrap_or(participant.budget), ..participant };
        };
        self.admission.kept_budgets.forget(&old.id);
        old.published.forget_m_lines();
        let mut grant = participant.grant;
        grant.rights.moderate |= old.room_state.is_promoted;
        Participant {
            id: old.id,
            name: old.name,
            // Not a new secret: the connection may break again before the client has received it.
            resume: old.resume,
            has_sent_message: true,
            grant,
            room_state: old.room_state,
            published: old.published,
            budget: old.budget,
            transport: Transport { is_lost: old.transport.is_lost, ..transport },
            ..participant
        }
    }

    /// Removes a participant that continues on a new connection.
    fn replace(&mut self, id: PeerId) -> Option<Participant> {
        let conn = self.participants.get(id)?.conn;
        let message = "This call continues in another window or connection.";
        self.send(id, &ServerMessage::error("replaced", message, false));
        self.conns.release(conn);
        self.close(conn, POLICY, "replaced");
        // The room stays even if it is empty: the new connection is about to join.
        self.remove(id)
    }

    fn send_welcome(&mut self, id: PeerId, others: &[PeerId]) {
        let Some(own) = self.participants.get(id) else {
            return;
        };
        let room = self.rooms.get(&own.room);
        let everyone = others.iter().copied().chain([id]);
        let others = others.iter().filter_map(|other| self.participants.get(*other)).map(|other| signal::Participant {
            id: &other.id,
            name: &other.name,
            moderator: other.grant.rights.moderate,
            muted: other.published.muted(),
            media: other.transport.is_lost.then_some(MediaState::Lost),
        });
        let welcome = ServerMessage::Welcome {
            id: &own.id,
            room: &own.room,
            name: &own.name,
            resume: &own.resume,
            rights: own.grant.rights,
            locked: room.is_some_and(Room::is_locked),
            participants: others.collect(),
            hands: self.participants.hands(everyone),
            spotlight: room.and_then(|room| room.spotlight.as_deref()),
            limits: signal::Limits {
                chat_bytes: CHAT_BYTES,
                name_chars: NAME_CHARS,
                room_peers: self.config.limits.max_room_size,
                last_n: self.config.limits.last_n,
            },
            version: env!("CARGO_PKG_VERSION"),
        };
        let Some(conn) = self.conns.touch(own.conn) else {
            return;
        };
        let now = self.now;
        conn.send_text(now, &welcome.to_json());
        let messages: Vec<_> = room.into_iter().flat_map(Room::history).map(chat::encode).collect();
        if !messages.is_empty() {
            conn.send_text(now, &ServerMessage::History { messages }.to_json());
        }
    }
}
