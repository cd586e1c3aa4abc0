//! The receiving side of one browser: checks every packet against its neighbours, and models a decoder that knows which
//! pictures can be shown.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use str0m::rtp::RtpPacket;

use crate::media::{PictureIds, Source, Stamp, is_marked, timestamp_step};

/// How long a decoder waits for a retransmission before it requests a keyframe: about two retransmissions on a good
/// path, as in browsers.
const REPAIR: Duration = Duration::from_millis(400);

/// Time between two keyframe requests of one decoder.
const REQUEST_SPACING: Duration = Duration::from_millis(300);

/// Packets of one SSRC that are kept for comparison with later ones: more than any retransmission lags behind.
const NEIGHBOURS: usize = 600;

/// RTP time that may be added or skipped where an m-line continues with another stream.
#[derive(Clone, Copy, Debug)]
pub struct Drift {
    pub most: u32,
    /// Jumps are also allowed within a layer without packet loss, because publishers change their SSRCs.
    pub anywhere: bool,
}

impl Drift {
    /// 100 ms, at switches of layers only: the server knows the layers' clocks only from arrival times and sender
    /// reports.
    pub const USUAL: Self = Self { most: 9_000, anywhere: false };
}

/// RTP time by which an m-line may go back when its publisher returns after a pause: the server keeps using the last
/// sender report for that long.
const PAUSE_DRIFT: u32 = 90_000;

/// Pictures that are remembered as decoded: more than any reference reaches back.
const REFERENCES: usize = 16;

/// Distance between the extended picture ids of two SSRCs, so that they never overlap.
const NEXT_STREAM: u64 = 1 << 20;

/// Approximate bytes on the wire beside the payload: IP, UDP, RTP with extensions, and the authentication tag.
const WIRE_OVERHEAD: usize = 76;

/// One received SSRC.
#[derive(Default)]
pub struct Stream {
    /// The lowest extended sequence number.
    pub first: u64,
    /// The highest extended sequence number.
    pub last: u64,
    pub packets: u64,
    /// The packet with the lowest sequence number.
    pub first_stamp: Option<Stamp>,
    neighbours: BTreeMap<u64, Note>,
    /// The layer and the publication of the packet with the highest sequence number.
    layer: u8,
    of: Option<(u32, Source)>,
    /// The RTP time of frame 0, after each change of layer.
    timestamp_bases: BTreeMap<(u32, Source), Vec<(u8, u32)>>,
}

struct Note {
    stamp: Stamp,
    ids: PictureIds,
}

impl Stream {
    /// Checks one packet; panics if it does not fit its neighbours.
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
            // Sequence numbers start below 2^15 (see `tap`), but the first packets may be lost.
            assert!(
                seq_no < 1 << 16,
                "an SSRC must start with rollover counter 0, because the counter is not signaled"
            );
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
        // The missing packets may be all of a layer in between.
        let is_missing = self.missing() > 0;
        let bases = self.timestamp_bases.entry((stamp.publisher, stamp.source)).or_default();
        if !bases.contains(&(stamp.layer, base)) {
            let others = self.of != Some((stamp.publisher, stamp.source));
            let is_switch = bases.last().is_none_or(|(_, last)| {
                let drift = base.wrapping_sub(*last) as i32;
                let is_near = drift.unsigned_abs() <= allowed.most;
                // The simulated publisher's clock stops while it sends nothing, but that of the m-line goes on. The
                // server learns the difference from the next report, within a second.
                let is_later = drift > -(PAUSE_DRIFT as i32);
                (self.layer != stamp.layer || is_missing || allowed.anywhere) && is_near
                    || (others || allowed.anywhere) && is_later
            });
            assert!(is_switch, "the timestamp of {stamp:?} does not advance as the publisher's did: {base}, {bases:?}");
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
        assert!(
            self.neighbours.insert(seq_no, Note { stamp, ids }).is_none(),
            "sequence number {seq_no} arrived twice"
        );
        if self.neighbours.len() > NEIGHBOURS {
            self.neighbours.pop_first();
        }
    }

    /// Counts a packet without payload, so that its sequence number is not missing.
    pub fn handle_empty(&mut self, seq_no: u64) {
        assert!(self.packets > 0, "a stream starts with an empty packet");
        assert!(!self.neighbours.contains_key(&seq_no), "sequence number {seq_no} arrived twice");
        self.last = self.last.max(seq_no);
        self.packets += 1;
    }

    /// The publication of the packet with the highest sequence number.
    pub fn carries(&self) -> Option<(u32, Source)> {
        self.of
    }

    /// Sequence numbers between the first and the last that never arrived.
    pub fn missing(&self) -> u64 {
        match self.packets {
            0 => 0,
            packets => self.last - self.first + 1 - packets,
        }
    }
}

