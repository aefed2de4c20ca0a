//! The process table where the stream does not tell all: losses, late records, limits.

use std::time::Duration;

use kprobe_core::{
    abi::{self, CPU_NONE, Header, Kind},
    event::{Comm, ProcessKey, Tgid},
    pipeline::{Batch, BatchBuf, Context, Stage},
    process::{ProcessTable, TableLimits},
};
use pipeline_support::{BOOT, assert_balanced, batch_of, info, plain, record, records_of};
use proptest::prelude::*;

mod pipeline_support;

const SECOND: u64 = 1_000_000_000;

fn at(ktime_ns: u64, tgid: u32, tid: u32) -> Header {
    Header { ktime_ns, tgid, tid, cgroup_id: 40, cpu: 2, ..Header::default() }
}

fn comm(name: &str) -> Comm {
    Comm::from_text(name.as_bytes())
}

fn field(name: &str) -> [u8; 16] {
    comm(name).to_field()
}

fn seed(ktime_ns: u64, tgid: u32, tid: u32, start_ns: u64, parent_tgid: u32, name: &str) -> Vec<u8> {
    let header = Header { cpu: CPU_NONE, ..at(ktime_ns, tgid, tid) };
    record(header, Kind::META_THREAD, &abi::ThreadSeed { start_ns, parent_tgid, flags: 0, comm: field(name) })
}

fn fork(by: Header, child_tgid: u32, child_tid: u32, child_start_ns: u64, parent_tgid: u32) -> Vec<u8> {
    let body = abi::ProcessFork { child_tgid, child_tid, child_start_ns, parent_tgid, flags: 0 };
    record(by, Kind::PROCESS_FORK, &body)
}

fn exec(by: Header, start_ns: u64, parent_tgid: u32, old_tid: u32, name: &str) -> Vec<u8> {
    let comm = field(name);
    let body = abi::ProcessExec { start_ns, parent_tgid, old_tid, comm, ..abi::ProcessExec::default() };
    record(by, Kind::PROCESS_EXEC, &body)
}

fn exit(by: Header, start_ns: u64, parent_tgid: u32, flags: u64) -> Vec<u8> {
    let body = abi::ProcessExit { start_ns, parent_tgid, status: 0, flags };
    record(by, Kind::PROCESS_EXIT, &body)
}

fn rename(by: Header, renamed_tgid: u32, renamed_tid: u32, name: &str) -> Vec<u8> {
    let body = abi::ProcessRename { renamed_tid, renamed_tgid, comm: field(name) };
    record(by, Kind::PROCESS_RENAME, &body)
}

fn call(by: Header) -> Vec<u8> {
    record(by, Kind::SYSCALL, &abi::Syscall::default())
}

fn limits(change: impl FnOnce(&mut TableLimits)) -> TableLimits {
    let mut limits = TableLimits::default();
    change(&mut limits);
    limits
}

fn contexts(batch: &Batch) -> Vec<Context> {
    batch.enriched().map(|one| one.expect("a record").context.clone()).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "records are made where they are told")]
fn told(table: &mut ProcessTable, record: Vec<u8>) -> Context {
    let contexts = contexts(&table.apply(batch_of([&record])));
    let [context] = &contexts[..] else { panic!("one record, one context: {contexts:?}") };
    context.clone()
}

/// A context without another thread and without a container.
fn known(name: &str, tgid: u32, start_ns: u64, parent: u32) -> Context {
    Context {
        comm: comm(name),
        process: Some(ProcessKey::new(BOOT, Tgid(tgid), start_ns)),
        parent: Some(Tgid(parent)),
        ..Context::default()
    }
}

