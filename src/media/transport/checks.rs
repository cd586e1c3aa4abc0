//! The connectivity checks of one peer: authentication, and which of them are passed to str0m (RFC 8445 section 7.3).

use std::collections::VecDeque;

use aws_lc_rs::hmac;
use str0m::ice::{StunMessage, TransId};

use crate::media::transport::phase::Phase;

/// Connectivity checks that str0m keeps until the first answer, which contains the password for the replies: one for
/// each candidate pair of a common client. str0m handles one in each turn of the loop. More only adds turns, fewer
/// delays a client with many addresses until its next check.
const EARLY_CHECKS: u32 = 8;

/// Accepted checks that are remembered, to recognize repeated ones: those of two minutes from a client with a few
/// candidate pairs. Fewer let an attacker repeat checks sooner, more take memory.
const ACCEPTED: usize = 256;

/// The lowest priority of a candidate (RFC 8445 section 5.1.2).
const LOWEST: u32 = 1;

/// Bytes of the attributes that `Checks::nominating` adds at most: USE-CANDIDATE and FINGERPRINT.
const ADDED_BYTES: usize = 12;

/// The local ICE credentials of one peer, and its checks so far.
pub struct Checks {
    ufrag: String,
    password: String,
    /// Number of connectivity checks before the first answer; `None` after it.
    early: Option<u32>,
    /// The transaction ids of the last accepted checks, newest first.
    accepted: VecDeque<TransId>,
}

impl Checks {
    /// Upper bound of the memory, in bytes.
    pub const MAX_BYTES: usize = 2 * ACCEPTED * size_of::<TransId>();

    /// Creates the state of a peer without an answer.
    pub fn new(ufrag: String, password: String) -> Self {
        Self { ufrag, password, early: Some(0), accepted: VecDeque::new() }
    }

    /// Returns the ICE username fragment that identifies the peer in STUN requests.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Decides whether a check is accepted. `charge` is called for an authentic check and returns false if there are
    /// too many.
    ///
    /// While consent is lost, the next check directs media to its source. Anyone on the path can repeat a check from
    /// another address, so one that was accepted before is refused then.
    pub fn admit(&mut self, contents: &[u8], phase: Phase, charge: impl FnOnce() -> bool) -> bool {
        let Some(id) = self.authenticate(contents) else {
            return false;
        };
        let is_repeated = self.accepted.contains(&id);
        if is_repeated && matches!(phase, Phase::Lost { .. }) || !charge() || !self.take() {
            return false;
        }
        if !is_repeated {
            self.accepted.truncate(ACCEPTED - 1);
            self.accepted.push_front(id);
        }
        true
    }

    /// Returns the transaction id if `contents` is a connectivity check authenticated with this peer's password. str0m
    /// would create a candidate pair before it verifies a check, and does not verify checks from the nominated address.
    fn authenticate(&self, contents: &[u8]) -> Option<TransId> {
        let message = StunMessage::parse(contents).ok()?;
        let is_named = message.split_username().is_some_and(|(local, _)| local == self.ufrag);
        let is_authentic =
            message.is_binding_request() && is_named && message.verify(self.password.as_bytes(), hmac_sha1);
        is_authentic.then(|| message.trans_id())
    }

    /// Counts a check. Returns false if there are too many before the first answer.
    fn take(&mut self) -> bool {
        let Some(count) = &mut self.early else {
            return true;
        };
        *count += 1;
        *count <= EARLY_CHECKS
    }

    /// Returns a copy of an authentic check that nominates its candidate pair. Returns `None` if the check does so
    /// already or str0m would refuse it.
    ///
    /// The check has the lowest priority. str0m uses it only for an address that it does not know yet: then a pair that
    /// the peer itself nominates later takes precedence. The candidate of a known address keeps its priority.
    pub fn nominating(&self, contents: &[u8]) -> Option<Vec<u8>> {
        let check = StunMessage::parse(contents).ok().filter(|check| !check.use_candidate())?;
        let (username, tiebreaker) = (check.username()?, check.ice_controlling()?);
        let nominating = StunMessage::binding_request(username, check.trans_id(), true, tiebreaker, LOWEST, true);
        let mut bytes = vec![0; contents.len() + ADDED_BYTES];
        let length = nominating.to_bytes(Some(self.password.as_bytes()), &mut bytes, hmac_sha1).ok()?;
        bytes.truncate(length);
        Some(bytes)
    }

