//! What a publisher is told of its own packets.

use crate::sim::Sim;
use crate::story::{millis, secs};

/// Another implementation reads what the server writes: the loss that a publisher concludes is that of its path, and the
/// time of a round trip is not longer than its packets wait to be reported.
#[test]
fn a_publisher_learns_what_its_path_loses() {
    for loss in [0.0, 0.1] {
        let mut sim = Sim::new(870);
        let mut habits = sim.habits();
        habits.has_stats = true;
        sim.arrive("ann", "main", habits);
        sim.run(secs(1));
        sim.links[0].up.path.loss = loss;
        sim.run(secs(20));
        let stats = &sim.browser("ann").stats;
        let lost: Vec<f64> = stats.iter().filter_map(|stats| stats.egress_loss_fraction).map(f64::from).collect();
        assert!(lost.len() > 15, "{lost:?}");
        let mean = lost.iter().sum::<f64>() / lost.len() as f64;
        assert!((mean - loss).abs() < 0.02, "{mean} of {loss}: {lost:?}");
        let longest = stats.iter().filter_map(|stats| stats.rtt).max().expect("known");
        assert!(longest < 2 * sim.path.latency + millis(110), "{longest:?}");
    }
}
