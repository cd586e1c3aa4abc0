//! The outputs of the server, queued until its caller takes them.

use std::collections::VecDeque;

use crate::id::ConnId;
use crate::media::transport::datagrams::Datagrams;
use crate::web::conn::Transmit;

/// Bytes of datagrams at which they are handed to the caller. Fewer cost more system calls; more exceed the
/// second-level cache, in which they should stay until they are sent, and delay the first subscribers of a packet.
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

/// The queued outputs. Datagrams have a buffer of their own.
#[derive(Default)]
pub struct Outputs {
    queue: VecDeque<Output<'static>>,
    /// Datagrams to send.
    pub datagrams: Datagrams,
    /// Whether the caller has taken `datagrams`, which is then cleared at its next call.
    are_handed_out: bool,
}

impl Outputs {
    pub fn push(&mut self, output: Output<'static>) {
        self.queue.push_back(output);
    }

    /// Whether outputs must be taken before more work is done.
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
