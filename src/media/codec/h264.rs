//! H.264 NAL units in RTP (RFC 6184 section 5.4).

const SPS: u8 = 7;
const STAP_A: u8 = 24;

/// The packet that carries the sequence parameter set in front of an IDR picture: WebRTC encoders send it with
/// every IDR, and without it an IDR can't be decoded.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let Some((&header, mut rest)) = payload.split_first() else {
        return false;
    };
    match header & 0x1f {
        SPS => true,
        STAP_A => {
            while let [high, low, nal @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if nal.first().is_some_and(|nal_header| nal_header & 0x1f == SPS) {
                    return true;
                }
                rest = nal.get(length..).unwrap_or_default();
            }
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::starts_keyframe;

    #[test]
    fn a_parameter_set_starts_alone_or_aggregated() {
        for (payload, expected) in [
            (&[0x67, 0x42][..], true),
            (&[0x78, 0, 1, 0x67, 0, 1, 0x68][..], true),
            (&[0x78, 0, 1, 0x68, 0, 2, 0x67, 0][..], true),
            (&[0x78, 0, 9, 0x68, 0][..], false),
            (&[0x78, 0][..], false),
            (&[0x65, 0][..], false),
            (&[0x7c, 0x85][..], false),
            (&[0x41][..], false),
            (&[][..], false),
        ] {
            assert_eq!(starts_keyframe(payload), expected, "{payload:x?}");
        }
    }
}
