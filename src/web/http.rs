//! An HTTP/1.1 exchange: one request head parsed, one response written (RFC 9110, RFC 9112).
//!
//! Only GET, HEAD and OPTIONS without a body are accepted. Anything on which two parsers might disagree about where a
//! request ends is refused and closes the connection, which prevents request smuggling.

use std::fmt;
use std::sync::Arc;

/// The longest request head in bytes. A lower limit refuses browsers with many cookies for the host; a higher one lets
/// every idle connection hold more memory.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most header fields of a request. Fewer might refuse browsers behind several proxies; more only cost memory.
const MAX_HEADERS: usize = 64;

/// The accepted methods, as in an `Allow` field.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The page may load files from this server, open WebSockets, and use camera and microphone; it must never be framed.
/// `connect-src` names the WebSocket schemes because in some browsers 'self' does not include them.
const SECURITY_HEADERS: &str = "\
Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
media-src 'self' blob:; connect-src 'self' ws: wss:; font-src 'self'; manifest-src 'self'; base-uri 'none'; \
form-action 'none'; frame-ancestors 'none'\r\n\
X-Content-Type-Options: nosniff\r\n\
Referrer-Policy: no-referrer\r\n\
X-Frame-Options: DENY\r\n\
Cross-Origin-Opener-Policy: same-origin\r\n\
Permissions-Policy: camera=(self), microphone=(self), display-capture=(self)\r\n";

/// A request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD` or `OPTIONS`.
    pub method: String,
    /// Percent-decoded; begins with '/'; never normalised.
    pub path: String,
    /// Decoded names and values in their order.
    pub query: Vec<(String, String)>,
    /// `host[:port]`, never empty; `None` only from HTTP/1.0.
    pub host: Option<String>,
    /// The `Origin` field; only browsers send it.
    pub origin: Option<String>,
    /// All values of `X-Forwarded-For`, joined by commas. Only trustworthy if it comes from a trusted proxy.
    pub forwarded_for: String,
    /// The `If-None-Match` field.
    pub if_none_match: Option<String>,
    /// The key of a valid WebSocket upgrade (RFC 6455 section 4.2.1); `None` for other requests.
    pub websocket_key: Option<String>,
    /// The request has a `Sec-WebSocket-Key`: the client meant an upgrade, even if a proxy has removed `Upgrade` and
    /// `Connection`.
    pub has_websocket_key: bool,
    /// Another request may follow on the connection.
    pub keep_alive: bool,
}

impl Request {
    /// Parses the head at the beginning of `input` and returns the request and the length of its head, or `None` while
    /// the head is incomplete.
    ///
    /// Each call scans from the beginning, so call it once for each line received, not for each byte.
    ///
    /// # Errors
    /// Send `refusal.response()` and close the connection: where the next request begins is unknown.
    pub fn parse(input: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let length = match head.parse(input) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(Refusal::Version),
            // The content type of a TLS handshake record.
            Err(_) if input.first() == Some(&0x16) => return Err(Refusal::Tls),
            Err(_) => return Err(Refusal::Malformed),
        };
        let method = head.method.expect("a complete head has a method");
        let target = head.path.expect("a complete head has a target");
        let is_1_1 = head.version == Some(1);
        let fields = Fields(head.headers);

        fields.refuse_body()?;
        if !matches!(method, "GET" | "HEAD" | "OPTIONS") {
            return Err(Refusal::Method);
        }
        let mut host = fields.single("host")?;
        if is_1_1 && host.is_none() {
            return Err(Refusal::Host);
        }
        // RFC 9110 section 9.3.7: `*` means the server as a whole.
        let target = if (method, target) == ("OPTIONS", "*") { "/" } else { target };
        let (authority, target) = split_target(target)?;
        // RFC 9112 section 3.2.2: the authority of a target in absolute form replaces Host.
        if let Some(authority) = authority {
            host = Some(authority);
        }
        if host.is_some_and(|host| !is_host(host)) {
            return Err(Refusal::Host);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let owned = |value: Option<&str>| value.map(str::to_owned);
        let request = Request {
            method: method.to_owned(),
            path: decode(path, false)?,
            query: parse_query(query)?,
            host: owned(host),
            origin: owned(fields.single("origin")?),
            forwarded_for: fields.list("x-forwarded-for"),
            if_none_match: owned(fields.single("if-none-match")?),
            websocket_key: if is_1_1 && method == "GET" { owned(fields.websocket_key()?) } else { None },
            has_websocket_key: fields.all("sec-websocket-key").next().is_some(),
            keep_alive: is_1_1 && !fields.has_token("connection", "close"),
        };
        Ok(Some((request, length)))
    }

