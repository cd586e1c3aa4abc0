//! A response: its status, header fields and body, and how its head is written.

use std::sync::Arc;

/// The page may load files from this server, open WebSockets, and use camera and microphone; it must never be framed,
/// and no text becomes script or markup (Trusted Types without any policy). `connect-src` names the WebSocket schemes
/// because in some browsers 'self' does not include them.
const SECURITY_HEADERS: &str = "\
Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
media-src 'self' blob:; connect-src 'self' ws: wss:; font-src 'self'; manifest-src 'self'; base-uri 'none'; \
form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n\
X-Content-Type-Options: nosniff\r\n\
Referrer-Policy: no-referrer\r\n\
X-Frame-Options: DENY\r\n\
Cross-Origin-Opener-Policy: same-origin\r\n\
Permissions-Policy: camera=(self), microphone=(self), display-capture=(self)\r\n";

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

    /// Metrics in the text format of Prometheus.
    pub fn metrics(text: &str) -> Response {
        Response::dynamic(200, "text/plain; version=0.0.4; charset=utf-8", text)
    }

    /// A redirect with status 308, which keeps the method. `location` is percent-encoded.
    pub fn redirect(location: String) -> Response {
        let response = Response { status: 308, content_type: "", headers: Vec::new(), body: Arc::from([]) };
        response.with_header("Location", location)
    }

    /// A file, or 304 without a body if the client's `If-None-Match` names the current version. `no-cache` makes
    /// browsers revalidate each file, so a page never mixes files of two versions.
    pub fn file(if_none_match: Option<&str>, content_type: &'static str, etag: &str, body: &Arc<[u8]>) -> Response {
        let is_known = if_none_match.is_some_and(|known| etag_matches(known, etag));
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

/// The interim response that asks for a body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The response that accepts a WebSocket upgrade with this key. It never names an extension, so compression stays off.
pub fn switching_protocols(websocket_key: &str) -> Vec<u8> {
    let accept = tungstenite::handshake::derive_accept_key(websocket_key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
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
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
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
    use crate::web::http::{Refusal, Request};

    const HOST: &str = "Host: a.example\r\n";

    fn request(head: &str) -> Request {
        Request::parse(head.as_bytes()).expect(head).expect(head).0
    }

    #[test]
    fn an_accepted_upgrade_names_the_key_and_no_extension() {
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
            Response::file(get.if_none_match.as_deref(), "text/css", "\"1\"", &file),
            Refusal::Method.response(),
            Refusal::WebSocketVersion.response(),
            Refusal::ContentEncoding.response(),
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
            let response = Response::file(get.if_none_match.as_deref(), "text/css", "\"1\"", &file);
            assert_eq!((response.status, response.body.len()), (status, if status == 200 { 4 } else { 0 }), "{known}");
        }
    }
}
