//! Sorted runs of frames: what [`Merge`](super::Merge) holds.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use super::{Batch, BatchBuf};
use crate::{
    abi::Header,
    decode::{FRAME_HEADER, Frames},
};

/// Place of a record in the total order: time, then CPU, then record number, in one integer that compares at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u128);

impl Key {
    fn of(header: &Header) -> Self {
        Self(u128::from(header.ktime_ns) << 48 | u128::from(header.cpu) << 32 | u128::from(header.seq))
    }

    pub(super) const fn ktime_ns(self) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "the upper 80 bits hold 64")]
        let time = (self.0 >> 48) as u64;
        time
    }
}

/// Calls `each` for the records with their keys and the bytes of their frames, until it breaks; gives the number of frames
/// without a record.
#[inline]
fn walk(bytes: &[u8], mut each: impl FnMut(Key, Range<usize>) -> ControlFlow<()>) -> u64 {
    let base = bytes.as_ptr().addr() + FRAME_HEADER;
    let mut bad = 0;
    for record in Frames::new(bytes) {
        let Ok(record) = record else {
            bad += 1;
            continue;
        };
        let start = record.bytes().as_ptr().addr() - base;
        let end = start + FRAME_HEADER + record.bytes().len().next_multiple_of(8);
        if each(Key::of(&record.header()), start..end).is_break() {
            break;
        }
    }
    bad
}

/// Frames in order, at least one.
#[derive(Clone, Debug)]
pub(super) struct Sorted {
    pub(super) bytes: Bytes,
    pub(super) first: Key,
    pub(super) last: Key,
    pub(super) records: u64,
}

impl Sorted {
    /// Cuts the run before the first record that does not pass `keep`, which gets the bytes up to the end of it. The
    /// record bytes stay where they are.
    pub(super) fn split(self, mut keep: impl FnMut(Key, usize) -> bool) -> (Option<Self>, Option<Self>) {
        let (mut kept, mut last) = (0, self.first);
        let mut cut: Option<(usize, Key)> = None;
        walk(&self.bytes, |key, at| {
            if keep(key, at.end) {
                (kept, last) = (kept + 1, key);
                return ControlFlow::Continue(());
            }
            cut = Some((at.start, key));
            ControlFlow::Break(())
        });
        match cut {
            None => (Some(self), None),
            Some(_) if kept == 0 => (None, Some(self)),
            Some((at, first)) => {
                let mut rest = self.bytes;
                let bytes = rest.split_to(at);
                let tail = Self { bytes: rest, first, last: self.last, records: self.records - kept };
                (Some(Self { bytes, first: self.first, last, records: kept }), Some(tail))
            }
        }
    }

    pub(super) fn into_batch(self) -> Batch {
        Batch::from_frames(self.bytes).counted(self.records)
    }
}

/// What a batch looks like.
#[derive(Debug)]
pub(super) enum Shape {
    Empty,
    Ordered(Sorted),
    Mixed { bytes: Bytes, records: u64 },
}

/// Looks through a batch; says also how many frames hold no record, which will be left out.
pub(super) fn look(batch: Batch) -> (Shape, u64) {
    let mut bytes = batch.into_frames();
    let (mut records, mut ordered, mut end) = (0, true, 0);
    let (mut first, mut last) = (Key::default(), Key::default());
    let bad = walk(&bytes, |key, at| {
        if records == 0 {
            first = key;
        }
        ordered &= last <= key;
        (last, end) = (key, at.end);
        records += 1;
        ControlFlow::Continue(())
    });
    bytes.truncate(end);
    let shape = match records {
        0 => Shape::Empty,
        // Sorting copies the records alone.
        _ if ordered && bad == 0 => Shape::Ordered(Sorted { bytes, first, last, records }),
        _ => Shape::Mixed { bytes, records },
    };
    (shape, bad)
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    start: usize,
    source: u32,
    len: u32,
}

/// Puts frames in order. Kept from use to use, so that its memory is.
#[derive(Debug, Default)]
pub(super) struct Sorter {
    entries: Vec<Entry>,
    sources: Vec<Bytes>,
    out: BatchBuf,
}

impl Sorter {
    /// Takes frames to be sorted. Of records with equal keys, those added first stay first.
    #[expect(clippy::cast_possible_truncation, reason = "frames are short and sources are few")]
    pub(super) fn add(&mut self, bytes: Bytes) {
        let source = self.sources.len() as u32;
        walk(&bytes, |key, at| {
            self.entries.push(Entry { key, start: at.start, source, len: at.len() as u32 });
            ControlFlow::Continue(())
        });
        self.sources.push(bytes);
    }

    pub(super) fn sort(&mut self) {
        self.entries.sort_by_key(|entry| entry.key);
    }

    /// The smallest key; only after [`sort`](Self::sort).
    pub(super) fn first(&self) -> Option<Key> {
        self.entries.first().map(|entry| entry.key)
    }

    /// What was added last is from now on what was added first.
    pub(super) fn last_becomes_first(&mut self, earlier: usize) {
        self.entries.rotate_left(earlier);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes out the records below `limit`, which are the first ones.
    pub(super) fn take_below(&mut self, limit: Key) -> Option<Sorted> {
        let count = self.entries.partition_point(|entry| entry.key < limit);
        let run = self.write(count);
        self.entries.drain(..count);
        run
    }

    /// Takes out everything.
    pub(super) fn take(&mut self) -> Option<Sorted> {
        let run = self.write(self.entries.len());
        self.entries.clear();
        self.sources.clear();
        run
    }

    /// The first `count` records as a run.
    fn write(&mut self, count: usize) -> Option<Sorted> {
        let entries = &self.entries[..count];
        let (first, last) = (entries.first()?.key, entries.last()?.key);
        let mut rest = entries;
        while let Some(head) = rest.first() {
            // Neighbours in the order are mostly neighbours in memory: one copy for all of them.
            let (mut span, mut frames) = (head.len as usize, 1);
            while let Some(next) = rest.get(frames)
                && next.source == head.source
                && next.start == head.start + span
            {
                span += next.len as usize;
                frames += 1;
            }
            let source = &self.sources[head.source as usize];
            self.out.frames_mut().extend_from_slice(&source[head.start..head.start + span]);
            rest = &rest[frames..];
        }
        let records = entries.len() as u64;
        Some(Sorted { bytes: self.out.take().into_frames(), first, last, records })
    }
}
