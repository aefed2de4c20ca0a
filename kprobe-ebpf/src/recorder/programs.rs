//! What the kernel programs of a recorder cost.

use std::{
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::{
    attach::{Statistics, is_counting},
    host,
};

/// Reads how often and how long a recorder's programs ran: from any thread, while others drive the recorder.
///
/// It keeps nothing in the kernel: when the recorder detaches or is dropped, it keeps the last values instead.
#[derive(Clone, Debug)]
pub struct ProgramWatch(Arc<Mutex<State>>);

// A mutex, so that who has dropped a recorder can rely on it that nobody who is just reading holds a program.
#[derive(Debug)]
enum State {
    Attached(Vec<Watched>),
    Over(ProgramStats),
}

/// A program, by a descriptor of its own: the recorder's others are the loader's.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) probes: Vec<&'static str>,
    pub(crate) program: io::Result<OwnedFd>,
}

/// How often and how long the programs of a recorder ran, as far as the kernel counted.
///
/// Written as a table, the most expensive first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProgramStats {
    /// Whether the kernel counts.
    #[serde(flatten)]
    pub counting: Counting,
    /// The programs are not attached any more, and these are the last values.
    pub over: bool,
    /// Every program that is loaded: kprobe's own, then those of a user's objects, each by name.
    pub programs: Vec<ProgramRun>,
}

/// Whether the kernel counts how often and how long programs run. By default it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "counting", content = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Counting {
    /// It counts. What ran before somebody switched it on is in no count.
    On,
    /// It does not. A count that is there nevertheless is of a time in which it did.
    Off,
    /// It cannot be told, and why. A count that is there is of a time in which it did.
    Unknown(String),
}

/// One program. What the kernel does not say is `None`, never 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProgramRun {
    /// Its name, which the kernel and its tools cut after 15 bytes.
    pub name: String,
    /// The kernel's number of it, as `bpftool prog` and bpftop show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The events that it makes or is needed for; none if it serves all of them.
    pub probes: Vec<&'static str>,
    /// How often it ran while the kernel counted, on all CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_count: Option<u64>,
    /// How long in all, in nanoseconds. Interrupts that came in between are part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_time_ns: Option<u64>,
    /// How often it was skipped, because it or another was running on the CPU; counted at all times. At raw
    /// tracepoints and functions since Linux 5.12, for trace events and kprobes since 6.7, for perf events on none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursion_misses: Option<u64>,
    /// Why the kernel said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ProgramWatch {
    pub(super) fn new(programs: Vec<Watched>) -> Self {
        Self(Arc::new(Mutex::new(State::Attached(programs))))
    }

    /// Asks the kernel now, with a system call for each program and a few more: for once in a second or so.
    ///
    /// A recorder that is just being detached waits for it.
    #[must_use]
    pub fn stats(&self) -> ProgramStats {
        match &*self.state() {
            State::Attached(programs) => stats(programs, false),
            State::Over(last) => last.clone(),
        }
    }

    /// Takes the last values, and lets go of the programs.
    fn end(&self) {
        let mut state = self.state();
        if let State::Attached(programs) = &*state {
            *state = State::Over(stats(programs, true));
        }
    }

    /// Whoever panicked while holding it was reading.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The recorder's own. With it goes every descriptor.
#[derive(Debug)]
pub(super) struct Watch(pub(super) ProgramWatch);

