//! Tests with real browsers: headless Chromium and Firefox with fake devices, the server's own page and the real server.
//!
//! Chromium is searched as `chromium`, `chromium-browser` and `google-chrome` on `PATH`, Firefox as `firefox-esr` and
//! `firefox`; `AQ_CHROMIUM` and `AQ_FIREFOX` override their paths. Without a browser its tests are skipped; with
//! `AQ_REQUIRE_CHROMIUM=1` and `AQ_REQUIRE_FIREFOX=1` they fail. `AQ_AXE` is the path of axe-core's `axe.min.js`, which
//! `.ci/run` installs; without it that story is skipped, or fails with `AQ_REQUIRE_AXE=1`. `AQ_SCREENSHOT=FILE` saves a
//! picture of a call, `AQ_SCREENSHOTS=FOLDER` those of all sizes and states. All stories share two Chromiums and run side
//! by side, except where they measure (`turn`); `AQ_TURNS=1` prints how long each took. No test sleeps for a fixed time, except to measure: each step waits for a
//! condition, up to a deadline.

mod absence;
mod axe;
mod chatting;
mod chromium;
mod devices;
mod firefox;
mod keyboard;
mod layers;
mod looks;
mod measures;
mod moderation;
mod modules;
mod outage;
mod outside;
mod page;
mod people;
mod pictures;
mod program;
mod proxies;
mod remote;
mod scratch;
mod settings;
mod sizes;
mod spatial;
mod stories;
mod system;
mod tab;
#[path = "../token/mod.rs"]
mod token;
mod transport;
mod turn;

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for a condition to become true. A lower one fails on a busy machine; a higher one delays failures.
const DEADLINE: Duration = Duration::from_secs(20);

/// Interval between two checks of a condition at first, and at most. Each check has the page collect its statistics.
const POLL: Duration = Duration::from_millis(50);
const MAX_POLL: Duration = Duration::from_millis(200);

/// Calls `look` until it succeeds. Returns its last error after the deadline.
fn poll<T>(look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    poll_for(DEADLINE, look)
}

fn poll_for<T>(time: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match look() {
            Err(last) if start.elapsed() >= time => return Err(last),
            // A condition is seen after at most a tenth more than the time it took to become true.
            Err(_) => thread::sleep((start.elapsed() / 10).clamp(POLL, MAX_POLL)),
            found => return found,
        }
    }
}

fn wait_for_exit(process: &mut Child) -> Result<ExitStatus, String> {
    poll(|| match process.try_wait() {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err("it still runs".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

/// Finds a browser's program: the value of `AQ_` and its name, or the first of `names` on `PATH`.
fn find_browser(name: &str, names: &[&str]) -> Option<PathBuf> {
    if let Some(program) = env::var_os(format!("AQ_{name}")) {
        return Some(program.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = env::split_paths(&path).collect();
    let found =
        names.iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file());
    if found.is_none() {
        skip(name, &format!("no {name} ({} on PATH, or AQ_{name})", names.join(" or ")));
    }
    found
}

/// Prints why a test with this browser is skipped, or fails if the browser is required.
fn skip(name: &str, words: &str) {
    assert!(env::var_os(format!("AQ_REQUIRE_{name}")).is_none_or(|value| value != "1"), "{words}");
    // Not `eprintln!`: the harness captures its output for a test that passes.
    let _ = writeln!(std::io::stderr(), "skipped: {words}");
}
