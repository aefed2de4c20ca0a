//! A source that gives what it was told to, and a sink that keeps what it takes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kprobe_core::{
    decode::Record,
    pipeline::{Batch, BatchBuf, Polled, ProbeRow, Sink, SinkError, Source, SourceError, StreamInfo},
};

use super::{info, records_of};

/// What one poll gives: records, the time it is complete to, and whether it fails.
#[derive(Clone, Debug, Default)]
pub(crate) struct Poll {
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) complete_until_ns: u64,
    pub(crate) fails: bool,
}

/// A recorder whose kernel counts what it submitted and lost when it happens, not when it is drained.
pub(crate) struct Script {
    pub(crate) info: StreamInfo,
    pub(crate) polled: Arc<AtomicUsize>,
    pub(crate) polls: std::vec::IntoIter<Poll>,
    pub(crate) probes: Vec<ProbeRow>,
    pub(crate) leaves_some: bool,
    pub(crate) stopped: Arc<AtomicBool>,
    pub(crate) next_seq: Option<u64>,
    pub(crate) live: bool,
    /// How long it was told to wait, at most.
    pub(crate) waits: Arc<Mutex<Vec<Option<Duration>>>>,
}

impl Script {
    pub(crate) fn new(polls: Vec<Poll>, lost: u64) -> Self {
        let mut rows = BTreeMap::new();
        for bytes in polls.iter().flat_map(|poll| &poll.records) {
            let header = Record::new(bytes).expect("a record").header();
            *rows.entry((header.kind, header.cpu)).or_default() += 1;
        }
        let row = |((kind, cpu), submitted): ((u16, u16), u64)| ProbeRow {
            probe: format!("{kind:#x}"),
            cpu: Some(cpu),
            submitted: submitted + lost,
            lost,
            sampled_out: 3,
        };
        let probes = rows.into_iter().map(row).collect();
        Self {
            info: info(),
            polled: Arc::default(),
            polls: polls.into_iter(),
            probes,
            leaves_some: false,
            stopped: Arc::default(),
            next_seq: None,
            live: false,
            waits: Arc::default(),
        }
    }
}

impl Source for Script {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> Result<Polled, SourceError> {
        self.waits.lock().expect("no panic").push(longest);
        self.polled.fetch_add(1, Ordering::Relaxed);
        let poll = self.polls.next().expect("nobody asks after the end");
        for bytes in &poll.records {
            out.push(Record::new(bytes).expect("a record"));
        }
        if poll.fails {
            return Err(SourceError {
                source_name: "script".into(),
                message: "it broke".into(),
                cause: None,
            });
        }
        Ok(Polled::until(poll.complete_until_ns).ended(self.polls.len() == 0))
    }

    fn probes(&self) -> Vec<ProbeRow> {
        self.probes.clone()
    }

    fn is_live(&self) -> bool {
        self.live
    }

    fn next_seq(&self, _: u16) -> Option<u64> {
        self.next_seq
    }

    fn stop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.leaves_some |= self.polls.len() > 0;
        self.polls = vec![Poll::default()].into_iter();
    }

    fn leaves_some(&self) -> bool {
        self.leaves_some
    }
}

/// Keeps what it takes where the test can see it.
pub(crate) struct Store {
    pub(crate) name: &'static str,
    pub(crate) taken: Taken,
    pub(crate) flushed: Arc<AtomicUsize>,
    pub(crate) batches: Arc<AtomicUsize>,
    /// Its reader goes away with this batch.
    pub(crate) closes_at: Option<usize>,
}

pub(crate) type Taken = Arc<Mutex<Vec<Vec<u8>>>>;

pub(crate) fn store(name: &'static str) -> (Store, Taken) {
    let taken = Taken::default();
    (
        Store {
            name,
            taken: Arc::clone(&taken),
            flushed: Arc::default(),
            batches: Arc::default(),
            closes_at: None,
        },
        taken,
    )
}

impl Sink for Store {
    fn name(&self) -> &str {
        self.name
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        if self.closes_at == Some(0) {
            return Err(SinkError::Closed);
        }
        self.closes_at = self.closes_at.map(|left| left - 1);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.taken.lock().expect("no panic").extend(records_of(batch));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.flushed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
