//! A codec as a forwarder sees it: where a picture starts that needs no other.

pub mod av1;
pub mod h264;
pub mod vp8;
pub mod vp9;

use str0m::format::Codec;

/// Whether decoding can start with this RTP payload. Unknown codecs start anywhere: a picture that must first
/// be asked for beats none.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => vp8::starts_keyframe(payload),
        Codec::Vp9 => vp9::starts_keyframe(payload),
        Codec::H264 => h264::starts_keyframe(payload),
        Codec::Av1 => av1::starts_keyframe(payload),
        _ => true,
    }
}
