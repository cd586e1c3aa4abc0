//! The reactor is the loop: it waits, feeds what came to the server, carries out what the server says, and
//! writes before it sleeps again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, error, info, warn};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::id::ConnId;
use crate::io::certificates::Certificates;
use crate::io::interfaces::Announced;
use crate::io::tcp::{ReadEnd, Tcp};
use crate::io::tls::TlsStream;
use crate::io::udp::{Counters, Udp};
use crate::io::{forget_time_zone, wall, www::Www};
use crate::server::{Input, Output, Server};

const LISTENER: Token = Token(0);
const UDP: Token = Token(1);
const SIGNALS: Token = Token(2);
const FIRST_CONN: usize = 3;

/// Connections accepted in one turn; a storm of them waits for the others' turns.
const ACCEPTS: usize = 64;

/// How long accepting pauses when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How often the wall clock and the folder of `--www` are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How often the interfaces, the certificates and the system's time zone are looked at. Longer leaves a machine whose address changed unreachable, and calls without
/// the new one before theirs ends (10 s); shorter costs a list of all addresses more often, some 100 us.
const INTERFACES: Duration = Duration::from_secs(3);

/// How long a closed connection waits to write the `close_notify` of TLS. Shorter lets a slow reader take the end of the
/// response for a cut; longer holds the descriptor of one that reads nothing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Over how long the loop looks at how busy it is. Shorter takes one large batch for a load, longer notices later.
const LOAD_WINDOW: Duration = Duration::from_millis(250);

/// The loop and everything it owns.
pub struct Reactor {
    poll: Poll,
    signals: Signals,
    listener: TcpListener,
    udp: Udp,
    announced: Announced,
    tls: Option<Certificates>,
    www: Option<Www>,
    server: Server,
    conns: BTreeMap<ConnId, Tcp>,
    next_conn: usize,
    /// Connections that may have more to read than one turn took.
    unread: Vec<ConnId>,
    /// Connections with something to write.
    unwritten: Vec<ConnId>,
    /// Closing connections that still have TLS bytes to write, with their deadlines, the earliest first.
    closing: VecDeque<(Instant, ConnId)>,
    accepting: Accepting,
    next_accept_warning: Instant,
    udp_readable: bool,
    housekeeping: Instant,
    next_interfaces: Instant,
    /// Local time minus UTC, as it was read last.
    utc_offset_secs: Option<i32>,
    /// The interfaces could not be listed, and the log says so.
    is_lost: bool,
    /// Since when, and for how much of the time since then the loop was asleep.
    load_since: Instant,
    asleep: Duration,
    buffer: Vec<u8>,
}

/// Whether new connections are waiting to be accepted.
enum Accepting {
    /// The poll will say.
    Idle,
    /// There may be more.
    Ready,
    /// Out of descriptors until then.
    Paused(Instant),
}

