//! The estimate of what the path to one subscriber carries: lowered when its queue grows or too much is lost, raised
//! while neither happens and by probes (draft-ietf-rmcat-gcc-02).

use std::time::{Duration, Instant};

use crate::media::bandwidth::feedback::Feedback;
use crate::media::bandwidth::history::History;
use crate::media::bandwidth::loss::Loss;
use crate::media::bandwidth::meter::Meter;
use crate::media::bandwidth::outage::{Outage, Outages};
use crate::media::bandwidth::probe::{Found, Probe, Prober, WORTH};
use crate::media::bandwidth::queue::Queue;
use crate::media::bandwidth::trend::{Trend, Usage};

/// Bounds of the estimate, in bits a second: less carries no call, and more is no question of the path.
const BOUNDS: (f64, f64) = (50e3, 200e6);

/// Share of what arrives that is sent after the queue grew: the rest drains it. Higher drains slower, lower wastes
/// more each time. The least is for queues that are long, and for heavy loss: a moment's must not end it all. A queue of
/// `FULL_MS` is drained faster.
const LOWERED: f64 = 0.85;
const LEAST_LOWERED: f64 = 0.6;
const LEAST_LOWERED_FULL: f64 = 0.35;

/// Seconds in which a queue shall drain, as far as those shares allow.
const DRAIN_SECS: f64 = 0.8;

/// What one cut leaves of the estimate at least: a path that was silent for half a second carries more than nothing.
/// Lower takes a hole in the arrivals for the end of the path, higher needs more cuts to follow a drop.
const LEAST_LEFT: f64 = 0.35;

/// What is left at least of what arrives, where more is sent than the estimate allows and the queue stands: keyframes
/// and repair come on top of what is granted, and only less of that makes room for them.
const LEAST_OF_CARRIED: f64 = 0.5;

/// A train that came faster than this many times the limit has refuted it.
const REFUTES: f64 = 1.2;

/// A queue grew, but some packet of the last moment met less of it than this, what was sent came but for this share, and
/// the path is known to carry more: then it was a burst. Wider takes a drop for one, narrower cuts for each keyframe.
const BURST_MS: f64 = 10.0;
const BURST_CAME: f64 = 0.85;
const BELOW_LIMIT: f64 = 0.95;

/// More than this share of the estimate is sent: it is not followed.
const EXCEEDED: f64 = 1.1;

/// Growth a second: where the limit is not known, and near the rate at which the queue last grew.
const GROWTH: f64 = 0.08;
const GROWTH_NEAR_LIMIT: f64 = 0.04;

/// Rates within this share of the last limit are near it.
const NEAR: f64 = 0.15;

/// The estimate does not grow beyond this many times what is sent: nothing would show that it is true.
const BEYOND_SENT: f64 = 1.5;

/// The estimate grows to this many times the last limit, or what a train has shown: as much as a measurement may err. More
/// than that has to be shown by what is sent, of which it may be so many times, or by a train.
const ABOVE_LIMIT: f64 = 1.05;
const BEYOND_LIMIT: f64 = 1.1;

/// Less than this share of the estimate is sent: what arrives is what there was to send, not what the path carries.
const LIMITED: f64 = 0.7;

/// A lower rate shows in the feedback a round trip later, and this: the feedback's own interval.
const FEEDBACK: Duration = Duration::from_millis(100);

/// A queue that stands, in milliseconds: what a call notices. Lower yields to the bursts of others, higher is heard.
const STANDING_MS: f64 = 50.0;

/// A queue that stands for so long, in milliseconds, is full: what leaves it is what the path carries, however little is
/// sent. Lower believes that of others' bursts, higher keeps a queue that a stall left.
const FULL_MS: f64 = 500.0;

/// How soon such a queue must have shrunk after the rate was lowered, and to which share; else it is not ours, and
/// after so many attempts lowering the rate more would only give way to others.
const SHRINKS: Duration = Duration::from_secs(1);
const SHRUNK: f64 = 0.9;
const ATTEMPTS: u32 = 2;

