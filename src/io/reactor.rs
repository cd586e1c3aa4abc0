//! The event loop: waits for events, passes input to the server, executes its outputs, and writes before it sleeps
//! again.

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
use crate::io::gather::Gather;
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

/// Connections accepted in one turn. More would delay the existing ones under a flood of new ones.
const ACCEPTS: usize = 64;

/// How long accepting pauses after file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How often the wall clock is read and the folder of `--www` is checked for changes.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How often the interfaces, the certificates and the system's time zone are checked. With a longer interval, clients
/// cannot reach a machine whose address has changed, and calls time out (after 10 s) before they learn the new address.
/// A shorter one lists all addresses more often, which takes some 100 us.
const INTERFACES: Duration = Duration::from_secs(3);

/// How long a closed connection may take to write the `close_notify` of TLS. Shorter makes slow readers see a truncated
/// response; longer holds the file descriptor of a client that does not read.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval over which the load is measured. A shorter one would mistake one large batch for load, a longer one
/// would react later.
const LOAD_WINDOW: Duration = Duration::from_millis(250);

/// The event loop, its sockets and the server.
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
    /// Connections with data left after the last read.
    unread: Vec<ConnId>,
    /// Connections with bytes to write.
    unwritten: Vec<ConnId>,
    /// Closing connections that still have TLS bytes to write, ordered by their deadlines.
    closing: VecDeque<(Instant, ConnId)>,
    accepting: Accepting,
    next_accept_warning: Instant,
    udp_readable: bool,
    /// The readiness of the media socket that the poll reports; `None` if the socket is not registered.
    udp_interest: Option<Interest>,
    gather: Gather,
    next_housekeeping: Instant,
    next_interfaces: Instant,
    /// Local time minus UTC, as last read.
    utc_offset_secs: Option<i32>,
    /// Whether the last attempt to list the interfaces failed. Only the first failure in a row is logged.
    interfaces_failed: bool,
    /// Start of the current load measurement, and the time slept since then.
    load_since: Instant,
    asleep: Duration,
    buffer: Vec<u8>,
}

/// The state of the listener.
enum Accepting {
    /// No connection waits; the poll will report the next one.
    Idle,
    /// Connections may be waiting.
    Ready,
    /// Paused until this time because file descriptors ran out.
    Paused(Instant),
}

