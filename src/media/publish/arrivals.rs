//! Records which of a publisher's packets arrived, and when, and writes the transport-wide feedback that the
//! publisher's congestion control needs (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
//!
//! str0m's own recorder is not used. It extends a sequence number below the first one to almost 2^64, and its next
//! message would list all packets missing before that number, which exhausts memory. These sequence numbers are
//! therefore hidden from str0m.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::media::rtp::rtcp::TRANSPORT_FEEDBACK;
use crate::media::rtp::transport_feedback::{
    DELTA_MICROS, LARGE_DELTA, NOT_RECEIVED, REFERENCE_MICROS, SMALL_DELTA, TRANSPORT_WIDE,
};

/// Time between two messages. A shorter interval lets a publisher react sooner, a longer one costs fewer packets and
/// wake-ups.
const INTERVAL: Duration = Duration::from_millis(100);

/// Number of unreported packets from which on a message is due at once.
const EARLY_PACKETS: usize = 200;

/// Number of packets kept after they were reported. If a reordered packet arrives late, the packets that overtook it
/// are reported again.
const KEPT_REPORTED: usize = 128;

/// Maximum number of packets kept. Packets above it are not reported, and the publisher counts them as lost: it sends
/// too much.
const MAX_PACKETS: usize = 1_024;

/// Largest jump of the sequence number, in either direction. A larger one restarts the record, and the packets in
/// between are not reported.
const MAX_JUMP: i64 = 4_096;

/// Maximum size of a message in bytes, and size of its header.
const MESSAGE_BYTES: usize = 1_100;
const HEAD_BYTES: usize = 20;

/// Maximum length of a run-length chunk (13 bits), and number of symbols in the two kinds of status vector chunks.
const RUN: u16 = 0x1fff;
const VECTOR: usize = 14;
const WIDE_VECTOR: usize = 7;

/// Delta units in one unit of the reference time.
const REFERENCE_DELTAS: i64 = (REFERENCE_MICROS / DELTA_MICROS) as i64;

/// The arrivals of one publisher's packets.
#[derive(Debug)]
pub struct Arrivals {
    start: Instant,
    /// The last arrival time, as an instant and in delta units since `start`.
    last: (Instant, i64),
    /// Extended sequence number and arrival time in delta units since `start`, ordered by sequence number.
    arrived: VecDeque<(i64, i64)>,
    /// Number of packets at the front of `arrived` that have been reported.
    reported: usize,
    /// Number of packets since the last message.
    unwritten: usize,
    /// SSRC of the last packet. libwebrtc accepts only messages that name an SSRC in use.
    media_ssrc: u32,
    written: Instant,
    due: Option<Instant>,
    count: u8,
}

/// Symbols with the number of consecutive packets they apply to.
type Runs = SmallVec<[(u16, u16); 64]>;

impl Arrivals {
    /// Upper bound of the heap memory in bytes.
    pub const MAX_BYTES: usize = 2 * MAX_PACKETS * size_of::<(i64, i64)>();

    /// Creates an empty record.
    pub fn new(now: Instant) -> Self {
        let arrived = VecDeque::new();
        let last = (now, 0);
        Self { start: now, last, arrived, reported: 0, unwritten: 0, media_ssrc: 0, written: now, due: None, count: 0 }
    }

