//! Parser of the VP8 payload descriptor (RFC 7741 section 4.2) and of the keyframe header after it (RFC 6386 section
//! 9.1).

use crate::media::rtp::codec::description::{ALL_LAYERS, Description, Ids, PictureId};

/// First octet: extended control bits follow; start of a partition; partition index.
const EXTENDED: u8 = 0x80;
const PARTITION_START: u8 = 0x10;
const PARTITION_INDEX: u8 = 0x07;

/// Extended control bits: which fields follow.
const PICTURE_ID: u8 = 0x80;
const TL0_PIC_IDX: u8 = 0x40;
const TID: u8 = 0x20;
const KEY_IDX: u8 = 0x10;

/// Flag in the octet of the temporal layer: the frame depends on the base layer only.
const LAYER_SYNC: u8 = 0x20;

/// Flag in the first octet of a frame: clear in keyframes only.
const INVERSE_KEY_FRAME: u8 = 0x01;

/// Start code after the three octets of a keyframe's tag.
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// Mask of width and height; the two bits above are scaling.
const DIMENSION: u16 = 0x3fff;

/// The fields of a descriptor, with the offsets of those that can be patched.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    starts_frame: bool,
    picture: Option<(usize, PictureId)>,
    tl0_pic_idx: Option<(usize, u8)>,
    temporal: u8,
    is_layer_sync: bool,
    /// Length of the descriptor, after which the frame's data begins.
    length: usize,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let starts_frame = first & PARTITION_START != 0 && first & PARTITION_INDEX == 0;
        let mut descriptor =
            Self { starts_frame, picture: None, tl0_pic_idx: None, temporal: 0, is_layer_sync: false, length: 1 };
        if first & EXTENDED == 0 {
            return Some(descriptor);
        }
        let fields = *payload.get(1)?;
        let mut at = 2;
        if fields & PICTURE_ID != 0 {
            let id = PictureId::read(payload.get(at..)?)?;
            descriptor.picture = Some((at, id));
            at += id.length();
        }
        if fields & TL0_PIC_IDX != 0 {
            descriptor.tl0_pic_idx = Some((at, *payload.get(at)?));
            at += 1;
        }
        if fields & (TID | KEY_IDX) != 0 {
            let layer = *payload.get(at)?;
            at += 1;
            if fields & TID != 0 {
                descriptor.temporal = layer >> 6;
                descriptor.is_layer_sync = layer & LAYER_SYNC != 0;
            }
        }
        descriptor.length = at;
        Some(descriptor)
    }
}

/// Describes a packet; `None` if it is cut off.
pub fn describe(payload: &[u8]) -> Option<Description> {
    let descriptor = Descriptor::parse(payload)?;
    let frame = payload.get(descriptor.length..)?;
    let starts_keyframe = descriptor.starts_frame && frame.first()? & INVERSE_KEY_FRAME == 0;
    Some(Description {
        starts_keyframe,
        starts_frame: descriptor.starts_frame,
        ends_frame: false,
        spatial: 0,
        temporal: descriptor.temporal,
        can_switch_up: starts_keyframe || descriptor.is_layer_sync,
        opens: if starts_keyframe { ALL_LAYERS } else { 0 },
        ids: Ids {
            picture: descriptor.picture.map(|(_, id)| id),
            tl0_pic_idx: descriptor.tl0_pic_idx.map(|(_, value)| value),
            frame_number: None,
        },
        heights: [if starts_keyframe { height(frame) } else { 0 }, 0, 0],
    })
}

/// Writes `ids` with the width of the ids present.
pub fn patch(payload: &mut [u8], ids: Ids) {
    let Some(descriptor) = Descriptor::parse(payload) else {
        return;
    };
    if let (Some((at, old)), Some(new)) = (descriptor.picture, ids.picture) {
        old.with(new.value()).write(&mut payload[at..]);
    }
    if let (Some((at, _)), Some(new)) = (descriptor.tl0_pic_idx, ids.tl0_pic_idx) {
        payload[at] = new;
    }
}

