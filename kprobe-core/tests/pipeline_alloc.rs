//! What a batch costs in allocations does not depend on how many records it has.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use kprobe_core::{
    abi::{self, Family, Header, Kind},
    decode::Record,
    event::By,
    pipeline::{
        Aggregate, Batch, BatchBuf, Context, Filter, Gaps, Merge, Pipeline, Policy, Polled, ProbeRow, Sample,
        Sink, SinkError, SinkOptions, Source, SourceError, Stage, StreamInfo,
    },
    process::ProcessTable,
};
use pipeline_support::{BOOT, info, record};

mod pipeline_support;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Of those, the ones as large as an eighth of a batch's buffer.
static LARGE: AtomicU64 = AtomicU64::new(0);

/// Allocations of all threads are counted: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn note(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    LARGE.fetch_add(u64::from(bytes >= BATCH_BYTES / 8), Relaxed);
}

// SAFETY: every call goes to `System` unchanged, which keeps the contract; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; `at` is from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the contract of `realloc`; `at` is from `System`.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// A system call by one of eight threads, on the stack, so that only what is looked at is counted.
fn call(ktime_ns: u64, cpu: u16, seq: u32) -> [u8; 32 + size_of::<abi::Syscall>()] {
    let header =
        Header { ktime_ns, tgid: 9, tid: 9 + seq % 8, cpu, seq, kind: Kind::SYSCALL.0, ..Header::default() };
    let mut bytes = [0; 32 + size_of::<abi::Syscall>()];
    bytes[..32].copy_from_slice(zerocopy::IntoBytes::as_bytes(&header));
    bytes
}

/// Allocations for each poll in the steady state, when polls have so many records from each of two rings.
fn per_poll(records: u64) -> u64 {
    const WARM_UP: u64 = 50;
    const POLLS: u64 = 50;
    let mut source = BatchBuf::with_capacity(1 << 20);
    let mut gaps = Gaps::new();
    let mut merge = Merge::new(Duration::from_nanos(2 * records), 16 << 20);
    let mut table = ProcessTable::new(BOOT);
    let mut seen = 0;
    let mut before = 0;
    let mut seq = 0;
    for poll in 0..WARM_UP + POLLS {
        if poll == WARM_UP {
            before = ALLOCATIONS.load(Relaxed);
        }
        for ring in 0..2 {
            for n in 0..records {
                source.push(Record::new(&call(poll * records + n, ring, seq)).expect("a record"));
                seq += 1;
            }
        }
        let batch = source.take();
        assert_eq!(gaps.observe_batch(&batch).bad_frames, 0);
        merge.push(batch, (poll + 1) * records);
        while let Some(batch) = merge.pop() {
            seen += table.apply(batch).enriched().flatten().count() as u64;
        }
    }
    assert!(seen >= (WARM_UP + POLLS - 4) * 2 * records, "the stream flows");
    (ALLOCATIONS.load(Relaxed) - before).div_ceil(POLLS)
}

/// Allocations of a stage for each batch in the steady state, when batches have so many records. Says how many it passed on.
fn per_batch(stage: &mut impl Stage, records: u64) -> (u64, u64) {
    const WARM_UP: u64 = 50;
    const BATCHES: u64 = 50;
    let container: std::sync::Arc<str> = "c0de".into();
    let mut source = BatchBuf::with_capacity(1 << 20);
    let (mut passed, mut allocations) = (0, 0);
    for batch in 0..WARM_UP + BATCHES {
        for n in 0..records {
            let context = Context { container: Some(container.clone()), ..Context::default() };
            let bytes = call(batch * records + n, 0, u32::try_from(n).expect("few"));
            source.push_enriched(Record::new(&bytes).expect("a record"), &context);
        }
        let whole = source.take();
        let before = ALLOCATIONS.load(Relaxed);
        let out = stage.apply(whole);
        if batch >= WARM_UP {
            allocations += ALLOCATIONS.load(Relaxed) - before;
        }
        passed += out.records().flatten().count() as u64;
    }
    (allocations.div_ceil(BATCHES), passed / (WARM_UP + BATCHES))
}

/// Gives so many records at each poll, and not before all but a few of the batches before have been taken.
struct Steady {
    info: StreamInfo,
    each: u64,
    given: u64,
    polls: u64,
    taken: Receiver<()>,
}

/// Bytes of a batch.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that are under way at once.
const AHEAD: u64 = 3;

impl Source for Steady {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn poll(&mut self, out: &mut BatchBuf, _: Option<Duration>) -> Result<Polled, SourceError> {
        if self.polls >= AHEAD {
            self.taken.recv().expect("the sink takes each batch");
        }
        self.polls += 1;
        for _ in 0..self.each {
            let seq = u32::try_from(self.given).expect("few");
            out.push(Record::new(&call(self.given, 0, seq)).expect("a record"));
            self.given += 1;
        }
        Ok(Polled::until(self.given))
    }

    fn probes(&self) -> Vec<ProbeRow> {
        let probe = "syscall".to_owned();
        vec![ProbeRow { probe, cpu: Some(0), submitted: self.given, lost: 0, sampled_out: 0 }]
    }
}

/// Looks at each record.
struct Taker {
    seen: u64,
    taken: SyncSender<()>,
}

impl Sink for Taker {
    fn name(&self) -> &'static str {
        "taker"
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        for record in batch.records() {
            assert_eq!(u64::from(record.expect("a record").header().seq), self.seen);
            self.seen += 1;
        }
        self.taken.send(()).map_err(SinkError::fatal)
    }
}

