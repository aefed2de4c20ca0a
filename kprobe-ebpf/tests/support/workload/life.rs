//! Processes and threads that begin and end.

use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{sys, wait};
use crate::support::child::{WORKLOAD, own_path};

/// Every way to make a process or a thread, ten times each.
pub fn forks() {
    const EACH: usize = 10;
    for _ in 0..EACH {
        sys::wait_for(sys::fork(|| ()));
    }
    let mut stack = vec![0_u8; 64 << 10];
    let end = stack.as_mut_ptr_range().end;
    for flags in [libc::CLONE_VM | libc::CLONE_VFORK, 0] {
        for _ in 0..EACH {
            // SAFETY: the child has a stack of its own, and ends at once.
            let child = unsafe { libc::clone(ends, end.cast(), flags | libc::SIGCHLD, std::ptr::null_mut()) };
            sys::wait_for(u32::try_from(child).unwrap());
        }
    }
    for _ in 0..EACH {
        let args = [0_u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
        match sys::call(libc::SYS_clone3, [args.as_ptr() as i64, size_of_val(&args) as i64, 0, 0, 0, 0]) {
            0 => sys::exit_group(0),
            child => drop(sys::wait_for(u32::try_from(child).unwrap())),
        }
    }
    for _ in 0..EACH {
        std::thread::spawn(|| ()).join().unwrap();
    }
}

extern "C" fn ends(_: *mut libc::c_void) -> i32 {
    sys::exit_group(0)
}

/// This binary as the workload `text`, in place of this process.
fn exec(text: &str) -> ! {
    let path = CString::new(own_path().as_os_str().as_bytes()).unwrap();
    let environment = CString::new(format!("{WORKLOAD}={text}")).unwrap();
    let (argv, envp) = ([path.as_ptr(), std::ptr::null()], [environment.as_ptr(), std::ptr::null()]);
    // SAFETY: two arrays of strings that end in a null.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    panic!("{}", std::io::Error::last_os_error())
}

/// `count` children that become another program and end with the low bits of their number.
pub fn children(count: u64) {
    for number in 0..count {
        let child = sys::fork(|| exec(&format!("exit {}", number % 256)));
        println!("{child} {}", sys::wait_for(child));
    }
}

/// A child for each exit code.
pub fn exit_codes() {
    for code in 0..256 {
        let child = sys::fork(|| sys::exit_group(code));
        println!("{child} {}", sys::wait_for(child));
    }
}

/// A child for each of some signals that end a process; the later ones dump core, if the machine lets them.
pub fn signals() {
    const SIGNALS: [i32; 7] = [
        libc::SIGTERM,
        libc::SIGKILL,
        libc::SIGINT,
        libc::SIGALRM,
        libc::SIGSEGV,
        libc::SIGABRT,
        libc::SIGQUIT,
    ];
    std::env::set_current_dir("/tmp").unwrap();
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    for (number, signal) in SIGNALS.into_iter().enumerate() {
        let child = sys::fork(|| {
            // The last one must not dump core.
            let core = if number + 1 == SIGNALS.len() {
                libc::rlimit { rlim_cur: 0, rlim_max: 0 }
            } else {
                unlimited
            };
            // SAFETY: the limit is alive.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const core) };
            // SAFETY: the default takes the place of a handler that the Rust runtime may have.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            sys::call(libc::SYS_kill, [std::process::id().into(), signal.into(), 0, 0, 0, 0]);
        });
        println!("{child} {}", sys::wait_for(child));
    }
}

/// Processes whose threads, the first included, all end at the same moment.
pub fn threads_end(processes: u64, threads: u64) {
    for _ in 0..processes {
        let child = sys::fork(|| {
            let waiting = AtomicUsize::new(usize::try_from(threads).unwrap());
            let waiting: &'static AtomicUsize = Box::leak(Box::new(waiting));
            let end = move || -> ! {
                waiting.fetch_sub(1, Ordering::SeqCst);
                while waiting.load(Ordering::SeqCst) != 0 {
                    std::hint::spin_loop();
                }
                sys::exit_thread()
            };
            for _ in 1..threads {
                std::thread::spawn(move || end());
            }
            end()
        });
        println!("{child} {}", sys::wait_for(child));
    }
}

/// A thread that is not the first becomes another program.
pub fn thread_execs() {
    let child = sys::fork(|| {
        let thread = std::thread::spawn(|| {
            println!("{}", sys::tid());
            exec("exit 9")
        });
        let _: Result<(), _> = thread.join();
    });
    println!("{child} {}", sys::wait_for(child));
}

/// The names that the workload `renames` gives.
pub const NAMES: [&[u8]; 4] =
    [b"plain", b"n\xc3\xa4me \xff\x01\t", b"a name that is too long", b"by another"];

/// A thread gives itself names, and another one gives it the last.
pub fn renames() {
    let named = sys::tid();
    for name in &NAMES[..3] {
        let name = CString::new(*name).unwrap();
        sys::must(libc::SYS_prctl, [libc::PR_SET_NAME.into(), name.as_ptr() as i64, 0, 0, 0, 0]);
    }
    std::thread::spawn(move || {
        println!("{named} {}", sys::tid());
        std::fs::write(format!("/proc/self/task/{named}/comm"), NAMES[3]).unwrap();
    })
    .join()
    .unwrap();
}

/// Two threads that make `count` calls of getppid each; the test chooses between them first.
pub fn two_threads(count: u64) {
    let (ready, go): (&Barrier, &Barrier) =
        (Box::leak(Box::new(Barrier::new(2))), Box::leak(Box::new(Barrier::new(2))));
    let calls = move || {
        for _ in 0..count {
            sys::call(libc::SYS_getppid, [0; 6]);
        }
    };
    let other = std::thread::spawn(move || {
        println!("{}", sys::tid());
        ready.wait();
        go.wait();
        calls();
    });
    ready.wait();
    wait();
    go.wait();
    calls();
    other.join().unwrap();
}

/// On one CPU, each time that the test lets it: a new thread makes one call of getppid and ends.
pub fn thread_by_thread() {
    sys::pin_to(sys::cpus()[0]);
    println!("ready");
    while wait() {
        let call = || sys::call(libc::SYS_getppid, [0; 6]);
        std::thread::spawn(call).join().unwrap();
        println!("done");
    }
}

/// So many threads that call getppid every millisecond, until the test ends them.
pub fn busy_threads(threads: u64) {
    let ready: &Barrier = Box::leak(Box::new(Barrier::new(usize::try_from(threads).unwrap() + 1)));
    for _ in 0..threads {
        std::thread::spawn(move || {
            ready.wait();
            loop {
                sys::call(libc::SYS_getppid, [0; 6]);
                sys::nanosleep(1_000_000);
            }
        });
    }
    ready.wait();
    println!("ready");
    wait();
}
