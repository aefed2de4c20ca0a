use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, after, never};

use super::{
    Batch, BatchId, GapReport, Ledger, Merge, PipelineBuilder, SinkError, SinkRow, SinkStatus, Source,
    SourceError, Stage, StageRow, StreamInfo, Trouble,
    delivery::{Ending, Given, Outlet, Report, Said},
    drain::Left,
    inputs::{Drained, Inputs},
    monitor::{Asked, Monitor, Seen},
};

/// Sources, what is done to their records, and where they go.
///
/// ```text
///   the thread that steps                                  a thread each
///  source -> [drain] -+-> [merge] -+-> stages -+-> queue -> sink
///  source -> [drain] -+            |           +-> queue -> sink
///                                  +-> queue -> raw sink
/// ```
///
/// Whoever has a thread drives it, step by step or until its end; sinks have threads and queues of their own, so that a slow
/// or dead one keeps no other from its work (see [`Policy`](super::Policy)).
///
/// ```
/// # use kprobe_core::pipeline::{Pipeline, Sink, Source};
/// # use kprobe_core::process::ProcessTable;
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # fn example(source: impl Source, sink: impl Sink + Send + 'static, stop: &AtomicBool)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let table = ProcessTable::new(source.info().boot);
/// let mut pipeline = Pipeline::builder(source).merge(Default::default()).stage(table).sink(sink).build()?;
/// let driven = pipeline.drive(|_| stop.load(Ordering::Relaxed), |trouble| eprintln!("{trouble}"));
/// // Also if the source failed: what it gave goes to the sinks.
/// let done = pipeline.finish();
/// assert_eq!(done.ledger.balance, 0);
/// driven?;
/// # Ok(())
/// # }
/// ```
#[must_use = "what was not finished is not waited for"]
pub struct Pipeline<S> {
    pub(super) inputs: Inputs<S>,
    pub(super) stream: Arc<StreamInfo>,
    pub(super) merge: Option<Merge>,
    pub(super) stages: Vec<Box<dyn Stage + Send>>,
    /// The first `raw` of them get records before the stages.
    pub(super) outlets: Vec<Outlet>,
    pub(super) raw: usize,
    pub(super) pace: Pace,
    /// Those of raw sinks and those of the others: each sink gets every number.
    pub(super) next: [BatchId; 2],
    pub(super) reports: Receiver<Report>,
    pub(super) troubles: Receiver<Trouble>,
    /// Fires when the time to shut down is over.
    pub(super) deadline: Option<Receiver<std::time::Instant>>,
    pub(super) end: Option<End>,
    pub(super) phase: Phase,
    pub(super) asked: Asked,
    /// Of each sink, whether it has said what is waited for.
    pub(super) heard: Vec<bool>,
    /// The time to shut down is over: sinks that have no room are not waited for.
    pub(super) is_late: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Lets go what is in the buffer and in the merge.
    Closing,
    /// Lets go what the stages hold, from this one on.
    Releasing(usize),
    /// Waits for sinks to flush.
    Flushing,
    Done,
}

/// How long things may take, and how much goes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) wait: Duration,
    pub(super) batch_bytes: usize,
    pub(super) batch_age: Duration,
    pub(super) shutdown: Duration,
}

/// How long sinks get to flush when all the time was used up by others, and to write their ends; at most all of the time.
const LAST: Duration = Duration::from_secs(1);
/// How often something that is waited for is given up if it is time.
const SLICE: Duration = Duration::from_millis(10);

/// Why a pipeline is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The source has no more records; if there are several, none has.
    Source,
    /// The source cannot go on; if there are several, one of them.
    SourceFailed,
    /// Whoever read this sink has gone away, and it was to end the pipeline.
    Closed {
        /// Name of the sink.
        sink: String,
    },
    /// All sinks have closed or failed.
    NoSinkLeft,
}

/// Whether a pipeline is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It goes on.
    #[default]
    No,
    /// There is nothing more to record. What was recorded is to be delivered, however long it takes.
    AtLeisure,
    /// It is to end within the time to shut down.
    InTime,
}

impl From<bool> for Stop {
    /// `true` is [`InTime`](Self::InTime).
    fn from(stop: bool) -> Self {
        if stop { Self::InTime } else { Self::No }
    }
}

/// What one step did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Step {
    /// Records that left a source's buffer for the sinks.
    pub records: u64,
    /// Everything was delivered that will be, and this was the reason to end. Further steps do nothing.
    pub end: Option<End>,
    /// A sink that is to be waited for has no room: the source was not asked.
    pub blocked: bool,
    /// What went wrong at sinks since the last step.
    pub troubles: Vec<Trouble>,
}

