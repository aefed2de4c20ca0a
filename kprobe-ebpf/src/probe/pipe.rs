use std::str::FromStr as _;

use kprobe_core::{
    abi::{Family, Kind, PipeCall, SYSCALL_TABLE},
    event::{PipeRead, PipeWrite},
};
use syscalls::Sysno;

use super::{
    EventPlan, FUNCTION, FamilyPlan, Needs, ObjectBytes, ProbeFamily, ProgramPlan, RungPlan, When, Yields,
    plan::sealed,
};

/// Pipes, with and without names: a [`PipeWrite`] for each call that put bytes in and a [`PipeRead`] for each that took
/// bytes out, with their positions in the stream of bytes, so that a write can be matched to the read that took it.
///
/// Both events come from the same programs. Targets: the kernel's own functions for pipes, which see every way in and
/// out; else the tracepoints `sys_enter` and `sys_exit`, which do not see `io_uring`. Kernel 5.10 or later.
#[derive(Clone, Debug)]
pub struct Pipes {
    sample_one_in: u32,
}

impl Default for Pipes {
    /// Every call, not sampled.
    fn default() -> Self {
        Self { sample_one_in: 1 }
    }
}

impl Pipes {
    /// Keeps one record in `one_in`, counted on each CPU; 0 and 1 keep all.
    #[must_use]
    pub fn sample(self, one_in: u32) -> Self {
        Self { sample_one_in: one_in }
    }
}

/// Pipes that are remembered; the one that was not used for the longest time makes room.
const MOST_PIPES: u32 = 16_384;

/// System calls that move bytes of pipes; what only ever fails for them is not here.
const CALLS: [(&str, PipeCall); 10] = [
    ("read", PipeCall::READ),
    ("readv", PipeCall::READ),
    ("preadv2", PipeCall::READ),
    ("write", PipeCall::WRITE),
    ("writev", PipeCall::WRITE),
    ("pwritev2", PipeCall::WRITE),
    ("splice", PipeCall::SPLICE),
    ("tee", PipeCall::TEE),
    ("vmsplice", PipeCall::VMSPLICE),
    ("sendfile", PipeCall::SENDFILE),
];

/// By number.
pub(super) fn calls() -> Vec<u8> {
    let mut calls = vec![PipeCall::NONE.0; SYSCALL_TABLE];
    for (name, does) in CALLS {
        let number = Sysno::from_str(name).ok().and_then(|call| usize::try_from(call.id()).ok());
        if let Some(call) = number.and_then(|number| calls.get_mut(number)) {
            *call = does.0;
        }
    }
    calls
}

/// The function behind the system call `vmsplice`.
const VMSPLICE: &str =
    if cfg!(target_arch = "aarch64") { "__arm64_sys_vmsplice" } else { "__x64_sys_vmsplice" };

impl sealed::Sealed for Pipes {}

