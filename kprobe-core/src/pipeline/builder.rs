use std::{fmt, io, sync::Arc, time::Duration};

use crossbeam_channel::{bounded, unbounded};

use super::{
    BatchId, Merge, Pipeline, Sink, SinkOptions, Source, Stage, StreamInfo,
    delivery::{Ears, Outlet},
    driver::{Pace, Phase},
    inputs::{Input, Inputs, Other},
    monitor::Asked,
};
use crate::{event::BootId, spill::SpillError};

/// Puts a [`Pipeline`] together.
#[must_use = "it does nothing before it is built"]
pub struct PipelineBuilder<S> {
    source: S,
    others: Vec<Box<Input<Other>>>,
    /// Of all sources.
    stream: StreamInfo,
    /// The first boot that is not that of the first source.
    other_boot: Option<BootId>,
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
    /// The sources are not of one boot of one machine: neither their times nor their processes have to do with each other. Give
    /// each boot a pipeline of its own.
    #[error("sources of two boots in one pipeline, {first} and {other}: give each a pipeline of its own")]
    Boots {
        /// That of the first source.
        first: BootId,
        /// That of another one.
        other: BootId,
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
        let stream = source.info().clone();
        Self {
            source,
            others: Vec::new(),
            stream,
            other_boot: None,
            merge: None,
            stages: Vec::new(),
            raw: Vec::new(),
            sinks: Vec::new(),
            pace,
        }
    }

    /// Adds a source of the same boot: another recorder, another capture of it. They are asked in turn, on one thread, so each must wait no
    /// longer than it is told to, which a [`CaptureReader`](crate::capture::CaptureReader) of a pipe does not keep. With a
    /// [`merge`](Self::merge) the records of all are in one order; it lets go what every one of them is complete to, so a source that does
    /// not say so for long is one that makes it hold more. In the books the rows of probes and the drain are those of all together.
    ///
    /// Times are told by the clocks of the source that began first, and by the changes that records tell of: of captures between whose
    /// times the wall clock was set, those of the later one are told wrong.
    ///
    /// If one of them is live, sinks without a policy are not waited for.
    pub fn source(mut self, source: impl Source + Send + 'static) -> Self {
        let info = source.info();
        if info.boot != self.stream.boot {
            self.other_boot.get_or_insert(info.boot);
        }
        self.stream.join(info);
        self.others.push(Box::new(Input::new(source)));
        self
    }

    /// Puts the records in order first. Without it they stay as the sources give them, which is right for a single capture.
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

    /// What the stream is from: that of the sources so far.
    #[must_use]
    pub const fn info(&self) -> &StreamInfo {
        &self.stream
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
        if let Some(other) = self.other_boot {
            return Err(BuildError::Boots { first: self.stream.boot, other });
        }
        let inputs = Inputs::new(self.source, self.others);
        let next = [first_id()?, first_id()?];
        let (report, reports) = unbounded();
        let (trouble, troubles) = bounded(MOST_TROUBLES);
        let ears = Ears { reports: report, troubles: trouble };
        let raw = self.raw.len();
        let waits = !inputs.is_live();
        let mut outlets: Vec<Outlet> = Vec::new();
        for (sink, options) in self.raw.into_iter().chain(self.sinks) {
            let name = tell_apart(sink.name(), &outlets);
            outlets.push(Outlet::start(outlets.len(), name, sink, &options, waits, ears.clone())?);
        }
        Ok(Pipeline {
            inputs,
            stream: Arc::new(self.stream),
            merge: self.merge,
            stages: self.stages,
            outlets,
            raw,
            pace: self.pace,
            next,
            reports,
            troubles,
            deadline: None,
            end: None,
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
            .field("sources", &(1 + self.others.len()))
            .field("merge", &self.merge)
            .field("stages", &self.stages.len())
            .field("sinks", &(self.raw.len() + self.sinks.len()))
            .finish_non_exhaustive()
    }
}
