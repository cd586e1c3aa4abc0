//! Load: measures how busy the event loop is, and decides when new participants are refused, and when video is shed or
//! restored.
//!
//! New participants are refused first, so that those in a call do not pay for those who join. If the load stays high
//! all the same, video is shed in steps, and restored in steps once the load is low. Sound and chat are never shed.

use std::time::{Duration, Instant};

/// Average load from which on new participants are refused, and below which they are admitted again. A burst of joins
/// ends before it costs anybody a picture.
const REFUSE: f64 = 0.85;
const ADMIT: f64 = 0.80;

/// Average load from which on video is shed. Higher leaves less room for bursts, lower wastes part of the machine.
const SHED: f64 = 0.92;

/// Average load that shedding aims at, and up to which video is restored.
const TARGET: f64 = 0.82;

/// Average load below which video may be restored. The distance to `TARGET` keeps small steps from alternating.
const RESTORE: f64 = 0.76;

/// Load from which on the loop is saturated: the work that it does not reach is unknown, so `SATURATED_SHED` is shed.
const SATURATED: f64 = 0.97;
const SATURATED_SHED: f64 = 0.25;

/// Smallest share of the work that one step sheds. Smaller steps would take long to end an overload.
const LEAST_SHED: f64 = 0.08;

/// Time constant of the average load. Shorter takes a burst of joins for an overload, longer reacts after calls have
/// suffered.
const MEMORY: Duration = Duration::from_millis(700);

/// Longest time that one measurement counts for: a process that was suspended was not busy meanwhile.
const LONGEST_SAMPLE: Duration = Duration::from_millis(500);

/// How long the average has to be that high before something is shed: new participants are refused by then. Shorter makes
/// calls pay for a burst of joins, longer lets them suffer from an overload of their own.
const HIGH_FOR: Duration = Duration::from_secs(1);

/// Time for a step to take effect, since publishers have to be asked to stop. Shorter sheds too much, longer too late.
const SHED_STEP: Duration = Duration::from_millis(1_500);

/// Time between two restoring steps, which take effect with the next keyframes. Shorter restores too much at once, longer
/// keeps pictures away although they could be sent.
const RESTORE_STEP: Duration = Duration::from_millis(750);

/// Time after a restoring step within which shedding means that it restored too much: the next one then waits for
/// `FIRST_WAIT`, and twice as long each time, up to `LONGEST_WAIT`.
const TRIAL: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(160);

/// A step to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Shed this share of the present work, from 0 to 1.
    Shed(f64),
    /// Restore work of this share of the core, from 0 to 1.
    Restore(f64),
}

/// The load of one event loop.
#[derive(Debug)]
pub struct Load {
    /// Share of the time that the loop was busy, averaged over `MEMORY`.
    share: f64,
    measured_at: Instant,
    refuses_joins: bool,
    high_since: Option<Instant>,
    shed_at: Option<Instant>,
    restored_at: Option<Instant>,
    /// How long the load has to stay low before the next restoring step, and since when it is low.
    wait: Duration,
    low_since: Option<Instant>,
}

impl Load {
    /// Starts with no load.
    pub fn new(now: Instant) -> Self {
        Self {
            share: 0.0,
            measured_at: now,
            refuses_joins: false,
            high_since: None,
            shed_at: None,
            restored_at: None,
            wait: Duration::ZERO,
            low_since: None,
        }
    }

