use std::{ffi::CStr, io, os::fd::OwnedFd};

use super::{
    asm::Asm,
    syscall::{Program, ProgramType, attach_raw_tracepoint},
};

const KTIME_GET_NS: i32 = 5;

/// At the entry and at the return of every system call.
pub(crate) const CALLS: [&CStr; 2] = [c"sys_enter", c"sys_exit"];
/// At every switch and every wake-up.
pub(crate) const SWITCHES: [&CStr; 2] = [c"sched_switch", c"sched_waking"];

/// Two programs that record nothing, for every process, until dropped: what any tracer pays before it does anything.
#[derive(Debug)]
pub(crate) struct EmptyPair {
    _attached: [OwnedFd; 2],
}

impl EmptyPair {
    /// They do nothing.
    pub(crate) fn attach(at: [&CStr; 2]) -> io::Result<Self> {
        Self::of(Asm::default(), at)
    }

    /// They ask for the time, as all do that say when something happened, or how long it took.
    pub(crate) fn attach_with_clock(at: [&CStr; 2]) -> io::Result<Self> {
        let mut asm = Asm::default();
        asm.call(KTIME_GET_NS);
        Self::of(asm, at)
    }

    fn of(mut asm: Asm, at: [&CStr; 2]) -> io::Result<Self> {
        asm.mov_imm(0, 0).exit();
        let insns = asm.finish();
        let attach = |tracepoint| {
            let program = Program::load(ProgramType::RawTracepoint, &insns)?;
            attach_raw_tracepoint(&program, tracepoint)
        };
        Ok(Self { _attached: [attach(at[0])?, attach(at[1])?] })
    }
}
