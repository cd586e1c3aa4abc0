//! What a published stream is, in the words of the signaling protocol.

use serde::{Deserialize, Serialize};

/// Sound or picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// Where a published stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A person's microphone.
    Microphone,
    /// A person's camera.
    Camera,
    /// A shared screen or window, picture or sound.
    Screen,
}

impl Source {
    /// How many there are.
    pub const COUNT: usize = Self::Screen as usize + 1;
}
