//! What recording costs: the process itself, and the kernel programs.

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    io::Error,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use caps::{CapSet, Capability};
use kprobe_core::event::Syscall;
use kprobe_ebpf::{
    CountRuns, Counting, Filter, Irq, ProgramRun, ProgramStats, Recorder, RecorderBuilder, Syscalls,
    filter::SyscallSet, host,
};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::support::{
    child::Workload,
    fact,
    kernel::{BpfObjects, Deadline},
    recording::Recording,
    times,
};

crate::trials!(
    cpu_time_and_memory_of_this_process,
    runs_are_counted,
    what_is_not_counted_is_said,
    a_watch_outlives_the_programs,
    last_values_without_a_watch,
    two_capabilities_are_enough_for_statistics,
);

/// CPU time of this process until now, as a clock has it.
fn cpu_ns() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    tv_sec as u64 * 1_000_000_000 + tv_nsec as u64
}

fn cpu_time_and_memory_of_this_process() {
    // Between two looks at the clock.
    let outer = cpu_ns();
    let first = host::usage().unwrap();
    let inner = cpu_ns();
    while cpu_ns() < inner + 300_000_000 {
        black_box((0..1000_u64).fold(0, |sum, number| sum ^ black_box(number)));
    }
    let inner = cpu_ns() - inner;
    let second = host::usage().unwrap();
    let outer = cpu_ns() - outer;
    let cpu = second.cpu_ns - first.cpu_ns;
    assert!((inner..=outer).contains(&cpu) && inner >= 300_000_000, "{inner} {cpu} {outer}");
    // The parts are in microseconds.
    let parts = second.user_ns + second.system_ns;
    assert!(parts <= second.cpu_ns + 1000 && parts + 20_000_000 >= second.cpu_ns, "{second:?}");

    const MIB: u64 = 1 << 20;
    let before = host::usage().unwrap();
    let memory = Touched::new(64 * MIB as usize);
    let with = host::usage().unwrap();
    let grown = with.rss_bytes.abs_diff(before.rss_bytes);
    assert!(
        with.rss_bytes > before.rss_bytes && (62 * MIB..=68 * MIB).contains(&grown),
        "{before:?} {with:?}"
    );
    assert!(with.peak_rss_bytes >= with.rss_bytes, "{with:?}");
    drop(memory);
    let after = host::usage().unwrap();
    assert!(after.rss_bytes <= before.rss_bytes + 4 * MIB, "{before:?} {after:?}");
    // The kernel's own estimate.
    assert!(after.peak_rss_bytes + MIB >= with.rss_bytes, "{with:?} {after:?}");

    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || wait.recv().is_err());
    assert_eq!(host::usage().unwrap().threads, after.threads + 1);
    drop(go_on);
    assert!(thread.join().unwrap());
}

/// Memory of which every page was written to, and that goes back to the kernel at once.
struct Touched(*mut libc::c_void, usize);

impl Touched {
    fn new(bytes: usize) -> Self {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel likes.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", Error::last_os_error());
        // SAFETY: so many bytes were mapped on the lines above, to be written.
        unsafe { libc::memset(at, 1, bytes) };
        Self(at, bytes)
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        // SAFETY: what was mapped, which nobody refers to.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

fn getppids() -> RecorderBuilder<(Syscalls, ())> {
    let probe = Syscalls::of(SyscallSet::named(["getppid"]).unwrap());
    Recorder::builder().require(probe).filter(Filter::none())
}

/// One of the two at all system calls.
fn at(stats: &ProgramStats, way: &str) -> ProgramRun {
    let beginning = format!("syscall_{way}_");
    let found: Vec<_> = stats.programs.iter().filter(|run| run.name.starts_with(&beginning)).collect();
    let [run] = found[..] else { panic!("{stats:?}") };
    assert_eq!(run.probes, ["syscall"]);
    run.clone()
}

/// What `/proc` says of each program that this process has a descriptor of.
fn fdinfo() -> BTreeMap<u32, [Option<u64>; 3]> {
    let mut programs = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
        let number = |key: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
        };
        if number("link_id:").is_none()
            && let Some(id) = number("prog_id:")
        {
            programs.insert(id as u32, ["run_cnt:", "run_time_ns:", "recursion_misses:"].map(number));
        }
    }
    programs
}

