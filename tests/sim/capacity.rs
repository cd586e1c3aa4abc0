//! Paths of limited capacity: the simulated bottleneck itself, and a call behind one.

use std::time::{Duration, Instant};

use crate::media::{Camera, Microphone};
use crate::network::{Link, Path};
use crate::sim::Sim;
use crate::story::{millis, secs};

/// A datagram of 1,000 bytes on the wire.
const DATAGRAM: [u8; 972] = [0; 972];

/// Offers evenly spaced datagrams to a link for ten seconds. Returns the sending and arrival time of each that passed.
fn offer(link: &mut Link, start: Instant, bits_per_second: u64) -> Vec<(Duration, Duration)> {
    let spacing = Duration::from_nanos(8_000 * 1_000_000_000 / bits_per_second);
    let sent = (0..).map(|count| spacing * count).take_while(|at| *at < secs(10));
    sent.filter_map(|at| Some((at, link.carry_datagram(start + at, &DATAGRAM)[0]? - start))).collect()
}

#[test]
fn excess_datagrams_wait_until_the_queue_is_full_and_are_then_dropped() {
    let narrow = Path { latency: Duration::ZERO, jitter: Duration::ZERO, ..Path::GOOD }.with_capacity(1_000_000);
    let cases = [
        // Offered bitrate; queueing delay in ms; goodput; dropped datagrams.
        (500_000, 0..1, 499_000..501_000, 0..1),
        (990_000, 0..1, 989_000..991_000, 0..1),
        (1_500_000, 195..209, 995_000..1_000_001, 590..610),
        (4_000_000, 195..209, 995_000..1_000_001, 3_700..3_730),
    ];
    for (offered, waited_ms, goodput, dropped) in cases {
        let start = Instant::now();
        let mut link = Link::new(narrow, 1);
        let arrivals = offer(&mut link, start, offered);
        let settled = start + secs(5)..start + secs(10);
        let p95 = link.bottleneck.waited_p95(settled.clone()).as_millis();
        assert!(waited_ms.contains(&p95), "{offered}: waited {p95} ms");
        let through = link.bottleneck.goodput_bps(settled);
        assert!(goodput.contains(&through), "{offered}: {through} passed");
        assert!(dropped.contains(&link.bottleneck.dropped), "{offered}: {} dropped", link.bottleneck.dropped);
        // In order, each after its own transmission time of 8 ms and no closer than 8 ms; the delay grows without
        // jumps.
        assert!(arrivals.iter().all(|(sent, arrived)| *arrived >= *sent + millis(8)));
        assert!(arrivals.windows(2).all(|pair| pair[1].1 >= pair[0].1 + millis(8)));
        let delay = |(sent, arrived): &(Duration, Duration)| *arrived - *sent;
        assert!(arrivals.windows(2).all(|pair| delay(&pair[1]) <= delay(&pair[0]) + millis(8)), "{offered}");
    }
}

#[test]
fn a_change_of_capacity_applies_from_the_next_datagram() {
    let start = Instant::now();
    let path = Path { latency: Duration::ZERO, jitter: Duration::ZERO, ..Path::GOOD };
    let mut link = Link::new(path, 1);
    let mut carry = |ms, capacity| {
        link.path.capacity = capacity;
        let [at, _] = link.carry_datagram(start + millis(ms), &DATAGRAM);
        at.map(|at| (at - start).as_millis())
    };
    let (fast, slow) = (Some(1_000_000), Some(100_000));
    assert_eq!(carry(0, None), Some(0));
    assert_eq!(carry(0, None), Some(0));
    assert_eq!(carry(10, fast), Some(18));
    assert_eq!(carry(10, fast), Some(26));
    assert_eq!(carry(11, slow), Some(106), "80 ms after the datagrams that already waited");
    assert_eq!(carry(12, slow), Some(186));
    assert_eq!(carry(13, slow), Some(266));
    assert_eq!(carry(14, slow), None);
    assert_eq!(carry(70, fast), Some(274));
    assert_eq!(carry(70, None), Some(274), "without a limit, datagrams still arrive in order");
    assert_eq!(carry(300, fast), Some(308));
}

#[test]
fn a_call_recovers_after_its_path_was_too_narrow() {
    let mut sim = Sim::new(500);
    for name in ["ann", "bob", "cat"] {
        sim.join(name);
    }
    sim.run(secs(3));
    sim.narrow("bob", 300_000);
    sim.run(secs(2));
    let since = sim.now;
    sim.run(secs(5));
    let (waited, goodput) = (sim.queueing("bob", since), sim.goodput("bob", since));
    assert!((millis(170)..millis(240)).contains(&waited), "{waited:?}");
    assert!((290_000..=310_000).contains(&goodput), "{goodput} bit/s");
    assert!(
        sim.watched("cat", "ann", Camera).expect("video was received").longest_gap < millis(150),
        "other subscribers must not be affected"
    );
    sim.widen("bob");
    sim.run(secs(6));
    sim.assert_complete("main");
    let before = sim.counts("bob", "ann", Microphone);
    sim.run(secs(5));
    assert!(sim.delivered("bob", "ann", Microphone, before) > 0.99);
}
