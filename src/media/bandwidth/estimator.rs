//! The bandwidth estimate for the path to one subscriber. It is lowered when the queue grows or loss is too high, and
//! raised by probes and slowly while neither happens (draft-ietf-rmcat-gcc-02).

mod measurements;

use std::time::{Duration, Instant};

use self::measurements::Measurements;
use crate::media::bandwidth::history::History;
use crate::media::bandwidth::loss::Loss;
use crate::media::bandwidth::outage::{Outage, Outages};
use crate::media::bandwidth::probe::{ProbeResult, Prober};
use crate::media::bandwidth::queue::is_delivered;
use crate::media::bandwidth::silence::Silence;
use crate::media::bandwidth::standing::Step;
use crate::media::bandwidth::train::Probe;
use crate::media::bandwidth::trend::{Trend, Usage};
use crate::media::rtp::transport_feedback::Feedback;

/// Bounds of the estimate in bits per second. A call does not work below the lower one; the upper one is more than one
/// subscriber can use.
const BOUNDS: (f64, f64) = (50e3, 200e6);

/// Bounds of the factor applied to the arrival rate when the queue has grown; the rest of the capacity drains the
/// queue. A higher factor drains slower, a lower one wastes more each time. The lower bound applies to long queues and
/// to heavy loss, so that a short disturbance does not stop the video; a queue of `FULL_MS` is drained faster.
const MAX_DECREASE_FACTOR: f64 = 0.85;
const MIN_DECREASE_FACTOR: f64 = 0.6;
const MIN_DECREASE_FACTOR_FULL: f64 = 0.35;

/// Target time in seconds for draining a queue, within those bounds.
const DRAIN_SECS: f64 = 0.8;

/// Smallest fraction of the estimate that one reduction leaves: a gap in the arrivals lowers the measured arrival rate
/// more than the capacity. A lower value mistakes such a gap for a dead path, a higher one needs more reductions to
/// follow a drop of the capacity.
const MIN_REMAINING: f64 = 0.35;

/// Smallest share of the arrival rate that a reduction leaves if the sender exceeds the estimate and a queue stands.
/// Keyframes and retransmissions are sent on top of the budget; only a lower budget makes room for them.
const MIN_CARRIED_SHARE: f64 = 0.5;

/// A probe measured faster than this multiple of the limit invalidates the limit.
const REFUTING_FACTOR: f64 = 1.2;

/// The queue growth is a burst, not congestion, if the sent packets have passed (`is_delivered`) and less than
/// `BELOW_LIMIT` of the known limit is used. A higher value mistakes a drop of the capacity for a burst, a lower one
/// lowers the estimate for each keyframe.
const BELOW_LIMIT: f64 = 0.95;

/// A sending rate above this multiple of the estimate means that the sender does not follow the estimate.
const EXCEEDING_FACTOR: f64 = 1.1;

/// Growth of the estimate per second: with no known limit nearby, and near the arrival rate at which the queue last
/// grew.
const GROWTH: f64 = 0.08;
const GROWTH_NEAR_LIMIT: f64 = 0.04;

/// An estimate within this fraction of the last limit counts as near it.
const NEAR_LIMIT: f64 = 0.15;

/// Upper bound of the growing estimate as a multiple of the sending rate; above it nothing would confirm the estimate.
const BEYOND_SENT: f64 = 1.5;

/// Upper bound of the growing estimate as a multiple of the last limit or probe result: the error of a measurement.
/// Above that, it grows to at most `BEYOND_LIMIT` times the sending rate; only a probe raises it further.
const ABOVE_LIMIT: f64 = 1.05;
const BEYOND_LIMIT: f64 = 1.1;

/// Below this fraction of the estimate, the sending rate is limited by the media: the arrival rate does not show the
/// capacity.
const MEDIA_LIMITED: f64 = 0.7;

/// Delay beyond one round trip until the feedback reflects a lower rate: the feedback interval.
const FEEDBACK: Duration = Duration::from_millis(100);

/// Queueing delay in milliseconds above which a queue that all packets meet counts as standing. A lower value yields to
/// the bursts of other flows, a higher one is audible in a call.
const STANDING_MS: f64 = 50.0;

/// Queueing delay in milliseconds above which a standing queue counts as full: then the arrival rate is the capacity,
/// however little is sent. A lower value is reached by bursts of other flows; with a higher one, the queue that a stall
/// has built takes longer to drain.
const FULL_MS: f64 = 500.0;

