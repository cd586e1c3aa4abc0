//! The codec configuration that a decoder needs to start at a keyframe, collected per SSRC: H.264 parameter sets, the
//! AV1 sequence header, the VP9 scalability structure. VP8 needs none.
//!
//! The newest in sequence number order is kept, even if packets are reordered: a late packet adds missing parts and
//! replaces only older ones.
//!
//! Publishers may send the configuration only once, and late subscribers would never be able to start. So AV1's and
//! VP9's is inserted into each keyframe without it. H.264's must not share a packet with a fragment; it is sent in a
//! packet of its own before a subscriber's first packet.
//!
//! The templates of a dependency descriptor are not kept: the first packet of each coded video sequence has to contain
//! them (AV1 RTP payload specification, appendix A.4.2, `template_dependency_structure_present_flag`), and libwebrtc
//! sends them in the first packet of each keyframe of any codec. Decoding cannot start at an AV1 keyframe without them
//! (see [`av1::describe`]).

use std::time::{Duration, Instant};

use str0m::format::Codec;

use crate::media::rtp::codec::arrival::{Arrival, Order};
use crate::media::rtp::codec::description::Found;
use crate::media::rtp::codec::parameter_sets::{ParameterSets, Preface, Start};
use crate::media::rtp::codec::{av1, vp9};

/// Maximum size in bytes of a sequence header or scalability structure that is kept. Sequence headers have 11 to 20
/// bytes, the structure of three spatial and three temporal layers has 22. A lower value drops required data; a higher
/// one lets packets grow by more.
pub const MAX_ADDED_BYTES: usize = 48;

/// The configuration received on one SSRC.
#[derive(Debug, Default)]
pub struct Configuration {
    /// AV1 sequence header or VP9 scalability structure, as in the packets.
    kept: Vec<u8>,
    /// Extended sequence number of the packet that contained it, even if it was too large to be kept.
    kept_at: Option<u64>,
    /// The codec of `kept`, and the first sequence number with that codec.
    codec: Option<(Codec, u64)>,
    /// H.264 parameter sets.
    pub sets: ParameterSets,
    dropped: u64,
}

impl Configuration {
    /// Upper bound of the heap memory in bytes, including copies held by histories that keep packets for `age`.
    pub const fn max_bytes(age: Duration) -> usize {
        MAX_ADDED_BYTES + ParameterSets::max_bytes(age)
    }

    /// Keeps the configuration that a packet contains. If the packet starts a keyframe without it, returns the payload
    /// with the kept configuration inserted, unless that exceeds `most` bytes.
    pub fn complete(&mut self, codec: Codec, payload: &[u8], seq_no: u64, most: usize) -> Option<Vec<u8>> {
        let found = match codec {
            Codec::Vp9 => vp9::find_structure(payload)?,
            Codec::Av1 => av1::find_sequence_header(payload)?,
            _ => return None,
        };
        match self.codec {
            Some((known, _)) if known == codec => {}
            Some((_, since)) if seq_no < since => return None,
            _ => {
                self.codec = Some((codec, seq_no));
                self.kept_at = None;
                self.kept.clear();
            }
        }
        // The kept configuration belongs to a later keyframe, which may differ in size.
        if self.kept_at.is_some_and(|kept_at| kept_at > seq_no) {
            return None;
        }
        match found {
            Found::Brought(bytes) => {
                self.kept_at = Some(seq_no);
                if bytes.len() > MAX_ADDED_BYTES {
                    self.dropped += 1;
                    self.kept.clear();
                } else if bytes != self.kept {
                    self.kept = bytes.to_vec();
                }
                None
            }
            Found::Missing if self.kept.is_empty() => None,
            Found::Missing => {
                let completed = match codec {
                    Codec::Vp9 => vp9::with_structure(payload, &self.kept),
                    _ => av1::with_sequence_header(payload, &self.kept),
                };
                let fits = |completed: &Vec<u8>| completed.len() <= most;
                self.dropped += u64::from(!completed.as_ref().is_some_and(fits));
                completed.filter(fits)
            }
        }
    }

    /// Returns whether a subscriber can start at this packet, and what to send before it. `starts_keyframe` is taken
    /// from the packet's description after `complete`.
    pub fn start(
        &mut self,
        now: Instant,
        codec: Codec,
        timestamp: u32,
        payload: &[u8],
        arrival: Arrival,
        starts_keyframe: bool,
    ) -> (bool, Option<Box<Preface>>) {
        match codec {
            Codec::H264 => match self.sets.handle_packet(now, timestamp, payload, arrival) {
                Start::No => (false, None),
                Start::Alone => (true, None),
                Start::With(preface) => (true, Some(Box::new(preface))),
            },
            // A first packet that was retransmitted arrives after the rest of its frame, which was not forwarded.
            // Starting here would leave a gap that no retransmission can fill.
            _ => (starts_keyframe && arrival.order != Order::Late, None),
        }
    }