    /// Records the arrival of a packet with this transport-wide sequence number.
    pub fn handle_packet(&mut self, now: Instant, media_ssrc: u32, seq_no: u16) {
        self.media_ssrc = media_ssrc;
        // Most packets of a batch share one time.
        if now != self.last.0 {
            let micros = now.saturating_duration_since(self.start).as_micros() as i64;
            self.last = (now, micros / i64::from(DELTA_MICROS));
        }
        let ticks = self.last.1;
        let (at, seq_no) = match self.arrived.back() {
            None => (0, i64::from(seq_no)),
            Some((highest, _)) => {
                let ahead = i64::from(seq_no.wrapping_sub(*highest as u16) as i16);
                let seq_no = highest + ahead;
                if ahead.abs() > MAX_JUMP {
                    self.arrived.clear();
                    self.reported = 0;
                }
                let at = if ahead > 0 {
                    self.arrived.len()
                } else {
                    self.arrived.partition_point(|(other, _)| *other < seq_no)
                };
                (at, seq_no)
            }
        };
        let is_known = self.arrived.get(at).is_some_and(|(other, _)| *other == seq_no);
        // Packets before the first kept one were reported and removed.
        let is_forgotten = at == 0 && self.reported > 0;
        if is_known || is_forgotten || self.arrived.len() >= MAX_PACKETS {
            return;
        }
        self.arrived.insert(at, (seq_no, ticks));
        self.reported = self.reported.min(at);
        self.unwritten += 1;
        let due = if self.unwritten >= EARLY_PACKETS { now } else { now.max(self.written + INTERVAL) };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Returns when the next message is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Marks all packets recorded so far as reported, without writing a message.
    pub fn skip(&mut self) {
        self.unwritten = 0;
        self.due = None;
        self.reported = self.arrived.len();
        self.forget();
    }

    /// Appends a message about the packets that arrived since the last one, as many as fit. `sender` is the SSRC under
    /// which the message is encrypted.
    pub fn write(&mut self, now: Instant, sender: u32, buffer: &mut Vec<u8>) {
        self.written = now;
        self.unwritten = 0;
        self.due = None;
        let Some((first, ticks)) = self.arrived.get(self.reported).copied() else {
            return;
        };
        let base = self.reported.checked_sub(1).map_or(first, |last| self.arrived[last].0 + 1);
        let reference = ticks / REFERENCE_DELTAS;
        let (mut runs, mut deltas) = (Runs::new(), SmallVec::<[u8; 512]>::new());
        let (mut next, mut time) = (base, reference * REFERENCE_DELTAS);
        for (seq_no, ticks) in self.arrived.range(self.reported..) {
            // A difference that does not fit into a delta needs a new message.
            let Ok(delta) = i16::try_from(ticks - time) else { break };
            let bytes = HEAD_BYTES + 2 * (runs.len() + 2) + deltas.len() + 2;
            if bytes > MESSAGE_BYTES || seq_no - base >= i64::from(u16::MAX) {
                break;
            }
            push(&mut runs, NOT_RECEIVED, (seq_no - next) as u16);
            match u8::try_from(delta) {
                Ok(delta) => {
                    push(&mut runs, SMALL_DELTA, 1);
                    deltas.push(delta);
                }
                Err(_) => {
                    push(&mut runs, LARGE_DELTA, 1);
                    deltas.extend_from_slice(&delta.to_be_bytes());
                }
            }
            next = seq_no + 1;
            time = *ticks;
            self.reported += 1;
        }
        let start = buffer.len();
        buffer.extend_from_slice(&[0x80 | TRANSPORT_WIDE, TRANSPORT_FEEDBACK, 0, 0]);
        buffer.extend_from_slice(&sender.to_be_bytes());
        buffer.extend_from_slice(&self.media_ssrc.to_be_bytes());
        buffer.extend_from_slice(&(base as u16).to_be_bytes());
        buffer.extend_from_slice(&((next - base) as u16).to_be_bytes());
        buffer.extend_from_slice(&((reference as u32) << 8 | u32::from(self.count)).to_be_bytes());
        write_chunks(&mut runs, buffer);
        buffer.extend_from_slice(&deltas);
        let padding = (buffer.len() - start).next_multiple_of(4) - (buffer.len() - start);
        if padding > 0 {
            buffer[start] |= 0x20;
            buffer.resize(buffer.len() + padding - 1, 0);
            buffer.push(padding as u8);
        }
        let words = ((buffer.len() - start) / 4 - 1) as u16;
        buffer[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        if self.reported < self.arrived.len() {
            self.due = Some(now);
        }
        self.forget();
    }

    fn forget(&mut self) {
        let old = self.reported.saturating_sub(KEPT_REPORTED);
        self.arrived.drain(..old);
        self.reported -= old;
    }
}

fn push(runs: &mut Runs, symbol: u16, count: u16) {
    match runs.last_mut() {
        Some((last, length)) if *last == symbol => *length += count,
        _ if count > 0 => runs.push((symbol, count)),
        _ => {}
    }
}

/// Writes run-length chunks where runs are long, and status vector chunks elsewhere. The last vector may contain
/// surplus symbols, because the header states the packet count.
fn write_chunks(runs: &mut [(u16, u16)], buffer: &mut Vec<u8>) {
    let mut at = 0;
    while let Some((symbol, length)) = runs.get(at).copied() {
        let mut ahead = [NOT_RECEIVED; VECTOR];
        let statuses = runs[at..].iter().flat_map(|(symbol, length)| std::iter::repeat_n(*symbol, (*length).into()));
        ahead.iter_mut().zip(statuses).for_each(|(place, symbol)| *place = symbol);
        let (kind, width, most) = if ahead.contains(&LARGE_DELTA) { (0b11, 2, WIDE_VECTOR) } else { (0b10, 1, VECTOR) };
        let (chunk, mut taken) = if usize::from(length) >= most {
            (symbol << 13 | length.min(RUN), length.min(RUN))
        } else {
            (ahead[..most].iter().fold(kind, |bits, symbol| bits << width | symbol), most as u16)
        };
        buffer.extend_from_slice(&chunk.to_be_bytes());
        while taken > 0
            && let Some((_, length)) = runs.get_mut(at)
        {
            let used = taken.min(*length);
            (*length, taken) = (*length - used, taken - used);
            at += usize::from(*length == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;
    use crate::media::rtp::transport_feedback::Feedback;

    /// Reads all messages due at `now`: each packet's sequence number, and its arrival time in delta units.
    fn reported(arrivals: &mut Arrivals, now: Instant) -> Vec<(u16, Option<u32>)> {
        let mut reported = Vec::new();
        while arrivals.due().is_some_and(|due| due <= now) {
            let mut message = vec![7];
            let count = arrivals.count;
            arrivals.write(now, 1, &mut message);
            let message = &message[1..];
            assert!(message.len() <= MESSAGE_BYTES + 8 && message.len().is_multiple_of(4), "{}", message.len());
            let words = u16::from_be_bytes([message[2], message[3]]);
            assert_eq!((message.len(), message[1]), (4 * (usize::from(words) + 1), TRANSPORT_FEEDBACK));
            assert_eq!(message[4..12], [0, 0, 0, 1, 0, 0, 0, 2]);
            let feedback = Feedback::new(&message[12..]).expect("a written message can be read");
            assert_eq!(feedback.count, count);
            reported.extend(feedback.map(|(number, time)| (number, time.map(|time| time / DELTA_MICROS))));
        }
        reported
    }

    #[test]
    fn arrived_and_missing_packets_are_reported() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut arrivals = Arrivals::new(start);
        assert_eq!(arrivals.due(), None);
        for (ms, number) in [(0, 65_534), (1, 65_535), (30, 0), (70, 3), (72, 2), (72, 2)] {
            arrivals.handle_packet(at(ms), 2, number);
        }
        assert_eq!(arrivals.due(), Some(at(100)));
        let expected =
            [(65_534, Some(0)), (65_535, Some(4)), (0, Some(120)), (1, None), (2, Some(288)), (3, Some(280))];
        assert_eq!(reported(&mut arrivals, at(100)), expected);
        assert_eq!((arrivals.due(), reported(&mut arrivals, at(300))), (None, vec![]));
        arrivals.handle_packet(at(10_300), 2, 5);
        assert_eq!(arrivals.due(), Some(at(10_300)), "due at once, long after the last message");
        assert_eq!(reported(&mut arrivals, at(10_300)), [(4, None), (5, Some(41_200))]);
        // A reordered packet: the packets that overtook it are reported again.
        arrivals.handle_packet(at(10_301), 2, 1);
        let again = [(1, Some(41_204)), (2, Some(288)), (3, Some(280)), (4, None), (5, Some(41_200))];
        assert_eq!(reported(&mut arrivals, at(10_400)), again, "deltas that do not fit begin a new message");
        arrivals.handle_packet(at(10_401), 2, 6);
        arrivals.skip();
        assert_eq!(arrivals.due(), None);
    }

    #[test]
    fn many_packets_are_reported_before_the_interval_ends() {
        let now = Instant::now();
        let mut arrivals = Arrivals::new(now);
        (1..EARLY_PACKETS as u16).for_each(|number| arrivals.handle_packet(now, 2, number));
        assert_eq!(arrivals.due(), Some(now + INTERVAL));
        arrivals.handle_packet(now, 2, EARLY_PACKETS as u16);
        assert_eq!(arrivals.due(), Some(now));
        assert_eq!(reported(&mut arrivals, now).len(), EARLY_PACKETS);
        assert_eq!(arrivals.arrived.len(), KEPT_REPORTED);
    }

    #[test]
    fn arbitrary_sequence_numbers_restart_the_record_within_the_memory_limit() {
        let now = Instant::now();
        let mut arrivals = Arrivals::new(now);
        let reported = |arrivals: &mut Arrivals| arrivals.due().map_or(vec![], |due| reported(arrivals, due));
        // 40,000 is below the first sequence number; str0m would extend it to 2^64 - 25,536.
        for number in [0, 40_000, 30_000, 25_000] {
            arrivals.handle_packet(now, 2, number);
            assert_eq!(reported(&mut arrivals), [(number, Some(0))]);
        }
        arrivals.handle_packet(now, 2, 25_000 - MAX_JUMP as u16);
        assert_eq!(reported(&mut arrivals), [], "the packet precedes all that were reported and removed");
        for turn in 0..10_000_u16 {
            arrivals.handle_packet(now, 2, turn.wrapping_mul(MAX_JUMP as u16));
            assert!(arrivals.arrived.len() <= MAX_PACKETS);
        }
        let mut bytes = Vec::new();
        while arrivals.due().is_some() {
            arrivals.write(now, 1, &mut bytes);
        }
        assert!(bytes.len() < 16 * MAX_PACKETS, "{}", bytes.len());
        assert!(size_of_val(arrivals.arrived.as_slices().0) <= Arrivals::MAX_BYTES);
    }

    proptest! {
        #![proptest_config(inputs(512))]

        /// Every packet is reported with its arrival time, and every gap as not received.
        #[test]
        fn all_arrivals_and_gaps_are_reported(packets in vec((0..40_u64, prop_oneof![20 => Just(1), 2 => 2..30_u16, 1 => 30..100_u16]), 1..300)) {
            let start = Instant::now();
            let mut arrivals = Arrivals::new(start);
            let (mut ms, mut number) = (0, 65_000_u16);
            let (mut arrived, mut all) = (Vec::new(), Vec::new());
            for (elapsed, ahead) in packets {
                ms += elapsed;
                number = number.wrapping_add(ahead);
                let now = start + Duration::from_millis(ms);
                arrivals.handle_packet(now, 2, number);
                arrived.push((number, Some(4 * ms as u32)));
                all.extend(reported(&mut arrivals, now));
            }
            all.extend(reported(&mut arrivals, start + Duration::from_millis(ms) + INTERVAL));
            for pair in all.windows(2) {
                prop_assert_eq!(pair[1].0, pair[0].0.wrapping_add(1));
            }
            all.retain(|(_, time)| time.is_some());
            prop_assert_eq!(all, arrived);
        }
    }
}
