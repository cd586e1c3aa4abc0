//! A token lets its bearer join one room with certain rights. The operator's site issues it, signed with a secret that
//! the site shares with the server.
//!
//! It is a JWT (RFC 7519) signed with `HS256` (RFC 7518 section 3.2), the only algorithm accepted, and is passed in the
//! parameter `token` of `{prefix}/websocket` and `{prefix}/check`. The key is the bytes of the secret as configured.
//! Its claims:
//!
//! `{"room":"weekly","exp":1767225600,"sub":"ann@example.org","name":"Ann","publish":true,"subscribe":true,"moderate":false}`
//!
//! | claim | meaning |
//! | --- | --- |
//! | `room` | the room that the token is valid for, compared after normalisation by [`room_name`]: Unicode composition and invisible characters do not matter |
//! | `exp` | the expiry time in seconds since 1970 UTC; a running call continues, but joining and rejoining are refused |
//! | `nbf` | optional: the time at which validity begins |
//! | `sub` | optional: the participant's identity, at most 256 bytes, never shown to others. A removed participant cannot rejoin with the same identity. Without `sub`, for example if many participants share a token, a removed participant can rejoin unless the room is locked |
//! | `name` | optional: the participant's name, which overrides the query parameter `name` |
//! | `publish` | may send audio and video; default `true`. Every participant may chat |
//! | `subscribe` | receives the audio and video of others; default `true` |
//! | `moderate` | may mute and remove others, lock the room, and join a locked room; default `false` |
//!
//! Other claims are ignored (RFC 7519 section 4). A server without a secret ignores tokens: every client may join,
//! publish and subscribe, and none may moderate, since identities are unknown.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, decode};
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::id::IDENTITY_BYTES;
use crate::text::room_name;

/// Tolerated difference between the issuer's clock and ours, in seconds (RFC 7519 section 4.1.4). A smaller value
/// refuses tokens issued just now; a larger one accepts expired tokens for longer.
const LEEWAY_S: f64 = 5.0;

/// The key that verifies tokens.
pub struct Key {
    key: DecodingKey,
    validation: Validation,
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The participant's identity: the claim `sub`.
    pub identity: Option<String>,
    /// The participant's name: the claim `name`.
    pub name: Option<String>,
    /// The participant's rights.
    pub rights: Rights,
    /// When the token expires, since 1970 UTC; `None` if joining needs no token.
    pub expires: Option<Duration>,
}

/// The rights of a participant in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// May send audio and video.
    pub publish: bool,
    /// Receives the audio and video of others.
    pub subscribe: bool,
    /// May mute and remove others, lock the room, and join a locked room.
    pub moderate: bool,
}

/// Why a token was refused. Only for the operator's log: clients get the same message for every cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// The request has no token.
    Missing,
    /// The token does not have three parts or a readable header; includes `alg:none`.
    Malformed,
    /// Signed with another algorithm.
    Algorithm,
    /// Not signed with this secret.
    Signature,
    /// A claim is missing or invalid.
    Claims,
    /// The token has expired.
    Expired,
    /// The token is not valid yet.
    Early,
    /// The token is for another room.
    Room,
}

#[derive(Deserialize)]
struct Claims {
    room: String,
    exp: f64,
    nbf: Option<f64>,
    sub: Option<String>,
    name: Option<String>,
    #[serde(default = "granted")]
    publish: bool,
    #[serde(default = "granted")]
    subscribe: bool,
    #[serde(default)]
    moderate: bool,
}

impl Key {
    /// Creates the key from the bytes of this secret.
    pub fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The crate would read the system clock; time is an argument here.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation.required_spec_claims = HashSet::new();
        validation.validate_aud = false;
        Self { key: DecodingKey::from_secret(secret.as_bytes()), validation }
    }

    /// Verifies a token and returns what it grants in `room`, a name normalised by [`room_name`]. `unix` is the time
    /// since 1970 UTC. Signatures are compared in constant time, and claims are read only after the signature has been
    /// verified.
    ///
    /// # Errors
    /// The token is missing or invalid. Do not send the cause to the client.
    pub fn open(&self, unix: Duration, room: &str, token: Option<&str>) -> Result<Grant, BadToken> {
        let token = token.filter(|token| !token.is_empty()).ok_or(BadToken::Missing)?;
        let TokenData { header, claims } = decode::<serde_json::Value>(token, &self.key, &self.validation)
            .map_err(|error| BadToken::of(error.kind()))?;
        // RFC 7515 section 4.1.11: `crit` requires extensions that are not supported here.
        if header.crit.is_some() {
            return Err(BadToken::Malformed);
        }
        let claims: Claims = serde_json::from_value(claims).map_err(|_| BadToken::Claims)?;
        let now = unix.as_secs_f64();
        if now >= claims.exp + LEEWAY_S {
            return Err(BadToken::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now < nbf - LEEWAY_S) {
            return Err(BadToken::Early);
        }
        if room_name(&claims.room).as_deref() != Some(room) {
            return Err(BadToken::Room);
        }
        let identity = claims.sub.filter(|sub| !sub.is_empty());
        if identity.as_ref().is_some_and(|identity| identity.len() > IDENTITY_BYTES) {
            return Err(BadToken::Claims);
        }
        let Claims { exp, name, publish, subscribe, moderate, .. } = claims;
        let expires = Duration::try_from_secs_f64(exp + LEEWAY_S).ok();
        Ok(Grant { identity, name, rights: Rights { publish, subscribe, moderate }, expires })
    }
}

