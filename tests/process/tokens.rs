//! Tokens: which requests need one, how bad ones are refused, and what is logged.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::client::{Client, request, run_until, upgrade};
use crate::folder::Folder;
use crate::http::{Http, get};
use crate::process::Process;
use crate::token::{SECRET, sign, token};
use crate::wire::Wire;

/// The header fields that make a GET an upgrade.
const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn claims() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    json!({"room": "default", "exp": now + 600})
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

/// The complete response to a GET on a new connection.
fn answer(process: &Process, route: &str, query: &str, fields: &[&str]) -> Vec<u8> {
    let mut http = Http::connect(process.addr());
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    http.send(format!("GET /aq_server/{route}{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
    let response = http.response(true);
    format!("{response:?}").into_bytes()
}

#[test]
fn every_bad_token_gets_the_same_answer_before_the_upgrade_and_by_check() {
    let process = Process::start_with(&["--addr", "127.0.0.1:0"], &[("TOKEN_SECRET", SECRET)]);
    let text = claims().to_string();
    let good = token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let more = token(&with("moderate", json!(true)));
    // {"alg":"none"}
    let none = "eyJhbGciOiJub25lIn0";
    let hs256 = r#"{"alg":"HS256"}"#;
    let mut expired = claims();
    expired["exp"] = json!(expired["exp"].as_u64().unwrap() - 700);
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    let bad = [
        ("no token", String::new()),
        ("an empty one", "?token=".to_owned()),
        ("garbage", "?token=garbage".to_owned()),
        ("alg:none", format!("?token={none}.{payload}.")),
        ("alg:none and a signature", format!("?token={none}.{payload}.{signature}")),
        ("no signature", format!("?token={signed}.")),
        ("half of one", format!("?token={}", &good[..good.len() / 2])),
        ("a huge one", format!("?token={}", "a".repeat(8_000))),
        ("HS512", format!("?token={}", sign(hmac::HMAC_SHA512, SECRET, r#"{"alg":"HS512"}"#, &text))),
        ("RS256", format!("?token={}", sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"RS256"}"#, &text))),
        ("another secret", format!("?token={}", sign(hmac::HMAC_SHA256, &SECRET[1..], hs256, &text))),
        ("claims of another", format!("?token={}.{signature}", more.rsplit_once('.').unwrap().0)),
        ("expired", format!("?token={}", token(&expired))),
        ("without end", format!("?token={}", token(&endless))),
        ("too early", format!("?token={}", token(&with("nbf", json!(9_999_999_999_u64))))),
        ("for another room", format!("?token={}", token(&with("room", json!("other"))))),
        ("in another room", format!("?room=other&token={good}")),
    ];
    let expected = answer(&process, "websocket", "", &UPGRADE);
    for (cause, query) in &bad {
        let routes = [("websocket", &UPGRADE[..]), ("ws", &UPGRADE), ("check", &[])];
        for (route, fields) in routes {
            let response = answer(&process, route, query, fields);
            assert_eq!(String::from_utf8_lossy(&response), String::from_utf8_lossy(&expected), "{cause} at {route}");
        }
    }
    let refusal = get(process.addr(), "/aq_server/check");
    assert_eq!((refusal.status, refusal.header("www-authenticate")), (401, Some("Bearer")));
    let body = refusal.json();
    assert_eq!(
        (&body["event"], &body["code"], &body["retry"]),
        (&json!("error"), &json!("unauthorized"), &json!(false))
    );

    assert_eq!(get(process.addr(), &format!("/aq_server/check?token={good}")).status, 200);
    let url = format!("ws://{}/aq_server/websocket?token={good}", process.addr());
    assert!(upgrade(Wire::plain(process.addr()), request(&url, None)).is_ok());
}

#[test]
fn the_log_says_why_a_token_is_refused_and_contains_no_token_or_secret() {
    let folder = Folder::new();
    let file = folder.write("secret", format!("{SECRET}\n"));
    let file = file.to_str().expect("a path in UTF-8");
    let process = Process::start(&["--addr", "127.0.0.1:0", "--log-level", "trace", "--token-secret-file", file]);
    let good = token(&claims());
    let forged = sign(hmac::HMAC_SHA256, "another secret of 32 bytes and more", r#"{"alg":"HS256"}"#, "{}");
    let check = |query: &str| get(process.addr(), &format!("/aq_server/check?{query}")).status;
    assert_eq!(check(&format!("token={forged}")), 401);
    assert_eq!(check(&format!("token={good}")), 200);
    assert_eq!(check(&format!("room=x&token={good}")), 401);
    let ann = format!("Ann&token={good}");
    let mut ann = Client::join_on_loopback(&process, &ann);
    run_until(&mut [&mut ann], "an offer", |clients| clients[0].events("offer").len() == 1);
    process.signal("TERM");
    run_until(&mut [&mut ann], "the close", |clients| clients[0].closed.is_some());
    let ended = process.wait();
    for expected in ["a token is required to join", "not signed with the secret", "for another room", "joined room"] {
        assert!(ended.stderr.iter().any(|line| line.contains(expected)), "{expected}: {:#?}", ended.stderr);
    }
    let parts: Vec<&str> = good.split('.').chain(forged.split('.')).chain([SECRET]).collect();
    for line in ended.stderr.iter().chain(&ended.stdout) {
        assert!(!parts.iter().any(|part| line.contains(part)), "{line}");
    }
}

#[test]
fn a_server_without_a_secret_logs_that_it_is_open() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let line = process.wait_for_log("open to everyone");
    assert!(line.contains("--token-secret-file (TOKEN_SECRET_FILE)"), "{line}");
    let mut ann = Client::join_on_loopback(&process, "Ann&token=whatever");
    run_until(&mut [&mut ann], "a welcome", |clients| clients[0].events("welcome").len() == 1);
    let rights = &ann.events("welcome")[0]["rights"];
    assert_eq!(*rights, json!({"publish": true, "subscribe": true, "moderate": false}));
}

#[test]
fn the_token_program_of_the_hosting_guide_makes_valid_tokens() {
    let script = include_str!("invite.py");
    let output = Command::new("python3").args(["-c", script]).env("TOKEN_SECRET", SECRET).output();
    let Ok(output) = output else {
        eprintln!("skipped: no python3 on PATH");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = String::from_utf8(output.stdout).expect("a token is text");
    let process = Process::start_with(&["--addr", "127.0.0.1:0"], &[("TOKEN_SECRET", SECRET)]);
    let check = |room: &str| get(process.addr(), &format!("/aq_server/check?room={room}&token={}", token.trim()));
    assert_eq!((check("weekly").status, check("daily").status), (200, 401));
}

/// Composed and decomposed characters and soft hyphens: tokens, calls and the log treat the names as one room.
#[test]
fn room_names_that_look_alike_are_one_room() {
    let process = Process::start_with(&["--addr", "127.0.0.1:0"], &[("TOKEN_SECRET", SECRET)]);
    let join = |name: &str, query: &str, claim: &str| {
        let token = token(&with("room", json!(claim)));
        let url = format!("ws://{}/aq_server/websocket?name={name}&room={query}&token={token}", process.addr());
        let socket = upgrade(Wire::plain(process.addr()), request(&url, None)).expect("the upgrade succeeds");
        let here = process.addr().ip();
        Client::new(socket, name, here, here)
    };
    let mut ann = join("Ann", "Caf%C3%A9", "Cafe\u{301}");
    let mut bob = join("Bob", "Ca%C2%ADfe%CC%81", "Caf\u{e9}\u{ad}");
    run_until(&mut [&mut ann, &mut bob], "both in one room", |clients| clients[0].events("joined").len() == 1);
    for client in [&ann, &bob] {
        assert_eq!(client.events("welcome")[0]["room"], "Caf\u{e9}");
    }
    process.wait_for_log("\"Caf\u{e9}\"");
}
