//! Parser of the dependency descriptor, a header extension element that states a frame's layer and its dependencies
//! (AV1 RTP payload specification, appendix A). Browsers may send it with any codec, and receivers prefer it to the
//! payload's own fields.
//!
//! A frame refers to a template, and keyframes contain the templates. Only the parts that forwarding needs are kept, in
//! 280 bytes per SSRC; the references between frames are not.

use crate::media::rtp::codec::description::Heights;

/// The first byte (appendix A.4.1, mandatory_descriptor_fields).
const STARTS_FRAME: u8 = 0x80;
const ENDS_FRAME: u8 = 0x40;
const TEMPLATE_ID: u8 = 0x3f;

/// The five flags after the frame number, if present (extended_descriptor_fields). The last two concern references
/// between frames and are ignored.
const HAS_STRUCTURE: u32 = 0x10;
const HAS_ACTIVE_TARGETS: u32 = 0x08;
const HAS_OWN_DTIS: u32 = 0x04;

/// Template ids have six bits, and there are at most 32 decode targets (appendix A.4.1).
const TEMPLATES: usize = 64;
const TARGETS: usize = 32;

/// Highest layer ids (table A.1).
const MAX_SPATIAL: u8 = 3;
const MAX_TEMPORAL: u8 = 7;

/// `next_layer_idc` (table A.3).
const SAME_LAYER: u32 = 0;
const NEXT_TEMPORAL: u32 = 1;
const NEXT_SPATIAL: u32 = 2;

/// Decode target indications (table A.2).
const NOT_PRESENT: u64 = 0;
const SWITCH: u64 = 2;

/// A structure at most this many frames older than the known one arrived late, as a retransmission, and is not kept:
/// later packets refer to the newer one. A higher value would misread a source that restarts its frame numbers for
/// longer; a lower one would let a retransmitted keyframe replace the structure of a later one. Retransmissions arrive
/// within seconds.
const MAX_LATE_FRAMES: u16 = 256;

/// The templates of the current coded video sequence of one SSRC.
#[derive(Clone, Debug)]
pub struct Structure {
    /// Frame number of the frame that contained it.
    frame_number: u16,
    /// Id of the first template.
    first: u8,
    /// 0 before the first structure.
    template_count: usize,
    target_count: u32,
    templates: [Template; TEMPLATES],
    targets: [Layer; TARGETS],
}

/// The contents of one packet's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The packet is the first of its frame.
    pub starts_frame: bool,
    /// The packet is the last of its frame.
    pub ends_frame: bool,
    /// Frame number, the same in all packets of a frame.
    pub frame_number: u16,
    /// The descriptor contains templates: its frame is the first of a coded video sequence.
    pub has_structure: bool,
    /// Layer of the frame, if its template is known.
    pub layer: Option<Layer>,
    /// After this frame, all frames of the same spatial layer up to this temporal layer can be decoded.
    pub opens: u8,
    /// Picture height per spatial layer, lowest layer first; 0 if unknown.
    pub heights: Heights,
}

/// Spatial and temporal layer of a frame, or the highest ones of a decode target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Spatial layer, 0 to 3.
    pub spatial: u8,
    /// Temporal layer, 0 to 7.
    pub temporal: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Template {
    layer: Layer,
    opens: u8,
}

impl Default for Structure {
    fn default() -> Self {
        Self {
            frame_number: 0,
            first: 0,
            template_count: 0,
            target_count: 0,
            templates: [Template::default(); TEMPLATES],
            targets: [Layer::default(); TARGETS],
        }
    }
}

impl Structure {
    /// Parses the value of a descriptor element, and keeps its templates. Returns `None` if it is too short for a frame
    /// number.
    pub fn read(&mut self, element: &[u8]) -> Option<Dependency> {
        let (&[first, high, low], extended) = element.split_first_chunk::<3>()?;
        let mut bits = Bits { bytes: extended, at: 0 };
        let flags = bits.read(5).unwrap_or(0);
        let mut dependency = Dependency {
            starts_frame: first & STARTS_FRAME != 0,
            ends_frame: first & ENDS_FRAME != 0,
            frame_number: u16::from_be_bytes([high, low]),
            has_structure: false,
            layer: None,
            opens: 0,
            heights: Heights::default(),
        };
        let id = first & TEMPLATE_ID;
        if flags & HAS_STRUCTURE != 0 {
            let parsed = Self::parse(&mut bits, dependency.frame_number);
            // A structure is valid only on the first packet of a frame, and with the template of its own frame.
            let usable = parsed.filter(|(structure, _)| dependency.starts_frame && structure.find(id).is_some());
            if let Some((structure, heights)) = usable {
                dependency.has_structure = true;
                dependency.heights = heights;
                structure.describe(id, flags, &mut bits, &mut dependency);
                if !self.is_newer_than(dependency.frame_number) {
                    *self = structure;
                }
            }
        } else {
            self.describe(id, flags, &mut bits, &mut dependency);
        }
        Some(dependency)
    }

