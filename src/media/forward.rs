//! The rewriting of one track for one subscriber: sequence numbers and timestamps of one outgoing SSRC.
//!
//! The outgoing extended sequence number only grows, whatever the source does, and is a bijection of the
//! incoming one as long as the source stays: so no number is ever used for two packets (under AES-GCM that
//! would give the key away, RFC 7714 section 8.1), and gaps are only those that the network made.

use std::time::{Duration, Instant};

use str0m::media::Frequency;

/// First sequence numbers are random below this: the rollover counter is not signaled, so a receiver has to see
/// number 0 of the next cycle before it loses half a cycle (RFC 3711 section 3.3.1).
pub const FIRST_SEQ_NO_LIMIT: u32 = 1 << 15;

/// What the rewriting needs to know of an incoming packet.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    /// The publisher's SSRC.
    pub ssrc: u32,
    /// Which stretch of it: between two of them packets were held back, which is no loss.
    pub epoch: u32,
    /// The publisher's extended sequence number.
    pub seq_no: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Ticks of `timestamp` per second.
    pub clock_rate: Frequency,
    /// Decoding can start here.
    pub can_start: bool,
}

/// What goes out instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Extended sequence number of the outgoing SSRC.
    pub seq_no: u64,
    /// RTP timestamp.
    pub timestamp: u32,
}

/// The source that is being forwarded, and how its numbers map.
#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    epoch: u32,
    first_seq_no: u64,
    first_out: u64,
    timestamp_offset: u32,
}

/// One outgoing SSRC.
#[derive(Debug)]
pub struct Forward {
    /// The number after the highest used.
    next_seq_no: u64,
    /// What is forwarded, or was before the last pause.
    source: Option<Source>,
    is_waiting: bool,
    last_sent: Option<(Instant, u32)>,
}

impl Forward {
    /// A fresh SSRC, whose first packet will be `first_seq_no` (below `FIRST_SEQ_NO_LIMIT`).
    pub fn new(first_seq_no: u32) -> Self {
        debug_assert!(first_seq_no < FIRST_SEQ_NO_LIMIT);
        Self { next_seq_no: u64::from(first_seq_no), source: None, is_waiting: true, last_sent: None }
    }

    /// What comes next is another source, or the same after a pause, and has to start afresh. The numbers go on.
    pub fn pause(&mut self) {
        self.is_waiting = true;
    }

    /// Whether nothing has been forwarded since the start or the last pause.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Maps one packet; `None` if it is not to be forwarded: before the start, or older than it.
    pub fn rewrite(&mut self, now: Instant, packet: &Incoming) -> Option<Rewritten> {
        let source = match self.source {
            Some(source) if !self.is_waiting && source.ssrc == packet.ssrc => {
                if source.epoch == packet.epoch {
                    source
                } else if packet.seq_no < source.first_seq_no {
                    return None;
                } else {
                    self.start(now, packet)?
                }
            }
            _ => self.start(now, packet)?,
        };
        let since_start = packet.seq_no.checked_sub(source.first_seq_no)?;
        let seq_no = source.first_out + since_start;
        let timestamp = packet.timestamp.wrapping_add(source.timestamp_offset);
        if seq_no >= self.next_seq_no {
            self.next_seq_no = seq_no + 1;
            self.last_sent = Some((now, timestamp));
        }
        Some(Rewritten { seq_no, timestamp })
    }

