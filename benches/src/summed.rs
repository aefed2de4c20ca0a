//! T4: how long each system call takes, summed up in the kernel.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    bpf::{CALLS, EmptyPair},
    bpftrace::Bpftrace,
    harness::{Effort, Rounds},
    machine::Watch,
    outcome::Calls,
    recorder::OurRecorder,
    report::{Goal, Row},
    stats::show,
    workload::{Shape, Workload},
};

/// See T5 for the length of a burst.
const SHAPE: Shape = Shape { bursts: 150, per_burst: 2_000, pause: Duration::ZERO };

/// Who is attached, in the order of the turns.
const BARE: usize = 0;
const EMPTY: usize = 1;
const CLOCK: usize = 2;
const OURS: usize = 3;
const THEIRS: usize = 4;

/// The row, and what it does not have room for.
pub(crate) fn measure(bpftrace: &Bpftrace, effort: Effort) -> Result<(Row, String)> {
    let shape = SHAPE.scaled(effort);
    let (mut workload, mut recorder) = (Workload::start()?, OurRecorder::start()?);
    let tgid = workload.pid();
    let mut turn = |who: usize, watch: &mut Watch| {
        let _pair = match who {
            EMPTY => Some(EmptyPair::attach(CALLS)?),
            CLOCK => Some(EmptyPair::attach_with_clock(CALLS)?),
            _ => None,
        };
        let mut others = vec![tgid, recorder.pid()];
        let peer = (who == THEIRS).then(|| bpftrace.sum_up_calls_of(tgid)).transpose()?;
        others.extend(peer.as_ref().map(|peer| peer.pid()));
        if who == OURS {
            recorder.sum_up(tgid)?;
        }
        let calls: Calls = watch.over(&others, || workload.calls(shape))?;
        let counted = match peer {
            Some(peer) => peer.stop_sums()?,
            None if who == OURS => {
                let recorded = recorder.stop()?;
                ensure!(recorded.errors == 0 && recorded.lost == 0, "sums were expected: {recorded}");
                recorded.calls
            }
            None => calls.made,
        };
        ensure!(counted == calls.made, "contestant {who} counted {counted} of {} calls", calls.made);
        Ok(Some(calls.ns_per_call()))
    };
    let rounds: Rounds<f64, 5> = effort.rounds(&mut turn)?;
    let added = |who: usize| rounds.spread(|round| round[who] - round[BARE]);
    let ratio = rounds.spread(|round| (round[OURS] - round[BARE]) / (round[THEIRS] - round[BARE]));
    let goal = Goal::AtMost(0.45);
    let row = Row {
        test: "T4",
        what: "added to a system call whose duration is summed up in the kernel, by call; bpftrace `hist`"
            .to_owned(),
        ours: show(added(OURS), 1, "ns"),
        theirs: show(added(THEIRS), 1, "ns"),
        compared: show(ratio, 2, ""),
        goal,
        met: goal.is_met(ratio),
        drops: "0, 0".to_owned(),
        cpu: "no reader runs".to_owned(),
        turns: format!("{} ({} disturbed)", rounds.turns.len(), rounds.disturbed),
    };
    let note = format!(
        "T4: `getppid` takes {} with nothing attached, {} more with an empty pair of programs, {} more if all that the two do is \
         to ask the kernel for the time: without that nobody knows how long a call took. This is {} of what the peer adds, \
         and in both figures.",
        show(rounds.spread(|round| round[BARE]), 1, "ns"),
        show(added(EMPTY), 1, "ns"),
        show(added(CLOCK), 1, "ns"),
        show(rounds.spread(|round| (round[CLOCK] - round[BARE]) / (round[THEIRS] - round[BARE])), 2, ""),
    );
    Ok((row, note))
}
