//! Whatever sources give and stages do, the balance is 0 and each number is what the model says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::Duration,
};

use kprobe_core::{
    abi::{self, Header, Kind, MAX_RECORD},
    decode::Record,
    event::Comm,
    pipeline::{
        Batch, BatchBuf, Context, End, Health, Merge, Only, Pipeline, Polled, ProbeRow, Sink, SinkError,
        SinkOptions, Source, SourceError, Stage, StageRow, StreamInfo,
    },
    process::ProcessTable,
};
use pipeline_support::{
    BOOT, info, key, plain, record, records_of,
    script::{Poll, Script, store},
};
use proptest::prelude::*;

mod pipeline_support;

/// Takes out every third record.
#[derive(Default)]
struct Thin {
    row: StageRow,
    seen: usize,
}

impl Stage for Thin {
    fn apply(&mut self, batch: Batch) -> Batch {
        let mut out = BatchBuf::default();
        for one in batch.enriched().flatten() {
            self.row.received += 1;
            self.seen += 1;
            if self.seen.is_multiple_of(3) {
                *self.row.dropped.entry("thinned".to_owned()).or_default() += 1;
            } else {
                self.row.delivered += 1;
                out.push_enriched(one.record, one.context);
            }
        }
        out.take()
    }

    fn row(&self) -> StageRow {
        StageRow { stage: "thin".to_owned(), ..self.row.clone() }
    }
}

/// A record that no decoder accepts.
fn broken(ktime_ns: u64, seq: u32) -> Vec<u8> {
    record(Header { ktime_ns, seq, ..Header::default() }, Kind::SYSCALL, &1_u64)
}

fn is_broken(record: &[u8]) -> bool {
    record.len() == 40 && record[24..26] == Kind::SYSCALL.0.to_le_bytes()
}

fn polls() -> impl Strategy<Value = Vec<Poll>> {
    let one = (0_u64..400, 0_u16..3, prop::bool::weighted(0.1));
    let poll = (prop::collection::vec(one, 0..25), 0_u64..120);
    (prop::collection::vec(poll, 1..12), prop::bool::weighted(0.2)).prop_map(|(polls, fails)| {
        let (mut seq, mut now) = (0, 0);
        let last = polls.len() - 1;
        let polls = polls.into_iter().enumerate().map(|(at, (records, step))| {
            now += step;
            let records = records.into_iter().map(|(before, cpu, is_broken)| {
                seq += 1;
                // Some are later than the slack allows.
                let ktime_ns = (now + 200_u64).saturating_sub(before);
                if is_broken { broken(ktime_ns, seq) } else { plain(ktime_ns, cpu, seq, seq.into()) }
            });
            Poll { records: records.collect(), complete_until_ns: now, fails: fails && at == last }
        });
        polls.collect()
    })
}

