//! The process whose system calls are measured: it times its own calls.

use std::{
    io::{BufRead as _, stdin},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

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
        let Shape { bursts, per_burst, pause } = shape;
        self.0.tell(&format!("calls {bursts} {per_burst} {}", pause.as_micros()))?;
        self.0.answer()
    }
}

/// Serves commands until standard input ends.
pub(crate) fn serve(core: usize) -> Result<()> {
    pin(core)?;
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["calls", bursts, per_burst, pause_us] = words[..] else { bail!("unknown command {line:?}") };
        let pause = Duration::from_micros(pause_us.parse()?);
        let calls = make_calls(Shape { bursts: bursts.parse()?, per_burst: per_burst.parse()?, pause });
        say(calls)?;
    }
    Ok(())
}

fn make_calls(shape: Shape) -> Calls {
    let Shape { bursts, per_burst, pause } = shape;
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

fn burst(calls: u32) -> u64 {
    let from = now_ns();
    for _ in 0..calls {
        // SAFETY: takes no arguments and cannot fail. Not by way of `getppid`, which a libc may answer by itself.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    now_ns() - from
}
