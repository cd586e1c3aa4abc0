//! A token says who may come into which room and what they may do there, signed with the host's secret.
//!
//! It is a JWT (RFC 7519) under `HS256` (RFC 7518 section 3.2) and no other algorithm, in the parameter `token` of
//! `{prefix}/websocket` and `{prefix}/check`. The key is the bytes of the secret as they are. Its claims:
//!
//! `{"room":"weekly","exp":1767225600,"sub":"ann@example.org","name":"Ann","publish":true,"subscribe":true,"moderate":false}`
//!
//! | claim | |
//! | --- | --- |
//! | `room` | the one room it is for, compared as [`room_name`] has it: composed or not, without what is invisible |
//! | `exp` | the end of its time, in seconds since 1970 UTC; a call goes on, but nobody comes or comes back |
//! | `nbf` | optional: the beginning |
//! | `sub` | optional: who it is, at most 256 bytes, told to nobody. Who is removed can't come again under the same; without it, with a token that many share, they can, unless the room is locked |
//! | `name` | optional: how the others see them, whatever `name` the address has |
//! | `publish` | may send sound and pictures; `true` where it is missing. Everybody may write in the chat |
//! | `subscribe` | is sent those of the others; `true` where it is missing |
//! | `moderate` | may mute and remove others and lock the room, and come into a locked one; `false` where it is missing |
//!
//! What else it says is ignored (RFC 7519 section 4). A server without a secret reads no token: everybody may come in,
//! publish and subscribe, and nobody moderates, since nobody could be told from anybody.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, decode};
use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::id::IDENTITY_BYTES;
use crate::text::room_name;

/// How far the clock of whoever signs may be from ours, in seconds (RFC 7519 section 4.1.4). Less refuses tokens that
/// were made just now, more lets expired ones live.
const LEEWAY_S: f64 = 5.0;

/// What tokens are opened with.
pub struct Key {
    key: DecodingKey,
    validation: Validation,
}

/// What a token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who it is, as the host says.
    pub identity: Option<String>,
    /// How the others see them, as the host says.
    pub name: Option<String>,
    /// What they may do.
    pub rights: Rights,
}

/// What somebody may do in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// Send sound and pictures.
    pub publish: bool,
    /// Be sent those of others.
    pub subscribe: bool,
    /// Mute and remove others, lock the room.
    pub moderate: bool,
}

/// Why a token is worth nothing. For the log of the host alone: whoever came with it is told the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// There is none.
    Missing,
    /// Not three parts, or no header that can be read; `alg:none` is among these.
    Malformed,
    /// Signed in another way.
    Algorithm,
    /// Not signed with this secret.
    Signature,
    /// Claims that can't be read, or lack what they need.
    Claims,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Early,
    /// For another room.
    Room,
}

#[derive(Deserialize)]
struct Claims {
    room: String,
    exp: f64,
    nbf: Option<f64>,
    sub: Option<String>,
    name: Option<String>,
    #[serde(default = "yes")]
    publish: bool,
    #[serde(default = "yes")]
    subscribe: bool,
    #[serde(default)]
    moderate: bool,
}

impl Key {
    /// A key of these bytes.
    pub fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The crate would ask the system's clock; here time is handed in.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation.required_spec_claims = HashSet::new();
        validation.validate_aud = false;
        Self { key: DecodingKey::from_secret(secret.as_bytes()), validation }
    }

    /// What a token grants in a room, named as [`room_name`] has it, at so much time since 1970. Signatures are compared in constant time; claims are
    /// read of a token only that is signed.
    ///
    /// # Errors
    /// The token is worth nothing. The cause is not for whoever came with it.
    pub fn open(&self, unix: Duration, room: &str, token: Option<&str>) -> Result<Grant, BadToken> {
        let token = token.filter(|token| !token.is_empty()).ok_or(BadToken::Missing)?;
        let TokenData { header, claims } = decode::<serde_json::Value>(token, &self.key, &self.validation)
            .map_err(|error| BadToken::of(error.kind()))?;
        // RFC 7515 section 4.1.11: it demands something that is not understood here.
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
        let Claims { name, publish, subscribe, moderate, .. } = claims;
        Ok(Grant { identity, name, rights: Rights { publish, subscribe, moderate } })
    }
}

