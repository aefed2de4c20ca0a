//! From a wanted event to a record in the ring buffer, with every outcome counted.
//!
//! The counterpart in user space is the ring reader of `kprobe-ebpf`; the wake-up protocol between the two is described at
//! [`ReaderState`].

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    btf_maps::{Array, ArrayOfMaps, RingBuf},
    helpers::generated::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_ringbuf_query,
    },
    macros::btf_map,
};
use kprobe_core::abi::{
    BLOCK_HAS_QUEUED, BlockMerge, BlockRequest, Config, Counters, FAULT_HAS_BEGIN, Family, Header, IrqHard,
    IrqSoft, Kind, LockContention, LockFutex, LockFutexWake, MAX_RECORD, MemoryCompaction, MemoryFaultMajor,
    MemoryFaultMinor, MemoryOomKill, MemoryReclaim, PathExec, PathOpen, PipeRead, PipeWrite, ProcessExec,
    ProcessExit, ProcessFork, ProcessRename, ReaderState, SchedMigrate, SchedSwitch, SchedWaking,
    SecurityCapability, Syscall, TcpAccept, TcpConnect, TcpRecv, TcpRetransmit, TcpSend, TcpState, UdpRecv,
    UdpSend, UnixRecv, UnixSend, WaitBlocked, WaitEpoll, WaitThrottle, aggregate_by,
};
use zerocopy::{Immutable, IntoBytes};

use crate::{
    aggregate::{self, Measured},
    atomic,
    cpu::Cpu,
    current::Who,
    frozen::SHARD_MASK,
    memory::{Object, Probed},
    offsets::{OFF_BPF_RINGBUF_MAP_RB, OFF_BPF_RINGBUF_SPINLOCK},
    sequence,
};

/// What follows the header in the records of one kind.
///
/// `IntoBytes` holds only for types without padding, so a record has no byte that is not written.
pub trait Body: IntoBytes + Immutable + Copy + 'static {
    /// The kind. It must have a counter slot.
    const KIND: Kind;

    /// How long it took, where it ended `now`. `None` if that is not known; of a kind that
    /// [`can_be_summed_up`](Kind::can_be_summed_up) it is for some events at least.
    #[inline(always)]
    fn measure(&self, now: u64) -> Option<Measured> {
        let _ = now;
        None
    }
}

macro_rules! bodies {
    ($($kind:ident $member:ident: $body:ident $(, $measure:expr)?;)+) => {
        $(impl Body for $body {
            const KIND: Kind = Kind::$kind;
            $(
                #[inline(always)]
                fn measure(&self, now: u64) -> Option<Measured> {
                    const { assert!(Kind::$kind.can_be_summed_up()) };
                    $measure(self, now)
                }
            )?
        })+

        /// What a ring holds. It is here so that the object's BTF has the layout of every record.
        #[expect(missing_docs, reason = "named after the types")]
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub union AnyRecord {
            $(pub $member: Record<$body>,)+
        }
    };
}

bodies! {
    SCHED_SWITCH sched_switch: SchedSwitch;
    SCHED_WAKING sched_waking: SchedWaking;
    SCHED_MIGRATE sched_migrate: SchedMigrate;
    PROCESS_FORK process_fork: ProcessFork;
    PROCESS_EXEC process_exec: ProcessExec;
    PROCESS_EXIT process_exit: ProcessExit;
    PROCESS_RENAME process_rename: ProcessRename;
    SYSCALL syscall: Syscall, |call: &Syscall, now| since(call.enter_ns, now, call.nr.into());
    TCP_SEND tcp_send: TcpSend;
    TCP_RECV tcp_recv: TcpRecv;
    TCP_RETRANSMIT tcp_retransmit: TcpRetransmit;
    TCP_STATE tcp_state: TcpState;
    TCP_CONNECT tcp_connect: TcpConnect;
    TCP_ACCEPT tcp_accept: TcpAccept;
    MEMORY_FAULT_MAJOR memory_fault_major: MemoryFaultMajor, measure_fault;
    MEMORY_FAULT_MINOR memory_fault_minor: MemoryFaultMinor;
    MEMORY_RECLAIM memory_reclaim: MemoryReclaim,
        |reclaim: &MemoryReclaim, now| since(reclaim.begin_ns, now, 0);
    MEMORY_COMPACTION memory_compaction: MemoryCompaction,
        |compaction: &MemoryCompaction, now| since(compaction.begin_ns, now, 0);
    MEMORY_OOM_KILL memory_oom_kill: MemoryOomKill;
    BLOCK_REQUEST block_request: BlockRequest, measure_request;
    BLOCK_MERGE block_merge: BlockMerge;
    LOCK_CONTENTION lock_contention: LockContention,
        |wait: &LockContention, now| since(wait.begin_ns, now, wait.lock);
    LOCK_FUTEX lock_futex: LockFutex, |wait: &LockFutex, now| since(wait.enter_ns, now, wait.key.address);
    LOCK_FUTEX_WAKE lock_futex_wake: LockFutexWake;
    IRQ_HARD irq_hard: IrqHard;
    IRQ_SOFT irq_soft: IrqSoft;
    SECURITY_CAPABILITY security_capability: SecurityCapability;
    UDP_SEND udp_send: UdpSend;
    UDP_RECV udp_recv: UdpRecv;
    UNIX_SEND unix_send: UnixSend;
    UNIX_RECV unix_recv: UnixRecv;
    PIPE_WRITE pipe_write: PipeWrite;
    PIPE_READ pipe_read: PipeRead;
    WAIT_BLOCKED wait_blocked: WaitBlocked;
    WAIT_EPOLL wait_epoll: WaitEpoll;
    WAIT_THROTTLE wait_throttle: WaitThrottle, measure_throttle;
    PATH_EXEC path_exec: PathExec;
    PATH_OPEN path_open: PathOpen;
}

