//! Tests of the codec modules together: simulated sources are described, renumbered and patched, and a decoder model
//! rejects streams that it could not decode.

use std::time::Instant;

use str0m::format::Codec;

use crate::media::decoder::Decoder;
use crate::media::decoder::encoder::{Encoder, Mode, Sent};
use crate::media::rtp::codec::arrival::Arrival;
use crate::media::rtp::codec::configuration::Configuration;
use crate::media::rtp::codec::dependency::Structure;
use crate::media::rtp::codec::{Ids, PictureId, describe, patch, patch_dependency};
use crate::media::subscribe::picture_ids::PictureIds;

const MODES: [(Mode, Codec); 9] = [
    (Mode::Vp8, Codec::Vp8),
    (Mode::Vp8L1T3, Codec::Vp8),
    (Mode::Vp9L1T3, Codec::Vp9),
    (Mode::Vp9L3T3Key, Codec::Vp9),
    (Mode::Vp9L3T3, Codec::Vp9),
    (Mode::Av1L1T3, Codec::Av1),
    (Mode::Av1L3T3Key, Codec::Av1),
    (Mode::Av1L3T3, Codec::Av1),
    (Mode::H264, Codec::H264),
];

/// The modes with spatial layers.
const SPATIAL: [Mode; 4] = [Mode::Vp9L3T3Key, Mode::Vp9L3T3, Mode::Av1L3T3Key, Mode::Av1L3T3];

/// A deliberate fault of the forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    SwitchesAnywhere,
    KeepsNumbers,
    CountsDropped,
    DoesNotCountDropped,
    RaisesAnywhere,
    KeepsMarker,
    RepeatsTimestamp,
    CutsFrames,
}

/// A minimal forwarder of simulcast and temporal layers into one SSRC.
struct Forwarder {
    codec: Codec,
    flaw: Flaw,
    structures: [Structure; 2],
    configurations: [Configuration; 2],
    picture_ids: PictureIds,
    source: Option<usize>,
    wanted: usize,
    /// The wanted layers, and those being sent.
    target: (u8, u8),
    spatial: u8,
    temporal: u8,
    is_sending: bool,
    dropped: u16,
    seq_no: u64,
    timestamp: u32,
    timestamp_offset: u32,
}

impl Forwarder {
    fn new(codec: Codec, flaw: Flaw) -> Self {
        Self {
            codec,
            flaw,
            structures: Default::default(),
            configurations: Default::default(),
            picture_ids: PictureIds::default(),
            source: None,
            wanted: 0,
            target: (2, 2),
            spatial: 2,
            temporal: 0,
            is_sending: false,
            dropped: 0,
            seq_no: 30_000,
            timestamp: u32::MAX - 100_000,
            timestamp_offset: 0,
        }
    }

