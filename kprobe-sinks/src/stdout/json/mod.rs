mod encode;
mod ends;
mod text;

use std::io::Write;

use kprobe_core::{
    event::Registry,
    pipeline::{Batch, Ledger, Sink, SinkError, SinkRow, StreamInfo, Tally},
};

use self::encode::Encoder;
use super::{outlet::Outlet, stream::Streams};

pub use encode::COMMON_FIELDS;
pub use ends::{END_FIELDS, SCHEMA_VERSION, START_FIELDS};

/// JSON lines: one flat object per record, in the format of `docs/src/json.md`.
///
/// The first line is `meta.start` (there is another one in front of records of another stream, which a spill may bring), the last, given by [`finish`](Self::finish), `meta.end`. Neither is about a record, so
/// neither counts in the books. Lines are written in chunks of 64 KiB, on [`flush`](Sink::flush), and after each batch
/// if asked for. See the [module](super) for what counts as delivered.
///
/// The bytes are those `serde_json` gives for the same object. The sink allocates nothing per event.
#[derive(Debug)]
pub struct JsonSink<W: Write> {
    outlet: Outlet<W>,
    streams: Streams,
    encoder: Encoder,
    each_batch: bool,
}

impl<W: Write> JsonSink<W> {
    /// Writes to `out` the events that `registry` knows. Nothing is written before the first flush.
    ///
    /// A kind's own field takes the place of the common fields `container` and `parent_tgid` if it has that name; if it
    /// has the name of another common field, it is written as `own_` and its name.
    pub fn new(out: W, info: &StreamInfo, registry: &Registry) -> Self {
        let mut outlet = Outlet::new("json", out);
        outlet.own_line(|buf| ends::put_start(buf, info));
        Self { outlet, streams: Streams::new(info), encoder: Encoder::new(info, registry), each_batch: false }
    }

    /// Shows the seeds of the process table, `meta.thread` and `meta.cgroup`, as well.
    #[must_use]
    pub fn with_seeds(mut self, shown: bool) -> Self {
        self.encoder.seeds = shown;
        self
    }

    /// Hands the lines of each batch on at its end: for a terminal, or whoever else reads along.
    #[must_use]
    pub fn flush_each_batch(mut self, each: bool) -> Self {
        self.each_batch = each;
        self
    }

    /// The books of this sink.
    #[must_use]
    pub fn row(&self) -> SinkRow {
        self.outlet.row()
    }
}

impl<W: Write> Sink for JsonSink<W> {
    fn name(&self) -> &str {
        self.outlet.name()
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let encoder = &mut self.encoder;
        if let Some(info) = self.streams.changed(batch) {
            // A line that is about no record comes behind whole lines of records only.
            self.outlet.drain()?;
            self.outlet.own_line(|buf| ends::put_start(buf, info));
            encoder.follow(info);
        }
        let result = self.outlet.write_batch(batch, |record, buf| encoder.put_line(record, buf));
        if self.each_batch { result.and(self.outlet.flush()) } else { result }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.outlet.flush()
    }

    fn missed(&mut self, records: u64) {
        self.outlet.miss(records);
    }

    fn tally(&self) -> Option<Tally> {
        Some(self.outlet.tally())
    }

    /// Writes everything that is buffered and, if that was possible, the last line.
    ///
    /// Draw up `ledger` after a [`flush`](Sink::flush), with this sink's [`row`](Self::row) in it. `incomplete` says why
    /// the stream is not whole, for example because a capture was torn.
    fn finish(&mut self, ledger: &Ledger, incomplete: Option<&str>) -> Result<(), SinkError> {
        self.outlet.drain()?;
        let (row, missed) = (self.outlet.row(), self.outlet.missed());
        self.outlet.own_line(|buf| ends::put_end(buf, ledger, &row, missed, incomplete));
        self.outlet.flush()
    }
}
