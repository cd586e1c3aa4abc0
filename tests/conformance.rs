//! Runs the Autobahn TestSuite against the server's WebSocket: an echo service on the server's own sockets and conns.
//!
//! The suite is a Python 2 program. `.ci/wstest` fetches both from Debian 11 and PyPI and prints the path for
//! `AQ_WSTEST`. Without that variable, the suite is searched on PATH; the test is skipped if it is not found. The limits
//! that the suite would exceed are different here: size and number of messages, and binary messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use aq_server::io::tcp::{ReadEnd, Tcp};
use aq_server::web::conn::{Conn, ConnEvent};
use aq_server::web::websocket::{Limits, Message, encode_binary, encode_text};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};

#[path = "process/folder.rs"]
mod folder;

use folder::Folder;

/// Number of the suite's cases, without compression (12 and 13), which the server never negotiates.
const CASES: usize = 301;

/// Case 9 sends messages of 16 MiB, also in fragments of 64 bytes, and thousands of small ones.
const LIMITS: Limits = Limits {
    message_bytes: 16 << 20,
    fragments: u32::MAX,
    frame_interval: Duration::ZERO,
    frame_burst: Duration::from_secs(1),
    queued_bytes: 64 << 20,
};

const LISTENER: Token = Token(0);

/// Maximum sleep of the loop before it checks whether to end.
const LOOK: Duration = Duration::from_millis(100);

/// An event loop like the reactor's, with an echo service instead of the server.
struct Echo {
    poll: Poll,
    listener: TcpListener,
    conns: BTreeMap<usize, (Tcp, Conn)>,
    next: usize,
}

impl Echo {
    fn bind() -> (Self, SocketAddr) {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let addr = listener.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
        (Self { poll, listener, conns: BTreeMap::new(), next: 1 }, addr)
    }

    fn run(&mut self, is_over: &AtomicBool) {
        let mut events = Events::with_capacity(64);
        while !is_over.load(Ordering::Relaxed) {
            let due = self.conns.values().filter_map(|(_, conn)| conn.next_timeout()).min();
            let sleep = due.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
            self.poll.poll(&mut events, Some(sleep)).unwrap();
            let now = Instant::now();
            self.accept(now);
            let ids: Vec<usize> = self.conns.keys().copied().collect();
            for id in ids {
                if self.serve(now, id).is_err() {
                    self.conns.remove(&id);
                }
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        while let Ok((socket, remote)) = self.listener.accept() {
            let mut tcp = Tcp::new(socket, None);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(tcp.source(), Token(self.next), interest).unwrap();
            self.conns.insert(self.next, (tcp, Conn::new(now, remote, false, LIMITS)));
            self.next += 1;
        }
    }

    /// Serves one connection. An error means that it has ended.
    fn serve(&mut self, now: Instant, id: usize) -> io::Result<()> {
        let (tcp, conn) = self.conns.get_mut(&id).unwrap();
        loop {
            let mut bytes = Vec::new();
            let end = tcp.read(&mut bytes)?;
            conn.handle_data(now, &bytes);
            if end == ReadEnd::Eof {
                conn.handle_eof(now);
            }
            if conn.next_timeout().is_some_and(|due| due <= now) {
                conn.handle_timeout(now);
            }
            while let Some(event) = conn.poll_event() {
                match event {
                    ConnEvent::Request(_) => conn.upgrade(now),
                    ConnEvent::Message(Message::Text(text)) => conn.send_encoded(now, &encode_text(&text)),
                    ConnEvent::Message(Message::Binary(bytes)) => conn.send_encoded(now, &encode_binary(&bytes)),
                    ConnEvent::Refused(_) | ConnEvent::Closed { .. } => {}
                }
            }
            while let Some(bytes) = conn.poll_transmit() {
                tcp.send(bytes);
            }
            conn.handle_written(now, tcp.flush()?);
            if conn.is_closed() {
                tcp.shutdown();
                return Err(io::ErrorKind::NotConnected.into());
            }
            if end == ReadEnd::Drained {
                return Ok(());
            }
        }
    }
}

#[test]
fn the_autobahn_testsuite_passes() {
    let program = env::var("AQ_WSTEST").unwrap_or_else(|_| "wstest".to_owned());
    let is_there = Command::new(&program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        assert!(env::var_os("AQ_REQUIRE_WSTEST").is_none(), "{program} does not run");
        println!("skipped: no Autobahn TestSuite ({program}); .ci/wstest fetches one");
        return;
    }
    let (mut echo, addr) = Echo::bind();
    let is_over = Arc::new(AtomicBool::new(false));
    let echoing = thread::spawn({
        let is_over = is_over.clone();
        move || echo.run(&is_over)
    });
    let folder = Folder::new();
    let spec = json!({
        "outdir": folder.arg(),
        "servers": [{"agent": "aq", "url": format!("ws://{addr}")}],
        "cases": ["*"],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    let spec = folder.write("spec.json", spec.to_string());
    let spec = spec.to_str().unwrap();
    let output = Command::new(&program).args(["--mode", "fuzzingclient", "--spec", spec]).output().unwrap();
    is_over.store(true, Ordering::Relaxed);
    echoing.join().unwrap();

    let index = fs::read_to_string(folder.path().join("index.json"));
    let index = index.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let index: Value = serde_json::from_str(&index).unwrap();
    let cases = index["aq"].as_object().unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    for (case, result) in cases {
        let behaviors = ["behavior", "behaviorClose"].map(|key| result[key].as_str().unwrap());
        *counts.entry(behaviors[0]).or_default() += 1;
        // "Non-strict" means that RFC 6455 allows the behavior, but the suite prefers another.
        if !behaviors.iter().all(|behavior| ["OK", "NON-STRICT", "INFORMATIONAL"].contains(behavior)) {
            failed.push((case, behaviors));
        }
    }
    println!("Autobahn TestSuite: {} cases, {counts:?}, {} failed", cases.len(), failed.len());
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(cases.len(), CASES);
}
