//! Test harness for the estimator: a call over one link with a source of frames, a bottleneck with a queue, and a
//! receiver that sends feedback. Seeded, in steps of one millisecond.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::media::bandwidth::estimator::Estimator;
use crate::media::bandwidth::pacer::Pacer;
use crate::media::bandwidth::train::Probe;

const PACKET: usize = 1_200;
const FRAME_MS: u32 = 33;

/// Properties of the path, one way.
#[derive(Clone, Copy)]
pub struct Link {
    pub capacity_bps: f64,
    /// Capacity of the queue; packets beyond it are dropped.
    pub queue_ms: u32,
    pub delay_ms: u32,
    /// Largest deviation of a packet's delay, in either direction.
    pub jitter_ms: u32,
    pub loss: f64,
    /// Size in bytes of a token bucket: a burst of this size passes undelayed after a pause.
    pub bucket: usize,
}

/// The link and the state of its queue.
pub struct Path {
    link: Link,
    pub loss: f64,
    /// When the queue will be empty, in microseconds.
    free: f64,
    random: fastrand::Rng,
}

/// A simulated call.
pub struct Call {
    pub estimator: Estimator,
    pub path: Path,
    /// Bitrate that the estimator probes for.
    pub demand_bps: f64,
    /// Upper bound of the bitrate of the media, apart from the estimate and the demand.
    pub media_bps: f64,
    start: Instant,
    now_ms: u32,
    pacer: Pacer,
    /// Bytes of media waiting for the pacer, and the part of a frame that does not fill a packet.
    queue: VecDeque<usize>,
    left: f64,
    probe: Option<(Probe, u32, usize, u32)>,
    /// Packets sent so far, and arrival times in microseconds by extended sequence number.
    sent: u64,
    arrivals: BTreeMap<u64, u64>,
    /// Time of the last report, in microseconds.
    reported: u64,
    /// First sequence number that no report covered.
    next_reported: u64,
    /// Offset of the receiver's clock, in microseconds.
    ahead: i64,
    feedback_at: u32,
    messages: u8,
    feedback: VecDeque<(u32, Vec<u8>)>,
    estimates: Vec<f64>,
    queued: Vec<u32>,
}

impl Path {
    pub fn set_delay(&mut self, delay_ms: u32) {
        self.link.delay_ms = delay_ms;
    }

    /// Sends a packet. Returns its queueing delay and its arrival time, in microseconds; the arrival is `None` if it is
    /// lost.
    fn send(&mut self, micros: f64, bytes: usize) -> (f64, Option<u64>) {
        // The bucket is full once the link has been idle for this long.
        let bucket = self.link.bucket as f64 * 8e6 / self.link.capacity_bps;
        self.free = self.free.max(micros - bucket);
        let queued = (self.free - micros).max(0.0);
        if queued > f64::from(self.link.queue_ms) * 1e3 {
            return (queued, None);
        }
        self.free += bytes as f64 * 8e6 / self.link.capacity_bps;
        let jitter = (2.0 * self.random.f64() - 1.0) * f64::from(self.link.jitter_ms);
        let arrival = self.free.max(micros) + 1e3 * (f64::from(self.link.delay_ms) + jitter);
        (queued, (self.random.f64() >= self.loss).then_some(arrival as u64))
    }
}

impl Call {
    pub fn new(start: Instant, link: Link, start_bps: u64, seed: u64) -> Self {
        Self {
            estimator: Estimator::new(start, start_bps),
            path: Path { link, loss: link.loss, free: 0.0, random: fastrand::Rng::with_seed(seed) },
            demand_bps: 20e6,
            media_bps: f64::INFINITY,
            start,
            now_ms: 0,
            pacer: Pacer::new(start, start_bps),
            queue: VecDeque::new(),
            left: 0.0,
            probe: None,
            sent: 0,
            arrivals: BTreeMap::new(),
            reported: 0,
            next_reported: 0,
            ahead: 0,
            feedback_at: 50,
            messages: 0,
            feedback: VecDeque::new(),
            estimates: Vec::new(),
            queued: Vec::new(),
        }
    }

    pub fn run(&mut self, ms: u32) {
        for _ in 0..ms {
            self.now_ms += 1;
            self.step(self.start + Duration::from_millis(self.now_ms.into()));
        }
    }

    /// Changes the capacity; packets already queued leave at the new one.
    pub fn set_capacity(&mut self, capacity_bps: f64) {
        let now = f64::from(self.now_ms) * 1e3;
        let queued = (self.path.free - now).max(0.0);
        self.path.free = now + queued * self.path.link.capacity_bps / capacity_bps;
        self.path.link.capacity_bps = capacity_bps;
    }

    /// Stops the queue for `ms` milliseconds.
    pub fn stall(&mut self, ms: u32) {
        self.path.free = self.path.free.max(f64::from(self.now_ms) * 1e3) + f64::from(ms) * 1e3;
    }

    /// Sets the offset of the receiver's clock.
    pub fn set_ahead(&mut self, secs: i64) {
        self.ahead = 1_000_000 * secs;
    }

    /// Returns the sequence number of the next packet.
    pub fn next_number(&self) -> u16 {
        self.sent as u16
    }

    /// Delivers a feedback message that is not one of the simulated reports.
    pub fn feed_back(&mut self, body: &[u8]) {
        self.estimator.handle_feedback(self.start + Duration::from_millis(self.now_ms.into()), body);
    }

