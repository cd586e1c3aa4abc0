//! Datagrams that an attacker on the path may send from a participant's address, or replay from another one: none of them
//! affects the participant.

use crate::media::{Camera, Microphone, Rate, Screen};
use crate::sim::{Sim, World, addr};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

/// Records Ann's media datagrams of the next second.
fn record(sim: &mut Sim) -> Vec<Vec<u8>> {
    let tag = sim.tag("ann");
    let mut recorded: Vec<Vec<u8>> = Vec::new();
    for _ in 0..50 {
        sim.run(millis(20));
        for (.., contents) in &sim.links[tag].recent {
            if contents[0] >> 6 == 2 && !recorded.contains(contents) {
                recorded.push(contents.clone());
            }
        }
    }
    recorded
}

/// Sends these datagrams from Ann's address.
fn send(sim: &mut Sim, datagrams: &[Vec<u8>]) {
    let (source, destination) = (sim.browser("ann").addr(), sim.candidates[0]);
    for datagram in datagrams {
        sim.send_raw(source, destination, datagram.clone(), 1);
        sim.run(millis(10));
    }
}

/// The packets carry their mids, as at the start of a stream, but their SSRC is no longer in use.
#[test]
fn packets_of_a_former_ssrc_do_not_take_over_a_stream() {
    for is_forged in [true, false] {
        let mut sim = sparse(830);
        sim.join_with_layers("ann");
        sim.join_as("bob", |habits| {
            habits.sources.clear();
            habits.drift.anywhere = true;
        });
        let mut recorded = record(&mut sim);
        sim.run(secs(2));
        // str0m does not change back to the previous SSRC.
        for source in [Camera, Microphone, Camera, Microphone] {
            sim.change_ssrcs("ann", source);
            sim.run(secs(2));
        }
        assert!(sim.sees("bob", "ann") && sim.hears("bob", "ann"));
        if is_forged {
            for packet in &mut recorded {
                *packet.last_mut().expect("a packet has bytes") ^= 1;
            }
        }
        let (since, count) = (sim.now, recorded.len());
        send(&mut sim, &recorded);
        sim.run(secs(2));
        for source in [Camera, Microphone] {
            let gap = sim.gaps("bob", "ann", source, since).max().expect("media continued");
            assert!(gap < millis(700), "no {source:?} for {gap:?} after {count} packets, forged: {is_forged}");
        }
    }
}

/// Ann stops her simulcast camera, her screen then changes SSRCs more often than the server remembers, and she
/// publishes the camera again with the same SSRCs.
#[test]
fn a_paused_m_line_resumes_with_its_ssrcs_after_many_other_ssrcs() {
    let mut sim = sparse(831);
    sim.join_with_layers("ann");
    sim.join_as("bob", |habits| {
        habits.sources.clear();
        habits.drift.anywhere = true;
    });
    sim.publish("ann", Screen);
    sim.run(secs(4));
    sim.unpublish("ann", Camera);
    sim.run(secs(1));
    for _ in 0..60 {
        sim.change_ssrcs("ann", Screen);
        sim.run(millis(150));
    }
    let since = sim.now;
    sim.publish("ann", Camera);
    sim.run(secs(3));
    let gap = sim.gaps("bob", "ann", Camera, since).max().expect("media resumed");
    assert!(gap < millis(1_500), "no camera for {gap:?}");
    assert!(sim.browser("ann").page.errors.is_empty() && sim.browser("ann").renewals == 0);
}

/// More packets than Ann may send in that time, of an SSRC that she uses and of others.
#[test]
fn unauthenticated_packets_are_not_charged_to_the_publisher() {
    let mut sim = sparse(832);
    sim.join("ann");
    sim.watch("bob");
    sim.run(secs(2));
    let recorded = record(&mut sim);
    let (source, destination) = (sim.browser("ann").addr(), sim.candidates[0]);
    let since = sim.now;
    for number in 0..3_000_u32 {
        for of_other in [false, true] {
            let mut packet = recorded[number as usize % recorded.len()].clone();
            *packet.last_mut().expect("a packet has bytes") ^= 1;
            if of_other {
                packet[8..12].copy_from_slice(&number.to_be_bytes());
            }
            sim.send_raw(source, destination, packet, 2);
        }
        sim.run(millis(1));
    }
    for source in [Camera, Microphone] {
        let gap = sim.gaps("bob", "ann", source, since).max().expect("media continued");
        assert!(gap < millis(700), "no {source:?} for {gap:?}");
    }
    assert_eq!(sim.server.stats().datagrams_excess, 0);
}

/// While Bob's path is interrupted, an attacker repeats one of his checks from another address.
#[test]
fn a_repeated_check_draws_no_media_to_another_address() {
    for is_repeated in [true, false] {
        let mut sim = sparse(833);
        sim.join("ann");
        let bob = sim.join("bob");
        sim.run(secs(3));
        let (destination, check) = sim.checks[&bob].clone();
        sim.links[bob].up.is_partitioned = true;
        sim.links[bob].down.is_partitioned = true;
        sim.run(secs(17));
        // A check that the server has not seen shows that the attacker's datagrams would have an effect.
        let check = if is_repeated { check } else { sim.checks[&bob].1.clone() };
        let stranger = addr("203.0.113.66:6666");
        let own = sim.browser("bob").addr();
        sim.links[bob].public = vec![stranger, own];
        let before = sim.links[bob].down.lost_rtp;
        sim.send_raw(stranger, destination, check, 1);
        sim.run(secs(2));
        let drawn = sim.links[bob].down.lost_rtp - before;
        assert_eq!(drawn == 0, is_repeated, "{drawn} packets, repeated: {is_repeated}");
    }
}
