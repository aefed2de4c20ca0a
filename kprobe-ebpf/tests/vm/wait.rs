//! Waits for a disk, and cgroups that have used up their time.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use kprobe_core::event::{BlockRequest, Tgid, WaitBlocked, WaitClass, WaitThrottle, WakeContext};
use kprobe_ebpf::{Block, Filter, Recorder, Wait};

use crate::support::{
    child::Workload,
    kernel::{Deadline, context_switches_of_reader},
    recording::Recording,
    times,
};

crate::trials!(requests_that_threads_wait_for, as_often_as_the_kernel_counts, time_that_is_used_up);

/// Who reads and writes past the page cache is woken by the end of its request.
fn requests_that_threads_wait_for() {
    // Most of them are done before anybody sleeps, where a device is as fast as memory.
    const COUNT: u64 = 200;
    let builder = Recorder::builder()
        .require(Block::default())
        .require(Wait::default().without_throttle())
        .filter(Filter::none());
    let (recorded, _, tid) = Recording::of_workload(builder, &format!("direct-io {COUNT}"));
    let recorded = recorded.lossless();
    let requests: Vec<BlockRequest> = recorded.all();
    let transfers = [libc::SYS_pread64, libc::SYS_pwrite64];
    let in_transfer = |wait: &&WaitBlocked| {
        wait.key.call.is_some_and(|call| transfers.contains(&call.nr.into())) && wait.origin.tid.0 == tid
    };
    let waits = recorded.all::<WaitBlocked>();
    let waits: Vec<_> = waits.iter().filter(in_transfer).collect();
    let mut woken = 0_usize;
    for wait in &waits {
        assert!(wait.key.class == WaitClass::FILE && wait.key.object.is_some(), "{wait:?}");
        let waker = wait.waker.unwrap_or_else(|| panic!("{wait:?}"));
        if !matches!(waker.context, Some(WakeContext::Softirq | WakeContext::Hardirq)) {
            // By the thread of the file system.
            continue;
        }
        let key = waker.key.unwrap_or_else(|| panic!("{wait:?}"));
        assert_eq!((key.class, key.call, waker.timed_out), (WaitClass::REQUEST, None, false), "{wait:?}");
        let is_it = |request: &&BlockRequest| {
            Some(request.device) == key.device
                && Some(request.sector) == key.object
                && request.submitter.is_some_and(|by| by.tid.0 == tid)
                && (wait.begin_ns..=waker.ktime_ns + 1_000_000).contains(&request.origin.ktime_ns)
        };
        assert!(requests.iter().any(|request| is_it(&request)), "{wait:?}: {requests:#?}");
        woken += 1;
    }
    assert!(woken >= 5 && 2 * woken >= waits.len(), "{woken} of {}: {waits:#?}", waits.len());
}

/// Each time that a thread gave up its CPU of its own accord is one wait: with everything recorded.
fn as_often_as_the_kernel_counts() {
    let rounds = times(2000);
    let mut recording = Recording::start(
        Recorder::builder()
            .require(Wait::default().without_throttle())
            .ring_bytes(64 << 20)
            .filter(Filter::all()),
    );
    let mut workload = Workload::start(&format!("ping-pong {rounds}"));
    let players: Vec<u32> = workload.line().split(' ').map(|tid| tid.parse().unwrap()).collect();
    // When they have played they wait for the test.
    let voluntary = [0, 1].map(|player: usize| {
        let mut counted = None;
        Deadline::wait_for("the end of a game", || {
            counted = context_switches_of_reader(players[player]);
            counted.is_some()
        });
        counted.unwrap().0
    });
    let until = kprobe_ebpf::host::clocks().monotonic_ns;
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    for (player, other, voluntary) in
        [(players[0], players[1], voluntary[0]), (players[1], players[0], voluntary[1])]
    {
        let waits = recorded.all::<WaitBlocked>();
        let of_player = |wait: &&WaitBlocked| wait.origin.tid.0 == player;
        let begun: Vec<_> = waits.iter().filter(of_player).filter(|wait| wait.begin_ns < until).collect();
        assert_eq!(begun.len() as u64, voluntary, "{player}");
        let for_other: Vec<_> = begun
            .iter()
            .filter(|wait| wait.waker.is_some_and(|waker| waker.tid.0 == other))
            .filter(|wait| wait.key.call.is_some_and(|call| i64::from(call.nr) == libc::SYS_read))
            .collect();
        // Whoever is woken may get the CPU at once, and then the other finds its byte there. But hardly ever was it anything else.
        let (found, all) = (for_other.len(), begun.len());
        assert!(found + 5 >= all && found as u32 > rounds / 20, "{found} of {all}: {begun:#?}");
        for wait in for_other {
            let waker = wait.waker.unwrap();
            assert_eq!(waker.context, Some(WakeContext::Task), "{wait:?}");
            let woken = waker.key.unwrap();
            assert!(wait.key.class == WaitClass::PIPE && wait.key.is_same(&woken), "{wait:?}");
        }
    }
    // Threads of the kernel are recorded because all are.
    let of_kernel = |wait: &&WaitBlocked| wait.key.class == WaitClass::KERNEL;
    assert!(recorded.all::<WaitBlocked>().iter().filter(of_kernel).all(|wait| wait.key.call.is_none()));
    assert!(recorded.all::<WaitBlocked>().iter().any(|wait| of_kernel(&wait)));
}

