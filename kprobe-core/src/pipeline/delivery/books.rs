use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Health;
use crate::pipeline::{Drops, SinkRow, Tally};

/// The books of one sink: written by the pipeline's thread and by the sink's, a batch at a time.
///
/// Under a lock and not in atomics: a batch changes several numbers, and the books balance at every moment because nobody sees
/// half of such a change. It is held for a few additions, some times for each batch and never while a sink is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books(Arc<Mutex<Entries>>);

/// Each record is received, then waits, then is given, and then settled: delivered or dropped.
#[derive(Debug, Default)]
pub(super) struct Entries {
    received: u64,
    /// In the queue.
    waiting: u64,
    /// Handed to the sink, now or before.
    given: u64,
    /// Of those given, the ones that this side counted as delivered or dropped.
    settled: u64,
    delivered: u64,
    dropped: Drops,
    /// What the sink says of those given, if it counts for itself.
    tally: Option<Tally>,
    /// The same when it was flushed the last time.
    flushed_tally: Option<Tally>,
    /// Those that an earlier run left on disk for this one.
    recovered: u64,
    /// Of those not settled, the ones that are on disk.
    kept: u64,
    /// Bytes that these take, with what is around them.
    pub(super) kept_bytes: u64,
    /// What is not delivered waits on disk instead of being dropped.
    keeps: bool,
    /// Something was given since the last flush.
    pub(super) dirty: bool,
    /// The books were drawn up, whatever the sink still does.
    closed: bool,
    pub(super) progress: Progress,
    /// The sink gets nothing any more, for this reason.
    pub(super) over: Option<&'static str>,
    pub(super) health: Health,
}

/// How far a sink has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Batches that were flushed.
    pub(super) batches: u64,
    /// The source had given every record up to this time when the last of them was given.
    pub(super) until_ns: u64,
    /// The same of those that the sink took.
    taken: u64,
    taken_until_ns: u64,
}

impl Progress {
    pub(super) fn take(&mut self, until_ns: u64) {
        self.taken += 1;
        self.taken_until_ns = until_ns;
    }

    fn flush(&mut self) {
        (self.batches, self.until_ns) = (self.taken, self.taken_until_ns);
    }
}

/// Why records were dropped by a pipeline.
pub(crate) mod reason {
    /// The queue was full.
    pub(crate) const QUEUE_FULL: &str = "queue_full";
    /// The reader had gone.
    pub(crate) const CLOSED: &str = "closed";
    /// The sink had failed for good.
    pub(crate) const FAILED: &str = "failed";
    /// It was time to end.
    pub(crate) const SHUTDOWN: &str = "shutdown";
    /// The spill had reached its limit.
    pub(crate) const SPILL_FULL: &str = "spill_full";
    /// The spill could not be written.
    pub(crate) const SPILL_IO: &str = "spill_io";
    /// It was in the spill, and could not be read again.
    pub(crate) const SPILL_DAMAGED: &str = "spill_damaged";

    pub(crate) const ALL: [&str; 7] =
        [QUEUE_FULL, CLOSED, FAILED, SHUTDOWN, SPILL_FULL, SPILL_IO, SPILL_DAMAGED];
}

impl Books {
    pub(super) fn entries(&self) -> MutexGuard<'_, Entries> {
        // Nothing in here can panic in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row of this sink.
    pub(super) fn row(&self, name: &str) -> SinkRow {
        self.entries().row(name)
    }
}

impl Entries {
    /// Came, and waits.
    pub(super) fn receive(&mut self, records: u64) {
        self.received += records;
        self.waiting += records;
    }

    /// Came, and is neither kept nor given.
    pub(super) fn turn_away(&mut self, records: u64, reason: &str) {
        self.received += records;
        self.drop_for(reason, records);
    }

    /// Waited, and will not be given.
    pub(super) fn refuse(&mut self, records: u64, reason: &str) {
        if !self.closed {
            self.waiting -= records;
            self.drop_for(reason, records);
        }
    }

    /// An earlier run left these, and from here on nothing is dropped that can be kept.
    pub(super) fn recover(&mut self, records: u64) {
        self.recovered += records;
        self.waiting += records;
        self.keeps = true;
    }

    /// Given, but it will neither arrive nor be kept.
    pub(super) fn lose(&mut self, records: u64, reason: &str) {
        if self.closed {
            return;
        }
        // Some of it may still be on its way to the sink, which gets it no more.
        let given = records.min(self.unsettled());
        self.waiting -= records - given;
        self.drop_for(reason, records);
        if self.tally.is_none() {
            self.settled += given;
        }
    }

