//! The header fields of a request: which of them may repeat, and which values are valid.

use super::body::{Body, Framing, MAX_BODY};
use super::refusal::Refusal;

/// The header fields of a request.
pub(super) struct Fields<'a>(pub(super) &'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// All values of the field `name`.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let same_name = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(same_name).map(|field| field.value.trim_ascii())
    }

    /// The value of a field that may occur only once. A repeated field is refused, because a proxy may have used the
    /// other value.
    pub(super) fn single(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.all(name);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(if name == "host" { Refusal::Host } else { Refusal::Malformed });
        }
        str::from_utf8(value).map(Some).map_err(|_| Refusal::Malformed)
    }

    /// All values of a comma-separated list field, in order. Invalid UTF-8 affects only its own element.
    pub(super) fn list(&self, name: &'static str) -> String {
        let values: Vec<_> = self.all(name).map(String::from_utf8_lossy).collect();
        values.join(",")
    }

    /// Whether a comma-separated list field has this token.
    pub(super) fn has_token(&self, name: &'static str, token: &str) -> bool {
        let mut tokens = self.all(name).flat_map(|value| value.split(|&byte| byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether a response with the content coding gzip is acceptable, and not less welcome than one without a coding
    /// (RFC 9110 section 12.5.3). `*` stands for each of the two that is not named. Elements with an invalid weight are
    /// ignored.
    pub(super) fn accepts_gzip(&self) -> bool {
        let accepted = self.list("accept-encoding").to_ascii_lowercase();
        let weight = |codings: &[&str]| {
            let mut elements = accepted.split(',').filter_map(weighted);
            elements.find(|(coding, _)| codings.contains(coding)).map(|(_, weight)| weight)
        };
        // RFC 9110 section 8.4.1.3: x-gzip is the same coding.
        let gzip = weight(&["gzip", "x-gzip"]).or(weight(&["*"])).unwrap_or(0.0);
        let identity = weight(&["identity"]).or(weight(&["*"])).unwrap_or(0.0);
        gzip > 0.0 && gzip >= identity
    }

    /// The body that follows the head (RFC 9112 section 6.3). Refuses fields from which a proxy might conclude another
    /// length.
    pub(super) fn body(&self, is_1_1: bool) -> Result<Body, Refusal> {
        let mut codings = self.all("transfer-encoding");
        let mut lengths = self.all("content-length");
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Body::Absent),
            (Some(coding), None) => {
                // HTTP/1.0 has no transfer codings (section 6.1).
                let is_chunked = is_1_1 && coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
                if is_chunked { Ok(Body::Unread(Framing::Chunked)) } else { Err(Refusal::Framing) }
            }
            (None, Some(length)) => {
                if lengths.next().is_some() || length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                    return Err(Refusal::Framing);
                }
                let length = str::from_utf8(length).expect("digits are ASCII").parse();
                match length.ok().filter(|length| *length <= MAX_BODY) {
                    Some(0) => Ok(Body::Read(Vec::new())),
                    Some(length) => Ok(Body::Unread(Framing::Length(length))),
                    None => Err(Refusal::BodyTooLarge),
                }
            }
            (Some(_), Some(_)) => Err(Refusal::Framing),
        }
    }

    /// Whether the client waits for status 100 before it sends the body (RFC 9110 section 10.1.1).
    pub(super) fn expects_continue(&self) -> Result<bool, Refusal> {
        let mut expectations = self.all("expect").peekable();
        let is_expected = expectations.peek().is_some();
        let is_known = expectations.all(|expectation| expectation.eq_ignore_ascii_case(b"100-continue"));
        if is_known { Ok(is_expected) } else { Err(Refusal::Expectation) }
    }

    /// The media type of the body in lower case, without parameters; empty if there is none.
    pub(super) fn content_type(&self) -> Result<String, Refusal> {
        let value = self.single("content-type")?.unwrap_or_default();
        let (media_type, _) = value.split_once(';').unwrap_or((value, ""));
        Ok(media_type.trim_ascii().to_ascii_lowercase())
    }

    /// The key of a WebSocket upgrade; `None` if the request is not one.
    pub(super) fn websocket_key(&self) -> Result<Option<&'a str>, Refusal> {
        if !self.has_token("upgrade", "websocket") || !self.has_token("connection", "upgrade") {
            return Ok(None);
        }
        if self.single("sec-websocket-version")? != Some("13") {
            return Err(Refusal::WebSocketVersion);
        }
        match self.single("sec-websocket-key")? {
            Some(key) if is_websocket_key(key) => Ok(Some(key)),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// An element of `Accept-Encoding`: the coding and its weight from 0 to 1, which is 1 by default.
fn weighted(element: &str) -> Option<(&str, f32)> {
    let (coding, parameter) = element.split_once(';').unwrap_or((element, "q=1"));
    let weight = parameter.trim_ascii().strip_prefix("q=")?.parse().ok()?;
    (0.0..=1.0).contains(&weight).then_some((coding.trim_ascii(), weight))
}

/// Whether the key is the Base64 of 16 bytes: 22 characters and the padding.
fn is_websocket_key(key: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(is_base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_clients_that_accept_it() {
        let table: &[(bool, &[&str])] = &[
            (false, &[]),
            (false, &[""]),
            (true, &["gzip"]),
            (true, &["GZIP"]),
            (true, &["x-gzip"]),
            (true, &["gzip, deflate, br, zstd"]),
            (true, &["deflate,gzip"]),
            (true, &["br", "gzip"]),
            (false, &["br, zstd"]),
            (false, &["gzipped"]),
            (true, &["*"]),
            (true, &["br;q=1.0, *;q=0.5"]),
            (false, &["*;q=0"]),
            (true, &["gzip, *;q=0"]),
            (false, &["gzip;q=0"]),
            (false, &["gzip;q=0, *"]),
            (false, &["gzip;q=0.000"]),
            (true, &["gzip;q=0.001"]),
            (true, &["gzip ; q=0.5 , br"]),
            (true, &["gzip;Q=1"]),
            (false, &["identity"]),
            (false, &["gzip;q=0.5, identity"]),
            (true, &["gzip, identity"]),
            (true, &["gzip;q=0.5, identity;q=0.5"]),
            (true, &["gzip;q=0.5, identity;q=0"]),
            (false, &["identity;q=0"]),
            (true, &["identity;q=0, *"]),
            (false, &["gzip;q=0.2, *;q=0.4"]),
            (false, &["gzip;q=2"]),
            (false, &["gzip;q=-1"]),
            (false, &["gzip;q=nan"]),
            (false, &["gzip;q="]),
            (false, &["gzip;"]),
            (false, &["gzip;level=9"]),
            (true, &["gzip;q=x, gzip"]),
            (false, &["\u{fffd}\0,;;=,"]),
        ];
        for (expected, values) in table {
            let header = |value: &&'static str| httparse::Header { name: "accept-Encoding", value: value.as_bytes() };
            let headers: Vec<_> = values.iter().map(header).collect();
            assert_eq!(Fields(&headers).accepts_gzip(), *expected, "{values:?}");
        }
    }
}
