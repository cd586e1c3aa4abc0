//! H.264 NAL units in RTP (RFC 6184 section 5.4).
//!
//! There are no layers and no numbers to keep: a decoder takes what comes.

use crate::media::codec::{ALL_LAYERS, Description};

/// Types of NAL units (ITU-T H.264 table 7-1), and of packets that hold several or a part of one.
const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

const TYPE: u8 = 0x1f;

/// Header of a fragment: the first, the last.
const FRAGMENT_STARTS: u8 = 0x80;

/// What the payload says of itself; nothing if it is empty. The packet that carries the sequence parameter set in front
/// of an IDR picture starts a keyframe: WebRTC encoders send it with every IDR, and without it an IDR can't be
/// decoded. Several packets of one picture may say that they start it: parameter sets are sent alone or together.
pub fn describe(payload: &[u8]) -> Option<Description> {
    let (&header, rest) = payload.split_first()?;
    let mut starts_keyframe = false;
    let starts_frame = match header & TYPE {
        STAP_A => {
            let mut units = aggregated(rest);
            let starts_frame = units.clone().next().is_some_and(starts_picture);
            starts_keyframe = units.any(|unit| unit[0] & TYPE == SPS);
            starts_frame
        }
        FU_A => rest.split_first().is_some_and(|(&fragment, rest)| {
            let is_first_slice = matches!(fragment & TYPE, SLICE | IDR_SLICE) && starts_at_first_macroblock(rest);
            fragment & FRAGMENT_STARTS != 0 && is_first_slice
        }),
        SPS => {
            starts_keyframe = true;
            true
        }
        _ => starts_picture(payload),
    };
    Some(Description {
        starts_keyframe,
        starts_frame,
        can_switch_up: starts_keyframe,
        opens: if starts_keyframe { ALL_LAYERS } else { 0 },
        ..Description::default()
    })
}

/// The units of a STAP-A, none of them empty; cut short with the packet.
fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let unit;
        (unit, rest) = after.split_at(length);
        (!unit.is_empty()).then_some(unit)
    })
}

/// Whether a unit comes before all slices of its picture or is the first of them (ITU-T H.264 section 7.4.1.2.3).
fn starts_picture(unit: &[u8]) -> bool {
    match unit[0] & TYPE {
        SLICE | IDR_SLICE => starts_at_first_macroblock(&unit[1..]),
        SEI | SPS | ACCESS_UNIT_DELIMITER => true,
        _ => false,
    }
}

/// `first_mb_in_slice` is 0, which is written as a single bit.
fn starts_at_first_macroblock(slice: &[u8]) -> bool {
    slice.first().is_some_and(|first| first & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_set_starts_a_keyframe_and_a_first_slice_a_frame() {
        for (payload, expected) in [
            (&[0x67, 0x42][..], Some((true, true))),
            (&[0x67], Some((true, true))),
            (&[0x78, 0, 1, 0x67, 0, 1, 0x68], Some((true, true))),
            (&[0x78, 0, 1, 0x68, 0, 2, 0x67, 0], Some((true, false))),
            (&[0x78, 0, 2, 0x09, 0x10, 0, 2, 0x67, 0], Some((true, true))),
            (&[0x78, 0, 9, 0x68, 0], Some((false, false))),
            (&[0x78, 0, 0, 0, 1, 0x67], Some((false, false))),
            (&[0x78, 0, 2, 0x41, 0x9a, 0, 2, 0x41, 0x40], Some((false, true))),
            (&[0x78, 0], Some((false, false))),
            (&[0x78], Some((false, false))),
            // Slices: the first of their picture, a later one, cut off.
            (&[0x65, 0x88], Some((false, true))),
            (&[0x65, 0x08], Some((false, false))),
            (&[0x41, 0x9a], Some((false, true))),
            (&[0x41], Some((false, false))),
            // Fragments: first of a first slice, first of a later one, in between, last.
            (&[0x7c, 0x85, 0x88], Some((false, true))),
            (&[0x7c, 0x85, 0x08], Some((false, false))),
            (&[0x7c, 0x05, 0x88], Some((false, false))),
            (&[0x7c, 0x45, 0x88], Some((false, false))),
            (&[0x7c, 0x85], Some((false, false))),
            (&[0x7c], Some((false, false))),
            (&[0x06, 0x05], Some((false, true))),
            (&[0x68, 0xce], Some((false, false))),
            (&[], None),
        ] {
            let described = describe(payload).map(|described| (described.starts_keyframe, described.starts_frame));
            assert_eq!(described, expected, "{payload:x?}");
        }
    }
}
