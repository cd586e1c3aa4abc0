//! The table of TCP connections: how they are accepted, drained and closed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use log::{debug, info};

use super::Server;
use super::output::Output;
use crate::config::Limits;
use crate::id::{ConnId, PeerId};
use crate::limits::notices::Notice;
use crate::network::{Network, Tally};
use crate::timers::Waiter;
use crate::web::conn::{Conn, ConnEvent};
use crate::web::websocket::{self, Message};

/// The WebSocket close code for an unsupported type of data (RFC 6455 section 7.4.1).
const UNSUPPORTED: u16 = 1003;

/// All connections, and the queue of those that have to be drained.
#[derive(Default)]
pub struct Conns {
    entries: BTreeMap<ConnId, Entry>,
    by_network: Tally,
    touched: VecDeque<ConnId>,
}

/// One TCP connection.
pub struct Entry {
    pub conn: Conn,
    /// The network that the connection counts for, once known.
    pub network: Option<Network>,
    pub participant: Option<PeerId>,
    is_touched: bool,
}

impl Conns {
    pub fn insert(&mut self, id: ConnId, conn: Conn) {
        self.entries.insert(id, Entry { conn, network: None, participant: None, is_touched: false });
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(network) = entry.network {
            self.by_network.remove(network);
        }
        Some(entry)
    }

    pub fn get(&self, id: ConnId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Returns a connection to act on, and queues it to be drained.
    pub fn touch(&mut self, id: ConnId) -> Option<&mut Conn> {
        let entry = self.entries.get_mut(&id)?;
        if !entry.is_touched {
            entry.is_touched = true;
            self.touched.push_back(id);
        }
        Some(&mut entry.conn)
    }

    /// Removes the next connection from the queue.
    pub fn pop_touched(&mut self) -> Option<ConnId> {
        self.touched.pop_front()
    }

    /// Assigns a connection to a participant.
    pub fn assign(&mut self, id: ConnId, participant: PeerId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.participant = Some(participant);
        }
    }

    /// Detaches a connection and returns its participant.
    pub fn release(&mut self, id: ConnId) -> Option<PeerId> {
        self.entries.get_mut(&id)?.participant.take()
    }

    /// Counts a connection for its network, unless it is counted already.
    pub fn count(&mut self, id: ConnId, network: Option<Network>) {
        if let (Some(entry), Some(network)) = (self.entries.get_mut(&id), network)
            && entry.network.is_none()
        {
            entry.network = Some(network);
            self.by_network.add(network);
        }
    }

    /// Whether the network has reached its limit of connections.
    pub fn is_crowded(&self, network: Network, limits: &Limits) -> bool {
        self.by_network.of(network) >= limits.max_conns_per_addr
    }

    /// Whether half of the connections that are allowed in total, or for this connection's network, are in use.
    /// Connections then close after their response, so that the other half is free for clients that join.
    pub fn is_half_used(&self, id: ConnId, limits: &Limits) -> bool {
        let network = self.get(id).and_then(|entry| entry.network);
        let same_network = network.map_or(0, |network| self.by_network.of(network));
        2 * same_network > limits.max_conns_per_addr || 2 * self.len() > limits.max_conns
    }

    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.entries.keys().copied()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn poll_event(&mut self, id: ConnId) -> Option<ConnEvent> {
        self.entries.get_mut(&id)?.conn.poll_event()
    }

    /// Returns a connection to drain. It is queued again if it is touched again.
    fn untouch(&mut self, id: ConnId) -> Option<&mut Conn> {
        let entry = self.entries.get_mut(&id)?;
        entry.is_touched = false;
        Some(&mut entry.conn)
    }
}

impl Server {
    pub(super) fn on_accepted(&mut self, id: ConnId, remote: SocketAddr, secure: bool) {
        let limits = &self.config.limits;
        let network = Network::find(&self.config.trusted_proxies, remote.ip(), "");
        let is_crowded = network.is_some_and(|network| self.conns.is_crowded(network, limits));
        if is_crowded || self.conns.len() >= limits.max_conns {
            self.stats.conns_refused += 1;
            if let Some(omitted) = self.notices.take(self.now, Notice::Refused) {
                let (count, limit, option) = match network.filter(|_| is_crowded) {
                    Some(network) => {
                        (self.conns.by_network.of(network), limits.max_conns_per_addr, "--max-conns-per-addr")
                    }
                    None => (self.conns.len(), limits.max_conns, "--max-conns"),
                };
                let ip = remote.ip();
                info!("connection from {ip} refused: {count} of {limit} connections; raise {option}{omitted}");
            }
            self.outputs.push(Output::Close { conn: id });
            return;
        }
        self.conns.insert(id, Conn::new(self.now, remote, secure, websocket::Limits::default()));
        self.conns.count(id, network);
        self.conns.touch(id);
    }

    /// Handles the loss of a connection, whose socket is closed already. Unwritten bytes are lost.
    pub(super) fn on_gone(&mut self, id: ConnId) {
        if let Some(participant) = self.forget_conn(id) {
            self.on_disconnected(participant, "connection lost");
        }
    }

    /// Handles the events of a connection and takes its output.
    pub(super) fn on_touched(&mut self, id: ConnId) {
        while let Some(event) = self.conns.poll_event(id) {
            match event {
                ConnEvent::Request(request) => self.on_request(id, request),
                ConnEvent::Refused(refusal) => self.on_refused_request(refusal),
                ConnEvent::Message(Message::Text(text)) => self.on_message(id, &text),
                ConnEvent::Message(Message::Binary(_)) => {
                    self.close(id, UNSUPPORTED, "only text messages are supported");
                }
                ConnEvent::Closed { reason } => self.on_conn_closed(id, reason),
            }
        }
        let Some(conn) = self.conns.untouch(id) else {
            return;
        };
        while let Some(bytes) = conn.poll_transmit() {
            self.outputs.push(Output::Data { conn: id, bytes });
        }
        if conn.is_closed() {
            self.outputs.push(Output::Close { conn: id });
            if let Some(participant) = self.forget_conn(id) {
                self.on_disconnected(participant, "connection closed");
            }
        } else if let Some(deadline) = conn.next_timeout() {
            self.timers.set(Waiter::Conn(id), deadline);
        } else {
            self.timers.cancel(Waiter::Conn(id));
        }
    }

    /// Starts to close a WebSocket connection.
    pub(super) fn close(&mut self, id: ConnId, code: u16, reason: &str) {
        if let Some(conn) = self.conns.touch(id) {
            conn.close(self.now, code, reason);
        }
    }

    fn on_conn_closed(&mut self, id: ConnId, reason: &'static str) {
        debug!("conn {}: closed: {reason}", id.0);
        self.end_waiting(id);
        if let Some(participant) = self.conns.release(id) {
            self.on_disconnected(participant, reason);
        }
    }

    fn forget_conn(&mut self, id: ConnId) -> Option<PeerId> {
        self.timers.cancel(Waiter::Conn(id));
        self.end_waiting(id);
        self.conns.remove(id)?.participant
    }
}
