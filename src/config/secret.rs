//! The secret that signs tokens.

use std::fmt;

/// Minimum length of a token secret in bytes: the hash length of HS256 (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;

/// The secret that signs tokens, at least 32 bytes. `Debug` does not print it, so it never appears in logs and errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Creates a secret from bytes.
    ///
    /// # Errors
    /// There are fewer than 32 bytes. The text says how to create a secret and contains none of the bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        match bytes.len() {
            SECRET_BYTES.. => Ok(Self(bytes.to_vec())),
            length => Err(format!(
                "{length} bytes are too short for a secret: {SECRET_BYTES} and more make one (RFC 7518 section 3.2), \
                 as of: openssl rand -base64 32"
            )),
        }
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
