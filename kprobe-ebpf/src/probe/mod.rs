//! What can be attached, and the event types that each probe yields.

mod custom;
mod list;
mod plan;
mod process;
mod sched;
mod syscalls;

pub use custom::Probe;
pub use list::{Here, ListYields, There};
pub(crate) use plan::{
    EventPlan, FamilyPlan, IN_HASH, Needs, ObjectBytes, ProgramPlan, RungPlan, TRACE_EVENT, Target, When,
    tracepoint_rungs,
};
pub use plan::{ProbeFamily, Yields};
pub use process::Process;
pub use sched::Sched;
pub use syscalls::Syscalls;
