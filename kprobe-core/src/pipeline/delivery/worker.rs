use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, after, never, select};

use super::{
    Arrival, Ending, Health, Message, Parcel, Retry, Said, Trouble,
    books::{Books, reason},
    outlet::Ears,
};
use crate::pipeline::{Sink, SinkError};

/// A sink that is flushed when nothing waits is flushed so often at least while there always is something.
const BUSY_FLUSH: Duration = Duration::from_millis(100);
/// After so long without anything to write the sink is asked how it is.
const IDLE: Duration = Duration::from_secs(5);
/// When it is time to end, what failed is tried again after this at the latest.
const LAST_TRIES: Duration = Duration::from_millis(100);

/// The sink's end of a queue: runs on a thread of its own.
pub(super) struct Worker {
    pub(super) at: usize,
    pub(super) name: String,
    /// Gone once it is over.
    pub(super) sink: Option<Box<dyn Sink + Send>>,
    pub(super) flush_every: Duration,
    pub(super) input: Receiver<Message>,
    pub(super) calls: Calls,
    pub(super) books: Books,
    pub(super) retry: Retry,
    pub(super) ears: Ears,
    /// Of a sink that spills: who wants to know what has arrived.
    pub(super) arrived: Option<Sender<Arrival>>,
    /// Number of the last parcel that the sink took.
    pub(super) last: u64,
    /// The last trouble that was told, and with what.
    pub(super) told: Option<(Call, String)>,
}

/// What else a sink's thread listens to: each is closed when it is time.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    /// To end soon.
    pub(super) hurry: Receiver<Infallible>,
    /// Nobody waits for the sink any more.
    pub(super) abandoned: Receiver<Infallible>,
}

/// What a sink is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Write,
    Flush,
    Health,
    Finish,
}

impl Worker {
    pub(super) fn run(mut self) {
        let finished = self.serve();
        // Whoever is told that it has ended finds the sink gone, with all that it held.
        self.drop_sink();
        let Self { at, ears, arrived, .. } = self;
        if finished && arrived.is_none() {
            let _unheard = ears.reports.send((at, Said::Finished));
        }
    }

    /// Until the end; `false` if the pipeline was dropped before.
    fn serve(&mut self) -> bool {
        let every = self.flush_every;
        let mut due: Receiver<Instant> = never();
        loop {
            let message = select! {
                recv(self.input) -> message => message,
                recv(due) -> _ => {
                    self.flush();
                    due = never();
                    continue;
                }
                default(IDLE) => {
                    self.ask();
                    continue;
                }
            };
            match message {
                Ok(Message::Parcel(parcel)) => {
                    let first = !self.books.entries().dirty;
                    self.write(&parcel);
                    // Its share is given back here, not before the sink is done with it.
                    drop(parcel);
                    if every.is_zero() && self.input.is_empty() {
                        self.flush();
                        due = never();
                    } else if first {
                        due = after(if every.is_zero() { BUSY_FLUSH } else { every });
                    }
                }
                Ok(Message::Flush { missed }) => {
                    self.tell_missed(missed);
                    self.flush();
                    match &self.arrived {
                        Some(arrived) => drop(arrived.send(Arrival::Flushed)),
                        None => drop(self.ears.reports.send((self.at, Said::Flushed))),
                    }
                }
                Ok(Message::Finish(ending)) => {
                    self.finish(&ending);
                    return true;
                }
                Err(_) => {
                    self.flush();
                    return false;
                }
            }
        }
    }

    fn write(&mut self, parcel: &Parcel) {
        if !self.books.entries().give(parcel.records) {
            return;
        }
        self.tell_missed(parcel.missed);
        if self.attempt(Call::Write, |sink| sink.write(&parcel.batch)) {
            self.last = parcel.number;
            self.books.entries().progress.take(parcel.until_ns);
        }
    }

    fn tell_missed(&mut self, records: u64) {
        if records > 0 {
            self.attempt(Call::Write, |sink| {
                sink.missed(records);
                Ok(())
            });
        }
    }

    fn flush(&mut self) {
        if self.books.entries().dirty && self.attempt(Call::Flush, |sink| sink.flush()) {
            self.books.entries().flushed();
            if let Some(arrived) = &self.arrived {
                let _unheard = arrived.send(Arrival::UpTo(self.last));
            }
        }
    }

