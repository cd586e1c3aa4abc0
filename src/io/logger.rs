//! The logger: simple_logger, kept from ending the process when its output is gone, and from holding up the loop when
//! nobody reads it.
//!
//! It writes with `eprintln!`, which panics when the disk is full or the pipe closed, and waits when the pipe is full;
//! a server that can't log still serves.

use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simple_logger::SimpleLogger;

/// Bytes of a line's text. With what comes before it, less than a page: a pipe that takes anything takes that much
/// without waiting (POSIX `PIPE_BUF`).
const LINE_BYTES: usize = 3_500;

struct Logger {
    inner: SimpleLogger,
    /// Lines that were left out since the last one.
    left_out: AtomicU64,
}

impl Logger {
    fn write(&self, like: &Record<'_>, level: Level, text: fmt::Arguments<'_>) {
        let mut text = text.to_string();
        let most = (0..=LINE_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(most.unwrap_or_default());
        let (target, module) = (like.target(), like.module_path());
        // The record has to be made where its text is.
        let write = || {
            self.inner.log(
                &Record::builder().level(level).target(target).module_path(module).args(format_args!("{text}")).build(),
            );
        };
        let _ = catch_unwind(AssertUnwindSafe(write));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if takes_a_line() {
            let left_out = self.left_out.swap(0, Ordering::Relaxed);
            if left_out > 0 {
                self.write(record, Level::Warn, format_args!("{left_out} lines are missing here: nobody read the log"));
            }
        }
        if takes_a_line() {
            self.write(record, record.level(), *record.args());
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// Sends log lines to standard error, those at `level` and above; once in a process.
pub fn init(level: LevelFilter) {
    let inner = SimpleLogger::new()
        .with_utc_timestamps()
        .with_level(level)
        // Would log what people write.
        .with_module_level("tungstenite", LevelFilter::Warn);
    log::set_max_level(level);
    std::panic::set_hook(Box::new(tell_panic));
    // An embedding program may have a logger already; then that one is right.
    let _ = log::set_boxed_logger(Box::new(Logger { inner, left_out: AtomicU64::new(0) }));
}

/// A panic is caught where it is one peer's, and may come again and again: from one place it is told once a second.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let Some(place) = panic.location() else {
        return;
    };
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let this = second << 32 | u64::from(place.line()) << 8 | place.file().len() as u64 & 0xff;
    if TOLD.swap(this, Ordering::Relaxed) != this {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or_default();
        // What panics in here ends the process, as `eprintln!` would.
        tell(format_args!("panic at {place}: {}", text.escape_debug()));
    }
}

/// Writes a line that is not of the log to standard error, if it takes one.
pub fn tell(line: fmt::Arguments<'_>) {
    if takes_a_line() {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Whether standard error takes a line without waiting. One that is gone does: it fails at once.
fn takes_a_line() -> bool {
    let stderr = rustix::stdio::stderr();
    let is_ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&Timespec::default()));
    is_ready.is_ok_and(|ready| ready > 0)
}
