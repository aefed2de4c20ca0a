//! The process whose system calls are measured: it times its own calls.

use std::{
    fs::File,
    io::{BufRead as _, Read, Write, stdin},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::{fs::chroot, net::UnixStream},
    ptr,
    sync::atomic::AtomicU32,
    thread,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use rustix::{
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap},
    param::page_size,
    pipe::pipe,
    thread::futex,
    time::{ClockId, Timespec, clock_gettime},
};

use crate::{
    child::{Talker, say},
    harness::Effort,
    machine::{PRODUCER_CORE, now_ns, pin, process_cpu_ns},
    outcome::{Calls, Paced},
};

/// A directory, and a file in it that every machine has.
pub(crate) const OPENED: &str = "/dev";
const OPENED_FILE: &str = "/dev/null";

/// Any port of this machine's own.
const LOCALHOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// How calls are made: in bursts, of which the first is not timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bursts that are timed.
    pub(crate) bursts: u32,
    /// Calls of one burst.
    pub(crate) per_burst: u32,
    /// Sleep between two bursts, not timed.
    pub(crate) pause: Duration,
}

impl Shape {
    pub(crate) fn scaled(self, effort: Effort) -> Self {
        Self { bursts: effort.scale(self.bursts).max(1), ..self }
    }
}

/// The harness's end of it.
#[derive(Debug)]
pub(crate) struct Workload(Talker);

impl Workload {
    pub(crate) fn start() -> Result<Self> {
        Talker::start_own("workload", PRODUCER_CORE).map(Self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub(crate) fn calls(&mut self, shape: Shape) -> Result<Calls> {
        self.run("calls", shape)
    }

    /// Rounds of two threads on one core that hand a byte to and fro through two pipes.
    pub(crate) fn ping_pong(&mut self, shape: Shape) -> Result<Calls> {
        self.run("ping-pong", shape)
    }

    /// So many calls a second, as evenly as sleeps of a millisecond allow, which are calls as well.
    pub(crate) fn paced(&mut self, per_second: u32, time: Duration) -> Result<Paced> {
        self.0.tell(&format!("paced {per_second} {} 0", time.as_millis()))?;
        self.0.answer()
    }

    /// See `serve` for what there is.
    pub(crate) fn run(&mut self, what: &str, shape: Shape) -> Result<Calls> {
        let Shape { bursts, per_burst, pause } = shape;
        self.0.tell(&format!("{what} {bursts} {per_burst} {}", pause.as_micros()))?;
        self.0.answer()
    }
}

/// Serves commands until standard input ends.
pub(crate) fn serve(core: usize) -> Result<()> {
    pin(core)?;
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, bursts, per_burst, pause_us] = words[..] else { bail!("unknown command {line:?}") };
        if what == "paced" {
            say(paced(bursts.parse()?, per_burst.parse()?)?)?;
            continue;
        }
        let pause = Duration::from_micros(pause_us.parse()?);
        let shape = Shape { bursts: bursts.parse()?, per_burst: per_burst.parse()?, pause };
        match what {
            "calls" => say(make(shape, calls))?,
            "ping-pong" => say(play(shape)?)?,
            "threads" => say(make(shape, threads))?,
            "pipe" => {
                let (from, to) = pipe()?;
                say(hand_over(shape, File::from(to), File::from(from)))?;
            }
            "unix" => {
                let (to, from) = UnixStream::pair()?;
                say(hand_over(shape, to, from))?;
            }
            "tcp" => {
                let listener = TcpListener::bind(LOCALHOST)?;
                let to = TcpStream::connect(listener.local_addr()?)?;
                to.set_nodelay(true)?;
                let (from, _) = listener.accept()?;
                say(hand_over(shape, to, from))?;
            }
            "udp" => {
                let (to, from) = (UdpSocket::bind(LOCALHOST)?, UdpSocket::bind(LOCALHOST)?);
                to.connect(from.local_addr()?)?;
                from.connect(to.local_addr()?)?;
                say(make(shape, |count| datagrams(count, &to, &from)))?;
            }
            "faults" => say(make(shape, faults))?,
            "futex" => say(make(shape, wakes))?,
            "capability" => say(make(shape, checks))?,
            "opens" => say(make(shape, opens))?,
            _ => bail!("unknown command {line:?}"),
        }
    }
    Ok(())
}

/// Below `OPENED`.
fn opens(count: u32) {
    for _ in 0..count {
        drop(File::open(OPENED_FILE).expect("it is there"));
    }
}

