//! Errors that end one peer, and the guard that keeps a panic of one peer from ending others.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use str0m::RtcError;

use crate::media::negotiation::answer::refusal::AnswerRefusal;
use crate::media::transport::{dtls, opening};

/// An error that ends a peer. `Display` is for the log, `code` and `message` are for the client.
#[derive(Debug)]
pub enum PeerError {
    /// The answer does not match the offer.
    BadAnswer(String),
    /// The answer is valid but needs something unsupported.
    UnsupportedAnswer(&'static str),
    /// An answer arrived without a pending offer.
    UnexpectedAnswer,
    /// No answer arrived in time.
    AnswerTimeout,
    /// ICE or DTLS did not connect, or lost its connection.
    MediaTimeout(&'static str),
    /// The peer closed DTLS, mostly because the page was left.
    Closed,
    /// DTLS negotiated no SRTP keys.
    NoSrtp,
    /// The client has no DTLS certificate with a supported key. The text is dimpl's error.
    UnsupportedCertificate(String),
    /// The transport reached its limit of SSRCs or of the server's addresses.
    UsedUp,
    /// str0m returned an error.
    Engine(RtcError),
    /// A panic: a bug in the server or in str0m.
    Bug(String),
}

/// Parts of the DTLS error texts that mean an unsupported or missing certificate.
const UNSUPPORTED_CERTIFICATE: [&str; 5] = [
    "no client certificate received",
    "no server certificate received",
    "unsupported public key algorithm",
    "unsupported EC curve",
    "unsupported signature",
];

/// An operation on a peer that runs in `guarded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are self-explanatory")]
pub enum Site {
    Datagram,
    Timeout,
    Drain,
    Offer,
    Answer,
    Forward,
    Release,
    Resend,
    Padding,
}

thread_local! {
    /// The site at which a test wants a panic, and the number of passes before it.
    static ARMED: Cell<Option<(Site, u32)>> = const { Cell::new(None) };
}

/// Runs an operation on one peer. A panic in it ends that peer alone, and not the process with all calls.
///
/// # Errors
/// The errors of `act`, and `PeerError::Bug` for a panic. The peer has to end: its state is not trustworthy.
pub fn guarded<T>(site: Site, act: impl FnOnce() -> Result<T, PeerError>) -> Result<T, PeerError> {
    let act = || {
        pass(site);
        let done = act();
        pass(site);
        done
    };
    let result = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(PeerError::Bug(format!("{} in {site:?}", text.unwrap_or("panic without text"))))
    });
    if result.is_err() {
        // Thread-local results of this peer, above all keys of its handshake, must not reach the next peer.
        dtls::take_exported();
        opening::take_opened();
    }
    result
}

/// Makes this thread panic at a site after the given number of passes; each operation passes twice, before and after.
/// `None` disarms. Works with debug assertions only.
pub fn arm(at: Option<(Site, u32)>) {
    ARMED.set(at);
}

/// The site of the armed panic, if it has not happened yet.
pub fn armed() -> Option<Site> {
    ARMED.get().map(|(site, _)| site)
}

fn pass(site: Site) {
    if !cfg!(debug_assertions) {
        return;
    }
    match ARMED.get() {
        Some((at, 0)) if at == site => {
            ARMED.set(None);
            // `resume_unwind` does not run the panic hook, so nothing is printed.
            resume_unwind(Box::new("panic armed by a test"));
        }
        Some((at, passes)) if at == site => ARMED.set(Some((at, passes - 1))),
        _ => {}
    }
}

impl PeerError {
    /// Converts the refusal of an answer.
    pub fn of_answer(refusal: AnswerRefusal) -> Self {
        match refusal {
            AnswerRefusal::Unsupported(why) => Self::UnsupportedAnswer(why),
            refusal => Self::BadAnswer(format!("{refusal:?}")),
        }
    }

