//! The simulation: one server, its browsers, the network between them, and a clock that jumps from event to event.

mod delivery;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use aq_server::clock::Wall;
use aq_server::config::Config;
use aq_server::id::ConnId;
use aq_server::media::transport::route::Route;
use aq_server::server::{Input, Output, Server, Setup};
use aq_server::web::assets::Assets;

use crate::answering::{Answering, Habits, Sound};
use crate::attacks::Stranger;
use crate::browser::{Arrival, Browser};
use crate::fault::{Fault, Fired};
use crate::identity::Identity;
use crate::invariants::Invariants;
use crate::media::{Camera, Microphone, Rate};
use crate::network::{Link, Path, batch_at, rtp_header};
use crate::page::Track;
use crate::reception::Drift;
use crate::tap::Tap;
use crate::trace::Trace;

/// Largest time between a packet and the `tracks` message that names its m-line's publisher: UDP and TCP are not
/// ordered against each other. Packets of the previous publisher may arrive for as long after `tracks` has reassigned
/// the m-line.
const IN_FLIGHT: Duration = Duration::from_millis(60);

/// The same on a path that lost packets: a retransmission takes a round trip.
const IN_REPAIR: Duration = Duration::from_millis(400);

/// The same on a congested path or a stalled connection, where either may overtake the other.
const IN_TROUBLE: Duration = Duration::from_secs(15);

/// Largest time until the server learns of a browser's action: the latency and two lost segments.
pub const UNNOTICED: Duration = Duration::from_millis(1_000);

/// Bytes that the server's kernel buffers for a connection whose client does not read.
const SEND_BUFFER: usize = 64 * 1024;

/// Datagrams of each browser that are kept for an attacker to replay.
const RECENT: usize = 64;

/// The wall clock when a simulation begins: 2001-09-09 01:46:40 UTC.
const WALL: Duration = Duration::from_secs(1_000_000_000);

/// The configuration of a simulation.
pub struct World {
    pub seed: u64,
    pub config: Config,
    /// The server's own addresses.
    pub candidates: Vec<SocketAddr>,
    pub rate: Rate,
    /// The path of each browser that joins.
    pub path: Path,
}

impl World {
    /// A world where every participant is heard (the test microphones report arbitrary levels) and seen.
    pub fn new(seed: u64) -> Self {
        let mut config = Config::default();
        config.limits.loudest_above = config.limits.max_room_size;
        config.limits.last_n = 0;
        Self { seed, config, candidates: vec![addr("192.0.2.1:8080")], rate: Rate::BROWSER, path: Path::GOOD }
    }
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("a valid socket address")
}

/// The simulated world.
pub struct Sim {
    pub now: Instant,
    pub server: Server,
    /// Every browser that ever joined, in order; the index is its tag.
    pub browsers: Vec<Browser>,
    pub tap: Tap,
    pub rate: Rate,
    /// The server's own addresses.
    pub candidates: Vec<SocketAddr>,
    /// Former addresses of the server.
    left_addrs: Vec<SocketAddr>,
    /// The path of each browser that joins.
    pub path: Path,
    /// The proxy in front of the server.
    pub proxy: Option<IpAddr>,
    pub drift: Drift,
    /// Joining requires a token.
    pub(crate) is_guarded: bool,
    pub exited: bool,
    /// Names of the browsers that the server is expected to close.
    pub dismissed: BTreeSet<String>,
    pub invariants: Invariants,
    pub trace: Trace,
    /// Injected faults that did not happen on a browser's path.
    pub fired: Fired,
    /// Connections that belong to no browser, by id.
    pub(crate) strangers: BTreeMap<ConnId, Stranger>,
    pub(crate) links: Vec<Links>,
    /// Received packets, each with its receiver, on m-lines that `tracks` has not yet assigned to their publisher.
    unnamed: Vec<(usize, Arrival)>,
    pub(crate) names: BTreeMap<String, usize>,
    /// The last STUN request of each browser, and its destination.
    pub(crate) checks: BTreeMap<usize, (SocketAddr, Vec<u8>)>,
    seed: u64,
    start: Instant,
    queue: BinaryHeap<Reverse<Event>>,
    sequence: u64,
    /// Recent changes, each of which allows one more offer: when the server must know of it, the room, and the count.
    changes: Vec<(Instant, String, u32)>,
}

