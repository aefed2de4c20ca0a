use std::{collections::BTreeMap, time::Duration};

use super::{BatchBuf, ProbeRow, StreamInfo};

/// Where records come from: a live recorder or a capture.
pub trait Source {
    /// What the stream is from.
    fn info(&self) -> &StreamInfo;

    /// Appends the records that are there to `out`, waiting for some if there are none: for `longest` at most, `None`
    /// being without limit. A caller that still holds records back, because they may be out of order, gives a limit; so does one that has
    /// other sources, which wait as long as this one.
    /// A source may return earlier with nothing.
    ///
    /// # Errors
    /// The source cannot go on. What it appended before is good.
    fn poll(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> Result<Polled, SourceError>;

    /// What the source knows of the records of each probe and CPU, up to now.
    fn probes(&self) -> Vec<ProbeRow>;

    /// What else the source counted, no part of the balance: by name, only what is not 0.
    fn counts(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// Events that should have been summed up in the kernel and are in no sum, for want of room. Up to now; of a capture
    /// once its end has been read.
    fn uncounted(&self) -> u64 {
        0
    }

    /// Number of the next record of a CPU, which is the number of records that it made so far. Only from a source that
    /// was stopped and drained; `None` if that is not known.
    fn next_seq(&self, cpu: u16) -> Option<u64> {
        let _ = cpu;
        None
    }

    /// What it does not give soon is lost. Otherwise it waits, as a file does; sinks that are slow are then waited for unless
    /// they were told otherwise.
    fn is_live(&self) -> bool {
        true
    }

    /// No new records, please: later polls give what is left, and the last of them says that it is the end. A source
    /// that cannot be stopped early goes on to its end.
    fn stop(&mut self) {}

    /// At its end: records that it counted may never come, because it could not wait for them. They are then dropped
    /// for `shutdown`; from any other source that is at its end they are missing, and that is a bug.
    fn leaves_some(&self) -> bool {
        false
    }

    /// Why the stream is not whole, for example because a capture was torn; `None` if it is, as far as is known.
    fn incomplete(&self) -> Option<String> {
        None
    }
}

/// What [`Source::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Polled {
    /// Every record up to this time (`CLOCK_MONOTONIC`, nanoseconds) has been appended, in this call or before, but for
    /// those that a program was just writing.
    pub complete_until_ns: u64,
    /// There will be no more records.
    pub end: bool,
}

impl Polled {
    /// Every record up to this time has been appended, and there will be more.
    #[must_use]
    pub const fn until(complete_until_ns: u64) -> Self {
        Self { complete_until_ns, end: false }
    }

    /// The same, and whether these were the last.
    #[must_use]
    pub const fn ended(self, end: bool) -> Self {
        Self { end, ..self }
    }
}

/// A source cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}: {message}")]
pub struct SourceError {
    /// Which source.
    pub source_name: String,
    /// What happened and what to do.
    pub message: String,
    /// The error below, if there is one.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}
