use std::{fmt, path::PathBuf, time::Duration};

use kprobe_core::{abi::Family, event::Tgid};

use super::{Aggregation, Recorder, RecorderBuilder, SelectError, builder::MOST_CGROUPS, seeds};
use crate::{
    AttachError,
    filter::{Filter, FilterChange, FilterError},
    host,
    probe::FamilyPlan,
    ring::Pacing,
};

/// What a recorder was built with, and was told since.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(super) plans: Vec<(FamilyPlan, bool)>,
    pub(super) filter: Filter,
    pub(super) ring_bytes: usize,
    pub(super) pacing: Pacing,
    pub(super) forbidden: Vec<String>,
    pub(super) aggregation: Aggregation,
}

/// What [`Recorder::retune`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Retuned {
    /// What is different from now on.
    pub changed: Vec<Change>,
    /// What was wanted and cannot change while recording: it stays as it was.
    pub fixed: Vec<Fixed>,
}

/// Something that changed while recording.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// One record in so many of a family is kept, and none that took less.
    Sampling {
        /// The family.
        family: Family,
        /// One in so many.
        one_in: u32,
        /// None that took less.
        min_duration: Duration,
    },
    /// These are recorded as well, with the children that they have from now on.
    AddedProcesses(Vec<Tgid>),
    /// These are recorded no more. Children that they had stay.
    RemovedProcesses(Vec<Tgid>),
    /// What is in these is recorded as well.
    AddedCgroups(Vec<PathBuf>),
    /// What is in these, and in no other that is selected, is recorded no more.
    RemovedCgroups(Vec<PathBuf>),
}

/// Something that only a new recorder can have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fixed {
    /// Which probes there are.
    Probes,
    /// What else a family's probe was told: which system calls, what counts as a long interrupt.
    Family(Family),
    /// By what is selected: everything, processes, threads or cgroups; which threads; whether the recording process is.
    Filter,
    /// Size of the rings.
    RingBytes,
    /// How the rings are drained.
    Pacing,
    /// Ways of attaching that are not taken.
    ForbiddenRungs,
    /// What is summed up in the kernel.
    Aggregation,
}