fn sorted(mut records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    records.sort();
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_balance_is_always_0(
        polls in polls(),
        lost in 0_u64..50,
        stop_after in 0_usize..14,
        merged in any::<bool>(),
        thinned in any::<bool>(),
        limit in prop_oneof![Just(1_usize << 20), Just(500)],
        (batch_bytes, batch_age_ns) in prop_oneof![Just((1, 0)), Just((1 << 20, 1000)), Just((300, 50))],
    ) {
        let mut source = Script::new(polls.clone(), lost);
        let (waits, polled) = (Arc::clone(&source.waits), Arc::clone(&source.polled));
        source.probes.push(ProbeRow { probe: "all-lost".into(), cpu: Some(9), submitted: 5, lost: 5, sampled_out: 0 });
        let submitted: u64 = source.probes.iter().map(|row| row.submitted).sum();
        let lost: u64 = source.probes.iter().map(|row| row.lost).sum();

        let (raw, raw_taken) = store("capture");
        let (first, first_taken) = store("stdout");
        let (second, second_taken) = store("stdout");
        let mut builder = Pipeline::builder(source)
            .batch(batch_bytes, Duration::from_nanos(batch_age_ns))
            .stage(ProcessTable::new(BOOT))
            .raw_sink(raw)
            .sink(first)
            .sink(second);
        if merged {
            builder = builder.merge(Merge::new(Duration::from_nanos(100), limit));
        }
        if thinned {
            builder = builder.stage(Thin::default());
        }
        let mut run = builder.build().expect("threads");

        let (mut steps, mut drained) = (0, 0);
        let mut end = None;
        while end.is_none() && steps < stop_after {
            prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
            match run.step() {
                Ok(step) => {
                    prop_assert!(step.troubles.is_empty());
                    drained += step.records;
                    end = step.end;
                }
                Err(error) => prop_assert_eq!(error.to_string(), "script: it broke"),
            }
            steps += 1;
        }
        prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
        let done = run.finish();
        let ledger = &done.ledger;
        prop_assert!(done.troubles.is_empty());

        // What the model says.
        let asked = polled.load(Ordering::Relaxed);
        let given: Vec<_> = polls[..asked].iter().flat_map(|poll| poll.records.clone()).collect();
        let left: u64 = polls[asked..].iter().map(|poll| poll.records.len() as u64).sum();
        let (bad, good): (Vec<_>, Vec<_>) = given.iter().cloned().partition(|record| is_broken(record));
        prop_assert_eq!(ledger.balance, 0, "{}", ledger);
        prop_assert_eq!((ledger.submitted(), ledger.lost()), (submitted, lost));
        prop_assert_eq!(submitted - lost, given.len() as u64 + left);
        prop_assert_eq!(ledger.undecodable, bad.len() as u64);
        let expected = (asked == polls.len()).then(|| match polls[asked - 1].fails {
            true => End::SourceFailed,
            false => End::Source,
        });
        prop_assert_eq!(&done.end, &expected);
        prop_assert!(end.is_none() || end == expected);
        prop_assert!(drained <= given.len() as u64);

        let expected: Vec<_> = ["drain"].into_iter().chain(merged.then_some("merge")).chain(["process"])
            .chain(thinned.then_some("thin")).collect();
        let names: Vec<_> = ledger.stages.iter().map(|row| row.stage.as_str()).collect();
        prop_assert_eq!(names, expected);
        let [drain, .., last] = &ledger.stages[..] else { panic!("two stages at least") };
        prop_assert_eq!(drain.dropped.get("shutdown").copied().unwrap_or(0), left);
        prop_assert_eq!((drain.received, drain.delivered), (given.len() as u64 + left, given.len() as u64));
        let kept = good.len() - if thinned { good.len() / 3 } else { 0 };
        prop_assert_eq!(last.delivered, kept as u64);
        prop_assert!(ledger.stages.iter().all(|row| row.held == 0));

        let names: Vec<_> = ledger.sinks.iter().map(|row| row.sink.as_str()).collect();
        prop_assert_eq!(names, ["capture", "stdout", "stdout#2"]);
        prop_assert_eq!(&ledger.taps, &BTreeMap::from([("capture".into(), if merged { "merge" } else { "drain" }.into())]));
        for (at, taken) in [&raw_taken, &first_taken, &second_taken].into_iter().enumerate() {
            let (row, taken) = (&ledger.sinks[at], taken.lock().expect("no panic").clone());
            let flow = if at == 0 { given.len() } else { kept } as u64;
            prop_assert_eq!((row.received, row.delivered, row.held, row.dropped.len()), (flow, flow, 0, 0));
            prop_assert_eq!(taken.len() as u64, flow);
            if at == 0 || !thinned {
                prop_assert_eq!(sorted(taken.clone()), sorted(if at == 0 { given.clone() } else { good.clone() }));
            }
            let late = ledger.stages[1].counts.contains_key("late");
            if merged && !late {
                prop_assert!(taken.iter().map(|record| key(record)).is_sorted());
            }
        }
        // While something is held, a step waits no longer than it may be.
        let waits = waits.lock().expect("no panic");
        let longest = Duration::from_millis(100);
        let least = Duration::from_micros(100);
        prop_assert!(waits.iter().all(|wait| wait.is_some_and(|wait| wait == longest || wait <= least)));
        prop_assert!(waits.first().is_none_or(|wait| *wait == Some(longest)));
        // Nothing is missing in the numbers of the CPUs beyond what this source skips.
        prop_assert!(done.gaps.iter().all(|gap| gap.received <= given.len() as u64));
    }
}

fn one_by_one(count: u32) -> Vec<Poll> {
    (0..count)
        .map(|n| Poll {
            records: vec![plain(n.into(), 0, n, n.into())],
            complete_until_ns: n.into(),
            fails: false,
        })
        .collect()
}

