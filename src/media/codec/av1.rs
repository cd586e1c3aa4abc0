//! The AV1 aggregation header (AV1 RTP payload specification, section 4.4).

const CONTINUES_OBU: u8 = 0x80;
const NEW_CODED_VIDEO_SEQUENCE: u8 = 0x08;

/// The first packet of a new coded video sequence.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & NEW_CODED_VIDEO_SEQUENCE != 0 && header & CONTINUES_OBU == 0)
}

#[cfg(test)]
mod tests {
    use super::starts_keyframe;

    #[test]
    fn only_a_new_sequence_starts() {
        for (payload, expected) in
            [(&[0x18, 0][..], true), (&[0x10, 0][..], false), (&[0x98, 0][..], false), (&[][..], false)]
        {
            assert_eq!(starts_keyframe(payload), expected, "{payload:x?}");
        }
    }
}
