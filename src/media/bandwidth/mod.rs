//! Congestion control: the bandwidth estimate for the path to one subscriber, computed at the sender from
//! transport-wide feedback (draft-ietf-rmcat-gcc-02), and the feedback sent to publishers, which estimate the opposite
//! direction.

pub mod arrivals;
pub mod estimator;
pub mod feedback;
pub mod history;
pub mod loss;
pub mod meter;
pub mod outage;
pub mod pacer;
pub mod probe;
pub mod queue;
pub mod trend;

#[cfg(test)]
mod link;
