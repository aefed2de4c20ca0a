//! How a reader goes to sleep without missing a record.
//!
//! Program and reader each write one thing and then read the other's (Dekker): the program advances the producer
//! position and reads `idle`, the reader sets `idle` and reads the producer position. Each has a full barrier between
//! its two steps, so at least one of them sees what the other wrote. The interleavings that matter:
//!
//! - The program sees `idle`. It takes it back by an exchange, so that of several programs on several CPUs one wakes,
//!   and submits *or discards* with `BPF_RB_FORCE_WAKEUP`. The reader is blocked or about to block; the wake-up runs
//!   after the record is committed, and epoll keeps it if it comes before the reader blocks.
//! - The program does not see `idle`, so the reader sees the advanced position: the record is there, perhaps not yet
//!   committed. It does not block, it naps. It must not wait for the commit, which comes without a wake-up.
//! - Two programs: A saw `idle` and will wake; B did not, and reserved before A. A's wake-up finds B's record in front,
//!   not committed. The reader comes back here, sees a position that is ahead of its own, and naps.
//! - The reader stops being idle of its own accord (a nap's end, its `Waker`) while A has taken `idle` and has not
//!   committed: A's wake-up comes late, finds nothing, and costs one turn of the loop.
//!
//! Rings whose programs know nothing of `idle` and submit with flags 0 work too: `bpf_ringbuf_commit` then wakes if
//! the reader's position is that of the record. The reader stored its position before the barrier in [`announce`], the
//! kernel's `xchg` of the record's header is the other barrier.

use super::sync::{AtomicU32, AtomicUsize, Ordering, fence};

/// Says that the next record must wake the reader. Pairs with the program's read of `ReaderState::idle`.
pub(super) fn announce<'a>(idle: impl Iterator<Item = &'a AtomicU32>) {
    for idle in idle {
        idle.store(1, Ordering::Relaxed);
    }
    // Pairs with the program's atomic fetch-and-add of `submitted`: a value-returning read-modify-write, which the
    // kernel's memory model and every JIT make a full barrier.
    fence(Ordering::SeqCst);
}

/// Whether a record was reserved behind `consumed`, after [`announce`]. If so, the reader must [`retract`].
pub(super) fn has_reserved(producer: &AtomicUsize, consumed: usize) -> bool {
    // Relaxed, as every load from a read-only mapping; nothing is read by what it says, and its place behind `announce` is
    // that fence's doing.
    producer.load(Ordering::Relaxed) != consumed
}

/// Takes the announcement back. Needs no order: a program that sees it late wakes for nothing.
pub(super) fn retract(idle: &AtomicU32) {
    // Most often the program has done it, and the line stays shared.
    if idle.load(Ordering::Relaxed) != 0 {
        idle.store(0, Ordering::Relaxed);
    }
}
