//! Networks, processes and slow readers that fail.

use std::net::IpAddr;
use std::time::Duration;

use aq_server::drop_reason::DropReason;
use aq_server::media::fault::{self, Site};
use aq_server::server::{Input, Sizes};

use crate::answering::Answering;
use crate::media::{Camera, Microphone, Rate, Screen};
use crate::network::Path;
use crate::sim::{Sim, World, addr};
use crate::story::{millis, secs};

/// The documented bound for a participant that vanishes without `leave`: the server detects the dead connection within
/// 30 s, and the participant may return for another 30 s.
const GONE_WITHIN: Duration = secs(60);

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

#[test]
fn a_participant_that_vanishes_is_removed_within_the_bound() {
    let mut sim = sparse(140);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(3));
    let (bob, at) = (sim.browser("bob").page.id.clone(), sim.now);
    sim.vanish("bob");
    sim.run(GONE_WITHIN + secs(1));
    for name in ["ann", "cat"] {
        let notified = sim.learnt_of_leaving(name, &bob).expect("notified");
        assert!(notified - at < GONE_WITHIN, "{name} was notified after {:?}", notified - at);
    }
    sim.assert_complete("main");
    sim.leave("ann");
    sim.leave("cat");
    sim.run(secs(5));
    assert_eq!(sim.server.sizes(), Sizes::default(), "the server keeps no state of participants that left");
}

#[test]
fn a_participant_that_never_had_media_and_vanishes_is_removed_within_the_bound() {
    let mut sim = sparse(148);
    sim.watch("ann");
    sim.watch("bob");
    // Bob's network blocks all datagrams, and he neither sends nor receives media.
    sim.set_path("bob", Path::GOOD.with_loss(1.0));
    sim.run(secs(15));
    assert!(sim.browser("bob").is_live() && sim.browser("bob").connected_at.is_none());
    let (bob, at) = (sim.browser("bob").page.id.clone(), sim.now);
    sim.vanish("bob");
    sim.run(GONE_WITHIN + secs(1));
    assert!(sim.learnt_of_leaving("ann", &bob).expect("notified") - at < GONE_WITHIN);
    assert!(sim.browser("ann").is_live());
}

#[test]
fn a_participant_whose_connection_was_reset_is_removed_when_it_may_no_longer_return() {
    let mut sim = sparse(141);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    let (bob, at) = (sim.browser("bob").page.id.clone(), sim.now);
    sim.crash("bob");
    sim.run(secs(31));
    let after = sim.learnt_of_leaving("ann", &bob).expect("notified") - at;
    assert!((secs(30)..millis(30_100)).contains(&after), "{after:?}");
    sim.assert_complete("main");
}

#[test]
fn a_participant_whose_media_never_connects_is_closed_with_an_error() {
    let mut sim = sparse(142);
    sim.dismissed.insert("bob".to_owned());
    sim.join("ann");
    sim.run(secs(1));
    sim.join_as("bob", |habits| habits.renews = false);
    sim.set_path("bob", Path::GOOD.with_loss(1.0));
    sim.run(secs(60));
    let bob = sim.browser("bob");
    assert_eq!(bob.page.error_codes(), ["media-timeout"]);
    assert_eq!(bob.page.errors[0].1["retry"], true);
    assert!(bob.closed.is_some());
    sim.assert_complete("main");
}

/// A panic inside one peer's panic boundary ends that peer only; the others receive media without a gap.
#[test]
fn a_panic_ends_one_peer_and_no_other_is_affected() {
    let sites = [Site::Datagram, Site::Timeout, Site::Drain, Site::Offer, Site::Answer, Site::Forward, Site::Resend];
    for (number, site) in sites.into_iter().enumerate() {
        let mut sim = sparse(160 + number as u64);
        for name in ["ann", "bob", "cat", "dan"] {
            sim.join(name);
        }
        sim.run(secs(3));
        if site == Site::Resend {
            sim.set_path("dan", Path::GOOD.with_loss(0.2));
        }
        fault::arm(Some((site, number as u32 % 2)));
        for name in ["ann", "bob", "cat", "dan"] {
            sim.dismissed.insert(name.to_owned());
            for browser in &mut sim.browsers {
                browser.changes += 1;
            }
        }
        sim.publish("dan", Screen);
        let at = sim.now;
        sim.run(secs(4));
        assert_eq!(fault::armed(), None, "{site:?} was not reached");
        let ended = sim.browsers.iter().filter(|browser| browser.closed.is_some());
        let ended: Vec<_> = ended.map(|browser| (browser.name.clone(), browser.page.error_codes())).collect();
        assert!(matches!(&ended[..], [(_, codes)] if codes[..] == ["internal"]), "{site:?}: {ended:?}");
        let names = sim.live("main");
        assert_eq!(
            (names.len(), sim.server.sizes().participants),
            (3, 4),
            "three peers are live, and the fourth may return"
        );
        for (one, other) in names.iter().flat_map(|one| names.iter().map(move |other| (one, other))) {
            // A subscriber on a bad path loses packets anyway.
            if one == other || site == Site::Resend && [one, other].contains(&&"dan".to_owned()) {
                continue;
            }
            let seen =
                sim.watched(one, other, Microphone).expect("audio was received").seen.iter().map(|(when, _)| *when);
            let seen: Vec<_> = seen.filter(|when| *when > at).collect();
            let gap = seen.windows(2).map(|pair| pair[1] - pair[0]).max().expect("more than one packet");
            assert!(gap < millis(200), "{one} did not hear {other} for {gap:?} after a panic in {site:?}");
        }
    }
}

