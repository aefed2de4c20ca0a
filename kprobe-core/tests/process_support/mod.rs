//! A little operating system: it forks, execs, renames and exits, writes the records that the kernel programs would write,
//! and knows for each of them what the process table has to say.

use std::{collections::BTreeMap, sync::Arc};

use kprobe_core::{
    abi::{self, CPU_NONE, Header, Kind},
    event::{BootId, Comm, ProcessKey, Tgid},
    pipeline::Context,
};
use zerocopy::{Immutable, IntoBytes};

pub(crate) const BOOT: BootId = BootId(0xb007);
/// `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC` by as much as the machine slept.
const SLEPT_NS: u64 = 3_123_456_789;
const PIDS: u32 = 24;
const INIT: u32 = 1;

#[derive(Clone, Debug)]
struct Process {
    start_ns: u64,
    parent: u32,
    /// What the last record that named the parent said.
    told_parent: u32,
    cgroup: u64,
}

#[derive(Clone, Debug)]
struct Thread {
    tgid: u32,
    comm: Comm,
}

pub(crate) struct Os {
    now_ns: u64,
    seq: u32,
    next_pid: u32,
    processes: BTreeMap<u32, Process>,
    threads: BTreeMap<u32, Thread>,
    containers: BTreeMap<u64, Arc<str>>,
    /// Records, and what is to be known of each.
    pub(crate) log: Vec<(Vec<u8>, Context)>,
}

/// One thing that happens: which, two choices of who, a name, and the time since the one before.
pub(crate) type Act = (u8, usize, usize, u8, u64);

fn name(n: u8) -> Comm {
    Comm::from_text(format!("name {n} (x").as_bytes())
}

impl Os {
    /// A machine with some processes, told by `meta` records.
    pub(crate) fn new() -> Self {
        let mut os = Self {
            now_ns: 1_000_000_000,
            seq: 0,
            next_pid: 2,
            processes: BTreeMap::new(),
            threads: BTreeMap::new(),
            containers: BTreeMap::new(),
            log: Vec::new(),
        };
        for cgroup in [2, 3] {
            let id = format!("{cgroup:064x}");
            let mut body =
                abi::CgroupName { len: 64, flags: abi::CGROUP_IS_CONTAINER, reserved: 0, text: [0; 64] };
            body.text.copy_from_slice(id.as_bytes());
            os.containers.insert(cgroup, id.into());
            let header =
                Header { ktime_ns: os.now_ns, cgroup_id: cgroup, cpu: CPU_NONE, ..Header::default() };
            let context = Context { container: os.containers.get(&cgroup).cloned(), ..Context::default() };
            os.put(header, Kind::META_CGROUP, &body, context);
        }
        for (tgid, tid, parent) in [(1, 1, 0), (5, 5, 1), (5, 6, 1), (9, 9, 5)] {
            let start_ns = u64::from(tgid) * 123_456_789;
            let cgroup = u64::from(tgid % 4);
            let process = Process { start_ns, parent, told_parent: parent, cgroup };
            os.processes.entry(tgid).or_insert(process);
            let comm = name(u8::try_from(tid).expect("small") + 100);
            os.threads.insert(tid, Thread { tgid, comm });
            let start_ns = start_ns - start_ns % 10_000_000;
            let body = abi::ThreadSeed { start_ns, parent_tgid: parent, flags: 0, comm: comm.to_field() };
            let header = Header { cpu: CPU_NONE, ..os.header(tid, 0) };
            let context = os.context(tid);
            os.put(header, Kind::META_THREAD, &body, context);
        }
        os
    }

