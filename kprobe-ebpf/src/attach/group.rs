//! The probes of one object, attached together.

use kprobe_core::abi::{Kind, PID_WORDS, select};

use super::{
    Arguments, AttachError, Host, Load, Object, Offsets, Outcome, ProbeReport, Rings, RungReport,
    WakeContextSource,
};
use crate::{
    filter::Selection,
    probe::{EventPlan, FamilyPlan, Needs, ObjectBytes, RungPlan, TRACE_EVENT, When, tracepoint_rungs},
};

/// The object built from `programs/`; see `object/TOOLCHAIN` for what built it.
pub(crate) static BUILTIN: &[u8] = aya::include_bytes_aligned!("../../object/kprobe.o");

/// Threads with a system call pending that the hash remembers, where there is no task-local storage.
const MOST_PENDING: u32 = 32_768;

/// Everything that attaching a group of probes needs and that is the same for all groups.
pub(crate) struct Setup<'a> {
    pub(crate) offsets: Offsets,
    pub(crate) btf: aya::Btf,
    pub(crate) arguments: Arguments,
    /// Linux 7.0 and later: see [`TRACE_EVENT`].
    pub(crate) programs_are_preemptible: bool,
    pub(crate) cpus: u32,
    pub(crate) shards: u32,
    pub(crate) shard_bytes: u32,
    pub(crate) selection: &'a Selection,
    pub(crate) forbidden: &'a [String],
}

/// The probes of one object.
pub(crate) struct Group<'a> {
    object: &'a ObjectBytes,
    plans: Vec<(&'a FamilyPlan, bool)>,
}

/// A group in the kernel.
pub(crate) struct Attached {
    pub(crate) object: Object,
    pub(crate) rings: Rings,
    pub(crate) probes: Vec<ProbeReport>,
    pub(crate) notes: Vec<String>,
    pub(crate) wake_context: Option<String>,
}

/// By object; a plan of which nothing is wanted needs none.
pub(crate) fn groups(plans: &[(FamilyPlan, bool)]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (plan, required) in plans.iter().filter(|(plan, _)| !plan.events.is_empty()) {
        match groups.iter_mut().find(|group| *group.object == plan.object) {
            Some(group) => group.plans.push((plan, *required)),
            None => groups.push(Group { object: &plan.object, plans: vec![(plan, *required)] }),
        }
    }
    groups
}

impl Group<'_> {
    fn events(&self) -> impl Iterator<Item = (&EventPlan, bool)> {
        self.plans.iter().flat_map(|(plan, required)| plan.events.iter().map(|event| (event, *required)))
    }

    fn kinds(&self) -> Vec<Kind> {
        self.events().map(|(event, _)| event.kind).collect()
    }
}

