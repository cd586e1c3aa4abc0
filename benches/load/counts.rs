//! Counters of a running load, and the results computed from them.

use std::time::{Duration, Instant};

use super::client::{AUDIO_PT, Client, VIDEO_PT};
use super::process::Used;
use super::socket::{Datagram, Socket, wall_nanos};

/// First RTP timestamp of the first run.
const FIRST_TIMESTAMP: u32 = 1_000;

/// A load is held if at least this share arrives and the 99th percentile of the delays is below this limit.
pub const HELD_DELIVERY: f64 = 0.999;
const HELD_P99_MS: f64 = 5.0;

/// The counters of a run.
#[derive(Default)]
pub struct Counts {
    /// Number of timestamps used by earlier runs.
    earlier: u32,
    /// Send time of each later timestamp's packets, in nanoseconds of the wall clock.
    sends: Vec<u64>,
    delays_us: Vec<u32>,
    lines: Vec<Instant>,
    lines_expected: u64,
    line_delays_us: Vec<u32>,
    overflowed: u64,
    /// Maximum delay between a task's due time and its start.
    pub late: Duration,
    /// Total duration of turns with work.
    pub worked: Duration,
}

/// Time and CPU time of a run.
pub struct Spent {
    /// Elapsed wall-clock time.
    pub elapsed: Duration,
    /// CPU usage of the server, if it runs on this machine.
    pub server: Option<Used>,
    /// Shares of the time in which the generator worked, and in which it waited for its core.
    pub busy: f64,
    pub waited: f64,
}

/// The results of a run.
pub struct Measured {
    /// Numbers of packets expected by and arrived at all subscribers.
    pub expected: u64,
    pub arrived: u64,
    /// Smallest share of its expected packets that a subscriber received.
    pub worst: f64,
    /// Delays from the publisher's send to the arrival at the subscriber's socket.
    pub delays: Delays,
    /// Expected number and delays of chat messages.
    pub lines_expected: u64,
    pub lines: Delays,
    /// Datagrams dropped at full receive buffers of the generator, which is not the server's fault.
    pub overflowed: u64,
    /// Maximum delay between a task's due time and its start.
    pub late: Duration,
    pub spent: Spent,
}

/// Delays in microseconds, sorted.
#[derive(Default)]
pub struct Delays(Vec<u32>);

impl Counts {
    /// Resets the counters for a new run.
    pub fn begin(&mut self, sockets: &[Socket]) {
        let earlier = self.earlier + self.sends.len() as u32;
        *self = Self { earlier, overflowed: overflowed(sockets), ..Self::default() };
    }

    /// Returns the next RTP timestamp.
    pub fn next_timestamp(&mut self) -> u32 {
        self.sends.push(0);
        FIRST_TIMESTAMP + self.earlier + self.sends.len() as u32 - 1
    }

    /// Records the current time as send time of the latest timestamp.
    pub fn stamp(&mut self) {
        *self.sends.last_mut().expect("next_timestamp was called") = wall_nanos();
    }

    /// Returns the number to send as the next chat message, to `receivers` participants.
    pub fn next_line(&mut self, receivers: u64) -> usize {
        self.lines.push(Instant::now());
        self.lines_expected += receivers;
        self.lines.len() - 1
    }

    /// Counts a received chat message.
    pub fn on_chat(&mut self, line: &str) {
        if let Some(sent) = line.parse().ok().and_then(|line: usize| self.lines.get(line)) {
            self.line_delays_us.push(sent.elapsed().as_micros() as u32);
        }
    }

    /// Returns true if a datagram is an RTP packet of audio or video, and counts it.
    pub fn is_media(&mut self, datagram: &Datagram<'_>, client: &mut Client) -> bool {
        let &[first, second, _, _, a, b, c, d, ..] = datagram.contents else { return false };
        let is_media = first >> 6 == 2 && matches!(second & 0x7f, VIDEO_PT | AUDIO_PT);
        let index = u32::from_be_bytes([a, b, c, d]).wrapping_sub(FIRST_TIMESTAMP + self.earlier);
        if is_media && let Some(sent) = self.sends.get(index as usize) {
            client.arrived += 1;
            self.delays_us.push((datagram.at.saturating_sub(*sent) / 1_000) as u32);
        }
        is_media
    }

