//! Measures the cost of a forwarded packet without system calls: the server runs without I/O, with real SRTP.
//!
//! `cargo bench --bench forward` prints nanoseconds and allocations per forwarded packet, and instructions if valgrind
//! is installed. Options after `--`: `--quick` (fewer frames), `--json FILE`, and `--check`, which fails if the number of
//! instructions exceeds that in `benches/instructions.json` by more than 3 %.

mod wire;
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use world::{AT_WORK, FRAME_PACKETS, IDLE, World};

/// Frames before counting begins: the first starts every subscription with a keyframe, the others let buffers grow to
/// their final size.
const WARM_UP: usize = 40;

/// The same with bandwidth estimation: until the estimate is high enough for one video, and for several.
const WARM_UP_ESTIMATED: [usize; 2] = [60, 150];

/// Time between two frames of a publisher.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);

/// Frames whose instructions are counted: one second, in which most clients send one report.
const COUNTED: usize = 30;

/// Largest increase of instructions that CI accepts.
const TOLERANCE: f64 = 0.03;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all calls are passed on to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if AT_WORK.load(Ordering::Relaxed) != IDLE {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A shape of load.
struct Shape {
    name: &'static str,
    rooms: usize,
    publishers: usize,
    watchers: usize,
    /// Whether receivers send transport-wide feedback, so that the server estimates their bandwidth.
    estimated: bool,
}

const SHAPES: &[Shape] = &[
    Shape { name: "1 x 10", rooms: 1, publishers: 1, watchers: 10, estimated: false },
    Shape { name: "1 x 100", rooms: 1, publishers: 1, watchers: 100, estimated: false },
    Shape { name: "1 x 500", rooms: 1, publishers: 1, watchers: 500, estimated: false },
    Shape { name: "8 x 8", rooms: 1, publishers: 8, watchers: 0, estimated: false },
    Shape { name: "25 rooms of 4", rooms: 25, publishers: 4, watchers: 0, estimated: false },
    Shape { name: "1 x 10 estimated", rooms: 1, publishers: 1, watchers: 10, estimated: true },
    Shape { name: "1 x 100 estimated", rooms: 1, publishers: 1, watchers: 100, estimated: true },
    Shape { name: "1 x 500 estimated", rooms: 1, publishers: 1, watchers: 500, estimated: true },
    Shape { name: "8 x 8 estimated", rooms: 1, publishers: 8, watchers: 0, estimated: true },
    Shape { name: "25 rooms of 4 estimated", rooms: 25, publishers: 4, watchers: 0, estimated: true },
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
    let frames = if has("--quick") { 60 } else { 300 };
    if let Some(name) = value("--only") {
        // This is the run under valgrind, which does the counting.
        let shape = SHAPES.iter().find(|shape| shape.name == name).expect("a shape of this bench");
        run(shape, COUNTED);
        return;
    }
    println!("{:<16} {:>10} {:>8} {:>12} {:>13}", "for each packet", "forwarded", "ns", "allocations", "instructions");
    let counts = count();
    let mut rows = Vec::new();
    for (shape, instructions) in SHAPES.iter().zip(counts) {
        let (forwarded, nanos, allocations) = run(shape, frames);
        let shown = instructions.map_or_else(|| "no valgrind".to_owned(), |count| format!("{count:.0}"));
        println!("{:<16} {forwarded:>10} {nanos:>8.0} {allocations:>12.2} {shown:>13}", shape.name);
        rows.push(json!({
            "shape": shape.name, "forwarded": forwarded, "ns": nanos, "allocations": allocations,
            "instructions": instructions,
        }));
    }
    if let Some(file) = value("--json") {
        let text = serde_json::to_string_pretty(&rows).expect("numbers and names");
        std::fs::write(file, text).unwrap_or_else(|error| panic!("--json {file}: {error}"));
    }
    if has("--check") {
        check(&rows);
    }
}

/// Returns the number of forwarded packets, and nanoseconds and allocations per packet.
fn run(shape: &Shape, frames: usize) -> (u64, f64, f64) {
    let mut world = World::new();
    let mut sending = Vec::new();
    for room in 0..shape.rooms {
        for _ in 0..shape.publishers {
            sending.push(world.join(&format!("r{room}"), true, true, shape.estimated));
        }
        for _ in 0..shape.watchers {
            world.join(&format!("r{room}"), false, true, shape.estimated);
        }
    }
    world.run(Duration::from_secs(2));
    let warm_up = match shape.estimated {
        true => WARM_UP_ESTIMATED[usize::from(shape.publishers > 1)],
        false => WARM_UP,
    };
    let spacing = FRAME_INTERVAL / sending.len() as u32;
    for turn in 0..warm_up + frames {
        if turn == warm_up {
            for client in &mut world.clients {
                (client.arrived, client.decrypted) = (0, 0);
            }
            (world.spent, world.is_measured) = (Duration::ZERO, true);
            ALLOCATIONS.store(0, Ordering::Relaxed);
        }
        for publisher in &sending {
            // This includes all timers: reports, feedback, pacing, probes.
            world.run(spacing);
            let batch = world.frame(*publisher, turn == 0);
            world.serve(&batch);
            world.deliver();
        }
    }
    let receivers = shape.publishers + shape.watchers - 1;
    let expected = (frames * FRAME_PACKETS * sending.len() * receivers) as u64;
    let nanos = world.spent.as_nanos() as f64 / expected as f64;
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) as f64 / expected as f64;
    world.is_measured = false;
    if shape.estimated {
        // The pacer may still hold the last packets.
        world.run(Duration::from_millis(200));
    }
    let arrived: u64 = world.clients.iter().map(|client| client.arrived).sum();
    let decrypted: u64 = world.clients.iter().map(|client| client.decrypted).sum();
    // With bandwidth estimation, some packets are retransmitted, and the pacer held some packets of the warm-up.
    let is_complete = if shape.estimated { decrypted >= expected } else { arrived == expected };
    assert!(is_complete, "everything arrived: {arrived} and {decrypted} of {expected}");
    for client in world.clients.iter().filter(|_| !shape.estimated) {
        assert_eq!(client.decrypted, client.arrived, "every packet can be decrypted");
    }
    (expected, nanos, allocations)
}

