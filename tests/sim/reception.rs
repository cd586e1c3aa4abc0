//! What one browser received: a check of every packet against its neighbours, and a decoder that knows which
//! pictures could be shown.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use str0m::rtp::RtpPacket;

use crate::media::{PictureIds, Source, Stamp, is_marked, timestamp_step};

/// How long a decoder waits for the repair of a packet before it asks for a keyframe, as browsers do: about two
/// retransmissions on a good path.
const REPAIR: Duration = Duration::from_millis(400);

/// Time between two keyframe requests of one decoder.
const REQUEST_SPACING: Duration = Duration::from_millis(300);

/// Packets of one SSRC that are kept as neighbours of later ones; more than any repair takes.
const NEIGHBOURS: usize = 600;

/// RTP time that may be added or taken where a line goes on with another stream.
#[derive(Clone, Copy, Debug)]
pub struct Drift {
    pub most: u32,
    /// Also where the layer is the same and nothing is missing: publishers change their SSRCs.
    pub anywhere: bool,
}

impl Drift {
    /// 100 ms at switches of layers, since the layers' clocks are only known by when their packets arrive and by sender
    /// reports.
    pub const USUAL: Self = Self { most: 9_000, anywhere: false };
}

/// RTP time by which a line may go back against a publisher who comes back to it: the server believes a report for so
/// long after the publisher paused.
const PAUSE_DRIFT: u32 = 90_000;

/// Pictures that are remembered as decoded: more than any reference reaches.
const REFERENCES: usize = 16;

/// How far apart the pictures of two SSRCs are counted, so that they never mix.
const NEXT_STREAM: u64 = 1 << 20;

/// Bytes that a packet has on the wire beside its payload, about: IP, UDP, RTP with extensions, and the tag.
const WIRE_OVERHEAD: usize = 76;

/// One received SSRC.
#[derive(Default)]
pub struct Stream {
    /// The lowest extended sequence number.
    pub first: u64,
    /// The highest.
    pub last: u64,
    pub packets: u64,
    /// The packet with the lowest number.
    pub first_stamp: Option<Stamp>,
    neighbours: BTreeMap<u64, Note>,
    /// The layer of the last packet, and what it is a layer of.
    layer: u8,
    of: Option<(u32, Source)>,
    /// When the first frame would have been, in RTP time, since each change of layers.
    timestamp_bases: BTreeMap<(u32, Source), Vec<(u8, u32)>>,
}

struct Note {
    stamp: Stamp,
    ids: PictureIds,
}

impl Stream {
    /// Looks at one packet; panics if it does not fit its neighbours.
    pub fn handle_packet(
        &mut self,
        packet: &RtpPacket,
        stamp: Stamp,
        ids: PictureIds,
        interval: Duration,
        allowed: Drift,
    ) {
        let seq_no = *packet.seq_no;
        if self.packets == 0 {
            // It starts below 2^15 (see `tap`); the first packets may be lost.
            assert!(seq_no < 1 << 16, "an SSRC starts with a rollover counter of 0: it is not signaled");
            (self.first, self.last) = (seq_no, seq_no);
        }
        if self.first >= seq_no {
            self.first = seq_no;
            self.first_stamp = Some(stamp);
        }
        self.last = self.last.max(seq_no);
        self.packets += 1;
        assert_eq!(packet.header.marker, is_marked(&stamp), "marker of {stamp:?}");
        let step = timestamp_step(stamp.source, interval).wrapping_mul(stamp.frame);
        let base = packet.header.timestamp.wrapping_sub(step);
        // All of the layer between may be what is missing.
        let is_missing = self.missing() > 0;
        let bases = self.timestamp_bases.entry((stamp.publisher, stamp.source)).or_default();
        if !bases.contains(&(stamp.layer, base)) {
            let others = self.of != Some((stamp.publisher, stamp.source));
            let is_switch = bases.last().is_none_or(|(_, last)| {
                let drift = base.wrapping_sub(*last) as i32;
                let is_near = drift.unsigned_abs() <= allowed.most;
                // The simulated publisher's clock stands still while it sends nothing, and the line's goes on: by how much
                // is known within a second until the next report.
                let is_later = drift > -(PAUSE_DRIFT as i32);
                (self.layer != stamp.layer || is_missing || allowed.anywhere) && is_near
                    || (others || allowed.anywhere) && is_later
            });
            assert!(is_switch, "the timestamp of {stamp:?} does not advance as it was sent: {base}, {bases:?}");
            bases.push((stamp.layer, base));
        }
        if seq_no == self.last {
            (self.layer, self.of) = (stamp.layer, Some((stamp.publisher, stamp.source)));
        }
        if let Some(before) = seq_no.checked_sub(1).and_then(|before| self.neighbours.get(&before)) {
            check_neighbours(before, &Note { stamp, ids });
        }
        if let Some(after) = self.neighbours.get(&(seq_no + 1)) {
            check_neighbours(&Note { stamp, ids }, after);
        }
        assert!(self.neighbours.insert(seq_no, Note { stamp, ids }).is_none(), "sequence number {seq_no} twice");
        if self.neighbours.len() > NEIGHBOURS {
            self.neighbours.pop_first();
        }
    }

