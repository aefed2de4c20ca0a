//! Memory family: processes that the kernel kills for want of memory.

use aya_ebpf::macros::btf_map;
use kprobe_core::abi::{Family, MemoryOomKill, OOM_HAS_CAUSE, OOM_HAS_SIZES, OOM_IN_CGROUP};

use crate::{
    args::{Args, Frame},
    cpu,
    current::{CurrentTask, Who as _},
    emit::{emit_one_in, now},
    filter,
    frozen::{Frozen, PAGE_SHIFT},
    memory::{Direct, Memory, Object, Probed},
    offsets::{
        OFF_MM_STRUCT_RSS_STAT_0, OFF_MM_STRUCT_RSS_STAT_1, OFF_MM_STRUCT_RSS_STAT_3,
        OFF_MM_STRUCT_RSS_STAT_COUNT_0, OFF_MM_STRUCT_RSS_STAT_COUNT_1, OFF_MM_STRUCT_RSS_STAT_COUNT_3,
        OFF_MM_STRUCT_TOTAL_VM, OFF_OOM_CONTROL_GFP_MASK, OFF_OOM_CONTROL_MEMCG, OFF_OOM_CONTROL_ORDER,
    },
    reclaim::cgroup_of,
    storage::{self, TaskStorage},
    task::Task,
};

/// Why somebody is to be killed.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Cause {
    cgroup_id: u64,
    order: i32,
    gfp: u32,
    /// `OOM_*`; 0 if nobody is.
    flags: u32,
    reserved: u32,
}

/// By the thread that looks for a victim.
#[btf_map]
pub static OOM_CAUSES: TaskStorage<Cause> = TaskStorage::new();

/// The entry of `out_of_memory(oc)`.
#[inline(always)]
pub fn entered(args: Args) {
    begin::<Direct>(args.object(0));
}

/// A breakpoint there.
#[inline(always)]
pub fn entered_frame(frame: Frame) {
    begin::<Probed>(Object::new(frame.word(0) as *const u8));
}

/// For any thread: whose victim is selected is not known yet. It is rare.
#[inline(always)]
fn begin<M: Memory>(control: Object<M>) {
    let Some(cause) = OOM_CAUSES.make(storage::current()) else {
        cpu::count_unstored(Family::Memory);
        return;
    };
    let memcg = control.follow(&OFF_OOM_CONTROL_MEMCG);
    let (cgroup_id, flags) = if memcg.address().is_null() {
        (0, OOM_HAS_CAUSE)
    } else {
        (cgroup_of(memcg), OOM_HAS_CAUSE | OOM_IN_CGROUP)
    };
    let (order, gfp) = (control.load(&OFF_OOM_CONTROL_ORDER), control.load(&OFF_OOM_CONTROL_GFP_MASK));
    // SAFETY: the kernel gave the pointer to the thread's own value, which only programs that the thread itself runs
    // access: one at a time.
    unsafe { cause.write(Cause { cgroup_id, order, gfp, flags, reserved: 0 }) };
}

/// The return of the function, and a breakpoint there.
#[inline(always)]
pub fn left() {
    if let Some(cause) = OOM_CAUSES.find(storage::current()) {
        // SAFETY: see `begin`.
        unsafe { (&raw mut (*cause).flags).write(0) };
    }
}

/// The tracepoint `mark_victim(task, uid)`: if the victim is selected, or the thread that needs memory.
#[inline(always)]
pub fn marked<M: Memory>(args: Args) {
    let current = storage::current();
    let who = CurrentTask(Task::<Direct>::new(Object::new(current)));
    let victim = Task::<M>::new(args.object(0));
    let thread = victim.thread();
    if !filter::selects_current(who.thread()) && !filter::selects(victim, thread) {
        return;
    }
    // SAFETY: see `begin`.
    let cause = OOM_CAUSES.find(current).map(|cause| unsafe { cause.read() });
    let cause = cause.filter(|cause| cause.flags != 0);
    let (cgroup_id, order, gfp, cause) =
        cause.map_or((0, 0, 0, 0), |cause| (cause.cgroup_id, cause.order, cause.gfp, cause.flags));
    // Each of them counts: never sampled.
    emit_one_in(who, now(), 1, || {
        let memory = victim.memory();
        let has_memory = !memory.address().is_null();
        let bytes = |pages: u64| if has_memory { pages << PAGE_SHIFT.get() } else { 0 };
        MemoryOomKill {
            victim_start_ns: victim.process_start_ns(),
            total_vm_bytes: bytes(memory.load(&OFF_MM_STRUCT_TOTAL_VM)),
            anon_bytes: bytes(pages(memory, &OFF_MM_STRUCT_RSS_STAT_1, &OFF_MM_STRUCT_RSS_STAT_COUNT_1)),
            file_bytes: bytes(pages(memory, &OFF_MM_STRUCT_RSS_STAT_0, &OFF_MM_STRUCT_RSS_STAT_COUNT_0)),
            shmem_bytes: bytes(pages(memory, &OFF_MM_STRUCT_RSS_STAT_3, &OFF_MM_STRUCT_RSS_STAT_COUNT_3)),
            cgroup_id,
            victim_tgid: thread.tgid,
            victim_tid: thread.tid,
            order,
            gfp,
            score_adj: victim.oom_score_adj(),
            flags: cause | if has_memory { OOM_HAS_SIZES } else { 0 },
        }
    });
}

/// One of the counters of what is in memory, as `get_mm_counter` reads it: since 6.2 each is a per-CPU counter, of which
/// this is the part that all CPUs share; before, they were one struct.
#[inline(always)]
fn pages<M: Memory>(memory: Object<M>, each: &Frozen<u64>, before: &Frozen<u64>) -> u64 {
    // The verifier of that time knows no elements of an array like this.
    let old = Object::<Probed>::new(memory.address());
    let pages: Option<i64> = memory.load_if_present(each).or_else(|| old.load_if_present(before));
    pages.unwrap_or_default().max(0) as u64
}
