//! The H.264 parameter sets of one SSRC. A decoder needs a sequence parameter set and a picture parameter set before
//! the IDR picture that it starts at (ITU-T H.264 section 7.4.1.2.1).
//!
//! A publisher may send them with each IDR picture, only once, in packets or at times of their own, or in SDP only (RFC
//! 6184 sections 8.1 and 8.4). So they are kept, and sent to each subscriber in a packet before its first picture.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::rtp::codec::arrival::{Arrival, Order};
use crate::media::rtp::codec::h264::{self, IDR_SLICE, PPS, SEI, SLICE, SPS, STAP_A};

/// Maximum total size in bytes of the kept sets with their lengths. Browsers' sets take 30 bytes, sets with scaling
/// matrices 300. A higher value lets each keyframe in the history take more memory; a lower one drops required sets.
pub const MAX_BYTES: usize = 400;

/// Maximum number of kept sets, and of sets read from one packet. Most encoders use two or three, some a few more. Each
/// set that is read is compared with all kept ones.
pub const SETS: usize = 16;

/// Minimum time between two changes of the preface: the history holds a copy of each version. A longer time delays
/// subscribers that start at a picture whose sets have changed twice.
const CHANGE_SPACING: Duration = Duration::from_millis(500);

/// NRI with all bits set, for an aggregate of parameter sets (RFC 6184 section 5.3).
const NRI: u8 = 0x60;

/// Type of the SEI message that lets decoding start at a picture other than an IDR picture (ITU-T H.264 annex D.1).
const RECOVERY_POINT: u8 = 6;

/// The kept sets, and the state of the current picture.
#[derive(Debug, Default)]
pub struct ParameterSets {
    /// One per type and id: the newest in sequence number order.
    sets: Vec<Set>,
    bytes: usize,
    /// All sets as one RTP payload.
    aggregate: Option<Arc<[u8]>>,
    aggregated_at: Option<Instant>,
    picture: Picture,
    /// Number of sets that were too large to be kept or were evicted.
    dropped: u64,
}

/// A parameter set.
#[derive(Debug)]
struct Set {
    /// Type and id of the set (ITU-T H.264 sections 7.3.2.1.1 and 7.3.2.2). A new set replaces the one with the same
    /// key.
    key: (u8, u32),
    unit: Box<[u8]>,
    /// Extended sequence number of the packet that last contained it; 0 if it was only signaled.
    seq_no: u64,
}

/// The packets of one timestamp.
#[derive(Debug, Default)]
struct Picture {
    timestamp: Option<u32>,
    has_sps: bool,
    has_pps: bool,
    has_recovery_point: bool,
    /// A packet is missing that may have contained a set.
    has_gap: bool,
}

/// A packet sent to a subscriber before its first packet of video.
#[derive(Clone, Debug)]
pub struct Preface {
    /// The RTP payload.
    pub payload: Arc<[u8]>,
    /// The picture itself lacks these sets. Subscribers that have already started need them too, because they may never
    /// have received them.
    pub is_missing: bool,
}

/// Whether decoding can start at a packet.
#[derive(Clone, Debug)]
pub enum Start {
    /// Decoding cannot start.
    No,
    /// Decoding can start: the packet contains all required sets.
    Alone,
    /// Decoding can start if this preface is sent before the packet.
    With(Preface),
}

impl ParameterSets {
    /// Upper bound of the heap memory in bytes, including copies held by histories that keep packets for `age`.
    pub const fn max_bytes(age: Duration) -> usize {
        let copies = 2 + (age.as_millis() / CHANGE_SPACING.as_millis()) as usize;
        copies * (MAX_BYTES + 2 * size_of::<usize>()) + MAX_BYTES + 2 * SETS * size_of::<Set>()
    }

