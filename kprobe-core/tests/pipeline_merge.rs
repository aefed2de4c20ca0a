//! `Merge`: total order within the slack, nothing lost, nothing doubled, bounded.

use std::time::Duration;

use kprobe_core::pipeline::Merge;
use pipeline_support::{PLAIN_FRAME, assert_balanced, batch_of, key, plain, records_of};
use proptest::prelude::*;

mod pipeline_support;

fn popped(merge: &mut Merge) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| merge.pop()).flat_map(|batch| records_of(&batch)).collect()
}

const SLACK: u64 = 50;

/// A record, the time at which it is in its ring, and the ring.
#[derive(Clone, Debug)]
struct Arrival {
    at: u64,
    ring: usize,
    record: Vec<u8>,
}

/// Streams of some CPUs, two to a ring; a program may take up to the slack from its clock to its ring.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let step = (0_u64..30, prop_oneof![4 => Just(0), 1 => 0..SLACK]);
    let streams = prop::collection::vec(prop::collection::vec(step, 0..60), 1..6);
    streams.prop_map(|streams| {
        let mut all = Vec::new();
        for (cpu, stream) in (0_u16..).zip(streams) {
            let mut ktime_ns = 0;
            for (seq, (gap, delay)) in (0_u32..).zip(stream) {
                ktime_ns += gap;
                let record = plain(ktime_ns, cpu, seq, all.len() as u64);
                all.push(Arrival { at: ktime_ns + delay, ring: usize::from(cpu / 2), record });
            }
        }
        all.sort_by_key(|arrival| (arrival.at, arrival.ring));
        all
    })
}

proptest! {
    #[test]
    fn disorder_within_the_slack_gives_the_exact_order(
        all in arrivals(),
        polls in prop::collection::vec((1_u64..200, 0_u64..20), 0..40),
    ) {
        let mut merge = Merge::new(Duration::from_nanos(SLACK), 1 << 20);
        let mut left = all.clone();
        let (mut now, mut out) = (0, Vec::new());
        for (gap, between_rings) in polls {
            now += gap;
            let mut drained = Vec::new();
            for ring in 0..3 {
                // Rings are drained one after the other: the later one may give younger records.
                let until = now + between_rings * ring as u64;
                drained.extend(left.extract_if(.., |one| one.ring == ring && one.at <= until).map(|one| one.record));
            }
            merge.push(batch_of(&drained), now);
            out.extend(popped(&mut merge));
            assert_balanced(&merge.row());
            let due = all.iter().filter(|one| key(&one.record).0 + SLACK <= now).count();
            prop_assert_eq!(merge.row().delivered, due as u64, "exactly what is sure to be in order has left");
            prop_assert_eq!(merge.row().delivered, out.len() as u64);
        }
        merge.push(batch_of(left.iter().map(|one| &one.record)), now);
        merge.finish();
        out.extend(popped(&mut merge));

        let mut sorted: Vec<_> = all.into_iter().map(|one| one.record).collect();
        sorted.sort_by_key(|record| key(record));
        prop_assert_eq!(merge.row().received, sorted.len() as u64);
        prop_assert!(!merge.row().counts.contains_key("late"), "{:?}", merge.row());
        prop_assert_eq!(out, sorted);
        assert_balanced(&merge.row());
        prop_assert_eq!(merge.row().held, 0);
        prop_assert_eq!(merge.patience(), None);
    }

    /// Whatever comes: any order, any watermark, little memory.
    #[test]
    fn late_and_early_records_are_counted_and_kept(
        pushes in prop::collection::vec((prop::collection::vec((0_u64..500, 0_u16..3, 0_u32..4), 0..20), 0_u64..600), 0..30),
        limit in 0_usize..12,
    ) {
        let mut merge = Merge::new(Duration::from_nanos(SLACK), limit * PLAIN_FRAME);
        let (mut given, mut out): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        let (mut late, mut complete) = (0, 0);
        for (records, until) in pushes {
            complete = complete.max(until);
            let records: Vec<_> = (given.len() as u64..)
                .zip(records)
                .map(|(id, (ktime_ns, cpu, seq))| plain(ktime_ns, cpu, seq, id))
                .collect();
            let left = out.iter().map(|record| key(record)).max();
            let (too_late, in_time): (Vec<_>, Vec<_>) =
                records.iter().partition(|record| left.is_some_and(|left| key(record) < left));
            late += too_late.len() as u64;
            merge.push(batch_of(&records), until);
            let fresh = popped(&mut merge);

            prop_assert!(too_late.iter().all(|record| fresh.contains(record)), "late records leave at once");
            let in_order: Vec<_> = fresh.iter().filter(|record| !too_late.contains(record)).map(|r| key(r)).collect();
            prop_assert!(in_order.is_sorted());
            prop_assert!(left.is_none() || in_order.first().is_none_or(|first| Some(*first) >= left));
            prop_assert!(merge.row().held <= limit as u64);
            let overdue = in_time.iter().filter(|record| key(record).0 + SLACK <= complete);
            prop_assert!(overdue.into_iter().all(|record| fresh.contains(record)));
            assert_balanced(&merge.row());
            given.extend(records);
            out.extend(fresh);
        }
        merge.finish();
        out.extend(popped(&mut merge));
        let row = merge.row();
        assert_balanced(&row);
        prop_assert_eq!((row.received, row.delivered, row.held), (given.len() as u64, given.len() as u64, 0));
        prop_assert_eq!(row.counts.get("late").copied().unwrap_or(0), late);
        out.sort();
        given.sort();
        prop_assert_eq!(out, given);
    }
}

