//! Invalid HTTP requests: oversized, malformed or too many.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::wire::Wire;
use crate::{MAX_CONNS, Tally, Target};

/// Time limit for connections above the limit to be closed.
const SOON: Duration = Duration::from_secs(4);

const HOST: &str = "Host: localhost\r\n";

/// Connections with the same request at a time, because the server waits half a second for a refusal to be read.
const AT_ONCE: usize = 10;

/// Sends each request repeatedly, each time on its own connection, and checks that there is one response with one of the
/// expected statuses, then the end.
fn refused(target: &Target, table: &[(Vec<u8>, &[&str])]) -> Tally {
    let (begin, mut tally) = (Instant::now(), Tally::default());
    while begin.elapsed() < target.time {
        let all = || table.iter().cycle().take(AT_ONCE * table.len());
        let send = |(bytes, _): &(Vec<u8>, _)| {
            let mut wire = Wire::plain(target.process.addr());
            // The server may already have refused the first part.
            let _ = wire.write_all(bytes);
            wire
        };
        let wires: Vec<Wire> = all().map(send).collect();
        for (mut wire, (bytes, expected)) in wires.into_iter().zip(all()) {
            let mut answer = Vec::new();
            let _ = wire.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            let mut statuses = answer.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3));
            let what = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            let status = statuses.next().unwrap_or("none");
            assert!(expected.contains(&status), "{status} for {what:?}: {answer:?}");
            assert_eq!(statuses.next(), None, "two answers to {what:?}");
            tally.sent += 1;
            tally.answered += 1;
        }
    }
    tally
}

/// H1
pub fn oversized_heads(target: &Target) -> Tally {
    let get = "GET /aq_server/ HTTP/1.1\r\n";
    let fields: String = (0..1_000).map(|field| format!("X-{field}: y\r\n")).collect();
    refused(
        target,
        &[
            (format!("{get}{HOST}{fields}\r\n").into_bytes(), &["400", "431"]),
            (format!("{get}{HOST}X: {}", "y".repeat(64 << 10)).into_bytes(), &["431"]),
            (format!("GET /{}", "y".repeat(64 << 10)).into_bytes(), &["414", "431"]),
        ],
    )
}

/// H3
pub fn smuggling(target: &Target) -> Tally {
    let second = "GET /aq_server/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let fields = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 90\r\n",
        "Content-Length: 5, 90\r\n",
        "Content-Length: +90\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
    ];
    let heads = |method: &str, statuses| {
        let head = format!("{method} /aq_server/ HTTP/1.1\r\n{HOST}");
        fields.map(|fields| (format!("{head}{fields}\r\n0\r\n\r\n{second}").into_bytes(), statuses))
    };
    let (get, post) = (heads("GET", &["400"][..]), heads("POST", &["400", "405"][..]));
    refused(target, &[get, post].concat())
}

/// H4
pub fn odd_requests(target: &Target) -> Tally {
    let heads: [(String, &[&str]); 8] = [
        (format!("POST /aq_server/ HTTP/1.1\r\n{HOST}\r\n"), &["405"]),
        (format!("CONNECT a:1 HTTP/1.1\r\n{HOST}\r\n"), &["400", "405"]),
        (format!("GET /aq_server/ HTTP/2.0\r\n{HOST}\r\n"), &["505"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &["400", "405", "505"]),
        ("GET /aq_server/ HTTP/1.1\r\n\r\n".to_owned(), &["400"]),
        (format!("GET /aq_server/ HTTP/1.1\r\n{HOST}{HOST}\r\n"), &["400"]),
        // RFC 8446 section 5.1: a record with a handshake in it.
        ("\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\u{3}".to_owned(), &["400"]),
        ("\0\0\0\0\r\n\r\n".to_owned(), &["400"]),
    ];
    refused(target, &heads.map(|(head, statuses)| (head.into_bytes(), statuses)))
}

/// H5
pub fn traversal(target: &Target) -> Tally {
    let paths = [
        "/aq_server/../Cargo.toml",
        "/aq_server/%2e%2e/%2e%2e/etc/passwd",
        "/aq_server/..%2f..%2fetc%2fpasswd",
        "/aq_server/..\\Cargo.toml",
        "/aq_server//etc/passwd",
        "/aq_serverindex.html",
        "/aq_server/index.html%00.js",
        "/aq_server/%ff",
    ];
    let heads = paths.map(|path| {
        (format!("GET {path} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n").into_bytes(), &["400", "404"][..])
    });
    refused(target, &heads)
}

/// H6
pub fn many_conns(target: &Target) -> Tally {
    let more = 200;
    let mut conns: Vec<TcpStream> =
        (0..MAX_CONNS + more).filter_map(|_| TcpStream::connect(target.process.addr()).ok()).collect();
    for conn in &conns {
        conn.set_nonblocking(true).expect("a socket");
    }
    let (begin, mut refused) = (Instant::now(), 0);
    // The other connections are closed later because they send nothing.
    while refused < more as u64 && begin.elapsed() < SOON {
        refused = conns.iter_mut().map(|conn| u64::from(matches!(conn.read(&mut [0]), Ok(0)))).sum();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(refused >= more as u64, "{refused} of {} were refused", conns.len());
    Tally { sent: conns.len() as u64, answered: refused }
}
