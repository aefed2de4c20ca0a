//! A recorder that goes on with other settings, and loses nothing by it.

use std::{collections::BTreeMap, time::Duration};

use kprobe_core::{
    abi::{Family, Kind},
    event::{Sampling, Tgid},
};
use kprobe_ebpf::{
    Change, Filter, Fixed, Memory, Recorder, RecorderBuilder, RetuneError, Retuned, Syscalls,
    filter::{FilterError, SyscallSet},
    host::cgroup2_mount,
};

use super::filters::{CALLS, Cgroups, builder, calls_by, gates, pass};
use crate::support::{child::Workload, recording::Recording};

crate::trials!(
    sampling_changes,
    processes_come_and_go,
    cgroups_come_and_go,
    the_rest_is_fixed,
    what_cannot_be
);

fn getppid() -> Syscalls {
    Syscalls::of(SyscallSet::named(["getppid"]).unwrap())
}

fn changed<P, Q>(recording: &mut Recording<P>, wanted: &RecorderBuilder<Q>) -> Vec<Change> {
    let Retuned { changed, fixed, .. } = recording.recorder.retune(wanted).unwrap();
    assert_eq!(fixed, []);
    changed
}

fn sampling_changes() {
    let mut recording = Recording::start(builder(Filter::none()));
    let mut workload = recording.spawn(&format!("gate {CALLS} 0"));
    assert_eq!(workload.line(), "ready");
    let of = |syscalls: Syscalls| Recorder::builder().probe(syscalls).filter(Filter::none());
    let second = Duration::from_secs(1);
    for (wanted, expected) in [
        (of(getppid()), None),
        (of(getppid().sample(100)), Some((100, Duration::ZERO))),
        (of(getppid().sample(100)), None),
        (of(getppid().min_duration(second)), Some((1, second))),
        (of(getppid()), Some((1, Duration::ZERO))),
    ] {
        let expected: Vec<_> = expected
            .map(|(one_in, min_duration)| Change::Sampling { family: Family::Syscall, one_in, min_duration })
            .into_iter()
            .collect();
        assert_eq!(changed(&mut recording, &wanted), expected);
        workload.go();
        assert_eq!(workload.line(), "done");
        recording.poll();
    }
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    let said: Vec<_> =
        recorded.all::<Sampling>().iter().map(|said| (said.one_in, said.min_duration_ns)).collect();
    assert_eq!(said, [(100, 0), (1, 1_000_000_000), (1, 0)]);
    // All, twice one in a hundred on each CPU that it ran on, none, all.
    let kept = recorded.books.submitted(Kind::SYSCALL);
    let cpus = kprobe_ebpf::host::possible_cpus().unwrap().count() as u64;
    assert!((2 * CALLS + 2 * CALLS / 100..=2 * CALLS + 2 * CALLS / 100 + cpus).contains(&kept), "{kept}");
}

fn processes_come_and_go() {
    let mut gates = gates(3, 0);
    let tgids: Vec<_> = gates.iter().map(|gate| Tgid(gate.tgid())).collect();
    let of = |selected: &[usize]| builder(Filter::tgids(selected.iter().map(|at| tgids[*at])));
    let mut recording = Recording::start(of(&[0, 1]));
    pass(&mut gates);
    let change = changed(&mut recording, &of(&[2, 1]));
    assert_eq!(change, [Change::AddedProcesses(vec![tgids[2]]), Change::RemovedProcesses(vec![tgids[0]])]);
    pass(&mut gates);
    // One that has ended may still be named, where it is not new.
    let mut ended = gates.remove(1);
    ended.close_input();
    recording.run(&mut ended);
    assert_eq!(changed(&mut recording, &of(&[1, 2])), []);
    assert_eq!(changed(&mut recording, &of(&[1])), [Change::RemovedProcesses(vec![tgids[2]])]);
    pass(&mut gates);
    let recorded = recording.finish().lossless();
    let expected = BTreeMap::from([(tgids[0].0, CALLS), (tgids[1].0, 2 * CALLS), (tgids[2].0, CALLS)]);
    assert_eq!(calls_by(&recorded, |call| call.origin.tgid.0), expected);
    assert_eq!(recorded.books.syscalls.unpaired_exits, 0);
}

