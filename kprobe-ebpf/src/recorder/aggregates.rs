//! Durations that the kernel sums up: what is to be summed up, and a histogram in the stream for each key and interval.

use std::{fmt, time::Duration};

use aya::maps::{Map, MapData, PerCpuHashMap};
use kprobe_core::{
    abi::{
        FAMILIES, Family, HISTOGRAM_CLASSES, Histogram, HistogramCounts, HistogramKey, Kind, aggregate_by,
    },
    pipeline::BatchBuf,
};

use super::own::{Own, OwnRecords};
use crate::attach::{AttachError, Object};

/// By what the durations of a family are told apart when the kernel sums them up: a histogram for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum By {
    /// The kind of event, and nothing else.
    Kind,
    /// The process.
    Tgid,
    /// The cgroup.
    Cgroup,
    /// What the event is about: the system call, the device, the vector of an interrupt.
    Subject,
}

impl By {
    const fn code(self) -> u8 {
        match self {
            Self::Kind => aggregate_by::KIND,
            Self::Tgid => aggregate_by::TGID,
            Self::Cgroup => aggregate_by::CGROUP,
            Self::Subject => aggregate_by::SUBJECT,
        }
    }
}

/// What is summed up, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aggregation {
    by: [Option<By>; FAMILIES],
    pub(crate) interval: Duration,
    pub(crate) most_keys: u32,
}

impl Default for Aggregation {
    fn default() -> Self {
        Self { by: [None; FAMILIES], interval: Duration::from_secs(1), most_keys: 1024 }
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

    pub(crate) fn families(&self) -> impl Iterator<Item = usize> {
        self.by.iter().enumerate().filter(|(_, by)| by.is_some()).map(|(family, _)| family)
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
pub(crate) struct Aggregates {
    aggregation: Aggregation,
    /// Those of this interval.
    current: PerCpuHashMap<MapData, Key, Counts>,
    from_ns: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Key(HistogramKey);

// SAFETY: made of integers, without padding.
unsafe impl aya::Pod for Key {}

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Counts(HistogramCounts);

// SAFETY: likewise.
unsafe impl aya::Pod for Counts {}

impl fmt::Debug for Aggregates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregates").field("aggregation", &self.aggregation).finish_non_exhaustive()
    }
}

impl Aggregates {
    /// Begins the first interval; `None` if nothing is summed up.
    pub(crate) fn begin(
        aggregation: Aggregation,
        object: Option<&mut Object>,
        now_ns: u64,
    ) -> Result<Option<Self>, AttachError> {
        let Some(object) = object.filter(|_| !aggregation.is_off()) else { return Ok(None) };
        let current = fresh(object, aggregation.most_keys)?;
        Ok(Some(Self { aggregation, current, from_ns: now_ns }))
    }

    /// Time until the interval is over.
    pub(crate) fn left(&self, now_ns: u64) -> Duration {
        let interval = u64::try_from(self.aggregation.interval.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.from_ns.saturating_add(interval).saturating_sub(now_ns))
    }

    /// Ends the interval: a record for each key. The kernel makes the caller wait until no program counts in the old
    /// histograms any more.
    pub(crate) fn put(
        &mut self,
        object: &mut Object,
        now_ns: u64,
        own: &mut OwnRecords,
        out: &mut BatchBuf,
    ) -> Result<(), AttachError> {
        let next = fresh(object, self.aggregation.most_keys)?;
        let old = std::mem::replace(&mut self.current, next);
        let from_ns = std::mem::replace(&mut self.from_ns, now_ns);
        let mut rows = Vec::new();
        for key in old.keys() {
            let key = key.map_err(AttachError::map)?;
            let by_cpu = old.get(&key, 0).map_err(AttachError::map)?;
            rows.push((key.0, total(by_cpu.iter().map(|counts| &counts.0))));
        }
        rows.sort_by_key(|(key, _)| (key.kind, key.key));
        for (key, counts) in rows {
            self.put_row(key, counts, from_ns, now_ns, own, out);
        }
        Ok(())
    }

    fn put_row(
        &self,
        key: HistogramKey,
        mut counts: HistogramCounts,
        from_ns: u64,
        now_ns: u64,
        own: &mut OwnRecords,
        out: &mut BatchBuf,
    ) {
        let kind = Kind(u16::try_from(key.kind).unwrap_or(u16::MAX));
        let Some(by) = kind.family().and_then(|family| self.aggregation.by[family as usize]) else { return };
        loop {
            let mut body = Histogram {
                key: key.key,
                from_ns,
                sum: std::mem::take(&mut counts.sum),
                kind: kind.0,
                by: by.code().into(),
                flags: 0,
                counts: [0; HISTOGRAM_CLASSES],
            };
            for (part, rest) in body.counts.iter_mut().zip(&mut counts.counts) {
                *part = u32::try_from(*rest).unwrap_or(u32::MAX);
                *rest -= u64::from(*part);
            }
            let process = if by == By::Tgid { u32::try_from(key.key).unwrap_or(u32::MAX) } else { 0 };
            let cgroup_id = if by == By::Cgroup { key.key } else { 0 };
            let record = Own {
                kind: Kind::META_HISTOGRAM,
                ktime_ns: now_ns,
                cgroup_id,
                tgid: process,
                tid: process,
                body,
            };
            own.push(&record, out);
            // More than 4 billion events of one class do not fit into one record.
            if counts.counts.iter().all(|rest| *rest == 0) {
                return;
            }
        }
    }
}

/// Puts empty histograms where the programs count.
fn fresh(object: &mut Object, most_keys: u32) -> Result<PerCpuHashMap<MapData, Key, Counts>, AttachError> {
    const BPF_MAP_TYPE_PERCPU_HASH: u32 = 5;
    let key = u32::try_from(size_of::<HistogramKey>()).unwrap_or(u32::MAX);
    let value = u32::try_from(size_of::<HistogramCounts>()).unwrap_or(u32::MAX);
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_PERCPU_HASH, key, value, most_keys, 0);
    let map = MapData::create(map, "kprobe_sums", None).map_err(AttachError::map)?;
    object.set_histograms(&map)?;
    PerCpuHashMap::try_from(Map::PerCpuHashMap(map)).map_err(AttachError::map)
}

fn total<'a>(by_cpu: impl Iterator<Item = &'a HistogramCounts>) -> HistogramCounts {
    let mut total = HistogramCounts { sum: 0, counts: [0; HISTOGRAM_CLASSES] };
    for counts in by_cpu {
        total.sum += counts.sum;
        total.counts.iter_mut().zip(counts.counts).for_each(|(sum, count)| *sum += count);
    }
    total
}
