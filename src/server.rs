//! The server: one state machine without I/O, in which bytes and time go in and bytes and deadlines come out.
//!
//! It connects the web plane (connections, messages) with the media plane (peers, packets). The caller passes a whole
//! receive batch to `handle_input`, input by input, then calls `poll_output` until it returns `None`, and then sleeps
//! until `next_timeout` or the next input.
//!
//! Effects are queued: peers to end, packets to forward, peers and connections to drain. `work` executes them in one
//! flat loop; there are no callbacks and no recursion.

mod addresses;
pub mod bounds;
mod budget;
mod diagnosis;
mod forwarding;
mod members;
mod moderation;
mod offers;
mod pacing;
mod presence;
mod quality;
mod requests;
mod seating;
mod shedding;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::{debug, info};
use rustc_hash::FxHashMap;
use str0m::media::Mid;

use crate::bucket::Bucket;
use crate::clock::Wall;
use crate::config::Config;
use crate::faults::Faults;
use crate::id::{ConnId, Names, PeerId, TrackId};
use crate::load::Load;
use crate::media::fault::PeerError;
use crate::media::negotiation::profile::Profile;
use crate::media::peer::{Peer, PeerEvent};
use crate::media::rtp::packet::MAX_PAYLOAD;
use crate::media::rtp::packet::Packet;
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::demux::Demux;
use crate::notices::Notices;
use crate::place::{Place, Tally};
use crate::room::seats::Seats;
use crate::room::{Participant, Room};
use crate::stats::Stats;
use crate::timers::{Timers, Waiter};
use crate::web::assets::Assets;
use crate::web::conn::{Conn, ConnEvent};
use crate::web::token::{Grant, Key};
use crate::web::websocket::{self, Message};
use budget::{KeptBudgets, MessageBudget};
use diagnosis::Diagnosis;

/// Bytes of datagrams after which they are handed out. Fewer cost more system calls; more do not stay in the
/// second-level cache until they are sent, and delay the first subscribers of a packet.
const DATAGRAM_BYTES: usize = 128 * 1024;

/// The most packets received in one turn: sockets are read in batches of 64 datagrams.
const BATCH_PACKETS: usize = 128;

/// The most memory of the packets being distributed, in bytes, with those that wait for the next batch.
const BATCHES_BYTES: usize = 4 * BATCH_PACKETS * (size_of::<(PeerId, Packet)>() + MAX_PAYLOAD);

/// The most memory of one participant's entries in the work queues, in bytes. Each queue holds a participant, a room or
/// a track at most once.
const WORK_BYTES: usize = 16 * size_of::<TrackId>() + size_of::<(PeerId, PeerError)>() + 4 * size_of::<PeerEvent>();

/// STUN requests to verify per second from addresses that no peer has validated; each costs an HMAC. Others are
/// dropped, so that a flood takes little of the core; clients that are joining retransmit.
const UNVERIFIED_CHECKS_PER_S: f64 = 10_000.0;

/// Log lines per second about protocol errors of clients. More would let clients fill the log.
const WARNINGS_PER_S: f64 = 1.0;

/// Time for close frames to be exchanged at the end of a drain. A longer time shortens the calls; a shorter one cuts
/// off clients on slow networks.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// The WebSocket close code for an unsupported type of data (RFC 6455 section 7.4.1).
const UNSUPPORTED: u16 = 1003;

/// The arguments of [`Server::new`].
pub struct Setup {
    /// The settings.
    pub config: Config,
    /// The files of the page.
    pub assets: Assets,
    /// The addresses to announce in offers.
    pub candidates: Vec<SocketAddr>,
    /// The wall clock.
    pub wall: Wall,
    /// 32 bytes of entropy.
    pub seed: [u8; 32],
}

