//! A model of a receiver that is as strict as a browser's decoder, and encoders of synthetic video.
//!
//! `Decoder` takes the packets of one SSRC in the order of their sequence numbers, and returns an error for packets that
//! would stop or damage the picture. It has its own parsers, modeled on libwebrtc's `PacketBuffer`, `RtpVp8RefFinder`,
//! `RtpVp9RefFinder` and `ParseGenericDependenciesExtension`. A gap in the numbers counts as loss, about which it is as
//! lenient as they are. `Encoder` creates frames whose bodies contain their number and those of their references, so that
//! a reference to a dropped frame is detected whatever the headers say.
//!
//! Unit tests and the simulation include this module by path.
#![allow(dead_code, reason = "each who includes it uses a part of it")]

mod av1;
pub mod body;
pub mod encoder;
mod h264;
mod vp8;
mod vp9;

use std::collections::HashSet;

use str0m::format::Codec;

use body::Body;

/// A received packet.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// Extended sequence number.
    pub seq_no: u64,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: &'a [u8],
    /// Value of the dependency descriptor extension.
    pub dependency: Option<&'a [u8]>,
}

/// What a codec's parser finds in a packet.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    starts_frame: bool,
    ends_frame: bool,
    /// Whether decoding can start here.
    is_key: bool,
    spatial: u8,
    temporal: u8,
}

/// The context of the frame that a packet starts.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Packets are missing since the last frame, so that its numbers only have to increase.
    after_loss: bool,
    /// Packets are missing since the keyframe, so that its references may be missing.
    misses_references: bool,
    /// It comes from another source than the last frame. Its numbers have to continue by one.
    is_switch: bool,
}

/// The receiver of one SSRC.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    last_seq_no: Option<u64>,
    /// Timestamp of the current or last picture, and whether its marker was received.
    picture: Option<(u32, bool)>,
    /// Completed spatial layers of this picture, as bits.
    layers: u8,
    /// Whether a frame has begun and not ended.
    is_in_frame: bool,
    is_after_loss: bool,
    misses_references: bool,
    /// Body of the current frame, if no packet of it is missing.
    body: Option<Body>,
    stream: Option<u32>,
    decoded: HashSet<(u32, u32)>,
    vp8: vp8::State,
    vp9: vp9::State,
    av1: av1::State,
    h264: h264::State,
    /// Number of completed frames, by temporal layer.
    pub frames: [usize; 8],
    /// Number of completed frames, by spatial layer.
    pub spatial_frames: [usize; 8],
    /// Spatial layers of each completed picture, as bits.
    pub pictures: Vec<u8>,
    /// Number of changes to another source.
    pub switches: usize,
}

