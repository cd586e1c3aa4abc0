//! An allocation is what one subscriber's bandwidth is spent on: a grade of each track that its page shows.
//!
//! Sound comes first and is not bargained for. Then everybody is seen at all, before anybody is seen better: screens
//! first, then by what the page says is important, then who speaks. Then those on stage become watchable, and then one
//! step each is granted, round after round, until nothing fits any more. What is left then goes to layers that do not fit
//! with all their pictures.
//!
//! A step down is taken at once, since a queue grows from the first packet that is too much. A step up waits until
//! there is more than it needs. The walk is over one fixed order of steps, and a step that was refused has to fit with
//! headroom to come back: so an estimate that sways by less than the headroom moves no layer to and fro.

use std::cmp::Reverse;

use smallvec::SmallVec;

/// What has to be left over, as a part of all that is spent, when something is granted that was not before: a fifth,
/// so an estimate or a bitrate may sway by 8 % around any value. Less flaps, and each switch costs a keyframe; more
/// leaves more unused.
const HEADROOM: u64 = 5;

/// The same of a step that only adds pictures to a layer that is sent already. It costs no keyframe, so it may come
/// and go: more leaves unused what would make a thinned picture smooth, less follows each sway.
const HEADROOM_OF_PICTURES: u64 = 20;

/// A grade is enough for a tile with at least this part of its lines. Less looks blurred; more sends what is scaled
/// away again: a tile of 300 lines gets 360 and not 720, which costs three times as much.
const ENOUGH: (u32, u32) = (3, 4);

/// Lines up to which those on stage go before anybody else takes a second step. Lower treats all tiles alike; higher
/// pays for one sharp picture with many that are not.
const STAGE_HEIGHT: u16 = 360;

/// The first in order may take so many times what there is, so that there is a picture where the estimate is too
/// careful. More delays sound behind video that will not be decoded anyway, less shows nothing too early.
const FIRST_EXCESS: u64 = 2;

/// What a layer is believed to need before it has been measured: about what browsers send of 180, 360 and 720 lines.
/// Higher takes from others for a moment, lower overloads for one.
const ASSUMED_BPS: [u64; 3] = [150_000, 500_000, 1_700_000];

/// The same of a track that has one layer only, which grows from little to anything.
const ASSUMED_ALONE_BPS: u64 = 200_000;

/// One way in which a track can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grade {
    /// Simulcast or spatial layer, the smallest is 0.
    pub layer: u8,
    /// The highest temporal layer that is sent with it.
    pub temporal: u8,
    /// As measured, of all that is sent for this grade; 0 if it is not known yet.
    pub bitrate_bps: u64,
    /// Lines of the picture; 0 if they are not known, which no view bounds.
    pub height: u16,
}

/// What a subscriber could use of one track.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What the publisher sends, or would if somebody wanted it, in the order of layer and temporal layer.
    pub grades: &'a [Grade],
    /// Device pixels of the tile from top to bottom, 0 if it is not seen; `None` if the page does not tell.
    pub height: Option<u32>,
    /// Higher is more important; the highest of all is on stage, where a screen is only if that is not 0.
    pub priority: u32,
    /// Text: resolution matters more than motion. Always on stage.
    pub is_screen: bool,
    /// Somebody is heard with it.
    pub speaks: bool,
    /// What the server can do for it.
    pub means: Means,
    /// There are layers of which the publisher was told that nobody wants them.
    pub has_more: bool,
    /// The grade that was granted last.
    pub current: Option<usize>,
}

/// What the server can do for one track of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Whatever is wanted.
    All,
    /// The smallest layer of a camera; of a screen, which has to be read, the fewest pictures.
    Least,
    /// Not send it.
    Nothing,
}

/// Why nothing better is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// There is nothing better.
    None,
    /// The view could not use it.
    View,
    /// It did not fit.
    Bandwidth,
    /// The view could use more than the publisher sends.
    Publisher,
    /// The server has too much to do.
    Server,
    /// What is granted can't begin before a keyframe. Not of a grant.
    Keyframe,
    /// The subscriber does not take the codec. Not of a grant.
    Codec,
    /// The publisher sends packets that are too large to be forwarded. Not of a grant.
    Oversized,
}

/// What a subscriber gets of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Index of the grade; `None` for nothing.
    pub grade: Option<usize>,
    /// Why not a better one.
    pub limit: Limit,
}

