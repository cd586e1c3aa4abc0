//! Adds support for client certificates with RSA keys, which dimpl neither requests nor verifies in DTLS 1.2 (RFC
//! 5246).
//!
//! Input is the server's unencrypted handshake datagrams, and what dimpl hashes and verifies. RSA is added to the key
//! types and signature schemes of an outgoing CertificateRequest. The same addition is made wherever dimpl reads the
//! handshake transcript, so that both sides hash and sign equal bytes. Signatures with RSA keys are verified here, all
//! others by dimpl. This module does not decide which certificate is the expected one: its fingerprint is compared like
//! that of any other.

use std::borrow::Cow;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use dimpl::crypto::{Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, SignatureAlgorithm};
use dimpl::crypto::{SignatureVerifier, aws_lc_rs as default};
use dimpl::{CryptoError, CryptoOperation};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;

// The content type of handshake records, and two types of handshake messages (RFC 5246 sections 6.2.1 and 7.4).
const HANDSHAKE: u8 = 22;
const CERTIFICATE: u8 = 11;
const CERTIFICATE_REQUEST: u8 = 13;

/// Length of a record header: type, version, epoch, sequence number and length (RFC 6347 section 4.1).
const RECORD_HEADER: usize = 13;

/// Length of a handshake message header: type, length, sequence number, fragment offset and length (RFC 6347 section
/// 4.2.2).
const MESSAGE_HEADER: usize = 12;

/// The certificate type `rsa_sign` (RFC 5246 section 7.4.4).
const RSA_SIGN: u8 = 1;

/// The signature scheme SHA-256 with RSA (RFC 5246 section 7.4.1.4.1): PKCS#1 version 1.5, which every client with an
/// RSA key supports.
const RSA_SHA256: [u8; 2] = [4, 1];

/// The object identifier rsaEncryption (RFC 8017 appendix A.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Smallest accepted RSA modulus in bytes (2,048 bits). The encoded key is longer.
const MODULUS_MIN: usize = 256;

static TRANSCRIPTS: Transcripts = Transcripts;
static SIGNATURES: Signatures = Signatures;

/// Returns the crypto provider of a DTLS server whose datagrams pass through [`widen_datagram`].
pub fn crypto_provider() -> CryptoProvider {
    CryptoProvider { hash_provider: &TRANSCRIPTS, signature_verification: &SIGNATURES, ..default::default_provider() }
}

/// Returns the datagram with RSA added to its CertificateRequest, or `None` if it has none.
///
/// dimpl's first flight is one datagram of half the MTU, so the request is never fragmented.
pub fn widen_datagram(datagram: &[u8]) -> Option<Vec<u8>> {
    let mut before = 0;
    loop {
        let (header, rest) = datagram[before..].split_at_checked(RECORD_HEADER)?;
        let fragment = rest.get(..u16::from_be_bytes([header[11], header[12]]).into())?;
        let is_unencrypted = header[3..5] == [0, 0];
        if header[0] == HANDSHAKE
            && is_unencrypted
            && let Some(widened) = widen_messages(fragment)
        {
            let after = &rest[fragment.len()..];
            let length = u16::try_from(widened.len()).ok()?.to_be_bytes();
            return Some([&datagram[..before], &header[..11], &length, &widened, after].concat());
        }
        before += RECORD_HEADER + fragment.len();
    }
}

/// Returns the length in bytes of the certificate whose first fragment is in the datagram; 0 for an empty list, `None`
/// without such a fragment.
pub fn length_in_datagram(datagram: &[u8]) -> Option<usize> {
    let mut rest = datagram;
    loop {
        let (header, fragment) = rest.split_at_checked(RECORD_HEADER)?;
        let mut messages;
        (messages, rest) = fragment.split_at_checked(u16::from_be_bytes([header[11], header[12]]).into())?;
        let is_unencrypted = header[3..5] == [0, 0];
        while let Some((message, part)) = messages.split_at_checked(MESSAGE_HEADER)
            && header[0] == HANDSHAKE
            && is_unencrypted
        {
            let part_length = u32::from_be_bytes([0, message[9], message[10], message[11]]) as usize;
            let Some((part, others)) = part.split_at_checked(part_length) else {
                break;
            };
            // The list's length precedes the first certificate's (RFC 5246 section 7.4.2).
            if message[0] == CERTIFICATE && message[6..9] == [0, 0, 0] {
                if message[1..4] <= [0, 0, 3][..] {
                    return Some(0);
                }
                // A first fragment too short to have the length is bounded by the length of the whole message.
                let length = part.get(3..6).or_else(|| message.get(1..4));
                return length.map(|length| u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize);
            }
            messages = others;
        }
    }
}

