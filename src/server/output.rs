//! The outputs of the server that wait for its caller.

use std::collections::VecDeque;

use crate::id::ConnId;
use crate::media::transport::datagrams::Datagrams;
use crate::web::conn::Transmit;

/// Bytes of datagrams after which they are handed out. Fewer cost more system calls; more do not stay in the
/// second-level cache until they are sent, and delay the first subscribers of a packet.
pub const DATAGRAM_BYTES: usize = 128 * 1024;

/// An action for the caller.
#[derive(Debug)]
pub enum Output<'a> {
    /// Write bytes to a connection, in order.
    Data {
        /// The connection.
        conn: ConnId,
        /// The bytes.
        bytes: Transmit,
    },
    /// Close a connection once everything is written. It is the last output for this connection.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Send datagrams, in order.
    Datagrams(&'a Datagrams),
    /// The shutdown is complete: end the process.
    Exit,
}

/// Outputs in order, and datagrams apart from them in one buffer.
#[derive(Default)]
pub struct Outputs {
    queue: VecDeque<Output<'static>>,
    /// Datagrams to send.
    pub datagrams: Datagrams,
    /// Whether `datagrams` was handed out and is to be cleared.
    are_handed_out: bool,
}

impl Outputs {
    pub fn push(&mut self, output: Output<'static>) {
        self.queue.push_back(output);
    }

    /// Whether enough waits to hand it out before more work is done.
    pub fn is_due(&self) -> bool {
        !self.queue.is_empty() || self.datagrams.bytes() >= DATAGRAM_BYTES
    }

    /// Returns the next output, datagrams last.
    pub fn poll(&mut self) -> Option<Output<'_>> {
        if let Some(output) = self.queue.pop_front() {
            return Some(output);
        }
        self.are_handed_out = !self.datagrams.is_empty();
        self.are_handed_out.then_some(Output::Datagrams(&self.datagrams))
    }

    /// Clears datagrams that the caller has sent.
    pub fn forget_handed_out(&mut self) {
        if self.are_handed_out {
            self.are_handed_out = false;
            self.datagrams.clear();
        }
    }
}
