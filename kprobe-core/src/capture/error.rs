use std::io;

use super::FORMAT_VERSION;
use crate::abi::ABI_VERSION;

/// A capture cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct OpenError {
    /// Its path, or what the caller called it.
    pub name: String,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// Why a capture cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system refuses to open or to read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// There is not one byte.
    #[error("is empty; nothing was recorded into it")]
    Empty,
    /// It is something else.
    #[error("not a capture: it starts with \"{}\", a capture with \"\\x89KCAP\"", found.escape_ascii())]
    NotACapture {
        /// Its first bytes, at most 8.
        found: Vec<u8>,
    },
    /// A later version of kprobe wrote it.
    #[error("capture format {found}; this program reads up to {FORMAT_VERSION}: use a newer one")]
    FutureVersion {
        /// Version of its format.
        found: u16,
    },
    /// The records are of a later version.
    #[error("a capture with records of ABI {found}; this program reads up to {ABI_VERSION}: use a newer one")]
    FutureAbi {
        /// Version of the ABI.
        found: u16,
    },
    /// It ends before the first record.
    #[error("ends at byte {length}, in the header of the capture: it was cut off before the first record")]
    Truncated {
        /// Bytes in it.
        length: u64,
    },
    /// The header is there, twice, but neither copy is good.
    #[error("both copies of the capture's header are damaged; its records cannot be read without")]
    DamagedHeader,
}
