//! From plans to programs in the kernel: what this machine allows, the offsets of its structs, the arguments of its
//! tracepoints, the ladder of each probe.

mod arguments;
mod build;
mod context;
mod error;
mod group;
mod memlock;
mod object;
mod offsets;
mod preflight;
mod report;
mod run;
mod statistics;

pub(crate) use arguments::Arguments;
pub(crate) use build::Build;
pub(crate) use context::WakeContextSource;
pub use error::AttachError;
pub(crate) use group::{Setup, groups};
pub(crate) use object::{Load, Object, Rings};
pub(crate) use offsets::Offsets;
pub(crate) use preflight::Host;
pub(crate) use report::{FORBIDDEN, skipping};
pub use report::{MapMemory, MemoryUse, Outcome, ProbeReport, Report, RungReport};
pub(crate) use statistics::{Statistics, is_counting};
