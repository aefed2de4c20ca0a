use std::{fmt, net::SocketAddr};

use kprobe_core::{
    abi::Kind,
    decode::DecodeError,
    event::{
        Aggregated, Arch, BlockFlags, BlockMerge, BlockOp, BlockRequest, Comm, Device, Entry, Event,
        Histogram, IrqHard, IrqSoft, IrqSource, Lost, MemoryCompaction, MemoryFaultMajor, MemoryFaultMinor,
        MemoryOomKill, MemoryReclaim, MemoryScope, Origin, PageFault, PathText, PipeCall, PipeRead,
        PipeWrite, ProcessExec, ProcessExit, ProcessFork, ProcessRename, Sampling, SchedMigrate, SchedSwitch,
        SchedWaking, SecurityCapability, Submitter, TcpAccept, TcpConnect, TcpOwner, TcpRecv, TcpRetransmit,
        TcpSend, TcpSocket, TcpState, Tgid, Tid, UdpRecv, UdpSend, UdpSocket, UnixRecv, UnixSend, Value,
        WaitBlocked, WakeContext, errno_name, signal_name, softirq_name,
    },
    pipeline::Enriched,
};

use super::{
    line::{ALARM, FAILED, Line, Thread, WHO, WORD},
    lock, syscall,
    text::{Span, Visible},
    wait,
};

/// One record, and what is known around it: renders the part of the line that says what happened.
pub(super) struct Scene<'a> {
    pub(super) enriched: &'a Enriched<'a>,
    pub(super) origin: &'a Origin,
    pub(super) arch: Arch,
}