    /// The first query parameter with this name.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why a request head was refused. The client is at fault: the status is a 4xx, or 505.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are not an HTTP request.
    Malformed,
    /// A TLS handshake on a plain port.
    Tls,
    /// A method other than GET, HEAD and OPTIONS.
    Method,
    /// `Host` is missing, repeated or invalid.
    Host,
    /// The head was not completed in time.
    Slow,
    /// The request has a body.
    Body,
    /// A WebSocket version other than 13.
    WebSocketVersion,
    /// The head has too many bytes or header fields.
    HeadTooLarge,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version,
}

impl Refusal {
    /// The response; close the connection after it.
    pub fn response(self) -> Response {
        let response = Response::text(self.status(), &format!("{self}\n"));
        match self {
            Refusal::Method => response.with_header("Allow", ALLOW.to_owned()),
            Refusal::WebSocketVersion => response
                .with_header("Upgrade", "websocket".to_owned())
                .with_header("Sec-WebSocket-Version", "13".to_owned()),
            _ => response,
        }
    }

    /// The status code of the response.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Malformed | Refusal::Tls | Refusal::Host | Refusal::Body => 400,
            Refusal::Method => 405,
            Refusal::Slow => 408,
            Refusal::WebSocketVersion => 426,
            Refusal::HeadTooLarge => 431,
            Refusal::Version => 505,
        }
    }

    /// The reason in words, for the client and for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Malformed => "not an HTTP/1.1 request",
            Refusal::Tls => "this port is plain HTTP, not TLS: use http:// and ws://",
            Refusal::Method => "only GET, HEAD and OPTIONS are allowed",
            Refusal::Host => "a request must have exactly one valid Host",
            Refusal::Slow => "the request head was not completed in time",
            Refusal::Body => "a request must not have a body",
            Refusal::WebSocketVersion => "only version 13 of the WebSocket protocol is supported",
            Refusal::HeadTooLarge => "the request head has more than 16 KiB or 64 fields",
            Refusal::Version => "only HTTP/1.1 is supported",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

/// A response. `Content-Length`, `Connection` and the security headers are added when it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The media type of the body; empty if there is no body.
    pub content_type: &'static str,
    /// Further header fields.
    pub headers: Vec<(&'static str, String)>,
    /// Shared with its source, such as an asset.
    pub body: Arc<[u8]>,
}

impl Response {
    /// A plain-text response for people.
    pub fn text(status: u16, text: &str) -> Response {
        Response::dynamic(status, "text/plain; charset=utf-8", text)
    }

    /// A JSON response; `json` is already serialised.
    pub fn json(status: u16, json: &str) -> Response {
        Response::dynamic(status, "application/json", json)
    }

    /// A redirect with status 308, which keeps the method. `location` is percent-encoded.
    pub fn redirect(location: String) -> Response {
        let response = Response { status: 308, content_type: "", headers: Vec::new(), body: Arc::from([]) };
        response.with_header("Location", location)
    }

    /// A file, or 304 without a body if the client has the current version. `no-cache` makes browsers revalidate each
    /// file, so a page never mixes files of two versions.
    pub fn file(request: &Request, content_type: &'static str, etag: &str, body: &Arc<[u8]>) -> Response {
        let is_known = request.if_none_match.as_deref().is_some_and(|known| etag_matches(known, etag));
        let (status, content_type, body) =
            if is_known { (304, "", Arc::from([])) } else { (200, content_type, body.clone()) };
        let response = Response { status, content_type, headers: Vec::new(), body };
        response.with_header("ETag", etag.to_owned()).with_header("Cache-Control", "no-cache".to_owned())
    }

    /// Adds a header field.
    pub fn with_header(mut self, name: &'static str, value: String) -> Response {
        self.headers.push((name, value));
        self
    }