    /// A packet without contents: its number is taken, and nothing is missing there.
    pub fn handle_empty(&mut self, seq_no: u64) {
        assert!(self.packets > 0, "nothing to begin with");
        assert!(!self.neighbours.contains_key(&seq_no), "sequence number {seq_no} twice");
        self.last = self.last.max(seq_no);
        self.packets += 1;
    }

    /// What its latest packet is of.
    pub fn carries(&self) -> Option<(u32, Source)> {
        self.of
    }

    /// Sequence numbers between first and last that never came.
    pub fn missing(&self) -> u64 {
        match self.packets {
            0 => 0,
            packets => self.last - self.first + 1 - packets,
        }
    }
}

/// Two packets with consecutive sequence numbers are consecutive packets of one publication, or the second begins
/// another; and their picture ids say so too.
fn check_neighbours(before: &Note, after: &Note) {
    let (a, b) = (&before.stamp, &after.stamp);
    assert_eq!(a.source.is_audio(), b.source.is_audio(), "one SSRC carries one kind");
    let is_exchange = (a.publisher, a.source) != (b.publisher, b.source);
    if a.source.is_audio() {
        if is_exchange {
            return;
        }
        // Sound that is held back in a large room leaves no gap in the numbers.
        return assert!(b.frame > a.frame, "{a:?} before {b:?}");
    }
    let picture_step = (after.ids.picture_id.wrapping_sub(before.ids.picture_id)) & 0x7fff;
    let tl0_step = after.ids.tl0_pic_idx.wrapping_sub(before.ids.tl0_pic_idx);
    if !is_exchange && (b.layer, b.frame, b.index) == (a.layer, a.frame, a.index + 1) {
        return assert_eq!((picture_step, tl0_step), (0, 0), "ids within a picture: {a:?}, {b:?}");
    }
    // What is held back leaves no gap: all until a keyframe, which may be of another layer, or pictures of upper temporal
    // layers. What is decoded from the picture just before it can't be what is left when that was held back.
    let is_start = b.index == 0;
    let is_later = is_exchange || b.layer != a.layer || b.frame > a.frame;
    let is_restart = is_later && is_start && b.keyframe;
    let is_same_layer = !is_exchange && is_later && is_start && b.layer == a.layer && a.index + 1 == a.count;
    let is_next = is_same_layer && (b.frame == a.frame + 1 || b.reference > 1);
    assert!(is_restart || is_next, "consecutive numbers for packets that are not: {a:?}, {b:?}");
    let steps = (1, u8::from(b.temporal == 0));
    assert_eq!((picture_step, tl0_step), steps, "a receiver takes a gap in the ids for a loss: {a:?}, {b:?}");
}

/// What came of one publication, whatever lines it came on.
pub struct Watched {
    /// The SSRC on which the last packet came.
    pub ssrc: u32,
    /// Packets, no two alike.
    pub packets: u64,
    /// When the first picture could be shown, or the first sound played.
    pub first_shown_at: Option<Instant>,
    pub last_shown_at: Option<Instant>,
    /// Pictures shown, or audio packets.
    pub shown: u64,
    /// The longest time between two of them.
    pub longest_gap: Duration,
    /// Since when pictures of which layer were shown.
    pub layers: Vec<(Instant, u8)>,
    /// Pictures shown, by temporal layer.
    pub temporal: [u64; 3],
    /// What was shown or played, and when.
    pub seen: Vec<(Instant, Stamp)>,
    /// Packets as they came, with their bytes on the wire, about.
    pub came: Vec<(Instant, usize)>,
    /// The decoder's requests.
    pub keyframe_requests: u32,
    is_audio: bool,
    next_picture: Option<u64>,
    /// By their picture ids, extended.
    pictures: BTreeMap<u64, Assembly>,
    /// By SSRC: the picture id that came last, and what it was extended to.
    extended: BTreeMap<u32, (u16, u64)>,
    /// Layer and frame of the last pictures that were shown.
    decoded: VecDeque<(u8, u32)>,
    blocked_since: Instant,
    requested_at: Option<Instant>,
}

struct Assembly {
    have: u64,
    stamp: Stamp,
}

impl Assembly {
    fn is_complete(&self) -> bool {
        self.have == (1 << self.stamp.count) - 1
    }
}

