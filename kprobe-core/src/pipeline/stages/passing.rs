use crate::{
    decode::Record,
    pipeline::{Batch, BatchBuf, Context, Enriched},
};

/// What leaves a stage of one batch: the batch itself as long as nothing of it has to go and nothing comes in. Only then is
/// anything copied.
///
/// Each frame of the batch is kept or left out, in their order.
#[derive(Debug)]
pub(super) struct Passing<'a> {
    batch: &'a Batch,
    out: &'a mut BatchBuf,
    kept: usize,
    whole: bool,
}

impl<'a> Passing<'a> {
    /// `out` is empty.
    pub(super) fn new(batch: &'a Batch, out: &'a mut BatchBuf) -> Self {
        debug_assert!(out.is_empty());
        Self { batch, out, kept: 0, whole: true }
    }

    /// The next record goes on.
    #[inline]
    pub(super) fn keep(&mut self, one: &Enriched<'_>) {
        if self.whole {
            self.kept += 1;
        } else {
            self.out.push_enriched(one.record, one.context);
        }
    }

    /// The next frame goes no further.
    #[inline]
    pub(super) fn leave_out(&mut self) {
        if self.whole {
            self.copy();
        }
    }

    /// A record that was not in the batch comes in.
    pub(super) fn add(&mut self, record: Record<'_>, context: &Context) {
        if self.whole {
            self.copy();
        }
        self.out.push_enriched(record, context);
    }

    /// Whether the batch is to go on as it is; else what goes on is in the buffer.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    #[cold]
    fn copy(&mut self) {
        self.whole = false;
        for one in self.batch.enriched().flatten().take(self.kept) {
            self.out.push_enriched(one.record, one.context);
        }
    }
}
