//! Whose events are wanted.
//!
//! Selectors are alternatives: a task that one of them matches is selected. The agent itself and the idle task never are.

use aya_ebpf::{btf_maps::HashMap, helpers::generated::bpf_get_current_ancestor_cgroup_id, macros::btf_map};
use kprobe_core::abi::select;

use crate::{
    bits::{self, TGIDS, TIDS},
    current::{Current, Thread, Who as _},
    emit::config,
    frozen::{SELECT, SELF_TGID},
    memory::{Memory, Probed},
    offsets::{OFF_CGROUP_ANCESTORS, OFF_CGROUP_KN, OFF_CGROUP_LEVEL, OFF_KERNFS_NODE_ID},
    task::Task,
};

/// Cgroups (by id) whose processes, and those of cgroups below, are recorded.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, 1> = HashMap::new();

/// Depth of the cgroup tree that is looked at; `Config::cgroup_levels` has a bit for each level.
const LEVELS: u32 = 32;

/// Whether the current thread is selected; `tgid` is its process. For programs that run at every system call of every
/// process: as few instructions as can be lie between the start and the refusal of a process that is not listed.
#[inline(always)]
pub fn selects_current_of(tgid: u32) -> bool {
    if bits::has(&TGIDS, tgid) && SELECT.get() & select::TGIDS != 0 {
        return !is_excluded(tgid);
    }
    if SELECT.get() & (select::ALL | select::TIDS | select::CGROUPS) == 0 {
        return false;
    }
    if SELECT.get() & select::ALL != 0 { !is_excluded(tgid) } else { selects_current(Current.thread()) }
}

/// Whether a call of a thread that is not selected may have been entered while it was: its process was removed, or moved
/// to another cgroup.
#[inline(always)]
pub fn may_have_been_selected() -> bool {
    if SELECT.get() & select::CGROUPS != 0 {
        return true;
    }
    // SAFETY: the pointer is to a map element; user space may change the word at any time.
    SELECT.get() & select::TGIDS != 0
        && config().is_some_and(|config| unsafe { (&raw const (*config).has_removed).read_volatile() } != 0)
}

/// Whether the current thread is selected; `thread` are its ids.
#[inline(always)]
pub fn selects_current(thread: Thread) -> bool {
    (by_id(thread) || SELECT.get() & select::CGROUPS != 0 && current_in_cgroups())
        && !is_excluded(thread.tgid)
}

/// Whether another task is selected; `thread` are its ids.
#[inline(always)]
pub fn selects<M: Memory>(task: Task<M>, thread: Thread) -> bool {
    (by_id(thread) || SELECT.get() & select::CGROUPS != 0 && in_cgroups(task)) && !is_excluded(thread.tgid)
}

/// Whether it is the agent's.
#[inline(always)]
pub fn is_self(thread: Thread) -> bool {
    is_own(thread.tgid)
}

#[inline(always)]
fn is_own(tgid: u32) -> bool {
    let own = SELF_TGID.get();
    own != 0 && tgid == own
}

#[inline(always)]
fn is_excluded(tgid: u32) -> bool {
    tgid == 0 || is_own(tgid)
}

#[inline(always)]
fn by_id(thread: Thread) -> bool {
    let select = SELECT.get();
    select & select::ALL != 0
        || select & select::TGIDS != 0 && bits::has(&TGIDS, thread.tgid)
        || select & select::TIDS != 0 && bits::has(&TIDS, thread.tid)
}

#[inline(always)]
fn current_in_cgroups() -> bool {
    any_level(LEVELS, |level| {
        // SAFETY: the helper takes any level; beyond the task's own depth it returns 0, which is no cgroup's id.
        is_listed(unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) })
    })
}

#[inline(always)]
fn in_cgroups<M: Memory>(task: Task<M>) -> bool {
    let cgroup = task.cgroup();
    let depth: i32 = cgroup.load(&OFF_CGROUP_LEVEL);
    let ancestors = cgroup.member(&OFF_CGROUP_ANCESTORS);
    let kn = OFF_CGROUP_KN.get() as usize;
    let id = OFF_KERNFS_NODE_ID.get() as usize;
    any_level(depth as u32 + 1, |level| {
        // By the helper even where direct loads work: the verifier refuses them for arrays without a length.
        // SAFETY: see `Memory::load`; `level` is at most the cgroup's own depth, so the array has the element.
        let ancestor = unsafe { Probed::load::<usize>(ancestors.wrapping_add(level as usize * 8)) };
        // SAFETY: see `Memory::load`.
        let node = unsafe { Probed::load::<usize>((ancestor + kn) as *const u8) };
        // SAFETY: see `Memory::load`.
        is_listed(unsafe { Probed::load::<u64>((node + id) as *const u8) })
    })
}

/// Whether `test` is true for one of the levels below `end` that `CGROUPS` has entries for.
#[inline(always)]
fn any_level(end: u32, test: impl Fn(u32) -> bool) -> bool {
    let Some(config) = config() else { return false };
    // SAFETY: the pointer is to a map element; user space may change the word at any time.
    let mut levels = unsafe { (&raw const (*config).cgroup_levels).read_volatile() };
    let mut level = 0;
    while level < LEVELS && level < end && levels != 0 {
        if levels & 1 != 0 && test(level) {
            return true;
        }
        levels >>= 1;
        level += 1;
    }
    false
}

#[inline(always)]
fn is_listed(cgroup_id: u64) -> bool {
    CGROUPS.get_ptr(cgroup_id).is_some()
}
