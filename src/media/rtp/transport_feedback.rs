//! Parser of transport-wide feedback messages: for each packet, whether it arrived and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).

/// RTCP feedback message type, under packet type 205.
pub const TRANSPORT_WIDE: u8 = 15;

/// Maximum number of packet statuses read from one message: the capacity of the history. A message of 20 bytes can
/// state 65,535 statuses; browsers send one message per 50 to 100 ms.
const MAX_STATUSES: u16 = 2_048;

/// Unit of the reference time in microseconds. The reference time has 24 bits, and 2^24 units are a multiple of 2^32
/// microseconds: it wraps where a `u32` does, and differences stay valid across the wrap.
pub(crate) const REFERENCE_MICROS: u32 = 64_000;

/// Unit of a delta in microseconds.
pub(crate) const DELTA_MICROS: u32 = 250;

/// Packet status symbols.
pub(crate) const NOT_RECEIVED: u16 = 0;
pub(crate) const SMALL_DELTA: u16 = 1;
pub(crate) const LARGE_DELTA: u16 = 2;

/// Iterator over the statuses of one message: each packet's sequence number, and its arrival time in microseconds of
/// the receiver's clock, modulo 2^32. It ends at the first inconsistency; the statuses before it are valid.
#[derive(Clone, Debug)]
pub struct Feedback<'a> {
    /// Feedback packet count, a wrapping sequence number of the receiver's messages.
    pub count: u8,
    seq_no: u16,
    left: u16,
    /// Arrival time of the last received packet.
    time: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
    chunk: Chunk,
}

/// Symbols of several packets; the next symbol is in the upper bits.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    symbols: u16,
    left: u16,
    /// Bits per symbol.
    width: u32,
    /// Bits to shift to the next symbol: 0 in a run, where all symbols are equal.
    step: u32,
}

impl<'a> Feedback<'a> {
    /// Parses the header of a message, given as the bytes after the SSRCs of packet sender and media source. Returns
    /// `None` if status chunks are missing.
    pub fn new(body: &'a [u8]) -> Option<Self> {
        let (&[a, b, c, d, e, f, g, message], rest) = body.split_first_chunk::<8>()?;
        let count = u16::from_be_bytes([c, d]);
        let mut stated = 0;
        let mut length = 0;
        while stated < u32::from(count) {
            stated += u32::from(Chunk::new(*rest[length..].first_chunk()?).left);
            length += 2;
        }
        let (chunks, deltas) = rest.split_at(length);
        Some(Self {
            count: message,
            seq_no: u16::from_be_bytes([a, b]),
            left: count.min(MAX_STATUSES),
            time: u32::from_be_bytes([0, e, f, g]).wrapping_mul(REFERENCE_MICROS),
            chunks,
            deltas,
            chunk: Chunk::default(),
        })
    }

    /// Returns the sequence number of the next packet.
    pub fn seq_no(&self) -> u16 {
        self.seq_no
    }

    /// Reads the delta of the next received packet, in delta units.
    fn take_delta(&mut self, symbol: u16) -> Option<i16> {
        match symbol {
            SMALL_DELTA => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i16::from(delta))
            }
            LARGE_DELTA => {
                let (&delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                Some(i16::from_be_bytes(delta))
            }
            _ => None,
        }
    }
}

impl Iterator for Feedback<'_> {
    type Item = (u16, Option<u32>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        while self.chunk.left == 0 {
            let (&chunk, rest) = self.chunks.split_first_chunk()?;
            self.chunks = rest;
            self.chunk = Chunk::new(chunk);
        }
        let symbol = self.chunk.take();
        let mut received = None;
        if symbol != NOT_RECEIVED {
            let Some(delta) = self.take_delta(symbol) else {
                self.left = 0;
                return None;
            };
            self.time = self.time.wrapping_add_signed(i32::from(delta) * DELTA_MICROS as i32);
            received = Some(self.time);
        }
        let seq_no = self.seq_no;
        self.seq_no = seq_no.wrapping_add(1);
        Some((seq_no, received))
    }
}

impl Chunk {
    /// Parses a run of one symbol, 14 one-bit symbols, or 7 two-bit symbols (sections 3.1.3 and 3.1.4).
    fn new(bytes: [u8; 2]) -> Self {
        let bits = u16::from_be_bytes(bytes);
        match bits >> 14 {
            0 | 1 => Self { symbols: bits << 1, left: bits & 0x1fff, width: 2, step: 0 },
            2 => Self { symbols: bits << 2, left: 14, width: 1, step: 1 },
            _ => Self { symbols: bits << 2, left: 7, width: 2, step: 2 },
        }
    }

