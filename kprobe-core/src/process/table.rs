use std::{io::Write, time::Duration};

use super::{
    containers::Containers,
    threads::{Life, Process, Threads, cut},
};
use crate::{
    abi::Kind,
    decode::{DecodeError, Record},
    event::{
        BootId, CgroupNamed, Comm, Event, Origin, ProcessExec, ProcessExit, ProcessFork, ProcessKey,
        ProcessRename, Syscall, Tgid, ThreadSeed, Tid, TypedEvent,
    },
    pipeline::{Batch, BatchBuf, Context, Contexts, Stage, StageRow},
};

/// Gives every record its [`Context`]: a stage behind [`Merge`](crate::pipeline::Merge), or behind a capture.
///
/// - A name belongs to a thread. A fork copies that of the creating thread, a rename and an exec change it, and it is
///   empty as long as nothing has told it. Only the idle task needs no telling: it is `swapper/N`.
/// - `process.rename` has the name from before, `process.exec` the one from then on, `process.exit` that of the thread
///   that ends.
/// - A process keeps the parent it began with until a record of its own (exec, exit, the creation of a thread) names
///   another: when a parent dies the kernel gives its children away without a record.
/// - When another thread than the first calls exec, it takes over the id of the first. Until the exec record says so
///   (the rename comes just before) its records have the name of the first.
/// - An exited thread is remembered for [`TableLimits::exited_grace`].
///
/// Records whose bytes are not what their kind says are taken out and counted as undecodable; kinds this version does not
/// know pass. Contexts that a batch brings along are replaced. The row's `counts` has `evicted_threads` and
/// `evicted_containers` where they are not 0.
#[derive(Debug)]
pub struct ProcessTable {
    boot: BootId,
    threads: Threads,
    containers: Containers,
    received: u64,
    undecodable: u64,
    /// Room for those of the batch before, as a guess of the next one's.
    usual: (usize, usize),
}

/// How much a [`ProcessTable`] may remember. Beyond it what matters least is forgotten: the first thread that exited, else
/// of some live threads the one that has made no record the longest; the container that has made none the longest.
///
/// ```
/// use kprobe_core::process::TableLimits;
///
/// let mut limits = TableLimits::default();
/// limits.threads = 1 << 20;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableLimits {
    /// Threads; each takes about 200 bytes with its process. The default is 131,072.
    pub threads: usize,
    /// Containers; the default is 16,384. A recorder names one again when so many others came, not sooner: with a lower
    /// limit one that was forgotten stays without a name.
    pub containers: usize,
    /// How long a thread is known after its exit, if there is room; the default is 5 s. Later its ids count as unknown: they
    /// may be another's whose beginning was lost.
    pub exited_grace: Duration,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self { threads: 1 << 17, containers: 1 << 14, exited_grace: Duration::from_secs(5) }
    }
}

/// What the other thread of a record is.
type Other = Option<(Tgid, Tid)>;

