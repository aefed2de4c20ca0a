//! From a source to the sinks: batches, what travels with them, and the books that must balance.

mod batch;
mod contexts;
mod info;
mod ledger;

mod drain;
mod gaps;
mod inputs;
mod source;

mod merge;
mod order;

mod stage;
mod stages;

mod delivery;
mod sink;

mod builder;
mod driver;
mod monitor;

pub use batch::{Batch, BatchBuf, BatchId, Context, Enriched};
pub use builder::{BuildError, PipelineBuilder};
pub(crate) use contexts::Contexts;
pub use delivery::{Health, Policy, Retry, SinkOptions, SinkStatus, Trouble};
pub use driver::{End, Finished, Pipeline, Step, Stop};
pub use gaps::{GapReport, Gaps, Observed};
pub use info::{Clocks, StreamInfo};
pub(crate) use ledger::is_zero;
pub use ledger::{Drops, Ledger, ProbeRow, SinkRow, StageRow};
pub use merge::Merge;
pub use monitor::{Monitor, Seen};
pub use sink::{Sink, SinkError, Tally};
pub use source::{Polled, Source, SourceError};
pub use stage::Stage;
pub use stages::{Aggregate, CannotSumUp, Filter, Only, Sample, SampleRate};
