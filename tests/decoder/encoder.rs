//! Encoders of synthetic video: headers as browsers write them, and bodies that name the references.

use super::Packet;
use super::body::Body;

/// Payload bytes after the headers of each packet, by spatial layer. Every frame has two packets, so that layers end and
/// begin within a picture.
const FILLING: [usize; 3] = [20; 3];

/// Timestamp difference between two pictures.
const INTERVAL: u32 = 3_000;

/// Eight pictures of libvpx's three temporal layers: layer, whether it is a sync frame, and the distances to its
/// references. The second half has no sync frames.
const VP8_L1T3: [(u8, bool, &[u32]); 8] = [
    (0, false, &[4]),
    (2, true, &[1]),
    (1, true, &[2]),
    (2, false, &[1, 2]),
    (0, false, &[4]),
    (2, false, &[1, 2]),
    (1, false, &[2, 4]),
    (2, false, &[1, 2]),
];

/// Four pictures of VP9's and AV1's three temporal layers: layer, and the distance to the reference.
const L1T3: [(u8, u32); 4] = [(0, 4), (2, 1), (1, 2), (2, 1)];

/// The VP9 scalability structure for `L1T3`, with one spatial layer of 640x360.
const VP9_STRUCTURE: [u8; 14] = [0x18, 0x02, 0x80, 0x01, 0x68, 4, 0x14, 4, 0x54, 1, 0x34, 2, 0x54, 1];

/// A VP9 scalability structure with three spatial layers and no picture group.
const VP9_SPATIAL_STRUCTURE: [u8; 13] = [0x50, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68, 0x05, 0x00, 0x02, 0xd0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Vp8,
    Vp8L1T3,
    /// Non-flexible.
    Vp9L1T3,
    /// Flexible; upper spatial layers refer to lower ones in key pictures only.
    Vp9L3T3Key,
    /// Non-flexible; upper spatial layers refer to lower ones in every picture.
    Vp9L3T3,
    Av1L1T3,
    /// As VP9's.
    Av1L3T3Key,
    Av1L3T3,
    H264,
}

/// Where a source sends the configuration that a decoder needs: H.264 parameter sets, AV1 sequence header or VP9
/// scalability structure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Configured {
    /// In each keyframe.
    #[default]
    Always,
    /// In the first keyframe.
    Once,
    /// Before each keyframe in separate packets, in reverse order, with earlier timestamps or in the same picture.
    Apart,
    /// Not in RTP.
    Never,
}

/// H.264's parameter sets: constrained baseline, 640x360.
pub const H264_SPS: [u8; 10] = [0x67, 0x42, 0xe0, 0x1f, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0xc0];
pub const H264_PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

/// AV1's sequence header, an OBU without a size field.
const AV1_SEQUENCE_HEADER: [u8; 11] = [0x08, 0x00, 0x00, 0x00, 0x04, 0x47, 0x7e, 0x6a, 0x3f, 0x2c, 0xc8];

/// A source: one SSRC of a publisher.
#[derive(Debug)]
pub struct Encoder {
    mode: Mode,
    stream: u32,
    seq_no: u64,
    timestamp: u32,
    /// Number of the next frame, as written in bodies.
    frame: u32,
    /// Pictures since the last keyframe.
    since_key: u32,
    wants_keyframe: bool,
    keyframes: u32,
    pub configured: Configured,
    /// Bits of the picture id: 15, 7, or none.
    pub picture_bits: u8,
    /// Payload bytes after the headers of each packet, by spatial layer.
    pub filling: [usize; 3],
    /// Number of spatial layers that it sends.
    pub spatial_layers: u32,
    picture: u16,
    frame_number: u16,
    tl0_pic_idx: u8,
}

/// A packet that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub seq_no: u64,
    pub timestamp: u32,
    /// How far its timestamp is before that of its picture.
    pub early: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
    pub dependency: Option<Vec<u8>>,
    /// Its layers, as known to the source.
    pub spatial: u8,
    pub temporal: u8,
}

impl Mode {
    fn spatial_layers(self) -> u32 {
        match self {
            Self::Vp9L3T3Key | Self::Vp9L3T3 | Self::Av1L3T3Key | Self::Av1L3T3 => 3,
            _ => 1,
        }
    }

