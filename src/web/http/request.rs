//! A request: its head, parsed and decoded.

use super::body::Body;
use super::fields::Fields;
use super::method::Method;
use super::refusal::Refusal;

/// The longest request head in bytes. A lower limit refuses browsers with many cookies for the host; a higher one lets
/// every idle connection hold more memory.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most header fields of a request. Fewer might refuse browsers behind several proxies; more only cost memory.
const MAX_HEADERS: usize = 64;

/// Fields that proxies add to the requests that they forward, apart from `X-Forwarded-For`.
const PROXY_FIELDS: [&str; 6] =
    ["forwarded", "via", "x-real-ip", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server"];

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
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
    /// The request has a field of `PROXY_FIELDS`; a client can send one too.
    pub has_proxy_fields: bool,
    /// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
    pub bearer: Option<String>,
    /// The `If-None-Match` field.
    pub if_none_match: Option<String>,
    /// `Accept-Encoding` has gzip, and not another coding that the client prefers.
    pub accepts_gzip: bool,
    /// The key of a valid WebSocket upgrade (RFC 6455 section 4.2.1); `None` for other requests.
    pub websocket_key: Option<String>,
    /// The request has a `Sec-WebSocket-Key`: the client meant an upgrade, even if a proxy has removed `Upgrade` and
    /// `Connection`.
    pub has_websocket_key: bool,
    /// The media type of the body in lower case, without parameters; empty if there is none.
    pub content_type: String,
    /// The client waits for status 100 before it sends the body.
    pub expects_continue: bool,
    /// The body. `parse` does not read it, unless it is empty.
    pub body: Body,
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
    /// Send `refusal.response()` and close the connection: the beginning of the next request is unknown.
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

        let body = fields.body(is_1_1);
        let Some(method) = Method::parse(method) else {
            return Err(body.err().unwrap_or(Refusal::Method));
        };
        let body = body?;
        if matches!(body, Body::Unread(_)) && !method.takes_body() {
            return Err(Refusal::Body);
        }
        let mut host = fields.single("host")?;
        if is_1_1 && host.is_none() {
            return Err(Refusal::Host);
        }
        // RFC 9110 section 9.3.7: `*` means the server as a whole.
        let target = if (method, target) == (Method::Options, "*") { "/" } else { target };
        let (authority, target) = split_target(target)?;
        // RFC 9112 section 3.2.2: the authority of a target in absolute form replaces Host.
        if let Some(authority) = authority {
            host = Some(authority);
        }
        if host.is_some_and(|host| !is_host(host)) {
            return Err(Refusal::Host);
        }
        // An expectation of HTTP/1.0 is ignored (RFC 9110 section 10.1.1).
        let expects_continue = is_1_1 && fields.expects_continue()?;
        let is_encoded = |coding: &[u8]| !coding.eq_ignore_ascii_case(b"identity");
        if matches!(body, Body::Unread(_)) && fields.all("content-encoding").any(is_encoded) {
            return Err(Refusal::ContentEncoding);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let owned = |value: Option<&str>| value.map(str::to_owned);
        let request = Request {
            method,
            path: decode(path, false)?,
            query: parse_query(query)?,
            host: owned(host),
            origin: owned(fields.single("origin")?),
            forwarded_for: fields.list("x-forwarded-for"),
            has_proxy_fields: PROXY_FIELDS.iter().any(|name| fields.all(name).next().is_some()),
            bearer: owned(fields.single("authorization").ok().flatten().and_then(bearer)),
            if_none_match: owned(fields.single("if-none-match")?),
            accepts_gzip: fields.accepts_gzip(),
            websocket_key: if is_1_1 && method == Method::Get { owned(fields.websocket_key()?) } else { None },
            has_websocket_key: fields.all("sec-websocket-key").next().is_some(),
            content_type: fields.content_type()?,
            expects_continue,
            body,
            keep_alive: is_1_1 && !fields.has_token("connection", "close"),
        };
        Ok(Some((request, length)))
    }

    /// Whether the body has still to be read.
    pub fn has_unread_body(&self) -> bool {
        matches!(self.body, Body::Unread(_))
    }

    /// The first query parameter with this name.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
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

/// The token in the value of `Authorization`, if its scheme is `Bearer`, which is case-insensitive (RFC 9110 section
/// 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_ascii())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::http::body::{Framing, MAX_BODY};

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
            (405, "LINK / HTTP/1.1\r\nHost: a\r\n\r\n"),
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
    fn a_body_with_an_ambiguous_end_is_refused() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 0\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 0, 5\r\n",
            "Content-Length: +0\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 0x0\r\n",
            "Content-Length: 5;a\r\n",
            "Content-Length: \u{665}\r\n",
            "Content-Length:\r\n",
            "Content-Length : 5\r\n",
            "Content-Length:\r\n 5\r\n",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked;a=b\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding:\r\n chunked\r\n",
            "X: y\r\n Transfer-Encoding: chunked\r\n",
            "TRANSFER-ENCODING: chunked\r\nContent-Length: 3\r\n",
        ] {
            for method in ["GET", "HEAD", "POST", "DELETE", "BREW"] {
                let head = format!("{method} / HTTP/1.1\r\n{HOST}{fields}\r\n");
                assert_eq!(parse(&head).map_err(Refusal::status), Err(400), "{head:?}");
            }
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse(old), Err(Refusal::Framing));
    }

    #[test]
    fn only_some_methods_take_a_body() {
        for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
            for method in Method::ALL {
                let head = format!("{} / HTTP/1.1\r\n{HOST}{fields}\r\n", method.name());
                let takes_body = ["POST", "PUT", "PATCH"].contains(&method.name());
                match parse(&head) {
                    Ok(Some((request, _))) => assert!(takes_body && request.has_unread_body(), "{head:?}"),
                    result => assert_eq!((result, takes_body), (Err(Refusal::Body), false), "{head:?}"),
                }
            }
        }
        for method in Method::ALL {
            let empty = request(&format!("{} / HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n", method.name()));
            assert_eq!((empty.body, empty.keep_alive), (Body::Read(Vec::new()), true));
            let absent = request(&format!("{} / HTTP/1.1\r\n{HOST}\r\n", method.name()));
            assert_eq!((absent.body, absent.keep_alive), (Body::Absent, true));
        }
    }

    #[test]
    fn the_head_determines_how_the_body_is_read() {
        let post = |fields: &str| parse(&format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n"));
        let body = |fields: &str| post(fields).map(|request| request.expect("complete").0.body);
        assert_eq!(body("Content-Length: 0005\r\n"), Ok(Body::Unread(Framing::Length(5))));
        assert_eq!(body("Content-Length: 65536\r\n"), Ok(Body::Unread(Framing::Length(MAX_BODY))));
        assert_eq!(body("Content-Length: 65537\r\n"), Err(Refusal::BodyTooLarge));
        assert_eq!(body("Content-Length: 99999999999999999999999\r\n"), Err(Refusal::BodyTooLarge));
        assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Ok(Body::Unread(Framing::Chunked)));

        let content_type = |fields: &str| post(fields).map(|request| request.expect("complete").0.content_type);
        assert_eq!(content_type(""), Ok(String::new()));
        assert_eq!(content_type("Content-Type: Application/SDP ; a=b\r\n"), Ok("application/sdp".to_owned()));
        assert_eq!(content_type("Content-Type: a/b\r\nContent-Type: a/b\r\n"), Err(Refusal::Malformed));

        let gzip = "Content-Length: 5\r\nContent-Encoding: gzip\r\n";
        assert_eq!(post(gzip), Err(Refusal::ContentEncoding));
        assert!(post("Content-Length: 5\r\nContent-Encoding: identity\r\n").is_ok());

        let expects = |fields: &str| post(fields).map(|request| request.expect("complete").0.expects_continue);
        assert_eq!(expects("Content-Length: 5\r\n"), Ok(false));
        assert_eq!(expects("Content-Length: 5\r\nExpect: 100-Continue\r\n"), Ok(true));
        for fields in ["Expect: 200-ok\r\n", "Expect: 100-continue\r\nExpect: x\r\n", "Expect:\r\n"] {
            assert_eq!(expects(fields), Err(Refusal::Expectation), "{fields:?}");
        }
        let old = request("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: x\r\n\r\n");
        assert!(!old.expects_continue);
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
        assert_eq!((r.method, r.path.as_str()), (Method::Head, "/aq/café/.."));
        assert_eq!(r.param("room"), Some("a b&c"));
        assert_eq!(r.param("name"), Some("😀"));
        assert_eq!((r.param("flag"), r.param("e"), r.param("none")), (Some(""), Some(""), None));
        assert_eq!(r.host.as_deref(), Some("a.example"));
        assert_eq!(r.origin.as_deref(), Some("https://a.example"));
        assert_eq!(r.forwarded_for, "a, b,c");
        assert_eq!(r.if_none_match.as_deref(), Some("\"x\""));
        assert_eq!((r.websocket_key, r.has_proxy_fields, r.bearer), (None, false, None));

        let proxied = request(&format!("GET / HTTP/1.1\r\n{HOST}via: 1.1 x\r\nAuthorization: bearer  abc \r\n\r\n"));
        assert_eq!((proxied.has_proxy_fields, proxied.bearer.as_deref()), (true, Some("abc")));
        let basic = request(&format!("GET / HTTP/1.1\r\n{HOST}Authorization: Basic YTpi\r\n\r\n"));
        assert_eq!(basic.bearer, None);

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
    }
}
