//! Synthetic media whose payload identifies its publisher: how it is built and checked, and the state of a publication.

use std::time::{Duration, Instant, SystemTime};

use str0m::change::DirectApi;
use str0m::media::{MediaTime, Mid, Pt, Rid};
use str0m::rtp::{AbsCaptureTime, ExtensionValues, VideoOrientation};

use crate::answering::{RTX_AGE, RTX_PACKETS};
use crate::encoding::Encoding;
use crate::layer::{Frame, Layer, Load};

/// Length of the VP8 payload descriptor that `Stamp::payload` writes (RFC 7741 section 4.2, every field present).
const DESCRIPTOR: usize = 6;

const MAGIC: &[u8; 4] = b"SIM!";

/// Largest number of keyframe requests for one layer in a second: the server's budget is three, and the path changes
/// their spacing.
const MAX_REQUESTS: usize = 6;

/// The level of a microphone that does not send audio levels.
pub const NO_LEVEL: u8 = 0xff;

/// Magic, publisher, source, frame, index, count, flags, layer, temporal, reference, level, height, filler length.
const BODY: usize = 4 + 4 + 1 + 4 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 2 + 2;

/// What a published stream shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Microphone,
    Camera,
    Screen,
}

pub use Source::{Camera, Microphone, Screen};

impl Source {
    pub const ALL: [Source; 3] = [Microphone, Camera, Screen];

    pub fn name(self) -> &'static str {
        match self {
            Microphone => "microphone",
            Camera => "camera",
            Screen => "screen",
        }
    }

    pub fn kind(self) -> &'static str {
        if self.is_audio() { "audio" } else { "video" }
    }

    pub fn is_audio(self) -> bool {
        self == Microphone
    }

    pub fn parse(name: &str) -> Source {
        let found = Self::ALL.into_iter().find(|source| source.name() == name);
        found.unwrap_or_else(|| panic!("source {name:?}"))
    }
}

/// How often and how much a publisher sends.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Time between two audio packets.
    pub audio: Duration,
    /// Time between two pictures.
    pub video: Duration,
    /// Packets of a keyframe.
    pub key_packets: u8,
    /// Packets of any other picture.
    pub delta_packets: u8,
    /// Largest number of bytes after the stamp.
    pub filler: u16,
}

impl Rate {
    /// What a browser sends: 50 audio packets and 30 pictures a second.
    pub const BROWSER: Rate = Rate {
        audio: Duration::from_millis(20),
        video: Duration::from_nanos(33_333_333),
        key_packets: 8,
        delta_packets: 3,
        filler: 1_000,
    };

    /// The same with audio packets of realistic size, for narrow paths.
    pub const LEAN: Rate = Rate { filler: 60, ..Rate::BROWSER };

    /// A low rate, for many participants or many plans.
    pub const SPARSE: Rate = Rate {
        audio: Duration::from_millis(100),
        video: Duration::from_millis(100),
        key_packets: 3,
        delta_packets: 2,
        filler: 60,
    };
}

/// Identifies a packet and its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The tag of the publishing browser.
    pub publisher: u32,
    pub source: Source,
    /// Number of the picture or audio packet, from 0.
    pub frame: u32,
    /// Index of the packet in the frame.
    pub index: u8,
    /// Number of packets of the frame.
    pub count: u8,
    pub keyframe: bool,
    /// Simulcast layer; 0 is the smallest.
    pub layer: u8,
    pub temporal: u8,
    /// Decoded from the lowest temporal layer, and marked as such.
    pub sync: bool,
    /// How many pictures before this one its reference is; 0 for none.
    pub reference: u8,
    /// Audio level, in decibels below the loudest.
    pub level: u8,
    /// Height of the picture.
    pub height: u16,
}

/// The fields of a VP8 descriptor that a forwarding server may rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureIds {
    /// 15 bits.
    pub picture_id: u16,
    pub tl0_pic_idx: u8,
}

impl Stamp {
    /// The RTP payload.
    pub fn payload(&self, ids: PictureIds, filler: u16) -> Vec<u8> {
        let mut payload = Vec::with_capacity(DESCRIPTOR + 10 + BODY + filler as usize);
        if self.source.is_audio() {
            // An Opus TOC byte: 20 ms of fullband CELT, mono, one frame (RFC 6716 section 3.1).
            payload.push(0xf8);
        } else {
            let start = if self.index == 0 { 0x10 } else { 0 };
            let [high, low] = ids.picture_id.to_be_bytes();
            let layer = self.temporal << 6 | u8::from(self.sync) << 5;
            payload.extend([0x80 | start, 0xe0, 0x80 | high, low, ids.tl0_pic_idx, layer]);
            // The frame tag, and the start code and size of a keyframe: RFC 6386 section 9.1.
            let [[w0, w1], [h0, h1]] = [self.width().to_le_bytes(), self.height.to_le_bytes()];
            match (self.index, self.keyframe) {
                (0, true) => payload.extend([0x10, 0, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1]),
                (0, false) => payload.extend([0x11, 0, 0]),
                _ => {}
            }
        }
        payload.extend(MAGIC);
        payload.extend(self.publisher.to_be_bytes());
        payload.push(self.source as u8);
        payload.extend(self.frame.to_be_bytes());
        let flags = u8::from(self.keyframe) | u8::from(self.sync) << 1;
        payload.extend([self.index, self.count, flags, self.layer, self.temporal, self.reference, self.level]);
        payload.extend(self.height.to_be_bytes());
        payload.extend(filler.to_be_bytes());
        payload.extend((0..filler).map(|at| self.filler_byte(at)));
        payload
    }