/// An external event.
#[derive(Debug)]
pub enum Input<'a> {
    /// A TCP connection was accepted.
    Accepted {
        /// An id that was never used before.
        conn: ConnId,
        /// The client's address.
        remote: SocketAddr,
        /// Whether the connection is TLS; `Data` carries its plaintext.
        secure: bool,
    },
    /// Bytes were received on a connection.
    Data {
        /// The connection.
        conn: ConnId,
        /// The bytes, at least one.
        bytes: &'a [u8],
    },
    /// Bytes of `Output::Data` were written.
    Written {
        /// The connection.
        conn: ConnId,
        /// The number of bytes.
        bytes: usize,
    },
    /// The client has closed its sending side.
    Eof {
        /// The connection.
        conn: ConnId,
    },
    /// The connection was lost or reset.
    Gone {
        /// The connection.
        conn: ConnId,
    },
    /// A UDP datagram was received.
    Datagram {
        /// The remote address.
        source: SocketAddr,
        /// The local address, never a wildcard.
        destination: SocketAddr,
        /// The payload.
        contents: &'a [u8],
    },
    /// A deadline has passed.
    Timeout,
    /// The load of the loop since the last such input.
    Load {
        /// The share of time that the loop was awake, from 0 to 1.
        share: f64,
    },
    /// The addresses to announce in offers have changed.
    Addresses {
        /// All addresses.
        candidates: Vec<SocketAddr>,
    },
    /// Start the shutdown; a second one ends the process at once.
    Shutdown,
}

/// An action for the caller.
#[derive(Debug)]
pub enum Output<'a> {
    /// Write bytes to a connection, in order.
    Data {
        /// The connection.
        conn: ConnId,
        /// The bytes.
        bytes: crate::web::conn::Transmit,
    },
    /// Close a connection once everything is written. It is the last output for this connection.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Send datagrams, in order.
    Datagrams(&'a Datagrams),
    /// The shutdown is complete: end the process.
    Exit,
}

/// The whole server.
pub struct Server {
    config: Config,
    assets: Assets,
    candidates: Vec<SocketAddr>,
    profile: Profile,
    names: Names,
    /// The key that verifies tokens; `None` if joining needs no token.
    key: Option<Key>,
    wall: Wall,
    started: Instant,
    now: Instant,
    stats: Stats,

    conns: BTreeMap<ConnId, Entry>,
    conns_by_place: Tally,
    /// Counts participants without a connection, who may return.
    absent_by_place: Tally,
    /// Counts participants whose media is disconnected.
    medialess_by_place: Tally,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    rooms: BTreeMap<String, Room>,
    resumes: FxHashMap<String, PeerId>,
    demux: Demux,
    /// Limits the verification of STUN requests from addresses that no peer has validated.
    unverified_checks: Bucket,
    /// Limits warnings about protocol errors of clients.
    warnings: Bucket,
    /// Log lines about participants who join, leave and publish.
    joins: Notices,
    leaves: Notices,
    publications: Notices,
    /// Log lines about refused connections and joins.
    refusals: Notices,
    /// Evidence of misconfigured proxies.
    diagnosis: Diagnosis,
    /// Log lines about untrusted clients that send `X-Forwarded-For`.
    proxies: Notices,
    timers: Timers,
    draining: Option<Drain>,
    /// The number of participants whose media has not connected yet.
    pending_members: usize,

    load: Load,
    /// The next slot to reallocate after a change of the shedding stage.
    reallocating: Option<usize>,
    /// Counts protocol errors by network, and bugs by cause.
    faults: Faults,
    /// Budgets of participants whose connections have ended, for newcomers from their networks.
    kept_budgets: KeptBudgets,
    /// Peers to end, with the error.
    failed: VecDeque<(PeerId, PeerError)>,
    /// Received packets that wait for the next batch, with their publishers.
    packets: Vec<(PeerId, Packet)>,
    /// Packets being distributed to subscribers. `Queued::packet` is an index into them.
    batch: Vec<(PeerId, Packet)>,
    /// Participants with packets of the batch in `Member::queue`.
    receivers: VecDeque<PeerId>,
    /// Rooms whose seats have to be assigned again.
    seatings: Vec<String>,
    /// Tracks whose layers have changed.
    changed: Vec<TrackId>,
    /// Participants whose allocation has to be computed again.
    allocations: VecDeque<PeerId>,
    /// Participants with a possible change of quality to send.
    qualities: VecDeque<PeerId>,
    /// Rooms whose speakers have changed.
    speaking: Vec<String>,
    /// Participants whose `Rtc` has to be driven and drained.
    dirty: VecDeque<PeerId>,
    /// Participants with an answer to process or a due offer. One per turn, since each takes milliseconds in a large
    /// room.
    negotiations: VecDeque<PeerId>,
    /// Connections with events, output or a new deadline.
    touched: VecDeque<ConnId>,
    peer_events: Vec<PeerEvent>,
    /// Datagrams to send.
    datagrams: Datagrams,
    /// Whether `datagrams` was handed out and is to be cleared.
    datagrams_out: bool,
    outputs: VecDeque<Output<'static>>,
    phase: Phase,
}