    /// Converts an error of str0m. DTLS errors are distinguishable by their text only.
    pub fn of_engine(error: RtcError) -> Self {
        let RtcError::Dtls(why) = &error else {
            return Self::Engine(error);
        };
        let text = why.to_string();
        if text.contains("timeout") {
            return Self::MediaTimeout("DTLS did not finish");
        }
        if UNSUPPORTED_CERTIFICATE.iter().any(|unsupported| text.contains(unsupported)) {
            return Self::UnsupportedCertificate(text);
        }
        Self::Engine(error)
    }

    /// The message for the client. It omits details: a parser's error may reveal more of the server than of the answer.
    pub fn message(&self) -> &'static str {
        match self {
            Self::BadAnswer(_) => "The answer does not match the offer.",
            Self::UnsupportedAnswer(why) => why,
            Self::UnexpectedAnswer => "An answer arrived without a pending offer.",
            Self::AnswerTimeout => "No answer arrived in time.",
            Self::Closed => "This client closed the media connection.",
            Self::NoSrtp => "This client did not negotiate encryption of sound and video (DTLS-SRTP).",
            Self::UnsupportedCertificate(_) => {
                "The DTLS certificate of this client is not supported: it needs an ECDSA key on the curve P-256 or \
                 P-384, or, with a=setup:active in the answer, an RSA key of 2048 to 4096 bits."
            }
            Self::UsedUp => "This connection has been used for too long: please connect again.",
            Self::MediaTimeout(_) => "Sound and video could not be connected: UDP may be blocked by a firewall.",
            // Once an answer is accepted, str0m's SDP error means a certificate that does not match the fingerprint.
            Self::Engine(RtcError::Dtls(_) | RtcError::RemoteSdp(_)) => {
                "Sound and video could not be encrypted: DTLS failed, or the certificate did not match the answer."
            }
            Self::Engine(_) | Self::Bug(_) => "The connection for sound and video failed.",
        }
    }

    /// Whether the error is a bug, or a violation of the protocol that no browser commits.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::BadAnswer(_) | Self::UnexpectedAnswer | Self::NoSrtp | Self::Engine(_) | Self::Bug(_) => true,
            Self::UnsupportedAnswer(_)
            | Self::AnswerTimeout
            | Self::MediaTimeout(_)
            | Self::Closed
            | Self::UnsupportedCertificate(_)
            | Self::UsedUp => false,
        }
    }

    /// Whether a third party can cause the error with forged datagrams before the DTLS handshake has finished: until
    /// then nothing is authentic.
    pub fn may_be_forged(&self) -> bool {
        matches!(self, Self::UnsupportedCertificate(_) | Self::Engine(RtcError::Dtls(_) | RtcError::RemoteSdp(_)))
    }

    /// Whether only the transport has ended, so that a fresh one may connect.
    pub fn ends_transport_only(&self) -> bool {
        matches!(self, Self::MediaTimeout(_) | Self::Closed | Self::UsedUp)
    }

    /// The stable error code for the client.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadAnswer(_) => "bad-answer",
            Self::UnsupportedAnswer(_) => "unsupported-answer",
            Self::UnexpectedAnswer => "unexpected-answer",
            Self::AnswerTimeout => "negotiation-timeout",
            Self::MediaTimeout(_) => "media-timeout",
            Self::Closed => "media-closed",
            Self::NoSrtp => "no-srtp",
            Self::UnsupportedCertificate(_) => "unsupported-certificate",
            Self::UsedUp => "used-up",
            Self::Engine(RtcError::Dtls(_) | RtcError::RemoteSdp(_)) => "dtls-failed",
            Self::Engine(_) | Self::Bug(_) => "internal",
        }
    }
}

