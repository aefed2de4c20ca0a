use serde::{Deserialize, Serialize};

/// A run of consecutive blocks of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Where the first block of the run starts in the file.
    pub offset: u64,
    /// Blocks in the run.
    pub blocks: u64,
    /// Records in them.
    pub records: u64,
    /// Earliest time of any of these records, `CLOCK_MONOTONIC` in nanoseconds.
    pub first_ktime_ns: u64,
    /// Latest time of any of them.
    pub last_ktime_ns: u64,
}

/// More entries than this are thinned: neighbours become one.
pub(super) const MAX_ENTRIES: usize = 1024;

/// The index while it grows. Its size is bounded; what it gives up is resolution.
#[derive(Clone, Debug)]
pub(super) struct Index {
    entries: Vec<IndexEntry>,
    /// Blocks in each entry but the last, which may still have fewer.
    stride: u64,
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), stride: 1 }
    }

    pub(super) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Adds the next block as an entry of one block.
    pub(super) fn push(&mut self, block: IndexEntry) {
        match self.entries.last_mut() {
            Some(last) if last.blocks < self.stride => last.absorb(block),
            _ => {
                if self.entries.len() == MAX_ENTRIES {
                    self.thin();
                }
                self.entries.push(block);
            }
        }
    }

    fn thin(&mut self) {
        let mut kept = 0;
        for at in (0..self.entries.len()).step_by(2) {
            let mut entry = self.entries[at];
            if let Some(&next) = self.entries.get(at + 1) {
                entry.absorb(next);
            }
            self.entries[kept] = entry;
            kept += 1;
        }
        self.entries.truncate(kept);
        self.stride *= 2;
    }
}

impl IndexEntry {
    fn absorb(&mut self, next: Self) {
        self.blocks += next.blocks;
        self.records += next.records;
        self.first_ktime_ns = self.first_ktime_ns.min(next.first_ktime_ns);
        self.last_ktime_ns = self.last_ktime_ns.max(next.last_ktime_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> IndexEntry {
        IndexEntry {
            offset: 100 * number,
            blocks: 1,
            records: number + 1,
            first_ktime_ns: 1000 * number,
            last_ktime_ns: 1000 * number + 999,
        }
    }

    #[test]
    fn stays_bounded_and_covers_every_block() {
        let mut index = Index::new();
        for count in 1..=10 * MAX_ENTRIES as u64 {
            index.push(block(count - 1));
            let entries = index.entries();
            assert!(entries.len() <= MAX_ENTRIES);
            let (last, full) = entries.split_last().expect("not empty");
            assert!(full.iter().all(|entry| entry.blocks == index.stride));
            assert!(last.blocks <= index.stride);
            if count % 1000 != 0 {
                continue;
            }
            let mut number = 0;
            for entry in entries {
                let last = number + entry.blocks - 1;
                let mut expected = block(number);
                expected.blocks = entry.blocks;
                expected.records = (number..=last).map(|number| number + 1).sum();
                expected.last_ktime_ns = block(last).last_ktime_ns;
                assert_eq!(*entry, expected);
                number = last + 1;
            }
            assert_eq!(number, count);
        }
    }
}
