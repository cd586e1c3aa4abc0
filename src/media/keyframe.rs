//! The keyframe budget of one published track: when a request goes to the publisher.
//!
//! Requests are merged: the first goes at once, later ones wait until the spacing allows, and as long as
//! somebody still waits for a picture the request is repeated, since a PLI may be lost (RFC 4585 section 6.3.1).
//! It needs no timer: it is asked again with each packet of the track, and a track that sends nothing needs
//! no reminder.

use std::time::{Duration, Instant};

/// Least time between two requests for one track. Lower costs the publisher bitrate (a keyframe is 5 to 20
/// times an ordinary frame) and lets a storm of joins spoil the picture for all; higher makes an unlucky
/// newcomer wait.
pub const SPACING: Duration = Duration::from_millis(500);

/// Merges what subscribers want of one track.
#[derive(Debug, Default)]
pub struct KeyframeBudget {
    last_request: Option<Instant>,
    wanted: bool,
}

impl KeyframeBudget {
    /// Somebody needs a keyframe.
    pub fn request_keyframe(&mut self) {
        self.wanted = true;
    }

    /// A keyframe arrived: nobody waits any more.
    pub fn handle_keyframe(&mut self) {
        self.wanted = false;
    }

    /// Whether a request is to be sent now; if so it counts as sent.
    pub fn poll_request(&mut self, now: Instant) -> bool {
        let spaced = self.last_request.is_none_or(|last| now >= last + SPACING);
        let due = self.wanted && spaced;
        if due {
            self.last_request = Some(now);
        }
        due
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
            budget.request_keyframe();
            if budget.poll_request(start + Duration::from_millis(ms)) {
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
        assert!(!budget.poll_request(at(0)));
        budget.request_keyframe();
        assert!(budget.poll_request(at(0)));
        assert!(!budget.poll_request(at(499)));
        assert!(budget.poll_request(at(500)));
        budget.handle_keyframe();
        assert!(!budget.poll_request(at(1_000)));
        budget.request_keyframe();
        assert!(budget.poll_request(at(1_001)));
    }
}