    /// Returns true if upper spatial layers refer to lower ones in every picture.
    fn is_full(self) -> bool {
        matches!(self, Self::Vp9L3T3 | Self::Av1L3T3)
    }

    fn has_descriptor(self) -> bool {
        matches!(self, Self::Av1L1T3 | Self::Av1L3T3Key | Self::Av1L3T3)
    }
}

impl Sent {
    pub fn packet(&self) -> Packet<'_> {
        let Self { seq_no, timestamp, marker, .. } = *self;
        Packet { seq_no, timestamp, marker, payload: &self.payload, dependency: self.dependency.as_deref() }
    }
}

/// One frame to be written.
struct Frame {
    is_key: bool,
    is_last_of_picture: bool,
    spatial: u8,
    temporal: u8,
    is_sync: bool,
    /// Distances to its references in pictures.
    references: Vec<u32>,
    /// Whether it refers to the spatial layer below.
    is_inter_layer: bool,
    body: Body,
}

impl Encoder {
    /// Creates a source with the number `stream`. Its sequence numbers, ids and timestamp begin near `first`.
    pub fn new(mode: Mode, stream: u32, first: u16) -> Self {
        Self {
            mode,
            stream,
            seq_no: first.into(),
            timestamp: u32::from(first) << 16,
            frame: 0,
            since_key: 0,
            wants_keyframe: true,
            keyframes: 0,
            configured: Configured::Always,
            picture_bits: 15,
            filling: FILLING,
            spatial_layers: mode.spatial_layers(),
            frame_number: first,
            picture: first,
            tl0_pic_idx: first as u8,
        }
    }

    pub fn request_keyframe(&mut self) {
        self.wants_keyframe = true;
    }

    /// Encodes the next picture, in two packets per spatial layer.
    pub fn encode(&mut self) -> Vec<Sent> {
        let is_key = std::mem::take(&mut self.wants_keyframe);
        self.since_key = if is_key { 0 } else { self.since_key + 1 };
        self.timestamp = self.timestamp.wrapping_add(INTERVAL);
        self.picture = self.picture.wrapping_add(1);
        let (temporal, is_sync, differences): (u8, bool, &[u32]) = match self.mode {
            Mode::Vp8 | Mode::H264 => (0, false, &[1]),
            Mode::Vp8L1T3 => VP8_L1T3[self.since_key as usize % 8],
            _ => {
                let (temporal, difference) = &L1T3[self.since_key as usize % 4];
                (*temporal, false, std::slice::from_ref(difference))
            }
        };
        self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(u8::from(temporal == 0));
        let spatial_layers = self.mode.spatial_layers();
        let mut packets = Vec::new();
        if is_key {
            self.keyframes += 1;
            if self.mode == Mode::H264 && self.configured == Configured::Apart {
                let early = self.keyframes % 2;
                packets.extend([self.parameter_set(2 * early, &H264_PPS), self.parameter_set(early, &H264_SPS)]);
            }
        }
        for spatial in 0..self.spatial_layers {
            let references = if is_key { Vec::new() } else { differences.to_vec() };
            // The previous frame is the spatial layer below.
            let is_inter_layer = spatial > 0 && (is_key || self.mode.is_full());
            let mut referred: Vec<u32> =
                references.iter().map(|pictures| self.frame - spatial_layers * pictures).collect();
            if is_inter_layer {
                referred.push(self.frame - 1);
            }
            let frame = Frame {
                is_key,
                is_last_of_picture: spatial + 1 == self.spatial_layers,
                spatial: spatial as u8,
                temporal,
                is_sync,
                references,
                is_inter_layer,
                body: Body { stream: self.stream, frame: self.frame, references: referred },
            };
            packets.extend([true, false].map(|is_first| self.packet(&frame, is_first)));
            self.frame += 1;
            self.frame_number = self.frame_number.wrapping_add(1);
        }
        // Frames that are not sent have numbers, too.
        let missing = spatial_layers - self.spatial_layers;
        self.frame += missing;
        self.frame_number = self.frame_number.wrapping_add(missing as u16);
        packets
    }

    /// A packet with only a parameter set.
    fn parameter_set(&mut self, early: u32, unit: &[u8]) -> Sent {
        self.seq_no += 1;
        Sent {
            seq_no: self.seq_no,
            timestamp: self.timestamp.wrapping_sub(early),
            early,
            marker: false,
            payload: unit.to_vec(),
            dependency: None,
            spatial: 0,
            temporal: 0,
        }
    }