/// The quality that a grant allows a subscriber, or that is reported to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Anything is sent.
    pub is_sent: bool,
    /// Index of the layer, where there are several.
    pub layer: Option<u8>,
    /// Lines of the picture; 0 if they are not known.
    pub height: u16,
    /// Why not a better one.
    pub limit: Limit,
}

/// What it comes to, sound included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// What is granted.
    pub allocated_bps: u64,
    /// The bandwidth with which everybody would get what their view can use: the goal of probing.
    pub wanted_bps: u64,
}

/// Grants each wish a grade; `grants` are then in the order of `wishes`. `available_bps` is `None` if nothing bounds it.
///
/// No more is granted than is available, but for the lowest grade of the first in order (see `FIRST_EXCESS`). Nobody
/// who could be shown gets nothing while somebody gets more than their lowest grade.
pub fn allocate(available_bps: Option<u64>, audio_bps: u64, wishes: &[Wish], grants: &mut Vec<Grant>) -> Totals {
    grants.clear();
    grants.extend(wishes.iter().map(|wish| {
        let limit = match (wish.height, wish.means) {
            (Some(0), _) => Limit::View,
            (_, Means::Nothing) => Limit::Server,
            _ => Limit::Publisher,
        };
        Grant { grade: None, limit }
    }));
    let mut claims: SmallVec<[Claim; 32]> = SmallVec::new();
    claims.extend(wishes.iter().enumerate().filter_map(|(index, wish)| Claim::new(index, wish)));
    claims.sort_unstable_by_key(Claim::rank);
    let bound_bps = available_bps.map_or(u64::MAX, |available| available.saturating_sub(audio_bps));
    let mut budget = Budget { bound_bps, spent_bps: 0 };
    let mut are_all_seen = true;
    for (order, claim) in claims.iter_mut().enumerate() {
        let excess = if order == 0 { FIRST_EXCESS } else { 1 };
        are_all_seen &= claim.climb(&mut budget, excess);
    }
    if are_all_seen {
        let top = claims.iter().map(|claim| claim.wish.priority).max();
        let has_screen = claims.iter().any(|claim| claim.wish.is_screen);
        // Beside a screen, tiles that are all alike are thumbnails.
        let top = top.filter(|top| *top > 0 || !has_screen);
        let is_on_stage = |claim: &Claim| claim.wish.is_screen || Some(claim.wish.priority) == top;
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

/// One step each, in order, until nobody gets further.
fn climb_in_turns(claims: &mut [Claim], budget: &mut Budget, may_climb: impl Fn(&Claim, &Grade) -> bool) {
    let mut is_progress = true;
    while is_progress {
        is_progress = false;
        for claim in claims.iter_mut() {
            let may_climb = claim.next().is_some_and(|next| may_climb(claim, &claim.wish.grades[next]));
            is_progress |= may_climb && claim.climb(budget, 1);
        }
    }
}

/// Whether a picture of so many lines is all that a tile can use; never if they are not known.
pub fn is_enough(height: u16, tile: u32) -> bool {
    let (lines, of) = ENOUGH;
    height > 0 && u32::from(height).saturating_mul(of) >= tile.saturating_mul(lines)
}

/// What can be spent on video.
struct Budget {
    bound_bps: u64,
    spent_bps: u64,
}

impl Budget {
    /// Spends it if it fits and leaves over one part in `headroom`; `excess` is how many times the bound it may then be.
    fn spend(&mut self, extra_bps: u64, headroom: Option<u64>, excess: u64) -> bool {
        let spent_bps = self.spent_bps + extra_bps;
        let needed_bps = spent_bps + headroom.map_or(0, |part| spent_bps.div_ceil(part));
        let fits = needed_bps <= self.bound_bps.saturating_mul(excess);
        if fits {
            self.spent_bps = spent_bps;
        }
        fits
    }
}

/// A wish that can be granted something, on its way from nothing to the best that its view can use.
///
/// Not every grade is a step of it. A camera goes up by resolution with all its pictures, since half of the pictures look
/// worse than half of the lines. It thins them out below its lowest layer, and where nothing else is left to spend the rest
/// of the bandwidth on. A screen does so in its best layer, and
/// loses its resolution only after that: a text that can't be read is nothing, however smooth.
struct Claim<'a> {
    index: usize,
    wish: &'a Wish<'a>,
    best: usize,
    /// The view could use a better one than the server has means for.
    is_cut: bool,
    granted: Option<usize>,
}

impl<'a> Claim<'a> {
    fn new(index: usize, wish: &'a Wish<'a>) -> Option<Self> {
        let is_sent = wish.height != Some(0) && wish.means != Means::Nothing;
        let last = wish.grades.len().checked_sub(1).filter(|_| is_sent)?;
        let mut claim = Self { index, wish, best: last, is_cut: false, granted: None };
        claim.best = (0..last).find(|at| claim.ends_layer(*at) && claim.is_enough(*at)).unwrap_or(last);
        if wish.means == Means::Least {
            let layer = if wish.is_screen { wish.grades[claim.best].layer } else { wish.grades[0].layer };
            let is_least = |at: &usize| match wish.is_screen {
                true => wish.grades[*at].layer == layer,
                false => claim.ends_layer(*at),
            };
            let least = (0..=claim.best).find(is_least).unwrap_or(claim.best);
            claim.is_cut = least < claim.best;
            claim.best = least;
        }
        Some(claim)
    }

    /// Takes the next step if there is one and it fits.
    fn climb(&mut self, budget: &mut Budget, excess: u64) -> bool {
        self.next().is_some_and(|next| self.take(next, budget, excess))
    }

    /// Takes the next layer with fewer pictures, if it fits.
    fn climb_thinned(&mut self, budget: &mut Budget) {
        let (Some(granted), Some(whole)) = (self.granted, self.next()) else { return };
        let thinned = whole - 1;
        if thinned > granted && self.ends_layer(granted) {
            self.take(thinned, budget, 1);
        }
    }

    fn take(&mut self, next: usize, budget: &mut Budget, excess: u64) -> bool {
        let extra_bps = self.cost_bps(next) - self.granted.map_or(0, |granted| self.cost_bps(granted));
        let grades = self.wish.grades;
        let headroom = match self.wish.current {
            Some(current) if next <= current => None,
            Some(current) if grades.get(current).is_some_and(|grade| grade.layer == grades[next].layer) => {
                Some(HEADROOM_OF_PICTURES)
            }
            _ => Some(HEADROOM),
        };
        let fits = budget.spend(extra_bps, headroom, excess);
        if fits {
            self.granted = Some(next);
        }
        fits
    }

    fn rank(&self) -> impl Ord + use<> {
        let Wish { is_screen, priority, speaks, .. } = *self.wish;
        (Reverse((is_screen, priority, speaks)), self.index)
    }

    fn next(&self) -> Option<usize> {
        let above = self.granted.map_or(0, |granted| granted + 1);
        (above..=self.best).find(|at| self.is_step(*at))
    }

    fn is_step(&self, at: usize) -> bool {
        let grades = self.wish.grades;
        match self.wish.is_screen {
            true => grades[at].layer == grades[self.best].layer || self.begins_layer(at),
            false => grades[at].layer == grades[0].layer || self.ends_layer(at),
        }
    }

    /// A grade that measures less than one below it is measured in a quiet moment, or has just begun.
    fn cost_bps(&self, grade: usize) -> u64 {
        (0..=grade).filter(|at| self.is_step(*at) || *at == grade).map(|at| self.bitrate_bps(at)).max().unwrap_or(0)
    }

    fn bitrate_bps(&self, at: usize) -> u64 {
        let grades = self.wish.grades;
        let has_layers = grades[0].layer != grades[grades.len() - 1].layer;
        match grades[at].bitrate_bps {
            0 if has_layers => ASSUMED_BPS[usize::from(grades[at].layer).min(ASSUMED_BPS.len() - 1)],
            0 => ASSUMED_ALONE_BPS,
            measured => measured,
        }
    }

    /// With all temporal layers.
    fn ends_layer(&self, at: usize) -> bool {
        let grades = self.wish.grades;
        grades.get(at + 1).is_none_or(|next| next.layer != grades[at].layer)
    }

    /// With the fewest.
    fn begins_layer(&self, at: usize) -> bool {
        let grades = self.wish.grades;
        at == 0 || grades[at - 1].layer != grades[at].layer
    }

    fn is_enough(&self, at: usize) -> bool {
        self.wish.height.is_some_and(|tile| is_enough(self.wish.grades[at].height, tile))
    }

    fn limit(&self) -> Limit {
        let is_last = self.best + 1 == self.wish.grades.len();
        let is_told = self.wish.height.is_some() && self.wish.grades[self.best].height > 0;
        match self.granted == Some(self.best) {
            false => Limit::Bandwidth,
            true if self.is_cut => Limit::Server,
            true if !is_last => Limit::View,
            true if self.wish.means == Means::Least && self.wish.has_more && !self.is_enough(self.best) => {
                Limit::Server
            }
            true if is_told && !self.is_enough(self.best) => Limit::Publisher,
            true => Limit::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::media::inputs;

    const fn grade(layer: u8, temporal: u8, kbps: u64, height: u16) -> Grade {
        Grade { layer, temporal, bitrate_bps: kbps * 1_000, height }
    }

    const CAMERA: &[Grade] = &[grade(0, 0, 150, 180), grade(1, 0, 500, 360), grade(2, 0, 1_700, 720)];
    const ALONE: &[Grade] = &[grade(0, 0, 1_700, 720)];
    const NEW: &[Grade] = &[grade(0, 0, 0, 180), grade(1, 0, 0, 360), grade(2, 0, 0, 720)];
    const TEMPORAL: &[Grade] = &[
        grade(0, 0, 60, 180),
        grade(0, 1, 90, 180),
        grade(0, 2, 150, 180),
        grade(1, 0, 200, 360),
        grade(1, 1, 300, 360),
        grade(1, 2, 500, 360),
    ];
    const SCREEN: &[Grade] = &[grade(0, 0, 500, 1_080), grade(0, 1, 900, 1_080), grade(0, 2, 1_500, 1_080)];
    const LAYERED_SCREEN: &[Grade] = &[
        grade(0, 0, 200, 540),
        grade(0, 1, 400, 540),
        grade(1, 0, 500, 1_080),
        grade(1, 1, 900, 1_080),
        grade(1, 2, 1_500, 1_080),
    ];

    fn tile(grades: &[Grade], height: u32) -> Wish<'_> {
        Wish {
            grades,
            height: Some(height),
            priority: 0,
            is_screen: false,
            speaks: false,
            means: Means::All,
            has_more: false,
            current: None,
        }
    }

    fn screen(grades: &[Grade]) -> Wish<'_> {
        Wish { is_screen: true, ..tile(grades, 1_080) }
    }

    fn stage(height: u32) -> Wish<'static> {
        Wish { priority: 1, ..tile(CAMERA, height) }
    }

    fn speaker(height: u32) -> Wish<'static> {
        Wish { speaks: true, ..tile(CAMERA, height) }
    }

    fn kept(wish: Wish<'_>, current: usize) -> Wish<'_> {
        Wish { current: Some(current), ..wish }
    }

    /// Grades with `kbps` of bandwidth and 40 of sound; -1 is nothing.
    fn grades(kbps: u64, wishes: &[Wish]) -> Vec<i32> {
        let mut grants = Vec::new();
        allocate(Some(kbps * 1_000), 40_000, wishes, &mut grants);
        grants.iter().map(|grant| grant.grade.map_or(-1, |grade| grade as i32)).collect()
    }

    #[test]
    fn a_view_gets_the_smallest_grade_that_is_enough_for_it() {
        let untold = Wish { height: None, ..tile(CAMERA, 0) };
        let unmeasured = [grade(0, 0, 0, 0), grade(1, 0, 0, 0)];
        let cases: &[(Wish, Option<usize>, Limit)] = &[
            (tile(CAMERA, 0), None, Limit::View),
            (tile(CAMERA, 1), Some(0), Limit::View),
            (tile(CAMERA, 240), Some(0), Limit::View),
            (tile(CAMERA, 241), Some(1), Limit::View),
            (tile(CAMERA, 300), Some(1), Limit::View),
            (tile(CAMERA, 480), Some(1), Limit::View),
            (tile(CAMERA, 481), Some(2), Limit::None),
            (tile(CAMERA, 960), Some(2), Limit::None),
            (tile(CAMERA, 961), Some(2), Limit::Publisher),
            (tile(CAMERA, u32::MAX), Some(2), Limit::Publisher),
            (untold, Some(2), Limit::None),
            (tile(ALONE, 100), Some(0), Limit::None),
            (tile(TEMPORAL, 200), Some(2), Limit::View),
            (tile(TEMPORAL, 300), Some(5), Limit::None),
            (tile(&unmeasured, 100), Some(1), Limit::None),
            (tile(&[], 100), None, Limit::Publisher),
            (screen(SCREEN), Some(2), Limit::None),
        ];
        let mut grants = Vec::new();
        for (wish, grade, limit) in cases {
            let totals = allocate(None, 40_000, &[*wish], &mut grants);
            assert_eq!(grants, [Grant { grade: *grade, limit: *limit }], "{wish:?}");
            let cost = totals.allocated_bps - 40_000;
            assert_eq!(totals.wanted_bps, 40_000 + cost + cost / 5, "{wish:?}");
        }
    }

    #[test]
    fn what_there_is_goes_to_everybody_first_then_to_the_stage_then_around() {
        let nine: Vec<Wish> = [vec![screen(SCREEN)], vec![tile(CAMERA, 150); 9]].concat();
        let cases: &[(u64, &[Wish], &[i32])] = &[
            // One camera: a fifth more than it takes, and 40 for sound.
            (9_000, &[tile(CAMERA, 720)], &[2]),
            (2_080, &[tile(CAMERA, 720)], &[2]),
            (2_079, &[tile(CAMERA, 720)], &[1]),
            (640, &[tile(CAMERA, 720)], &[1]),
            (639, &[tile(CAMERA, 720)], &[0]),
            // The first gets its lowest from half of what it needs.
            (130, &[tile(CAMERA, 720)], &[0]),
            (129, &[tile(CAMERA, 720)], &[-1]),
            (0, &[tile(CAMERA, 720)], &[-1]),
            (130, &[tile(CAMERA, 720), stage(720)], &[-1, 0]),
            (130, &[tile(CAMERA, 720), speaker(720)], &[-1, 0]),
            (1_060, &[tile(ALONE, 720)], &[0]),
            (1_059, &[tile(ALONE, 720)], &[-1]),
            // Everybody is seen before anybody is seen better.
            (400, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[0, 0]),
            (399, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[0, -1]),
            (820, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[1, 0]),
            (819, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[0, 0]),
            (1_240, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[1, 1]),
            (2_680, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[2, 1]),
            (820, &[tile(CAMERA, 720), speaker(720)], &[0, 1]),
            // What does not fit does not keep a smaller step from being taken.
            (1_240, &[stage(720), tile(CAMERA, 360), tile(CAMERA, 100)], &[1, 0, 0]),
            (1_420, &[stage(720), tile(CAMERA, 360), tile(CAMERA, 100)], &[1, 1, 0]),
            // The stage first, then one step each, by priority.
            (820, &[tile(CAMERA, 720), stage(720)], &[0, 1]),
            (2_680, &[tile(CAMERA, 720), stage(720)], &[1, 2]),
            (2_260, &[tile(CAMERA, 150), stage(720)], &[0, 2]),
            (2_259, &[tile(CAMERA, 150), stage(720)], &[0, 1]),
            // A screen goes before thumbnails, even before the stage, and thins out its pictures first.
            (700, &[tile(CAMERA, 150), screen(SCREEN)], &[-1, 0]),
            (820, &[tile(CAMERA, 150), screen(SCREEN)], &[0, 0]),
            (1_300, &[tile(CAMERA, 150), screen(SCREEN)], &[0, 1]),
            (2_020, &[tile(CAMERA, 150), screen(SCREEN)], &[0, 2]),
            (820, &[stage(720), screen(SCREEN)], &[0, 0]),
            (1_240, &[stage(720), screen(SCREEN)], &[1, 0]),
            // Who has no priority is not beside it.
            (1_300, &[tile(CAMERA, 720), screen(SCREEN)], &[0, 1]),
            (2_440, &[tile(CAMERA, 720), screen(SCREEN)], &[1, 2]),
            (9_000, &[screen(LAYERED_SCREEN)], &[4]),
            (1_120, &[screen(LAYERED_SCREEN)], &[3]),
            (640, &[screen(LAYERED_SCREEN)], &[2]),
            (639, &[screen(LAYERED_SCREEN)], &[0]),
            // A camera thins them out in its lowest layer, and in the next one where nothing else fits.
            (9_000, &[tile(TEMPORAL, 300)], &[5]),
            (639, &[tile(TEMPORAL, 300)], &[4]),
            (400, &[tile(TEMPORAL, 300)], &[4]),
            (399, &[tile(TEMPORAL, 300)], &[2]),
            (580, &[tile(TEMPORAL, 300), tile(TEMPORAL, 300)], &[4, 2]),
            (759, &[tile(TEMPORAL, 300), tile(TEMPORAL, 300)], &[4, 2]),
            (760, &[tile(TEMPORAL, 300), tile(TEMPORAL, 300)], &[4, 4]),
            (820, &[tile(TEMPORAL, 300), tile(TEMPORAL, 300)], &[5, 2]),
            (1_000, &[tile(TEMPORAL, 300), tile(TEMPORAL, 300)], &[5, 4]),
            (219, &[tile(TEMPORAL, 300)], &[1]),
            (147, &[tile(TEMPORAL, 300)], &[0]),
            (184, &[tile(TEMPORAL, 300), tile(TEMPORAL, 300)], &[0, 0]),
            (220, &[tile(TEMPORAL, 300), tile(TEMPORAL, 300)], &[1, 0]),
            // What has not been measured is believed to need what is usual.
            (639, &[tile(NEW, 720)], &[0]),
            (640, &[tile(NEW, 720)], &[1]),
            (2_080, &[tile(NEW, 720)], &[2]),
            // Nine thumbnails and a screen.
            (4_000, &nine, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (2_740, &nine, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (2_739, &nine, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (2_259, &nine, &[0, 0, 0, 0, 0, 0, 0, 0, 0, -1]),
            (1_000, &nine, &[0, 0, 0, -1, -1, -1, -1, -1, -1, -1]),
            (300, &nine, &[-1, 0, -1, -1, -1, -1, -1, -1, -1, -1]),
            (340, &nine, &[0, -1, -1, -1, -1, -1, -1, -1, -1, -1]),
            (40, &nine, &[-1; 10]),
            // Nobody, or nobody who is shown.
            (1_000, &[], &[]),
            (1_000, &[tile(CAMERA, 0), tile(&[], 100), tile(CAMERA, 100)], &[-1, -1, 0]),
        ];
        for (kbps, wishes, expected) in cases {
            assert_eq!(grades(*kbps, wishes), *expected, "{kbps} kbps for {wishes:?}");
        }
    }

    #[test]
    fn who_does_not_get_what_their_view_can_use_is_told_that_it_does_not_fit() {
        let mut grants = Vec::new();
        let totals = allocate(Some(500_000), 40_000, &[stage(720), tile(CAMERA, 150)], &mut grants);
        let limits: Vec<_> = grants.iter().map(|grant| grant.limit).collect();
        assert_eq!(limits, [Limit::Bandwidth, Limit::View]);
        assert_eq!(totals, Totals { allocated_bps: 340_000, wanted_bps: 2_260_000 });
        // With what is wanted everybody gets it, and with less they do not.
        for (available, limit) in [(2_260_000, Limit::None), (2_259_999, Limit::Bandwidth)] {
            allocate(Some(available), 40_000, &[stage(720), tile(CAMERA, 150)], &mut grants);
            assert_eq!(grants[0].limit, limit);
        }
    }

    #[test]
    fn what_the_server_has_no_means_for_is_not_granted() {
        let with = |wish: Wish<'static>, means| Wish { means, ..wish };
        let cases: &[(Wish, Means, i32, Limit)] = &[
            (tile(CAMERA, 720), Means::All, 2, Limit::None),
            (tile(CAMERA, 720), Means::Least, 0, Limit::Server),
            (tile(CAMERA, 150), Means::Least, 0, Limit::View),
            (tile(TEMPORAL, 720), Means::Least, 2, Limit::Server),
            (tile(ALONE, 720), Means::Least, 0, Limit::None),
            (screen(SCREEN), Means::Least, 0, Limit::Server),
            (screen(LAYERED_SCREEN), Means::Least, 2, Limit::Server),
            (tile(CAMERA, 720), Means::Nothing, -1, Limit::Server),
            (Wish { has_more: true, ..tile(&CAMERA[..1], 720) }, Means::Least, 0, Limit::Server),
            (Wish { has_more: true, ..tile(&CAMERA[..1], 150) }, Means::Least, 0, Limit::None),
            (tile(&CAMERA[..1], 720), Means::Least, 0, Limit::Publisher),
            (tile(CAMERA, 0), Means::Nothing, -1, Limit::View),
            (tile(&[], 720), Means::Nothing, -1, Limit::Server),
        ];
        let mut grants = Vec::new();
        for (wish, means, grade, limit) in cases {
            let wishes = [with(*wish, *means), tile(CAMERA, 360)];
            let totals = allocate(Some(9_000_000), 0, &wishes, &mut grants);
            let grant = Grant { grade: usize::try_from(*grade).ok(), limit: *limit };
            assert_eq!(grants[0], grant, "{wish:?} {means:?}");
            assert_eq!(grants[1].grade, Some(1), "nobody else loses anything");
            // What is not granted is no goal of probing.
            let spent =
                grants.iter().zip(&wishes).filter_map(|(grant, wish)| Some(wish.grades[grant.grade?].bitrate_bps));
            assert_eq!(totals.wanted_bps, spent.clone().sum::<u64>() + spent.sum::<u64>().div_ceil(HEADROOM));
        }
        // Too little bandwidth is the nearer cause.
        allocate(Some(100_000), 40_000, &[tile(CAMERA, 100), with(tile(CAMERA, 720), Means::Least)], &mut grants);
        assert_eq!(grants[1].limit, Limit::Bandwidth);
    }

    #[test]
    fn a_step_up_waits_for_headroom_and_a_step_down_does_not() {
        let two = |current| [kept(stage(720), current), kept(tile(CAMERA, 150), 0)];
        let cases: &[(u64, usize, i32)] = &[
            (1_890, 2, 2),
            (1_889, 2, 1),
            (2_259, 1, 1),
            (2_260, 1, 2),
            (690, 1, 1),
            (689, 1, 0),
            (819, 0, 0),
            (820, 0, 1),
            (340, 0, 0),
            // A smaller tile takes less, whatever it had.
            (9_000, 2, 2),
        ];
        for (kbps, current, expected) in cases {
            assert_eq!(grades(*kbps, &two(*current)), [*expected, 0], "{kbps} kbps with grade {current}");
        }
        assert_eq!(grades(9_000, &[kept(tile(CAMERA, 150), 2)]), [0]);
        assert_eq!(grades(9_000, &[kept(tile(CAMERA, 720), 7)]), [2], "an index of grades that are gone");
        // Who is more important takes it from who has it.
        assert_eq!(grades(820, &[kept(tile(CAMERA, 720), 1), kept(stage(720), 0)]), [0, 1]);
        // A fixed estimate and bitrates that sway.
        let mut current = 2;
        for kbps in [1_700, 1_830, 1_570, 1_750].repeat(5) {
            let swaying = [CAMERA[0], CAMERA[1], grade(2, 0, kbps, 720)];
            current = grades(1_880, &[kept(tile(&swaying, 720), current)])[0] as usize;
            assert_eq!(current, 2);
        }
    }

    /// Many wishes of all kinds; what they have is what an allocation may have given.
    fn any_wishes(rng: &mut StdRng) -> Vec<Wish<'static>> {
        let kinds = [CAMERA, CAMERA, ALONE, NEW, TEMPORAL, SCREEN, LAYERED_SCREEN, &[]];
        let any_wish = |rng: &mut StdRng| Wish {
            grades: kinds[rng.random_range(0..kinds.len())],
            height: [None, Some(0), Some(90), Some(180), Some(300), Some(720), Some(1_080)][rng.random_range(0..7)],
            priority: rng.random_range(0..3),
            is_screen: rng.random_bool(0.2),
            speaks: rng.random_bool(0.3),
            means: Means::All,
            has_more: false,
            current: [None, Some(0), Some(1), Some(2), Some(5)][rng.random_range(0..5)],
        };
        (0..rng.random_range(0..20)).map(|_| any_wish(rng)).collect()
    }

    fn any_wish_of(grades: impl Strategy<Value = &'static [Grade]>) -> impl Strategy<Value = Wish<'static>> {
        let height = prop_oneof![Just(None), Just(Some(0)), (1..1_100_u32).prop_map(Some)];
        let current = prop_oneof![Just(None), (0..6_usize).prop_map(Some)];
        let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), any::<bool>());
        let means = prop_oneof![3 => Just(Means::All), 1 => Just(Means::Least), 1 => Just(Means::Nothing)];
        (grades, height, 0..3_u32, flags, means, current).prop_map(
            |(grades, height, priority, (is_screen, speaks, has_more), means, current)| Wish {
                grades,
                height,
                priority,
                is_screen,
                speaks,
                means,
                has_more,
                current,
            },
        )
    }

    fn usual_grades() -> impl Strategy<Value = &'static [Grade]> {
        prop::sample::select(vec![CAMERA, CAMERA, ALONE, NEW, TEMPORAL, SCREEN, LAYERED_SCREEN, &[]])
    }

    proptest! {
        #![proptest_config(inputs(4_000))]

        /// No more is spent than there is, and nobody is left out while somebody gets more than the least.
        #[test]
        fn what_must_hold_does_for_any_wishes(
            wishes in vec(any_wish_of(usual_grades()), 0..20),
            (available, more) in (0..12_000_000_u64, 0..2_000_000_u64),
            audio in 0..200_000_u64,
            is_fresh: bool,
        ) {
            let mut wishes = wishes;
            if is_fresh {
                wishes.iter_mut().for_each(|wish| wish.current = None);
            }
            let mut grants = Vec::new();
            let totals = allocate(Some(available), audio, &wishes, &mut grants);
            let granted = || grants.iter().filter(|grant| grant.grade.is_some());
            let is_lowest = granted().all(|grant| grant.grade == Some(0));
            prop_assert!(totals.allocated_bps >= audio, "sound is not bargained for");
            let video = totals.allocated_bps - audio;
            let bound = available.saturating_sub(audio);
            let is_first_alone = granted().count() == 1 && is_lowest && video <= FIRST_EXCESS * bound;
            prop_assert!(video <= bound || is_first_alone, "{video} of {bound}");
            let somebody_starves = grants.contains(&Grant { grade: None, limit: Limit::Bandwidth });
            prop_assert!(!somebody_starves || is_lowest, "{grants:?}");
            for (grant, wish) in grants.iter().zip(&wishes) {
                let is_seen = wish.height != Some(0) && !wish.grades.is_empty() && wish.means != Means::Nothing;
                prop_assert_eq!(grant.grade.is_none() && grant.limit != Limit::Bandwidth, !is_seen);
            }
            // More is worth more. Where something is kept, something better may have displaced it, within the headroom.
            let richer = allocate(Some(available + more), audio, &wishes, &mut grants).allocated_bps - audio;
            let least = if is_fresh { video } else { (video - video / (HEADROOM + 1)).saturating_sub(1) };
            prop_assert!(richer >= least, "{richer} for {available} + {more}, {video} without");
            let all = allocate(Some(totals.wanted_bps), audio, &wishes, &mut grants);
            prop_assert!(grants.iter().all(|grant| grant.limit != Limit::Bandwidth), "the goal is enough");
            prop_assert_eq!(all, allocate(None, audio, &wishes, &mut grants), "nothing better without a bound");
        }
    }

    #[test]
    fn no_layer_flaps_while_an_estimate_sways() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut grants = Vec::new();
        for round in 0..2_000 {
            let mut wishes = any_wishes(&mut rng);
            let middle = rng.random_range(0..12_000_000);
            let mut changes = vec![0; wishes.len()];
            for turn in 0..60 {
                let available = middle / 100 * if turn < 20 { rng.random_range(92..=108) } else { [92, 108][turn % 2] };
                allocate(Some(available), 0, &wishes, &mut grants);
                for ((wish, grant), changes) in wishes.iter_mut().zip(&grants).zip(&mut changes) {
                    let layer = |grade: Option<usize>| grade.map(|grade| wish.grades[grade].layer);
                    *changes += u32::from(turn >= 20 && layer(wish.current) != layer(grant.grade));
                    wish.current = grant.grade;
                }
            }
            // What settles first decides what others have, so some settle late; then nothing moves.
            assert!(changes.iter().all(|changes| *changes <= 2), "{round}: {changes:?} with {middle} for {wishes:?}");
            let layers = |grants: &[Grant]| -> Vec<_> {
                let layers = grants.iter().zip(&wishes).map(|(grant, wish)| Some(wish.grades[grant.grade?].layer));
                layers.collect()
            };
            let before = layers(&grants);
            for available in [middle / 100 * 92, middle / 100 * 108] {
                allocate(Some(available), 0, &wishes, &mut grants);
                assert_eq!(layers(&grants), before, "{round}: it has settled");
            }
        }
    }
}
