//! HTTP/1.1 messages: one request parsed, one response written (RFC 9110, RFC 9112).
//!
//! Bytes enter, requests leave, and responses leave as bytes. Anything on which two parsers might disagree about where a
//! request ends is refused and closes the connection, which prevents request smuggling.

mod fields;
mod refusal;
mod request;
mod response;

pub use refusal::{ALLOW, Refusal};
pub use request::{MAX_HEAD, Request};
pub use response::{Response, switching_protocols};
