//! The media plane: ICE demultiplexing, WebRTC peers, RTP. It has no knowledge of HTTP, WebSockets or rooms.

pub mod addresses;
pub mod allocation;
pub mod allowance;
pub mod answer;
pub mod bandwidth;
pub mod client_certificate;
pub mod codec;
pub mod demux;
pub mod dtls;
pub mod egress;
pub mod elements;
pub mod fault;
pub mod forward;
pub mod heard;
pub mod history;
pub mod keyframe;
pub mod layers;
pub mod negotiation;
pub mod numbering;
pub mod opening;
pub mod outgoing;
pub mod packet;
pub mod peer;
pub mod profile;
pub mod repair;
pub mod rtcp;
pub mod sdp;
pub mod sending;
pub mod srtp;
pub mod wallclock;

#[cfg(test)]
#[path = "../../tests/decoder/mod.rs"]
mod decoder;

/// Proptest configuration with `cases` inputs from a fixed seed, and without a regression file.
#[cfg(test)]
fn inputs(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}
