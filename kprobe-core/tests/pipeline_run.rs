//! `Run`: whatever happens to sources and sinks, the balance is 0 and each number is what the model says.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use kprobe_core::{
    abi::{self, Header, Kind, MAX_RECORD},
    decode::Record,
    event::Comm,
    pipeline::{
        Batch, BatchBuf, Context, End, Merge, Only, Polled, ProbeRow, Run, Sink, SinkError, SinkRow, Source,
        SourceError, Stage, StageRow, StreamInfo,
    },
    process::ProcessTable,
};
use pipeline_support::{BOOT, info, key, plain, record, records_of};
use proptest::prelude::*;

mod pipeline_support;

/// What one poll gives: records, the time it is complete to, and whether it fails.
#[derive(Clone, Debug, Default)]
struct Poll {
    records: Vec<Vec<u8>>,
    complete_until_ns: u64,
    fails: bool,
}

/// A recorder whose kernel counts what it submitted and lost when it happens, not when it is drained.
struct Script {
    info: StreamInfo,
    polls: std::vec::IntoIter<Poll>,
    probes: Vec<ProbeRow>,
    leaves_some: bool,
    /// How long it was told to wait, at most.
    waits: Arc<Mutex<Vec<Option<Duration>>>>,
}

impl Script {
    fn new(polls: Vec<Poll>, lost: u64) -> Self {
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
        Self { info: info(), polls: polls.into_iter(), probes, leaves_some: false, waits: Arc::default() }
    }
}

impl Source for Script {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, longest: Option<Duration>) -> Result<Polled, SourceError> {
        self.waits.lock().expect("no panic").push(longest);
        let poll = self.polls.next().unwrap_or_default();
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

    fn leaves_some(&self) -> bool {
        self.leaves_some
    }
}

/// What a sink does with its next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Takes,
    Fails,
    Closes,
}

/// Keeps what it takes where the test can see it.
struct Store {
    row: SinkRow,
    fates: std::vec::IntoIter<Fate>,
    taken: Arc<Mutex<Vec<Vec<u8>>>>,
    flushed: Arc<Mutex<usize>>,
}

type Taken = Arc<Mutex<Vec<Vec<u8>>>>;

fn store(name: &str, fates: Vec<Fate>) -> (Store, Taken) {
    let taken = Taken::default();
    let row = SinkRow { sink: name.to_owned(), ..SinkRow::default() };
    (Store { row, fates: fates.into_iter(), taken: Arc::clone(&taken), flushed: Arc::default() }, taken)
}

impl Sink for Store {
    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let records = records_of(batch);
        let count = records.len() as u64;
        self.row.received += count;
        match self.fates.next().unwrap_or(Fate::Takes) {
            Fate::Takes => {
                self.row.delivered += count;
                self.taken.lock().expect("no panic").extend(records);
                Ok(())
            }
            Fate::Fails => {
                *self.row.dropped.entry("error".to_owned()).or_default() += count;
                Err(SinkError::Io { sink: "store", source: io::Error::other("full") })
            }
            Fate::Closes => {
                *self.row.dropped.entry("closed".to_owned()).or_default() += count;
                Err(SinkError::Closed { sink: "store" })
            }
        }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        *self.flushed.lock().expect("no panic") += 1;
        Ok(())
    }

    fn row(&self) -> SinkRow {
        self.row.clone()
    }
}

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
                out.push_enriched(one.record, one.context.clone());
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

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![6 => Just(Fate::Takes), 2 => Just(Fate::Fails), 1 => Just(Fate::Closes)];
    prop::collection::vec(fate, 0..20)
}

