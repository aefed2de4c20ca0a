use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::delivery::reason;

/// The books: what became of every record.
///
/// In every row and from row to row, what came in equals what went out: submitted = delivered + lost + dropped +
/// undecodable, and what a stage or a sink still holds while the stream goes on. Records that a stage makes come in
/// there. [`balance`](Self::balance) is the sum of all differences, so it is 0 at every step, or there is a bug.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// What the kernel programs counted, and what user space added to the stream.
    pub probes: Vec<ProbeRow>,
    /// What each stage did, in their order.
    pub stages: Vec<StageRow>,
    /// What became of the records for each sink; each is offered every one.
    pub sinks: Vec<SinkRow>,
    /// Sinks that do not get the records after the last stage but those after an earlier one: name of the sink, name of
    /// the stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taps: BTreeMap<String, String>,
    /// Records whose bytes were not what their kind says.
    pub undecodable: u64,
    /// Events that should have been summed up in the kernel and are in no sum, for want of room: no records, so no part of the
    /// balance.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncounted: u64,
    /// The sum of all differences.
    pub balance: u64,
}

/// One kind of record on one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// Name of the kind.
    pub probe: String,
    /// CPU; `None` for records that user space added.
    pub cpu: Option<u16>,
    /// Records that passed every filter.
    pub submitted: u64,
    /// Of these, how many the kernel had no room for.
    pub lost: u64,
    /// Records that sampling left out; not part of `submitted`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sampled_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Records dropped in user space, by reason.
pub type Drops = BTreeMap<String, u64>;

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRow {
    /// Name of the stage.
    pub stage: String,
    /// Records it was given.
    pub received: u64,
    /// Records it made itself, which `delivered` has, too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub added: u64,
    /// Records it passed on.
    pub delivered: u64,
    /// Records it dropped, by reason.
    pub dropped: Drops,
    /// Records it found undecodable and took out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub undecodable: u64,
    /// Records it keeps for now; 0 at the end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// What else it counted, no part of the balance: records that came late, entries of a table it had to give up, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
}

/// One sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkRow {
    /// Name of the sink.
    pub sink: String,
    /// Records it was to get, whether or not its queue had room for them.
    pub received: u64,
    /// Records that reached their destination.
    pub delivered: u64,
    /// Records dropped by it or in front of it, by reason.
    pub dropped: Drops,
    /// Records that wait for it, or that it has not brought to their destination yet; at the end those that are on disk for the
    /// next time, and 0 without a spill.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// Records that an earlier run left on disk for it; they are no part of what it was given now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recovered: u64,
}

impl Ledger {
    /// Draws up the books.
    #[must_use]
    pub fn new(probes: Vec<ProbeRow>, stages: Vec<StageRow>, sinks: Vec<SinkRow>) -> Self {
        Self::with_taps(probes, stages, sinks, BTreeMap::new())
    }

    /// Draws up the books where some sinks get the records after an earlier stage than the last; see
    /// [`taps`](Self::taps). A tap at a stage that is not there is at the source.
    #[must_use]
    pub fn with_taps(
        probes: Vec<ProbeRow>,
        stages: Vec<StageRow>,
        sinks: Vec<SinkRow>,
        taps: BTreeMap<String, String>,
    ) -> Self {
        let undecodable = stages.iter().map(|stage| stage.undecodable).sum();
        let drained: u64 = probes.iter().map(ProbeRow::drained).sum();
        let mut balance: u64 = probes.iter().map(|row| row.lost.saturating_sub(row.submitted)).sum();
        let mut flow = drained;
        for stage in &stages {
            balance +=
                flow.abs_diff(stage.received) + (stage.received + stage.added).abs_diff(stage.accounted());
            flow = stage.delivered;
        }
        for sink in &sinks {
            let given = taps.get(&sink.sink).map_or(flow, |tap| {
                stages.iter().find(|stage| stage.stage == *tap).map_or(drained, |stage| stage.delivered)
            });
            balance += given.abs_diff(sink.received);
            balance += (sink.received + sink.recovered).abs_diff(sink.accounted());
        }
        Self { probes, stages, sinks, taps, undecodable, uncounted: 0, balance }
    }

    /// The same books, and so many events that are in no sum.
    #[must_use]
    pub fn with_uncounted(self, uncounted: u64) -> Self {
        Self { uncounted, ..self }
    }

    /// Records that passed every filter, over all probes.
    #[must_use]
    pub fn submitted(&self) -> u64 {
        self.probes.iter().map(|row| row.submitted).sum()
    }

    /// Records the kernel had no room for, over all probes.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.probes.iter().map(|row| row.lost).sum()
    }
}

impl ProbeRow {
    /// Records that user space got, or will get.
    #[must_use]
    pub const fn drained(&self) -> u64 {
        self.submitted.saturating_sub(self.lost)
    }
}

impl StageRow {
    /// An empty row of that name.
    #[must_use]
    pub fn named(stage: &str) -> Self {
        Self { stage: stage.to_owned(), ..Self::default() }
    }

    /// Everything that can have become of a record; equal to `received` and `added` together.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.delivered + self.undecodable + self.held + self.dropped.values().sum::<u64>()
    }
}

impl SinkRow {
    /// Why a pipeline drops records in front of a sink; a sink has reasons of its own beside these.
    pub const REASONS: [&'static str; 7] = reason::ALL;

    /// Everything that can have become of a record; equal to `received` and `recovered` together.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.delivered + self.held + self.dropped.values().sum::<u64>()
    }
}

