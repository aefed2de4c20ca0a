//! A thread waits, another one wakes it: for everything that there is to wait for. What is printed is what the records must say.

use std::{
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd as _},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::sys;
use crate::support::kernel::wait_until_in_state;

/// How long whoever wakes lets a thread sleep: much longer than what a call does besides.
const PAUSE: Duration = Duration::from_millis(30);
/// Of waits that a timer ends.
const LIMIT_NS: u64 = 30_000_000;

fn now() -> u64 {
    kprobe_ebpf::host::clocks().monotonic_ns
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

/// A call and how it went, as the thread itself saw it.
struct Went {
    nr: i64,
    begin: u64,
    end: u64,
    /// How often the thread was preempted meanwhile.
    preempted: i64,
    ret: i64,
}

impl Went {
    fn new(nr: i64, call: impl FnOnce() -> i64) -> Self {
        let before = sys::usage().ru_nivcsw;
        let begin = now();
        let ret = call();
        let end = now();
        Self { nr, begin, end, preempted: sys::usage().ru_nivcsw - before, ret }
    }
}

/// Who woke a thread, and from when to when.
struct Woke {
    waker: u32,
    from: u64,
    to: u64,
}

impl Woke {
    /// It was let sleep before: it does so in this call, in the state of this letter.
    fn new(waiter: u32, nr: i64, state: char, wakes: impl FnOnce(u32) -> u32) -> Self {
        wait_until_in_state(waiter, &[nr], state);
        thread::sleep(PAUSE);
        let from = now();
        let waker = wakes(waiter);
        Self { waker, from, to: now() }
    }
}

/// Prints the name, both threads, when the call and the waking began and ended, how often the waiting thread was preempted
/// meanwhile, the call, and what it waited for.
fn tell(name: &str, waiter: u32, went: &Went, woke: &Woke, told: Told) {
    let Told { object, device, cookie } = told;
    let device = if device.is_empty() { "-".to_owned() } else { device };
    let (Went { nr, begin, end, preempted, ret }, Woke { waker, from, to }) = (went, woke);
    println!(
        "{name} {waiter} {waker} {begin} {end} {from} {to} {preempted} {nr} {ret} {object} {device} {cookie}"
    );
}

/// A thread makes a call, and this one does what ends it.
fn both(
    nr: i64,
    call: impl FnOnce() -> i64 + Send + 'static,
    wakes: impl FnOnce(u32) -> Woke,
) -> (u32, Went, Woke) {
    let (sender, receiver) = mpsc::channel();
    let waits = thread::spawn(move || {
        sender.send(sys::tid()).unwrap();
        Went::new(nr, call)
    });
    let waiter = receiver.recv().unwrap();
    let woke = wakes(waiter);
    (waiter, waits.join().unwrap(), woke)
}

/// A thread makes a call that sleeps, and this one wakes it.
fn pair(name: &str, nr: i64, args: [i64; 6], told: Told, wakes: impl FnOnce(u32) -> u32) {
    let call = move || sys::call(nr, args);
    let (waiter, went, woke) = both(nr, call, |waiter| Woke::new(waiter, nr, 'S', wakes));
    tell(name, waiter, &went, &woke, told);
}

/// A thread makes a call that ends by itself: nobody looks whether it sleeps, which it may not do any more by then.
fn alone(name: &str, nr: i64, args: [i64; 6], told: Told) {
    let (waiter, went, woke) =
        both(nr, move || sys::call(nr, args), |_| Woke { waker: 0, from: now(), to: now() });
    tell(name, waiter, &went, &woke, told);
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
    in_queues();
    for_processes();
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
    sys::must(libc::SYS_read, read_from(from, &mut room));
    let mut set = [0_u64; libc::FD_SETSIZE / 64];
    set[from as usize / 64] |= 1 << (from % 64);
    let select = [i64::from(from) + 1, set.as_mut_ptr() as i64, 0, 0, 0, 0];
    pair("select", libc::SYS_pselect6, select, inode(from), write_to(into_from));
}

fn in_sockets() {
    let mut room = [0_u8; 8];
    let (here, there) = UnixStream::pair().unwrap();
    let told = socket(&here);
    pair("unix", libc::SYS_read, read_from(here.as_raw_fd(), &mut room), told, write_to(there.as_raw_fd()));

    // Into a socket from a pipe: what is woken is the other end.
    let [from, into] = sys::pipe();
    write_to(into)(0);
    let told = socket(&here);
    pair("splice-unix", libc::SYS_read, read_from(here.as_raw_fd(), &mut room), told, |_| {
        sys::must(libc::SYS_splice, [from.into(), 0, there.as_raw_fd().into(), 0, 8, 0]);
        sys::tid()
    });
    without_peers();

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

/// Those who wake have a socket that is not connected to the one that is waited for.
fn without_peers() {
    let mut room = [0_u8; 8];
    let name = |kind| SocketAddr::from_abstract_name(format!("kprobe-{kind}-{}", sys::pid())).unwrap();
    let (stream, datagram) = (name("stream"), name("datagram"));
    let listener = UnixListener::bind_addr(&stream).unwrap();
    let accept = [listener.as_raw_fd().into(), 0, 0, 0, 0, 0];
    let mut client = None;
    pair("unix-accept", libc::SYS_accept, accept, socket(&listener), |_| {
        client = Some(UnixStream::connect_addr(&stream).unwrap());
        sys::tid()
    });
    let (receiver, sender) = (UnixDatagram::bind_addr(&datagram).unwrap(), UnixDatagram::unbound().unwrap());
    let read = read_from(receiver.as_raw_fd(), &mut room);
    pair("unix-datagram", libc::SYS_read, read, socket(&receiver), |_| {
        sender.send_to_addr(&[1], &datagram).unwrap();
        sys::tid()
    });
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
    // Nobody else makes files there.
    let folder = format!("/tmp/kprobe-wait-{}", sys::pid());
    std::fs::create_dir(&folder).unwrap();
    let path = std::ffi::CString::new(folder.as_str()).unwrap();
    let create = libc::IN_CREATE.into();
    sys::must(libc::SYS_inotify_add_watch, [watch, path.as_ptr() as i64, create, 0, 0, 0]);
    let mut told_of = [0_u8; 4096];
    pair("inotify", libc::SYS_read, read_from(watch as i32, &mut told_of), number(0), |_| {
        std::fs::write(format!("{folder}/file"), "").unwrap();
        sys::tid()
    });
    std::fs::remove_dir_all(&folder).unwrap();
}

fn in_queues() {
    const BYTES: i64 = 1024;
    let queue = sys::must(libc::SYS_msgget, [libc::IPC_PRIVATE.into(), 0o600, 0, 0, 0, 0]);
    // A kind, which is not 0, and the bytes.
    let mut message = [1_i64; 1 + BYTES as usize / 8];
    let send = [queue, message.as_ptr() as i64, BYTES, 0, 0, 0];
    let receive = [queue, message.as_mut_ptr() as i64, BYTES, 0, 0, 0];
    pair("message", libc::SYS_msgrcv, receive, number(queue), |_| {
        sys::must(libc::SYS_msgsnd, send);
        sys::tid()
    });
    let mut at_once = send;
    at_once[3] = libc::IPC_NOWAIT.into();
    let full = loop {
        match sys::call(libc::SYS_msgsnd, at_once) {
            0 => (),
            error => break error,
        }
    };
    assert_eq!(full, -i64::from(libc::EAGAIN));
    pair("message-full", libc::SYS_msgsnd, send, number(queue), |_| {
        sys::must(libc::SYS_msgrcv, receive);
        sys::tid()
    });
    sys::must(libc::SYS_msgctl, [queue, libc::IPC_RMID.into(), 0, 0, 0, 0]);

    // One of POSIX, for one message.
    let name = std::ffi::CString::new(format!("kprobe-wait-{}", sys::pid())).unwrap();
    let attributes = [0, 1, BYTES, 0, 0, 0, 0, 0];
    let flags = i64::from(libc::O_CREAT | libc::O_EXCL | libc::O_RDWR);
    let (name, at) = (name.as_ptr() as i64, attributes.as_ptr() as i64);
    let queue = sys::must(libc::SYS_mq_open, [name, flags, 0o600, at, 0, 0]);
    sys::must(libc::SYS_mq_unlink, [name, 0, 0, 0, 0, 0]);
    let send = [queue, message.as_ptr() as i64, BYTES, 0, 0, 0];
    let receive = [queue, message.as_mut_ptr() as i64, BYTES, 0, 0, 0];
    pair("posix-message", libc::SYS_mq_timedreceive, receive, inode(queue as i32), |_| {
        sys::must(libc::SYS_mq_timedsend, send);
        sys::tid()
    });
    sys::must(libc::SYS_mq_timedsend, send);
    pair("posix-message-full", libc::SYS_mq_timedsend, send, inode(queue as i32), |_| {
        sys::must(libc::SYS_mq_timedreceive, receive);
        sys::tid()
    });
}

fn for_processes() {
    // One that is made, and not let go on before the new one has ended. They share no memory.
    let ([says, tells], [gate, lets_go]) = (sys::pipe(), sys::pipe());
    let nr = libc::SYS_clone;
    let clone = move || {
        let ret = sys::call(nr, [i64::from(libc::CLONE_VFORK | libc::SIGCHLD), 0, 0, 0, 0, 0]);
        if ret == 0 {
            die_with_parent();
            let mut room = [0_u8; 8];
            write_to(tells)(0);
            sys::call(libc::SYS_read, read_from(gate, &mut room));
            sys::exit_group(0);
        }
        ret
    };
    let (waiter, went, mut woke) = both(nr, clone, |waiter| {
        let mut room = [0_u8; 8];
        sys::must(libc::SYS_read, read_from(says, &mut room));
        // No signal but one that kills it ends that.
        Woke::new(waiter, nr, 'D', write_to(lets_go))
    });
    woke.waker = went.ret as u32;
    assert_eq!(sys::wait_for(woke.waker), 0);
    tell("vfork", waiter, &went, &woke, number(0));

    // One that stops itself.
    let [says, tells] = sys::pipe();
    let nr = libc::SYS_kill;
    let child = sys::fork(|| {
        die_with_parent();
        let went = Went::new(nr, || sys::call(nr, [sys::pid().into(), libc::SIGSTOP.into(), 0, 0, 0, 0]));
        let told = [went.begin as i64, went.end as i64, went.preempted, went.ret];
        let size = size_of_val(&told) as i64;
        assert_eq!(sys::must(libc::SYS_write, [tells.into(), told.as_ptr() as i64, size, 0, 0, 0]), size);
    });
    let woke = Woke::new(child, nr, 'T', |_| {
        sys::must(libc::SYS_kill, [child.into(), libc::SIGCONT.into(), 0, 0, 0, 0]);
        sys::tid()
    });
    let mut told = [0_i64; 4];
    let size = size_of_val(&told) as i64;
    assert_eq!(sys::must(libc::SYS_read, [says.into(), told.as_mut_ptr() as i64, size, 0, 0, 0]), size);
    assert_eq!(sys::wait_for(child), 0);
    let [begin, end, preempted, ret] = told;
    let went = Went { nr, begin: begin as u64, end: end as u64, preempted, ret };
    tell("stop", child, &went, &woke, number(0));
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

/// Whoever waits to be let go on is not left over.
fn die_with_parent() {
    sys::must(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), libc::SIGKILL.into(), 0, 0, 0, 0]);
}

/// A child that ends when it is let go, and where to write for that.
fn gated_child() -> (u32, i32) {
    let [read, write] = sys::pipe();
    let child = sys::fork(|| {
        die_with_parent();
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
