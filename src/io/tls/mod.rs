//! TLS: the server's certificate, and the encryption of one connection.
//!
//! Neither rustls nor [`TlsStream`] does I/O: the event loop passes the socket to each call. The certificate comes from
//! PEM files or, with `--tls auto`, is made by the server.

mod acceptor;
mod own;
mod stream;
#[cfg(test)]
pub(super) mod tests;

pub use acceptor::{TlsAcceptor, TlsError};
pub use stream::{ReadOutcome, TlsStream};