    fn ask(&mut self) {
        if self.sink.is_some() && !self.books.entries().dirty {
            match self.call(|sink| sink.health()) {
                Ok(()) => self.good(Call::Health),
                // It is asked, not served: the next batch tries again.
                Err(error @ (SinkError::Retry(_) | SinkError::Lossy(_))) => self.trouble(Call::Health, error),
                Err(error) => self.end_with(Call::Health, error),
            }
        }
    }

    /// One try: what a sink could not write before it will not end well.
    fn finish(&mut self, ending: &Ending) {
        match self.call(|sink| sink.finish(&ending.ledger, ending.incomplete.as_deref())) {
            Ok(()) | Err(SinkError::Closed) => {}
            Err(error) => self.trouble(Call::Finish, error),
        }
    }

    /// Calls the sink until it succeeds; `false` if it is over.
    fn attempt(&mut self, what: Call, mut call: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>) -> bool {
        let mut delays = self.retry.delays();
        while self.sink.is_some() {
            match self.call(&mut call) {
                Ok(()) => {
                    self.good(what);
                    return true;
                }
                Err(error @ SinkError::Lossy(_)) => {
                    self.trouble(what, error);
                    // A sink that does not say how much it lost has lost all that was not flushed.
                    self.books.entries().lose_uncounted(reason::FAILED);
                    return true;
                }
                Err(error @ SinkError::Retry(_)) => {
                    self.trouble(what, error);
                    if !self.pause(delays.next().unwrap_or_default()) {
                        self.end(reason::SHUTDOWN, "it was time to end");
                    }
                }
                Err(error) => self.end_with(what, error),
            }
        }
        false
    }

    /// Waits before the next try; `false` if there shall be none.
    fn pause(&self, delay: Duration) -> bool {
        let Calls { hurry, abandoned } = &self.calls;
        let is_hurried = || hurry.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected);
        if is_hurried() {
            return matches!(
                abandoned.recv_timeout(delay.min(LAST_TRIES)),
                Err(crossbeam_channel::RecvTimeoutError::Timeout)
            );
        }
        select! {
            recv(abandoned) -> _ => false,
            // At once: it is one of the last.
            recv(hurry) -> _ => true,
            default(delay) => true,
        }
    }

    /// Calls the sink once. One that panics has failed for good, and is not called again.
    fn call(&mut self, call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>) -> Result<(), SinkError> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        // No lock is held meanwhile.
        let called = catch_unwind(AssertUnwindSafe(|| (call(&mut **sink), sink.tally())));
        let (result, tally) = match called {
            Ok((result, tally)) => (result, tally),
            Err(panic) => (Err(SinkError::fatal(format!("it panicked: {}", said(&*panic)))), None),
        };
        if tally.is_some() {
            self.books.entries().note(tally);
        }
        result
    }

    fn end_with(&mut self, what: Call, error: SinkError) {
        if matches!(error, SinkError::Closed) {
            return self.end(reason::CLOSED, "the reader has gone");
        }
        let message = error.to_string();
        self.trouble(what, error);
        self.end(reason::FAILED, &message);
    }

    fn end(&mut self, reason: &'static str, message: &str) {
        {
            let mut entries = self.books.entries();
            entries.give_up(reason);
            entries.over = Some(reason);
            entries.health = Health::Ended(message.to_owned());
        }
        self.drop_sink();
    }

    fn drop_sink(&mut self) {
        let sink = self.sink.take();
        // A panic in there is of no consequence to anybody.
        let _panic = catch_unwind(AssertUnwindSafe(|| drop(sink)));
    }

    /// What went wrong is over when the same goes well, or when everything has arrived.
    fn good(&mut self, what: Call) {
        if self.told.as_ref().is_some_and(|(told, _)| *told == what || what == Call::Flush) {
            self.told = None;
            self.books.entries().health = Health::Good;
        }
    }

    /// Each is told once, until it is over.
    fn trouble(&mut self, what: Call, error: SinkError) {
        let message = error.to_string();
        if self.told.as_ref().is_some_and(|(_, told)| *told == message) {
            return;
        }
        self.books.entries().health = Health::Failing(message.clone());
        self.told = Some((what, message));
        let _unheard = self.ears.troubles.try_send(Trouble { sink: self.name.clone(), error });
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
