use kprobe_core::event::{Arch, Syscall, SyscallAbi, errno_name};

use super::{
    line::{CALL, FAILED, Line, SPAN},
    text::Span,
};

/// Columns, counted from the start of the call.
const RESULT: usize = 24;
const DURATION: usize = 44;

/// `AT_FDCWD` of include/uapi/linux/fcntl.h.
const AT_FDCWD: i32 = -100;

/// Codes with which the kernel starts a call anew; a tracer sees them, a program never does.
const RESTARTS: std::ops::RangeInclusive<u32> = 512..=516;

/// `read(3, 4096)  = 512  1.23us`
pub(super) fn put(line: &mut Line<'_>, event: &Syscall, arch: Arch) {
    let start = line.width();
    match event.nr {
        Some(nr) => {
            match nr.name(arch) {
                Some(name) => line.styled(CALL, format_args!("{name}")),
                None => line.styled(CALL, format_args!("syscall_{}", nr.nr)),
            }
            if nr.abi != SyscallAbi::Native {
                line.put(format_args!("[{}]", nr.abi.name()));
            }
        }
        None => line.styled(CALL, format_args!("syscall_?")),
    }
    put_arguments(line, event);
    line.pad_to(start + RESULT);
    put_result(line, event);
    if let Some(duration) = event.duration_ns() {
        line.pad_to(start + DURATION);
        let text = Span(duration).to_string();
        line.styled(SPAN, format_args!("{text:>6}"));
    }
}

fn put_arguments(line: &mut Line<'_>, event: &Syscall) {
    line.put(format_args!("("));
    match event.fd {
        Some(AT_FDCWD) => line.put(format_args!("AT_FDCWD")),
        Some(fd) => line.put(format_args!("{fd}")),
        None => {}
    }
    match (event.fd, event.requested) {
        (Some(_), Some(length)) => line.put(format_args!(", {length}")),
        (None, Some(length)) => line.put(format_args!("len {length}")),
        (_, None) => {}
    }
    line.put(format_args!(")"));
}

fn put_result(line: &mut Line<'_>, event: &Syscall) {
    match (event.ret, event.errno()) {
        (None, _) => line.put(format_args!("= ?")),
        (Some(_), Some(errno)) => match errno_name(errno) {
            Some(name) if RESTARTS.contains(&errno) => line.styled(FAILED, format_args!("= ? {name}")),
            Some(name) => line.styled(FAILED, format_args!("= -1 {name}")),
            None => line.styled(FAILED, format_args!("= -{errno}")),
        },
        // An address, as mmap and brk return.
        (Some(ret), None) if u32::try_from(ret).is_err() => line.put(format_args!("= {ret:#x}")),
        (Some(ret), None) => line.put(format_args!("= {ret}")),
    }
}
