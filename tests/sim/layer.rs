//! One layer of a publication: an SSRC with its own sequence numbers, either the only one or one of several simulcast
//! layers.

use std::time::{Duration, Instant, SystemTime};

use str0m::media::{Pt, Rid};
use str0m::rtp::{ExtensionValues, RtpWrite, StreamTx};

use crate::decoder::encoder::Encoder;
use crate::encoding::Dependency;
use crate::media::{PictureIds, Rate, Source, Stamp, is_marked};

/// Temporal layers of simulcast video as browsers send it (L1T3): the temporal layer, the distance to the reference,
/// and whether that is of the lowest layer. Starts again with each keyframe.
const PATTERN: [(u8, u8, bool); 4] = [(0, 4, false), (2, 1, true), (1, 2, true), (2, 1, false)];

/// The same without temporal layers.
const PLAIN: (u8, u8, bool) = (0, 1, false);

/// The size of one layer's pictures and packets.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Height of the picture.
    pub height: u16,
    /// Packets of a keyframe.
    pub key_packets: u8,
    /// Packets of any other picture.
    pub delta_packets: u8,
    /// Least number of filler bytes after the stamp, and how many more there may be.
    pub filler: (u16, u16),
    /// Whether the pictures have three temporal layers instead of one.
    pub is_layered: bool,
}

/// What browsers send in simulcast, smallest first: about 150, 500 and 1,700 kbit/s at 30 pictures per second.
const LOADS: [Load; 3] = [
    Load { height: 180, key_packets: 4, delta_packets: 1, filler: (490, 200), is_layered: true },
    Load { height: 360, key_packets: 8, delta_packets: 2, filler: (908, 200), is_layered: true },
    Load { height: 720, key_packets: 24, delta_packets: 7, filler: (879, 200), is_layered: true },
];

impl Load {
    /// The load of a publication without simulcast. Screens have temporal layers.
    pub fn alone(source: Source, rate: Rate) -> Self {
        let Rate { key_packets, delta_packets, filler, .. } = rate;
        let (height, is_layered) = if source == Source::Screen { (1_080, true) } else { (480, false) };
        Self { height, key_packets, delta_packets, filler: (0, filler), is_layered }
    }
}

/// One captured picture or audio frame before encoding.
#[derive(Clone, Copy)]
pub struct Frame {
    pub publisher: u32,
    pub source: Source,
    pub number: u32,
    /// Audio level.
    pub level: u8,
    pub at: Instant,
    pub captured: SystemTime,
    /// RTP time since the first frame.
    pub elapsed: u32,
    /// The payload type of redundant audio, if the frame is sent that way.
    pub red: Option<Pt>,
}

pub struct Layer {
    pub rid: Option<Rid>,
    /// The page sends it.
    pub is_active: bool,
    /// The next extended sequence number.
    pub seq_no: u64,
    /// Make the next picture a keyframe.
    pub want_keyframe: bool,
    /// When keyframes of this layer were requested.
    pub keyframe_requests: Vec<Instant>,
    /// The least time between two requests, and the last request since the layer started on its m-line.
    pub least_spacing: Duration,
    asked_at: Option<Instant>,
    pub sent_packets: u64,
    /// Encodes its pictures, if they are not VP8.
    pub encoder: Option<Encoder>,
    /// The encoder's output: payload and marker of each packet.
    pub encoded: Vec<(Vec<u8>, bool)>,
    index: u8,
    load: Load,
    /// RTP timestamp of the first frame.
    timestamp: u32,
    ids: PictureIds,
    since_keyframe: u8,
}

impl Layer {
    /// `start` spreads the counters.
    pub fn alone(load: Load, start: u32) -> Self {
        Self::new(None, 0, load, start)
    }

    /// One layer for each rid, smallest first.
    pub fn simulcast(rids: &[Rid], start: u32) -> Vec<Self> {
        let layers = rids.iter().zip(LOADS).enumerate();
        let start = |index| start + 1_000 * (index as u32 + 1);
        layers.map(|(index, (rid, load))| Self::new(Some(*rid), index as u8, load, start(index))).collect()
    }