fn sorted(mut records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    records.sort();
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_balance_is_always_0(
        polls in polls(),
        lost in 0_u64..50,
        stop_after in 0_usize..14,
        raw_fates in fates(),
        fates in [fates(), fates()],
        merged in any::<bool>(),
        thinned in any::<bool>(),
        limit in prop_oneof![Just(1_usize << 20), Just(500)],
    ) {
        let mut source = Script::new(polls.clone(), lost);
        let waits = Arc::clone(&source.waits);
        source.probes.push(ProbeRow { probe: "all-lost".into(), cpu: Some(9), submitted: 5, lost: 5, sampled_out: 0 });
        let submitted: u64 = source.probes.iter().map(|row| row.submitted).sum();
        let lost: u64 = source.probes.iter().map(|row| row.lost).sum();

        let [first_fates, second_fates] = fates;
        let (raw, raw_taken) = store("capture", raw_fates.clone());
        let (first, first_taken) = store("stdout", first_fates.clone());
        let (second, second_taken) = store("stdout", second_fates.clone());
        let observed = Taken::default();
        let seen = Arc::clone(&observed);
        let mut builder = Run::builder(source)
            .stage(ProcessTable::new(BOOT))
            .raw_sink(raw)
            .sink(first)
            .sink(second)
            .observe(move |batch, _| seen.lock().expect("no panic").extend(records_of(batch)));
        if merged {
            builder = builder.merge(Merge::new(Duration::from_nanos(100), limit));
        }
        if thinned {
            builder = builder.stage(Thin::default());
        }
        let mut run = builder.build();

        let (mut steps, mut drained, mut failures) = (0, 0, 0);
        let mut end = None;
        while end.is_none() && steps < stop_after {
            prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
            match run.step() {
                Ok(step) => {
                    drained += step.records;
                    failures += step.failures.len();
                    end = step.end;
                }
                Err(error) => {
                    prop_assert_eq!(error.to_string(), "script: it broke");
                    prop_assert_eq!(run.step().expect("a run that is over").end, Some(End::SourceFailed));
                    end = Some(End::SourceFailed);
                }
            }
            steps += 1;
        }
        prop_assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
        let done = run.finish();
        let ledger = &done.ledger;
        failures += done.failures.len();

        // What the model says.
        let given: Vec<_> = polls[..steps].iter().flat_map(|poll| poll.records.clone()).collect();
        let left: u64 = polls[steps..].iter().map(|poll| poll.records.len() as u64).sum();
        let (bad, good): (Vec<_>, Vec<_>) = given.iter().cloned().partition(|record| is_broken(record));
        prop_assert_eq!(ledger.balance, 0, "{}", ledger);
        prop_assert_eq!((ledger.submitted(), ledger.lost()), (submitted, lost));
        prop_assert_eq!(submitted - lost, given.len() as u64 + left);
        prop_assert_eq!(ledger.undecodable, bad.len() as u64);
        // A run that was stopped may still find a closed sink when everything has to go.
        let closed_last = end.is_none() && matches!(done.end, Some(End::Closed { .. }));
        prop_assert!(closed_last || done.end == end);
        if !polls[..steps].iter().any(|poll| poll.fails) {
            prop_assert_eq!(drained, given.len() as u64);
            prop_assert_eq!(&*observed.lock().expect("no panic"), &given);
        }

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

        // Every sink: what it took is what it says, the others do not matter to it.
        let sinks = [(&raw_taken, &raw_fates), (&first_taken, &first_fates), (&second_taken, &second_fates)];
        let names: Vec<_> = ledger.sinks.iter().map(|row| row.sink.as_str()).collect();
        prop_assert_eq!(names, ["capture", "stdout", "stdout#2"]);
        prop_assert_eq!(&ledger.taps, &BTreeMap::from([("capture".into(), if merged { "merge" } else { "drain" }.into())]));
        let mut may_fail = 0;
        for (at, (taken, fates)) in sinks.into_iter().enumerate() {
            let (row, taken) = (&ledger.sinks[at], taken.lock().expect("no panic").clone());
            let flow = if at == 0 { given.len() } else { kept };
            prop_assert_eq!(row.received, flow as u64);
            prop_assert_eq!(row.delivered, taken.len() as u64);
            may_fail += fates.iter().filter(|fate| **fate == Fate::Fails).count();
            if fates.iter().all(|fate| *fate == Fate::Takes) {
                let all = if at == 0 { given.clone() } else { good.clone() };
                if at == 0 || !thinned {
                    prop_assert_eq!(sorted(taken.clone()), sorted(all));
                }
            }
            let late = ledger.stages[1].counts.contains_key("late");
            if merged && !late {
                prop_assert!(taken.iter().map(|record| key(record)).is_sorted());
            }
        }
        prop_assert!(failures <= may_fail);
        // While something is held, a step waits no longer than the slack.
        let waits = waits.lock().expect("no panic");
        prop_assert!(waits.iter().all(|wait| [Some(Duration::from_nanos(100)), Some(Duration::from_millis(100))].contains(wait)));
        prop_assert!(merged || !waits.contains(&Some(Duration::from_nanos(100))));
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

#[test]
fn a_closed_sink_ends_the_run_and_the_rest_is_accounted_for() {
    let (pipe, seen) = store("pipe", vec![Fate::Takes, Fate::Closes]);
    let (file, kept) = store("file", vec![]);
    let mut run = Run::builder(Script::new(one_by_one(10), 0)).sink(pipe).sink(file).build();
    assert_eq!(run.step().expect("a step").end, None);
    let end = Some(End::Closed { sink: "pipe".to_owned() });
    let step = run.step().expect("a closed pipe is no error");
    assert_eq!((&step.end, step.failures.len()), (&end, 0));
    assert_eq!(run.step().expect("nothing more").records, 0);
    let done = run.finish();
    assert_eq!(done.end, end);
    assert_eq!((seen.lock().expect("seen").len(), kept.lock().expect("kept").len()), (1, 2));
    assert_eq!(done.ledger.stages[0].dropped["shutdown"], 8);
    assert_eq!(done.ledger.balance, 0);
}

#[test]
fn what_a_closed_sink_misses_is_counted() {
    let polls = one_by_one(5);
    let (pipe, _) = store("pipe", vec![Fate::Closes]);
    let mut run = Run::builder(Script::new(polls, 0))
        .merge(Merge::new(Duration::from_nanos(3), 1 << 20))
        .sink(pipe)
        .build();
    // Records 0 and 1 leave the merge at different steps; the others are held when the pipe closes.
    while run.step().expect("a step").end.is_none() {}
    let done = run.finish();
    let row = &done.ledger.sinks[0];
    assert_eq!((row.received, row.delivered, row.dropped["closed"]), (4, 0, 4));
    assert_eq!(done.ledger.stages[0].dropped["shutdown"], 1);
    assert_eq!(done.ledger.balance, 0);
}

#[test]
fn sinks_are_flushed_when_it_is_quiet_and_at_the_end() {
    let mut polls = one_by_one(4);
    polls[1].records.clear();
    polls[2].records.clear();
    let (sink, _) = store("s", vec![]);
    let flushed = Arc::clone(&sink.flushed);
    let mut run = Run::builder(Script::new(polls, 0)).sink(sink).build();
    let mut flushes = Vec::new();
    for _ in 0..4 {
        run.step().expect("a step");
        flushes.push(*flushed.lock().expect("flushed"));
    }
    assert_eq!(flushes, [0, 1, 1, 1]);
    let _ = run.finish();
    assert!(*flushed.lock().expect("flushed") >= 2);
}

#[test]
fn a_source_that_gave_less_than_the_kernel_counted_is_a_bug() {
    let mut source = Script::new(one_by_one(4), 0);
    source.probes[0].submitted += 7;
    let (sink, _) = store("s", vec![]);
    let mut run = Run::builder(source).sink(sink).build();
    while run.step().expect("a step").end.is_none() {}
    let ledger = run.finish().ledger;
    assert_eq!(ledger.balance, 7, "{ledger}");
}

#[test]
fn what_a_source_says_it_left_behind_is_no_bug() {
    let mut source = Script::new(one_by_one(4), 0);
    source.probes[0].submitted += 7;
    source.leaves_some = true;
    let mut run = Run::builder(source).build();
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
    struct Names(Arc<Mutex<Vec<String>>>, SinkRow);
    impl Sink for Names {
        fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
            let names = batch.enriched().flatten().map(|one| one.context.comm.to_text().into_owned());
            self.0.lock().expect("no panic").extend(names);
            self.1.received += 1;
            self.1.delivered += 1;
            Ok(())
        }
        fn flush(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
        fn row(&self) -> SinkRow {
            self.1.clone()
        }
    }
    let names = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
    let [raw, after] = names.each_ref().map(|names| Names(Arc::clone(names), SinkRow::default()));
    let mut run = Run::builder(Script::new(vec![poll], 0))
        .raw_sink(raw)
        .stage(ProcessTable::new(BOOT))
        .sink(after)
        .build();
    assert_eq!(run.step().expect("a step").end, Some(End::Source));
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
        buf.push_enriched(record(2), context("c"));
        buf.push(record(3));
        kprobe_core::decode::put_frame(buf.frames_mut(), &records[3]);
        buf.push_enriched(record(4), context("e"));
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
            buf.push_enriched(Record::new(&bytes).expect("a record"), context(&n.to_string()));
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
        let (sink, taken) = store("stdout", Vec::new());
        let builder = Run::builder(Raw { info: info(), given: false }).sink(sink);
        let mut run = if merged { builder.merge(Merge::default()) } else { builder }.build();
        assert_eq!(run.step().expect("a poll").records, 2);
        let ledger = run.finish().ledger;
        assert_eq!((ledger.balance, ledger.undecodable), (0, 2), "{ledger}");
        assert_eq!(*taken.lock().expect("no panic"), sound);
    }
}
