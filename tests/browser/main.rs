//! Real browsers: headless Chromium pages with fake devices, through the product's own page and the real server.
//!
//! Chromium is looked for as `chromium`, `chromium-browser` and `google-chrome` on `PATH`, or where `AQ_CHROMIUM`
//! says. Without one these tests say so and pass; with `AQ_REQUIRE_CHROMIUM=1` they fail. `AQ_SCREENSHOT=FILE` keeps
//! a picture of a call. Nothing here waits a fixed time: each step waits for what must come, up to a deadline.

mod chromium;
mod devtools;
mod layers;
mod page;
mod program;
mod scratch;
mod stories;

use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// Within this anything that a story waits for must come. Lower fails on a loaded machine; higher lets a failure wait.
const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Looks until it is there; gives what was wrong at the last look when the deadline is over.
fn poll<T>(mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match look() {
            Err(last) if start.elapsed() >= DEADLINE => return Err(last),
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
