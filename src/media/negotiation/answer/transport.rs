//! The ICE and DTLS parameters of an answer.

use super::refusal::{AnswerRefusal, NO_FINGERPRINT, NO_ICE};
use super::section::Section;
use crate::media::negotiation::attributes::{value, values};

/// Fingerprint hash functions that str0m computes, in order of preference, with their lengths in bytes.
const HASHES: [(&str, usize); 2] = [("sha-256", 32), ("sha-1", 20)];

/// The ICE and DTLS parameters of an answer; one transport carries all m-lines.
pub(super) struct Transport<'a> {
    pub(super) ufrag: &'a str,
    pub(super) password: &'a str,
    pub(super) hash: &'static str,
    pub(super) fingerprint: &'a str,
    pub(super) setup: &'a str,
}

impl<'a> Transport<'a> {
    /// Finds each parameter in the first active m-line, else in the session, else in any m-line.
    pub(super) fn find(
        tagged: Option<&Section<'a>>,
        session: &[&'a str],
        sections: &[Section<'a>],
    ) -> Result<Self, AnswerRefusal> {
        let levels = || {
            let tagged = tagged.map(|section| section.attributes.as_slice());
            tagged.into_iter().chain([session]).chain(sections.iter().map(|section| section.attributes.as_slice()))
        };
        let word = |name| {
            levels().filter_map(move |level| value(level, name)).find(|value| !value.contains(char::is_whitespace))
        };
        let (Some(ufrag), Some(password)) = (word("ice-ufrag"), word("ice-pwd")) else {
            return Err(NO_ICE);
        };
        let fingerprint = levels().find_map(|level| {
            HASHES.iter().find_map(|(hash, bytes)| {
                let of_hash = values(level, "fingerprint").filter_map(|value| value.split_once(' '));
                let mut of_hash =
                    of_hash.filter(|(name, _)| name.eq_ignore_ascii_case(hash)).map(|(_, hex)| hex.trim());
                Some((*hash, of_hash.find(|hex| is_fingerprint(hex, *bytes))?))
            })
        });
        let (hash, fingerprint) = fingerprint.ok_or(NO_FINGERPRINT)?;
        // Without `a=setup` the answerer is active, as RFC 8842 section 5.3 recommends.
        let setup = word("setup").filter(|setup| *setup == "passive").unwrap_or("active");
        Ok(Self { ufrag, password, hash, fingerprint, setup })
    }
}

fn is_fingerprint(hex: &str, bytes: usize) -> bool {
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.split(':').count() == bytes && hex.split(':').all(is_byte)
}
