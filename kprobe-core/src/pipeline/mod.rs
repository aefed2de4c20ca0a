//! From a source to the sinks: batches, what travels with them, and the books that must balance.

mod batch;
mod drain;
mod gaps;
mod info;
mod ledger;
mod merge;
mod order;
mod outlet;
mod run;
mod sink;
mod source;
mod stage;
mod stages;

pub use batch::{Batch, BatchBuf, BatchId, Context, Enriched};
pub use gaps::{GapReport, Gaps, Observed};
pub use info::{Clocks, StreamInfo};
pub(crate) use ledger::is_zero;
pub use ledger::{Drops, Ledger, ProbeRow, SinkRow, StageRow};
pub use merge::Merge;
pub use run::{End, Finished, Run, RunBuilder, Step};
pub use sink::{Sink, SinkError};
pub use source::{Polled, Source, SourceError};
pub use stage::Stage;
pub use stages::{Aggregate, CannotSumUp, Filter, Only, Sample, SampleRate};