    /// Runs until the estimate reaches `bps`, for at most `most_ms`. Returns how many milliseconds it took.
    pub fn reaches(&mut self, bps: f64, most_ms: u32) -> Option<u32> {
        (1..=most_ms).find(|_| {
            self.run(1);
            self.estimator.estimate_bps() as f64 >= bps
        })
    }

    /// Discards the measurements.
    pub fn reset(&mut self) {
        self.estimates.clear();
        self.queued.clear();
    }

    /// Returns the mean of all estimates.
    pub fn mean_estimate(&self) -> f64 {
        self.estimates.iter().sum::<f64>() / self.estimates.len() as f64
    }

    /// Returns a quantile of the queueing delay of media packets.
    pub fn queued_ms(&self, quantile: f64) -> u32 {
        let mut queued = self.queued.clone();
        queued.sort_unstable();
        queued.push(0);
        queued[(quantile * (queued.len() - 1) as f64) as usize] / 1_000
    }

    fn step(&mut self, now: Instant) {
        while let Some((_, body)) = self.feedback.pop_front_if(|(at, _)| *at <= self.now_ms) {
            self.estimator.handle_feedback(now, &body);
        }
        if self.now_ms.is_multiple_of(250) {
            self.estimator.handle_timeout(now);
        }
        self.estimator.set_wanted(self.demand_bps as u64);
        let estimate = self.estimator.estimate_bps();
        self.estimates.push(estimate as f64);
        self.pacer.set_estimate(now, estimate, self.estimator.is_measured());
        if self.now_ms.is_multiple_of(FRAME_MS) {
            let rate = (estimate as f64).min(self.demand_bps).min(self.media_bps);
            // Frames differ in size, and one in 300 is a keyframe.
            let size = 0.7 + 0.6 * self.path.random.f64();
            let times = if self.now_ms.is_multiple_of(300 * FRAME_MS) { 4.0 } else { size };
            self.left += times * rate / 8.0 * f64::from(FRAME_MS) / 1e3;
            while self.left > 0.0 {
                self.queue.push_back(PACKET);
                self.left -= PACKET as f64;
            }
        }
        if let Some(probe) = self.estimator.poll_probe(now) {
            self.probe = Some((probe, self.now_ms, 0, 0));
        }
        while let Some(&bytes) = self.queue.front()
            && self.pacer.take(now, bytes)
        {
            self.queue.pop_front();
            self.send(now, bytes, true);
        }
        while let Some((probe, began, sent, _)) = self.probe
            && sent as f64 <= probe.bitrate_bps as f64 / 8e3 * f64::from(self.now_ms - began)
        {
            self.send(now, (probe.bytes / 5).min(PACKET), false);
        }
        if self.now_ms >= self.feedback_at {
            self.report();
            self.feedback_at = self.now_ms + 50 + (50.0 * self.path.random.f64()) as u32;
        }
    }

    fn send(&mut self, now: Instant, bytes: usize, is_media: bool) {
        let cluster = self.probe.map_or(0, |(probe, ..)| probe.cluster);
        if let Some((probe, _, sent, packets)) = &mut self.probe {
            *sent += bytes;
            *packets += 1;
            if *sent >= probe.bytes && *packets >= probe.packets {
                self.probe = None;
            }
        }
        let number = self.estimator.push(now, bytes, cluster);
        assert_eq!(number, self.sent as u16);
        let (queued, arrival) = self.path.send(f64::from(self.now_ms) * 1e3, bytes);
        if is_media {
            self.queued.push(queued as u32);
        }
        self.arrivals.extend(arrival.map(|arrival| (self.sent, arrival)));
        self.sent += 1;
    }

    /// Sends a report on the packets that arrived since the last one; packets in between that were already reported are
    /// repeated. Reports are lost as often as packets.
    fn report(&mut self) {
        let now = u64::from(self.now_ms) * 1_000;
        let arrived: Vec<_> = self.arrivals.iter().filter(|(_, at)| (self.reported..now).contains(*at)).collect();
        let (Some(&(&first, _)), Some(&(&last, _))) = (arrived.first(), arrived.last()) else { return };
        let first = first.min(self.next_reported);
        self.next_reported = self.next_reported.max(last + 1);
        let count = last - first + 1;
        let by_receiver = |at: u64| at as i64 + self.ahead;
        let reference = arrived.iter().map(|(_, at)| by_receiver(**at)).min().unwrap_or(0).div_euclid(64_000);
        let mut body = vec![];
        body.extend((first as u16).to_be_bytes());
        body.extend((count as u16).to_be_bytes());
        body.extend(&(reference as i32).to_be_bytes()[1..]);
        body.push(self.messages);
        self.messages = self.messages.wrapping_add(1);
        let arrival = |number: u64| self.arrivals.get(&number).copied().filter(|at| *at < now);
        let numbers: Vec<_> = (first..=last).collect();
        for chunk in numbers.chunks(7) {
            let symbols = |bits, (at, number): (usize, &u64)| {
                bits | if arrival(*number).is_some() { 2 << (12 - 2 * at) } else { 0 }
            };
            body.extend(chunk.iter().enumerate().fold(0xc000_u16, symbols).to_be_bytes());
        }
        let mut time = reference * 256;
        for at in numbers.iter().filter_map(|number| arrival(*number)) {
            let at = by_receiver(at).div_euclid(250);
            body.extend((at - time).clamp(-32_768, 32_767).to_be_bytes()[6..].iter());
            time = at;
        }
        self.reported = now;
        self.arrivals = self.arrivals.split_off(&last.saturating_sub(500));
        if self.path.random.f64() >= self.path.loss {
            self.feedback.push_back((self.now_ms + self.path.link.delay_ms, body));
        }
    }
}
