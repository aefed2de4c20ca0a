//! What kernels before 6.1 have in another way.

use crate::{
    args::Args,
    memory::{Memory, Object, Probed},
    offsets::{OFF_CGROUP_ANCESTORS, OFF_CGROUP_LEVEL, OFF_TASK_STRUCT_STATE},
    storage,
    task::Task,
};

/// Where a cgroup keeps who is above it: a list of their ids.
#[derive(Clone, Copy)]
pub struct Ancestors(*const u8);

impl Ancestors {
    /// Those of a cgroup, itself included.
    #[inline(always)]
    pub fn of<M: Memory>(cgroup: Object<M>) -> Self {
        Self(cgroup.member(&OFF_CGROUP_ANCESTORS))
    }

    /// The id of the one at `level`, which is at most the cgroup's own.
    #[inline(always)]
    pub fn id(self, level: u32) -> u64 {
        // SAFETY: see `Memory::load`; the array has the element.
        unsafe { Probed::load::<u64>(self.0.wrapping_add(level as usize * 8)) }
    }
}

/// The id of the ancestor at `level` of the current task's cgroup; 0, which is no cgroup's, if it has none there. Tracing
/// programs have no helper for it in 5.10.
#[inline(always)]
pub fn current_ancestor_id(level: u32) -> u64 {
    let cgroup = storage::current_task().cgroup();
    if level > cgroup.load::<u32>(&OFF_CGROUP_LEVEL) {
        return 0;
    }
    Ancestors::of(cgroup).id(level)
}

/// `sched_switch`: the state that the task enters which leaves the CPU. The tracepoint does not pass it, so it is read from
/// the task, as the kernel's own trace event does: where another CPU wakes the task at this moment, it may be changed.
#[inline(always)]
pub fn entered_state<M: Memory>(_: Args, prev: Task<M>) -> u32 {
    prev.load(&OFF_TASK_STRUCT_STATE)
}