/// The connections and links between one browser and the server.
pub(crate) struct Links {
    pub up: Link,
    pub down: Link,
    /// The server may still use the connection.
    pub is_open: bool,
    /// Nothing passes any more, and neither end is notified.
    pub is_cut: bool,
    /// The browser does not read.
    pub is_stalled: bool,
    /// Events that the browser caused while its connection was stalled.
    pub up_held: Option<Vec<Kind>>,
    /// Bytes are delivered one at a time.
    pub up_is_split: bool,
    pub down_is_split: bool,
    /// The server's socket refuses its datagrams.
    pub refuses: bool,
    /// The server's next write fails and ends the connection.
    pub fails_writing: bool,
    /// A write has failed: the server's later output for this connection is ignored.
    has_failed: bool,
    /// An injected network fault may explain whatever the server does to this browser.
    pub is_troubled: bool,
    /// The last datagrams that the browser sent.
    pub recent: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Bytes in the server's kernel that are not transmitted.
    unsent: usize,
    /// Bytes that the stalled browser has not read, and whether the server closed the connection after them.
    unread: Vec<u8>,
    unread_end: bool,
    /// Addresses that a NAT presented instead of the browser's own; only the last one is still valid.
    pub public: Vec<SocketAddr>,
}

struct Event {
    at: Instant,
    sequence: u64,
    kind: Kind,
}

pub(crate) enum Kind {
    Accepted { tag: usize },
    UpBytes { tag: usize, bytes: Vec<u8> },
    UpEof { tag: usize },
    UpGone { tag: usize },
    UpDatagram { source: SocketAddr, destination: SocketAddr, contents: Vec<u8> },
    DownBytes { tag: usize, bytes: Vec<u8> },
    DownEnd { tag: usize },
    DownDatagram { tag: usize, source: SocketAddr, destination: SocketAddr, contents: Vec<u8> },
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl Sim {
    /// A server with no participants.
    pub fn new(seed: u64) -> Self {
        Self::with(World::new(seed))
    }

    pub fn with(world: World) -> Self {
        fastrand::seed(world.seed);
        str0m::crypto::from_feature_flags().install_process_default();
        let start = Instant::now();
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&world.seed.to_be_bytes());
        let is_guarded = world.config.token_secret.is_some();
        let setup = Setup {
            config: world.config,
            assets: Assets::embedded(),
            candidates: world.candidates.clone(),
            wall: Wall { at: start, unix: WALL, utc_offset_secs: 3_600 },
            seed,
        };
        Self {
            now: start,
            server: Server::new(start, setup),
            browsers: Vec::new(),
            tap: Tap::default(),
            rate: world.rate,
            candidates: world.candidates,
            left_addrs: Vec::new(),
            path: world.path,
            proxy: None,
            drift: Drift::USUAL,
            is_guarded,
            exited: false,
            dismissed: BTreeSet::new(),
            invariants: Invariants::default(),
            trace: Trace::default(),
            fired: Fired::default(),
            strangers: BTreeMap::new(),
            links: Vec::new(),
            unnamed: Vec::new(),
            names: BTreeMap::new(),
            checks: BTreeMap::new(),
            seed: world.seed,
            start,
            queue: BinaryHeap::new(),
            sequence: 0,
            changes: Vec::new(),
        }
    }

    /// Opens the page in a new browser.
    pub fn arrive(&mut self, name: &str, room: &str, habits: Habits) -> usize {
        let tag = self.browsers.len();
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(tag as u64 * 2);
        self.links.push(Links {
            up: Link::new(self.path, seed),
            down: Link::new(self.path, seed + 1),
            is_open: false,
            is_cut: false,
            is_stalled: false,
            up_held: None,
            up_is_split: false,
            down_is_split: false,
            refuses: false,
            fails_writing: false,
            has_failed: false,
            is_troubled: false,
            recent: VecDeque::new(),
            unsent: 0,
            unread: Vec::new(),
            unread_end: false,
            public: Vec::new(),
        });
        let mut browser = Browser::new(self.now, name, room, tag as u32, self.rate, habits);
        let unnoticed = self.changes.iter().filter(|(until, of, _)| *until > self.now && of == room);
        browser.changes += unnoticed.map(|(.., changes)| changes).sum::<u32>();
        self.browsers.push(browser);
        self.names.insert(name.to_owned(), tag);
        self.push_up(tag, Kind::Accepted { tag });
        self.collect(tag);
        tag
    }

