//! T7: two threads that hand a byte to and fro, with their switches and wake-ups recorded, and summed up.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    bpf::{EmptyPair, MANY, Producer, RECORD, Rings, SWITCHES, Wakeups},
    harness::{Effort, Rounds},
    machine::{Watch, now_ns},
    outcome::{Calls, Recorded},
    recorder::OurRecorder,
    report::{Goal, Row},
    stats::{Spread, show},
    workload::{Shape, Workload},
};

/// A round takes some microseconds; a burst of them fits into either ring.
const SHAPE: Shape = Shape { bursts: 100, per_burst: 500, pause: Duration::from_millis(2) };
/// In percent of what a round takes with nothing attached.
const RECORDED_MORE: f64 = 10.0;
const SUMMED_MORE: f64 = 8.0;

/// Who is attached, in the order of the turns.
const BARE: usize = 0;
const EMPTY: usize = 1;
const CLOCK: usize = 2;
const RECORDED: usize = 3;
const SUMMED: usize = 4;
/// Ours that sum up, for another process.
const REFUSED: usize = 5;

/// Bytes of the ring that a loop of records fills.
const RING_BYTES: u32 = 256 << 10;
/// So often [`MANY`] records fit into it, each with a header of 8 bytes.
const RUNS: u32 = RING_BYTES / (MANY * (RECORD as u32 + 8)) - 1;

/// The rows, and what they do not have room for.
pub(crate) fn measure(effort: Effort) -> Result<(Vec<Row>, String)> {
    let shape = SHAPE.scaled(effort);
    let (mut workload, mut recorder) = (Workload::start()?, OurRecorder::start()?);
    let idle = Workload::start()?;
    let tgid = workload.pid();
    let mut turn = |who: usize, watch: &mut Watch| {
        let _pair = match who {
            EMPTY => Some(EmptyPair::attach(SWITCHES)?),
            CLOCK => Some(EmptyPair::attach_with_clock(SWITCHES)?),
            _ => None,
        };
        match who {
            RECORDED => recorder.record_switches(tgid)?,
            SUMMED => recorder.sum_up_switches(tgid)?,
            REFUSED => recorder.sum_up_switches(idle.pid())?,
            _ => {}
        }
        let calls = watch.over(&[tgid, recorder.pid()], || workload.ping_pong(shape))?;
        match who {
            RECORDED | SUMMED => check(calls, recorder.stop()?)?,
            REFUSED => {
                let recorded = recorder.stop()?;
                ensure!(
                    recorded.calls + recorded.others < calls.made / 100,
                    "of who does nothing: {recorded}"
                );
            }
            _ => {}
        }
        Ok(Some(calls.ns_per_call()))
    };
    let rounds: Rounds<f64, 6> = effort.rounds(&mut turn)?;
    let more = |who: usize| rounds.spread(|round| 100.0 * (round[who] / round[BARE] - 1.0));
    let row = |who: usize, what: &str, goal, most: f64| Row {
        test: "T7",
        what: format!(
            "a byte to and fro between two threads on one core, their switches and wake-ups {what}; nothing attached"
        ),
        ours: show(rounds.spread(|round| round[who]), 0, "ns"),
        theirs: show(rounds.spread(|round| round[BARE]), 0, "ns"),
        compared: show(more(who), 1, "% more"),
        goal: Goal::Words(goal),
        met: more(who).is_some_and(|more| more.median <= most),
        drops: "0, -".to_owned(),
        cpu: "reader not counted".to_owned(),
        turns: format!("{} ({} disturbed)", rounds.turns.len(), rounds.disturbed),
    };
    let record = Spread::of((0..effort.alternations).map(|_| record_ns()).collect::<Result<Vec<_>>>()?);
    // What is left of the goal when it is known whom an event is about, and when it was.
    let left = rounds.spread(|round| {
        round[BARE] * (1.0 + SUMMED_MORE / 100.0) - round[REFUSED] - (round[CLOCK] - round[EMPTY])
    });
    let took = rounds.spread(|round| round[SUMMED] - round[REFUSED] - (round[CLOCK] - round[EMPTY]));
    let note = format!(
        "T7: two programs that do nothing take {}, two that ask the kernel for the time {}: less no tracer can do that says when \
         something happened. To reserve and submit a record of {RECORD} bytes takes {} more, in a loop that does nothing \
         else; in a round there are two switches, and a wake-up or two.\n\nT7: our two programs that sum up take {} where \
         another process is selected: what it takes to find that, without the time. With the time, {SUMMED_MORE} % leave {} \
         a round to remember a thread at each wake-up, find it at each switch, and add to two histograms, which takes {}.",
        show(more(EMPTY), 1, "% more"),
        show(more(CLOCK), 1, "% more"),
        show(record, 1, "ns"),
        show(more(REFUSED), 1, "% more"),
        show(left, 0, "ns"),
        show(took, 0, "ns"),
    );
    let rows = vec![
        row(RECORDED, "recorded", "≤ 10 % more", RECORDED_MORE),
        row(SUMMED, "summed up in the kernel", "≤ 8 % more", SUMMED_MORE),
    ];
    Ok((rows, note))
}

/// What a record in a ring takes without the time and without a reader, on one core.
fn record_ns() -> Result<f64> {
    let rings = Rings::new(RING_BYTES)?;
    let producer = Producer::load(&rings, Wakeups::Never, false)?;
    rings.reset();
    let began = now_ns();
    producer.many.run(RUNS)?;
    let took = now_ns() - began;
    let records = u64::from(RUNS * MANY);
    ensure!(
        (rings.submitted(), rings.dropped()) == (records, 0),
        "{} of {records} records",
        rings.submitted()
    );
    Ok(took as f64 / records as f64)
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
