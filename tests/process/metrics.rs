//! Metrics: their values under load, their format, and who may read them.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::client::{Client, Kind, exchange, request, upgrade};
use crate::folder::Folder;
use crate::http::{Http, get};
use crate::process::{Process, run};
use crate::wire::Wire;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TARGET: &str = "/aq_server/metrics";
const TOKEN: &str = "an admin token of 32 bytes or more";

/// The values by name and labels.
pub fn values(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').expect("a name and a value"));
    pairs.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

/// Runs promtool with this input, if it is installed, and checks that it finds no fault.
fn promtool(args: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            let required = env::var_os("AQ_REQUIRE_PROMTOOL").is_some_and(|value| value == "1");
            assert!(!required, "promtool is not on PATH, and AQ_REQUIRE_PROMTOOL is set");
            println!("skipped: promtool is not on PATH");
            return;
        }
    };
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let [said, complaints] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && complaints.is_empty(), "{said}{complaints}\n{input}");
}

#[test]
fn metrics_count_what_a_server_under_load_has_done() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let mut ann = Client::join(&process, "Ann", HERE, HERE);
    let mut bob = Client::join(&process, "Bob", HERE, HERE);
    exchange(&mut ann, &mut bob);
    let url = format!("ws://{}/aq_server/websocket?room={}", process.addr(), "x".repeat(129));
    assert_eq!(upgrade(Wire::plain(process.addr()), request(&url, None)).err(), Some(400));
    let mut refused = Http::connect(process.addr());
    assert_eq!(refused.request("PUT", TARGET, &["Content-Length: 65537"]).status, 413);
    assert_eq!(get(process.addr(), "/nothing").status, 404);

    let response = get(process.addr(), TARGET);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let values = values(response.text());
    let value = |name: &str| *values.get(name).unwrap_or_else(|| panic!("{name} is not in {values:#?}"));

    for (name, expected) in [
        ("aq_rooms", 1.0),
        ("aq_participants", 2.0),
        ("aq_joins_total{outcome=\"joined\"}", 2.0),
        ("aq_joins_total{outcome=\"bad-room\"}", 1.0),
        ("aq_joins_total{outcome=\"unauthorized\"}", 0.0),
        ("aq_connections_refused_total", 1.0),
        ("aq_http_requests_refused_total{reason=\"body-too-large\"}", 1.0),
        ("aq_http_responses_total{class=\"4xx\"}", 3.0),
        ("aq_packets_dropped_total{reason=\"not_loudest\"}", 0.0),
        ("aq_shed_stage", 0.0),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    let count = |clients: [&Client; 2], of: fn(&Client, Kind) -> usize| -> f64 {
        let counts = clients.into_iter().flat_map(|client| Kind::ALL.map(|kind| of(client, kind)));
        counts.sum::<usize>() as f64
    };
    let sent = count([&ann, &bob], |client, kind| client.sent(kind).len());
    let received = count([&ann, &bob], |client, kind| client.received(kind).len());
    // Packets sent before the other client's media was connected are received and not forwarded.
    let (packets_in, forwarded) = (value("aq_received_packets_total"), value("aq_forwarded_packets_total"));
    assert!(packets_in > 200.0 && packets_in <= sent, "{packets_in} of {sent} packets");
    assert!(forwarded >= received && forwarded <= packets_in, "{received} received, {forwarded} of {packets_in}");
    let dropped: f64 =
        values.iter().filter(|(name, _)| name.starts_with("aq_packets_dropped_total{")).map(|(_, n)| n).sum();
    let undecided = value("aq_packets_due_total") - forwarded - dropped;
    assert!(undecided == 0.0, "{undecided} packets neither forwarded nor dropped ({dropped})");
    assert!(value("aq_sent_datagrams_total") >= forwarded && value("aq_received_datagrams_total") >= packets_in);
    // A payload has some 20 to 1,000 bytes.
    for (bytes, packets) in [("aq_received_bytes_total", packets_in), ("aq_sent_bytes_total", forwarded)] {
        assert!(value(bytes) > 30.0 * packets && value(bytes) < 2_000.0 * packets + 100_000.0, "{bytes}");
    }
    assert!(value("aq_keyframe_requests_total{reason=\"join\"}") >= 1.0);
    assert!(value("aq_offers_total") >= 2.0 && value("aq_answers_total") >= 2.0);

    for (name, least) in [("aq_turn_seconds", 200.0), ("aq_forward_delay_seconds", 50.0)] {
        let (count, sum) = (value(&format!("{name}_count")), value(&format!("{name}_sum")));
        assert!(count > least, "{name}: {count}");
        assert!(sum > 1e-6 * count && sum < 0.5 * count, "{name}: {count} of {sum} s");
        assert_eq!(value(&format!("{name}_bucket{{le=\"+Inf\"}}")), count, "{name}");
        assert!(value(&format!("{name}_bucket{{le=\"1\"}}")) > 0.9 * count, "{name}");
    }
    assert!(value("aq_forward_delay_seconds_count") <= forwarded);
    assert!(value("aq_uptime_seconds") > 0.1 && (0.0..=1.0).contains(&value("aq_load_ratio")));
    promtool(&["check", "metrics"], response.text());
}

