//! The order in which the packets of one SSRC arrive.

/// Position of a packet in the sequence of its SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Extended sequence number.
    pub seq_no: u64,
    /// Order relative to the packets received before.
    pub order: Order,
}

/// Order of a packet's sequence number relative to the highest received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The successor of the highest, or the first packet.
    Next,
    /// Above the successor: packets are missing in between.
    Ahead,
    /// Not above the highest.
    Late,
}

impl Arrival {
    /// Classifies an extended sequence number; `highest` is the highest received so far.
    pub fn of(seq_no: u64, highest: Option<u64>) -> Self {
        let order = match highest {
            Some(highest) if seq_no <= highest => Order::Late,
            Some(highest) if seq_no > highest + 1 => Order::Ahead,
            _ => Order::Next,
        };
        Self { seq_no, order }
    }
}
