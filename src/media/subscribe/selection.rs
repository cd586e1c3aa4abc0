//! The layers that are selected for a subscriber, and how it shows a track.

use crate::media::publish::layer::{LAYERS, TEMPORAL_LAYERS};

/// How a subscriber shows a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Width in device pixels.
    pub width: u32,
    /// Height in device pixels.
    pub height: u32,
    /// Priority; higher is more important.
    pub priority: u32,
}

/// The part of a track to send, ordered by quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// Index of the simulcast layer.
    pub layer: u8,
    /// Highest spatial layer in its SSRC; `u8::MAX` for no bound.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
}

impl Default for View {
    /// Without a report from the page, every track is shown at full size.
    fn default() -> Self {
        Self { width: u32::MAX, height: u32::MAX, priority: 0 }
    }
}

impl Selection {
    /// Everything that the publisher sends.
    pub const BEST: Self = Self { layer: LAYERS as u8 - 1, spatial: u8::MAX, temporal: TEMPORAL_LAYERS as u8 - 1 };
}

impl View {
    /// Height in device pixels, 0 if it is hidden; `None` without a report from the page.
    pub fn tile(&self) -> Option<u32> {
        (self.height < u32::MAX).then_some(if self.width == 0 { 0 } else { self.height })
    }
}