#[test]
fn metrics_are_readable_from_loopback_only_unless_more_is_permitted() {
    let folder = Folder::new();
    let file = folder.write("token", format!("{TOKEN}\n"));
    let token = format!("Authorization: Bearer {TOKEN}");
    // As a proxy on this machine forwards a request.
    let far = ["X-Forwarded-For: 203.0.113.7"];
    let scrape = |process: &Process, fields: &[&str]| Http::connect(process.addr()).request("GET", TARGET, fields);

    let closed = Process::start(&["--addr", "127.0.0.1:0"]);
    assert_eq!(scrape(&closed, &[]).status, 200);
    for fields in [&far[..], &["Via: 1.1 proxy"], &[far[0], token.as_str()]] {
        let refusal = scrape(&closed, fields);
        assert_eq!(refusal.status, 403, "{fields:?}");
        let text = refusal.text();
        for part in ["--metrics-allow (METRICS_ALLOW)", "--admin-token-file (ADMIN_TOKEN_FILE)"] {
            assert!(text.contains(part) && !text.contains("aq_"), "{text}");
        }
    }

    let alldue = ["--addr", "127.0.0.1:0", "--metrics-allow", "198.51.100.0/24", "--metrics-allow", "203.0.113.0/24"];
    let open = Process::start(&alldue);
    assert_eq!(scrape(&open, &far).status, 200);
    assert_eq!(scrape(&open, &["X-Forwarded-For: 192.0.2.1"]).status, 403);

    let env = [("ADMIN_TOKEN_FILE", file.to_str().unwrap())];
    let keyed = Process::start_with(&["--addr", "127.0.0.1:0"], &env);
    assert_eq!(scrape(&keyed, &[far[0], token.as_str()]).status, 200);
    assert_eq!(scrape(&keyed, &[]).status, 200);
    for wrong in [&token[..token.len() - 1], "Authorization: Bearer", "Authorization: Basic YTpi", "X: y"] {
        assert_eq!(scrape(&keyed, &[far[0], wrong]).status, 403, "{wrong}");
    }
}

#[test]
fn a_bad_token_file_is_named_and_a_readable_one_is_warned_of() {
    let folder = Folder::new();
    for (name, content, expected) in [
        ("empty", "", "has 0 bytes and needs at least 32"),
        ("line", "\r\n", "has 0 bytes and needs at least 32"),
        ("short", "hunter2\n", "has 7 bytes and needs at least 32"),
    ] {
        let file = folder.write(name, content);
        let ended = run(&["--addr", "127.0.0.1:0", "--admin-token-file", file.to_str().unwrap()], &[]);
        let named = format!("--admin-token-file (ADMIN_TOKEN_FILE) {}: ", file.display());
        let line = ended.stderr.last().expect("an error");
        assert!(line.contains(&named) && line.contains(expected) && !line.contains("hunter"), "{line}");
        assert_eq!(ended.code, Some(1));
    }
    let ended = run(&["--admin-token-file", "/nonexistent"], &[]);
    assert!(ended.stderr[0].contains("--admin-token-file (ADMIN_TOKEN_FILE) /nonexistent: "), "{:?}", ended.stderr);

    for (mode, is_warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        let file = folder.write("token", TOKEN);
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let process = Process::start(&["--addr", "127.0.0.1:0", "--admin-token-file", file.to_str().unwrap()]);
        process.signal("TERM");
        let log = process.wait().stderr;
        let warnings = log.iter().filter(|line| line.contains("WARN") && line.contains("chmod 600")).count();
        assert_eq!(warnings, usize::from(is_warned), "{mode:o}: {log:#?}");
        assert!(log.iter().all(|line| !line.contains(TOKEN)), "{log:#?}");
    }
}

#[test]
fn the_configuration_of_the_hosting_guide_scrapes_the_metrics() {
    let hosting = include_str!("../../docs/hosting.md");
    let block = hosting.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    assert_eq!(block.matches(&format!("metrics_path: {TARGET}\n")).count(), 2, "{block}");
    let folder = Folder::new();
    let file = folder.write("prometheus.yml", block);
    promtool(&["check", "config", "--syntax-only", file.to_str().unwrap()], "");
}
