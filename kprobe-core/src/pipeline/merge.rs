use std::{collections::VecDeque, time::Duration};

use super::{
    Batch, StageRow,
    order::{Key, Shape, Sorted, Sorter, look},
};

/// Puts records in total order, those of one source or of several: time, then CPU, then record number.
///
/// A source drains several rings one after the other, and a program may be interrupted between reading the clock and
/// reserving its record, so records come a little out of order. Those of the last moments are therefore held back: a
/// record leaves when every source has everything up to its time and `slack` more. What is held is bounded; beyond the
/// limit the oldest records leave early, which is counted as `early`. A record that comes when later ones have already
/// left is passed on at once, out of order, and counted as `late`. None is ever dropped.
///
/// A stream that is in order passes without being copied.
///
/// A capture holds the records as they were merged when it was made: play it without merging again, so that a late
/// record stays where it was.
///
/// ```
/// use std::time::Duration;
/// use kprobe_core::{abi::{Header, Kind}, decode::Record, pipeline::{BatchBuf, Merge}};
/// use zerocopy::IntoBytes;
///
/// let mut buf = BatchBuf::default();
/// for ktime_ns in [30, 10, 20] {
///     let header = Header { ktime_ns, kind: Kind::USER.0, ..Header::default() };
///     buf.push(Record::new(header.as_bytes())?);
/// }
/// let mut merge = Merge::new(Duration::from_nanos(5), 1 << 20);
/// merge.push(buf.take(), 27); // everything up to 27 is there; 22 is sure to be in order
/// let times = |merge: &mut Merge| -> Vec<u64> {
///     std::iter::from_fn(|| merge.pop())
///         .flat_map(|batch| batch.records().flatten().map(|record| record.header().ktime_ns).collect::<Vec<_>>())
///         .collect()
/// };
/// assert_eq!(times(&mut merge), [10, 20]);
/// merge.finish();
/// assert_eq!(times(&mut merge), [30]);
/// # Ok::<(), kprobe_core::decode::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Merge {
    slack_ns: u64,
    limit: usize,
    /// In order, and each in itself.
    held: VecDeque<Sorted>,
    held_bytes: usize,
    ready: VecDeque<Batch>,
    /// Greatest key that has left.
    left: Key,
    complete_until_ns: u64,
    sorter: Sorter,
    count: Count,
}

#[derive(Debug, Default)]
struct Count {
    received: u64,
    delivered: u64,
    bad_frames: u64,
    late: u64,
    early: u64,
}

/// Name of the stage in the ledger.
const NAME: &str = "merge";

impl Default for Merge {
    /// A slack of 1 ms, and at most 16 MiB held.
    fn default() -> Self {
        Self::new(Self::SLACK, 16 << 20)
    }
}

impl Merge {
    /// By how much records come out of order, and more: a program is seldom interrupted for so long between reading the clock and
    /// reserving its record.
    pub const SLACK: Duration = Duration::from_millis(1);

