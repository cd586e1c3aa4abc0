//! HTTP/1.1 messages: one request parsed, one response written (RFC 9110, RFC 9112).
//!
//! Requests are parsed from bytes, and responses are encoded as bytes. Each request is parsed in two steps, head and
//! body, so that its path and type are known before its body is read. To prevent request smuggling, a request whose end
//! two parsers might see at different positions is refused, and the connection closes.

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
