//! Our side: a source that copies a block of frames at once, as one that reads rings does, and sinks that look at every
//! record, or at none for as long as they are told.

use std::{
    convert::Infallible,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kprobe_core::{
    abi::Kind,
    event::{Arch, BootId},
    pipeline::{
        Batch, BatchBuf, Clocks, Finished, Ledger, Pipeline, Policy, Polled, ProbeRow, Sink, SinkError,
        SinkOptions, SinkRow, Source, SourceError, StreamInfo,
    },
};
use zerocopy::IntoBytes as _;

use super::{
    Beside, Hops, PAUSE, Use, Waits,
    events::{Block, Seen},
    on_core,
};
use crate::{
    heap::Heap,
    machine::{CONSUMER_CORE, now_ns, process_cpu_ns},
};

/// Gives so many events.
struct Events {
    info: StreamInfo,
    block: Block,
    all: u64,
    given: u64,
    /// When all were given, the stream is over; otherwise nothing more comes for now.
    ends: bool,
    /// What was allocated when half of them had been given.
    at_half: Option<Heap>,
}

impl Events {
    fn new(all: u64, ends: bool) -> Self {
        let info = StreamInfo {
            host: "bench".to_owned(),
            boot: BootId(1),
            kernel: String::new(),
            arch: Arch::X86_64,
            clocks: Clocks::default(),
            cpus: 1,
            report: serde_json::Value::Null,
            sources: 1,
        };
        Self { info, block: Block::new(), all, given: 0, ends, at_half: None }
    }
}

impl Source for Events {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> Result<Polled, SourceError> {
        let left = self.all - self.given;
        if left == 0 && !self.ends {
            thread::sleep(longest.unwrap_or(PAUSE));
        }
        let frames = self.block.next(left);
        out.frames_mut().extend_from_slice(frames.as_bytes());
        self.given += frames.len() as u64;
        if 2 * self.given >= self.all {
            self.at_half.get_or_insert_with(Heap::now);
        }
        Ok(Polled::until(now_ns()).ended(self.ends && self.given == self.all))
    }

    fn probes(&self) -> Vec<ProbeRow> {
        let probe = Kind::SYSCALL.to_string();
        vec![ProbeRow { probe, cpu: Some(0), submitted: self.given, lost: 0, sampled_out: 0 }]
    }

    fn next_seq(&self, cpu: u16) -> Option<u64> {
        (cpu == 0).then_some(self.given)
    }
}

/// Looks at every record, and says when it has seen all.
struct Checker {
    all: u64,
    seen: Seen,
    done: Sender<(Seen, u64)>,
}

impl Checker {
    fn new(all: u64) -> (Self, Receiver<(Seen, u64)>) {
        let (done, when) = channel();
        (Self { all, seen: Seen::default(), done }, when)
    }
}

fn see(seen: &mut Seen, batch: &Batch) {
    for record in batch.records() {
        match record {
            Ok(record) => seen.on_event(record.bytes()),
            Err(_) => seen.errors += 1,
        }
    }
}

impl Sink for Checker {
    fn name(&self) -> &'static str {
        "checker"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        see(&mut self.seen, batch);
        if self.seen.events >= self.all {
            self.done.send((self.seen, now_ns())).map_err(SinkError::fatal)?;
        }
        Ok(())
    }
}

/// Hangs in its first batch until the gate is gone, and then takes everything. In the end says what it saw, and how many
/// records the pipeline told it that it missed.
struct Stalled {
    gate: Receiver<Infallible>,
    seen: Seen,
    missed: u64,
    done: Sender<(Seen, u64)>,
}

impl Stalled {
    /// With its gate, and what it will say.
    fn new() -> (Self, Sender<Infallible>, Receiver<(Seen, u64)>) {
        let ((shut, gate), (done, end)) = (channel(), channel());
        (Self { gate, seen: Seen::default(), missed: 0, done }, shut, end)
    }
}

impl Sink for Stalled {
    fn name(&self) -> &'static str {
        "stalled"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        // Nothing ever comes; it ends when the other end is dropped.
        let _gone = self.gate.recv();
        see(&mut self.seen, batch);
        Ok(())
    }

    fn missed(&mut self, records: u64) {
        self.missed += records;
    }

    fn finish(&mut self, _: &Ledger, _: Option<&str>) -> Result<(), SinkError> {
        self.done.send((self.seen, self.missed)).map_err(SinkError::fatal)
    }
}

fn block() -> SinkOptions {
    SinkOptions::default().policy(Policy::Block)
}

/// All events through a pipeline with one sink, until its books are closed.
pub(super) fn hop(events: u64) -> Result<Hops> {
    let (checker, done) = Checker::new(events);
    let builder = Pipeline::builder(Events::new(events, true)).sink_with(checker, block());
    let mut pipeline = on_core(CONSUMER_CORE, || Ok(builder.build()?))?;
    let used = Use::now();
    let mut troubles = 0;
    pipeline.drive(|_| false, |_| troubles += 1)?;
    let late = Heap::now().since(pipeline.source().at_half.unwrap_or_default());
    let finished = pipeline.finish();
    let used = used.until_now();
    let (seen, _) = done.try_recv().context("the sink has not seen all events")?;
    ensure!(troubles == 0 && finished.troubles.is_empty(), "the sink had trouble");
    check(&finished, events)?;
    ensure!(finished.ledger.sinks == [row("checker", events, 0)], "{}", finished.ledger);
    Ok(used.hops(events, seen, late))
}

