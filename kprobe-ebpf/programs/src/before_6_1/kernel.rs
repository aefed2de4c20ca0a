//! What kernels before 6.1 have in another way.

use aya_ebpf::bindings::task_struct;

use crate::{
    args::Args,
    functions,
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        OFF_CGROUP_ANCESTORS, OFF_CGROUP_LEVEL, OFF_TASK_STRUCT___STATE, OFF_TASK_STRUCT_STACK,
        OFF_THREAD_UNION_REGISTERS,
    },
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
    prev.load(&OFF_TASK_STRUCT___STATE)
}

/// Where the registers of the current thread's system call are saved: at the end of its stack, without the helper that
/// tells it since 5.15.
#[inline(always)]
pub fn registers(task: *mut task_struct) -> Object<Direct> {
    let stack = Object::<Direct>::new(task).follow(&OFF_TASK_STRUCT_STACK);
    Object::new(stack.member(&OFF_THREAD_UNION_REGISTERS))
}

/// Whether `do_sendfile` calls `pipe_write`.
pub const SENDFILE_WRITES: bool = true;

/// `udp_recvmsg(sk, msg, len, noblock, flags, ..)`: which of its arguments is the flags.
pub const UDP_RECVMSG_FLAGS: u8 = 4;

/// The tracepoint `mm_compaction_end(zone_start, migrate_pfn, free_pfn, zone_end, sync, status)`: what it passes. What is
/// being compacted is the argument of the function that the thread is in.
pub mod compaction {
    use super::{Args, Memory, Object, functions};

    /// Whether that function was seen to begin.
    #[inline(always)]
    pub fn has_control() -> bool {
        functions::COMPACTING.current().is_some()
    }

    /// What is being compacted.
    #[inline(always)]
    pub fn control<M: Memory>(_: Args) -> Object<M> {
        functions::COMPACTING.current().map_or(Object::NONE, Object::new)
    }

    /// Whether the thread waits for pages.
    #[inline(always)]
    pub fn is_sync(args: Args) -> bool {
        args.word(4) as u8 != 0
    }

    /// What came of it.
    #[inline(always)]
    pub fn result(args: Args) -> u32 {
        args.word(5) as u32
    }
}

/// Block tracepoints: what they pass. In front of a bio it is the queue; in front of a request it was, too, in the
/// first releases of 5.10.
pub mod block {
    use super::{Args, Memory, Object};
    use crate::offsets::{OFF_BIO_BI_BDEV, OFF_REQUEST_QUEUE_DISK};

    /// `block_bio_queue(queue, bio)`, `block_split(queue, bio, sector)`.
    #[inline(always)]
    pub fn bio<M: Memory>(args: Args) -> Object<M> {
        args.object(1)
    }

    /// `block_bio_backmerge(queue, rq, bio)`, `block_bio_frontmerge(queue, rq, bio)`.
    #[inline(always)]
    pub fn merged_bio<M: Memory>(args: Args) -> Object<M> {
        args.object(2)
    }

    /// `block_rq_issue(rq)`, `block_rq_merge(rq)`, `block_rq_requeue(rq)`.
    #[inline(always)]
    pub fn request<M: Memory>(args: Args) -> Object<M> {
        args.object(0)
    }

    /// `block_rq_complete(rq, error, bytes)`: the error is errno, which block/blk-core.c made of the status by a table
    /// (`blk_errors`). No two of the statuses that a request can end with have the same in it; what it knows no errno of is
    /// `EIO`.
    #[inline(always)]
    pub fn status(args: Args) -> u16 {
        match -(args.word(1) as i32) {
            0 => 0,
            // EOPNOTSUPP, ETIMEDOUT, ENOSPC, ENOLINK, EREMOTEIO, EBADE, ENODATA, EILSEQ, ENOMEM, EREMCHG, EAGAIN, EBUSY,
            // and of devices with zones ETOOMANYREFS, EOVERFLOW
            95 => 1,
            110 => 2,
            28 => 3,
            67 => 4,
            121 => 5,
            52 => 6,
            61 => 7,
            84 => 8,
            12 => 9,
            78 => 11,
            11 => 12,
            16 => 13,
            109 => 15,
            75 => 16,
            _ => 10,
        }
    }

    /// The disk that a bio is for.
    #[inline(always)]
    pub fn disk_of_bio<M: Memory>(bio: Object<M>) -> Object<M> {
        bio.follow(&OFF_BIO_BI_BDEV)
    }

    /// The disk that a request is for.
    #[inline(always)]
    pub fn disk_of_request<M: Memory>(request: Object<M>) -> Object<M> {
        request.follow(&OFF_REQUEST_QUEUE_DISK)
    }
}
