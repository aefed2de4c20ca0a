use std::{ops::Range, time::Duration};

use super::{
    drop_records,
    interval::Intervals,
    made::Made,
    passing::Passing,
    sums::{Counted, Sums},
};
use crate::{
    abi::{FAMILIES, Family},
    event::{By, Measured},
    pipeline::{Batch, BatchBuf, Enriched, Stage, StageRow},
};

/// A stage that sums up how long events took: `meta.histogram` records take the place of the events, the same that sums in
/// the kernel give.
///
/// Summing up in the kernel costs less, and nothing of it can be lost on the way. Here the events are still to be had: in a
/// capture that is written before this stage, or behind it with [`keep_events`](Self::keep_events), and a capture of events
/// can be summed up later, in another way.
///
/// **What is counted.** Records of the families that were asked for which [have a duration](Measured), each as one event: a
/// rate at which records were sampled before is not made up for, so [`Sample`](super::Sample) belongs behind this stage. All
/// others pass. Those of the scheduler have no duration and cannot be summed up here.
///
/// **Intervals** are of the stream's own time: they end at multiples of their length on the clock of the records, when the
/// first record comes that is not earlier than that. While nothing comes, nothing ends. A record that comes when its
/// interval is over is counted in the one that is open, and as `late` in the ledger.
///
/// **Memory** is bounded by the number of histograms in an interval, [`most_keys`](Self::most_keys). When another one would be
/// needed, the interval ends early for all of them, and the next one begins there. So every event is in exactly one
/// histogram, and no event is lost for want of room: what such a flood costs is records. `early` in the ledger is the number
/// of histograms that had to go before their time.
///
/// **In the ledger** an event that was counted is `held` until its histogram is in the stream, then dropped as `summed_up`;
/// histograms are `added`.
///
/// A histogram of a process has the context of its process, one of a cgroup the container, as far as the events' contexts
/// tell.
///
/// ```
/// use std::time::Duration;
/// use kprobe_core::{abi::{self, Family, Header, Kind}, decode::Record, event::{By, Histogram, TypedEvent}};
/// use kprobe_core::pipeline::{Aggregate, BatchBuf, Stage};
/// use zerocopy::IntoBytes;
///
/// let mut buf = BatchBuf::default();
/// for ktime_ns in [1_000, 2_000, 3_000] {
///     let header = Header { ktime_ns, kind: Kind::SYSCALL.0, ..Header::default() };
///     let call = abi::Syscall { enter_ns: ktime_ns - 70, flags: abi::SYSCALL_HAS_RET, ..abi::Syscall::default() };
///     buf.push(Record::new(&[header.as_bytes(), call.as_bytes()].concat())?);
/// }
/// let mut sums = Aggregate::new(Duration::from_secs(1)).sum_up(Family::Syscall, By::Subject)?;
/// assert!(sums.apply(buf.take()).is_empty());
/// let batch = sums.finish();
/// let histogram = Histogram::decode(batch.records().next().expect("of one call")?)?;
/// assert_eq!((histogram.count(), histogram.sum_ns), (3, 210));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Aggregate {
    by: [Option<By>; FAMILIES],
    keep_events: bool,
    time: Intervals,
    sums: Sums,
    made: Made,
    /// `held` are the events that only the sums have.
    row: StageRow,
    late: u64,
    early: u64,
    out: BatchBuf,
}

/// A family of events cannot be summed up as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotSumUp {
    /// No record of it has a duration.
    #[error(
        "records of {} have no duration, so they cannot be summed up here; expected one of {}",
        .family.name(),
        names(|_| true)
    )]
    NoDuration {
        /// The family.
        family: Family,
    },
    /// None of its records is about a thing by which they could be told apart.
    #[error(
        "records of {} have no subject; tell them apart by kind, tgid or cgroup, or take one of {}",
        .family.name(),
        names(crate::abi::Kind::has_subject)
    )]
    NoSubject {
        /// The family.
        family: Family,
    },
}

/// Families that have such a kind among those with a duration.
fn names(with: fn(crate::abi::Kind) -> bool) -> String {
    let has =
        |family: &&Family| Measured::KINDS.iter().any(|kind| kind.family() == Some(**family) && with(*kind));
    Family::ALL.iter().filter(has).map(|family| family.name()).collect::<Vec<_>>().join(", ")
}

