//! Counts what is allocated, in the processes of which that is asked.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Whether it counts. Where it does not, an allocation pays no more than this look: contestants of other tests allocate, too.
static ON: AtomicBool = AtomicBool::new(false);
static TIMES: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// What was allocated since counting began, by all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heap {
    pub(crate) times: u64,
    pub(crate) bytes: u64,
}

impl Heap {
    /// From now on this process counts.
    pub(crate) fn count() {
        ON.store(true, Relaxed);
    }

    pub(crate) fn now() -> Self {
        Self { times: TIMES.load(Relaxed), bytes: BYTES.load(Relaxed) }
    }

    /// What came since then.
    pub(crate) fn since(self, then: Self) -> Self {
        Self { times: self.times - then.times, bytes: self.bytes - then.bytes }
    }
}

#[inline]
fn note(bytes: usize) {
    if ON.load(Relaxed) {
        TIMES.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

// SAFETY: every call goes to `System` unchanged, which keeps the contract; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
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
