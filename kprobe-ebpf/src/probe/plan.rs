use std::{
    borrow::Cow,
    hash::{BuildHasher as _, RandomState},
};

use kprobe_core::{
    abi::{Family, Kind},
    event::TypedEvent,
};

use super::Allowed;

/// Something that [`RecorderBuilder::probe`](crate::RecorderBuilder::probe) takes: a family of kprobe's own probes, or
/// a user's [`Probe`](super::Probe).
///
/// Sealed: a user's programs come in through [`Probe`](super::Probe).
pub trait ProbeFamily: sealed::Sealed {
    /// What is to be attached.
    #[doc(hidden)]
    fn plan(self) -> sealed::Plan;
}

/// A probe that yields events of type `E`.
#[diagnostic::on_unimplemented(message = "the probe `{Self}` does not yield `{E}`")]
pub trait Yields<E: TypedEvent>: ProbeFamily {}

pub(crate) mod sealed {
    #[expect(missing_debug_implementations, reason = "nobody outside can hold one")]
    #[expect(unnameable_types, reason = "this is what seals the trait")]
    pub struct Plan(pub(crate) super::FamilyPlan);

    #[expect(unnameable_types, reason = "this is what seals the trait")]
    pub trait Sealed {}
}

/// Everything a family wants attached.
#[derive(Debug)]
pub(crate) struct FamilyPlan {
    pub(crate) family: Family,
    pub(crate) object: ObjectBytes,
    pub(crate) events: Vec<EventPlan>,
    /// One of so many records is kept.
    pub(crate) sample_one_in: u32,
    pub(crate) min_duration_ns: u64,
    /// Frozen globals that this family sets.
    pub(crate) globals: Vec<(&'static str, Vec<u8>)>,
    /// Entries of maps that only this family uses; without it they have one.
    pub(crate) maps: Vec<(&'static str, u32)>,
    /// What paths may be recorded of.
    pub(crate) allowed: Vec<Allowed>,
}

/// Where the programs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectBytes {
    Builtin,
    User(Cow<'static, [u8]>),
}

/// One event and the ways to get it, best first. Events may have programs in common: a rung all of whose programs are
/// attached already is taken with that.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventPlan {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    pub(crate) rungs: Vec<RungPlan>,
    /// The family is there without it: what it needs not every kernel has, and the family's other events do not need it.
    pub(crate) may_be_off: bool,
}

impl FamilyPlan {
    /// It is for the same events, out of the same object.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        let kinds = |plan: &Self| plan.events.iter().map(|event| event.kind).collect::<Vec<_>>();
        self.family == other.family
            && self.object == other.object
            && (self.family != Family::User || kinds(self) == kinds(other))
    }

    /// The kernel would get the same for both, but for what can change while programs run.
    pub(crate) fn has_programs_of(&self, other: &Self) -> bool {
        // Those are another for each recording, whoever asks.
        let told = |plan: &Self| {
            let told = plan.globals.iter().filter(|(name, _)| !name.ends_with(SECRET));
            told.cloned().collect::<Vec<_>>()
        };
        (&self.events, told(self), &self.maps, &self.allowed)
            == (&other.events, told(other), &other.maps, &other.allowed)
    }
}

/// How the names of such globals end.
const SECRET: &str = "_SECRET";

impl EventPlan {
    pub(crate) fn new(kind: Kind, name: &'static str, rungs: Vec<RungPlan>) -> Self {
        Self { kind, name, rungs, may_be_off: false }
    }
}

/// The number of a system call, as a global of a program.
pub(crate) fn call_number(number: i64) -> Vec<u8> {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes().to_vec()
}

/// With which programs make numbers of the kernel's addresses, which are nobody's business: another for each recording.
pub(crate) fn secret() -> Vec<u8> {
    let word = || RandomState::new().hash_one(()).to_le_bytes();
    [word(), word()].concat()
}

/// One way to get an event: these programs, all of them or none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RungPlan {
    pub(crate) name: &'static str,
    pub(crate) programs: Vec<ProgramPlan>,
    /// Frozen offsets that must have been found.
    pub(crate) needs: Vec<Needs>,
    /// Maps of task storage that its programs write to.
    pub(crate) storage: &'static [&'static str],
}

/// Frozen offsets that a program cannot do without: unset, a typed one is refused by the verifier, but one that reads
/// by the helper reads anything. Those that it can do without are in no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs(pub(crate) When, pub(crate) &'static [&'static str]);

/// When offsets are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Whatever is recorded.
    Always,
    /// If processes are selected by cgroup.
    ByCgroup,
    /// By the programs for kernels before 6.1.
    Before6_1,
    /// If `sched_process_exit` says whether the process ends.
    GroupDead,
    /// If it does not.
    NoGroupDead,
}

