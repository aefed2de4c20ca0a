use std::{
    convert::Infallible,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Sender, bounded, unbounded};

use super::{
    Ending, Given, Message, Parcel, Policy, Report, SinkOptions, SinkStatus, Trouble,
    books::{Books, Progress, reason},
    budget::Budget,
    spiller::{Ends, Spiller},
    worker::{Calls, Worker},
};
use crate::{
    pipeline::{Batch, BuildError, Sink, SinkRow},
    spill::{Spill, SpillLimits},
};

/// The pipeline's end of a sink.
#[derive(Debug)]
pub(crate) struct Outlet {
    name: String,
    waits: bool,
    pub(crate) ends_pipeline: bool,
    budget: Budget,
    /// Bounded by the budget: every parcel has its share.
    queue: Sender<Message>,
    books: Books,
    /// A batch that waits for room in the queue.
    blocked: Option<(Batch, Given)>,
    /// Records that found no room since the last parcel.
    missed: u64,
    /// The queue was full, and is not half empty yet.
    overflows: bool,
    /// Gone when it is time to end soon.
    leisure: Option<Sender<Infallible>>,
    /// Gone when nobody waits for the sink any more.
    alive: Option<Sender<Infallible>>,
    threads: Vec<JoinHandle<()>>,
    /// What is not delivered is kept on disk.
    keeps: bool,
}

/// Batches between the disk and a sink.
const READ_AHEAD: usize = 4;

/// Where the threads of all sinks speak to.
#[derive(Clone, Debug)]
pub(crate) struct Ears {
    pub(crate) reports: Sender<Report>,
    /// Bounded: who does not listen misses some.
    pub(crate) troubles: Sender<Trouble>,
}

