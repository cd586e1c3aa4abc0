//! SIGTERM and SIGINT: participants are notified, and the process ends in time with exit code 0.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, exchange, request, run_until, upgrade};
use crate::folder::Folder;
use crate::http::{Http, get};
use crate::process::Process;
use crate::wire::Wire;

/// Time limit for an end, whatever the clients do: the drain of three seconds, with tolerance for busy machines.
const END: Duration = Duration::from_secs(4);

/// Time limit for an end without a drain.
const AT_ONCE: Duration = Duration::from_millis(1_500);

#[test]
fn participants_are_notified_before_a_signal_ends_their_call() {
    for signal in ["TERM", "INT"] {
        let process = Process::start(&["--addr", "127.0.0.1:0"]);
        let mut ann = Client::join_on_loopback(&process, "Ann");
        let mut bob = Client::join_on_loopback(&process, "Bob");
        exchange(&mut ann, &mut bob);
        // An idle connection does not delay the end.
        let mut idle = Http::connect(process.addr());
        assert_eq!(idle.get("/aq_server/health").json()["participants"], 2);

        process.signal(signal);
        let at = Instant::now();
        run_until(&mut [&mut ann, &mut bob], "a `closing` event", |clients| {
            clients.iter().all(|client| !client.events("closing").is_empty())
        });
        exchange(&mut ann, &mut bob);
        assert_eq!(get(process.addr(), "/aq_server/health").json()["status"], "closing");
        let refused = get(process.addr(), "/aq_server/check?name=Cat");
        assert_eq!((refused.status, &refused.json()["code"]), (503, &"closing".into()));
        assert!(ann.closed.is_none() && bob.closed.is_none(), "calls continue");
        run_until(&mut [&mut ann, &mut bob], "the close", |clients| {
            clients.iter().all(|client| client.closed.is_some())
        });
        for client in [&ann, &bob] {
            let closing = client.events("closing");
            assert_eq!(closing.len(), 1);
            assert_eq!((&closing[0]["retry_ms"], &closing[0]["url"]), (&4_000.into(), &Value::Null));
            assert_eq!(client.closed.as_ref().map(|(code, _)| *code), Some(1001));
            assert_eq!(client.events("left").len(), 0, "no participant is reported as left");
        }
        let ended = process.wait();
        assert_eq!(ended.code, Some(0), "{signal}: {:?}", ended.stderr);
        assert!(at.elapsed() > AT_ONCE && at.elapsed() < END, "{signal}: {:?}", at.elapsed());
        assert!(idle.rest().is_empty());
    }
}

/// Whoever reads the URL on standard output may send a signal at once: it must find its handler.
#[test]
fn a_signal_right_after_the_url_is_printed_is_handled() {
    for _ in 0..8 {
        let process = Process::start(&["--addr", "127.0.0.1:0"]);
        process.signal("TERM");
        let ended = process.wait();
        assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
        assert!(ended.stderr.iter().any(|line| line.contains("media on UDP")), "{:?}", ended.stderr);
    }
}

/// A WebSocket that never answers a close.
fn join_silently(process: &Process) -> Wire {
    let addr = process.addr();
    let request = request(&format!("ws://{addr}/aq_server/websocket?name=Eve"), None);
    let socket = upgrade(Wire::plain(addr), request).expect("the upgrade succeeds");
    // Use the raw connection, so that the close is not answered.
    socket.into_inner()
}

#[test]
fn a_second_signal_ends_at_once() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let mut eve = join_silently(&process);
    process.signal("TERM");
    let at = Instant::now();
    let mut received: Vec<u8> = Vec::new();
    while !received.windows(7).any(|window| window == b"closing") {
        let mut buffer = [0; 4096];
        let read = eve.read(&mut buffer).unwrap();
        assert!(read > 0, "closed without a `closing` event");
        received.extend(&buffer[..read]);
    }
    process.signal("TERM");
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    assert!(at.elapsed() < AT_ONCE, "{:?}", at.elapsed());
}

#[test]
fn clients_that_never_read_do_not_delay_the_end() {
    let www = Folder::new();
    www.write("large.bin", vec![7; 32 << 20]);
    let process = Process::start(&["--addr", "127.0.0.1:0", "--www", www.arg()]);
    let _eve = join_silently(&process);
    // The file is larger than the socket buffers, so the response can't be sent completely.
    let mut stuck = Wire::plain(process.addr());
    stuck.write_all(b"GET /aq_server/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let health: Value = get(process.addr(), "/aq_server/health").json();
    assert_eq!(health["participants"], 1);

    process.signal("TERM");
    let at = Instant::now();
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    assert!(at.elapsed() > AT_ONCE, "the server waits for clients");
    assert!(at.elapsed() < END, "{:?}", at.elapsed());
}

#[test]
fn without_a_drain_participants_are_notified_and_the_process_ends() {
    let there = "https://b.example.org/aq_server/";
    let process = Process::start(&["--addr", "127.0.0.1:0", "--drain", "0", "--drain-url", there]);
    let mut ann = Client::join_on_loopback(&process, "Ann");
    process.signal("TERM");
    let at = Instant::now();
    run_until(&mut [&mut ann], "the close", |clients| clients.iter().all(|client| client.closed.is_some()));
    let closing = ann.events("closing");
    assert_eq!((&closing[0]["retry_ms"], &closing[0]["url"]), (&1_000.into(), &there.into()));
    assert_eq!(ann.closed.as_ref().map(|(code, _)| *code), Some(1001));
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    assert!(at.elapsed() < AT_ONCE, "{:?}", at.elapsed());
}