#[inline(always)]
fn since(begin_ns: u64, now: u64, subject: u64) -> Option<Measured> {
    Some(Measured { duration_ns: now.wrapping_sub(begin_ns), subject, whose: None })
}

/// The cgroup that had to stop; who is current at the end is chance.
#[inline(always)]
fn measure_throttle(throttle: &WaitThrottle, now: u64) -> Option<Measured> {
    let whose = Some((0, throttle.cgroup_id));
    Some(Measured { duration_ns: now.wrapping_sub(throttle.begin_ns), subject: 0, whose })
}

/// Whoever submitted it; in whose context it was completed is chance.
#[inline(always)]
fn measure_request(request: &BlockRequest, now: u64) -> Option<Measured> {
    if request.flags & BLOCK_HAS_QUEUED == 0 {
        return None;
    }
    let whose = Some((request.origin_tgid, request.origin_cgroup_id));
    Some(Measured { duration_ns: now.wrapping_sub(request.queued_ns), subject: request.dev.into(), whose })
}

#[inline(always)]
fn measure_fault(fault: &MemoryFaultMajor, now: u64) -> Option<Measured> {
    if fault.flags & FAULT_HAS_BEGIN == 0 {
        return None;
    }
    since(fault.begin_ns, now, 0)
}

/// A record.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Record<B> {
    header: Header,
    body: B,
}

/// One shard. The size here is only that of the template that a map of maps is created with; the loader puts in rings
/// of the size that the user asked for.
type Ring = RingBuf<AnyRecord, 65536>;

/// The rings, by CPU number and'ed with `SHARD_MASK`. Filled by the loader.
#[btf_map]
pub static RINGS: ArrayOfMaps<Ring, 1> = ArrayOfMaps::new();

/// How the reader of each ring wants to be woken.
#[btf_map]
pub static READERS: Array<ReaderState, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Settings that may change at any time.
#[btf_map]
pub static CONFIG: Array<Config, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The settings; user space may change each of them at any time.
#[inline(always)]
pub fn config() -> Option<*const Config> {
    CONFIG.get_ptr(0)
}

/// The shortest duration that is recorded of a family.
#[inline(always)]
pub fn min_duration_ns(family: Family) -> u64 {
    // SAFETY: the pointer is to a map element.
    config().map_or(0, |config| unsafe {
        (&raw const (*config).min_duration_ns).cast::<u64>().wrapping_add(family as usize).read_volatile()
    })
}

/// Whether a lock of the kernel is that of the ring that this CPU writes to. Whoever holds it must not make a record: on
/// kernels before 6.15 it would wait for itself for ever.
#[inline(always)]
pub fn is_own_ring(lock: u64) -> bool {
    let Some(cpu) = Cpu::current() else { return true };
    let Some(ring) = RINGS.get(cpu.number & SHARD_MASK.get()) else { return true };
    let ring = Object::<Probed>::new(address_of(ring) as *const u8).follow(&OFF_BPF_RINGBUF_MAP_RB);
    ring.member(&OFF_BPF_RINGBUF_SPINLOCK) as u64 == lock
}

