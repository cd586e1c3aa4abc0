//! The logger: simple_logger behind a queue, so that nobody who holds its output without reading it holds up the loop.
//!
//! A thread of its own writes the lines, and does nothing else. simple_logger writes with `eprintln!`, which panics when
//! the disk is full or the pipe closed; a server that can't log still serves.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

/// Lines that wait to be written. More hold more memory while nobody reads them, fewer lose a burst.
const QUEUED: usize = 1_024;

/// Bytes of a line's text at most.
const LINE_BYTES: usize = 4_096;

/// How long the end of the process waits for lines that are not written yet.
const PATIENCE: Duration = Duration::from_millis(500);

/// The name of the thread.
const THREAD: &str = "log";

/// What comes late by more than this says so: its time is when it is written.
const LATE: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The way to the thread.
struct Queue {
    entries: SyncSender<Entry>,
    /// Lines that were not written since the last one that was.
    left_out: AtomicU64,
}

/// Something for the thread.
enum Entry {
    Line {
        since: Instant,
        level: Level,
        target: String,
        text: String,
    },
    /// What is not of the log, as it is.
    Plain(String),
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

struct Logger {
    /// Knows what is logged.
    filter: SimpleLogger,
    queue: &'static Queue,
}

impl Queue {
    fn new() -> (Self, Receiver<Entry>) {
        let (entries, receiver) = sync_channel(QUEUED);
        (Self { entries, left_out: AtomicU64::new(0) }, receiver)
    }

    /// Makes an entry of a text and of what was left out before it.
    fn put(&self, text: String, entry: impl FnOnce(String) -> Entry) {
        let left_out = self.left_out.load(Ordering::Relaxed);
        let mut text = cut(text);
        if left_out > 0 {
            text += &format!(" (left out before this, since the log took no more: {left_out})");
        }
        match self.entries.try_send(entry(text)) {
            Ok(()) => self.left_out.fetch_sub(left_out, Ordering::Relaxed),
            Err(_) => self.left_out.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Waits until all is written, if it can be.
    fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        let deadline = Instant::now() + PATIENCE;
        let mut entry = Entry::Flush(done);
        while let Err(TrySendError::Full(back)) = self.entries.try_send(entry) {
            if Instant::now() >= deadline {
                return;
            }
            entry = back;
            thread::sleep(PATIENCE / 50);
        }
        let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, target) = (record.level(), record.target().to_owned());
        let line = |text| Entry::Line { since: Instant::now(), level, target, text };
        let mut text = String::new();
        let _ = fmt::write(&mut text, *record.args());
        self.queue.put(text, line);
    }

    fn flush(&self) {
        self.queue.flush();
    }
}

/// Sends log lines to standard error, those at `level` and above; once in a process.
///
/// # Errors
/// The system gives no thread.
pub fn init(level: LevelFilter) -> io::Result<()> {
    let simple = || {
        SimpleLogger::new()
            .with_utc_timestamps()
            .with_level(level)
            // Would log what people write.
            .with_module_level("tungstenite", LevelFilter::Warn)
    };
    let (queue, entries) = Queue::new();
    let queue = QUEUE.get_or_init(|| queue);
    let writer = simple();
    thread::Builder::new().name(THREAD.to_owned()).spawn(move || write(&writer, queue, &entries))?;
    log::set_max_level(level);
    std::panic::set_hook(Box::new(tell_panic));
    // An embedding program may have a logger already; then that one is right.
    let _ = log::set_boxed_logger(Box::new(Logger { filter: simple(), queue }));
    Ok(())
}

/// Writes a line that is not of the log to standard error.
pub fn tell(line: fmt::Arguments<'_>) {
    match QUEUE.get() {
        Some(queue) => queue.put(line.to_string(), Entry::Plain),
        None => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// Waits until all lines are written, if they can be. Says what was left out at the end.
pub fn flush() {
    let Some(queue) = QUEUE.get() else {
        return;
    };
    queue.flush();
    if queue.left_out.load(Ordering::Relaxed) > 0 {
        queue.put("aq-server: the end of the log".to_owned(), Entry::Plain);
        queue.flush();
    }
}

fn write(simple: &SimpleLogger, queue: &Queue, entries: &Receiver<Entry>) {
    for entry in entries {
        let write = || match &entry {
            Entry::Line { since, level, target, text } => {
                let late = Some(since.elapsed()).filter(|late| *late > LATE);
                let late = late.map_or(String::new(), |late| format!(" ({} s ago)", late.as_secs()));
                simple.log(&Record::builder().level(*level).target(target).args(format_args!("{text}{late}")).build());
            }
            Entry::Plain(line) => drop(writeln!(io::stderr(), "{line}")),
            Entry::Flush(done) => drop(done.try_send(())),
        };
        if catch_unwind(AssertUnwindSafe(write)).is_err() {
            queue.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A panic is caught where it is one peer's, and may come again and again: from one place it is told once a second.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let Some(place) = panic.location().filter(|_| thread::current().name() != Some(THREAD)) else {
        return;
    };
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let this = second << 32 | u64::from(place.line()) << 8 | place.file().len() as u64 & 0xff;
    if TOLD.swap(this, Ordering::Relaxed) != this {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or_default();
        tell(format_args!("panic at {place}: {}", text.escape_debug()));
    }
}

/// What a line may have of a text.
fn cut(mut text: String) -> String {
    if text.len() > LINE_BYTES {
        let most = (0..=LINE_BYTES).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(most.unwrap_or_default());
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_the_queue_full_is_counted_and_told_later() {
        let (entries, receiver) = sync_channel(2);
        let queue = Box::leak(Box::new(Queue { entries, left_out: AtomicU64::new(0) }));
        let logger = Logger { filter: SimpleLogger::new().with_level(LevelFilter::Error), queue };
        let log = |level, count| {
            (0..count).for_each(|_| logger.log(&Record::builder().level(level).args(format_args!("words")).build()));
        };
        let written = || -> Vec<String> {
            let text = |entry| match entry {
                Entry::Line { text, .. } => text,
                _ => panic!("only lines were written"),
            };
            receiver.try_iter().map(text).collect()
        };
        log(Level::Error, 5);
        log(Level::Warn, 1);
        assert_eq!(written(), ["words", "words"]);
        log(Level::Error, 2);
        assert_eq!(written(), ["words (left out before this, since the log took no more: 3)", "words"]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("é".repeat(LINE_BYTES / 2)), "é".repeat(LINE_BYTES / 2));
        assert_eq!(cut("é".repeat(LINE_BYTES)), "é".repeat(LINE_BYTES / 2) + "…");
        assert_eq!(cut(format!("a{}", "é".repeat(LINE_BYTES))).chars().count(), LINE_BYTES / 2 + 1);
    }
}