/// As a program whose output is a pipe to one that has seen enough.
#[test]
fn a_closed_sink_ends_the_pipeline_if_it_shall() {
    let (mut pipe, seen) = store("pipe");
    pipe.closes_at = Some(1);
    let (file, kept) = store("file");
    let options = SinkOptions::default().ends_pipeline();
    let source = Script::new(one_by_one(1_000_000), 0);
    let builder = Pipeline::builder(source).batch(1, Duration::ZERO).sink_with(pipe, options).sink(file);
    let mut run = builder.build().expect("threads");
    while run.step().expect("a closed pipe is no error").end.is_none() {}
    let done = run.finish();
    assert_eq!(done.end, Some(End::Closed { sink: "pipe".to_owned() }));
    let kept = kept.lock().expect("kept").len() as u64;
    assert_eq!(seen.lock().expect("seen").len(), 1);
    let [pipe, file] = &done.ledger.sinks[..] else { panic!("two sinks") };
    // The first batch may have been flushed before the second came.
    assert!(pipe.delivered <= 1, "{pipe:?}");
    assert_eq!((pipe.received, pipe.dropped["closed"]), (kept, kept - pipe.delivered));
    assert_eq!((file.received, file.delivered), (kept, kept));
    assert_eq!(done.ledger.stages[0].dropped["shutdown"], 1_000_000 - kept);
    assert_eq!(done.ledger.balance, 0);
    assert_eq!(done.sinks[0].health, Health::Ended("the reader has gone".to_owned()));
}

#[test]
fn a_closed_sink_is_no_matter_to_others_and_the_last_ends_the_pipeline() {
    let stores = [("one", 1), ("other", 3)].map(|(name, at)| {
        let (mut store, taken) = store(name);
        store.closes_at = Some(at);
        (store, taken)
    });
    let [(one, _), (other, _)] = stores;
    let source = Script::new(one_by_one(1_000_000), 0);
    let mut run =
        Pipeline::builder(source).batch(1, Duration::ZERO).sink(one).sink(other).build().expect("threads");
    while run.step().expect("a step").end.is_none() {}
    let done = run.finish();
    assert_eq!((done.end, done.ledger.balance), (Some(End::NoSinkLeft), 0));
}

#[test]
fn sinks_are_flushed_when_it_is_quiet_and_at_the_end() {
    let (sink, _) = store("s");
    let flushed = Arc::clone(&sink.flushed);
    let mut polls = one_by_one(1);
    polls.extend(vec![Poll { complete_until_ns: 9, ..Poll::default() }; 2_000_000]);
    let mut run = Pipeline::builder(Script::new(polls, 0))
        .batch(1, Duration::ZERO)
        .sink(sink)
        .build()
        .expect("threads");
    while flushed.load(Ordering::Relaxed) == 0 {
        assert_eq!(run.step().expect("a step").end, None, "nobody flushed while it was quiet");
        thread::yield_now();
    }
    // Once flushed it is delivered.
    while run.ledger().sinks[0].delivered == 0 {
        thread::yield_now();
    }
    let _ = run.finish();
    // What was flushed is not flushed again but at the end.
    assert_eq!(flushed.load(Ordering::Relaxed), 2);
}

#[test]
fn a_source_that_gave_less_than_the_kernel_counted_is_a_bug() {
    let mut source = Script::new(one_by_one(4), 0);
    source.probes[0].submitted += 7;
    let (sink, _) = store("s");
    let mut run = Pipeline::builder(source).sink(sink).build().expect("threads");
    while run.step().expect("a step").end.is_none() {}
    let ledger = run.finish().ledger;
    assert_eq!(ledger.balance, 7, "{ledger}");
}

#[test]
fn what_a_source_says_it_left_behind_is_no_bug() {
    let mut source = Script::new(one_by_one(4), 0);
    source.probes[0].submitted += 7;
    source.leaves_some = true;
    let mut run = Pipeline::builder(source).build().expect("threads");
    while run.step().expect("a step").end.is_none() {}
    let done = run.finish();
    assert_eq!((done.ledger.balance, done.ledger.stages[0].dropped["shutdown"]), (0, 7), "{}", done.ledger);
    assert_eq!(done.end, Some(End::Source));
}

#[test]
fn raw_sinks_see_no_contexts_and_sinks_do() {
    let seed = abi::ThreadSeed {
        start_ns: 20_000_000,
        parent_tgid: 1,
        flags: 0,
        comm: *b"abc\0\0\0\0\0\0\0\0\0\0\0\0\0",
    };
    let header = Header { tgid: 7, tid: 7, cpu: abi::CPU_NONE, ..Header::default() };
    let poll = Poll { records: vec![record(header, Kind::META_THREAD, &seed)], ..Poll::default() };
    struct Names(Arc<Mutex<Vec<String>>>);
    impl Sink for Names {
        fn name(&self) -> &str {
            "names"
        }
        fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
            let names = batch.enriched().flatten().map(|one| one.context.comm.to_text().into_owned());
            self.0.lock().expect("no panic").extend(names);
            Ok(())
        }
    }
    let names = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
    let [raw, after] = names.each_ref().map(|names| Names(Arc::clone(names)));
    let mut run = Pipeline::builder(Script::new(vec![poll], 0))
        .raw_sink(raw)
        .stage(ProcessTable::new(BOOT))
        .sink(after)
        .build()
        .expect("threads");
    while run.step().expect("a step").end.is_none() {}
    assert_eq!(run.finish().ledger.balance, 0);
    assert_eq!(names.map(|names| names.lock().expect("no panic").clone()), [[""], ["abc"]]);
}

