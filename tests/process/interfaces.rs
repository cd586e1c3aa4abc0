//! Changes of the machine's addresses and time zone while the server runs, in separate namespaces.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::folder::Folder;
use crate::process::DEADLINE;

/// Options of `unshare`. Addresses can be changed only in a namespace.
const NAMESPACE: [&str; 2] = ["--map-root-user", "--net"];

#[test]
fn offers_follow_the_addresses_of_the_interfaces() {
    let probe = Command::new("unshare").args(NAMESPACE).args(["ip", "link", "set", "lo", "up"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: no network namespace here, or no ip");
        return;
    }
    // Each line of input is the next address; the end of the input ends the server.
    let state = Folder::new();
    let script = "ip link set lo up; ip addr add 192.0.2.1/32 dev lo; \"$0\" --addr 0.0.0.0:8080 --tls auto --state-dir \"$1\" 2>&1 & \
                  while read addr; do ip addr flush dev lo scope global; ip addr add $addr/32 dev lo; done; kill $!";
    let mut shell = Command::new("timeout")
        .args([&DEADLINE.as_secs().to_string(), "unshare"])
        .args(NAMESPACE)
        .args(["sh", "-c", script, env!("CARGO_BIN_EXE_aq-server"), state.arg()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("timeout and unshare run");
    let mut input = shell.stdin.take();
    let mut seen = Vec::new();
    // The server reads the interfaces first at its start, so a single change would not prove that it does so again.
    let mut changes =
        [("192.0.2.1", "192.0.2.9"), ("192.0.2.9", "192.0.2.5"), ("192.0.2.5", "")].into_iter().peekable();
    for line in BufReader::new(shell.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        if let Some((_, next)) =
            changes.next_if(|(addr, _)| line.contains(&format!("announced as {addr}:8080 127.0.0.1:8080")))
        {
            match next {
                "" => input = None,
                next => writeln!(input.as_mut().expect("the input is still open"), "{next}").expect("the shell reads"),
            }
        }
        seen.push(line);
    }
    let _ = shell.wait();
    assert!(input.is_none(), "a change is not in the log: {seen:#?}");
    let certificates = seen.iter().filter(|line| line.contains("a second certificate is served")).count();
    assert!(certificates > 0, "the certificate does not follow the addresses: {seen:#?}");
}

#[test]
fn local_time_follows_the_time_zone_of_the_system() {
    let zones = ["Asia/Tokyo", "Asia/Kathmandu"].map(|zone| format!("/usr/share/zoneinfo/{zone}"));
    let probe = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output();
    let is_there = probe.is_ok_and(|output| output.status.success());
    if !is_there || zones.iter().any(|zone| !Path::new(zone).exists()) {
        println!("skipped: no mount namespace here, or no tzdata");
        return;
    }
    let folder = Folder::new();
    // Each line of input is the next time zone; the end of the input ends the server.
    let script = "ln -s \"$2\" \"$1/localtime\"; mount --bind \"$1\" /etc; \"$0\" --addr 127.0.0.1:0 2>&1 & \
                  while read zone; do ln -sf \"$zone\" \"$1/localtime\"; done; kill $!";
    let mut shell = Command::new("timeout")
        .args([&DEADLINE.as_secs().to_string(), "unshare", "--map-root-user", "--mount", "sh", "-c", script])
        .args([env!("CARGO_BIN_EXE_aq-server"), folder.arg(), &zones[0]])
        .env_remove("TZ")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("timeout and unshare run");
    let mut input = shell.stdin.take();
    let mut seen = Vec::new();
    for line in BufReader::new(shell.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        if line.contains("is 540 minutes ahead of UTC") {
            writeln!(input.as_mut().expect("the input is still open"), "{}", zones[1]).expect("the shell reads");
        } else if line.contains("is 345 minutes ahead of UTC") {
            input = None;
        }
        seen.push(line);
    }
    let _ = shell.wait();
    assert!(input.is_none(), "the change is not in the log: {seen:#?}");
}
