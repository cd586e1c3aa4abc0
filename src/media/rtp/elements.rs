//! The RTP header extension elements (RFC 8285) that describe the media and are forwarded unchanged. Elements that
//! describe the publisher's transport (mid, rid, transport-wide sequence numbers) are not forwarded.

use smallvec::SmallVec;

/// Maximum size in bytes of a forwarded element. A dependency descriptor with a full template structure has about 80; a
/// larger element can only serve to make the forwarded packet too large for the path.
const MAX_ELEMENT: usize = 128;

/// Maximum size in bytes of all forwarded elements of a packet, each with two header bytes.
const MAX_ELEMENTS: usize = 160;

/// The profile values of the one-byte and the two-byte form (RFC 8285 sections 4.2 and 4.3).
const ONE_BYTE: u16 = 0xbede;
const TWO_BYTE: u16 = 0x1000;

/// A set of element ids below 16, as a bit mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub u16);

impl Ids {
    /// Returns true if the set contains the id.
    pub fn contains(self, id: u8) -> bool {
        id < 16 && self.0 & 1 << id != 0
    }

    /// Adds an id.
    pub fn insert(&mut self, id: u8) {
        debug_assert!((1..15).contains(&id));
        self.0 |= 1 << id;
    }
}

/// The elements of one packet: id, length and value of each, concatenated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements(SmallVec<[u8; 24]>);

impl Elements {
    /// Reads the elements in `wanted` from a packet that str0m has parsed.
    pub fn read(packet: &[u8], wanted: Ids) -> Self {
        Self::read_and_extract(packet, wanted, 0).0
    }

    /// Like `read`, and also returns the value of the element with the id `extracted`, which is not forwarded.
    pub fn read_and_extract(packet: &[u8], wanted: Ids, extracted: u8) -> (Self, Option<&[u8]>) {
        let (mut elements, mut found) = (Self::default(), None);
        elements.try_read(packet, wanted, extracted, &mut found);
        (elements, found)
    }

    fn try_read<'a>(
        &mut self,
        packet: &'a [u8],
        mut wanted: Ids,
        extracted: u8,
        found: &mut Option<&'a [u8]>,
    ) -> Option<()> {
        let first = packet.first()?;
        if first & 0x10 == 0 {
            return None;
        }
        let head = 12 + 4 * usize::from(first & 0x0f);
        let form = u16::from_be_bytes(packet.get(head..head + 2)?.try_into().ok()?);
        let words = u16::from_be_bytes(packet.get(head + 2..head + 4)?.try_into().ok()?);
        let mut rest = packet.get(head + 4..head + 4 + 4 * usize::from(words))?;
        while let Some((&first, after)) = rest.split_first() {
            if first == 0 {
                rest = after;
                continue;
            }
            let (id, length, after) = match form {
                ONE_BYTE if first >> 4 == 15 => return None,
                ONE_BYTE => (first >> 4, usize::from(first & 0x0f) + 1, after),
                TWO_BYTE => (first, usize::from(*after.first()?), &after[1..]),
                _ => return None,
            };
            let value = after.get(..length)?;
            let fits = length <= MAX_ELEMENT && self.0.len() + 2 + length <= MAX_ELEMENTS;
            if wanted.contains(id) && fits {
                // Only the first element with an id counts.
                wanted.0 &= !(1 << id);
                self.push(id, value);
            } else if id == extracted {
                *found = found.or(Some(value));
            }
            rest = &after[length..];
        }
        Some(())
    }

    /// Appends an element.
    pub fn push(&mut self, id: u8, value: &[u8]) {
        debug_assert!(value.len() <= MAX_ELEMENT);
        self.0.extend_from_slice(&[id, value.len() as u8]);
        self.0.extend_from_slice(value);
    }

    /// Returns the total size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of the element with this id.
    pub fn find(&self, id: u8) -> Option<&[u8]> {
        self.iter().find_map(|(other, value)| (other == id).then_some(value))
    }

    /// Iterates over ids and values.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (&[id, length], after) = rest.split_first_chunk::<2>()?;
            let (value, after) = after.split_at(usize::from(length));
            rest = after;
            Some((id, value))
        })
    }

    /// Appends an extension block with the elements in `accepted`, and with those in `own`, which replace elements with
    /// the same id. Appends nothing and returns false if there are none.
    pub fn write(&self, accepted: Ids, own: &[(u8, &[u8])], buffer: &mut Vec<u8>) -> bool {
        let passes = |id| accepted.contains(id) && own.iter().all(|(other, _)| *other != id);
        let forwarded = || self.iter().filter(|(id, _)| passes(*id));
        let is_long = |value: &[u8]| value.is_empty() || value.len() > 16;
        let mut is_empty = own.is_empty();
        let mut form = if own.iter().any(|(_, value)| is_long(value)) { TWO_BYTE } else { ONE_BYTE };
        for (_, value) in forwarded() {
            is_empty = false;
            if is_long(value) {
                form = TWO_BYTE;
            }
        }
        if is_empty {
            return false;
        }
        let begin = buffer.len();
        let [a, b] = form.to_be_bytes();
        buffer.extend_from_slice(&[a, b, 0, 0]);
        for (id, value) in forwarded() {
            write_element(form, id, value, buffer);
        }
        for (id, value) in own {
            write_element(form, *id, value, buffer);
        }
        let length = buffer.len() - begin;
        buffer.extend_from_slice(&[0; 3][..length.next_multiple_of(4) - length]);
        let words = (length.div_ceil(4) - 1) as u16;
        buffer[begin + 2..begin + 4].copy_from_slice(&words.to_be_bytes());
        true
    }
}

