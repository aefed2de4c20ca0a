use super::{Batch, BatchBuf, Gaps, StageRow};

/// What came out of a source so far: the first row of the stages.
#[derive(Debug, Default)]
pub(super) struct Drain {
    pub(super) gaps: Gaps,
    pub(super) complete_until_ns: u64,
    records: u64,
    torn: u64,
}

/// How it stands with the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It has given everything: what is missing is a bug.
    Nothing,
    /// It will give the rest.
    ToCome,
    /// Nobody will ask it for the rest.
    Behind,
}

impl Drain {
    /// Counts the records of a batch and cuts off what follows a torn frame, which no source of ours gives.
    pub(super) fn count(&mut self, batch: Batch) -> (Batch, u64) {
        let (batch, records) = match self.gaps.observe_batch(&batch) {
            Ok(records) => (batch, records),
            Err((records, _)) => {
                self.torn += 1;
                let mut sound = BatchBuf::default();
                batch.records().map_while(Result::ok).for_each(|record| sound.push(record));
                (sound.take(), records)
            }
        };
        self.records += records;
        (batch, records)
    }

    /// The books, when the source says that user space was to get so many records.
    pub(super) fn row(&self, source_says: u64, left: Left) -> StageRow {
        let mut row = StageRow::named("drain");
        row.delivered = self.records;
        row.undecodable = self.torn;
        row.received = self.records + self.torn;
        let rest = source_says.saturating_sub(row.received);
        if rest > 0 && left != Left::Nothing {
            row.received += rest;
            match left {
                Left::Behind => drop(row.dropped.insert("shutdown".to_owned(), rest)),
                _ => row.held = rest,
            }
        }
        row
    }
}
