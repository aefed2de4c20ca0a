//! Our consumer of system calls: a recorder with its own drain thread, in a process of its own.

use std::{
    io::{BufRead as _, stdin},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use kprobe_core::{
    abi::{Family, Kind},
    decode::Record,
    event::{Aggregated, Event, Histogram, Syscall, Tgid},
    pipeline::{Batch, BatchBuf, Gaps, Source as _},
};
use kprobe_ebpf::{
    By, Filter, Lock, Memory, Paths, Pipes, Process, Recorder, RecorderBuilder, Sched, Security, Syscalls,
    Tcp, Udp, UnixStreams, Wait,
};

use crate::{
    child::{Talker, say},
    machine::{CONSUMER_CORE, pin},
    outcome::Recorded,
    workload::OPENED,
};

/// An interval that does not end before the recording does.
const FAR: Duration = Duration::from_secs(3600);

/// The harness's end of it.
#[derive(Debug)]
pub(crate) struct OurRecorder(Talker);

impl OurRecorder {
    pub(crate) fn start() -> Result<Self> {
        Talker::start_own("recorder", CONSUMER_CORE).map(Self)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Records every system call of a child of this process, until [`stop`](Self::stop).
    pub(crate) fn record(&mut self, child: u32) -> Result<()> {
        self.begin("record", child)
    }

    /// Sums up the durations of its system calls in the kernel.
    pub(crate) fn sum_up(&mut self, child: u32) -> Result<()> {
        self.begin("sum-up", child)
    }

    /// Records the switches and wake-ups of a process.
    pub(crate) fn record_switches(&mut self, child: u32) -> Result<()> {
        self.begin("record-switches", child)
    }

    /// Sums up in the kernel how long its threads run and wait.
    pub(crate) fn sum_up_switches(&mut self, child: u32) -> Result<()> {
        self.begin("sum-up-switches", child)
    }

    /// Records all that a family has of a process.
    pub(crate) fn record_family(&mut self, family: &str, child: u32) -> Result<()> {
        self.begin(family, child)
    }

    fn begin(&mut self, what: &str, child: u32) -> Result<()> {
        self.0.tell(&format!("{what} {child} {}", std::process::id()))?;
        self.0.ready()
    }

    pub(crate) fn stop(&mut self) -> Result<Recorded> {
        self.0.tell("stop")?;
        self.0.answer()
    }
}

/// Serves commands until standard input ends.
pub(crate) fn serve(core: usize) -> Result<()> {
    pin(core)?;
    let mut lines = stdin().lock().lines();
    while let Some(line) = lines.next().transpose()? {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, tgid, parent] = words[..] else { bail!("unknown command {line:?}") };
        let tgid = Tgid(tgid.parse()?);
        let builder = Recorder::builder().filter(Filter::tgids([tgid])).aggregate_every(FAR);
        let sched = Sched::default().without_migrate();
        let until = || {
            say("ready")?;
            let line = lines.next().transpose()?;
            match line.as_deref() {
                Some("stop") => Ok(()),
                _ => bail!("unknown command {line:?}"),
            }
        };
        let seen = Seen::new(tgid, parent.parse()?);
        let recorded = match what {
            "record" => record(builder.require(Syscalls::all()), seen, until),
            "sum-up" => {
                let builder = builder.require(Syscalls::all()).aggregate(Family::Syscall, By::Subject);
                record(builder, seen, until)
            }
            "record-switches" => record(builder.require(sched), seen, until),
            "sum-up-switches" => {
                record(builder.require(sched).aggregate(Family::Sched, By::Tgid), seen, until)
            }
            family => record_family(builder, family, seen, until),
        };
        say(recorded?)?;
    }
    Ok(())
}

/// Records all that a family has until `until` returns.
fn record_family(
    builder: RecorderBuilder<()>,
    family: &str,
    seen: Seen,
    until: impl FnOnce() -> Result<()>,
) -> Result<Recorded> {
    let all = Family::ALL.iter().copied();
    let Some(number) = all.into_iter().find(|known| known.name() == family) else {
        bail!("unknown command or family {family:?}");
    };
    let seen = Seen { counted: Some(number), ..seen };
    match number {
        Family::Sched => record(builder.require(Sched::default()), seen, until),
        Family::Process => record(builder.require(Process::default()), seen, until),
        Family::Syscall => record(builder.require(Syscalls::all()), seen, until),
        Family::Tcp => record(builder.require(Tcp::default()), seen, until),
        Family::Udp => record(builder.require(Udp::default()), seen, until),
        Family::Unix => record(builder.require(UnixStreams::default()), seen, until),
        Family::Pipe => record(builder.require(Pipes::default()), seen, until),
        Family::Memory => record(builder.require(Memory::default().minor_faults(1)), seen, until),
        Family::Wait => record(builder.probe(Wait::default()), seen, until),
        Family::Path => record(builder.require(Paths::allow([OPENED])?), seen, until),
        Family::Lock => record(builder.require(Lock::default()), seen, until),
        Family::Security => record(builder.require(Security::default()), seen, until),
        _ => bail!("the family {family} is not measured"),
    }
}

/// Records until `until` returns.
fn record<Probes: Send + 'static>(
    builder: RecorderBuilder<Probes>,
    seen: Seen,
    until: impl FnOnce() -> Result<()>,
) -> Result<Recorded> {
    let recorder = builder.attach()?;
    let (back, counted) = mpsc::channel();
    let mut returned = Returned { seen: Some(seen), back };
    let draining = recorder.spawn_thread(move |batch| returned.take(&batch))?;
    until()?;
    let mut recorder = draining.stop()?;
    let mut seen: Seen = counted.recv().context("the drain thread keeps its counts")?;
    recorder.stop();
    let mut buf = BatchBuf::default();
    loop {
        let polled = recorder.poll(&mut buf, None)?;
        seen.take(&buf.take());
        if polled.end {
            break;
        }
    }
    let probes = recorder.probes();
    let gaps = seen.gaps.report(&probes, |cpu| recorder.next_seq(cpu));
    Ok(Recorded {
        lost: probes.iter().map(|row| row.lost).sum(),
        missing: gaps.iter().map(|gap| gap.missing).sum(),
        ..seen.recorded
    })
}

