//! `Aggregate` against a naive model, and on captures: every event is in exactly one histogram, within the memory it may use.

mod pipeline_support;
mod stage_support;

use std::{collections::BTreeMap, path::Path, sync::mpsc, time::Duration};

use kprobe_core::{
    abi::{self, CPU_NONE, Family, Header, Kind},
    capture::CaptureReader,
    decode::Record,
    event::{Aggregated, By, Comm, Event, Histogram, Tgid, TypedEvent as _},
    pipeline::{
        Aggregate, Batch, CannotSumUp, Context, Filter, Ledger, Pipeline, ProbeRow, Sample, Sink, SinkError,
        SinkRow, Stage,
    },
    process::ProcessTable,
};
use pipeline_support::{BOOT, batch_of, record};
use proptest::prelude::*;
use stage_support::{One, batch, batches, call, lengths, out_of, stream, through};

const INTERVAL_NS: u64 = 1_000;

fn aggregate(most_keys: usize, by: &[(Family, By)]) -> Aggregate {
    let stage = Aggregate::new(Duration::from_nanos(INTERVAL_NS)).most_keys(most_keys);
    by.iter().fold(stage, |stage, (family, by)| stage.sum_up(*family, *by).expect("a family with durations"))
}

/// Longest duration of a class: how many events.
type Classes = BTreeMap<u64, u64>;

/// A histogram as the model has it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sum {
    sum_ns: u64,
    classes: Classes,
}

/// One record that leaves the stage.
#[derive(Clone, Debug, PartialEq)]
enum Leaves {
    Event(Vec<u8>),
    Histogram { from_ns: u64, to_ns: u64, kind: Kind, of: Aggregated, sum: Sum },
}

/// The smallest power of two less one that is not less; the last class has no end.
fn longest(duration_ns: u64) -> u64 {
    let classes = (0..47).map(|bits| (1_u64 << bits) - 1);
    classes.into_iter().find(|longest| *longest >= duration_ns).unwrap_or(u64::MAX)
}

fn of(by: By, one: &One) -> Option<Aggregated> {
    Some(match by {
        By::Tgid => Aggregated::Tgid(Tgid(one.tgid)),
        By::Cgroup => Aggregated::Cgroup(one.cgroup_id),
        By::Subject => Aggregated::Subject(one.subject?),
        _ => Aggregated::Kind,
    })
}

/// What is summed up of a stream, if it is.
fn summed(one: &One, by: &[(Family, By)]) -> Option<(Kind, Aggregated, u64)> {
    let (_, by) = by.iter().find(|(family, _)| Some(*family) == one.kind.family())?;
    let never_returns = one.duration_ns.is_none() && one.subject == Some(231);
    let duration_ns = if never_returns { 0 } else { one.duration_ns? };
    Some((one.kind, of(*by, one)?, duration_ns))
}

#[derive(Default)]
struct Model {
    leaves: Vec<Leaves>,
    open: BTreeMap<(Kind, Aggregated), Sum>,
    early: u64,
    late: u64,
}

impl Model {
    fn end(&mut self, from_ns: u64, to_ns: u64) -> u64 {
        let open = std::mem::take(&mut self.open);
        let count = open.len() as u64;
        self.leaves.extend(open.into_iter().map(|((kind, of), sum)| Leaves::Histogram {
            from_ns,
            to_ns,
            kind,
            of,
            sum,
        }));
        count
    }

    fn run(stream: &[One], by: &[(Family, By)], most_keys: usize, keep: bool) -> Self {
        let mut model = Self::default();
        let (mut from_ns, mut now_ns) = (0, 0);
        for (at, one) in stream.iter().enumerate() {
            let ktime_ns = one.header.ktime_ns;
            if at == 0 {
                from_ns = ktime_ns;
                now_ns = ktime_ns;
            }
            if ktime_ns / INTERVAL_NS > now_ns / INTERVAL_NS {
                model.end(from_ns, (now_ns / INTERVAL_NS + 1) * INTERVAL_NS);
                from_ns = ktime_ns / INTERVAL_NS * INTERVAL_NS;
            }
            now_ns = now_ns.max(ktime_ns);
            let Some((kind, of, duration_ns)) = summed(one, by) else {
                model.leaves.push(Leaves::Event(one.bytes.clone()));
                continue;
            };
            if !model.open.contains_key(&(kind, of)) && model.open.len() == most_keys {
                model.early += model.end(from_ns, now_ns);
                from_ns = now_ns;
            }
            model.late += u64::from(ktime_ns < from_ns);
            let sum = model.open.entry((kind, of)).or_default();
            sum.sum_ns += duration_ns;
            *sum.classes.entry(longest(duration_ns)).or_default() += 1;
            if keep {
                model.leaves.push(Leaves::Event(one.bytes.clone()));
            }
        }
        model.end(from_ns, now_ns);
        model
    }
}

