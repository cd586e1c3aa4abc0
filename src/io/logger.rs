//! The logger: simple_logger, kept from ending the process when its output is gone.
//!
//! It writes with `eprintln!`, which panics when the disk is full or the pipe closed; a server that can't log
//! still serves.

use std::panic::{AssertUnwindSafe, catch_unwind};

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
    // An embedding program may have a logger already; then that one is right.
    let _ = log::set_boxed_logger(Box::new(Logger(inner)));
}