#[test]
fn what_nobody_told_is_unknown() {
    let mut table = ProcessTable::new(info().boot);
    assert_eq!(told(&mut table, call(at(1, 10, 10))), Context::default());
    // A name was told, a start was not.
    assert_eq!(told(&mut table, rename(at(2, 10, 10), 10, 10, "a")), Context::default());
    assert_eq!(told(&mut table, call(at(3, 10, 10))), Context { comm: comm("a"), ..Context::default() });
    // Another thread of it: no name, since names are per thread.
    assert_eq!(told(&mut table, call(at(4, 10, 11))), Context::default());
    // A child of a thread without a name has none, but it has a process.
    assert_eq!(told(&mut table, fork(at(5, 10, 11), 20, 20, SECOND, 10)), Context::default());
    assert_eq!(told(&mut table, call(at(6, 20, 20))), known("", 20, SECOND, 10));
    // An exec tells everything, also for a thread that was known by name only.
    assert_eq!(told(&mut table, exec(at(7, 10, 10), 2 * SECOND, 1, 10, "b")), known("b", 10, 2 * SECOND, 1));
    // Then its other threads are known by their process.
    assert_eq!(told(&mut table, call(at(8, 10, 12))), known("", 10, 2 * SECOND, 1));
    // So is a thread of which only the end is seen, and what it still does.
    assert_eq!(told(&mut table, exit(at(9, 30, 31), 3 * SECOND, 1, 0)), known("", 30, 3 * SECOND, 1));
    assert_eq!(told(&mut table, call(at(10, 30, 31))), known("", 30, 3 * SECOND, 1));
}

#[test]
fn a_key_has_steps_of_10_ms() {
    let mut table = ProcessTable::new(BOOT);
    let context = told(&mut table, fork(at(1, 5, 5), 20, 20, 1_234_567_891, 5));
    assert_eq!(context, Context::default());
    let process = told(&mut table, call(at(2, 20, 20))).process.expect("known");
    assert_eq!((process.boot, process.tgid, process.start_ns), (BOOT, Tgid(20), 1_230_000_000));
    // What /proc tells later is the same process: its name changes, nothing else does.
    assert_eq!(told(&mut table, seed(3, 20, 20, 1_230_000_000, 5, "x")), known("x", 20, 1_230_000_000, 5));
    assert_eq!(table.threads(), 1);
}

#[test]
fn the_idle_task_is_named_as_the_kernel_names_it() {
    let mut table = ProcessTable::new(BOOT);
    let idle = Context { comm: comm("swapper/2"), ..Context::default() };
    assert_eq!(told(&mut table, call(at(1, 0, 0))), idle);
    let body = abi::SchedSwitch::default();
    let both = Context { other_comm: comm("swapper/2"), ..idle };
    assert_eq!(told(&mut table, record(at(2, 0, 0), Kind::SCHED_SWITCH, &body)), both);
    // What user space puts into a stream is not by the idle task.
    let marker =
        record(Header { cpu: CPU_NONE, ..Header::default() }, Kind::META_MARKER, &abi::Marker { id: 1 });
    assert_eq!(told(&mut table, marker), Context::default());
    // Nobody can be it.
    told(&mut table, rename(at(3, 0, 0), 0, 0, "x"));
    told(&mut table, seed(3, 0, 0, 0, 0, "x"));
    assert_eq!(table.threads(), 0);
}

#[test]
fn the_ids_of_a_process_whose_end_was_lost() {
    let mut table = ProcessTable::new(BOOT);
    told(&mut table, seed(1, 10, 10, SECOND, 1, "old"));
    told(&mut table, seed(1, 10, 11, SECOND, 1, "old-thread"));
    told(&mut table, seed(1, 12, 12, SECOND, 1, "other"));
    // Pid 10 is another process now.
    told(&mut table, fork(at(2, 12, 12), 10, 10, 9 * SECOND, 12));
    assert_eq!(told(&mut table, call(at(3, 10, 10))), known("other", 10, 9 * SECOND, 12));
    // Thread 11 was of the old process 10; a thread 11 of the new one is not known.
    assert_eq!(told(&mut table, call(at(4, 10, 11))), known("", 10, 9 * SECOND, 12));
    // A thread id that is of another process now, whose fork was lost.
    assert_eq!(told(&mut table, call(at(5, 77, 12))), Context::default());
    // An exec with another start says the same.
    assert_eq!(
        told(&mut table, exec(at(6, 12, 12), 20 * SECOND, 1, 12, "new")),
        known("new", 12, 20 * SECOND, 1)
    );
}

#[test]
fn a_late_record_of_a_former_process_changes_nothing() {
    let mut table = ProcessTable::new(BOOT);
    told(&mut table, seed(1, 5, 5, SECOND, 1, "shell"));
    told(&mut table, fork(at(2, 5, 5), 10, 10, 9 * SECOND, 5));
    let before = told(&mut table, call(at(3, 10, 10)));
    assert_eq!(told(&mut table, exit(at(1, 10, 10), 2 * SECOND, 7, 1)), known("", 10, 2 * SECOND, 7));
    assert_eq!(
        told(&mut table, exec(at(1, 10, 10), 2 * SECOND, 7, 10, "late")),
        known("late", 10, 2 * SECOND, 7)
    );
    assert_eq!(told(&mut table, seed(1, 10, 10, 2 * SECOND, 7, "late")), known("late", 10, 2 * SECOND, 7));
    assert_eq!(told(&mut table, call(at(4, 10, 10))), before);
}

