//! Several sources in one pipeline: their records come in one order, each one's numbers are watched apart, and none waits for another.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use kprobe_core::{
    abi::Kind,
    capture::{CaptureReader, CaptureWriter},
    decode::Record,
    event::BootId,
    pipeline::{
        Batch, BatchBuf, BuildError, Clocks, End, Merge, Pipeline, Policy, Polled, ProbeRow, Sink, SinkError,
        SinkOptions, Source, SourceError, Stop, StreamInfo,
    },
};
use pipeline_support::{
    BOOT, info, key, plain,
    script::{Poll, Script, store},
};
use proptest::prelude::*;

mod pipeline_support;

/// Records of source `at`, whose numbers each begin with 0 on every CPU, at these times.
fn script(at: u64, polls: &[(Vec<(u64, u16)>, u64)]) -> Vec<Poll> {
    let mut seqs = [0_u32; 4];
    let mut id = at << 32;
    let polls = polls.iter().map(|(records, complete_until_ns)| {
        let records = records.iter().map(|&(ktime_ns, cpu)| {
            let seq = seqs[usize::from(cpu)];
            seqs[usize::from(cpu)] += 1;
            id += 1;
            plain(ktime_ns, cpu, seq, id)
        });
        Poll { records: records.collect(), complete_until_ns: *complete_until_ns, fails: false }
    });
    polls.collect()
}

/// Which source a record is of, and its place there.
fn whose(record: &[u8]) -> (u64, u64) {
    let id = u64::from_le_bytes(record[32..40].try_into().expect("a number"));
    (id >> 32, id & 0xffff_ffff)
}

fn of_times(at: u64, times: &[u64]) -> Vec<Poll> {
    script(at, &times.iter().map(|&time| (vec![(time, 0)], time)).collect::<Vec<_>>())
}

fn drive(run: &mut Pipeline<impl Source>) {
    run.drive(|_| false, |trouble| panic!("{trouble}")).expect("the sources go on");
}

