//! The SSRCs that one peer sends, and which of them str0m may see a packet of that nobody has opened yet.
//!
//! str0m reads the mid and the rid of a packet before it opens it, and where it has no stream for the packet's SSRC it
//! gives that the stream of the line. So a packet of any other SSRC than those that have a stream is opened here first:
//! neither a forged one nor a recorded one may take the stream from the SSRC that is in use.

use rustc_hash::{FxHashMap, FxHashSet};

/// SSRCs that one transport may send in its life, repair streams included. str0m forgets none of them, so that it takes
/// no packet twice. More let a client take that much more memory; fewer end the transports of clients that change theirs
/// now and then too often.
const MAX_SSRCS: usize = 2_048;

/// What str0m keeps for each of these, in a map that doubles.
const ENGINE_BYTES: usize = 64;

/// The SSRCs of all authentic packets.
#[derive(Debug, Default)]
pub struct Heard {
    /// Those that have a stream.
    mapped: FxHashSet<u32>,
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
            if !self.mapped.contains(&ssrc) {
                return false;
            }
            self.last = Some(ssrc);
        }
        true
    }

    /// The SSRCs that had a stream when it was last looked.
    pub fn mapped(&self) -> impl Iterator<Item = u32> {
        self.mapped.iter().copied()
    }

    /// The rollover counter (RFC 3711 section 3.3.1) that a packet of an SSRC without a stream has to be authentic with;
    /// `None` if it is too old whatever it is.
    pub fn rollover(&self, ssrc: u32, seq_no: u16) -> Option<u32> {
        let first = self.others.get(&ssrc).copied().unwrap_or_default();
        let extended = first & !0xffff | u64::from(seq_no);
        // The number that is nearest to the first one.
        let extended = match extended {
            behind if behind < first.saturating_sub(0x8000) => behind.saturating_add(0x1_0000),
            ahead if ahead >= 0x1_0000 && ahead - 0x8000 > first => ahead - 0x1_0000,
            near => near,
        };
        u32::try_from(extended >> 16).ok().filter(|_| extended >= first)
    }

    /// An authentic packet of an SSRC without a stream came. Returns false if the peer has sent too many SSRCs.
    pub fn insert(&mut self, ssrc: u32) -> bool {
        self.others.entry(ssrc).or_default();
        self.mapped.len() + self.others.len() <= MAX_SSRCS
    }

    /// Notes which SSRCs have streams now that `ssrc` has been seen. `highest` is the highest extended sequence number of
    /// one that has none any more; where it is not known, the SSRC gets no stream again.
    pub fn follow(&mut self, ssrc: u32, mapped: &[u32], highest: impl Fn(u32) -> Option<u64>) {
        if !mapped.contains(&ssrc) {
            return;
        }
        self.others.remove(&ssrc);
        let gone = self.mapped.extract_if(|known| !mapped.contains(known));
        self.others.extend(gone.map(|gone| (gone, highest(gone).map_or(u64::MAX, |highest| highest + 1))));
        self.last = None;
        self.mapped.insert(ssrc);
    }

    /// An SSRC has no stream any more.
    pub fn remove(&mut self, ssrc: u32, highest: Option<u64>) {
        self.last = None;
        if self.mapped.remove(&ssrc) {
            self.others.insert(ssrc, highest.map_or(u64::MAX, |highest| highest + 1));
        }
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
            (u64::MAX, 65_535, None),
            (u64::MAX, 3, None),
        ] {
            heard.others.insert(7, first);
            assert_eq!(heard.rollover(7, seq_no), rollover, "{first:x} {seq_no:x}");
        }
    }

    #[test]
    fn an_ssrc_whose_stream_another_one_has_is_not_mapped() {
        let mut heard = Heard::default();
        for (ssrc, mapped) in [(1, &[1][..]), (2, &[1, 2]), (3, &[3, 2]), (9, &[3, 2])] {
            assert!(heard.insert(ssrc));
            heard.follow(ssrc, mapped, |_| Some(50));
        }
        assert_eq!([1, 2, 3, 9].map(|ssrc| heard.is_mapped(ssrc)), [false, true, true, false]);
        assert_eq!([1, 9].map(|ssrc| heard.rollover(ssrc, 50)), [None, Some(0)]);
        heard.remove(2, None);
        assert!(!heard.is_mapped(2) && heard.rollover(2, 50).is_none());
        assert!((0..MAX_SSRCS as u32).any(|more| !heard.insert(100 + more)), "there is a bound");
    }
}
