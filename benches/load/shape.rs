//! The shapes of load: rooms, participants and the media they send.

use std::borrow::Cow;
use std::time::Duration;

/// Maximum payload of a video packet in bytes.
const VIDEO_BYTES: usize = 1_150;

/// Payload of an audio packet in bytes: Opus at 40 kbit/s.
pub const AUDIO_BYTES: usize = 100;

/// Interval of a publisher's video frames and audio packets, and of a room's chat messages.
pub const FRAME: Duration = Duration::from_micros(33_333);
pub const AUDIO: Duration = Duration::from_millis(20);
pub const CHAT: Duration = Duration::from_secs(1);

/// The shape of a load.
#[derive(Clone)]
pub struct Shape {
    /// Name in the tables.
    pub name: Cow<'static, str>,
    /// Number of rooms.
    pub rooms: usize,
    /// Participants per room.
    pub size: usize,
    /// Publishers per room; the other participants only subscribe.
    pub publishers: usize,
    /// Video bitrate of each publisher.
    pub video_kbps: usize,
    /// Whether the packets of a frame are spaced as by a browser's pacer, instead of sent at once.
    pub paced: bool,
    /// Whether publishers also send audio, 50 packets per second.
    pub audio: bool,
    /// Whether one chat message per second is written in each room.
    pub chat: bool,
}

impl Shape {
    /// One publisher of 1 Mbit/s and its subscribers.
    pub fn watchers(watchers: usize) -> Self {
        let name = format!("1 x {watchers}").into();
        Self {
            name,
            rooms: 1,
            size: watchers + 1,
            publishers: 1,
            video_kbps: 1_000,
            paced: false,
            audio: false,
            chat: false,
        }
    }

    /// Rooms in which all participants send 1 Mbit/s of video, and audio.
    pub fn conferences(name: &'static str, rooms: usize, size: usize) -> Self {
        Self {
            name: name.into(),
            rooms,
            size,
            publishers: size,
            video_kbps: 1_000,
            paced: false,
            audio: true,
            chat: false,
        }
    }

    /// Rooms of 20 with chat and without media.
    pub fn idle(name: &'static str, rooms: usize) -> Self {
        Self {
            name: name.into(),
            rooms,
            size: 20,
            publishers: 0,
            video_kbps: 0,
            paced: false,
            audio: false,
            chat: true,
        }
    }

    /// Returns the number of packets of a video frame, and the payload size of each.
    pub fn frame(&self) -> (usize, usize) {
        let bytes = self.video_kbps * 1_000 / 8 / 30;
        let packets = bytes.div_ceil(VIDEO_BYTES).max(1);
        (packets, (bytes / packets).max(16))
    }

    /// Returns the interval between two packets of a frame: libwebrtc's pacer sends at 2.5 times the bitrate.
    pub fn pause(&self) -> Duration {
        if self.paced { FRAME * 2 / 5 / self.frame().0 as u32 } else { Duration::ZERO }
    }

    /// Returns the total number of participants.
    pub fn people(&self) -> usize {
        self.rooms * self.size
    }

    /// Returns the numbers of video and audio packets to forward per second.
    pub fn forwarded_per_second(&self) -> (f64, f64) {
        let streams = (self.rooms * self.publishers * (self.size - 1)) as f64;
        let video = streams * self.frame().0 as f64 / FRAME.as_secs_f64();
        (video, if self.audio { streams / AUDIO.as_secs_f64() } else { 0.0 })
    }
}

/// The shapes of docs/performance.md.
pub fn all() -> Vec<Shape> {
    let room_of_30 = Shape { video_kbps: 300, ..Shape::conferences("one room of 30", 1, 30) };
    vec![
        Shape::watchers(10),
        Shape::watchers(100),
        Shape::watchers(500),
        Shape::watchers(1_000),
        Shape { name: "1 x 1000, paced".into(), paced: true, ..Shape::watchers(1_000) },
        Shape::conferences("conference of 16", 1, 16),
        Shape::conferences("25 rooms of 4", 25, 4),
        Shape { audio: false, ..Shape::conferences("100 rooms of 4", 100, 4) },
        room_of_30,
        Shape::idle("2,000 idle", 100),
    ]
}

/// The shapes for CI.
pub fn quick() -> Vec<Shape> {
    vec![
        Shape::watchers(100),
        Shape::conferences("conference of 8", 1, 8),
        Shape::conferences("10 rooms of 4", 10, 4),
        Shape::idle("200 idle", 10),
    ]
}