#[test]
fn a_failed_peer_gets_no_more_datagrams_of_its_batch() {
    let mut sim = sparse(167);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    sim.dismissed.insert("ann".to_owned());
    let (source, destination) = (sim.browser("ann").addr(), sim.candidates[0]);
    for _ in 0..3 {
        fault::arm(Some((Site::Datagram, 0)));
        sim.give(Input::Datagram { source, destination, contents: &[0x80; 20] });
    }
    assert_eq!(fault::armed(), Some(Site::Datagram), "only the first datagram reaches the peer");
    fault::arm(None);
    sim.run(secs(2));
    assert_eq!(sim.server.stats().peers_failed, 1);
    assert_eq!(sim.browser("ann").page.error_codes(), ["internal"]);
    assert!(sim.browser("bob").is_live());
}

#[test]
fn held_packets_of_a_failed_peer_count_as_unpublished() {
    let mut sim = Sim::with(World { rate: Rate::BROWSER, ..World::new(168) });
    sim.join("ann");
    sim.run(secs(2));
    sim.watch("bob");
    sim.narrow("bob", 1_000_000);
    let is_held = (0..20_000).any(|_| {
        sim.run(millis(1));
        sim.server.undecided_packets() > 1
    });
    assert!(is_held, "the pacer holds packets of a large picture");
    sim.dismissed.insert("ann".to_owned());
    let drops = |sim: &Sim, reason| sim.server.stats().drops.get(reason);
    let (held, before) = (sim.server.undecided_packets(), drops(&sim, DropReason::Unpublished));
    fault::arm(Some((Site::Datagram, 0)));
    let (source, destination) = (sim.browser("ann").addr(), sim.candidates[0]);
    sim.give(Input::Datagram { source, destination, contents: &[0x80; 20] });
    sim.drain_server();
    assert_eq!((fault::armed(), sim.server.undecided_packets()), (None, 0));
    assert_eq!(drops(&sim, DropReason::Unpublished) - before, held);
    assert_eq!(drops(&sim, DropReason::Reassigned), 0);
}

#[test]
fn media_resumes_after_a_short_outage() {
    let mut sim = sparse(143);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    sim.set_path("bob", Path::GOOD.with_loss(1.0));
    sim.run(secs(6));
    assert!(!sim.sees("ann", "bob") && !sim.sees("bob", "ann"));
    sim.set_path("bob", Path::GOOD);
    sim.run(secs(4));
    sim.assert_complete("main");
    assert!(sim.browser("ann").page.left.is_empty());
}

#[test]
fn a_client_that_does_not_read_is_closed_without_delaying_others() {
    let mut sim = sparse(144);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(2));
    let bob = sim.browser("bob").page.id.clone();
    sim.stall("bob");
    for line in 0..120 {
        sim.chat(if line % 2 == 0 { "ann" } else { "cat" }, &"x".repeat(4_000));
        sim.run(millis(150));
    }
    sim.run(secs(42));
    for name in ["ann", "cat"] {
        assert!(sim.learnt_of_leaving(name, &bob).is_some(), "{name} was not notified that bob left");
        assert_eq!(sim.browser(name).page.chat.len(), 60);
        assert!(sim.browser(name).page.errors.is_empty());
    }
    assert!(sim.watched("ann", "cat", Camera).expect("video was received").longest_gap < millis(150));
    sim.browser_mut("bob").end();
    sim.assert_complete("main");
}

