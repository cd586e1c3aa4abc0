//! Media that fails while signaling works: the participant stays in the room and gets a fresh transport.

use aq_server::server::Sizes;

use crate::answering::Habits;
use crate::identity::Identity;
use crate::media::{Camera, Rate, Source};
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

fn sparse(seed: u64) -> Sim {
    Sim::with(World { rate: Rate::SPARSE, ..World::new(seed) })
}

fn block(sim: &mut Sim, name: &str, blocked: bool) {
    let tag = sim.tag(name);
    sim.links[tag].up.is_partitioned = blocked;
    sim.links[tag].down.is_partitioned = blocked;
}

/// UDP is blocked from the start for several minutes.
#[test]
fn a_participant_whose_udp_is_blocked_stays_and_chats() {
    let mut sim = sparse(200);
    sim.join("ann");
    sim.join("bob");
    block(&mut sim, "bob", true);
    sim.run(secs(25));
    let bob = sim.browser("bob").page.id.clone();
    assert!(sim.browser("ann").page.lost.contains(&bob), "the others must see that bob has no media");
    sim.join("cat");
    sim.run(secs(1));
    assert!(sim.browser("cat").page.lost.contains(&bob), "a later participant must see that bob has no media");
    sim.run(secs(180));
    assert_eq!(sim.browser("bob").closed, None);
    assert!(sim.browser("bob").renewals >= 3, "{} fresh transports", sim.browser("bob").renewals);
    sim.chat("bob", "I can't hear you");
    sim.chat("ann", "but I can read you");
    sim.run(secs(1));
    assert_eq!(sim.browser("ann").page.chat.last().map(|line| &*line.message), Some("I can't hear you"));
    assert_eq!(sim.browser("bob").page.chat.last().map(|line| &*line.message), Some("but I can read you"));
    assert!(sim.browser("ann").page.left.is_empty(), "no participant may leave");
    assert!(sim.sees("ann", "cat") && sim.sees("cat", "ann"));
    let pauses: Vec<u64> = sim.browser("bob").page.media.iter().filter_map(|(_, m)| m["retry_ms"].as_u64()).collect();
    assert_eq!(pauses[..3], [5_000, 5_000, 10_000], "{pauses:?}");
    block(&mut sim, "bob", false);
    sim.run(secs(85));
    assert!(sim.browser("ann").page.lost.is_empty() && sim.browser("ann").page.left.is_empty());
    sim.assert_complete("main");
    for name in ["ann", "bob", "cat"] {
        sim.leave(name);
    }
    sim.run(secs(1));
    assert_eq!(sim.server.sizes(), Sizes::default());
}

