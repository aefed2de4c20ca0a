//! `Filter` and `Sample` against naive models: what they keep does not depend on how the stream is cut into batches.

mod pipeline_support;
mod stage_support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use kprobe_core::{
    abi::{self, CPU_NONE, Family, Header, Kind},
    decode::Record,
    event::{Event, Sampling, TypedEvent as _},
    pipeline::{Batch, Context, Filter, Only, Sample, Stage, StageRow},
};
use pipeline_support::{batch_of, record};
use proptest::prelude::*;
use stage_support::{One, Out, batch, batches, call, lengths, out_of, pair, stream, through};
use zerocopy::IntoBytes;

fn is_meta(one: &One) -> bool {
    one.kind.family() == Some(Family::Meta)
}

/// What a filter leaves of a stream, and its books.
fn filtered(stream: &[One], (stage, reason): (&str, &str), keep: impl Fn(&One) -> bool) -> (Out, StageRow) {
    let kept: Out = stream.iter().filter(|one| is_meta(one) || keep(one)).map(pair).collect();
    let mut row = StageRow::named(stage);
    (row.received, row.delivered) = (stream.len() as u64, kept.len() as u64);
    if row.received > row.delivered {
        row.dropped.insert(reason.to_owned(), row.received - row.delivered);
    }
    (kept, row)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_filter_keeps_what_is_asked_for(stream in stream(), lengths in lengths(), least_ns in prop_oneof![Just(0), 0_u64..1 << 50]) {
        let put = |stage: &mut dyn FnMut(Vec<Batch>) -> (Out, StageRow)| stage(batches(&stream, &lengths));

        let mut by_context = Filter::by("named", |one| one.context.comm.as_bytes() == b"thread 1");
        prop_assert_eq!(
            put(&mut |batches| through(&mut by_context, batches)),
            filtered(&stream, ("named", "filtered_out"), |one| one.context.comm.as_bytes() == b"thread 1")
        );
        let mut by_header = Filter::by("odd", |one| one.record.header().tgid % 2 == 1 && one.context.container.is_some())
            .drops_as("even");
        prop_assert_eq!(
            put(&mut |batches| through(&mut by_header, batches)),
            filtered(&stream, ("odd", "even"), |one| one.header.tgid % 2 == 1 && one.context.container.is_some())
        );
        let is_call = |kind: Kind| kind.family() == Some(Family::Syscall);
        let expected = filtered(&stream, ("only", "not_wanted"), |one| is_call(one.kind));
        let mut kinds = Filter::kinds(is_call);
        prop_assert_eq!(put(&mut |batches| through(&mut kinds, batches)), expected.clone());
        let mut only = Only::new(is_call);
        prop_assert_eq!(put(&mut |batches| through(&mut only, batches)), expected);
        // Other kinds of which there is a duration would have to be long enough, too; minor faults here have none.
        let mut slow = Filter::min_duration(|_| least_ns);
        prop_assert_eq!(
            put(&mut |batches| through(&mut slow, batches)),
            filtered(&stream, ("min_duration", "too_short"), |one| one.duration_ns.is_none_or(|ns| ns >= least_ns))
        );
    }
}

#[test]
fn a_batch_of_which_nothing_goes_is_not_copied() {
    let stream: Vec<_> = (0..10).map(|n| call(1000 + n, 7, 0, n)).collect();
    let whole = batch(&stream);
    let at = |batch: &Batch| batch.bytes().as_ptr();
    assert_eq!(at(&Filter::by("all", |_| true).apply(whole.clone())), at(&whole));
    assert_eq!(at(&Sample::one_in(1).apply(whole.clone())), at(&whole));
    let some = Filter::by("some", |one| one.record.header().ktime_ns < 1005).apply(whole.clone());
    assert_ne!(at(&some), at(&whole));
    assert_eq!(out_of(&some), stream[..5].iter().map(pair).collect::<Out>());
}

