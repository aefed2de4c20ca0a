//! What is in the kernel while recording, and that nothing of it stays.

use kprobe_ebpf::{Filter, Process, Recorder, Sched, Syscalls};

use crate::support::kernel::BpfObjects;

crate::trials!(a_family_that_is_off_is_not_loaded, nothing_stays_behind, an_error_leaves_nothing);

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