impl Watch {
    pub(super) fn end(&self) {
        self.0.end();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn stats(programs: &[Watched], over: bool) -> ProgramStats {
    let counting = counting();
    // If it cannot be told, what the kernel counts since 5.12 is what it says.
    let counts_calls = host::kernel_release().is_ok_and(|release| release.at_least(6, 7));
    let programs = programs.iter().map(|watched| ProgramRun::of(watched, &counting, counts_calls)).collect();
    ProgramStats { counting, over, programs }
}

fn counting() -> Counting {
    match is_counting() {
        Ok(true) => Counting::On,
        Ok(false) => Counting::Off,
        Err(error) => match std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled") {
            Ok(setting) if setting.trim() == "1" => Counting::On,
            _ => Counting::Unknown(format!("running a program to see whether it is counted failed: {error}")),
        },
    }
}

impl ProgramRun {
    fn of(watched: &Watched, counting: &Counting, counts_calls: bool) -> Self {
        let statistics = match &watched.program {
            Ok(program) => Statistics::of(program.as_fd(), counts_calls)
                .map_err(|error| format!("BPF_OBJ_GET_INFO_BY_FD failed: {error}")),
            Err(error) => Err(format!("its descriptor could not be duplicated: {error}")),
        };
        let (statistics, error) = match statistics {
            Ok(statistics) => (Some(statistics), None),
            Err(error) => (None, Some(error)),
        };
        // If nobody counts, that it never ran is not known.
        let counted = statistics.filter(|statistics| *counting == Counting::On || statistics.run_count > 0);
        Self {
            name: watched.name.clone(),
            id: statistics.map(|statistics| statistics.id),
            probes: watched.probes.clone(),
            run_count: counted.map(|statistics| statistics.run_count),
            run_time_ns: counted.map(|statistics| statistics.run_time_ns),
            recursion_misses: statistics.and_then(|statistics| statistics.recursion_misses),
            error,
        }
    }

    /// There is more to say than that nobody counted.
    fn says_something(&self) -> bool {
        self.run_count.is_some()
            || self.recursion_misses.is_some_and(|misses| misses > 0)
            || self.error.is_some()
    }

    /// Nanoseconds of a run in the mean, if one was counted.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.run_time_ns?.checked_div(self.run_count?)
    }
}

impl ProgramStats {
    /// How long all programs ran together, in nanoseconds, while the kernel counted; `None` if it never did.
    #[must_use]
    pub fn run_time_ns(&self) -> Option<u64> {
        let times: Vec<u64> = self.programs.iter().filter_map(|program| program.run_time_ns).collect();
        (!times.is_empty()).then(|| times.iter().sum())
    }
}

/// What to do about it.
impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("the kernel counts runs of programs"),
            Self::Off => write!(
                f,
                "the kernel does not count runs of programs: switch it on with `sysctl kernel.bpf_stats_enabled=1`, or for as \
                 long as a `CountRuns` lives, which needs CAP_SYS_ADMIN"
            ),
            Self::Unknown(reason) => {
                write!(f, "whether the kernel counts runs of programs is unknown: {reason}")
            }
        }
    }
}

impl fmt::Display for ProgramStats {
    /// A table for people, of the programs that there is something to say of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut programs: Vec<_> = self.programs.iter().filter(|program| program.says_something()).collect();
        if self.counting != Counting::On {
            write!(f, "{}", self.counting)?;
            if programs.is_empty() {
                return Ok(());
            }
            writeln!(f)?;
        }
        write!(
            f,
            "{:<28} {:>12} {:>12} {:>10} {:>8} for",
            "program", "runs", "time in us", "mean in ns", "skipped"
        )?;
        programs.sort_by_key(|program| std::cmp::Reverse(program.run_time_ns));
        let or_dash =
            |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        for program in programs {
            let (runs, mean) = (or_dash(program.run_count), or_dash(program.mean_ns()));
            let us = or_dash(program.run_time_ns.map(|ns| ns / 1000));
            let skipped = or_dash(program.recursion_misses);
            let name = &program.name;
            write!(f, "\n{name:<28} {runs:>12} {us:>12} {mean:>10} {skipped:>8} ")?;
            match &*program.probes {
                [] => f.write_str("all")?,
                probes => f.write_str(&probes.join(", "))?,
            }
            if let Some(error) = &program.error {
                write!(f, " ({error})")?;
            }
        }
        Ok(())
    }
}

