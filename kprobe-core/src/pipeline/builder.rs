use std::{fmt, io, sync::Arc, time::Duration};

use crossbeam_channel::{bounded, unbounded};

use super::{
    BatchBuf, BatchId, Merge, Pipeline, Sink, SinkOptions, Source, Stage, StreamInfo,
    delivery::{Ears, Outlet},
    drain::Drain,
    driver::{Pace, Phase},
    monitor::Asked,
};
use crate::spill::SpillError;

/// Puts a [`Pipeline`] together.
#[must_use = "it does nothing before it is built"]
pub struct PipelineBuilder<S> {
    source: S,
    merge: Option<Merge>,
    stages: Vec<Box<dyn Stage + Send>>,
    raw: Vec<(Box<dyn Sink + Send>, SinkOptions)>,
    sinks: Vec<(Box<dyn Sink + Send>, SinkOptions)>,
    pace: Pace,
}

/// A pipeline cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The directory that a sink is to spill into cannot be used.
    #[error("{sink}: {error}")]
    Spill {
        /// Name of the sink.
        sink: String,
        /// What is wrong with it.
        #[source]
        error: SpillError,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread for a sink: {0}")]
    Thread(#[source] io::Error),
    /// The system has no random number to tell this pipeline's batches from others'.
    #[error("the system gives no random number: {0}")]
    Random(#[source] io::Error),
}

/// Troubles that wait to be asked for; more are not told.
const MOST_TROUBLES: usize = 64;

impl<S: Source> PipelineBuilder<S> {
    pub(super) fn new(source: S) -> Self {
        let pace = Pace {
            wait: Duration::from_millis(100),
            batch_bytes: 256 << 10,
            batch_age: Duration::from_millis(10),
            shutdown: Duration::from_secs(5),
        };
        Self { source, merge: None, stages: Vec::new(), raw: Vec::new(), sinks: Vec::new(), pace }
    }

    /// Puts the records in order first. Without it they stay as the source gives them, which is right for a capture.
    pub fn merge(self, merge: Merge) -> Self {
        Self { merge: Some(merge), ..self }
    }

    /// Adds a stage behind those added before.
    pub fn stage(mut self, stage: impl Stage + Send + 'static) -> Self {
        self.stages.push(Box::new(stage));
        self
    }

    /// Adds a sink behind all stages, with [`SinkOptions::default`].
    pub fn sink(self, sink: impl Sink + Send + 'static) -> Self {
        self.sink_with(sink, SinkOptions::default())
    }

    /// Adds a sink behind all stages.
    pub fn sink_with(mut self, sink: impl Sink + Send + 'static, options: SinkOptions) -> Self {
        self.sinks.push((Box::new(sink), options));
        self
    }

    /// Adds a sink that gets the records as they are before all stages: in order, without contexts, the undecodable
    /// ones too. A capture file is such a sink.
    pub fn raw_sink(self, sink: impl Sink + Send + 'static) -> Self {
        self.raw_sink_with(sink, SinkOptions::default())
    }

    /// The same, with options.
    pub fn raw_sink_with(mut self, sink: impl Sink + Send + 'static, options: SinkOptions) -> Self {
        self.raw.push((Box::new(sink), options));
        self
    }

    /// What the source's stream is from.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        self.source.info()
    }

    /// How long a step may wait for records or for room; 100 ms unless said otherwise. While records are held back, to be
    /// put in order or because their batch is not full, it waits no longer than these may.
    pub fn wait(mut self, longest: Duration) -> Self {
        self.pace.wait = longest;
        self
    }

    /// A batch goes on its way when it has `bytes`, or when its first record has waited for `age`, or when nothing comes:
    /// the larger, the less each record costs, and the later it comes. Unless said otherwise 256 KiB and 10 ms.
    pub fn batch(mut self, bytes: usize, age: Duration) -> Self {
        (self.pace.batch_bytes, self.pace.batch_age) = (bytes, age);
        self
    }

    /// How long everything may take once the pipeline was stopped: what is in the source, in queues and in sinks. What is
    /// left then is dropped for `shutdown`. 5 s unless said otherwise.
    pub fn shutdown_within(mut self, longest: Duration) -> Self {
        self.pace.shutdown = longest;
        self
    }

    /// Starts a thread for each sink.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<Pipeline<S>, BuildError> {
        let next = [first_id()?, first_id()?];
        let (report, reports) = unbounded();
        let (trouble, troubles) = bounded(MOST_TROUBLES);
        let ears = Ears { reports: report, troubles: trouble };
        let raw = self.raw.len();
        let waits = !self.source.is_live();
        let mut outlets: Vec<Outlet> = Vec::new();
        for (sink, options) in self.raw.into_iter().chain(self.sinks) {
            let name = tell_apart(sink.name(), &outlets);
            outlets.push(Outlet::start(outlets.len(), name, sink, &options, waits, ears.clone())?);
        }
        Ok(Pipeline {
            stream: Arc::new(self.source.info().clone()),
            source: self.source,
            merge: self.merge,
            stages: self.stages,
            outlets,
            raw,
            pace: self.pace,
            buf: BatchBuf::default(),
            opened_ns: None,
            drain: Drain::default(),
            next,
            reports,
            troubles,
            deadline: None,
            end: None,
            source_ended: false,
            phase: Phase::Running,
            asked: Asked::new(),
            heard: Vec::new(),
            is_late: false,
        })
    }
}

fn first_id() -> Result<BatchId, BuildError> {
    let mut run = [0; 16];
    getrandom::fill(&mut run).map_err(|error| BuildError::Random(error.into()))?;
    Ok(BatchId { run: u128::from_ne_bytes(run), seq: 0 })
}

/// Numbers the sinks of one name.
fn tell_apart(name: &str, outlets: &[Outlet]) -> String {
    let numbered = |n: usize| if n == 1 { name.to_owned() } else { format!("{name}#{n}") };
    let is_free = |name: &String| outlets.iter().all(|outlet| outlet.name() != name);
    (1..).map(numbered).find(is_free).unwrap_or_default()
}

impl<S> fmt::Debug for PipelineBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineBuilder")
            .field("merge", &self.merge)
            .field("stages", &self.stages.len())
            .field("sinks", &(self.raw.len() + self.sinks.len()))
            .finish_non_exhaustive()
    }
}
