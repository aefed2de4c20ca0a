//! The probes of one object, attached together.

use std::collections::BTreeSet;

use kprobe_core::abi::{Family, Kind, PID_WORDS, select};

use super::{
    Arguments, AttachError, Build, FORBIDDEN, Host, Load, MapMemory, Object, Offsets, Outcome, ProbeReport,
    Rings, RungReport, WakeContextSource, object::Refused,
};
use crate::{
    btf::Btf,
    filter::Selection,
    probe::{
        EventPlan, FamilyPlan, IN_HASH, KPROBE, Needs, ObjectBytes, ProgramPlan, RungPlan, TRACE_EVENT,
        Target, When, tracepoint_rungs,
    },
    recorder::Aggregation,
};

/// Threads with a system call pending that a hash remembers: on the rung that has it, and where it stands for task
/// storage.
const MOST_PENDING: u32 = 32_768;

/// Cgroups that there is room for at least, where they are selected.
const LEAST_CGROUPS: u32 = 64;

/// Before 6.1: processes that are remembered to have ended, for the moment in which their last threads do.
const MOST_ENDING: u32 = 4_096;

/// Everything that attaching a group of probes needs and that is the same for all groups.
pub(crate) struct Setup<'a> {
    pub(crate) build: Build,
    pub(crate) offsets: Offsets,
    pub(crate) btf: aya::Btf,
    pub(crate) arguments: Arguments,
    /// Linux 7.0 and later: see [`TRACE_EVENT`].
    pub(crate) programs_are_preemptible: bool,
    /// See [`Build::refuses_functions`].
    pub(crate) refuses_functions: Option<&'static str>,
    pub(crate) cpus: u32,
    pub(crate) shards: u32,
    pub(crate) shard_bytes: u32,
    pub(crate) selection: &'a Selection,
    pub(crate) forbidden: &'a [String],
    pub(crate) aggregation: Aggregation,
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
    /// Maps of task storage that are written to.
    storage: BTreeSet<&'static str>,
}

impl Attached {
    /// Memory of its maps. Of task storage only what the rungs that were taken write to.
    pub(crate) fn memory(&self, btf: &Btf) -> Vec<MapMemory> {
        self.object.memory(btf, |map| !self.object.is_builtin || self.storage.contains(map))
    }
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
    /// What the report says of a user's probes that this kernel cannot have; `None` if they are kprobe's own, or one of
    /// them is required.
    pub(crate) fn off(&self, error: &AttachError) -> Option<Vec<ProbeReport>> {
        if *self.object == ObjectBytes::Builtin || self.plans.iter().any(|(_, required)| *required) {
            return None;
        }
        let report = |event: &EventPlan| ProbeReport {
            probe: event.name.to_owned(),
            required: false,
            rung: None,
            ladder: event
                .rungs
                .iter()
                .map(|rung| RungReport {
                    rung: rung.name.to_owned(),
                    outcome: Outcome::Refused(format!("a program of one's own needs Linux 6.1: {error}")),
                })
                .collect(),
        };
        Some(self.events().map(|(event, _)| report(event)).collect())
    }

    fn events(&self) -> impl Iterator<Item = (&EventPlan, bool)> {
        self.plans.iter().flat_map(|(plan, required)| {
            plan.events.iter().map(|event| (event, *required && !event.may_be_off))
        })
    }

    fn kinds(&self) -> Vec<Kind> {
        self.events().map(|(event, _)| event.kind).collect()
    }
}

/// What is part of the object, and shows whether it works only when the programs are attached.
#[derive(Clone, Copy, Debug)]
struct Choice {
    /// How the context of a wake-up is found.
    source: Option<WakeContextSource>,
    /// Programs remember which threads are selected: only if one at `tp_btf` makes them forget it in time.
    remembers: bool,
    /// The hash of pending calls has room. It is allocated as a whole, so only for the rung that needs it.
    has_hash: bool,
}

/// What came of a choice.
enum Tried {
    Attached(Box<Attached>),
    /// The context of a wake-up cannot be found in this way.
    NoContext(String),
    /// Nothing at `tp_btf` sees new threads.
    NoMemory,
    /// The ladder has come to the rung that needs the hash.
    NoHash,
}

