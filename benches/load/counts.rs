//! What is counted while a load runs, and what it says in the end.

use std::time::{Duration, Instant};

use super::client::{AUDIO_PT, Client, VIDEO_PT};
use super::process::Used;
use super::socket::{Datagram, Socket, wall_nanos};

/// The first RTP timestamp of a bench.
const FIRST_TIMESTAMP: u32 = 1_000;

/// A load is held if that share arrives, and 99 of 100 within that time.
pub const HELD_DELIVERY: f64 = 0.999;
const HELD_P99_MS: f64 = 5.0;

/// What is counted.
#[derive(Default)]
pub struct Counts {
    /// Timestamps that belong to earlier runs.
    earlier: u32,
    /// When the packets of each timestamp since then left, in nanoseconds of the wall clock.
    sends: Vec<u64>,
    delays_us: Vec<u32>,
    lines: Vec<Instant>,
    lines_expected: u64,
    line_delays_us: Vec<u32>,
    overflowed: u64,
    /// Longest time after which something due was sent.
    pub late: Duration,
    /// Time of turns in which there was something to do.
    pub worked: Duration,
}

/// Time that a run took.
pub struct Spent {
    /// On the wall.
    pub elapsed: Duration,
    /// Of the server on its processor and in wait for it, where that can be seen.
    pub server: Option<Used>,
    /// The share of its core that the generator worked, and that others had while it could have.
    pub busy: f64,
    pub waited: f64,
}

/// What was found.
pub struct Measured {
    /// Packets that subscribers were to get, and those that they got.
    pub expected: u64,
    pub arrived: u64,
    /// The share of what it was to get that the worst served subscriber got.
    pub worst: f64,
    /// From the publisher's send to the arrival at the subscriber's socket.
    pub delays: Delays,
    /// The same of chat lines.
    pub lines_expected: u64,
    pub lines: Delays,
    /// Datagrams that the generator's own sockets lost: not the server's fault.
    pub overflowed: u64,
    /// Longest time after which something due was sent.
    pub late: Duration,
    pub spent: Spent,
}

/// Delays in microseconds, sorted.
#[derive(Default)]
pub struct Delays(Vec<u32>);

impl Counts {
    /// Forgets what earlier runs counted.
    pub fn begin(&mut self, sockets: &[Socket]) {
        let earlier = self.earlier + self.sends.len() as u32;
        *self = Self { earlier, overflowed: overflowed(sockets), ..Self::default() };
    }

    /// The timestamp of what is sent next.
    pub fn next_timestamp(&mut self) -> u32 {
        self.sends.push(0);
        FIRST_TIMESTAMP + self.earlier + self.sends.len() as u32 - 1
    }

    /// Its packets leave now.
    pub fn stamp(&mut self) {
        *self.sends.last_mut().expect("a timestamp was taken") = wall_nanos();
    }

    /// The text of a chat line that so many are to get.
    pub fn next_line(&mut self, receivers: u64) -> usize {
        self.lines.push(Instant::now());
        self.lines_expected += receivers;
        self.lines.len() - 1
    }

    /// Counts a chat line.
    pub fn on_chat(&mut self, line: &str) {
        if let Some(sent) = line.parse().ok().and_then(|line: usize| self.lines.get(line)) {
            self.line_delays_us.push(sent.elapsed().as_micros() as u32);
        }
    }

    /// Whether it is an RTP packet of audio or video; counts it.
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

    /// What was found.
    ///
    /// # Panics
    /// If a sampled subscriber could not decrypt all that it got.
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
                assert!(!sampled || due == 0 || client.arrived > 0, "a sampled subscriber got something");
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
    /// The share of everything, packets and chat lines, that arrived.
    pub fn delivery(&self) -> f64 {
        (self.arrived + self.lines.count()) as f64 / (self.expected + self.lines_expected) as f64
    }

    /// Whether everything but one in a thousand arrived, and 99 of 100 within 5 ms.
    pub fn is_held(&self) -> bool {
        self.delivery() >= HELD_DELIVERY && self.shown_delays().at(0.99) < HELD_P99_MS
    }

    /// Packets that arrived in a second.
    pub fn rate(&self) -> f64 {
        self.arrived as f64 / self.spent.elapsed.as_secs_f64()
    }

    /// The share of its core that the server used.
    pub fn core(&self) -> Option<f64> {
        Some(self.spent.server?.cpu.as_secs_f64() / self.spent.elapsed.as_secs_f64())
    }

    /// The share of the time in which something else ran on the server's core while the server had work.
    pub fn disturbed(&self) -> f64 {
        self.spent.server.map_or(0.0, |used| used.waited.as_secs_f64()) / self.spent.elapsed.as_secs_f64()
    }

    /// Microseconds of the server for each forwarded packet.
    pub fn us_per_packet(&self) -> Option<f64> {
        (self.arrived > 0).then_some(self.spent.server?.cpu.as_secs_f64() * 1e6 / self.arrived as f64)
    }

    /// The delays of packets, or of chat lines where there are no packets.
    pub fn shown_delays(&self) -> &Delays {
        if self.expected > 0 { &self.delays } else { &self.lines }
    }
}

impl Delays {
    fn new(delays_us: &mut Vec<u32>) -> Self {
        delays_us.sort_unstable();
        Self(std::mem::take(delays_us))
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The delay that so large a share is not above, in milliseconds.
    pub fn at(&self, share: f64) -> f64 {
        let index = (self.0.len().saturating_sub(1) as f64 * share) as usize;
        self.0.get(index).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
    }
}

fn overflowed(sockets: &[Socket]) -> u64 {
    sockets.iter().map(|socket| u64::from(socket.overflowed)).sum()
}
