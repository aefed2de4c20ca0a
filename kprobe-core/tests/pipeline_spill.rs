//! `Policy::Spill`: what a sink does not take waits on disk, in order, over the end of the program.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use kprobe_core::pipeline::{
    Batch, BatchId, Ledger, Pipeline, Policy, Retry, Sink, SinkError, SinkOptions, StreamInfo,
};
use pipeline_support::{
    counted::{Counted, counted, number_of},
    records_of,
};
use proptest::prelude::*;

mod pipeline_support;

/// What a store does with one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Take,
    Retry,
    Fail,
    Panic,
    /// Until the gate is opened.
    Stall,
}

/// What a store holds: each batch once, as a store does that knows their ids.
#[derive(Default)]
struct Held {
    batches: Vec<(BatchId, Vec<u64>, Arc<StreamInfo>)>,
    /// Batches that came although they were there.
    again: u64,
}

impl Held {
    fn numbers(&self) -> Vec<u64> {
        self.batches.iter().flat_map(|(_, numbers, _)| numbers.clone()).collect()
    }
}

type Gate = Arc<(Mutex<bool>, Condvar)>;

fn open(gate: &Gate) {
    *gate.0.lock().expect("no panic") = true;
    gate.1.notify_all();
}

/// Outlives pipelines, as a server does.
#[derive(Clone, Default)]
struct Store {
    held: Arc<Mutex<Held>>,
    acts: Vec<Act>,
    at: usize,
    gate: Gate,
}

impl Store {
    fn to(held: &Arc<Mutex<Held>>, acts: Vec<Act>) -> Self {
        Self { held: Arc::clone(held), acts, ..Self::default() }
    }
}

impl Sink for Store {
    fn name(&self) -> &str {
        "store"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let act = self.acts.get(self.at).copied().unwrap_or(Act::Take);
        self.at += 1;
        match act {
            Act::Take => {}
            Act::Retry => return Err(SinkError::retry("not now")),
            Act::Fail => return Err(SinkError::fatal("never")),
            Act::Panic => panic!("it was told to"),
            Act::Stall => {
                let opened = self.gate.1.wait_while(self.gate.0.lock().expect("no panic"), |open| !*open);
                drop(opened.expect("no panic"));
            }
        }
        let (id, stream) = (batch.id().expect("an id"), batch.stream().expect("a stream"));
        let mut held = self.held.lock().expect("no panic");
        if held.batches.iter().any(|(known, ..)| *known == id) {
            held.again += 1;
        } else {
            let numbers = records_of(batch).iter().map(|record| number_of(record)).collect();
            held.batches.push((id, numbers, Arc::clone(stream)));
        }
        Ok(())
    }
}

fn options(dir: &Path, max_bytes: u64) -> SinkOptions {
    SinkOptions::default()
        .policy(Policy::Spill { dir: dir.to_owned(), max_bytes })
        .queue_bytes(2000)
        .retry(Retry::between(Duration::from_micros(1), Duration::from_micros(50)))
}

fn pipeline(source: Counted, sink: Store, options: SinkOptions, within: Duration) -> Pipeline<Counted> {
    Pipeline::builder(source)
        .batch(1, Duration::ZERO)
        .shutdown_within(within)
        .sink_with(sink, options)
        .build()
        .expect("the directory is free")
}

fn drop_count(ledger: &Ledger, reason: &str) -> u64 {
    ledger.sinks[0].dropped.get(reason).copied().unwrap_or(0)
}

#[test]
fn what_a_slow_sink_does_not_take_waits_and_keeps_its_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = Arc::<Mutex<Held>>::default();
    let sink = Store::to(&held, vec![Act::Take, Act::Take, Act::Stall]);
    let gate = Arc::clone(&sink.gate);
    let mut run =
        pipeline(counted(0..3000, 5, true), sink, options(dir.path(), 64 << 20), Duration::from_secs(60));
    while run.source().given < 3000 {
        // The queue is not much larger than a batch, and the disk is not in a hurry.
        while run.sinks()[0].waiting_bytes > 500 {
            thread::yield_now();
        }
        run.step().expect("the source is sound");
        assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
    }
    while run.sinks()[0].waiting_bytes > 0 {
        thread::yield_now();
    }
    assert!(run.sinks()[0].spilled_bytes > 10_000, "{:?}", run.sinks());
    open(&gate);
    let done = run.finish();
    let row = &done.ledger.sinks[0];
    assert_eq!((row.received, row.delivered, row.held, row.dropped.len()), (3000, 3000, 0, 0), "{row:?}");
    let held = held.lock().expect("no panic");
    assert_eq!((held.numbers(), held.again), ((0..3000).collect(), 0));
}

