//! Late subscribers to cameras that send the decoder configuration once, out of band or in an unusual order, and what
//! `quality` reports while no media is sent.

use serde_json::{Value, json};
use str0m::format::Codec;

use crate::decoder::encoder::{Configured, Mode};
use crate::encoding::Encoding;
use crate::media::{Camera, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

/// Where the sources of each codec may put the decoder configuration.
const SOURCES: [(Codec, Mode, &[Configured]); 5] = [
    (Codec::H264, Mode::H264, &[Configured::Always, Configured::Once, Configured::Apart, Configured::Never]),
    (Codec::Vp9, Mode::Vp9L1T3, &[Configured::Always, Configured::Once]),
    (Codec::Vp9, Mode::Vp9L3T3, &[Configured::Always, Configured::Once]),
    (Codec::Av1, Mode::Av1L1T3, &[Configured::Always, Configured::Once]),
    (Codec::Av1, Mode::Av1L3T3Key, &[Configured::Always, Configured::Once]),
];

/// Ann publishes a camera, and Bob watches it from the start.
fn call(seed: u64, encoding: Encoding, simulcast: bool) -> Sim {
    let mut sim = Sim::new(seed);
    sim.join_as("ann", |habits| {
        (habits.encoding, habits.simulcast, habits.sources) = (Some(encoding), simulcast, vec![Camera]);
    });
    watch(&mut sim, "bob");
    sim
}

fn watch(sim: &mut Sim, name: &str) {
    sim.watch(name);
    sim.browser_mut(name).encoded = Some(Vec::new());
}

/// Number of pictures that could be decoded.
fn pictures(sim: &Sim, name: &str, codec: Codec) -> usize {
    let decoders = sim.assert_encoded_decodable(name, codec);
    decoders.iter().map(|decoder| decoder.frames.iter().sum::<usize>()).sum()
}

#[test]
fn a_late_subscriber_decodes_a_camera_wherever_its_configuration_is_sent() {
    for (codec, mode, all) in SOURCES {
        for configured in all.iter().copied() {
            let simulcasts = if mode == Mode::H264 { &[false, true][..] } else { &[false] };
            for simulcast in simulcasts.iter().copied() {
                let case = format!("{mode:?}, {configured:?}, simulcast {simulcast}");
                let mut sim = call(950, Encoding { codec, mode, configured }, simulcast);
                sim.run(secs(3));
                watch(&mut sim, "cat");
                sim.run(secs(3));
                let quality = sim.quality("cat", "ann", Camera).expect("quality was reported");
                assert!(quality["sent"] == true && quality["limit"] != "keyframe", "{case}: {quality}");
                let decoded = ["bob", "cat"].map(|name| pictures(&sim, name, codec));
                assert!(decoded[0] > 160 && decoded[1] > 75, "{case}: decoded pictures {decoded:?}");
            }
        }
    }
}

#[test]
fn pictures_without_parameter_sets_survive_loss_and_reordering() {
    for configured in [Configured::Once, Configured::Apart, Configured::Never] {
        let mut sim = call(951, Encoding { codec: Codec::H264, mode: Mode::H264, configured }, false);
        sim.run(secs(2));
        sim.set_path("ann", Path::GOOD.with_loss(0.02).with_disorder(0.02));
        sim.set_path("bob", Path::GOOD.with_loss(0.05).with_disorder(0.02));
        // Each late viewer costs Ann a keyframe, which all viewers receive.
        let late: Vec<String> = (0..8).map(|number| format!("viewer{number}")).collect();
        for name in &late {
            watch(&mut sim, name);
            while pictures(&sim, name, Codec::H264) == 0 {
                sim.run(millis(100));
            }
            sim.set_path(name, Path::GOOD.with_loss(0.05).with_disorder(0.02));
        }
        sim.run(secs(4));
        let asked = sim.publication("ann", Camera).keyframe_requests.len();
        assert!(asked >= late.len(), "{asked} keyframe requests");
        for name in ["bob"].into_iter().chain(late.iter().map(String::as_str)) {
            let decoded = pictures(&sim, name, Codec::H264);
            assert!(decoded > 80, "{configured:?}: {name} decodes only {decoded} pictures");
        }
    }
}

/// The last `quality` message to `name` about Ann's camera, without the mid.
fn reported(sim: &Sim, name: &str) -> Value {
    let mut reported = sim.quality(name, "ann", Camera).cloned().unwrap_or_default();
    reported.as_object_mut().map(|reported| reported.remove("mid"));
    reported
}

/// Blocks datagrams from the server to Ann, including keyframe requests.
fn is_deaf(sim: &mut Sim, is_deaf: bool) {
    let ann = sim.tag("ann");
    sim.links[ann].down.is_partitioned = is_deaf;
}

#[test]
fn a_subscriber_that_waits_for_a_keyframe_is_notified() {
    let mut sim = Sim::new(952);
    sim.join("ann");
    sim.run(secs(2));
    is_deaf(&mut sim, true);
    sim.watch("bob");
    sim.run(secs(2));
    assert_eq!(reported(&sim, "bob"), json!({"sent": false, "limit": "keyframe"}));
    is_deaf(&mut sim, false);
    sim.run(secs(2));
    assert_eq!(reported(&sim, "bob"), json!({"sent": true, "height": 480, "limit": "none"}));
    let kinds = sim.browser("bob").page.qualities.len();
    assert_eq!(kinds, 2, "{:?}", sim.browser("bob").page.qualities);
}

#[test]
fn a_subscriber_that_waits_for_another_layer_is_notified_of_the_current_one() {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(953) });
    sim.join_with_layers("ann");
    sim.run(secs(2));
    // Cat makes Ann send the other layers, too.
    sim.watch_tiles("cat", &["ann"], 720);
    sim.watch_tiles("bob", &["ann"], 180);
    sim.run(secs(3));
    let smallest = json!({"sent": true, "rid": "q", "height": 180, "limit": "view"});
    assert_eq!(reported(&sim, "bob"), smallest);
    is_deaf(&mut sim, true);
    sim.show("bob", "ann", 360);
    sim.run(secs(2));
    assert_eq!(reported(&sim, "bob"), json!({"sent": true, "rid": "q", "height": 180, "limit": "keyframe"}));
    assert_eq!(sim.layer_seen("bob", "ann"), Some(0));
    is_deaf(&mut sim, false);
    sim.run(secs(2));
    assert_eq!(reported(&sim, "bob"), json!({"sent": true, "rid": "h", "height": 360, "limit": "view"}));
    assert_eq!(sim.layer_seen("bob", "ann"), Some(1));
}

