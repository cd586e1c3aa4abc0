//! One TCP connection of the loop: a socket, TLS or not, and the bytes that wait to be written.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::io::tls::TlsStream;
use crate::web::conn::Transmit;

/// Bytes read in one turn. A flood on one connection waits for the others' turns.
const READ_BYTES: usize = 64 * 1024;

/// The kernel's send buffer, which is outside of the server's accounting.
const SEND_BUFFER: usize = 256 * 1024;

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// Nothing more for now.
    Drained,
    /// There may be more: read again in the next turn.
    More,
    /// The other end sends nothing more.
    Eof,
}

/// A connection.
pub struct Tcp {
    socket: TcpStream,
    tls: Option<TlsStream>,
    queue: VecDeque<Transmit>,
    /// Bytes of the queue's front that the socket or TLS took.
    offset: usize,
    /// Bytes that TLS took and whose ciphertext is not written yet.
    encrypted: usize,
    /// To be closed when the next write is done.
    pub closing: bool,
    /// The deadline for the end of TLS is running.
    pub is_waiting: bool,
}

impl Tcp {
    /// The most that the kernel and TLS take for one, beside what the server counts. The kernel doubles what it is asked
    /// for.
    pub const MAX_BYTES: usize = size_of::<Self>() + 2 * SEND_BUFFER + TlsStream::MAX_BYTES;

    /// Takes an accepted socket.
    pub fn new(socket: TcpStream, tls: Option<TlsStream>) -> Self {
        // Both are improvements only; a socket without them works.
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
        Self { socket, tls, queue: VecDeque::new(), offset: 0, encrypted: 0, closing: false, is_waiting: false }
    }

    /// For registration with the poll.
    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Appends what came, as plaintext, to `buffer`.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<ReadEnd> {
        if let Some(tls) = &mut self.tls {
            let outcome = tls.read_tls(&mut self.socket, buffer)?;
            return Ok(match outcome.eof {
                true => ReadEnd::Eof,
                false if outcome.more => ReadEnd::More,
                false => ReadEnd::Drained,
            });
        }
        match (&self.socket).take(READ_BYTES as u64).read_to_end(buffer) {
            Ok(READ_BYTES) => Ok(ReadEnd::More),
            Ok(_) => Ok(ReadEnd::Eof),
            // What came before is in the buffer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ReadEnd::Drained),
            Err(error) => Err(error),
        }
    }

    /// Queues bytes.
    pub fn send(&mut self, bytes: Transmit) {
        self.queue.push_back(bytes);
    }

    /// Writes what it can and returns how many bytes of the queue the socket took. In TLS a record counts once all of
    /// its ciphertext is written: what only TLS holds would be lost by a close.
    ///
    /// # Errors
    /// The connection is of no more use.
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

    /// Ends the direction to the client, in TLS with `close_notify`; the socket is closed by dropping it. False if
    /// `close_notify` waits for the socket to be writable: flush, and call it again. A connection that did not take all
    /// is reset: the kernel would go on to keep what it has of that, for nobody.
    pub fn shutdown(&mut self) -> bool {
        if !self.queue.is_empty() || self.encrypted > 0 {
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
            return true;
        }
        if let Some(tls) = &mut self.tls {
            tls.close_notify();
            // After an error nothing more can be written.
            if let Ok(false) = tls.flush_tls(&mut self.socket) {
                return false;
            }
        }
        // A close with unread input would reset the connection and lose what was written last.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        true
    }
}
