//! System calls without the C library's own ideas of them.

/// A system call as it is; what the kernel returned, -errno for a failure.
pub fn call(nr: i64, args: [i64; 6]) -> i64 {
    // SAFETY: the workloads pass pointers to live memory only, with its length.
    let ret = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret == -1 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { ret }
}

/// Like [`call`], and it must succeed.
pub fn must(nr: i64, args: [i64; 6]) -> i64 {
    let ret = call(nr, args);
    assert!(ret >= 0, "system call {nr}: {ret}");
    ret
}

pub fn exit_group(code: u64) -> ! {
    // SAFETY: nothing of this process is needed any more.
    unsafe { libc::_exit(code as i32) }
}

/// Ends this thread and nothing else, not even its memory.
pub fn exit_thread() -> ! {
    call(libc::SYS_exit, [0; 6]);
    unreachable!("exit returned")
}

/// A process made by fork; what it does is `child`, and then it ends.
pub fn fork(child: impl FnOnce()) -> u32 {
    // SAFETY: the workloads that fork have one thread.
    match unsafe { libc::fork() } {
        0 => {
            child();
            exit_group(0)
        }
        pid if pid > 0 => pid as u32,
        error => panic!("fork: {error}"),
    }
}

/// Waits for a child and gives its status as the kernel has it.
pub fn wait_for(pid: u32) -> u32 {
    let mut status = 0;
    // SAFETY: `status` is alive.
    let got = unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
    assert_eq!(got, pid as i32);
    status as u32
}

/// A pipe: its reading and its writing end.
pub fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    ends
}

pub fn pin_to(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

/// The CPUs this process may use.
pub fn cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..1024).filter(|cpu| set.is_set(*cpu)).collect()
}

pub fn pid() -> u32 {
    must(libc::SYS_getpid, [0; 6]) as u32
}

/// What this thread has used.
pub fn usage() -> libc::rusage {
    // SAFETY: all fields are numbers, for which 0 will do.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: there is room for the answer.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage
}

pub fn tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// Sleeps by the system call of that name.
pub fn nanosleep(ns: u64) -> i64 {
    let time = [(ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64];
    call(libc::SYS_nanosleep, [time.as_ptr() as i64, 0, 0, 0, 0, 0])
}

/// Bytes that can be read at once.
pub fn unread(fd: i32) -> i64 {
    let mut bytes = 0_i32;
    must(libc::SYS_ioctl, [fd.into(), libc::FIONREAD as i64, &raw mut bytes as i64, 0, 0, 0]);
    bytes.into()
}
