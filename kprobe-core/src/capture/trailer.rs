use serde::{Deserialize, Serialize};

use super::IndexEntry;
use crate::pipeline::{ProbeRow, SinkRow, is_zero};

/// The books at the end of a finished capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// Records in the file.
    pub records: u64,
    /// Blocks in the file.
    pub blocks: u64,
    /// What the writer did with the records it was given.
    pub written: SinkRow,
    /// What the source counted.
    pub probes: Vec<ProbeRow>,
    /// Events that should have been summed up and are in no sum, for want of room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncounted: u64,
    /// Why the recorded stream itself was not whole: it was the replay of a torn capture, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// Where the blocks are: runs of consecutive blocks, at most 1,024.
    pub index: Vec<IndexEntry>,
}