#[test]
fn a_threshold_may_change_while_it_runs() {
    let threshold = Arc::new(AtomicU64::new(500));
    let setting = Arc::clone(&threshold);
    let mut slow = Filter::min_duration(move |kind| {
        assert_eq!(kind, Kind::SYSCALL);
        setting.load(Relaxed)
    });
    let calls = [call(1000, 7, 0, 499), call(1001, 7, 0, 500)];
    assert_eq!(out_of(&slow.apply(batch(&calls))), [pair(&calls[1])]);
    threshold.store(499, Relaxed);
    assert_eq!(out_of(&slow.apply(batch(&calls))), [pair(&calls[0]), pair(&calls[1])]);
    threshold.store(501, Relaxed);
    assert_eq!(out_of(&slow.apply(batch(&calls))), []);
    assert_eq!((slow.row().received, slow.row().dropped["too_short"]), (6, 3));
}

#[test]
fn a_frame_without_a_record_is_none() {
    let calls = [call(1000, 7, 0, 1), call(1001, 8, 0, 2), call(1002, 9, 0, 3)];
    let torn = || {
        let mut buf = kprobe_core::pipeline::BatchBuf::default();
        for (at, one) in calls.iter().enumerate() {
            buf.push_enriched(Record::new(&one.bytes).expect("a record"), &one.context);
            if at == 0 {
                // A frame of 8 bytes, too short for any record.
                buf.frames_mut().extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
            }
        }
        buf.take()
    };
    let records = |batch: &Batch| out_of(batch).into_iter().map(|(bytes, _)| bytes).collect::<Vec<_>>();
    let expected: Vec<_> = calls.iter().map(|one| one.bytes.clone()).collect();
    let mut all = Filter::by("all", |_| true);
    assert_eq!(records(&all.apply(torn())), expected);
    assert_eq!((all.row().received, all.row().delivered), (3, 3));
    let mut sample = Sample::one_in(1);
    assert_eq!(records(&sample.apply(torn())), expected);
    assert_eq!((sample.row().received, sample.row().delivered), (3, 3));
}

/// Whether the sampling stage may leave records of a kind out.
fn may_go(kind: Kind) -> bool {
    let always = [Family::Meta, Family::Process];
    kind.family().is_some_and(|family| !always.contains(&family))
        && ![Kind::MEMORY_FAULT_MINOR, Kind::MEMORY_OOM_KILL].contains(&kind)
}

fn sampling(one: &One) -> Option<Sampling> {
    Sampling::decode(Record::new(&one.bytes).expect("a record")).ok()
}

