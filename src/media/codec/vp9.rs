//! The VP9 payload descriptor (RFC 9628 section 4.2).

const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const START_OF_FRAME: u8 = 0x08;

/// The first packet of a key picture: start of a frame that is not inter-picture predicted, in the lowest
/// spatial layer.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let Some((&flags, rest)) = payload.split_first() else {
        return false;
    };
    if flags & INTER_PREDICTED != 0 || flags & START_OF_FRAME == 0 {
        return false;
    }
    let picture_id_bytes = match rest.first() {
        _ if flags & PICTURE_ID == 0 => 0,
        Some(first) if first & 0x80 != 0 => 2,
        Some(_) => 1,
        None => return false,
    };
    if flags & LAYER_INDICES == 0 {
        return rest.len() > picture_id_bytes;
    }
    rest.get(picture_id_bytes).is_some_and(|layer| (layer >> 1) & 0x07 == 0)
}

#[cfg(test)]
mod tests {
    use super::starts_keyframe;

    #[test]
    fn only_an_intra_picture_of_the_lowest_layer_starts() {
        for (payload, expected) in [
            (&[0x08, 1][..], true),
            (&[0x88, 0x81, 0x23, 1][..], true),
            (&[0xa8, 0x81, 0x23, 0x00, 0][..], true),
            (&[0xa8, 0x81, 0x23, 0x02, 0][..], false),
            (&[0xa8, 0x12, 0x00, 0][..], true),
            (&[0x48, 1][..], false),
            (&[0x00, 1][..], false),
            (&[0x88][..], false),
            (&[0xa8, 0x81][..], false),
            (&[][..], false),
        ] {
            assert_eq!(starts_keyframe(payload), expected, "{payload:x?}");
        }
    }
}
