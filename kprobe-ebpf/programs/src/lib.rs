//! What the kernel programs are made of.
//!
//! Nothing here allocates, loops without a bound, or reads user memory; what a program may touch is checked by the
//! kernel's verifier each time it is loaded. The programs themselves, one function for each tracepoint, are in
//! `src/bin/kprobe/`; `src/bin/custom.rs` is the smallest object that a user may bring along.
//!
//! ```text
//!  kernel -> bin/kprobe/ -> sched process syscall path tcp udp pipe block fault lock wait irq ...
//!                         |                                  what happened: a file for each family, there and here
//!                         |  follow context                  whose it is, and where
//!                         |  storage                         what is remembered of a thread
//!                         |  task file inet <- memory <- offsets  kernel structs, at offsets that the loader found
//!                         v
//!                       filter <- bits, current <- threads   whose events are wanted
//!                         v
//!                       emit -> cpu                          sampling, numbering, ring buffer, counters, wake-up
//!                         `-> aggregate                      or only counted, by class of duration
//! ```
//!
//! Two things come from outside. *Frozen globals* ([`frozen`], [`offsets`]) are set before the load; the verifier sees
//! constants and drops the code that they switch off. *Maps* hold what may change while the programs run.
//!
//! # What the loader has to see to
//!
//! - `RINGS`, `READERS`, `CPUS`, `HISTOGRAMS`, `ENTERS` and `CGROUPS` are declared with one element and get their sizes at
//!   the load. The pid sets are declared whole; one that is not used can be cut to one element.
//! - `follow_fork_*` is attached before all else, and `REMEMBERS` is 1 only if that is `follow_fork_btf`.
//! - Entries are attached before returns (`sys_enter`, `sys_exit`): so only calls that were under way count as unpaired.
//!   Of the interrupt programs the exits come first, or a depth stays behind.
//! - `check_mask` and `wake_bytes` of every reader are set: all zero means a wake-up for each record.
//!
//! # Why so many ways to attach
//!
//! The kernel does not run a program again on a CPU where it has not finished: it skips the event, and counts it only in
//! `bpf_prog_info::recursion_misses`. As long as tracepoints disabled preemption this could not happen to programs like
//! these. Since Linux 7.0 a thread can be preempted inside a raw tracepoint's program, and until it runs again every event
//! of the other threads on that CPU is skipped: with four busy threads on two CPUs, a third to a half of them. So where it matters the
//! programs come in a third form, for `tracepoint` (perf), which still disables preemption, and what can be had in a
//! place where the scheduler holds its locks is taken there: a new thread is seen in `sched_wakeup_new`.
//!
//! # Two builds
//!
//! Kernels before 6.1 get programs of their own, built from these sources with the feature `before-6.1`: without task
//! storage (Linux 5.11), without atomic instructions that return something (5.12), and without what is in typed pointers,
//! which only the main build follows. What is done by other means there is in the files of `before_6_1/`, each in the place
//! of the file of that name here; what these kernels pass in another way is in `kernel.rs`, here and there. Streams of unix
//! sockets, waits for the kernel's locks and cookies of sockets need more, and are not in that build.
#![no_std]
#![feature(asm_experimental_arch)]

pub mod aggregate;
pub mod args;
pub mod block;
pub mod context;
pub mod cpu;
pub mod current;
pub mod emit;
pub mod fault;
pub mod file;
pub mod filter;
pub mod follow;
pub mod frozen;
pub mod inet;
pub mod irq;
pub mod lock;
pub mod memory;
pub mod offsets;
pub mod oom;
pub mod pipe;
pub mod place;
pub mod process;
pub mod reclaim;
pub mod sched;
pub mod security;
pub mod syscall;
pub mod task;
pub mod tcp;
pub mod udp;

// In both builds, by other means in each.
#[cfg_attr(feature = "before-6.1", path = "before_6_1/atomic.rs")]
pub mod atomic;
#[cfg_attr(feature = "before-6.1", path = "before_6_1/bits.rs")]
pub mod bits;
#[cfg_attr(feature = "before-6.1", path = "before_6_1/kernel.rs")]
pub mod kernel;
#[cfg_attr(feature = "before-6.1", path = "before_6_1/mapping.rs")]
pub mod mapping;
#[cfg_attr(feature = "before-6.1", path = "before_6_1/sequence.rs")]
pub mod sequence;
#[cfg_attr(feature = "before-6.1", path = "before_6_1/storage.rs")]
pub mod storage;
#[cfg_attr(feature = "before-6.1", path = "before_6_1/threads.rs")]
pub mod threads;

// Only there.
#[cfg(feature = "before-6.1")]
#[path = "before_6_1/functions.rs"]
pub mod functions;

// With what only later kernels have.
#[cfg(not(feature = "before-6.1"))]
pub mod path;
#[cfg(not(feature = "before-6.1"))]
pub mod secret;
#[cfg(not(feature = "before-6.1"))]
pub mod unix;
#[cfg(not(feature = "before-6.1"))]
pub mod wait;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing panics; if something could, the verifier would refuse this loop.
    loop {}
}