fn row(sink: &str, delivered: u64, dropped: u64) -> SinkRow {
    let all = [("queue_full".to_owned(), dropped)];
    SinkRow {
        sink: sink.to_owned(),
        received: delivered + dropped,
        delivered,
        dropped: all.into_iter().filter(|(_, records)| *records > 0).collect(),
        ..SinkRow::default()
    }
}

/// The books balance, and no number is missing.
fn check(finished: &Finished, events: u64) -> Result<()> {
    let whole =
        finished.gaps.iter().all(|gap| (gap.received, gap.missing, gap.to_the_end) == (events, 0, true));
    ensure!(
        finished.ledger.balance == 0 && finished.gaps.len() == 1 && whole,
        "of {events} events: {}\n{:?}",
        finished.ledger,
        finished.gaps
    );
    Ok(())
}

/// All events to a sink that the source waits for, beside another that hangs meanwhile if `stalled`.
pub(super) fn beside(events: u64, stalled: bool) -> Result<Beside> {
    let (checker, done) = Checker::new(events);
    let (sink, gate, end) = Stalled::new();
    let mut builder = Pipeline::builder(Events::new(events, true)).sink_with(checker, block());
    if stalled {
        builder = builder.sink_with(sink, SinkOptions::default().policy(Policy::DropNewest));
    }
    let mut pipeline = on_core(CONSUMER_CORE, || Ok(builder.build()?))?;
    let used = Use::now();
    let began = now_ns();
    let (seen, ended) = loop {
        let step = pipeline.step()?;
        match done.try_recv() {
            Ok(done) => break done,
            Err(_) => ensure!(step.end.is_none(), "the sink has not seen all events"),
        }
    };
    let used = used.until_now();
    let hanging = pipeline.ledger();
    ensure!(hanging.balance == 0, "while the sink hangs: {hanging}");
    drop(gate);
    let finished = pipeline.finish();
    check(&finished, events)?;
    let Hops { events, errors, source_cpu_ns, sink_cpu_ns, .. } = used.hops(events, seen, Heap::default());
    let mut beside = Beside {
        events,
        errors,
        ns: ended - began,
        cpu_ns: source_cpu_ns + sink_cpu_ns,
        taken: 0,
        dropped: 0,
    };
    let mut expected = vec![row("checker", events, 0)];
    if stalled {
        let (seen, missed) = end.try_recv().context("the stalled sink has not come to its end")?;
        let Seen { events: taken, errors, skipped, next } = seen;
        let at_the_end = events - u64::from(next);
        ensure!(
            errors == 0 && skipped + at_the_end == missed && taken + missed == events,
            "of {events} events the stalled sink saw {seen:?} and was told that it missed {missed}"
        );
        let held = hanging.sinks.last().map_or(0, |row| row.held);
        ensure!(held == taken, "{held} events waited for the stalled sink, which took {taken}");
        (beside.taken, beside.dropped) = (taken, events - taken);
        expected.push(row("stalled", taken, events - taken));
    }
    ensure!(finished.ledger.sinks == expected, "{}", finished.ledger);
    Ok(beside)
}

/// What waiting costs both threads: nothing comes, and nothing is taken.
pub(super) fn waits() -> Result<Waits> {
    /// More than a queue has room for.
    const MANY: u64 = 1_000_000;
    let (checker, _done) = Checker::new(u64::MAX);
    let builder = Pipeline::builder(Events::new(MANY, false)).sink_with(checker, block());
    let mut pipeline = on_core(CONSUMER_CORE, || Ok(builder.build()?))?;
    while pipeline.source().given < MANY || pipeline.ledger().sinks[0].held > 0 {
        pipeline.step()?;
    }
    let empty_ns = cpu_of_steps(&mut pipeline)?;
    check(&pipeline.finish(), MANY)?;

    let (sink, gate, _end) = Stalled::new();
    let builder = Pipeline::builder(Events::new(MANY, true)).sink_with(sink, block());
    let mut pipeline = on_core(CONSUMER_CORE, || Ok(builder.build()?))?;
    while !pipeline.step()?.blocked {}
    let full_ns = cpu_of_steps(&mut pipeline)?;
    ensure!(pipeline.step()?.blocked, "there was no room, and now there is");
    drop(gate);
    pipeline.drive(|_| false, |_| {})?;
    check(&pipeline.finish(), MANY)?;
    Ok(Waits { empty_ns, full_ns })
}

fn cpu_of_steps(pipeline: &mut Pipeline<Events>) -> Result<u64> {
    let (began, cpu) = (Instant::now(), process_cpu_ns());
    while began.elapsed() < PAUSE {
        pipeline.step()?;
    }
    Ok(process_cpu_ns() - cpu)
}
