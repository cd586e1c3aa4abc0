//! The network between one browser and the server: a seeded path for each direction.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::fault::{Fault, Fired};

/// Arrival times are rounded up to a multiple of this, so that packets share a receive batch as they do under load.
const BATCH: Duration = Duration::from_micros(500);

/// Delay of a datagram that is reordered.
const HELD_BACK: Duration = Duration::from_millis(15);

/// Delay of a lost TCP segment: about the minimum retransmission timeout of Linux.
const TCP_RETRANSMIT: Duration = Duration::from_millis(200);

/// Size that is assumed for DTLS datagrams, because their real length varies by a few bytes with the signatures.
const DTLS_BYTES: usize = 600;

/// A longer delay counts as the fault `Delayed`.
const LONG: Duration = Duration::from_millis(100);

/// Bytes of the IPv4 and UDP headers, which a bottleneck carries too.
const IP_UDP_BYTES: usize = 28;

/// The properties of one direction of a path.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Delay of every datagram and segment.
    pub latency: Duration,
    /// Additional delay, uniform from zero; does not reorder.
    pub jitter: Duration,
    /// Probability that a datagram is lost.
    pub loss: f64,
    /// Probability that a datagram arrives twice.
    pub duplicate: f64,
    /// Probability that a datagram is overtaken by later ones.
    pub reorder: f64,
    /// Capacity for datagrams in bits per second, headers included; unlimited if `None`. TCP is not limited.
    pub capacity: Option<u64>,
    /// Longest time that a datagram may wait at that capacity; it is dropped if it would have to wait longer.
    pub queue: Duration,
    /// Bytes that pass without delay after a pause, as through a token bucket.
    pub burst: usize,
}

impl Path {
    /// A good connection: 20 ms and no loss.
    pub const GOOD: Path = Path {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(2),
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        capacity: None,
        queue: Duration::from_millis(200),
        burst: 0,
    };

    /// The same path with `loss` of the datagrams lost.
    pub fn with_loss(self, loss: f64) -> Path {
        Path { loss, ..self }
    }

    /// The same path with duplicated and reordered datagrams.
    pub fn with_disorder(self, probability: f64) -> Path {
        Path { duplicate: probability, reorder: probability, ..self }
    }

    /// The same path with a capacity in bits per second.
    pub fn with_capacity(self, capacity: u64) -> Path {
        Path { capacity: Some(capacity), ..self }
    }
}

/// One direction of one browser's path.
pub struct Link {
    /// Can be changed at any time.
    pub path: Path,
    /// Additional delay of the RTP packets of some SSRCs, as if on another route.
    pub detours: BTreeMap<u32, Duration>,
    /// Lost RTP packets, including retransmissions.
    pub lost_rtp: u64,
    pub bottleneck: Bottleneck,
    /// Drops all datagrams.
    pub is_partitioned: bool,
    /// Datagrams sent before this time arrive together at this time.
    pub held_until: Option<Instant>,
    /// The faults that occurred on this link.
    pub fired: Fired,
    rng: StdRng,
    last_datagram: Option<Instant>,
    last_segment: Option<Instant>,
}

impl Link {
    pub fn new(path: Path, seed: u64) -> Self {
        Self {
            path,
            detours: BTreeMap::new(),
            lost_rtp: 0,
            bottleneck: Bottleneck::default(),
            is_partitioned: false,
            held_until: None,
            fired: Fired::default(),
            rng: StdRng::seed_from_u64(seed),
            last_datagram: None,
            last_segment: None,
        }
    }

    /// Returns when a datagram sent now arrives: never, once or twice.
    pub fn carry_datagram(&mut self, now: Instant, contents: &[u8]) -> [Option<Instant>; 2] {
        if self.is_partitioned {
            self.lost_rtp += u64::from(rtp_header(contents).is_some());
            self.fired.count(Fault::Partitioned);
            return [None, None];
        }
        // Every datagram takes the same number of random draws, so that one decision does not shift the later ones.
        let lost = self.rng.random_bool(self.path.loss);
        let twice = self.rng.random_bool(self.path.duplicate);
        let held_back = self.rng.random_bool(self.path.reorder);
        let delay = self.path.latency + self.path.jitter.mul_f64(self.rng.random_range(0.0..1.0));
        let ssrc = rtp_header(contents).map(|(ssrc, _)| ssrc);
        // Random loss happens behind the bottleneck, so a lost datagram has used its capacity.
        let bytes = if is_dtls(contents) { DTLS_BYTES } else { contents.len() };
        let left_at = self.bottleneck.pass(now, &self.path, ssrc, bytes);
        let Some(left_at) = left_at.filter(|_| !lost) else {
            self.lost_rtp += u64::from(ssrc.is_some());
            self.fired.count(if lost { Fault::Lost } else { Fault::Clogged });
            return [None, None];
        };
        let detour = ssrc.and_then(|ssrc| self.detours.get(&ssrc)).copied();
        let mut at = left_at + delay + detour.unwrap_or_default();
        at = self.held_until.filter(|until| now < *until).map_or(at, |until| at.max(until));
        if twice {
            self.fired.count(Fault::Duplicated);
        }
        if held_back {
            self.fired.count(Fault::Reordered);
            at += HELD_BACK;
        } else if detour.is_none() {
            at = at.max(self.last_datagram.unwrap_or(at));
            self.last_datagram = Some(at);
        }
        [Some(at), twice.then_some(at + BATCH)]
    }

