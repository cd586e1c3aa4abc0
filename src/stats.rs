//! The server's counters: what it handled and what it refused.

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
    /// RTP packets received from publishers.
    pub packets_in: u64,
    /// RTP packets written to subscribers.
    pub packets_forwarded: u64,
    /// RTP packets not forwarded to a subscriber: before its first keyframe, older than its start, or unknown codec.
    pub packets_skipped: u64,
    /// RTP packets of microphones that are not among the loudest or that a moderator has muted.
    pub packets_quiet: u64,
    /// RTP packets from publishers that are too large to forward.
    pub packets_oversized: u64,
    /// Parts of codec configurations that were not kept although late subscribers may need them.
    pub configurations_dropped: u64,
    /// RTP packets retransmitted to subscribers after a NACK.
    pub packets_resent: u64,
    /// Retransmissions refused because the subscriber does not accept RTX or has used up its share.
    pub packets_not_resent: u64,
    /// RTP packets retransmitted as padding to probe a path.
    pub packets_padding: u64,
    /// Keyframe requests sent to publishers, by `media::publish::keyframe::Reason`.
    pub keyframe_requests: [u64; 4],
    /// Turns of the event loop.
    pub turns: u64,
    /// Calls of a peer's `handle_timeout`, at its deadline or after an event.
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
    /// Peers closed because of an error of their own.
    pub peers_failed: u64,
    /// Messages refused with an `error`.
    pub messages_refused: u64,
    /// Changes of the shedding stage, in either direction.
    pub stages: u64,
    /// Connections and joins refused.
    pub conns_refused: u64,
    /// HTTP responses, by the first digit of their status; upgrades are not counted.
    pub responses: [u64; 6],
    /// HTTP requests refused before a route was chosen, or while their body was read, by `web::http::Refusal`.
    pub requests_refused: [u64; 14],
    /// Bodies of HTTP requests received.
    pub bodies_in: u64,
    /// Bytes of these bodies.
    pub body_bytes_in: u64,
}
