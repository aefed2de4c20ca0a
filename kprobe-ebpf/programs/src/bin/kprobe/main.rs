//! The programs that come with kprobe, a file for each family. What their names end with is how they attach:
//!
//! - `_btf`: a tracepoint whose arguments have types (`tp_btf`), which are read by direct loads;
//! - `_raw`: a raw tracepoint, whose arguments are read by a helper;
//! - `_tp`: a `tracepoint` by way of perf, which alone disables preemption on Linux 7.0 and later (see the library);
//! - `_entry`, `_exit`: a function whose arguments have types (`fentry`, `fexit`);
//! - `_kprobe`, `_kretprobe`: a breakpoint at a function, and at its return;
//! - `_perf`: a software event of perf.
#![no_std]
#![no_main]

/// GPL, since the helpers that read kernel memory ask for it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg_attr(feature = "before-6.1", expect(unused_macros, reason = "no family there has such targets"))]
#[macro_use]
mod targets;

mod irq;
mod process;
mod sched;
mod syscall;

#[cfg(not(feature = "before-6.1"))]
mod block;
#[cfg(not(feature = "before-6.1"))]
mod lock;
#[cfg(not(feature = "before-6.1"))]
mod memory;
#[cfg(not(feature = "before-6.1"))]
mod pipe;
#[cfg(not(feature = "before-6.1"))]
mod security;
#[cfg(not(feature = "before-6.1"))]
mod tcp;
#[cfg(not(feature = "before-6.1"))]
mod udp;
#[cfg(not(feature = "before-6.1"))]
mod unix;
#[cfg(not(feature = "before-6.1"))]
mod wait;

kprobe_programs::follow_programs!();

// What later kernels free with the thread.
#[cfg(feature = "before-6.1")]
raw!(storage_exit_raw, "sched_process_exit", |_: kprobe_programs::args::Args| {
    kprobe_programs::storage::forget_current();
});
