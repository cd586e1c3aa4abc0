//! Allocation of one subscriber's bandwidth: which grade of each track it gets.
//!
//! Audio is subtracted first. Then every visible video gets its lowest grade before any video gets a better one:
//! screens first, then by the page's priority, then active speakers. Then the videos on stage are raised to a watchable
//! height, and then all are raised by one step each, round after round, until nothing fits any more. The rest goes to
//! layers that fit only with a part of their pictures.
//!
//! A step down is immediate, because a queue grows from the first excess packet. A step up requires spare bandwidth.
//! Steps are taken in one fixed order, and a step that was refused has to fit with headroom to be granted again: an
//! estimate that varies by less than the headroom does not make layers flap.

use std::cmp::Reverse;

use smallvec::SmallVec;

/// Bandwidth that must remain when a step is granted that was not granted before, as 1/`HEADROOM` of what is spent.
/// With a fifth, an estimate or a bitrate may vary by 8 % around any value. Less headroom flaps, and each switch costs
/// a keyframe; more leaves bandwidth unused.
const HEADROOM: u64 = 5;

/// The same for a step that only adds pictures to a layer already sent. It costs no keyframe, so it may come and go:
/// more headroom withholds pictures that would fit, less follows each variation.
const HEADROOM_OF_PICTURES: u64 = 20;

/// A grade is sufficient for a tile if it has at least this fraction of the tile's height. A lower fraction looks
/// blurred; a higher one sends detail that is scaled away: a tile of height 300 gets 360 and not 720, which costs three
/// times as much.
const SUFFICIENT_HEIGHT: (u32, u32) = (3, 4);

/// Height up to which the videos on stage are raised before any other video takes its second step. A lower value treats
/// all tiles alike; a higher one degrades many tiles for one sharp picture.
const STAGE_HEIGHT: u16 = 360;

/// Factor by which the lowest grade of the first claim may exceed the bandwidth, so that there is a picture when the
/// estimate is too low. A higher factor delays audio behind video that cannot be decoded anyway, a lower one leaves the
/// subscriber without a picture for longer.
const FIRST_EXCESS: u64 = 2;

/// Assumed bitrates of layers before they are measured: about what browsers send for heights of 180, 360 and 720.
/// Higher values take bandwidth from other tracks for a moment, lower ones overload the path for a moment.
const ASSUMED_BPS: [u64; 3] = [150_000, 500_000, 1_700_000];

/// The same for a track with a single layer, whose bitrate starts low and is not known in advance.
const ASSUMED_ALONE_BPS: u64 = 200_000;

/// One way to send a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grade {
    /// Simulcast or spatial layer; 0 is the smallest.
    pub layer: u8,
    /// Highest temporal layer sent.
    pub temporal: u8,
    /// Measured bitrate of all packets of this grade; 0 if unknown.
    pub bitrate_bps: u64,
    /// Picture height; 0 if unknown, then no view limits it.
    pub height: u16,
}

/// The demand of a subscriber for one track.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The grades that the publisher sends, or would send if they were wanted, ordered by layer and temporal layer.
    pub grades: &'a [Grade],
    /// Height of the tile in device pixels, 0 if it is not visible; `None` if the page does not report it.
    pub height: Option<u32>,
    /// Priority, higher is more important. Videos with the highest priority are on stage; if there is a screen, only if
    /// that priority is not 0.
    pub priority: u32,
    /// Text: resolution matters more than motion. Screens are always on stage.
    pub is_screen: bool,
    /// The publisher is an active speaker.
    pub speaks: bool,
    /// The server's capacity for this track.
    pub means: Means,
    /// The publisher has layers that it was told to pause because no subscriber wants them.
    pub has_more: bool,
    /// Index of the grade granted last.
    pub current: Option<usize>,
}

/// How much of a track the server's load allows to send to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Any grade.
    All,
    /// The smallest layer of a camera. Of a screen, whose text must stay readable, the best layer with the fewest
    /// pictures.
    Least,
    /// No grade.
    Nothing,
}

/// Why no better grade is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// There is no better grade.
    None,
    /// The view could not use a better grade.
    View,
    /// A better grade did not fit.
    Bandwidth,
    /// The view could use a better grade than the publisher sends.
    Publisher,
    /// The server is overloaded.
    Server,
    /// The granted grade starts with the next keyframe. Never set by `allocate`.
    Keyframe,
    /// The subscriber does not support the codec. Never set by `allocate`.
    Codec,
    /// The publisher sends packets that are too large to forward. Never set by `allocate`.
    Oversized,
}

/// The grade granted to a subscriber for one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Index of the grade; `None` for nothing.
    pub grade: Option<usize>,
    /// Why it is not a better grade.
    pub limit: Limit,
}

