//! HTTP: the page and its files, other routes, and invalid requests.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use flate2::read::GzDecoder;
use serde_json::json;

use crate::files::files_below;
use crate::folder::Folder;
use crate::http::{Http, Response, get};
use crate::process::{DEADLINE, Process};

fn start() -> Process {
    Process::start(&["--addr", "127.0.0.1:0"])
}

/// Checks the security headers that every response has.
fn check_security(response: &Response) {
    let policy = response.header("content-security-policy").expect("a policy");
    for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|found| found == part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.header("referrer-policy"), Some("no-referrer"));
}

#[test]
fn the_root_redirects_to_the_page() {
    let process = start();
    for path in ["/", "/aq_server"] {
        let response = get(process.addr(), path);
        assert_eq!((response.status, response.header("location")), (308, Some("/aq_server/")), "{path}");
        check_security(&response);
    }
}

/// The paths of all files below a folder, relative to it.
fn names_below(root: &Path) -> Vec<String> {
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    files_below(root).iter().map(name).collect()
}

/// Whether this is the file: each line as it is, or empty instead of a comment.
fn is_file(body: &[u8], file: &[u8], name: &str) -> bool {
    if !name.ends_with(".js") && !name.ends_with(".css") {
        return body == file;
    }
    let [body, file] = [body, file].map(|text| str::from_utf8(text).expect("UTF-8"));
    let mut is_comment = false;
    let is_line = |(sent, line): (&str, &str)| {
        let line_start = line.trim_start();
        is_comment = line_start.starts_with("//") || line_start.starts_with("/*") || (is_comment && !line.is_empty());
        sent == line || (sent.is_empty() && is_comment)
    };
    body.lines().count() == file.lines().count() && body.lines().zip(file.lines()).all(is_line)
}

