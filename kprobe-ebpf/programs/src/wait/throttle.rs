//! Cgroups that have used up their time (`cpu.max`).
//!
//! The kernel stops and lets go on what a cgroup has on one CPU, by a function for each; who is current then is chance. What
//! concerns a selected thread is what its own cgroup or one above it must wait for, so the cgroups that selected threads were
//! seen in are remembered.

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::LruHashMap, helpers::generated::bpf_loop, macros::btf_map};
use kprobe_core::abi::{Family, THROTTLE_HAS_CGROUP, WaitThrottle, select};

use crate::{
    args::{Args, Frame},
    cpu,
    current::CurrentTask,
    emit::{emit, min_duration_ns, now},
    filter,
    frozen::SELECT,
    kernel::Ancestors,
    memory::{Direct, Object, Probed},
    offsets::{
        ABSENT, OFF_CFS_RQ_RQ, OFF_CFS_RQ_RUNTIME_ENABLED, OFF_CFS_RQ_RUNTIME_REMAINING, OFF_CFS_RQ_TG,
        OFF_CFS_RQ_THROTTLED_LIMBO_LIST, OFF_CGROUP_KN, OFF_CGROUP_LEVEL, OFF_CGROUP_ROOT,
        OFF_CGROUP_ROOT_HIERARCHY_ID, OFF_KERNFS_NODE_ID, OFF_RQ_CPU, OFF_TASK_GROUP_CSS_CGROUP,
    },
    task::Task,
};

/// Since when what a cgroup has on a CPU must wait, by the address of its `struct cfs_rq`. Of one that is removed meanwhile nobody
/// says that it may go on, nor of one that found some time after all: whose begin is oldest makes room for others.
#[btf_map]
pub static THROTTLED: LruHashMap<u64, u64, 1> = LruHashMap::new();

/// Cgroups that selected threads were seen in, and those above: until when that is known without another look. Who has had
/// none for long makes room for others.
#[btf_map]
pub static CONCERNED: LruHashMap<u64, u64, 1> = LruHashMap::new();

/// After so long those above are looked at again: each look keeps what it finds from making room.
const LOOK_NS: u64 = 1_000_000_000;

/// Depth of the cgroup tree that is looked at.
const LEVELS: u32 = 32;

/// `sched_switch(preempt, prev, next, prev_state)`: a selected thread is seen in its cgroup.
#[inline(always)]
pub fn seen(args: Args) {
    if SELECT.get() & select::ALL != 0 {
        return;
    }
    let next = Task::<Direct>::new(args.object(2));
    if !filter::selects(next, next.thread()) {
        return;
    }
    let (id, now) = (next.cgroup_id(), now());
    // SAFETY: the map gave the pointer, and an aligned word is read at once.
    if CONCERNED.get_ptr(id).is_some_and(|until| unsafe { until.read_volatile() } > now) {
        return;
    }
    // Read by the helper, so that the verifier takes the address for a number.
    let cgroup = Task::<Probed>::new(Object::new(next.address())).cgroup();
    let mut place =
        Place { cgroup: cgroup.address() as u64, depth: cgroup.load::<i32>(&OFF_CGROUP_LEVEL) as u64 };
    // By a helper, because old verifiers look at a loop as often as it is run, and run out of patience.
    // SAFETY: the verifier looks at the function as the helper will call it: with the place, which is alive.
    unsafe { bpf_loop(LEVELS, concerns as *mut c_void, (&raw mut place).cast(), 0) };
    // The look that counts is that of the cgroup itself, from which the others are found.
    let until = now.wrapping_add(LOOK_NS);
    match CONCERNED.get_ptr_mut(id) {
        // SAFETY: likewise. If it has made room meanwhile the word is another cgroup's, of which it says no more than here.
        Some(known) => unsafe { known.write_volatile(until) },
        None => cpu::count_unstored(Family::Wait),
    }
}

/// A cgroup in the tree.
#[repr(C)]
struct Place {
    cgroup: u64,
    depth: u64,
}

