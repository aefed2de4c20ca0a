//! Records of every kind, as bytes, and batches of them.

use std::sync::Arc;

use kprobe_core::{
    abi::{self, CPU_NONE, Header, Kind},
    decode::{DecodeError, Record},
    event::{Arch, BootId, Comm, Field, Origin, ProcessKey, Registry, Tgid, Type, TypedEvent, Value},
    pipeline::{Batch, BatchBuf, Clocks, Context, StreamInfo},
};
use zerocopy::{Immutable, IntoBytes};

pub(crate) mod schema;
pub(crate) mod writer;

/// 2026-09-30T12:34:56.789012345Z when the monotonic clock was at 1000 s.
pub(crate) const CLOCKS: Clocks = Clocks {
    monotonic_ns: 1_000_000_000_000,
    boottime_ns: 1_500_000_000_000,
    realtime_ns: 1_790_771_696_789_012_345,
    uncertainty_ns: 180,
};

pub(crate) fn info() -> StreamInfo {
    StreamInfo {
        host: "web-1".to_owned(),
        boot: BootId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        kernel: "6.12.48+deb13-amd64".to_owned(),
        arch: Arch::X86_64,
        clocks: CLOCKS,
        cpus: 4,
        report: serde_json::Value::Null,
        sources: 1,
    }
}

/// The kind of [`CacheMiss`].
pub(crate) const CACHE_MISS: Kind = Kind(Kind::USER.0 + 1);

/// A user's own event, with field names that other parts of a line have as well.
pub(crate) struct CacheMiss {
    origin: Origin,
    line: u64,
}

impl TypedEvent for CacheMiss {
    const KIND: Kind = CACHE_MISS;
    const NAME: &'static str = "app.cache_miss";
    const FIELDS: &'static [Field] = &[
        Field::new("line", Type::U64, "cache line"),
        Field::new("wait_duration_ns", Type::U64, "a duration"),
        Field::new("comm", Type::Text, "has the name of a common field"),
        Field::new("container", Type::Bool, "has the name of a common field that gives way"),
        Field::new("delta", Type::I64, "signed"),
        Field::new("text", Type::Text, "anything"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        Ok(Self { origin: Origin::of(&record), line: record.body_of::<u64>(Self::KIND)? })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("line", Value::U64(self.line));
        put("wait_duration_ns", Value::U64(self.line));
        put("comm", Value::Text("own"));
        put("container", Value::Bool(true));
        put("delta", Value::I64(-5));
        put("text", Value::Text("\u{1b}[31m\"red\"\n"));
    }
}

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::builtin();
    registry.register::<CacheMiss>();
    registry
}

/// A record and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) context: Context,
}

impl Sample {
    pub(crate) fn new<B: IntoBytes + Immutable>(header: Header, body: &B) -> Self {
        Self { bytes: [header.as_bytes(), body.as_bytes()].concat(), context: Context::default() }
    }

    pub(crate) fn comm(mut self, comm: &[u8]) -> Self {
        self.context.comm = Comm::from_text(comm);
        self
    }

    pub(crate) fn other(mut self, comm: &[u8]) -> Self {
        self.context.other_comm = Comm::from_text(comm);
        self
    }

    pub(crate) fn context(mut self, container: &str, parent: u32) -> Self {
        self.context.container = Some(Arc::from(container));
        self.context.parent = Some(Tgid(parent));
        self.context.process = Some(ProcessKey::new(BootId(1), Tgid(1234), 5));
        self
    }

    pub(crate) fn record(&self) -> Record<'_> {
        Record::new(&self.bytes).expect("a record has a header")
    }
}

pub(crate) fn batch(samples: &[Sample]) -> Batch {
    let mut buf = BatchBuf::default();
    for sample in samples {
        buf.push_enriched(sample.record(), &sample.context);
    }
    buf.take()
}

/// By thread 1234 on CPU 1, `us` microseconds after the clocks were read.
pub(crate) fn at(us: u64, kind: Kind) -> Header {
    Header {
        ktime_ns: CLOCKS.monotonic_ns + us * 1_000,
        cgroup_id: 4242,
        tgid: 1234,
        tid: 1234,
        kind: kind.0,
        cpu: 1,
        seq: 7,
    }
}

pub(crate) fn idle(us: u64, kind: Kind) -> Header {
    Header { tgid: 0, tid: 0, cgroup_id: 1, ..at(us, kind) }
}

pub(crate) fn user_space(us: u64, kind: Kind) -> Header {
    Header { cgroup_id: 0, tgid: 0, tid: 0, cpu: CPU_NONE, seq: 0, ..at(us, kind) }
}

pub(crate) fn comm_field(text: &[u8]) -> [u8; 16] {
    Comm::from_text(text).to_field()
}

pub(crate) fn syscall(header: Header, nr: u16, duration: u64, ret: i64) -> abi::Syscall {
    abi::Syscall {
        enter_ns: header.ktime_ns - duration,
        ret,
        requested: 0,
        fd: 0,
        nr,
        flags: abi::SYSCALL_HAS_RET,
    }
}