    pub(crate) fn act(&mut self, (what, who, other, n, dt): Act) {
        self.now_ns += dt;
        let pick = |at: usize| *self.threads.keys().nth(at % self.threads.len()).expect("init never ends");
        let (tid, other) = (pick(who), pick(other));
        let cpu = u16::from(n % 4);
        match what {
            0 | 1 => self.fork(tid, cpu, what == 1),
            2 => self.new_thread(tid, cpu),
            3 => self.exec(tid, cpu, name(n)),
            4 => self.rename(tid, tid, cpu, name(n)),
            5 => {
                let sibling = if self.threads[&other].tgid == self.threads[&tid].tgid { other } else { tid };
                self.rename(tid, sibling, cpu, name(n));
            }
            6 | 7 => self.exit(tid, cpu),
            8 => self.switch(tid, Some(other), cpu),
            9 => self.switch(tid, None, cpu),
            10 => {
                let body = abi::SchedWaking {
                    wakee_tid: other,
                    wakee_tgid: self.threads[&other].tgid,
                    context: abi::CONTEXT_TASK,
                    ..abi::SchedWaking::default()
                };
                let context = Context { other_comm: self.threads[&other].comm, ..self.context(tid) };
                self.put(self.header(tid, cpu), Kind::SCHED_WAKING, &body, context);
            }
            11 => {
                let moved_tgid = self.threads[&other].tgid;
                let body = abi::SchedMigrate {
                    moved_tid: other,
                    moved_tgid,
                    to_cpu: 1,
                    ..abi::SchedMigrate::default()
                };
                let context = Context { other_comm: self.threads[&other].comm, ..Context::default() };
                let context = Context { comm: idle(cpu), ..context };
                let header = Header { tgid: 0, tid: 0, cgroup_id: 1, ..self.header(tid, cpu) };
                self.put(header, Kind::SCHED_MIGRATE, &body, context);
            }
            _ => {
                let context = self.context(tid);
                self.put(self.header(tid, cpu), Kind::SYSCALL, &abi::Syscall::default(), context);
            }
        }
    }

    fn fork(&mut self, tid: u32, cpu: u16, with_clone_parent: bool) {
        let Some(child) = self.free_pid() else { return };
        let tgid = self.threads[&tid].tgid;
        let comm = self.threads[&tid].comm;
        let creator = self.processes[&tgid].clone();
        let parent = if with_clone_parent && tgid != INIT { creator.parent } else { tgid };
        let start_ns = self.now_ns + SLEPT_NS;
        // A service manager puts its children into cgroups; others stay where they are.
        let cgroup = if tgid == INIT { u64::from(child % 4) } else { creator.cgroup };
        self.processes.insert(child, Process { start_ns, parent, told_parent: parent, cgroup });
        self.threads.insert(child, Thread { tgid: child, comm });
        let body = abi::ProcessFork {
            child_tgid: child,
            child_tid: child,
            child_start_ns: start_ns,
            parent_tgid: parent,
            flags: 0,
        };
        let context = Context { other_comm: comm, ..self.context(tid) };
        self.put(self.header(tid, cpu), Kind::PROCESS_FORK, &body, context);
    }

    fn new_thread(&mut self, tid: u32, cpu: u16) {
        let Some(child) = self.free_pid() else { return };
        let Thread { tgid, comm } = self.threads[&tid].clone();
        self.threads.insert(child, Thread { tgid, comm });
        let parent = self.tell_parent(tgid);
        let body = abi::ProcessFork {
            child_tgid: tgid,
            child_tid: child,
            child_start_ns: self.now_ns + SLEPT_NS,
            parent_tgid: parent,
            flags: 0,
        };
        let context = Context { other_comm: comm, ..self.context(tid) };
        self.put(self.header(tid, cpu), Kind::PROCESS_FORK, &body, context);
    }

    /// All other threads end; the caller becomes the first thread of its process.
    fn exec(&mut self, tid: u32, cpu: u16, comm: Comm) {
        let tgid = self.threads[&tid].tgid;
        let others: Vec<u32> = self
            .threads
            .iter()
            .filter(|(id, of)| of.tgid == tgid && **id != tid)
            .map(|(id, _)| *id)
            .collect();
        for other in others {
            self.exit(other, cpu);
        }
        self.threads.remove(&tid);
        self.threads.insert(tgid, Thread { tgid, comm });
        let parent_tgid = self.tell_parent(tgid);
        let body = abi::ProcessExec {
            start_ns: self.processes[&tgid].start_ns,
            parent_tgid,
            old_tid: tid,
            comm: comm.to_field(),
            ..abi::ProcessExec::default()
        };
        let context = self.context(tgid);
        self.put(self.header(tgid, cpu), Kind::PROCESS_EXEC, &body, context);
    }

