//! Lack of descriptors and CPU time, and attacks that only a timeout of the server ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::SockRef;

use crate::guest::Guest;
use crate::http::get;
use crate::process::Process;
use crate::wire::Wire;
use crate::{Tally, Target, transport};

/// Time limits for the server to accept again once descriptors are free, and to respond after it was stopped.
const RESUMED: Duration = Duration::from_secs(3);
const SERVED: Duration = Duration::from_secs(1);

/// Number of files that a process has open.
pub fn files(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("it runs").count()
}

fn limit_files(process: &Process, soft: &str) {
    let args = ["--pid", &process.id().to_string(), &format!("--nofile={soft}:")];
    assert!(Command::new("prlimit").args(args).status().is_ok_and(|status| status.success()), "prlimit {args:?}");
}

fn soft_limit(process: &Process) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).expect("it runs");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
    line.split_whitespace().next().expect("a number").to_owned()
}

/// R1: fifty connections while there are descriptors for five.
pub fn no_descriptors(target: &Target) -> Tally {
    let process = target.process;
    let before = soft_limit(process);
    limit_files(process, &(files(process) + 5).to_string());
    let conns: Vec<TcpStream> = (0..50).filter_map(|_| TcpStream::connect(process.addr()).ok()).collect();
    let mut late = TcpStream::connect(process.addr()).expect("the system queues it");
    late.write_all(b"GET /aq_server/health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the system queues it");
    late.set_read_timeout(Some(target.time)).expect("above zero");
    assert!(late.read(&mut [0]).is_err(), "it was served without a descriptor");
    let sent = conns.len() as u64;
    drop(conns);
    let at = Instant::now();
    late.set_read_timeout(Some(RESUMED)).expect("above zero");
    assert!(
        late.read(&mut [0]).is_ok_and(|bytes| bytes > 0),
        "not served {:?} after a descriptor was free",
        at.elapsed()
    );
    limit_files(process, &before);
    Tally { sent, answered: 1 }
}

/// R4: the process is stopped for six seconds.
pub fn frozen(target: &Target) -> Tally {
    target.process.signal("STOP");
    std::thread::sleep(Duration::from_secs(6));
    target.process.signal("CONT");
    let at = Instant::now();
    assert_eq!(get(target.process.addr(), "/aq_server/health").status, 200);
    assert!(at.elapsed() < SERVED, "{:?}", at.elapsed());
    Tally { sent: 1, answered: 1 }
}

/// H2, I4, W4, W7, S6: slow heads, silence, unread responses, slow readers, lost consent, no pongs and no answers, all at
/// the same time.
pub fn patience(target: &Target) -> Tally {
    type Waiting = (&'static str, fn(&Target), bool);
    let all: [Waiting; 8] = [
        ("a slow head", slow_head, false),
        ("silence", silence, false),
        ("idle keep-alive", idle, false),
        ("an unread answer", unread_answer, false),
        ("a reader that stops", stopped_reader, false),
        ("no consent", transport::lost_consent, false),
        ("no pong", no_pong, true),
        ("no answer to an offer", no_answer, true),
    ];
    let chosen: Vec<_> = all.iter().filter(|(_, _, is_long)| target.is_strict || !is_long).collect();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = chosen.iter().map(|(what, wait, _)| (what, scope.spawn(move || wait(target)))).collect();
        for (what, wait) in waiting {
            assert!(wait.join().is_ok(), "{what}");
        }
    });
    Tally { sent: chosen.len() as u64, answered: chosen.len() as u64 }
}

/// Waits for the end of a connection. Returns the text received before, and the time it took.
fn end(wire: &mut Wire) -> (String, Duration) {
    let (begin, mut bytes) = (Instant::now(), Vec::new());
    wire.set_patience(Duration::from_secs(40));
    let _ = wire.read_to_end(&mut bytes);
    (String::from_utf8_lossy(&bytes).into_owned(), begin.elapsed())
}

fn within(waited: Duration, from: u64, to: u64) {
    let expected = Duration::from_secs(from).mul_f64(0.9)..Duration::from_secs(to) + RESUMED;
    assert!(expected.contains(&waited), "ended after {waited:?}, not {from} to {to} s");
}

fn slow_head(target: &Target) {
    let mut wire = Wire::plain(target.process.addr());
    let begin = Instant::now();
    wire.write_all(b"GET / HTTP/1.1\r\n").expect("a new connection");
    // One byte per second is progress but never completes the head.
    while begin.elapsed() < Duration::from_secs(20) && wire.write_all(b"X").is_ok() {
        std::thread::sleep(Duration::from_secs(1));
    }
    within(begin.elapsed(), 5, 6);
}

fn silence(target: &Target) {
    within(end(&mut Wire::plain(target.process.addr())).1, 5, 5);
}

fn idle(target: &Target) {
    let mut wire = Wire::plain(target.process.addr());
    wire.write_all(b"GET /aq_server/health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a new connection");
    let (answer, waited) = end(&mut wire);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    within(waited, 15, 15);
}

fn unread_answer(target: &Target) {
    let tcp = TcpStream::connect(target.process.addr()).expect("a place");
    SockRef::from(&tcp).set_recv_buffer_size(4_096).expect("a socket");
    let begin = Instant::now();
    tcp.set_write_timeout(Some(Duration::from_secs(1))).expect("above zero");
    let request = b"GET /aq_server/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
    // The server reads requests only as responses are written. It ends with a reset, because some are never read.
    while begin.elapsed() < Duration::from_secs(30) {
        match (&tcp).write(&request) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(16), "still there");
}

fn stopped_reader(target: &Target) {
    let mut stopped = Guest::join(target.process, "stopped&name=Stopped");
    if let Wire::Plain(tcp) = &stopped.wire {
        SockRef::from(tcp).set_recv_buffer_size(4_096).expect("a socket");
    }
    let id = stopped.wait_for("welcome")["id"].clone();
    let mut writers: Vec<Guest> = (0..8).map(|_| Guest::join(target.process, "stopped")).collect();
    let line = json!({"event": "chat", "data": "x".repeat(4_000)}).to_string();
    let begin = Instant::now();
    loop {
        let mut is_gone = false;
        for writer in &mut writers {
            writer.say(&line);
            let messages = writer.messages(Duration::from_millis(15));
            is_gone |= messages.iter().any(|message| message["event"] == "left" && message["id"] == id);
        }
        if is_gone {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(25), "the reader that stopped is still there");
    }
    // Otherwise the server would keep them for half a minute.
    writers.iter_mut().for_each(|writer| _ = writer.say(r#"{"event":"leave"}"#));
}

fn no_pong(target: &Target) {
    let mut silent = Guest::join(target.process, "silent");
    // It does not answer the offer either, which may end it earlier.
    let (_, waited) = end(&mut silent.wire);
    within(waited, 20, 30);
}

fn no_answer(target: &Target) {
    let begin = Instant::now();
    let mut guest = Guest::join(target.process, "silent");
    guest.wire.set_patience(Duration::from_secs(40));
    let end = guest.end();
    assert_eq!((end.code, end.reason.as_str()), (1008, "negotiation-timeout"), "{end:?}");
    within(begin.elapsed(), 20, 21);
}
