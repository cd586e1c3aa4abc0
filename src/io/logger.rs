//! The logger: simple_logger behind a queue and a thread, so that a reader that stops reading standard error does not
//! block the event loop.
//!
//! simple_logger writes with `eprintln!`, which panics when the disk is full or the pipe is closed. The thread catches
//! these panics: a server that cannot log keeps serving.

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

/// Capacity of the queue in lines. More take more memory while nothing reads them, fewer lose bursts.
const QUEUED: usize = 1_024;

/// Maximum size of a line's text in bytes.
const LINE_BYTES: usize = 4_096;

/// Maximum time in which the queue is flushed when the process is asked to end. Nobody may read standard error.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Maximum flush time when the process ends because of an error: only the log explains the error, and a busy machine
/// may run the log thread late.
pub const ERROR_PATIENCE: Duration = Duration::from_secs(10);

/// Interval between two attempts to queue into a full queue.
const RETRY: Duration = Duration::from_millis(10);

/// Name of the log thread.
const THREAD: &str = "log";

/// Delay above which a line states its age: the timestamp is taken when it is written.
const LATE: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The queue to the log thread.
struct Queue {
    entries: SyncSender<Entry>,
    /// Lines lost since the last one that was written.
    lost: AtomicU64,
}

/// A message to the log thread.
enum Entry {
    Line {
        since: Instant,
        level: Level,
        target: String,
        text: String,
    },
    /// Text that is not a log line, written as it is.
    Plain(String),
    /// Answered when all earlier entries are written.
    Flush(SyncSender<()>),
}

struct Logger {
    /// Decides which levels and modules are logged.
    filter: SimpleLogger,
    queue: &'static Queue,
}

impl Queue {
    fn new() -> (Self, Receiver<Entry>) {
        let (entries, receiver) = sync_channel(QUEUED);
        (Self { entries, lost: AtomicU64::new(0) }, receiver)
    }

    /// Queues a text, followed by the number of lines lost before it. The text is lost if the queue is full.
    fn put(&self, text: String, entry: impl FnOnce(String) -> Entry) {
        let lost = self.lost.load(Ordering::Relaxed);
        let mut text = truncate(text);
        if lost > 0 {
            text += &format!(" (log queue full: {lost} lines lost before this one)");
        }
        match self.entries.try_send(entry(text)) {
            Ok(()) => self.lost.fetch_sub(lost, Ordering::Relaxed),
            Err(_) => self.lost.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Waits until all entries are written, at most `patience`.
    fn flush(&self, patience: Duration) {
        let (done, is_done) = sync_channel(1);
        let deadline = Instant::now() + patience;
        let mut entry = Entry::Flush(done);
        while let Err(TrySendError::Full(back)) = self.entries.try_send(entry) {
            if Instant::now() >= deadline {
                return;
            }
            entry = back;
            thread::sleep(RETRY);
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
        self.queue.flush(PATIENCE);
    }
}

/// Starts the log thread, which writes log lines of `level` and above to standard error. Call it once per process.
///
/// # Errors
/// Fails if the thread cannot be started.
pub fn init(level: LevelFilter) -> io::Result<()> {
    let simple = || {
        SimpleLogger::new()
            .with_utc_timestamps()
            .with_level(level)
            // Its debug lines contain chat text.
            .with_module_level("tungstenite", LevelFilter::Warn)
    };
    let (queue, entries) = Queue::new();
    let queue = QUEUE.get_or_init(|| queue);
    let writer = simple();
    thread::Builder::new().name(THREAD.to_owned()).spawn(move || write(&writer, queue, &entries))?;
    log::set_max_level(level);
    std::panic::set_hook(Box::new(log_panic));
    // An embedding program may have installed its own logger, which takes precedence.
    let _ = log::set_boxed_logger(Box::new(Logger { filter: simple(), queue }));
    Ok(())
}

/// Writes a line to standard error through the log queue, without timestamp and level.
pub fn print_line(line: fmt::Arguments<'_>) {
    match QUEUE.get() {
        Some(queue) => queue.put(line.to_string(), Entry::Plain),
        None => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// Waits until all lines are written, at most `patience`, and then writes how many were lost at the end.
pub fn flush(patience: Duration) {
    let Some(queue) = QUEUE.get() else {
        return;
    };
    queue.flush(patience);
    if queue.lost.load(Ordering::Relaxed) > 0 {
        queue.put("aq-server: end of log".to_owned(), Entry::Plain);
        queue.flush(PATIENCE);
    }
}

fn write(simple: &SimpleLogger, queue: &Queue, entries: &Receiver<Entry>) {
    for entry in entries {
        let write = || match &entry {
            Entry::Line { since, level, target, text } => {
                let age = Some(since.elapsed()).filter(|age| *age > LATE);
                let age = age.map_or(String::new(), |age| format!(" (logged {} s ago)", age.as_secs()));
                simple.log(&Record::builder().level(*level).target(target).args(format_args!("{text}{age}")).build());
            }
            Entry::Plain(line) => drop(writeln!(io::stderr(), "{line}")),
            Entry::Flush(done) => drop(done.try_send(())),
        };
        if catch_unwind(AssertUnwindSafe(write)).is_err() {
            queue.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Panic hook. Panics caused by one peer are caught and may repeat, so each location is logged at most once a second.
fn log_panic(panic: &PanicHookInfo<'_>) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let Some(location) = panic.location().filter(|_| thread::current().name() != Some(THREAD)) else {
        return;
    };
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let this = second << 32 | u64::from(location.line()) << 8 | location.file().len() as u64 & 0xff;
    if LAST.swap(this, Ordering::Relaxed) != this {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or_default();
        print_line(format_args!("panicked at {location}: {}", text.escape_debug()));
    }
}

/// Truncates a text to `LINE_BYTES` at a character boundary.
fn truncate(mut text: String) -> String {
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
    fn lines_lost_to_a_full_queue_are_counted_in_the_next_line() {
        let (entries, receiver) = sync_channel(2);
        let queue = Box::leak(Box::new(Queue { entries, lost: AtomicU64::new(0) }));
        let logger = Logger { filter: SimpleLogger::new().with_level(LevelFilter::Error), queue };
        let log = |level, count| {
            (0..count).for_each(|_| logger.log(&Record::builder().level(level).args(format_args!("words")).build()));
        };
        let written = || -> Vec<String> {
            let text = |entry| match entry {
                Entry::Line { text, .. } => text,
                _ => panic!("only log lines were queued"),
            };
            receiver.try_iter().map(text).collect()
        };
        log(Level::Error, 5);
        log(Level::Warn, 1);
        assert_eq!(written(), ["words", "words"]);
        log(Level::Error, 2);
        assert_eq!(written(), ["words (log queue full: 3 lines lost before this one)", "words"]);
    }

    #[test]
    fn a_long_text_is_truncated_at_a_character_boundary() {
        assert_eq!(truncate("é".repeat(LINE_BYTES / 2)), "é".repeat(LINE_BYTES / 2));
        assert_eq!(truncate("é".repeat(LINE_BYTES)), "é".repeat(LINE_BYTES / 2) + "…");
        assert_eq!(truncate(format!("a{}", "é".repeat(LINE_BYTES))).chars().count(), LINE_BYTES / 2 + 1);
    }
}
