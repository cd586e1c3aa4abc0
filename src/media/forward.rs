//! The rewriting of one track for one subscriber: sequence numbers and timestamps of one outgoing SSRC, over changes
//! of the source and without the layers of it that the subscriber does not get.
//!
//! The outgoing extended sequence number only grows, whatever the source does, and is a bijection of the
//! incoming one as long as the source stays: so no number is ever used for two packets (under AES-GCM that
//! would give the key away, RFC 7714 section 8.1), and gaps are only those that the network made.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use str0m::media::Frequency;

use crate::media::codec::Description;

/// First sequence numbers are random below this: the rollover counter is not signaled, so a receiver has to see
/// number 0 of the next cycle before it loses half a cycle (RFC 3711 section 3.3.1).
pub const FIRST_SEQ_NO_LIMIT: u32 = 1 << 15;

/// Runs of packets left out that are remembered, for those that come late: some seconds of every second picture. A
/// packet that is older than all of them is not forwarded.
const RUNS: usize = 64;

/// Changes of the spatial layers that are remembered, likewise. They come back at keyframes only, so these are more
/// than a second's.
const CHANGES: usize = 8;

/// How long the present SSRC is silent before packets of the one that it replaced count as its return, and not as late.
const RETURN: Duration = Duration::from_millis(500);

/// What the rewriting needs to know of an incoming packet.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    /// The publisher's SSRC.
    pub ssrc: u32,
    /// Which stretch of it: between two of them packets were held back, which is no loss.
    pub epoch: u32,
    /// The publisher's extended sequence number.
    pub seq_no: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Ticks of `timestamp` per second.
    pub clock_rate: Frequency,
    /// When it was captured, in our time.
    pub captured: Instant,
    /// Decoding can start here.
    pub can_start: bool,
    /// Where it starts, a packet of the server's own goes in front.
    pub has_preface: bool,
}

/// The highest layers of a source that are to be sent; `u8::MAX` for all that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Of the spatial layers in one SSRC.
    pub spatial: u8,
    /// Of the temporal layers.
    pub temporal: u8,
}

/// What goes out instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Extended sequence number of the outgoing SSRC.
    pub seq_no: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Pictures that were left out since the source began.
    pub left_out: u16,
    /// The source begins with this packet.
    pub starts: bool,
    /// It is the last of its picture, whose higher spatial layers are not sent: it gets the marker.
    pub ends_picture: bool,
    /// Its picture or layer was left out, but its number was kept for it: it goes out without contents, or a receiver
    /// would wait for it.
    pub is_empty: bool,
}

/// The source that is being forwarded, and how its numbers map.
#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    epoch: u32,
    first_seq_no: u64,
    first_out: u64,
    timestamp_offset: u32,
    /// The highest of its numbers that came.
    highest: u64,
}

/// Packets left out, one after the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    end: u64,
    /// Packets and pictures left out up to its end, since the source began.
    packets: u64,
    pictures: u16,
    /// Of its first picture and its last, as far as these were left out whole.
    timestamps: (Option<u32>, Option<u32>),
}

/// The highest spatial layer that is sent from a packet on, and from the first of its picture's.
#[derive(Clone, Copy, Debug)]
struct Highest {
    layer: u8,
    seq_no: u64,
    timestamp: u32,
}

/// One outgoing SSRC.
#[derive(Debug)]
pub struct Forward {
    /// The number after the highest used.
    next_seq_no: u64,
    /// What is forwarded, or was before the last pause.
    source: Option<Source>,
    /// The SSRC that was forwarded before the present one.
    replaced: Option<u32>,
    is_waiting: bool,
    /// When the latest packet was captured, and its outgoing timestamp.
    last_sent: Option<(Instant, u32)>,
    /// What was left out of the source, and before which of its numbers that is no longer known.
    left_out: VecDeque<Run>,
    known_from: u64,
    /// The highest temporal layer of which nothing was left out.
    temporal: u8,
    /// What is sent of the spatial layers, and was before, the latest first.
    spatial: Highest,
    spatial_before: VecDeque<Highest>,
    /// The picture that is coming, by its timestamp, and whether it is left out.
    picture: Option<(u32, bool)>,
}

