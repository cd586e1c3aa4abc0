//! Tests of the estimator with simulated calls.

use super::*;
use crate::media::bandwidth::estimator::link::{Call, Link};

const LINK: Link = Link { capacity_bps: 3e6, queue_ms: 300, delay_ms: 25, jitter_ms: 0, loss: 0.0, bucket: 0 };

const SEEDS: [u64; 3] = [21, 22, 23];

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
                shares += share;
                delays += delay;
            }
            let (share, delay) = (shares / SEEDS.len() as f64, delays / SEEDS.len() as u32);
            // The serialization of three packets of 1,200 bytes takes 100 ms at 300 kbit/s.
            let most = if capacity_bps < 500e3 { 125 } else { 100 };
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
fn a_low_sending_rate_does_not_limit_a_later_demand() {
    for (jitter_ms, seed) in [(0, 11), (0, 12), (10, 11), (10, 12)] {
        let mut call = call(Link { jitter_ms, ..LINK }, seed);
        call.demand_bps = 150e3;
        call.run(30_000);
        assert_eq!(call.estimator.estimate_bps(), 1_000_000, "no measurement changes the estimate");
        call.demand_bps = 2.5e6;
        let reached = call.reaches(2e6, 5_000);
        assert!(reached.is_some(), "{} with jitter {jitter_ms}, {seed}", call.estimator.estimate_bps());
    }
}

#[test]
fn a_wide_path_reaches_a_demand_slightly_above_the_estimate_however_little_is_sent() {
    for demand_bps in [1e6, 2e6, 4e6, 8e6] {
        for (share, seed) in [(0.3, 11), (0.5, 12), (0.7, 13)] {
            let mut call = call(Link { capacity_bps: 100e6, ..LINK }, seed);
            call.demand_bps = demand_bps;
            call.media_bps = share * demand_bps;
            call.run(5_000);
            for step in 0..8 {
                call.demand_bps = 1.004 * call.estimator.estimate_bps() as f64;
                call.media_bps = share * call.demand_bps;
                let reached = call.reaches(call.demand_bps, 5_000);
                assert!(reached.is_some(), "{} bit/s, {share} of it sent, step {step}", call.demand_bps);
            }
        }
    }
}

#[test]
fn a_jump_of_the_receivers_clock_does_not_lower_the_estimate() {
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
fn loss_is_noticed_although_the_receivers_clock_keeps_jumping() {
    let mut call = call(Link { loss: 0.3, ..LINK }, 11);
    for number in 0..100 {
        call.set_ahead(10 * (number % 2));
        call.run(100);
    }
    assert!(call.estimator.estimate_bps() < 500_000, "{}", call.estimator.estimate_bps());
}

#[test]
fn the_queue_left_by_a_stall_is_drained() {
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
fn the_estimate_recovers_from_random_feedback() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut call = call(LINK, 11);
        call.run(5_000);
        for _ in 0..1_000 {
            call.run(1);
            let mut body: Vec<u8> = (0..random.usize(8..400)).map(|_| random.u8(..)).collect();
            // About few packets, starting with a recent one.
            let first = call.next_number().wrapping_sub(random.u16(1..300));
            (body[0], body[1], body[2]) = ((first >> 8) as u8, first as u8, 0);
            call.feed_back(&body);
        }
        let back = call.reaches(2e6, 12_000);
        assert!(back.is_some(), "{seed}: {}", call.estimator.estimate_bps());
    }
}

#[test]
fn a_short_queue_spike_at_a_low_sending_rate_keeps_part_of_the_estimate() {
    let mut call = call(LINK, 11);
    call.demand_bps = 150e3;
    call.run(20_000);
    // For one second, other flows fill the queue.
    for step in 1..=20 {
        call.path.set_delay(25 + 20 * step);
        call.run(50);
    }
    call.path.set_delay(25);
    call.run(5_000);
    let estimate = call.estimator.estimate_bps();
    assert!((300_000..1_000_000).contains(&estimate), "the spike lowers the estimate a little: {estimate}");
}

#[test]
fn packets_of_a_lost_feedback_message_count_as_sent() {
    let mut call = call(Link { loss: 0.09, ..LINK }, 11);
    call.demand_bps = 400e3;
    call.run(5_000);
    let rates = (0..30_000).filter_map(|_| {
        call.run(1);
        call.estimator.measured.sent.rate_bps()
    });
    let (count, sum) = rates.fold((0.0, 0.0), |(count, sum), rate| (count + 1.0, sum + rate));
    assert!((0.97..1.03).contains(&(sum / count / 400e3)), "{}", sum / count);
}

#[test]
fn a_gap_in_the_arrivals_leaves_part_of_the_estimate() {
    let start = Instant::now();
    let mut estimator = Estimator { estimate: 1e6, ..Estimator::new(start, 1_000_000) };
    estimator.on_overuse(start, 1e6, 0.0);
    assert_eq!(estimator.estimate_bps(), 350_000);
}

#[test]
fn a_burst_below_the_known_limit_does_not_count_as_a_queue() {
    let limited = |limit| Estimator { limit, ..Estimator::new(Instant::now(), 400_000) };
    for (name, limit, standing, sent, received, expected) in [
        ("a burst", Some(500e3), 2.0, 400e3, 380e3, true),
        ("no known limit", None, 2.0, 400e3, 380e3, false),
        ("at the limit", Some(410e3), 2.0, 400e3, 380e3, false),
        ("the queue stands", Some(500e3), 30.0, 400e3, 380e3, false),
        ("the arrival rate is too low", Some(500e3), 2.0, 400e3, 300e3, false),
    ] {
        assert_eq!(limited(limit).is_burst(standing, sent, received), expected, "{name}");
    }
}

#[test]
fn a_sender_above_the_estimate_is_lowered_until_the_queue_is_gone() {
    let start = Instant::now();
    let mut estimator = Estimator::new(start, 430_000);
    // A queue of 150 ms that all recent packets meet.
    (0..60).for_each(|ms| estimator.measured.queue.push(20_000 * ms, 20_000 * ms + if ms < 30 { 0 } else { 150_000 }));
    let mut steps = Vec::new();
    for cut in 0..4 {
        estimator.on_standing_queue(start + Duration::from_secs(cut), 150.0, 600e3, 500e3);
        steps.push(estimator.estimate_bps() / 1_000);
    }
    assert_eq!(steps, [406, 330, 268, 250], "down to half of the arrival rate");
    estimator.on_standing_queue(start + Duration::from_secs(4), 150.0, 260e3, 500e3);
    assert_eq!(estimator.estimate_bps(), 250_000, "the sender follows the estimate now");
    assert_eq!(estimator.after_drain, Some(425e3));
}

#[test]
fn jitter_does_not_collapse_the_estimate() {
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
fn an_initially_full_queue_is_drained_and_a_longer_path_is_not_mistaken_for_a_queue() {
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
fn a_token_bucket_on_the_path_does_not_inflate_the_estimate() {
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
fn loss_above_wifi_levels_and_silence_lower_the_estimate() {
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
fn an_outage_does_not_lower_the_estimate_whether_its_packets_are_lost_or_late() {
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
fn the_estimate_follows_a_path_that_is_narrower_after_an_outage() {
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
fn a_pause_in_sending_does_not_count_as_silence() {
    // One packet per 100 ms for `millis`, then none.
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
fn remb_is_used_until_there_is_feedback() {
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
