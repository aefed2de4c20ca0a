//! `Gaps`: what is missing equals what the kernel lost.

use std::collections::BTreeMap;

use kprobe_core::{
    abi::{CPU_NONE, Header, Kind},
    decode::Record,
    pipeline::{GapReport, Gaps, ProbeRow},
};
use pipeline_support::batch_of;
use proptest::prelude::*;

mod pipeline_support;

/// A record of one of kprobe's own kinds.
fn plain(ktime_ns: u64, cpu: u16, seq: u32, id: u64) -> Vec<u8> {
    of_kind(Kind::SYSCALL, ktime_ns, cpu, seq, id)
}

fn of_kind(kind: Kind, ktime_ns: u64, cpu: u16, seq: u32, id: u64) -> Vec<u8> {
    pipeline_support::record(Header { ktime_ns, cpu, seq, ..Header::default() }, kind, &id)
}

fn observe(gaps: &mut Gaps, cpu: u16, seq: u32) {
    gaps.observe(Record::new(&plain(0, cpu, seq, 0)).expect("a record"));
}

/// What a header has of a number.
fn low(number: u64) -> u32 {
    u32::try_from(number % (1 << 32)).expect("it was cut")
}

fn row(probe: &str, cpu: u16, submitted: u64, lost: u64) -> ProbeRow {
    ProbeRow { probe: probe.to_owned(), cpu: Some(cpu), submitted, lost, sampled_out: 0 }
}

fn fields(report: &GapReport) -> (u16, Option<Kind>, u64, u64, u64, bool) {
    let GapReport { cpu, kind, received, missing, lost, to_the_end, .. } = *report;
    (cpu, kind, received, missing, lost, to_the_end)
}

proptest! {
    /// CPUs number their records, some are lost, neighbours change places; the numbers begin anywhere, so that they wrap.
    #[test]
    fn missing_is_what_was_lost(
        fates in prop::collection::vec((0_u16..4, prop::bool::weighted(0.3)), 0..300),
        swaps in prop::collection::vec(any::<prop::sample::Index>(), 0..50),
        near_the_end in prop::bool::ANY,
    ) {
        let start = if near_the_end { u32::MAX - 40 } else { 0 };
        let mut gaps = if near_the_end { Gaps::from_first_seen() } else { Gaps::new() };
        let mut next = BTreeMap::new();
        let mut lost = BTreeMap::new();
        let mut came = Vec::new();
        for (cpu, is_lost) in fates {
            let number: &mut u64 = next.entry(cpu).or_default();
            let seq = start.wrapping_add(low(*number));
            // From the first seen on one can tell only if the first was seen.
            if is_lost && !(near_the_end && *number == 0) {
                *lost.entry(cpu).or_default() += 1;
            } else {
                came.push((cpu, seq));
            }
            *number += 1;
        }
        for at in swaps {
            if came.len() > 1 {
                let at = at.index(came.len() - 1);
                came.swap(at, at + 1);
            }
        }
        let batch = batch_of(&came.iter().map(|&(cpu, seq)| plain(0, cpu, seq, 0)).collect::<Vec<_>>());
        prop_assert_eq!(gaps.observe_batch(&batch).records, came.len() as u64);

        let rows: Vec<_> = next.iter().flat_map(|(&cpu, &submitted)| {
            let lost: u64 = lost.get(&cpu).copied().unwrap_or(0);
            [row("a", cpu, submitted - lost / 2, lost - lost / 2), row("b", cpu, lost / 2, lost / 2)]
        }).collect();
        let number = |cpu: u16| next.get(&cpu).map(|count| u64::from(start) + count);
        for report in gaps.report(&rows, number) {
            let cpu = report.cpu;
            let lost = lost.get(&cpu).copied().unwrap_or(0);
            prop_assert_eq!(fields(&report), (cpu, None, next[&cpu] - lost, lost, lost, true));
            prop_assert!(report.agrees());
            prop_assert_eq!(report.difference(), 0);
        }
        // Without the kernel's numbers losses at the end do not show, and nothing else is missing.
        for report in gaps.report(&rows, |_| None) {
            prop_assert!(report.agrees() && report.difference() <= 0, "{:?}", report);
            let last = came.iter().filter(|(cpu, _)| *cpu == report.cpu).map(|(_, seq)| seq.wrapping_sub(start)).max();
            let tail = next[&report.cpu] - last.map_or(0, |last| u64::from(last) + 1);
            prop_assert_eq!(report.difference(), -i128::from(tail));
        }
    }
}