impl Reactor {
    /// Creates the loop and registers its sources with a poll. A turn waits for more datagrams for up to `gather` while
    /// they arrive fast.
    ///
    /// # Errors
    /// Fails if the system refuses the poll or the signal handlers.
    pub fn new(
        server: Server,
        listener: std::net::TcpListener,
        mut udp: Udp,
        announced: Announced,
        tls: Option<Certificates>,
        www: Option<Www>,
        gather: Duration,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let registry = poll.registry();
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        registry.register(udp.source(), UDP, Interest::READABLE)?;
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
            udp_interest: Some(Interest::READABLE),
            gather: Gather::new(Instant::now(), gather),
            next_housekeeping: Instant::now(),
            next_interfaces: Instant::now(),
            utc_offset_secs: None,
            interfaces_failed: false,
            load_since: Instant::now(),
            asleep: Duration::ZERO,
            buffer: Vec::new(),
        })
    }

    /// Runs until the server's output is `Exit`.
    ///
    /// # Errors
    /// Fails if the poll or the UDP socket fails permanently.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut awake_since = None;
        loop {
            // Sleep, unless work is left from the last turn.
            let asleep_at = Instant::now();
            if let Some(since) = awake_since.take() {
                self.server.record_turn(asleep_at - since);
            }
            let polled = self.poll.poll(&mut events, self.timeout(asleep_at));
            let now = Instant::now();
            self.asleep += now - asleep_at;
            match polled {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            awake_since = Some(now);
            // While datagrams are gathered, the socket is not registered for reading, so no event announces them.
            self.udp_readable |= self.gather.wait().is_some();

            // Note which sources are ready.
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

            // Take a bounded amount of input from each source.
            self.accept(now);
            self.read_conns(now);
            self.receive(now)?;
            self.do_housekeeping(now);
            self.report_load(now);
            self.server.handle_input(now, Input::Timeout);

            // Execute the server's outputs.
            let exit = self.execute_outputs();

            // Write before sleeping.
            self.write_conns(now);
            self.drop_overdue(now);
            self.update_udp_interest()?;
            if exit {
                let Counters { sent, runs, send_calls, dropped } = self.udp.counters;
                info!("media sent: datagrams={sent} runs={runs} calls={send_calls} dropped={dropped}");
                return Ok(());
            }
        }
    }

    /// Returns the maximum time to sleep; `None` is unlimited.
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
            Some(self.next_housekeeping),
            self.gather.wait().map(|wait| now + wait),
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
                // The client has already closed the connection.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    if now >= self.next_accept_warning {
                        warn!("cannot accept connections: {error}; retrying in 1 s");
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
                debug!("{remote}: cannot register the connection with the poll: {error}");
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
            // A TLS handshake produces answers of its own.
            self.unwritten.push(id);
            match result {
                Ok(ReadEnd::Drained) => {}
                Ok(ReadEnd::More) => self.unread.push(id),
                Ok(ReadEnd::Eof) => self.server.handle_input(now, Input::Eof { conn: id }),
                Err(error) => {
                    // Send a pending TLS alert, which states the reason.
                    let _ = conn.flush();
                    self.fail_conn(now, id, &error);
                }
            }
        }
        // Do not keep the memory of one exceptionally large read.
        self.buffer.shrink_to(1 << 20);
    }

    fn receive(&mut self, now: Instant) -> io::Result<()> {
        if !self.udp_readable {
            return Ok(());
        }
        let server = &mut self.server;
        let mut datagrams = 0;
        self.udp_readable = self.udp.receive(|datagram| {
            datagrams += 1;
            server.handle_input(
                now,
                Input::Datagram {
                    source: datagram.source,
                    destination: datagram.destination,
                    contents: datagram.contents,
                },
            );
        })?;
        self.gather.count(now, datagrams);
        Ok(())
    }

    /// Registers the media socket for the readiness that the next turn needs. Each datagram that leaves the socket
    /// would otherwise report that the socket is writable, and each that arrives would end the wait for more.
    fn update_udp_interest(&mut self) -> io::Result<()> {
        let readable = self.gather.wait().is_none().then_some(Interest::READABLE);
        let writable = self.udp.is_full().then_some(Interest::WRITABLE);
        let interest = match (readable, writable) {
            (Some(readable), Some(writable)) => Some(readable | writable),
            (readable, writable) => readable.or(writable),
        };
        let (registry, socket) = (self.poll.registry(), self.udp.source());
        match (std::mem::replace(&mut self.udp_interest, interest), interest) {
            (before, after) if before == after => Ok(()),
            (None, Some(after)) => registry.register(socket, UDP, after),
            (Some(_), Some(after)) => registry.reregister(socket, UDP, after),
            (_, None) => registry.deregister(socket),
        }
    }

    fn do_housekeeping(&mut self, now: Instant) {
        if now < self.next_housekeeping {
            return;
        }
        self.next_housekeeping = now + HOUSEKEEPING;
        // The poll is edge-triggered: no event reports datagrams left behind by a receive that failed for lack of
        // memory.
        self.udp_readable = true;
        let wall = wall(now);
        if self.utc_offset_secs.replace(wall.utc_offset_secs) != Some(wall.utc_offset_secs) {
            info!("time zone: local time, shown in chat, is {} minutes ahead of UTC", wall.utc_offset_secs / 60);
        }
        self.server.set_wall(wall);
        self.follow_interfaces(now);
        match self.www.as_mut().map(Www::reload) {
            Some(Ok(Some(assets))) => self.server.set_assets(assets),
            Some(Err(error)) => warn!("--www (WWW_DIR): cannot read the folder, serving its last state: {error}"),
            Some(Ok(None)) | None => {}
        }
    }

    /// Picks up changes of the machine's addresses (DHCP, dial-up, cables) and certificates.
    fn follow_interfaces(&mut self, now: Instant) {
        if now < self.next_interfaces {
            return;
        }
        self.next_interfaces = now + INTERFACES;
        forget_time_zone();
        match self.announced.candidates() {
            Ok(candidates) => {
                self.interfaces_failed = false;
                self.server.handle_input(now, Input::Addresses { candidates });
            }
            Err(error) if !std::mem::replace(&mut self.interfaces_failed, true) => {
                warn!("cannot list the network interfaces, keeping the announced addresses: {error}");
            }
            Err(_) => {}
        }
        if let Some(tls) = &mut self.tls {
            tls.follow(SystemTime::now());
        }
    }

    /// Reports to the server the share of time that the loop was busy. It is measured as the time outside of the poll:
    /// the processor time of a process that shares its core would never show a full load.
    fn report_load(&mut self, now: Instant) {
        let elapsed = now - self.load_since;
        if elapsed >= LOAD_WINDOW {
            let share = 1.0 - self.asleep.as_secs_f64() / elapsed.as_secs_f64();
            self.server.handle_input(now, Input::Load { share: share.clamp(0.0, 1.0) });
            (self.load_since, self.asleep) = (now, Duration::ZERO);
            self.server.set_datagrams_unsent(self.udp.counters.dropped);
        }
    }

    /// Executes the server's outputs. Returns true if the process should end.
    fn execute_outputs(&mut self) -> bool {
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
                    // The server closes a connection when all is written, or when a stalled one has timed out.
                    if conn.closing {
                        if conn.shutdown() {
                            self.drop_conn(id);
                        } else if !std::mem::replace(&mut conn.is_waiting, true) {
                            self.closing.push_back((now + CLOSE_TIMEOUT, id));
                        }
                    }
                }
                Err(error) => self.fail_conn(now, id, &error),
            }
        }
        self.unwritten = unwritten;
    }

    /// Drops closing connections whose last bytes could not be written in time.
    fn drop_overdue(&mut self, now: Instant) {
        while let Some(&(until, id)) = self.closing.front()
            && now >= until
        {
            self.closing.pop_front();
            self.drop_conn(id);
        }
    }

    fn fail_conn(&mut self, now: Instant, id: ConnId, error: &io::Error) {
        debug!("conn {}: closed after an I/O error: {error}", id.0);
        self.drop_conn(id);
        self.server.handle_input(now, Input::Gone { conn: id });
    }

    fn drop_conn(&mut self, id: ConnId) {
        let Some(mut conn) = self.conns.remove(&id) else {
            return;
        };
        if let Err(error) = self.poll.registry().deregister(conn.source()) {
            error!("conn {}: cannot deregister from the poll: {error}", id.0);
        }
        // A file descriptor is free: accept again.
        if let Accepting::Paused(_) = self.accepting {
            self.accepting = Accepting::Ready;
        }
    }
}
