use super::{Batch, BatchBuf, Gaps, Observed, StageRow};

/// What came out of a source so far: the first row of the stages.
#[derive(Debug, Default)]
pub(super) struct Drain {
    pub(super) gaps: Gaps,
    pub(super) complete_until_ns: u64,
    records: u64,
    bad_frames: u64,
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
    /// Counts the records of a batch and takes out frames without one, which no program of ours makes.
    pub(super) fn count(&mut self, batch: Batch) -> (Batch, u64) {
        let Observed { records, bad_frames } = self.gaps.observe_batch(&batch);
        self.records += records;
        if bad_frames == 0 {
            return (batch.counted(records), records);
        }
        self.bad_frames += bad_frames;
        let mut sound = BatchBuf::default();
        batch.records().flatten().for_each(|record| sound.push(record));
        (sound.take().counted(records), records)
    }

    /// The books, when the source says that user space was to get so many records.
    pub(super) fn row(&self, source_says: u64, left: Left) -> StageRow {
        let mut row = StageRow::named("drain");
        row.delivered = self.records;
        row.undecodable = self.bad_frames;
        row.received = self.records + self.bad_frames;
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
