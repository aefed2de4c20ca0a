use std::fmt;

use crate::{
    abi::{self, HISTOGRAM_CLASSES, Kind, aggregate_by},
    decode::{DecodeError, Record},
    event::{Arch, Device, Field, Origin, SyscallAbi, SyscallNr, Tgid, Type, TypedEvent, Value, WaitClass},
};

/// How long events of one kind took in one interval, counted by class of duration instead of a record for each: in the
/// kernel, or by [`Aggregate`](crate::pipeline::Aggregate). The origin has the end of the interval, and the process or the cgroup that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histogram {
    /// When the interval ended.
    pub origin: Origin,
    /// Kind of the events.
    pub kind: Kind,
    /// Which of them.
    pub of: Aggregated,
    /// When the interval began: nanoseconds of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// How long they took together, in nanoseconds.
    pub sum_ns: u64,
    counts: [u32; HISTOGRAM_CLASSES],
}

/// By what durations are told apart when they are summed up: a histogram for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum By {
    /// The kind of event, and nothing else.
    Kind,
    /// The process.
    Tgid,
    /// The cgroup.
    Cgroup,
    /// What the event is about: the system call, the device, the lock.
    Subject,
}

impl By {
    /// Its number in records and in the kernel programs: one of [`aggregate_by`].
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Kind => aggregate_by::KIND,
            Self::Tgid => aggregate_by::TGID,
            Self::Cgroup => aggregate_by::CGROUP,
            Self::Subject => aggregate_by::SUBJECT,
        }
    }
}

/// What the events of one histogram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Aggregated {
    /// Only their kind.
    Kind,
    /// Their process.
    Tgid(Tgid),
    /// Their cgroup, by its id.
    Cgroup(u64),
    /// What they are about: the number of the system call or of the device, the address of a futex, the number of a lock.
    Subject(u64),
}

impl Aggregated {
    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Tgid(_) => "tgid",
            Self::Cgroup(_) => "cgroup",
            Self::Subject(_) => "subject",
        }
    }
}

impl Histogram {
    /// How many events.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// How long one took on average, in nanoseconds; `None` if there was none.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count())
    }

    /// The classes that hold events, the shortest first: the longest duration of the class in nanoseconds, and how many. The
    /// shortest duration of a class is half of its longest, rounded up; the last class has no longest, and `u64::MAX` here.
    pub fn classes(&self) -> impl Iterator<Item = (u64, u64)> {
        let classes = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        classes.map(|(class, count)| (longest_of(class), u64::from(*count)))
    }

    /// The longest duration of the class that the event at `part` of 1,000 is in: 500 is the median. `None` if there was
    /// none. The true value is at most this, and more than half of it.
    #[must_use]
    pub fn quantile_ns(&self, part: u64) -> Option<u64> {
        let count = self.count();
        let rank = count.checked_mul(part.min(1000))?.div_ceil(1000).max(1);
        let mut seen = 0;
        self.classes().find_map(|(longest, events)| {
            seen += events;
            (seen >= rank).then_some(longest)
        })
    }

    /// A picture of the classes from the first to the last that hold events: a block for each, the higher the more events.
    #[must_use]
    pub fn picture(&self) -> impl fmt::Display {
        Picture(self.counts)
    }

    /// What the subject is called on a machine of that architecture: the system call, the device, the kind of thing that was
    /// waited for. `None` if this is not by
    /// subject, or for a number without a name.
    #[must_use]
    pub fn subject_name(&self, arch: Arch) -> Option<String> {
        let Aggregated::Subject(subject) = self.of else { return None };
        match self.kind {
            Kind::SYSCALL => {
                let nr = SyscallNr { abi: SyscallAbi::Native, nr: u16::try_from(subject).ok()? };
                nr.name(arch).map(str::to_owned)
            }
            Kind::BLOCK_REQUEST => {
                u32::try_from(subject).ok().map(|device| Device::from_kernel(device).to_string())
            }
            Kind::WAIT_BLOCKED => {
                u8::try_from(subject).ok().and_then(|class| WaitClass(class).name()).map(str::to_owned)
            }
            _ => None,
        }
    }
}

