//! From a wanted event to a record in the ring buffer, with every outcome counted.
//!
//! The counterpart in user space is the ring reader of `kprobe-ebpf`; the wake-up protocol between the two is described at
//! [`ReaderState`].

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    btf_maps::{Array, ArrayOfMaps, RingBuf},
    helpers::generated::{bpf_ktime_get_ns, bpf_ringbuf_query},
    macros::btf_map,
};
use kprobe_core::abi::{
    Config, Counters, Family, Header, Kind, MAX_RECORD, MemoryCompaction, MemoryFaultMajor, MemoryFaultMinor,
    MemoryOomKill, MemoryReclaim, ProcessExec, ProcessExit, ProcessFork, ProcessRename, ReaderState,
    SchedMigrate, SchedSwitch, SchedWaking, SecurityCapability, Syscall, aggregate_by,
};
use zerocopy::{Immutable, IntoBytes};

use crate::{aggregate, atomic, cpu::Cpu, current::Who, frozen::SHARD_MASK};

/// What follows the header in the records of one kind.
///
/// `IntoBytes` holds only for types without padding, so a record has no byte that is not written.
pub trait Body: IntoBytes + Immutable + Copy + 'static {
    /// The kind. It must have a counter slot.
    const KIND: Kind;

    /// Whether [`measure`](Self::measure) gives something: only then can such events be summed up in the kernel.
    const IS_MEASURED: bool = false;

    /// How long it took, in nanoseconds, and what it is about, where it ended `now`.
    #[inline(always)]
    fn measure(&self, now: u64) -> (u64, u64) {
        let _ = now;
        (0, 0)
    }
}

macro_rules! bodies {
    ($($kind:ident $member:ident: $body:ident $(, $measure:expr)?;)+) => {
        $(impl Body for $body {
            const KIND: Kind = Kind::$kind;
            $(
                const IS_MEASURED: bool = true;

                #[inline(always)]
                fn measure(&self, now: u64) -> (u64, u64) {
                    let measure: fn(&Self, u64) -> (u64, u64) = $measure;
                    measure(self, now)
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
    SYSCALL syscall: Syscall, |call, now| (now.wrapping_sub(call.enter_ns), call.nr.into());
    MEMORY_FAULT_MAJOR memory_fault_major: MemoryFaultMajor;
    MEMORY_FAULT_MINOR memory_fault_minor: MemoryFaultMinor;
    MEMORY_RECLAIM memory_reclaim: MemoryReclaim;
    MEMORY_OOM_KILL memory_oom_kill: MemoryOomKill;
    MEMORY_COMPACTION memory_compaction: MemoryCompaction;
    SECURITY_CAPABILITY security_capability: SecurityCapability;
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
        (&raw const (*config).min_duration_ns[family as usize]).read_volatile()
    })
}

/// Time in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Makes a record of an event that passed the filter, unless sampling leaves it out.
///
/// `now` is the time of the event. `body` is called when there is room in the ring.
#[inline(always)]
pub fn emit<B: Body>(who: impl Who, now: u64, body: impl FnOnce() -> B) {
    if B::IS_MEASURED
        && let Some(family) = B::KIND.family()
    {
        let by = aggregate::by(family);
        if by != aggregate_by::NOTHING {
            let (duration_ns, subject) = body().measure(now);
            aggregate::count(who, by, B::KIND, duration_ns, subject);
            return;
        }
    }
    emit_one_in(who, now, family_one_in(B::KIND), body);
}

/// Likewise, of an event that has a rate of its own.
#[inline(always)]
pub fn emit_one_in<B: Body>(who: impl Who, now: u64, one_in: u32, body: impl FnOnce() -> B) {
    let slot = slot_of::<B>();
    let Some(cpu) = Cpu::current() else { return };
    let counters = cpu.counters(slot);
    if !is_sampled(one_in, counters) {
        return;
    }
    let shard = cpu.number & SHARD_MASK.get();
    let seq = cpu.next_seq();
    let ring = RINGS.get(shard);
    let room = ring.and_then(|ring| ring.reserve_untyped::<Record<B>>(0));
    // The full barrier of the wake-up protocol: `reserve` has advanced the producer position, `idle` is read below.
    // SAFETY: the counters are in a map element.
    let submitted = atomic::fetch_add(unsafe { &raw mut (*counters).submitted }, 1);
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
    unsafe { (&raw mut (*record).body).write(body()) };
    room.submit(wake_up(ring, shard, seq));
}

const fn is_users(kind: Kind) -> bool {
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
    config()
        .map_or(1, |config| unsafe { (&raw const (*config).sample_one_in[family as usize]).read_volatile() })
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
fn wake_up(ring: Option<&Ring>, shard: u32, seq: u64) -> u64 {
    let (Some(ring), Some(reader)) = (ring, READERS.get_ptr_mut(shard)) else { return 0 };
    // SAFETY: the pointer is to a map element.
    let idle = unsafe { &raw mut (*reader).idle };
    // The reader sets it, issues a full barrier and looks at the producer position; see `emit` for this side's barrier. Of
    // several programs that see it set, one wakes the reader.
    // SAFETY: an aligned word that both sides change as a whole.
    if unsafe { idle.read_volatile() } == 1 && atomic::exchange(idle, 0) == 1 {
        return BPF_RB_FORCE_WAKEUP.into();
    }
    // SAFETY: the pointer is to a map element, written by user space.
    let (check_mask, wake_bytes) = unsafe {
        ((&raw const (*reader).check_mask).read_volatile(), (&raw const (*reader).wake_bytes).read_volatile())
    };
    if seq as u32 & check_mask == 0 && unread_bytes(ring) >= wake_bytes {
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
