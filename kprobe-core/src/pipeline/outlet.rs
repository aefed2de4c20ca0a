use super::{Batch, Ledger, Sink, SinkError, SinkRow};

/// A sink of a [`Run`](super::Run), and what it does not get any more once its reader has gone.
pub(super) struct Outlet {
    sink: Box<dyn Sink + Send>,
    closed: bool,
    /// Records that came after the end.
    missed: u64,
    /// Something was written since the last flush.
    dirty: bool,
}

impl Outlet {
    pub(super) fn new(sink: impl Sink + Send + 'static) -> Self {
        Self { sink: Box::new(sink), closed: false, missed: 0, dirty: false }
    }

    pub(super) fn write(&mut self, batch: &Batch, failures: &mut Vec<SinkError>) {
        if self.closed {
            self.missed += batch.records().flatten().count() as u64;
            return;
        }
        self.dirty = true;
        let result = self.sink.write(batch);
        self.note(result, failures);
    }

    pub(super) fn flush(&mut self, failures: &mut Vec<SinkError>) {
        if self.dirty && !self.closed {
            self.dirty = false;
            let result = self.sink.flush();
            self.note(result, failures);
        }
    }

    /// Nothing is written to a sink whose reader has gone.
    pub(super) fn finish(
        &mut self,
        ledger: &Ledger,
        incomplete: Option<&str>,
        failures: &mut Vec<SinkError>,
    ) {
        if !self.closed {
            let result = self.sink.finish(ledger, incomplete);
            self.note(result, failures);
        }
    }

    fn note(&mut self, result: Result<(), SinkError>, failures: &mut Vec<SinkError>) {
        match result {
            Ok(()) => {}
            Err(SinkError::Closed { .. }) => self.closed = true,
            Err(other) => failures.push(other),
        }
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The sink's own books, and under `closed` what it was not given any more.
    pub(super) fn row(&self) -> SinkRow {
        let mut row = self.sink.row();
        if self.missed > 0 {
            row.received += self.missed;
            *row.dropped.entry("closed".to_owned()).or_default() += self.missed;
        }
        row
    }
}