    /// Encodes the status line and the header fields.
    pub fn head(&self, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        if !self.content_type.is_empty() {
            push_field(&mut head, "Content-Type", self.content_type);
        }
        if self.status != 304 {
            push_field(&mut head, "Content-Length", &self.body.len().to_string());
        }
        let connection = match (keep_alive, self.status) {
            (true, _) => "keep-alive",
            // RFC 9110 section 7.8: Connection must name Upgrade.
            (false, 426) => "close, upgrade",
            (false, _) => "close",
        };
        push_field(&mut head, "Connection", connection);
        for (name, value) in &self.headers {
            push_field(&mut head, name, value);
        }
        head.push_str(SECURITY_HEADERS);
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn dynamic(status: u16, content_type: &'static str, body: &str) -> Response {
        let response = Response { status, content_type, headers: Vec::new(), body: Arc::from(body.as_bytes()) };
        response.with_header("Cache-Control", "no-store".to_owned())
    }
}

/// The response that accepts a WebSocket upgrade with this key. It never names an extension, so compression stays off.
pub fn switching_protocols(websocket_key: &str) -> Vec<u8> {
    let accept = tungstenite::handshake::derive_accept_key(websocket_key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// The header fields of a request.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// All values of the field `name`.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        let same_name = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(same_name).map(|field| field.value.trim_ascii())
    }

    /// The value of a field that may occur only once. A repeated field is refused, because a proxy may have used the
    /// other value.
    fn single(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
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
    fn list(&self, name: &'static str) -> String {
        let values: Vec<_> = self.all(name).map(String::from_utf8_lossy).collect();
        values.join(",")
    }

    /// Whether a comma-separated list field has this token.
    fn has_token(&self, name: &'static str, token: &str) -> bool {
        let mut tokens = self.all(name).flat_map(|value| value.split(|&byte| byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Refuses requests with a body (RFC 9112 section 6.3): only `Content-Length: 0`, once or several times, is
    /// accepted.
    fn refuse_body(&self) -> Result<(), Refusal> {
        if self.all("transfer-encoding").next().is_some() {
            return Err(Refusal::Body);
        }
        let is_zero = |value: &[u8]| !value.is_empty() && value.iter().all(|&byte| byte == b'0');
        if self.all("content-length").all(is_zero) { Ok(()) } else { Err(Refusal::Body) }
    }

    /// The key of a WebSocket upgrade; `None` if the request is not one.
    fn websocket_key(&self) -> Result<Option<&'a str>, Refusal> {
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

/// Whether all characters may occur in `host[:port]` (RFC 3986 section 3.2); user info is not allowed.
fn is_host(host: &str) -> bool {
    let is_host_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
    !host.is_empty() && host.bytes().all(is_host_char)
}

/// Splits a request target into the authority, if the target is in absolute form, and the path with the query.
fn split_target(target: &str) -> Result<(Option<&str>, &str), Refusal> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let (scheme, rest) = target.split_once("://").ok_or(Refusal::Malformed)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::Malformed);
    }
    let slash = rest.find('/').ok_or(Refusal::Malformed)?;
    let (authority, path) = rest.split_at(slash);
    Ok((Some(authority), path))
}

/// Percent-decodes text. `plus_is_space` selects the encoding of HTML forms.
fn decode(text: &str, plus_is_space: bool) -> Result<String, Refusal> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit =
                    || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(Refusal::Malformed);
                let value = digit()? * 16 + digit()?;
                u8::try_from(value).expect("two hexadecimal digits fit a byte")
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| Refusal::Malformed)
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Whether an `If-None-Match` value, a list of tags or `*`, matches weakly (RFC 9110 section 13.1.2).
fn etag_matches(known: &str, etag: &str) -> bool {
    let tags = known.split(',').map(str::trim);
    tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag)).any(|tag| tag == etag || tag == "*")
}