/// Returns complete handshake messages with RSA added to the CertificateRequest, or `None` if there is none.
fn widen_messages(messages: &[u8]) -> Option<Vec<u8>> {
    let mut before = 0;
    loop {
        let (header, rest) = messages[before..].split_at_checked(MESSAGE_HEADER)?;
        let body = rest.get(..u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize)?;
        let is_whole = header[6..9] == [0, 0, 0] && header[9..12] == header[1..4];
        if header[0] == CERTIFICATE_REQUEST && is_whole {
            let widened = widen_request(body)?;
            let after = &rest[body.len()..];
            let [_, length @ ..] = u32::try_from(widened.len()).ok()?.to_be_bytes();
            let header = [&header[..1], &length, &header[4..9], &length].concat();
            return Some([&messages[..before], &header, &widened, after].concat());
        }
        before += MESSAGE_HEADER + body.len();
    }
}

/// Returns the body of a CertificateRequest with RSA added (RFC 5246 section 7.4.4).
fn widen_request(body: &[u8]) -> Option<Vec<u8>> {
    let (&count, rest) = body.split_first()?;
    let (types, rest) = rest.split_at_checked(count.into())?;
    let (&length, rest) = rest.split_first_chunk()?;
    let (schemes, authorities) = rest.split_at_checked(u16::from_be_bytes(length).into())?;
    let count = count.checked_add(1)?;
    let length = u16::try_from(schemes.len() + RSA_SHA256.len()).ok()?.to_be_bytes();
    Some([&[count], types, &[RSA_SIGN], &length, schemes, &RSA_SHA256, authorities].concat())
}

/// Returns the transcript as the client sees it.
fn as_sent(transcript: &[u8]) -> Cow<'_, [u8]> {
    widen_messages(transcript).map_or(Cow::Borrowed(transcript), Cow::Owned)
}

/// Hashes transcripts. dimpl passes each transcript as a whole, and hashes nothing else in DTLS 1.2.
#[derive(Debug)]
struct Transcripts;