impl ProcessTable {
    /// A table for a stream of that boot.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        Self::with_limits(boot, TableLimits::default())
    }

    /// A table with other limits.
    #[must_use]
    pub fn with_limits(boot: BootId, limits: TableLimits) -> Self {
        let grace_ns = u64::try_from(limits.exited_grace.as_nanos()).unwrap_or(u64::MAX);
        Self {
            boot,
            threads: Threads::new(limits.threads, grace_ns),
            containers: Containers::new(limits.containers),
            received: 0,
            undecodable: 0,
            usual: (0, 0),
        }
    }

    /// Threads that it knows now.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Learns from an event, and writes down who it is about. `to` is an empty context, written in place: there is one for
    /// every record, and moving it about costs as much as finding out what belongs in it.
    fn observe(&mut self, event: &Event, to: &mut Context) {
        let other = match event {
            Event::ProcessFork(fork) => return self.fork(fork, to),
            Event::ProcessExec(exec) => return self.exec(exec, to),
            Event::ProcessExit(exit) => return self.exit(exit, to),
            Event::ProcessRename(rename) => return self.rename(rename, to),
            Event::ThreadSeed(seed) => return self.seed(seed, to),
            Event::CgroupNamed(named) => {
                self.name_container(named);
                None
            }
            Event::SchedSwitch(switch) => Some((switch.next_tgid, switch.next_tid)),
            Event::SchedWaking(waking) => Some((waking.wakee_tgid, waking.wakee_tid)),
            Event::WaitBlocked(wait) => wait.waker.map(|waker| (waker.tgid, waker.tid)),
            Event::BlockRequest(request) => request.submitter.map(|by| (by.tgid, by.tid)),
            Event::BlockMerge(merge) => merge.submitter.map(|by| (by.tgid, by.tid)),
            Event::MemoryOomKill(kill) => Some((kill.victim_tgid, kill.victim_tid)),
            Event::SchedMigrate(migrate) => Some((migrate.moved_tgid, migrate.moved_tid)),
            _ => None,
        };
        self.tell(event.origin(), other, to);
    }

    /// Adds the context of a record.
    #[inline]
    fn add(&mut self, record: Record<'_>, contexts: &mut Contexts) -> Result<(), DecodeError> {
        // System calls are most of what comes, and they teach nothing: they do without the large `Event`.
        let event = match record.kind() {
            Kind::SYSCALL => Syscall::decode(record).map(|_| None)?,
            _ => Event::decode(record)?,
        };
        let mut context = Context::default();
        match event {
            Some(event) => self.observe(&event, &mut context),
            None => self.tell(&Origin::of(&record), None, &mut context),
        }
        contexts.push(record.header().tid, &context);
        Ok(())
    }

    fn fork(&mut self, fork: &ProcessFork, to: &mut Context) {
        let comm = self.comm(&fork.origin, fork.origin.tgid, fork.origin.tid);
        let life = Life {
            tgid: fork.child_tgid,
            start_ns: (!fork.is_thread()).then(|| cut(fork.child_start_ns)),
            parent: Some(fork.parent_tgid),
        };
        self.threads.put(life, fork.child_tid, comm);
        self.tell(&fork.origin, Some((fork.child_tgid, fork.child_tid)), to);
    }

    fn exec(&mut self, exec: &ProcessExec, to: &mut Context) {
        let ProcessExec { origin, comm, .. } = *exec;
        let life = life(&origin, exec.start_ns, exec.parent_tgid);
        if !self.threads.put(life, origin.tid, comm) {
            to.comm = comm;
            return self.tell_former(&origin, life, to);
        }
        if exec.old_tid != origin.tid
            && self.threads.find(origin.tgid, exec.old_tid, origin.ktime_ns).is_some()
        {
            self.threads.remove(exec.old_tid);
        }
        self.tell(&origin, None, to);
    }

    fn exit(&mut self, exit: &ProcessExit, to: &mut Context) {
        let origin = &exit.origin;
        let life = life(origin, exit.start_ns, exit.parent_tgid);
        if self.threads.exit(life, origin.tid, origin.ktime_ns, exit.process_ended) {
            self.tell(origin, None, to);
        } else {
            self.tell_former(origin, life, to);
        }
    }

    fn rename(&mut self, rename: &ProcessRename, to: &mut Context) {
        self.tell(&rename.origin, None, to);
        let (tgid, tid, comm) = (rename.renamed_tgid, rename.renamed_tid, rename.comm);
        if tgid != IDLE && !self.threads.rename(tgid, tid, comm) {
            self.threads.put(Life { tgid, start_ns: None, parent: None }, tid, comm);
        }
    }

    fn seed(&mut self, seed: &ThreadSeed, to: &mut Context) {
        let ThreadSeed { origin, comm, .. } = *seed;
        if origin.tgid == IDLE {
            return self.tell(&origin, None, to);
        }
        let life = life(&origin, seed.start_ns, seed.parent_tgid);
        // What was looked at may have ended since, and then stays ended.
        if self.threads.has_exited(life, origin.tid) {
            self.threads.rename(origin.tgid, origin.tid, comm);
        } else if !self.threads.put(life, origin.tid, comm) {
            to.comm = comm;
            return self.tell_former(&origin, life, to);
        }
        self.tell(&origin, None, to);
    }

    fn name_container(&mut self, named: &CgroupNamed) {
        let id = named.origin.cgroup_id;
        if named.is_container {
            self.containers.put(id, named.text().into());
        } else {
            self.containers.remove(id);
        }
    }

    /// What is known of the threads of a record.
    #[inline]
    fn tell(&mut self, origin: &Origin, other: Other, to: &mut Context) {
        to.container = self.containers.find(origin.cgroup_id);
        if let Some((tgid, tid)) = other {
            to.other_comm = self.comm(origin, tgid, tid);
        }
        if origin.tgid == IDLE {
            to.comm = idle_comm(origin);
            return;
        }
        let (boot, now_ns) = (self.boot, origin.ktime_ns);
        let mut of = |process: &Process| {
            to.process = process.start_ns.map(|start_ns| ProcessKey::new(boot, origin.tgid, start_ns));
            to.parent = process.parent;
        };
        if let Some((thread, process)) = self.threads.find(origin.tgid, origin.tid, now_ns) {
            of(process);
            to.comm = thread.comm;
        } else if let Some(process) = self.threads.find_process(origin.tgid, now_ns) {
            of(process);
        }
    }

    /// For a record that came so late that another process has its ids: what the record says itself.
    fn tell_former(&mut self, origin: &Origin, life: Life, to: &mut Context) {
        to.process = life.start_ns.map(|start_ns| ProcessKey::new(self.boot, life.tgid, start_ns));
        to.parent = life.parent;
        to.container = self.containers.find(origin.cgroup_id);
    }

    #[inline]
    fn comm(&mut self, origin: &Origin, tgid: Tgid, tid: Tid) -> Comm {
        if tgid == IDLE {
            return idle_comm(origin);
        }
        self.threads.find(tgid, tid, origin.ktime_ns).map_or_else(Comm::default, |(thread, _)| thread.comm)
    }
}

