//! Every family on every rung that the kernel has, and how the context of a wake-up is found.

use kprobe_core::event::{Event, SchedWaking, WakeContext};
use kprobe_ebpf::{Filter, Outcome, Process, Recorder, Report, Sched, Syscalls, host};
use serde_json::json;

use crate::support::{fact, recording::Recording, rungs::check_refusals};

crate::trials!(every_rung, contexts_of_wake_ups);

/// Rungs of all families, best first.
const RUNGS: [&str; 4] = ["tp_btf", "raw_tp", "tracepoint", "raw_tp+hash"];

/// For the documentation.
pub fn facts(report: &Report) {
    for probe in &report.probes {
        for rung in &probe.ladder {
            let (outcome, reason) = match &rung.outcome {
                Outcome::Taken => ("taken", None),
                Outcome::Refused(reason) if reason != "forbidden by the user" => ("refused", Some(reason)),
                Outcome::Refused(_) | Outcome::NotNeeded => continue,
            };
            fact(&json!({
                "fact": "rung", "kernel": report.kernel, "probe": probe.probe, "rung": rung.rung, "outcome": outcome,
                "reason": reason, "wake_context": report.wake_context,
            }));
        }
    }
}

/// Whether an event is one that the process causes.
type Check = fn(&Event, u32) -> bool;

/// Events that the workload causes for certain, by name.
fn seen(events: &[Event], tgid: u32) -> Vec<&'static str> {
    let has = |is: Check| events.iter().any(|event| is(event, tgid));
    let checks: [(&str, Check); 7] = [
        (
            "process.fork",
            |event, tgid| matches!(event, Event::ProcessFork(fork) if fork.parent_tgid.0 == tgid),
        ),
        (
            "process.exec",
            |event, tgid| matches!(event, Event::ProcessExec(exec) if exec.parent_tgid.0 == tgid),
        ),
        (
            "process.exit",
            |event, tgid| matches!(event, Event::ProcessExit(exit) if exit.parent_tgid.0 == tgid),
        ),
        (
            "process.rename",
            |event, tgid| matches!(event, Event::ProcessRename(name) if name.renamed_tgid.0 == tgid),
        ),
        ("syscall", |event, tgid| matches!(event, Event::Syscall(call) if call.origin.tgid.0 == tgid)),
        (
            "sched.switch",
            |event, tgid| matches!(event, Event::SchedSwitch(switch) if switch.origin.tgid.0 == tgid),
        ),
        (
            "sched.waking",
            |event, tgid| matches!(event, Event::SchedWaking(waking) if waking.wakee_tgid.0 == tgid),
        ),
    ];
    checks.into_iter().filter(|(_, is)| has(*is)).map(|(name, _)| name).collect()
}

fn every_rung() {
    // None forbidden, then all but one.
    let but = |only| RUNGS.into_iter().filter(move |rung| *rung != only).collect();
    for forbidden in [Vec::new()].into_iter().chain(RUNGS.map(but)) {
        let builder =
            Recorder::builder().probe(Syscalls::all()).probe(Process::default()).probe(Sched::default());
        let builder = forbidden.iter().fold(builder, |builder, rung| builder.forbid_rung(*rung));
        let recorder = builder.filter(Filter::none()).attach().unwrap();
        facts(recorder.report());
        check_refusals(recorder.report());
        let attached: Vec<String> = recorder.report().attached().map(|probe| probe.probe.clone()).collect();
        if forbidden.is_empty() {
            assert_eq!(attached.len(), recorder.report().probes.len(), "{}", recorder.report());
        }
        let mut recording = Recording::of(recorder, |_| true);
        let mut workload = recording.spawn("children 3");
        recording.run(&mut workload);
        let recorded = recording.finish().lossless();
        let seen = seen(&recorded.events, workload.tgid());
        for probe in attached.iter().filter(|probe| *probe != "sched.migrate") {
            assert!(seen.contains(&probe.as_str()), "no {probe} of {attached:?} without {:?}", forbidden);
        }
    }
}

/// A timer wakes in an interrupt, a write to a pipe in the writer.
fn contexts_of_wake_ups() {
    let builder = || Recorder::builder().require(Sched::default()).filter(Filter::none());
    let recorder = builder().attach().unwrap();
    let source = recorder.report().wake_context.clone().unwrap();
    // Before 6.1 its variable may be in no type information.
    let is_typed = host::kernel_release().unwrap().at_least(6, 1);
    if is_typed && host::has_kernel_symbol("__preempt_count").unwrap_or(false) {
        assert_eq!(source, "the kernel's preempt count");
    }
    drop(recorder);

    let (naps, _, sleeper) = Recording::of_workload(builder(), "naps 20");
    let wakings = naps.all::<SchedWaking>();
    let by_timer = wakings.iter().filter(|waking| {
        waking.wakee_tid.0 == sleeper
            && matches!(waking.context, Some(WakeContext::Hardirq | WakeContext::Softirq))
    });
    assert!(by_timer.count() >= 20, "{source}: {wakings:?}");

    let mut recording = Recording::start(builder());
    let mut workload = recording.spawn("ping-pong 100");
    let line = workload.line();
    let players: Vec<u32> = line.split(' ').map(|tid| tid.parse().unwrap()).collect();
    workload.close_input();
    recording.run(&mut workload);
    let wakings = recording.finish().lossless().all::<SchedWaking>();
    let between = wakings
        .iter()
        .filter(|waking| players.contains(&waking.wakee_tid.0) && players.contains(&waking.origin.tid.0))
        .filter(|waking| waking.wakee_tid != waking.origin.tid)
        .collect::<Vec<_>>();
    let by_task = between.iter().filter(|waking| waking.context == Some(WakeContext::Task)).count();
    assert!(by_task >= 50 && by_task == between.len(), "{source}: {by_task} of {}", between.len());
    fact(
        &json!({ "fact": "wake_context", "kernel": host::kernel_release().unwrap().text, "wake_context": source }),
    );
}
