//! Threads that wait for futexes and for locks of the kernel, and say how it went: what they print is what the records must
//! say.

use std::{
    ptr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
};

use super::sys;
use crate::support::kernel::{wait_until_in, wait_until_in_state};

const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;

fn at(word: &AtomicU32) -> i64 {
    word.as_ptr() as i64
}

fn wait(word: &AtomicU32, value: u32, private: i32) -> i64 {
    sys::call(libc::SYS_futex, [at(word), (libc::FUTEX_WAIT | private).into(), value.into(), 0, 0, 0])
}

fn wait_for(word: &AtomicU32, value: u32, ns: i64) -> i64 {
    let limit = [ns / 1_000_000_000, ns % 1_000_000_000];
    let op = i64::from(libc::FUTEX_WAIT | PRIVATE);
    sys::call(libc::SYS_futex, [at(word), op, value.into(), limit.as_ptr() as i64, 0, 0])
}

fn wake(word: &AtomicU32, count: u32, private: i32) -> i64 {
    sys::must(libc::SYS_futex, [at(word), (libc::FUTEX_WAKE | private).into(), count.into(), 0, 0, 0])
}

/// A thread, once it sleeps in a futex call: its id and the thread.
fn asleep<T: Send + 'static>(does: impl FnOnce() -> T + Send + 'static) -> (u32, thread::JoinHandle<T>) {
    asleep_in(libc::SYS_futex, does)
}

fn asleep_in<T: Send + 'static>(
    nr: i64,
    does: impl FnOnce() -> T + Send + 'static,
) -> (u32, thread::JoinHandle<T>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        sender.send(sys::tid()).unwrap();
        does()
    });
    let tid = receiver.recv().unwrap();
    wait_until_in(tid, nr);
    (tid, thread)
}

/// Two threads on one CPU hand a word to and fro `rounds` times. Prints for each: its id, how many of its waits were woken,
/// how many found nothing to wait for, and how many threads it woke.
pub fn ping_pong(rounds: u64) {
    static WORD: AtomicU32 = AtomicU32::new(0);
    static READY: AtomicU32 = AtomicU32::new(0);
    let cpu = sys::cpus()[0];
    let player = move |own: u32| {
        sys::pin_to(cpu);
        READY.fetch_add(1, SeqCst);
        while READY.load(SeqCst) < 2 {
            thread::yield_now();
        }
        let (mut woken, mut in_vain, mut wakes) = (0, 0, 0);
        for _ in 0..rounds {
            while WORD.load(SeqCst) != own {
                match wait(&WORD, 1 - own, PRIVATE) {
                    0 => woken += 1,
                    ret => {
                        assert_eq!(ret, -i64::from(libc::EAGAIN));
                        in_vain += 1;
                    }
                }
            }
            WORD.store(1 - own, SeqCst);
            wakes += wake(&WORD, 1, PRIVATE);
        }
        format!("{} {woken} {in_vain} {wakes}", sys::tid())
    };
    let players = [0, 1].map(|own| thread::spawn(move || player(own)));
    for player in players {
        println!("{}", player.join().unwrap());
    }
    println!("{}", at(&WORD));
}

/// A futex in a file that two processes have mapped at different places. Prints inode, device and offset, the child, and
/// both addresses: where the child waits and where this process wakes it.
pub fn shared() {
    const PAGE: usize = 4096;
    // SAFETY: the name is a string.
    let file = unsafe { libc::memfd_create(c"futex".as_ptr(), 0) };
    assert!(file >= 0);
    // SAFETY: the arguments are a descriptor and numbers.
    assert_eq!(unsafe { libc::ftruncate(file, 4 * PAGE as i64) }, 0);
    let map = |offset: usize, flags: i32| {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a mapping of its own.
        let memory = unsafe { libc::mmap(ptr::null_mut(), PAGE, rights, flags, file, offset as libc::off_t) };
        assert_ne!(memory, libc::MAP_FAILED);
        memory.cast::<u8>()
    };
    // A hole between them, so that the child's can be elsewhere.
    let own = map(2 * PAGE, libc::MAP_SHARED);
    let others = map(2 * PAGE, libc::MAP_SHARED);
    let copy = map(PAGE, libc::MAP_PRIVATE);
    // SAFETY: the mappings stay, and are accessed atomically only.
    let word = |memory: *mut u8| unsafe { AtomicU32::from_ptr(memory.wrapping_add(8).cast()) };
    let mut status: libc::stat = {
        // SAFETY: all fields are numbers, for which 0 will do.
        unsafe { std::mem::zeroed() }
    };
    // SAFETY: there is room for the answer.
    assert_eq!(unsafe { libc::fstat(file, &raw mut status) }, 0);
    let (major, minor) = (libc::major(status.st_dev), libc::minor(status.st_dev));
    let child = sys::fork(|| {
        assert_eq!(wait(word(others), 0, 0), 0);
    });
    wait_until_in(child, libc::SYS_futex);
    assert_eq!(wake(word(own), 1, 0), 1);
    assert_eq!(sys::wait_for(child), 0);
    println!("{} {major}:{minor} {} {child}", status.st_ino, 2 * PAGE + 8);
    println!("{} {}", at(word(others)), at(word(own)));
    // Memory of a private mapping is nobody else's, whatever the call says.
    word(copy).store(1, SeqCst);
    assert_eq!(wake(word(copy), 7, 0), 0);
    println!("{}", at(word(copy)));
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: i32) {
    INTERRUPTED.store(true, SeqCst);
}

