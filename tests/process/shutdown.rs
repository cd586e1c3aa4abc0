//! SIGTERM and SIGINT: everybody is told, and the process ends well and soon.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, exchange, request, run_until, upgrade};
use crate::folder::Folder;
use crate::http::{Http, get};
use crate::process::Process;
use crate::wire::Wire;

/// How long an end may take, whatever the clients do: three seconds, and what a machine at work makes of them.
const END: Duration = Duration::from_secs(4);

/// An end without patience.
const AT_ONCE: Duration = Duration::from_millis(1_500);

#[test]
fn signals_end_calls_with_a_word() {
    for signal in ["TERM", "INT"] {
        let process = Process::start(&["--addr", "127.0.0.1:0"]);
        let mut ann = Client::join_on_loopback(&process, "Ann");
        let mut bob = Client::join_on_loopback(&process, "Bob");
        exchange(&mut ann, &mut bob);
        // An idle connection is no reason to wait.
        let mut idle = Http::connect(process.addr());
        assert_eq!(idle.get("/aq_server/health").json()["participants"], 2);

        process.signal(signal);
        let at = Instant::now();
        run_until(&mut [&mut ann, &mut bob], "the word", |clients| {
            clients.iter().all(|client| !client.events("closing").is_empty())
        });
        exchange(&mut ann, &mut bob);
        assert_eq!(get(process.addr(), "/aq_server/health").json()["status"], "closing");
        let refused = get(process.addr(), "/aq_server/check?name=Cat");
        assert_eq!((refused.status, &refused.json()["code"]), (503, &"closing".into()));
        assert!(ann.closed.is_none() && bob.closed.is_none(), "calls go on");
        run_until(&mut [&mut ann, &mut bob], "the close", |clients| {
            clients.iter().all(|client| client.closed.is_some())
        });
        for client in [&ann, &bob] {
            let closing = client.events("closing");
            assert_eq!(closing.len(), 1);
            assert_eq!((&closing[0]["retry_ms"], &closing[0]["url"]), (&4_000.into(), &Value::Null));
            assert_eq!(client.closed.as_ref().map(|(code, _)| *code), Some(1001));
            assert_eq!(client.events("left").len(), 0, "nobody left: all were sent away");
        }
        let ended = process.wait();
        assert_eq!(ended.code, Some(0), "{signal}: {:?}", ended.stderr);
        assert!(at.elapsed() > AT_ONCE && at.elapsed() < END, "{signal}: {:?}", at.elapsed());
        assert!(idle.rest().is_empty());
    }
}

/// A WebSocket that never answers a close.
fn join_silently(process: &Process) -> Wire {
    let addr = process.addr();
    let request = request(&format!("ws://{addr}/aq_server/websocket?name=Eve"), None);
    let socket = upgrade(Wire::plain(addr), request).expect("a place");
    // The raw connection, so that nothing is answered.
    socket.into_inner()
}

#[test]
fn a_second_signal_ends_at_once() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let mut eve = join_silently(&process);
    process.signal("TERM");
    let at = Instant::now();
    let mut said: Vec<u8> = Vec::new();
    while !said.windows(7).any(|window| window == b"closing") {
        let mut buffer = [0; 4096];
        let read = eve.read(&mut buffer).unwrap();
        assert!(read > 0, "closed without a word");
        said.extend(&buffer[..read]);
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
    // More than the buffers of both systems hold: the response never goes out.
    let mut stuck = Wire::plain(process.addr());
    stuck.write_all(b"GET /aq_server/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let health: Value = get(process.addr(), "/aq_server/health").json();
    assert_eq!(health["participants"], 1);

    process.signal("TERM");
    let at = Instant::now();
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    assert!(at.elapsed() > AT_ONCE, "they were given time");
    assert!(at.elapsed() < END, "{:?}", at.elapsed());
}

#[test]
fn without_a_drain_everybody_is_told_and_it_ends() {
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