/// Silence while packets are sent, besides two round trips, after which the estimate is halved, and again. Shorter
/// takes a feedback that was lost for an outage; longer floods a path that is gone.
const SILENCE: Duration = Duration::from_secs(1);

/// What counts of a round-trip time for that at most: a queue that stands makes it seconds.
const SILENT_ROUND_TRIP: Duration = Duration::from_millis(300);

/// The estimate is not halved below this for silence: sound and one small picture go on, whose arrival shows that the
/// path is back. Lower leaves nothing to acknowledge, higher floods a path that is gone.
const SILENT_LEAST: f64 = 200e3;

/// A silence that begins so soon after another is answered by half of the estimate: what was sent may have caused it.
const SILENCES_APART: Duration = Duration::from_secs(5);

/// How long the packets that an outage held may take to arrive. Shorter takes them for a queue that stands, longer
/// floods a path that came back narrower.
const HELD: Duration = Duration::from_millis(500);

/// How long after an outage one cut may follow what arrives, however little it is.
const RESUMING: Duration = Duration::from_secs(5);

/// By how many microseconds a packet may be under way for less time than the one before. More than queues hold is the
/// receiver's clock, set back. Less forgets a queue that drains, more keeps what the clock said before.
const DRAINED_MICROS: u32 = 2_000_000;

/// The round-trip time until one is measured.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// The state of one path.
#[derive(Debug)]
pub struct Estimator {
    estimate: f64,
    wanted: f64,
    history: History,
    trend: Trend,
    queue: Queue,
    /// When the rate was last lowered for a queue that stands, how long that was, and how often it did not help.
    stood: Option<(Instant, f64, u32)>,
    loss: Loss,
    prober: Prober,
    /// Of what feedback speaks of, by when it was sent, and of what came, by when it came.
    sent: Meter,
    received: Meter,
    /// Time between sending and arrival of the last packet that came, each by its own clock, in microseconds modulo 2^32.
    under_way: u32,
    /// What arrived when the queue last grew.
    limit: Option<f64>,
    /// What the last train has shown that raised the estimate.
    shown: Option<f64>,
    /// What arrived just before the last train.
    before_train: f64,
    /// What the estimate is again when that queue has drained.
    drained: Option<f64>,
    /// When the estimate was last changed by the trend, and lowered.
    updated: Instant,
    lowered: Option<Instant>,
    round_trip: Option<Duration>,
    /// When the first and the last packet were sent since the last feedback.
    unheard: Option<(Instant, Instant)>,
    has_feedback: bool,
    outages: Outages,
    /// The estimate before the silence that has not ended yet.
    silenced: Option<f64>,
    /// When the last outage ended, and the last whose packets arrived late.
    resumed: Option<Instant>,
    held: Option<Instant>,
    /// Packets were lost in an outage that has ended.
    has_hole: bool,
}

impl Estimator {
    /// A path of which nothing is known.
    pub fn new(now: Instant, start_bps: u64) -> Self {
        Self {
            estimate: (start_bps as f64).clamp(BOUNDS.0, BOUNDS.1),
            wanted: 0.0,
            history: History::new(now),
            trend: Trend::default(),
            queue: Queue::default(),
            stood: None,
            loss: Loss::default(),
            prober: Prober::new(now),
            sent: Meter::default(),
            received: Meter::default(),
            under_way: 0,
            limit: None,
            shown: None,
            before_train: 0.0,
            drained: None,
            updated: now,
            lowered: None,
            round_trip: None,
            unheard: None,
            has_feedback: false,
            outages: Outages::default(),
            silenced: None,
            resumed: None,
            held: None,
            has_hole: false,
        }
    }

