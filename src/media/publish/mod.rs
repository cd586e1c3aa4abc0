//! The streams that one peer publishes, and the state of each.
//!
//! In: its packets and sender reports, and the wishes of the subscribers. Out: packets to forward, the layers that are
//! active, keyframe requests, arrival feedback, and past packets to answer NACKs.
//!
//! Never here: a loop over subscribers, or a copy of a packet for each of them.

pub mod arrivals;
pub mod gate;
pub mod grade;
pub mod heard;
pub mod history;
pub mod keyframe;
pub mod layer;
pub mod layers;
pub mod sender_clock;
mod stream;
pub mod streams;