/// One of each kind, and the turns that each can take.
pub(crate) fn everything() -> Vec<Sample> {
    let mut samples = scheduler();
    samples.extend(processes());
    samples.extend(syscalls());
    samples.extend(faults());
    samples.extend(shortages());
    samples.extend(security());
    samples.extend(pipes());
    samples.extend(datagrams());
    samples.extend(paths());
    samples.extend(unix_streams());
    samples.extend(block());
    samples.extend(tcp());
    samples.extend(locks());
    samples.extend(waits());
    samples.extend(irq());
    samples.extend(metas());
    samples.push(Sample::new(at(90, CACHE_MISS), &4096_u64).comm(b"app").context("c0ffee", 9));
    samples
}

fn scheduler() -> Vec<Sample> {
    let switch = |prev_state, flags| abi::SchedSwitch {
        next_tid: 77,
        next_tgid: 70,
        prev_state,
        prev_prio: 120,
        next_prio: 98,
        flags,
    };
    let waking =
        |context| abi::SchedWaking { wakee_tid: 77, wakee_tgid: 77, prio: 120, target_cpu: 3, context };
    let mut samples: Vec<_> = [0, 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x402, 0x1000]
        .into_iter()
        .map(|state| Sample::new(at(1, Kind::SCHED_SWITCH), &switch(state, 0)).comm(b"ls").other(b"make"))
        .collect();
    samples.push(Sample::new(at(1, Kind::SCHED_SWITCH), &switch(0, abi::SWITCH_PREEMPT)));
    samples.push(Sample::new(idle(1, Kind::SCHED_SWITCH), &switch(0, 0)));
    samples
        .extend((0..=4).map(|context| Sample::new(at(2, Kind::SCHED_WAKING), &waking(context)).comm(b"ls")));
    let migrate = abi::SchedMigrate { moved_tid: 77, moved_tgid: 77, from_cpu: 0, to_cpu: 3, prio: 120 };
    samples.push(Sample::new(at(3, Kind::SCHED_MIGRATE), &migrate).comm(b"ls").context("c0ffee", 12));
    samples
}

fn processes() -> Vec<Sample> {
    let fork = |tid, tgid, parent| abi::ProcessFork {
        child_tgid: tgid,
        child_tid: tid,
        child_start_ns: 77,
        parent_tgid: parent,
        flags: 0,
    };
    let exec = |old_tid, flags| abi::ProcessExec {
        start_ns: 70,
        exe_inode: 131_090,
        exe_dev: 8 << 20 | 1,
        parent_tgid: 1200,
        old_tid,
        flags,
        comm: comm_field(b"ls"),
    };
    let exit = |status, flags| abi::ProcessExit { start_ns: 70, parent_tgid: 1200, status, flags };
    let rename =
        |tid| abi::ProcessRename { renamed_tid: tid, renamed_tgid: 1234, comm: comm_field(b"worker \x1b") };
    vec![
        Sample::new(at(10, Kind::PROCESS_FORK), &fork(1300, 1300, 1234))
            .comm(b"sh")
            .other(b"sh")
            .context("c0ffee", 1),
        Sample::new(at(10, Kind::PROCESS_FORK), &fork(1301, 1234, 1)).comm(b"sh"),
        Sample::new(at(11, Kind::PROCESS_EXEC), &exec(1234, abi::EXEC_HAS_EXE)),
        Sample::new(at(11, Kind::PROCESS_EXEC), &exec(1240, 0)).comm(b"ls").context("c0ffee", 1200),
        Sample::new(at(12, Kind::PROCESS_EXIT), &exit(0, abi::EXIT_PROCESS)).comm(b"ls"),
        Sample::new(at(12, Kind::PROCESS_EXIT), &exit(2 << 8, 0)).comm(b"ls"),
        Sample::new(at(12, Kind::PROCESS_EXIT), &exit(9, abi::EXIT_PROCESS)).comm(b"ls"),
        Sample::new(at(12, Kind::PROCESS_EXIT), &exit(11 | 0x80, abi::EXIT_PROCESS)).comm(b"ls"),
        Sample::new(at(12, Kind::PROCESS_EXIT), &exit(34, abi::EXIT_PROCESS)).comm(b"ls"),
        Sample::new(at(13, Kind::PROCESS_RENAME), &rename(1234)).comm(b"old"),
        Sample::new(at(13, Kind::PROCESS_RENAME), &rename(1250)).comm(b"old"),
    ]
}

