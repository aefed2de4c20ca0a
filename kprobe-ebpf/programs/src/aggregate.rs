//! Durations that are counted by their class here, instead of a record for each.
//!
//! The map of histograms is the one element of a map of maps. At the end of an interval user space puts an empty one into its
//! place; the kernel lets it go on only when no program uses the old one any more. So every event is in one interval.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{Array, ArrayOfMaps, PerCpuHashMap},
    macros::btf_map,
};
use kprobe_core::abi::{Family, HISTOGRAM_CLASSES, HistogramCounts, HistogramKey, Kind, aggregate_by};

use crate::{atomic, cpu, current::Who, frozen::AGGREGATE};

type Histograms = PerCpuHashMap<HistogramKey, HistogramCounts, 1>;

/// The histograms of this interval. Filled by the loader.
#[btf_map]
pub static HISTOGRAMS: ArrayOfMaps<Histograms, 1> = ArrayOfMaps::new();

/// What a new histogram begins with: too large for the stack. Nobody writes to it.
#[btf_map]
pub static EMPTY_HISTOGRAM: Array<HistogramCounts, 1> = Array::new();

/// By what durations of a family are told apart: one of [`aggregate_by`].
#[inline(always)]
pub fn by(family: Family) -> u8 {
    AGGREGATE.at(family as usize)
}

/// Counts an event that took so long. `subject` is what it is about.
#[inline(always)]
pub fn count(who: impl Who, by: u8, kind: Kind, duration_ns: u64, subject: u64) {
    let key = match by {
        aggregate_by::TGID => u64::from(who.thread().tgid),
        aggregate_by::CGROUP => who.cgroup_id(),
        aggregate_by::SUBJECT => subject,
        _ => 0,
    };
    let Some(family) = kind.family() else { return };
    let key = HistogramKey { key, kind: u32::from(kind.0), reserved: 0 };
    let Some(histogram) = find(&key) else {
        cpu::count_uncounted(family);
        return;
    };
    // Atomic, because a program in an interrupt may count in the same histogram.
    // SAFETY: the pointer is to a map element.
    atomic::add(unsafe { &raw mut (*histogram).sum }, duration_ns);
    let class = class_of(duration_ns) as usize;
    // SAFETY: likewise; the class is within the table.
    atomic::add(unsafe { (&raw mut (*histogram).counts).cast::<u64>().add(class) }, 1);
}

#[inline(always)]
fn find(key: &HistogramKey) -> Option<*mut HistogramCounts> {
    let histograms = HISTOGRAMS.get(0)?;
    if let Some(histogram) = histograms.get_ptr_mut(key) {
        return Some(histogram);
    }
    let empty = EMPTY_HISTOGRAM.get(0)?;
    // That another program was faster is fine; if there is no room the second look finds nothing.
    let _ = histograms.insert(key, empty, BPF_NOEXIST.into());
    histograms.get_ptr_mut(key)
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