impl Reactor {
    /// Registers everything with one poll.
    ///
    /// # Errors
    /// The system refuses a poll or a signal handler.
    pub fn new(
        server: Server,
        listener: std::net::TcpListener,
        mut udp: Udp,
        announced: Announced,
        tls: Option<Certificates>,
        www: Option<Www>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let registry = poll.registry();
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        registry.register(udp.source(), UDP, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            poll,
            signals,
            listener,
            udp,
            announced,
            tls,
            www,
            server,
            conns: BTreeMap::new(),
            next_conn: FIRST_CONN,
            unread: Vec::new(),
            unwritten: Vec::new(),
            closing: VecDeque::new(),
            accepting: Accepting::Idle,
            next_accept_warning: Instant::now(),
            udp_readable: false,
            housekeeping: Instant::now(),
            next_interfaces: Instant::now(),
            utc_offset_secs: None,
            is_lost: false,
            load_since: Instant::now(),
            asleep: Duration::ZERO,
            buffer: Vec::new(),
        })
    }

    /// Runs until the server says `Exit`.
    ///
    /// # Errors
    /// The poll or the UDP socket failed for good.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            // Sleep, unless something is left over from the last turn.
            let asleep_at = Instant::now();
            let polled = self.poll.poll(&mut events, self.timeout(asleep_at));
            let now = Instant::now();
            self.asleep += now - asleep_at;
            match polled {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }

            // What the system says.
            for event in &events {
                match event.token() {
                    LISTENER => self.accepting = Accepting::Ready,
                    SIGNALS => self.signals.pending().for_each(|_| self.server.handle_input(now, Input::Shutdown)),
                    UDP => {
                        self.udp_readable |= event.is_readable();
                        if event.is_writable() {
                            self.udp.flush();
                        }
                    }
                    Token(conn) => {
                        let conn = ConnId(conn as u64);
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.unread.push(conn);
                        }
                        if event.is_writable() {
                            self.unwritten.push(conn);
                        }
                    }
                }
            }

            // What came in: a bounded share of each.
            self.accept(now);
            self.read_conns(now);
            self.receive(now)?;
            self.keep_house(now);
            self.tell_load(now);
            self.server.handle_input(now, Input::Timeout);

            // What the server makes of it.
            let exit = self.carry_out();

            // Write before sleep.
            self.write_conns(now);
            self.end_closing(now);
            if exit {
                let Counters { sent, runs, send_calls, dropped } = self.udp.counters;
                info!("media sent: datagrams={sent} runs={runs} calls={send_calls} dropped={dropped}");
                return Ok(());
            }
        }
    }

    /// How long to sleep at most.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.udp_readable || !self.unread.is_empty() || matches!(self.accepting, Accepting::Ready) {
            return Some(Duration::ZERO);
        }
        let paused = match self.accepting {
            Accepting::Paused(until) => Some(until),
            _ => None,
        };
        let deadlines = [
            self.server.next_timeout(),
            paused,
            self.closing.front().map(|(until, _)| *until),
            Some(self.housekeeping),
        ];
        let deadline = deadlines.into_iter().flatten().min()?;
        Some(deadline.saturating_duration_since(now))
    }

    fn accept(&mut self, now: Instant) {
        if let Accepting::Paused(until) = self.accepting
            && now >= until
        {
            self.accepting = Accepting::Ready;
        }
        if !matches!(self.accepting, Accepting::Ready) {
            return;
        }
        for _ in 0..ACCEPTS {
            let (socket, remote) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accepting = Accepting::Idle;
                    return;
                }
                // The other end has already gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    if now >= self.next_accept_warning {
                        warn!("connections can't be accepted, next try in a second: {error}");
                        self.next_accept_warning = now + ACCEPT_PAUSE;
                    }
                    self.accepting = Accepting::Paused(now + ACCEPT_PAUSE);
                    return;
                }
            };
            let token = self.next_conn;
            self.next_conn += 1;
            let id = ConnId(token as u64);
            let local = socket.local_addr().map_or(remote.ip(), |local| local.ip());
            let mut conn = Tcp::new(socket, self.tls.as_ref().map(|tls| TlsStream::new(tls.of(local))));
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().register(conn.source(), Token(token), interest) {
                debug!("{remote}: not registered: {error}");
                continue;
            }
            self.conns.insert(id, conn);
            let secure = self.tls.is_some();
            let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
            self.server.handle_input(now, Input::Accepted { conn: id, remote, secure });
        }
    }

    fn read_conns(&mut self, now: Instant) {
        let mut unread = std::mem::take(&mut self.unread);
        unread.sort_unstable();
        unread.dedup();
        for id in unread {
            let Some(conn) = self.conns.get_mut(&id) else {
                continue;
            };
            self.buffer.clear();
            let result = conn.read(&mut self.buffer);
            if !self.buffer.is_empty() {
                let bytes = &self.buffer;
                self.server.handle_input(now, Input::Data { conn: id, bytes });
            }
            // A TLS handshake answers without the server knowing of it.
            self.unwritten.push(id);
            match result {
                Ok(ReadEnd::Drained) => {}
                Ok(ReadEnd::More) => self.unread.push(id),
                Ok(ReadEnd::Eof) => self.server.handle_input(now, Input::Eof { conn: id }),
                Err(error) => {
                    // A TLS alert may be waiting: it tells the other end why.
                    let _ = conn.flush();
                    self.lose(now, id, &error);
                }
            }
        }
        // What one turn reads at most must not stay allocated for good.
        self.buffer.shrink_to(1 << 20);
    }

    fn receive(&mut self, now: Instant) -> io::Result<()> {
        if !self.udp_readable {
            return Ok(());
        }
        let server = &mut self.server;
        self.udp_readable = self.udp.receive(|datagram| {
            server.handle_input(
                now,
                Input::Datagram {
                    source: datagram.source,
                    destination: datagram.destination,
                    contents: datagram.contents,
                },
            );
        })?;
        Ok(())
    }

    fn keep_house(&mut self, now: Instant) {
        if now < self.housekeeping {
            return;
        }
        self.housekeeping = now + HOUSEKEEPING;
        // What a moment without memory has left behind is announced by nobody.
        self.udp_readable = true;
        let wall = wall(now);
        if self.utc_offset_secs.replace(wall.utc_offset_secs) != Some(wall.utc_offset_secs) {
            info!("local time, which chat shows, is {} minutes ahead of UTC", wall.utc_offset_secs / 60);
        }
        self.server.set_wall(wall);
        self.look_at_interfaces(now);
        match self.www.as_mut().map(Www::reload) {
            Some(Ok(Some(assets))) => self.server.set_assets(assets),
            Some(Err(error)) => warn!("the folder of --www can't be read, its last state is served: {error}"),
            Some(Ok(None)) | None => {}
        }
    }

    /// Follows the addresses of the machine: they come and go with DHCP, dialling in, and cables.
    fn look_at_interfaces(&mut self, now: Instant) {
        if now < self.next_interfaces {
            return;
        }
        self.next_interfaces = now + INTERFACES;
        forget_time_zone();
        match self.announced.candidates() {
            Ok(candidates) => {
                self.is_lost = false;
                self.server.handle_input(now, Input::Addresses { candidates });
            }
            Err(error) if !std::mem::replace(&mut self.is_lost, true) => {
                warn!("the network interfaces can't be listed, media stays announced as it is: {error}");
            }
            Err(_) => {}
        }
        if let Some(tls) = &mut self.tls {
            tls.follow(SystemTime::now());
        }
    }

    /// Tells the server how busy the loop was. What counts is the time outside of the poll, not that of the processor:
    /// who has to share the core can't do more either, and would never seem to reach its end.
    fn tell_load(&mut self, now: Instant) {
        let elapsed = now - self.load_since;
        if elapsed >= LOAD_WINDOW {
            let share = 1.0 - self.asleep.as_secs_f64() / elapsed.as_secs_f64();
            self.server.handle_input(now, Input::Load { share: share.clamp(0.0, 1.0) });
            (self.load_since, self.asleep) = (now, Duration::ZERO);
        }
    }

    /// Does what the server says. True if it says to end.
    fn carry_out(&mut self) -> bool {
        let mut exit = false;
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Datagrams(datagrams) => self.udp.send(datagrams),
                Output::Data { conn, bytes } => {
                    if let Some(tcp) = self.conns.get_mut(&conn) {
                        tcp.send(bytes);
                        self.unwritten.push(conn);
                    }
                }
                Output::Close { conn } => {
                    if let Some(tcp) = self.conns.get_mut(&conn) {
                        tcp.closing = true;
                        self.unwritten.push(conn);
                    }
                }
                Output::Exit => exit = true,
            }
        }
        exit
    }

    fn write_conns(&mut self, now: Instant) {
        let mut unwritten = std::mem::take(&mut self.unwritten);
        unwritten.sort_unstable();
        unwritten.dedup();
        for id in unwritten.drain(..) {
            let Some(conn) = self.conns.get_mut(&id) else {
                continue;
            };
            match conn.flush() {
                Ok(bytes) => {
                    if bytes > 0 {
                        self.server.handle_input(now, Input::Written { conn: id, bytes });
                    }
                    // The server closes when all was written, or when it gives a connection up that takes nothing.
                    if conn.closing {
                        if conn.shutdown() {
                            self.drop_conn(id);
                        } else if !std::mem::replace(&mut conn.is_waiting, true) {
                            self.closing.push_back((now + CLOSE_TIMEOUT, id));
                        }
                    }
                }
                Err(error) => self.lose(now, id, &error),
            }
        }
        self.unwritten = unwritten;
    }

    /// Gives up closed connections whose last bytes were not taken in time.
    fn end_closing(&mut self, now: Instant) {
        while let Some(&(until, id)) = self.closing.front()
            && now >= until
        {
            self.closing.pop_front();
            self.drop_conn(id);
        }
    }

    fn lose(&mut self, now: Instant, id: ConnId, error: &io::Error) {
        debug!("conn {}: lost: {error}", id.0);
        self.drop_conn(id);
        self.server.handle_input(now, Input::Gone { conn: id });
    }

    fn drop_conn(&mut self, id: ConnId) {
        let Some(mut conn) = self.conns.remove(&id) else {
            return;
        };
        if let Err(error) = self.poll.registry().deregister(conn.source()) {
            error!("conn {}: not deregistered: {error}", id.0);
        }
        // Room for the next one that waited for a descriptor.
        if let Accepting::Paused(_) = self.accepting {
            self.accepting = Accepting::Ready;
        }
    }
}
