//! What is in the kernel while recording, and that nothing of it stays.

use kprobe_ebpf::{Filter, Process, Recorder, RecorderBuilder, Report, Sched, Syscalls};

use crate::support::kernel::BpfObjects;

crate::trials!(
    a_family_that_is_off_is_not_loaded,
    memory_is_that_of_the_rung,
    nothing_stays_behind,
    an_error_leaves_nothing
);

/// As the kernel cuts them.
fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.chars().take(15).collect()).collect()
}

fn a_family_that_is_off_is_not_loaded() {
    assert!(BpfObjects::own().is_empty());
    let recorder = Recorder::builder().probe(Syscalls::all()).filter(Filter::none()).attach().unwrap();
    let found: Vec<_> = BpfObjects::own().program_names().into_iter().collect();
    // The best rung depends on the kernel.
    let rung = if found.contains(&"syscall_exit_tp".to_owned()) { "tp" } else { "btf" };
    let [enter, exit] = ["enter", "exit"].map(|way| format!("syscall_{way}_{rung}"));
    assert_eq!(found, names(&["follow_fork_btf", &enter, &exit]));
    drop(recorder);
    let builder = Recorder::builder().probe(Sched::default().without_switch().without_waking());
    let recorder = builder.filter(Filter::none()).attach().unwrap();
    let found: Vec<_> = BpfObjects::own().program_names().into_iter().collect();
    assert_eq!(found, names(&["follow_fork_btf", "sched_migrate_btf"]));
    drop(recorder);
}

/// The hash of pending calls is allocated as a whole, so only where it is used; task storage, by thread, likewise.
fn memory_is_that_of_the_rung() {
    let report =
        |builder: RecorderBuilder<_>| builder.filter(Filter::none()).attach().unwrap().report().clone();
    let of = |report: &Report, name: &str| {
        report.memory().maps.iter().find(|map| map.map == name).cloned().unwrap_or_else(|| panic!("{name}"))
    };
    let calls = || Recorder::builder().probe(Syscalls::all());
    let best = report(calls());
    assert_eq!(of(&best, "ENTERS").bytes, 4096);
    let tasks = of(&best, "TASKS");
    let per_thread = tasks.per_thread_bytes.unwrap();
    // An entry has 40 bytes.
    assert!(tasks.bytes == 0 && (128..=1024).contains(&per_thread), "{tasks:?}");
    assert!(best.to_string().contains(&format!("TASKS {per_thread} bytes for each thread")), "{best}");
    let sum: u64 = best.memory().maps.iter().map(|map| map.bytes).sum();
    assert_eq!(best.memory().total_bytes, sum);

    let in_hash =
        report(["tp_btf", "raw_tp", "tracepoint"].into_iter().fold(calls(), RecorderBuilder::forbid_rung));
    assert_eq!(in_hash.probes[0].rung.as_deref(), Some("raw_tp+hash"));
    assert!(of(&in_hash, "ENTERS").bytes >= 32_768 * 40, "{in_hash}");
    assert_eq!(of(&in_hash, "TASKS").per_thread_bytes, None);
}

fn nothing_stays_behind() {
    let mut recorder = Recorder::builder()
        .probe(Syscalls::all())
        .probe(Process::default())
        .probe(Sched::default())
        .filter(Filter::none())
        .attach()
        .unwrap();
    let all = BpfObjects::own();
    assert!(all.programs.len() >= 10 && all.maps.len() >= 8, "{all:?}");
    assert_eq!(all.alive(), all);
    recorder.detach();
    let detached = BpfObjects::own();
    assert!(
        detached.programs.is_empty() && detached.links.is_empty() && !detached.maps.is_empty(),
        "{detached:?}"
    );
    drop(recorder);
    assert!(BpfObjects::own().is_empty());
    all.wait_until_gone();
}

fn an_error_leaves_nothing() {
    let builder =
        Recorder::builder().probe(Process::default()).require(Syscalls::all()).filter(Filter::none());
    let builder = ["tp_btf", "raw_tp", "tracepoint", "raw_tp+hash"]
        .into_iter()
        .fold(builder, |builder, rung| builder.forbid_rung(rung));
    builder.attach().unwrap_err();
    assert!(BpfObjects::own().is_empty(), "{:?}", BpfObjects::own());
}
