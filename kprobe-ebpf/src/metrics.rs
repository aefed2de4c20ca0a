//! What recording costs, as metrics: for the crate `metrics`, as those of a pipeline are (`kprobe_sinks::metrics`).
//!
//! What is published goes to the recorder of the thread, else to the one that the program has installed. Whoever collects
//! calls this before.
//!
//! ```no_run
//! use kprobe_ebpf::{ProgramWatch, host, metrics};
//!
//! fn collect(programs: &ProgramWatch) -> Result<(), host::HostError> {
//!     metrics::publish_usage(&host::usage()?);
//!     metrics::publish_programs(&programs.stats());
//!     Ok(())
//! }
//! ```
//!
//! Times are gauges in seconds, although they only grow: counters of that crate are whole numbers.
#![forbid(unsafe_code)]

use ::metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{Counting, ProgramStats, host::Usage};

const CPU: &str = "kprobe_process_cpu_seconds";
const RESIDENT: &str = "kprobe_process_resident_memory_bytes";
const PEAK: &str = "kprobe_process_resident_memory_peak_bytes";
const THREADS: &str = "kprobe_process_threads";
const COUNTING: &str = "kprobe_program_counting";
const RUNS: &str = "kprobe_program_runs_total";
const TIME: &str = "kprobe_program_run_seconds";
const MISSES: &str = "kprobe_program_recursion_misses_total";

/// Tells the recorder what each metric means. Once, before the first is published.
pub fn describe() {
    describe_gauge!(CPU, Unit::Seconds, "CPU time of this process since it began, by mode: user or system");
    describe_gauge!(RESIDENT, Unit::Bytes, "Resident memory of this process");
    describe_gauge!(PEAK, Unit::Bytes, "The most that was ever resident of this process");
    describe_gauge!(THREADS, Unit::Count, "Threads of this process");
    describe_gauge!(COUNTING, Unit::Count, "1 if the kernel counts runs of programs, 0 if not");
    describe_counter!(RUNS, Unit::Count, "How often a kernel program ran while the kernel counted");
    describe_gauge!(TIME, Unit::Seconds, "How long a kernel program ran in all while the kernel counted");
    describe_counter!(MISSES, Unit::Count, "How often the kernel skipped a program that was running already");
}

/// What this process takes.
#[expect(clippy::cast_precision_loss, reason = "to a nanosecond for months, and to a byte")]
pub fn publish_usage(usage: &Usage) {
    gauge!(CPU, "mode" => "user").set(usage.user_ns as f64 / 1e9);
    gauge!(CPU, "mode" => "system").set(usage.system_ns as f64 / 1e9);
    gauge!(RESIDENT).set(usage.rss_bytes as f64);
    gauge!(PEAK).set(usage.peak_rss_bytes as f64);
    gauge!(THREADS).set(usage.threads as f64);
}

/// What its kernel programs take, as far as the kernel says it: what is not known is left as it was, or out.
#[expect(clippy::cast_precision_loss, reason = "to a nanosecond for months")]
pub fn publish_programs(stats: &ProgramStats) {
    match stats.counting {
        Counting::On => gauge!(COUNTING).set(1),
        Counting::Off => gauge!(COUNTING).set(0),
        Counting::Unknown(_) => {}
    }
    for program in &stats.programs {
        let name = || program.name.clone();
        if let Some(runs) = program.run_count {
            counter!(RUNS, "program" => name()).absolute(runs);
        }
        if let Some(ns) = program.run_time_ns {
            gauge!(TIME, "program" => name()).set(ns as f64 / 1e9);
        }
        if let Some(misses) = program.recursion_misses {
            counter!(MISSES, "program" => name()).absolute(misses);
        }
    }
}
