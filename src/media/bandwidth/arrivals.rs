//! Which of a publisher's packets have come, and when: the transport-wide feedback from which its congestion control
//! estimates what its way here carries (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
//!
//! str0m has such a register too. There a number behind the first becomes one of almost 2^64, and the next message an
//! account of all that are missing before it, which no memory holds; so str0m gets to see no number at all.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::media::bandwidth::feedback::{
    DELTA_MICROS, LARGE_DELTA, NOT_RECEIVED, REFERENCE_MICROS, SMALL_DELTA, TRANSPORT_WIDE,
};
use crate::media::rtcp::TRANSPORT_FEEDBACK;

/// Time between two messages. Shorter lets a publisher react sooner, longer is less to send and to wake up for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Packets after which a message does not wait for its time.
const MANY: usize = 200;

/// Packets that are remembered after they were reported: with one that was overtaken, those that overtook it are
/// reported again.
const KEPT: usize = 128;

/// Packets that are remembered at all. What comes beyond that before a message is written is not reported, and so is
/// lost to the publisher, who sends too much.
const MOST: usize = 1_024;

/// A number so far ahead of all others, or behind the last, begins a new account: nothing is said of what is between.
const JUMP: i64 = 4_096;

/// Bytes of a message at most, and of its head.
const MESSAGE_BYTES: usize = 1_100;
const HEAD_BYTES: usize = 20;

/// Statuses of a run at most (13 bits), and of the two kinds of vectors.
const RUN: u16 = 0x1fff;
const VECTOR: usize = 14;
const WIDE_VECTOR: usize = 7;

/// Units of time of a delta in one of the reference time.
const REFERENCE_DELTAS: i64 = (REFERENCE_MICROS / DELTA_MICROS) as i64;

/// The packets of one peer that have come.
#[derive(Debug)]
pub struct Arrivals {
    start: Instant,
    /// Extended number, and units of a delta since the start, in the order of the numbers.
    arrived: VecDeque<(i64, i64)>,
    /// How many of them have been reported.
    reported: usize,
    /// Packets since the last message.
    unwritten: usize,
    /// SSRC of the last one. libwebrtc takes a message only if it names one that is in use.
    media: u32,
    written: Instant,
    due: Option<Instant>,
    count: u8,
}

/// Statuses that are the same, one after the other.
type Runs = SmallVec<[(u16, u16); 64]>;

impl Arrivals {
    /// The most that one takes beside itself.
    pub const MAX_BYTES: usize = 2 * MOST * size_of::<(i64, i64)>();

    /// Nothing has come.
    pub fn new(now: Instant) -> Self {
        let arrived = VecDeque::new();
        Self { start: now, arrived, reported: 0, unwritten: 0, media: 0, written: now, due: None, count: 0 }
    }