/// A shutdown in progress: calls continue until it ends.
#[derive(Clone, Copy)]
struct Drain {
    /// When the process ends at the latest.
    ends: Instant,
    /// Whether `ends` has passed.
    is_over: bool,
}

/// The progress of `work`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is new input; due timers, offers and answers have not been checked since.
    Fresh,
    /// Queued effects are being executed.
    Working,
    /// No effects are left.
    Settled,
}

/// One TCP connection.
struct Entry {
    conn: Conn,
    /// The network that the connection counts for, once known.
    place: Option<Place>,
    member: Option<PeerId>,
    touched: bool,
}

/// An entry in the table of participants.
#[derive(Default)]
struct Slot {
    generation: u32,
    member: Option<Box<Member>>,
}

/// One participant with its connection and peer.
struct Member {
    participant: Participant,
    /// What the participant's token grants.
    grant: Grant,
    conn: ConnId,
    /// The network that the participant counts for.
    place: Option<Place>,
    /// Whether it has sent a message. If so, its client has received `welcome` and knows the `resume` secret.
    has_spoken: bool,
    /// Until when it may return; `None` while it has a connection.
    absent_until: Option<Instant>,
    peer: Peer,
    transport: Transport,
    /// The participants whose tracks this one is sent.
    seats: Seats,
    /// Packets of the batch for this participant.
    queue: Vec<Queued>,
    /// Paced video packets that may not be sent yet.
    held: VecDeque<Held>,
    /// The number of wanted layers last sent to the client, for m-lines on which it publishes nothing now; absent if
    /// that was all.
    sent_wanted: BTreeMap<Mid, u8>,
    /// The index of the last packet sent as padding, counted back from the latest.
    padding_index: u16,
    /// See `report_oversized`.
    has_reported_oversized: bool,
    is_dirty: bool,
    negotiation_queued: bool,
    allocation_queued: bool,
    quality_queued: bool,
    budget: MessageBudget,
}

/// The state of a participant's media transport.
#[derive(Clone, Copy, Debug)]
struct Transport {
    /// Whether the client supports a fresh transport, with a new `RTCPeerConnection`, on the same WebSocket.
    can_renew: bool,
    /// Whether the first transport has not connected yet; counts towards `--max-pending`.
    is_pending: bool,
    /// Whether the room was notified that media is lost: it was connected or failed to connect, and is not connected
    /// now.
    is_lost: bool,
    /// Consecutive fresh transports of which none stayed connected.
    attempts: u32,
    /// Consecutive failed handshakes that anybody on the path may have forged.
    doubtful_failures: u32,
    /// When the current transport connected.
    connected_at: Option<Instant>,
}

/// A packet held back by the subscriber's pacer. The packet itself is in the history of its track.
struct Held {
    since: Instant,
    position: u32,
    layer: u8,
    line: u32,
    track: TrackId,
}

/// One packet of the batch to forward to one subscriber.
#[derive(Clone, Copy)]
struct Queued {
    /// Index into the batch.
    packet: u32,
    /// Index of the subscriber's m-line.
    line: u32,
    track: TrackId,
}

impl Member {
    /// The most memory of one participant's entries in the server's queues, in bytes, apart from media.
    const QUEUES_BYTES: usize = 2 * (BATCH_PACKETS * size_of::<Queued>() + WORK_BYTES);
}

