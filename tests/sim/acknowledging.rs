//! The feedback that a publisher receives about its own packets.

use crate::sim::Sim;
use crate::story::{millis, secs};

/// Another implementation parses the server's feedback: the loss that the publisher computes must be that of its path,
/// and the round-trip time must not exceed the delay of the reports.
#[test]
fn feedback_reports_the_loss_of_the_publishers_path() {
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
        assert!((mean - loss).abs() < 0.02, "{mean} measured, {loss} expected: {lost:?}");
        let longest = stats.iter().filter_map(|stats| stats.rtt).max().expect("the round-trip time was measured");
        assert!(longest < 2 * sim.path.latency + millis(110), "{longest:?}");
    }
}
