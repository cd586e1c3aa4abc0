//! libFuzzer with the target that the environment names.
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

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

/// The inputs that the world has taken, which the next may need to fail.
static SERIES: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("AQ_FUZZ_TARGET").expect("AQ_FUZZ_TARGET names a target");
        let found = targets::TARGETS.iter().find(|(other, _)| *other == name);
        TARGET.set(found.expect("AQ_FUZZ_TARGET is one of targets.rs").1).expect("it is set once");
        // The hook that is there ends the process.
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            write_series(&Path::new("target/fuzz").join(&name).join("series"));
            end(info);
        }));
    },
    |data: &[u8]| {
        let mut series = SERIES.lock().unwrap_or_else(PoisonError::into_inner);
        if world::AGE.get() == 0 {
            series.clear();
        }
        series.push(data.to_vec());
        drop(series);
        (TARGET.get().expect("it is set before the first input"))(data);
    }
);

fn write_series(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let _ = fs::create_dir_all(folder);
    for (number, input) in SERIES.lock().unwrap_or_else(PoisonError::into_inner).iter().enumerate() {
        let _ = fs::write(folder.join(format!("{number:02}")), input);
    }
}