    fn new(rid: Option<Rid>, index: u8, load: Load, start: u32) -> Self {
        let mix = start.wrapping_mul(2_654_435_761);
        Self {
            rid,
            is_active: true,
            // A receiver cannot know of a rollover before its first packet (RFC 3711 section 3.3.1).
            seq_no: u64::from(mix >> 17),
            want_keyframe: true,
            keyframe_requests: Vec::new(),
            least_spacing: Duration::MAX,
            asked_at: None,
            sent_packets: 0,
            encoder: None,
            encoded: Vec::new(),
            index,
            load,
            timestamp: mix,
            ids: PictureIds { picture_id: (mix >> 9) as u16 & 0x7fff, tl0_pic_idx: mix as u8 },
            since_keyframe: 0,
        }
    }

    /// Starts on another m-line.
    pub fn restart(&mut self) {
        self.want_keyframe = true;
        self.asked_at = None;
    }

    /// Handles a keyframe request.
    pub fn handle_keyframe_request(&mut self, now: Instant) {
        self.want_keyframe = true;
        self.keyframe_requests.push(now);
        if let Some(before) = self.asked_at.replace(now) {
            self.least_spacing = self.least_spacing.min(now - before);
        }
    }

    /// Sends this layer's encoding of one frame.
    pub fn send(&mut self, frame: &Frame, pt: Pt, stream: &mut StreamTx) {
        if self.encoder.is_some() {
            return self.send_encoded(frame, pt, stream);
        }
        let stamp = self.next_stamp(frame);
        let (least, more) = self.load.filler;
        for index in 0..stamp.count {
            let stamp = Stamp { index, ..stamp };
            let filler = least + (self.seq_no.wrapping_mul(7_919) % (u64::from(more) + 1)) as u16;
            let mut payload = stamp.payload(self.ids, filler);
            let plain_pt = pt;
            let pt = frame.red.unwrap_or(pt);
            if frame.red.is_some() {
                // Without an earlier frame: a single block with the packet's own audio (RFC 2198 section 3).
                payload.insert(0, *plain_pt);
            }
            let timestamp = self.timestamp.wrapping_add(frame.elapsed);
            let write = RtpWrite::new(pt, self.seq_no.into(), timestamp, frame.at, payload)
                .marker(is_marked(&stamp))
                .ext_vals(stamp.extensions(frame.captured))
                .nackable(!frame.source.is_audio());
            stream.write_rtp(write);
            self.seq_no += 1;
            self.sent_packets += 1;
        }
    }

    fn send_encoded(&mut self, frame: &Frame, pt: Pt, stream: &mut StreamTx) {
        let encoder = self.encoder.as_mut().expect("the caller checked that there is an encoder");
        if std::mem::take(&mut self.want_keyframe) {
            encoder.request_keyframe();
        }
        for sent in encoder.encode() {
            let mut values = ExtensionValues::default();
            if let Some(dependency) = sent.dependency {
                values.user_values.set(Dependency(dependency));
            }
            let timestamp = self.timestamp.wrapping_add(frame.elapsed).wrapping_sub(sent.early);
            self.encoded.push((sent.payload.clone(), sent.marker));
            let write = RtpWrite::new(pt, self.seq_no.into(), timestamp, frame.at, sent.payload);
            stream.write_rtp(write.marker(sent.marker).ext_vals(values).nackable(true));
            self.seq_no += 1;
            self.sent_packets += 1;
        }
    }

    /// Returns the stamp of the frame's first packet and advances the counters.
    fn next_stamp(&mut self, frame: &Frame) -> Stamp {
        let is_audio = frame.source.is_audio();
        let keyframe = !is_audio && std::mem::take(&mut self.want_keyframe);
        let count = match (is_audio, keyframe) {
            (true, _) => 1,
            (false, true) => self.load.key_packets,
            (false, false) => self.load.delta_packets,
        };
        self.since_keyframe = if keyframe { 0 } else { (self.since_keyframe + 1) % PATTERN.len() as u8 };
        let (temporal, before, sync) =
            if self.load.is_layered { PATTERN[usize::from(self.since_keyframe)] } else { PLAIN };
        self.ids.picture_id = (self.ids.picture_id + 1) & 0x7fff;
        self.ids.tl0_pic_idx = self.ids.tl0_pic_idx.wrapping_add(u8::from(temporal == 0));
        Stamp {
            publisher: frame.publisher,
            source: frame.source,
            frame: frame.number,
            index: 0,
            count,
            keyframe,
            layer: self.index,
            temporal,
            sync,
            reference: if keyframe || is_audio { 0 } else { before },
            level: frame.level,
            height: if is_audio { 0 } else { self.load.height },
        }
    }
}