    fn describe(&self, id: u8, flags: u32, bits: &mut Bits, dependency: &mut Dependency) {
        let Some(template) = self.find(id) else {
            return;
        };
        let layer = template.layer;
        let dtis = |bits: &mut Bits| {
            if flags & HAS_ACTIVE_TARGETS != 0 {
                bits.read(self.target_count)?;
            }
            (0..self.target_count).try_fold(0, |dtis, target| Some(dtis | u64::from(bits.read(2)?) << (2 * target)))
        };
        let own_opens = |bits| self.opened_by(layer.spatial, dtis(bits).unwrap_or(NOT_PRESENT));
        dependency.layer = Some(layer);
        dependency.opens = if flags & HAS_OWN_DTIS != 0 { own_opens(bits) } else { template.opens };
    }

    fn find(&self, id: u8) -> Option<Template> {
        let index = usize::from(id.wrapping_sub(self.first) & TEMPLATE_ID);
        self.templates[..self.template_count].get(index).copied()
    }

    fn is_newer_than(&self, frame_number: u16) -> bool {
        self.template_count > 0 && (1..=MAX_LATE_FRAMES).contains(&self.frame_number.wrapping_sub(frame_number))
    }

    /// Returns the highest temporal layer among the decode targets of this spatial layer that these indications mark as
    /// switch points.
    fn opened_by(&self, spatial: u8, dtis: u64) -> u8 {
        let targets = self.targets.iter().zip(0..self.target_count);
        let opened = targets.filter(|(layer, target)| layer.spatial == spatial && dti(dtis, *target) == SWITCH);
        opened.map(|(layer, _)| layer.temporal).max().unwrap_or(0)
    }

    /// Parses a template dependency structure. Returns it with the picture heights of its spatial layers.
    fn parse(bits: &mut Bits, frame_number: u16) -> Option<(Self, Heights)> {
        let mut structure = Self { frame_number, first: bits.read(6)? as u8, ..Self::default() };
        structure.target_count = bits.read(5)? + 1;
        structure.parse_layers(bits)?;
        structure.parse_dtis(bits)?;
        // Skip the frame differences.
        for _ in 0..structure.template_count {
            while bits.read(1)? == 1 {
                bits.read(4)?;
            }
        }
        let chain_count = bits.read_below(structure.target_count + 1)?;
        if chain_count > 0 {
            (0..structure.target_count).try_for_each(|_| bits.read_below(chain_count).map(drop))?;
            (0..structure.template_count).try_for_each(|_| bits.read(4 * chain_count).map(drop))?;
        }
        let mut heights = Heights::default();
        if bits.read(1)? == 1 {
            for layer in 0..=structure.templates[structure.template_count - 1].layer.spatial {
                let [_, height] = [bits.read(16)?, bits.read(16)?].map(|less_one| less_one as u16);
                let place = usize::from(layer).min(heights.len() - 1);
                heights[place] = height.wrapping_add(1);
            }
        }
        Some((structure, heights))
    }

    fn parse_layers(&mut self, bits: &mut Bits) -> Option<()> {
        let mut layer = Layer::default();
        for template in &mut self.templates {
            template.layer = layer;
            self.template_count += 1;
            match bits.read(2)? {
                SAME_LAYER => {}
                NEXT_TEMPORAL => layer.temporal += 1,
                NEXT_SPATIAL => layer = Layer { spatial: layer.spatial + 1, temporal: 0 },
                _ => return Some(()),
            }
            if layer.spatial > MAX_SPATIAL || layer.temporal > MAX_TEMPORAL {
                return None;
            }
        }
        None
    }

    fn parse_dtis(&mut self, bits: &mut Bits) -> Option<()> {
        let mut dtis = [0; TEMPLATES];
        for (template, dtis) in self.templates[..self.template_count].iter().zip(&mut dtis) {
            for (target, index) in self.targets.iter_mut().zip(0..self.target_count) {
                let indication = u64::from(bits.read(2)?);
                *dtis |= indication << (2 * index);
                if indication != NOT_PRESENT {
                    target.spatial = target.spatial.max(template.layer.spatial);
                    target.temporal = target.temporal.max(template.layer.temporal);
                }
            }
        }
        for (index, dtis) in dtis.iter().enumerate().take(self.template_count) {
            self.templates[index].opens = self.opened_by(self.templates[index].layer.spatial, *dtis);
        }
        Some(())
    }
}

fn dti(dtis: u64, target: u32) -> u64 {
    dtis >> (2 * target) & 0b11
}