impl Scene<'_> {
    /// In words of its own for each kind; `false`, and nothing is appended, for one that has none.
    pub(super) fn put_event(&self, line: &mut Line<'_>, event: &Event) -> bool {
        match event {
            Event::Syscall(event) => syscall::put(line, event, self.arch),
            Event::SchedSwitch(event) => self.put_switch(line, event),
            Event::SchedWaking(event) => self.put_waking(line, event),
            Event::SchedMigrate(event) => self.put_migrate(line, event),
            Event::ProcessFork(event) => self.put_fork(line, event),
            Event::ProcessExec(event) => self.put_exec(line, event),
            Event::ProcessExit(event) => put_exit(line, event),
            Event::ProcessRename(event) => self.put_rename(line, event),
            Event::TcpSend(TcpSend { socket, start, end, .. }) => {
                put_transfer(line, "sends", socket, start, end);
            }
            Event::TcpRecv(TcpRecv { socket, start, end, .. }) => {
                put_transfer(line, "receives", socket, start, end);
            }
            Event::TcpRetransmit(event) => put_retransmit(line, event),
            Event::TcpState(event) => put_state(line, event),
            Event::TcpConnect(event) => put_connect(line, event),
            Event::TcpAccept(event) => put_accept(line, event),
            Event::MemoryFaultMajor(event) => put_major_fault(line, event),
            Event::MemoryFaultMinor(event) => put_minor_fault(line, event),
            Event::BlockRequest(event) => self.put_request(line, event),
            Event::BlockMerge(event) => self.put_merge(line, event),
            Event::LockFutex(event) => lock::put_futex(line, event),
            Event::LockFutexWake(event) => lock::put_wake(line, event),
            Event::LockContention(event) => lock::put_contention(line, event),
            Event::IrqHard(event) => self.put_hard(line, event),
            Event::IrqSoft(event) => put_soft(line, event),
            Event::MemoryReclaim(event) => put_reclaim(line, event),
            Event::MemoryCompaction(event) => put_compaction(line, event),
            Event::MemoryOomKill(event) => self.put_oom_kill(line, event),
            Event::SecurityCapability(event) => put_capability(line, event),
            Event::PipeWrite(event) => put_pipe_write(line, event),
            Event::PipeRead(event) => put_pipe_read(line, event),
            Event::PathExec(event) => {
                line.styled(WORD, format_args!("began"));
                put_path(line, &event.path, event.truncated, event.unlinked);
            }
            Event::PathOpen(event) => {
                line.styled(WORD, format_args!("opened"));
                put_path(line, &event.path, event.truncated, event.unlinked);
                line.put(format_args!(" as {}", event.fd));
            }
            Event::UdpSend(event) => put_udp_send(line, event),
            Event::UdpRecv(event) => put_udp_recv(line, event),
            Event::UnixSend(event) => put_unix_send(line, event),
            Event::UnixRecv(event) => put_unix_recv(line, event),
            Event::WaitBlocked(event) => wait::put_blocked(line, event, self.arch, &self.waker(event)),
            Event::WaitEpoll(event) => wait::put_epoll(line, event),
            Event::WaitThrottle(event) => wait::put_throttle(line, event),
            Event::Lost(event) => put_lost(line, event),
            Event::Sampling(event) => put_sampling(line, event),
            Event::Marker(event) => line.styled(WORD, format_args!("--- marker {} ---", event.id)),
            Event::ClockChange(_) => {
                line.styled(WORD, format_args!("the wall clock was set, or the machine was suspended"));
            }
            Event::ThreadSeed(event) => {
                line.styled(WORD, format_args!("was there"));
                line.put(format_args!(", child of {}", event.parent_tgid));
            }
            Event::PathAllowed(event) => {
                line.styled(WORD, format_args!("paths are recorded"));
                line.put(format_args!(" below {}", Visible(event.path.as_bytes())));
            }
            Event::Histogram(event) => put_histogram(line, event, self.arch),
            Event::CgroupNamed(event) => {
                let what = if event.is_container { "container" } else { "cgroup" };
                line.styled(WORD, format_args!("{what}"));
                line.put(format_args!(" {} is {}", self.origin.cgroup_id, Visible(event.text().as_bytes())));
            }
            _ => return false,
        }
        true
    }

    /// By name and value, for kinds without words of their own.
    pub(super) fn put_fields(&self, line: &mut Line<'_>, entry: &Entry) -> Result<(), DecodeError> {
        line.styled(WORD, format_args!("{}", Visible(entry.name.as_bytes())));
        entry.fields_of(self.enriched.record, self.arch, &mut |name, value| {
            line.put(format_args!(" {}=", Visible(name.as_bytes())));
            match value {
                Value::U64(number) if name.ends_with("duration_ns") => {
                    line.put(format_args!("{}", Span(number)));
                }
                Value::U64(number) => line.put(format_args!("{number}")),
                Value::I64(number) => line.put(format_args!("{number}")),
                Value::Bool(truth) => line.put(format_args!("{truth}")),
                Value::Text(text) => line.put(format_args!("{}", Visible(text.as_bytes()))),
                Value::Pairs(pairs) => line.put(format_args!("{pairs:?}")),
                _ => line.put(format_args!("?")),
            }
        })
    }

    fn put_other(&self, line: &mut Line<'_>, tgid: Tgid, tid: Tid) {
        self.put_named(line, self.enriched.context.other_comm, tgid, tid);
    }

    fn put_named(&self, line: &mut Line<'_>, comm: Comm, tgid: Tgid, tid: Tid) {
        let thread = Thread { comm, tgid, tid, cpu: self.origin.cpu };
        line.styled(WHO, format_args!("{thread}"));
    }

    fn waker(&self, event: &WaitBlocked) -> Thread {
        let (tgid, tid) = event.waker.map_or((Tgid(0), Tid(0)), |waker| (waker.tgid, waker.tid));
        Thread { comm: self.enriched.context.other_comm, tgid, tid, cpu: self.origin.cpu }
    }

    fn put_switch(&self, line: &mut Line<'_>, event: &SchedSwitch) {
        line.styled(WORD, format_args!("-> "));
        self.put_other(line, event.next_tgid, event.next_tid);
        let letter = event.prev_state.letter();
        let how = match letter {
            _ if event.preempt => "preempted",
            _ if self.origin.tid.0 == 0 => "idle",
            "R" => "yielded",
            "S" => "blocked",
            "D" => "blocked, uninterruptible",
            "I" => "idle",
            "T" => "stopped",
            "t" => "traced",
            "X" | "Z" => "dead",
            "P" => "parked",
            _ => "unknown state",
        };
        line.put(format_args!(" ({letter}, {how})"));
        if let Some(cpu) = self.origin.cpu {
            line.put(format_args!(" on cpu {cpu}"));
        }
    }

    fn put_waking(&self, line: &mut Line<'_>, event: &SchedWaking) {
        // Outside of a task's own context the thread in front is only the one that was interrupted.
        match event.context {
            Some(WakeContext::Task) => {}
            Some(context) => line.put(format_args!("[{}] ", context.name())),
            None => line.put(format_args!("[?] ")),
        }
        line.styled(WORD, format_args!("wakes "));
        self.put_other(line, event.wakee_tgid, event.wakee_tid);
        line.put(format_args!(" (last on cpu {})", event.target_cpu));
    }

    fn put_migrate(&self, line: &mut Line<'_>, event: &SchedMigrate) {
        line.styled(WORD, format_args!("moves "));
        self.put_other(line, event.moved_tgid, event.moved_tid);
        line.put(format_args!(" from cpu {} to cpu {}", event.from_cpu, event.to_cpu));
    }

    fn put_hard(&self, line: &mut Line<'_>, event: &IrqHard) {
        line.styled(WORD, format_args!("interrupted by "));
        match (event.source.name(self.arch), event.source) {
            (Some(name), _) => line.put(format_args!("{name}")),
            (None, IrqSource::Device(irq)) => line.put(format_args!("irq {irq}")),
            (None, IrqSource::Vector(vector)) => line.put(format_args!("vector {vector}")),
            (None, _) => line.put(format_args!("?")),
        }
        line.put(format_args!(" for {}", Span(event.duration_ns())));
    }

    fn put_request(&self, line: &mut Line<'_>, event: &BlockRequest) {
        self.put_extent(
            line,
            (event.device, event.op, event.sector, event.bytes),
            event.flags,
            event.submitter,
        );
        if let Some(queue) = event.queue_duration_ns() {
            line.put(format_args!(", queued {}", Span(queue)));
        }
        match (event.device_duration_ns(), event.duration_ns()) {
            (Some(device), _) => line.put(format_args!(", device {}", Span(device))),
            (None, Some(whole)) => line.put(format_args!(", {}", Span(whole))),
            (None, None) => {}
        }
        match event.error() {
            Some(error) => line.styled(FAILED, format_args!(", {error}")),
            None if event.status != 0 => line.styled(FAILED, format_args!(", status {}", event.status)),
            None => {}
        }
    }

    fn put_merge(&self, line: &mut Line<'_>, event: &BlockMerge) {
        self.put_extent(
            line,
            (event.device, event.op, event.sector, event.bytes),
            event.flags,
            event.submitter,
        );
        line.put(format_args!(", merged: {}", event.merged.name()));
    }

    /// The thread in front of the line is only the one that was interrupted.
    fn put_extent(
        &self,
        line: &mut Line<'_>,
        (device, op, sector, bytes): (Device, BlockOp, u64, u64),
        flags: BlockFlags,
        submitter: Option<Submitter>,
    ) {
        line.styled(WORD, format_args!("disk {}", op.name()));
        line.put(format_args!(" {bytes} bytes at {device}+{sector}"));
        let flags = flags.names();
        if !flags.is_empty() {
            line.put(format_args!(" ({flags})"));
        }
        if let Some(submitter) = submitter {
            line.put(format_args!(" for "));
            self.put_other(line, submitter.tgid, submitter.tid);
        }
    }

    fn put_oom_kill(&self, line: &mut Line<'_>, event: &MemoryOomKill) {
        line.styled(FAILED, format_args!("out of memory"));
        if let Some(cause) = event.cause {
            put_scope(line, cause.scope);
            if let Some(order) = cause.order {
                line.put(format_args!(", for 2^{order} pages"));
            }
        }
        line.put(format_args!(": kills "));
        self.put_other(line, event.victim_tgid, event.victim_tid);
        if let Some(sizes) = event.sizes {
            let (anon, file, shmem) =
                (sizes.anon_bytes >> 10, sizes.file_bytes >> 10, sizes.shmem_bytes >> 10);
            line.put(format_args!(" ({anon} KiB anonymous, {file} KiB of files, {shmem} KiB shared)"));
        }
    }

    fn put_fork(&self, line: &mut Line<'_>, event: &ProcessFork) {
        let what = if event.is_thread() { "new thread" } else { "fork ->" };
        line.styled(WORD, format_args!("{what} "));
        self.put_other(line, event.child_tgid, event.child_tid);
        if !event.is_thread() && event.parent_tgid != self.origin.tgid {
            line.put(format_args!(", child of {}", event.parent_tgid));
        }
    }

    fn put_exec(&self, line: &mut Line<'_>, event: &ProcessExec) {
        line.styled(WORD, format_args!("exec "));
        line.put(format_args!("{}, child of {}", Visible(event.comm.as_bytes()), event.parent_tgid));
        if let Some((inode, device)) = event.exe {
            line.put(format_args!(", inode {inode} on {device}"));
        }
        if event.old_tid != self.origin.tid {
            line.put(format_args!(", called by thread {}", event.old_tid));
        }
    }

    fn put_rename(&self, line: &mut Line<'_>, event: &ProcessRename) {
        line.styled(WORD, format_args!("renamed "));
        if event.renamed_tid != self.origin.tid {
            self.put_other(line, event.renamed_tgid, event.renamed_tid);
            line.put(format_args!(" "));
        }
        line.put(format_args!("to {}", Visible(event.comm.as_bytes())));
    }
}

