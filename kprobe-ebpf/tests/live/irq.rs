//! Interrupts.

use std::time::Duration;

use kprobe_core::event::{IrqHard, IrqSoft};
use kprobe_ebpf::{Filter, Irq, IrqKind, Recorder};

use crate::support::{
    recording::{Recorded, Recording},
    rungs::{record, rungs},
};

crate::trials!(datagrams_are_softirqs, only_long_ones, every_rung_of_interrupts);

const COUNT: usize = 500;
const NET_RX: u32 = 3;

fn every() -> Irq {
    Irq::default().min_duration(Duration::ZERO)
}

/// What any record says, if the process was selected.
fn received(recorded: &Recorded, tgid: u32) -> usize {
    let soft: Vec<IrqSoft> = recorded.all();
    for irq in &soft {
        assert_eq!(irq.origin.tgid.0, tgid, "{irq:?}");
        assert!(irq.begin_ns <= irq.origin.ktime_ns && irq.nested_ns <= irq.duration_ns(), "{irq:?}");
    }
    for irq in recorded.all::<IrqHard>() {
        assert_eq!(irq.origin.tgid.0, tgid, "{irq:?}");
        assert!(irq.begin_ns <= irq.origin.ktime_ns, "{irq:?}");
    }
    soft.iter().filter(|irq| irq.vector == NET_RX).count()
}

fn datagrams_are_softirqs() {
    let builder = Recorder::builder().probe(every()).filter(Filter::none());
    let mut recording = Recording::start(builder);
    let counters = recording.recorder.irq_counters().unwrap();
    let mut workload = recording.spawn(&format!("loopback {COUNT}"));
    recording.run(&mut workload);
    let recorded = recording.finish().lossless();
    assert!(received(&recorded, workload.tgid()) >= COUNT);
    // The sums are of all that came, whoever was interrupted.
    let sums = counters.sums();
    let summed =
        |kind| sums.iter().filter(move |sum| sum.source == kind).map(|sum| (sum.count, sum.total_ns));
    let (count, total_ns) = summed(IrqKind::Soft(NET_RX)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let own = recorded.all::<IrqSoft>();
    let own: Vec<_> = own.iter().filter(|irq| irq.vector == NET_RX).collect();
    assert!(count >= own.len() as u64, "{sums:?}");
    assert!(total_ns >= own.iter().map(|irq| irq.duration_ns() - irq.nested_ns).sum(), "{sums:?}");
}

fn only_long_ones() {
    let hour = Duration::from_secs(3600);
    let builder = Recorder::builder().probe(Irq::default().min_duration(hour)).filter(Filter::none());
    let (recorded, _, tgid) = Recording::of_workload(builder, "loopback 10");
    assert_eq!(received(&recorded.lossless(), tgid), 0);
}

fn every_rung_of_interrupts() {
    let rungs = rungs(every());
    assert_eq!(rungs, ["tp_btf", "raw_tp"]);
    for rung in &rungs {
        let Some((recorded, _, tgid)) = record(every(), &rungs, rung, &format!("loopback {COUNT}")) else {
            panic!("{rung}");
        };
        assert!(received(&recorded, tgid) >= COUNT, "{rung}");
    }
}
