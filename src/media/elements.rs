//! The header extension elements of an RTP packet that describe its media and go through to subscribers as they
//! came; those that describe the publisher's transport (mid, rid, transport-wide numbers) do not (RFC 8285).

use smallvec::SmallVec;

/// Bytes of one element that is passed on. A dependency descriptor with a full template structure has about 80;
/// more than this is meant to make the forwarded packet too large for the path.
const MAX_ELEMENT: usize = 128;

/// Bytes of all elements of one packet that are passed on, with two for each.
const MAX_ELEMENTS: usize = 160;

/// The profile bits of the two forms (RFC 8285 sections 4.2 and 4.3).
const ONE_BYTE: u16 = 0xbede;
const TWO_BYTE: u16 = 0x1000;

/// A set of element ids, each below 16, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub u16);

impl Ids {
    /// Whether the id is in the set.
    pub fn contains(self, id: u8) -> bool {
        id < 16 && self.0 & 1 << id != 0
    }

    /// Adds an id.
    pub fn insert(&mut self, id: u8) {
        debug_assert!((1..15).contains(&id));
        self.0 |= 1 << id;
    }
}

/// Elements of one packet: id, length and value, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elements(SmallVec<[u8; 24]>);

impl Elements {
    /// Takes those of `wanted` out of a packet that str0m understands.
    pub fn read(packet: &[u8], wanted: Ids) -> Self {
        Self::read_apart(packet, wanted, 0).0
    }

    /// The same, and apart from them the value of one more, which is not passed on.
    pub fn read_apart(packet: &[u8], wanted: Ids, apart: u8) -> (Self, Option<&[u8]>) {
        let (mut elements, mut found) = (Self::default(), None);
        elements.try_read(packet, wanted, apart, &mut found);
        (elements, found)
    }

    fn try_read<'a>(
        &mut self,
        packet: &'a [u8],
        mut wanted: Ids,
        apart: u8,
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
                // Each comes once.
                wanted.0 &= !(1 << id);
                self.push(id, value);
            } else if id == apart {
                *found = found.or(Some(value));
            }
            rest = &after[length..];
        }
        Some(())
    }

    /// Adds an element.
    pub fn push(&mut self, id: u8, value: &[u8]) {
        debug_assert!(value.len() <= MAX_ELEMENT);
        self.0.extend_from_slice(&[id, value.len() as u8]);
        self.0.extend_from_slice(value);
    }

    /// Bytes of all of them.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of one of them.
    pub fn find(&self, id: u8) -> Option<&[u8]> {
        self.iter().find_map(|(other, value)| (other == id).then_some(value))
    }

    /// Each id with its value.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (&[id, length], after) = rest.split_first_chunk::<2>()?;
            let (value, after) = after.split_at(usize::from(length));
            rest = after;
            Some((id, value))
        })
    }

    /// Appends the extension block of those of `accepted`, and of `own`, each in place of one with the same id; nothing
    /// where there is none. Says whether there is one.
    pub fn write(&self, accepted: Ids, own: &[(u8, &[u8])], buffer: &mut Vec<u8>) -> bool {
        let begin = buffer.len();
        let passes = |id| accepted.contains(id) && own.iter().all(|(other, _)| *other != id);
        let elements = || self.iter().filter(|(id, _)| passes(*id)).chain(own.iter().copied());
        let long = elements().any(|(_, value)| value.is_empty() || value.len() > 16);
        for (id, value) in elements() {
            if buffer.len() == begin {
                buffer.extend_from_slice(&if long { TWO_BYTE } else { ONE_BYTE }.to_be_bytes());
                buffer.extend_from_slice(&[0, 0]);
            }
            if long {
                buffer.extend_from_slice(&[id, value.len() as u8]);
            } else {
                buffer.push(id << 4 | (value.len() - 1) as u8);
            }
            buffer.extend_from_slice(value);
        }
        let length = buffer.len() - begin;
        if length == 0 {
            return false;
        }
        buffer.resize(begin + length.next_multiple_of(4), 0);
        let words = (length.div_ceil(4) - 1) as u16;
        buffer[begin + 2..begin + 4].copy_from_slice(&words.to_be_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Ids = Ids(1 << 1 | 1 << 8 | 1 << 13);

    fn packet(form: u16, block: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend(form.to_be_bytes());
        packet.extend(((block.len() / 4) as u16).to_be_bytes());
        packet.extend(block);
        packet.extend([7; 20]);
        packet
    }

    #[test]
    fn what_describes_the_media_passes_and_what_describes_the_transport_does_not() {
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
    fn a_long_element_makes_the_two_byte_form() {
        for length in [0, 1, 16, 17, MAX_ELEMENT, MAX_ELEMENT + 1] {
            let mut block = vec![1, 1, 5, 8, length as u8];
            block.extend(std::iter::repeat_n(3, length));
            block.resize(block.len().next_multiple_of(4), 0);
            let elements = Elements::read(&packet(TWO_BYTE, &block), WANTED);
            let passes = length <= MAX_ELEMENT;
            assert_eq!(elements.iter().count(), 1 + usize::from(passes), "{length}");
            let mut out = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
            assert!(elements.write(WANTED, &[], &mut out));
            let two_byte = passes && !(1..=16).contains(&length);
            assert_eq!(out[12..14], if two_byte { TWO_BYTE } else { ONE_BYTE }.to_be_bytes(), "{length}");
            assert_eq!(Elements::read(&out, WANTED), elements, "what is written is read again: {length}");
        }
    }

    #[test]
    fn many_elements_are_no_way_to_a_packet_that_is_too_large() {
        let mut block = Vec::new();
        for id in [1, 1, 8, 1, 13, 8] {
            block.extend([id, 100]);
            block.extend([id; 100]);
        }
        let elements = Elements::read(&packet(TWO_BYTE, &block), WANTED);
        assert_eq!(elements.iter().map(|(id, _)| id).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_is_cut_off_or_of_another_form_is_nothing() {
        let whole = packet(ONE_BYTE, &[0x10, 0x85, 0x82, 1, 2, 3, 0, 0]);
        for length in 0..24 {
            assert_eq!(Elements::read(&whole[..length], WANTED), Elements::default(), "{length}");
        }
        for bad in [packet(0x1234, &[0x10, 0x85, 0, 0]), packet(ONE_BYTE, &[0xf0, 1, 0x10, 0x85])] {
            assert_eq!(Elements::read(&bad, WANTED), Elements::default());
        }
    }
}