    /// Adds signaled sets; sets received in packets replace them.
    pub fn seed<'a>(&mut self, units: impl Iterator<Item = &'a [u8]>) {
        self.take_sets(units, 0);
    }

    /// Processes a packet. Returns whether decoding can start at it.
    pub fn handle_packet(&mut self, now: Instant, timestamp: u32, payload: &[u8], arrival: Arrival) -> Start {
        let Arrival { seq_no, order } = arrival;
        if order == Order::Late {
            self.take_sets(h264::units(payload), seq_no);
            return Start::No;
        }
        if self.picture.timestamp != Some(timestamp) {
            self.picture = Picture { timestamp: Some(timestamp), ..Picture::default() };
        }
        self.picture.has_gap |= order == Order::Ahead;
        let units = h264::units(payload);
        self.picture.has_recovery_point |= units.clone().any(is_recovery_point);
        let (own_sps, own_pps) = self.take_sets(units, seq_no);
        self.picture.has_sps |= own_sps;
        self.picture.has_pps |= own_pps;
        let starts = h264::starts_picture_with(IDR_SLICE, payload)
            || self.picture.has_recovery_point && h264::starts_picture_with(SLICE, payload);
        let is_whole = self.picture.has_sps && self.picture.has_pps;
        if !starts || !is_whole && self.picture.has_gap {
            return Start::No;
        }
        if own_sps && own_pps {
            return Start::Alone;
        }
        match self.aggregate(now) {
            Some(payload) => Start::With(Preface { payload, is_missing: !is_whole }),
            None => Start::No,
        }
    }

    /// Returns the number of sets dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Keeps the sets of a packet. Returns whether it contains sequence and picture parameter sets.
    fn take_sets<'a>(&mut self, units: impl Iterator<Item = &'a [u8]>, seq_no: u64) -> (bool, bool) {
        let (mut has_sps, mut has_pps) = (false, false);
        let sets = units.filter(|unit| matches!(unit[0] & h264::TYPE, SPS | PPS));
        for (index, unit) in sets.enumerate() {
            if index < SETS {
                self.keep(unit, seq_no);
            } else {
                self.dropped += 1;
            }
            let is_sps = unit[0] & h264::TYPE == SPS;
            has_sps |= is_sps;
            has_pps |= !is_sps;
        }
        (has_sps, has_pps)
    }

    fn keep(&mut self, unit: &[u8], seq_no: u64) {
        let key = key(unit);
        let place = self.sets.iter().position(|set| set.key == key);
        if let Some(set) = place.map(|place| &mut self.sets[place]) {
            if set.seq_no > seq_no {
                return;
            }
            if *set.unit == *unit {
                set.seq_no = seq_no;
                return;
            }
        }
        if let Some(place) = place {
            // The old set is invalid even if the new one cannot be kept.
            self.remove(place);
        }
        let length = 2 + unit.len();
        if 1 + length > MAX_BYTES {
            self.dropped += 1;
            return;
        }
        while 1 + self.bytes + length > MAX_BYTES || self.sets.len() >= SETS {
            self.dropped += 1;
            // Evict a set of the same type: the only set of the other type may have been sent once and be needed as
            // long as the stream lasts.
            let is_of_kind = |set: &Set| set.key.0 == key.0;
            let has_kind = self.sets.iter().any(is_of_kind);
            let rivals = self.sets.iter().enumerate().filter(|(_, set)| !has_kind || is_of_kind(set));
            let oldest = rivals.min_by_key(|(_, set)| set.seq_no).map(|(place, set)| (place, set.seq_no));
            match oldest {
                Some((_, oldest)) if has_kind && oldest > seq_no => return,
                Some((place, _)) => self.remove(place),
                None => return,
            }
        }
        self.bytes += length;
        self.sets.push(Set { key, unit: unit.into(), seq_no });
        self.aggregate = None;
    }

    fn remove(&mut self, place: usize) {
        self.bytes -= 2 + self.sets.remove(place).unit.len();
        self.aggregate = None;
    }

    /// Returns all sets in one packet (RFC 6184 section 5.7.1); `None` if a type is missing or the last change is too
    /// recent.
    fn aggregate(&mut self, now: Instant) -> Option<Arc<[u8]>> {
        if self.aggregate.is_none() {
            let has = |kind: u8| self.sets.iter().any(|set| set.key.0 == kind);
            let is_soon = self.aggregated_at.is_some_and(|last| now < last + CHANGE_SPACING);
            if is_soon || !has(SPS) || !has(PPS) {
                return None;
            }
            let mut payload = vec![NRI | STAP_A];
            for kind in [SPS, PPS] {
                for set in self.sets.iter().filter(|set| set.key.0 == kind) {
                    payload.extend((set.unit.len() as u16).to_be_bytes());
                    payload.extend_from_slice(&set.unit);
                }
            }
            self.aggregate = Some(payload.into());
            self.aggregated_at = Some(now);
        }
        self.aggregate.clone()
    }
}