    /// A packet with this number has come.
    pub fn handle_packet(&mut self, now: Instant, media: u32, number: u16) {
        self.media = media;
        let ticks = (now.saturating_duration_since(self.start).as_micros() / u128::from(DELTA_MICROS)) as i64;
        let (at, number) = match self.arrived.back() {
            None => (0, i64::from(number)),
            Some((highest, _)) => {
                let ahead = i64::from(number.wrapping_sub(*highest as u16) as i16);
                let number = highest + ahead;
                if ahead.abs() > JUMP {
                    self.arrived.clear();
                    self.reported = 0;
                }
                let at = match ahead > 0 {
                    true => self.arrived.len(),
                    false => self.arrived.partition_point(|(other, _)| *other < number),
                };
                (at, number)
            }
        };
        let is_known = self.arrived.get(at).is_some_and(|(other, _)| *other == number);
        // Before all that are remembered there were others.
        let is_forgotten = at == 0 && self.reported > 0;
        if is_known || is_forgotten || self.arrived.len() >= MOST {
            return;
        }
        self.arrived.insert(at, (number, ticks));
        self.reported = self.reported.min(at);
        self.unwritten += 1;
        let due = if self.unwritten >= MANY { now } else { now.max(self.written + INTERVAL) };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When a message should be written.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Nobody is to be told of what has come so far.
    pub fn skip(&mut self) {
        (self.unwritten, self.due) = (0, None);
        self.reported = self.arrived.len();
        self.forget();
    }

    /// Appends a message on what has come since the last, as much of it as one takes. `sender` is the SSRC that it is
    /// sealed under.
    pub fn write(&mut self, now: Instant, sender: u32, buffer: &mut Vec<u8>) {
        (self.written, self.unwritten, self.due) = (now, 0, None);
        let Some((first, ticks)) = self.arrived.get(self.reported).copied() else {
            return;
        };
        let base = self.reported.checked_sub(1).map_or(first, |last| self.arrived[last].0 + 1);
        let reference = ticks / REFERENCE_DELTAS;
        let (mut runs, mut deltas) = (Runs::new(), SmallVec::<[u8; 512]>::new());
        let (mut next, mut time) = (base, reference * REFERENCE_DELTAS);
        for (number, ticks) in self.arrived.range(self.reported..) {
            // What is too far apart begins another message.
            let Ok(delta) = i16::try_from(ticks - time) else { break };
            let bytes = HEAD_BYTES + 2 * (runs.len() + 2) + deltas.len() + 2;
            if bytes > MESSAGE_BYTES || number - base >= i64::from(u16::MAX) {
                break;
            }
            push(&mut runs, NOT_RECEIVED, (number - next) as u16);
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
            (next, time) = (number + 1, *ticks);
            self.reported += 1;
        }
        let start = buffer.len();
        buffer.extend_from_slice(&[0x80 | TRANSPORT_WIDE, TRANSPORT_FEEDBACK, 0, 0]);
        buffer.extend_from_slice(&sender.to_be_bytes());
        buffer.extend_from_slice(&self.media.to_be_bytes());
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
        let old = self.reported.saturating_sub(KEPT);
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

/// Runs where they are long, vectors else. The last vector may be filled up: the head says how many statuses there are.
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
    use crate::media::bandwidth::feedback::Feedback;
    use crate::media::inputs;

    /// All messages that are due by now: each packet's number, and when it came in units of a delta.
    fn told(arrivals: &mut Arrivals, now: Instant) -> Vec<(u16, Option<u32>)> {
        let mut told = Vec::new();
        while arrivals.due().is_some_and(|due| due <= now) {
            let mut message = vec![7];
            let count = arrivals.count;
            arrivals.write(now, 1, &mut message);
            let message = &message[1..];
            assert!(message.len() <= MESSAGE_BYTES + 8 && message.len().is_multiple_of(4), "{}", message.len());
            let words = u16::from_be_bytes([message[2], message[3]]);
            assert_eq!((message.len(), message[1]), (4 * (usize::from(words) + 1), TRANSPORT_FEEDBACK));
            assert_eq!(message[4..12], [0, 0, 0, 1, 0, 0, 0, 2]);
            let feedback = Feedback::new(&message[12..]).expect("what was written can be read");
            assert_eq!(feedback.count, count);
            told.extend(feedback.map(|(number, time)| (number, time.map(|time| time / DELTA_MICROS))));
        }
        told
    }

    #[test]
    fn what_came_and_what_did_not_is_told() {
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
        assert_eq!(told(&mut arrivals, at(100)), expected);
        assert_eq!((arrivals.due(), told(&mut arrivals, at(300))), (None, vec![]));
        arrivals.handle_packet(at(10_300), 2, 5);
        assert_eq!(arrivals.due(), Some(at(10_300)), "long after the last");
        assert_eq!(told(&mut arrivals, at(10_300)), [(4, None), (5, Some(41_200))]);
        // It was overtaken: what overtook it is told again.
        arrivals.handle_packet(at(10_301), 2, 1);
        let again = [(1, Some(41_204)), (2, Some(288)), (3, Some(280)), (4, None), (5, Some(41_200))];
        assert_eq!(told(&mut arrivals, at(10_400)), again, "in as many messages as the times take");
        arrivals.handle_packet(at(10_401), 2, 6);
        arrivals.skip();
        assert_eq!(arrivals.due(), None);
    }

    #[test]
    fn many_are_told_at_once() {
        let now = Instant::now();
        let mut arrivals = Arrivals::new(now);
        (1..MANY as u16).for_each(|number| arrivals.handle_packet(now, 2, number));
        assert_eq!(arrivals.due(), Some(now + INTERVAL));
        arrivals.handle_packet(now, 2, MANY as u16);
        assert_eq!(arrivals.due(), Some(now));
        assert_eq!(told(&mut arrivals, now).len(), MANY);
        assert_eq!(arrivals.arrived.len(), KEPT);
    }

    #[test]
    fn numbers_from_nowhere_begin_anew_and_fill_no_memory() {
        let now = Instant::now();
        let mut arrivals = Arrivals::new(now);
        let told = |arrivals: &mut Arrivals| arrivals.due().map_or(vec![], |due| told(arrivals, due));
        // 40,000 is behind the first one of all: str0m takes it for 2^64 - 25,536.
        for number in [0, 40_000, 30_000, 25_000] {
            arrivals.handle_packet(now, 2, number);
            assert_eq!(told(&mut arrivals), [(number, Some(0))]);
        }
        arrivals.handle_packet(now, 2, 25_000 - JUMP as u16);
        assert_eq!(told(&mut arrivals), [], "nobody knows what was told before the last");
        for turn in 0..10_000_u16 {
            arrivals.handle_packet(now, 2, turn.wrapping_mul(JUMP as u16));
            assert!(arrivals.arrived.len() <= MOST);
        }
        let mut bytes = Vec::new();
        while arrivals.due().is_some() {
            arrivals.write(now, 1, &mut bytes);
        }
        assert!(bytes.len() < 16 * MOST, "{}", bytes.len());
        assert!(size_of_val(arrivals.arrived.as_slices().0) <= Arrivals::MAX_BYTES);
    }

    proptest! {
        #![proptest_config(inputs(512))]

        /// Whatever comes, each packet is told at its time, and between two of them what did not come.
        #[test]
        fn what_is_told_is_what_came(packets in vec((0..40_u64, prop_oneof![20 => Just(1), 2 => 2..30_u16, 1 => 30..100_u16]), 1..300)) {
            let start = Instant::now();
            let mut arrivals = Arrivals::new(start);
            let (mut ms, mut number) = (0, 65_000_u16);
            let (mut came, mut all) = (Vec::new(), Vec::new());
            for (elapsed, ahead) in packets {
                ms += elapsed;
                number = number.wrapping_add(ahead);
                let now = start + Duration::from_millis(ms);
                arrivals.handle_packet(now, 2, number);
                came.push((number, Some(4 * ms as u32)));
                all.extend(told(&mut arrivals, now));
            }
            all.extend(told(&mut arrivals, start + Duration::from_millis(ms) + INTERVAL));
            for pair in all.windows(2) {
                prop_assert_eq!(pair[1].0, pair[0].0.wrapping_add(1));
            }
            all.retain(|(_, time)| time.is_some());
            prop_assert_eq!(all, came);
        }
    }
}
