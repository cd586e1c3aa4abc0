//! The operator sends a notice to the participants of a room, or of all.

use serde_json::json;

use crate::client::{Client, run_until};
use crate::folder::Folder;
use crate::http::{Http, Response};
use crate::process::Process;

const TOKEN: &str = "an admin token of more than 32 bytes";
const TARGET: &str = "/aq_server/notice";

fn post(process: &Process, authorization: &str, body: &str) -> Response {
    let mut http = Http::connect(process.addr());
    let length = body.len();
    http.send(format!(
        "POST {TARGET} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    ));
    http.response(true)
}

#[test]
fn a_notice_reaches_the_participants_and_needs_the_admin_token() {
    let folder = Folder::new();
    let file = folder.write("token", TOKEN);
    let process = Process::start(&["--addr", "127.0.0.1:0", "--admin-token-file", file.to_str().unwrap()]);
    let mut ann = Client::join_on_loopback(&process, "Ann");
    let mut bob = Client::join_on_loopback(&process, "Bob");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    for wrong in ["", "Authorization: Bearer wrong\r\n"] {
        let refusal = post(&process, wrong, r#"{"message":"hi"}"#);
        assert_eq!(refusal.status, 401, "{wrong}");
        assert!(refusal.text().contains("--admin-token-file (ADMIN_TOKEN_FILE)"), "{}", refusal.text());
    }
    let long = format!(r#"{{"message":"{}"}}"#, "a".repeat(5_000));
    for (status, body) in [
        (400, ""),
        (400, "{}"),
        (400, r#"{"message":" "}"#),
        (400, r#"{"message":"hi","rooms":"weekly"}"#),
        (400, &long),
        (404, r#"{"message":"hi","room":"weekly"}"#),
    ] {
        let refusal = post(&process, &bearer, body);
        assert_eq!(refusal.status, status, "{body}: {}", refusal.text());
    }
    let text = "<b>The server restarts at 18:00.</b>";
    for room in [None, Some("default")] {
        let sent = post(&process, &bearer, &json!({"message": text, "room": room}).to_string());
        assert_eq!((sent.status, sent.json()), (200, json!({"participants": 2})));
    }
    run_until(&mut [&mut ann, &mut bob], "two notices", |clients| {
        clients.iter().all(|client| client.events("notice").len() == 2)
    });
    for client in [&ann, &bob] {
        assert_eq!(client.events("notice")[0]["message"], text, "text, as it was sent");
    }
}

#[test]
fn a_server_without_an_admin_token_sends_no_notices() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    assert_eq!(post(&process, "Authorization: Bearer \r\n", r#"{"message":"hi"}"#).status, 401);
    let get = Http::connect(process.addr()).get(TARGET);
    assert_eq!(get.status, 405);
}
