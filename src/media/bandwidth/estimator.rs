//! The bandwidth estimate for the path to one subscriber. It is lowered when the queue grows or loss is too high, and
//! raised by probes and slowly while neither happens (draft-ietf-rmcat-gcc-02).

use std::time::{Duration, Instant};

use crate::media::bandwidth::history::History;
use crate::media::bandwidth::loss::Loss;
use crate::media::bandwidth::meter::Meter;
use crate::media::bandwidth::outage::{Outage, Outages};
use crate::media::bandwidth::probe::{Probe, ProbeResult, Prober};
use crate::media::bandwidth::queue::Queue;
use crate::media::bandwidth::trend::{Trend, Usage};
use crate::media::rtp::transport_feedback::Feedback;

/// Bounds of the estimate in bits per second. A call does not work below the lower one; the upper one exceeds any path
/// that matters.
const BOUNDS: (f64, f64) = (50e3, 200e6);

/// Bounds of the factor applied to the arrival rate when the queue has grown; the rest of the capacity drains the
/// queue. A higher factor drains slower, a lower one wastes more each time. The lower bound applies to long queues and
/// to heavy loss, so that a short disturbance does not stop the video; a queue of `FULL_MS` is drained faster.
const LOWERED: f64 = 0.85;
const LEAST_LOWERED: f64 = 0.6;
const LEAST_LOWERED_FULL: f64 = 0.35;

/// Target time in seconds for draining a queue, within those bounds.
const DRAIN_SECS: f64 = 0.8;

/// Smallest fraction of the estimate that one reduction leaves: after half a second without arrivals the path still
/// carries something. A lower value mistakes a gap in the arrivals for a dead path, a higher one needs more reductions
/// to follow a drop of the capacity.
const LEAST_LEFT: f64 = 0.35;

/// Smallest fraction of the arrival rate that remains when more is sent than the estimate allows and the queue stands.
/// Keyframes and retransmissions are sent on top of the budget; only a lower budget makes room for them.
const LEAST_OF_CARRIED: f64 = 0.5;

/// A probe measured faster than this multiple of the limit invalidates the limit.
const REFUTES: f64 = 1.2;

/// The queue growth is a burst, not congestion, if some recent packet was delayed by less than `BURST_MS`, the arrival
/// rate exceeds `BURST_ARRIVED` of the sending rate, and less than `BELOW_LIMIT` of the known limit is used. Wider
/// bounds mistake a drop of the capacity for a burst, narrower ones lower the estimate for each keyframe.
const BURST_MS: f64 = 10.0;
const BURST_ARRIVED: f64 = 0.85;
const BELOW_LIMIT: f64 = 0.95;

/// A sending rate above this multiple of the estimate means that the sender does not follow the estimate.
const EXCEEDED: f64 = 1.1;

/// Growth of the estimate per second: with no known limit nearby, and near the arrival rate at which the queue last
/// grew.
const GROWTH: f64 = 0.08;
const GROWTH_NEAR_LIMIT: f64 = 0.04;

/// An estimate within this fraction of the last limit counts as near it.
const NEAR: f64 = 0.15;

/// Upper bound of the growing estimate as a multiple of the sending rate; above it nothing would confirm the estimate.
const BEYOND_SENT: f64 = 1.5;

/// Upper bound of the growing estimate as a multiple of the last limit or probe result: the error of a measurement.
/// Above that, it grows to at most `BEYOND_LIMIT` times the sending rate; only a probe raises it further.
const ABOVE_LIMIT: f64 = 1.05;
const BEYOND_LIMIT: f64 = 1.1;

/// Below this fraction of the estimate, the sending rate is limited by the media: the arrival rate does not show the
/// capacity.
const LIMITED: f64 = 0.7;

/// Delay beyond one round trip until the feedback reflects a lower rate: the feedback interval.
const FEEDBACK: Duration = Duration::from_millis(100);

/// Queueing delay in milliseconds above which a queue that all packets meet counts as standing. A lower value yields to
/// the bursts of other flows, a higher one is audible in a call.
const STANDING_MS: f64 = 50.0;

/// Queueing delay in milliseconds above which a standing queue counts as full: then the arrival rate is the capacity,
/// however little is sent. A lower value is reached by bursts of other flows, a higher one keeps the queue that a stall
/// left.
const FULL_MS: f64 = 500.0;

/// A standing queue must shrink to the fraction `SHRUNK` within `SHRINKS` after the rate was lowered. If it does not
/// after `ATTEMPTS` reductions, other flows cause it, and lowering the rate further would only yield to them.
const SHRINKS: Duration = Duration::from_secs(1);
const SHRUNK: f64 = 0.9;
const ATTEMPTS: u32 = 2;

/// Time without feedback, besides two round trips, after which the estimate is halved, as long as packets are sent.
/// Shorter mistakes a lost feedback message for an outage; longer floods a dead path.
const SILENCE: Duration = Duration::from_secs(1);

