//! `struct task_struct`.

use kprobe_core::abi::COMM_LEN;

use crate::{
    current::Thread,
    file,
    frozen::Frozen,
    memory::{Memory, Object, text},
    offsets::{
        ABSENT, OFF_CGROUP_KN, OFF_CSS_SET_DFL_CGRP, OFF_KERNFS_NODE_ID, OFF_MM_STRUCT_CONTEXT_CTX_ID,
        OFF_MM_STRUCT_EXE_FILE, OFF_SIGNAL_STRUCT_FLAGS, OFF_SIGNAL_STRUCT_GROUP_EXIT_CODE,
        OFF_SIGNAL_STRUCT_LIVE, OFF_SIGNAL_STRUCT_OOM_SCORE_ADJ, OFF_TASK_STRUCT_CGROUPS,
        OFF_TASK_STRUCT_COMM, OFF_TASK_STRUCT_EXIT_CODE, OFF_TASK_STRUCT_FLAGS, OFF_TASK_STRUCT_GROUP_LEADER,
        OFF_TASK_STRUCT_MM, OFF_TASK_STRUCT_NIVCSW, OFF_TASK_STRUCT_NVCSW, OFF_TASK_STRUCT_PID,
        OFF_TASK_STRUCT_PRIO, OFF_TASK_STRUCT_REAL_PARENT, OFF_TASK_STRUCT_RESTART_BLOCK_FUTEX_UADDR,
        OFF_TASK_STRUCT_SIGNAL, OFF_TASK_STRUCT_START_BOOTTIME, OFF_TASK_STRUCT_TGID,
        OFF_TASK_STRUCT_THREAD_INFO_CPU, OFF_TASK_STRUCT_THREAD_INFO_STATUS,
    },
};

/// include/linux/sched.h: the state of a thread that runs for the last time.
pub const TASK_DEAD: u32 = 0x80;

/// A task of the kernel: a thread.
///
/// Direct loads through a null pointer give 0, as those through the helper do.
#[derive(Clone, Copy)]
pub struct Task<M>(Object<M>);

/// `SIGNAL_GROUP_EXIT`: the whole process is ending, by `exit_group` or a deadly signal.
const SIGNAL_GROUP_EXIT: u32 = 4;

impl<M: Memory> Task<M> {
    /// The task that a tracepoint's argument or a helper names.
    #[inline(always)]
    pub fn new(object: Object<M>) -> Self {
        Self(object)
    }

    /// Its address.
    #[inline(always)]
    pub fn address(&self) -> *const u8 {
        self.0.address()
    }

    /// The value of an integer member.
    #[inline(always)]
    pub fn load<T: Copy + Default>(&self, offset: &Frozen<u64>) -> T {
        self.0.load(offset)
    }

    /// Its ids in the initial pid namespace.
    #[inline(always)]
    pub fn thread(&self) -> Thread {
        Thread { tgid: self.tgid(), tid: self.0.load(&OFF_TASK_STRUCT_PID) }
    }

    #[inline(always)]
    fn tgid(&self) -> u32 {
        self.0.load(&OFF_TASK_STRUCT_TGID)
    }

    /// Name.
    #[inline(always)]
    pub fn comm(&self) -> [u8; COMM_LEN] {
        text(self.0.member(&OFF_TASK_STRUCT_COMM))
    }

    /// Kernel priority: -1 of a deadline task, else 0..=139.
    #[inline(always)]
    pub fn prio(&self) -> i32 {
        self.0.load(&OFF_TASK_STRUCT_PRIO)
    }

    /// Whether it is a thread of the kernel itself.
    #[inline(always)]
    pub fn is_kernel_thread(&self) -> bool {
        // include/linux/sched.h
        const PF_KTHREAD: u32 = 0x0020_0000;
        self.0.load::<u32>(&OFF_TASK_STRUCT_FLAGS) & PF_KTHREAD != 0
    }

    /// CPU on which it runs or last ran; `u16::MAX` on a kernel that does not tell.
    #[inline(always)]
    pub fn cpu(&self) -> u16 {
        self.0.load_if_present::<u32>(&OFF_TASK_STRUCT_THREAD_INFO_CPU).map_or(u16::MAX, |cpu| cpu as u16)
    }

    /// x86: the thread's `TS_*` bits.
    #[inline(always)]
    pub fn status(&self) -> Option<u32> {
        self.0.load_if_present(&OFF_TASK_STRUCT_THREAD_INFO_STATUS)
    }

    /// x86: whether it is in a system call of the 32-bit ABI, whose numbers are others.
    #[inline(always)]
    pub fn is_compat(&self) -> bool {
        const TS_COMPAT: u32 = 2;
        self.status().is_some_and(|status| status & TS_COMPAT != 0)
    }

