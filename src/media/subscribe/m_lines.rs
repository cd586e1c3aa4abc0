//! The m-lines on which the server sends to one peer, each with SSRCs that were never used before.

use str0m::media::Mid;

use crate::id::Names;
use crate::media::fault::PeerError;
use crate::media::subscribe::outgoing::Outgoing;
use crate::media::subscribe::renumbering::FIRST_SEQ_NO_LIMIT;
use crate::media::transport::srtp;

/// Maximum number of SSRCs sent to one peer in its life: enough for 5,000 joins or screen shares of others. None is
/// reused, so all have to be remembered.
const MAX_USED_SSRCS: usize = srtp::MAX_SSRCS;

/// Maximum number of SSRC look-ups for one RTCP datagram, counting runs of equal SSRCs once: each searches all m-lines.
/// A datagram that fits the path has no more, and the feedback on one SSRC is not limited by this.
pub(super) const MAX_LOOKUPS: usize = 128;

/// The m-lines of one peer.
#[derive(Default)]
pub(super) struct MLines {
    /// By index of the m-line; `None` for those without SSRCs.
    m_lines: Vec<Option<Outgoing>>,
    /// Every SSRC ever sealed with this peer's keys.
    used_ssrcs: Vec<u32>,
}

/// The look-ups of SSRCs for one RTCP datagram.
#[derive(Default)]
pub(super) struct Lookups {
    /// The last SSRC, and its m-line.
    last: Option<(u32, Option<usize>)>,
    count: usize,
}

impl MLines {
    /// Upper bound of the memory of `m_lines` m-lines.
    pub const fn max_bytes(m_lines: usize) -> usize {
        m_lines * Outgoing::MAX_BYTES + 2 * MAX_USED_SSRCS * size_of::<u32>()
    }

    /// Adds an m-line with unused SSRCs.
    ///
    /// # Errors
    /// An SSRC was used before: its packets were sealed with the same key.
    pub fn add(
        &mut self,
        m_line: usize,
        mid: Mid,
        ssrc: u32,
        rtx_ssrc: Option<u32>,
        names: &mut Names,
    ) -> Result<(), PeerError> {
        let is_used = |ssrc: &u32| self.used_ssrcs.contains(ssrc);
        if is_used(&ssrc) || rtx_ssrc.as_ref().is_some_and(is_used) || rtx_ssrc == Some(ssrc) {
            return Err(PeerError::Bug("str0m assigned an SSRC twice".to_owned()));
        }
        if self.m_lines.len() <= m_line {
            self.m_lines.resize_with(m_line + 1, || None);
        }
        self.used_ssrcs.extend([ssrc].into_iter().chain(rtx_ssrc));
        self.m_lines[m_line] = Some(Outgoing::new(mid, ssrc, rtx_ssrc, first_seq_nos(names)));
        Ok(())
    }

    /// Replaces the SSRCs of a reused m-line with unused ones.
    ///
    /// # Errors
    /// More than `MAX_USED_SSRCS` were used.
    pub fn renew(&mut self, mid: Mid, names: &mut Names) -> Result<(), PeerError> {
        let Some(outgoing) = self.m_lines.iter_mut().flatten().find(|outgoing| outgoing.mid == mid) else {
            return Ok(());
        };
        let mut draw = || {
            let unused = |ssrc: &u32| *ssrc != 0 && !self.used_ssrcs.contains(ssrc);
            let ssrc =
                std::iter::repeat_with(|| names.next_u32()).find(unused).expect("most of the 2^32 SSRCs are unused");
            self.used_ssrcs.push(ssrc);
            ssrc
        };
        let (ssrc, rtx_ssrc) = (draw(), outgoing.rtx.ssrc.map(|_| draw()));
        *outgoing = Outgoing::new(mid, ssrc, rtx_ssrc, first_seq_nos(names));
        if self.used_ssrcs.len() > MAX_USED_SSRCS {
            return Err(PeerError::UsedUp);
        }
        Ok(())
    }

    /// The m-lines that have SSRCs.
    pub fn iter(&self) -> impl Iterator<Item = &Outgoing> {
        self.m_lines.iter().flatten()
    }

    /// The m-lines that have SSRCs, with their indices.
    pub fn enumerate(&self) -> impl Iterator<Item = (usize, &Outgoing)> {
        self.m_lines.iter().enumerate().filter_map(|(m_line, outgoing)| Some((m_line, outgoing.as_ref()?)))
    }

    /// The m-lines that have SSRCs, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Outgoing> {
        self.m_lines.iter_mut().flatten()
    }

    /// An m-line, if it has SSRCs.
    pub fn get(&self, m_line: usize) -> Option<&Outgoing> {
        self.m_lines.get(m_line)?.as_ref()
    }

    /// An m-line to be changed, if it has SSRCs.
    #[inline]
    pub fn get_mut(&mut self, m_line: usize) -> Option<&mut Outgoing> {
        self.m_lines.get_mut(m_line)?.as_mut()
    }
}

impl Lookups {
    /// Returns the index of the m-line with an SSRC, or `None` above the limit of look-ups.
    pub fn position(&mut self, m_lines: &MLines, ssrc: u32) -> Option<usize> {
        match self.last {
            Some((last, m_line)) if last == ssrc => m_line,
            _ if self.count >= MAX_LOOKUPS => None,
            _ => {
                self.count += 1;
                let m_line = m_lines.enumerate().find(|(_, outgoing)| outgoing.ssrc == ssrc).map(|(m_line, _)| m_line);
                self.last = Some((ssrc, m_line));
                m_line
            }
        }
    }
}

/// Draws the first sequence numbers of a stream and of its retransmission stream.
fn first_seq_nos(names: &mut Names) -> [u32; 2] {
    [(); 2].map(|()| names.below(FIRST_SEQ_NO_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_ssrc_is_used_twice() {
        let mut m_lines = MLines::default();
        let mut names = Names::new([1; 32]);
        let (ann, bob) = (Mid::from("1"), Mid::from("2"));
        m_lines.add(0, ann, 7, Some(8), &mut names).unwrap();
        for (ssrc, rtx_ssrc) in [(7, None), (9, Some(8)), (9, Some(9))] {
            assert!(matches!(m_lines.add(1, bob, ssrc, rtx_ssrc, &mut names), Err(PeerError::Bug(_))));
        }
        for _ in 0..1_000 {
            m_lines.renew(ann, &mut names).unwrap();
        }
        let mut used = m_lines.used_ssrcs.clone();
        used.sort_unstable();
        used.dedup();
        assert_eq!((used.len(), m_lines.used_ssrcs.len()), (2_002, 2_002));
        assert!(m_lines.add(1, bob, 7, None, &mut names).is_err(), "no SSRC is reused");
        let renewed = (0..MAX_USED_SSRCS).try_for_each(|_| m_lines.renew(ann, &mut names));
        assert!(matches!(renewed, Err(PeerError::UsedUp)));
    }
}