/// Counts instructions per forwarded packet for all shapes, on all cores at once: unlike times, counts are not disturbed
/// by other work.
fn count() -> Vec<Option<f64>> {
    let counts = Mutex::new(vec![None; SHAPES.len()]);
    let next = AtomicUsize::new(0);
    let worker = || {
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(shape) = SHAPES.get(index)
        {
            let count = instructions(shape);
            counts.lock().expect("no thread panicked")[index] = count;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    counts.into_inner().expect("no thread panicked")
}

/// Counts instructions per forwarded packet by running this program again under valgrind.
fn instructions(shape: &Shape) -> Option<f64> {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*_counted*"])
        .arg("--callgrind-out-file=/dev/null")
        .arg(program)
        .args(["--only", shape.name])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the bench runs under valgrind: {text}");
    let collected = text.lines().find_map(|line| line.split("Collected :").nth(1)).expect("callgrind's total");
    let total: f64 = collected.trim().parse().expect("a number");
    let receivers = shape.publishers + shape.watchers - 1;
    Some(total / (COUNTED * FRAME_PACKETS * shape.rooms * shape.publishers * receivers) as f64)
}

/// Compares instructions with the committed figures.
fn check(rows: &[Value]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let committed: Value = serde_json::from_str(&text).expect("JSON");
    let mut grown = Vec::new();
    for row in rows {
        let name = row["shape"].as_str().expect("a name");
        let (Some(now), Some(then)) = (row["instructions"].as_f64(), committed[name].as_f64()) else {
            panic!("{name}: no figure; --check needs valgrind and a figure in benches/instructions.json");
        };
        let change = now / then - 1.0;
        println!("{name}: {now:.0} instructions, committed {then:.0}, {:+.1} %", change * 100.0);
        assert!(change > -0.3, "{name}: so few instructions are a fault of the count, or a reason to commit them");
        if change > TOLERANCE {
            grown.push(name);
        }
    }
    assert!(grown.is_empty(), "a forwarded packet costs more instructions than committed: {grown:?}");
}
