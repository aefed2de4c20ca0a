//! What is recorded is what was selected.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use kprobe_core::{
    abi::PID_LIMIT,
    event::{Event, Syscall, Tgid, Tid},
    pipeline::BatchBuf,
};
use kprobe_ebpf::{
    Filter, Recorder, RecorderBuilder, SelectError, SpawnError, Syscalls,
    filter::SyscallSet,
    host::{self, cgroup2_mount},
};

use super::syscalls::name;
use crate::support::{
    child::Workload,
    kernel::{BpfObjects, Deadline},
    recording::{Recorded, Recording},
    workload::{calls::CODE, sys},
};

crate::trials!(
    a_process_and_its_children,
    a_process_that_is_added_and_removed,
    threads_that_make_calls_all_the_time,
    threads_that_get_the_stacks_of_others,
    a_command_that_forks_before_its_exec,
    what_cannot_be_added,
    a_copy_of_the_process_selects_nothing,
    one_start_of_a_command,
    a_command_in_another_pid_namespace,
    one_thread_of_two,
    a_cgroup_and_those_below,
    cgroups_that_nobody_can_name,
    a_set_of_calls,
    calls_that_take_long,
    this_process_only_when_asked,
);

pub const CALLS: u64 = 1000;

pub fn builder(filter: Filter) -> RecorderBuilder<(Syscalls, ())> {
    Recorder::builder().probe(Syscalls::of(SyscallSet::named(["getppid"]).unwrap())).filter(filter)
}

/// Calls by process.
pub fn calls_by(recorded: &Recorded, id: fn(&Syscall) -> u32) -> BTreeMap<u32, u64> {
    let mut calls = BTreeMap::new();
    for call in recorded.all::<Syscall>() {
        *calls.entry(id(&call)).or_default() += 1;
    }
    calls
}

/// Workloads that wait for the test.
pub fn gates(count: usize, children: u64) -> Vec<Workload> {
    let mut gates: Vec<_> =
        (0..count).map(|_| Workload::start(&format!("gate {CALLS} {children}"))).collect();
    gates.iter_mut().for_each(|gate| assert_eq!(gate.line(), "ready"));
    gates
}

pub fn pass(gates: &mut [Workload]) {
    gates.iter_mut().for_each(Workload::go);
    gates.iter_mut().for_each(|gate| assert_eq!(gate.line(), "done"));
}

fn a_process_and_its_children() {
    let mut gates = gates(2, 2);
    let chosen = gates[0].tgid();
    let recording = Recording::start(builder(Filter::tgids([Tgid(chosen)])));
    pass(&mut gates);
    let recorded = recording.finish().lossless();
    let by_process = calls_by(&recorded, |call| call.origin.tgid.0);
    assert_eq!(by_process.len(), 3, "{by_process:?}");
    assert!(
        by_process.contains_key(&chosen) && by_process.values().all(|calls| *calls == CALLS),
        "{by_process:?}"
    );
    let parents: Vec<_> = recorded
        .all::<Syscall>()
        .iter()
        .filter(|call| call.origin.tgid.0 != chosen)
        .map(|call| call.ret)
        .collect();
    assert!(parents.iter().all(|parent| *parent == Some(chosen.into())));
}

fn a_process_that_is_added_and_removed() {
    let mut gates = gates(1, 0);
    let chosen = Tgid(gates[0].tgid());
    let recording = Recording::start(builder(Filter::none()));
    pass(&mut gates);
    assert!(!recording.recorder.records(chosen));
    recording.recorder.add_process(chosen).unwrap();
    pass(&mut gates);
    recording.recorder.remove_process(chosen).unwrap();
    pass(&mut gates);
    recording.recorder.add_process(chosen).unwrap();
    assert!(recording.recorder.records(chosen));
    pass(&mut gates);
    let recorded = recording.finish().lossless();
    assert_eq!(calls_by(&recorded, |call| call.origin.tgid.0), BTreeMap::from([(chosen.0, 2 * CALLS)]));
    assert_eq!(recorded.books.syscalls.unpaired_exits, 0);
}

