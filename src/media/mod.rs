//! The media plane: one WebRTC peer per participant, from datagrams to forwarded RTP. It does not depend on HTTP,
//! WebSockets or rooms.

pub mod bandwidth;
pub mod fault;
pub mod negotiation;
pub mod peer;
pub mod publish;
pub mod rtp;
pub mod subscribe;
pub mod transport;

#[cfg(test)]
#[path = "../../tests/decoder/mod.rs"]
mod decoder;

#[cfg(test)]
mod story;

/// Proptest configuration with `cases` inputs from a fixed seed, and without a regression file.
#[cfg(test)]
fn inputs(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}
