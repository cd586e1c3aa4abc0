//! Redundant audio data: a packet that repeats earlier frames before its own (RFC 2198).

/// Bit in a block header: another block follows.
const FOLLOWS: u8 = 0x80;

/// Returns the offset of the primary block, which is the last; `None` if the headers contradict the payload length.
pub fn primary(payload: &[u8]) -> Option<usize> {
    let (mut at, mut earlier) = (0, 0);
    while payload.get(at)? & FOLLOWS != 0 {
        let header = payload.get(at..at + 4)?;
        earlier += usize::from(header[2] & 0x03) << 8 | usize::from(header[3]);
        at += 4;
    }
    let start = at + 1 + earlier;
    (start <= payload.len()).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::primary;

    #[test]
    fn the_primary_block_is_the_last() {
        for (payload, expected) in [
            (&[111, 1, 2, 3][..], Some(1)),
            (&[0x80 | 111, 0x0f, 0x00, 2, 111, 7, 7, 1, 2][..], Some(7)),
            (&[0x80 | 111, 0, 0, 1, 0x80 | 111, 0, 0, 2, 111, 9, 8, 8, 1][..], Some(12)),
            // An empty primary block: discontinuous transmission.
            (&[0x80 | 111, 0, 0, 1, 111, 9][..], Some(6)),
            (&[0x80 | 111, 0, 0x01, 0, 111, 9][..], None),
            (&[0x80 | 111, 0, 0][..], None),
            (&[0x80 | 111, 0, 0, 0][..], None),
            (&[][..], None),
        ] {
            assert_eq!(primary(payload), expected, "{payload:x?}");
        }
    }
}
