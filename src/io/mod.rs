//! Everything that touches the system: sockets, files, clocks. Nothing else does.

pub mod interfaces;
pub mod logger;
pub mod machine;
pub mod reactor;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod www;

use std::time::{Instant, SystemTime};

use jiff::{Timestamp, tz::TimeZone};

use crate::clock::Wall;

/// Reads the wall clock, and from `TZ` or the system how far local time is from UTC.
pub fn wall(now: Instant) -> Wall {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let utc_offset_secs = TimeZone::system().to_offset(Timestamp::now()).seconds();
    Wall { at: now, unix, utc_offset_secs }
}
