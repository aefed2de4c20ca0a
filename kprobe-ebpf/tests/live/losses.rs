//! Rings that are too small: what does not fit is counted, to the record.

use std::{
    fs,
    mem::offset_of,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicUsize, Ordering},
};

use kprobe_core::{
    abi::{self, Header, Kind},
    decode::FRAME_HEADER,
    event::{Event, Lost, Tid},
    pipeline::{BatchBuf, Pipeline},
};
use kprobe_ebpf::{Filter, Process, Recorder, Sched, Syscalls, filter::SyscallSet};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::support::{kernel::Deadline, recording::Recording, workload::sys};

crate::trials!(a_reader_that_does_not_read, a_ring_that_is_too_small, a_ring_that_another_program_reads);

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

/// Another program that reads the ring of this process.
struct Thief {
    consumer: &'static AtomicUsize,
    producer: &'static AtomicUsize,
}

impl Thief {
    fn new() -> Self {
        let is_ring = |number: &i32| {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
            info.lines().any(|line| line.strip_prefix("map_type:").is_some_and(|kind| kind.trim() == "27"))
        };
        let entries = fs::read_dir("/proc/self/fd").unwrap();
        let numbers: Vec<i32> =
            entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        let number = numbers.into_iter().find(is_ring).unwrap();
        // SAFETY: the recorder of this test has it open.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let position = |page: usize, prot| {
            let (null, offset) = (std::ptr::null_mut(), page * smallest());
            // SAFETY: without MAP_FIXED the kernel picks addresses that nothing else uses.
            let start = unsafe { mmap(null, smallest(), prot, MapFlags::SHARED, fd, offset as u64) }.unwrap();
            // SAFETY: the page begins with a position, which everybody accesses atomically, and is never unmapped.
            unsafe { AtomicUsize::from_ptr(start.cast()) }
        };
        Self {
            consumer: position(0, ProtFlags::READ | ProtFlags::WRITE),
            producer: position(1, ProtFlags::READ),
        }
    }

    fn take_all(&self) {
        self.consumer.store(self.producer.load(Ordering::Relaxed), Ordering::Release);
    }
}

/// The kernel writes over what the thief took. The recorder, which has not read it, then finds a length of the user's
/// where the header of a record was. It says so each time, and the ring's records are accounted for.
fn a_ring_that_another_program_reads() {
    const ABSURD: usize = 0x0fff_ffff;
    let frame = FRAME_HEADER + size_of::<Header>() + size_of::<abi::Syscall>();
    let requested = FRAME_HEADER + size_of::<Header>() + offset_of!(abi::Syscall, requested);
    let last = (0..).find(|record| (record * frame + requested).is_multiple_of(smallest())).unwrap();

    let probe = Syscalls::of(SyscallSet::named(["pread64"]).unwrap());
    let own = Filter::tids([Tid(sys::tid())]).include_self(true);
    let recorder = Recorder::builder().probe(probe).filter(own).ring_bytes(smallest()).attach().unwrap();
    let thief = Thief::new();
    for _ in 0..=last {
        assert_eq!(sys::call(libc::SYS_pread64, [-1, 0, ABSURD as i64, 0, 0, 0]), -i64::from(libc::EBADF));
        thief.take_all();
    }

    let said = "ring buffer 1 of 1 holds bytes that are no records; is another program reading it?";
    let thread = recorder.spawn_thread(|_| ()).unwrap();
    Deadline::wait_for("the thread to end", || thread.is_finished());
    let failed = thread.stop().unwrap_err();
    assert_eq!(failed.to_string(), format!("the drain thread ended early: {said}"));
    let mut recorder = *failed.recorder;
    assert_eq!(recorder.drain(&mut BatchBuf::default()).unwrap_err().to_string(), said);
    let mut run = Pipeline::builder(recorder).build().unwrap();
    assert_eq!(run.step().unwrap_err().to_string(), format!("recorder: {said}"));
    let ledger = run.finish().ledger;
    assert!(ledger.submitted() > last as u64);
    assert_eq!((ledger.balance, ledger.stages[0].dropped["shutdown"]), (0, ledger.submitted()), "{ledger}");
}