impl Server {
    /// An empty server. Generates a certificate, which takes some milliseconds.
    pub fn new(now: Instant, setup: Setup) -> Self {
        Self {
            profile: Profile::new(&setup.config.codecs, &setup.candidates, setup.wall),
            key: setup.config.token_secret.as_ref().map(Key::new),
            config: setup.config,
            assets: setup.assets,
            candidates: setup.candidates,
            names: Names::new(setup.seed),
            wall: setup.wall,
            started: now,
            now,
            stats: Stats::default(),
            conns: BTreeMap::new(),
            conns_by_place: Tally::default(),
            absent_by_place: Tally::default(),
            medialess_by_place: Tally::default(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            rooms: BTreeMap::new(),
            resumes: FxHashMap::default(),
            demux: Demux::default(),
            unverified_checks: Bucket::new(now, UNVERIFIED_CHECKS_PER_S, UNVERIFIED_CHECKS_PER_S),
            warnings: Bucket::new(now, WARNINGS_PER_S, WARNINGS_PER_S),
            joins: Notices::new(now),
            leaves: Notices::new(now),
            publications: Notices::new(now),
            refusals: Notices::new(now),
            diagnosis: Diagnosis::default(),
            proxies: Notices::new(now),
            timers: Timers::default(),
            draining: None,
            pending_members: 0,
            load: Load::new(now),
            reallocating: None,
            faults: Faults::default(),
            kept_budgets: KeptBudgets::default(),
            failed: VecDeque::new(),
            packets: Vec::new(),
            batch: Vec::new(),
            receivers: VecDeque::new(),
            seatings: Vec::new(),
            changed: Vec::new(),
            allocations: VecDeque::new(),
            qualities: VecDeque::new(),
            speaking: Vec::new(),
            dirty: VecDeque::new(),
            negotiations: VecDeque::new(),
            touched: VecDeque::new(),
            peer_events: Vec::new(),
            datagrams: Datagrams::default(),
            datagrams_out: false,
            outputs: VecDeque::new(),
            phase: Phase::Settled,
        }
    }

    /// Takes one input. Cheap: its effects are executed by `poll_output`.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.now = self.now.max(now);
        self.forget_handed_out();
        self.phase = Phase::Fresh;
        match input {
            Input::Accepted { conn, remote, secure } => self.on_accepted(conn, remote, secure),
            Input::Data { conn, bytes } => self.with_conn(conn, |now, conn| conn.handle_data(now, bytes)),
            Input::Written { conn, bytes } => self.with_conn(conn, |now, conn| conn.handle_written(now, bytes)),
            Input::Eof { conn } => self.with_conn(conn, |now, conn| conn.handle_eof(now)),
            Input::Gone { conn } => self.on_gone(conn),
            Input::Datagram { source, destination, contents } => self.on_datagram(source, destination, contents),
            Input::Timeout => {}
            Input::Load { share } => self.on_load(share),
            Input::Addresses { candidates } => self.on_addresses(candidates),
            Input::Shutdown => self.on_shutdown(),
        }
    }

    /// The next output; `None` if all effects of the inputs have been executed.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        self.forget_handed_out();
        while self.outputs.is_empty() && self.datagrams.bytes() < DATAGRAM_BYTES && self.phase != Phase::Settled {
            self.work();
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.datagrams_out = !self.datagrams.is_empty();
        self.stats.datagrams_out += self.datagrams.len() as u64;
        self.datagrams_out.then_some(Output::Datagrams(&self.datagrams))
    }

