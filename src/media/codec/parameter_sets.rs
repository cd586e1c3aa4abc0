//! H.264 parameter sets of one SSRC: a decoder needs a sequence and a picture parameter set before the IDR picture that it
//! starts with (ITU-T H.264 section 7.4.1.2.1).
//!
//! A publisher may send them with each IDR picture, once, in packets or at times of their own, or in SDP only (RFC 6184
//! sections 8.1 and 8.4). So they are kept, and each subscriber gets them in a packet in front of the picture that it
//! starts with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::codec::h264::{self, IDR_SLICE, PPS, SEI, SLICE, SPS, STAP_A};

/// Bytes of all sets that are kept, with their lengths. Browsers' take 30, sets with scaling matrices 300. More lets each
/// keyframe in the history take more memory; fewer drops sets that are needed.
pub const MAX_BYTES: usize = 400;

/// Sets that are kept. Encoders have two or three, and some number a few more.
pub const SETS: usize = 16;

/// Least time between two changes of what goes in front of keyframes: the history holds a copy of each. Longer lets those
/// wait who start at a picture whose sets have changed twice.
const CHANGE_SPACING: Duration = Duration::from_millis(500);

/// NRI of all bits, for an aggregate of parameter sets (RFC 6184 section 5.3).
const NRI: u8 = 0x60;

/// The payload of an SEI message that lets decoding start at a picture that is no IDR picture (ITU-T H.264 annex D.1).
const RECOVERY_POINT: u8 = 6;

/// The sets that are kept, and what came of the present picture.
#[derive(Debug, Default)]
pub struct ParameterSets {
    /// The oldest first; one for each type and id.
    units: Vec<Box<[u8]>>,
    bytes: usize,
    /// All of them as one RTP payload.
    aggregate: Option<Arc<[u8]>>,
    aggregated_at: Option<Instant>,
    picture: Picture,
    /// Sets that were too large to be kept, or made room for others.
    dropped: u64,
}

/// Packets of one timestamp.
#[derive(Debug, Default)]
struct Picture {
    timestamp: Option<u32>,
    has_sps: bool,
    has_pps: bool,
    has_recovery_point: bool,
    /// A packet is missing that may have brought a set.
    has_gap: bool,
}

/// What a subscriber gets in front of the packet that it starts with.
#[derive(Clone, Debug)]
pub struct Preface {
    /// An RTP payload.
    pub payload: Arc<[u8]>,
    /// The picture itself lacks it: those who have started already need it too, since nothing says that they have got it.
    pub is_missing: bool,
}

/// Where a packet's number is among those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one after the highest, or the first of all.
    Next,
    /// Above that: packets are missing.
    Ahead,
    /// Below it.
    Late,
}

/// Whether decoding can start with a packet.
#[derive(Clone, Debug)]
pub enum Start {
    /// It can't.
    No,
    /// It can: the packet brings what is needed.
    Alone,
    /// It can with this in front.
    With(Preface),
}

impl Order {
    /// Of an extended sequence number, where `highest` is the highest that came.
    pub fn of(seq_no: u64, highest: Option<u64>) -> Self {
        match highest {
            Some(highest) if seq_no <= highest => Self::Late,
            Some(highest) if seq_no > highest + 1 => Self::Ahead,
            _ => Self::Next,
        }
    }
}

impl ParameterSets {
    /// The most that they take beside themselves, with the copies in histories that keep packets for `age`.
    pub const fn max_bytes(age: Duration) -> usize {
        let copies = 2 + (age.as_millis() / CHANGE_SPACING.as_millis()) as usize;
        copies * (MAX_BYTES + 2 * size_of::<usize>()) + MAX_BYTES + 2 * SETS * size_of::<Box<[u8]>>()
    }

