//! Fuzzing: each target takes any bytes, and panics if an invariant does not hold.
//!
//! `cargo test` runs each target with the inputs in `corpus`, which reached new code once, and with some mutations.
//! To search for more inputs, with a C++ compiler and `TARGET` from `targets.rs`:
//!
//! ```sh
//! tests/fuzz/run TARGET SECONDS
//! ```
//!
//! This runs libFuzzer on stable Rust. Failing inputs are written to `target/fuzz/TARGET` and reproduced by
//! `tests/fuzz/run TARGET 0 FILE`, or, if earlier inputs of the same world are necessary, by
//! `tests/fuzz/run TARGET 0 target/fuzz/TARGET/series/*`. DTLS uses its own random numbers, so not every failure is
//! reproducible. For each finding, add a test to the faulty module.
//!
//! A panic is a failure even if the server would catch it and end only that peer.

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
use std::panic::{catch_unwind, take_hook};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::targets::TARGETS;

/// Mutations per input.
const CHANGES: usize = 2;

static PANICS: AtomicU32 = AtomicU32::new(0);

#[test]
fn no_target_fails_with_the_corpus() {
    let hook = take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        hook(info);
    }));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in TARGETS {
        let mut files: Vec<_> =
            fs::read_dir(corpus.join(name)).expect("each target has inputs").map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has inputs");
        let mut dice = fastrand::Rng::with_seed(1);
        for file in files {
            let input = fs::read(&file).unwrap();
            let changed = (0..CHANGES).map(|_| change(&mut dice, &input));
            for input in [input.clone()].into_iter().chain(changed) {
                let result = catch_unwind(|| target(&input));
                let panics = PANICS.load(Ordering::Relaxed);
                assert!(
                    result.is_ok() && panics == 0,
                    "{name} fails with {}: {}",
                    file.display(),
                    input.escape_ascii()
                );
            }
        }
    }
}

/// Mutates an input: changes or removes some bytes.
fn change(dice: &mut fastrand::Rng, input: &[u8]) -> Vec<u8> {
    let mut changed = input.to_vec();
    for _ in 0..dice.usize(1..4) {
        if !changed.is_empty() {
            let at = dice.usize(..changed.len());
            match dice.u8(..3) {
                0 => changed[at] = dice.u8(..),
                1 => changed[at] ^= 1 << dice.u8(..8),
                _ => drop(changed.drain(at..(at + dice.usize(..8)).min(input.len()).min(changed.len()))),
            }
        }
    }
    changed
}
