//! Cameras whose layers share one SSRC, and which layers each subscriber receives.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use str0m::format::Codec;

use crate::decoder::encoder::Mode;
use crate::encoding::Encoding;
use crate::media::{Camera, Rate};
use crate::network::Path;
use crate::sim::{Sim, World};
use crate::story::{millis, secs};

const ENCODINGS: [Encoding; 4] = [
    Encoding::new(Codec::Vp9, Mode::Vp9L3T3Key),
    Encoding::new(Codec::Vp9, Mode::Vp9L3T3),
    Encoding::new(Codec::Av1, Mode::Av1L3T3Key),
    Encoding::new(Codec::Av1, Mode::Av1L3T3),
];

/// Heights of a tile, each with the layers that it receives, as bits.
const TILES: [(u32, u8); 3] = [(180, 0b001), (360, 0b011), (720, 0b111)];

/// Ann publishes a camera with spatial layers, and `viewers` watch it.
fn call(seed: u64, encoding: Encoding, viewers: &[&str]) -> Sim {
    let mut sim = Sim::with(World { rate: Rate::LEAN, ..World::new(seed) });
    sim.join_as("ann", |habits| {
        (habits.encoding, habits.sources) = (Some(encoding), vec![Camera]);
    });
    for name in viewers {
        sim.watch(name);
        sim.browser_mut(name).encoded = Some(Vec::new());
    }
    sim
}

impl Sim {
    /// The pictures that `name` has received, each as the bits of its spatial layers. Panics if a decoder would not
    /// have accepted them.
    fn spatial_pictures(&self, name: &str, codec: Codec) -> Vec<u8> {
        let decoders = self.assert_encoded_decodable(name, codec);
        decoders.into_iter().flat_map(|decoder| decoder.pictures).collect()
    }

    /// The packets that `name` has received, payload and marker.
    fn spatial_packets(&self, name: &str) -> Vec<(Vec<u8>, bool)> {
        let packets = self.browser(name).encoded.as_ref().expect("encoded packets are recorded");
        packets.iter().map(|packet| (packet.payload.to_vec(), packet.header.marker)).collect()
    }
}

#[test]
fn a_tile_gets_the_spatial_layers_of_its_size_and_other_viewers_are_unaffected() {
    for encoding in ENCODINGS {
        let Encoding { codec, mode, .. } = encoding;
        let mut sim = call(770, encoding, &["bob", "cat"]);
        sim.run(secs(4));
        let began = sim.spatial_packets("cat").len();
        for round in 0..18 {
            let (height, layers) = TILES[[0, 2, 1, 2, 1, 0][round % 6]];
            let asked = sim.publication("ann", Camera).keyframe_requests.len();
            sim.show("bob", "ann", height);
            // The highest layer may have to wait for a probe of the path.
            sim.run(millis(1_200));
            let pictures = sim.spatial_pictures("bob", codec);
            assert!(pictures.iter().all(|picture| TILES.iter().any(|(_, layers)| picture == layers)), "{pictures:?}");
            let last = &pictures[pictures.len() - 10..];
            assert!(last.iter().all(|picture| *picture == layers), "{mode:?}: height {height} gets {last:?}");
            let quality = sim.quality("bob", "ann", Camera).expect("quality was reported");
            assert_eq!(quality["height"], height, "{quality}");
            let asked = sim.publication("ann", Camera).keyframe_requests.len() - asked;
            assert!(asked <= 1, "{mode:?}: {asked} keyframe requests for height {height}");
        }
        // 30 pictures per second without loss.
        assert!(sim.spatial_pictures("bob", codec).len() > 24 * 30, "{mode:?}");
        sim.assert_no_gaps();
        let (got, sent) = (&sim.spatial_packets("cat")[began..], &sim.publication("ann", Camera).layers[0].encoded);
        let first = sent.windows(2).position(|packets| packets == &got[..2]).expect("ann sent what cat received");
        assert!(
            got.len() > 20 * 180 && sent[first..].starts_with(got),
            "{mode:?}: cat must receive the same packets as before"
        );
        assert!(sim.browser("ann").page.layers_told.is_empty(), "spatial layers cannot be paused one by one");
    }
}

