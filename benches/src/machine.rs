//! The machine: clocks, cores, who else uses them, and what to write into a report about it.

use std::{fs, mem::MaybeUninit, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    process::setpriority_process,
    system::uname,
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

/// Core of whoever produces.
pub(crate) const PRODUCER_CORE: usize = 0;
/// Core of whoever consumes.
pub(crate) const CONSUMER_CORE: usize = 1;

/// Some events of some families are trace events where functions cannot be attached to.
const TRACING: &str = "/sys/kernel/tracing";

/// Mounts tracefs where nobody has.
pub(crate) fn mount_tracefs() -> Result<()> {
    if Path::new(TRACING).join("events").exists() {
        return Ok(());
    }
    eprintln!("mounting tracefs at {TRACING}");
    let status =
        Command::new("mount").args(["-t", "tracefs", "tracefs", TRACING]).status().context("start mount")?;
    ensure!(status.success(), "tracefs cannot be mounted at {TRACING}: {status}");
    Ok(())
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// CPU time of the calling thread, user and kernel.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

/// CPU time of the calling process, user and kernel.
pub(crate) fn process_cpu_ns() -> u64 {
    clock_ns(ClockId::ProcessCPUTime)
}

/// CPU time of another process (`clock_getcpuclockid(3)`).
pub(crate) fn cpu_ns_of(pid: u32) -> Result<u64> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let pid = pid.try_into()?;
    // SAFETY: writes one clockid_t.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    anyhow::ensure!(error == 0, "process {pid} is gone");
    // SAFETY: writes one timespec.
    let error = unsafe { libc::clock_gettime(clock, &raw mut time) };
    anyhow::ensure!(error == 0, "process {pid} is gone");
    Ok(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// The most memory that a process had at a time (`VmHWM`), in bytes.
pub(crate) fn peak_rss_of(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("it has no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| line.to_owned())?;
    Ok(kib << 10)
}

/// Context switches of this process, those of threads that ended included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switches {
    /// A thread went to sleep.
    pub(crate) waited: u64,
    /// The kernel took the core away from one.
    pub(crate) preempted: u64,
}

impl Switches {
    /// So far.
    pub(crate) fn now() -> Self {
        let mut usage = MaybeUninit::zeroed();
        // SAFETY: writes one rusage.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        // SAFETY: it is made of integers, for which zeros are good as well.
        let usage: libc::rusage = unsafe { usage.assume_init() };
        Self { waited: usage.ru_nvcsw.unsigned_abs(), preempted: usage.ru_nivcsw.unsigned_abs() }
    }

    /// Those that came since then.
    pub(crate) fn since(self, then: Self) -> Self {
        Self { waited: self.waited - then.waited, preempted: self.preempted - then.preempted }
    }
}

/// Keeps the calling thread on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("pin to core {core}"))
}

/// Puts this process, and those it starts, before all others that do not do the same.
pub(crate) fn take_precedence() -> Result<()> {
    setpriority_process(None, -20).context("nice -20 (are you root?)")
}

/// CPU use of the two cores by others than us, over the stretches of time that are measured.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    elapsed_ns: i64,
    /// What was used and not by us. /proc/stat counts in ticks, so one stretch may show a little less than nothing.
    foreign_ns: i64,
}

impl Watch {
    /// Watches while `f` runs. `others`: processes beside this one that belong to the measurement and outlive `f`.
    pub(crate) fn over<T>(&mut self, others: &[u32], f: impl FnOnce() -> Result<T>) -> Result<T> {
        let (began, own_from, busy_from) = (now_ns(), own_ns(others)?, busy_ns()?);
        let result = f()?;
        let (busy, own) = (busy_ns()? - busy_from, own_ns(others)? - own_from);
        self.elapsed_ns += (now_ns() - began).cast_signed();
        self.foreign_ns += busy.cast_signed() - own.cast_signed();
        Ok(result)
    }

    /// Foreign use as a share of the two cores' time.
    pub(crate) fn foreign_share(&self) -> f64 {
        self.foreign_ns as f64 / (2.0 * self.elapsed_ns as f64)
    }
}

fn own_ns(others: &[u32]) -> Result<u64> {
    others.iter().try_fold(process_cpu_ns(), |sum, &pid| Ok(sum + cpu_ns_of(pid)?))
}

/// Time that the two cores spent on processes (user, nice, system) or were not given by the hypervisor (steal).
/// Interrupts are left out: those that we cause cannot be told from the others.
fn busy_ns() -> Result<u64> {
    const TICK_NS: u64 = 10_000_000;
    let stat = fs::read_to_string("/proc/stat")?;
    let mut ticks = 0;
    for core in [PRODUCER_CORE, CONSUMER_CORE] {
        let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&format!("cpu{core}")));
        let line = line.with_context(|| format!("/proc/stat has no core {core}: two cores are needed"))?;
        let fields = line.split_whitespace().skip(1).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        ticks += [0, 1, 2, 7].iter().filter_map(|&at: &usize| fields.get(at)).sum::<u64>();
    }
    Ok(TICK_NS * ticks)
}

/// One line about the machine and the kernel.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine =
        cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let kind = if virtual_machine { "virtual machine" } else { "bare metal" };
    format!("{model}, {cores} cores ({kind}), Linux {}", uname().release().to_string_lossy())
}