/// Has the kernel count runs of programs while it lives: of every program on this machine, whoever's it is, which costs each run
/// two looks at a clock. Others may have it count at the same time.
///
/// What ran before is in no count.
#[derive(Debug)]
#[must_use = "dropping it ends the counting"]
pub struct CountRuns {
    _descriptor: OwnedFd,
}

/// The kernel was not made to count runs of programs.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot have the kernel count runs of programs (BPF_ENABLE_STATS: {source}): it needs CAP_SYS_ADMIN; without, an \
     administrator can switch it on for everybody with `sysctl kernel.bpf_stats_enabled=1`, until it is set to 0"
)]
pub struct CountRunsError {
    source: io::Error,
}

impl CountRuns {
    /// Begins to count (Linux 5.8 and later).
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, which nothing else in this crate needs.
    pub fn start() -> Result<Self, CountRunsError> {
        match aya::sys::enable_stats(aya::sys::Stats::RunTime) {
            Ok(_descriptor) => Ok(Self { _descriptor }),
            Err(aya::sys::SyscallError { io_error: source, .. }) => Err(CountRunsError { source }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn run(name: &str, counts: Option<(u64, u64)>) -> ProgramRun {
        ProgramRun {
            name: name.to_owned(),
            id: Some(7),
            probes: vec!["syscall", "wait.blocked"],
            run_count: counts.map(|(count, _)| count),
            run_time_ns: counts.map(|(_, ns)| ns),
            recursion_misses: None,
            error: None,
        }
    }

    fn counted() -> ProgramStats {
        let mut all = run("follow_fork_btf", Some((0, 0)));
        (all.probes, all.recursion_misses) = (vec![], Some(3));
        let programs = vec![all, run("syscall_enter_btf_with_a_long_name", Some((10, 2_506)))];
        ProgramStats { counting: Counting::On, over: false, programs }
    }

    #[test]
    fn a_table() {
        assert_eq!(
            counted().to_string(),
            "program                              runs   time in us mean in ns  skipped for\n\
             syscall_enter_btf_with_a_long_name           10            2        250        - syscall, wait.blocked\n\
             follow_fork_btf                         0            0          -        3 all"
        );
        assert_eq!(counted().run_time_ns(), Some(2_506));
    }

    #[test]
    fn what_is_not_counted_is_not_there() {
        let mut failed = run("b", None);
        (failed.id, failed.error) = (None, Some("no such thing".to_owned()));
        let stats =
            ProgramStats { counting: Counting::Off, over: true, programs: vec![run("a", None), failed] };
        assert_eq!(
            serde_json::to_string(&stats).unwrap(),
            "{\"counting\":\"off\",\"over\":true,\"programs\":[\
             {\"name\":\"a\",\"id\":7,\"probes\":[\"syscall\",\"wait.blocked\"]},\
             {\"name\":\"b\",\"probes\":[\"syscall\",\"wait.blocked\"],\"error\":\"no such thing\"}]}"
        );
        assert_eq!(stats.run_time_ns(), None);
        let text = stats.to_string();
        assert!(
            text.starts_with("the kernel does not count") && text.contains("bpf_stats_enabled=1"),
            "{text}"
        );
        assert!(text.contains("CAP_SYS_ADMIN") && text.ends_with("(no such thing)"), "{text}");
        let unknown = Counting::Unknown("why".to_owned());
        assert_eq!(
            serde_json::to_string(&ProgramStats { counting: unknown, over: false, programs: vec![] })
                .unwrap(),
            r#"{"counting":"unknown","reason":"why","over":false,"programs":[]}"#
        );
    }

    #[test]
    fn an_error_says_what_to_do() {
        let error = CountRunsError { source: io::Error::from_raw_os_error(libc::EPERM) }.to_string();
        assert!(
            error.contains("CAP_SYS_ADMIN") && error.contains("sysctl kernel.bpf_stats_enabled=1"),
            "{error}"
        );
    }
}
