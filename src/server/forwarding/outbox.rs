//! The outbox of one subscriber: its packets of the batch, and those that its pacer holds.

use std::collections::VecDeque;
use std::time::Instant;

use crate::id::TrackId;

/// Maximum number of packets received in one turn: sockets are read in batches of 64 datagrams.
pub const BATCH_PACKETS: usize = 128;

/// Packets queued for one subscriber.
#[derive(Default)]
pub struct Outbox {
    /// Packets of the batch.
    pub batch: Vec<BatchPacket>,
    /// Paced video packets that may not be sent yet.
    pub held: VecDeque<HeldPacket>,
    /// The index of the last packet sent as padding, counted back from the latest.
    pub padding_index: u16,
}

/// One packet of the batch to forward to one subscriber.
#[derive(Clone, Copy)]
pub struct BatchPacket {
    /// Index into the batch.
    pub packet: u32,
    /// Index of the subscriber's m-line.
    pub m_line: u32,
    pub track: TrackId,
}

/// A packet held back by the subscriber's pacer. The packet itself is in the history of its track.
#[derive(Clone, Copy)]
pub struct HeldPacket {
    /// When the pacer first refused it.
    pub since: Instant,
    /// Its position in the history.
    pub position: u32,
    pub layer: u8,
    /// Index of the subscriber's m-line.
    pub m_line: u32,
    pub track: TrackId,
}

impl Outbox {
    /// Upper bound of the memory of one subscriber's packets of the batch, in bytes.
    pub const MAX_BYTES: usize = 2 * BATCH_PACKETS * size_of::<BatchPacket>();

    /// The number of queued packets.
    pub fn len(&self) -> usize {
        self.batch.len() + self.held.len()
    }
}
