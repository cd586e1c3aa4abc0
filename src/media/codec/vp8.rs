//! The VP8 payload descriptor (RFC 7741 section 4.2).

use str0m::rtp::Vp8Descriptor;

/// The first packet of a key frame: start of partition 0, and the inverse key frame flag is clear.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    Vp8Descriptor::parse(payload).is_ok_and(|descriptor| descriptor.starts_keyframe(payload))
}

#[cfg(test)]
mod tests {
    use super::starts_keyframe;

    #[test]
    fn only_the_first_packet_of_a_key_frame_starts_one() {
        for (payload, expected) in [
            (&[0x10, 0x00, 0, 0, 0x9d, 0x01, 0x2a, 0, 0, 0, 0][..], true),
            (&[0x90, 0x80, 0x81, 0x23, 0x00, 0, 0, 0x9d, 0x01, 0x2a, 0, 0, 0, 0][..], true),
            (&[0x10, 0x01, 0, 0][..], false),
            (&[0x00, 0x00, 0, 0, 0x9d, 0x01, 0x2a][..], false),
            (&[0x10][..], false),
            (&[][..], false),
        ] {
            assert_eq!(starts_keyframe(payload), expected, "{payload:x?}");
        }
    }
}