impl Grant {
    /// What everybody has where no tokens are asked for.
    pub const OPEN: Grant =
        Grant { identity: None, name: None, rights: Rights { publish: true, subscribe: true, moderate: false } };
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
            Self::Missing => "there is none",
            Self::Malformed => "it can't be read",
            Self::Algorithm => "it is not of HS256",
            Self::Signature => "it is not signed with the secret",
            Self::Claims => "its claims lack something or are not as documented",
            Self::Expired => "it has expired",
            Self::Early => "its time has not come",
            Self::Room => "it is for another room",
        })
    }
}

fn yes() -> bool {
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

    /// A token made by hand, so that nothing of what opens it has a part in it.
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
    fn the_documented_claims_are_understood() {
        let text = include_str!("token.rs");
        let example = text.lines().find_map(|line| line.strip_prefix("//! `{\"room")).expect("an example");
        let example = format!("{{\"room{}", example.strip_suffix('`').expect("the end of the example"));
        let grant = open(&token(&example)).unwrap();
        assert_eq!((grant.identity.as_deref(), grant.name.as_deref()), (Some("ann@example.org"), Some("Ann")));
        assert_eq!(grant.rights, Grant::OPEN.rights);
    }

    #[test]
    fn what_is_missing_has_its_default() {
        assert_eq!(open(&token(GOOD)), Ok(Grant::OPEN));
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
        // Rooms are compared as people read them.
        for room in ["weekly ", "wee\u{ad}kly", "\u{feff}weekly"] {
            assert_eq!(open(&token(&format!(r#"{{"room":"{room}","exp":1000000060}}"#))), Ok(Grant::OPEN), "{room:?}");
        }
        let anonymous = open(&token(r#"{"room":"weekly","exp":1000000060,"sub":""}"#)).unwrap();
        assert_eq!(anonymous.identity, None);
    }

    #[test]
    fn times_are_compared_with_the_time_that_is_handed_in() {
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
    fn a_bad_token_is_refused_for_its_own_fault() {
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
            // RFC 7519 section 6: unsecured, with and without what looks like a signature.
            (format!("{}.{claims}.", none("none")), BadToken::Malformed),
            (format!("{}.{claims}.{signature}", none("none")), BadToken::Malformed),
            (format!("{}.{claims}.", none("nOnE")), BadToken::Malformed),
            (format!("{}.{claims}.", part(r#"{"typ":"JWT"}"#)), BadToken::Malformed),
            (format!("{header}.{claims}."), BadToken::Signature),
            // Well signed with the secret, but by other rules.
            (sign(hmac::HMAC_SHA512, SECRET, r#"{"alg":"HS512"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA384, SECRET, r#"{"alg":"HS384"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA512, SECRET, HS256, GOOD), BadToken::Signature),
            // The secret taken for a public key, or a public key for the secret (RFC 8725 section 2.1).
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"RS256"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"ES256"}"#, GOOD), BadToken::Algorithm),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"hs256"}"#, GOOD), BadToken::Malformed),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":["HS256"]}"#, GOOD), BadToken::Malformed),
            (sign(hmac::HMAC_SHA256, SECRET, r#"{"alg":"HS256","crit":["exp"]}"#, GOOD), BadToken::Malformed),
            (sign(hmac::HMAC_SHA256, b"another secret, of 32 and more bytes", HS256, GOOD), BadToken::Signature),
            (sign(hmac::HMAC_SHA256, b"", HS256, GOOD), BadToken::Signature),
            // Signed, then changed.
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
            // Signed, with claims that don't do.
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
