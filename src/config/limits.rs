//! Limits on what clients can make the server allocate.

use super::values::limit;

/// Largest value of a limit. A higher one is probably a typo; the bound also keeps sums of limits far from overflow.
const MAX_LIMIT: usize = 1_000_000;

/// Largest chat history of a room, in messages. Each participant that joins receives all of them in one burst.
const MAX_CHAT_HISTORY: usize = 1_000;

/// Limits on what clients can make the server allocate. A higher limit costs memory under attack, a lower one refuses
/// participants. The field comments are the help text.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Maximum number of rooms
    #[arg(long, env, value_name = "N", default_value = "1000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_rooms: usize,
    /// Maximum number of participants, in all rooms
    #[arg(long, env, value_name = "N", default_value = "10000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_participants: usize,
    /// Maximum number of participants in one room
    #[arg(long, env, value_name = "N", default_value = "100", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_room_size: usize,
    /// Maximum number of TCP connections
    #[arg(long, env, value_name = "N", default_value = "10000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_conns: usize,
    /// Maximum number of TCP connections from one IPv4 address or IPv6 /64
    #[arg(long, env, value_name = "N", default_value = "100", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_conns_per_addr: usize,
    /// Maximum number of participants whose media is still connecting
    #[arg(long, env, value_name = "N", default_value = "1000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_pending: usize,
    /// Maximum bitrate of the media that one participant publishes, in kbit/s
    #[arg(long, env, value_name = "KBPS", default_value = "10000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_publish_kbps: usize,
    /// Maximum number of media packets a second that one participant publishes
    #[arg(long, env, value_name = "N", default_value = "2000", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub max_publish_packets: usize,
    /// Number of microphones forwarded in a large room: those of the loudest speakers
    #[arg(long, env, value_name = "N", default_value = "3", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub loudest: usize,
    /// Rooms with more participants than this are large
    #[arg(long, env, value_name = "N", default_value = "6", allow_negative_numbers = true, value_parser = limit(1..=MAX_LIMIT))]
    pub loudest_above: usize,
    /// Number of other participants whose media one participant receives; 0 for no limit
    #[arg(long, env, value_name = "N", default_value = "16", allow_negative_numbers = true, value_parser = limit(0..=MAX_LIMIT))]
    pub last_n: usize,
    /// Number of chat messages that a room keeps for later participants; 0 for none
    #[arg(long, env, value_name = "N", default_value = "50", allow_negative_numbers = true, value_parser = limit(0..=MAX_CHAT_HISTORY))]
    pub chat_history: usize,
}

impl Limits {
    /// Returns the maximum number of participants: each has a connection.
    pub fn participants(&self) -> usize {
        self.max_participants.min(self.max_conns)
    }

    /// Returns the maximum number of other participants that one participant receives.
    pub fn seats(&self) -> usize {
        if self.last_n == 0 { usize::MAX } else { self.last_n }
    }

    /// Returns the number of microphones to forward in a room with this many participants, or `None` for all. It is at
    /// most `seats`: a speaker takes the seat of a participant that does not speak.
    pub fn max_audible(&self, participants: usize) -> Option<usize> {
        let is_large = participants > self.loudest_above.min(self.seats().saturating_add(1));
        is_large.then_some(self.loudest.min(self.seats()))
    }
}
