use super::{Batch, StageRow};

/// What happens to batches between source and sinks: adding to them, or taking records out.
///
/// ```
/// use kprobe_core::{abi::Kind, pipeline::{Batch, BatchBuf, Stage, StageRow}};
///
/// /// Takes out every marker.
/// struct NoMarkers { row: StageRow, out: BatchBuf }
///
/// impl Stage for NoMarkers {
///     fn apply(&mut self, batch: Batch) -> Batch {
///         for one in batch.enriched().flatten() {
///             self.row.received += 1;
///             if one.record.kind() == Kind::META_MARKER {
///                 *self.row.dropped.entry("marker".into()).or_default() += 1;
///             } else {
///                 self.row.delivered += 1;
///                 self.out.push_enriched(one.record, one.context);
///             }
///         }
///         self.out.take()
///     }
///
///     fn row(&self) -> StageRow { self.row.clone() }
/// }
/// ```
pub trait Stage {
    /// Takes a batch and gives what becomes of it. Each record is counted: as delivered, as dropped with a reason, as
    /// undecodable, or as held.
    fn apply(&mut self, batch: Batch) -> Batch;

    /// Gives what it held; there will be no more.
    fn finish(&mut self) -> Batch {
        Batch::default()
    }

    /// The books of this stage.
    fn row(&self) -> StageRow;
}
