//! Everything that touches the system: sockets, files, clocks. Nothing else does.

pub mod certificates;
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

/// Looks up the system's time zone again with the next reading of the wall clock; else it is kept for some minutes.
pub fn forget_time_zone() {
    jiff::tz::reset_system_time_zone_cache();
}

/// Reads the wall clock, and from `TZ` or the system how far local time is from UTC.
pub fn wall(now: Instant) -> Wall {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let utc_offset_secs = TimeZone::system().to_offset(Timestamp::now()).seconds();
    Wall { at: now, unix, utc_offset_secs }
}
