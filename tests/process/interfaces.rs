//! Addresses of the machine that change while the server runs, in a network namespace of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::process::DEADLINE;

/// Without a user namespace there is no place to change addresses in.
const NAMESPACE: [&str; 2] = ["--map-root-user", "--net"];

#[test]
fn offers_follow_the_addresses_of_the_interfaces() {
    let probe = Command::new("unshare").args(NAMESPACE).args(["ip", "link", "set", "lo", "up"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: no network namespace here, or no ip");
        return;
    }
    // Each line is the address from now on; at the end of the input all is over.
    let script = "ip link set lo up; ip addr add 192.0.2.1/32 dev lo; \"$0\" --addr 0.0.0.0:8080 2>&1 & \
                  while read addr; do ip addr flush dev lo scope global; ip addr add $addr/32 dev lo; done; kill $!";
    let mut shell = Command::new("timeout")
        .args([&DEADLINE.as_secs().to_string(), "unshare"])
        .args(NAMESPACE)
        .args(["sh", "-c", script, env!("CARGO_BIN_EXE_aq-server")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was there just now");
    let mut input = shell.stdin.take();
    let mut seen = Vec::new();
    // The first look at the interfaces is at the start, so one change does not show that there is another.
    let mut changes =
        [("192.0.2.1", "192.0.2.9"), ("192.0.2.9", "192.0.2.5"), ("192.0.2.5", "")].into_iter().peekable();
    for line in BufReader::new(shell.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        if let Some((_, next)) =
            changes.next_if(|(addr, _)| line.contains(&format!("announced as {addr}:8080 127.0.0.1:8080")))
        {
            match next {
                "" => input = None,
                next => writeln!(input.as_mut().expect("not over yet"), "{next}").expect("the shell reads"),
            }
        }
        seen.push(line);
    }
    let _ = shell.wait();
    assert!(input.is_none(), "a change is not in the log: {seen:#?}");
}
