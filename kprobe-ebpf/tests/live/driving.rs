//! A recorder is driven in three ways, and each gets every record.

use std::{os::fd::AsFd, sync::mpsc, time::Duration};

use kprobe_core::{
    abi::Kind,
    pipeline::{BatchBuf, Source},
};
use kprobe_ebpf::{Filter, Recorder, RecorderBuilder, Syscalls, filter::SyscallSet, ring::Next};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::support::{
    kernel::{BpfObjects, Deadline},
    recording::Recording,
};

crate::trials!(
    by_a_loop_of_the_users_own,
    by_a_thread,
    a_thread_that_is_dropped,
    a_thread_whose_function_panics,
    as_a_source,
    an_idle_recorder_is_woken_by_one_record,
    a_waker,
    where_the_system_refuses_to_wait,
);

const CALLS: u64 = 50_000;

fn builder() -> RecorderBuilder<(Syscalls, ())> {
    Recorder::builder().probe(Syscalls::of(SyscallSet::named(["getppid"]).unwrap())).filter(Filter::none())
}

fn check<P>(recording: Recording<P>) {
    let recorded = recording.finish().lossless();
    assert_eq!(recorded.books.received(Kind::SYSCALL), CALLS);
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

fn by_a_loop_of_the_users_own() {
    let mut recording = Recording::start(builder());
    let mut workload = recording.spawn(&format!("getppid {CALLS} 1"));
    let pid = rustix::process::Pid::from_child(&workload.child);
    let child = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let (records, end) = (epoll::EventData::new_u64(1), epoll::EventData::new_u64(2));
    epoll::add(&epoll, &recording.recorder, records, epoll::EventFlags::IN).unwrap();
    epoll::add(&epoll, &child, end, epoll::EventFlags::IN).unwrap();
    let mut buf = BatchBuf::default();
    let mut ended = false;
    while !ended {
        let next = recording.recorder.drain(&mut buf).unwrap().next;
        recording.take(&buf.take());
        let timeout = match next {
            Next::Idle => None,
            Next::Again(nap) => Some(timespec(nap)),
        };
        let mut events = Vec::with_capacity(2);
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()).unwrap();
        ended = events.iter().any(|event| event.data.u64() == 2);
    }
    assert!(workload.wait().success());
    check(recording);
}

fn by_a_thread() {
    let mut recorder = builder().attach().unwrap();
    let command = &mut crate::support::child::workload(&format!("getppid {CALLS} 1"));
    let mut child = recorder.spawn(command).unwrap();
    let (send, batches) = mpsc::channel();
    let thread = recorder.spawn_thread(move |batch| send.send(batch).unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    let mut recording = Recording::of(thread.stop().unwrap(), |_| true);
    batches.iter().for_each(|batch| recording.take(&batch));
    check(recording);
}

fn a_thread_that_is_dropped() {
    let recorder = builder().attach().unwrap();
    let objects = BpfObjects::own();
    // Dropped with the function that holds it, when the thread is over.
    let (alive, over) = mpsc::channel::<()>();
    let thread = recorder
        .spawn_thread(move |_| {
            let _ = alive.send(());
        })
        .unwrap();
    assert!(!thread.is_finished());
    drop(thread);
    assert_eq!(over.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    assert_eq!(BpfObjects::own(), BpfObjects::default());
    objects.wait_until_gone();
}

fn a_thread_whose_function_panics() {
    let mut recorder = builder().attach().unwrap();
    let command = &mut crate::support::child::workload(&format!("getppid {CALLS} 1"));
    let mut child = recorder.spawn(command).unwrap();
    let thread = recorder.spawn_thread(|_| panic!("no more")).unwrap();
    assert!(child.wait().unwrap().success());
    Deadline::wait_for("the thread to end", || thread.is_finished());
    let failed = thread.stop().unwrap_err();
    assert_eq!(
        failed.to_string(),
        "the drain thread ended early: the function that takes the batches panicked: no more"
    );
    // The books and the records that nobody drained are still there.
    let mut recorder = *failed.recorder;
    recorder.stop();
    let mut rest = BatchBuf::default();
    while !recorder.poll(&mut rest, None).unwrap().end {}
    let calls: u64 =
        recorder.probes().iter().filter(|row| row.probe == "syscall").map(|row| row.submitted).sum();
    assert_eq!(calls, CALLS);
    assert!(rest.take().records().any(|record| record.unwrap().kind() == Kind::SYSCALL));
}

fn as_a_source() {
    let mut recording = Recording::start(builder());
    let mut workload = recording.spawn(&format!("getppid {CALLS} 1"));
    let mut buf = BatchBuf::default();
    let mut complete = 0;
    while workload.child.try_wait().unwrap().is_none() {
        let source: &mut dyn Source = &mut recording.recorder;
        let polled = source.poll(&mut buf, Some(Duration::from_millis(50))).unwrap();
        assert!(!polled.end && polled.complete_until_ns >= complete);
        complete = polled.complete_until_ns;
        recording.take(&buf.take());
    }
    check(recording);
}

/// The descriptor is readable within this time.
fn readable<P>(recorder: &Recorder<P>, within: Duration) -> bool {
    let fd = recorder.as_fd();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timespec(within))).unwrap() > 0
}