    /// Computes the results.
    ///
    /// # Panics
    /// If a sampled subscriber received nothing or could not decrypt all its packets.
    pub fn finish(&mut self, clients: &[Client], rooms: &[Vec<usize>], sockets: &[Socket], spent: Spent) -> Measured {
        let (mut expected, mut arrived, mut worst) = (0, 0, 1.0_f64);
        for room in rooms {
            let sent: u64 = room.iter().map(|index| clients[*index].sent).sum();
            for client in room.iter().map(|index| &clients[*index]) {
                let due = sent - client.sent;
                expected += due;
                arrived += client.arrived;
                if due > 0 {
                    worst = worst.min(client.arrived as f64 / due as f64);
                }
                let sampled = client.role.sampled;
                assert!(!sampled || due == 0 || client.arrived > 0, "a sampled subscriber received packets");
                assert!(
                    !sampled || client.decrypted >= client.arrived,
                    "a sampled subscriber could decrypt {} of {} packets",
                    client.decrypted,
                    client.arrived
                );
            }
        }
        Measured {
            expected,
            arrived,
            worst,
            delays: Delays::new(&mut self.delays_us),
            lines_expected: self.lines_expected,
            lines: Delays::new(&mut self.line_delays_us),
            overflowed: overflowed(sockets) - self.overflowed,
            late: self.late,
            spent,
        }
    }
}

impl Measured {
    /// Returns the share of packets and chat messages that arrived.
    pub fn delivery(&self) -> f64 {
        (self.arrived + self.lines.count()) as f64 / (self.expected + self.lines_expected) as f64
    }

    /// Returns true if at least 99.9 % arrived and the 99th percentile of the delays is below 5 ms.
    pub fn is_held(&self) -> bool {
        self.delivery() >= HELD_DELIVERY && self.shown_delays().at(0.99) < HELD_P99_MS
    }

    /// Returns the number of packets that arrived per second.
    pub fn rate(&self) -> f64 {
        self.arrived as f64 / self.spent.elapsed.as_secs_f64()
    }

    /// Returns the share of its core that the server used.
    pub fn core(&self) -> Option<f64> {
        Some(self.spent.server?.cpu.as_secs_f64() / self.spent.elapsed.as_secs_f64())
    }

    /// Returns the share of the time in which other programs ran on the server's core while the server had work.
    pub fn disturbed(&self) -> f64 {
        self.spent.server.map_or(0.0, |used| used.waited.as_secs_f64()) / self.spent.elapsed.as_secs_f64()
    }

    /// Returns the server's CPU microseconds per forwarded packet.
    pub fn us_per_packet(&self) -> Option<f64> {
        (self.arrived > 0).then_some(self.spent.server?.cpu.as_secs_f64() * 1e6 / self.arrived as f64)
    }

    /// Returns the delays of packets, or of chat messages if no packets were expected.
    pub fn shown_delays(&self) -> &Delays {
        if self.expected > 0 { &self.delays } else { &self.lines }
    }
}

impl Delays {
    fn new(delays_us: &mut Vec<u32>) -> Self {
        delays_us.sort_unstable();
        Self(std::mem::take(delays_us))
    }

    /// Returns the number of delays.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Returns the quantile `share` (0 to 1) in milliseconds.
    pub fn at(&self, share: f64) -> f64 {
        let index = (self.0.len().saturating_sub(1) as f64 * share) as usize;
        self.0.get(index).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
    }
}

fn overflowed(sockets: &[Socket]) -> u64 {
    sockets.iter().map(|socket| u64::from(socket.overflowed)).sum()
}
