//! Secrets: the key that signs access tokens, and the administrator's token.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// Minimum length of a secret in bytes: the hash length of HS256 (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;

/// A secret of at least 32 bytes. `Debug` does not print it, so it never appears in logs and errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Creates a secret from bytes.
    ///
    /// # Errors
    /// There are fewer than 32 bytes. The text explains how to create a secret and contains none of the bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        match bytes.len() {
            SECRET_BYTES.. => Ok(Self(bytes.to_vec())),
            length => Err(format!(
                "the secret has {length} bytes and needs at least {SECRET_BYTES} (RFC 7518 section 3.2); create one with: \
                 openssl rand -base64 32"
            )),
        }
    }

    /// Compares in constant time, so that a client cannot guess the secret byte by byte.
    pub fn is_equal(&self, bytes: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, bytes).is_ok()
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Secret")
    }
}
