//! T1: drain a ring that is full and in the cache, and look at every byte.

use anyhow::{Result, ensure};

use crate::{
    contest::Contest,
    harness::Effort,
    outcome::Outcome,
    report::{Goal, Row},
    stats::{Spread, show},
};

/// Fits into the second-level cache beside everything else.
pub(crate) const RING_BYTES: u32 = 256 << 10;
/// Records that fill it: 72 bytes each with the kernel's header.
const PER_CYCLE: u32 = 3600;
const CYCLES: u32 = 500;

pub(crate) fn measure(contest: &mut Contest, effort: Effort) -> Result<Row> {
    let cycles = effort.scale(CYCLES);
    let expected = u64::from(cycles) * u64::from(PER_CYCLE);
    let children = contest.children();
    let turns = effort.alternate(&children, |ours| {
        contest.rings.reset();
        let consumer = contest.consumer(ours);
        consumer.tell(&format!("resident {cycles} {PER_CYCLE}"))?;
        let outcome: Outcome = consumer.answer()?;
        ensure!(outcome.records == expected && outcome.errors == 0, "{expected} records expected: {outcome}");
        Ok((outcome.ns as f64 / expected as f64, outcome.cpu_ns as f64 / expected as f64))
    })?;
    let of = |turns: &[(f64, f64)], figure: fn(&(f64, f64)) -> f64| Spread::of(turns.iter().map(figure));
    let ratio = Spread::of(turns.ours.iter().zip(&turns.theirs).map(|(ours, theirs)| ours.0 / theirs.0));
    let goal = Goal::AtMost(1.0);
    let ns = |spread: Option<Spread>| show(spread, 2, "ns");
    Ok(Row {
        test: "T1",
        what: "drain a resident ring and decode 64-byte records into typed events, every field used, per record; libbpf `ring_buffer__consume`"
            .to_owned(),
        ours: ns(of(&turns.ours, |turn| turn.0)),
        theirs: ns(of(&turns.theirs, |turn| turn.0)),
        compared: show(ratio, 2, ""),
        goal,
        met: goal.is_met(ratio),
        drops: "0, 0".to_owned(),
        cpu: format!("{}, {}", ns(of(&turns.ours, |turn| turn.1)), ns(of(&turns.theirs, |turn| turn.1))),
        turns: format!("{} ({} disturbed)", turns.ours.len(), turns.disturbed),
    })
}
