//! AV1 with a dependency descriptor, as handled by libwebrtc's `ParseGenericDependenciesExtension` and
//! `RtpGenericFrameRefFinder`.

use std::collections::HashSet;

use super::{Found, Packet, Start, byte};

/// Maximum number of frames dropped between two forwarded ones without loss; more counts as a jump.
const MAX_LEFT_OUT: u16 = 24;

#[derive(Debug, Default)]
pub struct State {
    has_sequence_header: bool,
    structure: Option<Structure>,
    frame_number: Option<u16>,
    received: HashSet<u16>,
}

#[derive(Clone, Debug, Default)]
struct Structure {
    first: u32,
    targets: u32,
    /// Spatial layer, temporal layer, frame differences.
    templates: Vec<(u8, u8, Vec<u16>)>,
}

struct Descriptor {
    starts_frame: bool,
    ends_frame: bool,
    template: u32,
    frame_number: u16,
    structure: Option<Structure>,
    own_differences: Option<Vec<u16>>,
}

struct Bits(Vec<bool>, usize);

impl Bits {
    fn take(&mut self, count: u32) -> Result<u32, String> {
        let mut value = 0;
        for _ in 0..count {
            let bit = *self.0.get(self.1).ok_or("the descriptor is cut off")?;
            value = value * 2 + u32::from(bit);
            self.1 += 1;
        }
        Ok(value)
    }

    fn take_ns(&mut self, count: u32) -> Result<u32, String> {
        let width = count.ilog2() + 1;
        let short = 2_u32.pow(width) - count;
        let value = self.take(width - 1)?;
        if value < short {
            return Ok(value);
        }
        Ok(value * 2 - short + self.take(1)?)
    }
}

impl Structure {
    fn read(bits: &mut Bits) -> Result<Self, String> {
        let mut structure = Self { first: bits.take(6)?, targets: bits.take(5)? + 1, templates: Vec::new() };
        let (mut spatial, mut temporal) = (0, 0);
        loop {
            structure.templates.push((spatial, temporal, Vec::new()));
            match bits.take(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => break,
            }
        }
        let count = structure.templates.len() as u32;
        for _ in 0..count * structure.targets {
            bits.take(2)?;
        }
        for (_, _, differences) in &mut structure.templates {
            while bits.take(1)? == 1 {
                differences.push(bits.take(4)? as u16 + 1);
            }
        }
        let chains = bits.take_ns(structure.targets + 1)?;
        if chains > 0 {
            for _ in 0..structure.targets {
                bits.take_ns(chains)?;
            }
            for _ in 0..count * chains {
                bits.take(4)?;
            }
        }
        if bits.take(1)? == 1 {
            for _ in 0..=spatial {
                bits.take(32)?;
            }
        }
        Ok(structure)
    }
}

/// Returns true if a packet's first OBU is a complete sequence header.
fn has_sequence_header(payload: &[u8]) -> Result<bool, String> {
    let has_length = payload[0] >> 4 & 3 != 1;
    Ok(byte(payload, 1 + usize::from(has_length))? >> 3 & 15 == 1)
}

impl State {
    fn read(&self, packet: &Packet) -> Result<Descriptor, String> {
        let element = packet.dependency.ok_or("no dependency descriptor")?;
        let bits = element.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
        let mut bits = Bits(bits.collect(), 0);
        let (starts_frame, ends_frame) = (bits.take(1)? == 1, bits.take(1)? == 1);
        let (template, frame_number) = (bits.take(6)?, bits.take(16)? as u16);
        let mut descriptor =
            Descriptor { starts_frame, ends_frame, template, frame_number, structure: None, own_differences: None };
        if element.len() > 3 {
            let [brings, active, dtis, differences, _chains] =
                [bits.take(1)?, bits.take(1)?, bits.take(1)?, bits.take(1)?, bits.take(1)?];
            if brings == 1 {
                descriptor.structure = Some(Structure::read(&mut bits)?);
            }
            let known = descriptor.structure.as_ref().or(self.structure.as_ref()).ok_or("no structure is known")?;
            bits.take(active * known.targets)?;
            for _ in 0..dtis * known.targets {
                bits.take(2)?;
            }
            if differences == 1 {
                let mut own = Vec::new();
                loop {
                    match bits.take(2)? {
                        0 => break,
                        size => own.push(bits.take(4 * size)? as u16 + 1),
                    }
                }
                descriptor.own_differences = Some(own);
            }
        }
        Ok(descriptor)
    }

    fn template<'a>(&'a self, descriptor: &'a Descriptor) -> Result<&'a (u8, u8, Vec<u16>), String> {
        let known = descriptor.structure.as_ref().or(self.structure.as_ref()).ok_or("no structure is known")?;
        let index = (descriptor.template + 64 - known.first) % 64;
        known.templates.get(index as usize).ok_or_else(|| format!("template {} is not known", descriptor.template))
    }

    pub fn find(&mut self, packet: &Packet, is_in_frame: bool) -> Result<Found, String> {
        let descriptor = self.read(packet)?;
        let &(spatial, temporal, _) = self.template(&descriptor)?;
        let Descriptor { starts_frame, ends_frame, .. } = descriptor;
        let is_key = descriptor.structure.is_some();
        if is_key && !starts_frame {
            return Err("a structure that is not on the first packet".into());
        }
        if is_in_frame && !starts_frame && self.frame_number.is_some_and(|number| number != descriptor.frame_number) {
            return Err(format!("frame number {} within another frame", descriptor.frame_number));
        }
        if is_key && spatial == 0 && packet.payload[0] & 0x88 != 0x08 {
            return Err("a keyframe without a new coded video sequence".into());
        }
        self.has_sequence_header |= packet.payload[0] & 0x80 == 0 && has_sequence_header(packet.payload)?;
        if is_key && !self.has_sequence_header {
            return Err("a keyframe before its sequence header".into());
        }
        Ok(Found { starts_frame, ends_frame, is_key, spatial, temporal })
    }

    pub fn start_frame(&mut self, packet: &Packet, start: Start) -> Result<(), String> {
        let descriptor = self.read(packet)?;
        let number = descriptor.frame_number;
        if let Some(last) = self.frame_number {
            let most = match start {
                Start { after_loss: true, .. } => 0x7fff,
                Start { is_switch: true, .. } => 1,
                _ => MAX_LEFT_OUT,
            };
            if !(1..=most).contains(&number.wrapping_sub(last)) {
                return Err(format!("frame number {number} does not follow {last}"));
            }
        }
        let (_, _, differences) = self.template(&descriptor)?;
        let differences = descriptor.own_differences.as_ref().unwrap_or(differences);
        let missing = differences.iter().find(|difference| !self.received.contains(&number.wrapping_sub(**difference)));
        if let (Some(missing), false) = (missing, start.misses_references) {
            return Err(format!("frame {number} refers to {missing} before it, which was not received"));
        }
        if descriptor.structure.is_some() {
            self.structure = descriptor.structure;
            self.received.clear();
        }
        self.frame_number = Some(number);
        self.received.insert(number);
        Ok(())
    }
}