fn is_recovery_point(unit: &[u8]) -> bool {
    unit[0] & h264::TYPE == SEI && unit.get(1) == Some(&RECOVERY_POINT)
}

/// Returns type and id of a set.
fn key(unit: &[u8]) -> (u8, u32) {
    let kind = unit[0] & h264::TYPE;
    // In a sequence parameter set, profile, constraints and level precede the id.
    let bytes = unit.get(if kind == SPS { 4 } else { 1 }..).unwrap_or_default();
    (kind, exp_golomb(bytes).unwrap_or_default())
}

/// Parses an unsigned Exp-Golomb number, ue(v), of at most 16 bits (ITU-T H.264 section 9.1).
fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let head = bytes.iter().take(4).enumerate().fold(0, |head, (at, byte)| head | u32::from(*byte) << (24 - 8 * at));
    let zeros = head.leading_zeros();
    let length = 2 * zeros + 1;
    (length <= 31 && length as usize <= 8 * bytes.len()).then(|| (head >> (32 - length)) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS_0: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x80, 1];
    const SPS_0_NEW: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x80, 2];
    const SPS_1: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x40, 1];
    const PPS_0: &[u8] = &[0x68, 0x80, 1];
    const PPS_1: &[u8] = &[0x68, 0x40, 1];
    const IDR: &[u8] = &[0x7c, 0x85, 0x88];
    const DELTA: &[u8] = &[0x7c, 0x81, 0x9a];
    const TOO_LARGE: &[u8] = &{
        let mut unit = [0x80; MAX_BYTES];
        unit[0] = 0x68;
        unit
    };
    const RECOVERY: &[u8] = &[0x06, 0x06, 0x01, 0xc4, 0x80];

    fn stap(units: &[&[u8]]) -> Vec<u8> {
        let units = units.iter().map(|unit| [&(unit.len() as u16).to_be_bytes()[..], unit].concat());
        [&[0x78][..], &units.collect::<Vec<_>>().concat()].concat()
    }

    /// Returns a start as a character and the preface's payload: `-` no start, `=` no preface needed, `!` the picture
    /// lacks the preface, `+` it does not.
    fn written(start: &Start) -> (char, Vec<u8>) {
        match start {
            Start::No => ('-', Vec::new()),
            Start::Alone => ('=', Vec::new()),
            Start::With(Preface { payload, is_missing }) => (if *is_missing { '!' } else { '+' }, payload.to_vec()),
        }
    }

    /// Feeds packets as timestamp, sequence number and payload. Returns the start of each.
    fn feed(known: &mut ParameterSets, now: Instant, packets: &[(u32, u64, &[u8])]) -> Vec<Start> {
        let mut highest = None;
        let starts = packets.iter().map(|(timestamp, seq_no, payload)| {
            let arrival = Arrival::of(*seq_no, highest);
            highest = highest.max(Some(*seq_no));
            known.handle_packet(now, *timestamp, payload, arrival)
        });
        starts.collect()
    }

    /// A name; packets as timestamp, sequence number and payload; how the last one starts, and the sets in its preface.
    type Case<'a> = (&'a str, &'a [(u32, u64, &'a [u8])], char, &'a [&'a [u8]]);

    #[test]
    fn a_picture_starts_with_the_sets_received_before_it() {
        let both = &stap(&[SPS_0, PPS_0])[..];
        let cases: [Case; 22] = [
            ("no sets", &[(0, 0, IDR)], '-', &[]),
            ("one set is not enough", &[(0, 0, SPS_0), (0, 1, IDR)], '-', &[]),
            ("in one packet", &[(0, 0, &stap(&[SPS_0, PPS_0, &[0x65, 0x88]]))], '=', &[]),
            ("in the same picture", &[(0, 0, both), (0, 1, IDR)], '+', &[SPS_0, PPS_0]),
            ("in reverse order", &[(0, 0, PPS_0), (0, 1, SPS_0), (0, 2, IDR)], '+', &[SPS_0, PPS_0]),
            ("with timestamps of their own", &[(0, 0, PPS_0), (1, 1, SPS_0), (2, 2, IDR)], '!', &[SPS_0, PPS_0]),
            ("one with a timestamp of its own", &[(0, 0, PPS_0), (2, 1, SPS_0), (2, 2, IDR)], '!', &[SPS_0, PPS_0]),
            ("only once", &[(0, 0, both), (0, 1, IDR), (5, 2, DELTA), (9, 3, IDR)], '!', &[SPS_0, PPS_0]),
            ("no keyframe", &[(0, 0, both), (0, 1, DELTA)], '-', &[]),
            ("parameter sets alone", &[(0, 0, both)], '-', &[]),
            ("a recovery point", &[(0, 0, both), (3, 1, RECOVERY), (3, 2, DELTA)], '!', &[SPS_0, PPS_0]),
            ("of another picture", &[(0, 0, both), (3, 1, RECOVERY), (4, 2, DELTA)], '-', &[]),
            ("new sets may be missing", &[(0, 0, both), (9, 9, IDR)], '-', &[]),
            ("no new sets are missing", &[(0, 0, both), (9, 8, both), (9, 9, IDR)], '+', &[SPS_0, PPS_0]),
            ("late sets", &[(0, 2, DELTA), (0, 1, both), (9, 3, IDR)], '!', &[SPS_0, PPS_0]),
            ("a late keyframe", &[(0, 5, both), (9, 4, IDR)], '-', &[]),
            (
                "a late set that is new",
                &[(0, 0, both), (5, 3, DELTA), (5, 2, SPS_0_NEW), (9, 4, IDR)],
                '!',
                &[SPS_0_NEW, PPS_0],
            ),
            (
                "a late set that is old",
                &[(0, 0, both), (5, 3, SPS_0_NEW), (5, 2, SPS_0), (9, 4, IDR)],
                '!',
                &[SPS_0_NEW, PPS_0],
            ),
            (
                "a late set that was reverted since",
                &[(0, 0, both), (5, 3, SPS_0), (5, 2, SPS_0_NEW), (9, 4, IDR)],
                '!',
                &[SPS_0, PPS_0],
            ),
            (
                "a late set with another id",
                &[(0, 0, both), (5, 3, SPS_0_NEW), (5, 2, SPS_1), (9, 4, IDR)],
                '!',
                &[SPS_0_NEW, SPS_1, PPS_0],
            ),
            ("one that is too large", &[(0, 0, both), (5, 1, TOO_LARGE), (9, 2, IDR)], '-', &[]),
            (
                "several",
                &[(0, 0, &stap(&[PPS_1, SPS_1, PPS_0])), (0, 1, SPS_0), (1, 2, SPS_1), (9, 3, IDR)],
                '!',
                &[SPS_1, SPS_0, PPS_1, PPS_0],
            ),
        ];
        for (name, packets, expected, sets) in cases {
            let starts = feed(&mut ParameterSets::default(), Instant::now(), packets);
            let payload = if sets.is_empty() { Vec::new() } else { stap(sets) };
            assert_eq!(written(starts.last().expect("each case has packets")), (expected, payload), "{name}");
        }
    }

    #[test]
    fn received_sets_replace_signaled_ones() {
        let now = Instant::now();
        let mut known = ParameterSets::default();
        known.seed([SPS_0, PPS_0, &[0x41, 0x9a]].into_iter());
        let starts = feed(&mut known, now, &[(0, 5, IDR)]);
        assert_eq!(written(&starts[0]), ('!', stap(&[SPS_0, PPS_0])));
        let later = now + CHANGE_SPACING;
        feed(&mut known, later, &[(1, 6, SPS_0_NEW)]);
        known.seed([SPS_0].into_iter());
        let starts = feed(&mut known, later, &[(2, 7, IDR)]);
        assert_eq!(written(&starts[0]), ('!', stap(&[SPS_0_NEW, PPS_0])));
    }

    #[test]
    fn kept_sets_and_prefaces_are_limited_and_dropped_sets_are_counted() {
        let start = Instant::now();
        let mut known = ParameterSets::default();
        feed(&mut known, start, &[(0, 0, &stap(&[SPS_0, PPS_0]))]);
        let mut copies = Vec::new();
        for number in 0..2_000_u32 {
            let now = start + Duration::from_millis(u64::from(number));
            let set = [&[0x68, 0x80][..], &number.to_be_bytes(), &vec![1; number as usize % 700]].concat();
            let sps = &SPS_0[..6 - number as usize % 3];
            let first = 1 + 3 * u64::from(number);
            let packets = [(number, first, &set[..]), (number, first + 1, sps), (number, first + 2, IDR)];
            if let Some(Start::With(preface)) = feed(&mut known, now, &packets).pop() {
                assert!(preface.payload.len() <= MAX_BYTES, "{} bytes", preface.payload.len());
                if copies.last().is_none_or(|last| !Arc::ptr_eq(last, &preface.payload)) {
                    copies.push(preface.payload);
                }
            }
            let bytes: usize = known.sets.iter().map(|set| 2 + set.unit.len()).sum();
            assert!(known.bytes == bytes && bytes < MAX_BYTES && known.sets.len() <= SETS);
        }
        assert!((3..=5).contains(&copies.len()), "{} copies in 2 s", copies.len());
        assert!(known.take_dropped() > 400 && known.take_dropped() == 0);
    }

    #[test]
    fn a_full_store_evicts_its_oldest_set_only_for_a_newer_one() {
        let set = |id: u8| [0x68, 0x01, 0x80 | id << 1, 1];
        let kept = |known: &ParameterSets| known.sets.iter().map(|set| set.seq_no).collect::<Vec<_>>();
        let mut known = ParameterSets::default();
        for id in 0..SETS as u8 {
            feed(&mut known, Instant::now(), &[(0, 100 + u64::from(id), &set(id))]);
        }
        // The set was repeated, so others are older.
        feed(&mut known, Instant::now(), &[(0, 200, &set(0))]);
        feed(&mut known, Instant::now(), &[(0, 201, &set(16))]);
        assert!(kept(&known).contains(&200) && !kept(&known).contains(&101), "{:?}", kept(&known));
        let before = kept(&known);
        feed(&mut known, Instant::now(), &[(0, 202, DELTA), (0, 50, &set(17))]);
        assert_eq!(kept(&known), before);
        assert_eq!(known.take_dropped(), 2);
    }

    #[test]
    fn the_number_of_sets_read_from_one_packet_is_limited() {
        let sets: Vec<[u8; 4]> = (0..60).map(|id| [0x68, 0x01, 0x80 | id << 1, 1]).collect();
        let units: Vec<&[u8]> = sets.iter().map(|set| &set[..]).collect();
        let mut known = ParameterSets::default();
        feed(&mut known, Instant::now(), &[(0, 0, &stap(&units))]);
        assert_eq!(known.sets.iter().map(|set| &*set.unit).collect::<Vec<_>>(), units[..SETS]);
        assert_eq!(known.take_dropped(), 60 - SETS as u64);
    }

    #[test]
    fn exp_golomb_numbers_are_parsed_if_complete() {
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