#[test]
fn an_exited_thread_is_known_for_the_grace() {
    let limits = limits(|limits| limits.exited_grace = Duration::from_secs(2));
    let mut table = ProcessTable::with_limits(BOOT, limits);
    told(&mut table, seed(1, 10, 10, SECOND, 1, "a"));
    let a = known("a", 10, SECOND, 1);
    assert_eq!(told(&mut table, exit(at(SECOND, 10, 10), SECOND, 1, 1)), a);
    assert_eq!(told(&mut table, call(at(3 * SECOND, 10, 10))), a);
    assert_eq!(told(&mut table, call(at(3 * SECOND + 1, 10, 10))), Context::default());
    // It is forgotten when another exits, without being an eviction.
    told(&mut table, exit(at(4 * SECOND, 20, 20), SECOND, 1, 1));
    assert_eq!(table.threads(), 1);
    assert!(table.row().counts.is_empty());
}

#[test]
fn a_zombie_found_in_proc_stays_dead() {
    let mut table = ProcessTable::new(BOOT);
    told(&mut table, exit(at(1, 10, 10), SECOND, 1, 1));
    // It is looked at a moment later, and now its name is known too.
    assert_eq!(told(&mut table, seed(2, 10, 10, SECOND, 1, "dead")), known("dead", 10, SECOND, 1));
    assert_eq!(told(&mut table, call(at(60 * SECOND, 10, 10))), Context::default());
}

#[test]
fn an_exec_by_another_thread_leaves_one_thread() {
    let mut table = ProcessTable::new(BOOT);
    told(&mut table, seed(1, 10, 10, SECOND, 1, "first"));
    told(&mut table, fork(at(2, 10, 10), 10, 11, 2 * SECOND, 1));
    told(&mut table, rename(at(3, 10, 11), 10, 11, "second"));
    told(&mut table, exit(at(4, 10, 10), SECOND, 1, 0));
    assert_eq!(told(&mut table, exec(at(5, 10, 10), SECOND, 1, 11, "third")), known("third", 10, SECOND, 1));
    assert_eq!(told(&mut table, call(at(6, 10, 10))), known("third", 10, SECOND, 1));
    assert_eq!(table.threads(), 1);
    // It goes on living.
    assert_eq!(told(&mut table, call(at(60 * SECOND, 10, 10))), known("third", 10, SECOND, 1));
}

fn named(cgroup_id: u64, name: &str, flags: u16) -> Vec<u8> {
    let mut body = abi::CgroupName { len: 0, flags, reserved: 0, text: [0; 64] };
    body.len = u16::try_from(name.len()).expect("a short name");
    body.text[..name.len()].copy_from_slice(name.as_bytes());
    record(Header { cgroup_id, cpu: CPU_NONE, ..Header::default() }, Kind::META_CGROUP, &body)
}

/// The container of a record of that cgroup.
fn seen(table: &mut ProcessTable, cgroup_id: u64) -> Option<String> {
    told(table, call(Header { cgroup_id, ..at(1, 10, 10) })).container.map(|id| id.to_string())
}

proptest! {
    /// A container is forgotten when so many others as there is room for were used since.
    #[test]
    fn the_container_that_was_not_used_the_longest_is_forgotten(
        acts in prop::collection::vec((0_u64..8, 0_u8..10), 0..200),
        limit in 1_usize..6,
    ) {
        let mut table = ProcessTable::with_limits(BOOT, limits(|limits| limits.containers = limit));
        // The one that was used last is last.
        let mut known: Vec<(u64, String)> = Vec::new();
        let mut evicted = 0;
        for (n, (id, act)) in acts.into_iter().enumerate() {
            let at = known.iter().position(|(known, _)| *known == id);
            let before = at.map(|at| known.remove(at));
            match act {
                0..3 => {
                    let name = format!("c{n}");
                    told(&mut table, named(id, &name, 1));
                    known.push((id, name));
                    if known.len() > limit {
                        known.remove(0);
                        evicted += 1;
                    }
                }
                3 => drop(told(&mut table, named(id, "a.service", 0))),
                _ => {
                    prop_assert_eq!(seen(&mut table, id), before.as_ref().map(|(_, name)| name.clone()));
                    known.extend(before);
                }
            }
        }
        prop_assert_eq!(table.row().counts.get("evicted_containers").copied().unwrap_or(0), evicted);
    }
}