    /// The sink has lost some of what it was given, and does not say how much.
    pub(super) fn lose_uncounted(&mut self, reason: &str) {
        if self.tally.is_none() {
            self.lose(self.unsettled(), reason);
        }
    }

    /// So much is on disk now.
    pub(super) fn keep(&mut self, records: u64, bytes: u64) {
        if !self.closed {
            (self.kept, self.kept_bytes) = (records, bytes);
        }
    }

    /// Waited, and is given now. `false` if it must not be: the sink is over, or nobody counts it any more.
    pub(super) fn give(&mut self, records: u64) -> bool {
        if let Some(reason) = self.over {
            if !self.keeps {
                self.refuse(records, reason);
            }
            return false;
        }
        if !self.closed {
            self.waiting -= records;
            self.given += records;
            self.dirty = true;
        }
        !self.closed
    }

    /// What the sink says of what it was given.
    pub(super) fn note(&mut self, tally: Option<Tally>) {
        // What happens after the books were drawn up is nobody's.
        if !self.closed {
            self.tally = tally;
        }
    }

    /// Everything given so far was flushed.
    pub(super) fn flushed(&mut self) {
        if self.closed {
            return;
        }
        self.dirty = false;
        self.progress.flush();
        if self.tally.is_none() {
            self.delivered += self.given - self.settled;
        }
        self.settled = self.given;
        self.flushed_tally.clone_from(&self.tally);
    }

    /// What is kept on disk is what was not flushed, whatever a sink has done with it: it gets that again.
    fn take_back(&mut self) {
        if self.tally.is_some() {
            self.tally = Some(self.flushed_tally.clone().unwrap_or_default());
        }
    }

    /// Nothing given so far will be flushed any more.
    pub(super) fn give_up(&mut self, reason: &str) {
        if self.closed {
            return;
        }
        // What is kept still waits, whoever it was given to.
        if self.keeps {
            return self.take_back();
        }
        self.dirty = false;
        self.drop_for(reason, self.unsettled());
        self.settled = self.given;
    }

    /// The end: whatever waits or was given and not flushed is dropped unless it is on disk, and nothing more is counted.
    pub(super) fn close(&mut self, reason: &str) {
        if !matches!(self.health, Health::Ended(_)) {
            self.health = Health::Ended("it was time to end".to_owned());
        }
        if !self.closed {
            if self.keeps {
                self.take_back();
            }
            let open = self.waiting + self.unsettled();
            let rest = open.saturating_sub(self.kept);
            self.drop_for(reason, rest);
            (self.waiting, self.settled, self.dirty) = (open - rest, self.given, false);
            self.closed = true;
        }
    }

    /// Something waits, or was given and is not flushed.
    pub(super) fn is_behind(&self) -> bool {
        !self.closed && (self.waiting > 0 || self.dirty)
    }

    /// Given, and not known to be delivered or dropped. Those before the last flush are all in a sink's tally, or it miscounts.
    fn unsettled(&self) -> u64 {
        match &self.tally {
            Some(tally) => self.given.saturating_sub(tally.settled() + self.dropped_of_given()),
            None => self.given - self.settled,
        }
    }

    fn drop_for(&mut self, reason: &str, records: u64) {
        if records > 0 {
            match self.dropped.get_mut(reason) {
                Some(count) => *count += records,
                None => drop(self.dropped.insert(reason.to_owned(), records)),
            }
        }
    }

    /// Of those given, the ones dropped on this side.
    fn dropped_of_given(&self) -> u64 {
        self.dropped.values().sum::<u64>() - (self.received + self.recovered - self.waiting - self.given)
    }

    fn row(&self, name: &str) -> SinkRow {
        let mut row = SinkRow {
            sink: name.to_owned(),
            received: self.received,
            delivered: self.delivered,
            dropped: self.dropped.clone(),
            held: self.waiting,
            recovered: self.recovered,
        };
        let Some(tally) = &self.tally else {
            row.held += self.unsettled();
            return row;
        };
        row.delivered += tally.delivered;
        for (reason, count) in &tally.dropped {
            *row.dropped.entry(reason.clone()).or_default() += count;
        }
        if self.dirty {
            row.held += self.unsettled();
        }
        row
    }
}
