//! Parser of the VP9 payload descriptor (RFC 9628 section 4.2).
//!
//! When upper spatial layers are dropped, the payload is not changed. A receiver takes the marker for the end of a
//! picture (section 4.1), so the forwarder sets it on the last packet of the highest layer sent; layers that only the
//! scalability structure lists do no harm, because a receiver uses its entries for the layers that arrive (libwebrtc,
//! `RtpVp9RefFinder`, `VideoRtpDepacketizerVp9`). When temporal layers are dropped, picture ids keep their gaps,
//! because references are relative or follow from the position in the group of frames (section 4.2.1).

use crate::media::rtp::codec::description::{ALL_LAYERS, Description, Found, Heights, Ids, PictureId};

/// Flags in the first octet.
const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const START_OF_FRAME: u8 = 0x08;
const END_OF_FRAME: u8 = 0x04;
const SCALABILITY_STRUCTURE: u8 = 0x02;

/// Switching up point flag in the octet of the layer indices, between temporal and spatial layer.
const SWITCHING_UP: u8 = 0x10;

/// In flexible mode: another reference index follows. There are at most three.
const ANOTHER_DIFF: u8 = 0x01;
const MAX_DIFFS: usize = 3;

/// Flags in the first octet of the scalability structure, after the number of spatial layers.
const HAS_SIZES: u8 = 0x10;
const HAS_GROUP: u8 = 0x08;

/// The fields of a descriptor, with the offsets of those that can be patched.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    flags: u8,
    picture: Option<(usize, PictureId)>,
    tl0_pic_idx: Option<(usize, u8)>,
    spatial: u8,
    temporal: u8,
    is_switching_up: bool,
    heights: Heights,
    /// Offset of the scalability structure, or where one would be inserted.
    structure: usize,
    /// Length of the descriptor, after which the frame's data begins.
    length: usize,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut descriptor = Self::parse_ids(payload)?;
        let mut at = descriptor.length;
        if descriptor.flags & FLEXIBLE != 0 && descriptor.flags & INTER_PREDICTED != 0 {
            let diffs = payload.get(at..)?.iter().take(MAX_DIFFS);
            // The last reference index has the flag clear.
            at += 1 + diffs.take_while(|diff| **diff & ANOTHER_DIFF != 0).count();
            if at > descriptor.length + MAX_DIFFS {
                return None;
            }
        }
        descriptor.structure = at;
        if descriptor.flags & SCALABILITY_STRUCTURE != 0 {
            let structure = payload.get(at..)?;
            let (length, heights) = scalability_structure(structure)?;
            at += length;
            descriptor.heights = heights;
        }
        descriptor.length = at;
        Some(descriptor)
    }

    /// Parses the descriptor up to the last field that can be patched.
    fn parse_ids(payload: &[u8]) -> Option<Self> {
        let flags = *payload.first()?;
        let mut descriptor = Self {
            flags,
            picture: None,
            tl0_pic_idx: None,
            spatial: 0,
            temporal: 0,
            is_switching_up: false,
            heights: Heights::default(),
            structure: 0,
            length: 0,
        };
        let mut at = 1;
        if flags & PICTURE_ID != 0 {
            let id = PictureId::read(payload.get(at..)?)?;
            descriptor.picture = Some((at, id));
            at += id.length();
        }
        if flags & LAYER_INDICES != 0 {
            let layer = *payload.get(at)?;
            at += 1;
            descriptor.temporal = layer >> 5;
            descriptor.is_switching_up = layer & SWITCHING_UP != 0;
            descriptor.spatial = layer >> 1 & 0x07;
            if flags & FLEXIBLE == 0 {
                descriptor.tl0_pic_idx = Some((at, *payload.get(at)?));
                at += 1;
            }
        }
        descriptor.length = at;
        Some(descriptor)
    }
}

/// Describes a packet; `None` if it is cut off.
///
/// A frame without inter-picture prediction does not depend on earlier pictures, so a receiver can switch up to its
/// temporal or spatial layer there. The switching up point is different: it concerns the frames after this one.
pub fn describe(payload: &[u8]) -> Option<Description> {
    let descriptor = Descriptor::parse(payload).filter(|descriptor| descriptor.length < payload.len())?;
    let starts_frame = descriptor.flags & START_OF_FRAME != 0;
    let is_intra = descriptor.flags & INTER_PREDICTED == 0;
    Some(Description {
        starts_keyframe: is_intra && starts_frame && descriptor.spatial == 0,
        starts_frame,
        ends_frame: descriptor.flags & END_OF_FRAME != 0,
        spatial: descriptor.spatial,
        temporal: descriptor.temporal,
        can_switch_up: is_intra,
        opens: if is_intra || descriptor.is_switching_up { ALL_LAYERS } else { 0 },
        ids: Ids {
            picture: descriptor.picture.map(|(_, id)| id),
            tl0_pic_idx: descriptor.tl0_pic_idx.map(|(_, value)| value),
            frame_number: None,
        },
        heights: descriptor.heights,
    })
}

