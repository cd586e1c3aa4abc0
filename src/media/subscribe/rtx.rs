//! The retransmission state of one outgoing stream: the packets that were sent, the budget of retransmissions, and the
//! sequence numbers of the RTX SSRC (RFC 4588).

use crate::media::rtp::codec::{self, PictureId};

/// Number of sent packets remembered to answer NACKs: more than a second at 2.5 Mbit/s, and 8 KB for each video
/// subscription.
pub const REMEMBERED: usize = 512;

/// Retransmissions may be 1/`SHARE_DIVISOR` of the bytes sent, so that NACKs cannot cause amplification. At 10 % loss
/// in both directions, an honest receiver needs 12 to 20 %, because NACKs and retransmissions are lost too; a lower
/// share turns that into freezes of more than a second.
pub const SHARE_DIVISOR: usize = 4;

/// Maximum unused share in bytes, which is also the initial one: a burst of loss is retransmitted at once, and a flood
/// of NACKs gets no more than this above the share.
pub const MAX_UNUSED_SHARE: usize = 64 * 1024;

/// The retransmission state of one stream.
pub struct Rtx {
    /// The RTX SSRC; `None` if RTX is not negotiated.
    pub ssrc: Option<u32>,
    /// Extended sequence number of the next retransmission.
    seq_no: u64,
    /// Ring of sent packets, indexed by the lower bits of their sequence numbers.
    remembered: Vec<Sent>,
    allowance: usize,
}

/// The identifying numbers of a sent packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Sequence number in the stream.
    pub seq_no: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Position of the packet in the history of its track.
    pub position: u32,
    /// Role of the packet in its picture.
    pub role: Role,
    /// The ids of the picture as sent; 0 where the packet has none.
    picture_id: u16,
    frame_number: u16,
    tl0_pic_idx: u8,
}

/// Role of a sent packet in its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A packet of the publisher.
    Inner,
    /// The last packet of a picture: the marker is set.
    Last,
    /// The preface of the publisher's packet at this position.
    Preface,
}

impl Rtx {
    /// Upper bound of the heap memory in bytes.
    pub const MAX_BYTES: usize = REMEMBERED * size_of::<Sent>();

    /// Creates the state of a new stream; `first` is the sequence number of the first retransmission.
    pub fn new(ssrc: Option<u32>, first: u32) -> Self {
        Self { ssrc, seq_no: u64::from(first), remembered: Vec::new(), allowance: MAX_UNUSED_SHARE }
    }

    /// Records a packet of `bytes` bytes that is being sent.
    pub fn remember(&mut self, sent: Sent, bytes: usize) {
        if self.remembered.is_empty() {
            // Fill the ring with sequence numbers that belong to other slots, so that they are never found.
            let nothing = |index| Sent::new(index as u16 + 1, 0, 0, Role::Inner, codec::Ids::default());
            self.remembered.extend((0..REMEMBERED).map(nothing));
        }
        self.remembered[usize::from(sent.seq_no) % REMEMBERED] = sent;
        self.allowance = (self.allowance + bytes / SHARE_DIVISOR).min(MAX_UNUSED_SHARE);
    }

    /// Forgets all sent packets; they can no longer be retransmitted.
    pub fn forget(&mut self) {
        self.remembered.clear();
    }

    /// Returns the packet with this sequence number, if it was sent recently.
    pub fn find(&self, seq_no: u16) -> Option<Sent> {
        let sent = *self.remembered.get(usize::from(seq_no) % REMEMBERED)?;
        (sent.seq_no == seq_no).then_some(sent)
    }

    /// Returns true if a retransmission of `bytes` bytes is within the share.
    pub fn allows(&self, bytes: usize) -> bool {
        self.allowance >= bytes
    }

    /// Counts a retransmission of `bytes` bytes against the share.
    pub fn spend(&mut self, bytes: usize) {
        self.allowance = self.allowance.saturating_sub(bytes);
    }

    /// Returns the sequence number for a new retransmission.
    pub fn take_seq_no(&mut self) -> u64 {
        self.seq_no += 1;
        self.seq_no - 1
    }
}

impl Sent {
    /// Creates the record of a sent packet.
    pub fn new(seq_no: u16, timestamp: u32, position: u32, role: Role, ids: codec::Ids) -> Self {
        Self {
            seq_no,
            timestamp,
            position,
            role,
            picture_id: ids.picture.map_or(0, PictureId::value),
            frame_number: ids.frame_number.unwrap_or(0),
            tl0_pic_idx: ids.tl0_pic_idx.unwrap_or(0),
        }
    }

    /// Returns the ids with which the packet was sent. `original` has those of the publisher's packet.
    pub fn ids(&self, original: codec::Ids) -> codec::Ids {
        codec::Ids {
            picture: original.picture.map(|id| id.with(self.picture_id)),
            frame_number: original.frame_number.map(|_| self.frame_number),
            tl0_pic_idx: original.tl0_pic_idx.map(|_| self.tl0_pic_idx),
        }
    }
}