/// The process of the idle tasks, one for each CPU.
const IDLE: Tgid = Tgid(0);

/// The kernel's name of the idle task (`init_idle`): it is on the CPU of the record. A record that user space made is not
/// by an idle task.
fn idle_comm(origin: &Origin) -> Comm {
    let Some(cpu) = origin.cpu else { return Comm::default() };
    let mut text = [0; crate::abi::COMM_LEN];
    // "swapper/65534" fits.
    let _ = write!(&mut text[..], "swapper/{cpu}");
    Comm::new(text)
}

fn life(origin: &Origin, start_ns: u64, parent: Tgid) -> Life {
    Life { tgid: origin.tgid, start_ns: Some(cut(start_ns)), parent: Some(parent) }
}

impl Stage for ProcessTable {
    fn apply(&mut self, batch: Batch) -> Batch {
        let mut contexts = Contexts::with_room(self.usual);
        let mut bad = 0;
        for record in batch.records() {
            let Ok(record) = record else {
                // The tear ends the batch; what was there counts as one record.
                bad += 1;
                break;
            };
            if self.add(record, &mut contexts).is_err() {
                bad += 1;
            }
        }
        self.usual = contexts.room();
        self.received += contexts.len() as u64 + bad;
        self.undecodable += bad;
        if bad == 0 { batch.with_contexts(contexts) } else { sound(&batch, &contexts) }
    }

    fn row(&self) -> StageRow {
        let counts =
            [("evicted_threads", self.threads.evicted), ("evicted_containers", self.containers.evicted)];
        StageRow {
            received: self.received,
            delivered: self.received - self.undecodable,
            undecodable: self.undecodable,
            counts: counts
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(what, n)| (what.to_owned(), n))
                .collect(),
            ..StageRow::named("process")
        }
    }
}

/// The records that can be decoded, with their contexts.
fn sound(batch: &Batch, contexts: &Contexts) -> Batch {
    let mut out = BatchBuf::with_capacity(batch.bytes().len());
    let good = |record: &Record<'_>| Event::decode(*record).is_ok();
    for (record, context) in batch.records().flatten().filter(good).zip(contexts.iter()) {
        out.push_enriched(record, context);
    }
    out.take()
}