/// What a pipeline leaves.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub struct Finished {
    /// The books.
    pub ledger: Ledger,
    /// Gaps in the record numbers of each source and CPU beside the kernel's count of losses.
    pub gaps: Vec<GapReport>,
    /// Why it was over; `None` if it was finished before the source had given everything.
    pub end: Option<End>,
    /// Why the stream is not whole; `None` if it is, as far as is known.
    pub incomplete: Option<String>,
    /// What went wrong at sinks when everything had to go.
    pub troubles: Vec<Trouble>,
    /// The sinks as they were left, in the order of the ledger.
    pub sinks: Vec<SinkStatus>,
}

impl<S: Source> Pipeline<S> {
    /// A pipeline of this source; without anything else its records are counted and forgotten.
    pub fn builder(source: S) -> PipelineBuilder<S> {
        PipelineBuilder::new(source)
    }

    /// The source that the builder began with.
    #[must_use]
    pub fn source(&self) -> &S {
        self.inputs.first()
    }

    /// The source that the builder began with, for example to stop it: then step until the end, so that nothing stays behind in it.
    pub fn source_mut(&mut self) -> &mut S {
        self.inputs.first_mut()
    }

    /// Polls a source once and brings to the sinks what is due. Waits for records or for room, as the builder was told. Once
    /// there will be no more records, further steps wait for the sinks.
    ///
    /// # Errors
    /// A source cannot go on, and was stopped. What it gave before goes its way with the next steps, which ask the other sources.
    pub fn step(&mut self) -> Result<Step, SourceError> {
        self.asked.answer(|| self.look());
        let mut step = Step::default();
        self.make_room(self.pace.wait);
        self.pass_merged();
        step.blocked = self.is_blocked();
        let polled = match self.phase {
            _ if step.blocked => Ok(()),
            Phase::Running => self.poll(&mut step.records),
            _ => {
                self.advance(self.pace.wait);
                Ok(())
            }
        };
        self.note_ends();
        polled?;
        step.troubles.extend(self.troubles.try_iter());
        if self.phase == Phase::Done {
            step.end.clone_from(&self.end);
        }
        Ok(step)
    }

    /// Steps until the end. Before each step `stop` is asked, which may also tell the source something. When it says so for
    /// the first time the sources are stopped, and what they still have goes its way; from [`Stop::InTime`] or `true` on as long as the time to shut down allows. Otherwise, also
    /// when the source ends by itself, sinks are waited for however long they take, even one that is gone: keep `stop`
    /// able to say so. `trouble` gets each trouble of a sink as it is told.
    ///
    /// # Errors
    /// A source could not go on. It was stopped, and what it gave before goes its way when the pipeline is finished. If there are others,
    /// drive on: they are neither stopped nor drained, and what they have would be dropped for `shutdown`.
    pub fn drive<T: Into<Stop>>(
        &mut self,
        mut stop: impl FnMut(&mut S) -> T,
        mut trouble: impl FnMut(&Trouble),
    ) -> Result<(), SourceError> {
        let mut over = never();
        let mut asked = Stop::No;
        loop {
            if asked != Stop::InTime {
                let now: Stop = stop(self.inputs.first_mut()).into();
                if asked == Stop::No && now != Stop::No {
                    self.inputs.stop();
                }
                asked = asked.max(now);
            }
            if asked == Stop::InTime || matches!(self.end, Some(End::Closed { .. } | End::NoSinkLeft)) {
                over = self.begin_shutdown();
            }
            let step = self.step()?;
            step.troubles.iter().for_each(&mut trouble);
            // The message stays for `finish`.
            if step.end.is_some() || !over.is_empty() {
                return Ok(());
            }
        }
    }

