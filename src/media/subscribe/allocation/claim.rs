//! The layers that a subscriber may get (`permit`), and its claim: a wish that is granted from a budget, step by step.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::wish::{LoadCap, Wish};
use crate::media::publish::grade::is_enough;
use crate::media::publish::layer::LAYERS;
use crate::media::publish::layers::MAX_GRADES;
use crate::media::subscribe::quality::Limit;
use crate::media::subscribe::selection::Selection;

/// Spare bandwidth that must remain when a step is granted that was not granted before: 1/`HEADROOM` of the spent
/// bandwidth. With a fifth, layers do not flap while the estimate or a bitrate varies by up to 8 %. With less headroom
/// they do, and each switch costs a keyframe; more leaves bandwidth unused.
pub(super) const HEADROOM: u64 = 5;

/// Headroom for a step that only raises the picture rate of a layer already sent: 1/`HEADROOM_OF_PICTURES`. Such a step
/// costs no keyframe, so it may be taken and undone often. More headroom withholds pictures that would fit; less
/// follows each variation of the estimate.
const HEADROOM_OF_PICTURES: u64 = 20;

/// Assumed bitrates of layers before they are measured: about what browsers send for heights of 180, 360 and 720.
/// Higher values take bandwidth from other tracks for a moment, lower ones overload the path for a moment.
const ASSUMED_BPS: [u64; 3] = [150_000, 500_000, 1_700_000];

/// Assumed bitrate of a track with a single layer, which starts low and is not known in advance.
const ASSUMED_ALONE_BPS: u64 = 200_000;

/// The layers of a track that a subscriber may get if its bandwidth suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The number of layers, from the smallest.
    pub layers: usize,
    /// Only the lowest temporal layer of the best of these layers is permitted.
    is_lowest_rate: bool,
}

/// Returns the layers of a track that a subscriber may get, by the height of its tile (`None` if the page does not
/// report it) and the server's load. `heights` has the picture height of each layer, the smallest first; 0 if unknown.
///
/// A new rule about layers belongs here: no other function decides which layers are permitted. The publisher is asked
/// for these layers, and the allocation chooses one of them by bandwidth.
pub fn permit(tile: Option<u32>, load_cap: LoadCap, is_screen: bool, heights: &[u16]) -> Permit {
    let sufficient = tile.and_then(|tile| heights.iter().position(|height| is_enough(*height, tile)));
    let usable = sufficient.map_or(heights.len(), |layer| layer + 1);
    match load_cap {
        _ if tile == Some(0) => Permit { layers: 0, is_lowest_rate: false },
        LoadCap::Unlimited => Permit { layers: usable, is_lowest_rate: false },
        LoadCap::Reduced if is_screen => Permit { layers: usable, is_lowest_rate: true },
        LoadCap::Reduced => Permit { layers: usable.min(1), is_lowest_rate: false },
        LoadCap::Nothing => Permit { layers: 0, is_lowest_rate: false },
    }
}

/// Returns the selection for a track of which no layer has arrived: the layer that arrives first, if any is permitted.
pub fn select_first(tile: Option<u32>, load_cap: LoadCap, is_screen: bool) -> Option<Selection> {
    (permit(tile, load_cap, is_screen, &[0; LAYERS]).layers > 0).then_some(Selection::BEST)
}

/// Returns why a track without a grade is not sent.
pub(super) fn limit_without_grade(wish: &Wish) -> Limit {
    match (wish.height, wish.load_cap) {
        (Some(0), _) => Limit::View,
        (_, LoadCap::Nothing) => Limit::Server,
        _ => Limit::Publisher,
    }
}

/// The bandwidth for video.
pub(super) struct Budget {
    pub bound_bps: u64,
    pub spent_bps: u64,
}