/// Writes `ids` with the width of the ids present.
pub fn patch(payload: &mut [u8], ids: Ids) {
    let Some(descriptor) = Descriptor::parse_ids(payload) else {
        return;
    };
    if let (Some((at, old)), Some(new)) = (descriptor.picture, ids.picture) {
        old.with(new.value()).write(&mut payload[at..]);
    }
    if let (Some((at, _)), Some(new)) = (descriptor.tl0_pic_idx, ids.tl0_pic_idx) {
        payload[at] = new;
    }
}

/// Looks for a scalability structure: returns the packet's own, or `Missing` if the packet starts a keyframe without
/// one.
///
/// In non-flexible mode, receivers do not accept a keyframe with layers that lacks the structure (libwebrtc,
/// `RtpVp9RefFinder`), but publishers need not send it with each keyframe (RFC 9628 section 4.2).
pub fn find_structure(payload: &[u8]) -> Option<Found<'_>> {
    if payload.first()? & SCALABILITY_STRUCTURE == 0 {
        let Description { starts_keyframe, .. } = describe(payload)?;
        return starts_keyframe.then_some(Found::Missing);
    }
    let descriptor = Descriptor::parse(payload)?;
    payload.get(descriptor.structure..descriptor.length).map(Found::Brought)
}

/// Inserts a scalability structure into a payload that has none.
pub fn with_structure(payload: &[u8], structure: &[u8]) -> Option<Vec<u8>> {
    let descriptor = Descriptor::parse(payload)?;
    let (before, after) = payload.split_at(descriptor.structure);
    let mut completed = [before, structure, after].concat();
    completed[0] |= SCALABILITY_STRUCTURE;
    Some(completed)
}

