use std::{marker::PhantomData, sync::OnceLock, time::Duration};

use kprobe_core::{
    abi::{self, Family, Kind, select},
    event::{Arch, Registry, TypedEvent},
    pipeline::StreamInfo,
};

use super::{
    By, Pending, Recorder,
    aggregates::{Aggregates, Aggregation},
    cgroups::CgroupNames,
    clock::Clock,
    own::{Own, OwnRecords},
    retune::Settings,
    sampling_record,
    seeds::{self, Seed},
};
use crate::{
    attach::{
        Arguments, AttachError, Build, Host, MapMemory, MemoryUse, Object, Offsets, Report, Rings, Setup,
        groups, skipping,
    },
    filter::Filter,
    host,
    probe::{FamilyPlan, PathError, ProbeFamily},
    ring::{Pacing, Reader},
};

/// Bytes of all ring buffers together, unless the user says otherwise.
pub const DEFAULT_RING_BYTES: usize = 8 << 20;
/// `BPF_MAP_TYPE_RINGBUF` stops here: positions in it have 26 bits of pages, but a length is an `u32`.
const MOST_RING_BYTES: usize = 1 << 30;
/// CPUs that share a ring; more busy producers on one spend their time waiting for its lock.
const CPUS_PER_RING: usize = 2;
/// Rings, at most.
const MOST_RINGS: usize = 64;
/// Cgroups that one filter may name.
pub(super) const MOST_CGROUPS: usize = 16_384;

/// On each CPU: 53 MB.
const MOST_HISTOGRAMS: u32 = 1 << 16;

/// Kinds of a user's own that have counters in the kernel, from [`Kind::USER`] on.
const USER_KINDS: u16 = 16;

/// A note of the report.
const INSIDE_A_PID_NAMESPACE: &str = "recording from inside a pid namespace: the recorder records itself, process ids \
     are not those seen here, and threads that are there already have no name until they exec or are renamed; to \
     change that run in the host's (`--pid=host`, `hostPID: true`)";

/// How much a probe is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Not at all: nothing of it is loaded.
    Off,
    /// If this kernel cannot have it, the others are attached without it.
    Optional,
    /// Without it nothing is attached.
    Required,
}

/// What to record and how. [`attach`](Self::attach) starts it.
#[derive(Debug)]
pub struct RecorderBuilder<Probes = ()> {
    pub(super) plans: Vec<(FamilyPlan, bool)>,
    pub(super) filter: Option<Filter>,
    pub(super) ring_bytes: usize,
    pub(super) pacing: Pacing,
    pub(super) forbidden: Vec<String>,
    pub(super) aggregation: Aggregation,
    registry: Registry,
    probes: PhantomData<fn() -> Probes>,
}

impl RecorderBuilder {
    pub(super) fn new() -> Self {
        Self {
            plans: Vec::new(),
            filter: None,
            ring_bytes: DEFAULT_RING_BYTES,
            pacing: Pacing::default(),
            forbidden: Vec::new(),
            aggregation: Aggregation::default(),
            registry: Registry::builtin(),
            probes: PhantomData,
        }
    }
}

impl<Probes> RecorderBuilder<Probes> {
    /// Adds a probe. If this kernel cannot have it, the others are attached without it, and the report says why.
    ///
    /// One of each family: two would have one set of settings. What both are for, one probe asks for.
    #[must_use]
    pub fn probe<P: ProbeFamily>(self, probe: P) -> RecorderBuilder<(P, Probes)> {
        self.probe_with(Need::Optional, probe)
    }

    /// Adds a probe without which [`attach`](Self::attach) fails.
    #[must_use]
    pub fn require<P: ProbeFamily>(self, probe: P) -> RecorderBuilder<(P, Probes)> {
        self.probe_with(Need::Required, probe)
    }

    /// Adds a probe as much as it is needed: for programs whose users choose the probes.
    #[must_use]
    pub fn probe_with<P: ProbeFamily>(mut self, need: Need, probe: P) -> RecorderBuilder<(P, Probes)> {
        match need {
            Need::Off => {}
            Need::Optional => self.plans.push((probe.plan().0, false)),
            Need::Required => self.plans.push((probe.plan().0, true)),
        }
        RecorderBuilder {
            plans: self.plans,
            filter: self.filter,
            ring_bytes: self.ring_bytes,
            pacing: self.pacing,
            forbidden: self.forbidden,
            aggregation: self.aggregation,
            registry: self.registry,
            probes: PhantomData,
        }
    }

