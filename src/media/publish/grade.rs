//! A grade: one way to send a track, by layer and picture rate.

/// A grade is sufficient for a tile if it has at least this fraction of the tile's height. A lower fraction looks
/// blurred; a higher one sends detail that is scaled away: a tile of height 300 gets 360 and not 720, which costs three
/// times as much.
const SUFFICIENT_HEIGHT: (u32, u32) = (3, 4);

/// One way to send a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grade {
    /// Simulcast or spatial layer; 0 is the smallest.
    pub layer: u8,
    /// Highest temporal layer sent.
    pub temporal: u8,
    /// Measured bitrate of all packets of this grade; 0 if unknown.
    pub bitrate_bps: u64,
    /// Picture height; 0 if unknown: the size of the tile then does not limit it.
    pub height: u16,
}

/// Returns true if a picture of this height is sufficient for a tile; false if the height is unknown (0).
pub fn is_enough(height: u16, tile: u32) -> bool {
    let (lines, of) = SUFFICIENT_HEIGHT;
    height > 0 && u32::from(height).saturating_mul(of) >= tile.saturating_mul(lines)
}