    /// Takes sets that were signaled, below those that came.
    pub fn seed<'a>(&mut self, units: impl Iterator<Item = &'a [u8]>) {
        for unit in units.filter(|unit| matches!(unit[0] & h264::TYPE, SPS | PPS)) {
            if !self.units.iter().any(|kept| key(kept) == key(unit)) {
                self.keep(unit);
            }
        }
    }

    /// Takes a packet.
    pub fn handle_packet(&mut self, now: Instant, timestamp: u32, payload: &[u8], order: Order) -> Start {
        if order == Order::Late {
            // Late sets are better than none.
            self.seed(h264::units(payload));
            return Start::No;
        }
        if self.picture.timestamp != Some(timestamp) {
            self.picture = Picture { timestamp: Some(timestamp), ..Picture::default() };
        }
        self.picture.has_gap |= order == Order::Ahead;
        let (mut own_sps, mut own_pps) = (false, false);
        for unit in h264::units(payload) {
            match unit[0] & h264::TYPE {
                SPS => {
                    own_sps = true;
                    self.keep(unit);
                }
                PPS => {
                    own_pps = true;
                    self.keep(unit);
                }
                SEI => self.picture.has_recovery_point |= unit.get(1) == Some(&RECOVERY_POINT),
                _ => {}
            }
        }
        self.picture.has_sps |= own_sps;
        self.picture.has_pps |= own_pps;
        let starts = h264::starts_picture_with(IDR_SLICE, payload)
            || self.picture.has_recovery_point && h264::starts_picture_with(SLICE, payload);
        let is_whole = self.picture.has_sps && self.picture.has_pps;
        match starts && (is_whole || !self.picture.has_gap) {
            false => Start::No,
            true if own_sps && own_pps => Start::Alone,
            true => match self.aggregate(now) {
                Some(payload) => Start::With(Preface { payload, is_missing: !is_whole }),
                None => Start::No,
            },
        }
    }

    /// Sets that were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn keep(&mut self, unit: &[u8]) {
        let place = self.units.iter().position(|kept| key(kept) == key(unit));
        if place.is_some_and(|place| *self.units[place] == *unit) {
            return;
        }
        let length = |unit: &[u8]| 2 + unit.len();
        if 1 + length(unit) > MAX_BYTES {
            self.dropped += 1;
            return;
        }
        if let Some(place) = place {
            self.bytes -= length(&self.units.remove(place));
        }
        while 1 + self.bytes + length(unit) > MAX_BYTES || self.units.len() >= SETS {
            // A set of the other type may have come once, and be needed for ever.
            let kind = unit[0] & h264::TYPE;
            let oldest = self.units.iter().position(|kept| kept[0] & h264::TYPE == kind).unwrap_or_default();
            self.bytes -= length(&self.units.remove(oldest));
            self.dropped += 1;
        }
        self.bytes += length(unit);
        self.units.push(unit.into());
        self.aggregate = None;
    }

    /// All sets in one packet (RFC 6184 section 5.7.1); none without one of each type, or too soon after a change.
    fn aggregate(&mut self, now: Instant) -> Option<Arc<[u8]>> {
        if self.aggregate.is_none() {
            let has = |kind: u8| self.units.iter().any(|unit| unit[0] & h264::TYPE == kind);
            let is_soon = self.aggregated_at.is_some_and(|last| now < last + CHANGE_SPACING);
            if is_soon || !has(SPS) || !has(PPS) {
                return None;
            }
            let mut payload = vec![NRI | STAP_A];
            for kind in [SPS, PPS] {
                for unit in self.units.iter().filter(|unit| unit[0] & h264::TYPE == kind) {
                    payload.extend((unit.len() as u16).to_be_bytes());
                    payload.extend_from_slice(unit);
                }
            }
            self.aggregate = Some(payload.into());
            self.aggregated_at = Some(now);
        }
        self.aggregate.clone()
    }
}

