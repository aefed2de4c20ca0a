//! Durations that are counted by their class here, instead of a record for each.
//!
//! Each CPU has two tables, one of which the programs count in. At the end of an interval user space names the other one,
//! waits until no program is running that may have seen the old name, and reads: so every event is in one interval. The
//! tables are memory that both sides have mapped, because every map that user space reads by a system call keeps programs
//! at trace events and breakpoints from running meanwhile on the CPU that does it.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, btf_maps::Array, macros::btf_map};
use kprobe_core::abi::{Family, HISTOGRAM_CLASSES, HISTOGRAM_PROBES, HistogramSlot, Kind, aggregate_by};

use crate::{
    atomic, cpu,
    current::Who,
    emit::config,
    frozen::{AGGREGATE, HISTOGRAM_SLOTS},
};

/// The tables of the CPUs, one after the other.
#[btf_map]
pub static HISTOGRAMS: Array<HistogramSlot, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// An event that can be summed up.
#[derive(Clone, Copy)]
pub struct Measured {
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// What it is about.
    pub subject: u64,
    /// Process and cgroup that it was for, if these are not those that the event names.
    pub whose: Option<(u32, u64)>,
}

/// By what durations of a family are told apart: one of [`aggregate_by`].
#[inline(always)]
pub fn by(family: Family) -> u8 {
    AGGREGATE.at(family as usize)
}

/// Counts an event of a family that is summed up.
#[inline(always)]
pub fn count(who: impl Who, kind: Kind, measured: Measured) {
    let Some(family) = kind.family() else { return };
    let key = match by(family) {
        aggregate_by::TGID => measured.whose.map_or_else(|| who.thread().tgid, |whose| whose.0).into(),
        aggregate_by::CGROUP => measured.whose.map_or_else(|| who.cgroup_id(), |whose| whose.1),
        aggregate_by::SUBJECT => measured.subject,
        _ => 0,
    };
    let Some(histogram) = find(kind.0.into(), key) else {
        cpu::count_uncounted(family);
        return;
    };
    // SAFETY: the pointer is to a map element.
    atomic::count(kind, unsafe { &raw mut (*histogram).sum }, measured.duration_ns);
    let class = class_of(measured.duration_ns) as usize;
    // SAFETY: likewise; the class is within the table.
    atomic::count(kind, unsafe { (&raw mut (*histogram).counts).cast::<u64>().add(class) }, 1);
}

/// The histogram of a key in this CPU's table, which may be a new one.
#[inline(always)]
fn find(kind: u64, key: u64) -> Option<*mut HistogramSlot> {
    let slots = HISTOGRAM_SLOTS.get();
    // SAFETY: the pointer is to a map element.
    let half = unsafe { (&raw const (*config()?).histogram_half).read_volatile() };
    let first = (cpu::number() * 2 + (half & 1)) * slots;
    let hash = ((key ^ kind << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let mut probe = 0;
    while probe < HISTOGRAM_PROBES && probe < slots {
        let slot = HISTOGRAMS.get_ptr_mut(first + (hash.wrapping_add(probe) & (slots - 1)))?;
        // SAFETY: the pointer is to a map element, whose words change as a whole.
        let (kind_of, key_of) = unsafe { (&raw mut (*slot).kind, &raw mut (*slot).key) };
        // SAFETY: likewise. The key is there before the kind is, and does not change while it is.
        let (known, of) = unsafe { (kind_of.read_volatile(), key_of.read_volatile()) };
        if known == kind && of == key {
            return Some(slot);
        }
        if known == 0 && atomic::claim(kind_of) {
            // SAFETY: likewise. Only programs on this CPU look at it: they see the two in this order.
            unsafe {
                key_of.write_volatile(key);
                kind_of.write_volatile(kind);
            }
            return Some(slot);
        }
        probe += 1;
    }
    None
}

/// The number of bits of the duration, which is its class but for the last one. In halves, since the machine has no
/// instruction for it.
#[inline(always)]
fn class_of(duration_ns: u64) -> u64 {
    const LAST: u64 = HISTOGRAM_CLASSES as u64 - 1;
    let mut rest = duration_ns;
    let mut bits = 0;
    let mut half = |width: u64| {
        if rest >> width != 0 {
            rest >>= width;
            bits += width;
        }
    };
    half(32);
    half(16);
    half(8);
    half(4);
    half(2);
    half(1);
    let class = bits + (rest != 0) as u64;
    if class > LAST { LAST } else { class }
}