/// Lower bound of the estimate when it is halved for silence: audio and one small picture continue, and their arrival
/// shows that the path has recovered. A lower value leaves nothing to acknowledge, a higher one floods a dead path.
const MIN_SILENT_BPS: f64 = 200e3;

/// If a silence begins this soon after another, only half of the estimate is restored: our own traffic may have caused
/// it.
const SILENCE_SPACING: Duration = Duration::from_secs(5);

/// Time allowed for the packets held back by an outage to arrive. Shorter mistakes them for a standing queue, longer
/// floods a path that is narrower than before.
const HELD_TIME: Duration = Duration::from_millis(500);

/// Time after an outage in which one reduction may go down to the arrival rate, however low that is.
const RESUMING_TIME: Duration = Duration::from_secs(5);

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
    measured: Measurements,
    loss: Loss,
    prober: Prober,
    /// Arrival time minus sending time of the last packet that arrived, each by its own clock, in microseconds modulo
    /// 2^32.
    transit: u32,
    /// Last known limit of the path in bits per second: the arrival rate when the queue last grew.
    limit: Option<f64>,
    /// Result of the last probe that raised the estimate.
    probed: Option<f64>,
    /// Arrival rate just before the last probe.
    carried_before_probe: f64,
    /// Estimate to restore when the queue has drained.
    after_drain: Option<f64>,
    /// When the estimate was last updated by the trend, and when it was last lowered.
    updated_at: Instant,
    lowered_at: Option<Instant>,
    round_trip: Option<Duration>,
    silence: Silence,
    has_feedback: bool,
    outages: Outages,
    /// Estimate before the current silence.
    before_silence: Option<f64>,
    /// When the last outage ended, and when the last one ended whose packets arrived late.
    resumed_at: Option<Instant>,
    held: Option<Instant>,
    /// Whether an outage has ended in which packets were lost.
    has_lossy_outage: bool,
}

impl Estimator {
    /// Creates an estimator for an unknown path.
    pub fn new(now: Instant, start_bps: u64) -> Self {
        Self {
            estimate: (start_bps as f64).clamp(BOUNDS.0, BOUNDS.1),
            wanted: 0.0,
            history: History::new(now),
            measured: Measurements::default(),
            loss: Loss::default(),
            prober: Prober::new(now),
            transit: 0,
            limit: None,
            probed: None,
            carried_before_probe: 0.0,
            after_drain: None,
            updated_at: now,
            lowered_at: None,
            round_trip: None,
            silence: Silence::default(),
            has_feedback: false,
            outages: Outages::default(),
            before_silence: None,
            resumed_at: None,
            held: None,
            has_lossy_outage: false,
        }
    }

