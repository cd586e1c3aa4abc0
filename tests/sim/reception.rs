//! What one browser received: a check of every packet against its neighbours, and a decoder that knows which
//! pictures could be shown.

use std::collections::BTreeMap;
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
    timestamp_base: BTreeMap<(u32, Source), u32>,
}

struct Note {
    stamp: Stamp,
    ids: PictureIds,
}

impl Stream {
    /// Looks at one packet; panics if it does not fit its neighbours.
    pub fn handle_packet(&mut self, packet: &RtpPacket, stamp: Stamp, ids: PictureIds, interval: Duration) {
        let seq_no = *packet.seq_no;
        if self.packets == 0 {
            assert!(seq_no < 1 << 15, "an SSRC starts below 2^15: its rollover counter is not signaled");
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
        let known = *self.timestamp_base.entry((stamp.publisher, stamp.source)).or_insert(base);
        assert_eq!(known, base, "the timestamp of {stamp:?} does not advance as it was sent");
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

    /// Sequence numbers between first and last that never came.
    pub fn missing(&self) -> u64 {
        match self.packets {
            0 => 0,
            packets => self.last - self.first + 1 - packets,
        }
    }
}

/// Two packets with consecutive sequence numbers are consecutive packets of one publication, and their picture
/// ids say so too.
fn check_neighbours(before: &Note, after: &Note) {
    let (a, b) = (&before.stamp, &after.stamp);
    assert_eq!((a.publisher, a.source), (b.publisher, b.source), "one SSRC carries one publication");
    let next = if a.index + 1 < a.count { (a.frame, a.index + 1) } else { (a.frame + 1, 0) };
    // Sound that is held back in a large room, and video that is not shown, leave no gap in the numbers.
    let was_held = b.frame > a.frame && (a.source.is_audio() || b.keyframe && b.index == 0);
    assert!(was_held || (b.frame, b.index) == next, "consecutive numbers for packets that are not: {a:?}, {b:?}");
    // A receiver takes a gap in the ids for a loss.
    let step = u16::from(b.frame != a.frame);
    if !a.source.is_audio() {
        assert_eq!(after.ids.picture_id, (before.ids.picture_id + step) & 0x7fff, "picture id after {a:?}");
        assert_eq!(after.ids.tl0_pic_idx, before.ids.tl0_pic_idx.wrapping_add(step as u8), "TL0PICIDX after {a:?}");
    }
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
    /// The decoder's requests.
    pub keyframe_requests: u32,
    is_audio: bool,
    next_frame: Option<u32>,
    frames: BTreeMap<u32, Assembly>,
    blocked_since: Instant,
    requested_at: Option<Instant>,
}

#[derive(Default)]
struct Assembly {
    have: u64,
    count: u8,
    keyframe: bool,
}

impl Assembly {
    fn is_complete(&self) -> bool {
        self.have == (1 << self.count) - 1
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
            keyframe_requests: 0,
            is_audio,
            next_frame: None,
            frames: BTreeMap::new(),
            blocked_since: now,
            requested_at: None,
        }
    }

    pub fn handle_packet(&mut self, now: Instant, ssrc: u32, stamp: &Stamp) {
        self.ssrc = ssrc;
        self.packets += 1;
        if self.is_audio {
            return self.show(now);
        }
        if self.next_frame.is_some_and(|next| stamp.frame < next) {
            return;
        }
        let frame = self.frames.entry(stamp.frame).or_default();
        assert_eq!(frame.have >> stamp.index & 1, 0, "{stamp:?} came twice");
        frame.have |= 1 << stamp.index;
        frame.count = stamp.count;
        frame.keyframe = stamp.keyframe;
        while let Some(frame) = self.next_showable() {
            self.frames = self.frames.split_off(&(frame + 1));
            self.next_frame = Some(frame + 1);
            self.blocked_since = now;
            self.show(now);
        }
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
        let is_blocked = !self.is_audio && !self.frames.is_empty();
        let patience = self.blocked_since + REPAIR;
        let spaced = self.requested_at.map_or(patience, |last| last + REQUEST_SPACING);
        is_blocked.then(|| patience.max(spaced))
    }

    fn next_showable(&self) -> Option<u32> {
        let next = self.next_frame.filter(|next| self.frames.get(next).is_some_and(Assembly::is_complete));
        let keyframe = || self.frames.iter().find(|(_, frame)| frame.keyframe && frame.is_complete());
        next.or_else(|| keyframe().map(|(frame, _)| *frame))
    }

    fn show(&mut self, now: Instant) {
        self.shown += 1;
        self.first_shown_at.get_or_insert(now);
        if let Some(last) = self.last_shown_at.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
    }
}
