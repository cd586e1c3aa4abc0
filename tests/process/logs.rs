//! The contents of the log, and a server whose log can't be written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, exchange, run_until};
use crate::http::get;
use crate::process::{DEADLINE, Process, command};

/// Capacity of a pipe on Linux in bytes (pipe(7)).
const PIPE_BYTES: usize = 65_536;

/// A pipe whose reading end is closed.
fn closed() -> Stdio {
    io::pipe().expect("a pipe").1.into()
}

/// A device without free space.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux").into()
}

/// A full pipe whose reading end is open but not read.
fn unread() -> Stdio {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; PIPE_BYTES]).expect("the pipe has room");
    // Keeps the pipe open until the test's process ends.
    std::mem::forget(reader);
    writer.into()
}

#[test]
fn a_server_whose_log_is_closed_or_full_or_unread_still_serves() {
    for log in [closed, full, unread] {
        let process = Process::start_logging_to(log, &["--addr", "127.0.0.1:0", "--log-level", "debug"]);
        let mut ann = Client::join_on_loopback(&process, "Ann");
        let mut bob = Client::join_on_loopback(&process, "Bob");
        exchange(&mut ann, &mut bob);
        ann.send_json(&json!({"event": "chat", "data": "hello"}));
        run_until(&mut [&mut ann, &mut bob], "a line", |clients| clients[1].events("chat").len() == 1);
        // At this level the server logs that it refuses the message.
        bob.send_json(&json!({"event": "nonsense"}));
        bob.send_json(&json!({"event": "leave"}));
        bob.turn();
        drop(bob);
        run_until(&mut [&mut ann], "a goodbye", |clients| clients[0].events("left").len() == 1);
        assert_eq!(get(process.addr(), "/aq_server/health").json()["participants"], 1);
        process.signal("TERM");
        run_until(&mut [&mut ann], "the close", |clients| clients[0].closed.is_some());
        assert_eq!(process.wait().code, Some(0));
    }
}

#[test]
fn the_error_that_ends_the_start_is_written_even_if_the_log_is_blocked_for_a_while() {
    /// Several times as long as the server waits when it is asked to end.
    const BLOCKED: Duration = Duration::from_secs(2);
    let (mut reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; PIPE_BYTES]).expect("the pipe has room");
    let args = ["--addr", "127.0.0.1:0", "--www", "/missing"];
    let mut child = command(&args, &[]).stdout(Stdio::null()).stderr(writer).spawn().expect("the binary starts");
    thread::sleep(BLOCKED);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("the log is UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(text.trim().starts_with("aq-server: --www (WWW_DIR) /missing: "), "{:?}", text.trim());
}

#[test]
fn a_server_whose_standard_output_is_not_read_still_serves() {
    // Another program may take the port before the server binds it.
    for _ in 0..3 {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let process = Process::start_telling(unread(), addr.port());
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(addr).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        if get(addr, "/aq_server/health").status == 200 {
            process.signal("TERM");
            assert_eq!(process.wait().code, Some(0));
            return;
        }
    }
    panic!("no attempt succeeded");
}

#[test]
fn joins_and_leaves_are_logged() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let mut ann = Client::join_on_loopback(&process, "Ann%0A%1B%5B31m");
    run_until(&mut [&mut ann], "a welcome", |clients| clients[0].events("welcome").len() == 1);
    let joined = process.wait_for_log("joined");
    assert!(joined.contains("Ann") && !joined.contains('\u{1b}'), "{joined:?}");
    let resume = ann.events("welcome")[0]["resume"].as_str().unwrap().to_owned();
    ann.send_json(&json!({"event": "leave"}));
    ann.turn();
    drop(ann);
    let left = process.wait_for_log("left");
    assert!(left.contains("Ann") && !left.contains(&resume), "{left:?}");
}

#[test]
fn worst_case_memory_and_descriptors_are_logged_at_the_start() {
    let process = Process::start(&["--addr", "127.0.0.1:0", "--max-conns", "20", "--max-participants", "10"]);
    let memory = process.wait_for_log("memory in the worst case");
    let numbers: Vec<u64> = memory.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [each, room, all] = numbers[..] else { panic!("{memory:?}") };
    assert!(each > 1 && room > 5 * each && room <= all && all < 1_000, "{memory:?}");
    assert!(process.wait_for_log("descriptors").contains(" 52 at most"));

    let process = Process::start(&["--addr", "127.0.0.1:0", "--max-conns", "1000000", "--max-participants", "1000000"]);
    process.wait_for_log("enough in the worst case for");
    let warning = process.wait_for_log("descriptors");
    let is_enough = warning.contains("at most");
    assert!(is_enough || warning.contains("WARN") && warning.contains("--max-conns 1000000"), "{warning:?}");
}