    /// Records a packet of `bytes` bytes that is being sent, and returns its transport-wide sequence number. `cluster`
    /// is the probe that it belongs to, or 0.
    pub fn push(&mut self, now: Instant, bytes: usize, cluster: u8) -> u16 {
        self.silence.push(now);
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
                    self.measured.restart_after_outage();
                    self.loss.on_lowered(packet.sent);
                    self.prober.restart(now);
                    self.resumed_at = Some(now);
                    self.lowered_at = None;
                    self.updated_at = now;
                    self.held = if is_held { Some(now) } else { self.held };
                    self.has_lossy_outage |= !is_held;
                }
            }
            self.prober.push(&packet);
            // A probe exceeds the estimate on purpose: its loss and its queue say nothing about the estimate.
            if packet.cluster == 0 {
                self.loss.push(&packet);
            }
            if !packet.was_lost {
                self.measured.sent.push(packet.sent, packet.bytes);
            }
            let Some(received) = packet.received else { continue };
            let transit = received.wrapping_sub(packet.sent);
            let changed = transit.wrapping_sub(std::mem::replace(&mut self.transit, transit)) as i32;
            // The delay cannot have grown by more than the time since the packet was sent.
            let bound = if changed > 0 { micros.wrapping_sub(packet.sent) } else { DRAINED_MICROS };
            if changed.unsigned_abs() > bound {
                self.measured.restart_after_clock_jump();
            }
            self.measured.received.push(received, packet.bytes);
            self.measured.queue.push(packet.sent, received);
            if packet.cluster == 0 {
                self.measured.trend.push(packet.sent, received);
            }
            last = Some((packet.sent, received));
        }
        let Some((last_sent, last_received)) = last else { return };
        if let Some(before) = self.before_silence.take() {
            self.set(before.max(self.estimate));
            self.resumed_at = Some(now);
        }
        // A feedback message was lost: assume that its packets were delayed as much as the last one reported here.
        for (sent, bytes) in self.history.sent(skipped) {
            self.measured.sent.push(sent, bytes);
            self.measured.received.push(sent.wrapping_sub(last_sent).wrapping_add(last_received), bytes);
        }
        self.on_round_trip(Duration::from_micros(micros.wrapping_sub(last_sent).into()));
        self.silence.clear();
        self.has_feedback = true;
        self.loss.settle();
        self.on_usage(now);
        if let Some(found) = self.prober.poll_result(now, self.round_trip(), self.estimate) {
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
            self.silence.clear();
            let is_repeated = self.resumed_at.is_some_and(|resumed| now < resumed + SILENCE_SPACING);
            let before = if is_repeated { self.estimate / 2.0 } else { self.estimate };
            self.before_silence.get_or_insert(before);
            // If less is sent than the estimate allows, halve the sending rate instead: a dead path may have a long
            // queue.
            let used = self.measured.sent.rate_bps().map_or(self.estimate, |sent| sent.min(self.estimate));
            self.set((used / 2.0).max(MIN_SILENT_BPS).min(self.estimate));
        }
    }

    /// Returns true if a probe has measured the path. Before that, the estimate is a guess.
    pub fn is_measured(&self) -> bool {
        self.prober.has_result()
    }

    /// Returns the recent sending rate in bits per second, as far as feedback covers it; `None` if there is too little
    /// feedback.
    pub fn sent_bps(&self) -> Option<u64> {
        self.measured.sent.rate_bps().map(|bps| bps as u64)
    }

    /// Returns true if an outage in which packets were lost has ended since the last call.
    pub fn take_lossy_outage(&mut self) -> bool {
        std::mem::take(&mut self.has_lossy_outage)
    }

    /// Returns true if packets have been sent for a while without any feedback, although the receiver negotiated it.
    pub fn lacks_feedback(&self) -> bool {
        !self.has_feedback && self.is_silent()
    }

    /// Returns a probe to send now, if one is due. Call it after feedback and when the wanted bitrate rises.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        if self.measured.queue.standing_ms() > STANDING_MS {
            self.prober.defer(now);
        }
        let is_chained = self.prober.is_chained(now);
        let probe = self.prober.poll(now, self.estimate, self.wanted, self.limit)?;
        if !is_chained {
            self.carried_before_probe = self.measured.received.rate_bps().unwrap_or(0.0);
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
        self.silence.is_silent(self.round_trip())
    }

    fn on_round_trip(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(smoothed) => (7 * smoothed + sample) / 8,
        });
    }

    fn on_usage(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated_at).min(Duration::from_secs(1)).as_secs_f64();
        self.updated_at = now;
        let standing = self.measured.queue.standing_ms();
        if standing <= STANDING_MS {
            self.measured.standing.clear();
        }
        // The packets held by an outage arrive in one burst, which takes some time.
        if self.held.is_some_and(|held| now < held + HELD_TIME) {
            return;
        }
        // The feedback does not reflect the last reduction yet.
        if self.lowered_at.is_some_and(|lowered| now < lowered + self.round_trip() + FEEDBACK) {
            return;
        }
        let (Some(sent), Some(received)) = (self.measured.sent.rate_bps(), self.measured.received.rate_bps()) else {
            // Loss does not depend on any clock, so it is usable without rates.
            if let Some(share) = self.loss.excess() {
                self.on_loss(now, share, 0.0);
            }
            return;
        };
        if let Some(share) = self.loss.excess() {
            // A standing queue is full, so the arrival rate is the capacity.
            return if standing > STANDING_MS {
                self.on_overuse(now, sent, received);
            } else {
                self.on_loss(now, share, received);
            };
        }
        match self.measured.trend.usage() {
            Usage::Over if self.is_burst(standing, sent, received) => {}
            Usage::Over => self.on_overuse(now, sent, received),
            // The queue drains; a higher rate now would keep it.
            Usage::Under => {}
            Usage::Normal if standing > STANDING_MS => self.on_standing_queue(now, standing, sent, received),
            Usage::Normal if self.loss.is_high() => {}
            Usage::Normal => {
                if let Some(after_drain) = self.after_drain.take() {
                    self.set(after_drain.max(self.estimate));
                }
                let limit = self.limit.filter(|limit| (self.estimate / limit - 1.0).abs() < NEAR_LIMIT);
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
        let ProbeResult { bps, raises_estimate, is_limit, is_first } = found;
        let usage = self.measured.trend.usage();
        if is_limit {
            // The packets after the probe wait in the queue that the probe built.
            self.measured.trend = Trend::default();
        }
        if is_limit && bps < self.estimate {
            // The rate carried before the probe is possible, whatever queue the probe met.
            let carried = self.carried_before_probe;
            self.limit = Some(bps.max(carried));
            self.set(if is_first { bps } else { bps.max(carried).min(self.estimate) });
        } else if raises_estimate && usage != Usage::Over && !self.loss.is_high() {
            // A probe that was carried above the limit has invalidated it.
            self.limit = if is_limit { Some(bps) } else { self.limit.filter(|limit| bps < REFUTING_FACTOR * limit) };
            self.probed = Some(bps);
            self.set(bps);
        }
    }

    fn on_standing_queue(&mut self, now: Instant, standing: f64, sent: f64, received: f64) {
        // The sender exceeds the estimate, so the queue is caused by this flow.
        if sent > EXCEEDING_FACTOR * self.estimate {
            return self.on_overuse(now, sent, received);
        }
        match self.measured.standing.step(now, self.round_trip(), standing) {
            Step::Wait => {}
            Step::Lower => self.on_overuse(now, sent, received),
            Step::Accept => self.measured.queue.forget(),
        }
    }

    fn is_burst(&self, standing: f64, sent: f64, received: f64) -> bool {
        let is_below = self.limit.is_some_and(|limit| sent.min(self.estimate) < BELOW_LIMIT * limit);
        is_below && is_delivered(standing, sent, received)
    }

    fn on_overuse(&mut self, now: Instant, sent: f64, received: f64) {
        let standing = self.measured.queue.standing_ms();
        // A low sending rate, or a burst that passed, says little about the capacity: reduce step by step, or a short
        // disturbance would stop the video.
        let is_burst = is_delivered(standing, sent, received);
        let is_vague = is_burst || sent < MEDIA_LIMITED * self.estimate && standing < FULL_MS;
        let share_arrived = if is_burst { 1.0 } else { (received / sent.max(1.0)).clamp(MIN_CARRIED_SHARE, 1.0) };
        let carried = if is_vague { received.max(share_arrived * self.estimate) } else { received };
        let least = if standing < FULL_MS { MIN_DECREASE_FACTOR } else { MIN_DECREASE_FACTOR_FULL };
        let share = (1.0 - standing / 1e3 / DRAIN_SECS).clamp(least, MAX_DECREASE_FACTOR);
        let lowered = if share * carried < self.estimate {
            share * carried
        } else if standing > STANDING_MS && sent > self.estimate {
            (share * self.estimate).max(MIN_CARRIED_SHARE * carried).min(self.estimate)
        } else {
            return;
        };
        self.limit = match self.limit {
            limit if is_burst => limit,
            Some(limit) if is_vague => Some(limit),
            _ => Some(received),
        };
        self.after_drain = Some(MAX_DECREASE_FACTOR * carried);
        // The measurements began anew after an outage, so they contain no gap that this bound would have to allow for.
        let is_resumed = self.resumed_at.is_some_and(|resumed| now < resumed + RESUMING_TIME);
        let least = if is_resumed { 0.0 } else { MIN_REMAINING * self.estimate };
        self.lower(now, lowered.max(least));
    }

    fn on_loss(&mut self, now: Instant, share: f64, received: f64) {
        // The path carries at least the arrival rate, however much is lost.
        let carried = (self.estimate * (1.0 - share).max(MIN_DECREASE_FACTOR)).max(MAX_DECREASE_FACTOR * received);
        if carried < self.estimate {
            self.limit = Some(carried);
            self.lower(now, carried);
        }
    }

    fn lower(&mut self, now: Instant, bps: f64) {
        self.set(bps);
        self.lowered_at = Some(now);
        self.loss.on_lowered(self.history.micros(now));
        self.prober.on_lowered(now);
    }

    fn set(&mut self, bps: f64) {
        self.estimate = bps.clamp(BOUNDS.0, BOUNDS.1);
    }
}

#[cfg(test)]
mod link;

#[cfg(test)]
mod tests;
