//! Real browsers: headless Chromium and Firefox pages with fake devices, through the product's own page and the real
//! server.
//!
//! Chromium is looked for as `chromium`, `chromium-browser` and `google-chrome` on `PATH`, or where `AQ_CHROMIUM`
//! says, Firefox as `firefox-esr` and `firefox`, or where `AQ_FIREFOX` says. Without them these tests say so and pass;
//! with `AQ_REQUIRE_CHROMIUM=1` and `AQ_REQUIRE_FIREFOX=1` they fail. `AQ_SCREENSHOT=FILE` keeps a picture of a call.
//! Nothing here waits a fixed time: each step waits for what must come, up to a deadline.

mod chatting;
mod chromium;
mod firefox;
mod keyboard;
mod layers;
mod looks;
mod moderation;
mod outage;
mod outside;
mod page;
mod program;
mod proxies;
mod remote;
mod scratch;
mod spatial;
mod stories;
mod tab;
#[path = "../token/mod.rs"]
mod token;
mod transport;

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Within this anything that a story waits for must come. Lower fails on a loaded machine; higher lets a failure wait.
const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Looks until it is there; gives what was wrong at the last look when the deadline is over.
fn poll<T>(look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    poll_for(DEADLINE, look)
}

fn poll_for<T>(time: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match look() {
            Err(last) if start.elapsed() >= time => return Err(last),
            Err(_) => thread::sleep(POLL),
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

/// A browser's program: where `AQ_` and its name say, or the first of `names` on `PATH`.
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

/// Says why a test with this browser is skipped, or fails where it must not be.
fn skip(name: &str, words: &str) {
    assert!(env::var_os(format!("AQ_REQUIRE_{name}")).is_none_or(|value| value != "1"), "{words}");
    // Not by a macro: the harness would keep the line of a test that passes to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {words}");
}
