use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    Batch, BatchBuf, GapReport, Ledger, Merge, Polled, ProbeRow, Sink, SinkError, SinkRow, Source,
    SourceError, Stage, StageRow, StreamInfo,
    drain::{Drain, Left},
    outlet::Outlet,
};

/// A source, what is done to its records, and where they go: driven step by step by whoever has the thread.
///
/// ```text
///  source -> [drain] -> [merge] -+-> stages -> sinks
///                                +-> raw sinks
/// ```
///
/// ```
/// # use kprobe_core::pipeline::{Run, Sink, Source, SourceError};
/// # use kprobe_core::process::ProcessTable;
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # fn example(source: impl Source, sink: impl Sink + Send + 'static, stop: &AtomicBool) -> Result<(), SourceError> {
/// let table = ProcessTable::new(source.info().boot);
/// let mut run = Run::builder(source).merge(Default::default()).stage(table).sink(sink).build();
/// while !stop.load(Ordering::Relaxed) {
///     if run.step()?.end.is_some() {
///         break;
///     }
/// }
/// let done = run.finish();
/// assert_eq!(done.ledger.balance, 0);
/// # Ok(())
/// # }
/// ```
pub struct Run<S> {
    source: S,
    merge: Option<Merge>,
    stages: Vec<Box<dyn Stage + Send>>,
    raw: Vec<Outlet>,
    sinks: Vec<Outlet>,
    observers: Vec<Observer>,
    wait: Duration,
    buf: BatchBuf,
    drain: Drain,
    /// Time of the stream when raw sinks were last flushed.
    raw_flushed_ns: u64,
    end: Option<End>,
}

/// Time of the stream between two flushes of raw sinks: what a recording that is killed may lose of its capture.
const BETWEEN_RAW_FLUSHES_NS: u64 = 1_000_000_000;

type Observer = Box<dyn FnMut(&Batch, Polled) + Send>;

/// Why a run is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The source has no more records.
    Source,
    /// The source cannot go on.
    SourceFailed,
    /// Whoever read this sink has gone away.
    Closed {
        /// Name of the sink.
        sink: String,
    },
}

/// What one step did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Step {
    /// Records that the source gave.
    pub records: u64,
    /// The run is over, for this reason. Further steps do nothing.
    pub end: Option<End>,
    /// What went wrong at sinks, each of which counted what it could not deliver. The others were served.
    pub failures: Vec<SinkError>,
}

/// What a run leaves.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub struct Finished {
    /// The books.
    pub ledger: Ledger,
    /// Gaps in the record numbers of each CPU beside the kernel's count of losses.
    pub gaps: Vec<GapReport>,
    /// Why it was over; `None` if it was stopped.
    pub end: Option<End>,
    /// Why the stream is not whole; `None` if it is, as far as is known.
    pub incomplete: Option<String>,
    /// What went wrong at sinks when everything had to go.
    pub failures: Vec<SinkError>,
}

/// Puts a [`Run`] together.
#[derive(Debug)]
pub struct RunBuilder<S> {
    run: Run<S>,
}

impl<S: Source> RunBuilder<S> {
    /// Puts the records in order first. Without it they stay as the source gives them, which is right for a capture.
    #[must_use]
    pub fn merge(mut self, merge: Merge) -> Self {
        self.run.merge = Some(merge);
        self
    }

    /// Adds a stage behind those added before.
    #[must_use]
    pub fn stage(mut self, stage: impl Stage + Send + 'static) -> Self {
        self.run.stages.push(Box::new(stage));
        self
    }

    /// Adds a sink that gets the records as they are before all stages: in order, without contexts, the undecodable
    /// ones too. A capture file is such a sink.
    #[must_use]
    pub fn raw_sink(mut self, sink: impl Sink + Send + 'static) -> Self {
        self.run.raw.push(Outlet::new(sink));
        self
    }

    /// Adds a sink behind all stages.
    #[must_use]
    pub fn sink(mut self, sink: impl Sink + Send + 'static) -> Self {
        self.run.sinks.push(Outlet::new(sink));
        self
    }

