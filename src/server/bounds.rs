//! Bounds: how much memory the server takes at most, whatever its clients do, as its limits allow.
//!
//! Each module says what its own part takes, beside the limit that bounds it; here they are added up.

use crate::config::Limits;
use crate::faults::Faults;
use crate::media::history::History;
use crate::media::negotiation::MAX_SENDING_LINES;
use crate::media::peer::Peer;
use crate::media::sdp;
use crate::room::seats::Seats;
use crate::room::{Participant, Room};
use crate::server::budget::Leftovers;
use crate::server::{BATCHES_BYTES, DATAGRAM_BYTES, Member, pacing};
use crate::web::conn::Conn;
use crate::web::websocket;

/// The program itself, its page, and the buffers of its sockets.
const OWN_BYTES: usize = 32 << 20;

/// The worst case, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One participant, with their connection.
    pub participant: u64,
    /// One room, full.
    pub room: u64,
    /// All of it.
    pub total: u64,
    /// The same with nobody in it.
    pub idle: u64,
}

impl Bounds {
    /// What these limits allow, where the loop takes so many bytes for each connection.
    pub fn new(limits: &Limits, conn_bytes: usize) -> Self {
        let others = limits.max_room_size.min(limits.max_participants) - 1;
        let publishers = others.min(limits.seats());
        let tracks = publishers * MAX_SENDING_LINES;
        let message_bytes = sdp::message_limit(tracks + MAX_SENDING_LINES);
        let conn = Conn::max_bytes(websocket::Limits { message_bytes, ..websocket::Limits::default() }) + conn_bytes;
        let media = History::max_bytes(MAX_SENDING_LINES, limits.max_publish_kbps * 125, limits.max_publish_packets)
            + pacing::held_max_bytes(publishers, limits.max_publish_packets)
            + Peer::max_bytes(tracks);
        let person = size_of::<Member>()
            + Participant::max_bytes(MAX_SENDING_LINES, others)
            + Seats::max_bytes(others)
            + Member::QUEUES_BYTES
            // An answer that waits for its turn.
            + message_bytes;
        let participant = (conn + media + person) as u64;
        let room = Room::max_bytes(others + 1, limits.chat_history) as u64;
        let idle = (OWN_BYTES + Faults::MAX_BYTES + Leftovers::MAX_BYTES + 4 * DATAGRAM_BYTES + BATCHES_BYTES) as u64;
        let participants = limits.max_participants.min(limits.max_conns) as u64;
        let rooms = (limits.max_rooms as u64).min(participants);
        let guests = limits.max_conns as u64 - participants;
        Self {
            participant,
            room: room + (others as u64 + 1) * participant,
            total: idle + participants * participant + rooms * room + guests * conn as u64,
            idle,
        }
    }

    /// How many participants so much memory is enough for, whatever they do.
    pub fn participants_within(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.idle) / self.participant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn limits_bound_what_is_taken() {
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
        // What a participant is shown of each other one is counted, beside what the other one's media takes.
        let room_of = |size: usize| {
            let limits = Limits { max_room_size: size, last_n: 4, ..limits.clone() };
            Bounds::new(&limits, 0).participant
        };
        assert!(room_of(1_000) - room_of(500) >= Seats::max_bytes(500) as u64);
        assert_eq!(all.participants_within(all.idle + 5 * all.participant), 5);
        assert_eq!(all.participants_within(0), 0);
        // The highest limits that can be set overflow nothing.
        let most = bounds(|limits| {
            (limits.max_participants, limits.max_room_size, limits.max_conns) = (1_000_000, 1_000_000, 1_000_000);
            (limits.max_rooms, limits.last_n, limits.chat_history) = (1_000_000, 0, 1_000);
            (limits.max_publish_kbps, limits.max_publish_packets) = (1_000_000, 1_000_000);
        });
        assert!(most.total > all.total);
    }
}
