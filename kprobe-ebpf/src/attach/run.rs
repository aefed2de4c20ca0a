//! Running a program once, in the name of this thread.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// `BPF_PROG_TEST_RUN` of `include/uapi/linux/bpf.h`.
const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The members of `union bpf_attr` for it.
#[derive(Debug, Default)]
#[repr(C)]
struct ProgramRun {
    program: u32,
    returned: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
}

/// Runs a program for raw tracepoints with these arguments (Linux 5.10); what it returns.
pub(super) fn run(program: BorrowedFd<'_>, arguments: [u64; 2]) -> io::Result<u32> {
    let mut attr = ProgramRun {
        program: program.as_raw_fd().cast_unsigned(),
        context_size_in: u32::try_from(size_of_val(&arguments)).unwrap_or_default(),
        context_in: arguments.as_ptr() as u64,
        ..ProgramRun::default()
    };
    // SAFETY: the kernel reads and writes `attr`, of which it is told the size, and reads the arguments, of which it is told
    // the size, too; both are alive.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<ProgramRun>()) };
    if done == 0 { Ok(attr.returned) } else { Err(io::Error::last_os_error()) }
}
