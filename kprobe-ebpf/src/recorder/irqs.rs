use std::{
    fmt,
    mem::{offset_of, size_of},
    sync::{Arc, atomic::Ordering},
};

use kprobe_core::{
    abi::{self, IRQ_DEVICE_SUMS, IRQ_SOFT_SUMS, IRQ_VECTOR_SUMS, IrqCpu},
    event::{Arch, IrqSource, softirq_name},
};

use crate::shared::SharedArray;

/// How often interrupts came and how long they took, counted by the programs in memory that is read without a system call. It
/// outlives the recorder.
#[derive(Clone, Debug)]
pub struct IrqCounters(pub(crate) Arc<SharedArray<IrqCpu>>);

/// One kind of interrupt on one CPU, since recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct IrqSum {
    /// The CPU.
    pub cpu: u16,
    /// Which interrupt.
    #[serde(flatten)]
    pub source: IrqKind,
    /// How often. The handlers of devices that share an interrupt count one by one.
    pub count: u64,
    /// How long in all, in nanoseconds; of softirqs without the hardware interrupts in between.
    pub total_ns: u64,
}

/// Which interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IrqKind {
    /// A softirq, by the kernel's number.
    Soft(u32),
    /// A vector of the CPU.
    Vector(u32),
    /// A device's, by the number in `/proc/interrupts`.
    Device(u32),
    /// Devices with numbers of 237 and above, together.
    OtherDevices,
}

/// As people know it.
impl fmt::Display for IrqKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Soft(vector) => match softirq_name(vector) {
                Some(name) => write!(f, "softirq {name}"),
                None => write!(f, "softirq {vector}"),
            },
            Self::Vector(vector) => match IrqSource::Vector(vector).name(Arch::native()) {
                Some(name) => f.write_str(name),
                None => write!(f, "vector {vector}"),
            },
            Self::Device(irq) => write!(f, "irq {irq}"),
            Self::OtherDevices => f.write_str("other irqs"),
        }
    }
}

/// Where a table of sums is in the element of a CPU, how long it is, and what its numbers mean.
type Table = (usize, usize, fn(u32) -> IrqKind);

impl IrqCounters {
    /// What has come at least once, by CPU. Each number is read by itself: count and time of one that is being served may
    /// differ by it.
    #[must_use]
    pub fn sums(&self) -> Vec<IrqSum> {
        let tables: [Table; 3] = [
            (offset_of!(IrqCpu, soft), IRQ_SOFT_SUMS, IrqKind::Soft),
            (offset_of!(IrqCpu, vector), IRQ_VECTOR_SUMS, IrqKind::Vector),
            (offset_of!(IrqCpu, device), IRQ_DEVICE_SUMS, |irq| match irq as usize == IRQ_DEVICE_SUMS - 1 {
                true => IrqKind::OtherDevices,
                false => IrqKind::Device(irq),
            }),
        ];
        let mut sums = Vec::new();
        for cpu in 0..self.0.len() {
            for (table, len, kind) in tables {
                for (number, index) in (0..).zip(0..len) {
                    let at = table + index * size_of::<abi::IrqSum>();
                    let word = |member| self.0.u64_at(cpu, at + member).load(Ordering::Relaxed);
                    let count = word(offset_of!(abi::IrqSum, count));
                    if count > 0 {
                        let total_ns = word(offset_of!(abi::IrqSum, total_ns));
                        let cpu = u16::try_from(cpu).unwrap_or(u16::MAX);
                        sums.push(IrqSum { cpu, source: kind(number), count, total_ns });
                    }
                }
            }
        }
        sums
    }
}
