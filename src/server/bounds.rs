//! Bounds: the most memory that the server can use under its limits, whatever its clients do.
//!
//! Each module computes its own part next to the limit that bounds it; this module adds them up.

use crate::config::Limits;
use crate::limits::notices::Notices;
use crate::media::negotiation::assignment::MAX_SENDING_M_LINES;
use crate::media::negotiation::sdp;
use crate::media::peer::Peer;
use crate::media::publish::history::History;
use crate::room::Room;
use crate::server::forwarding::outbox::Outbox;
use crate::server::forwarding::pacing;
use crate::server::output::DATAGRAM_BYTES;
use crate::server::participants::Participant;
use crate::server::presence::admission::Admission;
use crate::server::presence::waiting::WaitingRoom;
use crate::server::turn::{BATCHES_BYTES, WORK_BYTES};
use crate::web::conn::Conn;
use crate::web::websocket;

/// The program itself, the page, and socket buffers.
const OWN_BYTES: usize = 32 << 20;

/// The worst-case memory use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One participant with its connection.
    pub participant: u64,
    /// One full room with its participants.
    pub room: u64,
    /// The whole server with all limits reached.
    pub total: u64,
    /// The whole server without clients.
    pub idle: u64,
}

impl Bounds {
    /// Computes the bounds under these limits. `conn_bytes` is the memory that the I/O loop uses for each connection.
    pub fn new(limits: &Limits, conn_bytes: usize) -> Self {
        let others = limits.max_room_size.min(limits.max_participants) - 1;
        let publishers = others.min(limits.seats());
        let tracks = publishers * MAX_SENDING_M_LINES;
        let message_bytes = sdp::message_limit(tracks + MAX_SENDING_M_LINES);
        let conn = Conn::max_bytes(websocket::Limits { message_bytes, ..websocket::Limits::default() }) + conn_bytes;
        let media = History::max_bytes(MAX_SENDING_M_LINES, limits.max_publish_kbps * 125, limits.max_publish_packets)
            + pacing::held_max_bytes(publishers, limits.max_publish_packets)
            + Peer::max_bytes(tracks);
        let state = Participant::max_bytes(MAX_SENDING_M_LINES, others)
            + Outbox::MAX_BYTES
            + 2 * WORK_BYTES
            // A received answer that has not been processed yet.
            + message_bytes;
        let participant = (conn + media + state) as u64;
        let room = Room::max_bytes(others + 1, limits.chat_history) as u64;
        let idle = (OWN_BYTES + Admission::MAX_BYTES + Notices::MAX_BYTES + 4 * DATAGRAM_BYTES + BATCHES_BYTES) as u64;
        let participants = limits.participants() as u64;
        let rooms = (limits.max_rooms as u64).min(participants);
        let other_conns = limits.max_conns as u64 - participants;
        Self {
            participant,
            room: participant.saturating_mul(others as u64 + 1).saturating_add(room),
            total: idle
                .saturating_add(participants.saturating_mul(participant))
                .saturating_add(rooms.saturating_mul(room))
                .saturating_add(other_conns.saturating_mul((conn + WaitingRoom::BYTES_EACH) as u64)),
            idle,
        }
    }

    /// The number of participants for which this much memory suffices in the worst case.
    pub fn participants_within(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.idle) / self.participant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::room::seats::Seats;

    #[test]
    fn lower_limits_lower_the_bounds() {
        let limits = Config::default().limits;
        let bounds = |change: fn(&mut Limits)| {
            let mut limits = limits.clone();
            change(&mut limits);
            Bounds::new(&limits, 0)
        };
        let all = bounds(|_| {});
        assert!((4 << 20..18 << 20).contains(&all.participant), "{all:?}");
        assert!(all.room > 100 * all.participant && all.total > 10_000 * all.participant, "{all:?}");
        assert!(bounds(|limits| limits.max_publish_kbps = 1_000).participant < all.participant);
        assert!(bounds(|limits| limits.max_publish_packets = 200).participant < all.participant);
        assert!(bounds(|limits| limits.last_n = 4).participant < all.participant);
        assert!(bounds(|limits| limits.last_n = 0).participant > all.participant);
        assert!(bounds(|limits| limits.chat_history = 0).room < all.room);
        assert!(bounds(|limits| limits.max_room_size = 10).room < all.room / 9);
        assert!(bounds(|limits| limits.max_participants = 100).total < all.total / 4);
        assert!(bounds(|limits| limits.max_conns = 100).total < all.total / 90);
        // In addition to the media, the bound includes the state that a participant keeps for each other participant.
        let room_of = |size: usize| {
            let limits = Limits { max_room_size: size, last_n: 4, ..limits.clone() };
            Bounds::new(&limits, 0).participant
        };
        assert!(room_of(1_000) - room_of(500) >= Seats::max_bytes(500) as u64);
        assert_eq!(all.participants_within(all.idle + 5 * all.participant), 5);
        assert_eq!(all.participants_within(0), 0);
        // The highest possible settings do not overflow.
        let most = bounds(|limits| {
            limits.max_participants = 1_000_000;
            limits.max_room_size = 1_000_000;
            limits.max_conns = 1_000_000;
            limits.max_rooms = 1_000_000;
            limits.last_n = 0;
            limits.chat_history = 1_000;
            limits.max_publish_kbps = 1_000_000;
            limits.max_publish_packets = 1_000_000;
        });
        assert!(most.total > all.total);
    }
}