#[test]
fn a_subscriber_of_a_silent_publisher_is_notified() {
    let mut sim = Sim::new(956);
    sim.join("ann");
    sim.watch("bob");
    sim.run(secs(3));
    let well = json!({"sent": true, "height": 480, "limit": "none"});
    assert_eq!(reported(&sim, "bob"), well);
    let before = sim.browser("bob").page.qualities.len();
    // A still picture is repeated once per second.
    for _ in 0..8 {
        sim.publication_mut("ann", Camera).next_at += millis(970);
        sim.run(secs(1));
    }
    assert_eq!(sim.browser("bob").page.qualities.len(), before);
    sim.publication_mut("ann", Camera).next_at += secs(20);
    sim.run(secs(8));
    let nothing = json!({"sent": false, "limit": "publisher"});
    assert_eq!(reported(&sim, "bob"), nothing);
    sim.watch("cat");
    sim.run(secs(2));
    assert_eq!(reported(&sim, "cat"), nothing);
    sim.run(secs(13));
    assert_eq!(["bob", "cat"].map(|name| reported(&sim, name)), [well.clone(), well]);
    assert_eq!(sim.browser("bob").page.qualities.len() - before, 2, "each change must be reported once");
}

#[test]
fn a_subscriber_is_notified_of_unsupported_codecs_and_oversized_packets() {
    let mut sim = Sim::new(954);
    sim.join("ann");
    sim.watch("bob");
    sim.join_as("cat", |habits| (habits.h264_only, habits.sources) = (true, Vec::new()));
    sim.run(secs(2));
    assert_eq!(reported(&sim, "cat"), json!({"sent": false, "limit": "codec"}));
    let well = json!({"sent": true, "height": 480, "limit": "none"});
    assert_eq!(reported(&sim, "bob"), well);
    let before = sim.browser("bob").page.qualities.len();
    for _ in 0..20 {
        sim.send_oversized("ann", 1_500);
        sim.run(millis(200));
    }
    assert_eq!(reported(&sim, "bob"), json!({"sent": true, "height": 480, "limit": "oversized"}));
    sim.run(secs(6));
    assert_eq!(reported(&sim, "bob"), well);
    assert_eq!(sim.browser("bob").page.qualities.len() - before, 2, "each change must be reported once");
    // Only oversized packets are sent.
    let mut sim = Sim::new(955);
    sim.join("ann");
    sim.watch("bob");
    sim.run(millis(60));
    sim.publication_mut("ann", Camera).next_at += secs(60);
    while sim.browser("bob").connected_at.is_none() {
        sim.run(millis(50));
    }
    for _ in 0..5 {
        sim.send_oversized("ann", 1_500);
        sim.run(millis(200));
    }
    assert_eq!(reported(&sim, "bob"), json!({"sent": false, "limit": "oversized"}));
}