    /// It is on its way out.
    #[inline(always)]
    pub fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 4;
        self.0.load::<u32>(&OFF_TASK_STRUCT_FLAGS) & PF_EXITING != 0
    }

    /// How often it gave up its CPU.
    #[inline(always)]
    pub fn voluntary_switches(&self) -> u64 {
        self.0.load(&OFF_TASK_STRUCT_NVCSW)
    }

    /// How often it gave up its CPU, or had to.
    #[inline(always)]
    pub fn switches(&self) -> u64 {
        self.voluntary_switches().wrapping_add(self.0.load(&OFF_TASK_STRUCT_NIVCSW))
    }

    /// Of the wait for a futex that `restart_syscall` would go on with: its address.
    #[inline(always)]
    pub fn restarted_futex(&self) -> u64 {
        self.0.load(&OFF_TASK_STRUCT_RESTART_BLOCK_FUTEX_UADDR)
    }

    /// The number of its address space, which is never used again while the machine is up.
    #[inline(always)]
    pub fn address_space(&self) -> Option<u64> {
        self.0.follow(&OFF_TASK_STRUCT_MM).load_if_present(&OFF_MM_STRUCT_CONTEXT_CTX_ID)
    }

    /// When the thread was created, in nanoseconds of `CLOCK_BOOTTIME`.
    #[inline(always)]
    pub fn start_ns(&self) -> u64 {
        self.0.load(&OFF_TASK_STRUCT_START_BOOTTIME)
    }

    /// When its process was created, likewise.
    #[inline(always)]
    pub fn process_start_ns(&self) -> u64 {
        self.leader().start_ns()
    }

    /// Process that is the parent of its process.
    #[inline(always)]
    pub fn parent_tgid(&self) -> u32 {
        Self(self.0.follow(&OFF_TASK_STRUCT_REAL_PARENT)).tgid()
    }

    #[inline(always)]
    fn leader(&self) -> Self {
        Self(self.0.follow(&OFF_TASK_STRUCT_GROUP_LEADER))
    }

    #[inline(always)]
    fn signal(&self) -> Object<M> {
        self.0.follow(&OFF_TASK_STRUCT_SIGNAL)
    }

    /// Whether all threads of its process have begun to exit.
    #[inline(always)]
    pub fn is_group_dead(&self) -> bool {
        self.signal().load::<i32>(&OFF_SIGNAL_STRUCT_LIVE) == 0
    }

    /// With what the thread exits, as `wait` encodes it.
    #[inline(always)]
    pub fn exit_status(&self) -> u32 {
        self.0.load(&OFF_TASK_STRUCT_EXIT_CODE)
    }

    /// With what its process exits: what `wait_task_zombie` hands to the parent.
    #[inline(always)]
    pub fn process_exit_status(&self) -> u32 {
        let signal = self.signal();
        if signal.load::<u32>(&OFF_SIGNAL_STRUCT_FLAGS) & SIGNAL_GROUP_EXIT != 0 {
            signal.load(&OFF_SIGNAL_STRUCT_GROUP_EXIT_CODE)
        } else {
            self.leader().exit_status()
        }
    }

    /// Its address space; null for kernel threads and where it has given it up.
    #[inline(always)]
    pub fn memory(&self) -> Object<M> {
        self.0.follow(&OFF_TASK_STRUCT_MM)
    }

    /// What is added to the score by which the kernel chooses whom to kill, in thousandths.
    #[inline(always)]
    pub fn oom_score_adj(&self) -> i32 {
        self.signal().load::<i16>(&OFF_SIGNAL_STRUCT_OOM_SCORE_ADJ).into()
    }

    /// Identity of the executable it runs: inode number and device.
    #[inline(always)]
    pub fn executable(&self) -> Option<(u64, u32)> {
        let parts = [&OFF_TASK_STRUCT_MM, &OFF_MM_STRUCT_EXE_FILE];
        if parts.iter().any(|offset| offset.get() == ABSENT) {
            return None;
        }
        file::identity(self.0.follow(&OFF_TASK_STRUCT_MM).follow(&OFF_MM_STRUCT_EXE_FILE))
    }

    /// The id of its cgroup in the v2 hierarchy.
    #[inline(always)]
    pub fn cgroup_id(&self) -> u64 {
        self.cgroup().follow(&OFF_CGROUP_KN).load(&OFF_KERNFS_NODE_ID)
    }

    /// Its cgroup in the v2 hierarchy.
    #[inline(always)]
    pub fn cgroup(&self) -> Object<M> {
        self.0.follow(&OFF_TASK_STRUCT_CGROUPS).follow(&OFF_CSS_SET_DFL_CGRP)
    }
}
