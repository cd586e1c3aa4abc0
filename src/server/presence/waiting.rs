//! The waiting room: clients that knock at a locked room wait, without media, until a moderator admits them.

use std::collections::BTreeMap;

use log::{debug, info};

use super::admission::Join;
use super::budget::MessageBudget;
use crate::id::{ConnId, ID_CHARS, IDENTITY_BYTES, PeerId};
use crate::limits::notices::Notice;
use crate::network::Network;
use crate::room::Room;
use crate::server::Server;
use crate::server::messages::POLICY;
use crate::server::presence::returning::NORMAL;
use crate::text::{NAME_CHARS, ROOM_CHARS};
use crate::web::signal::{ClientMessage, ServerMessage};

/// The most clients that wait for one room. Each change of the queue notifies all of them.
const MAX_WAITING: usize = 50;

/// The most of them from one network, so that it can't keep all others out. A lower number turns away people who share an
/// address.
const MAX_WAITING_OF_NETWORK: usize = 10;

/// The clients that wait, by room in the order of knocking.
#[derive(Default)]
pub struct WaitingRoom {
    rooms: BTreeMap<String, BTreeMap<ConnId, Waiting>>,
    /// The room that each connection waits for.
    conns: BTreeMap<ConnId, String>,
}

/// One client that waits.
struct Waiting {
    /// Random public id. The client gets another one when it joins.
    id: String,
    join: Join,
    budget: MessageBudget,
}

impl WaitingRoom {
    /// Upper bound of the memory of one waiting client in bytes, without its connection.
    pub const BYTES_EACH: usize = 2 * (size_of::<Waiting>() + size_of::<(ConnId, String)>())
        + ID_CHARS
        + 8 * NAME_CHARS
        + 12 * ROOM_CHARS
        + IDENTITY_BYTES;

    /// Whether no other client of a network may wait for a room.
    pub fn is_full(&self, room: &str, network: Option<Network>) -> bool {
        let is_same = |waiting: &Waiting| network.is_some() && waiting.join.network == network;
        let of_network = self.of(room).filter(|(_, waiting)| is_same(waiting)).count();
        self.len_of(room) >= MAX_WAITING || of_network >= MAX_WAITING_OF_NETWORK
    }

    /// The number of clients that wait for a room.
    fn len_of(&self, room: &str) -> usize {
        self.rooms.get(room).map_or(0, BTreeMap::len)
    }

    fn insert(&mut self, conn: ConnId, waiting: Waiting) {
        let room = waiting.join.room.clone();
        self.conns.insert(conn, room.clone());
        self.rooms.entry(room).or_default().insert(conn, waiting);
    }

    fn remove(&mut self, conn: ConnId) -> Option<Waiting> {
        let room = self.conns.remove(&conn)?;
        let queue = self.rooms.get_mut(&room)?;
        let waiting = queue.remove(&conn);
        if queue.is_empty() {
            self.rooms.remove(&room);
        }
        waiting
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Waiting> {
        self.rooms.get_mut(self.conns.get(&conn)?)?.get_mut(&conn)
    }

    /// The clients that wait for a room, in the order of knocking.
    fn of(&self, room: &str) -> impl Iterator<Item = (ConnId, &Waiting)> {
        self.rooms.get(room).into_iter().flatten().map(|(conn, waiting)| (*conn, waiting))
    }

    fn find(&self, room: &str, id: &str) -> Option<ConnId> {
        self.of(room).find(|(_, waiting)| waiting.id == id).map(|(conn, _)| conn)
    }
}

impl Server {
    /// Accepts the upgrade of a client that knocks, and notifies the moderators.
    pub(in crate::server) fn wait(&mut self, conn: ConnId, join: Join) {
        debug!("conn {}: {:?} knocks at room {:?}", conn.0, join.name, join.room);
        let id = self.names.token(ID_CHARS);
        self.conns.count(conn, join.network);
        let room = join.room.clone();
        self.send_knock(&room, &id, &join.name, true);
        self.waiting.insert(conn, Waiting { id, join, budget: MessageBudget::new(self.now) });
        let position = self.waiting.len_of(&room);
        if let Some(conn) = self.conns.touch(conn) {
            conn.upgrade(self.now);
            conn.send_text(self.now, &ServerMessage::Waiting { position }.to_json());
        }
    }

    /// Handles a text frame of a client that waits: only `leave` has an effect.
    pub(in crate::server) fn on_waiting_message(&mut self, conn: ConnId, text: &str) {
        let now = self.now;
        let Some(waiting) = self.waiting.get_mut(conn) else {
            return;
        };
        if !waiting.budget.charge(now, text.len()) {
            self.turn_away(conn, "too-fast", "Too many messages.");
        } else if ClientMessage::parse(text) == Ok(ClientMessage::Leave) {
            self.end_waiting(conn);
            self.close(conn, NORMAL, "left");
        }
    }

    /// Ends the waiting of a client whose connection has ended.
    pub(in crate::server) fn end_waiting(&mut self, conn: ConnId) {
        if let Some(waiting) = self.waiting.remove(conn) {
            self.on_waiting_ended(waiting);
        }
    }

