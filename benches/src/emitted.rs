//! T5: one record for each system call, read and looked at by a consumer on the other core.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    bpf::{CALLS, EmptyPair},
    bpftrace::Bpftrace,
    harness::{Effort, Rounds},
    machine::{Watch, cpu_ns_of},
    outcome::{Calls, Recorded},
    recorder::OurRecorder,
    report::{Goal, Row},
    stats::{Spread, show},
    workload::{Shape, Workload},
};

/// A burst takes a millisecond or two: one in which another process got the core is then the exception. Its records are a
/// small part of either ring.
const SHAPE: Shape = Shape { bursts: 150, per_burst: 2_000, pause: Duration::from_millis(5) };
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// A consumer that is busy for a greater share of the time does not keep up.
const BUSY: f64 = 0.9;

/// Who is attached, in the order of the turns.
const BARE: usize = 0;
const EMPTY: usize = 1;
const OURS: usize = 2;
const THEIRS: usize = 3;

/// One turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    ns_per_call: f64,
    /// CPU time of the consumer per call, until it had nothing left to do.
    cpu_ns_per_call: f64,
    /// Share of the time that the consumer was busy.
    busy: f64,
}

struct Stage<'a> {
    workload: Workload,
    recorder: OurRecorder,
    bpftrace: &'a Bpftrace,
    shape: Shape,
}

impl Stage<'_> {
    /// Nothing if a consumer lost records or did not keep up; then the next turns of all are slower.
    fn turn(&mut self, who: usize, watch: &mut Watch) -> Result<Option<Turn>> {
        let tgid = self.workload.pid();
        let (turn, kept_up) = match who {
            BARE => (self.calls(None, watch)?.1, true),
            EMPTY => {
                let _pair = EmptyPair::attach(CALLS)?;
                (self.calls(None, watch)?.1, true)
            }
            OURS => {
                self.recorder.record(tgid)?;
                let (calls, turn) = self.calls(Some(self.recorder.pid()), watch)?;
                let recorded = self.recorder.stop()?;
                (turn, is_whole(calls, recorded)?)
            }
            _ => {
                let printing = self.bpftrace.print_calls_of(tgid)?;
                let (calls, turn) = self.calls(Some(printing.pid()), watch)?;
                let printed = printing.stop(tgid, std::process::id())?;
                ensure!(printed.calls <= calls.made, "bpftrace printed {printed:?}, {} expected", calls.made);
                if !printed.complaints.is_empty() {
                    eprintln!("bpftrace said {:?}", printed.complaints);
                }
                (turn, printed.calls == calls.made && printed.complaints.is_empty())
            }
        };
        if kept_up && turn.busy <= BUSY {
            return Ok(Some(turn));
        }
        self.shape.pause = self.shape.pause * 3 / 2;
        ensure!(
            self.shape.pause < LONGEST_PAUSE,
            "a reader loses records or has no time, however long the pauses are"
        );
        Ok(None)
    }

    fn calls(&mut self, consumer: Option<u32>, watch: &mut Watch) -> Result<(Calls, Turn)> {
        let others: Vec<u32> = consumer.into_iter().chain([self.workload.pid()]).collect();
        let cpu_ns = |consumer: Option<u32>| consumer.map_or(Ok(0), cpu_ns_of);
        let from = cpu_ns(consumer)?;
        let calls = watch.over(&others, || self.workload.calls(self.shape))?;
        let during = cpu_ns(consumer)? - from;
        let all = consumer.map_or(Ok(0), settled_cpu_ns)?.saturating_sub(from);
        let turn = Turn {
            ns_per_call: calls.ns_per_call(),
            cpu_ns_per_call: all as f64 / calls.made as f64,
            busy: during as f64 / calls.elapsed_ns as f64,
        };
        Ok((calls, turn))
    }
}

/// Whether every call gave a record; an error if one is missing that nobody counted.
fn is_whole(calls: Calls, recorded: Recorded) -> Result<bool> {
    let is_right = recorded.errors == 0
        && recorded.missing == recorded.lost
        && recorded.calls <= calls.made
        && recorded.calls + recorded.lost >= calls.made;
    ensure!(is_right, "{} records were expected: {recorded}", calls.made);
    Ok(recorded.lost == 0)
}

/// CPU time of a process once it uses no more.
pub(crate) fn settled_cpu_ns(pid: u32) -> Result<u64> {
    let mut before = cpu_ns_of(pid)?;
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(20));
        let now = cpu_ns_of(pid)?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(before)
}

/// The row, and what it does not have room for.
pub(crate) fn measure(bpftrace: &Bpftrace, effort: Effort) -> Result<(Row, String)> {
    let mut stage = Stage {
        workload: Workload::start()?,
        recorder: OurRecorder::start()?,
        bpftrace,
        shape: SHAPE.scaled(effort),
    };
    let rounds: Rounds<Turn, 4> = effort.rounds(|who, watch| stage.turn(who, watch))?;
    let added = |who: usize| rounds.spread(|round| round[who].ns_per_call - round[BARE].ns_per_call);
    let ratio = rounds.spread(|round| {
        let [ours, theirs] = [OURS, THEIRS].map(|who| round[who].ns_per_call - round[BARE].ns_per_call);
        ours / theirs
    });
    let cpu = |who: usize| show(rounds.spread(|round| round[who].cpu_ns_per_call), 0, "ns");
    let busy =
        |who: usize| rounds.spread(|round| 100.0 * round[who].busy).map_or(0.0, |busy: Spread| busy.median);
    let goal = Goal::AtMost(0.5);
    let row = Row {
        test: "T5",
        what: "added to a system call by one record of it, read by the other core; bpftrace `printf` of 7 fields"
            .to_owned(),
        ours: show(added(OURS), 1, "ns"),
        theirs: show(added(THEIRS), 1, "ns"),
        compared: show(ratio, 2, ""),
        goal,
        met: goal.is_met(ratio),
        drops: "0, 0".to_owned(),
        cpu: format!("reader per record: {}, {}", cpu(OURS), cpu(THEIRS)),
        turns: format!("{} ({} disturbed, {} with losses)", rounds.turns.len(), rounds.disturbed, rounds.invalid),
    };
    let Shape { per_burst, pause, .. } = stage.shape;
    let note = format!(
        "T5: `getppid` takes {} with nothing attached, {} more with an empty pair of programs. Calls come in bursts of \
         {per_burst} with pauses of {} ms, so that both readers keep up: they are busy for {:.0} % and {:.0} % of the \
         time. A round in which a record is lost is not counted, and the pauses get longer.",
        show(rounds.spread(|round| round[BARE].ns_per_call), 1, "ns"),
        show(added(EMPTY), 1, "ns"),
        pause.as_millis(),
        busy(OURS),
        busy(THEIRS),
    );
    Ok((row, note))
}
