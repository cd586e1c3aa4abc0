//! Cameras with another codec than VP8. Their pictures come from `decoder::encoder`, and receivers record the packets
//! for a decoder.

use str0m::format::Codec;
use str0m::rtp::{Extension, ExtensionSerializer, ExtensionValues};

use crate::decoder::encoder::{Configured, Encoder, Mode};

const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Bytes of each packet of a spatial layer: about 150, 350 and 550 kbit/s at 30 pictures per second.
const SPATIAL_FILLING: [usize; 3] = [230, 620, 1_040];

/// A codec and the structure of its encoder's output.
#[derive(Clone, Copy, Debug)]
pub struct Encoding {
    pub codec: Codec,
    pub mode: Mode,
    pub configured: Configured,
}

impl Encoding {
    /// An encoding with the decoder configuration in each keyframe.
    pub const fn new(codec: Codec, mode: Mode) -> Self {
        Self { codec, mode, configured: Configured::Always }
    }

    /// The encoder of one layer; `start` spreads its counters.
    pub fn encoder(self, layer: usize, start: u32) -> Encoder {
        let mix = start.wrapping_add(layer as u32).wrapping_mul(2_654_435_761);
        let mut encoder = Encoder::new(self.mode, 1 + layer as u32, (mix >> 17) as u16);
        encoder.configured = self.configured;
        if encoder.spatial_layers > 1 {
            encoder.filling = SPATIAL_FILLING;
        }
        encoder
    }
}

/// The value of a dependency descriptor header extension.
#[derive(Clone, Debug)]
pub struct Dependency(pub Vec<u8>);

/// The dependency descriptor as raw bytes, because str0m does not parse it.
pub fn dependency() -> Extension {
    Extension::with_serializer(DEPENDENCY_DESCRIPTOR, Raw)
}

#[derive(Debug)]
struct Raw;

impl ExtensionSerializer for Raw {
    fn write_to(&self, buffer: &mut [u8], values: &ExtensionValues) -> usize {
        let Some(Dependency(value)) = values.user_values.get() else {
            return 0;
        };
        buffer[..value.len()].copy_from_slice(value);
        value.len()
    }

    fn parse_value(&self, value: &[u8], values: &mut ExtensionValues) -> bool {
        values.user_values.set(Dependency(value.to_vec()));
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }

    fn requires_two_byte_form(&self, values: &ExtensionValues) -> bool {
        values.user_values.get::<Dependency>().is_some_and(|Dependency(value)| value.len() > 16)
    }
}