/// The address of a map as a number: the verifier lets nobody compute with the pointer, but it allows to subtract another
/// one, and one that is to be had as a number too is the current task.
#[inline(always)]
fn address_of(ring: &Ring) -> u64 {
    // SAFETY: neither helper has preconditions.
    let (task, number) = unsafe { (bpf_get_current_task_btf(), bpf_get_current_task()) };
    let mut address = core::ptr::from_ref(ring) as u64;
    // SAFETY: arithmetic on registers.
    unsafe {
        asm!(
            "{0} -= {1}",
            "{0} += {2}",
            inout(reg) address,
            in(reg) task,
            in(reg) number,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    address
}

/// Time in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Makes a record of an event that passed the filter, unless sampling leaves it out or its family is summed up.
///
/// `now` is the time of the event. `body` is called when there is room in the ring.
#[inline(always)]
pub fn emit<B: Body>(who: impl Who + Copy, now: u64, body: impl Fn() -> B) {
    if B::KIND.can_be_summed_up()
        && let Some(family) = B::KIND.family()
        && aggregate::by(family) != aggregate_by::NOTHING
        && let Some(measured) = body().measure(now)
    {
        aggregate::count(who, B::KIND, measured);
        return;
    }
    emit_one_in(who, now, family_one_in(B::KIND), body);
}

/// Likewise, with a body that is too long to be made twice on the stack of a program: how it is measured is known without it.
#[inline(always)]
pub fn emit_measured<B: Body>(
    who: impl Who + Copy,
    now: u64,
    measure: impl FnOnce() -> Measured,
    body: impl FnOnce() -> B,
) {
    const { assert!(B::KIND.can_be_summed_up()) };
    if let Some(family) = B::KIND.family()
        && aggregate::by(family) != aggregate_by::NOTHING
    {
        aggregate::count(who, B::KIND, measure());
        return;
    }
    emit_one_in(who, now, family_one_in(B::KIND), body);
}

/// Likewise, of an event that has a rate of its own.
#[inline(always)]
pub fn emit_one_in<B: Body>(who: impl Who, now: u64, one_in: u32, body: impl FnOnce() -> B) {
    // SAFETY: it is called with the room for the body, which is aligned to 8 and large enough.
    put(who, now, one_in, |room: *mut B| unsafe { room.write(body()) });
}

/// Makes a record of an event that passed the filter, unless sampling leaves it out, with a body that is too long for the
/// stack of a program: `fill` writes each of its bytes.
#[inline(always)]
pub fn emit_filled<B: Body>(who: impl Who, now: u64, fill: impl FnOnce(*mut B)) {
    const { assert!(!B::KIND.can_be_summed_up()) };
    put(who, now, family_one_in(B::KIND), fill);
}

#[inline(always)]
fn put<B: Body>(who: impl Who, now: u64, one_in: u32, fill: impl FnOnce(*mut B)) {
    let slot = slot_of::<B>();
    let Some(cpu) = Cpu::current() else { return };
    let counters = cpu.counters(slot);
    if !is_sampled(one_in, counters) {
        return;
    }
    let shard = cpu.number & SHARD_MASK.get();
    let ring = RINGS.get(shard);
    let room = ring.and_then(|ring| ring.reserve_untyped::<Record<B>>(0));
    // The two are the full barrier of the wake-up protocol, the first in this build, the second in that for kernels before
    // 6.1: `reserve` has advanced the producer position, `idle` is read below.
    let seq = cpu.next_seq();
    // SAFETY: the counters are in a map element.
    let submitted = sequence::count(B::KIND, unsafe { &raw mut (*counters).submitted });
    let Some(mut room) = room else {
        lose(counters, shard, now);
        return;
    };
    let record = room.as_mut_ptr();
    let thread = who.thread();
    let header = Header {
        ktime_ns: now,
        cgroup_id: who.cgroup_id(),
        tgid: thread.tgid,
        tid: thread.tid,
        kind: B::KIND.0,
        cpu: cpu.number as u16,
        // A user's kinds are numbered each by itself: their object does not share the CPU's numbers with ours.
        seq: if is_users(B::KIND) { submitted as u32 } else { seq as u32 },
    };
    // SAFETY: `record` points to the reserved room, which is aligned to 8 and large enough.
    unsafe { (&raw mut (*record).header).write(header) };
    // SAFETY: likewise.
    fill(unsafe { &raw mut (*record).body });
    room.submit(wake_up(cpu, ring, shard, seq));
}

/// Whether it is an event of a user's own.
#[inline(always)]
pub const fn is_users(kind: Kind) -> bool {
    matches!(kind.family(), Some(Family::User))
}

/// Counts an event that passed the filter among those that sampling leaves out, without a record.
#[inline(always)]
pub fn count_only<B: Body>() {
    if let Some(cpu) = Cpu::current() {
        // SAFETY: the counters are in a map element.
        atomic::add(unsafe { &raw mut (*cpu.counters(slot_of::<B>())).sampled_out }, 1);
    }
}

/// Where the records of a body are counted.
#[inline(always)]
fn slot_of<B: Body>() -> usize {
    const {
        // Their numbers are counted by an atomic addition that returns what it found.
        assert!(!cfg!(feature = "before-6.1") || !is_users(B::KIND));
        assert!(size_of::<B>().is_multiple_of(8) && align_of::<B>() <= 8);
        assert!(size_of::<Record<B>>() == size_of::<Header>() + size_of::<B>());
        assert!(size_of::<Record<B>>() <= MAX_RECORD);
        match B::KIND.slot() {
            Some(slot) => slot,
            None => panic!("a kind that programs emit needs a counter slot"),
        }
    }
}

/// How many records of its family one is kept of.
#[inline(always)]
fn family_one_in(kind: Kind) -> u32 {
    let Some(family) = kind.family() else { return 1 };
    // SAFETY: the pointer is to a map element.
    config().map_or(1, |config| unsafe {
        (&raw const (*config).sample_one_in).cast::<u32>().wrapping_add(family as usize).read_volatile()
    })
}

/// Whether sampling keeps the next record of the kind that `counters` belong to.
#[inline(always)]
fn is_sampled(one_in: u32, counters: *mut Counters) -> bool {
    if one_in <= 1 {
        return true;
    }
    // SAFETY: the counters are in a map element.
    let ticket = atomic::fetch_add(unsafe { &raw mut (*counters).considered }, 1);
    if ticket % u64::from(one_in) == 0 {
        return true;
    }
    // SAFETY: likewise.
    atomic::add(unsafe { &raw mut (*counters).sampled_out }, 1);
    false
}

/// Counts a record that there was no room for.
#[inline(always)]
fn lose(counters: *mut Counters, shard: u32, now: u64) {
    // The times are written before the count: who sees the count sees times that are not older than it. A loss that user
    // space acknowledges at this very moment leaves an older first time in place, which is still not later than the loss.
    // SAFETY: all five are reads and writes of aligned words in a map element, which user space and programs that
    // interrupt this one may access at the same time.
    unsafe {
        let lost = (&raw const (*counters).lost).read_volatile();
        if lost == (&raw const (*counters).lost_seen).read_volatile() {
            (&raw mut (*counters).lost_first_ns).write_volatile(now);
        }
        (&raw mut (*counters).lost_last_ns).write_volatile(now);
        atomic::fetch_add(&raw mut (*counters).lost, 1);
    }
    if let Some(reader) = READERS.get_ptr_mut(shard) {
        // SAFETY: the pointer is to a map element.
        atomic::add(unsafe { &raw mut (*reader).lost }, 1);
    }
}

/// With which flags to submit record `seq`, so that the reader wakes up if it has to.
#[inline(always)]
fn wake_up(cpu: Cpu, ring: Option<&Ring>, shard: u32, seq: u64) -> u64 {
    let (Some(ring), Some(reader)) = (ring, READERS.get_ptr_mut(shard)) else { return 0 };
    // SAFETY: the pointer is to a map element.
    let idle = unsafe { &raw mut (*reader).idle };
    // The reader sets it, issues a full barrier and looks at the producer position; see `emit` for this side's barrier. Of
    // several programs that see it set, one wakes the reader.
    // SAFETY: an aligned word that both sides change as a whole.
    if unsafe { idle.read_volatile() } == 1 && atomic::exchange(idle, 0) == 1 {
        cpu.wakes_reader();
        return BPF_RB_FORCE_WAKEUP.into();
    }
    // SAFETY: the pointer is to a map element, written by user space.
    let (check_mask, wake_bytes) = unsafe {
        ((&raw const (*reader).check_mask).read_volatile(), (&raw const (*reader).wake_bytes).read_volatile())
    };
    if seq as u32 & check_mask == 0 && unread_bytes(ring) >= wake_bytes {
        cpu.wakes_reader();
        BPF_RB_FORCE_WAKEUP.into()
    } else {
        BPF_RB_NO_WAKEUP.into()
    }
}

#[inline(always)]
fn unread_bytes(ring: &Ring) -> u64 {
    // SAFETY: the helper takes the map that the address stands for.
    unsafe { bpf_ringbuf_query(core::ptr::from_ref(ring).cast_mut().cast(), BPF_RB_AVAIL_DATA.into()) }
}
