//! Waiting until no program is running any more that began before: it may have been on its way to count and submit one
//! more record when its probe was detached.
//!
//! Programs at tracepoints run inside an RCU read-side critical section, so a grace period of RCU is that wait. Nothing
//! in Linux is there to ask for one, but two system calls have to wait for one themselves.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Waits; `false` if the system refused to in either way.
pub(super) fn wait() -> bool {
    by_map_of_maps().is_ok() || by_membarrier()
}

/// For a process that has given up CAP_BPF. `MEMBARRIER_CMD_GLOBAL` is the kernel's `synchronize_rcu`
/// (kernel/sched/membarrier.c). It needs no privilege, and is refused on a machine with `nohz_full` CPUs. With one CPU online it
/// does nothing, because nobody else can be running then; since Linux 7.0 a thread can be in the middle of a program all the
/// same.
fn by_membarrier() -> bool {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: this command takes no pointers and changes nothing.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0 }
}

/// Who puts a map into a map may rely on it that no program uses the one that was there before: the kernel waits for a
/// grace period (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c, Linux 4.20). The maps are made for this and go at
/// its end; making them needs CAP_BPF.
fn by_map_of_maps() -> io::Result<()> {
    let array = MapCreate { map_type: 2, key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
    let inner = create(&array)?;
    let array_of_maps = MapCreate { map_type: 12, inner_map_fd: number(&inner), ..array };
    let outer = create(&array_of_maps)?;
    let (key, value) = (0_u32, number(&inner));
    let update = MapUpdate {
        map_fd: number(&outer),
        padding: 0,
        key: (&raw const key).addr() as u64,
        value: (&raw const value).addr() as u64,
        flags: 0,
    };
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    // SAFETY: `update` is laid out as the command wants it, its pointers are to the four bytes of a key and of a value
    // that the map has, and both live longer than the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw const update, size_of::<MapUpdate>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`; what is not given is 0.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn create(attr: &MapCreate) -> io::Result<OwnedFd> {
    const BPF_MAP_CREATE: libc::c_int = 0;
    // SAFETY: `attr` is laid out as the command wants it, has no pointers and lives longer than the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const *attr, size_of::<MapCreate>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor as `union bpf_attr` has it: never negative.
fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}