    fn rename(&mut self, tid: u32, renamed_tid: u32, cpu: u16, comm: Comm) {
        let renamed_tgid = self.threads[&renamed_tid].tgid;
        let body = abi::ProcessRename { renamed_tid, renamed_tgid, comm: comm.to_field() };
        let context = self.context(tid);
        self.put(self.header(tid, cpu), Kind::PROCESS_RENAME, &body, context);
        self.threads.get_mut(&renamed_tid).expect("it lives").comm = comm;
    }

    fn exit(&mut self, tid: u32, cpu: u16) {
        let tgid = self.threads[&tid].tgid;
        if tgid == INIT && tid == INIT {
            return;
        }
        let ended = self.threads.values().filter(|of| of.tgid == tgid).count() == 1;
        let parent_tgid = self.tell_parent(tgid);
        let body = abi::ProcessExit {
            start_ns: self.processes[&tgid].start_ns,
            parent_tgid,
            status: 0,
            flags: if ended { abi::EXIT_PROCESS } else { 0 },
        };
        let context = self.context(tid);
        self.put(self.header(tid, cpu), Kind::PROCESS_EXIT, &body, context);
        // The last that is heard of it.
        self.switch(tid, None, cpu);
        self.threads.remove(&tid);
        if ended {
            self.processes.remove(&tgid);
            self.processes.values_mut().filter(|of| of.parent == tgid).for_each(|of| of.parent = INIT);
        }
    }

    fn switch(&mut self, tid: u32, next: Option<u32>, cpu: u16) {
        let next_tgid = next.map_or(0, |next| self.threads[&next].tgid);
        let body = abi::SchedSwitch { next_tid: next.unwrap_or(0), next_tgid, ..abi::SchedSwitch::default() };
        let other_comm = next.map_or(idle(cpu), |next| self.threads[&next].comm);
        let context = Context { other_comm, ..self.context(tid) };
        self.put(self.header(tid, cpu), Kind::SCHED_SWITCH, &body, context);
    }

    fn tell_parent(&mut self, tgid: u32) -> u32 {
        let process = self.processes.get_mut(&tgid).expect("it lives");
        process.told_parent = process.parent;
        process.parent
    }

    /// The next pid that neither a thread nor a process with another first thread has.
    fn free_pid(&mut self) -> Option<u32> {
        let pid = (0..PIDS)
            .map(|n| (self.next_pid + n) % PIDS)
            .find(|pid| *pid > 1 && !self.threads.contains_key(pid) && !self.processes.contains_key(pid))?;
        self.next_pid = pid + 1;
        Some(pid)
    }

    fn header(&self, tid: u32, cpu: u16) -> Header {
        let tgid = self.threads[&tid].tgid;
        let cgroup_id = self.processes[&tgid].cgroup;
        Header { ktime_ns: self.now_ns, cgroup_id, tgid, tid, kind: 0, cpu, seq: self.seq }
    }

    fn context(&self, tid: u32) -> Context {
        let Thread { tgid, comm } = self.threads[&tid];
        let process = &self.processes[&tgid];
        Context {
            comm,
            other_comm: Comm::default(),
            process: Some(ProcessKey::new(BOOT, Tgid(tgid), process.start_ns)),
            parent: Some(Tgid(process.told_parent)),
            container: self.containers.get(&process.cgroup).cloned(),
        }
    }

    fn put(&mut self, header: Header, kind: Kind, body: &(impl IntoBytes + Immutable), context: Context) {
        let header = Header { kind: kind.0, seq: self.seq, ..header };
        self.seq += 1;
        self.log.push(([header.as_bytes(), body.as_bytes()].concat(), context));
    }
}

fn idle(cpu: u16) -> Comm {
    Comm::from_text(format!("swapper/{cpu}").as_bytes())
}
