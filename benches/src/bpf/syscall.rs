//! bpf(2), as far as the benches need it: aya loads objects, these programs are made of instructions.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use super::asm::Insn;

const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const LOG_BYTES: usize = 1 << 16;

/// `enum bpf_map_type`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MapType {
    Array = 2,
    RingBuf = 27,
}

/// `enum bpf_prog_type`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProgramType {
    /// Can be run with a repeat count by `BPF_PROG_TEST_RUN`.
    SchedCls = 3,
    /// Can be attached to a tracepoint.
    RawTracepoint = 17,
}

/// A loaded program.
#[derive(Debug)]
pub(crate) struct Program(pub(crate) OwnedFd);

/// `union bpf_attr` of MAP_CREATE, up to `map_flags`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// `union bpf_attr` of PROG_LOAD, up to `prog_flags`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` of PROG_TEST_RUN, up to `duration`, and what follows as zeros.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    rest: [u64; 4],
}

/// `union bpf_attr` of RAW_TRACEPOINT_OPEN, up to `prog_fd`.
#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    reserved: u32,
}

/// # Safety
///
/// `T` is what `command` reads from `union bpf_attr`, and the addresses in it are what it says.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: bpf(2) reads and writes size_of::<T>() bytes of `attr`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(RawFd::try_from(result).expect("an int")) }
}

pub(crate) fn create_map(
    kind: MapType,
    value_size: u32,
    max_entries: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let key_size = if matches!(kind, MapType::Array) { 4 } else { 0 };
    let mut attr = MapCreate { map_type: kind as u32, key_size, value_size, max_entries, map_flags: flags };
    // SAFETY: the attributes of MAP_CREATE, which hold no address.
    let fd = unsafe { bpf(MAP_CREATE, &mut attr) }?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches the program, of type [`ProgramType::RawTracepoint`], until the descriptor is closed.
pub(crate) fn attach_raw_tracepoint(program: &Program, tracepoint: &CStr) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointOpen {
        name: tracepoint.as_ptr().addr() as u64,
        prog_fd: u32::try_from(program.0.as_raw_fd()).expect("not negative"),
        reserved: 0,
    };
    // SAFETY: the attributes of RAW_TRACEPOINT_OPEN; `name` is the address of a C string that outlives the call.
    let fd = unsafe { bpf(RAW_TRACEPOINT_OPEN, &mut attr) }?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Program {
    pub(crate) fn load(kind: ProgramType, insns: &[Insn]) -> io::Result<Self> {
        let mut log = vec![0u8; LOG_BYTES];
        let license = c"Dual MIT/GPL";
        let mut attr = ProgLoad {
            prog_type: kind as u32,
            insn_cnt: u32::try_from(insns.len()).expect("a short program"),
            insns: insns.as_ptr().addr() as u64,
            license: license.as_ptr().addr() as u64,
            log_level: 1,
            log_size: u32::try_from(LOG_BYTES).expect("constant"),
            log_buf: log.as_mut_ptr().addr() as u64,
            kern_version: 0,
            prog_flags: 0,
        };
        // SAFETY: the attributes of PROG_LOAD; the addresses are those of `insn_cnt` instructions, of a C string and
        // of a buffer of `log_size` bytes, all of which outlive the call.
        match unsafe { bpf(PROG_LOAD, &mut attr) } {
            // SAFETY: a new descriptor that nobody else has.
            Ok(fd) => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
            Err(error) => {
                let log = String::from_utf8_lossy(&log);
                Err(io::Error::new(error.kind(), format!("{error}: {}", log.trim_end_matches('\0'))))
            }
        }
    }

    /// Runs the program `repeat` times on this CPU.
    pub(crate) fn run(&self, repeat: u32) -> io::Result<()> {
        let packet = [0u8; 64];
        let mut attr = TestRun {
            prog_fd: u32::try_from(self.0.as_raw_fd()).expect("not negative"),
            data_size_in: 64,
            data_in: packet.as_ptr().addr() as u64,
            repeat,
            ..TestRun::default()
        };
        // SAFETY: the attributes of PROG_TEST_RUN; `data_in` is the address of 64 bytes, and there is no output.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }.map(|_| ())
    }
}
