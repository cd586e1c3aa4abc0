//! The parts of a codec's payload format that forwarding needs: reading the frame and layer of an RTP packet, and
//! rewriting the ids that must stay contiguous when the source changes.
//!
//! Nothing here fails. Unreadable data yields a default description, which is that of the lowest layer, so every
//! subscriber of the track receives it.

pub mod arrival;
pub mod av1;
pub mod configuration;
pub mod dependency;
pub mod description;
pub mod h264;
pub mod parameter_sets;
pub mod red;
pub mod vp8;
pub mod vp9;

use str0m::format::Codec;

use crate::media::rtp::codec::dependency::Structure;
pub use crate::media::rtp::codec::description::{ALL_LAYERS, Description, Found, Heights, Ids, PictureId};

/// Describes a video packet. `dependency` is the value of its dependency descriptor, if present, and `structure` the
/// state of its SSRC. Call it in the order in which the packets of an SSRC arrive.
pub fn describe(
    codec: Codec,
    marker: bool,
    payload: &[u8],
    dependency: Option<&[u8]>,
    structure: &mut Structure,
) -> Description {
    let dependency = dependency.and_then(|element| structure.read(element));
    let described = match codec {
        Codec::Vp8 => vp8::describe(payload),
        Codec::Vp9 => vp9::describe(payload),
        Codec::H264 => h264::describe(payload),
        Codec::Av1 => av1::describe(payload, dependency.as_ref()),
        // Any packet of an unknown codec may be a keyframe; starting at an arbitrary one is better than never.
        _ => Some(Description { starts_keyframe: true, starts_frame: true, ..Description::default() }),
    };
    let mut description = described.unwrap_or_default();
    description.ends_frame |= marker;
    if let Some(dependency) = dependency {
        description.ids.frame_number = Some(dependency.frame_number);
        description.opens = description.opens.max(dependency.opens);
        if description.heights == Heights::default() {
            description.heights = dependency.heights;
        }
        // Together with a dependency descriptor, browsers send the VP8 payload descriptor without ids and layers
        // (libwebrtc, `MinimizeDescriptor`); H.264 has none.
        if let (Codec::Vp8 | Codec::H264, Some(layer)) = (codec, dependency.layer) {
            description.temporal = description.temporal.max(layer.temporal);
        }
    }
    description
}

/// Writes `ids` into a payload, with the width of the ids present. Ids missing in either are left unchanged.
pub fn patch(codec: Codec, payload: &mut [u8], ids: Ids) {
    match codec {
        Codec::Vp8 => vp8::patch(payload, ids),
        Codec::Vp9 => vp9::patch(payload, ids),
        _ => {}
    }
}

/// Writes the frame number of `ids` into the value of a dependency descriptor, with any codec.
pub fn patch_dependency(element: &mut [u8], ids: Ids) {
    if let (Some(number), Some(bytes)) = (ids.frame_number, element.get_mut(1..3)) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
}