    /// Counts a packet of so many bytes that is being sent, as part of a probe or of none (0), and gives its
    /// transport-wide sequence number.
    pub fn push(&mut self, now: Instant, bytes: usize, cluster: u8) -> u16 {
        self.unheard = Some((self.unheard.map_or(now, |(first, _)| first), now));
        self.history.push(now, bytes, cluster)
    }

    /// Sets what could be used: while it exceeds the estimate, there are probes.
    pub fn set_wanted(&mut self, wanted_bps: u64) {
        self.wanted = wanted_bps as f64;
    }

    /// Takes a feedback message, from the bytes after its two SSRCs; what is malformed or old news is ignored.
    pub fn handle_feedback(&mut self, now: Instant, body: &[u8]) {
        let Some(feedback) = Feedback::new(body) else { return };
        let micros = self.history.micros(now);
        let skipped = self.history.skipped(&feedback);
        let mut last = None;
        for packet in self.history.acknowledge(feedback) {
            if let Some(outage) = self.outages.push(&packet) {
                let is_held = outage == Outage::Held;
                // Held for longer than since it was sent: that is the receiver's clock.
                let is_possible = |received: u32| {
                    let later = received.wrapping_sub(packet.sent).wrapping_sub(self.under_way);
                    later <= micros.wrapping_sub(packet.sent)
                };
                if !is_held || packet.received.is_some_and(is_possible) {
                    // What was measured before says nothing of the path any more.
                    (self.sent, self.received, self.trend, self.stood) = Default::default();
                    self.loss.on_lowered(packet.sent);
                    self.prober.restart(now);
                    (self.resumed, self.lowered, self.updated) = (Some(now), None, now);
                    self.held = if is_held { Some(now) } else { self.held };
                    self.has_hole |= !is_held;
                }
            }
            self.prober.push(&packet);
            // A train is faster than the estimate on purpose: its losses and its queue say nothing of that.
            if packet.cluster == 0 {
                self.loss.push(&packet);
            }
            if !packet.was_lost {
                self.sent.push(packet.sent, packet.bytes);
            }
            let Some(received) = packet.received else { continue };
            let under_way = received.wrapping_sub(packet.sent);
            let changed = under_way.wrapping_sub(std::mem::replace(&mut self.under_way, under_way)) as i32;
            // No queue held it for longer than since it was sent.
            let bound = if changed > 0 { micros.wrapping_sub(packet.sent) } else { DRAINED_MICROS };
            if changed.unsigned_abs() > bound {
                // What was measured by that clock says nothing any more.
                (self.received, self.queue, self.trend, self.stood) = Default::default();
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
        // A message was lost: what it was about is taken to have come as quickly as this.
        for (sent, bytes) in self.history.sent(skipped) {
            self.sent.push(sent, bytes);
            self.received.push(sent.wrapping_sub(last_sent).wrapping_add(last_received), bytes);
        }
        self.on_round_trip(Duration::from_micros(micros.wrapping_sub(last_sent).into()));
        (self.unheard, self.has_feedback) = (None, true);
        self.loss.settle();
        self.on_usage(now);
        let found = self.prober.poll_result(now, self.round_trip(), self.estimate);
        if let Some(found) = found {
            self.on_found(found);
        }
    }

    /// Takes the estimate of a receiver that makes its own (draft-alvestrand-rmcat-remb-03); it counts as long as
    /// there is no transport-wide feedback.
    pub fn handle_remb(&mut self, bps: u64) {
        if !self.has_feedback {
            self.set(bps as f64);
        }
    }

    /// Lowers the estimate if packets were sent for a while and nothing is heard; to be called a few times a second
    /// while packets are sent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.has_feedback && self.is_unheard() {
            self.unheard = None;
            let is_again = self.resumed.is_some_and(|resumed| now < resumed + SILENCES_APART);
            let before = if is_again { self.estimate / 2.0 } else { self.estimate };
            self.silenced.get_or_insert(before);
            // Where less is sent than could be, half of that: a dead path's queue may be long.
            let used = self.sent.rate_bps().map_or(self.estimate, |sent| sent.min(self.estimate));
            self.set((used / 2.0).max(SILENT_LEAST).min(self.estimate));
        }
    }

