//! The description of one packet: its frame, its layer and the ids of its picture.

/// A temporal layer that is not below any other: layer ids have three bits.
pub const ALL_LAYERS: u8 = 7;

/// Picture height per spatial layer, lowest layer first, 0 if unknown. The last entry is that of the highest layer from
/// there on.
pub type Heights = [u16; 3];

/// Description of one packet. "Frame" means a layer frame: with spatial layers, several of them have the same
/// timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The packet is the first of a picture at which decoding can start.
    pub starts_keyframe: bool,
    /// The packet is the first of its frame.
    pub starts_frame: bool,
    /// The packet is the last of its frame.
    pub ends_frame: bool,
    /// Spatial layer of the frame, 0 if unknown.
    pub spatial: u8,
    /// Temporal layer of the frame, 0 if unknown.
    pub temporal: u8,
    /// A receiver that got all lower temporal layers can switch up to the layer of this frame here. Valid in the first
    /// packet of a frame.
    pub can_switch_up: bool,
    /// A receiver for which this frame's spatial layer is the highest can decode all later frames up to this temporal
    /// layer. Valid in the first packet of a frame.
    pub opens: u8,
    /// The ids of the picture.
    pub ids: Ids,
    /// Picture heights, if the packet contains them.
    pub heights: Heights,
}

/// The ids of a picture that a decoder expects to be contiguous; `None` for those that the packet does not contain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Picture id (RFC 7741 and RFC 9628, section 4.2).
    pub picture: Option<PictureId>,
    /// TL0PICIDX, a count of pictures of temporal layer 0 (RFC 7741 and RFC 9628, section 4.2).
    pub tl0_pic_idx: Option<u8>,
    /// Frame number of the dependency descriptor, which may be present with any codec.
    pub frame_number: Option<u16>,
}

/// A picture id with its width on the wire. A source may change the width at any time (RFC 7741 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureId {
    /// 7 bits.
    Short(u8),
    /// 15 bits.
    Long(u16),
}

impl Description {
    /// Reduces the description to one spatial layer, for an SSRC that is itself one of several layers.
    pub fn flatten(&mut self) {
        let highest = self.heights.into_iter().rfind(|height| *height > 0);
        self.spatial = 0;
        self.heights = [highest.unwrap_or_default(), 0, 0];
    }
}

impl PictureId {
    /// Parses a picture id at the start of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [high, low, ..] if high & 0x80 != 0 => Some(Self::Long(u16::from_be_bytes([high & 0x7f, low]))),
            [value, ..] if value & 0x80 == 0 => Some(Self::Short(value)),
            _ => None,
        }
    }

    /// Returns the numeric value.
    pub fn value(self) -> u16 {
        match self {
            Self::Short(value) => value.into(),
            Self::Long(value) => value,
        }
    }

    /// Returns the largest value of this width, which is also its bit mask.
    pub fn max(self) -> u16 {
        match self {
            Self::Short(_) => 0x7f,
            Self::Long(_) => 0x7fff,
        }
    }

    /// Returns an id with the same width; excess bits of `value` are cut off.
    pub fn with(self, value: u16) -> Self {
        match self {
            Self::Short(_) => Self::Short((value & 0x7f) as u8),
            Self::Long(_) => Self::Long(value & 0x7fff),
        }
    }

    /// Returns the length on the wire in bytes.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Short(_) => 1,
            Self::Long(_) => 2,
        }
    }

    /// Writes the id over one of the same width.
    pub(super) fn write(self, bytes: &mut [u8]) {
        match self {
            Self::Short(value) => bytes[0] = value,
            Self::Long(value) => bytes[..2].copy_from_slice(&(value | 0x8000).to_be_bytes()),
        }
    }
}

/// Result of looking for a codec configuration in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// The packet contains it.
    Brought(&'a [u8]),
    /// The packet starts a keyframe without it.
    Missing,
}