    /// Returns true if the current keyframe contains the codec configuration.
    fn is_configured(&self) -> bool {
        match self.configured {
            Configured::Always => true,
            Configured::Once => self.keyframes == 1,
            Configured::Apart | Configured::Never => false,
        }
    }

    fn packet(&mut self, frame: &Frame, is_first: bool) -> Sent {
        let mut payload = Vec::new();
        match self.mode {
            Mode::Vp8 | Mode::Vp8L1T3 => self.write_vp8(frame, is_first, &mut payload),
            Mode::Vp9L1T3 | Mode::Vp9L3T3Key | Mode::Vp9L3T3 => self.write_vp9(frame, is_first, &mut payload),
            Mode::Av1L1T3 | Mode::Av1L3T3Key | Mode::Av1L3T3 => self.write_av1(frame, is_first, &mut payload),
            Mode::H264 => self.write_h264(frame, is_first, &mut payload),
        }
        // Parameter sets have a separate packet.
        let is_of_sets = self.mode == Mode::H264 && frame.is_key && self.is_configured();
        if is_first != is_of_sets {
            frame.body.write(&mut payload);
        }
        payload.resize(payload.len() + self.filling[usize::from(frame.spatial)], 0x55);
        self.seq_no += 1;
        Sent {
            seq_no: self.seq_no,
            timestamp: self.timestamp,
            early: 0,
            marker: frame.is_last_of_picture && !is_first,
            payload,
            dependency: self.mode.has_descriptor().then(|| self.dependency(frame, is_first)),
            spatial: frame.spatial,
            temporal: frame.temporal,
        }
    }

    fn write_picture_id(&self, out: &mut Vec<u8>) {
        match self.picture_bits {
            15 => out.extend((self.picture | 0x8000).to_be_bytes()),
            7 => out.push(self.picture as u8 & 0x7f),
            _ => {}
        }
    }

