use std::{collections::VecDeque, fmt, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{Contexts, StreamInfo};
use crate::{
    decode::{FrameError, Frames, Record, put_frame},
    event::{Comm, ProcessKey, Tgid},
};

/// Many records, one behind the other, as [`Frames`] reads them. Cheap to clone: clones share the bytes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Bytes,
    /// One for each record, discarded ones not counted; or for the first of them, or none at all.
    contexts: Option<Arc<Contexts>>,
    label: Option<Label>,
    /// Of records and of frames without one, if it is known.
    count: Option<u64>,
}

/// What a batch is known by behind the stages.
#[derive(Clone, Debug)]
struct Label {
    id: BatchId,
    stream: Arc<StreamInfo>,
}

/// Which batch it is, for a destination that must take each one once although it may be given twice: after a retry, or
/// from a spill that a killed agent left. It stays with the batch on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// A random number of the pipeline that made it, another for its raw sinks.
    pub run: u128,
    /// Its place among those that the sink was meant to get, from 0 on.
    pub seq: u64,
}

impl fmt::Display for BatchId {
    /// 32 hexadecimal digits, a dash, and the place in decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.run, self.seq)
    }
}

/// What user space knows of the threads of a record: the process table fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Name of the record's thread at that time; empty if it is not known.
    pub comm: Comm,
    /// Name of the other thread of the record: the next, woken, moved or new one; empty if there is none.
    pub other_comm: Comm,
    /// The record's process.
    pub process: Option<ProcessKey>,
    /// Its parent at that time.
    pub parent: Option<Tgid>,
    /// Container that its cgroup belongs to, by the id in the cgroup's path.
    pub container: Option<Arc<str>>,
}

/// A record with its context.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Enriched<'a> {
    /// The record.
    pub record: Record<'a>,
    /// What is known of its threads; all unknown if no process table has seen it.
    pub context: &'a Context,
}

pub(super) static NO_CONTEXT: Context = Context {
    comm: Comm::new([0; 16]),
    other_comm: Comm::new([0; 16]),
    process: None,
    parent: None,
    container: None,
};

impl Batch {
    /// Frames as they lie in `bytes`, without contexts.
    pub(crate) fn from_frames(bytes: Bytes) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// The same records, with `contexts` in their order.
    pub(crate) fn with_contexts(self, contexts: Contexts) -> Self {
        Self { contexts: (!contexts.is_empty()).then(|| Arc::new(contexts)), ..self }
    }

    /// The same records, from now on known by `id`.
    #[must_use]
    pub fn labelled(self, id: BatchId, stream: &Arc<StreamInfo>) -> Self {
        Self { label: Some(Label { id, stream: Arc::clone(stream) }), ..self }
    }

    /// Which batch it is; `None` before a pipeline has brought it to the sinks.
    #[must_use]
    pub fn id(&self) -> Option<BatchId> {
        self.label.as_ref().map(|label| label.id)
    }

    /// What its records are from, as is known behind the stages. A sink may get batches of an earlier stream: those that a
    /// spill kept over a restart.
    #[must_use]
    pub fn stream(&self) -> Option<&Arc<StreamInfo>> {
        self.label.as_ref().map(|label| &label.stream)
    }

    /// The same batch, which is known to have so many records.
    pub(crate) fn counted(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// How many records there are, as [`records`](Self::records) gives them: what it gives as an error counts as one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.unwrap_or_else(|| self.records().count() as u64)
    }

    /// Bytes of memory that it takes while it waits somewhere.
    pub(crate) fn cost(&self) -> usize {
        /// What a batch takes besides its records.
        const OVERHEAD: usize = 256;
        OVERHEAD + self.bytes.len() + self.contexts.as_ref().map_or(0, |contexts| contexts.cost())
    }

    /// Those of the records that have one.
    pub(crate) fn contexts(&self) -> Option<&Contexts> {
        self.contexts.as_deref()
    }

