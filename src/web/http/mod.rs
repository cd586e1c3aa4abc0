//! HTTP/1.1 messages: one request parsed, one response written (RFC 9110, RFC 9112).
//!
//! Bytes enter, requests leave, and responses leave as bytes. Each request is parsed in two steps, head and body, so that
//! its address and type are known before its body is read. Anything on which two parsers might disagree about where a
//! request ends is refused and closes the connection, which prevents request smuggling.

mod body;
mod fields;
mod method;
mod refusal;
mod request;
mod response;

pub use body::{Body, BodyReader, Framing, MAX_BODY, MAX_CHUNK_FRAMING};
pub use method::Method;
pub use refusal::Refusal;
pub use request::{MAX_HEAD, Request};
pub use response::{CONTINUE, Response, switching_protocols};
