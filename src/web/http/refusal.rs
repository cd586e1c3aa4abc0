//! Why a request was rejected: status and reason.

use std::fmt;

use super::response::Response;

/// The methods that every path allows, as in an `Allow` field.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Why a request was refused before a route was found, or while its body was read. The client is at fault: the status
/// is a 4xx, or 505.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The bytes are not an HTTP request.
    Malformed,
    /// A TLS handshake on a plain port.
    Tls,
    /// A method that the server does not know.
    Method,
    /// `Host` is missing, repeated or invalid.
    Host,
    /// The request was not completed in time.
    Slow,
    /// The end of the body is ambiguous.
    Framing,
    /// A body has no meaning for the method.
    Body,
    /// The chunks of the body are malformed.
    Chunks,
    /// The body, or the framing of its chunks, is too long.
    BodyTooLarge,
    /// The body is compressed.
    ContentEncoding,
    /// `Expect` asks for something other than status 100.
    Expectation,
    /// A WebSocket version other than 13.
    WebSocketVersion,
    /// The head has too many bytes or header fields.
    HeadTooLarge,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version,
}

impl Refusal {
    /// All refusals, in the order of their values.
    pub const ALL: [Refusal; 14] = [
        Refusal::Malformed,
        Refusal::Tls,
        Refusal::Method,
        Refusal::Host,
        Refusal::Slow,
        Refusal::Framing,
        Refusal::Body,
        Refusal::Chunks,
        Refusal::BodyTooLarge,
        Refusal::ContentEncoding,
        Refusal::Expectation,
        Refusal::WebSocketVersion,
        Refusal::HeadTooLarge,
        Refusal::Version,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::Tls => "tls",
            Refusal::Method => "method",
            Refusal::Host => "host",
            Refusal::Slow => "slow",
            Refusal::Framing => "framing",
            Refusal::Body => "body",
            Refusal::Chunks => "chunks",
            Refusal::BodyTooLarge => "body-too-large",
            Refusal::ContentEncoding => "content-encoding",
            Refusal::Expectation => "expectation",
            Refusal::WebSocketVersion => "websocket-version",
            Refusal::HeadTooLarge => "head-too-large",
            Refusal::Version => "version",
        }
    }

    /// The response; close the connection after it.
    pub fn response(self) -> Response {
        let response = Response::text(self.status(), &format!("{self}\n"));
        match self {
            Refusal::Method => response.with_header("Allow", ALLOW.to_owned()),
            Refusal::ContentEncoding => response.with_header("Accept-Encoding", "identity".to_owned()),
            Refusal::WebSocketVersion => response
                .with_header("Upgrade", "websocket".to_owned())
                .with_header("Sec-WebSocket-Version", "13".to_owned()),
            _ => response,
        }
    }

    /// The status code of the response.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Malformed | Refusal::Tls | Refusal::Host | Refusal::Framing | Refusal::Body | Refusal::Chunks => {
                400
            }
            Refusal::Method => 405,
            Refusal::Slow => 408,
            Refusal::BodyTooLarge => 413,
            Refusal::ContentEncoding => 415,
            Refusal::Expectation => 417,
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
            Refusal::Method => "the server does not know this method",
            Refusal::Host => "a request must have exactly one valid Host",
            Refusal::Slow => "the request was not completed in time",
            Refusal::Framing => "a body must have one Content-Length, or one Transfer-Encoding: chunked",
            Refusal::Body => "a request with this method must not have a body",
            Refusal::Chunks => "the chunks of the body are malformed",
            Refusal::BodyTooLarge => "the body has more than 64 KiB, or its chunks more than 16 KiB of framing",
            Refusal::ContentEncoding => "the body must not be compressed",
            Refusal::Expectation => "the only expectation that can be met is 100-continue",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_their_values() {
        for (value, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, value, "{refusal:?}");
        }
    }
}