impl Setup<'_> {
    /// Attaches the probes of one object. Where a choice turns out to be wrong, all is loaded anew with the next.
    pub(crate) fn attach_group(&self, group: &Group<'_>, host: &Host) -> Result<Attached, AttachError> {
        let has_context = group.kinds().into_iter().any(has_context);
        let candidates = if has_context { WakeContextSource::candidates(&host.btf) } else { Ok(Vec::new()) };
        let (candidates, mut refusals) = match candidates {
            Ok(candidates) => (candidates, Vec::new()),
            Err(reason) => (Vec::new(), vec![reason.to_owned()]),
        };
        let mut sources = candidates.into_iter();
        let mut choice =
            Choice { source: sources.next(), remembers: self.may_remember(group), has_hash: false };
        loop {
            match self.try_with(group, host, choice)? {
                Tried::Attached(mut attached) => {
                    attached.wake_context = has_context.then(|| wake_context(choice.source, &refusals));
                    return Ok(*attached);
                }
                Tried::NoContext(refusal) => {
                    refusals.push(refusal);
                    choice.source = sources.next();
                }
                Tried::NoMemory => choice.remembers = false,
                Tried::NoHash => choice.has_hash = true,
            }
        }
    }

    fn try_with(&self, group: &Group<'_>, host: &Host, choice: Choice) -> Result<Tried, AttachError> {
        let name = match group.object {
            ObjectBytes::Builtin => "kprobe",
            ObjectBytes::User(_) => group.events().next().map_or("user", |(event, _)| event.name),
        };
        let builtin = self.build.object();
        let bytes = match (group.object, choice.source) {
            (ObjectBytes::Builtin, Some(source)) => std::borrow::Cow::Owned(source.patch(builtin)),
            (ObjectBytes::Builtin, None) => builtin.into(),
            (ObjectBytes::User(bytes), _) => bytes.as_ref().into(),
        };
        let (object, rings) = Object::load(Load {
            name,
            is_builtin: *group.object == ObjectBytes::Builtin,
            remembers: choice.remembers,
            bytes: &bytes,
            globals: &self.globals(group, choice),
            max_entries: &self.max_entries(group, choice),
            kinds: group.kinds(),
            shards: self.shards,
            shard_bytes: self.shard_bytes,
            build: self.build,
            memlock: host.memlock,
        })?;
        let mut attached = Box::new(Attached {
            object,
            rings,
            probes: Vec::new(),
            notes: Vec::new(),
            wake_context: None,
            storage: BTreeSet::new(),
        });
        for (plan, _) in &group.plans {
            attached.object.set_sampling(plan.family, plan.sample_one_in, plan.min_duration_ns);
            attached.object.allow(&plan.allowed)?;
        }
        if let Some(source) = choice.source
            && let Err(reason) = attached.object.attach_context(&source.programs(), &self.btf)
        {
            return Ok(Tried::NoContext(format!("not {}: {reason}", source.name())));
        }
        if !self.follow(&mut attached)? && choice.remembers {
            return Ok(Tried::NoMemory);
        }
        if attached.object.is_builtin {
            let families: Vec<_> = group.plans.iter().map(|(plan, _)| plan.family).collect();
            attached.notes.extend(self.offsets.untold(&families));
        }
        for (event, required) in group.events() {
            let Some((report, was_refused_at_load)) = self.climb(&mut attached, event, required, choice)
            else {
                return Ok(Tried::NoHash);
            };
            if has_context(event.kind)
                && let Some(source @ WakeContextSource::PreemptCount { .. }) = choice.source
                && report.rung.is_none()
                && was_refused_at_load
            {
                return Ok(Tried::NoContext(format!("not {}: {}", source.name(), report.refusal())));
            }
            if required && report.rung.is_none() {
                return Err(AttachError::Probe { probe: report.probe.clone(), reasons: report.refusal() });
            }
            attached.probes.push(report);
        }
        Ok(Tried::Attached(attached))
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
            match self.attach_rung(&mut attached.object, &rung, false) {
                Ok(()) => return Ok(rung.name == "tp_btf"),
                Err(refused) => reasons.push(format!("{}: {}", rung.name, refused.reason)),
            }
        }
        Err(AttachError::Probe { probe: "follow_fork".to_owned(), reasons: reasons.join("; ") })
    }

    /// Takes the first rung of an event's ladder that holds, and says whether the kernel would not load a program of one. `None` if
    /// the hash, for which there is no room, is next.
    fn climb(
        &self,
        attached: &mut Attached,
        event: &EventPlan,
        required: bool,
        choice: Choice,
    ) -> Option<(ProbeReport, bool)> {
        let mut report = ProbeReport {
            probe: event.name.to_owned(),
            required,
            rung: None,
            ladder: Vec::with_capacity(event.rungs.len()),
        };
        let mut was_refused_at_load = false;
        let mut rungs: Vec<_> = event.rungs.iter().collect();
        if self.programs_are_preemptible {
            // Stable: the others stay in their order.
            rungs.sort_by_key(|rung| !matches!(rung.name, TRACE_EVENT | KPROBE));
        }
        for rung in rungs {
            let outcome = if report.rung.is_some() {
                Outcome::NotNeeded
            } else if rung.name == IN_HASH && !choice.has_hash && !self.is_forbidden(rung) {
                return None;
            } else {
                attached.object.left_out.clear();
                match self.take(&mut attached.object, rung) {
                    Ok(()) => {
                        attached.storage.extend(rung.storage);
                        report.rung = Some(rung.name.to_owned());
                        attached.object.serve(&rung.programs, event.name);
                        if let Some(source) = choice.source.filter(|_| has_context(event.kind)) {
                            attached.object.serve(&source.programs(), event.name);
                        }
                        let left_out = attached.object.left_out.iter();
                        attached
                            .notes
                            .extend(left_out.map(|what| format!("{} does without {what}", event.name)));
                        Outcome::Taken
                    }
                    Err(refused) => {
                        was_refused_at_load |= refused.is_of_loading;
                        Outcome::Refused(refused.reason)
                    }
                }
            };
            report.ladder.push(RungReport { rung: rung.name.to_owned(), outcome });
        }
        Some((report, was_refused_at_load))
    }

    fn take(&self, object: &mut Object, rung: &RungPlan) -> Result<(), Refused> {
        if self.is_forbidden(rung) {
            return Err(FORBIDDEN.to_owned().into());
        }
        self.attach_rung(object, rung, !rung.storage.is_empty())
    }

    /// Since when threads are ready is remembered.
    fn sums_up_threads(&self, event: &EventPlan) -> bool {
        self.aggregation.has(Family::Sched) && event.kind.family() == Some(Family::Sched)
    }

    fn is_forbidden(&self, rung: &RungPlan) -> bool {
        self.forbidden.iter().any(|forbidden| forbidden == rung.name)
    }

    /// `is_storing`: its programs remember something of threads.
    fn attach_rung(&self, object: &mut Object, rung: &RungPlan, is_storing: bool) -> Result<(), Refused> {
        if let Some(missing) = self.offsets.missing(rung.needed(|when| self.holds(when))) {
            return Err(missing.to_owned().into());
        }
        let is_before = self.build == Build::Before6_1;
        let plans = rung.programs.iter().filter(|plan| is_before || !plan.is_before_6_1);
        let mut programs: Vec<_> =
            plans.map(|plan| plan.on(|name| self.arguments.has_function(name))).collect();
        if object.is_builtin {
            programs.retain(|plan| match self.lacks(plan).filter(|_| plan.is_optional) {
                Some(reason) => {
                    object.leave_out(plan, reason);
                    false
                }
                None => true,
            });
        }
        if is_before && is_storing {
            programs.push(ProgramPlan::raw("storage_exit_raw", "sched_process_exit").shared());
        }
        // Those that are there before 6.1 alone make no records.
        let mut makers = programs.iter().filter(|plan| !plan.is_before_6_1);
        if let Some(reason) = self.refuses_functions
            && makers.any(|plan| matches!(plan.target, Target::FunctionEntry(_) | Target::FunctionExit(_)))
        {
            return Err(reason.to_owned().into());
        }
        // A user's own program may take the arguments of any kernel.
        let mut targets = programs.iter().map(|plan| &plan.target).filter(|_| object.is_builtin);
        if let Some(other) = targets.find_map(|target| self.arguments.refusal(target)) {
            return Err(other.to_owned().into());
        }
        object.attach(&programs, &self.btf)
    }

    /// What the kernel does not have that a program needs, of what only that one does.
    fn lacks(&self, plan: &ProgramPlan) -> Option<&str> {
        let needs = plan.needs.iter().filter(|needs| self.holds(needs.0)).flat_map(|needs| needs.1);
        self.offsets.missing(needs.copied()).or_else(|| self.arguments.refusal(&plan.target))
    }

    fn holds(&self, when: When) -> bool {
        match when {
            When::Always => true,
            When::ByCgroup => self.selection.select & select::CGROUPS != 0,
            When::Before6_1 => self.build == Build::Before6_1,
            When::GroupDead => self.arguments.has_group_dead,
            When::NoGroupDead => !self.arguments.has_group_dead,
        }
    }

    /// Whether what selects a thread can only change when this process changes it.
    fn may_remember(&self, group: &Group<'_>) -> bool {
        *group.object == ObjectBytes::Builtin
            && self.build == Build::Main
            && self.selection.select & (select::TIDS | select::CGROUPS) == 0
            && self.selection.ids_are_the_kernels
    }

    fn globals(&self, group: &Group<'_>, choice: Choice) -> Vec<(&'static str, Vec<u8>)> {
        let own = if self.selection.include_self { 0 } else { std::process::id() };
        let mut globals: Vec<_> = self.offsets.globals().collect();
        globals.extend([
            ("SELECT", self.selection.select.to_le_bytes().to_vec()),
            ("SELF_TGID", own.to_le_bytes().to_vec()),
            ("SHARD_MASK", (self.shards - 1).to_le_bytes().to_vec()),
            ("HAS_GROUP_DEAD", vec![u8::from(self.arguments.has_group_dead)]),
            ("PAGE_SHIFT", rustix::param::page_size().trailing_zeros().to_le_bytes().to_vec()),
            ("AGGREGATE", self.aggregation.global()),
            ("HISTOGRAM_SLOTS", self.aggregation.slots().to_le_bytes().to_vec()),
            ("RECLAIM_HAS_MEMCG", vec![u8::from(self.arguments.reclaim_has_memcg)]),
            ("PREEMPTIBLE", vec![u8::from(self.programs_are_preemptible)]),
            ("REMEMBERS", vec![u8::from(choice.remembers)]),
            ("LOADER_TGID", std::process::id().to_le_bytes().to_vec()),
        ]);
        globals.extend(choice.source.map(WakeContextSource::globals).unwrap_or_default());
        globals.extend(group.plans.iter().flat_map(|(plan, _)| plan.globals.clone()));
        globals
    }

    fn max_entries(&self, group: &Group<'_>, choice: Choice) -> Vec<(&'static str, u32)> {
        let select = self.selection.select;
        let bits = |selector| if select & selector != 0 { PID_WORDS } else { 1 };
        // Others may be selected later.
        let least = if select & select::CGROUPS != 0 { LEAST_CGROUPS } else { 1 };
        let cgroups = u32::try_from(self.selection.cgroups.len()).unwrap_or(u32::MAX).max(least);
        let mut entries = vec![
            ("RINGS", self.shards),
            ("READERS", self.shards),
            ("CPUS", self.cpus),
            ("TGIDS", bits(select::TGIDS)),
            ("TIDS", bits(select::TIDS)),
            (
                "EXITED",
                match self.build {
                    _ if self.arguments.has_group_dead => 1,
                    Build::Main => PID_WORDS,
                    Build::Before6_1 => MOST_ENDING,
                },
            ),
            ("CGROUPS", cgroups.next_power_of_two()),
            ("HISTOGRAMS", self.aggregation.slots().saturating_mul(2).saturating_mul(self.cpus)),
            (
                "IRQS",
                if group.plans.iter().any(|(plan, _)| plan.family == Family::Irq) { self.cpus } else { 1 },
            ),
            ("ENTERS", if choice.has_hash { MOST_PENDING } else { 1 }),
            (
                "READY",
                if group.events().any(|(event, _)| self.sums_up_threads(event)) { MOST_PENDING } else { 1 },
            ),
        ];
        if self.build == Build::Before6_1 {
            let rungs = group.events().flat_map(|(event, _)| &event.rungs);
            let stored: BTreeSet<_> = rungs.flat_map(|rung| rung.storage).collect();
            entries.extend(stored.into_iter().map(|map| (*map, MOST_PENDING)));
        }
        entries.extend(group.plans.iter().flat_map(|(plan, _)| plan.maps.clone()));
        entries
    }
}

/// Whether records of this kind say in which context the kernel was.
fn has_context(kind: Kind) -> bool {
    matches!(kind, Kind::SCHED_WAKING | Kind::LOCK_CONTENTION | Kind::WAIT_BLOCKED)
}

/// How the context of a wake-up is found, and why not better, as the report has it.
fn wake_context(source: Option<WakeContextSource>, refusals: &[String]) -> String {
    match source {
        Some(source) if refusals.is_empty() => source.name().to_owned(),
        Some(source) => format!("{} ({})", source.name(), refusals.join("; ")),
        None => format!("absent ({})", refusals.join("; ")),
    }
}