    /// Notes that the first answer has arrived.
    pub fn handle_answer(&mut self) {
        self.early = None;
    }

    /// Returns true until the first answer arrives.
    pub fn awaits_answer(&self) -> bool {
        self.early.is_some()
    }
}

fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("SHA-1 digests have 20 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Checks {
        Checks::new("own".to_owned(), "password of the server".to_owned())
    }

    fn check(is_controlling: bool, use_candidate: bool) -> Vec<u8> {
        let check = StunMessage::binding_request("own:peer", TransId::new(), is_controlling, 7, 99, use_candidate);
        let mut bytes = vec![0; 200];
        let length = check.to_bytes(Some(b"password of the server"), &mut bytes, hmac_sha1).expect("it fits");
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn a_check_that_nominates_is_the_peers_check_in_everything_else() {
        let own = check(true, false);
        let nominating = checks().nominating(&own).expect("it does not nominate yet");
        assert!(checks().authenticate(&own).is_some() && checks().authenticate(&nominating).is_some());
        let [own, nominating] = [&own, &nominating].map(|check| StunMessage::parse(check).expect("valid STUN"));
        assert_eq!((nominating.trans_id(), nominating.username()), (own.trans_id(), own.username()));
        assert_eq!((nominating.ice_controlling(), nominating.prio()), (own.ice_controlling(), Some(LOWEST)));
        assert!(nominating.use_candidate() && !own.use_candidate());
    }

    #[test]
    fn the_last_accepted_checks_are_remembered_however_often_they_are_repeated() {
        let lost = Phase::Lost { since: std::time::Instant::now() };
        let mut state = checks();
        state.handle_answer();
        let all: Vec<Vec<u8>> = (0..=ACCEPTED).map(|_| check(true, false)).collect();
        for check in &all[..ACCEPTED] {
            assert!(state.admit(check, Phase::Connected, || true) && !state.admit(check, lost, || true));
        }
        for _ in 0..ACCEPTED {
            assert!(state.admit(&all[7], Phase::Connected, || true));
        }
        assert!(!all[..ACCEPTED].iter().any(|check| state.admit(check, lost, || true)));
        assert!(!state.admit(&all[ACCEPTED], lost, || false), "a check over the limit is not accepted");
        assert!(state.admit(&all[ACCEPTED], lost, || true));
        assert!(!all[1..].iter().any(|check| state.admit(check, lost, || true)));
        assert!(state.admit(&all[0], lost, || true), "the oldest is forgotten");
        assert!(state.accepted.capacity() * size_of::<TransId>() <= Checks::MAX_BYTES);
    }

    #[test]
    fn only_a_check_with_the_name_and_the_password_of_the_peer_is_authentic() {
        let own = check(true, false);
        let id = StunMessage::parse(&own).expect("valid STUN").trans_id();
        assert_eq!(checks().authenticate(&own), Some(id));
        let other = Checks::new("other".to_owned(), "password of the server".to_owned());
        let secret = Checks::new("own".to_owned(), "another password".to_owned());
        assert!(other.authenticate(&own).is_none() && secret.authenticate(&own).is_none());
        assert_eq!(checks().authenticate(b"\0\x01no STUN"), None);
    }

    #[test]
    fn checks_that_nominate_or_are_of_a_controlled_peer_stay_as_they_are() {
        for (is_controlling, use_candidate) in [(true, true), (false, false)] {
            assert_eq!(checks().nominating(&check(is_controlling, use_candidate)), None);
        }
    }
}
