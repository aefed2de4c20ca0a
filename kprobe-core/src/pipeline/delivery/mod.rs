//! From the pipeline's thread to each sink's own: a queue bounded in bytes, a thread that delivers, and the sink's books.
//!
//! ```text
//!  pipeline's thread           sink's thread
//!  [outlet] --- queue -------> [worker] -> Sink
//!     |  budget: bytes waiting    |
//!     +--------- books -----------+
//! ```
//!
//! With [`Policy::Spill`] there is a thread between the two, which alone touches the disk:
//!
//! ```text
//!  [outlet] --- queue -> [spiller] --- a few batches -> [worker] -> Sink
//!                         |     ^                          |
//!                        Spill  +------ what arrived ------+
//! ```

mod sync {
    //! What `budget.rs` is made of. `budget_loom.rs`, a test of the benches' package, compiles it over loom's.
    pub(super) use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    };

    pub(super) use crossbeam_utils::sync::{Parker, Unparker};
}

mod books;
mod budget;
mod options;
mod outlet;
mod spiller;
mod worker;

pub(super) use books::reason;
pub use options::{Policy, Retry, SinkOptions};
pub(super) use outlet::{Ears, Outlet};

use super::{Batch, Ledger, SinkError};
use budget::Permit;

/// How it stands with a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The last that was tried went well, or nothing was tried yet.
    #[default]
    Good,
    /// The last that was tried failed, with this message; it is tried again.
    Failing(String),
    /// It gets nothing any more, for this reason.
    Ended(String),
}

/// A sink at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkStatus {
    /// Its name in the ledger.
    pub sink: String,
    /// How it stands.
    pub health: Health,
    /// Bytes of records and their contexts that wait in its queue, or that it works on.
    pub waiting_bytes: usize,
    /// Bytes of all files of its spill; 0 without one.
    pub spilled_bytes: u64,
    /// Batches that it has delivered.
    pub batches: u64,
    /// How far it is behind the source, in the stream's time: 0 if everything that it was given is delivered.
    pub lag_ns: u64,
}

/// Something went wrong at a sink.
#[derive(Debug, thiserror::Error)]
#[error("{sink}: {error}")]
#[non_exhaustive]
pub struct Trouble {
    /// Name of the sink.
    pub sink: String,
    /// What happened.
    #[source]
    pub error: SinkError,
}

/// What a sink's thread is told.
#[derive(Debug)]
enum Message {
    Parcel(Parcel),
    /// Everything before this is to be flushed, and that is to be said.
    Flush {
        /// Records that found no room since the last parcel.
        missed: u64,
    },
    Finish(std::sync::Arc<Ending>),
}

/// What is known of a batch that is given to a sink.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) records: u64,
    /// The source had given every record up to this time then.
    pub(super) until_ns: u64,
}

/// A batch on its way.
#[derive(Debug)]
struct Parcel {
    batch: Batch,
    records: u64,
    until_ns: u64,
    /// Records before it that found no room.
    missed: u64,
    /// Given back when the sink is done with the batch, or when it waits elsewhere.
    _permit: Option<Permit>,
    /// Its place among those of a spilling sink, to be told when it has arrived.
    number: u64,
}

/// What a sink gets to know at the end.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) ledger: Ledger,
    pub(super) incomplete: Option<String>,
}

/// What the thread of a sink that spills says to the one that reads from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Everything up to the parcel of this number has arrived.
    UpTo(u64),
    /// A flush was dealt with.
    Flushed,
}

/// What a sink's thread says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Everything before the last [`Message::Flush`] is flushed, or the sink is over.
    Flushed,
    /// What could not be delivered in time is on disk.
    Kept,
    /// [`Message::Finish`] was dealt with.
    Finished,
}

/// And whose thread, by its place.
pub(super) type Report = (usize, Said);