impl Outlet {
    /// Starts the sink's thread. `waits` is what a sink without a policy does when its queue is full.
    pub(crate) fn start(
        at: usize,
        name: String,
        sink: Box<dyn Sink + Send>,
        options: &SinkOptions,
        waits: bool,
        ears: Ears,
    ) -> Result<Self, BuildError> {
        let (queue, input) = unbounded();
        let (alive, abandoned) = bounded(0);
        let (leisure, hurry) = bounded(0);
        let books = Books::default();
        let mut threads = Vec::new();
        let mut start = |name: String, run: Box<dyn FnOnce() + Send>| {
            // The kernel keeps 15 bytes of it, and a zero is its end.
            let name = name.replace('\0', "");
            threads.push(Builder::new().name(name).spawn(run).map_err(BuildError::Thread)?);
            Ok(())
        };
        let (input, arrived) = match &options.policy {
            Some(Policy::Spill { dir, max_bytes }) => {
                let spill = Spill::open(dir, SpillLimits::of(*max_bytes))
                    .map_err(|error| BuildError::Spill { sink: name.clone(), error })?;
                let (output, rest) = bounded(READ_AHEAD);
                let (tell, arrived) = unbounded();
                let ends = Ends { input, output, arrived, abandoned: abandoned.clone() };
                let (own, most) = (books.clone(), options.queue_bytes);
                let spiller = Spiller::new(at, name.clone(), spill, own, ears.clone(), most);
                start(format!("kp-spill-{name}"), Box::new(move || spiller.run(ends)))?;
                (rest, Some(tell))
            }
            _ => (input, None),
        };
        let keeps = arrived.is_some();
        let worker = Worker {
            at,
            name: name.clone(),
            flush_every: sink.flush_every(),
            sink: Some(sink),
            input,
            calls: Calls { hurry, abandoned },
            books: books.clone(),
            retry: options.retry,
            ears,
            arrived,
            last: 0,
            told: None,
        };
        start(format!("kp-{name}"), Box::new(move || worker.run()))?;
        Ok(Self {
            name,
            keeps,
            waits: match options.policy {
                Some(Policy::Block) => true,
                Some(Policy::DropNewest) => false,
                // For the disk.
                Some(Policy::Spill { .. }) | None => waits,
            },
            ends_pipeline: options.ends_pipeline,
            budget: Budget::new(options.queue_bytes),
            queue,
            books,
            blocked: None,
            missed: 0,
            overflows: false,
            leisure: Some(leisure),
            alive: Some(alive),
            threads,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes a batch for the sink: never waits, but may have to [`unblock`](Self::unblock) before it takes the next.
    pub(crate) fn give(&mut self, batch: &Batch, given: Given) {
        let records = given.records;
        debug_assert!(self.blocked.is_none());
        if self.is_abandoned() {
            return self.books.entries().turn_away(records, reason::SHUTDOWN);
        }
        self.books.entries().receive(records);
        if self.send(batch, given) {
            return;
        }
        if self.waits {
            self.blocked = Some((batch.clone(), given));
        } else {
            self.missed += records;
            self.books.entries().refuse(records, reason::QUEUE_FULL);
        }
    }

    fn send(&mut self, batch: &Batch, given: Given) -> bool {
        // What overflows does so for a while: one gap says more than many, and batches that are neighbours share memory.
        self.overflows &= !self.waits && self.budget.used() > self.budget.most() / 2;
        if self.overflows {
            return false;
        }
        let Some(permit) = self.budget.take(batch.cost()) else {
            self.overflows = true;
            return false;
        };
        let missed = std::mem::take(&mut self.missed);
        let batch = batch.clone();
        let Given { records, until_ns } = given;
        let permit = Some(permit);
        self.tell(Message::Parcel(Parcel { batch, records, until_ns, missed, _permit: permit, number: 0 }));
        true
    }

    fn tell(&self, message: Message) {
        // It listens until it has finished.
        let _unheard = self.queue.send(message);
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Waits for room for what is blocked, for `longest` at most.
    pub(crate) fn unblock(&mut self, longest: Duration) {
        let Some((batch, given)) = self.blocked.take() else { return };
        if self.send(&batch, given) {
            return;
        }
        self.budget.wait(batch.cost(), |parker| parker.park_timeout(longest));
        if !self.send(&batch, given) {
            self.blocked = Some((batch, given));
        }
    }

    /// Asks for everything to be flushed; the worker will say when it is.
    pub(crate) fn flush(&mut self) {
        let missed = std::mem::take(&mut self.missed);
        self.tell(Message::Flush { missed });
    }

    /// It is time to end soon: what failed is tried once more.
    pub(crate) fn hurry(&mut self) {
        self.leisure = None;
    }

    /// Nobody waits for the sink any more.
    pub(crate) fn abandon(&mut self) {
        self.blocked = None;
        self.alive = None;
        if !self.keeps {
            self.close();
        }
    }

    /// What was not delivered is to be put on disk, and that will be said.
    pub(crate) const fn keeps(&self) -> bool {
        self.keeps
    }

    /// Draws up the books: what is not settled is dropped, but for what is on disk.
    pub(crate) fn close(&self) {
        self.books.entries().close(reason::SHUTDOWN);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.alive.is_none()
    }

    /// Lets the sink write its end.
    pub(crate) fn finish(&self, ending: &Arc<Ending>) {
        self.tell(Message::Finish(Arc::clone(ending)));
    }

    /// The reader has gone, or the sink has failed for good.
    pub(crate) fn is_over(&self) -> bool {
        self.books.entries().over.is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.books.entries().over == Some(reason::CLOSED)
    }

    pub(crate) fn status(&self, now_ns: u64) -> SinkStatus {
        let entries = self.books.entries();
        let Progress { batches, until_ns, .. } = entries.progress;
        SinkStatus {
            sink: self.name.clone(),
            health: entries.health.clone(),
            waiting_bytes: self.budget.used(),
            spilled_bytes: entries.kept_bytes,
            batches,
            lag_ns: if entries.is_behind() { now_ns.saturating_sub(until_ns) } else { 0 },
        }
    }

    pub(crate) fn row(&self) -> SinkRow {
        self.books.row(&self.name)
    }

    /// Waits for the threads if they have `ended` but for their last steps. One that hangs in its sink is left alone.
    pub(crate) fn join(self, ended: bool) {
        let Self { queue, alive, leisure, threads, .. } = self;
        drop((queue, alive, leisure));
        for thread in threads.into_iter().filter(|thread| ended || thread.is_finished()) {
            // It catches its sink's panics.
            let _ended = thread.join();
        }
    }
}
