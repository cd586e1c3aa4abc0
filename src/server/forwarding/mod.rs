//! Forwarding: [`peers`] takes in datagrams, [`fanout`] passes their packets to each subscriber, and sealed datagrams
//! go out.
//!
//! What a subscriber gets is decided in three steps: [`seating`] chooses the publishers, [`offers`] gives their tracks
//! m-lines, and [`quality`] chooses the layer of each track, within what [`shedding`] allows. No packet causes a loop
//! over all participants, and no sequence number of an SSRC is sent twice. [`drops`] accounts for each packet that is
//! not forwarded.

pub mod drops;
mod fanout;
mod keyframes;
mod offers;
pub mod outbox;
pub mod pacing;
mod peers;
mod quality;
mod seating;
pub mod shedding;
mod speaking;