    /// What the source's stream is from.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        self.run.source.info()
    }

    /// Shows each batch as the source gave it, with what the source said, before anything is done to it.
    #[must_use]
    pub fn observe(mut self, observer: impl FnMut(&Batch, Polled) + Send + 'static) -> Self {
        self.run.observers.push(Box::new(observer));
        self
    }

    /// How long a step may wait for records; 100 ms unless said otherwise. While records are held back to be put in
    /// order it waits no longer than the slack of [`Merge`].
    #[must_use]
    pub fn wait(mut self, longest: Duration) -> Self {
        self.run.wait = longest;
        self
    }

    /// Ready to run.
    #[must_use]
    pub fn build(self) -> Run<S> {
        self.run
    }
}

impl<S: Source> Run<S> {
    /// A run of this source; without anything else its records are counted and forgotten.
    pub fn builder(source: S) -> RunBuilder<S> {
        RunBuilder {
            run: Self {
                source,
                merge: None,
                stages: Vec::new(),
                raw: Vec::new(),
                sinks: Vec::new(),
                observers: Vec::new(),
                wait: Duration::from_millis(100),
                buf: BatchBuf::default(),
                drain: Drain::default(),
                raw_flushed_ns: 0,
                end: None,
            },
        }
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The source, for example to stop it: then step until the end, so that nothing stays behind in it.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Polls the source once and brings what it gave to the sinks. When there was nothing, sinks are flushed.
    ///
    /// # Errors
    /// The source cannot go on. What it gave before has gone its way; the run is over and wants to be finished.
    pub fn step(&mut self) -> Result<Step, SourceError> {
        let mut step = Step::default();
        if self.end.is_none() {
            let patience = self.merge.as_ref().and_then(Merge::patience);
            let longest = patience.map_or(self.wait, |patience| patience.min(self.wait));
            let polled = self.source.poll(&mut self.buf, Some(longest));
            let batch = self.buf.take();
            match &polled {
                Ok(polled) => {
                    self.observers.iter_mut().for_each(|observer| observer(&batch, *polled));
                    self.drain.complete_until_ns = polled.complete_until_ns;
                    self.end = polled.end.then_some(End::Source);
                }
                Err(_) => self.end = Some(End::SourceFailed),
            }
            step.records = self.take(batch, &mut step.failures);
            polled?;
        }
        step.end.clone_from(&self.end);
        Ok(step)
    }

    /// Steps until the end. Before each step `stop` is asked; when it is true for the first time the source is stopped, and
    /// what it still has goes its way. `failed` gets each failure of a sink as it happens.
    ///
    /// # Errors
    /// The source could not go on; what it gave before has gone its way, and the run can be finished.
    pub fn drive(
        &mut self,
        mut stop: impl FnMut() -> bool,
        mut failed: impl FnMut(&SinkError),
    ) -> Result<(), SourceError> {
        let mut stopped = false;
        loop {
            if !stopped && stop() {
                stopped = true;
                self.source.stop();
            }
            let step = self.step()?;
            step.failures.iter().for_each(&mut failed);
            if step.end.is_some() {
                return Ok(());
            }
        }
    }

    /// The books as they stand. What the kernel counted and the source has not given yet is shown as held by `drain`.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.books(Left::ToCome)
    }

    /// Lets go what is held, flushes the sinks and draws up the books. What a source that is not at its end still has is
    /// counted as dropped by `drain` for `shutdown`.
    pub fn finish(mut self) -> Finished {
        let mut failures = Vec::new();
        if let Some(merge) = &mut self.merge {
            merge.finish();
        }
        self.pass_merged(&mut failures);
        for at in 0..self.stages.len() {
            let batch = self.stages[at].finish();
            self.pass_stages(at + 1, batch, &mut failures);
        }
        flush(&mut self.raw, &mut self.end, &mut failures);
        flush(&mut self.sinks, &mut self.end, &mut failures);
        let ledger = self.books(Left::Behind);
        let incomplete = self.source.incomplete();
        for outlet in self.raw.iter_mut().chain(&mut self.sinks) {
            outlet.finish(&ledger, incomplete.as_deref(), &mut failures);
        }
        let gaps = self.drain.gaps.report(&ledger.probes, |cpu| self.source.next_seq(cpu));
        Finished { ledger, gaps, end: self.end, incomplete, failures }
    }

