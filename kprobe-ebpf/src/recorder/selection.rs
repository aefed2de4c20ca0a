use std::{
    mem::offset_of,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use aya::maps::MapData;
use kprobe_core::{
    abi::{Config, PID_LIMIT},
    event::Tgid,
};

use super::SelectError;
use crate::{
    AttachError,
    attach::Object,
    filter::{FilterChange, Selection},
    shared::SharedArray,
};

/// One of the maps `TGIDS` and `TIDS`: a bit for each pid there can be.
///
/// The memory is shared with the kernel programs, and with a child between fork and exec: that is how a traced command
/// selects itself the moment before it begins.
#[derive(Clone, Debug)]
pub(crate) struct PidSet {
    words: Arc<SharedArray<u64>>,
}

impl PidSet {
    pub(crate) fn map(map: &MapData) -> Result<Self, AttachError> {
        Ok(Self { words: Arc::new(SharedArray::map(map)?) })
    }

    /// Adds `pid`. Async-signal-safe. A pid that no kernel can have is ignored.
    pub(crate) fn insert(&self, pid: u32) {
        if pid < PID_LIMIT && ((pid / 64) as usize) < self.words.len() {
            self.words.u64_at((pid / 64) as usize, 0).fetch_or(1 << (pid % 64), Ordering::SeqCst);
        }
    }

    /// Takes `pid` out.
    pub(crate) fn remove(&self, pid: u32) {
        if ((pid / 64) as usize) < self.words.len() {
            self.words.u64_at((pid / 64) as usize, 0).fetch_and(!(1 << (pid % 64)), Ordering::SeqCst);
        }
    }

    /// Whether `pid` is in it.
    pub(crate) fn contains(&self, pid: u32) -> bool {
        ((pid / 64) as usize) < self.words.len()
            && self.words.u64_at((pid / 64) as usize, 0).load(Ordering::SeqCst) & 1 << (pid % 64) != 0
    }
}

/// Calls that are made until a change is noticed. One is enough, unless another thread of this process is just noticing it
/// and is held up, or the kernel skips the program that would.
const CALLS: usize = 10_000;

impl Object {
    /// Puts the selected processes, threads and cgroups into the maps.
    pub(crate) fn select(&mut self, selection: &Selection) -> Result<(), AttachError> {
        for tgid in &selection.tgids {
            if let Some(set) = &self.tgids {
                set.insert(tgid.0);
            }
        }
        for tid in &selection.tids {
            if let Some(set) = &self.tids {
                set.insert(tid.0);
            }
        }
        for cgroup in &selection.cgroups {
            self.insert_cgroup(cgroup.id, cgroup.depth)?;
        }
        // SeqCst: behind the entries of the map, which a system call wrote.
        self.setting(offset_of!(Config, cgroup_levels)).store(selection.cgroup_levels(), Ordering::SeqCst);
        // The programs are attached, and have refused whoever made calls. From here on they may remember it.
        self.setting(offset_of!(Config, unsettled)).fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    /// Selects what is new and then no longer what is gone, so that whoever is in both all the time is never without.
    pub(crate) fn reselect(&mut self, change: &FilterChange) -> Result<(), SelectError> {
        let FilterChange { added_tgids, removed_tgids, added_cgroups, removed_cgroups, .. } = change;
        for cgroup in added_cgroups {
            self.insert_cgroup(cgroup.id, cgroup.depth).map_err(SelectError::map)?;
        }
        self.setting(offset_of!(Config, cgroup_levels)).fetch_or(change.cgroup_levels, Ordering::SeqCst);
        for cgroup in removed_cgroups {
            self.remove_cgroup(cgroup.id).map_err(SelectError::map)?;
        }
        self.setting(offset_of!(Config, cgroup_levels)).store(change.cgroup_levels, Ordering::SeqCst);
        if !added_tgids.is_empty() {
            self.select_processes(added_tgids)?;
        }
        removed_tgids.iter().try_for_each(|tgid| self.deselect(*tgid))
    }

    /// Adds processes to the selection.
    pub(crate) fn select_processes(&self, processes: &[Tgid]) -> Result<(), SelectError> {
        let Some(set) = &self.tgids else { return Ok(()) };
        processes.iter().for_each(|tgid| set.insert(tgid.0));
        self.announce_change()
    }

    /// Takes a process out of the selection.
    pub(crate) fn deselect(&self, process: Tgid) -> Result<(), SelectError> {
        let Some(set) = &self.tgids else { return Ok(()) };
        // Before the process is taken out: a call that then returns unselected is forgotten. The set's removal is a
        // read-modify-write with SeqCst, so no program sees it without this.
        self.setting(offset_of!(Config, has_removed)).store(1, Ordering::SeqCst);
        set.remove(process.0);
        self.announce_change()
    }

    /// As long as the guard lives, children of this process may select themselves.
    pub(crate) fn unsettle(&self) -> Unsettled<'_> {
        let unsettled = self.setting(offset_of!(Config, unsettled));
        unsettled.fetch_add(1, Ordering::SeqCst);
        Unsettled(unsettled)
    }

    /// Has the programs forget what they remember of the selection before its change: they look whether there was one
    /// at each system call of this process.
    fn announce_change(&self) -> Result<(), SelectError> {
        if !self.remembers() {
            return Ok(());
        }
        let change = self.setting(offset_of!(Config, changes)).fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let noticed = self.setting(offset_of!(Config, noticed));
        for _ in 0..CALLS {
            // For the call's sake.
            let _ = rustix::process::getppid();
            if noticed.load(Ordering::SeqCst).wrapping_sub(change).cast_signed() >= 0 {
                return Ok(());
            }
        }
        Err(SelectError::Unnoticed)
    }

    fn setting(&self, offset: usize) -> &AtomicU32 {
        self.config.u32_at(0, offset)
    }
}

/// A command is being started.
#[derive(Debug)]
pub(crate) struct Unsettled<'a>(&'a AtomicU32);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
