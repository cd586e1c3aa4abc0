//! A map of the keys that were used most recently, up to a fixed number.

use std::collections::BTreeMap;
use std::time::Instant;

/// Values by key. At the limit, a new key evicts the least recently used one.
#[derive(Debug)]
pub struct Recent<K, V> {
    entries: BTreeMap<K, (Instant, V)>,
    limit: usize,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    /// Upper bound of the memory of one entry in bytes, without the heap memory of key and value. B-tree nodes are at
    /// least half full, hence the factor of 2.
    pub const BYTES_EACH: usize = 2 * size_of::<(K, (Instant, V))>();

    /// Creates an empty map of at most `limit` keys.
    pub fn new(limit: usize) -> Self {
        Self { entries: BTreeMap::new(), limit }
    }

    /// Returns the value of a key and marks the key as used. A missing value is inserted; at the limit this scans all
    /// entries.
    pub fn entry(&mut self, now: Instant, key: K, new: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= self.limit && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.entries.remove(&key));
        }
        let (used, value) = self.entries.entry(key).or_insert_with(|| (now, new()));
        *used = now;
        value
    }

    /// Returns the value of a key without marking the key as used.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Returns when a key was last used.
    pub fn used(&self, key: &K) -> Option<Instant> {
        self.entries.get(key).map(|(used, _)| *used)
    }

    /// Returns the number of keys.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_least_recently_used_key_is_evicted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut recent = Recent::new(3);
        for (ms, key) in [(0, 'a'), (1, 'b'), (2, 'c'), (3, 'a'), (4, 'd')] {
            *recent.entry(at(ms), key, || 0) += 1;
        }
        assert_eq!(['a', 'b', 'c', 'd'].map(|key| recent.get(&key).copied()), [Some(2), None, Some(1), Some(1)]);
        assert_eq!(recent.len(), 3);
    }
}