/// Gives the counts back when the drain thread is over.
struct Returned {
    seen: Option<Seen>,
    back: mpsc::Sender<Seen>,
}

impl Returned {
    fn take(&mut self, batch: &Batch) {
        if let Some(seen) = &mut self.seen {
            seen.take(batch);
        }
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if let Some(seen) = self.seen.take() {
            // Nobody waits for it any more if the recording failed.
            let _ = self.back.send(seen);
        }
    }
}

#[derive(Debug)]
struct Seen {
    tgid: Tgid,
    /// What `getppid` returns.
    parent: i64,
    last_ns: u64,
    gaps: Gaps,
    /// All records of this family are counted as calls, those of others as others, and their fields are not looked at.
    counted: Option<Family>,
    recorded: Recorded,
}

impl Seen {
    fn new(tgid: Tgid, parent: i64) -> Self {
        Self { tgid, parent, last_ns: 0, gaps: Gaps::new(), counted: None, recorded: Recorded::default() }
    }

    fn take(&mut self, batch: &Batch) {
        for record in batch.records() {
            match record {
                Ok(record) => self.take_record(record),
                Err(_) => self.recorded.errors += 1,
            }
        }
    }

    #[inline]
    fn take_record(&mut self, record: Record<'_>) {
        self.gaps.observe(record);
        if let Some(family) = self.counted {
            return self.count(record, family);
        }
        match Event::decode(record) {
            Ok(Some(Event::Syscall(call))) => self.take_call(&call),
            Ok(Some(Event::SchedSwitch(switch))) => {
                let is_ours = switch.origin.tgid == self.tgid || switch.next_tgid == self.tgid;
                self.recorded.calls += u64::from(switch.origin.tgid == self.tgid);
                self.recorded.errors += u64::from(!is_ours);
            }
            Ok(Some(Event::SchedWaking(waking))) => {
                let is_ours = waking.wakee_tgid == self.tgid || waking.origin.tgid == self.tgid;
                self.recorded.others += u64::from(waking.wakee_tgid == self.tgid);
                self.recorded.errors += u64::from(!is_ours);
            }
            Ok(Some(Event::Histogram(sums))) => self.take_sums(&sums),
            // What user space says about the stream.
            Ok(Some(event)) if event.origin().cpu.is_none() => {}
            _ => self.recorded.errors += 1,
        }
    }

    fn count(&mut self, record: Record<'_>, family: Family) {
        match Event::decode(record) {
            Ok(Some(event)) if event.origin().cpu.is_none() => {}
            Ok(Some(_)) if record.kind().family() == Some(family) => self.recorded.calls += 1,
            Ok(Some(_)) => self.recorded.others += 1,
            _ => self.recorded.errors += 1,
        }
    }

    fn take_sums(&mut self, sums: &Histogram) {
        let is_counted = match sums.of {
            Aggregated::Subject(nr) => i64::try_from(nr) == Ok(libc::SYS_getppid),
            _ => sums.kind == Kind::SCHED_SWITCH,
        };
        *if is_counted { &mut self.recorded.calls } else { &mut self.recorded.others } += sums.count();
        self.recorded.errors += u64::from(sums.sum_ns < sums.count());
    }

    #[inline]
    fn take_call(&mut self, call: &Syscall) {
        let Syscall { origin, nr, enter_ns, fd, requested, ret, .. } = *call;
        let is_thread = origin.tgid == self.tgid && origin.tid.0 == self.tgid.0 && origin.cgroup_id != 0;
        let is_ordered = self.last_ns <= enter_ns && enter_ns <= origin.ktime_ns;
        self.last_ns = origin.ktime_ns;
        let is_getppid = nr.is_some_and(|nr| i64::from(nr.nr) == libc::SYS_getppid);
        let has_its_values = !is_getppid || (fd, requested, ret) == (None, None, Some(self.parent));
        self.recorded.errors += u64::from(!(is_thread && is_ordered && has_its_values));
        self.recorded.calls += u64::from(is_getppid);
        self.recorded.others += u64::from(!is_getppid);
    }
}
