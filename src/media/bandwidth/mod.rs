//! Congestion control for the path to one subscriber, at the sender (draft-ietf-rmcat-gcc-02).
//!
//! In: the size and time of each packet sent, and the subscriber's transport-wide feedback. Out: the estimated bitrate,
//! the time at which a packet may leave, and probes that are due.
//!
//! Never here: packets, tracks or layers. What the estimate is spent on is decided in [`crate::media::subscribe`].

pub mod estimator;
pub mod history;
pub mod loss;
pub mod meter;
pub mod outage;
pub mod pacer;
pub mod probe;
pub mod queue;
mod regression;
mod silence;
mod standing;
pub mod train;
pub mod trend;