fn runs_are_counted() {
    const CALLS: u64 = 20_000;
    let began = Instant::now();
    let counting = CountRuns::start().unwrap();
    // All its programs are about the whole machine.
    let builder = getppids().require(Irq::default());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn(&format!("getppid {CALLS} 1"));
    recording.run(&mut workload);

    let before = fdinfo();
    let stats = recording.recorder.program_stats();
    let after = fdinfo();
    let wall = began.elapsed();
    assert_eq!((&stats.counting, stats.over), (&Counting::On, false), "{stats}");
    // Each is there, once, and what is said of it is between what /proc said before and said afterwards.
    assert_eq!(stats.programs.len(), before.len(), "{stats}");
    let ids: BTreeMap<u32, &ProgramRun> = stats.programs.iter().map(|run| (run.id.unwrap(), run)).collect();
    assert_eq!(ids.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let release = host::kernel_release().unwrap();
    for (id, run) in ids {
        assert_eq!(run.error, None);
        // None of these is a trace event or a perf event, but those of system calls from 7.0 on.
        assert_eq!(run.recursion_misses.is_some(), release.at_least(5, 12), "{run:?}");
        let said = [run.run_count, run.run_time_ns, run.recursion_misses];
        for (said, (before, after)) in said.into_iter().zip(before[&id].into_iter().zip(after[&id])) {
            assert!(before <= said && said <= after, "{run:?}: {before:?} {said:?} {after:?}");
        }
        assert!(
            run.run_time_ns.unwrap() < wall.as_nanos() as u64 * host::possible_cpus().unwrap().count() as u64
        );
    }
    for way in ["enter", "exit"] {
        let run = at(&stats, way);
        assert!(
            run.run_count >= Some(CALLS) && run.run_time_ns > Some(0) && run.mean_ns() > Some(0),
            "{run:?}"
        );
    }
    // More than the kernel keeps of a name.
    assert!(at(&stats, "enter").name.len() > 15, "{stats}");
    let sum: u64 = stats.programs.iter().filter_map(|run| run.run_time_ns).sum();
    assert_eq!(stats.run_time_ns(), Some(sum));
    let of_irqs =
        stats.programs.iter().filter(|run| run.probes.iter().any(|probe| probe.starts_with("irq.")));
    assert!(of_irqs.count() >= 2, "{stats}");
    let follow = stats.programs.iter().find(|run| run.name.starts_with("follow_fork")).unwrap();
    assert!(follow.probes.is_empty() && follow.run_count >= Some(1), "{follow:?}");
    assert!(stats.to_string().starts_with("program "), "{stats}");
    let recorded = recording.finish().lossless();
    assert_eq!(recorded.all::<Syscall>().len() as u64, CALLS);
    drop(counting);
}

/// Nobody else may have the kernel count meanwhile.
fn what_is_not_counted_is_said() {
    assert_eq!(fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap().trim(), "0");
    let calls = u64::from(times(100_000));
    let recorder = getppids().attach().unwrap();
    let burst = || {
        // Others may have the CPU in between.
        let began = cpu_ns();
        for _ in 0..calls {
            // SAFETY: has no arguments.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        (cpu_ns() - began) as f64 / calls as f64
    };
    burst();
    let stats = recorder.program_stats();
    assert_eq!(stats.counting, Counting::Off);
    for run in &stats.programs {
        assert_eq!((run.run_count, run.run_time_ns, run.mean_ns(), &run.error), (None, None, None, &None));
        assert!(run.id.is_some());
    }
    assert_eq!(stats.run_time_ns(), None);
    let text = stats.to_string();
    assert!(
        text.starts_with("the kernel does not count runs") && text.contains("kernel.bpf_stats_enabled=1")
    );

    // It counts for as long as it is told to, and what it counted stays.
    let mut added = Vec::new();
    let count = || at(&recorder.program_stats(), "enter").run_count.unwrap_or(0);
    for _ in 0..9 {
        let began = count();
        let off = burst();
        assert_eq!(count(), began);
        let counting = CountRuns::start().unwrap();
        let on = burst();
        let stats = recorder.program_stats();
        assert_eq!(stats.counting, Counting::On);
        assert!(at(&stats, "enter").run_count.unwrap() >= began + calls, "{stats}");
        drop(counting);
        let stats = recorder.program_stats();
        assert_eq!(stats.counting, Counting::Off);
        assert!(at(&stats, "exit").run_count.unwrap() >= calls, "{stats}");
        added.push(on - off);
    }
    added.sort_by(f64::total_cmp);
    fact(&serde_json::json!({
        "fact": "counting", "kernel": host::kernel_release().unwrap().text,
        "added_to_getppid_ns": [added[2], added[4], added[6]],
    }));
}

fn a_watch_outlives_the_programs() {
    let counting = CountRuns::start().unwrap();
    let recorder = getppids().attach().unwrap();
    let watch = recorder.program_watch();
    let all = BpfObjects::own();
    let (over, reads) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Another thread asks all the time, also while the recorder goes.
        let reader = scope.spawn(|| {
            let mut last = watch.stats();
            while !over.load(Ordering::Acquire) {
                let next = watch.stats();
                assert!(next.over || !last.over, "it came back");
                assert!(at(&next, "enter").run_count >= at(&last, "enter").run_count);
                last = next;
                reads.fetch_add(1, Ordering::Release);
            }
        });
        Deadline::wait_for("reads", || reads.load(Ordering::Acquire) >= 100);
        drop(recorder);
        // At once.
        let left = BpfObjects::own();
        over.store(true, Ordering::Release);
        reader.join().unwrap();
        assert!(left.is_empty(), "{left:?}");
    });
    all.wait_until_gone();
    let stats = watch.stats();
    assert_eq!((&stats.counting, stats.over), (&Counting::On, true));
    assert!(at(&stats, "enter").run_count > Some(0), "{stats}");
    assert_eq!(watch.clone().stats(), stats);
    drop(counting);
    assert_eq!(watch.stats(), stats);
    assert!(BpfObjects::own().is_empty());
}

