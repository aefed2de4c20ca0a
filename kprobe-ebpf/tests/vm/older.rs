//! Kernels before 6.1: what is recorded there, and that the rest says why it is not.

use std::collections::BTreeMap;

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use caps::Capability;
use kprobe_core::event::Syscall;
use kprobe_ebpf::{
    Block, Filter, Irq, Lock, Memory, Outcome, Paths, Pipes, Process, Recorder, Sched, Security, Syscalls,
    Tcp, Udp, UnixStreams, Wait, host,
};
use libtest_mimic::Trial;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::privilege::give_up_all_but;
use crate::support::{child::Workload, kernel::BpfObjects, recording::Recording};

mod there {
    use super::*;

    crate::trials!(
        what_is_off_says_why,
        entries_of_threads_that_end_are_not_kept,
        faults_of_threads_that_end_are_not_kept,
        locked_memory
    );
}

/// Elsewhere they are not tests.
pub fn trials() -> Vec<Trial> {
    if host::kernel_release().unwrap().at_least(6, 1) { Vec::new() } else { there::trials() }
}

fn what_is_off_says_why() {
    let recorder = Recorder::builder()
        .probe(Process::default())
        .probe(Sched::default())
        .probe(Syscalls::all())
        .probe(Irq::default())
        .probe(Tcp::default())
        .probe(UnixStreams::default())
        .probe(Pipes::default())
        .probe(Block::default())
        .probe(Memory::default().minor_faults(1))
        .probe(Lock::default())
        .probe(Security::default())
        .probe(Udp::default())
        .probe(Wait::default())
        .probe(Paths::allow(["/"]).unwrap())
        .filter(Filter::none())
        .attach()
        .unwrap();
    let report = recorder.report().clone();
    let on: BTreeMap<_, _> =
        report.attached().map(|probe| (probe.probe.as_str(), probe.rung.as_deref().unwrap())).collect();
    let expected = [
        ("block.merge", "tp_btf"),
        ("block.request", "tp_btf"),
        ("irq.hard", "tp_btf"),
        ("irq.soft", "tp_btf"),
        ("lock.futex", "tp_btf"),
        ("lock.futex_wake", "tp_btf"),
        ("memory.compaction", "tp_btf"),
        ("memory.fault_major", "fentry"),
        ("memory.fault_minor", "fentry"),
        ("memory.oom_kill", "fentry"),
        ("memory.reclaim", "tp_btf"),
        ("pipe.read", "fentry"),
        ("pipe.write", "fentry"),
        ("process.exec", "tp_btf"),
        ("process.exit", "tp_btf"),
        ("process.fork", "tp_btf"),
        ("process.rename", "tp_btf"),
        ("sched.migrate", "tp_btf"),
        ("sched.switch", "tp_btf"),
        ("sched.waking", "tp_btf"),
        ("security.capability", "fentry"),
        ("syscall", "tp_btf"),
        ("tcp.accept", "fentry"),
        ("tcp.connect", "tp_btf"),
        ("tcp.recv", "tp_btf"),
        ("tcp.retransmit", "tp_btf"),
        ("tcp.send", "fentry"),
        ("tcp.state", "tp_btf"),
        ("udp.recv", "fentry"),
        ("udp.send", "fentry"),
    ];
    assert_eq!(on, expected.into(), "{report}");
    let off: Vec<_> = report.probes.iter().filter(|probe| probe.rung.is_none()).collect();
    let names: Vec<_> = off.iter().map(|probe| probe.probe.as_str()).collect();
    assert_eq!(
        names,
        [
            "unix.send",
            "unix.recv",
            "lock.contention",
            "wait.blocked",
            "wait.epoll",
            "wait.throttle",
            "path.exec",
            "path.open"
        ]
    );
    for probe in off {
        assert!(!probe.ladder.is_empty());
        for rung in &probe.ladder {
            let Outcome::Refused(reason) = &rung.outcome else { panic!("{}: {rung:?}", probe.probe) };
            // Something of the kernel, by name.
            let is_said =
                ["needs ", "this kernel has no ", " passes (", "expected ", "has no field ", "no struct "];
            assert!(
                is_said.iter().any(|start| reason.contains(start)),
                "{} at {}: {reason}",
                probe.probe,
                rung.rung
            );
        }
    }
    assert_eq!(report.wake_context.as_deref(), Some("counted at the entry and exit of interrupts"));
    drop(recorder);
    assert!(BpfObjects::own().is_empty());
}

