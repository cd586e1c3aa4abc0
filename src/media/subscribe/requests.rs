//! The requests that one subscriber sends by RTCP: keyframes and lost packets.

use crate::media::subscribe::m_lines::MAX_LOOKUPS;
use crate::media::subscribe::rtx::Sent;

/// Maximum number of packets that one RTCP datagram can request. A subscriber that lost more requests them again.
/// Keyframe requests do not count.
pub(super) const MAX_REQUESTS: usize = 256;

/// A request of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A keyframe.
    Keyframe {
        /// Index of the m-line.
        m_line: usize,
    },
    /// The retransmission of a packet.
    Packet {
        /// Index of the m-line.
        m_line: usize,
        /// The lost packet.
        sent: Sent,
    },
}

/// The requests that have not been handled yet.
#[derive(Default)]
pub(super) struct Requests(Vec<Request>);

impl Requests {
    /// Upper bound of the memory in bytes.
    pub const MAX_BYTES: usize = 2 * (MAX_REQUESTS + MAX_LOOKUPS) * size_of::<Request>();

    /// Adds lost packets of an m-line, up to the limit.
    pub fn push_packets(&mut self, m_line: usize, lost: impl Iterator<Item = Sent>) {
        let room = MAX_REQUESTS.saturating_sub(self.0.len());
        self.0.extend(lost.take(room).map(|sent| Request::Packet { m_line, sent }));
    }

    /// Adds a keyframe request, unless it repeats the last request.
    pub fn push_keyframe(&mut self, m_line: usize) {
        let request = Request::Keyframe { m_line };
        if self.0.last() != Some(&request) && self.0.len() < MAX_REQUESTS + MAX_LOOKUPS {
            self.0.push(request);
        }
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all requests.
    pub fn take(&mut self) -> impl Iterator<Item = Request> {
        self.0.drain(..)
    }
}