    /// Returns the number of parts since the last call that were not kept, or not inserted where they were required.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped) + self.sets.take_dropped()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;

    /// A codec, a packet with its configuration, another packet, and the expected completion of that one.
    type Case<'a> = (Codec, &'a [u8], &'a [u8], Option<&'a [u8]>);

    /// Packets with a configuration, as sequence number and value; the sequence number of a keyframe without one, and
    /// the value it gets.
    type InOrder<'a> = (&'a [(u64, u8)], u64, Option<u8>);

    #[test]
    fn a_configuration_sent_once_is_inserted_into_each_keyframe() {
        // AV1: OBUs with all values of the count; VP9: a descriptor in flexible and one in non-flexible mode.
        let header = [0x08, 1, 2, 3];
        let bring_av1 = &[0x68, 4, 0x08, 1, 2, 3, 0x30, 0x10][..];
        let bring_vp9 = &[0xaa, 0x92, 0x34, 0x10, 0x07, 0x10, 0x02, 0x80, 0x01, 0x68, 0x82][..];
        let cases: [Case; 16] = [
            (Codec::Av1, bring_av1, &[0x50, 0x30, 0x10], Some(&[0x68, 4, 0x08, 1, 2, 3, 0x30, 0x10])),
            (Codec::Av1, bring_av1, &[0x10, 0x32, 1, 0x10], Some(&[0x28, 4, 0x08, 1, 2, 3, 0x32, 1, 0x10])),
            (Codec::Av1, bring_av1, &[0x20, 2, 0x30, 0x10, 9], Some(&[0x38, 4, 0x08, 1, 2, 3, 2, 0x30, 0x10, 9])),
            (
                Codec::Av1,
                bring_av1,
                &[0x30, 2, 0x30, 0x10, 1, 9, 8, 8],
                Some(&[0x08, 4, 0x08, 1, 2, 3, 2, 0x30, 0x10, 1, 9, 2, 8, 8]),
            ),
            (Codec::Av1, bring_av1, &[0x00, 2, 0x18, 0x10], Some(&[0x08, 4, 0x08, 1, 2, 3, 2, 0x18, 0x10])),
            (Codec::Av1, bring_av1, &[0x10, 0x34, 0x00, 0x10], Some(&[0x28, 4, 0x08, 1, 2, 3, 0x34, 0x00, 0x10])),
            // An upper spatial layer; not a keyframe; a keyframe that is not shown; an earlier one shown; the end of an
            // OBU; a packet with a sequence header of its own; a packet cut short.
            (Codec::Av1, bring_av1, &[0x10, 0x34, 0x08, 0x10], None),
            (Codec::Av1, bring_av1, &[0x10, 0x30, 0x30], None),
            (Codec::Av1, bring_av1, &[0x10, 0x30, 0x00], None),
            (Codec::Av1, bring_av1, &[0x10, 0x30, 0x90], None),
            (Codec::Av1, bring_av1, &[0x90, 0x30, 0x10], None),
            (Codec::Av1, bring_av1, &[0x20, 9, 0x30, 0x10], None),
            (
                Codec::Vp9,
                bring_vp9,
                &[0xa8, 0x92, 0x35, 0x10, 0x07, 0x82],
                Some(&[0xaa, 0x92, 0x35, 0x10, 0x07, 0x10, 0x02, 0x80, 0x01, 0x68, 0x82]),
            ),
            (Codec::Vp9, bring_vp9, &[0xe8, 0x92, 0x35, 0x10, 0x07, 0x82], None),
            (Codec::Vp9, bring_vp9, &[0xa8, 0x92, 0x35, 0x12, 0x07, 0x82], None),
            (Codec::Vp9, bring_vp9, &[0xa8, 0x92, 0x35, 0x10, 0x07], None),
        ];
        for (codec, brings, payload, expected) in cases {
            let mut configuration = Configuration::default();
            assert_eq!(configuration.complete(codec, payload, 0, 100), None, "no configuration yet: {payload:x?}");
            assert_eq!(configuration.complete(codec, brings, 1, 100), None, "contains its own: {brings:x?}");
            assert_eq!(configuration.complete(codec, payload, 2, 100).as_deref(), expected, "{payload:x?}");
            assert_eq!(configuration.take_dropped(), 0);
            assert_eq!(configuration.complete(codec, payload, 3, payload.len() + 1), None);
            assert_eq!(configuration.take_dropped(), u64::from(expected.is_some()), "no room: {payload:x?}");
        }
        assert!(bring_av1.windows(4).any(|bytes| bytes == header));
    }

    #[test]
    fn the_configuration_of_one_codec_is_not_inserted_into_another() {
        let mut configuration = Configuration::default();
        let bring_vp9 = &[0xaa, 0x92, 0x34, 0x10, 0x07, 0x10, 0x02, 0x80, 0x01, 0x68, 0x82];
        let bare_vp9 = &[0xa8, 0x92, 0x35, 0x10, 0x07, 0x82];
        configuration.complete(Codec::Av1, &[0x68, 4, 0x08, 1, 2, 3, 0x30, 0x10], 0, 100);
        assert_eq!(configuration.complete(Codec::Vp9, bare_vp9, 9, 100), None);
        configuration.complete(Codec::Vp9, bring_vp9, 10, 100);
        assert_eq!(
            configuration.complete(Codec::Av1, &[0x50, 0x30, 0x10], 8, 100),
            None,
            "late, of the previous codec"
        );
        assert!(configuration.complete(Codec::Vp9, bare_vp9, 11, 100).is_some(), "the late packet changes nothing");
        assert_eq!(configuration.complete(Codec::Av1, &[0x50, 0x30, 0x10], 12, 100), None, "it may have changed since");
    }

    #[test]
    fn the_newest_by_sequence_number_is_kept_even_if_packets_are_reordered() {
        let av1 = |value: u8| vec![0x68, 4, 0x08, value, 2, 3, 0x30, 0x10];
        let vp9 = |value: u8| vec![0xaa, 0x92, 0x34, 0x10, 0x07, 0x10, 0x02, 0x80, value, 0x68, 0x82];
        let too_large = [&[0x28, 60, 0x08][..], &[7; 59], &[0x30, 0x10]].concat();
        let bare = [&[0x50, 0x30, 0x10][..], &[0xa8, 0x92, 0x35, 0x10, 0x07, 0x82]];
        let cases: [InOrder; 7] = [
            (&[(1, 1), (3, 3)], 4, Some(3)),
            (&[(3, 3), (1, 1)], 4, Some(3)),
            (&[(1, 1), (5, 5), (3, 3)], 6, Some(5)),
            (&[(1, 1), (5, 1), (3, 3)], 6, Some(1)),
            // A keyframe before the configuration may differ in size.
            (&[(5, 5)], 4, None),
            (&[(1, 1), (5, 5)], 4, None),
            (&[(1, 1)], 2, Some(1)),
        ];
        for (packets, seq_no, expected) in cases {
            for (codec, brings, bare) in
                [(Codec::Av1, &av1 as &dyn Fn(u8) -> Vec<u8>, bare[0]), (Codec::Vp9, &vp9, bare[1])]
            {
                let mut configuration = Configuration::default();
                packets.iter().for_each(|(seq_no, value)| {
                    configuration.complete(codec, &brings(*value), *seq_no, 100);
                });
                let completed = configuration.complete(codec, bare, seq_no, 100);
                let at = if codec == Codec::Av1 { 3 } else { 8 };
                assert_eq!(completed.map(|completed| completed[at]), expected, "{codec:?}, {packets:?}, {seq_no}");
            }
        }
        let mut configuration = Configuration::default();
        configuration.complete(Codec::Av1, &too_large, 5, 100);
        configuration.complete(Codec::Av1, &av1(3), 3, 100);
        assert_eq!(configuration.complete(Codec::Av1, bare[0], 6, 100), None, "a newer one was too large");
    }

    proptest! {
        #![proptest_config(inputs(4_096))]

        /// The first byte is such that the parsers continue.
        #[test]
        fn arbitrary_bytes_are_handled(
            first in 0_u8..=0xff,
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x08), Just(0x01), Just(0x0c), Just(0xff)], 0..24),
        ) {
            let payload = [&[first | 0x02][..], &bytes].concat();
            let mut configuration = Configuration::default();
            for codec in [Codec::Vp9, Codec::Av1, Codec::H264] {
                configuration.complete(codec, &payload, 0, 100);
                configuration.start(Instant::now(), codec, 0, &payload, Arrival::of(0, None), true);
            }
        }
    }

    #[test]
    fn a_new_configuration_replaces_the_old_and_one_that_is_too_large_removes_it() {
        let mut configuration = Configuration::default();
        let key = &[0x50, 0x30, 0x10][..];
        let brought = |length: usize| [&[0x28, length as u8, 0x08][..], &vec![7; length - 1], &[0x30, 0x10]].concat();
        for length in [11, 12, MAX_ADDED_BYTES] {
            configuration.complete(Codec::Av1, &brought(length), 0, 1_000);
            let completed = configuration.complete(Codec::Av1, key, 0, 1_000).expect("the configuration is known");
            assert_eq!(completed.len(), key.len() + 1 + length);
        }
        configuration.complete(Codec::Av1, &brought(MAX_ADDED_BYTES + 1), 0, 1_000);
        assert_eq!((configuration.complete(Codec::Av1, key, 0, 1_000), configuration.take_dropped()), (None, 1));
    }
}
