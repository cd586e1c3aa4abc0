//! Which stories run at the same time. The harness starts more than there are cores (`RUST_TEST_THREADS` in
//! `.cargo/config.toml`); each then waits for its turn before it opens pages, because an open page computes even while its
//! story waits. A story is alone while it measures times, counts freezes or overloads the machine.

use std::io::Write;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

/// How many stories run side by side. With more, encoders have too little of a core and lower their pictures.
static SIDE_BY_SIDE: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

static RUNNING: Mutex<Running> = Mutex::new(Running { beside: 0, is_one_alone: false, waiting: 0, resting: 0 });
static CHANGED: Condvar = Condvar::new();

struct Running {
    /// Stories side by side.
    beside: usize,
    is_one_alone: bool,
    /// Stories that wait to be alone; others begin after them.
    waiting: usize,
    /// Stories that rest. None is alone meanwhile, because their pages are open; others begin.
    resting: usize,
}

/// A story's permission to run, until it is dropped.
pub struct Turn {
    share: Share,
    /// Time in which it waited for others.
    waited: Duration,
    begun: Instant,
}

/// What a story takes of the machine.
#[derive(PartialEq, Eq)]
enum Share {
    /// No other story runs.
    All,
    Some,
    /// It rests.
    None,
}

/// Waits until no story is alone or waits for that, and few run side by side.
pub fn side_by_side() -> Turn {
    let asked = Instant::now();
    let busy = |running: &mut Running| running.waiting > 0 && running.resting == 0 || running.is_full();
    CHANGED.wait_while(running(), busy).unwrap_or_else(PoisonError::into_inner).beside += 1;
    Turn { share: Share::Some, waited: asked.elapsed(), begun: asked }
}

/// Waits until no other story runs.
pub fn alone() -> Turn {
    let asked = Instant::now();
    let mut running = running();
    running.waiting += 1;
    let busy = |running: &mut Running| running.is_one_alone || running.beside > 0 || running.resting > 0;
    let mut running = CHANGED.wait_while(running, busy).unwrap_or_else(PoisonError::into_inner);
    running.waiting -= 1;
    running.is_one_alone = true;
    Turn { share: Share::All, waited: asked.elapsed(), begun: asked }
}

impl Running {
    /// Whether no story more may run beside others.
    fn is_full(&self) -> bool {
        self.is_one_alone || self.beside >= *SIDE_BY_SIDE
    }
}

impl Turn {
    /// Lets others run beside the rest of this story.
    pub fn measured(&mut self) {
        assert!(self.share == Share::All, "the story was alone");
        let mut running = running();
        running.is_one_alone = false;
        running.beside += 1;
        self.share = Share::Some;
        CHANGED.notify_all();
    }

    /// Lets others run in place of this story while it waits for a long timeout. Its pages have to be calm ones.
    pub fn rests(&mut self) {
        assert!(self.share == Share::Some, "the story ran beside others");
        self.share = Share::None;
        let mut running = running();
        running.beside -= 1;
        running.resting += 1;
        CHANGED.notify_all();
    }

    /// Waits until the story may run again.
    pub fn resumes(&mut self) {
        assert!(self.share == Share::None, "the story rested");
        let asked = Instant::now();
        let mut running =
            CHANGED.wait_while(running(), |running| running.is_full()).unwrap_or_else(PoisonError::into_inner);
        running.resting -= 1;
        running.beside += 1;
        CHANGED.notify_all();
        self.waited += asked.elapsed();
        self.share = Share::Some;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        match self.share {
            Share::All => running().is_one_alone = false,
            Share::Some => running().beside -= 1,
            Share::None => running().resting -= 1,
        }
        CHANGED.notify_all();
        if env::var_os("AQ_TURNS").is_some() {
            let (took, name) = (self.begun.elapsed() - self.waited, thread::current().name().unwrap_or("").to_owned());
            // Not `eprintln!`: the harness captures its output for a test that passes.
            let _ = writeln!(std::io::stderr(), "{:5.1} s {name}", took.as_secs_f64());
        }
    }
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