    /// Admits or turns away a client that waits, for a moderator.
    pub(in crate::server) fn on_admit(&mut self, by: PeerId, id: &str, admitted: bool) {
        let Some(moderator) = self.participants.get(by) else {
            return;
        };
        if !moderator.grant.rights.moderate {
            return self.refuse(by, "forbidden", "Only moderators can do this.", false);
        }
        let name = &moderator.room;
        let Some(conn) = self.waiting.find(name, id) else {
            return self.refuse(by, "not-there", "This person no longer waits.", false);
        };
        if !admitted {
            if let Some(omitted) = self.notices.take(self.now, Notice::Moderated) {
                info!("{by} turned away a client that waited for room {name:?}{omitted}");
            }
            if let Some(waiting) = self.waiting.get_mut(conn) {
                self.admission.turn_away(self.now, &waiting.join);
            }
            return self.turn_away(conn, "not-admitted", "A moderator has not admitted you to this room.");
        }
        if self.rooms.get(name).is_some_and(|room| self.is_full(room) && self.longest_absent(room).is_none()) {
            return self.refuse(by, "room-full", "This room is full.", true);
        }
        if self.participants.len() >= self.config.limits.participants() {
            return self.refuse(by, "server-full", "The server is full.", true);
        }
        if let Some(omitted) = self.notices.take(self.now, Notice::Moderated) {
            info!("{by} admitted a client that waited for room {name:?}{omitted}");
        }
        self.admit_waiting(conn);
    }

    /// Admits all clients that wait for a room that is no longer locked, up to the limits; turns the others away.
    pub(in crate::server) fn admit_all(&mut self, room: &str) {
        for conn in self.waiting.of(room).map(|(conn, _)| conn).collect::<Vec<_>>() {
            let is_full = self.rooms.get(room).is_some_and(|room| self.is_full(room));
            if !is_full && self.participants.len() < self.config.limits.participants() {
                self.admit_waiting(conn);
            } else {
                self.turn_away(conn, "room-full", "This room is full.");
            }
        }
    }

    /// Turns away all clients that wait for a room.
    pub(in crate::server) fn turn_all_away(&mut self, room: &str, code: &str, message: &str) {
        for conn in self.waiting.of(room).map(|(conn, _)| conn).collect::<Vec<_>>() {
            self.turn_away(conn, code, message);
        }
    }

    /// Sends a moderator one `knock` for each client that waits for its room.
    pub(in crate::server) fn send_knocks(&mut self, id: PeerId) {
        let Some(participant) = self.participants.get(id).filter(|it| it.grant.rights.moderate) else {
            return;
        };
        let Some(conn) = self.conns.touch(participant.conn) else {
            return;
        };
        for (_, Waiting { id, join, .. }) in self.waiting.of(&participant.room) {
            conn.send_text(self.now, &ServerMessage::Knock { id, name: &join.name, waiting: true }.to_json());
        }
    }

    /// Whether a connection waits.
    pub(in crate::server) fn is_waiting(&self, conn: ConnId) -> bool {
        self.waiting.conns.contains_key(&conn)
    }

    fn admit_waiting(&mut self, conn: ConnId) {
        let Some(join) = self.waiting.get_mut(conn).map(|waiting| waiting.join.clone()) else {
            return;
        };
        // The same person may have been removed on another connection, or the token may have expired.
        let identity = join.grant.identity.as_deref();
        let room = self.rooms.get(&join.room);
        if room.is_some_and(|room| identity.is_some_and(|identity| room.is_removed(identity))) {
            return self.turn_away(conn, "removed", "A moderator has removed you from this room.");
        }
        if join.grant.expires.is_some_and(|expires| self.wall.unix_at(self.now) >= expires) {
            let message = "This room is for invited people. Ask the host for a new link.";
            return self.turn_away(conn, "unauthorized", message);
        }
        if let Some(waiting) = self.waiting.remove(conn) {
            self.on_waiting_ended(waiting);
            self.stats.count_join("joined");
            self.join(conn, join);
        }
    }

    fn turn_away(&mut self, conn: ConnId, code: &str, message: &str) {
        self.end_waiting(conn);
        if let Some(conn) = self.conns.touch(conn) {
            conn.send_text(self.now, &ServerMessage::error(code, message, false).to_json());
        }
        self.close(conn, POLICY, code);
    }

    /// Notifies the moderators, and sends the others that wait their new positions.
    fn on_waiting_ended(&mut self, ended: Waiting) {
        let room = &ended.join.room;
        self.send_knock(room, &ended.id, &ended.join.name, false);
        for (index, (conn, _)) in self.waiting.of(room).enumerate() {
            if let Some(conn) = self.conns.touch(conn) {
                conn.send_text(self.now, &ServerMessage::Waiting { position: index + 1 }.to_json());
            }
        }
    }

    /// Notifies the moderators of a room that a client waits, or no longer waits.
    fn send_knock(&mut self, room: &str, id: &str, name: &str, waiting: bool) {
        let text = ServerMessage::Knock { id, name, waiting }.to_json();
        let room: Option<&Room> = self.rooms.get(room);
        let participants = room.into_iter().flat_map(|room| self.participants.of(room));
        for (_, participant) in participants.filter(|(_, participant)| participant.grant.rights.moderate) {
            if let Some(conn) = self.conns.touch(participant.conn) {
                conn.send_text(self.now, &text);
            }
        }
    }
}