fn put_exit(line: &mut Line<'_>, event: &ProcessExit) {
    let what = if event.process_ended { "exit" } else { "thread exit" };
    line.styled(WORD, format_args!("{what} "));
    match (event.code(), event.signal()) {
        (Some(0), _) => line.put(format_args!("0")),
        (Some(code), _) => line.styled(FAILED, format_args!("{code}")),
        (None, Some(signal)) => {
            match signal_name(signal) {
                Some(name) => line.styled(FAILED, format_args!("killed by {name}")),
                None => line.styled(FAILED, format_args!("killed by signal {signal}")),
            }
            if event.dumped_core() {
                line.put(format_args!(" (core dumped)"));
            }
        }
        (None, None) => line.put(format_args!("?")),
    }
}

/// A socket by its ends: two, if it has another one.
struct Ends<'a>(&'a TcpSocket);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TcpSocket { local_addr, local_port, remote_addr, remote_port, .. } = *self.0;
        write!(f, "{}", SocketAddr::new(local_addr, local_port))?;
        match remote_port {
            0 => Ok(()),
            _ => write!(f, " > {}", SocketAddr::new(remote_addr, remote_port)),
        }
    }
}

fn put_transfer(line: &mut Line<'_>, what: &str, socket: &TcpSocket, start: &u64, end: &u64) {
    line.styled(WORD, format_args!("{what} "));
    line.put(format_args!("{} bytes, {start} to {end} of {}", end.saturating_sub(*start), Ends(socket)));
}

