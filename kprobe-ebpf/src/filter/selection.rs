use std::path::Path;

use kprobe_core::abi::select;
use kprobe_core::event::{Tgid, Tid};

use super::pids::{check_process, check_thread};
use super::{Cgroup, FilterError};
use crate::host::in_initial_pid_namespace;

/// What is recorded: an event passes if any of the selectors matches. The kernel decides it, before anything is
/// written.
///
/// ```no_run
/// use kprobe_core::event::Tgid;
/// use kprobe_ebpf::filter::Filter;
///
/// let service = Filter::cgroup("/sys/fs/cgroup/payments")?;
/// let filter = service.or(Filter::tgids([Tgid(4711)])).include_self(true);
/// # Ok::<(), kprobe_ebpf::filter::FilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    select: u32,
    tgids: Vec<Tgid>,
    tids: Vec<Tid>,
    cgroups: Vec<Cgroup>,
    include_self: bool,
}

impl Filter {
    /// Everything on this machine.
    #[must_use]
    pub fn all() -> Self {
        Self::new(select::ALL)
    }

    /// Nothing, until processes are added while recording: those of a command that is started to be recorded.
    #[must_use]
    pub fn none() -> Self {
        Self::new(select::TGIDS)
    }

    /// These processes, and every process that they or their children create from then on.
    #[must_use]
    pub fn tgids(tgids: impl IntoIterator<Item = Tgid>) -> Self {
        Self { tgids: tgids.into_iter().collect(), ..Self::new(select::TGIDS) }
    }

    /// These threads and no others of their processes; threads and processes that they create are not followed.
    #[must_use]
    pub fn tids(tids: impl IntoIterator<Item = Tid>) -> Self {
        Self { tids: tids.into_iter().collect(), ..Self::new(select::TIDS) }
    }

    /// The processes in a cgroup of version 2 and in all below it, at the time of each event.
    ///
    /// It is found now: if it is removed and made again, the new one is another.
    ///
    /// # Errors
    ///
    /// If `path` is not the directory of such a cgroup, see [`Cgroup::open`].
    pub fn cgroup(path: impl AsRef<Path>) -> Result<Self, FilterError> {
        Ok(Self { cgroups: vec![Cgroup::open(path)?], ..Self::new(select::CGROUPS) })
    }

    /// What either of the two lets pass.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.select |= other.select;
        self.tgids.extend(other.tgids);
        self.tids.extend(other.tids);
        self.cgroups.extend(other.cgroups);
        self.include_self |= other.include_self;
        self
    }

    /// Whether the recording process records itself too, if it is selected. It does not by default: what it writes
    /// about an event would be the next event. Inside a pid namespace it must: it cannot tell itself from the others.
    #[must_use]
    pub fn include_self(self, include_self: bool) -> Self {
        Self { include_self, ..self }
    }

    /// How it differs from another one that selects in the same way; `None` if the way is another, or they name other
    /// threads.
    pub(crate) fn change_from(&self, before: &Self) -> Option<FilterChange> {
        let way = |filter: &Self| (filter.select, sorted(&filter.tids), filter.include_self);
        if way(self) != way(before) {
            return None;
        }
        let tgids = |these: &Self, without: &Self| {
            sorted(&these.tgids).into_iter().filter(|tgid| !without.tgids.contains(tgid)).collect()
        };
        let cgroups = |these: &Self, without: &Self| {
            let is_in_both = |cgroup: &Cgroup| without.cgroups.iter().any(|other| other.id == cgroup.id);
            let mut only: Vec<_> =
                these.cgroups.iter().filter(|cgroup| !is_in_both(cgroup)).cloned().collect();
            only.sort_by_key(|cgroup| cgroup.id);
            only.dedup_by_key(|cgroup| cgroup.id);
            only
        };
        Some(FilterChange {
            added_tgids: tgids(self, before),
            removed_tgids: tgids(before, self),
            added_cgroups: cgroups(self, before),
            removed_cgroups: cgroups(before, self),
            cgroup_levels: levels(&self.cgroups),
        })
    }

    /// How many cgroups it names.
    pub(crate) fn cgroup_count(&self) -> usize {
        self.cgroups.iter().map(|cgroup| cgroup.id).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Checks the filter against this machine, now.
    ///
    /// # Errors
    ///
    /// If a process or thread does not exist, an id is needed and ids here are not the kernel's (those of the initial
    /// pid namespace), or there are more than `most_cgroups` cgroups.
    pub fn resolve(&self, most_cgroups: usize) -> Result<Selection, FilterError> {
        self.resolve_where(in_initial_pid_namespace()?, most_cgroups)
    }

    fn resolve_where(
        &self,
        ids_are_the_kernels: bool,
        most_cgroups: usize,
    ) -> Result<Selection, FilterError> {
        if !ids_are_the_kernels && self.select & (select::TGIDS | select::TIDS) != 0 {
            return Err(FilterError::PidNamespace);
        }
        if !ids_are_the_kernels && !self.include_self {
            return Err(FilterError::SelfInPidNamespace);
        }
        let (tgids, tids) = (sorted(&self.tgids), sorted(&self.tids));
        tgids.iter().try_for_each(|tgid| check_process(*tgid))?;
        tids.iter().try_for_each(|tid| check_thread(*tid))?;
        let mut cgroups = self.cgroups.clone();
        cgroups.sort_by_key(|cgroup| (cgroup.depth, cgroup.id));
        cgroups.dedup_by_key(|cgroup| cgroup.id);
        if cgroups.len() > most_cgroups {
            return Err(FilterError::TooManyCgroups { found: cgroups.len(), most: most_cgroups });
        }
        Ok(Selection {
            select: self.select,
            tgids,
            tids,
            cgroups,
            include_self: self.include_self,
            ids_are_the_kernels,
        })
    }

    fn new(select: u32) -> Self {
        Self { select, tgids: Vec::new(), tids: Vec::new(), cgroups: Vec::new(), include_self: false }
    }
}

