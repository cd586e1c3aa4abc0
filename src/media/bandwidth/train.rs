//! One train of probe packets, and what its arrival times show about the path.

use std::time::Instant;

use crate::media::bandwidth::history::Acknowledged;
use crate::media::bandwidth::regression::Regression;

/// The first 1/`EARLY_PART` of the skipped bytes is measured separately. It meets a queue only on a path that lets no
/// burst pass.
const EARLY_PART: u32 = 2;

/// Minimum number of packets in a train, and minimum fraction of its bytes that must arrive: a regression needs several
/// points.
pub(super) const PACKETS: u32 = 5;
const ARRIVED: f64 = 0.6;

/// A train that arrives at less than this fraction of its rate met a queue: its arrival rate is the capacity.
const SATURATED: f64 = 0.9;

/// A train met a queue as well if its packets are delayed by this much more than its first one, in milliseconds; media
/// in the train may have left slower than the capacity. A lower value mistakes jitter for a queue.
const QUEUED_MS: f64 = 40.0;

/// Lost fraction of a train up to which loss is attributed to chance and the train counts as carried. More was dropped
/// by a queue.
const CHANCE_LOSS: f64 = 0.2;

/// Fraction of a capacity measured by a train that becomes the estimate.
const CAPACITY_SHARE: f64 = 0.95;

/// A train that arrives at more than this multiple of the rate at which it left measures nothing; at more than this
/// multiple of its own rate, it was a burst.
const FASTER: f64 = 2.0;

/// A train to send now: the next packets, padding and media alike, paced at `bitrate_bps`, each pushed with `cluster`,
/// until both `bytes` and `packets` are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Number of the train: 1 to 255.
    pub cluster: u8,
    /// Pacing rate of its packets.
    pub bitrate_bps: u64,
    /// Minimum total size of its packets.
    pub bytes: usize,
    /// Minimum number of its packets.
    pub packets: u32,
}

/// State of one train.
#[derive(Clone, Copy, Debug)]
pub(super) struct Train {
    /// When the train is evaluated at the latest, not counting the round trip.
    pub ends: Instant,
    pub probe: Probe,
    /// The wanted bitrate when it was sent.
    pub wanted_bps: f64,
    /// Whether its rate may exceed the last known limit.
    pub may_exceed_limit: bool,
    /// Arrived bytes that are skipped before the measurement.
    skipped: u32,
    /// Bytes that may have passed as a burst.
    burst: u32,
    /// Whether those bytes are deducted from what a train without a queue has shown: the path may be narrower than the
    /// train by as much as the burst.
    pub discounts_burst: bool,
    arrived: u32,
    lost: u32,
    bytes_arrived: u32,
    bytes_lost: u32,
    sent: Regression,
    received: Regression,
    /// Sending and arrival times of the first and of the last packet, and the bytes after the first.
    first: Option<(u32, u32)>,
    last: (u32, u32),
    bytes_after: u32,
    /// Sum of the squared differences between arrival and sending times of the measured packets.
    delay_squares: f64,
    /// Regressions of the first part of the skipped bytes.
    early_sent: Regression,
    early_received: Regression,
}

impl Train {
    /// Creates the state of a train that is about to be sent. `ends` is when it is evaluated at the latest, not
    /// counting the round trip; `skipped` and `burst` are bytes.
    pub fn new(probe: Probe, ends: Instant, wanted_bps: f64, may_exceed_limit: bool, skipped: u32, burst: u32) -> Self {
        Self {
            ends,
            probe,
            wanted_bps,
            may_exceed_limit,
            skipped,
            burst,
            discounts_burst: false,
            arrived: 0,
            lost: 0,
            bytes_arrived: 0,
            bytes_lost: 0,
            sent: Regression::default(),
            received: Regression::default(),
            first: None,
            last: (0, 0),
            bytes_after: 0,
            delay_squares: 0.0,
            early_sent: Regression::default(),
            early_received: Regression::default(),
        }
    }