/// What a set replaces another by: its type and its id (ITU-T H.264 sections 7.3.2.1.1 and 7.3.2.2).
fn key(unit: &[u8]) -> (u8, u32) {
    let kind = unit[0] & h264::TYPE;
    // Profile, constraints and level come before a sequence parameter set's.
    let bytes = unit.get(if kind == SPS { 4 } else { 1 }..).unwrap_or_default();
    (kind, exp_golomb(bytes).unwrap_or_default())
}

/// ue(v), ITU-T H.264 section 9.1, of up to 16 bits.
fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let head = bytes.iter().take(4).enumerate().fold(0, |head, (at, byte)| head | u32::from(*byte) << (24 - 8 * at));
    let zeros = head.leading_zeros();
    let length = 2 * zeros + 1;
    (length <= 31 && length as usize <= 8 * bytes.len()).then(|| (head >> (32 - length)) - 1)
}

#[cfg(test)]
mod tests {
    use Order::{Ahead, Late, Next};

    use super::*;

    const SPS_0: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x80, 1];
    const SPS_1: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x40, 1];
    const PPS_0: &[u8] = &[0x68, 0x80, 1];
    const PPS_1: &[u8] = &[0x68, 0x40, 1];
    const IDR: &[u8] = &[0x7c, 0x85, 0x88];
    const DELTA: &[u8] = &[0x7c, 0x81, 0x9a];
    const RECOVERY: &[u8] = &[0x06, 0x06, 0x01, 0xc4, 0x80];

    fn stap(units: &[&[u8]]) -> Vec<u8> {
        let units = units.iter().map(|unit| [&(unit.len() as u16).to_be_bytes()[..], unit].concat());
        [&[0x78][..], &units.collect::<Vec<_>>().concat()].concat()
    }

    /// What a start is: `-` for none, `=` for one that needs nothing, else whether the picture lacks the preface, and its
    /// payload.
    fn written(start: &Start) -> (char, Vec<u8>) {
        match start {
            Start::No => ('-', Vec::new()),
            Start::Alone => ('=', Vec::new()),
            Start::With(Preface { payload, is_missing }) => (if *is_missing { '!' } else { '+' }, payload.to_vec()),
        }
    }

    /// A name; packets as timestamp, order and payload; how the last one starts, and with which sets in front.
    type Case<'a> = (&'a str, &'a [(u32, Order, &'a [u8])], char, &'a [&'a [u8]]);

    #[test]
    fn a_picture_starts_with_the_sets_that_came_before_it() {
        let both = &stap(&[SPS_0, PPS_0])[..];
        let cases: [Case; 17] = [
            ("nothing is known", &[(0, Next, IDR)], '-', &[]),
            ("one set is not enough", &[(0, Next, SPS_0), (0, Next, IDR)], '-', &[]),
            ("in one packet", &[(0, Next, &stap(&[SPS_0, PPS_0, &[0x65, 0x88]]))], '=', &[]),
            ("in the same picture", &[(0, Next, both), (0, Next, IDR)], '+', &[SPS_0, PPS_0]),
            ("the last first", &[(0, Next, PPS_0), (0, Next, SPS_0), (0, Next, IDR)], '+', &[SPS_0, PPS_0]),
            ("at their own time", &[(0, Next, PPS_0), (1, Next, SPS_0), (2, Next, IDR)], '!', &[SPS_0, PPS_0]),
            ("one of them", &[(0, Next, PPS_0), (2, Next, SPS_0), (2, Next, IDR)], '!', &[SPS_0, PPS_0]),
            ("once", &[(0, Next, both), (0, Next, IDR), (5, Next, DELTA), (9, Next, IDR)], '!', &[SPS_0, PPS_0]),
            ("no keyframe", &[(0, Next, both), (0, Next, DELTA)], '-', &[]),
            ("parameter sets alone", &[(0, Next, both)], '-', &[]),
            ("a recovery point", &[(0, Next, both), (3, Next, RECOVERY), (3, Next, DELTA)], '!', &[SPS_0, PPS_0]),
            ("of another picture", &[(0, Next, both), (3, Next, RECOVERY), (4, Next, DELTA)], '-', &[]),
            ("new sets may be missing", &[(0, Next, both), (9, Ahead, IDR)], '-', &[]),
            ("they are not", &[(0, Next, both), (9, Ahead, both), (9, Next, IDR)], '+', &[SPS_0, PPS_0]),
            ("late sets", &[(0, Next, DELTA), (0, Late, both), (9, Next, IDR)], '!', &[SPS_0, PPS_0]),
            ("a late keyframe", &[(0, Next, both), (9, Late, IDR)], '-', &[]),
            (
                "several",
                &[(0, Next, &stap(&[PPS_1, SPS_1, PPS_0])), (0, Next, SPS_0), (1, Next, SPS_1), (9, Next, IDR)],
                '!',
                &[SPS_1, SPS_0, PPS_1, PPS_0],
            ),
        ];
        for (name, packets, expected, sets) in cases {
            let mut known = ParameterSets::default();
            let now = Instant::now();
            let starts = packets.iter().map(|(time, order, payload)| known.handle_packet(now, *time, payload, *order));
            let last = starts.last().expect("there are some");
            let payload = if sets.is_empty() { Vec::new() } else { stap(sets) };
            assert_eq!(written(&last), (expected, payload), "{name}");
        }
    }

    #[test]
    fn signaled_sets_are_below_those_that_came() {
        let now = Instant::now();
        let mut known = ParameterSets::default();
        known.seed([SPS_0, PPS_0, &[0x41, 0x9a]].into_iter());
        let start = known.handle_packet(now, 0, IDR, Next);
        assert_eq!(written(&start), ('!', stap(&[SPS_0, PPS_0])));
        let other: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x80, 2];
        let later = now + CHANGE_SPACING;
        known.handle_packet(later, 1, other, Next);
        known.seed([SPS_0].into_iter());
        let start = known.handle_packet(later, 2, IDR, Next);
        assert_eq!(written(&start), ('!', stap(&[other, PPS_0])));
    }

    #[test]
    fn however_many_come_no_more_are_kept_and_sent_than_fit_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut known = ParameterSets::default();
        known.handle_packet(start, 0, &stap(&[SPS_0, PPS_0]), Next);
        let mut copies = Vec::new();
        for number in 0..2_000_u32 {
            let now = start + Duration::from_millis(u64::from(number));
            let set = [&[0x68, 0x80][..], &number.to_be_bytes(), &vec![1; number as usize % 700]].concat();
            known.handle_packet(now, number, &set, Next);
            known.handle_packet(now, number, &SPS_0[..6 - number as usize % 3], Next);
            if let Start::With(preface) = known.handle_packet(now, number, IDR, Next) {
                assert!(preface.payload.len() <= MAX_BYTES, "{} bytes", preface.payload.len());
                if copies.last().is_none_or(|last| !Arc::ptr_eq(last, &preface.payload)) {
                    copies.push(preface.payload);
                }
            }
            let bytes: usize = known.units.iter().map(|unit| 2 + unit.len()).sum();
            assert!(known.bytes == bytes && bytes < MAX_BYTES && known.units.len() <= SETS);
        }
        assert!((3..=5).contains(&copies.len()), "{} copies in 2 s", copies.len());
        assert!(known.take_dropped() > 400 && known.take_dropped() == 0);
    }

    #[test]
    fn ids_are_read_as_far_as_they_are_there() {
        for (bytes, expected) in [
            (&[0x80][..], Some(0)),
            (&[0x40], Some(1)),
            (&[0x60], Some(2)),
            (&[0x20], Some(3)),
            (&[0x00, 0x80, 0x80], Some(256)),
            (&[0x00], None),
            (&[0x01], None),
            (&[0, 0, 0, 1], None),
            (&[], None),
        ] {
            assert_eq!(exp_golomb(bytes), expected, "{bytes:x?}");
        }
    }
}