fn syscalls() -> Vec<Sample> {
    let header = at(20, Kind::SYSCALL);
    let plain = syscall(header, 39, 250, 1234);
    let with = |nr, fd, requested, ret, flags| abi::Syscall {
        fd,
        requested,
        flags,
        ..syscall(header, nr, 12_345, ret)
    };
    let (fd, requested, ret) = (abi::SYSCALL_HAS_FD, abi::SYSCALL_HAS_REQUESTED, abi::SYSCALL_HAS_RET);
    [
        plain,
        with(0, 3, 4096, 512, fd | requested | ret),
        with(257, -100, 0, 3, fd | ret),
        with(257, -100, 0, -2, fd | ret),
        with(9, 0, 8192, 0x7f12_3456_7000, requested | ret),
        with(0, 3, 1, -512, fd | requested | ret),
        with(0, 3, 1, -4000, fd | requested | ret),
        with(231, 0, 0, 0, 0),
        with(3, 5, 0, 0, fd | ret | abi::SYSCALL_COMPAT),
        with(0, 5, 9, 9, fd | requested | ret | abi::SYSCALL_X32),
        with(9_999, 0, 0, 0, ret),
        with(abi::SYSCALL_NR_INVALID, 0, 0, i64::MIN, ret),
        with(1, 1, u64::MAX, i64::MAX, fd | requested | ret),
    ]
    .iter()
    .map(|body| Sample::new(header, body).comm(b"ls"))
    .collect()
}

fn faults() -> Vec<Sample> {
    let header = at(29, Kind::MEMORY_FAULT_MAJOR);
    let major = |flags| abi::MemoryFaultMajor {
        begin_ns: header.ktime_ns - 1_500_000,
        address: 0x7f12_3456_7000,
        inode: 99,
        device: 8 << 20 | 1,
        flags,
    };
    let minor = |one_in, flags| abi::MemoryFaultMinor { begin_ns: 0, address: 0x1000, one_in, flags };
    let user = abi::FAULT_HAS_ACCESS | abi::FAULT_USER;
    let file = abi::FAULT_HAS_BEGIN | abi::FAULT_HAS_FILE;
    let majors = [file | user | abi::FAULT_EXEC, abi::FAULT_HAS_BEGIN | user, 0];
    let minors = [(1, user | abi::FAULT_WRITE), (100, abi::FAULT_HAS_ACCESS | abi::FAULT_REMOTE)];
    let majors = majors.map(|flags| Sample::new(header, &major(flags)).comm(b"ls"));
    let header = at(29, Kind::MEMORY_FAULT_MINOR);
    let minors = minors.map(|(one_in, flags)| Sample::new(header, &minor(one_in, flags)).comm(b"ls"));
    majors.into_iter().chain(minors).collect()
}

fn irq() -> Vec<Sample> {
    let header = at(50, Kind::IRQ_HARD);
    let begin_ns = header.ktime_ns - 150_000;
    let hard = [(27, 0), (0xec, abi::IRQ_VECTOR), (3, abi::IRQ_VECTOR)]
        .map(|(number, flags)| Sample::new(header, &abi::IrqHard { begin_ns, number, flags }).comm(b"ls"));
    let header = at(51, Kind::IRQ_SOFT);
    let soft = [(3, 0), (1, 20_000), (15, 0)].map(|(vector, nested_ns)| {
        Sample::new(header, &abi::IrqSoft { begin_ns, nested_ns, vector, reserved: 0 }).comm(b"ls")
    });
    hard.into_iter().chain(soft).collect()
}

fn shortages() -> Vec<Sample> {
    let header = |kind| at(29, kind);
    let begin_ns = header(Kind::MEMORY_RECLAIM).ktime_ns - 1_500_000;
    let reclaim = |scope, flags| {
        let body = abi::MemoryReclaim {
            begin_ns,
            reclaimed_pages: 32,
            cgroup_id: 77,
            order: 1,
            gfp: 0xcc0,
            scope,
            flags,
        };
        Sample::new(header(Kind::MEMORY_RECLAIM), &body).comm(b"ls")
    };
    let compaction = |order, result, flags| {
        let body = abi::MemoryCompaction { begin_ns, order, gfp: 0xcc0, result, flags };
        Sample::new(header(Kind::MEMORY_COMPACTION), &body).comm(b"ls")
    };
    let kill = |order, flags| {
        let body = abi::MemoryOomKill {
            victim_start_ns: 5,
            total_vm_bytes: 8 << 20,
            anon_bytes: 4 << 20,
            file_bytes: 1 << 20,
            shmem_bytes: 0,
            cgroup_id: 77,
            victim_tgid: 1300,
            victim_tid: 1301,
            order,
            gfp: 0xcc0,
            score_adj: -500,
            flags,
        };
        Sample::new(header(Kind::MEMORY_OOM_KILL), &body).comm(b"ls")
    };
    let all = abi::OOM_HAS_SIZES | abi::OOM_HAS_CAUSE | abi::OOM_IN_CGROUP;
    vec![
        reclaim(abi::RECLAIM_GLOBAL, 0),
        reclaim(abi::RECLAIM_CGROUP, 0),
        reclaim(abi::RECLAIM_CGROUP, abi::RECLAIM_HAS_CGROUP),
        compaction(9, 8, abi::COMPACTION_DIRECT),
        compaction(-1, 99, abi::COMPACTION_SYNC),
        kill(0, all),
        kill(-1, abi::OOM_HAS_CAUSE),
        kill(0, 0),
    ]
}

