//! Whose events are wanted.
//!
//! Selectors are alternatives: a task that one of them matches is selected. The agent itself and the idle task never are.

use aya_ebpf::{btf_maps::HashMap, macros::btf_map};
use kprobe_core::abi::select;

use crate::{
    bits::{self, TGIDS, TIDS},
    current::Thread,
    emit::config,
    frozen::{LOADER_TGID, REMEMBERS, SELECT, SELF_TGID},
    kernel::{self, Ancestors},
    memory::{Memory, Object},
    offsets::OFF_CGROUP_LEVEL,
    task::Task,
    threads::{self, Place},
};

/// Cgroups (by id) whose processes, and those of cgroups below, are recorded.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, 1> = HashMap::new();

/// Depth of the cgroup tree that is looked at; `Config::cgroup_levels` has a bit for each level.
const LEVELS: u32 = 32;

/// Whether the current thread is selected, for programs that run at every system call of every process: as few
/// instructions as can be lie between the start and the refusal of a thread that was refused before. `thread` asks for its
/// ids.
///
/// `forget`, at the return of calls, is what is to be done when the thread was selected before and is not any more. Only
/// after that is the refusal remembered.
#[inline(always)]
pub fn selects_caller(
    place: Option<Place>,
    thread: impl FnOnce() -> Thread,
    forget: Option<impl FnOnce()>,
) -> bool {
    match place.and_then(Place::recall) {
        Some(is_selected) => is_selected,
        None => decide(place, thread, forget),
    }
}

#[inline(always)]
fn decide(place: Option<Place>, thread: impl FnOnce() -> Thread, forget: Option<impl FnOnce()>) -> bool {
    // Only here: where nothing is remembered nothing is recalled, and asking costs.
    let place = place.filter(|_| REMEMBERS.get() != 0);
    let mut may_refuse = false;
    if let Some(place) = place {
        // Before the selection is looked at: if it was settled then, no older one is seen.
        may_refuse = is_settled();
        place.begin();
    }
    let thread = thread();
    let is_loader = thread.tgid == LOADER_TGID.get();
    if place.is_some() && is_loader {
        notice_change();
    }
    let is_selected = selects_current(thread);
    if let Some(forget) = forget
        && !is_selected
    {
        if let Some(place) = place {
            // What follows is no older than the bit that says that the thread is not selected.
            place.begin();
        }
        if may_have_been_selected() {
            forget();
        }
        if let Some(place) = place
            && !is_loader
            && may_refuse
        {
            place.remember(false);
        }
    }
    if let Some(place) = place
        && is_selected
        && !is_loader
    {
        place.remember(true);
    }
    is_selected
}

/// The loading process, of which nothing is remembered, may have changed the selection. It makes calls until its change
/// has been noticed.
#[inline(always)]
fn notice_change() {
    let Some(config) = config() else { return };
    // SAFETY: the pointer is to a map element; others may change the words at any time.
    let (changes, noticed) = unsafe {
        ((&raw const (*config).changes).read_volatile(), (&raw const (*config).noticed).read_volatile())
    };
    if changes != noticed {
        // Also a barrier: who sees that it was noticed sees the new epoch.
        threads::begin_epoch();
        // SAFETY: likewise. A program that was held up may put an older number back; then there is one epoch more.
        unsafe { (&raw const (*config).noticed).cast_mut().write_volatile(changes) };
    }
}

/// Whether the selection is changed by nobody who does not count that in `Config::changes`.
#[inline(always)]
fn is_settled() -> bool {
    // SAFETY: the pointer is to a map element; user space may change the word at any time.
    config().is_some_and(|config| unsafe { (&raw const (*config).unsettled).read_volatile() } == 0)
}

/// Whether a call of a thread that is not selected may have been entered while it was: its process was removed, or moved
/// to another cgroup.
#[inline(always)]
fn may_have_been_selected() -> bool {
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
    any_level(LEVELS, |level| is_listed(kernel::current_ancestor_id(level)))
}

/// Whether a cgroup is one of those whose processes are recorded, or below one.
#[inline(always)]
pub fn selects_cgroup<M: Memory>(cgroup: Object<M>) -> bool {
    SELECT.get() & select::CGROUPS != 0 && is_below_listed(cgroup)
}

#[inline(always)]
fn in_cgroups<M: Memory>(task: Task<M>) -> bool {
    is_below_listed(task.cgroup())
}

#[inline(always)]
fn is_below_listed<M: Memory>(cgroup: Object<M>) -> bool {
    let depth: i32 = cgroup.load(&OFF_CGROUP_LEVEL);
    let ancestors = Ancestors::of(cgroup);
    any_level(depth as u32 + 1, |level| is_listed(ancestors.id(level)))
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
