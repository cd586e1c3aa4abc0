//! System access: sockets, files, clocks, the log. No other module touches the system.

pub mod certificates;
pub mod gather;
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

/// Makes the next `wall` read the system's time zone again, which is otherwise cached for some minutes.
pub fn forget_time_zone() {
    jiff::tz::reset_system_time_zone_cache();
}

/// Reads the wall clock, and the offset of local time from UTC (from `TZ` or the system's time zone).
pub fn wall(now: Instant) -> Wall {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let utc_offset_secs = TimeZone::system().to_offset(Timestamp::now()).seconds();
    Wall { at: now, unix, utc_offset_secs }
}
