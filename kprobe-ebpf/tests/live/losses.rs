//! Rings that are too small: what does not fit is counted, to the record.

use kprobe_core::{
    abi::Kind,
    event::{Event, Lost},
};
use kprobe_ebpf::{Filter, Process, Recorder, Sched, Syscalls};

use crate::support::recording::Recording;

crate::trials!(a_reader_that_does_not_read, a_ring_that_is_too_small);

/// The smallest ring there is.
fn smallest() -> usize {
    rustix::param::page_size()
}

fn a_reader_that_does_not_read() {
    const CALLS: u64 = 100_000;
    let builder = Recorder::builder().probe(Syscalls::all()).filter(Filter::none()).ring_bytes(smallest());
    let mut recording = Recording::start(builder);
    let mut workload = recording.spawn(&format!("getppid {CALLS} 1"));
    assert!(workload.wait().success());
    let recorded = recording.finish();
    let books = &recorded.books;
    assert!(books.submitted(Kind::SYSCALL) > CALLS);
    // A record of 64 bytes and its frame: what fits into a page, and no more.
    let received = books.received(Kind::SYSCALL);
    assert!((1..=smallest() as u64 / 72).contains(&received), "{received}");
    let lost = recorded.all::<Lost>();
    assert!(lost.iter().all(|lost| lost.kind == Kind::SYSCALL));
    assert_eq!(lost.iter().map(|lost| lost.count).sum::<u64>(), books.lost(Kind::SYSCALL));
}

fn a_ring_that_is_too_small() {
    let builder = Recorder::builder()
        .probe(Syscalls::all())
        .probe(Process::default())
        .probe(Sched::default())
        .filter(Filter::none())
        .ring_bytes(smallest());
    let mut recording = Recording::keeping(builder, |event| matches!(event, Event::Lost(_)));
    let mut workload = recording.spawn("getppid 50000 4");
    recording.run(&mut workload);
    let recorded = recording.finish();
    let books = &recorded.books;
    assert!(books.submitted(Kind::SYSCALL) > 200_000);
    assert!(books.received(Kind::SYSCALL) > 0 && books.lost_in_all() > 0, "{:?}", books.rows);
}