    /// The books as they stand. What the kernel counted and the source has not given yet is shown as held by `drain`, and
    /// what waits for a sink as held by it.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.books(Left::ToCome)
    }

    /// The sinks at this moment, in the order of the ledger.
    #[must_use]
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.outlets.iter().map(|outlet| outlet.status(self.inputs.complete_until_ns())).collect()
    }

    /// For other threads, which look at it while this one drives it.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.asked.monitor()
    }

    /// Lets go what is held, waits for the sinks within the time to shut down, and draws up the books. What a source that is
    /// not at its end still has, and what sinks have not delivered, is counted as dropped for `shutdown`. A sink that is in
    /// the middle of a call then is left alone on its thread, and what it does in that call is in no book.
    ///
    /// It takes the time to shut down at most, and a second more for sinks to flush and one to write their ends.
    pub fn finish(mut self) -> Finished {
        let over = self.begin_shutdown();
        let mut last: Receiver<_> = never();
        if self.phase == Phase::Running {
            self.phase = Phase::Closing;
        }
        while self.phase != Phase::Done {
            self.asked.answer(|| self.look());
            if !self.is_late && !over.is_empty() {
                self.is_late = true;
                last = after(LAST.min(self.pace.shutdown));
            }
            if self.is_late {
                self.outlets.iter_mut().filter(|outlet| outlet.is_blocked()).for_each(Outlet::abandon);
            }
            // The messages stay, so that it does not matter when they are looked at.
            if !last.is_empty() {
                self.abandon_unheard();
            }
            self.make_room(SLICE);
            self.pass_merged();
            if !self.is_blocked() {
                self.advance(SLICE);
            }
        }
        self.await_kept();
        let ledger = self.books(Left::Behind);
        let incomplete = self.inputs.incomplete();
        let failed = self.inputs.has_failed().then_some(End::SourceFailed);
        let ending = Arc::new(Ending { ledger: ledger.clone(), incomplete: incomplete.clone() });
        let alive = self.outlets.iter().filter(|outlet| !outlet.is_abandoned());
        alive.for_each(|outlet| outlet.finish(&ending));
        self.heard = self.outlets.iter().map(Outlet::is_abandoned).collect();
        // What is left of the time to shut down, or a second.
        let last = after(LAST);
        while self.is_unheard() && (last.is_empty() || !self.is_late && over.is_empty()) {
            self.listen(Said::Finished, SLICE);
        }

        let sinks = self.sinks();
        let gaps = self.inputs.gaps();
        let mut troubles: Vec<_> = self.troubles.try_iter().collect();
        for (outlet, ended) in self.outlets.into_iter().zip(self.heard) {
            if !ended {
                let error = SinkError::lossy("it did not write its end in time");
                troubles.push(Trouble { sink: outlet.name().to_owned(), error });
            }
            let ended = ended && !outlet.is_abandoned();
            outlet.join(ended);
        }
        Finished { ledger, gaps, end: self.end.or(failed), incomplete, troubles, sinks }
    }

    /// On the way to the end: lets go what is held, then waits for the sinks, for `longest` at most.
    fn advance(&mut self, longest: Duration) {
        match self.phase {
            Phase::Running | Phase::Done => {}
            Phase::Closing => {
                // One batch at a time, as sinks take them.
                if let Some(at) = self.inputs.open() {
                    self.close_batch(at);
                    return;
                }
                self.phase = Phase::Releasing(0);
                if let Some(merge) = &mut self.merge {
                    merge.finish();
                }
                self.pass_merged();
            }
            Phase::Releasing(at) if at < self.stages.len() => {
                self.phase = Phase::Releasing(at + 1);
                let batch = self.stages[at].finish();
                self.pass_stages(at + 1, batch);
            }
            Phase::Releasing(_) => {
                self.phase = Phase::Flushing;
                self.outlets.iter_mut().for_each(Outlet::flush);
                self.heard = self.outlets.iter().map(Outlet::is_abandoned).collect();
            }
            Phase::Flushing if self.is_unheard() => self.listen(Said::Flushed, longest),
            Phase::Flushing => self.phase = Phase::Done,
        }
    }

    fn is_unheard(&self) -> bool {
        self.heard.contains(&false)
    }

    /// Waits for a sink to say so, for `longest` at most.
    fn listen(&mut self, what: Said, longest: Duration) {
        if let Ok((at, said)) = self.reports.recv_timeout(longest) {
            self.heard[at] |= said == what;
        }
    }

    /// Nobody waits any more for sinks that have not flushed.
    fn abandon_unheard(&mut self) {
        let unheard = self.outlets.iter_mut().zip(&mut self.heard).filter(|(_, heard)| !**heard);
        unheard.for_each(|(outlet, heard)| {
            outlet.abandon();
            *heard = true;
        });
    }

    fn look(&self) -> Seen {
        let complete_until_ns = self.inputs.complete_until_ns();
        Seen { ledger: self.ledger(), sinks: self.sinks(), complete_until_ns }
    }

    /// Asks a source, and closes its batch if it is due.
    fn poll(&mut self, records: &mut u64) -> Result<(), SourceError> {
        let (due, polled) = self.inputs.poll(&self.pace, self.merge.as_ref());
        if let Some(over) = self.inputs.over() {
            self.phase = Phase::Closing;
            self.end.get_or_insert(over);
        }
        if let Some(at) = due {
            *records = self.close_batch(at);
        }
        polled
    }

    /// Sends what is in the buffer of a source on its way.
    fn close_batch(&mut self, at: usize) -> u64 {
        let (batch, records) = self.inputs.close(at);
        match &mut self.merge {
            Some(merge) => {
                merge.push(batch, self.inputs.passed_until_ns());
                self.pass_merged();
            }
            None => self.pass(batch),
        }
        records
    }

    fn pass_merged(&mut self) {
        while !self.is_blocked()
            && let Some(batch) = self.merge.as_mut().and_then(Merge::pop)
        {
            self.pass(batch);
        }
    }

    /// Brings records in order to the raw sinks and through the stages.
    fn pass(&mut self, batch: Batch) {
        self.deliver(0..self.raw, &batch);
        self.pass_stages(0, batch);
    }

    fn pass_stages(&mut self, from: usize, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let batch = self.stages[from..].iter_mut().fold(batch, |batch, stage| stage.apply(batch));
        self.deliver(self.raw..self.outlets.len(), &batch);
    }

    /// Gives a batch to each of these sinks, whatever another one does with it.
    fn deliver(&mut self, to: Range<usize>, batch: &Batch) {
        if batch.is_empty() || to.is_empty() {
            return;
        }
        let next = &mut self.next[usize::from(to.start >= self.raw)];
        let batch = batch.clone().labelled(*next, &self.stream);
        next.seq += 1;
        let given = Given { records: batch.count(), until_ns: self.inputs.complete_until_ns() };
        self.outlets[to].iter_mut().for_each(|outlet| outlet.give(&batch, given));
    }

    fn is_blocked(&self) -> bool {
        self.outlets.iter().any(Outlet::is_blocked)
    }

    /// Waits for a sink that has no room, for `longest` at most.
    fn make_room(&mut self, longest: Duration) {
        let mut longest = longest;
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.is_blocked()) {
            outlet.unblock(std::mem::take(&mut longest));
        }
    }

    fn begin_shutdown(&mut self) -> Receiver<std::time::Instant> {
        self.outlets.iter_mut().for_each(Outlet::hurry);
        self.deadline.get_or_insert_with(|| after(self.pace.shutdown)).clone()
    }

    /// Waits for what abandoned sinks keep on disk. If the disk hangs, it is not in the books.
    fn await_kept(&mut self) {
        self.heard = self.outlets.iter().map(|outlet| !(outlet.is_abandoned() && outlet.keeps())).collect();
        let last = after(LAST);
        while self.is_unheard() && last.is_empty() {
            self.listen(Said::Kept, SLICE);
        }
        self.outlets.iter().filter(|outlet| outlet.is_abandoned()).for_each(Outlet::close);
    }

    /// The first reason to end stays.
    fn note_ends(&mut self) {
        if self.end.is_some() || self.phase != Phase::Running {
            return;
        }
        let closed = self.outlets.iter().find(|outlet| outlet.ends_pipeline && outlet.is_closed());
        self.end = match closed {
            Some(outlet) => Some(End::Closed { sink: outlet.name().to_owned() }),
            None if self.outlets.is_empty() || !self.outlets.iter().all(Outlet::is_over) => None,
            None => Some(End::NoSinkLeft),
        };
        if self.end.is_none() {
            return;
        }
        let nobody_left = self.outlets.iter().all(Outlet::is_over);
        // Otherwise the others get what the source still has. To stop reading a file that nobody wants is nothing to tell of.
        if nobody_left {
            self.phase = Phase::Closing;
        }
        if !nobody_left || self.inputs.is_live() {
            self.inputs.stop();
        }
    }

    fn books(&self, left: Left) -> Ledger {
        let Drained { probes, row, hidden } = self.inputs.books(left);
        let mut stages: Vec<StageRow> =
            std::iter::once(row).chain(self.merge.iter().map(Merge::row)).collect();
        let tap = stages.last().map(|row| row.stage.clone()).unwrap_or_default();
        stages.extend(self.stages.iter().map(|stage| stage.row()));

        let sinks: Vec<SinkRow> = self.outlets.iter().map(Outlet::row).collect();
        let taps = match self.stages.is_empty() {
            true => BTreeMap::new(),
            false => sinks.iter().take(self.raw).map(|row| (row.sink.clone(), tap.clone())).collect(),
        };
        let mut ledger =
            Ledger::with_taps(probes, stages, sinks, taps).with_uncounted(self.inputs.uncounted());
        ledger.balance += hidden;
        ledger
    }
}

impl<S> fmt::Debug for Pipeline<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("merge", &self.merge)
            .field("stages", &self.stages.len())
            .field("outlets", &self.outlets)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
