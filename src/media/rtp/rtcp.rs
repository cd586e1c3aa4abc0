//! RTCP between the server as sender and one subscriber: parsing of feedback, writing of sender reports (RFC 3550
//! section 6.4.1, RFC 4585 section 6, RFC 3611 section 4).

use std::time::Duration;

use crate::media::rtp::transport_feedback::TRANSPORT_WIDE;

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const BYE: u8 = 203;
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// Padding bit in the first byte of a packet.
const HAS_PADDING: u8 = 0x20;

/// First words of extended report blocks: the type, and the length in words.
const RECEIVER_REFERENCE_TIME: u32 = 4 << 24 | 2;
const LAST_RECEIVER_REPORT: u32 = 5 << 24 | 3;

/// Feedback message types.
const NACK: u8 = 1;
const PLI: u8 = 1;
const FIR: u8 = 4;
const APPLICATION: u8 = 15;

/// Feedback from a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback<'a> {
    /// A report block: the subscriber receives this stream.
    Report {
        /// SSRC of the stream.
        ssrc: u32,
    },
    /// Packets are missing: `seq_no`, and `seq_no + 1 + n` for each bit n of `following`.
    Nack {
        /// SSRC of the stream.
        ssrc: u32,
        /// First missing sequence number.
        seq_no: u16,
        /// Bit mask of the next 16 packets that are missing too.
        following: u16,
    },
    /// A keyframe request (PLI or FIR).
    KeyframeRequest {
        /// SSRC of the stream.
        ssrc: u32,
    },
    /// Transport-wide feedback: the bytes after the two SSRCs.
    Arrivals(&'a [u8]),
    /// The receiver's bandwidth estimate (REMB) in bits per second.
    Bandwidth(u64),
    /// A reference time of the receiver. From the answer it computes the round-trip time, which decides how soon it
    /// repeats a NACK.
    Reference(Reference),
}

/// The receiver reference time: a receiver's clock when it sent a report (RFC 3611 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// SSRC of the receiver.
    pub ssrc: u32,
    /// The middle 32 bits of its NTP time.
    pub ntp: u32,
}

impl Feedback<'_> {
    /// Returns the SSRC of the stream that the feedback concerns, if it concerns a single one.
    pub fn stream(&self) -> Option<u32> {
        match *self {
            Self::Report { ssrc } | Self::Nack { ssrc, .. } | Self::KeyframeRequest { ssrc } => Some(ssrc),
            Self::Arrivals(_) | Self::Bandwidth(_) | Self::Reference(_) => None,
        }
    }
}

/// Parses a compound packet. Parsing ends at the first malformed part; the feedback before it is valid. Returns true if
/// the peer is a sender too.
pub fn read<'a>(compound: &'a [u8], mut handle: impl FnMut(Feedback<'a>)) -> bool {
    let mut rest = compound;
    let mut is_sender = false;
    while let Some((&[first, packet_type, a, b], _)) = rest.split_first_chunk::<4>() {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([a, b]));
        let packet = rest.get(..length).filter(|_| first >> 6 == 2);
        let Some(packet) = packet.and_then(|packet| without_padding(first, packet)) else {
            return is_sender;
        };
        rest = &rest[length..];
        is_sender |= matches!(packet_type, SENDER_REPORT | BYE | EXTENDED_REPORT);
        let count = first & 0x1f;
        let word = |at: usize| packet.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().expect("4 bytes")));
        if (packet_type, word(8)) == (EXTENDED_REPORT, Some(RECEIVER_REFERENCE_TIME))
            && let (Some(ssrc), Some(upper), Some(lower)) = (word(4), word(12), word(16))
        {
            handle(Feedback::Reference(Reference { ssrc, ntp: upper << 16 | lower >> 16 }));
        }
        let reports = match packet_type {
            SENDER_REPORT => 28,
            RECEIVER_REPORT => 8,
            _ => length,
        };
        for report in 0..usize::from(count) {
            let Some(ssrc) = word(reports + 24 * report) else { break };
            handle(Feedback::Report { ssrc });
        }
        let (Some(ssrc), Some(body)) = (word(8), packet.get(12..)) else {
            continue;
        };
        match (packet_type, count) {
            (TRANSPORT_FEEDBACK, NACK) => {
                for entry in body.chunks_exact(4) {
                    let seq_no = u16::from_be_bytes([entry[0], entry[1]]);
                    let following = u16::from_be_bytes([entry[2], entry[3]]);
                    handle(Feedback::Nack { ssrc, seq_no, following });
                }
            }
            (TRANSPORT_FEEDBACK, TRANSPORT_WIDE) => handle(Feedback::Arrivals(body)),
            (PAYLOAD_FEEDBACK, APPLICATION) => {
                if let Some(bps) = read_bandwidth(body) {
                    handle(Feedback::Bandwidth(bps));
                }
            }
            (PAYLOAD_FEEDBACK, PLI) => handle(Feedback::KeyframeRequest { ssrc }),
            (PAYLOAD_FEEDBACK, FIR) => {
                for entry in body.chunks_exact(8) {
                    let ssrc = u32::from_be_bytes(entry[..4].try_into().expect("4 bytes"));
                    handle(Feedback::KeyframeRequest { ssrc });
                }
            }
            _ => {}
        }
    }
    is_sender
}

