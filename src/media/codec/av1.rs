//! The AV1 aggregation header (AV1 RTP payload specification, section 4.4), and the dependency descriptor beside it,
//! which a forwarder is to prefer (section 6).

use crate::media::codec::dependency::Dependency;
use crate::media::codec::{ALL_LAYERS, Description};

const CONTINUES_OBU: u8 = 0x80;
const NEW_CODED_VIDEO_SEQUENCE: u8 = 0x08;

/// What payload and descriptor say, but for what a descriptor says with any codec; nothing if the payload is empty. A
/// receiver that reads descriptors takes a frame for a keyframe if its own brings the templates (libwebrtc,
/// `ParseGenericDependenciesExtension`), so where there is one, it decides.
pub fn describe(payload: &[u8], dependency: Option<&Dependency>) -> Option<Description> {
    let header = *payload.first()?;
    let starts_frame = header & CONTINUES_OBU == 0;
    let starts_keyframe = starts_frame && header & NEW_CODED_VIDEO_SEQUENCE != 0;
    let description = match dependency {
        // Where a frame ends only the marker tells: a packet may end with any of its units.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::dependency::Layer;

    #[test]
    fn without_a_descriptor_the_header_tells() {
        for (payload, expected) in [
            (&[0x18, 0][..], Some((true, true))),
            (&[0x58, 0], Some((true, true))),
            (&[0x10, 0], Some((false, true))),
            (&[0x90, 0], Some((false, false))),
            (&[0xd0, 0], Some((false, false))),
            // Contradictory: a sequence does not begin in the middle of a unit.
            (&[0x98, 0], Some((false, false))),
            (&[], None),
        ] {
            let described = describe(payload, None);
            assert_eq!(described.map(|d| (d.starts_keyframe, d.starts_frame)), expected, "{payload:x?}");
            assert!(described.is_none_or(|d| d.can_switch_up == d.starts_keyframe), "{payload:x?}");
        }
    }

    #[test]
    fn a_descriptor_decides() {
        let dependency = Dependency {
            starts_frame: true,
            ends_frame: false,
            frame_number: 7,
            has_structure: true,
            layer: Some(Layer::default()),
            opens: 2,
            heights: [0; 3],
        };
        // Several units in a frame: only the descriptor knows that the frame goes on.
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