/// Drains until the recorder says that the next record will wake it.
fn until_idle<P>(recording: &mut Recording<P>) {
    let mut buf = BatchBuf::default();
    let deadline = Deadline::new();
    while let Next::Again(nap) = recording.recorder.drain(&mut buf).unwrap().next {
        recording.take(&buf.take());
        deadline.check("an idle recorder");
        readable(&recording.recorder, nap);
    }
    recording.take(&buf.take());
}

fn an_idle_recorder_is_woken_by_one_record() {
    let mut recording = Recording::start(builder());
    let mut workload = recording.spawn("gate 1 0");
    assert_eq!(workload.line(), "ready");
    let rounds = 20;
    for _ in 0..rounds {
        until_idle(&mut recording);
        assert!(!readable(&recording.recorder, Duration::from_millis(2)), "readable without a record");
        workload.go();
        assert!(readable(&recording.recorder, Duration::from_secs(30)), "not woken");
        assert_eq!(workload.line(), "done");
    }
    workload.close_input();
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    assert_eq!(recorded.books.received(Kind::SYSCALL), rounds);
}

fn a_waker() {
    let mut recording = Recording::start(builder());
    let mut buf = BatchBuf::default();
    for _ in 0..20 {
        until_idle(&mut recording);
        // While it waits without limit, or just before.
        let waker = recording.recorder.waker();
        let thread = std::thread::spawn(move || waker.wake());
        recording.recorder.poll(&mut buf, None).unwrap();
        thread.join().unwrap();
    }
    recording.take(&buf.take());
    recording.finish();
}

/// From now on a system call whose first argument is this one fails in this thread and its children.
fn refuse(nr: i64, first_argument: u32) {
    let op = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let skip_unless = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let number_at = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let argument_at = std::mem::offset_of!(libc::seccomp_data, args) as u32;
    let mut filter = [
        op(load, 0, number_at),
        op(skip_unless, 3, nr as u32),
        op(load, 0, argument_at),
        op(skip_unless, 1, first_argument),
        op(libc::BPF_RET, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        op(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let set = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `program` is what the call takes, and it and the filter live longer than the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, set, 0, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// On a machine with `nohz_full` CPUs membarrier is refused, and whoever gave up CAP_BPF cannot make a map.
fn where_the_system_refuses_to_wait() {
    const MEMBARRIER_CMD_GLOBAL: u32 = 1;
    const BPF_MAP_CREATE: u32 = 0;
    for refuse_maps in [false, true] {
        let test = move || {
            let mut recording = Recording::start(builder());
            let mut workload = recording.spawn(&format!("getppid {CALLS} 1"));
            recording.run(&mut workload);
            refuse(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL);
            if refuse_maps {
                refuse(libc::SYS_bpf, BPF_MAP_CREATE);
            }
            recording.stop();
            let source: &dyn Source = &recording.recorder;
            assert_eq!((source.leaves_some(), source.next_seq(0).is_none()), (refuse_maps, refuse_maps));
            check(recording);
        };
        std::thread::spawn(test).join().unwrap();
    }
}
