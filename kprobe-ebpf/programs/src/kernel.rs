//! What some kernels have in one way and some in another: here as it is since Linux 6.1.

use aya_ebpf::{
    bindings::task_struct,
    helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_task_pt_regs},
};

use crate::{
    args::Args,
    memory::{Direct, Memory, Object, Probed},
    offsets::{OFF_CGROUP_ANCESTORS, OFF_CGROUP_KN, OFF_KERNFS_NODE_ID, OFF_TASK_STRUCT___STATE},
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

/// `sched_switch`: the state that the task enters which leaves the CPU. With a signal pending it enters none, whatever it had
/// meant to, which is what the tracepoint passes.
#[inline(always)]
pub fn entered_state<M: Memory>(args: Args, prev: Task<M>) -> u32 {
    if prev.load::<u32>(&OFF_TASK_STRUCT___STATE) == 0 {
        return 0;
    }
    args.word(3) as u32
}

/// Where the registers of the current thread's system call are saved.
#[inline(always)]
pub fn registers(task: *mut task_struct) -> Object<Direct> {
    // SAFETY: the helper takes a task, which the verifier makes sure of.
    Object::new(unsafe { bpf_task_pt_regs(task) } as *const u8)
}

/// Whether `do_sendfile` calls `pipe_write`.
pub const SENDFILE_WRITES: bool = false;

/// `udp_recvmsg(sk, msg, len, flags, ..)`: which of its arguments is the flags.
pub const UDP_RECVMSG_FLAGS: u8 = 3;

/// The tracepoint `mm_compaction_end(cc, zone_start, zone_end, sync, status)`: what it passes.
pub mod compaction {
    use super::{Args, Memory, Object};

    /// Whether it is known what is being compacted.
    #[inline(always)]
    pub fn has_control() -> bool {
        true
    }

    /// What is being compacted.
    #[inline(always)]
    pub fn control<M: Memory>(args: Args) -> Object<M> {
        args.object(0)
    }

    /// Whether the thread waits for pages.
    #[inline(always)]
    pub fn is_sync(args: Args) -> bool {
        args.word(3) as u8 != 0
    }

    /// What came of it.
    #[inline(always)]
    pub fn result(args: Args) -> u32 {
        args.word(4) as u32
    }
}

/// Block tracepoints: what they pass.
pub mod block {
    use super::{Args, Memory, Object};
    use crate::offsets::{OFF_BIO_BI_BDEV, OFF_BLOCK_DEVICE_BD_DISK, OFF_REQUEST_Q, OFF_REQUEST_QUEUE_DISK};

    /// `block_bio_queue(bio)`, `block_split(bio, sector)`.
    #[inline(always)]
    pub fn bio<M: Memory>(args: Args) -> Object<M> {
        args.object(0)
    }

    /// `block_bio_backmerge(bio)`, `block_bio_frontmerge(bio)`.
    #[inline(always)]
    pub fn merged_bio<M: Memory>(args: Args) -> Object<M> {
        args.object(0)
    }

    /// `block_rq_issue(rq)`, `block_rq_merge(rq)`, `block_rq_requeue(rq)`.
    #[inline(always)]
    pub fn request<M: Memory>(args: Args) -> Object<M> {
        args.object(0)
    }

    /// `block_rq_complete(rq, status, bytes)`: the status.
    #[inline(always)]
    pub fn status(args: Args) -> u16 {
        args.word(1) as u16
    }

    /// The disk that a bio is for.
    #[inline(always)]
    pub fn disk_of_bio<M: Memory>(bio: Object<M>) -> Object<M> {
        bio.follow(&OFF_BIO_BI_BDEV).follow(&OFF_BLOCK_DEVICE_BD_DISK)
    }

    /// The disk that a request is for.
    #[inline(always)]
    pub fn disk_of_request<M: Memory>(request: Object<M>) -> Object<M> {
        request.follow(&OFF_REQUEST_Q).follow(&OFF_REQUEST_QUEUE_DISK)
    }
}