impl Aggregate {
    /// Sums up nothing yet; intervals will have that length (at least a nanosecond).
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self {
            by: [None; FAMILIES],
            keep_events: false,
            time: Intervals::new(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)),
            sums: Sums::new(4096),
            made: Made::default(),
            row: StageRow::named("aggregate"),
            late: 0,
            early: 0,
            out: BatchBuf::default(),
        }
    }

    /// Sums up a family. Of its events, those without a duration pass as ever, and so do those without a subject where that is
    /// what they are told apart by.
    ///
    /// # Errors
    /// See [`CannotSumUp`].
    pub fn sum_up(mut self, family: Family, by: By) -> Result<Self, CannotSumUp> {
        let mut kinds = Measured::KINDS.iter().filter(|kind| kind.family() == Some(family)).peekable();
        if kinds.peek().is_none() {
            return Err(CannotSumUp::NoDuration { family });
        }
        if by == By::Subject && !kinds.any(|kind| kind.has_subject()) {
            return Err(CannotSumUp::NoSubject { family });
        }
        self.by[family as usize] = Some(by);
        Ok(self)
    }

    /// At most so many histograms at a time, at least one. 4,096 unless said otherwise; each takes about 400 bytes.
    #[must_use]
    pub fn most_keys(mut self, most: usize) -> Self {
        self.sums = Sums::new(most);
        self
    }

    /// Whether events that are summed up are passed on as well. They are not unless said so.
    #[must_use]
    pub fn keep_events(self, keep: bool) -> Self {
        Self { keep_events: keep, ..self }
    }

    /// Histograms of the open interval.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.sums.len()
    }

    /// What is to be counted of a record.
    #[inline]
    fn counted(&self, one: &Enriched<'_>) -> Option<Counted> {
        let kind = one.record.kind();
        let by = self.by[kind.family()? as usize]?;
        // A record that cannot be decoded passes: it is for others to count.
        Counted::new(kind, by, &Measured::of(one.record).ok().flatten()?)
    }

    /// Takes a record in, and says whether it is in a sum. `passing` gets the histograms that it ends.
    fn take_in(&mut self, one: &Enriched<'_>, passing: &mut Passing<'_>) -> bool {
        let ktime_ns = one.record.header().ktime_ns;
        if let Some(ended) = self.time.advance(ktime_ns) {
            self.put(&ended, passing);
        }
        let Some(event) = self.counted(one) else { return false };
        if !self.sums.count(event, one) {
            if let Some(ended) = self.time.cut() {
                self.early += self.put(&ended, passing);
            }
            // Now there is room.
            self.sums.count(event, one);
        }
        self.late += u64::from(self.time.is_late(ktime_ns));
        true
    }

    /// Ends an interval. Returns how many histograms it had.
    fn put(&mut self, ended: &Range<u64>, passing: &mut Passing<'_>) -> u64 {
        let added = self.sums.take(ended, &mut self.made, |record, context| passing.add(record, &context));
        self.row.added += added;
        self.row.delivered += added;
        let summed_up = std::mem::take(&mut self.row.held);
        drop_records(&mut self.row, "summed_up", summed_up);
        added
    }
}

impl Stage for Aggregate {
    fn apply(&mut self, batch: Batch) -> Batch {
        let mut out = std::mem::take(&mut self.out);
        let mut passing = Passing::new(&batch, &mut out);
        for one in batch.enriched() {
            // A frame without a record is none: whoever drains counts it.
            let Ok(one) = one else {
                passing.leave_out();
                continue;
            };
            self.row.received += 1;
            if self.take_in(&one, &mut passing) && !self.keep_events {
                self.row.held += 1;
                passing.leave_out();
            } else {
                self.row.delivered += 1;
                passing.keep(&one);
            }
        }
        let whole = passing.is_whole();
        let batch = if whole { batch } else { out.take() };
        self.out = out;
        batch
    }

    fn finish(&mut self) -> Batch {
        let mut out = BatchBuf::default();
        if let Some(ended) = self.time.cut() {
            self.put(&ended, &mut Passing::new(&Batch::default(), &mut out));
        }
        out.take()
    }

    fn row(&self) -> StageRow {
        let counts = [("late", self.late), ("early", self.early)];
        StageRow {
            counts: counts
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(what, n)| (what.to_owned(), n))
                .collect(),
            ..self.row.clone()
        }
    }
}