impl Grant {
    /// What every participant is granted on a server without a token secret.
    pub const OPEN: Grant = Grant {
        identity: None,
        name: None,
        rights: Rights { publish: true, subscribe: true, moderate: false },
        expires: None,
    };
}

impl BadToken {
    fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            _ => Self::Malformed,
        }
    }
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no token",
            Self::Malformed => "not a JWT",
            Self::Algorithm => "not signed with HS256",
            Self::Signature => "not signed with the secret of this server",
            Self::Claims => "a claim is missing or invalid",
            Self::Expired => "expired",
            Self::Early => "not valid yet",
            Self::Room => "for another room",
        })
    }
}

fn granted() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    const SECRET: &[u8] = b"a secret for tests, of 32 and more bytes";
    const NOW: u64 = 1_000_000_000;
    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const GOOD: &str = r#"{"room":"weekly","exp":1000000060}"#;

    /// Signs a token without the code under test.
    fn sign(algorithm: hmac::Algorithm, secret: &[u8], header: &str, claims: &str) -> String {
        let signed =
            format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
    }

    fn token(claims: &str) -> String {
        sign(hmac::HMAC_SHA256, SECRET, HS256, claims)
    }

    fn open(token: &str) -> Result<Grant, BadToken> {
        Key::new(&Secret::new(SECRET).unwrap()).open(Duration::from_secs(NOW), "weekly", Some(token))
    }

    #[test]
    fn the_documented_example_is_accepted() {
        let text = include_str!("token.rs");
        let example = text.lines().find_map(|line| line.strip_prefix("//! `{\"room")).expect("an example");
        let example = format!("{{\"room{}", example.strip_suffix('`').expect("the end of the example"));
        let grant = open(&token(&example)).unwrap();
        assert_eq!((grant.identity.as_deref(), grant.name.as_deref()), (Some("ann@example.org"), Some("Ann")));
        assert_eq!(grant.rights, Grant::OPEN.rights);
    }

    #[test]
    fn missing_claims_have_their_defaults() {
        assert_eq!(open(&token(GOOD)).map(|grant| Grant { expires: None, ..grant }), Ok(Grant::OPEN));
        let rights = |publish, subscribe, moderate| Rights { publish, subscribe, moderate };
        for (claims, expected) in [
            (r#""publish":false"#, rights(false, true, false)),
            (r#""subscribe":false"#, rights(true, false, false)),
            (r#""moderate":true"#, rights(true, true, true)),
            (
                r#""publish":false,"subscribe":false,"moderate":true,"aud":"else","admin":true"#,
                rights(false, false, true),
            ),
        ] {
            let grant = open(&token(&format!(r#"{{"room":"weekly","exp":1000000060,{claims}}}"#)));
            assert_eq!(grant.map(|grant| grant.rights), Ok(expected), "{claims}");
        }
        // Room names are compared after normalisation.
        for room in ["weekly ", "wee\u{ad}kly", "\u{feff}weekly"] {
            let grant = open(&token(&format!(r#"{{"room":"{room}","exp":1000000060}}"#)));
            assert_eq!(grant.map(|grant| grant.rights), Ok(Grant::OPEN.rights), "{room:?}");
        }
        let anonymous = open(&token(r#"{"room":"weekly","exp":1000000060,"sub":""}"#)).unwrap();
        assert_eq!(anonymous.identity, None);
    }

    #[test]
    fn times_are_compared_with_the_given_time() {
        for (times, expected) in [
            (r#""exp":1000000000"#, Ok(())),
            (r#""exp":999999996"#, Ok(())),
            (r#""exp":999999995.5"#, Ok(())),
            (r#""exp":999999995"#, Err(BadToken::Expired)),
            (r#""exp":0"#, Err(BadToken::Expired)),
            (r#""exp":-1e300"#, Err(BadToken::Expired)),
            (r#""exp":18446744073709551616"#, Ok(())),
            (r#""exp":1000000060,"nbf":1000000005"#, Ok(())),
            (r#""exp":1000000060,"nbf":1000000006"#, Err(BadToken::Early)),
            (r#""exp":1000000060,"nbf":"soon""#, Err(BadToken::Claims)),
            (r#""exp":null"#, Err(BadToken::Claims)),
            (r#""exp":"1000000060""#, Err(BadToken::Claims)),
            (r#""exp":1e999"#, Err(BadToken::Malformed)),
        ] {
            let opened = open(&token(&format!(r#"{{"room":"weekly",{times}}}"#)));
            assert_eq!(opened.map(|_| ()), expected, "{times}");
        }
    }

    #[test]
    fn each_bad_token_is_refused_with_its_cause() {
        let good = token(GOOD);
        assert!(open(&good).is_ok());
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let none = |name: &str| part(&format!(r#"{{"alg":"{name}","typ":"JWT"}}"#));
        let rooms = r#"{"room":"weekly2","exp":1000000060}"#;
        let last = signature.chars().next_back().unwrap();
        let long = "x".repeat(300);
        for (bad, expected) in [
            // RFC 7519 section 6: unsecured, with and without a signature part.
            (format!("{}.{claims}.", none("none")), BadToken::Malformed),
            (format!("{}.{claims}.{signature}", none("none")), BadToken::Malformed),
            (format!("{}.{claims}.", none("nOnE")), BadToken::Malformed),
            (format!("{}.{claims}.", part(r#"{"typ":"JWT"}"#)), BadToken::Malformed),
            (format!("{header}.{claims}."), BadToken::Signature),
            // Signed with the secret, but with another algorithm.
            (sign(hmac::HMAC_SHA512, SECRET, r#"{"alg":"HS512"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA384, SECRET, r#"{"alg":"HS384"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA512, SECRET, HS256, GOOD), BadToken::Signature),
            // Confusion of a secret with a public key (RFC 8725 section 2.1).
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"RS256"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"ES256"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"hs256"}"#, GOOD), BadToken::Malformed),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":["HS256"]}"#, GOOD), BadToken::Malformed),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"HS256","crit":["exp"]}"#, GOOD), BadToken::Malformed),
            (sign(hmac::HMAC_SHA256, b"another secret, of 32 and more bytes", HS256, GOOD), BadToken::Signature),
            (sign(hmac::HMAC_SHA256, b"", HS256, GOOD), BadToken::Signature),
            // Changed after signing.
            (format!("{header}.{}.{signature}", part(rooms)), BadToken::Signature),
            (format!("{signed}.{}", &signature[..20]), BadToken::Signature),
            (format!("{signed}.{}{}", &signature[..42], if last == 'A' { 'E' } else { 'A' }), BadToken::Signature),
            (format!("{good}="), BadToken::Malformed),
            (good[..good.len() - 60].to_owned(), BadToken::Malformed),
            (signed.to_owned(), BadToken::Malformed),
            (format!("{good}.{signature}"), BadToken::Malformed),
            (format!(" {good}"), BadToken::Malformed),
            (String::new(), BadToken::Missing),
            (".".to_owned(), BadToken::Malformed),
            ("..".to_owned(), BadToken::Malformed),
            ("\u{0}é.é.é".to_owned(), BadToken::Malformed),
            ("a".repeat(16_000), BadToken::Malformed),
            (format!("{}.{claims}.{signature}", part(&"[".repeat(12_000))), BadToken::Malformed),
            // Correctly signed, with bad claims.
            (token(r#"{"room":"weekly"}"#), BadToken::Claims),
            (token(r#"{"exp":1000000060}"#), BadToken::Claims),
            (token(r#"{"room":null,"exp":1000000060}"#), BadToken::Claims),
            (token(r#"{"room":"weekly","exp":1000000060,"moderate":1}"#), BadToken::Claims),
            (token(r#"{"room":"weekly","exp":1000000060,"publish":null}"#), BadToken::Claims),
            (token(&format!(r#"{{"room":"weekly","exp":1000000060,"sub":"{long}"}}"#)), BadToken::Claims),
            (token("[]"), BadToken::Malformed),
            (token("weekly"), BadToken::Malformed),
            (token(rooms), BadToken::Room),
            (token(r#"{"room":"*","exp":1000000060}"#), BadToken::Room),
            (token(r#"{"room":"","exp":1000000060}"#), BadToken::Room),
            (token(r#"{"room":"WEEKLY","exp":1000000060}"#), BadToken::Room),
        ] {
            assert_eq!(open(&bad), Err(expected), "{bad}");
        }
        assert_eq!(
            Key::new(&Secret::new(SECRET).unwrap()).open(Duration::ZERO, "weekly", None),
            Err(BadToken::Missing)
        );
    }
}