impl fmt::Display for Ledger {
    /// A table for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22} {:>5} {:>12} {:>12} {:>12}", "probe", "cpu", "submitted", "lost", "sampled out")?;
        for row in self.probes.iter().filter(|row| row.submitted + row.sampled_out > 0) {
            let cpu = row.cpu.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string());
            writeln!(
                f,
                "{:<22} {cpu:>5} {:>12} {:>12} {:>12}",
                row.probe, row.submitted, row.lost, row.sampled_out
            )?;
        }
        writeln!(f, "{:<22} {:>18} {:>12} {:>12}", "stage or sink", "received", "delivered", "dropped")?;
        for row in &self.stages {
            let noted = [("added", row.added), ("undecodable", row.undecodable), ("held", row.held)];
            let noted = noted.into_iter().filter(|(_, count)| *count > 0);
            let noted = noted.chain(row.counts.iter().map(|(what, count)| (what.as_str(), *count)));
            line(f, &row.stage, [row.received, row.delivered], &row.dropped, noted)?;
        }
        for row in &self.sinks {
            let held = (row.held > 0).then_some(("held", row.held));
            line(f, &row.sink, [row.received, row.delivered], &row.dropped, held.into_iter())?;
        }
        write!(f, "undecodable {}, balance {}", self.undecodable, self.balance)?;
        if self.uncounted > 0 {
            write!(f, ", uncounted {}", self.uncounted)?;
        }
        Ok(())
    }
}

fn line<'a>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    [received, delivered]: [u64; 2],
    dropped: &'a Drops,
    noted: impl Iterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    write!(f, "{name:<22} {received:>18} {delivered:>12} {:>12}", dropped.values().sum::<u64>())?;
    for (what, count) in dropped.iter().map(|(reason, count)| (reason.as_str(), *count)).chain(noted) {
        write!(f, "  {what} {count}")?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Ledger, ProbeRow, SinkRow, StageRow};

    const SUBMITTED: u64 = 100;
    const LOST: u64 = 10;

    fn drops(count: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("reason".to_owned(), count)])
    }

    /// Two stages, a sink behind the first and one behind both, which all tell the truth, and what `lie` makes of it.
    fn balance(lie: impl FnOnce(&mut ProbeRow, &mut [StageRow; 2], &mut [SinkRow; 2])) -> u64 {
        let mut probe = ProbeRow {
            probe: "syscall".to_owned(),
            cpu: Some(0),
            submitted: SUBMITTED,
            lost: LOST,
            sampled_out: 7,
        };
        let first = StageRow {
            received: 90,
            delivered: 85,
            undecodable: 2,
            held: 1,
            dropped: drops(2),
            ..StageRow::named("first")
        };
        let second = StageRow {
            received: 85,
            added: 3,
            delivered: 80,
            dropped: drops(8),
            ..StageRow::named("second")
        };
        let mut stages = [first, second];
        let tapped = SinkRow { sink: "tapped".to_owned(), received: 85, delivered: 85, ..SinkRow::default() };
        let last = SinkRow {
            sink: "last".to_owned(),
            received: 80,
            delivered: 51,
            dropped: drops(30),
            held: 2,
            recovered: 3,
        };
        let mut sinks = [tapped, last];
        lie(&mut probe, &mut stages, &mut sinks);
        let taps = BTreeMap::from([("tapped".to_owned(), "first".to_owned())]);
        Ledger::with_taps(vec![probe], stages.to_vec(), sinks.to_vec(), taps).balance
    }

    #[test]
    fn the_truth_balances() {
        assert_eq!(balance(|_, _, _| ()), 0);
    }

    #[test]
    fn whoever_cheats_is_seen() {
        // Sinks: what was received came to nothing, came from nowhere, or is more than was given.
        assert_eq!(balance(|_, _, sinks| sinks[1].delivered -= 3), 3);
        assert_eq!(balance(|_, _, sinks| sinks[1].delivered += 3), 3);
        assert_eq!(balance(|_, _, sinks| sinks[0].dropped = drops(4)), 4);
        assert_eq!(balance(|_, _, sinks| (sinks[0].received, sinks[0].delivered) = (84, 84)), 1);
        assert_eq!(balance(|_, _, sinks| (sinks[1].received, sinks[1].delivered) = (85, 56)), 5);
        assert_eq!(balance(|_, _, sinks| sinks[1].held = 0), 2);
        assert_eq!(balance(|_, _, sinks| sinks[1].recovered = 0), 3);
        // Stages, in each of their columns.
        assert_eq!(balance(|_, stages, _| stages[0].held = 0), 1);
        assert_eq!(balance(|_, stages, _| stages[0].undecodable = 0), 2);
        assert_eq!(balance(|_, stages, _| stages[1].dropped.clear()), 8);
        assert_eq!(balance(|_, stages, _| (stages[1].received, stages[1].dropped) = (86, drops(9))), 1);
        // Records from nowhere, and some that were made and came to nothing.
        assert_eq!(balance(|_, stages, _| stages[1].added = 0), 3);
        assert_eq!(balance(|_, stages, _| stages[1].added += 2), 2);
        // Sources: records that nobody got, and more lost than there were.
        assert_eq!(balance(|probe, _, _| probe.lost = 0), 10);
        assert_eq!(balance(|probe, _, _| (probe.submitted, probe.lost) = (0, 0)), 90);
        assert_eq!(balance(|probe, _, _| probe.lost = SUBMITTED + 3), 3 + 90);
    }
}
