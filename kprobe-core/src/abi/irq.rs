use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of [`Kind::IRQ_HARD`](super::Kind::IRQ_HARD). The header names the thread that was interrupted, and its time is that
/// of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqHard {
    /// When it began to be served: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// Number of the interrupt of a device, or of the CPU's vector.
    pub number: u32,
    /// [`IRQ_VECTOR`].
    pub flags: u32,
}

/// `number` is one of the CPU's own vectors and no device's.
pub const IRQ_VECTOR: u32 = 1;

/// Body of [`Kind::IRQ_SOFT`](super::Kind::IRQ_SOFT). As [`IrqHard`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqSoft {
    /// When it began to be served: nanoseconds of `CLOCK_MONOTONIC`.
    pub begin_ns: u64,
    /// Of that time, so much was spent in hardware interrupts.
    pub nested_ns: u64,
    /// Which one: the kernel's `*_SOFTIRQ`.
    pub vector: u32,
    /// 0.
    pub reserved: u32,
}

/// How often something happened, and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqSum {
    /// How often.
    pub count: u64,
    /// Nanoseconds, without what interrupted it in turn.
    pub total_ns: u64,
}

/// Softirqs that are told apart.
pub const IRQ_SOFT_SUMS: usize = 16;
/// Vectors of the CPU.
pub const IRQ_VECTOR_SUMS: usize = 256;
/// Interrupts of devices that are told apart; the last of these sums is that of all the others.
pub const IRQ_DEVICE_SUMS: usize = 238;

/// Interrupts on one CPU since recording began: one element of the map `IRQS`, two pages.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqCpu {
    /// By softirq.
    pub soft: [IrqSum; IRQ_SOFT_SUMS],
    /// By vector.
    pub vector: [IrqSum; IRQ_VECTOR_SUMS],
    /// By number of a device's interrupt.
    pub device: [IrqSum; IRQ_DEVICE_SUMS],
    /// When the hardware interrupt began that is being served; 0 if there is none.
    pub hard_begin_ns: u64,
    /// Likewise of the softirq.
    pub soft_begin_ns: u64,
    /// Of that time, so much was spent in hardware interrupts.
    pub nested_ns: u64,
    /// Not 0 if that hardware interrupt wakes the reader.
    pub is_own: u64,
}

const _: () = assert!(size_of::<IrqCpu>() == 8192);