impl Forward {
    /// A fresh SSRC, whose first packet will be `first_seq_no` (below `FIRST_SEQ_NO_LIMIT`).
    pub fn new(first_seq_no: u32) -> Self {
        debug_assert!(first_seq_no < FIRST_SEQ_NO_LIMIT);
        Self {
            next_seq_no: u64::from(first_seq_no),
            source: None,
            replaced: None,
            is_waiting: true,
            last_sent: None,
            left_out: VecDeque::new(),
            known_from: 0,
            temporal: u8::MAX,
            spatial: Highest { layer: u8::MAX, seq_no: 0, timestamp: 0 },
            spatial_before: VecDeque::new(),
            picture: None,
        }
    }

    /// The most that one takes beside itself.
    pub const MAX_BYTES: usize = 2 * RUNS * size_of::<Run>() + 2 * CHANGES * size_of::<Highest>();

    /// What comes next is another source, or the same after a pause, and has to start afresh. The numbers go on.
    pub fn pause(&mut self) {
        self.is_waiting = true;
    }

    /// The next packet belongs to another track, and starts afresh. Its SSRC does not show that: publishers choose SSRCs
    /// independently of each other.
    pub fn change_track(&mut self) {
        (self.source, self.replaced) = (None, None);
        self.pause();
    }

    /// Whether nothing has been forwarded since the start or the last pause.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// The number after the highest used.
    pub fn next_seq_no(&self) -> u64 {
        self.next_seq_no
    }

    /// The highest spatial layer that is sent of what comes now.
    pub fn spatial(&self) -> u8 {
        self.spatial.layer
    }

    /// Maps one packet; `None` if it is not to be forwarded: before the start, older than it, or of a layer above
    /// `bound`.
    pub fn rewrite(&mut self, packet: &Incoming, description: &Description, bound: Bound) -> Option<Rewritten> {
        let goes_on = |source: &Source| source.ssrc == packet.ssrc && source.epoch == packet.epoch;
        let (source, starts) = match self.source {
            Some(source) if !self.is_waiting && goes_on(&source) => (source, false),
            Some(source) if !self.is_waiting && source.ssrc == packet.ssrc && packet.seq_no < source.first_seq_no => {
                return None;
            }
            _ => (self.start(packet, bound)?, true),
        };
        let since_start = packet.seq_no.checked_sub(source.first_seq_no)?;
        let is_new = starts || packet.seq_no > source.highest;
        if is_new && let Some(source) = &mut self.source {
            source.highest = packet.seq_no;
        }
        let mut is_empty = false;
        let (packets, pictures, highest) = if is_new {
            let before = self.picture;
            if self.leaves_out(packet, description, bound) {
                self.leave_out(packet, self.picture != before);
                return None;
            }
            let (packets, pictures) = self.left_out.back().map_or((0, 0), |run| (run.packets, run.pictures));
            (packets, pictures, Some(self.spatial.layer))
        } else if packet.seq_no < self.known_from {
            return None;
        } else {
            let next = self.left_out.partition_point(|run| run.first <= packet.seq_no);
            let before = next.checked_sub(1).and_then(|index| self.left_out.get(index));
            if before.is_some_and(|run| packet.seq_no < run.end) {
                return None;
            }
            let is_of = |timestamp: Option<u32>| timestamp == Some(packet.timestamp);
            let highest = self.highest_of(packet);
            is_empty = description.temporal > self.temporal.min(bound.temporal)
                || highest.is_none_or(|highest| description.spatial > highest)
                || is_of(before.and_then(|run| run.timestamps.1))
                || is_of(self.left_out.get(next).and_then(|run| run.timestamps.0));
            let (packets, pictures) = before.map_or((0, 0), |run| (run.packets, run.pictures));
            (packets, pictures, highest)
        };
        let seq_no = source.first_out + since_start - packets;
        let timestamp = packet.timestamp.wrapping_add(source.timestamp_offset);
        if seq_no >= self.next_seq_no {
            self.next_seq_no = seq_no + 1;
            self.last_sent = Some((packet.captured, timestamp));
        }
        let ends_picture = description.ends_frame && Some(description.spatial) == highest;
        Some(Rewritten { seq_no, timestamp, left_out: pictures, starts, ends_picture, is_empty })
    }