impl ProbeFamily for Pipes {
    fn plan(self) -> sealed::Plan {
        const STORAGE: &[&str] = &["MOVING"];
        const PIPE: Needs = Needs(
            When::Always,
            &[
                "OFF_FILE_F_INODE",
                "OFF_INODE_I_MODE",
                "OFF_INODE_I_INO",
                "OFF_INODE_I_SB",
                "OFF_INODE_I_PIPE",
                "OFF_SUPER_BLOCK_S_DEV",
                "OFF_PIPE_INODE_INFO_HEAD",
                "OFF_PIPE_INODE_INFO_TAIL",
                "OFF_PIPE_INODE_INFO_RING_SIZE",
                "OFF_PIPE_INODE_INFO_BUFS",
                "OFF_PIPE_BUFFER_LEN",
                "OFF_PIPE_BUFFER_PRIVATE",
            ],
        );
        const DESCRIPTORS: Needs = Needs(
            When::Always,
            &[
                "OFF_TASK_STRUCT_FILES",
                "OFF_FILES_STRUCT_FDT",
                "OFF_FDTABLE_MAX_FDS",
                "OFF_FDTABLE_FD",
                "OFF_FILE_F_MODE",
            ],
        );
        const REGISTERS: Needs = Needs(When::Always, &["OFF_ARG_0", "OFF_ARG_1", "OFF_ARG_2"]);
        /// Of a call that was under way; a helper finds them later.
        const STACK: Needs = Needs(When::Before6_1, &["OFF_TASK_STRUCT_STACK", "OFF_THREAD_UNION_REGISTERS"]);
        const NUMBER: Needs = Needs(When::Always, &["OFF_SYSCALL_NR"]);
        const IOCB: Needs = Needs(When::Always, &["OFF_KIOCB_KI_FILP"]);
        const ALL: [Needs; 4] = [Needs::IDS, Needs::CGROUP_ID, PIPE, DESCRIPTORS];
        let rung = |name, programs, needs: &[Needs]| {
            RungPlan { name, programs, needs: [&ALL, needs].concat(), storage: &[] }.storing(STORAGE)
        };
        // Beginnings before ends, throughout.
        let functions = || {
            vec![
                ProgramPlan::fentry("pipe_write_entry", "anon_pipe_write").or("pipe_write"),
                ProgramPlan::fexit("pipe_write_exit", "anon_pipe_write").or("pipe_write"),
                ProgramPlan::fentry("pipe_read_entry", "anon_pipe_read").or("pipe_read"),
                ProgramPlan::fexit("pipe_read_exit", "anon_pipe_read").or("pipe_read"),
                ProgramPlan::fentry("pipe_splice_entry", "do_splice"),
                ProgramPlan::fexit("pipe_splice_exit", "do_splice"),
                ProgramPlan::fentry("pipe_tee_entry", "do_tee"),
                ProgramPlan::fexit("pipe_tee_exit", "do_tee"),
                ProgramPlan::fentry("pipe_sendfile_entry", "do_sendfile"),
                ProgramPlan::fexit("pipe_sendfile_exit", "do_sendfile"),
                ProgramPlan::fentry("pipe_vmsplice_entry", VMSPLICE),
                ProgramPlan::fexit("pipe_vmsplice_exit", VMSPLICE),
            ]
        };
        let rungs = || {
            vec![
                rung(FUNCTION, functions(), &[IOCB, REGISTERS]),
                rung(
                    "tp_btf",
                    vec![
                        ProgramPlan::btf("pipe_enter_btf", "sys_enter"),
                        ProgramPlan::btf("pipe_exit_btf", "sys_exit"),
                    ],
                    &[REGISTERS, STACK, NUMBER],
                ),
                rung(
                    "raw_tp",
                    vec![
                        ProgramPlan::raw("pipe_enter_raw", "sys_enter"),
                        ProgramPlan::raw("pipe_exit_raw", "sys_exit"),
                    ],
                    &[REGISTERS, STACK, NUMBER],
                ),
                RungPlan::trace_event(
                    vec![
                        ProgramPlan::event("pipe_enter_tp", "raw_syscalls", "sys_enter"),
                        ProgramPlan::event("pipe_exit_tp", "raw_syscalls", "sys_exit"),
                    ],
                    &[&ALL[..], &[REGISTERS, STACK]].concat(),
                )
                .storing(STORAGE),
            ]
        };
        sealed::Plan(FamilyPlan {
            family: Family::Pipe,
            object: ObjectBytes::Builtin,
            events: vec![
                EventPlan::new(Kind::PIPE_WRITE, "pipe.write", rungs()),
                EventPlan::new(Kind::PIPE_READ, "pipe.read", rungs()),
            ],
            sample_one_in: self.sample_one_in,
            min_duration_ns: 0,
            globals: vec![("PIPE_CALLS", calls())],
            maps: vec![("PIPES", MOST_PIPES)],
            allowed: Vec::new(),
        })
    }
}

impl Yields<PipeWrite> for Pipes {}
impl Yields<PipeRead> for Pipes {}