impl Decoder {
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            last_seq_no: None,
            picture: None,
            is_in_frame: false,
            is_after_loss: false,
            misses_references: false,
            body: None,
            stream: None,
            decoded: HashSet::new(),
            vp8: Default::default(),
            vp9: Default::default(),
            av1: Default::default(),
            h264: Default::default(),
            frames: [0; 8],
            spatial_frames: [0; 8],
            pictures: Vec::new(),
            layers: 0,
            switches: 0,
        }
    }

    /// Handles the next packet. The error says why a decoder could not continue with it.
    pub fn handle(&mut self, packet: &Packet) -> Result<(), String> {
        self.try_handle(packet).map_err(|reason| format!("{reason}: {packet:x?}"))
    }

    fn try_handle(&mut self, packet: &Packet) -> Result<(), String> {
        if self.last_seq_no.is_some_and(|last| packet.seq_no <= last) {
            return Err("its number is not above the last".into());
        }
        let is_missing = self.last_seq_no.is_some_and(|last| packet.seq_no != last + 1);
        self.last_seq_no = Some(packet.seq_no);
        if is_missing {
            (self.is_after_loss, self.misses_references) = (true, true);
            (self.is_in_frame, self.body) = (false, None);
        }
        if packet.payload.is_empty() {
            // Padding.
            return Ok(());
        }
        let found = match self.codec {
            Codec::Vp8 => vp8::State::find(packet),
            Codec::Vp9 => vp9::State::find(packet),
            Codec::Av1 => self.av1.find(packet, self.is_in_frame),
            Codec::H264 => self.h264.find(packet, self.picture, self.is_in_frame),
            codec => Err(format!("no model of {codec:?}")),
        };
        let found = match found {
            // The packet needs lost templates or parameter sets: a receiver drops it and requests a keyframe.
            Err(_) if self.misses_references => {
                (self.is_after_loss, self.is_in_frame, self.body) = (true, false, None);
                return Ok(());
            }
            found => found?,
        };
        if found.starts_frame {
            self.start_frame(packet, found)?;
        } else if !self.is_in_frame {
            // This is the rest of a frame whose first packet is missing.
            return if self.is_after_loss { Ok(()) } else { Err("it is of no frame".into()) };
        } else if self.picture.is_none_or(|(timestamp, _)| timestamp != packet.timestamp) {
            return Err("its frame has another timestamp".into());
        } else if self.codec == Codec::H264 && self.body.is_none() && Body::find(packet.payload).is_some() {
            // The frame began with parameter sets, and its body is in this later packet.
            self.take_body(packet, self.misses_references, found.is_key)?;
        }
        if found.ends_frame || packet.marker {
            self.end_frame(found);
        }
        if packet.marker {
            self.picture = Some((packet.timestamp, true));
            self.pictures.push(std::mem::take(&mut self.layers));
        }
        Ok(())
    }

    fn start_frame(&mut self, packet: &Packet, found: Found) -> Result<(), String> {
        // A keyframe discards an incomplete frame; any other frame waits for its end.
        if self.is_in_frame && !found.is_key {
            return Err("the frame before has no end".into());
        }
        match self.picture {
            None if !found.is_key => return Err("the first frame is no keyframe".into()),
            Some((timestamp, true)) if packet.timestamp.wrapping_sub(timestamp) as i32 <= 0 => {
                return Err(format!("its timestamp does not go forward from {timestamp}"));
            }
            Some((timestamp, false)) if packet.timestamp != timestamp && !self.is_after_loss && !found.is_key => {
                return Err("the picture before has no marker".into());
            }
            Some((timestamp, false))
                if packet.timestamp != timestamp && packet.timestamp.wrapping_sub(timestamp) as i32 <= 0 =>
            {
                return Err(format!("its timestamp does not go forward from {timestamp}"));
            }
            _ => {}
        }
        let (after_loss, misses_references) = (self.is_after_loss, self.misses_references && !found.is_key);
        let is_switch = self.take_body(packet, misses_references, found.is_key)?;
        let start = Start { after_loss, misses_references, is_switch };
        match self.codec {
            Codec::Vp8 => self.vp8.start_frame(packet, start)?,
            Codec::Vp9 => self.vp9.start_frame(packet, start)?,
            Codec::Av1 => self.av1.start_frame(packet, start)?,
            _ => {}
        }
        (self.is_after_loss, self.misses_references) = (false, misses_references);
        if self.picture.is_none_or(|(timestamp, _)| timestamp != packet.timestamp) {
            self.layers = 0;
        }
        (self.picture, self.is_in_frame) = (Some((packet.timestamp, false)), true);
        Ok(())
    }

    /// Reads a frame's body and checks its references. Returns true if its source differs from that of the last frame.
    fn take_body(&mut self, packet: &Packet, misses_references: bool, is_key: bool) -> Result<bool, String> {
        self.body = Body::find(packet.payload);
        let Some(body) = &self.body else {
            return Ok(false);
        };
        let is_switch = self.stream.is_some_and(|stream| stream != body.stream);
        if is_switch && !is_key && !misses_references {
            return Err("another source begins without a keyframe".into());
        }
        self.stream = Some(body.stream);
        let missing = body.references.iter().find(|frame| !self.decoded.contains(&(body.stream, **frame)));
        // After loss, a lost reference can't be distinguished from a dropped one.
        if let (Some(missing), false) = (missing, misses_references) {
            return Err(format!("{body:?} refers to {missing}, which was not received"));
        }
        self.switches += usize::from(is_switch);
        Ok(is_switch)
    }

    fn end_frame(&mut self, found: Found) {
        self.is_in_frame = false;
        self.decoded.extend(self.body.take().map(|body| (body.stream, body.frame)));
        self.frames[usize::from(found.temporal)] += 1;
        self.spatial_frames[usize::from(found.spatial)] += 1;
        self.layers |= 1 << found.spatial;
    }
}

/// Returns true if `number` follows `last`, both with the bits of `mask`. After loss, it only has to be higher.
fn follows(number: u16, last: u16, mask: u16, start: Start) -> bool {
    let ahead = number.wrapping_sub(last) & mask;
    if start.after_loss { (1..=mask / 2).contains(&ahead) } else { ahead == 1 }
}

fn byte(payload: &[u8], at: usize) -> Result<u8, String> {
    payload.get(at).copied().ok_or_else(|| "it is cut off".into())
}
