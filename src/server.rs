//! The server is one state machine without I/O: bytes and time go in, bytes and deadlines come out.
//!
//! It is where the web plane (connections, messages) and the media plane (peers, packets) meet. `handle_input` takes
//! any number of inputs, a whole receive batch; then `poll_output` is called until there is nothing, which
//! settles what the batch caused; then nothing happens until `next_timeout` or the next input.
//!
//! Effects are queued: what ends a peer, what a packet has to do, which peer and which connection has to be
//! drained. `settle` carries them out in one flat loop. Nothing is called back and nothing recurses.

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
use crate::datagrams::Datagrams;
use crate::faults::Faults;
use crate::id::{ConnId, Names, PeerId};
use crate::load::Load;
use crate::media::demux::Demux;
use crate::media::fault::PeerError;
use crate::media::negotiation::TrackId;
use crate::media::packet::MAX_PAYLOAD;
use crate::media::packet::Packet;
use crate::media::peer::{Peer, PeerEvent};
use crate::media::profile::Profile;
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
use budget::{Budget, Leftovers};
use diagnosis::Diagnosis;

/// Bytes of datagrams that are handed out at a time. Fewer cost more system calls; more leave the processor's
/// second cache before they are sent, and let the first subscribers of a packet wait for the last.
const DATAGRAM_BYTES: usize = 128 * 1024;

/// Packets that one turn's datagrams bring at most: the sockets are read in batches of 64.
const BATCH_PACKETS: usize = 128;

/// The most that the packets take that wait to be given to subscribers, and those that are being given.
const BATCHES_BYTES: usize = 4 * BATCH_PACKETS * (size_of::<(PeerId, Packet)>() + MAX_PAYLOAD);

/// What one member may have in the queues of work at most: each names a member once, or a room or a track of it.
const WORK_BYTES: usize = 16 * size_of::<TrackId>() + size_of::<(PeerId, PeerError)>() + 4 * size_of::<PeerEvent>();

/// STUN requests a second from addresses that are nobody's yet, which are verified: each costs an HMAC. More
/// are dropped, so that a flood takes little of the core; who joins meanwhile asks again.
const STRANGER_CHECKS: f64 = 10_000.0;

/// Lines a second in the log for people who are closed for their faults. More let them fill it.
const WARNINGS: f64 = 1.0;

/// How long connections have at the end of a drain to say goodbye. Longer takes from the calls, shorter cuts off who is
/// far away.
const GOODBYE: Duration = Duration::from_millis(500);

/// The WebSocket close code for data of a kind that is not understood (RFC 6455 section 7.4.1).
const UNSUPPORTED: u16 = 1003;

/// What a server is made from.
pub struct Setup {
    /// Settings.
    pub config: Config,
    /// The page.
    pub assets: Assets,
    /// Addresses that offers announce.
    pub candidates: Vec<SocketAddr>,
    /// What the wall clock shows.
    pub wall: Wall,
    /// 32 bytes that nobody knows.
    pub seed: [u8; 32],
}

