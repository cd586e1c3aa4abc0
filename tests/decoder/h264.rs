//! H.264 as handled by libwebrtc's `PacketBuffer` and `H264SpsPpsTracker`: packets with one timestamp are a frame, and a
//! keyframe has an IDR slice or begins with parameter sets.

use super::{Found, Packet, byte};

#[derive(Debug, Default)]
pub struct State {
    has_sps: bool,
    has_pps: bool,
    is_in_fragments: bool,
}

impl State {
    /// `picture` is the timestamp of the last picture, and whether it has ended.
    pub fn find(&mut self, packet: &Packet, picture: Option<(u32, bool)>, is_in_frame: bool) -> Result<Found, String> {
        let starts_frame = picture.is_none_or(|(timestamp, has_ended)| has_ended || timestamp != packet.timestamp);
        // If packets are missing, the rest of a NAL unit may be among them.
        self.is_in_fragments &= is_in_frame;
        let mut is_key = false;
        let mut types = Vec::new();
        let first = byte(packet.payload, 0)? % 32;
        match first {
            24 => {
                let mut rest = &packet.payload[1..];
                while !rest.is_empty() {
                    let length = usize::from(byte(rest, 0)?) * 256 + usize::from(byte(rest, 1)?);
                    types.push(byte(rest, 2)? % 32);
                    rest = rest.get(2 + length..).ok_or("a unit is cut off")?;
                }
            }
            28 => {
                let header = byte(packet.payload, 1)?;
                if header & 0x80 != 0 {
                    types.push(header % 32);
                } else if !self.is_in_fragments {
                    return Err("a fragment without its first".into());
                }
                self.is_in_fragments = header & 0x40 == 0;
            }
            single => types.push(single),
        }
        // A keyframe discards an incomplete NAL unit.
        self.is_in_fragments &= first == 28 || !starts_frame || !types.contains(&7);
        if first != 28 && self.is_in_fragments {
            return Err("a fragment without its last".into());
        }
        for kind in types {
            match kind {
                7 => (self.has_sps, is_key) = (true, true),
                8 => self.has_pps = true,
                1 | 5 if !self.has_sps || !self.has_pps => return Err("a slice before its parameter sets".into()),
                5 => is_key = true,
                _ => {}
            }
        }
        Ok(Found { starts_frame, ends_frame: packet.marker, is_key, spatial: 0, temporal: 0 })
    }
}
