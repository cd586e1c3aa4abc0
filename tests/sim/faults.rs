//! Networks, processes and readers that fail.

use std::net::IpAddr;
use std::time::Duration;

use aq_server::media::fault::{self, Site};

use crate::answering::Answering;
use crate::media::{Camera, Microphone, Rate, Screen};
use crate::network::Path;
use crate::sim::{Sim, World, addr};
use crate::story::{millis, secs};

/// The stated bound for a participant that vanishes without a goodbye: the connection is missed within 30 s, and the
/// participant may return for 30 s more.
const GONE_WITHIN: Duration = secs(60);

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

#[test]
fn who_vanishes_is_gone_within_the_bound() {
    let mut sim = sparse(140);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(3));
    let (bob, at) = (sim.browser("bob").page.id.clone(), sim.now);
    sim.vanish("bob");
    sim.run(GONE_WITHIN + secs(1));
    for name in ["ann", "cat"] {
        let told = sim.learnt_of_leaving(name, &bob).expect("told");
        assert!(told - at < GONE_WITHIN, "{name} learnt it after {:?}", told - at);
    }
    sim.assert_complete("main");
    sim.leave("ann");
    sim.leave("cat");
    sim.run(secs(5));
    assert_eq!(sim.server.sizes(), [0; 7], "nothing is kept of those who left");
}

#[test]
fn who_vanishes_without_ever_having_had_media_is_gone_within_the_bound() {
    let mut sim = sparse(148);
    sim.watch("ann");
    sim.watch("bob");
    // His network lets no datagram through, and he has nothing to send or to receive.
    sim.set_path("bob", Path::GOOD.with_loss(1.0));
    sim.run(secs(15));
    assert!(sim.browser("bob").is_live() && sim.browser("bob").connected_at.is_none());
    let (bob, at) = (sim.browser("bob").page.id.clone(), sim.now);
    sim.vanish("bob");
    sim.run(GONE_WITHIN + secs(1));
    assert!(sim.learnt_of_leaving("ann", &bob).expect("told") - at < GONE_WITHIN);
    assert!(sim.browser("ann").is_live());
}

#[test]
fn whose_connection_is_reset_is_gone_when_the_time_to_return_is_over() {
    let mut sim = sparse(141);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    let (bob, at) = (sim.browser("bob").page.id.clone(), sim.now);
    sim.crash("bob");
    sim.run(secs(31));
    let after = sim.learnt_of_leaving("ann", &bob).expect("told") - at;
    assert!((secs(30)..millis(30_100)).contains(&after), "{after:?}");
    sim.assert_complete("main");
}

#[test]
fn who_answers_but_never_connects_is_told_and_closed() {
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

/// Whatever panics behind the fence of one peer ends that peer: the others go on without a gap.
#[test]
fn a_panic_ends_one_and_nobody_else_notices() {
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
        assert_eq!(fault::armed(), None, "{site:?} was not passed");
        let ended = sim.browsers.iter().filter(|browser| browser.closed.is_some());
        let ended: Vec<_> = ended.map(|browser| (browser.name.clone(), browser.page.error_codes())).collect();
        assert!(matches!(&ended[..], [(_, codes)] if codes[..] == ["internal"]), "{site:?}: {ended:?}");
        let names = sim.live("main");
        assert_eq!((names.len(), sim.server.sizes()[1]), (3, 4), "and one may return");
        for (one, other) in names.iter().flat_map(|one| names.iter().map(move |other| (one, other))) {
            // Who has a bad path loses something anyway.
            if one == other || site == Site::Resend && [one, other].contains(&&"dan".to_owned()) {
                continue;
            }
            let seen = sim.watched(one, other, Microphone).expect("heard").seen.iter().map(|(when, _)| *when);
            let seen: Vec<_> = seen.filter(|when| *when > at).collect();
            let gap = seen.windows(2).map(|pair| pair[1] - pair[0]).max().expect("more than one");
            assert!(gap < millis(200), "{one} did not hear {other} for {gap:?} after a panic in {site:?}");
        }
    }
}

#[test]
fn media_that_breaks_for_a_moment_goes_on() {
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
fn a_reader_that_is_too_slow_is_closed_and_not_waited_for() {
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
        assert!(sim.learnt_of_leaving(name, &bob).is_some(), "{name} was not told that bob is gone");
        assert_eq!(sim.browser(name).page.chat.len(), 60);
        assert!(sim.browser(name).page.errors.is_empty());
    }
    assert!(sim.watched("ann", "cat", Camera).expect("seen").longest_gap < millis(150));
    sim.browser_mut("bob").end();
    sim.assert_complete("main");
}

#[test]
fn a_new_port_in_the_middle_of_a_call_is_followed() {
    let mut sim = sparse(145);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(3));
    for port in [61_000, 61_001, 61_002] {
        sim.rebind("bob", port);
        // Consent is asked for every 4 to 6 s (RFC 7675 section 5.1); the first such check shows the new address, and
        // the media after it that the peer is there.
        sim.run(secs(7));
        sim.assert_complete("main");
    }
    assert!(sim.browser("ann").page.left.is_empty());
}