    /// Whether a packet is left out, because its picture is or is sent without its layer: decided with the first packet
    /// of a picture that comes, so that none is cut in two.
    fn leaves_out(&mut self, packet: &Incoming, description: &Description, bound: Bound) -> bool {
        if let Some((picture, is_left_out)) = self.picture
            && picture == packet.timestamp
        {
            return is_left_out || description.spatial > self.spatial.layer;
        }
        // A layer that was left out can be decoded from a keyframe on.
        let spatial = if packet.can_start { bound.spatial } else { bound.spatial.min(self.spatial.layer) };
        if spatial != self.spatial.layer {
            let now = Highest { layer: spatial, seq_no: packet.seq_no, timestamp: packet.timestamp };
            self.spatial_before.truncate(CHANGES - 1);
            self.spatial_before.push_front(std::mem::replace(&mut self.spatial, now));
        }
        let layer = description.temporal;
        // What was left out is taken up again layer by layer, each where it can be decoded without it.
        let is_decodable = layer <= self.temporal || layer == self.temporal + 1 && description.can_switch_up;
        let is_left_out = layer > bound.temporal || !is_decodable;
        self.temporal = match is_left_out {
            true => self.temporal.min(layer - 1),
            false => self.temporal.max(layer).max(description.opens),
        };
        self.picture = Some((packet.timestamp, is_left_out));
        is_left_out || description.spatial > spatial
    }

    /// The highest spatial layer that was sent of a late packet's picture; none if that is no longer known.
    fn highest_of(&self, packet: &Incoming) -> Option<u8> {
        let is_since = |since: &&Highest| packet.seq_no >= since.seq_no || packet.timestamp == since.timestamp;
        let mut changes = std::iter::once(&self.spatial).chain(&self.spatial_before);
        changes.find(is_since).map(|since| since.layer)
    }

    fn leave_out(&mut self, packet: &Incoming, is_new_picture: bool) {
        let seq_no = packet.seq_no;
        let timestamp = self.picture.filter(|(_, is_left_out)| *is_left_out).map(|(timestamp, _)| timestamp);
        let last = self.left_out.back_mut();
        let (packets, pictures) = last.as_ref().map_or((0, 0), |run| (run.packets, run.pictures));
        let (packets, pictures) = (packets + 1, pictures.wrapping_add(u16::from(is_new_picture)));
        if let Some(run) = last.filter(|run| run.end == seq_no) {
            (run.end, run.packets, run.pictures, run.timestamps.1) = (seq_no + 1, packets, pictures, timestamp);
            return;
        }
        let timestamps = (timestamp, timestamp);
        self.left_out.push_back(Run { first: seq_no, end: seq_no + 1, packets, pictures, timestamps });
        if self.left_out.len() > RUNS && self.left_out.pop_front().is_some() {
            // What comes before all runs that are remembered would be counted as if nothing had been left out.
            self.known_from = self.left_out[0].first;
        }
    }

    /// Whether a packet shows that the publisher goes on with another SSRC, so that nothing more comes of the present one.
    fn is_followed_by(&self, packet: &Incoming) -> bool {
        let is_silent = self.last_sent.is_some_and(|(captured, _)| packet.captured > captured + RETURN);
        let is_other = self.source.is_some_and(|source| source.ssrc != packet.ssrc);
        is_other && (self.replaced != Some(packet.ssrc) || is_silent)
    }

