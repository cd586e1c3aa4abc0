//! What it takes to send packets of a stream again: which they were, as numbers, the share of the stream that repair may
//! take, and the numbers of its own SSRC (RFC 4588).

use crate::media::codec::{self, PictureId};

/// Packets that are remembered, as numbers, to answer NACKs: more than a second at 2.5 Mbit/s, and 8 KB for each
/// video subscription.
pub const REMEMBERED: usize = 512;

/// Retransmissions may be one part in this many of what is sent, so that a storm of NACKs can't amplify. At 10 %
/// loss both ways an honest receiver needs 12 to 20 %, since requests and repairs are lost too: less turns that
/// into freezes of more than a second.
pub const PART: usize = 4;

/// Bytes of retransmission that are saved up at most, and that a new stream begins with: a burst of loss is
/// repaired at once, and a storm gets no more than this beyond its share.
pub const SAVED: usize = 64 * 1024;

/// The repair of one stream.
pub struct Repair {
    /// Its SSRC; `None` if it is not negotiated.
    pub ssrc: Option<u32>,
    /// Of the next retransmission; like the stream's own numbers it only grows.
    seq_no: u64,
    /// By the lower bits of their numbers.
    remembered: Vec<Sent>,
    allowance: usize,
}

/// A packet that was sent, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// In the stream.
    pub seq_no: u16,
    /// RTP time.
    pub timestamp: u32,
    /// Where it stands in its track's history.
    pub position: u32,
    /// What it is of its picture.
    pub role: Role,
    /// Of its picture, as far as there are some.
    picture_id: u16,
    frame_number: u16,
    tl0_pic_idx: u8,
}

/// What a packet that was sent is of its picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A packet of the publisher.
    Inner,
    /// The last one: it has the marker.
    Last,
    /// The preface of the publisher's packet at this position.
    Preface,
}

impl Repair {
    /// The most that one takes beside itself.
    pub const MAX_BYTES: usize = REMEMBERED * size_of::<Sent>();

    /// Of a stream on which nothing was sent; `first` is the number of the first retransmission.
    pub fn new(ssrc: Option<u32>, first: u32) -> Self {
        Self { ssrc, seq_no: u64::from(first), remembered: Vec::new(), allowance: SAVED }
    }

    /// A packet of so many bytes is being sent.
    pub fn remember(&mut self, sent: Sent, bytes: usize) {
        if self.remembered.is_empty() {
            // Numbers that belong in another place each: nobody finds them.
            let nothing = |place| Sent::new(place as u16 + 1, 0, 0, Role::Inner, codec::Ids::default());
            self.remembered.extend((0..REMEMBERED).map(nothing));
        }
        self.remembered[usize::from(sent.seq_no) % REMEMBERED] = sent;
        self.allowance = (self.allowance + bytes / PART).min(SAVED);
    }

    /// Nothing that was sent is sent again.
    pub fn forget(&mut self) {
        self.remembered.clear();
    }

    /// The packet with this sequence number, if it was sent not long ago.
    pub fn find(&self, seq_no: u16) -> Option<Sent> {
        let sent = *self.remembered.get(usize::from(seq_no) % REMEMBERED)?;
        (sent.seq_no == seq_no).then_some(sent)
    }

    /// Whether so many bytes are within the share.
    pub fn allows(&self, bytes: usize) -> bool {
        self.allowance >= bytes
    }

    /// So many bytes were sent again.
    pub fn spend(&mut self, bytes: usize) {
        self.allowance = self.allowance.saturating_sub(bytes);
    }

    /// The number of the retransmission that is sent now.
    pub fn take_seq_no(&mut self) -> u64 {
        self.seq_no += 1;
        self.seq_no - 1
    }
}

impl Sent {
    /// A packet with these numbers.
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

    /// The ids that the packet with these was sent with.
    pub fn ids(&self, of: codec::Ids) -> codec::Ids {
        codec::Ids {
            picture: of.picture.map(|id| id.with(self.picture_id)),
            frame_number: of.frame_number.map(|_| self.frame_number),
            tl0_pic_idx: of.tl0_pic_idx.map(|_| self.tl0_pic_idx),
        }
    }
}
