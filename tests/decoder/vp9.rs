//! VP9 as handled by libwebrtc's `RtpVp9RefFinder`.

use std::collections::HashSet;

use super::{Found, Packet, Start, byte, follows};

/// Maximum number of pictures dropped between two forwarded ones without loss; more counts as a jump.
const MAX_LEFT_OUT: u16 = 8;

/// Temporal layer and references of each picture of a group.
type Group = Vec<(u8, Vec<u8>)>;

#[derive(Debug, Default)]
pub struct State {
    picture: Option<u16>,
    tl0_pic_idx: Option<u8>,
    /// Picture id and spatial layer of the frames received since the key picture.
    received: HashSet<(u16, u8)>,
    /// Id of the key picture, and the group of frames that it announced.
    group: Option<(u16, Group)>,
}

#[derive(Default)]
struct Descriptor {
    is_inter: bool,
    is_flexible: bool,
    starts_frame: bool,
    ends_frame: bool,
    picture: Option<(u16, u16)>,
    has_layers: bool,
    temporal: u8,
    spatial: u8,
    is_inter_layer: bool,
    tl0_pic_idx: Option<u8>,
    differences: Vec<u8>,
    group: Option<Group>,
}

fn read(payload: &[u8]) -> Result<Descriptor, String> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        byte(payload, at - 1)
    };
    let flags = next()?;
    let has = |bit: u8| flags >> (7 - bit) & 1 == 1;
    let mut descriptor = Descriptor {
        is_inter: has(1),
        has_layers: has(2),
        is_flexible: has(3),
        starts_frame: has(4),
        ends_frame: has(5),
        ..Descriptor::default()
    };
    if has(0) {
        let high = next()?;
        descriptor.picture = Some(match high.checked_sub(0x80) {
            None => (high.into(), 0x7f),
            Some(high) => (u16::from(high) * 256 + u16::from(next()?), 0x7fff),
        });
    }
    if has(2) {
        let layers = next()?;
        (descriptor.temporal, descriptor.spatial) = (layers / 32, layers / 2 % 8);
        descriptor.is_inter_layer = layers % 2 == 1;
        if !has(3) {
            descriptor.tl0_pic_idx = Some(next()?);
        }
    }
    if has(1) && has(3) {
        loop {
            let difference = next()?;
            descriptor.differences.push(difference / 2);
            if difference % 2 == 0 {
                break;
            }
            if descriptor.differences.len() == 3 {
                return Err("a fourth reference".into());
            }
        }
    }
    if has(6) {
        let head = next()?;
        if head & 0x10 != 0 {
            for _ in 0..4 * (head / 32 + 1) {
                next()?;
            }
        }
        let mut group = Vec::new();
        if head & 0x08 != 0 {
            for _ in 0..next()? {
                let picture = next()?;
                let references = (0..picture / 4 % 4).map(|_| next()).collect::<Result<_, _>>()?;
                group.push((picture / 32, references));
            }
        }
        descriptor.group = Some(group);
    }
    next()?;
    Ok(descriptor)
}

impl State {
    pub fn find(packet: &Packet) -> Result<Found, String> {
        let Descriptor { starts_frame, ends_frame, spatial, temporal, is_inter, .. } = read(packet.payload)?;
        let is_key = starts_frame && !is_inter && spatial == 0;
        Ok(Found { starts_frame, ends_frame, is_key, spatial, temporal })
    }

    pub fn start_frame(&mut self, packet: &Packet, start: Start) -> Result<(), String> {
        let descriptor = read(packet.payload)?;
        let Descriptor { spatial, temporal, .. } = descriptor;
        let is_key = !descriptor.is_inter && !descriptor.is_inter_layer && spatial == 0;
        let Some((id, mask)) = descriptor.picture else {
            return if descriptor.has_layers { Err("layers without a picture id".into()) } else { Ok(()) };
        };
        let is_same = self.picture == Some(id) && !self.received.contains(&(id, spatial));
        if let (Some(last), false) = (self.picture, is_same) {
            let ahead = id.wrapping_sub(last) & mask;
            let most = match start {
                Start { after_loss: true, .. } => mask / 2,
                Start { is_switch: true, .. } => 1,
                _ => MAX_LEFT_OUT,
            };
            if !(1..=most).contains(&ahead) {
                return Err(format!("picture id {id} does not follow {last}"));
            }
        }
        if let (Some(index), false) = (descriptor.tl0_pic_idx, is_same) {
            if let Some(last) = self.tl0_pic_idx {
                let is_expected = match temporal {
                    0 => follows(index.into(), last.into(), 0xff, start),
                    _ => index == last || start.after_loss,
                };
                if !is_expected {
                    return Err(format!("TL0PICIDX {index} on layer {temporal} does not follow {last}"));
                }
            }
            self.tl0_pic_idx = Some(index);
        }
        if is_key {
            self.received.clear();
            let group = descriptor.group.clone();
            if group.is_none() && !descriptor.is_flexible && descriptor.has_layers {
                return Err("a key picture without scalability structure".into());
            }
            self.group = group.filter(|group| !group.is_empty()).map(|group| (id, group));
        }
        if !start.misses_references {
            self.check_references(&descriptor, id, mask)?;
        }
        self.picture = Some(id);
        self.received.insert((id, spatial));
        Ok(())
    }

    fn check_references(&self, descriptor: &Descriptor, id: u16, mask: u16) -> Result<(), String> {
        let Descriptor { spatial, temporal, .. } = *descriptor;
        if descriptor.is_inter_layer && (spatial == 0 || !self.received.contains(&(id, spatial - 1))) {
            return Err("the spatial layer below was not received".into());
        }
        let mut differences = &descriptor.differences;
        if let (Some((first, group)), false) = (&self.group, descriptor.is_flexible) {
            let place = usize::from(id.wrapping_sub(*first) & mask) % group.len();
            if group[place].0 != temporal {
                return Err(format!("picture {id} is of layer {temporal}, where the group has {}", group[place].0));
            }
            differences = &group[place].1;
        }
        let is_missing =
            |difference: &&u8| !self.received.contains(&(id.wrapping_sub(u16::from(**difference)) & mask, spatial));
        match differences.iter().find(is_missing) {
            Some(difference) if descriptor.is_inter => {
                Err(format!("picture {id} refers to {difference} before it, which was not received"))
            }
            _ => Ok(()),
        }
    }
}