    /// Width of a simulcast picture.
    fn width(&self) -> u16 {
        if self.height == 480 { 640 } else { self.height / 9 * 16 }
    }

    /// Parses a received payload and checks every byte of it except the picture ids, which it returns.
    pub fn check(payload: &[u8], is_audio: bool) -> (Stamp, PictureIds) {
        let ids = match is_audio {
            true => PictureIds { picture_id: 0, tl0_pic_idx: 0 },
            false => {
                PictureIds { picture_id: u16::from_be_bytes([payload[2] & 0x7f, payload[3]]), tl0_pic_idx: payload[4] }
            }
        };
        let at = payload.windows(4).position(|window| window == MAGIC).expect("a payload of the simulation");
        let body = &payload[at + 4..];
        let number = |from: usize| u32::from_be_bytes(body[from..from + 4].try_into().expect("four bytes"));
        let stamp = Stamp {
            publisher: number(0),
            source: Source::ALL[body[4] as usize],
            frame: number(5),
            index: body[9],
            count: body[10],
            keyframe: body[11] & 1 == 1,
            sync: body[11] & 2 == 2,
            layer: body[12],
            temporal: body[13],
            reference: body[14],
            level: body[15],
            height: u16::from_be_bytes([body[16], body[17]]),
        };
        let filler = u16::from_be_bytes([body[18], body[19]]);
        assert_eq!(payload, stamp.payload(ids, filler), "{stamp:?} was altered in transit");
        (stamp, ids)
    }

    /// The header extensions that `Publication` writes on this packet.
    pub fn extensions(&self, captured: SystemTime) -> ExtensionValues {
        let mut values = ExtensionValues::default();
        if self.source.is_audio() && self.level == NO_LEVEL {
            values.audio_level = None;
        } else if self.source.is_audio() {
            values.audio_level = Some(-(self.level as i8));
            values.voice_activity = Some(self.frame.is_multiple_of(3));
        } else {
            let turns =
                [VideoOrientation::Deg0, VideoOrientation::Deg90, VideoOrientation::Deg180, VideoOrientation::Deg270];
            values.video_orientation = Some(turns[self.frame as usize % 4]);
            values.play_delay_min = Some(MediaTime::from_hundredths(u64::from(self.frame % 50)));
            values.play_delay_max = Some(MediaTime::from_hundredths(u64::from(self.frame % 50 + 100)));
        }
        values.abs_capture_time = Some(AbsCaptureTime { capture_time: captured, clock_offset: None });
        values
    }

    fn filler_byte(&self, at: u16) -> u8 {
        let mix = self.frame.wrapping_mul(31) ^ u32::from(self.index) << 7 ^ self.publisher.wrapping_mul(131);
        (mix.wrapping_add(u32::from(at).wrapping_mul(2_654_435_761)) >> 11) as u8
    }
}

/// One stream that a browser publishes.
pub struct Publication {
    pub source: Source,
    pub rate: Rate,
    /// The page shows it as published.
    pub wanted: bool,
    /// Its codec, if not VP8.
    pub encoding: Option<Encoding>,
    /// The payload type of redundant audio, if negotiated.
    pub red: Option<Pt>,
    /// The m-line; `None` while the server has not offered one.
    pub mid: Option<Mid>,
    /// One layer, or those of simulcast, smallest first.
    pub layers: Vec<Layer>,
    /// A keyframe request for one layer produces one of every layer, as in Chromium.
    pub keys_all: bool,
    /// Number of the next frame; all earlier ones were sent.
    pub frame: u32,
    /// When keyframes were requested, of any layer.
    pub keyframe_requests: Vec<Instant>,
    /// When each frame was captured.
    pub captured: Vec<Instant>,
    pub next_at: Instant,
    /// Constant level of the microphone, in decibels below the loudest. If `None`, the level falls repeatedly from the
    /// loudest to silence.
    pub level: Option<u8>,
    last_mid: Option<Mid>,
    start: u32,
}

impl Publication {
    /// `start` spreads counters and phases so that no two publishers are alike.
    pub fn new(now: Instant, source: Source, rate: Rate, start: u32) -> Self {
        let mix = start.wrapping_mul(2_654_435_761);
        Self {
            source,
            rate,
            wanted: true,
            encoding: None,
            red: None,
            mid: None,
            layers: vec![Layer::alone(Load::alone(source, rate), start)],
            keys_all: false,
            frame: 0,
            keyframe_requests: Vec::new(),
            captured: Vec::new(),
            next_at: now + Duration::from_micros(u64::from(mix % 20_000)),
            level: None,
            last_mid: None,
            start,
        }
    }

