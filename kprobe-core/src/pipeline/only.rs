use crate::abi::{Family, Kind};

use super::{Batch, BatchBuf, Stage, StageRow};

/// A stage that passes on the kinds that were asked for.
///
/// Some kinds are recorded because others need them: without process events nobody knows whose system call it was.
/// Records about the stream itself always pass.
#[derive(Debug)]
pub struct Only<F> {
    wanted: F,
    row: StageRow,
    out: BatchBuf,
}

impl<F: FnMut(Kind) -> bool> Only<F> {
    /// Passes on the kinds for which `wanted` is true; the others are dropped as `not_wanted`.
    pub fn new(wanted: F) -> Self {
        let row = StageRow { stage: "only".to_owned(), ..StageRow::default() };
        Self { wanted, row, out: BatchBuf::default() }
    }
}

impl<F: FnMut(Kind) -> bool> Stage for Only<F> {
    fn apply(&mut self, batch: Batch) -> Batch {
        let mut unwanted = 0;
        for one in batch.enriched().flatten() {
            let kind = one.record.kind();
            if kind.family() == Some(Family::Meta) || (self.wanted)(kind) {
                self.row.delivered += 1;
                self.out.push_enriched(one.record, one.context.clone());
            } else {
                unwanted += 1;
            }
            self.row.received += 1;
        }
        if unwanted > 0 {
            *self.row.dropped.entry("not_wanted".to_owned()).or_default() += unwanted;
        }
        self.out.take()
    }

    fn row(&self) -> StageRow {
        self.row.clone()
    }
}
