//! Events about the stream itself. User space makes them; captures hold them like all others.

use crate::{
    abi::{self, Family, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Comm, Field, Origin, Tgid, Type, TypedEvent, Value},
};

/// The kernel had no room for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// When the loss was noticed.
    pub origin: Origin,
    /// Kind of the lost records.
    pub kind: Kind,
    /// CPU they were lost on.
    pub cpu: u16,
    /// How many.
    pub count: u64,
    /// None was lost before this: nanoseconds of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    /// When the last of them was lost.
    pub last_ns: u64,
}

impl TypedEvent for Lost {
    const KIND: Kind = Kind::META_LOST;
    const NAME: &'static str = "meta.lost";
    const FIELDS: &'static [Field] = &[
        Field::new("probe", Type::Text, "kind of the lost records"),
        Field::new("lost_cpu", Type::U64, "CPU they were lost on"),
        Field::new("count", Type::U64, "how many"),
        Field::new("first_ktime_ns", Type::U64, "none was lost before this"),
        Field::new("last_ktime_ns", Type::U64, "when the last of them was lost"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::Lost = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            kind: Kind(body.kind),
            cpu: body.cpu,
            count: body.count,
            first_ns: body.first_ns,
            last_ns: body.last_ns,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        match self.kind.name() {
            Some(name) => put("probe", Value::Text(name)),
            None => put("probe", Value::Text(&format!("kind-{:#06x}", self.kind.0))),
        }
        put("lost_cpu", Value::U64(self.cpu.into()));
        put("count", Value::U64(self.count));
        put("first_ktime_ns", Value::U64(self.first_ns));
        put("last_ktime_ns", Value::U64(self.last_ns));
    }
}

/// A mark that a user put into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Marker {
    /// When it was put there.
    pub origin: Origin,
    /// A number of the user's choosing.
    pub id: u64,
}

impl TypedEvent for Marker {
    const KIND: Kind = Kind::META_MARKER;
    const NAME: &'static str = "meta.marker";
    const FIELDS: &'static [Field] = &[Field::new("id", Type::U64, "a number of the user's choosing")];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        Ok(Self { origin: Origin::of(&record), id: record.body_of::<abi::Marker>(Self::KIND)?.id })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("id", Value::U64(self.id));
    }
}

/// From here on a family is sampled, or filtered by duration, like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sampling {
    /// When it was set.
    pub origin: Origin,
    /// The family.
    pub family: Family,
    /// One of so many records is kept, counted on each CPU and for each kind; 1 keeps all.
    pub one_in: u32,
    /// Shortest duration that is kept, in nanoseconds; 0 keeps all.
    pub min_duration_ns: u64,
}

impl TypedEvent for Sampling {
    const KIND: Kind = Kind::META_SAMPLING;
    const NAME: &'static str = "meta.sampling";
    const FIELDS: &'static [Field] = &[
        Field::new("family", Type::Text, "family of events that this is about"),
        Field::new(
            "one_in",
            Type::U64,
            "one of so many records is kept, counted on each CPU and for each kind",
        ),
        Field::new("min_duration_ns", Type::U64, "shortest duration that is kept; 0 keeps all"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::Sampling = record.body_of(Self::KIND)?;
        let family = u16::try_from(body.family)
            .ok()
            .and_then(|family| Kind(family << 8).family())
            .ok_or_else(|| {
                record.bad_value(
                    std::mem::offset_of!(abi::Sampling, family),
                    "a family of events",
                    body.family.into(),
                )
            })?;
        Ok(Self {
            origin: Origin::of(&record),
            family,
            one_in: body.one_in,
            min_duration_ns: body.min_duration_ns,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("family", Value::Text(self.family.name()));
        put("one_in", Value::U64(self.one_in.into()));
        put("min_duration_ns", Value::U64(self.min_duration_ns));
    }
}

/// A thread that was alive when recording began. The origin names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadSeed {
    /// The thread, and when it was looked at.
    pub origin: Origin,
    /// Start of its process: nanoseconds of `CLOCK_BOOTTIME`, in steps of 10 ms.
    pub start_ns: u64,
    /// Parent process.
    pub parent_tgid: Tgid,
    /// Name of the thread.
    pub comm: Comm,
}

impl TypedEvent for ThreadSeed {
    const KIND: Kind = Kind::META_THREAD;
    const NAME: &'static str = "meta.thread";
    const FIELDS: &'static [Field] = &[
        Field::new("start_ns", Type::U64, "start of its process, in ns of CLOCK_BOOTTIME, in steps of 10 ms"),
        Field::new("parent_tgid", Type::U64, "parent process"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::ThreadSeed = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            start_ns: body.start_ns,
            parent_tgid: Tgid(body.parent_tgid),
            comm: Comm::new(body.comm),
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("start_ns", Value::U64(self.start_ns));
        put("parent_tgid", Value::U64(self.parent_tgid.0.into()));
    }
}

/// What the origin's cgroup is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CgroupNamed {
    /// The cgroup, and when it was looked at.
    pub origin: Origin,
    /// The text is a container id; else it is the last part of the cgroup's path.
    pub is_container: bool,
    text: [u8; 64],
    len: u16,
}

