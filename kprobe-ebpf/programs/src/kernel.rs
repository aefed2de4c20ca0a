//! What some kernels have in one way and some in another: here as it is since Linux 6.1.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;

use crate::{
    args::Args,
    memory::{Memory, Object, Probed},
    offsets::{OFF_CGROUP_ANCESTORS, OFF_CGROUP_KN, OFF_KERNFS_NODE_ID},
    task::Task,
};

/// Where a cgroup keeps who is above it.
#[derive(Clone, Copy)]
pub struct Ancestors {
    first: *const u8,
    kn: usize,
    id: usize,
}

impl Ancestors {
    /// Those of a cgroup, itself included.
    #[inline(always)]
    pub fn of<M: Memory>(cgroup: Object<M>) -> Self {
        let first = cgroup.member(&OFF_CGROUP_ANCESTORS);
        Self { first, kn: OFF_CGROUP_KN.get() as usize, id: OFF_KERNFS_NODE_ID.get() as usize }
    }

    /// The id of the one at `level`, which is at most the cgroup's own.
    #[inline(always)]
    pub fn id(self, level: u32) -> u64 {
        // By the helper even where direct loads work: the verifier refuses them for arrays without a length.
        // SAFETY: see `Memory::load`; the array has the element.
        let ancestor = unsafe { Probed::load::<usize>(self.first.wrapping_add(level as usize * 8)) };
        // SAFETY: see `Memory::load`.
        let node = unsafe { Probed::load::<usize>((ancestor + self.kn) as *const u8) };
        // SAFETY: see `Memory::load`.
        unsafe { Probed::load::<u64>((node + self.id) as *const u8) }
    }
}

/// The id of the ancestor at `level` of the current task's cgroup; 0, which is no cgroup's, if it has none there.
#[inline(always)]
pub fn current_ancestor_id(level: u32) -> u64 {
    // SAFETY: the helper takes any level.
    unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) }
}

/// `sched_switch`: the state that the task enters which leaves the CPU.
#[inline(always)]
pub fn entered_state<M: Memory>(args: Args, _: Task<M>) -> u32 {
    args.word(3) as u32
}