/// A source's polls, whether it is live, and whether it fails in the end.
fn sources() -> impl Strategy<Value = Vec<(Vec<Poll>, bool)>> {
    let poll = (prop::collection::vec((0_u64..150, 0_u16..3), 0..20), 0_u64..120);
    let source = (prop::collection::vec(poll, 1..10), any::<bool>(), prop::bool::weighted(0.15));
    prop::collection::vec(source, 1..5).prop_map(|sources| {
        let sources = sources.into_iter().enumerate().map(|(at, (polls, live, fails))| {
            let mut now = 200;
            let polls: Vec<_> = polls
                .into_iter()
                .map(|(records, step)| {
                    // Out of order, but never before what the source said that it is complete to, less the slack.
                    let records = records.into_iter().map(|(after, cpu)| (now - 99 + after, cpu)).collect();
                    now += step;
                    (records, now)
                })
                .collect();
            let mut polls = script(at as u64, &polls);
            polls.last_mut().expect("one at least").fails = fails;
            (polls, live)
        });
        sources.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn each_is_accounted_for(
        sources in sources(),
        lost in 0_u64..50,
        merged in any::<bool>(),
        stop_after in prop_oneof![Just(usize::MAX), 0_usize..30],
        (batch_bytes, batch_age_ns) in prop_oneof![Just((1, 0)), Just((1 << 20, 1000)), Just((300, 50))],
    ) {
        let scripts: Vec<_> = sources
            .iter()
            .map(|(polls, live)| Script { live: *live, ..Script::new(polls.clone(), lost) })
            .collect();
        let polled: Vec<_> = scripts.iter().map(|script| Arc::clone(&script.polled)).collect();
        let mut scripts = scripts.into_iter();
        let builder = Pipeline::builder(scripts.next().expect("one at least"))
            .batch(batch_bytes, Duration::from_nanos(batch_age_ns));
        let mut builder = scripts.fold(builder, |builder, script| builder.source(script));
        if merged {
            builder = builder.merge(Merge::new(Duration::from_nanos(100), 1 << 20));
        }
        let (sink, taken) = store("sink");
        // One that a live source feeds drops by default when it is slow; this is not what is tested here.
        let options = SinkOptions::default().policy(Policy::Block);
        let mut run = builder.sink_with(sink, options).build().expect("threads");
        prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
        let (mut steps, mut failures, mut end) = (0, 0, None);
        while end.is_none() && steps < stop_after {
            match run.step() {
                Ok(step) => end = step.end,
                Err(error) => {
                    prop_assert_eq!(error.to_string(), "script: it broke");
                    failures += 1;
                }
            }
            steps += 1;
            prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
        }
        let whole = end.is_some();
        let done = run.finish();
        let ledger = &done.ledger;
        prop_assert_eq!(ledger.balance, 0, "{}", ledger);
        prop_assert!(ledger.stages.iter().all(|row| row.held == 0));

        let asked: Vec<usize> = polled.iter().map(|polled| polled.load(Ordering::Relaxed)).collect();
        let given: Vec<Vec<Vec<u8>>> = sources
            .iter()
            .zip(&asked)
            .map(|((polls, _), asked)| polls[..*asked].iter().flat_map(|poll| poll.records.clone()).collect())
            .collect();
        let all: u64 = given.iter().map(|given| given.len() as u64).sum();
        let left: u64 = sources
            .iter()
            .zip(&asked)
            .flat_map(|((polls, _), asked)| &polls[*asked..])
            .map(|poll| poll.records.len() as u64)
            .sum();
        if whole {
            prop_assert_eq!(left, 0);
            let failing = sources.iter().filter(|(polls, _)| polls.last().is_some_and(|poll| poll.fails)).count();
            prop_assert_eq!(failures, failing);
            prop_assert_eq!(end, Some(if failing > 0 { End::SourceFailed } else { End::Source }));
        }
        let drain = &ledger.stages[0];
        prop_assert_eq!((drain.received, drain.delivered), (all + left, all));
        prop_assert_eq!(drain.dropped.get("shutdown").copied().unwrap_or(0), left);

        // Rows of one probe and CPU are one, whoever they are of.
        let mut rows = BTreeMap::new();
        for (polls, _) in &sources {
            for row in Script::new(polls.clone(), lost).probes {
                let sums: &mut [u64; 3] = rows.entry((row.probe, row.cpu)).or_default();
                for (sum, count) in sums.iter_mut().zip([row.submitted, row.lost, row.sampled_out]) {
                    *sum += count;
                }
            }
        }
        let found = ledger.probes.iter().map(|row| {
            ((row.probe.clone(), row.cpu), [row.submitted, row.lost, row.sampled_out])
        });
        prop_assert_eq!(found.collect::<Vec<_>>().len(), rows.len());
        for row in &ledger.probes {
            let sums = rows.get(&(row.probe.clone(), row.cpu));
            prop_assert_eq!(sums, Some(&[row.submitted, row.lost, row.sampled_out]));
        }

        // Each one's records came, each one's in their order if nobody put them in another.
        let taken = taken.lock().expect("no panic").clone();
        for (at, given) in given.iter().enumerate() {
            let mut mine: Vec<_> = taken.iter().filter(|record| whose(record).0 == at as u64).cloned().collect();
            if merged {
                mine.sort_by_key(|record| whose(record));
            }
            prop_assert_eq!(&mine, given);
            // And each one's numbers are whole, though others have the same.
            let gaps: Vec<_> = done.gaps.iter().filter(|gap| gap.source == at && gap.received > 0).collect();
            prop_assert_eq!(gaps.iter().map(|gap| gap.received).sum::<u64>(), given.len() as u64);
            prop_assert!(gaps.iter().all(|gap| gap.missing == 0), "{:?}", gaps);
        }
        if merged {
            prop_assert!(ledger.stages[1].counts.is_empty(), "{}", ledger);
            prop_assert!(taken.iter().map(|record| key(record)).is_sorted());
        }
    }
}

#[test]
fn sources_of_two_boots_are_refused() {
    let other =
        Script { info: StreamInfo { boot: BootId(7), ..info() }, ..Script::new(of_times(1, &[1]), 0) };
    let builder = Pipeline::builder(Script::new(of_times(0, &[1]), 0)).source(other);
    let error = builder.build().expect_err("two boots");
    assert!(matches!(error, BuildError::Boots { first: BOOT, other: BootId(7) }), "{error:?}");
    let text = format!(
        "sources of two boots in one pipeline, {BOOT} and {}: give each a pipeline of its own",
        BootId(7)
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn one_that_fails_leaves_the_others_going() {
    let mut polls = of_times(1, &[1, 2, 3]);
    polls[1].fails = true;
    let (sink, taken) = store("sink");
    let failing = Script::new(polls, 0);
    let stopped = Arc::clone(&failing.stopped);
    let mut run = Pipeline::builder(Script::new(of_times(0, &[1, 2, 3, 4, 5, 6]), 0))
        .source(failing)
        .sink(sink)
        .build()
        .expect("threads");
    let error = run.drive(|_| false, |_| ()).expect_err("one breaks");
    assert_eq!(error.to_string(), "script: it broke");
    // What it kept is given up at once, and it need not record any more.
    assert!(stopped.load(Ordering::Relaxed));
    let ledger = run.ledger();
    assert_eq!((ledger.balance, ledger.stages[0].dropped["shutdown"]), (0, 1), "{ledger}");
    drive(&mut run);
    let done = run.finish();
    assert_eq!((done.end, done.ledger.balance), (Some(End::SourceFailed), 0));
    assert_eq!(done.incomplete.as_deref(), Some("script: it broke"));
    assert_eq!(taken.lock().expect("no panic").len(), 8);
}

/// Whoever did not drive on has not had everything, and it is said why.
#[test]
fn one_that_failed_is_named_whenever_it_ends() {
    let mut polls = of_times(1, &[1]);
    polls[0].fails = true;
    let mut run = Pipeline::builder(Script::new(of_times(0, &[1, 2, 3]), 0))
        .source(Script::new(polls, 0))
        .build()
        .expect("threads");
    run.drive(|_| false, |_| ()).expect_err("one breaks");
    let done = run.finish();
    assert_eq!((done.end, done.ledger.balance), (Some(End::SourceFailed), 0));
    assert_eq!(done.incomplete.as_deref(), Some("script: it broke"));
}

/// A recorder that was stopped has numbers for what is still in its rings.
#[test]
fn what_was_left_behind_is_no_gap() {
    let mut source = Script::new(of_times(0, &[1, 2, 3, 4]), 0);
    source.next_seq = Some(4);
    let mut run = Pipeline::builder(source).build().expect("threads");
    run.step().expect("a step");
    let done = run.finish();
    assert_eq!(done.ledger.stages[0].dropped["shutdown"], 3);
    let gaps: Vec<_> = done.gaps.iter().map(|gap| (gap.received, gap.missing, gap.to_the_end)).collect();
    assert_eq!(gaps, [(1, 0, false)]);
}

const LONGEST: Duration = Duration::from_millis(100);
const AGE: Duration = Duration::from_millis(10);
const SLICE: Duration = Duration::from_millis(1);

/// How long each of two live sources was told to wait.
fn waits_of(one: Vec<Poll>, other: Vec<Poll>, batch_bytes: usize, age: Duration) -> [Vec<Duration>; 2] {
    let [one, other] = [one, other].map(|polls| Script { live: true, ..Script::new(polls, 0) });
    let waits = [Arc::clone(&one.waits), Arc::clone(&other.waits)];
    let mut run =
        Pipeline::builder(one).source(other).wait(LONGEST).batch(batch_bytes, age).build().expect("threads");
    drive(&mut run);
    waits.map(|waits| waits.lock().expect("no panic").iter().map(|wait| wait.expect("a limit")).collect())
}

/// Whoever waits for the one must not keep the other from its records for long, nor ask all the time.
#[test]
fn nobody_is_waited_for_long_while_another_has_something() {
    let busy = of_times(0, &(1..=20).map(|at| at * 1_000_000).collect::<Vec<_>>());
    let [of_quiet, of_busy] = waits_of(vec![Poll::default(); 40], busy, 1, AGE);
    // At first nobody has anything: then a batch's age is all that the other may have to wait.
    assert_eq!(of_quiet[0], AGE);
    assert!(of_quiet[1..20].iter().all(|wait| *wait == SLICE), "{of_quiet:?}");
    assert!(of_busy.iter().all(|wait| *wait == AGE), "{of_busy:?}");
    // Alone it may be waited for as before.
    assert!(of_quiet[22..].iter().all(|wait| *wait == LONGEST), "{of_quiet:?}");
}

/// Also where batches may not wait at all.
#[test]
fn two_that_are_quiet_are_not_asked_all_the_time() {
    let waits = waits_of(vec![Poll::default(); 20], vec![Poll::default(); 20], 1, Duration::ZERO);
    assert!(waits.concat().len() == 40 && waits.concat().iter().all(|wait| *wait >= SLICE), "{waits:?}");
}

/// A file that is ahead waits for a recorder, which is not to be hurried because of it.
#[test]
fn a_file_that_waits_is_nobody_to_hurry_for() {
    let file = Script::new(of_times(0, &[1_000_000_000, 2_000_000_000]), 0);
    let recorder = Script { live: true, ..Script::new(vec![Poll::default(); 20], 0) };
    let waits = Arc::clone(&recorder.waits);
    let mut run = Pipeline::builder(file)
        .source(recorder)
        .wait(LONGEST)
        .batch(1, AGE)
        .merge(Merge::new(Duration::from_secs(1), 1 << 20))
        .build()
        .expect("threads");
    drive(&mut run);
    let waits = waits.lock().expect("no panic");
    assert_eq!(waits.len(), 20);
    assert!(waits.iter().all(|wait| *wait == Some(LONGEST)), "{waits:?}");
}

/// What a file gave does not wait until the other has come so far.
#[test]
fn what_is_ahead_goes_on_its_way() {
    let file = Script::new(of_times(0, &[1_000_000_000, 2_000_000_000]), 0);
    let recorder = Script { live: true, ..Script::new(vec![Poll::default(); 40], 0) };
    let (sink, taken) = store("sink");
    let mut run = Pipeline::builder(file)
        .source(recorder)
        .batch(1 << 20, AGE)
        .merge(Merge::default())
        .raw_sink(sink)
        .build()
        .expect("threads");
    for _ in 0..10 {
        run.step().expect("a step");
    }
    let ledger = run.ledger();
    assert_eq!((ledger.stages[0].delivered, ledger.stages[1].held), (1, 1), "{ledger}");
    drive(&mut run);
    let _ = run.finish();
    assert_eq!(taken.lock().expect("no panic").len(), 2);
}

/// Nor is it held back at all where nobody puts it in order.
#[test]
fn a_file_is_read_on_where_there_is_no_order() {
    let file = Script::new(of_times(0, &(1..=20).map(|at| at << 30).collect::<Vec<_>>()), 0);
    let recorder = Script { live: true, ..Script::new(vec![Poll::default(); 100], 0) };
    let (sink, taken) = store("sink");
    let options = SinkOptions::default().policy(Policy::Block);
    let mut run = Pipeline::builder(file)
        .source(recorder)
        .batch(1, AGE)
        .sink_with(sink, options)
        .build()
        .expect("threads");
    for _ in 0..60 {
        run.step().expect("a step");
    }
    assert_eq!(run.ledger().stages[0].delivered, 20);
    drive(&mut run);
    let _ = run.finish();
    assert_eq!(taken.lock().expect("no panic").len(), 20);
}

/// A kernel that counts on while it is asked; what it counted will come.
struct Counting {
    info: StreamInfo,
    asked: AtomicU64,
}

impl Source for Counting {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, _: &mut BatchBuf, _: Option<Duration>) -> Result<Polled, SourceError> {
        Ok(Polled::until(0))
    }

    fn probes(&self) -> Vec<ProbeRow> {
        let submitted = self.asked.fetch_add(7, Ordering::Relaxed);
        vec![ProbeRow { probe: "user".into(), cpu: Some(0), submitted, lost: submitted / 3, sampled_out: 0 }]
    }
}

#[test]
fn books_are_of_one_moment() {
    let source = || Counting { info: info(), asked: AtomicU64::new(0) };
    let mut one = Pipeline::builder(source()).build().expect("threads");
    let mut two = Pipeline::builder(source()).source(source()).wait(SLICE).build().expect("threads");
    for _ in 0..20 {
        one.step().expect("a step");
        two.step().expect("a step");
        assert_eq!((one.ledger().balance, two.ledger().balance), (0, 0), "{}", two.ledger());
    }
    assert_eq!((one.finish().ledger.balance, two.finish().ledger.balance), (0, 0));
}

/// One that gives more than it counted does not make up for one that gives less.
#[test]
fn faults_do_not_cancel() {
    let source = |more: u64, less: u64| {
        let mut source = Script::new(of_times(0, &[1, 2, 3, 4]), 0);
        source.probes[0].submitted = 4 + more - less;
        source
    };
    let balance = |sources: [Script; 2]| {
        let [one, other] = sources;
        let mut run = Pipeline::builder(one).source(other).build().expect("threads");
        drive(&mut run);
        run.finish().ledger.balance
    };
    assert_eq!(balance([source(0, 0), source(0, 0)]), 0);
    assert_eq!(balance([source(3, 0), source(0, 0)]), 3);
    assert_eq!(balance([source(3, 0), source(2, 0)]), 5);
    assert_eq!(balance([source(3, 0), source(0, 3)]), 6);
    assert_eq!(balance([source(0, 1), source(3, 0)]), 4);
}

/// Also of one that always has something and does not say what time it is.
#[test]
fn nobody_keeps_its_turn_for_ever() {
    let busy = (0..400).map(|at| Poll { complete_until_ns: 0, ..of_times(0, &[at])[0].clone() }).collect();
    let [of_busy, of_quiet] = waits_of(busy, vec![Poll::default(); 20], 1 << 20, AGE);
    assert_eq!(of_busy.len(), 400);
    // Each of its turns came while the other had something.
    assert_eq!(of_quiet, [SLICE; 20]);
}

/// Batches are as long where there are two sources as they are with one.
#[test]
fn batches_of_each_become_full() {
    // Polls that give one record each, every 50 us; a batch is what comes in 10 ms.
    let trickle = |at| of_times(at, &(1..=2000).map(|number| number * 50_000).collect::<Vec<_>>());
    let (sink, taken) = store("sink");
    let batches = Arc::clone(&sink.batches);
    let [one, other] = [trickle(0), trickle(1)].map(|polls| Script { live: true, ..Script::new(polls, 0) });
    let options = SinkOptions::default().policy(Policy::Block);
    let mut run = Pipeline::builder(one)
        .source(other)
        .batch(1 << 20, AGE)
        .sink_with(sink, options)
        .build()
        .expect("threads");
    drive(&mut run);
    let _ = run.finish();
    assert_eq!(taken.lock().expect("no panic").len(), 4000);
    let batches = batches.load(Ordering::Relaxed);
    assert!((20..=24).contains(&batches), "{batches} batches in 100 ms");
}

/// Takes its first batch when it is let.
struct Gated(mpsc::Receiver<()>);

impl Sink for Gated {
    fn name(&self) -> &str {
        "gated"
    }

    fn write(&mut self, _: &Batch) -> Result<(), SinkError> {
        // Nobody says so twice.
        let _over = self.0.recv();
        Ok(())
    }
}

/// A source that is at its end says that it is complete for ever, which is no time to be late by.
#[test]
fn the_end_of_a_file_is_no_time() {
    let mut polls = of_times(0, &[10, 20]);
    polls.push(Poll { complete_until_ns: u64::MAX, ..Poll::default() });
    let (go, gate) = mpsc::channel();
    let mut run = Pipeline::builder(Script::new(polls, 0))
        .batch(1, Duration::ZERO)
        .sink(Gated(gate))
        .build()
        .expect("threads");
    for _ in 0..5 {
        assert_eq!(run.step().expect("a step").end, None);
    }
    let lags: Vec<_> = run.sinks().iter().map(|sink| sink.lag_ns).collect();
    assert_eq!(lags, [20]);
    drop(go);
    drive(&mut run);
    let _ = run.finish();
}

/// What a recorder has does not wait, a file does: one that is ahead would only fill the merge.
#[test]
fn a_file_that_is_ahead_waits_for_the_other() {
    let times: Vec<u64> = (0..200).map(|at| at * 10).collect();
    let later: Vec<u64> = times.iter().map(|time| time + 1000).collect();
    let (sink, taken) = store("sink");
    let mut run = Pipeline::builder(Script::new(of_times(0, &later), 0))
        .source(Script::new(of_times(1, &times), 0))
        .merge(Merge::new(Duration::ZERO, 2000))
        .batch(1, Duration::ZERO)
        .sink(sink)
        .build()
        .expect("threads");
    drive(&mut run);
    let done = run.finish();
    assert_eq!(done.ledger.balance, 0);
    assert!(done.ledger.stages[1].counts.is_empty(), "{}", done.ledger);
    let taken = taken.lock().expect("no panic");
    assert_eq!(taken.len(), 400);
    assert!(taken.iter().map(|record| key(record)).is_sorted());
}

#[test]
fn all_are_stopped() {
    let scripts = [0, 1, 2].map(|at| Script::new(of_times(at, &(1..=50).collect::<Vec<_>>()), 0));
    let [one, two, three] = scripts;
    let mut run = Pipeline::builder(one).source(two).source(three).build().expect("threads");
    let mut asked = 0;
    let stop = |_: &mut Script| {
        asked += 1;
        if asked > 30 { Stop::AtLeisure } else { Stop::No }
    };
    run.drive(stop, |_| ()).expect("the sources go on");
    let done = run.finish();
    let drain = &done.ledger.stages[0];
    assert_eq!((drain.delivered, drain.dropped["shutdown"]), (30, 120), "{}", done.ledger);
    assert_eq!((done.end, done.ledger.balance), (Some(End::Source), 0));
}

/// The capture of several sources is one stream, that says of how many it is, and nothing of the numbers in it.
#[test]
fn their_capture_is_one_stream() {
    let clocks =
        |monotonic_ns| Clocks { monotonic_ns, realtime_ns: 5000 + monotonic_ns, ..Clocks::default() };
    let of = |report: &str, cpus, clocks| StreamInfo { report: report.into(), cpus, clocks, ..info() };
    let (first, second) = (of("first", 2, clocks(70)), of("second", 8, clocks(30)));
    let one = Script { info: first.clone(), ..Script::new(of_times(0, &[100, 120]), 0) };
    let other = Script { info: second.clone(), ..Script::new(of_times(1, &[110, 130, 140]), 0) };
    let builder = Pipeline::builder(one).source(other).merge(Merge::default());
    let info = builder.info().clone();
    let expected = StreamInfo {
        clocks: clocks(30),
        cpus: 8,
        report: serde_json::json!(["first", "second"]),
        sources: 2,
        ..first.clone()
    };
    assert_eq!(info, expected);
    assert_eq!(info.reports(), ["first", "second"]);
    assert_eq!(first.reports(), ["first"]);

    let file = tempfile::NamedTempFile::new().expect("a file");
    let writer = CaptureWriter::new(file.reopen().expect("a file"), &info).expect("a capture");
    let mut run = builder.raw_sink(writer).build().expect("threads");
    drive(&mut run);
    let done = run.finish();
    let gaps: Vec<_> = done.gaps.iter().map(|gap| (gap.source, gap.received, gap.missing)).collect();
    assert_eq!(gaps, [(0, 2, 0), (1, 3, 0)]);

    let capture = CaptureReader::open(file.path()).expect("a capture");
    assert_eq!(Source::info(&capture), &expected);
    let (sink, taken) = store("sink");
    let mut run = Pipeline::builder(capture).sink(sink).build().expect("threads");
    drive(&mut run);
    let done = run.finish();
    assert_eq!((done.ledger.balance, done.gaps.len()), (0, 0), "{:?}", done.gaps);
    let taken = taken.lock().expect("no panic");
    let kinds = taken.iter().map(|record| Record::new(record).expect("a record").kind());
    assert!(kinds.eq([Kind::USER; 5]));
    assert!(taken.iter().map(|record| key(record).0).eq([100, 110, 120, 130, 140]));
}