#[test]
fn a_change_of_port_during_a_call_is_followed() {
    let mut sim = sparse(145);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    for port in [61_000, 61_001, 61_002] {
        sim.rebind("bob", port);
        // Consent is checked every 4 to 6 s (RFC 7675 section 5.1). The first check from the new port shows the
        // address, and the media after it that the peer is there.
        sim.run(secs(7));
        sim.assert_complete("main");
    }
    assert!(sim.browser("ann").page.left.is_empty());
}

#[test]
fn a_shutdown_notifies_all_participants_and_ends() {
    let mut sim = sparse(146);
    for name in ["ann", "bob", "mute"] {
        sim.join(name);
    }
    sim.run(secs(2));
    sim.vanish("mute");
    let at = sim.now;
    sim.shut_down();
    sim.dismissed.insert("late".to_owned());
    sim.join("late");
    sim.run(millis(2_400));
    for (one, other) in [("ann", "bob"), ("bob", "ann")] {
        assert!(sim.sees(one, other) && sim.hears(one, other), "media continues until the end");
        assert!(sim.watched(one, other, Microphone).expect("audio was received").longest_gap < millis(300));
    }
    let (status, body) = sim.browser("late").closed.clone().expect("the join is refused");
    assert_eq!((status, body.contains("\"closing\"")), (503, true), "{body}");
    assert!(!sim.exited && sim.browser("ann").is_live());
    while !sim.exited {
        sim.run(millis(10));
        assert!(sim.now - at <= secs(3), "the server still runs 3 s after the shutdown");
    }
    sim.run(millis(100));
    for name in ["ann", "bob"] {
        let browser = sim.browser(name);
        assert_eq!(browser.page.closing.len(), 1);
        assert!(browser.page.closing[0]["retry_ms"] == 4_000 && browser.page.closing[0]["reason"] == "shutdown");
        assert_eq!(browser.closed.as_ref().map(|(code, _)| *code), Some(1001));
    }
}

#[test]
fn joins_from_a_network_with_too_many_faults_are_blocked_for_a_while() {
    for proxy in [None, Some(IpAddr::from([127, 0, 0, 1]))] {
        let mut sim = sparse(152);
        sim.proxy = proxy;
        assert_blocked(sim);
    }
}

fn assert_blocked(mut sim: Sim) {
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    let bad = addr("203.0.113.9:40000");
    let since = sim.now;
    let join = |sim: &mut Sim, name: &str, answering| {
        sim.dismissed.insert(name.to_owned());
        sim.join_as(name, |habits| (habits.answering, habits.addrs) = (answering, vec![bad]));
    };
    for number in 0..11 {
        let name = format!("eve{number}");
        join(&mut sim, &name, [Answering::Garbage, Answering::Swapped, Answering::MissingLine][number % 3]);
        sim.run(secs(1));
        assert_eq!(sim.browser(&name).page.error_codes(), ["bad-answer"], "{name}");
    }
    for name in ["eve11", "friend"] {
        join(&mut sim, name, Answering::Properly);
        sim.run(secs(1));
        let (status, body) = sim.browser(name).closed.clone().expect("the join is refused");
        assert_eq!((status, body.contains("\"too-many-faults\"")), (429, true), "{body}");
    }
    sim.join("cat");
    sim.run(secs(2));
    sim.assert_complete("main");
    for (one, other) in [("ann", "bob"), ("bob", "ann")] {
        for source in [Microphone, Camera] {
            let gap = sim.gaps(one, other, source, since).max().expect("media continued");
            assert!(gap < millis(200), "{one} received nothing for {gap:?} of {other}'s {source:?}");
        }
    }
    assert_eq!(sim.server.stats().peers_failed, 11);
    sim.run(secs(60));
    sim.join_as("dot", |habits| habits.addrs = vec![addr("203.0.113.9:41000")]);
    sim.run(secs(2));
    assert!(sim.sees("ann", "dot"), "the network is no longer blocked after a minute");
}

#[test]
fn connections_are_counted_per_network_of_the_client() {
    let mut world = World { rate: Rate::SPARSE, ..World::new(153) };
    world.config.limits.max_conns_per_addr = 2;
    let mut sim = Sim::with(world);
    sim.proxy = Some(addr("[::1]:0").ip());
    let join = |sim: &mut Sim, name: &str, at: &str| {
        sim.join_as(name, |habits| habits.addrs = vec![addr(at)]);
        sim.run(secs(1));
        sim.browser(name).closed.clone()
    };
    for (name, at) in [("ann", "[2001:db8::1]:1"), ("bob", "[2001:db8::ffff:1]:1")] {
        assert_eq!(join(&mut sim, name, at), None, "{name}");
    }
    sim.dismissed.insert("cat".to_owned());
    let (status, body) =
        join(&mut sim, "cat", "[2001:db8::2]:1").expect("the third connection of one network is refused");
    assert_eq!((status, body.contains("\"too-many-conns\"")), (429, true), "{body}");
    assert_eq!(sim.server.stats().conns_refused, 1);
    assert_eq!(join(&mut sim, "dot", "[2001:db8:0:1::1]:1"), None, "another network has its own limit");
    sim.leave("bob");
    sim.run(secs(1));
    assert_eq!(join(&mut sim, "eve", "[2001:db8::3]:1"), None, "bob's connection no longer counts");
    assert_eq!(sim.server.sizes().participants, 3, "participants");
}