fn security() -> Vec<Sample> {
    let header = at(30, Kind::SECURITY_CAPABILITY);
    let options = abi::CAPABILITY_HAS_OPTIONS;
    [
        (21, 0, 0, 0),
        (18, -1, 1, options | abi::CAPABILITY_NO_AUDIT),
        (7, 0, 0, options | abi::CAPABILITY_IN_SETID),
        (63, -4000, 0, options),
    ]
    .map(|(capability, result, user_ns_level, flags)| abi::SecurityCapability {
        capability,
        result,
        user_ns_level,
        flags,
    })
    .iter()
    .map(|body| Sample::new(header, body).comm(b"ls"))
    .collect()
}

fn pipes() -> Vec<Sample> {
    let (inode, device) = (706_693, 14);
    let write = |call: abi::PipeCall, start, end, flags| abi::PipeWrite {
        inode,
        start,
        end,
        device,
        call: call.0.into(),
        flags,
    };
    let read = |call: abi::PipeCall, start, end, flags| abi::PipeRead {
        inode,
        start,
        end,
        device,
        call: call.0.into(),
        flags,
    };
    let written = [
        write(abi::PipeCall::WRITE, 0, 4095, 0),
        write(abi::PipeCall::SENDFILE, 4095, 4096, abi::PIPE_OVERLAPPED),
    ];
    let taken = [
        read(abi::PipeCall::TEE, 0, 10, abi::PIPE_PEEK),
        read(abi::PipeCall::READ, 0, 4096, abi::PIPE_RELATIVE),
    ];
    let of = |kind| at(31, kind);
    let written = written.iter().map(|body| Sample::new(of(Kind::PIPE_WRITE), body).comm(b"ls"));
    let taken = taken.iter().map(|body| Sample::new(of(Kind::PIPE_READ), body).comm(b"wc"));
    written.chain(taken).collect()
}

fn block() -> Vec<Sample> {
    let header = at(40, Kind::BLOCK_REQUEST);
    let of_known = abi::BLOCK_HAS_ORIGIN | abi::BLOCK_HAS_CHARGED | abi::BLOCK_HAS_QUEUED;
    let read = abi::BlockRequest {
        queued_ns: header.ktime_ns - 5_000,
        issued_ns: header.ktime_ns - 4_000,
        sector: 2048,
        bytes: 4096,
        origin_cgroup_id: 7,
        charged_cgroup_id: 7,
        dev: 8 << 20,
        origin_tgid: 70,
        origin_tid: 77,
        flags: of_known | abi::BLOCK_HAS_ISSUED | abi::BLOCK_META | abi::BLOCK_SPLIT,
        op: 0,
        status: 0,
        requeues: 1,
        bios: 2,
    };
    let flush = abi::BlockRequest {
        bytes: 0,
        flags: of_known | abi::BLOCK_KERNEL_THREAD | abi::BLOCK_PREFLUSH | abi::BLOCK_SYNC,
        op: 1,
        ..read
    };
    let failed = abi::BlockRequest { op: 35, status: 10, flags: abi::BLOCK_HAS_ISSUED, bios: 0, ..read };
    let odd = abi::BlockRequest { op: 99, status: 77, flags: 0, ..read };
    let merge = |how| abi::BlockMerge {
        queued_ns: 5,
        sector: 2056,
        bytes: 4096,
        origin_cgroup_id: 7,
        charged_cgroup_id: 7,
        dev: 8 << 20,
        origin_tgid: 70,
        origin_tid: 77,
        flags: of_known,
        op: 1,
        how,
        reserved: 0,
    };
    let requests = [read, flush, failed, odd].map(|body| Sample::new(header, &body).comm(b"ls").other(b"dd"));
    let merges = [abi::MERGE_BACK, abi::MERGE_FRONT, abi::MERGE_REQUEST]
        .map(|how| Sample::new(at(41, Kind::BLOCK_MERGE), &merge(how)).comm(b"dd").other(b"dd"));
    requests.into_iter().chain(merges).collect()
}

