//! The load generator: participants with real signaling and real sockets, in one thread.
//!
//! Its work is proportional to the number of events, not of participants.

mod turn;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustc_hash::FxHashMap;

use self::turn::Task;
use super::client::{Client, Role};
use super::counts::{Counts, Measured, Spent};
use super::process::{Server, Used};
use super::shape::Shape;
use super::socket::Socket;

/// Maximum number of participants that are joining at once. More makes each wait longer, fewer leaves the server idle.
const JOINING: usize = 48;

/// Time limit for the next joining participant to become ready.
const JOIN_PATIENCE: Duration = Duration::from_secs(20);

/// Receive buffer per participant of a socket, in bytes as the kernel counts them: a burst of a dozen full packets of
/// 2,304 bytes each.
const BUFFER_PER_PERSON: usize = 28 << 10;

/// Maximum number of participants per socket. More makes more of them share a buffer, fewer adds sockets to read in each
/// turn.
const PEOPLE_PER_SOCKET: usize = 32;

/// Number of rooms in which one participant decrypts its packets. More costs CPU time of the generator.
const SAMPLED_ROOMS: usize = 4;

/// How long to receive after the last packet was sent.
const ON_ITS_WAY: Duration = Duration::from_millis(300);

/// All participants.
pub struct Generator {
    server: SocketAddr,
    local: Ipv4Addr,
    poll: Poll,
    sockets: Vec<Socket>,
    people_per_socket: usize,
    clients: Vec<Client>,
    /// Participants that are not ready yet.
    joining: BTreeSet<usize>,
    by_addr: FxHashMap<SocketAddr, usize>,
    rooms: Vec<Vec<usize>>,
    shape: Shape,
    events: Option<Events>,
    timers: BTreeSet<(Instant, usize)>,
    tasks: BinaryHeap<Reverse<(Instant, Task)>>,
    keyframes: bool,
    counts: Counts,
}

impl Generator {
    /// Lets all participants of a shape join, and waits until all are ready for media.
    pub fn connect(server: &Server, shape: &Shape) -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        let mut generator = Self {
            server: server.addr,
            local: local_ip(server.addr),
            poll: Poll::new().expect("a poll"),
            sockets: Vec::new(),
            people_per_socket: 1,
            clients: Vec::new(),
            joining: BTreeSet::new(),
            by_addr: FxHashMap::default(),
            rooms: Vec::new(),
            shape: shape.clone(),
            events: Some(Events::with_capacity(256)),
            timers: BTreeSet::new(),
            tasks: BinaryHeap::new(),
            keyframes: true,
            counts: Counts::default(),
        };
        let every = shape.rooms.div_ceil(SAMPLED_ROOMS);
        for room in 0..shape.rooms {
            for member in 0..shape.size {
                let publishes = member < shape.publishers;
                let sampled = room % every == 0 && member + 1 == shape.size;
                let others = shape.publishers - usize::from(publishes);
                // A microphone and a camera each, whether or not they send.
                generator.join(Role { room, publishes, sampled, tracks: 2 * others, video_bytes: shape.frame().1 });
                generator.turns_until(|generator| generator.joining.len() < JOINING);
            }
        }
        generator.turns_until(|generator| generator.joining.is_empty());
        generator
    }

    /// Starts the join of one more participant, without waiting for it.
    pub fn join(&mut self, role: Role) {
        let index = self.clients.len();
        let addr = self.place(index);
        let tcp = TcpStream::connect(self.server)
            .unwrap_or_else(|error| panic!("participant {index} can't connect to {}: {error}", self.server));
        let now = Instant::now();
        let mut client = Client::new(now, tcp, addr, role, index);
        self.poll
            .registry()
            .register(&mut client.tcp, Token(index), Interest::READABLE)
            .expect("a socket can be polled");
        self.by_addr.insert(addr, index);
        self.timers.insert((client.scheduled, index));
        self.joining.insert(index);
        self.rooms.resize(self.rooms.len().max(role.room + 1), Vec::new());
        self.rooms[role.room].push(index);
        self.clients.push(client);
    }

    /// Sends and receives for some time.
    pub fn run(&mut self, time: Duration, server: &Server) -> Measured {
        self.run_while(server, |_, elapsed| elapsed < time)
    }

    /// Sends and receives until `go_on`, called before each turn, returns false.
    pub fn run_while(&mut self, server: &Server, mut go_on: impl FnMut(&mut Self, Duration) -> bool) -> Measured {
        let (start, before, own_before) = (Instant::now(), server.used(), Used::of("thread-self"));
        self.counts.begin(&self.sockets);
        for client in &mut self.clients {
            (client.sent, client.arrived, client.decrypted) = (0, 0, 0);
        }
        self.plan(start);
        while go_on(self, start.elapsed()) {
            self.turn(true);
        }
        let (elapsed, after) = (start.elapsed(), server.used());
        let waited = Used::of("thread-self").since(own_before).waited.as_secs_f64() / elapsed.as_secs_f64();
        let busy = self.counts.worked.as_secs_f64() / elapsed.as_secs_f64();
        let end = Instant::now() + ON_ITS_WAY;
        while Instant::now() < end {
            self.turn(false);
        }
        self.keyframes = false;
        let server = before.zip(after).map(|(before, after)| after.since(before));
        self.counts.finish(&self.clients, &self.rooms, &self.sockets, Spent { elapsed, server, busy, waited })
    }

    /// Returns the addresses of all participants.
    pub fn receivers(&self) -> Vec<SocketAddr> {
        self.clients.iter().map(|client| client.addr).collect()
    }

    /// Returns the number of participants that are not ready yet.
    pub fn joining(&self) -> usize {
        self.joining.len()
    }

    /// Receives and discards datagrams while `act` runs on another thread.
    pub fn while_receiving<T: Send>(&mut self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(act);
            while !thread.is_finished() {
                for socket in &mut self.sockets {
                    socket.receive(|_| {});
                }
            }
            thread.join().expect("the thread does not panic")
        })
    }

    fn turns_until(&mut self, done: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !done(self) {
            assert!(begin.elapsed() < JOIN_PATIENCE, "{} participants do not connect", self.joining.len());
            self.turn(false);
        }
    }

    /// Returns an address for a new participant, and binds a socket if necessary.
    fn place(&mut self, index: usize) -> SocketAddr {
        if index.is_multiple_of(self.people_per_socket) {
            let any = if self.local.is_loopback() { Ipv4Addr::UNSPECIFIED } else { self.local };
            let socket = Socket::bind(any).unwrap_or_else(|error| panic!("participant {index}, UDP: {error}"));
            if self.local.is_loopback() && index == 0 {
                let people = socket.buffer_bytes() / BUFFER_PER_PERSON;
                self.people_per_socket = people.clamp(1, PEOPLE_PER_SOCKET);
            }
            self.sockets.push(socket);
        }
        let [high, low] = (index as u16).to_be_bytes();
        let ip = if self.local.is_loopback() { Ipv4Addr::new(127, 1, high, low) } else { self.local };
        (ip, self.sockets.last().expect("bound above").port()).into()
    }
}

/// Returns this machine's address as seen by the server.
fn local_ip(server: SocketAddr) -> Ipv4Addr {
    if server.ip().is_loopback() {
        return Ipv4Addr::LOCALHOST;
    }
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let local = socket.connect(server).and_then(|()| socket.local_addr());
    match local.unwrap_or_else(|error| panic!("{server}: {error}")).ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => unreachable!("bound to IPv4"),
    }
}
