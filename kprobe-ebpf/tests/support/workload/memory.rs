//! Page faults of every kind.

use std::{ffi::CStr, hint::black_box, ptr};

use super::{
    sys::{self, must},
    wait,
};
use crate::support::memcg::MemoryCgroup;

const PAGE: usize = 4096;
/// What the thread that answers the faults of `fetched` sleeps before it does.
pub const ANSWER_NS: u64 = 20_000_000;

/// Page faults of this process, major and minor, as the kernel counts them.
fn usage() -> (i64, i64) {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: it is alive.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) }, 0);
    // SAFETY: all zeros are a value.
    let usage = unsafe { usage.assume_init() };
    (usage.ru_majflt, usage.ru_minflt)
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it is alive.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Says how many faults `work` took by the kernel's own count, and when: name, process, from, to, major, minor, and what
/// `work` gave.
///
/// One function for all of them: the pages of its code are there after the first.
#[inline(never)]
fn measured(name: &str, work: &mut dyn FnMut() -> usize) {
    // What measuring itself takes, for example of a stack that a child shares since a fork, is not to fall on an edge.
    let _warm = (usage(), now());
    let before = usage();
    let from = now();
    let at = work();
    let to = now();
    let after = usage();
    println!("{name} {} {from} {to} {} {} {at}", sys::pid(), after.0 - before.0, after.1 - before.1);
}

fn map(pages: usize, protection: i32, flags: i32, file: i32) -> usize {
    // SAFETY: a new mapping, which nothing else knows.
    let at = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, file, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at as usize
}

fn anonymous(pages: usize, flags: i32) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    map(pages, libc::PROT_READ | libc::PROT_WRITE, flags, -1)
}

fn write(at: usize, pages: usize) {
    for page in 0..pages {
        // SAFETY: within a mapping of so many pages.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(at + page * PAGE).write_volatile(1) };
    }
}

fn read(at: usize, pages: usize) {
    for page in 0..pages {
        // SAFETY: within a mapping of so many pages.
        black_box(unsafe { ptr::with_exposed_provenance::<u8>(at + page * PAGE).read_volatile() });
    }
}

fn open(path: &CStr, flags: i32) -> i32 {
    must(libc::SYS_openat, [libc::AT_FDCWD.into(), path.as_ptr() as i64, flags.into(), 0o600, 0, 0]) as i32
}

/// A file without a name that holds `pages` pages.
fn file(pages: usize) -> i32 {
    let file = open(c".", libc::O_TMPFILE | libc::O_RDWR);
    let content = vec![0xc3_u8; pages * PAGE];
    must(libc::SYS_write, [file.into(), content.as_ptr() as i64, content.len() as i64, 0, 0, 0]);
    file
}

/// Everything that faults. A page is a page: no huge ones.
pub fn faults() {
    std::env::set_current_dir(std::env::var_os("KPROBE_TEST_DISK").unwrap_or_else(|| "/tmp".into())).unwrap();
    must(libc::SYS_prctl, [libc::PR_SET_THP_DISABLE.into(), 1, 0, 0, 0, 0]);
    // What measuring itself takes.
    measured("first", &mut || 0);
    measured("first", &mut || 0);
    measured("idle", &mut || 0);
    measured("new", &mut || {
        let at = anonymous(64, 0);
        write(at, 64);
        at
    });
    measured("zero-then-new", &mut || {
        let at = anonymous(16, 0);
        read(at, 16);
        write(at, 16);
        at
    });
    let shared = anonymous(32, 0);
    write(shared, 32);
    let child = sys::fork(|| {
        measured("first", &mut || 0);
        measured("copied", &mut || {
            write(shared, 32);
            shared
        });
    });
    assert_eq!(sys::wait_for(child), 0);
    measured("by-the-kernel", &mut || {
        let at = anonymous(16, 0);
        let zeros = open(c"/dev/zero", libc::O_RDONLY);
        must(libc::SYS_read, [zeros.into(), at as i64, 16 * PAGE as i64, 0, 0, 0]);
        at
    });
    measured("populated", &mut || anonymous(16, libc::MAP_POPULATE));
    remote();
    measured("stack", &mut || deeper(16));
    measured("threads", &mut || {
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| write(anonymous(64, 0), 64))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        0
    });
    let code = file(1);
    measured("code", &mut || {
        let at = map(1, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, code);
        // SAFETY: an instruction that returns (on x86).
        let function: extern "C" fn() = unsafe { std::mem::transmute(at) };
        if cfg!(target_arch = "x86_64") {
            function();
        }
        at
    });
    let cold = file(64);
    must(libc::SYS_fsync, [cold.into(), 0, 0, 0, 0, 0]);
    let status = std::fs::metadata(format!("/proc/self/fd/{cold}")).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&status);
    must(libc::SYS_fadvise64, [cold.into(), 0, 0, libc::POSIX_FADV_DONTNEED.into(), 0, 0]);
    measured(&format!("cold:{inode}"), &mut || {
        let at = map(64, libc::PROT_READ, libc::MAP_SHARED, cold);
        must(libc::SYS_madvise, [at as i64, 64 * PAGE as i64, libc::MADV_RANDOM.into(), 0, 0, 0]);
        read(at, 64);
        at
    });
    // Beyond the end of a file: that is no fault that counts.
    let child = sys::fork(|| {
        // SAFETY: the default takes the place of a handler that the Rust runtime may have.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        let beyond = map(2, libc::PROT_READ, libc::MAP_SHARED, code) + PAGE;
        println!("failed {} 0 {} 0 0 {beyond}", sys::pid(), u64::MAX);
        read(beyond, 1);
    });
    assert_eq!(sys::wait_for(child) & 0x7f, libc::SIGBUS as u32);
    fetched();
}

