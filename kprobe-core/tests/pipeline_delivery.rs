//! Whatever sinks do, each record is accounted for, and no sink is hurt by another.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use kprobe_core::pipeline::{
    Batch, BatchId, Drops, End, Health, Ledger, Merge, Pipeline, PipelineBuilder, Policy, Retry, Sink,
    SinkError, SinkOptions, Stage, StageRow, Tally,
};
use pipeline_support::{
    counted::{Counted, counted, numbered},
    records_of,
};
use proptest::prelude::*;

mod pipeline_support;

/// One batch for each poll, and no waiting for anything.
fn pipeline(source: Counted) -> PipelineBuilder<Counted> {
    Pipeline::builder(source).batch(1, Duration::ZERO).shutdown_within(Duration::from_secs(60))
}

fn quick() -> SinkOptions {
    SinkOptions::default().retry(Retry::between(Duration::from_micros(1), Duration::from_micros(50)))
}

/// Shut until the test opens it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (open, opened) = &*self.0;
        drop(opened.wait_while(open.lock().expect("no panic"), |open| !*open).expect("no panic"));
    }

    fn open(&self) {
        *self.0.0.lock().expect("no panic") = true;
        self.0.1.notify_all();
    }
}

/// What a sink does when it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Take,
    /// Fails, but not for good, so many times.
    Retry(u8),
    /// Takes all but the first record, and says so.
    Lose,
    Close,
    Fail,
    Panic,
    /// Does not come back before the test is over.
    Stall,
}

/// What a sink saw, by its own account.
#[derive(Default)]
struct Seen {
    taken: Vec<(BatchId, Vec<Vec<u8>>)>,
    /// Of those, so many batches were flushed.
    flushed: usize,
    lost: u64,
    missed: u64,
    /// The last batch that it refused, to be seen again.
    refused: Option<BatchId>,
    ended: Option<Ledger>,
}

impl Seen {
    fn records(&self) -> Vec<Vec<u8>> {
        self.taken.iter().flat_map(|(_, records)| records.clone()).collect()
    }

    fn flushed_records(&self) -> u64 {
        self.taken[..self.flushed].iter().map(|(_, records)| records.len() as u64).sum()
    }
}

/// Does what it is told, first for its writes and then for its flushes; what it has not been told about it takes.
struct Scripted {
    name: String,
    acts: std::vec::IntoIter<Act>,
    flushes: std::vec::IntoIter<Act>,
    left: u8,
    counts: bool,
    gate: Gate,
    seen: Arc<Mutex<Seen>>,
    dropped: Sender<()>,
}

struct Watch {
    seen: Arc<Mutex<Seen>>,
    gate: Gate,
    gone: Receiver<()>,
}

fn scripted(name: &str, acts: Vec<Act>, flushes: Vec<Act>, counts: bool) -> (Scripted, Watch) {
    let (seen, gate, (dropped, gone)) = (Arc::<Mutex<Seen>>::default(), Gate::default(), channel());
    let watch = Watch { seen: Arc::clone(&seen), gate: gate.clone(), gone };
    let sink = Scripted {
        name: name.to_owned(),
        acts: acts.into_iter(),
        flushes: flushes.into_iter(),
        left: 0,
        counts,
        gate,
        seen,
        dropped,
    };
    (sink, watch)
}

impl Scripted {
    /// Whether the call goes well.
    fn act(&mut self, act: Option<Act>) -> Result<Act, SinkError> {
        if self.left > 0 {
            self.left -= 1;
            return if self.left == 0 { Ok(Act::Take) } else { Err(SinkError::retry("not yet")) };
        }
        match act.unwrap_or(Act::Take) {
            Act::Retry(times) => {
                self.left = times.max(1);
                Err(SinkError::retry("not now"))
            }
            Act::Close => Err(SinkError::Closed),
            Act::Fail => Err(SinkError::fatal("never")),
            Act::Panic => panic!("it was told to"),
            Act::Stall => {
                self.gate.pass();
                Ok(Act::Take)
            }
            act => Ok(act),
        }
    }
}

