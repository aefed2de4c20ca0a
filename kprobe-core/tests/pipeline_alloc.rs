//! What a batch costs in allocations does not depend on how many records it has.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use kprobe_core::{
    abi::{self, Header, Kind},
    decode::Record,
    pipeline::{BatchBuf, Gaps, Merge, Stage},
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
                let header = Header {
                    ktime_ns: poll * records + n,
                    tgid: 9,
                    tid: 9,
                    cpu: ring,
                    seq,
                    ..Header::default()
                };
                // Made on the stack, so that only what is looked at is counted.
                let mut bytes = [0; 32 + size_of::<abi::Syscall>()];
                bytes[..32].copy_from_slice(zerocopy::IntoBytes::as_bytes(&header));
                bytes[24..26].copy_from_slice(&Kind::SYSCALL.0.to_le_bytes());
                source.push(Record::new(&bytes).expect("a record"));
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

#[test]
fn no_allocation_for_a_record() {
    let warm = record(Header::default(), Kind::SYSCALL, &abi::Syscall::default());
    assert_eq!(warm.len(), 32 + size_of::<abi::Syscall>());
    for records in [10, 100, 1000] {
        let allocations = per_poll(records);
        assert!(allocations <= 24, "{allocations} allocations for a poll of {} records", 2 * records);
    }
}