    /// Whose events are recorded. There is no default: recording everything is [`Filter::all`].
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Bytes of all ring buffers together: a power of two, 8 MiB if not set. They are shared out evenly among the
    /// objects (kprobe's own, and each of a user's), in halves, quarters and so on, and within each among the CPUs.
    #[must_use]
    pub fn ring_bytes(self, ring_bytes: usize) -> Self {
        Self { ring_bytes, ..self }
    }

    /// How delay is traded for work when draining.
    #[must_use]
    pub fn pacing(self, pacing: Pacing) -> Self {
        Self { pacing, ..self }
    }

    /// Never takes this rung, for example `tp_btf`: for tests, and for a kernel on which it misbehaves.
    #[must_use]
    pub fn forbid_rung(mut self, rung: impl Into<String>) -> Self {
        self.forbidden.push(rung.into());
        self
    }

    /// Sums up the durations of a family in the kernel, in a histogram for each of what `by` says, instead of a record for
    /// each event. At the end of each [interval](Self::aggregate_every) the histograms come into the stream as events of type
    /// [`Histogram`](kprobe_core::event::Histogram). Events without a duration are recorded as ever.
    ///
    /// [`check`](Self::check) refuses a family that is not recorded or whose durations cannot be summed up, and
    /// [`By::Subject`] for one of which no event that is recorded has a subject.
    #[must_use]
    pub fn aggregate(mut self, family: Family, by: By) -> Self {
        self.aggregation.set(family, by);
        self
    }

    /// Length of an interval of [`aggregate`](Self::aggregate): a second if not set. At its end a drain waits for the kernel
    /// for some milliseconds.
    #[must_use]
    pub fn aggregate_every(mut self, interval: Duration) -> Self {
        self.aggregation.interval = interval;
        self
    }

    /// How many histograms a CPU has room for in one interval, rounded up to a power of two: 512 if not set. Each takes 816
    /// bytes of kernel memory on each CPU. An event that finds no room for one more is not counted in any;
    /// [`Recorder::pair_counts`] has it as `uncounted`, and so have the books of a run
    /// ([`Ledger::uncounted`](kprobe_core::pipeline::Ledger::uncounted)), whose sinks then say that the stream is not whole. A table that is nearly full may already refuse some.
    /// [`check`](Self::check) refuses more than 65,536.
    #[must_use]
    pub fn aggregate_keys(mut self, most: u32) -> Self {
        self.aggregation.most_keys = most;
        self
    }

    /// Makes the type of a user's event known to [`Recorder::registry`], and so to sinks.
    #[must_use]
    pub fn event<E: TypedEvent>(mut self) -> Self {
        self.registry.register::<E>();
        self
    }