#[test]
fn a_sink_that_keeps_up_writes_nothing_to_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = Arc::<Mutex<Held>>::default();
    let sink = Store::to(&held, Vec::new());
    let large = options(dir.path(), 64 << 20).queue_bytes(1 << 20);
    let mut run = pipeline(counted(0..200, 5, true), sink, large, Duration::from_secs(60));
    let before = run.sinks()[0].spilled_bytes;
    while run.source().given < 200 {
        run.step().expect("the source is sound");
        while run.ledger().sinks[0].held > 0 {
            thread::yield_now();
        }
    }
    assert_eq!(run.sinks()[0].spilled_bytes, before);
    assert_eq!(run.finish().ledger.sinks[0].delivered, 200);
}

#[test]
fn what_is_left_at_the_end_comes_first_the_next_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = Arc::<Mutex<Held>>::default();
    let dead = Store::to(&held, vec![Act::Retry; 1_000_000]);
    let slow = Retry::between(Duration::from_secs(600), Duration::from_secs(600));
    let mut source = counted(0..50, 5, true);
    source.info.host = "before".to_owned();
    let patient = options(dir.path(), 64 << 20).retry(slow);
    let mut run = pipeline(source, dead, patient, Duration::from_millis(20));
    for _ in 0..10 {
        run.step().expect("the source is sound");
        while run.sinks()[0].waiting_bytes > 500 {
            thread::yield_now();
        }
    }
    let done = run.finish();
    let row = &done.ledger.sinks[0];
    assert_eq!((row.received, row.delivered, row.held), (50, 0, 50), "{row:?}");
    assert_eq!((row.dropped.len(), done.ledger.balance), (0, 0));

    let mut run = pipeline(
        counted(50..70, 5, true),
        Store::to(&held, Vec::new()),
        options(dir.path(), 64 << 20),
        Duration::from_secs(60),
    );
    run.drive(|_| false, |_| ()).expect("the source is sound");
    let done = run.finish();
    let row = &done.ledger.sinks[0];
    assert_eq!((row.received, row.recovered, row.delivered, row.held), (20, 50, 70, 0), "{row:?}");
    assert_eq!(done.ledger.balance, 0);
    let held = held.lock().expect("no panic");
    assert_eq!((held.numbers(), held.again), ((0..70).collect(), 0));
    let hosts: Vec<_> = held.batches.iter().map(|(_, _, stream)| stream.host.as_str()).collect();
    assert_eq!((hosts[0], hosts[9], hosts[10]), ("before", "before", "test"));
    let runs: Vec<_> = held.batches.iter().map(|(id, ..)| id.run).collect();
    assert!(runs[..10].iter().all(|run| *run == runs[0]) && runs[10] != runs[0]);
}

#[test]
fn two_sinks_cannot_spill_into_one_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::default();
    let _first = pipeline(
        counted(0..1, 1, true),
        store.clone(),
        options(dir.path(), 1 << 20),
        Duration::from_secs(60),
    );
    let second = Pipeline::builder(counted(0..1, 1, true)).sink_with(store, options(dir.path(), 1 << 20));
    let said = second.build().expect_err("it is in use").to_string();
    let expected = format!(
        "store: spill directory {}: in use by this very process; every sink of every agent needs a directory of its own",
        dir.path().display()
    );
    assert_eq!(said, expected);
}