    fn forward(&mut self, source: usize, sent: &Sent) -> Vec<Sent> {
        let mut out = sent.clone();
        let structure = &mut self.structures[source];
        let description = describe(self.codec, sent.marker, &sent.payload, sent.dependency.as_deref(), structure);
        assert_eq!((description.spatial, description.temporal), (sent.spatial, sent.temporal), "{sent:x?}");
        let (can_start, preface) = self.configurations[source].start(
            Instant::now(),
            self.codec,
            sent.timestamp,
            &sent.payload,
            Arrival::of(0, None),
            description.starts_keyframe,
        );
        let can_start = can_start || self.flaw == Flaw::SwitchesAnywhere;
        let mut starts = false;
        if source == self.wanted && self.source != Some(source) && can_start {
            if self.flaw != Flaw::KeepsNumbers || self.source.is_none() {
                self.picture_ids.start();
            }
            self.source = Some(source);
            self.dropped = 0;
            starts = true;
            let next = self.timestamp.wrapping_add(if self.flaw == Flaw::RepeatsTimestamp { 0 } else { 1_000 });
            self.timestamp_offset = next.wrapping_sub(sent.timestamp);
        }
        if self.source != Some(source) {
            return Vec::new();
        }
        if description.starts_keyframe {
            self.spatial = self.target.0;
        }
        self.spatial = self.spatial.min(self.target.0);
        self.temporal = self.temporal.min(self.target.1);
        if description.starts_frame || starts {
            if description.can_switch_up && description.temporal == self.temporal + 1 {
                self.temporal = self.target.1.min(self.temporal + 1);
            }
            self.is_sending = description.temporal <= self.temporal && description.spatial <= self.spatial;
            self.dropped += u16::from(!self.is_sending);
        }
        if !self.is_sending || (self.flaw == Flaw::CutsFrames && !description.starts_frame) {
            return Vec::new();
        }
        let opens_all = self.flaw == Flaw::RaisesAnywhere;
        if description.spatial == self.spatial && (description.starts_frame || opens_all) {
            let opens = if opens_all { 2 } else { description.opens };
            self.temporal = self.temporal.max(opens.min(self.target.1));
        }
        let counts = match self.flaw {
            Flaw::CountsDropped => true,
            Flaw::DoesNotCountDropped => false,
            _ => self.codec == Codec::Vp8,
        };
        let ids = self.picture_ids.map(description.ids, if counts { self.dropped } else { 0 });
        patch(self.codec, &mut out.payload, ids);
        if let Some(element) = &mut out.dependency {
            patch_dependency(element, ids);
        }
        let is_last = description.ends_frame && description.spatial == self.spatial;
        out.marker |= is_last && self.flaw != Flaw::KeepsMarker;
        self.timestamp = sent.timestamp.wrapping_add(self.timestamp_offset);
        out.timestamp = self.timestamp;
        let preface = preface.filter(|_| starts).map(|preface| Sent {
            payload: preface.payload.to_vec(),
            marker: false,
            ..out.clone()
        });
        let mut packets: Vec<Sent> = preface.into_iter().chain([out]).collect();
        for packet in &mut packets {
            self.seq_no += 1;
            packet.seq_no = self.seq_no;
        }
        packets
    }
}

/// Plays pictures of two sources while layers and source change. Every `loss`th outgoing packet is lost.
fn play(mode: Mode, codec: Codec, flaw: Flaw, seed: u64, bits: [u8; 2], loss: u64) -> Result<Decoder, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sources = [Encoder::new(mode, 1, 0x7fe0), Encoder::new(mode, 2, 0x00f0)];
    sources[0].picture_bits = bits[0];
    sources[1].picture_bits = bits[1];
    let mut forwarder = Forwarder::new(codec, flaw);
    let mut decoder = Decoder::new(codec);
    for _ in 0..2_000 {
        match random.u32(..30) {
            0 => forwarder.wanted = 1 - forwarder.wanted,
            1 => forwarder.target.1 = random.u8(..3),
            2 => forwarder.target.0 = random.u8(..3),
            3 => sources[random.usize(..2)].request_keyframe(),
            4..8 if forwarder.source != Some(forwarder.wanted) => sources[forwarder.wanted].request_keyframe(),
            _ => {}
        }
        for (index, source) in sources.iter_mut().enumerate() {
            for sent in source.encode() {
                let mut out = forwarder.forward(index, &sent);
                out.retain(|out| loss == 0 || !out.seq_no.is_multiple_of(loss));
                out.iter().try_for_each(|out| decoder.handle(&out.packet()))?;
            }
        }
    }
    Ok(decoder)
}

#[test]
fn switching_layers_and_sources_yields_a_decodable_stream() {
    for (mode, codec) in MODES {
        for seed in 0..6 {
            let decoder = play(mode, codec, Flaw::None, seed, [15, 15], 0).unwrap_or_else(|reason| {
                panic!("{mode:?}, seed {seed}: {reason}");
            });
            assert!(decoder.switches >= 5, "{mode:?}, seed {seed}: {} switches", decoder.switches);
            let layers = match mode {
                Mode::Vp8 | Mode::H264 => 1,
                _ => 3,
            };
            assert!(decoder.frames[..layers].iter().all(|frames| *frames > 30), "{mode:?} {:?}", decoder.frames);
            let spatial = if SPATIAL.contains(&mode) { 3 } else { 1 };
            let received = decoder.spatial_frames;
            assert!(received[..spatial].iter().all(|frames| *frames > 30), "{mode:?} {received:?}");
        }
    }
}

