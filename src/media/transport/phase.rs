//! The progress of one peer's transport: ICE, DTLS and consent, with their time limits.

use std::time::{Duration, Instant};

/// Time limit for ICE after an answer that accepts an m-line.
const ICE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for ICE and DTLS together, after such an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(35);

/// Time limit for a peer to recover after its consent has expired, which is 15 s after its last check (RFC 7675 section
/// 5.1).
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the peer alone chooses the candidate pair, after an answer that lets media flow. Browsers nominate one
/// within a few round trips if the path carries packets. A shorter time may choose a pair that carries them in one
/// direction only, a longer one delays media after an outage.
const NOMINATION_TIME: Duration = Duration::from_millis(500);

/// Progress of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No answer yet that lets media flow.
    Signaling,
    /// Waiting for ICE, then for DTLS.
    Connecting {
        /// When the answer arrived.
        since: Instant,
        /// Whether ICE is connected.
        ice: bool,
    },
    /// Media flows.
    Connected,
    /// ICE consent is lost.
    Lost {
        /// When it was lost.
        since: Instant,
    },
}

impl Phase {
    /// Returns when the phase fails.
    pub fn due(self) -> Option<Instant> {
        match self {
            Self::Connecting { since, ice: false } => Some(since + ICE_TIMEOUT),
            Self::Connecting { since, ice: true } => Some(since + CONNECT_TIMEOUT),
            Self::Lost { since } => Some(since + RECOVERY_TIMEOUT),
            Self::Signaling | Self::Connected => None,
        }
    }

    /// Returns true if the next authentic check counts as a nomination although it lacks USE-CANDIDATE, because the
    /// peer's own is overdue.
    ///
    /// After unanswered checks, libwebrtc waits 0.9 to 2.5 s after the first answered one before it sends the next, and
    /// only that one nominates (`BasicIceController::CalculateActiveWritablePingInterval`).
    pub fn is_nomination_late(self, now: Instant) -> bool {
        match self {
            Self::Connecting { since, ice: false } => now >= since + NOMINATION_TIME,
            Self::Lost { .. } => true,
            Self::Signaling | Self::Connecting { ice: true, .. } | Self::Connected => false,
        }
    }

    /// Returns what the phase waits for, for the log.
    pub fn missing(self) -> &'static str {
        match self {
            Self::Connecting { ice: false, .. } => "no ICE connectivity check arrived",
            Self::Connecting { ice: true, .. } => "DTLS did not finish",
            Self::Lost { .. } => "ICE consent was lost",
            Self::Signaling | Self::Connected => "nothing is missing",
        }
    }

    /// Returns the phase after a change of ICE.
    pub fn after_ice(self, now: Instant, has_ice: bool) -> Self {
        match (self, has_ice) {
            (Self::Connecting { since, .. }, true) => Self::Connecting { since, ice: true },
            (Self::Lost { .. }, true) => Self::Connected,
            (Self::Connected, false) => Self::Lost { since: now },
            (phase, _) => phase,
        }
    }
}
