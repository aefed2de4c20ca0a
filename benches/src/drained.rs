//! T1 and T2: drain a ring that is full. T1 has filled it on the core that drains it and looks at every byte; in T2 another
//! core has filled it, and only headers are looked at, as whoever filters or routes records does.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::{
    bpf::RECORD,
    contest::Contest,
    harness::{Effort, Turns},
    machine::{CONSUMER_CORE, PRODUCER_CORE},
    outcome::Outcome,
    report::{Goal, Report, Row},
    stats::{Spread, show},
};

/// Fits into the second-level cache beside everything else.
const RING_BYTES: u32 = 256 << 10;

/// One of them.
struct Drain {
    test: &'static str,
    what: &'static str,
    record_bytes: i32,
    cycles: u32,
    /// The core that fills the ring, if it is another.
    filled_by: Option<usize>,
    goal: Goal,
}

const RESIDENT: &[Drain] = &[Drain {
    test: "T1",
    what: "drain a resident ring and decode 64-byte records into typed events, every field used, per record; libbpf `ring_buffer__consume`",
    record_bytes: RECORD,
    cycles: 500,
    filled_by: None,
    goal: Goal::AtMost(1.0),
}];

const ROUTED: &[Drain] = &[
    Drain {
        test: "T2",
        what: "drain a ring that another core has filled and look at the headers of its 64-byte records, per record; libbpf `ring_buffer__consume`",
        record_bytes: 64,
        cycles: 3000,
        filled_by: Some(PRODUCER_CORE),
        goal: Goal::AtMost(0.7),
    },
    Drain {
        test: "T2",
        what: "the same with 256-byte records",
        record_bytes: 256,
        cycles: 3000,
        filled_by: Some(PRODUCER_CORE),
        goal: Goal::AtMost(0.45),
    },
];

/// T1.
pub(crate) fn measure_resident(libbpf: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    RESIDENT.iter().try_for_each(|drain| drain.measure(libbpf, effort, report))
}

/// T2.
pub(crate) fn measure_routed(libbpf: &Path, effort: Effort, report: &mut Report) -> Result<()> {
    for drain in ROUTED {
        drain.measure(libbpf, effort, report)?;
        drain.note_without_distance(libbpf, effort, report)?;
    }
    Ok(())
}

/// Nanoseconds for a record, of wall time and of CPU time.
type Turn = (f64, f64);

fn spread(turns: &[Turn], figure: fn(&Turn) -> f64) -> Option<Spread> {
    Spread::of(turns.iter().map(figure))
}

fn ns(spread: Option<Spread>) -> String {
    show(spread, 2, "ns")
}

impl Drain {
    fn measure(&self, libbpf: &Path, effort: Effort, report: &mut Report) -> Result<()> {
        let mut contest = Contest::of_records(self.record_bytes, RING_BYTES, libbpf)?;
        report.peer = Some(contest.peer_version()?);
        let turns = self.turns(&mut contest, self.filled_by, effort)?;
        let pairs = turns.ours.iter().zip(&turns.theirs);
        let ratio = Spread::of(pairs.map(|(ours, theirs)| ours.0 / theirs.0));
        let cpu = |turns| ns(spread(turns, |turn| turn.1));
        report.rows.push(Row {
            test: self.test,
            what: self.what.to_owned(),
            ours: ns(spread(&turns.ours, |turn| turn.0)),
            theirs: ns(spread(&turns.theirs, |turn| turn.0)),
            compared: show(ratio, 2, ""),
            goal: self.goal,
            met: self.goal.is_met(ratio),
            drops: "0, 0".to_owned(),
            cpu: format!("{}, {}", cpu(&turns.ours), cpu(&turns.theirs)),
            turns: format!("{} ({} disturbed)", turns.ours.len(), turns.disturbed),
        });
        Ok(())
    }

    /// What both take if the bytes need not come from another core: nothing that fetches them earlier can be faster.
    fn note_without_distance(&self, libbpf: &Path, effort: Effort, report: &mut Report) -> Result<()> {
        let mut contest = Contest::of_records(self.record_bytes, RING_BYTES, libbpf)?;
        let turns = self.turns(&mut contest, Some(CONSUMER_CORE), effort)?;
        report.notes.push(format!(
            "T2, {}-byte records in a ring that the draining core itself has filled: {}, libbpf {}. Only what the figures in the table are above these is the way from the other core, and can be saved by fetching early.",
            self.record_bytes,
            ns(spread(&turns.ours, |turn| turn.0)),
            ns(spread(&turns.theirs, |turn| turn.0)),
        ));
        Ok(())
    }

    fn turns(&self, contest: &mut Contest, filled_by: Option<usize>, effort: Effort) -> Result<Turns<Turn>> {
        // Nearly full. The kernel puts a header of 8 bytes in front of each.
        let per_cycle = RING_BYTES / (self.record_bytes.unsigned_abs() + 8) - 1;
        let cycles = effort.scale(self.cycles);
        let expected = u64::from(cycles) * u64::from(per_cycle);
        let command = match filled_by {
            None => format!("resident {cycles} {per_cycle}"),
            Some(core) => format!("routed {cycles} {per_cycle} {core}"),
        };
        let children = contest.children();
        effort.alternate(&children, |ours| {
            contest.rings.reset();
            let consumer = contest.consumer(ours);
            consumer.tell(&command)?;
            let outcome: Outcome = consumer.answer()?;
            let is_right = outcome.records == expected && outcome.errors == 0;
            ensure!(is_right, "{expected} records expected: {outcome}");
            Ok((outcome.ns as f64 / expected as f64, outcome.cpu_ns as f64 / expected as f64))
        })
    }
}