#[test]
fn containers_come_from_the_stream() {
    let limits = limits(|limits| limits.containers = 2);
    let mut table = ProcessTable::with_limits(BOOT, limits);
    assert_eq!(told(&mut table, named(40, "aa", 1)).container.as_deref(), Some("aa"));
    assert_eq!(told(&mut table, named(41, "user.slice", 0)).container, None);
    assert_eq!((seen(&mut table, 40).as_deref(), seen(&mut table, 41)), (Some("aa"), None));
    told(&mut table, named(41, "bb", 1));
    told(&mut table, named(40, "cc", 1));
    assert_eq!(seen(&mut table, 40).as_deref(), Some("cc"));
    assert!(table.row().counts.is_empty());
    told(&mut table, named(42, "dd", 1));
    assert_eq!(table.row().counts["evicted_containers"], 1);
    // The one that was not seen the longest, though it was not named first.
    assert_eq!([40, 41, 42].map(|id| seen(&mut table, id)), [Some("cc".into()), None, Some("dd".into())]);
    // It is no container any more, and leaves room.
    told(&mut table, named(40, "user.slice", 0));
    told(&mut table, named(43, "ee", 1));
    assert_eq!([40, 42, 43].map(|id| seen(&mut table, id)), [None, Some("dd".into()), Some("ee".into())]);
    assert_eq!(table.row().counts["evicted_containers"], 1);
}

#[test]
fn undecodable_records_are_taken_out_and_unknown_ones_pass() {
    let mut table = ProcessTable::new(BOOT);
    let sound = [
        seed(1, 10, 10, SECOND, 1, "a"),
        call(at(2, 10, 10)),
        plain(3, 0, 0, 7),
        record(at(4, 10, 10), Kind(0x04ff), &9_u64),
        record(at(5, 10, 10), Kind(0x6666), &9_u64),
    ];
    let short = record(at(3, 10, 10), Kind::SYSCALL, &1_u64);
    let absurd =
        record(at(3, 10, 10), Kind::SCHED_WAKING, &abi::SchedWaking { context: 99, ..Default::default() });
    let mixed = [&sound[0], &short, &sound[1], &sound[2], &absurd, &sound[3], &sound[4], &short];

    let batch = table.apply(batch_of(mixed));
    assert_eq!(records_of(&batch), sound);
    let names: Vec<_> = contexts(&batch).into_iter().map(|context| context.comm).collect();
    assert_eq!(names, ["a", "a", "swapper/0", "a", "a"].map(comm));
    let row = table.row();
    assert_eq!((row.received, row.delivered, row.undecodable), (8, 5, 3));
    assert_balanced(&row);
}

#[test]
fn a_torn_batch_costs_what_follows_the_tear() {
    let mut table = ProcessTable::new(BOOT);
    let sound = call(at(1, 10, 10));
    let mut buf = BatchBuf::default();
    buf.push(kprobe_core::decode::Record::new(&sound).expect("a record"));
    buf.frames_mut().extend_from_slice(&[200, 0, 0, 0]);
    assert_eq!(records_of(&table.apply(buf.take())), [sound]);
    assert_eq!((table.row().received, table.row().delivered, table.row().undecodable), (2, 1, 1));
}

#[test]
fn discarded_records_do_not_shift_contexts() {
    let mut table = ProcessTable::new(BOOT);
    let mut frames = Vec::new();
    for (bytes, discarded) in [
        (seed(1, 10, 10, SECOND, 1, "a"), false),
        (call(at(2, 99, 99)), true),
        (call(at(3, 10, 10)), false),
        (call(at(4, 98, 98)), false),
    ] {
        let flag = if discarded { 1 << 30 } else { 0 };
        frames.extend_from_slice(&(u32::try_from(bytes.len()).expect("short") | flag).to_le_bytes());
        frames.extend_from_slice(&[0; 4]);
        frames.extend_from_slice(&bytes);
    }
    let mut buf = BatchBuf::default();
    buf.frames_mut().extend_from_slice(&frames);
    let batch = table.apply(buf.take());
    let seen: Vec<_> =
        batch.enriched().flatten().map(|one| (one.record.header().ktime_ns, one.context.comm)).collect();
    assert_eq!(seen, [(1, comm("a")), (3, comm("a")), (4, comm(""))]);
}

