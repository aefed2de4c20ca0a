//! A queue of batches on disk, for a sink that cannot take them yet: [`Spill`].
//!
//! ```text
//!  Batch -> [write]  codec -> frames -> segments ->+
//!                                                  |  Disk (a locked Folder)
//!  Batch <- [read]   codec <- frames <- segments <-+
//!              |
//!              +-- acks: up to where everything has arrived
//! ```
//!
//! [`recover`](Spill::recovered) goes first: it finds what an earlier run left, and what is damaged in it. The bytes are
//! specified in `docs/src/spill-format.md`. One thread owns a spill; there is no lock but the one that keeps a second
//! process out of the directory.

#![forbid(unsafe_code)]

mod format;
mod limits;
mod names;
mod position;

mod disk;
mod folder;

mod damage;
mod error;
mod segment;

mod acks;
mod codec;
mod recover;

mod read;
mod store;
mod write;

pub use damage::{Cause, Damage};
pub use disk::Disk;
pub use error::{AppendError, Problem, SpillError};
pub use folder::Folder;
pub use format::{FORMAT_VERSION, MAX_BATCH};
pub use limits::SpillLimits;
pub use position::{Count, Position};
pub use recover::Recovered;
pub use store::Spill;