/// Remembers who is above the cgroup at this level, or the cgroup itself, which is the last.
extern "C" fn concerns(level: u64, place: *mut Place) -> i64 {
    // SAFETY: the helper passes the place that it was given.
    let Place { cgroup, depth } = unsafe { place.read() };
    if level > depth {
        return 1;
    }
    let ancestors = Ancestors::of(Object::<Probed>::new(cgroup as *const u8));
    let id = ancestors.id(level as u32);
    // To look is enough for one that is there. To insert it would take another's room first.
    if CONCERNED.get_ptr(id).is_none() {
        // That it is there by now is fine.
        let _ = CONCERNED.insert(id, 0, BPF_NOEXIST.into());
    }
    0
}

/// The entry of `throttle_cfs_rq(cfs_rq)`. If it finds some time after all, the next one overwrites this.
#[inline(always)]
pub fn began(args: Args) {
    begin(args.word(0));
}

/// The same at a breakpoint.
#[inline(always)]
pub fn began_at(frame: Frame) {
    begin(frame.word(0));
}

#[inline(always)]
fn begin(queue: u64) {
    if THROTTLED.insert(queue, now(), 0).is_err() {
        cpu::count_unstored(Family::Wait);
    }
}

/// The entry of `unthrottle_cfs_rq(cfs_rq)`.
#[inline(always)]
pub fn ended(args: Args) {
    end(args.word(0));
}

/// The same at a breakpoint.
#[inline(always)]
pub fn ended_at(frame: Frame) {
    end(frame.word(0));
}

#[inline(always)]
fn end(address: u64) {
    let queue = Object::<Probed>::new(address as *const u8);
    if lets_nothing_go_on(queue) {
        return;
    }
    // SAFETY: the map gave the pointer; the element is not freed while the program runs.
    let begin_ns = THROTTLED.get_ptr(address).map(|begin| unsafe { begin.read() });
    let cgroup = queue.follow(&OFF_CFS_RQ_TG).follow(&OFF_TASK_GROUP_CSS_CGROUP);
    // Some groups have no cgroup.
    let is_second = !cgroup.address().is_null()
        && cgroup.follow(&OFF_CGROUP_ROOT).load::<i32>(&OFF_CGROUP_ROOT_HIERARCHY_ID) == 0;
    let id = cgroup.follow(&OFF_CGROUP_KN).load::<u64>(&OFF_KERNFS_NODE_ID);
    let is_wanted = SELECT.get() & select::ALL != 0
        || is_second && (CONCERNED.get_ptr(id).is_some() || filter::selects_cgroup(cgroup));
    let Some(begin_ns) = begin_ns else {
        // It had begun before there was a program to see it.
        if is_wanted {
            cpu::count_unpaired(Family::Wait);
        }
        return;
    };
    // That another has done so is fine.
    let _ = THROTTLED.remove(address);
    let now = now();
    if !is_wanted || now.wrapping_sub(begin_ns) < min_duration_ns(Family::Wait) {
        return;
    }
    emit(CurrentTask::<Direct>::find(), now, || WaitThrottle {
        begin_ns,
        cgroup_id: if is_second { id } else { 0 },
        cpu: queue.follow(&OFF_CFS_RQ_RQ).load(&OFF_RQ_CPU),
        flags: if is_second { THROTTLE_HAS_CGROUP } else { 0 },
    });
}

/// Where threads are stopped one by one (Linux 6.18), those that are not yet may have used up what the cgroup was given to go
/// on with. Then `unthrottle_cfs_rq` returns at once, and is called again.
#[inline(always)]
fn lets_nothing_go_on(queue: Object<Probed>) -> bool {
    OFF_CFS_RQ_THROTTLED_LIMBO_LIST.get() != ABSENT
        && queue.load::<i32>(&OFF_CFS_RQ_RUNTIME_ENABLED) != 0
        && queue.load::<i64>(&OFF_CFS_RQ_RUNTIME_REMAINING) <= 0
}