impl Needs {
    /// The ids of a task.
    pub(crate) const IDS: Self = Self(When::Always, &["OFF_TASK_STRUCT_PID", "OFF_TASK_STRUCT_TGID"]);
    /// The cgroup in the header of each record, where the program has the current task at hand. Others ask a helper.
    pub(crate) const CGROUP_ID: Self = Self(
        When::Always,
        &["OFF_TASK_STRUCT_CGROUPS", "OFF_CSS_SET_DFL_CGRP", "OFF_CGROUP_KN", "OFF_KERNFS_NODE_ID"],
    );
    /// Whether a task that is not the current one is in a selected cgroup.
    pub(crate) const ANCESTORS: Self = Self(
        When::ByCgroup,
        &[
            "OFF_TASK_STRUCT_CGROUPS",
            "OFF_CSS_SET_DFL_CGRP",
            "OFF_CGROUP_LEVEL",
            "OFF_CGROUP_ANCESTORS",
            "OFF_CGROUP_KN",
            "OFF_KERNFS_NODE_ID",
        ],
    );
}

/// One program and its attach target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramPlan {
    pub(crate) program: Cow<'static, str>,
    pub(crate) target: Target,
    /// The same function under another name, where the kernel has none of the first.
    pub(crate) or: Option<&'static str>,
    /// It makes no records of its own, and may serve several events.
    pub(crate) is_shared: bool,
    /// Without it the records only say less.
    pub(crate) is_optional: bool,
    /// Frozen offsets that only this one needs: without them it is left out. For one that is optional.
    pub(crate) needs: &'static [Needs],
    /// Programs of the same rung, before it, without which it would say what is not so: an end without which what began never
    /// ends.
    pub(crate) with: &'static [&'static str],
    /// Only before Linux 6.1: it takes from a function what later kernels pass to the rung's other programs.
    pub(crate) is_before_6_1: bool,
}

/// An attach target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A tracepoint whose arguments the verifier knows by BTF (Linux 5.5).
    BtfTracepoint(Cow<'static, str>),
    /// A raw tracepoint (Linux 4.17).
    RawTracepoint(Cow<'static, str>),
    /// The entry of a function of the kernel (`fentry`, Linux 5.5).
    FunctionEntry(Cow<'static, str>),
    /// Its return (`fexit`, likewise): arguments and result are both at hand.
    FunctionExit(Cow<'static, str>),
    /// A breakpoint at the entry of a function (kprobe).
    Kprobe(Cow<'static, str>),
    /// The return of a function whose entry has a breakpoint (kretprobe): only the result is at hand.
    Kretprobe(Cow<'static, str>),
    /// The trace event made from a tracepoint. Needs tracefs, and the right to read it.
    TraceEvent {
        /// Its folder below `events`.
        category: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A software event of perf, on every CPU that is there.
    SoftwareEvent(SoftwareEvent),
    /// None: a program for raw tracepoints that the loader runs itself, before those behind it are attached.
    Loader,
}

/// A software event of perf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SoftwareEvent {
    /// `PERF_COUNT_SW_PAGE_FAULTS_MAJ`.
    MajorFaults,
    /// `PERF_COUNT_SW_PAGE_FAULTS_MIN`.
    MinorFaults,
}

impl Target {
    /// Of the tracepoint, the function or the event.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::BtfTracepoint(name)
            | Self::RawTracepoint(name)
            | Self::FunctionEntry(name)
            | Self::FunctionExit(name)
            | Self::Kprobe(name)
            | Self::Kretprobe(name) => name,
            Self::TraceEvent { name, .. } => name,
            Self::SoftwareEvent(SoftwareEvent::MajorFaults) => "major-faults",
            Self::SoftwareEvent(SoftwareEvent::MinorFaults) => "minor-faults",
            Self::Loader => "of the loader",
        }
    }

    pub(crate) const fn is_function(&self) -> bool {
        matches!(self, Self::FunctionEntry(_) | Self::FunctionExit(_) | Self::Kprobe(_) | Self::Kretprobe(_))
    }
}

impl ProgramPlan {
    const fn new(program: &'static str, target: Target) -> Self {
        Self {
            program: Cow::Borrowed(program),
            target,
            or: None,
            is_shared: false,
            is_optional: false,
            needs: &[],
            with: &[],
            is_before_6_1: false,
        }
    }

    /// A function that other kernels call by this name.
    pub(crate) fn or(self, function: &'static str) -> Self {
        Self { or: Some(function), ..self }
    }

    /// As a kernel has it that knows these functions.
    pub(crate) fn on(&self, has: impl Fn(&str) -> bool) -> Self {
        let other = self.or.filter(|_| !has(self.target.name())).map(Cow::Borrowed);
        let target = match (other, &self.target) {
            (Some(other), Target::FunctionEntry(_)) => Target::FunctionEntry(other),
            (Some(other), Target::FunctionExit(_)) => Target::FunctionExit(other),
            (Some(other), Target::Kprobe(_)) => Target::Kprobe(other),
            (Some(other), Target::Kretprobe(_)) => Target::Kretprobe(other),
            (_, target) => target.clone(),
        };
        Self { target, or: None, ..self.clone() }
    }

    /// The same, which may fail to attach.
    pub(crate) fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// The same, which may fail to attach and is not attached without those.
    pub(crate) fn optional_with(self, with: &'static [&'static str]) -> Self {
        Self { with, ..self.optional() }
    }

    /// The same, which is left out where there are no such offsets.
    pub(crate) fn needing(self, needs: &'static [Needs]) -> Self {
        Self { needs, ..self }
    }

    /// The same, which is of use before Linux 6.1 only.
    pub(crate) fn before_6_1(self) -> Self {
        Self { is_before_6_1: true, ..self }
    }

    /// The same, which may serve several events.
    pub(crate) fn shared(self) -> Self {
        Self { is_shared: true, ..self }
    }

    pub(crate) const fn btf(program: &'static str, tracepoint: &'static str) -> Self {
        Self::new(program, Target::BtfTracepoint(Cow::Borrowed(tracepoint)))
    }

    pub(crate) const fn event(program: &'static str, category: &'static str, name: &'static str) -> Self {
        Self::new(program, Target::TraceEvent { category, name })
    }

    pub(crate) const fn fentry(program: &'static str, function: &'static str) -> Self {
        Self::new(program, Target::FunctionEntry(Cow::Borrowed(function)))
    }

    pub(crate) const fn fexit(program: &'static str, function: &'static str) -> Self {
        Self::new(program, Target::FunctionExit(Cow::Borrowed(function)))
    }

    pub(crate) const fn kprobe(program: &'static str, function: &'static str) -> Self {
        Self::new(program, Target::Kprobe(Cow::Borrowed(function)))
    }

    pub(crate) const fn kretprobe(program: &'static str, function: &'static str) -> Self {
        Self::new(program, Target::Kretprobe(Cow::Borrowed(function)))
    }

    pub(crate) const fn perf(program: &'static str, event: SoftwareEvent) -> Self {
        Self::new(program, Target::SoftwareEvent(event))
    }

    /// A program that the loader runs, whatever rung it is for.
    pub(crate) fn loaders(program: &'static str) -> Self {
        Self::new(program, Target::Loader).shared()
    }

    pub(crate) const fn raw(program: &'static str, tracepoint: &'static str) -> Self {
        Self::new(program, Target::RawTracepoint(Cow::Borrowed(tracepoint)))
    }
}

impl RungPlan {
    /// The rung of a trace event.
    pub(crate) fn trace_event(programs: Vec<ProgramPlan>, needs: &[Needs]) -> Self {
        Self { name: TRACE_EVENT, programs, needs: needs.to_vec(), storage: &[] }
    }

    /// The same rung, whose programs write to these maps of task storage.
    pub(crate) fn storing(self, storage: &'static [&'static str]) -> Self {
        Self { storage, ..self }
    }

    /// Offsets that it needs where `holds`.
    pub(crate) fn needed(&self, holds: impl Fn(When) -> bool) -> impl Iterator<Item = &'static str> {
        // Where the current task is looked at as any other.
        let of_current = holds(When::Before6_1).then_some(&Needs::ANCESTORS);
        let needs = self.needs.iter().chain(of_current);
        needs.filter(move |needs| holds(needs.0)).flat_map(|needs| needs.1).copied()
    }
}

