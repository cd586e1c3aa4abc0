//! The ciphers of SRTP: derivation of session keys, nonces and key streams (RFC 3711, RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use str0m::crypto::dtls::SrtpProfile;

// Labels of the key derivation (RFC 3711 section 4.3.2).
pub(super) const RTP_LABELS: Labels = Labels { key: 0, auth: 1, salt: 2 };
pub(super) const RTCP_LABELS: Labels = Labels { key: 3, auth: 4, salt: 5 };

/// The labels of one kind of packet.
pub(super) struct Labels {
    key: u8,
    auth: u8,
    salt: u8,
}

/// The session keys of one direction, for RTP or for RTCP.
pub(super) enum Cipher {
    Gcm { key: LessSafeKey, salt: [u8; 12] },
    CmSha1(Box<CmSha1>),
}

/// The keys of a profile without AES-GCM.
pub(super) struct CmSha1 {
    pub key: EncryptingKey,
    pub auth: hmac::Key,
    pub salt: [u8; 14],
}

impl Cipher {
    /// Derives the session keys from a master key and salt.
    pub fn derive(profile: SrtpProfile, key: &[u8], salt: &[u8], labels: &Labels) -> Self {
        let aes = if key.len() == 32 { &cipher::AES_256 } else { &cipher::AES_128 };
        let master = EncryptingKey::ctr(UnboundCipherKey::new(aes, key).expect("16 or 32 bytes"));
        let master = master.expect("AES has a counter mode");
        // RFC 3711 section 4.3.3; a 12-byte salt is padded with zeros (RFC 7714 section 11).
        let derive = |label: u8, length: usize| {
            let mut iv = [0; 16];
            iv[..salt.len()].copy_from_slice(salt);
            iv[7] ^= label;
            let mut derived = vec![0; length];
            keystream(&master, iv, &mut derived);
            derived
        };
        let session = derive(labels.key, key.len());
        let session_salt = derive(labels.salt, salt.len());
        if profile == SrtpProfile::AES128_CM_SHA1_80 {
            let key = UnboundCipherKey::new(&cipher::AES_128, &session).expect("16 bytes");
            let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &derive(labels.auth, 20));
            let salt = session_salt.try_into().expect("14 bytes");
            let key = EncryptingKey::ctr(key).expect("AES has a counter mode");
            Self::CmSha1(Box::new(CmSha1 { key, auth, salt }))
        } else {
            let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
            let key = LessSafeKey::new(UnboundKey::new(algorithm, &session).expect("16 or 32 bytes"));
            Self::Gcm { key, salt: session_salt.try_into().expect("12 bytes") }
        }
    }
}

/// Builds a nonce: two zero bytes, the SSRC, six bytes of counter, XORed with the salt (RFC 7714 sections 8.1 and 9.1).
#[inline]
pub(super) fn gcm_nonce(salt: &[u8; 12], ssrc: [u8; 4], tail: [u8; 6]) -> Nonce {
    let mut nonce = *salt;
    for (byte, other) in nonce[2..].iter_mut().zip(ssrc.into_iter().chain(tail)) {
        *byte ^= other;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// Encrypts or decrypts with AES in counter mode (RFC 3711 section 4.1.1).
pub(super) fn apply_cm(key: &EncryptingKey, salt: &[u8; 14], ssrc: [u8; 4], index: u64, body: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    for (byte, other) in iv[4..8].iter_mut().zip(ssrc) {
        *byte ^= other;
    }
    for (byte, other) in iv[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *byte ^= other;
    }
    keystream(key, iv, body);
}

pub(super) fn keystream(key: &EncryptingKey, iv: [u8; 16], body: &mut [u8]) {
    let context = EncryptionContext::Iv128(iv.into());
    key.less_safe_encrypt(body, context).expect("a packet is shorter than the counter's limit");
}
