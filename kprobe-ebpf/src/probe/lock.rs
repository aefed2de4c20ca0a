use std::time::Duration;

use kprobe_core::{
    abi::{Family, Kind},
    event::{LockContention, LockFutex, LockFutexWake},
};

use super::{
    EventPlan, FamilyPlan, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, TRACE_EVENT, When, Yields,
    plan::{call_number, sealed, secret},
};

/// Locks: one [`LockFutex`] for each wait for a futex, with the thread that ended it, one [`LockFutexWake`] for each call
/// that wakes, and one [`LockContention`] for each wait for a lock of the kernel.
///
/// Targets: the tracepoints `sys_enter`, `sys_exit` and `sched_waking`, and `contention_begin` and `contention_end` (Linux
/// 5.19). Kernel 5.10 or later. Nothing is read from the memory of a process, not even what is at a futex.
#[derive(Clone, Debug)]
pub struct Lock {
    futex: bool,
    contention: bool,
    min_duration: Duration,
    sample_one_in: u32,
}

impl Default for Lock {
    /// Every wait, not sampled.
    fn default() -> Self {
        Self { futex: true, contention: true, min_duration: Duration::ZERO, sample_one_in: 1 }
    }
}

impl Lock {
    /// Leaves out futexes.
    #[must_use]
    pub fn without_futex(self) -> Self {
        Self { futex: false, ..self }
    }

    /// Leaves out the locks of the kernel.
    #[must_use]
    pub fn without_contention(self) -> Self {
        Self { contention: false, ..self }
    }

