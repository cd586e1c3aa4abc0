//! VP8 as handled by libwebrtc's `RtpVp8RefFinder`.

use super::{Found, Packet, Start, byte, follows};

#[derive(Debug, Default)]
pub struct State {
    /// Last picture id, and the mask of its width.
    picture: Option<(u16, u16)>,
    /// Whether the last frame had a picture id.
    has_picture: Option<bool>,
    tl0_pic_idx: Option<u8>,
    /// Temporal layers received since the keyframe.
    layers: [bool; 4],
}

struct Descriptor {
    starts_frame: bool,
    is_key: bool,
    picture: Option<(u16, u16)>,
    tl0_pic_idx: Option<u8>,
    temporal: Option<u8>,
    is_sync: bool,
}

fn read(payload: &[u8]) -> Result<Descriptor, String> {
    let mut bytes = payload.iter().copied();
    let mut next = || bytes.next().ok_or_else(|| String::from("it is cut off"));
    let first = next()?;
    let starts_frame = first & 0b0001_0111 == 0b0001_0000;
    let mut descriptor =
        Descriptor { starts_frame, is_key: false, picture: None, tl0_pic_idx: None, temporal: None, is_sync: false };
    if first >= 0x80 {
        let fields = next()?;
        if fields & 0b1000_0000 != 0 {
            let high = next()?;
            descriptor.picture = Some(match high.checked_sub(0x80) {
                None => (high.into(), 0x7f),
                Some(high) => (u16::from(high) * 256 + u16::from(next()?), 0x7fff),
            });
        }
        if fields & 0b0100_0000 != 0 {
            descriptor.tl0_pic_idx = Some(next()?);
        }
        if fields & 0b0011_0000 != 0 {
            let layer = next()?;
            if fields & 0b0010_0000 != 0 {
                (descriptor.temporal, descriptor.is_sync) = (Some(layer / 64), layer & 0b0010_0000 != 0);
            }
        }
    }
    descriptor.is_key = starts_frame && next()? % 2 == 0;
    Ok(descriptor)
}

impl State {
    pub fn find(packet: &Packet) -> Result<Found, String> {
        let descriptor = read(packet.payload)?;
        let temporal = descriptor.temporal.unwrap_or(0);
        if descriptor.is_key {
            byte(packet.payload, 10)?;
        }
        Ok(Found {
            starts_frame: descriptor.starts_frame,
            ends_frame: packet.marker,
            is_key: descriptor.is_key,
            spatial: 0,
            temporal,
        })
    }

    pub fn start_frame(&mut self, packet: &Packet, start: Start) -> Result<(), String> {
        let descriptor = read(packet.payload)?;
        let temporal = usize::from(descriptor.temporal.unwrap_or(0));
        if descriptor.is_key {
            if temporal != 0 {
                return Err("a keyframe of an upper layer".into());
            }
            self.layers = [true, false, false, false];
        }
        match (self.picture, descriptor.picture) {
            // If the width of the id changes, compare the bits that both have.
            (Some((last, last_mask)), Some((id, mask))) if !follows(id, last, mask & last_mask, start) => {
                return Err(format!("picture id {id} does not follow {last}"));
            }
            _ => {}
        }
        let has_picture = descriptor.picture.is_some();
        if !descriptor.is_key && self.has_picture.is_some_and(|had| had != has_picture) {
            return Err("picture ids come or go within a source".into());
        }
        self.has_picture = Some(has_picture);
        self.picture = descriptor.picture.or(self.picture);
        if let Some(index) = descriptor.tl0_pic_idx {
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
        let has_references = descriptor.is_sync || self.layers[..=temporal].iter().all(|received| *received);
        if temporal > 0 && !has_references && !start.misses_references {
            return Err(format!("layer {temporal} begins without sync"));
        }
        self.layers[temporal] = true;
        Ok(())
    }
}