    /// Returns when bytes written now to a TCP connection arrive: always, and in order.
    pub fn carry_segment(&mut self, now: Instant) -> Instant {
        let lost = self.rng.random_bool(self.path.loss);
        let delay = self.path.latency + if lost { TCP_RETRANSMIT } else { Duration::ZERO };
        if delay > LONG {
            self.fired.count(Fault::Delayed);
        }
        let at = (now + delay).max(self.last_segment.unwrap_or(now));
        self.last_segment = Some(at);
        at
    }
}

/// The narrowest part of a path: a FIFO queue of limited length.
#[derive(Default)]
pub struct Bottleneck {
    /// Datagrams that passed, in order; recorded only while there is a capacity.
    pub passages: Vec<Passage>,
    /// Datagrams that found the queue full.
    pub dropped: u64,
    /// All datagrams that arrived at the bottleneck, with their size in bits; recorded only while there is a capacity.
    pub offered: Vec<(Instant, u64)>,
    idle_at: Option<Instant>,
}

/// A datagram that passed the bottleneck.
pub struct Passage {
    /// When its last bit left.
    pub left_at: Instant,
    /// How long its first bit waited.
    pub waited: Duration,
    /// Size, headers included.
    pub bits: u64,
    /// `None` if it is not RTP.
    pub ssrc: Option<u32>,
}

impl Bottleneck {
    /// Returns when a datagram that arrives now has left; `None` if it is dropped. A change of capacity does not affect
    /// datagrams that already wait.
    fn pass(&mut self, now: Instant, path: &Path, ssrc: Option<u32>, bytes: usize) -> Option<Instant> {
        let Some(capacity) = path.capacity else {
            self.idle_at = None;
            return Some(now);
        };
        let bits = (bytes + IP_UDP_BYTES) as u64 * 8;
        self.offered.push((now, bits));
        // The bucket fills from `begin` on, and is full if that was long enough ago.
        let full = Duration::from_nanos(path.burst as u64 * 8_000_000_000 / capacity);
        let earliest = now.checked_sub(full).unwrap_or(now);
        let begin = self.idle_at.map_or(earliest, |idle| idle.max(earliest));
        let waited = begin.saturating_duration_since(now);
        if waited > path.queue {
            self.dropped += 1;
            return None;
        }
        let idle_at = begin + Duration::from_nanos(bits * 1_000_000_000 / capacity);
        self.idle_at = Some(idle_at);
        let left_at = idle_at.max(now);
        self.passages.push(Passage { left_at, waited, bits, ssrc });
        Some(left_at)
    }

    /// The 95th percentile of the queueing delay of the datagrams that left in that time.
    pub fn waited_p95(&self, when: Range<Instant>) -> Duration {
        self.waited_p95_of(when, |_| true)
    }

    /// The same for the datagrams whose SSRC `is_of` accepts.
    pub fn waited_p95_of(&self, when: Range<Instant>, is_of: impl Fn(Option<u32>) -> bool) -> Duration {
        let passages = self.during(when).filter(|passage| is_of(passage.ssrc));
        let mut waited: Vec<_> = passages.map(|passage| passage.waited).collect();
        waited.sort_unstable();
        waited[(waited.len() * 95).div_ceil(100) - 1]
    }

    /// Bits per second that passed, headers included.
    pub fn goodput_bps(&self, when: Range<Instant>) -> u64 {
        let micros = (when.end - when.start).as_micros() as u64;
        self.during(when).map(|passage| passage.bits).sum::<u64>() * 1_000_000 / micros
    }

    /// Bits per second that arrived, headers included.
    pub fn offered_bps(&self, when: Range<Instant>) -> u64 {
        let micros = (when.end - when.start).as_micros() as u64;
        let offered = self.offered.iter().filter(|(at, _)| when.contains(at));
        offered.map(|(_, bits)| bits).sum::<u64>() * 1_000_000 / micros
    }

    fn during(&self, when: Range<Instant>) -> impl Iterator<Item = &Passage> {
        self.passages.iter().filter(move |passage| when.contains(&passage.left_at))
    }
}

/// The end of the batch, counted from `start`, in which `at` lies.
pub fn batch_at(start: Instant, at: Instant) -> Instant {
    let batches = (at - start).as_nanos().div_ceil(BATCH.as_nanos());
    start + BATCH * u32::try_from(batches).expect("a simulation lasts less than 24 days")
}

/// SSRC and sequence number if the datagram is RTP (RFC 5761 section 4, RFC 7983 section 7); SRTP does not encrypt
/// them.
pub fn rtp_header(contents: &[u8]) -> Option<(u32, u16)> {
    let is_rtp = contents.len() >= 12 && (128..192).contains(&contents[0]) && !(192..224).contains(&contents[1]);
    is_rtp.then(|| {
        let seq_no = u16::from_be_bytes([contents[2], contents[3]]);
        let ssrc = u32::from_be_bytes([contents[8], contents[9], contents[10], contents[11]]);
        (ssrc, seq_no)
    })
}

/// Whether the datagram is DTLS (RFC 7983 section 7).
pub fn is_dtls(contents: &[u8]) -> bool {
    contents.first().is_some_and(|first| (20..64).contains(first))
}
