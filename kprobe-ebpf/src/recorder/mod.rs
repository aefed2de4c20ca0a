//! A recording in progress: probes attached, rings being drained, every record counted.

mod aggregates;
mod builder;
mod cgroups;
mod clock;
mod command;
mod counters;
mod grace;
mod irqs;
mod losses;
mod own;
mod programs;
mod retune;
mod seeds;
mod selection;
mod source;
mod thread;

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    sync::OnceLock,
    time::{Duration, Instant},
};

use kprobe_core::{
    abi::{Family, Kind, Marker},
    decode::{DecodeError, FrameError},
    event::{Registry, Tgid, TypedEvent},
    pipeline::{Batch, BatchBuf, ProbeRow, StreamInfo},
};

pub(crate) use aggregates::Aggregation;
pub use builder::{DEFAULT_RING_BYTES, Need, RecorderBuilder};
pub use command::SpawnError;
pub(crate) use counters::CpuStates;
pub use counters::{PairCounts, PathCounts, SyscallCounts};
pub use irqs::{IrqCounters, IrqKind, IrqSum};
pub use kprobe_core::event::By;
pub(crate) use programs::Watched;
pub use programs::{CountRuns, CountRunsError, Counting, ProgramRun, ProgramStats, ProgramWatch};
pub use retune::{Change, Fixed, RetuneError, Retuned};
pub(crate) use selection::PidSet;
pub use thread::{DrainFailed, DrainThread};

use crate::{
    attach::{Object, Report},
    filter::{Filter, FilterError},
    host,
    probe::ListYields,
    ring::{Next, Reader, Stop, Waker},
};
use aggregates::Aggregates;
use cgroups::CgroupNames;
use clock::Clock;
use own::{Own, OwnRecords};
use programs::Watch;
use retune::Settings;

/// Probes that are attached, and their ring buffers. Dropping it detaches everything.
///
/// `Probes` are the types of the probes, so that [`events`](Self::events) yields what was attached and nothing else.
///
/// It is driven in one of three ways: from a loop of the user's own, by its [`AsFd`] descriptor and
/// [`drain`](Self::drain); by a thread of its own, see [`spawn_thread`](Self::spawn_thread); or as the
/// [`Source`](kprobe_core::pipeline::Source) of a pipeline.
#[derive(Debug)]
pub struct Recorder<Probes = ()> {
    // Fields are dropped in this order: first no more records, then the rings.
    objects: Vec<Object>,
    /// After them, so that it has the last values. Since somebody asked for it.
    watch: OnceLock<Watch>,
    reader: Reader,
    info: StreamInfo,
    report: Report,
    registry: Registry,
    own: OwnRecords,
    pending: Pending,
    clock: Clock,
    cgroups: CgroupNames,
    aggregates: Option<Aggregates>,
    batch_bytes: usize,
    /// A ring was found that cannot be read on.
    corrupt: bool,
    /// Processes can be added.
    follows: bool,
    /// The process that attached it.
    process: u32,
    stopped: Option<Stopped>,
    /// What the last drain said, until it was waited for.
    next: Option<Next>,
    settings: Settings,
    probes: PhantomData<fn() -> Probes>,
}

/// No program is attached any more.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    /// Since when no record came.
    quiet_since: Instant,
    /// Records may come that nobody waits for.
    leaves_some: bool,
}

/// Records of user space that the next drain puts into the stream.
#[derive(Debug, Default)]
struct Pending {
    sampling: Vec<Own<kprobe_core::abi::Sampling>>,
    threads: Vec<Own<kprobe_core::abi::ThreadSeed>>,
    paths: Vec<Own<kprobe_core::abi::PathAllowed>>,
    markers: Vec<Own<Marker>>,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Every record up to this time (`CLOCK_MONOTONIC`, nanoseconds) has been drained, but for those that a program
    /// was just writing.
    pub complete_until_ns: u64,
    /// When to drain again.
    pub next: Next,
}

impl Recorder {
    /// A recorder without probes yet.
    #[must_use]
    pub fn builder() -> RecorderBuilder {
        RecorderBuilder::new()
    }
}

