use crate::abi::{Family, Kind};

use super::{Batch, BatchBuf, Stage, StageRow};

/// A stage that passes on the kinds that were asked for.
///
/// Some kinds are recorded because others need them: without process events nobody knows whose system call it was.
/// Records about the stream itself always pass, and a batch of which nothing has to go passes without being copied.
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

    fn passes(&mut self, kind: Kind) -> bool {
        kind.family() == Some(Family::Meta) || (self.wanted)(kind)
    }
}

impl<F: FnMut(Kind) -> bool> Stage for Only<F> {
    fn apply(&mut self, batch: Batch) -> Batch {
        let (mut delivered, mut unwanted, mut whole) = (0, 0, true);
        for one in batch.enriched() {
            let passes = one.is_ok_and(|one| self.passes(one.record.kind()));
            if whole && !passes {
                // Only now is anything copied.
                whole = false;
                let before = batch.enriched().flatten().take(delivered);
                before.for_each(|one| self.out.push_enriched(one.record, one.context.clone()));
            }
            match one {
                Ok(one) if passes => {
                    delivered += 1;
                    if !whole {
                        self.out.push_enriched(one.record, one.context.clone());
                    }
                }
                Ok(_) => unwanted += 1,
                Err(_) => {}
            }
        }
        self.row.delivered += delivered as u64;
        self.row.received += delivered as u64 + unwanted;
        if unwanted > 0 {
            *self.row.dropped.entry("not_wanted".to_owned()).or_default() += unwanted;
        }
        if whole { batch } else { self.out.take() }
    }

    fn row(&self) -> StageRow {
        self.row.clone()
    }
}
