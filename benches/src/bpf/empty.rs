use std::{io, os::fd::OwnedFd};

use super::{
    asm::Asm,
    syscall::{Program, ProgramType, attach_raw_tracepoint},
};

/// Two programs that do nothing, at the entry and at the return of every system call of every process, until dropped: what
/// any tracer pays before it does anything.
#[derive(Debug)]
pub(crate) struct EmptyPair {
    _attached: [OwnedFd; 2],
}

impl EmptyPair {
    pub(crate) fn attach() -> io::Result<Self> {
        let mut asm = Asm::default();
        asm.mov_imm(0, 0).exit();
        let insns = asm.finish();
        let attach = |tracepoint| {
            let program = Program::load(ProgramType::RawTracepoint, &insns)?;
            attach_raw_tracepoint(&program, tracepoint)
        };
        Ok(Self { _attached: [attach(c"sys_enter")?, attach(c"sys_exit")?] })
    }
}