#[test]
fn a_shutdown_tells_everybody_and_ends() {
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
        assert!(sim.sees(one, other) && sim.hears(one, other), "the call goes on");
        assert!(sim.watched(one, other, Microphone).expect("heard").longest_gap < millis(300));
    }
    let (status, body) = sim.browser("late").closed.clone().expect("refused");
    assert_eq!((status, body.contains("\"closing\"")), (503, true), "{body}");
    assert!(!sim.exited && sim.browser("ann").is_live());
    while !sim.exited {
        sim.run(millis(10));
        assert!(sim.now - at <= secs(3), "still there after 3 s");
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
fn a_place_with_too_many_faults_gets_no_new_peers_for_a_while() {
    for proxy in [None, Some(IpAddr::from([127, 0, 0, 1]))] {
        let mut sim = sparse(152);
        sim.proxy = proxy;
        refuse_one_place(sim);
    }
}

fn refuse_one_place(mut sim: Sim) {
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
        let (status, body) = sim.browser(name).closed.clone().expect("refused");
        assert_eq!((status, body.contains("\"too-many-faults\"")), (429, true), "{body}");
    }
    sim.join("cat");
    sim.run(secs(2));
    sim.assert_complete("main");
    for (one, other) in [("ann", "bob"), ("bob", "ann")] {
        for source in [Microphone, Camera] {
            let gap = sim.gaps(one, other, source, since).max().expect("it went on");
            assert!(gap < millis(200), "{one} waited {gap:?} for {other}'s {source:?}");
        }
    }
    assert_eq!(sim.server.stats().peers_failed, 11);
    sim.run(secs(60));
    sim.join_as("dot", |habits| habits.addrs = vec![addr("203.0.113.9:41000")]);
    sim.run(secs(2));
    assert!(sim.sees("ann", "dot"), "a minute later it is forgotten");
}

#[test]
fn connections_are_counted_where_people_are() {
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
    let (status, body) = join(&mut sim, "cat", "[2001:db8::2]:1").expect("the third of one network");
    assert_eq!((status, body.contains("\"too-many-conns\"")), (429, true), "{body}");
    assert_eq!(sim.server.stats().conns_refused, 1);
    assert_eq!(join(&mut sim, "dot", "[2001:db8:0:1::1]:1"), None, "of another network");
    sim.leave("bob");
    sim.run(secs(1));
    assert_eq!(join(&mut sim, "eve", "[2001:db8::3]:1"), None, "bob has gone");
    assert_eq!(sim.server.sizes()[1], 3, "members");
}

#[test]
fn a_drain_ends_when_everybody_has_gone() {
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
fn a_full_room_refuses_and_says_so() {
    let mut world = World { rate: Rate::SPARSE, ..World::new(147) };
    world.config.limits.max_room_size = 2;
    let mut sim = Sim::with(world);
    sim.dismissed.insert("cat".to_owned());
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(1));
    sim.join("cat");
    sim.run(secs(2));
    let (status, body) = sim.browser("cat").closed.clone().expect("refused");
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
fn who_sends_more_than_is_allowed_loses_the_excess_and_nobody_else_anything() {
    let mut world = World::new(149);
    world.config.limits.max_publish_packets = 40;
    let mut sim = Sim::with(world);
    // A browser sends 50 packets of sound a second, and video beside it.
    for name in ["ann", "bob"] {
        sim.join(name);
    }
    sim.watch("cat");
    sim.run(secs(6));
    let (sent, came) = sim.counts("cat", "ann", Microphone);
    assert!(sent > 250 && came < 200, "{came} of {sent} packets came");
    let (in_, excess) = (sim.server.stats().packets_in, sim.server.stats().datagrams_excess);
    assert!(in_ < 2 * 40 * 7, "{in_} packets were taken of two who may send 40 a second");
    assert!(excess > 500, "{excess}");
    assert!(sim.browser("ann").is_live() && sim.browser("bob").is_live());
}

#[test]
fn a_flood_of_valid_checks_is_answered_so_far_and_costs_the_call_nothing() {
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
fn numbers_from_before_the_first_end_nobody_elses_call() {
    let mut sim = Sim::new(307);
    sim.join("ann");
    sim.begin_at("ann", Camera, 0);
    sim.join("bob");
    sim.run(secs(1));
    let sent = sim.publication("ann", Camera).layers[0].seq_no;
    assert!((10..7_000).contains(&sent), "{sent}");
    // More than half of the number space ahead is behind: in 64 bits, almost at their end.
    sim.publication_mut("ann", Camera).layers[0].seq_no = 0u64.wrapping_sub(25_536);
    sim.run(secs(2));
    assert_eq!(sim.live("main"), ["ann", "bob"]);
    assert!(sim.hears("bob", "ann"));
    assert_eq!(sim.server.stats().peers_failed, 0);
}