/// What happened outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// A TCP connection was accepted; `secure` if it is TLS, whose plaintext follows.
    Accepted {
        /// A number never used before.
        conn: ConnId,
        /// The other end.
        remote: SocketAddr,
        /// TLS.
        secure: bool,
    },
    /// Bytes came on a connection.
    Data {
        /// Which.
        conn: ConnId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// Bytes of `Output::Data` were written.
    Written {
        /// Which.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// The other end will send nothing more.
    Eof {
        /// Which.
        conn: ConnId,
    },
    /// The connection ended by the other end's doing.
    Gone {
        /// Which.
        conn: ConnId,
    },
    /// A UDP datagram came.
    Datagram {
        /// Where from.
        source: SocketAddr,
        /// The local address it came to, never a wildcard.
        destination: SocketAddr,
        /// Its payload.
        contents: &'a [u8],
    },
    /// Time has passed.
    Timeout,
    /// How busy the loop is: for which share of the time since it last told it was not asleep.
    Load {
        /// From 0 to 1.
        share: f64,
    },
    /// The addresses that offers announce from now on.
    Addresses {
        /// All of them.
        candidates: Vec<SocketAddr>,
    },
    /// Tell everybody and finish.
    Shutdown,
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Output<'a> {
    /// Write to a connection, in order.
    Data {
        /// Which.
        conn: ConnId,
        /// The bytes.
        bytes: crate::web::conn::Transmit,
    },
    /// Close a connection once everything was written; it is not spoken of again.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Send these, in order.
    Datagrams(&'a Datagrams),
    /// Everybody was told: end the process.
    Exit,
}

/// The whole server.
pub struct Server {
    config: Config,
    assets: Assets,
    candidates: Vec<SocketAddr>,
    profile: Profile,
    names: Names,
    /// What tokens are opened with, where they are asked for.
    key: Option<Key>,
    wall: Wall,
    started: Instant,
    now: Instant,
    stats: Stats,

    conns: BTreeMap<ConnId, Entry>,
    conns_by_place: Tally,
    /// Participants whose connection is gone, and who may return.
    absent_by_place: Tally,
    /// Participants whose media is lost.
    medialess_by_place: Tally,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    rooms: BTreeMap<String, Room>,
    resumes: FxHashMap<String, PeerId>,
    demux: Demux,
    /// STUN of those who have not shown a password from where they are: it has to be verified.
    strangers: Bucket,
    /// Warnings of people's faults that may be logged.
    warnings: Bucket,
    /// Who comes, who goes, and who sends something.
    joins: Notices,
    leaves: Notices,
    publications: Notices,
    /// Who is not let in.
    refusals: Notices,
    /// What is known of proxies that are set up wrong.
    diagnosis: Diagnosis,
    /// Log lines about untrusted clients that send `X-Forwarded-For`.
    proxies: Notices,
    timers: Timers,
    draining: Option<Drain>,
    /// Members whose media is not connected yet.
    pending_members: usize,

    load: Load,
    /// Index of the slot from which on members are to be allocated what the load allows.
    reallocating: Option<usize>,
    /// Where peers fail, and why.
    faults: Faults,
    leftovers: Leftovers,
    /// Peers that failed, to be ended.
    failed: VecDeque<(PeerId, PeerError)>,
    /// Packets that wait to be given to subscribers, with their publisher.
    packets: Vec<(PeerId, Packet)>,
    /// Packets that are being given to subscribers; indices into it stand in `Member::queue`.
    batch: Vec<(PeerId, Packet)>,
    /// Members for whom something of the batch is queued.
    receivers: VecDeque<PeerId>,
    /// Rooms in which others may get a seat than before.
    seatings: Vec<String>,
    /// Tracks of which other layers come than before.
    changed: Vec<TrackId>,
    /// Members for whom it is to be decided again what they are sent.
    allocations: VecDeque<PeerId>,
    /// Members who are sent something else than they were told.
    qualities: VecDeque<PeerId>,
    /// Rooms in which somebody else speaks now.
    speaking: Vec<String>,
    /// Members whose `Rtc` has to be driven and drained.
    dirty: VecDeque<PeerId>,
    /// Members with an answer to be taken or an offer that is due; one of these a turn, since each takes milliseconds in
    /// a large room.
    negotiations: VecDeque<PeerId>,
    /// Connections with something to write, or with another deadline.
    touched: VecDeque<ConnId>,
    peer_events: Vec<PeerEvent>,
    /// What leaves next.
    datagrams: Datagrams,
    /// They were handed out.
    datagrams_out: bool,
    outputs: VecDeque<Output<'static>>,
    phase: Phase,
}

/// The end of a server, whose calls go on for a while.
#[derive(Clone, Copy)]
struct Drain {
    /// When the process ends, whoever is still there.
    ends: Instant,
    /// That is now.
    is_over: bool,
}

/// How far the server is with what the inputs caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Inputs came; due timers, offers and answers have not been looked at since.
    Fresh,
    /// Effects are being carried out.
    Working,
    /// Nothing is left to do.
    Settled,
}

/// One TCP connection.
struct Entry {
    conn: Conn,
    /// Where it counts, once that is known.
    place: Option<Place>,
    member: Option<PeerId>,
    touched: bool,
}

/// A place in the dense table of members.
#[derive(Default)]
struct Slot {
    generation: u32,
    member: Option<Box<Member>>,
}

/// One participant with connection and peer.
struct Member {
    participant: Participant,
    /// What the token says.
    grant: Grant,
    conn: ConnId,
    /// The network that it counts for.
    place: Option<Place>,
    /// It has sent a message: so it is welcomed, and knows the secret to return with.
    has_spoken: bool,
    /// Its connection is gone: until when it may return.
    absent_until: Option<Instant>,
    peer: Peer,
    transport: Transport,
    /// Whose tracks this member is sent.
    seats: Seats,
    /// What of the batch goes to this member.
    queue: Vec<Queued>,
    /// Video that may not leave yet.
    held: VecDeque<Held>,
    /// How many layers are wanted of m-lines on which it sends nothing now, as it was last told, if not all.
    told: BTreeMap<Mid, u8>,
    /// How far back the last packet was that filled a probe.
    padded: u16,
    /// See `tell_oversized`.
    is_oversize_told: bool,
    is_dirty: bool,
    negotiation_queued: bool,
    allocation_queued: bool,
    quality_queued: bool,
    budget: Budget,
}

/// How the transport of a participant's media fares.
#[derive(Clone, Copy, Debug)]
struct Transport {
    /// The client makes a new `RTCPeerConnection` for a fresh transport on the same WebSocket.
    can_renew: bool,
    /// It has never been connected, and counts towards `--max-pending`.
    is_pending: bool,
    /// It was connected, or failed to connect, and is not connected now: the room was told.
    is_lost: bool,
    /// Fresh transports in a row of which none stayed connected.
    attempts: u32,
    /// Handshakes in a row that failed for what anybody on the path may have sent.
    doubtful_failures: u32,
    /// When the present one connected.
    connected_at: Option<Instant>,
}

/// A packet that waits for its turn on the subscriber's path; it is kept in its track's history.
struct Held {
    since: Instant,
    position: u32,
    line: u32,
    track: TrackId,
}

/// One packet of the batch for one subscriber.
#[derive(Clone, Copy)]
struct Queued {
    /// Index into the batch.
    packet: u32,
    /// Index of the subscriber's line.
    line: u32,
    track: TrackId,
}

impl Member {
    /// The most that one takes to be queued in the server's own work, beside what it is sent.
    const QUEUES_BYTES: usize = 2 * (BATCH_PACKETS * size_of::<Queued>() + WORK_BYTES);
}

impl Server {
    /// A server with nobody in it. Makes a certificate: some milliseconds.
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
            strangers: Bucket::new(now, STRANGER_CHECKS, STRANGER_CHECKS),
            warnings: Bucket::new(now, WARNINGS, WARNINGS),
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
            leftovers: Leftovers::default(),
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

    /// Takes one input. Cheap by itself: what it causes is done by `poll_output`.
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

    /// Gives the next output; `None` when everything that the inputs caused has been done.
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

    /// The loop read the wall clock again.
    pub fn set_wall(&mut self, wall: Wall) {
        self.wall = wall;
    }

    /// The page's files changed.
    pub fn set_assets(&mut self, assets: Assets) {
        self.assets = assets;
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Sizes of everything that grows with its users: connections, members, rooms, resume secrets, validated
    /// addresses, ufrags, timers. All zero when everybody has gone.
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

    /// Does a piece of what the inputs caused: first due timers and at most one offer or answer, then effects until there are
    /// none.
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
            self.tell_speaking();
            self.on_layers();
        } else if let Some(peer) = self.allocations.pop_front() {
            self.on_allocation(peer);
        } else if let Some(peer) = self.qualities.pop_front() {
            self.tell_quality(peer);
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
                // Without media there is no feedback that could begin a probe.
                let probe = self.member(peer).and_then(|member| member.peer.sending.next_probe());
                if probe.is_some_and(|due| due <= self.now) {
                    self.probe(peer);
                }
                self.receivers.push_back(peer);
            }
            Waiter::Seats(peer) => self.seat_member(peer),
            Waiter::Return(peer) => self.leave(peer, "it did not return"),
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
                info!("a connection from {} is refused: there are as many as {option} allows{left_out}", remote.ip());
            }
            self.outputs.push_back(Output::Close { conn: id });
            return;
        }
        let conn = Conn::new(self.now, remote, secure, websocket::Limits::default());
        self.conns.insert(id, Entry { conn, place: None, member: None, touched: false });
        self.count(id, place);
        self.touch(id);
    }

    /// There are as many connections from this place as there may be.
    fn is_crowded(&self, place: Place) -> bool {
        self.conns_by_place.of(place) >= self.config.limits.max_conns_per_addr
    }

    /// Half of the connections that there may be are there, in all or where this one is: the others are for those who come
    /// in, not for connections that wait for more requests.
    fn is_filling(&self, id: ConnId) -> bool {
        let limits = &self.config.limits;
        let place = self.conns.get(&id).and_then(|entry| entry.place);
        let same_place = place.map_or(0, |place| self.conns_by_place.of(place));
        2 * same_place > limits.max_conns_per_addr || 2 * self.conns.len() > limits.max_conns
    }

    /// Counts a connection where it is.
    fn count(&mut self, id: ConnId, place: Option<Place>) {
        if let (Some(entry), Some(place)) = (self.conns.get_mut(&id), place)
            && entry.place.is_none()
        {
            entry.place = Some(place);
            self.conns_by_place.add(place);
        }
    }

    /// The socket is gone, and with it whatever was still to be written.
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
        let closes = ends - GOODBYE.min(self.config.drain / 2);
        info!("shutting down: {} participants are told", self.member_ids().count());
        self.draining = Some(Drain { ends, is_over: false });
        self.tell_closing(ends);
        self.timers.set(Waiter::Server, closes);
    }

    /// The time of a drain is up: for the calls, then for whoever has not taken leave.
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

    /// Lets a connection do something, and looks later at what came of it.
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

    /// Takes events and bytes out of a connection.
    fn on_touched(&mut self, id: ConnId) {
        while let Some(event) = self.conns.get_mut(&id).and_then(|entry| entry.conn.poll_event()) {
            match event {
                ConnEvent::Request(request) => self.on_request(id, &request),
                ConnEvent::Message(Message::Text(text)) => self.on_message(id, &text),
                ConnEvent::Message(Message::Binary(_)) => {
                    self.with_conn(id, |now, conn| conn.close(now, UNSUPPORTED, "only text is understood"));
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