/// Appends a header field without control characters: a decoded path in `Location` must not end the line.
fn push_field(head: &mut String, name: &str, value: &str) {
    head.push_str(name);
    head.push_str(": ");
    head.extend(value.chars().filter(|c| !c.is_control()));
    head.push_str("\r\n");
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // RFC 9112 section 4: the reason phrase may be empty.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "Host: a.example\r\n";

    fn parse(head: &str) -> Result<Option<(Request, usize)>, Refusal> {
        Request::parse(head.as_bytes())
    }

    fn request(head: &str) -> Request {
        let (request, length) = parse(head).expect(head).expect(head);
        assert_eq!(length, head.len());
        request
    }

    #[test]
    fn bad_heads_are_refused() {
        let many = format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "A: b\r\n".repeat(64));
        let long = format!("GET / HTTP/1.1\r\n{HOST}A: {}\r\n\r\n", "a".repeat(MAX_HEAD));
        let endless = format!("GET /{}", "a".repeat(MAX_HEAD));
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let table: &[(u16, &str)] = &[
            (400, "\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03"),
            (400, "\0\0\0\0"),
            (400, "SSH-2.0-OpenSSH\r\n"),
            (400, "GET /\r\n\r\n"),
            (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET a.example:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET ftp://a.example/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET http://user@a.example/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /% HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /%+1 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /?a=%e2%28 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n"),
            (405, "POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (405, "TRACE * HTTP/1.1\r\nHost: a\r\n\r\n"),
            (405, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (405, "get / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (431, &many),
            (431, &long),
            (431, &endless),
            (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
            (426, &format!("GET / HTTP/1.1\r\n{HOST}{upgrade}{key}Sec-WebSocket-Version: 8\r\n\r\n")),
            (426, &format!("GET / HTTP/1.1\r\n{HOST}{upgrade}{key}\r\n")),
            (400, &format!("GET / HTTP/1.1\r\n{HOST}{upgrade}Sec-WebSocket-Version: 13\r\n\r\n")),
            (400, &format!("GET / HTTP/1.1\r\n{HOST}{upgrade}{key}{key}Sec-WebSocket-Version: 13\r\n\r\n")),
            (
                400,
                &format!(
                    "GET / HTTP/1.1\r\n{HOST}{upgrade}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n\r\n"
                ),
            ),
        ];
        for (status, head) in table {
            assert_eq!(parse(head).map_err(Refusal::status), Err(*status), "{head:?}");
        }
        assert_eq!(parse("\x16\x03\x01"), Err(Refusal::Tls));
    }

    #[test]
    fn requests_with_a_body_are_refused() {
        for fields in [
            "Content-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 0\r\nContent-Length: 5\r\n",
            "Content-Length: 0, 5\r\n",
            "Content-Length: +0\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x0\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding:\r\n chunked\r\n",
            "X: y\r\n Transfer-Encoding: chunked\r\n",
            "TRANSFER-ENCODING: chunked\r\nContent-Length: 3\r\n",
        ] {
            for method in ["GET", "HEAD", "POST"] {
                let head = format!("{method} / HTTP/1.1\r\n{HOST}{fields}\r\n");
                assert_eq!(parse(&head).map_err(Refusal::status), Err(400), "{head:?}");
            }
        }
        assert!(request(&format!("GET / HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n")).keep_alive);
    }

    #[test]
    fn an_incomplete_head_is_none_at_every_byte() {
        let head = format!("GET /a%20b?x=1 HTTP/1.1\r\n{HOST}A: b\r\n\r\n");
        for end in 0..head.len() {
            assert_eq!(parse(&head[..end]), Ok(None), "{end} bytes");
        }
        let whole = request(&head);
        let (pipelined, length) = parse(&format!("{head}GET")).unwrap().unwrap();
        assert_eq!((pipelined, length), (whole, head.len()));
    }

    #[test]
    fn a_request_is_decoded() {
        let r = request(&format!(
            "HEAD /aq/caf%C3%A9%2f..?room=a+b%26c&name=%F0%9F%98%80&room=second&&flag&e= HTTP/1.1\r\n{HOST}\
             origin:  https://a.example \r\nX-Forwarded-For: a, b\r\nx-forwarded-for:c\r\nIf-None-Match: \"x\"\r\n\r\n"
        ));
        assert_eq!((r.method.as_str(), r.path.as_str()), ("HEAD", "/aq/café/.."));
        assert_eq!(r.param("room"), Some("a b&c"));
        assert_eq!(r.param("name"), Some("😀"));
        assert_eq!((r.param("flag"), r.param("e"), r.param("none")), (Some(""), Some(""), None));
        assert_eq!(r.host.as_deref(), Some("a.example"));
        assert_eq!(r.origin.as_deref(), Some("https://a.example"));
        assert_eq!(r.forwarded_for, "a, b,c");
        assert_eq!(r.if_none_match.as_deref(), Some("\"x\""));
        assert_eq!(r.websocket_key, None);

        let odd = [b"GET / HTTP/1.1\r\n", HOST.as_bytes(), b"X-Forwarded-For: \xff, 192.0.2.1\r\n\r\n"].concat();
        let (odd, _) = Request::parse(&odd).unwrap().unwrap();
        assert_eq!(odd.forwarded_for, "\u{fffd}, 192.0.2.1");

        let absolute = request("GET http://b.example:8080/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!((absolute.host.as_deref(), absolute.path.as_str()), (Some("b.example:8080"), "/x"));
    }

    #[test]
    fn keep_alive_depends_on_version_and_connection() {
        let table = [
            (true, format!("GET / HTTP/1.1\r\n{HOST}\r\n")),
            (true, format!("GET / HTTP/1.1\r\n{HOST}Connection: keep-alive\r\n\r\n")),
            (false, format!("GET / HTTP/1.1\r\n{HOST}Connection: foo, Close\r\n\r\n")),
            (false, "GET / HTTP/1.0\r\n\r\n".to_owned()),
        ];
        for (expected, head) in table {
            assert_eq!(request(&head).keep_alive, expected, "{head:?}");
        }
    }

    #[test]
    fn websocket_upgrades_are_recognised() {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
        let table = [
            (true, "GET", "1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            (true, "GET", "1.1", "Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n"),
            (false, "GET", "1.1", "Upgrade: websocket\r\n"),
            (false, "GET", "1.1", "Connection: Upgrade\r\n"),
            (false, "GET", "1.1", "Upgrade: h2c\r\nConnection: Upgrade\r\n"),
            (false, "HEAD", "1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            (false, "GET", "1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        ];
        for (expected, method, version, fields) in table {
            let head = format!("{method} /ws HTTP/{version}\r\n{HOST}{fields}{key}\r\n");
            assert_eq!(request(&head).websocket_key.is_some(), expected, "{head:?}");
        }
        let answer = String::from_utf8(switching_protocols("dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
        // The example of RFC 6455 section 1.3.
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(!answer.contains("Extensions"));
    }

    #[test]
    fn every_response_has_a_length_and_security_headers() {
        let get = request(&format!("GET / HTTP/1.1\r\n{HOST}\r\n"));
        let file: Arc<[u8]> = Arc::from(*b"file");
        let responses = [
            Response::text(404, "not found\n"),
            Response::json(200, "{}"),
            Response::redirect("/aq/".to_owned()),
            Response::file(&get, "text/css", "\"1\"", &file),
            Refusal::Method.response(),
            Refusal::WebSocketVersion.response(),
        ];
        for response in responses {
            let head = String::from_utf8(response.head(false)).unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", response.status)), "{head}");
            assert!(head.ends_with("\r\n\r\n") && head.matches("\r\n\r\n").count() == 1, "{head}");
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", response.body.len())), "{head}");
            assert!(head.contains("\r\nConnection: close"), "{head}");
            for name in [
                "Content-Security-Policy: default-src 'none'; script-src 'self';",
                "X-Content-Type-Options: nosniff",
                "Referrer-Policy: no-referrer",
                "X-Frame-Options: DENY",
                "Cross-Origin-Opener-Policy: same-origin",
                "Permissions-Policy: camera=(self), microphone=(self), display-capture=(self)",
            ] {
                assert!(head.contains(&format!("\r\n{name}")), "{name} in {head}");
            }
        }
    }

    #[test]
    fn a_header_value_cannot_end_its_line() {
        let response = Response::redirect("/a\r\nSet-Cookie: x=1\r\n\r\n".to_owned());
        let head = String::from_utf8(response.head(true)).unwrap();
        assert!(head.contains("\r\nLocation: /aSet-Cookie: x=1\r\n"), "{head}");
    }

    #[test]
    fn a_file_that_the_client_has_is_not_sent_again() {
        let file: Arc<[u8]> = Arc::from(*b"file");
        for (status, known) in
            [(304, "\"1\""), (304, "W/\"1\""), (304, "\"0\", \"1\""), (304, "*"), (200, "\"2\""), (200, "1"), (200, "")]
        {
            let get = request(&format!("GET / HTTP/1.1\r\n{HOST}If-None-Match: {known}\r\n\r\n"));
            let response = Response::file(&get, "text/css", "\"1\"", &file);
            assert_eq!((response.status, response.body.len()), (status, if status == 200 { 4 } else { 0 }), "{known}");
        }
    }
}
