//! A decrypted RTP packet of a published track, as forwarded to all subscribers.

use std::sync::Arc;
use std::time::Instant;

use str0m::format::Codec;
use str0m::media::{Frequency, Mid};

use crate::media::rtp::codec::Description;
use crate::media::rtp::codec::parameter_sets::Preface;
use crate::media::rtp::elements::Elements;

/// Approximate bytes that a packet has on the wire beside its payload and elements: IP, UDP and RTP headers and the
/// SRTP tag. Without them, retransmissions of small packets would cost nothing and exceed the bitrate of the path.
pub const WIRE_OVERHEAD: usize = 70;

/// Largest payload plus header extension elements that is forwarded, in bytes. Larger packets would not fit the path
/// MTU: an Ethernet frame less IP, UDP, RTP, the MID element, an original sequence number and the SRTP tag.
pub const MAX_PAYLOAD: usize = 1_400;

/// Limit of extended sequence numbers: an SRTP packet index has 48 bits (RFC 3711 section 3.3.1). For a packet before
/// number 0, str0m computes an index of almost 2^64; it would be forwarded under a number that was used before.
pub const SEQ_NO_LIMIT: u64 = 1 << 48;

/// The bit P in the first byte of a packet: padding follows the payload.
pub const HAS_PADDING: u8 = 0x20;

/// The bit X in the first byte of a packet: header extensions follow the header.
pub const HAS_EXTENSIONS: u8 = 0x10;

/// One packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The publisher's m-line.
    pub mid: Mid,
    /// Index of its simulcast layer, smallest first; 0 without simulcast.
    pub layer: u8,
    /// Its codec.
    pub codec: Codec,
    /// The numbers to rewrite.
    pub incoming: Incoming,
    /// Offset of the packet's own frame in the payload if redundant earlier frames precede it (RFC 2198).
    pub redundant: Option<usize>,
    /// RTP payload, shared by all subscribers.
    pub payload: Arc<[u8]>,
    /// RTP marker bit.
    pub marker: bool,
    /// Parameter sets to send before this packet to a subscriber that starts here.
    pub preface: Option<Box<Preface>>,
    /// Properties of its picture, parsed from the payload.
    pub description: Description,
    /// The header extension elements to forward.
    pub elements: Elements,
    /// Its position in the track's history.
    pub position: u32,
}

/// The fields of an incoming packet that the rewriting needs.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    /// The publisher's SSRC.
    pub ssrc: u32,
    /// Number of the current stretch of consecutive forwarded packets of the SSRC. Packets withheld between two
    /// stretches leave no gap in the outgoing numbers.
    pub epoch: u32,
    /// The publisher's extended sequence number.
    pub seq_no: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Ticks of `timestamp` per second.
    pub clock_rate: Frequency,
    /// Capture time, on the server's clock.
    pub captured: Instant,
    /// Whether decoding can start here.
    pub can_start: bool,
    /// Whether a subscriber that starts here first gets a packet made by the server (its preface).
    pub has_preface: bool,
}

impl Packet {
    /// Approximate bytes on the wire.
    pub fn wire_bytes(&self) -> usize {
        self.payload.len() + self.elements.len() + WIRE_OVERHEAD
    }

    /// Approximate bytes on the wire of its preface; 0 if it has none.
    pub fn preface_bytes(&self) -> usize {
        self.preface.as_ref().map_or(0, |preface| preface.payload.len() + self.elements.len() + WIRE_OVERHEAD)
    }
}

/// Appends the fixed RTP header (RFC 3550 section 5.1): `flags` are the bits P and X, `second` is the marker bit and
/// the payload type.
#[inline]
pub fn write_header(flags: u8, second: u8, seq_no: u64, timestamp: u32, ssrc: u32, buffer: &mut Vec<u8>) {
    let mut header = [0x80 | flags, second, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&(seq_no as u16).to_be_bytes());
    header[4..8].copy_from_slice(&timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&ssrc.to_be_bytes());
    buffer.extend_from_slice(&header);
}

#[cfg(test)]
impl Packet {
    /// The first packet of an SSRC, which tests change as they need: 1,000 bytes of VP8, not a starting point.
    pub fn sample(now: Instant) -> Self {
        let incoming = Incoming {
            ssrc: 1,
            epoch: 0,
            seq_no: 0,
            timestamp: 0,
            clock_rate: Frequency::NINETY_KHZ,
            captured: now,
            can_start: false,
            has_preface: false,
        };
        Self {
            mid: Mid::from("0"),
            layer: 0,
            codec: Codec::Vp8,
            incoming,
            redundant: None,
            payload: vec![0; 1_000].into(),
            marker: false,
            preface: None,
            description: Description::default(),
            elements: Elements::default(),
            position: 0,
        }
    }
}
