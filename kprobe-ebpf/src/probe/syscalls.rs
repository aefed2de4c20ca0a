use std::time::Duration;

use kprobe_core::{
    abi::{Family, Kind},
    event::Syscall,
};

use super::{
    EventPlan, FamilyPlan, IN_HASH, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, When, Yields,
    plan::sealed,
};
use crate::filter::{SyscallSet, shapes};

/// System calls: one [`Syscall`] for each completed call, with the times of its entry and its return.
///
/// Targets: the tracepoints `sys_enter` and `sys_exit`, paired in the kernel by thread, in task-local storage where the
/// kernel has it (5.11), else in a hash. Kernel 5.10 or later. Nothing is read from the memory of a process.
#[derive(Clone, Debug)]
pub struct Syscalls {
    set: SyscallSet,
    min_duration: Duration,
    sample_one_in: u32,
}

impl Default for Syscalls {
    fn default() -> Self {
        Self::all()
    }
}

impl Syscalls {
    /// Every system call, also those of 32-bit programs.
    #[must_use]
    pub fn all() -> Self {
        Self::of(SyscallSet::all())
    }

    /// Those that move bytes: read, write, send, receive and their kin.
    #[must_use]
    pub fn io() -> Self {
        Self::of(SyscallSet::io())
    }

    /// A chosen set.
    #[must_use]
    pub fn of(set: SyscallSet) -> Self {
        Self { set, min_duration: Duration::ZERO, sample_one_in: 1 }
    }

    /// Leaves out calls that took less. Calls that never return are always recorded.
    #[must_use]
    pub fn min_duration(self, min_duration: Duration) -> Self {
        Self { min_duration, ..self }
    }

    /// Keeps one record in `one_in`, counted on each CPU; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in, ..self }
    }
}

impl sealed::Sealed for Syscalls {}

impl ProbeFamily for Syscalls {
    fn plan(self) -> sealed::Plan {
        const REGISTERS: Needs = Needs(
            When::Always,
            &["OFF_SYSCALL_NR", "OFF_ARG_0", "OFF_ARG_1", "OFF_ARG_2", "OFF_ARG_3", "OFF_ARG_4", "OFF_ARG_5"],
        );
        const STORAGE: &[&str] = &["TASKS"];
        // With task storage the current task is at hand, however the program is attached.
        let in_task = [REGISTERS, Needs::IDS, Needs::CGROUP_ID];
        let rung = |name, programs, needs: &[Needs]| RungPlan {
            name,
            programs,
            needs: needs.to_vec(),
            storage: &[],
        };
        let rungs = vec![
            rung(
                "tp_btf",
                vec![
                    ProgramPlan::btf("syscall_enter_btf", "sys_enter"),
                    ProgramPlan::btf("syscall_exit_btf", "sys_exit"),
                ],
                &in_task,
            )
            .storing(STORAGE),
            rung(
                "raw_tp",
                vec![
                    ProgramPlan::raw("syscall_enter_raw", "sys_enter"),
                    ProgramPlan::raw("syscall_exit_raw", "sys_exit"),
                ],
                &in_task,
            )
            .storing(STORAGE),
            RungPlan::trace_event(
                vec![
                    ProgramPlan::event("syscall_enter_tp", "raw_syscalls", "sys_enter"),
                    ProgramPlan::event("syscall_exit_tp", "raw_syscalls", "sys_exit"),
                ],
                &in_task[1..],
            )
            .storing(STORAGE),
            rung(
                IN_HASH,
                vec![
                    ProgramPlan::raw("syscall_enter_raw_hash", "sys_enter"),
                    ProgramPlan::raw("syscall_exit_raw_hash", "sys_exit"),
                    ProgramPlan::raw("enters_exit_raw", "sched_process_exit"),
                ],
                &[REGISTERS],
            ),
        ];
        let words = self.set.words();
        // The new program may be of another ABI, in whose table the call has another number.
        let renumbered = SyscallSet::named(["execve", "execveat"]).unwrap_or(SyscallSet::NONE).words();
        sealed::Plan(FamilyPlan {
            family: Family::Syscall,
            object: ObjectBytes::Builtin,
            events: vec![EventPlan::new(Kind::SYSCALL, "syscall", rungs)],
            sample_one_in: self.sample_one_in,
            min_duration_ns: u64::try_from(self.min_duration.as_nanos()).unwrap_or(u64::MAX),
            globals: vec![
                ("SYSCALL_SHAPE", shapes().iter().map(|shape| shape.0).collect()),
                ("SYSCALL_SET", words.iter().flat_map(|word| word.to_le_bytes()).collect()),
                ("SYSCALL_OTHER", vec![u8::from(self.set.includes_other())]),
                ("SYSCALL_RENUMBERED", renumbered.iter().flat_map(|word| word.to_le_bytes()).collect()),
            ],
            maps: Vec::new(),
            allowed: Vec::new(),
        })
    }
}

impl Yields<Syscall> for Syscalls {}
