use std::{
    any::Any,
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, after, never, select};

use super::{
    Ending, Health, Message, Parcel, Retry, Said, Trouble,
    books::{Books, reason},
    outlet::Ears,
};
use crate::pipeline::{Sink, SinkError};

/// A sink that is flushed when nothing waits is flushed so often at least while there always is something.
const BUSY_FLUSH: Duration = Duration::from_millis(100);
/// After so long without anything to write the sink is asked how it is.
const IDLE: Duration = Duration::from_secs(5);

/// The sink's end of a queue: runs on a thread of its own.
pub(super) struct Worker {
    at: usize,
    name: String,
    sink: Box<dyn Sink + Send>,
    input: Receiver<Message>,
    /// Closed when nobody waits for the sink any more.
    abandoned: Receiver<Infallible>,
    books: Books,
    retry: Retry,
    ears: Ears,
    over: bool,
    /// The last trouble that was told and not followed by a success.
    told: Option<String>,
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "they are its fields")]
    pub(super) fn new(
        at: usize,
        name: String,
        sink: Box<dyn Sink + Send>,
        input: Receiver<Message>,
        abandoned: Receiver<Infallible>,
        books: Books,
        retry: Retry,
        ears: Ears,
    ) -> Self {
        Self { at, name, sink, input, abandoned, books, retry, ears, over: false, told: None }
    }

    pub(super) fn run(mut self) {
        let every = self.sink.flush_every();
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
                Ok(Message::Flush) => {
                    self.flush();
                    self.report(Said::Flushed);
                }
                Ok(Message::Finish(ending)) => {
                    self.finish(&ending);
                    return self.report(Said::Finished);
                }
                // A pipeline that is dropped without being finished.
                Err(_) => return self.flush(),
            }
        }
    }

    fn write(&mut self, parcel: &Parcel) {
        if !self.books.entries().give(parcel.records) {
            return;
        }
        if parcel.missed > 0 {
            self.attempt(|sink| {
                sink.missed(parcel.missed);
                Ok(())
            });
        }
        self.attempt(|sink| sink.write(&parcel.batch));
    }

    fn flush(&mut self) {
        if self.books.entries().dirty && self.attempt(|sink| sink.flush()) {
            self.books.entries().flushed();
        }
    }

    fn ask(&mut self) {
        if !self.over && !self.books.entries().dirty {
            match caught(&mut *self.sink, |sink| sink.health()) {
                Ok(()) => self.good(),
                // It is asked, not served: whatever it says, the next batch tries again.
                Err(error) => self.trouble(error),
            }
        }
    }

    /// One try: what a sink could not write before it will not end well.
    fn finish(&mut self, ending: &Ending) {
        if self.over {
            return;
        }
        let result =
            caught(&mut *self.sink, |sink| sink.finish(&ending.ledger, ending.incomplete.as_deref()));
        self.books.entries().note(self.sink.tally());
        match result {
            Ok(()) | Err(SinkError::Closed) => {}
            Err(error) => self.trouble(error),
        }
    }

    /// Calls the sink until it succeeds; `false` if it is over.
    fn attempt(&mut self, mut call: impl FnMut(&mut dyn Sink) -> Result<(), SinkError>) -> bool {
        let mut delays = self.retry.delays();
        while !self.over {
            let result = caught(&mut *self.sink, &mut call);
            self.books.entries().note(self.sink.tally());
            match result {
                Ok(()) => {
                    self.good();
                    return true;
                }
                Err(error @ SinkError::Lossy(_)) => {
                    self.trouble(error);
                    return true;
                }
                Err(error @ SinkError::Retry(_)) => {
                    self.trouble(error);
                    let delay = delays.next().unwrap_or_default();
                    if self.abandoned.recv_timeout(delay) == Err(RecvTimeoutError::Disconnected) {
                        self.end(reason::SHUTDOWN, "it was time to end");
                    }
                }
                Err(SinkError::Closed) => {
                    self.end(reason::CLOSED, "the reader has gone");
                }
                Err(error @ SinkError::Fatal(_)) => {
                    let message = error.to_string();
                    self.trouble(error);
                    self.end(reason::FAILED, &message);
                }
            }
        }
        false
    }

    fn end(&mut self, reason: &'static str, message: &str) {
        self.over = true;
        let mut entries = self.books.entries();
        entries.give_up(reason);
        entries.over = Some(reason);
        entries.health = Health::Ended(message.to_owned());
    }

    fn good(&mut self) {
        if self.told.take().is_some() {
            self.books.entries().health = Health::Good;
        }
    }

    /// Each is told once, until something succeeds.
    fn trouble(&mut self, error: SinkError) {
        let message = error.to_string();
        if self.told.as_ref() == Some(&message) {
            return;
        }
        self.books.entries().health = Health::Failing(message.clone());
        self.told = Some(message);
        let _unheard = self.ears.troubles.try_send(Trouble { sink: self.name.clone(), error });
    }

    fn report(&self, said: Said) {
        let _unheard = self.ears.reports.send((self.at, said));
    }
}

/// A sink that panics has failed for good.
fn caught(
    sink: &mut dyn Sink,
    call: impl FnOnce(&mut dyn Sink) -> Result<(), SinkError>,
) -> Result<(), SinkError> {
    // After a panic nothing but `tally` is called.
    catch_unwind(AssertUnwindSafe(|| call(sink)))
        .unwrap_or_else(|panic| Err(SinkError::fatal(format!("it panicked: {}", said(&*panic)))))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
