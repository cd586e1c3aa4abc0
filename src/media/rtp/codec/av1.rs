//! Parser of the AV1 aggregation header (AV1 RTP payload specification, section 4.4). If a packet has a dependency
//! descriptor, that takes precedence, as section 6 asks of forwarders.

use crate::media::rtp::codec::dependency::Dependency;
use crate::media::rtp::codec::description::{ALL_LAYERS, Description, Found};

/// Aggregation header. The count is the number of OBU elements; with 0 each element has a length, otherwise all but the
/// last.
const CONTINUES_OBU: u8 = 0x80;
const ENDS_IN_OBU: u8 = 0x40;
const COUNT: u8 = 0x30;
const ONE_OBU: u8 = 0x10;
const NEW_CODED_VIDEO_SEQUENCE: u8 = 0x08;

/// OBU header (AV1 section 5.3.2): its type, and whether an extension and a size follow.
const OBU_FORBIDDEN: u8 = 0x80;
const OBU_TYPE: u8 = 0x78;
const OBU_HAS_EXTENSION: u8 = 0x04;
const OBU_HAS_SIZE: u8 = 0x02;

/// OBU types (AV1 section 6.2.2), shifted to their position in the header.
const SEQUENCE_HEADER: u8 = 1 << 3;
const FRAME_HEADER: u8 = 3 << 3;
const FRAME: u8 = 6 << 3;

/// Spatial id in the OBU extension header (AV1 section 5.3.3).
const SPATIAL_ID: u8 = 0x18;

/// First bits of a frame header (AV1 section 5.9.2): the value of a shown keyframe that does not repeat an earlier
/// frame.
const FRAME_START: u8 = 0xf0;
const SHOWN_KEYFRAME: u8 = 0x10;

/// Maximum length in bytes of a number (AV1 section 4.10.5): with 28 bits it holds the length of any packet.
const LEB128_BYTES: usize = 4;

/// Describes a packet from its payload and its dependency descriptor, without the fields that the descriptor provides
/// for any codec. Returns `None` if the payload is empty. A receiver that reads descriptors recognizes a keyframe by
/// the templates in its descriptor (libwebrtc, `ParseGenericDependenciesExtension`), so a descriptor decides if there
/// is one.
pub fn describe(payload: &[u8], dependency: Option<&Dependency>) -> Option<Description> {
    let header = *payload.first()?;
    let starts_frame = header & CONTINUES_OBU == 0;
    let starts_keyframe = starts_frame && header & NEW_CODED_VIDEO_SEQUENCE != 0;
    let description = match dependency {
        // Only the marker shows the end of a frame: a packet may end after any OBU of it.
        None => Description { starts_keyframe, starts_frame, ..Description::default() },
        Some(dependency) => {
            let layer = dependency.layer.unwrap_or_default();
            Description {
                starts_keyframe: dependency.has_structure && layer.spatial == 0,
                starts_frame: dependency.starts_frame,
                ends_frame: dependency.ends_frame,
                spatial: layer.spatial,
                temporal: layer.temporal,
                ..Description::default()
            }
        }
    };
    let starts = description.starts_keyframe;
    Some(Description { can_switch_up: starts, opens: if starts { ALL_LAYERS } else { 0 }, ..description })
}

/// Looks for a sequence header: returns the one that the packet begins with, or `Missing` if the packet starts a
/// keyframe without one.
///
/// No decoder can start without it. A keyframe may omit it if it was sent before in the same coded video sequence (AV1
/// section 7.5).
pub fn find_sequence_header(payload: &[u8]) -> Option<Found<'_>> {
    if payload.first()? & CONTINUES_OBU != 0 {
        return None;
    }
    let unit = first_unit(payload)?;
    let header = *unit.first()?;
    if header & OBU_FORBIDDEN != 0 {
        return None;
    }
    match header & OBU_TYPE {
        // A fragmented sequence header ends in another packet, and is not usable.
        SEQUENCE_HEADER if payload[0] & COUNT != ONE_OBU || payload[0] & ENDS_IN_OBU == 0 => {
            (payload[0] & NEW_CODED_VIDEO_SEQUENCE != 0).then_some(Found::Brought(unit))
        }
        FRAME | FRAME_HEADER => {
            let mut at = 1;
            if header & OBU_HAS_EXTENSION != 0 {
                at += 1;
                if unit.get(1)? & SPATIAL_ID != 0 {
                    return None;
                }
            }
            if header & OBU_HAS_SIZE != 0 {
                at += leb128(unit.get(at..)?)?.1;
            }
            (unit.get(at)? & FRAME_START == SHOWN_KEYFRAME).then_some(Found::Missing)
        }
        _ => None,
    }
}

