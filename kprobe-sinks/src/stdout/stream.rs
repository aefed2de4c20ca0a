use std::sync::Arc;

use kprobe_core::pipeline::{Batch, StreamInfo};

/// Which stream the records are of. A spill brings those of an earlier run first, perhaps of another boot.
#[derive(Debug)]
pub(super) struct Streams {
    info: StreamInfo,
    /// The last one that was looked at: most batches are of the very same.
    seen: Option<Arc<StreamInfo>>,
}

impl Streams {
    pub(super) fn new(info: &StreamInfo) -> Self {
        Self { info: info.clone(), seen: None }
    }

    /// What the batch is from, if that is another stream than before.
    pub(super) fn changed(&mut self, batch: &Batch) -> Option<&StreamInfo> {
        let stream = batch.stream()?;
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, stream)) {
            return None;
        }
        self.seen = Some(Arc::clone(stream));
        if **stream == self.info {
            return None;
        }
        self.info = StreamInfo::clone(stream);
        Some(&self.info)
    }
}
