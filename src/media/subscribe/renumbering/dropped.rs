//! The packets of a source that were dropped on purpose, so that late packets get the numbers reserved for them.

use std::collections::VecDeque;

/// Number of remembered runs of dropped packets, to number late packets: some seconds if every second picture is
/// dropped. A packet older than all of them is not forwarded.
pub(super) const RUNS: usize = 64;

/// The dropped packets since the source started.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// In order of their sequence numbers.
    runs: VecDeque<Run>,
    /// The sequence number from which on `runs` is complete.
    known_from: u64,
}

/// A run of dropped packets with consecutive sequence numbers.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    end: u64,
    /// Number of packets and pictures dropped from the start of the source up to the end of this run.
    packets: u64,
    pictures: u16,
    /// Timestamps of the run's first and last picture, each only if the whole picture is dropped.
    first_timestamp: Option<u32>,
    last_timestamp: Option<u32>,
}

/// The dropped packets and pictures around a late packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// Number of packets and pictures dropped before it.
    pub packets: u64,
    pub pictures: u16,
    /// Timestamps of the dropped pictures next to it.
    timestamps: [Option<u32>; 2],
}

impl Dropped {
    /// Upper bound of the heap memory in bytes.
    pub const MAX_BYTES: usize = 2 * RUNS * size_of::<Run>();

    /// Forgets all packets, for another source.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.known_from = 0;
    }

    /// Returns the number of packets and pictures dropped since the source started.
    #[inline]
    pub fn totals(&self) -> (u64, u16) {
        self.runs.back().map_or((0, 0), |run| (run.packets, run.pictures))
    }

    /// Records a dropped packet with a higher sequence number than all before. `timestamp` is that of its picture if
    /// the whole picture is dropped.
    #[inline]
    pub fn push(&mut self, seq_no: u64, timestamp: Option<u32>, is_new_picture: bool) {
        let (packets, pictures) = self.totals();
        let (packets, pictures) = (packets + 1, pictures.wrapping_add(u16::from(is_new_picture)));
        if let Some(run) = self.runs.back_mut().filter(|run| run.end == seq_no) {
            run.end = seq_no + 1;
            run.packets = packets;
            run.pictures = pictures;
            run.last_timestamp = timestamp;
            return;
        }
        let (first_timestamp, last_timestamp) = (timestamp, timestamp);
        self.runs.push_back(Run { first: seq_no, end: seq_no + 1, packets, pictures, first_timestamp, last_timestamp });
        if self.runs.len() > RUNS && self.runs.pop_front().is_some() {
            // Packets older than all remembered runs would be numbered as if nothing before them had been dropped.
            self.known_from = self.runs[0].first;
        }
    }

    /// Returns the dropped packets and pictures around a late packet, or `None` if the packet itself was dropped or is
    /// too old.
    pub fn around(&self, seq_no: u64) -> Option<Around> {
        if seq_no < self.known_from {
            return None;
        }
        let next = self.runs.partition_point(|run| run.first <= seq_no);
        let before = next.checked_sub(1).and_then(|index| self.runs.get(index));
        if before.is_some_and(|run| seq_no < run.end) {
            return None;
        }
        let (packets, pictures) = before.map_or((0, 0), |run| (run.packets, run.pictures));
        let after = self.runs.get(next).and_then(|run| run.first_timestamp);
        Some(Around { packets, pictures, timestamps: [before.and_then(|run| run.last_timestamp), after] })
    }
}

impl Around {
    /// Whether the picture with this timestamp is dropped.
    pub fn has_picture(&self, timestamp: u32) -> bool {
        self.timestamps.contains(&Some(timestamp))
    }
}
