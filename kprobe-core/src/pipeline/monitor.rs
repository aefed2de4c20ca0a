use std::{fmt, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Ledger, SinkStatus};

/// Looks at a [`Pipeline`](super::Pipeline) from another thread: for metrics, for a health check. Cheap to clone.
///
/// The pipeline answers between two steps, so whoever asks waits as long as a step takes, and costs it nothing otherwise.
///
/// ```
/// # use kprobe_core::pipeline::{Health, Monitor};
/// # use std::time::Duration;
/// /// Whether records get where they should.
/// fn is_ready(monitor: &Monitor) -> bool {
///     let seen = monitor.look(Duration::from_secs(1));
///     seen.is_some_and(|seen| seen.sinks.iter().all(|sink| sink.health == Health::Good))
/// }
/// ```
#[derive(Clone)]
pub struct Monitor {
    ask: Sender<Sender<Seen>>,
}

/// A pipeline at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The books. They balance: what waits somewhere is held there.
    pub ledger: Ledger,
    /// The sinks, in the order of the ledger.
    pub sinks: Vec<SinkStatus>,
    /// Every record up to this time (`CLOCK_MONOTONIC`, nanoseconds) has come from each source that is not at its end.
    pub complete_until_ns: u64,
}

/// The pipeline's end.
#[derive(Debug)]
pub(super) struct Asked {
    ask: Sender<Sender<Seen>>,
    asked: Receiver<Sender<Seen>>,
}

/// Who may wait for an answer. Those who gave up waiting are among them until the pipeline is stepped again: where it hangs
/// they would add up with every look.
const MOST_ASKING: usize = 64;

impl Monitor {
    /// The pipeline at this moment; `None` if it is over, or did not answer `within` this time: because nobody steps it, or
    /// because a source, a stage or the kernel keeps it. When 64 have asked since its last step, the next is not waited for.
    #[must_use]
    pub fn look(&self, within: Duration) -> Option<Seen> {
        let (answer, answered) = bounded(1);
        self.ask.try_send(answer).ok()?;
        answered.recv_timeout(within).ok()
    }
}

impl Asked {
    pub(super) fn new() -> Self {
        let (ask, asked) = bounded(MOST_ASKING);
        Self { ask, asked }
    }

    pub(super) fn monitor(&self) -> Monitor {
        Monitor { ask: self.ask.clone() }
    }

    /// Answers whoever has asked.
    #[inline]
    pub(super) fn answer(&self, look: impl FnOnce() -> Seen) {
        if self.asked.is_empty() {
            return;
        }
        let seen = look();
        for answer in self.asked.try_iter() {
            // Who does not wait any more has no use for it.
            let _unheard = answer.try_send(seen.clone());
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Asked, MOST_ASKING, Seen};
    use crate::pipeline::Ledger;

    fn seen() -> Seen {
        Seen { ledger: Ledger::default(), sinks: Vec::new(), complete_until_ns: 7 }
    }

    #[test]
    fn looks_at_a_pipeline_that_hangs_do_not_add_up() {
        let asked = Asked::new();
        let monitor = asked.monitor();
        for _ in 0..2 * MOST_ASKING {
            assert_eq!(monitor.look(Duration::ZERO), None);
        }
        assert_eq!(asked.asked.len(), MOST_ASKING);
        // It goes on: those that gave up are answered for nothing, and make room.
        asked.answer(seen);
        assert_eq!(asked.asked.len(), 0);
        std::thread::scope(|scope| {
            let look = scope.spawn(|| monitor.look(Duration::from_secs(60)));
            while !look.is_finished() {
                asked.answer(seen);
                std::thread::yield_now();
            }
            assert_eq!(look.join().expect("no panic"), Some(seen()));
        });
        drop(asked);
        assert_eq!(monitor.look(Duration::from_secs(60)), None);
    }
}
