//! The logger: simple_logger, kept from ending the process when its output is gone.
//!
//! It writes with `eprintln!`, which panics when the disk is full or the pipe closed; a server that can't log
//! still serves.

use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

struct Logger(SimpleLogger);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = catch_unwind(AssertUnwindSafe(|| self.0.log(record)));
        }
    }

    fn flush(&self) {
        self.0.flush();
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
    let _ = log::set_boxed_logger(Box::new(Logger(inner)));
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
        let _ = writeln!(std::io::stderr(), "panic at {place}: {}", text.escape_debug());
    }
}
