use std::{path::PathBuf, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};

/// How a sink is served. The defaults suit most sinks:
///
/// ```
/// use std::{path::PathBuf, time::Duration};
/// use kprobe_core::pipeline::{Policy, Retry, SinkOptions};
///
/// let patient = SinkOptions::default()
///     .policy(Policy::DropNewest)
///     .queue_bytes(64 << 20)
///     .retry(Retry::between(Duration::from_millis(50), Duration::from_secs(30)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    pub(super) policy: Option<Policy>,
    pub(super) queue_bytes: usize,
    pub(super) retry: Retry,
    pub(super) ends_pipeline: bool,
}

/// What happens to a batch for which a sink's queue has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The pipeline waits. Its source is not asked meanwhile and other sinks get nothing new: of a live source records are
    /// then lost in the kernel, for all sinks.
    Block,
    /// It is dropped for this sink (`queue_full`), and nobody else notices.
    DropNewest,
    /// It waits on disk, and all that come after it, until the sink takes them, in their order. What waits survives the end of
    /// the program, a `kill -9` included, and goes first the next time; see [`Spill`](crate::spill::Spill). Dropped is
    /// what has no room there either (`spill_full`), what the disk does not take (`spill_io`), and of a live source what comes
    /// faster than the disk takes it (`queue_full`); any other source waits for the disk. What a sink was doing when the pipeline
    /// ended it gets again.
    Spill {
        /// A directory of this sink alone; made if it is not there.
        dir: PathBuf,
        /// Bytes that all files in it may take.
        max_bytes: u64,
    },
}

/// How long to wait before something that failed is tried again: twice as long each time, and a random part of that more, so
/// that not all agents come back at once. It is tried until it succeeds or the pipeline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    longest: Duration,
}

impl Default for SinkOptions {
    /// What the source says decides the policy: [`Block`](Policy::Block) for one that waits, such as a capture,
    /// [`DropNewest`](Policy::DropNewest) for a live one. A queue of 16 MiB.
    fn default() -> Self {
        Self { policy: None, queue_bytes: 16 << 20, retry: Retry::default(), ends_pipeline: false }
    }
}

impl SinkOptions {
    /// What to do when the queue is full.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Bytes of records and their contexts that may wait. Sinks that are equally far behind wait for the same bytes, which are
    /// in memory once.
    #[must_use]
    pub fn queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// When to try again what failed.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The pipeline ends when this sink's reader goes away, as programs whose output is a pipe do. Otherwise it ends when the
    /// last sink has gone.
    #[must_use]
    pub fn ends_pipeline(self) -> Self {
        Self { ends_pipeline: true, ..self }
    }
}

impl Default for Retry {
    /// From 100 ms to 10 s.
    fn default() -> Self {
        Self::between(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Retry {
    /// Waits `first`, then longer, up to `longest`; the random part comes on top.
    #[must_use]
    pub fn between(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first) }
    }

    pub(super) fn delays(self) -> impl Iterator<Item = Duration> {
        let delays = ExponentialBuilder::new().with_min_delay(self.first).with_max_delay(self.longest);
        delays.with_jitter().without_max_times().build()
    }
}
