//! What can be attached, and the event types that each probe yields.

mod block;
mod custom;
mod irq;
mod list;
mod lock;
mod memory;
mod path;
mod pipe;
mod plan;
mod process;
mod sched;
mod security;
mod syscalls;
mod tcp;
mod udp;
mod unix;
mod wait;

pub use block::Block;
pub use custom::Probe;
pub use irq::Irq;
pub use list::{Here, ListYields, There};
pub use lock::Lock;
pub use memory::Memory;
pub(crate) use path::Allowed;
pub use path::{PathError, Paths};
pub use pipe::Pipes;
pub(crate) use plan::{
    EventPlan, FUNCTION, FamilyPlan, IN_HASH, KPROBE, Needs, ObjectBytes, PERF, ProgramPlan, RAISED_PERF,
    RungPlan, SoftwareEvent, TRACE_EVENT, Target, When, tracepoint_rungs,
};
pub use plan::{ProbeFamily, Yields};
pub use process::Process;
pub use sched::Sched;
pub use security::Security;
pub use syscalls::Syscalls;
pub use tcp::Tcp;
pub use udp::Udp;
pub use unix::UnixStreams;
pub use wait::Wait;

/// What every family of kprobe's own can have attached.
#[cfg(test)]
pub(crate) fn every_plan() -> Vec<FamilyPlan> {
    vec![
        Process::default().plan().0,
        Sched::default().plan().0,
        Syscalls::all().plan().0,
        Memory::default().plan().0,
        Lock::default().plan().0,
        Security::default().plan().0,
        Pipes::default().plan().0,
        Paths::none().plan().0,
        Udp::default().plan().0,
        UnixStreams::default().plan().0,
        Block::default().plan().0,
        Tcp::default().plan().0,
        Irq::default().plan().0,
        Wait::default().plan().0,
    ]
}
