//! Writes the packets of one m-line: header, extension elements and payload, sealed in the send buffer.

use std::time::Instant;

use smallvec::SmallVec;
use str0m::media::Mid;

use crate::media::negotiation::profile::{DEPENDENCY_ID, MID_ID, TRANSPORT_CC_ID};
use crate::media::rtp::codec;
use crate::media::rtp::elements::{Elements, Ids};
use crate::media::rtp::packet::{HAS_EXTENSIONS, HAS_PADDING, Packet, WIRE_OVERHEAD, write_header};
use crate::media::subscribe::egress::Egress;
use crate::media::transport::datagrams::Datagrams;
use crate::media::transport::srtp::SRTP_OVERHEAD;

/// Upper bound of header, extension block and original sequence number, in bytes. Reserved once for each packet.
const HEADROOM: usize = 256;

/// The header fields that all packets of an m-line have in common.
pub(super) struct Writer {
    /// The header extensions that the subscriber accepts.
    pub accepted: Ids,
    /// The MID. `Mid::as_bytes` searches for its end at each call.
    mid: Box<[u8]>,
    /// Whether the subscriber has reported on the SSRC. Until then, packets carry the MID (RFC 8843 section 9.2).
    pub is_known: bool,
}

/// The header fields that differ between a packet and its retransmission.
#[derive(Clone, Copy)]
pub(super) struct Header {
    /// Payload type.
    pub pt: u8,
    /// Marker bit.
    pub marker: bool,
    /// SSRC.
    pub ssrc: u32,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The ids of the picture.
    pub ids: codec::Ids,
}

impl Writer {
    /// Creates the writer of an m-line whose header extensions are not known yet.
    pub fn new(mid: Mid) -> Self {
        Self { accepted: Ids::default(), mid: mid.as_bytes().into(), is_known: false }
    }

    /// Appends a sealed packet with `bytes` bytes of padding and no payload.
    #[allow(clippy::too_many_arguments, reason = "header fields and the two outputs")]
    pub(super) fn write_padding(
        &self,
        now: Instant,
        pt: u8,
        ssrc: u32,
        timestamp: u32,
        seq_no: u64,
        bytes: u8,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) {
        let buffer = datagrams.buffer();
        let start = buffer.len();
        write_header(HAS_PADDING, pt, seq_no, timestamp, ssrc, buffer);
        if self.accepted.contains(TRANSPORT_CC_ID) {
            let number = egress.number(now, usize::from(bytes) + WIRE_OVERHEAD).to_be_bytes();
            Elements::default().write(self.accepted, &[(TRANSPORT_CC_ID, &number)], buffer);
            buffer[start] |= HAS_EXTENSIONS;
        }
        let header = buffer.len() - start;
        buffer.resize(buffer.len() + usize::from(bytes) - 1, 0);
        buffer.push(bytes);
        if egress.srtp.seal_rtp(buffer, start, header, seq_no) {
            datagrams.finish(egress.route);
        } else {
            datagrams.abandon();
        }
    }

    /// Appends a sealed packet (RFC 3550 section 5.1) with `prefix`, `payload` and the elements of `packet`. Returns
    /// false, and appends nothing, if the sequence number may have been sealed before.
    #[allow(clippy::too_many_arguments, reason = "the fields that a retransmission changes, and the two outputs")]
    pub(super) fn seal(
        &self,
        now: Instant,
        header: Header,
        seq_no: u64,
        prefix: &[u8],
        payload: &[u8],
        packet: &Packet,
        egress: &mut Egress,
        datagrams: &mut Datagrams,
    ) -> bool {
        let buffer = datagrams.buffer();
        let start = buffer.len();
        buffer.reserve(HEADROOM + payload.len() + SRTP_OVERHEAD);
        let Header { ids, .. } = &header;
        let second = u8::from(header.marker) << 7 | header.pt;
        write_header(0, second, seq_no, header.timestamp, header.ssrc, buffer);
        let number;
        let mut dependency: SmallVec<[u8; 64]> = SmallVec::new();
        let mut own: SmallVec<[(u8, &[u8]); 4]> = SmallVec::new();
        if !self.is_known && self.accepted.contains(MID_ID) {
            own.push((MID_ID, &self.mid));
        }
        if self.accepted.contains(TRANSPORT_CC_ID) {
            number = egress.number(now, payload.len() + packet.elements.len() + WIRE_OVERHEAD).to_be_bytes();
            own.push((TRANSPORT_CC_ID, &number));
        }
        let is_renumbered = *ids != packet.description.ids;
        if is_renumbered
            && self.accepted.contains(DEPENDENCY_ID)
            && let Some(value) = packet.elements.find(DEPENDENCY_ID)
        {
            dependency.extend_from_slice(value);
            codec::patch_dependency(&mut dependency, *ids);
            own.push((DEPENDENCY_ID, &dependency));
        }
        if packet.elements.write(self.accepted, &own, buffer) {
            buffer[start] |= HAS_EXTENSIONS;
        }
        let header_len = buffer.len() - start;
        buffer.extend_from_slice(prefix);
        let begin = buffer.len();
        buffer.extend_from_slice(payload);
        if is_renumbered {
            codec::patch(packet.codec, &mut buffer[begin..], *ids);
        }
        let is_sealed = egress.srtp.seal_rtp(buffer, start, header_len, seq_no);
        if is_sealed {
            datagrams.finish(egress.route);
        } else {
            datagrams.abandon();
        }
        is_sealed
    }
}