/// Upper bound of the round-trip time used there: a standing queue can raise it to seconds.
const SILENT_ROUND_TRIP: Duration = Duration::from_millis(300);

/// Lower bound of the estimate when it is halved for silence: audio and one small picture continue, and their arrival
/// shows that the path has recovered. A lower value leaves nothing to acknowledge, a higher one floods a dead path.
const SILENT_LEAST: f64 = 200e3;

/// If a silence begins this soon after another, only half of the estimate is restored: our own traffic may have caused
/// it.
const SILENCES_APART: Duration = Duration::from_secs(5);

/// Time allowed for the packets held back by an outage to arrive. Shorter mistakes them for a standing queue, longer
/// floods a path that is narrower than before.
const HELD: Duration = Duration::from_millis(500);

/// Time after an outage in which one reduction may go down to the arrival rate, however low that is.
const RESUMING: Duration = Duration::from_secs(5);

/// Largest plausible decrease of the one-way delay between two packets, in microseconds. A larger one means that the
/// receiver's clock was set back. A lower value mistakes a draining queue for that, a higher one keeps measurements of
/// the old clock.
const DRAINED_MICROS: u32 = 2_000_000;

/// Assumed round-trip time until one is measured.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// Bandwidth estimator for one path.
#[derive(Debug)]
pub struct Estimator {
    estimate: f64,
    wanted: f64,
    history: History,
    trend: Trend,
    queue: Queue,
    /// When the rate was last lowered for a standing queue, the queueing delay then in ms, and how many reductions
    /// failed.
    standing_cut: Option<(Instant, f64, u32)>,
    loss: Loss,
    prober: Prober,
    /// Rates of the acknowledged packets: by sending time, and by arrival time for those that arrived.
    sent: Meter,
    received: Meter,
    /// Arrival time minus sending time of the last packet that arrived, each by its own clock, in microseconds modulo
    /// 2^32.
    transit: u32,
    /// Last known limit of the path in bits per second: the arrival rate when the queue last grew.
    limit: Option<f64>,
    /// Result of the last probe that raised the estimate.
    probed: Option<f64>,
    /// Arrival rate just before the last probe.
    before_train: f64,
    /// Estimate to restore when the queue has drained.
    after_drain: Option<f64>,
    /// When the estimate was last updated by the trend, and when it was last lowered.
    updated: Instant,
    lowered: Option<Instant>,
    round_trip: Option<Duration>,
    /// When the first and the last packet since the last feedback were sent.
    unacknowledged: Option<(Instant, Instant)>,
    has_feedback: bool,
    outages: Outages,
    /// Estimate before the current silence.
    silenced: Option<f64>,
    /// When the last outage ended, and when the last one ended whose packets arrived late.
    resumed: Option<Instant>,
    held: Option<Instant>,
    /// An outage has ended in which packets were lost.
    has_hole: bool,
}

impl Estimator {
    /// Creates an estimator for an unknown path.
    pub fn new(now: Instant, start_bps: u64) -> Self {
        Self {
            estimate: (start_bps as f64).clamp(BOUNDS.0, BOUNDS.1),
            wanted: 0.0,
            history: History::new(now),
            trend: Trend::default(),
            queue: Queue::default(),
            standing_cut: None,
            loss: Loss::default(),
            prober: Prober::new(now),
            sent: Meter::default(),
            received: Meter::default(),
            transit: 0,
            limit: None,
            probed: None,
            before_train: 0.0,
            after_drain: None,
            updated: now,
            lowered: None,
            round_trip: None,
            unacknowledged: None,
            has_feedback: false,
            outages: Outages::default(),
            silenced: None,
            resumed: None,
            held: None,
            has_hole: false,
        }
    }

    /// Records a packet of `bytes` bytes that is being sent, and returns its transport-wide sequence number. `cluster`
    /// is the probe that it belongs to, or 0.
    pub fn push(&mut self, now: Instant, bytes: usize, cluster: u8) -> u16 {
        self.unacknowledged = Some((self.unacknowledged.map_or(now, |(first, _)| first), now));
        self.history.push(now, bytes, cluster)
    }

    /// Sets the bitrate that the subscriber could use. Probes are sent while it exceeds the estimate.
    pub fn set_wanted(&mut self, wanted_bps: u64) {
        self.wanted = wanted_bps as f64;
    }

