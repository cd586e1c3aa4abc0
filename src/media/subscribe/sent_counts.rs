//! The contents of the sender reports about one SSRC (RFC 3550 section 6.4.1).

use std::time::{Duration, Instant};

use str0m::media::Frequency;

use crate::media::rtp::packet::{Incoming, WIRE_OVERHEAD};
use crate::media::rtp::rtcp::SenderReport;

/// Counts of the packets sent under one SSRC. They wrap.
#[derive(Default)]
pub(super) struct SentCounts {
    packets: u32,
    octets: u32,
    /// Whether anything was sent since the last report.
    needs_handling: bool,
    last: Option<Last>,
}

/// The packet sent last.
struct Last {
    timestamp: u32,
    captured: Instant,
    clock_rate: Frequency,
}

impl SentCounts {
    /// Counts a packet of the publisher, which has `bytes` bytes of payload and was sent with this RTP timestamp.
    #[inline]
    pub fn record(&mut self, bytes: usize, timestamp: u32, incoming: &Incoming) {
        self.count(bytes);
        self.last = Some(Last { timestamp, captured: incoming.captured, clock_rate: incoming.clock_rate });
        self.needs_handling = true;
    }

    /// Counts a packet that the server has added.
    #[inline]
    pub fn count(&mut self, bytes: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(bytes as u32);
    }

    /// Packets sent.
    #[inline]
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Bytes sent, including the overhead of lower layers.
    pub fn wire_bytes(&self) -> u32 {
        self.octets.wrapping_add(self.packets.wrapping_mul(WIRE_OVERHEAD as u32))
    }

    /// The RTP timestamp of the packet sent last; 0 before the first.
    pub fn last_timestamp(&self) -> u32 {
        self.last.as_ref().map_or(0, |last| last.timestamp)
    }

    /// Returns a sender report if anything was sent since the last. `wall` is `now` as an NTP timestamp.
    pub fn poll_report(&mut self, now: Instant, wall: u64, ssrc: u32) -> Option<SenderReport> {
        let Last { timestamp, captured, clock_rate } = self.last.as_ref().filter(|_| self.needs_handling)?;
        let elapsed: Duration = now.saturating_duration_since(*captured);
        let ticks = elapsed.as_micros() * u128::from(clock_rate.get()) / 1_000_000;
        let timestamp = timestamp.wrapping_add(ticks as u32);
        self.needs_handling = false;
        Some(SenderReport { ssrc, ntp: wall, timestamp, packets: self.packets, octets: self.octets })
    }
}