    /// Takes what the source gave.
    fn take(&mut self, batch: Batch, failures: &mut Vec<SinkError>) -> u64 {
        let quiet = batch.is_empty();
        let (batch, records) = self.drain.count(batch);
        match &mut self.merge {
            Some(merge) => {
                merge.push(batch, self.drain.complete_until_ns);
                self.pass_merged(failures);
            }
            None => self.pass(batch, failures),
        }
        if quiet {
            // A flush ends a block of a capture: at each quiet poll of a slow stream that would be a block a record.
            let now_ns = self.drain.complete_until_ns;
            if now_ns.saturating_sub(self.raw_flushed_ns) >= BETWEEN_RAW_FLUSHES_NS {
                self.raw_flushed_ns = now_ns;
                flush(&mut self.raw, &mut self.end, failures);
            }
            flush(&mut self.sinks, &mut self.end, failures);
        }
        records
    }

    fn pass_merged(&mut self, failures: &mut Vec<SinkError>) {
        while let Some(batch) = self.merge.as_mut().and_then(Merge::pop) {
            self.pass(batch, failures);
        }
    }

    /// Brings records in order to the raw sinks and through the stages.
    fn pass(&mut self, batch: Batch, failures: &mut Vec<SinkError>) {
        deliver(&mut self.raw, &mut self.end, &batch, failures);
        self.pass_stages(0, batch, failures);
    }

    fn pass_stages(&mut self, from: usize, batch: Batch, failures: &mut Vec<SinkError>) {
        if batch.is_empty() {
            return;
        }
        let batch = self.stages[from..].iter_mut().fold(batch, |batch, stage| stage.apply(batch));
        deliver(&mut self.sinks, &mut self.end, &batch, failures);
    }

    fn books(&self, left: Left) -> Ledger {
        let probes = self.source.probes();
        let all_came = self.end == Some(End::Source) && !self.source.leaves_some();
        let left = if all_came { Left::Nothing } else { left };
        let mut drain = self.drain.row(probes.iter().map(ProbeRow::drained).sum(), left);
        drain.counts.extend(self.source.counts());
        let mut stages: Vec<StageRow> =
            std::iter::once(drain).chain(self.merge.iter().map(Merge::row)).collect();
        let tap = stages.last().map(|row| row.stage.clone()).unwrap_or_default();
        stages.extend(self.stages.iter().map(|stage| stage.row()));

        let mut sinks: Vec<SinkRow> = self.raw.iter().chain(&self.sinks).map(Outlet::row).collect();
        tell_apart(&mut sinks);
        let taps = match self.stages.is_empty() {
            true => BTreeMap::new(),
            false => sinks.iter().take(self.raw.len()).map(|row| (row.sink.clone(), tap.clone())).collect(),
        };
        Ledger::with_taps(probes, stages, sinks, taps).with_uncounted(self.source.uncounted())
    }
}

/// Gives a batch to each sink, whatever another one does with it.
fn deliver(outlets: &mut [Outlet], end: &mut Option<End>, batch: &Batch, failures: &mut Vec<SinkError>) {
    if batch.is_empty() {
        return;
    }
    for outlet in outlets {
        outlet.write(batch, failures);
        note_closed(outlet, end);
    }
}

fn flush(outlets: &mut [Outlet], end: &mut Option<End>, failures: &mut Vec<SinkError>) {
    for outlet in outlets {
        outlet.flush(failures);
        note_closed(outlet, end);
    }
}

/// The first reason to end stays.
fn note_closed(outlet: &Outlet, end: &mut Option<End>) {
    if outlet.is_closed() && end.is_none() {
        *end = Some(End::Closed { sink: outlet.row().sink });
    }
}

/// Numbers the sinks of one name.
fn tell_apart(sinks: &mut [SinkRow]) {
    let names: Vec<String> = sinks.iter().map(|row| row.sink.clone()).collect();
    for (at, row) in sinks.iter_mut().enumerate() {
        let namesakes = names[..at].iter().filter(|name| **name == row.sink).count();
        if namesakes > 0 {
            row.sink = format!("{}#{}", row.sink, namesakes + 1);
        }
    }
}

impl<S> fmt::Debug for Run<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("merge", &self.merge)
            .field("stages", &self.stages.len())
            .field("sinks", &(self.raw.len() + self.sinks.len()))
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
