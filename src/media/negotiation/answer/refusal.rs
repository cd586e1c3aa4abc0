//! Why an answer is refused.

use crate::media::negotiation::sdp::SdpRefusal;

/// Why an answer is refused before str0m parses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRefusal {
    /// The text exceeds a limit, or its number of m-lines differs from the offer's.
    Bounds(SdpRefusal),
    /// The first line is not `v=0`, or an m-line lacks a field.
    Syntax,
    /// The mid or the kind of an m-line differs from the offer's m-line at the same index.
    Order,
    /// The answer is valid but not supported. The text is the message to the client.
    Unsupported(&'static str),
}

pub(super) const NO_BUNDLE: AnswerRefusal = AnswerRefusal::Unsupported(
    "The answer puts m-lines on separate transports: only BUNDLE (max-bundle) is supported.",
);
pub(super) const NO_DTLS: AnswerRefusal =
    AnswerRefusal::Unsupported("The answer accepts an m-line without encryption: only DTLS-SRTP is supported.");
pub(super) const ICE_LITE: AnswerRefusal =
    AnswerRefusal::Unsupported("The answer comes from an ICE-lite client: only full ICE is supported.");
pub(super) const NO_ICE: AnswerRefusal =
    AnswerRefusal::Unsupported("The answer lacks a=ice-ufrag or a=ice-pwd: ICE is required.");
pub(super) const NO_FINGERPRINT: AnswerRefusal = AnswerRefusal::Unsupported(
    "The answer has no certificate fingerprint with a supported hash: only sha-256 and sha-1 are supported.",
);
pub(super) const ALL_REJECTED: AnswerRefusal =
    AnswerRefusal::Unsupported("The answer rejects all m-lines and has no transport: accept one m-line as inactive.");