/// Keys in a hash map of this process, whose values have so many bytes.
fn entries<const BYTES: usize>(name: &str) -> usize {
    let own = BpfObjects::own();
    let map = loaded_maps()
        .map(Result::unwrap)
        .find(|map| own.maps.contains(&map.id()) && map.name_as_str() == Some(name));
    let map = Map::HashMap(MapData::from_id(map.unwrap().id()).unwrap());
    HashMap::<_, u64, [u8; BYTES]>::try_from(map).unwrap().keys().map(Result::unwrap).count()
}

fn entries_of_threads_that_end_are_not_kept() {
    for (map, forbidden) in [("TASKS", &[][..]), ("ENTERS", &["tp_btf", "raw_tp", "tracepoint"])] {
        let builder = Recorder::builder().require(Syscalls::all()).filter(Filter::none());
        let builder = forbidden.iter().fold(builder, |builder, rung| builder.forbid_rung(*rung));
        let mut recording = Recording::start(builder);
        let mut gate = recording.spawn("gate 10 5");
        assert_eq!(gate.line(), "ready");
        assert_eq!(entries::<32>(map), 1);
        gate.go();
        assert_eq!(gate.line(), "done");
        assert_eq!(entries::<32>(map), 1);
        gate.close_input();
        recording.run(&mut gate);
        assert_eq!(entries::<32>(map), 0);
        let recorded = recording.finish().lossless();
        let calls = recorded.all::<Syscall>();
        let own = calls.iter().filter(|call| call.nr.is_some_and(|nr| i64::from(nr.nr) == libc::SYS_getppid));
        assert_eq!(own.count(), 60);
    }
}

fn faults_of_threads_that_end_are_not_kept() {
    const FAULT: usize = 48;
    let builder = Recorder::builder().require(Memory::default()).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let mut gate = recording.spawn("gate 10 5");
    assert_eq!(gate.line(), "ready");
    // Its own, and while they are there those of its children.
    assert_eq!(entries::<FAULT>("FAULTS"), 1);
    gate.go();
    assert_eq!(gate.line(), "done");
    gate.close_input();
    recording.run(&mut gate);
    assert_eq!(entries::<FAULT>("FAULTS"), 0);
    let faults = recording.recorder.minor_faults();
    assert!(faults > 5, "{faults}");
    recording.finish().lossless();
}

/// The workload: attaches without CAP_SYS_RESOURCE, within two limits.
#[expect(clippy::print_stdout, reason = "a workload reports on its standard output")]
pub fn attach_within_limits() {
    const MANY: u64 = 128 << 20;
    let limit = |bytes| Rlimit { current: Some(64 << 10), maximum: Some(bytes) };
    setrlimit(Resource::Memlock, limit(MANY)).unwrap();
    give_up_all_but(&[Capability::CAP_BPF, Capability::CAP_PERFMON].into_iter().collect());
    let builder = || Recorder::builder().require(Syscalls::all()).filter(Filter::none());
    // The soft limit is raised to the hard one.
    let recorder = builder().attach().unwrap();
    assert_eq!(getrlimit(Resource::Memlock).current, Some(MANY));
    println!("{}", recorder.report().notes.join("; "));
    drop(recorder);
    setrlimit(Resource::Memlock, limit(1 << 20)).unwrap();
    println!("{}", builder().attach().unwrap_err());
    assert!(BpfObjects::own().is_empty());
}

fn locked_memory() {
    let mut workload = Workload::start("attach-within-limits");
    let lines = workload.lines();
    assert!(workload.wait().success(), "{lines:?}");
    let [note, error] = &lines[..] else { panic!("{lines:?}") };
    assert!(note.contains("131072 KiB (`ulimit -l`); with CAP_SYS_RESOURCE there is no limit"), "{note}");
    let start = "the maps need more locked memory than this process may have, which is 1024 KiB: ";
    assert!(error.starts_with(start) && error.contains("CAP_SYS_RESOURCE"), "{error}");
}
