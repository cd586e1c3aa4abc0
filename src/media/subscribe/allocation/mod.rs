//! Allocation of one subscriber's bandwidth: which grade of each track it gets.
//!
//! A *grade* is one way to send a track: a layer, and how many of its temporal layers. A *wish* is the demand for one
//! track: its grades, and how the page shows it. The *load cap* is how much of the track the server's load allows. A
//! *claim* is a wish of which at least one grade is permitted; it is raised grade by grade while the budget suffices. A
//! *grant* is the result for one wish: a grade or none, and why it is not a better one.
//!
//! Audio is subtracted first. Then every visible video gets its lowest grade before any video gets a better one:
//! screens first, then in the order of the page's priorities, then active speakers. Then the videos on stage are raised
//! to a watchable height, and then all are raised by one step each, round after round, until nothing fits any more. The
//! rest goes to layers that fit only at a reduced picture rate.
//!
//! A step down is immediate, because a queue grows from the first excess packet. A step up requires spare bandwidth.
//! Steps are taken in one fixed order, and a step that was refused has to fit with headroom to be granted again: an
//! estimate that varies by less than the headroom does not make layers flap.

pub mod claim;
pub mod wish;

use smallvec::SmallVec;

use self::claim::{Budget, Claim, HEADROOM};
use self::wish::Wish;
use crate::media::publish::grade::Grade;
use crate::media::subscribe::quality::Limit;

/// Height up to which the videos on stage are raised before any other video takes its second step. A lower value treats
/// all tiles alike; a higher one degrades many tiles for one sharp picture.
const STAGE_HEIGHT: u16 = 360;

/// Factor by which the lowest grade of the first claim may exceed the bandwidth, so that there is a picture when the
/// estimate is too low. A higher factor delays audio behind video that cannot be decoded anyway, a lower one leaves the
/// subscriber without a picture for longer.
const FIRST_EXCESS: u64 = 2;

/// The grade granted to a subscriber for one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Index of the grade; `None` for nothing.
    pub grade: Option<usize>,
    /// Why it is not a better grade.
    pub limit: Limit,
}

/// Sums over all tracks, audio included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Bitrate of the granted grades.
    pub allocated_bps: u64,
    /// Bandwidth that suffices for the best usable grade of every track: the goal of probing.
    pub wanted_bps: u64,
}

/// Grants each wish a grade, in `grants` in the order of `wishes`. `available_bps` is `None` if the bandwidth is not
/// limited.
///
/// The grants do not exceed the bandwidth, except for the lowest grade of the first claim (see `FIRST_EXCESS`). A
/// visible video is refused only if no other gets more than its lowest grade.
pub fn allocate(available_bps: Option<u64>, audio_bps: u64, wishes: &[Wish], grants: &mut Vec<Grant>) -> Totals {
    grants.clear();
    grants.extend(wishes.iter().map(|wish| Grant { grade: None, limit: claim::limit_without_grade(wish) }));
    let mut claims: SmallVec<[Claim; 32]> = SmallVec::new();
    claims.extend(wishes.iter().enumerate().filter_map(|(index, wish)| Claim::new(index, wish)));
    claims.sort_unstable_by_key(Claim::rank);
    let bound_bps = available_bps.map_or(u64::MAX, |available| available.saturating_sub(audio_bps));
    let mut budget = Budget { bound_bps, spent_bps: 0 };
    let mut all_have_grades = true;
    for (order, claim) in claims.iter_mut().enumerate() {
        let excess = if order == 0 { FIRST_EXCESS } else { 1 };
        all_have_grades &= claim.climb(&mut budget, excess);
    }
    if all_have_grades {
        let top_priority = claims.iter().map(|claim| claim.wish.priority).max();
        let has_screen = claims.iter().any(|claim| claim.wish.is_screen);
        // Next to a screen, cameras of priority 0 are thumbnails, not on stage.
        let top_priority = top_priority.filter(|top_priority| *top_priority > 0 || !has_screen);
        let is_on_stage = |claim: &Claim| claim.wish.is_screen || Some(claim.wish.priority) == top_priority;
        climb_in_turns(&mut claims, &mut budget, |claim, next| is_on_stage(claim) && next.height <= STAGE_HEIGHT);
        climb_in_turns(&mut claims, &mut budget, |_, _| true);
        claims.iter_mut().for_each(|claim| claim.climb_thinned(&mut budget));
    }
    let mut wanted_bps = 0;
    for claim in &claims {
        grants[claim.index] = Grant { grade: claim.granted, limit: claim.limit() };
        wanted_bps += claim.cost_bps(claim.best);
    }
    Totals {
        allocated_bps: audio_bps + budget.spent_bps,
        wanted_bps: audio_bps + wanted_bps + wanted_bps.div_ceil(HEADROOM),
    }
}

/// Raises each claim by one step, in order, until no further step fits.
fn climb_in_turns(claims: &mut [Claim], budget: &mut Budget, may_climb: impl Fn(&Claim, &Grade) -> bool) {
    let mut has_progressed = true;
    while has_progressed {
        has_progressed = false;
        for claim in claims.iter_mut() {
            let may_climb = claim.next().is_some_and(|next| may_climb(claim, &claim.wish.grades[next]));
            has_progressed |= may_climb && claim.climb(budget, 1);
        }
    }
}

#[cfg(test)]
mod tests;