impl Sink for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let id = batch.id().expect("a pipeline's batch");
        let again = self.seen.lock().expect("no panic").refused.take();
        assert!(again.is_none_or(|again| again == id), "another batch instead of the one to be tried again");
        let act = match self.left {
            0 => self.acts.next(),
            _ => None,
        };
        let done = self.act(act);
        let mut seen = self.seen.lock().expect("no panic");
        match &done {
            Ok(act) => {
                let mut records = records_of(batch);
                if *act == Act::Lose && self.counts {
                    records.remove(0);
                    seen.lost += 1;
                    seen.taken.push((id, records));
                    return Err(SinkError::lossy("lost one"));
                }
                seen.taken.push((id, records));
            }
            Err(SinkError::Retry(_)) => seen.refused = Some(id),
            Err(_) => {}
        }
        done.map(drop)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let act = match self.left {
            0 => self.flushes.next(),
            _ => None,
        };
        let act = self.act(act)?;
        let mut seen = self.seen.lock().expect("no panic");
        if act == Act::Lose && !self.counts {
            let flushed = seen.flushed;
            let lost: usize = seen.taken.drain(flushed..).map(|(_, records)| records.len()).sum();
            seen.lost += lost as u64;
            return Err(SinkError::lossy("lost some"));
        }
        seen.flushed = seen.taken.len();
        Ok(())
    }

    fn missed(&mut self, records: u64) {
        self.seen.lock().expect("no panic").missed += records;
    }

    fn tally(&self) -> Option<Tally> {
        let seen = self.seen.lock().expect("no panic");
        let dropped: Drops = (seen.lost > 0).then(|| ("lost".to_owned(), seen.lost)).into_iter().collect();
        self.counts.then(|| Tally { delivered: seen.flushed_records(), dropped })
    }

    fn finish(&mut self, ledger: &Ledger, _: Option<&str>) -> Result<(), SinkError> {
        self.seen.lock().expect("no panic").ended = Some(ledger.clone());
        Ok(())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _unheard = self.dropped.send(());
    }
}

