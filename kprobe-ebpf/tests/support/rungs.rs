//! The same workload on every rung of a ladder.

use std::process::ExitStatus;

use kprobe_ebpf::{Filter, Outcome, ProbeFamily, Recorder, RecorderBuilder, Report, host};

use serde_json::json;

use super::{
    fact, in_vm,
    recording::{Recorded, Recording},
};

fn builder<P: ProbeFamily>(probe: P) -> RecorderBuilder<(P, ())> {
    Recorder::builder().probe(probe).filter(Filter::none())
}

/// Every rung that some event of the probe has, in the order of this kernel.
pub fn rungs<P: ProbeFamily>(probe: P) -> Vec<String> {
    let recorder = builder(probe).attach().unwrap();
    let mut rungs: Vec<String> = Vec::new();
    for rung in recorder.report().probes.iter().flat_map(|probe| &probe.ladder) {
        if !rungs.contains(&rung.rung) {
            rungs.push(rung.rung.clone());
        }
    }
    rungs
}

/// Only what a kernel is known for, or what the test itself forbids, may keep an event from a rung.
pub fn check_refusals(report: &Report) {
    for probe in &report.probes {
        for rung in &probe.ladder {
            let Outcome::Refused(reason) = &rung.outcome else { continue };
            let is_known = reason == "forbidden by the user" || may_be_refused(&rung.rung, reason);
            assert!(is_known, "{} of {}: {reason}", rung.rung, probe.probe);
        }
    }
}

/// A recorder on this rung alone. Events that have no such rung are off.
pub fn attach<P: ProbeFamily>(probe: P, rungs: &[String], only: &str) -> Recorder<(P, ())> {
    let others = rungs.iter().filter(|rung| *rung != only);
    let recorder = others.fold(builder(probe), |builder, rung| builder.forbid_rung(rung)).attach().unwrap();
    check_refusals(recorder.report());
    // For the documentation.
    for probe in recorder.report().attached() {
        fact(&json!({
            "fact": "rung", "kernel": recorder.report().kernel, "probe": probe.probe, "rung": only, "outcome": "taken",
        }));
    }
    recorder
}

/// What is recorded on this rung alone, and what the workload wrote, which must end well. Events that have no such rung are off.
/// `None` if this machine does not have it, or if the kernel skipped programs there.
pub fn record<P: ProbeFamily>(
    probe: P,
    rungs: &[String],
    only: &str,
    workload: &str,
) -> Option<(Recorded, Vec<String>, u32)> {
    record_to(ExitStatus::default(), probe, rungs, only, workload)
}

/// The same of a workload that ends like this.
pub fn record_to<P: ProbeFamily>(
    end: ExitStatus,
    probe: P,
    rungs: &[String],
    only: &str,
    workload: &str,
) -> Option<(Recorded, Vec<String>, u32)> {
    let recorder = attach(probe, rungs, only);
    for probe in &recorder.report().probes {
        for rung in &probe.ladder {
            match &rung.outcome {
                Outcome::Taken => assert_eq!(rung.rung, only),
                Outcome::NotNeeded => assert!(probe.rung.is_some()),
                Outcome::Refused(_) if rung.rung == only => return None,
                Outcome::Refused(reason) => assert_eq!(reason, "forbidden by the user"),
            }
        }
        assert_eq!(probe.rung.is_some(), probe.ladder.iter().any(|rung| rung.rung == only));
    }
    let mut recording = Recording::of(recorder, |_| true);
    let text = workload;
    let mut workload = recording.spawn(text);
    let status = recording.run_to_any_end(&mut workload);
    assert_eq!(status, end, "{text} on {only}");
    let recorded = recording.finish().lossless();
    // On a rung that is not the best of its kernel.
    let is_whole = recorded.skipped == 0;
    is_whole.then(|| (recorded, workload.lines(), workload.tgid()))
}

/// Trace events need tracefs to be mounted, functions a kernel that is not locked down: in the emulated machines all of it
/// is there, but for what the kernel itself does not have. A program that the verifier refuses is at fault itself.
fn may_be_refused(rung: &str, reason: &str) -> bool {
    let is_absent = ["this kernel has no tracepoint", "this kernel has no function", "no struct "];
    let is_elsewhere = !in_vm() && matches!(rung, "tracepoint" | "fentry" | "kprobe");
    !reason.starts_with("the verifier refused it")
        && (is_elsewhere || is_absent.iter().any(|absent| reason.contains(absent)))
}

/// Before Linux 7.0 no rung skips anything, so two at least have records to compare; later the best of them.
pub fn check_whole(rungs: usize) {
    let may_skip = host::kernel_release().unwrap().at_least(7, 0);
    assert!(rungs >= if may_skip { 1 } else { 2 }, "{rungs}");
}
