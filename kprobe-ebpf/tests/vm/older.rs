//! Kernels before 6.1: what is recorded there, and that the rest says why it is not.

use std::collections::BTreeMap;

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use caps::Capability;
use kprobe_core::{abi::Family, event::Syscall};
use kprobe_ebpf::{
    AttachError, Block, By, Filter, Irq, Lock, Memory, Outcome, Pipes, Process, Recorder, Sched, Security,
    Syscalls, Tcp, UnixStreams, host,
};
use libtest_mimic::Trial;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::privilege::give_up_all_but;
use crate::support::{child::Workload, kernel::BpfObjects, recording::Recording};

mod there {
    use super::*;

    crate::trials!(
        what_is_off_says_why,
        durations_are_not_summed_up,
        entries_of_threads_that_end_are_not_kept,
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
        .filter(Filter::none())
        .attach()
        .unwrap();
    let report = recorder.report().clone();
    let on: BTreeMap<_, _> =
        report.attached().map(|probe| (probe.probe.as_str(), probe.rung.as_deref().unwrap())).collect();
    let expected = [
        "irq.hard",
        "irq.soft",
        "process.exec",
        "process.exit",
        "process.fork",
        "process.rename",
        "sched.migrate",
        "sched.switch",
        "sched.waking",
        "syscall",
    ];
    assert_eq!(on, expected.map(|event| (event, "tp_btf")).into(), "{report}");
    let off: Vec<_> = report.probes.iter().filter(|probe| probe.rung.is_none()).collect();
    assert_eq!(off.len(), report.probes.len() - expected.len());
    assert!(off.len() >= 20, "{report}");
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

fn durations_are_not_summed_up() {
    let builder = Recorder::builder().probe(Syscalls::all()).filter(Filter::none());
    let error = builder.aggregate(Family::Syscall, By::Tgid).attach().unwrap_err();
    assert!(matches!(error, AttachError::AggregateKernel { .. }), "{error:?}");
    assert!(BpfObjects::own().is_empty());
}

/// Keys in a hash map of this process.
fn entries(name: &str) -> usize {
    let own = BpfObjects::own();
    let map = loaded_maps()
        .map(Result::unwrap)
        .find(|map| own.maps.contains(&map.id()) && map.name_as_str() == Some(name));
    let map = Map::HashMap(MapData::from_id(map.unwrap().id()).unwrap());
    HashMap::<_, u64, [u8; 32]>::try_from(map).unwrap().keys().map(Result::unwrap).count()
}

fn entries_of_threads_that_end_are_not_kept() {
    for (map, forbidden) in [("TASKS", &[][..]), ("ENTERS", &["tp_btf", "raw_tp", "tracepoint"])] {
        let builder = Recorder::builder().require(Syscalls::all()).filter(Filter::none());
        let builder = forbidden.iter().fold(builder, |builder, rung| builder.forbid_rung(*rung));
        let mut recording = Recording::start(builder);
        let mut gate = recording.spawn("gate 10 5");
        assert_eq!(gate.line(), "ready");
        assert_eq!(entries(map), 1);
        gate.go();
        assert_eq!(gate.line(), "done");
        assert_eq!(entries(map), 1);
        gate.close_input();
        recording.run(&mut gate);
        assert_eq!(entries(map), 0);
        let recorded = recording.finish().lossless();
        let calls = recorded.all::<Syscall>();
        let own = calls.iter().filter(|call| call.nr.is_some_and(|nr| i64::from(nr.nr) == libc::SYS_getppid));
        assert_eq!(own.count(), 60);
    }
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