    /// Handles a transport-wide feedback message, given as the bytes after its two SSRCs. Malformed messages and
    /// packets that were already acknowledged are ignored.
    pub fn handle_feedback(&mut self, now: Instant, body: &[u8]) {
        let Some(feedback) = Feedback::new(body) else { return };
        let micros = self.history.micros(now);
        let skipped = self.history.skipped(&feedback);
        let mut last = None;
        for packet in self.history.acknowledge(feedback) {
            if let Some(outage) = self.outages.push(&packet) {
                let is_held = outage == Outage::Held;
                // A packet cannot have been held for longer than since it was sent; a larger value is a jump of the
                // receiver's clock.
                let is_possible = |received: u32| {
                    let later = received.wrapping_sub(packet.sent).wrapping_sub(self.transit);
                    later <= micros.wrapping_sub(packet.sent)
                };
                if !is_held || packet.received.is_some_and(is_possible) {
                    // Measurements from before the outage no longer describe the path.
                    (self.sent, self.received, self.trend, self.standing_cut) = Default::default();
                    self.loss.on_lowered(packet.sent);
                    self.prober.restart(now);
                    (self.resumed, self.lowered, self.updated) = (Some(now), None, now);
                    self.held = if is_held { Some(now) } else { self.held };
                    self.has_hole |= !is_held;
                }
            }
            self.prober.push(&packet);
            // A probe exceeds the estimate on purpose: its loss and its queue say nothing about the estimate.
            if packet.cluster == 0 {
                self.loss.push(&packet);
            }
            if !packet.was_lost {
                self.sent.push(packet.sent, packet.bytes);
            }
            let Some(received) = packet.received else { continue };
            let transit = received.wrapping_sub(packet.sent);
            let changed = transit.wrapping_sub(std::mem::replace(&mut self.transit, transit)) as i32;
            // The delay cannot have grown by more than the time since the packet was sent.
            let bound = if changed > 0 { micros.wrapping_sub(packet.sent) } else { DRAINED_MICROS };
            if changed.unsigned_abs() > bound {
                // Measurements by the old clock are invalid.
                (self.received, self.queue, self.trend, self.standing_cut) = Default::default();
            }
            self.received.push(received, packet.bytes);
            self.queue.push(packet.sent, received);
            if packet.cluster == 0 {
                self.trend.push(packet.sent, received);
            }
            last = Some((packet.sent, received));
        }
        let Some((last_sent, last_received)) = last else { return };
        if let Some(before) = self.silenced.take() {
            self.set(before.max(self.estimate));
            self.resumed = Some(now);
        }
        // A feedback message was lost: assume that its packets were delayed as much as the last one reported here.
        for (sent, bytes) in self.history.sent(skipped) {
            self.sent.push(sent, bytes);
            self.received.push(sent.wrapping_sub(last_sent).wrapping_add(last_received), bytes);
        }
        self.on_round_trip(Duration::from_micros(micros.wrapping_sub(last_sent).into()));
        (self.unacknowledged, self.has_feedback) = (None, true);
        self.loss.settle();
        self.on_usage(now);
        let found = self.prober.poll_result(now, self.round_trip(), self.estimate);
        if let Some(found) = found {
            self.on_probe_result(found);
        }
    }

    /// Handles the estimate of a receiver that estimates by itself (draft-alvestrand-rmcat-remb-03). It is used until
    /// the first transport-wide feedback.
    pub fn handle_remb(&mut self, bps: u64) {
        if !self.has_feedback {
            self.set(bps as f64);
        }
    }

