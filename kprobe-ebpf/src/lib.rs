//! Typed probes on a live Linux kernel.
//!
//! What this crate does not do: it installs no logger and no signal handler, starts no thread unless asked, keeps no
//! global state, pins nothing, and never reads the memory of a process it records.
//!
//! ```text
//!   Filter, Sched, Syscalls, ... --> RecorderBuilder --attach--> Recorder
//!      [filter]   [probe]                [attach]                   |
//!                              [host] what this machine allows      | programs in the kernel
//!                              [btf]  where its structs keep things |
//!                                                                   v
//!                                  kprobe_core::Batch <--drain-- [ring]
//! ```
//!
//! A recorder needs CAP_BPF and CAP_PERFMON, and a kernel from 6.1 on with type information (BTF). From 5.10 on nearly all
//! families are there, and before 5.11 CAP_SYS_RESOURCE is needed too, or a limit on locked memory that is high enough.

pub mod btf;
pub mod filter;
pub mod host;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod ring;

mod attach;
mod probe;
mod recorder;
mod shared;

pub use attach::{AttachError, MapMemory, MemoryUse, Outcome, ProbeReport, Report, RungReport};
pub use filter::Filter;
pub use probe::{
    Block, Here, Irq, ListYields, Lock, Memory, PathError, Paths, Pipes, Probe, ProbeFamily, Process, Sched,
    Security, Syscalls, Tcp, There, Udp, UnixStreams, Wait, Yields,
};
pub use recorder::{
    By, Change, CountRuns, CountRunsError, Counting, DEFAULT_RING_BYTES, DrainFailed, DrainThread, Drained,
    EventError, Fixed, IrqCounters, IrqKind, IrqSum, Need, PairCounts, PathCounts, ProgramRun, ProgramStats,
    ProgramWatch, Recorder, RecorderBuilder, RetuneError, Retuned, SelectError, SpawnError, SyscallCounts,
};

#[doc(hidden)]
pub use aya::include_bytes_aligned;

/// Embeds a built object, aligned as [`Probe::new`] needs it. The path is relative to the current file.
#[macro_export]
macro_rules! include_object {
    ($path:literal) => {
        $crate::include_bytes_aligned!($path) as &'static [u8]
    };
}
