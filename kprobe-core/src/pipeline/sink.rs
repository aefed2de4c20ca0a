use super::{Batch, Ledger, SinkRow};

/// Where batches go.
pub trait Sink {
    /// Takes a batch. The sink counts each of its records as delivered or as dropped, whatever it returns.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError>;

    /// Brings everything taken so far to its destination.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn flush(&mut self) -> Result<(), SinkError>;

    /// The books of this sink.
    fn row(&self) -> SinkRow;

    /// The stream is over: writes what the destination wants to have at its end. `ledger` was drawn up after a flush;
    /// `incomplete` says why the stream is not whole, for example because a capture was torn.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn finish(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> Result<(), SinkError> {
        let _ = (ledger, incomplete);
        self.flush()
    }
}

/// Why a sink could not deliver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Whoever reads has gone away (a closed pipe): a clean end, not a failure.
    #[error("{sink}: the reader has gone")]
    Closed {
        /// Which sink.
        sink: &'static str,
    },
    /// It cannot be written now; the next batch may succeed.
    #[error("{sink}: {source}")]
    Io {
        /// Which sink.
        sink: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}
