//! Durations that the kernel sums up: every event is in one histogram of one interval.

use std::{collections::BTreeMap, time::Duration};

use kprobe_core::{
    abi::{Family, Kind},
    event::{Aggregated, Arch, Histogram, Tgid},
};
use kprobe_ebpf::{
    AttachError, Block, By, Filter, Irq, Lock, Memory, PairCounts, ProbeFamily, Process, Recorder,
    RecorderBuilder, Sched, Syscalls, Wait, host,
};

use crate::support::{
    in_vm,
    recording::{Recorded, Recording},
    times,
};

crate::trials!(
    calls,
    of_each_process,
    no_room,
    threads_that_wait,
    waits_for_a_futex,
    requests_of_whoever_submitted_them,
    major_faults,
    what_cannot_be_summed_up
);

const INTERVAL: Duration = Duration::from_millis(50);

fn builder(by: By) -> RecorderBuilder<(Syscalls, ())> {
    summing_up(Syscalls::all(), Family::Syscall, by)
}

/// A recorder that sums up a family and records nothing.
pub fn summing_up<P: ProbeFamily>(probe: P, family: Family, by: By) -> RecorderBuilder<(P, ())> {
    Recorder::builder().probe(probe).filter(Filter::none()).aggregate(family, by).aggregate_every(INTERVAL)
}

/// Of a kind, over all intervals: events by what they have in common.
pub fn counts(recorded: &Recorded, kind: Kind) -> BTreeMap<Aggregated, u64> {
    let mut counts = BTreeMap::new();
    for histogram in recorded.all::<Histogram>().iter().filter(|histogram| histogram.kind == kind) {
        *counts.entry(histogram.of).or_default() += histogram.count();
    }
    counts
}

/// Each interval begins where the one before ends.
fn check_intervals(recorded: &Recorded) {
    let histograms = recorded.all::<Histogram>();
    let intervals: BTreeMap<_, _> =
        histograms.iter().map(|histogram| (histogram.from_ns, histogram.origin.ktime_ns)).collect();
    assert!(intervals.iter().all(|(from, to)| from < to), "{intervals:?}");
    let (from, to): (Vec<_>, Vec<_>) = intervals.into_iter().unzip();
    // One in which nothing happened gives no record.
    assert!(from[1..].iter().zip(&to).all(|(from, to)| from >= to));
    for histogram in histograms {
        let (longest, mean) = (histogram.quantile_ns(1000).unwrap(), histogram.mean_ns().unwrap());
        assert!(mean <= longest, "{histogram:?}");
    }
}

fn calls() {
    let each = u64::from(times(100_000));
    let workload = format!("getppid {each} 4");
    let (recorded, ..) = Recording::of_workload(builder(By::Subject), &workload);
    let recorded = recorded.lossless();
    assert_eq!(recorded.books.submitted(Kind::SYSCALL), 0);
    check_intervals(&recorded);
    let nr = libc::SYS_getppid as u64;
    let counts = counts(&recorded, Kind::SYSCALL);
    assert_eq!(counts[&Aggregated::Subject(nr)], 4 * each);
    assert!(counts.len() > 3, "{counts:?}");
    let histograms = recorded.all::<Histogram>();
    let of_getppid = |histogram: &&Histogram| histogram.of == Aggregated::Subject(nr);
    let getppid = histograms.iter().find(of_getppid).unwrap();
    assert_eq!(getppid.subject_name(Arch::native()).as_deref(), Some("getppid"));
}

fn of_each_process() {
    let mut recording = Recording::start(builder(By::Tgid));
    let mut workload = recording.spawn("gate 1000 2");
    assert_eq!(workload.line(), "ready");
    workload.go();
    assert_eq!(workload.line(), "done");
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let counts = counts(&recorded, Kind::SYSCALL);
    let own = counts[&Aggregated::Tgid(Tgid(workload.tgid()))];
    let children: Vec<_> = counts.values().filter(|count| (1000..own).contains(*count)).collect();
    assert_eq!(children.len(), 2, "{counts:?}");
    for histogram in recorded.all::<Histogram>() {
        assert_eq!(histogram.of, Aggregated::Tgid(histogram.origin.tgid));
    }
}

/// What finds no room for a histogram of its own is counted as that.
fn no_room() {
    let builder = builder(By::Subject).aggregate_keys(1).aggregate_every(Duration::from_secs(600));
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn("getppid 1000 1");
    recording.run(&mut workload);
    recording.stop();
    let PairCounts { uncounted, .. } = recording.recorder.pair_counts(Family::Syscall);
    let recorded = recording.finish();
    // One for each CPU.
    let counts = counts(&recorded, Kind::SYSCALL);
    assert!(counts.len() <= host::possible_cpus().unwrap().count(), "{counts:?}");
    let counted: u64 = counts.values().sum();
    assert!(uncounted > 0 && counted > 0 && uncounted + counted > 1000, "{uncounted}, {counted}");
}

/// Their switches, and the time from each wake-up to the next run, on every rung.
fn threads_that_wait() {
    for (rung, other) in [("tp_btf", "raw_tp"), ("raw_tp", "tp_btf")] {
        threads_that_wait_on(rung, other);
    }
}