    fn start(&mut self, packet: &Incoming, bound: Bound) -> Option<Source> {
        if !packet.can_start {
            self.is_waiting |= self.is_followed_by(packet);
            return None;
        }
        if let Some(source) = self.source.filter(|source| source.ssrc != packet.ssrc) {
            self.replaced = Some(source.ssrc);
        }
        // The first source keeps its timestamps, and so does another stretch of the same; a later one goes on where the
        // clock of the last one would be.
        let same = self.source.filter(|source| source.ssrc == packet.ssrc);
        let elapsed_offset = || {
            self.last_sent.map_or(0, |(captured, last)| {
                let elapsed = packet.captured.saturating_duration_since(captured);
                let ticks = elapsed.as_micros() * u128::from(packet.clock_rate.get()) / 1_000_000;
                // Another layer's picture of the same moment comes after it.
                last.wrapping_add((ticks as u32).max(1)).wrapping_sub(packet.timestamp)
            })
        };
        let timestamp_offset = same.map_or_else(elapsed_offset, |source| source.timestamp_offset);
        let source = Source {
            ssrc: packet.ssrc,
            epoch: packet.epoch,
            first_seq_no: packet.seq_no,
            first_out: self.next_seq_no + u64::from(packet.has_preface),
            timestamp_offset,
            highest: packet.seq_no,
        };
        (self.source, self.is_waiting) = (Some(source), false);
        self.left_out.clear();
        (self.known_from, self.temporal, self.picture) = (0, u8::MAX, Some((packet.timestamp, false)));
        let (seq_no, timestamp) = (packet.seq_no, packet.timestamp);
        self.spatial = Highest { layer: bound.spatial, seq_no, timestamp };
        self.spatial_before.clear();
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;

    fn up_to(temporal: u8) -> Bound {
        Bound { spatial: u8::MAX, temporal }
    }

    fn packet(ssrc: u32, seq_no: u64, timestamp: u32, can_start: bool) -> Incoming {
        let clock_rate = Frequency::NINETY_KHZ;
        Incoming {
            ssrc,
            epoch: 0,
            seq_no,
            timestamp,
            clock_rate,
            captured: Instant::now(),
            can_start,
            has_preface: false,
        }
    }

    /// Number and timestamp of what goes out for a packet without temporal layers.
    fn rewrite(forward: &mut Forward, packet: &Incoming) -> Option<(u64, u32)> {
        let rewritten = forward.rewrite(packet, &Description::default(), up_to(2))?;
        Some((rewritten.seq_no, rewritten.timestamp))
    }

    /// A publisher begins another SSRC, and the packet with which decoding can start is lost: without a wait nobody would
    /// ask for another keyframe.
    #[test]
    fn another_ssrc_that_can_not_start_is_waited_for_and_late_packets_of_the_one_before_are_not() {
        let start = Instant::now();
        let mut forward = Forward::new(100);
        let mut step = |ssrc: u32, ms: u64, seq_no: u64, can_start: bool| {
            let captured = start + Duration::from_millis(ms);
            let packet = Incoming { captured, ..packet(ssrc, seq_no, 90 * ms as u32, can_start) };
            let is_sent = rewrite(&mut forward, &packet).is_some();
            (is_sent, forward.is_waiting())
        };
        for (number, (ssrc, ms, seq_no, can_start, expected)) in [
            (1, 0, 10, true, (true, false)),
            (1, 33, 12, false, (true, false)),
            // The first packet of the new one is lost.
            (2, 66, 501, false, (false, true)),
            (1, 40, 13, false, (false, true)),
            (2, 500, 520, true, (true, false)),
            // Late, and too late to be that.
            (1, 501, 14, false, (false, false)),
            (2, 533, 521, false, (true, false)),
            (1, 1_040, 15, false, (false, true)),
            (1, 1_100, 16, true, (true, false)),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(step(ssrc, ms, seq_no, can_start), expected, "step {number}");
        }
    }

    #[test]
    fn what_was_held_back_is_no_gap_in_the_numbers_and_one_in_time() {
        let mut forward = Forward::new(50);
        let mut out = |epoch, seq_no: u64| {
            rewrite(&mut forward, &Incoming { epoch, ..packet(1, seq_no, 960 * seq_no as u32, true) })
        };
        let expected = |seq_no, of: u32| Some((seq_no, 960 * of));
        assert_eq!(out(0, 10), expected(50, 10));
        assert_eq!(out(0, 11), expected(51, 11));
        assert_eq!(out(1, 40), expected(52, 40));
        assert_eq!(out(1, 42), expected(54, 42), "a gap that the network made stays one");
        assert_eq!(out(1, 41), expected(53, 41));
        assert_eq!(out(0, 12), None, "overtaken by the next stretch");
        assert_eq!(out(2, 90), expected(55, 90));
    }

    #[test]
    fn numbers_start_low_keep_gaps_and_order() {
        let mut forward = Forward::new(100);
        // Hours into the stream; nothing before a keyframe.
        let base = 70_000_000;
        assert_eq!(rewrite(&mut forward, &packet(1, base - 1, 0, false)), None);
        let mut out = |seq_no| rewrite(&mut forward, &packet(1, seq_no, 7, seq_no == base));
        let expected = |seq_no| Some((seq_no, 7));
        assert_eq!(out(base), expected(100));
        assert_eq!(out(base + 1), expected(101));
        assert_eq!(out(base + 4), expected(104));
        assert_eq!(out(base + 3), expected(103));
        assert_eq!(out(base - 1), None, "older than the start");
        assert_eq!(out(base + 70_000), expected(70_100), "the outgoing counter is extended too");
    }

    #[test]
    fn a_new_source_goes_on_where_the_clock_would_be() {
        let start = Instant::now();
        let at = |ms, incoming| Incoming { captured: start + Duration::from_millis(ms), ..incoming };
        let mut forward = Forward::new(0);
        rewrite(&mut forward, &at(0, packet(1, 1, u32::MAX - 5, true)));
        assert_eq!(rewrite(&mut forward, &at(500, packet(2, 900, 1, false))), None, "not before its keyframe");
        let expected = (u32::MAX - 5).wrapping_add(45_000);
        assert_eq!(rewrite(&mut forward, &at(500, packet(2, 901, 4_000, true))), Some((1, expected)));
        forward.pause();
        let same_moment = rewrite(&mut forward, &at(500, packet(3, 7, 90, true)));
        assert_eq!(same_moment, Some((2, expected + 1)), "no timestamp is used twice");
        forward.pause();
        let earlier = rewrite(&mut forward, &at(400, packet(4, 7, 90, true)));
        assert_eq!(earlier, Some((3, expected + 2)), "nor does time go back");
    }

    /// A picture of three temporal layers: number of its first packet, packets, temporal layer, whether it is a point to
    /// switch up.
    type Picture = (u64, u64, u8, bool);

    /// Sends pictures with a limit each; gives the numbers that went out and how many were left out before.
    fn layered(forward: &mut Forward, pictures: &[(Picture, u8)]) -> Vec<Option<(u64, u16)>> {
        let mut out = Vec::new();
        for ((first, count, temporal, can_switch_up), limit) in pictures {
            let description =
                Description { temporal: *temporal, can_switch_up: *can_switch_up, ..Description::default() };
            for seq_no in *first..first + count {
                let incoming = packet(1, seq_no, *first as u32 * 100, *first == 0);
                let rewritten = forward.rewrite(&incoming, &description, up_to(*limit));
                out.push(rewritten.map(|rewritten| (rewritten.seq_no, rewritten.left_out)));
            }
        }
        out
    }

    #[test]
    fn temporal_layers_go_without_a_gap_and_come_back_where_they_can_be_decoded() {
        let mut forward = Forward::new(100);
        let out = layered(
            &mut forward,
            &[
                ((0, 2, 0, false), 2),
                ((2, 1, 2, true), 2),
                ((3, 2, 2, false), 1),
                ((5, 1, 1, false), 1),
                ((6, 1, 2, false), 1),
                ((7, 1, 0, false), 0),
                ((8, 2, 1, true), 0),
                ((10, 1, 0, false), 2),
                ((11, 1, 2, true), 2),
                ((12, 1, 1, false), 2),
                ((13, 1, 1, true), 2),
                ((14, 1, 2, false), 2),
                ((15, 1, 2, true), 2),
                ((16, 1, 2, false), 0),
                ((17, 1, 1, false), 0),
            ],
        );
        let sent = |seq_no, left_out| Some((seq_no, left_out));
        let expected = [
            (sent(100, 0), 0),
            (sent(101, 0), 1),
            (sent(102, 0), 2),
            (None, 3),
            (None, 4),
            (sent(103, 1), 5),
            (None, 6),
            (sent(104, 2), 7),
            (None, 8),
            (None, 9),
            (sent(105, 3), 10),
            // The lower one comes first.
            (None, 11),
            // Not from just anywhere.
            (None, 12),
            (sent(106, 5), 13),
            (None, 14),
            (sent(107, 6), 15),
            (None, 16),
            (None, 17),
        ];
        assert_eq!(out, expected.map(|(sent, _)| sent));
        // A frame that opens layers above it lets them in from then on.
        let opening = Description { opens: 2, ..Description::default() };
        forward.rewrite(&packet(1, 18, 1_800, false), &opening, up_to(2)).expect("of the lowest layer");
        let out = layered(&mut forward, &[((19, 1, 2, false), 2), ((20, 1, 1, false), 2)]);
        assert_eq!(out, [sent(109, 8), sent(110, 8)]);
    }

    #[test]
    fn a_picture_that_has_begun_is_sent_to_its_end() {
        let mut forward = Forward::new(0);
        let mut out = layered(&mut forward, &[((0, 1, 0, false), 2), ((1, 1, 2, false), 2)]);
        let description = Description { temporal: 2, ..Description::default() };
        for (seq_no, timestamp) in [(2, 100), (3, 300), (4, 300)] {
            let rewritten = forward.rewrite(&packet(1, seq_no, timestamp, false), &description, up_to(0));
            out.push(rewritten.map(|rewritten| (rewritten.seq_no, rewritten.left_out)));
        }
        assert_eq!(out, [Some((0, 0)), Some((1, 0)), Some((2, 0)), None, None]);
    }

    #[test]
    fn what_comes_late_among_what_was_left_out_gets_the_number_that_was_kept_for_it() {
        let mut forward = Forward::new(0);
        let pictures = [
            ((0, 1, 0, false), 0),
            // 1 is lost.
            ((2, 1, 1, false), 0),
            ((3, 1, 0, false), 0),
            ((4, 1, 1, false), 0),
            // 5 is lost.
            ((6, 1, 0, false), 0),
        ];
        let out = layered(&mut forward, &pictures);
        assert_eq!(out, [Some((0, 0)), None, Some((2, 1)), None, Some((4, 2))]);
        let late = layered(&mut forward, &[((1, 1, 0, false), 0), ((5, 1, 0, false), 0)]);
        assert_eq!(late, [Some((1, 0)), Some((3, 2))]);
        let again = layered(&mut forward, &[((2, 1, 1, false), 2), ((4, 1, 0, false), 2)]);
        assert_eq!(again, [None, None], "what was left out stays so");
    }

    #[test]
    fn what_comes_late_of_a_picture_that_was_left_out_goes_without_contents() {
        let upper = Description { temporal: 2, ..Description::default() };
        let lower = Description::default();
        // Sequence number, picture, limit; of a picture of the highest layer or of the lowest.
        let late = |limit, late: u64| {
            let mut forward = Forward::new(0);
            for (seq_no, timestamp, description) in [(0, 0, &lower), (2, 1, &upper), (4, 2, &lower)] {
                forward.rewrite(&packet(1, seq_no, timestamp, seq_no == 0), description, up_to(limit));
            }
            let rewritten = forward.rewrite(&packet(1, late, 1, false), &upper, up_to(2)).expect("its number was kept");
            (rewritten.seq_no, rewritten.is_empty)
        };
        assert_eq!([late(0, 1), late(0, 3)], [(1, true), (2, true)], "before and behind what was seen of it");
        assert_eq!([late(2, 1), late(2, 3)], [(1, false), (3, false)], "nothing was left out");
        let mut forward = Forward::new(0);
        for (seq_no, description) in [(0, &lower), (2, &lower)] {
            forward.rewrite(&packet(1, seq_no, seq_no as u32, seq_no == 0), description, up_to(2));
        }
        let whole = forward.rewrite(&packet(1, 1, 1, false), &upper, up_to(0)).expect("its number was kept");
        assert!(whole.is_empty, "none of it is sent");
    }

    #[test]
    fn what_comes_late_from_behind_what_is_remembered_gets_no_number_at_all() {
        let mut forward = Forward::new(0);
        let last = 2 * RUNS as u64 + 40;
        let picture = |seq_no: u64| ((seq_no, 1, (seq_no % 2) as u8, false), 0);
        let mut used = HashSet::new();
        // Every second picture is left out, and of the others every sixth is lost.
        let is_lost = |seq_no: &u64| seq_no % 12 == 4;
        let came: Vec<_> = (0..last).filter(|seq_no| !is_lost(seq_no)).map(picture).collect();
        used.extend(layered(&mut forward, &came).into_iter().flatten().map(|(seq_no, _)| seq_no));
        let mut late = Vec::new();
        for seq_no in (0..last).filter(is_lost) {
            if let Some((out, _)) = layered(&mut forward, &[picture(seq_no)])[0] {
                assert!(used.insert(out), "{seq_no} goes out as {out}, as another one did");
                late.push(seq_no);
            }
        }
        assert!(!late.is_empty() && late[0] > 10, "{late:?}");
    }

    /// Sends a packet, one of six, of a picture with three spatial layers; gives its number, whether it ends its
    /// picture and whether it is empty.
    fn send(forward: &mut Forward, seq_no: u64, is_key: bool, spatial: u8) -> Option<(u64, bool, bool)> {
        let (picture, place) = (seq_no / 6, seq_no % 6);
        let description =
            Description { spatial: (place / 2) as u8, ends_frame: place % 2 == 1, ..Description::default() };
        let incoming = packet(1, seq_no, picture as u32 * 3_000, is_key && place == 0);
        let rewritten = forward.rewrite(&incoming, &description, Bound { spatial, temporal: u8::MAX })?;
        Some((rewritten.seq_no, rewritten.ends_picture, rewritten.is_empty))
    }

    #[test]
    fn spatial_layers_go_with_the_next_picture_and_come_back_with_a_keyframe() {
        let mut forward = Forward::new(100);
        let mut next = 100;
        // Keyframe, the bound for its first and its last packets, the highest layer that is sent.
        let script = [
            (true, [u8::MAX, u8::MAX], 2),
            (false, [u8::MAX, 0], 2),
            (false, [0, 0], 0),
            (false, [0, 2], 0),
            (false, [u8::MAX, 1], 0),
            (true, [1, u8::MAX], 1),
            (false, [u8::MAX, u8::MAX], 1),
            (true, [u8::MAX, 0], 2),
            (false, [1, 1], 1),
            (true, [0, 2], 0),
            (true, [2, 2], 2),
            (false, [2, 2], 2),
        ];
        for (picture, (is_key, bounds, highest)) in (0..).zip(script) {
            for place in 0..6 {
                let sent = send(&mut forward, 6 * picture + place, is_key, bounds[place as usize / 3]);
                // Whose highest layer is sent because nothing bounds it has the publisher's marker.
                let is_bound = forward.spatial() < u8::MAX;
                let expected = (place < 2 * highest + 2).then(|| (next, is_bound && place == 2 * highest + 1, false));
                assert_eq!(sent, expected, "packet {place} of picture {picture}");
                next += u64::from(expected.is_some());
            }
        }
    }

    #[test]
    fn what_comes_late_of_a_picture_with_fewer_spatial_layers_fits_those_that_were_sent() {
        // What is sent up to the middle layer in picture 1, the lowest in 2, all from the keyframe 3 on.
        let bounds = [u8::MAX, 1, 0, u8::MAX, u8::MAX];
        for (late, expected) in [
            // Of a whole picture, whose own marker counts.
            (5, (5, false, false)),
            // Its first packet, the last of the middle layer, one of the upper.
            (6, (6, false, false)),
            (9, (9, true, false)),
            (10, (10, false, true)),
            // The same of the lowest, whose upper layers are in the same run as nothing else.
            (12, (10, false, false)),
            (13, (11, true, false)),
            (14, (12, false, true)),
            (17, (12, false, true)),
            (18, (12, false, false)),
            (23, (17, false, false)),
        ] {
            let mut forward = Forward::new(0);
            for seq_no in (0..30).filter(|seq_no| *seq_no != late) {
                send(&mut forward, seq_no, seq_no / 6 % 3 == 0, bounds[seq_no as usize / 6]);
            }
            assert_eq!(send(&mut forward, late, false, u8::MAX), Some(expected), "{late}");
        }
    }

    #[test]
    fn what_comes_late_from_before_many_changes_of_spatial_layers_is_empty() {
        for (changes, is_empty) in [(CHANGES as u64 - 1, false), (CHANGES as u64, false), (CHANGES as u64 + 1, true)] {
            let mut forward = Forward::new(0);
            for picture in 0..=changes {
                let bound = [u8::MAX, 1][picture as usize % 2];
                (0..6).filter(|place| (picture, *place) != (0, 2)).for_each(|place| {
                    send(&mut forward, 6 * picture + place, picture % 2 == 0, bound);
                });
            }
            assert_eq!(send(&mut forward, 2, false, 1), Some((2, false, is_empty)), "{changes}");
        }
    }

    /// One step of any story.
    #[derive(Clone, Debug)]
    enum Step {
        Pause,
        /// A packet of a source, so far from the highest of its numbers, so many milliseconds after the step before.
        Packet {
            source: usize,
            ahead: i64,
            elapsed: u64,
            layers: (u8, u8),
            can_switch_up: bool,
            can_start: bool,
            bound: Bound,
        },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let ahead = prop_oneof![8 => Just(1), 2 => 2..6_i64, 1 => -80..1_i64];
        let layers = (prop_oneof![3 => Just(0), 1 => 0..3_u8], 0..3_u8);
        let bound = (prop_oneof![3 => Just(u8::MAX), 1 => 0..3_u8], 0..3_u8);
        let bound = bound.prop_map(|(spatial, temporal)| Bound { spatial, temporal });
        let packet = (0..3_usize, ahead, 0..40_u64, layers, any::<bool>(), prop::bool::weighted(0.1), bound);
        prop_oneof![
            1 => Just(Step::Pause),
            50 => packet.prop_map(|(source, ahead, elapsed, layers, can_switch_up, can_start, bound)| {
                // Mostly of one.
                let source = source.saturating_sub(1);
                Step::Packet { source, ahead, elapsed, layers, can_switch_up, can_start, bound }
            }),
        ]
    }

    proptest! {
        #![proptest_config(inputs(2_048))]

        /// Numbers are used once and have no gap that the sources did not have; time does not go back.
        #[test]
        fn any_story_goes_out_as_one_stream(first in 0..FIRST_SEQ_NO_LIMIT, steps in vec(any_step(), 1..400)) {
            let start = Instant::now();
            let mut forward = Forward::new(first);
            // By source: the highest number, and all that came.
            let mut highest = [70_000_u64, 500];
            let mut came = HashSet::new();
            let mut used = HashSet::new();
            let mut now = start;
            let mut last_timestamp: Option<u32> = None;
            // Numbers that were skipped by what is being forwarded.
            let (mut gaps, mut running) = (0, None);
            for step in steps {
                let Step::Packet { source, ahead, elapsed, layers, can_switch_up, can_start, bound } = step else {
                    forward.pause();
                    continue;
                };
                now += Duration::from_millis(elapsed);
                let before = highest[source];
                let seq_no = before.saturating_add_signed(ahead);
                if !came.insert((source, seq_no)) {
                    continue;
                }
                let is_new = seq_no > before;
                highest[source] = before.max(seq_no);
                // A picture for each packet.
                let ticks = 90 * (now - start).as_millis() as u32;
                let timestamp = [7_u32, u32::MAX - 90_000][source].wrapping_add(ticks);
                let (spatial, temporal) = layers;
                // Decoding starts with the lowest layer.
                let incoming = packet(source as u32, seq_no, timestamp, can_start && is_new && spatial == 0);
                let incoming = Incoming { captured: now, ..incoming };
                let description = Description { spatial, temporal, can_switch_up, ..Description::default() };
                let next = forward.next_seq_no();
                let rewritten = forward.rewrite(&incoming, &description, bound);
                if rewritten.is_some_and(|rewritten| rewritten.starts) {
                    running = Some(source);
                } else if running == Some(source) && is_new && !forward.is_waiting() {
                    gaps += seq_no - before - 1;
                }
                let Some(rewritten) = rewritten else { continue };
                prop_assert!(used.insert(rewritten.seq_no), "{} twice", rewritten.seq_no);
                if rewritten.seq_no >= next {
                    let ahead = |last: u32| rewritten.timestamp.wrapping_sub(last) as i32;
                    let is_later = last_timestamp.is_none_or(|last| ahead(last) >= 0);
                    prop_assert!(is_later, "{last_timestamp:?}, then {}", rewritten.timestamp);
                    last_timestamp = Some(rewritten.timestamp);
                }
            }
            let missing = forward.next_seq_no() - u64::from(first) - used.len() as u64;
            prop_assert!(missing <= gaps, "{missing} numbers are missing, {gaps} did not come in order");
        }
    }
}
