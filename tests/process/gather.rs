//! Gathering of datagrams while they arrive fast (`--gather`).

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::metrics::values;
use crate::process::Process;
use crate::{client, http};

/// Sends some datagrams that belong to nobody each millisecond for half a second. Returns the number of turns for
/// each datagram.
fn turns(process: &Process, per_ms: u32) -> f64 {
    let read = |name: &str| values(http::get(process.addr(), "/aq_server/metrics").text())[name];
    let (turns, datagrams) = (read("aq_turn_seconds_count"), read("aq_received_datagrams_total"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(500) {
        for _ in 0..per_ms {
            socket.send_to(&[0x80; 40], process.addr()).expect("a way to the server");
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let until = Instant::now() + crate::process::DEADLINE;
    while read("aq_received_datagrams_total") - datagrams < f64::from(sent) {
        assert!(Instant::now() < until, "datagrams are missing");
        std::thread::sleep(Duration::from_millis(20));
    }
    (read("aq_turn_seconds_count") - turns) / f64::from(sent)
}

#[test]
fn many_datagrams_are_gathered_and_few_are_not() {
    let [never, gather] = ["0", "10"].map(|ms| Process::start(&["--addr", "127.0.0.1:0", "--gather", ms]));
    let (each, gathered) = (turns(&never, 20), turns(&gather, 20));
    assert!(gathered < each / 2.0, "{gathered} turns a datagram with gathering and {each} without");
    let few = turns(&gather, 1);
    assert!(few > 0.25, "{few} turns a datagram, where one arrives each millisecond");
}

#[test]
fn a_call_goes_on_while_datagrams_are_gathered() {
    let process = Process::start(&["--addr", "127.0.0.1:0", "--gather", "10"]);
    turns(&process, 20);
    let mut ann = client::Client::join_on_loopback(&process, "Ann");
    let mut bob = client::Client::join_on_loopback(&process, "Bob");
    std::thread::scope(|scope| {
        scope.spawn(|| turns(&process, 20));
        client::exchange(&mut ann, &mut bob);
    });
}
