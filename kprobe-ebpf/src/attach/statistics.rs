//! What the kernel counts of programs: how often they ran, how long, and how often it skipped them.

use std::{
    io,
    mem::{MaybeUninit, offset_of},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_prog_info, bpf_prog_type};

use super::run::run;

/// What the kernel says of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(crate) id: u32,
    pub(crate) run_count: u64,
    pub(crate) run_time_ns: u64,
    /// `None` where this kernel does not count them for programs of this type.
    pub(crate) recursion_misses: Option<u64>,
}

impl Statistics {
    /// Of a program by its descriptor, which needs no more than CAP_BPF: what is for CAP_SYS_ADMIN alone is to open a program by
    /// its id. And unlike `/proc/self/fdinfo` it may be read by a process that is not dumpable (one whose file has
    /// capabilities), on any kernel.
    ///
    /// `counts_calls`: from Linux 6.7 on what `trace_call_bpf` skips is counted.
    pub(crate) fn of(program: BorrowedFd<'_>, counts_calls: bool) -> io::Result<Self> {
        let mut info = MaybeUninit::<bpf_prog_info>::zeroed();
        let mut attr = GetInfo {
            fd: number(program),
            len: u32::try_from(size_of::<bpf_prog_info>()).unwrap_or_default(),
            info: info.as_mut_ptr() as u64,
        };
        const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
        // SAFETY: the kernel reads and writes `attr` and the memory that it points to, of both of which it is told the size; all
        // pointers in that are null, so that it writes nowhere else.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut attr, size_of::<GetInfo>())
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it consists of integers, was zeros, and the kernel has written its beginning.
        let info = unsafe { info.assume_init() };
        // As much as this kernel has.
        let tells = attr.len as usize >= offset_of!(bpf_prog_info, recursion_misses) + size_of::<u64>();
        let counts = tells && counts_misses(info.type_, counts_calls);
        Ok(Self {
            id: info.id,
            run_count: info.run_cnt,
            run_time_ns: info.run_time_ns,
            recursion_misses: counts.then_some(info.recursion_misses),
        })
    }
}

/// The kernel counts what it skips at raw tracepoints and at functions (`bpf_prog_inc_misses_counter` in
/// kernel/trace/bpf_trace.c and kernel/bpf/trampoline.c); for kprobes and trace events since 6.7; for perf events never
/// (`bpf_overflow_handler` in kernel/events/core.c), though it skips them.
fn counts_misses(kind: u32, counts_calls: bool) -> bool {
    use bpf_prog_type::{
        BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_TRACEPOINT, BPF_PROG_TYPE_TRACING,
    };
    let is = |kinds: [bpf_prog_type; 2]| kinds.iter().any(|of| *of as u32 == kind);
    is([BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_TRACING])
        || counts_calls && is([BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_TRACEPOINT])
}

/// Whether the kernel counts runs now. No setting tells: `kernel.bpf_stats_enabled` is 0 also while another program, as
/// bpftop does, holds a descriptor that has it count. So a program that does nothing runs once, and is looked at.
pub(crate) fn is_counting() -> io::Result<bool> {
    let nothing = load_nothing()?;
    run(nothing.as_fd(), [0; 2])?;
    Ok(Statistics::of(nothing.as_fd(), false)?.run_count > 0)
}

/// A program for raw tracepoints that returns 0, attached to none.
fn load_nothing() -> io::Result<OwnedFd> {
    // The operation comes first, and all else is 0: r0 = 0; exit.
    let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let attr = Load {
        kind: bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        version: 0,
        flags: 0,
        name: *b"kprobe_nothing\0\0",
    };
    const BPF_PROG_LOAD: libc::c_long = 5;
    // SAFETY: `attr` is laid out as the command wants it; what its pointers are to is alive: as many instructions as it says,
    // and a string.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<Load>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    len: u32,
    info: u64,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`; what is not given is 0.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
}

/// A descriptor as `union bpf_attr` has it: never negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_misses_are_counted() {
        let of = |kind: bpf_prog_type| [false, true].map(|since_6_7| counts_misses(kind as u32, since_6_7));
        assert_eq!(of(bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT), [true, true]);
        assert_eq!(of(bpf_prog_type::BPF_PROG_TYPE_TRACING), [true, true]);
        assert_eq!(of(bpf_prog_type::BPF_PROG_TYPE_KPROBE), [false, true]);
        assert_eq!(of(bpf_prog_type::BPF_PROG_TYPE_TRACEPOINT), [false, true]);
        assert_eq!(of(bpf_prog_type::BPF_PROG_TYPE_PERF_EVENT), [false, false]);
    }
}
