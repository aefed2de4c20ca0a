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

#[macro_use]
mod targets;

mod block;
mod irq;
mod lock;
mod memory;
mod pipe;
mod process;
mod sched;
mod security;
mod syscall;
mod tcp;
mod udp;

#[cfg(not(feature = "before-6.1"))]
mod path;
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