    fn start(&mut self, now: Instant, packet: &Incoming) -> Option<Source> {
        if !packet.can_start {
            return None;
        }
        // The first source keeps its timestamps, and so does another stretch of the same; a later one goes on where the
        // clock of the last one would be.
        let same = self.source.filter(|source| source.ssrc == packet.ssrc);
        let elapsed_offset = || {
            self.last_sent.map_or(0, |(at, last)| {
                let elapsed = now.saturating_duration_since(at).max(Duration::from_millis(1));
                let ticks = elapsed.as_micros() * u128::from(packet.clock_rate.get()) / 1_000_000;
                last.wrapping_add(ticks as u32).wrapping_sub(packet.timestamp)
            })
        };
        let timestamp_offset = same.map_or_else(elapsed_offset, |source| source.timestamp_offset);
        let Incoming { ssrc, epoch, .. } = *packet;
        let source = Source { ssrc, epoch, first_seq_no: packet.seq_no, first_out: self.next_seq_no, timestamp_offset };
        (self.source, self.is_waiting) = (Some(source), false);
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, seq_no: u64, timestamp: u32, can_start: bool) -> Incoming {
        Incoming { ssrc, epoch: 0, seq_no, timestamp, clock_rate: Frequency::NINETY_KHZ, can_start }
    }

    #[test]
    fn what_was_held_back_is_no_gap_in_the_numbers_and_one_in_time() {
        let now = Instant::now();
        let mut forward = Forward::new(50);
        let mut out = |epoch, seq_no: u64| {
            forward.rewrite(now, &Incoming { epoch, ..packet(1, seq_no, 960 * seq_no as u32, true) })
        };
        let expected = |seq_no, of: u32| Some(Rewritten { seq_no, timestamp: 960 * of });
        assert_eq!(out(0, 10), expected(50, 10));
        assert_eq!(out(0, 11), expected(51, 11));
        assert_eq!(out(1, 40), expected(52, 40));
        assert_eq!(out(1, 42), expected(54, 42), "a gap that the network made stays one");
        assert_eq!(out(1, 41), expected(53, 41));
        assert_eq!(out(0, 12), None, "overtaken by the next stretch");
        assert_eq!(out(2, 90), expected(55, 90));
    }

    #[test]
    fn numbers_start_low_keep_gaps_and_order() {
        let now = Instant::now();
        let mut forward = Forward::new(100);
        // Hours into the stream; nothing before a keyframe.
        let base = 70_000_000;
        assert_eq!(forward.rewrite(now, &packet(1, base - 1, 0, false)), None);
        let mut out = |seq_no| forward.rewrite(now, &packet(1, seq_no, 7, seq_no == base));
        let expected = |seq_no| Some(Rewritten { seq_no, timestamp: 7 });
        assert_eq!(out(base), expected(100));
        assert_eq!(out(base + 1), expected(101));
        assert_eq!(out(base + 4), expected(104));
        assert_eq!(out(base + 3), expected(103));
        assert_eq!(out(base - 1), None, "older than the start");
        assert_eq!(out(base + 70_000), expected(70_100), "the outgoing counter is extended too");
    }

    #[test]
    fn no_number_is_used_twice_whatever_the_source_does() {
        let now = Instant::now();
        let mut forward = Forward::new(0);
        let mut used = std::collections::HashSet::new();
        // Two sources whose packets alternate, restarts with the same numbers, a pause.
        for round in 0..50u64 {
            for ssrc in [1, 2, 1] {
                for seq_no in [5, 9, 7] {
                    let incoming = packet(ssrc, seq_no + 20 * round, 0, true);
                    if let Some(rewritten) = forward.rewrite(now, &incoming) {
                        assert!(used.insert(rewritten.seq_no), "{round} {ssrc} {seq_no}");
                    }
                }
            }
            forward.pause();
        }
        assert!(used.len() > 100);
    }

    #[test]
    fn a_new_source_goes_on_where_the_clock_would_be() {
        let start = Instant::now();
        let mut forward = Forward::new(0);
        forward.rewrite(start, &packet(1, 1, u32::MAX - 5, true));
        let later = start + Duration::from_millis(500);
        assert_eq!(forward.rewrite(later, &packet(2, 900, 1, false)), None, "not before its keyframe");
        let out = forward.rewrite(later, &packet(2, 901, 4_000, true)).unwrap();
        assert_eq!(out.seq_no, 1);
        assert_eq!(out.timestamp, (u32::MAX - 5).wrapping_add(45_000));
    }
}