    /// Checks what needs neither a privilege nor this kernel: the size of the rings, the names of forbidden rungs, the
    /// kinds of a user's own events, that there are a probe and a filter, and no two probes that get into each other's
    /// way. [`attach`](Self::attach) does it too.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn check(&self) -> Result<(), AttachError> {
        self.check_probes()?;
        self.check_forbidden()?;
        self.check_aggregation()?;
        self.filter.as_ref().ok_or(AttachError::NoFilter)?;
        self.share_out().map(drop)
    }

    /// Attaches the probes.
    ///
    /// Needs CAP_BPF and CAP_PERFMON, and a kernel with type information (`CONFIG_DEBUG_INFO_BTF`), 6.1 or later; from 5.10 on
    /// nearly all families are there. Before 5.11 it raises this process's limit on locked memory (`RLIMIT_MEMLOCK`), which the
    /// kernel then charges maps to: without end with CAP_SYS_RESOURCE, else to the hard limit.
    ///
    /// # Errors
    /// See [`AttachError`]. Nothing stays attached.
    pub fn attach(self) -> Result<Recorder<Probes>, AttachError> {
        self.check()?;
        let filter = self.filter.as_ref().ok_or(AttachError::NoFilter)?;
        let Shares { shards, shard_bytes } = self.share_out()?;
        let selection = filter.resolve(MOST_CGROUPS)?;
        let host = Host::inspect()?;
        let clocks = host::clocks();

        let setup = Setup {
            build: host.build,
            offsets: Offsets::find(&host.btf, host.build),
            btf: aya::Btf::from_sys_fs().map_err(|error| AttachError::Object {
                probe: "kprobe".to_owned(),
                reason: error.to_string(),
            })?,
            arguments: Arguments::find(&host.btf, host.build),
            programs_are_preemptible: host.release.at_least(7, 0),
            refuses_functions: host.build.refuses_functions(&host.release),
            cpus: u32::try_from(host.cpus.limit()).unwrap_or(u32::MAX),
            shards,
            shard_bytes,
            selection: &selection,
            forbidden: &self.forbidden,
            aggregation: self.aggregation,
        };
        let mut objects: Vec<Object> = Vec::new();
        let mut maps = Vec::new();
        let mut rings: Option<Rings> = None;
        let mut probes = Vec::new();
        let mut notes: Vec<String> =
            (!selection.ids_are_the_kernels).then(|| INSIDE_A_PID_NAMESPACE.to_owned()).into_iter().collect();
        notes.extend(host.notes());
        let mut wake_context = None;
        let mut off = None;
        for group in groups(&self.plans) {
            let attached = match setup.attach_group(&group, &host) {
                Err(error)
                    if host.build != Build::Main
                        && let Some(reports) = group.off(&error) =>
                {
                    probes.extend(reports);
                    off = Some(error);
                    continue;
                }
                attached => attached?,
            };
            maps.extend(attached.memory(&host.btf));
            rings = Some(match rings {
                None => attached.rings,
                Some(mut all) => {
                    all.rings.extend(attached.rings.rings);
                    Rings { rings: all.rings, states: all.states.and(attached.rings.states) }
                }
            });
            probes.extend(attached.probes);
            notes.extend(attached.notes);
            wake_context = wake_context.or(attached.wake_context);
            objects.push(attached.object);
        }
        notes.extend(if setup.programs_are_preemptible { skipping(&probes) } else { None });
        let Rings { rings, states } = rings.ok_or(off.unwrap_or(AttachError::NoProbe))?;
        let ring_bytes = rings.len() as u64 * u64::from(setup.shard_bytes);
        let memory = memory(maps, ring_bytes);
        let reader = Reader::new(rings, states, self.pacing)?;
        let report = Report { kernel: host.release.text.clone(), probes, wake_context, notes, memory };
        let info = StreamInfo {
            host: host::host_name(),
            boot: host::boot_id()
                .map_err(|error| AttachError::system("read the boot id", std::io::Error::other(error)))?,
            kernel: host.release.text.clone(),
            arch: Arch::native(),
            clocks,
            cpus: u16::try_from(host.cpus.count()).unwrap_or(u16::MAX),
            report: serde_json::to_value(&report).unwrap_or_default(),
            sources: 1,
        };
        let pending = Pending {
            sampling: self
                .plans
                .iter()
                .filter(|(plan, _)| plan.sample_one_in > 1 || plan.min_duration_ns > 0)
                .map(|(plan, _)| {
                    sampling_record(
                        plan.family,
                        plan.sample_one_in,
                        plan.min_duration_ns,
                        clocks.monotonic_ns,
                    )
                })
                .collect(),
            threads: seeds::threads(&Seed::of(&selection), clocks.monotonic_ns),
            paths: self
                .plans
                .iter()
                .flat_map(|(plan, _)| &plan.allowed)
                .map(|allowed| Own::new(Kind::META_PATH, clocks.monotonic_ns, allowed.named()))
                .collect(),
            markers: Vec::new(),
        };
        let mount = host::cgroup2_mount().ok().map(|mount| mount.path);
        let mut recorder = Recorder {
            objects,
            watch: OnceLock::new(),
            reader,
            info,
            report,
            registry: self.registry,
            own: OwnRecords::default(),
            pending,
            clock: Clock::new(clocks),
            cgroups: CgroupNames::new(mount),
            aggregates: Aggregates::begin(self.aggregation, clocks.monotonic_ns),
            batch_bytes: (self.ring_bytes / 4).clamp(64 << 10, 256 << 10),
            corrupt: false,
            follows: selection.select & select::TGIDS != 0,
            process: std::process::id(),
            stopped: None,
            next: None,
            settings: Settings {
                filter: filter.clone(),
                plans: self.plans,
                ring_bytes: self.ring_bytes,
                pacing: self.pacing,
                forbidden: self.forbidden,
                aggregation: self.aggregation,
            },
            probes: PhantomData,
        };
        // Last, so that the first call that is seen is seen by every program.
        for object in &mut recorder.objects {
            object.select(&selection)?;
        }
        Ok(recorder)
    }

    fn check_probes(&self) -> Result<(), AttachError> {
        if self.plans.iter().all(|(plan, _)| plan.events.is_empty()) {
            return Err(AttachError::NoProbe);
        }
        for (index, (second, _)) in self.plans.iter().enumerate() {
            if second.family == Family::Path && !second.events.is_empty() && second.allowed.is_empty() {
                return Err(PathError::Empty.into());
            }
            check_kinds(second)?;
            for (first, _) in &self.plans[..index] {
                check_pair(first, second)?;
            }
        }
        Ok(())
    }

    fn check_forbidden(&self) -> Result<(), AttachError> {
        let known: std::collections::BTreeSet<_> = self
            .plans
            .iter()
            .flat_map(|(plan, _)| &plan.events)
            .flat_map(|event| &event.rungs)
            .map(|rung| rung.name)
            .collect();
        match self.forbidden.iter().find(|rung| !known.contains(rung.as_str())) {
            None => Ok(()),
            Some(rung) => Err(AttachError::UnknownRung {
                rung: rung.clone(),
                known: known.into_iter().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    fn check_aggregation(&self) -> Result<(), AttachError> {
        for (family, by) in self.aggregation.families() {
            let plan = self.plans.iter().map(|(plan, _)| plan).find(|plan| plan.family as usize == family);
            let name = || family_name(family);
            if !plan.is_some_and(is_measured) {
                return Err(AttachError::Aggregate { family: name(), known: self.names_of(is_measured) });
            }
            if by == By::Subject && !plan.is_some_and(has_subjects) {
                let known = self.names_of(has_subjects);
                return Err(AttachError::AggregateBySubject { family: name(), known });
            }
        }
        if self.aggregation.most_keys == 0 || self.aggregation.interval.is_zero() {
            return Err(AttachError::AggregateOfNothing);
        }
        if self.aggregation.most_keys > MOST_HISTOGRAMS {
            return Err(AttachError::AggregateOfTooMany {
                found: self.aggregation.most_keys,
                most: MOST_HISTOGRAMS,
            });
        }
        Ok(())
    }

    /// The families of which this is true.
    fn names_of(&self, is_true: impl Fn(&FamilyPlan) -> bool) -> String {
        let plans = self.plans.iter().map(|(plan, _)| plan).filter(|plan| is_true(plan));
        let names: Vec<_> = plans.map(|plan| plan.family.name()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// The rings of each object on this machine, or why `ring_bytes` cannot be.
    fn share_out(&self) -> Result<Shares, AttachError> {
        let cpus = host::possible_cpus().map_or(1, |cpus| cpus.count());
        share_out(self.ring_bytes, groups(&self.plans).len(), cpus, rustix::param::page_size())
    }
}

/// The rings of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    shards: u32,
    shard_bytes: u32,
}

/// Never more than `ring_bytes` for all objects together, and at least a page for each.
fn share_out(ring_bytes: usize, objects: usize, cpus: usize, page: usize) -> Result<Shares, AttachError> {
    let shares = objects.next_power_of_two();
    let least = page * shares;
    if !ring_bytes.is_power_of_two() || !(least..=MOST_RING_BYTES).contains(&ring_bytes) {
        return Err(AttachError::RingBytes { found: ring_bytes, least, most: MOST_RING_BYTES });
    }
    let share = ring_bytes / shares;
    let wanted = cpus.div_ceil(CPUS_PER_RING).next_power_of_two().min(MOST_RINGS);
    // A small ring on a large machine is shared by more CPUs rather than refused.
    let shards = wanted.min(share / page);
    // Both are at most MOST_RING_BYTES, which fits.
    let number = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
    Ok(Shares { shards: number(shards), shard_bytes: number(share / shards) })
}

/// The kernel can sum up durations of it.
fn is_measured(plan: &FamilyPlan) -> bool {
    plan.events.iter().any(|event| event.kind.can_be_summed_up())
}

/// Durations of it can be told apart by what they are about.
fn has_subjects(plan: &FamilyPlan) -> bool {
    plan.events.iter().any(|event| event.kind.has_subject())
}

fn family_name(number: usize) -> &'static str {
    let family = u16::try_from(number).ok().and_then(|number| Kind(number << 8).family());
    family.map_or("?", Family::name)
}

/// A user's own kinds are those that have counters and are of no family of kprobe's.
fn check_kinds(plan: &FamilyPlan) -> Result<(), AttachError> {
    let (least, most) = (Kind::USER.0, Kind::USER.0 + USER_KINDS - 1);
    match plan.events.iter().find(|event| !(least..=most).contains(&event.kind.0)) {
        Some(event) if plan.family == Family::User => {
            Err(AttachError::UserKind { event: event.name, found: event.kind.0, least, most })
        }
        _ => Ok(()),
    }
}

/// Settings and counters are by family and by kind, so two probes must not share what each would have to itself.
fn check_pair(first: &FamilyPlan, second: &FamilyPlan) -> Result<(), AttachError> {
    if first.family != second.family {
        return Ok(());
    }
    if first.family != Family::User {
        return Err(AttachError::FamilyTwice { family: first.family.name() });
    }
    for (one, other) in first.events.iter().zip(&second.events) {
        let (first_name, second_name) = (one.name, other.name);
        if one.kind == other.kind {
            return Err(AttachError::KindTwice { first: first_name, second: second_name, kind: one.kind.0 });
        }
        if first.sample_one_in.max(1) != second.sample_one_in.max(1) {
            return Err(AttachError::UserSampling { first: first_name, second: second_name });
        }
    }
    Ok(())
}

impl Object {
    /// Sets what of a family is kept.
    pub(crate) fn set_sampling(&self, family: Family, one_in: u32, min_duration_ns: u64) {
        use std::{mem::offset_of, sync::atomic::Ordering};
        let index = family as usize;
        let one_in_at = offset_of!(abi::Config, sample_one_in) + index * size_of::<u32>();
        let duration_at = offset_of!(abi::Config, min_duration_ns) + index * size_of::<u64>();
        self.config.u32_at(0, one_in_at).store(one_in, Ordering::Relaxed);
        self.config.u64_at(0, duration_at).store(min_duration_ns, Ordering::Relaxed);
    }
}

fn memory(mut maps: Vec<MapMemory>, ring_bytes: u64) -> MemoryUse {
    maps.retain(|map| map.map != "RINGS");
    maps.push(MapMemory { map: "RINGS".to_owned(), bytes: ring_bytes, per_thread_bytes: None });
    maps.sort_by_key(|map| std::cmp::Reverse(map.bytes));
    MemoryUse { total_bytes: maps.iter().map(|map| map.bytes).sum(), ring_bytes, maps }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use kprobe_core::{
        decode::{DecodeError, Record},
        event::{Field, Origin, Value},
    };

    use super::*;
    use crate::{Probe, Sched, Syscalls, filter::SyscallSet};

    /// An event of a user's own.
    struct User<const KIND: u16>;

    impl<const KIND: u16> TypedEvent for User<KIND> {
        const KIND: Kind = Kind(KIND);
        const NAME: &'static str = "user.event";
        const FIELDS: &'static [Field] = &[];

        fn decode(_: Record<'_>) -> Result<Self, DecodeError> {
            Ok(Self)
        }

        fn origin(&self) -> &Origin {
            unreachable!("nothing is decoded")
        }

        fn fields(&self, _: Arch, _: &mut dyn FnMut(&'static str, Value<'_>)) {}
    }

    fn user<const KIND: u16>() -> Probe<User<KIND>> {
        Probe::new(&b"an object"[..]).raw_tracepoint("program", "sys_enter")
    }

    fn builder() -> RecorderBuilder {
        Recorder::builder().filter(Filter::none())
    }

    fn error<Probes>(builder: &RecorderBuilder<Probes>) -> String {
        builder.check().unwrap_err().to_string()
    }

    #[test]
    fn a_family_is_given_once() {
        let calls = |name| Syscalls::of(SyscallSet::named([name]).unwrap());
        let twice = builder().probe(calls("read")).probe(Sched::default()).require(calls("write"));
        assert_eq!(
            error(&twice),
            "two probes of the family syscall: the settings of one would take the place of the other's; give one probe \
             with the union of both, for system calls that of their sets"
        );
        // Also where they ask for different events: how they are sampled is one setting.
        let other = Sched::default().without_waking().without_migrate();
        let twice = builder().probe(Sched::default().without_switch()).probe(other);
        assert!(matches!(twice.check(), Err(AttachError::FamilyTwice { family: "sched" })));
        builder().probe(calls("read")).probe(Sched::default()).probe(user::<0x0f00>()).check().unwrap();
        builder().probe(calls("read")).probe_with(Need::Off, calls("write")).check().unwrap();
    }

    #[test]
    fn rings_take_no_more_than_was_asked_for() {
        const PAGE: usize = 4096;
        for objects in 1..=5 {
            for cpus in [1, 2, 3, 8, 100, 4096] {
                for bytes in (0..=31).map(|bits| 1_usize << bits) {
                    let Ok(Shares { shards, shard_bytes }) = share_out(bytes, objects, cpus, PAGE) else {
                        assert!(bytes < PAGE * objects.next_power_of_two() || bytes > MOST_RING_BYTES);
                        continue;
                    };
                    let (shards, shard_bytes) = (shards as usize, shard_bytes as usize);
                    assert!(shards.is_power_of_two() && shard_bytes.is_power_of_two() && shard_bytes >= PAGE);
                    let all = objects * shards * shard_bytes;
                    assert!(all <= bytes && all * 2 > bytes, "{all} of {bytes}, {objects} objects");
                }
            }
        }
        let share = |bytes, objects| share_out(bytes, objects, 8, PAGE).unwrap();
        assert_eq!(share(8 << 20, 1), Shares { shards: 4, shard_bytes: 2 << 20 });
        assert_eq!(share(8 << 20, 2), Shares { shards: 4, shard_bytes: 1 << 20 });
        assert_eq!(share(2 * PAGE, 2), Shares { shards: 1, shard_bytes: 4096 });
        let error = share_out(2 * PAGE, 3, 8, PAGE).unwrap_err().to_string();
        let expected =
            "a ring buffer of 8192 bytes cannot be: expected a power of two from 16384 to 1073741824";
        assert_eq!(error, expected);
        assert!(share_out(3 * PAGE, 1, 8, PAGE).is_err());
    }

    #[test]
    fn kinds_of_a_user_are_those_with_counters() {
        builder().probe(user::<0x0f00>()).probe(user::<0x0f0f>()).check().unwrap();
        for kind in [0x0f00, 0x0f0f] {
            assert!(Kind(kind).slot().is_some() && Kind(kind).family() == Some(Family::User));
        }
        assert_eq!(Kind(0x0f10).slot(), None);
        assert_eq!(
            error(&builder().probe(user::<0x0f10>())),
            "the event user.event has the kind 0x0f10: expected one from 0x0f00 to 0x0f0f, which are a user's own"
        );
        // Those of kprobe's own have counters too, but not for others.
        assert!(matches!(
            builder().probe(user::<0x0301>()).check(),
            Err(AttachError::UserKind { found: 0x0301, .. })
        ));
        assert!(matches!(
            builder().require(user::<0xffff>()).check(),
            Err(AttachError::UserKind { found: 0xffff, .. })
        ));
    }

    #[test]
    fn kinds_of_a_user_are_all_different() {
        builder().probe(user::<0x0f00>()).probe(user::<0x0f01>()).check().unwrap();
        let twice = builder().probe(user::<0x0f02>()).probe(user::<0x0f01>()).probe(user::<0x0f02>());
        assert_eq!(
            error(&twice),
            "the events user.event and user.event have the same kind 0x0f02: give each event a kind of its own, and \
             each probe once"
        );
    }

    #[test]
    fn events_of_a_user_are_sampled_alike() {
        let sampled =
            |one_in| builder().probe(user::<0x0f00>().sample(10)).probe(user::<0x0f01>().sample(one_in));
        sampled(10).check().unwrap();
        assert_eq!(
            error(&sampled(1)),
            "the events user.event and user.event are sampled differently: a user's own events are one family with one \
             rate; give both probes the same `sample`"
        );
        builder().probe(user::<0x0f00>().sample(0)).probe(user::<0x0f01>()).check().unwrap();
    }
}