    fn take(&mut self) -> u16 {
        let symbol = self.symbols >> (16 - self.width);
        self.symbols <<= self.step;
        self.left -= 1;
        symbol
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a message with base sequence number 65,534, this status count, reference time 2 and feedback packet
    /// count 9.
    fn body(count: u16, rest: &[u8]) -> Vec<u8> {
        let [c, d] = count.to_be_bytes();
        [&[0xff, 0xfe, c, d, 0, 0, 2, 9], rest].concat()
    }

    #[test]
    fn all_kinds_of_chunks_are_read() {
        let start = 2 * REFERENCE_MICROS;
        let at = |ticks: i32| Some(start.wrapping_add_signed(ticks * 250));
        let check = |name, count, rest: &[u8], expected: &[Option<u32>]| {
            let body = body(count, rest);
            let found: Vec<_> = Feedback::new(&body).expect(name).collect();
            let numbers = (0..).map(|number: u16| number.wrapping_add(0xfffe));
            let numbered: Vec<_> = numbers.zip(expected.iter().copied()).collect();
            assert_eq!(found, numbered, "{name}");
        };
        check("nothing", 0, &[], &[]);
        check("a run of small deltas", 3, &[0x20, 3, 4, 0, 255], &[at(4), at(4), at(259)]);
        check("a run of large deltas", 2, &[0x40, 2, 0x7f, 0xff, 0xff, 0xff], &[at(32_767), at(32_766)]);
        check("a run of losses", 2, &[0x00, 2], &[None, None]);
        check("a negative delta before the reference", 1, &[0x40, 1, 0xff, 0xfe], &[at(-2)]);
        check("one bit: 1 0 1", 3, &[0b1010_1000, 0, 1, 2], &[at(1), None, at(3)]);
        check("two bits: 0 2 1", 3, &[0b1100_1001, 0, 1, 0, 5], &[None, at(256), at(261)]);
        check("an empty run, then one", 1, &[0x20, 0, 0x20, 1, 7], &[at(7)]);
        check("a run longer than the count", 1, &[0x3f, 0xff, 7, 9], &[at(7)]);
        check("a run, then a vector", 3, &[0x00, 2, 0b1010_0000, 0, 3, 0, 0, 0], &[None, None, at(3)]);
        check("padding is no delta", 1, &[0x20, 1, 7, 0, 0, 1], &[at(7)]);
    }

    #[test]
    fn malformed_input_ends_the_iteration() {
        let cases: &[(&str, u16, &[u8], Option<usize>)] = &[
            ("no chunk", 1, &[], None),
            ("half a chunk", 1, &[0x20], None),
            ("too few chunks", 21, &[0x20, 6, 0xa0, 0], None),
            ("only empty runs", 1, &[0x20, 0, 0x20, 0], None),
            ("no delta", 1, &[0x20, 1], Some(0)),
            ("too few deltas", 3, &[0x20, 3, 1, 1], Some(2)),
            ("half a large delta", 2, &[0x40, 2, 0, 1, 0], Some(1)),
            ("a reserved symbol", 3, &[0b1101_1101, 0, 1, 1, 1], Some(1)),
            ("65,535 losses", 65_535, &[0x1f, 0xff].repeat(9), Some(2_048)),
        ];
        for (name, count, rest, expected) in cases {
            let body = body(*count, rest);
            assert_eq!(Feedback::new(&body).map(Iterator::count), *expected, "{name}");
        }
        let whole = body(3, &[0b1100_1001, 0, 1, 0, 5]);
        for length in 0..whole.len() {
            assert!(Feedback::new(&whole[..length]).is_none_or(|feedback| feedback.count() < 3), "{length}");
        }
    }

    #[test]
    fn arbitrary_bytes_are_parsed_with_bounded_work() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut most = 0;
        for length in (0..64).cycle().take(20_000) {
            let body: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            let mut feedback = Feedback::new(&body);
            let count = feedback.as_mut().map_or(0, |feedback| feedback.by_ref().count());
            assert!(
                feedback.is_none_or(|mut feedback| feedback.next().is_none()),
                "an ended iterator yields nothing more"
            );
            most = most.max(count);
        }
        assert!((1_000..=2_048).contains(&most), "{most}");
    }

    #[test]
    fn arrival_times_are_valid_across_the_wrap_of_the_reference_time() {
        let arrival = |reference: [u8; 3]| {
            let body = [&[0, 0, 0, 1], &reference[..], &[0, 0x20, 1, 0]].concat();
            Feedback::new(&body).and_then(|mut feedback| feedback.next()).and_then(|(_, received)| received).unwrap()
        };
        assert_eq!(arrival([0, 0, 1]).wrapping_sub(arrival([0xff, 0xff, 0xff])), 2 * REFERENCE_MICROS);
    }
}