/// Where the thread in front need not be concerned.
fn put_owner(line: &mut Line<'_>, owner: Option<TcpOwner>) {
    match owner {
        Some(owner) => line.put(format_args!(", of {}/{}", owner.tgid, owner.tid)),
        None => line.put(format_args!(", of nobody known")),
    }
}

fn put_retransmit(line: &mut Line<'_>, event: &TcpRetransmit) {
    line.styled(FAILED, format_args!("sent again: "));
    line.put(format_args!("bytes {} to {} of {}", event.start, event.end, Ends(&event.socket)));
    put_owner(line, event.owner);
}

fn put_state(line: &mut Line<'_>, event: &TcpState) {
    line.styled(WORD, format_args!("{} -> {} ", event.old.name(), event.new.name()));
    line.put(format_args!("{}", Ends(&event.socket)));
    put_owner(line, event.owner);
}

fn put_connect(line: &mut Line<'_>, event: &TcpConnect) {
    let after = Span(event.duration_ns());
    let errno = event.ret.filter(|ret| *ret < 0).and_then(|ret| u32::try_from(ret.unsigned_abs()).ok());
    match (event.ret, errno.and_then(errno_name)) {
        (Some(0), _) => line.styled(WORD, format_args!("connected ")),
        (_, Some(name)) => line.styled(FAILED, format_args!("not connected ({name}) ")),
        (_, None) => line.styled(FAILED, format_args!("not connected ")),
    }
    line.put(format_args!("{} after {after}", Ends(&event.socket)));
    put_owner(line, event.owner);
}

fn put_accept(line: &mut Line<'_>, event: &TcpAccept) {
    line.styled(WORD, format_args!("accepts "));
    line.put(format_args!("{}", Ends(&event.socket)));
    if let Some(queued) = event.queued_ns {
        line.put(format_args!(", queued for {}", Span(queued)));
    }
}

fn put_major_fault(line: &mut Line<'_>, event: &MemoryFaultMajor) {
    put_fault(line, "major", &event.fault, event.duration_ns());
    if let Some((inode, device)) = event.file {
        line.put(format_args!(", inode {inode} on {device}"));
    }
}

fn put_minor_fault(line: &mut Line<'_>, event: &MemoryFaultMinor) {
    put_fault(line, "minor", &event.fault, event.duration_ns());
    if event.one_in > 1 {
        line.put(format_args!(", 1 of {}", event.one_in));
    }
}