    /// Takes the share of time that the loop was busy since the last call. Returns the step to take, if any; restoring
    /// steps only while something `is_shed`.
    pub fn handle_share(&mut self, now: Instant, share: f64, is_shed: bool) -> Option<Step> {
        let elapsed = now.saturating_duration_since(self.measured_at).min(LONGEST_SAMPLE);
        self.measured_at = now;
        self.share += (share - self.share) * (1.0 - (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp());
        self.refuses_joins = self.share >= if self.refuses_joins { ADMIT } else { REFUSE };
        self.high_since = self.high_since.or(Some(now)).filter(|_| self.share >= SHED);
        self.low_since = self.low_since.or(Some(now)).filter(|_| self.share < RESTORE);
        let has_passed = |at: Option<Instant>, time| at.is_none_or(|at| now >= at + time);
        let is_high = self.high_since.is_some_and(|since| now >= since + HIGH_FOR);
        if is_high && has_passed(self.shed_at, SHED_STEP) {
            self.handle_shedding(now);
            let excess = (self.share - TARGET) / self.share;
            let least = if self.share >= SATURATED { SATURATED_SHED } else { LEAST_SHED };
            return Some(Step::Shed(excess.max(least)));
        }
        if !is_shed {
            if has_passed(self.shed_at, LONGEST_WAIT) {
                self.wait = Duration::ZERO;
            }
            return None;
        }
        let is_low = self.low_since.is_some_and(|since| now >= since + self.wait);
        if is_low && has_passed(self.shed_at, SHED_STEP) && has_passed(self.restored_at, RESTORE_STEP) {
            self.restored_at = Some(now);
            return Some(Step::Restore(TARGET - self.share));
        }
        None
    }

    /// Notes that video is shed: if that follows a restoring step, the next one waits longer.
    fn handle_shedding(&mut self, now: Instant) {
        self.shed_at = Some(now);
        if self.restored_at.take().is_some_and(|at| now < at + TRIAL) {
            self.wait = (2 * self.wait).clamp(FIRST_WAIT, LONGEST_WAIT);
        }
    }

    /// Whether new participants are refused.
    pub fn refuses_joins(&self) -> bool {
        self.refuses_joins
    }

    /// Returns the average load, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Returns the average load in percent.
    pub fn percent(&self) -> u32 {
        (self.share * 100.0).round() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: Duration = Duration::from_millis(250);

    /// A server whose load is its demand without the shed part, in shares of the core; nothing above one core is done.
    struct Played {
        now: Instant,
        load: Load,
        shed: f64,
        /// The greatest part that was ever shed, and the number of steps.
        most: f64,
        steps: usize,
    }

    impl Played {
        fn new() -> Self {
            let now = Instant::now();
            Self { now, load: Load::new(now), shed: 0.0, most: 0.0, steps: 0 }
        }

        /// Plays a demand, of which sound is 30 %, and returns when nothing was shed any more.
        fn play(&mut self, seconds: u64, demand: f64) -> Option<Duration> {
            let begin = self.now;
            let mut complete = None;
            for _ in 0..seconds * 4 {
                self.now += QUARTER;
                self.shed = self.shed.min(0.7 * demand);
                let share = (demand - self.shed).min(1.0);
                match self.load.handle_share(self.now, share, self.shed > 0.0) {
                    Some(Step::Shed(part)) => self.shed += part * (demand - self.shed),
                    Some(Step::Restore(part)) => self.shed = (self.shed - part).max(0.0),
                    None => continue,
                }
                self.steps += 1;
                self.most = self.most.max(self.shed);
                complete =
                    complete.filter(|_| self.shed > 0.0).or_else(|| (self.shed == 0.0).then(|| self.now - begin));
            }
            complete
        }
    }

    #[test]
    fn joins_are_refused_before_video_is_shed() {
        let mut played = Played::new();
        played.play(60, 0.84);
        assert_eq!((played.load.refuses_joins(), played.steps), (false, 0));
        played.play(60, 0.91);
        assert_eq!((played.load.refuses_joins(), played.steps), (true, 0));
        played.play(3, 0.7);
        assert_eq!((played.load.refuses_joins(), played.steps), (false, 0));
        // A burst of joins takes the whole core for a second and a half.
        for _ in 0..6 {
            played.now += QUARTER;
            assert_eq!(played.load.handle_share(played.now, 1.0, false), None);
        }
        assert!(played.load.refuses_joins());
    }

    #[test]
    fn no_more_is_shed_than_needed() {
        for demand in [0.95, 1.1, 1.3, 1.6, 2.0] {
            let mut played = Played::new();
            played.play(60, demand);
            let needed = demand - SHED;
            assert!(played.shed >= needed - 0.01, "{demand}: shed {}", played.shed);
            assert!(played.most <= needed + 0.25, "{demand}: shed {} at most", played.most);
        }
    }

    #[test]
    fn everything_is_restored_within_three_seconds_after_the_overload() {
        for demand in [0.3, 0.6, 0.8] {
            let mut played = Played::new();
            played.play(30, 1.3);
            assert!(played.shed > 0.2);
            let complete = played.play(10, demand).expect("everything is restored");
            assert!(complete <= Duration::from_secs(3), "{demand}: after {complete:?}");
            assert_eq!(played.shed, 0.0);
        }
    }

    #[test]
    fn a_lasting_overload_does_not_make_pictures_come_and_go() {
        let mut played = Played::new();
        played.play(60, 1.3);
        let before = played.steps;
        played.play(600, 1.3);
        assert!(played.steps - before <= 20, "{} steps in ten minutes", played.steps - before);
    }

    #[test]
    fn a_suspended_process_does_not_count_as_busy() {
        let start = Instant::now();
        let mut load = Load::new(start);
        for quarter in 1..40 {
            assert_eq!(load.handle_share(start + QUARTER * quarter, 0.6, false), None);
        }
        assert_eq!(load.handle_share(start + Duration::from_secs(30), 1.0, false), None);
        assert_eq!(load.percent(), 80);
    }
}
