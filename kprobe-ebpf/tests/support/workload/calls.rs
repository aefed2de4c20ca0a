//! Known system calls.

use super::sys::{self, call, must};

/// The descriptors of the workload `known-calls`.
pub const PIPE_READ: i32 = 200;
pub const PIPE_WRITE: i32 = 201;
pub const SOCKET_A: i32 = 202;
pub const SOCKET_B: i32 = 203;
pub const FILE: i32 = 204;
pub const DUPLICATE: i32 = 205;
/// Its calls are between a close of this descriptor and one of the next lower number.
pub const BEGIN: i32 = -77;
/// What it sleeps.
pub const SLEEP_NS: u64 = 20_000_000;
/// The code it ends with.
pub const CODE: u64 = 41;

/// `count` calls of getppid by each of `threads` threads at once.
pub fn getppid(count: u64, threads: u64) {
    let all = move || {
        for _ in 0..count {
            // SAFETY: has no arguments.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
    };
    let others: Vec<_> = (1..threads).map(|_| std::thread::spawn(all)).collect();
    all();
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// The calls that the test `syscalls::known_calls` has a table of.
pub fn known() {
    let place = |from: i64, to: i32| {
        must(libc::SYS_dup3, [from, to.into(), 0, 0, 0, 0]);
        must(libc::SYS_close, [from, 0, 0, 0, 0, 0]);
    };
    let [read, write] = sys::pipe();
    place(read.into(), PIPE_READ);
    place(write.into(), PIPE_WRITE);
    let mut pair = [0_i32; 2];
    let (unix, stream) = (libc::AF_UNIX.into(), libc::SOCK_STREAM.into());
    must(libc::SYS_socketpair, [unix, stream, 0, pair.as_mut_ptr() as i64, 0, 0]);
    place(pair[0].into(), SOCKET_A);
    place(pair[1].into(), SOCKET_B);
    place(must(libc::SYS_memfd_create, [c"file".as_ptr() as i64, 0, 0, 0, 0, 0]), FILE);
    let mut data = [7_u8; 8192];
    let bytes = data.as_mut_ptr() as i64;
    let vectors = [(bytes, 10_i64), (bytes, 20)];
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, on_signal as *const () as usize) };
    let own: i64 = std::process::id().into();
    let fd = i64::from;

    call(libc::SYS_close, [fd(BEGIN), 0, 0, 0, 0, 0]);
    call(libc::SYS_openat, [libc::AT_FDCWD.into(), c"/nonexistent/file".as_ptr() as i64, 0, 0, 0, 0]);
    call(libc::SYS_write, [fd(PIPE_WRITE), bytes, 100, 0, 0, 0]);
    call(libc::SYS_read, [fd(PIPE_READ), bytes, 64, 0, 0, 0]);
    call(libc::SYS_read, [fd(PIPE_READ), bytes, 4096, 0, 0, 0]);
    call(libc::SYS_writev, [fd(PIPE_WRITE), vectors.as_ptr() as i64, 2, 0, 0, 0]);
    call(libc::SYS_pwrite64, [fd(FILE), bytes, 1000, 5000, 0, 0]);
    call(libc::SYS_pread64, [fd(FILE), bytes, 500, 5500, 0, 0]);
    call(libc::SYS_pread64, [fd(FILE), bytes, 500, 5900, 0, 0]);
    call(libc::SYS_fsync, [fd(FILE), 0, 0, 0, 0, 0]);
    call(libc::SYS_sendto, [fd(SOCKET_A), bytes, 77, 0, 0, 0]);
    call(libc::SYS_recvfrom, [fd(SOCKET_B), bytes, 1000, 0, 0, 0]);
    call(libc::SYS_recvfrom, [fd(SOCKET_B), bytes, 1000, libc::MSG_DONTWAIT.into(), 0, 0]);
    call(libc::SYS_dup3, [fd(FILE), fd(DUPLICATE), 0, 0, 0, 0]);
    call(libc::SYS_close, [fd(DUPLICATE), 0, 0, 0, 0, 0]);
    call(libc::SYS_close, [-1, 0, 0, 0, 0, 0]);
    call(libc::SYS_write, [fd(PIPE_READ), bytes, 1, 0, 0, 0]);
    call(libc::SYS_getppid, [0; 6]);
    sys::nanosleep(SLEEP_NS);
    call(libc::SYS_kill, [own, libc::SIGUSR1.into(), 0, 0, 0, 0]);
    call(999, [0; 6]);
    call(libc::SYS_close, [fd(BEGIN - 1), 0, 0, 0, 0, 0]);
    sys::exit_group(CODE)
}

extern "C" fn on_signal(_: i32) {}

/// Sleeps so many microseconds, one after the other.
pub fn sleeps(microseconds: &[u64]) {
    for us in microseconds {
        assert_eq!(sys::nanosleep(us * 1000), 0);
    }
}

/// A child that is killed in its sleep.
pub fn killed_sleeper() {
    let [read, write] = sys::pipe();
    let sleeper = sys::fork(|| {
        must(libc::SYS_write, [write.into(), c"x".as_ptr() as i64, 1, 0, 0, 0]);
        sys::nanosleep(1_000_000_000_000);
    });
    must(libc::SYS_read, [read.into(), [0_u8; 1].as_mut_ptr() as i64, 1, 0, 0, 0]);
    crate::support::kernel::wait_until_in(sleeper, libc::SYS_nanosleep);
    must(libc::SYS_kill, [sleeper.into(), libc::SIGKILL.into(), 0, 0, 0, 0]);
    println!("{sleeper} {}", sys::wait_for(sleeper));
}