impl<Probes> Recorder<Probes> {
    /// Appends the records that are there to `out`, at most about a quarter of the bytes of all rings, but 64 KiB to
    /// 256 KiB (more would not stay in a core's cache until it is decoded), and never waits.
    ///
    /// After [`Next::Idle`] the recorder's descriptor becomes readable with the next record. After [`Next::Again`] call
    /// again when that time is over, or when the descriptor becomes readable, whichever is first.
    ///
    /// # Errors
    /// The system refuses to wait on the rings, or a ring does not hold records; that ring cannot be read any more, and
    /// each later call says so again. What the other rings gave was appended all the same.
    pub fn drain(&mut self, out: &mut BatchBuf) -> io::Result<Drained> {
        self.clock.put_change(&mut self.own, out);
        self.put_pending(out);
        let left = self.put_aggregates(out)?;
        let from = out.len();
        let drained = self.reader.copy_into(out.frames_mut(), self.batch_bytes);
        self.corrupt |= drained.stop == Stop::Corrupt;
        let corrupt = self.corrupt.then(|| self.corrupt_ring(out));
        let complete_until_ns = self.reader.drained_until_ns();
        let next = self.reader.pace();
        self.cgroups.name_new(out, from, &mut self.own);
        if self.reader.has_new_losses() {
            for object in &self.objects {
                losses::put(&object.cpus, &mut self.own, out);
            }
        }
        if let Some(error) = corrupt {
            return Err(error);
        }
        let next = match (next?, left) {
            // The end of the interval wakes nobody.
            (Next::Idle, Some(left)) => Next::Again(left),
            (Next::Again(nap), Some(left)) => Next::Again(nap.min(left)),
            (next, None) => next,
        };
        self.next = Some(next);
        let complete_until_ns = complete_until_ns.max(self.reader.drained_until_ns());
        self.clock.drained_until(complete_until_ns);
        Ok(Drained { complete_until_ns, next })
    }

    /// Which ring cannot be read on. Each of the others gives a record, if it has one, while it is asked.
    fn corrupt_ring(&mut self, out: &mut BatchBuf) -> io::Error {
        let rings = self.reader.rings_mut();
        let count = rings.len();
        let at = rings.iter_mut().position(|ring| ring.copy_into(out.frames_mut(), 0).stop == Stop::Corrupt);
        // Whoever spoilt it may have written something sound over it since.
        let which =
            at.map_or_else(|| "a ring buffer".to_owned(), |at| format!("ring buffer {} of {count}", at + 1));
        io::Error::other(format!("{which} holds bytes that are no records; is another program reading it?"))
    }

