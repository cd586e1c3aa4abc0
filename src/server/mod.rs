//! The server: one state machine without I/O. Bytes and time go in, bytes and deadlines come out.
//!
//! It connects the web plane (connections, messages) with the media plane (peers, packets). The caller passes a whole
//! receive batch to `handle_input`, input by input, then calls `poll_output` until it returns `None`, and then sleeps
//! until `next_timeout` or the next input.
//!
//! Effects are queued: peers to end, packets to forward, peers and connections to drain. `turn` executes them in one
//! flat loop; there are no callbacks and no recursion. Each file adds to `Server` the methods of one subject; state
//! that belongs to one subject is a type in its file.

mod addresses;
pub mod bounds;
mod conns;
mod drain;
mod forwarding;
mod messages;
mod output;
mod participants;
mod presence;
mod requests;
mod routes;
mod scrape;
mod turn;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::clock::Wall;
use crate::config::Config;
use crate::id::{ConnId, Names, PeerId};
use crate::limits::notices::Notices;
use crate::media::negotiation::profile::Profile;
use crate::media::transport::demux::Demux;
use crate::room::Room;
use crate::stats::Stats;
use crate::timers::Timers;
use crate::web::assets::Assets;
use conns::Conns;
use forwarding::shedding::Shedding;
pub use output::Output;
use output::Outputs;
use participants::Participants;
use presence::admission::Admission;
use presence::waiting::WaitingRoom;
use turn::Turn;

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
        /// Whether the connection uses TLS. `Data` carries its plaintext.
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

/// The number of entries in each table that grows with the number of clients. All are 0 once every client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// TCP connections.
    pub conns: usize,
    /// Participants, including those that are disconnected and may return.
    pub participants: usize,
    /// Rooms.
    pub rooms: usize,
    /// `resume` secrets.
    pub resumes: usize,
    /// Addresses that a peer has validated.
    pub addresses: usize,
    /// ICE ufrags.
    pub ufrags: usize,
    /// Pending deadlines.
    pub timers: usize,
}

/// The whole server.
pub struct Server {
    config: Config,
    assets: Assets,
    profile: Profile,
    names: Names,
    wall: Wall,
    started: Instant,
    now: Instant,
    stats: Stats,

    conns: Conns,
    participants: Participants,
    rooms: BTreeMap<String, Room>,
    admission: Admission,
    waiting: WaitingRoom,
    notices: Notices,

    demux: Demux,
    timers: Timers,
    shedding: Shedding,
    turn: Turn,
    outputs: Outputs,
}

impl Server {
    /// Creates an empty server. It generates a certificate, which takes some milliseconds.
    pub fn new(now: Instant, setup: Setup) -> Self {
        Self {
            profile: Profile::new(&setup.config.codecs, &setup.candidates, setup.wall),
            admission: Admission::new(now, &setup.config),
            config: setup.config,
            assets: setup.assets,
            names: Names::new(setup.seed),
            wall: setup.wall,
            started: now,
            now,
            stats: Stats::default(),
            conns: Conns::default(),
            participants: Participants::default(),
            rooms: BTreeMap::new(),
            waiting: WaitingRoom::default(),
            notices: Notices::new(now),
            demux: Demux::default(),
            timers: Timers::default(),
            shedding: Shedding::new(now),
            turn: Turn::default(),
            outputs: Outputs::default(),
        }
    }

    /// Takes one input. It only queues the input's effects, which `poll_output` executes.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.now = self.now.max(now);
        self.outputs.forget_handed_out();
        self.turn.start();
        match input {
            Input::Accepted { conn, remote, secure } => self.on_accepted(conn, remote, secure),
            Input::Data { conn, bytes } => {
                if let Some(conn) = self.conns.touch(conn) {
                    conn.handle_data(self.now, bytes);
                }
            }
            Input::Written { conn, bytes } => {
                if let Some(conn) = self.conns.touch(conn) {
                    conn.handle_written(self.now, bytes);
                }
            }
            Input::Eof { conn } => {
                if let Some(conn) = self.conns.touch(conn) {
                    conn.handle_eof(self.now);
                }
            }
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
        self.outputs.forget_handed_out();
        while !self.outputs.is_due() && !self.turn.is_settled() {
            self.work();
        }
        let output = self.outputs.poll();
        if let Some(Output::Datagrams(datagrams)) = &output {
            self.stats.datagrams_out += datagrams.len() as u64;
            self.stats.bytes_out += datagrams.bytes() as u64;
        }
        output
    }

    /// When `Input::Timeout` is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let is_done = self.turn.is_settled() && !self.turn.has_next() && !self.shedding.has_next();
        if is_done { self.timers.next_timeout() } else { Some(self.now) }
    }

    /// Sets the current reading of the wall clock.
    pub fn set_wall(&mut self, wall: Wall) {
        self.wall = wall;
    }

    /// Replaces the page's files.
    pub fn set_assets(&mut self, assets: Assets) {
        self.assets = assets;
    }

    /// Sets the number of datagrams lost at the socket since the start.
    pub fn set_datagrams_unsent(&mut self, count: u64) {
        self.stats.datagrams_unsent = count;
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The sizes of the server's tables.
    pub fn sizes(&self) -> Sizes {
        let (addresses, ufrags) = self.demux.len();
        Sizes {
            conns: self.conns.len(),
            participants: self.participants.len(),
            rooms: self.rooms.len(),
            resumes: self.participants.resumes(),
            addresses,
            ufrags,
            timers: self.timers.len(),
        }
    }

    /// The other participants in this participant's room.
    fn others(&self, id: PeerId) -> Vec<PeerId> {
        let participant = self.participants.get(id);
        let room = participant.and_then(|participant| self.rooms.get(&participant.room));
        room.map_or(Vec::new(), |room| room.others(id).collect())
    }
}
