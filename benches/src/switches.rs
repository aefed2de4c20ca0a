//! T7: two threads that hand a byte to and fro, with their switches and wake-ups recorded, and summed up.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    harness::{Effort, Rounds},
    machine::Watch,
    outcome::{Calls, Recorded},
    recorder::OurRecorder,
    report::{Goal, Row},
    stats::show,
    workload::{Shape, Workload},
};

/// A round takes some microseconds; a burst of them fits into either ring.
const SHAPE: Shape = Shape { bursts: 100, per_burst: 500, pause: Duration::from_millis(2) };
/// In percent of what a round takes with nothing attached.
const RECORDED_MORE: f64 = 10.0;
const SUMMED_MORE: f64 = 8.0;

/// Who is attached, in the order of the turns.
const BARE: usize = 0;
const RECORDED: usize = 1;
const SUMMED: usize = 2;

pub(crate) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let shape = SHAPE.scaled(effort);
    let (mut workload, mut recorder) = (Workload::start()?, OurRecorder::start()?);
    let tgid = workload.pid();
    let mut turn = |who: usize, watch: &mut Watch| {
        match who {
            RECORDED => recorder.record_switches(tgid)?,
            SUMMED => recorder.sum_up_switches(tgid)?,
            _ => {}
        }
        let calls = watch.over(&[tgid, recorder.pid()], || workload.ping_pong(shape))?;
        if who != BARE {
            check(calls, recorder.stop()?)?;
        }
        Ok(Some(calls.ns_per_call()))
    };
    let rounds: Rounds<f64, 3> = effort.rounds(&mut turn)?;
    let row = |who: usize, what: &str, goal, most: f64| {
        let more = rounds.spread(|round| 100.0 * (round[who] / round[BARE] - 1.0));
        Row {
            test: "T7",
            what: format!(
                "a byte to and fro between two threads on one core, their switches and wake-ups {what}; nothing attached"
            ),
            ours: show(rounds.spread(|round| round[who]), 0, "ns"),
            theirs: show(rounds.spread(|round| round[BARE]), 0, "ns"),
            compared: show(more, 1, "% more"),
            goal: Goal::Words(goal),
            met: more.is_some_and(|more| more.median <= most),
            drops: "0, -".to_owned(),
            cpu: "reader not counted".to_owned(),
            turns: format!("{} ({} disturbed)", rounds.turns.len(), rounds.disturbed),
        }
    };
    Ok(vec![
        row(RECORDED, "recorded", "≤ 10 % more", RECORDED_MORE),
        row(SUMMED, "summed up in the kernel", "≤ 8 % more", SUMMED_MORE),
    ])
}

/// Each round has at least two switches, and one wake-up: who is preempted by whom it wakes need not wait for the answer.
fn check(calls: Calls, recorded: Recorded) -> Result<()> {
    let Calls { made, .. } = calls;
    let is_right = recorded.errors == 0
        && recorded.lost == 0
        && recorded.missing == 0
        && recorded.calls >= 2 * made
        && recorded.others >= made;
    ensure!(is_right, "switches and wake-ups of {made} rounds were expected: {recorded}");
    Ok(())
}
