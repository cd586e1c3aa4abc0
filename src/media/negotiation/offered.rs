//! The m-lines of an offer, as the answer has to repeat them.

use str0m::media::{Direction, Mid};

use crate::media::negotiation::attributes::{direction, value};
use crate::media::negotiation::sdp::sections;

/// One m-line of the latest offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its mid.
    pub mid: Mid,
    /// Audio, or else video.
    pub is_audio: bool,
    /// The direction, seen from the server.
    pub direction: Direction,
}

/// Parses the m-lines of an offer.
pub fn offered(offer: &str) -> Vec<Offered> {
    let m_lines = sections(offer).filter(|section| section.starts_with("m=")).map(|section| {
        let attributes: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("a=")).collect();
        Offered {
            mid: Mid::from(value(&attributes, "mid").unwrap_or_default()),
            is_audio: section.starts_with("m=audio "),
            direction: direction(&attributes).unwrap_or(Direction::SendRecv),
        }
    });
    m_lines.collect()
}