/// The class of a duration: the number of its bits, but for the last class.
pub(crate) const fn class_of(duration_ns: u64) -> usize {
    let bits = (u64::BITS - duration_ns.leading_zeros()) as usize;
    if bits < HISTOGRAM_CLASSES { bits } else { HISTOGRAM_CLASSES - 1 }
}

/// The longest duration of a class, in nanoseconds.
const fn longest_of(class: usize) -> u64 {
    if class + 1 == HISTOGRAM_CLASSES { u64::MAX } else { (1 << class) - 1 }
}

impl TypedEvent for Histogram {
    const KIND: Kind = Kind::META_HISTOGRAM;
    const NAME: &'static str = "meta.histogram";
    const FIELDS: &'static [Field] = &[
        Field::new("of", Type::Text, "kind of the events that were counted"),
        Field::new("by", Type::Text, "what they have in common: kind, tgid, cgroup or subject"),
        Field::new(
            "subject",
            Type::U64,
            "what they are about: system call, device, futex, lock, what was waited for",
        )
        .optional(),
        Field::new("subject_name", Type::Text, "its name").optional(),
        Field::new(
            "from_ktime_ns",
            Type::U64,
            "begin of the interval, in ns of CLOCK_MONOTONIC; the line is its end",
        ),
        Field::new("count", Type::U64, "how many events"),
        Field::new("sum_ns", Type::U64, "how long they took together"),
        Field::new("p50_ns", Type::U64, "half of them took at most this: the upper end of a class")
            .optional(),
        Field::new("p99_ns", Type::U64, "99 of 100 took at most this, likewise").optional(),
        Field::new("classes", Type::Pairs, "for each class the longest duration in ns, and how many"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::Histogram = record.body_of(Self::KIND)?;
        let of = match u8::try_from(body.by) {
            Ok(aggregate_by::KIND) => Aggregated::Kind,
            Ok(aggregate_by::TGID) => Aggregated::Tgid(Tgid(u32::try_from(body.key).unwrap_or(u32::MAX))),
            Ok(aggregate_by::CGROUP) => Aggregated::Cgroup(body.key),
            Ok(aggregate_by::SUBJECT) => Aggregated::Subject(body.key),
            _ => {
                let offset = std::mem::offset_of!(abi::Histogram, by);
                return Err(record.bad_value(
                    offset,
                    "what durations are told apart by, 0 to 3",
                    body.by.into(),
                ));
            }
        };
        Ok(Self {
            origin: Origin::of(&record),
            kind: Kind(body.kind),
            of,
            from_ns: body.from_ns,
            sum_ns: body.sum,
            counts: body.counts,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        match self.kind.name() {
            Some(name) => put("of", Value::Text(name)),
            None => put("of", Value::Text(&format!("kind-{:#06x}", self.kind.0))),
        }
        put("by", Value::Text(self.of.name()));
        if let Aggregated::Subject(subject) = self.of {
            put("subject", Value::U64(subject));
        }
        if let Some(name) = self.subject_name(arch) {
            put("subject_name", Value::Text(&name));
        }
        put("from_ktime_ns", Value::U64(self.from_ns));
        put("count", Value::U64(self.count()));
        put("sum_ns", Value::U64(self.sum_ns));
        for (name, part) in [("p50_ns", 500), ("p99_ns", 990)] {
            if let Some(ns) = self.quantile_ns(part) {
                put(name, Value::U64(ns));
            }
        }
        let classes: Vec<_> = self.classes().collect();
        put("classes", Value::Pairs(&classes));
    }
}

struct Picture([u32; HISTOGRAM_CLASSES]);

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let is_full = |count: &u32| *count > 0;
        let Some(first) = self.0.iter().position(is_full) else { return Ok(()) };
        let last = self.0.iter().rposition(is_full).unwrap_or(first);
        let highest = u64::from(self.0.iter().copied().max().unwrap_or(1));
        for count in &self.0[first..=last] {
            // The lowest block is for few, and nothing for none.
            let height = (u64::from(*count) * BLOCKS.len() as u64).div_ceil(highest);
            let block = usize::try_from(height).ok().and_then(|height| BLOCKS.get(height.checked_sub(1)?));
            write!(f, "{}", block.unwrap_or(&' '))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[(usize, u32)], sum_ns: u64) -> Histogram {
        let mut all = [0; HISTOGRAM_CLASSES];
        counts.iter().for_each(|(class, count)| all[*class] = *count);
        let origin =
            Origin { ktime_ns: 9, cgroup_id: 0, tgid: Tgid(0), tid: crate::event::Tid(0), cpu: None, seq: 0 };
        Histogram { origin, kind: Kind::SYSCALL, of: Aggregated::Kind, from_ns: 1, sum_ns, counts: all }
    }

    #[test]
    fn classes_are_powers_of_two() {
        let all = histogram(&[(0, 1), (1, 1), (2, 1), (10, 3), (47, 1)], 0);
        let classes: Vec<_> = all.classes().collect();
        assert_eq!(classes, [(0, 1), (1, 1), (3, 1), (1023, 3), (u64::MAX, 1)]);
        assert_eq!((all.count(), all.quantile_ns(0), all.quantile_ns(1000)), (7, Some(0), Some(u64::MAX)));
        // The fourth of seven.
        assert_eq!(all.quantile_ns(500), Some(1023));
    }

    #[test]
    fn a_duration_is_in_the_class_that_says_so() {
        for class in 0..HISTOGRAM_CLASSES {
            let longest = longest_of(class);
            assert_eq!(class_of(longest), class);
            assert_eq!(class_of(longest / 2 + longest % 2), class);
            if let Some(next) = longest.checked_add(1) {
                assert_eq!(class_of(next), class + 1);
            }
        }
    }

    #[test]
    fn of_nothing_there_is_no_mean() {
        let none = histogram(&[], 0);
        assert_eq!((none.count(), none.mean_ns(), none.quantile_ns(500)), (0, None, None));
        assert_eq!(none.picture().to_string(), "");
        assert_eq!(histogram(&[(3, 4)], 22).mean_ns(), Some(5));
    }

    #[test]
    fn a_picture_has_a_block_for_each_class() {
        let picture = |counts| histogram(counts, 0).picture().to_string();
        assert_eq!(picture(&[(5, 1)]), "█");
        assert_eq!(picture(&[(5, 800), (6, 1), (8, 400), (9, 401)]), "█▁ ▄▅");
        assert_eq!(picture(&[(5, u32::MAX), (7, u32::MAX)]), "█ █");
    }

    #[test]
    fn subjects_have_names() {
        let named = |kind, of| Histogram { kind, of, ..histogram(&[], 0) }.subject_name(Arch::X86_64);
        assert_eq!(named(Kind::SYSCALL, Aggregated::Subject(1)).as_deref(), Some("write"));
        assert_eq!(named(Kind::BLOCK_REQUEST, Aggregated::Subject(8 << 20 | 1)).as_deref(), Some("8:1"));
        assert_eq!(named(Kind::SYSCALL, Aggregated::Tgid(Tgid(1))), None);
        assert_eq!(named(Kind::WAIT_BLOCKED, Aggregated::Subject(14)).as_deref(), Some("futex"));
        assert_eq!(named(Kind::WAIT_BLOCKED, Aggregated::Subject(256)), None);
        assert_eq!(named(Kind::SYSCALL, Aggregated::Subject(1 << 40)), None);
    }
}