/// Returns the picture height in a keyframe; 0 if it is missing.
fn height(frame: &[u8]) -> u16 {
    let head = frame.first_chunk::<10>().filter(|head| head[3..6] == START_CODE);
    head.map_or(0, |head| u16::from_le_bytes([head[8], head[9]]) & DIMENSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a 640x360 keyframe.
    const KEY: [u8; 10] = [0x50, 0x2b, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];

    fn packet(descriptor: &[u8], frame: &[u8]) -> Vec<u8> {
        [descriptor, frame].concat()
    }

    #[test]
    fn layer_ids_and_position_in_the_frame_are_read() {
        let plain = Description { starts_frame: true, ..Description::default() };
        let delta = |temporal, can_switch_up, picture, tl0_pic_idx| Description {
            temporal,
            can_switch_up,
            ids: Ids { picture, tl0_pic_idx, frame_number: None },
            ..plain
        };
        let key = |picture, tl0_pic_idx, height| Description {
            starts_keyframe: true,
            can_switch_up: true,
            opens: ALL_LAYERS,
            ids: Ids { picture, tl0_pic_idx, frame_number: None },
            heights: [height, 0, 0],
            ..plain
        };
        let (long, short) = (|id| Some(PictureId::Long(id)), |id| Some(PictureId::Short(id)));
        for (descriptor, frame, expected) in [
            // As Chromium sends it: picture id of 15 bits, TL0PICIDX, TID.
            (&[0x90, 0xe0, 0x92, 0x34, 0x17, 0x00][..], &KEY[..], key(long(0x1234), Some(0x17), 360)),
            (&[0x90, 0xe0, 0xff, 0xff, 0xff, 0x80], &[0x31, 0][..], delta(2, false, long(0x7fff), Some(0xff))),
            (&[0x90, 0xe0, 0x80, 0x00, 0x00, 0x60], &[0x31, 0], delta(1, true, long(0), Some(0))),
            // KEYIDX shares the octet of TID; alone it gives no layer.
            (&[0x90, 0xf0, 0x80, 0x00, 0x00, 0xbf], &[0x31, 0], delta(2, true, long(0), Some(0))),
            (&[0x90, 0x90, 0x05, 0xbe], &[0x31, 0], delta(0, false, short(5), None)),
            (&[0x90, 0x80, 0x7f], &[0x31, 0], delta(0, false, short(0x7f), None)),
            (&[0x90, 0x00], &[0x31, 0], plain),
            (&[0x10], &KEY, key(None, None, 360)),
            // Scaling bits are not part of the height; without the start code there is none.
            (&[0x10], &[0, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0xc2, 0x68, 0x41], key(None, None, 360)),
            (&[0x10], &[0, 0, 0, 0x9d, 0x01, 0x2b, 0x80, 0x02, 0x68, 0x01], key(None, None, 0)),
            (&[0x10], &[0, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0, 0], key(None, None, 0)),
            (&[0x10], &KEY[..9], key(None, None, 0)),
            // Later packets of a frame, in the first partition and in another.
            (&[0x00], &KEY, Description::default()),
            (&[0x11], &KEY, Description::default()),
        ] {
            assert_eq!(describe(&packet(descriptor, frame)), Some(expected), "{descriptor:x?} {frame:x?}");
        }
    }

    #[test]
    fn truncated_packets_have_no_description() {
        let whole = packet(&[0x90, 0xf0, 0x92, 0x34, 0x17, 0x60], &KEY);
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            assert_eq!(describe(&cut).is_some(), length > 6, "{length}");
            patch(&mut cut, Ids { picture: Some(PictureId::Long(1)), tl0_pic_idx: Some(1), frame_number: None });
        }
    }

    #[test]
    fn patching_preserves_the_width_of_ids() {
        let ids = Ids { picture: Some(PictureId::Long(0x2bcd)), tl0_pic_idx: Some(9), frame_number: Some(3) };
        for (before, after) in [
            (&[0x90, 0xe0, 0x92, 0x34, 0x17, 0x60, 0x31][..], &[0x90, 0xe0, 0xab, 0xcd, 0x09, 0x60, 0x31][..]),
            (&[0x90, 0xe0, 0x12, 0x17, 0x60, 0x31], &[0x90, 0xe0, 0x4d, 0x09, 0x60, 0x31]),
            (&[0x90, 0x80, 0x12, 0x31], &[0x90, 0x80, 0x4d, 0x31]),
            (&[0x90, 0x60, 0x17, 0x60, 0x31], &[0x90, 0x60, 0x09, 0x60, 0x31]),
            (&[0x90, 0x20, 0x60, 0x31], &[0x90, 0x20, 0x60, 0x31]),
            (&[0x10, 0x31], &[0x10, 0x31]),
        ] {
            let mut payload = before.to_vec();
            patch(&mut payload, ids);
            assert_eq!(payload, after);
            let mut untouched = before.to_vec();
            patch(&mut untouched, Ids::default());
            assert_eq!(untouched, before);
        }
    }
}