    /// Holds records back for `slack`, and at most `limit` bytes of them, their frames included. The buffers of the
    /// batches that these bytes came in are alive as long.
    #[must_use]
    pub fn new(slack: Duration, limit: usize) -> Self {
        Self {
            slack_ns: u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX),
            limit,
            held: VecDeque::new(),
            held_bytes: 0,
            ready: VecDeque::new(),
            left: Key::default(),
            complete_until_ns: 0,
            sorter: Sorter::default(),
            count: Count::default(),
        }
    }

    /// Takes what a source gave; see [`Polled::complete_until_ns`](super::Polled). Contexts, if the batch has any, are
    /// not kept. Then [`pop`](Self::pop) until it gives `None`.
    pub fn push(&mut self, batch: Batch, complete_until_ns: u64) {
        let (shape, bad) = look(batch);
        self.count.received += bad;
        self.count.bad_frames += bad;
        match shape {
            Shape::Empty => {}
            Shape::Ordered(run) if self.last_held() <= run.first => {
                self.count.received += run.records;
                self.hold(run);
            }
            Shape::Ordered(Sorted { bytes, records, .. }) | Shape::Mixed { bytes, records } => {
                self.count.received += records;
                self.sort_in(bytes);
            }
        }
        self.complete_until_ns = self.complete_until_ns.max(complete_until_ns);
        if let Some(until_ns) = self.complete_until_ns.checked_sub(self.slack_ns) {
            self.release(until_ns);
        }
        self.keep_limit();
    }

    /// A batch in order, and after all earlier ones but for late records.
    pub fn pop(&mut self) -> Option<Batch> {
        let batch = self.ready.pop_front()?;
        self.count.delivered += batch.count();
        Some(batch)
    }

    /// Lets everything go: there will be no more, or it will not be waited for.
    pub fn finish(&mut self) {
        self.release(u64::MAX);
    }

    /// How long to wait for more records while some are held; `None` if none are.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        (!self.held.is_empty()).then(|| Duration::from_nanos(self.slack_ns))
    }

    /// The books of this stage. `counts` has `late` and `early` where they are not 0.
    #[must_use]
    pub fn row(&self) -> StageRow {
        let counts = [("late", self.count.late), ("early", self.count.early)];
        StageRow {
            received: self.count.received,
            delivered: self.count.delivered,
            undecodable: self.count.bad_frames,
            held: self.held.iter().map(|run| run.records).chain(self.ready.iter().map(Batch::count)).sum(),
            counts: counts
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(what, n)| (what.to_owned(), n))
                .collect(),
            ..StageRow::named(NAME)
        }
    }

    /// Greatest key that has left or is held.
    fn last_held(&self) -> Key {
        self.held.back().map_or(self.left, |run| run.last)
    }

    fn hold(&mut self, run: Sorted) {
        self.held_bytes += run.bytes.len();
        self.held.push_back(run);
    }

    fn let_go(&mut self, run: Sorted) {
        self.left = self.left.max(run.last);
        self.ready.push_back(run.into_batch());
    }

    fn sort_in(&mut self, bytes: bytes::Bytes) {
        self.sorter.add(bytes);
        self.sorter.sort();
        if let Some(late) = self.sorter.take_below(self.left) {
            self.count.late += late.records;
            self.let_go(late);
        }
        if let Some(first) = self.sorter.first() {
            let earlier = self.sorter.len();
            for run in self.take_after(first) {
                self.sorter.add(run.bytes);
            }
            self.sorter.last_becomes_first(earlier);
            self.sorter.sort();
        }
        if let Some(run) = self.sorter.take() {
            self.hold(run);
        }
    }

    /// Takes the held records after `key` out, in order.
    fn take_after(&mut self, key: Key) -> VecDeque<Sorted> {
        let mut after = VecDeque::new();
        while self.held.back().is_some_and(|run| run.last > key)
            && let Some(run) = self.held.pop_back()
        {
            self.held_bytes -= run.bytes.len();
            let (before, rest) = run.split(|at, _| at <= key);
            if let Some(rest) = rest {
                after.push_front(rest);
            }
            if let Some(before) = before {
                self.hold(before);
                break;
            }
        }
        after
    }

    /// Lets the records up to `until_ns` go.
    fn release(&mut self, until_ns: u64) {
        while self.held.front().is_some_and(|run| run.first.ktime_ns() <= until_ns)
            && let Some(run) = self.held.pop_front()
        {
            self.held_bytes -= run.bytes.len();
            if run.last.ktime_ns() <= until_ns {
                self.let_go(run);
                continue;
            }
            let (due, rest) = run.split(|key, _| key.ktime_ns() <= until_ns);
            self.part(due, rest);
            break;
        }
    }

    /// Lets the oldest go until what is held is within the limit.
    fn keep_limit(&mut self) {
        while self.held_bytes > self.limit
            && let Some(run) = self.held.pop_front()
        {
            let excess = self.held_bytes - self.limit;
            self.held_bytes -= run.bytes.len();
            let mut freed = 0;
            let (due, rest) = run.split(|_, end| std::mem::replace(&mut freed, end) < excess);
            self.count.early += due.as_ref().map_or(0, |run| run.records);
            self.part(due, rest);
        }
    }

    fn part(&mut self, due: Option<Sorted>, rest: Option<Sorted>) {
        if let Some(due) = due {
            self.let_go(due);
        }
        if let Some(rest) = rest {
            self.held_bytes += rest.bytes.len();
            self.held.push_front(rest);
        }
    }
}