#[test]
fn a_full_spill_drops_and_recovers() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = Arc::<Mutex<Held>>::default();
    let sink = Store::to(&held, vec![Act::Stall]);
    let gate = Arc::clone(&sink.gate);
    let mut run =
        pipeline(counted(0..100_000, 5, true), sink, options(dir.path(), 20_000), Duration::from_secs(60));
    let mut told = Vec::new();
    while drop_count(&run.ledger(), "spill_full") < 100 {
        let step = run.step().expect("the source is sound");
        told.extend(step.troubles.iter().map(ToString::to_string));
        assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
    }
    assert!(run.sinks()[0].spilled_bytes <= 20_000);
    // It is said once, and again when a batch that is a little shorter had room in between.
    assert!((1..10).contains(&told.len()) && told.iter().all(|told| told.contains("is full: ")), "{told:?}");
    open(&gate);
    let idle = |run: &Pipeline<Counted>| {
        while run.ledger().sinks[0].held > 0 || run.sinks()[0].waiting_bytes > 0 {
            thread::yield_now();
        }
    };
    idle(&run);
    let before = held.lock().expect("no panic").numbers().len() as u64;
    let asked = run.source().given;
    for _ in 0..5 {
        run.step().expect("the source is sound");
        idle(&run);
    }
    let done = run.finish();
    let row = &done.ledger.sinks[0];
    assert_eq!(row.received, asked + 25);
    assert_eq!(row.delivered, before + 25, "{row:?}");
    assert_eq!(done.ledger.balance, 0);
    let numbers = held.lock().expect("no panic").numbers();
    assert!(numbers.is_sorted_by(|one, next| one < next));
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => Just(Act::Take),
        6 => Just(Act::Retry),
        1 => Just(Act::Fail),
        1 => Just(Act::Panic),
        1 => Just(Act::Stall),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Several programs one after the other, on one directory and one store.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        runs in prop::collection::vec((prop::collection::vec(act(), 0..30), 0_usize..40, 1_u64..6), 1..4),
        max_bytes in prop_oneof![Just(64_u64 << 20), Just(4000)],
        queue_bytes in prop_oneof![Just(1_usize), Just(2000), Just(1 << 20)],
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Arc::<Mutex<Held>>::default();
        let (mut next, mut left, mut dropped, mut in_hand) = (0, 0, 0, 0);
        for (acts, steps, each) in runs.into_iter().chain([(Vec::new(), 0, 1)]) {
            let stalls = acts.contains(&Act::Stall);
            let ends = stalls || acts.contains(&Act::Fail) || acts.contains(&Act::Panic);
            let within = if stalls { Duration::from_millis(5) } else { Duration::from_secs(60) };
            let sink = Store::to(&held, acts);
            let gate = Arc::clone(&sink.gate);
            let options = options(dir.path(), max_bytes).queue_bytes(queue_bytes);
            let mut run = pipeline(counted(next..u64::MAX, each, true), sink, options, within);
            for _ in 0..steps {
                run.step().expect("the source is sound");
                prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
            }
            let received = run.source().given - next;
            next = run.source().given;
            let done = run.finish();
            let row = &done.ledger.sinks[0];
            prop_assert_eq!(done.ledger.balance, 0, "{}", done.ledger);
            prop_assert_eq!((row.received, row.recovered), (received, left));
            let spilled = ["queue_full", "spill_full"].iter().map(|reason| drop_count(&done.ledger, reason)).sum::<u64>();
            prop_assert_eq!(row.dropped.values().sum::<u64>(), spilled, "{:?}", row);
            prop_assert!(max_bytes < 1 << 20 || drop_count(&done.ledger, "spill_full") == 0);
            prop_assert_eq!(left + received, row.delivered + spilled + row.held);
            (left, dropped) = (row.held, dropped + spilled);
            // What a sink that ended had taken and not flushed, or had in its hands, and the full disk did not take, may be
            // there although nobody can know: a few batches.
            in_hand += if ends && spilled > 0 { 6 * each } else { 0 };
            open(&gate);
            // What hung is done before the next program begins: it would otherwise arrive in the midst of it.
            while Arc::strong_count(&gate) > 1 {
                thread::yield_now();
            }
        }
        prop_assert_eq!(left, 0, "the last one took everything");
        let held = held.lock().expect("no panic");
        let numbers = held.numbers();
        let arrived = numbers.len() as u64;
        prop_assert!((next - dropped..=next - dropped + in_hand).contains(&arrived), "{arrived}, {dropped} of {next} dropped");
        prop_assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
}