impl Setup<'_> {
    /// Attaches the probes of one object. If the context of a wake-up cannot be had in the best way, everything is
    /// loaded anew for the next: the choice is part of the object.
    pub(crate) fn attach_group(&self, group: &Group<'_>, host: &Host) -> Result<Attached, AttachError> {
        if !group.kinds().contains(&Kind::SCHED_WAKING) {
            return self.attach_with(group, None).map(|(attached, _)| attached);
        }
        let mut refusals = Vec::new();
        let candidates = WakeContextSource::candidates(&host.btf).unwrap_or_else(|reason| {
            refusals.push(reason.to_owned());
            Vec::new()
        });
        for source in candidates {
            let (mut attached, refused) = self.attach_with(group, Some(source))?;
            match refused {
                Some(reason) => refusals.push(format!("not {}: {reason}", source.name())),
                None => {
                    let mut text = source.name().to_owned();
                    for refusal in refusals {
                        text = format!("{text} ({refusal})");
                    }
                    attached.wake_context = Some(text);
                    return Ok(attached);
                }
            }
        }
        let (mut attached, _) = self.attach_with(group, None)?;
        attached.wake_context = Some(format!("absent ({})", refusals.join("; ")));
        Ok(attached)
    }

    /// The programs may remember which process a thread belongs to only if one at `tp_btf` makes them forget it in time;
    /// whether that works shows when it is attached, and what is remembered is part of the object.
    fn attach_with(
        &self,
        group: &Group<'_>,
        source: Option<WakeContextSource>,
    ) -> Result<(Attached, Option<String>), AttachError> {
        match self.try_with(group, source, true)? {
            Some(attached) => Ok(attached),
            None => self.try_with(group, source, false)?.ok_or(AttachError::NoProbe),
        }
    }

    /// One try. The second value says why `source` does not work here; `None` if tgids cannot be remembered.
    fn try_with(
        &self,
        group: &Group<'_>,
        source: Option<WakeContextSource>,
        caches_tgids: bool,
    ) -> Result<Option<(Attached, Option<String>)>, AttachError> {
        let name = match group.object {
            ObjectBytes::Builtin => "kprobe",
            ObjectBytes::User(_) => group.events().next().map_or("user", |(event, _)| event.name),
        };
        let bytes = match (group.object, source) {
            (ObjectBytes::Builtin, Some(source)) => std::borrow::Cow::Owned(source.patch(BUILTIN)),
            (ObjectBytes::Builtin, None) => BUILTIN.into(),
            (ObjectBytes::User(bytes), _) => bytes.as_ref().into(),
        };
        let (object, rings) = Object::load(Load {
            name,
            is_builtin: *group.object == ObjectBytes::Builtin,
            bytes: &bytes,
            globals: &self.globals(group, source, caches_tgids),
            max_entries: &self.max_entries(),
            kinds: group.kinds(),
            shards: self.shards,
            shard_bytes: self.shard_bytes,
        })?;
        let mut attached =
            Attached { object, rings, probes: Vec::new(), notes: Vec::new(), wake_context: None };
        for (plan, _) in &group.plans {
            attached.object.set_sampling(plan.family, plan.sample_one_in, plan.min_duration_ns);
        }
        if let Some(source) = source
            && let Err(reason) = attached.object.attach_context(&source.programs(), &self.btf)
        {
            return Ok(Some((attached, Some(reason))));
        }
        if !self.follow(&mut attached)? && caches_tgids {
            return Ok(None);
        }
        for (event, required) in group.events() {
            let report = self.climb(&mut attached.object, event, required);
            let from_variable = matches!(source, Some(WakeContextSource::PreemptCount { .. }));
            if event.kind == Kind::SCHED_WAKING && from_variable && report.rung.is_none() {
                let reason = report.refusal();
                return Ok(Some((attached, Some(reason))));
            }
            if required && report.rung.is_none() {
                return Err(AttachError::Probe { probe: report.probe.clone(), reasons: report.refusal() });
            }
            attached.probes.push(report);
        }
        Ok(Some((attached, None)))
    }

    /// Attaches what keeps the sets of processes and threads up to date when ids are used again and when children are
    /// made, before anything that could see those. Without it a recording would be wrong.
    ///
    /// Whether it is attached with typed pointers.
    fn follow(&self, attached: &mut Attached) -> Result<bool, AttachError> {
        const TRACEPOINT: &str = "sched_wakeup_new";
        let rungs = tracepoint_rungs("follow_fork_btf", "follow_fork_raw", TRACEPOINT, &[Needs::IDS]);
        if !attached.object.has_program("follow_fork_raw") {
            attached.notes.push(
                "the object of a user's probe has no follow_fork programs: children are not followed"
                    .to_owned(),
            );
            return Ok(false);
        }
        let mut reasons = Vec::new();
        // What the user forbids concerns the probes: these must be there, so a forbidden rung is the last resort.
        let (forbidden, allowed): (Vec<_>, Vec<_>) =
            rungs.into_iter().partition(|rung| self.is_forbidden(rung));
        for rung in allowed.into_iter().chain(forbidden) {
            match self.attach_rung(&mut attached.object, &rung) {
                Ok(()) => return Ok(rung.name == "tp_btf"),
                Err(reason) => reasons.push(format!("{}: {reason}", rung.name)),
            }
        }
        Err(AttachError::Probe { probe: "follow_fork".to_owned(), reasons: reasons.join("; ") })
    }

    /// Takes the first rung of an event's ladder that holds.
    fn climb(&self, object: &mut Object, event: &EventPlan, required: bool) -> ProbeReport {
        let mut report = ProbeReport {
            probe: event.name.to_owned(),
            required,
            rung: None,
            ladder: Vec::with_capacity(event.rungs.len()),
        };
        let mut rungs: Vec<_> = event.rungs.iter().collect();
        if self.programs_are_preemptible {
            // Stable: the others stay in their order.
            rungs.sort_by_key(|rung| rung.name != TRACE_EVENT);
        }
        for rung in rungs {
            let outcome = if report.rung.is_some() {
                Outcome::NotNeeded
            } else {
                match self.take(object, rung) {
                    Ok(()) => {
                        report.rung = Some(rung.name.to_owned());
                        Outcome::Taken
                    }
                    Err(reason) => Outcome::Refused(reason),
                }
            };
            report.ladder.push(RungReport { rung: rung.name.to_owned(), outcome });
        }
        report
    }

    fn take(&self, object: &mut Object, rung: &RungPlan) -> Result<(), String> {
        if self.is_forbidden(rung) {
            return Err("forbidden by the user".to_owned());
        }
        self.attach_rung(object, rung)
    }

    fn is_forbidden(&self, rung: &RungPlan) -> bool {
        self.forbidden.iter().any(|forbidden| forbidden == rung.name)
    }

    fn attach_rung(&self, object: &mut Object, rung: &RungPlan) -> Result<(), String> {
        if let Some(missing) = self.offsets.missing(rung.needed(|when| self.holds(when))) {
            return Err(missing.to_owned());
        }
        // A user's own program may take the arguments of any kernel.
        let mut targets = rung.programs.iter().map(|plan| &plan.target).filter(|_| object.is_builtin);
        if let Some(other) = targets.find_map(|target| self.arguments.refusal(target)) {
            return Err(other.to_owned());
        }
        object.attach(&rung.programs, &self.btf)
    }

    fn holds(&self, when: When) -> bool {
        match when {
            When::Always => true,
            When::ByCgroup => self.selection.select & select::CGROUPS != 0,
            When::GroupDead => self.arguments.has_group_dead,
            When::NoGroupDead => !self.arguments.has_group_dead,
        }
    }

    fn globals(
        &self,
        group: &Group<'_>,
        source: Option<WakeContextSource>,
        caches_tgids: bool,
    ) -> Vec<(&'static str, Vec<u8>)> {
        let own = if self.selection.include_self { 0 } else { std::process::id() };
        let mut globals: Vec<_> = self.offsets.globals().collect();
        globals.extend([
            ("SELECT", self.selection.select.to_le_bytes().to_vec()),
            ("SELF_TGID", own.to_le_bytes().to_vec()),
            ("SHARD_MASK", (self.shards - 1).to_le_bytes().to_vec()),
            ("HAS_GROUP_DEAD", vec![u8::from(self.arguments.has_group_dead)]),
            ("CACHE_TGIDS", vec![u8::from(caches_tgids)]),
        ]);
        globals.extend(source.map(WakeContextSource::globals).unwrap_or_default());
        globals.extend(group.plans.iter().flat_map(|(plan, _)| plan.globals.clone()));
        globals
    }

    fn max_entries(&self) -> Vec<(&'static str, u32)> {
        let select = self.selection.select;
        let bits = |selector| if select & selector != 0 { PID_WORDS } else { 1 };
        let cgroups = u32::try_from(self.selection.cgroups.len()).unwrap_or(u32::MAX).max(1);
        vec![
            ("RINGS", self.shards),
            ("READERS", self.shards),
            ("CPUS", self.cpus),
            ("TGIDS", bits(select::TGIDS)),
            ("TIDS", bits(select::TIDS)),
            ("EXITED", if self.arguments.has_group_dead { 1 } else { PID_WORDS }),
            ("CGROUPS", cgroups.next_power_of_two()),
            ("ENTERS", MOST_PENDING),
        ]
    }
}
