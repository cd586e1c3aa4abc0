//! Rewrites the sequence numbers and timestamps of one outgoing SSRC, across switches of the source and without the
//! layers that the subscriber does not get. The source is the incoming SSRC that is forwarded at the time: it changes
//! with the simulcast layer and with the track.
//!
//! The outgoing extended sequence number only grows. While the source stays the same, each incoming number is mapped to
//! one outgoing number and no two to the same. Hence no number is used for two packets (under AES-GCM that would reveal
//! the authentication key, RFC 7714 section 8.1), and gaps come from network losses only.

mod dropped;
mod layer_filter;

use std::time::{Duration, Instant};

use self::dropped::Dropped;
pub use self::layer_filter::Bound;
use self::layer_filter::{LayerFilter, Verdict};
use crate::drop_reason::DropReason;
use crate::media::rtp::codec::Description;
use crate::media::rtp::packet::Incoming;

/// Exclusive upper bound of the random first sequence number. The rollover counter is not signaled, so a receiver has
/// to see the number roll over to 0 before it loses half a cycle of packets (RFC 3711 section 3.3.1).
pub const FIRST_SEQ_NO_LIMIT: u32 = 1 << 15;

/// If the current SSRC has been silent for this long, a packet of the SSRC that it replaced is not late: the publisher
/// has returned to that SSRC.
const RETURN: Duration = Duration::from_millis(500);

/// The outgoing packet's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Extended sequence number of the outgoing SSRC.
    pub seq_no: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Number of pictures dropped since the source started; wraps.
    pub dropped_pictures: u16,
    /// Whether the source starts with this packet.
    pub starts: bool,
    /// Whether this is the last packet sent of its picture because higher spatial layers are dropped; it gets the
    /// marker.
    pub ends_picture: bool,
    /// Whether to send only padding. The packet's picture or layer is dropped, but its number is already reserved, and
    /// a receiver would wait for it.
    pub is_empty: bool,
}

/// The forwarded source and the mapping of its numbers.
#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    epoch: u32,
    first_seq_no: u64,
    first_out: u64,
    timestamp_offset: u32,
    /// Highest received sequence number.
    highest: u64,
}

/// The numbers of one outgoing SSRC.
#[derive(Debug)]
pub struct Renumbering {
    /// The number after the highest used.
    next_seq_no: u64,
    /// The forwarded source, or the one before the last pause.
    source: Option<Source>,
    /// The SSRC forwarded before the current one.
    replaced: Option<u32>,
    is_waiting: bool,
    /// Capture time and outgoing timestamp of the packet with the highest number.
    last_sent: Option<(Instant, u32)>,
    dropped: Dropped,
    filter: LayerFilter,
}

impl Renumbering {
    /// Creates the state of an unused SSRC. `first_seq_no` must be below `FIRST_SEQ_NO_LIMIT`.
    pub fn new(first_seq_no: u32) -> Self {
        debug_assert!(first_seq_no < FIRST_SEQ_NO_LIMIT);
        Self {
            next_seq_no: u64::from(first_seq_no),
            source: None,
            replaced: None,
            is_waiting: true,
            last_sent: None,
            dropped: Dropped::default(),
            filter: LayerFilter::new(),
        }
    }

    /// Upper bound of the heap memory in bytes.
    pub const MAX_BYTES: usize = Dropped::MAX_BYTES + LayerFilter::MAX_BYTES;

    /// Waits for the next starting point, of the same source or another. The outgoing numbers continue.
    pub fn pause(&mut self) {
        self.is_waiting = true;
    }

    /// Prepares for another track, from its next starting point on. Comparing SSRCs would not detect such a
    /// change: two publishers may use the same SSRC.
    pub fn change_track(&mut self) {
        self.source = None;
        self.replaced = None;
        self.pause();
    }

    /// Whether nothing has been forwarded since the start or the last pause.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// The number after the highest used.
    pub fn next_seq_no(&self) -> u64 {
        self.next_seq_no
    }

    /// Highest spatial layer sent of the current picture.
    pub fn spatial(&self) -> u8 {
        self.filter.spatial()
    }