fn tcp() -> Vec<Sample> {
    let mapped = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
    let socket = |flags| abi::TcpSocket {
        cookie: 77,
        local_addr: mapped(1),
        remote_addr: mapped(2),
        local_port: 40_000,
        remote_port: 443,
        netns: 4_026_531_840,
        srtt_us: 250,
        flags: flags | abi::TCP_HAS_NETNS,
    };
    let v6 = abi::TcpSocket { cookie: 0, local_addr: [1; 16], srtt_us: 0, flags: abi::TCP_IPV6, ..socket(0) };
    let listening = abi::TcpSocket { remote_addr: mapped(0), remote_port: 0, ..socket(0) };
    let owned = socket(abi::TCP_HAS_OWNER | abi::TCP_CONNECTED);
    let done = socket(abi::TCP_HAS_OWNER | abi::TCP_CONNECTED | abi::TCP_HAS_RESULT);
    let (owner_tgid, owner_tid) = (1234, 1235);
    let at = |kind| at(28, kind);
    let header = at(Kind::TCP_CONNECT);
    let connect = |socket, ret| abi::TcpConnect {
        socket,
        begin_ns: header.ktime_ns - 12_300,
        owner_tgid,
        owner_tid,
        ret,
    };
    let again = |socket| abi::TcpRetransmit {
        socket,
        start: 7,
        end: 99,
        owner_tgid,
        owner_tid,
        segments: 1,
        state: 1,
    };
    let change = |socket, old, new| abi::TcpState { socket, owner_tgid, owner_tid, old, new };
    let accepted = |flags| abi::TcpAccept { socket: socket(abi::TCP_ACCEPTED | flags), queued_ns: 31_000 };
    vec![
        Sample::new(at(Kind::TCP_SEND), &abi::TcpSend { socket: owned, start: 7, end: 1014 }),
        Sample::new(at(Kind::TCP_RECV), &abi::TcpRecv { socket: v6, start: 0, end: u64::MAX }),
        Sample::new(at(Kind::TCP_RETRANSMIT), &again(owned)),
        Sample::new(at(Kind::TCP_RETRANSMIT), &again(v6)),
        Sample::new(at(Kind::TCP_STATE), &change(owned, 1, 4)),
        Sample::new(at(Kind::TCP_STATE), &change(v6, 10, 99)),
        Sample::new(at(Kind::TCP_STATE), &change(listening, 7, 10)),
        Sample::new(at(Kind::TCP_CONNECT), &connect(done, 0)),
        Sample::new(at(Kind::TCP_CONNECT), &connect(done, -111)),
        Sample::new(at(Kind::TCP_CONNECT), &connect(owned, 0)),
        Sample::new(at(Kind::TCP_ACCEPT), &accepted(abi::TCP_HAS_RESULT)),
        Sample::new(at(Kind::TCP_ACCEPT), &accepted(0)),
    ]
    .into_iter()
    .map(|sample| sample.comm(b"ls"))
    .collect()
}

fn locks() -> Vec<Sample> {
    use abi::futex_op;
    let (wait, wake) = (at(25, Kind::LOCK_FUTEX), at(25, Kind::LOCK_FUTEX_WAKE));
    let private = abi::FutexKey {
        address: 0x7f12_3456_7000,
        object: 355_242,
        flags: abi::FUTEX_HAS_ADDRESS | abi::FUTEX_PRIVATE | abi::FUTEX_HAS_SPACE,
        ..Default::default()
    };
    let in_file = abi::FutexKey {
        object: 131_090,
        offset: 8_200,
        device: 8 << 20 | 1,
        flags: abi::FUTEX_HAS_ADDRESS | abi::FUTEX_SHARED,
        ..private
    };
    let of = |key, op, ret, flags| abi::LockFutex {
        enter_ns: wait.ktime_ns - 12_345,
        key,
        woken_ns: wait.ktime_ns - 345,
        waker_address: 0x7f12_3456_7000,
        waker_tgid: 1234,
        waker_tid: 1240,
        ret,
        futexes: 1,
        op,
        flags,
    };
    let woken = abi::FUTEX_HAS_WAKER | abi::FUTEX_BLOCKED;
    let by_call = woken | abi::FUTEX_HAS_WAKER_ADDRESS;
    let list = abi::FutexKey::default();
    let mut samples: Vec<_> = [
        of(private, futex_op::WAIT, 0, by_call),
        of(in_file, futex_op::WAIT_BITSET, 0, woken),
        of(private, futex_op::WAIT, -110, abi::FUTEX_BLOCKED | abi::FUTEX_TIMED | abi::FUTEX_RESTARTED),
        abi::LockFutex { futexes: 3, ..of(list, futex_op::FUTEX2_WAITV, 1, woken) },
        of(abi::FutexKey { flags: abi::FUTEX_HAS_ADDRESS | abi::FUTEX_UNRESOLVED, ..list }, 99, -4000, 0),
    ]
    .iter()
    .map(|body| Sample::new(wait, body).comm(b"ls"))
    .collect();
    let of = |key, op, ret, flags| abi::LockFutexWake {
        enter_ns: wake.ktime_ns - 1_000,
        key,
        second_address: 0x7f12_3456_8000,
        wanted: 1,
        wanted_second: 9,
        ret,
        op,
        flags,
        reserved: 0,
    };
    let wakes = [
        of(private, futex_op::WAKE, 1, 0),
        of(private, futex_op::CMP_REQUEUE, 3, abi::FUTEX_HAS_SECOND),
        of(list, futex_op::FUTEX2_REQUEUE, -11, abi::FUTEX_HAS_SECOND),
        of(in_file, futex_op::UNLOCK_PI, 0, 0),
    ];
    samples.extend(wakes.iter().map(|body| Sample::new(wake, body).comm(b"ls")));
    let held = at(26, Kind::LOCK_CONTENTION);
    let of = |flags, ret, context| abi::LockContention {
        begin_ns: held.ktime_ns - 2_000_000,
        lock: 0x0123_4567_89ab_cdef,
        ret,
        flags,
        context,
        reserved: 0,
    };
    let held_up = [
        of(abi::CONTENTION_MUTEX, 0, abi::CONTEXT_TASK),
        of(abi::CONTENTION_READ, -4, abi::CONTEXT_TASK),
        of(abi::CONTENTION_SPIN, 0, abi::CONTEXT_SOFTIRQ),
        of(abi::CONTENTION_SPIN | abi::CONTENTION_WRITE, 0, abi::CONTEXT_ABSENT),
    ];
    samples.extend(held_up.iter().map(|body| Sample::new(held, body).comm(b"ls")));
    samples
}

