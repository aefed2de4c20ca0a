use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use kprobe_core::pipeline::{Batch, BatchBuf};

use super::Recorder;
use crate::ring::{Waker, precise_naps};

/// A recorder that is drained by a thread of its own.
#[derive(Debug)]
pub struct DrainThread<Probes = ()> {
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Recorder<Probes>>>,
}

impl<Probes: Send + 'static> Recorder<Probes> {
    /// Drains on a thread of its own and gives each batch that is not empty to `take`, on that thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn_thread(
        mut self,
        mut take: impl FnMut(Batch) + Send + 'static,
    ) -> io::Result<DrainThread<Probes>> {
        let waker = self.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Builder::new().name("kprobe-drain".to_owned()).spawn(move || {
            precise_naps()?;
            let mut buf = BatchBuf::with_capacity(self.batch_bytes);
            // Acquire pairs with the Release in `stop`: what was done before it is seen after it.
            while !stopped.load(Ordering::Acquire) {
                self.wait(None)?;
                self.drain(&mut buf)?;
                if !buf.is_empty() {
                    take(buf.take());
                }
            }
            Ok(self)
        })?;
        Ok(DrainThread { waker, stop, thread })
    }
}

impl<Probes> DrainThread<Probes> {
    /// Ends the thread and gives the recorder back, its probes still attached.
    ///
    /// # Errors
    /// What ended the thread early: a drain that failed, or a panic of the function that takes the batches.
    pub fn stop(self) -> io::Result<Recorder<Probes>> {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the drain thread panicked")))
    }
}