/// A cgroup that may have a fifth of a CPU, and one in it. It is new, so no stop of it goes on from before.
struct Limited {
    outer: PathBuf,
    inner: PathBuf,
}

impl Limited {
    fn new() -> Self {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu").unwrap();
        let outer = PathBuf::from("/sys/fs/cgroup/kprobe-limited");
        let inner = outer.join("inner");
        fs::create_dir_all(&inner).unwrap();
        fs::write(outer.join("cpu.max"), "20000 100000").unwrap();
        Self { outer, inner }
    }

    /// How often, and how long in all, as the kernel counts it.
    fn counted(&self) -> (u64, u64) {
        let text = fs::read_to_string(self.outer.join("cpu.stat")).unwrap();
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        (number("nr_throttled "), number("throttled_usec ") * 1000)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        for cgroup in [&self.inner, &self.outer] {
            let is_gone = || fs::remove_dir(cgroup).is_ok() || std::thread::panicking();
            Deadline::wait_for("an empty cgroup", is_gone);
        }
    }
}

/// Whoever is selected, by its cgroup, by one above that, or by its process, is told when it had to stop; others are not.
fn time_that_is_used_up() {
    const TIMES: u64 = 10;
    let cgroup = |path: &PathBuf| Filter::cgroup(path).unwrap();
    let unlimited = PathBuf::from("/sys/fs/cgroup/kprobe-unlimited");
    fs::create_dir_all(&unlimited).unwrap();
    type Choose<'a> = Box<dyn Fn(&Limited, u32) -> Filter + 'a>;
    let filters: [(&str, Choose<'_>); 6] = [
        ("all", Box::new(|_, _| Filter::all())),
        ("all, by breakpoints", Box::new(|_, _| Filter::all())),
        ("the cgroup", Box::new(|limited, _| cgroup(&limited.outer))),
        ("one in it", Box::new(|limited, _| cgroup(&limited.inner))),
        ("the process", Box::new(|_, tgid| Filter::tgids([Tgid(tgid)]))),
        ("another cgroup", Box::new(|_, _| cgroup(&unlimited))),
    ];
    for (name, filter) in filters {
        let limited = Limited::new();
        let id = fs::metadata(&limited.outer).unwrap().ino();
        let mut workload = Workload::start("spins");
        // What it uses up before is nobody's business.
        assert_eq!(workload.line(), "ready");
        fs::write(limited.inner.join("cgroup.procs"), workload.tgid().to_string()).unwrap();
        // Which of the two is the better one depends on the kernel.
        let (rung, other) =
            if name.ends_with("breakpoints") { ("kprobe", "fentry") } else { ("fentry", "kprobe") };
        let builder = Recorder::builder().probe(Wait::default()).forbid_rung(other);
        let builder = builder.filter(filter(&limited, workload.tgid()));
        let mut recording = Recording::start(builder);
        let report = recording.recorder.report();
        super::ladders::facts(report);
        let throttle = report.probes.iter().find(|probe| probe.probe == "wait.throttle").unwrap();
        assert!(throttle.rung.as_deref() == Some(rung), "{report}");
        let before = limited.counted();
        workload.go();
        let deadline = Deadline::new();
        while limited.counted().0 < before.0 + TIMES {
            deadline.check("a cgroup that is stopped again and again");
            recording.poll();
        }
        // A stop that ends while the clock is read may be in the kernel's sum or not. When the process has ended one may go on with
        // nobody left, which the kernel leaves out.
        let (until, after) = loop {
            let (counted, until) = (limited.counted(), kprobe_ebpf::host::clocks().monotonic_ns);
            recording.poll();
            if limited.counted() == counted {
                break (until, counted);
            }
            deadline.check("a moment at which no stop ends");
        };
        workload.close_input();
        recording.run(&mut workload);
        let recorded = recording.finish().lossless();
        let mut throttled: Vec<WaitThrottle> = recorded.all();
        if name == "another cgroup" {
            assert!(throttled.is_empty(), "{throttled:?}");
            continue;
        }
        throttled.retain(|one| one.origin.ktime_ns <= until);
        let (count, total_ns) = (after.0 - before.0, after.1 - before.1);
        assert!(throttled.iter().all(|one| one.cgroup_id == Some(id)), "{name}: {throttled:?}");
        // Where its timer was late the kernel counts as often as it should have come.
        let found = throttled.len() as u64;
        assert!(found > 0 && found <= count + 1, "{name}: {found} of {count}: {throttled:#?}");
        let sum: u64 = throttled.iter().map(WaitThrottle::duration_ns).sum();
        let durations: Vec<_> = throttled.iter().map(WaitThrottle::duration_ns).collect();
        let unpaired = recorded.books.waits.unpaired;
        assert!(
            sum.abs_diff(total_ns) <= total_ns / 20 + 2_000_000,
            "{name}: {sum} of {total_ns}, {found} of {count}, {unpaired} unpaired: {durations:?}"
        );
        // On each CPU one after the other.
        for cpu in throttled.iter().map(|one| one.cpu) {
            let of_cpu = throttled.iter().filter(|one| one.cpu == cpu);
            let mut last = 0;
            for one in of_cpu {
                assert!(one.begin_ns >= last, "{name}: {throttled:#?}");
                last = one.origin.ktime_ns;
            }
        }
    }
    fs::remove_dir(&unlimited).unwrap();
}