#[derive(Clone, Debug)]
struct Plan {
    acts: Vec<Act>,
    flushes: Vec<Act>,
    counts: bool,
    policy: Option<Policy>,
    queue_bytes: usize,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => Just(Act::Take),
        4 => (1_u8..4).prop_map(Act::Retry),
        3 => Just(Act::Lose),
        1 => Just(Act::Close),
        1 => Just(Act::Fail),
        1 => Just(Act::Panic),
        1 => Just(Act::Stall),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let policy = prop_oneof![Just(None), Just(Some(Policy::Block)), Just(Some(Policy::DropNewest))];
    let acts = [prop::collection::vec(act(), 0..12), prop::collection::vec(act(), 0..4)];
    let queue = prop_oneof![Just(1), Just(2000), Just(1 << 20)];
    (acts, any::<bool>(), policy, queue).prop_map(|([acts, flushes], counts, policy, queue_bytes)| Plan {
        acts,
        flushes,
        counts,
        policy,
        queue_bytes,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_record_is_accounted_for(
        plans in prop::collection::vec(plan(), 1..4),
        all in 0_u64..60,
        each in 1_u64..6,
        live in any::<bool>(),
        stop_after in 0_usize..40,
    ) {
        let mut builder = pipeline(counted(0..all, each, live)).wait(Duration::from_micros(200));
        let stalls = plans.iter().any(|plan| plan.acts.iter().chain(&plan.flushes).any(|act| *act == Act::Stall));
        if stalls {
            builder = builder.shutdown_within(Duration::from_millis(5));
        }
        let mut watches = Vec::new();
        for plan in &plans {
            let (sink, watch) = scripted("sink", plan.acts.clone(), plan.flushes.clone(), plan.counts);
            watches.push(watch);
            let mut options = quick().queue_bytes(plan.queue_bytes);
            if let Some(policy) = &plan.policy {
                options = options.policy(policy.clone());
            }
            builder = builder.sink_with(sink, options);
        }
        let mut run = builder.build().expect("threads");
        for _ in 0..stop_after {
            prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
            if run.step().expect("the source is sound").end.is_some() {
                break;
            }
        }
        let asked = run.source().given;
        let done = run.finish();
        let ledger = &done.ledger;
        prop_assert_eq!(ledger.balance, 0, "{}", ledger);
        prop_assert!(ledger.sinks.iter().all(|row| row.held == 0), "{}", ledger);

        let expected: Vec<_> = (0..asked).map(numbered).collect();
        for ((plan, watch), row) in plans.iter().zip(&watches).zip(&ledger.sinks) {
            let status = done.sinks.iter().find(|status| status.sink == row.sink).expect("all are there");
            let seen = watch.seen.lock().expect("no panic");
            prop_assert_eq!(row.received, asked);
            let dropped = |reason: &str| row.dropped.get(reason).copied().unwrap_or(0);
            // A sink that stalls may take what it was given after the books were closed, and nobody counts that.
            if dropped("shutdown") == 0 {
                let flushed = seen.flushed_records();
                prop_assert_eq!(row.delivered, flushed, "{:?} {}", plan, ledger);
                if plan.counts {
                    prop_assert_eq!(dropped("lost"), seen.lost);
                } else if !matches!(status.health, Health::Ended(_)) {
                    prop_assert_eq!(dropped("failed"), seen.lost);
                }
            } else {
                prop_assert!(stalls);
            }
            prop_assert_eq!(row.delivered + row.dropped.values().sum::<u64>(), asked);
            // In order, and none twice, but for those that were lost on the way.
            let records = seen.records();
            let mut rest = expected.iter();
            prop_assert!(records.iter().all(|record| rest.any(|other| other == record)), "{:?}", plan);
            let ids: Vec<_> = seen.taken.iter().map(|(id, _)| *id).collect();
            prop_assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
            match &status.health {
                Health::Ended(why) => prop_assert!(
                    ["the reader has gone", "never", "it panicked: it was told to", "it was time to end"].contains(&why.as_str()),
                    "{why}"
                ),
                _ => prop_assert!(dropped("closed") == 0 && (seen.lost > 0 || dropped("failed") == 0)),
            }
            let waits = plan.policy.clone().map_or(!live, |policy| policy == Policy::Block);
            if waits {
                prop_assert_eq!(dropped("queue_full"), 0);
            }
            prop_assert!(seen.missed <= dropped("queue_full"));
            if plan.acts.iter().chain(&plan.flushes).all(|act| matches!(act, Act::Take | Act::Retry(_))) {
                // Of whatever happened to the others it has seen nothing.
                prop_assert_eq!(row.delivered, asked - dropped("queue_full") - dropped("shutdown"));
                if !stalls {
                    prop_assert_eq!(&status.health, &Health::Good);
                    prop_assert_eq!(seen.ended.as_ref(), Some(ledger));
                }
            }
        }
        watches.iter().for_each(|watch| watch.gate.open());
        // Nothing stays behind: the threads end, and drop their sinks.
        for watch in &watches {
            prop_assert!(watch.gone.recv_timeout(Duration::from_secs(60)).is_ok());
        }
    }
}

/// Steps until the end.
fn drive(run: &mut Pipeline<Counted>) {
    run.drive(|_| false, |_| ()).expect("the source is sound");
}

#[test]
fn a_stalled_and_a_failing_sink_do_not_hurt_a_healthy_one() {
    let (healthy, watch) = scripted("healthy", Vec::new(), Vec::new(), false);
    let (stalled, stall) = scripted("stalled", vec![Act::Stall], Vec::new(), false);
    let acts = (0..250).map(|n| if n % 3 == 0 { Act::Retry(n % 5) } else { Act::Take }).collect();
    let (failing, fails) = scripted("failing", acts, Vec::new(), false);
    let small = quick().queue_bytes(4000).policy(Policy::DropNewest);
    let mut run = pipeline(counted(0..2000, 5, false))
        .shutdown_within(Duration::from_millis(50))
        .sink(healthy)
        .sink_with(stalled, small)
        .sink_with(failing, quick())
        .build()
        .expect("threads");
    while run.ledger().sinks[0].delivered < 2000 || run.ledger().sinks[2].delivered < 2000 {
        run.step().expect("the source is sound");
    }
    let row = &run.ledger().sinks[1];
    assert!(row.held > 0 && row.dropped["queue_full"] > 0, "{row:?}");
    let status = &run.sinks()[1];
    assert!(status.waiting_bytes > 0 && status.waiting_bytes <= 4000, "{status:?}");
    let done = run.finish();
    stall.gate.open();
    let [healthy, stalled, failing] = &done.ledger.sinks[..] else { panic!("three sinks") };
    assert_eq!((healthy.delivered, failing.delivered, done.ledger.balance), (2000, 2000, 0));
    assert_eq!((stalled.delivered, stalled.dropped["queue_full"] + stalled.dropped["shutdown"]), (0, 2000));
    assert_eq!(done.sinks[1].health, Health::Ended("it was time to end".to_owned()));
    for watch in [watch, fails] {
        let seen = watch.seen.lock().expect("no panic");
        assert_eq!((seen.records().len(), seen.missed), (2000, 0));
    }
}

#[test]
fn a_sink_that_is_waited_for_holds_the_source_back() {
    let (slow, watch) = scripted("slow", vec![Act::Stall], Vec::new(), false);
    let options = quick().policy(Policy::Block).queue_bytes(1000);
    let mut run = pipeline(counted(0..1000, 1, true))
        .wait(Duration::from_millis(1))
        .sink_with(slow, options)
        .build()
        .expect("threads");
    while !run.step().expect("the source is sound").blocked {}
    let asked = run.source().given;
    for _ in 0..20 {
        assert!(run.step().expect("the source is sound").blocked);
    }
    assert_eq!(run.source().given, asked);
    watch.gate.open();
    drive(&mut run);
    let done = run.finish();
    assert_eq!((done.end, done.ledger.sinks[0].delivered, done.ledger.balance), (Some(End::Source), 1000, 0));
}

#[test]
fn a_sink_that_panics_has_failed_and_the_others_go_on() {
    let (bad, _watch) = scripted("bad", vec![Act::Take, Act::Panic], Vec::new(), false);
    let (good, _also) = scripted("good", Vec::new(), Vec::new(), false);
    let mut run = pipeline(counted(0..100, 10, false)).sink(bad).sink(good).build().expect("threads");
    let mut told = Vec::new();
    run.drive(|_| false, |trouble| told.push(trouble.to_string())).expect("the source is sound");
    let done = run.finish();
    told.extend(done.troubles.iter().map(ToString::to_string));
    assert_eq!(told, ["bad: it panicked: it was told to"]);
    let [bad, good] = &done.ledger.sinks[..] else { panic!("two sinks") };
    assert_eq!((good.delivered, done.ledger.balance), (100, 0));
    assert_eq!(bad.delivered + bad.dropped["failed"], 100);
    assert_eq!(done.sinks[0].health, Health::Ended("it panicked: it was told to".to_owned()));
}

#[test]
fn what_found_no_room_is_told_to_the_sink_before_the_next_batch() {
    let (sink, watch) = scripted("sink", vec![Act::Stall], Vec::new(), false);
    let mut run = pipeline(counted(0..1000, 1, true))
        .sink_with(sink, quick().queue_bytes(1000))
        .build()
        .expect("threads");
    while run.ledger().sinks[0].dropped.is_empty() {
        run.step().expect("the source is sound");
    }
    watch.gate.open();
    while run.ledger().sinks[0].held > 0 {
        thread::yield_now();
    }
    let full = run.ledger().sinks[0].dropped["queue_full"];
    run.step().expect("the source is sound");
    while run.ledger().sinks[0].held > 0 {
        thread::yield_now();
    }
    assert_eq!(watch.seen.lock().expect("no panic").missed, full);
    assert_eq!(run.finish().ledger.balance, 0);
}

/// A store that is gone is tried again until the time to shut down is over, and no longer.
#[test]
fn a_dead_sink_does_not_keep_the_pipeline_from_ending() {
    let (dead, watch) = scripted("dead", vec![Act::Retry(u8::MAX); 1000], Vec::new(), false);
    let retry = Retry::between(Duration::from_secs(600), Duration::from_secs(600));
    let mut run = pipeline(counted(0..30, 10, true))
        .shutdown_within(Duration::from_millis(20))
        .sink_with(dead, SinkOptions::default().retry(retry))
        .build()
        .expect("threads");
    while run.sinks()[0].health == Health::Good {
        run.step().expect("the source is sound");
    }
    assert_eq!(run.sinks()[0].health, Health::Failing("not now".to_owned()));
    let done = run.finish();
    let row = &done.ledger.sinks[0];
    assert_eq!((row.delivered, row.dropped["shutdown"], done.ledger.balance), (0, row.received, 0));
    watch.gone.recv().expect("its thread ends although it was in the middle of a long wait");
}

/// However little time there is, and wherever it is over, the end comes.
#[test]
fn no_time_to_end() {
    struct Slow;
    impl Stage for Slow {
        fn apply(&mut self, batch: Batch) -> Batch {
            batch
        }
        fn finish(&mut self) -> Batch {
            // Longer than there is time.
            thread::sleep(Duration::from_millis(20));
            Batch::default()
        }
        fn row(&self) -> StageRow {
            StageRow { received: 10, delivered: 10, ..StageRow::named("slow") }
        }
    }
    for within in [Duration::ZERO, Duration::from_millis(5)] {
        let (stalled, watch) = scripted("stalled", vec![Act::Stall], Vec::new(), false);
        let builder = pipeline(counted(0..30, 10, true)).shutdown_within(within).stage(Slow);
        let mut run = builder.sink_with(stalled, quick()).build().expect("threads");
        run.step().expect("the source is sound");
        while run.sinks()[0].waiting_bytes == 0 {
            thread::yield_now();
        }
        let done = run.finish();
        let row = &done.ledger.sinks[0];
        assert_eq!((row.received, row.dropped["shutdown"], done.ledger.balance), (10, 10, 0));
        watch.gate.open();
    }
}

/// A sink behind a merge, which frees more than one batch at a time.
#[test]
fn the_books_balance_while_a_merge_has_to_wait() {
    let (stalled, watch) = scripted("stalled", vec![Act::Stall], Vec::new(), false);
    let options = quick().policy(Policy::Block).queue_bytes(1);
    let mut run = pipeline(counted(0..1000, 10, true))
        .wait(Duration::from_micros(100))
        .merge(Merge::new(Duration::from_nanos(3), 1 << 20))
        .sink_with(stalled, options)
        .build()
        .expect("threads");
    for _ in 0..20 {
        run.step().expect("the source is sound");
        assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
    }
    assert!(run.ledger().stages[1].held > 0, "{}", run.ledger());
    watch.gate.open();
    drive(&mut run);
    let done = run.finish();
    assert_eq!((done.ledger.sinks[0].delivered, done.ledger.balance), (1000, 0));
}

/// What is called after a panic may panic again: no lock is held then, and nothing waits.
#[test]
fn a_sink_that_panics_wherever_it_can() {
    struct Bad(usize);
    impl Bad {
        fn at(&self, place: usize) {
            assert_ne!(self.0, place, "told to");
        }
    }
    impl Sink for Bad {
        fn name(&self) -> &str {
            "b\0ad"
        }
        fn write(&mut self, _: &Batch) -> Result<(), SinkError> {
            self.at(0);
            Ok(())
        }
        fn flush(&mut self) -> Result<(), SinkError> {
            self.at(1);
            Ok(())
        }
        fn tally(&self) -> Option<Tally> {
            self.at(2);
            None
        }
        fn finish(&mut self, _: &Ledger, _: Option<&str>) -> Result<(), SinkError> {
            self.at(3);
            Ok(())
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            self.at(4);
        }
    }
    for place in 0..5 {
        let (good, _watch) = scripted("good", Vec::new(), Vec::new(), false);
        let mut run =
            pipeline(counted(0..20, 10, false)).sink(Bad(place)).sink(good).build().expect("threads");
        drive(&mut run);
        let done = run.finish();
        let [bad, good] = &done.ledger.sinks[..] else { panic!("two sinks") };
        assert_eq!((good.delivered, done.ledger.balance), (20, 0));
        if place < 3 {
            assert_eq!(bad.delivered + bad.dropped["failed"], 20, "{place}: {bad:?}");
        } else {
            assert_eq!(bad.delivered, 20);
        }
    }
}

/// One that does not count what it loses has lost what was not flushed.
#[test]
fn losses_that_are_not_counted() {
    let (sink, _watch) = scripted("sink", Vec::new(), vec![Act::Lose; 100], false);
    let mut run = pipeline(counted(0..20, 10, false)).sink(sink).build().expect("threads");
    drive(&mut run);
    let done = run.finish();
    let row = &done.ledger.sinks[0];
    assert_eq!((row.delivered, row.dropped["failed"], done.ledger.balance), (0, 20, 0));
}

/// When it is time to end, a long wait for the next try is cut short.
#[test]
fn a_store_that_comes_back_at_the_end_gets_everything() {
    let (sink, watch) = scripted("sink", vec![Act::Retry(1)], Vec::new(), false);
    let retry = Retry::between(Duration::from_secs(600), Duration::from_secs(600));
    let mut run = pipeline(counted(0..30, 10, true))
        .sink_with(sink, SinkOptions::default().retry(retry))
        .build()
        .expect("threads");
    while run.sinks()[0].health == Health::Good {
        run.step().expect("the source is sound");
    }
    run.drive(|_| true, |_| ()).expect("the source is sound");
    let done = run.finish();
    assert_eq!((done.ledger.sinks[0].delivered, done.ledger.balance), (done.ledger.sinks[0].received, 0));
    assert!(watch.seen.lock().expect("no panic").ended.is_some());
}

#[test]
fn a_pipeline_that_is_dropped_leaves_no_thread() {
    let (good, watch) = scripted("good", Vec::new(), Vec::new(), false);
    let (dead, also) = scripted("dead", vec![Act::Retry(u8::MAX); 1000], Vec::new(), false);
    let retry = Retry::between(Duration::from_secs(600), Duration::from_secs(600));
    let mut run = pipeline(counted(0..30, 10, true))
        .sink(good)
        .sink_with(dead, SinkOptions::default().retry(retry))
        .build()
        .expect("threads");
    run.step().expect("the source is sound");
    drop(run);
    watch.gone.recv().expect("its thread ends");
    also.gone.recv().expect("so does this");
    let seen = watch.seen.lock().expect("no panic");
    assert_eq!((seen.records().len(), seen.flushed), (10, 1));
}

#[test]
fn batches_have_ids_of_their_own() {
    let runs = [(); 2].map(|()| {
        let (sink, watch) = scripted("sink", Vec::new(), Vec::new(), false);
        let mut run = pipeline(counted(0..10, 1, false)).sink(sink).build().expect("threads");
        drive(&mut run);
        assert_eq!(run.finish().ledger.balance, 0);
        let ids: Vec<_> = watch.seen.lock().expect("no panic").taken.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.iter().map(|id| id.seq).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(ids.iter().all(|id| id.run == ids[0].run));
        ids[0].run
    });
    assert_ne!(runs[0], runs[1]);
}

/// Another thread looks at a pipeline, also while a sink keeps it waiting.
#[test]
fn a_monitor_sees_it_as_it_is() {
    let (stalled, watch) = scripted("stalled", vec![Act::Take, Act::Stall], Vec::new(), false);
    let options = quick().policy(Policy::Block).queue_bytes(1000);
    let mut run = pipeline(counted(0..1000, 10, true))
        .wait(Duration::from_millis(1))
        .sink_with(stalled, options)
        .build()
        .expect("threads");
    let monitor = run.monitor();
    // Nobody steps it yet.
    assert_eq!(monitor.look(Duration::from_millis(1)), None);
    let driver = thread::spawn(move || {
        drive(&mut run);
        run.finish()
    });
    let look = || monitor.look(Duration::from_secs(60)).expect("it is stepped");
    // Numbers are times: a lag of more than one poll is that of the batch that hangs and those behind it.
    let seen = loop {
        let seen = look();
        assert_eq!(seen.ledger.balance, 0, "{}", seen.ledger);
        // Until it has no room: a source that is asked gets further.
        let stands = || look().complete_until_ns == seen.complete_until_ns;
        if seen.sinks[0].lag_ns >= 20 && seen.sinks[0].waiting_bytes > 500 && stands() {
            break seen;
        }
    };
    assert!(seen.ledger.sinks[0].held >= 20, "{}", seen.ledger);
    assert!(seen.sinks[0].batches <= 1 && seen.complete_until_ns >= seen.sinks[0].lag_ns);
    assert_eq!(look().complete_until_ns, seen.complete_until_ns, "the source is not asked");
    watch.gate.open();
    let done = driver.join().expect("no panic");
    assert_eq!(monitor.look(Duration::from_secs(60)), None, "it is over");
    let status = &done.sinks[0];
    assert_eq!((status.batches, status.lag_ns, status.waiting_bytes), (100, 0, 0));
}
