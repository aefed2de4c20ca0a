use std::{collections::HashMap, ops::Range};

use super::made::Made;
use crate::{
    abi::{self, HISTOGRAM_CLASSES, Header, Kind},
    decode::Record,
    event::{By, Measured, class_of},
    pipeline::{Context, Enriched},
};

/// The histograms of one interval, of which there is room for so many.
#[derive(Debug)]
pub(super) struct Sums {
    most: usize,
    places: HashMap<Key, usize>,
    /// In the order in which their keys came.
    sums: Vec<Sum>,
}

/// What the events of one histogram have in common. By what they are told apart their kind decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    kind: Kind,
    /// Process, cgroup or subject; else 0.
    number: u64,
}

#[derive(Debug)]
struct Sum {
    key: Key,
    by: By,
    sum_ns: u64,
    counts: [u32; HISTOGRAM_CLASSES],
    /// Of the process or the cgroup that it is about, as far as it is known.
    context: Context,
}

/// An event to be counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    key: Key,
    by: By,
    duration_ns: u64,
}

impl Counted {
    /// `None` for an event that has no subject, if that is what they are told apart by.
    #[inline]
    pub(super) fn new(kind: Kind, by: By, measured: &Measured) -> Option<Self> {
        let number = match by {
            By::Kind => 0,
            By::Tgid => measured.tgid.0.into(),
            By::Cgroup => measured.cgroup_id,
            By::Subject => measured.subject?,
        };
        // As in the kernel, a call that never returns is one of 0.
        Some(Self { key: Key { kind, number }, by, duration_ns: measured.duration_ns.unwrap_or(0) })
    }
}

impl Sums {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), places: HashMap::new(), sums: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// Counts an event. `false`, and nothing was done, if there is no room: for another key, or for more events under this one.
    #[inline]
    pub(super) fn count(&mut self, event: Counted, one: &Enriched<'_>) -> bool {
        let place = match self.places.get(&event.key) {
            Some(place) => *place,
            None if self.sums.len() >= self.most => return false,
            None => self.begin(event),
        };
        self.sums[place].count(event.duration_ns, one)
    }

    fn begin(&mut self, Counted { key, by, .. }: Counted) -> usize {
        let place = self.sums.len();
        self.places.insert(key, place);
        let context = Context::default();
        self.sums.push(Sum { key, by, sum_ns: 0, counts: [0; HISTOGRAM_CLASSES], context });
        place
    }

    /// Gives a record for each histogram, ordered by kind and key, and begins anew. Returns how many.
    pub(super) fn take(
        &mut self,
        interval: &Range<u64>,
        made: &mut Made,
        mut put: impl FnMut(Record<'_>, Context),
    ) -> u64 {
        self.places.clear();
        self.sums.sort_unstable_by_key(|sum| sum.key);
        let count = self.sums.len() as u64;
        for sum in self.sums.drain(..) {
            let (header, body) = sum.record(interval);
            made.make(Kind::META_HISTOGRAM, header, &body, |record| put(record, sum.context));
        }
        count
    }
}

impl Sum {
    fn count(&mut self, duration_ns: u64, one: &Enriched<'_>) -> bool {
        let count = &mut self.counts[class_of(duration_ns)];
        let (Some(sum_ns), Some(more)) = (self.sum_ns.checked_add(duration_ns), count.checked_add(1)) else {
            return false;
        };
        (self.sum_ns, *count) = (sum_ns, more);
        self.learn(one);
        true
    }

    /// Takes from a record's context what is true of all records of the process or the cgroup.
    #[inline]
    fn learn(&mut self, one: &Enriched<'_>) {
        let header = one.record.header();
        match self.by {
            By::Tgid if u64::from(header.tgid) == self.key.number => {
                if self.context.process.is_none() {
                    (self.context.process, self.context.parent) = (one.context.process, one.context.parent);
                }
                if self.context.comm.is_empty() && header.tid == header.tgid {
                    self.context.comm = one.context.comm;
                }
            }
            By::Cgroup if header.cgroup_id == self.key.number && self.context.container.is_none() => {
                self.context.container.clone_from(&one.context.container);
            }
            _ => {}
        }
    }

    fn record(&self, interval: &Range<u64>) -> (Header, abi::Histogram) {
        let Key { kind, number } = self.key;
        let process = if self.by == By::Tgid { u32::try_from(number).unwrap_or(u32::MAX) } else { 0 };
        let header = Header {
            ktime_ns: interval.end,
            cgroup_id: if self.by == By::Cgroup { number } else { 0 },
            tgid: process,
            tid: process,
            ..Header::default()
        };
        let body = abi::Histogram {
            key: number,
            from_ns: interval.start,
            sum: self.sum_ns,
            kind: kind.0,
            by: self.by.code().into(),
            flags: 0,
            counts: self.counts,
        };
        (header, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Tgid;

    fn with_one(duration_ns: u64, most: usize, prepare: impl FnOnce(&mut Sum)) -> (Sums, bool) {
        let header = Header { kind: Kind::SYSCALL.0, ..Header::default() };
        let bytes = zerocopy::IntoBytes::as_bytes(&header);
        let context = Context::default();
        let one = Enriched { record: Record::new(bytes).expect("a record"), context: &context };
        let measured =
            Measured { duration_ns: Some(duration_ns), subject: None, tgid: Tgid(1), cgroup_id: 0 };
        let counted = |tgid| {
            let measured = Measured { tgid: Tgid(tgid), ..measured };
            Counted::new(Kind::SYSCALL, By::Tgid, &measured).expect("a process")
        };
        let mut sums = Sums::new(most);
        assert!(sums.count(counted(1), &one));
        prepare(&mut sums.sums[0]);
        let has_room = sums.count(counted(1), &one);
        assert_eq!(sums.count(counted(2), &one), most > 1);
        (sums, has_room)
    }

    #[test]
    fn a_histogram_takes_what_is_said() {
        let bytes = size_of::<Sum>() + size_of::<(Key, usize)>();
        assert!((300..=400).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn what_does_not_fit_into_a_record_finds_no_room() {
        let (sums, has_room) = with_one(7, 1, |_| ());
        assert!(has_room);
        assert_eq!((sums.sums[0].sum_ns, sums.sums[0].counts[3], sums.len()), (14, 2, 1));
        // The class is full.
        let (sums, has_room) = with_one(7, 2, |sum| sum.counts[3] = u32::MAX);
        assert!(!has_room);
        assert_eq!((sums.sums[0].sum_ns, sums.sums[0].counts[3], sums.len()), (7, u32::MAX, 2));
        // The sum is.
        let (sums, has_room) = with_one(7, 2, |sum| sum.sum_ns = u64::MAX - 6);
        assert!(!has_room);
        assert_eq!((sums.sums[0].sum_ns, sums.sums[0].counts[3]), (u64::MAX - 6, 1));
    }
}