impl std::fmt::Display for PeerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadAnswer(why) => write!(f, "answer does not match the offer: {}", why.escape_debug()),
            Self::UnsupportedAnswer(why) => write!(f, "answer not supported: {why}"),
            Self::UnexpectedAnswer => f.write_str("answer arrived without a pending offer"),
            Self::AnswerTimeout => f.write_str("no answer arrived in time"),
            Self::Closed => f.write_str("peer closed DTLS"),
            Self::NoSrtp => f.write_str("DTLS negotiated no SRTP profile"),
            Self::UnsupportedCertificate(why) => write!(f, "DTLS certificate not supported: {why}"),
            Self::UsedUp => f.write_str("limit of SSRCs or addresses reached"),
            Self::MediaTimeout(reason) => write!(f, "media could not be connected: {reason}"),
            Self::Engine(error) => write!(f, "WebRTC engine failed: {error}"),
            Self::Bug(why) => write!(f, "bug: {}", why.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use dimpl::crypto::{HashAlgorithm, NamedGroup, SignatureAlgorithm};
    use dimpl::{CertificateError, TimeoutError};
    use str0m::crypto::CryptoError;
    use str0m::crypto::dtls::DtlsImplError;

    use super::*;

    #[test]
    fn a_dtls_timeout_is_not_a_fault() {
        let of =
            |error: DtlsImplError| PeerError::of_engine(RtcError::Dtls(CryptoError::Other(error.to_string()).into()));
        let late = of(DtlsImplError::Timeout(TimeoutError::Handshake));
        assert_eq!((late.code(), late.is_fault()), ("media-timeout", false));
        let other = PeerError::of_engine(RtcError::Dtls(std::io::Error::other("bad record").into()));
        assert_eq!((other.code(), other.is_fault()), ("dtls-failed", true));
    }

    #[test]
    fn an_unsupported_certificate_has_its_own_code_and_is_not_a_fault() {
        let supported = (SignatureAlgorithm::ECDSA, HashAlgorithm::SHA256);
        let (signature, hash) = (SignatureAlgorithm::DSA, HashAlgorithm::SHA512);
        let unsupported: [DtlsImplError; 7] = [
            DtlsImplError::CertificateError(CertificateError::NoClientCertificateReceived),
            DtlsImplError::CertificateError(CertificateError::NoServerCertificateReceived),
            DtlsImplError::CryptoError(dimpl::CryptoError::UnsupportedPublicKeyAlgorithm),
            DtlsImplError::CryptoError(dimpl::CryptoError::UnsupportedEcCurve),
            DtlsImplError::CryptoError(dimpl::CryptoError::UnsupportedSignatureAlgorithm(signature)),
            DtlsImplError::CryptoError(dimpl::CryptoError::UnsupportedSignaturePair { signature, hash }),
            DtlsImplError::CryptoError(dimpl::CryptoError::UnsupportedSignatureVerification {
                signature,
                hash,
                group: NamedGroup::Secp256r1,
            }),
        ];
        for error in unsupported {
            let error = PeerError::of_engine(RtcError::Dtls(CryptoError::Other(error.to_string()).into()));
            assert_eq!((error.code(), error.is_fault()), ("unsupported-certificate", false), "{error}");
        }
        let (signature, hash) = supported;
        let forged = dimpl::CryptoError::SignatureVerificationFailed { signature, hash, group: NamedGroup::Secp256r1 };
        let forged = DtlsImplError::CryptoError(forged).to_string();
        let forged = PeerError::of_engine(RtcError::Dtls(CryptoError::Other(forged).into()));
        assert_eq!((forged.code(), forged.is_fault()), ("dtls-failed", true));
    }

    #[test]
    fn a_panic_becomes_an_error_of_its_peer() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let numbers: Vec<u8> = Vec::new();
        let index = numbers.len();
        let result = guarded(Site::Drain, || Ok(numbers[index]));
        std::panic::set_hook(hook);
        assert!(
            matches!(result, Err(PeerError::Bug(why)) if why.contains("out of bounds") && why.ends_with("in Drain"))
        );
        assert!(matches!(guarded(Site::Drain, || Ok(1)), Ok(1)));
        assert!(matches!(guarded::<()>(Site::Drain, || Err(PeerError::AnswerTimeout)), Err(PeerError::AnswerTimeout)));
    }
}