/// Returns true if decoding can start at this RTP payload.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    describe(codec, false, payload, None, &mut Structure::default()).starts_keyframe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_stays_small() {
        assert!(size_of::<Description>() <= 24, "{}", size_of::<Description>());
    }

    #[test]
    fn decoding_of_an_unknown_codec_starts_at_any_packet() {
        let description = describe(Codec::Unknown, true, &[], None, &mut Structure::default());
        assert!(description.starts_keyframe && description.starts_frame && description.ends_frame);
        assert_eq!((description.temporal, description.ids), (0, Ids::default()));
    }

    #[test]
    fn frame_numbers_are_read_and_written_with_any_codec() {
        let mut element = [0xc0, 0x12, 0x34];
        let mut structure = Structure::default();
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
            let description = describe(codec, false, &[0x10, 0x01], Some(&element), &mut structure);
            assert_eq!(description.ids.frame_number, Some(0x1234), "{codec:?}");
            let cut = describe(codec, false, &[0x10, 0x01], Some(&element[..2]), &mut structure);
            assert_eq!(cut.ids.frame_number, None);
        }
        patch_dependency(&mut element, Ids { frame_number: Some(0xabcd), ..Ids::default() });
        assert_eq!(element, [0xc0, 0xab, 0xcd]);
        patch_dependency(&mut element[..2], Ids { frame_number: Some(7), ..Ids::default() });
        patch_dependency(&mut element, Ids::default());
        assert_eq!(element, [0xc0, 0xab, 0xcd]);
    }

    #[test]
    fn patched_ids_are_read_back() {
        let picture = |id| Some(PictureId::Long(id));
        for (codec, before) in [
            (Codec::Vp8, &[0x90, 0xe0, 0x92, 0x34, 0x17, 0x60, 0x31][..]),
            (Codec::Vp9, &[0xe8, 0x92, 0x34, 0x54, 0x17, 0x82]),
        ] {
            let mut structure = Structure::default();
            let mut payload = before.to_vec();
            let old = describe(codec, false, &payload, None, &mut structure);
            assert_eq!((old.ids.picture, old.ids.tl0_pic_idx), (picture(0x1234), Some(0x17)), "{codec:?}");
            let ids = Ids { picture: picture(0x7fff), tl0_pic_idx: Some(0), frame_number: None };
            patch(codec, &mut payload, ids);
            assert_eq!(describe(codec, false, &payload, None, &mut structure), Description { ids, ..old }, "{codec:?}");
        }
        for codec in [Codec::H264, Codec::Av1, Codec::Opus] {
            let mut payload = [0x90, 0xe0, 0x92, 0x34, 0x17, 0x60, 0x31];
            patch(codec, &mut payload, Ids { picture: picture(1), tl0_pic_idx: Some(1), frame_number: Some(1) });
            assert_eq!(payload, [0x90, 0xe0, 0x92, 0x34, 0x17, 0x60, 0x31], "{codec:?}");
        }
    }

    #[test]
    fn the_descriptor_provides_the_layer_if_the_payload_does_not() {
        // One spatial and three temporal layers (AV1 RTP payload specification, appendix A.6.2.1), first template 5.
        let key = [
            0x85, 0x12, 0x34, 0x80, 0xa2, 0x14, 0xea, 0xa8, 0x60, 0x41, 0x4d, 0x14, 0x10, 0x20, 0x84, 0x27, 0x02, 0x7f,
            0x01, 0x67,
        ];
        for (codec, payload) in [(Codec::Vp8, [0x10, 0x31]), (Codec::H264, [0x41, 0x9a])] {
            let mut structure = Structure::default();
            let mut temporal =
                |element: &[u8]| describe(codec, false, &payload, Some(element), &mut structure).temporal;
            assert_eq!(temporal(&[0x88, 0x12, 0x35]), 0, "{codec:?}: no template is known");
            assert_eq!(temporal(&key), 0, "{codec:?}");
            let templates = [5, 6, 7, 8, 9].map(|id| temporal(&[0x80 | id, 0x12, 0x35]));
            assert_eq!(templates, [0, 0, 1, 2, 2], "{codec:?}");
        }
    }

    #[test]
    fn the_descriptor_adds_what_the_payload_lacks() {
        // A key picture of two spatial layers, 320x180 and 640x360, after which the lower one can use its second
        // temporal layer.
        let element = [
            0xfe, 0xff, 0xff, 0x87, 0xc3, 0x18, 0x7a, 0xaa, 0x01, 0x00, 0xa0, 0xa0, 0x14, 0x51, 0x41, 0x34, 0x51, 0x80,
            0x21, 0x90, 0x88, 0x8a, 0x19, 0x40, 0x4f, 0xc0, 0x2c, 0xc0, 0x9f, 0xc0, 0x59, 0xc0,
        ];
        for (codec, payload) in [
            (Codec::Vp8, &[0x90, 0xe0, 0x92, 0x34, 0x17, 0x60, 0x31][..]),
            (Codec::Vp9, &[0xf8, 0x92, 0x34, 0x20, 0x02, 0x82]),
        ] {
            let mut structure = Structure::default();
            let plain = describe(codec, false, payload, None, &mut structure);
            assert_eq!((plain.opens, plain.heights, plain.ids.frame_number), (0, [0; 3], None), "{codec:?}");
            let described = describe(codec, false, payload, Some(&element), &mut structure);
            let ids = Ids { frame_number: Some(0xffff), ..plain.ids };
            assert_eq!(described, Description { opens: 1, heights: [180, 360, 0], ids, ..plain }, "{codec:?}");
        }
    }
}