/// Appends an element in the one-byte or the two-byte form.
#[inline]
fn write_element(form: u16, id: u8, value: &[u8], buffer: &mut Vec<u8>) {
    if form == TWO_BYTE {
        buffer.extend_from_slice(&[id, value.len() as u8]);
    } else {
        buffer.push(id << 4 | (value.len() - 1) as u8);
    }
    buffer.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtp::packet::{HAS_EXTENSIONS, write_header};

    const WANTED: Ids = Ids(1 << 1 | 1 << 8 | 1 << 13);

    fn header() -> Vec<u8> {
        let mut header = Vec::new();
        write_header(HAS_EXTENSIONS, 96, 1, 2, 3, &mut header);
        header
    }

    fn packet(form: u16, block: &[u8]) -> Vec<u8> {
        let mut packet = header();
        packet.extend(form.to_be_bytes());
        packet.extend(((block.len() / 4) as u16).to_be_bytes());
        packet.extend(block);
        packet.extend([7; 20]);
        packet
    }

    #[test]
    fn elements_of_the_media_are_forwarded_and_those_of_the_transport_are_not() {
        let incoming = packet(ONE_BYTE, &[0x10, 0x85, 0, 0x31, 9, 9, 0x82, 1, 2, 3, 0, 0]);
        let elements = Elements::read(&incoming, WANTED);
        let found: Vec<_> = elements.iter().collect();
        assert_eq!(found, [(1, &[0x85][..]), (8, &[1, 2, 3])]);
        let mut out = Vec::new();
        assert!(elements.write(WANTED, &[], &mut out));
        assert_eq!(out, [0xbe, 0xde, 0, 2, 0x10, 0x85, 0x82, 1, 2, 3, 0, 0]);
        out.clear();
        assert!(elements.write(Ids(1 << 8), &[(4, b"7")], &mut out));
        assert_eq!(out, [0xbe, 0xde, 0, 2, 0x82, 1, 2, 3, 0x40, b'7', 0, 0]);
        out.clear();
        assert!(!elements.write(Ids(0), &[], &mut out) && out.is_empty());
    }

    #[test]
    fn a_long_element_selects_the_two_byte_form() {
        for length in [0, 1, 16, 17, MAX_ELEMENT, MAX_ELEMENT + 1] {
            let mut block = vec![1, 1, 5, 8, length as u8];
            block.extend(std::iter::repeat_n(3, length));
            block.resize(block.len().next_multiple_of(4), 0);
            let elements = Elements::read(&packet(TWO_BYTE, &block), WANTED);
            let passes = length <= MAX_ELEMENT;
            assert_eq!(elements.iter().count(), 1 + usize::from(passes), "{length}");
            let mut out = header();
            assert!(elements.write(WANTED, &[], &mut out));
            let two_byte = passes && !(1..=16).contains(&length);
            assert_eq!(out[12..14], if two_byte { TWO_BYTE } else { ONE_BYTE }.to_be_bytes(), "{length}");
            assert_eq!(Elements::read(&out, WANTED), elements, "a written block is read back: {length}");
        }
    }

    #[test]
    fn the_total_size_of_elements_is_limited() {
        let mut block = Vec::new();
        for id in [1, 1, 8, 1, 13, 8] {
            block.extend([id, 100]);
            block.extend([id; 100]);
        }
        let elements = Elements::read(&packet(TWO_BYTE, &block), WANTED);
        assert_eq!(elements.iter().map(|(id, _)| id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn truncated_blocks_and_unknown_forms_yield_no_elements() {
        let whole = packet(ONE_BYTE, &[0x10, 0x85, 0x82, 1, 2, 3, 0, 0]);
        for length in 0..24 {
            assert_eq!(Elements::read(&whole[..length], WANTED), Elements::default(), "{length}");
        }
        for bad in [packet(0x1234, &[0x10, 0x85, 0, 0]), packet(ONE_BYTE, &[0xf0, 1, 0x10, 0x85])] {
            assert_eq!(Elements::read(&bad, WANTED), Elements::default());
        }
    }
}