#[test]
fn every_file_of_the_page_is_served() {
    let process = start();
    let mut http = Http::connect(process.addr());
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let mut names = names_below(&www);
    assert!(names.len() > 20 && names.iter().any(|name| name.contains('/')), "{names:?}");
    names.push(String::new());
    for name in names {
        let path = format!("/aq_server/{name}");
        let file = fs::read(www.join(if name.is_empty() { "index.html" } else { &name })).unwrap();
        let response = http.get(&path);
        assert_eq!(response.status, 200, "{path}");
        assert!(is_file(&response.body, &file, &name), "{path} differs from the file");
        let expected = match name.rsplit_once('.').map_or("html", |(_, extension)| extension) {
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "webmanifest" => "application/manifest+json",
            other => panic!("no content type for {other}"),
        };
        assert_eq!(response.header("content-type"), Some(expected), "{path}");
        check_security(&response);

        let etag = format!("If-None-Match: {}", response.header("etag").expect("an ETag"));
        let again = http.request("GET", &path, &[&etag]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        check_security(&again);
        let changed = http.request("GET", &path, &["If-None-Match: \"other\""]);
        assert_eq!((changed.status, changed.body.len()), (200, response.body.len()), "{path}");
        let head = http.request("HEAD", &path, &[]);
        assert_eq!(head.header("content-length"), Some(response.body.len().to_string().as_str()), "{path}");
        assert_eq!(head.header("content-encoding"), None, "{path}");
    }
}

#[test]
fn files_are_compressed_for_clients_that_accept_it() {
    let process = start();
    let mut http = Http::connect(process.addr());
    let www = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let accept = "Accept-Encoding: gzip, deflate, br, zstd";
    let mut compressed = 0;
    for name in names_below(&www) {
        let path = format!("/aq_server/{name}");
        let file = fs::read(www.join(&name)).unwrap();
        let response = http.request("GET", &path, &[accept]);
        assert_eq!(response.status, 200, "{path}");
        let head = http.request("HEAD", &path, &[accept]);
        assert_eq!(head.headers, response.headers, "{path}");
        if response.header("content-encoding").is_none() {
            assert!(is_file(&response.body, &file, &name) && response.body.len() < 1_000, "{path} is not compressed");
            continue;
        }
        compressed += 1;
        assert_eq!(response.header("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(response.header("vary"), Some("Accept-Encoding"), "{path}");
        assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()), "{path}");
        let mut plain = Vec::new();
        GzDecoder::new(&*response.body).read_to_end(&mut plain).expect("valid gzip");
        assert!(is_file(&plain, &file, &name), "{path} differs from the file");
        check_security(&response);

        let etag = response.header("etag").expect("an ETag");
        assert_ne!(Some(etag), http.get(&path).header("etag"), "{path}");
        let again = http.request("GET", &path, &[accept, &format!("If-None-Match: {etag}")]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!((again.header("vary"), again.header("etag")), (Some("Accept-Encoding"), Some(etag)), "{path}");
    }
    assert!(compressed > 30, "only {compressed} files are compressed");
    // Responses with secrets are never compressed: their length would depend on them.
    let health = http.request("GET", "/aq_server/health", &[accept]);
    assert_eq!((health.header("content-encoding"), health.header("vary")), (None, None));
    assert_eq!(health.json()["status"], "ok");
}

#[test]
fn nothing_else_is_served() {
    let process = start();
    for (target, expected) in [
        ("/nothing", 404),
        ("/aq_server/nothing", 404),
        ("/aq_server/index.html/", 404),
        ("/aq_serverindex.html", 404),
        ("/index.html", 404),
        ("/aq_server/../Cargo.toml", 404),
        ("/aq_server/../../../../../../../etc/passwd", 404),
        ("/aq_server/%2e%2e/Cargo.toml", 404),
        ("/aq_server/..%2fCargo.toml", 404),
        ("/aq_server/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
        ("/aq_server//etc/passwd", 404),
        ("//etc/passwd", 404),
        ("/aq_server//index.html", 404),
        ("/aq_server/./index.html", 404),
        ("/aq_server/index.html%00", 404),
        ("/aq_server/index.html%00.js", 404),
        ("/aq_server/%ff", 400),
        ("/aq_server/%zz", 400),
        ("/aq_server/..\\Cargo.toml", 404),
        ("*", 400),
        ("aq_server/", 400),
    ] {
        let response = get(process.addr(), target);
        assert_eq!(response.status, expected, "{target}");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"), "{target}");
        let text = response.text();
        assert!(text.lines().count() == 1 && !text.contains("aq") && !text.contains("root"), "{target}: {text}");
        check_security(&response);
    }
}

#[test]
fn an_invalid_request_gets_an_error_text_and_is_closed() {
    let process = start();
    let host = "Host: localhost\r\n";
    for (head, expected) in [
        (format!("GET /aq_server/\0 HTTP/1.1\r\n{host}\r\n"), 400),
        ("GET /aq_server/ HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET /aq_server/ HTTP/2.0\r\n{host}\r\n"), 505),
        (format!("POST /aq_server/ HTTP/1.1\r\n{host}\r\n"), 405),
        (format!("GET /aq_server/ HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello"), 400),
        (format!("GET /aq_server/ HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (format!("POST /aq_server/ HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (format!("POST /aq_server/ HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n{host}\r\n"), 405),
        (format!("PUT /aq_server/ HTTP/1.1\r\n{host}Content-Length: 65537\r\n\r\n{}", "x".repeat(65_537)), 413),
        (format!("PUT /aq_server/ HTTP/1.1\r\n{host}Content-Length: 5\r\nExpect: x\r\n\r\n"), 417),
        (format!("GET /aq_server/ HTTP/1.1\r\n{host}Cookie: {}\r\n\r\n", "x".repeat(20_000)), 431),
        // RFC 8446 section 5.1: a record with a handshake in it.
        ("\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\u{3}".to_owned(), 400),
    ] {
        let mut http = Http::connect(process.addr());
        http.send(&head);
        let response = http.response(true);
        assert_eq!(response.status, expected, "{head:?}");
        assert_eq!(response.header("connection"), Some("close"), "{head:?}");
        assert!(!response.text().trim().is_empty(), "{head:?}");
        if head.starts_with('\u{16}') {
            assert!(response.text().contains("TLS") && response.text().contains("http://"), "{}", response.text());
        }
        check_security(&response);
        assert!(http.rest().is_empty(), "{head:?}");
    }
}

#[test]
fn an_address_says_which_methods_it_allows() {
    let process = start();
    let mut http = Http::connect(process.addr());
    for target in ["*", "/", "/aq_server/", "/aq_server/health"] {
        let options = http.request("OPTIONS", target, &[]);
        assert_eq!((options.status, options.header("allow")), (200, Some("GET, HEAD, OPTIONS")), "{target}");
        check_security(&options);
    }
    assert_eq!(http.request("OPTIONS", "/other", &[]).status, 404);
    // No status 100: the client need not send the body.
    let fields = ["Content-Length: 5", "Content-Type: text/plain", "Expect: 100-continue"];
    let post = http.request("POST", "/aq_server/health", &fields);
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(post.header("connection"), Some("close"));
    assert!(http.rest().is_empty());
}

#[test]
fn health_and_check_answer_json() {
    let process = start();
    let health = get(process.addr(), "/aq_server/health");
    assert_eq!(health.status, 200);
    assert_eq!(health.header("cache-control"), Some("no-store"));
    let health = health.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&health["rooms"], &health["participants"]), (&json!(0), &json!(0)));
    assert!(health["uptime_s"].is_u64() && health["load_percent"].is_u64());
    assert_eq!(health["shed"], "nothing");
    // The connection of this request may have a timer.
    assert!(health["sizes"]["timers"].is_u64());
    for (name, expected) in [("conns", 1), ("resumes", 0), ("addresses", 0), ("ufrags", 0)] {
        assert_eq!(health["sizes"][name], expected, "{name}");
    }

    let check = get(process.addr(), "/aq_server/check?room=one&name=Ann");
    assert_eq!((check.status, check.json()), (200, json!({"ok": true, "participants": 0, "waiting": false})));
    let bad = get(process.addr(), &format!("/aq_server/check?room={}", "x".repeat(129)));
    assert_eq!((bad.status, &bad.json()["code"]), (400, &json!("bad-room")));
    let upgrade = get(process.addr(), "/aq_server/websocket");
    assert_eq!((upgrade.status, upgrade.header("upgrade")), (426, Some("websocket")));
}

#[test]
fn a_connection_serves_many_requests() {
    let process = start();
    let mut http = Http::connect(process.addr());
    for number in 0..20 {
        let response = http.get(if number % 2 == 0 { "/aq_server/" } else { "/aq_server/nothing" });
        assert_eq!(response.status, if number % 2 == 0 { 200 } else { 404 });
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    // Two pipelined requests are answered in order.
    let head = |path: &str| format!("GET /aq_server/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http.send(head("health") + &head("nothing"));
    assert_eq!((http.response(true).status, http.response(true).status), (200, 404));
    let last = http.request("GET", "/aq_server/health", &["Connection: close"]);
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(http.rest().is_empty());
}

#[test]
fn keep_alive_ends_before_the_connection_limit_is_reached() {
    // Loopback is no trusted proxy here, so that the limit applies to it.
    let per_addr = ["--trusted-proxies", "192.0.2.1", "--max-conns-per-addr", "4"];
    for limit in [&per_addr[..], &["--max-conns", "4"]] {
        let process = Process::start(&[&["--addr", "127.0.0.1:0"], limit].concat());
        let mut idle: Vec<_> = (0..2).map(|_| Http::connect(process.addr())).collect();
        for http in &mut idle {
            assert_eq!(http.get("/aq_server/").header("connection"), Some("keep-alive"));
        }
        for _ in 0..20 {
            let mut http = Http::connect(process.addr());
            assert_eq!(http.get("/aq_server/").header("connection"), Some("close"));
            assert!(http.rest().is_empty());
        }
        idle.extend((0..2).map(|_| Http::connect(process.addr())));
        assert!(Http::connect(process.addr()).rest().is_empty());
        process.wait_for_log(&format!("connections; raise {}", limit[limit.len() - 2]));
    }
}

#[test]
fn a_folder_is_served_with_later_changes_and_nothing_outside_it() {
    let outside = Folder::new();
    let secret = outside.write("secret.txt", "secret");
    let www = Folder::new();
    www.write("index.html", "first");
    www.write("old.js", "old");
    fs::create_dir(www.path().join("sub")).unwrap();
    www.write("sub/deep.css", "deep");
    std::os::unix::fs::symlink(&secret, www.path().join("link.txt")).unwrap();
    std::os::unix::fs::symlink(outside.path(), www.path().join("folder")).unwrap();

    let process = Process::start(&["--addr", "127.0.0.1:0", "--www", www.arg()]);
    let mut http = Http::connect(process.addr());
    let first = http.get("/aq_server/");
    assert_eq!(first.text(), "first");
    assert_eq!(http.get("/aq_server/sub/deep.css").text(), "deep");
    assert_eq!(http.get("/aq_server/app.js").status, 404, "the embedded page is not served");
    for path in ["link.txt", "folder/secret.txt", "sub/../../secret.txt"] {
        assert_eq!(http.get(&format!("/aq_server/{path}")).status, 404, "{path}");
    }

    www.write("index.html", "second");
    www.write("new.js", "new");
    fs::remove_file(www.path().join("old.js")).unwrap();
    let changed = Instant::now();
    let second = loop {
        let response = http.get("/aq_server/");
        if response.text() != "first" {
            break response;
        }
        assert!(changed.elapsed() < DEADLINE, "the change is not served");
        // Leaves the CPU to the server between two requests.
        thread::sleep(Duration::from_millis(10));
    };
    assert!(changed.elapsed() < Duration::from_secs(2), "{:?}", changed.elapsed());
    assert_eq!(second.text(), "second");
    assert_ne!(second.header("etag"), first.header("etag"));
    assert_eq!(http.get("/aq_server/new.js").text(), "new");
    assert_eq!(http.get("/aq_server/old.js").status, 404);
}

#[test]
fn a_slow_head_is_cut_off() {
    let process = start();
    let mut slow = Http::connect(process.addr());
    let mut silent = Http::connect(process.addr());
    let begun = Instant::now();
    slow.send("GET /aq_server/ HTTP/1.1\r\n");
    slow.wire.set_patience(Duration::from_secs(1));
    // Sending single bytes does not extend the time limit.
    let mut sent = 0;
    let answer = loop {
        let mut byte = [0; 1];
        match std::io::Read::read(&mut slow.wire, &mut byte) {
            Ok(read) => break (read, byte),
            Err(_) => sent += slow.wire.write(b"X").expect("the server still listens"),
        }
        assert!(begun.elapsed() < DEADLINE, "not cut off");
    };
    let took = begun.elapsed();
    assert!(sent >= 3 && took > Duration::from_secs(4) && took < Duration::from_secs(7), "{sent} bytes, {took:?}");
    assert_eq!(answer, (1, *b"H"), "the response says why");
    slow.wire.set_patience(DEADLINE);
    assert!(slow.rest().starts_with(b"TTP/1.1 408 "));
    assert!(silent.rest().is_empty(), "a connection without a request gets no response");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
