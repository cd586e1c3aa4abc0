//! An RTP packet of a published track, decrypted, as all its subscribers get it.

use std::sync::Arc;

use str0m::format::Codec;
use str0m::media::Mid;

use crate::media::codec::Description;
use crate::media::codec::parameter_sets::Preface;
use crate::media::elements::Elements;
use crate::media::forward::Incoming;

/// Bytes that a packet has on the wire beside its payload and elements, about: IP, UDP, RTP and the tag. Without them,
/// small packets would be sent again for nothing, and more of them than a path carries.
pub const WIRE_OVERHEAD: usize = 70;

/// Bytes of RTP payload and header extension elements that are forwarded: what is larger does not fit the path (an
/// Ethernet frame less IP, UDP, RTP, the name of the line, an original sequence number and the SRTP tag).
pub const MAX_PAYLOAD: usize = 1_400;

/// One packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The publisher's m-line.
    pub mid: Mid,
    /// Index of its simulcast layer, the smallest first; 0 where there is one.
    pub layer: u8,
    /// Its codec.
    pub codec: Codec,
    /// The numbers to be rewritten.
    pub incoming: Incoming,
    /// Where its own frame begins in the payload, if that carries earlier ones before it (RFC 2198).
    pub redundant: Option<usize>,
    /// RTP payload; shared by all who get it.
    pub payload: Arc<[u8]>,
    /// RTP marker bit.
    pub marker: bool,
    /// What a subscriber that starts with it gets in front of it.
    pub preface: Option<Box<Preface>>,
    /// What its payload says of its picture.
    pub description: Description,
    /// The header extension elements that go through.
    pub elements: Elements,
    /// Its position in the track's history.
    pub position: u32,
}

impl Packet {
    /// Bytes on the wire, about.
    pub fn wire_bytes(&self) -> usize {
        self.payload.len() + self.elements.len() + WIRE_OVERHEAD
    }

    /// The same of what goes in front of it where a subscriber starts; 0 if nothing does.
    pub fn preface_bytes(&self) -> usize {
        self.preface.as_ref().map_or(0, |preface| preface.payload.len() + self.elements.len() + WIRE_OVERHEAD)
    }
}
