//! The bandwidth towards one subscriber: how much the path carries, estimated where the packets are sent, from what
//! the receiver says of each (draft-ietf-rmcat-gcc-02). And what is said to a publisher of its packets, which estimates
//! the other way.

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