fn make(shape: Shape, mut work: impl FnMut(u32)) -> Calls {
    let Shape { bursts, per_burst, pause } = shape;
    let mut burst = |count| {
        let from = now_ns();
        work(count);
        now_ns() - from
    };
    let began = now_ns();
    // The first call of a thread is special to whoever traces it.
    burst(per_burst);
    let mut ns: Vec<u64> = (0..bursts)
        .map(|_| {
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            burst(per_burst)
        })
        .collect();
    let elapsed_ns = now_ns() - began;
    ns.sort_unstable();
    let per_burst = u64::from(per_burst);
    Calls { made: (u64::from(bursts) + 1) * per_burst, per_burst, burst_ns: ns[ns.len() / 2], elapsed_ns }
}

fn calls(count: u32) {
    for _ in 0..count {
        // SAFETY: takes no arguments and cannot fail. Not by way of `getppid`, which a libc may answer by itself.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

/// Every millisecond of so many, until the last: one call less than its share, and the sleep until the next.
fn paced(per_second: u32, millis: u32) -> Result<Paced> {
    const MILLISECOND: Duration = Duration::from_millis(1);
    let share = per_second / 1000;
    ensure!(share > 1, "less than two calls a millisecond");
    let (cpu_from, from) = (process_cpu_ns(), now_ns());
    let mut next = clock_gettime(ClockId::Monotonic);
    for _ in 0..millis {
        calls(share - 1);
        next += Timespec::try_from(MILLISECOND)?;
        // Until a time, not for a while: who comes late is early the next time. The C library's may make no call if it is over.
        // SAFETY: reads one timespec, and writes none when it sleeps until a time.
        unsafe {
            libc::syscall(
                libc::SYS_clock_nanosleep,
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &raw const next,
                ptr::null_mut::<libc::timespec>(),
            )
        };
    }
    Ok(Paced {
        made: u64::from(share) * u64::from(millis),
        getppid: u64::from(share - 1) * u64::from(millis),
        elapsed_ns: now_ns() - from,
        cpu_ns: process_cpu_ns() - cpu_from,
    })
}

/// Threads that do nothing.
fn threads(count: u32) {
    for _ in 0..count {
        let ended = thread::spawn(|| ()).join();
        assert!(ended.is_ok(), "a thread that does nothing");
    }
}

/// One thread puts in a byte and takes it out again.
fn hand_over(shape: Shape, mut to: impl Write, mut from: impl Read) -> Calls {
    make(shape, |count| {
        for _ in 0..count {
            let handed = to.write_all(&[1]).and_then(|()| from.read_exact(&mut [0]));
            handed.expect("both ends are open");
        }
    })
}

fn datagrams(count: u32, to: &UdpSocket, from: &UdpSocket) {
    for _ in 0..count {
        let handed = to.send(&[1]).and_then(|_| from.recv(&mut [0]));
        assert!(handed.is_ok_and(|bytes| bytes == 1), "a datagram arrives on loopback");
    }
}

/// Pages that are touched for the first time.
fn faults(count: u32) {
    let (page, length) = (page_size(), page_size() * count as usize);
    // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
    let mapped = unsafe {
        mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    };
    let mapped = mapped.expect("memory");
    // SAFETY: the mapping is ours alone. Without huge pages, which would make one fault of many.
    unsafe { madvise(mapped, length, Advice::LinuxNoHugepage) }.expect("memory of our own");
    for at in (0..length).step_by(page) {
        let byte = mapped.cast::<u8>().wrapping_add(at);
        // SAFETY: inside the mapping.
        unsafe { byte.write_volatile(1) };
    }
    // SAFETY: nobody has a reference to it.
    unsafe { munmap(mapped, length) }.expect("it is mapped");
}

/// Calls that wake waiters of a futex that nobody waits for.
fn wakes(count: u32) {
    let futex = AtomicU32::new(0);
    for _ in 0..count {
        futex::wake(&futex, futex::Flags::PRIVATE, 1).expect("a futex");
    }
}

/// The kernel asks whether the process may do what changes nothing.
fn checks(count: u32) {
    for _ in 0..count {
        chroot("/").expect("root");
    }
}

/// Each round is two writes, two reads and two switches.
fn play(shape: Shape) -> Result<Calls> {
    let ((from_us, to_them), (from_them, to_us)) = (pipe()?, pipe()?);
    let echo = thread::spawn(move || {
        let (mut from, mut to, mut byte) = (File::from(from_us), File::from(to_us), [0]);
        while from.read(&mut byte).is_ok_and(|read| read == 1) && to.write(&byte).is_ok() {}
    });
    let (to, from) = (File::from(to_them), File::from(from_them));
    let calls = make(shape, |rounds| {
        for _ in 0..rounds {
            let handed = (&to).write_all(&[1]).and_then(|()| (&from).read_exact(&mut [0]));
            // Only if the other thread is gone; then the figures are missing, too.
            if handed.is_err() {
                return;
            }
        }
    });
    drop(to);
    ensure!(echo.join().is_ok(), "the other player panicked");
    Ok(calls)
}
