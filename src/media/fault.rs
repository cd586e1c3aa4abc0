//! Why a peer has to end, and the fence that keeps its end from everybody else's.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use str0m::RtcError;

use crate::media::answer::AnswerRefusal;
use crate::media::{dtls, opening};

/// Why a peer has to end. The text is for its log line, the code for the peer.
#[derive(Debug)]
pub enum PeerError {
    /// The answer can't be one to the offer.
    BadAnswer(String),
    /// The answer is valid, and wants what this server does not have.
    UnsupportedAnswer(&'static str),
    /// No offer is out.
    UnexpectedAnswer,
    /// The answer did not come in time.
    AnswerTimeout,
    /// ICE or DTLS did not come up, or went away.
    MediaTimeout(&'static str),
    /// The peer closed DTLS: a page that is left, mostly.
    Closed,
    /// DTLS agreed on no keys for media.
    NoSrtp,
    /// The client has no DTLS certificate with a supported key: dimpl's words.
    UnsupportedCertificate(String),
    /// The transport has used as many SSRCs, or learnt as many server addresses, as one transport may.
    UsedUp,
    /// str0m gave up.
    Engine(RtcError),
    /// A panic: a bug of ours or of str0m's.
    Bug(String),
}

/// What str0m's words contain where a certificate has a key that is not supported, or the client has no other.
const UNSUPPORTED_CERTIFICATE: [&str; 5] = [
    "no client certificate received",
    "no server certificate received",
    "unsupported public key algorithm",
    "unsupported EC curve",
    "unsupported signature",
];

/// What is done with a peer behind the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
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
    /// Where a test wants a panic, and how often that place is passed before.
    static ARMED: Cell<Option<(Site, u32)>> = const { Cell::new(None) };
}

/// Does something with one peer. A panic in it ends that peer alone, not the process with everybody's calls.
///
/// # Errors
/// Those of `act`, and `PeerError::Bug`: the peer has to end, its state is not to be trusted.
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
        Err(PeerError::Bug(format!("{} in {site:?}", text.unwrap_or("a panic"))))
    });
    if result.is_err() {
        // What this peer left in places of the thread is not the next one's: keys of its handshake, above all.
        dtls::take_exported();
        opening::take_opened();
    }
    result
}

/// Lets this thread panic at a site that it has passed so often: twice for each act there, before and after. `None`
/// calls that off. Only where debug assertions are on.
pub fn arm(at: Option<(Site, u32)>) {
    ARMED.set(at);
}

/// Where a panic is still to come.
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
            // A panic that nobody is told of.
            resume_unwind(Box::new("as a test wants"));
        }
        Some((at, passes)) if at == site => ARMED.set(Some((at, passes - 1))),
        _ => {}
    }
}

impl PeerError {
    /// An answer that is refused unparsed.
    pub fn of_answer(refusal: AnswerRefusal) -> Self {
        match refusal {
            AnswerRefusal::Unsupported(why) => Self::UnsupportedAnswer(why),
            refusal => Self::BadAnswer(format!("{refusal:?}")),
        }
    }

    /// What str0m says. What is wrong in DTLS it tells in words only.
    pub fn of_engine(error: RtcError) -> Self {
        let RtcError::Dtls(why) = &error else {
            return Self::Engine(error);
        };
        let words = why.to_string();
        if words.contains("timeout") {
            return Self::MediaTimeout("DTLS did not finish");
        }
        if UNSUPPORTED_CERTIFICATE.iter().any(|unsupported| words.contains(unsupported)) {
            return Self::UnsupportedCertificate(words);
        }
        Self::Engine(error)
    }

