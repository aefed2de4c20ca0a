//! A recorder in a test: drained to the last record, its books compared at the end.

use std::{process::Command, time::Duration};

use kprobe_core::{
    abi::Kind,
    event::{Event, TypedEvent},
    pipeline::{Batch, BatchBuf, Source},
};
use kprobe_ebpf::{Recorder, RecorderBuilder};

use super::{
    books::{Books, Closed, each_event},
    child::{Workload, workload},
};

/// How long a wait for records goes on before the child is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// A recording in progress.
pub struct Recording<Probes> {
    pub recorder: Recorder<Probes>,
    buf: BatchBuf,
    books: Books,
    keep: fn(&Event) -> bool,
    events: Vec<Event>,
    skipped: u64,
}

/// A recording that came to its end.
#[derive(Debug)]
pub struct Recorded {
    /// In the order of time.
    pub events: Vec<Event>,
    pub books: Closed,
    /// Programs that the kernel skipped.
    pub skipped: u64,
}

impl<Probes> Recording<Probes> {
    /// Attaches, and keeps every event.
    pub fn start(builder: RecorderBuilder<Probes>) -> Self {
        Self::keeping(builder, |_| true)
    }

    /// Attaches, and counts what it does not keep.
    pub fn keeping(builder: RecorderBuilder<Probes>, keep: fn(&Event) -> bool) -> Self {
        let recorder = builder.attach().unwrap_or_else(|error| panic!("{error}"));
        for probe in &recorder.report().probes {
            assert!(probe.rung.is_some(), "{}: {}", probe.probe, probe.refusal());
        }
        Self::of(recorder, keep)
    }

    pub fn of(recorder: Recorder<Probes>, keep: fn(&Event) -> bool) -> Self {
        Self {
            recorder,
            buf: BatchBuf::default(),
            books: Books::default(),
            keep,
            events: Vec::new(),
            skipped: 0,
        }
    }

    /// Starts a workload as a recorded command.
    pub fn spawn(&mut self, text: &str) -> Workload {
        self.spawn_command(&mut workload(text))
    }

    pub fn spawn_command(&mut self, command: &mut Command) -> Workload {
        Workload::new(self.recorder.spawn(command).unwrap())
    }

    /// Takes a batch from the recorder, however it was drained.
    pub fn take(&mut self, batch: &Batch) {
        each_event(batch, |record, event| {
            self.books.observe(record);
            self.events.extend(event.filter(self.keep));
        });
    }

    /// Waits for records and takes them; whether they were the last.
    pub fn poll(&mut self) -> bool {
        let polled = self.recorder.poll(&mut self.buf, Some(LOOK)).unwrap();
        let batch = self.buf.take();
        self.take(&batch);
        polled.end
    }

    /// Takes records until the test sees what it waits for.
    pub fn poll_until(&mut self, mut done: impl FnMut(&[Event]) -> bool) {
        let deadline = super::kernel::Deadline::new();
        while !done(&self.events) {
            deadline.check("records that the test waits for");
            self.poll();
        }
    }

    /// Takes records until the workload has ended; its lines. It must end well.
    pub fn run(&mut self, workload: &mut Workload) -> Vec<String> {
        let status = self.run_to_any_end(workload);
        assert!(status.success(), "the workload: {status}");
        workload.lines()
    }

    pub fn run_to_any_end(&mut self, workload: &mut Workload) -> std::process::ExitStatus {
        loop {
            let status = workload.child.try_wait().unwrap();
            self.poll();
            if let Some(status) = status {
                return status;
            }
        }
    }

    /// Detaches, and drains what is left.
    pub fn stop(&mut self) {
        // Of programs that are attached.
        self.skipped = self.skipped.max(self.recorder.skipped_programs());
        self.recorder.stop();
        while !self.poll() {}
    }

    /// Detaches, drains what is left and compares the books.
    pub fn finish(mut self) -> Recorded {
        self.stop();
        let mut events = self.events;
        events.sort_by_key(|event| event.origin().ktime_ns);
        Recorded { events, books: self.books.close(&self.recorder), skipped: self.skipped }
    }

    /// Records one workload from its start to its end.
    pub fn of_workload(builder: RecorderBuilder<Probes>, text: &str) -> (Recorded, Vec<String>, u32) {
        let mut recording = Self::start(builder);
        let mut workload = recording.spawn(text);
        let lines = recording.run(&mut workload);
        (recording.finish(), lines, workload.tgid())
    }
}

impl Recorded {
    /// The events of one type, in the order of time.
    pub fn all<E: FromEvent>(&self) -> Vec<E> {
        self.events.iter().filter_map(E::from_event).collect()
    }

    /// Nothing was lost, and no program was skipped, but where the kernel has no other place for it than a raw tracepoint
    /// and may skip it there: from Linux 7.0 on. What must be there all the same the tests count.
    pub fn lossless(self) -> Self {
        let may_skip = kprobe_ebpf::host::kernel_release().unwrap().at_least(7, 0);
        assert!(self.skipped == 0 || may_skip, "{} programs skipped by the kernel", self.skipped);
        assert_eq!(self.books.lost_in_all(), 0, "{:?}", self.books.rows);
        self
    }
}

/// Takes a typed event out of any.
pub trait FromEvent: TypedEvent {
    fn from_event(event: &Event) -> Option<Self>;
}

macro_rules! from_event {
    ($($name:ident),+) => {$(
        impl FromEvent for kprobe_core::event::$name {
            fn from_event(event: &Event) -> Option<Self> {
                if let Event::$name(event) = event { Some(*event) } else { None }
            }
        }
    )+};
}

from_event!(
    ClockChange,
    Histogram,
    MemoryFaultMajor,
    MemoryFaultMinor,
    PathAllowed,
    PathExec,
    PathOpen,
    PipeRead,
    PipeWrite,
    UdpSend,
    UdpRecv,
    UnixSend,
    UnixRecv,
    BlockMerge,
    BlockRequest,
    LockContention,
    LockFutex,
    LockFutexWake,
    IrqHard,
    IrqSoft,
    MemoryReclaim,
    MemoryCompaction,
    MemoryOomKill,
    ProcessExec,
    ProcessExit,
    ProcessFork,
    ProcessRename,
    Sampling,
    SchedMigrate,
    SchedSwitch,
    SchedWaking,
    SecurityCapability,
    Syscall,
    TcpAccept,
    TcpConnect,
    TcpRecv,
    TcpRetransmit,
    TcpSend,
    TcpState,
    WaitBlocked,
    WaitEpoll,
    WaitThrottle,
    Lost
);

/// Events that a kernel program made.
pub fn is_kernels(kind: Kind) -> bool {
    kind.slot().is_some()
}
