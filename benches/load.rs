//! What one core carries: the real process pinned to one core, real sockets, live receivers.
//!
//! `cargo bench --bench load` measures the shapes that the README shows; `-- --rooms 40 --size 8 --video-kbps 800
//! --seconds 10` any other, to plan capacity. Options: `--publishers N` (of each room; the others only watch),
//! `--audio` (50 packets a second from each publisher), `--json FILE`, `--quick`.
//!
//! Beside each figure stand two floors of the same machine in the same run: sealing the same bytes and sending them
//! in segmented runs of 4 and 8, and a bare `sendto` for each packet without any sealing or logic, both to the
//! same live receivers.

#[path = "load/floor.rs"]
mod floor;
#[path = "load/generator.rs"]
mod generator;
#[path = "load/process.rs"]
mod process;
mod wire;

use std::time::Duration;

use generator::{Generator, Measured, Shape};
use process::Server;
use serde_json::json;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let number = |name: &str, default: usize| {
        value(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text}")))
    };
    let quick = has("--quick");
    let seconds = Duration::from_secs(number("--seconds", if quick { 3 } else { 10 }) as u64);
    let custom = has("--rooms") || has("--size");
    let shape = |name: &'static str, rooms, size, publishers, video_kbps, audio| Shape {
        name,
        rooms,
        size,
        publishers,
        video_kbps,
        audio,
    };
    let shapes = if custom {
        let size = number("--size", 4);
        let publishers = number("--publishers", size);
        vec![shape("custom", number("--rooms", 1), size, publishers, number("--video-kbps", 1_000), has("--audio"))]
    } else if quick {
        vec![shape("1 x 100", 1, 101, 1, 1_000, false), shape("conference of 8", 1, 8, 8, 1_000, true)]
    } else {
        vec![
            shape("1 x 10", 1, 11, 1, 1_000, false),
            shape("1 x 100", 1, 101, 1, 1_000, false),
            shape("1 x 500", 1, 501, 1, 1_000, false),
            shape("1 x 1000", 1, 1_001, 1, 1_000, false),
            shape("conference of 16", 1, 16, 16, 1_000, true),
            shape("25 rooms of 4", 25, 4, 4, 1_000, true),
            shape("100 rooms of 4", 100, 4, 4, 1_000, true),
            shape("one room of 30", 1, 30, 30, 300, true),
        ]
    };
    println!(
        "{:<18} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7} {:>8} {:>9}",
        "shape",
        "pkt/s",
        "delivery",
        "cpu %",
        "us/pkt",
        "floor4",
        "floor8",
        "x fl4",
        "bare",
        "x bare",
        "p50 ms",
        "p99 ms",
        "p99.9",
        "run len",
        "KB/person"
    );
    let mut rows = Vec::new();
    for shape in shapes {
        let row = measure(&shape, seconds);
        rows.push(row);
    }
    if let Some(file) = value("--json") {
        let text = serde_json::to_string_pretty(&rows).expect("numbers and names");
        std::fs::write(file, text).unwrap_or_else(|error| panic!("--json {file}: {error}"));
    }
}

fn measure(shape: &Shape, seconds: Duration) -> serde_json::Value {
    let server = Server::start();
    let empty_kb = server.rss_kb();
    let mut generator = Generator::connect(&server, shape);
    generator.run(Duration::from_secs(2));
    generator.reset();
    let before = server.cpu();
    let Measured { sent, expected, arrived, delays_us, elapsed } = generator.run(seconds);
    let cpu = server.cpu() - before;
    let people = (shape.rooms * shape.size) as f64;
    let kb = (server.rss_kb() as f64 - empty_kb as f64) / people;
    generator.check();
    let receivers = generator.receivers();
    let runs = server.stop();
    let rate = arrived as f64 / elapsed.as_secs_f64();
    let floors = generator.while_receiving(|| floor::measure(&receivers, shape.size - 1, rate));
    let delivery = arrived as f64 / expected as f64;
    let us = cpu.as_secs_f64() * 1e6 / arrived as f64;
    let busy = cpu.as_secs_f64() / elapsed.as_secs_f64();
    let at = |share: f64| delays_us[((delays_us.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    assert!(sent > 0 && arrived > 0, "packets were forwarded");
    println!(
        "{:<18} {:>9.0} {:>8.3}% {:>7.1} {:>7.2} {:>7.2} {:>7.2} {:>6.2} {:>6.2} {:>6.2} {:>7.2} {:>7.2} {:>7.2} {:>8.2} {:>9.0}",
        shape.name,
        rate,
        delivery * 100.0,
        busy * 100.0,
        us,
        floors.runs_of_4,
        floors.runs_of_8,
        us / floors.runs_of_4,
        floors.bare,
        us / floors.bare,
        at(0.5),
        at(0.99),
        at(0.999),
        runs,
        kb,
    );
    json!({
        "shape": shape.name, "rooms": shape.rooms, "size": shape.size, "publishers": shape.publishers,
        "video_kbps": shape.video_kbps, "audio": shape.audio,
        "packets_per_s": rate, "delivery": delivery, "cpu": busy, "us_per_packet": us,
        "floor_4_us": floors.runs_of_4, "floor_8_us": floors.runs_of_8, "bare_us": floors.bare,
        "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "run_length": runs, "kb_per_participant": kb,
    })
}
