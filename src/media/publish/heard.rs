//! The SSRCs that one peer sends. A packet may be passed to str0m without authentication only if its SSRC has a stream.
//!
//! str0m reads a packet's mid and rid before it authenticates the packet. If it has no stream for the packet's SSRC, it
//! moves the m-line's stream to that SSRC. A forged or replayed packet could thus take the stream from the SSRC in use.
//! Packets of SSRCs without a stream are therefore authenticated before they are passed to str0m.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// Maximum number of SSRCs in the life of one transport, RTX streams included. str0m forgets none of them, for its
/// replay protection. A higher limit lets a client use more memory; a lower one ends the transports of clients that
/// change SSRCs occasionally.
const MAX_SSRCS: usize = 2_048;

/// Bytes that str0m keeps per SSRC, in a map that doubles its capacity.
const ENGINE_BYTES: usize = 64;

/// The SSRCs of all authentic packets.
#[derive(Debug, Default)]
pub struct Heard {
    /// SSRCs with a stream, each with its next extended sequence number: one above its highest authentic packet.
    mapped: BTreeMap<u32, u64>,
    /// The mapped SSRC of the last lookup, as a cache: packets of one SSRC arrive in runs.
    last: Option<u32>,
    /// SSRCs without a stream, each with the lowest extended sequence number at which it may get one again.
    others: FxHashMap<u32, u64>,
}

impl Heard {
    /// Maximum memory of one `Heard` in bytes, including what str0m keeps for its SSRCs.
    pub const MAX_BYTES: usize = MAX_SSRCS * 2 * (ENGINE_BYTES + size_of::<(u32, u64)>());

    /// Looks an SSRC up. Returns true if it has a stream, so that str0m itself can authenticate its packets.
    pub fn look_up(&mut self, ssrc: u32) -> bool {
        if self.last != Some(ssrc) {
            if !self.mapped.contains_key(&ssrc) {
                return false;
            }
            self.last = Some(ssrc);
        }
        true
    }

    /// Returns the SSRCs that had a stream at the last call of `follow` or `remove`.
    pub fn mapped(&self) -> impl Iterator<Item = u32> {
        self.mapped.keys().copied()
    }

    /// Returns the rollover counter (RFC 3711 section 3.3.1) with which to authenticate a packet of an SSRC without a
    /// stream, or `None` if the packet is too old.
    pub fn rollover(&self, ssrc: u32, seq_no: u16) -> Option<u32> {
        let first = self.others.get(&ssrc).copied().unwrap_or_default();
        let extended = extend(first, seq_no);
        u32::try_from(extended >> 16).ok().filter(|_| extended >= first)
    }

    /// Records an authentic packet of an SSRC with a stream; does nothing for other SSRCs.
    pub fn handle_packet(&mut self, ssrc: u32, seq_no: u16) {
        if let Some(next) = self.mapped.get_mut(&ssrc) {
            *next = (extend(*next, seq_no) + 1).max(*next);
        }
    }

    /// Records an authentic packet of an SSRC without a stream. Returns false if the peer has sent too many SSRCs.
    pub fn insert(&mut self, ssrc: u32) -> bool {
        self.others.entry(ssrc).or_default();
        self.mapped.len() + self.others.len() <= MAX_SSRCS
    }

    /// Updates the set of mapped SSRCs after str0m has handled a packet of `ssrc`. `mapped` lists those with a stream.
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

    /// Records that an SSRC no longer has a stream.
    pub fn remove(&mut self, ssrc: u32) {
        self.last = None;
        self.others.extend(self.mapped.remove_entry(&ssrc));
    }
}

/// Returns the extended sequence number of `seq_no` that is nearest to `next`.
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
    fn a_replaced_ssrc_is_accepted_again_only_with_newer_packets() {
        let mut heard = Heard::default();
        assert!(!heard.look_up(7));
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

    /// An SSRC and its RTX SSRC are replaced by others and return later.
    #[test]
    fn an_ssrc_whose_stream_moved_to_another_ssrc_is_not_mapped() {
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
        assert_eq!([1, 2, 3, 4, 9].map(|ssrc| heard.look_up(ssrc)), [false, false, true, true, false]);
        for (ssrc, old, new, rollover) in [(1, 50, 51, 0), (2, 7, 8, 1)] {
            assert_eq!((heard.rollover(ssrc, old), heard.rollover(ssrc, new)), (None, Some(rollover)), "{ssrc}");
            assert!(heard.insert(ssrc));
            heard.follow(ssrc, &[1, 2]);
            assert!(heard.look_up(ssrc));
        }
        assert_eq!(heard.rollover(9, 5), Some(0), "SSRC 9 never had a stream");
        heard.remove(2);
        assert_eq!((heard.look_up(2), heard.rollover(2, 7), heard.rollover(2, 8)), (false, None, Some(1)));
        assert!((0..MAX_SSRCS as u32).any(|more| !heard.insert(100 + more)), "the number of SSRCs is limited");
    }
}