#[test]
fn a_drain_ends_when_the_last_participant_has_left() {
    let mut world = World { rate: Rate::SPARSE, ..World::new(151) };
    world.config.drain = secs(3_600);
    world.config.drain_url = Some("https://b.example.org/aq_server/".to_owned());
    let mut sim = Sim::with(world);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.shut_down();
    sim.run(secs(60));
    sim.assert_complete("main");
    for name in ["ann", "bob"] {
        let closing = &sim.browser(name).page.closing[0];
        assert!(closing["retry_ms"] == 1_000 && closing["url"] == "https://b.example.org/aq_server/", "{closing}");
    }
    sim.leave("ann");
    sim.run(secs(1));
    assert!(!sim.exited && sim.browser("bob").is_live());
    sim.leave("bob");
    sim.run(secs(1));
    assert!(sim.exited);
}

#[test]
fn a_join_to_a_full_room_is_refused_with_the_reason() {
    let mut world = World { rate: Rate::SPARSE, ..World::new(147) };
    world.config.limits.max_room_size = 2;
    let mut sim = Sim::with(world);
    sim.dismissed.insert("cat".to_owned());
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(1));
    sim.join("cat");
    sim.run(secs(2));
    let (status, body) = sim.browser("cat").closed.clone().expect("the join is refused");
    assert_eq!(status, 503);
    assert!(body.contains("\"room-full\""), "{body}");
    sim.assert_complete("main");
    sim.leave("bob");
    sim.run(secs(1));
    sim.join("cat");
    sim.run(secs(2));
    sim.dismissed.clear();
    sim.assert_complete("main");
    assert!(sim.sees("ann", "cat"));
}

#[test]
fn a_publisher_above_its_packet_limit_loses_only_its_own_excess() {
    let mut world = World::new(149);
    world.config.limits.max_publish_packets = 40;
    let mut sim = Sim::with(world);
    // A browser sends 50 audio packets a second, plus video.
    for name in ["ann", "bob"] {
        sim.join(name);
    }
    sim.watch("cat");
    sim.run(secs(6));
    let (sent, received) = sim.counts("cat", "ann", Microphone);
    assert!(sent > 250 && received < 200, "{received} of {sent} packets arrived");
    let (in_, excess) = (sim.server.stats().packets_in, sim.server.stats().datagrams_excess);
    assert!(in_ < 2 * 40 * 7, "{in_} packets accepted from two publishers limited to 40 per second");
    assert!(excess > 500, "{excess}");
    assert!(sim.browser("ann").is_live() && sim.browser("bob").is_live());
}

#[test]
fn a_flood_of_valid_checks_is_limited_and_does_not_affect_the_call() {
    let mut sim = sparse(150);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    let before = sim.server.stats().clone();
    sim.flood_checks("bob", 5_000, 61_500);
    sim.run(secs(1));
    let after = sim.server.stats();
    assert!(after.datagrams_excess - before.datagrams_excess >= 4_700, "{}", after.datagrams_excess);
    assert!(after.datagrams_out - before.datagrams_out < 1_000, "{}", after.datagrams_out - before.datagrams_out);
    sim.run(secs(20));
    sim.assert_complete("main");
    assert!(sim.browser("ann").page.left.is_empty());
}

#[test]
fn sequence_numbers_before_the_first_do_not_end_another_call() {
    let mut sim = Sim::new(307);
    sim.join("ann");
    sim.begin_at("ann", Camera, 0);
    sim.join("bob");
    sim.run(secs(1));
    let sent = sim.publication("ann", Camera).layers[0].seq_no;
    assert!((10..7_000).contains(&sent), "{sent}");
    // A jump of more than half of the number space counts as backwards, so the 64-bit number wraps almost to its end.
    sim.publication_mut("ann", Camera).layers[0].seq_no = 0u64.wrapping_sub(25_536);
    sim.run(secs(2));
    assert_eq!(sim.live("main"), ["ann", "bob"]);
    assert!(sim.hears("bob", "ann"));
    assert_eq!(sim.server.stats().peers_failed, 0);
}
