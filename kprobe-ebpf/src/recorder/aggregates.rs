//! Durations that the kernel sums up: what is to be summed up, and a histogram in the stream for each key and interval.

use std::{
    collections::BTreeMap,
    io,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kprobe_core::{
    abi::{Config, FAMILIES, Family, HISTOGRAM_CLASSES, Histogram, HistogramSlot, Kind, aggregate_by},
    event::By,
    pipeline::BatchBuf,
};

use super::{
    grace,
    own::{Own, OwnRecords},
};
use crate::{attach::Object, shared::SharedArray};

/// What is summed up, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aggregation {
    by: [Option<By>; FAMILIES],
    pub(crate) interval: Duration,
    pub(crate) most_keys: u32,
}

impl Default for Aggregation {
    fn default() -> Self {
        Self { by: [None; FAMILIES], interval: Duration::from_secs(1), most_keys: 512 }
    }
}

impl Aggregation {
    pub(crate) fn set(&mut self, family: Family, by: By) {
        self.by[family as usize] = Some(by);
    }

    /// Whether a family's durations are summed up.
    pub(crate) fn has(&self, family: Family) -> bool {
        self.by[family as usize].is_some()
    }

    /// Families whose durations are summed up, and by what.
    pub(crate) fn families(&self) -> impl Iterator<Item = (usize, By)> {
        self.by.iter().enumerate().filter_map(|(family, by)| Some((family, (*by)?)))
    }

    pub(crate) fn is_off(&self) -> bool {
        self.by.iter().all(Option::is_none)
    }

    /// The frozen global `AGGREGATE`.
    pub(crate) fn global(&self) -> Vec<u8> {
        self.by.iter().map(|by| by.map_or(aggregate_by::NOTHING, By::code)).collect()
    }
}

/// The histograms of a recording.
#[derive(Debug)]
pub(crate) struct Aggregates {
    aggregation: Aggregation,
    /// When the interval began.
    from_ns: u64,
    /// When it ended: the programs count in the other half already, but some may still be running that do not.
    ended_ns: Option<u64>,
}

impl Aggregation {
    /// Room in a table of a CPU.
    pub(crate) fn slots(&self) -> u32 {
        if self.is_off() { 1 } else { self.most_keys.next_power_of_two() }
    }
}

impl Aggregates {
    /// Begins the first interval; `None` if nothing is summed up.
    pub(crate) fn begin(aggregation: Aggregation, now_ns: u64) -> Option<Self> {
        (!aggregation.is_off()).then_some(Self { aggregation, from_ns: now_ns, ended_ns: None })
    }

    /// Time until the interval is over.
    pub(crate) fn left(&self, now_ns: u64) -> Duration {
        let interval = u64::try_from(self.aggregation.interval.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.from_ns.saturating_add(interval).saturating_sub(now_ns))
    }

    /// Whether an interval has ended whose histograms are still to be read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended_ns.is_some()
    }

    /// Ends the interval: a record for each key.
    ///
    /// # Errors
    /// The system does not let this process wait for the programs that are running. The next call tries again, and nothing is
    /// lost.
    pub(crate) fn put(
        &mut self,
        object: &Object,
        now_ns: u64,
        own: &mut OwnRecords,
        out: &mut BatchBuf,
    ) -> io::Result<()> {
        let Some(histograms) = &object.histograms else { return Ok(()) };
        let half = object.config.u32_at(0, offset_of!(Config, histogram_half));
        let ended_ns = *self.ended_ns.get_or_insert_with(|| {
            half.fetch_xor(1, Ordering::SeqCst);
            now_ns
        });
        if !grace::wait() {
            return Err(io::Error::other("the system does not let this process wait for running programs"));
        }
        let old = half.load(Ordering::SeqCst) ^ 1;
        let mut rows = BTreeMap::new();
        for table in Table::of_half(histograms, old & 1, self.aggregation.slots()) {
            table.take(&mut rows);
        }
        self.ended_ns = None;
        let from_ns = std::mem::replace(&mut self.from_ns, ended_ns);
        for ((kind, key), counts) in rows {
            self.put_row(kind, key, counts, from_ns..ended_ns, own, out);
        }
        Ok(())
    }

    fn put_row(
        &self,
        kind: u64,
        key: u64,
        mut counts: Counts,
        interval: std::ops::Range<u64>,
        own: &mut OwnRecords,
        out: &mut BatchBuf,
    ) {
        let kind = Kind(u16::try_from(kind).unwrap_or(u16::MAX));
        let Some(by) = kind.family().and_then(|family| self.aggregation.by[family as usize]) else { return };
        loop {
            let mut body = Histogram {
                key,
                from_ns: interval.start,
                sum: std::mem::take(&mut counts.sum),
                kind: kind.0,
                by: by.code().into(),
                flags: 0,
                counts: [0; HISTOGRAM_CLASSES],
            };
            for (part, rest) in body.counts.iter_mut().zip(&mut counts.of_classes) {
                *part = u32::try_from(*rest).unwrap_or(u32::MAX);
                *rest -= u64::from(*part);
            }
            let process = if by == By::Tgid { u32::try_from(key).unwrap_or(u32::MAX) } else { 0 };
            let cgroup_id = if by == By::Cgroup { key } else { 0 };
            let record = Own {
                kind: Kind::META_HISTOGRAM,
                ktime_ns: interval.end,
                cgroup_id,
                tgid: process,
                tid: process,
                body,
            };
            own.push(&record, out);
            // More than 4 billion events of one class do not fit into one record.
            if counts.of_classes.iter().all(|rest| *rest == 0) {
                return;
            }
        }
    }
}

/// What was counted under one key, on all CPUs.
#[derive(Clone, Copy)]
struct Counts {
    sum: u64,
    of_classes: [u64; HISTOGRAM_CLASSES],
}

/// The table of a CPU in which no program counts now.
struct Table<'a> {
    histograms: &'a SharedArray<HistogramSlot>,
    slots: std::ops::Range<usize>,
}

impl<'a> Table<'a> {
    fn of_half(
        histograms: &'a SharedArray<HistogramSlot>,
        half: u32,
        slots: u32,
    ) -> impl Iterator<Item = Self> {
        let (half, slots) = (half as usize, slots as usize);
        (0..histograms.len() / slots).filter(move |table| table % 2 == half).map(move |table| {
            let first = table * slots;
            Self { histograms, slots: first..first + slots }
        })
    }

    /// Adds what was counted, and empties the table.
    fn take(self, rows: &mut BTreeMap<(u64, u64), Counts>) {
        for slot in self.slots {
            let word = |offset| self.histograms.u64_at(slot, offset);
            // Relaxed: the programs that wrote are over, and the next come after the next change of halves.
            let take = |word: &AtomicU64| {
                let value = word.load(Ordering::Relaxed);
                if value != 0 {
                    word.store(0, Ordering::Relaxed);
                }
                value
            };
            let kind = take(word(offset_of!(HistogramSlot, kind)));
            if kind == 0 {
                continue;
            }
            let key = take(word(offset_of!(HistogramSlot, key)));
            let none = Counts { sum: 0, of_classes: [0; HISTOGRAM_CLASSES] };
            let counts = rows.entry((kind, key)).or_insert(none);
            counts.sum += take(word(offset_of!(HistogramSlot, sum)));
            for (class, count) in counts.of_classes.iter_mut().enumerate() {
                *count += take(word(offset_of!(HistogramSlot, counts) + class * size_of::<u64>()));
            }
        }
    }
}
