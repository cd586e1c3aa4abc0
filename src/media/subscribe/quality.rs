//! The quality in which a subscriber gets a track, and what limits it.

/// The quality of a track that a subscriber may get, or that is reported to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// The track is sent.
    pub is_sent: bool,
    /// Index of the layer, if there are several.
    pub layer: Option<u8>,
    /// Picture height; 0 if unknown.
    pub height: u16,
    /// Why it is not better.
    pub limit: Limit,
}

/// Why no better grade is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// There is no better grade.
    None,
    /// The view could not use a better grade.
    View,
    /// A better grade did not fit.
    Bandwidth,
    /// The view could use a better grade than the publisher sends.
    Publisher,
    /// The server is overloaded.
    Server,
    /// The granted grade starts with the next keyframe. Never set by `allocate`.
    Keyframe,
    /// The subscriber does not support the codec. Never set by `allocate`.
    Codec,
    /// The publisher sends packets that are too large to forward. Never set by `allocate`.
    Oversized,
}
