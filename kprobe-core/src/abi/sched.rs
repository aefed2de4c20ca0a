use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::SCHED_SWITCH`](super::Kind::SCHED_SWITCH). The header names the thread that leaves the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedSwitch {
    /// Thread that gets the CPU.
    pub next_tid: u32,
    /// Its process.
    pub next_tgid: u32,
    /// State in which the previous thread left, as the kernel's `TASK_*` bits; 0 means that it is still runnable.
    pub prev_state: u32,
    /// Kernel priority of the previous thread: -1 deadline, 0..=99 real-time, 100..=139 by niceness (120 is nice 0).
    pub prev_prio: i16,
    /// Kernel priority of the next thread.
    pub next_prio: i16,
    /// [`SWITCH_PREEMPT`].
    pub flags: u64,
}

/// The previous thread was preempted, it did not give the CPU up itself.
pub const SWITCH_PREEMPT: u64 = 1;

/// Body of [`Kind::SCHED_WAKING`](super::Kind::SCHED_WAKING). The header names the thread that was current, which is
/// the waker only if the context is [`CONTEXT_TASK`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedWaking {
    /// Thread that is woken.
    pub wakee_tid: u32,
    /// Its process.
    pub wakee_tgid: u32,
    /// Kernel priority of the woken thread.
    pub prio: i16,
    /// CPU on which it last ran.
    pub target_cpu: u16,
    /// What woke it: one of `CONTEXT_*`.
    pub context: u32,
}

/// The kernel gave no way to tell in which context a wake-up happened.
pub const CONTEXT_ABSENT: u32 = 0;
/// The current thread woke it.
pub const CONTEXT_TASK: u32 = 1;
/// A softirq (timer, network receive, block completion, ...) woke it.
pub const CONTEXT_SOFTIRQ: u32 = 2;
/// A hardware interrupt woke it.
pub const CONTEXT_HARDIRQ: u32 = 3;
/// A non-maskable interrupt woke it.
pub const CONTEXT_NMI: u32 = 4;

/// Body of [`Kind::SCHED_MIGRATE`](super::Kind::SCHED_MIGRATE). The header names the thread that was current, which
/// need not be the one that moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedMigrate {
    /// Thread that moves.
    pub moved_tid: u32,
    /// Its process.
    pub moved_tgid: u32,
    /// CPU it leaves.
    pub from_cpu: u16,
    /// CPU it goes to.
    pub to_cpu: u16,
    /// Kernel priority.
    pub prio: i32,
}
