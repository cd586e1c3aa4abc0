//! The gate in front of str0m: decides which media datagrams of a peer are passed to str0m, and records their SSRCs and
//! arrival times.

use std::time::Instant;

use crate::media::fault::PeerError;
use crate::media::negotiation::profile::{MEDIA_IDS, TRANSPORT_CC_ID};
use crate::media::publish::arrivals::Arrivals;
use crate::media::publish::heard::Heard;
use crate::media::rtp::elements::Elements;
use crate::media::transport::allowance::Allowance;
use crate::media::transport::srtp::Srtp;

/// The gate of one peer.
pub struct Gate {
    /// The SSRCs of authentic packets.
    pub heard: Heard,
    /// Arrival times of media packets, by transport-wide sequence number.
    pub arrivals: Arrivals,
    /// The limits of what the peer may send.
    pub allowance: Allowance,
}

/// A media datagram that is passed to str0m.
pub struct Admitted {
    /// The SSRC.
    pub ssrc: u32,
    seq_no: u16,
    /// Whether str0m has no stream for the SSRC, so that the packet was authenticated here.
    pub is_unmapped: bool,
}

impl Gate {
    /// Maximum memory in bytes.
    pub const MAX_BYTES: usize = Heard::MAX_BYTES + Arrivals::MAX_BYTES;

    /// Creates the gate of a peer that has sent nothing yet.
    pub fn new(now: Instant, allowance: Allowance) -> Self {
        Self { heard: Heard::default(), arrivals: Arrivals::new(now), allowance }
    }

    /// Decides whether an RTP packet is passed to str0m. Returns `None` if it is not. `srtp` is `None` before there are
    /// keys.
    ///
    /// # Errors
    /// The peer has sent too many SSRCs and has to end.
    pub fn admit(&mut self, now: Instant, contents: &[u8], srtp: Option<&Srtp>) -> Result<Option<Admitted>, PeerError> {
        if !self.allowance.take_packet(now, contents.len()) {
            return Ok(None);
        }
        let Some(&[_, _, a, b, .., c, d, e, f]) = contents.first_chunk::<12>() else {
            return Ok(None);
        };
        let (ssrc, seq_no) = (u32::from_be_bytes([c, d, e, f]), u16::from_be_bytes([a, b]));
        let is_unmapped = !self.heard.look_up(ssrc);
        if is_unmapped {
            let rollover = srtp.zip(self.heard.rollover(ssrc, seq_no));
            if !rollover.is_some_and(|(srtp, rollover)| srtp.is_authentic(contents, rollover)) {
                self.allowance.give_packet_back(now, contents.len());
                return Ok(None);
            }
            if !self.heard.insert(ssrc) {
                return Err(PeerError::UsedUp);
            }
        }
        Ok(Some(Admitted { ssrc, seq_no, is_unmapped }))
    }

    /// Records whether str0m could decrypt the packet (`is_authentic`). `number` is the transport-wide
    /// sequence number, as `read_extensions` returns it.
    pub fn handle_admitted(
        &mut self,
        now: Instant,
        contents: &[u8],
        admitted: &Admitted,
        number: Option<(u32, u16)>,
        is_authentic: bool,
    ) {
        if is_authentic {
            self.heard.handle_packet(admitted.ssrc, admitted.seq_no);
            if let Some((ssrc, number)) = number {
                self.arrivals.handle_packet(now, ssrc, number);
            }
        } else if !admitted.is_unmapped {
            self.allowance.give_packet_back(now, contents.len());
        }
    }
}

/// Reads the header extension elements of a datagram: those that describe the media, and its SSRC with its
/// transport-wide sequence number.
pub fn read_extensions(contents: &[u8]) -> (Elements, Option<(u32, u16)>) {
    let (elements, extracted) = Elements::read_and_extract(contents, MEDIA_IDS, TRANSPORT_CC_ID);
    let number = extracted.and_then(|value| {
        let ssrc = contents.get(8..12)?;
        Some((u32::from_be_bytes(ssrc.try_into().ok()?), u16::from_be_bytes(value.try_into().ok()?)))
    });
    (elements, number)
}
