//! The process whose system calls are measured: it times its own calls.

use std::{
    fs::File,
    io::{BufRead as _, Read as _, Write as _, stdin},
    thread,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use rustix::pipe::pipe;

use crate::{
    child::{Talker, say},
    harness::Effort,
    machine::{PRODUCER_CORE, now_ns, pin},
    outcome::Calls,
};

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

    fn run(&mut self, what: &str, shape: Shape) -> Result<Calls> {
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
        let pause = Duration::from_micros(pause_us.parse()?);
        let shape = Shape { bursts: bursts.parse()?, per_burst: per_burst.parse()?, pause };
        match what {
            "calls" => say(make(shape, calls))?,
            "ping-pong" => say(play(shape)?)?,
            _ => bail!("unknown command {line:?}"),
        }
    }
    Ok(())
}

fn make(shape: Shape, work: impl Fn(u32)) -> Calls {
    let Shape { bursts, per_burst, pause } = shape;
    let burst = |count| {
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
