use std::{error::Error, time::Duration};

use super::{Batch, Drops, Ledger};

/// Where batches go.
///
/// A pipeline owns its sinks, calls each on a thread of its own, and keeps their books: of what it gave it counts as
/// delivered what a successful [`flush`](Self::flush) stands behind.
///
/// What each method owes is on the page [writing a sink](https://github.com/kprobe/kprobe/blob/main/docs/src/writing-a-sink.md),
/// which shows this very program:
///
/// ```
/// use std::{fmt::Write, fs, io, path::PathBuf};
///
/// use kprobe_core::{
///     capture::CaptureReader,
///     event::Event,
///     pipeline::{Batch, Pipeline, Sink, SinkError, Source},
///     process::ProcessTable,
/// };
///
/// /// A file for each batch, there whole or not at all. A batch that comes twice is the same file again.
/// struct Folder(PathBuf);
///
/// impl Sink for Folder {
///     fn name(&self) -> &str {
///         "folder"
///     }
///
///     fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
///         let id = batch.id().ok_or_else(|| SinkError::fatal("a batch without an id"))?;
///         let mut text = String::new();
///         for one in batch.enriched().flatten() {
///             let (comm, event) = (one.context.comm, Event::decode(one.record));
///             writeln!(text, "{comm:?} {event:?}").map_err(SinkError::fatal)?;
///         }
///         let (part, whole) = (self.0.join("part"), self.0.join(format!("{id}.txt")));
///         fs::write(&part, text).and_then(|()| fs::rename(part, whole)).map_err(|error| match error.kind() {
///             io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SinkError::retry(error),
///             _ => SinkError::fatal(error),
///         })
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     let folder = tempfile::tempdir()?;
/// #     fs::copy("tests/data/v1.kcap", folder.path().join("service.kcap"))?;
/// #     std::env::set_current_dir(&folder)?;
///     let capture = CaptureReader::open("service.kcap")?;
///     let table = ProcessTable::new(capture.info().boot);
///     fs::create_dir_all("batches")?;
///     let mut pipeline = Pipeline::builder(capture).stage(table).sink(Folder("batches".into())).build()?;
///     pipeline.drive(|_| false, |trouble| eprintln!("{trouble}"))?;
///     let done = pipeline.finish();
///     println!("{}", done.ledger);
///     assert_eq!(done.ledger.balance, 0);
/// #     let files: Vec<_> = fs::read_dir("batches")?.collect::<Result<_, _>>()?;
/// #     let lines = files.iter().map(|file| fs::read_to_string(file.path()).map(|text| text.lines().count() as u64));
/// #     let lines = lines.sum::<io::Result<u64>>()?;
/// #     assert_eq!((lines, done.ledger.sinks[0].delivered), (17, 17));
///     Ok(())
/// }
/// ```
pub trait Sink {
    /// Name in the books and in messages.
    fn name(&self) -> &str;

    /// Takes a batch.
    ///
    /// After an error that a retry can help, the next call has the same batch again: what was done with a part of it must not
    /// be done twice. [`Batch::id`] tells it from others.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError>;

    /// Brings everything taken so far to its destination. After an error that a retry can help it is called again.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// How long what was taken may wait for a flush. With zero, the default, it is flushed whenever nothing more waits to be
    /// taken.
    fn flush_every(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the destination would take a batch. Asked when there has been nothing to write for some seconds.
    ///
    /// # Errors
    /// What stands in the way.
    fn health(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// So many records will never be given, because the queue before this sink had no room for them: they came behind the
    /// last batch. For a destination that can say so.
    fn missed(&mut self, records: u64) {
        let _ = records;
    }

    /// For a sink that does not deliver everything it takes: what became of the records so far. After a flush each one is in
    /// it.
    fn tally(&self) -> Option<Tally> {
        None
    }

    /// The stream is over: writes what the destination wants to have at its end. `ledger` was drawn up after a flush;
    /// `incomplete` says why the stream is not whole, for example because a capture was torn.
    ///
    /// # Errors
    /// See [`SinkError`]. It is not called again.
    fn finish(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> Result<(), SinkError> {
        let _ = (ledger, incomplete);
        self.flush()
    }
}

/// What a sink did with the records that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// They reached their destination.
    pub delivered: u64,
    /// They did not, for these reasons.
    pub dropped: Drops,
}

impl Tally {
    /// Records of which it is known what became of them.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.delivered + self.dropped.values().sum::<u64>()
    }
}

/// Why a sink could not deliver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Whoever reads has gone away (a closed pipe): a clean end, not a failure.
    #[error("the reader has gone")]
    Closed,
    /// Not now, but perhaps later: the same is tried again after a while.
    #[error("{0}")]
    Retry(Box<dyn Error + Send + Sync>),
    /// The batch was taken, but not all of it was delivered: the sink has counted what it dropped in its
    /// [`Tally`]. The next batch may do better.
    #[error("{0}")]
    Lossy(Box<dyn Error + Send + Sync>),
    /// No retry can help. The sink gets nothing any more.
    #[error("{0}")]
    Fatal(Box<dyn Error + Send + Sync>),
}

impl SinkError {
    /// See [`Retry`](Self::Retry).
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Retry(error.into())
    }

    /// See [`Lossy`](Self::Lossy).
    pub fn lossy(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Lossy(error.into())
    }

    /// See [`Fatal`](Self::Fatal).
    pub fn fatal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Fatal(error.into())
    }
}
