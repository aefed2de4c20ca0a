//! A million calls are a million records.

use std::time::Instant;

use kprobe_core::{abi::Kind, event::Event};
use kprobe_ebpf::{Filter, Recorder, Syscalls, filter::SyscallSet};

use crate::support::{fact, recording::Recording};

crate::trials!(a_million_calls, a_million_calls_by_four_threads, a_million_calls_that_may_not_fit);

const CALLS: u64 = 1_000_000;
/// A million records of 64 bytes with their frames fit.
const ROOM: usize = 128 << 20;

/// How many of a million calls were lost.
fn count(threads: u64, ring_bytes: usize) -> u64 {
    let probe = Syscalls::of(SyscallSet::named(["getppid"]).unwrap());
    let builder = Recorder::builder().probe(probe).filter(Filter::none()).ring_bytes(ring_bytes);
    let mut recording = Recording::keeping(builder, |event| !matches!(event, Event::Syscall(_)));
    let began = Instant::now();
    let mut workload = recording.spawn(&format!("getppid {} {threads}", CALLS / threads));
    recording.run(&mut workload);
    let took = began.elapsed();
    let books = recording.finish().books;
    let lost = books.lost(Kind::SYSCALL);
    assert_eq!(books.submitted(Kind::SYSCALL), CALLS);
    assert_eq!(books.received(Kind::SYSCALL) + lost, CALLS);
    assert_eq!(books.syscalls.unpaired_exits, 0);
    fact(&serde_json::json!({
        "fact": "getppid", "calls": CALLS, "threads": threads, "ring_bytes": ring_bytes, "lost": lost,
        "seconds": took.as_secs_f64(), "kernel": kprobe_ebpf::host::kernel_release().unwrap().text,
    }));
    lost
}

fn a_million_calls() {
    assert_eq!(count(1, ROOM), 0);
}

fn a_million_calls_by_four_threads() {
    assert_eq!(count(4, ROOM), 0);
}

/// Whether the reader keeps up is the machine's affair; that every record is accounted for is not.
fn a_million_calls_that_may_not_fit() {
    count(4, 8 << 20);
}
