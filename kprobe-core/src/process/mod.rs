//! Who was that: name, parent, process and container of every event.
//!
//! [`ProcessTable`] is a stage. It learns from the stream alone (forks, execs, exits, renames, and the `meta.thread` and
//! `meta.cgroup` records that user space puts into it), so a capture played again gives the very contexts it had live.
//! It is bounded: see [`TableLimits`].
//!
//! [`parse_proc_stat`] and [`container_of`] read text of `/proc` for those who make the `meta` records; nothing here opens
//! a file.

#![forbid(unsafe_code)]

mod container;
mod containers;
mod hash;
mod slots;
mod stat;
mod table;
mod threads;

pub use container::container_of;
pub use stat::{ProcStat, StatError, parse_proc_stat};
pub use table::{ProcessTable, TableLimits};