#[test]
fn evictions_take_the_first_exited_then_the_unused() {
    let limits = limits(|limits| limits.threads = 4);
    let mut table = ProcessTable::with_limits(BOOT, limits);
    for pid in 10..14 {
        told(&mut table, seed(1, pid, pid, SECOND, 1, "p"));
    }
    told(&mut table, exit(at(2, 12, 12), SECOND, 1, 1));
    told(&mut table, exit(at(3, 11, 11), SECOND, 1, 1));
    let names = |table: &mut ProcessTable, pids: &[u32]| -> Vec<bool> {
        pids.iter().map(|&pid| !told(table, call(at(4, pid, pid))).comm.is_empty()).collect()
    };
    told(&mut table, fork(at(4, 10, 10), 20, 20, 2 * SECOND, 10));
    assert_eq!(names(&mut table, &[10, 11, 12, 13, 20]), [true, true, false, true, true]);
    told(&mut table, fork(at(4, 10, 10), 21, 21, 2 * SECOND, 10));
    assert_eq!(names(&mut table, &[10, 11, 13, 20, 21]), [true, false, true, true, true]);
    // All live: one of those that made no record since the hand passed.
    told(&mut table, fork(at(4, 10, 10), 22, 22, 2 * SECOND, 10));
    assert_eq!((table.threads(), table.row().counts["evicted_threads"]), (4, 3));
}

#[test]
fn threads_that_make_records_outlive_a_storm_of_others() {
    let limits = limits(|limits| limits.threads = 4);
    let mut table = ProcessTable::with_limits(BOOT, limits);
    told(&mut table, seed(1, 10, 10, SECOND, 1, "forks"));
    told(&mut table, seed(1, 11, 11, SECOND, 1, "works"));
    // The exits of these are all lost.
    for (now, child) in (2..).zip(100..200) {
        assert_eq!(told(&mut table, fork(at(now, 10, 10), child, child, 2 * SECOND, 10)).comm, comm("forks"));
        assert_eq!(told(&mut table, call(at(now, 11, 11))), known("works", 11, SECOND, 1));
        assert_eq!(told(&mut table, call(at(now, child, child))), known("forks", child, 2 * SECOND, 10));
    }
    assert_eq!((table.threads(), table.row().counts["evicted_threads"]), (4, 98));
}

#[test]
fn an_id_used_again_within_10_ms_is_the_same_process_come_back() {
    let mut table = ProcessTable::new(BOOT);
    told(&mut table, exit(at(1, 10, 10), SECOND, 1, 1));
    told(&mut table, fork(at(2, 5, 5), 10, 10, SECOND + 9_999_999, 5));
    // Long after the first exit: an unknown thread of a process that lives.
    assert_eq!(told(&mut table, call(at(60 * SECOND, 10, 11))), known("", 10, SECOND, 5));
}

proptest! {
    /// A storm of forks and exits, some of them lost: the table stays within its limit and still tells the truth about
    /// whoever was created last.
    #[test]
    fn a_storm_does_not_grow_the_table(
        acts in prop::collection::vec((0_u32..200, any::<bool>(), any::<bool>()), 1..400),
        threads in 1_usize..40,
    ) {
        let limits = limits(|limits| limits.threads = threads);
        let mut table = ProcessTable::with_limits(BOOT, limits);
        for (now, (pid, is_exit, is_thread)) in (1_u64..).map(|n| n * 20_000_000).zip(acts) {
            let pid = pid + 10;
            if is_exit {
                told(&mut table, exit(at(now, pid, pid), now - 1, 1, 1));
            } else {
                let tgid = if is_thread { 5 } else { pid };
                told(&mut table, fork(at(now, 5, 5), tgid, pid, now, 5));
                let context = told(&mut table, call(at(now, tgid, pid)));
                prop_assert_eq!(context.process.is_some(), !is_thread);
            }
            prop_assert!(table.threads() <= threads);
        }
        assert_balanced(&table.row());
    }
}
