//! Which origins may join.

use crate::client::{request, upgrade};
use crate::process::Process;
use crate::wire::Wire;

/// The status of an upgrade with this `Origin`.
fn status(process: &Process, origin: Option<&str>) -> u16 {
    let addr = process.addr();
    let request = request(&format!("ws://{addr}/aq_server/websocket?name=Ann"), origin);
    upgrade(Wire::plain(addr), request).map_or_else(|status| status, |_| 101)
}

#[test]
fn by_default_only_the_servers_own_origin_may_join() {
    let process = Process::start(&["--addr", "127.0.0.1:0"]);
    let own = format!("http://{}", process.addr());
    let other_port = format!("http://127.0.0.1:{}", process.port() ^ 1);
    for (origin, expected) in [
        (None, 101),
        (Some(own.as_str()), 101),
        (Some(other_port.as_str()), 403),
        (Some("http://evil.example"), 403),
        (Some("http://127.0.0.1.evil.example"), 403),
        (Some("null"), 403),
    ] {
        assert_eq!(status(&process, origin), expected, "{origin:?}");
    }
}

#[test]
fn a_list_of_origins_replaces_the_servers_own() {
    let list = "https://good.example,http://also.example:3000";
    let process = Process::start(&["--addr", "127.0.0.1:0", "--allow-origin", list]);
    let own = format!("http://{}", process.addr());
    for (origin, expected) in [
        (None, 101),
        (Some("https://good.example"), 101),
        (Some("http://also.example:3000"), 101),
        (Some("http://good.example"), 403),
        (Some("https://good.example.evil.example"), 403),
        (Some("http://also.example"), 403),
        (Some(own.as_str()), 403),
    ] {
        assert_eq!(status(&process, origin), expected, "{origin:?}");
    }
}