    /// The frames, shared.
    pub(crate) fn into_frames(self) -> Bytes {
        self.bytes
    }

    /// The records; discarded ones are skipped.
    #[inline]
    #[must_use]
    pub fn records(&self) -> Frames<'_> {
        Frames::new(&self.bytes)
    }

    /// The records with their contexts.
    pub fn enriched(&self) -> impl Iterator<Item = Result<Enriched<'_>, FrameError>> {
        let mut contexts = self.contexts().into_iter().flat_map(Contexts::iter);
        self.records().map(move |record| {
            record.map(|record| Enriched { record, context: contexts.next().unwrap_or(&NO_CONTEXT) })
        })
    }

    /// The frames as they are.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// There is not even a discarded record in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A batch being filled.
///
/// Its memory is used again: that of a batch that nobody holds any more serves a later one.
#[derive(Debug, Default)]
pub struct BatchBuf {
    bytes: BytesMut,
    contexts: Contexts,
    /// Bytes whose records have their contexts.
    covered: usize,
    /// A batch was taken that shares its memory with `bytes`.
    lent: bool,
    /// What was too short for another batch, the oldest first: whole again once its batches are gone.
    retired: VecDeque<BytesMut>,
}

/// Buffers that may come back; with more batches under way than these hold, memory is taken anew.
const MOST_RETIRED: usize = 16;

impl BatchBuf {
    /// Has room for so many bytes of frames.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// Has room for so many bytes of frames more.
    pub fn make_room(&mut self, bytes: usize) {
        if self.bytes.capacity() - self.bytes.len() >= bytes {
            return;
        }
        if !self.bytes.is_empty() {
            return self.bytes.reserve(bytes);
        }
        // What nobody was given is only too short, and would stay so.
        if std::mem::take(&mut self.lent) {
            if self.retired.len() == MOST_RETIRED {
                self.retired.pop_front();
            }
            self.retired.push_back(std::mem::take(&mut self.bytes));
        }
        // Several batches share a buffer, and records may come in one go where a batch was almost full.
        let room = 2 * bytes;
        self.bytes = self.reclaim(room).unwrap_or_else(|| BytesMut::with_capacity(room));
    }

    /// Of the buffers that are whole again the one that was used last: it may still be in a cache. Those that a slow sink keeps are
    /// passed over, and so are those that only a backlog needed.
    fn reclaim(&mut self, room: usize) -> Option<BytesMut> {
        let at = self.retired.iter_mut().rposition(|buffer| buffer.try_reclaim(room))?;
        self.retired.remove(at)
    }

    /// Appends a record. Its context is empty if others of the batch have one.
    #[inline]
    pub fn push(&mut self, record: Record<'_>) {
        put_frame(&mut self.bytes, record.bytes());
    }

    /// Appends a record with its context.
    #[inline]
    pub fn push_enriched(&mut self, record: Record<'_>, context: &Context) {
        if self.bytes.len() > self.covered {
            self.cover();
        }
        put_frame(&mut self.bytes, record.bytes());
        self.contexts.push(record.header().tid, context);
        self.covered = self.bytes.len();
    }

    /// Gives the records that came without a context an empty one.
    #[cold]
    fn cover(&mut self) {
        let records = Frames::new(&self.bytes[self.covered..]).flatten().count();
        self.contexts.skip(records);
    }

    /// The buffer of frames, for a source that appends whole frames at once.
    #[inline]
    pub fn frames_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Bytes of frames so far.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Nothing is in it yet.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Ends the batch and leaves an empty buffer behind.
    #[must_use]
    pub fn take(&mut self) -> Batch {
        // The next batch will be about as long, so that its contexts take two allocations, not a dozen.
        let next = Contexts::with_room(self.contexts.room());
        let contexts = std::mem::replace(&mut self.contexts, next);
        self.covered = 0;
        self.lent |= !self.bytes.is_empty();
        Batch::from_frames(self.bytes.split().freeze()).with_contexts(contexts)
    }
}