#[test]
fn spatial_layers_switch_despite_loss_and_reordering() {
    let viewers = ["bob", "cat", "dan", "eli"];
    let late = Path::GOOD.with_disorder(0.1);
    for (index, encoding) in ENCODINGS.into_iter().enumerate() {
        for (path, most) in [(late, 0), (late.with_loss(0.02), 8)] {
            let mut sim = call(771 + index as u64, encoding, &viewers);
            let mut rng = StdRng::seed_from_u64(771);
            sim.run(secs(3));
            ["ann"].iter().chain(&viewers).for_each(|name| sim.set_path(name, path));
            let end = sim.now + secs(20);
            while sim.now < end {
                let viewer = viewers[rng.random_range(0..viewers.len())];
                sim.show(viewer, "ann", TILES[rng.random_range(0..TILES.len())].0);
                sim.run(millis(rng.random_range(0..200)));
            }
            for name in viewers {
                let pictures = sim.spatial_pictures(name, encoding.codec);
                let changes = pictures.windows(2).filter(|pair| pair[0] != pair[1]).count();
                assert!(pictures.len() > 550 && changes > 15, "{name}: {} pictures, {changes} changes", pictures.len());
                // A packet that was not retransmitted in time leaves a picture incomplete.
                let is_whole = |picture: &u8| TILES.iter().any(|(_, layers)| picture == layers);
                let broken = pictures.iter().filter(|picture| !is_whole(picture)).count();
                assert!(broken <= most, "{:?}: {name} gets {broken} broken pictures", encoding.mode);
            }
        }
    }
}

#[test]
fn a_slow_path_gets_only_the_spatial_layers_that_fit() {
    for encoding in ENCODINGS {
        let Encoding { codec, mode, .. } = encoding;
        let mut sim = call(775, encoding, &["bob", "cat"]);
        sim.run(secs(6));
        sim.narrow("bob", 400_000);
        sim.run(secs(12));
        let before = sim.spatial_pictures("bob", codec).len();
        sim.run(secs(6));
        let pictures = sim.spatial_pictures("bob", codec);
        // All pictures of the lowest layer, or half of those of the next one.
        let shown = &pictures[before..];
        let highest = shown.iter().filter(|picture| **picture == 0b111).count();
        assert!(shown.len() > 80 && highest < 10, "{mode:?}: {} pictures in 6 s: {shown:?}", shown.len());
        assert_eq!(sim.quality("bob", "ann", Camera).expect("quality was reported")["limit"], "bandwidth");
        sim.widen("bob");
        sim.run(secs(20));
        let pictures = sim.spatial_pictures("bob", codec);
        assert!(pictures.ends_with(&[0b111; 30]), "{mode:?}: {:?}", &pictures[pictures.len() - 30..]);
        let pictures = sim.spatial_pictures("cat", codec);
        assert!(pictures[6 * 30..].iter().all(|picture| *picture == 0b111), "{mode:?}: cat's path is not limited");
    }
}

#[test]
fn spatial_layers_can_end_and_return_without_a_freeze() {
    for encoding in ENCODINGS {
        let Encoding { codec, mode, .. } = encoding;
        let mut sim = call(776, encoding, &["bob", "cat"]);
        sim.run(secs(4));
        sim.show("cat", "ann", 360);
        sim.run(secs(1));
        let encoder = |sim: &mut Sim, layers| {
            let encoder =
                sim.publication_mut("ann", Camera).layers[0].encoder.as_mut().expect("the camera has an encoder");
            encoder.spatial_layers = layers;
            encoder.request_keyframe();
        };
        // Number of layers sent, the bits that Bob and Cat receive, and the largest number of keyframe requests beyond
        // the initial keyframe: the bitrate of the third layer may at first be overestimated.
        for (layers, of_bob, of_cat, most) in
            [(2, 0b011, 0b011, 0), (1, 1, 1, 0), (2, 0b011, 0b011, 0), (3, 0b111, 0b011, 1)]
        {
            let asked = sim.publication("ann", Camera).keyframe_requests.len();
            encoder(&mut sim, layers);
            sim.run(secs(2));
            for (name, expected) in [("bob", of_bob), ("cat", of_cat)] {
                let pictures = sim.spatial_pictures(name, codec);
                let last = &pictures[pictures.len() - 20..];
                assert!(
                    last.iter().all(|picture| *picture == expected),
                    "{mode:?}: {name} gets {last:?} of {layers} layers"
                );
            }
            let asked = sim.publication("ann", Camera).keyframe_requests.len() - asked;
            assert!(asked <= most, "{mode:?}: {asked} keyframe requests for {layers} layers");
        }
    }
}

#[test]
fn a_camera_with_spatial_layers_and_no_viewers_is_paused_entirely() {
    let mut sim = call(777, ENCODINGS[0], &["bob"]);
    sim.run(secs(4));
    let layer_counts =
        |sim: &Sim| sim.browser("ann").page.layers_told.iter().map(|(_, rids)| rids.len()).collect::<Vec<_>>();
    for (height, expected) in [(180, &[][..]), (0, &[0]), (180, &[0, 3]), (0, &[0, 3, 0]), (720, &[0, 3, 0, 3])] {
        sim.show("bob", "ann", height);
        sim.run(secs(5));
        assert_eq!(layer_counts(&sim), expected, "height {height}");
    }
    let pictures = sim.spatial_pictures("bob", Codec::Vp9);
    assert!(pictures.ends_with(&[0b111; 30]));
}
