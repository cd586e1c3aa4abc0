//! Load: measures how busy the event loop is, and decides when new participants are refused, and when video is shed or
//! restored.
//!
//! New participants are refused first, so that those in a call do not pay for those who join. If the load stays high
//! all the same, video is shed in steps, and restored in steps once the load is low. Sound and chat are never shed.

use std::time::{Duration, Instant};

/// Average load at which new participants are refused, and below which they are admitted again. Refusing joins this early
/// keeps a burst of joins from costing anyone video.
const REFUSE: f64 = 0.85;
const ADMIT: f64 = 0.80;

/// Average load at which shedding of video starts. A higher value leaves less room for bursts; a lower one wastes part of
/// the machine.
const SHED: f64 = 0.92;

/// Average load that shedding aims at, and up to which video is restored.
const TARGET: f64 = 0.82;

/// Average load below which video may be restored. The distance to `TARGET` keeps small steps from alternating.
const RESTORE: f64 = 0.76;

/// At this load the backlog cannot be measured, so a fixed share of the work is shed, `SATURATED_SHED`.
const SATURATED: f64 = 0.97;
const SATURATED_SHED: f64 = 0.25;

/// Smallest share of the work that one step sheds. Smaller steps would take long to end an overload.
const LEAST_SHED: f64 = 0.08;

/// Time constant of the average load. A shorter one mistakes a burst of joins for an overload; a longer one reacts only
/// after calls have suffered.
const MEMORY: Duration = Duration::from_millis(700);

/// Longest time that one measurement counts for: a process that was suspended was not busy meanwhile.
const LONGEST_SAMPLE: Duration = Duration::from_millis(500);

/// How long the average load must stay at or above `SHED` before video is shed; joins are already refused by then. With a
/// shorter time, calls pay for a burst of joins; with a longer one, they suffer from an overload for longer.
const HIGH_FOR: Duration = Duration::from_secs(1);

/// Time for a step to take effect, since publishers have to be asked to stop. With a shorter time too much is shed; with a
/// longer one, too late.
const SHED_STEP: Duration = Duration::from_millis(1_500);

/// Time between two restoring steps, which take effect with the next keyframes. With a shorter time too much is
/// restored at once; with a longer one, video returns late.
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
    struct Simulation {
        now: Instant,
        load: Load,
        shed: f64,
        /// The greatest part that was ever shed, and the number of steps.
        most: f64,
        steps: usize,
    }

    impl Simulation {
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
        let mut simulated = Simulation::new();
        simulated.play(60, 0.84);
        assert_eq!((simulated.load.refuses_joins(), simulated.steps), (false, 0));
        simulated.play(60, 0.91);
        assert_eq!((simulated.load.refuses_joins(), simulated.steps), (true, 0));
        simulated.play(3, 0.7);
        assert_eq!((simulated.load.refuses_joins(), simulated.steps), (false, 0));
        // A burst of joins takes the whole core for a second and a half.
        for _ in 0..6 {
            simulated.now += QUARTER;
            assert_eq!(simulated.load.handle_share(simulated.now, 1.0, false), None);
        }
        assert!(simulated.load.refuses_joins());
    }

    #[test]
    fn no_more_is_shed_than_needed() {
        for demand in [0.95, 1.1, 1.3, 1.6, 2.0] {
            let mut simulated = Simulation::new();
            simulated.play(60, demand);
            let needed = demand - SHED;
            assert!(simulated.shed >= needed - 0.01, "{demand}: shed {}", simulated.shed);
            assert!(simulated.most <= needed + 0.25, "{demand}: shed {} at most", simulated.most);
        }
    }

    #[test]
    fn everything_is_restored_within_three_seconds_after_the_overload() {
        for demand in [0.3, 0.6, 0.8] {
            let mut simulated = Simulation::new();
            simulated.play(30, 1.3);
            assert!(simulated.shed > 0.2);
            let complete = simulated.play(10, demand).expect("everything is restored");
            assert!(complete <= Duration::from_secs(3), "{demand}: after {complete:?}");
            assert_eq!(simulated.shed, 0.0);
        }
    }

    #[test]
    fn a_lasting_overload_does_not_make_pictures_come_and_go() {
        let mut simulated = Simulation::new();
        simulated.play(60, 1.3);
        let before = simulated.steps;
        simulated.play(600, 1.3);
        assert!(simulated.steps - before <= 20, "{} steps in ten minutes", simulated.steps - before);
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
