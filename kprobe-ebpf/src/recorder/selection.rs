use std::sync::{Arc, atomic::Ordering};

use aya::maps::MapData;
use kprobe_core::abi::PID_LIMIT;

use crate::{AttachError, shared::SharedArray};

/// One of the maps `TGIDS` and `TIDS`: a bit for each pid there can be.
///
/// The memory is shared with the kernel programs, and with a child between fork and exec: that is how a traced command
/// selects itself the moment before it begins.
#[derive(Clone, Debug)]
pub(crate) struct PidSet {
    words: Arc<SharedArray<u64>>,
}

impl PidSet {
    pub(crate) fn map(map: &MapData) -> Result<Self, AttachError> {
        Ok(Self { words: Arc::new(SharedArray::map(map)?) })
    }

    /// Adds `pid`. Async-signal-safe. A pid that no kernel can have is ignored.
    pub(crate) fn insert(&self, pid: u32) {
        if pid < PID_LIMIT && ((pid / 64) as usize) < self.words.len() {
            self.words.u64_at((pid / 64) as usize, 0).fetch_or(1 << (pid % 64), Ordering::SeqCst);
        }
    }

    /// Takes `pid` out.
    pub(crate) fn remove(&self, pid: u32) {
        if ((pid / 64) as usize) < self.words.len() {
            self.words.u64_at((pid / 64) as usize, 0).fetch_and(!(1 << (pid % 64)), Ordering::SeqCst);
        }
    }

    /// Whether `pid` is in it.
    pub(crate) fn contains(&self, pid: u32) -> bool {
        ((pid / 64) as usize) < self.words.len()
            && self.words.u64_at((pid / 64) as usize, 0).load(Ordering::SeqCst) & 1 << (pid % 64) != 0
    }
}
