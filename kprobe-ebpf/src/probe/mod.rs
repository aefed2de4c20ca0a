//! What can be attached, and the event types that each probe yields.

mod custom;
mod list;
mod lock;
mod plan;
mod process;
mod sched;
mod security;
mod syscalls;

pub use custom::Probe;
pub use list::{Here, ListYields, There};
pub use lock::Lock;
pub(crate) use plan::{
    EventPlan, FUNCTION, FamilyPlan, IN_HASH, KPROBE, Needs, ObjectBytes, ProgramPlan, RungPlan, TRACE_EVENT,
    Target, When, tracepoint_rungs,
};
pub use plan::{ProbeFamily, Yields};
pub use process::Process;
pub use sched::Sched;
pub use security::Security;
pub use syscalls::Syscalls;

/// What every family of kprobe's own can have attached.
#[cfg(test)]
pub(crate) fn every_plan() -> Vec<FamilyPlan> {
    vec![
        Process::default().plan().0,
        Sched::default().plan().0,
        Syscalls::all().plan().0,
        Lock::default().plan().0,
        Security::default().plan().0,
    ]
}