#[test]
fn picture_ids_of_different_widths_are_decodable() {
    for (mode, codec) in [(Mode::Vp8, Codec::Vp8), (Mode::Vp8L1T3, Codec::Vp8)] {
        for bits in [[15, 7], [7, 15], [7, 7]] {
            for seed in 0..4 {
                let played = play(mode, codec, Flaw::None, seed, bits, 0);
                let decoder = played.unwrap_or_else(|reason| panic!("{mode:?}, {bits:?}, seed {seed}: {reason}"));
                assert!(decoder.switches >= 5, "{mode:?}, {bits:?}, seed {seed}: {}", decoder.switches);
            }
        }
    }
    for bits in [[15, 0], [0, 7], [0, 0]] {
        assert!(play(Mode::Vp8, Codec::Vp8, Flaw::None, 1, bits, 0).unwrap().switches >= 5);
    }
}

#[test]
fn the_decoder_model_accepts_packet_loss() {
    for (mode, codec) in MODES {
        for seed in 0..4 {
            let played = play(mode, codec, Flaw::None, seed, [15, 15], 97);
            played.unwrap_or_else(|reason| panic!("{mode:?}, seed {seed}: {reason}"));
        }
    }
}

/// Checks the decoder model itself: it has to reject each flaw.
#[test]
fn the_decoder_model_rejects_each_flaw() {
    let all = MODES.map(|(mode, _)| mode);
    let numbered = all.into_iter().filter(|mode| *mode != Mode::H264).collect::<Vec<_>>();
    let cases: [(Flaw, &[Mode], &[&str]); 8] = [
        (
            Flaw::SwitchesAnywhere,
            &all,
            &["keyframe", "is not known", "parameter sets", "the group has", "was not received"],
        ),
        (Flaw::KeepsNumbers, &numbered, &["does not follow"]),
        (Flaw::CountsDropped, &[Mode::Vp9L1T3], &["the group has", "was not received", "does not follow"]),
        (Flaw::DoesNotCountDropped, &[Mode::Vp8L1T3], &["does not follow"]),
        (Flaw::RaisesAnywhere, &[Mode::Vp8L1T3], &["was not received", "begins without sync"]),
        (Flaw::KeepsMarker, &SPATIAL, &["has no marker"]),
        (Flaw::RepeatsTimestamp, &all, &["does not go forward"]),
        (Flaw::CutsFrames, &all, &["has no end", "of no frame", "without its last", "has no marker"]),
    ];
    for (flaw, modes, reasons) in cases {
        for (mode, codec) in MODES.into_iter().filter(|(mode, _)| modes.contains(mode)) {
            for seed in 0..5 {
                let reason = play(mode, codec, flaw, seed, [15, 15], 0).err();
                let reason = reason.unwrap_or_else(|| panic!("{flaw:?} of {mode:?} is not detected, seed {seed}"));
                assert!(reasons.iter().any(|known| reason.contains(known)), "{flaw:?} of {mode:?}: {reason}");
            }
        }
    }
}

#[test]
fn arbitrary_bytes_are_described_and_patched() {
    let ids = Ids { picture: Some(PictureId::Long(0x7fff)), tl0_pic_idx: Some(1), frame_number: Some(1) };
    for (mode, codec) in MODES {
        let mut structure = Structure::default();
        let mut encoder = Encoder::new(mode, 1, 9);
        for sent in (0..16).flat_map(|_| encoder.encode()) {
            for length in 0..sent.payload.len() {
                for flip in [0, 0x80, 0xff] {
                    let mut payload = sent.payload[..length].to_vec();
                    payload.iter_mut().for_each(|byte| *byte ^= flip);
                    describe(codec, false, &payload, sent.dependency.as_deref(), &mut structure);
                    patch(codec, &mut payload, ids);
                    assert_eq!(payload.len(), length);
                }
            }
        }
    }
}

#[test]
fn the_decoder_model_accepts_each_source_unchanged() {
    for (mode, codec) in MODES {
        let mut decoder = Decoder::new(codec);
        let mut encoder = Encoder::new(mode, 1, 0x7fff);
        for sent in (0..200).flat_map(|_| encoder.encode()) {
            decoder.handle(&sent.packet()).unwrap_or_else(|reason| panic!("{mode:?}: {reason}"));
        }
    }
}