/// Name of the rung of trace events. From Linux 7.0 on it is the best where there is one: a thread can be preempted
/// inside a program at a raw tracepoint, and the kernel then skips the program for every thread that runs there
/// meanwhile. At trace events preemption is off.
pub(crate) const TRACE_EVENT: &str = "tracepoint";

/// Name of the rung of functions whose arguments the verifier knows: `fentry` and `fexit`.
pub(crate) const FUNCTION: &str = "fentry";

/// Name of the rung of breakpoints, at the entry of a function and at its return.
pub(crate) const KPROBE: &str = "kprobe";

/// Name of the rung of perf's software events.
pub(crate) const PERF: &str = "perf";

/// Name of the rung where a raw tracepoint says when a fault began and a software event that it is over.
pub(crate) const RAISED_PERF: &str = "raw_tp+perf";

/// Name of the rung that keeps pending calls in a hash, where there is no task storage.
pub(crate) const IN_HASH: &str = "raw_tp+hash";

/// The two rungs that every tracepoint has: with and without the verifier's knowledge of types. `needs` are those of
/// both; the typed one also reads the cgroup itself.
pub(crate) fn tracepoint_rungs(
    btf_program: &'static str,
    raw_program: &'static str,
    tracepoint: &'static str,
    needs: &[Needs],
) -> Vec<RungPlan> {
    vec![
        RungPlan {
            name: "tp_btf",
            programs: vec![ProgramPlan::btf(btf_program, tracepoint)],
            needs: [needs, &[Needs::CGROUP_ID]].concat(),
            storage: &[],
        },
        RungPlan {
            name: "raw_tp",
            programs: vec![ProgramPlan::raw(raw_program, tracepoint)],
            needs: needs.to_vec(),
            storage: &[],
        },
    ]
}
