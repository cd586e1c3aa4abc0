//! The body of a request: where it ends (RFC 9112 section 6) and its bytes, taken as they arrive.

use super::refusal::Refusal;

/// The longest body in bytes. A lower limit refuses the SDP of large offers; a higher one lets every connection hold
/// more memory.
pub const MAX_BODY: usize = 64 * 1024;

/// The most bytes of chunk sizes, chunk extensions and trailer fields of one body. A lower limit would refuse clients
/// that send small chunks; a higher one only costs time.
pub const MAX_CHUNK_FRAMING: usize = 16 * 1024;

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The head announces none.
    Absent,
    /// The head announces one. None of it has been read.
    Unread(Framing),
    /// The whole body.
    Read(Vec<u8>),
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes, at most `MAX_BODY` (`Content-Length`).
    Length(usize),
    /// After the last chunk and the trailer fields (`Transfer-Encoding: chunked`).
    Chunked,
}

/// Reads one body from pieces of any size.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    bytes: Vec<u8>,
    /// Bytes read of the framing of chunks.
    framing_bytes: usize,
}

/// Parser state: the element containing the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A body with a length.
    Plain {
        remaining: usize,
    },
    /// The hexadecimal size of a chunk.
    Size {
        size: usize,
        has_digits: bool,
    },
    /// White space after the size, which only a chunk extension may follow.
    SizeSpace {
        size: usize,
    },
    /// A chunk extension, which is ignored.
    Extension {
        size: usize,
    },
    /// The LF after the size.
    SizeEnd {
        size: usize,
    },
    /// The data of a chunk.
    Data {
        remaining: usize,
    },
    /// The CR and LF after the data.
    DataCr,
    DataLf,
    /// The beginning of a trailer field, or the CR of the final empty line.
    TrailerStart,
    /// A trailer field, which is ignored.
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// The LF of the empty line.
    LastLf,
    Complete,
}

impl BodyReader {
    /// Creates a reader at the beginning of a body.
    pub fn new(framing: Framing) -> BodyReader {
        let state = match framing {
            Framing::Length(0) => State::Complete,
            Framing::Length(remaining) => State::Plain { remaining },
            Framing::Chunked => State::Size { size: 0, has_digits: false },
        };
        BodyReader { state, bytes: Vec::new(), framing_bytes: 0 }
    }

    /// Takes bytes up to the end of the body and returns their number. Bytes after them belong to the next request.
    ///
    /// # Errors
    /// The body is too long, or its chunks are malformed. The position of its end is then unknown.
    pub fn handle_data(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        let mut taken = 0;
        while taken < data.len() && !self.is_complete() {
            let rest = &data[taken..];
            taken += match self.state {
                State::Plain { remaining } => {
                    let length = self.copy(rest, remaining);
                    self.state = match remaining - length {
                        0 => State::Complete,
                        remaining => State::Plain { remaining },
                    };
                    length
                }
                State::Data { remaining } => {
                    let length = self.copy(rest, remaining);
                    self.state = match remaining - length {
                        0 => State::DataCr,
                        remaining => State::Data { remaining },
                    };
                    length
                }
                _ => {
                    self.framing_bytes += 1;
                    if self.framing_bytes > MAX_CHUNK_FRAMING {
                        return Err(Refusal::BodyTooLarge);
                    }
                    self.state = self.after(rest[0])?;
                    1
                }
            };
        }
        Ok(taken)
    }

    /// Whether the end of the body has been reached.
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// The body.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn copy(&mut self, data: &[u8], remaining: usize) -> usize {
        let length = remaining.min(data.len());
        self.bytes.extend_from_slice(&data[..length]);
        length
    }

    /// The state after one byte of chunk framing (RFC 9112 section 7.1). Lines end only with CR LF: parsers that differ
    /// in whether LF alone ends a line disagree about where the next request begins.
    fn after(&self, byte: u8) -> Result<State, Refusal> {
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        Ok(match (self.state, byte) {
            (State::Size { size, .. }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).expect("a hexadecimal digit") as usize;
                // `size` is at most MAX_BODY, so this does not overflow.
                let size = size * 16 + digit;
                if self.bytes.len() + size > MAX_BODY {
                    return Err(Refusal::BodyTooLarge);
                }
                State::Size { size, has_digits: true }
            }
            (State::Size { size, has_digits: true }, b'\r') => State::SizeEnd { size },
            (State::Size { size, has_digits: true } | State::SizeSpace { size }, b';') => State::Extension { size },
            (State::Size { size, has_digits: true } | State::SizeSpace { size }, b' ' | b'\t') => {
                State::SizeSpace { size }
            }
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, _) if is_text => State::Extension { size },
            (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeEnd { size }, b'\n') => State::Data { remaining: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, has_digits: false },
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Complete,
            _ => return Err(Refusal::Chunks),
        })
    }
}

