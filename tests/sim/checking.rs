//! Connectivity checks at the intervals of libwebrtc (`p2p/base/basic_ice_controller.cc`): frequent while they are not
//! answered, rare otherwise. A check nominates its pair only if the pair works, so after an outage that is the check
//! which follows the first answered one.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use str0m::RtcConfig;
use str0m::ice::StunMessage;

/// Interval of checks that are not answered. Chromium with two candidate pairs was measured to take half of it.
const URGENT_INTERVAL: Duration = Duration::from_millis(250);

/// Interval of the checks of a pair that works.
const CALM_INTERVAL: Duration = Duration::from_millis(2_500);

/// The first checks have no calm interval. A pair with more unanswered ones does not work.
const QUICK_CHECKS: u32 = 3;

/// How many checks str0m sends without an answer until it gives up: those of 30 s. It can't count much further.
const MAX_UNANSWERED: usize = 120;

/// The checks of one transport.
pub struct Checking {
    /// The server's ICE password.
    password: String,
    sent: u32,
    /// Checks since the last answered one.
    unanswered: u32,
    last_sent: Instant,
}

impl Checking {
    pub fn new(now: Instant, password: &str) -> Self {
        Self { password: password.to_owned(), sent: 0, unanswered: 0, last_sent: now }
    }

    /// Makes str0m send checks at the urgent interval.
    pub fn configure(config: RtcConfig) -> RtcConfig {
        let mut config = config;
        config.set_initial_stun_rto(URGENT_INTERVAL);
        config.set_max_stun_rto(URGENT_INTERVAL);
        config.set_max_stun_retransmits(MAX_UNANSWERED);
        config
    }

    /// Handles a datagram from the server.
    pub fn handle_datagram(&mut self, contents: &[u8]) {
        if StunMessage::parse(contents).is_ok_and(|message| message.is_successful_binding_response()) {
            self.unanswered = 0;
        }
    }

    /// Returns a datagram as it is sent, or `None` if it is a check before its time.
    pub fn edit(&mut self, now: Instant, contents: Vec<u8>) -> Option<Vec<u8>> {
        let Some(check) = StunMessage::parse(&contents).ok().filter(StunMessage::is_binding_request) else {
            return Some(contents);
        };
        if self.unanswered == 0 && self.sent >= QUICK_CHECKS && now < self.last_sent + CALM_INTERVAL {
            return None;
        }
        let works = self.unanswered < QUICK_CHECKS;
        self.sent += 1;
        self.unanswered += 1;
        self.last_sent = now;
        if works || !check.use_candidate() {
            return Some(contents);
        }
        let username = check.username().expect("a check has a username");
        let tiebreaker = check.ice_controlling().expect("a browser controls");
        let priority = check.prio().expect("a check has a priority");
        let edited = StunMessage::binding_request(username, check.trans_id(), true, tiebreaker, priority, false);
        let mut bytes = vec![0; contents.len()];
        let length = edited.to_bytes(Some(self.password.as_bytes()), &mut bytes, |key, parts| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
            parts.iter().for_each(|part| context.update(part));
            context.sign().as_ref().try_into().expect("20 bytes")
        });
        bytes.truncate(length.expect("it has fewer attributes than before"));
        Some(bytes)
    }
}
