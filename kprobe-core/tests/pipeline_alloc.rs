//! What a batch costs in allocations does not depend on how many records it has.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use kprobe_core::{
    abi::{self, Family, Header, Kind},
    decode::Record,
    event::By,
    pipeline::{Aggregate, BatchBuf, Context, Filter, Gaps, Merge, Sample, Stage},
    process::ProcessTable,
};
use pipeline_support::{BOOT, record};

mod pipeline_support;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to `System` unchanged, which keeps the contract; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; `at` is from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
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
            source.push_enriched(Record::new(&bytes).expect("a record"), context);
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

#[test]
fn no_allocation_for_a_record() {
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
