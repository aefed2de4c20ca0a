use std::{
    convert::Infallible,
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Sender, bounded, unbounded};

use super::{
    Ending, Message, Parcel, Policy, Report, SinkOptions, SinkStatus, Trouble,
    books::{Books, reason},
    budget::Budget,
    worker::Worker,
};
use crate::pipeline::{Batch, Sink, SinkRow};

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
    blocked: Option<(Batch, u64)>,
    /// Records that found no room since the last parcel.
    missed: u64,
    /// Gone when nobody waits for the sink any more.
    alive: Option<Sender<Infallible>>,
    thread: JoinHandle<()>,
}

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
    ) -> io::Result<Self> {
        let (queue, input) = unbounded();
        let (alive, abandoned) = bounded(0);
        let books = Books::default();
        let worker =
            Worker::new(at, name.clone(), sink, input, abandoned, books.clone(), options.retry, ears);
        // The kernel keeps 15 bytes of it.
        let thread = Builder::new().name(format!("kp-{name}")).spawn(move || worker.run())?;
        Ok(Self {
            name,
            waits: options.policy.as_ref().map_or(waits, |policy| *policy == Policy::Block),
            ends_pipeline: options.ends_pipeline,
            budget: Budget::new(options.queue_bytes),
            queue,
            books,
            blocked: None,
            missed: 0,
            alive: Some(alive),
            thread,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes a batch for the sink: never waits, but may have to [`unblock`](Self::unblock) before it takes the next.
    pub(crate) fn give(&mut self, batch: &Batch, records: u64) {
        debug_assert!(self.blocked.is_none());
        if self.is_abandoned() {
            return self.books.entries().turn_away(records, reason::SHUTDOWN);
        }
        self.books.entries().receive(records);
        if self.send(batch, records) {
            return;
        }
        if self.waits {
            self.blocked = Some((batch.clone(), records));
        } else {
            self.missed += records;
            self.books.entries().refuse(records, reason::QUEUE_FULL);
        }
    }

    fn send(&mut self, batch: &Batch, records: u64) -> bool {
        let Some(permit) = self.budget.take(batch.cost()) else { return false };
        let missed = std::mem::take(&mut self.missed);
        self.tell(Message::Parcel(Parcel { batch: batch.clone(), records, missed, _permit: permit }));
        true
    }

    fn tell(&self, message: Message) {
        // The worker listens until it has finished; one that panicked outside of its sink is a bug that the balance shows.
        let _unheard = self.queue.send(message);
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Waits for room for what is blocked, for `longest` at most.
    pub(crate) fn unblock(&mut self, longest: Duration) {
        let Some((batch, records)) = self.blocked.take() else { return };
        if self.send(&batch, records) {
            return;
        }
        self.budget.wait(batch.cost(), |parker| parker.park_timeout(longest));
        if !self.send(&batch, records) {
            self.blocked = Some((batch, records));
        }
    }

    /// Asks for everything to be flushed; the worker will say when it is.
    pub(crate) fn flush(&self) {
        self.tell(Message::Flush);
    }

    /// Nobody waits for the sink any more: what is not settled is dropped.
    pub(crate) fn abandon(&mut self) {
        self.blocked = None;
        self.books.entries().close(reason::SHUTDOWN);
        self.alive = None;
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

    pub(crate) fn status(&self) -> SinkStatus {
        SinkStatus {
            sink: self.name.clone(),
            health: self.books.entries().health.clone(),
            waiting_bytes: self.budget.used(),
        }
    }

    pub(crate) fn row(&self) -> SinkRow {
        self.books.row(&self.name)
    }

    /// Waits for the thread if it is about to end. One that hangs in its sink is left alone.
    pub(crate) fn join(self) {
        let Self { queue, alive, thread, .. } = self;
        drop((queue, alive));
        if thread.is_finished() {
            // It catches its sink's panics.
            let _ended = thread.join();
        }
    }
}