/// How often each of a process's threads but the first has gone to sleep: the workload's threads do so after each call.
fn naps(tgid: u32) -> BTreeMap<u32, u64> {
    let naps = |tid: u32| {
        let status = fs::read_to_string(format!("/proc/{tgid}/task/{tid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        (tid, line.trim().parse().unwrap())
    };
    let tasks = fs::read_dir(format!("/proc/{tgid}/task")).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    tids.filter(|tid| *tid != tgid).map(naps).collect()
}

/// They make calls while the programs are being attached and nobody is selected yet.
fn threads_that_make_calls_all_the_time() {
    const THREADS: u64 = 4;
    let mut busy = Workload::start(&format!("busy-threads {THREADS}"));
    assert_eq!(busy.line(), "ready");
    let mut recording = Recording::start(builder(Filter::tgids([Tgid(busy.tgid())])));
    let threads = |events: &[Event], since_ns: u64| {
        let tids: std::collections::BTreeSet<_> = events
            .iter()
            .filter(|event| matches!(event, Event::Syscall(_)) && event.origin().ktime_ns >= since_ns)
            .map(|event| event.origin().tid)
            .collect();
        tids.len() as u64
    };
    recording.poll_until(|events| threads(events, 0) == THREADS);
    // Taken out and in again, by which each of them has been refused.
    recording.recorder.remove_process(Tgid(busy.tgid())).unwrap();
    let before = naps(busy.tgid());
    Deadline::wait_for("each thread to make a call", || {
        naps(busy.tgid()).iter().all(|(tid, naps)| before.get(tid).is_none_or(|before| *naps > before + 1))
    });
    recording.recorder.add_process(Tgid(busy.tgid())).unwrap();
    let again = host::clocks().monotonic_ns;
    recording.poll_until(|events| threads(events, again) == THREADS);
    recording.finish().lossless();
}

/// What the caller has run between fork and exec comes before the child selects itself.
fn a_command_that_forks_before_its_exec() {
    fn fork() -> std::io::Result<()> {
        // SAFETY: the child goes on as its parent would have.
        if unsafe { libc::fork() } != 0 {
            // SAFETY: no preconditions.
            unsafe { libc::_exit(0) };
        }
        (0..10).for_each(|_| assert!(sys::tid() != 0));
        Ok(())
    }
    let mut command = crate::support::child::workload(&format!("getppid {CALLS} 1"));
    // SAFETY: it makes nothing but system calls.
    unsafe { command.pre_exec(fork) };
    let mut recording = Recording::start(builder(Filter::none()));
    let mut parent = recording.spawn_command(&mut command);
    parent.wait();
    recording.poll_until(|events| {
        events.iter().filter(|event| matches!(event, Event::Syscall(_))).count() as u64 == CALLS
    });
    recording.finish().lossless();
}

/// What is remembered of a thread by its kernel stack must not be taken for the next one's there. The kernel gives out
/// the stack again that was freed last on the CPU.
fn threads_that_get_the_stacks_of_others() {
    const TURNS: u64 = 300;
    let mut both: Vec<_> = (0..2).map(|_| Workload::start("thread-by-thread")).collect();
    both.iter_mut().for_each(|one| assert_eq!(one.line(), "ready"));
    let chosen = both[0].tgid();
    let recording = Recording::start(builder(Filter::tgids([Tgid(chosen)])));
    for _ in 0..TURNS {
        for one in &mut both {
            one.go();
            assert_eq!(one.line(), "done");
        }
    }
    let recorded = recording.finish().lossless();
    assert_eq!(calls_by(&recorded, |call| call.origin.tgid.0), BTreeMap::from([(chosen, TURNS)]));
}

fn what_cannot_be_added() {
    let own = std::process::id();
    let recorder = builder(Filter::none()).attach().unwrap();
    let refused = |process: u32| recorder.add_process(Tgid(process)).unwrap_err().to_string();
    for number in [0, PID_LIMIT, u32::MAX] {
        assert_eq!(refused(number), format!("{number} is no process or thread id, expected 1 to 4194303"));
        assert!(!recorder.records(Tgid(number)));
    }
    let mut ended = Workload::start("exit 0");
    ended.wait();
    assert_eq!(refused(ended.tgid()), format!("no process {} (it may have ended)", ended.tgid()));
    let (send, tid) = mpsc::channel();
    let (_held, wait) = mpsc::channel::<()>();
    std::thread::spawn(move || (send.send(sys::tid()).unwrap(), wait.recv().unwrap_err()));
    let tid = tid.recv().unwrap();
    assert!(refused(tid).starts_with(&format!("{tid} is a thread of process {own}")), "{}", refused(tid));
    assert!(!recorder.records(Tgid(tid)));
    drop(recorder);

    let recorder = builder(Filter::tids([Tid(sys::tid())])).attach().unwrap();
    let refused = recorder.add_process(Tgid(own)).unwrap_err();
    assert!(matches!(refused, SelectError::NotSelected), "{refused}");
    assert!(matches!(recorder.remove_process(Tgid(own)), Err(SelectError::NotSelected)));
    assert!(!recorder.records(Tgid(own)));
}

/// The programs look for changes where the process is that attached them.
fn a_copy_of_the_process_selects_nothing() {
    let recorder = builder(Filter::none()).attach().unwrap();
    let own = Tgid(std::process::id());
    // SAFETY: the child makes system calls and comparisons, and ends without destructors.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = [recorder.add_process(own), recorder.remove_process(own)];
        let forked = refused.iter().all(|refused| matches!(refused, Err(SelectError::Forked)));
        // SAFETY: no preconditions.
        unsafe { libc::_exit(i32::from(!forked)) };
    }
    let mut status = -1;
    // SAFETY: the pointer is to an integer of ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    recorder.add_process(own).unwrap();
}

/// Its child would select itself as process 1, which is the host's.
fn a_command_in_another_pid_namespace() {
    let mut recorder = builder(Filter::none()).attach().unwrap();
    let refused = std::thread::scope(|scope| {
        let spawn = || {
            // Only for the children of this thread.
            // SAFETY: takes a flag and no pointer.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
            recorder.spawn(&mut std::process::Command::new("/bin/true"))
        };
        scope.spawn(spawn).join().unwrap()
    });
    assert!(matches!(refused, Err(SpawnError::PidNamespace)), "{refused:?}");
    assert!(!recorder.records(Tgid(1)));
    recorder.spawn(&mut crate::support::child::workload("exit 0")).unwrap().wait().unwrap();
}

/// A `Command` keeps what it runs between fork and exec. It is for the recorder's start only.
fn one_start_of_a_command() {
    let mut command = crate::support::child::workload(&format!("getppid {CALLS} 1"));
    let mut recording = Recording::start(builder(Filter::none()));
    let objects = BpfObjects::own();
    let mut first = recording.spawn_command(&mut command);
    let mut later = Workload::new(command.spawn().unwrap());
    assert!(later.wait().success());
    recording.run(&mut first);
    let recorded = recording.finish().lossless();
    assert_eq!(calls_by(&recorded, |call| call.origin.tgid.0), BTreeMap::from([(first.tgid(), CALLS)]));
    // The maps go although the command is still there.
    objects.wait_until_gone();
    drop(command);
}

fn one_thread_of_two() {
    let mut workload = Workload::start(&format!("two-threads {CALLS}"));
    let other: u32 = workload.line().parse().unwrap();
    let recording = Recording::start(builder(Filter::tids([Tid(other)])));
    workload.go();
    assert!(workload.wait().success());
    let recorded = recording.finish().lossless();
    assert_eq!(calls_by(&recorded, |call| call.origin.tid.0), BTreeMap::from([(other, CALLS)]));
    assert!(recorded.all::<Syscall>().iter().all(|call| call.origin.tgid.0 == workload.tgid()));
}

/// Two nested cgroups of the test's own, removed at its end.
pub struct Cgroups {
    pub outer: PathBuf,
}

impl Cgroups {
    pub fn make() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("kprobe-live-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let outer = cgroup2_mount().unwrap().path.join(name);
        fs::create_dir_all(outer.join("inner")).unwrap();
        Self { outer }
    }

    pub fn inner(&self) -> PathBuf {
        self.outer.join("inner")
    }

    pub fn enter(path: &std::path::Path, tgid: u32) {
        fs::write(path.join("cgroup.procs"), tgid.to_string()).unwrap();
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for path in [self.inner(), self.outer.clone()] {
            Deadline::wait_for("a cgroup to be empty", || fs::remove_dir(&path).is_ok());
        }
    }
}

fn a_cgroup_and_those_below() {
    let cgroups = Cgroups::make();
    let mut gates = gates(3, 0);
    let tgids: Vec<_> = gates.iter().map(Workload::tgid).collect();
    Cgroups::enter(&cgroups.outer, tgids[0]);
    Cgroups::enter(&cgroups.inner(), tgids[1]);
    let mut recording = Recording::start(builder(Filter::cgroup(&cgroups.outer).unwrap()));
    pass(&mut gates);
    // The third comes in, the first goes out.
    Cgroups::enter(&cgroups.inner(), tgids[2]);
    Cgroups::enter(&cgroup2_mount().unwrap().path, tgids[0]);
    pass(&mut gates);
    recording.poll();
    let recorded = recording.finish().lossless();
    let expected = BTreeMap::from([(tgids[0], CALLS), (tgids[1], 2 * CALLS), (tgids[2], CALLS)]);
    assert_eq!(calls_by(&recorded, |call| call.origin.tgid.0), expected);
    let ids: BTreeMap<u64, Option<String>> = recorded
        .all::<Syscall>()
        .iter()
        .map(|call| (call.origin.cgroup_id, None))
        .chain(recorded.events.iter().filter_map(|event| match event {
            Event::CgroupNamed(name) => Some((name.origin.cgroup_id, Some(name.text().into_owned()))),
            _ => None,
        }))
        .collect();
    let names: Vec<_> = ids.values().map(|name| name.clone().unwrap()).collect();
    let outer = cgroups.outer.file_name().unwrap().to_str().unwrap();
    assert_eq!(names, [outer, "inner"]);
    drop(gates);
}

/// Cgroups that have gone when their records are drained, which alternate: looking for them again and again would take
/// longer than the records do.
fn cgroups_that_nobody_can_name() {
    const ROUNDS: usize = 200;
    let test = || {
        // One CPU, so that all the records are in one ring.
        sys::pin_to(sys::cpus()[0]);
        let cgroups = Cgroups::make();
        let mut gates: Vec<_> = (0..2).map(|_| Workload::start("gate 1 0")).collect();
        gates.iter_mut().for_each(|gate| assert_eq!(gate.line(), "ready"));
        Cgroups::enter(&cgroups.outer, gates[0].tgid());
        Cgroups::enter(&cgroups.inner(), gates[1].tgid());
        let mut recording =
            Recording::start(builder(Filter::tgids(gates.iter().map(|gate| Tgid(gate.tgid())))));
        for _ in 0..ROUNDS {
            for gate in &mut gates {
                gate.go();
                assert_eq!(gate.line(), "done");
            }
        }
        drop(gates);
        drop(cgroups);

        let opens = Recorder::builder().probe(Syscalls::of(SyscallSet::named(["openat"]).unwrap()));
        let own = Filter::tids([Tid(sys::tid())]).include_self(true);
        let opens = Recording::start(opens.filter(own));
        let mut buf = BatchBuf::default();
        recording.recorder.drain(&mut buf).unwrap();
        // Some of them are of ending this recording.
        let opens = opens.finish().lossless().all::<Syscall>().len();
        assert!(opens < 40, "{opens} files opened");

        recording.take(&buf.take());
        let calls = recording.finish().lossless().all::<Syscall>();
        let changes = calls.windows(2).filter(|two| two[0].origin.cgroup_id != two[1].origin.cgroup_id);
        assert_eq!((calls.len(), changes.count()), (2 * ROUNDS, 2 * ROUNDS - 1));
    };
    std::thread::spawn(test).join().unwrap();
}

fn a_set_of_calls() {
    let set = SyscallSet::named(["=read", "pread64", "getppid", "exit_group"]).unwrap();
    let mut recording = Recording::start(Recorder::builder().probe(Syscalls::of(set)).filter(Filter::none()));
    let mut workload = recording.spawn("known-calls");
    assert_eq!(recording.run_to_any_end(&mut workload).code(), Some(CODE as i32));
    let recorded = recording.finish().lossless();
    assert_eq!(recorded.books.syscalls, kprobe_ebpf::SyscallCounts::default());
    let calls = recorded.all::<Syscall>();
    // The dynamic loader reads as well.
    let names: Vec<_> = calls.iter().map(name).collect();
    assert!(names.ends_with(&["read", "read", "pread64", "pread64", "getppid", "exit_group"]), "{names:?}");
    assert!(
        names.iter().all(|name| ["read", "pread64", "getppid", "exit_group"].contains(name)),
        "{names:?}"
    );
}

fn calls_that_take_long() {
    const LEAST: Duration = Duration::from_millis(25);
    let builder = Recorder::builder().probe(Syscalls::all().min_duration(LEAST)).filter(Filter::none());
    let (recorded, ..) = Recording::of_workload(builder, "sleeps 100 60000 100 40000 100 30000 100");
    let calls = recorded.lossless().all::<Syscall>();
    let least = LEAST.as_nanos() as u64;
    assert!(calls.iter().all(|call| call.duration_ns().is_none_or(|took| took >= least)), "{calls:?}");
    // A call that never returns has no duration and is recorded.
    assert_eq!(calls.iter().filter(|call| call.ret.is_none()).map(name).collect::<Vec<_>>(), ["exit_group"]);
    let sleeps: Vec<_> = calls.iter().filter(|call| name(call) == "nanosleep").collect();
    // On a busy machine a short sleep may take long as well.
    assert!(sleeps.len() >= 3, "{sleeps:?}");
    for at_least in [60_000_000, 40_000_000, 30_000_000] {
        assert!(sleeps.iter().any(|sleep| sleep.duration_ns().unwrap() >= at_least), "{sleeps:?}");
    }
}

fn this_process_only_when_asked() {
    let own = Filter::tgids([Tgid(std::process::id())]);
    for (asked, expected) in [(true, 10), (false, 0)] {
        let recording = Recording::start(builder(own.clone().include_self(asked)));
        for _ in 0..10 {
            sys::call(libc::SYS_getppid, [0; 6]);
        }
        let recorded = recording.finish().lossless();
        let calls = recorded.all::<Syscall>();
        assert_eq!(calls.len(), expected);
        assert!(calls.iter().all(|call| call.origin.tid.0 == sys::tid()));
    }
}