/// The quality of a track that a subscriber may get, or that is reported to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// The track is sent.
    pub is_sent: bool,
    /// Index of the layer, if there are several.
    pub layer: Option<u8>,
    /// Picture height; 0 if unknown.
    pub height: u16,
    /// Why it is not better.
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
    let mut all_have_grades = true;
    for (order, claim) in claims.iter_mut().enumerate() {
        let excess = if order == 0 { FIRST_EXCESS } else { 1 };
        all_have_grades &= claim.climb(&mut budget, excess);
    }
    if all_have_grades {
        let top = claims.iter().map(|claim| claim.wish.priority).max();
        let has_screen = claims.iter().any(|claim| claim.wish.is_screen);
        // Beside a screen, cameras of equal priority are thumbnails.
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

/// Raises each claim by one step, in order, until no further step fits.
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

/// Returns true if a picture of this height is sufficient for a tile; false if the height is unknown (0).
pub fn is_enough(height: u16, tile: u32) -> bool {
    let (lines, of) = SUFFICIENT_HEIGHT;
    height > 0 && u32::from(height).saturating_mul(of) >= tile.saturating_mul(lines)
}

/// The bandwidth for video.
struct Budget {
    bound_bps: u64,
    spent_bps: u64,
}

impl Budget {
    /// Spends `extra_bps` if it fits and 1/`headroom` of the total remains; `excess` multiplies the bandwidth for this
    /// step.
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

/// A wish that can be granted, with its steps from nothing to the best grade that its view can use.
///
/// Not every grade is a step. A camera is raised by resolution with all pictures, because halving the picture rate
/// looks worse than halving the height. Its picture rate is reduced only in its lowest layer, or to use the rest of the
/// bandwidth. A screen reduces the picture rate of its best layer first, and its resolution only after that, because
/// unreadable text is useless however smooth it is.
struct Claim<'a> {
    index: usize,
    wish: &'a Wish<'a>,
    best: usize,
    /// The server's load excludes a better grade that the view could use.
    is_cut_by_load: bool,
    granted: Option<usize>,
}

impl<'a> Claim<'a> {
    fn new(index: usize, wish: &'a Wish<'a>) -> Option<Self> {
        let is_sent = wish.height != Some(0) && wish.means != Means::Nothing;
        let last = wish.grades.len().checked_sub(1).filter(|_| is_sent)?;
        let mut claim = Self { index, wish, best: last, is_cut_by_load: false, granted: None };
        claim.best = (0..last).find(|at| claim.ends_layer(*at) && claim.is_enough(*at)).unwrap_or(last);
        if wish.means == Means::Least {
            let layer = if wish.is_screen { wish.grades[claim.best].layer } else { wish.grades[0].layer };
            let is_least = |at: &usize| match wish.is_screen {
                true => wish.grades[*at].layer == layer,
                false => claim.ends_layer(*at),
            };
            let least = (0..=claim.best).find(is_least).unwrap_or(claim.best);
            claim.is_cut_by_load = least < claim.best;
            claim.best = least;
        }
        Some(claim)
    }

    /// Takes the next step if there is one and it fits.
    fn climb(&mut self, budget: &mut Budget, excess: u64) -> bool {
        self.next().is_some_and(|next| self.take(next, budget, excess))
    }

    /// Takes the next layer without its highest temporal layer, if that fits.
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

    /// Returns the cost of a grade: the highest bitrate up to it, because a grade that measures less than a lower one
    /// was measured in a quiet moment or has just started.
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

    /// Returns true if the grade has all temporal layers of its layer.
    fn ends_layer(&self, at: usize) -> bool {
        let grades = self.wish.grades;
        grades.get(at + 1).is_none_or(|next| next.layer != grades[at].layer)
    }

    /// Returns true if the grade has the fewest temporal layers of its layer.
    fn begins_layer(&self, at: usize) -> bool {
        let grades = self.wish.grades;
        at == 0 || grades[at - 1].layer != grades[at].layer
    }

    fn is_enough(&self, at: usize) -> bool {
        self.wish.height.is_some_and(|tile| is_enough(self.wish.grades[at].height, tile))
    }

    fn limit(&self) -> Limit {
        let is_last = self.best + 1 == self.wish.grades.len();
        let is_height_known = self.wish.height.is_some() && self.wish.grades[self.best].height > 0;
        match self.granted == Some(self.best) {
            false => Limit::Bandwidth,
            true if self.is_cut_by_load => Limit::Server,
            true if !is_last => Limit::View,
            true if self.wish.means == Means::Least && self.wish.has_more && !self.is_enough(self.best) => {
                Limit::Server
            }
            true if is_height_known && !self.is_enough(self.best) => Limit::Publisher,
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

    /// Returns the grades granted with `kbps` of bandwidth, of which audio takes 40; -1 is no grade.
    fn grades(kbps: u64, wishes: &[Wish]) -> Vec<i32> {
        let mut grants = Vec::new();
        allocate(Some(kbps * 1_000), 40_000, wishes, &mut grants);
        grants.iter().map(|grant| grant.grade.map_or(-1, |grade| grade as i32)).collect()
    }

    #[test]
    fn a_view_gets_the_smallest_sufficient_grade() {
        let unreported = Wish { height: None, ..tile(CAMERA, 0) };
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
            (unreported, Some(2), Limit::None),
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
    fn bandwidth_goes_to_every_video_first_then_to_the_stage_then_in_rounds() {
        let nine: Vec<Wish> = [vec![screen(SCREEN)], vec![tile(CAMERA, 150); 9]].concat();
        let cases: &[(u64, &[Wish], &[i32])] = &[
            // One camera: its bitrate, a fifth more, and 40 for audio.
            (9_000, &[tile(CAMERA, 720)], &[2]),
            (2_080, &[tile(CAMERA, 720)], &[2]),
            (2_079, &[tile(CAMERA, 720)], &[1]),
            (640, &[tile(CAMERA, 720)], &[1]),
            (639, &[tile(CAMERA, 720)], &[0]),
            // The lowest grade of the first claim is granted with half of its bitrate.
            (130, &[tile(CAMERA, 720)], &[0]),
            (129, &[tile(CAMERA, 720)], &[-1]),
            (0, &[tile(CAMERA, 720)], &[-1]),
            (130, &[tile(CAMERA, 720), stage(720)], &[-1, 0]),
            (130, &[tile(CAMERA, 720), speaker(720)], &[-1, 0]),
            (1_060, &[tile(ALONE, 720)], &[0]),
            (1_059, &[tile(ALONE, 720)], &[-1]),
            // Every video gets its lowest grade before any gets a better one.
            (400, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[0, 0]),
            (399, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[0, -1]),
            (820, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[1, 0]),
            (819, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[0, 0]),
            (1_240, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[1, 1]),
            (2_680, &[tile(CAMERA, 720), tile(CAMERA, 720)], &[2, 1]),
            (820, &[tile(CAMERA, 720), speaker(720)], &[0, 1]),
            // A step that does not fit does not prevent a smaller one.
            (1_240, &[stage(720), tile(CAMERA, 360), tile(CAMERA, 100)], &[1, 0, 0]),
            (1_420, &[stage(720), tile(CAMERA, 360), tile(CAMERA, 100)], &[1, 1, 0]),
            // The stage first, then one step each, by priority.
            (820, &[tile(CAMERA, 720), stage(720)], &[0, 1]),
            (2_680, &[tile(CAMERA, 720), stage(720)], &[1, 2]),
            (2_260, &[tile(CAMERA, 150), stage(720)], &[0, 2]),
            (2_259, &[tile(CAMERA, 150), stage(720)], &[0, 1]),
            // A screen goes before thumbnails, even before the stage, and its picture rate is reduced first.
            (700, &[tile(CAMERA, 150), screen(SCREEN)], &[-1, 0]),
            (820, &[tile(CAMERA, 150), screen(SCREEN)], &[0, 0]),
            (1_300, &[tile(CAMERA, 150), screen(SCREEN)], &[0, 1]),
            (2_020, &[tile(CAMERA, 150), screen(SCREEN)], &[0, 2]),
            (820, &[stage(720), screen(SCREEN)], &[0, 0]),
            (1_240, &[stage(720), screen(SCREEN)], &[1, 0]),
            // A camera without priority is not on stage beside a screen.
            (1_300, &[tile(CAMERA, 720), screen(SCREEN)], &[0, 1]),
            (2_440, &[tile(CAMERA, 720), screen(SCREEN)], &[1, 2]),
            (9_000, &[screen(LAYERED_SCREEN)], &[4]),
            (1_120, &[screen(LAYERED_SCREEN)], &[3]),
            (640, &[screen(LAYERED_SCREEN)], &[2]),
            (639, &[screen(LAYERED_SCREEN)], &[0]),
            // A camera reduces the picture rate of its lowest layer, and of the next one if nothing else fits.
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
            // Layers that are not measured are assumed to have typical bitrates.
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
            // No wishes, or only one that is visible.
            (1_000, &[], &[]),
            (1_000, &[tile(CAMERA, 0), tile(&[], 100), tile(CAMERA, 100)], &[-1, -1, 0]),
        ];
        for (kbps, wishes, expected) in cases {
            assert_eq!(grades(*kbps, wishes), *expected, "{kbps} kbps for {wishes:?}");
        }
    }

    #[test]
    fn a_grade_below_what_the_view_can_use_is_limited_by_bandwidth() {
        let mut grants = Vec::new();
        let totals = allocate(Some(500_000), 40_000, &[stage(720), tile(CAMERA, 150)], &mut grants);
        let limits: Vec<_> = grants.iter().map(|grant| grant.limit).collect();
        assert_eq!(limits, [Limit::Bandwidth, Limit::View]);
        assert_eq!(totals, Totals { allocated_bps: 340_000, wanted_bps: 2_260_000 });
        // The wanted bandwidth suffices for all, a lower one does not.
        for (available, limit) in [(2_260_000, Limit::None), (2_259_999, Limit::Bandwidth)] {
            allocate(Some(available), 40_000, &[stage(720), tile(CAMERA, 150)], &mut grants);
            assert_eq!(grants[0].limit, limit);
        }
    }

    #[test]
    fn the_servers_load_limits_grades() {
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
            assert_eq!(grants[1].grade, Some(1), "other tracks are not affected");
            // A grade that is not granted does not raise the goal of probing.
            let spent =
                grants.iter().zip(&wishes).filter_map(|(grant, wish)| Some(wish.grades[grant.grade?].bitrate_bps));
            assert_eq!(totals.wanted_bps, spent.clone().sum::<u64>() + spent.sum::<u64>().div_ceil(HEADROOM));
        }
        // Too little bandwidth is reported before the server's load.
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
            // A smaller tile gets less, whatever was granted before.
            (9_000, 2, 2),
        ];
        for (kbps, current, expected) in cases {
            assert_eq!(grades(*kbps, &two(*current)), [*expected, 0], "{kbps} kbps with grade {current}");
        }
        assert_eq!(grades(9_000, &[kept(tile(CAMERA, 150), 2)]), [0]);
        assert_eq!(grades(9_000, &[kept(tile(CAMERA, 720), 7)]), [2], "an index beyond the present grades");
        // A wish with higher priority takes the bandwidth from one that has it.
        assert_eq!(grades(820, &[kept(tile(CAMERA, 720), 1), kept(stage(720), 0)]), [0, 1]);
        // A fixed estimate and a varying bitrate.
        let mut current = 2;
        for kbps in [1_700, 1_830, 1_570, 1_750].repeat(5) {
            let varying = [CAMERA[0], CAMERA[1], grade(2, 0, kbps, 720)];
            current = grades(1_880, &[kept(tile(&varying, 720), current)])[0] as usize;
            assert_eq!(current, 2);
        }
    }

    /// Returns up to 19 random wishes; `current` may be any index that an allocation may have granted.
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

        /// The grants fit the bandwidth, and no visible video is refused while another gets more than its lowest grade.
        #[test]
        fn the_invariants_hold_for_any_wishes(
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
            prop_assert!(totals.allocated_bps >= audio, "audio is always granted");
            let video = totals.allocated_bps - audio;
            let bound = available.saturating_sub(audio);
            let is_first_alone = granted().count() == 1 && is_lowest && video <= FIRST_EXCESS * bound;
            prop_assert!(video <= bound || is_first_alone, "{video} of {bound}");
            let is_any_refused = grants.contains(&Grant { grade: None, limit: Limit::Bandwidth });
            prop_assert!(!is_any_refused || is_lowest, "{grants:?}");
            for (grant, wish) in grants.iter().zip(&wishes) {
                let is_seen = wish.height != Some(0) && !wish.grades.is_empty() && wish.means != Means::Nothing;
                prop_assert_eq!(grant.grade.is_none() && grant.limit != Limit::Bandwidth, !is_seen);
            }
            // More bandwidth is worth more. A kept grade may have been displaced by a better one, within the headroom.
            let richer = allocate(Some(available + more), audio, &wishes, &mut grants).allocated_bps - audio;
            let least = if is_fresh { video } else { (video - video / (HEADROOM + 1)).saturating_sub(1) };
            prop_assert!(richer >= least, "{richer} for {available} + {more}, {video} without");
            let all = allocate(Some(totals.wanted_bps), audio, &wishes, &mut grants);
            prop_assert!(grants.iter().all(|grant| grant.limit != Limit::Bandwidth), "the wanted bandwidth suffices");
            prop_assert_eq!(all, allocate(None, audio, &wishes, &mut grants), "unlimited bandwidth yields nothing better");
        }
    }

    #[test]
    fn no_layer_flaps_while_the_estimate_varies() {
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
            // Steps settle one after another, so some settle late; then nothing moves.
            assert!(changes.iter().all(|changes| *changes <= 2), "{round}: {changes:?} with {middle} for {wishes:?}");
            let layers = |grants: &[Grant]| -> Vec<_> {
                let layers = grants.iter().zip(&wishes).map(|(grant, wish)| Some(wish.grades[grant.grade?].layer));
                layers.collect()
            };
            let before = layers(&grants);
            for available in [middle / 100 * 92, middle / 100 * 108] {
                allocate(Some(available), 0, &wishes, &mut grants);
                assert_eq!(layers(&grants), before, "{round}: settled");
            }
        }
    }
}