    /// The events of type `E` in `batch`, in its order. Only a type that one of the probes yields compiles.
    ///
    /// ```no_run
    /// use kprobe_core::{event::SchedSwitch, pipeline::BatchBuf};
    /// use kprobe_ebpf::{Filter, Recorder, Sched};
    ///
    /// let mut recorder = Recorder::builder().probe(Sched::default()).filter(Filter::all()).attach()?;
    /// let mut buf = BatchBuf::default();
    /// recorder.drain(&mut buf)?;
    /// for switch in recorder.events(&buf.take()) {
    ///     let switch: SchedSwitch = switch?;
    ///     println!("{} -> {}", switch.origin.tid, switch.next_tid);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events<'a, E, At>(
        &self,
        batch: &'a Batch,
    ) -> impl Iterator<Item = Result<E, EventError>> + use<'a, E, At, Probes>
    where
        E: TypedEvent,
        Probes: ListYields<E, At>,
    {
        batch.records().filter_map(|record| match record {
            Ok(record) if record.kind() == E::KIND => Some(E::decode(record).map_err(EventError::Decode)),
            Ok(_) => None,
            Err(error) => Some(Err(EventError::Frame(error))),
        })
    }

    /// How each probe was attached, and the memory that the kernel side takes.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What the stream is from.
    #[must_use]
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// How to decode what this recorder records: kprobe's own events and those of the user's probes.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The kernel's counters of each event and CPU, and the records that user space added. Read without a system call.
    #[must_use]
    pub fn probes(&self) -> Vec<ProbeRow> {
        let mut rows: Vec<_> = self.objects.iter().flat_map(|object| object.cpus.rows()).collect();
        rows.extend(self.own.rows());
        rows
    }

    /// What became of system calls that gave no record of their own.
    #[must_use]
    pub fn syscall_counts(&self) -> SyscallCounts {
        self.builtin().map(|object| object.cpus.syscall_counts()).unwrap_or_default()
    }

    /// Of the pairs of beginnings and ends that a family's events are made of: what could not be paired.
    #[must_use]
    pub fn pair_counts(&self, family: Family) -> PairCounts {
        self.builtin().map(|object| object.cpus.pair_counts(family)).unwrap_or_default()
    }

    /// Files of what was selected that have no record of their path. With [`Paths`](crate::Paths).
    #[must_use]
    pub fn path_counts(&self) -> PathCounts {
        self.builtin().map(|object| object.cpus.path_counts()).unwrap_or_default()
    }

    /// Minor page faults of what was selected, recorded or not. With [`Memory`](crate::Memory).
    #[must_use]
    pub fn minor_faults(&self) -> u64 {
        let count = |object: &Object| object.cpus.considered(Kind::MEMORY_FAULT_MINOR);
        self.builtin().map(count).unwrap_or_default()
    }

    /// How often interrupts came and how long they took, each of them: also those that have no record. `None` if interrupts
    /// are not recorded.
    #[must_use]
    pub fn irq_counters(&self) -> Option<IrqCounters> {
        let is_on =
            self.report.probes.iter().any(|probe| probe.probe.starts_with("irq.") && probe.rung.is_some());
        self.builtin().filter(|_| is_on)?.irqs.clone().map(IrqCounters)
    }

    /// How often the kernel skipped a program, because a thread had been preempted inside it on the same CPU (Linux 7.0 and
    /// later) or an interrupt had hit it: an event that left no trace but this count. Reads `/proc`, not for a hot path.
    #[must_use]
    pub fn skipped_programs(&self) -> u64 {
        self.objects.iter().map(Object::skipped_programs).sum()
    }

    /// How often and how long the kernel programs ran, as far as the kernel counts that: by default it does not, see
    /// [`CountRuns`]. After [`detach`](Self::detach), the last values.
    #[must_use]
    pub fn program_stats(&self) -> ProgramStats {
        self.watch().0.stats()
    }

    /// The same for another thread, while this recorder is driven by a pipeline for example. It has a descriptor of each
    /// program until the recorder is detached or dropped.
    ///
    /// ```no_run
    /// use std::{thread, time::Duration};
    ///
    /// use kprobe_ebpf::{CountRuns, Filter, Recorder, Syscalls, host};
    ///
    /// let recorder = Recorder::builder().probe(Syscalls::all()).filter(Filter::all()).attach()?;
    /// let programs = recorder.program_watch();
    /// // All programs of the machine, until it is dropped.
    /// let counting = CountRuns::start()?;
    /// let thread = recorder.spawn_thread(|batch| drop(batch))?;
    /// thread::sleep(Duration::from_secs(10));
    /// println!("{}\n{:?}", programs.stats(), host::usage()?);
    /// drop(thread);
    /// assert!(programs.stats().over);
    /// # drop(counting);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn program_watch(&self) -> ProgramWatch {
        self.watch().0.clone()
    }

    fn watch(&self) -> &Watch {
        let programs = || self.objects.iter().flat_map(Object::watched).collect();
        self.watch.get_or_init(|| Watch(ProgramWatch::new(programs())))
    }

    /// Number of the next record of each CPU, which is the number of records of kprobe's own kinds that the CPU submitted
    /// or lost so far. A user's kinds are numbered each by itself: see the counters of [`probes`](Self::probes).
    #[must_use]
    pub fn next_seqs(&self) -> Vec<u64> {
        let cpus = self.objects.first().map_or(0, |object| object.cpus.len());
        (0..cpus).map(|cpu| self.builtin().map_or(0, |object| object.cpus.next_seq(cpu))).collect()
    }

    fn builtin(&self) -> Option<&Object> {
        self.objects.iter().find(|object| object.is_builtin)
    }

    /// Puts a mark into the stream, with the time of this call.
    pub fn mark(&mut self, id: u64) {
        let now = host::clocks().monotonic_ns;
        self.pending.markers.push(Own::new(Kind::META_MARKER, now, Marker { id }));
    }

    /// Also records this process from now on: what it does after this has returned. Children are followed as those of the
    /// filter's processes are.
    ///
    /// Only with a filter that was made with processes or with [`Filter::none`](crate::Filter::none), and only by the
    /// process that attached the recorder. It calls `getppid`, by which the programs notice the change.
    ///
    /// # Errors
    /// The filter is another one, this is a copy of the process that attached, or there is no such process.
    pub fn add_process(&self, process: Tgid) -> Result<(), SelectError> {
        self.may_select()?;
        let selection = Filter::tgids([process]).resolve(0)?;
        self.objects.iter().try_for_each(|object| object.select_processes(&selection.tgids))
    }

    /// Stops recording this process, in the way of [`add_process`](Self::add_process). A call that it is in the middle of is
    /// not recorded.
    ///
    /// # Errors
    /// The filter is not made of processes, or this is a copy of the process that attached.
    pub fn remove_process(&self, process: Tgid) -> Result<(), SelectError> {
        self.may_select()?;
        self.objects.iter().try_for_each(|object| object.deselect(process))
    }

    /// The programs look for changes of the selection where the process is that attached them, and nowhere else.
    fn may_select(&self) -> Result<(), SelectError> {
        if !self.follows {
            return Err(SelectError::NotSelected);
        }
        if std::process::id() != self.process {
            return Err(SelectError::Forked);
        }
        Ok(())
    }

    /// From now on one record in `one_in` of a family is kept, and none that took less than `min_duration`. The change
    /// is put into the stream. All of a user's own probes are one family, [`Family::User`].
    pub fn set_sampling(&mut self, family: Family, one_in: u32, min_duration: Duration) {
        let now = host::clocks().monotonic_ns;
        let min_duration_ns = u64::try_from(min_duration.as_nanos()).unwrap_or(u64::MAX);
        for object in &self.objects {
            object.set_sampling(family, one_in, min_duration_ns);
        }
        let plans = self.settings.plans.iter_mut().map(|(plan, _)| plan);
        plans.filter(|plan| plan.family == family).for_each(|plan| {
            (plan.sample_one_in, plan.min_duration_ns) = (one_in, min_duration_ns);
        });
        self.pending.sampling.push(sampling_record(family, one_in, min_duration_ns, now));
    }

    /// Detaches every probe. What is in the rings can still be drained, and the counters can still be read.
    pub fn detach(&mut self) {
        self.detach_and_wait();
    }

    /// Whether it could wait for the programs that were just running. If not, a record that is submitted after the last
    /// drain is left behind, and counted as that.
    fn detach_and_wait(&mut self) -> bool {
        // What is not watched now cannot be asked any more.
        self.watch();
        for object in &mut self.objects {
            object.detach();
        }
        let could_wait = grace::wait();
        self.watch().end();
        could_wait
    }

    /// Wakes a wait for records from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.reader.waker()
    }

    /// The histograms of an interval that is over; how long the next one lasts from now.
    fn put_aggregates(&mut self, out: &mut BatchBuf) -> io::Result<Option<Duration>> {
        let Some(aggregates) = &mut self.aggregates else { return Ok(None) };
        let now_ns = host::clocks().monotonic_ns;
        let left = aggregates.left(now_ns);
        if !left.is_zero() && self.stopped.is_none() {
            return Ok(Some(left));
        }
        if let Some(object) = self.objects.iter().find(|object| object.is_builtin) {
            let is_late = aggregates.has_ended();
            aggregates.put(object, now_ns, &mut self.own, out)?;
            if is_late && self.stopped.is_some() {
                aggregates.put(object, now_ns, &mut self.own, out)?;
            }
        }
        let left = aggregates.left(now_ns);
        // Nothing is counted any more.
        self.aggregates = self.aggregates.take().filter(|_| self.stopped.is_none());
        Ok(self.aggregates.is_some().then_some(left))
    }

    fn put_pending(&mut self, out: &mut BatchBuf) {
        for record in self.pending.sampling.drain(..) {
            self.own.push(&record, out);
        }
        for record in self.pending.threads.drain(..) {
            self.own.push(&record, out);
        }
        for record in self.pending.paths.drain(..) {
            self.own.push(&record, out);
        }
        for record in self.pending.markers.drain(..) {
            self.own.push(&record, out);
        }
    }
}

