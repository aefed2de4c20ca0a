use std::collections::VecDeque;

use super::{
    hash::IdMap,
    slots::{Slot, Slots},
};
use crate::event::{Comm, START_GRANULARITY_NS, Tgid, Tid};

/// Threads and their processes, found by the ids they have now; bounded.
///
/// A process is here as long as one of its threads is. A thread that has exited stays for a while, since it goes on making
/// records after that of its exit (it switches away, it wakes its parent).
#[derive(Debug)]
pub(super) struct Threads {
    limit: usize,
    grace_ns: u64,
    threads: Slots<Thread>,
    by_tid: IdMap<Tid, Slot>,
    processes: Slots<Process>,
    by_tgid: IdMap<Tgid, Slot>,
    /// Exited threads, the first to exit first, with the serial numbers they had; a serial that is not that of the slot any
    /// more means that the thread has gone.
    exited: VecDeque<(Slot, u64)>,
    /// Where the search for a live thread to evict goes on.
    hand: Slot,
    serial: u64,
    pub(super) evicted: u64,
}

#[derive(Debug)]
pub(super) struct Thread {
    pub(super) comm: Comm,
    tid: Tid,
    process: Slot,
    exited_ns: Option<u64>,
    serial: u64,
    /// The table's serial number when it was last asked for: how many threads came since tells how long ago that is.
    used: u64,
}

#[derive(Debug)]
pub(super) struct Process {
    tgid: Tgid,
    /// Cut to the granularity of a key; `None` if its start was not seen.
    pub(super) start_ns: Option<u64>,
    pub(super) parent: Option<Tgid>,
    exited_ns: Option<u64>,
    /// Another process has its id now.
    replaced: bool,
    threads: usize,
}

/// What a record says of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) tgid: Tgid,
    pub(super) start_ns: Option<u64>,
    pub(super) parent: Option<Tgid>,
}

