//! The server's counters of handled and refused input.

use crate::drop_reason::Drops;
use crate::histogram::Histogram;

/// The outcomes of a join: the two kinds of success, and the codes of refusals.
pub const JOIN_OUTCOMES: [&str; 17] = [
    "joined",
    "resumed",
    "bad-room",
    "closing",
    "full",
    "locked",
    "origin",
    "removed",
    "room-full",
    "server-busy",
    "server-full",
    "too-many-conns",
    "too-many-faults",
    "too-many-joins",
    "unauthorized",
    "waiting",
    "waiting-full",
];

/// Counters since the start; they only grow.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams that belong to no peer.
    pub datagrams_unknown: u64,
    /// Datagrams dropped because their peer exceeded its allowance.
    pub datagrams_excess: u64,
    /// Datagrams queued for sending.
    pub datagrams_out: u64,
    /// Datagrams lost at the socket, because the send buffer was full or there was no route.
    pub datagrams_unsent: u64,
    /// Bytes of datagrams received, without UDP and IP headers.
    pub bytes_in: u64,
    /// Bytes of datagrams queued for sending, without UDP and IP headers.
    pub bytes_out: u64,
    /// RTP packets received from publishers and admitted for forwarding.
    pub packets_in: u64,
    /// RTP packets received x other participants of the room at that time. Each of these packets is then forwarded or
    /// dropped, or a pacer still holds it.
    pub packets_due: u64,
    /// RTP packets written to subscribers.
    pub packets_forwarded: u64,
    /// Of these, packets that a pacer held back first.
    pub packets_paced: u64,
    /// RTP packets not forwarded, counted once for each participant that did not get them.
    pub drops: Drops<u64>,
    /// RTP packets of microphones that are not among the loudest or that a moderator has muted.
    pub packets_not_loudest: u64,
    /// RTP packets from publishers that are too large to forward.
    pub packets_oversized: u64,
    /// Parts of codec configurations that were not kept although late subscribers may need them.
    pub configurations_dropped: u64,
    /// RTP packets retransmitted to subscribers after a NACK.
    pub packets_resent: u64,
    /// Retransmissions refused because the subscriber does not accept RTX or has used up its allowance.
    pub packets_not_resent: u64,
    /// RTP packets retransmitted as padding to probe a path.
    pub packets_padding: u64,
    /// Keyframe requests sent to publishers, by `media::publish::keyframe::Reason`.
    pub keyframe_requests: [u64; 4],
    /// Turns of the event loop.
    pub turns: u64,
    /// How long the event loop was awake in a turn.
    pub turn: Histogram,
    /// Time from the receipt of packets to the end of the turn that sent them. Each turn that forwards packets as they
    /// arrive is one observation; so is each release of held packets by a pacer, where the oldest packet counts.
    pub forward_delay: Histogram,
    /// `packets_forwarded_unpaced` when `forward_delay` last observed a turn.
    pub packets_recorded: u64,
    /// Calls of `Peer::handle_timeout`, at its deadline or after an event.
    pub peer_timeouts: u64,
    /// Offers sent.
    pub offers: u64,
    /// Answers accepted or rejected.
    pub answers: u64,
    /// Recalculations of a room's seats.
    pub seatings: u64,
    /// m-lines that were given another track without an offer.
    pub exchanges: u64,
    /// Chat messages accepted.
    pub chat_messages: u64,
    /// Peers closed because of their own error.
    pub peers_failed: u64,
    /// Messages refused with an `error`.
    pub messages_refused: u64,
    /// Steps that reduced or restored the video of rooms.
    pub stages: u64,
    /// Connections and joins refused.
    pub conns_refused: u64,
    /// Joins, by `JOIN_OUTCOMES`.
    pub joins: [u64; JOIN_OUTCOMES.len()],
    /// HTTP responses, by the first digit of their status; upgrades are not counted.
    pub responses: [u64; 6],
    /// HTTP requests refused before a route was found, or while their body was read, by `web::http::Refusal`.
    pub requests_refused: [u64; 14],
    /// Bodies of HTTP requests received.
    pub bodies_in: u64,
    /// Bytes of these bodies.
    pub body_bytes_in: u64,
}

impl Stats {
    /// Counts a join with one of `JOIN_OUTCOMES`.
    pub fn count_join(&mut self, outcome: &str) {
        let index = JOIN_OUTCOMES.iter().position(|known| *known == outcome);
        debug_assert!(index.is_some(), "{outcome} is not in JOIN_OUTCOMES");
        if let Some(index) = index {
            self.joins[index] += 1;
        }
    }

    /// RTP packets written to subscribers in the turn that received them.
    pub fn packets_forwarded_unpaced(&self) -> u64 {
        self.packets_forwarded - self.packets_paced
    }
}
