//! What is recorded: which processes, threads and cgroups ([`Filter`]), and which system calls ([`SyscallSet`]).
//!
//! A [`Filter`] is what a user asks for. [`Filter::resolve`] checks it against this machine and gives a [`Selection`], the
//! numbers that kernel programs compare.
#![forbid(unsafe_code)]

mod cgroup;
mod error;
mod pids;
mod selection;
mod shapes;
mod syscalls;

pub use cgroup::Cgroup;
pub use error::FilterError;
pub(crate) use selection::FilterChange;
pub use selection::{Filter, Selection};
pub use shapes::shapes;
pub use syscalls::{SyscallFamily, SyscallSet, UnknownSyscall};
