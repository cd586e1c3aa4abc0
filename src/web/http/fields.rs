//! The header fields of a request: which may repeat, and what is valid in them.

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

    /// Refuses requests with a body (RFC 9112 section 6.3): only `Content-Length: 0`, once or several times, is
    /// accepted.
    pub(super) fn refuse_body(&self) -> Result<(), Refusal> {
        if self.all("transfer-encoding").next().is_some() {
            return Err(Refusal::Body);
        }
        let is_zero = |value: &[u8]| !value.is_empty() && value.iter().all(|&byte| byte == b'0');
        if self.all("content-length").all(is_zero) { Ok(()) } else { Err(Refusal::Body) }
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

/// Whether the key is the Base64 of 16 bytes: 22 characters and the padding.
fn is_websocket_key(key: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(is_base64)
}