fn put_fault(line: &mut Line<'_>, which: &str, fault: &PageFault, duration_ns: Option<u64>) {
    line.styled(WORD, format_args!("{which} fault"));
    if let Some(access) = fault.access {
        let how = match (access.write, access.exec) {
            (true, _) => "write",
            (false, true) => "instruction",
            (false, false) => "read",
        };
        let by = if access.user { "" } else { " by the kernel" };
        line.put(format_args!(" ({how}{by})"));
    }
    let whose = if fault.remote { " of another process" } else { "" };
    line.put(format_args!(" at {:#x}{whose}", fault.address));
    if let Some(duration_ns) = duration_ns {
        line.put(format_args!(", {}", Span(duration_ns)));
    }
}

fn put_soft(line: &mut Line<'_>, event: &IrqSoft) {
    line.styled(WORD, format_args!("interrupted by softirq "));
    match softirq_name(event.vector) {
        Some(name) => line.put(format_args!("{name}")),
        None => line.put(format_args!("{}", event.vector)),
    }
    line.put(format_args!(" for {}", Span(event.duration_ns())));
    if event.nested_ns > 0 {
        line.put(format_args!(", {} of it in interrupts", Span(event.nested_ns)));
    }
}

fn put_scope(line: &mut Line<'_>, scope: MemoryScope) {
    match scope {
        MemoryScope::Cgroup(Some(id)) => line.put(format_args!(" in cgroup {id}")),
        MemoryScope::Cgroup(None) => line.put(format_args!(" in a cgroup")),
        _ => line.put(format_args!(" on the machine")),
    }
}

fn put_reclaim(line: &mut Line<'_>, event: &MemoryReclaim) {
    line.styled(WORD, format_args!("reclaims"));
    put_scope(line, event.scope);
    let (order, pages) = (event.order, event.reclaimed_pages);
    line.put(format_args!(" for 2^{order} pages: {pages} freed, {}", Span(event.duration_ns())));
}

fn put_compaction(line: &mut Line<'_>, event: &MemoryCompaction) {
    line.styled(WORD, format_args!("compacts"));
    match event.order {
        Some(order) => line.put(format_args!(" for 2^{order} pages: ")),
        None => line.put(format_args!(" all: ")),
    }
    match event.result.name() {
        Some(name) => line.put(format_args!("{name}")),
        None => line.put(format_args!("result {}", event.result.0)),
    }
    line.put(format_args!(", {}", Span(event.duration_ns())));
}

fn put_capability(line: &mut Line<'_>, event: &SecurityCapability) {
    match event.name() {
        Some(name) => line.styled(WORD, format_args!("{name}")),
        None => line.styled(WORD, format_args!("capability {}", event.capability)),
    }
    if event.user_ns_level > 0 {
        line.put(format_args!(" in user namespace level {}", event.user_ns_level));
    }
    if event.is_granted() {
        line.put(format_args!(" granted"));
    } else {
        match errno_name(event.result.unsigned_abs()) {
            Some(name) => line.styled(FAILED, format_args!(" refused ({name})")),
            None => line.styled(FAILED, format_args!(" refused ({})", event.result)),
        }
    }
    if event.purpose.is_some_and(|purpose| !purpose.audited) {
        line.put(format_args!(", the kernel only wanted to know"));
    }
}

/// A row of a table: what, how many, how long, and a picture.
fn put_histogram(line: &mut Line<'_>, event: &Histogram, arch: Arch) {
    let kind = event.kind;
    let name = match event.of {
        Aggregated::Subject(subject) => {
            format!("{kind} {}", event.subject_name(arch).unwrap_or_else(|| subject.to_string()))
        }
        Aggregated::Cgroup(cgroup) => format!("{kind} cgroup {cgroup}"),
        _ => kind.to_string(),
    };
    line.styled(WORD, format_args!("{name:<24}"));
    line.put(format_args!(" {:>9} x", event.count()));
    let or_longest = |ns: Option<u64>| Span(ns.unwrap_or(0)).to_string();
    line.put(format_args!(
        " {:>7}  50% <= {:>7}  99% <= {:>7}  ",
        or_longest(event.mean_ns()),
        or_longest(event.quantile_ns(500)),
        or_longest(event.quantile_ns(990))
    ));
    line.put(format_args!("{}", event.picture()));
}

fn put_pipe_write(line: &mut Line<'_>, event: &PipeWrite) {
    let PipeWrite { call, inode, start, end, relative, overlapped, .. } = *event;
    line.styled(WORD, format_args!("{}", call.map_or("write", PipeCall::name)));
    line.put(format_args!(" {} bytes -> pipe:[{inode}] {start}..{end}", event.bytes()));
    put_doubts(line, relative, overlapped);
}