/// Media connects, fails for longer than ICE consent lasts, and returns.
#[test]
fn media_that_failed_returns_on_a_fresh_transport() {
    let mut sim = sparse(201);
    sim.join("ann");
    sim.join_with_layers("bob");
    sim.run(secs(3));
    sim.publish("bob", Source::Screen);
    sim.run(secs(2));
    let bob = sim.browser("bob").page.id.clone();
    block(&mut sim, "bob", true);
    sim.run(secs(18));
    assert!(sim.browser("ann").page.lost.contains(&bob), "consent must be lost after 15 s");
    sim.run(secs(12));
    assert_eq!(sim.browser("bob").renewals, 1);
    block(&mut sim, "bob", false);
    sim.run(secs(6));
    assert!(sim.browser("ann").page.lost.is_empty(), "{:?}", sim.browser("bob").page.media);
    let states: Vec<&str> =
        sim.browser("bob").page.media.iter().map(|(_, m)| m["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["lost", "lost", "connecting", "connected"]);
    assert!(sim.sees("ann", "bob") && sim.hears("ann", "bob") && sim.sees("bob", "ann"));
    assert!(sim.browser("ann").page.left.is_empty());
}

/// The client notices the failure first and sends `renew`.
#[test]
fn a_client_whose_transport_failed_gets_a_fresh_one() {
    let mut sim = sparse(202);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    sim.say_text("bob", r#"{"event":"renew"}"#);
    // The second refers to the transport that the first has already ended.
    sim.say_text("bob", r#"{"event":"renew"}"#);
    sim.run(millis(1_500));
    assert_eq!(sim.browser("bob").renewals, 1);
    assert!(sim.watched("ann", "bob", Camera).is_some() && sim.browser("ann").page.left.is_empty());
    sim.assert_complete("main");
}

/// Each transport connects, but the client renews it at once: the server must pause between offers, for the sake of the
/// room.
#[test]
fn transports_that_do_not_last_are_offered_after_a_pause() {
    let mut sim = sparse(205);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(2));
    for _ in 0..30 {
        sim.say_text("bob", r#"{"event":"renew"}"#);
        sim.run(secs(1));
    }
    let renewals = sim.browser("bob").renewals;
    assert!((2..=4).contains(&renewals), "{renewals} fresh transports in 30 s");
    sim.run(secs(60));
    sim.assert_complete("main");
    // The last transport was stable, so the next one is offered at once.
    let renewals = sim.browser("bob").renewals;
    sim.say_text("bob", r#"{"event":"renew"}"#);
    sim.run(secs(2));
    assert_eq!(sim.browser("bob").renewals, renewals + 1);
    sim.assert_complete("main");
}

/// A client without support for fresh transports is closed with an error and returns with the same id.
#[test]
fn a_client_that_does_not_support_renewal_is_closed_and_returns() {
    let mut sim = sparse(203);
    sim.join("ann");
    sim.join_as("bob", |habits| habits.renews = false);
    block(&mut sim, "bob", true);
    sim.run(secs(22));
    assert_eq!(sim.browser("bob").page.error_codes(), ["media-timeout"]);
    assert_eq!(sim.browser("bob").page.errors[0].1["retry"], true);
    sim.resume("bob");
    sim.run(secs(3));
    assert!(sim.browser("ann").page.left.is_empty() && sim.browser("ann").page.lost.is_empty());
    sim.assert_complete("main");
}

/// The number of participants per network that may stay without media is limited, but the excess does not block the
/// network.
#[test]
fn at_most_20_participants_of_a_network_stay_without_media() {
    let mut sim = sparse(204);
    sim.join("ann");
    for number in 0..22 {
        let name = format!("guest{number}");
        sim.join_as(&name, |habits| habits.addrs[0].set_ip([203, 0, 113, 7].into()));
        block(&mut sim, &name, true);
    }
    sim.run(secs(24));
    let closed = (0..22).filter(|number| sim.browser(&format!("guest{number}")).closed.is_some()).count();
    assert_eq!(closed, 2);
    sim.join_as("late", |habits| habits.addrs[0].set_ip([203, 0, 113, 7].into()));
    sim.run(secs(2));
    assert!(sim.sees("ann", "late") && sim.sees("late", "ann"), "the network must not be blocked");
}

/// A browser with an RSA certificate: the server requests a certificate and verifies its signature.
#[test]
fn a_participant_with_an_rsa_certificate_takes_part() {
    let mut sim = sparse(210);
    for (name, identity) in [("ann", Identity::Ecdsa), ("bob", Identity::Rsa)] {
        sim.join_as(name, |habits| habits.identity = identity);
    }
    sim.run(secs(3));
    for (one, other) in [("ann", "bob"), ("bob", "ann")] {
        assert!(sim.sees(one, other) && sim.hears(one, other), "{one} must see and hear {other}");
    }
    assert_eq!(sim.browser("bob").renewals, 0);
}

/// A client without the key of its certificate is refused, and one with an unsupported certificate receives the reason.
#[test]
fn an_rsa_certificate_is_refused_for_its_signature_or_its_size() {
    for (identity, code) in [(Identity::ForgedRsa, "dtls-failed"), (Identity::ShortRsa, "unsupported-certificate")] {
        let mut sim = sparse(211);
        sim.join("ann");
        sim.join_as("mal", |habits| habits.identity = identity);
        sim.run(secs(20));
        let mal = sim.browser("mal");
        // Any third party may have caused the first failure, so the server offers one more transport.
        assert_eq!(mal.renewals, 1, "{identity:?}");
        assert_eq!(mal.closed, Some((1008, code.to_owned())), "{identity:?}");
        assert_eq!(mal.page.error_codes(), [code], "{identity:?}");
        assert_eq!(mal.connected_at, None, "{identity:?}");
        assert!(mal.watched.is_empty() && !sim.sees("ann", "mal"), "{identity:?}");
    }
}

/// Failed handshakes, which any third party can cause, must not block a network.
#[test]
fn failures_that_a_third_party_may_have_caused_do_not_block_a_network() {
    let mut sim = sparse(215);
    let from_one_network = |habits: &mut Habits| habits.addrs[0].set_ip([203, 0, 113, 9].into());
    for number in 0..12 {
        sim.join_as(&format!("mal{number}"), |habits| {
            from_one_network(habits);
            habits.identity = Identity::ForgedRsa;
            habits.sources.clear();
        });
    }
    sim.run(secs(20));
    for number in 0..12 {
        let mal = sim.browser(&format!("mal{number}"));
        assert_eq!(mal.closed, Some((1008, "dtls-failed".to_owned())), "{number}");
    }
    sim.join("ann");
    sim.join_as("bob", from_one_network);
    sim.run(secs(3));
    assert!(sim.sees("ann", "bob") && sim.hears("bob", "ann"));
}

/// An unencrypted DTLS record with this fragment.
fn record(kind: u8, fragment: &[u8]) -> Vec<u8> {
    [&[kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 77], &(fragment.len() as u16).to_be_bytes()[..], fragment].concat()
}

/// A Certificate message with this certificate, or its first bytes only.
fn certificate(der: &[u8], bytes: usize) -> Vec<u8> {
    let length = |length: usize| (length as u32).to_be_bytes()[1..].to_vec();
    let body = [length(der.len() + 3), length(der.len()), der.to_vec()].concat();
    let bytes = bytes.min(body.len());
    let header = [&[11][..], &length(body.len()), &[0, 1, 0, 0, 0], &length(bytes)].concat();
    record(22, &[&header, &body[..bytes]].concat())
}

/// Bob joins while an attacker spoofs this datagram from his address every millisecond of his first handshake.
fn join_under_fire(sim: &mut Sim, datagram: &[u8]) {
    sim.join("ann");
    sim.run(secs(2));
    let tag = sim.join("bob");
    for _ in 0..5_000 {
        sim.run(millis(1));
        let bob = sim.browser("bob");
        if bob.connected_at.is_some() || bob.renewals > 0 {
            break;
        }
        let (source, destination) = (bob.habits.addrs[0], sim.candidates[0]);
        assert!(!sim.links[tag].is_cut);
        sim.send_raw(source, destination, datagram.to_vec(), 1);
    }
}

/// No part of a handshake is authenticated before its end.
#[test]
fn no_spoofed_datagram_ends_a_handshake() {
    let long = vec![7; 3_000];
    for (case, datagram) in [
        ("a fatal alert", record(21, &[2, 40])),
        ("a certificate above the size limit", certificate(&long, 900)),
        ("a first fragment that announces a length above the limit", certificate(&long, 4)),
        ("no certificate", record(22, &[11, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0])),
        ("an incomplete message", record(22, &[20, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 1, 7])),
        ("unencrypted application data", record(23, &[7; 30])),
        ("a change of cipher spec", record(20, &[1])),
    ] {
        let mut sim = sparse(213);
        join_under_fire(&mut sim, &datagram);
        sim.run(secs(8));
        let bob = sim.browser("bob");
        assert!(bob.page.media.is_empty() && bob.page.errors.is_empty(), "{case}: {:?}", bob.page.errors);
        assert_eq!((bob.renewals, &bob.closed), (0, &None), "{case}");
        sim.assert_complete("main");
    }
}

/// A complete spoofed certificate, which dimpl accepts as the client's, so this handshake cannot succeed any more.
#[test]
fn a_handshake_that_a_third_party_broke_is_repeated() {
    let (other, _) = Identity::Rsa.rsa().expect("the identity has an RSA certificate");
    let mut sim = sparse(214);
    join_under_fire(&mut sim, &certificate(&other.certificate, usize::MAX));
    sim.run(secs(8));
    let bob = sim.browser("bob");
    assert_eq!((bob.renewals, &bob.closed), (1, &None), "{:?}", bob.page.errors);
    assert_eq!(bob.page.media[0].1["reason"], "dtls-failed");
    sim.assert_complete("main");
}

/// An answer is on its way when its transport ends: it is ignored as late and not treated as an error.
#[test]
fn an_answer_to_an_offer_of_the_previous_transport_is_not_an_error() {
    for held in [0, 1_900] {
        let mut sim = sparse(212);
        sim.join("ann");
        let bob = sim.join("bob");
        sim.run(secs(3));
        block(&mut sim, "bob", true);
        sim.run(secs(23) + millis(500));
        sim.publish("ann", Source::Screen);
        sim.links[bob].up_held = Some(Vec::new());
        sim.run(millis(500));
        // Wait until the server has announced another transport; with `held`, until its offer is there as well.
        while !sim.browser("bob").page.media.iter().any(|(_, media)| media["retry_ms"].is_number()) {
            sim.run(millis(50));
        }
        sim.run(millis(held));
        block(&mut sim, "bob", false);
        sim.release_up(bob);
        sim.run(secs(8));
        assert_eq!(sim.browser("bob").closed, None, "{:?}", sim.browser("bob").page.errors);
        sim.assert_complete("main");
        assert!(sim.browser("ann").page.left.is_empty());
    }
}

/// A client with a fixed port crashes and starts again, without its `resume` secret.
#[test]
fn an_address_whose_holder_crashed_soon_belongs_to_its_next_user() {
    let mut sim = sparse(214);
    sim.join("ann");
    sim.join("bob");
    sim.run(secs(5));
    let addrs = sim.browser("bob").habits.addrs.clone();
    sim.crash("bob");
    sim.join_as("cat", |habits| habits.addrs = addrs);
    sim.run(secs(8));
    assert!(sim.sees("ann", "cat") && sim.sees("cat", "ann"));
}

/// The signaling of a participant ends and its media goes on: nobody else can take its address.
#[test]
fn an_address_whose_holder_sends_media_without_signaling_stays_with_it() {
    let mut sim = sparse(215);
    sim.join("ann");
    sim.join("bob");
    sim.join("mallory");
    sim.run(secs(5));
    let bob = sim.tag("bob");
    sim.hang_up(bob, true);
    for _ in 0..80 {
        sim.forge_check("mallory", "bob");
        sim.run(millis(100));
        assert!(sim.sees("ann", "bob"), "bob's media stopped at {:?}", sim.elapsed());
    }
}
