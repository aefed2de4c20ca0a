//! Processes and threads, from their fork to their exit.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use kprobe_core::event::{Comm, Device, ProcessExec, ProcessExit, ProcessFork, ProcessRename};
use kprobe_ebpf::{Filter, Process, Recorder};

use crate::support::{
    child::own_path,
    recording::{Recorded, Recording},
    times,
    workload::life::NAMES,
};

crate::trials!(
    a_thousand_children,
    every_exit_code,
    deaths_by_signals,
    a_process_ends_once,
    an_exec_by_another_thread,
    names,
    threads_and_processes,
);

fn record(workload: &str) -> (Recorded, Vec<String>, u32) {
    let builder = Recorder::builder().probe(Process::default()).filter(Filter::none());
    let (recorded, lines, tgid) = Recording::of_workload(builder, workload);
    (recorded.lossless(), lines, tgid)
}

/// Pairs of numbers that a workload wrote.
fn pairs(lines: &[String]) -> Vec<(u32, u32)> {
    let pair = |line: &String| {
        let (one, two) = line.split_once(' ')?;
        Some((one.parse().ok()?, two.parse().ok()?))
    };
    lines.iter().map(|line| pair(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// For each process its end.
fn ends(recorded: &Recorded) -> BTreeMap<u32, ProcessExit> {
    let mut ends = BTreeMap::new();
    for exit in recorded.all::<ProcessExit>().into_iter().filter(|exit| exit.process_ended) {
        let before = ends.insert(exit.origin.tgid.0, exit);
        assert!(before.is_none(), "ended twice: {before:?}, {exit:?}");
    }
    ends
}

fn a_thousand_children() {
    let count = times(1000);
    let (recorded, lines, tgid) = record(&format!("children {count}"));
    let children = pairs(&lines);
    assert_eq!(children.len(), count as usize);
    let exe = std::fs::metadata(own_path()).unwrap();
    let device = Device { major: libc::major(exe.dev()), minor: libc::minor(exe.dev()) };
    let comm = Comm::from_text(own_path().file_name().unwrap().as_encoded_bytes());

    let forks = recorded.all::<ProcessFork>();
    let execs = recorded.all::<ProcessExec>();
    let ends = ends(&recorded);
    // The workload itself was started before it was recorded: it has an exec and an end.
    assert_eq!(
        (forks.len(), execs.len(), ends.len()),
        (children.len(), children.len() + 1, children.len() + 1)
    );
    for (number, ((fork, exec), (child, status))) in forks.iter().zip(&execs[1..]).zip(children).enumerate() {
        assert_eq!((fork.origin.tgid.0, fork.origin.tid.0), (tgid, tgid));
        assert_eq!((fork.child_tgid.0, fork.child_tid.0, fork.parent_tgid.0), (child, child, tgid));
        assert!(!fork.is_thread());
        assert_eq!((exec.origin.tgid.0, exec.origin.tid.0, exec.old_tid.0), (child, child, child));
        assert_eq!((exec.parent_tgid.0, exec.comm, exec.exe), (tgid, comm, Some((exe.ino(), device))));
        assert_eq!(exec.start_ns, fork.child_start_ns);
        let end = ends[&child];
        assert_eq!((end.parent_tgid.0, end.status, end.start_ns), (tgid, status, fork.child_start_ns));
        assert_eq!((end.code(), end.signal(), end.dumped_core()), (Some((number % 256) as u8), None, false));
        let times = [fork.origin.ktime_ns, exec.origin.ktime_ns, end.origin.ktime_ns];
        assert!(times.is_sorted(), "{times:?}");
    }
}

fn every_exit_code() {
    let (recorded, lines, _) = record("exit-codes");
    let ends = ends(&recorded);
    for (code, (child, status)) in pairs(&lines).into_iter().enumerate() {
        let end = ends[&child];
        assert_eq!((end.status, end.code(), end.signal()), (status, u8::try_from(code).ok(), None));
    }
    assert_eq!(ends.len(), 257);
}

fn deaths_by_signals() {
    let (recorded, lines, _) = record("signals");
    let ends = ends(&recorded);
    let mut signals = Vec::new();
    for (child, status) in pairs(&lines) {
        let end = ends[&child];
        assert_eq!((end.status, end.code()), (status, None));
        assert_eq!(end.dumped_core(), status & 0x80 != 0);
        signals.push(i32::from(end.signal().unwrap()));
    }
    let expected = [
        libc::SIGTERM,
        libc::SIGKILL,
        libc::SIGINT,
        libc::SIGALRM,
        libc::SIGSEGV,
        libc::SIGABRT,
        libc::SIGQUIT,
    ];
    assert_eq!(signals, expected);
}

fn a_process_ends_once() {
    const THREADS: usize = 8;
    let processes = times(200);
    let (recorded, lines, tgid) = record(&format!("threads-end {processes} {THREADS}"));
    let ends = ends(&recorded);
    assert_eq!(ends.len(), processes as usize + 1);
    let exits = recorded.all::<ProcessExit>();
    for (child, status) in pairs(&lines) {
        let of_child: Vec<_> = exits.iter().filter(|exit| exit.origin.tgid.0 == child).collect();
        assert_eq!(of_child.len(), THREADS, "{of_child:?}");
        let mut tids: Vec<_> = of_child.iter().map(|exit| exit.origin.tid).collect();
        tids.sort();
        tids.dedup();
        assert_eq!(tids.len(), THREADS);
        assert_eq!((ends[&child].status, ends[&child].parent_tgid.0), (status, tgid));
    }
}

fn an_exec_by_another_thread() {
    let (recorded, lines, _) = record("thread-execs");
    let thread: u32 = lines[0].parse().unwrap();
    let (child, status) = pairs(&lines[1..])[0];
    assert_eq!(status, 9 << 8);
    let execs = recorded.all::<ProcessExec>();
    let exec = execs.iter().find(|exec| exec.origin.tgid.0 == child).unwrap();
    assert_eq!((exec.origin.tid.0, exec.old_tid.0), (child, thread));
    let exits = recorded.all::<ProcessExit>();
    let of_child: Vec<_> = exits.iter().filter(|exit| exit.origin.tgid.0 == child).collect();
    let found: Vec<_> = of_child.iter().map(|exit| (exit.origin.tid.0, exit.process_ended)).collect();
    // First the first thread, which makes way; then the process, whose thread has its id now.
    assert_eq!(found, [(child, false), (child, true)]);
    assert_eq!(of_child[1].code(), Some(9));
    assert!(of_child[0].origin.ktime_ns <= exec.origin.ktime_ns);
}

fn names() {
    let (recorded, lines, tgid) = record("renames");
    let (named, namer) = pairs(&lines)[0];
    assert_eq!(named, tgid);
    let renames = recorded.all::<ProcessRename>();
    let given: Vec<_> = renames.iter().filter(|rename| rename.renamed_tid.0 == named).collect();
    // The first is that of the exec, which names the thread after the program.
    let program = own_path().file_name().unwrap().as_encoded_bytes().to_vec();
    let expected: Vec<_> = [&program[..]].into_iter().chain(NAMES).map(Comm::from_text).collect();
    assert_eq!(given.iter().map(|rename| rename.comm).collect::<Vec<_>>(), expected);
    assert!(given.iter().all(|rename| rename.renamed_tgid.0 == tgid && rename.origin.tgid.0 == tgid));
    let by: Vec<_> = given.iter().map(|rename| rename.origin.tid.0).collect();
    assert_eq!(by, [named, named, named, named, namer]);
}

fn threads_and_processes() {
    let (recorded, _, tgid) = record("forks");
    let forks = recorded.all::<ProcessFork>();
    let threads: Vec<_> = forks.iter().filter(|fork| fork.is_thread()).collect();
    assert_eq!((forks.len(), threads.len()), (50, 10));
    assert!(threads.iter().all(|fork| fork.child_tgid.0 == tgid && fork.child_tid.0 != tgid));
    assert!(forks.iter().all(|fork| fork.origin.tgid.0 == tgid));
    let processes = forks.iter().filter(|fork| !fork.is_thread());
    assert!(processes.clone().all(|fork| fork.parent_tgid.0 == tgid));
    // Ends: of every process and thread, of which those of processes are marked.
    let exits = recorded.all::<ProcessExit>();
    assert_eq!((exits.len(), ends(&recorded).len()), (51, 41));
}
