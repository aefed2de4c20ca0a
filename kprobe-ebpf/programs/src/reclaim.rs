//! Memory family: threads that free memory for their own allocations, and that move pages together.

use aya_ebpf::{bindings::task_struct, macros::btf_map};
use kprobe_core::abi::{
    COMPACTION_DIRECT, COMPACTION_SYNC, Family, MemoryCompaction, MemoryReclaim, RECLAIM_CGROUP,
    RECLAIM_GLOBAL, RECLAIM_HAS_CGROUP,
};

use crate::{
    args::Args,
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit, min_duration_ns, now},
    filter,
    frozen::RECLAIM_HAS_MEMCG,
    kernel,
    memory::{Direct, Memory, Object},
    offsets::{
        OFF_CGROUP_KN, OFF_COMPACT_CONTROL_DIRECT_COMPACTION, OFF_COMPACT_CONTROL_GFP_MASK,
        OFF_COMPACT_CONTROL_ORDER, OFF_KERNFS_NODE_ID, OFF_MEM_CGROUP_CSS_CGROUP,
    },
    storage::{self, TaskStorage},
    task::Task,
};

/// A reclaim that has begun. It cannot begin another: the kernel marks the thread (`PF_MEMALLOC`).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Reclaim {
    /// 0 if none.
    begin_ns: u64,
    cgroup_id: u64,
    order: u32,
    gfp: u32,
    scope: u32,
    flags: u32,
}

/// What each thread reclaims.
#[btf_map]
pub static RECLAIMS: TaskStorage<Reclaim> = TaskStorage::new();

/// When the compaction of each thread began; 0 if it does none.
#[btf_map]
pub static COMPACTIONS: TaskStorage<u64> = TaskStorage::new();

#[inline(always)]
fn selected() -> Option<(*mut task_struct, CurrentTask<Direct>)> {
    let task = storage::current();
    let who = CurrentTask(Task::<Direct>::new(Object::new(task)));
    filter::selects_current(who.thread()).then_some((task, who))
}

/// The tracepoint `mm_vmscan_direct_reclaim_begin`: `(order, gfp)`, and from 7.0 on `(gfp, order, memcg)`.
#[inline(always)]
pub fn global_began<M: Memory>(args: Args) {
    began::<M>(args, RECLAIM_GLOBAL);
}

/// The tracepoint `mm_vmscan_memcg_reclaim_begin`, likewise.
#[inline(always)]
pub fn cgroup_began<M: Memory>(args: Args) {
    began::<M>(args, RECLAIM_CGROUP);
}

#[inline(always)]
fn began<M: Memory>(args: Args, scope: u32) {
    let Some((task, _)) = selected() else { return };
    let Some(reclaim) = RECLAIMS.make(task) else {
        cpu::count_unstored(Family::Memory);
        return;
    };
    let has_memcg = RECLAIM_HAS_MEMCG.get() != 0;
    // Both first: the verifier wants to see where in the context something is loaded from.
    let (first, second) = (args.word(0), args.word(1));
    let (order, gfp) = if has_memcg { (second, first) } else { (first, second) };
    let (mut cgroup_id, mut flags) = (0, 0);
    if has_memcg && scope == RECLAIM_CGROUP {
        let memcg = args.object::<M>(2);
        if !memcg.address().is_null() {
            cgroup_id = cgroup_of(memcg);
            flags = RECLAIM_HAS_CGROUP;
        }
    }
    let (order, gfp) = (order as u32, gfp as u32);
    // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs
    // access: one at a time.
    unsafe { reclaim.write(Reclaim { begin_ns: now(), cgroup_id, order, gfp, scope, flags }) };
}

/// Id of the cgroup in the v2 hierarchy whose memory this controls.
#[inline(always)]
pub fn cgroup_of<M: Memory>(memcg: Object<M>) -> u64 {
    memcg.follow(&OFF_MEM_CGROUP_CSS_CGROUP).follow(&OFF_CGROUP_KN).load(&OFF_KERNFS_NODE_ID)
}

/// The tracepoints at the end: `(nr_reclaimed)`.
#[inline(always)]
pub fn ended(args: Args) {
    let Some((task, who)) = selected() else { return };
    // SAFETY: see `began`.
    let begun = RECLAIMS.find(task).filter(|begun| unsafe { (**begun).begin_ns } != 0);
    let Some(begun) = begun else {
        cpu::count_unpaired(Family::Memory);
        return;
    };
    // SAFETY: see `began`.
    let Reclaim { begin_ns, cgroup_id, order, gfp, scope, flags } = unsafe { begun.read() };
    // SAFETY: see `began`.
    unsafe { (&raw mut (*begun).begin_ns).write(0) };
    let now = now();
    if now.saturating_sub(begin_ns) >= min_duration_ns(Family::Memory) {
        let reclaimed_pages = args.word(0);
        emit(who, now, || MemoryReclaim { begin_ns, reclaimed_pages, cgroup_id, order, gfp, scope, flags });
    }
}

/// The tracepoint `mm_compaction_begin`.
#[inline(always)]
pub fn compaction_began(_: Args) {
    let Some((task, _)) = selected() else { return };
    match COMPACTIONS.make(task) {
        // SAFETY: see `began`.
        Some(begin_ns) => unsafe { begin_ns.write(now()) },
        None => cpu::count_unstored(Family::Memory),
    }
}

/// The tracepoint `mm_compaction_end`.
#[inline(always)]
pub fn compaction_ended<M: Memory>(args: Args) {
    let Some((task, who)) = selected() else { return };
    // SAFETY: see `began`.
    let begun = COMPACTIONS.find(task).filter(|begun| unsafe { **begun } != 0);
    let Some(begun) = begun else {
        cpu::count_unpaired(Family::Memory);
        return;
    };
    // SAFETY: see `began`.
    let begin_ns = unsafe { begun.read() };
    // SAFETY: see `began`.
    unsafe { begun.write(0) };
    let now = now();
    if now.saturating_sub(begin_ns) >= min_duration_ns(Family::Memory) {
        if !kernel::compaction::has_control() {
            cpu::count_unpaired(Family::Memory);
            return;
        }
        emit(who, now, || {
            let control = kernel::compaction::control::<M>(args);
            let is_direct = control.load::<u8>(&OFF_COMPACT_CONTROL_DIRECT_COMPACTION) != 0;
            let sync = if kernel::compaction::is_sync(args) { COMPACTION_SYNC } else { 0 };
            MemoryCompaction {
                begin_ns,
                order: control.load(&OFF_COMPACT_CONTROL_ORDER),
                gfp: control.load(&OFF_COMPACT_CONTROL_GFP_MASK),
                result: kernel::compaction::result(args),
                flags: sync | if is_direct { COMPACTION_DIRECT } else { 0 },
            }
        });
    }
}