fn waits() -> Vec<Sample> {
    use abi::wait_class as class;
    const OBJECT: u32 = abi::WAIT_HAS_OBJECT;
    const DEVICE: u32 = abi::WAIT_HAS_OBJECT | abi::WAIT_HAS_DEVICE;
    const CALL: u32 = abi::WAIT_HAS_NR | abi::WAIT_HAS_FD;
    let end = at(51, Kind::WAIT_BLOCKED);
    let of = |class, flags, object| abi::WaitBlocked {
        begin_ns: end.ktime_ns - 1_234_000,
        object,
        cookie: 12_293,
        device: 15,
        fd: 3,
        state: 1,
        flags: abi::WAIT_HAS_NR | flags,
        class,
        ..abi::WaitBlocked::default()
    };
    let woken = |wait: abi::WaitBlocked, context: u32, class, flags: u32, object| abi::WaitBlocked {
        woken_ns: end.ktime_ns - 12_000,
        wake_object: object,
        wake_cookie: 12_294,
        wake_device: 15,
        wake_fd: 4,
        waker_tgid: 1234,
        waker_tid: 1240,
        wake_nr: 1,
        wake_class: class,
        wake_context: u8::try_from(context).expect("a small number"),
        flags: wait.flags | abi::WAIT_HAS_WAKER | flags << abi::WAIT_OF_WAKE,
        ..wait
    };
    let (task, softirq, hardirq) = (abi::CONTEXT_TASK, abi::CONTEXT_SOFTIRQ, abi::CONTEXT_HARDIRQ);
    let pipe = of(class::PIPE, CALL | DEVICE, 706_693);
    let socket = of(class::SOCKET, CALL | OBJECT | abi::WAIT_HAS_COOKIE, 706_694);
    let set = abi::WaitBlocked { nr: 232, ..of(class::EPOLL, CALL | OBJECT, 0x0123_4567_89ab_cdef) };
    let sleep = abi::WaitBlocked { nr: 35, ..of(class::SLEEP, 0, 0) };
    let file =
        abi::WaitBlocked { nr: 17, device: 8 << 20 | 1, state: 2, ..of(class::FILE, CALL | DEVICE, 131_090) };
    let futex = abi::WaitBlocked { nr: 202, ..of(class::FUTEX, OBJECT, 0x7f12_3456_7000) };
    let poll = abi::WaitBlocked { nr: 7, ..of(class::POLL, OBJECT, 2) };
    let child = abi::WaitBlocked { nr: 61, ..of(class::CHILD, OBJECT, 77) };
    let fault = abi::WaitBlocked { flags: 0, state: 2, ..of(class::FAULT, 0, 0) };
    let other = abi::WaitBlocked { nr: 999, ..of(99, 0, 0) };
    let sector = |wait| abi::WaitBlocked {
        wake_device: 8 << 20,
        ..woken(wait, softirq, class::REQUEST, DEVICE, 2048)
    };
    let blocked = [
        woken(pipe, task, class::PIPE, CALL | DEVICE, 706_693),
        woken(set, task, class::EVENTFD, CALL | OBJECT, 0x0fed_cba9_8765_4321),
        woken(socket, softirq, class::SOCKET, OBJECT | abi::WAIT_HAS_COOKIE, 706_694),
        woken(sleep, hardirq, class::TIMER, abi::WAIT_OWN_LIMIT, 0),
        woken(poll, softirq, class::TIMER, OBJECT, 0x0fed_cba9_8765_4321),
        sector(file),
        abi::WaitBlocked {
            wake_nr: 202,
            ..woken(futex, task, class::FUTEX, abi::WAIT_HAS_NR | OBJECT, 0x7f12_3456_7000)
        },
        woken(child, task, class::EXIT, 0, 0),
        woken(poll, task, class::CALL, abi::WAIT_HAS_NR, 0),
        woken(other, task, 99, 0, 0),
        woken(poll, hardirq, class::NONE, 0, 0),
        woken(poll, abi::CONTEXT_ABSENT, class::NONE, 0, 0),
        fault,
    ];
    let mut samples: Vec<_> =
        blocked.iter().map(|body| Sample::new(end, body).comm(b"ls").other(b"wc")).collect();
    let change = at(52, Kind::WAIT_EPOLL);
    let of = |op, class, flags: u32| abi::WaitEpoll {
        epoll: 0x0123_4567_89ab_cdef,
        object: 706_693,
        cookie: 12_293,
        epfd: 5,
        fd: 7,
        device: 15,
        op,
        class,
        flags: u8::try_from(flags | abi::WAIT_HAS_FD).expect("small bits"),
    };
    let changes = [
        of(1, class::PIPE, DEVICE),
        of(3, class::SOCKET, OBJECT | abi::WAIT_HAS_COOKIE),
        of(2, class::CALL, 0),
        of(9, class::TIMERFD, OBJECT),
    ];
    samples.extend(changes.iter().map(|body| Sample::new(change, body).comm(b"ls")));
    let end = at(53, Kind::WAIT_THROTTLE);
    let of =
        |flags| abi::WaitThrottle { begin_ns: end.ktime_ns - 80_100_000, cgroup_id: 4242, cpu: 1, flags };
    samples
        .extend([of(abi::THROTTLE_HAS_CGROUP), of(0)].iter().map(|body| Sample::new(end, body).comm(b"ls")));
    samples
}