    /// Lowers the estimate if packets are sent and no feedback arrives. Call it a few times per second while packets
    /// are sent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.has_feedback && self.is_silent() {
            self.unacknowledged = None;
            let is_again = self.resumed.is_some_and(|resumed| now < resumed + SILENCES_APART);
            let before = if is_again { self.estimate / 2.0 } else { self.estimate };
            self.silenced.get_or_insert(before);
            // If less is sent than the estimate allows, halve the sending rate instead: a dead path may have a long
            // queue.
            let used = self.sent.rate_bps().map_or(self.estimate, |sent| sent.min(self.estimate));
            self.set((used / 2.0).max(SILENT_LEAST).min(self.estimate));
        }
    }

    /// Returns true if a probe has measured the path. Before that, the estimate is a guess.
    pub fn is_measured(&self) -> bool {
        self.prober.has_result()
    }

    /// Returns the recent sending rate in bits per second, as far as feedback covers it; `None` if there is too little
    /// feedback.
    pub fn sent_bps(&self) -> Option<u64> {
        self.sent.rate_bps().map(|bps| bps as u64)
    }

    /// Returns true if an outage in which packets were lost has ended since the last call.
    pub fn take_hole(&mut self) -> bool {
        std::mem::take(&mut self.has_hole)
    }

    /// Returns true if packets have been sent for a while without any feedback, although the receiver negotiated it.
    pub fn is_ignored(&self) -> bool {
        !self.has_feedback && self.is_silent()
    }

    /// Returns a probe to send now, if one is due. Call it after feedback and when the wanted bitrate rises.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        if self.queue.standing_ms() > STANDING_MS {
            self.prober.defer(now);
        }
        let is_chained = self.prober.is_chained(now);
        let probe = self.prober.poll(now, self.estimate, self.wanted, self.limit)?;
        if !is_chained {
            self.before_train = self.received.rate_bps().unwrap_or(0.0);
        }
        Some(probe)
    }

    /// Returns when the next probe is due at the latest, whatever feedback arrives until then; `None` if no higher
    /// bitrate is wanted.
    pub fn next_probe(&self) -> Option<Instant> {
        (self.wanted > self.estimate).then(|| self.prober.next())
    }

    /// Returns the estimate in bits per second, including the headers counted by `push`.
    pub fn estimate_bps(&self) -> u64 {
        self.estimate as u64
    }

    /// Returns the smoothed round-trip time, including the receiver's feedback delay; a default until one is measured.
    pub fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(ROUND_TRIP)
    }

    fn is_silent(&self) -> bool {
        let Some((first, last)) = self.unacknowledged else { return false };
        let least = first + SILENCE;
        last >= least && last >= least + 2 * self.round_trip().min(SILENT_ROUND_TRIP)
    }

    fn on_round_trip(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(smoothed) => (7 * smoothed + sample) / 8,
        });
    }

    fn on_usage(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).min(Duration::from_secs(1)).as_secs_f64();
        self.updated = now;
        let standing = self.queue.standing_ms();
        if standing <= STANDING_MS {
            self.standing_cut = None;
        }
        // The packets held by an outage arrive in one burst, which takes some time.
        if self.held.is_some_and(|held| now < held + HELD) {
            return;
        }
        // The feedback does not reflect the last reduction yet.
        if self.lowered.is_some_and(|lowered| now < lowered + self.round_trip() + FEEDBACK) {
            return;
        }
        let (Some(sent), Some(received)) = (self.sent.rate_bps(), self.received.rate_bps()) else {
            // Loss does not depend on any clock, so it is usable without rates.
            if let Some(share) = self.loss.excess() {
                self.on_lost(now, share, 0.0);
            }
            return;
        };
        if let Some(share) = self.loss.excess() {
            // A standing queue is full, so the arrival rate is the capacity.
            return if standing > STANDING_MS {
                self.on_over(now, sent, received);
            } else {
                self.on_lost(now, share, received);
            };
        }
        match self.trend.usage() {
            Usage::Over if self.is_burst(standing, sent, received) => {}
            Usage::Over => self.on_over(now, sent, received),
            // The queue drains; a higher rate now would keep it.
            Usage::Under => {}
            Usage::Normal if standing > STANDING_MS => self.on_standing(now, standing, sent, received),
            Usage::Normal if self.loss.is_high() => {}
            Usage::Normal => {
                if let Some(after_drain) = self.after_drain.take() {
                    self.set(after_drain.max(self.estimate));
                }
                let limit = self.limit.filter(|limit| (self.estimate / limit - 1.0).abs() < NEAR);
                let growth = if limit.is_some() { GROWTH_NEAR_LIMIT } else { GROWTH };
                let grown = self.estimate * (1.0 + growth * elapsed);
                let most = match self.limit.or(self.probed) {
                    Some(limit) => (BEYOND_SENT * sent).min((ABOVE_LIMIT * limit).max(BEYOND_LIMIT * sent)),
                    None => BEYOND_SENT * sent,
                };
                self.set(grown.min(most).max(self.estimate));
            }
        }
    }

    /// Applies the result of a probe.
    fn on_probe_result(&mut self, found: ProbeResult) {
        let ProbeResult { bps, is_more, is_limit, is_first } = found;
        let usage = self.trend.usage();
        if is_limit {
            // The packets after the probe wait in the queue that the probe built.
            self.trend = Trend::default();
        }
        if is_limit && bps < self.estimate {
            // The rate carried before the probe is possible, whatever queue the probe met.
            let carried = self.before_train;
            self.limit = Some(bps.max(carried));
            self.set(if is_first { bps } else { bps.max(carried).min(self.estimate) });
        } else if is_more && usage != Usage::Over && !self.loss.is_high() {
            // A probe that was carried above the limit has invalidated it.
            self.limit = if is_limit { Some(bps) } else { self.limit.filter(|limit| bps < REFUTES * limit) };
            self.probed = Some(bps);
            self.set(bps);
        }
    }

    fn on_standing(&mut self, now: Instant, standing: f64, sent: f64, received: f64) {
        // The sender exceeds the estimate, so the queue is caused by this flow.
        if sent > EXCEEDED * self.estimate {
            return self.on_over(now, sent, received);
        }
        let attempts = match self.standing_cut {
            Some((since, ..)) if now < since + self.round_trip() + SHRINKS => return,
            Some((_, standing_cut, attempts)) if standing > SHRUNK * standing_cut => attempts + 1,
            _ => 0,
        };
        if attempts < ATTEMPTS {
            self.standing_cut = Some((now, standing, attempts));
            self.on_over(now, sent, received);
        } else {
            self.standing_cut = None;
            self.queue.forget();
        }
    }

    fn is_burst(&self, standing: f64, sent: f64, received: f64) -> bool {
        let is_below = self.limit.is_some_and(|limit| sent.min(self.estimate) < BELOW_LIMIT * limit);
        is_below && has_passed(standing, sent, received)
    }

    fn on_over(&mut self, now: Instant, sent: f64, received: f64) {
        let standing = self.queue.standing_ms();
        // A low sending rate, or a burst that passed, says little about the capacity: reduce step by step, or a short
        // disturbance would stop the video.
        let is_burst = has_passed(standing, sent, received);
        let is_vague = is_burst || sent < LIMITED * self.estimate && standing < FULL_MS;
        let share_that_came = if is_burst { 1.0 } else { (received / sent.max(1.0)).clamp(LEAST_OF_CARRIED, 1.0) };
        let carried = if is_vague { received.max(share_that_came * self.estimate) } else { received };
        let least = if standing < FULL_MS { LEAST_LOWERED } else { LEAST_LOWERED_FULL };
        let share = (1.0 - standing / 1e3 / DRAIN_SECS).clamp(least, LOWERED);
        let lowered = if share * carried < self.estimate {
            share * carried
        } else if standing > STANDING_MS && sent > self.estimate {
            (share * self.estimate).max(LEAST_OF_CARRIED * carried).min(self.estimate)
        } else {
            return;
        };
        self.limit = match self.limit {
            limit if is_burst => limit,
            Some(limit) if is_vague => Some(limit),
            _ => Some(received),
        };
        self.after_drain = Some(LOWERED * carried);
        // After an outage the measurements contain no gap.
        let is_resumed = self.resumed.is_some_and(|resumed| now < resumed + RESUMING);
        let least = if is_resumed { 0.0 } else { LEAST_LEFT * self.estimate };
        self.lower(now, lowered.max(least));
    }

    fn on_lost(&mut self, now: Instant, share: f64, received: f64) {
        // Bytes that arrive are carried, whatever fraction of the sent bytes they are.
        let carried = (self.estimate * (1.0 - share).max(LEAST_LOWERED)).max(LOWERED * received);
        if carried < self.estimate {
            self.limit = Some(carried);
            self.lower(now, carried);
        }
    }

    fn lower(&mut self, now: Instant, bps: f64) {
        self.set(bps);
        self.lowered = Some(now);
        self.loss.on_lowered(self.history.micros(now));
        self.prober.on_lowered(now);
    }

    fn set(&mut self, bps: f64) {
        self.estimate = bps.clamp(BOUNDS.0, BOUNDS.1);
    }
}