fn last_values_without_a_watch() {
    const CALLS: u64 = 1000;
    let _counting = CountRuns::start().unwrap();
    let mut recording = Recording::start(getppids());
    let mut workload = recording.spawn(&format!("getppid {CALLS} 1"));
    recording.run(&mut workload);
    recording.stop();
    assert!(BpfObjects::own().programs.is_empty());
    let stats = recording.recorder.program_stats();
    assert!(stats.over && at(&stats, "exit").run_count >= Some(CALLS), "{stats}");
}

/// Of the user and the group called nobody.
const NOBODY: u32 = 65_534;

/// The workload: another user's process with the documented capabilities, that may not even read its own `/proc`.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn statistics_as_nobody() {
    // Before 5.11 maps are locked memory, whose limit has to be raised.
    let counts_locked = !host::kernel_release().unwrap().at_least(5, 11);
    let more = counts_locked.then_some(Capability::CAP_SYS_RESOURCE);
    let needed: caps::CapsHashSet =
        [Capability::CAP_BPF, Capability::CAP_PERFMON].into_iter().chain(more).collect();
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }, 0);
    // SAFETY: an empty list.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    // SAFETY: a number.
    assert_eq!(unsafe { libc::setgid(NOBODY) }, 0);
    // SAFETY: a number.
    assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
    caps::set(None, CapSet::Effective, &needed).unwrap();
    caps::set(None, CapSet::Permitted, &needed).unwrap();
    assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), needed);
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);

    let recorder = getppids().attach().unwrap();
    for _ in 0..1000 {
        // SAFETY: has no arguments.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    let stats = recorder.program_stats();
    let enter = at(&stats, "enter");
    println!("{} {:?} {:?}", stats.counting, enter.run_count.map(|count| count >= 1000), enter.error);
    println!("{}", CountRuns::start().unwrap_err());
    // Without even these, and while it goes on.
    caps::clear(None, CapSet::Effective).unwrap();
    let stats = recorder.program_stats();
    println!("{}", stats.counting);
    let enter = at(&stats, "enter");
    assert_ne!(enter.error.is_some(), enter.id.is_some(), "{enter:?}");
    assert!(enter.id.is_some() || enter.run_count.is_none(), "{enter:?}");
}

fn two_capabilities_are_enough_for_statistics() {
    let lines = || {
        let mut workload = Workload::start("statistics-as-nobody");
        let lines = workload.lines();
        assert!(workload.wait().success(), "{lines:?}");
        let [first, refused, unknown] = <[String; 3]>::try_from(lines).unwrap();
        assert_eq!(
            refused,
            "cannot have the kernel count runs of programs (BPF_ENABLE_STATS: Operation not permitted (os error 1)): it \
             needs CAP_SYS_ADMIN; without, an administrator can switch it on for everybody with \
             `sysctl kernel.bpf_stats_enabled=1`, until it is set to 0"
        );
        assert!(
            unknown.starts_with("whether the kernel counts runs of programs is unknown: ")
                && unknown.ends_with("Operation not permitted (os error 1)"),
            "{unknown}"
        );
        first
    };
    assert_eq!(lines(), format!("{} None None", Counting::Off));
    let counting = CountRuns::start().unwrap();
    assert_eq!(lines(), format!("{} Some(true) None", Counting::On));
    drop(counting);
}