/// Returns a packet without its padding, whose length is in its last byte (RFC 3550 section 6.4.1). Returns `None` if
/// that length is 0 or leaves less than the first word. RFC 3550 requires a multiple of four, but all browsers pad
/// transport-wide feedback by one to three bytes (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1),
/// whose length is arbitrary.
fn without_padding(first: u8, packet: &[u8]) -> Option<&[u8]> {
    if first & HAS_PADDING == 0 {
        return Some(packet);
    }
    let bytes = usize::from(*packet.last()?);
    let end = packet.len().checked_sub(bytes).filter(|end| *end >= 4)?;
    (bytes > 0).then(|| &packet[..end])
}

/// Parses the receiver's bandwidth estimate (draft-alvestrand-rmcat-remb-03 section 2.2).
fn read_bandwidth(body: &[u8]) -> Option<u64> {
    let [b'R', b'E', b'M', b'B', _, a, b, c, ..] = *body else { return None };
    let mantissa = u64::from(a & 0x03) << 16 | u64::from(b) << 8 | u64::from(c);
    mantissa.checked_shl(u32::from(a >> 2)).filter(|bps| bps >> (a >> 2) == mantissa)
}

/// A sender report about one stream, without report blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// SSRC of the stream.
    pub ssrc: u32,
    /// Wall-clock time in NTP format: seconds since 1900 in the upper 32 bits, fractions in the lower.
    pub ntp: u64,
    /// RTP timestamp of the same moment.
    pub timestamp: u32,
    /// Number of packets sent.
    pub packets: u32,
    /// Number of payload bytes sent.
    pub octets: u32,
}

/// Size of a written sender report in bytes.
pub const SENDER_REPORT_BYTES: usize = 28;

/// Size of the head of a compound packet in bytes.
pub const HEAD_BYTES: usize = 8;

/// Appends the head of a compound packet: an empty receiver report of the SSRC under which the packet is encrypted.
pub fn write_head(sender: u32, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&[0x80, RECEIVER_REPORT, 0, 1]);
    buffer.extend_from_slice(&sender.to_be_bytes());
}

/// Size of a written answer in bytes.
pub const DLRR_BYTES: usize = 24;

/// Appends the answer to a reference time received `elapsed` ago (RFC 3611 section 4.5).
pub fn write_dlrr(sender: u32, reference: Reference, elapsed: Duration, buffer: &mut Vec<u8>) {
    let delay = (elapsed.as_micros() * 65_536 / 1_000_000) as u32;
    buffer.extend_from_slice(&[0x80, EXTENDED_REPORT, 0, 5]);
    for word in [sender, LAST_RECEIVER_REPORT, reference.ssrc, reference.ntp, delay] {
        buffer.extend_from_slice(&word.to_be_bytes());
    }
}

