//! What each family adds to what it is attached to: to its own event, and to a system call that is none of its business.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    harness::{Effort, Rounds},
    machine::{Watch, mount_tracefs},
    recorder::OurRecorder,
    stats::show,
    workload::{Shape, Workload},
};

/// A workload that makes events of a family and nothing else that costs.
struct Case {
    family: &'static str,
    /// As the workload knows it.
    work: &'static str,
    what: &'static str,
    per_burst: u32,
}

/// Families that are not here have no event that a program can make at will and for which the programs' share is a
/// figure of its own: a block request, a major fault or an interrupt takes what the device takes.
const CASES: &[Case] = &[
    Case { family: "sched", work: "ping-pong", what: "a switch or a wake-up", per_burst: 500 },
    Case { family: "process", work: "threads", what: "a thread that is created or ends", per_burst: 100 },
    Case { family: "syscall", work: "calls", what: "`getppid`", per_burst: 2_000 },
    Case { family: "tcp", work: "tcp", what: "a send or a receive of one byte on loopback", per_burst: 500 },
    Case { family: "udp", work: "udp", what: "a send or a receive of one byte on loopback", per_burst: 500 },
    Case { family: "unix", work: "unix", what: "a send or a receive of one byte", per_burst: 1_000 },
    Case { family: "pipe", work: "pipe", what: "a write or a read of one byte", per_burst: 1_000 },
    Case { family: "wait", work: "ping-pong", what: "a wait for a pipe, in a round of two", per_burst: 500 },
    Case { family: "path", work: "opens", what: "a file that is opened (and closed)", per_burst: 1_000 },
    Case { family: "memory", work: "faults", what: "a minor fault, each recorded", per_burst: 1_000 },
    Case { family: "lock", work: "futex", what: "a futex call that wakes nobody", per_burst: 2_000 },
    Case {
        family: "security",
        work: "capability",
        what: "a capability check, in `chroot`",
        per_burst: 1_000,
    },
];

const BURSTS: u32 = 60;
/// So that the reader keeps up.
const PAUSE: Duration = Duration::from_millis(3);
/// The part of the turns of other tests: there are many families.
const SHARE: usize = 3;

/// One line.
#[derive(Debug)]
pub(crate) struct Cost {
    family: &'static str,
    what: &'static str,
    /// Nanoseconds of the event with nothing attached.
    bare: String,
    added: String,
    added_to_others: String,
    turns: String,
}

impl Cost {
    pub(crate) const HEAD: &str = "\
        | family | event | without | added to it | added to `getppid` | turns |\n\
        |---|---|---|---|---|---|";
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, what, bare, added, added_to_others, turns } = self;
        write!(f, "| `{family}` | {what} | {bare} | {added} | {added_to_others} | {turns} |")
    }
}

/// Who is attached, in the order of the turns.
const BARE: usize = 0;
const RECORDED: usize = 1;

/// Of one turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Of what makes the events.
    ns: f64,
    /// Records for one of it.
    events: f64,
    /// Of a call that makes none.
    other_ns: f64,
}

pub(crate) fn measure(effort: Effort) -> Result<Vec<Cost>> {
    mount_tracefs()?;
    let effort = Effort { alternations: effort.alternations.div_ceil(SHARE), ..effort };
    CASES.iter().map(|case| case.measure(effort)).collect()
}

impl Case {
    fn measure(&self, effort: Effort) -> Result<Cost> {
        let shape = Shape { bursts: BURSTS, per_burst: self.per_burst, pause: PAUSE }.scaled(effort);
        let others = Shape { per_burst: 2_000, ..shape };
        let (mut workload, mut recorder) = (Workload::start()?, OurRecorder::start()?);
        let tgid = workload.pid();
        let turn = |who: usize, watch: &mut Watch| {
            let all = [tgid, recorder.pid()];
            let (mut events, mut is_whole) = (0.0, true);
            if who == RECORDED {
                recorder.record_family(self.family, tgid)?;
            }
            let calls = watch.over(&all, || workload.run(self.work, shape))?;
            if who == RECORDED {
                let recorded = recorder.stop()?;
                let is_right = recorded.errors == 0 && recorded.missing == recorded.lost;
                ensure!(
                    is_right && recorded.calls >= calls.made,
                    "{}: {} made, {recorded}",
                    self.family,
                    calls.made
                );
                events = recorded.calls as f64 / calls.made as f64;
                is_whole = recorded.lost == 0;
                recorder.record_family(self.family, tgid)?;
            }
            let other = watch.over(&all, || workload.run("calls", others))?;
            if who == RECORDED {
                is_whole &= recorder.stop()?.lost == 0;
            }
            let turn = Turn { ns: calls.ns_per_call(), events, other_ns: other.ns_per_call() };
            Ok(is_whole.then_some(turn))
        };
        let rounds: Rounds<Turn, 2> = effort.rounds(turn)?;
        let added = |round: &[Turn; 2]| (round[RECORDED].ns - round[BARE].ns) / round[RECORDED].events;
        let bare = |round: &[Turn; 2]| round[BARE].ns / round[RECORDED].events;
        let others = |round: &[Turn; 2]| round[RECORDED].other_ns - round[BARE].other_ns;
        // That family's event is such a call.
        let added_to_others =
            if self.work == "calls" { "-".to_owned() } else { show(rounds.spread(others), 0, "ns") };
        Ok(Cost {
            family: self.family,
            what: self.what,
            bare: show(rounds.spread(bare), 0, "ns"),
            added: show(rounds.spread(added), 0, "ns"),
            added_to_others,
            turns: format!(
                "{} ({} disturbed, {} with losses)",
                rounds.turns.len(),
                rounds.disturbed,
                rounds.invalid
            ),
        })
    }
}