    /// Replaces the addresses of the server's machine.
    pub fn move_server(&mut self, candidates: &[SocketAddr]) {
        let left = std::mem::replace(&mut self.candidates, candidates.to_vec());
        self.left_addrs.extend(left);
        self.left_addrs.retain(|addr| !candidates.contains(addr));
        self.give(Input::Addresses { candidates: candidates.to_vec() });
    }

    /// Sends a valid connectivity check of `from` from the address of `address_of`.
    pub fn forge_check(&mut self, from: &str, address_of: &str) {
        let (destination, contents) = self.checks[&self.names[from]].clone();
        let source = self.browsers[self.names[address_of]].habits.addrs[0];
        self.push(self.now, Kind::UpDatagram { source, destination, contents });
    }

    /// Sends `count` valid connectivity checks of `of` from an otherwise unused port of its address.
    pub fn flood_checks(&mut self, of: &str, count: usize, port: u16) {
        let tag = self.names[of];
        let (destination, contents) = self.checks[&tag].clone();
        let source = SocketAddr::new(self.browsers[tag].habits.addrs[0].ip(), port);
        // The server's responses are discarded.
        self.links[tag].public.insert(0, source);
        self.links[tag].public.push(self.browsers[tag].habits.addrs[0]);
        for _ in 0..count {
            self.push(self.now, Kind::UpDatagram { source, destination, contents: contents.clone() });
        }
    }

    /// The habits of a current page with a camera and a microphone.
    pub fn habits(&self) -> Habits {
        let tag = self.browsers.len();
        Habits {
            sources: vec![Microphone, Camera],
            is_old: false,
            h264_only: false,
            encoding: None,
            simulcast: false,
            renews: true,
            trickles: tag.is_multiple_of(3),
            repeats_candidates: tag % 3 == 1,
            has_levels: true,
            sound: Sound::Plain,
            rejects: None,
            has_common_ssrcs: false,
            answer_delay: Duration::from_millis(15),
            answering: Answering::Properly,
            identity: if tag % 5 == 3 { Identity::Rsa } else { Identity::Ecdsa },
            has_libwebrtc_checks: false,
            addrs: vec![addr(&format!("198.51.{}.{}:{}", tag / 200, tag % 200 + 1, 40_000 + tag))],
            proxy: self.proxy,
            has_stats: false,
            drift: self.drift,
            query: String::new(),
        }
    }

    /// Advances the clock by `time`.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
        self.check_arrivals();
    }

    /// Advances the clock by `time` while the server's loop reports `share` as its load.
    pub fn run_loaded(&mut self, time: Duration, share: f64) {
        let end = self.now + time;
        while self.now < end {
            self.give(Input::Load { share });
            self.drain_server();
            self.run(Duration::from_millis(250).min(end - self.now));
        }
    }

    /// Requests a shutdown of the server process.
    pub fn shut_down(&mut self) {
        self.give(Input::Shutdown);
        self.drain_server();
    }

    /// Ends the TCP connection, with an EOF or with a reset.
    pub(crate) fn hang_up(&mut self, tag: usize, reset: bool) {
        self.push_up(tag, if reset { Kind::UpGone { tag } } else { Kind::UpEof { tag } });
    }

    /// Allows every other browser in the room one more offer for each of `changes`, and also those that join before the
    /// server must have noticed.
    pub(crate) fn tell_changes(&mut self, tag: usize, changes: u32, unnoticed: Duration) {
        let room = self.browsers[tag].room.clone();
        if changes > 0 {
            self.changes.push((self.now + unnoticed, room.clone(), changes));
        }
        for (other, browser) in self.browsers.iter_mut().enumerate() {
            if other != tag && browser.room == room {
                browser.changes += changes;
            }
        }
    }

    /// Simulated time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Maps simulated instants to the publishers' wall clocks.
    pub fn captured(&self) -> impl Fn(Instant) -> SystemTime + use<> {
        let start = self.start;
        move |at| SystemTime::UNIX_EPOCH + WALL + (at - start)
    }
}