impl HashProvider for Transcripts {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(Transcript(default::default_provider().hash_provider.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct Transcript(Box<dyn HashContext>);

impl HashContext for Transcript {
    fn update(&mut self, data: &[u8]) {
        self.0.update(&as_sent(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

/// Verifies a client's signature of the transcript.
#[derive(Debug)]
struct Signatures;

impl SignatureVerifier for Signatures {
    fn verify_signature(
        &self,
        certificate: &[u8],
        transcript: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let transcript = as_sent(transcript);
        if algorithm != SignatureAlgorithm::RSA {
            let verifier = default::default_provider().signature_verification;
            return verifier.verify_signature(certificate, &transcript, signature, hash, algorithm);
        }
        if hash != HashAlgorithm::SHA256 {
            return Err(CryptoError::UnsupportedSignaturePair { signature: algorithm, hash });
        }
        let certificate = Certificate::from_der(certificate).map_err(|_| CryptoError::CertificateParseFailed)?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        let bytes = key.subject_public_key.as_bytes().ok_or(CryptoError::InvalidSubjectPublicKey)?;
        if key.algorithm.oid != RSA_ENCRYPTION || bytes.len() <= MODULUS_MIN {
            return Err(CryptoError::UnsupportedPublicKeyAlgorithm);
        }
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes)
            .verify(&transcript, signature)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::VerifySignature))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;

    /// The body of dimpl's CertificateRequest: an ECDSA key, and SHA-256 or SHA-384.
    const REQUEST: &[u8] = &[1, 64, 0, 4, 4, 3, 5, 3, 0, 0];
    const WIDENED: &[u8] = &[2, 64, 1, 0, 6, 4, 3, 5, 3, 4, 1, 0, 0];

    fn message(kind: u8, number: u8, body: &[u8]) -> Vec<u8> {
        let length = [0, 0, body.len() as u8];
        [&[kind], &length[..], &[0, number], &[0, 0, 0], &length, body].concat()
    }

    fn record(kind: u8, epoch: u8, fragment: &[u8]) -> Vec<u8> {
        [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 7, 0, fragment.len() as u8], fragment].concat()
    }

    #[test]
    fn a_request_is_widened_in_datagram_and_transcript_and_nothing_else_changes() {
        let flight = |request: &[u8]| {
            let messages = [(2, &[1; 70][..]), (11, &[2; 200]), (12, &[3; 100]), (13, request), (14, &[])];
            let messages = (0..).zip(messages).map(|(number, (kind, body))| message(kind, number, body));
            messages.map(|message| record(HANDSHAKE, 0, &message)).collect::<Vec<_>>().concat()
        };
        assert_eq!(widen_datagram(&flight(REQUEST)), Some(flight(WIDENED)));
        let transcript = |request: &[u8]| {
            [message(1, 0, &[13; 90]), message(13, 3, request), message(14, 4, &[]), message(16, 1, &[5; 33])].concat()
        };
        assert_eq!(as_sent(&transcript(REQUEST)), transcript(WIDENED));
    }

    #[test]
    fn only_a_complete_unencrypted_request_is_widened() {
        let request = message(13, 3, REQUEST);
        let part = [&request[..11], &[4], &request[12..16]].concat();
        for (case, datagram) in [
            ("empty", vec![]),
            ("encrypted", record(HANDSHAKE, 1, &request)),
            ("not a handshake record", record(23, 0, &request)),
            ("a fragment", record(HANDSHAKE, 0, &part)),
            ("a truncated message", record(HANDSHAKE, 0, &request[..20])),
            ("a truncated record", record(HANDSHAKE, 0, &request)[..30].to_vec()),
            ("a truncated list", record(HANDSHAKE, 0, &message(13, 3, &REQUEST[..6]))),
            ("another message", record(HANDSHAKE, 0, &message(11, 3, REQUEST))),
        ] {
            assert_eq!(widen_datagram(&datagram), None, "{case}");
        }
    }

    #[test]
    fn the_length_of_a_certificate_is_read_from_its_first_fragment() {
        let certificate = [&[0, 9, 3, 0, 9, 0][..], &[7; 60]].concat();
        let whole = message(11, 1, &certificate);
        let mut first = whole.clone();
        first[1..4].copy_from_slice(&[0, 9, 6]);
        let mut second = first.clone();
        second[7] = 66;
        let datagram = |messages: &[u8]| [record(20, 0, &[1]), record(HANDSHAKE, 0, messages)].concat();
        for (case, datagram, length) in [
            ("whole", datagram(&whole), Some(9 * 256)),
            ("first fragment", datagram(&first), Some(9 * 256)),
            ("after another message", datagram(&[message(2, 0, &[3; 40]), first.clone()].concat()), Some(9 * 256)),
            (
                "a first fragment without the length",
                datagram(&[&first[..9], &[0, 0, 4], &first[12..16]].concat()),
                Some(9 * 256 + 6),
            ),
            ("second fragment", datagram(&second), None),
            ("an empty list", datagram(&message(11, 1, &[0, 0, 0])), Some(0)),
            ("another message", datagram(&message(12, 1, &certificate)), None),
            ("encrypted", record(HANDSHAKE, 1, &whole), None),
            ("truncated", datagram(&whole)[..80].to_vec(), None),
        ] {
            assert_eq!(length_in_datagram(&datagram), length, "{case}");
        }
    }

    proptest! {
        #![proptest_config(inputs(256))]

        #[test]
        fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            length_in_datagram(&bytes);
            length_in_datagram(&record(HANDSHAKE, 0, &bytes));
            length_in_datagram(&record(HANDSHAKE, 0, &message(11, 0, &bytes)));
            widen_datagram(&bytes);
            widen_datagram(&record(HANDSHAKE, 0, &bytes));
            widen_datagram(&record(HANDSHAKE, 0, &message(13, 0, &bytes)));
        }
    }
}