/// Checks that two packets with consecutive sequence numbers are consecutive packets of one publication, or that the
/// second starts another, and that their picture ids agree.
fn check_neighbours(before: &Note, after: &Note) {
    let (a, b) = (&before.stamp, &after.stamp);
    assert_eq!(a.source.is_audio(), b.source.is_audio(), "one SSRC carries one kind of media");
    let is_exchange = (a.publisher, a.source) != (b.publisher, b.source);
    if a.source.is_audio() {
        if is_exchange {
            return;
        }
        // Audio that the server drops in a large room leaves no gap in the sequence numbers.
        return assert!(b.frame > a.frame, "{b:?} must be later than {a:?}");
    }
    let picture_step = (after.ids.picture_id.wrapping_sub(before.ids.picture_id)) & 0x7fff;
    let tl0_step = after.ids.tl0_pic_idx.wrapping_sub(before.ids.tl0_pic_idx);
    if !is_exchange && (b.layer, b.frame, b.index) == (a.layer, a.frame, a.index + 1) {
        return assert_eq!((picture_step, tl0_step), (0, 0), "the picture ids change within a picture: {a:?}, {b:?}");
    }
    // Dropped packets leave no gap: either everything up to a keyframe, possibly of another layer, or pictures of upper
    // temporal layers. A picture that is decoded from the one just before it must not follow a dropped one.
    let is_start = b.index == 0;
    let is_later = is_exchange || b.layer != a.layer || b.frame > a.frame;
    let is_restart = is_later && is_start && b.keyframe;
    let is_same_layer = !is_exchange && is_later && is_start && b.layer == a.layer && a.index + 1 == a.count;
    let is_next = is_same_layer && (b.frame == a.frame + 1 || b.reference > 1);
    assert!(
        is_restart || is_next,
        "consecutive sequence numbers for packets that do not follow each other: {a:?}, {b:?}"
    );
    let steps = (1, u8::from(b.temporal == 0));
    assert_eq!(
        (picture_step, tl0_step),
        steps,
        "picture ids are not consecutive, which a receiver takes for loss: {a:?}, {b:?}"
    );
}

/// Everything received of one publication, on any m-line.
pub struct Watched {
    /// The SSRC of the last packet.
    pub ssrc: u32,
    /// Distinct packets.
    pub packets: u64,
    /// When the first picture could be shown or the first audio packet played.
    pub first_shown_at: Option<Instant>,
    pub last_shown_at: Option<Instant>,
    /// Pictures shown or audio packets played.
    pub shown: u64,
    /// The longest time between two of them.
    pub longest_gap: Duration,
    /// Each change of the shown layer: when, and to which.
    pub layers: Vec<(Instant, u8)>,
    /// Pictures shown, by temporal layer.
    pub temporal: [u64; 3],
    /// Every picture shown or audio packet played, and when.
    pub seen: Vec<(Instant, Stamp)>,
    /// Received packets, with their approximate bytes on the wire.
    pub came: Vec<(Instant, usize)>,
    /// Keyframe requests of the decoder.
    pub keyframe_requests: u32,
    is_audio: bool,
    next_picture: Option<u64>,
    /// Incomplete pictures, by extended picture id.
    pictures: BTreeMap<u64, Assembly>,
    /// By SSRC: the last picture id, and its extended value.
    extended: BTreeMap<u32, (u16, u64)>,
    /// Layer and frame of the last pictures that were decoded.
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
            // The publication returned to an earlier m-line: incomplete pictures of the other are lost.
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
        assert_eq!(assembly.have >> stamp.index & 1, 0, "{stamp:?} arrived twice");
        let frame_of = |stamp: &Stamp| (stamp.layer, stamp.frame);
        assert_eq!(frame_of(&assembly.stamp), frame_of(stamp), "two pictures have one picture id");
        assembly.have |= 1 << stamp.index;
        while let Some(picture) = self.next_showable() {
            let later = self.pictures.split_off(&(picture + 1));
            let (_, shown) =
                std::mem::replace(&mut self.pictures, later).pop_last().expect("`next_showable` returned its key");
            self.next_picture = Some(picture + 1);
            self.blocked_since = now;
            self.decode(now, &shown.stamp);
            self.show(now, &shown.stamp);
        }
    }

    /// Drops incomplete pictures, because their m-line now carries another publication.
    pub fn cut(&mut self, now: Instant) {
        self.pictures.clear();
        (self.next_picture, self.blocked_since) = (None, now);
    }

    /// Whether to request a keyframe now: there is no picture yet, or a packet stays missing.
    pub fn wants_keyframe(&mut self, now: Instant) -> bool {
        let due = self.keyframe_request_at().is_some_and(|at| at <= now);
        if due {
            self.requested_at = Some(now);
            self.keyframe_requests += 1;
        }
        due
    }

    /// When `wants_keyframe` may return true.
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

    /// Extends a picture id, which wraps. Those of another SSRC are unrelated.
    fn extend(&mut self, ssrc: u32, picture_id: u16) -> u64 {
        let highest = self.extended.values().map(|(_, extended)| *extended).max().unwrap_or(0);
        let (last, extended) = *self.extended.entry(ssrc).or_insert((picture_id, highest + NEXT_STREAM));
        let ahead = (picture_id.wrapping_sub(last) << 1) as i16 >> 1;
        let picture = extended.checked_add_signed(ahead.into()).expect("extended ids start at NEXT_STREAM");
        self.extended.insert(ssrc, (picture_id, picture));
        picture
    }

    /// Checks that the picture's reference was decoded, as the picture ids claim.
    fn decode(&mut self, now: Instant, stamp: &Stamp) {
        let reference = (stamp.layer, stamp.frame.wrapping_sub(stamp.reference.into()));
        assert!(stamp.keyframe || self.decoded.contains(&reference), "the reference of {stamp:?} was not decoded");
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
