//! The last packets of a published track, kept once for all its subscribers to answer their NACKs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::rtp::codec::configuration::MAX_ADDED_BYTES;
use crate::media::rtp::packet::Packet;

/// Maximum number of packets per track: two seconds at 5 Mbit/s. A lower limit turns a burst of loss into a freeze; a
/// higher one costs memory, once per track.
const PACKETS: usize = 1_024;

/// Time for which packets are kept. A retransmission after this is too late for any jitter buffer; a longer time costs
/// memory: a track of 1 Mbit/s keeps 125 KB per second.
pub const AGE: Duration = Duration::from_millis(1_500);

/// Maximum payload bytes per track, even of a publisher that sends at its bitrate limit.
const BYTES: usize = 768 * 1024;

/// Packets in order of arrival. Each has a position, which increases by one per packet and wraps.
#[derive(Default)]
pub struct History {
    packets: VecDeque<(Instant, Packet)>,
    bytes: usize,
    /// Position of the first kept packet.
    first: u32,
    /// Position of the next packet.
    next: u32,
}

impl History {
    /// Returns the upper bound of the memory in bytes for the histories of `tracks` tracks of one publisher, which may
    /// send `bytes_per_second` and `packets_per_second`, and one second's worth as a burst.
    pub fn max_bytes(tracks: usize, bytes_per_second: usize, packets_per_second: usize) -> usize {
        let worth = |per_second: usize| (AGE + Duration::from_secs(1)).as_millis() as usize * per_second / 1_000;
        let packets = worth(packets_per_second).min(tracks * PACKETS);
        // A growing queue doubles its capacity; a shared payload is preceded by two reference counts.
        let entry = 2 * size_of::<(Instant, Packet)>() + 2 * size_of::<usize>();
        (worth(bytes_per_second) + packets * MAX_ADDED_BYTES).min(tracks * BYTES) + packets * entry
    }

    /// Returns the position for a packet that is being forwarded and pushed afterwards.
    pub fn take_position(&mut self) -> u32 {
        let position = self.next;
        self.next = position.wrapping_add(1);
        position
    }

    /// Adds a packet, and removes those that are too old or too many. A packet with a position of another history is
    /// ignored.
    pub fn push(&mut self, now: Instant, packet: Packet) {
        if packet.position.wrapping_sub(self.first) >= self.next.wrapping_sub(self.first) {
            return;
        }
        if packet.position != self.first.wrapping_add(self.packets.len() as u32) {
            self.packets.clear();
            self.first = packet.position;
            self.bytes = 0;
        }
        self.bytes += packet.payload.len();
        self.packets.push_back((now, packet));
        self.expire(now);
    }

    /// Removes packets that are too old or too many.
    pub fn expire(&mut self, now: Instant) {
        while let Some((arrived, packet)) = self.packets.front()
            && (self.packets.len() > PACKETS || self.bytes > BYTES || now > *arrived + AGE)
        {
            self.bytes -= packet.payload.len();
            self.packets.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// Returns the packet at a position, if it is still kept.
    pub fn find(&self, position: u32) -> Option<&Packet> {
        self.packets.get(position.wrapping_sub(self.first) as usize).map(|(_, packet)| packet)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn packet(seq_no: u64, position: u32) -> Packet {
        let mut packet = Packet { payload: [0; 10].into(), position, ..Packet::sample(Instant::now()) };
        packet.incoming.seq_no = seq_no;
        packet
    }

    #[test]
    fn packets_are_found_until_they_are_too_old_or_too_many() {
        let start = Instant::now();
        // Positions wrap in this loop.
        let base = u32::MAX - 1_000;
        let mut history = History { first: base, next: base, ..History::default() };
        let find = |history: &History, position| history.find(position).map(|packet| packet.incoming.seq_no);
        for number in 0..3_000 {
            let position = history.take_position();
            assert_eq!(find(&history, position), None, "not yet");
            history.push(start, packet(100 + number, position));
            assert_eq!(find(&history, position), Some(100 + number));
        }
        let oldest = 3_000 - PACKETS as u32;
        let at = |number: u32| base.wrapping_add(number);
        assert_eq!(find(&history, at(oldest - 1)), None);
        assert_eq!(find(&history, at(oldest)), Some(100 + u64::from(oldest)));
        let position = history.take_position();
        history.push(start + AGE + Duration::from_millis(1), packet(1, position));
        assert_eq!((find(&history, position - 1), find(&history, position)), (None, Some(1)));
        history.push(start, packet(2, position + 5));
        assert_eq!(find(&history, position + 5), None, "a position of another history");
        history.expire(start + 3 * AGE);
        assert_eq!((find(&history, position), history.bytes), (None, 0));
    }

    #[test]
    fn the_memory_of_a_history_is_within_its_bound() {
        // Bytes and packets per second of one track.
        for (bytes, packets) in [(1_250_000, 2_000), (1_250_000, 1_000), (150_000, 150), (20_000, 1_900)] {
            let start = Instant::now();
            let mut history = History::default();
            let payload: Arc<[u8]> = vec![0; bytes / packets].into();
            let mut most = 0;
            for number in 0..4 * packets {
                let position = history.take_position();
                let now = start + Duration::from_secs(1) * number as u32 / packets as u32;
                history.push(now, Packet { payload: payload.clone(), ..packet(number as u64, position) });
                let shared = history.packets.len() * 2 * size_of::<usize>();
                most = most.max(history.bytes + shared + history.packets.capacity() * size_of::<(Instant, Packet)>());
            }
            let bound = History::max_bytes(1, bytes, packets);
            assert!(most <= bound && bound < 3 * most, "{most} bytes of {packets} packets, bound {bound}");
        }
    }
}
