/// A place in the queue: in front of a batch, or behind the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Batches before it, since the directory began.
    pub(super) batch: u64,
    /// Records in those batches.
    pub(super) record: u64,
}

/// So many batches, with so many records in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Batches.
    pub batches: u64,
    /// Their records, as [`Batch::records`](crate::pipeline::Batch::records) counts them.
    pub records: u64,
}

impl Position {
    /// What lies between here and `end`; nothing if that is not behind.
    pub(super) const fn until(self, end: Self) -> Count {
        Count {
            batches: end.batch.saturating_sub(self.batch),
            records: end.record.saturating_sub(self.record),
        }
    }

    /// The later of the two, in both its numbers.
    pub(super) fn later(self, other: Self) -> Self {
        Self { batch: self.batch.max(other.batch), record: self.record.max(other.record) }
    }

    /// Nothing of `other` comes before this.
    pub(super) const fn is_not_behind(self, other: Self) -> bool {
        self.batch >= other.batch && self.record >= other.record
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.batches += other.batches;
        self.records += other.records;
    }
}