/// Waits that nobody ends: a limit of 20 ms, a value that is not there, a signal, a stop after which the wait goes on. Prints
/// the address and what each returned.
pub fn outcomes() {
    static WORD: AtomicU32 = AtomicU32::new(5);
    let timed_out = wait_for(&WORD, 5, 20_000_000);
    let no_such_value = wait_for(&WORD, 6, 20_000_000);
    let action = libc::sigaction {
        sa_sigaction: interrupt as *const () as usize,
        // SAFETY: an empty set.
        sa_mask: unsafe { std::mem::zeroed() },
        sa_flags: 0,
        sa_restorer: None,
    };
    // SAFETY: the handler sets a flag and nothing else.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()) }, 0);
    let own = std::process::id();
    let signal = |number: i32| {
        // SAFETY: two numbers.
        assert_eq!(unsafe { libc::kill(own as i32, number) }, 0);
    };
    let killer = sys::fork(|| {
        wait_until_in(own, libc::SYS_futex);
        signal(libc::SIGUSR1);
    });
    let interrupted = wait_for(&WORD, 5, 300_000_000_000);
    assert!(INTERRUPTED.load(SeqCst));
    assert_eq!(sys::wait_for(killer), 0);
    let stopper = sys::fork(|| {
        wait_until_in(own, libc::SYS_futex);
        signal(libc::SIGSTOP);
        wait_until_in_state(own, &[libc::SYS_futex], 'T');
        // It goes on in another call, with the same limit.
        signal(libc::SIGCONT);
    });
    let restarted = wait_for(&WORD, 5, 400_000_000);
    assert_eq!(sys::wait_for(stopper), 0);
    println!("{} {timed_out} {no_such_value} {interrupted} {restarted}", at(&WORD));
}

/// Three threads wait for a futex; one is woken and the others are requeued to another, where two more calls wake them.
/// Prints both addresses, and the threads.
pub fn requeue() {
    static FROM: AtomicU32 = AtomicU32::new(0);
    static TO: AtomicU32 = AtomicU32::new(0);
    let waiters = [(); 3].map(|()| asleep(|| assert_eq!(wait(&FROM, 0, PRIVATE), 0)));
    let op = i64::from(libc::FUTEX_CMP_REQUEUE | PRIVATE);
    assert_eq!(sys::must(libc::SYS_futex, [at(&FROM), op, 1, i64::from(i32::MAX), at(&TO), 0]), 3);
    assert_eq!((wake(&TO, 1, PRIVATE), wake(&TO, 9, PRIVATE), wake(&FROM, 9, PRIVATE)), (1, 1, 0));
    println!("{} {}", at(&FROM), at(&TO));
    for (tid, thread) in waiters {
        thread.join().unwrap();
        println!("{tid}");
    }
}

