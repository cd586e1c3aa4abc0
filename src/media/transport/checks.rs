//! The connectivity checks of one peer: which of them str0m gets (RFC 8445 section 7.3).

use aws_lc_rs::hmac;
use str0m::ice::StunMessage;

/// Connectivity checks that str0m keeps until the first answer brings the password for the replies: one for each
/// candidate pair of a common client. str0m handles one in each turn of the loop. More adds turns without use, fewer
/// delays a client with many addresses until its next check.
const EARLY_CHECKS: u32 = 8;

/// The local ICE credentials of one peer, and its checks so far.
pub struct Checks {
    ufrag: String,
    password: String,
    /// Number of connectivity checks before the first answer; `None` after it.
    early: Option<u32>,
}

impl Checks {
    /// Creates the state of a peer without an answer.
    pub fn new(ufrag: String, password: String) -> Self {
        Self { ufrag, password, early: Some(0) }
    }

    /// Returns the ICE username fragment that identifies the peer in STUN requests.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Returns true if `contents` is a connectivity check authenticated with this peer's password. str0m would create a
    /// candidate pair without that, and checks nothing if the address is the nominated one.
    pub fn is_authentic(&self, contents: &[u8]) -> bool {
        let Ok(message) = StunMessage::parse(contents) else {
            return false;
        };
        let is_named = message.split_username().is_some_and(|(local, _)| local == self.ufrag);
        message.is_binding_request() && is_named && message.verify(self.password.as_bytes(), hmac_sha1)
    }

    /// Counts a check. Returns false if there are too many before the first answer.
    pub fn take(&mut self) -> bool {
        let Some(count) = &mut self.early else {
            return true;
        };
        *count += 1;
        *count <= EARLY_CHECKS
    }

    /// Notes that the first answer has arrived.
    pub fn handle_answer(&mut self) {
        self.early = None;
    }

    /// Returns true until the first answer arrives.
    pub fn are_early(&self) -> bool {
        self.early.is_some()
    }
}

/// Returns true for STUN, whose first byte is 0 to 3 (RFC 7983).
pub fn is_stun(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| *first <= 3)
}

fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("SHA-1 digests have 20 bytes")
}
