use crate::{
    abi::{self, Kind},
    decode::{DecodeError, Record},
    event::{Arch, Field, Origin, Type, TypedEvent, Value},
};

/// A hardware interrupt was served. The origin names the thread that was interrupted, and has the time of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IrqHard {
    /// The thread that was interrupted, which has nothing to do with it.
    pub origin: Origin,
    /// When it began to be served: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// Which one.
    pub source: IrqSource,
}

/// A softirq was served. As [`IrqHard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IrqSoft {
    /// The thread that was interrupted, or `ksoftirqd`.
    pub origin: Origin,
    /// When it began to be served: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// Of that time, so much was spent in hardware interrupts.
    pub nested_ns: u64,
    /// Which one: the kernel's `*_SOFTIRQ`.
    pub vector: u32,
}

/// Where a hardware interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IrqSource {
    /// A device: the number that `/proc/interrupts` has.
    Device(u32),
    /// The CPU itself or another one: the number of the vector.
    Vector(u32),
}

impl IrqSource {
    /// What vector it is, where the machine's are known; devices have no names here.
    #[must_use]
    pub const fn name(self, arch: Arch) -> Option<&'static str> {
        // arch/x86/include/asm/irq_vectors.h
        match (self, arch) {
            (Self::Vector(0xec), Arch::X86_64) => Some("local_timer"),
            (Self::Vector(0xf6), Arch::X86_64) => Some("irq_work"),
            (Self::Vector(0xfb), Arch::X86_64) => Some("call_function_single"),
            (Self::Vector(0xfc), Arch::X86_64) => Some("call_function"),
            (Self::Vector(0xfd), Arch::X86_64) => Some("reschedule"),
            _ => None,
        }
    }
}

/// Name of a softirq, as `/proc/softirqs` has it but in lower case.
#[must_use]
pub const fn softirq_name(vector: u32) -> Option<&'static str> {
    // include/linux/interrupt.h
    Some(match vector {
        0 => "hi",
        1 => "timer",
        2 => "net_tx",
        3 => "net_rx",
        4 => "block",
        5 => "irq_poll",
        6 => "tasklet",
        7 => "sched",
        8 => "hrtimer",
        9 => "rcu",
        _ => return None,
    })
}

impl IrqHard {
    /// How long it took.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }
}

impl IrqSoft {
    /// How long it took, hardware interrupts in between included.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.origin.ktime_ns.saturating_sub(self.begin_ns)
    }
}

impl TypedEvent for IrqHard {
    const KIND: Kind = Kind::IRQ_HARD;
    const NAME: &'static str = "irq.hard";
    const FIELDS: &'static [Field] = &[
        Field::new("irq", Type::U64, "number of a device's interrupt, as in /proc/interrupts").optional(),
        Field::new("vector", Type::U64, "number of the CPU's vector, if it is no device's").optional(),
        Field::new("name", Type::Text, "what vector that is: local_timer, reschedule, ...").optional(),
        Field::new("begin_ktime_ns", Type::U64, "when it began to be served"),
        Field::new("duration_ns", Type::U64, "how long it took, in ns"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::IrqHard = record.body_of(Self::KIND)?;
        let is_vector = body.flags & abi::IRQ_VECTOR != 0;
        Ok(Self {
            origin: Origin::of(&record),
            begin_ns: body.begin_ns,
            source: if is_vector { IrqSource::Vector(body.number) } else { IrqSource::Device(body.number) },
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, arch: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        match self.source {
            IrqSource::Device(irq) => put("irq", Value::U64(irq.into())),
            IrqSource::Vector(vector) => put("vector", Value::U64(vector.into())),
        }
        if let Some(name) = self.source.name(arch) {
            put("name", Value::Text(name));
        }
        put("begin_ktime_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
    }
}

impl TypedEvent for IrqSoft {
    const KIND: Kind = Kind::IRQ_SOFT;
    const NAME: &'static str = "irq.soft";
    const FIELDS: &'static [Field] = &[
        Field::new("vector", Type::U64, "number of the softirq"),
        Field::new("name", Type::Text, "its name: timer, net_rx, block, ...").optional(),
        Field::new("begin_ktime_ns", Type::U64, "when it began to be served"),
        Field::new("duration_ns", Type::U64, "how long it took, in ns, with the next"),
        Field::new("nested_duration_ns", Type::U64, "of that, so much in hardware interrupts"),
    ];

    fn decode(record: Record<'_>) -> Result<Self, DecodeError> {
        let body: abi::IrqSoft = record.body_of(Self::KIND)?;
        Ok(Self {
            origin: Origin::of(&record),
            begin_ns: body.begin_ns,
            nested_ns: body.nested_ns,
            vector: body.vector,
        })
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fields(&self, _: Arch, put: &mut dyn FnMut(&'static str, Value<'_>)) {
        put("vector", Value::U64(self.vector.into()));
        if let Some(name) = softirq_name(self.vector) {
            put("name", Value::Text(name));
        }
        put("begin_ktime_ns", Value::U64(self.begin_ns));
        put("duration_ns", Value::U64(self.duration_ns()));
        put("nested_duration_ns", Value::U64(self.nested_ns));
    }
}