/// What one filter selects and another one does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterChange {
    pub(crate) added_tgids: Vec<Tgid>,
    pub(crate) removed_tgids: Vec<Tgid>,
    pub(crate) added_cgroups: Vec<Cgroup>,
    pub(crate) removed_cgroups: Vec<Cgroup>,
    /// Depths at which there is a cgroup after it.
    pub(crate) cgroup_levels: u32,
}

/// A filter that was checked: what kernel programs compare with. Sorted, nothing twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Which selectors there are: bits of [`select`].
    pub select: u32,
    /// Processes.
    pub tgids: Vec<Tgid>,
    /// Threads.
    pub tids: Vec<Tid>,
    /// Cgroups, the outermost first.
    pub cgroups: Vec<Cgroup>,
    /// The recording process is not left out.
    pub include_self: bool,
    /// Ids of processes that this process sees are those that the kernel uses: it is in the initial pid namespace.
    pub ids_are_the_kernels: bool,
}

impl Selection {
    /// Depths at which there is a cgroup: what [`Config::cgroup_levels`](kprobe_core::abi::Config) wants.
    #[must_use]
    pub fn cgroup_levels(&self) -> u32 {
        levels(&self.cgroups)
    }
}

/// Depths are below 32: [`Cgroup::open`] refuses others.
fn levels(cgroups: &[Cgroup]) -> u32 {
    cgroups.iter().fold(0, |levels, cgroup| levels | 1_u32.unbounded_shl(cgroup.depth))
}

fn sorted<T: Copy + Ord>(ids: &[T]) -> Vec<T> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn cgroup(id: u64, depth: u32) -> Filter {
        let cgroup = Cgroup { id, depth, path: format!("/c/{id}").into() };
        Filter { cgroups: vec![cgroup], ..Filter::new(select::CGROUPS) }
    }

    fn ids(selection: &Selection) -> Vec<u64> {
        selection.cgroups.iter().map(|cgroup| cgroup.id).collect()
    }

    #[test]
    fn selectors_add_up() {
        let own = Tgid(std::process::id());
        let filter =
            Filter::tgids([own, Tgid(1), own]).or(Filter::tids([Tid(1)])).or(cgroup(70, 2)).or(cgroup(9, 0));
        let found = filter.or(cgroup(70, 2)).resolve_where(true, 2).unwrap();
        let expected = Selection {
            select: select::TGIDS | select::TIDS | select::CGROUPS,
            tgids: vec![Tgid(1), own],
            tids: vec![Tid(1)],
            cgroups: found.cgroups.clone(),
            include_self: false,
            ids_are_the_kernels: true,
        };
        assert_eq!((found.cgroup_levels(), ids(&found)), (0b101, vec![9, 70]));
        assert_eq!(found, expected);
    }

    #[test]
    fn all_and_none() {
        let all = Filter::all().include_self(true).resolve_where(true, 0).unwrap();
        assert_eq!((all.select, all.include_self, all.cgroup_levels()), (select::ALL, true, 0));
        let none = Filter::none().resolve_where(true, 0).unwrap();
        assert_eq!((none.select, none.tgids.len(), none.include_self), (select::TGIDS, 0, false));
    }

    #[test]
    fn more_cgroups_than_fit() {
        let three = cgroup(1, 0).or(cgroup(2, 1)).or(cgroup(3, 1));
        let error = three.resolve_where(true, 2).unwrap_err().to_string();
        assert_eq!(error, "3 cgroups selected, expected 2 at most: select one that they are in");
    }

    #[test]
    fn a_process_that_does_not_exist_is_refused() {
        let error = Filter::tgids([Tgid(0)]).resolve_where(true, 0).unwrap_err();
        assert!(matches!(error, FilterError::PidRange { found: 0 }), "{error}");
    }

    #[test]
    fn inside_a_pid_namespace_no_id_may_be_needed() {
        let says = |filter: Filter| filter.resolve_where(false, 1).unwrap_err();
        for by_id in [
            Filter::none(),
            Filter::tgids([Tgid(1)]),
            Filter::tids([Tid(1)]),
            cgroup(7, 1).or(Filter::none()),
        ] {
            assert!(matches!(says(by_id.clone()), FilterError::PidNamespace));
            assert!(matches!(says(by_id.include_self(true)), FilterError::PidNamespace));
        }
        for other in [Filter::all(), cgroup(7, 1)] {
            assert!(matches!(says(other.clone()), FilterError::SelfInPidNamespace));
            let found = other.include_self(true).resolve_where(false, 1).unwrap();
            assert!(found.include_self && !found.ids_are_the_kernels);
        }
    }
}
