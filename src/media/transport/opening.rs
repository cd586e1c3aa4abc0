//! Detects whether str0m found a media datagram authentic. str0m reports only packets that it uses, but arrival
//! feedback has to cover the publisher's probe packets too.
//!
//! Wrapped ciphers note each successful decryption: AES-GCM decrypts authentic packets only, and for other profiles
//! str0m checks the tag before it decrypts (RFC 3711 section 3.3). str0m creates ciphers through a `&'static` provider,
//! so the note is thread-local.

use std::cell::Cell;
use std::fmt;

use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, SrtpProvider, SupportedAeadAes128Gcm,
    SupportedAeadAes256Gcm, SupportedAes128CmSha1_80, from_feature_flags,
};

thread_local! {
    static OPENED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the last decryption since the previous call succeeded.
pub fn take_opened() -> bool {
    OPENED.replace(false)
}

/// str0m's SRTP provider with ciphers that note each decryption.
#[derive(Debug)]
pub struct Noting;

/// A decrypting cipher.
struct Opening<T: ?Sized>(Box<T>);

impl<T: ?Sized> fmt::Debug for Opening<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening")
    }
}

fn plain() -> &'static dyn SrtpProvider {
    from_feature_flags().srtp_provider
}

fn noted<T>(opened: Result<T, CryptoError>) -> Result<T, CryptoError> {
    OPENED.set(opened.is_ok());
    opened
}

impl SrtpProvider for Noting {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Noting
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Noting
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Noting
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        plain().srtp_aes_128_ecb_round(key, input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        plain().srtp_aes_256_ecb_round(key, input, output);
    }
}

impl SupportedAes128CmSha1_80 for Noting {
    fn create_cipher(&self, key: [u8; 16], encrypt: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        let cipher = plain().aes_128_cm_sha1_80().create_cipher(key, encrypt);
        if encrypt { cipher } else { Box::new(Opening(cipher)) }
    }
}

impl SupportedAeadAes128Gcm for Noting {
    fn create_cipher(&self, key: [u8; 16], encrypt: bool) -> Box<dyn AeadAes128GcmCipher> {
        let cipher = plain().aead_aes_128_gcm().create_cipher(key, encrypt);
        if encrypt { cipher } else { Box::new(Opening(cipher)) }
    }
}

impl SupportedAeadAes256Gcm for Noting {
    fn create_cipher(&self, key: [u8; 32], encrypt: bool) -> Box<dyn AeadAes256GcmCipher> {
        let cipher = plain().aead_aes_256_gcm().create_cipher(key, encrypt);
        if encrypt { cipher } else { Box::new(Opening(cipher)) }
    }
}

impl Aes128CmSha1_80Cipher for Opening<dyn Aes128CmSha1_80Cipher> {
    fn encrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.0.encrypt(iv, input, output)
    }

    fn decrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        noted(self.0.decrypt(iv, input, output))
    }
}

impl AeadAes128GcmCipher for Opening<dyn AeadAes128GcmCipher> {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.0.encrypt(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        noted(self.0.decrypt(iv, aads, input, output))
    }
}

impl AeadAes256GcmCipher for Opening<dyn AeadAes256GcmCipher> {
    fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.0.encrypt(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        noted(self.0.decrypt(iv, aads, input, output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_successful_decryptions_are_noted() {
        let (key, iv, aad) = ([7; 32], [1; 12], [2; 20]);
        let mut sealed = [0; 16 + 24];
        let mut seals = Noting.aead_aes_256_gcm().create_cipher(key, true);
        seals.encrypt(&iv, &aad, &[3; 24], &mut sealed).expect("output has room for the tag");
        assert!(!take_opened(), "nothing was decrypted");
        let mut opens = Noting.aead_aes_256_gcm().create_cipher(key, false);
        let mut plain = [0; 24];
        let mut opened = |sealed: &[u8]| (opens.decrypt(&iv, &[&aad], sealed, &mut plain).is_ok(), take_opened());
        assert_eq!(opened(&sealed), (true, true));
        assert!(!take_opened(), "already taken");
        sealed[5] ^= 1;
        assert_eq!(opened(&sealed), (false, false));
    }
}