    /// Whether a probe has shown what the path carries: before, the estimate is a guess.
    pub fn is_measured(&self) -> bool {
        self.prober.is_begun()
    }

    /// Bits a second that were sent of late, as far as feedback speaks of it; `None` if that is too little to tell.
    pub fn sent_bps(&self) -> Option<u64> {
        self.sent.rate_bps().map(|bps| bps as u64)
    }

    /// Whether an outage has ended, since the last call, in which packets were lost.
    pub fn take_hole(&mut self) -> bool {
        std::mem::take(&mut self.has_hole)
    }

    /// Packets were sent for a while, and no message ever came: the receiver has agreed to tell, and does not.
    pub fn is_ignored(&self) -> bool {
        !self.has_feedback && self.is_unheard()
    }

    /// A train of packets that shall be sent now, to learn whether the path carries more; to be asked after
    /// feedback and when more is wanted.
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

    /// When there is to be a probe at the latest, whatever is heard until then; `None` if no more is wanted.
    pub fn next_probe(&self) -> Option<Instant> {
        (self.wanted > self.estimate).then(|| self.prober.next())
    }

    /// Bits a second that the path carries, headers of all layers that were pushed included.
    pub fn estimate_bps(&self) -> u64 {
        self.estimate as u64
    }

    /// The smoothed round-trip time, or what is assumed until it is known; the receiver's wait before its feedback
    /// is part of it.
    pub fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(ROUND_TRIP)
    }

    fn is_unheard(&self) -> bool {
        let Some((first, last)) = self.unheard else { return false };
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
            self.stood = None;
        }
        // What was held arrives at once, and takes its time to.
        if self.held.is_some_and(|held| now < held + HELD) {
            return;
        }
        // What the last change brought is not seen yet.
        if self.lowered.is_some_and(|lowered| now < lowered + self.round_trip() + FEEDBACK) {
            return;
        }
        let (Some(sent), Some(received)) = (self.sent.rate_bps(), self.received.rate_bps()) else {
            // What is lost is lost by any clock.
            if let Some(share) = self.loss.excess() {
                self.on_lost(now, share, 0.0);
            }
            return;
        };
        if let Some(share) = self.loss.excess() {
            // A queue that stands is full, and what comes out of it is what the path carries.
            return if standing > STANDING_MS {
                self.on_over(now, sent, received);
            } else {
                self.on_lost(now, share, received);
            };
        }
        match self.trend.usage() {
            Usage::Over if self.is_burst(standing, sent, received) => {}
            Usage::Over => self.on_over(now, sent, received),
            // What was too much drains: a higher rate now would keep the queue.
            Usage::Under => {}
            Usage::Normal if standing > STANDING_MS => self.on_standing(now, standing, sent, received),
            Usage::Normal if self.loss.is_high() => {}
            Usage::Normal => {
                if let Some(drained) = self.drained.take() {
                    self.set(drained.max(self.estimate));
                }
                let limit = self.limit.filter(|limit| (self.estimate / limit - 1.0).abs() < NEAR);
                let growth = if limit.is_some() { GROWTH_NEAR_LIMIT } else { GROWTH };
                let grown = self.estimate * (1.0 + growth * elapsed);
                let most = match self.limit.or(self.shown) {
                    Some(limit) => (BEYOND_SENT * sent).min((ABOVE_LIMIT * limit).max(BEYOND_LIMIT * sent)),
                    None => BEYOND_SENT * sent,
                };
                self.set(grown.min(most).max(self.estimate));
            }
        }
    }

    /// A probe shows something.
    fn on_found(&mut self, found: Found) {
        let Found { bps, is_limit, is_first } = found;
        let usage = self.trend.usage();
        if is_limit {
            // What follows waits in the queue that the train has made.
            self.trend = Trend::default();
        }
        if is_limit && bps < self.estimate {
            // What was carried before the train is carried, whatever queue the train met.
            let carried = self.before_train;
            self.limit = Some(bps.max(carried));
            self.set(if is_first { bps } else { bps.max(carried).min(self.estimate) });
        } else if bps > WORTH * self.estimate && usage != Usage::Over && !self.loss.is_high() {
            // One that was carried beyond the limit has refuted it.
            self.limit = if is_limit { Some(bps) } else { self.limit.filter(|limit| bps < REFUTES * limit) };
            self.shown = Some(bps);
            self.set(bps);
        }
    }

    fn on_standing(&mut self, now: Instant, standing: f64, sent: f64, received: f64) {
        // What stands is ours for sure.
        if sent > EXCEEDED * self.estimate {
            return self.on_over(now, sent, received);
        }
        let attempts = match self.stood {
            Some((since, ..)) if now < since + self.round_trip() + SHRINKS => return,
            Some((_, stood, attempts)) if standing > SHRUNK * stood => attempts + 1,
            _ => 0,
        };
        if attempts < ATTEMPTS {
            self.stood = Some((now, standing, attempts));
            self.on_over(now, sent, received);
        } else {
            self.stood = None;
            self.queue.forget();
        }
    }

    fn is_burst(&self, standing: f64, sent: f64, received: f64) -> bool {
        let is_below = self.limit.is_some_and(|limit| sent.min(self.estimate) < BELOW_LIMIT * limit);
        is_below && has_passed(standing, sent, received)
    }

    fn on_over(&mut self, now: Instant, sent: f64, received: f64) {
        let standing = self.queue.standing_ms();
        // Little that is sent, or a burst that came, tells little of the path: then step by step, or a moment's jitter
        // ends it all.
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
        self.drained = Some(LOWERED * carried);
        // After an outage no hole is left in what is measured.
        let is_resumed = self.resumed.is_some_and(|resumed| now < resumed + RESUMING);
        let least = if is_resumed { 0.0 } else { LEAST_LEFT * self.estimate };
        self.lower(now, lowered.max(least));
    }

    fn on_lost(&mut self, now: Instant, share: f64, received: f64) {
        // What comes is carried, whatever share of all that was sent it is.
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

/// Whether what was sent has come, and no queue is left of it.
fn has_passed(standing: f64, sent: f64, received: f64) -> bool {
    standing < BURST_MS && received > BURST_CAME * sent
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
                // Three packets of 1,200 bytes take 100 ms at 300 kbit/s.
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
    fn what_little_is_sent_does_not_limit_what_is_wanted_later() {
        for (jitter_ms, seed) in [(0, 11), (0, 12), (10, 11), (10, 12)] {
            let mut call = call(Link { jitter_ms, ..LINK }, seed);
            call.demand_bps = 150e3;
            call.run(30_000);
            assert_eq!(call.estimator.estimate_bps(), 1_000_000, "nothing shows that it is less, or more");
            call.demand_bps = 2.5e6;
            let reached = call.reaches(2e6, 5_000);
            assert!(reached.is_some(), "{} with jitter {jitter_ms}, {seed}", call.estimator.estimate_bps());
        }
    }

    #[test]
    fn a_clock_of_the_receiver_that_jumps_costs_nothing() {
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
    fn a_clock_that_jumps_all_the_time_hides_no_loss() {
        let mut call = call(Link { loss: 0.3, ..LINK }, 11);
        for number in 0..100 {
            call.set_ahead(10 * (number % 2));
            call.run(100);
        }
        assert!(call.estimator.estimate_bps() < 500_000, "{}", call.estimator.estimate_bps());
    }

    #[test]
    fn a_queue_that_a_stall_left_is_drained() {
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
    fn nonsense_is_soon_forgotten() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut call = call(LINK, 11);
            call.run(5_000);
            for _ in 0..1_000 {
                call.run(1);
                let mut body: Vec<u8> = (0..random.usize(8..400)).map(|_| random.u8(..)).collect();
                // On few packets, from one of the last on.
                let first = call.next_number().wrapping_sub(random.u16(1..300));
                (body[0], body[1], body[2]) = ((first >> 8) as u8, first as u8, 0);
                call.tell(&body);
            }
            let back = call.reaches(2e6, 12_000);
            assert!(back.is_some(), "{seed}: {}", call.estimator.estimate_bps());
        }
    }

    #[test]
    fn a_bad_moment_while_little_is_sent_does_not_take_all() {
        let mut call = call(LINK, 11);
        call.demand_bps = 150e3;
        call.run(20_000);
        // For a second, others fill the queue.
        for step in 1..=20 {
            call.path.set_delay(25 + 20 * step);
            call.run(50);
        }
        call.path.set_delay(25);
        call.run(5_000);
        let estimate = call.estimator.estimate_bps();
        assert!((300_000..1_000_000).contains(&estimate), "it was seen, and is little: {estimate}");
    }

    #[test]
    fn what_a_lost_message_was_about_counts() {
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
    fn a_hole_in_the_arrivals_does_not_end_it_all() {
        let start = Instant::now();
        let mut estimator = Estimator { estimate: 1e6, queue: Queue::default(), ..Estimator::new(start, 1_000_000) };
        estimator.on_over(start, 1e6, 0.0);
        assert_eq!(estimator.estimate_bps(), 350_000);
    }

    #[test]
    fn a_burst_below_what_the_path_carries_is_no_queue() {
        let limited = |limit| Estimator { limit, ..Estimator::new(Instant::now(), 400_000) };
        for (name, limit, standing, sent, received, expected) in [
            ("a burst", Some(500e3), 2.0, 400e3, 380e3, true),
            ("nothing is known", None, 2.0, 400e3, 380e3, false),
            ("at the limit", Some(410e3), 2.0, 400e3, 380e3, false),
            ("it stands", Some(500e3), 30.0, 400e3, 380e3, false),
            ("less comes than is sent", Some(500e3), 2.0, 400e3, 300e3, false),
        ] {
            assert_eq!(limited(limit).is_burst(standing, sent, received), expected, "{name}");
        }
    }

    #[test]
    fn who_sends_more_than_the_estimate_is_lowered_until_the_queue_is_gone() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start, 430_000);
        // 150 ms that all packets of the last moment met.
        (0..60).for_each(|ms| estimator.queue.push(20_000 * ms, 20_000 * ms + if ms < 30 { 0 } else { 150_000 }));
        let mut steps = Vec::new();
        for cut in 0..4 {
            estimator.on_standing(start + Duration::from_secs(cut), 150.0, 600e3, 500e3);
            steps.push(estimator.estimate_bps() / 1_000);
        }
        assert_eq!(steps, [406, 330, 268, 250], "to half of what comes");
        estimator.on_standing(start + Duration::from_secs(4), 150.0, 260e3, 500e3);
        assert_eq!(estimator.estimate_bps(), 250_000, "it is followed now");
        assert_eq!(estimator.drained, Some(425e3));
    }

    #[test]
    fn jitter_does_not_make_it_collapse() {
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
    fn a_queue_that_was_full_from_the_start_is_drained_and_a_longer_way_is_not_taken_for_one() {
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
    fn a_path_that_lets_bursts_pass_is_not_taken_for_a_wider_one() {
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
    fn loss_beyond_wifi_lowers_it_and_silence_ends_it() {
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
    fn an_outage_takes_nothing_from_the_estimate_however_its_packets_end() {
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
    fn a_path_that_is_narrower_after_an_outage_is_followed() {
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
    fn a_pause_is_no_silence() {
        // Packets each 100 ms for so long, then nothing.
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
    fn a_receivers_own_estimate_counts_until_there_is_feedback() {
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