/// Nothing was changed, or not everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetuneError {
    /// No recorder could be attached with such settings; nothing was changed.
    #[error(transparent)]
    Settings(#[from] AttachError),
    /// A process that is to be added does not exist, or there are too many cgroups; nothing was changed.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Sampling was changed, and what is selected perhaps not.
    #[error(transparent)]
    Select(#[from] SelectError),
}

impl<Probes> Recorder<Probes> {
    /// Goes on as `wanted` says, as far as that can change while recording: sampling rates, shortest durations, and which
    /// processes or cgroups are selected. What else is different stays as it is, and is named in the answer. No record is
    /// lost by it; changes of sampling are put into the stream.
    ///
    /// For an agent that reads its configuration again: it builds what it would attach now, and hands it over. It is compared
    /// with what the recorder was built with or told here before, not with what [`add_process`](Self::add_process) and
    /// [`remove_process`](Self::remove_process) did. A process that is not new in `wanted` need not exist any more.
    ///
    /// # Errors
    /// See [`RetuneError`].
    pub fn retune<Others>(&mut self, wanted: &RecorderBuilder<Others>) -> Result<Retuned, RetuneError> {
        wanted.check()?;
        let filter = wanted.filter.as_ref().ok_or(AttachError::NoFilter)?;
        let selection = filter.change_from(&self.settings.filter);
        if let Some(change) = &selection {
            Filter::tgids(change.added_tgids.iter().copied()).resolve(0)?;
            // Those that go are there until the others have come.
            let found = filter.cgroup_count() + change.removed_cgroups.len();
            let most = MOST_CGROUPS.min(self.most_cgroups());
            if !change.added_cgroups.is_empty() && found > most {
                return Err(FilterError::TooManyCgroups { found, most }.into());
            }
        }
        let mut fixed = self.settings.fixed(wanted);
        // What can fail comes first: then nothing has changed.
        match &selection {
            Some(change) => {
                self.reselect(change)?;
                self.settings.filter = filter.clone();
            }
            None => fixed.push(Fixed::Filter),
        }
        let mut changed = self.resample(&wanted.plans);
        changed.extend(selection.into_iter().flat_map(FilterChange::told));
        Ok(Retuned { changed, fixed })
    }

    fn most_cgroups(&self) -> usize {
        self.objects.iter().map(|object| object.most_cgroups).min().unwrap_or(usize::MAX)
    }

    fn resample(&mut self, plans: &[(FamilyPlan, bool)]) -> Vec<Change> {
        let sampling = |plan: &FamilyPlan| (plan.sample_one_in.max(1), plan.min_duration_ns);
        let mut changes: Vec<Change> = Vec::new();
        for (wanted, _) in plans {
            let mut own = self.settings.plans.iter().map(|(plan, _)| plan);
            // A user's own probes are one family: behind the first of them the others agree.
            if own.any(|own| own.is_of(wanted) && sampling(own) != sampling(wanted)) {
                let (one_in, min_duration_ns) = sampling(wanted);
                let (family, min_duration) = (wanted.family, Duration::from_nanos(min_duration_ns));
                self.set_sampling(family, one_in, min_duration);
                changes.push(Change::Sampling { family, one_in, min_duration });
            }
        }
        changes
    }

    fn reselect(&mut self, change: &FilterChange) -> Result<(), SelectError> {
        if !(change.added_tgids.is_empty() && change.removed_tgids.is_empty()) {
            self.may_select()?;
        }
        for object in &mut self.objects {
            object.reselect(change)?;
        }
        // Of those that were there already the stream does not know the names.
        let seed = seeds::Seed::of_added(&change.added_tgids, &change.added_cgroups);
        self.pending.threads.extend(seeds::threads(&seed, host::clocks().monotonic_ns));
        Ok(())
    }
}

impl Settings {
    /// What would be different and cannot, the filter apart.
    fn fixed<Others>(&self, wanted: &RecorderBuilder<Others>) -> Vec<Fixed> {
        let mut fixed = Vec::new();
        let partner = |of: &FamilyPlan| wanted.plans.iter().find(|(plan, _)| plan.is_of(of));
        let pairs: Vec<_> = self.plans.iter().map(|(own, _)| (own, partner(own))).collect();
        if wanted.plans.len() != self.plans.len() || pairs.iter().any(|(_, partner)| partner.is_none()) {
            fixed.push(Fixed::Probes);
        }
        for (own, wanted) in pairs.into_iter().filter_map(|(own, partner)| Some((own, &partner?.0))) {
            let change = Fixed::Family(own.family);
            if !own.has_programs_of(wanted) && !fixed.contains(&change) {
                fixed.push(change);
            }
        }
        let (mut own, mut others) = (self.forbidden.clone(), wanted.forbidden.clone());
        own.sort_unstable();
        others.sort_unstable();
        let rest = [
            (self.ring_bytes != wanted.ring_bytes, Fixed::RingBytes),
            (self.pacing != wanted.pacing, Fixed::Pacing),
            (own != others, Fixed::ForbiddenRungs),
            (self.aggregation != wanted.aggregation, Fixed::Aggregation),
        ];
        fixed.extend(rest.into_iter().filter_map(|(differs, what)| differs.then_some(what)));
        fixed
    }
}

impl FilterChange {
    /// For who asked for it.
    fn told(self) -> impl Iterator<Item = Change> {
        let paths =
            |cgroups: Vec<crate::filter::Cgroup>| cgroups.into_iter().map(|cgroup| cgroup.path).collect();
        let Self { added_tgids, removed_tgids, added_cgroups, removed_cgroups, .. } = self;
        [
            (!added_tgids.is_empty()).then_some(Change::AddedProcesses(added_tgids)),
            (!removed_tgids.is_empty()).then_some(Change::RemovedProcesses(removed_tgids)),
            (!added_cgroups.is_empty()).then(|| Change::AddedCgroups(paths(added_cgroups))),
            (!removed_cgroups.is_empty()).then(|| Change::RemovedCgroups(paths(removed_cgroups))),
        ]
        .into_iter()
        .flatten()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tgids =
            |tgids: &[Tgid]| tgids.iter().map(|tgid| tgid.0.to_string()).collect::<Vec<_>>().join(", ");
        let paths = |paths: &[PathBuf]| {
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Sampling { family, one_in, min_duration } => {
                write!(f, "{}: ", family.name())?;
                match one_in {
                    1 => write!(f, "every record")?,
                    one_in => write!(f, "one record in {one_in}")?,
                }
                match min_duration.is_zero() {
                    true => Ok(()),
                    false => write!(f, " of what takes {min_duration:?} or longer"),
                }
            }
            Self::AddedProcesses(added) => write!(f, "also processes {}", tgids(added)),
            Self::RemovedProcesses(removed) => write!(f, "no longer processes {}", tgids(removed)),
            Self::AddedCgroups(added) => write!(f, "also cgroups {}", paths(added)),
            Self::RemovedCgroups(removed) => write!(f, "no longer cgroups {}", paths(removed)),
        }
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probes => f.write_str("which probes there are"),
            Self::Family(family) => write!(f, "what is recorded of {}", family.name()),
            Self::Filter => f.write_str("what the filter selects by"),
            Self::RingBytes => f.write_str("the size of the rings"),
            Self::Pacing => f.write_str("how rings are drained"),
            Self::ForbiddenRungs => f.write_str("which rungs are forbidden"),
            Self::Aggregation => f.write_str("what is summed up"),
        }
    }
}
