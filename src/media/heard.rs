//! The SSRCs that one peer sends, and which of them str0m may see a packet of that nobody has opened yet.
//!
//! str0m reads the mid and the rid of a packet before it opens it, and where it has no stream for the packet's SSRC it
//! gives that the stream of the line. So a packet of any other SSRC than those that have a stream is opened here first:
//! neither a forged one nor a recorded one may take the stream from the SSRC that is in use.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// SSRCs that one transport may send in its life, repair streams included. str0m forgets none of them, so that it takes
/// no packet twice. More let a client take that much more memory; fewer end the transports of clients that change theirs
/// now and then too often.
const MAX_SSRCS: usize = 2_048;

/// What str0m keeps for each of these, in a map that doubles.
const ENGINE_BYTES: usize = 64;

/// The SSRCs of all authentic packets.
#[derive(Debug, Default)]
pub struct Heard {
    /// Those that have a stream, with the extended sequence number after the highest of their authentic packets.
    mapped: BTreeMap<u32, u64>,
    /// The last of them: packets come in runs.
    last: Option<u32>,
    /// Those that have none, with the first extended sequence number that may give them one.
    others: FxHashMap<u32, u64>,
}

impl Heard {
    /// The most that one takes, with what str0m keeps.
    pub const MAX_BYTES: usize = MAX_SSRCS * 2 * (ENGINE_BYTES + size_of::<(u32, u64)>());

    /// Whether an SSRC has a stream: str0m can be left to find out whether its packets are authentic.
    pub fn is_mapped(&mut self, ssrc: u32) -> bool {
        if self.last != Some(ssrc) {
            if !self.mapped.contains_key(&ssrc) {
                return false;
            }
            self.last = Some(ssrc);
        }
        true
    }

    /// The SSRCs that had a stream when it was last looked.
    pub fn mapped(&self) -> impl Iterator<Item = u32> {
        self.mapped.keys().copied()
    }

    /// The rollover counter (RFC 3711 section 3.3.1) that a packet of an SSRC without a stream has to be authentic with;
    /// `None` if it is too old whatever it is.
    pub fn rollover(&self, ssrc: u32, seq_no: u16) -> Option<u32> {
        let first = self.others.get(&ssrc).copied().unwrap_or_default();
        let extended = extend(first, seq_no);
        u32::try_from(extended >> 16).ok().filter(|_| extended >= first)
    }

    /// An authentic packet came.
    pub fn handle_packet(&mut self, ssrc: u32, seq_no: u16) {
        if let Some(next) = self.mapped.get_mut(&ssrc) {
            *next = (extend(*next, seq_no) + 1).max(*next);
        }
    }

    /// An authentic packet of an SSRC without a stream came. Returns false if the peer has sent too many SSRCs.
    pub fn insert(&mut self, ssrc: u32) -> bool {
        self.others.entry(ssrc).or_default();
        self.mapped.len() + self.others.len() <= MAX_SSRCS
    }

    /// Notes which SSRCs have streams now that `ssrc` has been seen.
    pub fn follow(&mut self, ssrc: u32, mapped: &[u32]) {
        if !mapped.contains(&ssrc) {
            return;
        }
        let next = self.others.remove(&ssrc).unwrap_or_default();
        let others = &mut self.others;
        self.mapped.retain(|known, next| {
            let has_stream = mapped.contains(known);
            if !has_stream {
                others.insert(*known, *next);
            }
            has_stream
        });
        self.last = None;
        self.mapped.insert(ssrc, next);
    }

    /// An SSRC has no stream any more.
    pub fn remove(&mut self, ssrc: u32) {
        self.last = None;
        self.others.extend(self.mapped.remove_entry(&ssrc));
    }
}

/// The extended sequence number that is nearest to `next`.
fn extend(next: u64, seq_no: u16) -> u64 {
    match next & !0xffff | u64::from(seq_no) {
        behind if behind < next.saturating_sub(0x8000) => behind.saturating_add(0x1_0000),
        ahead if ahead >= 0x1_0000 && ahead - 0x8000 > next => ahead - 0x1_0000,
        near => near,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssrc_that_was_replaced_comes_back_with_newer_packets_only() {
        let mut heard = Heard::default();
        assert!(!heard.is_mapped(7));
        for (first, seq_no, rollover) in [
            (0, 0, Some(0)),
            (0, 65_535, Some(0)),
            (100, 99, None),
            (100, 100, Some(0)),
            (100, 40_000, Some(0)),
            (65_535, 3, Some(1)),
            (65_535, 65_534, None),
            (0x2_0003, 0xffff, None),
            (0x2_0003, 2, None),
            (0x2_0003, 3, Some(2)),
            (0x2_fff0, 3, Some(3)),
        ] {
            heard.others.insert(7, first);
            assert_eq!(heard.rollover(7, seq_no), rollover, "{first:x} {seq_no:x}");
        }
    }

    /// An SSRC and that of its repair stream are replaced by others, and come back.
    #[test]
    fn an_ssrc_whose_stream_another_one_has_is_not_mapped() {
        let mut heard = Heard::default();
        for (ssrc, mapped, seq_nos) in [
            (1, &[1][..], &[50, 49][..]),
            (2, &[1, 2], &[65_000, 65_535, 7, 65_534]),
            (3, &[3, 2], &[700]),
            (4, &[3, 4], &[]),
            (9, &[3, 4], &[5]),
        ] {
            assert!(heard.insert(ssrc));
            heard.follow(ssrc, mapped);
            seq_nos.iter().for_each(|seq_no| heard.handle_packet(ssrc, *seq_no));
        }
        assert_eq!([1, 2, 3, 4, 9].map(|ssrc| heard.is_mapped(ssrc)), [false, false, true, true, false]);
        for (ssrc, old, new, rollover) in [(1, 50, 51, 0), (2, 7, 8, 1)] {
            assert_eq!((heard.rollover(ssrc, old), heard.rollover(ssrc, new)), (None, Some(rollover)), "{ssrc}");
            assert!(heard.insert(ssrc));
            heard.follow(ssrc, &[1, 2]);
            assert!(heard.is_mapped(ssrc));
        }
        assert_eq!(heard.rollover(9, 5), Some(0), "it never had a stream");
        heard.remove(2);
        assert_eq!((heard.is_mapped(2), heard.rollover(2, 7), heard.rollover(2, 8)), (false, None, Some(1)));
        assert!((0..MAX_SSRCS as u32).any(|more| !heard.insert(100 + more)), "there is a bound");
    }
}
