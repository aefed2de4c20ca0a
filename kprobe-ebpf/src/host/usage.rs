//! What this process itself takes of the machine.

use std::{fmt, io, mem::MaybeUninit};

use rustix::time::{ClockId, Timespec};
use serde::Serialize;

use super::HostError;
use super::error::read;

/// What this process has taken so far: all its threads, those that have ended included.
///
/// Kernel programs are not in it. They run in whatever thread makes an event happen and at its expense: what they take
/// says [`Recorder::program_stats`](crate::Recorder::program_stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// CPU time, exact: user and system together.
    pub cpu_ns: u64,
    /// The part of it in user space. How the kernel divides the time is an estimate, unless it is built to account for
    /// each entry (`CONFIG_VIRT_CPU_ACCOUNTING_GEN`); in microseconds.
    pub user_ns: u64,
    /// The part of it in the kernel.
    pub system_ns: u64,
    /// Memory that is resident now, shared pages included, and those of mapped rings that were touched. From Linux 6.2 on the
    /// kernel may be off by some hundred KiB for each CPU.
    pub rss_bytes: u64,
    /// The most that was ever resident, as near as that.
    pub peak_rss_bytes: u64,
    /// Threads that there are now.
    pub threads: u64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_ns, user_ns, system_ns, rss_bytes, peak_rss_bytes, threads } = *self;
        let seconds = |ns: u64| format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000);
        let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, (bytes >> 10 & 1023) * 10 / 1024);
        let (cpu, user, system) = (seconds(cpu_ns), seconds(user_ns), seconds(system_ns));
        let (resident, peak) = (mib(rss_bytes), mib(peak_rss_bytes));
        write!(
            f,
            "{cpu} of CPU time ({user} user, {system} system), {resident} resident ({peak} at most), {threads} threads"
        )
    }
}

/// What this process takes of the machine. Reads `/proc` and asks two clocks; meant for once in a second or so.
///
/// # Errors
///
/// `/proc` is not mounted, or its format is another one.
pub fn usage() -> Result<Usage, HostError> {
    let mut times = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to memory of this size, alive and nobody else's.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, times.as_mut_ptr()) } != 0 {
        return Err(HostError::Call { call: "getrusage", source: io::Error::last_os_error() });
    }
    // SAFETY: all zeros is one, and the kernel has filled it in.
    let times = unsafe { times.assume_init() };
    // After it, so that the sum is never less than its parts, but for the rest of a microsecond.
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    let status = Status::parse(&read("/proc/self/status")?)?;
    Ok(Usage {
        cpu_ns: nanoseconds(tv_sec, tv_nsec),
        user_ns: nanoseconds(times.ru_utime.tv_sec, times.ru_utime.tv_usec.saturating_mul(1000)),
        system_ns: nanoseconds(times.ru_stime.tv_sec, times.ru_stime.tv_usec.saturating_mul(1000)),
        rss_bytes: status.rss,
        peak_rss_bytes: status.peak,
        threads: status.threads,
    })
}

/// The kernel's times of a process are not negative.
fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    seconds.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(nanoseconds.unsigned_abs())
}

/// Of `/proc/self/status`, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    rss: u64,
    peak: u64,
    threads: u64,
}

impl Status {
    fn parse(text: &str) -> Result<Self, HostError> {
        let number = |key: &'static str, unit: &'static str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let value = line.and_then(|line| line.trim().strip_suffix(unit)?.trim().parse::<u64>().ok());
            value.ok_or_else(|| HostError::Unexpected {
                what: "/proc/self/status",
                expected: "VmRSS and VmHWM in kB, and Threads",
                found: format!("{key}{}", line.unwrap_or(" (no such line)")),
            })
        };
        Ok(Self {
            rss: number("VmRSS:", "kB")?.saturating_mul(1024),
            peak: number("VmHWM:", "kB")?.saturating_mul(1024),
            threads: number("Threads:", "")?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lines_of_status() {
        let text =
            "Name:\tagent\nVmPeak:\t    9000 kB\nVmHWM:\t    1234 kB\nVmRSS:\t    1000 kB\nThreads:\t3\n";
        let expected = Status { rss: 1_024_000, peak: 1_263_616, threads: 3 };
        assert_eq!(Status::parse(text).unwrap(), expected);
        for (from, to) in [("1000 kB", "1000 mB"), ("VmHWM", "VmXXX"), ("\t3", "\t-3"), ("1000 kB", "1000")] {
            assert!(Status::parse(&text.replace(from, to)).is_err(), "{from} {to}");
        }
        let error = Status::parse("").unwrap_err().to_string();
        assert!(error.contains("\"VmRSS: (no such line)\"") && error.contains("VmHWM in kB"), "{error}");
    }

    #[test]
    fn for_people() {
        let usage = Usage {
            cpu_ns: 12_345_678_901,
            user_ns: 12_000_000_000,
            system_ns: 345_678_901,
            rss_bytes: 10 << 20 | 512 << 10,
            peak_rss_bytes: 11 << 20,
            threads: 4,
        };
        let expected = "12.345 s of CPU time (12.000 s user, 0.345 s system), 10.5 MiB resident (11.0 MiB at most), 4 threads";
        assert_eq!(usage.to_string(), expected);
    }

    #[test]
    fn of_this_process() {
        let first = usage().unwrap();
        assert!(first.threads >= 1 && first.rss_bytes > 0 && first.peak_rss_bytes >= first.rss_bytes);
        // The clock was read after the parts.
        assert!(first.user_ns + first.system_ns <= first.cpu_ns + 1000, "{first:?}");
        let second = usage().unwrap();
        assert!(second.cpu_ns > first.cpu_ns, "{first:?} {second:?}");
    }
}
