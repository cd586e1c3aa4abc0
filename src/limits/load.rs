//! Load: measures how busy the event loop is and decides what to shed, the least important first.
//!
//! At 85 % load or more, one more stage is shed every two seconds. After the load has been below 70 % for a while
//! (`patience`), one stage is restored. If the restored stage brings the overload back, it is shed again, and the wait
//! before the next restoration doubles.

use std::time::{Duration, Instant};

/// Share of busy time at which load is shed. Higher leaves less room for bursts, lower wastes part of the machine.
const HIGH: f64 = 0.85;

/// Share of busy time below which a stage may be restored. Higher flaps, lower sheds for longer than needed.
const LOW: f64 = 0.70;

/// Time constant of the average load. Shorter takes a burst of joins for an overload, longer reacts after calls have
/// suffered.
const MEMORY: Duration = Duration::from_secs(1);

/// Longest time that one measurement counts for: a process that was suspended was not busy meanwhile.
const LONGEST_SAMPLE: Duration = Duration::from_millis(500);

/// Time for a stage to take effect, since layers switch at keyframes. Shorter sheds too much, longer too late.
const STEP: Duration = Duration::from_secs(2);

/// How long the load has to stay low before a stage is restored: initial and maximum value.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_PATIENCE: Duration = Duration::from_secs(160);

/// What is shed. Each stage includes those before it. Sound and chat are never shed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing is shed.
    #[default]
    Nothing,
    /// Cameras are sent in their smallest layer only.
    Layers,
    /// Cameras are not sent unless their publisher is the current speaker or pinned.
    Videos,
    /// New participants are refused.
    Joins,
}

/// The load of one event loop, and the stage that follows from it.
#[derive(Debug)]
pub struct Load {
    stage: Stage,
    /// Share of the time that the loop was busy, averaged over `MEMORY`.
    share: f64,
    measured_at: Instant,
    changed_at: Instant,
    /// When the load last fell below `LOW`; `None` while it is above.
    low_since: Option<Instant>,
    /// When a stage was last restored.
    restored_at: Option<Instant>,
    patience: Duration,
}

impl Load {
    /// Starts with no load.
    pub fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Nothing,
            share: 0.0,
            measured_at: now,
            changed_at: now,
            low_since: None,
            restored_at: None,
            patience: PATIENCE,
        }
    }

    /// Takes the share of time that the loop was busy since the last call. Returns true if the stage changed.
    pub fn handle_share(&mut self, now: Instant, share: f64) -> bool {
        let elapsed = now.saturating_duration_since(self.measured_at).min(LONGEST_SAMPLE);
        self.measured_at = now;
        self.share += (share - self.share) * (1.0 - (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp());
        self.low_since = self.low_since.or(Some(now)).filter(|_| self.share < LOW);
        let low_for = self.low_since.map_or(Duration::ZERO, |since| now - since);
        let stage = if self.share >= HIGH && now >= self.changed_at + STEP {
            self.stage.more()
        } else if low_for >= self.patience {
            self.stage.less()
        } else {
            self.stage
        };
        if stage > self.stage {
            let is_again = self.restored_at.is_some_and(|at| now < at + 2 * self.patience);
            self.patience = if is_again { (2 * self.patience).min(MAX_PATIENCE) } else { self.patience };
        } else if stage < self.stage {
            (self.restored_at, self.low_since) = (Some(now), Some(now));
        } else if stage == Stage::Nothing && low_for >= MAX_PATIENCE {
            self.patience = PATIENCE;
        }
        let has_changed = stage != self.stage;
        if has_changed {
            (self.stage, self.changed_at) = (stage, now);
        }
        has_changed
    }

    /// Returns what is shed now.
    pub fn stage(&self) -> Stage {
        self.stage
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

impl Stage {
    /// Returns the name used in log lines and in `health`.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Nothing => "nothing",
            Stage::Layers => "layers",
            Stage::Videos => "videos",
            Stage::Joins => "joins",
        }
    }

    fn more(self) -> Self {
        match self {
            Stage::Nothing => Stage::Layers,
            Stage::Layers => Stage::Videos,
            Stage::Videos | Stage::Joins => Stage::Joins,
        }
    }

    fn less(self) -> Self {
        match self {
            Stage::Nothing | Stage::Layers => Stage::Nothing,
            Stage::Videos => Stage::Layers,
            Stage::Joins => Stage::Videos,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stage::{Joins, Layers, Nothing, Videos};
    use super::*;

    /// Feeds `(seconds, share)` spans to a new `Load` and returns the stage changes with their second.
    fn stages(shares: &[(u64, f64)]) -> Vec<(u64, Stage)> {
        let start = Instant::now();
        let mut load = Load::new(start);
        let mut changes = Vec::new();
        let mut millis = 0;
        for (seconds, share) in shares {
            for _ in 0..seconds * 4 {
                millis += 250;
                if load.handle_share(start + Duration::from_millis(millis), *share) {
                    changes.push((millis / 1_000, load.stage()));
                }
            }
        }
        changes
    }

    #[test]
    fn stages_are_shed_and_restored() {
        type Row = (&'static [(u64, f64)], &'static [(u64, Stage)]);
        let cases: &[Row] = &[
            (&[(600, 0.84)], &[]),
            (&[(1, 0.3), (1, 1.0), (600, 0.3)], &[]),
            (&[(60, 1.0)], &[(2, Layers), (4, Videos), (6, Joins)]),
            // One stage is enough: it is neither extended nor restored.
            (&[(3, 1.0), (600, 0.75)], &[(2, Layers)]),
            (&[(5, 1.0), (600, 0.71)], &[(2, Layers), (4, Videos)]),
            // Stages are restored one after the other.
            (
                &[(9, 1.0), (600, 0.3)],
                &[(2, Layers), (4, Videos), (6, Joins), (19, Videos), (29, Layers), (39, Nothing)],
            ),
            // Eight seconds of low load are too short for a restoration.
            (&[(3, 1.0), (8, 0.3), (2, 0.8), (8, 0.3), (2, 0.8)], &[(2, Layers)]),
        ];
        for (shares, expected) in cases {
            assert_eq!(stages(shares), *expected, "{shares:?}");
        }
    }

    #[test]
    fn a_stage_restored_too_early_waits_longer_next_time() {
        let start = Instant::now();
        let mut load = Load::new(start);
        // The first stage alone removes the overload.
        let mut changes = Vec::new();
        for quarter in 1..4 * 1_200 {
            let share = if load.stage() == Nothing { 1.0 } else { 0.5 };
            let now = start + Duration::from_millis(250 * quarter);
            if load.handle_share(now, share) && load.stage() == Layers {
                changes.push(now);
            }
        }
        let waits: Vec<u64> = changes.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert!(waits.len() < 12 && waits[0] < 20, "{waits:?}");
        assert!(waits.iter().rev().take(4).all(|wait| *wait > 150), "{waits:?}");
    }

    #[test]
    fn a_suspended_process_does_not_count_as_busy() {
        let start = Instant::now();
        let mut load = Load::new(start);
        for quarter in 1..40 {
            assert!(!load.handle_share(start + Duration::from_millis(250 * quarter), 0.6));
        }
        assert!(!load.handle_share(start + Duration::from_secs(30), 1.0));
        assert_eq!((load.stage(), load.percent()), (Nothing, 76));
    }
}