fn histogram_of(bytes: &[u8]) -> Option<Histogram> {
    Histogram::decode(Record::new(bytes).expect("a record")).ok()
}

fn leaves(out: &[(Vec<u8>, Context)]) -> Vec<Leaves> {
    let mut made = 0;
    let one = |(bytes, _): &(Vec<u8>, Context)| match histogram_of(bytes) {
        None => Leaves::Event(bytes.clone()),
        Some(histogram) => {
            let Histogram { origin, kind, of, from_ns, sum_ns, .. } = histogram;
            assert_eq!((origin.cpu, origin.seq), (None, made));
            made += 1;
            let whose = match of {
                Aggregated::Tgid(tgid) => (tgid.0, tgid.0, 0),
                Aggregated::Cgroup(id) => (0, 0, id),
                _ => (0, 0, 0),
            };
            assert_eq!((origin.tgid.0, origin.tid.0, origin.cgroup_id), whose);
            let sum = Sum { sum_ns, classes: histogram.classes().collect() };
            Leaves::Histogram { from_ns, to_ns: origin.ktime_ns, kind, of, sum }
        }
    };
    out.iter().map(one).collect()
}

fn families() -> impl Strategy<Value = Vec<(Family, By)>> {
    let by = || prop_oneof![Just(By::Kind), Just(By::Tgid), Just(By::Cgroup), Just(By::Subject)];
    (prop::option::of(by()), prop::option::of(by())).prop_map(|(calls, requests)| {
        let calls = calls.map(|by| (Family::Syscall, by));
        calls.into_iter().chain(requests.map(|by| (Family::Block, by))).collect()
    })
}

/// All histograms of a kind and key together.
fn totals(leaves: &[Leaves]) -> BTreeMap<(Kind, Aggregated), Sum> {
    let mut totals = BTreeMap::<_, Sum>::new();
    for leaves in leaves {
        if let Leaves::Histogram { kind, of, sum, .. } = leaves {
            let total = totals.entry((*kind, *of)).or_default();
            total.sum_ns += sum.sum_ns;
            sum.classes.iter().for_each(|(longest, n)| *total.classes.entry(*longest).or_default() += n);
        }
    }
    totals
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_event_is_in_one_histogram(
        stream in stream(),
        lengths in lengths(),
        by in families(),
        most_keys in prop_oneof![Just(1_usize), 2_usize..6, Just(100)],
        keep in any::<bool>(),
    ) {
        let mut stage = aggregate(most_keys, &by).keep_events(keep);
        let (out, row) = through(&mut stage, batches(&stream, &lengths));
        let model = Model::run(&stream, &by, most_keys, keep);
        let left = leaves(&out);
        prop_assert_eq!(&left, &model.leaves);
        prop_assert_eq!(stage.keys(), 0);

        // The books.
        let histograms = left.iter().filter(|one| matches!(one, Leaves::Histogram { .. })).count() as u64;
        let summed_up = stream.iter().filter(|one| summed(one, &by).is_some()).count() as u64;
        prop_assert_eq!((row.stage.as_str(), row.added), ("aggregate", histograms));
        let dropped: Vec<_> = row.dropped.into_iter().collect();
        let expected = (summed_up > 0 && !keep).then(|| ("summed_up".to_owned(), summed_up));
        prop_assert_eq!(dropped, expected.into_iter().collect::<Vec<_>>());
        let count = |what: &str| row.counts.get(what).copied().unwrap_or(0);
        prop_assert_eq!((count("early"), count("late")), (model.early, model.late));

        // However little room there was, all of it together is what all events together are.
        let roomy = Model::run(&stream, &by, usize::MAX, keep);
        prop_assert_eq!(totals(&left), totals(&roomy.leaves));

        // Contexts stay with their records.
        let mut events = stream.iter().filter(|one| keep || summed(one, &by).is_none());
        for (bytes, context) in out.iter().filter(|(bytes, _)| histogram_of(bytes).is_none()) {
            let one = events.next().expect("it was put in");
            prop_assert_eq!((bytes, context), (&one.bytes, &one.context));
        }
    }

    #[test]
    fn batches_do_not_matter(stream in stream(), first in lengths(), second in lengths(), by in families()) {
        let sums = |lengths: &[usize]| through(&mut aggregate(3, &by), batches(&stream, lengths));
        prop_assert_eq!(sums(&first), sums(&second));
    }
}

