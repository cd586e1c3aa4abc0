//! One TCP connection of the event loop: the socket, optional TLS, and the queue of bytes to write.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::io::tls::TlsStream;
use crate::web::conn::Transmit;

/// Maximum bytes read in one turn: a flood on one connection must not delay the others.
const READ_BYTES: usize = 64 * 1024;

/// Size of the kernel's send buffer, which the server does not account for.
const SEND_BUFFER: usize = 256 * 1024;

/// Why a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The socket has no more data for now.
    Drained,
    /// The limit was reached: read again in the next turn.
    More,
    /// The client has closed its direction.
    Eof,
}

/// A connection.
pub struct Tcp {
    socket: TcpStream,
    tls: Option<TlsStream>,
    queue: VecDeque<Transmit>,
    /// Bytes of the queue's first element that the socket or TLS has taken.
    offset: usize,
    /// Bytes that TLS has taken and whose ciphertext is not written yet.
    encrypted: usize,
    /// Whether to close the connection once the queue is written.
    pub closing: bool,
    /// Whether the deadline for writing `close_notify` is running.
    pub is_waiting: bool,
}

impl Tcp {
    /// Upper bound of the memory that the kernel and TLS use for one connection, in bytes. The kernel doubles the
    /// buffer size it is asked for.
    pub const MAX_BYTES: usize = size_of::<Self>() + 2 * SEND_BUFFER + TlsStream::MAX_BYTES;

    /// Takes an accepted socket.
    pub fn new(socket: TcpStream, tls: Option<TlsStream>) -> Self {
        // Optimisations only; a socket without them works.
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
        Self { socket, tls, queue: VecDeque::new(), offset: 0, encrypted: 0, closing: false, is_waiting: false }
    }

    /// Returns the socket, for registration with the poll.
    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads plaintext and appends it to `buffer`.
    ///
    /// # Errors
    /// Fails if the connection is broken.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<ReadEnd> {
        if let Some(tls) = &mut self.tls {
            let outcome = tls.read_tls(&mut self.socket, buffer)?;
            return Ok(if outcome.eof {
                ReadEnd::Eof
            } else if outcome.more {
                ReadEnd::More
            } else {
                ReadEnd::Drained
            });
        }
        match (&self.socket).take(READ_BYTES as u64).read_to_end(buffer) {
            Ok(READ_BYTES) => Ok(ReadEnd::More),
            Ok(_) => Ok(ReadEnd::Eof),
            // `buffer` has what was read before this error.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ReadEnd::Drained),
            Err(error) => Err(error),
        }
    }

    /// Queues bytes for `flush`.
    pub fn send(&mut self, bytes: Transmit) {
        self.queue.push_back(bytes);
    }

    /// Writes as much of the queue as the socket takes and returns the number of bytes written. With TLS, bytes count
    /// when all ciphertext of their record is written: a close would lose what only TLS holds.
    ///
    /// # Errors
    /// Fails if the connection is broken.
    pub fn flush(&mut self) -> io::Result<usize> {
        let mut written = 0;
        loop {
            if let Some(tls) = &mut self.tls {
                if !tls.flush_tls(&mut self.socket)? {
                    return Ok(written);
                }
                written += std::mem::take(&mut self.encrypted);
            }
            let Some(front) = self.queue.front() else {
                return Ok(written);
            };
            let rest = &front[self.offset..];
            let taken = match &mut self.tls {
                Some(tls) => tls.write(rest),
                None => match self.socket.write(rest) {
                    Ok(taken) => taken,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(written),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                },
            };
            if taken == 0 && !rest.is_empty() {
                return Ok(written);
            }
            match self.tls {
                Some(_) => self.encrypted += taken,
                None => written += taken,
            }
            self.offset += taken;
            if self.offset == front.len() {
                self.queue.pop_front();
                self.offset = 0;
            }
        }
    }

    /// Closes the direction to the client, with TLS by `close_notify`; dropping the connection closes the socket.
    /// Returns false if `close_notify` has to wait until the socket is writable: flush, and call it again. A connection
    /// that has not taken all of the queue is reset: otherwise the kernel would keep its send buffer after the close.
    pub fn shutdown(&mut self) -> bool {
        if !self.queue.is_empty() || self.encrypted > 0 {
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
            return true;
        }
        if let Some(tls) = &mut self.tls {
            tls.close_notify();
            // After an error nothing more can be written: go on.
            if let Ok(false) = tls.flush_tls(&mut self.socket) {
                return false;
            }
        }
        // Shut down first: closing a socket with unread input resets the connection and loses the last bytes written.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        true
    }
}
