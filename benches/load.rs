//! Measures the capacity of one core: the server process pinned to it, real sockets, live receivers.
//!
//! `cargo bench --bench load` measures the shapes of docs/performance.md. Options after `--`: `--rooms 40 --size 8
//! --video-kbps 800` measures any other shape, to plan capacity; `--ramp rooms --size 4` finds the highest load that the
//! server holds; `--soak 600` lets participants join and leave, and reports growth. `--help` lists the rest.
//!
//! Each cost is printed with floors measured on the same machine in the same run, with packets of the same sizes to the
//! same live receivers: a bare `sendmsg` per packet without sealing and logic, and sealing plus segmented sends of 4 and
//! 8 packets.

#[path = "load/client.rs"]
mod client;
#[path = "load/counts.rs"]
mod counts;
#[path = "load/flags.rs"]
mod flags;
#[path = "load/floor.rs"]
mod floor;
#[path = "load/generator.rs"]
mod generator;
#[path = "load/picture.rs"]
mod picture;
#[path = "load/process.rs"]
mod process;
#[path = "load/ramp.rs"]
mod ramp;
#[path = "load/report.rs"]
mod report;
#[path = "load/shape.rs"]
mod shape;
#[path = "load/soak.rs"]
mod soak;
#[path = "load/socket.rs"]
mod socket;
#[path = "load/storm.rs"]
mod storm;
mod wire;

use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;

use flags::Flags;
use generator::Generator;
use process::Server;
use report::Row;
use shape::Shape;

/// How long media flows before the measurement.
const WARM_UP: Duration = Duration::from_secs(2);

/// Maximum cost of a packet, as a multiple of a bare send.
const MOST_BARE_SENDS: f64 = 1.0;

fn main() -> ExitCode {
    let flags = Flags::parse();
    process::prepare();
    if let Some(addr) = flags.addr
        && let Err(error) = TcpStream::connect(addr)
    {
        eprintln!("--addr {addr}: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(ramp) = flags.ramp {
        let found = ramp::climb(&flags, ramp, |shape| measure(&flags, shape, false));
        write_json(&flags, &[found]);
        return ExitCode::SUCCESS;
    }
    if let Some(seconds) = flags.soak {
        let found = soak::measure(server(&flags), Duration::from_secs(seconds));
        write_json(&flags, &[found]);
        return ExitCode::SUCCESS;
    }
    let shapes = flags.shapes();
    if shapes.is_empty() && !flags.storms() {
        eprintln!("--only {:?} names no shape", flags.only.unwrap_or_default());
        return ExitCode::from(2);
    }
    let mut rows = Vec::new();
    if !shapes.is_empty() {
        report::print_load_heading();
    }
    for shape in &shapes {
        let row = measure(&flags, shape, true);
        row.print_load();
        rows.push(row);
    }
    if rows.iter().any(|row| row.times_bare().is_some()) {
        report::print_cost_heading();
        rows.iter().for_each(Row::print_cost);
    }
    let mut figures: Vec<Value> = rows.iter().map(Row::to_json).collect();
    if flags.storms() {
        figures.push(storm::measure(server(&flags)));
    }
    write_json(&flags, &figures);
    if let Some(path) = &flags.svg {
        match picture::draw(&rows) {
            Some(picture) => write(path, &picture),
            None => eprintln!("--svg: no shape of one publisher was measured, so there is no picture"),
        }
    }
    if flags.check {
        return check(&rows);
    }
    ExitCode::SUCCESS
}

/// Checks the goals that do not depend on the machine's speed.
fn check(rows: &[Row]) -> ExitCode {
    let dear = rows.iter().filter(|row| row.times_bare().is_some_and(|times| times > MOST_BARE_SENDS));
    let dear: Vec<_> = dear.map(|row| row.shape.name.as_ref()).collect();
    let lossy = rows.iter().filter(|row| !row.is_held());
    let lossy: Vec<_> = lossy.map(|row| row.shape.name.as_ref()).collect();
    if !dear.is_empty() {
        eprintln!("A packet costs more than {MOST_BARE_SENDS} bare sends of it: {}", dear.join(", "));
    }
    if !lossy.is_empty() {
        eprintln!("Not held: {}", lossy.join(", "));
    }
    if dear.is_empty() && lossy.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(flags: &Flags, shape: &Shape, with_floors: bool) -> Row {
    let _turn = process::take_turn();
    let server = server(flags);
    let empty_kb = server.rss_kb();
    let begin = Instant::now();
    let mut generator = Generator::connect(&server, shape);
    let joined_s = begin.elapsed().as_secs_f64();
    generator.run(WARM_UP, &server);
    let measured = generator.run(flags.time(), &server);
    let grown_kb = empty_kb.zip(server.rss_kb()).map(|(empty, full)| full as f64 - empty as f64);
    assert!(measured.arrived + measured.lines.count() > 0, "something was forwarded");
    let run_length = server.stop();
    let floors = (with_floors && measured.arrived > 0 && measured.spent.server.is_some()).then(|| {
        let receivers = generator.receivers();
        generator.while_receiving(|| floor::measure(receivers, shape, flags.floor_time()))
    });
    Row {
        shape: shape.clone(),
        measured,
        joined_s,
        kb_each: grown_kb.map(|kb| kb / shape.people() as f64),
        run_length,
        floors,
    }
}

fn server(flags: &Flags) -> Server {
    flags.addr.map_or_else(Server::start, |addr| Server::at(addr, flags.pid))
}

fn write_json(flags: &Flags, figures: &[Value]) {
    if let Some(path) = &flags.json {
        write(path, &serde_json::to_string_pretty(figures).expect("numbers and names"));
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        eprintln!("{}: {error}", path.display());
        std::process::exit(1);
    }
}
