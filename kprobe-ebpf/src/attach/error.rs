use std::io;

use crate::{btf::BtfError, filter::FilterError, probe::PathError, ring::RingError};

/// Why nothing was attached. After it nothing of ours is left in the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The process lacks capabilities.
    #[error(
        "missing {missing}: every family is off without CAP_BPF (programs and maps) and CAP_PERFMON \
         (reading what the kernel passes to them); run as root, or give the \
         program those two with \
         `setcap cap_bpf,cap_perfmon+ep FILE`"
    )]
    Capability {
        /// The missing ones, by name.
        missing: String,
    },
    /// The kernel is too old for the programs.
    #[error("kernel {found} is too old: the programs need {needed} or later")]
    Kernel {
        /// Release of the running kernel.
        found: String,
        /// The oldest that works.
        needed: &'static str,
    },
    /// Maps take more locked memory than this process may have. Kernels before 5.11 count them as such.
    #[error(
        "the maps need more locked memory than this process may have, which is {} KiB: this kernel counts maps and \
         programs as locked memory; give the program CAP_SYS_RESOURCE, so that it can raise the limit, or raise it for \
         the program (`ulimit -l`, LimitMEMLOCK= of systemd), or ask for a smaller ring buffer",
        limit / 1024
    )]
    LockedMemory {
        /// Bytes that it may have.
        limit: u64,
    },
    /// The kernel is locked down against reading its memory.
    #[error(
        "the kernel is in lockdown mode `confidentiality`, which forbids tracing programs to read kernel memory; boot \
         with lockdown=integrity or none"
    )]
    Lockdown,
    /// The kernel's type information is missing or cannot be read.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The size asked for the ring buffer cannot be.
    #[error("a ring buffer of {found} bytes cannot be: expected a power of two from {least} to {most}")]
    RingBytes {
        /// What was asked for.
        found: usize,
        /// The least that works on this machine: a page, and with programs of a user's own one for each object.
        least: usize,
        /// The most.
        most: usize,
    },
    /// The filter names something that is not there.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// What paths are to be recorded of is not there, or is nothing.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No filter was given: recording everything must be asked for.
    #[error("no filter: say what to record, or `Filter::all()` to record the whole system")]
    NoFilter,
    /// No probe was given.
    #[error("no probe: add one with `RecorderBuilder::probe`")]
    NoProbe,
    /// Two probes of one of kprobe's families.
    #[error(
        "two probes of the family {family}: the settings of one would take the place of the other's; give one probe \
         with the union of both, for system calls that of their sets"
    )]
    FamilyTwice {
        /// Its name.
        family: &'static str,
    },
    /// An event of a user's own has a kind that has no counters in the kernel.
    #[error(
        "the event {event} has the kind {found:#06x}: expected one from {least:#06x} to {most:#06x}, which are a user's \
         own"
    )]
    UserKind {
        /// Its name.
        event: &'static str,
        /// Its kind.
        found: u16,
        /// The first that a user may take.
        least: u16,
        /// The last.
        most: u16,
    },
    /// Two events of a user's own have one kind.
    #[error(
        "the events {first} and {second} have the same kind {kind:#06x}: give each event a kind of its own, and each \
         probe once"
    )]
    KindTwice {
        /// Name of the event that was given first.
        first: &'static str,
        /// Name of the other.
        second: &'static str,
        /// Their kind.
        kind: u16,
    },
    /// Probes of a user's own are to be sampled each in its own way.
    #[error(
        "the events {first} and {second} are sampled differently: a user's own events are one family with one rate; \
         give both probes the same `sample`"
    )]
    UserSampling {
        /// Name of the event that was given first.
        first: &'static str,
        /// Name of one that is sampled differently.
        second: &'static str,
    },
    /// Durations of a family are to be summed up that is not recorded, or has none that can be.
    #[error("the durations of {family} cannot be summed up: of what is recorded these can be: {known}")]
    Aggregate {
        /// The family.
        family: &'static str,
        /// Families that are recorded and can be summed up.
        known: String,
    },
    /// Durations of a family are to be told apart by a subject, and what is recorded of it has none.
    #[error(
        "the durations of {family} cannot be told apart by subject: expected kind, tgid or cgroup; of what is recorded \
         these have subjects: {known}"
    )]
    AggregateBySubject {
        /// The family.
        family: &'static str,
        /// Families that are recorded and have subjects.
        known: String,
    },
    /// An interval of no length, or room for no histogram.
    #[error("an interval must be longer than 0, and there must be room for at least one histogram")]
    AggregateOfNothing,
    /// Room for more histograms than a map can have.
    #[error("room for {found} histograms on each CPU: it can be {most} at most")]
    AggregateOfTooMany {
        /// What was asked for.
        found: u32,
        /// The most that there can be.
        most: u32,
    },
    /// A rung that was forbidden does not exist.
    #[error("no probe has a rung `{rung}`; there are {known}")]
    UnknownRung {
        /// What was forbidden.
        rung: String,
        /// Those there are.
        known: String,
    },
    /// A required probe could not be attached on any rung.
    #[error("the required probe {probe} cannot be attached: {reasons}")]
    Probe {
        /// Its name.
        probe: String,
        /// For each rung why not.
        reasons: String,
    },
    /// The object of a user's probe is not what it should be.
    #[error("the object of {probe}: {reason}")]
    Object {
        /// Name of the event, or `kprobe` for our own.
        probe: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A map does not have the layout of this version.
    #[error(
        "map {map} has values of {found} bytes, expected {expected}: the object was built for another version"
    )]
    MapLayout {
        /// Its name.
        map: String,
        /// Bytes a value should have.
        expected: usize,
        /// Bytes it has.
        found: usize,
    },
    /// A map could not be made or used.
    #[error("BPF map: {source}")]
    Map {
        /// What aya said.
        source: Box<aya::maps::MapError>,
    },
    /// A ring buffer could not be mapped.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl AttachError {
    pub(crate) fn map(source: aya::maps::MapError) -> Self {
        Self::Map { source: Box::new(source) }
    }

    pub(crate) fn system(what: &'static str, source: impl Into<io::Error>) -> Self {
        Self::System { what, source: source.into() }
    }
}
