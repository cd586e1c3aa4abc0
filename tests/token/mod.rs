//! Tokens made without the server's code, as an operator's own program makes them.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

pub const SECRET: &str = "a secret for tests, of 32 and more bytes";

/// A valid token.
pub fn token(claims: &Value) -> String {
    sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

/// One of any header and key.
pub fn sign(algorithm: hmac::Algorithm, secret: &str, header: &str, claims: &str) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
    let signed = format!("{header}.{claims}");
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}
