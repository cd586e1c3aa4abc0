//! Resources of the machine: its memory, and the file descriptors of this process.

use std::fs;

/// File descriptors that the process needs in addition to its connections: listening sockets, poll, signals, log, and
/// files being read.
pub const OWN_DESCRIPTORS: usize = 32;

/// Returns the machine's memory in bytes, or `None` if the system does not report it.
pub fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    field(&text, "MemTotal:").map(|kilobytes| kilobytes * 1_024)
}

/// Returns how many file descriptors the process may open, or `None` if unlimited or not reported.
pub fn descriptors() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    field(&text, "Max open files")
}

/// Returns the first number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024    524288    files\n";
        assert_eq!(field(limits, "Max open files"), Some(1_024));
        assert_eq!(field("MemTotal:        8024060 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(8_024_060));
        assert_eq!(field("Max open files unlimited unlimited files", "Max open files"), None);
        assert_eq!(field("", "MemTotal:"), None);
        if cfg!(target_os = "linux") {
            assert!(memory().is_some_and(|bytes| bytes > 1 << 24));
            assert!(descriptors().is_some_and(|count| count > 16));
        }
    }
}
