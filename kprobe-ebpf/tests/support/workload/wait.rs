//! A thread waits, another one wakes it: for everything that there is to wait for. What is printed is what the records must say.

use std::{
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd as _},
        unix::net::UnixStream,
    },
    sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::sys;

/// How long whoever wakes lets a thread sleep: much longer than what a call does besides.
const PAUSE: Duration = Duration::from_millis(30);
/// Of waits that a timer ends.
const LIMIT_NS: u64 = 30_000_000;

fn now() -> u64 {
    kprobe_ebpf::host::clocks().monotonic_ns
}

/// Until a thread of this process sleeps in this call.
fn until_asleep_in(tid: u32, nr: i64) {
    let number = |text: String| text.split(' ').next().and_then(|number| number.parse().ok());
    loop {
        let call = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).ok().and_then(number);
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
        if call == Some(nr) && stat.is_ok_and(|stat| stat.contains(") S ")) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// What was waited for: inode and device, cookie, or another number.
#[derive(Default)]
struct Told {
    object: u64,
    device: String,
    cookie: u64,
}

/// Inode number and device of a descriptor.
fn inode(fd: i32) -> Told {
    // SAFETY: all fields are numbers, for which 0 will do.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: there is room for the answer.
    assert_eq!(unsafe { libc::fstat(fd, &raw mut status) }, 0);
    let device = format!("{}:{}", libc::major(status.st_dev), libc::minor(status.st_dev));
    Told { object: status.st_ino, device, cookie: 0 }
}

fn socket(fd: &impl AsRawFd) -> Told {
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    let fd = fd.as_raw_fd();
    let at = (&raw mut cookie).cast();
    // SAFETY: there is room for the answer.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, at, &raw mut len) };
    assert_eq!(done, 0);
    Told { cookie, ..inode(fd) }
}

fn number(object: i64) -> Told {
    Told { object: object as u64, ..Told::default() }
}

/// How often the thread was preempted until now.
fn preemptions() -> i64 {
    // SAFETY: all fields are numbers, for which 0 will do.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: there is room for the answer.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage.ru_nivcsw
}

/// A thread makes a call that sleeps, and this one wakes it. Prints the name, both threads, when the call and the waking began
/// and ended, how often the waiting thread was preempted meanwhile, the call, and what it waited for.
fn pair(name: &str, nr: i64, args: [i64; 6], told: Told, wakes: impl FnOnce(u32) -> u32) {
    both(name, nr, args, told, |waiter| {
        until_asleep_in(waiter, nr);
        thread::sleep(PAUSE);
        let from = now();
        (wakes(waiter), from)
    });
}

fn both(name: &str, nr: i64, args: [i64; 6], told: Told, wakes: impl FnOnce(u32) -> (u32, u64)) {
    let (sender, receiver) = mpsc::channel();
    let waits = thread::spawn(move || {
        sender.send(sys::tid()).unwrap();
        let before = preemptions();
        let begin = now();
        let ret = sys::call(nr, args);
        let end = now();
        (begin, end, preemptions() - before, ret)
    });
    let waiter = receiver.recv().unwrap();
    let (waker, from) = wakes(waiter);
    let to = now();
    let (begin, end, preempted, ret) = waits.join().unwrap();
    let Told { object, device, cookie } = told;
    let device = if device.is_empty() { "-".to_owned() } else { device };
    println!(
        "{name} {waiter} {waker} {begin} {end} {from} {to} {preempted} {nr} {ret} {object} {device} {cookie}"
    );
}

/// A thread makes a call that ends by itself: nobody looks whether it sleeps, which it may not do any more by then.
fn alone(name: &str, nr: i64, args: [i64; 6], told: Told) {
    both(name, nr, args, told, |_| (0, now()));
}

fn write_to(fd: i32) -> impl FnOnce(u32) -> u32 {
    move |_| {
        let one = 1_u64;
        sys::must(libc::SYS_write, [fd.into(), (&raw const one) as i64, 8, 0, 0, 0]);
        sys::tid()
    }
}

fn read_from(fd: i32, room: &mut [u8]) -> [i64; 6] {
    [fd.into(), room.as_mut_ptr() as i64, room.len() as i64, 0, 0, 0]
}

fn add(set: i64, fd: i32) {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    let op = libc::EPOLL_CTL_ADD.into();
    sys::must(libc::SYS_epoll_ctl, [set, op, fd.into(), (&raw mut event) as i64, 0, 0]);
}

/// All of them, one after the other.
pub fn all() {
    in_pipes();
    in_sockets();
    in_counters_and_sets();
    for_time();
    for_threads();
}

fn in_pipes() {
    let mut room = [0_u8; 8];
    let [read, write] = sys::pipe();
    pair("pipe", libc::SYS_read, read_from(read, &mut room), inode(read), write_to(write));
    // One that is full.
    let bytes = vec![0_u8; 1 << 16];
    let all = [write.into(), bytes.as_ptr() as i64, 1 << 16, 0, 0, 0];
    sys::must(libc::SYS_write, all);
    let one = [write.into(), bytes.as_ptr() as i64, 1, 0, 0, 0];
    let mut rest = vec![0_u8; 1 << 16];
    pair("pipe-full", libc::SYS_write, one, inode(write), |_| {
        sys::must(libc::SYS_read, read_from(read, &mut rest));
        sys::tid()
    });
    sys::must(libc::SYS_read, read_from(read, &mut room));
    // From one pipe into another, of which the first has nothing.
    let [from, into_from] = sys::pipe();
    let splice = [from.into(), 0, write.into(), 0, 8, 0];
    pair("splice", libc::SYS_splice, splice, inode(from), write_to(into_from));
    let mut both = [(from, libc::POLLIN), (read, libc::POLLOUT)].map(|(fd, events)| libc::pollfd {
        fd,
        events,
        revents: 0,
    });
    let poll = [both.as_mut_ptr() as i64, 2, -1, 0, 0, 0];
    pair("poll", libc::SYS_poll, poll, inode(from), write_to(into_from));
}

fn in_sockets() {
    let mut room = [0_u8; 8];
    let (here, there) = UnixStream::pair().unwrap();
    let told = socket(&here);
    pair("unix", libc::SYS_read, read_from(here.as_raw_fd(), &mut room), told, write_to(there.as_raw_fd()));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accept = [listener.as_raw_fd().into(), 0, 0, 0, 0, 0];
    let mut client = None;
    pair("accept", libc::SYS_accept, accept, socket(&listener), |_| {
        client = Some(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        sys::tid()
    });
    // The number of the descriptor that `accept` gave is not told here: another connection.
    drop(client);
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = loop {
        let (server, from) = listener.accept().unwrap();
        if from == client.local_addr().unwrap() {
            break server;
        }
    };
    let told = socket(&server);
    pair("tcp", libc::SYS_read, read_from(server.as_raw_fd(), &mut room), told, write_to(client.as_raw_fd()));
    server.set_read_timeout(Some(Duration::from_nanos(LIMIT_NS))).unwrap();
    let told = socket(&server);
    alone("tcp-limit", libc::SYS_read, read_from(server.as_raw_fd(), &mut room), told);
}

fn in_counters_and_sets() {
    let mut room = [0_u8; 8];
    // SAFETY: numbers only.
    let counter = unsafe { libc::eventfd(0, 0) };
    // SAFETY: a number only.
    let again = unsafe { libc::dup(counter) };
    pair("eventfd", libc::SYS_read, read_from(counter, &mut room), number(0), write_to(counter));
    // The same counter by another descriptor.
    pair("eventfd-again", libc::SYS_read, read_from(again, &mut room), number(0), write_to(counter));

    let [read, write] = sys::pipe();
    let set = sys::must(libc::SYS_epoll_create1, [0; 6]);
    add(set, counter);
    add(set, read);
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
    let at = events.as_mut_ptr() as i64;
    let forever = [set, at, 4, -1, 0, 8];
    let limited = [set, at, 4, (LIMIT_NS / 1_000_000) as i64, 0, 8];
    alone("epoll-limit", libc::SYS_epoll_pwait, limited, number(0));
    pair("epoll-eventfd", libc::SYS_epoll_pwait, forever, number(0), write_to(counter));
    sys::must(libc::SYS_read, read_from(counter, &mut room));
    pair("epoll-pipe", libc::SYS_epoll_pwait, forever, inode(read), write_to(write));
    sys::must(libc::SYS_epoll_ctl, [set, libc::EPOLL_CTL_DEL.into(), read.into(), 0, 0, 0]);
    println!("set {set} {counter} {read}");

    let mut signals = 1_u64 << (libc::SIGUSR2 - 1);
    let mask = (&raw mut signals) as i64;
    // Threads that are made from now on have it blocked as well.
    sys::must(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK.into(), mask, 0, 8, 0, 0]);
    let fd = sys::must(libc::SYS_signalfd4, [-1, mask, 8, 0, 0, 0]);
    let mut info = [0_u8; 128];
    let args = read_from(fd as i32, &mut info);
    pair("signalfd", libc::SYS_read, args, number(0), |waiter| {
        sys::must(libc::SYS_tgkill, [sys::pid().into(), waiter.into(), libc::SIGUSR2.into(), 0, 0, 0]);
        sys::tid()
    });
    let watch = sys::must(libc::SYS_inotify_init1, [0; 6]);
    let folder = c"/tmp".as_ptr() as i64;
    sys::must(libc::SYS_inotify_add_watch, [watch, folder, libc::IN_CREATE.into(), 0, 0, 0]);
    let mut told_of = [0_u8; 4096];
    let file = format!("/tmp/kprobe-wait-{}", sys::pid());
    pair("inotify", libc::SYS_read, read_from(watch as i32, &mut told_of), number(0), |_| {
        std::fs::write(&file, "").unwrap();
        sys::tid()
    });
    std::fs::remove_file(&file).unwrap();
}

fn for_time() {
    let mut room = [0_u8; 8];
    let limit = [0, LIMIT_NS as i64];
    alone("nanosleep", libc::SYS_nanosleep, [limit.as_ptr() as i64, 0, 0, 0, 0, 0], number(0));
    let timer = sys::must(libc::SYS_timerfd_create, [libc::CLOCK_MONOTONIC.into(), 0, 0, 0, 0, 0]);
    // Set for once by the one that does not wait: it must be asleep before.
    let once = [0, 0, 0, LIMIT_NS as i64];
    pair("timerfd", libc::SYS_read, read_from(timer as i32, &mut room), number(0), |_| {
        sys::must(libc::SYS_timerfd_settime, [timer, 0, once.as_ptr() as i64, 0, 0, 0]);
        0
    });
}

extern "C" fn ignore(_: i32) {}

fn for_threads() {
    static WORD: AtomicU32 = AtomicU32::new(0);
    let word = WORD.as_ptr() as i64;
    let private = i64::from(libc::FUTEX_PRIVATE_FLAG);
    let wait = [word, i64::from(libc::FUTEX_WAIT) | private, 0, 0, 0, 0];
    pair("futex", libc::SYS_futex, wait, number(word), |_| {
        WORD.store(1, SeqCst);
        assert_eq!(sys::must(libc::SYS_futex, [word, i64::from(libc::FUTEX_WAKE) | private, 1, 0, 0, 0]), 1);
        sys::tid()
    });
    let (child, lets_go) = gated_child();
    pair("child", libc::SYS_wait4, [child.into(), 0, 0, 0, 0, 0], number(child.into()), |_| {
        write_to(lets_go)(0);
        child
    });
    let (child, lets_go) = gated_child();
    let fd = sys::must(libc::SYS_pidfd_open, [child.into(), 0, 0, 0, 0, 0]);
    const P_PIDFD: i64 = 3;
    let exited = libc::WEXITED.into();
    pair("pidfd", libc::SYS_waitid, [P_PIDFD, fd, 0, exited, 0, 0], number(0), |_| {
        write_to(lets_go)(0);
        child
    });
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, ignore as *const () as libc::sighandler_t) };
    pair("signal", libc::SYS_pause, [0; 6], number(0), |waiter| {
        sys::must(libc::SYS_tgkill, [sys::pid().into(), waiter.into(), libc::SIGUSR1.into(), 0, 0, 0]);
        sys::tid()
    });
    let semaphore = sys::must(libc::SYS_semget, [libc::IPC_PRIVATE.into(), 1, 0o600, 0, 0, 0]);
    let by = |change: i16| libc::sembuf { sem_num: 0, sem_op: change, sem_flg: 0 };
    let (take, give) = (by(-1), by(1));
    let takes = [semaphore, (&raw const take) as i64, 1, 0, 0, 0];
    pair("semaphore", libc::SYS_semop, takes, number(semaphore), |_| {
        sys::must(libc::SYS_semop, [semaphore, (&raw const give) as i64, 1, 0, 0, 0]);
        sys::tid()
    });
    sys::must(libc::SYS_semctl, [semaphore, 0, libc::IPC_RMID.into(), 0, 0, 0]);
}

/// A child that ends when it is let go, and where to write for that.
fn gated_child() -> (u32, i32) {
    let [read, write] = sys::pipe();
    let child = sys::fork(|| {
        let mut room = [0_u8; 8];
        sys::must(libc::SYS_read, read_from(read, &mut room));
    });
    (child, write)
}

/// A thread that uses up its time on one CPU, from when the test lets it go until it closes its input.
pub fn spins() {
    println!("ready");
    super::wait();
    sys::pin_to(sys::cpus()[0]);
    // SAFETY: the descriptor is this process's own.
    let input = unsafe { std::fs::File::from_raw_fd(0) };
    let ended = thread::spawn(move || std::io::Read::read(&mut &input, &mut [0]).unwrap());
    while !ended.is_finished() {
        std::hint::spin_loop();
    }
    ended.join().unwrap();
}