    /// Time between two frames.
    pub fn interval(&self) -> Duration {
        if self.source.is_audio() { self.rate.audio } else { self.rate.video }
    }

    /// Packets sent, over all layers.
    pub fn sent_packets(&self) -> u64 {
        self.layers.iter().map(|layer| layer.sent_packets).sum()
    }

    /// Continues on another m-line with these layers, or stops.
    pub fn restart(&mut self, mid: Option<Mid>, rids: &[Rid]) {
        self.mid = mid;
        if mid.is_some() && !rids.is_empty() && self.layers[0].rid.is_none() {
            self.layers = Layer::simulcast(rids, self.start);
        }
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if let Some(encoding) = self.encoding {
                layer.encoder.get_or_insert_with(|| encoding.encoder(index, self.start));
            }
            layer.restart();
            // A new SSRC starts with rollover counter 0, and the sequence number of an SSRC must never go back.
            if mid.is_some() && self.last_mid != mid {
                layer.seq_no %= 1 << 15;
            }
        }
        self.last_mid = mid.or(self.last_mid);
    }

    /// Switches to new SSRCs from `first` on. Returns each old SSRC with its replacement.
    pub fn change_ssrcs(&mut self, first: u32, direct: &mut DirectApi) -> Vec<(u32, u32)> {
        let mut changed = Vec::new();
        let Some(mid) = self.mid else { return changed };
        for (layer, ssrc) in self.layers.iter_mut().zip((first..).step_by(2)) {
            let stream = direct.stream_tx_by_mid(mid, layer.rid).expect("a sending m-line has a stream");
            let (old, old_repair) = (*stream.ssrc(), stream.rtx().map(|repair| *repair));
            let repair = old_repair.map(|_| (ssrc + 1).into());
            if old != ssrc {
                direct.remove_stream_tx(old.into());
                let stream = direct.declare_stream_tx(ssrc.into(), repair, mid, layer.rid);
                stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, None);
                changed.push((old, ssrc));
                changed.extend(old_repair.map(|old| (old, ssrc + 1)));
                layer.restart();
                layer.seq_no %= 1 << 15;
            }
        }
        changed
    }

    /// Handles a keyframe request for the layer named `rid`.
    pub fn handle_keyframe_request(&mut self, now: Instant, rid: Option<Rid>) {
        self.keyframe_requests.push(now);
        let recent = self.keyframe_requests.iter().rev().take_while(|at| now - **at < Duration::from_secs(1)).count();
        assert!(recent <= MAX_REQUESTS * self.layers.len(), "{recent} keyframe requests in a second");
        let layer = self.layers.iter_mut().find(|layer| layer.rid == rid).expect("the requested layer exists");
        layer.handle_keyframe_request(now);
        let keys_all = self.keys_all;
        self.layers.iter_mut().for_each(|layer| layer.want_keyframe |= keys_all && layer.is_active);
    }

    /// Pauses the layers that are not in `rids` and resumes those that are.
    pub fn want_layers(&mut self, rids: &[String]) {
        for layer in &mut self.layers {
            let is_wanted = layer.rid.map_or(!rids.is_empty(), |rid| rids.iter().any(|wanted| **wanted == *rid));
            layer.want_keyframe |= is_wanted && !layer.is_active;
            layer.is_active = is_wanted;
        }
    }

    /// Sends the frames that are due by `now`.
    pub fn send_due(
        &mut self,
        now: Instant,
        publisher: u32,
        (mid, pt): (Mid, Pt),
        captured: impl Fn(Instant) -> SystemTime,
        direct: &mut DirectApi,
    ) {
        while self.next_at <= now {
            let at = self.next_at;
            self.next_at += self.interval();
            let elapsed = timestamp_step(self.source, self.interval()).wrapping_mul(self.frame);
            let (source, number) = (self.source, self.frame);
            let level = if source.is_audio() { self.level.unwrap_or((number % 100) as u8) } else { 0 };
            let frame = Frame { publisher, source, number, level, at, captured: captured(at), elapsed, red: self.red };
            for layer in self.layers.iter_mut().filter(|layer| layer.is_active) {
                let stream = direct.stream_tx_by_mid(mid, layer.rid).expect("a sending m-line has a stream");
                layer.send(&frame, pt, stream);
            }
            self.captured.push(at);
            self.frame += 1;
        }
    }
}

/// Whether the marker bit is set: on the last packet of a picture (RFC 7741 section 4.1) and the first of a talkspurt
/// (RFC 7587 section 4.1), of which each publication has one.
pub fn is_marked(stamp: &Stamp) -> bool {
    match stamp.source.is_audio() {
        true => stamp.frame == 0,
        false => stamp.index + 1 == stamp.count,
    }
}

/// RTP time between two frames.
pub fn timestamp_step(source: Source, interval: Duration) -> u32 {
    let clock_rate = if source.is_audio() { 48_000.0 } else { 90_000.0 };
    (interval.as_secs_f64() * clock_rate).round() as u32
}