impl<Probes> AsFd for Recorder<Probes> {
    /// For poll, select or epoll: see [`drain`](Self::drain).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// A process was not added to those that are recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The recorder does not record processes by their id.
    #[error(
        "the recorder's filter is not made of processes: build it with `Filter::tgids` or `Filter::none()`"
    )]
    NotSelected,
    /// A recorder serves the process that attached it, not a copy made of that by `fork`.
    #[error(
        "the recorder was attached by another process, of which this one is a copy: attach after the last fork"
    )]
    Forked,
    /// The change is made, but threads that have made calls before may be taken for what they were.
    #[error("the kernel programs did not notice that the selection was changed; try again")]
    Unnoticed,
    /// A map of the selection cannot be written to.
    #[error("cannot change the selection: {reason}")]
    Map {
        /// What the system said.
        reason: String,
    },
    /// It is no process, or none any more.
    #[error(transparent)]
    Process(#[from] FilterError),
}

impl SelectError {
    fn map(error: impl std::fmt::Display) -> Self {
        Self::Map { reason: error.to_string() }
    }
}

/// A batch holds something that is not the event it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// One record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A frame without a record, or the rest of the batch.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

fn sampling_record(
    family: Family,
    one_in: u32,
    min_duration_ns: u64,
    ktime_ns: u64,
) -> Own<kprobe_core::abi::Sampling> {
    let body = kprobe_core::abi::Sampling { family: family as u32, one_in: one_in.max(1), min_duration_ns };
    Own::new(Kind::META_SAMPLING, ktime_ns, body)
}
