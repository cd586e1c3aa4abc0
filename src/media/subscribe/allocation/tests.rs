//! Tests of the allocation.

use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::wish::LoadCap;
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
        load_cap: LoadCap::Unlimited,
        has_paused_layers: false,
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
fn the_tile_and_the_servers_load_limit_the_permitted_layers() {
    const TILES: [Option<u32>; 5] = [Some(0), Some(90), Some(120), Some(400), None];
    let cases: &[([u16; 3], LoadCap, bool, [usize; 5])] = &[
        ([0, 0, 0], LoadCap::Unlimited, false, [0, 3, 3, 3, 3]),
        ([90, 180, 360], LoadCap::Unlimited, false, [0, 1, 1, 3, 3]),
        ([80, 180, 360], LoadCap::Unlimited, false, [0, 1, 2, 3, 3]),
        ([80, 180, 360], LoadCap::Reduced, false, [0, 1, 1, 1, 1]),
        ([80, 180, 360], LoadCap::Reduced, true, [0, 1, 2, 3, 3]),
        ([80, 180, 360], LoadCap::Nothing, true, [0; 5]),
    ];
    for (heights, load_cap, is_screen, expected) in cases {
        let layers = |tile| claim::permit(tile, *load_cap, *is_screen, heights).layers;
        assert_eq!(TILES.map(layers), *expected, "{heights:?} {load_cap:?}");
        let is_sent = TILES.map(|tile| claim::select_first(tile, *load_cap, *is_screen).is_some());
        assert_eq!(is_sent, expected.map(|layers| layers > 0), "a track of which no layer has arrived");
    }
}

#[test]
fn the_servers_load_limits_grades() {
    let with = |wish: Wish<'static>, load_cap| Wish { load_cap, ..wish };
    let cases: &[(Wish, LoadCap, i32, Limit)] = &[
        (tile(CAMERA, 720), LoadCap::Unlimited, 2, Limit::None),
        (tile(CAMERA, 720), LoadCap::Reduced, 0, Limit::Server),
        (tile(CAMERA, 150), LoadCap::Reduced, 0, Limit::View),
        (tile(TEMPORAL, 720), LoadCap::Reduced, 2, Limit::Server),
        (tile(ALONE, 720), LoadCap::Reduced, 0, Limit::None),
        (screen(SCREEN), LoadCap::Reduced, 0, Limit::Server),
        (screen(LAYERED_SCREEN), LoadCap::Reduced, 2, Limit::Server),
        (tile(CAMERA, 720), LoadCap::Nothing, -1, Limit::Server),
        (Wish { has_paused_layers: true, ..tile(&CAMERA[..1], 720) }, LoadCap::Reduced, 0, Limit::Server),
        (Wish { has_paused_layers: true, ..tile(&CAMERA[..1], 150) }, LoadCap::Reduced, 0, Limit::None),
        (tile(&CAMERA[..1], 720), LoadCap::Reduced, 0, Limit::Publisher),
        (tile(CAMERA, 0), LoadCap::Nothing, -1, Limit::View),
        (tile(&[], 720), LoadCap::Nothing, -1, Limit::Server),
    ];
    let mut grants = Vec::new();
    for (wish, load_cap, grade, limit) in cases {
        let wishes = [with(*wish, *load_cap), tile(CAMERA, 360)];
        let totals = allocate(Some(9_000_000), 0, &wishes, &mut grants);
        let grant = Grant { grade: usize::try_from(*grade).ok(), limit: *limit };
        assert_eq!(grants[0], grant, "{wish:?} {load_cap:?}");
        assert_eq!(grants[1].grade, Some(1), "other tracks are not affected");
        // A grade that is not granted does not raise the goal of probing.
        let spent = grants.iter().zip(&wishes).filter_map(|(grant, wish)| Some(wish.grades[grant.grade?].bitrate_bps));
        assert_eq!(totals.wanted_bps, spent.clone().sum::<u64>() + spent.sum::<u64>().div_ceil(HEADROOM));
    }
    // Too little bandwidth is reported before the server's load.
    allocate(Some(100_000), 40_000, &[tile(CAMERA, 100), with(tile(CAMERA, 720), LoadCap::Reduced)], &mut grants);
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
        load_cap: LoadCap::Unlimited,
        has_paused_layers: false,
        current: [None, Some(0), Some(1), Some(2), Some(5)][rng.random_range(0..5)],
    };
    (0..rng.random_range(0..20)).map(|_| any_wish(rng)).collect()
}

fn any_wish_of(grades: impl Strategy<Value = &'static [Grade]>) -> impl Strategy<Value = Wish<'static>> {
    let height = prop_oneof![Just(None), Just(Some(0)), (1..1_100_u32).prop_map(Some)];
    let current = prop_oneof![Just(None), (0..6_usize).prop_map(Some)];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), any::<bool>());
    let load_cap = prop_oneof![3 => Just(LoadCap::Unlimited), 1 => Just(LoadCap::Reduced), 1 => Just(LoadCap::Nothing)];
    (grades, height, 0..3_u32, flags, load_cap, current).prop_map(
        |(grades, height, priority, (is_screen, speaks, has_paused_layers), load_cap, current)| Wish {
            grades,
            height,
            priority,
            is_screen,
            speaks,
            load_cap,
            has_paused_layers,
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
            let is_seen = wish.height != Some(0) && !wish.grades.is_empty() && wish.load_cap != LoadCap::Nothing;
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