#[test]
fn records_in_order_are_not_copied() {
    let mut merge = Merge::new(Duration::from_nanos(10), 1 << 20);
    let records: Vec<_> = (0..100).map(|n| plain(n, 0, 0, n)).collect();
    let batch = batch_of(&records);
    let bytes = batch.bytes().as_ptr_range();
    merge.push(batch, 60);
    merge.finish();
    let mut out = Vec::new();
    while let Some(batch) = merge.pop() {
        let part = batch.bytes().as_ptr_range();
        assert!(bytes.start <= part.start && part.end <= bytes.end);
        out.extend(records_of(&batch));
    }
    assert_eq!(out, records);
}

#[test]
fn over_the_limit_the_oldest_leave_early() {
    let mut merge = Merge::new(Duration::from_secs(1), 3 * PLAIN_FRAME);
    let records: Vec<_> = (0..5).map(|n| plain(n, 0, 0, n)).collect();
    merge.push(batch_of(&records), 5);
    assert_eq!(popped(&mut merge), records[..2]);
    assert_eq!((merge.row().held, merge.row().counts["early"]), (3, 2));
    // It would have been in time, had the others not left early.
    let straggler = plain(0, 0, 0, 9);
    merge.push(batch_of([&straggler]), 5);
    assert_eq!(popped(&mut merge), [straggler]);
    merge.finish();
    assert_eq!(popped(&mut merge), records[2..]);
    let row = merge.row();
    assert_eq!((row.received, row.delivered, row.counts["early"], row.counts["late"]), (6, 6, 2, 1));
}

#[test]
fn equal_keys_stay_in_the_order_they_came_in() {
    let mut merge = Merge::new(Duration::from_nanos(100), 1 << 20);
    let [a, b, c, d] = [1, 2, 3, 4].map(|id| plain(7, 0, 0, id));
    let first = plain(5, 0, 0, 0);
    merge.push(batch_of([&a, &b]), 10);
    merge.push(batch_of([&c, &first, &d]), 20);
    merge.finish();
    assert_eq!(popped(&mut merge), [first, a, b, c, d]);
}

#[test]
fn the_watermark_does_not_go_back() {
    let mut merge = Merge::new(Duration::ZERO, 1 << 20);
    merge.push(batch_of([&plain(1, 0, 0, 1)]), 100);
    merge.push(batch_of([&plain(50, 0, 0, 2)]), 10);
    assert_eq!(popped(&mut merge).len(), 2);
    assert_eq!(merge.patience(), None);
}

#[test]
fn a_frame_without_a_record_costs_itself() {
    let mut buf = kprobe_core::pipeline::BatchBuf::default();
    let records = [plain(1, 0, 0, 1), plain(2, 0, 1, 2)];
    for record in &records {
        kprobe_core::decode::put_frame(buf.frames_mut(), record);
        kprobe_core::decode::put_frame(buf.frames_mut(), b"short");
    }
    let mut merge = Merge::default();
    merge.push(buf.take(), 0);
    merge.finish();
    assert_eq!(popped(&mut merge), records);
    let row = merge.row();
    assert_eq!((row.received, row.delivered, row.undecodable), (4, 2, 2));
}

#[test]
fn a_torn_batch_costs_what_follows_the_tear() {
    let mut merge = Merge::default();
    let mut buf = kprobe_core::pipeline::BatchBuf::default();
    let sound = plain(1, 0, 0, 1);
    buf.push(kprobe_core::decode::Record::new(&sound).expect("a record"));
    buf.frames_mut().extend_from_slice(&[200, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
    merge.push(buf.take(), 0);
    merge.finish();
    assert_eq!(popped(&mut merge), [sound]);
    let row = merge.row();
    assert_eq!((row.received, row.delivered, row.undecodable), (2, 1, 1));
}