/// The kernel writes to another process's memory for this one.
fn remote() {
    let at = anonymous(8, 0);
    let pause = sys::pipe();
    let child = sys::fork(|| {
        must(libc::SYS_read, [pause[0].into(), [0_u8; 1].as_mut_ptr() as i64, 1, 0, 0, 0]);
    });
    let bytes = [7_u8; 8 * PAGE];
    let vector = |at: usize| libc::iovec { iov_base: at as *mut _, iov_len: 8 * PAGE };
    measured("remote", &mut || {
        let (from, to) = (vector(bytes.as_ptr() as usize), vector(at));
        let (from, to) = (&raw const from as i64, &raw const to as i64);
        must(libc::SYS_process_vm_writev, [child.into(), from, 1, to, 1, 0]);
        at
    });
    must(libc::SYS_write, [pause[1].into(), [0_u8; 1].as_ptr() as i64, 1, 0, 0, 0]);
    assert_eq!(sys::wait_for(child), 0);
}

fn deeper(levels: usize) -> usize {
    let frame = [levels as u8; 2 * PAGE];
    if levels > 0 { deeper(levels - 1) + usize::from(black_box(&frame)[7]) } else { 0 }
}

/// Four pages that another thread fetches, each after a sleep: faults that have to be tried again.
fn fetched() {
    // linux/userfaultfd.h
    const UFFDIO_API: i64 = 0xc018_aa3f_u32 as i64;
    const UFFDIO_REGISTER: i64 = 0xc020_aa00_u32 as i64;
    const UFFDIO_COPY: i64 = 0xc028_aa03_u32 as i64;
    const PAGES: usize = 4;
    let server = must(libc::SYS_userfaultfd, [libc::O_CLOEXEC.into(), 0, 0, 0, 0, 0]);
    let ask = move |request: i64, argument: &mut [u64]| {
        must(libc::SYS_ioctl, [server, request, argument.as_mut_ptr() as i64, 0, 0, 0]);
    };
    ask(UFFDIO_API, &mut [0xaa, 0, 0]);
    let at = anonymous(PAGES, 0);
    ask(UFFDIO_REGISTER, &mut [at as u64, (PAGES * PAGE) as u64, 1, 0]);
    let page = anonymous(1, 0);
    write(page, 1);
    let (say, server_tid) = std::sync::mpsc::channel();
    let [open, close] = sys::pipe();
    let serving = std::thread::spawn(move || {
        say.send(sys::tid()).unwrap();
        for _ in 0..PAGES {
            let mut message = [0_u64; 4];
            must(libc::SYS_read, [server, message.as_mut_ptr() as i64, 32, 0, 0, 0]);
            sys::nanosleep(ANSWER_NS);
            let faulting = message[2] & !(PAGE as u64 - 1);
            ask(UFFDIO_COPY, &mut [faulting, page as u64, PAGE as u64, 0, 0]);
        }
        // Until all is measured it does nothing.
        let mut end = [open as u64 | (libc::POLLIN as u64) << 32];
        must(libc::SYS_ppoll, [end.as_mut_ptr() as i64, 1, 0, 0, 0, 0]);
    });
    // Its own faults are not to fall on an edge of what is measured.
    let server_tid = server_tid.recv().unwrap();
    crate::support::kernel::wait_until_in(server_tid, libc::SYS_read);
    measured("fetched", &mut || {
        read(at, PAGES);
        crate::support::kernel::wait_until_in(server_tid, libc::SYS_ppoll);
        at
    });
    must(libc::SYS_close, [close.into(), 0, 0, 0, 0, 0]);
    serving.join().unwrap();
}

/// Each time that the test lets it: 100 new pages.
pub fn gated() {
    must(libc::SYS_prctl, [libc::PR_SET_THP_DISABLE.into(), 1, 0, 0, 0, 0]);
    println!("ready");
    while wait() {
        measured("new", &mut || {
            let at = anonymous(100, 0);
            write(at, 100);
            must(libc::SYS_munmap, [at as i64, 100 * PAGE as i64, 0, 0, 0, 0]);
            at
        });
    }
}

/// In a cgroup with a limit: so many times a MiB of memory that the kernel may take back.
pub fn reclaims(cgroup: u64, mibs: u64) {
    MemoryCgroup::enter(cgroup);
    must(libc::SYS_prctl, [libc::PR_SET_THP_DISABLE.into(), 1, 0, 0, 0, 0]);
    for _ in 0..mibs {
        let at = anonymous(256, 0);
        write(at, 256);
        must(libc::SYS_madvise, [at as i64, 256 * PAGE as i64, libc::MADV_FREE.into(), 0, 0, 0]);
    }
}

/// In a cgroup with a limit: takes so many MiB, until it is killed.
pub fn hog(cgroup: u64, mibs: u64) {
    MemoryCgroup::enter(cgroup);
    must(libc::SYS_prctl, [libc::PR_SET_THP_DISABLE.into(), 1, 0, 0, 0, 0]);
    println!("hogging");
    let pages = 256 * mibs as usize;
    write(anonymous(pages, 0), pages);
}

/// Whom the kernel chooses first. Has so many MiB.
pub fn victim(mibs: u64) {
    std::fs::write("/proc/self/oom_score_adj", "1000").unwrap();
    let pages = 256 * mibs as usize;
    write(anonymous(pages, 0), pages);
    println!("ready");
    wait();
}

/// Most of the machine's memory in huge pages, for a moment.
pub fn huge_pages() {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let kib: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    for pages in [kib / 2048, 0] {
        std::fs::write("/proc/sys/vm/nr_hugepages", pages.to_string()).unwrap();
    }
}