impl SenderReport {
    /// Appends the report. A CNAME is not needed in the compound packet (RFC 5506), because the SDP states it.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&[0x80, SENDER_REPORT, 0, 6]);
        buffer.extend_from_slice(&self.ssrc.to_be_bytes());
        buffer.extend_from_slice(&self.ntp.to_be_bytes());
        for word in [self.timestamp, self.packets, self.octets] {
            buffer.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// An RTCP packet with these words after its header. `first` has the padding bit and the count or format.
#[cfg(test)]
pub fn packet(first: u8, packet_type: u8, words: &[u32]) -> Vec<u8> {
    let mut packet = vec![0x80 | first, packet_type];
    packet.extend((words.len() as u16).to_be_bytes());
    packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(compound: &[u8]) -> Vec<Feedback<'_>> {
        let mut found = Vec::new();
        read(compound, |feedback| found.push(feedback));
        found
    }

    #[test]
    fn senders_are_distinguished_from_receivers() {
        for (packet_type, expected) in [(200, true), (201, false), (203, true), (205, false), (206, false), (207, true)]
        {
            let mut compound = packet(0, RECEIVER_REPORT, &[1]);
            compound.extend(packet(0, packet_type, &[1, 2, 3, 4, 5, 6]));
            assert_eq!(read(&compound, |_| ()), expected, "{packet_type}");
        }
    }

    #[test]
    fn all_feedback_of_browsers_is_parsed() {
        let report = [7, 0, 0, 0, 0, 0];
        let mut compound = packet(1, RECEIVER_REPORT, &[&[1], &report[..]].concat());
        compound.extend(packet(0, EXTENDED_REPORT, &[12, RECEIVER_REFERENCE_TIME, 0x0001_0002, 0x0003_0004]));
        compound.extend(packet(NACK, TRANSPORT_FEEDBACK, &[1, 8, 0x0005_8001, 0x0100_0000]));
        compound.extend(packet(PLI, PAYLOAD_FEEDBACK, &[1, 9]));
        compound.extend(packet(FIR, PAYLOAD_FEEDBACK, &[1, 0, 10, 0x0100_0000, 11, 0x0200_0000]));
        compound.extend(packet(15, PAYLOAD_FEEDBACK, &[1, 0, 0x5245_4d42, 0x0108_0001, 9]));
        compound.extend(packet(15, PAYLOAD_FEEDBACK, &[1, 0, 0x5245_4d42, 0x01ff_ffff, 9]));
        compound.extend(packet(15, PAYLOAD_FEEDBACK, &[1, 0, 0x5245_4d43, 0x0108_0001]));
        compound.extend(packet(15, TRANSPORT_FEEDBACK, &[1, 0, 0x0001_0002]));
        compound.extend(packet(0, 202, &[1]));
        let nack = |seq_no, following| Feedback::Nack { ssrc: 8, seq_no, following };
        let expected = [
            Feedback::Report { ssrc: 7 },
            Feedback::Reference(Reference { ssrc: 12, ntp: 0x0002_0003 }),
            nack(5, 0x8001),
            nack(0x0100, 0),
            Feedback::KeyframeRequest { ssrc: 9 },
            Feedback::KeyframeRequest { ssrc: 10 },
            Feedback::KeyframeRequest { ssrc: 11 },
            Feedback::Bandwidth(4),
            Feedback::Arrivals(&[0, 1, 0, 2]),
        ];
        assert_eq!(feedback(&compound), expected);
        for length in 0..compound.len() {
            assert!(expected.starts_with(&feedback(&compound[..length])), "{length}");
        }
    }

    #[test]
    fn padding_is_skipped() {
        let nack = |seq_no| Feedback::Nack { ssrc: 8, seq_no, following: 0 };
        let padded = |padding: &[u32]| {
            let words = [&[1, 8, 0x0005_0000], padding].concat();
            packet(HAS_PADDING | NACK, TRANSPORT_FEEDBACK, &words)
        };
        for (padding, expected) in [
            (&[4][..], &[nack(5), Feedback::KeyframeRequest { ssrc: 9 }][..]),
            (&[0x0077_0000, 8], &[nack(5), Feedback::KeyframeRequest { ssrc: 9 }]),
            // The padding covers the list as well, or the SSRC.
            (&[8], &[Feedback::KeyframeRequest { ssrc: 9 }]),
            (&[12], &[Feedback::KeyframeRequest { ssrc: 9 }]),
            // The padding covers half of an entry, which is then ignored.
            (&[5], &[Feedback::KeyframeRequest { ssrc: 9 }]),
            // Impossible padding.
            (&[0], &[]),
            (&[20], &[]),
            (&[255], &[]),
        ] {
            let mut compound = packet(0, RECEIVER_REPORT, &[1]);
            compound.extend(padded(padding));
            compound.extend(packet(PLI, PAYLOAD_FEEDBACK, &[1, 9]));
            assert_eq!(feedback(&compound), expected, "{padding:x?}");
        }
        // The count includes a report block that is covered by the padding.
        let report = [7, 0, 0, 0, 0, 0];
        let words = [&[1], &report[..], &[9, 0, 0, 0, 0, 24]].concat();
        let compound = packet(HAS_PADDING | 2, RECEIVER_REPORT, &words);
        assert_eq!(feedback(&compound), [Feedback::Report { ssrc: 7 }]);
    }

    #[test]
    fn transport_wide_feedback_may_end_within_a_word() {
        for padding in 1..=3 {
            let words = [1, 8, 0x0001_0002, 0x0003_0400, 0x2002_0000 | padding];
            let mut compound = packet(HAS_PADDING | 15, TRANSPORT_FEEDBACK, &words);
            compound.extend(packet(PLI, PAYLOAD_FEEDBACK, &[1, 9]));
            let read = feedback(&compound);
            assert!(matches!(read[..], [Feedback::Arrivals(_), Feedback::KeyframeRequest { ssrc: 9 }]), "{read:?}");
        }
    }

    #[test]
    fn written_reports_have_the_declared_sizes() {
        let mut compound = Vec::new();
        write_head(0x0102_0304, &mut compound);
        let report = SenderReport { ssrc: 5, ntp: 1 << 32 | 2, timestamp: 3, packets: 4, octets: 6 };
        report.write(&mut compound);
        assert_eq!(compound.len(), HEAD_BYTES + SENDER_REPORT_BYTES);
        assert_eq!(compound[HEAD_BYTES..], packet(0, SENDER_REPORT, &[5, 1, 2, 3, 4, 6]));
        write_dlrr(9, Reference { ssrc: 12, ntp: 77 }, Duration::from_millis(1_500), &mut compound);
        assert_eq!(compound.len(), HEAD_BYTES + SENDER_REPORT_BYTES + DLRR_BYTES);
        let answer = packet(0, EXTENDED_REPORT, &[9, LAST_RECEIVER_REPORT, 12, 77, 3 << 15]);
        assert_eq!(compound[HEAD_BYTES + SENDER_REPORT_BYTES..], answer);
        assert_eq!(feedback(&compound), []);
    }
}
