//! Hundreds of switches between layers, checked by a strict decoder.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use str0m::format::Codec;

use crate::decoder::Decoder;
use crate::decoder::encoder::Mode;
use crate::encoding::Encoding;
use crate::media::{Camera, Microphone, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const VIEWERS: [&str; 10] = ["bob", "cat", "dan", "eli", "fay", "gil", "hal", "ivy", "jon", "kim"];
const HEIGHTS: [u32; 3] = [180, 360, 720];

/// Viewers change their tile's size at random until `switches` layer switches have happened. Returns their decoders.
fn switch(seed: u64, path: Path, switches: usize) -> (Sim, Vec<Decoder>) {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(seed) });
    let mut rng = StdRng::seed_from_u64(seed);
    sim.join_with_layers("ann");
    sim.run(secs(1));
    sim.unpublish("ann", Microphone);
    sim.publication_mut("ann", Camera).keys_all = true;
    for name in VIEWERS {
        sim.watch(name);
        sim.browser_mut(name).packets = Some(Vec::new());
    }
    sim.run(secs(3));
    ["ann"].iter().chain(&VIEWERS).for_each(|name| sim.set_path(name, path));
    let count = |sim: &Sim| -> usize {
        let watched = VIEWERS.map(|name| sim.watched(name, "ann", Camera).expect("video was received"));
        watched.iter().map(|watched| watched.layers.len() - 1).sum()
    };
    while count(&sim) < switches {
        assert!(sim.elapsed() < secs(120), "only {} switches in two minutes", count(&sim));
        let viewer = VIEWERS[rng.random_range(0..VIEWERS.len())];
        sim.show(viewer, "ann", HEIGHTS[rng.random_range(0..HEIGHTS.len())]);
        sim.run(millis(rng.random_range(0..60)));
    }
    sim.run(secs(1));
    let decoders = VIEWERS.iter().flat_map(|name| sim.assert_decodable(name)).collect();
    (sim, decoders)
}

#[test]
fn five_hundred_switches_break_no_picture() {
    let (sim, decoders) = switch(760, Path::GOOD, 500);
    let seen: usize = decoders.iter().map(|decoder| decoder.switches).sum();
    assert!(seen >= 500, "only {seen} switches");
    for name in VIEWERS {
        let watched = sim.watched(name, "ann", Camera).expect("video was received");
        assert!(watched.longest_gap < millis(150), "{name}'s video froze for {:?}", watched.longest_gap);
        assert_eq!(watched.keyframe_requests, 0, "{name}'s decoder had to request a keyframe");
    }
    sim.assert_no_gaps();
}

#[test]
fn five_hundred_switches_break_no_picture_despite_loss_and_reordering() {
    let (sim, decoders) = switch(761, Path::GOOD.with_loss(0.02).with_disorder(0.02), 500);
    let seen: usize = decoders.iter().map(|decoder| decoder.switches).sum();
    assert!(seen >= 490, "only {seen} switches");
    for name in VIEWERS {
        let watched = sim.watched(name, "ann", Camera).expect("video was received");
        assert!(watched.longest_gap < millis(600), "{name}'s video froze for {:?}", watched.longest_gap);
    }
}

#[test]
fn switches_break_no_picture_of_any_codec() {
    let encodings = [(Codec::Vp9, Mode::Vp9L1T3), (Codec::Av1, Mode::Av1L1T3), (Codec::H264, Mode::H264)];
    for (codec, mode) in encodings {
        for path in [Path::GOOD, Path::GOOD.with_loss(0.02).with_disorder(0.02)] {
            let mut sim = Sim::new(762);
            let mut rng = StdRng::seed_from_u64(762);
            sim.join_as("ann", |habits| {
                (habits.simulcast, habits.encoding) = (true, Some(Encoding::new(codec, mode)));
                habits.sources = vec![Camera];
            });
            for name in VIEWERS {
                sim.watch(name);
                sim.browser_mut(name).encoded = Some(Vec::new());
            }
            sim.run(secs(3));
            ["ann"].iter().chain(&VIEWERS).for_each(|name| sim.set_path(name, path));
            let end = sim.now + secs(30);
            while sim.now < end {
                let viewer = VIEWERS[rng.random_range(0..VIEWERS.len())];
                sim.show(viewer, "ann", HEIGHTS[rng.random_range(0..HEIGHTS.len())]);
                sim.run(millis(rng.random_range(0..100)));
            }
            let decoders: Vec<_> = VIEWERS.iter().flat_map(|name| sim.assert_encoded_decodable(name, codec)).collect();
            let switches: usize = decoders.iter().map(|decoder| decoder.switches).sum();
            let pictures = decoders.iter().map(|decoder| decoder.frames.iter().sum::<usize>()).min();
            assert!(decoders.len() == VIEWERS.len() && switches > 100, "only {switches} switches of {codec:?}");
            assert!(pictures > Some(700), "{pictures:?} pictures of {codec:?} in 33 s");
        }
    }
}