/// One of the stages there are.
fn any_stage(which: u8) -> Box<dyn Stage> {
    match which {
        0 => Box::new(Filter::kinds(|kind| kind != Kind::BLOCK_REQUEST)),
        1 => Box::new(Filter::min_duration(|_| 1 << 20)),
        2 => Box::new(Sample::one_in(3)),
        3 => Box::new(aggregate(2, &[(Family::Syscall, By::Tgid)]).keep_events(true)),
        4 => Box::new(ProcessTable::new(BOOT)),
        _ => Box::new(aggregate(3, &[(Family::Syscall, By::Subject), (Family::Block, By::Cgroup)])),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Stages of any kind in any order, records that they make themselves on their way through the next ones included.
    #[test]
    fn the_books_of_a_chain_balance(
        stream in stream(),
        lengths in lengths(),
        chain in prop::collection::vec(0_u8..6, 1..6),
    ) {
        let mut stages: Vec<_> = chain.into_iter().map(any_stage).collect();
        let mut taken = SinkRow { sink: "sink".to_owned(), ..SinkRow::default() };
        let mut given = 0;
        let mut pass = |stages: &mut [Box<dyn Stage>], batch: Batch| {
            let out = stages.iter_mut().fold(batch, |batch, stage| stage.apply(batch));
            let records = out.records().flatten().count() as u64;
            (taken.received, taken.delivered) = (taken.received + records, taken.delivered + records);
            taken.clone()
        };
        let books = |stages: &[Box<dyn Stage>], given: u64, taken: SinkRow| {
            let probe = ProbeRow { probe: "all".to_owned(), cpu: None, submitted: given, lost: 0, sampled_out: 0 };
            Ledger::new(vec![probe], stages.iter().map(|stage| stage.row()).collect(), vec![taken])
        };
        for batch in batches(&stream, &lengths) {
            given += batch.records().count() as u64;
            let taken = pass(&mut stages, batch);
            let ledger = books(&stages, given, taken);
            prop_assert_eq!(ledger.balance, 0, "{}", ledger);
        }
        for at in 0..stages.len() {
            let batch = stages[at].finish();
            let taken = pass(&mut stages[at + 1..], batch);
            let ledger = books(&stages, given, taken);
            prop_assert_eq!(ledger.balance, 0, "{}", ledger);
        }
        prop_assert!(stages.iter().all(|stage| stage.row().held == 0));
    }
}

#[test]
fn more_keys_than_there_is_room_for() {
    const MOST: usize = 16;
    let stream: Vec<_> = (0..10_000).map(|n| call((1 << 40) + u64::from(n), n, 0, u64::from(n))).collect();
    let mut stage = Aggregate::new(Duration::from_secs(1))
        .most_keys(MOST)
        .sum_up(Family::Syscall, By::Tgid)
        .expect("calls have durations");
    let mut seen = BTreeMap::new();
    let mut look = |batch: &Batch| {
        for (bytes, _) in out_of(batch) {
            let histogram = histogram_of(&bytes).expect("nothing else comes");
            assert_eq!(seen.insert(histogram.of, histogram.sum_ns), None);
        }
    };
    for batch in batches(&stream, &[7; 1000]) {
        look(&stage.apply(batch));
        assert!(stage.keys() <= MOST && stage.row().held <= MOST as u64);
    }
    look(&stage.finish());
    assert_eq!(seen.len(), stream.len());
    for one in &stream {
        assert_eq!(Some(seen[&Aggregated::Tgid(Tgid(one.tgid))]), one.duration_ns);
    }
    let row = stage.row();
    assert_eq!((row.added, row.delivered, row.dropped["summed_up"], row.held), (10_000, 10_000, 10_000, 0));
    // All but those that were open at the end.
    assert_eq!(row.counts["early"], 10_000 - MOST as u64);
}

#[test]
fn nothing_to_sum_up_is_not_copied() {
    let whole = batch(&[call(1_000, 7, 0, 1), call(1_001, 7, 0, 1)]);
    let mut stage = aggregate(1, &[(Family::Block, By::Kind)]);
    assert_eq!(stage.apply(whole.clone()).bytes().as_ptr(), whole.bytes().as_ptr());
    // Nor are events that pass on.
    let mut stage = aggregate(1, &[(Family::Syscall, By::Kind)]).keep_events(true);
    assert_eq!(stage.apply(whole.clone()).bytes().as_ptr(), whole.bytes().as_ptr());
    assert_eq!((stage.row().delivered, stage.row().held, stage.keys()), (2, 0, 1));
    assert_eq!(leaves(&out_of(&stage.finish())).len(), 1);
}

#[test]
fn what_has_no_duration_or_no_subject_is_refused() {
    let refusal = |family, by| {
        let stage = Aggregate::new(Duration::from_secs(1));
        stage.sum_up(family, by).map(|_| ()).map_err(|error| (error, error.to_string()))
    };
    let (error, text) = refusal(Family::Sched, By::Kind).expect_err("between two records");
    assert_eq!(error, CannotSumUp::NoDuration { family: Family::Sched });
    assert_eq!(
        text,
        "records of sched have no duration, so they cannot be summed up here; expected one of syscall, tcp, block, \
         memory, lock, irq, wait"
    );
    let (error, text) = refusal(Family::Irq, By::Subject).expect_err("whatever was interrupted");
    assert_eq!(error, CannotSumUp::NoSubject { family: Family::Irq });
    assert_eq!(
        text,
        "records of irq have no subject; tell them apart by kind, tgid or cgroup, or take one of syscall, block, lock, wait"
    );
    assert_eq!(refusal(Family::Irq, By::Cgroup), Ok(()));
    assert_eq!(refusal(Family::Lock, By::Subject), Ok(()));
}

/// A histogram of user space has the same context as one of the kernel would have.
#[test]
fn contexts_of_histograms() {
    let mut id = [0; 64];
    id[..4].copy_from_slice(b"c0de");
    let name = abi::CgroupName { len: 4, flags: abi::CGROUP_IS_CONTAINER, reserved: 0, text: id };
    let seed = abi::ThreadSeed {
        start_ns: 10_000_000,
        parent_tgid: 1,
        comm: *b"postgres\0\0\0\0\0\0\0\0",
        flags: 0,
    };
    let header =
        Header { ktime_ns: 1_000, cgroup_id: 70, tgid: 9, tid: 9, cpu: CPU_NONE, ..Header::default() };
    let calls = [call(2_000, 9, 0, 10), call(2_001, 9, 0, 20), call(2_002, 8, 0, 30)];
    let told = [record(header, Kind::META_CGROUP, &name), record(header, Kind::META_THREAD, &seed)];
    let stream: Vec<_> = told.iter().chain(calls.iter().map(|one| &one.bytes)).cloned().collect();
    for by in [By::Kind, By::Tgid, By::Cgroup, By::Subject] {
        let mut stage = aggregate(100, &[(Family::Syscall, by)]);
        let (out, _) = through(&mut stage, vec![ProcessTable::new(BOOT).apply(batch_of(&stream))]);
        let (made, told): (Vec<_>, Vec<_>) = out.iter().partition(|(bytes, _)| histogram_of(bytes).is_some());
        assert_eq!((told.len(), made.len()), (2, if by == By::Tgid { 2 } else { 1 }));

        // The same histograms, as if they had come from the kernel.
        let mut table = ProcessTable::new(BOOT);
        table.apply(batch_of(&stream));
        let bytes: Vec<_> = made.iter().map(|(bytes, _)| bytes.clone()).collect();
        for ((_, context), (_, expected)) in made.iter().zip(out_of(&table.apply(batch_of(&bytes)))) {
            assert_eq!(*context, expected, "{by:?}");
        }
        let contexts: Vec<_> =
            made.iter().map(|(_, context)| (context.comm, context.container.as_deref())).collect();
        let expected = match by {
            By::Tgid => vec![(Comm::default(), None), (Comm::from_text(b"postgres"), None)],
            By::Cgroup => vec![(Comm::default(), Some("c0de"))],
            _ => vec![(Comm::default(), None)],
        };
        assert_eq!(contexts, expected, "{by:?}");
    }
}

/// Gives what it takes to the test.
struct Given(mpsc::Sender<Vec<u8>>);

impl Sink for Given {
    fn name(&self) -> &str {
        "given"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        for record in batch.records() {
            self.0.send(record.expect("whole frames").bytes().to_vec()).expect("the test listens");
        }
        Ok(())
    }
}

/// The records of a capture behind that stage, and behind none.
fn play(path: &Path, stage: Option<impl Stage + Send + 'static>) -> (Vec<Vec<u8>>, Ledger) {
    let (to, records) = mpsc::channel();
    let reader = CaptureReader::open(path).expect("a capture");
    let table = ProcessTable::new(kprobe_core::pipeline::Source::info(&reader).boot);
    let builder = Pipeline::builder(reader).stage(table);
    let builder = match stage {
        Some(stage) => builder.stage(stage),
        None => builder,
    };
    let mut run = builder.sink(Given(to)).build().expect("threads");
    while run.step().expect("readable").end.is_none() {
        assert_eq!(run.ledger().balance, 0, "{}", run.ledger());
    }
    let done = run.finish();
    assert_eq!(done.ledger.balance, 0, "{}", done.ledger);
    (records.iter().collect(), done.ledger)
}

#[test]
fn sums_of_a_recording() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agent/demo.kcap");
    let (events, _) = play(&demo, None::<Aggregate>);
    // Naively: the time of each call by its number, of each process.
    let mut by_call = BTreeMap::<u64, (u64, u64)>::new();
    let mut by_process = BTreeMap::<u32, (u64, u64)>::new();
    let mut calls = 0;
    for bytes in &events {
        let decoded = Event::decode(Record::new(bytes).expect("a record")).expect("it can be decoded");
        let Some(Event::Syscall(call)) = decoded else { continue };
        calls += 1;
        let duration_ns = call.origin.ktime_ns - call.enter_ns;
        let nr = call.nr.expect("a number").nr;
        for sum in [by_call.entry(nr.into()).or_default(), by_process.entry(call.origin.tgid.0).or_default()]
        {
            *sum = (sum.0 + 1, sum.1 + duration_ns);
        }
    }
    assert!(
        calls > 100 && by_call.len() > 10,
        "a recording with something in it: {calls}, {}",
        by_call.len()
    );

    for (by, most_keys) in [(By::Subject, 4096), (By::Subject, 3), (By::Tgid, 4096), (By::Tgid, 1)] {
        let stage = Aggregate::new(Duration::from_millis(1)).most_keys(most_keys);
        let stage = stage.sum_up(Family::Syscall, by).expect("calls have both");
        let (records, ledger) = play(&demo, Some(stage));
        let mut sums = BTreeMap::<Aggregated, (u64, u64)>::new();
        for histogram in records.iter().filter_map(|bytes| histogram_of(bytes)) {
            assert_eq!(histogram.kind, Kind::SYSCALL);
            let sum = sums.entry(histogram.of).or_default();
            *sum = (sum.0 + histogram.count(), sum.1 + histogram.sum_ns);
        }
        let expected: BTreeMap<_, _> = match by {
            By::Subject => by_call.iter().map(|(nr, sum)| (Aggregated::Subject(*nr), *sum)).collect(),
            _ => by_process.iter().map(|(tgid, sum)| (Aggregated::Tgid(Tgid(*tgid)), *sum)).collect(),
        };
        assert_eq!(sums, expected);
        let row = ledger.stages.last().expect("the stage");
        assert_eq!((row.stage.as_str(), row.dropped["summed_up"]), ("aggregate", calls));
        assert_eq!(row.counts.contains_key("early"), most_keys < 4096);
        assert_eq!(ledger.sinks[0].delivered, events.len() as u64 - calls + row.added);
        // In the order of time, as all that a merge gives.
        let times = records.iter().map(|bytes| Record::new(bytes).expect("a record").header().ktime_ns);
        assert_eq!(times.is_sorted(), events_are_sorted(&events));
    }

    let (records, ledger) = play(&demo, Some(Sample::one_in(10)));
    let kept = records.iter().filter(|bytes| bytes[24..26] == Kind::SYSCALL.0.to_le_bytes()).count() as u64;
    assert_eq!(kept, calls.div_ceil(10));
    assert!(ledger.stages.last().is_some_and(|row| row.added >= 1));
}

fn events_are_sorted(events: &[Vec<u8>]) -> bool {
    events.iter().map(|bytes| Record::new(bytes).expect("a record").header().ktime_ns).is_sorted()
}