/// Inserts a sequence header before the OBUs of a payload, which must begin with an OBU.
pub fn with_sequence_header(payload: &[u8], sequence_header: &[u8]) -> Option<Vec<u8>> {
    let (&header, units) = payload.split_first()?;
    let count = (header & COUNT) / ONE_OBU;
    // The count has two bits, so its maximum is three.
    let (count, last) = match count {
        0 => (0, None),
        3 => (0, Some(last_unit(units)?)),
        count => (count + 1, None),
    };
    let mut completed = vec![header & !COUNT | (count * ONE_OBU) | NEW_CODED_VIDEO_SEQUENCE];
    write_leb128(sequence_header.len(), &mut completed);
    completed.extend_from_slice(sequence_header);
    let (before, after) = units.split_at(last.unwrap_or_default());
    completed.extend_from_slice(before);
    if last.is_some() {
        write_leb128(after.len(), &mut completed);
    }
    completed.extend_from_slice(after);
    Some(completed)
}

/// Returns the first OBU element, or its beginning if it continues in the next packet.
fn first_unit(payload: &[u8]) -> Option<&[u8]> {
    let units = &payload[1..];
    if payload[0] & COUNT == ONE_OBU {
        return Some(units);
    }
    let (length, at) = leb128(units)?;
    units.get(at..at + length)
}

/// Returns the offset of the last of three OBU elements.
fn last_unit(units: &[u8]) -> Option<usize> {
    (0..2)
        .try_fold(0, |at, _| {
            let (length, bytes) = leb128(units.get(at..)?)?;
            Some(at + bytes + length)
        })
        .filter(|at| *at <= units.len())
}

/// Parses a number. Returns its value and its length in bytes.
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let length = 1 + bytes.iter().take(LEB128_BYTES).position(|byte| byte & 0x80 == 0)?;
    let value = bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    Some((value, length))
}

fn write_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtp::codec::dependency::Layer;

    #[test]
    fn without_a_descriptor_the_aggregation_header_decides() {
        for (payload, expected) in [
            (&[0x18, 0][..], Some((true, true))),
            (&[0x58, 0], Some((true, true))),
            (&[0x10, 0], Some((false, true))),
            (&[0x90, 0], Some((false, false))),
            (&[0xd0, 0], Some((false, false))),
            // Contradictory: a sequence cannot begin in the middle of an OBU.
            (&[0x98, 0], Some((false, false))),
            (&[], None),
        ] {
            let described = describe(payload, None);
            assert_eq!(described.map(|d| (d.starts_keyframe, d.starts_frame)), expected, "{payload:x?}");
            assert!(described.is_none_or(|d| d.can_switch_up == d.starts_keyframe), "{payload:x?}");
        }
    }

    #[test]
    fn a_descriptor_takes_precedence() {
        let dependency = Dependency {
            starts_frame: true,
            ends_frame: false,
            frame_number: 7,
            has_structure: true,
            layer: Some(Layer::default()),
            opens: 2,
            heights: [0; 3],
        };
        // Several OBUs in a frame: only the descriptor shows that the frame continues.
        let key = describe(&[0x10, 0], Some(&dependency)).unwrap();
        assert!(key.starts_keyframe && key.starts_frame && !key.ends_frame && key.can_switch_up);
        assert_eq!(key.opens, ALL_LAYERS);
        let upper = Layer { spatial: 1, temporal: 2 };
        for (change, expected) in [
            (Dependency { has_structure: false, ..dependency }, (false, true, 0, 0, 0)),
            (Dependency { layer: Some(upper), ..dependency }, (false, true, 1, 2, 0)),
            (
                Dependency { starts_frame: false, has_structure: false, layer: None, opens: 0, ..dependency },
                (false, false, 0, 0, 0),
            ),
        ] {
            let d = describe(&[0x18, 0], Some(&change)).unwrap();
            assert_eq!((d.starts_keyframe, d.starts_frame, d.spatial, d.temporal, d.opens), expected, "{change:?}");
        }
    }
}