impl CgroupNamed {
    /// Container id, or last part of the cgroup's path, cut at 64 bytes.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.text[..self.len.into()])
    }
}

impl TypedEvent for CgroupNamed {
    const KIND: Kind = Kind::META_CGROUP;
    const NAME: &'static str = "meta.cgroup";
    const FIELDS: &'static [Field] = &[
        Field::new("cgroup", Type::Text, "container id, or last part of the cgroup's path"),
        Field::new("is_container", Type::Bool, "it is a container id"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::CgroupName = record.body_of(Self::KIND)?;
        if usize::from(body.len) > body.text.len() {
            return Err(record.bad_value(0, "a length up to 64", body.len.into()));
        }
        Ok(Self {
            origin: Origin::of(&record),
            is_container: body.flags & abi::CGROUP_IS_CONTAINER != 0,
            text: body.text,
            len: body.len,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("cgroup", Value::Text(&self.text()));
        put("is_container", Value::Bool(self.is_container));
    }
}

/// The wall clock was set, or the machine was suspended: from here on the clocks stand to each other like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockChange {
    /// It happened after this.
    pub origin: Origin,
    /// `CLOCK_MONOTONIC` in nanoseconds, when the clocks were read.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME` in nanoseconds, at that moment.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME`: nanoseconds since 1970-01-01T00:00:00Z, at that moment.
    pub realtime_ns: u64,
    /// The three were read within so many nanoseconds.
    pub uncertainty_ns: u64,
}

impl TypedEvent for ClockChange {
    const KIND: Kind = Kind::META_CLOCK;
    const NAME: &'static str = "meta.clock";
    const FIELDS: &'static [Field] = &[
        Field::new("realtime_offset_ns", Type::I64, "wall clock since 1970 minus CLOCK_MONOTONIC"),
        Field::new(
            "boottime_offset_ns",
            Type::I64,
            "CLOCK_BOOTTIME minus CLOCK_MONOTONIC: time spent suspended",
        ),
        Field::new("clock_uncertainty_ns", Type::U64, "the clocks were read within so long of each other"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::ClockChange = record.body_of(Self::KIND)?;
        let abi::ClockChange { monotonic_ns, boottime_ns, realtime_ns, uncertainty_ns } = body;
        Ok(Self { origin: Origin::of(&record), monotonic_ns, boottime_ns, realtime_ns, uncertainty_ns })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        let offset = |clock_ns: u64| Value::I64(clock_ns.wrapping_sub(self.monotonic_ns).cast_signed());
        put("realtime_offset_ns", offset(self.realtime_ns));
        put("boottime_offset_ns", offset(self.boottime_ns));
        put("clock_uncertainty_ns", Value::U64(self.uncertainty_ns));
    }
}
