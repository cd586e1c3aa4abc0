//! Load: how busy the loop is, and so what is not done any more, the least important first.
//!
//! From 85 % on one stage more is given up every two seconds, as long as that lasts; when the load has been below 70 %
//! for a while, one comes back. What was given up may be what the load was made of: whoever takes it back too early
//! gives it up again, so each time that happens the while is twice as long.

use std::time::{Duration, Instant};

/// Share of the time above which something has to be given up. Higher leaves less for what comes in bursts, lower wastes a
/// part of the machine.
const HIGH: f64 = 0.85;

/// Share of the time below which something may come back. Higher flaps, lower gives up for longer than needed.
const LOW: f64 = 0.70;

/// How fast what was before is forgotten. Shorter takes a burst of joins for the load, longer lets calls suffer.
const MEMORY: Duration = Duration::from_secs(1);

/// The most that one look counts for: a process that was stopped for a while was not busy.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// Time for a stage to work: layers change at keyframes. Shorter gives up too much, longer too late.
const STEP: Duration = Duration::from_secs(2);

/// For how long there is little to do before a stage comes back, at first and at most.
const PATIENCE: Duration = Duration::from_secs(10);
const MAX_PATIENCE: Duration = Duration::from_secs(160);

/// What is given up; each includes those before it. Sound and chat never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing.
    #[default]
    Nothing,
    /// Cameras come in their smallest layer only.
    Layers,
    /// Cameras of those who are neither speaking nor pinned are not sent.
    Videos,
    /// Nobody new comes in.
    Joins,
}

/// The load of one loop.
#[derive(Debug)]
pub struct Load {
    stage: Stage,
    /// Share of the time in which the loop did something, of the last moments.
    share: f64,
    looked_at: Instant,
    changed_at: Instant,
    /// Since when there is little to do.
    calm_since: Option<Instant>,
    /// When a stage last came back.
    relieved_at: Option<Instant>,
    patience: Duration,
}

impl Load {
    /// Nothing to do yet.
    pub fn new(now: Instant) -> Self {
        Self {
            stage: Stage::Nothing,
            share: 0.0,
            looked_at: now,
            changed_at: now,
            calm_since: None,
            relieved_at: None,
            patience: PATIENCE,
        }
    }

    /// The loop did something for this share of the time since it was last told. Says whether something else is given up
    /// from now on.
    pub fn handle_share(&mut self, now: Instant, share: f64) -> bool {
        let elapsed = now.saturating_duration_since(self.looked_at).min(LONGEST_LOOK);
        self.looked_at = now;
        self.share += (share - self.share) * (1.0 - (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp());
        self.calm_since = self.calm_since.or(Some(now)).filter(|_| self.share < LOW);
        let calm_for = self.calm_since.map_or(Duration::ZERO, |since| now - since);
        let stage = if self.share >= HIGH && now >= self.changed_at + STEP {
            self.stage.more()
        } else if calm_for >= self.patience {
            self.stage.less()
        } else {
            self.stage
        };
        if stage > self.stage {
            let is_again = self.relieved_at.is_some_and(|at| now < at + 2 * self.patience);
            self.patience = if is_again { (2 * self.patience).min(MAX_PATIENCE) } else { self.patience };
        } else if stage < self.stage {
            (self.relieved_at, self.calm_since) = (Some(now), Some(now));
        } else if stage == Stage::Nothing && calm_for >= MAX_PATIENCE {
            self.patience = PATIENCE;
        }
        let has_changed = stage != self.stage;
        if has_changed {
            (self.stage, self.changed_at) = (stage, now);
        }
        has_changed
    }

    /// What is given up now.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The same share of the last moments, in percent.
    pub fn percent(&self) -> u32 {
        (self.share * 100.0).round() as u32
    }
}

impl Stage {
    /// As it is told.
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

    /// The stages, with the second in which each began; `shares` are for so many seconds each.
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
    fn what_is_given_up_and_comes_back() {
        type Row = (&'static [(u64, f64)], &'static [(u64, Stage)]);
        let cases: &[Row] = &[
            (&[(600, 0.84)], &[]),
            (&[(1, 0.3), (1, 1.0), (600, 0.3)], &[]),
            (&[(60, 1.0)], &[(2, Layers), (4, Videos), (6, Joins)]),
            // Enough was given up: it stays.
            (&[(3, 1.0), (600, 0.75)], &[(2, Layers)]),
            (&[(5, 1.0), (600, 0.71)], &[(2, Layers), (4, Videos)]),
            // One after the other comes back.
            (
                &[(9, 1.0), (600, 0.3)],
                &[(2, Layers), (4, Videos), (6, Joins), (19, Videos), (29, Layers), (39, Nothing)],
            ),
            // A moment of calm is none.
            (&[(3, 1.0), (8, 0.3), (2, 0.8), (8, 0.3), (2, 0.8)], &[(2, Layers)]),
        ];
        for (shares, expected) in cases {
            assert_eq!(stages(shares), *expected, "{shares:?}");
        }
    }

    #[test]
    fn what_comes_back_too_early_comes_back_later_next_time() {
        let start = Instant::now();
        let mut load = Load::new(start);
        // All that is given up is all that there is to do.
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
    fn who_was_stopped_was_not_busy() {
        let start = Instant::now();
        let mut load = Load::new(start);
        for quarter in 1..40 {
            assert!(!load.handle_share(start + Duration::from_millis(250 * quarter), 0.6));
        }
        assert!(!load.handle_share(start + Duration::from_secs(30), 1.0));
        assert_eq!((load.stage(), load.percent()), (Nothing, 76));
    }
}