impl Watched {
    pub fn new(now: Instant, is_audio: bool) -> Self {
        Self {
            ssrc: 0,
            packets: 0,
            first_shown_at: None,
            last_shown_at: None,
            shown: 0,
            longest_gap: Duration::ZERO,
            layers: Vec::new(),
            temporal: [0; 3],
            seen: Vec::new(),
            came: Vec::new(),
            keyframe_requests: 0,
            is_audio,
            next_picture: None,
            pictures: BTreeMap::new(),
            extended: BTreeMap::new(),
            decoded: VecDeque::new(),
            blocked_since: now,
            requested_at: None,
        }
    }

    pub fn handle_packet(&mut self, now: Instant, packet: &RtpPacket, stamp: &Stamp, ids: PictureIds) {
        let ssrc = *packet.header.ssrc;
        if self.ssrc != ssrc && stamp.keyframe && stamp.index == 0 && self.extended.remove(&ssrc).is_some() {
            // Back on a line on which it was before: what was on another is over.
            self.cut(now);
        }
        self.ssrc = ssrc;
        self.packets += 1;
        self.came.push((now, packet.payload.len() + WIRE_OVERHEAD));
        if self.is_audio {
            return self.show(now, stamp);
        }
        let picture = self.extend(ssrc, ids.picture_id);
        if self.next_picture.is_some_and(|next| picture < next) {
            return;
        }
        let assembly = self.pictures.entry(picture).or_insert(Assembly { have: 0, stamp: *stamp });
        assert_eq!(assembly.have >> stamp.index & 1, 0, "{stamp:?} came twice");
        let whose = |stamp: &Stamp| (stamp.layer, stamp.frame);
        assert_eq!(whose(&assembly.stamp), whose(stamp), "one picture id for two pictures");
        assembly.have |= 1 << stamp.index;
        while let Some(picture) = self.next_showable() {
            let later = self.pictures.split_off(&(picture + 1));
            let (_, shown) = std::mem::replace(&mut self.pictures, later).pop_last().expect("it was found");
            self.next_picture = Some(picture + 1);
            self.blocked_since = now;
            self.decode(now, &shown.stamp);
            self.show(now, &shown.stamp);
        }
    }

    /// The line on which it came carries something else: what is not complete will not be.
    pub fn cut(&mut self, now: Instant) {
        self.pictures.clear();
        (self.next_picture, self.blocked_since) = (None, now);
    }

    /// Whether to ask for a keyframe now: there is no picture yet, or a packet is not coming.
    pub fn wants_keyframe(&mut self, now: Instant) -> bool {
        let due = self.keyframe_request_at().is_some_and(|at| at <= now);
        if due {
            self.requested_at = Some(now);
            self.keyframe_requests += 1;
        }
        due
    }

    /// When `wants_keyframe` may say yes.
    pub fn keyframe_request_at(&self) -> Option<Instant> {
        let is_blocked = !self.is_audio && !self.pictures.is_empty();
        let patience = self.blocked_since + REPAIR;
        let spaced = self.requested_at.map_or(patience, |last| last + REQUEST_SPACING);
        is_blocked.then(|| patience.max(spaced))
    }

    fn next_showable(&self) -> Option<u64> {
        let next = self.next_picture.filter(|next| self.pictures.get(next).is_some_and(Assembly::is_complete));
        let keyframe = || self.pictures.iter().find(|(_, picture)| picture.stamp.keyframe && picture.is_complete());
        next.or_else(|| keyframe().map(|(picture, _)| *picture))
    }

    /// Picture ids go round, and those of another SSRC have nothing to do with these.
    fn extend(&mut self, ssrc: u32, picture_id: u16) -> u64 {
        let highest = self.extended.values().map(|(_, extended)| *extended).max().unwrap_or(0);
        let (last, extended) = *self.extended.entry(ssrc).or_insert((picture_id, highest + NEXT_STREAM));
        let ahead = (picture_id.wrapping_sub(last) << 1) as i16 >> 1;
        let picture = extended.checked_add_signed(ahead.into()).expect("far from zero");
        self.extended.insert(ssrc, (picture_id, picture));
        picture
    }

    /// The ids say that nothing is missing: then what the picture is decoded from has to be there.
    fn decode(&mut self, now: Instant, stamp: &Stamp) {
        let reference = (stamp.layer, stamp.frame.wrapping_sub(stamp.reference.into()));
        assert!(stamp.keyframe || self.decoded.contains(&reference), "{stamp:?} without what it is decoded from");
        self.decoded.push_back((stamp.layer, stamp.frame));
        if self.decoded.len() > REFERENCES {
            self.decoded.pop_front();
        }
        self.temporal[usize::from(stamp.temporal)] += 1;
        if self.layers.last().is_none_or(|(_, layer)| *layer != stamp.layer) {
            self.layers.push((now, stamp.layer));
        }
    }

    fn show(&mut self, now: Instant, stamp: &Stamp) {
        self.shown += 1;
        self.seen.push((now, *stamp));
        self.first_shown_at.get_or_insert(now);
        if let Some(last) = self.last_shown_at.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
    }
}