fn threads_that_wait_on(rung: &str, other: &str) {
    let naps = u64::from(times(100));
    let began_ns = host::clocks().monotonic_ns;
    let builder = Recorder::builder().require(Sched::default()).forbid_rung(other).filter(Filter::none());
    let builder = builder.aggregate(Family::Sched, By::Tgid).aggregate_every(INTERVAL);
    let mut recording = Recording::start(builder);
    assert!(recording.recorder.report().probes.iter().all(|probe| probe.rung.as_deref() == Some(rung)));
    let mut workload = recording.spawn(&format!("naps {naps}"));
    recording.run(&mut workload);
    let tgid = workload.tgid();
    let recorded = recording.finish().lossless();
    check_intervals(&recorded);
    let of = Aggregated::Tgid(Tgid(tgid));
    let (runs, waits) =
        (counts(&recorded, Kind::SCHED_SWITCH)[&of], counts(&recorded, Kind::SCHED_WAKING)[&of]);
    // It is woken once to run at all, and may be for a page. On one hosted machine some wake-ups are not seen by any program:
    // see `sched::wake_ups_by_a_timer`.
    let least = if in_vm() { naps } else { naps / 2 };
    assert!(waits >= least && runs >= waits && runs < 3 * naps + 20, "{rung}: {runs} runs, {waits} waits");
    assert_eq!(recorded.books.submitted(Kind::SCHED_SWITCH), 0);
    let histograms = recorded.all::<Histogram>();
    let running: u64 = histograms
        .iter()
        .filter(|histogram| histogram.kind == Kind::SCHED_SWITCH)
        .map(|histogram| histogram.sum_ns)
        .sum();
    let span = histograms.last().unwrap().origin.ktime_ns - began_ns;
    // One thread, which sleeps most of the time.
    assert!(running > 0 && running < span, "{rung}: {running} of {span}");
}

/// Each of the five, the one that was restarted included.
fn waits_for_a_futex() {
    let builder = summing_up(Lock::default().without_contention(), Family::Lock, By::Subject);
    let (recorded, lines, _) = Recording::of_workload(builder, "futex-outcomes");
    let recorded = recorded.lossless();
    let address = lines[0].split(' ').next().unwrap().parse().unwrap();
    assert_eq!(counts(&recorded, Kind::LOCK_FUTEX)[&Aggregated::Subject(address)], 5);
    assert_eq!(recorded.books.submitted(Kind::LOCK_FUTEX), 0);
    let histograms = recorded.all::<Histogram>();
    let waited = histograms.iter().filter(|histogram| histogram.of == Aggregated::Subject(address));
    // One of them has a time limit of 20 ms, and nobody ends it before.
    assert!(waited.map(|histogram| histogram.sum_ns).sum::<u64>() >= 20_000_000, "{histograms:?}");
}

fn requests_of_whoever_submitted_them() {
    const COUNT: u64 = 8;
    let (recorded, _, tgid) = Recording::of_workload(
        summing_up(Block::default(), Family::Block, By::Tgid),
        &format!("direct-io {COUNT}"),
    );
    let recorded = recorded.lossless();
    let counts = counts(&recorded, Kind::BLOCK_REQUEST);
    // Interrupts complete them while somebody else runs.
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&Aggregated::Tgid(Tgid(tgid))]);
    assert!(counts.values().sum::<u64>() >= 2 * COUNT, "{counts:?}");
    assert_eq!(recorded.books.submitted(Kind::BLOCK_REQUEST), 0);
}

fn major_faults() {
    let builder = summing_up(Memory::default(), Family::Memory, By::Kind);
    let (recorded, lines, _) = Recording::of_workload(builder, "faults");
    let recorded = recorded.lossless();
    let measured: u64 =
        lines.iter().map(|line| line.split(' ').nth(4).unwrap().parse::<u64>().unwrap()).sum();
    let counts = counts(&recorded, Kind::MEMORY_FAULT_MAJOR);
    // A file system in memory has none.
    let counted = counts.get(&Aggregated::Kind).copied().unwrap_or(0);
    assert!(counted >= measured, "{counted} of {measured}");
    assert_eq!(recorded.books.submitted(Kind::MEMORY_FAULT_MAJOR), 0);
}

fn what_cannot_be_summed_up() {
    let refusal = |builder: RecorderBuilder<_>| match builder.check() {
        Err(error) => error.to_string(),
        Ok(()) => panic!("it can"),
    };
    let processes = || Recorder::builder().probe(Process::default()).filter(Filter::none());
    let text = "the durations of process cannot be summed up: of what is recorded these can be: none";
    assert_eq!(refusal(processes().aggregate(Family::Process, By::Tgid)), text);
    // Interrupts have durations, which no program sums up.
    let interrupts = Recorder::builder().probe(Irq::default()).filter(Filter::none());
    let error = interrupts.aggregate(Family::Irq, By::Kind).check().unwrap_err().to_string();
    assert_eq!(error, text.replace("process", "irq"));
    let both = || Recorder::builder().probe(Process::default()).probe(Syscalls::all()).filter(Filter::none());
    let error = both().aggregate(Family::Sched, By::Tgid).check().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the durations of sched cannot be summed up: of what is recorded these can be: syscall"
    );
    let all = || {
        let builder = Recorder::builder().probe(Sched::default()).probe(Memory::default());
        builder.probe(Wait::default()).probe(Syscalls::all()).filter(Filter::none())
    };
    for (family, name) in [(Family::Sched, "sched"), (Family::Memory, "memory")] {
        let error = all().aggregate(family, By::Subject).check().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!(
                "the durations of {name} cannot be told apart by subject: expected kind, tgid or cgroup; of what is \
                 recorded these have subjects: "
            )),
            "{error}"
        );
        all().aggregate(family, By::Kind).check().unwrap();
    }
    all().aggregate(Family::Wait, By::Subject).check().unwrap();
    let none = both().aggregate(Family::Syscall, By::Tgid).aggregate_keys(0).check();
    assert!(matches!(none, Err(AttachError::AggregateOfNothing)), "{none:?}");
    let many = both().aggregate(Family::Syscall, By::Tgid).aggregate_keys(1 << 20).check().unwrap_err();
    assert_eq!(many.to_string(), "room for 1048576 histograms on each CPU: it can be 65536 at most");
}