    /// When `Input::Timeout` is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let is_done = self.phase == Phase::Settled && self.negotiations.is_empty() && self.reallocating.is_none();
        if is_done { self.timers.next_timeout() } else { Some(self.now) }
    }

    /// Sets the wall clock.
    pub fn set_wall(&mut self, wall: Wall) {
        self.wall = wall;
    }

    /// Replaces the page's files.
    pub fn set_assets(&mut self, assets: Assets) {
        self.assets = assets;
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Sizes of everything that grows with the number of clients: connections, participants, rooms, resume secrets,
    /// validated addresses, ufrags, timers. All are zero when every client is gone.
    pub fn sizes(&self) -> [usize; 7] {
        let (addresses, ufrags) = self.demux.len();
        [
            self.conns.len(),
            self.slots.len() - self.free_slots.len(),
            self.rooms.len(),
            self.resumes.len(),
            addresses,
            ufrags,
            self.timers.len(),
        ]
    }

    fn forget_handed_out(&mut self) {
        if std::mem::take(&mut self.datagrams_out) {
            self.datagrams.clear();
        }
    }

    /// Executes one step of the pending work: first due timers and at most one offer or answer, then queued effects
    /// until there are none.
    fn work(&mut self) {
        if self.phase == Phase::Fresh {
            self.stats.turns += 1;
            while let Some(waiter) = self.timers.take_due(self.now) {
                self.on_due(waiter);
            }
            if let Some(peer) = self.negotiations.pop_front() {
                self.on_negotiation(peer);
            }
            self.reallocate();
            self.phase = Phase::Working;
        } else if let Some((peer, error)) = self.failed.pop_front() {
            self.on_failed(peer, &error);
        } else if let Some(room) = self.seatings.pop() {
            self.seat_room(&room);
        } else if let Some(peer) = self.receivers.pop_front() {
            self.on_receiver(peer);
        } else if let Some(peer) = self.dirty.pop_front() {
            self.on_dirty(peer);
        } else if !self.batch.is_empty() || !self.packets.is_empty() {
            self.archive();
            self.distribute();
            self.broadcast_speakers();
            self.on_layers();
        } else if let Some(peer) = self.allocations.pop_front() {
            self.on_allocation(peer);
        } else if let Some(peer) = self.qualities.pop_front() {
            self.send_quality(peer);
        } else if let Some(conn) = self.touched.pop_front() {
            self.on_touched(conn);
        } else {
            if self.draining.is_some_and(|drain| drain.is_over || self.conns.is_empty()) {
                self.outputs.push_back(Output::Exit);
            }
            self.phase = Phase::Settled;
        }
    }

    fn on_due(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Conn(conn) => self.with_conn(conn, |now, conn| conn.handle_timeout(now)),
            Waiter::Peer(peer) => self.mark_dirty(peer),
            Waiter::Offer(peer) => self.queue_negotiation(peer),
            Waiter::Pace(peer) => {
                // Feedback starts probes too, but there is none without media.
                let probe = self.member(peer).and_then(|member| member.peer.sending.next_probe());
                if probe.is_some_and(|due| due <= self.now) {
                    self.probe(peer);
                }
                self.receivers.push_back(peer);
            }
            Waiter::Seats(peer) => self.seat_member(peer),
            Waiter::Return(peer) => self.leave(peer, "not returned in time"),
            Waiter::Server => self.on_drained(),
        }
    }

    fn on_accepted(&mut self, id: ConnId, remote: SocketAddr, secure: bool) {
        let place = Place::find(&self.config.trusted_proxies, remote.ip(), "");
        let is_crowded = place.is_some_and(|place| self.is_crowded(place));
        if is_crowded || self.conns.len() >= self.config.limits.max_conns {
            self.stats.conns_refused += 1;
            if let Some(left_out) = self.refusals.take(self.now) {
                let option = if is_crowded { "--max-conns-per-addr" } else { "--max-conns" };
                info!("connection from {} refused: limit {option} reached{left_out}", remote.ip());
            }
            self.outputs.push_back(Output::Close { conn: id });
            return;
        }
        let conn = Conn::new(self.now, remote, secure, websocket::Limits::default());
        self.conns.insert(id, Entry { conn, place: None, member: None, touched: false });
        self.count(id, place);
        self.touch(id);
    }

    /// Whether the network has reached its limit of connections.
    fn is_crowded(&self, place: Place) -> bool {
        self.conns_by_place.of(place) >= self.config.limits.max_conns_per_addr
    }

    /// Whether half of the allowed connections are in use, in all or for this connection's network. Then connections
    /// close after their response: the other half is for clients that join, not for idle ones.
    fn is_half_used(&self, id: ConnId) -> bool {
        let limits = &self.config.limits;
        let place = self.conns.get(&id).and_then(|entry| entry.place);
        let same_place = place.map_or(0, |place| self.conns_by_place.of(place));
        2 * same_place > limits.max_conns_per_addr || 2 * self.conns.len() > limits.max_conns
    }

    /// Counts a connection for its network.
    fn count(&mut self, id: ConnId, place: Option<Place>) {
        if let (Some(entry), Some(place)) = (self.conns.get_mut(&id), place)
            && entry.place.is_none()
        {
            entry.place = Some(place);
            self.conns_by_place.add(place);
        }
    }

    /// The socket is closed; unwritten bytes are lost.
    fn on_gone(&mut self, id: ConnId) {
        if let Some(member) = self.forget_conn(id) {
            self.on_disconnected(member, "connection lost");
        }
    }

    fn on_shutdown(&mut self) {
        if self.draining.is_some() {
            self.outputs.push_back(Output::Exit);
            return;
        }
        let ends = self.now + self.config.drain;
        let closes = ends - CLOSE_TIME.min(self.config.drain / 2);
        info!("shutting down: {} participants notified", self.member_ids().count());
        self.draining = Some(Drain { ends, is_over: false });
        self.announce_shutdown(ends);
        self.timers.set(Waiter::Server, closes);
    }

    /// Ends the calls when their time is up, then the process.
    fn on_drained(&mut self) {
        let Some(drain) = &mut self.draining else {
            return;
        };
        drain.is_over = self.now >= drain.ends;
        let ends = drain.ends;
        if !drain.is_over {
            self.timers.set(Waiter::Server, ends);
        }
        self.close_all();
    }

    /// Calls `act` on a connection and queues the connection for draining.
    fn with_conn(&mut self, id: ConnId, act: impl FnOnce(Instant, &mut Conn)) {
        if let Some(entry) = self.conns.get_mut(&id) {
            act(self.now, &mut entry.conn);
            self.touch(id);
        }
    }

    fn touch(&mut self, id: ConnId) {
        if let Some(entry) = self.conns.get_mut(&id)
            && !std::mem::replace(&mut entry.touched, true)
        {
            self.touched.push_back(id);
        }
    }

    /// Handles the events of a connection and takes its output.
    fn on_touched(&mut self, id: ConnId) {
        while let Some(event) = self.conns.get_mut(&id).and_then(|entry| entry.conn.poll_event()) {
            match event {
                ConnEvent::Request(request) => self.on_request(id, &request),
                ConnEvent::Message(Message::Text(text)) => self.on_message(id, &text),
                ConnEvent::Message(Message::Binary(_)) => {
                    self.with_conn(id, |now, conn| conn.close(now, UNSUPPORTED, "only text messages are supported"));
                }
                ConnEvent::Closed { reason } => self.on_conn_closed(id, reason),
            }
        }
        let Some(entry) = self.conns.get_mut(&id) else {
            return;
        };
        entry.touched = false;
        while let Some(bytes) = entry.conn.poll_transmit() {
            self.outputs.push_back(Output::Data { conn: id, bytes });
        }
        if entry.conn.is_closed() {
            self.outputs.push_back(Output::Close { conn: id });
            if let Some(member) = self.forget_conn(id) {
                self.on_disconnected(member, "connection closed");
            }
        } else if let Some(deadline) = entry.conn.next_timeout() {
            self.timers.set(Waiter::Conn(id), deadline);
        } else {
            self.timers.cancel(Waiter::Conn(id));
        }
    }

    fn on_conn_closed(&mut self, id: ConnId, reason: &'static str) {
        debug!("conn {}: closed: {reason}", id.0);
        let member = self.conns.get_mut(&id).and_then(|entry| entry.member.take());
        if let Some(member) = member {
            self.on_disconnected(member, reason);
        }
    }

    fn forget_conn(&mut self, id: ConnId) -> Option<PeerId> {
        let entry = self.conns.remove(&id)?;
        self.timers.cancel(Waiter::Conn(id));
        if let Some(place) = entry.place {
            self.conns_by_place.remove(place);
        }
        entry.member
    }

    fn member(&self, id: PeerId) -> Option<&Member> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.member.as_deref().filter(|_| slot.generation == id.generation)
    }

    fn member_mut(&mut self, id: PeerId) -> Option<&mut Member> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let generation = slot.generation;
        slot.member.as_deref_mut().filter(|_| generation == id.generation)
    }

    fn member_ids(&self) -> impl Iterator<Item = PeerId> {
        self.rooms.values().flat_map(|room| room.members().iter().copied())
    }
}