impl Budget {
    /// Spends `extra_bps` if it fits and 1/`headroom` of the total remains; `excess` multiplies the bandwidth for this
    /// step.
    pub(super) fn spend(&mut self, extra_bps: u64, headroom: Option<u64>, excess: u64) -> bool {
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
/// Not every grade is a step. A camera is raised by resolution at its full picture rate, because halving that rate
/// looks worse than halving the height. Its picture rate is reduced only in its lowest layer, or to use the rest of the
/// bandwidth. A screen reduces the picture rate of its best layer first, and its resolution only after that, because
/// unreadable text is useless however smooth it is.
pub(super) struct Claim<'a> {
    pub index: usize,
    pub wish: &'a Wish<'a>,
    pub best: usize,
    /// The server's load excludes a better grade that the view could use.
    is_cut_by_load: bool,
    pub granted: Option<usize>,
}

impl<'a> Claim<'a> {
    pub(super) fn new(index: usize, wish: &'a Wish<'a>) -> Option<Self> {
        let mut claim = Self { index, wish, best: 0, is_cut_by_load: false, granted: None };
        claim.best = claim.best_with(wish.load_cap)?;
        claim.is_cut_by_load = claim.best_with(LoadCap::Unlimited).is_some_and(|best| claim.best < best);
        Some(claim)
    }

    /// Returns the index of the best grade that is permitted under a load cap; `None` if there is none.
    fn best_with(&self, load_cap: LoadCap) -> Option<usize> {
        let Wish { grades, height, is_screen, .. } = *self.wish;
        // The best grade of each layer.
        let ends: SmallVec<[usize; MAX_GRADES]> = (0..grades.len()).filter(|at| self.ends_layer(*at)).collect();
        let heights: SmallVec<[u16; MAX_GRADES]> = ends.iter().map(|at| grades[*at].height).collect();
        let permit = permit(height, load_cap, is_screen, &heights);
        let end = ends[permit.layers.checked_sub(1)?];
        let begin = (0..=end).find(|at| grades[*at].layer == grades[end].layer);
        if permit.is_lowest_rate { begin } else { Some(end) }
    }

    /// Takes the next step if there is one and it fits.
    pub(super) fn climb(&mut self, budget: &mut Budget, excess: u64) -> bool {
        self.next().is_some_and(|next| self.take(next, budget, excess))
    }

    /// Takes the next layer without its highest temporal layer, if that fits.
    pub(super) fn climb_thinned(&mut self, budget: &mut Budget) {
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

    pub(super) fn rank(&self) -> impl Ord + use<> {
        let Wish { is_screen, priority, speaks, .. } = *self.wish;
        (Reverse((is_screen, priority, speaks)), self.index)
    }

    pub(super) fn next(&self) -> Option<usize> {
        let above = self.granted.map_or(0, |granted| granted + 1);
        (above..=self.best).find(|at| self.is_step(*at))
    }

    fn is_step(&self, at: usize) -> bool {
        let grades = self.wish.grades;
        if self.wish.is_screen {
            grades[at].layer == grades[self.best].layer || self.begins_layer(at)
        } else {
            grades[at].layer == grades[0].layer || self.ends_layer(at)
        }
    }

    /// Returns the cost of a grade: the highest bitrate up to it, because a grade that measures less than a lower one
    /// was measured in a quiet moment or has just started.
    pub(super) fn cost_bps(&self, grade: usize) -> u64 {
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

    /// Returns true if the grade has the lowest picture rate of its layer.
    fn begins_layer(&self, at: usize) -> bool {
        let grades = self.wish.grades;
        at == 0 || grades[at - 1].layer != grades[at].layer
    }

    fn is_enough(&self, at: usize) -> bool {
        self.wish.height.is_some_and(|tile| is_enough(self.wish.grades[at].height, tile))
    }

    pub(super) fn limit(&self) -> Limit {
        if self.granted != Some(self.best) {
            return Limit::Bandwidth;
        }
        let is_last = self.best + 1 == self.wish.grades.len();
        let is_height_known = self.wish.height.is_some() && self.wish.grades[self.best].height > 0;
        let is_reduced = self.wish.load_cap == LoadCap::Reduced;
        if self.is_cut_by_load {
            Limit::Server
        } else if !is_last {
            Limit::View
        } else if is_reduced && self.wish.has_paused_layers && !self.is_enough(self.best) {
            Limit::Server
        } else if is_height_known && !self.is_enough(self.best) {
            Limit::Publisher
        } else {
            Limit::None
        }
    }
}
