//! Recording everything.

use std::{collections::BTreeSet, path::Path, time::Duration};

use kprobe_core::{
    abi::Kind,
    event::{Event, ProcessExec, ProcessExit, ProcessFork, Syscall},
};
use kprobe_ebpf::{
    Block, Filter, Irq, Lock, Memory, Need, Paths, Pipes, Process, Recorder, RecorderBuilder, Sched,
    Security, Syscalls, Tcp, Udp, UnixStreams, Wait, host,
};

use crate::support::{
    child::{Workload, own_path},
    recording::Recording,
    times,
};

crate::trials!(
    locks_under_load,
    a_workload_in_the_whole,
    nothing_of_the_recorder_itself,
    rings_too_small_under_load
);

type All = (Sched, (Process, (Syscalls, ())));

pub fn all() -> RecorderBuilder<All> {
    Recorder::builder()
        .require(Syscalls::all())
        .require(Process::default())
        .require(Sched::default())
        .filter(Filter::all())
}

/// Everything that there is a probe for, each of its events. Before 6.1 there is a little less: see `older`.
pub fn every_family() -> RecorderBuilder<impl Sized> {
    // A file that every workload is begun from.
    every_family_with(&own_path())
}

/// Likewise, with the paths that are in this directory, or that is this file.
pub fn every_family_with(allowed: &Path) -> RecorderBuilder<impl Sized + use<>> {
    let is_older = !host::kernel_release().unwrap().at_least(6, 1);
    let (need, lock) = if is_older {
        (Need::Optional, Lock::default().without_contention())
    } else {
        (Need::Required, Lock::default())
    };
    all()
        .require(Tcp::default())
        .require(Udp::default())
        .probe_with(need, UnixStreams::default())
        .require(Pipes::default())
        .require(Block::default())
        .require(Memory::default().minor_faults(1))
        .require(lock)
        .probe_with(need, Wait::default())
        .require(Irq::default().min_duration(Duration::ZERO))
        .require(Security::default())
        .probe_with(need, Paths::allow([allowed]).unwrap())
}

fn a_workload_in_the_whole() {
    const CALLS: usize = 20_000;
    let mut recording = Recording::start(all().ring_bytes(64 << 20));
    let mut calls = Workload::start(&format!("getppid {} 2", CALLS / 2));
    recording.run(&mut calls);
    let mut children = Workload::start("children 20");
    let lines = recording.run(&mut children);
    let recorded = recording.finish().lossless();
    let getppids = recorded
        .all::<Syscall>()
        .iter()
        .filter(|call| {
            call.origin.tgid.0 == calls.tgid()
                && call.nr.is_some_and(|nr| i64::from(nr.nr) == libc::SYS_getppid)
        })
        .count();
    assert_eq!(getppids, CALLS);
    let (forks, execs, exits) =
        (recorded.all::<ProcessFork>(), recorded.all::<ProcessExec>(), recorded.all::<ProcessExit>());
    assert_eq!(lines.len(), 20);
    for line in lines {
        let child: u32 = line.split(' ').next().unwrap().parse().unwrap();
        let fork = forks.iter().filter(|fork| fork.child_tid.0 == child).collect::<Vec<_>>();
        let exec = execs.iter().filter(|exec| exec.origin.tgid.0 == child).collect::<Vec<_>>();
        let exit = exits.iter().filter(|exit| exit.origin.tgid.0 == child).collect::<Vec<_>>();
        assert_eq!((fork.len(), exec.len(), exit.len()), (1, 1, 1));
        let tgid = children.tgid();
        assert_eq!((fork[0].parent_tgid.0, exec[0].parent_tgid.0, exit[0].parent_tgid.0), (tgid, tgid, tgid));
        assert!(exit[0].process_ended);
    }
    // Switches form a chain on each CPU: who gets it is who leaves it next.
    let mut on_cpu = std::collections::BTreeMap::new();
    let mut broken = 0;
    for event in &recorded.events {
        if let Event::SchedSwitch(switch) = event {
            let before = on_cpu.insert(switch.origin.cpu, switch.next_tid);
            broken += u64::from(before.is_some_and(|tid| tid != switch.origin.tid));
        }
    }
    // A switch between the recorder and the idle task selects nobody.
    assert!(on_cpu.len() >= 2 && broken * 2 < recorded.books.received(Kind::SCHED_SWITCH), "{broken}");
}

/// Programs at the kernel's locks, where everything else contends for them, the lock of the ring too: nothing may come to
/// a stop. With a ring that is always full, then with one that is not.
fn locks_under_load() {
    for ring_bytes in [rustix::param::page_size(), 16 << 20] {
        let builder = all().require(Lock::default()).ring_bytes(ring_bytes);
        let mut recording = Recording::keeping(builder, |_| false);
        let mut busy: Vec<_> =
            ["getppid 20000 4", "futex-ping-pong 2000", "contention 2", "ping-pong 1000", "getppid 20000 4"]
                .iter()
                .map(|text| Workload::start(text))
                .collect();
        for workload in &mut busy {
            workload.close_input();
            recording.run(workload);
        }
        let books = recording.finish().books;
        for kind in [Kind::LOCK_CONTENTION, Kind::LOCK_FUTEX, Kind::LOCK_FUTEX_WAKE] {
            assert!(books.submitted(kind) > 0, "{kind}: {:?}", books.rows);
        }
    }
}

fn nothing_of_the_recorder_itself() {
    let own = std::process::id();
    let mut recording = Recording::start(all());
    let mut workload = Workload::start("getppid 1000 1");
    recording.run(&mut workload);
    let recorded = recording.finish();
    let calls = recorded.all::<Syscall>();
    assert!(calls.iter().any(|call| call.origin.tgid.0 == workload.tgid()));
    assert!(calls.iter().all(|call| call.origin.tgid.0 != own));
    for event in &recorded.events {
        match event {
            Event::SchedWaking(waking) => assert_ne!(waking.wakee_tgid.0, own, "{waking:?}"),
            Event::SchedMigrate(moved) => assert_ne!(moved.moved_tgid.0, own, "{moved:?}"),
            Event::ProcessExit(exit) => assert_ne!(exit.origin.tgid.0, own, "{exit:?}"),
            _ => {}
        }
    }
}

/// I6: rings of a page, the whole machine, everything busy.
fn rings_too_small_under_load() {
    let page = rustix::param::page_size();
    let mut recording = Recording::keeping(all().ring_bytes(page), |_| false);
    let mut busy: Vec<_> = ["getppid 30000 4", "forks", "ping-pong 2000", "children 50"]
        .iter()
        .map(|text| Workload::start(text))
        .collect();
    let mut ended = BTreeSet::new();
    while ended.len() < busy.len() {
        recording.poll();
        for (at, workload) in busy.iter_mut().enumerate() {
            workload.close_input();
            if workload.child.try_wait().unwrap().is_some_and(|status| status.success() || panic!("{status}"))
            {
                ended.insert(at);
            }
        }
    }
    let books = recording.finish().books;
    assert!(books.submitted(Kind::SYSCALL) > u64::from(times(100_000)));
    assert!(books.received(Kind::SYSCALL) > 0 && books.lost_in_all() > 0, "{:?}", books.rows);
}
