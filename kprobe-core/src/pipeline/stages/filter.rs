use std::fmt;

use super::{drop_records, passing::Passing};
use crate::{
    abi::{Family, Kind},
    event::Measured,
    pipeline::{Batch, BatchBuf, Enriched, Stage, StageRow},
};

/// A stage that passes on the records for which something is true; the others are dropped and counted.
///
/// It decides by the record and by what is known of its thread, so it belongs behind the
/// [`ProcessTable`](crate::process::ProcessTable) if it looks at names, containers or parents. What the kernel programs can
/// leave out is better left out there: it costs less, and finds no full ring.
///
/// Records about the stream itself always pass, and a batch of which nothing has to go passes without being copied.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering::Relaxed}};
/// use kprobe_core::{event::Tgid, pipeline::{Filter, Stage}};
///
/// // By name and by container.
/// let shells = Filter::by("shells", |one| one.context.comm.as_bytes() == b"bash");
/// let contained = Filter::by("contained", |one| one.context.container.is_some());
///
/// // A setting that may change while it runs is shared with the predicate, which looks at it for each record.
/// let whose = Arc::new(AtomicU32::new(4000));
/// let setting = Arc::clone(&whose);
/// let one_process = Filter::by("one_process", move |one| one.record.header().tgid == setting.load(Relaxed))
///     .drops_as("of_others");
/// whose.store(4001, Relaxed);
/// assert_eq!(one_process.row().stage, "one_process");
/// ```
pub struct Filter<P> {
    keep: P,
    reason: String,
    row: StageRow,
    out: BatchBuf,
}

impl<P: FnMut(&Enriched<'_>) -> bool> Filter<P> {
    /// Passes on the records for which `keep` is true. In the ledger it is called `stage`, and what it drops `filtered_out`.
    pub fn by(stage: &str, keep: P) -> Self {
        let (reason, row) = ("filtered_out".to_owned(), StageRow::named(stage));
        Self { keep, reason, row, out: BatchBuf::default() }
    }

    /// Calls what it drops `reason` in the ledger.
    #[must_use]
    pub fn drops_as(self, reason: &str) -> Self {
        Self { reason: reason.to_owned(), ..self }
    }
}

impl Filter<()> {
    /// Passes on the kinds for which `wanted` is true; the others are dropped as `not_wanted`. The stage is called `only`.
    ///
    /// Some kinds are recorded because others need them: without process events nobody knows whose system call it was.
    ///
    /// ```
    /// use kprobe_core::{abi::Family, pipeline::Filter};
    ///
    /// let calls = Filter::kinds(|kind| kind.family() == Some(Family::Syscall));
    /// ```
    pub fn kinds(mut wanted: impl FnMut(Kind) -> bool) -> Filter<impl FnMut(&Enriched<'_>) -> bool> {
        Filter::by("only", move |one: &Enriched<'_>| wanted(one.record.kind())).drops_as("not_wanted")
    }

    /// Passes on the events that took as long as `least_ns` says for their kind, or longer; the others are dropped as
    /// `too_short`. The stage is called `min_duration`. As in the kernel, what has no duration passes: events of other kinds
    /// than [`Measured::KINDS`], calls that never return, events whose beginning was not seen. So does a record that cannot
    /// be decoded, which is for others to count.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
    /// use kprobe_core::{abi::Kind, pipeline::Filter};
    ///
    /// let threshold = Arc::new(AtomicU64::new(50_000));
    /// let setting = Arc::clone(&threshold);
    /// let slow = Filter::min_duration(move |kind| if kind == Kind::SYSCALL { setting.load(Relaxed) } else { 0 });
    /// threshold.store(1_000_000, Relaxed); // at any time, from any thread
    /// ```
    pub fn min_duration(mut least_ns: impl FnMut(Kind) -> u64) -> Filter<impl FnMut(&Enriched<'_>) -> bool> {
        Filter::by("min_duration", move |one: &Enriched<'_>| {
            let least_ns = least_ns(one.record.kind());
            let duration_ns = || Measured::of(one.record).ok().flatten()?.duration_ns;
            least_ns == 0 || duration_ns().is_none_or(|duration_ns| duration_ns >= least_ns)
        })
        .drops_as("too_short")
    }
}

impl<P: FnMut(&Enriched<'_>) -> bool> Stage for Filter<P> {
    fn apply(&mut self, batch: Batch) -> Batch {
        let (mut delivered, mut dropped) = (0, 0);
        let mut passing = Passing::new(&batch, &mut self.out);
        for one in batch.enriched() {
            // A frame without a record is none: whoever drains counts it.
            let Ok(one) = one else {
                passing.leave_out();
                continue;
            };
            if one.record.kind().family() == Some(Family::Meta) || (self.keep)(&one) {
                delivered += 1;
                passing.keep(&one);
            } else {
                dropped += 1;
                passing.leave_out();
            }
        }
        let whole = passing.is_whole();
        self.row.received += delivered + dropped;
        self.row.delivered += delivered;
        drop_records(&mut self.row, &self.reason, dropped);
        if whole { batch } else { self.out.take() }
    }

    fn row(&self) -> StageRow {
        self.row.clone()
    }
}

impl<P> fmt::Debug for Filter<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("row", &self.row).field("reason", &self.reason).finish_non_exhaustive()
    }
}
