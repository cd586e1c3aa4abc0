//! Nothing of ours is allocated for a packet once buffers have their size (invariant 6). What str0m allocates for a
//! packet that it takes from a publisher does not depend on who gets it.

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
use aq_server::datagrams::Datagrams;
use aq_server::server::bounds::Bounds;
use world::{AT_WORK, FRAME_PACKETS, GIVING, IDLE, TAKING, World};

/// Four seconds: before anybody's WebSocket is pinged.
const FRAMES: usize = 120;

struct Counting;

/// Tests of one process share the counters.
static ALONE: Mutex<()> = Mutex::new(());

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

static ALLOCATIONS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

// SAFETY: passes everything on to the system's allocator.
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

/// Allocations while packets are taken, and while they are forwarded, to watchers whose paths are estimated or not.
fn allocations(watchers: usize, estimated: bool) -> [u64; 2] {
    let mut world = World::new();
    let publisher = world.join("r", true, false, false);
    for watcher in 0..watchers {
        world.join("r", false, watcher == 0 || estimated, estimated);
    }
    world.run(Duration::from_secs(2));
    let frame = |world: &mut World, key| {
        if estimated {
            // Somebody has to tell what came.
            world.run(Duration::from_millis(33));
        } else {
            world.now += Duration::from_millis(33);
        }
        let batch = world.frame(publisher, key);
        world.serve(&batch);
        world.deliver();
    };
    // A history of a second and a half, and every ring, reach their size.
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
    // Probes come as well where ways are estimated.
    assert!(came == expected || estimated && came > expected, "everything arrived");
    let sampled = world.clients.iter().find(|client| client.sampled).expect("one is");
    assert!(sampled.decrypted == sampled.arrived || estimated, "and can be decrypted");
    assert!(ALLOCATIONS[IDLE].load(Ordering::Relaxed) > 0, "allocations are counted");
    [TAKING, GIVING].map(|stage| ALLOCATIONS[stage].load(Ordering::Relaxed))
}

/// What a server takes for each of so many participants, all in one room, who have sent so many frames each: what is
/// free when it is gone, less what an empty one takes.
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
    assert!(idle * 2 < sending, "{idle} bytes for one who does nothing, {sending} for one who sends");
    // Who sends one picture of 1 Mbit/s to eight others is far from the worst that one can do, but not out of sight.
    assert!(sending < bounds.participant, "{sending} bytes, and {bounds:?}");
    assert!(bounds.participant < 40 * sending, "{sending} bytes, and {bounds:?}");
}

/// Anybody who knows where a participant is can send in its name; what is not authentic is not kept.
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
        // No more than one may send.
        world.now += Duration::from_micros(600);
        world.serve(&datagrams);
    }
    let taken = LIVE_BYTES.load(Ordering::Relaxed) - before;
    assert!(taken < 100_000, "{taken} bytes for {FORGED} forged packets");
    world.deliver();
    let arrived = world.clients[watcher].arrived;
    frame(&mut world, true);
    frame(&mut world, false);
    assert_eq!(world.clients[watcher].arrived - arrived, 2 * FRAME_PACKETS as u64, "the publisher's go on");
}

#[test]
fn a_forwarded_packet_allocates_nothing() {
    let _alone = ALONE.lock();
    let [taking_for_3, giving_to_3] = allocations(3, false);
    let [taking_for_60, giving_to_60] = allocations(60, false);
    // A buffer may still grow once in thousands of packets.
    for (giving, watchers) in [(giving_to_3, 3), (giving_to_60, 60)] {
        let packets = (FRAMES * FRAME_PACKETS * watchers) as u64;
        assert!(giving * 1_000 <= packets, "{giving} allocations for {packets} forwarded packets");
    }
    let difference = taking_for_60.abs_diff(taking_for_3);
    assert!(taking_for_3 >= (FRAMES * FRAME_PACKETS) as u64, "each packet that is taken has a payload");
    assert!(difference * 50 <= taking_for_3, "{taking_for_3} for 3 subscribers, {taking_for_60} for 60");
    let per_packet = taking_for_3 as f64 / (FRAMES * FRAME_PACKETS) as f64;
    assert!(per_packet < 4.0, "{per_packet} allocations for a packet that is taken");
    let [_, giving_to_estimated] = allocations(20, true);
    let packets = (FRAMES * FRAME_PACKETS * 20) as u64;
    // Time passes there, and the timers of ICE and reports allocate some times a second.
    assert!(giving_to_estimated * 20 <= packets, "{giving_to_estimated} allocations where ways are estimated");
}