fn context(name: &str) -> Context {
    Context { comm: Comm::from_text(name.as_bytes()), ..Context::default() }
}

fn names(batch: &Batch) -> Vec<String> {
    batch.enriched().map(|one| one.expect("a record").context.comm.to_text().into_owned()).collect()
}

#[test]
fn a_context_stays_with_its_record() {
    let records: Vec<_> = (0..6).map(|n| plain(n, 0, 0, 0)).collect();
    let record = |n: usize| Record::new(&records[n]).expect("a record");
    let mut buf = BatchBuf::default();
    for _ in 0..2 {
        buf.push(record(0));
        buf.push(record(1));
        buf.push_enriched(record(2), &context("c"));
        buf.push(record(3));
        kprobe_core::decode::put_frame(buf.frames_mut(), &records[3]);
        buf.push_enriched(record(4), &context("e"));
        buf.push(record(5));
        assert_eq!(names(&buf.take()), ["", "", "c", "", "", "e", ""]);
    }
}

#[test]
fn only_copies_when_something_has_to_go() {
    let kinds = [Kind::SYSCALL, Kind::META_MARKER, Kind::SCHED_SWITCH, Kind::SYSCALL];
    let mut buf = BatchBuf::default();
    let mut batch = |kinds: &[Kind]| {
        for (n, kind) in kinds.iter().enumerate() {
            let bytes = record(Header { ktime_ns: n as u64, ..Header::default() }, *kind, &n);
            buf.push_enriched(Record::new(&bytes).expect("a record"), &context(&n.to_string()));
        }
        buf.take()
    };
    let mut asked = 0;
    let mut only = Only::new(|kind| {
        asked += 1;
        kind == Kind::SYSCALL
    });
    let all = batch(&kinds[..2]);
    let passed = only.apply(all.clone());
    assert_eq!((passed.bytes().as_ptr(), names(&passed)), (all.bytes().as_ptr(), names(&all)));
    let some = only.apply(batch(&kinds));
    assert_eq!(names(&some), ["0", "1", "3"]);
    assert_eq!(records_of(&some).iter().map(|record| key(record).0).collect::<Vec<_>>(), [0, 1, 3]);
    assert!(only.apply(batch(&kinds[2..3])).is_empty());
    let row = only.row();
    assert_eq!((row.received, row.delivered, row.dropped["not_wanted"]), (7, 5, 2));
    // Once for each record that is not about the stream.
    drop(only);
    assert_eq!(asked, 5);
}

/// A user's own object may submit what is no record.
#[test]
fn a_record_without_a_header_costs_itself() {
    struct Raw {
        info: StreamInfo,
        given: bool,
    }
    let sound = [plain(1, 0, 0, 1), plain(2, 0, 2, 2)];
    impl Source for Raw {
        fn info(&self) -> &StreamInfo {
            &self.info
        }

        fn poll(&mut self, out: &mut BatchBuf, _: Option<Duration>) -> Result<Polled, SourceError> {
            for frame in [&plain(1, 0, 0, 1)[..], b"short", &[7; MAX_RECORD + 8], &plain(2, 0, 2, 2)] {
                kprobe_core::decode::put_frame(out.frames_mut(), frame);
            }
            self.given = true;
            Ok(Polled::until(9).ended(true))
        }

        fn probes(&self) -> Vec<ProbeRow> {
            let submitted = if self.given { 4 } else { 0 };
            vec![ProbeRow { probe: "own".into(), cpu: Some(0), submitted, lost: 0, sampled_out: 0 }]
        }
    }
    for merged in [false, true] {
        let (sink, taken) = store("stdout");
        let builder = Pipeline::builder(Raw { info: info(), given: false }).sink(sink);
        let mut run =
            if merged { builder.merge(Merge::default()) } else { builder }.build().expect("threads");
        assert_eq!(run.step().expect("a poll").records, 2);
        let ledger = run.finish().ledger;
        assert_eq!((ledger.balance, ledger.undecodable), (0, 2), "{ledger}");
        assert_eq!(*taken.lock().expect("no panic"), sound);
    }
}
