//! The measurements from which the estimate of a path is derived.

use crate::media::bandwidth::meter::Meter;
use crate::media::bandwidth::queue::Queue;
use crate::media::bandwidth::standing::Standing;
use crate::media::bandwidth::trend::Trend;

/// The measurements on the packets that feedback has reported.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    /// Rate of the reported packets, by sending time.
    pub sent: Meter,
    /// Rate of those that arrived, by arrival time.
    pub received: Meter,
    /// Whether the queue grows.
    pub trend: Trend,
    /// The delay of the queue.
    pub queue: Queue,
    /// The reductions because of a standing queue.
    pub standing: Standing,
}

impl Measurements {
    /// Discards the measurements from before an outage, which no longer describe the path. The base delay of the path
    /// stays known.
    pub fn restart_after_outage(&mut self) {
        self.sent = Meter::default();
        self.received = Meter::default();
        self.trend = Trend::default();
        self.standing.clear();
    }

    /// Discards the measurements by a clock of the receiver that has jumped.
    pub fn restart_after_clock_jump(&mut self) {
        self.received = Meter::default();
        self.queue = Queue::default();
        self.trend = Trend::default();
        self.standing.clear();
    }
}
