//! What a forwarded packet costs without system calls: the server in memory, with real SRTP.
//!
//! `cargo bench --bench forward` prints nanoseconds and allocations for each forwarded packet, and instructions
//! where valgrind is installed. `-- --quick` takes fewer frames.

mod wire;
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use world::{FRAME_PACKETS, World};

struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Ordering::Relaxed) {
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

/// Rooms, publishers in each, subscribers beside them in each.
const SHAPES: &[(&str, usize, usize, usize)] = &[
    ("1 x 10", 1, 1, 10),
    ("1 x 100", 1, 1, 100),
    ("1 x 500", 1, 1, 500),
    ("8 x 8", 1, 8, 0),
    ("25 rooms of 4", 25, 4, 0),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let only = args.iter().skip_while(|arg| *arg != "--only").nth(1);
    let frames = if quick { 30 } else { 200 };
    println!("{:<16} {:>12} {:>8} {:>12}", "shape", "forwarded", "ns", "allocations");
    for (name, rooms, publishers, subscribers) in SHAPES {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let mut world = World::new();
        let mut sending = Vec::new();
        for room in 0..*rooms {
            for publisher in 0..*publishers {
                sending.push(world.join(&format!("r{room}"), true, publisher == 0));
            }
            for subscriber in 0..*subscribers {
                world.join(&format!("r{room}"), false, subscriber == 0);
            }
        }
        world.run(Duration::from_secs(2));
        // One keyframe starts every subscription; then what is counted.
        for turn in 0..frames + 5 {
            world.now += Duration::from_millis(33);
            if turn == 5 {
                for client in &mut world.clients {
                    (client.arrived, client.decrypted) = (0, 0);
                }
                world.spent = Duration::ZERO;
                ALLOCATIONS.store(0, Ordering::Relaxed);
            }
            for publisher in &sending {
                let batch = world.frame(*publisher, turn == 0);
                COUNTING.store(true, Ordering::Relaxed);
                world.serve(&batch);
                COUNTING.store(false, Ordering::Relaxed);
                world.deliver();
            }
        }
        let receivers = publishers + subscribers - 1;
        let expected = (frames * FRAME_PACKETS * sending.len() * receivers) as u64;
        let arrived: u64 = world.clients.iter().map(|client| client.arrived).sum();
        assert_eq!(arrived, expected, "everything arrived");
        for client in world.clients.iter().filter(|client| client.sampled) {
            assert_eq!(client.decrypted, client.arrived, "and can be decrypted");
        }
        let nanos = world.spent.as_nanos() as f64 / expected as f64;
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) as f64 / expected as f64;
        println!("{name:<16} {expected:>12} {nanos:>8.0} {allocations:>12.2}");
    }
}
