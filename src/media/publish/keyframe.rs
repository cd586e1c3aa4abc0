//! The keyframe budget of one published layer, which decides when to send a keyframe request to the publisher.
//!
//! Requests are merged: the first is sent at once, later ones wait for the spacing. While a subscriber still waits for
//! a picture, the request is repeated, because a PLI may be lost (RFC 4585 section 6.3.1). No timer is needed: the
//! budget is polled with each packet of the track, and a layer that sends no packets needs no reminder.

use std::time::{Duration, Instant};

/// Minimum time between two requests for one layer. A lower value costs the publisher bitrate (a keyframe is 5 to 20
/// times the size of another frame) and lets many joins at once degrade the picture for all; a higher one delays a
/// subscriber that joins just after a request.
pub const SPACING: Duration = Duration::from_millis(500);

/// Maximum time between two requests, however large keyframes are, so that a waiting subscriber gets a picture.
pub const LONGEST: Duration = Duration::from_secs(3);

/// Keyframes may be 1/`SHARE` of the layer's bitrate. A higher share lets subscribers that request often degrade the
/// picture for all, a lower one delays those that lost it.
const SHARE: u32 = 2;

/// Why a keyframe is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A subscriber has no picture yet.
    Join,
    /// A subscriber waits to switch to another layer.
    Switch,
    /// A subscriber requests a retransmission of packets that are no longer kept.
    Loss,
    /// A subscriber sent a PLI or FIR (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1).
    Pli,
}

impl Reason {
    /// Whether the subscriber has a picture while it waits.
    pub fn can_wait(self) -> bool {
        self == Reason::Switch
    }
}

/// Merges the keyframe requests for one layer.
#[derive(Debug, Default)]
pub struct KeyframeBudget {
    last_request: Option<Instant>,
    wanted: Option<Reason>,
    /// Size of the last keyframe in bytes.
    bytes: usize,
    /// Bitrate of the layer in bits per second.
    rate_bps: u64,
}

impl KeyframeBudget {
    /// Records that a subscriber needs a keyframe. The first reason is kept, except that any other replaces `Switch`.
    pub fn request_keyframe(&mut self, reason: Reason) {
        if self.wanted.is_none_or(Reason::can_wait) {
            self.wanted = Some(reason);
        }
    }

    /// Handles the arrival of a picture at which decoding can start. Subscribers that still wait afterwards repeat
    /// their request.
    pub fn handle_start(&mut self) {
        self.wanted = None;
    }

    /// Counts a packet of the last keyframe; `first` is true for its first packet.
    pub fn handle_bytes(&mut self, first: bool, bytes: usize) {
        self.bytes = bytes + if first { 0 } else { self.bytes };
    }

    /// Sets the measured bitrate of the layer.
    pub fn handle_rate(&mut self, rate_bps: u64) {
        self.rate_bps = rate_bps;
    }

    /// Returns the reason if a request may be sent now.
    pub fn due(&self, now: Instant) -> Option<Reason> {
        self.wanted.filter(|_| self.last_request.is_none_or(|last| now >= last + self.spacing()))
    }

    /// Returns the reason if a request is to be sent now, and records it as sent.
    pub fn poll_request(&mut self, now: Instant) -> Option<Reason> {
        let due = self.due(now)?;
        self.last_request = Some(now);
        Some(due)
    }

    fn spacing(&self) -> Duration {
        let bits = 8 * self.bytes as u64 * u64::from(SHARE);
        let millis = (1_000 * bits).checked_div(self.rate_bps).unwrap_or_default();
        Duration::from_millis(millis).clamp(SPACING, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_requests_within_a_second_are_merged_into_two() {
        let start = Instant::now();
        let mut budget = KeyframeBudget::default();
        let mut sent = Vec::new();
        for ms in 0..1_000 {
            budget.request_keyframe(Reason::Join);
            if budget.poll_request(start + Duration::from_millis(ms)).is_some() {
                sent.push(ms);
            }
        }
        assert_eq!(sent, [0, 500]);
    }

    #[test]
    fn a_request_is_repeated_until_a_keyframe_comes() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = KeyframeBudget::default();
        assert_eq!(budget.poll_request(at(0)), None);
        budget.request_keyframe(Reason::Join);
        assert_eq!(budget.poll_request(at(0)), Some(Reason::Join));
        assert_eq!(budget.poll_request(at(499)), None);
        assert_eq!(budget.poll_request(at(500)), Some(Reason::Join));
        budget.handle_start();
        assert_eq!(budget.poll_request(at(1_000)), None);
        budget.request_keyframe(Reason::Join);
        assert_eq!(budget.poll_request(at(1_001)), Some(Reason::Join));
        budget.request_keyframe(Reason::Switch);
        budget.handle_start();
        assert_eq!(budget.poll_request(at(1_501)), None);
    }

    #[test]
    fn keyframes_take_at_most_half_of_the_layers_bitrate() {
        let start = Instant::now();
        for (keyframe, rate_bps, expected) in
            [(6_000, 150_000, 640), (6_000, 1_500_000, 500), (60_000, 100_000, 3_000), (60_000, 0, 500)]
        {
            let mut budget = KeyframeBudget::default();
            budget.handle_bytes(true, 1_000);
            budget.handle_bytes(false, keyframe - 1_000);
            budget.handle_rate(rate_bps);
            budget.request_keyframe(Reason::Pli);
            assert_eq!(budget.poll_request(start), Some(Reason::Pli));
            let next = (1..5_000).find(|ms| budget.poll_request(start + Duration::from_millis(*ms)).is_some());
            assert_eq!(next, Some(expected), "{keyframe} bytes at {rate_bps}");
        }
    }
}