impl Threads {
    pub(super) fn new(limit: usize, grace_ns: u64) -> Self {
        Self {
            limit: limit.max(1),
            grace_ns,
            threads: Slots::default(),
            by_tid: IdMap::default(),
            processes: Slots::default(),
            by_tgid: IdMap::default(),
            exited: VecDeque::new(),
            hand: Slots::<Thread>::start(),
            serial: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// The thread that has these ids at `now_ns`, and its process. A thread whose process is another than the one asked for
    /// is a former owner of the id whose end was not seen.
    #[inline]
    pub(super) fn find(&mut self, tgid: Tgid, tid: Tid, now_ns: u64) -> Option<(&Thread, &Process)> {
        let thread = self.threads.get_mut(*self.by_tid.get(&tid)?)?;
        let process = self.processes.get(thread.process)?;
        if process.tgid != tgid || process.replaced || over(thread.exited_ns, self.grace_ns, now_ns) {
            return None;
        }
        thread.used = self.serial;
        Some((thread, process))
    }

    /// The process that has this id at `now_ns`.
    pub(super) fn find_process(&self, tgid: Tgid, now_ns: u64) -> Option<&Process> {
        let process = self.processes.get(*self.by_tgid.get(&tgid)?)?;
        (!over(process.exited_ns, self.grace_ns, now_ns)).then_some(process)
    }

    /// A thread lives and has this name. `false` if the record is about a process whose id is already another's.
    pub(super) fn put(&mut self, life: Life, tid: Tid, comm: Comm) -> bool {
        let Some(process) = self.process(life) else {
            return false;
        };
        // Counted first, so that making room cannot take the process away.
        if let Some(process) = self.processes.get_mut(process) {
            process.threads += 1;
            process.exited_ns = None;
        }
        self.remove(tid);
        if self.threads.len() >= self.limit {
            self.evict();
        }
        self.serial += 1;
        let thread = Thread { comm, tid, process, exited_ns: None, serial: self.serial, used: self.serial };
        self.by_tid.insert(tid, self.threads.insert(thread));
        true
    }

    /// A thread has this name, if it is known and of that process.
    pub(super) fn rename(&mut self, tgid: Tgid, tid: Tid, comm: Comm) -> bool {
        let Some(thread) = self.by_tid.get(&tid).and_then(|&slot| self.threads.get_mut(slot)) else {
            return false;
        };
        let same = self.processes.get(thread.process).is_some_and(|of| of.tgid == tgid && !of.replaced);
        if same {
            thread.comm = comm;
        }
        same
    }

    /// A thread ends, and with the last one its process. `false` if the process's id is already another's.
    pub(super) fn exit(&mut self, life: Life, tid: Tid, now_ns: u64, process_ended: bool) -> bool {
        let known = self.process(life).is_some_and(|process| {
            self.by_tid.get(&tid).and_then(|&slot| self.threads.get(slot)).map(|of| of.process)
                == Some(process)
        });
        if !known && !self.put(life, tid, Comm::default()) {
            return false;
        }
        let Some(&slot) = self.by_tid.get(&tid) else { return false };
        if let Some(thread) = self.threads.get_mut(slot) {
            thread.exited_ns = Some(now_ns);
            self.exited.push_back((slot, thread.serial));
            if process_ended && let Some(process) = self.processes.get_mut(thread.process) {
                process.exited_ns = Some(now_ns);
            }
        }
        self.forget_exited(now_ns);
        true
    }

    /// Forgets a thread.
    pub(super) fn remove(&mut self, tid: Tid) {
        if let Some(slot) = self.by_tid.get(&tid) {
            self.remove_at(*slot);
        }
    }

    /// The thread is known, of that very process, and has exited.
    pub(super) fn has_exited(&self, life: Life, tid: Tid) -> bool {
        let thread = self.by_tid.get(&tid).and_then(|&slot| self.threads.get(slot));
        thread.is_some_and(|thread| {
            let process = self.processes.get(thread.process);
            thread.exited_ns.is_some()
                && process
                    .is_some_and(|of| of.tgid == life.tgid && of.start_ns == life.start_ns && !of.replaced)
        })
    }

    /// The process that a record speaks of, brought up to date, or a new one; `None` if a later one has the id.
    fn process(&mut self, life: Life) -> Option<Slot> {
        let known = self.by_tgid.get(&life.tgid).copied();
        if let Some((slot, process)) = known.and_then(|slot| Some((slot, self.processes.get_mut(slot)?))) {
            let same = match (process.start_ns, life.start_ns) {
                (Some(known), Some(said)) if known > said => return None,
                (Some(known), Some(said)) => known == said,
                // A start that was not seen: it is the same unless that one has ended.
                _ => process.exited_ns.is_none(),
            };
            if same {
                process.start_ns = process.start_ns.or(life.start_ns);
                process.parent = life.parent.or(process.parent);
                return Some(slot);
            }
            process.replaced = true;
        }
        let Life { tgid, start_ns, parent } = life;
        let process = Process { tgid, start_ns, parent, exited_ns: None, replaced: false, threads: 0 };
        let slot = self.processes.insert(process);
        self.by_tgid.insert(tgid, slot);
        Some(slot)
    }

    fn remove_at(&mut self, slot: Slot) {
        let Some(thread) = self.threads.remove(slot) else { return };
        self.by_tid.remove(&thread.tid);
        let Some(process) = self.processes.get_mut(thread.process) else { return };
        process.threads -= 1;
        if process.threads == 0 {
            if self.by_tgid.get(&process.tgid) == Some(&thread.process) {
                self.by_tgid.remove(&process.tgid);
            }
            self.processes.remove(thread.process);
        }
    }

    /// Forgets threads that exited long ago, and the queue's entries of threads that have gone another way.
    fn forget_exited(&mut self, now_ns: u64) {
        while let Some(&(slot, serial)) = self.exited.front() {
            let thread = self.threads.get(slot).filter(|thread| thread.serial == serial);
            match thread {
                Some(thread) if !over(thread.exited_ns, self.grace_ns, now_ns) => break,
                Some(_) => self.remove_at(slot),
                None => {}
            }
            self.exited.pop_front();
        }
        if self.exited.len() > 2 * self.limit {
            let threads = &self.threads;
            self.exited.retain(|&(slot, serial)| threads.get(slot).is_some_and(|of| of.serial == serial));
        }
    }

    /// Makes room for one: the first that exited, else a live one that was not asked for lately.
    fn evict(&mut self) {
        self.evicted += 1;
        while let Some((slot, serial)) = self.exited.pop_front() {
            if self.threads.get(slot).is_some_and(|thread| thread.serial == serial) {
                return self.remove_at(slot);
            }
        }
        let mut oldest = None;
        for _ in 0..LOOKED_AT.min(self.threads.len()) {
            let Some(slot) = self.threads.after(self.hand) else { break };
            self.hand = slot;
            let used = self.threads.get(slot).map_or(0, |thread| thread.used);
            if oldest.is_none_or(|(_, other)| used < other) {
                oldest = Some((slot, used));
            }
        }
        if let Some((slot, _)) = oldest {
            self.remove_at(slot);
        }
    }
}

/// Among so many live threads, round and round, the one that was not asked for the longest is evicted.
const LOOKED_AT: usize = 8;

/// The start of a process as a key has it.
pub(super) const fn cut(start_ns: u64) -> u64 {
    start_ns - start_ns % START_GRANULARITY_NS
}

/// It ended, and more than the grace ago.
fn over(exited_ns: Option<u64>, grace_ns: u64, now_ns: u64) -> bool {
    exited_ns.is_some_and(|exited_ns| exited_ns.saturating_add(grace_ns) < now_ns)
}