    /// Maps one packet.
    ///
    /// # Errors
    /// The packet is not to be forwarded: it precedes the start, is too old, or belongs to a layer above `bound`.
    #[inline]
    pub fn rewrite(
        &mut self,
        packet: &Incoming,
        description: &Description,
        bound: Bound,
    ) -> Result<Rewritten, DropReason> {
        let continues = |source: &Source| source.ssrc == packet.ssrc && source.epoch == packet.epoch;
        let (source, starts) = match self.source {
            Some(source) if !self.is_waiting && continues(&source) => (source, false),
            Some(source) if !self.is_waiting && source.ssrc == packet.ssrc && packet.seq_no < source.first_seq_no => {
                return Err(DropReason::TooOld);
            }
            _ => (self.start(packet, bound)?, true),
        };
        let since_start = packet.seq_no.checked_sub(source.first_seq_no).ok_or(DropReason::TooOld)?;
        let is_new = starts || packet.seq_no > source.highest;
        if is_new && let Some(source) = &mut self.source {
            source.highest = packet.seq_no;
        }
        let mut is_empty = false;
        let (packets, pictures, highest) = if is_new {
            if let Verdict::Dropped { timestamp, is_new_picture } = self.filter.decide(packet, description, bound) {
                self.dropped.push(packet.seq_no, timestamp, is_new_picture);
                return Err(DropReason::LayerNotSelected);
            }
            let (packets, pictures) = self.dropped.totals();
            (packets, pictures, Some(self.filter.spatial()))
        } else {
            let around = self.dropped.around(packet.seq_no).ok_or(DropReason::TooOld)?;
            let highest = self.filter.sent_spatial(packet);
            is_empty = !self.filter.allows_late(description, highest, bound) || around.has_picture(packet.timestamp);
            (around.packets, around.pictures, highest)
        };
        let seq_no = source.first_out + since_start - packets;
        let timestamp = packet.timestamp.wrapping_add(source.timestamp_offset);
        if seq_no >= self.next_seq_no {
            self.next_seq_no = seq_no + 1;
            self.last_sent = Some((packet.captured, timestamp));
        }
        let ends_picture = description.ends_frame && Some(description.spatial) == highest;
        Ok(Rewritten { seq_no, timestamp, dropped_pictures: pictures, starts, ends_picture, is_empty })
    }

    /// Whether a packet shows that the publisher has moved from the current SSRC to another.
    fn ends_current_ssrc(&self, packet: &Incoming) -> bool {
        let is_silent = self.last_sent.is_some_and(|(captured, _)| packet.captured > captured + RETURN);
        let is_other = self.source.is_some_and(|source| source.ssrc != packet.ssrc);
        is_other && (self.replaced != Some(packet.ssrc) || is_silent)
    }

    fn start(&mut self, packet: &Incoming, bound: Bound) -> Result<Source, DropReason> {
        if !packet.can_start {
            self.is_waiting |= self.ends_current_ssrc(packet);
            return Err(if self.is_waiting { DropReason::AwaitsKeyframe } else { DropReason::TooOld });
        }
        if let Some(source) = self.source.filter(|source| source.ssrc != packet.ssrc) {
            self.replaced = Some(source.ssrc);
        }
        // The first source keeps its timestamps, and a source that continues keeps its offset. The timestamps of
        // another source continue those of the previous one by elapsed time.
        let same = self.source.filter(|source| source.ssrc == packet.ssrc);
        let elapsed_offset = || {
            self.last_sent.map_or(0, |(captured, last)| {
                let elapsed = packet.captured.saturating_duration_since(captured);
                let ticks = elapsed.as_micros() * u128::from(packet.clock_rate.get()) / 1_000_000;
                // A picture of another layer captured at the same instant gets a later timestamp.
                last.wrapping_add((ticks as u32).max(1)).wrapping_sub(packet.timestamp)
            })
        };
        let timestamp_offset = same.map_or_else(elapsed_offset, |source| source.timestamp_offset);
        let source = Source {
            ssrc: packet.ssrc,
            epoch: packet.epoch,
            first_seq_no: packet.seq_no,
            first_out: self.next_seq_no + u64::from(packet.has_preface),
            timestamp_offset,
            highest: packet.seq_no,
        };
        self.source = Some(source);
        self.is_waiting = false;
        self.dropped.clear();
        self.filter.start(packet, bound);
        Ok(source)
    }
}

#[cfg(test)]
mod tests;
