//! One SSRC that a peer publishes, with the state that is needed to read its packets.

use std::sync::Arc;
use std::time::Instant;

use str0m::format::CodecSpec;
use str0m::media::{MediaKind, Mid};
use str0m::rtp::{RtpPacket, Ssrc};

use crate::media::negotiation::profile::DEPENDENCY_ID;
use crate::media::publish::history;
use crate::media::publish::sender_clock::{Report, SenderClock};
use crate::media::rtp::codec;
use crate::media::rtp::codec::arrival::{Arrival, Order};
use crate::media::rtp::codec::configuration::Configuration;
use crate::media::rtp::codec::dependency::Structure;
use crate::media::rtp::elements::Elements;
use crate::media::rtp::packet::{Incoming, MAX_PAYLOAD, Packet};

/// One SSRC that the peer sends.
pub(super) struct Stream {
    pub ssrc: Ssrc,
    pub mid: Mid,
    /// Index of its simulcast layer.
    pub layer: u8,
    /// Whether it is one of several simulcast layers.
    has_rid: bool,
    /// Time of the last packet.
    pub last_at: Instant,
    pub report: Option<Report>,
    highest_seq_no: Option<u64>,
    structure: Structure,
    pub configuration: Configuration,
}

impl Stream {
    /// Upper bound of the heap memory of one stream in bytes.
    pub const fn max_bytes() -> usize {
        Configuration::max_bytes(history::AGE)
    }

    /// Creates the state of an SSRC whose first packet has arrived.
    pub fn new(now: Instant, ssrc: Ssrc, mid: Mid, layer: u8, has_rid: bool) -> Self {
        Self {
            ssrc,
            mid,
            layer,
            has_rid,
            last_at: now,
            report: None,
            highest_seq_no: None,
            structure: Structure::default(),
            configuration: Configuration::default(),
        }
    }

    /// Describes a packet, and completes it with the configuration that a decoder needs. `redundant` is the offset of
    /// the packet's own frame.
    #[inline]
    pub fn read(
        &mut self,
        now: Instant,
        spec: CodecSpec,
        packet: &RtpPacket,
        elements: Elements,
        redundant: Option<usize>,
        clock: &SenderClock,
    ) -> Packet {
        self.last_at = now;
        let seq_no = *packet.seq_no;
        let dependency = elements.find(DEPENDENCY_ID);
        let (marker, timestamp) = (packet.header.marker, packet.header.timestamp);
        let most = MAX_PAYLOAD - elements.len();
        let completed = self.configuration.complete(spec.codec, &packet.payload, seq_no, most);
        let payload = completed.map_or_else(|| packet.payload.clone(), Arc::from);
        let mut description = codec::describe(spec.codec, marker, &payload, dependency, &mut self.structure);
        if self.has_rid {
            description.flatten();
        }
        let arrival = Arrival::of(seq_no, self.highest_seq_no);
        self.highest_seq_no = self.highest_seq_no.max(Some(seq_no));
        let (can_start, preface) = match spec.codec.kind() {
            MediaKind::Audio => (arrival.order != Order::Late, None),
            MediaKind::Video => {
                let starts = description.starts_keyframe;
                self.configuration.start(now, spec.codec, timestamp, &payload, arrival, starts)
            }
        };
        let clock_rate = spec.clock_rate;
        let incoming = Incoming {
            ssrc: *self.ssrc,
            epoch: 0,
            seq_no,
            timestamp,
            clock_rate,
            captured: clock.captured(now, self.report, timestamp, clock_rate),
            can_start,
            has_preface: preface.is_some(),
        };
        Packet {
            mid: self.mid,
            layer: self.layer,
            codec: spec.codec,
            incoming,
            description,
            marker,
            elements,
            redundant,
            preface,
            payload,
            position: 0,
        }
    }
}
