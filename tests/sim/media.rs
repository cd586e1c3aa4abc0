//! Synthetic media that says where it comes from: what a publisher sends, byte by byte, and a publication's counters.

use std::time::{Duration, Instant, SystemTime};

use str0m::media::{MediaTime, Mid, Pt};
use str0m::rtp::{AbsCaptureTime, ExtensionValues, RtpWrite, StreamTx, VideoOrientation};

/// Length of the VP8 payload descriptor that `Stamp::payload` writes (RFC 7741 section 4.2, every field present).
const DESCRIPTOR: usize = 6;

const MAGIC: &[u8; 4] = b"SIM!";

/// Magic, publisher, source, frame, index, count, keyframe, filler length.
const BODY: usize = 4 + 4 + 1 + 4 + 1 + 1 + 1 + 2;

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
    /// Most bytes after the stamp.
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

    /// Enough to see what happens: for many people, or many plans.
    pub const SPARSE: Rate = Rate {
        audio: Duration::from_millis(100),
        video: Duration::from_millis(100),
        key_packets: 3,
        delta_packets: 2,
        filler: 60,
    };
}

/// Who sent a packet, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publishing browser's number in the simulation.
    pub publisher: u32,
    pub source: Source,
    /// Picture, or audio packet; from 0.
    pub frame: u32,
    /// Which packet of the frame.
    pub index: u8,
    /// Packets of the frame.
    pub count: u8,
    pub keyframe: bool,
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
            payload.extend([0x80 | start, 0xe0, 0x80 | high, low, ids.tl0_pic_idx, 0]);
            // The frame tag, and the start code and size of a keyframe: RFC 6386 section 9.1.
            match (self.index, self.keyframe) {
                (0, true) => payload.extend([0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01]),
                (0, false) => payload.extend([0x11, 0, 0]),
                _ => {}
            }
        }
        payload.extend(MAGIC);
        payload.extend(self.publisher.to_be_bytes());
        payload.push(self.source as u8);
        payload.extend(self.frame.to_be_bytes());
        payload.extend([self.index, self.count, u8::from(self.keyframe)]);
        payload.extend(filler.to_be_bytes());
        payload.extend((0..filler).map(|at| self.filler_byte(at)));
        payload
    }

    /// Reads a payload that came, and checks every byte of it but the picture ids, which are returned.
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
            keyframe: body[11] == 1,
        };
        let filler = u16::from_be_bytes([body[12], body[13]]);
        assert_eq!(payload, stamp.payload(ids, filler), "{stamp:?} was altered on its way");
        (stamp, ids)
    }

    /// The header extensions that `Publication` writes on this packet.
    pub fn extensions(&self, captured: SystemTime) -> ExtensionValues {
        let mut values = ExtensionValues::default();
        if self.source.is_audio() {
            values.audio_level = Some(-((self.frame % 100) as i8));
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
    /// The m-line; `None` while the server has not offered one.
    pub mid: Option<Mid>,
    /// Of the next packet, extended.
    pub seq_no: u64,
    /// Of the next frame; all before it were sent.
    pub frame: u32,
    /// Make the next picture a keyframe.
    pub want_keyframe: bool,
    /// When keyframes were asked for.
    pub keyframe_requests: Vec<Instant>,
    /// For each frame: captured when.
    pub captured: Vec<Instant>,
    pub sent_packets: u64,
    pub next_at: Instant,
    last_mid: Option<Mid>,
    timestamp: u32,
    ids: PictureIds,
}

impl Publication {
    /// `start` spreads counters and phases, so that no two publishers look alike.
    pub fn new(now: Instant, source: Source, rate: Rate, start: u32) -> Self {
        let mix = start.wrapping_mul(2_654_435_761);
        Self {
            source,
            rate,
            wanted: true,
            mid: None,
            // RFC 3711 section 3.3.1: the receiver can't know about a rollover before its first packet.
            seq_no: u64::from(mix >> 17),
            frame: 0,
            want_keyframe: true,
            keyframe_requests: Vec::new(),
            captured: Vec::new(),
            sent_packets: 0,
            next_at: now + Duration::from_micros(u64::from(mix % 20_000)),
            last_mid: None,
            timestamp: mix,
            ids: PictureIds { picture_id: (mix >> 9) as u16 & 0x7fff, tl0_pic_idx: mix as u8 },
        }
    }

    /// Time between two frames.
    pub fn interval(&self) -> Duration {
        if self.source.is_audio() { self.rate.audio } else { self.rate.video }
    }

    /// Goes on on another m-line, or stops.
    pub fn restart(&mut self, mid: Option<Mid>) {
        self.mid = mid;
        self.want_keyframe = true;
        // A new SSRC starts without rollovers, and the same one may never go back.
        if mid.is_some() && self.last_mid != mid {
            self.last_mid = mid;
            self.seq_no %= 1 << 15;
        }
    }

    /// Sends what is due by `now`.
    pub fn send_due(
        &mut self,
        now: Instant,
        publisher: u32,
        pt: Pt,
        captured: impl Fn(Instant) -> SystemTime,
        stream: &mut StreamTx,
    ) {
        while self.next_at <= now {
            let at = self.next_at;
            self.next_at += self.interval();
            let keyframe = !self.source.is_audio() && std::mem::take(&mut self.want_keyframe);
            let count = match (self.source.is_audio(), keyframe) {
                (true, _) => 1,
                (false, true) => self.rate.key_packets,
                (false, false) => self.rate.delta_packets,
            };
            for index in 0..count {
                let stamp = Stamp { publisher, source: self.source, frame: self.frame, index, count, keyframe };
                let filler = (self.seq_no.wrapping_mul(7_919) % (u64::from(self.rate.filler) + 1)) as u16;
                let payload = stamp.payload(self.ids, filler);
                let write = RtpWrite::new(pt, self.seq_no.into(), self.timestamp, at, payload)
                    .marker(is_marked(&stamp))
                    .ext_vals(stamp.extensions(captured(at)))
                    .nackable(!self.source.is_audio());
                stream.write_rtp(write);
                self.seq_no += 1;
                self.sent_packets += 1;
            }
            self.captured.push(at);
            self.frame += 1;
            self.ids.picture_id = (self.ids.picture_id + 1) & 0x7fff;
            self.ids.tl0_pic_idx = self.ids.tl0_pic_idx.wrapping_add(1);
            self.timestamp = self.timestamp.wrapping_add(timestamp_step(self.source, self.interval()));
        }
    }
}

/// The marker ends a picture (RFC 7741 section 4.1), and starts a talkspurt, of which there is one (RFC 7587 section 4.1).
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
