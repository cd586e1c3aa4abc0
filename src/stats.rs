//! What the server counts: one number for each thing that happens and for each thing that was refused.

/// Counters since the start; they only grow.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    /// Datagrams given to the server.
    pub datagrams_in: u64,
    /// Datagrams that no peer wanted.
    pub datagrams_unknown: u64,
    /// Datagrams that were more than their sender may send.
    pub datagrams_excess: u64,
    /// Datagrams handed out for sending.
    pub datagrams_out: u64,
    /// RTP packets taken from publishers.
    pub packets_in: u64,
    /// RTP packets written to subscribers.
    pub packets_forwarded: u64,
    /// RTP packets that a subscriber did not get: before its first keyframe, older than its start, unknown codec.
    pub packets_skipped: u64,
    /// RTP packets of microphones that were not among the loudest, or muted by a moderator.
    pub packets_quiet: u64,
    /// RTP packets of publishers that are too large for the path to a subscriber.
    pub packets_oversized: u64,
    /// Parts of publishers' codec configurations that late subscribers may need and that were not kept.
    pub configurations_dropped: u64,
    /// RTP packets sent again to subscribers that had lost them.
    pub packets_resent: u64,
    /// The same refused: the subscriber takes no repair, or has used up its share.
    pub packets_not_resent: u64,
    /// RTP packets sent again to probe a path.
    pub packets_padding: u64,
    /// Keyframe requests sent to publishers, by `media::keyframe::Reason`.
    pub keyframe_requests: [u64; 4],
    /// Turns of the loop: inputs, and what they caused.
    pub turns: u64,
    /// Times that a peer was woken, by its deadline or by what happened to it.
    pub peer_timeouts: u64,
    /// Offers sent.
    pub offers: u64,
    /// Answers taken, or found wrong.
    pub answers: u64,
    /// Times that it was decided again who of a room is sent to whom.
    pub seatings: u64,
    /// Lines that changed hands without an offer.
    pub exchanges: u64,
    /// Chat lines accepted.
    pub chat_lines: u64,
    /// Peers that were closed for a fault of theirs.
    pub peers_failed: u64,
    /// Messages refused with an `error`.
    pub messages_refused: u64,
    /// Times that something was given up for the load, or came back.
    pub stages: u64,
    /// Connections refused, and people who wanted to come in.
    pub conns_refused: u64,
}