fn datagrams() -> Vec<Sample> {
    let address = |last: u8| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last];
    let all = abi::UDP_HAS_NETNS | abi::UDP_HAS_LOCAL | abi::UDP_HAS_REMOTE;
    let socket = abi::UdpSocket {
        cookie: 4711,
        local_addr: address(1),
        remote_addr: address(2),
        local_port: 40_000,
        remote_port: 53,
        netns: 4_026_531_840,
        segment_bytes: 0,
        flags: all,
    };
    let ns = CLOCKS.monotonic_ns + 3_050_000;
    let known = abi::UdpSocket { flags: all | abi::UDP_HAS_SENT_NS | abi::UDP_CONNECTED, ..socket };
    let sent = abi::UdpSend { socket: known, sent_ns: ns, bytes: 30 };
    let cut = abi::UdpSend { socket: abi::UdpSocket { segment_bytes: 1200, ..known }, bytes: 60_000, ..sent };
    let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let v6 = abi::UdpSocket {
        cookie: 0,
        local_addr: loopback,
        remote_addr: loopback,
        flags: all | abi::UDP_IPV6,
        ..socket
    };
    let nowhere = abi::UdpSocket {
        local_addr: [0; 16],
        remote_addr: [0; 16],
        remote_port: 0,
        netns: 0,
        flags: 0,
        ..socket
    };
    let sends = [sent, cut, abi::UdpSend { socket: v6, sent_ns: 0, bytes: 0 }];
    let unsure = abi::UdpSend { socket: nowhere, sent_ns: 0, bytes: 12 };
    let recv = |socket: abi::UdpSocket, flags, bytes, datagram_bytes| abi::UdpRecv {
        socket: abi::UdpSocket { flags: socket.flags | flags, ..socket },
        bytes,
        datagram_bytes,
    };
    let (has_bytes, has_datagram) = (abi::UDP_HAS_BYTES, abi::UDP_HAS_DATAGRAM);
    let receives = [
        recv(socket, has_bytes | has_datagram, 30, 30),
        recv(socket, has_bytes | has_datagram | abi::UDP_PEEK, 10, 30),
        recv(abi::UdpSocket { segment_bytes: 1200, ..v6 }, has_bytes | has_datagram, 60_000, 60_000),
        recv(nowhere, has_bytes, 30, 0),
        recv(nowhere, has_datagram, 0, 30),
    ];
    let sends = sends.into_iter().chain([unsure]);
    let sends = sends.map(|body| Sample::new(at(33, Kind::UDP_SEND), &body).comm(b"ls"));
    let receives = receives.map(|body| Sample::new(at(33, Kind::UDP_RECV), &body).comm(b"wc"));
    sends.chain(receives).collect()
}

fn path_field(path: &[u8]) -> (u16, [u8; abi::PATH_TEXT]) {
    let mut text = [0; abi::PATH_TEXT];
    text[..path.len()].copy_from_slice(path);
    (u16::try_from(path.len()).expect("it fits"), text)
}

fn paths() -> Vec<Sample> {
    let exec = |path: &[u8], flags| {
        let (len, text) = path_field(path);
        abi::PathExec { inode: 131_090, device: 8 << 20 | 1, entry: 1, len, flags, reserved: 0, text }
    };
    let open = |path: &[u8], fd, flags| {
        let (len, text) = path_field(path);
        abi::PathOpen { inode: 524_301, device: 8 << 20 | 1, entry: 0, len, flags, fd, text }
    };
    let execs = [exec(b"/usr/bin/ls", 0), exec(b"/usr/bin/old", abi::PATH_UNLINKED)];
    let longest = [b'x'; abi::PATH_TEXT];
    let opens = [
        open(b"/etc/passwd", 3, 0),
        open(b"/", 4, 0),
        open(b"/etc/\x1b[31m\"red\"\n\xff\\", 5, 0),
        open(&longest, 6, abi::PATH_TRUNCATED),
        open(b"/etc/#77", 7, abi::PATH_UNLINKED),
    ];
    let execs = execs.map(|body| Sample::new(at(34, Kind::PATH_EXEC), &body).comm(b"ls"));
    let opens = opens.map(|body| Sample::new(at(34, Kind::PATH_OPEN), &body).comm(b"ls"));
    execs.into_iter().chain(opens).collect()
}