    fn write_vp8(&self, frame: &Frame, is_first: bool, out: &mut Vec<u8>) {
        out.push(0x80 | u8::from(is_first) << 4);
        let has_layers = self.mode == Mode::Vp8L1T3;
        let fields = if self.picture_bits > 0 { 0x80 } else { 0 };
        out.push(fields | if has_layers { 0x60 } else { 0 });
        self.write_picture_id(out);
        if has_layers {
            out.extend([self.tl0_pic_idx, frame.temporal << 6 | u8::from(frame.is_sync) << 5]);
        }
        if is_first && frame.is_key {
            out.extend([0x50, 0x2b, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        } else {
            out.push(0x31);
        }
    }

    fn write_vp9(&self, frame: &Frame, is_first: bool, out: &mut Vec<u8>) {
        let is_flexible = self.mode == Mode::Vp9L3T3Key;
        let has_structure = is_first && frame.is_key && frame.spatial == 0 && self.is_configured();
        let boundary = if is_first { 0x08 } else { 0x04 };
        let bits = [(frame.is_key, 0x00, 0x40), (is_flexible, 0x10, 0), (has_structure, 0x02, 0)];
        let flags = bits.map(|(is_set, yes, no)| if is_set { yes } else { no }).iter().sum::<u8>();
        out.push(0xa0 | boundary | flags);
        self.write_picture_id(out);
        // All pictures refer to lower temporal layers only, so that each is a switching point.
        out.push(frame.temporal << 5 | 0x10 | frame.spatial << 1 | u8::from(frame.is_inter_layer));
        if !is_flexible {
            out.push(self.tl0_pic_idx);
        } else {
            for (index, difference) in frame.references.iter().enumerate() {
                out.push((*difference as u8) << 1 | u8::from(index + 1 < frame.references.len()));
            }
        }
        match (has_structure, self.mode) {
            (true, Mode::Vp9L1T3) => out.extend(VP9_STRUCTURE),
            (true, mode) => {
                out.extend(VP9_SPATIAL_STRUCTURE);
                if mode == Mode::Vp9L3T3 {
                    // Add the picture group.
                    let head = out.len() - VP9_SPATIAL_STRUCTURE.len();
                    out[head] |= 0x08;
                    out.extend(&VP9_STRUCTURE[5..]);
                }
            }
            _ => {}
        }
    }

    /// Writes the dependency descriptor. The templates are those of appendix A.6.2.1 of the AV1 RTP payload specification
    /// for each spatial layer, with ids that differ between sources.
    fn dependency(&self, frame: &Frame, is_first: bool) -> Vec<u8> {
        let first_template = (self.stream * 7 % 64) as u8;
        let template = match (frame.is_key, self.since_key % 4) {
            (true, _) => 0,
            (false, 0) => 1,
            (false, 2) => 2,
            (false, place) => 3 + (place as u8) / 2,
        };
        let boundary = if is_first { 0x80 } else { 0x40 };
        let place = first_template + 5 * frame.spatial + template;
        let mut element = vec![boundary | (place % 64)];
        element.extend(self.frame_number.to_be_bytes());
        if !(is_first && frame.is_key && frame.spatial == 0) {
            return element;
        }
        let mut bits = Vec::new();
        let mut put = |count: u32, value: u32| bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        // Only a template structure: three decode targets per spatial layer; temporal layers 0, 0, 1, 2, 2.
        let count = self.mode.spatial_layers();
        put(5, 0b10000);
        put(6, first_template.into());
        put(5, 3 * count - 1);
        for spatial in 1..=count {
            put(8, 0b00_01_01_00);
            put(2, if spatial == count { 3 } else { 2 });
        }
        for spatial in 0..count {
            // SSS, SSS, -DS, --D, --D for its own targets; not present in those of lower spatial layers.
            for own in [0b101010, 0b101010, 0b000110, 0b000001, 0b000001] {
                (0..count).for_each(|target| put(6, if target < spatial { 0 } else { own }));
            }
        }
        for spatial in 0..count {
            for (place, pictures) in [0, 4, 2, 1, 1].into_iter().enumerate() {
                if pictures > 0 {
                    put(5, 0b10000 | (count * pictures - 1));
                }
                if spatial > 0 && (place == 0 || self.mode.is_full()) {
                    put(5, 0b10000);
                }
                put(1, 0);
            }
        }
        if count == 1 {
            // One chain that protects all decode targets, and the distances in it.
            put(2, 1);
            [0, 4, 2, 1, 3].into_iter().for_each(|difference| put(4, difference));
        } else {
            put(3, 0);
        }
        put(1, 1);
        let (width, height) = if count == 1 { (640, 360) } else { (1_280, 720) };
        for halvings in (0..count).rev() {
            put(32, ((width >> halvings) - 1) << 16 | ((height >> halvings) - 1));
        }
        element.extend(
            bits.chunks(8)
                .map(|bits| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))),
        );
        element
    }

    fn write_av1(&self, frame: &Frame, is_first: bool, out: &mut Vec<u8>) {
        // One OBU, after the sequence header, which ends in the second packet. Its header is followed by the first bits of
        // a frame header: a shown keyframe, or another frame.
        let is_key = frame.is_key && frame.spatial == 0;
        match (is_first, is_key) {
            (true, true) if self.is_configured() => {
                out.extend([0x68, AV1_SEQUENCE_HEADER.len() as u8]);
                out.extend(AV1_SEQUENCE_HEADER);
                out.extend([0x30, 0x10]);
            }
            (true, true) => out.extend([0x50, 0x30, 0x10]),
            (true, false) => out.extend([0x50, 0x30, 0x30]),
            (false, _) => out.push(0x90),
        }
    }

    fn write_h264(&self, frame: &Frame, is_first: bool, out: &mut Vec<u8>) {
        match (is_first, frame.is_key) {
            (true, true) if self.is_configured() => {
                let mut unit = |bytes: &[u8], more: usize| {
                    out.extend(((bytes.len() + more) as u16).to_be_bytes());
                    out.extend(bytes);
                };
                unit(&H264_SPS, 0);
                unit(&H264_PPS, 0);
                // An aggregation packet has only complete NAL units, so an SEI unit contains the filling.
                unit(&[0x06, 0x05], self.filling[0]);
                out.insert(0, 0x78);
            }
            (false, true) if self.is_configured() => out.extend([0x65, 0x88]),
            (true, true) => out.extend([0x7c, 0x85, 0x88]),
            (false, true) => out.extend([0x7c, 0x45]),
            (true, false) => out.extend([0x7c, 0x81, 0x9a]),
            (false, false) => out.extend([0x7c, 0x41]),
        }
    }
}