/// The stream, sampled at a rate for each batch.
fn sampled(stream: &[One], lengths: &[usize], rates: &[u32]) -> (Out, u64, u64) {
    let mut places = HashMap::<Kind, u64>::new();
    let mut source = BTreeMap::<Family, (u32, u64)>::new();
    let mut told = BTreeMap::<Family, u32>::new();
    let (mut out, mut dropped, mut added) = (Out::new(), 0, 0);
    let ends = lengths.iter().chain([&usize::MAX]).scan(0_usize, |end, length| {
        *end = end.saturating_add(*length);
        Some(*end)
    });
    let ends: Vec<_> = ends.collect();
    for (at, one) in stream.iter().enumerate() {
        let in_batch = ends.iter().filter(|end| **end <= at).count();
        let one_in = rates[in_batch % rates.len()].max(1);
        if !may_go(one.kind) {
            if let Some(event) = sampling(one) {
                source.insert(event.family, (event.one_in.max(1), event.min_duration_ns));
                told.insert(event.family, event.one_in.max(1));
            }
            out.push(pair(one));
            continue;
        }
        let family = one.kind.family().expect("one that is known");
        let (before, min_duration_ns) = source.get(&family).copied().unwrap_or((1, 0));
        if told.insert(family, before * one_in).unwrap_or(1) != before * one_in {
            let header =
                Header { ktime_ns: one.header.ktime_ns, cpu: CPU_NONE, seq: added, ..Header::default() };
            let body = abi::Sampling { family: family as u32, one_in: before * one_in, min_duration_ns };
            out.push((record(header, Kind::META_SAMPLING, &body), Context::default()));
            added += 1;
        }
        let place = places.entry(one.kind).or_default();
        let goes = one_in > 1 && !place.is_multiple_of(one_in.into());
        *place += u64::from(one_in > 1);
        if goes {
            dropped += 1;
        } else {
            out.push(pair(one));
        }
    }
    (out, dropped, added.into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_sample_is_every_so_manieth(
        stream in stream(),
        lengths in lengths(),
        rates in prop::collection::vec(0_u32..6, 1..5),
    ) {
        let mut stage = Sample::one_in(rates[0]);
        let rate = stage.rate();
        let mut out = Out::new();
        for (at, batch) in batches(&stream, &lengths).into_iter().enumerate() {
            rate.set(rates[at % rates.len()]);
            out.extend(out_of(&stage.apply(batch)));
            pipeline_support::assert_balanced(&stage.row());
        }
        let (expected, dropped, added) = sampled(&stream, &lengths, &rates);
        prop_assert_eq!(&out, &expected);
        let row = stage.row();
        prop_assert_eq!((row.received, row.added, row.delivered), (stream.len() as u64, added, out.len() as u64));
        prop_assert_eq!(row.dropped.get("sampled_out").copied().unwrap_or(0), dropped);
    }

    #[test]
    fn batches_do_not_matter(stream in stream(), first in lengths(), second in lengths(), one_in in 0_u32..6) {
        let sample = |lengths: &[usize]| through(&mut Sample::one_in(one_in), batches(&stream, lengths));
        prop_assert_eq!(sample(&first), sample(&second));
    }

    /// Whoever believes the stream counts each kind right, to within one rate.
    #[test]
    fn a_consumer_can_scale_up(stream in stream(), lengths in lengths(), one_in in 1_u32..6) {
        // Nothing is sampled before.
        let stream: Vec<_> = stream.into_iter().filter(|one| one.kind != Kind::META_SAMPLING).collect();
        let (out, _) = through(&mut Sample::one_in(one_in), batches(&stream, &lengths));
        let mut rates = BTreeMap::<Family, u64>::new();
        let mut estimate = HashMap::<Kind, u64>::new();
        for (bytes, _) in &out {
            let record = Record::new(bytes).expect("a record");
            if let Ok(Some(Event::Sampling(event))) = Event::decode(record) {
                rates.insert(event.family, event.one_in.into());
            } else if may_go(record.kind()) {
                let rate = record.kind().family().and_then(|family| rates.get(&family)).copied().unwrap_or(1);
                *estimate.entry(record.kind()).or_default() += rate;
            }
        }
        let mut truth = HashMap::<Kind, u64>::new();
        for one in stream.iter().filter(|one| may_go(one.kind)) {
            *truth.entry(one.kind).or_default() += 1;
        }
        prop_assert_eq!(estimate.len(), truth.len());
        for (kind, count) in truth {
            prop_assert!((count..count + u64::from(one_in)).contains(&estimate[&kind]), "{} of {kind}", count);
        }
    }
}

#[test]
fn the_rate_of_the_kernel_is_part_of_what_is_told() {
    let said = |one_in: u32, min_duration_ns: u64| {
        let body = abi::Sampling { family: Family::Syscall as u32, one_in, min_duration_ns };
        record(Header { ktime_ns: 5, cpu: CPU_NONE, ..Header::default() }, Kind::META_SAMPLING, &body)
    };
    let call = call(1000, 7, 0, 1).bytes;
    let told = |batch: Batch| {
        let events = batch.records().flatten().filter_map(|record| Sampling::decode(record).ok());
        events.map(|event| (event.origin.ktime_ns, event.one_in, event.min_duration_ns)).collect::<Vec<_>>()
    };
    let mut stage = Sample::one_in(10);
    let stream = [said(100, 50), call.clone(), call.clone()];
    assert_eq!(told(stage.apply(batch_of(&stream))), [(5, 100, 50), (1000, 1000, 50)]);
    // The kernel's changes, and the stage's own is said again.
    assert_eq!(told(stage.apply(batch_of(&[said(2, 0), call.clone()]))), [(5, 2, 0), (1000, 20, 0)]);
    assert_eq!(told(stage.apply(batch_of([&call]))), []);
    stage.rate().set(0);
    assert_eq!(stage.rate().get(), 1);
    assert_eq!(told(stage.apply(batch_of([&call]))), [(1000, 2, 0)]);
    stage.rate().set(u32::MAX);
    assert_eq!(told(stage.apply(batch_of([&call]))), [(1000, u32::MAX, 0)]);
    assert_eq!(stage.row().added, 4);
    // What is told has the size that decoders expect.
    assert_eq!(said(1, 0).len(), 32 + abi::Sampling::default().as_bytes().len());
}