/// Threads that end: one is waited for by its `tid` word, which the kernel clears and wakes; one dies with a robust mutex that
/// another waits for; and two pass on a lock that lends its priority. Prints for each the waiter and who ended its wait.
pub fn ends() {
    static WORD: AtomicU32 = AtomicU32::new(0);
    let waiter = sys::tid();
    let (ended, thread) = asleep(|| {
        assert_eq!(wait(&WORD, 0, PRIVATE), 0);
        // So that the other sleeps when this one ends.
        wait_until_in(std::process::id(), libc::SYS_futex);
    });
    assert_eq!(wake(&WORD, 1, PRIVATE), 1);
    thread.join().unwrap();
    println!("join {waiter} {ended}");

    struct Mutex(*mut libc::pthread_mutex_t);
    // SAFETY: mutexes are there for several threads.
    unsafe impl Send for Mutex {}
    let make = |robust: bool| {
        let mutex = Box::leak(Box::new(libc::PTHREAD_MUTEX_INITIALIZER));
        let mut attributes: libc::pthread_mutexattr_t = {
            // SAFETY: bytes that the next call sets.
            unsafe { std::mem::zeroed() }
        };
        // SAFETY: room for the attributes.
        unsafe { libc::pthread_mutexattr_init(&raw mut attributes) };
        if robust {
            // SAFETY: they have been initialized.
            unsafe { libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST) };
        } else {
            // SAFETY: likewise.
            unsafe { libc::pthread_mutexattr_setprotocol(&raw mut attributes, libc::PTHREAD_PRIO_INHERIT) };
        }
        // SAFETY: likewise, and nobody uses the mutex yet.
        assert_eq!(unsafe { libc::pthread_mutex_init(mutex, &raw const attributes) }, 0);
        ptr::from_mut(mutex)
    };
    // SAFETY: the mutexes live for ever.
    let lock = |mutex: &Mutex| unsafe { libc::pthread_mutex_lock(mutex.0) };

    let mutex = make(true);
    let (own, others) = (Mutex(mutex), Mutex(mutex));
    let (sender, receiver) = std::sync::mpsc::channel();
    WORD.store(1, SeqCst);
    let holder = thread::spawn(move || {
        let own = own;
        assert_eq!(lock(&own), 0);
        sender.send(sys::tid()).unwrap();
        assert_eq!(wait(&WORD, 1, PRIVATE), 0);
    });
    let ended = receiver.recv().unwrap();
    wait_until_in(ended, libc::SYS_futex);
    let (waiter, thread) = asleep(move || {
        let others = others;
        assert_eq!(lock(&others), libc::EOWNERDEAD);
    });
    assert_eq!(wake(&WORD, 1, PRIVATE), 1);
    holder.join().unwrap();
    thread.join().unwrap();
    println!("robust {waiter} {ended}");

    let mutex = make(false);
    let (own, others) = (Mutex(mutex), Mutex(mutex));
    assert_eq!(lock(&own), 0);
    let (waiter, thread) = asleep(move || {
        let others = others;
        assert_eq!(lock(&others), 0);
    });
    // SAFETY: this thread holds it.
    assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex) }, 0);
    thread.join().unwrap();
    println!("pi {waiter} {}", sys::tid());
}

/// Newer calls, where the kernel has them: prints what each returned, and the address.
pub fn newer() {
    #[repr(C)]
    struct Waitv {
        value: u64,
        address: u64,
        flags: u32,
        reserved: u32,
    }
    const U32: u32 = 2;
    static WORDS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
    let (tid, thread) = asleep_in(449, || {
        let flags = U32 | PRIVATE as u32;
        let list =
            [0, 1].map(|index| Waitv { value: 0, address: at(&WORDS[index]) as u64, flags, reserved: 0 });
        sys::call(449, [list.as_ptr() as i64, 2, 0, 0, 0, 0])
    });
    assert_eq!(wake(&WORDS[1], 1, PRIVATE), 1);
    println!("{tid} {}", thread.join().unwrap());
    let flags = i64::from(U32 | PRIVATE as u32);
    let none = sys::call(454, [at(&WORDS[0]), i64::from(u32::MAX), 3, flags, 0, 0]);
    let other_value =
        sys::call(455, [at(&WORDS[0]), 7, i64::from(u32::MAX), flags, 0, libc::CLOCK_MONOTONIC.into()]);
    println!("{none} {other_value} {}", at(&WORDS[0]));
}

/// Two threads on one CPU write to one file, by turns of `rounds`: one much, the other a byte while the first still writes.
/// With `pwrite` they need the lock of the file, with `write` that of the place in it too. Prints for each byte that had to
/// wait: the thread, and when the call began and ended.
pub fn contention(rounds: u64) {
    static BEGINS: AtomicBool = AtomicBool::new(false);
    let much = if crate::support::in_vm() { 2 << 20 } else { 16 << 20 };
    // SAFETY: the name is a string.
    let memory = unsafe { libc::memfd_create(c"contention".as_ptr(), 0) };
    assert!(memory >= 0);
    // Opened by its path it is a file whose place is guarded.
    let path = std::ffi::CString::new(format!("/proc/self/fd/{memory}")).unwrap();
    // SAFETY: the path is a string.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDWR) };
    assert!(file >= 0);
    let cpu = sys::cpus()[0];
    sys::pin_to(cpu);
    let now = || kprobe_ebpf::host::clocks().monotonic_ns;
    for nr in [libc::SYS_pwrite64, libc::SYS_write] {
        for _ in 0..rounds {
            // SAFETY: two numbers.
            assert_eq!(unsafe { libc::lseek(file, 0, libc::SEEK_SET) }, 0);
            BEGINS.store(false, SeqCst);
            let writer = thread::spawn(move || {
                let bytes = vec![1_u8; much];
                BEGINS.store(true, SeqCst);
                sys::must(nr, [file.into(), bytes.as_ptr() as i64, much as i64, 0, 0, 0]);
            });
            // Each time it wakes up it takes the CPU from the other.
            while !BEGINS.load(SeqCst) {
                sys::nanosleep(200_000);
            }
            let begin = now();
            sys::must(nr, [file.into(), [1_u8].as_ptr() as i64, 1, 0, 0, 0]);
            println!("{nr} {} {begin} {}", sys::tid(), now());
            writer.join().unwrap();
        }
    }
}
