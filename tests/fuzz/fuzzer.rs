//! libFuzzer for the target named in `AQ_FUZZ_TARGET`.
#![no_main]

mod cursor;
mod datagrams;
mod http;
mod parsing;
mod program;
mod targets;
mod websocket;
#[path = "../../benches/wire/mod.rs"]
#[allow(dead_code, reason = "targets need less of it than benches")]
mod wire;
mod world;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

static TARGET: OnceLock<targets::Target> = OnceLock::new();

/// Earlier inputs of the current world, which may be necessary to reproduce a failure.
static SERIES: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("AQ_FUZZ_TARGET").expect("AQ_FUZZ_TARGET names a target");
        let found = targets::TARGETS.into_iter().find(|(other, _)| *other == name);
        TARGET.set(found.expect("AQ_FUZZ_TARGET is one of targets.rs")).expect("it is set once");
    },
    |data: &[u8]| {
        let (name, target) = TARGET.get().expect("it is set before the first input");
        remember(name, data);
        target(data);
    }
);

/// Writes the inputs of a world to files, from the second input on. This happens before an input runs, because a process
/// that exceeds its memory or time can't do it afterwards.
fn remember(name: &str, data: &[u8]) {
    let mut series = SERIES.lock().unwrap_or_else(PoisonError::into_inner);
    if world::AGE.get() == 0 {
        series.clear();
    }
    series.push(data.to_vec());
    let folder = Path::new("target/fuzz").join(name).join("series");
    let from = match series.len() {
        1 => return,
        2 => {
            let _ = fs::remove_dir_all(&folder);
            let _ = fs::create_dir_all(&folder);
            0
        }
        count => count - 1,
    };
    for (number, input) in series.iter().enumerate().skip(from) {
        let _ = fs::write(folder.join(format!("{number:02}")), input);
    }
}
