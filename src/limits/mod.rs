//! Limits on what clients can cause: rates, protocol errors by network, log lines, and the load of the loop.
//!
//! Each limit takes the time and an event, and returns whether the event is within the limit. Nothing here logs,
//! refuses or drops anything: the caller does.

pub mod bucket;
pub mod faults;
pub mod load;
pub mod notices;
pub mod recent;