    /// Counts a packet of the train.
    pub fn push(&mut self, packet: &Acknowledged) {
        let bytes = u32::from(packet.bytes);
        if packet.was_lost {
            self.lost = self.lost.saturating_sub(1);
            self.bytes_lost = self.bytes_lost.saturating_sub(bytes);
        }
        match packet.received {
            None => {
                self.lost += 1;
                self.bytes_lost += bytes;
            }
            Some(received) => {
                if self.bytes_arrived < self.skipped / EARLY_PART {
                    self.early_sent.push(self.bytes_arrived, packet.sent);
                    self.early_received.push(self.bytes_arrived, received);
                }
                if self.bytes_arrived >= self.skipped {
                    self.sent.push(self.bytes_arrived, packet.sent);
                    self.received.push(self.bytes_arrived, received);
                    self.delay_squares += (self.received.last - self.sent.last).powi(2);
                }
                self.bytes_after += if self.first.is_some() { bytes } else { 0 };
                self.first.get_or_insert((packet.sent, received));
                self.last = (packet.sent, received);
                self.arrived += 1;
                self.bytes_arrived += bytes;
            }
        }
    }

    /// Returns true if all of its packets have arrived or are lost.
    pub fn is_complete(&self) -> bool {
        let Probe { bytes, packets, .. } = self.probe;
        (self.bytes_arrived + self.bytes_lost) as usize >= bytes && self.arrived + self.lost >= packets
    }

    /// Returns true if the first packets met a queue already, so no burst passes.
    pub fn meets_queue_early(&self) -> bool {
        let rates = self.early_sent.rate_bps().zip(self.early_received.rate_bps());
        rates.is_some_and(|(sent, received)| received < SATURATED * sent)
    }

    /// Returns the bitrate of the whole train without the possible burst, in bits per second: the lower of its sending
    /// rate and its arrival rate.
    fn whole_bps(&self) -> f64 {
        let Some((sent, received)) = self.first else { return 0.0 };
        let lasted = self.last.0.wrapping_sub(sent).max(self.last.1.wrapping_sub(received)) as i32;
        let bytes = self.bytes_after.saturating_sub(self.burst);
        if lasted > 0 { 8e6 * f64::from(bytes) / f64::from(lasted) } else { 0.0 }
    }

    /// Returns by how many milliseconds the measured packets were delayed more than the first one.
    fn queue_ms(&self) -> f64 {
        let Some((sent, received)) = self.first else { return 0.0 };
        let later = |of: &Regression, first: u32| f64::from(of.start.wrapping_sub(first) as i32) + of.times / of.count;
        (later(&self.received, received) - later(&self.sent, sent)) / 1e3
    }

    /// Returns the relative uncertainty of the arrival rate due to jitter.
    pub fn noise(&self) -> f64 {
        let Regression { count, bytes, times, squares, products, .. } = self.received;
        let (delays, delay_products) = (times - self.sent.times, products - self.sent.products);
        let spread = squares - bytes * bytes / count;
        let slope = (products - bytes * times / count) / spread;
        let delay_slope = (delay_products - bytes * delays / count) / spread;
        let residual = self.delay_squares - delays * delays / count - delay_slope * delay_slope * spread;
        (residual.max(0.0) / (count - 2.0).max(1.0) / spread).sqrt() / slope
    }

    /// Returns the bitrate that the path carried, in bits per second, and whether that is its limit; `None` if too
    /// little arrived.
    pub fn measure(&self) -> Option<(f64, bool)> {
        let share = f64::from(self.bytes_arrived) / self.probe.bytes as f64;
        let (left, received) = (self.sent.rate_bps()?, self.received.rate_bps()?);
        if self.arrived + 1 < PACKETS || share < ARRIVED || received > FASTER * left {
            return None;
        }
        let sent = left.min(self.probe.bitrate_bps as f64);
        let lost = f64::from(self.bytes_lost) / f64::from(self.bytes_lost + self.bytes_arrived);
        let is_limit = received < SATURATED * sent || self.queue_ms() > QUEUED_MS;
        // Media in the train leaves at its own rate. If it left first, the measured part was slow; if it left last, the
        // measured part was a burst. Then use the whole train.
        let is_burst = received > FASTER * sent;
        let carried =
            if is_burst || self.discounts_burst { self.whole_bps() } else { received.min(sent).max(self.whole_bps()) };
        let found = if is_limit {
            CAPACITY_SHARE * received
        } else if lost <= CHANCE_LOSS {
            carried / (1.0 - lost)
        } else {
            received.min(sent)
        };
        Some((found.min(self.probe.bitrate_bps as f64), is_limit || lost > CHANCE_LOSS))
    }
}
