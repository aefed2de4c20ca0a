//! Lines on anything that can be written to: JSON for programs, text for people.
//!
//! ```text
//!  Batch --> JsonSink or HumanSink   one record, one line
//!                  |
//!               outlet               whole lines in large chunks; what was written is delivered, the rest is not
//!                  |
//!             any io::Write          Waiting, for a descriptor that may be non-blocking
//! ```
//!
//! ```
//! use kprobe_core::{event::Registry, pipeline::{Batch, Ledger, Sink, StreamInfo}};
//! use kprobe_sinks::stdout::JsonSink;
//!
//! # fn run(info: &StreamInfo, batches: &[Batch]) -> Result<(), kprobe_core::pipeline::SinkError> {
//! let mut lines = Vec::new();
//! let mut sink = JsonSink::new(&mut lines, info, &Registry::builtin());
//! for batch in batches {
//!     sink.write(batch)?;
//! }
//! sink.flush()?;
//! let ledger = Ledger::new(Vec::new(), Vec::new(), vec![sink.row()]);
//! sink.finish(&ledger, None)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What counts as delivered
//!
//! A record is delivered when the last byte of its line was taken by the writer. It is dropped with the reason
//!
//! - `not_shown`: a seed of the process table (`meta.thread`, `meta.cgroup`), which lines leave out unless asked for;
//!   so `delivered` is the number of lines about records, not more;
//! - `unknown_kind`: the registry does not know its kind;
//! - `undecodable`: its bytes are not what its kind says, or the batch ends in the middle of it;
//! - `io`: its line was not written because writing failed, for example on a full disk;
//! - `closed`: whoever reads had gone;
//! - `shutdown`: whoever reads took nothing more when it was time to end ([`Waiting::until`]).
//!
//! Between two flushes a record can be in the buffer, received but neither delivered nor dropped; after a flush, also one
//! that fails, none is.

mod destination;
mod outlet;
mod stream;
mod waiting;

mod block;
mod decimal;
mod time;
mod who;

mod human;
mod json;

mod lines;

mod describe;

pub use describe::describe_events;
pub use destination::{Destination, Opened};
pub use human::{HumanSink, Times};
pub use json::{COMMON_FIELDS, END_FIELDS, JsonSink, SCHEMA_VERSION, START_FIELDS};
pub use lines::{Form, Lines};
pub use waiting::Waiting;
