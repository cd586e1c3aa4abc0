//! Checks that the server's own code allocates nothing per packet once buffers have their final size (invariant 6), and
//! that str0m's allocations per published packet do not depend on the number of subscribers. Also checks memory bounds.

#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(dead_code, reason = "the bench uses the rest of it")]

#[path = "../benches/wire/mod.rs"]
mod wire;
#[path = "../benches/world/mod.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aq_server::config::{Config, Limits};
use aq_server::media::transport::datagrams::Datagrams;
use aq_server::server::bounds::Bounds;
use world::{AT_WORK, FRAME_PACKETS, GIVING, IDLE, TAKING, World};

/// Measured frames: four seconds, so that no WebSocket is pinged.
const FRAMES: usize = 120;

struct Counting;

/// Serializes the tests, because they share the counters.
static ALONE: Mutex<()> = Mutex::new(());

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

static ALLOCATIONS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

// SAFETY: all calls are passed on to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS[AT_WORK.load(Ordering::Relaxed)].fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS[AT_WORK.load(Ordering::Relaxed)].fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(size as i64 - layout.size() as i64, Ordering::Relaxed);
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts allocations while packets are received, and while they are forwarded, with or without bandwidth estimation.
fn allocations(watchers: usize, estimated: bool) -> [u64; 2] {
    let mut world = World::new();
    let publisher = world.join("r", true, false, false);
    for watcher in 0..watchers {
        world.join("r", false, watcher == 0 || estimated, estimated);
    }
    world.run(Duration::from_secs(2));
    let frame = |world: &mut World, key| {
        if estimated {
            // Subscribers need time to send feedback.
            world.run(Duration::from_millis(33));
        } else {
            world.now += Duration::from_millis(33);
        }
        let batch = world.frame(publisher, key);
        world.serve(&batch);
        world.deliver();
    };
    // The history of 1.5 s and all ring buffers reach their final size.
    for number in 0..if estimated { 200 } else { 60 } {
        frame(&mut world, number == 0);
    }
    let arrived = |world: &World| world.clients.iter().map(|client| client.arrived).sum::<u64>();
    let before = arrived(&world);
    ALLOCATIONS.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    world.is_measured = true;
    for _ in 0..FRAMES {
        frame(&mut world, false);
    }
    world.is_measured = false;
    let came = arrived(&world) - before;
    let expected = (FRAMES * FRAME_PACKETS * watchers) as u64;
    // With bandwidth estimation, probes arrive as well.
    assert!(came == expected || estimated && came > expected, "every packet arrives");
    let sampled = world.clients.iter().find(|client| client.sampled).expect("a sampled client");
    assert!(sampled.decrypted == sampled.arrived || estimated, "every packet can be decrypted");
    assert!(ALLOCATIONS[IDLE].load(Ordering::Relaxed) > 0, "allocations are counted");
    [TAKING, GIVING].map(|stage| ALLOCATIONS[stage].load(Ordering::Relaxed))
}

/// Returns the server's memory per participant, with `participants` in one room that have sent `frames` frames each. It
/// is the memory freed when the server is dropped, minus that of an empty server.
fn bytes_each(participants: usize, frames: usize) -> u64 {
    let taken = |participants: usize| {
        let mut world = World::new();
        let members: Vec<usize> = (0..participants).map(|_| world.join("r", frames > 0, true, frames > 0)).collect();
        world.run(Duration::from_secs(3));
        for number in 0..frames {
            world.run(Duration::from_millis(33));
            for member in &members {
                let batch = world.frame(*member, number == 0);
                world.serve(&batch);
            }
            world.deliver();
        }
        let server = world.server;
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        drop(server);
        before - LIVE_BYTES.load(Ordering::Relaxed)
    };
    let (empty, full) = (taken(0), taken(participants));
    assert!(empty > 0 && full > empty, "{empty}, {full}");
    (full - empty) as u64 / participants as u64
}

#[test]
fn a_participant_takes_no_more_than_the_bounds_say() {
    let _alone = ALONE.lock();
    let limits = Limits { max_room_size: 9, ..Config::default().limits };
    let bounds = Bounds::new(&limits, 0);
    let (idle, sending) = (bytes_each(9, 0), bytes_each(9, 90));
    println!("{idle} bytes idle, {sending} sending; bound {}", bounds.participant);
    assert!(idle * 2 < sending, "{idle} bytes for an idle participant, {sending} for one that sends");
    // One 1 Mbit/s video sent to eight participants is far below the worst case, but within a factor of 40.
    assert!(sending < bounds.participant, "{sending} bytes, and {bounds:?}");
    assert!(bounds.participant < 40 * sending, "{sending} bytes, and {bounds:?}");
}

/// An attacker that knows a participant's address can send packets from it; packets that are not authentic are not kept.
#[test]
fn forged_packets_take_no_memory() {
    const FORGED: u32 = 5_000;
    let _alone = ALONE.lock();
    let mut world = World::new();
    let publisher = world.join("r", true, false, false);
    let watcher = world.join("r", false, true, false);
    world.run(Duration::from_secs(2));
    let frame = |world: &mut World, key| {
        world.now += Duration::from_millis(33);
        let batch = world.frame(publisher, key);
        world.serve(&batch);
        world.deliver();
        batch
    };
    frame(&mut world, true);
    let batch = frame(&mut world, false);
    let (route, packet) = batch.iter().next().expect("a frame has packets");
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for ssrc in 0..FORGED {
        let mut forged = packet.to_vec();
        forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut datagrams = Datagrams::default();
        datagrams.push(route, &forged);
        // Stay within the packet rate limit.
        world.now += Duration::from_micros(600);
        world.serve(&datagrams);
    }
    let taken = LIVE_BYTES.load(Ordering::Relaxed) - before;
    assert!(taken < 100_000, "{taken} bytes for {FORGED} forged packets");
    world.deliver();
    let arrived = world.clients[watcher].arrived;
    frame(&mut world, true);
    frame(&mut world, false);
    assert_eq!(
        world.clients[watcher].arrived - arrived,
        2 * FRAME_PACKETS as u64,
        "the publisher's packets are still forwarded"
    );
}

#[test]
fn a_forwarded_packet_allocates_nothing() {
    let _alone = ALONE.lock();
    let [taking_for_3, giving_to_3] = allocations(3, false);
    let [taking_for_60, giving_to_60] = allocations(60, false);
    // A buffer may still grow occasionally.
    for (giving, watchers) in [(giving_to_3, 3), (giving_to_60, 60)] {
        let packets = (FRAMES * FRAME_PACKETS * watchers) as u64;
        assert!(giving * 1_000 <= packets, "{giving} allocations for {packets} forwarded packets");
    }
    let difference = taking_for_60.abs_diff(taking_for_3);
    assert!(taking_for_3 >= (FRAMES * FRAME_PACKETS) as u64, "each received packet has an allocated payload");
    assert!(difference * 50 <= taking_for_3, "{taking_for_3} for 3 subscribers, {taking_for_60} for 60");
    let per_packet = taking_for_3 as f64 / (FRAMES * FRAME_PACKETS) as f64;
    assert!(per_packet < 4.0, "{per_packet} allocations per received packet");
    let [_, giving_to_estimated] = allocations(20, true);
    let packets = (FRAMES * FRAME_PACKETS * 20) as u64;
    // Time advances there, and the timers of ICE and reports allocate several times per second.
    assert!(giving_to_estimated * 20 <= packets, "{giving_to_estimated} allocations with bandwidth estimation");
}