#[test]
fn numbers_go_on_past_32_bits() {
    let mut gaps = Gaps::new();
    let step = 1 << 30;
    let numbers = (0..=8).map(|n: u64| n * step);
    for number in numbers {
        observe(&mut gaps, 1, low(number));
    }
    // Out of order across the end of the second 2^32.
    observe(&mut gaps, 1, u32::MAX);
    observe(&mut gaps, 1, 1);
    let total: u64 = 2 * (1 << 32) + 2;
    assert_eq!(gaps.missing(1), total - 11);
    assert_eq!(gaps.missing(0), 0);
    assert_eq!(gaps.missing(77), 0);
}

#[test]
fn a_loss_at_the_end_shows_with_the_kernels_number() {
    let mut gaps = Gaps::new();
    [0, 1, 4].into_iter().for_each(|seq| observe(&mut gaps, 0, seq));
    let rows = [row("syscall", 0, 8, 5)];
    let [without] = gaps.report(&rows, |_| None)[..] else { panic!("one CPU") };
    assert_eq!((without.missing, without.lost, without.difference()), (2, 5, -3));
    assert!(without.agrees() && !without.to_the_end);
    let [with] = gaps.report(&rows, |_| Some(8))[..] else { panic!("one CPU") };
    assert_eq!((with.missing, with.difference()), (5, 0));
    assert!(with.agrees());
}

#[test]
fn a_loss_that_nobody_counted_is_a_difference() {
    let mut gaps = Gaps::new();
    [0, 3].into_iter().for_each(|seq| observe(&mut gaps, 2, seq));
    let [report] = gaps.report(&[row("syscall", 2, 3, 1)], |_| None)[..] else { panic!("one CPU") };
    assert_eq!(report.difference(), 1);
    assert!(!report.agrees());
}

#[test]
fn all_records_of_a_cpu_lost() {
    let gaps = Gaps::new();
    let rows = [row("syscall", 3, 9, 9)];
    let reports = gaps.report(&rows, |cpu| (cpu == 3).then_some(9));
    assert_eq!(reports.iter().map(fields).collect::<Vec<_>>(), [(3, None, 0, 9, 9, true)]);
}

#[test]
fn records_of_user_space_have_no_number() {
    let mut gaps = Gaps::new();
    observe(&mut gaps, CPU_NONE, 5);
    assert_eq!(gaps.report(&[], |_| None), []);
}

#[test]
fn a_users_kind_is_numbered_by_itself() {
    let mut gaps = Gaps::new();
    let user = |kind, seq| of_kind(Kind(kind), 0, 1, seq, 0);
    for seq in [0, 1, 3] {
        observe(&mut gaps, 1, seq);
        gaps.observe(Record::new(&user(0x0f00, seq)).expect("a record"));
    }
    gaps.observe(Record::new(&user(0x0f01, 1)).expect("a record"));
    let rows = [
        row("plain", 1, 4, 1),
        row("kind-0x0f00", 1, 5, 2),
        row("kind-0x0f01", 1, 2, 1),
        row("kind-0x0f02", 1, 3, 3),
    ];
    let of = |kind: Option<u16>, received, missing| (1, kind.map(Kind), received, missing, missing, true);
    let expected = [of(None, 3, 1), of(Some(0x0f00), 3, 2), of(Some(0x0f01), 1, 1), of(Some(0x0f02), 0, 3)];
    let reports = gaps.report(&rows, |cpu| (cpu == 1).then_some(4));
    assert_eq!(reports.iter().map(fields).collect::<Vec<_>>(), expected);
    // As far as the highest that came: one of all, one and one of the user's.
    assert_eq!(gaps.missing(1), 3);
}
