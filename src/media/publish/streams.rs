//! The SSRCs that one peer publishes at a time, without RTX.

use std::time::Instant;

use str0m::format::CodecSpec;
use str0m::media::Mid;
use str0m::rtp::rtcp::SenderInfo;
use str0m::rtp::{RtpPacket, Ssrc};

use crate::media::negotiation::m_line::MLine;
use crate::media::publish::sender_clock::{Report, SenderClock};
use crate::media::publish::stream::Stream;
use crate::media::rtp::elements::Elements;
use crate::media::rtp::packet::Packet;

/// Maximum number of incoming SSRCs of one peer at a time, without RTX SSRCs. At the limit the longest-silent finished
/// stream is removed: one that another SSRC has replaced, or whose m-line no longer sends. A peer has m-lines and
/// layers for 24, so a finished stream always exists.
const MAX_SSRCS: usize = 32;

/// The streams of one peer.
#[derive(Default)]
pub struct Streams {
    streams: Vec<Stream>,
    clock: SenderClock,
    /// H.264 parameter sets in the latest answer, by m-line.
    parameter_sets: Vec<(Mid, Vec<Vec<u8>>)>,
    /// The number of oversized packets and the mid of the last one, for `take_oversized`.
    oversized: (u64, Option<Mid>),
    /// The number of dropped parts of configurations, for `take_unconfigured`.
    unconfigured: u64,
}

impl Streams {
    /// Maximum memory in bytes.
    pub const MAX_BYTES: usize = MAX_SSRCS * (2 * size_of::<Stream>() + Stream::max_bytes());

    /// Returns true if the peer has no stream.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Returns the index of an SSRC.
    pub fn position(&self, ssrc: Ssrc) -> Option<usize> {
        self.streams.iter().position(|stream| stream.ssrc == ssrc)
    }

    /// Returns the SSRC of a layer with the latest packet: a publisher may restart a layer and return to an earlier
    /// SSRC.
    pub fn latest(&self, mid: Mid, layer: u8) -> Option<Ssrc> {
        let of_layer = self.streams.iter().filter(|stream| (stream.mid, stream.layer) == (mid, layer));
        of_layer.max_by_key(|stream| stream.last_at).map(|stream| stream.ssrc)
    }

    /// Returns true if a stream has to be removed before another is added.
    pub fn is_full(&self) -> bool {
        self.streams.len() >= MAX_SSRCS
    }

    /// Adds an SSRC, and returns its index.
    pub fn insert(&mut self, now: Instant, ssrc: Ssrc, mid: Mid, layer: u8, has_rid: bool) -> usize {
        let mut stream = Stream::new(now, ssrc, mid, layer, has_rid);
        let signaled = self.parameter_sets.iter().find(|(of, _)| *of == mid);
        stream.configuration.sets.seed(signaled.into_iter().flat_map(|(_, sets)| sets).map(Vec::as_slice));
        self.streams.push(stream);
        self.streams.len() - 1
    }

    /// Removes a stream for a new one that begins at `new` (mid and layer), and returns its SSRC: one that another SSRC
    /// has replaced, else one whose m-line no longer exists, else one whose m-line is paused. The last may resume with
    /// the same SSRC and no mid extension. Of several, the longest-silent is chosen.
    pub fn remove_finished(&mut self, new: (Mid, u8), m_lines: &[MLine]) -> Option<Ssrc> {
        let streams = &self.streams;
        let rank = |stream: &Stream| {
            let place = (stream.mid, stream.layer);
            let follows = |next: &Stream| (next.mid, next.layer) == place && next.last_at > stream.last_at;
            if place == new || streams.iter().any(follows) {
                return Some(0);
            }
            match m_lines.iter().find(|m_line| m_line.mid == Some(stream.mid)) {
                Some(m_line) if m_line.is_sending() => None,
                Some(m_line) if !m_line.is_dead() => Some(2),
                _ => Some(1),
            }
        };
        let finished =
            streams.iter().enumerate().filter_map(|(index, stream)| Some((rank(stream)?, stream.last_at, index)));
        let (_, _, index) = finished.min()?;
        Some(self.streams.remove(index).ssrc)
    }

    /// Reads a packet of the stream at `index`. See `Stream::read`.
    #[inline]
    pub fn read(
        &mut self,
        now: Instant,
        index: usize,
        spec: CodecSpec,
        packet: &RtpPacket,
        elements: Elements,
        redundant: Option<usize>,
    ) -> Packet {
        let stream = &mut self.streams[index];
        let packet = stream.read(now, spec, packet, elements, redundant, &self.clock);
        self.unconfigured += stream.configuration.take_dropped();
        packet
    }

    /// Counts a packet that is dropped because it is too large, of the stream at `index` if that is known.
    pub fn handle_oversized(&mut self, index: Option<usize>) {
        let (count, last) = &mut self.oversized;
        *count += 1;
        *last = index.map(|index| self.streams[index].mid).or(*last);
    }

    /// Handles a sender report that arrived at `received_at`.
    pub fn handle_report(&mut self, received_at: Instant, info: SenderInfo) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == info.ssrc) {
            stream.report = Some(Report { ntp: info.ntp_time, timestamp: info.rtp_time.numer() as u32 });
            self.clock.handle_report(received_at, info.ntp_time);
        }
    }

    /// Sets the parameter sets of the latest answer, for streams that begin after it.
    pub fn set_parameter_sets(&mut self, parameter_sets: Vec<(Mid, Vec<Vec<u8>>)>) {
        self.parameter_sets = parameter_sets;
    }

    /// Returns the number of packets dropped since the last call because they are larger than `MAX_PAYLOAD`, and the
    /// mid of the last one.
    pub fn take_oversized(&mut self) -> (u64, Option<Mid>) {
        std::mem::take(&mut self.oversized)
    }

    /// Returns the number of parts of codec configurations dropped since the last call, because there were too many or
    /// a keyframe had no room for them. Participants that subscribe later may be unable to decode the track.
    pub fn take_unconfigured(&mut self) -> u64 {
        std::mem::take(&mut self.unconfigured)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn replaced_streams_are_removed_first_paused_ones_last_and_active_ones_never() {
        let start = Instant::now();
        let [active, paused, dead] = ["active", "paused", "dead"].map(Mid::from);
        let m_lines = [
            MLine::publishing(active, true, false),
            MLine::publishing(paused, false, false),
            MLine::publishing(dead, false, true),
        ];
        let mut streams = Streams::default();
        // The longest-silent stream is the paused one, then that of the dead m-line.
        for (ssrc, mid, layer) in
            [(1, paused, 0), (2, dead, 0), (3, active, 0), (4, active, 1), (5, active, 0), (6, active, 0)]
        {
            streams.insert(start + Duration::from_secs(ssrc.into()), ssrc.into(), mid, layer, false);
        }
        let new = (Mid::from("new"), 0);
        let removed: Vec<_> = std::iter::from_fn(|| streams.remove_finished(new, &m_lines)).map(|ssrc| *ssrc).collect();
        assert_eq!(removed, [3, 5, 2, 1]);
        assert_eq!(streams.remove_finished((active, 1), &m_lines).as_deref(), Some(&4), "the new stream replaces it");
    }
}