fn unix_streams() -> Vec<Sample> {
    let (cookie, peer_cookie, inode) = (12_293, 12_294, 706_693);
    let doubtful = abi::UNIX_RELATIVE | abi::UNIX_HAS_OVERLAPPED | abi::UNIX_OVERLAPPED;
    let sent = abi::UnixSend { cookie, peer_cookie, start: 0, end: 4095, inode, flags: 0 };
    let again = abi::UnixSend { start: 4095, end: 4096, inode: 0, flags: doubtful, ..sent };
    let peeked = abi::UnixRecv {
        cookie: peer_cookie,
        peer_cookie: cookie,
        start: 0,
        end: 10,
        inode: inode + 1,
        flags: abi::UNIX_PEEK | abi::UNIX_HAS_OVERLAPPED,
    };
    let received = abi::UnixRecv { end: 4096, flags: 0, ..peeked };
    let of = |kind| at(32, kind);
    let sent = [sent, again].map(|body| Sample::new(of(Kind::UNIX_SEND), &body).comm(b"ls"));
    let received = [peeked, received].map(|body| Sample::new(of(Kind::UNIX_RECV), &body).comm(b"wc"));
    sent.into_iter().chain(received).collect()
}

fn metas() -> Vec<Sample> {
    let lost = |kind| abi::Lost {
        count: 123,
        first_ns: CLOCKS.monotonic_ns,
        last_ns: CLOCKS.monotonic_ns + 1_200_000,
        kind,
        cpu: 2,
        flags: 0,
    };
    let sampling = |one_in, min_duration_ns| abi::Sampling { family: 3, one_in, min_duration_ns };
    let seed = abi::ThreadSeed { start_ns: 70, parent_tgid: 1, flags: 0, comm: comm_field(b"init") };
    let cgroup = |flags| {
        let mut text = [0; 64];
        text[..6].copy_from_slice(b"c0ffee");
        abi::CgroupName { len: 6, flags, reserved: 0, text }
    };
    let histogram = |kind: Kind, by, key| {
        let mut counts = [0; abi::HISTOGRAM_CLASSES];
        (counts[8], counts[9], counts[12], counts[47]) = (400, 800, 90, 1);
        let sum = 1_291_000;
        abi::Histogram { key, from_ns: CLOCKS.monotonic_ns, sum, kind: kind.0, by, flags: 0, counts }
    };
    let histograms = [
        (Kind::SYSCALL, 3, 0, at_end(0, 0)),
        (Kind::SYSCALL, 1, 1234, at_end(1234, 0)),
        (Kind::SCHED_WAKING, 0, 0, at_end(0, 0)),
        (Kind::BLOCK_REQUEST, 3, 8 << 20, at_end(0, 0)),
        (Kind::SYSCALL, 2, 4242, at_end(0, 4242)),
        (Kind(0x7777), 3, 9, at_end(0, 0)),
    ];
    let histograms = histograms.map(|(kind, by, key, header)| Sample::new(header, &histogram(kind, by, key)));
    let others = vec![
        Sample::new(user_space(30, Kind::META_LOST), &lost(Kind::SYSCALL.0)),
        Sample::new(user_space(30, Kind::META_LOST), &lost(0x0f09)),
        Sample::new(user_space(31, Kind::META_MARKER), &abi::Marker { id: 42 }),
        Sample::new(user_space(32, Kind::META_SAMPLING), &sampling(100, 50_000)),
        Sample::new(user_space(32, Kind::META_SAMPLING), &sampling(1, 0)),
        Sample::new(Header { tgid: 5, tid: 6, ..user_space(33, Kind::META_THREAD) }, &seed),
        Sample::new(
            Header { cgroup_id: 4242, ..user_space(34, Kind::META_CGROUP) },
            &cgroup(abi::CGROUP_IS_CONTAINER),
        ),
        Sample::new(Header { cgroup_id: 4242, ..user_space(34, Kind::META_CGROUP) }, &cgroup(0)),
    ];
    let (len, text) = path_field(b"/etc");
    let allowed = abi::PathAllowed { entry: 0, len, flags: 0, text };
    let allowed = Sample::new(user_space(35, Kind::META_PATH), &allowed);
    // Last, since the times of lines follow it.
    let clock = Sample::new(user_space(36, Kind::META_CLOCK), &suspended());
    others.into_iter().chain(histograms).chain([allowed, clock]).collect()
}

/// A machine that was suspended for an hour.
fn suspended() -> abi::ClockChange {
    const HOUR: u64 = 3_600_000_000_000;
    abi::ClockChange {
        monotonic_ns: CLOCKS.monotonic_ns + 36_000,
        boottime_ns: CLOCKS.boottime_ns + 36_000 + HOUR,
        realtime_ns: CLOCKS.realtime_ns + 36_000 + HOUR,
        uncertainty_ns: 150,
    }
}

/// The header of a histogram: of a process, of a cgroup, or of neither.
fn at_end(tgid: u32, cgroup_id: u64) -> Header {
    Header { tgid, tid: tgid, cgroup_id, ..user_space(35, Kind::META_HISTOGRAM) }
}
