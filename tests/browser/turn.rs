//! Which stories run at the same time. The harness starts more than there are cores (`RUST_TEST_THREADS` in
//! `.cargo/config.toml`); each then waits for its turn before it opens pages, because an open page computes even while its
//! story waits. A story is alone while it measures times, counts freezes or overloads the machine, and while it needs a
//! camera at its full size: Chromium opens its fake camera once, for all pages.

use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How many stories run side by side. With more, encoders have too little of a core and lower their pictures.
static SIDE_BY_SIDE: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

static RUNNING: Mutex<Running> = Mutex::new(Running { beside: 0, is_one_alone: false, waiting: 0 });
static CHANGED: Condvar = Condvar::new();

struct Running {
    /// Stories side by side.
    beside: usize,
    is_one_alone: bool,
    /// Stories that wait to be alone; others begin after them.
    waiting: usize,
}

/// A story's permission to run, until it is dropped.
pub struct Turn {
    is_alone: bool,
}

/// Waits until no story is alone or waits for that, and few run side by side.
pub fn side_by_side() -> Turn {
    let busy = |running: &mut Running| running.is_one_alone || running.waiting > 0 || running.beside >= *SIDE_BY_SIDE;
    CHANGED.wait_while(running(), busy).unwrap_or_else(PoisonError::into_inner).beside += 1;
    Turn { is_alone: false }
}

/// Waits until no other story runs.
pub fn alone() -> Turn {
    let mut running = running();
    running.waiting += 1;
    let busy = |running: &mut Running| running.is_one_alone || running.beside > 0;
    let mut running = CHANGED.wait_while(running, busy).unwrap_or_else(PoisonError::into_inner);
    running.waiting -= 1;
    running.is_one_alone = true;
    Turn { is_alone: true }
}

impl Turn {
    /// Lets others run beside the rest of this story.
    pub fn measured(&mut self) {
        assert!(std::mem::take(&mut self.is_alone), "the story was alone");
        let mut running = running();
        running.is_one_alone = false;
        running.beside += 1;
        CHANGED.notify_all();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = running();
        if self.is_alone {
            running.is_one_alone = false;
        } else {
            running.beside -= 1;
        }
        CHANGED.notify_all();
    }
}

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