    /// Leaves out waits that took less. Calls that wake are recorded all the same.
    #[must_use]
    pub fn min_duration(self, min_duration: Duration) -> Self {
        Self { min_duration, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU and for each event by itself; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

/// Where the current task is at hand.
const TASK: [Needs; 2] = [Needs::IDS, Needs::CGROUP_ID];

fn futex_rungs() -> Vec<RungPlan> {
    const REGISTERS: Needs = Needs(
        When::Always,
        &["OFF_SYSCALL_NR", "OFF_ARG_0", "OFF_ARG_1", "OFF_ARG_2", "OFF_ARG_3", "OFF_ARG_4"],
    );
    const WAKER: Needs = Needs(When::Always, &["OFF_TASK_STRUCT_FLAGS"]);
    /// What the programs for trace events need for the waker.
    const WAKERS_CALL: Needs = Needs(When::Always, &["OFF_SYSCALL_NR", "OFF_ARG_0"]);
    const CALL: Needs = Needs(
        When::Always,
        &[
            "OFF_TASK_STRUCT_NVCSW",
            "OFF_TASK_STRUCT_RESTART_BLOCK_FUTEX_UADDR",
            "OFF_VM_AREA_STRUCT_VM_START",
            "OFF_VM_AREA_STRUCT_VM_PGOFF",
            "OFF_VM_AREA_STRUCT_VM_FLAGS",
            "OFF_VM_AREA_STRUCT_VM_FILE",
        ],
    );
    /// Where a helper finds the mapping that an address is in, and another one a thread's registers, later.
    const SEARCH: Needs = Needs(
        When::Before6_1,
        &[
            "OFF_MM_STRUCT_MM_RB",
            "OFF_VM_AREA_STRUCT_VM_RB",
            "OFF_VM_AREA_STRUCT_VM_END",
            "OFF_VM_AREA_STRUCT_VM_MM",
            "OFF_RB_NODE_RB_LEFT",
            "OFF_RB_NODE_RB_RIGHT",
            "OFF_TASK_STRUCT_STACK",
            "OFF_THREAD_UNION_REGISTERS",
        ],
    );
    let rung = |name, programs, needs: &[Needs]| RungPlan {
        name,
        programs,
        needs: [&TASK[..], &[CALL, SEARCH], needs].concat(),
        storage: &["FUTEXES"],
    };
    // The waker's place is in the storage of another thread, which only typed arguments lead to.
    let waking = || ProgramPlan::btf("lock_futex_waking_btf", "sched_waking");
    vec![
        rung(
            "tp_btf",
            vec![
                ProgramPlan::btf("lock_futex_enter_btf", "sys_enter"),
                waking(),
                ProgramPlan::btf("lock_futex_exit_btf", "sys_exit"),
            ],
            &[REGISTERS, WAKER],
        ),
        rung(
            TRACE_EVENT,
            vec![
                ProgramPlan::event("lock_futex_enter_tp", "raw_syscalls", "sys_enter"),
                waking(),
                ProgramPlan::event("lock_futex_exit_tp", "raw_syscalls", "sys_exit"),
            ],
            &[WAKERS_CALL, WAKER],
        ),
        rung(
            "raw_tp",
            vec![
                ProgramPlan::raw("lock_futex_enter_raw", "sys_enter"),
                ProgramPlan::raw("lock_futex_exit_raw", "sys_exit"),
            ],
            &[REGISTERS],
        ),
    ]
}

fn contention_rungs() -> Vec<RungPlan> {
    const RING: Needs = Needs(When::Always, &["OFF_BPF_RINGBUF_MAP_RB", "OFF_BPF_RINGBUF_SPINLOCK"]);
    const EVENTS: Needs = Needs(
        When::Always,
        &[
            "OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_LOCK_ADDR",
            "OFF_TRACE_EVENT_RAW_CONTENTION_BEGIN_FLAGS",
            "OFF_TRACE_EVENT_RAW_CONTENTION_END_LOCK_ADDR",
            "OFF_TRACE_EVENT_RAW_CONTENTION_END_RET",
        ],
    );
    let rung = |name, programs, needs: &[Needs]| RungPlan {
        name,
        programs,
        needs: [&TASK[..], &[RING], needs].concat(),
        storage: &["SLEEPS"],
    };
    vec![
        rung(
            "tp_btf",
            vec![
                ProgramPlan::btf("lock_contention_begin_btf", "contention_begin"),
                ProgramPlan::btf("lock_contention_end_btf", "contention_end"),
            ],
            &[],
        ),
        rung(
            "raw_tp",
            vec![
                ProgramPlan::raw("lock_contention_begin_raw", "contention_begin"),
                ProgramPlan::raw("lock_contention_end_raw", "contention_end"),
            ],
            &[],
        ),
        rung(
            TRACE_EVENT,
            vec![
                ProgramPlan::event("lock_contention_begin_tp", "lock", "contention_begin"),
                ProgramPlan::event("lock_contention_end_tp", "lock", "contention_end"),
            ],
            &[EVENTS],
        ),
    ]
}

impl sealed::Sealed for Lock {}

impl ProbeFamily for Lock {
    fn plan(self) -> sealed::Plan {
        let mut events = Vec::new();
        if self.futex {
            // The same programs make both.
            events.push(EventPlan::new(Kind::LOCK_FUTEX, "lock.futex", futex_rungs()));
            let name = "lock.futex_wake";
            events.push(EventPlan::new(Kind::LOCK_FUTEX_WAKE, name, futex_rungs()));
        }
        if self.contention {
            let name = "lock.contention";
            events.push(EventPlan::new(Kind::LOCK_CONTENTION, name, contention_rungs()));
        }
        sealed::Plan(FamilyPlan {
            family: Family::Lock,
            object: ObjectBytes::Builtin,
            events,
            sample_one_in: self.sample_one_in,
            min_duration_ns: u64::try_from(self.min_duration.as_nanos()).unwrap_or(u64::MAX),
            globals: vec![
                ("LOCK_FUTEX_NR", call_number(libc::SYS_futex)),
                ("LOCK_RESTART_NR", call_number(libc::SYS_restart_syscall)),
                ("LOCK_SECRET", secret()),
            ],
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl Yields<LockFutex> for Lock {}
impl Yields<LockFutexWake> for Lock {}
impl Yields<LockContention> for Lock {}