fn cgroups_come_and_go() {
    let (one, other) = (Cgroups::make(), Cgroups::make());
    let mut gates = gates(3, 0);
    let tgids: Vec<_> = gates.iter().map(Workload::tgid).collect();
    Cgroups::enter(&one.outer, tgids[0]);
    Cgroups::enter(&other.inner(), tgids[1]);
    Cgroups::enter(&other.outer, tgids[2]);
    let first = || Filter::cgroup(&one.outer).unwrap();
    let mut recording = Recording::start(builder(first()));
    pass(&mut gates);
    // One level deeper than all that was selected.
    let inner = Filter::cgroup(other.inner()).unwrap();
    let change = changed(&mut recording, &builder(first().or(inner.clone())));
    assert_eq!(change, [Change::AddedCgroups(vec![other.inner()])]);
    pass(&mut gates);
    assert_eq!(changed(&mut recording, &builder(inner)), [Change::RemovedCgroups(vec![one.outer.clone()])]);
    pass(&mut gates);
    recording.poll();
    let recorded = recording.finish().lossless();
    let expected = BTreeMap::from([(tgids[0], 2 * CALLS), (tgids[1], 2 * CALLS)]);
    assert_eq!(calls_by(&recorded, |call| call.origin.tgid.0), expected);
    gates.iter().for_each(|gate| Cgroups::enter(&cgroup2_mount().unwrap().path, gate.tgid()));
}

fn the_rest_is_fixed() {
    let start = || Recorder::builder().probe(getppid()).filter(Filter::none());
    let mut recording = Recording::start(start());
    let mut fixed = |wanted: RecorderBuilder<(Syscalls, ())>| {
        let Retuned { changed, fixed, .. } = recording.recorder.retune(&wanted).unwrap();
        assert_eq!(changed, []);
        fixed
    };
    assert_eq!(fixed(start()), []);
    assert_eq!(fixed(start().ring_bytes(1 << 20)), [Fixed::RingBytes]);
    assert_eq!(fixed(start().forbid_rung("tp_btf")), [Fixed::ForbiddenRungs]);
    assert_eq!(fixed(start().aggregate_every(Duration::from_secs(7))), [Fixed::Aggregation]);
    assert_eq!(fixed(start().filter(Filter::all())), [Fixed::Filter]);
    let others = Syscalls::of(SyscallSet::named(["getpid"]).unwrap());
    let builder = Recorder::builder().probe(others).filter(Filter::none()).ring_bytes(1 << 20);
    assert_eq!(fixed(builder), [Fixed::Family(Family::Syscall), Fixed::RingBytes]);

    let more = start().probe(Memory::default());
    assert_eq!(recording.recorder.retune(&more).unwrap().fixed, [Fixed::Probes]);
    // It is as it was all the same.
    let mut workload = recording.spawn("getppid 10 1");
    recording.run(&mut workload);
    assert_eq!(recording.finish().lossless().books.submitted(Kind::SYSCALL), 10);
}

fn what_cannot_be() {
    let mut gate = gates(1, 0);
    let own = Tgid(gate[0].tgid());
    let of = |filter| Recorder::builder().probe(getppid().sample(7)).filter(filter);
    let mut recording = Recording::start(builder(Filter::tgids([own])));
    // A zombie has a number, this one is nobody's.
    let nobody = Tgid(kprobe_core::abi::PID_LIMIT - 1);
    let error = recording.recorder.retune(&of(Filter::tgids([own, nobody]))).unwrap_err();
    assert!(matches!(error, RetuneError::Filter(FilterError::NoProcess { .. })), "{error}");
    let error = recording.recorder.retune(&of(Filter::tgids([own])).ring_bytes(1000)).unwrap_err();
    assert!(matches!(error, RetuneError::Settings(_)), "{error}");
    pass(&mut gate);
    // Nothing was changed, so none was left out.
    let recorded = recording.finish().lossless();
    assert_eq!(calls_by(&recorded, |call| call.origin.tgid.0), BTreeMap::from([(own.0, CALLS)]));
    assert_eq!(recorded.all::<Sampling>(), []);
}
