//! Interrupts of a whole machine.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use kprobe_core::event::{IrqHard, IrqSource, softirq_name};
use kprobe_ebpf::{Filter, Irq, IrqKind, Recorder};

use crate::support::{child::Workload, recording::Recording, times};

crate::trials!(sums_as_the_kernel_counts, a_record_does_not_call_for_another);

/// Of `/proc/softirqs`, on all CPUs.
fn softirqs() -> BTreeMap<String, u64> {
    let text = fs::read_to_string("/proc/softirqs").unwrap();
    let row = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let sum = counts.split_whitespace().map(|count| count.parse::<u64>().unwrap()).sum();
        Some((name.trim().to_lowercase(), sum))
    };
    text.lines().filter_map(row).collect()
}

/// Timer interrupts of the CPUs, of `/proc/interrupts`.
fn timers() -> u64 {
    let text = fs::read_to_string("/proc/interrupts").unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with("LOC:")).unwrap();
    line.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum()
}

/// What the kernel counts between two looks of ours lies between what we count inside of and around them.
fn sums_as_the_kernel_counts() {
    const LOCAL_TIMER: u32 = 0xec;
    let builder = Recorder::builder()
        .require(Irq::default().min_duration(Duration::from_secs(3600)))
        .filter(Filter::all());
    let mut recording = Recording::start(builder);
    let counters = recording.recorder.irq_counters().unwrap();
    let count = |kind| {
        let sums = counters.sums();
        sums.iter().filter(|sum| sum.source == kind).map(|sum| sum.count).sum::<u64>()
    };
    let soft = || (0..10).map(|vector| count(IrqKind::Soft(vector))).collect::<Vec<_>>();
    let looks = || (soft(), count(IrqKind::Vector(LOCAL_TIMER)));
    let outer = looks();
    let (kernel_soft, kernel_timer) = (softirqs(), timers());
    let inner = looks();
    let mut loopback = Workload::start(&format!("loopback {}", times(1000)));
    recording.run(&mut loopback);
    let inner_end = looks();
    let (kernel_soft_end, kernel_timer_end) = (softirqs(), timers());
    let outer_end = looks();
    for vector in 0..10 {
        let name = softirq_name(vector as u32).unwrap();
        let counted = kernel_soft_end[name] - kernel_soft[name];
        // The kernel counts before the tracepoint; one may be on its way on each CPU.
        let least = (inner_end.0[vector] - inner.0[vector]).saturating_sub(2);
        let most = outer_end.0[vector] - outer.0[vector] + 2;
        assert!((least..=most).contains(&counted), "{name}: {least} {counted} {most}");
    }
    let counted = kernel_timer_end - kernel_timer;
    let least = (inner_end.1 - inner.1).saturating_sub(2);
    let most = outer_end.1 - outer.1 + 2;
    assert!((least..=most).contains(&counted), "timer: {least} {counted} {most}");
    assert!(inner_end.0[3] - inner.0[3] >= u64::from(times(1000)), "{inner:?} {inner_end:?}");
    recording.finish().lossless();
}

/// The reader is woken for records by an interrupt: if that had one as well, there would be no end of it.
fn a_record_does_not_call_for_another() {
    const IRQ_WORK: u32 = 0xf6;
    let builder =
        Recorder::builder().require(Irq::default().min_duration(Duration::ZERO)).filter(Filter::all());
    let mut recording = Recording::start(builder);
    let counters = recording.recorder.irq_counters().unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        recording.poll();
    }
    let recorded = recording.finish();
    let sums = counters.sums();
    let served = sums.iter().filter(|sum| sum.source == IrqKind::Vector(IRQ_WORK)).map(|sum| sum.count);
    let all = recorded.all::<IrqHard>();
    let own = all.iter().filter(|irq| irq.source == IrqSource::Vector(IRQ_WORK)).count() as u64;
    let served: u64 = served.sum();
    // The reader was woken, and what else there is for such interrupts is little.
    assert!(served > 0 && own <= served / 2, "{own} of {served}");
}
