//! A soak test: repeated joins, calls and leaves, and the growth they cause in the server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::generator::Generator;
use super::process::Server;
use super::shape::Shape;

/// Rooms in one round: with media, and without.
const ROOMS: usize = 6;
const IDLE_ROOMS: usize = 2;

/// How long a round's calls last.
const CALL: Duration = Duration::from_secs(2);

/// Time limit for the server to notice that all participants have left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Growth is measured from the second window of this length to the last. Medians are compared, because allocators return
/// memory at irregular times.
const WINDOW: Duration = Duration::from_secs(60);

/// Interval of printed lines.
const LINE: Duration = Duration::from_secs(10);

/// Resources of the server after a round, when it is empty.
struct Held {
    rss_kb: u64,
    files: u64,
    /// Sum of all `sizes` in `/health`.
    entries: u64,
}

/// Lets participants join and leave for `time`, and reports growth.
pub fn measure(server: Server, time: Duration) -> Value {
    let (begin, mut joins, mut next_line) = (Instant::now(), 0, LINE);
    let mut rounds: Vec<(Duration, usize, Held)> = Vec::new();
    println!("{:>7} {:>8} {:>10} {:>6} {:>8}", "time s", "joins", "memory KB", "files", "entries");
    while begin.elapsed() < time {
        for shape in [Shape::conferences("soak", ROOMS, 4), Shape::idle("soak", IDLE_ROOMS)] {
            let mut generator = Generator::connect(&server, &shape);
            let measured = generator.run(CALL, &server);
            // Other programs may run meanwhile, so the bound is lenient: the other shapes measure delivery.
            assert!(measured.delivery() > 0.9, "delivery was {}", measured.delivery());
            joins += shape.people();
        }
        let (elapsed, held) = (begin.elapsed(), empty(&server));
        if elapsed >= next_line {
            next_line = elapsed + LINE;
            let Held { rss_kb, files, entries } = held;
            println!("{:>7.0} {joins:>8} {rss_kb:>10} {files:>6} {entries:>8}", elapsed.as_secs_f64());
        }
        rounds.push((elapsed, joins, held));
    }
    server.stop();
    // Compare the second minute with the last one; in a short run, a quarter of the time.
    let window = WINDOW.min(time / 4);
    let between = |from: Duration, to: Duration| {
        let within = rounds.iter().filter(|(elapsed, ..)| (from..=to).contains(elapsed)).collect::<Vec<_>>();
        assert!(!within.is_empty(), "a round is shorter than a window");
        let median = |of: fn(&Held) -> u64| {
            let mut all: Vec<u64> = within.iter().map(|(.., held)| of(held)).collect();
            all.sort_unstable();
            all[all.len() / 2] as i64
        };
        let joins = within[0].1;
        (joins, median(|held| held.rss_kb), median(|held| held.files), median(|held| held.entries))
    };
    let last = rounds.last().expect("at least one round").0;
    let (joins_before, memory, files, entries) = between(window, window * 2);
    let (joins_after, memory_after, files_after, entries_after) = between(last - window, last);
    let grown = memory_after - memory;
    let (percent, joined) = (grown as f64 / memory as f64 * 100.0, joins_after - joins_before);
    let (files, entries) = (files_after - files, entries_after - entries);
    println!(
        "Grown from the second minute to the last, in {joined} joins: memory {grown} KB ({percent:.2} %, {:.0} KB per 1,000 \
         joins), files {files}, entries {entries}.",
        grown as f64 * 1_000.0 / joined.max(1) as f64,
    );
    json!({
        "shape": "soak", "seconds": last.as_secs(), "joins": joins, "memory_grown_kb": grown,
        "memory_grown_percent": percent, "files_grown": files, "entries_grown": entries,
    })
}

/// Waits until all participants have left, and reads the server's resources.
fn empty(server: &Server) -> Held {
    let begin = Instant::now();
    loop {
        let health = health(server);
        if health["participants"] == 0 && health["sizes"]["conns"] == 1 {
            let sizes = health["sizes"].as_object().expect("an object").values();
            return Held {
                rss_kb: server.rss_kb().expect("it runs here"),
                files: server.files() as u64,
                entries: sizes.map(|size| size.as_u64().expect("a number")).sum(),
            };
        }
        assert!(begin.elapsed() < PATIENCE, "all participants have left, but health reports {health}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn health(server: &Server) -> Value {
    let mut tcp = TcpStream::connect(server.addr).expect("the server listens");
    tcp.write_all(b"GET /aq_server/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).expect("it answers");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str(body).expect("JSON")
}