/// Parses a scalability structure. Returns its length in bytes and the picture height per spatial layer.
fn scalability_structure(bytes: &[u8]) -> Option<(usize, Heights)> {
    let first = *bytes.first()?;
    let mut at = 1;
    let mut heights = Heights::default();
    if first & HAS_SIZES != 0 {
        for layer in 0..=usize::from(first >> 5) {
            let &[_, _, h, eight] = bytes.get(at..)?.first_chunk()?;
            let place = layer.min(heights.len() - 1);
            heights[place] = u16::from_be_bytes([h, eight]);
            at += 4;
        }
    }
    if first & HAS_GROUP != 0 {
        let pictures = *bytes.get(at)?;
        at += 1;
        for _ in 0..pictures {
            let references = *bytes.get(at)? >> 2 & 0x03;
            at += 1 + usize::from(references);
        }
    }
    Some((at, heights))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 320x180, 640x360 and 1280x720; a group of four pictures with three temporal layers.
    const STRUCTURE: [u8; 22] = [
        0x58, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68, 0x05, 0x00, 0x02, 0xd0, 4, 0x14, 4, 0x54, 1, 0x34, 2,
        0x54, 1,
    ];

    fn packet(descriptor: &[u8], structure: &[u8]) -> Vec<u8> {
        [descriptor, structure, &[0x82, 0x49]].concat()
    }

    #[test]
    fn layer_ids_and_position_in_the_frame_are_read() {
        let long = |id| Some(PictureId::Long(id));
        let ids = |picture, tl0_pic_idx| Ids { picture, tl0_pic_idx, frame_number: None };
        let delta = Description::default();
        let key = Description { starts_keyframe: true, can_switch_up: true, opens: ALL_LAYERS, ..delta };
        let (first, last) = (Description { starts_frame: true, ..delta }, Description { ends_frame: true, ..delta });
        for (descriptor, structure, expected) in [
            // Non-flexible mode: a key picture with its structure, its upper spatial layer, later pictures.
            (
                &[0xaa, 0x92, 0x34, 0x10, 0x07][..],
                &STRUCTURE[..],
                Description { ids: ids(long(0x1234), Some(7)), heights: [180, 360, 720], starts_frame: true, ..key },
            ),
            (
                &[0xac, 0x92, 0x34, 0x13, 0x07],
                &[],
                Description {
                    starts_keyframe: false,
                    starts_frame: true,
                    ends_frame: true,
                    spatial: 1,
                    ids: ids(long(0x1234), Some(7)),
                    ..key
                },
            ),
            (
                &[0xe8, 0x92, 0x35, 0x54, 0x07],
                &[],
                Description { spatial: 2, temporal: 2, opens: ALL_LAYERS, ids: ids(long(0x1235), Some(7)), ..first },
            ),
            (
                &[0xe4, 0x12, 0x20, 0xff],
                &[],
                Description { temporal: 1, ids: ids(Some(PictureId::Short(0x12)), Some(0xff)), ..last },
            ),
            // Flexible mode: no TL0PICIDX, one to three references.
            (
                &[0xf8, 0xff, 0xff, 0x42, 0x02],
                &[],
                Description { spatial: 1, temporal: 2, ids: ids(long(0x7fff), None), ..first },
            ),
            (
                &[0xf8, 0xff, 0xff, 0x20, 0x03, 0x05, 0x08],
                &[],
                Description { temporal: 1, ids: ids(long(0x7fff), None), ..first },
            ),
            // A structure of one layer without sizes; one with sizes after three references.
            (&[0x8a, 0x80, 0x00], &[0x00], Description { starts_frame: true, ids: ids(long(0), None), ..key }),
            (
                &[0xda, 0x80, 0x00, 0x03, 0x05, 0x08],
                &[0x10, 0x02, 0x80, 0x01, 0x68],
                Description { heights: [360, 0, 0], ids: ids(long(0), None), ..first },
            ),
            // The end of a key picture; no ids at all.
            (
                &[0x84, 0x05],
                &[],
                Description {
                    starts_keyframe: false,
                    ends_frame: true,
                    ids: ids(Some(PictureId::Short(5)), None),
                    ..key
                },
            ),
            (&[0x08], &[], Description { starts_frame: true, ..key }),
            (&[0x48], &[], first),
            (&[0x40], &[], delta),
        ] {
            assert_eq!(describe(&packet(descriptor, structure)), Some(expected), "{descriptor:x?}");
        }
    }

    #[test]
    fn truncated_packets_have_no_description() {
        for (whole, length) in [
            (packet(&[0xaa, 0x92, 0x34, 0x10, 0x07], &STRUCTURE), 5 + STRUCTURE.len()),
            (packet(&[0xfa, 0x92, 0x34, 0x20, 0x03, 0x05, 0x08], &STRUCTURE), 7 + STRUCTURE.len()),
            (packet(&[0xaa, 0x12, 0x10, 0x07], &[0xff; 29]), usize::MAX),
            (packet(&[0xf8, 0x12, 0x10, 0x03, 0x05, 0x09], &[0; 9]), usize::MAX),
        ] {
            for cut in 0..whole.len() {
                assert_eq!(describe(&whole[..cut]).is_some(), cut > length, "{cut} of {whole:x?}");
                patch(&mut whole[..cut].to_vec(), Ids { picture: Some(PictureId::Long(1)), ..Ids::default() });
            }
        }
    }

    #[test]
    fn patching_preserves_the_width_of_ids() {
        let ids = Ids { picture: Some(PictureId::Long(0x2bcd)), tl0_pic_idx: Some(9), frame_number: Some(3) };
        for (before, after) in [
            (&[0xa8, 0x92, 0x34, 0x10, 0x07, 0x82][..], &[0xa8, 0xab, 0xcd, 0x10, 0x09, 0x82][..]),
            (&[0xa8, 0x12, 0x10, 0x07, 0x82], &[0xa8, 0x4d, 0x10, 0x09, 0x82]),
            (&[0xf8, 0x92, 0x34, 0x10, 0x02, 0x82], &[0xf8, 0xab, 0xcd, 0x10, 0x02, 0x82]),
            (&[0x28, 0x10, 0x07, 0x82], &[0x28, 0x10, 0x09, 0x82]),
            (&[0x08, 0x82], &[0x08, 0x82]),
        ] {
            let mut payload = before.to_vec();
            patch(&mut payload, ids);
            assert_eq!(payload, after);
            let described = describe(&payload).unwrap().ids;
            let picture = described.picture.map(|id| (id.value(), ids.picture.unwrap().value() & id.max()));
            assert!(picture.is_none_or(|(found, expected)| found == expected), "{after:x?}");
            patch(&mut payload, Ids::default());
            assert_eq!(payload, after);
        }
    }
}
