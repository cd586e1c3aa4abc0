//! The encryption of one connection.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::ServerConnection;

use super::acceptor::TlsAcceptor;

/// Ciphertext read in one call. Higher delays the other sockets of a turn, lower costs turns.
pub(super) const READ_BOUND_BYTES: usize = 64 * 1024;

/// Plaintext taken in one call: one full TLS record (RFC 8446 section 5.1). Higher hides more bytes from the accounting
/// of queued bytes, lower costs 22 bytes and a system call more often.
pub(super) const WRITE_BOUND_BYTES: usize = 16 * 1024;

/// The encryption of one connection.
///
/// To send, call [`flush_tls`](TlsStream::flush_tls); if that wrote everything, call [`write`](TlsStream::write) and
/// flush again, until nothing is taken or the socket is full. To receive, call [`read_tls`](TlsStream::read_tls) and
/// then do the same, since reading queues handshake messages.
pub struct TlsStream {
    conn: ServerConnection,
}

/// The result of [`TlsStream::read_tls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// Plaintext appended, in bytes.
    pub bytes: usize,
    /// No more data will follow: the client closed, with `close_notify` or without.
    pub eof: bool,
    /// The limit was reached before the socket was empty: read again without waiting for the poll.
    pub more: bool,
}

impl TlsStream {
    /// Upper bound of the memory of one connection's TLS: data read, data to write, and rustls itself.
    pub const MAX_BYTES: usize = 2 * (READ_BOUND_BYTES + WRITE_BOUND_BYTES) + 16 * 1024;

    /// Creates the server's end of a connection before the handshake.
    pub fn new(acceptor: &TlsAcceptor) -> TlsStream {
        let conn = ServerConnection::new(Arc::clone(&acceptor.config));
        TlsStream { conn: conn.expect("the acceptor's settings are valid") }
    }

    /// Reads from `sock` until it would block or ends, or 64 KiB were read, and appends the decrypted bytes to
    /// `plaintext`. Flush afterwards: reading queues handshake messages and alerts.
    ///
    /// # Errors
    /// Returns `InvalidData` if the client violated the protocol; the alert is queued, so flush and close. Other errors
    /// are the socket's; close.
    pub fn read_tls(&mut self, sock: &mut impl Read, plaintext: &mut Vec<u8>) -> io::Result<ReadOutcome> {
        let start = plaintext.len();
        let outcome = |plaintext: &Vec<u8>, eof, more| ReadOutcome { bytes: plaintext.len() - start, eof, more };
        let mut taken = 0;
        while taken < READ_BOUND_BYTES {
            match self.conn.read_tls(sock) {
                // End of the stream, or close_notify was received before.
                Ok(0) => return Ok(outcome(plaintext, true, false)),
                Ok(bytes) => taken += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(outcome(plaintext, false, false)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let state = self.conn.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Drained after each read: rustls refuses to read while it holds 16 KiB of plaintext.
            let ready = state.plaintext_bytes_to_read() as u64;
            self.conn.reader().take(ready).read_to_end(plaintext)?;
        }
        Ok(outcome(plaintext, false, true))
    }

    /// Takes up to 16 KiB of `plaintext` and returns the number of bytes taken. Takes nothing during the handshake and
    /// while ciphertext waits to be flushed, so that bytes queue where they are accounted for.
    pub fn write(&mut self, plaintext: &[u8]) -> usize {
        if self.is_handshaking() || self.wants_write() {
            return 0;
        }
        let record = &plaintext[..plaintext.len().min(WRITE_BOUND_BYTES)];
        self.conn.writer().write(record).expect("writing to rustls's buffer cannot fail")
    }

    /// Writes queued ciphertext until `sock` would block. Returns true if nothing is left.
    ///
    /// # Errors
    /// Returns errors of the socket; close it.
    pub fn flush_tls(&mut self, sock: &mut impl Write) -> io::Result<bool> {
        while self.conn.wants_write() {
            match self.conn.write_tls(sock) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Queues `close_notify`, the end of this direction (RFC 8446 section 6.1). Write nothing after it, flush, then
    /// shut down the socket.
    pub fn close_notify(&mut self) {
        self.conn.send_close_notify();
    }

    /// Returns true if ciphertext waits to be flushed.
    pub fn wants_write(&self) -> bool {
        self.conn.wants_write()
    }

    /// Returns true until the handshake is complete; no plaintext is exchanged before.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }
}
