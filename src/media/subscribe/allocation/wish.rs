//! A wish: the demand of a subscriber for one track, and the cap that the server's load puts on it.

use crate::media::publish::grade::Grade;

/// The demand of a subscriber for one track.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The grades that the publisher sends, or would send if they were wanted, ordered by layer and temporal layer.
    pub grades: &'a [Grade],
    /// Height of the tile in device pixels, 0 if it is not visible; `None` if the page does not report it.
    pub height: Option<u32>,
    /// Priority, higher is more important. Videos with the highest priority are on stage; next to a screen,
    /// videos of priority 0 never are.
    pub priority: u32,
    /// The track is a shared screen: it shows text, for which resolution matters more than motion. Screens are always
    /// on stage.
    pub is_screen: bool,
    /// The publisher is an active speaker.
    pub speaks: bool,
    /// The cap that the server's load puts on the track.
    pub load_cap: LoadCap,
    /// The publisher has paused layers that no subscriber wants.
    pub has_paused_layers: bool,
    /// Index of the grade granted last.
    pub current: Option<usize>,
}

/// How much of a track the server's load allows to send to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadCap {
    /// Any grade.
    Unlimited,
    /// For a camera, the smallest layer. For a screen, whose text must stay readable, the best layer at its lowest
    /// picture rate.
    Reduced,
    /// No grade.
    Nothing,
}
