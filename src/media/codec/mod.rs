//! A codec as a forwarder sees it: what an RTP packet says of the frame that it belongs to, and the numbers in it
//! that must go on without a gap when the source changes.
//!
//! Nothing here fails. What can't be read says nothing, and a packet that says nothing belongs to the lowest layer:
//! whoever gets anything gets it.

pub mod av1;
pub mod h264;
pub mod vp8;
pub mod vp9;

use std::num::NonZeroU16;

use str0m::format::Codec;

/// A temporal layer above all that there are: three bits number them.
pub const ALL_LAYERS: u8 = 7;

/// What a forwarder needs to know of one packet. Frame means layer frame: with spatial layers there are several of
/// one timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// It is the first packet of a picture with which decoding can start.
    pub starts_keyframe: bool,
    /// It is the first packet of a frame.
    pub starts_frame: bool,
    /// It is the last packet of a frame.
    pub ends_frame: bool,
    /// The layer of its frame, 0 if it doesn't say.
    pub spatial: u8,
    /// The layer of its frame, 0 if it doesn't say.
    pub temporal: u8,
    /// A receiver that had only lower temporal layers may begin with this frame. The first packet tells.
    pub can_switch_up: bool,
    /// A receiver that gets this frame, on the highest spatial layer that it gets, may get all frames up to this temporal
    /// layer that come after it. The first packet tells.
    pub opens: u8,
    /// The numbers of its picture.
    pub ids: Ids,
    /// The size of the picture, of the highest spatial layer, if this packet tells it.
    pub size: Option<Size>,
}

/// The numbers of a picture that a decoder expects to go on, as far as a packet has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Picture id (RFC 7741 and RFC 9628, section 4.2).
    pub picture: Option<PictureId>,
    /// How many pictures of temporal layer 0 there were (likewise).
    pub tl0_pic_idx: Option<u8>,
    /// The number of the frame in the dependency descriptor, which may come with any codec.
    pub frame_number: Option<u16>,
}

/// A picture id with the width that it has on the wire. A source may change the width at any time (RFC 7741
/// section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureId {
    /// 7 bits.
    Short(u8),
    /// 15 bits.
    Long(u16),
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels of a line.
    pub width: NonZeroU16,
    /// Lines.
    pub height: NonZeroU16,
}

/// Reads a packet of a video. `dependency` is the value of the dependency descriptor's element, if it has one,
/// `structure` what is remembered of its SSRC. Packets of one SSRC come in the order in which they arrived.
pub fn describe(
    codec: Codec,
    marker: bool,
    payload: &[u8],
    dependency: Option<&[u8]>,
    structure: &mut Structure,
) -> Description {
    let unknown = Description { ends_frame: marker, ..Description::default() };
    let _ = structure;
    let description = match codec {
        Codec::Vp8 => vp8::describe(payload),
        Codec::Vp9 => Some(Description { starts_keyframe: vp9::starts_keyframe(payload), ..unknown }),
        Codec::H264 => Some(Description { starts_keyframe: h264::starts_keyframe(payload), ..unknown }),
        Codec::Av1 => Some(Description { starts_keyframe: av1::starts_keyframe(payload), ..unknown }),
        // A picture that must first be asked for beats none.
        _ => Some(Description { starts_keyframe: true, starts_frame: true, ..unknown }),
    };
    let mut description = description.unwrap_or(unknown);
    description.ends_frame |= marker;
    description.ids.frame_number = dependency.and_then(frame_number);
    description
}

/// Writes other ids into a payload, as wide as those that are there; those that are on one side only stay.
pub fn patch(codec: Codec, payload: &mut [u8], ids: Ids) {
    if codec == Codec::Vp8 {
        vp8::patch(payload, ids);
    }
}

/// Writes another frame number into the value of a dependency descriptor's element, of any codec.
pub fn patch_dependency(element: &mut [u8], ids: Ids) {
    if let (Some(number), Some(bytes)) = (ids.frame_number, element.get_mut(1..3)) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
}

/// Whether decoding can start with this RTP payload.
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    describe(codec, false, payload, None, &mut Structure::default()).starts_keyframe
}

fn frame_number(element: &[u8]) -> Option<u16> {
    element.get(1..3)?.try_into().ok().map(u16::from_be_bytes)
}

/// What has to be remembered of one incoming SSRC to understand its dependency descriptors.
#[derive(Clone, Debug, Default)]
pub struct Structure(());

impl PictureId {
    /// Reads one at the start of these bytes.
    fn read(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [high, low, ..] if high & 0x80 != 0 => Some(Self::Long(u16::from_be_bytes([high & 0x7f, low]))),
            [value, ..] if value & 0x80 == 0 => Some(Self::Short(value)),
            _ => None,
        }
    }

    /// The number alone.
    pub fn value(self) -> u16 {
        match self {
            Self::Short(value) => value.into(),
            Self::Long(value) => value,
        }
    }

    /// The largest number of this width, which is also the mask of its bits.
    pub fn max(self) -> u16 {
        match self {
            Self::Short(_) => 0x7f,
            Self::Long(_) => 0x7fff,
        }
    }

    /// Another number of the same width; bits beyond it are cut off.
    pub fn with(self, value: u16) -> Self {
        match self {
            Self::Short(_) => Self::Short((value & 0x7f) as u8),
            Self::Long(_) => Self::Long(value & 0x7fff),
        }
    }

    /// Bytes on the wire.
    fn length(self) -> usize {
        match self {
            Self::Short(_) => 1,
            Self::Long(_) => 2,
        }
    }

    /// Writes it where one of the same width was read.
    fn write(self, bytes: &mut [u8]) {
        match self {
            Self::Short(value) => bytes[0] = value,
            Self::Long(value) => bytes[..2].copy_from_slice(&(value | 0x8000).to_be_bytes()),
        }
    }
}

impl Size {
    /// None if one of them is 0.
    pub fn new(width: u16, height: u16) -> Option<Self> {
        Some(Self { width: NonZeroU16::new(width)?, height: NonZeroU16::new(height)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_stays_small() {
        assert!(size_of::<Description>() <= 24, "{}", size_of::<Description>());
    }

    #[test]
    fn an_unknown_codec_starts_anywhere() {
        let description = describe(Codec::Unknown, true, &[], None, &mut Structure::default());
        assert!(description.starts_keyframe && description.starts_frame && description.ends_frame);
        assert_eq!((description.temporal, description.ids), (0, Ids::default()));
    }

    #[test]
    fn any_codec_may_have_a_frame_number() {
        let mut element = [0xc0, 0x12, 0x34];
        let mut structure = Structure::default();
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
            let description = describe(codec, false, &[0x10, 0x01], Some(&element), &mut structure);
            assert_eq!(description.ids.frame_number, Some(0x1234), "{codec:?}");
            let cut = describe(codec, false, &[0x10, 0x01], Some(&element[..2]), &mut structure);
            assert_eq!(cut.ids.frame_number, None);
        }
        patch_dependency(&mut element, Ids { frame_number: Some(0xabcd), ..Ids::default() });
        assert_eq!(element, [0xc0, 0xab, 0xcd]);
        patch_dependency(&mut element[..2], Ids { frame_number: Some(7), ..Ids::default() });
        patch_dependency(&mut element, Ids::default());
        assert_eq!(element, [0xc0, 0xab, 0xcd]);
    }
}
