//! Fuzzing: each target takes any bytes, and panics where something that must hold does not.
//!
//! `cargo test` gives each target the inputs of `corpus`, which once reached something new, and some changes of them.
//! To look for more inputs, with a C++ compiler and `TARGET` one of `targets.rs`:
//!
//! ```sh
//! tests/fuzz/run TARGET SECONDS
//! ```
//!
//! It is libFuzzer on stable Rust. What it finds is written to `target/fuzz/TARGET`, and shown again by
//! `tests/fuzz/run TARGET 0 FILE`; where it needs what came before it in the same world, by
//! `tests/fuzz/run TARGET 0 target/fuzz/TARGET/series/*`. DTLS draws random numbers of its own, so that not every
//! input does the same again. A finding becomes a test of the module that was at fault.
//!
//! A panic counts even where the server would catch it and end that peer alone.

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

/// Changes of each input.
const CHANGES: usize = 2;

static PANICS: AtomicU32 = AtomicU32::new(0);

#[test]
fn nothing_that_was_ever_found_is_found_again() {
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

/// Some bytes are others, and some are gone.
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