/// Whether the byte may occur in the name of a field (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A complete body and the bytes after it.
    type Outcome = Result<Option<(Vec<u8>, Vec<u8>)>, Refusal>;

    /// Reads `wire` in pieces that end at `cuts`. Returns the body and the bytes after it, or `None` if it is not
    /// complete.
    fn read(framing: Framing, wire: &[u8], cuts: &[usize]) -> Outcome {
        let mut reader = BodyReader::new(framing);
        let mut after = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([wire.len()]) {
            let piece = &wire[start..end.clamp(start, wire.len())];
            start += piece.len();
            let taken = reader.handle_data(piece)?;
            assert!(taken == piece.len() || reader.is_complete(), "only the next request is left over");
            after.extend_from_slice(&piece[taken..]);
        }
        let is_complete = reader.is_complete();
        Ok(is_complete.then(|| (reader.into_bytes(), after)))
    }

    /// Reads `wire` whole, with a cut at every byte, and byte by byte, with the same result.
    fn read_at_every_cut(framing: Framing, wire: &[u8]) -> Outcome {
        let whole = read(framing, wire, &[]);
        for cut in 0..wire.len() {
            assert_eq!(read(framing, wire, &[cut]), whole, "cut at {cut} of {:?}", String::from_utf8_lossy(wire));
        }
        let bytes: Vec<usize> = (0..wire.len()).collect();
        assert_eq!(read(framing, wire, &bytes), whole, "byte by byte: {:?}", String::from_utf8_lossy(wire));
        whole
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(1_000));
        let table: &[(Framing, &str, &str, &str)] = &[
            (Framing::Length(0), "", "", ""),
            (Framing::Length(0), "next", "", "next"),
            (Framing::Length(5), "hello", "hello", ""),
            (Framing::Length(5), "helloGET / HTTP/1.1\r\n", "hello", "GET / HTTP/1.1\r\n"),
            (Framing::Chunked, "0\r\n\r\n", "", ""),
            (Framing::Chunked, "000\r\n\r\nnext", "", "next"),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n\r\n", "hello", ""),
            (Framing::Chunked, "5\r\nhello\r\n0005\r\nworld\r\n0\r\n\r\nnext", "helloworld", "next"),
            (Framing::Chunked, "a\r\n0123456789\r\nB\r\n01234567890\r\n0\r\n\r\n", "012345678901234567890", ""),
            // Data that looks like framing.
            (Framing::Chunked, "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", ""),
            (Framing::Chunked, "1;a=b\r\nx\r\n0;c=\"d;e\"\r\n\r\n", "x", ""),
            (Framing::Chunked, "1 \t;a\r\nx\r\n0\r\n\r\n", "x", ""),
            (Framing::Chunked, &long_extension, "a", ""),
            (Framing::Chunked, "1\r\nx\r\n0\r\nDigest: abc\r\nX-B:\r\n\r\nnext", "x", "next"),
        ];
        for (framing, wire, body, after) in table {
            let expected = Ok(Some((body.as_bytes().to_vec(), after.as_bytes().to_vec())));
            assert_eq!(read_at_every_cut(*framing, wire.as_bytes()), expected, "{wire:?}");
            // It is not complete before its last byte.
            let length = wire.len() - after.len();
            for end in 0..length {
                assert_eq!(read(*framing, &wire.as_bytes()[..end], &[]), Ok(None), "{end} bytes of {wire:?}");
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for wire in [
            "\r\n",
            "\n",
            ";a\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "x\r\n",
            "+5\r\nhello\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n",
            "5",
            "5 \r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\rhello\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5;a\0\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\n\r0",
            "0\r\n folded: a\r\n\r\n",
            "0\r\na: b\r\n c\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n: no name\r\n\r\n",
            "0\r\na : b\r\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\na: b\0\r\n\r\n",
        ] {
            let expected = if wire == "5" { Ok(None) } else { Err(Refusal::Chunks) };
            assert_eq!(read_at_every_cut(Framing::Chunked, wire.as_bytes()), expected, "{wire:?}");
        }
    }

    #[test]
    fn the_size_of_a_body_is_limited_while_it_is_read() {
        let chunk = |size: usize| [format!("{size:x}\r\n").into_bytes(), vec![b'a'; size], b"\r\n".to_vec()].concat();
        let fits = [chunk(MAX_BODY - 1), chunk(1), b"0\r\n\r\n".to_vec()].concat();
        assert_eq!(read(Framing::Chunked, &fits, &[]).unwrap().unwrap().0.len(), MAX_BODY);
        let too_long = [chunk(MAX_BODY - 1), b"2\r\n".to_vec()].concat();
        for wire in [
            &too_long[..],
            b"10001\r\n",
            b"ffffffffffffffffffffffffffffffff\r\n",
            &[b"0".repeat(MAX_CHUNK_FRAMING), b"1".to_vec()].concat(),
            &[b"1;".to_vec(), vec![b'x'; MAX_CHUNK_FRAMING]].concat(),
            &[b"0\r\n".to_vec(), b"a: b\r\n".repeat(MAX_CHUNK_FRAMING / 5)].concat(),
            // Each of these chunks has five bytes of framing.
            &b"1\r\na\r\n".repeat(MAX_CHUNK_FRAMING / 4),
        ] {
            for cuts in [vec![], (0..wire.len()).collect::<Vec<_>>()] {
                assert_eq!(read(Framing::Chunked, wire, &cuts), Err(Refusal::BodyTooLarge), "{:?}", &wire[..4]);
            }
        }
    }

    #[test]
    fn a_body_takes_memory_as_it_arrives() {
        for framing in [Framing::Length(MAX_BODY), Framing::Chunked] {
            let mut reader = BodyReader::new(framing);
            reader.handle_data(b"ffff\r\n").unwrap();
            for _ in 0..1_000 {
                reader.handle_data(&[b'a'; 60]).unwrap();
                assert!(reader.bytes.capacity() <= 2 * reader.bytes.len().max(60), "{}", reader.bytes.capacity());
            }
        }
    }

    proptest! {
        #[test]
        fn any_chunks_in_any_pieces_give_the_body_and_leave_the_rest(
            chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[ -~]{0,8})?"), 0..12),
            trailers in prop::collection::vec("[A-Za-z-]{1,8}: ?[ -~]{0,8}", 0..3),
            next in prop::collection::vec(any::<u8>(), 0..20),
            mut cuts in prop::collection::vec(0..900_usize, 0..20),
        ) {
            let mut wire = Vec::new();
            for (data, extension) in &chunks {
                wire.extend(format!("{:x}{extension}\r\n", data.len()).into_bytes());
                wire.extend(data);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n");
            for trailer in &trailers {
                wire.extend(format!("{trailer}\r\n").into_bytes());
            }
            wire.extend(b"\r\n");
            wire.extend(&next);
            cuts.sort_unstable();
            let body: Vec<u8> = chunks.into_iter().flat_map(|(data, _)| data).collect();
            prop_assert_eq!(read(Framing::Chunked, &wire, &cuts), Ok(Some((body, next))));
        }

        #[test]
        fn any_bytes_in_any_pieces_have_one_result(
            wire in prop::collection::vec(prop::sample::select(&b"0123af;: \t\r\n\r\n\r\nxA\0\x7f"[..]), 0..60),
            mut cuts in prop::collection::vec(0..60_usize, 0..8),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(read(Framing::Chunked, &wire, &cuts), read(Framing::Chunked, &wire, &[]));
        }
    }
}
