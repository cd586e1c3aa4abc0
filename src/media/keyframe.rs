//! The keyframe budget of one published layer: when a request goes to the publisher.
//!
//! Requests are merged: the first goes at once, later ones wait until the spacing allows, and as long as
//! somebody still waits for a picture the request is repeated, since a PLI may be lost (RFC 4585 section 6.3.1).
//! It needs no timer: it is asked again with each packet of the track, and a layer that sends nothing needs
//! no reminder.

use std::time::{Duration, Instant};

/// Least time between two requests for one layer. Lower costs the publisher bitrate (a keyframe is 5 to 20
/// times an ordinary frame) and lets a storm of joins spoil the picture for all; higher makes an unlucky
/// newcomer wait.
pub const SPACING: Duration = Duration::from_millis(500);

/// Longest time between two requests, however large keyframes are: a subscriber that waits has to get a picture.
pub const LONGEST: Duration = Duration::from_secs(3);

/// Keyframes may be one part in this many of what a layer sends. A higher share lets those who ask often take the
/// picture from everybody, a lower one makes those wait who have lost it.
const SHARE: u32 = 2;

/// Why a keyframe is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A subscriber has nothing yet.
    Join,
    /// A subscriber waits for another layer.
    Switch,
    /// A subscriber asks again for what is no longer kept.
    Loss,
    /// A subscriber asks for one (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1).
    Pli,
}

impl Reason {
    /// Whoever waits has a picture meanwhile.
    pub fn can_wait(self) -> bool {
        self == Reason::Switch
    }
}

/// Merges what subscribers want of one layer.
#[derive(Debug, Default)]
pub struct KeyframeBudget {
    last_request: Option<Instant>,
    wanted: Option<Reason>,
    /// Bytes of the last keyframe.
    bytes: usize,
    /// What the layer sends, in bits a second.
    rate_bps: u64,
}

impl KeyframeBudget {
    /// Somebody needs a keyframe. Of several reasons the first is told, but for one that can wait.
    pub fn request_keyframe(&mut self, reason: Reason) {
        if self.wanted.is_none_or(Reason::can_wait) {
            self.wanted = Some(reason);
        }
    }

    /// A picture arrived with which decoding can start: subscribers that still wait ask again with its packets.
    pub fn handle_start(&mut self) {
        self.wanted = None;
    }

    /// A packet of the last keyframe, its `first` or another, has so many bytes.
    pub fn handle_bytes(&mut self, first: bool, bytes: usize) {
        self.bytes = bytes + if first { 0 } else { self.bytes };
    }

    /// What the layer sends was measured.
    pub fn handle_rate(&mut self, rate_bps: u64) {
        self.rate_bps = rate_bps;
    }

    /// Whether a request may be sent now, and why.
    pub fn due(&self, now: Instant) -> Option<Reason> {
        self.wanted.filter(|_| self.last_request.is_none_or(|last| now >= last + self.spacing()))
    }

    /// Whether a request is to be sent now, and why; if so it counts as sent.
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
    fn a_storm_of_requests_costs_three_in_its_first_second() {
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
    fn keyframes_take_half_of_what_a_layer_sends_at_most() {
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
