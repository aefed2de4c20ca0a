use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Builder, JoinHandle},
};

use kprobe_core::pipeline::{Batch, BatchBuf};

use super::Recorder;
use crate::ring::{Waker, precise_naps};

/// A recorder that is drained by a thread of its own. Dropping it ends the thread and detaches everything.
#[derive(Debug)]
#[must_use = "dropping it ends the recording"]
pub struct DrainThread<Probes = ()> {
    waker: Waker,
    stop: Arc<AtomicBool>,
    /// `None` once it was joined.
    thread: Option<JoinHandle<Ended<Probes>>>,
}

/// The recorder always comes back from its thread, and with it the books.
type Ended<Probes> = (Recorder<Probes>, io::Result<()>);

/// A drain thread ended before it was stopped.
#[derive(thiserror::Error)]
#[error("the drain thread ended early: {error}")]
pub struct DrainFailed<Probes = ()> {
    /// The recorder, its probes still attached: its books can be read, and it can be stopped.
    pub recorder: Box<Recorder<Probes>>,
    /// A drain that failed, or a panic of the function that takes the batches.
    #[source]
    pub error: io::Error,
}

impl<Probes> fmt::Debug for DrainFailed<Probes> {
    /// Without the recorder, which is pages long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainFailed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<Probes> From<DrainFailed<Probes>> for io::Error {
    /// For callers that have no use for the recorder: it is dropped, which detaches everything.
    fn from(failed: DrainFailed<Probes>) -> Self {
        Self::new(failed.error.kind(), failed.to_string())
    }
}

impl<Probes: Send + 'static> Recorder<Probes> {
    /// Drains on a thread of its own and gives each batch that is not empty to `take`, on that thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn_thread(
        mut self,
        take: impl FnMut(Batch) + Send + 'static,
    ) -> io::Result<DrainThread<Probes>> {
        let waker = self.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Builder::new().name("kprobe-drain".to_owned()).spawn(move || {
            // A panic of `take` leaves the recorder as it is between two drains, so it may be used on. What `take`
            // captured is dropped inside as well.
            let drain = || self.drain_until(&stopped, take);
            let drained = catch_unwind(AssertUnwindSafe(drain));
            (self, drained.unwrap_or_else(|panic| Err(panicked(&*panic))))
        })?;
        Ok(DrainThread { waker, stop, thread: Some(thread) })
    }
}

impl<Probes> Recorder<Probes> {
    fn drain_until(&mut self, stopped: &AtomicBool, mut take: impl FnMut(Batch)) -> io::Result<()> {
        precise_naps()?;
        let mut buf = BatchBuf::with_capacity(self.batch_bytes);
        // Acquire pairs with the Release of whoever ends it: what was done before is seen after.
        while !stopped.load(Ordering::Acquire) {
            self.wait(None)?;
            let drained = self.drain(&mut buf);
            // Also what a drain gave before it failed.
            if !buf.is_empty() {
                take(buf.take());
            }
            drained?;
        }
        Ok(())
    }
}

impl<Probes> DrainThread<Probes> {
    /// The thread is over although nobody stopped it: [`stop`](Self::stop) tells why.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread and gives the recorder back, its probes still attached.
    ///
    /// # Errors
    /// The thread had ended early: the error holds the reason and the recorder.
    ///
    /// # Panics
    /// When it is called on the drain thread itself.
    pub fn stop(mut self) -> Result<Recorder<Probes>, DrainFailed<Probes>> {
        match self.join() {
            Some((recorder, Ok(()))) => Ok(recorder),
            Some((recorder, Err(error))) => Err(DrainFailed { recorder: Box::new(recorder), error }),
            None => unreachable!("the thread catches its panics, and only this joins it before a drop"),
        }
    }

    fn join(&mut self) -> Option<Ended<Probes>> {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        self.thread.take()?.join().ok()
    }
}

impl<Probes> Drop for DrainThread<Probes> {
    fn drop(&mut self) {
        let own = thread::current().id();
        if self.thread.as_ref().is_some_and(|thread| thread.thread().id() == own) {
            // Dropped by the function that takes the batches: the thread cannot wait for itself, but it ends next.
            self.stop.store(true, Ordering::Release);
        } else {
            drop(self.join());
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> io::Error {
    let said =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    io::Error::other(match said {
        Some(said) => format!("the function that takes the batches panicked: {said}"),
        None => "the function that takes the batches panicked".to_owned(),
    })
}
