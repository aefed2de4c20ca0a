use std::io;

use super::FORMAT_VERSION;
use crate::abi::ABI_VERSION;

/// A spill cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("spill directory {dir}: {problem}")]
pub struct SpillError {
    /// Which directory.
    pub dir: String,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// Why a spill cannot be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is something else at its path.
    #[error("is not a directory; name one that is empty or not there yet")]
    NotADirectory,
    /// It is not there and cannot be made.
    #[error("cannot be created: {0}")]
    Create(#[source] io::Error),
    /// Files cannot be made in it.
    #[error("cannot be written to: {0}")]
    Unwritable(#[source] io::Error),
    /// Another process has it open, or this one a second time.
    #[error("in use by {}; every sink of every agent needs a directory of its own", Holder(.holder))]
    Locked {
        /// Id of that process, if it is known.
        holder: Option<u32>,
    },
    /// A later version of kprobe wrote into it.
    #[error(
        "{file} has spill format {found}; this program reads up to {FORMAT_VERSION}: use a newer one, or move the \
         file away to do without its batches"
    )]
    FutureVersion {
        /// Which file.
        file: String,
        /// Version of its format.
        found: u16,
    },
    /// The records are of a later version.
    #[error(
        "{file} has records of ABI {found}; this program reads up to {ABI_VERSION}: use a newer one, or move the \
         file away to do without its batches"
    )]
    FutureAbi {
        /// Which file.
        file: String,
        /// Version of the ABI.
        found: u16,
    },
    /// The system refuses to do something with a file.
    #[error("{file}: {source}")]
    Io {
        /// Which file, or what was done with the directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

struct Holder<'a>(&'a Option<u32>);

impl std::fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(id) if *id == std::process::id() => f.write_str("this very process"),
            Some(id) => write!(f, "process {id}"),
            None => f.write_str("another process"),
        }
    }
}

/// A batch was not appended. The spill is as it was before, and a later append may succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The limit of the directory is reached. There will be room when batches are acknowledged.
    #[error("spill directory {dir} is full: {held} of {max_bytes} bytes are taken, the batch needs {needed}")]
    Full {
        /// Which directory.
        dir: String,
        /// Bytes that the batch takes.
        needed: u64,
        /// Bytes that are taken.
        held: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// It will not fit even if nothing else is there.
    #[error("a batch of {needed} bytes can never fit into spill directory {dir}: at most {most} bytes can")]
    TooLarge {
        /// Which directory.
        dir: String,
        /// Bytes of the batch.
        needed: u64,
        /// The limit that it exceeds: that of the directory, less what is always in it, or that of the format.
        most: u64,
    },
    /// The description of its stream cannot be written so that it is the same when it is read.
    #[error("the description of the stream cannot be kept in spill directory {dir}: {reason}")]
    Stream {
        /// Which directory.
        dir: String,
        /// Why.
        reason: String,
    },
    /// It cannot be written now.
    #[error("spill directory {dir}: {source}")]
    Io {
        /// Which directory.
        dir: String,
        /// What the system said.
        source: io::Error,
    },
}