fn put_pipe_read(line: &mut Line<'_>, event: &PipeRead) {
    let PipeRead { call, inode, start, end, relative, overlapped, peek, .. } = *event;
    line.styled(WORD, format_args!("{}", call.map_or("read", PipeCall::name)));
    line.put(format_args!(" {} bytes <- pipe:[{inode}] {start}..{end}", event.bytes()));
    if peek {
        line.put(format_args!(", left in it"));
    }
    put_doubts(line, relative, overlapped);
}

fn put_path(line: &mut Line<'_>, path: &PathText, truncated: bool, unlinked: bool) {
    let before = if truncated { ".../" } else { "" };
    line.put(format_args!(" {before}{}", Visible(path.as_bytes())));
    if unlinked {
        line.put(format_args!(" (removed)"));
    }
}

fn put_udp_send(line: &mut Line<'_>, event: &UdpSend) {
    line.styled(WORD, format_args!("sends"));
    line.put(format_args!(" {} bytes", event.bytes));
    put_udp_ends(line, &event.socket, "->");
}

fn put_udp_recv(line: &mut Line<'_>, event: &UdpRecv) {
    line.styled(WORD, format_args!("receives"));
    match (event.bytes, event.datagram_bytes) {
        (Some(bytes), Some(all)) if bytes != all => line.put(format_args!(" {bytes} of {all} bytes")),
        (Some(bytes), _) => line.put(format_args!(" {bytes} bytes")),
        (None, Some(all)) => line.put(format_args!(" of {all} bytes")),
        (None, None) => {}
    }
    put_udp_ends(line, &event.socket, "<-");
    if event.peek {
        line.put(format_args!(", left there"));
    }
}

fn put_udp_ends(line: &mut Line<'_>, socket: &UdpSocket, arrow: &str) {
    if let Some(bytes) = socket.segment_bytes {
        line.put(format_args!(" in datagrams of {bytes}"));
    }
    match socket.local_addr {
        Some(address) => line.put(format_args!(", {}", SocketAddr::new(address, socket.local_port))),
        None => line.put(format_args!(", *:{}", socket.local_port)),
    }
    if let Some((address, port)) = socket.remote {
        line.put(format_args!(" {arrow} {}", SocketAddr::new(address, port)));
    }
}

fn put_unix_send(line: &mut Line<'_>, event: &UnixSend) {
    let UnixSend { start, end, relative, overlapped, .. } = *event;
    line.styled(WORD, format_args!("send"));
    line.put(format_args!(" {} bytes -> stream {} {start}..{end}", event.bytes(), event.stream()));
    put_doubts(line, relative, overlapped == Some(true));
}

fn put_unix_recv(line: &mut Line<'_>, event: &UnixRecv) {
    let UnixRecv { start, end, relative, overlapped, peek, .. } = *event;
    line.styled(WORD, format_args!("recv"));
    line.put(format_args!(" {} bytes <- stream {} {start}..{end}", event.bytes(), event.stream()));
    if peek {
        line.put(format_args!(", left in it"));
    }
    put_doubts(line, relative, overlapped == Some(true));
}

/// What a position in a stream of bytes can be doubted for.
fn put_doubts(line: &mut Line<'_>, relative: bool, overlapped: bool) {
    if relative {
        line.put(format_args!(", counted since it was first seen"));
    }
    if overlapped {
        line.put(format_args!(", another thread did so meanwhile"));
    }
}

fn put_lost(line: &mut Line<'_>, event: &Lost) {
    let span = Span(event.last_ns.saturating_sub(event.first_ns));
    let Kind(number) = event.kind;
    let (count, cpu) = (event.count, event.cpu);
    match event.kind.name() {
        Some(name) => {
            line.styled(
                ALARM,
                format_args!("*** LOST {count} records of {name} on cpu {cpu} within {span} ***"),
            );
        }
        None => {
            line.styled(
                ALARM,
                format_args!("*** LOST {count} records of kind {number:#06x} on cpu {cpu} within {span} ***"),
            );
        }
    }
}

fn put_sampling(line: &mut Line<'_>, event: &Sampling) {
    line.styled(WORD, format_args!("from here on "));
    let family = event.family.name();
    match event.one_in {
        0 | 1 => line.put(format_args!("every {family} event")),
        one_in => line.put(format_args!("1 in {one_in} {family} events")),
    }
    if event.min_duration_ns > 0 {
        line.put(format_args!(" of at least {}", Span(event.min_duration_ns)));
    }
}