    /// What the peer is told. Details are for the log: a parser's may show more of the server than of the answer.
    pub fn message(&self) -> &'static str {
        match self {
            Self::BadAnswer(_) => "The answer does not fit the offer.",
            Self::UnsupportedAnswer(why) => why,
            Self::UnexpectedAnswer => "An answer came while no offer was out.",
            Self::AnswerTimeout => "No answer came in time.",
            Self::Closed => "Sound and picture were closed by this client.",
            Self::NoSrtp => "This client did not agree to protect sound and picture (DTLS-SRTP).",
            Self::UnsupportedCertificate(_) => {
                "The DTLS certificate of this client is not supported: it needs an ECDSA key on the curve P-256 or \
                 P-384, or, with a=setup:active in the answer, an RSA key of 2048 to 4096 bits."
            }
            Self::UsedUp => "This connection has been used for very long: please connect again.",
            Self::MediaTimeout(_) => "Sound and picture could not be connected: UDP may be blocked on the way.",
            // What str0m says of an answer later than with the answer is that the certificate was another one.
            Self::Engine(RtcError::Dtls(_) | RtcError::RemoteSdp(_)) => {
                "Sound and picture could not be encrypted (DTLS), or not for the one whom the answer named."
            }
            Self::Engine(_) | Self::Bug(_) => "The connection for sound and picture failed.",
        }
    }

    /// Whether it is no everyday end of a call: a bug, or something that no browser does.
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

    /// Whether anybody on the path may have caused it, if the handshake was not over: nothing in one is authentic before
    /// that.
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::UnsupportedCertificate(_) | Self::Engine(RtcError::Dtls(_) | RtcError::RemoteSdp(_)))
    }

    /// Whether only this transport ended: a fresh one may connect.
    pub fn is_transport(&self) -> bool {
        matches!(self, Self::MediaTimeout(_) | Self::Closed | Self::UsedUp)
    }

    /// The stable code that the peer is told.
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
            Self::BadAnswer(why) => write!(f, "the answer does not fit the offer: {}", why.escape_debug()),
            Self::UnsupportedAnswer(why) => write!(f, "answer not supported: {why}"),
            Self::UnexpectedAnswer => f.write_str("an answer came while no offer was out"),
            Self::AnswerTimeout => f.write_str("no answer came in time"),
            Self::Closed => f.write_str("it closed DTLS"),
            Self::NoSrtp => f.write_str("DTLS agreed on no SRTP profile"),
            Self::UnsupportedCertificate(why) => write!(f, "the key of its DTLS certificate is not supported: {why}"),
            Self::UsedUp => f.write_str("it has had too many SSRCs or addresses"),
            Self::MediaTimeout(what) => write!(f, "media could not be connected: {what}"),
            Self::Engine(error) => write!(f, "the WebRTC engine failed: {error}"),
            Self::Bug(why) => write!(f, "a bug: {}", why.escape_debug()),
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
    fn who_does_not_finish_dtls_is_not_at_fault() {
        let of =
            |error: DtlsImplError| PeerError::of_engine(RtcError::Dtls(CryptoError::Other(error.to_string()).into()));
        let late = of(DtlsImplError::Timeout(TimeoutError::Handshake));
        assert_eq!((late.code(), late.is_fault()), ("media-timeout", false));
        let other = PeerError::of_engine(RtcError::Dtls(std::io::Error::other("bad record").into()));
        assert_eq!((other.code(), other.is_fault()), ("dtls-failed", true));
    }

    #[test]
    fn a_certificate_that_is_not_supported_is_named_and_no_fault() {
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
    fn a_panic_is_an_error_of_that_peer() {
        let silent = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let numbers: Vec<u8> = Vec::new();
        let index = numbers.len();
        let result = guarded(Site::Drain, || Ok(numbers[index]));
        std::panic::set_hook(silent);
        assert!(
            matches!(result, Err(PeerError::Bug(why)) if why.contains("out of bounds") && why.ends_with("in Drain"))
        );
        assert!(matches!(guarded(Site::Drain, || Ok(1)), Ok(1)));
        assert!(matches!(guarded::<()>(Site::Drain, || Err(PeerError::AnswerTimeout)), Err(PeerError::AnswerTimeout)));
    }
}
