//! H.264 NAL units in RTP packets (RFC 6184 section 5.4).
//!
//! There are no layers, and no picture ids to rewrite. A decoder can start at the first slice of an IDR picture if it
//! has the parameter sets, which may have been sent at any time before: see [`super::parameter_sets`].

use crate::media::rtp::codec::description::{ALL_LAYERS, Description};

/// Types of NAL units (ITU-T H.264 table 7-1), of aggregation packets and of fragments.
pub(super) const SLICE: u8 = 1;
pub(super) const IDR_SLICE: u8 = 5;
pub(super) const SEI: u8 = 6;
pub(super) const SPS: u8 = 7;
pub(super) const PPS: u8 = 8;
const ACCESS_UNIT_DELIMITER: u8 = 9;
pub(super) const STAP_A: u8 = 24;
const FU_A: u8 = 28;

pub(super) const TYPE: u8 = 0x1f;

/// Maximum number of units read from an aggregation packet. Parameter sets, SEI and the first slice come first; a
/// packet has room for 466 units, and each is parsed several times.
const MAX_AGGREGATED: usize = 64;

/// Start bit in the header of a fragment.
const FRAGMENT_STARTS: u8 = 0x80;

/// Describes a packet; `None` if its payload is empty. A keyframe starts with the first slice of an IDR picture;
/// parameter sets and SEI before it may belong to any picture.
pub fn describe(payload: &[u8]) -> Option<Description> {
    let (&header, rest) = payload.split_first()?;
    let starts_frame = match header & TYPE {
        STAP_A => aggregated(rest).next().is_some_and(starts_picture),
        FU_A => fragment(payload)
            .is_some_and(|(kind, slice)| matches!(kind, SLICE | IDR_SLICE) && starts_at_first_macroblock(slice)),
        _ => starts_picture(payload),
    };
    let starts_keyframe = starts_picture_with(IDR_SLICE, payload);
    Some(Description {
        starts_keyframe,
        starts_frame,
        can_switch_up: starts_keyframe,
        opens: if starts_keyframe { ALL_LAYERS } else { 0 },
        ..Description::default()
    })
}

/// Parses the first fragment of a unit. Returns the unit's type, and its bytes after the header.
fn fragment(payload: &[u8]) -> Option<(u8, &[u8])> {
    let &[header, fragment, ref rest @ ..] = payload else {
        return None;
    };
    (header & TYPE == FU_A && fragment & FRAGMENT_STARTS != 0).then_some((fragment & TYPE, rest))
}

/// Returns true if the packet contains the start of a picture's first slice, and that slice has type `slice`.
pub fn starts_picture_with(slice: u8, payload: &[u8]) -> bool {
    let is_first = |kind: u8, bytes: &[u8]| kind == slice && starts_at_first_macroblock(bytes);
    units(payload).any(|unit| is_first(unit[0] & TYPE, &unit[1..]))
        || fragment(payload).is_some_and(|(kind, bytes)| is_first(kind, bytes))
}

/// Iterates over the complete units of a packet, none of them empty.
pub fn units(payload: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let kind = payload.first().map(|header| header & TYPE);
    let single = (kind.is_some_and(|kind| (SLICE..STAP_A).contains(&kind))).then_some(payload);
    let rest = if kind == Some(STAP_A) { &payload[1..] } else { &[] };
    single.into_iter().chain(aggregated(rest))
}

/// Iterates over the units of a STAP-A, none of them empty. The last one may be cut short with the packet.
fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let units = std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let unit;
        (unit, rest) = after.split_at(length);
        (!unit.is_empty()).then_some(unit)
    });
    units.take(MAX_AGGREGATED)
}

/// Returns true if a unit comes before all slices of its picture or is the first of them (ITU-T H.264 section
/// 7.4.1.2.3).
fn starts_picture(unit: &[u8]) -> bool {
    match unit[0] & TYPE {
        SLICE | IDR_SLICE => starts_at_first_macroblock(&unit[1..]),
        SEI | SPS | ACCESS_UNIT_DELIMITER => true,
        _ => false,
    }
}

/// Returns true if `first_mb_in_slice` is 0, which is encoded as a single bit.
fn starts_at_first_macroblock(slice: &[u8]) -> bool {
    slice.first().is_some_and(|first| first & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_slice_of_an_idr_picture_starts_a_keyframe_and_any_first_slice_a_frame() {
        for (payload, expected) in [
            (&[0x67, 0x42][..], Some((false, true))),
            (&[0x67], Some((false, true))),
            (&[0x78, 0, 1, 0x67, 0, 1, 0x68], Some((false, true))),
            (&[0x78, 0, 1, 0x68, 0, 2, 0x67, 0], Some((false, false))),
            (&[0x78, 0, 2, 0x09, 0x10, 0, 2, 0x67, 0], Some((false, true))),
            (&[0x78, 0, 1, 0x67, 0, 1, 0x68, 0, 2, 0x65, 0x88], Some((true, true))),
            (&[0x78, 0, 9, 0x68, 0], Some((false, false))),
            (&[0x78, 0, 0, 0, 1, 0x67], Some((false, false))),
            (&[0x78, 0, 2, 0x41, 0x9a, 0, 2, 0x41, 0x40], Some((false, true))),
            (&[0x78, 0], Some((false, false))),
            (&[0x78], Some((false, false))),
            // Slices: the first of a picture, a later one, cut off.
            (&[0x65, 0x88], Some((true, true))),
            (&[0x65, 0x08], Some((false, false))),
            (&[0x65], Some((false, false))),
            (&[0x41, 0x9a], Some((false, true))),
            (&[0x41], Some((false, false))),
            // Fragments: the first of a first slice, the first of a later slice, a middle one, the last.
            (&[0x7c, 0x85, 0x88], Some((true, true))),
            (&[0x7c, 0x81, 0x9a], Some((false, true))),
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