/// A bit reader, most significant bit first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// Reads `count` bits as a number. Only the lowest 32 bits are returned.
    fn read(&mut self, count: u32) -> Option<u32> {
        let end = self.at + count as usize;
        if end > 8 * self.bytes.len() {
            return None;
        }
        let value = (self.at..end).fold(0, |value, at| value << 1 | u32::from(self.bytes[at / 8] >> (7 - at % 8) & 1));
        self.at = end;
        Some(value)
    }

    /// Reads a number below `limit`, which is not 0: "ns" in appendix A.4.1.
    fn read_below(&mut self, limit: u32) -> Option<u32> {
        let width = u32::BITS - limit.leading_zeros();
        let short = (1 << width) - limit;
        let value = self.read(width - 1)?;
        if value < short { Some(value) } else { Some((value << 1) - short + self.read(1)?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One spatial and three temporal layers (appendix A.6.2.1), 640x360, first template 5. Indications of the
    /// templates: SSS, SSS, -DS, --D, --D.
    const L1T3: [u8; 20] = [
        0x85, 0x12, 0x34, 0x80, 0xa2, 0x14, 0xea, 0xa8, 0x60, 0x41, 0x4d, 0x14, 0x10, 0x20, 0x84, 0x27, 0x02, 0x7f,
        0x01, 0x67,
    ];

    /// Two spatial layers with two temporal layers each, the upper predicted from the lower in key pictures only;
    /// 320x180 and 640x360, first template 62, two chains. Indications: SSSS, SS--, -D--, then of the upper layer --SS,
    /// --SS, ---D.
    const L2T2_KEY: [u8; 32] = [
        0xfe, 0xff, 0xff, 0x87, 0xc3, 0x18, 0x7a, 0xaa, 0x01, 0x00, 0xa0, 0xa0, 0x14, 0x51, 0x41, 0x34, 0x51, 0x80,
        0x21, 0x90, 0x88, 0x8a, 0x19, 0x40, 0x4f, 0xc0, 0x2c, 0xc0, 0x9f, 0xc0, 0x59, 0xc0,
    ];

    /// One template, one target, no chains, no size.
    const L1T1: [u8; 6] = [0xc0, 0x00, 0x01, 0x80, 0x00, 0xe0];

    fn known(element: &[u8]) -> Structure {
        let mut structure = Structure::default();
        assert!(structure.read(element).unwrap().has_structure);
        structure
    }

    /// Returns spatial layer, temporal layer and `opens` of an element.
    fn layer(structure: &mut Structure, element: &[u8]) -> Option<(u8, u8, u8)> {
        let dependency = structure.read(element).unwrap();
        dependency.layer.map(|layer| (layer.spatial, layer.temporal, dependency.opens))
    }

    #[test]
    fn a_keyframe_contains_the_templates_and_the_picture_heights() {
        for (element, starts_frame, ends_frame, frame_number, opens, heights) in [
            (&L1T3[..], true, false, 0x1234, 2, [360, 0, 0]),
            (&L2T2_KEY, true, true, 0xffff, 1, [180, 360, 0]),
            (&L1T1, true, true, 1, 0, [0; 3]),
        ] {
            let layer = Some(Layer::default());
            let expected =
                Dependency { starts_frame, ends_frame, frame_number, has_structure: true, layer, opens, heights };
            assert_eq!(Structure::default().read(element), Some(expected), "{element:x?}");
        }
    }

    #[test]
    fn a_frame_refers_to_its_template() {
        let ids = |first: u8, count: u8| (0..count).map(move |index| first.wrapping_add(index) & TEMPLATE_ID);
        let mut structure = known(&L1T3);
        let found: Vec<_> = ids(4, 7).map(|id| layer(&mut structure, &[id, 0x12, 0x35])).collect();
        let expected = [(0, 0, 2), (0, 0, 2), (0, 1, 2), (0, 2, 0), (0, 2, 0)].map(Some);
        assert_eq!(found[1..6], expected);
        assert_eq!((found[0], found[6]), (None, None), "no such template");
        let mut structure = known(&L2T2_KEY);
        let found: Vec<_> = ids(62, 7).map(|id| layer(&mut structure, &[id, 0, 0])).collect();
        let expected = [(0, 0, 1), (0, 0, 1), (0, 1, 0), (1, 0, 1), (1, 0, 1), (1, 1, 0)].map(Some);
        assert_eq!((&found[..6], found[6]), (&expected[..], None));
        assert_eq!(layer(&mut Structure::default(), &[0xc0, 0, 0]), None, "before any structure");
        // The maximum numbers of layers.
        let mut structure = known(&[0xc0, 0, 9, 0x80, 0x00, 0xab, 0xaa, 0x00]);
        assert_eq!(layer(&mut structure, &[3, 0, 10]), Some((3, 0, 0)));
        let mut structure = known(&[0xc0, 0, 9, 0x80, 0x00, 0x55, 0x57, 0xaa, 0xaa, 0x00, 0x00]);
        assert_eq!(layer(&mut structure, &[7, 0, 10]), Some((0, 7, 7)));
    }

    #[test]
    fn a_frame_may_have_indications_of_its_own() {
        let mut structure = known(&L1T3);
        for (element, expected) in [
            // -RR; -DS after the active targets; and frame differences of its own, which are ignored.
            (&[0xc7, 0x12, 0x35, 0x21, 0xe0][..], (0, 1, 0)),
            (&[0xc7, 0x12, 0x35, 0x63, 0x18], (0, 1, 2)),
            (&[0xc7, 0x12, 0x35, 0x12, 0x40], (0, 1, 2)),
            // Active targets only.
            (&[0xc7, 0x12, 0x35, 0x43], (0, 1, 2)),
            // Cut off within its own indications.
            (&[0xc7, 0x12, 0x35, 0x21], (0, 1, 0)),
        ] {
            assert_eq!(layer(&mut structure, element), Some(expected), "{element:x?}");
        }
        // RRSS: switch points of the other spatial layer do not count.
        assert_eq!(layer(&mut known(&L2T2_KEY), &[0xff, 0, 0, 0x27, 0xd0]), Some((0, 0, 0)));
    }

    #[test]
    fn non_symmetric_numbers_have_the_minimum_length() {
        for (byte, limit, expected, length) in [
            (0b0000_0000, 5, 0, 2),
            (0b1000_0000, 5, 2, 2),
            (0b1100_0000, 5, 3, 3),
            (0b1110_0000, 5, 4, 3),
            (0b1100_0000, 4, 3, 2),
            (0b0000_0000, 1, 0, 0),
            (0b1111_1000, 33, 31, 6),
        ] {
            let mut bits = Bits { bytes: &[byte], at: 0 };
            assert_eq!((bits.read_below(limit), bits.at), (Some(expected), length), "{byte:b} below {limit}");
        }
    }

    #[test]
    fn a_broken_structure_changes_nothing() {
        let mut second = L1T3;
        second[0] &= !STARTS_FRAME;
        let mut of_another = L1T3;
        of_another[0] = 0x84;
        let endless = [&[0xc0, 0, 9, 0x80][..], &[0; 250]].concat();
        let fifth_spatial = vec![0xc0, 0, 9, 0x80, 0x00, 0xaa, 0xea, 0xa0, 0x00];
        let ninth_temporal = vec![0xc0, 0, 9, 0x80, 0x00, 0x55, 0x55, 0xea, 0xaa, 0xa0, 0x00];
        let nothing_but_differences = [&[0xc0, 0, 9, 0x80][..], &[0xff; 250]].concat();
        let mut broken = vec![second.to_vec(), of_another.to_vec(), endless, fifth_spatial, ninth_temporal];
        broken.push(nothing_but_differences);
        broken.extend((4..L1T3.len()).map(|length| L1T3[..length].to_vec()));
        for mut element in broken {
            element[1..3].copy_from_slice(&[0, 9]);
            let mut structure = known(&L2T2_KEY);
            let dependency = structure.read(&element).unwrap();
            assert_eq!((dependency.has_structure, dependency.layer, dependency.heights), (false, None, [0; 3]));
            assert_eq!(dependency.frame_number, 9, "{element:x?}");
            assert_eq!(layer(&mut structure, &[3, 0, 10]), Some((1, 1, 0)), "{element:x?}");
        }
        for length in 0..3 {
            assert_eq!(Structure::default().read(&L1T3[..length]), None);
        }
    }

    #[test]
    fn a_late_structure_is_reported_and_not_kept() {
        for (late_by, is_kept) in
            [(0, true), (1, false), (MAX_LATE_FRAMES, false), (MAX_LATE_FRAMES + 1, true), (0xffff, true)]
        {
            let mut structure = known(&L2T2_KEY);
            let mut late = L1T3;
            late[1..3].copy_from_slice(&0xffff_u16.wrapping_sub(late_by).to_be_bytes());
            let dependency = structure.read(&late).unwrap();
            assert!(dependency.has_structure && dependency.layer.is_some(), "late by {late_by}");
            assert_eq!(layer(&mut structure, &[8, 0, 0]).is_some(), is_kept, "late by {late_by}");
        }
    }

    #[test]
    fn arbitrary_bytes_are_parsed() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut structure = Structure::default();
        let mut found = 0;
        for _ in 0..20_000 {
            let mut element: Vec<u8> = (0..random.u8(..64)).map(|_| random.u8(..)).collect();
            if element.len() > 3 {
                element[3] |= 0x80;
            }
            found += usize::from(structure.read(&element).is_some_and(|dependency| dependency.has_structure));
        }
        assert!(found > 10, "{found}");
    }
}
