//! T6: what a system call pays that is filtered out.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    bpf::{CALLS, EmptyPair},
    harness::{Effort, Rounds},
    machine::Watch,
    outcome::Recorded,
    recorder::OurRecorder,
    report::{Goal, Row},
    stats::show,
    workload::{Shape, Workload},
};

/// See T5 for the length of a burst.
const SHAPE: Shape = Shape { bursts: 80, per_burst: 5_000, pause: Duration::ZERO };
/// Rounds of which one is made: of each contestant the fastest turn counts. Where the kernel puts the programs and how
/// fast the core happens to run make a difference of 100 ns from one turn to the next.
const TRIES: usize = 5;
/// How much more than an empty program it may be.
const ALLOWED_NS: f64 = 5.0;

/// Who is attached, in the order of the turns.
const BARE: usize = 0;
const EMPTY: usize = 1;
const OURS: usize = 2;

pub(crate) fn measure(effort: Effort) -> Result<Row> {
    let shape = SHAPE.scaled(effort);
    let (mut workload, mut recorder) = (Workload::start()?, OurRecorder::start()?);
    // Waits for a command that never comes: it makes no call.
    let sleeper = Workload::start()?;
    let mut turn = |who: usize, watch: &mut Watch| {
        let _pair = (who == EMPTY).then(|| EmptyPair::attach(CALLS)).transpose()?;
        if who == OURS {
            recorder.record(sleeper.pid())?;
        }
        let calls = watch.over(&[workload.pid(), recorder.pid()], || workload.calls(shape))?;
        if who == OURS {
            let recorded = recorder.stop()?;
            ensure!(recorded == Recorded::default(), "no record was expected: {recorded}");
        }
        Ok(Some(calls.ns_per_call()))
    };
    let effort = Effort { alternations: effort.alternations * TRIES, ..effort };
    let rounds: Rounds<f64, 3> = effort.rounds(&mut turn)?;
    let rounds = rounds.fastest_of(TRIES);
    let more = rounds.spread(|round| round[OURS] - round[EMPTY]);
    Ok(Row {
        test: "T6",
        what: "added to a system call that is filtered out; an empty pair of programs".to_owned(),
        ours: show(rounds.spread(|round| round[OURS] - round[BARE]), 1, "ns"),
        theirs: show(rounds.spread(|round| round[EMPTY] - round[BARE]), 1, "ns"),
        compared: show(more, 1, "ns more"),
        goal: Goal::Words("≤ 5 ns more"),
        met: more.is_some_and(|more| more.median <= ALLOWED_NS),
        drops: "0, 0".to_owned(),
        cpu: "no reader runs".to_owned(),
        turns: format!(
            "{} times the fastest of {TRIES} ({} disturbed)",
            rounds.turns.len(),
            rounds.disturbed
        ),
    })
}