/// Returns true if the sent packets have arrived and left no queue.
fn has_passed(standing: f64, sent: f64, received: f64) -> bool {
    standing < BURST_MS && received > BURST_ARRIVED * sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::bandwidth::link::{Call, Link};

    const LINK: Link = Link { capacity_bps: 3e6, queue_ms: 300, delay_ms: 25, jitter_ms: 0, loss: 0.0, bucket: 0 };

    const SEEDS: [u64; 3] = [11, 12, 13];

    fn call(link: Link, seed: u64) -> Call {
        Call::new(Instant::now(), link, 1_000_000, seed)
    }

    #[test]
    fn the_estimate_finds_the_capacity_and_keeps_the_queue_short() {
        for (loss, least) in [(0.0, 0.8), (0.02, 0.8), (0.05, 0.8), (0.10, 0.7)] {
            for capacity_bps in [300e3, 1e6, 2.5e6, 8e6] {
                let (mut shares, mut delays) = (0.0, 0);
                for seed in SEEDS {
                    let mut call = call(Link { capacity_bps, loss, ..LINK }, seed);
                    let most = if loss == 0.0 { 5_000 } else { 15_000 };
                    assert!(call.reaches(0.8 * capacity_bps, most).is_some(), "{capacity_bps}, {loss} lost, {seed}");
                    call.run(15_000);
                    call.reset();
                    call.run(30_000);
                    let (share, delay) = (call.mean_estimate() / capacity_bps, call.queued_ms(0.95));
                    let is_near = share > least - 0.05 && share < 1.05 && delay < 150;
                    assert!(is_near, "{capacity_bps}, {loss} lost, {seed}: {share}, {delay} ms");
                    (shares, delays) = (shares + share, delays + delay);
                }
                let (share, delay) = (shares / SEEDS.len() as f64, delays / SEEDS.len() as u32);
                // The serialization of three packets of 1,200 bytes takes 100 ms at 300 kbit/s.
                let most = if capacity_bps < 500e3 { 120 } else { 100 };
                assert!(share >= least && delay < most, "{capacity_bps}, {loss} lost: {share}, {delay} ms");
            }
        }
    }

    #[test]
    fn a_drop_is_followed_within_two_seconds_and_its_end_within_eight() {
        for (loss, bucket, most) in [(0.0, 0, 7_000), (0.0, 5_000, 7_000), (0.02, 0, 8_000), (0.05, 0, 15_000)] {
            for lasts in [5_000, 12_000, 33_000] {
                for seed in SEEDS {
                    let mut call = call(Link { loss, bucket, ..LINK }, seed);
                    call.run(20_000);
                    call.set_capacity(500e3);
                    call.run(2_000);
                    let estimate = call.estimator.estimate_bps();
                    assert!(estimate < 500_000, "{estimate} with {loss} lost, {seed}");
                    call.run(lasts);
                    call.set_capacity(3e6);
                    let back = call.reaches(2.4e6, most);
                    assert!(
                        back.is_some(),
                        "{loss} lost, {bucket}, after {lasts} ms, {seed}: {}",
                        call.estimator.estimate_bps()
                    );
                }
            }
        }
    }

    #[test]
    fn a_low_sending_rate_does_not_limit_a_later_demand() {
        for (jitter_ms, seed) in [(0, 11), (0, 12), (10, 11), (10, 12)] {
            let mut call = call(Link { jitter_ms, ..LINK }, seed);
            call.demand_bps = 150e3;
            call.run(30_000);
            assert_eq!(call.estimator.estimate_bps(), 1_000_000, "no measurement changes the estimate");
            call.demand_bps = 2.5e6;
            let reached = call.reaches(2e6, 5_000);
            assert!(reached.is_some(), "{} with jitter {jitter_ms}, {seed}", call.estimator.estimate_bps());
        }
    }

    #[test]
    fn a_wide_path_reaches_a_demand_slightly_above_the_estimate_however_little_is_sent() {
        for demand_bps in [1e6, 2e6, 4e6, 8e6] {
            for (share, seed) in [(0.3, 11), (0.5, 12), (0.7, 13)] {
                let mut call = call(Link { capacity_bps: 100e6, ..LINK }, seed);
                call.demand_bps = demand_bps;
                call.media_bps = share * demand_bps;
                call.run(5_000);
                for step in 0..8 {
                    call.demand_bps = 1.004 * call.estimator.estimate_bps() as f64;
                    call.media_bps = share * call.demand_bps;
                    let reached = call.reaches(call.demand_bps, 5_000);
                    assert!(reached.is_some(), "{} bit/s, {share} of it sent, step {step}", call.demand_bps);
                }
            }
        }
    }

    #[test]
    fn a_jump_of_the_receivers_clock_does_not_lower_the_estimate() {
        for secs in [-1_000, -100, -5, 5, 100, 1_000] {
            for lasts in [100, 20_000] {
                let mut call = call(LINK, 11);
                call.run(20_000);
                for ahead in [secs, 0] {
                    call.set_ahead(ahead);
                    call.run(lasts);
                }
                for second in 0..10 {
                    call.run(1_000);
                    let estimate = call.estimator.estimate_bps();
                    assert!(estimate > 2_000_000, "{secs} s for {lasts} ms, {second} s later: {estimate}");
                }
            }
        }
    }

    #[test]
    fn loss_is_noticed_although_the_receivers_clock_keeps_jumping() {
        let mut call = call(Link { loss: 0.3, ..LINK }, 11);
        for number in 0..100 {
            call.set_ahead(10 * (number % 2));
            call.run(100);
        }
        assert!(call.estimator.estimate_bps() < 500_000, "{}", call.estimator.estimate_bps());
    }

    #[test]
    fn the_queue_left_by_a_stall_is_drained() {
        for stall_ms in [1_500, 2_500, 4_000] {
            let mut call = call(Link { queue_ms: 6_000, ..LINK }, 11);
            call.run(20_000);
            call.demand_bps = 450e3;
            call.stall(stall_ms);
            call.run(stall_ms);
            call.set_capacity(500e3);
            call.run(10_000);
            call.reset();
            call.run(5_000);
            assert!(call.queued_ms(0.95) < 200, "{stall_ms} ms: {} ms of queue", call.queued_ms(0.95));
        }
    }

    #[test]
    fn the_estimate_recovers_from_random_feedback() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut call = call(LINK, 11);
            call.run(5_000);
            for _ in 0..1_000 {
                call.run(1);
                let mut body: Vec<u8> = (0..random.usize(8..400)).map(|_| random.u8(..)).collect();
                // About few packets, starting with a recent one.
                let first = call.next_number().wrapping_sub(random.u16(1..300));
                (body[0], body[1], body[2]) = ((first >> 8) as u8, first as u8, 0);
                call.feed_back(&body);
            }
            let back = call.reaches(2e6, 12_000);
            assert!(back.is_some(), "{seed}: {}", call.estimator.estimate_bps());
        }
    }

    #[test]
    fn a_short_queue_spike_at_a_low_sending_rate_keeps_part_of_the_estimate() {
        let mut call = call(LINK, 11);
        call.demand_bps = 150e3;
        call.run(20_000);
        // For one second, other flows fill the queue.
        for step in 1..=20 {
            call.path.set_delay(25 + 20 * step);
            call.run(50);
        }
        call.path.set_delay(25);
        call.run(5_000);
        let estimate = call.estimator.estimate_bps();
        assert!((300_000..1_000_000).contains(&estimate), "the spike lowers the estimate a little: {estimate}");
    }

    #[test]
    fn packets_of_a_lost_feedback_message_count_as_sent() {
        let mut call = call(Link { loss: 0.09, ..LINK }, 11);
        call.demand_bps = 400e3;
        call.run(5_000);
        let rates = (0..30_000).filter_map(|_| {
            call.run(1);
            call.estimator.sent.rate_bps()
        });
        let (count, sum) = rates.fold((0.0, 0.0), |(count, sum), rate| (count + 1.0, sum + rate));
        assert!((0.97..1.03).contains(&(sum / count / 400e3)), "{}", sum / count);
    }

    #[test]
    fn a_gap_in_the_arrivals_leaves_part_of_the_estimate() {
        let start = Instant::now();
        let mut estimator = Estimator { estimate: 1e6, queue: Queue::default(), ..Estimator::new(start, 1_000_000) };
        estimator.on_over(start, 1e6, 0.0);
        assert_eq!(estimator.estimate_bps(), 350_000);
    }

    #[test]
    fn a_burst_below_the_known_limit_does_not_count_as_a_queue() {
        let limited = |limit| Estimator { limit, ..Estimator::new(Instant::now(), 400_000) };
        for (name, limit, standing, sent, received, expected) in [
            ("a burst", Some(500e3), 2.0, 400e3, 380e3, true),
            ("no known limit", None, 2.0, 400e3, 380e3, false),
            ("at the limit", Some(410e3), 2.0, 400e3, 380e3, false),
            ("the queue stands", Some(500e3), 30.0, 400e3, 380e3, false),
            ("the arrival rate is too low", Some(500e3), 2.0, 400e3, 300e3, false),
        ] {
            assert_eq!(limited(limit).is_burst(standing, sent, received), expected, "{name}");
        }
    }

    #[test]
    fn a_sender_above_the_estimate_is_lowered_until_the_queue_is_gone() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start, 430_000);
        // A queue of 150 ms that all recent packets meet.
        (0..60).for_each(|ms| estimator.queue.push(20_000 * ms, 20_000 * ms + if ms < 30 { 0 } else { 150_000 }));
        let mut steps = Vec::new();
        for cut in 0..4 {
            estimator.on_standing(start + Duration::from_secs(cut), 150.0, 600e3, 500e3);
            steps.push(estimator.estimate_bps() / 1_000);
        }
        assert_eq!(steps, [406, 330, 268, 250], "down to half of the arrival rate");
        estimator.on_standing(start + Duration::from_secs(4), 150.0, 260e3, 500e3);
        assert_eq!(estimator.estimate_bps(), 250_000, "the sender follows the estimate now");
        assert_eq!(estimator.after_drain, Some(425e3));
    }

    #[test]
    fn jitter_does_not_collapse_the_estimate() {
        for (jitter_ms, capacity_bps) in [(10, 1e6), (10, 2.5e6), (10, 8e6), (30, 2.5e6)] {
            let mut call = call(Link { capacity_bps, jitter_ms, ..LINK }, 11);
            call.run(15_000);
            call.reset();
            call.run(30_000);
            let (share, delay) = (call.mean_estimate() / capacity_bps, call.queued_ms(0.95));
            assert!((0.75..1.05).contains(&share) && delay < 150, "{jitter_ms}, {capacity_bps}: {share}, {delay} ms");
        }
    }

    #[test]
    fn an_initially_full_queue_is_drained_and_a_longer_path_is_not_mistaken_for_a_queue() {
        for (capacity_bps, queue_ms) in [(100e3, 300), (100e3, 2_000), (300e3, 1_000)] {
            for seed in SEEDS {
                let mut call = call(Link { capacity_bps, queue_ms, ..LINK }, seed);
                call.run(20_000);
                call.reset();
                call.run(20_000);
                let queued = call.queued_ms(0.5);
                assert!(queued < 100, "{capacity_bps}, {queue_ms}, {seed}: {queued} ms");
            }
        }
        let mut call = self::call(LINK, 11);
        call.run(15_000);
        call.path.set_delay(200);
        call.run(10_000);
        call.reset();
        call.run(10_000);
        assert!(call.mean_estimate() > 2.2e6, "{}", call.mean_estimate());
    }

    #[test]
    fn a_token_bucket_on_the_path_does_not_inflate_the_estimate() {
        for (capacity_bps, bucket) in [(700e3, 5_000), (2e6, 10_000)] {
            let mut call = call(Link { capacity_bps, bucket, queue_ms: 200, ..LINK }, 11);
            call.run(15_000);
            call.reset();
            let beyond = (0..60_000).filter(|_| {
                call.run(1);
                call.estimator.estimate_bps() as f64 > 1.2 * capacity_bps
            });
            let (beyond, share) = (beyond.count(), call.mean_estimate() / capacity_bps);
            assert!(share > 0.8 && beyond < 2_000, "{capacity_bps}, {bucket}: {share}, {beyond} ms beyond");
        }
    }

    #[test]
    fn a_short_queue_is_not_flooded() {
        for capacity_bps in [1e6, 2.5e6, 8e6] {
            let mut call = call(Link { capacity_bps, queue_ms: 40, ..LINK }, 11);
            call.run(15_000);
            call.reset();
            call.run(30_000);
            let share = call.mean_estimate() / capacity_bps;
            assert!((0.8..1.12).contains(&share), "{capacity_bps}: {share}");
        }
    }

    #[test]
    fn loss_above_wifi_levels_and_silence_lower_the_estimate() {
        let mut call = call(Link { loss: 0.3, ..LINK }, 11);
        call.run(20_000);
        let estimate = call.estimator.estimate_bps();
        assert!(estimate < 500_000, "{estimate}");
        let mut call = self::call(LINK, 11);
        call.run(10_000);
        call.path.loss = 1.0;
        call.run(8_000);
        let estimate = call.estimator.estimate_bps();
        assert!(estimate < 300_000, "{estimate}");
        call.path.loss = 0.0;
        assert!(call.reaches(2.4e6, 15_000).is_some(), "{}", call.estimator.estimate_bps());
    }

    #[test]
    fn an_outage_does_not_lower_the_estimate_whether_its_packets_are_lost_or_late() {
        for seed in SEEDS {
            for lasts in [500, 1_000, 3_000, 10_000, 25_000] {
                for is_held in [false, true] {
                    let mut call = call(LINK, seed);
                    call.run(20_000);
                    let before = call.estimator.estimate_bps();
                    if is_held {
                        call.stall(lasts.min(2_000));
                        call.run(lasts.min(2_000));
                    } else {
                        call.path.loss = 1.0;
                        call.run(lasts);
                        call.path.loss = 0.0;
                    }
                    let back = call.reaches(0.8 * before as f64, 600);
                    assert!(back.is_some(), "{lasts} ms, {is_held}, {seed}: {}", call.estimator.estimate_bps());
                }
            }
        }
    }

    #[test]
    fn the_estimate_follows_a_path_that_is_narrower_after_an_outage() {
        for seed in SEEDS {
            let mut call = call(LINK, seed);
            call.run(20_000);
            call.path.loss = 1.0;
            call.run(4_000);
            call.path.loss = 0.0;
            call.set_capacity(500e3);
            call.run(2_500);
            assert!(call.estimator.estimate_bps() < 500_000, "{seed}: {}", call.estimator.estimate_bps());
        }
    }

    #[test]
    fn a_pause_in_sending_does_not_count_as_silence() {
        // One packet per 100 ms for `millis`, then none.
        for (millis, expected) in [(1_400, 1_000_000), (1_500, 500_000), (3_000, 250_000)] {
            let mut now = Instant::now();
            let mut estimator = Estimator { has_feedback: true, ..Estimator::new(now, 1_000_000) };
            for _ in 0..millis / 100 {
                now += Duration::from_millis(100);
                estimator.push(now, 1_200, 0);
                estimator.handle_timeout(now);
            }
            (0..9).for_each(|second| estimator.handle_timeout(now + Duration::from_secs(second)));
            assert_eq!(estimator.estimate_bps(), expected, "{millis}");
        }
    }

    #[test]
    fn remb_is_used_until_there_is_feedback() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start, 1_000_000);
        for (bps, expected) in [(700_000, 700_000), (3_000_000, 3_000_000), (1, 50_000), (u64::MAX, 200_000_000)] {
            estimator.handle_remb(bps);
            assert_eq!(estimator.estimate_bps(), expected);
        }
        estimator.handle_remb(500_000);
        estimator.push(start, 100, 0);
        estimator.handle_feedback(start + Duration::from_millis(50), &[0, 0, 0, 1, 0, 0, 1, 0, 0x20, 1, 0]);
        assert_eq!(estimator.round_trip(), Duration::from_millis(50));
        estimator.handle_remb(900_000);
        assert_eq!(estimator.estimate_bps(), 500_000);
    }
}