/// Allocations for a thousand steps of a pipeline in the steady state, when each step has so many records, and how many
/// of all were as large as a buffer of records.
fn per_thousand_steps(records: u64) -> (u64, u64) {
    /// Buffers that are used up while nothing is looked at, and again while it is.
    const BUFFERS: u64 = 24;
    let of_a_step = records * 8 * call(0, 0, 0).len().div_ceil(8) as u64;
    let steps = (BUFFERS * 2 * BATCH_BYTES as u64).div_ceil(of_a_step).max(100);
    // As many as can be under way never wait here.
    let (taken, when) = sync_channel(8);
    let source = Steady { info: info(), each: records, given: 0, polls: 0, taken: when };
    let sink = Taker { seen: 0, taken };
    let pipeline = Pipeline::builder(source).sink_with(sink, SinkOptions::default().policy(Policy::Block));
    // Each step ends a batch.
    let mut pipeline = pipeline.batch(BATCH_BYTES, Duration::ZERO).build().expect("a thread");
    let mut step = || assert_eq!(pipeline.step().expect("it goes on").records, records);
    (0..steps).for_each(|_| step());
    let (before, large) = (ALLOCATIONS.load(Relaxed), LARGE.load(Relaxed));
    (0..steps).for_each(|_| step());
    let allocations = ALLOCATIONS.load(Relaxed) - before;
    let large = LARGE.load(Relaxed) - large;
    let given = pipeline.source().given;
    let row = pipeline.finish().ledger.sinks.remove(0);
    assert_eq!((row.delivered, given), (given, 2 * steps * records), "each record arrived");
    ((1_000 * allocations).div_ceil(steps), large)
}

#[test]
fn a_pipeline_uses_its_buffers_again() {
    let _alone = alone();
    // The last is more than a batch is meant to have.
    for records in [10, 100, 1_000, 4_000] {
        let (allocations, large) = per_thousand_steps(records);
        // A timer where a batch waits behind another, and now and then a piece of the queue.
        assert!(allocations <= 2_000, "{allocations} allocations for 1000 steps of {records} records");
        // Two dozen buffers were filled; one or the other may be new because more batches were under way at once than ever before.
        assert!(large <= AHEAD, "{large} large allocations in steps of {records} records");
    }
}

/// A batch of so many bytes, or a few more.
fn full(buf: &mut BatchBuf, bytes: usize) -> Batch {
    buf.make_room(bytes);
    while buf.len() < bytes {
        buf.push(Record::new(&call(0, 0, 0)).expect("a record"));
    }
    buf.take()
}

/// The many buffers of a backlog do not go round for ever after: few stay in a cache.
#[test]
fn after_a_backlog_few_buffers_are_used() {
    const ROOM: usize = 64 << 10;
    let _alone = alone();
    let mut buf = BatchBuf::default();
    let backlog: Vec<Batch> = (0..30).map(|_| full(&mut buf, ROOM)).collect();
    drop(backlog);
    let places = (0..100).map(|_| full(&mut buf, ROOM).bytes().as_ptr() as usize);
    let places: BTreeSet<usize> = places.collect();
    assert!(places.len() <= 2, "{} buffers where one batch is under way at a time", places.len());
}

/// A batch that a sink does not let go costs its own buffer, not those of the batches behind it.
#[test]
fn a_batch_that_is_kept_keeps_no_other_buffer() {
    const ROOM: usize = 64 << 10;
    let _alone = alone();
    let mut buf = BatchBuf::default();
    let kept = full(&mut buf, ROOM);
    let same = kept.bytes().to_vec();
    (0..8).for_each(|_| drop(full(&mut buf, ROOM)));
    let before = LARGE.load(Relaxed);
    (0..1_000).for_each(|_| drop(full(&mut buf, ROOM)));
    assert_eq!(LARGE.load(Relaxed), before, "a buffer was taken anew while others had come back");
    assert_eq!(kept.bytes(), same, "what is kept stays as it was");
}

#[test]
fn no_allocation_for_a_record() {
    let _alone = alone();
    let warm = record(Header::default(), Kind::SYSCALL, &abi::Syscall::default());
    assert_eq!(warm.len(), 32 + size_of::<abi::Syscall>());
    for records in [10, 100, 1000] {
        let allocations = per_poll(records);
        assert!(allocations <= 24, "{allocations} allocations for a poll of {} records", 2 * records);

        let in_all = |what: &str, (allocations, passed): (u64, u64), expected: u64, most: u64| {
            assert_eq!(passed, expected, "{what}");
            assert!(
                allocations <= most,
                "{what}: {allocations} allocations for a batch of {records} records"
            );
        };
        let mut none = Filter::by("none", |_| true);
        in_all("whole", per_batch(&mut none, records), records, 0);
        let mut half = Filter::by("half", |one| one.record.header().tid % 2 == 0);
        in_all("half", per_batch(&mut half, records), records / 2, 4);
        let mut long = Filter::min_duration(|_| 1);
        in_all("long", per_batch(&mut long, records), records, 0);
        let mut tenth = Sample::one_in(10);
        in_all("tenth", per_batch(&mut tenth, records), records / 10, 4);
        // An interval of ten batches.
        let sums = Aggregate::new(Duration::from_nanos(10 * records));
        let mut sums = sums.sum_up(Family::Syscall, By::Subject).expect("calls have subjects");
        in_all("sums", per_batch(&mut sums, records), 0, 4);
    }
}
